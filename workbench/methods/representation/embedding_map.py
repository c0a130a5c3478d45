"""Embedding map: how do components, or samples, lie to one another, and what stands out?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import check
from workbench.core.errors import BadValueError
from workbench.core.ids import ComponentId
from workbench.core.results import PointMap
from workbench.methods.base import Embeds, Method, Source, register_method
from workbench.methods.columns import class_means, cluster_names, component_columns, explained, label_names, named
from workbench.methods.layout import LEAST_FOR_UMAP, k_means, n_clusters_for, pca_layout, umap_layout
from workbench.methods.neighbours import DISTANCES, Neighbours, Prepared, exact_neighbours, prepared, trustworthiness

if TYPE_CHECKING:
    from workbench.core.context import Context
    from workbench.core.results import ActivationTable

__all__ = ["EmbeddingMap"]

_KEPT_NEIGHBOURS = 30
_ROOM_BELOW = 0.08
_NO_DIRECTION = "no direction"


@register_method(
    "embedding-map",
    source=Source(
        "McInnes, Healy & Melville 2018 (UMAP), with exact neighbours; Venna & Kaski 2001, eq. 1 (trustworthiness)"
    ),
    needs=("activations", "relevances"),
)
class EmbeddingMap(Method, Embeds):
    """Lay out a layer's components, or samples, so that those which are alike lie together.

    **What it answers.** Which components answer alike (their columns of the pooled table are compared), or which
    samples are alike to the layer (rows are compared), in which groups, and what stands apart from all others.

    **When not to trust it.** The plane is a projection: `map_.trustworthiness` says how far neighbours on it are
    neighbours, and `neighbours` gives those of the full space, exactly. Sizes of groups and gaps between them mean
    little. Cluster names are classes, not what a cluster shows.

    **Cost.** One sweep over the data if its tables are not in the store. Then the product of all points with one
    another and the layout: a second for 2,000 points, three for 10,000.

    Parameters
    ----------
    layer : str
    of : {"components", "samples"}
    by : {"activation", "relevance"}
        Which table: activations pooled by maximum over positions, or relevances summed over them.
    distance : {"correlation", "cosine", "euclidean"}
        Points without a direction are shown apart: constant ones under correlation, zero ones under cosine.
    layout : {"umap", "pca"}
        UMAP needs umap-learn and compiles for some seconds when first used in a process. Fewer than ten points are
        always laid out by PCA.
    n_neighbours : int
        Neighbours that UMAP tries to keep, and that trustworthiness looks at.
    n_epochs : int, optional
        Of UMAP; see `workbench.methods.layout.umap_layout` for the default.
    n_clusters : int, optional
        Default: the square root of half the number of points, 2 to 12.
    relevance : bool
        Offer columns of relevance; swept if they are not in the store.
    seed : int
        Of layout and clusters.

    Attributes
    ----------
    map_ : PointMap
    embedding_ : (point, 2) float32
        Coordinates, 0 to 1.
    """

    result_version = 2

    def __init__(
        self,
        layer: str,
        *,
        of: str = "components",
        by: str = "activation",
        distance: str = "correlation",
        layout: str = "umap",
        n_neighbours: int = 15,
        n_epochs: int | None = None,
        n_clusters: int | None = None,
        relevance: bool = True,
        seed: int = 0,
    ):
        self.layer, self.of, self.by, self.distance, self.layout = layer, of, by, distance, layout
        self.n_neighbours, self.n_epochs, self.n_clusters = n_neighbours, n_epochs, n_clusters
        self.relevance, self.seed = relevance, seed

    def fit(self, ctx: Context) -> EmbeddingMap:
        """Learn neighbours and layout from the layer's tables."""
        self._check()
        points = self._points(ctx)
        vectors = prepared(points.vectors, self.distance)
        near = exact_neighbours(vectors, max(_KEPT_NEIGHBOURS, self.n_neighbours), progress=ctx.progress)
        made = self._laid_out(ctx, points, vectors, near)
        self._finish(made)
        return self

    def preview(self, ctx: Context) -> PointMap:
        """The map by PCA, at once and without neighbours, to look at until `fit` is done; nothing is kept."""
        self._check()
        points = self._points(ctx)
        vectors = prepared(points.vectors, self.distance)
        return self._laid_out(ctx, points, vectors, None)

    def neighbours(self, point: int | str | ComponentId, k: int = 10) -> tuple[list[Any], np.ndarray]:
        """The points nearest to one in the full space, which the plane may tear apart.

        Parameters
        ----------
        point : address, number of a component, or sample id
        k : int
            At most 30, or `n_neighbours` where that is more.

        Returns
        -------
        ids : list of str or int
        distance : (k,) float32 array
        """
        return self.map_.nearest(point, k)

    def plot(self, **options: Any) -> Any:
        """The map as a plotly figure."""
        return self.map_.plot(**options)

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Coordinates, neighbours and columns; columns of text as numbers of names."""
        m = self.map_
        arrays = {name: getattr(m, name) for name in _ARRAYS}
        facts = {name: getattr(m, name) for name in _FACTS} | {"columns": list(m.columns), "names": {}}
        facts |= {"classes": list(m.classes), "cluster_names": list(m.cluster_names)}
        for name, values in m.columns.items():
            if values.dtype.kind == "U":
                names, values = np.unique(values, return_inverse=True)
                facts["names"][name] = names.tolist()
            arrays[f"column|{name}"] = values
        return arrays, facts

    def restore(self, ctx: Context, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Take up a stored map."""
        columns = {name: np.asarray(arrays[f"column|{name}"]) for name in facts["columns"]}
        columns |= {name: np.array(names)[columns[name]] for name, names in facts["names"].items()}
        known: dict[str, Any] = {name: np.asarray(arrays[name]) for name in _ARRAYS}
        known |= {name: facts[name] for name in _FACTS}
        known |= {name: tuple(facts[name]) for name in ("classes", "cluster_names")}
        self._finish(PointMap(columns=columns, **known))

    @classmethod
    def examples(cls) -> Any:
        """What the contract suite fits, on toy data."""
        yield cls("features.6", layout="pca"), {"planted": "components of the artifact are each other's neighbours"}

    # --- inside ------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        check.one_of("of", self.of, ("components", "samples"))
        check.one_of("by", self.by, ("activation", "relevance"))
        check.one_of("distance", self.distance, DISTANCES)
        check.one_of("layout", self.layout, ("umap", "pca"))
        check.positive("n_neighbours", self.n_neighbours)
        if self.n_epochs is not None:
            check.positive("n_epochs", self.n_epochs)
        if self.n_clusters is not None:
            check.positive("n_clusters", self.n_clusters)

    def _points(self, ctx: Context) -> _Points:
        """What is laid out: a vector, a number and columns per point."""
        needs_relevance = self.relevance or self.by == "relevance"
        relevances = ctx.relevances(self.layer) if needs_relevance else None  # first: one pass serves both tables
        activations = ctx.activations(self.layer)
        valid = np.asarray(activations.is_valid)
        if valid.sum() < 2:
            raise BadValueError(f"A map needs at least two readable samples; there are {int(valid.sum())}.")
        if self.of == "samples":
            return self._samples(ctx, activations, relevances)
        return self._components(ctx, activations, relevances)

    def _components(self, ctx: Context, activations: ActivationTable, relevances: ActivationTable | None) -> _Points:
        acts = np.asarray(activations.values)[np.asarray(activations.is_valid)]
        if relevances is None:
            means = np.zeros((0, acts.shape[1]), np.float32)
            return _Points(acts.T, np.arange(acts.shape[1]), component_columns(acts), means, activations.recipe)
        rel, target = explained(relevances)
        columns, means = component_columns(acts, rel), class_means(rel, target, ctx.model.n_classes)
        seen = np.flatnonzero(~np.isnan(means).all(1))
        if len(seen):
            columns["class_relevance"] = means[seen].max(0)
            columns["class"] = named(seen[means[seen].argmax(0)], ctx.class_names())
        table, vectors = (activations, acts) if self.by == "activation" else (relevances, rel)
        return _Points(vectors.T, np.arange(acts.shape[1]), columns, means, table.recipe)

    def _samples(self, ctx: Context, activations: ActivationTable, relevances: ActivationTable | None) -> _Points:
        table = activations if self.by == "activation" or relevances is None else relevances
        is_shown = np.asarray(table.is_valid) & np.asarray(activations.is_valid)
        index, acts = np.flatnonzero(is_shown), np.asarray(activations.values)[is_shown]
        columns: dict[str, np.ndarray] = {}
        if (labels := label_names(ctx.data, index)) is not None:
            columns["label"] = labels
        if relevances is not None and relevances.target is not None:
            target: Any = relevances.target
            predicted = np.where(np.asarray(relevances.is_valid), np.asarray(target), -1)[index]
            columns["prediction"] = named(predicted, ctx.class_names())
        columns["activation"] = acts.mean(1).astype(np.float32)
        columns["frequency"] = (acts > 0).mean(1).astype(np.float32)
        vectors = acts if table is activations else np.asarray(table.values)[is_shown]
        return _Points(vectors, index, columns, np.zeros((0, len(index)), np.float32), table.recipe)

    def _laid_out(self, ctx: Context, points: _Points, vectors: Prepared, near: Neighbours | None) -> PointMap:
        """Place points with a direction by their neighbours, or by PCA without; the others below."""
        is_apart = ~vectors.has_direction.cpu().numpy()
        laid = np.flatnonzero(~is_apart)
        position = np.zeros((len(points.index), 2), np.float32)
        position[is_apart, 0] = np.linspace(0, 1, int(is_apart.sum()), dtype=np.float32)
        cluster = np.zeros(len(points.index), np.int32)
        words, trust, names = "no point has a direction", 1.0, []
        if len(laid):
            own = vectors if len(laid) == len(vectors) else vectors.only(laid)
            flat = pca_layout(own.rows)
            words = f"PCA, {self.distance}"
            if near is not None and self.layout == "umap" and len(laid) >= LEAST_FOR_UMAP:
                mine = _among(near, laid, min(self.n_neighbours, len(laid) - 1))
                flat = umap_layout(flat, mine, seed=self.seed, n_epochs=self.n_epochs)
                words = f"UMAP, {mine.ids.shape[1]} neighbours, {self.distance}"
            trust = trustworthiness(own, flat, k=self.n_neighbours) if near is not None else 1.0
            n = n_clusters_for(len(laid)) if self.n_clusters is None else min(self.n_clusters, len(laid))
            cluster[laid] = k_means(flat, n, seed=self.seed)
            names = self._cluster_names(points, cluster, laid, ctx.class_names())
            position[laid] = flat * [1, 1 - _ROOM_BELOW] + [0, _ROOM_BELOW] if is_apart.any() else flat
        if is_apart.any():
            cluster[is_apart] = len(names)
            names = [*names, _NO_DIRECTION]
        empty = np.zeros((len(position), 0))
        return PointMap(
            of=self.of,
            layer=self.layer,
            basis="unit",
            by=self.by,
            index=points.index.astype(np.int64),
            position=position,
            neighbours=near.ids if near is not None else empty.astype(np.int32),
            distances=near.distance if near is not None else empty.astype(np.float32),
            is_apart=is_apart,
            columns={**points.columns, "cluster": cluster},
            class_relevance=points.class_relevance,
            classes=tuple(ctx.class_names()),
            cluster_names=tuple(names),
            layout=f"{words}, preview" if near is None else f"{words}, trustworthiness {trust:.3f}, seed {self.seed}",
            distance=self.distance,
            trustworthiness=trust,
            seed=self.seed,
            recipe=points.recipe,
        )

    def _cluster_names(self, points: _Points, cluster: np.ndarray, laid: np.ndarray, classes: Any) -> list[str]:
        own = cluster[laid]
        if self.of == "components":
            return cluster_names(own, points.class_relevance[:, laid], classes)
        names = points.columns.get("label", points.columns.get("prediction"))
        if names is None:
            return [f"cluster {i + 1}" for i in range(int(own.max()) + 1)]
        found = []
        for i in range(int(own.max()) + 1):  # after the most frequent label
            known, counts = np.unique(names[laid][own == i], return_counts=True)
            found.append(f"{i + 1}: {known[counts.argmax()]}")
        return found

    def _finish(self, made: PointMap) -> None:
        self.map_, self.embedding_ = made, made.position


_ARRAYS = ("index", "position", "neighbours", "distances", "is_apart", "class_relevance")
_FACTS = ("of", "layer", "basis", "by", "layout", "distance", "trustworthiness", "seed", "recipe")


@dataclass(frozen=True, eq=False)
class _Points:
    vectors: np.ndarray
    index: np.ndarray
    columns: dict[str, np.ndarray]
    class_relevance: np.ndarray
    recipe: str


def _among(near: Neighbours, laid: np.ndarray, k: int) -> Neighbours:
    """The first `k` neighbours of the points that are laid out, as rows among these."""
    place = np.full(len(near.ids), -1, np.int32)
    place[laid] = np.arange(len(laid), dtype=np.int32)
    return Neighbours(place[near.ids[laid, :k]], near.distance[laid, :k])
