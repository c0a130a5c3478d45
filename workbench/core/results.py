"""Frozen records that methods return and widgets show: arrays and ids. They compute nothing and import no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import check
from workbench.core.errors import BadValueError, ShapeError, UnknownComponentError, UnknownSampleError
from workbench.core.ids import ComponentId

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

__all__ = [
    "ActivationTable",
    "Atlas",
    "Attribution",
    "ConceptSensitivity",
    "Direction",
    "DirectionSet",
    "Edit",
    "PointMap",
    "Ranking",
    "ReferenceSet",
    "Result",
    "SanityCheck",
]


class Result:
    """Base of all records: each has a plotly figure and a short repr."""

    def plot(self, **options: Any) -> Any:
        """Draw the record as a plain plotly ``Figure``; options are those of the figure's module."""
        from workbench.core.registry import FIGURES

        return FIGURES[type(self).__name__](self, **options)


@dataclass(frozen=True, eq=False, repr=False)
class ActivationTable(Result):
    """Pooled activations or relevances of one layer over a data set.

    Attributes
    ----------
    layer, basis : str
        Which components.
    quantity : {"activation", "relevance"}
    pooling : {"max", "mean", "sum"}
        How positions were summarised; sums for relevance.
    values : (sample, component) float32 CPU tensor
        NaN in the rows of samples that `is_valid` leaves out.
    is_valid : (sample,) bool tensor
        False where the picture could not be read, or where the sweep has not been yet.
    peak : (sample, component) int32 tensor or None
        Flat position of the largest activation, for `shape`.
    shape : tuple of int
        Size of the layer's map without sample and component axes; ``()`` for dense layers.
    target : (sample,) int64 tensor or None
        Output index that was explained, for relevances.
    target_text, rule : str
        What was explained, and by which rule.
    coverage : float
        Share of the data set that is covered, 0 to 1.
    recipe : str
        Digest of the stored result.
    """

    layer: str
    basis: str
    quantity: str
    pooling: str
    values: Tensor
    is_valid: Tensor
    peak: Tensor | None = None
    shape: tuple[int, ...] = ()
    target: Tensor | None = None
    target_text: str = ""
    rule: str = ""
    coverage: float = 1.0
    recipe: str = ""

    @property
    def n_components(self) -> int:
        """Number of components."""
        return self.values.shape[1]

    def __len__(self) -> int:
        return len(self.values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(np.asarray(self.values), dtype=dtype, copy=copy)

    def ids(self) -> list[str]:
        """Addresses of the components, in column order."""
        return [str(ComponentId(self.layer, self.basis, i)) for i in range(self.n_components)]

    def to_frame(self) -> pd.DataFrame:
        """The table as a pandas frame, samples as rows and addresses as columns."""
        import pandas as pd

        return pd.DataFrame(np.asarray(self), columns=self.ids()).rename_axis(index="sample")

    def __repr__(self) -> str:
        part = "" if self.coverage >= 1 else f", {self.coverage:.0%} of the data"
        return f"<{self.quantity} table {self.layer}/{self.basis}: {len(self)} samples x {self.n_components}{part}>"


@dataclass(frozen=True, eq=False, repr=False)
class ReferenceSet(Result):
    """The samples that activate each component most, or on which it is most relevant.

    Attributes
    ----------
    ids : (component, ref) int64 tensor
        Sample ids, strongest first; -1 in empty slots. Among equal activations the larger mean over positions comes
        first, then, as among equal relevances, the smaller id.
    values : (component, ref) float32 tensor
        Pooled activation or relevance; -inf in empty slots.
    peak : (component, ref) int32 tensor or None
        Flat position of the largest activation on a map of `shape`.
    target : (component, ref) int64 tensor or None
        Output index that was explained, for `by="relevance"`.
    n_valid : (component,) int64 tensor
        Filled slots of each component.
    n_origins, n_samples : int
        How many original pictures and how many views they were chosen from.
    per_origin : int
        Most views per original picture; 0 means no limit.
    """

    layer: str
    basis: str
    by: str
    ids: Tensor
    values: Tensor
    n_valid: Tensor
    n_samples: int
    n_origins: int
    per_origin: int = 1
    peak: Tensor | None = None
    shape: tuple[int, ...] = ()
    target: Tensor | None = None
    target_text: str = ""
    coverage: float = 1.0
    recipe: str = ""

    @property
    def n_components(self) -> int:
        """Number of components."""
        return self.ids.shape[0]

    @property
    def is_empty(self) -> Tensor:
        """(component,) bool: components without a single reference."""
        return self.n_valid == 0

    def of(self, component: int | str | ComponentId, n: int | None = None) -> list[int]:
        """Sample ids of one component, strongest first, filled slots only.

        Raises
        ------
        UnknownComponentError
            If the component belongs to another layer or does not exist.
        """
        index = self.index(component)
        count = int(self.n_valid[index])
        return [int(i) for i in self.ids[index, : count if n is None else min(n, count)]]

    def index(self, component: int | str | ComponentId) -> int:
        """Row of a component in this set."""
        if isinstance(component, (str, ComponentId)):
            address = ComponentId.parse(component)
            if (address.layer, address.basis) != (self.layer, self.basis):
                raise UnknownComponentError(f"{address} is not a component of {self.layer}/{self.basis}.")
            component = address.index
        if not 0 <= int(component) < self.n_components:
            raise UnknownComponentError(
                f"No component {component} in {self.layer}/{self.basis}.", hint=f"It has {self.n_components}, from 0."
            )
        return int(component)

    def to_frame(self) -> pd.DataFrame:
        """Long frame with a row per filled slot: component, rank, sample, value."""
        import pandas as pd

        filled = np.asarray(self.ids) >= 0
        component, rank = np.nonzero(filled)
        return pd.DataFrame(
            {
                "component": [str(ComponentId(self.layer, self.basis, int(c))) for c in component],
                "rank": rank,
                "sample": np.asarray(self.ids)[filled],
                self.by: np.asarray(self.values)[filled],
            }
        )

    def __repr__(self) -> str:
        return (
            f"<references of {self.layer}/{self.basis} by {self.by}: {self.n_components} components x "
            f"{self.ids.shape[1]}, from {self.n_samples} views of {self.n_origins} originals>"
        )


@dataclass(frozen=True, eq=False, repr=False)
class Attribution(Result):
    """What explaining a batch gave.

    Attributes
    ----------
    samples : tuple of int
        Sample ids, or positions in the batch if the pictures came from outside.
    heatmap : (sample, y, x) float32 tensor
        Signed relevance of the input, summed over its channels.
    target : (sample,) int64 tensor
        Output index that was explained (-1 where the target is no single output).
    position : (sample,) int64 tensor or None
        For detectors and sequences: the box or the position in the sequence that was explained.
    score : (sample,) float32 tensor
        The explained number: the logit, or the difference of two.
    gap : (sample,) float32 tensor
        ``(score - sum of relevance) / |score|``; the absolute difference where the score is near zero. NaN for
        conditional maps, whose sum has no target to reach.
    output : (sample, class_) float32 tensor
        The model's output; with more axes for detectors, sequences and dense predictions.
    relevance : mapping of layer to (sample, component) tensor
        Relevance of each recorded component, summed over positions.
    activation : mapping of layer to (sample, component) tensor
        Largest activation of each recorded component.
    given : tuple of str
        Addresses that the explanation is conditional on; empty for a plain one.
    rule, target_text : str
    pictures : sequence of (y, x, 3) uint8 arrays
        The input as the model saw it, for display.
    labels : tuple of str
        Names of the explained outputs.
    """

    samples: tuple[int, ...]
    heatmap: Tensor
    target: Tensor
    score: Tensor
    gap: Tensor
    output: Tensor
    relevance: Mapping[str, Tensor] = field(default_factory=dict)
    activation: Mapping[str, Tensor] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    rule: str = ""
    target_text: str = ""
    pictures: Sequence[np.ndarray] = ()
    labels: tuple[str, ...] = ()
    recipe: str = ""
    position: Tensor | None = None

    def __len__(self) -> int:
        return len(self.heatmap)

    def top(self, layer: str, n: int = 10, *, row: int = 0) -> Ranking:
        """Components of a recorded layer, by absolute relevance for sample number `row`."""
        if layer not in self.relevance:
            recorded = ", ".join(self.relevance) or "none"
            raise BadValueError(f'"{layer}" was not recorded.', hint=f"Recorded: {recorded}. Pass record=[...].")
        values = np.asarray(self.relevance[layer][row])
        order = np.argsort(-np.abs(values), kind="stable")[:n]
        return Ranking(
            tuple(str(ComponentId(layer, "unit", int(i))) for i in order), values[order], quantity="relevance"
        )

    def __repr__(self) -> str:
        given = f", given {len(self.given)} components" if self.given else ""
        return f"<attribution of {len(self)} samples, {self.target_text}, {self.rule}{given}>"


@dataclass(frozen=True, eq=False, repr=False)
class Ranking(Result):
    """Components in order, best first, with their scores."""

    components: tuple[str, ...]
    scores: np.ndarray
    quantity: str = "score"

    def __len__(self) -> int:
        return len(self.components)

    def to_frame(self) -> pd.DataFrame:
        """Frame with the addresses as index."""
        import pandas as pd

        return pd.DataFrame({self.quantity: np.asarray(self.scores)}, index=pd.Index(self.components, name="component"))

    def __repr__(self) -> str:
        return f"<ranking of {len(self)} components by {self.quantity}, first {', '.join(self.components[:3])}>"


@dataclass(frozen=True, eq=False, repr=False)
class SanityCheck(Result):
    """One sample explained by the model and by the same model with random weights.

    Attributes
    ----------
    base, randomised : Attribution
        Of the same output.
    correlation : float
        Spearman's rank correlation of the absolute maps, -1 to 1; NaN where a map is constant. Near 1 the map does not
        show what the model has learnt.
    seed : int
        Of the random weights.
    """

    base: Attribution
    randomised: Attribution
    correlation: float
    seed: int

    def __repr__(self) -> str:
        return f"<sanity check of sample {self.base.samples[0]}: rank correlation {self.correlation:.2f}>"


@dataclass(frozen=True, eq=False, repr=False)
class Atlas(Result):
    """The concepts of one layer, laid out on a plane.

    Attributes
    ----------
    position : (component, 2) float32 array
        Coordinates, 0 to 1, as stored.
    columns : mapping of name to (component,) array
        Quantities to colour, sort and filter by: ``activation``, ``relevance``, ``frequency``, ``cluster`` …
    references : ReferenceSet
    cluster_names : tuple of str
    layout : str
        Method, neighbours, distance and seed of the projection.
    """

    layer: str
    basis: str
    position: np.ndarray
    columns: Mapping[str, np.ndarray]
    references: ReferenceSet
    cluster_names: tuple[str, ...] = ()
    layout: str = ""
    recipe: str = ""

    @property
    def n_components(self) -> int:
        """Number of components."""
        return len(self.position)

    def ids(self) -> list[str]:
        """Addresses of the components."""
        return [str(ComponentId(self.layer, self.basis, i)) for i in range(self.n_components)]

    def to_frame(self) -> pd.DataFrame:
        """One row per component: coordinates and all columns."""
        import pandas as pd

        frame = pd.DataFrame(dict(self.columns), index=pd.Index(self.ids(), name="component"))
        frame.insert(0, "x", self.position[:, 0])
        frame.insert(1, "y", self.position[:, 1])
        return frame

    def __repr__(self) -> str:
        return (
            f"<atlas of {self.layer}/{self.basis}: {self.n_components} components, {len(self.cluster_names)} clusters>"
        )


@dataclass(frozen=True, eq=False, repr=False)
class PointMap(Result):
    """The components of a layer, or samples, as points on a plane, with their neighbours in the full space.

    Attributes
    ----------
    of : {"components", "samples"}
    layer, basis : str
        Whose activations or relevances are compared.
    by : {"activation", "relevance"}
    index : (point,) int64 array
        Number of the component, or sample id; rising.
    position : (point, 2) float32 array
        Coordinates, 0 to 1, as stored. Points apart lie on the line y = 0, below all others.
    neighbours : (point, neighbour) int32 array
        Rows of the nearest points in the full space, nearest first, ties by the smaller number; -1 in empty slots.
    distances : (point, neighbour) float32 array
        Of the neighbours; inf in empty slots.
    is_apart : (point,) bool array
        Points for which the distance says nothing: constant ones under correlation, those that are zero throughout
        under cosine.
    columns : mapping of name to (point,) array
        Quantities to colour, size and filter by; numbers or text.
    class_relevance : (class_, point) float32 array
        Mean relevance over the samples that were explained for a class; NaN rows where there was none. No rows for maps
        of samples and without relevance.
    classes : tuple of str
        Names of the classes.
    cluster_names : tuple of str
        By the number in the column ``cluster``.
    layout : str
        Method, neighbours, distance and seed of the projection, in words.
    distance : {"correlation", "cosine", "euclidean"}
    trustworthiness : float
        How far neighbours on the plane are neighbours in the full space, 0 to 1.
    seed : int
    recipe : str
        Digest of the table that it was made from.
    """

    of: str
    layer: str
    basis: str
    by: str
    index: np.ndarray
    position: np.ndarray
    neighbours: np.ndarray
    distances: np.ndarray
    is_apart: np.ndarray
    columns: Mapping[str, np.ndarray]
    class_relevance: np.ndarray
    classes: tuple[str, ...] = ()
    cluster_names: tuple[str, ...] = ()
    layout: str = ""
    distance: str = ""
    trustworthiness: float = 1.0
    seed: int = 0
    recipe: str = ""

    def __len__(self) -> int:
        return len(self.position)

    def ids(self) -> list[Any]:
        """Addresses of the components, or sample ids, in row order."""
        if self.of == "samples":
            return self.index.tolist()
        return [str(ComponentId(self.layer, self.basis, i)) for i in self.index.tolist()]

    def row(self, point: int | str | ComponentId) -> int:
        """Row of a component (address or number) or of a sample (id).

        Raises
        ------
        UnknownComponentError, UnknownSampleError
            If it is not on the map.
        """
        number: Any = point
        if self.of == "components" and isinstance(point, (str, ComponentId)):
            address = ComponentId.parse(point)
            if (address.layer, address.basis) != (self.layer, self.basis):
                raise UnknownComponentError(f"{address} is not a component of {self.layer}/{self.basis}.")
            number = address.index
        is_number = isinstance(number, (int, np.integer)) and not isinstance(number, bool)
        row = int(np.searchsorted(self.index, number)) if is_number else len(self)
        if row < len(self) and self.index[row] == number:
            return row
        hint = f"It shows {len(self)}, up to {self.index[-1]}."
        if self.of == "samples":
            raise UnknownSampleError(f"No sample {point!r} on this map.", hint=hint)
        raise UnknownComponentError(f"No component {point!r} of {self.layer}/{self.basis} on this map.", hint=hint)

    def nearest(self, point: int | str | ComponentId, k: int = 10) -> tuple[list[Any], np.ndarray]:
        """The points nearest to one in the full space.

        Parameters
        ----------
        point : address, number or sample id
        k : int
            At most as many as are kept; fewer come where there are fewer others, none for a point apart.

        Returns
        -------
        ids : list of str or int
        distance : (k,) float32 array
        """
        row = self.row(point)
        kept = self.neighbours.shape[1]
        if check.positive("k", k) > kept and kept < len(self) - 1:
            raise BadValueError(
                f"This map keeps {kept} neighbours of each point; {k} were asked for.",
                hint="A preview keeps none: fit the method." if kept == 0 else f"Ask for {kept}, or fit with more.",
            )
        near, distance = self.neighbours[row, :k], self.distances[row, :k]
        filled = near >= 0
        numbers = self.index[near[filled]].tolist()
        if self.of == "components":
            numbers = [str(ComponentId(self.layer, self.basis, i)) for i in numbers]
        return numbers, distance[filled]

    def column(self, name: str, target: str | int | None = None) -> np.ndarray:
        """One column; ``class_relevance`` of a certain class with `target`, else of the class where it is largest.

        Parameters
        ----------
        name : str
        target : str or int, optional
            Name or number of a class.

        Returns
        -------
        (point,) array
        """
        check.known("column", name, self.columns)
        if target is None:
            return self.columns[name]
        if name != "class_relevance":
            raise BadValueError(f'"{name}" is the same for all classes.', hint='`target` goes with "class_relevance".')
        if isinstance(target, str) and not target.isdecimal():
            check.known("class", target, self.classes)
        index = self.classes.index(target) if target in self.classes else int(target)
        if not 0 <= index < len(self.class_relevance) or np.isnan(self.class_relevance[index]).all():
            raise BadValueError(
                f'No sample of the data was explained for "{target}".',
                hint="Add pictures of that class, or sweep with Target.logit.",
            )
        return self.class_relevance[index]

    def to_frame(self) -> pd.DataFrame:
        """One row per point: coordinates, whether it is apart, and all columns."""
        import pandas as pd

        places = {"x": self.position[:, 0], "y": self.position[:, 1], "is_apart": self.is_apart}
        ids = pd.Index(self.ids(), name=self.of.removesuffix("s"))
        return pd.DataFrame({**places, **self.columns}, index=ids)

    def __repr__(self) -> str:
        apart = f", {int(self.is_apart.sum())} apart" if self.is_apart.any() else ""
        return f"<map of {len(self)} {self.of} of {self.layer}/{self.basis} by {self.by}{apart}: {self.layout}>"


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
        standard error of the area. Stratified: compared within classes. NaN where nothing can be held out.
    stability : float
        Mean cosine of pairs of refits on bootstrap samples; NaN for fewer than two.
    expected_cosine : float
        Cosine with the true direction that so many samples let one expect, 0 to 1; NaN for filters, which have no such
        formula.
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
        Samples of each class that were looked at.
    score : float
        Share of the samples whose output rises along the direction among those where it changes at all, 0 to 1; NaN is
        undefined: it changes for none.
    score_low, score_high : float
        Middle 95 % of bootstrap samples of images.
    score_positions : float
        The same share with all positions of all samples counted.
    sensitivity, sensitivity_error : float
        Mean absolute derivative in output units, over positions and samples, and its standard error over samples.
    slope : float
        Mean signed derivative.
    zeros : float
        Share of the samples whose derivative is exactly zero.
    null_low, null_high : float
        Middle 95 % of the scores of random directions.
    null_sensitivity : float
        Mean sensitivity to random directions.
    p, p_holm : float
        Share of random directions whose score is at least as far from one half, with and without Holm's correction
        across concepts; NaN where the score is undefined.
    n_random : int
    warnings : tuple of str
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
    zeros: np.ndarray
    null_low: np.ndarray
    null_high: np.ndarray
    null_sensitivity: np.ndarray
    p: np.ndarray
    p_holm: np.ndarray
    n_random: int
    warnings: tuple[str, ...] = ()

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
                row = {"concept": concept, "class": name, "n": int(self.n_samples[j]), **numbers}
                rows.append({**row, "verdict": self.verdict(i, j)})
        return pd.DataFrame(rows).set_index(["concept", "class"])

    def verdict(self, component: int, class_: int) -> str:
        """What a score says, in a word: ``undefined``, ``rises``, ``falls`` or ``as random``."""
        if self.is_undefined[component, class_]:
            return "undefined"
        if self.p_holm[component, class_] > 0.05:
            return "as random"
        return "rises" if self.score[component, class_] > 0.5 else "falls"

    def __repr__(self) -> str:
        return f"<sensitivity of {len(self.classes)} outputs to {', '.join(self.concepts)} at {self.layer}>"


SENSITIVITY_NUMBERS = (
    "score", "score_low", "score_high", "score_positions", "sensitivity", "sensitivity_error", "slope", "zeros",
    "null_low", "null_high", "null_sensitivity", "p", "p_holm",
)  # fmt: skip


_OPERATIONS = ("scale", "set", "add", "project", "shift", "mask", "quantise", "replace")


@dataclass(frozen=True)
class Edit:
    """One change of a model, described and not yet applied.

    Attributes
    ----------
    operation : str
        ``scale``, ``set``, ``add``, ``project``, ``shift`` change activations and ride on hooks; ``mask``,
        ``quantise``, ``replace`` change parameters, on a copy of the model.
    where : str
        A layer (activation edits) or a parameter's name (weight edits).
    components : tuple of int
        Which components; empty means all.
    value : float
        Factor, new value, or step length.
    array : array, optional
        Direction of ``add`` and ``project`` (component,), directions of ``shift`` (direction, component), mask or new
        weights.
    arrays : mapping of name to array
        Of ``shift``: ``codes`` (direction,), what the projections on the directions become, 0 if not given;
        ``detector`` (artifact, component) and ``threshold`` (artifact,), where it acts if an artifact is there.
    options : mapping
        JSON-able. Of ``shift``: ``at`` (``"position"``, ``"sample"``), ``pooling`` (``"max"``, ``"mean"``,
        ``"token"``), ``tokens`` (``"all"``, ``"first"``), ``artifact`` (for each direction the number of its artifact),
        ``classes`` (for each artifact the predictions under which it acts, or None), ``softness`` (see
        `workbench.models.shifts`).
    """

    operation: str
    where: str
    components: tuple[int, ...] = ()
    value: float = 0.0
    array: Any = None
    arrays: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.operation not in _OPERATIONS:
            raise BadValueError(f"No edit {self.operation!r}.", hint=f"There are {', '.join(_OPERATIONS)}.")

    @property
    def is_weight_edit(self) -> bool:
        """Whether the edit changes parameters."""
        return self.operation in ("mask", "quantise", "replace")

    def describe(self) -> dict[str, Any]:
        """A JSON-ready description that two equal edits share."""
        import hashlib

        def digest_of(array: Any) -> str:
            return hashlib.blake2b(np.ascontiguousarray(np.asarray(array)).tobytes(), digest_size=16).hexdigest()

        found: dict[str, Any] = {
            "operation": self.operation,
            "where": self.where,
            "components": list(self.components),
            "value": float(self.value),
            "array": None if self.array is None else digest_of(self.array),
        }
        # Only where there are some: the fingerprints of other edits stay as they are.
        if self.arrays:
            found["arrays"] = {name: digest_of(value) for name, value in sorted(self.arrays.items())}
        if self.options:
            found["options"] = {name: self.options[name] for name in sorted(self.options)}
        return found
