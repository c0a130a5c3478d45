"""The shapes of the part world: birds of exchangeable parts, and the scenery around them. Plain polygons, no dice.

A bird looks to the right, with x to the right and y down; its body is about one unit long. Each variant of a part is a
list of `Shape`s in painting order, drawn for the same joints, so that any beak fits any body and an exchanged part
leaves all others where they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

__all__ = ["CATALOGUE", "JOINTS", "ORDER", "PARTS", "Shape", "ellipse", "parts_of_class", "shapes", "smooth"]

RGB = tuple[int, int, int]
Points = list[tuple[float, float]]


@dataclass(frozen=True)
class Shape:
    """One polygon of one colour.

    Attributes
    ----------
    colour : (red, green, blue), 0 to 255
    points : (corner, 2) float64 array
        x and y in units of the bird's body.
    """

    colour: RGB
    points: np.ndarray


CATALOGUE: dict[str, tuple[str, ...]] = {
    "beak": ("cone", "needle", "hook", "toucan", "duck"),
    "eye": ("bead", "ring", "sleepy", "ruby"),
    "foot": ("twig", "webbed", "stilt", "fluffy"),
    "tail": ("wedge", "fork", "fan", "ribbon", "band", "plume"),
    "wing": ("scalloped", "pointed", "barred", "spotted", "raised", "stub"),
    "body": ("robin", "tit", "canary", "bullfinch", "parakeet", "magpie"),
}
"""Variants by part. Their order counts: it is part of what a class is."""

PARTS = tuple(CATALOGUE)
ORDER = ("tail", "foot", "body", "eye", "beak", "wing")
"""From back to front."""

JOINTS = {"tail": (-0.42, 0.04), "wing": (0.14, -0.10), "head": (0.34, -0.36)}
"""Around which points the pose turns tail, wing, and beak with eye."""

_INK: RGB = (43, 38, 48)
_WHITE: RGB = (250, 247, 240)
_CREAM: RGB = (247, 230, 196)
_ORANGE: RGB = (240, 142, 48)
_YELLOW: RGB = (248, 202, 70)
_RED: RGB = (212, 72, 58)
_PINK: RGB = (238, 142, 150)
_TEAL: RGB = (48, 146, 148)
_BLUE: RGB = (70, 122, 196)
_NAVY: RGB = (48, 62, 104)
_GREEN: RGB = (98, 168, 84)
_OLIVE: RGB = (146, 142, 72)
_BROWN: RGB = (138, 94, 62)
_GREY: RGB = (140, 144, 158)
_VIOLET: RGB = (128, 98, 168)


def parts_of_class(n_classes: int) -> list[dict[str, str]]:
    """Give each class its own set of parts: tail and body never occur together twice, the rest differs where it can.

    A world with more classes begins with the same ones.
    """
    rng = np.random.default_rng(20)
    free = [part for part in PARTS if part not in ("body", "tail")]
    found: list[dict[str, str]] = []
    for c in range(n_classes):
        fixed = {"body": CATALOGUE["body"][c % 6], "tail": CATALOGUE["tail"][(c + c // 6) % 6]}
        tries = [{p: CATALOGUE[p][int(rng.integers(len(CATALOGUE[p])))] for p in free} | fixed for _ in range(64)]
        tries = [{part: one[part] for part in PARTS} for one in tries]
        found.append(max(tries, key=lambda one: min((_differences(one, other) for other in found), default=0)))
    return found


def _differences(one: dict[str, str], other: dict[str, str]) -> int:
    return sum(one[part] != other[part] for part in PARTS)


@cache
def shapes(part: str, variant: str) -> tuple[Shape, ...]:
    """Give the polygons of one variant, from back to front."""
    return tuple(_DRAWN[part](variant))


def ellipse(x: float, y: float, rx: float, ry: float, turn: float = 0.0, n: int = 28) -> np.ndarray:
    """Give the corners of an ellipse, (corner, 2); `turn` in radians."""
    angle = np.linspace(0, 2 * np.pi, n, endpoint=False)
    u, v = rx * np.cos(angle), ry * np.sin(angle)
    return np.stack([x + u * np.cos(turn) - v * np.sin(turn), y + u * np.sin(turn) + v * np.cos(turn)], 1)


def smooth(points: Points, n: int = 6) -> np.ndarray:
    """Lay a closed soft curve (Catmull and Rom) through points, with `n` corners between two of them."""
    p = np.asarray(points, np.float64)
    t = np.linspace(0, 1, n, endpoint=False)[:, None, None]
    a, b, c, d = np.roll(p, 1, 0), p, np.roll(p, -1, 0), np.roll(p, -2, 0)
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    return curve.transpose(1, 0, 2).reshape(-1, 2)


def _feather(x: float, y: float, length: float, width: float, turn: float) -> np.ndarray:
    """A leaf that starts at a point, is broadest at two thirds and ends round."""
    outline = smooth([(0, 0), (0.35, -0.36), (0.72, -0.5), (1, 0), (0.72, 0.5), (0.35, 0.36)], 5)
    u, v = outline[:, 0] * length, outline[:, 1] * width
    return np.stack([x + u * np.cos(turn) - v * np.sin(turn), y + u * np.sin(turn) + v * np.cos(turn)], 1)


def _darker(colour: RGB, share: float = 0.8) -> RGB:
    red, green, blue = (round(c * share) for c in colour)
    return red, green, blue


def _lighter(colour: RGB, share: float = 0.4) -> RGB:
    red, green, blue = (round(c + (255 - c) * share) for c in colour)
    return red, green, blue


# ---- bodies ------------------------------------------------------------------------------------------------------

_TORSO: Points = [
    (0.30, -0.34), (0.46, -0.06), (0.40, 0.22), (0.14, 0.38), (-0.18, 0.34), (-0.44, 0.14), (-0.50, 0.00),
    (-0.34, -0.12), (-0.06, -0.22),
]  # fmt: skip
_BELLY: Points = [
    (0.42, -0.08),
    (0.385, 0.20),
    (0.13, 0.365),
    (-0.16, 0.325),
    (-0.30, 0.20),
    (0.00, 0.16),
    (0.24, 0.02),
]
_HEAD = (0.34, -0.36, 0.275)


def _body(variant: str) -> list[Shape]:
    x, y, r = _HEAD
    back, belly, head = {
        "robin": (_BROWN, _CREAM, _BROWN),
        "tit": (_TEAL, _YELLOW, _BLUE),
        "canary": (_YELLOW, _lighter(_YELLOW), _YELLOW),
        "bullfinch": (_GREY, _PINK, _NAVY),
        "parakeet": (_GREEN, _lighter(_GREEN, 0.5), _GREEN),
        "magpie": (_INK, _WHITE, _INK),
    }[variant]
    crown: list[Shape] = []
    if variant == "parakeet":  # a crest of three feathers
        crown = [
            Shape(c, _feather(x - 0.02, y - 0.18, 0.34, 0.13, turn))
            for c, turn in ((_darker(_GREEN), -2.75), (_YELLOW, -2.35), (_RED, -1.95))
        ]
    if variant == "canary":  # a tuft
        crown = [Shape(_darker(_YELLOW, 0.88), ellipse(x - 0.02, y - r, 0.15, 0.09, -0.2))]
    found = [*crown, Shape(back, smooth(_TORSO)), Shape(head, ellipse(x, y, r, r))]
    if variant == "robin":  # the red breast reaches up to the face
        found.append(Shape(belly, smooth(_BELLY)))
        red = [(0.60, -0.42), (0.58, -0.22), (0.46, 0.00), (0.36, 0.16), (0.18, 0.14), (0.18, -0.12), (0.30, -0.40)]
        found.append(Shape(_RED, smooth(red)))
        return found
    found.append(Shape(belly, smooth(_BELLY)))
    if variant == "tit":  # a white cheek below a blue cap
        found.append(Shape(_WHITE, ellipse(x + 0.06, y + 0.08, 0.19, 0.14, 0.1)))
    if variant == "canary":
        found.append(Shape((246, 168, 92), ellipse(x + 0.08, y + 0.12, 0.075, 0.055)))
    if variant == "bullfinch":
        found.append(Shape(_PINK, ellipse(x + 0.02, y + 0.13, 0.20, 0.14, -0.2)))
    if variant == "parakeet":
        found.append(Shape(_PINK, ellipse(x + 0.06, y + 0.13, 0.085, 0.06)))
    if variant == "magpie":
        found.append(Shape(_WHITE, smooth([(-0.02, -0.2), (0.16, -0.22), (0.10, 0.00), (-0.20, 0.06), (-0.30, -0.05)])))
    return found


# ---- heads: beaks and eyes ---------------------------------------------------------------------------------------


def _beak(variant: str) -> list[Shape]:
    if variant == "cone":
        upper = smooth([(0.56, -0.44), (0.70, -0.40), (0.82, -0.33), (0.68, -0.32), (0.55, -0.31)])
        lower = smooth([(0.55, -0.33), (0.68, -0.32), (0.77, -0.31), (0.66, -0.25), (0.54, -0.25)])
        return [Shape(_darker(_ORANGE), lower), Shape(_ORANGE, upper)]
    if variant == "needle":
        upper = np.array([(0.57, -0.40), (0.80, -0.36), (1.10, -0.30), (0.80, -0.31), (0.57, -0.29)])
        return [
            Shape(_INK, upper),
            Shape(_GREY, np.array([(0.58, -0.385), (0.82, -0.348), (1.0, -0.318), (0.58, -0.352)])),
        ]
    if variant == "hook":
        upper = smooth([(0.55, -0.50), (0.72, -0.48), (0.82, -0.36), (0.78, -0.18), (0.72, -0.28), (0.55, -0.30)])
        lower = smooth([(0.55, -0.32), (0.66, -0.29), (0.69, -0.22), (0.56, -0.22)])
        tip = smooth([(0.81, -0.34), (0.80, -0.26), (0.775, -0.175), (0.735, -0.26), (0.76, -0.32)])
        return [Shape(_darker(_YELLOW), lower), Shape(_YELLOW, upper), Shape(_INK, tip)]
    if variant == "toucan":
        whole = smooth([(0.54, -0.54), (0.78, -0.56), (1.02, -0.44), (1.08, -0.22), (0.90, -0.24), (0.54, -0.22)])
        band = smooth([(0.54, -0.53), (0.62, -0.54), (0.64, -0.38), (0.62, -0.23), (0.54, -0.22)])
        tip = smooth([(0.95, -0.49), (1.03, -0.43), (1.08, -0.22), (0.97, -0.24), (0.92, -0.36)])
        return [Shape((248, 150, 52), whole), Shape(_RED, band), Shape(_INK, tip)]
    upper = smooth([(0.55, -0.43), (0.66, -0.38), (0.86, -0.38), (0.96, -0.33), (0.86, -0.28), (0.55, -0.28)])
    lower = smooth([(0.55, -0.30), (0.84, -0.285), (0.90, -0.25), (0.74, -0.20), (0.55, -0.23)])
    return [Shape(_darker(_OLIVE), lower), Shape(_lighter(_OLIVE, 0.15), upper)]


def _eye(variant: str) -> list[Shape]:
    x, y = 0.43, -0.44
    glint = Shape(_WHITE, ellipse(x + 0.035, y - 0.04, 0.03, 0.03, n=12))
    if variant == "bead":
        return [Shape(_WHITE, ellipse(x, y, 0.098, 0.098)), Shape(_INK, ellipse(x, y, 0.082, 0.082)), glint]
    if variant == "ring":
        rim, white, pupil = ellipse(x, y, 0.145, 0.145), ellipse(x, y, 0.118, 0.118), ellipse(x + 0.03, y, 0.056, 0.056)
        return [Shape(_ORANGE, rim), Shape(_WHITE, white), Shape(_INK, pupil)]
    if variant == "sleepy":
        lid = np.array(
            [(x - 0.125, y + 0.01), *[(px, py) for px, py in ellipse(x, y, 0.125, 0.125) if py <= y], (x, y)]
        )
        lid = lid[np.argsort(np.arctan2(lid[:, 1] - y - 0.03, lid[:, 0] - x))]
        white, pupil = ellipse(x, y, 0.12, 0.12), ellipse(x + 0.03, y + 0.03, 0.06, 0.06)
        return [Shape(_WHITE, white), Shape(_INK, pupil), Shape(_VIOLET, lid)]
    iris, pupil = ellipse(x, y, 0.105, 0.105), ellipse(x, y, 0.05, 0.05)
    return [Shape(_INK, ellipse(x, y, 0.128, 0.128)), Shape((232, 58, 50), iris), Shape(_INK, pupil), glint]


# ---- what carries and steers: feet, tails, wings -----------------------------------------------------------------


def _leg(x: float, top: float, bottom: float, wide: float) -> np.ndarray:
    return np.array([(x - wide, top), (x + wide, top), (x + wide, bottom), (x - wide, bottom)])


def _foot(variant: str) -> list[Shape]:
    found: list[Shape] = []
    for x, shade in ((-0.08, 0.78), (0.12, 1.0)):  # the far one is darker
        if variant == "twig":
            colour = _darker(_ORANGE, shade)
            found.append(Shape(colour, _leg(x, 0.26, 0.54, 0.026)))
            found += [Shape(colour, _feather(x, 0.53, 0.17, 0.05, turn)) for turn in (0.1, 0.75, 3.0)]
        elif variant == "webbed":
            colour = _darker((236, 110, 60), shade)
            web = smooth([(x - 0.05, 0.47), (x + 0.05, 0.47), (x + 0.21, 0.57), (x + 0.02, 0.60), (x - 0.09, 0.57)])
            found += [Shape(colour, _leg(x, 0.26, 0.52, 0.036)), Shape(colour, web)]
        elif variant == "stilt":
            colour = _darker((176, 52, 74), shade)
            found.append(Shape(colour, _leg(x, 0.26, 0.70, 0.03)))
            found.append(Shape(colour, ellipse(x, 0.49, 0.05, 0.045, n=14)))
            found += [Shape(colour, _feather(x, 0.69, 0.16, 0.06, turn)) for turn in (0.05, 3.1)]
        else:
            boot = smooth([(x - 0.10, 0.24), (x + 0.10, 0.24), (x + 0.12, 0.44), (x, 0.50), (x - 0.12, 0.44)])
            found += [Shape(_darker(_INK, shade), _feather(x - 0.03, 0.48, 0.15, 0.08, turn)) for turn in (0.25, 0.9)]
            found.append(Shape(_darker(_WHITE, 0.82 + 0.18 * (shade == 1.0)), boot))
    return found


def _tail(variant: str) -> list[Shape]:
    x, y = JOINTS["tail"]
    if variant == "wedge":
        wedge = np.array(
            [
                (x + 0.14, y - 0.12),
                (x - 0.36, y - 0.14),
                (x - 0.50, y + 0.02),
                (x - 0.36, y + 0.12),
                (x + 0.1, y + 0.14),
            ]
        )
        stripe = np.array([(x + 0.1, y - 0.02), (x - 0.44, y - 0.03), (x - 0.44, y + 0.05), (x + 0.1, y + 0.05)])
        return [Shape(_NAVY, wedge), Shape(_BLUE, stripe)]
    if variant == "fork":
        upper = smooth(
            [
                (x + 0.12, y - 0.10),
                (x - 0.30, y - 0.18),
                (x - 0.66, y - 0.36),
                (x - 0.36, y - 0.04),
                (x + 0.08, y + 0.08),
            ]
        )
        lower = smooth(
            [
                (x + 0.12, y - 0.06),
                (x - 0.30, y + 0.06),
                (x - 0.62, y + 0.26),
                (x - 0.28, y + 0.20),
                (x + 0.08, y + 0.12),
            ]
        )
        return [Shape(_darker(_INK, 0.9), lower), Shape(_darker(_RED, 0.86), upper)]
    if variant == "fan":
        turns = np.linspace(np.pi - 0.75, np.pi + 0.95, 7)
        colours = [_TEAL, _lighter(_TEAL), _TEAL, _lighter(_TEAL), _TEAL, _lighter(_TEAL), _TEAL]
        found = [Shape(c, _feather(x + 0.1, y, 0.66, 0.2, t)) for c, t in zip(colours, turns, strict=True)]
        tips = [(x + 0.1 + 0.56 * np.cos(t), y + 0.56 * np.sin(t)) for t in turns]
        return found + [Shape(_YELLOW, ellipse(a, b, 0.048, 0.048, n=12)) for a, b in tips]
    if variant == "ribbon":
        long = smooth(
            [
                (x + 0.1, y - 0.07),
                (x - 0.30, y - 0.02),
                (x - 0.66, y + 0.16),
                (x - 0.80, y + 0.34),
                (x - 0.58, y + 0.24),
                (x - 0.25, y + 0.09),
                (x + 0.1, y + 0.08),
            ]
        )
        return [Shape(_VIOLET, long), Shape(_PINK, ellipse(x - 0.72, y + 0.25, 0.11, 0.08, 0.8))]
    if variant == "band":
        found = [Shape(_BROWN, _feather(x + 0.14, y, 0.72, 0.34, np.pi + 0.06))]
        for at, half in ((0.24, 0.115), (0.40, 0.15), (0.555, 0.13)):
            found.append(Shape(_CREAM, _leg(x + 0.14 - at, y - half + at * -0.06, y + half + at * -0.06, 0.038)))
        return found
    curls = [(0.62, 0.15, 2.75, _GREEN), (0.60, 0.15, 3.35, _OLIVE), (0.64, 0.16, 3.9, _YELLOW)]
    found = [Shape(c, _feather(x + 0.12, y, length, width, t)) for length, width, t, c in curls]
    return found + [Shape(_RED, ellipse(x + 0.12 + 0.6 * np.cos(3.9), y + 0.6 * np.sin(3.9), 0.085, 0.085, n=16))]


_FOLDED: Points = [
    (0.22, -0.14), (0.20, 0.06), (0.02, 0.20), (-0.24, 0.22), (-0.52, 0.12), (-0.32, 0.00), (-0.10, -0.14),
    (0.10, -0.22),
]  # fmt: skip


def _wing(variant: str) -> list[Shape]:
    if variant == "scalloped":
        found = [Shape(_NAVY, smooth(_FOLDED))]
        rows = (
            (-0.34, 0.10, 0.09),
            (-0.20, 0.135, 0.10),
            (-0.04, 0.12, 0.10),
            (-0.16, 0.02, 0.09),
            (0.0, 0.0, 0.09),
            (0.10, -0.08, 0.08),
        )
        for n, (x, y, r) in enumerate(rows):
            found.append(Shape(_lighter(_BLUE, 0.12 + 0.12 * (n % 3)), ellipse(x, y, r, r * 0.72, 0.1, n=18)))
        return found
    if variant == "pointed":
        blade = smooth([(0.24, -0.16), (0.16, 0.08), (-0.14, 0.17), (-0.86, 0.22), (-0.30, -0.04), (0.06, -0.22)])
        upper = smooth([(0.20, -0.16), (0.12, -0.02), (-0.14, 0.03), (-0.42, 0.03), (-0.16, -0.09), (0.06, -0.20)])
        return [Shape(_INK, blade), Shape(_GREY, upper)]
    if variant == "barred":
        found = [Shape(_darker(_RED, 0.72), smooth(_FOLDED))]
        for x, half in ((-0.30, 0.075), (-0.14, 0.12), (0.02, 0.13)):
            bar = np.array(
                [(x - 0.035, 0.05 - half), (x + 0.045, 0.05 - half), (x + 0.005, 0.06 + half), (x - 0.075, 0.06 + half)]
            )
            found.append(Shape(_WHITE, bar))
        return found
    if variant == "spotted":
        found = [Shape(_OLIVE, smooth(_FOLDED))]
        spots = (
            (-0.36, 0.11),
            (-0.20, 0.14),
            (-0.03, 0.11),
            (-0.16, 0.00),
            (0.02, -0.03),
            (0.11, -0.11),
            (-0.27, 0.045),
            (0.11, 0.04),
        )
        return found + [Shape(_CREAM, ellipse(x, y, 0.047, 0.047, n=12)) for x, y in spots]
    if variant == "raised":
        turns = (-2.75, -2.5, -2.25, -2.0, -1.75)
        tips = [
            Shape(_darker(_ORANGE, 0.62 + 0.09 * n), _feather(0.16, -0.02, 0.78, 0.2, t)) for n, t in enumerate(turns)
        ]
        shoulder = smooth([(0.26, -0.06), (0.14, 0.12), (-0.10, 0.06), (-0.24, -0.16), (-0.06, -0.36), (0.16, -0.32)])
        return [*tips, Shape(_YELLOW, shoulder)]
    stub = smooth(
        [(0.20, -0.12), (0.18, 0.08), (0.02, 0.17), (-0.17, 0.13), (-0.24, 0.02), (-0.10, -0.13), (0.08, -0.19)]
    )
    heart = smooth([(0.12, -0.07), (0.11, 0.05), (0.00, 0.10), (-0.12, 0.07), (-0.14, 0.0), (-0.06, -0.07)])
    return [Shape(_VIOLET, stub), Shape(_lighter(_VIOLET, 0.45), heart)]


_DRAWN: dict[str, Callable[[str], list[Shape]]] = {
    "body": _body, "beak": _beak, "eye": _eye, "foot": _foot, "tail": _tail, "wing": _wing,
}  # fmt: skip
