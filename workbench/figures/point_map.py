"""The figure of a `PointMap`: components or samples on their plane, with neighbours of the full space as lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from plotly import graph_objects as go

from workbench.core.registry import FIGURES
from workbench.core.results import PointMap
from workbench.figures.scatter import Points, scatter

__all__ = ["point_map_figure"]


@FIGURES.register("PointMap")
def point_map_figure(
    points: PointMap,
    *,
    color: str | None = "cluster",
    target: str | int | None = None,
    size: str | None = None,
    highlight: Sequence[Any] = (),
    neighbours_of: Any = None,
    neighbours: int = 10,
) -> go.Figure:
    """Draw the map as a scatter; each point carries its id as `customdata`.

    Parameters
    ----------
    points : PointMap
    color : str, optional
        Column to colour by; None for one colour.
    target : str or int, optional
        The class whose relevance is meant by ``class_relevance``.
    size : str, optional
        Column that sets the area of the points.
    highlight : sequence of ids
        Points to outline.
    neighbours_of : id, optional
        Join this point with its nearest ones in the full space.
    neighbours : int
        How many of them, at most as many as are kept.
    """
    columns = dict(points.columns)
    if target is not None:
        columns["class_relevance"] = points.column("class_relevance", target)
    name = "" if target is None else str(target)
    if name.isdecimal() and name not in points.classes and int(name) < len(points.classes):
        name = points.classes[int(name)]
    rows = [points.row(p) for p in highlight]
    links = []
    if neighbours_of is not None:
        row = points.row(neighbours_of)
        links = [(row, points.row(p)) for p in points.nearest(neighbours_of, neighbours)[0]]
        rows.append(row)
    apart = int(np.sum(points.is_apart))
    note = points.layout + (f"; {apart} without a direction along the lower edge" if apart else "")
    return scatter(
        Points(points.of, points.ids(), points.position, columns, points.cluster_names),
        title=f"Map of {points.of} of {points.layer}{f', {name}' if name else ''}",
        alt=f"Map of {len(points)} {points.of} of {points.layer}",
        note=note,
        color=color,
        size=size,
        highlight=rows,
        links=links,
    )
