"""Pieces of some samples in all of them: exact where the mask is whole, nothing changed where it is empty."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.core.errors import BadValueError, DataError, ShapeError
from workbench.data import Pasted, Planted, ToyData

N = 12


@pytest.fixture(scope="module")
def toy():
    return ToyData(n=N, artifact=None)


def square(size=64, at=slice(10, 20)):
    mask = np.zeros((size, size))
    mask[at, at] = 1
    return mask


def test_the_piece_is_the_donor_s_and_the_rest_is_the_sample_s(toy):
    found = Pasted(toy, {3: square(), 5: square(at=slice(40, 50))}, name="piece")
    assert len(found) == N and found.labels.tolist() == toy.labels.tolist() and found.classes == toy.classes
    donors = {found.donor(i) for i in range(N)}
    assert donors == {3, 5} and found.donor(3) == 5 and found.donor(5) == 3
    for i in range(N):
        donor = found.donor(i)
        at = slice(10, 20) if donor == 3 else slice(40, 50)
        made, own, other = found.picture(i), toy.picture(i), toy.picture(donor)
        assert (made[at, at] == other[at, at]).all()
        far = np.ones((64, 64), bool)
        far[max(at.start - 8, 0) : at.stop + 8, max(at.start - 8, 0) : at.stop + 8] = False
        assert (made[far] == own[far]).all()
        mask = found.masks(i)["piece"]
        assert mask[at, at].all() and not mask[far].any()
        np.testing.assert_allclose(np.moveaxis(found.tensor(i).numpy(), 0, 2), (made / 255 - 0.5) / 0.25, atol=1e-5)


def test_the_fingerprint_tells_masks_names_and_seeds_apart(toy):
    sets = [
        Pasted(toy, {3: square()}), Pasted(toy, {4: square()}), Pasted(toy, {3: square(at=slice(0, 9))}),
        Pasted(toy, {3: square()}, name="other"), Pasted(toy, {3: square()}, seed=1), toy,
        Pasted(toy, {3: square()}, donor_data=ToyData(n=N, seed=1)),
    ]  # fmt: skip
    assert len({str(one.fingerprint) for one in sets}) == len(sets)
    assert Pasted(toy, {3: square()}).fingerprint == sets[0].fingerprint


def test_masks_of_a_known_artifact_give_the_attack(toy):
    """Pasting a planted patch by its true mask is as good as planting it."""
    marked = Planted(toy, "patch")
    masks = {N + i: marked.masks(N + i)["patch"] for i in range(N)}
    found = Pasted(toy, masks, donor_data=marked)
    for i in range(4):
        donor = found.donor(i)
        mask = masks[donor]
        assert (found.picture(i)[mask] == marked.picture(donor)[mask]).all()


def test_a_wrong_piece_is_refused(toy):
    with pytest.raises(BadValueError, match="No donor has a mask"):
        Pasted(toy, {1: np.zeros((64, 64))})
    with pytest.raises(BadValueError, match="No sample 99"):
        Pasted(toy, {99: square()})
    with pytest.raises(ShapeError, match="values from 0 to 1"):
        Pasted(toy, {1: 3 * square()})
    with pytest.raises(ShapeError, match="the view is"):
        Pasted(toy, {1: square(32)}).tensor(0)
    with pytest.raises(DataError, match="in one"):
        Pasted(toy.using(lambda picture: picture), {1: square()})
