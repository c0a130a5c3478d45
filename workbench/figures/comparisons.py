"""Figures of two models side by side: outputs of one sample, and what differs over many."""

from __future__ import annotations

import numpy as np
from plotly import graph_objects as go

from workbench.core.comparisons import KINDS, Comparison, Differences
from workbench.core.registry import FIGURES
from workbench.figures import style

__all__ = ["comparison_figure", "differences_figure"]

_SYMBOLS = {"lost": "x", "gained": "star", "other": "diamond", "same": "circle"}
_COLOURS = {"lost": style.NEGATIVE, "gained": style.POSITIVE, "other": style.CATEGORIES[3], "same": style.OTHER}
_WORDS = {
    "lost": "right, now wrong", "gained": "wrong, now right", "other": "another decision", "same": "the same decision",
}  # fmt: skip


@FIGURES.register("Comparison")
def comparison_figure(comparison: Comparison, *, n: int = 6) -> go.Figure:
    """Draw the leading outputs of both models in pairs, the largest change first.

    Parameters
    ----------
    comparison : Comparison
    n : int
        The `n` largest outputs of either model.
    """
    table = comparison.to_frame(n)
    names = [style.text(name) for name in table["name"]]
    fig = style.figure(
        f"Sample {comparison.sample} under {style.text(comparison.models[0])} and {style.text(comparison.models[1])}",
        comparison.summary(),
        height=150 + 44 * max(2, len(names)),
        barmode="group",
        xaxis={"title": "output"},
        yaxis={"autorange": "reversed", "automargin": True},
    )
    for column, name, colour, shape in zip(
        ("before", "after"), comparison.models, (style.OTHER, style.CATEGORIES[0]), ("/", ""), strict=True
    ):
        fig.add_trace(
            go.Bar(
                x=table[column].tolist(), y=names, name=style.text(name), orientation="h",
                marker={"color": colour, "pattern": {"shape": shape}},
            )
        )  # fmt: skip
    return fig.update_layout(legend={"traceorder": "normal"})


@FIGURES.register("Differences")
def differences_figure(differences: Differences) -> go.Figure:
    """Draw each sample's margin under the second model against that under the first; below zero is another class.

    Where models take no decision, the largest change of an output against the sample's number.
    """
    fig = style.figure(
        f"{style.text(differences.models[1])} against {style.text(differences.models[0])}, {len(differences)} samples",
        differences.summary(),
        height=420,
        showlegend=True,
    )
    has_margin = bool(np.isfinite(differences.margin_before).any())
    if has_margin:
        x, y = differences.margin_before, differences.margin_after
        fig.update_xaxes(title_text=f"margin of the true output, {style.text(differences.models[0])}", zeroline=True)
        fig.update_yaxes(title_text=style.text(differences.models[1]), zeroline=True)
        ends = [float(np.nanmin([x, y])), float(np.nanmax([x, y]))]
        line = {"dash": "dot", "color": style.OTHER}
        fig.add_trace(go.Scatter(x=ends, y=ends, mode="lines", name="no change", line=line, hoverinfo="skip"))
    else:
        x, y = differences.samples, differences.change
        fig.update_xaxes(title_text="sample")
        fig.update_yaxes(title_text="largest change of an output", zeroline=True)
    kinds = differences.kinds
    for number, kind in reversed(list(enumerate(KINDS))):
        rows = np.flatnonzero(kinds == number)
        if not len(rows):
            continue
        said = [
            [int(differences.samples[i]), style.text(differences.name_of(int(differences.decision_before[i]))),
             style.text(differences.name_of(int(differences.decision_after[i])))]
            for i in rows
        ]  # fmt: skip
        fig.add_trace(
            go.Scatter(
                x=x[rows], y=y[rows], mode="markers", name=f"{_WORDS[kind]} ({len(rows)})", customdata=said,
                marker={"symbol": _SYMBOLS[kind], "size": 6 if kind == "same" else 9, "color": _COLOURS[kind]},
                hovertemplate="sample %{customdata[0]}: %{customdata[1]}, now %{customdata[2]}<extra></extra>",
            )
        )  # fmt: skip
    return fig
