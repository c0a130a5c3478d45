"""The figure of an `Effect`: the change of every sample, its mean with an interval, and the band of random controls."""

from __future__ import annotations

import math

import numpy as np
from plotly import graph_objects as go

from workbench.core.effects import Effect
from workbench.core.registry import FIGURES
from workbench.figures import style

__all__ = ["effect_figure"]


@FIGURES.register("Effect")
def effect_figure(effect: Effect, *, n: int = 3) -> go.Figure:
    """Draw the change of each sample's score against the score before.

    Parameters
    ----------
    effect : Effect
    n : int
        Outputs that are named, at most.
    """
    low, high = effect.interval
    title = "; ".join(style.text(str(one)) for one in effect.interventions[:3])
    fig = style.figure(
        f"Effect of {title}",
        effect.summary(),
        height=380,
        xaxis={"title": f"{style.text(effect.target_text)} before"},
        yaxis={"title": "change", "zeroline": True},
        showlegend=True,
    )
    band = effect.control_band
    if not math.isnan(band[0]):
        fig.add_hrect(y0=band[0], y1=band[1], fillcolor="grey", opacity=0.18, line_width=0)
        fig.add_trace(
            go.Scatter(x=[None], y=[None], mode="markers", name="random controls, 95 % of means",
                       marker={"color": "grey", "opacity": 0.4, "symbol": "square", "size": 12})
        )  # fmt: skip
    names = [effect._said(int(i)) for i in effect.decision_after]
    changed = effect.decision_before != effect.decision_after
    same = "same decision" if effect.has_decisions else "samples"
    for wanted, name, symbol in ((False, same, "circle"), (True, "other decision", "x")):
        rows = np.flatnonzero(changed == wanted)
        if len(rows):
            fig.add_trace(
                go.Scatter(
                    x=effect.before[rows], y=effect.change[rows], mode="markers", name=name,
                    marker={"symbol": symbol, "size": 7, "color": style.POSITIVE if wanted else style.NEGATIVE},
                    customdata=[[int(effect.samples[i]), style.text(names[i])] for i in rows],
                    hovertemplate="sample %{customdata[0]}: %{y:+.3g}"
                    + ("<br>now %{customdata[1]}" if effect.has_decisions else "") + "<extra></extra>",
                )
            )  # fmt: skip
    mean = f"mean {effect.mean:+.3g} ({low:+.3g} to {high:+.3g})"
    fig.add_hline(y=effect.mean, line_dash="dash", annotation_text=mean)
    outputs = ", ".join(f"{style.text(name)} {change:+.3g}" for name, change in effect.top_outputs(n))
    if outputs:
        fig.update_layout(title={"subtitle": {"text": f"mean change of outputs: {outputs}"}})
    return fig
