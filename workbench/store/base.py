"""What every store can do: keep arrays under the recipe that made them, and say what it keeps.

`Store` is the contract; `MemoryStore`, `DiskStore` and `TieredStore` (memory over disk, what `Store.open` gives) fulfil
it and pass `workbench.testing.store_suite`. `ShardSet` holds one result that grows piece by piece.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from workbench.core.errors import BadValueError
from workbench.store.recipe import Recipe, shorten
from workbench.store.words import count, day, size, when

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.core.progress import Progress
    from workbench.store.shardset import ShardSet
    from workbench.store.tiered import TieredStore

__all__ = ["Arrays", "Damage", "Entry", "Make", "Store", "check_limits", "entry_of", "matches", "split"]

Arrays: TypeAlias = Mapping[str, Any]
Make: TypeAlias = Callable[[], "Arrays | tuple[Arrays, Mapping[str, Any]]"]


@dataclass(frozen=True)
class Entry:
    """One stored result, as listed.

    Attributes
    ----------
    digest, kind, title, model, data, layer : str
        From its recipe.
    bytes : int
        On disk or in memory.
    made, last_used : datetime
        In UTC. The last use is kept to within a minute.
    n_samples : int or None
        Samples it covers, where its producer said so (``meta["n_samples"]``).
    is_pass : bool
        Whether it is a set of shards.
    is_complete : bool
        False for a pass that has not ended.
    coverage : float
        Share of the samples that is there, 0 to 1.
    used_by : tuple of str
        Who used it.
    where : {"memory", "disk"}
    """

    digest: str
    kind: str
    title: str
    model: str
    data: str
    layer: str
    bytes: int
    made: datetime
    last_used: datetime
    n_samples: int | None = None
    is_pass: bool = False
    is_complete: bool = True
    coverage: float = 1.0
    used_by: tuple[str, ...] = ()
    where: str = "disk"

    @property
    def name(self) -> str:
        """The title, or kind and layer."""
        return self.title or f"{self.kind}{f' of {self.layer}' if self.layer else ''}"

    def explain(self) -> str:
        """One sentence: when, from what, how much, where, for whom."""
        sources = " and ".join(shorten(v) for v in (self.model, self.data) if v)
        facts = [f"made {day(self.made)}{f' from {sources}' if sources else ''}"]
        if not self.is_complete:
            facts.append(f"unfinished, {self.coverage:.0%} of the samples")
        if self.n_samples is not None:
            facts.append(count(self.n_samples, "sample"))
        facts += [size(self.bytes), "on disk" if self.where == "disk" else "in memory only"]
        return ", ".join(facts) + (f"; used by {', '.join(self.used_by)}" if self.used_by else "")


@dataclass(frozen=True)
class Damage:
    """A stored file that is not as it was written."""

    digest: str
    path: Path
    reason: str


class Store(ABC):
    """Maps recipes to arrays. Safe to use from several threads, and on disk from several processes.

    Arrays that a store hands out are shared with it: treat them as read-only. One that was changed in place is noticed
    (torch counts changes) and read or made anew.
    """

    @staticmethod
    def open(
        path: str | Path | None = None,
        *,
        disk_gb: float | None = None,
        memory_gb: float | None = None,
        read_only: bool | None = None,
    ) -> TieredStore:
        """Open the store in a folder, which need not exist yet.

        Parameters
        ----------
        path : path, optional
            Folder. Default: WORKBENCH_STORE, else the user's cache folder.
        disk_gb, memory_gb : float, optional
            Budgets in 10^9 bytes. Default: WORKBENCH_STORE_GB (20), WORKBENCH_MEMORY_GB (1).
        read_only : bool, optional
            Default: whether the folder may not be written.

        Raises
        ------
        StoreError
            If a newer version of the package wrote the folder, or if it is none.
        """
        from workbench.store.tiered import TieredStore

        return TieredStore(path, disk_gb=disk_gb, memory_gb=memory_gb, read_only=read_only)

    @abstractmethod
    def get(self, recipe: Recipe) -> dict[str, Tensor] | None:
        """Return the arrays, mapped from disk where possible, or None if they are not stored.

        Raises
        ------
        DamagedEntryError
            If they are stored and damaged.
        """

    @abstractmethod
    def put(self, recipe: Recipe, arrays: Arrays, *, meta: Mapping[str, Any] | None = None, used_by: str = "") -> None:
        """Store arrays, replacing what was there.

        Parameters
        ----------
        recipe : Recipe
            How they came to be.
        arrays : mapping of str to torch tensor or numpy array
            They come back as torch tensors.
        meta : mapping, optional
            JSON-able notes; ``n_samples`` is shown in lists.
        used_by : str
            For whom, for `explain`.

        Raises
        ------
        StoreFullError, ReadOnlyStoreError
            If they cannot be stored; what was there before is intact.
        """

    @abstractmethod
    def get_or_make(self, recipe: Recipe, make: Make, *, used_by: str = "") -> dict[str, Tensor]:
        """Return the arrays; if they are not stored, or damaged, call `make` and store what it returns.

        `make` returns the arrays, or arrays and meta. It runs in one thread of one process at a time, the others wait
        and read. When the result cannot be stored for want of space, the error is raised, and the arrays stay in the
        memory tier if there is one, so that a second call returns them.
        """

    @abstractmethod
    def meta(self, recipe: Recipe) -> dict[str, Any] | None:
        """Return the notes stored with the arrays, or None if there are no such arrays."""

    @abstractmethod
    def delete(self, recipe: Recipe) -> bool:
        """Remove what is stored under a recipe, a pass included; whether there was something."""

    @abstractmethod
    def shards(
        self,
        recipe: Recipe,
        bounds: Sequence[tuple[int, int]] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> ShardSet:
        """Return the set of shards under a recipe, stored or to be.

        Parameters
        ----------
        recipe : Recipe
            How they come to be.
        bounds : sequence of (start, stop), optional
            The samples of each shard, stop exclusive. Not needed for a set that has been begun.
        meta : mapping, optional
            JSON-able notes on the whole.

        Raises
        ------
        StaleError
            If a set was begun under this recipe with other bounds.
        StoreError
            If there is none and no bounds are given.
        """

    @abstractmethod
    def link(self, recipe: Recipe, to: Recipe) -> None:
        """Note that what `recipe` names is found in `to`."""

    @abstractmethod
    def resolve(self, recipe: Recipe) -> Recipe | None:
        """Return the recipe under which it is stored: itself, or where its link leads; None if it is not stored."""

    def linked_layers(self, like: Recipe) -> set[str] | None:
        """Layers that have links of their own, among recipes of the kind, model and data of `like`; None if unknown."""
        return None

    @abstractmethod
    def entries(self) -> list[Entry]:
        """List all results, newest first."""

    @abstractmethod
    def stats(self) -> dict[str, dict[str, Any]]:
        """Return per tier: hits, misses, evictions, bytes, budget_bytes, entries and more."""

    @abstractmethod
    def prune(
        self, max_bytes: int | None = None, older_than_days: float | None = None, *, dry_run: bool = False
    ) -> list[Entry]:
        """Remove what was not used for long.

        Parameters
        ----------
        max_bytes : int, optional
            Remove the least recently used until so much is left. Default: the budget, unless an age is given.
        older_than_days : float, optional
            Remove everything not used for so long.
        dry_run : bool
            Only say what would go.

        Returns
        -------
        list of Entry
            What went. Passes that a live process is writing stay.
        """

    @abstractmethod
    def clean(
        self, model: str | None = None, data: str | None = None, *, everything: bool = False, dry_run: bool = False
    ) -> list[Entry]:
        """Remove all results of a model, of a data set, of both together, or everything.

        `model` and `data` are names, digests (six digits or more), or ``name@digest``.
        """

    @abstractmethod
    def shrink(self, tier: str = "memory", to_bytes: int = 0) -> int:
        """Make a tier smaller, least recently used first; return the bytes freed."""

    @abstractmethod
    def verify(self, *, progress: Progress | None = None) -> list[Damage]:
        """Compare every stored file with its checksums."""

    def __contains__(self, recipe: Recipe) -> bool:
        return self.resolve(recipe) is not None

    def explain(self, recipe: Recipe | str) -> str:
        """Say in one sentence what is stored under a recipe or a digest (six digits or more)."""
        entry = self.entry(recipe)
        if entry is not None:
            return entry.explain()
        if isinstance(recipe, Recipe):
            target = self.resolve(recipe)
            found = self.entry(target) if target is not None else None
            if target is not None and found is not None:
                return f"part of {found.name} ({target.short}), {found.explain()}"
            return f"not stored: {recipe.describe()}"
        return f"not stored: {recipe}"

    def entry(self, recipe: Recipe | str) -> Entry | None:
        """Return the record of one result, by recipe or digest; None if there is none.

        Raises
        ------
        BadValueError
            If the digits given begin several digests, or are fewer than six.
        """
        digest = recipe.digest if isinstance(recipe, Recipe) else str(recipe).strip().rstrip("…").lower()
        if len(digest) < 6:
            raise BadValueError(f"Give at least six digits of a digest; got {digest!r}.")
        found = [e for e in self._entries_named(digest) if e.digest.startswith(digest)]
        if len(found) > 1:
            raise BadValueError(f"{digest} begins the digests of {len(found)} results.", hint="Give more digits.")
        return found[0] if found else None

    def _entries_named(self, digest: str) -> Iterable[Entry]:
        return self.entries()


def split(made: Any) -> tuple[Arrays, Mapping[str, Any]]:
    """Take apart what a `make` returned: arrays, or arrays and meta."""
    if isinstance(made, tuple) and len(made) == 2 and all(isinstance(m, Mapping) for m in made):
        return made
    if isinstance(made, Mapping):
        return made, {}
    raise BadValueError(
        f"`make` returned a {type(made).__name__}.", hint="It must return named arrays, or a pair of arrays and meta."
    )


def entry_of(record: Mapping[str, Any], *, n_bytes: int, last_used: datetime, where: str = "disk") -> Entry:
    """Make the listed record of a result from its sidecar."""
    recipe, meta = record["recipe"], record["meta"]
    n_samples = meta.get("n_samples")
    return Entry(
        digest=record["digest"],
        bytes=n_bytes,
        made=when(record["made"]),
        last_used=last_used,
        n_samples=n_samples if isinstance(n_samples, int) else None,
        used_by=tuple(record.get("used_by", ())),
        where=where,
        **{name: recipe.get(name, "") for name in ("kind", "title", "model", "data", "layer")},
    )


def check_limits(max_bytes: float | None, older_than_days: float | None) -> None:
    """Refuse limits of `prune` that mean nothing."""
    for name, value in (("max_bytes", max_bytes), ("older_than_days", older_than_days)):
        if value is not None and not value >= 0:
            raise BadValueError(f"`{name}` must be at least 0; got {value!r}.")


def matches(recipe: Mapping[str, Any], model: str | None, data: str | None) -> bool:
    """Whether a recipe, as JSON, is of this model and of this data set, where they are given."""
    return all(
        wanted is None or _names(str(recipe.get(field, "")), wanted)
        for field, wanted in (("model", model), ("data", data))
    )


def _names(identity: str, wanted: str) -> bool:
    wanted = wanted.strip().rstrip("…")
    name, _, digest = identity.rpartition("@")
    is_digest = len(wanted) >= 6 and digest.startswith(wanted)
    is_both = bool(name) and wanted.startswith(f"{name}@") and identity.startswith(wanted)
    return bool(wanted) and (wanted in (identity, name) or is_digest or is_both)
