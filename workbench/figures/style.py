"""What all figures share: colours, sizes, escaped text, pictures as data addresses, and the description in words."""

from __future__ import annotations

import base64
import html
import io
from typing import Any

import numpy as np
from plotly import graph_objects as go

from workbench.figures import voila

__all__ = ["CATEGORIES", "DIVERGING", "NEGATIVE", "OTHER", "POSITIVE", "SEQUENTIAL", "data_url", "figure", "text"]

POSITIVE, NEGATIVE, OTHER = "#d94801", "#2171b5", "#8a8a8a"

# Blue below zero, orange above, neutral in the middle: told apart with any of the common colour deficits.
DIVERGING = [
    [0.0, "#08306b"],
    [0.2, NEGATIVE],
    [0.4, "#9ecae1"],
    [0.5, "#f7f7f7"],
    [0.6, "#fdae6b"],
    [0.8, POSITIVE],
    [1.0, "#7f2704"],
]
SEQUENTIAL = "Cividis"
# Okabe and Ito's colours with indigo for black, which a dark page would swallow.
CATEGORIES = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#332288"]


def text(value: Any) -> str:
    """Words from the data as plotly must get them: it reads tags such as ``<b>``, so these are escaped."""
    return html.escape(str(value), quote=False)


def figure(title: str, alt: str, **layout: Any) -> go.Figure:
    """An empty figure with our layout; `title` is escaped already, `alt` describes the figure in words."""
    voila.prepare()
    fig = go.Figure()
    fig.update_layout(
        template="plotly_white",
        title={"text": title, "font": {"size": 15}},
        meta={"alt": alt},
        font={"size": 12},
        margin={"l": 60, "r": 20, "t": 60, "b": 50},
        **layout,
    )
    return fig


def data_url(picture: np.ndarray, *, size: int | None = None) -> str:
    """A picture as a JPEG data address.

    Parameters
    ----------
    picture : (y, x, 3) uint8
    size : int, optional
        Longest side in pixels; larger pictures are shrunk to it.
    """
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(picture, dtype=np.uint8))
    if size is not None:
        image.thumbnail((size, size))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def transparent_diverging(opacity: float) -> list[list[Any]]:
    """The diverging scale to lay over a picture: invisible at zero, `opacity` at both ends."""
    scale = []
    for position in np.linspace(0, 1, 21):
        colour = NEGATIVE if position < 0.5 else POSITIVE
        red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
        alpha = opacity * min(1.0, (abs(position - 0.5) * 2) ** 0.7)
        scale.append([float(position), f"rgba({red},{green},{blue},{alpha:.3f})"])
    return scale
