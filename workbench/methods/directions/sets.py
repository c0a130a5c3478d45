"""Which samples are meant: ids, masks, tags, frames and pairs, as sorted ids of a data set."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.core.errors import BadValueError, ShapeError, UnknownSampleError

__all__ = ["Concept", "concepts_of", "digest_of", "sample_ids", "slug", "the_pairs"]

_PAIRS_HINT = "Pairs are written [(with, without), (with, without), ...]."


@dataclass(frozen=True, eq=False)
class Concept:
    """Samples with a concept and, where they were named, samples without it.

    Attributes
    ----------
    name : str
        Empty where nobody gave one.
    positives : (sample,) int64 array
        Rising.
    negatives : (sample,) int64 array or None
        None: all others.
    pairs : (pair, 2) int64 array
        With and without the concept, everything else being equal; no rows where there are none.
    """

    name: str
    positives: np.ndarray
    negatives: np.ndarray | None
    pairs: np.ndarray

    def named(self) -> list[np.ndarray]:
        """All sets of ids that are named."""
        return [self.positives, self.pairs, *([] if self.negatives is None else [self.negatives])]

    def facts(self) -> dict[str, Any]:
        """What a recipe says of it: counts and digests of the ids."""
        return {
            "name": self.name,
            "positives": [len(self.positives), digest_of(self.positives)],
            "negatives": None if self.negatives is None else [len(self.negatives), digest_of(self.negatives)],
            "pairs": [len(self.pairs), digest_of(self.pairs)],
        }


def concepts_of(data: Any, positives: Any, negatives: Any = None, pairs: Any = None) -> list[Concept]:
    """Read the sets that a method was given.

    Parameters
    ----------
    data : Dataset
    positives : see `sample_ids`; or pairs; or a mapping of a concept's name to either
    negatives : see `sample_ids`; or a mapping by concept; optional
    pairs : pairs, or a mapping by concept, optional

    Raises
    ------
    BadValueError
        If a set is empty, or a sample is in both.
    UnknownSampleError, UnknownNameError
        If there is no such sample, or tag.
    """
    if isinstance(positives, Mapping):
        if not positives:
            raise BadValueError("`positives` names no concept.", hint='For example {"ruler": [3, 14]}.')
        sets = {str(name): value for name, value in positives.items()}
        for what, given in (("negatives", negatives), ("pairs", pairs)):
            if isinstance(given, Mapping) and (unknown := sorted(set(map(str, given)) - set(sets))):
                raise BadValueError(f'`{what}` names "{unknown[0]}", which `positives` does not.')
        return [_concept(data, name, value, _part(negatives, name), _part(pairs, name)) for name, value in sets.items()]
    if isinstance(negatives, Mapping) or isinstance(pairs, Mapping):
        raise BadValueError("`negatives` and `pairs` are given by concept, and `positives` is not.")
    name = positives if isinstance(positives, str) else ""
    return [_concept(data, name, positives, negatives, pairs)]


def sample_ids(data: Any, value: Any, what: str) -> np.ndarray:
    """Sample ids, rising and without repetition.

    Parameters
    ----------
    data : Dataset
    value : str, frame, mask or ids
        The name of a tag; a pandas frame or series with samples as index (a series of truth values is a mask); one
        truth value per sample; or ids.
    what : str
        What the argument is called.
    """
    n = len(data.labels)
    if isinstance(value, str):
        value = data.tag(value)
    if hasattr(value, "index") and hasattr(value, "iloc"):  # a pandas frame or series, known without pandas
        is_mask = getattr(getattr(value, "dtype", None), "kind", "") == "b"
        value = value.index[value.to_numpy()] if is_mask else value.index
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
        value = [value]
    if isinstance(value, (bytes, Mapping)) or not isinstance(value, Iterable):
        raise BadValueError(
            f"`{what}` must be sample ids, a mask or the name of a tag; got {type(value).__name__}.",
            hint='For example [3, 14, 15], s.data.tag("ruler") or s.samples().query("label == \'dog\'").',
        )
    try:
        ids = np.asarray(value if hasattr(value, "__array__") else list(value))
    except ValueError:
        ids = np.zeros((0, 0))
    if ids.dtype == bool:
        if ids.shape != (n,):
            raise ShapeError(f"A mask in `{what}` must hold {n} values; got the shape {ids.shape}.")
        return np.flatnonzero(ids).astype(np.int64)
    if len(ids) == 0 and ids.ndim == 1:
        return np.zeros(0, np.int64)
    if ids.ndim != 1 or ids.dtype.kind not in "iu":
        raise BadValueError(
            f"`{what}` must be sample ids, whole numbers; got {type(value).__name__} of {ids.dtype} and the shape "
            f"{ids.shape}.",
            hint="Of a frame the index is taken, which must hold samples. Those of accepted findings are "
            "`panel.accepted()`, `s.decisions.samples()`, or the tag that they got.",
        )
    return _checked(np.unique(ids.astype(np.int64)), n, what, data)


def the_pairs(data: Any, value: Any, what: str = "pairs") -> np.ndarray:
    """(pair, 2) int64 sample ids with and without the concept."""
    try:
        ids = np.asarray(value if hasattr(value, "__array__") else list(value))
    except (TypeError, ValueError):
        ids = np.zeros(0)
    if ids.ndim != 2 or ids.shape[1] != 2 or ids.dtype.kind not in "iu" or len(ids) == 0:
        raise BadValueError(f"`{what}` must hold pairs of sample ids; got {type(value).__name__}.", hint=_PAIRS_HINT)
    ids = ids.astype(np.int64)
    _checked(np.unique(ids), len(data.labels), what, data)
    if (ids[:, 0] == ids[:, 1]).any():
        raise BadValueError(f"`{what}` pairs a sample with itself.", hint=_PAIRS_HINT)
    return ids


def digest_of(ids: np.ndarray) -> str:
    """Digits that change with the ids."""
    return hashlib.blake2b(np.ascontiguousarray(ids, dtype="<i8").tobytes(), digest_size=8).hexdigest()


def slug(name: str) -> str:
    """The name as it may stand in an address: letters, digits, '.', '_' and '-'."""
    return re.sub(r"[^A-Za-z0-9_.\-]+", "-", name).strip("-.") or "concept"


def _concept(data: Any, name: str, positives: Any, negatives: Any, pairs: Any) -> Concept:
    of = f" of {name}" if name else ""
    found = np.zeros((0, 2), np.int64)
    if _is_pairs(positives):
        found = the_pairs(data, positives, f"positives{of}")
        positives = found[:, 0]
        negatives = found[:, 1] if negatives is None else negatives
    if pairs is not None:
        found = the_pairs(data, pairs, f"pairs{of}")
    on = sample_ids(data, positives, f"positives{of}")
    if len(on) == 0:
        raise BadValueError(
            f"No positives: no sample shows the concept{f' {name}' if name else ''}.",
            hint="Name at least one sample, for PatternCAV, and ten or more for a direction to trust.",
        )
    off = None if negatives is None else sample_ids(data, negatives, f"negatives{of}")
    if off is not None:
        if len(off) == 0:
            raise BadValueError(f"No negatives{of}: there is nothing to compare the positives with.")
        both = np.intersect1d(on, off)
        if len(both):
            listed = ", ".join(map(str, both[:5].tolist()))
            raise BadValueError(
                f"{len(both)} samples are positives and negatives{of}: {listed}{' …' if len(both) > 5 else ''}."
            )
    elif len(on) == len(data.labels):
        raise BadValueError(
            f"All {len(on)} samples are positives{of}: there is nothing to compare them with.",
            hint="Leave out the samples that do not show the concept.",
        )
    return Concept(name or _tag_of(data, on), on, off, found)


def _tag_of(data: Any, ids: np.ndarray) -> str:
    """The tag that exactly these samples have: `data.tag(name)` gives ids, and the name is worth keeping."""
    tagged = getattr(data, "tagged", None)
    tags = tagged() if callable(tagged) else {}
    return next((name for name, own in sorted(tags.items()) if np.array_equal(own, ids)), "")


def _is_pairs(value: Any) -> bool:
    if hasattr(value, "iloc") or isinstance(value, (str, bytes, Mapping)):
        return False
    if getattr(value, "ndim", 1) == 2:
        return True
    if not isinstance(value, (list, tuple)) or len(value) == 0:
        return False
    return all(isinstance(one, (list, tuple)) or getattr(one, "ndim", 0) == 1 for one in value)


def _part(given: Any, name: str) -> Any:
    if isinstance(given, Mapping):
        return {str(key): value for key, value in given.items()}.get(name)
    return given


def _checked(ids: np.ndarray, n: int, what: str, data: Any) -> np.ndarray:
    bad = ids[(ids < 0) | (ids >= n)]
    if len(bad):
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise UnknownSampleError(
            f"No sample {int(bad[0])}{more} of `{what}` in {getattr(data, 'name', 'the data')}.",
            hint=f"It has {n}, from 0.",
        )
    return ids
