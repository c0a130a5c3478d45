"""Arrays as bytes: torch tensors and numpy arrays in, the safetensors layout out, without a copy in between.

We write the layout ourselves (eight bytes of header length, a JSON header, the arrays one after the other), because
so the checksum of each array is taken while the array goes to disk, and because every byte passes one `os.write`,
where a full disk is noticed. The safetensors package reads the files, and any other reader of the format does.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.core.errors import BadValueError
from workbench.store.files import write_all

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["HEADER", "Part", "as_parts", "as_tensors", "n_bytes", "read_header", "sum_of_range", "write_parts"]

HEADER = "__header__"
"""Under this name the checksum of the header stands among those of the arrays."""

_ALIGN = 64
_CHUNK = 4 << 20
_DTYPES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "int16": "I16",
    "uint16": "U16",
    "int32": "I32",
    "uint32": "U32",
    "int64": "I64",
    "uint64": "U64",
    "float16": "F16",
    "bfloat16": "BF16",
    "float32": "F32",
    "float64": "F64",
}


@dataclass(frozen=True)
class Part:
    """One named array as raw little-endian bytes."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    data: memoryview


def as_parts(arrays: Mapping[str, Any]) -> list[Part]:
    """View named arrays as bytes, the most widely aligned first.

    Parameters
    ----------
    arrays : mapping of str to torch tensor or numpy array
        Any strides, any device, any of bool, (u)int8 to 64, float16, bfloat16, float32, float64.

    Raises
    ------
    BadValueError
        If a name or a value is something else; the message gives the name.
    """
    if not isinstance(arrays, Mapping):
        raise BadValueError(f"Arrays are stored by name: a mapping is needed, got {type(arrays).__name__}.")
    parts = []
    for name, array in arrays.items():
        if not isinstance(name, str) or not name or name == "__metadata__" or name == HEADER:
            raise BadValueError(f"An array's name must be text that is not empty nor reserved; got {name!r}.")
        if _is_tensor(array) and str(array.dtype).removeprefix("torch.") in _DTYPES:
            parts.append(_of_torch(name, array))
        elif _is_ndarray(array) and array.dtype.kind in "biuf" and array.dtype.name in _DTYPES:
            parts.append(_of_numpy(name, array))
        else:
            raise BadValueError(
                f'The array "{name}" is a {type(array).__name__} of {getattr(array, "dtype", "no type")}, '
                "which the store does not keep.",
                hint=f"Give a dense torch tensor or a numpy array of {', '.join(_DTYPES)}.",
            )
    return sorted(parts, key=lambda p: (-_width(p.dtype), p.name))


def as_tensors(arrays: Mapping[str, Any]) -> dict[str, Tensor]:
    """Copy named arrays into CPU tensors that share memory with nothing."""
    import numpy as np
    import torch

    as_parts(arrays)  # refuses what a store on disk would refuse
    copies = {}
    with torch.inference_mode(False):  # tensors born in it cannot be used where gradients are taken
        for name, array in arrays.items():
            if isinstance(array, torch.Tensor):
                copies[name] = array.detach().to("cpu").clone(memory_format=torch.contiguous_format)
            else:
                copies[name] = torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    return copies


def n_bytes(arrays: Mapping[str, Any]) -> int:
    """Bytes that the arrays fill."""
    return sum(int(a.nbytes) for a in arrays.values())


def write_parts(fd: int, parts: list[Part], note: Mapping[str, str]) -> tuple[int, dict[str, str]]:
    """Write a safetensors file to an open descriptor.

    Returns
    -------
    size : int
        Bytes written.
    sums : dict of str to str
        blake2b of the header and of each array, 32 hexadecimal digits.
    """
    header = _header(parts, note)
    sums = {HEADER: _sum(header)}
    total = sum(p.data.nbytes for p in parts)
    if total < (1 << 20):
        sums.update({p.name: _sum(p.data) for p in parts})
        write_all(fd, header)
        for part in parts:
            write_all(fd, part.data)
    else:
        # Hashing and writing both leave the interpreter lock, so side by side they take as long as the slower one.
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1, thread_name_prefix="store-sums") as pool:
            waiting = {p.name: pool.submit(_sum, p.data) for p in parts}
            write_all(fd, header)
            for part in parts:
                write_all(fd, part.data)
            sums.update({name: job.result() for name, job in waiting.items()})
    return len(header) + total, sums


def read_header(fd: int) -> tuple[int, dict[str, Any], str]:
    """Read a safetensors header without the package: where the data begin, what lies where, and the checksum.

    Raises
    ------
    ValueError
        If it is none.
    """
    first = _pread(fd, 8, 0)
    length = int.from_bytes(first, "little")
    if len(first) < 8 or not 2 <= length <= 100_000_000:
        raise ValueError("the header is cut off or no header")
    text = _pread(fd, length, 8)
    if len(text) < length:
        raise ValueError("the header is cut off")
    layout = json.loads(text)
    layout.pop("__metadata__", None)
    return 8 + length, layout, _sum(first + text)


def sum_of_range(fd: int, start: int, stop: int) -> str:
    """blake2b of a range of a file, read in chunks; a file that ends too early gives another sum."""
    digest = hashlib.blake2b(digest_size=16)
    while start < stop:
        chunk = _pread(fd, min(_CHUNK, stop - start), start)
        if not chunk:
            break
        digest.update(chunk)
        start += len(chunk)
    return digest.hexdigest()


def _header(parts: list[Part], note: Mapping[str, str]) -> bytes:
    layout: dict[str, Any] = {"__metadata__": dict(note)} if note else {}
    offset = 0
    for part in parts:
        end = offset + part.data.nbytes
        layout[part.name] = {"dtype": part.dtype, "shape": list(part.shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(layout, separators=(",", ":"), ensure_ascii=True).encode()
    text += b" " * (-(8 + len(text)) % _ALIGN)
    return len(text).to_bytes(8, "little") + text


def _pread(fd: int, n: int, offset: int) -> bytes:
    if hasattr(os, "pread"):
        return os.pread(fd, n, offset)
    os.lseek(fd, offset, os.SEEK_SET)
    return os.read(fd, n)


def _sum(data: bytes | memoryview) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def _width(dtype: str) -> int:
    return {"BOOL": 8, "BF16": 16}.get(dtype) or int(dtype[1:])


# An array cannot exist before its package is imported, so neither is imported here.


def _is_tensor(array: Any) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(array, torch.Tensor) and array.layout == torch.strided


def _is_ndarray(array: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(array, numpy.ndarray)


def _of_torch(name: str, tensor: Any) -> Part:
    import torch

    flat = tensor.detach().resolve_neg().to("cpu").contiguous()
    raw = flat.reshape(-1).view(torch.uint8) if flat.numel() else torch.empty(0, dtype=torch.uint8)
    dtype = _DTYPES[str(tensor.dtype).removeprefix("torch.")]
    return Part(name, dtype, tuple(tensor.shape), raw.numpy().data)


def _of_numpy(name: str, array: Any) -> Part:
    import numpy as np

    flat = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).reshape(-1)
    return Part(name, _DTYPES[array.dtype.name], tuple(array.shape), flat.view(np.uint8).data)
