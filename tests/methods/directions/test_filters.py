"""Filters: each solves its objective as written, in the units of the activations, classes being no part of it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from workbench.core.errors import MissingPackageError
from workbench.methods.directions import filters
from workbench.methods.directions.estimators import pattern, unit
from workbench.methods.directions.filters import GRID, fit_filter, quick_ridge

pytest.importorskip("sklearn")


def rows(n=160, c=6, *, seed=0):
    rng = np.random.default_rng(seed)
    t = rng.random(n) < 0.25
    x = rng.normal(size=(n, c)) @ rng.normal(size=(c, c)) + t[:, None] * rng.normal(size=c)
    return x, t


def objective(kind, w, b, x, t, strength):
    """As the card writes it, with class-balanced weights whose largest is 1."""
    n1, n0 = t.sum(), (~t).sum()
    omega = np.where(t, 1 / n1, 1 / n0)
    omega, sign = omega / omega.max(), np.where(t, 1.0, -1.0)
    score = x @ w + b
    if kind == "svm":
        return 0.5 * w @ w + strength * (omega * np.maximum(0, 1 - sign * score) ** 2).sum()
    if kind == "logistic":
        return (omega * np.log1p(np.exp(-sign * score))).sum() + w @ w / (2 * strength)
    penalty = strength * (w @ w if kind == "ridge" else np.abs(w).sum())
    return (omega * (sign - score) ** 2).sum() + penalty


@pytest.mark.parametrize("kind", filters.KINDS)
@pytest.mark.parametrize("strength", [0.05, 2.0])
def test_no_step_away_lowers_the_objective(kind, strength):
    x, t = rows()
    made = fit_filter(kind, x, t, strength=strength)
    w, b = made.vector, made.intercept - float(made.vector @ made.middle)
    best, rng = objective(kind, w, b, x, t, strength), np.random.default_rng(1)
    assert made.is_converged and made.strength == strength and not made.tried
    for _ in range(200):
        step, shift = 1e-2 * rng.normal(size=len(w)), 1e-2 * rng.normal()
        assert objective(kind, w + step, b + shift, x, t, strength) > best - 1e-4 * abs(best)


@pytest.mark.parametrize("kind", filters.KINDS)
@pytest.mark.parametrize("scaling", ["deviation", "largest"])
def test_identity_6_with_scaling_entries_are_divided_by_the_scale(kind, scaling):
    """Scores do not depend on the units of measurement, and entries go with one over the scale."""
    x, t = rows()
    scale = np.array([0.01, 3, 1, 100, 7, 0.5])
    one = fit_filter(kind, x, t, strength=0.5, scaling=scaling)
    other = fit_filter(kind, x * scale + 7, t, strength=0.5, scaling=scaling)
    np.testing.assert_allclose(other.vector * scale, one.vector, rtol=1e-3, atol=1e-4 * np.abs(one.vector).max())
    scores, again = x @ one.vector, (x * scale + 7) @ other.vector
    np.testing.assert_allclose(again - again.mean(), scores - scores.mean(), atol=1e-3 * np.ptp(scores))


@pytest.mark.parametrize("kind", filters.KINDS)
@pytest.mark.parametrize("scaling", filters.SCALINGS)
def test_a_constant_unit_has_the_entry_zero(kind, scaling):
    x, t = rows()
    x[:, 2] = 7.1
    found = fit_filter(kind, x, t, strength=1.0, scaling=scaling).vector
    assert found[2] == 0 and np.isfinite(found).all()


@pytest.mark.parametrize("kind", filters.KINDS)
def test_within_classes_their_difference_is_no_part_of_it(kind):
    """Moving one class as a whole changes nothing, and pooled it changes all."""
    x, t = rows(n=300)
    strata = np.random.default_rng(2).integers(0, 2, 300)
    moved = x + 50 * strata[:, None] * np.eye(6)[1]
    one, other = (fit_filter(kind, part, t, strata, strength=1.0).vector for part in (x, moved))
    np.testing.assert_allclose(other, one, atol=1e-3 * np.abs(one).max())
    assert not np.allclose(fit_filter(kind, moved, t, strength=1.0).vector, one, atol=0.05 * np.abs(one).max())


def test_the_strength_is_chosen_by_held_out_samples():
    x, t = rows(n=200)
    made = fit_filter("ridge", x, t)
    assert made.strength in GRID and made.tried[made.strength] >= max(made.tried.values()) - 1e-6
    assert list(made.tried) == sorted(made.tried, reverse=True), "from the strongest penalty on"
    far = x + 100 * t[:, None]
    sure = fit_filter("svm", far, t)
    assert sure.strength == min(GRID) and sure.is_at_end, "all separate: the one that penalises most"


def test_a_lasso_that_leaves_nothing_is_made_weaker():
    x, t = rows()
    made = fit_filter("lasso", x, t, strength=1e9)
    assert made.vector.any() and made.strength < 1e9


def test_strong_ridge_comes_near_the_pattern_and_the_quick_one_between():
    x, t = rows(n=400)
    h = unit(pattern(x, t))
    assert unit(fit_filter("ridge", x, t, strength=1e9).vector) @ h > 1 - 1e-6
    strata = np.zeros(len(t), int)
    for few in (x, np.tile(x, (1, 100))):  # more samples than units, and fewer
        quick = quick_ridge(few, t, strata, most=1000)
        weight = np.abs(t - t.mean())
        weight /= weight.max()
        penalty = float((weight[:, None] * (few - np.average(few, 0, weight)) ** 2).sum()) / len(t)
        same = fit_filter("ridge", few, t, strength=penalty).vector
        assert unit(quick) @ unit(same) > 1 - 1e-9


def test_without_scikit_learn_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    x, t = rows()
    with pytest.raises(MissingPackageError, match="scikit-learn") as error:
        fit_filter("svm", x, t)
    assert "workbench[directions]" in error.value.hint and "PatternCAV" in error.value.hint
