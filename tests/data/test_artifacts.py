import numpy as np
import pytest

from workbench.core.errors import BadValueError, ShapeError
from workbench.data.artifacts import ARTIFACTS, caption, watermark


def picture(height=47, width=83):
    return np.random.default_rng(5).integers(60, 160, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ARTIFACTS)
@pytest.mark.parametrize("size", [(47, 83), (64, 64), (224, 200), (9, 5), (1, 1)])
def test_mask_is_exactly_what_changed(name, size):
    before = picture(*size)
    kept = before.copy()
    after, mask = ARTIFACTS[name](before, np.random.default_rng(3))
    assert np.array_equal(before, kept), "the given picture must not change"
    assert after.shape == before.shape and after.dtype == np.uint8 and mask.shape == size and mask.dtype == bool
    assert np.array_equal(after[~mask], before[~mask])
    if min(size) > 20:
        assert (after != before).any(-1)[mask].mean() > 0.9


@pytest.mark.parametrize("name", ARTIFACTS)
def test_same_generator_same_artifact(name):
    one, two, three = (ARTIFACTS[name](picture(), np.random.default_rng(s)) for s in (1, 1, 2))
    assert np.array_equal(one[0], two[0]) and np.array_equal(one[1], two[1])
    many = [ARTIFACTS[name](picture(), np.random.default_rng(s))[0] for s in range(8)]
    assert any(not np.array_equal(three[0], other) for other in many)


def test_text_is_the_callers():
    assert not np.array_equal(*(caption(picture(), np.random.default_rng(1), text=t)[0] for t in ("CAT", "DOG")))
    pale = watermark(picture(), np.random.default_rng(1), opacity=0.1)[0].astype(int)
    strong = watermark(picture(), np.random.default_rng(1), opacity=0.9)[0].astype(int)
    assert strong.sum() > pale.sum() > picture().astype(int).sum()


def test_wrong_input_is_refused():
    with pytest.raises(ShapeError):
        watermark(picture()[..., 0], np.random.default_rng(0))
    with pytest.raises(BadValueError):
        watermark(picture(), np.random.default_rng(0), opacity=2)
