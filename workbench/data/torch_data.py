"""Torch data sets, and anything else with a length and numbered items."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from workbench.core.errors import DataError
from workbench.data.base import Dataset, Item, _reason, spread
from workbench.data.pictures import to_rgb
from workbench.data.transforms import Transform, WrappedTransform

__all__ = ["TorchData"]

logger = logging.getLogger(__name__)

_PICTURES = ("image", "pixel_values", "img", "picture", "x", "input", "inputs", "data")
_LABELS = ("label", "labels", "target", "targets", "y", "class", "fine_label")
_MASKS = ("mask", "masks", "segmentation")
_MOST_HASHED = 1 << 30  # bytes: half a second
# Sets whose samples have no names are read at more places, since nothing else tells that their order changed.
_UNNAMED_PROBES = 16
# Attributes under which torchvision's data sets keep their labels.
_KEPT_LABELS = ("targets", "labels", "_labels", "y")


class TorchData(Dataset):
    """Use a torch data set, or any object with a length and numbered items.

    Items may be a picture alone, ``(picture, label, …)``, or a mapping with keys such as "image", "label" and "mask".
    Pictures may be Pillow images, uint8 tensors (channel, y, x), uint8 arrays (y, x, channel), or **float tensors,
    which are taken for ready inputs**: the data set's own transform has been applied, so only the display uses the
    model's normalisation.

    Sets that neither name their samples (as `samples` of torchvision's do) nor hold all pictures in memory are told
    apart by their labels and by 16 spread samples; a change between these cannot be noticed.

    A label may be a number, or one-hot; others, such as several classes at once, count as unknown (-1).

    Parameters
    ----------
    dataset : object with ``__len__`` and ``__getitem__``
        Called from one background thread. Random augmentation is refused when the fingerprint is made.
    classes : sequence of str, optional
        Not given: ``dataset.classes``, if there is such a list.
    transform : Transform or callable, optional
        For pictures that are no ready inputs. Not given: short side 256, centre crop 224, ImageNet's normalisation.
    name : str, optional
        Not given: the name of the data set's class.
    """

    reads_in_parallel = False  # nobody promised it of other people's code: two threads may share an open file

    def __init__(
        self, dataset: Any, *, classes: Sequence[str] | None = None, transform: Any = None, name: str | None = None
    ):
        self.dataset = dataset
        kind = type(dataset).__name__
        if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
            raise DataError(
                f"{kind} has no length or no numbered items.",
                hint="Streams cannot be asked for sample 14 again. Wrap it in a map-style torch.utils.data.Dataset.",
            )
        if classes is None:
            classes = getattr(dataset, "classes", None)
            classes = classes if isinstance(classes, (list, tuple)) else ()
        super().__init__(name or kind, keys=_keys(dataset), classes=[_text(c) for c in classes], transform=transform)
        self._known: np.ndarray | None = _kept_labels(dataset, len(self))
        self._keeps_labels = self._known is not None

    @property
    def labels(self) -> np.ndarray:
        """(sample,) int64, -1 where unknown. Sets that do not keep a list of labels are read through once."""
        if self._known is None:
            logger.info("%s keeps no list of labels: reading all %d samples once.", self.name, len(self))
            self._known = np.array([self._label(i) for i in range(len(self))], dtype=np.int64)
        return self._known

    def item(self, i: int) -> Item:
        """Give one sample as it lies in the set; a ready input as it is displayed."""
        i = self._index(i)
        label = self._label(i) if self._known is None else int(self._known[i])
        return Item(self._open(i, None), label, int(self.origins[i]), self.keys[i])

    def tensor(self, i: int) -> Tensor:
        """Give the model's input for one sample; float tensors are passed on as they are."""
        i = self._index(i)
        picture = self._picture(i)
        ready = self._ready(picture)
        return self._transformed(i, self._image(i, picture)) if ready is None else ready

    def picture(self, i: int) -> np.ndarray:
        """Give what the model saw of one sample, (y, x, 3) uint8, for display."""
        i = self._index(i)
        picture = self._picture(i)
        ready = self._ready(picture)
        if ready is None:
            return self.transform.display(self._transformed(i, self._image(i, picture)))
        return self._display(ready)

    def _image(self, i: int, picture: Any) -> Image.Image:
        try:
            return as_image(picture)
        except (DataError, ValueError, TypeError, OSError) as error:
            raise DataError(f'{self.name}: sample {i} ("{self.keys[i]}") cannot be read: {_reason(error)}') from error

    def _read(self, i: int, least: tuple[int, int] | None) -> Image.Image:
        picture = self._picture(i)
        ready = self._ready(picture)
        return as_image(picture) if ready is None else Image.fromarray(self._display(ready))

    def _masks(self, i: int) -> dict[str, np.ndarray]:
        item = self.dataset[i]
        if not isinstance(item, Mapping):
            return {}
        found = next((item[k] for k in _MASKS if k in item), None)
        if found is None:
            return {}
        table = found if isinstance(found, Mapping) else {"object": found}
        return {str(k): np.squeeze(np.asarray(v)) > 0 for k, v in table.items()}

    def masks(self, i: int) -> dict[str, np.ndarray]:
        """Give the masks of a mapping item; with a ready input they must have its size already."""
        i = self._index(i)
        if self._ready(self._picture(i)) is None:
            return super().masks(i)
        return self._masks(i)

    def using(self, transform: Any) -> TorchData:
        """Give the same samples with another transform, which ready inputs don't pass through."""
        other = cast(TorchData, super().using(transform))
        try:
            ready = self._ready(self._picture(0))
        except DataError:
            return other
        if ready is not None and not isinstance(other.transform, WrappedTransform) and 0 <= float(ready.min()):
            logger.warning("%s gives ready float inputs of 0 and above: they are not normalised again.", self.name)
        return other

    def _identity(self) -> Iterable[str]:
        yield from self.keys
        yield from _order(self.dataset, len(self))
        # Sets without file names, but with all pictures in memory: the pictures say what is in which place.
        for one in self._held():
            yield _digest(one)

    def _held(self) -> list[Any]:
        """Give all pictures, or an array with all of them, if they lie in memory and are quickly looked through."""
        own, tensors = self.dataset, getattr(self.dataset, "tensors", None)
        whole = own if isinstance(own, (Tensor, np.ndarray)) else getattr(own, "data", None)
        whole = tensors[0] if isinstance(tensors, tuple) and tensors else whole
        if isinstance(own, (list, tuple)):
            held = [item[0] if isinstance(item, (list, tuple)) and item else item for item in own]
        else:
            held = [whole] if isinstance(whole, (Tensor, np.ndarray)) and len(whole) == len(self) else []
        is_quick = all(_nbytes(one) is not None for one in held) and sum(map(_nbytes, held)) <= _MOST_HASHED
        return held if is_quick else []

    def _probes(self) -> list[int]:
        is_named = self.keys[0] != "0" or bool(self._held())
        return super()._probes() if is_named else spread(len(self), _UNNAMED_PROBES)

    def _is_fixed(self) -> bool:
        return False

    def _random_parts(self) -> list[str]:
        # A subset passes on what its data set does.
        inner = getattr(self.dataset, "dataset", None)
        functions = [getattr(d, "transform", None) for d in (self.dataset, inner)]
        found = [WrappedTransform(function=f).random_parts for f in functions if callable(f)]
        return [*super()._random_parts(), *(name for names in found for name in names)]

    def _label_identity(self) -> bytes:
        if self._keeps_labels or isinstance(self.dataset, (list, tuple)):
            return super()._label_identity()
        return np.array([self._label(i) for i in super()._probes()], dtype=np.int64).tobytes()

    def _display(self, ready: Tensor) -> np.ndarray:
        transform = self.transform
        if isinstance(transform, WrappedTransform):
            return transform.display(ready)
        # A model's normalisation is undone where the values can stem from it; others are stretched.
        shown = ready * transform._column(transform.std) + transform._column(transform.mean)
        low, high = float(shown.min()) * transform.scale / 255, float(shown.max()) * transform.scale / 255
        plain = 0 <= float(ready.min()) and float(ready.max()) <= 1
        if not plain and -0.01 <= low and high <= 1.01:
            return transform.display(ready)
        return Transform.wrap(_identity).display(ready)

    def _picture(self, i: int) -> Any:
        try:
            item = self.dataset[i]
        except MemoryError:
            raise
        except Exception as error:  # a user's data set may raise anything, and one item must not cost the rest
            raise DataError(f'{self.name}: sample {i} ("{self.keys[i]}") cannot be read: {_reason(error)}') from error
        return _part(item, _PICTURES, 0, self.name)

    def _label(self, i: int) -> int:
        try:
            item = self.dataset[i]
        except MemoryError:
            raise
        except Exception:  # its picture will be skipped when it is asked for
            return -1
        if isinstance(item, Mapping):
            return _as_label(next((item[k] for k in _LABELS if k in item), None))
        return _as_label(item[1] if isinstance(item, (tuple, list)) and len(item) > 1 else None)

    def _ready(self, picture: Any) -> Tensor | None:
        """Give the input, if the item is one already."""
        if isinstance(picture, np.ndarray) and picture.dtype.kind == "f":
            picture = torch.from_numpy(np.array(picture))
            if picture.ndim == 3 and picture.shape[2] in (1, 3) and picture.shape[0] not in (1, 3):
                picture = picture.permute(2, 0, 1)
        if isinstance(picture, Tensor) and picture.is_floating_point():
            return Transform.wrap(_identity)(picture).contiguous()
        return None


def _nbytes(picture: Any) -> Any:
    """Bytes of a picture in memory; None if it is no picture, or one that cannot be looked at by its bytes."""
    if isinstance(picture, Tensor) or (isinstance(picture, np.ndarray) and picture.dtype.kind in "biuf"):
        return picture.nbytes
    return picture.width * picture.height * 4 if isinstance(picture, Image.Image) else None


def _digest(picture: Any) -> str:
    if isinstance(picture, Tensor):
        head = f"{tuple(picture.shape)} {picture.dtype}"
        raw = picture.detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
    else:
        try:
            raw = np.asarray(picture)
        except Exception:  # a damaged picture that was opened and not yet read; reading it leaves it out
            return "unreadable"
        head = f"{raw.shape} {raw.dtype}"
    return f"{head} {hashlib.blake2b(np.ascontiguousarray(raw).data, digest_size=16).hexdigest()}"


def _identity(x: Any) -> Any:
    return x


def _part(item: Any, names: Sequence[str], place: int, owner: str) -> Any:
    if isinstance(item, Mapping):
        found = [k for k in names if k in item]
        if not found:
            raise DataError(
                f"The items of {owner} are mappings with {', '.join(map(str, item))}.",
                hint=f"The picture is looked for under {', '.join(names)}.",
            )
        return item[found[0]]
    return item[place] if isinstance(item, (tuple, list)) else item


def as_image(picture: Any) -> Image.Image:
    """Give a Pillow picture, byte tensor or byte array as an RGB picture."""
    if isinstance(picture, Image.Image):
        return to_rgb(picture)
    if isinstance(picture, Tensor):
        array = picture.detach().cpu().numpy()
        array = np.moveaxis(array, 0, -1) if array.ndim == 3 and array.shape[0] in (1, 3, 4) else array
    elif isinstance(picture, np.ndarray):
        array = picture
        if array.ndim == 3 and array.shape[2] not in (1, 3, 4) and array.shape[0] in (1, 3, 4):
            array = np.moveaxis(array, 0, -1)
    else:
        raise DataError(f"{type(picture).__name__} is no picture, tensor or array.")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    if array.dtype != np.uint8 or array.ndim not in (2, 3):
        raise DataError(f"an array of shape {array.shape} and type {array.dtype} is no picture.")
    return to_rgb(Image.fromarray(np.ascontiguousarray(array)))


def _as_label(value: Any) -> int:
    if value is None or isinstance(value, (str, bytes, Mapping)):
        return -1
    array = np.asarray(value)
    if array.size == 1 and array.dtype.kind in "iub":
        return max(-1, int(array.reshape(())))
    is_one_hot = array.ndim == 1 and array.dtype.kind in "iufb" and set(np.unique(array)) <= {0, 1} and array.sum() == 1
    return int(array.argmax()) if is_one_hot else -1


def _keys(dataset: Any) -> list[str]:
    """Name the samples by their files where the data set tells them, else by their numbers."""
    for name in ("samples", "imgs", "_samples", "_image_files", "_images"):
        kept = getattr(dataset, name, None)
        if isinstance(kept, (list, tuple)) and len(kept) == len(dataset):
            first = [k[0] if isinstance(k, (tuple, list)) and k else k for k in kept]
            if all(isinstance(k, str) or hasattr(k, "__fspath__") for k in first):
                return _shortened([str(k) for k in first])
    return [str(i) for i in range(len(dataset))]


def _shortened(paths: list[str]) -> list[str]:
    """Take off the folders that all paths share: where a data set lies does not make it another one."""
    try:
        common = os.path.commonpath([os.path.dirname(p) for p in paths])
    except ValueError:
        return paths
    return [os.path.relpath(p, common).replace(os.sep, "/") if common else p for p in paths]


def _kept_labels(dataset: Any, n: int) -> np.ndarray | None:
    inner, indices = getattr(dataset, "dataset", None), getattr(dataset, "indices", None)
    if inner is not None and indices is not None:  # torch.utils.data.Subset
        labels = _kept_labels(inner, len(inner))
        return None if labels is None else labels[np.asarray(indices, dtype=np.int64)]
    tensors = getattr(dataset, "tensors", None)
    if isinstance(tensors, tuple):  # torch.utils.data.TensorDataset
        return _whole(tensors[1], n) if len(tensors) > 1 else np.full(n, -1, np.int64)
    for name in _KEPT_LABELS:
        kept = getattr(dataset, name, None)
        if kept is not None and not callable(kept) and (labels := _whole(kept, n)) is not None:
            return labels
    kept = getattr(dataset, "_samples", None)
    if isinstance(kept, list) and len(kept) == n and all(isinstance(k, tuple) and len(k) == 2 for k in kept):
        return _whole([k[1] for k in kept], n)
    return None


def _array_identity(array: Tensor | np.ndarray) -> Iterable[str]:
    array = array.detach().cpu().numpy() if isinstance(array, Tensor) else array
    if array.dtype.kind in "biufU" and array.nbytes <= _MOST_HASHED:
        yield hashlib.blake2b(np.ascontiguousarray(array).view(np.uint8).data, digest_size=16).hexdigest()


def _order(dataset: Any, n: int) -> Iterable[str]:
    """What a set keeps per sample, under whatever name: its order is the order of the samples.

    The probes of a fingerprint look at a few samples only, and would miss two others that changed places.
    """
    seen: set[int] = set()
    for name, kept in sorted(getattr(dataset, "__dict__", {}).items()):
        if id(kept) in seen:  # torchvision's `imgs` are its `samples`
            continue
        seen.add(id(kept))
        arrays = kept if isinstance(kept, tuple) else (kept,)
        if all(isinstance(a, (Tensor, np.ndarray)) and a.ndim > 0 and len(a) == n for a in arrays):
            for array in arrays:
                yield from (f"{name} {line}" for line in _array_identity(array))
        elif isinstance(kept, (list, tuple)) and len(kept) == n and all(map(_is_plain, kept)):
            first = [k[0] if isinstance(k, (tuple, list)) and k else k for k in kept]
            if all(isinstance(k, (str, os.PathLike)) for k in first):
                rest = [tuple(k[1:]) if isinstance(k, (tuple, list)) else () for k in kept]
                kept = list(zip(_shortened([os.fspath(k) for k in first]), rest, strict=True))
            digest = hashlib.blake2b(repr(kept).encode("utf-8", "surrogateescape"), digest_size=16)
            yield f"{name} {digest.hexdigest()}"
    inner = getattr(dataset, "dataset", None)  # a subset
    if inner is not None and inner is not dataset and hasattr(inner, "__len__"):
        yield from _order(inner, len(inner))


def _is_plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    return isinstance(value, (str, int, float, os.PathLike))


def _whole(values: Any, n: int) -> np.ndarray | None:
    try:
        array = np.asarray(values)
    except (TypeError, ValueError):
        return None
    return array.astype(np.int64) if array.shape == (n,) and array.dtype.kind in "iub" else None


def _text(value: Any) -> str:
    """Write a class name; torchvision's Imagenette keeps tuples of synonyms."""
    return str(value[0]) if isinstance(value, (tuple, list)) and value else str(value)
