"""Pictures for the screen: thumbnails, tiles and reference views, cached by what they were made from."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from workbench.core import check
from workbench.core.errors import DataError
from workbench.core.ids import ComponentId
from workbench.core.results import ReferenceSet
from workbench.methods.concepts import crops

if TYPE_CHECKING:
    from workbench.data.base import Dataset

__all__ = ["MODES", "PictureCache", "View", "peak_tiles", "views"]

MODES = ("crop", "whole", "mask")


@dataclass(frozen=True, eq=False)
class View:
    """One reference as it is shown.

    Attributes
    ----------
    sample : int
    value : float
        Pooled activation or relevance.
    picture : (y, x, 3) uint8 array
    caption : str
        Plain text; whoever shows it escapes it.
    """

    sample: int
    value: float
    picture: np.ndarray
    caption: str


class PictureCache:
    """The last pictures that were decoded, up to a number of bytes.

    Parameters
    ----------
    data : Dataset
    budget_bytes : int
    """

    def __init__(self, data: Dataset, *, budget_bytes: int = 256_000_000):
        self.data, self.budget_bytes = data, budget_bytes
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._bytes, self._lock = 0, threading.Lock()

    def __getitem__(self, sample: int) -> np.ndarray:
        """(y, x, 3) uint8 picture of a sample, as the model saw it, read-only; a cross on grey if it cannot be read."""
        with self._lock:
            if sample in self._kept:
                self._kept.move_to_end(sample)
                return self._kept[sample]
        try:
            picture = self.data.picture(sample)
        except DataError:
            picture = _unreadable(*self.data.transform.input_shape[1:])
        picture = picture.view()
        picture.flags.writeable = False  # it is handed out again and again
        with self._lock:
            if sample not in self._kept:
                self._kept[sample] = picture
                self._bytes += picture.nbytes
                while self._bytes > self.budget_bytes and len(self._kept) > 1:
                    self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return picture

    def thumbnails(self, samples: Sequence[int], size: int = 96) -> np.ndarray:
        """(sample, size, size, 3) uint8."""
        check.positive("size", size, at_most=1024)
        made = [crops.resized(self[int(s)], size) for s in samples]
        return np.stack(made) if made else np.zeros((0, size, size, 3), np.uint8)


def peak_tiles(cache: PictureCache, references: ReferenceSet, components: Sequence[int], size: int) -> np.ndarray:
    """(component, size, size, 3) uint8: the best reference of each, cut around its peak; grey without a reference."""
    tiles = np.full((len(components), size, size, 3), 225, np.uint8)
    for row, index in enumerate(components):
        if int(references.n_valid[index]) == 0:
            continue
        picture = cache[int(references.ids[index, 0])]
        peak = int(references.peak[index, 0]) if references.peak is not None else -1
        tiles[row] = crops.crop(picture, crops.peak_box(peak, references.shape, picture.shape[:2]), size)
    return tiles


def views(
    cache: PictureCache,
    references: ReferenceSet,
    component: ComponentId,
    samples: Sequence[int],
    heats: np.ndarray | None,
    *,
    mode: str,
    size: int,
    values: np.ndarray | None = None,
    first: int = 1,
) -> list[View]:
    """References of one component, ready to be shown.

    Parameters
    ----------
    heats : (ref, y, x) array or None
        Conditional heatmaps, for the modes ``crop`` and ``mask``.
    values : (ref,) array, optional
        Default: those of the strongest in `references`.
    first : int
        Rank of the first.
    """
    result = []
    row = references.index(component)
    for rank, sample in enumerate(samples):
        picture = cache[sample]
        value = float(references.values[row, rank] if values is None else values[rank])
        if mode != "whole" and heats is not None:
            heat = crops.smooth(heats[rank])
            box = crops.box_of(heat)
            picture = crops.crop(crops.masked(picture, heat) if mode == "mask" else picture, box, size)
        else:
            picture = crops.resized(picture, size)
        data = cache.data
        label = int(data.labels[sample])
        named = data.classes[label] if 0 <= label < len(data.classes) else data.keys[sample]
        result.append(View(sample, value, picture, f"{rank + first}. {named}, {references.by} {value:.3g}"))
    return result


def _unreadable(height: int, width: int) -> np.ndarray:
    picture = np.full((height, width, 3), 225, np.uint8)
    steps = np.linspace(0, 1, 4 * max(height, width))
    y, x = (steps * (height - 1)).astype(int), (steps * (width - 1)).astype(int)
    picture[y, x] = picture[y, width - 1 - x] = 120
    return picture
