"""Edits with a scope change what lies in it as they would change all, and leave every bit elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from workbench.core.edits import Edits
from workbench.core.effects import Intervention
from workbench.core.errors import BadValueError
from workbench.core.results import Edit
from workbench.models.interventions import control_change, edits_of
from workbench.models.scopes import scope_of
from workbench.testing.nets import BiasFree, handle_of, randomised

MAPS = "features.4"


class Tokens(nn.Module):
    """A few blocks over patches of (3, 12, 8) pictures on a grid of 3 times 2, with `beside` tokens in front."""

    def __init__(self, beside: int = 1, dim: int = 5):
        super().__init__()
        self.patches, self.beside = nn.Conv2d(3, dim, 4, stride=4), nn.Parameter(torch.randn(beside, dim))
        self.mix, self.act, self.norm, self.head = nn.Linear(dim, dim), nn.ReLU(), nn.LayerNorm(dim), nn.Linear(dim, 4)

    def forward(self, x):
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.beside.expand(len(x), -1, -1), x], 1)
        x = self.act(self.mix(x)) + x
        return self.head(self.norm(x + x.mean(1, keepdim=True))[:, 0])


class Grids(nn.Module):
    """Maps with channels last, (sample, 3, 2, 5)."""

    def __init__(self):
        super().__init__()
        self.patches, self.mix, self.head = nn.Conv2d(3, 5, 4, stride=4), nn.Linear(5, 5), nn.Linear(5, 4)

    def forward(self, x):
        return self.head(self.mix(self.patches(x).permute(0, 2, 3, 1)).mean((1, 2)))


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    return handle_of(Tokens(), (3, 12, 8))


@pytest.fixture(scope="module")
def cnn():
    return handle_of(randomised(BiasFree()), (3, 10, 8))


def x_of(handle, seed=0):
    return torch.randn(4, *handle.card.input_shape, generator=torch.Generator().manual_seed(seed))


def by_hook(handle, layer, x, change):
    """The output with `change` written into the layer's output by hand."""

    def hook(module, args, output):
        output = output.clone()
        change(output)
        return output

    held = handle.module.get_submodule(layer).register_forward_hook(hook)
    try:
        with torch.no_grad():
            return handle.module(x)
    finally:
        held.remove()


def seen(handle, layer, x):
    """The layer's output, with the edits of the handle."""
    found = []
    held = handle.module.get_submodule(layer).register_forward_hook(lambda m, a, y: found.append(y.clone()))
    try:
        handle(x)
    finally:
        held.remove()
    return handle.change_at(layer)(found[0])  # the edits hang on the module after this hook


PLACES = {
    "class": ({"tokens": "class"}, [0]),
    "patches": ({"tokens": "patches"}, [1, 2, 3, 4, 5, 6]),
    "all": ({"tokens": "all"}, list(range(7))),
    # rows at 1/6, 3/6, 5/6 and columns at 1/4, 3/4; the class token comes first
    "upper right": ({"region": (0.5, 0, 0.5, 0.6)}, [2, 4]),
    "a point": ({"region": (0.4, 0.9, 0.01, 0.01)}, [5]),
    "everything": ({"region": (0, 0, 1, 1)}, [1, 2, 3, 4, 5, 6]),
}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("operation", "strength"), [("suppress", 0.7), ("boost", 2.0), ("set", 1.5), ("add", 3.0)])
def test_tokens_by_hand(vit, place, operation, strength):
    scope, tokens = PLACES[place]
    x = x_of(vit)

    def change(y):
        own = y[:, tokens, 2]
        y[:, tokens, 2] = {"suppress": 0.3 * own, "boost": 3 * own, "set": torch.full_like(own, 1.5),
                           "add": own + 3}[operation]  # fmt: skip

    edits = edits_of([Intervention("mix/unit/2", operation, strength, **scope)], vit.layers)
    found = vit.variant(edits)
    torch.testing.assert_close(found(x), by_hook(vit, "mix", x, change))
    before, after = seen(vit, "mix", x), seen(found, "mix", x)
    rest = [i for i in range(7) if i not in tokens]
    assert torch.equal(before[:, rest], after[:, rest]) and not torch.equal(before[:, tokens], after[:, tokens])
    others = [0, 1, 3, 4]
    assert torch.equal(before[..., others], after[..., others])


@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_a_region_of_maps_by_hand(cnn, strength):
    h, w = cnn.layers[MAPS].position_shape
    assert h != w
    region = (0.2, 0.5, 0.5, 0.45)
    rows = [i for i in range(h) if 0.5 <= (i + 0.5) / h <= 0.95]
    columns = [i for i in range(w) if 0.2 <= (i + 0.5) / w <= 0.7]
    assert 0 < len(rows) < h and 0 < len(columns) < w
    x = x_of(cnn)

    def change(y):
        for i in rows:
            for j in columns:
                y[:, 1:3, i, j] *= 1 - strength

    one = Intervention([f"{MAPS}/unit/1", f"{MAPS}/unit/2"], "suppress", strength, region=region)
    found = cnn.variant(edits_of([one], cnn.layers))
    torch.testing.assert_close(found(x), by_hook(cnn, MAPS, x, change))
    same = seen(cnn, MAPS, x) == seen(found, MAPS, x)
    inside = torch.zeros(h, w, dtype=torch.bool)
    inside[np.ix_(rows, columns)] = True
    assert same[:, :, ~inside].all() and same[:, [0, 3]].all() and not same[:, 1:3, inside].all()


def test_a_region_where_channels_come_last():
    handle = handle_of(Grids(), (3, 12, 8))
    x = x_of(handle)

    def change(y):
        y[:, 0:2, 1, 3] = 9

    edits = edits_of([Intervention("mix/unit/3", "set", 9.0, region=(0.5, 0, 0.5, 0.6))], handle.layers)
    torch.testing.assert_close(handle.variant(edits)(x), by_hook(handle, "mix", x, change))


@pytest.mark.parametrize("operation", ["project", "set", "add"])
def test_directions_in_a_scope(vit, operation):
    vectors = torch.randn(2, 5, generator=torch.Generator().manual_seed(3))
    vectors = vectors / vectors.norm(dim=1, keepdim=True)
    vit.layers.add_directions("mix", "cav-x", vectors)
    mine = ["mix/cav-x/0", "mix/cav-x/1"]
    x = x_of(vit)
    whole = seen(vit.variant(edits_of([Intervention(mine, operation, 0.5)], vit.layers)), "mix", x)
    part = edits_of([Intervention(mine, operation, 0.5, tokens="patches")], vit.layers)
    found, before = seen(vit.variant(part), "mix", x), seen(vit, "mix", x)
    assert torch.equal(found[:, 0], before[:, 0]) and torch.equal(found[:, 1:], whole[:, 1:])


def test_a_direction_of_the_class_token_acts_on_it(vit):
    """As the correction that projects it out does; said otherwise, it acts elsewhere too."""
    vector = torch.eye(5)[:1]
    vit.layers.add_directions("mix", "cav-cls", vector, pooling="token")
    vit.layers.add_directions("mix", "cav-max", vector)
    told = [
        edits_of([Intervention(f"mix/{name}/0", "project", **scope)], vit.layers)[0]
        for name, scope in [
            ("cav-cls", {}),
            ("cav-max", {"tokens": "class"}),
            ("cav-max", {}),
            ("cav-cls", {"tokens": "all"}),
        ]
    ]
    assert told[0].describe() == told[1].describe() and told[2].describe() == told[3].describe()
    assert told[0].options == {"tokens": "class"} and told[2].options == {}
    shift = Edit("shift", "mix", array=vector.numpy(), options={"tokens": "first", "pooling": "token"})
    x = x_of(vit)
    torch.testing.assert_close(vit.variant(told[:1])(x), vit.variant([shift])(x))
    region = edits_of([Intervention("mix/cav-cls/0", "project", region=(0, 0, 1, 1))], vit.layers)[0]
    assert region.options == {"region": [0, 0, 1, 1]}


def test_edits_are_saved_with_their_scope(vit, tmp_path):
    mine = [Intervention("mix/unit/2", tokens="patches"), Intervention("mix/unit/1", "set", 2.0, region=(0, 0, 0.5, 1))]
    edits = Edits(edits_of(mine, vit.layers))
    again = Edits.load(edits.save(tmp_path / "scoped"))
    assert [one.describe() for one in again] == [one.describe() for one in edits]
    x = x_of(vit)
    assert torch.equal(vit.variant(again)(x), vit.variant(edits)(x))
    plain = vit.variant(edits_of([Intervention("mix/unit/2")], vit.layers))
    assert vit.variant(edits[:1]).fingerprint != plain.fingerprint
    assert plain.fingerprint == vit.variant([Edit("scale", "mix", (2,), 0.0)]).fingerprint, "as it was without scopes"


@pytest.mark.parametrize("scope", [{"tokens": "class"}, {"tokens": "patches"}, {"region": (0, 0, 0.5, 1)}])
@pytest.mark.parametrize("address", ["unit/1", "cav-r/0"])
def test_controls_act_in_the_same_scope(vit, scope, address):
    vit.layers.add_directions("mix", "cav-r", torch.full((1, 5), 5**-0.5))
    mine = [Intervention(f"mix/{address}", **scope)]
    y = torch.randn(4, 7, 5, generator=torch.Generator().manual_seed(2))
    change = control_change(mine, "mix", vit.layers, 0)(y) - y
    outside = ~scope_of(dict(edits_of(mine, vit.layers)[0].options), vit.layers["mix"], vit.layers)(y)
    assert not change[outside.expand_as(change)].any()
    wanted = vit.variant(edits_of(mine, vit.layers)).change_at("mix")(y) - y
    torch.testing.assert_close(change.flatten(1).norm(dim=1), wanted.flatten(1).norm(dim=1))


def test_tokens_beside_the_patches_are_found_by_the_maps():
    handle = handle_of(Tokens(beside=3), (3, 12, 8))  # nine tokens would be a square
    x = torch.zeros(1, 9, 5)
    for scope, tokens in ({"tokens": "class"}, [0]), ({"tokens": "patches"}, range(3, 9)), ({"region": (0, 0, 1, 0.3)},
                                                                                           [3, 4]):  # fmt: skip
        found = scope_of(scope, handle.layers["mix"], handle.layers)(x)
        assert found[0, :, 0].nonzero().flatten().tolist() == list(tokens)


def test_what_has_no_such_scope(vit, cnn):
    bare = handle_of(Tokens(beside=0), (3, 12, 8))
    for handle, one, message in [
        (cnn, Intervention(f"{MAPS}/unit/1", tokens="class"), "no sequence of tokens"),
        (cnn, Intervention("head/unit/1", region=(0, 0, 1, 1)), "no places in the picture"),
        (vit, Intervention("head/unit/1", tokens="patches"), "no sequence of tokens"),
        (bare, Intervention("mix/unit/1", tokens="class"), "no class token: all of its 6 tokens"),
    ]:
        with pytest.raises(BadValueError, match=message):
            edits_of([one], handle.layers)
    assert edits_of([Intervention(f"{MAPS}/unit/1", tokens="all")], cnn.layers)[0].options == {}
    for options, message in [({"where": "left"}, "no option"), ({"region": [0, 0, 2, 1]}, "part of the picture")]:
        with pytest.raises(BadValueError, match=message):
            cnn.variant([Edit("scale", MAPS, (1,), 0.0, options=options)])
    with pytest.raises(BadValueError, match="inputs of one size"):
        cnn.variant(edits_of([Intervention(f"{MAPS}/unit/1", region=(0, 0, 0.5, 1))], cnn.layers))(
            torch.zeros(1, 3, 14, 12)
        )
