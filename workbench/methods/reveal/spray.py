"""SpRAy: samples of a class grouped by how the model decides, so that an odd strategy stands apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import check
from workbench.core.errors import BadValueError, UnknownNameError, nearest
from workbench.core.results import PointMap
from workbench.methods.base import Embeds, Method, Source, register_method
from workbench.methods.columns import label_names
from workbench.methods.labels import labels_as_outputs
from workbench.methods.layout import k_means, pca_layout, umap_layout
from workbench.methods.neighbours import exact_neighbours, prepared, trustworthiness
from workbench.methods.reveal.spectral import n_groups, spectrum, unit_sum

if TYPE_CHECKING:
    import pandas as pd

    from workbench.core.context import Context

__all__ = ["Spray"]

_LEAST = 5
_EXPLAINED_AT_ONCE = 32
_ARRAYS = ("index", "position", "neighbours", "distances", "is_apart")


@register_method(
    "spray",
    source=Source(
        "Lapuschkin et al. 2019 (Unmasking Clever Hans predictors), Methods; latent: Anders et al. 2022, section 4"
    ),
    needs=("relevances",),
)
class Spray(Method, Embeds):
    """Group the samples of a class by their relevances: spectral clustering of decisions.

    **What it answers.** Does the model reach this class in several ways, and which samples go the unusual one? Look at
    the groups' samples and maps, and tag what turns out to be an artifact.

    **When not to trust it.** A minority below two per cent of the class is absorbed by the rest: see `clusters` for the
    sizes, and the column ``outlier`` for single samples. Where groups are of unequal size it may cut the larger one.

    **Cost.** One sweep of the layer if its relevances are not in the store (in input space one explanation for each
    sample of the class), then the graph: a second for 1,500 samples.

    Parameters
    ----------
    of_class : int or str
        Output whose decisions are grouped.
    layer : str, optional
        Its relevances per component, summed over positions, are compared. Not given: the maps in the input, summed over
        the cells of a grid.
    target : Target or str, optional
        What is explained. Default: the largest output; so the samples are those that the model takes for the class.
        ``"label"``: the true class, and samples whose label names it: by name where the data's classes and the outputs
        have names in common, else by number.
    k : int
        Nearest neighbours that each sample is joined with; at most a quarter of the samples.
    n_vectors : int
        Eigenvectors of the embedding.
    n_clusters : int, optional
        Default: where the eigenvalues jump most.
    grid : int
        Rows and columns of the grid, in input space.
    layout : {"umap", "pca"}
        How the embedding is drawn on a plane.
    seed : int

    Attributes
    ----------
    map_ : PointMap
        Samples with the columns ``cluster``, ``outlier`` (mean distance to the nearest neighbours, relative to the
        median of all samples) and, where known, ``label``.
    eigenvalues_ : (n_vectors,) float64 array
        A jump after the m-th hints at m groups.
    embedding_ : (sample, 2) float32 array
    """

    result_version = 2

    def __init__(
        self,
        of_class: int | str,
        layer: str | None = None,
        *,
        target: Any = None,
        k: int = 32,
        n_vectors: int = 32,
        n_clusters: int | None = None,
        grid: int = 16,
        layout: str = "umap",
        seed: int = 0,
    ):
        self.of_class, self.layer, self.target, self.k, self.n_vectors = of_class, layer, target, k, n_vectors
        self.n_clusters, self.grid, self.layout, self.seed = n_clusters, grid, layout, seed

    def fit(self, ctx: Context) -> Spray:
        """Learn the groups from the relevances of the class."""
        self._check()
        index = class_index(self.of_class, ctx.class_names(), ctx.model.n_classes)
        ids, rows, recipe = self._in_input(ctx, index) if self.layer is None else self._in_layer(ctx, index)
        name = ctx.class_names()[index] if index < len(ctx.class_names()) else str(index)
        if len(ids) < _LEAST:
            raise BadValueError(
                f"Groups of decisions need at least {_LEAST} samples; {len(ids)} are explained for {name}.",
                hint="Sweep more samples, or choose another class.",
            )
        normalised, has_sum = unit_sum(rows)
        laid = np.flatnonzero(has_sum)
        if len(laid) < _LEAST:
            raise BadValueError(
                f"{len(ids) - len(laid)} of {len(ids)} samples of {name} have no relevance "
                f"at {self.layer or 'the input'}.",
                hint="Choose a layer on the path of the output.",
            )
        near = exact_neighbours(
            normalised[laid], min(self.k, len(laid) - 1), distance="euclidean", progress=ctx.progress
        )
        found = spectrum(near, self.n_vectors)
        n = n_groups(found.values) if self.n_clusters is None else min(self.n_clusters, len(laid))
        groups = k_means(found.vectors[:, :n].astype(np.float32), n, seed=self.seed)
        self.eigenvalues_ = found.values
        self._finish(self._map(ctx, ids, laid, near, found.vectors, groups, recipe))
        return self

    def clusters(self) -> pd.DataFrame:
        """The groups, smallest first: samples, share of the class, mean of ``outlier``, most frequent labels."""
        import pandas as pd

        m, rows = self.map_, []
        for number, name in enumerate(m.cluster_names):
            here = m.columns["cluster"] == number
            labels = m.columns.get("label")
            most = ""
            if labels is not None and here.any():
                names, counts = np.unique(labels[here], return_counts=True)
                first = np.argsort(-counts, kind="stable")[:3]
                most = ", ".join(f"{names[i] or 'unknown'} {counts[i]}" for i in first)
            rows.append(
                (name, int(here.sum()), float(here.mean()), float(np.nanmean(m.columns["outlier"][here])), most)
            )
        frame = pd.DataFrame(rows, columns=["cluster", "samples", "share", "outlier", "labels"])
        return frame.sort_values("samples", kind="stable").set_index("cluster")

    def samples(self, cluster: int | str) -> np.ndarray:
        """The samples of a group, those nearest to its middle first; ids for a tag or for the positives of a CAV.

        Parameters
        ----------
        cluster : int or str
            Its number, or its name in `clusters`.
        """
        names = self.map_.cluster_names
        if isinstance(cluster, str):
            if cluster not in names:
                raise UnknownNameError(f'No group "{cluster}".', hint=nearest(cluster, names))
            cluster = names.index(cluster)
        if not 0 <= cluster < len(names):
            raise UnknownNameError(f"No group {cluster}.", hint=f"There are {len(names)}, from 0.")
        rows = np.flatnonzero(self.map_.columns["cluster"] == cluster)
        order = np.argsort(self.map_.columns["outlier"][rows], kind="stable")
        return self.map_.index[rows[order]]

    def outliers(self, n: int = 20) -> np.ndarray:
        """The samples that lie farthest from all others, first the farthest."""
        scores = np.nan_to_num(self.map_.columns["outlier"], nan=-np.inf)
        order = np.argsort(-scores, kind="stable")[: check.positive("n", n)]
        return self.map_.index[order[np.isfinite(scores[order])]]

    def plot(self, **options: Any) -> Any:
        """The map as a plotly figure."""
        return self.map_.plot(**{"color": "cluster", **options})

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Coordinates, neighbours and columns."""
        m = self.map_
        arrays = {name: getattr(m, name) for name in _ARRAYS} | {"eigenvalues": self.eigenvalues_}
        arrays |= {f"column|{name}": m.columns[name] for name in ("cluster", "outlier")}
        facts: dict[str, Any] = {"layout": m.layout, "trustworthiness": m.trustworthiness, "recipe": m.recipe}
        facts |= {"cluster_names": list(m.cluster_names)}
        if "label" in m.columns:
            names, arrays["column|label"] = np.unique(m.columns["label"], return_inverse=True)
            facts["labels"] = names.tolist()
        return arrays, facts

    def restore(self, ctx: Context, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Take up stored groups."""
        columns = {name: np.asarray(arrays[f"column|{name}"]) for name in ("cluster", "outlier")}
        if "labels" in facts:
            columns["label"] = np.array(facts["labels"])[np.asarray(arrays["column|label"])]
        self.eigenvalues_ = np.asarray(arrays["eigenvalues"])
        self._finish(
            self._record(
                {name: np.asarray(arrays[name]) for name in _ARRAYS}, columns, tuple(facts["cluster_names"]),
                facts["layout"], facts["trustworthiness"], facts["recipe"],
            )
        )  # fmt: skip

    # --- inside ------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        check.one_of("layout", self.layout, ("umap", "pca"))
        for name in ("k", "n_vectors", "grid"):
            check.positive(name, getattr(self, name))
        if self.n_clusters is not None:
            check.positive("n_clusters", self.n_clusters)

    def _in_layer(self, ctx: Context, index: int) -> tuple[np.ndarray, np.ndarray, str]:
        assert self.layer is not None
        table = ctx.relevances(self.layer, target=self.target)
        target: Any = table.target
        if target is None:
            raise BadValueError("These relevances do not say which output they explain.", hint="Sweep the layer again.")
        ids = np.flatnonzero(np.asarray(table.is_valid) & (np.asarray(target) == index))
        return ids, np.asarray(table.values)[ids], table.recipe

    def _in_input(self, ctx: Context, index: int) -> tuple[np.ndarray, np.ndarray, str]:
        """Maps on a grid. Which samples count is known from the labels, or from the model's own decisions."""
        if self.target is not None and str(self.target) == "label":
            ids = np.flatnonzero(labels_as_outputs(ctx) == index)
        else:
            ids = self._decided(ctx, index)
        maps, progress = [], ctx.progress
        progress.start(f"maps of {self.of_class}", len(ids))
        for first in range(0, len(ids), _EXPLAINED_AT_ONCE):
            part = ids[first : first + _EXPLAINED_AT_ONCE]
            found = ctx.explain(part.tolist(), self.target if self.target is not None else f"logit:{index}")
            maps.append(on_grid(np.asarray(found.heatmap), self.grid))
            progress.step(len(part))
        rows = np.concatenate(maps) if maps else np.zeros((0, self.grid**2), np.float32)
        return ids, rows, f"maps on a grid of {self.grid}"

    def _decided(self, ctx: Context, index: int) -> np.ndarray:
        """Samples whose largest output is the class, by the relevances of any swept layer."""
        layer = next(reversed(ctx.model.layers.linear()))
        table = ctx.relevances(layer)
        target: Any = table.target
        return np.flatnonzero(np.asarray(table.is_valid) & (np.asarray(target) == index))

    def _map(
        self, ctx: Context, ids: np.ndarray, laid: np.ndarray, near: Any, vectors: np.ndarray, groups: np.ndarray,
        recipe: str,
    ) -> PointMap:  # fmt: skip
        """The groups as a map, larger groups first; samples without relevance apart."""
        n = int(groups.max()) + 1
        order = np.argsort(-np.bincount(groups, minlength=n), kind="stable")
        renumbered = np.empty(n, np.int32)
        renumbered[order] = np.arange(n)
        flat, words = self._plane(vectors)
        position = np.zeros((len(ids), 2), np.float32)
        position[laid] = flat
        is_apart = np.ones(len(ids), bool)
        is_apart[laid] = False
        cluster, outlier = np.full(len(ids), n, np.int32), np.full(len(ids), np.nan, np.float32)
        cluster[laid] = renumbered[groups]
        mean = np.where(near.ids >= 0, near.distance, 0).sum(1) / np.maximum((near.ids >= 0).sum(1), 1)
        outlier[laid] = mean / max(float(np.median(mean)), 1e-30)
        neighbours = np.full((len(ids), near.ids.shape[1]), -1, np.int32)
        neighbours[laid] = np.where(near.ids >= 0, laid[near.ids], -1)
        distances = np.full(neighbours.shape, np.inf, np.float32)
        distances[laid] = near.distance
        columns: dict[str, np.ndarray] = {"cluster": cluster, "outlier": outlier}
        if (labels := label_names(ctx.data, ids)) is not None:
            columns["label"] = labels
        names = [f"strategy {i + 1}" for i in range(n)] + (["no relevance"] if is_apart.any() else [])
        kept = prepared(vectors.astype(np.float32), "euclidean")
        arrays: dict[str, np.ndarray] = {"index": ids.astype(np.int64), "position": position, "neighbours": neighbours,
                  "distances": distances, "is_apart": is_apart}  # fmt: skip
        return self._record(arrays, columns, tuple(names), words, trustworthiness(kept, flat), recipe)

    def _plane(self, vectors: np.ndarray) -> tuple[np.ndarray, str]:
        used = vectors[:, 1:] if vectors.shape[1] > 2 else vectors  # the first is constant within connected parts
        start = pca_layout(used.astype(np.float32))
        words = f"spectral embedding of {vectors.shape[1]} vectors"
        if self.layout == "umap" and len(vectors) >= 10:
            around = exact_neighbours(used.astype(np.float32), min(15, len(vectors) - 1), distance="euclidean")
            return umap_layout(start, around, seed=self.seed), f"{words}, UMAP, seed {self.seed}"
        return start, f"{words}, PCA"

    def _record(
        self, arrays: Mapping[str, Any], columns: Mapping[str, np.ndarray], names: tuple[str, ...], layout: str,
        trust: float, recipe: str,
    ) -> PointMap:  # fmt: skip
        return PointMap(
            of="samples", layer=self.layer or "input", basis="unit", by="relevance", columns=columns,
            class_relevance=np.zeros((0, len(arrays["index"])), np.float32), cluster_names=names, layout=layout,
            distance="euclidean", trustworthiness=trust, seed=self.seed, recipe=recipe, **arrays,
        )  # fmt: skip

    def _finish(self, made: PointMap) -> None:
        self.map_, self.embedding_ = made, made.position


def class_index(of_class: int | str, names: Any, n: int) -> int:
    """The number of an output, given by number or by name.

    Raises
    ------
    UnknownNameError
        If there is none.
    """
    if isinstance(of_class, str):
        if of_class not in names:
            raise UnknownNameError(f'No class "{of_class}".', hint=nearest(of_class, names))
        return list(names).index(of_class)
    if isinstance(of_class, bool) or not isinstance(of_class, (int, np.integer)) or not 0 <= of_class < n:
        raise UnknownNameError(f"No class {of_class!r}.", hint=f"There are {n}, from 0.")
    return int(of_class)


def on_grid(maps: np.ndarray, size: int) -> np.ndarray:
    """Maps (sample, y, x) summed over the cells of a grid: (sample, size * size) float32.

    Relevance is conserved: the sum of a row is that of its map. Maps smaller than the grid are taken as they are.
    """
    rows, columns = min(size, maps.shape[1]), min(size, maps.shape[2])
    at_y = np.linspace(0, maps.shape[1], rows + 1).astype(int)[:-1]
    at_x = np.linspace(0, maps.shape[2], columns + 1).astype(int)[:-1]
    summed = np.add.reduceat(np.add.reduceat(maps.astype(np.float64), at_y, axis=1), at_x, axis=2)
    return summed.reshape(len(maps), -1).astype(np.float32)
