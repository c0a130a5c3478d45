"""Figures of directions: how far two sets of samples lie apart, which units make a direction, how outputs react."""

from __future__ import annotations

from typing import Any

import numpy as np
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from workbench.core import check
from workbench.core.registry import FIGURES
from workbench.core.results import ConceptSensitivity, Direction, DirectionSet
from workbench.figures import style
from workbench.figures.ranking import signed_bars

__all__ = ["direction_figure", "direction_set_figure", "sensitivity_figure"]


@FIGURES.register("Direction")
def direction_figure(direction: Direction, *, n: int = 12, bins: int = 40, held_out: bool = True) -> go.Figure:
    """Draw the projections of samples with and without the concept, and the units with the largest entries.

    Parameters
    ----------
    direction : Direction
    n : int
        Units at most.
    bins : int
    held_out : bool
        Projections on refits that had not seen the sample, where there are some.
    """
    scores = direction.held_out if held_out and not np.isnan(direction.held_out).all() else direction.score
    which = "held-out projection" if scores is direction.held_out else "projection"
    scores = np.asarray(scores, dtype=float)
    known = ~np.isnan(scores)
    low, high = float(scores[known].min()), float(scores[known].max())
    edges = {"start": low, "end": high + 1e-9, "size": max(high - low, 1e-9) / check.positive("bins", bins)}
    auc = "" if np.isnan(direction.auc) else f", held-out AUC {direction.auc:.3f} ± {direction.auc_error:.3f}"
    fig = make_subplots(1, 2, column_widths=[0.6, 0.4], subplot_titles=(which, "largest entries"))
    fig.update_layout(
        style.figure(
            f"{style.text(direction.concept)} at {style.text(direction.layer)}{auc}",
            f"Histograms of the {which} of {direction.n_positive} samples with {direction.concept} and "
            f"{direction.n_negative} without{auc}; bars of the units with the largest entries.",
            height=340,
            barmode="overlay",
        ).layout,
        overwrite=False,
    )
    for is_on, name, colour, pattern in ((False, "without", style.NEGATIVE, "/"), (True, "with", style.POSITIVE, "")):
        fig.add_trace(
            go.Histogram(
                x=scores[known & (direction.is_positive == is_on)],
                name=f"{name} ({int((direction.is_positive == is_on).sum())})",
                xbins=edges,
                histnorm="probability",
                opacity=0.65,
                marker={"color": colour, "pattern": {"shape": pattern}},
            ),
            1,
            1,
        )
    fig.add_vline(x=direction.threshold, line={"dash": "dot", "color": style.OTHER}, row=1, col=1)
    ranking = direction.top(min(n, len(direction.vector)))
    bars = signed_bars([c.rsplit("/", 1)[1] for c in ranking.components], np.asarray(ranking.scores, dtype=float))
    bars.showlegend = False
    fig.add_trace(bars, 1, 2)
    fig.update_xaxes(title_text=which, row=1, col=1)
    fig.update_yaxes(title_text="share of samples", row=1, col=1)
    fig.update_xaxes(title_text="entry", row=1, col=2)
    return fig.update_yaxes(title_text="unit", type="category", autorange="reversed", row=1, col=2)


@FIGURES.register("DirectionSet")
def direction_set_figure(directions: DirectionSet) -> go.Figure:
    """Draw the cosines of all pairs of directions; of a single one, its own figure."""
    if len(directions) == 1:
        return direction_figure(directions.directions[0])
    names = [style.text(name) for name in directions.concepts]
    cosines = directions.cosines()
    pairs = np.abs(cosines - np.eye(len(names)))
    a, b = np.unravel_index(int(pairs.argmax()), pairs.shape)
    fig = style.figure(
        f"Cosines of {len(names)} directions at {style.text(directions.layer)}",
        f"Matrix of the cosines of {len(names)} directions at {directions.layer}; the closest pair is "
        f"{directions.concepts[a]} and {directions.concepts[b]} with {cosines[a, b]:.2f}.",
        height=200 + 40 * len(names),
        yaxis={"autorange": "reversed", "automargin": True},
    )
    return fig.add_trace(
        go.Heatmap(
            z=cosines, x=names, y=names, zmin=-1, zmax=1, colorscale=style.DIVERGING, texttemplate="%{z:.2f}",
            colorbar={"title": "cosine"},
        )
    )  # fmt: skip


@FIGURES.register("ConceptSensitivity")
def sensitivity_figure(result: ConceptSensitivity, *, quantity: str = "score") -> go.Figure:
    """Draw scores, sensitivities or slopes with what random directions give; undefined scores are left out.

    Scores have their 95 % interval, the others 1.96 standard errors to both sides; the grey bands are the middle 95 %
    of random directions.

    Parameters
    ----------
    result : ConceptSensitivity
    quantity : {"score", "sensitivity", "slope"}
    """
    check.one_of("quantity", quantity, ("score", "sensitivity", "slope"))
    classes = [style.text(name) for name in result.classes]
    undefined = int(result.is_undefined.sum())
    note = f"; {undefined} undefined" if undefined else ""
    fig = style.figure(
        f"{quantity.capitalize()} of outputs along {style.text(', '.join(result.concepts))}, "
        f"{style.text(result.layer)}{note}",
        f"Points of the {quantity} of {len(classes)} outputs along {', '.join(result.concepts)}{note}.",
        height=160 + 30 * max(3, len(classes)) * len(result.concepts),
        xaxis={"title": quantity if quantity == "score" else f"{quantity} in output units"},
        yaxis={"autorange": "reversed", "automargin": True, "type": "category"},
    )
    for i, concept in enumerate(result.concepts):
        values = getattr(result, quantity)[i]
        colour = style.CATEGORIES[i % len(style.CATEGORIES)]
        ending = "" if quantity == "score" else f"_{quantity}"
        ends = [getattr(result, f"null{ending}_{end}")[i] for end in ("low", "high")]
        fig.add_trace(
            go.Scatter(
                x=np.stack([*ends, np.full(len(classes), np.nan)], 1).ravel(),
                y=[name for name in classes for _ in range(3)],
                mode="lines",
                line={"width": 9, "color": "rgba(128,128,128,.3)"},
                name=f"random, {style.text(concept)}",
                hoverinfo="skip",
            )
        )
        p = getattr(result, f"p{ending}_holm")[i]
        told = [f"{quantity} {value:.3g}, p {chance:.2g}" for value, chance in zip(values, p, strict=True)]
        error: dict[str, Any]
        if quantity == "score":
            error = {
                "type": "data", "symmetric": False, "array": result.score_high[i] - values,
                "arrayminus": values - result.score_low[i],
            }  # fmt: skip
        else:
            error = {"type": "data", "array": 1.96 * getattr(result, f"{quantity}_error")[i]}
        fig.add_trace(
            go.Scatter(
                x=values, y=classes, mode="markers", name=style.text(concept), error_x=error, hovertext=told,
                marker={"color": colour, "size": 9, "symbol": i},
            )
        )  # fmt: skip
    if quantity == "score":
        fig.update_xaxes(range=[-0.03, 1.03])
    if quantity != "sensitivity":
        fig.add_vline(x=0.5 if quantity == "score" else 0, line={"dash": "dot", "color": style.OTHER})
    return fig
