"""Pooling of maps while they exist: maximum, its position, mean, and the sum of relevance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from workbench.models.layers import Layer

__all__ = ["pool_activations", "pool_relevance"]

# Values that are read several times in a row: two megabytes stay in the cache of one core.
_AT_ONCE = 1 << 19


def pool_activations(layer: Layer, output: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Summarise a layer's output over positions.

    Parameters
    ----------
    output : tensor
        As the layer returned it, batch axis first.

    Returns
    -------
    largest, mean : (sample, component) float32
    peak : (sample, component) int32
        Flat position of the largest value; the first of equal ones.
    """
    output = output.detach()
    maps = layer.components_first(output)
    if maps.shape[2] == 1:
        values = maps[..., 0].to(torch.float32, copy=True)  # what comes next may overwrite the output
        return values, values, torch.zeros_like(values, dtype=torch.int32)
    if maps.device.type == "cpu" and maps.dtype == torch.float32:
        if output.ndim == 4 and layer.axis == 1 and not output.is_contiguous():
            return _pool_channels_last(output.permute(0, 2, 3, 1))
        # numpy's argmax is vectorised along the last axis; torch's pair of value and index is five times slower.
        array = maps.contiguous().numpy()
        peak = array.argmax(-1)
        largest = torch.from_numpy(np.take_along_axis(array, peak[..., None], -1)[..., 0])
        return largest, maps.mean(2), torch.from_numpy(peak.astype(np.int32))
    largest, at = maps.max(2)
    return largest.float(), maps.mean(2).float(), at.to(torch.int32)


def pool_relevance(layer: Layer, relevance: Tensor) -> Tensor:
    """(sample, component) float32: relevance summed over positions."""
    positions = [axis for axis in range(1, relevance.ndim) if axis != layer.axis % relevance.ndim]
    return (relevance.detach().sum(positions) if positions else relevance.detach()).float()


def _pool_channels_last(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pool (sample, y, x, component), whose last axis is dense, without a copy of the maps.

    The peak is looked for in two steps, which give the first of equal values as one would: the first row that holds the
    largest value, then the first place in that row.
    """
    n, n_rows, n_columns, n_components = maps.shape
    step = max(1, _AT_ONCE // (n_rows * n_columns * n_components))
    largest, mean, peak = maps.new_empty(3, n, n_components).unbind()
    peak = peak.to(torch.int32)
    for first in range(0, n, step):
        part = maps[first : first + step]
        here = slice(first, first + len(part))
        largest[here], row = part.amax(2).max(1)
        mean[here] = part.flatten(1, 2).mean(1)
        lines = part.gather(1, row[:, None, None].expand(-1, 1, n_columns, -1))[:, 0]
        peak[here] = row * n_columns + lines.max(1).indices
    return largest, mean, peak
