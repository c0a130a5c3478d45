"""A set of shards in a folder: ``pass.json`` says what it is, each shard is an item of its own."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.errors import BadValueError, DamagedEntryError, StaleError, StoreError
from workbench.store import items
from workbench.store.files import read_json, write_json
from workbench.store.locks import exclusive
from workbench.store.parts import as_parts
from workbench.store.recipe import Recipe, as_json
from workbench.store.shardset import ShardSet, checked_bounds
from workbench.store.words import count

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.store.disk import DiskStore

__all__ = ["DiskShards"]

logger = logging.getLogger(__name__)


class DiskShards(ShardSet):
    """See `ShardSet`; `DiskStore.shards` gives one."""

    def __init__(self, store: DiskStore, recipe: Recipe, bounds: Sequence[tuple[int, int]], meta: Mapping[str, Any]):
        super().__init__(recipe, bounds, as_json(meta, "meta", allow_nan=True))
        self.store = store
        self.folder = store.path / "passes" / recipe.digest
        self._is_locked = False
        self._touched = -float("inf")

    @classmethod
    def open(
        cls, store: DiskStore, recipe: Recipe, bounds: Sequence[tuple[int, int]] | None, meta: Mapping[str, Any]
    ) -> DiskShards:
        """Open the set that was begun under `recipe`, or prepare one with these bounds; nothing is written yet."""
        wanted = None if bounds is None else checked_bounds(bounds)
        try:
            record = read_json(store.path / "passes" / recipe.digest / "pass.json")
        except DamagedEntryError as error:
            if wanted is None or store.read_only:
                raise
            logger.warning("%s The pass is begun anew.", error.message)
            store.count("damaged")
            store.delete(recipe)
            record = None
        if record is None:
            if wanted is None:
                raise StoreError(f"No pass is stored for {recipe.describe()}.", hint="Run the sweep.")
            return cls(store, recipe, wanted, meta)
        begun = store.shards_of(record)
        if wanted is not None and begun.bounds != wanted:
            raise StaleError(
                f"{recipe.describe()} was begun with {count(len(begun), 'shard')} over "
                f"{count(begun.n_samples, 'sample')}, and {count(len(wanted), 'shard')} over "
                f"{count(sum(b - a for a, b in wanted), 'sample')} are asked for.",
                hint="Ask for the same bounds, or remove it first with `store.delete(recipe)`.",
            )
        return begun

    @property
    def missing(self) -> list[int]:
        present = self._present()
        return [i for i in range(len(self)) if i not in present or not self._is_intact(i)]

    @property
    def sealed(self) -> dict[str, Any] | None:
        record = self._record()
        return None if record is None else record["sealed"]

    @property
    def bytes(self) -> int:
        total = 0
        with suppress(FileNotFoundError), os.scandir(self.folder) as found:
            total = sum(e.stat().st_size for e in found if not e.name.startswith(".") and "damaged" not in e.name)
        return total

    def write(self, i: int, arrays: Mapping[str, Any], meta: Mapping[str, Any] | None = None) -> None:
        self._check_index(i)
        parts = as_parts(arrays)
        with self._writing():
            self._begin()
            needed = self.bytes + sum(p.data.nbytes for p in parts)
            self.store.check_budget(needed, f"{self.recipe.describe()} with shard {i}")
            record = {**self.store.record(self.recipe, meta or {}, ""), "shard": i, "bounds": list(self.bounds[i])}
            sidecar = items.write_item(self.folder, _stem(i), parts, record)
            n_added = items.size_of(self.folder, _stem(i), sidecar)
            self.store.housekeeping.wrote("pass", self.recipe.digest, n_added, self.folder, is_added=True)
            self._touch()

    def read(self, i: int, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        self._check_index(i)
        try:
            self._check_names(names, self._array_names(i))
            found = items.read_item(self.folder, _stem(i), names)
        except DamagedEntryError as error:
            self._set_aside(i, error)  # so that the set is incomplete from now on, and a sweep makes it whole
            error.hint = "Run the sweep again: only this shard is made anew."
            raise
        if found is None:
            raise self._missing_shard(i)
        self._touch()
        return found[0]

    def path(self, i: int) -> Path | None:
        """The file of one shard; None if it is not there."""
        return items.data_file_of(self.folder, _stem(i))

    def shard_meta(self, i: int) -> dict[str, Any] | None:
        self._check_index(i)
        sidecar = read_json(self.folder / f"{_stem(i)}.json")
        return None if sidecar is None else sidecar["meta"]

    def seal(self, meta: Mapping[str, Any] | None = None) -> None:
        sealed = as_json(meta or {}, "meta", allow_nan=True)
        with self._writing():
            self._check_complete()
            self._begin()
            write_json(self._head, {**(self._record() or {}), "sealed": sealed})
        logger.info("complete: %s, %s", self.recipe.describe(), count(self.n_samples, "sample"))

    @contextmanager
    def lock(self) -> Iterator[None]:
        self.store.prepare()
        with exclusive(self.store.pass_lock(self.recipe.digest), what=self.recipe.describe(), wait=False):
            self._is_locked = True
            try:
                yield
            finally:
                self._is_locked = False

    @property
    def _head(self) -> Path:
        return self.folder / "pass.json"

    @contextmanager
    def _writing(self) -> Iterator[None]:
        if self._is_locked:  # also threads that help whoever holds it
            yield
        else:
            with self.lock():
                yield

    def _record(self) -> dict[str, Any] | None:
        return read_json(self._head)

    def _begin(self) -> None:
        """Write down what the set is, before its first shard."""
        self.store.prepare()
        record = self._record()
        if record is None:
            bounds = [list(pair) for pair in self.bounds]
            head = {**self.store.record(self.recipe, self.meta, ""), "bounds": bounds, "sealed": None}
            write_json(self._head, head)
        elif checked_bounds(record["bounds"]) != self.bounds:
            raise StaleError(
                f"Another process began {self.recipe.describe()} with other bounds meanwhile.",
                hint="Ask the store for the set again.",
            )

    def _present(self, *, sizes: bool = False) -> set[int]:
        with suppress(FileNotFoundError), os.scandir(self.folder) as found:
            names = {entry.name for entry in found}
            there = {i for i in range(len(self)) if f"{_stem(i)}.json" in names}
            return {i for i in there if self._is_intact(i, fully=False)} if sizes else there
        return set()

    def _array_names(self, i: int) -> list[str]:
        sidecar = read_json(self.folder / f"{_stem(i)}.json")
        if sidecar is None:
            raise self._missing_shard(i)
        return list(sidecar["arrays"])

    def _is_intact(self, i: int, *, fully: bool = True) -> bool:
        try:
            sidecar = items.check_item(self.folder, _stem(i), fully=fully)
            if sidecar is None or tuple(sidecar["bounds"]) == self.bounds[i]:
                return sidecar is not None
            error: Exception = StaleError(f"Shard {i} in {self.folder} covers {sidecar['bounds']}.")
        except DamagedEntryError as damage:
            error = damage
        if fully:
            self._set_aside(i, error)
        return False

    def _set_aside(self, i: int, error: Exception) -> None:
        self.store.count("damaged")
        if self.store.read_only:
            logger.warning("%s The store is read-only, so it stays.", error)
            return
        logger.warning("%s It is set aside; shard %d is to be made anew.", getattr(error, "message", error), i)
        items.set_aside(self.folder, _stem(i))
        record = self._record()
        if record is not None and record["sealed"] is not None:
            write_json(self._head, {**record, "sealed": None})

    def _touch(self) -> None:
        """Note the use, at most once a second."""
        if not self.store.read_only and time.monotonic() - self._touched > 1:
            self._touched = time.monotonic()
            with suppress(OSError):
                moment = time.time_ns()
                os.utime(self._head, ns=(moment, moment))
            self.store.housekeeping.used("pass", self.recipe.digest)


def shards_of(store: DiskStore, record: Mapping[str, Any]) -> DiskShards:
    """The set that a ``pass.json`` describes."""
    try:
        return DiskShards(store, Recipe.from_json(record["recipe"]), record["bounds"], record["meta"])
    except (KeyError, BadValueError) as error:
        raise StoreError(f"{record.get('digest')} is no pass that this version can read.") from error


def _stem(i: int) -> str:
    return f"shard-{i:05d}"
