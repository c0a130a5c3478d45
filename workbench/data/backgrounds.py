"""Painted backgrounds: plain, a gradient, soft noise, waves. Muted, so that what lies on them stands out."""

from __future__ import annotations

import numpy as np
from PIL import Image

__all__ = ["BACKGROUNDS", "background"]

BACKGROUNDS = ("plain", "gradient", "noise", "waves")


def background(kind: int, rng: np.random.Generator, *, height: int, width: int) -> np.ndarray:
    """Paint one background.

    Parameters
    ----------
    kind : int
        Position in `BACKGROUNDS`.
    rng : numpy.random.Generator
        Draws two colours, a direction and a phase.
    height, width : int

    Returns
    -------
    (y, x, 3) float32 array, 0 to 255
    """
    first, second = rng.uniform(90, 190, 3).astype(np.float32), rng.uniform(90, 190, 3).astype(np.float32)
    angle, phase = rng.uniform(0, 2 * np.pi, 2)
    if kind == 0:
        return np.broadcast_to(first, (height, width, 3)).copy()
    if kind == 2:
        coarse = Image.fromarray(rng.random((9, 9)).astype(np.float32))
        mix = np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))
    else:
        y, x = (np.mgrid[:height, :width] + 0.5).astype(np.float32)
        if kind == 1:
            along = (x - width / 2) * np.cos(angle) + (y - height / 2) * np.sin(angle)
            mix = along / (1.5 * max(width, height)) + 0.5
        else:
            along = x * np.cos(angle) + y * np.sin(angle)
            mix = 0.5 + 0.5 * np.sin(along * (4 * np.pi / max(width, height)) + phase)
    return first + (second - first) * np.clip(mix, 0, 1)[..., None].astype(np.float32)
