"""From a few seeds to all samples with an artifact: a direction ranks them, a person confirms, it is fitted again.

Seeds give a direction, the direction a ranking; the reviewer looks at its top and at the border between yes and no, and
what was confirmed joins the seeds; until the top holds too few.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike

from workbench.core import check
from workbench.core.errors import BadValueError
from workbench.methods.base import Directs, Method, Source, register_method
from workbench.methods.directions.cav import CAV, FastCAV, MeanDifferenceCAV, PatternCAV
from workbench.methods.directions.fitting import Rows
from workbench.methods.directions.kept import from_arrays, to_arrays
from workbench.methods.directions.separation import area_error, auc, average_precision
from workbench.methods.directions.sets import digest_of, sample_ids

if TYPE_CHECKING:
    import pandas as pd

    from workbench.core.context import Context

__all__ = ["Retrieval", "border", "kendall_tau", "wilson"]


@register_method(
    "retrieval",
    source=Source("Pahde et al. 2025 (Ensuring Medical AI Safety), bias modelling and data annotation with CAVs"),
    needs=("activations",),
)
class Retrieval(Method, Directs):
    """Rank samples by a direction that was fitted to a few seeds, and learn from what is confirmed.

    **What it answers.** Which other samples show what these seeds show? Look at `ask`, say yes or no with `judge`, and
    go on until `is_done_`. The confirmed samples are a tag, and the positives of any CAV.

    **When not to trust it.** What the seeds have in common beside the artifact becomes part of the direction. Samples
    of classes without seeds are compared with their own class, in which the artifact may look otherwise. The figures
    of `quality` need labels; without them the rate of `history` is all that is known.

    **Cost.** That of the direction; a refit of a pattern takes 20 ms for 2,000 samples of 512 units.

    Parameters
    ----------
    layer : str
    seeds : ids, mask, tag or frame
        Samples that show it; ten or more for a direction to trust.
    rounds : sequence of (confirmed, rejected), optional
        What was said so far; `judge` adds one. A third entry, the ids of the top that was asked about, says which of
        them count for the rate; without it all do.
    by : {"activation", "relevance"}
        Pooled activations, or relevances for the largest output (summed over positions, divided by their absolute sum).
    estimator : {"pattern", "ridge", "svm", "logistic", "mean-difference", "fast"}
        A pattern points where the artifact is; a filter decides better, where there are seeds enough.
    scope : str or int
        As for `PatternCAV`.
    pooling : {"max", "mean", "token"}
    n_top : int
        Samples of the top that are asked about in a round.
    precision : float, 0 to 1
        Stop once a smaller share of the top was confirmed.
    concept : str
        What it is called: the basis of its direction is ``cav-CONCEPT``.
    seed : int

    Attributes
    ----------
    cav_ : CAV
        The direction; by activation it is a component of its basis, too.
    score_ : (sample,) float32 array
        Place along the direction: 0 like the other samples of its class, 1 like the confirmed ones; NaN where unknown.
    threshold_ : float
        The border between yes and no, on the scale of `score_`.
    ranking_ : (sample,) int64 array
        Samples that were not judged, first the one that lies farthest along.
    is_done_ : bool
    """

    result_version = 1

    def __init__(
        self,
        layer: str,
        *,
        seeds: Any,
        rounds: Sequence[Any] = (),
        by: str = "activation",
        estimator: str = "pattern",
        scope: str | int = "within-class",
        pooling: str = "max",
        n_top: int = 20,
        precision: float = 0.5,
        concept: str = "retrieval",
        seed: int = 0,
    ):
        self.layer, self.seeds, self.rounds, self.by, self.estimator = layer, seeds, rounds, by, estimator
        self.scope, self.pooling, self.n_top, self.precision = scope, pooling, n_top, precision
        self.concept, self.seed = concept, seed

    def fit(self, ctx: Context) -> Retrieval:
        """Fit the direction to seeds and confirmed samples, and rank all others."""
        self._check()
        seeds, rounds = self._read(ctx)
        positives = np.union1d(seeds, np.concatenate([r[0] for r in rounds])) if rounds else seeds
        rejected = np.unique(np.concatenate([r[1] for r in rounds])) if rounds else np.zeros(0, np.int64)
        if both := np.intersect1d(positives, rejected).tolist():
            raise BadValueError(
                f"Sample {both[0]} was both confirmed and rejected.", hint="The last word must be the only one."
            )
        cav = self._cav(positives)
        if self.by == "relevance":
            cav._held = self._relevances(ctx)
        cav.fit(ctx)
        rows = cav._held
        assert rows is not None
        score = relative(rows.values @ cav.directions_.vectors[0], rows.class_, np.isin(rows.ids, positives))
        self._finish(ctx, cav, rows.ids, score, positives, rejected)
        return self

    # What is asked ----------------------------------------------------------------------------------------------------

    def ask(self, n: int | None = None, *, n_border: int | None = None) -> np.ndarray:
        """Samples to look at next: the first of the ranking, then those nearest to the border between yes and no.

        Parameters
        ----------
        n : int, optional
            Of the top; default `n_top`.
        n_border : int, optional
            Default: half as many.
        """
        n = self.n_top if n is None else check.positive("n", n)
        top = self.ranking_[:n]
        rest = self.ranking_[n:]
        n_border = n // 2 if n_border is None else n_border
        near = np.argsort(np.abs(self.score_[rest] - self.threshold_), kind="stable")[:n_border]
        return np.concatenate([top, rest[near]])

    def judge(self, confirmed: Any = (), rejected: Any = (), *, ctx: Context | None = None) -> Retrieval:
        """Say which samples show it and which do not; returns a new one, fitted again.

        Parameters
        ----------
        confirmed, rejected : ids, mask, tag or frame
            Any samples; those of the first `n_top` of the ranking count for the rate.
        ctx : Context, optional
            Default: the session that fitted this one, which then stores the new one, too.
        """
        session: Any = getattr(self, "session_", None)
        ctx = session if ctx is None else ctx
        if ctx is None:
            raise BadValueError("This was not fitted by a session.", hint="Pass ctx=..., or fit it first.")
        yes, no = sample_ids(ctx.data, confirmed, "confirmed"), sample_ids(ctx.data, rejected, "rejected")
        top = np.intersect1d(self.ranking_[: self.n_top], np.union1d(yes, no))
        earlier = [[np.setdiff1d(r[0], no), np.setdiff1d(r[1], yes), r[2]] for r in self._read(ctx)[1]]
        rounds = [tuple(tuple(part.tolist()) for part in r) for r in [*earlier, [yes, no, top]]]
        seeds = np.setdiff1d(sample_ids(ctx.data, self.seeds, "seeds"), no).tolist()
        made = type(self)(**{**self.params(), "seeds": seeds, "rounds": tuple(rounds)})
        keep = getattr(session, "fit", None) if ctx is session else None
        return made.fit(ctx) if keep is None else keep(made)

    def history(self) -> pd.DataFrame:
        """The rounds: how many were confirmed and rejected, and the rate in the top with its 95 % interval."""
        import pandas as pd

        columns = ["confirmed", "rejected", "top", "top_confirmed", "rate", "low", "high"]
        made = pd.DataFrame([dict(zip(columns, row, strict=True)) for row in self.history_], columns=columns)
        made.index = pd.RangeIndex(1, len(made) + 1, name="round")
        return made

    def samples(self) -> np.ndarray:
        """Seeds and confirmed samples, rising: for a tag, or the positives of a CAV."""
        return self.positives_

    def quality(self, labels: Any, *, ctx: Context | None = None) -> dict[str, float]:
        """How well the scores tell samples with the artifact from those without, where that is known.

        Parameters
        ----------
        labels : (sample,) bool array, or tag, ids or frame
            Those that truly show it.

        Returns
        -------
        dict
            ``auc`` with its ``auc_error`` (Hanley and McNeil, over originals), ``average_precision`` and
            ``kendall_tau`` of all samples but those that were judged, within classes where the direction is; ``n`` and
            ``n_positive``.
        """
        ctx = getattr(self, "session_", None) if ctx is None else ctx
        truth = np.asarray(labels)
        if truth.dtype != bool or truth.shape != self.score_.shape:
            if ctx is None:
                raise BadValueError(f"`labels` must be a mask of {len(self.score_)} samples here; got {truth.shape}.")
            truth = np.isin(np.arange(len(self.score_)), sample_ids(ctx.data, labels, "labels"))
        rows = self.ranking_
        strata = self.class_[rows] if self.scope == "within-class" else None
        score, t = self.score_[rows], truth[rows]
        area = auc(score, t, strata)
        return {
            "auc": area,
            "auc_error": area_error(area, t, None if ctx is None else np.asarray(ctx.data.origins)[rows]),
            "average_precision": average_precision(score, t, strata),
            "kendall_tau": kendall_tau(score, t),
            "n": len(t),
            "n_positive": int(t.sum()),
        }

    def to_frame(self) -> pd.DataFrame:
        """The ranking: sample as index; score, and whether it lies above the border."""
        import pandas as pd

        score = self.score_[self.ranking_]
        index = pd.Index(self.ranking_, name="sample")
        return pd.DataFrame({"score": score, "is_above": score > self.threshold_}, index=index)

    # What a method says -----------------------------------------------------------------------------------------------

    def recipe_params(self, ctx: Context) -> dict[str, Any]:
        self._check()
        seeds, rounds = self._read(ctx)
        own = {k: v for k, v in self.params().items() if k not in ("seeds", "rounds")}
        return own | {
            "seeds": [len(seeds), digest_of(seeds)],
            "rounds": [[digest_of(part) for part in one] for one in rounds],
        }

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Direction, scores and classes."""
        arrays, facts = to_arrays(self.cav_.directions_)
        own = {"score": self.score_, "class": self.class_, "positives": self.positives_, "rejected": self.rejected_}
        return {**{f"cav|{k}": v for k, v in arrays.items()}, **own}, {"cav": facts}

    def restore(self, ctx: Context, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Take up a stored direction and its scores."""
        positives, rejected = np.asarray(arrays["positives"]), np.asarray(arrays["rejected"])
        cav = self._cav(positives)
        own = {k.removeprefix("cav|"): v for k, v in arrays.items() if k.startswith("cav|")}
        cav._finish(from_arrays(own, facts["cav"]))
        score = np.asarray(arrays["score"])
        ids = np.flatnonzero(np.isfinite(score))
        self._finish(ctx, cav, ids, score[ids], positives, rejected)

    def __repr__(self) -> str:
        shown = {**self.params(), "rounds": f"<{len(self.rounds)}>" if hasattr(self.rounds, "__len__") else self.rounds}
        return f"Retrieval({', '.join(f'{k}={v!r}' for k, v in shown.items())})"

    # --- inside ------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        check.one_of("by", self.by, ("activation", "relevance"))
        check.one_of("estimator", self.estimator, tuple(_estimators()))
        check.positive("n_top", self.n_top)
        check.between("precision", self.precision, 0, 1)

    def _read(self, ctx: Context) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray, np.ndarray]]]:
        seeds = sample_ids(ctx.data, self.seeds, "seeds")
        if len(seeds) == 0 and not self.rounds:
            raise BadValueError("No seeds: no sample shows it.", hint="Name at least one, and better ten.")
        read = []
        for one in self.rounds:
            if not isinstance(one, Iterable) or len(parts := list(one)) not in (2, 3):
                raise BadValueError("A round is (confirmed, rejected).", hint="`judge` adds one.")
            yes, no = (sample_ids(ctx.data, part, "rounds") for part in parts[:2])
            top = sample_ids(ctx.data, parts[2], "rounds") if len(parts) == 3 else np.union1d(yes, no)
            read.append((yes, no, top))
        return seeds, read

    def _cav(self, positives: np.ndarray) -> CAV:
        made = _estimators()[self.estimator](
            self.layer, positives=positives, scope=self.scope, pooling=self.pooling, concept=self.concept,
            resamples=5, seed=self.seed,
        )  # fmt: skip
        return made

    def _relevances(self, ctx: Context) -> Rows:
        table = ctx.relevances(self.layer)
        ids = np.flatnonzero(np.asarray(table.is_valid))
        values = np.asarray(table.values)[ids]
        size = np.abs(values).sum(1, keepdims=True)
        values = values / np.where(size > 0, size, 1)
        labels, origins = (np.asarray(column)[ids] for column in (ctx.data.labels, ctx.data.origins))
        return Rows(ids, values, labels, origins)

    def _finish(
        self, ctx: Context, cav: CAV, ids: np.ndarray, score: np.ndarray, positives: np.ndarray, rejected: np.ndarray
    ) -> None:
        n = len(ctx.data.labels)
        self.cav_, self.direction_ = cav, cav.direction_
        if self.by == "activation":
            self.directions_ = cav.directions_  # `Session.fit` makes it a component
        self.score_ = np.full(n, np.nan, np.float32)
        self.score_[ids] = score
        self.class_ = np.asarray(ctx.data.labels)
        self.positives_, self.rejected_ = positives, rejected
        self.threshold_ = border(self.score_[positives], self.score_[rejected])
        judged = np.isin(np.arange(n), np.concatenate([positives, rejected]))
        order = np.argsort(np.where(np.isfinite(self.score_), -self.score_, np.inf), kind="stable")
        self.ranking_ = order[(~judged & np.isfinite(self.score_))[order]].astype(np.int64)
        self.history_ = [_counted(one) for one in self._read(ctx)[1]]
        last = self.history_[-1] if self.history_ else None
        self.is_done_ = bool(not len(self.ranking_) or (last is not None and last[2] > 0 and last[4] < self.precision))


def relative(score: np.ndarray, class_: np.ndarray, is_positive: np.ndarray) -> np.ndarray:
    """(sample,) place along a direction: 0 is the median of the samples of its class that are not positive, 1 that of
    the positives of its class, or where it has none the mean distance of the other classes.

    A class whose samples are all positive takes the median of all that are not.
    """
    middle = np.empty(len(score))
    lengths = {}
    others = np.median(score[~is_positive]) if (~is_positive).any() else 0.0
    for k in np.unique(class_):
        here = class_ == k
        off = score[here & ~is_positive]
        middle[here] = np.median(off) if len(off) else others
        if (here & is_positive).any():
            lengths[k] = float(np.median(score[here & is_positive]) - middle[here][0])
    mean = float(np.mean(list(lengths.values()))) if lengths else 1.0
    length = np.array([lengths.get(k, mean) for k in class_.tolist()])
    length = np.where(length > 1e-12, length, mean if mean > 1e-12 else 1.0)
    return ((score - middle) / length).astype(np.float32)


def border(confirmed: ArrayLike, rejected: ArrayLike) -> float:
    """The score that tells confirmed from rejected samples best.

    Halfway between two neighbouring scores, where the mean share of the two kinds on the right side is largest; of
    several the one nearest to one half. Without rejected samples it is one half.
    """
    on, off = (np.asarray(x, np.float64) for x in (confirmed, rejected))
    on, off = on[np.isfinite(on)], off[np.isfinite(off)]
    if not len(on) or not len(off):
        return 0.5
    values = np.unique(np.concatenate([on, off]))
    cuts = np.concatenate([[values[0] - 1], (values[1:] + values[:-1]) / 2, [values[-1] + 1]])
    right = np.searchsorted(np.sort(off), cuts, "left") / len(off) + 1
    right -= np.searchsorted(np.sort(on), cuts, "left") / len(on)
    best = np.flatnonzero(right >= right.max() - 1e-12)
    return float(cuts[best[np.argmin(np.abs(cuts[best] - 0.5))]])


def kendall_tau(scores: ArrayLike, t: ArrayLike) -> float:
    """Kendall's tau-b of scores with yes or no.

    Returns
    -------
    float
        -1 to 1; NaN where all scores, or all labels, are equal. NaN scores are left out.

    Notes
    -----
    With yes or no the pairs that count are those of the area under the curve A: concordant minus discordant ones are
    ``(2 A - 1) n1 n0``, divided by the root of ``n1 n0`` times the pairs of unequal scores.
    """
    scores, t = np.asarray(scores, np.float64), np.asarray(t, bool)
    scores, t = scores[np.isfinite(scores)], t[np.isfinite(scores)]
    n, pairs = len(t), float(t.sum()) * float((~t).sum())
    counts = np.unique(scores, return_counts=True)[1].astype(np.float64)
    unequal = n * (n - 1) / 2 - float((counts * (counts - 1) / 2).sum())
    if pairs == 0 or unequal == 0:
        return float("nan")
    return (2 * auc(scores, t) - 1) * pairs / float(np.sqrt(pairs * unequal))


def wilson(hits: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a rate; (0, 1) for none."""
    if n == 0:
        return 0.0, 1.0
    rate, z2 = hits / n, z * z
    middle, half = rate + z2 / (2 * n), z * np.sqrt(rate * (1 - rate) / n + z2 / (4 * n * n))
    return float((middle - half) / (1 + z2 / n)), float((middle + half) / (1 + z2 / n))


def _counted(one: tuple[np.ndarray, np.ndarray, np.ndarray]) -> tuple[int, int, int, int, float, float, float]:
    yes, no, top = one
    hits = len(np.intersect1d(yes, top))
    n = hits + len(np.intersect1d(no, top))
    return len(yes), len(no), n, hits, hits / n if n else float("nan"), *wilson(hits, n)


def _estimators() -> dict[str, Any]:
    from workbench.methods.directions.filter_cavs import SVMCAV, LogisticCAV, RidgeCAV

    return {
        "pattern": PatternCAV, "ridge": RidgeCAV, "svm": SVMCAV, "logistic": LogisticCAV,
        "mean-difference": MeanDifferenceCAV, "fast": FastCAV,
    }  # fmt: skip
