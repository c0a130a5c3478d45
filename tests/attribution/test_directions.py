"""Relevance of directions: along axes it is that of units, and all of a complete basis give the whole map."""

from __future__ import annotations

import pytest
import torch

from workbench.attribution.crp import concept_maps, explain, heat
from workbench.core.errors import BadValueError
from workbench.testing.nets import BiasFree, handle_of, randomised

LAYER = "features.4"


@pytest.fixture
def handle():
    made = handle_of(randomised(BiasFree()), (3, 10, 8))
    made.layers.add_directions(LAYER, "axes", torch.eye(9)[[2, 5]])
    made.layers.add_directions(LAYER, "turned", torch.linalg.qr(torch.randn(9, 9)).Q)
    return made


@pytest.fixture
def x():
    return torch.randn(4, 3, 10, 8)


RULES = ["EpsilonPlusFlat", "EpsilonPlus", "gradient", "input_x_gradient", "integrated_gradients"]


@pytest.mark.parametrize("rule", RULES)
def test_along_axes_a_condition_is_that_on_the_unit(handle, x, rule):
    for direction, unit in ((0, 2), (1, 5)):
        one = explain(handle, x, rule=rule, given=[f"{LAYER}/axes/{direction}"], steps=4)
        other = explain(handle, x, rule=rule, given=[f"{LAYER}/unit/{unit}"], steps=4)
        torch.testing.assert_close(one.relevance, other.relevance, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(one.layers[LAYER] if one.layers else x, other.layers[LAYER] if other.layers else x)


@pytest.mark.parametrize("rule", RULES)
def test_all_directions_of_a_complete_basis_give_the_whole_map(handle, x, rule):
    whole = explain(handle, x, rule=rule, steps=4)
    given = [f"{LAYER}/turned/{i}" for i in range(9)]
    found = explain(handle, x, rule=rule, given=given, steps=4)
    torch.testing.assert_close(
        found.relevance, whole.relevance, rtol=1e-3, atol=1e-4 * float(whole.relevance.abs().max())
    )
    assert bool(torch.isnan(found.gap).all())


@pytest.mark.parametrize("rule", ["EpsilonPlusFlat", "gradient"])
def test_a_direction_as_target_is_its_projection(handle, x, rule):
    from workbench.models.hooks import record

    seen = []
    with record(handle.module, [LAYER], lambda _, t: seen.append(t.detach().clone())):
        handle(x)
    v = handle.layers.basis(LAYER, "turned").vectors[3]
    found = explain(handle, x, f"component:{LAYER}/turned/3", rule=rule)
    torch.testing.assert_close(found.start.score, torch.einsum("ncyx,c->n", seen[0], v), rtol=1e-4, atol=1e-5)
    if rule == "EpsilonPlusFlat":  # all activations are positive, so nothing is cut off, and no bias takes a part
        torch.testing.assert_close(found.relevance.flatten(1).sum(1), found.start.score, rtol=1e-3, atol=1e-4)


def test_maps_of_directions_are_conditional_ones(handle, x):
    given = [f"{LAYER}/turned/{i}" for i in (0, 4)] + [f"{LAYER}/unit/1"]
    maps, _, _ = concept_maps(handle, x[:1], given, at_once=2)
    for one, component in zip(maps, given, strict=True):
        torch.testing.assert_close(
            one, heat(explain(handle, x[:1], given=[component]).relevance)[0], rtol=1e-4, atol=1e-6
        )


def test_a_condition_names_components_of_one_basis_in_a_layer(handle, x):
    with pytest.raises(BadValueError, match="mixes the bases turned and unit"):
        explain(handle, x, given=[f"{LAYER}/turned/1", f"{LAYER}/unit/1"])
    both = explain(handle, x, given=[f"{LAYER}/turned/1", "features.1/unit/2"])
    assert bool(torch.isfinite(both.relevance).all())


def test_a_mask_and_directions_hold_both(handle, x):
    mask = torch.zeros(5, 4)
    mask[:2] = 1
    free = explain(handle, x, given=[f"{LAYER}/turned/1"]).relevance
    held = explain(handle, x, given=[f"{LAYER}/turned/1"], masks={LAYER: mask}).relevance
    rest = explain(handle, x, given=[f"{LAYER}/turned/1"], masks={LAYER: 1 - mask}).relevance
    torch.testing.assert_close(held + rest, free, rtol=1e-3, atol=1e-5)


def test_addresses_can_be_pinned(handle):
    pinned = handle.layers.pinned(f"{LAYER}/turned/3")
    assert pinned.basis.startswith("turned.") and pinned.index == 3
    before = handle.layers.basis(LAYER, pinned.basis).vectors.clone()
    handle.layers.add_directions(LAYER, "turned", torch.eye(9))
    assert torch.equal(handle.layers.basis(LAYER, pinned.basis).vectors, before)
    assert not torch.equal(handle.layers.basis(LAYER, "turned").vectors, before)
    assert str(handle.layers.pinned(f"{LAYER}/unit/3")) == f"{LAYER}/unit/3"
    assert handle.layers.bases(LAYER) == ["axes", "turned"]
    assert handle.variant([]).layers.bases(LAYER) == ["axes", "turned"]
