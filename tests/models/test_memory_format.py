"""Channels last on the CPU, and activations in place: faster, and the same numbers."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from workbench.attribution.crp import explain
from workbench.testing.nets import handle_of, randomised


class Viewing(nn.Module):
    """Calls `view` on maps, which torch refuses for channels last."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.act = nn.ReLU(inplace=True)
        self.head = nn.Linear(4 * 36, 5)

    def forward(self, x):
        return self.head(self.act(self.conv(x)).view(len(x), -1))


def net():
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 6, 3, stride=2),
        nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(6, 6),
        nn.ReLU(inplace=True),
        nn.Linear(6, 4),
    )


def test_convolutions_run_with_channels_last():
    handle = handle_of(randomised(net()), (3, 9, 8))
    assert handle.memory_format == torch.channels_last
    x = handle.put(torch.randn(2, 3, 9, 8))
    assert x.is_contiguous(memory_format=torch.channels_last)
    assert handle.module[0](x).is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("make", [Viewing, net])
def test_maps_are_the_same_in_either_format(make):
    module, shape = randomised(make()), (3, 8, 8)
    handle, plain = handle_of(module, shape), handle_of(module, shape)
    plain._set_format(torch.contiguous_format)
    x = torch.randn(3, *shape, generator=torch.Generator().manual_seed(1))
    a, b = explain(handle, x), explain(plain, x)
    torch.testing.assert_close(a.output, b.output, rtol=1e-4, atol=1e-5)
    assert float((a.relevance - b.relevance).abs().max() / b.relevance.abs().max()) < 1e-4


def test_a_model_that_cannot_run_with_channels_last_runs_as_it_was_written():
    handle = handle_of(randomised(Viewing()), (3, 8, 8))
    assert handle.memory_format == torch.contiguous_format
    assert handle.module.conv.weight.is_contiguous()
    assert handle(torch.randn(2, 3, 8, 8)).shape == (2, 5)


@pytest.mark.parametrize(("module", "shape"), [(net().double(), (3, 9, 8)), (nn.Sequential(nn.Linear(3, 2)), (3,))])
def test_other_models_stay_contiguous(module, shape):
    assert handle_of(randomised(module), shape).memory_format == torch.contiguous_format


def test_activations_in_place_are_the_authors_and_last_as_long_as_the_context():
    handle = handle_of(randomised(net()), (3, 9, 8))
    x = torch.randn(2, 3, 9, 8)
    before = handle(x)
    with pytest.raises(ZeroDivisionError), handle.in_place():
        assert handle.module[4].inplace
        torch.testing.assert_close(handle(x.clone()), before, rtol=0, atol=0)
        raise ZeroDivisionError
    assert not any(m.inplace for m in handle.module.modules() if isinstance(m, nn.ReLU))
