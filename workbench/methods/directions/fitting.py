"""From rows of activations and two sets of samples to a direction with everything that is said of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import check
from workbench.core.errors import BadValueError
from workbench.core.origins import places
from workbench.methods.directions.estimators import (
    alignment,
    bootstrap_weights,
    combine,
    expected_cosine,
    mean_cosine,
    pattern_weights,
    positives_needed,
    unit,
    within_variance,
)
from workbench.methods.directions.filters import quick_ridge
from workbench.methods.directions.separation import area_error, auc, average_precision, cells, class_auc, folds

if TYPE_CHECKING:
    from workbench.methods.directions.cav import CAV
    from workbench.methods.directions.sets import Concept

__all__ = ["Estimate", "Rows", "fitted"]

N_PARTS = 4
"""Parts of the samples that are held out in turn."""

CONFOUNDED = ((0.75, 0.0), (0.6, 0.5))
"""Concept and class are confounded from this area of the class alone and this cosine with its direction on."""

_FEW = 500
_LOW_COSINE = 0.7


@dataclass(frozen=True, eq=False)
class Rows:
    """Pooled activations of samples.

    Attributes
    ----------
    ids : (sample,) int64
        Rising.
    values : (sample, unit) float array
    class_ : (sample,) int64
        Labels; -1 where unknown.
    origin : (sample,) int64
        Number of the original picture that each is a view of.
    is_all : bool
        Whether all samples are there that are compared where no negatives are named.
    """

    ids: np.ndarray
    values: np.ndarray
    class_: np.ndarray
    origin: np.ndarray
    is_all: bool = True

    def combine(self, used: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """(row, unit) weighted sums of some rows; a copy of them is made only where it is the smaller part."""
        if len(used) == len(self.ids):
            return combine(self.values, weights)
        if 2 * len(used) < len(self.ids):
            return combine(self.values[used], weights)
        spread = np.zeros((len(weights), len(self.ids)))
        spread[:, used] = weights
        return combine(self.values, spread)

    def project(self, used: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        """(row, direction) projections of some rows, in their precision."""
        narrow = vectors.T.astype(self.values.dtype)
        if 2 * len(used) < len(self.ids):
            return self.values[used] @ narrow
        return (self.values @ narrow)[used]


@dataclass(frozen=True, eq=False)
class Estimate:
    """A direction as an estimator gives it: not normalised, and where a sample begins to count as showing the concept.

    `offset` is the boundary in units of ``x @ vector``; None: midway between the means.
    """

    vector: np.ndarray
    offset: float | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def fitted(method: CAV, concept: Concept, rows: Rows, classes: Sequence[str]) -> dict[str, Any]:
    """Fit one direction; gives the fields of a `Direction` that fitting finds.

    Parameters
    ----------
    method : CAV
        Says estimator, scope, resamples and seed.
    concept : Concept
    rows : Rows
    classes : sequence of str
        Names of the labels.

    Raises
    ------
    BadValueError
        If no two samples can be compared, or they do not differ.
    """
    notes: list[str] = []
    is_on = np.isin(rows.ids, concept.positives)
    _note_unread(concept.positives, rows.ids, notes)
    is_in = np.ones(len(rows.ids), bool) if concept.negatives is None else is_on | np.isin(rows.ids, concept.negatives)
    strata = _strata(method.scope, is_on, is_in, rows.class_, classes, notes)
    used = np.flatnonzero(strata >= 0)
    t, groups = is_on[used], strata[used]
    n_on = int(t.sum())
    if n_on < method.least_positives:
        raise BadValueError(
            f"{type(method).__name__} needs at least {method.least_positives} positives; got {n_on}.",
            hint="PatternCAV makes a direction of one.",
        )
    weights = pattern_weights(t, groups)
    reference_weights = np.where(weights < 0, -weights, 0)
    origins = rows.origin[used]
    n_parts = min(N_PARTS, len(np.unique(origins[t])), len(np.unique(origins[~t])))
    part = folds(t, groups, n_parts, seed=method.seed, origins=origins)
    seen = _Seen(rows, used, t, groups, weights, origins, part)
    estimate, reference, refits, resampled = (_linear if method.is_linear else _other)(method, seen, reference_weights)
    vector = unit(estimate.vector)
    scores = rows.project(used, np.stack([vector, *refits]))
    score, held_out = scores[:, 0].astype(np.float64), seen.held_out(scores[:, 1:])
    on, off = float(np.maximum(weights, 0) @ score), float(reference_weights @ score)
    notes.extend(estimate.notes)
    if on < off:  # a filter may point against the means
        vector, score, held_out, on, off = -vector, -score, -held_out, -on, -off
        estimate = Estimate(-estimate.vector, None if estimate.offset is None else -estimate.offset, estimate.settings)
        notes.append("The filter pointed against the difference of the means and was turned round.")
    few = _few(weights, method.seed)
    x_few = rows.values[used[few]].astype(np.float64)
    area = auc(held_out, t, groups * N_PARTS + part)
    tested = ~np.isnan(held_out)
    about_class = _about_class(method, rows, is_on, is_in, vector, notes)
    stability = mean_cosine(resampled) if n_on > 1 else float("nan")
    if method.threshold_is_mean:
        threshold = float(score.mean())
    elif estimate.offset is None:
        threshold = (on + off) / 2
    else:
        threshold = estimate.offset / float(np.linalg.norm(estimate.vector))
    pairs = _alignment(vector, concept, rows, notes)
    expected = _expected(estimate, x_few, t[few], groups[few], weights, notes) if method.is_linear else float("nan")
    if n_on == 1:
        notes.append("A single positive: the direction points to this one sample, and nothing can be held out.")
    elif n_parts == 1:
        notes.append("All samples of a kind are views of one picture, so that nothing can be held out.")
    return {
        "vector": vector.astype(np.float32),
        "length": on - off,
        "samples": rows.ids[used].astype(np.int64),
        "is_positive": t,
        "class_": rows.class_[used].astype(np.int64),
        "score": score.astype(np.float32),
        "held_out": held_out.astype(np.float32),
        "mean_positive": on,
        "mean_negative": off,
        "reference": reference.astype(np.float32),
        "threshold": threshold,
        "auc": area,
        "auc_error": area_error(area, t[tested], origins[tested]),
        "average_precision": average_precision(held_out, t, groups * N_PARTS + part),
        "stability": stability,
        "expected_cosine": expected,
        "agreement": _agreement(method, vector, x_few, t[few], groups[few], seen),
        "alignment": pairs[0],
        "alignment_overall": pairs[1],
        "class_auc": about_class[0],
        "class_cosine": about_class[1],
        "settings": dict(estimate.settings),
        "warnings": tuple(notes),
    }


# --- inside ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class _Seen:
    """The samples that are compared: rows, whether they show the concept, strata, weights, originals, parts."""

    rows: Rows
    used: np.ndarray
    t: np.ndarray
    strata: np.ndarray
    weights: np.ndarray
    origins: np.ndarray
    part: np.ndarray

    @property
    def x(self) -> np.ndarray:
        return self.rows.values if len(self.used) == len(self.rows.ids) else self.rows.values[self.used]

    def training(self) -> list[np.ndarray | None]:
        """Per part: weights of the pattern of the others, zero elsewhere; None where these cannot be compared."""
        found: list[np.ndarray | None] = []
        n_parts = int(self.part.max()) + 1
        for k in range(n_parts if n_parts > 1 else 0):
            train = self.part != k
            spread = np.zeros(len(self.t))
            try:
                spread[train] = pattern_weights(self.t[train], self.strata[train])
            except BadValueError:
                found.append(None)
            else:
                found.append(spread)
        return found

    def held_out(self, scores: np.ndarray) -> np.ndarray:
        """(sample,) each sample's projection on the refit that did not see it."""
        if scores.shape[1] == 0:
            return np.full(len(self.t), np.nan)
        return scores[np.arange(len(self.t)), self.part].astype(np.float64)


_Found = tuple[Estimate, np.ndarray, list[np.ndarray], np.ndarray]


def _linear(method: CAV, seen: _Seen, reference_weights: np.ndarray) -> _Found:
    """All of a pattern in one pass: itself, the reference, refits for held-out parts and on bootstrap samples."""
    training = seen.training()
    drawn = bootstrap_weights(
        seen.weights, seen.t, seen.strata, method.resamples, seed=method.seed, origins=seen.origins
    )
    parts = [np.zeros(len(seen.t)) if w is None else w for w in training]
    found = seen.rows.combine(seen.used, np.stack([seen.weights, reference_weights, *parts, *drawn]))
    refits = [_unit_or_nan(row) for row in found[2 : 2 + len(parts)]]
    return Estimate(found[0]), found[1], refits, found[2 + len(parts) :]


def _other(method: CAV, seen: _Seen, reference_weights: np.ndarray) -> _Found:
    x = seen.x
    first = method.estimate(x, seen.t, seen.strata)
    refits = []
    for weights in seen.training():
        method._notice()
        if weights is None:
            refits.append(np.full(x.shape[1], np.nan))
            continue
        train = weights != 0
        again = method.estimate(x[train], seen.t[train], seen.strata[train], given=first)
        refits.append(_unit_or_nan(again.vector))
    resampled = []
    rng = np.random.default_rng(method.seed)
    for _ in range(method.resamples if seen.t.sum() > 1 else 0):
        method._notice()
        drawn = _drawn(seen, rng)
        again = method.estimate(x[drawn], seen.t[drawn], seen.strata[drawn], given=first)
        resampled.append(again.vector)
    reference = seen.rows.combine(seen.used, reference_weights[None])[0]
    return first, reference, refits, np.array(resampled).reshape(-1, x.shape[1])


def _drawn(seen: _Seen, rng: np.random.Generator) -> np.ndarray:
    """A bootstrap sample of rows, as many originals of each cell as there are, with all their views in it."""
    cell = cells(seen.strata, seen.t)
    order = np.argsort(cell, kind="stable")
    chosen = []
    for members in np.split(order, np.cumsum(np.bincount(cell))[:-1]):
        which = places(seen.origins[members], len(members))
        by_original = np.split(members[np.argsort(which, kind="stable")], np.cumsum(np.bincount(which))[:-1])
        chosen += [by_original[i] for i in rng.integers(0, len(by_original), len(by_original))]
    return np.concatenate(chosen)


def _unit_or_nan(vector: np.ndarray) -> np.ndarray:
    size = float(np.linalg.norm(vector))
    return vector / size if size > 0 else np.full(len(vector), np.nan)


def _strata(
    scope: Any, is_on: np.ndarray, is_in: np.ndarray, class_: np.ndarray, classes: Sequence[str], notes: list[str]
) -> np.ndarray:
    """(row,) int64: the group in which each row is compared; -1 leaves it out."""
    if scope == "all":
        if not (is_on & is_in).any() or not (~is_on & is_in).any():
            raise BadValueError("No sample is left to compare with: all that could be read are of one kind.")
        return np.where(is_in, 0, -1)
    if not (class_ >= 0).any():
        raise BadValueError(
            f'The data has no classes, so that the scope "{scope}" means nothing.',
            hint='Pass scope="all", which compares all samples with all.',
        )
    if scope != "within-class":
        index = _class_index(scope, classes)
        is_in = is_in & (class_ == index)
        n_on, n_off = int((is_on & is_in).sum()), int((~is_on & is_in).sum())
        if n_on == 0 or n_off == 0:
            raise BadValueError(
                f'The class "{scope}" holds {n_on} positives and {n_off} negatives; both are needed.',
                hint='Choose another class, or scope="within-class" for all that hold both.',
            )
        return np.where(is_in, index, -1)
    is_in = is_in & (class_ >= 0)
    n = int(class_.max()) + 1
    has_on = np.bincount(class_[is_on & is_in], minlength=n) > 0
    has_both = has_on & (np.bincount(class_[~is_on & is_in], minlength=n) > 0)
    if not has_both.any():
        raise BadValueError(
            "No class holds both positives and negatives: concept and class are confounded, and the direction of the "
            "one is that of the other.",
            hint='Add samples of other classes with the concept or of these without it; scope="all" ignores the class.',
        )
    kept = is_in & has_both[np.maximum(class_, 0)]
    lost = int(is_on.sum()) - int((is_on & kept).sum())
    if lost:
        notes.append(
            f"{lost} of {int(is_on.sum())} positives take no part: their classes hold no sample without the concept."
        )
    return np.where(kept, class_, -1)


def _class_index(scope: Any, classes: Sequence[str]) -> int:
    if isinstance(scope, str):
        if not scope.isdecimal():
            check.known("class", scope, classes, hint='Beside classes there are "within-class" and "all".')
        return list(classes).index(scope) if scope in classes else int(scope)
    return int(scope)


def _few(weights: np.ndarray, seed: int) -> np.ndarray:
    """At most so many rows of each kind, for what needs no more."""
    rng, kept = np.random.default_rng(seed), []
    for rows in (np.flatnonzero(weights > 0), np.flatnonzero(weights < 0)):
        kept.append(rows if len(rows) <= _FEW else rng.choice(rows, _FEW, replace=False))
    return np.sort(np.concatenate(kept))


def _expected(
    estimate: Estimate, x: np.ndarray, t: np.ndarray, strata: np.ndarray, weights: np.ndarray, notes: list[str]
) -> float:
    """The cosine to expect, from the length without the noise that it holds; says how many positives would do."""
    trace = within_variance(x, t, strata)
    if np.isnan(trace):
        return float("nan")
    noise = trace * float(weights @ weights)
    length = float(np.sqrt(max(0.0, float(estimate.vector @ estimate.vector) - noise)))
    cosine = expected_cosine(length, noise)
    if cosine < _LOW_COSINE:
        n_off = float(1 / max(float((weights[weights < 0] ** 2).sum()), 1e-12))
        needed = positives_needed(length, trace, n_off) if length > 0 else float("inf")
        enough = f"about {needed:.0f} positives would give 0.9" if np.isfinite(needed) else "it may be noise alone"
        notes.append(f"So few samples let one expect a cosine of {cosine:.2f} with the true direction; {enough}.")
    return cosine


def _agreement(method: CAV, vector: np.ndarray, x: np.ndarray, t: np.ndarray, strata: np.ndarray, seen: _Seen) -> float:
    """Cosine of the pattern with a filter: of a pattern with ridge, of a filter with the pattern."""
    try:
        if method.is_linear:
            other = quick_ridge(x, t, strata, seed=method.seed)
        else:
            other = seen.rows.combine(seen.used, seen.weights[None])[0]
        return float(unit(other) @ vector)
    except BadValueError:
        return float("nan")


def _about_class(
    method: CAV, rows: Rows, is_on: np.ndarray, is_in: np.ndarray, vector: np.ndarray, notes: list[str]
) -> tuple[float, float]:
    """How far the class tells the concept, and the cosine with the direction of the positives' main class."""
    known = is_in & (rows.class_ >= 0)
    if not (known & is_on).any() or len(np.unique(rows.class_[known])) < 2:
        return float("nan"), float("nan")
    area = class_auc(is_on[known], rows.class_[known])
    main = int(np.bincount(rows.class_[known & is_on]).argmax())
    rng, means = np.random.default_rng(method.seed), []
    for is_main in (True, False):
        group = (rows.class_ >= 0) & ((rows.class_ == main) == is_main)
        clean = np.flatnonzero(group & ~is_on)
        members = clean if len(clean) else np.flatnonzero(group)
        if len(members) == 0:
            return area, float("nan")
        members = members if len(members) <= _FEW else np.sort(rng.choice(members, _FEW, replace=False))
        means.append(rows.values[members].mean(0, dtype=np.float64))
    difference = means[0] - means[1]
    size = float(np.linalg.norm(difference))
    cosine = float(difference @ vector) / size if size > 0 else float("nan")
    if method.scope == "all" and any(area >= a and np.nan_to_num(abs(cosine)) >= c for a, c in CONFOUNDED):
        notes.append(
            f"Concept and class are confounded: the class alone tells the positives with an area of {area:.2f}, and "
            f'the direction has a cosine of {cosine:.2f} with that of the class. scope="within-class" parts them.'
        )
    return area, cosine


def _alignment(vector: np.ndarray, concept: Concept, rows: Rows, notes: list[str]) -> tuple[float, float]:
    if len(concept.pairs) == 0:
        return float("nan"), float("nan")
    at = np.searchsorted(rows.ids, concept.pairs).clip(max=len(rows.ids) - 1)
    is_there = (rows.ids[at] == concept.pairs).all(1)
    if not is_there.all():
        notes.append(f"{int((~is_there).sum())} of {len(at)} pairs could not be read.")
    at = at[is_there]
    return alignment(vector, rows.values[at[:, 0]].astype(np.float64) - rows.values[at[:, 1]])


def _note_unread(wanted: np.ndarray, ids: np.ndarray, notes: list[str]) -> None:
    lost = np.setdiff1d(wanted, ids)
    if len(lost) == len(wanted):
        raise BadValueError(f"None of the {len(wanted)} positives could be read.")
    if len(lost):
        notes.append(f"{len(lost)} of {len(wanted)} positives could not be read.")
