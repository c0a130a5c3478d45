"""Bars with their names, painted: the picture of stills whose content is a list of shares."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from workbench.widgets.stills import Picture

__all__ = ["bars"]

_INK, _QUIET, _LINE, _FILL = (27, 36, 48), (86, 97, 109), (222, 226, 231), (10, 102, 194)
_ROW, _WIDTH, _NAME, _TEXT = 22, 600, 220, 150


def bars(rows: Sequence[tuple[str, float, str]], alt: str) -> Picture:
    """Paint one bar per row.

    Parameters
    ----------
    rows : sequence of (name, share 0 to 1, words)
    alt : str
        What they show together; the words of all rows are put behind it.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(12)
    image = Image.new("RGB", (_WIDTH, _ROW * max(1, len(rows)) + 4), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    left, right = _NAME + 8, _WIDTH - _TEXT
    for i, (name, share, words) in enumerate(rows):
        top = i * _ROW + 2
        draw.text((0, top + 3), _fitting(draw, name, font, _NAME), fill=_INK, font=font)
        draw.rectangle((left, top + 6, right, top + 15), fill=_LINE)
        if share > 0:
            draw.rectangle(
                (left, top + 6, left + max(1, round((right - left) * min(1.0, share))), top + 15), fill=_FILL
            )
        draw.text((right + 10, top + 3), _fitting(draw, words, font, _TEXT - 12), fill=_QUIET, font=font)
    spoken = "; ".join(f"{name}: {words}" for name, _, words in rows)
    return Picture(np.asarray(image), f"{alt} {spoken}.")


def _fitting(draw: object, text: str, font: object, width: float) -> str:
    """The text on one line, its beginning left out where it is too long: names differ at their ends."""
    text = "".join(c if c.isprintable() else " " for c in text)
    while len(text) > 2 and draw.textlength(text, font=font) > width:  # type: ignore[attr-defined]
        text = "…" + text[max(2, len(text) // 20 + 1) :]
    return text
