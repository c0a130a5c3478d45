"""Directions in the space of a layer, and what depends on them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import check
from workbench.core.errors import ShapeError, UnknownComponentError
from workbench.core.ids import ComponentId
from workbench.core.record import Ranking, Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ConceptSensitivity", "Direction", "DirectionSet"]


@dataclass(frozen=True, eq=False, repr=False)
class Direction(Result):
    """A direction in the space of a layer's units that stands for a concept, and how far it can be trusted.

    Attributes
    ----------
    layer, basis : str
    index : int
        Its place on the basis: the address is ``layer/basis/index``.
    concept : str
        What people call it.
    estimator, pooling, scope : str
        How it was found; see `workbench.methods.PatternCAV`.
    vector : (unit,) float32 array
        Of length 1, pointing from samples without the concept to those with it.
    length : float
        Distance of the two means along the vector, `mean_positive` - `mean_negative`.
    samples : (sample,) int64 array
        Ids of all samples that took part, rising.
    is_positive : (sample,) bool array
    class_ : (sample,) int64 array
        Label of each; -1 where unknown.
    score : (sample,) float32 array
        Projection of the pooled activation on the vector.
    held_out : (sample,) float32 array
        Projection on a vector that was fitted without the sample and other views of its picture; NaN where there is
        none.
    mean_positive, mean_negative : float
        Mean projection with and without the concept. Stratified by class if the direction is: then classes count with
        the weights that the direction gives them.
    reference : (unit,) float32 array
        Mean activation of the samples without the concept, with the same weights.
    threshold : float
        The projection above which a sample counts as showing the concept: the boundary of a classifier, else midway
        between the two means (FastCAV: the mean of all).
    auc, auc_error, average_precision : float
        How well projections tell held-out samples with the concept from those without, 0 to 1, and Hanley and McNeil's
        standard error of the area, with views of one original counted once. Stratified: compared within classes. NaN
        where nothing can be held out.
    stability : float
        Mean cosine of pairs of refits on bootstrap samples of originals; NaN for fewer than two.
    expected_cosine : float
        Cosine with the true direction that so many independent samples let one expect, 0 to 1; NaN for filters, which
        have no such formula.
    agreement : float
        Cosine of the pattern with a filter of the same samples.
    alignment, alignment_overall : float
        Of pairs with and without the concept: mean cosine of their differences with the vector, and cosine of the mean
        difference with it; NaN without pairs. Of the very pairs that a pattern was fitted to, the latter is 1.
    class_auc : float
        How well the class alone tells samples with the concept from those without, 0.5 to 1.
    class_cosine : float
        Cosine of the vector with the direction of the class that holds most positives; NaN where there is no such.
    settings : mapping
        Strength of the penalty and the like.
    warnings : tuple of str
        What speaks against it, in words.
    """

    layer: str
    basis: str
    index: int
    concept: str
    estimator: str
    pooling: str
    scope: str
    vector: np.ndarray
    length: float
    samples: np.ndarray
    is_positive: np.ndarray
    class_: np.ndarray
    score: np.ndarray
    held_out: np.ndarray
    mean_positive: float
    mean_negative: float
    reference: np.ndarray
    threshold: float
    auc: float
    auc_error: float
    average_precision: float
    stability: float
    expected_cosine: float
    agreement: float
    alignment: float
    alignment_overall: float
    class_auc: float
    class_cosine: float
    settings: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Its address."""
        return str(ComponentId(self.layer, self.basis, self.index))

    @property
    def n_positive(self) -> int:
        """Samples with the concept."""
        return int(self.is_positive.sum())

    @property
    def n_negative(self) -> int:
        """Samples without it."""
        return int((~self.is_positive).sum())

    def cosine(self, other: Direction | np.ndarray) -> float:
        """Cosine with another direction, -1 to 1."""
        vector = np.asarray(other.vector if isinstance(other, Direction) else other, dtype=np.float64)
        if vector.shape != self.vector.shape:
            raise ShapeError(f"{self.id} has {self.vector.shape} entries, the other direction {vector.shape}.")
        own = self.vector.astype(np.float64)
        return float(own @ vector) / max(float(np.linalg.norm(own) * np.linalg.norm(vector)), 1e-30)

    def top(self, n: int = 10) -> Ranking:
        """The units with the largest absolute entries."""
        order = np.argsort(-np.abs(self.vector), kind="stable")[: check.positive("n", n)]
        ids = tuple(str(ComponentId(self.layer, "unit", int(i))) for i in order)
        return Ranking(ids, self.vector[order], quantity="entry")

    def to_frame(self) -> pd.DataFrame:
        """One row per sample that took part, the largest projection first."""
        import pandas as pd

        columns = {
            "is_positive": self.is_positive, "class": self.class_, "score": self.score, "held_out": self.held_out
        }  # fmt: skip
        frame = pd.DataFrame(columns, index=pd.Index(self.samples, name="sample"))
        return frame.sort_values("score", ascending=False, kind="stable")

    def facts(self) -> dict[str, Any]:
        """What is known of it, as numbers and words: a row of `DirectionSet.to_frame`."""
        counts: dict[str, Any] = {
            "concept": self.concept,
            "estimator": self.estimator,
            "pooling": self.pooling,
            "scope": self.scope,
        }
        counts |= {"n_positive": self.n_positive, "n_negative": self.n_negative}
        return counts | {name: getattr(self, name) for name in DIRECTION_NUMBERS} | {"warnings": len(self.warnings)}

    def __repr__(self) -> str:
        auc = "" if np.isnan(self.auc) else f", held-out AUC {self.auc:.3f}"
        warned = f", {len(self.warnings)} warnings" if self.warnings else ""
        return f"<direction {self.id}: {self.estimator}, {self.n_positive} against {self.n_negative}{auc}{warned}>"


DIRECTION_NUMBERS = (
    "length", "mean_positive", "mean_negative", "threshold", "auc", "auc_error", "average_precision", "stability",
    "expected_cosine", "agreement", "alignment", "alignment_overall", "class_auc", "class_cosine",
)  # fmt: skip


@dataclass(frozen=True, eq=False, repr=False)
class DirectionSet(Result):
    """The directions of one basis.

    Attributes
    ----------
    layer, basis : str
    directions : tuple of Direction
        By their index.
    """

    layer: str
    basis: str
    directions: tuple[Direction, ...]

    @property
    def n_components(self) -> int:
        """Number of directions."""
        return len(self.directions)

    @property
    def vectors(self) -> np.ndarray:
        """(component, unit) float32 array."""
        return np.stack([one.vector for one in self.directions])

    @property
    def concepts(self) -> tuple[str, ...]:
        """Names of the concepts."""
        return tuple(one.concept for one in self.directions)

    def ids(self) -> list[str]:
        """Addresses of the directions."""
        return [one.id for one in self.directions]

    def cosines(self) -> np.ndarray:
        """(component, component) float array: cosines of all pairs."""
        vectors = self.vectors.astype(np.float64)
        return vectors @ vectors.T

    def __getitem__(self, which: int | str) -> Direction:
        """By index, concept or address."""
        for one in self.directions:
            if which in (one.concept, one.id, one.index):
                return one
        raise UnknownComponentError(
            f'No direction "{which}" in {self.layer}/{self.basis}.', hint=f"There are: {', '.join(self.concepts)}."
        )

    def __len__(self) -> int:
        return len(self.directions)

    def __iter__(self) -> Iterator[Direction]:
        return iter(self.directions)

    def to_frame(self) -> pd.DataFrame:
        """One row per direction, with all that is known of it."""
        import pandas as pd

        return pd.DataFrame([one.facts() for one in self.directions], index=pd.Index(self.ids(), name="component"))

    def __repr__(self) -> str:
        return f"<directions {self.layer}/{self.basis}: {', '.join(self.concepts)}>"


@dataclass(frozen=True, eq=False, repr=False)
class ConceptSensitivity(Result):
    """How outputs react to motion along directions: TCAV scores and sensitivities, with intervals and a null.

    All arrays are (component, class_), components being directions.

    Attributes
    ----------
    layer, basis : str
    concepts, classes : tuple of str
    class_index : tuple of int
        Which outputs.
    n_samples : (class_,) int64 array
        Samples of each class that were looked at. Views of one original are no new evidence: intervals and errors go by
        originals.
    score : float
        Share of the samples whose output rises along the direction among those where it changes at all, 0 to 1; NaN is
        undefined: it changes for none.
    score_low, score_high : float
        Middle 95 % of bootstrap samples of originals.
    score_positions : float
        The same share with all positions of all samples counted.
    sensitivity, sensitivity_error : float
        Mean absolute derivative in output units, over positions and samples, and its standard error over originals.
    slope, slope_error : float
        Mean signed derivative, and its standard error over originals.
    zeros : float
        Share of the samples whose derivative is exactly zero.
    null_low, null_high : float
        Middle 95 % of the scores of random directions.
    null_sensitivity, null_sensitivity_low, null_sensitivity_high : float
        Mean sensitivity to random directions, and their middle 95 %.
    null_slope_low, null_slope_high : float
        Middle 95 % of the slopes along random directions.
    p, p_holm : float
        Share of random directions whose score is at least as far from one half, without and with Holm's correction
        across concepts; NaN where the score is undefined.
    p_sensitivity, p_sensitivity_holm, p_slope, p_slope_holm : float
        Twice the share of random directions with a sensitivity, or slope, beyond that of the concept, on the side with
        fewer, the concept counted among them: from 2 / (`n_random` + 1) on. These can be tested also where the model is
        linear above the layer and the score says nothing. NaN where no output changes, or without random directions.
    n_random : int
    warnings : tuple of str
    n_origins : (class_,) int64 array, optional
        Original pictures that the samples are of. Default: each sample is its own.
    """

    layer: str
    basis: str
    concepts: tuple[str, ...]
    classes: tuple[str, ...]
    class_index: tuple[int, ...]
    n_samples: np.ndarray
    score: np.ndarray
    score_low: np.ndarray
    score_high: np.ndarray
    score_positions: np.ndarray
    sensitivity: np.ndarray
    sensitivity_error: np.ndarray
    slope: np.ndarray
    slope_error: np.ndarray
    zeros: np.ndarray
    null_low: np.ndarray
    null_high: np.ndarray
    null_sensitivity: np.ndarray
    null_sensitivity_low: np.ndarray
    null_sensitivity_high: np.ndarray
    null_slope_low: np.ndarray
    null_slope_high: np.ndarray
    p: np.ndarray
    p_holm: np.ndarray
    p_sensitivity: np.ndarray
    p_sensitivity_holm: np.ndarray
    p_slope: np.ndarray
    p_slope_holm: np.ndarray
    n_random: int
    warnings: tuple[str, ...] = ()
    n_origins: np.ndarray | None = None

    @property
    def is_undefined(self) -> np.ndarray:
        """(component, class_) bool array: where no output changes along the direction."""
        return np.isnan(self.score)

    def to_frame(self) -> pd.DataFrame:
        """One row per concept and class; an undefined score says so in the column ``verdict``."""
        import pandas as pd

        rows = []
        for i, concept in enumerate(self.concepts):
            for j, name in enumerate(self.classes):
                numbers = {key: float(getattr(self, key)[i, j]) for key in SENSITIVITY_NUMBERS}
                n, n_origins = int(self.n_samples[j]), int(self._n_origins[j])
                row = {"concept": concept, "class": name, "n": n, "originals": n_origins, **numbers}
                rows.append({**row, "verdict": self.verdict(i, j)})
        return pd.DataFrame(rows).set_index(["concept", "class"])

    def verdict(self, component: int, class_: int) -> str:
        """What a score says, in a word: ``undefined``, ``rises``, ``falls`` or ``as random``."""
        if self.is_undefined[component, class_]:
            return "undefined"
        if self.p_holm[component, class_] > 0.05:
            return "as random"
        return "rises" if self.score[component, class_] > 0.5 else "falls"

    @property
    def _n_origins(self) -> np.ndarray:
        return self.n_samples if self.n_origins is None else self.n_origins

    def __repr__(self) -> str:
        return f"<sensitivity of {len(self.classes)} outputs to {', '.join(self.concepts)} at {self.layer}>"


SENSITIVITY_NUMBERS = (
    "score", "score_low", "score_high", "score_positions", "sensitivity", "sensitivity_error", "slope", "slope_error",
    "zeros", "null_low", "null_high", "null_sensitivity", "null_sensitivity_low", "null_sensitivity_high",
    "null_slope_low", "null_slope_high", "p", "p_holm", "p_sensitivity", "p_sensitivity_holm", "p_slope",
    "p_slope_holm",
)  # fmt: skip
