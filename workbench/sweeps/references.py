"""Exact top-k references, streamed over shards: ties, invalid rows and views of one original are all accounted for.

A value and its sample id are packed into one 64-bit key whose order is "larger value first, then smaller id". Keys are
unique, so the k largest are one well-defined set, and sets of shards merge in any order to the same result.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from workbench.core.errors import NotFiniteError

__all__ = ["Block", "TopReferences", "class_statistics", "pack", "top_references", "unpack"]


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
    """

    values: Tensor
    ids: Tensor
    is_valid: Tensor
    second: Tensor | None = None


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
    bits = (used + 0.0).contiguous().view(torch.int32)  # adding zero turns -0.0 into 0.0, which ties with it
    ordered = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(torch.int64)
    keys = torch.full(values.shape, _EMPTY, dtype=torch.int64)
    keys[is_valid] = (ordered << 32) | (_LOW - ids[is_valid].to(torch.int64)).unsqueeze(1)
    return keys


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
    no order at all. Components without ties are decided by one 64-bit key and cost no second look.
    """

    def __init__(self, origins: np.ndarray, k: int, *, per_origin: int = 1):
        self.k, self.per_origin = k, per_origin
        self._origin_of = torch.from_numpy(np.ascontiguousarray(origins, dtype=np.int64))
        self._best: Tensor | None = None
        self._has_ties = torch.zeros(0, dtype=torch.bool)
        self._has_second = False

    def add(self, block: Block) -> None:
        """Take a block into account."""
        keys = pack(block.values, block.ids, block.is_valid)
        self._has_second |= block.second is not None
        every, k = keys, self.k
        if self.per_origin:
            keys = torch.cat(list(_best_per_origin(keys, self._origin_of[block.ids], self.per_origin)))
        keys = _largest(keys, k)
        ties = _has_ties(every, keys[-1] if len(keys) == k else None)
        if self._best is not None:
            keys = torch.cat([self._best, keys]).sort(dim=0, descending=True).values
            ties |= self._has_ties | _has_ties(keys, keys[k - 1] if len(keys) >= k else None)
            if self.per_origin:
                keys = _without_surplus(keys, self._origin_of, self.per_origin)
            keys = _largest(keys, k)
        self._best, self._has_ties = keys, ties

    def result(self, again: Callable[[], Iterable[Block]]) -> tuple[Tensor, Tensor]:
        """The references.

        Parameters
        ----------
        again : callable that gives all blocks anew
            Called where values tie.

        Returns
        -------
        ids : (component, k) int64
            Strongest first; among equal values the larger `second` first, then the smaller id; -1 in empty slots.
        values : (component, k) float32
            -inf in empty slots.
        """
        best, k = self._best, self.k
        if best is None:
            raise NotFiniteError("There is no sample to choose references from.")
        if len(best) < k:
            best = torch.cat([best, torch.full((k - len(best), best.shape[1]), _EMPTY, dtype=torch.int64)])
        values, ids = unpack(best.T.contiguous())
        if self._has_second and bool(self._has_ties.any()):
            columns = self._has_ties.nonzero().flatten()
            ids[columns], values[columns] = _by_both(again(), columns, self._origin_of, k, self.per_origin)
        return ids, values


def top_references(
    blocks: Callable[[], Iterable[Block]], origins: np.ndarray, k: int, *, per_origin: int = 1
) -> tuple[Tensor, Tensor]:
    """The `k` strongest samples of each component, as `TopReferences.result` gives them.

    Parameters
    ----------
    blocks : callable that gives an iterable of Block
        As many blocks as one likes, in any order. It is called twice where values tie.
    origins : (data,) int64
        Original picture of each sample id.
    k : int
    per_origin : int
        Most views per original picture; 0 for no limit.
    """
    top = TopReferences(origins, k, per_origin=per_origin)
    for block in blocks():
        top.add(block)
    return top.result(blocks)


def _has_ties(keys: Tensor, least: Tensor | None) -> Tensor:
    """(component,) bool: whether equal values stand among those that are not below `least`."""
    values = (keys >> 32).sort(dim=0, descending=True).values
    equal = (values[1:] == values[:-1]) & (values[1:] != _EMPTY >> 32)
    if least is not None:
        equal &= values[1:] >= (least >> 32)
    return equal.any(0)


def _by_both(
    blocks: Iterable[Block], columns: Tensor, origin_of: Tensor, k: int, per_origin: int
) -> tuple[Tensor, Tensor]:
    """The same by value, second value and id, for some components: slower, by sorting."""
    kept = tuple(torch.zeros((len(columns), 0), dtype=t) for t in (torch.float32, torch.float32, torch.int64))
    for block in blocks:
        n = int(block.is_valid.sum())
        second = block.second if block.second is not None else torch.zeros_like(block.values)
        parts = (block.values[block.is_valid][:, columns].T, second[block.is_valid][:, columns].T)
        found = (*parts, block.ids[block.is_valid].to(torch.int64).expand(len(columns), n))
        kept = tuple(torch.cat([a, b.to(a.dtype)], 1) for a, b in zip(kept, found, strict=True))
        # The least important first: each sort keeps the order of the one before among equals.
        for key, descending in ((2, False), (1, True), (0, True)):
            order = kept[key].sort(dim=1, descending=descending, stable=True).indices
            kept = tuple(t.gather(1, order) for t in kept)
        if per_origin:
            surplus = _occurrence(origin_of[kept[2]]) >= per_origin
            order = surplus.to(torch.uint8).sort(dim=1, stable=True).indices[:, :k]
            is_full = not bool(surplus.gather(1, order).any())
            kept = tuple(t.gather(1, order) for t in kept)
            if not is_full:  # fewer originals than slots: the rest of the row is empty
                gone = surplus.gather(1, order)
                kept = (kept[0].masked_fill(gone, float("-inf")), kept[1], kept[2].masked_fill(gone, -1))
        kept = tuple(t[:, :k] for t in kept)
    values, ids = kept[0] + 0.0, kept[2]
    missing = k - ids.shape[1]
    return nn.functional.pad(ids, (0, missing), value=-1), nn.functional.pad(values, (0, missing), value=float("-inf"))


def _occurrence(groups: Tensor) -> Tensor:
    """How often the same number stood earlier in the row, (row, column)."""
    ordered, order = groups.sort(dim=1, stable=True)
    place = torch.arange(groups.shape[1]).expand_as(groups)
    is_new = torch.ones_like(groups, dtype=torch.bool)
    is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
    start = torch.where(is_new, place, 0).cummax(1).values
    return torch.empty_like(groups).scatter_(1, order, place - start)


def _largest(keys: Tensor, k: int) -> Tensor:
    return keys.topk(min(k, len(keys)), dim=0).values


def _best_per_origin(keys: Tensor, origins: Tensor, per_origin: int) -> Iterator[Tensor]:
    """The strongest, second strongest … view of each original, `per_origin` times (origin, component)."""
    unique, where = origins.unique(return_inverse=True)
    if len(unique) == len(keys):  # every sample is an original
        yield keys
        return
    index = where.unsqueeze(1).expand_as(keys)
    for turn in range(per_origin):
        best = torch.full((len(unique), keys.shape[1]), _EMPTY, dtype=torch.int64)
        best.scatter_reduce_(0, index, keys, "amax")
        yield best
        if turn + 1 < per_origin:
            keys = torch.where(keys == best.gather(0, index), _EMPTY, keys)


def _without_surplus(keys: Tensor, origin_of: Tensor, per_origin: int) -> Tensor:
    """Empty the slots of views beyond `per_origin` stronger ones of the same original."""
    keys = keys.sort(dim=0, descending=True).values
    _, ids = unpack(keys)
    origins = torch.where(ids >= 0, origin_of[ids.clamp(min=0)], -1)
    for row in range(1, len(keys)):
        stronger = (origins[:row] == origins[row]).sum(0)
        keys[row] = torch.where((stronger >= per_origin) & (origins[row] >= 0), _EMPTY, keys[row])
        origins[row] = torch.where(keys[row] == _EMPTY, -1, origins[row])
    return keys


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
