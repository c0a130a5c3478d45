"""Interventions as edits of activations, and random controls that change as much."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from workbench.core.effects import Intervention
from workbench.core.errors import BadValueError
from workbench.core.results import Edit
from workbench.models.bases import DirectionBasis
from workbench.models.edits import activation_edits
from workbench.models.layers import LayerTable

__all__ = ["control_change", "edits_of"]


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
            edits += _on_directions(one, basis.vectors[list(one.indices)].double().numpy())
        else:
            edits += _on_units(one, basis.n_components)
    return edits


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


def control_change(
    interventions: Sequence[Intervention], layer: str, layers: LayerTable, seed: int
) -> Callable[[Tensor], Tensor]:
    """A function of a layer's output that changes random components as much as the interventions change theirs.

    Each intervention gets as many others of its basis: untouched units of the layer, or random directions. The whole
    change of a sample is then scaled to the length that the interventions' change has, so that what differs is the
    place and not the size.

    Raises
    ------
    BadValueError
        If no unit is left untouched.
    """
    rng, mine = np.random.default_rng(seed), [one for one in interventions if one.layer == layer]
    here = layers[layer]
    real = activation_edits(edits_of(mine, layers), layers)
    touched = {i for one in mine if one.basis == "unit" for i in one.indices}
    free = np.setdiff1d(np.arange(here.n_components), list(touched))
    edits: list[Edit] = []
    for one in mine:
        if one.basis == "unit":
            if len(free) == 0:
                raise BadValueError(f'All components of "{layer}" are steered: none is left for a control.')
            chosen = rng.choice(free, min(len(one.indices), len(free)), replace=False)
            other = Intervention([f"{layer}/unit/{i}" for i in chosen], one.operation, one.strength)
            edits += _on_units(other, here.n_components)
        else:
            drawn = rng.standard_normal((len(one.indices), here.n_components))
            edits += _on_directions(one, drawn / np.linalg.norm(drawn, axis=1, keepdims=True))
    random = activation_edits(edits, layers)

    def change(x: Tensor) -> Tensor:
        wanted = real[layer](x) - x if layer in real else torch.zeros_like(x)
        found = random[layer](x) - x if layer in random else torch.zeros_like(x)
        size, own = _length(wanted), _length(found)
        return x + found * torch.where(own > 0, size / own.clamp(min=1e-30), 0.0)

    return change


def _length(change: Tensor) -> Tensor:
    """Length of each sample's change, with axes of length 1 for the rest."""
    return change.flatten(1).norm(dim=1).reshape(-1, *[1] * (change.ndim - 1))
