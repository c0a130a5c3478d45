"""Figures of corrections: how a training went, and models compared on clean and attacked samples."""

from __future__ import annotations

import numpy as np
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from workbench.core.corrections import Reevaluation, TrainingCurve
from workbench.core.registry import FIGURES
from workbench.core.rounds import LifeCycle
from workbench.figures import style

__all__ = ["curve_figure", "life_cycle_figure", "reevaluation_figure"]


@FIGURES.register("TrainingCurve")
def curve_figure(curve: TrainingCurve) -> go.Figure:
    """Draw losses above and accuracies below, by epoch; what was not measured is left out."""
    epochs = np.arange(len(curve))
    fig = make_subplots(2, 1, shared_xaxes=True, vertical_spacing=0.08)
    fig.update_layout(
        style.figure(style.text(f"Training {curve.title}"), repr(curve)[1:-1], height=420).layout, overwrite=False
    )
    rows = {"loss": 1, "penalty": 1, "validation_loss": 1, "clean": 2, "attacked": 2}
    dashes = {"validation_loss": "dash", "penalty": "dot", "attacked": "dash"}
    for i, (name, row) in enumerate(rows.items()):
        values = np.asarray(getattr(curve, name), dtype=float)
        if np.isnan(values).all():
            continue
        line = {"color": style.CATEGORIES[i], "dash": dashes.get(name, "solid")}
        fig.add_trace(
            go.Scatter(x=epochs, y=values, name=name.replace("_", " "), mode="lines+markers", line=line), row, 1
        )
    fig.add_vline(x=curve.best, line={"dash": "dot", "color": style.OTHER})
    fig.update_yaxes(title_text="loss", row=1, col=1)
    fig.update_yaxes(title_text="accuracy", range=[0, 1.02], row=2, col=1)
    return fig.update_xaxes(title_text="epoch", row=2, col=1)


@FIGURES.register("Reevaluation")
def reevaluation_figure(result: Reevaluation) -> go.Figure:
    """Draw the accuracy of each model on clean and on attacked samples, with intervals, and under other artifacts."""
    names = [style.text(name) for name in result.models]
    fig = style.figure(
        f"Models with and without {style.text(result.artifact)}, {result.population}",
        result.summary(),
        height=340,
        barmode="group",
        yaxis={"title": "accuracy", "range": [0, 1.05]},
    )
    kinds = ["clean", "attacked", *result.others]
    for i, kind in enumerate(kinds):
        found = np.array([result.accuracy(j, kind) for j in range(len(names))])
        error = {
            "type": "data", "symmetric": False, "array": found[:, 2] - found[:, 0],
            "arrayminus": found[:, 0] - found[:, 1],
        }  # fmt: skip
        label = f"with {result.artifact}" if kind == "attacked" else kind if kind == "clean" else f"with {kind}"
        pattern = {"shape": ["", "/", "x", ".", "-"][i % 5]}
        fig.add_trace(
            go.Bar(
                x=names, y=found[:, 0], error_y=error, name=style.text(label),
                marker={"color": style.CATEGORIES[i % len(style.CATEGORIES)], "pattern": pattern},
            )
        )  # fmt: skip
    return fig


@FIGURES.register("LifeCycle")
def life_cycle_figure(result: LifeCycle) -> go.Figure:
    """Draw, per round, clean and attacked accuracy before it (open) and after it (filled)."""
    fig = style.figure(
        f"Rounds of correction of {style.text(result.model)}",
        repr(result)[1:-1],
        height=160 + 70 * max(len(result), 1),
        xaxis={"title": "accuracy", "range": [0, 1.02]},
        yaxis={"autorange": "reversed", "type": "category"},
    )
    names = [style.text(f"{one.number}. {one.artifact or '-'} ({one.outcome})") for one in result]
    for i, kind in enumerate(("clean", "attacked")):
        ends = [
            (one.report.accuracy(max(len(one.report.models) - 2, 0), kind)[0], one.report.accuracy(-1, kind)[0])
            if one.report is not None
            else (np.nan, np.nan)
            for one in result
        ]
        color = style.CATEGORIES[i]
        for name, pair in zip(names, ends, strict=True):
            fig.add_trace(
                go.Scatter(x=pair, y=[name, name], mode="lines", line={"color": color}, showlegend=False,
                           hoverinfo="skip")
            )  # fmt: skip
        for j, (when, symbol) in enumerate((("before", "circle-open"), ("after", "circle"))):
            fig.add_trace(
                go.Scatter(
                    x=[pair[j] for pair in ends], y=names, name=f"{kind}, {when}", mode="markers",
                    marker={"color": color, "size": 11, "symbol": symbol},
                )
            )  # fmt: skip
    return fig
