"""Cutting the part out of a reference picture that a component answers to.

Two ways: around the peak of the activation (no model needed), and by the component's conditional heatmap, smoothed and
thresholded as in Achtibat et al. 2023 (CRP), with the numbers of their reference code: Gaussian of 19 pixels, crop
where the map exceeds 0.1 of its maximum, mask where it is below 0.2. Boxes are squared, as later papers do.
"""

from __future__ import annotations

import functools

import numpy as np
from PIL import Image

from workbench.core import check

__all__ = ["box_of", "crop", "masked", "peak_box", "resized", "smooth"]

Box = tuple[int, int, int, int]

_MASK_BLEND = 0.7


def smooth(heat: np.ndarray, *, kernel: int = 19) -> np.ndarray:
    """Blur a map and scale it to a largest absolute value of 1; a map of zeros stays as it is.

    Parameters
    ----------
    heat : (y, x) float array
    kernel : int
        Width of the Gaussian in pixels for a picture of 224; others in proportion.
    """
    width = kernel * max(heat.shape) / 224
    sigma = 0.3 * ((width - 1) * 0.5 - 1) + 0.8 if width > 3 else 0.5
    down, across = (_gaussian(n, sigma) for n in heat.shape)
    blurred = down @ heat.astype(np.float32) @ across.T
    largest = np.abs(blurred).max(initial=0.0)
    return blurred / largest if largest > 0 else blurred


@functools.lru_cache(maxsize=16)
def _gaussian(n: int, sigma: float) -> np.ndarray:
    """(n, n) matrix that blurs an axis of length `n`, with the picture mirrored beyond its edges."""
    reach = int(4 * sigma + 0.5)
    offsets = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    matrix = np.zeros((n, n))
    for offset, weight in zip(offsets, weights / weights.sum(), strict=True):
        source = (np.arange(n) + offset) % (2 * n)
        np.add.at(matrix, (np.arange(n), np.where(source < n, source, 2 * n - 1 - source)), weight)
    return matrix.astype(np.float32)


def box_of(heat: np.ndarray, *, threshold: float = 0.1, margin: float = 0.05) -> Box:
    """Square box (top, left, bottom, right; ends exclusive) around what exceeds `threshold` in a smoothed map.

    A map without such a part, for example an all-negative one, gives the whole picture.
    """
    check.between("threshold", threshold, 0, 1, right_open=True)
    height, width = heat.shape
    rows, columns = np.nonzero(heat > threshold)
    if len(rows) == 0:
        return (0, 0, height, width)
    top, bottom, left, right = rows.min(), rows.max() + 1, columns.min(), columns.max() + 1
    side = min(max(bottom - top, right - left) * (1 + 2 * margin), height, width)
    return _square((top + bottom) / 2, (left + right) / 2, side, heat.shape)


def peak_box(peak: int, map_shape: tuple[int, ...], picture: tuple[int, int]) -> Box:
    """Square box around the position of the largest activation.

    The side is 3.2 cells of the map, at least a fifth and at most half of the picture: a guess at what the cell sees,
    since the true receptive field of deep layers covers everything.
    """
    if len(map_shape) != 2 or peak < 0:
        return (0, 0, *picture)
    rows, columns = map_shape
    y, x = divmod(int(peak), columns)
    share = min(0.5, max(0.2, 3.2 / max(rows, columns)))
    return _square((y + 0.5) / rows * picture[0], (x + 0.5) / columns * picture[1], share * min(picture), picture)


def crop(picture: np.ndarray, box: Box, size: int) -> np.ndarray:
    """Cut a box out of a (y, x, 3) uint8 picture and scale it to `size` pixels."""
    top, left, bottom, right = box
    return resized(picture[top:bottom, left:right], size)


def resized(picture: np.ndarray, size: int) -> np.ndarray:
    """Scale a (y, x, 3) uint8 picture to a square of `size` pixels."""
    if picture.shape[:2] == (size, size):
        return picture
    return np.asarray(Image.fromarray(picture).resize((size, size), Image.Resampling.LANCZOS))


def masked(picture: np.ndarray, heat: np.ndarray, *, threshold: float = 0.2) -> np.ndarray:
    """Fade what lies below `threshold` of a smoothed map into grey."""
    keep = (heat > threshold)[..., None]
    faded = picture * (1 - _MASK_BLEND) + 235 * _MASK_BLEND
    return np.where(keep, picture, faded).astype(np.uint8)


def _square(y: float, x: float, side: float, shape: tuple[int, ...]) -> Box:
    side = max(1, min(round(side), *shape[:2]))
    top = int(min(max(0, round(y - side / 2)), shape[0] - side))
    left = int(min(max(0, round(x - side / 2)), shape[1] - side))
    return (top, left, top + side, left + side)
