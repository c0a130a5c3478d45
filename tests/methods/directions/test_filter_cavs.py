"""Filters as methods: detectors with a threshold, measured against the pattern."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from workbench.core.errors import BadValueError, MissingPackageError
from workbench.methods import SVMCAV, LassoCAV, LogisticCAV, PatternCAV, RidgeCAV
from workbench.methods.directions.filters import fit_filter
from workbench.testing.context import FakeContext

pytest.importorskip("sklearn")

KINDS = {SVMCAV: {"C": 0.1}, RidgeCAV: {"alpha": 1.0}, LassoCAV: {"alpha": 1.0}, LogisticCAV: {"C": 1.0}}


def correlated(n=3000, seed=0):
    """Eight units: h on the first, noise shared by the first two. A filter uses the second to cancel it."""
    rng = np.random.default_rng(seed)
    t = rng.random(n) < 0.3
    y = rng.integers(0, 3, n)
    x = 0.3 * rng.normal(size=(n, 8))
    shared = rng.normal(size=n)
    x[:, 0] += shared + 1.5 * t
    x[:, 1] += 0.9 * shared
    return x + 4 * y[:, None] * np.eye(8)[3], t, y


def context(x, y):
    return FakeContext({"l": x}, labels=y, classes=("a", "b", "c"))


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_filters_tell_better_and_align_worse_than_the_pattern(kind):
    """Held-out areas of the filters 0.99 against 0.85 of the pattern; cosines with the planted unit 0.74 against 1."""
    x, t, y = correlated()
    ctx = context(x, y)
    (pattern,) = PatternCAV("l", positives=t).fit(ctx).directions_
    (found,) = kind("l", positives=t, **KINDS[kind]).fit(ctx).directions_
    h = np.eye(8)[0]
    assert pattern.cosine(h) > 0.99 and pattern.auc < 0.93
    assert found.cosine(h) < 0.85 and found.auc > pattern.auc + 0.05
    assert found.agreement == pytest.approx(found.cosine(pattern), abs=1e-4)
    assert pattern.agreement < 0.9, "and the pattern's own figure says that a filter would differ"
    assert found.stability > 0.95 and np.isnan(found.expected_cosine)
    assert found.settings["strength"] == next(iter(KINDS[kind].values()))
    told = found.score > found.threshold
    balanced = (told[t].mean() + (~told)[~t].mean()) / 2
    assert balanced > 0.9, f"the threshold parts the kinds: {balanced:.3f}"


def test_the_threshold_is_the_boundary_of_the_classifier():
    x, t, y = correlated(n=400)
    (found,) = SVMCAV("l", positives=t, scope="all", C=0.5).fit(context(x, y)).directions_
    made = fit_filter("svm", x.astype(np.float32), t, strength=0.5)
    decision = (x - made.middle) @ made.vector + made.intercept
    assert ((found.score > found.threshold) == (decision > 0)).mean() > 0.995


@pytest.mark.parametrize("kind", KINDS, ids=lambda k: k.__name__)
def test_a_strength_is_found_where_none_is_given(kind):
    x, t, y = correlated(n=300)
    (found,) = kind("l", positives=t, resamples=0).fit(context(x, y)).directions_
    assert found.settings["strength"] > 0 and found.auc > 0.9 and np.isnan(found.stability)


def test_what_cannot_be_is_explained(monkeypatch):
    x, t, y = correlated(n=60)
    ctx = context(x, y)
    with pytest.raises(BadValueError, match="SVMCAV needs at least 2 positives; got 1") as error:
        SVMCAV("l", positives=[3]).fit(ctx)
    assert "PatternCAV" in error.value.hint
    for options, message in (({"C": 0}, "`C`"), ({"C": "much"}, "`C`"), ({"scaling": "max"}, "`scaling`")):
        with pytest.raises(BadValueError, match=message):
            SVMCAV("l", positives=t, **options).fit(ctx)
    with pytest.raises(BadValueError, match="`alpha`"):
        RidgeCAV("l", positives=t, alpha=-1).fit(ctx)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingPackageError, match="scikit-learn"):
        LassoCAV("l", positives=t).fit(ctx)
    PatternCAV("l", positives=t).fit(ctx)  # needs nothing
