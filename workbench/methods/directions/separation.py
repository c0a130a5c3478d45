"""How well scores tell samples with a concept from those without: pure functions of arrays."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from workbench.core.origins import places

__all__ = ["area_error", "auc", "average_precision", "cells", "class_auc", "folds", "hanley_mcneil"]


def auc(scores: ArrayLike, t: ArrayLike, strata: ArrayLike | None = None) -> float:
    """Share of pairs, one sample with the concept and one without, that the scores put in the right order.

    Parameters
    ----------
    scores : (sample,) float array
        NaN leaves a sample out.
    t : (sample,) bool array
    strata : (sample,) int array, optional
        Pairs are made within each.

    Returns
    -------
    float
        0 to 1, equal scores counting one half; NaN without a pair.
    """
    scores, t = np.asarray(scores, dtype=np.float64), np.asarray(t, dtype=bool)
    group = np.zeros(len(t), np.int64) if strata is None else np.unique(np.asarray(strata), return_inverse=True)[1]
    won = pairs = 0.0
    for k in np.unique(group[t]):
        inside = (group == k) & ~np.isnan(scores)
        on, off = scores[inside & t], np.sort(scores[inside & ~t])
        below, upto = np.searchsorted(off, on, "left"), np.searchsorted(off, on, "right")
        won, pairs = won + float((below + upto).sum()) / 2, pairs + len(on) * len(off)
    return won / pairs if pairs else float("nan")


def hanley_mcneil(area: float, n_positive: int, n_negative: int) -> float:
    """Standard error of an area under the curve.

    Notes
    -----
    Hanley & McNeil 1982, eq. 1, with ``Q1 = A / (2 - A)`` and ``Q2 = 2 A^2 / (1 + A)``.
    """
    if np.isnan(area) or min(n_positive, n_negative) < 1:
        return float("nan")
    first, second = area / (2 - area), 2 * area**2 / (1 + area)
    spread = area * (1 - area) + (n_positive - 1) * (first - area**2) + (n_negative - 1) * (second - area**2)
    return float(np.sqrt(max(0.0, spread) / (n_positive * n_negative)))


def area_error(area: float, t: ArrayLike, origins: ArrayLike | None = None) -> float:
    """Standard error of an area under the curve over samples, of which those of one original count once of each kind.

    Parameters
    ----------
    area : float
    t : (sample,) bool array
    origins : (sample,) array, optional
        Views of one original are no new evidence.
    """
    t = np.asarray(t, dtype=bool)
    which = places(origins, len(t))
    return hanley_mcneil(area, len(np.unique(which[t])), len(np.unique(which[~t])))


def average_precision(scores: ArrayLike, t: ArrayLike, strata: ArrayLike | None = None) -> float:
    """Mean precision at the place of each sample with the concept; within strata, weighted by their number of these.

    Equal scores share the precision of their last place. NaN without a sample of either kind.
    """
    scores, t = np.asarray(scores, dtype=np.float64), np.asarray(t, dtype=bool)
    group = np.zeros(len(t), np.int64) if strata is None else np.unique(np.asarray(strata), return_inverse=True)[1]
    total, count = 0.0, 0
    for k in np.unique(group[t]):
        inside = (group == k) & ~np.isnan(scores)
        if not (inside & t).any() or not (inside & ~t).any():
            continue
        order = np.argsort(-scores[inside], kind="stable")
        values, hits = scores[inside][order], t[inside][order]
        last = np.searchsorted(-values, -values, "right")  # places up to and with the equal ones
        found = np.cumsum(hits)[last - 1]
        total, count = total + float((found / last)[hits].sum()), count + int(hits.sum())
    return total / count if count else float("nan")


def class_auc(t: ArrayLike, class_: ArrayLike) -> float:
    """How well the class alone tells whether a sample shows the concept, 0.5 to 1.

    A sample's score is the share of the others of its class that show it; its own is not counted, or many small classes
    would seem to tell everything. Two samples of one class are equal. Samples with a negative class are left out.
    """
    t, class_ = np.asarray(t, dtype=bool), np.asarray(class_)
    t, class_ = t[class_ >= 0], class_[class_ >= 0]
    n_pairs = float(t.sum()) * float((~t).sum())
    if n_pairs == 0:
        return float("nan")
    _, group = np.unique(class_, return_inverse=True)
    counts, hits = np.bincount(group), np.bincount(group, t)
    share = np.where(counts[group] > 1, (hits[group] - t) / np.maximum(counts[group] - 1, 1), t.mean())
    # Not counting its own, a sample with the concept has the smaller share of any two of its class: no win, yet a tie.
    equal = float((hits * (counts - hits)).sum()) / n_pairs
    return max(0.5, auc(share, t) + equal / 2)


def cells(strata: ArrayLike, t: ArrayLike) -> np.ndarray:
    """(sample,) int64 numbers, from 0, of the cells of equal stratum and `t`; those of the lowest stratum first."""
    stratum = np.unique(np.asarray(strata), return_inverse=True)[1].ravel()
    return np.unique(2 * stratum + np.asarray(t, dtype=bool), return_inverse=True)[1].ravel()


def folds(t: ArrayLike, strata: np.ndarray, n: int, *, seed: int, origins: np.ndarray | None = None) -> np.ndarray:
    """(sample,) int: which of `n` parts each sample is held out in; each part has its share of every cell.

    Samples of one origin, views of one picture, are in one part: a refit must not have seen another view.
    """
    t, strata = np.asarray(t, dtype=np.int64), np.asarray(strata)
    _, first, which = np.unique(
        np.arange(len(t)) if origins is None else origins, return_index=True, return_inverse=True
    )
    cell = cells(strata[first], t[first])
    order = np.lexsort((np.random.default_rng(seed).random(len(cell)), cell))
    part = np.empty(len(cell), np.int64)
    part[order] = np.arange(len(cell)) % n
    return part[which.ravel()]
