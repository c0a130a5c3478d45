"""Stills as one picture, for viewers that strip HTML: title, pictures with captions, legend and notes on white."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.widgets.stills import PNG_BYTES, Legend, Still

if TYPE_CHECKING:
    from PIL import Image as Images

__all__ = ["png_of"]

_WIDTH, _MARGIN = 900, 14


def png_of(stills: Sequence[Still], *, limit: int = PNG_BYTES) -> bytes:
    """Stills below one another as one picture of at most `limit` bytes: smaller, then with fewer pictures."""
    scale, share = 1.0, 1.0
    while True:
        few = [replace(still, pictures=still.pictures[: math.ceil(share * len(still.pictures))]) for still in stills]
        found = _png(_stacked([_sheet(still, scale) for still in few]), limit)
        if len(found) <= limit or share < 0.02:
            return found
        if scale > 0.55:
            scale *= 0.8
        else:
            share *= 0.65


def _sheet(still: Still, scale: float) -> Images.Image:
    """Title, pictures with captions, legend and notes on white."""
    from PIL import Image, ImageDraw, ImageFont

    def font(size: int) -> Any:
        return ImageFont.load_default(size)

    big, small = font(18), font(12)
    lines = [(still.title, big), (still.asked, small)]
    lines += [(f"Not computed yet. {still.missing}", small)] if still.missing else []
    tail = [(note, small) for note in still.notes] + [
        (" · ".join(f"{k} {v}" for k, v in still.digests.items() if v), small)
    ]
    tiles = [(_scaled(p.pixels, scale), [str(line) for line in p.caption[:2]]) for p in still.pictures]
    gap, line_height = 8, 15
    places, x, y, row = [], _MARGIN, 0, 0
    for pixels, caption in tiles:
        width, height = pixels.width, pixels.height + line_height * len(caption)
        if x + width > _WIDTH - _MARGIN and x > _MARGIN:
            x, y, row = _MARGIN, y + row + gap, 0
        places.append((x, y))
        x, row = x + width + gap, max(row, height)
    wide = max([420, *(left + pixels.width + _MARGIN for (pixels, _), (left, _) in zip(tiles, places, strict=True))])
    top = _MARGIN + sum(f.size + 6 for text, f in lines if text) + 4
    below = top + (y + row + gap if tiles else 0)
    height = below + (34 if still.legend else 0) + sum(f.size + 6 for text, f in tail if text) + _MARGIN
    sheet = Image.new("RGB", (wide, int(height)), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)

    def write(at: tuple[float, float], text: str, font: Any, width: float) -> None:
        text = _plain(text)
        while text and draw.textlength(text, font=font) > width:
            text = text[: max(0, int(len(text) * 0.95) - 1)] + "…" if len(text) > 2 else ""
        draw.text(at, text, fill=(27, 36, 48), font=font)

    at = float(_MARGIN)
    for text, face in lines:
        if text:
            write((_MARGIN, at), text, face, wide - 2 * _MARGIN)
            at += face.size + 6
    for (pixels, caption), (left, up) in zip(tiles, places, strict=True):
        sheet.paste(pixels, (left, int(top + up)))
        for i, line in enumerate(caption):
            write((left, top + up + pixels.height + 1 + i * line_height), line, small, pixels.width)
    at = below
    if still.legend is not None:
        at = _draw_legend(draw, still.legend, at, small)
    for text, face in tail:
        if text:
            write((_MARGIN, at), text, face, wide - 2 * _MARGIN)
            at += face.size + 6
    return sheet


def _stacked(sheets: Sequence[Images.Image]) -> Images.Image:
    from PIL import Image

    if len(sheets) == 1:
        return sheets[0]
    size = max(sheet.width for sheet in sheets), sum(sheet.height for sheet in sheets)
    whole = Image.new("RGB", size, (255, 255, 255))
    at = 0
    for sheet in sheets:
        whole.paste(sheet, (0, at))
        at += sheet.height
    return whole


def _draw_legend(draw: Any, legend: Legend, at: float, font: Any) -> float:
    draw.text((_MARGIN, at), _plain(legend.title), fill=(27, 36, 48), font=font)
    x = _MARGIN + draw.textlength(_plain(legend.title), font=font) + 12
    if legend.is_ramp:
        step = 200 / len(legend.colours)
        for i, colour in enumerate(legend.colours):
            draw.rectangle((x + i * step, at + 2, x + (i + 1) * step, at + 11), fill=tuple(colour))
        for i, label in enumerate(legend.labels):
            wide = draw.textlength(_plain(label), font=font)
            place = x + (200 - wide) * i / max(1, len(legend.labels) - 1)
            draw.text((place, at + 14), _plain(label), fill=(27, 36, 48), font=font)
    else:
        for colour, label in zip(legend.colours, legend.labels, strict=True):
            draw.rectangle((x, at + 2, x + 10, at + 12), fill=tuple(colour))
            draw.text((x + 14, at), _plain(label), fill=(27, 36, 48), font=font)
            x += 30 + draw.textlength(_plain(label), font=font)
    return at + 34


def _plain(text: str) -> str:
    """On one line, without what a font cannot draw."""
    return "".join(c if c.isprintable() else " " for c in str(text))


def _scaled(pixels: np.ndarray, scale: float) -> Images.Image:
    from PIL import Image

    image = Image.fromarray(np.ascontiguousarray(pixels))
    if scale >= 1:
        return image
    return image.resize((max(8, round(image.width * scale)), max(8, round(image.height * scale))))


def _png(image: Images.Image, limit: int) -> bytes:
    """As it is if that is small enough, else with as many colours as fit."""
    from PIL import Image

    found = b""
    for colours in (256, 64):
        file = io.BytesIO()
        image.quantize(colours, method=Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(file, "PNG")
        found = file.getvalue()
        if len(found) <= limit:
            break
    return found
