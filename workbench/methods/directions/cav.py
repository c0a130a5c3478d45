"""Concept activation vectors: the direction of a concept in a layer, from samples that show it and samples that do not.

`PatternCAV` answers "what changes with the concept" and is what edits and tests of a direction should use; the filters
of `filter_cavs.py` answer "is the concept there". They differ where units are correlated: a filter turns away from
directions of noise, a pattern does not.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np

from workbench.core import check
from workbench.core.errors import BadValueError
from workbench.core.origins import error_of_mean
from workbench.core.results import Direction, DirectionSet
from workbench.methods.base import Directs, Method, Source, register_method
from workbench.methods.directions.estimators import median_difference
from workbench.methods.directions.fitting import Estimate, Rows, fitted
from workbench.methods.directions.kept import from_arrays, to_arrays
from workbench.methods.directions.sensitivity import all_slopes
from workbench.methods.directions.sets import Concept, concepts_of, digest_of, sample_ids, slug

if TYPE_CHECKING:
    import pandas as pd

    from workbench.core.context import Context

__all__ = [
    "CAV",
    "POOLINGS",
    "FastCAV",
    "MeanDifferenceCAV",
    "MedianDifferenceCAV",
    "PatternCAV",
]

POOLINGS = ("max", "mean", "token")
"""One vector per sample: the largest value over positions, their mean, or the first token of a sequence (cls)."""

_PARALLEL = 0.9999
_SOURCE = "Pahde et al. 2022 (Navigating Neural Space), section 3"

T = TypeVar("T", bound="CAV")


class CAV(Method, Directs):
    """Base of all concept activation vectors: sets of samples, scope, held-out scores, and refits.

    Attributes
    ----------
    directions_ : DirectionSet
        One `Direction` per concept, with all that is known of it; `to_frame()` is the table.
    direction_ : (unit,) float32 array
        Of length 1; (component, unit) where `positives` names several concepts.
    separation_ : float
        Area under the curve of held-out samples, 0 to 1; (component,) array for several concepts.
    """

    result_version = 2

    estimator: ClassVar[str] = ""
    positives: Any
    negatives: Any
    pairs: Any
    layer: str
    scope: Any
    pooling: str
    concept: Any
    resamples: int
    seed: int
    _held: Rows | None = None
    _basis: str = ""
    _concepts: tuple[str, ...] = ()
    _noticed: Any = None

    def fit(self, ctx: Context) -> Any:
        """Learn the direction from pooled activations, which are taken from the store or computed."""
        self._check()
        concepts = concepts_of(ctx.data, self.positives, self.negatives, self.pairs)
        rows = self._rows_of(ctx, concepts)
        basis = self._basis_name(concepts)
        self._noticed = ctx.progress
        try:
            found = [self._direction(ctx, concept, rows, basis, i) for i, concept in enumerate(concepts)]
        finally:
            self._noticed = None
        _check_parallel(found)
        self._held = rows
        self._finish(DirectionSet(self.layer, basis, tuple(found)))
        return self

    def refit(self: T, positives: Any, *, negatives: Any = None, pairs: Any = None, ctx: Context | None = None) -> T:
        """Fit again with other samples, from the activations at hand; nothing is stored.

        The new direction takes the address of this one, at once, so that what looks at it follows. With a closed form
        it takes 20 ms for 2,000 samples of 512 units, on one core.

        Parameters
        ----------
        positives, negatives, pairs
            As for the constructor.
        ctx : Context, optional
            Where to ask; default: the session that fitted this one.

        Returns
        -------
        CAV
            A new one; this one stays as it is. `Session.fit` of it stores it.
        """
        session = getattr(self, "session_", None)
        made = self.with_positives(positives, negatives=negatives, pairs=pairs)
        made._held = self._held
        if ctx is not None:
            return made.fit(ctx)
        if session is None:
            raise BadValueError("This direction was not fitted by a session.", hint="Pass ctx=..., or fit it first.")
        session.run(made.fit, session)
        session.add_directions(made.directions_)
        made.session_ = session
        return made

    def with_positives(self: T, positives: Any, *, negatives: Any = None, pairs: Any = None) -> T:
        """The same method with other samples, not fitted; of a fitted one it keeps the address."""
        own = {**self.params(), "positives": positives, "negatives": negatives, "pairs": pairs}
        made = type(self)(**own)
        if self.is_fitted:
            made._basis, made._concepts = self.directions_.basis, self.directions_.concepts
        return made

    def components(self) -> list[str]:
        """Addresses of the directions, ``layer/basis/index``."""
        return self.directions_.ids()

    def class_slopes(self, samples: Any, *, ctx: Context | None = None) -> pd.DataFrame:
        """How every output changes when the activation moves along the directions, for some samples.

        Parameters
        ----------
        samples : ids, mask, tag or frame
        ctx : Context, optional
            Default: the session that fitted this one.

        Returns
        -------
        pandas.DataFrame
            Per concept and output ``slope`` (mean derivative over positions and samples, in output units), its standard
            ``error`` over originals, and ``output`` (the number); the largest slope first. `TCAV` tests one of them.
        """
        ctx = getattr(self, "session_", None) if ctx is None else ctx
        if ctx is None:
            raise BadValueError("This direction was not fitted by a session.", hint="Pass ctx=..., or fit it first.")
        ids = sample_ids(ctx.data, samples, "samples")
        run = getattr(ctx, "run", None)
        made, read = self._slopes(ctx, ids) if run is None else run(self._slopes, ctx, ids)
        return _slope_frame(made, np.asarray(ctx.data.origins)[read], self.directions_.concepts, ctx.model)

    def plot(self, **options: Any) -> Any:
        """The direction as a plotly figure: projections of both sets, and the units with the largest entries."""
        record = self.directions_
        return (record[0] if len(record) == 1 else record).plot(**options)

    def recipe_params(self, ctx: Context) -> dict[str, Any]:
        concepts = concepts_of(ctx.data, self.positives, self.negatives, self.pairs)
        own = {k: v for k, v in self.params().items() if k not in ("positives", "negatives", "pairs")}
        return own | {"concepts": [c.facts() for c in concepts], "basis": self._basis_name(concepts)}

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Vectors, samples with their scores, and numbers, by direction."""
        return to_arrays(self.directions_)

    def restore(self, ctx: Context, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Take up stored directions."""
        self._finish(from_arrays(arrays, facts))

    def __repr__(self) -> str:
        sets = ("positives", "negatives", "pairs")
        shown = [
            f"{k}={_short(v) if k in sets else repr(v)}"
            for k, v in self.params().items()
            if not (k in ("negatives", "pairs", "concept") and v is None)
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    # --- what estimators say -----------------------------------------------------------------------------------------

    def estimate(self, x: np.ndarray, t: np.ndarray, strata: np.ndarray, *, given: Estimate | None = None) -> Estimate:
        """A direction that is not linear in the activations; `given` is the first of a series, whose settings stay.

        Parameters
        ----------
        x : (sample, unit) float array
        t : (sample,) bool array
        strata : (sample,) int array
        """
        raise NotImplementedError

    is_linear: ClassVar[bool] = True
    least_positives: ClassVar[int] = 1
    threshold_is_mean: ClassVar[bool] = False

    # --- inside ------------------------------------------------------------------------------------------------------

    def _notice(self) -> None:
        """Between two solutions: stop here if the fit was cancelled."""
        if self._noticed is not None:
            self._noticed.step(0)

    def _check(self) -> None:
        check.one_of("pooling", self.pooling, POOLINGS)
        if isinstance(self.resamples, bool) or not isinstance(self.resamples, int) or self.resamples < 0:
            raise BadValueError(f"`resamples` must be a whole number of at least 0; got {self.resamples!r}.")
        if not (isinstance(self.scope, (str, int, np.integer)) and not isinstance(self.scope, bool)):
            raise BadValueError(
                f'`scope` must be "within-class", "all", or a class; got {self.scope!r}.',
            )
        if self.concept is not None and (not isinstance(self.concept, str) or not self.concept.strip()):
            raise BadValueError(f"`concept` must be text that is not blank; got {self.concept!r}.")

    def _rows_of(self, ctx: Context, concepts: list[Concept]) -> Rows:
        named = np.unique(np.concatenate([part.ravel() for c in concepts for part in c.named()]))
        wants_all = any(c.negatives is None for c in concepts)
        held = self._held
        if held is not None and (held.is_all or not wants_all):
            ids, values = held.ids, held.values
        elif wants_all:
            ids, values = ctx.pooled(self.layer, None, pooling=self.pooling)
        else:
            ids, values = ctx.pooled(self.layer, named, pooling=self.pooling)
        missing = np.setdiff1d(named, ids)
        if len(missing):
            more_ids, more = ctx.pooled(self.layer, missing, pooling=self.pooling)
            ids, values = np.concatenate([ids, more_ids]), np.concatenate([values, more])
            order = np.argsort(ids, kind="stable")
            ids, values = ids[order], values[order]
        labels, origins = (np.asarray(column)[ids] for column in (ctx.data.labels, ctx.data.origins))
        return Rows(ids, values, labels, origins, is_all=wants_all or (held is not None and held.is_all))

    def _slopes(self, ctx: Any, ids: np.ndarray) -> tuple[np.ndarray, list[int]]:
        parts, known = [], []
        for first in range(0, len(ids), 8):
            x, read, _ = ctx.data.batch(ids[first : first + 8].tolist())
            if read:
                parts.append(all_slopes(ctx.model, x, self.layer, self.directions_.vectors))
                known += read
            ctx.progress.step(0)
        if not parts:
            raise BadValueError(f"None of the {len(ids)} samples can be read.")
        return np.concatenate(parts), known

    def _basis_name(self, concepts: list[Concept]) -> str:
        if self._basis:
            return self._basis
        suffix = [] if self.estimator == "pattern" else [self.estimator]
        if isinstance(self.concept, str):
            return "-".join(["cav", slug(self.concept).replace(".", "-"), *suffix])
        names = [slug(c.name).replace(".", "-") if c.name else digest_of(c.positives)[:6] for c in concepts]
        if len(names) > 3:
            names = [f"{len(names)}-{digest_of(np.concatenate([c.positives for c in concepts]))[:6]}"]
        return "-".join(["cav", *names, *suffix])

    def _direction(self, ctx: Context, concept: Concept, rows: Rows, basis: str, index: int) -> Direction:
        classes = tuple(ctx.data.classes) or tuple(ctx.class_names())
        found = fitted(self, concept, rows, classes)
        ctx.progress.step(0)  # where a cancellation is noticed
        name = concept.name or basis.removeprefix("cav-")
        if self.concept is not None and not isinstance(self.positives, Mapping):
            name = self.concept
        if index < len(self._concepts):
            name = self._concepts[index]
        return Direction(
            layer=self.layer, basis=basis, index=index, concept=name, estimator=self.estimator, pooling=self.pooling,
            scope=str(self.scope), **found,
        )  # fmt: skip

    def _finish(self, made: DirectionSet) -> None:
        self.directions_ = made
        areas = np.array([one.auc for one in made], np.float64)
        self.direction_ = made.vectors[0] if len(made) == 1 else made.vectors
        self.separation_ = float(areas[0]) if len(made) == 1 else areas


@register_method(
    "pattern-cav",
    source=Source(f"{_SOURCE}, eq. 5 (pattern); Haufe et al. 2014, section 2; stratified by class"),
    needs=("activations",),
)
class PatternCAV(CAV):
    """The direction in which activations change with a concept, in closed form.

    **What it answers.** Where samples with the concept lie, seen from samples without it: the regression of activations
    on the concept, which is the difference of the two means. Use it to test a direction, to edit along it and to
    localise it.

    **When not to trust it.** A cue that goes with the concept among the positives becomes part of the direction: choose
    negatives that share the cue. The class is the commonest such cue; hence the default scope. With few positives the
    noise of all units adds up: look at `expected_cosine` and `stability`. As a detector a filter does better.

    **Cost.** Two passes over the pooled activations: 0.4 s for 50,000 samples of 2,048 units on one core, and 10 ms per
    resample. One sweep without relevance if they are not in the store.

    Parameters
    ----------
    layer : str
    positives : ids, mask, tag, frame, pairs, or mapping
        Samples with the concept: sample ids, one truth value per sample, the name of a tag, a pandas frame or series
        with samples as index, or pairs ``[(with, without), ...]``. A mapping of names to such sets gives one direction
        each, all in one basis.
    negatives : as `positives`, optional
        Samples without it. Default: all others whose activations are stored (or of all data, if none are); of pairs,
        their second samples.
    pairs : pairs, optional
        Samples with and without the concept, everything else being equal, to measure the alignment by.
    scope : str or int
        ``"within-class"``: compare samples of the same class, then average over classes; those that lack either kind
        drop out. ``"all"``: compare all with all. The name or number of a class: that class alone.
    pooling : {"max", "mean", "token"}
        One vector per sample: largest value over positions, their mean, or the first token.
    concept : str, optional
        What the concept is called; the basis is ``cav-CONCEPT``. Default: the tag that exactly these samples have, else
        digits of their ids.
    resamples : int
        Bootstrap refits for `stability`.
    seed : int
        Of held-out parts and bootstrap samples.

    Attributes
    ----------
    directions_ : DirectionSet
    direction_ : (unit,) float32 array
    separation_ : float
        See `CAV`.

    Notes
    -----
    One positive is allowed: the direction then points from the mean to this sample, with a warning.
    """

    estimator = "pattern"

    def __init__(
        self,
        layer: str,
        *,
        positives: Any,
        negatives: Any = None,
        pairs: Any = None,
        scope: str | int = "within-class",
        pooling: str = "max",
        concept: str | None = None,
        resamples: int = 20,
        seed: int = 0,
    ):
        self.layer, self.positives, self.negatives, self.pairs = layer, positives, negatives, pairs
        self.scope, self.pooling, self.concept, self.resamples, self.seed = scope, pooling, concept, resamples, seed

    @classmethod
    def examples(cls) -> Any:
        """What the contract suite fits, on toy data."""
        yield (
            cls("features.11", positives=range(0, 24, 6), scope="all"),
            {"planted": "the direction of the artifact is found"},
        )


@register_method(
    "mean-difference-cav",
    source=Source("Kim et al. 2018 (TCAV), relative CAVs; Martin & Weller 2019, mean difference"),
    needs=("activations",),
)
class MeanDifferenceCAV(PatternCAV):
    """The mean with the concept minus the mean without it: for yes or no the pattern, under its other name.

    **What it answers**, **when not to trust it**, **cost**, parameters and attributes: as for `PatternCAV`, with the
    same numbers.
    """

    estimator = "mean-difference"


@register_method(
    "fast-cav",
    source=Source("Schmalwasser et al. 2025 (FastCAV), eq. 3"),
    needs=("activations",),
)
class FastCAV(PatternCAV):
    """The mean with the concept minus the mean of all: the direction of the pattern, with a threshold of its own.

    **What it answers**, **when not to trust it**, **cost**, parameters and attributes: as for `PatternCAV`. Its vector
    is ``n0 / n`` times the pattern, hence the same direction; a sample counts as showing the concept above the mean
    projection of all samples, not above the middle between the two means.
    """

    estimator = "fast"
    threshold_is_mean = True


@register_method(
    "median-difference-cav",
    source=Source(f"{_SOURCE}; medians in place of means"),
    needs=("activations",),
)
class MedianDifferenceCAV(CAV):
    """The median with the concept minus the median without it, unit by unit.

    **What it answers.** What `PatternCAV` does, where a few extreme activations would decide the means: maxima over
    positions have long tails.

    **When not to trust it.** Units that are zero for most samples of both kinds drop out, although the concept may
    drive them in some.

    **Cost.** A sort of each unit per refit: 20 ms for 2,000 samples of 512 units, 0.2 s with all refits.

    Parameters
    ----------
    layer, positives, negatives, pairs, scope, pooling, concept, resamples, seed
        As for `PatternCAV`.
    """

    estimator = "median-difference"
    is_linear = False

    def __init__(
        self,
        layer: str,
        *,
        positives: Any,
        negatives: Any = None,
        pairs: Any = None,
        scope: str | int = "within-class",
        pooling: str = "max",
        concept: str | None = None,
        resamples: int = 5,
        seed: int = 0,
    ):
        self.layer, self.positives, self.negatives, self.pairs = layer, positives, negatives, pairs
        self.scope, self.pooling, self.concept, self.resamples, self.seed = scope, pooling, concept, resamples, seed

    def estimate(self, x: np.ndarray, t: np.ndarray, strata: np.ndarray, *, given: Estimate | None = None) -> Estimate:
        return Estimate(median_difference(x, t, strata))


def _check_parallel(found: list[Direction]) -> None:
    for i, one in enumerate(found):
        for other in found[:i]:
            cosine = one.cosine(other)
            if abs(cosine) >= _PARALLEL:
                raise BadValueError(
                    f'The directions of "{other.concept}" and "{one.concept}" are parallel (cosine {cosine:.5f}): they '
                    "are one concept to this layer.",
                    hint="Leave one of them out, or fit them apart.",
                )


def _slope_frame(slopes: np.ndarray, origins: np.ndarray, concepts: tuple[str, ...], model: Any) -> pd.DataFrame:
    import pandas as pd

    n_outputs, error = slopes.shape[1], error_of_mean(slopes, origins)
    rows = [
        {"concept": concept, "class": model.class_name(k), "output": k, "slope": slopes[:, k, i].mean(),
         "error": error[k, i]}
        for i, concept in enumerate(concepts)
        for k in range(n_outputs)
    ]  # fmt: skip
    return pd.DataFrame(rows).sort_values("slope", ascending=False, kind="stable").set_index(["concept", "class"])


def _short(value: Any) -> str:
    """A set of samples in a few words."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{k!r}: {_short(v)}" for k, v in value.items()) + "}"
    try:
        size = len(value)
    except TypeError:
        return repr(value)
    return repr(value) if isinstance(value, str) or (size <= 6 and isinstance(value, (list, tuple))) else f"<{size}>"
