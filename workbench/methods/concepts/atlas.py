"""Concept atlas: which concepts does a layer hold, how do they lie to one another, and which matter for a class?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench.core import check
from workbench.core.errors import BadValueError
from workbench.core.ids import ComponentId
from workbench.core.results import Atlas, Ranking, ReferenceSet
from workbench.methods.base import Describes, Embeds, Method, Scores, Source, register_method
from workbench.methods.columns import class_means, cluster_names, component_columns, explained
from workbench.methods.layout import LEAST_FOR_UMAP, k_means, n_clusters_for, pca_layout, umap_layout
from workbench.methods.neighbours import Neighbours, exact_neighbours, prepared

if TYPE_CHECKING:
    from workbench.core.context import Context

__all__ = ["ConceptAtlas"]

_KEPT_NEIGHBOURS = 10


@register_method(
    "concept-atlas",
    source=Source("Achtibat et al. 2023 (Concept Relevance Propagation), concept atlas and reference samples"),
    needs=("activations", "relevances", "references"),
)
class ConceptAtlas(Method, Describes, Embeds, Scores):
    """Lay out a layer's components so that those which answer to the same samples lie together.

    **What it answers.** Which concepts a layer holds, shown by reference samples, and how much each matters: its
    relevance for what the model predicted, how often it is active, for which classes it is used, and how redundant it
    is (its largest correlation with another component, over the samples; near 1 the other says the same).

    **When not to trust it.** Neighbours on the plane are a projection: look at `neighbours`, which uses the full space.
    On fewer than about a hundred originals, components that answer to the same one or two pictures look alike. Cluster
    names are the classes that the cluster is relevant for, not what it shows.

    **Cost.** One sweep with relevance over the data (about 1.5 forward and backward passes) if it is not in the store;
    the layout takes seconds.

    Parameters
    ----------
    layer : str
    k : int
        References per component.
    layout : {"umap", "pca"}
        UMAP needs umap-learn and compiles for some seconds when first used in a process. Fewer than ten components are
        always laid out by PCA.
    n_neighbours : int
        Neighbours that UMAP tries to keep.
    n_clusters : int, optional
        Default: the square root of half the number of components, 2 to 12.
    relevance : bool
        Sweep relevances too.
    seed : int
        Of layout and clusters.

    Attributes
    ----------
    atlas_ : Atlas
    embedding_ : (component, 2) float32
        Coordinates, 0 to 1.
    score_ : (component,) float32
        Mean absolute relevance (mean activation without relevance).
    class_relevance_ : (class_, component) float32
        Mean relevance over the samples that were explained for a class; NaN rows where there was none.
    """

    result_version = 5

    def __init__(
        self,
        layer: str,
        *,
        k: int = 20,
        layout: str = "umap",
        n_neighbours: int = 15,
        n_clusters: int | None = None,
        relevance: bool = True,
        seed: int = 0,
    ):
        self.layer, self.k, self.layout = layer, k, layout
        self.n_neighbours, self.n_clusters, self.relevance, self.seed = n_neighbours, n_clusters, relevance, seed

    def fit(self, ctx: Context) -> ConceptAtlas:
        """Learn the layout from the layer's tables."""
        check.positive("k", self.k)
        check.one_of("layout", self.layout, ("umap", "pca"))
        check.positive("n_neighbours", self.n_neighbours)
        relevances = ctx.relevances(self.layer) if self.relevance else None  # first: one pass serves both tables
        table = ctx.activations(self.layer)
        valid = np.asarray(table.is_valid)
        acts = np.asarray(table.values)[valid]
        if len(acts) < 3:
            raise BadValueError(f"An atlas needs at least three readable samples; there are {len(acts)}.")
        if acts.shape[1] < 3:
            raise BadValueError(f'"{self.layer}" has {acts.shape[1]} components; an atlas needs at least three.')
        rows = prepared(acts.T, "correlation")
        rows = replace(rows, has_direction=torch.ones_like(rows.has_direction))  # constant ones correlate with none
        position = pca_layout(rows.rows)
        near = exact_neighbours(rows, max(self.n_neighbours, _KEPT_NEIGHBOURS))
        if not self._is_pca(len(rows)):
            n = self.n_neighbours
            position = umap_layout(position, Neighbours(near.ids[:, :n], near.distance[:, :n]), seed=self.seed)
        self._nearest = near.ids[:, :_KEPT_NEIGHBOURS], 1 - near.distance[:, :_KEPT_NEIGHBOURS]
        self.class_relevance_ = np.zeros((0, acts.shape[1]), np.float32)
        rel = None
        if relevances is not None:
            rel, target = explained(relevances)
            self.class_relevance_ = class_means(rel, target, ctx.model.n_classes)
        columns = component_columns(acts, rel)
        columns["redundancy"] = (1 - near.distance[:, 0]).astype(np.float32)
        columns["cluster"] = self._clusters(position)
        names = cluster_names(columns["cluster"], self.class_relevance_, ctx.class_names())
        references = ctx.references(self.layer, by="activation", k=self.k)
        self._finish(ctx, position, columns, names, references)
        return self

    def _is_pca(self, n: int) -> bool:
        return self.layout == "pca" or n < LEAST_FOR_UMAP

    def _clusters(self, position: np.ndarray) -> np.ndarray:
        n = n_clusters_for(len(position)) if self.n_clusters is None else self.n_clusters
        return k_means(position, check.positive("n_clusters", n, at_most=len(position)), seed=self.seed)

    def _finish(
        self,
        ctx: Context,
        position: np.ndarray,
        columns: Mapping[str, np.ndarray],
        names: Sequence[str],
        references: ReferenceSet,
    ) -> None:
        text = (
            "PCA of standardised activations"
            if self._is_pca(len(position))
            else f"UMAP, {self.n_neighbours} neighbours, correlation"
        )
        self.atlas_ = Atlas(
            layer=self.layer,
            basis="unit",
            position=position,
            columns=dict(columns),
            references=references,
            cluster_names=tuple(names),
            layout=f"{text}, seed {self.seed}",
            recipe=references.recipe,
        )
        self.embedding_ = position
        self.score_ = self.atlas_.columns.get("relevance", self.atlas_.columns["activation"])
        self._class_names = ctx.class_names()

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Coordinates, columns and class relevances."""
        a = self.atlas_
        arrays = {"position": a.position, "class_relevance": self.class_relevance_}
        arrays |= {"nearest": self._nearest[0], "similarity": self._nearest[1]}
        arrays |= {f"column|{name}": value for name, value in a.columns.items()}
        return arrays, {"cluster_names": list(a.cluster_names), "columns": list(a.columns)}

    def restore(self, ctx: Context, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Take up a stored atlas."""
        self.class_relevance_ = np.asarray(arrays["class_relevance"])
        self._nearest = np.asarray(arrays["nearest"]), np.asarray(arrays["similarity"])
        columns = {name: np.asarray(arrays[f"column|{name}"]) for name in facts["columns"]}
        references = ctx.references(self.layer, by="activation", k=self.k)
        self._finish(ctx, np.asarray(arrays["position"]), columns, facts["cluster_names"], references)

    def overlay(self, target: str | int) -> np.ndarray:
        """(component,) mean relevance for one class, over the samples that were explained for it.

        Raises
        ------
        BadValueError
            If no sample was explained for it.
        """
        index = self._class_index(target)
        if not 0 <= index < len(self.class_relevance_) or np.isnan(self.class_relevance_[index]).all():
            raise BadValueError(
                f'No sample of the data was explained for "{target}".',
                hint="Add pictures of that class, or sweep with Target.logit.",
            )
        return self.class_relevance_[index]

    def describe(self, component: str | int | ComponentId) -> dict[str, Any]:
        """What is known of one component: columns, references, leading classes and nearest components."""
        i = self.atlas_.references.index(component)
        classes = []
        if len(self.class_relevance_):
            values = np.nan_to_num(self.class_relevance_[:, i], nan=-np.inf)
            classes = [
                (self._class_name(int(c)), float(values[c]))
                for c in np.argsort(-values, kind="stable")[:5]
                if np.isfinite(values[c])
            ]
        return {
            "component": str(ComponentId(self.layer, "unit", i)),
            "cluster": self.atlas_.cluster_names[int(self.atlas_.columns["cluster"][i])],
            **{name: float(v[i]) for name, v in self.atlas_.columns.items() if name != "cluster"},
            "references": self.atlas_.references.of(i),
            "classes": classes,
            "neighbours": list(self.neighbours(i).components),
        }

    def neighbours(self, component: str | int | ComponentId, n: int = 5) -> Ranking:
        """The components that answer most alike, by the correlation of their activations over the samples.

        Parameters
        ----------
        n : int
            At most 10, which is how many are kept.
        """
        i = self.atlas_.references.index(component)
        ids, similarity = (part[i, : check.positive("n", n, at_most=_KEPT_NEIGHBOURS)] for part in self._nearest)
        return Ranking(tuple(self.atlas_.ids()[int(j)] for j in ids), similarity, quantity="similarity")

    def top(self, n: int = 10, *, by: str = "relevance") -> Ranking:
        """The components with the largest value in a column."""
        check.one_of("by", by, tuple(self.atlas_.columns))
        values = self.atlas_.columns[by]
        order = np.argsort(-values, kind="stable")[:n]
        return Ranking(tuple(self.atlas_.ids()[int(i)] for i in order), values[order], quantity=by)

    def plot(self, **options: Any) -> Any:
        """The atlas as a plotly figure."""
        return self.atlas_.plot(**options)

    @classmethod
    def examples(cls) -> Any:
        """What the contract suite fits, on toy data."""
        yield cls("features.6", layout="pca", k=5), {"planted": "components of the artifact share a cluster"}

    def _class_index(self, target: str | int) -> int:
        if isinstance(target, str) and target in self._class_names:
            return self._class_names.index(target)
        if isinstance(target, str) and not target.isdecimal():
            check.known("class", target, self._class_names)
        return int(target)

    def _class_name(self, index: int) -> str:
        return self._class_names[index] if index < len(self._class_names) else f"output {index}"
