"""Exact top-k references, streamed over shards: ties, invalid rows and views of one original are all accounted for.

There is one order: the larger value first, then the larger second value, then the smaller id; of each original only
its first views count. No two samples are equal in it, so the first k are one well-defined set, and what is chosen from
parts of the data merges in any order to what is chosen from all. Whoever is among the first k of all is among the first
k of its part, for leaving others out can only move it up.

Most components have no equal values. Theirs are ordered by one 64-bit key of value and id, which is quick; the others
are ordered anew by all three.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from workbench.core.errors import NotFiniteError

__all__ = [
    "KEPT_REFERENCES",
    "REFERENCES_VERSION",
    "Block",
    "Candidates",
    "TopReferences",
    "class_statistics",
    "merged",
    "pack",
    "top_references",
    "unpack",
]

KEPT_REFERENCES = 40
"""References per component that a sweep keeps; who asks for more has the tables read again."""

REFERENCES_VERSION = 7
"""Raised when references change: 2, equal activations are ordered by their mean; 6, stored in fewer bytes."""


@dataclass(frozen=True, eq=False)
class Block:
    """Pooled values of some samples.

    Attributes
    ----------
    values : (sample, component) float32
    ids : (sample,) int64
    is_valid : (sample,) bool
    second : (sample, component) float32, optional
        What decides between equal values.
    peak : (sample, component) int32, optional
        Noted with those that are chosen.
    """

    values: Tensor
    ids: Tensor
    is_valid: Tensor
    second: Tensor | None = None
    peak: Tensor | None = None

    def to(self, device: torch.device | str) -> Block:
        """The same on a device, where its best rows are then chosen."""
        columns = (self.values, self.ids, self.is_valid, self.second, self.peak)
        return Block(*(None if t is None else t.to(device) for t in columns))


@dataclass(frozen=True, eq=False)
class Candidates:
    """Samples chosen for each component, in order.

    Attributes
    ----------
    ids : (component, slot) int64
        -1 in empty slots, which come last.
    values : (component, slot) float32
        -inf in empty slots.
    second : (component, slot) float32, optional
    peak : (component, slot) int32, optional
    """

    ids: Tensor
    values: Tensor
    second: Tensor | None = None
    peak: Tensor | None = None

    @property
    def is_empty(self) -> Tensor:
        """(component, slot) bool."""
        return self.ids < 0

    def each(self, change: Callable[[Tensor, float], Tensor]) -> Candidates:
        """The same with every array changed, given the array and what stands in its empty slots."""
        pairs = ((self.ids, -1), (self.values, float("-inf")), (self.second, float("-inf")), (self.peak, -1))
        return Candidates(*(None if t is None else change(t, empty) for t, empty in pairs))


_EMPTY = torch.iinfo(torch.int64).min
_LOW = 0xFFFFFFFF


def pack(values: Tensor, ids: Tensor, is_valid: Tensor) -> Tensor:
    """Keys of a block.

    Parameters
    ----------
    values : (sample, component) float32
    ids : (sample,) int64, below 2^32 - 1
    is_valid : (sample,) bool

    Returns
    -------
    (sample, component) int64
        The smallest number there is in rows that are not valid.

    Raises
    ------
    NotFiniteError
        If a valid row holds NaN or infinity.
    """
    used = values[is_valid]
    if not bool(torch.isfinite(used).all()):
        raise NotFiniteError("NaN or infinity among the pooled values of valid samples.", hint="Sweep the layer again.")
    keys = torch.full(values.shape, _EMPTY, dtype=torch.int64, device=values.device)
    keys[is_valid] = _key(used, ids[is_valid].to(torch.int64).unsqueeze(1))
    return keys


def _key(values: Tensor, ids: Tensor) -> Tensor:
    bits = (values + 0.0).contiguous().view(torch.int32)  # adding zero turns -0.0 into 0.0, which ties with it
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(torch.int64)
    return (ordered << 32) | (_LOW - ids)


def unpack(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Values and ids of keys; -inf and -1 where a key is empty."""
    ids = _LOW - (keys & _LOW)
    ordered = (keys >> 32).to(torch.int32)
    values = (ordered ^ ((ordered >> 31) & 0x7FFFFFFF)).view(torch.float32)
    empty = keys == _EMPTY
    return torch.where(empty, float("-inf"), values), torch.where(empty, -1, ids)


class TopReferences:
    """The `k` strongest samples of each component, as blocks of samples come in, in any order.

    Parameters
    ----------
    origins : (data,) int64
        Original picture of each sample id.
    k : int
    per_origin : int
        Most views per original picture; 0 for no limit.

    Notes
    -----
    Ties are common: activations that saturate (ReLU6) or vanish give dozens of equal maxima, among which a bare id is
    no order at all.
    """

    def __init__(self, origins: np.ndarray, k: int, *, per_origin: int = 1):
        self.k, self.per_origin = k, per_origin
        self._origin_of = torch.from_numpy(np.ascontiguousarray(origins, dtype=np.int64))
        self._best: Candidates | None = None

    def add(self, block: Block) -> None:
        """Take a block into account."""
        self.merge(_best_of(block, self._origins_on(block.values), self.k, self.per_origin))

    def merge(self, found: Candidates) -> None:
        """Take into account what was chosen from other samples."""
        parts = [found] if self._best is None else [self._best, found]
        self._best = merged(parts, self._origins_on(found.values), self.k, per_origin=self.per_origin)

    def result(self) -> Candidates:
        """The references: (component, k), on the CPU."""
        if self._best is None:
            raise NotFiniteError("There is no sample to choose references from.")
        return self._best.each(lambda t, _: t.cpu())

    def _origins_on(self, like: Tensor) -> Tensor:
        if self._origin_of.device != like.device:
            self._origin_of = self._origin_of.to(like.device)
        return self._origin_of


def top_references(
    blocks: Iterable[Block], origins: np.ndarray, k: int, *, per_origin: int = 1
) -> tuple[Tensor, Tensor]:
    """The `k` strongest samples of each component.

    Parameters
    ----------
    blocks : iterable of Block
        As many blocks as one likes, in any order.
    origins : (data,) int64
        Original picture of each sample id.
    k : int
    per_origin : int
        Most views per original picture; 0 for no limit.

    Returns
    -------
    ids : (component, k) int64
        Strongest first; among equal values the larger `second` first, then the smaller id; -1 in empty slots.
    values : (component, k) float32
        -inf in empty slots.
    """
    top = TopReferences(origins, k, per_origin=per_origin)
    for block in blocks:
        top.add(block)
    return top.result().ids, top.result().values


def merged(parts: Sequence[Candidates], origin_of: Tensor, k: int, *, per_origin: int = 1) -> Candidates:
    """The first `k` of candidates chosen from parts of the data.

    Parameters
    ----------
    parts : sequence of Candidates
        Chosen by the same `k` or a larger one, and by the same `per_origin`.
    origin_of : (data,) int64
        Original picture of each sample id.
    """
    every = parts[0]
    if len(parts) > 1:
        arrays = ([p.ids for p in parts], [p.values for p in parts], [p.second for p in parts], [p.peak for p in parts])
        every = _in_order(Candidates(*(None if a[0] is None else torch.cat(a, 1) for a in arrays)))
    return _limited(every, origin_of, k, per_origin)


def _best_of(block: Block, origin_of: Tensor, k: int, per_origin: int) -> Candidates:
    """The first `k` of one block."""
    order = None if bool((block.ids[1:] > block.ids[:-1]).all()) else block.ids.argsort()
    if order is not None:  # keys hold the row, which then decides as the id would
        columns = (block.values, block.ids, block.is_valid, block.second, block.peak)
        block = Block(*(None if t is None else t[order] for t in columns))
    rows = torch.arange(len(block.ids), device=block.ids.device)
    every = keys = pack(block.values, rows, block.is_valid)
    if per_origin:
        keys = torch.cat(list(_best_per_origin(keys, origin_of[block.ids], per_origin)))
    keys = keys.topk(min(k, len(keys)), dim=0).values
    values, row = unpack(keys.T.contiguous())
    found = _noted(block, row, values)
    if block.second is not None:
        least = keys[-1] if len(keys) == k else None
        is_tied = _has_ties(every, least) if per_origin else _ends_in_ties(every, keys)
        columns = is_tied.nonzero().flatten()
        if len(columns):
            valid = rows[block.is_valid].expand(len(columns), -1)
            part = Block(block.values[:, columns], block.ids, block.is_valid, *_columns_of(block, columns))
            every_row = _noted(part, valid, part.values.T.gather(1, valid) + 0.0)
            best = _limited(_in_order(every_row), origin_of, found.ids.shape[1], per_origin)
            _put(found, columns, best)
    return found


def _noted(block: Block, row: Tensor, values: Tensor) -> Candidates:
    """What a block says of the samples in its rows (component, slot), -1 in empty slots."""
    at, is_empty = row.clamp(min=0), row < 0
    columns = (None if t is None else t.T.gather(1, at) for t in (block.second, block.peak))
    return Candidates(block.ids.to(torch.int64)[at], values, *columns).each(
        lambda t, empty: t.masked_fill(is_empty, empty)
    )


def _columns_of(block: Block, columns: Tensor) -> tuple[Tensor | None, ...]:
    return tuple(None if t is None else t[:, columns] for t in (block.second, block.peak))


def _put(found: Candidates, components: Tensor, part: Candidates) -> None:
    """Replace the candidates of some components."""
    for name in ("ids", "values", "second", "peak"):
        if getattr(found, name) is not None:
            getattr(found, name)[components] = getattr(part, name)


def _in_order(every: Candidates) -> Candidates:
    """Sort each component's candidates: by value, then second value, then id."""
    keys = torch.where(every.is_empty, _EMPTY, _key(every.values, every.ids.clamp(min=0)))
    ordered = _sorted_by(every, keys)
    if ordered.second is None:
        return ordered
    values = ordered.values
    tied = ((values[:, 1:] == values[:, :-1]) & ~ordered.is_empty[:, 1:]).any(1).nonzero().flatten()
    if len(tied):
        part = ordered.each(lambda t, _: t[tied])
        # The least important first: each sort keeps the order of the one before among equals.
        part = _sorted_by(part, part.second)
        _put(ordered, tied, _sorted_by(part, part.values))
    return ordered


def _sorted_by(every: Candidates, keys: Tensor) -> Candidates:
    order = keys.sort(dim=1, descending=True, stable=True).indices
    return every.each(lambda t, _: t.gather(1, order))


def _limited(every: Candidates, origin_of: Tensor, k: int, per_origin: int) -> Candidates:
    """Drop views beyond `per_origin` earlier ones of the same original, and cut or fill up to `k` slots."""
    if per_origin:
        surplus = _occurrence(torch.where(every.is_empty, -1, origin_of[every.ids.clamp(min=0)])) >= per_origin
        order = (surplus | every.is_empty).to(torch.uint8).sort(dim=1, stable=True).indices[:, :k]
        gone = surplus.gather(1, order)
        every = every.each(lambda t, empty: t.gather(1, order).masked_fill(gone, empty))
    return every.each(lambda t, empty: nn.functional.pad(t[:, :k], (0, max(0, k - t.shape[1])), value=empty))


def _has_ties(keys: Tensor, least: Tensor | None) -> Tensor:
    """(component,) bool: whether equal values stand among those that are not below `least`."""
    values = (keys >> 32).sort(dim=0, descending=True).values
    equal = (values[1:] == values[:-1]) & (values[1:] != _EMPTY >> 32)
    if least is not None:
        equal &= values[1:] >= (least >> 32)
    return equal.any(0)


def _ends_in_ties(keys: Tensor, best: Tensor) -> Tensor:
    """As `_has_ties` for those that are not below the last of the best, which need not be sorted again.

    Equal values are neighbours among the best, or one of them was left out.
    """
    values, chosen = keys >> 32, best >> 32
    is_empty = chosen == _EMPTY >> 32
    among = ((chosen[1:] == chosen[:-1]) & ~is_empty[1:]).any(0)
    n_left_out = (values == chosen[-1]).sum(0) - (chosen == chosen[-1]).sum(0)
    return among | ((n_left_out > 0) & ~is_empty[-1])


def _occurrence(groups: Tensor) -> Tensor:
    """How often the same number stood earlier in the row, (row, column)."""
    ordered, order = groups.sort(dim=1, stable=True)
    place = torch.arange(groups.shape[1], device=groups.device).expand_as(groups)
    is_new = torch.ones_like(groups, dtype=torch.bool)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    start = torch.where(is_new, place, 0).cummax(1).values
    return torch.empty_like(groups).scatter_(1, order, place - start)


def _best_per_origin(keys: Tensor, origins: Tensor, per_origin: int) -> Iterator[Tensor]:
    """The strongest, second strongest … view of each original, `per_origin` times (origin, component)."""
    unique, where = origins.unique(return_inverse=True)
    if len(unique) == len(keys):  # every sample is an original
        yield keys
        return
    index = where.unsqueeze(1).expand_as(keys)
    for turn in range(per_origin):
        best = keys.new_full((len(unique), keys.shape[1]), _EMPTY)
        best.scatter_reduce_(0, index, keys, "amax")
        yield best
        if turn + 1 < per_origin:
            keys = torch.where(keys == best.gather(0, index), _EMPTY, keys)


def class_statistics(blocks: Iterable[tuple[Tensor, Tensor]], n_classes: int) -> tuple[Tensor, Tensor]:
    """Mean of a pooled quantity per class.

    Parameters
    ----------
    blocks : iterable of (values, classes)
        (sample, component) float32 and (sample,) int64; samples of class -1 or with NaN are left out.

    Returns
    -------
    mean : (class_, component) float32
        NaN for classes without a sample.
    count : (class_,) int64
    """
    total: Tensor | None = None
    count = torch.zeros(n_classes, dtype=torch.int64)
    for values, classes in blocks:
        use = (classes >= 0) & torch.isfinite(values).all(1)
        if total is None:
            total = torch.zeros((n_classes, values.shape[1]), dtype=torch.float64)
        total.index_add_(0, classes[use], values[use].double())
        count.index_add_(0, classes[use], torch.ones(int(use.sum()), dtype=torch.int64))
    if total is None:
        raise NotFiniteError("There is no sample to make statistics from.")
    mean = total / count.clamp(min=1).unsqueeze(1)
    mean[count == 0] = float("nan")
    return mean.float(), count
