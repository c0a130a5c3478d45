"""Areas, precisions and their errors, each against all pairs or the formula."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.methods.directions.separation import (
    area_error,
    auc,
    average_precision,
    cells,
    class_auc,
    folds,
    hanley_mcneil,
)


def slow_auc(scores, t):
    pairs = [(a, b) for a in scores[t] for b in scores[~t]]
    return sum((a > b) + 0.5 * (a == b) for a, b in pairs) / len(pairs)


def test_the_area_is_the_share_of_pairs_in_order():
    rng = np.random.default_rng(0)
    t = rng.random(60) < 0.3
    scores = np.round(rng.normal(size=60) + t, 1)  # with ties
    assert auc(scores, t) == pytest.approx(slow_auc(scores, t))
    assert auc(-scores, t) == pytest.approx(1 - slow_auc(scores, t))
    assert auc(np.zeros(60), t) == 0.5
    assert np.isnan(auc(scores, np.zeros(60, bool))) and np.isnan(auc(scores[t], t[t]))


def test_within_strata_only_pairs_of_one_stratum_count():
    rng = np.random.default_rng(0)
    t, strata = rng.random(60) < 0.3, rng.integers(0, 3, 60)
    scores = rng.normal(size=60) + 5 * strata
    won = pairs = 0
    for k in range(3):
        own = strata == k
        n = int(t[own].sum() * (~t[own]).sum())
        won, pairs = won + n * slow_auc(scores[own], t[own]), pairs + n
    assert auc(scores, t, strata) == pytest.approx(won / pairs)
    lacking = scores.copy()
    lacking[:20] = np.nan
    assert auc(lacking, t) == pytest.approx(slow_auc(scores[20:], t[20:]))


def test_the_error_is_that_of_hanley_and_mcneil():
    """Their own example: an area of 0.893 from 51 and 58 cases has a standard error of about 0.0325."""
    assert hanley_mcneil(0.893, 51, 58) == pytest.approx(0.0325, abs=5e-5)
    assert hanley_mcneil(1.0, 10, 10) == 0
    assert np.isnan(hanley_mcneil(float("nan"), 3, 3)) and np.isnan(hanley_mcneil(0.7, 0, 3))
    t, origins = np.array([1, 1, 1, 0, 0, 0, 0]), np.array([4, 4, 2, 2, 7, 9, 9])
    assert area_error(0.8, t) == hanley_mcneil(0.8, 3, 4) and area_error(0.8, t, origins) == hanley_mcneil(0.8, 2, 3)


def test_average_precision_against_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(0)
    t = rng.random(80) < 0.3
    for scores in (rng.normal(size=80) + t, np.round(rng.normal(size=80) + t), np.zeros(80)):
        assert average_precision(scores, t) == pytest.approx(metrics.average_precision_score(t, scores))
    assert np.isnan(average_precision([1.0], [True])) and np.isnan(average_precision([1.0, 2], [False, False]))


def test_the_class_alone_tells_nothing_where_the_concept_is_spread():
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 2000)
    assert class_auc(rng.random(4000) < 0.3, y) == pytest.approx(0.5, abs=0.03)
    t = rng.random(4000) < np.where(y == 1, 0.8, 0.02)
    expected = 0.5 * (1 + t[y == 1].sum() / t.sum() - (~t)[y == 1].sum() / (~t).sum())
    assert class_auc(t, y) == pytest.approx(expected, abs=0.01) and expected > 0.85
    many = class_auc(rng.random(600) < 0.03, np.arange(600) % 300)
    assert many < 0.6, "two samples a class tell nothing, though each class's own share seems to"
    assert np.isnan(class_auc([True, False], [-1, -1]))


def test_each_part_has_its_share_of_every_cell():
    rng = np.random.default_rng(0)
    t, strata = rng.random(200) < 0.3, rng.integers(0, 3, 200)
    part = folds(t, strata, 4, seed=1)
    assert np.ptp(np.bincount(part)) <= 1
    for k in range(3):
        for on in (True, False):
            assert np.ptp(np.bincount(part[(strata == k) & (t == on)], minlength=4)) <= 1
    assert (part == folds(t, strata, 4, seed=1)).all() and (part != folds(t, strata, 4, seed=2)).any()


def test_views_of_one_picture_are_held_out_together():
    rng = np.random.default_rng(0)
    origins, t = np.repeat(np.arange(40), 5), np.repeat(rng.random(40) < 0.3, 5)
    part = folds(t, np.zeros(200, int), 4, seed=1, origins=origins)
    assert all(len(set(part[origins == o].tolist())) == 1 for o in range(40))
    assert np.ptp(np.bincount(part)) <= 5 and np.ptp(np.bincount(part[t])) <= 5


def test_cells_are_numbered_by_stratum_then_by_concept():
    rng = np.random.default_rng(3)
    strata, t = rng.choice([-1, 2, 7], 60), rng.random(60) < 0.4
    pairs = sorted(set(zip(strata.tolist(), t.tolist(), strict=True)))
    slow = [pairs.index((s, on)) for s, on in zip(strata.tolist(), t.tolist(), strict=True)]
    assert cells(strata, t).tolist() == slow
    assert cells([0, 0], [True, True]).tolist() == [0, 0] and cells([], []).size == 0
