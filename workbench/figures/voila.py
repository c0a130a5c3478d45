"""Figures under Voila.

There plotly's renderer of JupyterLab draws a figure and then wants to put its picture into the output, which is no
model on Voila's page: ``setData is not a function``. So figures go there as HTML, which asks the network for nothing.
"""

from __future__ import annotations

import os
from typing import Any

import plotly.io as pio
from plotly.io.base_renderers import MimetypeRenderer

__all__ = ["NAME", "prepare"]

NAME = "workbench-voila"
"""Of the renderer, as plotly lists it."""

_ITSELF = ("plotly_mimetype", "plotly_mimetype+notebook")  # what plotly chooses where nobody has


class _Html(MimetypeRenderer):
    """A figure as HTML; the first brings the script."""

    def __init__(self) -> None:
        self._sent: list[bool] = []  # shared by the copies of itself that plotly makes

    def to_mimebundle(self, fig_dict: dict[str, Any]) -> dict[str, Any]:
        html = pio.to_html(
            fig_dict, include_plotlyjs=not self._sent, include_mathjax=False, full_html=False, default_width="100%",
            default_height=360, validate=False,
        )  # fmt: skip
        self._sent.append(True)
        return {"text/html": html}


def prepare() -> None:
    """Have plotly show figures in this way, if this is Voila and nobody has chosen another."""
    if os.environ.get("SERVER_SOFTWARE", "").startswith("voila") and pio.renderers.default in _ITSELF:
        pio.renderers[NAME] = _Html()
        pio.renderers.default = NAME
