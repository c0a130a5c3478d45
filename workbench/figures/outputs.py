"""The figure of outputs before and after: one line for each, on one axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from plotly import graph_objects as go

from workbench.figures import style

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["outputs_figure"]


def outputs_figure(table: pd.DataFrame, *, title: str = "Outputs before and after") -> go.Figure:
    """Draw each output before and after as two marks joined by a line.

    Parameters
    ----------
    table : DataFrame
        Columns ``name``, ``before`` and ``after``; one row per output, drawn from the top.
    title : str
    """
    names = [style.text(name) for name in table["name"]]
    fig = style.figure(
        title,
        f"{len(names)} outputs before and after: "
        + ", ".join(f"{row.name} {row.before:.3g} to {row.after:.3g}" for row in table.itertuples(index=False)),
        height=120 + 26 * max(len(names), 3),
        xaxis={"title": "output", "zeroline": True},
        yaxis={"autorange": "reversed", "automargin": True},
        showlegend=True,
    )
    for name, before, after in zip(names, table["before"], table["after"], strict=True):
        colour = style.POSITIVE if after >= before else style.NEGATIVE
        fig.add_trace(go.Scatter(x=[before, after], y=[name, name], mode="lines", line={"color": colour, "width": 3},
                                 showlegend=False, hoverinfo="skip"))  # fmt: skip
    for column, symbol in (("before", "circle-open"), ("after", "circle")):
        fig.add_trace(go.Scatter(x=list(table[column]), y=names, mode="markers", name=column,
                                 marker={"symbol": symbol, "size": 10, "color": "#444"}))  # fmt: skip
    return fig
