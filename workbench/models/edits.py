"""Edits applied: activation edits as functions of a layer's output, weight edits on a copy of the model."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from workbench.core.errors import BadValueError, ShapeError, UnknownNameError, nearest
from workbench.core.results import Edit
from workbench.models.layers import Layer, LayerTable
from workbench.models.scopes import check_scope, scope_of
from workbench.models.shifts import Shift, check_shift

__all__ = ["Chain", "activation_edits", "apply_weight_edits", "check_edits"]


class Chain:
    """The edits of one layer, one after the other, as one function of its output.

    Attributes
    ----------
    parts : tuple of callable
    """

    def __init__(self, parts: Sequence[Callable[[Tensor], Tensor]]):
        self.parts = tuple(parts)

    def __call__(self, x: Tensor) -> Tensor:
        """Apply them."""
        for part in self.parts:
            x = part(x)
        return x

    @property
    def gates(self) -> list[Shift]:
        """Those that must be told the uncorrected output."""
        return [part for part in self.parts if isinstance(part, Shift) and part.reads_output]


def check_edits(edits: Sequence[Edit], layers: LayerTable, module: nn.Module) -> None:
    """Refuse edits that name layers, components or parameters that do not exist.

    Raises
    ------
    UnknownLayerError, UnknownComponentError, UnknownNameError, ShapeError
    """
    parameters = dict(module.named_parameters())
    for edit in edits:
        if edit.is_weight_edit:
            if edit.where not in parameters:
                raise UnknownNameError(f'No parameter "{edit.where}".', hint=nearest(edit.where, parameters))
            if edit.operation in ("mask", "replace") and (
                edit.array is None or tuple(torch.as_tensor(edit.array).shape) != tuple(parameters[edit.where].shape)
            ):
                raise ShapeError(
                    f'The edit "{edit.operation}" of "{edit.where}" needs an array of shape '
                    f"{tuple(parameters[edit.where].shape)}."
                )
            continue
        layer = layers.usable(edit.where)
        for index in edit.components:
            layers.component(f"{edit.where}/unit/{index}")
        if edit.operation == "shift":
            check_shift(edit, layer)
            continue
        check_scope(edit.options, layer, layers)
        if edit.operation in ("add", "project"):
            shape = None if edit.array is None else tuple(torch.as_tensor(edit.array).shape)
            if shape != (layer.n_components,):
                raise ShapeError(
                    f'"{edit.operation}" at "{edit.where}" needs a direction of {layer.n_components}; got {shape}.'
                )


def activation_edits(edits: Sequence[Edit], layers: LayerTable) -> dict[str, Chain]:
    """For each edited layer, the function that changes its output; edits of one layer act in their order."""
    functions: dict[str, list[Callable[[Tensor], Tensor]]] = {}
    for edit in edits:
        if not edit.is_weight_edit:
            functions.setdefault(edit.where, []).append(_scoped_edit(edit, layers[edit.where], layers))
    return {where: Chain(parts) for where, parts in functions.items()}


def _scoped_edit(edit: Edit, layer: Layer, layers: LayerTable) -> Callable[[Tensor], Tensor]:
    """The edit where it acts; elsewhere every bit stays."""
    change = _activation_edit(edit, layer)
    scope = None if edit.operation == "shift" else scope_of(edit.options, layer, layers)
    return change if scope is None else lambda x: torch.where(scope(x), change(x), x)


def _activation_edit(edit: Edit, layer: Layer) -> Callable[[Tensor], Tensor]:
    if edit.operation == "shift":
        return Shift(edit, layer)
    chosen = torch.zeros(layer.n_components, dtype=torch.bool)
    chosen[list(edit.components) or slice(None)] = True

    def shaped(vector: Tensor, x: Tensor) -> Tensor:
        shape = [1] * x.ndim
        shape[layer.axis] = -1
        return vector.to(x.device).reshape(shape)

    if edit.operation == "scale":
        return lambda x: x * shaped(torch.where(chosen, edit.value, 1.0), x).to(x.dtype)
    if edit.operation == "set":
        return lambda x: torch.where(shaped(chosen, x), torch.as_tensor(edit.value, dtype=x.dtype, device=x.device), x)
    direction = torch.as_tensor(edit.array).float()
    if edit.operation == "add":
        return lambda x: x + edit.value * shaped(direction, x).to(x.dtype)
    if not float(direction.norm()) > 0:
        raise BadValueError("A direction of length zero cannot be projected out.")
    unit = direction / direction.norm()
    strength = edit.value if edit.value else 1.0

    def project(x: Tensor) -> Tensor:
        u = shaped(unit, x).to(x.dtype)
        return x - strength * (x * u).sum(layer.axis, keepdim=True) * u

    return project


def apply_weight_edits(module: nn.Module, edits: Sequence[Edit]) -> None:
    """Change the parameters of a private copy in place."""
    parameters = dict(module.named_parameters())
    with torch.no_grad():
        for edit in edits:
            if not edit.is_weight_edit:
                continue
            p = parameters[edit.where]
            if edit.operation == "mask":
                p.mul_(torch.as_tensor(edit.array).to(p))
            elif edit.operation == "replace":
                p.copy_(torch.as_tensor(edit.array).to(p))
            else:
                p.copy_(_quantised(p, bits=int(edit.value) or 8))


def _quantised(p: Tensor, *, bits: int) -> Tensor:
    """Symmetric uniform quantisation with one step size per tensor."""
    if not 2 <= bits <= 16:
        raise BadValueError(f"Weights are quantised to 2 to 16 bits; got {bits}.")
    levels = 2 ** (bits - 1) - 1
    step = p.abs().max() / levels
    return (p / step).round().clamp(-levels, levels) * step if step > 0 else p
