"""Patterns in closed form, and how good a direction is: pure functions of arrays.

Arrays are (sample, unit), `t` is (sample,) and says whether (or how strongly) a sample shows the concept, `strata` is
(sample,) and names the group, usually the class, within which samples are compared.

A pattern is linear in the activations: one weight per sample gives it, ``h = weights @ x``. So refits for held-out
samples and for bootstrap samples are further rows of one matrix product, and a pass over the activations serves all.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from workbench.core.errors import BadValueError, ShapeError
from workbench.core.origins import places
from workbench.methods.directions.separation import cells

__all__ = [
    "alignment",
    "bootstrap_weights",
    "combine",
    "expected_cosine",
    "fast_cav",
    "mean_cosine",
    "mean_difference",
    "median_difference",
    "pattern",
    "pattern_of_filter",
    "pattern_weights",
    "positives_needed",
    "unit",
    "within_variance",
]

_ROWS = 1024


def pattern(x: np.ndarray, t: ArrayLike, strata: ArrayLike | None = None) -> np.ndarray:
    """Find what changes with the concept: the regression of activations on it, cov(x, t) / var(t).

    Parameters
    ----------
    x : (sample, unit) float array
    t : (sample,) bool or float array
        Whether, or how strongly, each sample shows the concept.
    strata : (sample,) int array, optional
        Activations and `t` are centred within each; those in which `t` does not vary drop out.

    Returns
    -------
    (unit,) float64 array
        Not normalised; exactly 0 for constant units. For yes or no it is the difference of the means; stratified, the
        mean of the strata's differences with the weights ``n1 n0 / (n1 + n0)``.

    Raises
    ------
    BadValueError
        If `t` varies nowhere.

    Notes
    -----
    Pahde et al. 2022 (Navigating Neural Space), eq. 5: argmin over h of the sum of ``|x - t h - h0|^2``; one offset h0
    per stratum is ours. Haufe et al. 2014, section 2.
    """
    return combine(x, pattern_weights(t, strata)[None])[0]


def pattern_weights(t: ArrayLike, strata: ArrayLike | None = None) -> np.ndarray:
    """Give the weights of samples whose sum of activations is the pattern.

    Returns
    -------
    (sample,) float64 array
        ``(t - mean of t) / sum of (t - mean of t)^2``, means within strata. They sum to 0. For yes or no, the positive
        ones sum to 1 and give the mean with the concept, the negative ones sum to -1 and give the mean without it.

    Raises
    ------
    BadValueError
        If `t` varies in no stratum.
    """
    t = np.asarray(t, dtype=np.float64)
    if strata is None:
        centred = t - t.mean()
    else:
        _, group = np.unique(np.asarray(strata), return_inverse=True)
        centred = t - (np.bincount(group, t) / np.bincount(group))[group]
    size = float(centred @ centred)
    if not size > 1e-12 * max(float(t @ t), 1e-300):
        raise BadValueError("The concept does not vary within any group, so that nothing can be compared.")
    return centred / size


def combine(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """(row, unit) float64 weighted sums of samples, in one pass over the activations.

    Parameters
    ----------
    x : (sample, unit) float array
        Single precision is multiplied in blocks and summed in double precision.
    weights : (row, sample) float array
    """
    x, weights = np.asarray(x), np.atleast_2d(weights)
    if x.ndim != 2 or weights.shape[1] != len(x):
        raise ShapeError(f"Weights of the shape {weights.shape} do not fit activations of the shape {x.shape}.")
    dtype = x.dtype if x.dtype in (np.float32, np.float64) else np.dtype(np.float64)
    first = x[0].astype(dtype)  # seen from it constant units are exactly 0, and large offsets cost no digits
    total = np.zeros((len(weights), x.shape[1]))
    narrow = weights.astype(dtype)
    seen = np.empty((min(_ROWS, len(x)), x.shape[1]), dtype)  # one block's room for all
    for a in range(0, len(x), _ROWS):
        block = x[a : a + _ROWS]
        total += narrow[:, a : a + _ROWS] @ np.subtract(block, first, out=seen[: len(block)], dtype=dtype)
    rest = weights.sum(1, dtype=np.float64)
    rest[np.abs(rest) < 1e-9 * np.abs(weights).sum(1)] = 0
    return total + rest[:, None] * first


def mean_difference(x: np.ndarray, t: ArrayLike) -> np.ndarray:
    """(unit,) float64: mean of the samples with the concept minus mean of the others."""
    x, t = np.asarray(x, dtype=np.float64), np.asarray(t, dtype=bool)
    return x[t].mean(0) - x[~t].mean(0)


def median_difference(x: np.ndarray, t: ArrayLike, strata: ArrayLike | None = None) -> np.ndarray:
    """(unit,) float64: median with the concept minus median without it, which few extreme samples cannot move.

    Stratified, the differences of the strata are averaged with the weights of the pattern.
    """
    x, t = np.asarray(x), np.asarray(t, dtype=bool)
    group = np.zeros(len(t), int) if strata is None else np.unique(np.asarray(strata), return_inverse=True)[1]
    total, size = np.zeros(x.shape[1]), 0.0
    for k in np.unique(group[t]):
        on, off = x[(group == k) & t], x[(group == k) & ~t]
        if len(off):
            weight = len(on) * len(off) / (len(on) + len(off))
            difference = np.median(on, 0).astype(np.float64) - np.median(off, 0)
            total, size = total + weight * difference, size + weight
    if size == 0:
        raise BadValueError("The concept does not vary within any group, so that nothing can be compared.")
    return total / size


def fast_cav(x: np.ndarray, t: ArrayLike) -> tuple[np.ndarray, float]:
    """FastCAV: the mean over samples with the concept of their difference to the mean of all, and the intercept.

    Returns
    -------
    vector : (unit,) float64
        ``n0 / n`` times the difference of the means: the direction of the pattern.
    intercept : float
        ``-vector @ mean of all``.

    Notes
    -----
    Schmalwasser et al. 2025 (FastCAV), eq. 3.
    """
    x, t = np.asarray(x, dtype=np.float64), np.asarray(t, dtype=bool)
    middle = x.mean(0)
    vector = (x[t] - middle).mean(0)
    return vector, float(-vector @ middle)


def pattern_of_filter(x: np.ndarray, w: ArrayLike) -> np.ndarray:
    """(unit,) float64: the pattern that a linear filter measures, covariance of the activations times the filter.

    Notes
    -----
    Haufe et al. 2014, eq. 6, for one filter: ``cov(x) w / var(x w)``.
    """
    x = np.asarray(x, dtype=np.float64)
    centred = x - x.mean(0)
    measured = centred @ np.asarray(w, dtype=np.float64)
    return measured @ centred / (measured @ measured)


def unit(vector: np.ndarray) -> np.ndarray:
    """The vector with length 1.

    Raises
    ------
    BadValueError
        If it is zero or not finite.
    """
    length = float(np.linalg.norm(vector))
    if not np.isfinite(length) or length <= 0:
        raise BadValueError(
            "Samples with and without the concept do not differ at this layer: there is no direction.",
            hint="Choose another layer, or look whether the two sets hold the same pictures.",
        )
    return vector / length


def bootstrap_weights(
    weights: np.ndarray, t: ArrayLike, strata: np.ndarray, n: int, *, seed: int, origins: np.ndarray | None = None
) -> np.ndarray:
    """(n, sample) weights of patterns of bootstrap samples, drawn with and without the concept in each stratum.

    The weight of each cell stays as it is, so that a sample's weight is its own times how often it was drawn. Of a cell
    the views of one original, where `origins`, (sample,), says which these are, are drawn together.
    """
    rng = np.random.default_rng(seed)
    cell = cells(strata, t)
    counts = np.zeros((n, len(weights)))
    order = np.argsort(cell, kind="stable")
    for members in np.split(order, np.cumsum(np.bincount(cell))[:-1]):
        if weights[members[0]] == 0:
            continue
        which = places(None if origins is None else origins[members], len(members))
        k = int(which.max()) + 1
        at = np.arange(n)[:, None] * k + rng.integers(0, k, (n, k))
        times = np.bincount(at.ravel(), minlength=n * k).reshape(n, k)[:, which].astype(np.float64)
        counts[:, members] = times * (len(members) / times.sum(1, keepdims=True))  # originals may have unequal views
    return counts * weights


def mean_cosine(vectors: np.ndarray) -> float:
    """Mean cosine of all pairs of rows, -1 to 1; NaN for fewer than two. Rows of zeros are left out."""
    size = np.linalg.norm(vectors, axis=1)
    rows = vectors[size > 0] / size[size > 0, None]
    n = len(rows)
    if n < 2:
        return float("nan")
    total = rows.sum(0)
    return float((total @ total - n) / (n * (n - 1)))


def within_variance(x: np.ndarray, t: ArrayLike, strata: np.ndarray, *, most: int = 4096, seed: int = 0) -> float:
    """Sum over units of the variance within cells of equal `t` and stratum, the trace of the noise covariance.

    Parameters
    ----------
    most : int
        Samples to look at; drawn at random from more.

    Returns
    -------
    float
        NaN where no cell holds two samples.
    """
    rows = np.arange(len(x))
    if len(rows) > most:
        rows = np.sort(np.random.default_rng(seed).choice(len(x), most, replace=False))
    group = cells(np.asarray(strata)[rows], np.asarray(t)[rows])
    order = np.argsort(group, kind="stable")
    part = np.asarray(x)[rows[order]].astype(np.float64)
    part -= part[0]
    counts = np.bincount(group)
    sums = np.add.reduceat(part, np.concatenate([[0], np.cumsum(counts)[:-1]]), axis=0)
    free = len(rows) - len(counts)
    if free <= 0:
        return float("nan")
    return max(0.0, float((part**2).sum() - ((sums**2).sum(1) / counts).sum()) / free)


def expected_cosine(length: float, noise: float) -> float:
    """Cosine of a pattern with the true direction that chance lets one expect, 0 to 1.

    Parameters
    ----------
    length : float
        Of the true difference of the means.
    noise : float
        Variance of the estimate summed over units: the trace of the noise covariance times ``1/n1 + 1/n0``, or times
        the sum of squared weights.

    Notes
    -----
    ``|h| / sqrt(|h|^2 + tr(S) (1/n1 + 1/n0))``: the error of a mean adds up over units and the signal does not. Of an
    estimate, whose squared length holds the noise too, take ``sqrt(max(0, |h|^2 - noise))`` for the length.
    """
    return float(length / np.sqrt(length**2 + noise)) if length > 0 else 0.0


def positives_needed(length: float, trace: float, n_negative: float, cosine: float = 0.9) -> float:
    """How many samples with the concept a pattern needs for an expected cosine; infinity if the others are too few.

    Parameters
    ----------
    length : float
        Of the true difference of the means.
    trace : float
        Of the noise covariance.
    n_negative : float
        Samples without the concept.
    cosine : float, 0 to 1
    """
    room = length**2 * (1 / cosine**2 - 1) / trace - 1 / n_negative if trace > 0 else np.inf
    return float(np.ceil(1 / room)) if room > 0 else float("inf")


def alignment(vector: np.ndarray, differences: np.ndarray) -> tuple[float, float]:
    """How well a direction agrees with what pairs of samples show.

    Parameters
    ----------
    vector : (unit,) array
    differences : (pair, unit) array
        Activation with the concept minus activation without it, everything else being equal.

    Returns
    -------
    each : float
        Mean cosine over pairs, which weighs each equally; pairs without a difference are left out.
    overall : float
        Cosine of the mean difference, which favours large ones. NaN where there is no difference.
    """
    d = np.asarray(differences, dtype=np.float64)
    size, v = np.linalg.norm(d, axis=1), unit(np.asarray(vector, dtype=np.float64))
    if not (size > 0).any():
        return float("nan"), float("nan")
    each = float(np.mean(d[size > 0] @ v / size[size > 0]))
    mean = d.mean(0)
    length = float(np.linalg.norm(mean))
    return each, float(mean @ v / length) if length > 0 else float("nan")
