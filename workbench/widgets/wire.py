"""Arrays and pictures as the browser gets them: typed buffers, one JPEG sheet per page, int8 heatmaps.

Everything travels as binary; nothing is base64. A trait or a message may hold numpy arrays and `bytes` at any depth:

- in a trait tagged ``**wire.arrays`` each array becomes ``{"dtype", "shape", "data"}``, whose data ipywidgets sends as
  a buffer;
- in an answer each array becomes ``{"dtype", "shape", "buffer"}`` and each `bytes` ``{"buffer"}``, a number in the list
  of buffers that goes with the message.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from workbench.core.errors import BadValueError, ShapeError

__all__ = [
    "MESSAGE_BYTES",
    "SHEET_TILES",
    "TRAIT_BYTES",
    "arrays",
    "extract",
    "finite",
    "jpeg",
    "pack",
    "parts",
    "picture",
    "sheet",
    "signed_map",
    "signed_values",
    "tiles",
    "unpack",
    "weight",
    "with_buffers",
]

TRAIT_BYTES = 4_000_000
"""All traits of one widget at rest."""

MESSAGE_BYTES = 8_000_000
"""One message; larger answers are split, since many servers refuse more than ten million."""

SHEET_TILES = 256
"""Tiles on one sprite sheet."""

QUALITY = 80

# What JavaScript has a typed array for. 64-bit numbers become 32-bit ones, if they fit.
_DTYPES = {
    "float64": "float32",
    "float16": "float32",
    "int64": "int32",
    "uint64": "uint32",
    "bool": "uint8",
}
_SENT = ("float32", "int8", "uint8", "int16", "uint16", "int32", "uint32")


def pack(array: Any) -> dict[str, Any]:
    """Describe an array for the browser: ``dtype``, ``shape`` and ``data``, little-endian bytes in C order.

    Raises
    ------
    BadValueError
        If whole numbers do not fit into 32 bits, or the array holds something else than numbers.
    """
    array = np.asarray(array)
    name = _DTYPES.get(array.dtype.name, array.dtype.name)
    if name not in _SENT:
        raise BadValueError(f"An array of {array.dtype.name} cannot be sent to the browser.", hint=_listed())
    if name != array.dtype.name and array.dtype.kind in "iu" and array.size:
        info = np.iinfo(name)
        if int(array.min()) < info.min or int(array.max()) > info.max:
            raise BadValueError(f"Numbers up to {int(array.max())} do not fit into {name}.")
    array = np.ascontiguousarray(array, dtype=np.dtype(name).newbyteorder("<"))
    return {"dtype": name, "shape": list(array.shape), "data": array.tobytes()}


def unpack(packed: Mapping[str, Any]) -> np.ndarray:
    """The array that `pack` described."""
    data = np.frombuffer(packed["data"], dtype=np.dtype(packed["dtype"]).newbyteorder("<"))
    return data.reshape(packed["shape"])


def with_buffers(state: dict[str, Any], paths: Sequence[Sequence[Any]], buffers: Sequence[Any]) -> dict[str, Any]:
    """The state that a page sent, its buffers in their places; `state` is changed."""
    for path, buffer in zip(paths, buffers, strict=True):
        at: Any = state
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = buffer
    return state


def _listed() -> str:
    return f"It takes {', '.join(_SENT)}."


def _to_json(value: Any, widget: Any = None) -> Any:
    if isinstance(value, np.ndarray):
        return pack(value)
    if isinstance(value, Mapping):
        return {str(k): _to_json(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_to_json(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _from_json(value: Any, widget: Any = None) -> Any:
    if isinstance(value, Mapping):
        if value.keys() == {"dtype", "shape", "data"}:
            return unpack(value)
        return {k: _from_json(v) for k, v in value.items()}
    return [_from_json(v) for v in value] if isinstance(value, list) else value


arrays: dict[str, Any] = {"to_json": _to_json, "from_json": _from_json, "payload": True}
"""Metadata of a payload trait: ``Dict().tag(sync=True, **wire.arrays)``. Written by Python only."""


def extract(content: Any) -> tuple[Any, list[bytes]]:
    """Take arrays and bytes out of a message: what is left is JSON, and the buffers come beside it."""
    buffers: list[bytes] = []

    def walk(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            packed = pack(value)
            buffers.append(packed.pop("data"))
            return {**packed, "buffer": len(buffers) - 1}
        if isinstance(value, (bytes, bytearray, memoryview)):
            buffers.append(bytes(value))
            return {"buffer": len(buffers) - 1}
        if isinstance(value, Mapping):
            return {str(k): walk(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [walk(v) for v in value]
        return _to_json(value)

    return walk(content), buffers


def parts(buffers: Sequence[bytes], *, limit: int = MESSAGE_BYTES) -> list[list[tuple[int, bytes]]]:
    """Divide buffers among messages of at most `limit` bytes; each piece carries the number of its buffer.

    Examples
    --------
    >>> [[(i, len(piece)) for i, piece in part] for part in parts([b"12345", b"123"], limit=4)]
    [[(0, 4)], [(0, 1), (1, 3)]]
    """
    divided: list[list[tuple[int, bytes]]] = [[]]
    room = limit
    for number, buffer in enumerate(buffers):
        view, start = memoryview(buffer), 0
        while start < len(view) or (start == 0 and not len(view)):
            if room == 0:
                divided.append([])
                room = limit
            piece = bytes(view[start : start + room])
            divided[-1].append((number, piece))
            room -= len(piece)
            start += max(1, len(piece))
    return divided


def weight(value: Any) -> int:
    """About how many bytes a trait or message takes."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, (bytes, bytearray, memoryview, str)):
        return len(value)
    if isinstance(value, Mapping):
        return sum(len(str(k)) + weight(v) for k, v in value.items())
    return sum(weight(v) for v in value) if isinstance(value, (list, tuple)) else 8


def finite(value: Any) -> float | None:
    """A number for JSON, which knows neither NaN nor infinity."""
    number = float(value)
    return number if math.isfinite(number) else None


def jpeg(picture: np.ndarray, *, quality: int = QUALITY) -> bytes:
    """One picture, (y, x, 3) uint8, as JPEG."""
    from PIL import Image

    picture = np.asarray(picture)
    if picture.ndim != 3 or picture.shape[2] != 3 or picture.dtype != np.uint8:
        raise ShapeError(f"A picture is (y, x, 3) uint8; got {picture.shape} {picture.dtype}.")
    file = io.BytesIO()
    # Without shared colour blocks where tiles of odd sizes meet, or they would bleed into one another.
    aligned = picture.shape[0] % 16 == 0 and picture.shape[1] % 16 == 0
    Image.fromarray(np.ascontiguousarray(picture)).save(
        file, format="JPEG", quality=quality, subsampling=2 if aligned else 0
    )
    return file.getvalue()


def sheet(pictures: np.ndarray | Iterable[np.ndarray], *, quality: int = QUALITY) -> dict[str, Any]:
    """Put pictures of one size on one sprite sheet, row by row.

    Parameters
    ----------
    pictures : (n, y, x, 3) uint8, or as many arrays (y, x, 3)
        At most `SHEET_TILES`.

    Returns
    -------
    dict
        ``n``, ``columns``, ``width`` and ``height`` of a tile, and ``jpeg``, the bytes (empty if there is no picture).

    Raises
    ------
    ShapeError
        If the pictures differ in size, are too many, or are no pictures.
    """
    tiles = list(pictures)
    if len(tiles) > SHEET_TILES:
        raise ShapeError(f"A sheet takes {SHEET_TILES} tiles; got {len(tiles)}.", hint="Ask for fewer at a time.")
    if not tiles:
        return {"n": 0, "columns": 0, "width": 0, "height": 0, "jpeg": b""}
    tiles = [np.asarray(tile) for tile in tiles]
    shapes = {(*tile.shape, str(tile.dtype)) for tile in tiles}
    first = tiles[0].shape
    if len(shapes) > 1 or len(first) != 3 or first[2] != 3 or tiles[0].dtype != np.uint8:
        raise ShapeError(
            f"Pictures of a sheet are (y, x, 3) uint8 and of one size; got {sorted(map(str, shapes))[:3]}."
        )
    height, width = first[:2]
    columns = math.ceil(math.sqrt(len(tiles)))
    rows = math.ceil(len(tiles) / columns)
    canvas = np.full((rows * height, columns * width, 3), 255, dtype=np.uint8)
    for i, tile in enumerate(tiles):
        y, x = divmod(i, columns)
        canvas[y * height : (y + 1) * height, x * width : (x + 1) * width] = tile
    return {
        "n": len(tiles),
        "columns": columns,
        "width": int(width),
        "height": int(height),
        "jpeg": jpeg(canvas, quality=quality),
    }


def picture(jpeg: bytes) -> np.ndarray:
    """The picture, (y, x, 3) uint8, that `jpeg` wrote."""
    from PIL import Image

    return np.asarray(Image.open(io.BytesIO(bytes(jpeg))).convert("RGB"))


def tiles(sheet: Mapping[str, Any]) -> list[np.ndarray]:
    """The pictures of a sheet, each (y, x, 3) uint8."""
    if not sheet["n"]:
        return []
    whole, width, height = picture(sheet["jpeg"]), sheet["width"], sheet["height"]
    places = [divmod(i, sheet["columns"]) for i in range(sheet["n"])]
    return [whole[y * height : (y + 1) * height, x * width : (x + 1) * width] for y, x in places]


def signed_values(codes: np.ndarray, limit: float) -> np.ndarray:
    """The values that the codes of `signed_map` stand for, float32; NaN for "no number"."""
    codes = np.asarray(codes, dtype=np.float32)
    return np.where(codes == -128, np.float32("nan"), codes * np.abs(codes) / np.float32(127**2) * np.float32(limit))


def signed_map(heat: Any) -> dict[str, Any]:
    """A signed map as int8 for colouring in the browser.

    A code c stands for ``c * |c| / 127**2 * limit``: roots keep the steps of what is small beside a few large values.

    Returns
    -------
    dict
        ``map`` (y, x) int8, -128 for "no number"; ``limit``, the largest absolute value; ``bulk``, which 99.5 % of the
        absolute values do not exceed, where colours end; ``low``, ``high``, ``total``: smallest, largest, sum.

    Examples
    --------
    >>> found = signed_map([[0.0, 2.0], [-0.5, 0.02]])
    >>> found["map"].tolist(), found["limit"]
    ([[0, 127], [-64, 13]], 2.0)
    """
    values = np.asarray(heat, dtype=np.float32)
    if values.ndim != 2:
        raise ShapeError(f"A heatmap is (y, x); got {values.shape}.")
    known = np.isfinite(values)
    numbers, filled = values[known], np.where(known, values, 0)
    limit = float(np.abs(numbers).max(initial=0.0))
    roots = np.sign(filled) * np.sqrt(np.abs(filled) / (limit or 1.0)) * 127
    bulk = float(np.quantile(np.abs(numbers), 0.995)) if numbers.size else 0.0
    return {
        "map": np.where(known, np.rint(roots), -128).astype(np.int8),
        "limit": limit,
        "bulk": bulk or limit,
        "low": float(numbers.min(initial=0.0)),
        "high": float(numbers.max(initial=0.0)),
        "total": float(numbers.sum(dtype=np.float64)),
    }
