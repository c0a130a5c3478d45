"""Arrays of an index in fewer bytes, without loss.

The values of a component's references fall from the first to the last, so the high bytes of neighbours are mostly
equal and the low ones are noise. In planes, byte by byte, the high ones all but vanish under a quick compression;
the low ones stay as they are, for nothing would make them smaller.
"""

from __future__ import annotations

import math
import zlib

import numpy as np
import torch
from torch import Tensor

from workbench.core.errors import BadValueError, DamagedEntryError

__all__ = ["expand", "is_squeezed", "squeeze"]

_TYPES = (torch.uint8, torch.int16, torch.int32, torch.int64, torch.float32)
_LEVEL = 1  # higher levels take several times as long for a few per cent


def squeeze(array: Tensor) -> Tensor:
    """One array as a string of bytes.

    Parameters
    ----------
    array : tensor of uint8, int16, int32, int64 or float32, at least two axes

    Returns
    -------
    (byte,) uint8
        Number of the type, number of axes, eight bytes for the length of each, the low planes, the compressed rest.

    Raises
    ------
    BadValueError
        If the array has another type, or one axis: then it could not be told from what is squeezed.
    """
    if array.dtype not in _TYPES or array.ndim < 2:
        raise BadValueError(f"Only tables of numbers are squeezed; got {array.dtype} with {array.ndim} axes.")
    numbers = array.detach().cpu().contiguous().numpy()
    head = bytes([_TYPES.index(array.dtype), array.ndim]) + np.array(array.shape, "<i8").tobytes()
    little = numbers.astype(numbers.dtype.newbyteorder("<"), copy=False).reshape(-1)
    planes = little.view(np.uint8).reshape(-1, numbers.itemsize).T
    plain = _plain_planes(array.dtype)
    packed = zlib.compress(planes[plain:].tobytes(), _LEVEL)
    return torch.frombuffer(bytearray(b"".join((head, planes[:plain].tobytes(), packed))), dtype=torch.uint8)


def _plain_planes(dtype: torch.dtype) -> int:
    """How many low bytes are noise: half of a floating-point number."""
    return 2 if dtype.is_floating_point else 0


def is_squeezed(array: Tensor) -> bool:
    """Whether an array of an index is one that `squeeze` made."""
    return array.ndim == 1 and array.dtype == torch.uint8


def expand(array: Tensor) -> Tensor:
    """The array that `squeeze` was given; any other as it is.

    Raises
    ------
    DamagedEntryError
        If the bytes do not hold what their head says.
    """
    if not is_squeezed(array):
        return array
    raw = memoryview(array.contiguous().numpy())
    try:
        dtype, n_axes = _TYPES[raw[0]], raw[1]
        begin = 2 + 8 * n_axes
        shape = np.frombuffer(raw[2:begin], "<i8").tolist()
        n, width = math.prod(shape), dtype.itemsize
        low = n * _plain_planes(dtype)
        unzip, most = zlib.decompressobj(), n * width - low
        high = unzip.decompress(raw[begin + low :], most) if n else b""  # never more than the head promises
        planes = bytes(raw[begin : begin + low]) + high
        if len(planes) != n * width or (n and not unzip.eof and unzip.decompress(unzip.unconsumed_tail, 1)):
            raise ValueError(f"{len(planes)} bytes where {n * width} are promised")
        little = np.array(np.frombuffer(planes, np.uint8).reshape(width, n).T, order="C")
    except (IndexError, ValueError, zlib.error) as error:
        raise DamagedEntryError(f"An array of the index cannot be read: {error}.", hint="Sweep again.") from error
    numbers = little.reshape(-1).view(np.dtype(str(dtype).removeprefix("torch.")).newbyteorder("<"))
    return torch.from_numpy(numbers.astype(numbers.dtype.newbyteorder("="), copy=False).reshape(shape))
