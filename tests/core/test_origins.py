"""Intervals, errors and tests over originals: slow twins, and views that are no new evidence."""

from __future__ import annotations

import math

import numpy as np
import pytest

from workbench.core.errors import ShapeError
from workbench.core.origins import error_of_mean, mcnemar, middle, number_of, paired, places


def views(k, values):
    """Every sample k times, in mixed order, as views of one original."""
    order = np.random.default_rng(1).permutation(k * len(values))
    return np.repeat(values, k, axis=0)[order], np.repeat(np.arange(len(values)) * 7 + 3, k)[order]


def uneven(n=60, seed=0):
    """Views of originals of one to five views, that depend on one another."""
    rng = np.random.default_rng(seed)
    origins = rng.permutation(np.repeat(np.arange(n), rng.integers(1, 6, n)))
    return (rng.normal(size=n)[origins] + 0.3 * rng.normal(size=len(origins)) > 0).astype(float), origins


def test_originals_are_numbered_as_they_come():
    assert places([7, 3, 7, 9, 3], 5).tolist() == [0, 1, 0, 2, 1] and places(None, 3).tolist() == [0, 1, 2]
    assert number_of([7, 3, 7], 3) == 2 and number_of(None, 4) == 4 and number_of([], 0) == 0
    with pytest.raises(ShapeError, match="5 samples need an original each"):
        places([1, 2], 5)


@pytest.mark.parametrize("k", [2, 5])
def test_views_of_the_same_narrow_nothing(k):
    rng = np.random.default_rng(0)
    values = rng.random(40)
    before, after = (rng.random((2, 40)) < [[0.5], [0.8]]).astype(bool)
    many, origins = views(k, values)
    np.testing.assert_allclose(middle(many, origins), middle(values), atol=0.03)
    assert np.ptp(middle(many)) < 0.85 * np.ptp(middle(values)), "counted as samples they would"
    assert error_of_mean(many, origins) == pytest.approx(error_of_mean(values))
    assert error_of_mean(many) == pytest.approx(error_of_mean(values) / math.sqrt(k), rel=0.03)
    both, origins = views(k, np.stack([before, after], 1))
    found, one = paired(*both.T, origins), paired(before, after)
    assert found == pytest.approx(one) and found[3] == one[3]
    assert paired(*both.T)[3] < one[3]


def test_the_bootstrap_draws_originals_with_all_their_views():
    """The slow twin: draw originals, take all of their views, take the mean."""
    values, origins = uneven()
    groups = [values[origins == g] for g in np.unique(origins)]
    rng = np.random.default_rng(5)
    slow = [np.concatenate([groups[i] for i in rng.integers(0, len(groups), len(groups))]).mean() for _ in range(4000)]
    np.testing.assert_allclose(middle(values, origins), np.percentile(slow, [2.5, 97.5]), atol=0.012)
    assert np.ptp(middle(values)) < 0.8 * np.ptp(middle(values, origins))
    # The error is the spread of the same draws.
    assert error_of_mean(values, origins) == pytest.approx(np.std(slow), rel=0.07)


def test_of_single_samples_everything_is_the_usual_formula():
    rng = np.random.default_rng(3)
    values = rng.random((50, 2, 3))
    usual = values.std(0, ddof=1) / math.sqrt(50)
    for origins in (None, rng.permutation(50)):
        np.testing.assert_allclose(error_of_mean(values, origins), usual)
    # As it was computed before there were originals: counts of the different values, drawn at once.
    kinds, counts = np.unique(values[:, 0, 0], return_counts=True)
    drawn = np.random.default_rng(0).multinomial(50, counts / 50, size=2000)
    assert middle(values[:, 0, 0]) == tuple(np.percentile(drawn @ kinds / 50, [2.5, 97.5]))


def test_fewer_than_two_originals_say_nothing():
    assert np.isnan(middle([1.0, 0.0], [4, 4])).all() and np.isnan(error_of_mean([[1.0], [0.0]], [4, 4])).all()
    assert np.isnan(middle([])).all() and np.isnan(paired([], [])).all() and np.isnan(error_of_mean(np.zeros(0)))


def test_a_test_of_pairs_is_the_exact_binomial_test_of_originals():
    stats = pytest.importorskip("scipy.stats")
    for gained, lost in ((0, 1), (3, 9), (10, 10), (0, 30), (200, 150)):
        expected = stats.binomtest(gained, gained + lost, 0.5).pvalue
        assert mcnemar(gained, lost) == pytest.approx(min(1.0, expected), rel=1e-9)
    assert mcnemar(0, 0) == 1.0
    # Original 1 gained two views and lost one, 2 gained and lost one, 3 and 4 lost: one against two.
    before = np.array([0, 0, 1, 0, 1, 1, 1, 1], bool)
    after = np.array([1, 1, 0, 1, 0, 0, 0, 1], bool)
    assert paired(before, after, [1, 1, 1, 2, 2, 3, 4, 4])[3] == mcnemar(1, 2)
