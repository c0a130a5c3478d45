"""Where in a layer an edit acts: the class token, the patches, or a region of the picture."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.core import check
from workbench.core.effects import TOKENS, region_sides
from workbench.core.errors import BadValueError
from workbench.models.layers import Layer, LayerTable

__all__ = ["check_scope", "is_sequence", "scope_of"]

_OPTIONS = {"tokens", "region"}
_MOST_BESIDE = 8
"""Tokens beside the patches at most: class, distillation, registers."""


def is_sequence(layer: Layer) -> bool:
    """Whether a layer gives a sequence of tokens."""
    return layer.axis == -1 and len(layer.shape) == 2


def check_scope(options: Mapping[str, Any], layer: Layer, layers: LayerTable) -> None:
    """Refuse a scope that the layer does not have.

    Raises
    ------
    BadValueError
    """
    if unknown := sorted(set(options) - _OPTIONS):
        raise BadValueError(
            f'An edit of "{layer.name}" has no option "{unknown[0]}".', hint="There are tokens and region."
        )
    if (tokens := options.get("tokens")) is not None:
        check.one_of("tokens", tokens, TOKENS)
        if not is_sequence(layer):
            raise BadValueError(
                f'"{layer.name}" gives {layer.shape}, which is no sequence of tokens, so nothing can act on its '
                f"{'class token' if tokens == 'class' else tokens} alone.",
                hint="Leave `tokens` out; on maps a region limits where it acts.",
            )
        if tokens == "class" and _n_beside(layer, layers) == 0:
            raise BadValueError(
                f'"{layer.name}" has no class token: all of its {layer.shape[0]} tokens are patches.',
                hint='Use tokens="all".',
            )
    if options.get("region") is not None:
        region_sides(options["region"])
        if tokens not in (None, "patches"):
            raise BadValueError(f'A region is one of patches; got tokens="{tokens}".', hint='Use tokens="patches".')
        _grid(layer, layers)


def scope_of(options: Mapping[str, Any], layer: Layer, layers: LayerTable) -> Callable[[Tensor], Tensor] | None:
    """Where an edit acts, as a function of the layer's output; None for everywhere.

    Returns
    -------
    callable or None
        From the output to a bool tensor that broadcasts with it.
    """
    tokens, region = options.get("tokens"), options.get("region")
    if tokens in (None, "all") and region is None:
        return None
    check_scope(options, layer, layers)
    if region is not None:
        sides, (n_rows, n_columns, n_beside) = region_sides(region), _grid(layer, layers)
        rows, columns = _inside(n_rows, sides[1], sides[3]), _inside(n_columns, sides[0], sides[2])
        chosen = np.concatenate([np.zeros(n_beside, bool), (rows[:, None] & columns[None]).ravel()])
    else:
        n_beside = 1 if (known := _n_beside(layer, layers)) is None else known
        chosen = np.arange(layer.shape[0]) < n_beside
        if tokens == "class":  # the first, as for directions of it; others beside the patches are no class token
            chosen[1:] = False
        else:
            chosen = ~chosen
    shape = layer.position_shape
    mask = torch.from_numpy(chosen).reshape((1, 1, *shape) if layer.axis == 1 else (1, *shape, 1))

    def scope(x: Tensor) -> Tensor:
        here = tuple(x.shape[2:]) if layer.axis == 1 else tuple(x.shape[1:-1])
        if here != shape:
            raise BadValueError(
                f'"{layer.name}" has positions {here} here and had {shape} when the model was opened, so that a part '
                "of them is not known.",
                hint="Leave the scope out, or give inputs of one size.",
            )
        return mask.to(x.device)

    return scope


def _inside(n: int, start: float, size: float) -> np.ndarray:
    """(n,) bool: the cells whose middle lies inside; where there is none, the one that holds the region's middle."""
    middles = (np.arange(n) + 0.5) / n
    found = (middles >= start) & (middles <= start + size)
    if not found.any():
        found[min(n - 1, int((start + size / 2) * n))] = True
    return found


def _grid(layer: Layer, layers: LayerTable) -> tuple[int, int, int]:
    """Rows and columns of a layer's positions, and the number of tokens before them."""
    if len(layer.position_shape) == 2:
        return *layer.position_shape, 0
    if is_sequence(layer):
        if (found := _patches(layer, layers)) is not None:
            return found
        n = layer.shape[0]
        for n_beside in (1, 0):
            side = math.isqrt(n - n_beside)
            if side > 0 and side * side == n - n_beside:
                return side, side, n_beside
        raise BadValueError(
            f'The {n} tokens of "{layer.name}" are not known to lie on a grid, so they have no region.',
            hint='Use tokens="patches", or a layer of maps.',
        )
    raise BadValueError(
        f'"{layer.name}" gives {layer.shape}, which has no places in the picture, so it has no region.',
        hint="Choose a layer of maps or of patches, or leave the region out.",
    )


def _n_beside(layer: Layer, layers: LayerTable) -> int | None:
    """How many tokens are no patches; None where it is not known."""
    found = _patches(layer, layers)
    return None if found is None else found[2]


def _patches(layer: Layer, layers: LayerTable) -> tuple[int, int, int] | None:
    """Rows and columns of the patches that a sequence was made of, by the maps before it, and the tokens beside them.

    Of several maps that would fit the one that leaves the fewest tokens beside them.
    """
    n = layer.shape[0]
    found = [
        (n - math.prod(one.position_shape), -one.order, one.position_shape)
        for one in layers.values()
        if one.order < layer.order and len(one.position_shape) == 2
    ]
    fit = [one for one in found if 0 <= one[0] <= _MOST_BESIDE]
    if not fit:
        return None
    beside, _, (rows, columns) = min(fit)
    return rows, columns, beside
