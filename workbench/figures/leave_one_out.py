"""The figure of a `LeaveOneOut`: what the score loses without each component."""

from __future__ import annotations

import numpy as np
from plotly import graph_objects as go

from workbench.core.effects import LeaveOneOut
from workbench.core.registry import FIGURES
from workbench.figures import style
from workbench.figures.ranking import signed_bars

__all__ = ["leave_one_out_figure"]


@FIGURES.register("LeaveOneOut")
def leave_one_out_figure(found: LeaveOneOut, *, n: int = 20) -> go.Figure:
    """Draw the change of the score without each component, most relevant on top.

    Parameters
    ----------
    found : LeaveOneOut
    n : int
        Bars at most.
    """
    names, change = list(found.components[:n]), np.asarray(found.change[:n], dtype=float)
    what = found.name or found.target_text
    fig = style.figure(
        f"{style.text(what)} of sample {found.sample} without each component",
        f"Bars of {len(names)} components: change of {what} when each is suppressed alone.",
        height=120 + 22 * max(len(names), 3),
        xaxis={"title": "change of the score", "zeroline": True},
        yaxis={"autorange": "reversed", "automargin": True},
        showlegend=False,
    )
    fig.add_trace(signed_bars(names, change))
    return fig
