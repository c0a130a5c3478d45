"""Gradients, input times gradient, integrated gradients: against autograd and on models with a known answer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from workbench.attribution.base import Target
from workbench.attribution.crp import explain
from workbench.core.errors import BadValueError
from workbench.testing.nets import handle_of, randomised, small_vgg

SHAPE = (3, 17, 13)


@pytest.fixture(scope="module")
def vgg():
    return handle_of(randomised(small_vgg()).double(), SHAPE)


@pytest.fixture
def x():
    return torch.randn(3, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def of_autograd(handle, x, index, layer=None):
    leaf, kept = x.clone().requires_grad_(), {}
    hook = (
        handle.module.get_submodule(layer).register_forward_hook(lambda m, a, o: kept.update(out=o)) if layer else None
    )
    y = handle.module(leaf)
    if hook is not None:
        hook.remove()
    return torch.autograd.grad(y[torch.arange(len(x)), index].sum(), kept["out"] if layer else leaf)[0]


def test_the_gradient_is_autograd_s(vgg, x):
    found = explain(vgg, x, "logit:2", rule="gradient", record=["6", "9"])
    index = torch.full((3,), 2)
    torch.testing.assert_close(found.relevance, of_autograd(vgg, x, index))
    for layer in ("6", "9"):
        torch.testing.assert_close(found.layers[layer], of_autograd(vgg, x, index, layer))
    assert torch.isnan(found.gap).all(), "a gradient is no share of anything"


def test_input_times_gradient(vgg, x):
    found = explain(vgg, x, rule="input_x_gradient", record=["6"])
    index = vgg(x).argmax(1)
    torch.testing.assert_close(found.relevance, x * of_autograd(vgg, x, index))
    torch.testing.assert_close(found.layers["6"], found.activations["6"] * of_autograd(vgg, x, index, "6"))
    total = found.relevance.flatten(1).sum(1)
    torch.testing.assert_close(found.gap, (found.start.score - total) / found.start.score.abs())


def test_a_difference_of_two_outputs(vgg, x):
    found = explain(vgg, x, "difference:1:4", rule="gradient")
    one, other = (of_autograd(vgg, x, torch.full((3,), i)) for i in (1, 4))
    torch.testing.assert_close(found.relevance, one - other)


def test_integrated_gradients_equal_a_slow_sum(vgg, x):
    found = explain(vgg, x, rule="integrated_gradients", steps=7)
    index = vgg(x).argmax(1)  # of the real input, also where another output is larger on the way
    slow = sum(of_autograd(vgg, x * (step + 0.5) / 7, index) for step in range(7)) / 7 * x
    torch.testing.assert_close(found.relevance, slow)


def test_integrated_gradients_are_complete(vgg, x):
    coarse, fine = (explain(vgg, x, rule="integrated_gradients", steps=n).gap.abs().max() for n in (4, 256))
    assert fine < 5e-3 and fine < coarse


def test_a_planted_linear_model_is_recovered():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)).double()
    handle = handle_of(randomised(net), (3, 2, 2))
    x = torch.randn(4, 3, 2, 2, dtype=torch.float64)
    weight = handle.module[1].weight[1].reshape(3, 2, 2)
    for rule, expected in (
        ("gradient", weight.expand(4, 3, 2, 2)),
        ("input_x_gradient", weight * x),
        ("integrated_gradients", weight * x),
        ("Epsilon", weight * x),
    ):
        found = explain(handle, x, "logit:1", rule=rule, steps=3)
        tolerance = {"rtol": 1e-2, "atol": 1e-5} if rule == "Epsilon" else {}
        scale = 1.0
        if rule == "Epsilon":  # the logit is shared without its bias
            z = (weight * x).flatten(1).sum(1)
            scale = (found.start.score / z).reshape(-1, 1, 1, 1)
        torch.testing.assert_close(found.relevance, expected * scale, **tolerance)
    complete = explain(handle, x, "logit:1", rule="integrated_gradients", steps=2)
    assert complete.gap.abs().max() < 1e-12


@pytest.mark.parametrize("rule", ["gradient", "input_x_gradient", "integrated_gradients"])
def test_conditions_apply_to_gradients_too(vgg, x, rule):
    every = [f"6/{c}" for c in range(7)]
    plain = explain(vgg, x, rule=rule, steps=3)
    assert torch.equal(explain(vgg, x, rule=rule, given=every, steps=3).relevance, plain.relevance)
    parts = sum(explain(vgg, x, rule=rule, given=[one], steps=3).relevance for one in every)
    torch.testing.assert_close(parts, plain.relevance)


def test_a_component_s_gradient(vgg, x):
    found = explain(vgg, x, Target.component("6/unit/2"), rule="gradient")
    leaf, kept = x.clone().requires_grad_(), {}
    hook = vgg.module[6].register_forward_hook(lambda m, a, o: kept.update(out=o))
    vgg.module(leaf)
    hook.remove()
    torch.testing.assert_close(found.relevance, torch.autograd.grad(kept["out"][:, 2].sum(), leaf)[0])
    integrated = explain(vgg, x, Target.component("6/unit/2"), rule="integrated_gradients", steps=200)
    assert integrated.gap.abs().max() < 1e-2


@pytest.mark.parametrize("steps", [0, -1, 2.5])
def test_steps_are_a_whole_number(vgg, x, steps):
    with pytest.raises(BadValueError, match="steps"):
        explain(vgg, x, rule="integrated_gradients", steps=steps)
