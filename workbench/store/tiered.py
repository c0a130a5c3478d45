"""Memory over disk: what `Store.open` gives. Results are mapped from disk once and then found in memory."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.config import settings
from workbench.core.errors import BadValueError, ReadOnlyStoreError, StoreError, StoreFullError
from workbench.store.base import Arrays, Damage, Entry, Make, Store, split
from workbench.store.disk import DiskStore
from workbench.store.locks import KeyedLocks
from workbench.store.memory import MemoryStore
from workbench.store.parts import as_tensors
from workbench.store.recipe import Recipe
from workbench.store.words import size

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.core.progress import Progress
    from workbench.store.shards import DiskShards

__all__ = ["TieredStore"]

logger = logging.getLogger(__name__)

_TELL_DISK_S = 60.0


class TieredStore(Store):
    """A `MemoryStore` over a `DiskStore`. See `Store.open`.

    Attributes
    ----------
    memory : MemoryStore
    disk : DiskStore
    path : Path
        Folder of the disk tier.
    read_only : bool
        Then what is made stays in memory.
    """

    def __init__(
        self,
        path: str | Path | None = None,
        *,
        disk_gb: float | None = None,
        memory_gb: float | None = None,
        read_only: bool | None = None,
    ):
        chosen = settings(store=path, store_gb=disk_gb, memory_gb=memory_gb)
        self.disk = DiskStore(chosen.store, budget_bytes=int(chosen.store_gb * 1e9), read_only=read_only)
        self.memory = MemoryStore(budget_bytes=int(chosen.memory_gb * 1e9))
        self.disk.housekeeping.on_removed.append(self.memory.discard)
        self._making = KeyedLocks()
        self._told: dict[str, float] = {}

    @property
    def path(self) -> Path:
        """Folder of the disk tier."""
        return self.disk.path

    @property
    def read_only(self) -> bool:
        """Whether nothing may be written to disk."""
        return self.disk.read_only

    def __repr__(self) -> str:
        tiers = self.stats()
        memory, disk = tiers["memory"], tiers["disk"]
        return (
            f"<store {self.path}: {size(disk['bytes'])} of {size(disk['budget_bytes'])} on disk, "
            f"{size(memory['bytes'])} of {size(memory['budget_bytes'])} in memory>"
        )

    # --- reading and writing -----------------------------------------------------------------------------------------

    def get(self, recipe: Recipe) -> dict[str, Tensor] | None:
        found = self.memory.get(recipe)
        if found is not None:
            self._tell_disk(recipe, found)
            return found
        found = self.disk.get(recipe)
        if found is not None:
            self.memory.admit(recipe, found, is_saved=True)
        return found

    def put(self, recipe: Recipe, arrays: Arrays, *, meta: Mapping[str, Any] | None = None, used_by: str = "") -> None:
        self.disk.put(recipe, arrays, meta=meta, used_by=used_by)
        self.memory.discard(recipe.digest)  # the caller may change these arrays; the next `get` maps those on disk

    def get_or_make(self, recipe: Recipe, make: Make, *, used_by: str = "") -> dict[str, Tensor]:
        found = self.memory.get(recipe)
        if found is None:
            with self._making.hold(recipe.digest, recursion=f"Making {recipe.describe()} asks for its own result."):
                found = self.memory.find(recipe)
                if found is None:
                    return self._from_disk_or_make(recipe, make, used_by)
        self._tell_disk(recipe, found)
        return found

    def meta(self, recipe: Recipe) -> dict[str, Any] | None:
        found = self.disk.meta(recipe)
        return self.memory.meta(recipe) if found is None else found

    def delete(self, recipe: Recipe) -> bool:
        had = self.memory.delete(recipe)
        if self.read_only and had and self.disk.resolve(recipe) is None:
            return True
        return self.disk.delete(recipe) or had

    # --- shards and links --------------------------------------------------------------------------------------------

    def shards(
        self,
        recipe: Recipe,
        bounds: Sequence[tuple[int, int]] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> DiskShards:
        return self.disk.shards(recipe, bounds, meta)

    def link(self, recipe: Recipe, to: Recipe) -> None:
        self.disk.link(recipe, to)

    def resolve(self, recipe: Recipe) -> Recipe | None:
        return self.memory.resolve(recipe) or self.disk.resolve(recipe)

    def linked_layers(self, like: Recipe) -> set[str] | None:
        return self.disk.linked_layers(like)

    # --- looking after it --------------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        return sorted([*self.memory.unsaved(), *self.disk.entries()], key=lambda e: (e.made, e.last_used), reverse=True)

    def stats(self) -> dict[str, dict[str, Any]]:
        return {**self.memory.stats(), **self.disk.stats()}

    def prune(
        self, max_bytes: int | None = None, older_than_days: float | None = None, *, dry_run: bool = False
    ) -> list[Entry]:
        return self.disk.prune(max_bytes, older_than_days, dry_run=dry_run)

    def clean(
        self, model: str | None = None, data: str | None = None, *, everything: bool = False, dry_run: bool = False
    ) -> list[Entry]:
        unsaved = {e.digest for e in self.memory.unsaved()}
        from_memory = self.memory.clean(model, data, everything=everything, dry_run=dry_run)
        gone = [e for e in from_memory if e.digest in unsaved]
        if self.read_only and gone:
            return gone
        return [*gone, *self.disk.clean(model, data, everything=everything, dry_run=dry_run)]

    def shrink(self, tier: str = "memory", to_bytes: int = 0) -> int:
        if tier not in ("memory", "disk"):
            raise BadValueError(f'The tiers of this store are "memory" and "disk"; got {tier!r}.')
        return (self.memory if tier == "memory" else self.disk).shrink(tier, to_bytes)

    def verify(self, *, progress: Progress | None = None) -> list[Damage]:
        return self.disk.verify(progress=progress)

    def _entries_named(self, digest: str) -> list[Entry]:
        return [*self.disk.housekeeping.entries_named(digest), *self.memory.unsaved()]

    def _from_disk_or_make(self, recipe: Recipe, make: Make, used_by: str) -> dict[str, Tensor]:
        made: list[tuple[Arrays, Mapping[str, Any]]] = []

        def remember() -> tuple[Arrays, Mapping[str, Any]]:
            made.append(split(make()))
            return made[0]

        try:
            found = self.disk.get_or_make(recipe, remember, used_by=used_by)
        except (ReadOnlyStoreError, StoreFullError) as error:
            if not made:
                raise
            # What was computed is not lost for want of space.
            arrays, meta = made[0]
            copies = as_tensors(arrays)
            is_kept = self.memory.admit(recipe, copies, meta=meta, used_by=used_by)
            if isinstance(error, ReadOnlyStoreError):
                return copies
            if is_kept:
                error.hint = f"{error.hint} The result is kept in memory: ask again, and it is there.".strip()
            raise
        self.memory.admit(recipe, found, is_saved=True)
        return found

    def _tell_disk(self, recipe: Recipe, arrays: dict[str, Tensor]) -> None:
        """Let the disk know now and then that a result in memory is in use, or save it where that failed before."""
        moment = time.monotonic()
        if self.read_only or moment - self._told.get(recipe.digest, -float("inf")) < _TELL_DISK_S:
            return
        self._told[recipe.digest] = moment
        if self.memory.is_saved(recipe):
            self.disk.touch(recipe.digest)
            return
        try:
            self.put(recipe, arrays, meta=self.memory.meta(recipe))
        except StoreError as error:
            logger.info("%s still cannot be saved: %s", recipe.describe(), error.message)
