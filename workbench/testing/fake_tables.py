"""What a session made of arrays answers on its tables: sweeps, references, facts on one component."""

from __future__ import annotations

import time
from types import SimpleNamespace

import numpy as np

from workbench.core.errors import IncompleteError
from workbench.core.ids import ComponentId
from workbench.core.results import ActivationTable, ReferenceSet
from workbench.session.facts import (
    Pooled,
    Related,
    Relations,
    at_quantile,
    classes_of,
    contrast_of,
    correlated,
    in_order,
    why_alone,
)
from workbench.testing.fake_data import View, cut

__all__ = ["FakeTables"]


class FakeTables:
    """The part of `FakeSession` that has tables; expects its arrays."""

    # Sweeps
    def stored(self):
        """What `coverage` says, of each usable layer."""
        self._begin("stored")
        return {
            name: SimpleNamespace(
                activations=share,
                relevances=share / 2,
                references=share,
                coverage=share,
                bytes=int(1000 * share * layer.n_components),
                is_unfinished=0 < share < 1,
            )
            for name, layer in self.layers().items()
            if layer.n_calls == 1
            for share in [self.coverage.get(name, 0.0)]
        }

    def plan(self, layers, *, relevance=True, samples=None, keep="tables"):
        """A plan without a recipe."""
        self._begin("plan")
        chosen = range(len(self.data)) if samples is None else range(min(samples, len(self.data)))
        n = sum(self.n_components[name] for name in layers)
        return SimpleNamespace(
            layers=tuple(layers),
            samples=np.array(chosen),
            n_data=len(self.data),
            rule="EpsilonPlusFlat" if relevance else None,
            keep=keep,
            batch=16,
            seconds_per_sample=0.03 if relevance else 0.01,
            disk_bytes=16 * n * len(chosen),
            passing_bytes=0,
            memory_bytes=120_000_000,
        )

    def swept(self, planned):
        """What the layer covers that covers least."""
        return min(self.coverage.get(name, 0.0) for name in planned.layers)

    def sweep(self, layers, *, relevance=True, samples=None, keep="tables", progress=None):
        """Steps over the data; what is done stays done when it is cancelled."""

        def sweep(progress):
            self._begin("sweep")
            n = len(self.data) if samples is None else min(samples, len(self.data))
            begun = round(n * min(self.coverage.get(name, 0.0) for name in layers))
            progress.start("Sweep", n)
            for i in range(n):
                time.sleep(self.delay / n)
                if i >= begun:
                    self.coverage.update(dict.fromkeys(layers, (i + 1) / len(self.data)))
                progress.step()

        self.run(sweep)
        return self.plan(layers, relevance=relevance, samples=samples, keep=keep)

    # Tables
    def activations(self, layer):
        """Pooled activations, with exact zeros."""
        self._begin("activations")
        return self._table(layer, "activation", self.values[layer])

    def relevances(self, layer):
        """Pooled relevances, of both signs."""
        return self._table(layer, "relevance", self.values[layer] - 0.4 * (self.values[layer] > 0))

    def _table(self, layer, quantity, values):
        pooling = "max" if quantity == "activation" else "sum"
        return ActivationTable(layer, "unit", quantity, pooling, values, np.ones(len(values), bool))

    def references(self, layer, by="activation", k=20, per_origin=1):
        """Exact references by either quantity."""
        values = self._table(layer, by, self.values[layer]).values
        order = np.argsort(-values, axis=0, kind="stable")[:k].T
        found = np.take_along_axis(values.T, order, axis=1)
        return ReferenceSet(
            layer,
            "unit",
            by,
            order,
            found,
            (found > 0).sum(1),
            len(values),
            len(values) // 2,
            per_origin,
            target_text="top" if by == "relevance" else "",
        )

    def reference_views(self, component, by="activation", n=12, mode="crop", size=96, *, quantile=1.0, progress=None):
        """Pictures of the references, those with a value above zero where the strongest are asked for."""
        self._begin("reference_views")
        address = ComponentId.parse(component)
        if quantile == 1:
            chosen = self.references(address.layer, by=by)
            ids, values, first = chosen.ids[address.index][:n], chosen.values[address.index][:n], 1
        else:
            found = self.references_at(component, quantile, by, n)
            ids, values, first = found.samples, found.values, found.first
        views = []
        for rank, (sample, value) in enumerate(zip(ids, values, strict=True), first):
            if value <= 0 and quantile == 1:
                continue
            picture = self._resized(self.data.picture(int(sample)), size, mode, address.index + int(sample))
            name = self._classes[int(self.data.labels[sample])]
            views.append(View(int(sample), float(value), picture, f"{rank}. {name}, original {int(sample) // 2}"))
        return views

    # One component
    def references_at(self, component, quantile=1.0, by="activation", n=12):
        """References around a quantile, exactly; of those that were kept where `activations` has nothing."""
        address = ComponentId.parse(component)
        try:
            table = self._read(address.layer, by)
            values = np.asarray(table.values[:, address.index], dtype=np.float32)
            # As `references` here, which takes every view for an original of its own.
            order, is_kept = in_order(values, np.arange(len(values))), False
            found = values[order]
        except IncompleteError:
            kept = self.references(address.layer, by=by)
            order, found, is_kept = kept.ids[address.index], kept.values[address.index], True
        return at_quantile(order, found, quantile, n, is_kept=is_kept)

    def component_classes(self, component, by="activation", n=5):
        """Classes with the largest mean, grouped by label."""
        self._begin_quickly("component_classes")
        address = ComponentId.parse(component)
        column = np.asarray(self._read(address.layer, by).values[:, address.index])
        return classes_of(column, self.data.labels, self._classes, by=by, n=n)

    def related(self, component, n=5):
        """Correlated components of both layers."""
        self._begin_quickly("related")
        address = ComponentId.parse(component)
        column = np.asarray(self._read(address.layer, "activation").values[:, address.index])
        names = list(self.n_components)
        at = names.index(address.layer)

        def of(layer, without=None):
            if not layer:
                return Related()
            values = self._read(layer, "activation").values
            table = Pooled(values, np.isfinite(values).all(1))
            found, correlation, used = correlated(column, table, n, without=without)
            return Related(layer, tuple(f"{layer}/unit/{i}" for i in found), correlation, used)

        before, after = names[at - 1] if at else "", names[at + 1] if at + 1 < len(names) else ""
        near = of(address.layer, address.index)
        if why := why_alone(column):
            return Relations(Related(before), near, Related(after), why)
        return Relations(of(before), near, of(after))

    def contrasts(self, component, n=6, *, anchors=3, low=0.1):
        """Samples alike to the last layer."""
        self._begin_quickly("contrasts")
        address = ComponentId.parse(component)
        layer = list(self.n_components)[-1]
        values = self._read(layer, "activation").values
        return contrast_of(
            np.asarray(self._read(address.layer, "activation").values[:, address.index]),
            Pooled(values, np.isfinite(values).all(1)),
            self.data.origins,
            without=address.index if layer == address.layer else None,
            anchors=anchors, low=low, n=n, layer=layer,
        )  # fmt: skip

    def class_statistics(self, layer, quantity="relevance"):
        """Means and counts per label; the last class has no sample where there are more than three."""
        self._begin("class_statistics")
        values, labels = self._read(layer, quantity).values, np.asarray(self.data.labels)
        counts = np.bincount(labels, minlength=len(self._classes))
        means = np.full((len(counts), values.shape[1]), np.nan, np.float32)
        for i in np.flatnonzero(counts):
            means[i] = values[labels == i].mean(0)
        return means, counts

    def _read(self, layer, by):
        return self.activations(layer) if by == "activation" else self.relevances(layer)

    def _resized(self, picture, size, mode="whole", seed=0):
        return cut(picture, size, mode, seed)

    def peak_crops(self, layer, components, size=64):
        """One tile per component."""
        self._begin("peak_crops")
        best = np.argmax(self.values[layer], axis=0)
        return np.stack([cut(self.data.picture(int(best[c])), size, "crop", int(c)) for c in components])

    def thumbnails(self, samples, size=96):
        """Whole pictures of samples."""
        self._begin("thumbnails")
        return np.stack([cut(self.data.picture(self._sample(int(i))), size) for i in samples])
