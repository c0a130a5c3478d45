"""The figure of an `Attribution`: each picture beside its signed heatmap, with legend, score, gap and components."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from plotly import graph_objects as go
from plotly.subplots import make_subplots

from workbench.core import check
from workbench.core.registry import FIGURES
from workbench.core.results import Attribution, SanityCheck
from workbench.figures import style
from workbench.figures.ranking import signed_bars

__all__ = ["attribution_figure", "sanity_check_figure"]


@FIGURES.register("Attribution")
def attribution_figure(
    attribution: Attribution,
    *,
    n: int = 4,
    scale: str = "each",
    layer: str | None = None,
    n_components: int = 8,
    opacity: float = 0.9,
    percentile: float = 99.5,
) -> go.Figure:
    """Draw the first `n` pictures, each beside its heatmap, and below a recorded layer its leading components.

    Parameters
    ----------
    attribution : Attribution
    n : int
        Pictures at most.
    scale : {"each", "shared"}
        Whether each heatmap has its own range, or all share one; the legend's numbers say which.
    layer : str, optional
        Recorded layer whose components are listed; the first recorded one if not given.
    n_components : int
        Bars at most.
    opacity : float, 0 to 1
        Of the strongest relevance over the grey picture.
    percentile : float, 0 to 100
        The share of pixels that the colours tell apart: single pixels far above all others are drawn in full colour
        instead of making the rest pale. The legend ends at this value and says so; 100 takes the largest.
    """
    check.one_of("scale", scale, ("each", "shared"))
    check.between("opacity", opacity, 0, 1)
    check.between("percentile", percentile, 0, 100, left_open=True)
    rows = min(check.positive("n", n), len(attribution))
    recorded = layer or next(iter(attribution.relevance), None)
    # Pictures, heatmaps, room for the legend and for addresses, bars.
    cells: list[dict[str, Any] | None] = [{}, {}, None, {}] if recorded else [{}, {}]
    fig = make_subplots(
        rows=rows,
        cols=len(cells),
        specs=[cells] * rows,
        column_widths=[0.29, 0.29, 0.17, 0.25] if recorded else [0.5, 0.5],
        horizontal_spacing=0.02,
        vertical_spacing=min(0.12, 0.3 / rows),
        subplot_titles=[t for row in range(rows) for t in _titles(attribution, row, recorded)],
    )
    heat = np.asarray(attribution.heatmap, dtype=np.float32)[:rows]
    limits = [float(np.nanpercentile(np.abs(one), percentile)) or float(np.nanmax(np.abs(one))) for one in heat]
    for row in range(rows):
        limit = max(limits) if scale == "shared" else limits[row]
        _picture(fig, attribution, row, grey=False, column=1)
        _picture(fig, attribution, row, grey=True, column=2)
        _heatmap(fig, heat[row], row, limit or 1.0, opacity, on_picture=bool(attribution.pictures))
        if recorded:
            top = attribution.top(recorded, n_components, row=row)
            fig.add_trace(signed_bars(list(top.components), top.scores), row=row + 1, col=4)
            fig.update_yaxes(autorange="reversed", automargin=True, row=row + 1, col=4)
    given = f", given {', '.join(attribution.given[:3])}" if attribution.given else ""
    what, rule = attribution.target_text or "the target", attribution.rule or "no rule"
    title = style.text(f"Relevance for {what} by {rule}{given}")
    rest = f"First {rows} of {len(attribution)} pictures. " if rows < len(attribution) else ""
    fig.update_layout(
        style.figure(title, rest + " ".join(_words(attribution, heat[row], row) for row in range(rows))).layout,
        height=110 + 280 * rows,
        margin={"t": 90, "l": 20, "r": 90, "b": 40},
        width=980 if recorded else 680,
        showlegend=False,
    )
    return fig


@FIGURES.register("SanityCheck")
def sanity_check_figure(checked: SanityCheck, **options: Any) -> go.Figure:
    """Draw the map of the trained model above that of the model with random weights; options as for an attribution."""
    from dataclasses import replace

    both = (checked.base, checked.randomised)

    names = ("heatmap", "target", "score", "gap", "output")
    arrays: dict[str, Any] = {n: np.concatenate([np.asarray(getattr(one, n)) for one in both]) for n in names}
    rows = replace(
        checked.base,
        samples=tuple(checked.base.samples) * 2,
        pictures=tuple(checked.base.pictures) * 2,
        labels=("trained", f"random weights, rank correlation {checked.correlation:.2f}"),
        relevance={},
        activation={},
        **arrays,
    )
    return attribution_figure(rows, n=2, **options)


def _label(attribution: Attribution, row: int) -> str:
    if row < len(attribution.labels) and attribution.labels[row]:
        return attribution.labels[row]
    target = int(attribution.target[row])
    return f"output {target}" if target >= 0 else attribution.target_text


def _gap(attribution: Attribution, row: int) -> str:
    gap = float(attribution.gap[row])
    return "conditional, no gap" if math.isnan(gap) else f"gap {gap:.1%}"


def _titles(attribution: Attribution, row: int, recorded: str | None) -> list[str]:
    # Subplot titles are read as markup too, and a class name may be anything.
    first = style.text(f"sample {attribution.samples[row]}: {_label(attribution, row)}")
    second = f"score {float(attribution.score[row]):.3g}, {_gap(attribution, row)}"
    return [first, second, style.text(recorded)] if recorded else [first, second]


def _picture(fig: go.Figure, attribution: Attribution, row: int, *, grey: bool, column: int) -> None:
    height, width = attribution.heatmap.shape[-2:]
    if row < len(attribution.pictures):
        picture = np.asarray(attribution.pictures[row], dtype=np.uint8)
        if grey:  # lightened, so that colours above it can be told apart
            light = 110 + 0.55 * picture.mean(axis=2, keepdims=True)
            picture = np.repeat(np.clip(light, 0, 255).astype(np.uint8), 3, axis=2)
        fig.add_trace(go.Image(source=style.data_url(picture), hoverinfo="skip"), row=row + 1, col=column)
        height, width = picture.shape[:2]
    fig.update_xaxes(visible=False, range=[-0.5, width - 0.5], constrain="domain", row=row + 1, col=column)
    fig.update_yaxes(
        visible=False, range=[height - 0.5, -0.5], scaleanchor=_axis(fig, row, column), row=row + 1, col=column
    )


def _axis(fig: go.Figure, row: int, column: int) -> str:
    return next(fig.select_xaxes(row=row + 1, col=column)).plotly_name.replace("axis", "")


def _heatmap(fig: go.Figure, heat: np.ndarray, row: int, limit: float, opacity: float, *, on_picture: bool) -> None:
    domain = next(fig.select_yaxes(row=row + 1, col=2)).domain
    # Say where pixels lie beyond the legend.
    low, high = ("≤ " if np.nanmin(heat) < -limit else "", "≥ " if np.nanmax(heat) > limit else "")
    right = next(fig.select_xaxes(row=row + 1, col=2)).domain[1]
    fig.add_trace(
        go.Heatmap(
            z=heat,
            zmin=-limit,
            zmid=0,
            zmax=limit,
            colorscale=style.transparent_diverging(opacity) if on_picture else style.DIVERGING,
            colorbar={
                "len": (domain[1] - domain[0]),
                "y": (domain[0] + domain[1]) / 2,
                "x": right + 0.005,
                "xanchor": "left",
                "thickness": 10,
                "tickvals": [-limit, 0, limit],
                "ticktext": [f"{low}{-limit:.2g}", "0", f"{high}{limit:.2g}"],
            },
            hovertemplate="x %{x}, y %{y}: %{z:.3g}<extra></extra>",
        ),
        row=row + 1,
        col=2,
    )


def _words(attribution: Attribution, heat: np.ndarray, row: int) -> str:
    where = ""
    if np.isfinite(heat).all() and heat.any():
        y, x = np.unravel_index(np.abs(heat).argmax(), heat.shape)
        third_y = ("upper", "middle", "lower")[min(2, 3 * int(y) // heat.shape[0])]
        third_x = ("left", "centre", "right")[min(2, 3 * int(x) // heat.shape[1])]
        where = f" Strongest in the {third_y} {third_x}."
    return (
        f"Sample {attribution.samples[row]}, {_label(attribution, row)}: score {float(attribution.score[row]):.3g}, "
        f"{_gap(attribution, row)}.{where}"
    )
