"""Edits that depend on the uncorrected prediction: identities to the last bit, one lower pass, explanations."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.attribution.crp import explain
from workbench.core.errors import BadValueError, ModelError
from workbench.core.results import Edit
from workbench.models.hooks import record
from workbench.models.tail import Tail
from workbench.testing.nets import Residual, handle_of, randomised, small_vgg

NETS = {
    "vgg": (small_vgg, (3, 17, 13), "6", 7),
    "residual": (Residual, (3, 12, 10), "relu_a", 6),
    "inside a block": (Residual, (3, 12, 10), "b1", 8),
}


def edit(layer, n, classes=None, seed=0):
    vector = np.random.default_rng(seed).normal(size=(1, n)) * 2
    options = {} if classes is None else {"classes": [classes]}
    return Edit("shift", layer, array=vector, arrays={"codes": np.array([3.0])}, options=options)


@pytest.fixture(params=NETS)
def case(request):
    make, shape, layer, n = NETS[request.param]
    base = handle_of(randomised(make()), shape)
    return base, torch.randn(12, *shape), layer, n


def test_false_changes_no_bit_and_true_is_the_projection(case):
    base, x, layer, n = case
    plain, always = base(x), base.variant([edit(layer, n)])(x)
    said = plain.argmax(1)
    free = [k for k in range(base.n_classes) if not (said == k).any()]
    never = base.variant([edit(layer, n, free or [])])
    assert torch.equal(never(x), plain)
    assert torch.equal(base.variant([edit(layer, n, list(range(base.n_classes)))])(x), always)
    some = base.variant([edit(layer, n, [int(said[0])])])(x)
    on = said == said[0]
    assert torch.equal(some[on], always[on]) and torch.equal(some[~on], plain[~on])
    order = torch.randperm(len(x))
    torch.testing.assert_close(base.variant([edit(layer, n, [int(said[0])])])(x[order]), some[order])


def test_the_lower_part_runs_once(case, monkeypatch):
    """Where the network can be parted at the layer, and nobody looks below it; a look below asks for a second pass."""
    base, x, layer, n = case
    variant = base.variant([edit(layer, n, [0, 1])])
    runs = []
    real = torch.nn.Conv2d.forward

    def counted(self, x):
        if self.in_channels == 3:
            runs.append(len(x))
        return real(self, x)

    monkeypatch.setattr(torch.nn.Conv2d, "forward", counted)
    found = variant(x)
    assert runs == [12] * (2 if layer == "b1" else 1)
    runs.clear()
    first = next(name for name in variant.layers if variant.layers[name].is_leaf)
    with torch.no_grad(), variant.edited(), record(variant.module, [first], lambda *_: None):
        watched = variant.logits(variant.module(variant.put(x)))
    assert runs == [12, 12] and torch.equal(watched, found)


def test_what_watches_sees_the_corrected_pass_alone(case):
    base, x, layer, n = case
    variant, fixed = base.variant([edit(layer, n, list(range(base.n_classes)))]), base.variant([edit(layer, n)])
    seen = {}
    for name, handle in (("gated", variant), ("plain", fixed)):
        with (
            torch.no_grad(),
            handle.edited(),
            record(handle.module, [layer], lambda _, t, name=name: seen.setdefault(name, []).append(t)),
        ):
            handle.module(handle.put(x))
    assert len(seen["gated"]) == len(seen["plain"]) == 1
    assert torch.equal(seen["gated"][0], seen["plain"][0])
    a, b = (explain(h, x[:3], "logit:1", record=[layer]) for h in (variant, fixed))
    torch.testing.assert_close(a.relevance, b.relevance)
    torch.testing.assert_close(a.layers[layer], b.layers[layer])
    for module in variant.module.modules():
        assert not module._forward_hooks and "forward" not in vars(module)


def test_gates_go_with_other_edits(case):
    base, x, layer, n = case
    first = next(name for name in base.layers if base.layers[name].is_leaf)
    below = Edit("scale", first, (0,), 0.5)
    lower = base.variant([below])
    gated = base.variant([below, edit(layer, n, list(range(base.n_classes)))])
    assert torch.equal(gated(x), base.variant([below, edit(layer, n)])(x))
    assert torch.equal(base.variant([below, edit(layer, n, [])])(x), lower(x))
    two = base.variant([edit(layer, n, [0]), edit(layer, n, [1], seed=1)])
    said = base(x).argmax(1)
    assert torch.equal(two(x)[said > 1], base(x)[said > 1])


def test_a_tail_over_such_a_model_runs_whole(case):
    base, x, layer, n = case
    variant = base.variant([edit(layer, n, [0, 1, 2])])
    tail = Tail(variant, [layer], x)
    assert tail.is_whole and torch.equal(tail.output, variant(x)) and torch.equal(tail.run(), variant(x))


def test_models_that_do_not_choose_are_refused():
    module = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU(), torch.nn.Linear(3, 1))
    base = handle_of(randomised(module), (4,))
    base.variant([edit("1", 3)])
    with pytest.raises(ModelError, match="does not choose among classes"):
        base.variant([edit("1", 3, [0])])
    with pytest.raises(BadValueError, match="No output 9"):
        handle_of(randomised(small_vgg()), (3, 17, 13)).variant([edit("6", 7, [9])])
