"""The figure of a `Ranking`: bars, best first."""

from __future__ import annotations

import numpy as np
from plotly import graph_objects as go

from workbench.core import check
from workbench.core.registry import FIGURES
from workbench.core.results import Ranking
from workbench.figures import style

__all__ = ["ranking_figure", "signed_bars"]


@FIGURES.register("Ranking")
def ranking_figure(ranking: Ranking, *, n: int = 20) -> go.Figure:
    """Draw the first `n` components as horizontal bars, best on top.

    Parameters
    ----------
    ranking : Ranking
    n : int
        Bars at most.
    """
    shown = min(check.positive("n", n), len(ranking))
    scores = np.asarray(ranking.scores, dtype=float)[:shown]
    names = list(ranking.components[:shown])
    quantity = style.text(ranking.quantity)
    rest = f", first {shown} of {len(ranking)}" if shown < len(ranking) else ""
    leading = f"; first {names[0]} with {scores[0]:.3g}" if names else ""
    fig = style.figure(
        f"Components by {quantity}{rest}",
        f"Bars of {shown} components by {ranking.quantity}{rest}{leading}.",
        height=120 + 22 * max(shown, 3),
        xaxis={"title": quantity, "zeroline": True},
        yaxis={"autorange": "reversed", "automargin": True},
        showlegend=False,
    )
    fig.add_trace(signed_bars(names, scores))
    return fig


def signed_bars(names: list[str], values: np.ndarray) -> go.Bar:
    """Horizontal bars whose sign shows in colour and hatch; `names` are escaped here."""
    return go.Bar(
        x=values,
        y=[style.text(name) for name in names],
        orientation="h",
        customdata=names,
        marker={
            "color": [style.NEGATIVE if v < 0 else style.POSITIVE for v in values],
            "pattern": {"shape": ["/" if v < 0 else "" for v in values]},
        },
        hovertemplate="%{y}: %{x:.4g}<extra></extra>",
    )
