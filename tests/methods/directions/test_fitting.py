"""Rows and projections: parts and the whole give the same, whichever is copied."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.methods import SVMCAV, PatternCAV
from workbench.methods.directions.estimators import pattern, unit
from workbench.methods.directions.fitting import N_PARTS, Rows, fitted
from workbench.methods.directions.sets import Concept


def rows(n=120, c=6, seed=0):
    rng = np.random.default_rng(seed)
    return Rows(np.arange(n) * 2, rng.normal(size=(n, c)), rng.integers(0, 3, n), np.arange(n))


@pytest.mark.parametrize("n_used", [120, 100, 20])
def test_some_rows_are_combined_and_projected_as_if_alone(n_used):
    whole, rng = rows(), np.random.default_rng(1)
    used = np.sort(rng.choice(120, n_used, replace=False))
    weights, vectors = rng.normal(size=(3, n_used)), rng.normal(size=(2, 6))
    np.testing.assert_allclose(whole.combine(used, weights), weights @ whole.values[used], atol=1e-10)
    np.testing.assert_allclose(whole.project(used, vectors), whole.values[used] @ vectors.T, atol=1e-12)


def test_each_part_is_scored_by_a_pattern_of_the_others():
    """The slow way: for each held-out part, fit the others and project."""
    from workbench.methods.directions.separation import folds

    whole = rows()
    t = np.random.default_rng(2).random(120) < 0.3
    method = PatternCAV("l", positives=None, seed=4)
    found = fitted(method, Concept("c", whole.ids[t], None, np.zeros((0, 2), np.int64)), whole, ("a", "b", "c"))
    part = folds(t, whole.class_, N_PARTS, seed=4)
    for k in range(N_PARTS):
        train = part != k
        vector = unit(pattern(whole.values[train], t[train], whole.class_[train]))
        np.testing.assert_allclose(found["held_out"][part == k], whole.values[part == k] @ vector, atol=1e-6)


@pytest.mark.parametrize("kind", [PatternCAV, SVMCAV])
@pytest.mark.parametrize("k", [2, 5])
def test_views_of_one_original_make_no_direction_surer(kind, k):
    """Every sample k times: as views of one original all stays, as samples of their own it would seem surer."""
    if kind is SVMCAV:
        pytest.importorskip("sklearn")
    once, t = rows(n=60), np.random.default_rng(2).random(60) < 0.4
    values, class_ = np.repeat(once.values, k, axis=0), np.repeat(once.class_, k)
    n, origin = 60 * k, np.repeat(np.arange(60), k)
    views, own = (Rows(np.arange(n), values, class_, of) for of in (origin, np.arange(n)))

    def said(given, chosen):
        method = kind("l", positives=None, resamples=20, **({"C": 1.0} if kind is SVMCAV else {}))
        concept = Concept("c", given.ids[chosen], None, np.zeros((0, 2), np.int64))
        return [fitted(method, concept, given, ("a", "b", "c"))[name] for name in ("auc", "auc_error", "stability")]

    alone, together, apart = said(once, t), said(views, np.repeat(t, k)), said(own, np.repeat(t, k))
    np.testing.assert_allclose(together, alone, atol=1e-9 if kind is PatternCAV else 0.03)
    assert apart[1] < alone[1] / k**0.4 and 1 - apart[2] < (1 - alone[2]) / k**0.4


def test_a_filter_that_points_against_the_means_is_turned_round(monkeypatch):
    pytest.importorskip("sklearn")
    from workbench.methods.directions import filters

    whole = rows()
    t = np.random.default_rng(2).random(120) < 0.3
    concept = Concept("c", whole.ids[t], None, np.zeros((0, 2), np.int64))
    fit = filters.fit_filter

    def turned(*args, **options):
        made = fit(*args, **options)
        return filters.Filter(-made.vector, -made.intercept, made.middle, made.strength, {}, True)

    straight = fitted(SVMCAV("l", positives=None, C=1.0), concept, whole, ())
    monkeypatch.setattr(filters, "fit_filter", turned)
    found = fitted(SVMCAV("l", positives=None, C=1.0), concept, whole, ())
    assert found["mean_positive"] > found["mean_negative"] and "turned round" in found["warnings"][-1]
    np.testing.assert_allclose(found["vector"], straight["vector"], atol=1e-7)
    np.testing.assert_allclose(found["threshold"], straight["threshold"], atol=1e-9)
