"""The figure of `Bars`: horizontal, in the order given, with what each could be at most behind it."""

from __future__ import annotations

from typing import Any

from plotly import graph_objects as go

from workbench.core.bars import Bars
from workbench.core.registry import FIGURES
from workbench.figures import style

__all__ = ["bars_figure"]

_PATTERNS = ("", "/", ".", "x")  # series are told apart without their colours too


@FIGURES.register("Bars")
def bars_figure(bars: Bars, **layout: Any) -> go.Figure:
    """Draw bars; `layout` is handed to the figure."""
    names = [style.text(name) for name in bars.names]
    fig = style.figure(
        style.text(bars.title),
        f"Bars of {', '.join(bars.series)} for {len(names)} names: {bars.quantity}.",
        height=140 + 26 * max(3, len(names)),
        xaxis={"title": style.text(bars.quantity)},
        yaxis={"autorange": "reversed", "automargin": True},
        barmode="overlay" if bars.limits else "group",
    )
    if bars.limits:
        outline = {"color": "rgba(128,128,128,.25)", "line": {"width": 1, "color": style.OTHER}}
        fig.add_trace(go.Bar(x=list(bars.limits), y=names, name="at most", orientation="h", marker=outline))
    for i, (name, values) in enumerate(bars.series.items()):
        marker = {
            "color": style.CATEGORIES[i % len(style.CATEGORIES)],
            "pattern": {"shape": _PATTERNS[i % len(_PATTERNS)]},
        }
        width = 0.4 if bars.limits else None
        bar = go.Bar(x=list(values), y=names, name=style.text(name), orientation="h", marker=marker, width=width)
        fig.add_trace(bar)
    if bars.is_share:
        fig.update_xaxes(range=[0, 1], tickformat=".0%")
    return fig.update_layout(**layout)
