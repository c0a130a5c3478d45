"""Painting one scene of the part world: sky, hills, things that lie about, and a bird in some pose and light.

Everything is drawn into one plane of numbers at several times the size, each number a colour. Adding up blocks of that
plane gives soft edges, and tells exactly which pixels a part covers. A part that is left out or exchanged changes no
other pixel, since pose, light and scenery never ask which parts there are.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

import numpy as np
from PIL import Image, ImageDraw

from workbench.data.birds import JOINTS, ORDER, PARTS, RGB, ellipse, shapes, smooth

__all__ = ["oversampling", "paint"]

# A box that holds any bird in its own units: left, top, right, bottom. It knows no parts, so that none moves the rest.
_BOX = np.array([(-1.0, -0.80), (1.0, -0.80), (1.0, 0.74), (-1.0, 0.74)])
_SKIES: tuple[tuple[RGB, RGB, RGB], ...] = (  # above, below, hills
    ((142, 196, 226), (222, 236, 232), (150, 190, 148)),  # noon
    ((244, 190, 150), (250, 226, 186), (176, 148, 140)),  # evening
    ((190, 206, 196), (232, 234, 220), (148, 172, 156)),  # mist
    ((166, 160, 206), (238, 206, 210), (134, 132, 168)),  # dusk
    ((150, 208, 190), (226, 240, 206), (124, 170, 128)),  # spring
    ((232, 214, 168), (246, 238, 214), (190, 176, 124)),  # dry grass
)
_COLOURS: tuple[RGB, ...] = (
    (222, 96, 84), (244, 178, 70), (250, 244, 232), (120, 172, 96), (92, 148, 172), (168, 120, 176), (176, 132, 92),
)  # fmt: skip
_THINGS = ("leaf", "flower", "stone", "berries", "mushroom", "cloud")
_MOST_THINGS = 9


def oversampling(size: int) -> int:
    """Tell how many times finer than its pixels a picture is drawn: small ones need it most."""
    return 4 if size <= 96 else 3 if size <= 192 else 2


def paint(
    rng: np.random.Generator, parts: Mapping[str, str], *, size: int, things: int
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Paint one scene.

    Parameters
    ----------
    rng : numpy.random.Generator
        Draws pose, light and scenery; always as much, whichever parts there are.
    parts : mapping of part to variant
        What is absent is not drawn.
    size : int
        Side in pixels.
    things : int
        At most so many objects lie about.

    Returns
    -------
    picture : (y, x, 3) float32, 0 to 255
        Not rounded.
    masks : dict of str to (y, x) bool array
        Per part the pixels in which any of it can be seen, so neighbours overlap at their edges by one pixel; and
        "bird", all of them together. A part that is absent or hidden has an empty mask.
    """
    fine = oversampling(size)
    canvas = _Canvas(size * fine)
    pose, light = _Pose(rng, canvas.side), rng.uniform(0, 1, 6)
    sky = _sky(rng, canvas, size)
    _scatter(rng, canvas, things)
    _perch(rng, canvas, pose)
    canvas.begin_bird()
    for part in ORDER:
        if part in parts:
            canvas.part = 1 + PARTS.index(part)
            for colour, points in pose.placed(part, parts[part]):
                canvas.polygon(colour, points)
    colours, covered, bird, labels = canvas.reduced(fine)
    picture = colours + sky * (1 - covered)[..., None]
    picture *= _light(light, pose, bird, size, fine)
    masks = {part: labels[..., 1 + n] for n, part in enumerate(PARTS)}
    masks["bird"] = np.logical_or.reduce(labels[..., 1:], axis=-1)
    return np.clip(picture, 0, 255), masks


class _Canvas:
    """A plane of numbers; each polygon gets the next one, with its colour and the part that it belongs to."""

    def __init__(self, side: int):
        self.side, self.part, self.is_bird = side, 0, 0
        self._plane = Image.new("L", (side, side))
        self._draw = ImageDraw.Draw(self._plane)
        self._colours: list[int] = [0]
        self._parts: list[int] = [0]
        self._numbers: dict[tuple[RGB, int, int], int] = {}

    def begin_bird(self) -> None:
        self.is_bird = 1

    def polygon(self, colour: RGB, points: np.ndarray) -> None:
        """Draw a polygon; (corner, 2) in fine pixels."""
        key = (colour, self.part, self.is_bird)
        number = self._numbers.get(key)
        if number is None:
            red, green, blue = colour
            # Four sums in one: 16 bits each for red, green, blue, and for what is covered and what is bird.
            self._colours.append(red | green << 16 | blue << 32 | (1 | self.is_bird << 8) << 48)
            self._parts.append(self.part)
            number = self._numbers[key] = len(self._colours) - 1
            assert number < 256, "a scene has fewer colours than a byte can number"
        self._draw.polygon(points.ravel().tolist(), fill=number)

    def reduced(self, fine: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """Give mean colours (y, x, 3), covered and bird shares (y, x), and which parts show (y, x, part) bool."""
        plane = np.asarray(self._plane)
        size = self.side // fine
        sums = _blocks(np.array(self._colours, "<u8").take(plane), fine, np.add)
        lanes = np.ascontiguousarray(sums).view("<u2").reshape(size, size, 4)
        per_pixel = np.float32(1 / fine**2)
        # One bit per part; the scenery's is bit 0.
        bits = _blocks((1 << np.array(self._parts)).astype(np.uint8).take(plane), fine, np.bitwise_or)
        labels = (bits[..., None] >> np.arange(1 + len(PARTS), dtype=np.uint8)) & 1
        covered, bird = (lanes[..., 3] & 255).astype(np.float32), (lanes[..., 3] >> 8).astype(np.float32)
        return lanes[..., :3] * per_pixel, covered * per_pixel, bird * per_pixel, labels.astype(bool)


def _blocks(plane: np.ndarray, fine: int, join: np.ufunc) -> np.ndarray:
    """Join each block of `fine` times `fine` values."""
    rows = plane[::fine]
    for k in range(1, fine):
        rows = join(rows, plane[k::fine])
    found = rows[:, ::fine]
    for k in range(1, fine):
        found = join(found, rows[:, k::fine])
    return found


class _Pose:
    """Where a bird sits, how large it is, which way it looks, and how it holds head, wing and tail."""

    def __init__(self, rng: np.random.Generator, side: int):
        draw = rng.uniform(0, 1, 9)
        self.scale = side * (0.31 + 0.13 * draw[0])
        tilt = (draw[1] - 0.5) * 0.7
        mirror = -1.0 if draw[2] < 0.5 else 1.0
        narrow = 0.86 + 0.14 * draw[3]  # turned a little towards the viewer
        turn = np.array([(np.cos(tilt), -np.sin(tilt)), (np.sin(tilt), np.cos(tilt))])
        self.matrix = self.scale * (np.diag((mirror * narrow, 1.0)) @ turn)
        box = _BOX @ self.matrix.T
        room = side - (box.max(0) - box.min(0))
        self.offset = room * draw[4:6] - box.min(0)
        self.turns = {"head": (draw[6] - 0.5) * 0.5, "wing": (draw[7] - 0.5) * 0.4, "tail": (draw[8] - 0.5) * 0.6}

    def place(self, points: np.ndarray, joint: str | None = None) -> np.ndarray:
        """Bring points from the bird's units to the canvas."""
        matrix, offset = self.matrix, self.offset
        if joint is not None:
            c, s = np.cos(self.turns[joint]), np.sin(self.turns[joint])
            turn, at = np.array([(c, -s), (s, c)]), np.array(JOINTS[joint])
            matrix, offset = matrix @ turn, offset + matrix @ (at - turn @ at)
        return points @ matrix.T + offset

    def placed(self, part: str, variant: str) -> list[tuple[RGB, np.ndarray]]:
        """Give colours and placed corners of one part."""
        colours, points, ends = _joined(part, variant)
        joint = {"beak": "head", "eye": "head", "wing": "wing", "tail": "tail"}.get(part)
        return list(zip(colours, np.split(self.place(points, joint), ends), strict=True))


@cache
def _joined(part: str, variant: str) -> tuple[list[RGB], np.ndarray, np.ndarray]:
    found = shapes(part, variant)
    return (
        [s.colour for s in found],
        np.concatenate([s.points for s in found]),
        np.cumsum([len(s.points) for s in found])[:-1],
    )


# ---- scenery -----------------------------------------------------------------------------------------------------


def _sky(rng: np.random.Generator, canvas: _Canvas, size: int) -> np.ndarray:
    """Draw the hills, and give the sky behind them, (y, x, 3)."""
    above, below, hills = (np.array(c, np.float32) for c in _SKIES[int(rng.integers(len(_SKIES)))])
    shift = rng.uniform(-14, 14, 3).astype(np.float32)
    horizon, waves, phases = rng.uniform(0.5, 0.85, 2), rng.uniform(1.0, 2.6, 2), rng.uniform(0, 2 * np.pi, 2)
    along = np.linspace(0, 1, 25)
    for n in range(2):
        top = np.max(horizon) if n else np.min(horizon)
        ridge = canvas.side * (top + 0.05 * np.sin(2 * np.pi * waves[n] * along + phases[n]))
        points = np.stack([along * canvas.side, ridge], 1)
        corners = np.array([(canvas.side, canvas.side), (0, canvas.side)])
        # The far hill takes half of the sky's colour.
        canvas.polygon(_rgb((hills + shift) if n else (hills + below) / 2 + shift), np.concatenate([points, corners]))
    down = np.linspace(0, 1, size, dtype=np.float32)[:, None, None]
    return np.broadcast_to(above + shift + (below - above) * down, (size, size, 3))


def _scatter(rng: np.random.Generator, canvas: _Canvas, most: int) -> None:
    number = int(rng.integers(most + 1))
    draw = rng.uniform(0, 1, (max(most, 1), 8))
    for one in draw[:number]:
        kind = _THINGS[int(one[0] * len(_THINGS))]
        unit = canvas.side * (0.05 + 0.06 * one[1])
        at = canvas.side * one[2:4]
        turn = 2 * np.pi * one[4] if kind in ("leaf", "flower", "berries") else (one[4] - 0.5) * 0.6
        colour = _COLOURS[int(one[5] * len(_COLOURS))]
        matrix = unit * np.array([(np.cos(turn), -np.sin(turn)), (np.sin(turn), np.cos(turn))])
        for own, points in _thing(kind):
            canvas.polygon(own or colour, points @ matrix.T + at)


@cache
def _thing(kind: str) -> tuple[tuple[RGB | None, np.ndarray], ...]:
    """Give the polygons of one object; None stands for the colour that is drawn for it."""
    if kind == "leaf":
        blade = smooth([(-1.3, 0), (-0.3, -0.55), (0.8, -0.35), (1.3, 0), (0.8, 0.35), (-0.3, 0.55)])
        return (None, blade), ((92, 120, 74), np.array([(-1.7, -0.06), (0.9, -0.03), (0.9, 0.03), (-1.7, 0.06)]))
    if kind == "flower":
        turns = 2 * np.pi * np.arange(5) / 5
        petals = [ellipse(0.62 * np.cos(t), 0.62 * np.sin(t), 0.5, 0.36, t, n=16) for t in turns]
        return (*((None, petal) for petal in petals), ((246, 206, 90), ellipse(0, 0, 0.34, 0.34, n=16)))
    if kind == "stone":
        whole = smooth([(-1.2, 0.5), (-0.9, -0.4), (0.1, -0.75), (1.0, -0.3), (1.25, 0.5), (0.0, 0.65)])
        return ((150, 148, 150), whole), (
            (176, 174, 174),
            smooth([(-0.8, -0.2), (0.0, -0.6), (0.6, -0.35), (-0.2, -0.1)]),
        )
    if kind == "berries":
        stalks = np.array([(-0.05, -1.3), (0.05, -1.3), (0.5, 0.3), (0.0, -0.8), (-0.5, 0.2), (-0.6, 0.1)])
        return ((110, 128, 82), stalks), (None, ellipse(-0.55, 0.4, 0.48, 0.48)), (None, ellipse(0.5, 0.55, 0.48, 0.48))
    if kind == "mushroom":
        stem = smooth([(-0.3, 0.0), (0.3, 0.0), (0.38, 1.1), (-0.38, 1.1)])
        cap = smooth([(-1.1, 0.15), (-0.7, -0.7), (0.0, -1.0), (0.7, -0.7), (1.1, 0.15), (0.0, 0.25)])
        dots = [
            ((250, 244, 232), ellipse(x, y, 0.16, 0.14, n=12)) for x, y in ((-0.45, -0.3), (0.1, -0.6), (0.5, -0.2))
        ]
        return ((242, 230, 208), stem), (None, cap), *dots
    white: RGB = (250, 250, 248)
    puffs = ((-1.0, 0.1, 0.8, 0.5), (0.0, -0.25, 1.0, 0.75), (1.05, 0.1, 0.8, 0.5), (0.0, 0.3, 1.6, 0.4))
    return tuple((white, ellipse(x, y, rx, ry, n=20)) for x, y, rx, ry in puffs)


def _perch(rng: np.random.Generator, canvas: _Canvas, pose: _Pose) -> None:
    """Give the bird something to sit on: a branch, a stone, grass, or nothing."""
    kind, draw = int(rng.integers(4)), rng.uniform(0, 1, 12)
    if kind == 0:
        bend = 0.10 * (draw[0] - 0.5)
        bark = [
            (-2.6, 0.62 + bend),
            (-0.6, 0.58),
            (0.6, 0.59),
            (2.6, 0.56 - bend),
            (2.6, 0.66 - bend),
            (0.5, 0.72),
            (-2.6, 0.80 + bend),
        ]
        canvas.polygon((116, 84, 64), pose.place(np.array(bark)))
        for n in range(3):
            x, up = -1.1 + 2.4 * draw[1 + n], draw[4 + n] < 0.5
            turn = (-0.9 if up else 0.9) + 0.6 * (draw[7 + n] - 0.5)
            leaf = ellipse(x + 0.15 * np.cos(turn), 0.64 + 0.17 * np.sin(turn), 0.19, 0.09, turn, n=16)
            canvas.polygon((104, 150, 86), pose.place(leaf))
    elif kind == 1:
        wide = 0.1 * draw[0]
        stone = smooth([(-0.62 - wide, 0.95), (-0.46, 0.60), (0.05, 0.53), (0.52, 0.62), (0.70 + wide, 0.95)])
        canvas.polygon((148, 144, 146), pose.place(stone))
        canvas.polygon((170, 167, 168), pose.place(smooth([(-0.36, 0.64), (0.05, 0.57), (0.40, 0.65), (0.0, 0.68)])))
    elif kind == 2:
        for n in range(10):
            x, high = -0.75 + 1.6 * n / 9, 0.30 + 0.22 * draw[n]
            blade = np.array([(x - 0.05, 0.92), (x + 0.12 * (draw[n] - 0.5), 0.86 - high), (x + 0.06, 0.92)])
            canvas.polygon((96, 146, 82) if n % 2 else (120, 168, 92), pose.place(blade))


def _light(draw: np.ndarray, pose: _Pose, bird: np.ndarray, size: int, fine: int) -> np.ndarray:
    """Give the factors of the light, (y, x, 3): how bright, how warm, from where; and the bird's round shading."""
    y, x = _grid(size)
    gain, warm, angle = 0.86 + 0.24 * draw[0], 2 * draw[1] - 1, -np.pi * (0.2 + 0.6 * draw[2])
    towards = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    across = ((x - size / 2) * towards[0] + (y - size / 2) * towards[1]) / size
    centre, radius = pose.offset / fine, pose.scale / fine
    around = ((x - np.float32(centre[0])) * towards[0] + (y - np.float32(centre[1])) * towards[1]) / np.float32(radius)
    level = np.float32(gain) * (1 + np.float32(0.22 * draw[3]) * across)
    level = level * (1 + np.float32(0.13 + 0.1 * draw[4]) * np.clip(around - 0.1, -0.8, 0.35) * bird)
    colour = np.array([1 + 0.05 * warm, 1.0, 1 - 0.07 * warm], np.float32)
    return level[..., None] * colour


@cache
def _grid(size: int) -> tuple[np.ndarray, np.ndarray]:
    y, x = (np.mgrid[:size, :size] + 0.5).astype(np.float32)
    return y, x


def _rgb(values: np.ndarray) -> RGB:
    red, green, blue = (int(v) for v in np.clip(np.round(values), 0, 255))
    return red, green, blue
