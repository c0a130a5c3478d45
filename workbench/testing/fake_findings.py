"""What a session made of arrays finds in them: suspects, maps, directions, an atlas."""

from __future__ import annotations

import weakref
from types import SimpleNamespace

import numpy as np

from workbench.core.errors import UnknownLayerError
from workbench.core.findings import KINDS, Findings, checked
from workbench.core.progress import SilentProgress
from workbench.core.results import ActivationTable, Atlas, ConceptSensitivity, PointMap
from workbench.methods.reveal import suspect_components, suspects
from workbench.session.decisions import decide, undo
from workbench.session.lane import current_job

__all__ = ["FakeFindings"]


class FakeFindings:
    """The part of `FakeSession` that has results of methods; expects its arrays and tables."""

    # Auditing
    def findings(self, layer="", *, kinds=(), classes=None, n=50, progress=None):
        """Findings of most kinds from the arrays, as a session makes them."""
        return self.run(self._findings, layer or self.layer_name, checked(tuple(kinds)) or tuple(KINDS), n)

    def _findings(self, layer, kinds, n, progress=None):
        self._begin("findings")
        values, labels, ids = self.values[layer], np.asarray(self.data.labels), np.arange(len(self.data))
        apart = np.linalg.norm(values[:, None] - values[None], axis=2)
        np.fill_diagonal(apart, np.inf)
        near = np.argsort(apart, axis=1, kind="stable")[:, : min(12, len(ids) - 1)]
        far = np.take_along_axis(apart, near, 1)
        cluster = np.where(ids % 7 < 3, 1, 0)
        groups = SimpleNamespace(
            columns={"cluster": cluster, "outlier": far.mean(1) / np.median(far)}, index=ids, neighbours=near,
            cluster_names=("strategy 1", "strategy 2"),
        )  # fmt: skip
        of_class, references = self._classes[0], self.references(layer, k=6).ids
        correlation = np.corrcoef(values.T + 1e-9 * np.random.default_rng(1).normal(size=values.T.shape))
        np.fill_diagonal(correlation, -1)
        alike = np.argsort(-correlation, axis=1, kind="stable")[:, :3]
        looks = suspect_components.unit_rows(values, np.ones(len(ids), bool))
        recipe = f"recipe-{layer}"
        found = [
            *suspects.group_findings(groups, of_class, layer, relevance=values, recipe=recipe),
            *suspects.outlier_findings(groups, of_class, layer, limit=0.5, n=4, recipe=recipe),
            *suspects.label_findings(
                ids, near, labels, self.data.origins, self._classes, layer, least=0.4, n=8, recipe=recipe,
                predicted=["" if i % 3 == 1 else self._classes[labels[i]] for i in ids],
            ),
            *suspect_components.redundant_findings(
                layer, alike, 0.3 * (1 - np.take_along_axis(correlation, alike, 1)) - 0.2, references, n=3,
                recipe=recipe,
            ),
            *suspect_components.unclear_findings(layer, looks, references, layer, n=4, recipe=recipe),
            *suspect_components.silent_findings(layer, values, recipe=recipe),
        ]  # fmt: skip
        kept = [one for kind in KINDS for one in [f for f in found if f.kind == kind][:n] if kind in kinds]
        left = ("direction: no direction is known.",) if "direction" in kinds else ()
        return Findings(tuple(kept), layer, left, weakref.ref(self))

    def decide(self, finding, verdict, *, new=None, who="", note=""):
        """Keep a verdict."""
        self._begin("decide")
        return decide(self, finding, verdict, new=new, who=who, note=note)

    def undo_decision(self, who="", *, decision=None):
        """Take the last one back."""
        self._begin("undo_decision")
        return undo(self, who, decision=decision)

    # Maps
    def point_map(self, layer=None, of="components", *, preview=False):
        """A map of a layer's components or of the samples, with exact neighbours; component 3 lies apart.

        A preview has other coordinates and no neighbours.
        """
        layer = layer or self.layer_name
        atlas, values = self.atlas(layer), self.values[layer]
        is_components = of == "components"
        rows = (values.T if is_components else values) - (values.T if is_components else values).mean(1, keepdims=True)
        length = np.linalg.norm(rows, axis=1)
        n, apart = len(rows), length < 1e-6
        far = 1 - (rows / np.where(apart, 1, length)[:, None]) @ (rows / np.where(apart, 1, length)[:, None]).T
        far[apart] = far[:, apart] = np.inf
        np.fill_diagonal(far, np.inf)
        near = np.argsort(far, axis=1, kind="stable")[:, : 0 if preview else min(30, n - 1)]
        distances = np.take_along_axis(far, near, 1)
        rng = np.random.default_rng(6 + preview)
        if is_components:
            position, names, cluster = atlas.position.copy(), atlas.cluster_names, atlas.columns["cluster"]
            columns = {name: v for name, v in atlas.columns.items() if name != "cluster"}
            relevance = rng.normal(0.2, 1, (len(self._classes), n)).astype(np.float32)
            columns |= {"class_relevance": relevance.max(0), "class": np.array(self._classes)[relevance.argmax(0)]}
        else:
            position, names, cluster = rng.random((n, 2)), self._classes, self.data.labels
            columns = {"label": np.array(self._classes)[cluster], "activation": values.mean(1)}
            relevance = np.zeros((0, n), np.float32)
        position = rng.random((n, 2)) if preview else position
        position[~apart, 1] = 0.08 + 0.92 * position[~apart, 1]
        position[apart, 1] = 0
        return PointMap(
            of, layer, "unit", "activation", np.arange(n), position.astype(np.float32),
            np.where(np.isinf(distances), -1, near).astype(np.int32), distances.astype(np.float32), apart,
            {**columns, "cluster": np.where(apart, len(names), cluster)}, relevance, self._classes,
            (*names, "no direction") if apart.any() else tuple(names), "PCA, preview" if preview else "fake, seed 0",
            "correlation", 0.9, recipe=f"recipe-{layer}",
        )  # fmt: skip

    def fit(self, method, *, progress=None):
        """An atlas or an embedding map, as if the method had been fitted; directions are fitted."""
        self._begin("fit")
        if hasattr(method, "positives"):
            self.run(method.fit, self)
            self.add_directions(method.directions_)
        elif type(method).name == "tcav":
            method.result_ = self.sensitivity(method, progress)
        elif type(method).name == "embedding-map":
            method.map_ = self.point_map(method.layer, method.of)
            method.embedding_ = method.map_.position
        else:
            method.atlas_ = self.atlas(method.layer)
            method.embedding_ = method.atlas_.position
        method.session_ = self
        return method

    def has_fitted(self, method):
        """Nothing is kept."""
        return False

    def preview(self, method, *, progress=None):
        """A first look at an embedding map."""
        self._begin("preview")
        return self.point_map(method.layer, method.of, preview=True)

    # Directions
    @property
    def progress(self):
        """Of the job that runs, else a silent one."""
        job = current_job()
        return SilentProgress() if job is None else job.progress

    def planted_directions(self, layer, *, pooling="max", n=48, progress=None):
        """The direction that `pooled` adds to every third sample, those with a mask."""
        vector = np.random.default_rng(11).normal(0, 1, self.n_components[layer])
        return {"<u>block</u>": (vector / np.linalg.norm(vector)).astype(np.float32)}

    def pooled(self, layer, samples=None, *, pooling="max", progress=None):
        """Activations, larger along a direction where a sample has a mask."""
        self._begin("pooled")
        if layer not in self.n_components:
            raise UnknownLayerError(f'No layer "{layer}" in fake.', hint='Nearest: "bn2".')
        ids = np.arange(len(self.data)) if samples is None else np.unique(np.asarray(samples, dtype=np.int64))
        planted = self.planted_directions(layer)["<u>block</u>"]
        return ids, (self.values[layer][ids] + 2 * (ids % 3 == 0)[:, None] * planted).astype(np.float32)

    def add_directions(self, directions):
        """Make directions components."""
        self._directions[directions.layer, directions.basis] = directions
        return directions.ids()

    def directions(self):
        """The directions that are known, by ``layer/basis``."""
        return {f"{layer}/{basis}": found for (layer, basis), found in self._directions.items()}

    def project(self, direction, samples=None, *, progress=None):
        """Projections on one direction."""
        self._begin("project")
        ids, rows = self.pooled(direction.layer, samples, pooling=direction.pooling)
        values = np.full((len(self.data), 1), np.nan, np.float32)
        values[ids, 0] = rows @ direction.vector
        is_valid = np.isfinite(values[:, 0])
        return ActivationTable(direction.layer, direction.basis, "activation", direction.pooling, values, is_valid)

    def sensitivity(self, method, progress=None):
        """Scores of every class along the directions; the last class has none."""
        record, k = method.cav.directions_, len(self._classes)
        progress = self.progress if progress is None else progress
        progress.start("derivatives along directions", k)
        for _ in range(k):
            self._begin("sensitivity")
            progress.step()
        rng, shape = np.random.default_rng(8), (len(record), k)
        score = np.round(rng.random(shape), 2)
        score[:, -1] = np.nan
        slope = rng.normal(0, 0.2, shape)
        numbers = {
            "score": score, "score_low": score - 0.05, "score_high": np.minimum(1, score + 0.05),
            "score_positions": score, "sensitivity": np.abs(slope) + 0.1, "sensitivity_error": 0.01 + 0 * slope,
            "slope": slope, "slope_error": 0.01 + 0 * slope, "zeros": 0 * slope,
            "null_low": 0.3 + 0 * slope, "null_high": 0.7 + 0 * slope, "null_sensitivity": 0.1 + 0 * slope,
            "null_sensitivity_low": 0.05 + 0 * slope, "null_sensitivity_high": 0.25 + 0 * slope,
            "null_slope_low": -0.15 + 0 * slope, "null_slope_high": 0.15 + 0 * slope,
        }  # fmt: skip
        for name, p in (("p", 0.02), ("p_slope", 0.03), ("p_sensitivity", 0.3)):
            numbers[name] = np.where(np.isnan(score), np.nan, p)
            numbers[f"{name}_holm"] = np.minimum(1, 2 * numbers[name])
        return ConceptSensitivity(
            layer=record.layer, basis=record.basis, concepts=record.concepts, classes=self._classes,
            class_index=tuple(range(k)), n_samples=np.full(k, 8), n_random=method.n_random, **numbers,
        )  # fmt: skip

    # Atlas
    def atlas(self, layer=None):
        """The atlas of a layer, clustered."""
        layer = layer or self.layer_name
        m, cluster = self.n_components[layer], self.cluster[layer]
        rng = np.random.default_rng(5)
        position = self.cluster_at[cluster] + rng.normal(0, 0.05, (m, 2))
        position = ((position - position.min(0)) / np.ptp(position, axis=0)).astype(np.float32)
        names = tuple(f"<em>group</em> {i}" if i == 0 else f"group {i}" for i in range(len(self.cluster_at)))
        columns = {
            "activation": self.values[layer].max(0),
            "relevance": (rng.normal(0.2, 0.4, m)).astype(np.float32),
            "frequency": (self.values[layer] > 0).mean(0).astype(np.float32),
            "cluster": cluster.astype(np.int64),
        }
        return Atlas(layer, "unit", position, columns, self.references(layer), names, "PCA", f"recipe-{layer}")
