"""Pooling of maps while they exist: maximum, its position, mean, and the sum of relevance."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from workbench.models.layers import Layer

__all__ = ["pool_activations", "pool_relevance"]


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
    maps = layer.components_first(output.detach())
    if maps.shape[2] == 1:
        values = maps[..., 0].float()
        return values, values, torch.zeros_like(values, dtype=torch.int32)
    if maps.device.type == "cpu" and maps.dtype == torch.float32:
        # numpy's argmax is vectorised along the last axis; torch's pair of value and index is five times slower.
        array = maps.contiguous().numpy()
        peak = array.argmax(-1)
        largest = torch.from_numpy(np.take_along_axis(array, peak[..., None], -1)[..., 0])
        return largest, maps.mean(2), torch.from_numpy(peak.astype(np.int32))
    largest, at = maps.max(2)
    return largest.float(), maps.mean(2).float(), at.to(torch.int32)


def pool_relevance(layer: Layer, relevance: Tensor) -> Tensor:
    """(sample, component) float32: relevance summed over positions."""
    return layer.components_first(relevance.detach()).sum(2).float()
