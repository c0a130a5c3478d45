"""Stills: what a widget shows where there is no kernel and no script, as HTML, as PNG and as one line of text.

A still is designed, not a screenshot: title, what was asked, pictures with alternative text, a legend, the leading
rows, digests, and the code that makes the view. Making one touches no model. All text is escaped; nothing in it leads
outside.
"""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.widgets import wire

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "AGAINST",
    "FOR",
    "HTML_BYTES",
    "PNG_BYTES",
    "Legend",
    "Picture",
    "Still",
    "heat_legend",
    "painted",
    "stacked",
]

HTML_BYTES = 200_000
"""An HTML still at most."""

PNG_BYTES = 150_000
"""A PNG still at most."""

_ROWS = 12
FOR, AGAINST = (217, 72, 1), (33, 113, 181)
_HATCH = (((6, 34, 78), 0.65), ((255, 255, 255), 0.4))  # a dark line and a light one beside it, each with its share
_LINE = "rgba(128,128,128,.4)"


@dataclass(frozen=True)
class Picture:
    """One picture of a still.

    Attributes
    ----------
    pixels : (y, x, 3) uint8
    alt : str
        What it shows, for who cannot see it.
    caption : sequence of str
        Lines below it.
    """

    pixels: np.ndarray
    alt: str
    caption: Sequence[str] = ()


@dataclass(frozen=True)
class Legend:
    """What colours mean: a ramp from `low` to `high` through `colours`, or named colours.

    Attributes
    ----------
    title : str
    colours : sequence of (red, green, blue), 0 to 255
    labels : sequence of str
        Spread along a ramp; one for each colour if `is_ramp` is false.
    """

    title: str
    colours: Sequence[Sequence[int]]
    labels: Sequence[str]
    is_ramp: bool = True


@dataclass(frozen=True)
class Still:
    """What a widget showed at one moment.

    Displayed at the end of a cell; `save` writes it to a file.

    Attributes
    ----------
    title, asked : str
        Heading, and what was asked for.
    pictures : sequence of Picture
        In reading order. What is too much for the size of a still is left out from the end, and said.
    legend : Legend or None
    rows : DataFrame or None
        The leading rows.
    notes : sequence of str
        What to know: coverage, gap, counts.
    missing : str
        What is not computed yet, and how to compute it.
    digests : mapping of str to str
    code : str
        The calls that make the view.
    """

    title: str
    asked: str = ""
    pictures: Sequence[Picture] = ()
    legend: Legend | None = None
    rows: pd.DataFrame | None = None
    notes: Sequence[str] = ()
    missing: str = ""
    digests: Mapping[str, str] = field(default_factory=dict)
    code: str = ""

    # Three forms ------------------------------------------------------------------------------------------------------

    def text(self) -> str:
        """One line, whatever is in the words."""
        count = f"{len(self.pictures)} pictures" if len(self.pictures) > 1 else ""
        return " · ".join(" ".join(part.split()) for part in (self.title, self.asked, self.missing or count) if part)

    def html(self, *, limit: int = HTML_BYTES) -> str:
        """The still as a piece of HTML with inline styles, at most `limit` bytes."""
        n = len(self.pictures)
        while True:
            made = self._html(n)
            if len(made.encode()) <= limit or (n == 0 and not len(self._rows())):
                return made
            if n == 0:
                return replace(self, rows=None)._html(0)
            n = min(n - 1, int(n * 0.85 * limit / len(made.encode())) if n > 8 else n - 1)

    def png(self, *, limit: int = PNG_BYTES) -> bytes:
        """The still as a picture, at most `limit` bytes; the table and the code are left to the other forms."""
        from workbench.widgets.still_png import png_of

        return png_of([self], limit=limit)

    def save(self, path: str | Path) -> Path:
        """Write the still as ``.html`` or ``.png``, by the name's ending."""
        from workbench.core.errors import BadValueError

        path = Path(path)
        if path.suffix.lower() not in (".html", ".png"):
            raise BadValueError(f"A still is saved as .html or .png; got {path.name!r}.")
        content = self.png() if path.suffix.lower() == ".png" else self._page().encode()
        part = path.with_name(f".{path.name}.part")
        part.write_bytes(content)
        part.replace(path)
        return path

    def bundle(self, *, mark: str = "") -> dict[str, Any]:
        """All forms by their types, as notebooks keep them; `mark` is a class by which a script finds the still."""
        return {
            "text/html": f'<div class="{html.escape(mark)}">{self.html()}</div>' if mark else self.html(),
            "image/png": base64.b64encode(self.png()).decode("ascii"),
            "text/plain": self.text(),
        }

    def _repr_html_(self) -> str:
        return self.html()

    def _repr_png_(self) -> bytes:
        return self.png()

    def __repr__(self) -> str:
        return f"<still: {self.text()}>"

    # HTML -------------------------------------------------------------------------------------------------------------

    def _page(self) -> str:
        title = html.escape(self.title)
        return f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>{self.html()}</html>"

    def _rows(self) -> Any:
        return () if self.rows is None else self.rows.head(_ROWS)

    def _html(self, n_pictures: int) -> str:
        parts = [f'<div style="font-weight:600;font-size:1.1em;overflow-wrap:anywhere">{html.escape(self.title)}</div>']
        if self.asked:
            parts.append(f'<div style="opacity:.8;overflow-wrap:anywhere">{html.escape(self.asked)}</div>')
        if self.missing:
            parts.append(f'<p style="margin:8px 0"><strong>Not computed yet.</strong> {html.escape(self.missing)}</p>')
        if n_pictures:
            figures = "".join(_figure(picture) for picture in self.pictures[:n_pictures])
            parts.append(f'<div style="display:flex;flex-wrap:wrap;gap:8px;margin:8px 0">{figures}</div>')
        if left := len(self.pictures) - n_pictures:
            parts.append(f'<div style="opacity:.8">… and {left} more, too many for a still.</div>')
        if self.legend is not None:
            parts.append(_legend_html(self.legend))
        if len(self._rows()):
            parts.append(_table_html(self._rows(), len(self.rows)))  # type: ignore[arg-type]
        for note in self.notes:
            parts.append(f'<div style="opacity:.8;overflow-wrap:anywhere">{html.escape(note)}</div>')
        facts = " · ".join(f"{name} {value}" for name, value in self.digests.items() if value)
        if facts:
            parts.append(f'<div style="opacity:.7;font-size:.9em;overflow-wrap:anywhere">{html.escape(facts)}</div>')
        if self.code:
            code = html.escape(self.code)
            style = "margin:6px 0 0;padding:6px 8px;border-radius:4px;white-space:pre-wrap;font-size:.9em"
            parts.append(f'<pre style="{style};border:1px solid {_LINE}">{code}</pre>')
        style = f"border:1px solid {_LINE};border-radius:8px;padding:10px 12px;margin:2px 0;line-height:1.4"
        return f'<div role="figure" aria-label="{html.escape(self.text())}" style="{style}">{"".join(parts)}</div>'


def stacked(parts: Sequence[str], mark: str = "") -> str:
    """Stills in HTML below one another, none wider than the page; `mark` is a class by which a script finds them."""
    if len(parts) == 1 and not mark:
        return parts[0]
    style = ' style="display:grid;grid-template-columns:minmax(0,1fr);gap:8px"' if len(parts) > 1 else ""
    name = f' class="{html.escape(mark)}"' if mark else ""
    return f"<div{name}{style}>{''.join(parts)}</div>"


def painted(
    picture: np.ndarray, heat: np.ndarray, limit: float, *, opacity: float = 0.75, hatched: bool = True
) -> np.ndarray:
    """A signed map over its grey picture: orange for, blue against, clear at zero; as the live view paints it.

    Parameters
    ----------
    picture : (y, x, 3) uint8
    heat : (y, x)
    limit : float
        Absolute value that gets the full colour.
    opacity : float
        Of the strongest colour, 0 to 1.
    hatched : bool
        Fine lines over the blue, so that its sign is not told by colour alone.
    """
    from PIL import Image

    size = (picture.shape[1], picture.shape[0])
    known = Image.fromarray(np.nan_to_num(np.asarray(heat, dtype=np.float32)))
    t = np.asarray(known.resize(size, Image.Resampling.BILINEAR))  # which adds no sign that is not in the map
    t = np.clip(t / (limit or 1.0), -1, 1)[..., None]
    grey = picture.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32)
    ground = np.repeat(128 + 0.62 * (grey[..., None] - 128) + 40, 3, axis=2).clip(0, 255)
    strength = np.abs(t)
    colour = np.where(t < 0, np.array(AGAINST, np.float32), np.array(FOR, np.float32))
    colour = colour * (1 - 0.42 * np.maximum(0, strength - 0.6) / 0.4)
    alpha = opacity * strength**0.7
    made = ground * (1 - alpha) + colour * alpha
    if hatched:
        along = np.add.outer(np.arange(size[1]), np.arange(size[0])) % max(5, round(size[0] / 30))
        for at, (ink, share) in enumerate(_HATCH):
            over = np.where((along[..., None] == at) & (t < 0), share * alpha, 0.0)
            made = made * (1 - over) + np.array(ink, np.float32) * over
    return np.rint(made).astype(np.uint8)


def heat_legend(title: str, limit: float, *, sign: str = "both", opacity: float = 0.75) -> Legend:
    """The legend of `painted`; of one sign alone, the other is clear."""
    grey, steps = np.full((1, 21, 3), 190, np.uint8), np.linspace(-limit, limit, 21)[None]
    steps = {"positive": np.maximum(steps, 0), "negative": np.minimum(steps, 0)}.get(sign, steps)
    colours = painted(grey, steps, limit, opacity=opacity, hatched=False)[0]
    return Legend(title, [tuple(map(int, c)) for c in colours], [f"{-limit:.3g}", "0", f"+{limit:.3g}"])


def _figure(picture: Picture) -> str:
    height, width = picture.pixels.shape[:2]
    data = base64.b64encode(wire.jpeg(picture.pixels)).decode("ascii")
    lines = "".join(f"<div>{html.escape(line)}</div>" for line in picture.caption)
    image = (
        f'<img alt="{html.escape(picture.alt)}" width="{width}" height="{height}" src="data:image/jpeg;base64,{data}">'
    )
    caption = f'<figcaption style="font-size:.85em;overflow-wrap:anywhere">{lines}</figcaption>' if lines else ""
    return f'<figure style="margin:0;width:{width}px">{image}{caption}</figure>'


def _legend_html(legend: Legend) -> str:
    title = f"<span>{html.escape(legend.title)}</span>"
    css = ["rgb({},{},{})".format(*colour) for colour in legend.colours]
    if not legend.is_ramp:
        keys = "".join(
            f'<span><span style="display:inline-block;width:10px;height:10px;background:{c}"></span> '
            f"{html.escape(label)}</span>"
            for c, label in zip(css, legend.labels, strict=True)
        )
        return f'<div style="display:flex;flex-wrap:wrap;gap:4px 12px;margin:4px 0">{title}{keys}</div>'
    bar = f'<div style="height:8px;background:linear-gradient(to right,{",".join(css)})"></div>'
    ends = "".join(f"<span>{html.escape(label)}</span>" for label in legend.labels)
    ends = f'<div style="display:flex;justify-content:space-between;font-size:.85em">{ends}</div>'
    return f'<div style="max-width:260px;margin:4px 0">{title}{bar}{ends}</div>'


def _table_html(rows: pd.DataFrame, total: int) -> str:
    cell = f'style="text-align:left;padding:1px 10px 1px 0;border-bottom:1px solid {_LINE};vertical-align:top"'
    names = [rows.index.name or "", *map(str, rows.columns)]
    head = "".join(f'<th scope="col" {cell}>{html.escape(name)}</th>' for name in names)
    body = "".join(
        "<tr>"
        + f'<th scope="row" {cell}>{html.escape(str(index))}</th>'
        + "".join(f"<td {cell}>{html.escape(_cell(value))}</td>" for value in row)
        + "</tr>"
        for index, row in zip(rows.index, rows.itertuples(index=False), strict=True)
    )
    more = f"<div>The first {len(rows)} of {total} rows.</div>" if total > len(rows) else ""
    rows_html = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    table = f'<table style="border-collapse:collapse;font-size:.9em">{rows_html}</table>'
    return f'<div style="overflow-x:auto;margin:6px 0">{table}{more}</div>'


def _cell(value: Any) -> str:
    if isinstance(value, (float, np.floating)):
        return "–" if not math.isfinite(value) else f"{value:.3g}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return str(value)[:120]
