"""Opening picture files of every kind as RGB, and reading masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image, ImageColor, ImageOps

from workbench.core.errors import BadValueError, DataError

__all__ = ["SUFFIXES", "as_colour", "open_rgb", "read_mask", "to_rgb"]

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pnm", ".jfif")
"""File endings that are taken for pictures, in lower case."""

_ORIENTATION = 0x0112
_WITH_ALPHA = {"RGBA": "RGBA", "LA": "RGBA", "PA": "RGBA", "RGBa": "RGBA", "La": "LA"}


def open_rgb(
    source: str | Path | BinaryIO,
    *,
    least: tuple[int, int] | None = None,
    background: tuple[int, int, int] = (255, 255, 255),
) -> Image.Image:
    """Open one picture as RGB, the right way up.

    Parameters
    ----------
    source : path or open binary file
    least : (width, height), optional
        A JPEG of at least twice this size is decoded at a half, a quarter or an eighth, which is several times faster;
        never below `least`. Not given: at full size.
    background : (red, green, blue)
        What shows through transparent pixels.

    Raises
    ------
    OSError, ValueError, SyntaxError
        As Pillow does, if the file is no picture or is truncated.
    """
    with Image.open(source) as image:
        if least is not None and image.format == "JPEG":
            swapped = image.getexif().get(_ORIENTATION, 1) >= 5  # turned by a quarter: the file lies on its side
            image.draft(image.mode, least[::-1] if swapped else least)
        image.load()
        is_turned = image.getexif().get(_ORIENTATION, 1) != 1
        return to_rgb(ImageOps.exif_transpose(image) if is_turned else image, background=background)


def to_rgb(image: Image.Image, *, background: tuple[int, int, int] = (255, 255, 255)) -> Image.Image:
    """Convert a picture of any mode to RGB.

    Grey is repeated; transparency is laid over `background`; 16-bit grey is scaled, not clipped; CMYK and others are
    converted by Pillow, without colour profiles.
    """
    mode = image.mode
    if mode == "RGB" and "transparency" not in image.info:
        return image
    if mode in _WITH_ALPHA or "transparency" in image.info:
        image = image.convert(_WITH_ALPHA.get(mode, "RGBA")).convert("RGBA")
        canvas = Image.new("RGBA", image.size, (*background, 255))
        return Image.alpha_composite(canvas, image).convert("RGB")
    if mode.startswith("I") or mode == "F":
        return Image.fromarray(_to_bytes(np.asarray(image), mode)).convert("RGB")
    return image.convert("RGB")


def as_colour(value: Any) -> tuple[int, int, int]:
    """Read a colour: a name or ``#rrggbb``, or three numbers 0 to 255."""
    try:
        if isinstance(value, str):
            return ImageColor.getrgb(value)[:3]
        red, green, blue = (int(v) for v in value)
    except (TypeError, ValueError) as error:
        raise BadValueError(f"A colour is a name, '#rrggbb' or three numbers; got {value!r}.") from error
    if not all(0 <= v <= 255 for v in (red, green, blue)):
        raise BadValueError(f"The numbers of a colour lie between 0 and 255; got {value!r}.")
    return red, green, blue


def read_mask(source: str | Path | BinaryIO, size: tuple[int, int]) -> np.ndarray:
    """Read a mask picture as a (y, x) bool array of `size` (width, height).

    Masks of two values (0 and 1, or 0 and 255) and soft ones are split at half of their largest value; in palette
    pictures everything but the first colour counts; of masks with transparency the opaque part.

    Raises
    ------
    DataError
        If the mask has other proportions than its picture.
    """
    with Image.open(source) as image:
        image.load()
        if image.mode in ("RGBA", "LA", "PA"):
            values = np.asarray(image.convert("RGBA").getchannel("A"))
        elif image.mode == "P":
            values = (np.asarray(image) > 0).astype(np.uint8)
        elif image.mode.startswith("I") or image.mode in ("F", "1"):
            values = np.asarray(image).astype(np.float64)
        else:
            values = np.asarray(image.convert("L"))
    mask = (values > 0) & (values * 2.0 >= values.max(initial=0))
    if mask.shape == size[::-1]:
        return mask
    height, width = mask.shape
    if abs(width * size[1] - height * size[0]) > max(width, size[0]) + max(height, size[1]):
        raise DataError(f"a mask of {width} x {height} pixels does not fit a picture of {size[0]} x {size[1]}.")
    scaled = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.NEAREST)
    return np.asarray(scaled) > 127


def _to_bytes(values: np.ndarray, mode: str) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ValueError("it holds NaN or infinite values")
    low, high = float(values.min()), float(values.max())
    if mode == "F" and 0 <= low and high <= 1:
        top = 1.0
    elif 0 <= low and high <= 255 and mode in ("I", "F"):
        top = 255.0
    elif 0 <= low and high <= 65535:
        top = 65535.0
    else:
        raise ValueError(f"its values reach from {low:g} to {high:g}, and nothing says what is black and white")
    return np.round(values.astype(np.float64) * (255 / top)).astype(np.uint8)
