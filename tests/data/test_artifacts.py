from importlib.util import find_spec

import numpy as np
import pytest
from PIL import Image

from workbench.core.errors import BadValueError, MissingPackageError, ShapeError, UnknownNameError
from workbench.data import artifacts
from workbench.data.artifacts import ARTIFACTS, band_aid, caption, plant, shortcut, timestamp, watermark

THERE = [name for name in ARTIFACTS if name != "imagenet-w" or find_spec("imagenet_w")]


def picture(height=47, width=83):
    return np.random.default_rng(5).integers(60, 160, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", THERE)
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


@pytest.mark.parametrize("name", [name for name in THERE if name != "imagenet-w"])  # which has one place
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


@pytest.mark.parametrize("name", THERE)
def test_float_pictures_are_not_rounded_and_give_the_same(name):
    before = picture().astype(np.float32) + np.float32(0.25)
    after, mask = ARTIFACTS[name](before, np.random.default_rng(3))
    assert after.dtype == np.float32 and np.array_equal(after[~mask], before[~mask])
    whole, same_mask = ARTIFACTS[name](picture(), np.random.default_rng(3))
    assert np.array_equal(mask, same_mask) and np.abs(after - whole).max() < 1


@pytest.mark.parametrize("name", THERE)
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
def test_planted_at_any_strength(name, kind):
    before = picture().astype(kind)
    full, mask = plant(name, before, np.random.default_rng(3))
    assert np.array_equal(full, ARTIFACTS[name](before, np.random.default_rng(3))[0])
    last = np.zeros(before.shape)
    for strength in (0.2, 0.5, 0.9):
        faint, same_mask = plant(name, before, np.random.default_rng(3), strength=strength)
        change = np.abs(faint.astype(float) - before)
        assert faint.dtype == kind and np.array_equal(mask, same_mask) and change[~mask].max(initial=0) == 0
        assert (change >= last).all() and np.allclose(change, strength * np.abs(full.astype(float) - before), atol=0.51)
        last = change
    none, empty = plant(name, before, np.random.default_rng(3), strength=0)
    assert np.array_equal(none, before) and none is not before and not empty.any()


def test_the_plaster_lies_inside_and_has_a_darker_pad():
    for seed in range(20):
        after, mask = band_aid(np.zeros((60, 90, 3), np.uint8), np.random.default_rng(seed))
        assert not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())
        y, x = np.nonzero(mask)
        middle = after[round(y.mean()), round(x.mean())].astype(int)
        # Most of the strip is beige; its very middle is the pad.
        assert 100 < len(y) < 350 and middle.sum() < np.median(after[mask].astype(int).sum(-1))


def test_the_date_lies_in_a_corner_and_differs():
    centres, pictures = [], []
    for seed in range(40):
        after, mask = timestamp(picture(80, 80), np.random.default_rng(seed))
        y, x = np.nonzero(mask)
        centres.append((y.mean() > 40, x.mean() > 40))
        pictures.append(after[mask].tobytes())
        assert 0.03 < mask.mean() < 0.15 and (y.max() < 40 or y.min() > 40)
    assert len(set(centres)) == 4 and len(set(pictures)) == 40


def test_wrong_plantings_are_refused():
    rng = np.random.default_rng(0)
    with pytest.raises(UnknownNameError, match='Nearest: "timestamp"'):
        plant("timestmp", picture(), rng)
    with pytest.raises(BadValueError, match="strength"):
        plant("ruler", picture(), rng, strength=1.1)
    with pytest.raises(ShapeError, match="uint8 or float32"):
        plant("ruler", picture().astype(np.float64), rng)
    with pytest.raises(ShapeError, match="same shape"):
        plant(lambda one, rng: (one[1:], one[..., 0] > 0), picture(), rng)


@pytest.mark.parametrize("size", [224, 384, 150])
def test_the_published_watermark_is_the_package_s(size):
    package = pytest.importorskip("imagenet_w")
    before = picture(size, size)
    ours, mask = shortcut(before, np.random.default_rng(0))
    theirs = np.asarray(package.AddWatermark(image_size=size)(Image.fromarray(before)))
    assert np.abs(ours.astype(int) - theirs).max() <= 1, "they differ by rounding alone"
    assert 0.005 < mask.mean() < 0.08 and np.array_equal(theirs[~mask], before[~mask])


def test_without_its_font_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(artifacts, "find_spec", lambda name: None)
    artifacts._serif.cache_clear()
    with pytest.raises(MissingPackageError, match="imagenet-w") as error:
        shortcut(picture(), np.random.default_rng(0))
    assert "--no-deps imagenet-w" in error.value.hint
