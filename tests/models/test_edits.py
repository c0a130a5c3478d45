"""Edits of activations and of weights: against slow twins, on a variant, with the base left bit for bit as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from workbench.attribution.crp import explain
from workbench.attribution.lrp import ruled_forward
from workbench.attribution.rules import composite
from workbench.core.errors import BadValueError, ShapeError, UnknownComponentError, UnknownLayerError, UnknownNameError
from workbench.core.results import Edit
from workbench.testing.nets import handle_of, randomised, small_vgg

SHAPE = (3, 17, 13)


@pytest.fixture
def base():
    return handle_of(randomised(small_vgg()).double(), SHAPE)


@pytest.fixture
def x():
    return torch.randn(3, *SHAPE, dtype=torch.float64)


def seen(handle, x, layer):
    kept = {}
    with ruled_forward(handle, x, rule=None, layers=[layer]) as graph:
        kept = {layer: graph.tensors[layer].detach().clone()}
    return kept[layer]


DIRECTION = np.linspace(-1, 2, 7)


def scale(t):
    t[:, 2] *= 3.0
    t[:, 5] *= 3.0


def put(t):
    t[:, 0] = -0.5


def add(t):
    for channel in range(7):
        t[:, channel] += 2.0 * float(np.float32(DIRECTION[channel]))


def project(t):
    unit = torch.as_tensor(DIRECTION).float()
    unit = (unit / unit.norm()).double()
    for sample in t:
        for y in range(sample.shape[1]):
            for x in range(sample.shape[2]):
                sample[:, y, x] -= 0.75 * float(sample[:, y, x] @ unit) * unit


EDITS = {
    "scale": (Edit("scale", "6", (2, 5), value=3.0), scale),
    "set": (Edit("set", "6", (0,), value=-0.5), put),
    "set all": (Edit("set", "6", value=0.0), lambda t: t.zero_()),
    "add": (Edit("add", "6", value=2.0, array=DIRECTION), add),
    "project": (Edit("project", "6", value=0.75, array=DIRECTION), project),
}


@pytest.mark.parametrize("name", EDITS)
def test_activations_change_as_the_twin_says(base, x, name):
    edit, slow = EDITS[name]
    variant = base.variant([edit])
    expected = seen(base, x, "6")
    slow(expected)
    torch.testing.assert_close(seen(variant, x, "6"), expected, rtol=1e-6, atol=1e-7)
    with torch.no_grad():
        rest = base.module[7:](expected)
    torch.testing.assert_close(variant(x), rest, rtol=1e-6, atol=1e-7)
    assert not torch.equal(variant(x), base(x))


def test_edits_of_one_layer_act_in_their_order(base, x):
    first, second = Edit("add", "6", value=1.0, array=np.ones(7)), Edit("scale", "6", value=2.0)
    one, other = (seen(base.variant(edits), x, "6") for edits in ([first, second], [second, first]))
    plain = seen(base, x, "6")
    torch.testing.assert_close(one, (plain + 1) * 2)
    torch.testing.assert_close(other, plain * 2 + 1)
    chained = base.variant([first]).variant([second])
    torch.testing.assert_close(seen(chained, x, "6"), one)
    assert chained.fingerprint == base.variant([first, second]).fingerprint


@pytest.mark.parametrize("name", [n for n in EDITS if n != "set all"])
def test_relevance_through_an_edit_is_shared_in_proportion(base, x, name):
    """What an edit adds takes its part of the relevance; a factor takes none."""
    variant = base.variant([EDITS[name][0]])
    rule = composite("EpsilonPlus")
    with ruled_forward(variant, x, rule=rule, layers=["5", "6", "7"]) as graph:
        seed = torch.randn_like(graph.tensors["7"])
        after, before = graph.pull(graph.tensors["7"], seed, ["6", "5"])
        changed, plain = graph.tensors["6"].detach(), graph.tensors["5"].detach().relu()
    s = after / (changed + torch.where(changed >= 0, 1.0, -1.0) * 1e-6)
    if name == "scale":
        expected = changed * s  # all of it but what the stabiliser takes
        torch.testing.assert_close(expected, torch.where(plain > 0, after, 0.0), rtol=1e-2, atol=1e-3)
    elif name == "set":
        expected = changed * s
        expected[:, 0] = 0
    elif name == "add":
        expected = plain * s
    else:
        unit = torch.as_tensor(DIRECTION).float()
        unit = (unit / unit.norm()).double()
        back = s - 0.75 * torch.einsum("nchw,c->nhw", s, unit).unsqueeze(1) * unit.reshape(1, -1, 1, 1)
        expected = plain * back
    torch.testing.assert_close(before, expected, rtol=1e-4, atol=1e-6)


def test_a_component_set_to_zero_has_no_relevance(base, x):
    variant = base.variant([Edit("scale", "6", (1, 4), value=0.0)])
    found = explain(variant, x, record=["6"])
    assert found.layers["6"][:, [1, 4]].abs().max() == 0 and found.activations["6"][:, [1, 4]].abs().max() == 0
    assert found.layers["6"].abs().max() > 0


def test_weights_change_as_the_twin_says(base, x):
    weight = base.base[9].weight.detach()
    mask = (torch.arange(weight.numel()).reshape(weight.shape) % 3 > 0).numpy()
    levels = 2 ** (4 - 1) - 1
    step = weight.abs().max() / levels
    slow = weight.clone().flatten()
    for i, w in enumerate(slow.tolist()):
        slow[i] = max(-levels, min(levels, round(w / float(step)))) * step
    expected = {
        "mask": weight * torch.as_tensor(mask),
        "quantise": slow.reshape(weight.shape),
        "replace": torch.as_tensor(np.arange(weight.numel()).reshape(weight.shape) / 100),
    }
    for edit in (
        Edit("mask", "9.weight", array=mask),
        Edit("quantise", "9.weight", value=4),
        Edit("replace", "9.weight", array=expected["replace"].numpy()),
    ):
        variant = base.variant([edit])
        torch.testing.assert_close(variant.module[9].weight, expected[edit.operation])
        assert variant.fingerprint != base.fingerprint
    assert len(torch.unique(expected["quantise"])) <= 15


def test_weights_are_edited_before_batch_norm_is_folded(base, x):
    new = torch.randn_like(base.base[4].weight)
    variant = base.variant([Edit("replace", "4.weight", array=new.numpy())])
    module = randomised(small_vgg()).double()
    with torch.no_grad():
        module[4].weight.copy_(new)
        torch.testing.assert_close(variant(x), module(x), rtol=1e-9, atol=1e-10)
    assert variant.folded == base.folded


def test_a_weight_of_zeros_can_be_quantised(base, x):
    zero = Edit("replace", "9.weight", array=np.zeros(base.base[9].weight.shape))
    variant = base.variant([zero, Edit("quantise", "9.weight", value=3)])
    assert variant.module[9].weight.abs().max() == 0 and variant(x).isfinite().all()


def test_the_base_stays_bit_for_bit(base, x):
    before = base(x)
    own = {k: v.clone() for k, v in base.module.state_dict().items()}
    user = {k: v.clone() for k, v in base.base.state_dict().items()}
    fingerprint = base.fingerprint
    for edits in ([EDITS["scale"][0]], [Edit("quantise", "9.weight", value=2)], [EDITS["add"][0], EDITS["project"][0]]):
        variant = base.variant(edits, name="changed")
        variant(x)
        explain(variant, x)
        assert (
            variant.card.name == "changed" and variant.fingerprint != fingerprint and len(variant.edits) == len(edits)
        )
    assert torch.equal(base(x), before) and base.fingerprint == fingerprint and base.edits == ()
    assert all(torch.equal(v, base.module.state_dict()[k]) for k, v in own.items())
    assert all(torch.equal(v, base.base.state_dict()[k]) for k, v in user.items())
    assert not any(m._forward_hooks for m in base.module.modules())


def test_the_fingerprint_covers_every_part_of_an_edit(base):
    edits = [
        Edit("scale", "6", (2,), value=3.0),
        Edit("scale", "6", (3,), value=3.0),
        Edit("scale", "6", (2,), value=3.5),
        Edit("scale", "4", (2,), value=3.0),
        Edit("set", "6", (2,), value=3.0),
        Edit("add", "6", value=1.0, array=np.arange(7.0)),
        Edit("add", "6", value=1.0, array=np.arange(7.0) + 1),
    ]
    digests = {base.variant([edit]).fingerprint.digest for edit in edits}
    assert len(digests) == len(edits)
    again = base.variant([Edit("add", "6", value=1.0, array=np.arange(7.0))])
    assert again.fingerprint.digest in digests


@pytest.mark.parametrize(
    ("edit", "error", "message"),
    [
        (Edit("scale", "66", value=2.0), UnknownLayerError, 'No layer "66"'),
        (Edit("set", "6", (7,)), UnknownComponentError, 'No component 7 in "6"'),
        (Edit("add", "6", array=np.ones(6)), ShapeError, "needs a direction of 7; got"),
        (Edit("project", "6"), ShapeError, "needs a direction of 7; got None"),
        (Edit("project", "6", array=np.zeros(7)), BadValueError, "length zero"),
        (Edit("mask", "9.wait", array=np.ones(1)), UnknownNameError, 'No parameter "9.wait"'),
        (Edit("mask", "9.weight", array=np.ones(3)), ShapeError, r"array of shape \(11, 84\)"),
        (Edit("replace", "9.weight"), ShapeError, r"array of shape \(11, 84\)"),
        (Edit("quantise", "9.weight", value=1), BadValueError, "2 to 16 bits; got 1"),
    ],
)
def test_impossible_edits_are_refused(base, edit, error, message):
    with pytest.raises(error, match=message):
        base.variant([edit])


def test_an_edit_that_does_not_exist():
    with pytest.raises(BadValueError, match="There are scale, set"):
        Edit("double", "6")


def test_an_edited_layer_can_be_conditioned_on(base, x):
    variant = base.variant([EDITS["scale"][0]])
    every = [f"6/{c}" for c in range(7)]
    plain = explain(variant, x)
    assert torch.equal(explain(variant, x, given=every).relevance, plain.relevance)
    assert not torch.equal(plain.relevance, explain(base, x).relevance)


def test_layers_of_tokens_are_edited_along_their_last_axis():
    net = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Flatten(), nn.Linear(30, 2))
    handle = handle_of(randomised(net).double(), (5, 4))
    x = torch.randn(2, 5, 4, dtype=torch.float64)
    variant = handle.variant([Edit("set", "1", (2,), value=9.0)])
    found = seen(variant, x, "1")
    assert torch.equal(found[..., 2], torch.full((2, 5), 9.0).double())
    assert torch.equal(found[..., :2], seen(handle, x, "1")[..., :2])
