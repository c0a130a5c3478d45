"""What independent pictures let one say: means, errors and tests in which views of one original count together.

Views of one original (other crops, colours, counterparts) are no new evidence. Everything here draws, sums or tests by
original; where each sample is one of its own, it is the usual formula.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from workbench.core.errors import ShapeError

__all__ = ["error_of_mean", "mcnemar", "middle", "number_of", "paired", "places"]

_RESAMPLES = 2000


def places(origins: ArrayLike | None, n: int) -> np.ndarray:
    """(sample,) int64: number of each sample's original, in the order in which they come; each its own for None.

    Raises
    ------
    ShapeError
        If there are not `n` origins.
    """
    if origins is None:
        return np.arange(n, dtype=np.int64)
    given = np.asarray(origins)
    if given.shape != (n,):
        raise ShapeError(
            f"{n} samples need an original each; got an array of the shape {given.shape}.",
            hint="data.origins[samples]",
        )
    _, first, which = np.unique(given, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(len(first))
    return rank[which.ravel()]


def number_of(origins: ArrayLike | None, n: int) -> int:
    """How many originals `n` samples are of."""
    return int(places(origins, n).max(initial=-1)) + 1


def middle(values: ArrayLike, origins: ArrayLike | None = None) -> tuple[float, float]:
    """Middle 95 % of the means of bootstrap samples of originals; the same at each call.

    Parameters
    ----------
    values : (sample,) float array
    origins : (sample,) array, optional
        Views of one original are drawn together.

    Returns
    -------
    low, high : float
        NaN for fewer than two originals.
    """
    values = np.asarray(values, dtype=np.float64)
    place = places(origins, len(values))
    total, count = np.bincount(place, weights=values), np.bincount(place)
    if len(total) < 2:
        return math.nan, math.nan
    # How often each pair of total and count is drawn is all that decides.
    kinds, n = np.unique(np.stack([total, count], 1), axis=0, return_counts=True)
    drawn = np.random.default_rng(0).multinomial(len(total), n / len(total), size=_RESAMPLES)
    low, high = np.percentile((drawn @ kinds[:, 0]) / (drawn @ kinds[:, 1]), [2.5, 97.5])
    return float(low), float(high)


def error_of_mean(values: ArrayLike, origins: ArrayLike | None = None) -> np.ndarray:
    """Standard error of the mean over samples.

    Parameters
    ----------
    values : (sample, ...) float array
    origins : (sample,) array, optional
        Deviations of the views of one original are summed before they are squared.

    Returns
    -------
    (...) float64 array
        NaN for fewer than two originals.

    Notes
    -----
    The linearised error of a ratio of sums over clusters, ``sqrt(G / (G - 1) * sum_g (sum of deviations of g)^2) / n``
    with ``G`` originals: of single samples the standard deviation (divided by one less) by the root of their number.
    """
    values = np.asarray(values, dtype=np.float64)
    n = len(values)
    place = places(origins, n)
    n_origins = int(place.max(initial=-1)) + 1
    if n_origins < 2:
        return np.full(values.shape[1:], np.nan)
    total = np.zeros((n_origins, *values.shape[1:]))
    np.add.at(total, place, values - values.mean(0))
    return np.asarray(np.sqrt(n_origins / (n_origins - 1) * (total**2).sum(0)) / n)


def paired(before: ArrayLike, after: ArrayLike, origins: ArrayLike | None = None) -> tuple[float, float, float, float]:
    """How much more often the second of two is right, paired by sample.

    Parameters
    ----------
    before, after : (sample,) bool array
    origins : (sample,) array, optional

    Returns
    -------
    change, low, high : float
        Difference of the shares with its middle 95 %, see `middle`.
    p : float
        McNemar's exact test. Views of one original count once, by whether more were gained or lost. All four are NaN
        without a sample.
    """
    change = np.asarray(after, dtype=np.float64) - np.asarray(before, dtype=np.float64)
    if not len(change):
        return math.nan, math.nan, math.nan, math.nan
    total = np.bincount(places(origins, len(change)), weights=change)
    p = mcnemar(int((total > 0).sum()), int((total < 0).sum()))
    return (float(change.mean()), *middle(change, origins), p)


def mcnemar(gained: int, lost: int) -> float:
    """Two-sided exact binomial test that gains and losses are equally likely; 1 where there are neither.

    Notes
    -----
    McNemar 1947, with the binomial distribution in place of the normal one.
    """
    n = gained + lost
    if n == 0:
        return 1.0
    logs = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(min(gained, lost) + 1)]
    tail = sum(math.exp(one - n * math.log(2)) for one in logs)
    return min(1.0, 2 * tail)
