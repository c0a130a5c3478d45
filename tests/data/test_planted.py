"""Twins differ by the artifact alone, whatever the transform, and are told apart by all that makes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.core.errors import DataError, UnknownNameError
from workbench.data import Planted, ToyData, Transform
from workbench.data.transforms import WrappedTransform
from workbench.testing.context import SmallData


@pytest.fixture(scope="module")
def toy():
    return ToyData(n=6, artifact=None)


@pytest.mark.parametrize("transform", [None, Transform(size=48, resize_short=60), Transform(size=(40, 64), crop="pad")])
def test_outside_of_the_mask_twins_are_equal(toy, transform):
    twins = Planted(toy, "patch")
    twins = twins if transform is None else twins.using(transform)
    for marked, clean in twins.pairs:
        one, two, mask = twins.tensor(marked), twins.tensor(clean), twins.masks(marked)["patch"]
        assert one.shape == two.shape and torch.equal(two, toy.using(twins.transform).tensor(clean))
        there = torch.from_numpy(mask)
        assert mask.any() and torch.equal(one[:, ~there], two[:, ~there])
        assert bool((one != two).any(0)[there].float().mean() > 0.9)
        np.testing.assert_array_equal(twins.picture(marked)[~mask], twins.picture(clean)[~mask])


def test_what_twins_share_and_do_not(toy):
    twins = Planted(toy, "ruler")
    assert len(twins) == 12 and twins.n_origins == 6 and twins.name == "toy+ruler"
    assert (
        twins.labels.tolist() == [*toy.labels, *toy.labels] and twins.has_artifact.tolist() == [False] * 6 + [True] * 6
    )
    assert twins.keys[6] == f"{toy.keys[0]}+ruler" and "ruler" not in twins.masks(0)
    assert set(toy.masks(0)) < set(twins.masks(6))
    assert twins.item(7).image.size == (twins.tensor(7).shape[2], twins.tensor(7).shape[1])


def test_fingerprints_cover_all_that_makes_them(toy):
    made = [
        Planted(toy, "patch"),
        Planted(toy, "ruler"),
        Planted(toy, "patch", strength=0.5),
        Planted(toy, "patch", seed=1),
        Planted(ToyData(n=6, artifact=None, seed=1), "patch"),
    ]
    assert len({one.fingerprint.digest for one in made}) == 5
    assert made[0].fingerprint.digest == Planted(toy, "patch").fingerprint.digest


def test_no_strength_is_no_artifact(toy):
    twins = Planted(toy, "patch", strength=0)
    assert torch.equal(twins.tensor(7), twins.tensor(1)) and not twins.masks(7)["patch"].any()


def test_a_function_of_one_s_own(toy):
    def dot(picture, rng):
        mask = np.zeros(picture.shape[:2], bool)
        mask[3, 4] = True
        return np.where(mask[..., None], 255 - picture, picture), mask

    twins = Planted(toy, dot)
    assert twins.artifact_name == "dot" and twins.masks(6)["dot"].sum() == 1
    assert bool((twins.tensor(6) != twins.tensor(0)).any(0).sum() == 1)


def test_what_cannot_be_read_costs_itself_and_its_twin():
    twins = Planted(SmallData(5, bad=[2]), "patch")
    _, read, skipped = twins.batch(range(10))
    assert read == [0, 1, 3, 4, 5, 6, 8, 9] and [one.sample for one in skipped] == [2, 7]


def test_what_is_refused(toy):
    with pytest.raises(UnknownNameError, match="ruler"):
        Planted(toy, "rulr")
    twins = Planted(toy, "patch").using(WrappedTransform(function=toy.transform))
    with pytest.raises(DataError, match="between cropping and normalising"):
        twins.tensor(6)
