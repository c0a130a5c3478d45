"""The store in memory: the quick tier above a disk, or all there is where nothing shall be written."""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from workbench.core.config import settings
from workbench.core.errors import BadValueError, StaleError, StoreError, StoreFullError
from workbench.store.base import Arrays, Damage, Entry, Make, Store, check_limits, entry_of, matches, split
from workbench.store.locks import KeyedLocks
from workbench.store.memory_shards import MemoryShards, Pile
from workbench.store.parts import as_tensors, n_bytes
from workbench.store.recipe import Recipe, as_json
from workbench.store.shardset import ShardSet, checked_bounds
from workbench.store.words import count, now, size, stamp, when

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.core.progress import Progress

__all__ = ["MemoryStore"]

logger = logging.getLogger(__name__)


@dataclass
class _Kept:
    recipe: Recipe
    arrays: dict[str, Tensor]
    meta: dict[str, Any]
    used_by: list[str]
    is_saved: bool  # on disk too, so that it need not be listed twice
    made: str = field(default_factory=lambda: stamp(now()))
    used: float = field(default_factory=time.time)

    def __post_init__(self) -> None:
        self.bytes = n_bytes(self.arrays)
        self.versions = self._versions()

    @property
    def is_unchanged(self) -> bool:
        """Whether nobody wrote into the arrays: torch counts changes in place."""
        return self.versions == self._versions()

    def _versions(self) -> list[int]:
        return [a._version for a in self.arrays.values()]


class MemoryStore(Store):
    """Results in memory, least recently used dropped first when the budget is exceeded. See `Store`.

    Parameters
    ----------
    budget_bytes : int, optional
        Default: the setting ``memory_gb``. Mapped files count in full, though the system gives their memory back.
    """

    def __init__(self, *, budget_bytes: int | None = None):
        self.budget_bytes = int(settings().memory_gb * 1e9) if budget_bytes is None else int(budget_bytes)
        if self.budget_bytes < 0:
            raise BadValueError(f"The budget of the memory tier must be at least 0; got {self.budget_bytes} bytes.")
        self.counts = {"hits": 0, "misses": 0, "evictions": 0}
        self._lock = threading.RLock()
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._shards: dict[str, MemoryShards] = {}
        self._links: dict[str, Recipe] = {}
        self._making = KeyedLocks()

    # --- reading and writing -----------------------------------------------------------------------------------------

    def get(self, recipe: Recipe) -> dict[str, Tensor] | None:
        found = self.find(recipe)
        with self._lock:
            self.counts["hits" if found is not None else "misses"] += 1
        return found

    def find(self, recipe: Recipe) -> dict[str, Tensor] | None:
        """As `get`, without counting."""
        with self._lock:
            kept = self._kept.get(recipe.digest)
            if kept is None:
                return None
            if not kept.is_unchanged:
                logger.warning(
                    "arrays of %s were changed in place by whoever got them; they are dropped from memory",
                    recipe.describe(),
                )
                del self._kept[recipe.digest]
                return None
            kept.used = time.time()
            self._kept.move_to_end(recipe.digest)
            return dict(kept.arrays)

    def put(self, recipe: Recipe, arrays: Arrays, *, meta: Mapping[str, Any] | None = None, used_by: str = "") -> None:
        notes = as_json(meta or {}, "meta", allow_nan=True)
        copies = as_tensors(arrays)
        if not self.admit(recipe, copies, meta=notes, used_by=used_by):
            raise StoreFullError(
                f"{recipe.describe()} needs {size(n_bytes(copies))}, and the budget of the memory store is "
                f"{size(self.budget_bytes)}.",
                hint="Raise `memory_gb` or WORKBENCH_MEMORY_GB.",
            )

    def admit(
        self,
        recipe: Recipe,
        arrays: dict[str, Tensor],
        *,
        meta: Mapping[str, Any] | None = None,
        used_by: str = "",
        is_saved: bool = False,
    ) -> bool:
        """Keep tensors as they are, without a copy; whether they fit the budget."""
        kept = _Kept(recipe, dict(arrays), dict(meta or {}), [used_by] if used_by else [], is_saved)
        with self._lock:
            pinned = sum(s.bytes for s in self._shards.values())
            if kept.bytes + pinned > self.budget_bytes:
                return False
            self._kept.pop(recipe.digest, None)
            self._make_room(self.budget_bytes - kept.bytes - pinned)
            self._kept[recipe.digest] = kept
        return True

    def get_or_make(self, recipe: Recipe, make: Make, *, used_by: str = "") -> dict[str, Tensor]:
        found = self.get(recipe)
        if found is None:
            with self._making.hold(recipe.digest, recursion=f"Making {recipe.describe()} asks for its own result."):
                found = self.find(recipe)
                if found is None:
                    arrays, meta = split(make())
                    self.put(recipe, arrays, meta=meta, used_by=used_by)
                    found = self.find(recipe) or as_tensors(arrays)
        with self._lock:
            kept = self._kept.get(recipe.digest)
            if used_by and kept is not None and used_by not in kept.used_by:
                kept.used_by.append(used_by)
        return found

    def meta(self, recipe: Recipe) -> dict[str, Any] | None:
        with self._lock:
            kept = self._kept.get(recipe.digest)
            return None if kept is None else as_json(kept.meta, allow_nan=True)

    def delete(self, recipe: Recipe) -> bool:
        with self._lock:
            had = self.resolve(recipe) is not None
            self.discard(recipe.digest)
            self._shards.pop(recipe.digest, None)
            self._links.pop(recipe.digest, None)
        return had

    def discard(self, digest: str) -> None:
        """Drop one result from memory."""
        with self._lock:
            self._kept.pop(digest, None)

    # --- shards and links --------------------------------------------------------------------------------------------

    def shards(
        self,
        recipe: Recipe,
        bounds: Sequence[tuple[int, int]] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> ShardSet:
        wanted = None if bounds is None else checked_bounds(bounds)
        with self._lock:
            begun = self._shards.get(recipe.digest)
            if begun is None:
                if wanted is None:
                    raise StoreError(f"No pass is stored for {recipe.describe()}.", hint="Run the sweep.")
                return MemoryShards(self, recipe, wanted, as_json(meta or {}, "meta", allow_nan=True), Pile())
            if wanted is not None and begun.bounds != wanted:
                raise StaleError(
                    f"{recipe.describe()} was begun with {count(len(begun), 'shard')} and other bounds.",
                    hint="Ask for the same bounds, or remove it first with `store.delete(recipe)`.",
                )
            return MemoryShards(self, recipe, begun.bounds, begun.meta, begun.pile)

    def begin(self, shards: MemoryShards, needed: int) -> None:
        """Make room for a shard, and list its set."""
        with self._lock:
            pinned = sum(s.bytes for s in self._shards.values())
            if pinned + needed > self.budget_bytes:
                raise StoreFullError(
                    f"The shards in memory would need {size(pinned + needed)}, and the budget is "
                    f"{size(self.budget_bytes)}.",
                    hint="Raise `memory_gb` or WORKBENCH_MEMORY_GB, or use a store on disk.",
                )
            self._make_room(self.budget_bytes - pinned - needed)
            self._shards.setdefault(shards.recipe.digest, shards)

    def link(self, recipe: Recipe, to: Recipe) -> None:
        if recipe == to:
            raise BadValueError(f"{recipe.describe()} cannot be a link to itself.")
        with self._lock:
            self._links[recipe.digest] = to

    def resolve(self, recipe: Recipe) -> Recipe | None:
        with self._lock:
            for candidate in (recipe, self._links.get(recipe.digest)):
                if candidate is not None and (candidate.digest in self._kept or candidate.digest in self._shards):
                    return candidate
        return None

    # --- looking after it --------------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        with self._lock:
            found = [_entry(k) for k in self._kept.values()] + [s.entry() for s in self._shards.values()]
        return sorted(found, key=lambda e: (e.made, e.last_used), reverse=True)

    def unsaved(self) -> list[Entry]:
        """What is in memory only."""
        with self._lock:
            return [_entry(k) for k in self._kept.values() if not k.is_saved]

    def is_saved(self, recipe: Recipe) -> bool:
        """Whether a result in memory came from disk."""
        with self._lock:
            kept = self._kept.get(recipe.digest)
            return kept is None or kept.is_saved

    def stats(self) -> dict[str, dict[str, Any]]:
        with self._lock:
            n = sum(k.bytes for k in self._kept.values()) + sum(s.bytes for s in self._shards.values())
            tier = {
                **self.counts,
                "bytes": n,
                "budget_bytes": self.budget_bytes,
                "entries": len(self._kept),
                "passes": len(self._shards),
            }
        return {"memory": tier}

    def prune(
        self, max_bytes: int | None = None, older_than_days: float | None = None, *, dry_run: bool = False
    ) -> list[Entry]:
        check_limits(max_bytes, older_than_days)
        with self._lock:
            left = sum(k.bytes for k in self._kept.values())
            limit = max_bytes if max_bytes is not None else self.budget_bytes if older_than_days is None else left
            before = -float("inf") if older_than_days is None else time.time() - older_than_days * 86_400
            gone = []
            for digest, kept in list(self._kept.items()):
                if not (left > limit or kept.used < before):
                    break
                gone.append(_entry(kept))
                left -= kept.bytes
                if not dry_run:
                    self._drop(digest)
        return gone

    def clean(
        self, model: str | None = None, data: str | None = None, *, everything: bool = False, dry_run: bool = False
    ) -> list[Entry]:
        if not everything and not model and not data:
            raise BadValueError("`clean` needs a model, a data set, or `everything=True`.")
        with self._lock:
            gone = [e for e in self.entries() if everything or matches(vars(e), model, data)]
            if not dry_run:
                for entry in gone:
                    self._kept.pop(entry.digest, None)
                    self._shards.pop(entry.digest, None)
                self._links = {d: to for d, to in self._links.items() if self.resolve(to) is not None}
        return gone

    def shrink(self, tier: str = "memory", to_bytes: int = 0) -> int:
        if tier != "memory":
            raise BadValueError(f'This store has the tier "memory" only; got {tier!r}.')
        return sum(e.bytes for e in self.prune(max_bytes=to_bytes))

    def verify(self, *, progress: Progress | None = None) -> list[Damage]:
        return []

    def _make_room(self, budget: int) -> None:
        while self._kept and sum(k.bytes for k in self._kept.values()) > budget:
            self._drop(next(iter(self._kept)))

    def _drop(self, digest: str) -> None:
        del self._kept[digest]
        self.counts["evictions"] += 1


def _entry(kept: _Kept) -> Entry:
    record = {
        "digest": kept.recipe.digest,
        "recipe": kept.recipe.to_json(),
        "made": kept.made,
        "meta": kept.meta,
        "used_by": kept.used_by,
    }
    return entry_of(record, n_bytes=kept.bytes, last_used=when(kept.used), where="memory")
