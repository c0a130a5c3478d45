"""Plotly figures of the records in `core.results`, one module each; the registry loads them when `.plot()` is called.

Each is a plain ``plotly.graph_objects.Figure``: style it, save it, put it in a paper. Its description for readers who
do not see it stands in ``figure.layout.meta["alt"]``.
"""

from __future__ import annotations

from workbench.figures import (
    activation_table,
    atlas,
    attribution,
    bars,
    comparisons,
    corrections,
    directions,
    effect,
    leave_one_out,
    point_map,
    ranking,
    references,
)

__all__ = [
    "activation_table",
    "atlas",
    "attribution",
    "bars",
    "comparisons",
    "corrections",
    "directions",
    "effect",
    "leave_one_out",
    "point_map",
    "ranking",
    "references",
]
