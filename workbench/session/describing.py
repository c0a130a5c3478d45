"""What is known of one component beyond its strongest references, from what sweeps left in the store."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import check
from workbench.core.errors import IncompleteError
from workbench.core.ids import ComponentId
from workbench.session.directing import Directing
from workbench.session.facts import (
    ClassShares,
    Contrast,
    Pooled,
    Related,
    Relations,
    Slice,
    at_quantile,
    classes_of,
    contrast_of,
    correlated,
    in_order,
    why_alone,
)
from workbench.session.tables import KEPT_REFERENCES

if TYPE_CHECKING:
    from workbench.core.results import ReferenceSet

__all__ = ["Describing"]

_KEPT_BYTES = 512_000_000


class _Kept:
    """The tables that were read last, up to a number of bytes: a card asks the same ones for each component."""

    def __init__(self) -> None:
        self._tables: OrderedDict[Any, Pooled] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any) -> Pooled | None:
        with self._lock:
            if key in self._tables:
                self._tables.move_to_end(key)
            return self._tables.get(key)

    def put(self, key: Any, table: Pooled) -> None:
        with self._lock:
            self._tables[key] = table
            while len(self._tables) > 1 and sum(one.n_bytes for one in self._tables.values()) > _KEPT_BYTES:
                self._tables.popitem(last=False)


class Describing(Directing):
    """The part of a session that describes components. See `Session`."""

    def __init__(self, *args: Any, **options: Any):
        self._kept_tables = _Kept()
        super().__init__(*args, **options)

    def references_at(
        self, component: str | ComponentId, quantile: float = 1.0, by: str = "activation", n: int = 12
    ) -> Slice:
        """References around a quantile of a component's values, exactly, with one view per original.

        Originals are ordered by their strongest view, as `references` orders them; the `n` around the quantile are
        given, strongest first. Where a sweep kept references alone, these are what is ordered, and the slice says so.

        Parameters
        ----------
        quantile : float
            1 gives the strongest, 0 the weakest.
        by : {"activation", "relevance"}
        n : int, 1 to 256

        Raises
        ------
        BadValueError
            If the quantile is not between 0 and 1.
        """
        check.one_of("by", by, ("activation", "relevance"))
        check.between("quantile", quantile, 0, 1)
        check.positive("n", n, at_most=256)
        address = self.model.layers.component(component)
        try:
            table = self._own(address, by)
        except IncompleteError:
            kept = self.references(address.layer, by=by, k=KEPT_REFERENCES, basis=address.basis)
            ids = np.asarray(kept.of(address), dtype=np.int64)
            values = np.asarray(kept.values[kept.index(address)], dtype=np.float32)[: len(ids)]
            return at_quantile(ids, values, quantile, n, is_kept=True)
        values = table.column(address.index)
        second = None if table.second is None else table.second[:, address.index]
        order = in_order(values, self.data.origins, second)
        return at_quantile(order, values[order], quantile, n)

    def component_classes(self, component: str | ComponentId, by: str = "activation", n: int = 5) -> ClassShares:
        """The classes on which a component has the largest mean, with the number of their samples.

        Parameters
        ----------
        by : {"activation", "relevance"}
            Relevances are grouped by the output that was explained, activations by the label of the data set.
        """
        check.one_of("by", by, ("activation", "relevance"))
        check.positive("n", n)
        address = self.model.layers.component(component)
        table = self._own(address, by)
        if by == "activation":
            groups, names, kind = np.asarray(self.data.labels), self.data.classes, "class"
        else:
            assert table.target is not None
            groups, names, kind = table.target, self.class_names(), "output"
        return classes_of(table.column(address.index), groups, names, by=by, n=n, kind=kind)

    def related(self, component: str | ComponentId, n: int = 5) -> Relations:
        """Components that go together with one, by the correlation of pooled activations over the samples.

        In its own layer these are the neighbours of `EmbeddingMap`. Before and after, those of the nearest layers whose
        activations are stored. A correlation is no connection: two components may answer to the same pictures without
        one feeding the other.

        Parameters
        ----------
        n : int
            At most so many of each layer.
        """
        check.positive("n", n, at_most=64)
        address = self.model.layers.component(component)
        column = self._own(address, "activation").column(address.index)
        before, after = self._beside(address.layer)
        near = self._related(column, address.layer, n, without=address.index if address.basis == "unit" else None)
        if why := why_alone(column):
            return Relations(Related(before), near, Related(after), why)
        return Relations(self._related(column, before, n), near, self._related(column, after, n))

    def contrasts(self, component: str | ComponentId, n: int = 6, *, anchors: int = 3, low: float = 0.1) -> Contrast:
        """Samples that look like a component's references, but on which it does not fire.

        Alike are samples whose pooled activations have a large cosine, once the mean over the data is taken from them.
        They are those of the last layer whose activations are stored for as much of the data; the component itself is
        left out of them.

        Parameters
        ----------
        n : int
        anchors : int
            How many of the strongest references are compared with.
        low : float
            It does not fire where its activation is at most this quantile of its activations.
        """
        check.positive("n", n, at_most=64)
        check.positive("anchors", anchors, at_most=64)
        check.between("low", low, 0, 1)
        address = self.model.layers.component(component)
        own = self._own(address, "activation")
        layer = self._last_layer(address.layer)
        is_same = layer == address.layer and address.basis == "unit"
        looks = own if is_same else self._pooled(layer, "activation")
        return contrast_of(
            own.column(address.index),
            looks,
            self.data.origins,
            without=address.index if is_same else None,
            second=None if own.second is None else own.second[:, address.index],
            anchors=anchors,
            low=low,
            n=n,
            layer=layer,
        )

    # --- inside ------------------------------------------------------------------------------------------------------

    def _own(self, address: ComponentId, by: str) -> Pooled:
        """The table in which a component has its column: of its layer's units, or of projections on its directions."""
        if address.basis == "unit":
            return self._pooled(address.layer, by)
        if by == "relevance":
            self.references(address.layer, by=by, basis=address.basis)  # says that directions have none
        table = self.activations(address.layer, basis=address.basis)
        return Pooled(np.asarray(table.values), np.asarray(table.is_valid))

    def _pooled(self, layer: str, by: str) -> Pooled:
        """A layer's table, swept first if need be; the last ones are kept."""
        kind = "activations" if by == "activation" else "relevances"
        found = self._find(kind, layer)
        key = None if found is None else (kind, layer, found.digest, str(found.extent))
        kept = None if key is None else self._kept_tables.get(key)
        if kept is not None:
            return kept
        if by == "activation":
            table = self.activations(layer)
            second = np.asarray(self.activations(layer, pooling="mean").values)
            made = Pooled(np.asarray(table.values), np.asarray(table.is_valid), second=second)
        else:
            table = self.relevances(layer)
            target: Any = table.target
            made = Pooled(np.asarray(table.values), np.asarray(table.is_valid), target=np.asarray(target))
        found = self._find(kind, layer)
        if found is not None:
            self._kept_tables.put((kind, layer, found.digest, str(found.extent)), made)
        return made

    def _swept_layers(self) -> dict[str, float]:
        """Layers with stored activations, in their order, and the share of the data."""
        stored = self.stored()
        return {name: stored[name].activations for name in self.model.layers if name in stored
                and stored[name].activations > 0}  # fmt: skip

    def _beside(self, layer: str) -> tuple[str, str]:
        """The nearest stored layers before and after; empty where there is none."""
        names, at = list(self.model.layers), list(self._swept_layers())
        place = names.index(layer)
        before = [name for name in at if names.index(name) < place]
        after = [name for name in at if names.index(name) > place]
        return (before[-1] if before else "", after[0] if after else "")

    def _last_layer(self, layer: str) -> str:
        """The last layer that is stored for as much of the data as `layer`, and has several components."""
        stored = self._swept_layers()
        share = stored.get(layer, 0.0)
        fit = [name for name, own in stored.items() if own >= share and self.model.layers[name].n_components > 1]
        return fit[-1] if fit else layer

    def _related(self, column: np.ndarray, layer: str, n: int, *, without: int | None = None) -> Related:
        if not layer:
            return Related()
        found, correlation, used = correlated(column, self._pooled(layer, "activation"), n, without=without)
        return Related(layer, tuple(str(ComponentId(layer, "unit", int(i))) for i in found), correlation, used)

    def _at(self, address: ComponentId, quantile: float, by: str, n: int) -> tuple[Slice, ReferenceSet, Sequence[int]]:
        """A slice with the set that it belongs to, and the outputs that were explained on it."""
        references = self.references(address.layer, by=by, k=KEPT_REFERENCES, basis=address.basis)
        found = self.references_at(address, quantile, by, n)
        if by == "activation":
            return found, references, ()
        if not found.is_kept:
            target = self._pooled(address.layer, by).target
            assert target is not None
            return found, references, [int(t) for t in target[found.samples]]
        row = references.index(address)
        known = dict(zip(references.of(address), np.asarray(references.target)[row].tolist(), strict=False))
        return found, references, [int(known[int(i)]) for i in found.samples]
