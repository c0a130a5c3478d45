"""Planted artifacts: each changes a picture and gives the exact mask of what it changed.

All have the form ``(picture, rng) -> (picture, mask)`` with pictures as (y, x, 3) arrays, uint8 or float32 from 0 to
255, and masks as (y, x) bool arrays. What comes back is of the same kind; only uint8 pictures are rounded. The
generator decides place and shade; the same generator state gives the same result. `plant` does it at any strength.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from workbench.core import check
from workbench.core.errors import MissingPackageError, ShapeError

__all__ = [
    "ARTIFACTS",
    "band_aid",
    "caption",
    "colour_cast",
    "patch",
    "plant",
    "ruler",
    "shortcut",
    "timestamp",
    "watermark",
]

_SHORTCUT_PIXELS = {224: 36, 384: 62, 512: 82, 518: 84}

Artifact = Callable[[np.ndarray, np.random.Generator], tuple[np.ndarray, np.ndarray]]


def plant(
    artifact: str | Artifact, picture: np.ndarray, rng: np.random.Generator, *, strength: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Put an artifact on a picture, as faint as wanted.

    Parameters
    ----------
    artifact : str or callable
        A name from `ARTIFACTS`, or a function ``(picture, rng) -> (picture, mask)``.
    picture : (y, x, 3) uint8, or float32 from 0 to 255
    rng : numpy.random.Generator
        Decides place and shade, and not how strong they are: the mask is the same at each strength above 0.
    strength : float, 0 to 1
        Each changed value goes this share of its way: 1 is the artifact itself, 0 the picture as it was.

    Returns
    -------
    picture : array like the given one
        A changed copy.
    mask : (y, x) bool
        Empty at a strength of 0.

    Raises
    ------
    UnknownNameError
        If there is no artifact of this name.
    ShapeError
        If a function of one's own returns a picture or a mask of another size.
    """
    check.between("strength", strength, 0, 1)
    paint = ARTIFACTS[check.known("artifact", artifact, ARTIFACTS)] if isinstance(artifact, str) else artifact
    size = _size(picture)
    if strength == 0:
        return picture.copy(), np.zeros(size, bool)
    full, mask = (np.asarray(one) for one in paint(picture, rng))
    if full.shape != picture.shape or mask.shape != size:
        raise ShapeError(
            f"The artifact {getattr(paint, '__name__', paint)!r} made a picture {full.shape} and a mask {mask.shape} "
            f"of a picture {picture.shape}.",
            hint="It must return a picture of the same shape, and a (y, x) mask.",
        )
    mask = mask.astype(bool)
    if strength == 1:
        return full.astype(picture.dtype), mask
    before = picture.astype(np.float32)
    # A pixel that the artifact leaves alone has a difference of exactly zero, so it stays what it was.
    return _like(picture, before + np.float32(strength) * (full.astype(np.float32) - before)), mask


def patch(picture: np.ndarray, rng: np.random.Generator, *, share: float = 0.19) -> tuple[np.ndarray, np.ndarray]:
    """Put a bright checked square near a random corner.

    Parameters
    ----------
    picture : (y, x, 3) uint8, or float32 from 0 to 255
    rng : numpy.random.Generator
    share : float, 0 to 1
        Side of the square relative to the short side of the picture.

    Returns
    -------
    picture : array like the given one
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
    picture : (y, x, 3) uint8, or float32 from 0 to 255
    rng : numpy.random.Generator
        Shifts and turns the text a little.
    text : str
    opacity : float, 0 to 1

    Returns
    -------
    picture : array like the given one
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


def shortcut(picture: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Write the watermark of ImageNet-W: two thin white glyphs, "shortcut", three times, across the upper middle.

    Classifiers trained on ImageNet take it as a sign of cartons. It is the same on every picture.

    Parameters
    ----------
    picture : (y, x, 3) uint8, or float32 from 0 to 255
    rng : numpy.random.Generator
        Not used: the published mark has one place.

    Returns
    -------
    picture : array like the given one
    mask : (y, x) bool
        Pixels that the glyphs cover at all.

    Raises
    ------
    MissingPackageError
        If the font is not there, which the package imagenet-w brings.

    Notes
    -----
    Li et al. 2023, "A Whac-A-Mole Dilemma", section 3.1: half opaque, from one hundredth of the width and four tenths
    of the height; 36 pixels high at a size of 224.
    """
    height, width = _size(picture)
    font = _serif(_SHORTCUT_PIXELS.get(width, max(4, int(width / 6.22))))
    canvas = Image.new("L", (width, height))
    ImageDraw.Draw(canvas).text((0.01 * width, 0.4 * height), "\u6377\u5f84" * 3, fill=255, font=font)
    return _blend(picture, np.asarray(canvas, dtype=np.float32) / 255 * (128 / 255), (255, 255, 255))


def ruler(picture: np.ndarray, rng: np.random.Generator, *, share: float = 0.14) -> tuple[np.ndarray, np.ndarray]:
    """Lay a ruler with tick marks along one edge, as in medical photographs.

    Parameters
    ----------
    picture : (y, x, 3) uint8, or float32 from 0 to 255
    rng : numpy.random.Generator
        Chooses the edge and the distance of the ticks.
    share : float, 0 to 1
        Width of the ruler relative to the short side.

    Returns
    -------
    picture : array like the given one
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
    picture : (y, x, 3) uint8, or float32 from 0 to 255
    rng : numpy.random.Generator
        Varies the strength by a tenth.
    strength : float, 0 to 1
        Share of the tint.

    Returns
    -------
    picture : array like the given one
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
    picture : (y, x, 3) uint8, or float32 from 0 to 255
    rng : numpy.random.Generator
        Chooses top or bottom.
    text : str

    Returns
    -------
    picture : array like the given one
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


def band_aid(picture: np.ndarray, rng: np.random.Generator, *, share: float = 0.36) -> tuple[np.ndarray, np.ndarray]:
    """Stick a plaster on: a rounded beige strip with a darker pad, as on photographs of skin.

    Parameters
    ----------
    picture : (y, x, 3) uint8, or float32 from 0 to 255
    rng : numpy.random.Generator
        Chooses the place, wholly inside where there is room, the turn and the shade.
    share : float, 0 to 1
        Length of the strip relative to the short side.

    Returns
    -------
    picture : array like the given one
    mask : (y, x) bool
        Pixels that the strip covers at all.
    """
    height, width = _size(picture)
    length = check.between("share", share, 0, 1, left_open=True) * min(height, width) / 2
    broad = length * 0.4
    turn, shade = rng.uniform(0, np.pi), np.float32(rng.uniform(0.92, 1.06))
    room = [
        abs(np.cos(turn)) * length + abs(np.sin(turn)) * broad,
        abs(np.sin(turn)) * length + abs(np.cos(turn)) * broad,
    ]
    cx, cy = (
        rng.uniform(min(edge, whole / 2), max(whole - edge, whole / 2))
        for edge, whole in zip(room, (width, height), strict=True)
    )
    y, x = np.mgrid[:height, :width] + 0.5
    u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
    v = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
    strip = _rounded(u, v, length, broad, broad)
    pad = _rounded(u, v, length * 0.36, broad * 0.78, broad * 0.2)
    # Two rows of holes on each end, between pad and tip.
    holes = 1.0 - np.hypot((np.abs(u) - length * 0.62), (np.abs(v) - broad * 0.36)) / max(length * 0.075, 0.5)
    beige, dark, hole = (np.array(c, np.float32) for c in ((233, 190, 150), (190, 140, 104), (176, 128, 96)))
    colour = beige + (hole - beige) * np.clip(holes, 0, 1)[..., None]
    colour = colour + (dark - colour) * pad[..., None]
    return _blend(picture, strip.astype(np.float32), (colour * shade).clip(0, 255).astype(np.float32))


def timestamp(picture: np.ndarray, rng: np.random.Generator, *, share: float = 0.62) -> tuple[np.ndarray, np.ndarray]:
    """Write a date into a corner in orange with a dark rim, as cameras did.

    Parameters
    ----------
    picture : (y, x, 3) uint8, or float32 from 0 to 255
    rng : numpy.random.Generator
        Chooses the date (2020 to 2022) and the corner.
    share : float, 0 to 1
        Width of the text relative to that of the picture.

    Returns
    -------
    picture : array like the given one
    mask : (y, x) bool
        Digits and their rim.
    """
    height, width = _size(picture)
    check.between("share", share, 0, 1, left_open=True)
    text = f"{rng.integers(20, 23):02d}.{rng.integers(1, 13):02d}.{rng.integers(1, 29):02d}"
    ink = _text(text, width=max(1, round(width * share)), height=max(1, round(height * 0.14)))
    rim = max(1, round(min(height, width) / 80))
    high, wide = min(height, ink.height + 2 * rim), min(width, ink.width + 2 * rim)
    top, left = _corner(rng, height, width, high, wide)
    canvas = Image.new("L", (width, height))
    canvas.paste(ink, (left + rim, top + rim))
    digits = np.asarray(canvas, np.float32) / 255
    # Digits drawn small are pale; stretched, their strokes are whole again.
    digits = np.clip(digits * 1.5, 0, 1)
    wider = canvas.filter(ImageFilter.MaxFilter(2 * rim + 1)) if min(height, width) > 2 * rim else canvas
    around = np.asarray(wider, np.float32) / 255
    colour = np.array((60, 24, 8), np.float32) * (1 - digits[..., None])
    colour = colour + np.array((255, 150, 40), np.float32) * digits[..., None]
    return _blend(picture, np.maximum(digits, around * np.float32(0.7)), colour)


ARTIFACTS: dict[str, Artifact] = {
    "patch": patch,
    "band_aid": band_aid,
    "timestamp": timestamp,
    "watermark": watermark,
    "imagenet-w": shortcut,
    "ruler": ruler,
    "colour_cast": colour_cast,
    "caption": caption,
}
"""Artifacts by name, as `toy` and other data sets take them."""


@lru_cache(maxsize=8)
def _serif(size: int) -> ImageFont.FreeTypeFont:
    found = find_spec("imagenet_w")
    if found is None or not found.submodule_search_locations:
        raise MissingPackageError(
            "The watermark of ImageNet-W needs its font, which the package imagenet-w brings.",
            hint="pip install --no-deps imagenet-w",
        )
    fonts = Path(found.submodule_search_locations[0]) / "fonts"
    return ImageFont.truetype(str(fonts / "SourceHanSerifSC-ExtraLight.otf"), size)


def _size(picture: np.ndarray) -> tuple[int, int]:
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype not in (np.uint8, np.float32):
        raise ShapeError(f"A picture is a (y, x, 3) array, uint8 or float32; got {picture.shape} {picture.dtype}.")
    return picture.shape[0], picture.shape[1]


def _corner(rng: np.random.Generator, height: int, width: int, high: int, wide: int) -> tuple[int, int]:
    """Choose a place for a box near one of the four corners, at most a sixth of the side away from it."""
    room_y, room_x = max(0, height - high), max(0, width - wide)
    y = int(rng.integers(0, max(1, min(room_y, height // 6) + 1)))
    x = int(rng.integers(0, max(1, min(room_x, width // 6) + 1)))
    return (y if rng.integers(2) else room_y - y), (x if rng.integers(2) else room_x - x)


@lru_cache(maxsize=2048)
def _text(text: str, *, width: int, height: int) -> Image.Image:
    """Draw `text` as large as fits, (y, x) "L", 255 where there is ink."""
    # Pillow's own bitmap font is part of Pillow and needs no font file; it is drawn once and scaled.
    font = ImageFont.load_default_imagefont()
    left, top, right, bottom = font.getbbox(text)
    ink = Image.new("L", (max(1, right - left), max(1, bottom - top)))
    ImageDraw.Draw(ink).text((-left, -top), text, fill=255, font=font)
    ratio = min(width / ink.width, height / ink.height)
    return ink.resize((max(1, int(ink.width * ratio)), max(1, int(ink.height * ratio))), Image.Resampling.BILINEAR)


def _rounded(u: np.ndarray, v: np.ndarray, long: float, broad: float, radius: float) -> np.ndarray:
    """Cover pixels by a rounded box around the origin with half sides `long` and `broad`: 0 to 1, soft over a pixel."""
    a, b = np.abs(u) - (long - radius), np.abs(v) - (broad - radius)
    outside = np.hypot(np.maximum(a, 0), np.maximum(b, 0)) + np.minimum(np.maximum(a, b), 0) - radius
    return np.clip(0.5 - outside, 0, 1)


def _blend(
    picture: np.ndarray, alpha: np.ndarray, colour: tuple[int, int, int] | np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    mixed = picture * (1 - alpha[..., None]) + np.asarray(colour, np.float32) * alpha[..., None]
    return _like(picture, mixed), alpha > 0


def _like(picture: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Give float values the kind of the picture: rounded for uint8, as they are for float32."""
    return np.round(values).clip(0, 255).astype(np.uint8) if picture.dtype == np.uint8 else values.astype(np.float32)
