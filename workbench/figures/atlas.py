"""The figure of an `Atlas`: its components on their plane, coloured by one quantity."""

from __future__ import annotations

from plotly import graph_objects as go

from workbench.core.registry import FIGURES
from workbench.core.results import Atlas
from workbench.figures.scatter import Points, scatter

__all__ = ["atlas_figure"]


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
    if color is None and atlas.columns:
        color = "relevance" if "relevance" in atlas.columns else next(iter(atlas.columns))
    return scatter(
        Points("components", atlas.ids(), atlas.position, atlas.columns, atlas.cluster_names),
        title=f"Concepts of {atlas.layer}",
        alt=f"Map of {atlas.n_components} components of {atlas.layer}",
        note=atlas.layout,
        color=color,
        size=size,
        highlight=[atlas.references.index(a) for a in highlight or []],
    )
