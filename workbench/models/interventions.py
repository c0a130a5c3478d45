"""Interventions as edits of activations, and random controls that change as much."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.core.effects import Intervention
from workbench.core.errors import BadValueError
from workbench.core.results import Edit
from workbench.models.bases import Basis, DirectionBasis
from workbench.models.edits import activation_edits
from workbench.models.layers import LayerTable
from workbench.models.scopes import check_scope, scope_of

__all__ = ["ControlChange", "control_change", "edits_of"]


def edits_of(interventions: Sequence[Intervention], layers: LayerTable) -> list[Edit]:
    """The edits that interventions stand for, in their order; those that change nothing are left out.

    Raises
    ------
    UnknownLayerError, UnknownComponentError
    """
    edits: list[Edit] = []
    for one in interventions:
        for address in one.addresses:
            layers.component(address)
        basis = layers.basis(one.layer, one.basis)
        if isinstance(basis, DirectionBasis):
            made = _on_directions(one, basis.vectors[list(one.indices)].double().numpy())
        else:
            made = _on_units(one, basis.n_components)
        options = _scope(one, basis)
        check_scope(options, layers[one.layer], layers)
        edits += [replace(edit, options=options) for edit in made]
    return edits


def _scope(one: Intervention, basis: Basis) -> dict[str, Any]:
    """Where an intervention acts, as options of its edits; none for everywhere, so that edits stay what they were."""
    tokens, region = one.tokens, one.region
    if tokens is None and region is None and isinstance(basis, DirectionBasis) and basis.pooling == "token":
        tokens = "class"
    if region is not None:
        return {"region": list(region)}
    return {} if tokens in (None, "all") else {"tokens": tokens}


def _on_units(one: Intervention, n: int) -> list[Edit]:
    indices, strength = one.indices, one.strength
    if one.operation in ("suppress", "project", "boost"):
        factor = 1 + strength if one.operation == "boost" else 1 - strength
        return [] if factor == 1 else [Edit("scale", one.layer, indices, factor)]
    if one.operation == "set":
        return [Edit("set", one.layer, indices, strength)]
    step = np.zeros(n, np.float32)
    step[list(indices)] = 1
    return [Edit("add", one.layer, (), strength, step)] if strength else []


def _on_directions(one: Intervention, vectors: np.ndarray) -> list[Edit]:
    """Of several directions the span counts: they need not be orthogonal."""
    strength = one.strength
    if one.operation == "add":
        step = vectors.sum(0).astype(np.float32)
        return [Edit("add", one.layer, (), strength, step)] if strength else []
    axes = _orthonormal(vectors)
    if one.operation == "set":
        target = np.linalg.pinv(vectors, rcond=1e-6) @ np.full(len(vectors), strength)
        away = [Edit("project", one.layer, (), 1.0, axis) for axis in axes]
        return [*away, Edit("add", one.layer, (), 1.0, target.astype(np.float32))] if strength else away
    share = -strength if one.operation == "boost" else strength
    return [Edit("project", one.layer, (), share, axis) for axis in axes] if share else []


def _orthonormal(vectors: np.ndarray) -> list[np.ndarray]:
    """An orthonormal basis of the span; nearly parallel vectors count once."""
    _, sizes, axes = np.linalg.svd(vectors, full_matrices=False)
    return [axis.astype(np.float32) for axis, size in zip(axes, sizes, strict=True) if size > 1e-6 * sizes[0]]


def control_change(interventions: Sequence[Intervention], layer: str, layers: LayerTable, seed: int) -> ControlChange:
    """A function of a layer's output that changes random components as much as the interventions change theirs.

    Each intervention gets as many others of its basis: untouched units of the layer, or random directions, in the same
    scope. The whole change of a sample is then scaled to the length that the interventions' change has, so that what
    differs is the place and not the size.

    Raises
    ------
    BadValueError
        If no unit is left untouched.
    """
    return ControlChange(interventions, layer, layers, seed)


class ControlChange:
    """What `control_change` gives.

    The seed puts the untouched units in an order. Of a sample the first ones are changed that the operation changes
    there: scaling a unit that is silent would change nothing. So a control is the same for a sample whoever is in the
    batch with it, and as far as it can one choice of units for all samples.

    Attributes
    ----------
    is_empty : (sample,) bool tensor
        Of the last batch: samples that the interventions change and in which there was nothing else to change.
    """

    def __init__(self, interventions: Sequence[Intervention], layer: str, layers: LayerTable, seed: int):
        rng, mine = np.random.default_rng(seed), [one for one in interventions if one.layer == layer]
        self._layer = here = layers[layer]
        self._real = activation_edits(edits_of(mine, layers), layers).get(layer)
        touched = {i for one in mine if one.basis == "unit" for i in one.indices}
        free = np.setdiff1d(np.arange(here.n_components), list(touched))
        self._parts: list[Callable[[Tensor], Tensor]] = []
        for one in mine:
            options = _scope(one, layers.basis(layer, one.basis))
            if one.basis == "unit":
                if len(free) == 0:
                    raise BadValueError(f'All components of "{layer}" are steered: none is left for a control.')
                scope = scope_of(options, here, layers)
                self._parts.append(partial(self._units, one, torch.from_numpy(rng.permutation(free)), scope))
            else:
                drawn = rng.standard_normal((len(one.indices), here.n_components))
                made = _on_directions(one, drawn / np.linalg.norm(drawn, axis=1, keepdims=True))
                found = activation_edits([replace(edit, options=options) for edit in made], layers)
                self._parts += [found[layer]] if found else []
        self.is_empty = torch.zeros(0, dtype=torch.bool)

    def __call__(self, x: Tensor) -> Tensor:
        """The output, with others changed."""
        other = x
        for part in self._parts:
            other = part(other)
        wanted, found = (torch.zeros_like(x) if self._real is None else self._real(x) - x), other - x
        size, own = _length(wanted), _length(found)
        self.is_empty = ((size > 0) & (own == 0)).flatten()
        return x + found * torch.where(own > 0, size / own.clamp(min=1e-30), 0.0)

    def _units(self, one: Intervention, order: Tensor, scope: Callable[[Tensor], Tensor] | None, x: Tensor) -> Tensor:
        """Do to the first units of an order that it changes what an intervention does to its own."""
        if one.operation == "set":
            changed = torch.full_like(x, one.strength)
        elif one.operation == "add":
            changed = x + one.strength
        else:
            changed = x * (1 + one.strength if one.operation == "boost" else 1 - one.strength)
        if scope is not None:
            changed = torch.where(scope(x), changed, x)
        order = order.to(x.device)
        can = self._layer.components_first(changed != x).any(2)[:, order]  # (sample, free unit)
        first = can & (can.cumsum(1) <= len(one.indices))
        chosen = torch.zeros(len(x), self._layer.n_components, dtype=torch.bool, device=x.device)
        chosen[:, order] = first
        shape = [len(x), *[1] * (x.ndim - 1)]
        shape[self._layer.axis] = -1
        return torch.where(chosen.reshape(shape), changed, x)


def _length(change: Tensor) -> Tensor:
    """Length of each sample's change, with axes of length 1 for the rest.

    Row by row, so that a sample's bits do not depend on who is in the batch with it.
    """
    sizes = torch.stack([row.norm() for row in change.flatten(1)]) if len(change) else change.new_zeros(0)
    return sizes.reshape(-1, *[1] * (change.ndim - 1))
