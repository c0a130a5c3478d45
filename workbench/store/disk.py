"""The store on disk: one folder, shared by processes, that survives crashes, full disks and upgrades.

::

    store.json                                the format's version
    entries/3f/3f9a….json                     sidecar: recipe, size, checksums, notes
    entries/3f/3f9a….1a2b3c4d.safetensors     the arrays
    passes/77ab…/pass.json                    what a set of shards is, and its seal
    passes/77ab…/shard-00000.json, shard-00000.5e6f7a8b.safetensors
    links/90cd….json                          what is found inside something else
    tags/5b1c….json                           samples that people tagged; no result, hence never pruned
    notes/08fe….json                          labels and notes that people gave to components; never pruned either
    journal/5b1c…-08fe…/3f9a….json, order.json, …  what people pinned; never pruned either
    locks/                                    held only while something is made

Opening reads `store.json` and nothing else; sizes are looked up when a budget first asks for them.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.config import settings
from workbench.core.errors import BadValueError, DamagedEntryError, ReadOnlyStoreError, StoreError, StoreFullError
from workbench.store import items
from workbench.store.base import Arrays, Damage, Entry, Make, Store, split
from workbench.store.files import read_json, remove, write_json
from workbench.store.housekeeping import Housekeeping
from workbench.store.locks import KeyedLocks, exclusive
from workbench.store.parts import as_parts, as_tensors
from workbench.store.recipe import Recipe, as_json
from workbench.store.words import now, size, stamp

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.core.progress import Progress
    from workbench.store.shards import DiskShards

__all__ = ["FORMAT", "DiskStore"]

logger = logging.getLogger(__name__)

FORMAT = 1
"""Version of the folder's layout, and of how digests are made."""


class DiskStore(Store):
    """Results in a folder. See `Store` for what it does, and `Store.open` for the usual way to get one.

    Parameters
    ----------
    path : path, optional
        The folder; made when something is first written. Default: the setting ``store``.
    budget_bytes : int, optional
        Default: the setting ``store_gb``.
    read_only : bool, optional
        Default: whether the folder may not be written.
    """

    def __init__(
        self, path: str | Path | None = None, *, budget_bytes: int | None = None, read_only: bool | None = None
    ):
        chosen = settings(store=path)
        self.path = Path(os.path.abspath(chosen.store))
        self.budget_bytes = int(chosen.store_gb * 1e9) if budget_bytes is None else int(budget_bytes)
        if self.budget_bytes <= 0:
            raise BadValueError(f"The budget of the store must be above zero; got {self.budget_bytes} bytes.")
        self._check_format()
        self.read_only = not _may_write(self.path) if read_only is None else bool(read_only)
        if self.read_only:
            logger.info("the store %s is read-only", self.path)
        self._made = False
        self._lock = threading.RLock()
        self._making = KeyedLocks()
        self.counts = {"hits": 0, "misses": 0, "evictions": 0, "damaged": 0}
        self.housekeeping = Housekeeping(self)

    # --- reading and writing -----------------------------------------------------------------------------------------

    def get(self, recipe: Recipe) -> dict[str, Tensor] | None:
        found = self._read(recipe)
        self.count("hits" if found is not None else "misses")
        return None if found is None else found[0]

    def put(self, recipe: Recipe, arrays: Arrays, *, meta: Mapping[str, Any] | None = None, used_by: str = "") -> None:
        self.prepare()
        with self._making.hold(recipe.digest, recursion=_recursion(recipe)), self._exclusively(recipe):
            self._put(recipe, arrays, meta or {}, used_by)

    def get_or_make(self, recipe: Recipe, make: Make, *, used_by: str = "") -> dict[str, Tensor]:
        try:
            found = self._read(recipe)
        except DamagedEntryError:
            found = None  # looked at again below, where nobody else is making it
        self.count("hits" if found is not None else "misses")
        if found is None:
            with self._making.hold(recipe.digest, recursion=_recursion(recipe)), self._exclusively(recipe):
                found = self._read_or_set_aside(recipe)
                if found is None:
                    arrays, meta = split(make())
                    self._put(recipe, arrays, meta, used_by)
                    # Gone again already when another process had to make room: then from memory.
                    found = self._read(recipe) or (as_tensors(arrays), {"used_by": [used_by]})
        if used_by and used_by not in found[1].get("used_by", ()):
            self._note_use(recipe, used_by)
        return found[0]

    def meta(self, recipe: Recipe) -> dict[str, Any] | None:
        sidecar = read_json(self.folder_of(recipe.digest) / f"{recipe.digest}.json")
        return None if sidecar is None else sidecar["meta"]

    def delete(self, recipe: Recipe) -> bool:
        self.prepare()
        had = self.resolve(recipe) is not None
        self.housekeeping.remove_entry(recipe.digest)
        if (self.path / "passes" / recipe.digest).exists():
            with exclusive(self.pass_lock(recipe.digest), what=recipe.describe(), wait=False):
                self.housekeeping.remove_pass(recipe.digest)
        remove(self.path / "links" / f"{recipe.digest}.json")
        return had

    def touch(self, digest: str) -> None:
        """Note that an entry was used now, also where it was found in memory."""
        if not self.read_only:
            with suppress(OSError):
                moment = time.time_ns()  # the system's own clock for this is coarser
                os.utime(self.folder_of(digest) / f"{digest}.json", ns=(moment, moment))
                self.housekeeping.used("entry", digest)

    # --- shards and links --------------------------------------------------------------------------------------------

    def shards(
        self,
        recipe: Recipe,
        bounds: Sequence[tuple[int, int]] | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> DiskShards:
        from workbench.store.shards import DiskShards

        return DiskShards.open(self, recipe, bounds, meta or {})

    def link(self, recipe: Recipe, to: Recipe) -> None:
        self.prepare()
        if recipe == to:
            raise BadValueError(f"{recipe.describe()} cannot be a link to itself.")
        path = self.path / "links" / f"{recipe.digest}.json"
        with suppress(DamagedEntryError):
            if (read_json(path) or {}).get("to") == to.to_json():
                return
        write_json(path, {"recipe": recipe.to_json(), "to": to.to_json(), "made": stamp(now())})

    def resolve(self, recipe: Recipe) -> Recipe | None:
        if self.has_digest(recipe.digest):
            return recipe
        try:
            record = read_json(self.path / "links" / f"{recipe.digest}.json")
        except DamagedEntryError:
            return None  # whoever knows the way writes it anew
        to = Recipe.from_json(record["to"]) if record else None
        return to if to is not None and self.has_digest(to.digest) else None

    def linked_layers(self, like: Recipe) -> set[str] | None:
        def facts(record: Mapping[str, Any]) -> list[str]:  # names do not count, as in digests
            return [str(record.get(name, "")).rpartition("@")[2] for name in ("kind", "model", "data")]

        wanted, found = facts(like.to_json()), set()
        with suppress(FileNotFoundError):
            for path in (self.path / "links").glob("*.json"):
                try:
                    recipe = (read_json(path) or {}).get("recipe", {})
                except DamagedEntryError:
                    continue
                if facts(recipe) == wanted:
                    found.add(recipe.get("layer", ""))
        return found - {""}

    def has_digest(self, digest: str) -> bool:
        """Whether an entry or a pass is there, by a quick look."""
        is_entry = (self.folder_of(digest) / f"{digest}.json").exists()
        return is_entry or (self.path / "passes" / digest / "pass.json").exists()

    # --- looking after it --------------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        return self.housekeeping.entries()

    def stats(self) -> dict[str, dict[str, Any]]:
        return {"disk": self.housekeeping.stats()}

    def prune(
        self, max_bytes: int | None = None, older_than_days: float | None = None, *, dry_run: bool = False
    ) -> list[Entry]:
        if not dry_run:
            self.prepare()
        return self.housekeeping.prune(max_bytes, older_than_days, dry_run=dry_run)

    def clean(
        self, model: str | None = None, data: str | None = None, *, everything: bool = False, dry_run: bool = False
    ) -> list[Entry]:
        if not dry_run:
            self.prepare()
        return self.housekeeping.clean(model, data, everything=everything, dry_run=dry_run)

    def shrink(self, tier: str = "disk", to_bytes: int = 0) -> int:
        if tier != "disk":
            raise BadValueError(f'This store has the tier "disk" only; got {tier!r}.')
        return sum(e.bytes for e in self.prune(max_bytes=to_bytes))

    def verify(self, *, progress: Progress | None = None) -> list[Damage]:
        return self.housekeeping.verify(progress)

    def _entries_named(self, digest: str) -> Iterator[Entry]:
        return self.housekeeping.entries_named(digest)

    # --- for the modules beside this one -----------------------------------------------------------------------------

    def folder_of(self, digest: str) -> Path:
        """Where an entry's files lie."""
        return self.path / "entries" / digest[:2]

    def pass_lock(self, digest: str) -> Path:
        """The lock file of a pass."""
        return self.path / "locks" / f"pass-{digest}.lock"

    def shards_of(self, record: Mapping[str, Any]) -> DiskShards:
        """Return the set of shards that a ``pass.json`` describes."""
        from workbench.store.shards import shards_of

        return shards_of(self, record)

    def count(self, what: str, n: int = 1) -> None:
        """Raise a counter."""
        with self._lock:
            self.counts[what] += n

    def prepare(self) -> None:
        """Make the folder if need be; called before each change.

        Raises
        ------
        ReadOnlyStoreError
            If nothing may be changed.
        """
        if self.read_only:
            raise ReadOnlyStoreError(
                f"The store {self.path} is read-only.",
                hint="Name a folder of your own with `store=` or WORKBENCH_STORE.",
            )
        if self._made and self.path.exists():
            return
        with self._lock:
            if read_json(self.path / "store.json") is None:
                write_json(self.path / "store.json", {"format": FORMAT, "made": stamp(now()), "by": written_by()})
            self._made = True

    def record(self, recipe: Recipe, meta: Mapping[str, Any], used_by: str) -> dict[str, Any]:
        """What a sidecar says about how and for whom its arrays were made."""
        return {
            "format": FORMAT,
            "digest": recipe.digest,
            "recipe": recipe.to_json(),
            "made": stamp(now()),
            "by": written_by(),
            "used_by": [used_by] if used_by else [],
            "meta": as_json(meta, "meta", allow_nan=True),
        }

    def check_budget(self, needed: int, what: str) -> None:
        """Refuse what could not be kept even if everything else went."""
        if needed > self.budget_bytes:
            raise StoreFullError(
                f"{what} needs {size(needed)}, and the budget of the store is {size(self.budget_bytes)}.",
                hint="Raise `disk_gb` or WORKBENCH_STORE_GB. What was stored before is intact.",
            )

    # --- below -------------------------------------------------------------------------------------------------------

    def _check_format(self) -> None:
        path = self.path / "store.json"
        try:
            if self.path.exists() and not self.path.is_dir():
                raise StoreError(f"{self.path} is a file, not the folder of a store.", hint="Name a folder.")
            record = read_json(path)
            found = 0 if record is None else int(record["format"])
        except (DamagedEntryError, KeyError, ValueError, TypeError) as error:
            raise StoreError(
                f"{path} cannot be read, so it is unknown how this store is written.",
                hint="If the folder is a store of yours, remove this file and open it again: entries check themselves.",
            ) from error
        except PermissionError as error:
            raise StoreError(f"The store {self.path} may not be read ({error.strerror}).") from error
        if found > FORMAT:
            raise StoreError(
                f"The store {self.path} was written by {record['by'] if record else '?'} in format {found}; "
                f"this is {written_by()}, which reads up to format {FORMAT}.",
                hint="Upgrade the workbench, or name another folder with `store=` or WORKBENCH_STORE.",
            )

    def _read(self, recipe: Recipe) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        found = items.read_item(self.folder_of(recipe.digest), recipe.digest)
        if found is not None:
            self.touch(recipe.digest)
        return found

    def _read_or_set_aside(self, recipe: Recipe) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        try:
            return self._read(recipe)
        except DamagedEntryError as error:
            self.count("damaged")
            if self.read_only:
                logger.warning("%s It is made anew in memory.", error.message)
            else:
                logger.warning("%s It is set aside and made anew.", error.message)
                items.set_aside(self.folder_of(recipe.digest), recipe.digest)
                self.housekeeping.forget("entry", recipe.digest)
            return None

    def _put(self, recipe: Recipe, arrays: Arrays, meta: Mapping[str, Any], used_by: str) -> None:
        self.prepare()
        parts = as_parts(arrays)
        self.check_budget(sum(p.data.nbytes for p in parts), recipe.describe())
        folder = self.folder_of(recipe.digest)
        sidecar = items.write_item(folder, recipe.digest, parts, self.record(recipe, meta, used_by))
        self.housekeeping.wrote("entry", recipe.digest, items.size_of(folder, recipe.digest, sidecar), folder)
        level = logging.INFO if sidecar["size"] >= 1_000_000 else logging.DEBUG
        logger.log(level, "stored %s, %s", recipe.describe(), size(sidecar["size"]))

    def _note_use(self, recipe: Recipe, used_by: str) -> None:
        if self.read_only:
            return
        path = self.folder_of(recipe.digest) / f"{recipe.digest}.json"
        try:
            with self._making.hold(recipe.digest, recursion=_recursion(recipe)), self._exclusively(recipe):
                sidecar = read_json(path)
                if sidecar is not None and used_by not in sidecar["used_by"]:
                    write_json(path, {**sidecar, "used_by": [*sidecar["used_by"], used_by]})
        except StoreError as error:  # only a note for people
            logger.info("cannot note that %s uses %s: %s", used_by, recipe.describe(), error)

    @contextmanager
    def _exclusively(self, recipe: Recipe) -> Iterator[None]:
        with ExitStack() as stack:
            if not self.read_only:
                self.prepare()
                path = self.path / "locks" / f"{recipe.digest}.lock"
                stack.enter_context(exclusive(path, what=recipe.describe(), wait=True))
            yield


def written_by() -> str:
    """Name and version of this package."""
    import workbench

    return f"workbench {getattr(workbench, '__version__', '?')}"


def _recursion(recipe: Recipe) -> str:
    return f"Making {recipe.describe()} asks for its own result."


def _may_write(path: Path) -> bool:
    while not path.exists() and path != path.parent:
        path = path.parent
    return os.access(path, os.W_OK)
