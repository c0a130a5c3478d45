"""Plain plotly figures as stills: pictures are taken out, points, lines and bars are painted. No browser is needed.

It is not plotly's own drawing, but the same content: enough to recognise a figure where it cannot be drawn.
"""

from __future__ import annotations

import base64
import html
import io
import re
from typing import Any

import numpy as np

from workbench.widgets.stills import Legend, Picture, Still, heat_legend, painted

__all__ = ["still_of_figure"]

_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BELOW = 640, 360, 60, 16, 14, 44
_QUIET, _LINE = (86, 97, 109), (222, 226, 231)
_COLOURS = [(0, 114, 178), (230, 159, 0), (0, 158, 115), (204, 121, 167), (86, 180, 233), (213, 94, 0), (51, 34, 136)]
_PICTURES = 48
_NAMED, _NAMES = 150, 24  # room for names beside the bars, and how many are written
_POINTS = 5_000


def still_of_figure(figure: Any, *, rows: Any = None) -> Still:
    """A still of a plotly figure.

    Parameters
    ----------
    figure : plotly Figure
    rows : DataFrame, optional
        Its numbers, for the table.
    """
    drawn = _plain(figure.to_plotly_json())
    layout = drawn.get("layout", {})
    title = _words((layout.get("title") or {}).get("text", "")) or "Figure"
    alt = str((layout.get("meta") or {}).get("alt", "")) or title
    pictures = [Picture(_sized(one), alt) for one in _images(drawn)[:_PICTURES]]
    limit = 0.0
    for trace in drawn["data"]:
        if trace.get("type") == "heatmap" and trace.get("z") is not None:
            heat = np.asarray(trace["z"], dtype=np.float32)
            limit = limit or float(np.nanmax(np.abs(heat), initial=0.0)) or 1.0
            ground = np.full((*np.array(heat.shape) * max(1, 192 // max(heat.shape)), 3), 190, np.uint8)
            pictures.append(Picture(painted(ground, heat, limit), f"Map: {alt}", (str(trace.get("name") or ""),)))
    chart = [one for one in drawn["data"] if one.get("type", "scatter") in ("scatter", "scattergl", "bar")]
    if any(one.get("x") is not None or one.get("y") is not None for one in chart):
        pictures.insert(0, Picture(_chart(chart, layout), alt))
    legend = heat_legend("Relevance", limit) if limit else _legend(chart)
    return Still(title, pictures=pictures, legend=legend, rows=rows)


def _legend(chart: list[dict[str, Any]]) -> Legend | None:
    """What the colours of several lines or groups are called."""
    names = [_words(one.get("name"))[:24] for one in chart][: len(_COLOURS)]
    if len(chart) < 2 or not any(names):
        return None
    shown = [(colour, name) for colour, name in zip(_COLOURS, names, strict=False) if name]
    return Legend("", [colour for colour, _ in shown], [name for _, name in shown], is_ramp=False)


def _plain(value: Any) -> Any:
    """With arrays in the places where plotly writes them as coded bytes."""
    if isinstance(value, dict):
        if value.keys() >= {"dtype", "bdata"}:
            found = np.frombuffer(base64.b64decode(value["bdata"]), dtype=value["dtype"])
            return found.reshape([int(n) for n in str(value.get("shape") or found.size).split(",")])
        return {name: _plain(one) for name, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def _words(text: Any) -> str:
    """Plotly's text without its tags."""
    return html.unescape(re.sub(r"<br ?/?>", " ", re.sub(r"</?(b|i|sub|sup|span|a)( [^<>]*)?>", "", str(text or ""))))


def _images(drawn: dict[str, Any]) -> list[np.ndarray]:
    from PIL import Image

    found = []
    sources = [one.get("source") for one in drawn.get("layout", {}).get("images", ())]
    for trace in drawn["data"]:
        if trace.get("type") == "image":
            if trace.get("z") is not None:
                found.append(np.asarray(trace["z"])[..., :3].astype(np.uint8))
            else:
                sources.append(trace.get("source"))
    for source in sources:
        head, _, data = str(source or "").partition(";base64,")
        if head.startswith("data:image/"):
            found.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")))
    return found


def _sized(pixels: np.ndarray) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    if max(image.size) * 2 <= 192:  # inputs of small models
        factor = 192 // max(image.size)
        image = image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    image.thumbnail((192, 192))
    return np.asarray(image)


def _chart(traces: list[dict[str, Any]], layout: dict[str, Any]) -> np.ndarray:
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(12)
    image = Image.new("RGB", (_WIDTH, _HEIGHT), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    names: dict[str, list[str]] = {"x": [], "y": []}
    placed: list[tuple[dict[str, Any], np.ndarray, np.ndarray]] = []
    for one in traces:
        across, up = _values(one)
        placed.append((one, _numbers(across, names["x"]), _numbers(up, names["y"])))
    bars = [trace.get("orientation", "v") for trace, _, _ in placed if trace.get("type") == "bar"]
    xs = np.concatenate([x for _, x, _ in placed] + ([np.zeros(1)] if "h" in bars else []))
    ys = np.concatenate([y for _, _, y in placed] + ([np.zeros(1)] if "v" in bars else []))
    (left, right), (low, high) = _span(xs), _span(ys)
    if (layout.get("yaxis") or {}).get("autorange") == "reversed":
        low, high = high, low

    edge = _NAMED if names["y"] else _LEFT

    def at(x: float, y: float) -> tuple[float, float]:
        across = (x - left) / (right - left) * (_WIDTH - edge - _RIGHT)
        return edge + across, _HEIGHT - _BELOW - (y - low) / (high - low) * (_HEIGHT - _TOP - _BELOW)

    draw.rectangle((edge, _TOP, _WIDTH - _RIGHT, _HEIGHT - _BELOW), outline=_LINE)
    for i, (trace, x, y) in enumerate(placed):
        colour = _COLOURS[i % len(_COLOURS)]
        points = [(a, b) for a, b in zip(x.tolist(), y.tolist(), strict=False) if np.isfinite(a) and np.isfinite(b)]
        if trace.get("type") == "bar":
            flat = trace.get("orientation", "v") == "h"
            half = 0.38 * (_HEIGHT if flat else _WIDTH) / max(8, 1.2 * len(points))
            for a, b in points:
                ends = [at(0, b), at(a, b)] if flat else [at(a, 0), at(a, b)]
                (x0, x1), (y0, y1) = (sorted(one) for one in zip(*ends, strict=True))
                draw.rectangle((x0, y0 - half, x1, y1 + half) if flat else (x0 - half, y0, x1 + half, y1), fill=colour)
            continue
        ends = [at(a, b) for a, b in points[:_POINTS]]
        if "lines" in str(trace.get("mode", "")) and len(ends) > 1:
            draw.line(ends, fill=colour, width=2)
        else:
            for a, b in ends:
                draw.ellipse((a - 2, b - 2, a + 2, b + 2), fill=colour)
    words: list[tuple[str, tuple[float, float], str]] = [
        (_tick(left, names["x"]), (edge, _HEIGHT - _BELOW + 4), "la"),
        (_tick(right, names["x"]), (_WIDTH - _RIGHT, _HEIGHT - _BELOW + 4), "ra"),
        (_axis(layout, "xaxis"), ((edge + _WIDTH - _RIGHT) / 2, _HEIGHT - 20), "ma"),
        (_axis(layout, "yaxis"), (edge + 6, _TOP + 3), "la"),
    ]
    if 0 < len(names["y"]) <= _NAMES:
        words += [(_words(name)[-22:], (edge - 6, at(left, i)[1]), "rm") for i, name in enumerate(names["y"])]
    else:
        words += [(_tick(low, names["y"]), (edge - 6, _HEIGHT - _BELOW), "rb")]
        words += [(_tick(high, names["y"]), (edge - 6, _TOP), "ra")]
    for text, place, anchor in words:
        line = "".join(c if c.isprintable() else " " for c in text)[:80]
        draw.text(place, line, fill=_QUIET, font=font, anchor=anchor)
    return np.asarray(image)


def _values(trace: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """Both coordinates; the one that is not given counts the points."""
    found = {name: np.asarray(trace[name]).tolist() for name in "xy" if trace.get(name) is not None}
    n = max(map(len, found.values()), default=0)
    return found.get("x", list(range(n))), found.get("y", list(range(n)))


def _numbers(values: list[Any], names: list[str]) -> np.ndarray:
    """Values as numbers; words get places of their own, in the order in which they come."""
    found = []
    for value in values:
        if isinstance(value, str):
            if value not in names:
                names.append(value)
            found.append(float(names.index(value)))
        else:
            found.append(float("nan") if value is None else float(value))
    return np.array(found, dtype=np.float64)


def _span(values: np.ndarray) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 1.0)
    room = 0.04 * (high - low) or 0.5
    return low - room, high + room


def _tick(value: float, names: list[str]) -> str:
    if names:
        return _words(names[int(np.clip(round(value), 0, len(names) - 1))])[:12]
    return f"{value:.3g}"


def _axis(layout: dict[str, Any], name: str) -> str:
    title = (layout.get(name) or {}).get("title")
    return _words(title.get("text", "") if isinstance(title, dict) else title)
