"""Directions in a session: localised without a target, projected on, and what is said of those that are not there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from workbench.core.errors import (
    BadValueError,
    DataError,
    IncompleteError,
    ShapeError,
    UnknownComponentError,
    UnknownSampleError,
)
from workbench.core.sampling import evenly
from workbench.data import PartWorld
from workbench.data.planted import Planted
from workbench.methods import PatternCAV
from workbench.testing.small import small_data


def cav(session, layer="relu_b", **options):
    return session.fit(PatternCAV(layer, **{"positives": [0, 4, 8], "scope": "all", "concept": "ant", **options}))


def test_without_a_target_a_direction_is_localised_by_itself(small):
    (address,) = cav(small).components()
    own = small.explain([3, 5], given=address)
    assert own.given == (address,) and own.target_text.startswith("component:relu_b/cav-ant.")
    same = small.explain([3, 5], f"component:{address}")
    assert torch.equal(own.heatmap, same.heatmap) and same.given == ()
    flowing = small.explain([3, 5], "top", given=address)
    assert not torch.equal(flowing.heatmap, own.heatmap) and flowing.target_text == "top"
    outside = small.explain(given=address, x=small.data.tensor(3).unsqueeze(0))
    torch.testing.assert_close(outside.heatmap[0], own.heatmap[0])


def test_below_a_direction_units_may_be_given_too(small):
    (address,) = cav(small).components()
    both = small.explain(3, given=[address, "relu_a/unit/1"])
    assert both.given == (address, "relu_a/unit/1") and both.target_text.startswith("component:")
    assert bool(torch.isnan(both.gap).all())
    above = small.explain(3, given=["relu_b/unit/1", *cav(small, "relu_a").components()])
    assert above.target_text == "top", "the unit is nearer to the output: what flows through both"


def test_several_directions_need_a_target(small):
    found = cav(small, positives={"a": [0, 4], "b": [1, 5]}).components()
    with pytest.raises(BadValueError, match="2 directions") as error:
        small.explain(3, given=found)
    assert 'target="top"' in error.value.hint
    assert small.explain(3, "top", given=found).heatmap.shape == (1, 12, 12)
    with pytest.raises(BadValueError, match="mixes the bases"):
        small.explain(3, given=[found[0], "relu_b/unit/1"])


def test_projections_are_of_pooled_activations(small):
    made = cav(small, pooling="mean")
    table = small.project(made)
    slow = np.asarray(small.activations("relu_b", pooling="mean").values) @ made.direction_
    np.testing.assert_allclose(np.asarray(table.values)[:, 0], slow, rtol=1e-5, atol=1e-6)
    for given in (made.directions_, made.directions_[0], made.components()[0], "relu_b/cav-ant"):
        np.testing.assert_array_equal(np.asarray(small.project(given).values), np.asarray(table.values))
    assert "projection" not in repr(table) and table.to_frame().columns.tolist() == made.components()
    references = small.references("relu_b", k=4, basis="cav-ant")
    assert references.of(0) == np.argsort(-slow, kind="stable")[:4].tolist() and references.recipe


REFUSED = {
    "no direction": (lambda s: s.project(3), BadValueError, "no direction"),
    "an unknown basis": (lambda s: s.project("relu_b/cav-bee"), UnknownComponentError, 'No basis "cav-bee"'),
    "units": (lambda s: s.project("relu_b/unit/3"), UnknownComponentError, "names no directions"),
    "an unknown one": (lambda s: s.project("relu_b/cav-ant/7"), UnknownComponentError, "No component 7"),
    "an unknown sample": (lambda s: s.pooled("relu_b", [1, 99]), UnknownSampleError, "No sample 99"),
    "another pooling": (lambda s: s.pooled("relu_b", pooling="sum"), BadValueError, "`pooling`"),
    "relevance": (lambda s: s.references("relu_b", "relevance", basis="cav-ant"), BadValueError, "of units"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_there_is_explained(small, what):
    cav(small)
    ask, kind, message = REFUSED[what]
    with pytest.raises(kind, match=message):
        ask(small)


def test_directions_of_another_layer_do_not_fit(small):

    made = cav(small).directions_[0]
    with pytest.raises(ShapeError, match="7 entries"):
        small.project(replace(made, layer="relu_a"))


def test_without_data_there_is_nothing_to_fit(open_small):
    with pytest.raises(DataError, match="no data"):
        cav(open_small(data=False))


def test_a_sweep_that_kept_references_alone_is_respected(small):
    small.sweep("relu_b", relevance=False, keep="references")
    with pytest.raises(IncompleteError, match="references alone"):
        cav(small)
    assert cav(small, negatives=[1, 2]).directions_[0].n_negative == 2


def test_a_selection_may_hold_a_direction(small):
    (address,) = cav(small).components()
    small.selection.component = address
    assert small.selection.component == address
    with pytest.raises(UnknownComponentError):
        small.selection.component = "relu_b/cav-bee/0"


def test_another_session_knows_what_it_fits(small, open_small):
    made = cav(small)
    other = open_small()
    assert other.directions() == {}
    again = cav(other)
    np.testing.assert_array_equal(again.direction_, made.direction_)
    assert other.explain(3, given=again.components()).recipe == small.explain(3, given=made.components()).recipe


def test_planted_directions_are_those_of_each_artifact_alone(open_small, small):
    world = PartWorld(n=40, artifacts={"band_aid": 0.5, "colour_cast": 0.5, "ruler": 0.0}, size=16)
    session = open_small(data=world)
    found = session.planted_directions("relu_b", pooling="mean", n=6)
    assert sorted(found) == ["band_aid", "colour_cast"], "nothing of the third was planted"
    alone = np.flatnonzero(world.planted[:, 1] & (world.planted.sum(1) == 1))
    chosen = alone[evenly(len(alone), 6)]
    difference = np.zeros(7)
    for data, sign in ((session.data, 1), (session.data.clean().using(session.data.transform), -1)):
        maps = []
        hook = session.model.module.relu_b.register_forward_hook(lambda *a, maps=maps: maps.append(a[2].detach()))
        session.model.module(data.batch(chosen.tolist())[0])
        hook.remove()
        difference += sign * maps[0].mean((2, 3)).double().mean(0).numpy()
    np.testing.assert_allclose(found["colour_cast"], difference / np.linalg.norm(difference), atol=1e-4)
    assert small.planted_directions("relu_b") == {}, "its data cannot leave anything out"
    with pytest.raises(BadValueError, match="pooling"):
        session.planted_directions("relu_b", pooling="sum")


def test_of_data_that_come_twice_the_planted_direction_is_that_of_the_twins(open_small):
    twins = Planted(small_data(), "colour_cast")
    session = open_small(data=twins)
    (name,) = found = session.planted_directions("relu_b", pooling="mean")
    values = np.asarray(session.activations("relu_b", pooling="mean").values, np.float64)
    difference = (values[24:] - values[:24]).mean(0)
    assert name == "colour_cast"
    np.testing.assert_allclose(found[name], difference / np.linalg.norm(difference), atol=1e-4)


def test_steering_knows_in_which_activations_a_direction_was_found(small):
    """One of the class token is steered in that token alone, so the layers of the model know the pooling."""
    found = small.fit(PatternCAV("relu_b", positives=range(8), scope="all", pooling="mean")).directions_
    basis = small.model.layers.basis
    assert basis("relu_b", found.basis).pooling == "mean"
    small.add_directions(replace(found, directions=tuple(replace(one, pooling="token") for one in found.directions)))
    assert basis("relu_b", found.basis).pooling == "token"
    assert small.variant("same", []).model.layers.basis("relu_b", found.basis).pooling == "token"
