"""The figure of an `Atlas`: its components on their plane, coloured by one quantity."""

from __future__ import annotations

from typing import Any

import numpy as np
from plotly import graph_objects as go

from workbench.core import check
from workbench.core.ids import ComponentId
from workbench.core.registry import FIGURES
from workbench.core.results import Atlas
from workbench.figures import style

__all__ = ["atlas_figure"]

_SYMBOLS = ["circle", "square", "diamond", "cross", "triangle-up", "star", "hexagon", "x"]
_MOST_IN_SVG = 5_000


@FIGURES.register("Atlas")
def atlas_figure(
    atlas: Atlas, *, color: str | None = None, size: str | None = None, highlight: list[str] | None = None
) -> go.Figure:
    """Draw the board as a scatter; each point carries its component's address as `customdata`.

    Parameters
    ----------
    atlas : Atlas
    color : str, optional
        Column to colour by; ``relevance`` if there is one, else the first.
    size : str, optional
        Column that sets the area of the points.
    highlight : list of str, optional
        Addresses to outline.
    """
    columns = list(atlas.columns)
    if color is None and columns:
        color = "relevance" if "relevance" in columns else columns[0]
    for name in filter(None, (color, size)):
        check.known("column", name, columns)
    ids = [str(ComponentId(atlas.layer, atlas.basis, i)) for i in range(atlas.n_components)]
    by = f" by {color}" if color else ""
    fig = style.figure(
        style.text(f"Concepts of {atlas.layer}{by}"),
        f"Map of {atlas.n_components} components of {atlas.layer}, coloured{by or ' alike'}. "
        + _leaders(atlas, color, ids),
        width=760,
        height=640,
        xaxis={"visible": False},
        yaxis={"visible": False, "scaleanchor": "x"},
        annotations=[_note(style.text(atlas.layout))] if atlas.layout else [],
    )
    position = np.asarray(atlas.position, dtype=np.float32)
    kind = go.Scattergl if atlas.n_components > _MOST_IN_SVG else go.Scatter
    common = {"mode": "markers", "hovertemplate": "%{customdata}<br>%{text}<extra></extra>"}
    sizes = _sizes(atlas, size)
    hover = _hover(atlas)
    for name, where, marker in _groups(atlas, color):
        fig.add_trace(
            kind(
                x=position[where, 0],
                y=position[where, 1],
                customdata=[ids[i] for i in where],
                text=[hover[i] for i in where],
                name=name,
                marker={"size": sizes[where], "line": {"width": 0.5, "color": "#555"}, **marker},
                **common,
            )
        )
    if highlight:
        where = np.array([atlas.references.index(a) for a in highlight])
        fig.add_trace(
            kind(
                x=position[where, 0],
                y=position[where, 1],
                customdata=highlight,
                text=[hover[i] for i in where],
                name="highlighted",
                marker={"size": sizes[where] + 8, "symbol": "circle-open", "color": "#000", "line": {"width": 3}},
                **common,
            )
        )
    return fig


def _groups(atlas: Atlas, color: str | None) -> list[tuple[str, np.ndarray, dict[str, Any]]]:
    everything = np.arange(atlas.n_components)
    if color is None:
        return [("components", everything, {"color": style.CATEGORIES[0]})]
    values = np.asarray(atlas.columns[color])
    if color == "cluster" or values.dtype.kind not in "fiu":
        return _categories(atlas, color, values)
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
    return [("components", everything, marker)]


def _categories(atlas: Atlas, color: str, values: np.ndarray) -> list[tuple[str, np.ndarray, dict[str, Any]]]:
    names, counts = np.unique(values, return_counts=True)
    largest = names[np.argsort(-counts, kind="stable")][: len(style.CATEGORIES)]
    groups = []
    for i, name in enumerate(largest):
        is_named = color == "cluster" and 0 <= int(name) < len(atlas.cluster_names)
        label = atlas.cluster_names[int(name)] if is_named else name
        marker = {"color": style.CATEGORIES[i], "symbol": _SYMBOLS[i]}
        groups.append((style.text(label), np.flatnonzero(values == name), marker))
    other = np.flatnonzero(~np.isin(values, largest))
    if len(other):
        groups.append(("other", other, {"color": style.OTHER, "symbol": "circle-open"}))
    return groups


def _sizes(atlas: Atlas, size: str | None) -> np.ndarray:
    plain = 9.0 if atlas.n_components < 600 else 6.0
    if size is None:
        return np.full(atlas.n_components, plain)
    values = np.abs(np.nan_to_num(np.asarray(atlas.columns[size], dtype=float)))
    return 4 + 2 * plain * np.sqrt(values / (values.max() or 1.0))


def _hover(atlas: Atlas) -> list[str]:
    columns = {n: np.asarray(v) for n, v in atlas.columns.items()}
    return [
        "<br>".join(
            f"{style.text(n)} {v[i]:.4g}" if v.dtype.kind == "f" else f"{style.text(n)} {style.text(v[i])}"
            for n, v in columns.items()
        )
        for i in range(atlas.n_components)
    ]


def _leaders(atlas: Atlas, color: str | None, ids: list[str]) -> str:
    values = np.asarray(atlas.columns[color]) if color else np.empty(0)
    if not len(values) or color == "cluster" or values.dtype.kind not in "fiu":
        return ""
    order = np.argsort(-np.nan_to_num(np.abs(values.astype(float))), kind="stable")[:3]
    return "Strongest: " + ", ".join(f"{ids[i]} {float(values[i]):.3g}" for i in order) + "."


def _note(words: str) -> dict[str, Any]:
    place = {"xref": "paper", "yref": "paper", "x": 0, "y": -0.03, "xanchor": "left", "yanchor": "top"}
    return {"text": words, "showarrow": False, "font": {"size": 10}, **place}
