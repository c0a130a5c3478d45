"""Generated scenes with known concepts, exact masks and a planted artifact. Nothing is read from disk."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from PIL import Image

from workbench.core import check
from workbench.core.errors import BadValueError
from workbench.data.artifacts import ARTIFACTS
from workbench.data.backgrounds import BACKGROUNDS, background
from workbench.data.base import Dataset
from workbench.data.transforms import Transform

__all__ = ["BACKGROUNDS", "COLOURS", "SHAPES", "SIZE", "TEXTURES", "TOY_TRANSFORM", "ToyData"]

SIZE = 64
SHAPES = ("disc", "square", "triangle")
TEXTURES = ("striped", "dotted")
COLOURS = ("red", "green", "blue", "orange")
TOY_TRANSFORM = Transform(size=SIZE, resize_short=SIZE, mean=(0.5,), std=(0.25,), interpolation="bilinear")

# Raised when the pictures change, so that stored results and the cached network are made anew.
VERSION = 1

_SPLITS = {"train": 1, "val": 2, "test": 3}
_RGB = np.array([(214, 58, 52), (66, 160, 72), (62, 92, 206), (236, 150, 44)], np.float32)
_Y, _X = (np.mgrid[:SIZE, :SIZE] + 0.5).astype(np.float32)
_KEPT = 512


class ToyData(Dataset):
    """Generated scenes of 64 pixels: six classes, each a shape (disc, square, triangle) with a texture.

    The class is the pair "striped disc", "dotted disc", … Colour, background, place, size and turn are drawn without
    regard to it. An artifact is planted on a share of one class, so that a network learns it as a shortcut.

    Scene `i` depends on `seed`, `split` and `i` alone: a longer set begins with the same pictures, and the same scene
    comes with and without its artifact.

    Parameters
    ----------
    n : int
        Number of scenes. Classes take turns: scene `i` is of class ``i % 6``.
    seed : int
    split : {"train", "val", "test"}
        Which scenes; the artifact is planted in all of them alike.
    artifact : str or callable or None
        A name from `workbench.data.artifacts`, or a function ``(picture, rng) -> (picture, mask)``.
    artifact_share : float, 0 to 1
        Share of `artifact_class` that carries it.
    artifact_class : int or None
        The class that carries it; None for all classes.
    transform : Transform or callable, optional
        Not given: 64 pixels, values -2 to 2.

    Attributes
    ----------
    concept_names : tuple of str
        Shapes, textures, colours, backgrounds, and "artifact".
    concepts : (sample, concept) bool array
        Which concepts each scene shows.

    Examples
    --------
    >>> toy = ToyData(n=12, seed=3)
    >>> toy.classes[toy.item(1).label], sorted(toy.masks(1))
    ('dotted disc', ['object', 'rim', 'texture'])
    """

    brings_transform = True
    concept_names = (*SHAPES, *TEXTURES, *COLOURS, *BACKGROUNDS, "artifact")

    def __init__(
        self,
        *,
        n: int = 1200,
        seed: int = 0,
        split: str = "train",
        artifact: str | Callable[..., tuple[np.ndarray, np.ndarray]] | None = "patch",
        artifact_share: float = 0.95,
        artifact_class: int | None = 0,
        transform: Any = None,
    ):
        n = check.positive("n", n)
        check.one_of("split", split, tuple(_SPLITS))
        check.between("artifact_share", artifact_share, 0, 1)
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise BadValueError(f"`seed` must be a whole number of at least 0; got {seed!r}.")
        classes = tuple(f"{texture} {shape}" for shape in SHAPES for texture in TEXTURES)
        if artifact_class is not None:
            check.one_of("artifact_class", artifact_class, range(len(classes)))
        self.seed, self.split = seed, split
        self.artifact_name = artifact if isinstance(artifact, str) else getattr(artifact, "__qualname__", str(artifact))
        self._plant = ARTIFACTS[check.known("artifact", artifact, ARTIFACTS)] if isinstance(artifact, str) else artifact
        labels = np.arange(n, dtype=np.int64) % len(classes)
        super().__init__(
            "toy",
            keys=[f"{split}-{seed}-{i:06d}" for i in range(n)],
            labels=labels,
            classes=classes,
            transform=TOY_TRANSFORM if transform is None else transform,
        )
        self.has_own_transform = transform is not None  # the toy network brings the same
        # One draw per scene in order: a longer set has the same beginning.
        chance = np.random.default_rng([VERSION, seed, _SPLITS[split], 1]).random(n)
        nuisance = np.random.default_rng([VERSION, seed, _SPLITS[split], 2]).random((n, 2))
        self._colour = (nuisance[:, 0] * len(COLOURS)).astype(int)
        self._background = (nuisance[:, 1] * len(BACKGROUNDS)).astype(int)
        chosen = np.full(n, True) if artifact_class is None else labels == artifact_class
        self.has_artifact = chosen & (chance < artifact_share) & (self._plant is not None)
        self.concepts = np.concatenate(
            [
                np.eye(len(SHAPES), dtype=bool)[labels // len(TEXTURES)],
                np.eye(len(TEXTURES), dtype=bool)[labels % len(TEXTURES)],
                np.eye(len(COLOURS), dtype=bool)[self._colour],
                np.eye(len(BACKGROUNDS), dtype=bool)[self._background],
                self.has_artifact[:, None],
            ],
            axis=1,
        )
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def scene(self, i: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Draw one scene: the picture, (64, 64, 3) uint8, and its masks by name, (64, 64) bool."""
        i = self._index(i)
        rng = np.random.default_rng([VERSION, self.seed, _SPLITS[self.split], 3, i])
        shape, texture = divmod(int(self.labels[i]), len(TEXTURES))
        picture = background(int(self._background[i]), rng, height=SIZE, width=SIZE)
        picture, masks = _object(picture, shape, texture, _RGB[self._colour[i]], rng)
        picture = np.clip(np.round(picture + rng.normal(0, 5, picture.shape)), 0, 255).astype(np.uint8)
        if self.has_artifact[i] and self._plant is not None:
            own = np.random.default_rng([VERSION, self.seed, _SPLITS[self.split], 4, i])
            picture, masks["artifact"] = self._plant(picture, own)
            for name in ("object", "rim", "texture"):
                masks[name] &= ~masks["artifact"]
        return picture, masks

    def clean(self) -> ToyData:
        """Give the same scenes without the artifact."""
        own = self.transform if self.has_own_transform else None
        return ToyData(n=len(self), seed=self.seed, split=self.split, artifact=None, transform=own)

    def _read(self, i: int, least: tuple[int, int] | None) -> Image.Image:
        with self._lock:
            picture = self._kept.get(i)
        if picture is None:
            picture = self.scene(i)[0]
            with self._lock:
                self._kept[i] = picture
                if len(self._kept) > _KEPT:
                    self._kept.popitem(last=False)
        return Image.fromarray(picture)

    def _masks(self, i: int) -> dict[str, np.ndarray]:
        return self.scene(i)[1]

    def _identity(self) -> Iterable[str]:
        yield f"{VERSION} {self.seed} {self.split} {self.artifact_name}"
        yield self.has_artifact.tobytes().hex()
        yield from self.keys


def _object(
    picture: np.ndarray, shape: int, texture: int, colour: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Draw one textured, rimmed shape; give the picture and the masks of object, rim and texture."""
    radius = rng.uniform(14, 20)
    cy, cx = rng.uniform(radius + 2, SIZE - radius - 2, 2)
    turn = rng.uniform(0, 2 * np.pi)
    x, y = _X - np.float32(cx), _Y - np.float32(cy)
    u = x * np.float32(np.cos(turn)) + y * np.float32(np.sin(turn))
    v = y * np.float32(np.cos(turn)) - x * np.float32(np.sin(turn))
    inside = _depth(shape, u, v, np.float32(radius))  # pixels to the edge, positive inside
    period = np.float32(rng.uniform(6, 8))
    if texture == 0:
        ink = period / 4 - np.abs((u + 100 * period) % period - period / 2)
    else:
        wide = period * 1.15
        du, dv = (u + 100 * wide) % wide - wide / 2, (v + 100 * wide) % wide - wide / 2
        ink = wide * 0.3 - np.hypot(du, dv)
    shade = np.float32(rng.uniform(0.85, 1.15))
    body = np.clip(inside + 0.5, 0, 1)[..., None]
    inner = np.clip(inside - 2 + 0.5, 0, 1)[..., None]
    inked = np.clip(ink + 0.5, 0, 1)[..., None] * inner
    picture = picture * (1 - body) + np.float32(40) * body
    picture = picture * (1 - inner) + colour * shade * inner
    picture = picture * (1 - inked) + np.float32(245) * inked
    masks = {
        "object": inside > 0,
        "rim": (inside > 0) & (inside <= 2),
        "texture": (ink > 0) & (inside > 2),
    }
    return picture, masks


def _depth(shape: int, u: np.ndarray, v: np.ndarray, radius: np.float32) -> np.ndarray:
    if shape == 0:
        return radius - np.hypot(u, v)
    if shape == 1:
        return radius * np.float32(0.85) - np.maximum(np.abs(u), np.abs(v))
    # Three half-planes at 120 degrees, at half the outer radius.
    high = radius * np.float32(0.58)
    sides = [u * np.float32(np.cos(a)) + v * np.float32(np.sin(a)) for a in (np.pi / 2, np.pi * 7 / 6, np.pi * 11 / 6)]
    return high - np.maximum.reduce(sides)
