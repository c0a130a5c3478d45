"""Points of a map on their way to a page: plain arrays as a map, coordinates in few bytes, blocks of neighbours."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from workbench.core.errors import BadValueError, NotFiniteError, ShapeError
from workbench.core.results import PointMap
from workbench.widgets.columns import described

__all__ = [
    "blocks",
    "check_filter",
    "column_facts",
    "digest_of",
    "in_words",
    "near_payload",
    "passing",
    "payload",
    "plain_map",
    "smallest",
]

QUANTISED_FROM = 1_000_000
"""Bytes of coordinates above which they are sent in 16 bits."""

BLOCK = 64
NEAR_BYTES = 1_000_000
LABELS_MOST = 50_000
_KEPT = 30


def plain_map(
    position: Any, columns: Any = None, vectors: Any = None, *, distance: str = "euclidean"
) -> tuple[PointMap, list[str] | None]:
    """A map of points that belong to no session, and their labels if the frame has some.

    Parameters
    ----------
    position : (point, 2), finite
    columns : DataFrame or mapping of name to (point,) array, optional
        A frame's index gives ids where it holds different whole numbers from 0, and labels otherwise.
    vectors : (point, dim), optional
        Where the points come from; neighbours are looked up there.
    distance : {"correlation", "cosine", "euclidean"}
        Between vectors.
    """
    position = np.asarray(position, dtype=np.float32)
    if position.ndim != 2 or position.shape[1] != 2:
        raise ShapeError(f"Positions are (point, 2); got {position.shape}.")
    if not np.isfinite(position).all():
        raise NotFiniteError("A position is not a number.", hint="Leave those points out.")
    n = len(position)
    named = {} if columns is None else {str(name): np.asarray(columns[name]) for name in columns}
    for name, values in named.items():
        if values.shape != (n,):
            raise ShapeError(f"Column {name!r} has {values.shape} entries for {n} points.")
    low, span = position.min(0, initial=0.0) if not n else position.min(0), np.ptp(position, axis=0).max() if n else 1.0
    unit = (position - low) / (span or 1.0)
    index, labels, order = np.arange(n), None, np.arange(n)
    if (given := getattr(columns, "index", None)) is not None and not callable(given) and len(given) == n:
        ids = np.asarray(given)
        if ids.dtype.kind in "iu" and len(np.unique(ids)) == n and (n == 0 or ids.min() >= 0):
            order = np.argsort(ids, kind="stable")
            index = ids[order]
        elif ids.dtype.kind not in "iu":
            labels = [str(one) for one in ids]
    near, far = np.zeros((n, 0), np.int32), np.zeros((n, 0), np.float32)
    if vectors is not None:
        near, far = _neighbours(vectors, n, distance)
        back = np.argsort(order)
        near = np.where(near >= 0, back[near], -1)[order].astype(np.int32)
        far = far[order]
    names: tuple[str, ...] = ()
    if "cluster" in named and named["cluster"].dtype.kind not in "iu":
        known, codes = np.unique(named["cluster"].astype(str), return_inverse=True)
        names, named["cluster"] = tuple(known.tolist()), codes
    elif "cluster" in named:
        names = tuple(f"cluster {i}" for i in range(int(named["cluster"].max(initial=-1)) + 1))
    return PointMap(
        "samples", "", "", "", index.astype(np.int64), unit[order].astype(np.float32), near, far, np.zeros(n, bool),
        {name: values[order] for name, values in named.items()}, np.zeros((0, n), np.float32), (), names,
        "positions as given", distance if vectors is not None else "", recipe="",
    ), labels  # fmt: skip


def _neighbours(vectors: Any, n: int, distance: str) -> tuple[np.ndarray, np.ndarray]:
    from workbench.methods.neighbours import exact_neighbours, prepared

    array = np.asarray(vectors, dtype=np.float32)
    if array.ndim != 2 or len(array) != n:
        raise ShapeError(f"Vectors are (point, dim) for {n} points; got {array.shape}.")
    if n < 2:
        return np.zeros((n, 0), np.int32), np.zeros((n, 0), np.float32)
    found = exact_neighbours(prepared(array, distance), min(_KEPT, n - 1))
    return found.ids, found.distance


def column_facts(made: PointMap) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """What there is to colour by, and its numbers in as few bytes as hold them."""
    facts, values = described(made.columns, made.cluster_names)
    return facts, {name: smallest(array) for name, array in values.items()}


def smallest(array: np.ndarray) -> np.ndarray:
    """Whole numbers in the smallest type that holds them; others as they are."""
    if array.dtype.kind not in "iu" or not array.size:
        return array
    low, high = int(array.min()), int(array.max())
    for kind in (np.uint8, np.int8, np.uint16, np.int16, np.int32, np.uint32):
        info = np.iinfo(kind)
        if info.min <= low and high <= info.max:
            return array.astype(kind)
    raise BadValueError(f"Numbers from {low} to {high} do not fit into 32 bits.")


def payload(made: PointMap, facts: list[dict[str, Any]], *, labels: list[str] | None = None) -> dict[str, Any]:
    """The points as the script takes them; `same` tells whether two maps are of the same things."""
    n = len(made)
    position: np.ndarray = np.asarray(made.position, dtype=np.float32)
    if position.nbytes > QUANTISED_FROM:
        position = np.rint(np.clip(position, 0, 1) * 65535).astype(np.uint16)
    found: dict[str, Any] = {
        "digest": digest_of(made),
        "same": f"{made.of} {made.layer} {made.basis} {n}",
        "n": n,
        "of": made.of,
        "layer": made.layer,
        "basis": made.basis,
        "position": position,
        "columns": facts,
        "cluster_names": list(map(str, made.cluster_names)),
        "layout": made.layout,
        "distance": made.distance,
        "k": int(made.neighbours.shape[1]),
        "apart_count": int(made.is_apart.sum()),
    }
    if not np.array_equal(made.index, np.arange(n)):
        found["index"] = smallest(made.index)
    if made.is_apart.any():
        found["apart"] = made.is_apart.astype(np.uint8)
    if labels is not None and n <= LABELS_MOST:
        found["labels"] = labels
    return found


def near_payload(made: PointMap, digest: str, limit: int = 0) -> dict[str, Any]:
    """All neighbours and their distances, as many as `limit` bytes take; nothing if that is less than one each."""
    n, kept = made.neighbours.shape
    kind: Any = np.uint16 if n < 65_535 else np.uint32
    k = min(kept, (limit or NEAR_BYTES) // max(1, n * (np.dtype(kind).itemsize + 4)))
    if k < 1:
        return {}
    ids = np.where(made.neighbours[:, :k] < 0, np.iinfo(kind).max, made.neighbours[:, :k]).astype(kind)
    return {"digest": digest, "ids": ids, "distances": np.asarray(made.distances[:, :k], dtype=np.float32)}


def digest_of(made: PointMap) -> str:
    """Tells maps apart: by what they show, and where."""
    of = hashlib.blake2b(f"{made.of}/{made.layer}/{made.basis}/{made.recipe}".encode(), digest_size=8)
    of.update(np.ascontiguousarray(made.position, dtype=np.float32).tobytes())
    return of.hexdigest()


def blocks(position: np.ndarray, size: int = BLOCK) -> np.ndarray:
    """Number of each point's block: the plane is halved along its longer side until at most `size` points are left.

    Examples
    --------
    >>> blocks(np.array([[0.0, 0.0], [1.0, 0.0], [0.1, 0.0], [0.9, 0.0]]), size=2).tolist()
    [0, 1, 0, 1]
    """
    found = np.zeros(len(position), np.uint32)
    for number, members in enumerate(_halves(np.asarray(position), size)):
        found[members] = number
    return smallest(found)


def _halves(position: np.ndarray, size: int) -> Iterator[np.ndarray]:
    stack = [np.arange(len(position))]
    while stack:
        members = stack.pop()
        if len(members) <= size:
            yield members
            continue
        along = int(np.ptp(position[members], axis=0).argmax())
        order = members[np.argsort(position[members, along], kind="stable")]
        half = len(order) // 2
        stack += [order[half:], order[:half]]


def check_filter(wanted: Any, facts: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, list[Any]]:
    """A filter in its normal form: ranges [low, high] with None for no limit, and lists of names.

    Raises
    ------
    BadValueError
        If it is neither, or names a column that is not there.
    """
    from workbench.core import check

    if not isinstance(wanted, Mapping):
        raise BadValueError(
            f"A filter names columns and what passes; got {wanted!r}.",
            hint='{"frequency": [0.1, None], "class": ["circle"]}.',
        )
    found: dict[str, list[Any]] = {}
    for name, value in wanted.items():
        if facts is not None:
            check.known("column", name, list(facts))
        values = [value] if isinstance(value, str) else list(value) if isinstance(value, (list, tuple)) else None
        is_range = values is not None and len(values) == 2 and all(v is None or _is_number(v) for v in values)
        is_names = values is not None and len(values) > 0 and all(isinstance(v, str) for v in values)
        if values is None or not (is_range or is_names):
            raise BadValueError(
                f"The filter of {name!r} is a range [low, high], either None, or a list of names; got {value!r}."
            )
        if facts is not None and is_names != (facts[name]["kind"] == "category"):
            kind = "names" if facts[name]["kind"] == "category" else "a range [low, high]"
            raise BadValueError(f"The column {name!r} is filtered by {kind}; got {value!r}.")
        if is_range and None not in values and values[0] > values[1]:
            raise BadValueError(f"The range of {name!r} begins above its end; got {value!r}.")
        found[str(name)] = [float(v) if _is_number(v) else v for v in values]
    return found


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and np.isfinite(value)


def passing(filter_: Mapping[str, list[Any]], made: PointMap) -> np.ndarray:
    """(point,) bool: what passes a filter."""
    shown = np.ones(len(made), bool)
    for name, wanted in filter_.items():
        if name not in made.columns:
            continue
        values = np.asarray(made.columns[name])
        if wanted and all(isinstance(v, str) for v in wanted):
            names = np.array(made.cluster_names, dtype=str)[values] if name == "cluster" else values.astype(str)
            shown &= np.isin(names, wanted)
        else:
            low, high = (-np.inf if wanted[0] is None else wanted[0]), (np.inf if wanted[1] is None else wanted[1])
            shown &= (values >= low) & (values <= high)
    return shown


def in_words(filter_: Mapping[str, list[Any]]) -> str:
    """A filter as people say it.

    Examples
    --------
    >>> in_words({"frequency": [0.1, None], "class": ["circle", "square"]})
    'frequency from 0.1; class circle or square'
    """
    parts = []
    for name, wanted in filter_.items():
        if all(isinstance(v, str) for v in wanted):
            said = " or ".join(wanted)
        else:
            ends = [f"{word} {v:.3g}" for word, v in zip(("from", "to"), wanted, strict=True) if v is not None]
            said = " ".join(ends) or "any"
        parts.append(f"{name.replace('_', ' ')} {said}")
    return "; ".join(parts)
