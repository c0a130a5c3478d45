"""What a component's card shows, asked of the session and made ready for the page; run on the card's lane."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.core.errors import IncompleteError
from workbench.core.ids import ComponentId
from workbench.widgets import wire

__all__ = ["CardAnswers"]

_BINS = 40
_SIZE = 96
_CROP = 64
_CLASSES, _RELATED, _CONTRASTS = 5, 5, 6


class CardAnswers:
    """Payloads of a card, each with the component and the settings that it belongs to."""

    def __init__(self, session: Any):
        self.session = session

    def references(
        self, component: str, by: str, mode: str, n: int, quantile: float, *, progress: Any = None
    ) -> dict[str, Any]:
        """Pictures of the references around a quantile, with what they were chosen from."""
        at = {"quantile": quantile} if quantile < 1 else {}
        views = self.session.reference_views(component, by=by, n=n, mode=mode, size=_SIZE, progress=progress, **at)
        chosen = self.session.references(ComponentId.parse(component).layer, by=by)
        record = {
            "component": component,
            "by": by,
            "mode": mode,
            "n": n,
            "quantile": quantile,
            "is_preview": False,
            "samples": [int(view.sample) for view in views],
            "values": np.array([view.value for view in views], dtype=np.float32),
            "captions": [str(view.caption) for view in views],
            "names": [self.name(int(view.sample)) for view in views],
            "sheet": wire.sheet([_square(view.picture, _SIZE) for view in views]),
            "n_samples": int(chosen.n_samples),
            "n_originals": int(chosen.n_origins),
            "per_origin": int(chosen.per_origin),
            "coverage": float(chosen.coverage),
            "target": str(chosen.target_text),
            "first": 1,
        }
        if quantile < 1:
            found = self.session.references_at(component, quantile, by=by, n=n)
            value = None if found.value is None else wire.finite(found.value)
            record |= {"first": found.first, "of": found.of, "value": value, "is_kept": found.is_kept}
        return record

    def values(self, component: str, by: str, sample: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """How the values are spread over the data, and where the current sample lies among them."""
        address = ComponentId.parse(component)
        mark = {"component": component, "sample": sample, "quantity": by, "value": None, "rank": None}
        try:
            table = self._table(address.layer, by)
        except IncompleteError as error:  # a sweep that kept references alone: the card does without
            nothing = np.zeros(0, np.uint32)
            return {"component": component, "quantity": by, "n": 0, "counts": nothing, "why": error.hint}, mark
        column = np.asarray(table.values[:, address.index], dtype=np.float32)
        known = column[np.isfinite(column)]
        counts, edges = np.histogram(known, bins=_BINS) if known.size else (np.zeros(0, int), np.zeros(0))
        spread = {
            "component": component,
            "quantity": by,
            "pooling": str(table.pooling),
            "counts": counts.astype(np.uint32),
            "edges": edges.astype(np.float32),
            "n": int(known.size),
            "n_missing": int(column.size - known.size),
            "n_zero": int((known == 0).sum()),
            "quantiles": {str(q): wire.finite(np.quantile(known, q)) for q in (0.5, 0.9, 0.99)} if known.size else {},
            "low": wire.finite(known.min()) if known.size else None,
            "high": wire.finite(known.max()) if known.size else None,
        }
        value = None if sample is None else wire.finite(column[sample])
        rank = None if value is None else int((known > value).sum()) + 1
        return spread, {**mark, "value": value, "rank": rank, "of": known.size}

    def classes(self, component: str, by: str) -> dict[str, Any]:
        """The classes with the largest mean."""
        record: dict[str, Any] = {"component": component, "by": by, "classes": [], "why": ""}
        try:
            found = self.session.component_classes(component, by=by, n=_CLASSES)
        except IncompleteError as error:
            return {**record, "why": error.hint}
        rows = zip(found.names, found.means.tolist(), found.counts.tolist(), strict=True)
        return {
            **record,
            "classes": [{"name": name, "mean": wire.finite(mean), "n": n} for name, mean, n in rows],
            "mean": None if found.mean is None else wire.finite(found.mean),
            "n_classes": found.n_classes,
            "why": found.why,
        }

    def related(self, component: str) -> dict[str, Any]:
        """Components that go together with it, before, after and in its layer, with a crop of each."""
        record: dict[str, Any] = {"component": component, "groups": [], "sheet": wire.sheet([]), "why": ""}
        try:
            found = self.session.related(component, n=_RELATED)
        except IncompleteError as error:
            return {**record, "why": error.hint}
        tiles: list[np.ndarray] = []
        groups = []
        for where, one in (("near", found.near), ("before", found.before), ("after", found.after)):
            if one.components:
                numbers = [ComponentId.parse(c).index for c in one.components]
                tiles += list(self.session.peak_crops(one.layer, numbers, size=_CROP))
            correlation = [wire.finite(v) for v in one.correlation.tolist()]
            groups.append(
                {
                    "where": where,
                    "layer": one.layer,
                    "components": list(one.components),
                    "correlation": correlation,
                    "n": one.n,
                }
            )
        return {**record, "groups": groups, "sheet": wire.sheet(tiles), "why": found.why}

    def contrast(self, component: str) -> dict[str, Any]:
        """Samples that look like the references, on which it does not fire."""
        record: dict[str, Any] = {"component": component, "samples": [], "sheet": wire.sheet([]), "why": ""}
        try:
            found = self.session.contrasts(component, n=_CONTRASTS)
        except IncompleteError as error:
            return {**record, "why": error.hint}
        samples = [int(i) for i in found.samples]
        return {
            **record,
            "samples": samples,
            "values": [wire.finite(v) for v in found.values.tolist()],
            "alike": [wire.finite(v) for v in found.alike.tolist()],
            "like": [int(i) for i in found.like],
            "names": [self.name(i) for i in samples],
            "sheet": wire.sheet(list(self.session.thumbnails(samples, size=_SIZE)) if samples else []),
            "layer": found.layer,
            "threshold": wire.finite(found.threshold),
            "low": found.low,
            "n_quiet": found.n_quiet,
            "why": found.why,
        }

    def shared(self, first: str, other: str, by: str) -> float | None:
        """Correlation of the values of two components over the samples; None where it is not defined."""
        columns = []
        for component in (first, other):
            address = ComponentId.parse(component)
            try:
                columns.append(np.asarray(self._table(address.layer, by).values[:, address.index], dtype=np.float64))
            except IncompleteError:
                return None
        both = np.isfinite(columns[0]) & np.isfinite(columns[1])
        a, b = columns[0][both], columns[1][both]
        if len(a) < 2 or not (a != a[0]).any() or not (b != b[0]).any():
            return None
        return wire.finite(np.corrcoef(a, b)[0, 1])

    def samples(self, component: str, by: str, n: int, quantile: float) -> set[int]:
        """Which samples the references around a quantile are."""
        return {int(i) for i in self.session.references_at(component, quantile, by=by, n=n).samples}

    def name(self, sample: int) -> str:
        """What a sample is called: its class, else the last part of its key."""
        data = self.session.data
        label = int(data.labels[sample])
        return str(data.classes[label] if 0 <= label < len(data.classes) else data.keys[sample].rpartition("/")[2])

    def _table(self, layer: str, by: str) -> Any:
        return self.session.activations(layer) if by == "activation" else self.session.relevances(layer)


def _square(picture: np.ndarray, size: int) -> np.ndarray:
    """The picture within a square tile, whatever its shape, on white."""
    from PIL import Image

    picture = np.asarray(picture)
    if picture.shape[:2] == (size, size):
        return picture
    image = Image.fromarray(picture)
    image.thumbnail((size, size))
    tile = Image.new("RGB", (size, size), (255, 255, 255))
    tile.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return np.asarray(tile)
