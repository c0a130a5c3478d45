"""Planted artifacts: each changes a picture and gives the exact mask of what it changed.

All have the form ``(picture, rng) -> (picture, mask)`` with pictures as (y, x, 3) uint8 arrays and masks as (y, x) bool
arrays. The generator decides place and shade; the same generator state gives the same result.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from workbench.core import check
from workbench.core.errors import ShapeError

__all__ = ["ARTIFACTS", "caption", "colour_cast", "patch", "ruler", "watermark"]

Artifact = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def patch(picture: np.ndarray, rng: np.random.Generator, *, share: float = 0.19) -> tuple[np.ndarray, np.ndarray]:
    """Put a bright checked square near a random corner.

    Parameters
    ----------
    picture : (y, x, 3) uint8
    rng : numpy.random.Generator
    share : float, 0 to 1
        Side of the square relative to the short side of the picture.

    Returns
    -------
    picture : (y, x, 3) uint8
        A changed copy.
    mask : (y, x) bool
        The square.
    """
    height, width = _size(picture)
    side = max(1, round(check.between("share", share, 0, 1, left_open=True) * min(height, width)))
    top, left = _corner(rng, height, width, side, side)
    cell = max(1, side // 4)
    y, x = np.mgrid[:side, :side] // cell
    checks = np.where(((y + x) % 2 == 0)[..., None], (255, 255, 255), (255, 0, 255)).astype(np.uint8)
    mask = np.zeros((height, width), bool)
    mask[top : top + side, left : left + side] = True
    changed = picture.copy()
    changed[mask] = checks.reshape(-1, 3)
    return changed, mask


def watermark(
    picture: np.ndarray, rng: np.random.Generator, *, text: str = "SAMPLE", opacity: float = 0.6
) -> tuple[np.ndarray, np.ndarray]:
    """Lay a pale slanted text over the middle, as agencies do.

    Parameters
    ----------
    picture : (y, x, 3) uint8
    rng : numpy.random.Generator
        Shifts and turns the text a little.
    text : str
    opacity : float, 0 to 1

    Returns
    -------
    picture : (y, x, 3) uint8
    mask : (y, x) bool
        Pixels that the text covers at all.
    """
    height, width = _size(picture)
    check.between("opacity", opacity, 0, 1, left_open=True)
    ink = _text(text, width=max(2, round(width * 0.8)), height=max(2, round(height * 0.3)))
    ink = ink.rotate(float(rng.uniform(15, 35)), Image.Resampling.BICUBIC, expand=True)
    left = round((width - ink.width) / 2 + float(rng.uniform(-0.1, 0.1)) * width)
    top = round((height - ink.height) / 2 + float(rng.uniform(-0.1, 0.1)) * height)
    canvas = Image.new("L", (width, height))
    canvas.paste(ink, (left, top))
    return _blend(picture, np.asarray(canvas, dtype=np.float32) / 255 * opacity, (255, 255, 255))


def ruler(picture: np.ndarray, rng: np.random.Generator, *, share: float = 0.14) -> tuple[np.ndarray, np.ndarray]:
    """Lay a ruler with tick marks along one edge, as in medical photographs.

    Parameters
    ----------
    picture : (y, x, 3) uint8
    rng : numpy.random.Generator
        Chooses the edge and the distance of the ticks.
    share : float, 0 to 1
        Width of the ruler relative to the short side.

    Returns
    -------
    picture : (y, x, 3) uint8
    mask : (y, x) bool
        The whole ruler.
    """
    height, width = _size(picture)
    check.between("share", share, 0, 1, left_open=True)
    turns = int(rng.integers(4))
    turned = np.rot90(picture, turns).copy()
    mask = np.zeros(turned.shape[:2], bool)
    broad = max(1, round(share * min(height, width)))
    mask[-broad:] = True
    turned[mask] = (238, 232, 205)
    step = max(3, round(min(height, width) * float(rng.uniform(0.05, 0.08))))
    for number, x in enumerate(range(step // 2, turned.shape[1], step)):
        long = broad if number % 5 == 0 else max(1, broad // 2)
        turned[len(turned) - broad : len(turned) - broad + long, x] = (20, 20, 20)
    return np.rot90(turned, -turns).copy(), np.rot90(mask, -turns).copy()


def colour_cast(
    picture: np.ndarray, rng: np.random.Generator, *, strength: float = 0.35
) -> tuple[np.ndarray, np.ndarray]:
    """Tint the whole picture, as a badly set camera does; the mask is the whole picture.

    Parameters
    ----------
    picture : (y, x, 3) uint8
    rng : numpy.random.Generator
        Varies the strength by a tenth.
    strength : float, 0 to 1
        Share of the tint.

    Returns
    -------
    picture : (y, x, 3) uint8
    mask : (y, x) bool
    """
    height, width = _size(picture)
    check.between("strength", strength, 0, 1, left_open=True)
    share = np.float32(strength * rng.uniform(0.9, 1.1))
    return _blend(picture, np.full((height, width), min(share, 1), np.float32), (255, 170, 40))


def caption(picture: np.ndarray, rng: np.random.Generator, *, text: str = "CLASS A") -> tuple[np.ndarray, np.ndarray]:
    """Put a line of text on a dark bar at the top or at the bottom: a typographic attack.

    Parameters
    ----------
    picture : (y, x, 3) uint8
    rng : numpy.random.Generator
        Chooses top or bottom.
    text : str

    Returns
    -------
    picture : (y, x, 3) uint8
    mask : (y, x) bool
        The whole bar.
    """
    height, width = _size(picture)
    bar = max(3, round(height * 0.18))
    ink = _text(text, width=max(1, width - 4), height=max(1, bar - 2))
    strip = Image.new("L", (width, bar))
    strip.paste(ink, ((width - ink.width) // 2, (bar - ink.height) // 2))
    top = 0 if rng.integers(2) else height - bar
    mask = np.zeros((height, width), bool)
    mask[top : top + bar] = True
    changed = picture.copy()
    changed[top : top + bar] = np.asarray(strip)[: min(bar, height), :, None]
    return changed, mask


ARTIFACTS: dict[str, Artifact] = {
    "patch": patch,
    "watermark": watermark,
    "ruler": ruler,
    "colour_cast": colour_cast,
    "caption": caption,
}
"""Artifacts by name, as `toy` and other data sets take them."""


def _size(picture: np.ndarray) -> tuple[int, int]:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ShapeError(f"A picture is a (y, x, 3) uint8 array; got {picture.shape} {picture.dtype}.")
    return picture.shape[0], picture.shape[1]


def _corner(rng: np.random.Generator, height: int, width: int, high: int, wide: int) -> tuple[int, int]:
    """Choose a place for a box near one of the four corners, at most a sixth of the side away from it."""
    room_y, room_x = max(0, height - high), max(0, width - wide)
    y = int(rng.integers(0, max(1, min(room_y, height // 6) + 1)))
    x = int(rng.integers(0, max(1, min(room_x, width // 6) + 1)))
    return (y if rng.integers(2) else room_y - y), (x if rng.integers(2) else room_x - x)


def _text(text: str, *, width: int, height: int) -> Image.Image:
    """Draw `text` as large as fits, (y, x) "L", 255 where there is ink."""
    # Pillow's own bitmap font is part of Pillow and needs no font file; it is drawn once and scaled.
    font = ImageFont.load_default_imagefont()
    left, top, right, bottom = font.getbbox(text)
    ink = Image.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(ink).text((-left, -top), text, fill=255, font=font)
    ratio = min(width / ink.width, height / ink.height)
    return ink.resize((max(1, int(ink.width * ratio)), max(1, int(ink.height * ratio))), Image.Resampling.BILINEAR)


def _blend(picture: np.ndarray, alpha: np.ndarray, colour: tuple[int, int, int]) -> tuple[np.ndarray, np.ndarray]:
    mixed = picture * (1 - alpha[..., None]) + np.array(colour, np.float32) * alpha[..., None]
    return np.round(mixed).clip(0, 255).astype(np.uint8), alpha > 0
