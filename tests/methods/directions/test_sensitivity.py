"""Derivatives along directions against finite differences and autograd, and what is concluded from signs."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.methods.directions.estimators import unit
from workbench.methods.directions.sensitivity import (
    all_slopes,
    band,
    bootstrap_scores,
    holm,
    is_constant,
    p_two_sided,
    p_values,
    slopes,
    tcav_score,
)
from workbench.models.edits import Edit
from workbench.testing.nets import handle_of, randomised, small_vgg

LAYER = "3"  # after a pooling, with layers that are not linear above


@pytest.fixture(scope="module")
def handle():
    return handle_of(randomised(small_vgg()), (3, 17, 13))


@pytest.fixture
def x():
    return torch.randn(5, 3, 17, 13, generator=torch.Generator().manual_seed(0))


def vectors(n=3, c=5):
    return np.stack([unit(v) for v in np.random.default_rng(0).normal(size=(n, c))])


def test_derivatives_are_those_of_small_steps(handle, x):
    """A step along the direction at all positions changes the output by the number of positions times the mean."""
    v = vectors()
    found = slopes(handle, x, LAYER, v, 2)
    n_positions = int(np.prod(handle.layers[LAYER].position_shape))
    for i, vector in enumerate(v):
        step = 1e-3
        outputs = [handle.variant([Edit("add", LAYER, value=s, array=vector)])(x)[:, 2] for s in (-step, step)]
        slope = ((outputs[1] - outputs[0]) / (2 * step)).numpy()
        np.testing.assert_allclose(found.mean[:, i] * n_positions, slope, rtol=0.05, atol=0.02 * np.abs(slope).max())
    assert (found.absolute >= np.abs(found.mean)).all() and (found.positive + found.negative <= n_positions).all()


def test_all_outputs_at_once_are_those_one_by_one(handle, x):
    v = vectors()
    both = all_slopes(handle, x, LAYER, v)
    assert both.shape == (5, handle.n_classes, 3)
    for k in range(handle.n_classes):
        np.testing.assert_allclose(both[:, k], slopes(handle, x, LAYER, v, k).mean, rtol=1e-3, atol=1e-6)


def test_no_hook_remains(handle, x):
    slopes(handle, x, LAYER, vectors(), 0)
    all_slopes(handle, x, LAYER, vectors())
    assert not any(m._forward_hooks or "forward" in vars(m) for m in handle.module.modules())


def test_a_turned_direction_has_one_minus_the_score_and_its_length_does_not_matter(handle, x):
    v = vectors()
    score, turned, longer = (tcav_score(slopes(handle, x, LAYER, w, 1).mean) for w in (v, -v, 7.5 * v))
    np.testing.assert_allclose(turned, 1 - score, atol=1e-15)
    np.testing.assert_array_equal(longer, score)


def test_exact_zeros_are_counted_apart_and_a_head_of_zeros_is_undefined():
    np.testing.assert_array_equal(tcav_score(np.array([[1.0, 0], [-2, 0], [0, 0], [3, 0]])), [2 / 3, np.nan])
    low, high = bootstrap_scores(np.array([[1.0, 0], [-2, 0], [0, 0], [3, 0]]), 100, seed=0)
    assert 0 <= low[0] < high[0] <= 1 and np.isnan([low[1], high[1]]).all()
    assert np.isnan(bootstrap_scores(np.ones((1, 1)), 100, seed=0)[0]).all()


def test_intervals_are_over_images():
    """A share of 0.7 of 100 images: the interval is about 1.96 * sqrt(0.7 * 0.3 / 100) to both sides."""
    mean = np.where(np.arange(100) < 70, 1.0, -1.0)[:, None]
    low, high = bootstrap_scores(mean, 4000, seed=0)
    assert high[0] - low[0] == pytest.approx(2 * 1.96 * np.sqrt(0.21 / 100), abs=0.02)


@pytest.mark.parametrize("k", [2, 5])
def test_views_of_one_original_narrow_no_interval(k):
    """Every image k times; as views of one original the interval stays, as images of their own it would be narrower."""
    mean = np.random.default_rng(1).normal(0.3, 1, (60, 3))
    many, origins = np.repeat(mean, k, axis=0), np.repeat(np.arange(60), k)
    one = np.stack(bootstrap_scores(mean, 500, seed=0))
    np.testing.assert_array_equal(np.stack(bootstrap_scores(many, 500, seed=0, origins=origins)), one)
    assert (np.ptp(np.stack(bootstrap_scores(many, 500, seed=0)), 0) < 0.85 * np.ptp(one, 0)).all()
    # Each its own original: as without any. The slow twin draws images.
    np.testing.assert_array_equal(np.stack(bootstrap_scores(mean, 500, seed=0, origins=np.arange(60)[::-1])), one)
    rng = np.random.default_rng(2)
    slow = [tcav_score(mean[rng.integers(0, 60, 60)]) for _ in range(2000)]
    np.testing.assert_allclose(one, np.percentile(slow, [2.5, 97.5], axis=0), atol=0.04)
    assert np.isnan(bootstrap_scores(many, 500, seed=0, origins=np.zeros(60 * k))[0]).all()


def test_a_further_random_direction_is_outside_of_the_band_five_times_in_a_hundred():
    """Whatever the null looks like; and a p below a level comes as often as the level says."""
    rng = np.random.default_rng(0)
    for draw in (rng.normal, rng.exponential):
        null, value = draw(size=(4000, 79)), draw(size=4000)
        low, high = band(null)
        assert np.mean((value < low) | (value > high)) == pytest.approx(0.05, abs=0.012)
        p = p_two_sided(value, null)
        for level in (0.05, 0.2, 0.5):
            assert np.mean(p <= level + 1e-12) == pytest.approx(level, abs=0.025)


def test_two_sided_p_against_its_definition():
    null = np.array([[1.0, 2, 3, 4, np.nan], [-1, -2, 5, 6, 7]])
    assert p_two_sided(np.array([9.0, -9]), null) == pytest.approx([2 / 5, 2 / 6])
    assert p_two_sided(np.array([3.5, np.nan]), null)[0] == pytest.approx(2 * 2 / 5)
    assert p_two_sided(np.array([2.5, 0]), null) == pytest.approx([1, 1])
    assert np.isnan(p_two_sided(np.array([2.5, np.nan]), null)[1])
    assert np.isnan(p_two_sided(np.ones(1), np.zeros((1, 0)))).all() and np.isnan(band(np.zeros((1, 0)))).all()
    assert p_two_sided(np.array([1.0]), np.full((1, 99), 1 + 1e-13))[0] == 1, "rounding errors are no difference"
    low, high = band(np.array([np.arange(39.0)]))
    assert (low[0], high[0]) == (0, 38)


def test_holm_against_its_definition():
    p = np.array([0.04, 0.01, np.nan, 0.03, 0.005])
    expected = {4: 0.005 * 4, 1: 0.01 * 3, 3: 0.03 * 2, 0: 0.06}
    found = holm(p)
    assert np.isnan(found[2])
    for i, value in expected.items():
        assert found[i] == pytest.approx(value)
    assert holm(np.array([0.5, 0.9])).tolist() == [1.0, 1.0] and holm(np.array([0.02])).tolist() == [0.02]


def test_a_score_is_compared_with_those_of_random_directions():
    null = np.array([[0.5, 0.4, 0.9, 0.1, np.nan]] * 3)
    p = p_values(np.array([0.9, 0.5, np.nan]), null)
    assert p[0] == pytest.approx(3 / 5) and p[1] == 1 and np.isnan(p[2])
    assert p_values(np.array([1.0]), np.full((1, 50), 0.6))[0] == pytest.approx(1 / 51)


def test_a_linear_rest_of_the_model_is_noticed(handle, x):
    linear = slopes(handle, x, "11", np.eye(6)[:2], 0) if "11" in handle.layers else None
    assert linear is None or is_constant(linear.mean)
    assert not is_constant(slopes(handle, x, LAYER, vectors(), 0).mean)
    assert not is_constant(np.zeros((5, 2))) and not is_constant(np.ones((2, 1)))
