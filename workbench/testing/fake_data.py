"""A data set of drawn scenes, without a file and without torch. See `workbench.testing.fake_session`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from workbench.core.errors import UnknownSampleError
from workbench.core.ids import Fingerprint
from workbench.data.tags import Tagged

__all__ = ["CLASSES", "FakeData", "FakeTags", "View", "cut", "scene"]

CLASSES = ("circle", "square", '<b>stripes</b> & "dots"\n<img src=x onerror=alert(1)>')
"""Names as a data set may hold them, the last one hostile: markup, quotes and a new line."""


@dataclass(frozen=True)
class View:
    """One reference, as `Session.reference_views` gives it."""

    sample: int
    value: float
    picture: np.ndarray
    caption: str


def scene(i: int, size: int = 96) -> np.ndarray:
    """A picture of one of three kinds, coloured by its number."""
    rng = np.random.default_rng(i)
    y, x = np.mgrid[:size, :size] / size
    ground = 0.55 + 0.25 * np.sin(6 * x + i) * np.cos(5 * y - i)
    picture = ground[..., None] * rng.uniform(0.5, 1.0, 3)
    cy, cx = rng.uniform(0.3, 0.7, 2)
    inside = [
        (x - cx) ** 2 + (y - cy) ** 2 < 0.04,
        (abs(x - cx) < 0.18) & (abs(y - cy) < 0.18),
        ((x * 8).astype(int) % 2 == 0) & (abs(y - cy) < 0.25),
    ][i % 3]
    picture[inside] = rng.uniform(0, 1, 3)
    return (255 * np.clip(picture, 0, 1)).astype(np.uint8)


def cut(picture, size, mode="whole", seed=0):
    """A picture at a size: whole, a part of it, or dimmed around its middle."""
    from PIL import Image

    image = Image.fromarray(picture)
    if mode == "crop":
        rng = np.random.default_rng(seed)
        side = min(image.size) // 2
        left, top = (int(rng.integers(0, s - side + 1)) for s in image.size)
        image = image.crop((left, top, left + side, top + side))
    found = np.asarray(image.resize((size, size)))
    if mode == "mask":
        y, x = np.mgrid[:size, :size] / size
        found = np.where(((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.1)[..., None], found, found // 4 + 160).astype(np.uint8)
    return found


class FakeTags:
    """Tags in memory."""

    def __init__(self):
        self._tags = {}

    def read(self, data):
        """All tags."""
        return dict(self._tags)

    def change(self, data, change):
        """Put what `change` makes of the tags in their place."""
        self._tags = change(dict(self._tags))
        return self._tags


class FakeData(Tagged):
    """The little of a data set that widgets ask for."""

    def __init__(self, n, pictures=None, labels=None, classes=CLASSES):
        self.name, self.classes, self.n = "fake", classes, n
        self.labels = np.arange(n) % len(classes) if labels is None else np.asarray(labels)
        self.origins = np.arange(n) // 2
        self.keys = [f'scenes/<i>{i:04d}</i> <img src=x onerror=alert(1)> "quoted"\nnewline.png' for i in range(n)]
        self._pictures, self._tag_book = pictures, FakeTags()
        self.fingerprint = Fingerprint("fa" * 16, "fake")

    def __len__(self):
        return self.n

    def _index(self, i):
        if not isinstance(i, (int, np.integer)) or isinstance(i, bool) or not 0 <= i < self.n:
            raise UnknownSampleError(f"No sample {i!r} in fake.", hint=f"It has {self.n}, numbered from 0.")
        return int(i)

    def masks(self, i):
        """A block in the middle of every third picture."""
        mask = np.zeros((64, 64), bool)
        mask[20:40, 27:47] = True
        return {"<u>block</u>": mask} if i % 3 == 0 else {}

    def picture(self, i):
        """(y, x, 3) uint8."""
        return scene(i) if self._pictures is None else self._pictures[i]
