"""A scatter of points as a picture, for stills: colours, sizes and marks of the live map, drawn without a browser."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.widgets.colours import CATEGORIES, OTHER, ramp
from workbench.widgets.columns import legend_of, scale_of
from workbench.widgets.stills import Legend

__all__ = ["colours_of", "scatter"]

_RIM, _DIM, _MARK, _ACCENT, _PAD = (110, 118, 127), (205, 208, 212), (11, 15, 20), (10, 102, 194), 16
_SCALE = 2  # drawn twice as large: Pillow draws without soft edges
_PLAIN = (86, 120, 160)
_RIMS_BELOW = 20_000
_ONE_BY_ONE = 3_000


def colours_of(
    name: str, values: np.ndarray | None, names: Sequence[str], palette: str
) -> tuple[np.ndarray, Legend | None]:
    """(point, 3) uint8 colours by a column, as the script gives them, and what they mean.

    Groups beyond the eighth largest are "other".
    """
    if values is None:
        return np.zeros((0, 3), np.uint8), None
    if name == "cluster" or values.dtype.kind not in "fiub":
        known, codes, counts = np.unique(values, return_inverse=True, return_counts=True)
        order = np.lexsort((np.arange(len(known)), -counts))
        slot = np.full(len(known), len(CATEGORIES))
        slot[order[: len(CATEGORIES)]] = np.arange(min(len(order), len(CATEGORIES)))
        table = np.array([*CATEGORIES, OTHER], np.uint8)
        words = [str(names[int(k)]) if name == "cluster" and 0 <= int(k) < len(names) else str(k) for k in known]
        shown = order[: len(CATEGORIES)]
        labels = [f"{words[k]} ({counts[k]})" for k in shown]
        colours = [CATEGORIES[i] for i in range(len(shown))]
        if len(order) > len(shown):
            labels.append(f"other ({int(counts[order[len(shown) :]].sum())})")
            colours.append(OTHER)
        return table[slot[codes]], Legend(name.replace("_", " "), colours, labels, is_ramp=False)
    low, high, is_signed = scale_of(values)
    table = np.array(ramp("two-sided" if is_signed else palette, 256), np.uint8)
    with np.errstate(invalid="ignore"):
        at = np.clip(np.nan_to_num((values.astype(np.float64) - low) / ((high - low) or 1.0)) * 255, 0, 255)
    found = table[np.rint(at).astype(int)]
    found[~np.isfinite(values.astype(np.float64))] = OTHER
    return found, legend_of(name, values, palette)


def scatter(
    position: np.ndarray,
    colours: np.ndarray,
    *,
    shown: np.ndarray | None = None,
    sizes: np.ndarray | None = None,
    members: Sequence[int] = (),
    selected: int = -1,
    near: Sequence[int] = (),
    box: Sequence[float] = (),
    width: int = 640,
    height: int = 420,
) -> np.ndarray:
    """(y, x, 3) uint8 picture of points.

    Parameters
    ----------
    position : (point, 2)
    colours : (point, 3) uint8; a grey blue if empty
    shown : (point,) bool, optional
        The others are drawn small and grey.
    sizes : (point,) 0 to 1, optional
    members : rows that get an outline
    selected : row, or -1
    near : rows that are joined to the selected one
    box : left, bottom, right, top of what is in view; all if empty
    """
    from PIL import Image, ImageDraw

    wide, high, pad = width * _SCALE, height * _SCALE, _PAD * _SCALE
    pixels = np.full((high, wide, 3), 255, np.uint8)
    n = len(position)
    if n == 0:
        return pixels[::_SCALE, ::_SCALE]
    if len(box) == 4:
        low, top = np.array(box[:2]), np.array(box[2:])
    else:
        low, top = position.min(0), position.max(0)
    scale = min((wide - 2 * pad) / max(top[0] - low[0], 1e-9), (high - 2 * pad) / max(top[1] - low[1], 1e-9))
    middle = (low + top) / 2
    x = (position[:, 0] - middle[0]) * scale + wide / 2
    y = high / 2 - (position[:, 1] - middle[1]) * scale
    shown = np.ones(n, bool) if shown is None else shown
    base = float(np.clip(0.13 * math.sqrt(width * height / max(1, int(shown.sum()))), 1.2, 6)) * _SCALE
    radius = np.full(n, base) if sizes is None else base * (0.55 + 1.35 * np.nan_to_num(sizes))
    if not len(colours):
        colours = np.tile(np.array(_PLAIN, np.uint8), (n, 1))
    inside = (x > -9) & (y > -9) & (x < wide + 9) & (y < high + 9)

    def discs(rows: np.ndarray, extra: float, colour: Any) -> None:
        """Many at once; those of about one size together."""
        steps = np.rint(2 * (radius[rows] + extra * _SCALE)).astype(int)
        for step in np.unique(steps):
            some = rows[steps == step]
            _stamp(pixels, x[some], y[some], step / 2, colour[some] if isinstance(colour, np.ndarray) else colour)

    def disc(i: int, r: float, colour: Any) -> None:
        draw.ellipse((x[i] - r, y[i] - r, x[i] + r, y[i] + r), fill=tuple(map(int, colour)))

    aside, visible = inside & ~shown, np.flatnonzero(inside & shown)
    _stamp(pixels, x[aside], y[aside], 1.1 * _SCALE, _DIM)
    if n > _ONE_BY_ONE:
        if n <= _RIMS_BELOW:
            discs(visible, 0.7, _RIM)
        discs(visible, 0, colours)
    image = Image.fromarray(pixels)
    draw: Any = ImageDraw.Draw(image)
    for i in visible.tolist() if n <= _ONE_BY_ONE else ():
        disc(i, radius[i] + 0.7 * _SCALE, _RIM)
        disc(i, radius[i], colours[i])
    for i in near if selected >= 0 else ():
        draw.line((x[selected], y[selected], x[i], y[i]), fill=_ACCENT, width=_SCALE)
    if len(members):
        pixels = np.array(image)
        chosen = np.asarray(members)[inside[np.asarray(members)]]
        discs(chosen, 2.6, _MARK)
        discs(chosen, 1.0, colours)
        image = Image.fromarray(pixels)
        draw = ImageDraw.Draw(image)
    for i in near if selected >= 0 else ():
        disc(i, radius[i] + 1.5 * _SCALE, _ACCENT)
        disc(i, radius[i] + 0.3 * _SCALE, colours[i])
    if selected >= 0:
        disc(selected, radius[selected] + 5 * _SCALE, _ACCENT)
        disc(selected, radius[selected] + 2.6 * _SCALE, (255, 255, 255))
        disc(selected, radius[selected] + 1.2 * _SCALE, colours[selected])
    return np.asarray(image.resize((width, height), Image.Resampling.BOX))


def _stamp(pixels: np.ndarray, x: np.ndarray, y: np.ndarray, radius: float, colour: Any) -> None:
    """Paint discs of one size into `pixels`, all at once, pixel by pixel of a disc."""
    high, wide = pixels.shape[:2]
    column, row, reach = np.floor(x).astype(int), np.floor(y).astype(int), math.ceil(radius)
    for dy in range(-reach, reach + 1):
        for dx in range(-reach, reach + 1):
            if dx * dx + dy * dy > radius * radius + 0.3:
                continue
            inside = (column + dx >= 0) & (column + dx < wide) & (row + dy >= 0) & (row + dy < high)
            fill = colour[inside] if isinstance(colour, np.ndarray) else colour
            pixels[row[inside] + dy, column[inside] + dx] = fill
