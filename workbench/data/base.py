"""Dataset: length, item, what the model sees, what people see, and a fingerprint."""

from __future__ import annotations

import copy
import hashlib
import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from workbench.core import check
from workbench.core.errors import BadValueError, CancelledError, DataError, UnknownSampleError, WorkbenchError
from workbench.core.ids import Fingerprint
from workbench.data.tags import TagBook, Tagged
from workbench.data.transforms import Transform, WrappedTransform, as_transform

__all__ = ["Dataset", "Item", "Skipped", "Transform"]

# Probes of the fingerprint: enough to notice a changed decoder or file, few enough to take a fraction of a second.
_PROBES = 8
# A random flip shows itself in half of the repetitions: seven each of two samples leave it a chance of 1 in 16,384.
_REPEATS = 7


@dataclass(frozen=True)
class Item:
    """One sample as it lies in the data set.

    Attributes
    ----------
    image : PIL.Image.Image
        RGB, of any size.
    label : int
        Class index, -1 if unknown.
    origin : int
        Number of the original picture that this is a view of.
    key : str
        Stable name within the set; plain text, which may contain anything.
    """

    image: Image.Image
    label: int = -1
    origin: int = 0
    key: str = ""


@dataclass(frozen=True)
class Skipped:
    """A sample that could not be read, and why."""

    sample: int
    key: str
    reason: str

    def __str__(self) -> str:
        return f'{self.sample} ("{self.key}"): {self.reason}'


class Dataset(Tagged, ABC):
    """Pictures with labels, origins, optional masks, and the transform that makes them a model's input.

    Subclasses implement `_read`, and where there is something to say `_masks` and `_identity`. All of them may be
    called from any thread.

    Parameters
    ----------
    name : str
        What people call the set; part of the fingerprint.
    keys : sequence of str
        A stable name per sample; its length is the length of the set.
    labels : sequence of int, optional
        Class index per sample, -1 if unknown.
    origins : sequence of int, optional
        Number of the original picture per sample; not given: each sample is an original.
    classes : sequence of str
        Class names; empty for an unlabelled set.
    transform : Transform or callable, optional
        Not given: short side 256, centre crop 224, ImageNet's normalisation; a session then puts the model's in place.

    Attributes
    ----------
    has_own_transform : bool
        Whether somebody chose the transform.
    brings_transform : bool
        Whether the set's own transform is the one to take for a model that comes without any, as for generated scenes.
    reads_in_parallel : bool
        Whether several threads may read at the same time; sweeps on a device then do.
    """

    brings_transform = False
    reads_in_parallel = True

    def __init__(
        self,
        name: str,
        *,
        keys: Sequence[str],
        labels: Sequence[int] | np.ndarray | None = None,
        origins: Sequence[int] | np.ndarray | None = None,
        classes: Sequence[str] = (),
        transform: Any = None,
    ):
        self.name = name
        self.classes = tuple(str(c) for c in classes)
        self.transform = Transform(resize_short=256) if transform is None else as_transform(transform)
        self.has_own_transform = transform is not None
        self._keys = keys if isinstance(keys, list) else list(keys)
        n = len(self._keys)
        if n == 0:
            raise DataError(f"The data set {name} is empty.", hint="It needs at least one picture.")
        self._labels = _column("labels", labels, n, default=np.full(n, -1, np.int64))
        self._origins = _column("origins", origins, n, default=np.arange(n, dtype=np.int64))
        if self.classes and self._labels is not None and self._labels.max() >= len(self.classes):
            raise DataError(
                f"{name} has a sample of class {self._labels.max()}, but names only {len(self.classes)} classes."
            )
        self._fingerprint: Fingerprint | None = None
        self._input_shape: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return len(self._keys)

    @property
    def labels(self) -> np.ndarray:
        """(sample,) int64, -1 where unknown."""
        return self._labels

    @property
    def origins(self) -> np.ndarray:
        """(sample,) int64: which original picture each sample is a view of."""
        return self._origins

    @property
    def keys(self) -> list[str]:
        """A stable name per sample."""
        return self._keys

    @property
    def n_origins(self) -> int:
        """Number of original pictures."""
        return len(np.unique(self.origins))

    def item(self, i: int) -> Item:
        """Give one sample as it lies in the set.

        Raises
        ------
        UnknownSampleError
            If there is no sample of this number.
        DataError
            If its picture cannot be read; the message names it.
        """
        i = self._index(i)
        return Item(self._open(i, None), int(self.labels[i]), int(self.origins[i]), self.keys[i])

    def tensor(self, i: int) -> Tensor:
        """Give the model's input for one sample, (channel, y, x) float32.

        Large JPEG files may be decoded at a half, a quarter or an eighth, never below twice the size that the
        transform scales them to; the same file always gives the same tensor.

        Raises
        ------
        DataError
            If the picture cannot be read or the transform fails on it; the message names it.
        """
        i = self._index(i)
        return self._transformed(i, self._open(i, self.transform.least))

    def picture(self, i: int) -> np.ndarray:
        """Give what the model saw of one sample, (y, x, 3) uint8, for display."""
        return self.transform.display(self.tensor(i))

    def sheet(self, ids: Iterable[int] | None = None, *, columns: int = 8, gap: int = 2) -> Image.Image:
        """Lay pictures side by side, as the model sees them, to be looked at or saved.

        Parameters
        ----------
        ids : iterable of int, optional
            Not given: the first 48. A picture that cannot be read leaves its place empty.
        columns : int
        gap : int
            Pixels between two pictures.

        Returns
        -------
        PIL.Image.Image
            RGB. A notebook shows it; ``sheet.save("birds.png")`` keeps it.
        """
        ids = range(min(len(self), 48)) if ids is None else [self._index(i) for i in ids]
        columns, gap = check.positive("columns", columns), int(check.between("gap", gap, 0, 1000))
        pictures: list[np.ndarray | None] = []
        for i in ids:
            try:
                pictures.append(self.picture(i))
            except DataError:
                pictures.append(None)
        shapes = [p.shape[:2] for p in pictures if p is not None] or [(1, 1)]
        high, wide = (max(one) + gap for one in zip(*shapes, strict=True))
        across = max(1, min(columns, len(pictures)))
        canvas = Image.new(
            "RGB", (across * wide + gap, max(1, -(-len(pictures) // across)) * high + gap), (255, 255, 255)
        )
        for place, picture in enumerate(pictures):
            if picture is not None:
                row, column = divmod(place, across)
                canvas.paste(Image.fromarray(picture), (column * wide + gap, row * high + gap))
        return canvas

    def masks(self, i: int) -> dict[str, np.ndarray]:
        """Give the known masks of one sample on the model's view: name to (y, x) bool array; {} if there are none."""
        i = self._index(i)
        return {name: self.transform.geometry(mask) for name, mask in self._masks(i).items()}

    def batch(self, ids: Iterable[int]) -> tuple[Tensor, list[int], list[Skipped]]:
        """Read several samples; one that cannot be read costs only itself.

        Parameters
        ----------
        ids : iterable of int
            Sample ids, in any order.

        Returns
        -------
        inputs : (read, channel, y, x) float32 tensor
            With a first axis of 0 if nothing could be read.
        read : list of int
            The ids that `inputs` holds, in the order asked for.
        skipped : list of Skipped
            The rest, each with its reason.
        """
        tensors: list[Tensor] = []
        read: list[int] = []
        skipped: list[Skipped] = []
        for i in ids:
            i = self._index(i)
            try:
                x = self.tensor(i)
            except DataError as error:
                reason = error.message.removeprefix(f'{self.name}: sample {i} ("{self.keys[i]}") ')
                skipped.append(Skipped(i, self.keys[i], reason))
                continue
            if self.input_shape and tuple(x.shape) != self.input_shape:
                reason = f"its input has the shape {tuple(x.shape)}, the others {self.input_shape}"
                skipped.append(Skipped(i, self.keys[i], reason))
            elif not torch.isfinite(x).all():
                skipped.append(Skipped(i, self.keys[i], "its input holds NaN or infinite values"))
            else:
                tensors.append(x)
                read.append(i)
        return (torch.stack(tensors) if tensors else torch.zeros(0, 3, 1, 1)), read, skipped

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape (channel, y, x) of the inputs: the commonest among a few spread samples; () if none can be read.

        Samples of another shape are left out of batches, whoever they are read with.
        """
        if self._input_shape is None:
            if self._is_fixed():
                self._input_shape = tuple(self.transform.input_shape)
            else:
                self._input_shape = self._commonest_shape()
        return self._input_shape

    def using(self, transform: Any) -> Dataset:
        """Give the same samples with another transform. Nothing is copied but the reference to them."""
        other = copy.copy(self)
        other.transform = as_transform(transform)
        other.has_own_transform = True
        other._fingerprint = other._input_shape = None
        return other

    def tagged_in(self, book: TagBook) -> Dataset:
        """Give the same samples with their tags in a book; itself if they are there already."""
        if self._tag_book == book:
            return self
        other: Any = copy.copy(self)
        other._tag_book = book
        return other

    @property
    def fingerprint(self) -> Fingerprint:
        """A digest of names, order, labels, files, transform, and of the inputs of a few spread samples.

        Raises
        ------
        DataError
            If the transform gives two different tensors for one picture, or nothing at all can be read.
        """
        if self._fingerprint is None:
            digest = hashlib.blake2b(digest_size=16)
            head = {"name": self.name, "n": len(self), "classes": self.classes, "transform": self.transform.describe()}
            digest.update(json.dumps(head, sort_keys=True, default=str).encode())
            for line in self._identity():
                digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
            digest.update(self._label_identity())
            digest.update(np.ascontiguousarray(self.origins).tobytes())
            digest.update(self._probe())
            self._fingerprint = Fingerprint(digest.hexdigest(), self.name)
        return self._fingerprint

    def __repr__(self) -> str:
        originals = f" of {self.n_origins} originals" if self.n_origins != len(self) else ""
        classes = f", {len(self.classes)} classes" if self.classes else ""
        return f"<data set {self.name}: {len(self)} samples{originals}{classes}>"

    @abstractmethod
    def _read(self, i: int, least: tuple[int, int] | None) -> Image.Image:
        """Open one picture as RGB. A decoder may shrink it, but not below `least` (width, height); None: not at all."""

    def _masks(self, i: int) -> dict[str, np.ndarray]:
        """Give the known masks of one sample at the size of its picture."""
        return {}

    def _identity(self) -> Iterable[str]:
        """Give one line per sample that changes when its file does."""
        return self.keys

    def _label_identity(self) -> bytes:
        """Give bytes that change when a label does."""
        return np.ascontiguousarray(self.labels).tobytes()

    def _index(self, i: Any) -> int:
        if isinstance(i, (int, np.integer)) and not isinstance(i, bool) and 0 <= i < len(self):
            return int(i)
        raise UnknownSampleError(f"No sample {i!r} in {self.name}.", hint=f"It has {len(self)}, numbered from 0.")

    def _open(self, i: int, least: tuple[int, int] | None) -> Image.Image:
        try:
            return self._read(i, least)
        except (MemoryError, CancelledError):
            raise
        except Exception as error:  # decoders raise anything from OSError to SyntaxError
            raise DataError(
                f'{self.name}: sample {i} ("{self.keys[i]}") cannot be read: {_reason(error)}',
                hint="The others are not affected. Replace or remove the file, then open the data set anew.",
            ) from error

    def _transformed(self, i: int, image: Image.Image) -> Tensor:
        try:
            return self.transform(image)
        except (MemoryError, CancelledError):
            raise
        except Exception as error:  # users' transforms may raise anything, and one picture must not cost the rest
            raise DataError(
                f'{self.name}: sample {i} ("{self.keys[i]}") cannot be transformed: {_reason(error)}'
            ) from error

    def _is_fixed(self) -> bool:
        """Whether the inputs are made by our own code alone, so that looking twice is enough."""
        return self.transform.is_fixed

    def _random_parts(self) -> list[str]:
        """Name the parts of the transform that are known to draw at random."""
        return self.transform.random_parts if isinstance(self.transform, WrappedTransform) else []

    def _probes(self) -> list[int]:
        return spread(len(self), _PROBES)

    def _commonest_shape(self) -> tuple[int, ...]:
        shapes: Counter[tuple[int, ...]] = Counter()
        for i in spread(len(self), _PROBES):
            try:
                shapes[tuple(self.tensor(i).shape)] += 1
            except DataError:
                continue
        return shapes.most_common(1)[0][0] if shapes else ()

    def _check_readable(self) -> None:
        """Refuse a set of which nothing can be read; a sweep over it would end in empty tables."""
        reason = ""
        for i in range(len(self)):
            try:
                self.tensor(i)
            except DataError as error:
                reason = reason or error.message
            else:
                return
        raise DataError(
            f"None of the {len(self)} samples of {self.name} can be read. The first: {reason}",
            hint="Look at the files, or at what the data set and its transform return.",
        )

    def _probe(self) -> bytes:
        digest = hashlib.blake2b(digest_size=16)
        random = self._random_parts()
        n_read = 0
        for turn, i in enumerate(self._probes()):
            try:
                x = self.tensor(i)
            except DataError:
                digest.update(b"unreadable")
                continue
            n_read += 1
            repeats = _REPEATS if turn < 2 and not self._is_fixed() else 1
            if random or any(not _same(x, self.tensor(i)) for _ in range(repeats)):
                raise DataError(
                    f"The transform of {self.name} gives two different inputs for one picture "
                    f"(sample {i}{': ' + ', '.join(random) if random else ''}).",
                    hint="Results could not be repeated. Use the transform of the validation set, "
                    "without random crops, flips or colours.",
                )
            digest.update(repr(tuple(x.shape)).encode() + x.contiguous().numpy().tobytes())
        if n_read == 0:
            self._check_readable()
        return digest.digest()


def spread(n: int, most: int) -> list[int]:
    """Give at most so many numbers below `n`, evenly spread, with the first and the last."""
    return sorted({int(p) for p in np.linspace(0, n - 1, most)})


def _same(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))


def _reason(error: Exception) -> str:
    text = error.message if isinstance(error, WorkbenchError) else str(error)
    return f"{text or type(error).__name__}".rstrip(".") + "."


def _column(name: str, values: Any, n: int, *, default: np.ndarray) -> np.ndarray:
    if values is None:
        return default
    column = np.asarray(values, dtype=np.int64)
    if column.shape != (n,):
        raise BadValueError(f"`{name}` must hold one number for each of the {n} samples; got {column.shape}.")
    return column
