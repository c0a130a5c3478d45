"""Filters: linear classifiers and regressions that decide whether a concept is there, by scikit-learn.

Samples are weighted so that both kinds count the same within each stratum, and strata with the weights of the pattern:
a sample's weight is ``|t - mean of t in its stratum|``. Each stratum is centred on the midpoint of its two means, so
that a difference between strata is not mistaken for the concept.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.core.errors import MissingPackageError
from workbench.methods.directions.estimators import pattern_weights
from workbench.methods.directions.separation import auc, folds

__all__ = ["GRID", "KINDS", "SCALINGS", "Filter", "fit_filter", "needs_sklearn", "quick_ridge"]

GRID = tuple(10.0**i for i in range(-5, 5))
"""Strengths that are tried where none is given."""

KINDS = ("svm", "ridge", "lasso", "logistic")
SCALINGS = ("none", "deviation", "largest")


@dataclass(frozen=True, eq=False)
class Filter:
    """A linear filter.

    Attributes
    ----------
    vector : (unit,) float64
        In the units of the activations that it was given, whatever scaling was used inside; not normalised.
    intercept : float
        Of the centred activations.
    middle : (unit,) float64
        Midpoint of the two means, strata averaged; a sample shows the concept if
        ``vector @ (x - middle) + intercept > 0``.
    strength : float
    tried : dict of float to float
        Held-out area under the curve by strength; empty where one was given.
    is_converged : bool
    is_at_end : bool
        Whether the strength is the one among those tried that penalises most: a stronger one may be better.
    """

    vector: np.ndarray
    intercept: float
    middle: np.ndarray
    strength: float
    tried: dict[float, float]
    is_converged: bool
    is_at_end: bool = False


def fit_filter(
    kind: str,
    x: np.ndarray,
    t: np.ndarray,
    strata: np.ndarray | None = None,
    *,
    strength: float | None = None,
    scaling: str = "none",
    seed: int = 0,
    notice: Callable[[], None] | None = None,
) -> Filter:
    """Fit a filter.

    Parameters
    ----------
    kind : {"svm", "ridge", "lasso", "logistic"}
        With weights w_i and targets t* = 2 t - 1: half the squared norm plus C times the sum of squared hinge losses;
        the sum of squared errors plus alpha times the squared norm, or the sum of absolute entries; the sum of logistic
        losses plus the squared norm over 2 C.
    x : (sample, unit) float array
    t : (sample,) bool array
    strata : (sample,) int array, optional
        Those without both kinds drop out.
    strength : float, optional
        C of svm and logistic, alpha of ridge and lasso. Default: the best of 10^-5 to 10^4 by held-out area under the
        curve in five folds, tried from the strongest penalty on until three in a row are no better; among equal ones
        the one that penalises most.
    scaling : {"none", "deviation", "largest"}
        Divide each unit by its standard deviation, or largest absolute value, before; entries are divided by it after,
        so that the filter fits unscaled activations. Constant units have the entry 0.
    notice : callable, optional
        Called between solutions; what it raises ends the fit.

    Raises
    ------
    MissingPackageError
        If scikit-learn is not installed.

    Notes
    -----
    Pahde et al. 2022 (Navigating Neural Space), section 3.1. There filters are multiplied by the scale, which is right
    for patterns only.
    """
    needs_sklearn()
    strata = np.zeros(len(t), np.int64) if strata is None else np.asarray(strata)
    t = np.asarray(t, dtype=bool)
    signed = pattern_weights(t, strata)
    inside = signed != 0
    x, t, strata, weight = np.asarray(x)[inside], t[inside], strata[inside], np.abs(signed[inside])
    centred, middle = _centred(np.asarray(x, dtype=np.float64), weight, strata)
    weight = weight / weight.max()
    is_constant = np.ptp(centred, axis=0) <= 1e-12 * np.abs(x).max(0)
    scale = _scale(centred, weight, scaling, is_constant)
    scaled = centred / scale
    tried: dict[float, float] = {}
    if strength is None:
        tried = _tried(kind, scaled, t, weight, strata, seed, notice or _nothing)
        strength = _best(kind, tried)
    w, b, converged = _solved(kind, scaled, t, weight, strength)
    while kind == "lasso" and not w.any() and strength > 1e-12:  # too strong: nothing is left
        strength /= 10
        w, b, converged = _solved(kind, scaled, t, weight, strength)
    w = np.where(is_constant, 0.0, w / scale)
    end = min(GRID) if kind in ("svm", "logistic") else max(GRID)
    return Filter(w, b, middle, strength, tried, converged, bool(tried) and strength == end)


def quick_ridge(x: np.ndarray, t: np.ndarray, strata: np.ndarray, *, most: int = 600, seed: int = 0) -> np.ndarray:
    """(unit,) float64: a ridge filter of at most `most` samples, without scikit-learn, to compare a pattern with.

    The penalty is the mean squared length of the weighted samples: as strong as one of them.
    """
    signed = pattern_weights(t, strata)
    rng = np.random.default_rng(seed)
    kept = []
    for rows in (np.flatnonzero(signed > 0), np.flatnonzero(signed < 0)):
        kept.append(rows if len(rows) <= most // 2 else np.sort(rng.choice(rows, most // 2, replace=False)))
    rows = np.concatenate(kept)
    weight = np.abs(signed[rows])
    centred, _ = _centred(np.asarray(x)[rows].astype(np.float64), weight, np.asarray(strata)[rows])
    root = np.sqrt(weight / weight.max())
    z, y = centred * root[:, None], np.where(np.asarray(t, dtype=bool)[rows], root, -root)
    small, right = (z @ z.T, y) if len(z) <= z.shape[1] else (z.T @ z, z.T @ y)
    penalty = max(float(np.trace(small)) / len(z), 1e-12)
    solved = np.linalg.solve(small + penalty * np.eye(len(small)), right)
    return z.T @ solved if len(z) <= z.shape[1] else solved


def needs_sklearn() -> None:
    """Explain what is missing if scikit-learn is.

    Raises
    ------
    MissingPackageError
    """
    try:
        import sklearn  # noqa: F401
    except ImportError as error:
        raise MissingPackageError(
            "SVM, ridge, lasso and logistic directions need the package scikit-learn, which is not installed.",
            hint='pip install "workbench[directions]", or use PatternCAV, which needs nothing.',
        ) from error


def _centred(x: np.ndarray, weight: np.ndarray, strata: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Activations seen from the weighted mean of their stratum, and the mean of these weighted by stratum."""
    _, group = np.unique(strata, return_inverse=True)
    sizes = np.bincount(group, weight)
    order = np.argsort(group, kind="stable")
    starts = np.concatenate([[0], np.cumsum(np.bincount(group))[:-1]])
    means = np.add.reduceat((x * weight[:, None])[order], starts, axis=0) / sizes[:, None]
    return x - means[group], sizes @ means / sizes.sum()


def _scale(centred: np.ndarray, weight: np.ndarray, scaling: str, is_constant: np.ndarray) -> np.ndarray:
    if scaling == "none":
        return np.ones(centred.shape[1])
    if scaling == "largest":
        scale = np.abs(centred).max(0)
    else:
        scale = np.sqrt(weight @ centred**2 / weight.sum())
    return np.where(is_constant | (scale <= 0), 1.0, scale)


def _tried(
    kind: str,
    x: np.ndarray,
    t: np.ndarray,
    weight: np.ndarray,
    strata: np.ndarray,
    seed: int,
    notice: Callable[[], None],
) -> dict[float, float]:
    """Held-out areas from the strongest penalty on, until three in a row are no better: weak ones take longest."""
    n = int(min(5, t.sum(), (~t).sum()))
    if n < 2:
        return {1.0: float("nan")}
    part = folds(t, strata, n, seed=seed)
    found: dict[float, float] = {}
    best, since = -1.0, 0
    for strength in GRID if kind in ("svm", "logistic") else reversed(GRID):
        score = np.full(len(t), np.nan)
        for k in range(n):
            notice()
            train = part != k
            if len(np.unique(t[train])) == 2:
                w, _, _ = _solved(kind, x[train], t[train], weight[train], strength)
                score[~train] = x[~train] @ w
        found[strength] = auc(score, t, strata * n + part)
        since = 0 if found[strength] > best + 1e-6 else since + 1
        best = max(best, found[strength])
        if best >= 1 - 1e-9 or since >= 3:
            break
    return found


def _nothing() -> None:
    pass


def _best(kind: str, tried: dict[float, float]) -> float:
    """Among strengths whose areas hardly differ the one that penalises most, which also aligns best."""
    area = np.nan_to_num(np.array(list(tried.values())), nan=0.0)
    near = [s for s, a in zip(tried, area, strict=True) if a >= area.max() - 1e-6]
    return min(near) if kind in ("svm", "logistic") else max(near)


def _solved(
    kind: str, x: np.ndarray, t: np.ndarray, weight: np.ndarray, strength: float
) -> tuple[np.ndarray, float, bool]:
    """Entries, intercept, and whether the solver came to its end."""
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model = _SOLVERS[kind](strength, weight)
        model.fit(x, t if kind in ("svm", "logistic") else np.where(t, 1.0, -1.0), sample_weight=weight)
    converged = not any(issubclass(w.category, ConvergenceWarning) for w in caught)
    return np.ravel(model.coef_).astype(np.float64), float(np.ravel(model.intercept_)[0]), converged


def _svm(strength: float, weight: np.ndarray) -> Any:
    from sklearn.svm import LinearSVC

    # The primal solver is a Newton method, which converges for any strength; a large constant feature leaves the
    # intercept all but unpenalised.
    return LinearSVC(C=strength, dual=False, loss="squared_hinge", intercept_scaling=10.0, tol=1e-4, max_iter=1000)


def _ridge(strength: float, weight: np.ndarray) -> Any:
    from sklearn.linear_model import Ridge

    return Ridge(alpha=strength)


def _lasso(strength: float, weight: np.ndarray) -> Any:
    from sklearn.linear_model import Lasso

    # scikit-learn halves the loss and divides it by the sum of the weights.
    return Lasso(alpha=strength / (2 * float(weight.sum())), max_iter=2000, tol=1e-4)


def _logistic(strength: float, weight: np.ndarray) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(C=strength, max_iter=1000, tol=1e-6)


_SOLVERS: dict[str, Callable[[float, np.ndarray], Any]] = {
    "svm": _svm,
    "ridge": _ridge,
    "lasso": _lasso,
    "logistic": _logistic,
}
