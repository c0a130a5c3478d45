"""What a page without a kernel can show of a NeuronMap: all columns and neighbours, classes, sheets of pictures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.widgets.class_column import class_payload
from workbench.widgets.points import near_payload
from workbench.widgets.recording import Recording

if TYPE_CHECKING:
    from workbench.widgets.embedding_map import NeuronMap
    from workbench.widgets.keeping import Offer

__all__ = ["recorded_state", "recordings"]

_BLOCKS = 48
_NEAR_BYTES = 4_000_000
_CLASSES_BYTES = 1_000_000


def recorded_state(widget: NeuronMap) -> dict[str, Any]:
    """Traits that hold more in a page without a kernel."""
    if widget.map is None:
        return {}
    near = near_payload(widget.map, widget.points["digest"], _NEAR_BYTES)
    classes = [one for one in widget.points["classes"] if one[0] in _classes(widget)]
    points = {**widget.points, "is_recorded": True, "can_refit": False, "classes": classes}
    return {"points": points, "values": widget._all, "near": near}


def recordings(widget: NeuronMap, wanted: Offer) -> Iterator[Recording]:
    """Relevance by class; then sheets of pictures, those of wanted points first."""
    made = widget._largest
    if made is None:
        return
    for number in [None, *_classes(widget)] if widget.points["classes"] else []:
        yield Recording(
            lambda number=number: {"of_class": class_payload(made, number)},  # type: ignore[misc]
            {"relevance_class": number},
            what="columns of classes",
        )
    if not widget.points.get("has_tiles"):
        return
    block = np.asarray(widget.points["block"])
    rows = {one: row for row, one in enumerate(made.ids())}
    listed = [rows[one] for one in (wanted.components if made.of == "components" else wanted.samples) if one in rows]
    listed += [rows[one] for one in widget.table().index]
    order = list(dict.fromkeys(int(block[row]) for row in [*listed, *range(len(made))]))
    for number in order[:_BLOCKS]:
        members = np.flatnonzero(block == number).tolist()
        body = {"digest": widget.points["digest"], "rows": members, "size": 64}
        yield Recording(
            lambda members=members: widget._tiles(members, 64),  # type: ignore[misc]
            question=("tiles", body),
            what="sheets of pictures",
        )


def _classes(widget: NeuronMap) -> list[int]:
    """Classes that the page offers: the chosen one, then those that fit."""
    known = [number for number, _ in widget.points["classes"]]
    known.sort(key=lambda number: number != widget.relevance_class)
    return known[: _CLASSES_BYTES // max(1, 4 * len(widget._map()))]
