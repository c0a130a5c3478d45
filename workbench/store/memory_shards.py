"""A set of shards in memory, for stores that write nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from workbench.core.errors import StoreError
from workbench.store.base import Entry, entry_of
from workbench.store.parts import as_tensors, n_bytes
from workbench.store.recipe import Recipe, as_json
from workbench.store.shardset import ShardSet
from workbench.store.words import now, stamp

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.store.memory import MemoryStore

__all__ = ["MemoryShards", "Pile"]


class Pile:
    """What all views of one set of shards share."""

    def __init__(self) -> None:
        self.lock, self.made = threading.Lock(), now()
        self.parts: dict[int, tuple[dict[str, Tensor], dict[str, Any]]] = {}
        self.sealed: dict[str, Any] | None = None


class MemoryShards(ShardSet):
    """A set of shards in memory; never dropped to make room."""

    def __init__(
        self,
        store: MemoryStore,
        recipe: Recipe,
        bounds: Sequence[tuple[int, int]],
        meta: Mapping[str, Any],
        pile: Pile,
    ):
        super().__init__(recipe, bounds, meta)
        self._store, self.pile, self._is_locked = store, pile, False

    @property
    def missing(self) -> list[int]:
        return [i for i in range(len(self)) if i not in self.pile.parts]

    @property
    def sealed(self) -> dict[str, Any] | None:
        return self.pile.sealed

    @property
    def bytes(self) -> int:
        return sum(n_bytes(arrays) for arrays, _ in list(self.pile.parts.values()))

    def write(self, i: int, arrays: Mapping[str, Any], meta: Mapping[str, Any] | None = None) -> None:
        self._check_index(i)
        notes = as_json(meta or {}, "meta", allow_nan=True)
        copies = as_tensors(arrays)
        with self._writing():
            self._store.begin(self, n_bytes(copies))
            self.pile.parts[i] = copies, notes

    def read(self, i: int, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        self._check_index(i)
        if i not in self.pile.parts:
            raise self._missing_shard(i)
        arrays = self.pile.parts[i][0]
        self._check_names(names, list(arrays))
        return {name: arrays[name] for name in (arrays if names is None else names)}

    def shard_meta(self, i: int) -> dict[str, Any] | None:
        self._check_index(i)
        return dict(self.pile.parts[i][1]) if i in self.pile.parts else None

    def seal(self, meta: Mapping[str, Any] | None = None) -> None:
        sealed = as_json(meta or {}, "meta", allow_nan=True)
        with self._writing():
            self._check_complete()
            self._store.begin(self, 0)
            self.pile.sealed = sealed

    @contextmanager
    def lock(self) -> Iterator[None]:
        if not self.pile.lock.acquire(timeout=0.5):
            raise StoreError(
                f"{self.recipe.describe()} is being written by another thread of this process.",
                hint="Wait until it ends, or stop it; what it finished is kept.",
            )
        self._is_locked = True
        try:
            yield
        finally:
            self._is_locked = False
            self.pile.lock.release()

    def entry(self) -> Entry:
        """The listed record of the set."""
        record = {"digest": self.recipe.digest, "recipe": self.recipe.to_json(), "meta": self.meta}
        entry = entry_of({**record, "made": stamp(self.pile.made)}, n_bytes=self.bytes, last_used=now(), where="memory")
        there = sum(self.bounds[i][1] - self.bounds[i][0] for i in self.pile.parts)
        return replace(entry, n_samples=there, is_pass=True, is_complete=self.is_complete, coverage=self.coverage)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if self._is_locked:
            yield
        else:
            with self.lock():
                yield

    def _present(self, *, sizes: bool = False) -> set[int]:
        return set(self.pile.parts)

    def _array_names(self, i: int) -> list[str]:
        return list(self.pile.parts[i][0])
