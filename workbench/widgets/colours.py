"""The colours of the scripts (``src/common/colour.js``), for stills."""

from __future__ import annotations

import numpy as np

__all__ = ["CATEGORIES", "OTHER", "ramp"]

OTHER = (138, 138, 138)


def _parsed(colours: str) -> list[tuple[int, ...]]:
    return [tuple(int(colour[i : i + 2], 16) for i in (0, 2, 4)) for colour in colours.split()]


CATEGORIES = _parsed("0072b2 e69f00 009e73 cc79a7 56b4e9 d55e00 f0e442 332288")
"""Eight colours that stay apart with the common colour deficits."""

_RAMPS = {
    "cividis": "00224e 123570 3b496c 575d6d 707173 8a8678 a59c74 c3b369 e1cc55 fee838",
    "viridis": "440154 482878 3e4989 31688e 26828e 1f9e89 35b779 6ece58 b5de2b fde725",
    "greys": "1d232b 333b45 4a535f 626c79 7b8693 95a0ac afb9c4 c9d1d9 e1e6eb f6f8fa",
    "two-sided": "08306b 2171b5 9ecae1 f7f7f7 fdae6b d94801 7f2704",
}
_TWO_AT = (0, 0.2, 0.4, 0.5, 0.6, 0.8, 1)


def ramp(name: str, n: int = 256) -> list[tuple[int, int, int]]:
    """`n` colours from the low to the high end."""
    stops = np.array(_parsed(_RAMPS[name]))
    at = _TWO_AT if name == "two-sided" else np.linspace(0, 1, len(stops))
    where = np.linspace(0, 1, n)
    return list(zip(*(np.rint(np.interp(where, at, stops[:, c])).astype(int).tolist() for c in range(3)), strict=True))
