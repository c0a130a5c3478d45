"""A cut gives what the whole network gives, or says that it cannot."""

from __future__ import annotations

import pytest
import torch

from workbench.models.cut import Cut
from workbench.testing.nets import Residual, Twice, randomised, small_vgg

CASES = [
    (small_vgg, (3, 17, 13), "6", True),
    (Residual, (3, 12, 10), "relu_a", True),
    (Residual, (3, 12, 10), "b1", False),
    (Residual, (3, 12, 10), "pool", True),
    (Twice, (3, 8, 8), "first", True),
]


@pytest.mark.parametrize("make, shape, layer, is_clean", CASES)
def test_below_and_above_make_the_whole(make, shape, layer, is_clean):
    module, x = randomised(make()), torch.randn(5, *shape)
    cut = Cut(module, layer, torch.randn(2, *shape))
    assert cut.is_clean == is_clean
    with torch.no_grad():
        a = cut.lower(x)
        if is_clean:
            assert torch.equal(cut.upper(a), module(x))
            assert torch.equal(cut.upper(a[:3]), module(x)[:3]) or torch.allclose(cut.upper(a[:3]), module(x[:3]))
        changes = {layer: lambda t: t * 2}
        torch.testing.assert_close(cut.lower(x, changes), 2 * a)
    for one in module.modules():
        assert not one._forward_hooks and "forward" not in vars(one)


def test_gradients_reach_the_activation_and_the_part_above():
    module, x = randomised(small_vgg()).requires_grad_(True), torch.randn(4, 3, 17, 13)
    cut = Cut(module, "6", x)
    a = cut.lower(x).detach().requires_grad_()
    cut.upper(a, {"10": lambda t: t * 0.5}).sum().backward()
    assert a.grad.abs().sum() > 0 and module[11].weight.grad is not None and module[0].weight.grad is None


def test_what_is_below_is_named():
    module = Residual()
    cut = Cut(module, "relu_a", torch.randn(2, 3, 12, 10))
    assert {module.stem, module.a2_bn, module.relu_a} <= cut.below and module.b1 not in cut.below
