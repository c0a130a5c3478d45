"""What is said of a component beside its strongest references, read from pooled tables: no model, no torch.

References at any quantile, the classes it serves, components that go together with it, and samples that look like its
references without it. Sessions bring the tables; everything here is arrays in, records out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

__all__ = [
    "ClassShares",
    "Contrast",
    "Pooled",
    "Related",
    "Relations",
    "Slice",
    "at_quantile",
    "classes_of",
    "contrast_of",
    "correlated",
    "in_order",
    "why_alone",
]

_ROUNDING = 1e-6  # correlations and cosines closer than this are ties, which go by number
_AT_ONCE = 1 << 22


@dataclass(frozen=True, eq=False)
class Slice:
    """References around a quantile of a component's values, strongest first, one view per original.

    Attributes
    ----------
    samples : (reference,) int64
    values : (reference,) float32
    quantile : float
        1 is the strongest, 0 the weakest.
    first : int
        Rank of the first of them, from 1.
    of : int
        Originals that were ordered.
    value : float or None
        The value at the quantile: of the original with that rank.
    is_kept : bool
        Whether only references were kept, so that the order ends with the weakest of these.
    """

    samples: np.ndarray
    values: np.ndarray
    quantile: float
    first: int
    of: int
    value: float | None
    is_kept: bool = False

    def __len__(self) -> int:
        return len(self.samples)


@dataclass(frozen=True, eq=False)
class ClassShares:
    """Mean value of a component per class, largest first.

    Attributes
    ----------
    by : {"activation", "relevance"}
        Activations are grouped by the label of the data set, relevances by the output that was explained.
    classes : (class_,) int64
    names : tuple of str
    means : (class_,) float32
    counts : (class_,) int64
    mean : float or None
        Over all samples with a class.
    n_classes : int
        Classes that have samples.
    why : str
        Why there is nothing; empty if there is.
    """

    by: str
    classes: np.ndarray
    names: tuple[str, ...]
    means: np.ndarray
    counts: np.ndarray
    mean: float | None = None
    n_classes: int = 0
    why: str = ""


@dataclass(frozen=True, eq=False)
class Related:
    """Components of one layer that go together with a component, closest first.

    Attributes
    ----------
    layer : str
        Empty where no such layer is stored.
    components : tuple of str
    correlation : (component,) float32
        Of pooled activations over the samples.
    n : int
        Samples that were compared.
    """

    layer: str = ""
    components: tuple[str, ...] = ()
    correlation: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))
    n: int = 0


@dataclass(frozen=True, eq=False)
class Relations:
    """Components related to one: in the stored layers before and after, and in its own layer.

    `why` says why there is nothing: a component that is constant goes together with none.
    """

    before: Related
    near: Related
    after: Related
    why: str = ""


@dataclass(frozen=True, eq=False)
class Contrast:
    """Samples that look like a component's references, but on which it does not fire; most alike first.

    Attributes
    ----------
    samples : (contrast,) int64
    values : (contrast,) float32
        The component's activation on them, at most `threshold`.
    alike : (contrast,) float32
        Cosine to the reference they are most like, of pooled activations from which the mean over the data was taken.
    like : (contrast,) int64
        That reference.
    layer : str
        Whose activations say what looks alike.
    threshold, low : float
        The component does not fire where its value is at most `threshold`, its `low` quantile over the data.
    n_quiet : int
        Samples where it does not fire.
    why : str
        Why there are none.
    """

    samples: np.ndarray
    values: np.ndarray
    alike: np.ndarray
    like: np.ndarray
    layer: str = ""
    threshold: float = float("nan")
    low: float = 0.1
    n_quiet: int = 0
    why: str = ""


class Pooled:
    """A layer's pooled activations or relevances, with what is asked of them again and again.

    Parameters
    ----------
    values : (sample, component) float32
    is_valid : (sample,) bool
    target : (sample,) int64, optional
        What was explained.
    second : (sample, component) float32, optional
        What decides between equal values.
    """

    def __init__(
        self,
        values: np.ndarray,
        is_valid: np.ndarray,
        *,
        target: np.ndarray | None = None,
        second: np.ndarray | None = None,
    ):
        self.values, self.target, self.second = values, target, second
        self.is_valid = np.asarray(is_valid, dtype=bool)

    @property
    def n_bytes(self) -> int:
        """Memory that it keeps."""
        return int(self.values.nbytes + (0 if self.second is None else self.second.nbytes))

    @cached_property
    def is_known(self) -> np.ndarray:
        """(sample,) bool: valid rows without NaN."""
        return self.is_valid & np.isfinite(self.values).all(1)

    @cached_property
    def mean(self) -> np.ndarray:
        """(component,) float64 over the known rows."""
        total, n = np.zeros(self.values.shape[1]), 0
        for rows in self._blocks():
            part = self.values[rows][self.is_known[rows]]
            total, n = total + part.sum(0, dtype=np.float64), n + len(part)
        return total / max(n, 1)

    @cached_property
    def scale(self) -> np.ndarray:
        """(component,) float32: the largest absolute value over the known rows; 1 where that is 0."""
        found = np.zeros(self.values.shape[1], np.float32)
        for rows in self._blocks():
            found = np.maximum(found, np.abs(self.values[rows][self.is_known[rows]]).max(0, initial=0))
        return np.where(found > 0, found, 1).astype(np.float32)

    @cached_property
    def lengths(self) -> np.ndarray:
        """(sample,) float64: squared length of each row of `_shifted`."""
        found = [np.square(self._shifted(rows)).sum(1, dtype=np.float64) for rows in self._blocks()]
        return np.concatenate(found) if found else np.zeros(0)

    def _shifted(self, rows: slice | np.ndarray) -> np.ndarray:
        """Rows without the mean, on a scale where squares stay within float32."""
        return (self.values[rows] - self.mean.astype(np.float32)) / self.scale.max(initial=0)

    def column(self, index: int) -> np.ndarray:
        """(sample,) float32, NaN where it is not known."""
        column = np.array(self.values[:, index], dtype=np.float32)
        column[~self.is_valid] = np.nan
        return column

    def cosines(self, anchors: np.ndarray, *, without: int | None = None) -> np.ndarray:
        """(sample, anchor) cosine of rows with those of some samples, the mean taken from all; NaN where one has none.

        Parameters
        ----------
        without : int, optional
            A component that is left out.
        """
        chosen = self._shifted(anchors)
        gone = 0.0
        if without is not None:
            own = self.values[:, without] - np.float32(self.mean[without])
            gone = np.square(own / self.scale.max(), dtype=np.float64)
            chosen[:, without] = 0
        products = [self._shifted(rows) @ chosen.T for rows in self._blocks()]
        squares = np.maximum(self.lengths - gone, 0)
        least = _ROUNDING**2 * max(1, self.values.shape[1])
        with np.errstate(invalid="ignore", divide="ignore"):
            length = np.sqrt(np.where(squares > least, squares, np.nan))
            return np.clip(np.concatenate(products) / (length[:, None] * length[anchors]), -1, 1)

    def _blocks(self) -> list[slice]:
        step = max(1, _AT_ONCE // max(1, self.values.shape[1]))
        return [slice(i, i + step) for i in range(0, len(self.values), step)]


def in_order(values: np.ndarray, origins: np.ndarray, second: np.ndarray | None = None) -> np.ndarray:
    """(original,) int64: samples from the strongest to the weakest, of each original its strongest view.

    Parameters
    ----------
    values : (sample,)
        Samples with NaN are left out.
    origins : (sample,) int64
    second : (sample,), optional
        The larger one first among equal values; then the smaller id.
    """
    known = np.flatnonzero(np.isfinite(values))
    then = [] if second is None else [-second[known]]
    order = known[np.lexsort([known, *then, -values[known]])]
    _, first = np.unique(origins[order], return_index=True)
    return np.asarray(order[np.sort(first)], dtype=np.int64)


def at_quantile(order: np.ndarray, values: np.ndarray, quantile: float, n: int, *, is_kept: bool = False) -> Slice:
    """The `n` references around a quantile, where there are so many: fewer ones stronger or weaker at the ends.

    Parameters
    ----------
    order : (original,) int64
        From `in_order`.
    values : (original,)
        Their values.
    """
    of = len(order)
    n = min(n, of)
    at = (1 - quantile) * max(0, of - 1)
    first = int(min(max(np.floor(at - (n - 1) / 2 + 0.5), 0), of - n))
    value = float(values[int(np.floor(at + 0.5))]) if of else None
    chosen = slice(first, first + n)
    return Slice(
        order[chosen].astype(np.int64), values[chosen].astype(np.float32), quantile, first + 1, of, value, is_kept
    )


def classes_of(
    values: np.ndarray, groups: np.ndarray, names: Sequence[str], *, by: str, n: int = 5, kind: str = "output"
) -> ClassShares:
    """The classes with the largest mean.

    Parameters
    ----------
    values : (sample,)
        Samples with NaN are left out.
    groups : (sample,) int64
        Class of each sample; -1 for none.
    kind : str
        What a class without a name is called.
    """
    used = np.isfinite(values) & (groups >= 0)
    if not used.any():
        empty = np.zeros(0, np.int64)
        return ClassShares(by, empty, (), empty.astype(np.float32), empty, why="No sample has a class.")
    part = values[used].astype(np.float64)
    counts = np.bincount(groups[used])
    sums = np.bincount(groups[used], weights=part)
    seen = np.flatnonzero(counts)
    means = sums[seen] / counts[seen]
    chosen = np.argsort(-means, kind="stable")[:n]
    classes = seen[chosen]
    named = tuple(str(names[i]) if i < len(names) else f"{kind} {i}" for i in classes.tolist())
    return ClassShares(
        by, classes.astype(np.int64), named, means[chosen].astype(np.float32), counts[classes].astype(np.int64),
        float(part.mean()), len(seen),
    )  # fmt: skip


def correlated(
    column: np.ndarray, table: Pooled, n: int, *, without: int | None = None
) -> tuple[np.ndarray, np.ndarray, int]:
    """The components of a table that correlate most with a column, over the samples known of both.

    Constant components correlate with none. Ties go by number.

    Returns
    -------
    components : (component,) int64
    correlation : (component,) float32
    samples : int
        How many were compared.
    """
    used = np.flatnonzero(np.isfinite(column) & table.is_known)
    own = _centred(column[used][:, None])[:, 0] if len(used) > 1 else np.zeros(0)
    if not own.any():
        return np.zeros(0, np.int64), np.zeros(0, np.float32), len(used)
    rough = np.zeros(table.values.shape[1])
    square = np.zeros(table.values.shape[1])
    is_all = len(used) == int(table.is_known.sum())
    mean = (table.mean if is_all else table.values[used].mean(0, dtype=np.float64)).astype(np.float32)
    for rows in np.array_split(used, max(1, used.size * rough.size // _AT_ONCE)):
        part = (table.values[rows] - mean) / table.scale
        rough += part.T @ own[np.searchsorted(used, rows)].astype(np.float32)
        square += np.square(part).sum(0, dtype=np.float64)
    has_spread = np.sqrt(square) > _ROUNDING * len(used) ** 0.5
    rough = np.where(has_spread, rough / np.sqrt(np.where(square > 0, square, 1)), -np.inf)
    if without is not None:
        rough[without] = -np.inf
    # What float32 leaves unsure is made again for the first, and for those that may be equal to the last of them.
    limit = np.partition(rough, -n)[-n] if n < len(rough) else -np.inf
    likely = np.flatnonzero((rough >= limit - 1e-4) & np.isfinite(rough))
    if len(likely) > 64 * n:
        likely = likely[np.argsort(-rough[likely], kind="stable")[: 64 * n]]
    likely = np.sort(likely)
    exact = _centred(table.values[np.ix_(used, likely)]).T @ own
    order = _ties_by_number(exact)[:n]
    order = order[np.isfinite(exact[order])]
    return likely[order].astype(np.int64), np.clip(exact[order], -1, 1).astype(np.float32), len(used)


def why_alone(column: np.ndarray) -> str:
    """Why a component goes together with none: it has no values, or one; empty if it has several."""
    known = column[np.isfinite(column)]
    if not len(known):
        return "It has no values."
    return "" if (known != known[0]).any() else "It answers to all samples alike."


def contrast_of(
    values: np.ndarray,
    looks: Pooled,
    origins: np.ndarray,
    *,
    without: int | None = None,
    second: np.ndarray | None = None,
    anchors: int = 3,
    low: float = 0.1,
    n: int = 6,
    layer: str = "",
) -> Contrast:
    """Samples that are nearest to a component's strongest references, and on which it does not fire.

    Parameters
    ----------
    values : (sample,)
        The component's pooled activations; NaN where not known.
    looks : Pooled
        Whose rows say which samples are alike.
    origins : (sample,) int64
        Views of the references' originals are left out, and of each other original only the view most alike is taken.
    without : int, optional
        The component itself, where it is one of those that `looks` is made of.
    anchors : int
        References that are compared with: the strongest, one view per original.
    low : float
        It does not fire where its value is at most this quantile of its values.
    """

    def none(why: str, threshold: float = float("nan"), n_quiet: int = 0) -> Contrast:
        empty = np.zeros(0, np.float32)
        ids = np.zeros(0, np.int64)
        return Contrast(ids, empty, empty, ids, layer, threshold, low, n_quiet, why)

    known = np.where(looks.is_known, values, np.nan)
    if not np.isfinite(known).any():
        return none("No sample has values in both layers.")
    threshold = float(np.quantile(known[np.isfinite(known)], low, method="lower"))
    order = in_order(known, origins, second)
    chosen = order[:anchors][known[order[:anchors]] > threshold]
    quiet = np.isfinite(known) & (known <= threshold)
    if not len(chosen):
        return none("It answers to all samples alike.", threshold, int(quiet.sum()))
    cosine = looks.cosines(chosen, without=without)
    best = np.where(np.isfinite(cosine), cosine, -np.inf)
    like, alike = best.argmax(1), best.max(1)
    usable = np.flatnonzero(quiet & np.isfinite(alike) & ~np.isin(origins, origins[chosen]))
    if not len(usable):
        return none("No other sample on which it does not fire can be compared.", threshold, int(quiet.sum()))
    usable = usable[_ties_by_number(alike[usable])]
    _, first = np.unique(origins[usable], return_index=True)
    found = usable[np.sort(first)][:n]
    return Contrast(
        found.astype(np.int64), known[found].astype(np.float32), alike[found].astype(np.float32),
        chosen[like[found]].astype(np.int64), layer, threshold, low, int(quiet.sum()),
    )  # fmt: skip


def _centred(columns: np.ndarray) -> np.ndarray:
    """Columns of length one without their mean, in float64; zeros where a column is constant."""
    columns = columns.astype(np.float64)
    scale = np.abs(columns).max(0, initial=0.0)
    columns = columns / np.where(scale > 0, scale, 1)
    columns = columns - columns.mean(0)
    length = np.linalg.norm(columns, axis=0)
    has_spread = length > _ROUNDING * max(1, len(columns)) ** 0.5
    return np.where(has_spread, columns / np.where(has_spread, length, 1), 0.0)


def _ties_by_number(scores: np.ndarray) -> np.ndarray:
    """Largest first; among those that rounding cannot tell apart the smaller number first."""
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    with np.errstate(invalid="ignore"):
        step = np.concatenate([[False], ranked[:-1] - ranked[1:] > _ROUNDING])
    return np.asarray(order[np.lexsort([order, np.cumsum(step)])])
