"""The still of a NeuronMap: its scatter with a legend, its groups, and what the projection is worth."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.results import PointMap
from workbench.widgets.class_column import COLUMN, class_name
from workbench.widgets.columns import scale_of
from workbench.widgets.points import in_words, passing
from workbench.widgets.scatter import colours_of, scatter
from workbench.widgets.stills import Picture, Still

if TYPE_CHECKING:
    import pandas as pd

    from workbench.widgets.embedding_map import NeuronMap

__all__ = ["still_of"]


def still_of(widget: NeuronMap) -> Still:
    """What the map shows now; touches no model."""
    made = widget.map
    if made is None:
        asked = f"of {widget.layer}" if widget.layer else ""
        return Still("Map", asked, missing="The map is being made: `widget.wait()` waits for it.")
    one, many = (getattr(widget, field) for field in widget.follows)
    rows = {point: row for row, point in enumerate(made.ids())}
    members, selected = [rows[point] for point in many if point in rows], rows.get(one, -1)
    near = [int(i) for i in made.neighbours[selected, : widget.neighbours] if i >= 0] if selected >= 0 else []
    shown = passing(widget.filter, made)
    name = widget.color_by
    values = np.asarray(made.columns[name]) if name in made.columns else None
    colours, legend = colours_of(name, values, made.cluster_names, widget.palette)
    said = name.replace("_", " ")
    if name == COLUMN and widget.relevance_class is not None:
        said = f"relevance for {class_name(made, widget.relevance_class)}"
        legend = replace(legend, title=said) if legend else None
    sizes = _sizes(made, widget.size_by)
    picture = scatter(
        made.position, colours, shown=shown, sizes=sizes, members=members, selected=selected, near=near,
        box=widget.view_box,
    )  # fmt: skip
    what = f"{len(made)} {made.of if made.layer else 'points'}"
    alt = f"Scatter of {what}{f' of {made.layer}' if made.layer else ''}, coloured by {said or 'nothing'}"
    notes = _on_layout(made, is_preview=widget.is_preview)
    if members or selected >= 0:
        parts = [f"{len(members)} in the set"] if members else []
        parts += [f"{widget.named(one) if made.of == 'components' else one} selected"] if selected >= 0 else []
        parts += [f"joined to its {len(near)} nearest in the full space"] if near else []
        notes.append(f"{', '.join(parts)}.")
    if int(shown.sum()) < len(made):
        notes.append(f"{int(shown.sum())} of {len(made)} pass the filter: {in_words(widget.filter)}.")
    if made.is_apart.any():
        notes.append(f"Apart, below, because the distance says nothing about them: {int(made.is_apart.sum())}.")
    groups = f" in {len(made.cluster_names)} groups" if made.cluster_names else ""
    title = widget.title or (f"Map of {made.layer}" if made.layer else "Map")
    return Still(title, what + groups, [Picture(picture, alt)], legend, _groups(widget), notes)


def _on_layout(made: PointMap, *, is_preview: bool) -> list[str]:
    """Method, neighbours, distance and seed, and how far the plane can be trusted."""
    facts = {made.distance: made.distance, f"seed {made.seed}": f"seed {made.seed}" if made.layer else ""}
    more = [say for word, say in facts.items() if say and word not in made.layout]
    notes = [f"Layout: {', '.join([made.layout, *more])}."]
    if made.layer and not is_preview:
        trust = f"Trustworthiness of the plane {made.trustworthiness:.3f}"
        notes.append(f"{trust}; at 1 all neighbours on it would be neighbours in the full space.")
        notes.append("Gaps between groups and their sizes mean little.")
    return notes


def _sizes(made: PointMap, name: str) -> np.ndarray | None:
    """(point,) 0 to 1; two-sided quantities by how far from zero they are, words by how many share them."""
    if name not in made.columns:
        return None
    values = np.asarray(made.columns[name])
    if name == "cluster" or values.dtype.kind not in "fiub":
        _, group, count = np.unique(values, return_inverse=True, return_counts=True)
        is_in_one = values >= 0 if name == "cluster" else np.ones(len(values), bool)
        shared = count[group].astype(np.float64)
        low, high = shared[is_in_one].min(initial=np.inf), shared[is_in_one].max(initial=0)
        return np.where(is_in_one & (high > low), (shared - low) / max(high - low, 1.0), 0.0)
    values = values.astype(np.float64)
    low, high, is_signed = scale_of(values)
    values, low = (np.abs(values), 0.0) if is_signed else (values, low)
    return np.clip((values - low) / ((high - low) or 1.0), 0, 1)


def _groups(widget: NeuronMap) -> pd.DataFrame:
    """Groups with their counts, and the mean of the colour column if it holds numbers; else the leading points."""
    frame = widget._frame()
    by = next((column for column in ("cluster_name", "cluster") if column in frame), "")
    if not by:
        return widget.table()
    groups = frame.groupby(by, observed=True, sort=False)
    found = groups.size().to_frame("points")
    name = widget.color_by
    if name in frame and widget._facts[name]["kind"] == "number":
        found[f"mean {name.replace('_', ' ')}"] = groups[name].mean()
    found.index.name = "group"
    return found.sort_values("points", ascending=False, kind="stable")
