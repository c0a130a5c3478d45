"""Masks of a direction lie on the planted artifact, and those of a shuffled one do not."""

from __future__ import annotations

import numpy as np
import pytest

import workbench as wb
from workbench.core.errors import BadValueError, ShapeError, UnknownSampleError
from workbench.methods import ArtifactMasks, PatternCAV
from workbench.methods.reveal.masks import RECIPES, binary, blurred, iou, measured, mirrored, otsu, sized, soft

LAYER = "features.8"


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    toy = wb.data.ToyData(n=240, split="val", artifact_class=None, artifact_share=0.3)
    with wb.open_session("toy-cnn", data=toy, store=tmp_path_factory.mktemp("masks")) as session:
        yield session


@pytest.fixture(scope="module")
def cav(session):
    return session.fit(PatternCAV(LAYER, positives=np.flatnonzero(session.data.has_artifact)[:40], concept="patch"))


# The IoU reached, with the margin that another machine may take.
@pytest.mark.parametrize(("recipe", "least"), [("threshold", 0.65), ("otsu", 0.7), ("percentile", 0.4)])
def test_they_lie_on_the_planted_patch(session, cav, recipe, least):
    made = session.fit(ArtifactMasks(cav, recipe=recipe))
    found = made.quality().mean()
    assert len(made.quality()) == 40 and made.masks_.shape == (40, 64, 64) == made.soft_.shape
    assert found.iou >= least and found.chance < 0.03
    assert found.inside > 0.5 and found.area < 0.04, "half of the relevance in a thirtieth of the picture"


def test_a_shuffled_direction_falls_towards_chance(session, cav):
    made = session.fit(ArtifactMasks(cav, recipe="otsu"))
    own, control = made.quality().mean(), made.control(n=3).mean()
    assert control.iou < 0.2 < 0.7 < own.iou and control.inside < 0.2 < own.inside
    assert not [k for k in session.model.layers._bases if "mask-source" in k[1]]
    assert "shuffled" not in " ".join(session.directions())


def test_a_second_fit_loads_and_keeps_every_bit(session, cav):
    one, two = session.fit(ArtifactMasks(cav)), session.fit(ArtifactMasks(cav))
    np.testing.assert_array_equal(one.masks_, two.masks_)
    np.testing.assert_array_equal(one.soft_, two.soft_)
    sample = int(one.index_[3])
    np.testing.assert_array_equal(two.of(sample), one.masks_[3])
    with pytest.raises(UnknownSampleError, match="No mask of sample"):
        two.of(1_000)


def test_they_are_made_of_the_samples_named(session, cav):
    made = session.fit(ArtifactMasks(cav, samples=[5, 3]))
    assert made.index_.tolist() == [3, 5]
    given = np.zeros((2, 64, 64), bool)
    given[0, 4:9] = True
    assert list(made.quality(given).index) == [3]
    with pytest.raises(ShapeError, match="True masks"):
        made.quality(given[:1])


def test_relevance_is_that_of_the_direction_alone(session, cav):
    made = session.fit(ArtifactMasks(cav, samples=[0, 2]))
    (address,) = cav.components()
    heat = np.maximum(np.asarray(session.explain([0, 2], given=address).heatmap), 0)
    np.testing.assert_allclose(made.soft_ / 255, heat / heat.max((1, 2), keepdims=True), atol=0.003)


@pytest.mark.parametrize(
    ("how", "message"),
    [({"recipe": "best"}, "recipe"), ({"cav": 3}, "concept activation vector"), ({"samples": []}, "No samples")],
)
def test_what_is_refused(session, cav, how, message):
    with pytest.raises(BadValueError, match=message):
        session.fit(ArtifactMasks(**{"cav": cav, **how}))


def test_several_directions_are_refused(session):
    several = PatternCAV(LAYER, positives={"a": [0, 6], "b": [1, 7]}, scope="all")
    with pytest.raises(BadValueError, match="2 directions"):
        session.fit(ArtifactMasks(several))


# Pure functions, each with its slow twin ------------------------------------------------------------------------------


def test_the_blur_is_that_of_the_formula():
    x, radius, sigma = np.random.default_rng(0).random((7, 5)), 3, 1.7
    kernel = np.array([np.exp(-(k**2) / (2 * sigma**2)) for k in range(-radius, radius + 1)])
    kernel /= kernel.sum()
    padded = np.pad(x, radius, mode="reflect")
    slow = np.zeros_like(x)
    for i in range(7):
        for j in range(5):
            part = padded[i : i + 2 * radius + 1, j : j + 2 * radius + 1]
            slow[i, j] = (part * kernel[:, None] * kernel[None]).sum()
    np.testing.assert_allclose(blurred(x, radius, sigma), slow, atol=1e-12)
    assert mirrored(np.arange(-3, 6), 3).tolist() == [1, 2, 1, 0, 1, 2, 1, 0, 1] and mirrored(np.array([-2]), 1) == [0]


def test_otsu_is_the_best_of_all_thresholds():
    rng = np.random.default_rng(1)
    x = np.concatenate([rng.normal(0.2, 0.05, 300), rng.normal(0.7, 0.08, 60)]).clip(0, 1)
    counts, edges = np.histogram(x, 256)
    middle = (edges[1:] + edges[:-1]) / 2

    def between(k):
        a, b = counts[: k + 1], counts[k + 1 :]
        if not a.sum() or not b.sum():
            return -1
        means = (a @ middle[: k + 1] / a.sum(), b @ middle[k + 1 :] / b.sum())
        return a.sum() * b.sum() * (means[0] - means[1]) ** 2

    best = max(range(256), key=between)
    assert otsu(x) == pytest.approx(edges[best + 1]) and 0.35 < otsu(x) < 0.6


def test_recipes_on_a_square():
    heat = np.zeros((1, 64, 64))
    heat[0, 20:32, 20:32] = 2.0
    heat[0, 5, 5] = 0.1
    true = heat[0] > 1
    for recipe in RECIPES:
        mask = binary(soft(heat)[0], recipe)
        assert mask.dtype == bool and (mask & true).sum() == true.sum(), recipe
        assert recipe == "percentile" or not mask[5, 5], "which takes as much as there is"
    assert not binary(np.zeros((4, 4), np.uint8), "otsu").any()
    assert soft(np.full((1, 2, 2), -1.0)).tolist() == [[[0, 0], [0, 0]]]


def test_overlap_and_what_chance_gives():
    one, other = np.zeros((20, 20), bool), np.zeros((20, 20), bool)
    one[:10], other[5:15] = True, True
    assert iou(one, other) == 5 / 15 and iou(one & False, one & False) == 0
    overlap, chance, inside, area = measured(np.where(one, 255, 0).astype(np.uint8), one, other)
    rng = np.random.default_rng(0)
    drawn = np.mean([iou(rng.permutation(one.ravel()), other.ravel()) for _ in range(300)])
    assert overlap == 1 / 3 and chance == pytest.approx(drawn, abs=0.01) and (inside, area) == (0.5, 0.5)


def test_masks_of_another_size_are_taken_at_the_nearest_pixel():
    mask = np.zeros((4, 4), bool)
    mask[1, 2] = True
    assert np.argwhere(sized(mask, (8, 8))).tolist() == [[2, 4], [2, 5], [3, 4], [3, 5]]
    assert sized(mask, (4, 4)) is mask or (sized(mask, (4, 4)) == mask).all()
    assert not sized(None, (3, 2)).any()


def test_they_are_a_mapping_for_what_takes_masks(session, cav):
    made = session.fit(ArtifactMasks(cav, samples=[5, 3]))
    mapping = made.to_mapping()
    assert list(mapping) == [3, 5] and np.array_equal(mapping[5], made.of(5))
    with pytest.raises(BadValueError, match="not fitted yet"):
        ArtifactMasks(cav).to_mapping()
    ask = {"attacked": session.data, "samples": [3, 5], "n_explained": 2}
    found = [session.reevaluate(masks=masks, **ask).relevance for masks in (made, mapping)]
    np.testing.assert_array_equal(*found)
    assert found[0].shape == (1, 2) and (found[0] > 0).all()
