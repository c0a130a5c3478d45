"""Interventions on units and directions do to an activation what their formulas say."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.core.effects import Intervention
from workbench.core.errors import BadValueError, UnknownComponentError
from workbench.models.edits import activation_edits
from workbench.models.interventions import control_change, edits_of
from workbench.testing.nets import BiasFree, handle_of, randomised

LAYER = "features.4"


@pytest.fixture(scope="module")
def layers():
    handle = handle_of(randomised(BiasFree()), (3, 10, 8))
    n = handle.layers[LAYER].n_components
    rng = np.random.default_rng(0)
    vectors = rng.standard_normal((3, n))
    vectors[1] = vectors[0] + 0.3 * rng.standard_normal(n)  # not orthogonal
    handle.layers.add_directions(LAYER, "cav-x", vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
    return handle.layers


@pytest.fixture(scope="module")
def x(layers):
    return torch.randn(4, *layers[LAYER].shape, generator=torch.Generator().manual_seed(1)).double()


def run(layers, x, *interventions):
    changes = activation_edits(edits_of(interventions, layers), layers)
    return changes[LAYER](x) if changes else x


def codes(layers, x):
    vectors = layers.basis(LAYER, "cav-x").vectors.double()
    return torch.einsum("kc,nchw->nkhw", vectors, x)


@pytest.mark.parametrize("operation", ["suppress", "project"])
def test_units_lose_their_share(layers, x, operation):
    out = run(layers, x, Intervention([f"{LAYER}/unit/1", f"{LAYER}/unit/2"], operation, 0.25))
    expected = x.clone()
    expected[:, 1:3] *= 0.75
    torch.testing.assert_close(out, expected)


def test_units_are_boosted_set_and_stepped(layers, x):
    unit = f"{LAYER}/unit/1"
    torch.testing.assert_close(run(layers, x, Intervention(unit, "boost", 2.0))[:, 1], 3 * x[:, 1])
    assert (run(layers, x, Intervention(unit, "set", -0.5))[:, 1] == -0.5).all()
    torch.testing.assert_close(run(layers, x, Intervention(unit, "add", 2.0))[:, 1], x[:, 1] + 2)


@pytest.mark.parametrize("strength", [1.0, 0.4])
def test_directions_that_are_not_orthogonal_are_suppressed_together(layers, x, strength):
    both = [f"{LAYER}/cav-x/0", f"{LAYER}/cav-x/1"]
    out = run(layers, x, Intervention(both, "suppress", strength))
    torch.testing.assert_close(
        codes(layers, out)[:, :2], (1 - strength) * codes(layers, x)[:, :2], rtol=1e-4, atol=1e-5
    )
    span = layers.basis(LAYER, "cav-x").vectors[:2].double()
    rest = torch.eye(span.shape[1]) - torch.linalg.pinv(span) @ span
    left = [torch.einsum("dc,nchw->ndhw", rest, t) for t in (out, x)]
    torch.testing.assert_close(left[0], left[1], rtol=1e-4, atol=1e-5)


def test_projecting_twice_is_projecting_once(layers, x):
    one = Intervention(f"{LAYER}/cav-x/0", "project")
    torch.testing.assert_close(run(layers, x, one, one), run(layers, x, one), rtol=1e-5, atol=1e-6)


def test_directions_are_boosted_set_and_stepped(layers, x):
    address = f"{LAYER}/cav-x/2"
    out = run(layers, x, Intervention(address, "boost", 1.0))
    torch.testing.assert_close(codes(layers, out)[:, 2], 2 * codes(layers, x)[:, 2], rtol=1e-4, atol=1e-5)
    out = run(layers, x, Intervention([address, f"{LAYER}/cav-x/0"], "set", 0.7))
    torch.testing.assert_close(codes(layers, out)[:, [0, 2]], torch.full_like(codes(layers, x)[:, [0, 2]], 0.7),
                               rtol=1e-4, atol=1e-4)  # fmt: skip
    step = run(layers, x, Intervention(address, "add", 3.0)) - x
    vector = layers.basis(LAYER, "cav-x").vectors[2].double()
    torch.testing.assert_close(step, 3 * vector[None, :, None, None].expand_as(step))


@pytest.mark.parametrize(
    "nothing",
    [("suppress", 0.0), ("boost", 0.0), ("add", 0.0), ("project", 0.0)],
)
@pytest.mark.parametrize("address", ["unit/1", "cav-x/1"])
def test_a_strength_of_nothing_changes_nothing(layers, x, nothing, address):
    assert edits_of([Intervention(f"{LAYER}/{address}", *nothing)], layers) == []


def test_parallel_directions_count_once(layers):
    vector = np.zeros(layers[LAYER].n_components)
    vector[0] = 1
    layers.add_directions(LAYER, "cav-twice", np.stack([vector, vector]))
    one = Intervention([f"{LAYER}/cav-twice/0", f"{LAYER}/cav-twice/1"], "project")
    assert len(edits_of([one], layers)) == 1


def test_what_does_not_exist(layers):
    with pytest.raises(UnknownComponentError):
        edits_of([Intervention(f"{LAYER}/unit/999")], layers)
    with pytest.raises(UnknownComponentError, match="cav-y"):
        edits_of([Intervention(f"{LAYER}/cav-y/0")], layers)


@pytest.mark.parametrize(
    "mine",
    [
        [Intervention(f"{LAYER}/unit/1", "suppress")],
        [Intervention([f"{LAYER}/unit/1", f"{LAYER}/unit/3"], "add", 2.0)],
        [Intervention(f"{LAYER}/cav-x/0", "project")],
        [Intervention(f"{LAYER}/unit/0", "boost", 1.0), Intervention(f"{LAYER}/cav-x/2", "add", 1.0)],
    ],
)
def test_a_control_changes_as_much_elsewhere(layers, x, mine):
    wanted = run(layers, x, *mine) - x
    found = [control_change(mine, LAYER, layers, seed)(x) - x for seed in (1, 1, 2)]
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])
    for change in found:
        torch.testing.assert_close(change.flatten(1).norm(dim=1), wanted.flatten(1).norm(dim=1), rtol=1e-4, atol=1e-6)
    if all(one.basis == "unit" for one in mine):
        touched = [i for one in mine for i in one.indices]
        assert not any(change[:, touched].any() for change in found)


def test_a_control_that_has_nothing_to_change_changes_nothing(layers, x):
    zero = torch.zeros_like(x)
    assert not control_change([Intervention(f"{LAYER}/unit/1")], LAYER, layers, 0)(zero).any()


def test_no_unit_is_left_for_a_control(layers):
    all_of_them = [f"{LAYER}/unit/{i}" for i in range(layers[LAYER].n_components)]
    with pytest.raises(BadValueError, match="none is left for a control"):
        control_change([Intervention(all_of_them)], LAYER, layers, 0)


# Controls where units are silent --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sparse(layers):
    """Activations after a ReLU: of each sample about a third of the units are silent everywhere, others in others."""
    rng = torch.Generator().manual_seed(5)
    x = torch.randn(12, *layers[LAYER].shape, generator=rng).relu().double()
    silent = torch.rand(12, layers[LAYER].n_components, generator=rng) < 0.35
    silent[:, 1] = False
    return x * ~silent[:, :, None, None]


@pytest.mark.parametrize("operation", ["suppress", "boost", "project", "set", "add"])
def test_controls_change_as_much_where_units_are_silent(layers, sparse, operation):
    mine = [Intervention(f"{LAYER}/unit/1", operation, 1.0)]
    wanted = (run(layers, sparse, *mine) - sparse).flatten(1).norm(dim=1)
    assert (wanted > 0).all()
    used = set()
    for seed in range(8):
        control = control_change(mine, LAYER, layers, seed)
        change = control(sparse) - sparse
        torch.testing.assert_close(change.flatten(1).norm(dim=1), wanted)
        assert not control.is_empty.any() and not change[:, 1].any()
        places = change.flatten(2).any(2)
        assert (places.sum(1) == 1).all(), "as many others as there are units"
        if operation == "suppress":
            assert sparse.flatten(2).any(2)[places].all(), "among the active ones"
        used |= set(places.nonzero()[:, 1].tolist())
    assert len(used) > 2


def test_a_control_of_a_sample_is_the_same_in_every_batch(layers, sparse):
    mine = [Intervention([f"{LAYER}/unit/1", f"{LAYER}/unit/3"], "suppress", 0.5),
            Intervention(f"{LAYER}/cav-x/0", "project")]  # fmt: skip
    whole = control_change(mine, LAYER, layers, 4)(sparse)
    alone = torch.cat([control_change(mine, LAYER, layers, 4)(one[None]) for one in sparse])
    pairs = torch.cat([control_change(mine, LAYER, layers, 4)(part) for part in sparse.split(5)])
    assert torch.equal(whole, alone) and torch.equal(whole, pairs)


def test_a_control_keeps_its_unit_where_that_is_active(layers, sparse):
    """One control is one choice of units, so that its mean over samples varies as that of a unit does."""
    mine = [Intervention(f"{LAYER}/unit/1")]
    everywhere = control_change(mine, LAYER, layers, 3)(sparse + 1) - (sparse + 1)
    (first,) = everywhere.flatten(2).any(2).any(0).nonzero().flatten().tolist()
    change = control_change(mine, LAYER, layers, 3)(sparse) - sparse
    is_active = sparse[:, first].flatten(1).any(1)
    assert 0 < is_active.sum() < len(sparse) and torch.equal(change[:, first].flatten(1).any(1), is_active)


def test_where_nothing_else_is_active_the_control_says_so(layers, sparse):
    alone = sparse.clone()
    alone[:4, [i for i in range(layers[LAYER].n_components) if i != 1]] = 0
    alone[4:6] = 0  # here the intervention changes nothing either
    control = control_change([Intervention(f"{LAYER}/unit/1")], LAYER, layers, 0)
    change = control(alone) - alone
    assert control.is_empty.tolist() == [True] * 4 + [False] * 8 and not change[:6].any()


def test_edits_that_commute_give_the_same_in_both_orders(layers, x):
    one, two = Intervention(f"{LAYER}/unit/1", "suppress", 0.5), Intervention(f"{LAYER}/unit/2", "add", 3.0)
    assert torch.equal(run(layers, x, one, two), run(layers, x, two, one))
    twice = Intervention(f"{LAYER}/unit/1", "boost", 1.0)
    torch.testing.assert_close(run(layers, x, one, twice), run(layers, x, twice, one))
    across = np.eye(layers[LAYER].n_components)[[0, 2]]
    layers.add_directions(LAYER, "cav-axes", across)
    axes = [Intervention(f"{LAYER}/cav-axes/{i}", "project", 0.7) for i in (0, 1)]
    torch.testing.assert_close(run(layers, x, *axes), run(layers, x, *axes[::-1]))
    add = Intervention(f"{LAYER}/unit/1", "add", 1.0)
    assert not torch.allclose(run(layers, x, one, add), run(layers, x, add, one)), "these do not commute"
