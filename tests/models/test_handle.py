"""A handle reads what a model returns, tells models apart, and says clearly what it cannot take."""

from __future__ import annotations

import copy
import functools
import os
import subprocess
import sys
import threading
from collections import OrderedDict

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from workbench.attribution.crp import explain
from workbench.core.errors import ModelError, NotFiniteError
from workbench.core.results import Edit
from workbench.testing.nets import handle_of, randomised, small_vgg

SHAPE = (3, 17, 13)


class Returning(nn.Module):
    """A convolution and a head, returned in some wrapping."""

    def __init__(self, wrap, n_classes=4):
        super().__init__()
        self.conv, self.head, self.wrap = nn.Conv2d(3, 5, 3), nn.Linear(5, n_classes), wrap

    def forward(self, x):
        maps = self.conv(x)
        return self.wrap(self.head(F.relu(maps).mean((2, 3))), maps)


class Output(OrderedDict):
    """Like transformers' ModelOutput: a mapping whose entries are attributes."""

    __getattr__ = OrderedDict.__getitem__


WRAPS = {
    "a tensor": lambda y, maps: y,
    "a list": lambda y, maps: [y],
    "a tuple with a loss": lambda y, maps: (torch.tensor(0.5), y),
    "a tuple with nothing": lambda y, maps: (y, None),
    "a mapping": lambda y, maps: {"logits": y, "features": maps},
    "a mapping with one tensor": lambda y, maps: {"anything": y, "note": "text"},
    "a ModelOutput": lambda y, maps: Output(loss=None, logits=y, hidden_states=(maps,)),
    "torchvision's segmentation": lambda y, maps: OrderedDict(out=y, aux=y * 2),
}


@pytest.mark.parametrize("name", WRAPS)
def test_outputs_are_found(name):
    handle = handle_of(randomised(Returning(WRAPS[name])), (3, 6, 5))
    x = torch.randn(3, 3, 6, 5)
    expected = randomised(Returning(WRAPS["a tensor"]))(x)
    torch.testing.assert_close(handle(x), expected)
    assert handle.n_classes == 4 and not handle.is_dense
    assert explain(handle, x, record=["conv"]).relevance.shape == x.shape


REFUSED = {
    "two tensors": (lambda y, maps: (y, y + 1), "returns a tuple with 2 tensors of two or more axes"),
    "no tensor": (lambda y, maps: (0.5, None), "returns a tuple with 0 tensors"),
    "an unknown mapping": (lambda y, maps: {"a": y, "b": maps}, "keys a, b; none is called logits, out, output"),
    "a number": (lambda y, maps: y.sum(), "returns a single number for a whole batch"),
    "text": (lambda y, maps: "cat", "returns a str, which cannot be explained"),
    "class numbers": (lambda y, maps: y.argmax(1), "returns whole numbers"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_outputs_that_cannot_be_explained(name):
    wrap, message = REFUSED[name]
    with pytest.raises(ModelError, match=message) as error:
        handle_of(randomised(Returning(wrap)), (3, 6, 5))
    assert isinstance(error.value, TypeError)


@pytest.mark.parametrize("wrap", [lambda y, maps: y, lambda y, maps: y[:, 0]])
def test_a_single_output(wrap):
    handle = handle_of(randomised(Returning(wrap, n_classes=1)), (3, 6, 5), classes=["ill"])
    x = torch.randn(3, 3, 6, 5)
    assert handle(x).shape == (3, 1) and handle.n_classes == 1 and handle.class_name(0) == "ill"
    result = explain(handle, x)
    assert result.start.index.tolist() == [0, 0, 0]
    torch.testing.assert_close(result.start.score, handle(x)[:, 0])


def test_dense_outputs():
    handle = handle_of(randomised(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1))), (3, 6, 5))
    assert handle.is_dense and handle.n_classes == 4 and handle(torch.randn(2, 3, 6, 5)).shape == (2, 4, 6, 5)


def test_many_labels_at_once():
    """Each output of a multi-label model is explained by itself; outputs do not compete."""
    handle = handle_of(randomised(small_vgg()).double(), SHAPE)
    x = torch.randn(2, *SHAPE, dtype=torch.float64)
    one, other = (explain(handle, x, f"logit:{i}") for i in (0, 5))
    assert not torch.equal(one.relevance, other.relevance)
    torch.testing.assert_close(one.start.score, handle(x)[:, 0])


# --- fingerprints ----------------------------------------------------------------------------------------------------


def digest(module, **options):
    return handle_of(module, SHAPE, **options).fingerprint.digest


def test_one_weight_makes_another_fingerprint():
    net = randomised(small_vgg())
    before = digest(net)
    for change in (
        lambda m: m[0].weight.data[0, 0, 0, 0].add_(1e-6),
        lambda m: m[0].bias.data[4].add_(1e-3),
        lambda m: m[1].running_mean[2].add_(1e-3),
        lambda m: m[11].weight.data.neg_(),
    ):
        other = copy.deepcopy(net)
        change(other)
        assert digest(other) != before
    assert digest(copy.deepcopy(net)) == before == digest(net)


def test_neither_name_nor_mode_nor_order_of_loading_matters():
    net = randomised(small_vgg())
    state = net.state_dict()
    other = small_vgg()
    other.load_state_dict(OrderedDict(reversed(state.items())))
    assert digest(other.train(), name="other") == digest(net)
    assert str(handle_of(net, SHAPE, name="mine").fingerprint).startswith("mine@")


def test_the_architecture_matters():
    net, other = randomised(small_vgg()), randomised(small_vgg())
    other[2] = nn.Tanh()
    assert digest(net) != digest(other)
    assert digest(copy.deepcopy(net).double()) != digest(net)


def test_addresses_in_the_text_of_a_module_do_not_matter():
    class Shown(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense, self.function = nn.Linear(3, 2), lambda x: x

        def extra_repr(self):
            return f"function={self.function}, module at 0x{id(self):x}"

        def forward(self, x):
            return self.function(self.dense(x))

    one, other = randomised(Shown()), randomised(Shown())
    assert repr(one) != repr(other)
    assert handle_of(one, (3,)).fingerprint == handle_of(other, (3,)).fingerprint


class Own(nn.Module):
    """A module whose text and state dict say nothing of what `forward` does beside its layer."""

    def __init__(self, scale=2.0, wrap=lambda y: y, table=None):
        super().__init__()
        self.dense, self.scale, self.wrap = nn.Linear(3, 2), scale, wrap
        self.register_buffer("table", torch.ones(2) if table is None else table, persistent=False)

    def forward(self, x):
        return self.wrap(self._scaled(self.dense(x))) + self.table

    def _scaled(self, y):
        return y * self.scale


class Other(Own):
    def _scaled(self, y):
        return y + self.scale


class ThroughHelper(Own):
    def _scaled(self, y):
        return _helper(y) * self.scale


def _helper(y):
    return y.relu()


def test_what_the_code_of_an_own_module_does_is_in_the_fingerprint(monkeypatch):
    """Else a changed `forward` would find the results of the one before in the store."""

    def own(kind=Own, **options):
        torch.manual_seed(0)
        net = kind(**options)
        Own.__name__ = Other.__name__ = ThroughHelper.__name__ = "Own"  # the text of both modules is the same
        return handle_of(net, (3,)).fingerprint.digest

    try:
        digests = [
            own(),
            own(Other),
            own(ThroughHelper),
            own(scale=3.0),
            own(wrap=lambda y: y.sigmoid()),
            own(wrap=lambda y: y * 2),
            own(wrap=lambda y: y * 4),
            own(wrap=functools.partial(torch.mul, other=2)),
            own(wrap=torch.relu),
            own(wrap=torch.tanh),
            own(table=torch.zeros(2)),
        ]
        assert len(set(digests)) == len(digests)
        assert own() == own(wrap=lambda q: q) != own(scale=2.5)
        monkeypatch.setattr(sys.modules[__name__], "_helper", lambda y: y.abs())
        assert own(ThroughHelper) not in digests
    finally:
        Own.__name__, Other.__name__, ThroughHelper.__name__ = "Own", "Other", "ThroughHelper"


class Settings:
    """Settings with items as attributes, which fail in a way of their own on names that they do not have."""

    def __getattr__(self, name):
        return {"scale": 2}[name]


SETTINGS = Settings()


def test_objects_that_fail_when_they_are_asked_do_no_harm():
    class Configured(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Linear(3, 2)

        def forward(self, x):
            return self.dense(x) * SETTINGS.scale

    assert handle_of(Configured(), (3,)).fingerprint


def test_the_fingerprint_is_the_same_in_the_next_process():
    """Sets in constants, addresses and the order of hashing differ between processes."""
    script = """
import torch
from torch import nn
from workbench.testing.nets import handle_of

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.dense, self.mode, self.f = nn.Linear(3, 2), "blue", nn.functional.relu
    def forward(self, x):
        return self.f(self.dense(x)) if self.mode in {"red", "green", "blue", "grey"} else x

print(handle_of(Net(), (3,)).fingerprint.digest)
"""
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


def test_weights_are_hashed_as_they_were_given():
    """Folding is not in the fingerprint, so that it may get better without making all results stale."""
    net = randomised(small_vgg())
    handle = handle_of(net, SHAPE)
    assert handle.folded == [("0", "1"), ("4", "5")]
    assert handle.fingerprint == handle.variant([]).fingerprint


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value):
    net = randomised(small_vgg())
    net[9].weight.data[3, 3] = value
    with pytest.raises(NotFiniteError, match='weights "9.weight" of net contain NaN or infinity') as error:
        handle_of(net, SHAPE)
    assert "another checkpoint" in error.value.hint
    net = randomised(small_vgg())
    net[1].running_var[0] = value
    with pytest.raises(NotFiniteError, match=r"1\.running_var"):
        handle_of(net, SHAPE)


# --- what it is given ------------------------------------------------------------------------------------------------


def test_the_user_s_module_is_not_touched():
    net = randomised(small_vgg()).train()
    net[2].inplace = True
    net[9].weight.requires_grad_(False)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    handle = handle_of(net, SHAPE)
    explain(handle, torch.randn(2, *SHAPE))
    assert net.training and net[1].training and net[2].inplace and isinstance(net[1], nn.BatchNorm2d)
    assert [p.requires_grad for p in net.parameters()].count(False) == 1
    assert all(torch.equal(before[k], v) for k, v in net.state_dict().items())
    assert handle.base is net and handle.module is not net


def test_an_input_of_the_wrong_size_is_explained():
    with pytest.raises(ModelError, match=r"input of shape \(2, 3, 20, 20\)") as error:
        handle_of(small_vgg(), (3, 20, 20))
    assert "transform=" in error.value.hint


def test_a_model_that_cannot_be_copied():
    net = small_vgg()
    net.lock = threading.Lock()
    with pytest.raises(ModelError, match="cannot be copied"):
        handle_of(net, SHAPE)


def test_precision_follows_the_weights():
    x = torch.randn(2, *SHAPE)
    assert handle_of(small_vgg().double(), SHAPE)(x).dtype == torch.float64
    handle = handle_of(small_vgg(), SHAPE)
    assert handle(x.double()).dtype == torch.float32 and handle.example(3).shape == (3, *SHAPE)
    assert torch.equal(handle.example(), handle.example())


def test_class_names_are_used_when_they_fit():
    names = [f"class {i}" for i in range(6)]
    assert handle_of(small_vgg(), SHAPE, classes=names).class_name(2) == "class 2"
    short = handle_of(small_vgg(), SHAPE, classes=names[:3])
    assert short.classes == () and short.class_name(2) == "output 2"


def test_what_a_handle_says_of_itself():
    handle = handle_of(small_vgg(), SHAPE, name="mine")
    assert repr(handle).startswith("<model mine@") and "12 layers, 6 outputs>" in repr(handle)
    variant = handle.variant([Edit("scale", "6", value=2.0)], name="bold")
    assert "bold@" in repr(variant) and "1 edits" in repr(variant)
    n = sum(p.numel() for p in handle.module.parameters())
    assert handle.size_bytes == 4 * n


def test_a_handle_is_a_function_without_gradient():
    handle = handle_of(small_vgg(), SHAPE)
    x = torch.randn(2, *SHAPE, requires_grad=True)
    assert not handle(x).requires_grad and handle(x).shape == (2, 6)


def test_a_module_with_hooks_of_its_own_keeps_them():
    net, seen = randomised(small_vgg()), []
    net[6].register_forward_hook(lambda *_: seen.append(1))
    handle = handle_of(net, SHAPE)
    before = len(seen)
    explain(handle, torch.randn(1, *SHAPE), record=["6"])
    assert len(seen) == before + 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_runs_in_float32(dtype):
    net = randomised(small_vgg()).to(dtype)
    handle, wide = handle_of(net, SHAPE), handle_of(copy.deepcopy(net).float(), SHAPE)
    x = torch.randn(2, *SHAPE)
    assert torch.equal(handle(x), wide(x)) and torch.equal(explain(handle, x).relevance, explain(wide, x).relevance)
    assert handle.fingerprint != wide.fingerprint and net[0].weight.dtype is dtype


def test_weights_without_a_shape_are_refused():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.LazyLinear(2))
    with pytest.raises(ModelError, match=r'"2\..*" of net have no shape yet\. Run the model once'):
        handle_of(net, SHAPE)
