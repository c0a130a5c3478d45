"""The tail of a network equals the network, whatever is changed, and computes only what lies above."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from workbench.core.errors import BadValueError, UnknownLayerError
from workbench.core.results import Edit
from workbench.models.edits import activation_edits
from workbench.models.hooks import patched_forward
from workbench.models.tail import Tail
from workbench.testing.nets import BiasFree, Residual, handle_of, randomised

SHAPE = (3, 10, 8)


class Bypass(nn.Module):
    """A value from below the layer is read far above it, and another is written to in place."""

    def __init__(self):
        super().__init__()
        self.first, self.second, self.third = (nn.Conv2d(c, 6, 3, padding=1) for c in (3, 6, 6))
        self.head = nn.Linear(6, 4)

    def forward(self, x):
        low = self.first(x)
        y = self.third(self.second(low.relu()).relu())
        y += low
        return self.head(y.mean((2, 3)))


class Twice(nn.Module):
    """A module that is called below the layer and again above it."""

    def __init__(self):
        super().__init__()
        self.shared, self.between, self.head = nn.Conv2d(3, 3, 3, padding=1), nn.Conv2d(3, 3, 1), nn.Linear(3, 4)

    def forward(self, x):
        return self.head(self.shared(self.between(self.shared(x).relu()).relu()).mean((2, 3)))


class InputAgain(nn.Module):
    """The input is read above the layer."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 4)

    def forward(self, x):
        return self.head(self.body(x).mean((2, 3))) + x.mean((1, 2, 3))[:, None]


class Counting(nn.Module):
    """Says something else each time: it cannot be taken up in the middle."""

    def __init__(self):
        super().__init__()
        self.body, self.head, self.n = nn.Linear(3, 4), nn.Linear(4, 4), 0

    def forward(self, x):
        self.n += 1
        return self.head(self.body(x.mean((2, 3)))) * self.n


CASES = {
    "plain": (BiasFree, "features.4"),
    "plain, the head": (BiasFree, "head"),
    "residual": (Residual, None),
    "bypass": (Bypass, "second"),
    "bypass, the last": (Bypass, "third"),
    "twice": (Twice, "between"),
    "input read above": (InputAgain, "body"),
}


@pytest.fixture(params=CASES)
def case(request):
    make, layer = CASES[request.param]
    handle = handle_of(randomised(make()), SHAPE)
    layers = [layer] if layer else [name for name, one in handle.layers.items() if one.n_calls == 1]
    return handle, layers, torch.randn(5, *SHAPE, generator=torch.Generator().manual_seed(3))


def edits_of(handle, layer):
    n = handle.layers[layer].n_components
    direction = torch.randn(n, generator=torch.Generator().manual_seed(4)).numpy()
    return [
        [Edit("scale", layer, (0, n - 1), value=0.0)],
        [Edit("add", layer, value=2.0, array=direction)],
        [Edit("project", layer, array=direction), Edit("set", layer, (1,), value=0.5)],
    ]


def test_every_change_has_the_effect_it_has_in_the_whole_network(case):
    handle, layers, x = case
    for layer in layers:
        tail = Tail(handle, [layer], x)
        assert not tail.is_whole and tail.begins == layer and torch.equal(tail.output, handle(x))
        for edits in edits_of(handle, layer):
            out = tail.run(activation_edits(edits, handle.layers))
            assert torch.equal(out, handle.variant(edits)(x))
        assert torch.equal(tail.run(), handle(x)), "nothing is left behind"


def test_what_lies_below_is_not_computed():
    handle = handle_of(randomised(Residual()), SHAPE)
    names = [name for name, one in handle.layers.items() if one.n_calls == 1]
    below, layer = names[0], names[len(names) // 2]
    tail, calls = Tail(handle, [layer], torch.randn(2, *SHAPE)), []
    leaves = {name: m for name, m in handle.module.named_modules() if name and not list(m.children())}
    real = {m: type(m).forward for m in leaves.values()}
    counted = [(m, lambda *a, m=m, name=name: (calls.append(name), real[m](m, *a))[1]) for name, m in leaves.items()]
    with patched_forward(counted):
        tail.run()
        assert below not in calls and layer not in calls and names[-1] in calls
        handle(torch.randn(2, *SHAPE))
        assert below in calls


def test_a_model_that_cannot_be_taken_up_in_the_middle_is_run_whole():
    handle = handle_of(randomised(Counting()), SHAPE)
    tail = Tail(handle, ["body"], torch.randn(2, *SHAPE))
    assert tail.is_whole and bool(torch.isfinite(tail.run()).all())


def test_several_layers_begin_at_the_one_that_is_finished_first():
    handle = handle_of(randomised(BiasFree()), SHAPE)
    x = torch.randn(3, *SHAPE)
    tail = Tail(handle, ["head", "features.4"], x)
    edits = [Edit("scale", "features.4", (1,), value=2.0), Edit("set", "head", (0,), value=1.0)]
    assert tail.begins == "features.4"
    assert torch.equal(tail.run(activation_edits(edits, handle.layers)), handle.variant(edits)(x))


def test_a_variant_s_own_edits_act_once():
    base = handle_of(randomised(BiasFree()), SHAPE)
    own = [Edit("add", name, value=1.5, array=np.ones(base.layers[name].n_components, np.float32))
           for name in ("features.0", "features.4", "head")]  # fmt: skip
    handle, x = base.variant(own), torch.randn(3, *SHAPE)
    tail = Tail(handle, ["features.4"], x)
    assert not tail.is_whole and torch.equal(tail.output, handle(x)) and torch.equal(tail.run(), handle(x))
    more = [Edit("scale", "features.4", (2,), value=0.0)]
    assert torch.equal(tail.run(activation_edits(more, handle.layers)), base.variant([*own, *more])(x))


def test_layers_above_can_be_watched_after_their_change():
    handle = handle_of(randomised(BiasFree()), SHAPE)
    tail, seen = Tail(handle, ["features.0"], torch.randn(3, *SHAPE)), {}
    tail.run({"features.4": torch.zeros_like}, see=lambda name, t: seen.__setitem__(name, t), watch=["features.4"])
    assert seen["features.4"].shape[0] == 3 and not seen["features.4"].any()


def test_only_what_is_read_is_remembered():
    handle = handle_of(randomised(BiasFree()), SHAPE)
    n = handle.layers["head"].n_components
    assert Tail(handle, ["head"], torch.randn(4, *SHAPE)).n_bytes == 4 + 4 * n * 4, "one NaN and the head's output"


@pytest.mark.parametrize(
    ("layers", "kind", "message"),
    [([], BadValueError, "at least one"), (["featur"], UnknownLayerError, "featur")],
)
def test_what_is_no_layer_is_refused(layers, kind, message):
    with pytest.raises(kind, match=message):
        Tail(handle_of(BiasFree(), SHAPE), layers, torch.zeros(1, *SHAPE))


def test_a_layer_below_is_refused():
    tail = Tail(handle_of(randomised(BiasFree()), SHAPE), ["features.4"], torch.randn(1, *SHAPE))
    with pytest.raises(BadValueError, match='"features.0" is finished before "features.4"'):
        tail.run({"features.0": torch.zeros_like})
