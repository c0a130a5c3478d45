"""Pooled values equal a slow loop over every position, for every shape and precision."""

from __future__ import annotations

import math

import pytest
import torch

from workbench.models.layers import Layer
from workbench.sweeps.pooling import pool_activations, pool_relevance


def layer(*shape, axis=1):
    return Layer("l", "Conv2d", tuple(shape), axis, 1, 0, True)


def entries(one, t):
    """(sample, component, list of values in order of position)."""
    for n in range(len(t)):
        for c in range(one.n_components):
            part = t[n, ..., c] if one.axis == -1 else t[n, c]
            yield n, c, part.flatten().tolist()


SHAPES = {
    "map": (layer(5, 3, 4), (2, 5, 3, 4)),
    "volume": (layer(3, 2, 3, 2), (4, 3, 2, 3, 2)),
    "series": (layer(5, 7), (3, 5, 7)),
    "vector": (layer(6), (3, 6)),
    "one position": (layer(6, 1, 1), (3, 6, 1, 1)),
    "tokens": (layer(7, 5, axis=-1), (2, 7, 5)),
    "channels last": (layer(3, 4, 5, axis=-1), (2, 3, 4, 5)),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("name", SHAPES)
def test_pooled_values_equal_a_loop(name, dtype):
    one, shape = SHAPES[name]
    t = torch.randn(shape).to(dtype)
    t[0] = -t[0].abs() - 1  # a sample on which nothing is positive
    t[-1].flatten()[::3] = 0.5  # equal values: the first one counts
    t[-1] = t[-1].clamp(max=0.5)
    largest, mean, peak = pool_activations(one, t)
    total = pool_relevance(one, t)
    n = one.n_components
    assert largest.shape == mean.shape == peak.shape == total.shape == (shape[0], n)
    assert (largest.dtype, mean.dtype, peak.dtype, total.dtype) == (torch.float32,) * 2 + (torch.int32, torch.float32)
    digits = {torch.float32: 1e-5, torch.float64: 1e-6, torch.bfloat16: 0.05}[dtype]
    for i, c, values in entries(one, t):
        assert largest[i, c].item() == pytest.approx(max(values), rel=1e-6)
        assert peak[i, c].item() == values.index(max(values))
        assert mean[i, c].item() == pytest.approx(math.fsum(values) / len(values), abs=digits)
        assert total[i, c].item() == pytest.approx(math.fsum(values), abs=digits * len(values))


def test_what_is_not_contiguous_is_pooled_alike():
    one, shape = SHAPES["map"]
    t = torch.randn(shape).round()  # with ties, of which the first counts
    for other in (
        t.to(memory_format=torch.channels_last),
        t.flip(0).flip(0),
        t.transpose(2, 3).contiguous().transpose(2, 3),
    ):
        for a, b in zip(pool_activations(one, other), pool_activations(one, t), strict=True):
            torch.testing.assert_close(a, b)


def test_gradients_are_not_kept():
    one, shape = SHAPES["map"]
    t = torch.randn(shape, requires_grad=True) * 2
    assert not any(part.requires_grad for part in (*pool_activations(one, t), pool_relevance(one, t)))
