"""How a picture becomes the model's input, and how that input becomes a picture again."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from workbench.core import check
from workbench.core.errors import BadValueError, DataError, ShapeError

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "Transform", "WrappedTransform", "as_transform"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

_RESAMPLING = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "hamming": Image.Resampling.HAMMING,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
# A 1 x 4000 picture scaled to a short side of 256 would have 262 million pixels: beyond this, only the crop is scaled.
_MOST_PIXELS = 32_000_000


@dataclass(frozen=True)
class Transform:
    """Scale, crop and normalise a picture; the same geometry serves its masks.

    The arithmetic is that of torchvision's presets on Pillow pictures, so the tensors are equal bit for bit.

    Parameters
    ----------
    size : int or (y, x)
        Size of the model's input.
    resize_short : int, optional
        For ``crop="center"``: the short side is scaled to this before the crop. Not given: to the smaller of `size`.
    crop : {"center", "squash", "pad"}
        Cut the centre out, stretch the whole picture to `size`, or fit it in and fill the border with the mean colour.
    interpolation : {"nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"}
    mean, std : tuple of float
        The input is ``(value / scale - mean) / std`` with values 0 to 255, per channel.
    scale : float
        255 for means between 0 and 1, 1 for means between 0 and 255.
    channels : {3, 1}
        3 for colour, 1 for grey.
    is_rounded : bool
        Round the scaled long side; torchvision cuts its decimals off.

    Examples
    --------
    >>> Transform(size=8, resize_short=10)(Image.new("RGB", (30, 20))).shape
    torch.Size([3, 8, 8])
    """

    size: int | tuple[int, int] = 224
    resize_short: int | None = None
    crop: str = "center"
    interpolation: str = "bicubic"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    scale: float = 255.0
    channels: int = 3
    is_rounded: bool = False

    def __post_init__(self) -> None:
        size = (self.size, self.size) if isinstance(self.size, int) else tuple(self.size)
        if len(size) != 2:
            raise BadValueError(f"`size` is one number or (height, width); got {self.size!r}.")
        object.__setattr__(self, "size", tuple(check.positive("size", int(s)) for s in size))
        if self.resize_short is not None:
            check.positive("resize_short", self.resize_short)
        check.one_of("crop", self.crop, ("center", "squash", "pad"))
        check.one_of("interpolation", self.interpolation, tuple(_RESAMPLING))
        check.one_of("channels", self.channels, (1, 3))
        for name in ("mean", "std"):
            value = getattr(self, name)
            value = (float(value),) if isinstance(value, (int, float)) else tuple(float(v) for v in value)
            if len(value) not in (1, self.channels):
                raise BadValueError(f"`{name}` must hold 1 or {self.channels} numbers; got {len(value)}.")
            object.__setattr__(self, name, value)
        if min(self.std) <= 0:
            raise BadValueError(f"`std` must be above 0; got {self.std}.")
        check.between("scale", self.scale, 0, math.inf, left_open=True)

    @property
    def is_fixed(self) -> bool:
        """Whether two calls give equal tensors for sure; a wrapped function has to show it first."""
        return True

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape (channel, y, x) of the tensors."""
        return (self.channels, *self._rows_columns)

    @property
    def least(self) -> tuple[int, int] | None:
        """Width and height that a decoder may shrink a picture to without harm; None if it must not."""
        rows, columns = self._rows_columns
        if self.crop == "center":
            short = self.resize_short or min(rows, columns)
            return 2 * max(short, columns), 2 * max(short, rows)
        return 2 * columns, 2 * rows

    @property
    def bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Smallest and largest value that a pixel can have in the input, per channel; None if that is not known."""
        pairs = list(zip(self._per_channel(self.mean), self._per_channel(self.std), strict=True))
        return tuple(-m / s for m, s in pairs), tuple((255 / self.scale - m) / s for m, s in pairs)

    def __call__(self, image: Image.Image) -> Tensor:
        """Give the model's input, (channel, y, x) float32."""
        image = image.convert("RGB" if self.channels == 3 else "L")
        fill = tuple(round(m * self.scale) for m in self._per_channel(self.mean))
        view = self._view(image, _RESAMPLING[self.interpolation], fill if self.channels == 3 else fill[0])
        pixels = torch.from_numpy(np.array(view)).reshape(*self._rows_columns, self.channels)
        x = pixels.permute(2, 0, 1).contiguous().to(torch.float32).div_(self.scale)
        return x.sub_(self._column(self.mean)).div_(self._column(self.std))

    def geometry(self, mask: np.ndarray) -> np.ndarray:
        """Bring a (y, x) bool mask of the original picture to the model's view, by nearest pixel."""
        image = Image.fromarray(np.asarray(mask, dtype=np.uint8) * 255)
        return np.asarray(self._view(image, Image.Resampling.NEAREST, 0)) > 127

    def display(self, x: Tensor) -> np.ndarray:
        """Undo the normalisation: (y, x, 3) uint8, what the model saw."""
        x = x.detach().to("cpu", torch.float32)
        values = (x * self._column(self.std) + self._column(self.mean)) * self.scale
        return _to_bytes(values)

    def describe(self) -> dict[str, Any]:
        """A JSON-ready description; equal descriptions give equal tensors."""
        return {"kind": "workbench", **asdict(self)}

    @staticmethod
    def wrap(
        function: Callable[[Any], Any],
        *,
        geometry: Callable[[np.ndarray], np.ndarray] | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
    ) -> WrappedTransform:
        """Use somebody else's transform, such as one of torchvision's or a plain function.

        Parameters
        ----------
        function : callable
            Takes a Pillow picture and returns a float tensor (channel, y, x). It must not be random.
        geometry : callable, optional
            Takes a (y, x) bool mask through the same scaling and cropping. Not needed where `function` is built from
            torchvision's resize, crop and pad.
        mean, std : sequence of float, optional
            Normalisation to undo for display, in units of 0 to 1. Not needed where `function` holds a ``Normalize``.
        """
        return WrappedTransform(function=function, given_geometry=geometry, given_mean=mean, given_std=std)

    @property
    def _rows_columns(self) -> tuple[int, int]:
        return cast("tuple[int, int]", self.size)  # a single number is made a pair when the transform is

    def _per_channel(self, values: Sequence[float]) -> tuple[float, ...]:
        return tuple(values) * (self.channels if len(values) == 1 else 1)

    def _column(self, values: Sequence[float]) -> Tensor:
        return torch.tensor(values, dtype=torch.float32)[:, None, None]

    def _plan(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Give the scaled width and height, and the left and top edge of the crop (negative: border)."""
        rows, columns = self._rows_columns
        if self.crop == "squash":
            return columns, rows, 0, 0
        if self.crop == "pad":
            ratio = min(columns / width, rows / height)
            wide, high = max(1, round(width * ratio)), max(1, round(height * ratio))
        else:
            short = self.resize_short or min(rows, columns)
            whole = round if self.is_rounded else int
            wide, high = (
                (short, whole(short * height / width)) if width <= height else (whole(short * width / height), short)
            )
        return wide, high, round((wide - columns) / 2), round((high - rows) / 2)

    def _view(self, image: Image.Image, resample: Image.Resampling, fill: Any) -> Image.Image:
        rows, columns = self._rows_columns
        width, height = image.size
        wide, high, left, top = self._plan(width, height)
        if wide * high > _MOST_PIXELS and left >= 0 and top >= 0:
            x, y = width / wide, height / high
            box = (left * x, top * y, min((left + columns) * x, width), min((top + rows) * y, height))
            return image.resize((columns, rows), resample, box=box)
        if (wide, high) != (width, height):
            image = image.resize((wide, high), resample)
        if (wide, high) == (columns, rows):
            return image
        if left >= 0 and top >= 0 and self.crop == "center":
            return image.crop((left, top, left + columns, top + rows))
        canvas = Image.new(image.mode, (columns, rows), fill if self.crop == "pad" else 0)
        canvas.paste(image, (-left, -top))
        return canvas


@dataclass(frozen=True)
class WrappedTransform(Transform):
    """A transform of somebody else's; see `Transform.wrap`. An identity where `function` is None."""

    function: Callable[[Any], Any] | None = None
    given_geometry: Callable[[np.ndarray], np.ndarray] | None = None
    given_mean: Sequence[float] | None = None
    given_std: Sequence[float] | None = None

    def __post_init__(self) -> None:
        if self.function is not None and not callable(self.function):
            raise BadValueError(f"A transform is called with a picture; {self.function!r} cannot be called.")

    @property
    def is_fixed(self) -> bool:
        return self.function is None

    @property
    def least(self) -> tuple[int, int] | None:
        return None

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Shape (channel, y, x), found by sending one grey picture through."""
        if self.function is None:
            raise DataError("These inputs come ready made, so their shape is only known from the data.")
        return tuple(self(Image.new("RGB", (320, 320), (128, 128, 128))).shape)

    @property
    def bounds(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        mean, std = self._normalisation()
        if mean is None or std is None:
            parts = list(_parts(self.function))
            if not parts or not all(_is_torchvision(part) for part in parts):
                return None
            mean, std = (0.0,), (1.0,)  # torchvision's pixels run from 0 to 1 before they are normalised
        return tuple(-m / s for m, s in zip(mean, std, strict=True)), tuple(
            (1 - m) / s for m, s in zip(mean, std, strict=True)
        )

    @property
    def random_parts(self) -> list[str]:
        """Names of the parts that torchvision draws anew at each call."""
        names = [type(part).__name__ for part in _parts(self.function) if _is_torchvision(part)]
        return [n for n in names if n.startswith(("Random", "Auto", "Rand", "Trivial")) or n in _RANDOM]

    def __call__(self, image: Any) -> Tensor:
        """Give the model's input, (channel, y, x) float32."""
        x = image if self.function is None else self.function(image)
        if isinstance(x, np.ndarray):
            x = torch.from_numpy(np.array(x))
        if not isinstance(x, Tensor):
            raise DataError(
                f"The transform returned {type(x).__name__}; a tensor is needed.", hint="Let it end with `ToTensor()`."
            )
        x = x[None] if x.ndim == 2 else x
        x = x[0] if x.ndim == 4 and len(x) == 1 else x
        if x.ndim != 3:
            raise ShapeError(f"An input has the axes (channel, y, x); the transform gave {tuple(x.shape)}.")
        if not x.is_floating_point():
            raise DataError(
                f"The transform returned {x.dtype} values; the model needs floats.",
                hint="Let it convert, for example with `ToTensor()` or `v2.ToDtype(torch.float32, scale=True)`.",
            )
        return x.detach().to("cpu", torch.float32)

    def geometry(self, mask: np.ndarray) -> np.ndarray:
        if self.given_geometry is not None:
            return np.asarray(self.given_geometry(np.asarray(mask, dtype=bool)), dtype=bool)
        if self.function is None:
            return np.asarray(mask, dtype=bool)
        image = Image.fromarray(np.asarray(mask, dtype=np.uint8) * 255)
        for part in _parts(self.function):
            image = _mask_step(part, image)
        return np.asarray(image) > 127

    def display(self, x: Tensor) -> np.ndarray:
        x = x.detach().to("cpu", torch.float32)
        mean, std = self._normalisation()
        if mean is not None and std is not None:
            return _to_bytes((x * self._column(std) + self._column(mean)) * 255)
        low, high = float(x.min()), float(x.max())
        if 0 <= low and high <= 1:  # plainly a picture already
            return _to_bytes(x * 255)
        return _to_bytes((x - low) * (255 / max(high - low, 1e-12)))

    def describe(self) -> dict[str, Any]:
        mean, std = self._normalisation()
        return {
            "kind": "wrapped",
            "function": _stable_name(self.function),
            "mean": None if mean is None else list(mean),
            "std": None if std is None else list(std),
        }

    def _normalisation(self) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
        if self.given_mean is not None and self.given_std is not None:
            return tuple(self.given_mean), tuple(self.given_std)
        for part in _parts(self.function):
            mean, std = getattr(part, "mean", None), getattr(part, "std", None)
            if mean is not None and std is not None:
                numbers = [torch.as_tensor(v, dtype=torch.float32).flatten().tolist() for v in (mean, std)]
                return tuple(numbers[0]), tuple(numbers[1])
        return None, None


_RANDOM = {"ColorJitter", "AugMix", "ElasticTransform", "ScaleJitter", "MixUp", "CutMix", "GaussianNoise"}
# Parts that leave every pixel where it is.
_POINTWISE = {"ToTensor", "PILToTensor", "ToImage", "ToPILImage", "ConvertImageDtype", "ToDtype", "ToPureTensor",
              "Normalize", "Grayscale", "RGB", "Identity", "MaybeToTensor", "ToNumpy", "MaybePILToTensor"}  # fmt: skip


def as_transform(transform: Any) -> Transform:
    """Return a `Transform`: as it is, or a callable wrapped."""
    if isinstance(transform, Transform):
        return transform
    if callable(transform):
        return Transform.wrap(transform)
    raise BadValueError(
        f"A transform is a workbench `Transform` or a function of a picture; got {type(transform).__name__}."
    )


def _to_bytes(values: Tensor) -> np.ndarray:
    values = values[:1].expand(3, -1, -1) if len(values) < 3 else values[:3]
    values = torch.nan_to_num(values).round_().clamp_(0, 255)
    return np.ascontiguousarray(values.to(torch.uint8).permute(1, 2, 0).numpy())


def _is_torchvision(part: Any) -> bool:
    return type(part).__module__.split(".")[0] in ("torchvision", "timm")


def _parts(function: Any) -> Iterator[Any]:
    """Walk through the steps of a composed transform, in order."""
    inner = getattr(function, "transforms", None)
    if isinstance(inner, (list, tuple, torch.nn.ModuleList)):
        for part in inner:
            yield from _parts(part)
    elif isinstance(function, torch.nn.Sequential):
        for part in function:
            yield from _parts(part)
    elif function is not None:
        yield function


def _mask_step(part: Any, mask: Image.Image) -> Image.Image:
    """Take a mask through one step of a torchvision transform."""
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as F

    name = type(part).__name__
    if not _is_torchvision(part):
        raise _no_geometry(name)
    if name in _POINTWISE:
        return mask
    if name == "Resize":
        size = part.size if isinstance(part.size, int) else list(part.size)
        size = size[0] if isinstance(size, list) and len(size) == 1 else size
        return F.resize(mask, size, InterpolationMode.NEAREST, getattr(part, "max_size", None))
    if name == "CenterCrop":
        return F.center_crop(mask, list(part.size) if not isinstance(part.size, int) else part.size)
    if name == "ImageClassification":  # the presets that come with torchvision's weights
        mask = F.resize(mask, part.resize_size, InterpolationMode.NEAREST)
        return F.center_crop(mask, part.crop_size)
    raise _no_geometry(name)


def _no_geometry(name: str) -> DataError:
    return DataError(
        f"The masks cannot follow the step {name} of this transform.",
        hint="Pass Transform.wrap(function, geometry=...) with the same scaling and cropping for a bool mask, "
        "or describe the step with workbench's own Transform(size=..., resize_short=...).",
    )


def _stable_name(function: Any) -> str:
    """Name a callable so that the text is the same in the next process."""
    if function is None:
        return "identity"
    code = getattr(function, "__code__", None)
    if code is not None:
        body = hashlib.blake2b(code.co_code + repr(code.co_names).encode(), digest_size=8).hexdigest()
        return f"{function.__module__}.{function.__qualname__}#{body}"
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(function))
