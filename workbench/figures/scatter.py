"""A scatter of points with columns: what the figures of `Atlas` and `PointMap` share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from plotly import graph_objects as go

from workbench.core import check
from workbench.figures import style

__all__ = ["Points", "scatter"]

_SYMBOLS = ["circle", "square", "diamond", "cross", "triangle-up", "star", "hexagon", "x"]
_MOST_IN_SVG = 5_000


@dataclass(frozen=True, eq=False)
class Points:
    """What is drawn.

    Attributes
    ----------
    kind : str
        What the points are, in the plural.
    ids : list
        Address of each, or its number.
    position : (point, 2) array
    columns : mapping of name to (point,) array
    cluster_names : sequence of str
    """

    kind: str
    ids: list[Any]
    position: np.ndarray
    columns: Mapping[str, np.ndarray]
    cluster_names: Sequence[str]

    def __len__(self) -> int:
        return len(self.ids)


def scatter(
    points: Points,
    *,
    title: str,
    alt: str,
    note: str,
    color: str | None,
    size: str | None,
    highlight: Sequence[int] = (),
    links: Sequence[tuple[int, int]] = (),
) -> go.Figure:
    """Draw points; each carries its id as `customdata`.

    Parameters
    ----------
    title, alt, note : str
        Plain text: above, for readers who do not see it, and below.
    color, size : str, optional
        Columns.
    highlight : sequence of int
        Rows to outline.
    links : sequence of (row, row)
        Lines to draw below the points.
    """
    for name in filter(None, (color, size)):
        check.known("column", name, points.columns)
    by = f" by {color}" if color else ""
    fig = style.figure(
        style.text(f"{title}{by}"),
        f"{alt}, coloured{by or ' alike'}. {_leaders(points, color)}",
        width=760,
        height=640,
        xaxis={"visible": False},
        yaxis={"visible": False, "scaleanchor": "x"},
        annotations=[_note(style.text(note))] if note else [],
    )
    position = np.asarray(points.position, dtype=np.float32)
    kind = go.Scattergl if len(points) > _MOST_IN_SVG else go.Scatter
    common = {"mode": "markers", "hovertemplate": "%{customdata}<br>%{text}<extra></extra>"}
    sizes = _sizes(points, size)
    hover = _hover(points)
    if links:
        ends = np.array(links).ravel()
        between = [None if i % 3 == 2 else i - i // 3 for i in range(3 * len(links))]  # a gap after each line
        x, y = ([None if i is None else float(position[ends[i], axis]) for i in between] for axis in (0, 1))
        line = {"color": style.OTHER, "width": 1}
        fig.add_trace(kind(x=x, y=y, mode="lines", line=line, name="neighbours in the full space", hoverinfo="skip"))
    for name, where, marker in _groups(points, color):
        fig.add_trace(
            kind(
                x=position[where, 0],
                y=position[where, 1],
                customdata=[points.ids[i] for i in where],
                text=[hover[i] for i in where],
                name=name,
                marker={"size": sizes[where], "line": {"width": 0.5, "color": "#555"}, **marker},
                **common,
            )
        )
    if len(highlight):
        where = np.asarray(highlight)
        fig.add_trace(
            kind(
                x=position[where, 0],
                y=position[where, 1],
                customdata=[points.ids[i] for i in where],
                text=[hover[i] for i in where],
                name="highlighted",
                marker={"size": sizes[where] + 8, "symbol": "circle-open", "color": "#000", "line": {"width": 3}},
                **common,
            )
        )
    return fig


def _groups(points: Points, color: str | None) -> list[tuple[str, np.ndarray, dict[str, Any]]]:
    everything = np.arange(len(points))
    if color is None:
        return [(points.kind, everything, {"color": style.CATEGORIES[0]})]
    values = np.asarray(points.columns[color])
    if color == "cluster" or values.dtype.kind not in "fiu":
        return _categories(points, color, values)
    values = values.astype(float)
    has_both_signs = np.nanmin(values, initial=0.0) < 0 < np.nanmax(values, initial=0.0)
    limit = float(np.nanmax(np.abs(values), initial=0.0)) or 1.0
    marker: dict[str, Any] = {
        "color": values,
        "colorscale": style.DIVERGING if has_both_signs else style.SEQUENTIAL,
        "colorbar": {"title": style.text(color)},
        "showscale": True,
    }
    if has_both_signs:
        marker |= {"cmin": -limit, "cmid": 0, "cmax": limit}
    return [(points.kind, everything, marker)]


def _categories(points: Points, color: str, values: np.ndarray) -> list[tuple[str, np.ndarray, dict[str, Any]]]:
    names, counts = np.unique(values, return_counts=True)
    largest = names[np.argsort(-counts, kind="stable")][: len(style.CATEGORIES)]
    groups = []
    for i, name in enumerate(largest):
        is_named = color == "cluster" and 0 <= int(name) < len(points.cluster_names)
        label = points.cluster_names[int(name)] if is_named else name
        marker = {"color": style.CATEGORIES[i], "symbol": _SYMBOLS[i]}
        groups.append((style.text(label), np.flatnonzero(values == name), marker))
    other = np.flatnonzero(~np.isin(values, largest))
    if len(other):
        groups.append(("other", other, {"color": style.OTHER, "symbol": "circle-open"}))
    return groups


def _sizes(points: Points, size: str | None) -> np.ndarray:
    plain = 9.0 if len(points) < 600 else 6.0
    if size is None:
        return np.full(len(points), plain)
    values = np.abs(np.nan_to_num(np.asarray(points.columns[size], dtype=float)))
    return 4 + 2 * plain * np.sqrt(values / (values.max() or 1.0))


def _hover(points: Points) -> list[str]:
    columns = {n: np.asarray(v) for n, v in points.columns.items()}
    return [
        "<br>".join(
            f"{style.text(n)} {v[i]:.4g}" if v.dtype.kind == "f" else f"{style.text(n)} {style.text(v[i])}"
            for n, v in columns.items()
        )
        for i in range(len(points))
    ]


def _leaders(points: Points, color: str | None) -> str:
    values = np.asarray(points.columns[color]) if color else np.empty(0)
    if not len(values) or color == "cluster" or values.dtype.kind not in "fiu":
        return ""
    order = np.argsort(-np.nan_to_num(np.abs(values.astype(float))), kind="stable")[:3]
    return "Strongest: " + ", ".join(f"{points.ids[i]} {float(values[i]):.3g}" for i in order) + "."


def _note(words: str) -> dict[str, Any]:
    place = {"xref": "paper", "yref": "paper", "x": 0, "y": -0.03, "xanchor": "left", "yanchor": "top"}
    return {"text": words, "showarrow": False, "font": {"size": 10}, **place}
