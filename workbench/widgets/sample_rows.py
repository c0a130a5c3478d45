"""Rows of samples: which of them a query leaves, in which order and groups; and their columns as the browser has them.

The script (``src/samples/rows.js``) orders and filters by the same rules, so that a page without a kernel can too.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.errors import BadValueError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["SampleRows", "outlined", "with_columns"]

_OWN = ("name", "label", "prediction", "origin", "tags")
_FEW = 5_000  # different texts of a column that travels as numbers with a list of names
_TEXT_BYTES = 2_000_000
_BINS = 8
_FLAG = ("yes", "no")  # tagged samples come first
_TESTS = re.compile(r"([^:<>=]+)(:|<=|>=|<|>|=)(.*)", re.DOTALL)


class SampleRows:
    """A table of samples that can be filtered, ordered and grouped by any of its columns.

    Parameters
    ----------
    frame : DataFrame
        As `Session.samples` gives it, all samples in order; further columns may be of numbers, words or yes and no.
    """

    def __init__(self, frame: pd.DataFrame):
        self.frame = frame
        self._columns: dict[str, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self.frame)

    @cached_property
    def names(self) -> list[str]:
        """What can be sorted and grouped by; names only where they are light enough to be sent."""
        return ["sample", *(name for name in map(str, self.frame.columns) if name != "name" or self.is_named)]

    @cached_property
    def tags(self) -> list[str]:
        """Names of the tags."""
        return [str(c)[4:] for c in self.frame.columns if str(c).startswith("tag:")]

    def column(self, name: str) -> dict[str, Any]:
        """A column as it is compared: ``kind`` (number, category or text), ``values``, and ``names`` of categories.

        Categories are positions in their names, which rise, and -1 where nothing is known.
        """
        if name not in self._columns:
            self._columns[name] = self._made(name)
        return self._columns[name]

    def _made(self, name: str) -> dict[str, Any]:
        if name == "sample":
            return _number(np.arange(len(self)))
        if name == "tags":
            return _category([", ".join(tags) for tags in self.frame["tags"]])
        given = self.frame[name].to_numpy()
        if given.dtype == bool:
            return {"kind": "category", "values": np.where(given, 0, 1).astype(np.int8), "names": list(_FLAG)}
        if given.dtype.kind in "fiu":
            return _number(given)
        texts = [clean(text) for text in given]
        if name != "name" and len(found := _category(texts)["names"]) <= _FEW:
            return {**_category(texts), "names": found}
        return {"kind": "text", "values": texts}

    def text(self, name: str) -> list[str]:
        """A column as text, empty where nothing is known."""
        column = self.column(name)
        if column["kind"] == "text":
            return list(column["values"])
        if column["kind"] == "category":
            names = [*column["names"], ""]
            return [names[i] for i in column["values"].tolist()]
        return ["" if v != v else f"{v:g}" for v in column["values"].tolist()]

    # Filter -----------------------------------------------------------------------------------------------------------

    @cached_property
    def is_named(self) -> bool:
        """Whether the names are light enough to be sent, and so can be searched."""
        return len(self._sent_names) <= _TEXT_BYTES

    @cached_property
    def _sent_names(self) -> bytes:
        return _deflated(self.column("name")["values"])

    @cached_property
    def _haystack(self) -> list[str]:
        columns = [self.text(name) for name in _OWN if name != "origin" and (name != "name" or self.is_named)]
        return ["\0".join(parts).lower() for parts in zip(*columns, strict=True)]

    def matching(self, query: str) -> np.ndarray:
        """(sample,) bool: those that fit all words of a query.

        A word must occur in the name, label, prediction or a tag. ``label:zebra`` looks in one column, ``label=zebra``
        wants all of it, ``origin<100`` compares numbers, ``tag:bird`` has the tag, ``is:wrong``, ``is:tagged`` and
        ``is:untagged`` say what they mean; ``-`` before a word turns it round, and quotes keep words together.
        """
        found = np.ones(len(self), dtype=bool)
        for word in words(query):
            is_turned = len(word) > 1 and word[0] == "-"
            hit = self._hits(word[1:] if is_turned else word)
            found &= ~hit if is_turned else hit
        return found

    def _hits(self, word: str) -> np.ndarray:
        known = {name.lower(): name for name in self.names if not name.startswith("tag:")}
        if word.startswith("tag:"):
            hits = [t for t in self.tags if t.lower().replace('"', "") == word[4:]]
            return self.frame[f"tag:{hits[0]}"].to_numpy() if hits else np.zeros(len(self), bool)
        if word in ("is:wrong", "is:tagged", "is:untagged"):
            return self._is(word[3:])
        test = _TESTS.fullmatch(word)
        if test is None or test[1] not in known:
            return np.array([word in text for text in self._haystack], dtype=bool)
        name, sign, value = known[test[1]], test[2], test[3]
        column = self.column(name)
        if column["kind"] == "number":
            return _compared(column["values"], sign, value)
        if sign not in (":", "="):
            return np.zeros(len(self), bool)
        if column["kind"] == "text":
            return np.array([_holds(text, sign, value) for text in column["values"]], dtype=bool)
        hit = np.array([*(_holds(text, sign, value) for text in column["names"]), _holds("", sign, value)], dtype=bool)
        return hit[column["values"]]

    def _is(self, what: str) -> np.ndarray:
        is_tagged = self.column("tags")["values"] >= 0
        if what != "wrong":
            return is_tagged if what == "tagged" else ~is_tagged
        label, prediction = self.frame["label"].to_numpy(), self.frame["prediction"].to_numpy()
        return np.asarray((label != prediction) & (label != "") & (prediction != ""), dtype=bool)

    # Order and groups -------------------------------------------------------------------------------------------------

    def key(self, name: str) -> np.ndarray:
        """(sample,) float64 by which a column sorts; infinite where nothing is known."""
        column = self.column(name)
        values = column["values"]
        if column["kind"] == "number":
            key = values.astype(np.float64)
            return np.where(np.isnan(key), np.inf, key)
        if column["kind"] == "text":
            rank = {text: i for i, text in enumerate(sorted(set(values)))}
            return np.array([rank[text] if text else np.inf for text in values], dtype=np.float64)
        return np.where(values < 0, np.inf, values.astype(np.float64))

    def groups(self, name: str) -> tuple[np.ndarray, list[str]]:
        """(sample,) position of each sample's group, and the groups' names; what is unknown comes last."""
        column = self.column(name)
        if column["kind"] == "category":
            values, names = column["values"].astype(np.int64), list(column["names"])
        elif column["kind"] == "text":
            folders = [text.rpartition("/")[0] for text in column["values"]]
            made = _category(folders)
            values, names = made["values"].astype(np.int64), made["names"]
        elif column["is_whole"]:
            unique, values = np.unique(column["values"], return_inverse=True)
            names = [str(v) for v in unique.tolist()]
        else:
            values, names = _binned(column)
        return np.where(values < 0, len(names), values), [*names, ""]

    def order(self, *, query: str = "", sort: str = "sample", ascending: bool = True, group_by: str = "",
              only: Sequence[int] | None = None) -> np.ndarray:  # fmt: skip
        """Positions of the samples on show, in the order on show."""
        mask = self.matching(query)
        if only is not None:
            chosen = np.zeros(len(self), dtype=bool)
            chosen[np.asarray(only, dtype=np.int64)] = True
            mask &= chosen
        key = self.key(sort)
        key = key if ascending else np.where(np.isinf(key), np.inf, -key)
        group = self.groups(group_by)[0] if group_by else np.zeros(len(self))
        order = np.lexsort((np.arange(len(self)), key, group))
        return order[mask[order]]

    # For the browser --------------------------------------------------------------------------------------------------

    def facts(self) -> list[dict[str, Any]]:
        """What there is: name and kind of each column but those of tags."""
        return [self._facts(name) for name in self.names if not name.startswith("tag:") and name != "tags"]

    def _facts(self, name: str) -> dict[str, Any]:
        column = self.column(name)
        facts: dict[str, Any] = {"name": name, "kind": column["kind"]}
        if column["kind"] == "category":
            facts["names"] = column["names"]
        elif column["kind"] == "number":
            facts["is_whole"] = column["is_whole"]
            if not column["is_whole"]:
                facts |= {"bins": _binned(column)[1], "low": column["low"], "high": column["high"]}
        return facts

    def values(self) -> dict[str, np.ndarray]:
        """The columns' values; texts compressed; nothing for numbers that count the samples."""
        sent = {}
        for facts in self.facts():
            name, values = facts["name"], self.column(facts["name"])["values"]
            if facts["kind"] == "text":
                packed = self._sent_names if name == "name" else _deflated(values)
                sent[name] = np.frombuffer(packed, dtype=np.uint8)
            elif not (facts["kind"] == "number" and facts["is_whole"] and np.array_equal(values, np.arange(len(self)))):
                sent[name] = values
        return sent

    def marks(self) -> dict[str, Any]:
        """The tags: names, counts, and a bit for each sample."""
        flags = np.array([self.frame[f"tag:{name}"].to_numpy() for name in self.tags], dtype=bool)
        flags = flags.reshape(len(self.tags), len(self))
        return {"names": self.tags, "counts": flags.sum(1).tolist(), "bits": np.packbits(flags, axis=1)}

    def with_tags(self, tagged: Mapping[str, Sequence[int]]) -> SampleRows:
        """The same samples with other tags."""
        frame = self.frame.drop(columns=[f"tag:{name}" for name in self.tags])
        names: list[tuple[str, ...]] = [()] * len(self)
        flags = {}
        for name, samples in sorted(tagged.items()):
            flags[f"tag:{name}"] = np.isin(np.arange(len(self)), samples)
            for i in samples:
                names[i] = (*names[i], name)
        at = list(frame.columns).index("tags") + 1
        frame["tags"] = names
        for i, (name, flag) in enumerate(flags.items()):
            frame.insert(at + i, name, flag)
        made = SampleRows(frame)
        kept = {name for name in self._columns if name != "tags" and not name.startswith("tag:")}
        made._columns = {name: self._columns[name] for name in kept}
        made.__dict__["_sent_names"] = self._sent_names
        return made


def with_columns(frame: pd.DataFrame, more: Any) -> pd.DataFrame:
    """The frame with further columns, given as a mapping of names to values or as a frame indexed by sample."""
    import pandas as pd

    if more is None:
        return frame
    given = more if isinstance(more, pd.DataFrame) else {str(k): v for k, v in dict(more).items()}
    made = {}
    for name in given:
        values = given[name]
        if str(name) in (*_OWN, "sample") or str(name).startswith(("tag:", "is:")) or _TESTS.match(str(name)):
            raise BadValueError(f"A column of one's own cannot be called {name!r}.", hint="Give it another name.")
        if not isinstance(values, pd.Series) or isinstance(more, Mapping):
            values = np.asarray(values)
            if values.shape != (len(frame),):
                raise BadValueError(f"The column {name!r} has {values.shape} values for {len(frame)} samples.")
            values = pd.Series(values, index=frame.index)
        values = values.reindex(frame.index)
        made[str(name)] = values if values.dtype.kind in "fiub" else values.map(lambda v: "" if v != v else str(v))
    return frame.assign(**made)


def outlined(picture: np.ndarray, masks: Iterable[np.ndarray]) -> np.ndarray:
    """A (y, x, 3) uint8 picture with the outlines of masks, orange on black, so that they stand out on any ground."""
    from PIL import Image

    made = picture.copy()
    for mask in masks:
        small = Image.fromarray(np.asarray(mask, dtype=np.uint8) * 255).resize(picture.shape[1::-1])
        inside = np.pad(np.asarray(small) > 127, 2)
        made[(_border(inside, grows=True) & ~inside)[2:-2, 2:-2]] = 0
        made[_border(inside)[2:-2, 2:-2]] = (255, 160, 40)
    return made


def _border(inside: np.ndarray, *, grows: bool = False) -> np.ndarray:
    """Points of a set that touch the outside; with `grows`, the set with those around it."""
    beside = [np.roll(inside, step, axis) for axis in (0, 1) for step in (-1, 1)]
    return np.logical_or.reduce([inside, *beside]) if grows else inside & ~np.logical_and.reduce(beside)


def words(query: str) -> list[str]:
    """The words of a query, in lower case; quotes keep what they hold together."""
    found = re.findall(r'(?:"[^"]*"?|[^\s"])+', query.lower())
    return [word for word in (one.replace('"', "") for one in found) if word]


def clean(text: Any) -> str:
    """Text that every page can hold."""
    return str(text).encode("utf-8", "replace").decode("utf-8").replace("\0", "\ufffd")


def _number(values: np.ndarray) -> dict[str, Any]:
    is_whole = values.dtype.kind in "iu" and (not values.size or max(abs(int(values.min())), int(values.max())) < 2**31)
    values = values.astype(np.int32 if is_whole else np.float32)
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
    return {"kind": "number", "values": values, "is_whole": is_whole, "low": low, "high": high}


def _category(texts: Sequence[str]) -> dict[str, Any]:
    names = sorted(set(texts) - {""})
    code = {"": -1, **{name: i for i, name in enumerate(names)}}
    dtype = np.int8 if len(names) < 128 else np.int16 if len(names) < 2**15 else np.int32
    return {"kind": "category", "values": np.array([code[text] for text in texts], dtype=dtype), "names": names}


def _binned(column: Mapping[str, Any]) -> tuple[np.ndarray, list[str]]:
    """Eight steps of equal width; -1 for what is no number."""
    low, high, values = column["low"], column["high"], column["values"].astype(np.float64)
    share = (values - low) / ((high - low) or 1.0)
    known = np.isfinite(share)
    codes = np.where(known, np.clip(np.floor(np.where(known, share, 0) * _BINS), 0, _BINS - 1), -1)
    edges = np.linspace(low, high, _BINS + 1)
    return codes.astype(np.int64), [f"{a:.3g} to {b:.3g}" for a, b in zip(edges, edges[1:], strict=False)]


def _compared(values: np.ndarray, sign: str, text: str) -> np.ndarray:
    try:
        limit = float(text)
    except ValueError:
        return np.zeros(len(values), dtype=bool)
    values = values.astype(np.float64)
    with np.errstate(invalid="ignore"):
        return {
            "<": values < limit, ">": values > limit, "<=": values <= limit, ">=": values >= limit,
        }.get(sign, values == limit)  # fmt: skip


def _holds(text: str, sign: str, value: str) -> bool:
    return text.lower() == value if sign == "=" else value in text.lower()


def _deflated(texts: Sequence[str]) -> bytes:
    return zlib.compress("\0".join(texts).encode(), 6)
