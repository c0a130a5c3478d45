"""Identities of patterns in double precision, each against its formula written out, and tables of known answers."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.core.errors import BadValueError, ShapeError
from workbench.methods.directions.estimators import (
    alignment,
    bootstrap_weights,
    combine,
    expected_cosine,
    fast_cav,
    mean_cosine,
    mean_difference,
    median_difference,
    pattern,
    pattern_of_filter,
    pattern_weights,
    positives_needed,
    unit,
    within_variance,
)
from workbench.methods.directions.filters import fit_filter


def rows(n=90, c=7, *, share=0.2, n_classes=3, seed=0):
    """Correlated features with an offset, a concept, and classes of unequal sizes that go with it."""
    rng = np.random.default_rng(seed)
    t = rng.random(n) < share
    strata = np.minimum(rng.integers(0, n_classes + 1, n), n_classes - 1)
    x = rng.normal(size=(n, c)) @ rng.normal(size=(c, c)) + 40 + 2.5 * strata[:, None] * rng.normal(size=c)
    x[t] += rng.normal(size=c)
    x[:, 4] = 40.123  # a unit that never changes
    return x, t, strata


def slow_pattern(x, t):
    """Cov(x, t) / var(t), sample by sample."""
    n, mean_x, mean_t = len(t), sum(x) / len(t), sum(float(v) for v in t) / len(t)
    covariance = sum((x[i] - mean_x) * (t[i] - mean_t) for i in range(n))
    return covariance / sum((t[i] - mean_t) ** 2 for i in range(n))


def cosine(a, b):
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_identity_1_for_yes_or_no_the_pattern_is_the_difference_of_the_means(share):
    x, t, _ = rows(share=share)
    found = pattern(x, t)
    np.testing.assert_allclose(found, slow_pattern(x, t.astype(float)), atol=1e-13)
    np.testing.assert_allclose(found, mean_difference(x, t), rtol=1e-6, atol=1e-12)


def test_identity_2_fast_cav_has_the_same_direction():
    x, t, _ = rows()
    vector, intercept = fast_cav(x, t)
    n0, n = int((~t).sum()), len(t)
    np.testing.assert_allclose(vector, n0 / n * mean_difference(x, t), atol=1e-12)
    np.testing.assert_allclose(unit(vector), unit(pattern(x, t)), atol=1e-12)
    assert intercept == pytest.approx(-vector @ x.mean(0))


def test_for_a_continuous_concept_the_pattern_is_the_slope_of_each_unit():
    x, _, _ = rows()
    t = np.random.default_rng(3).normal(size=len(x)) ** 3
    slopes = [np.polyfit(t, x[:, c], 1)[0] for c in range(x.shape[1])]
    np.testing.assert_allclose(pattern(x, t), slopes, atol=1e-11)


def test_identity_3_pattern_is_covariance_times_filter():
    rng = np.random.default_rng(0)
    root, h = rng.normal(size=(6, 6)), rng.normal(size=6)
    t = rng.random(200_000) < 0.5
    x = rng.normal(size=(len(t), 6)) @ root.T + t[:, None] * h
    optimal = np.linalg.solve(root @ root.T, h)
    assert cosine(pattern_of_filter(x, optimal), h) > 0.999
    w = rng.normal(size=6)
    z = x[:500]
    slow = np.cov(z.T, bias=True) @ w / np.var(z @ w)
    np.testing.assert_allclose(pattern_of_filter(z, w), slow, atol=1e-10)


@pytest.mark.parametrize(("sigma", "rho", "expected"), [(0.5, 0.9, 0.486), (1, 0.9, 0.743), (2, 0.9, 0.912), (1, 0, 1)])
def test_identity_4_where_noise_is_correlated_filters_turn_away_and_patterns_do_not(sigma, rho, expected):
    """The analytic value is sigma / sqrt(sigma^2 + rho^2); measured within 0.01, the pattern's cosine above 0.999."""
    rng = np.random.default_rng(0)
    n, h = 20_000, np.array([1.0, 0.0])
    t = np.arange(n) % 2 == 0
    noise = rng.multivariate_normal([0, 0], [[1, rho * sigma], [rho * sigma, sigma**2]], n)
    x = noise + t[:, None] * h
    assert sigma / np.hypot(sigma, rho) == pytest.approx(expected, abs=1e-3)
    assert cosine(pattern(x, t), h) > 0.999
    for kind, strength in (("svm", 1.0), ("ridge", 1.0), ("lasso", 0.1), ("logistic", 1.0)):
        found = fit_filter(kind, x, t, strength=strength).vector
        assert cosine(found, h) == pytest.approx(expected, abs=0.01), kind


@pytest.mark.parametrize(("n1", "n0", "predicted"), [(25, 475, 0.706), (50, 450, 0.808), (250, 250, 0.916)])
def test_identity_5_the_expected_cosine_is_what_is_measured(n1, n0, predicted):
    """512 units, ten with noise of variance 9 and the others of 0.25, a direction of length 3: the formula gives
    0.706, 0.808 and 0.916; 40 draws measure 0.747, 0.828 and 0.917, so it is a little pessimistic for few positives.
    """
    rng = np.random.default_rng(0)
    spread = np.where(np.arange(512) < 10, 3.0, 0.5)
    trace = float((spread**2).sum())
    assert trace == pytest.approx(215.5)
    assert expected_cosine(3.0, trace * (1 / n1 + 1 / n0)) == pytest.approx(predicted, abs=1e-3)
    h = 3 * unit(rng.normal(size=512))
    measured = []
    for _ in range(40):
        t = np.arange(n1 + n0) < n1
        x = rng.normal(size=(n1 + n0, 512)) * spread + t[:, None] * h
        measured.append(cosine(pattern(x, t), h))
    assert np.mean(measured) == pytest.approx(predicted, abs=0.06)
    assert within_variance(x, t, np.zeros(len(t))) == pytest.approx(trace, rel=0.05)


def test_identity_5_says_how_many_positives_are_needed():
    trace = 215.5
    needed = positives_needed(3.0, trace, 475, cosine=0.9)
    assert expected_cosine(3.0, trace * (1 / needed + 1 / 475)) >= 0.9
    assert expected_cosine(3.0, trace * (1 / (needed - 1) + 1 / 475)) < 0.9
    assert positives_needed(3.0, trace, 5) == np.inf, "five negatives are too few, however many positives"
    assert expected_cosine(0.0, 1.0) == 0


def test_identity_6_scaling_a_unit_scales_its_entry_and_shifting_changes_nothing():
    x, t, strata = rows()
    scale = np.array([0.01, 3, 1, 100, 7, 0.5, 2])
    np.testing.assert_allclose(pattern(x * scale, t), pattern(x, t) * scale, atol=1e-10)
    np.testing.assert_allclose(pattern(x + 1000, t, strata), pattern(x, t, strata), atol=1e-10)
    # The pattern's prediction of x, h0 + t h, moves with x.
    h, moved = pattern(x, t), pattern(x * scale + 5, t)
    predicted = x.mean(0) + (t - t.mean())[:, None] * h
    again = (x * scale + 5).mean(0) + (t - t.mean())[:, None] * moved
    np.testing.assert_allclose(again, predicted * scale + 5, atol=1e-9)


def test_identity_7_stratified_is_the_weighted_mean_of_the_classes():
    x, t, strata = rows(n=200)
    t[strata == 2] = False  # a class without the concept drops out
    total, size = 0, 0
    for k in (0, 1):
        on, off = x[(strata == k) & t], x[(strata == k) & ~t]
        weight = len(on) * len(off) / (len(on) + len(off))
        total, size = total + weight * (on.mean(0) - off.mean(0)), size + weight
    found = pattern(x, t, strata)
    np.testing.assert_allclose(found, total / size, atol=1e-12)
    assert not np.allclose(found, pattern(x, t)), "and not the difference of the pooled means"
    one = t & (strata == 0) | (strata != 0) & False
    np.testing.assert_allclose(pattern(x, one, strata), mean_difference(x[strata == 0], t[strata == 0]), atol=1e-12)


def test_weights_give_both_means_and_sum_to_nothing():
    x, t, strata = rows(n=200)
    w = pattern_weights(t, strata)
    assert w.sum() == pytest.approx(0, abs=1e-14)
    assert w[w > 0].sum() == pytest.approx(1) and w[w < 0].sum() == pytest.approx(-1)
    assert set(np.flatnonzero(w > 0)) == set(np.flatnonzero(t))
    up, down = combine(x, np.stack([np.maximum(w, 0), np.maximum(-w, 0)]))
    np.testing.assert_allclose(up - down, pattern(x, t, strata), atol=1e-12)


def test_a_constant_unit_has_the_entry_zero_exactly_in_any_precision():
    x, t, strata = rows()
    for dtype in (np.float64, np.float32, np.float16):
        for groups in (None, strata):
            found = pattern(x.astype(dtype), t, groups)
            assert found[4] == 0.0 and np.isfinite(found).all()


def test_sums_in_single_precision_keep_their_digits():
    """A large offset and 20,000 samples: the error stays below 1e-6 of the length."""
    rng = np.random.default_rng(0)
    t = rng.random(20_000) < 0.1
    x = (rng.normal(size=(len(t), 5)) + 1000 + t[:, None] * np.arange(5)).astype(np.float32)
    exact = pattern(x.astype(np.float64), t)
    assert np.abs(pattern(x, t) - exact).max() < 1e-5 * np.linalg.norm(exact)
    mean = combine(x, np.full((1, len(x)), 1 / len(x)))[0]
    np.testing.assert_allclose(mean, x.mean(0, dtype=np.float64), rtol=1e-6)


def test_medians_ignore_what_is_extreme():
    x, t, strata = rows(n=201)
    np.testing.assert_allclose(median_difference(x, t), np.median(x[t], 0) - np.median(x[~t], 0))
    wild = x.copy()
    wild[np.flatnonzero(t)[0]] = 1e9
    assert np.abs(median_difference(wild, t) - median_difference(x, t)).max() < 2
    total, size = 0, 0
    for k in range(3):
        on, off = x[(strata == k) & t], x[(strata == k) & ~t]
        weight = len(on) * len(off) / (len(on) + len(off))
        total, size = total + weight * (np.median(on, 0) - np.median(off, 0)), size + weight
    np.testing.assert_allclose(median_difference(x, t, strata), total / size)
    with pytest.raises(BadValueError, match="does not vary"):
        median_difference(x, np.ones(len(x), bool))


@pytest.mark.parametrize("t", [np.zeros(9), np.ones(9), np.full(9, 2.5)])
def test_a_concept_that_never_varies_is_refused(t):
    with pytest.raises(BadValueError, match="does not vary"):
        pattern(np.random.default_rng(0).normal(size=(9, 3)), t)
    with pytest.raises(BadValueError, match="does not vary"):
        pattern_weights([True, True, False, False], [0, 0, 1, 1])


def test_the_scope_trap():
    """Study N1: 64 units, a class direction u and an artifact h with a cosine of 0.5, the artifact on 80 % of class 1
    and 2 % of class 0. Means of five seeds: within class 1 and stratified 0.995, all classes pooled 0.956.
    """
    found = {"in class": [], "stratified": [], "all": [], "class": []}
    for seed in range(5):
        rng = np.random.default_rng(seed)
        basis = np.linalg.qr(rng.normal(size=(64, 2)))[0].T
        h, u = basis[0], 0.5 * basis[0] + np.sqrt(0.75) * basis[1]
        y = np.arange(4000) % 2
        t = rng.random(4000) < np.where(y == 1, 0.8, 0.02)
        x = 1 + 0.7 * rng.normal(size=(4000, 64)) + np.where(y == 1, 0.8, -0.8)[:, None] * u + 3 * t[:, None] * h
        pooled = pattern(x, t)
        found["in class"].append(cosine(pattern(x[y == 1], t[y == 1]), h))
        found["stratified"].append(cosine(pattern(x, t, y), h))
        found["all"].append(cosine(pooled, h))
        found["class"].append(cosine(pooled, u))
    mean = {name: np.mean(values) for name, values in found.items()}
    assert mean["in class"] == pytest.approx(0.995, abs=0.003)
    assert mean["stratified"] == pytest.approx(0.995, abs=0.003)
    assert mean["all"] == pytest.approx(0.956, abs=0.005)
    assert mean["class"] == pytest.approx(0.73, abs=0.02)


def test_bootstrap_weights_are_patterns_of_bootstrap_samples():
    x, t, strata = rows(n=60)
    w = pattern_weights(t, strata)
    drawn = bootstrap_weights(w, t, strata, 50, seed=3)
    assert drawn.shape == (50, 60)
    np.testing.assert_array_equal(drawn, bootstrap_weights(w, t, strata, 50, seed=3))
    times = np.round(np.divide(drawn, w, out=np.ones_like(drawn), where=w != 0)).astype(int)
    for row in times[:5]:
        chosen = np.repeat(np.arange(60), row)
        np.testing.assert_allclose(
            combine(x, (row * w)[None])[0], pattern(x[chosen], t[chosen], strata[chosen]), atol=1e-11
        )
    assert (w == 0).any(), "a class without the concept takes no part"
    np.testing.assert_allclose(times.mean(0), 1, atol=0.8)


def test_views_of_one_original_are_drawn_together():
    """Originals with one to four views, of one stratum, where the pattern is the difference of the means."""
    rng = np.random.default_rng(4)
    origins = np.repeat(np.arange(24), rng.integers(1, 5, 24))
    x, t, strata = rng.normal(size=(len(origins), 5)), (origins % 3 == 0), np.zeros(len(origins), int)
    w = pattern_weights(t, strata)
    drawn = bootstrap_weights(w, t, strata, 40, seed=1, origins=origins)
    for row in drawn:
        times = row / w
        per_original = [times[origins == o] for o in range(24)]
        assert all(np.ptp(one) < 1e-12 for one in per_original)
        means = [np.average(x[side], axis=0, weights=times[side]) for side in (t, ~t)]
        np.testing.assert_allclose(row @ x, means[0] - means[1], atol=1e-12)
    # Slowly: as many originals with the concept as there are, drawn with all their views.
    spread = np.std([row @ x for row in drawn], axis=0).mean()
    slow = []
    for _ in range(400):
        means = []
        for side in (0, 1):
            of = rng.choice(np.unique(origins[t == (side == 0)]), len(np.unique(origins[t == (side == 0)])))
            means.append(np.concatenate([x[origins == o] for o in of]).mean(0))
        slow.append(means[0] - means[1])
    assert spread == pytest.approx(np.std(slow, axis=0).mean(), rel=0.25)
    np.testing.assert_array_equal(
        bootstrap_weights(w, t, strata, 5, seed=3, origins=np.arange(len(t))[::-1]),
        bootstrap_weights(w, t, strata, 5, seed=3),
    )


def test_mean_cosine_is_that_of_all_pairs():
    v = np.random.default_rng(0).normal(size=(5, 4))
    slow = np.mean([cosine(v[i], v[j]) for i in range(5) for j in range(i)])
    assert mean_cosine(v) == pytest.approx(slow)
    assert mean_cosine(np.vstack([v, np.zeros(4)])) == pytest.approx(slow)
    assert np.isnan(mean_cosine(v[:1])) and np.isnan(mean_cosine(np.zeros((3, 4))))


def test_noise_is_measured_within_cells():
    x, t, strata = rows(n=80)
    cells = {(int(s), bool(on)) for s, on in zip(strata, t, strict=True)}
    slow, free = 0.0, len(t) - len(cells)
    for s, on in cells:
        part = x[(strata == s) & (t == on)]
        slow += float(((part - part.mean(0)) ** 2).sum())
    assert within_variance(x, t, strata) == pytest.approx(slow / free)
    assert np.isnan(within_variance(x[:2], [True, False], np.zeros(2)))


def test_alignment_weighs_pairs_equally_or_by_their_size():
    v = np.array([1.0, 0, 0])
    d = np.array([[10.0, 0, 0], [0, 1, 0], [0, 0, 0]])
    each, overall = alignment(v, d)
    assert each == pytest.approx(0.5) and overall == pytest.approx(10 / np.hypot(10, 1))
    assert np.isnan(alignment(v, np.zeros((2, 3)))).all()


def test_what_cannot_be_is_explained():
    with pytest.raises(BadValueError, match="do not differ"):
        unit(np.zeros(3))
    with pytest.raises(ShapeError, match="do not fit"):
        combine(np.zeros((3, 2)), np.zeros((1, 4)))
