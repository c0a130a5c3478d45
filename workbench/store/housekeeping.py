"""Looking after a store's folder: budget, least recently used first; lists, clean-up and verification."""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.errors import BadValueError, DamagedEntryError
from workbench.store import items
from workbench.store.base import Damage, Entry, check_limits, entry_of, matches
from workbench.store.files import read_json, remove
from workbench.store.locks import is_held, sweep
from workbench.store.recipe import Recipe
from workbench.store.usage import Kind, Row, discard_folder, scan
from workbench.store.words import count, size, when

if TYPE_CHECKING:
    from workbench.core.progress import Progress
    from workbench.store.disk import DiskStore

__all__ = ["Housekeeping"]

logger = logging.getLogger(__name__)

_FRESH_S = 60.0  # so long the sizes found in the folder are believed, apart from what we add ourselves


class Housekeeping:
    """What a `DiskStore` does besides reading and writing. Sizes come from a look at the folder, when first needed."""

    def __init__(self, store: DiskStore):
        self.store = store
        self.on_removed: list[Callable[[str], None]] = []
        self._lock = threading.RLock()
        self._rows: dict[tuple[Kind, str], Row] = {}
        self._looked_at = -float("inf")

    # --- told by the store -------------------------------------------------------------------------------------------

    def wrote(self, kind: Kind, digest: str, n_bytes: int, folder: Path, *, is_added: bool = False) -> None:
        """Count something just written, and make room for it if the budget is exceeded."""
        with self._lock:
            if not self._look(_FRESH_S):  # else it has been seen already
                old = self._rows.get((kind, digest))
                n_files = 2
                if is_added and old is not None:
                    n_bytes, n_files = n_bytes + old.bytes, n_files + old.n_files
                self._rows[kind, digest] = Row(kind, digest, n_bytes, n_files, time.time(), folder)
            self._make_room(keep=(kind, digest))

    def used(self, kind: Kind, digest: str) -> None:
        """Note a use, which the folder knows too."""
        with self._lock:
            if (row := self._rows.get((kind, digest))) is not None:
                row.used = time.time()

    def forget(self, kind: Kind, digest: str) -> None:
        """Note that something is gone."""
        with self._lock:
            self._rows.pop((kind, digest), None)
        for tell in self.on_removed:
            tell(digest)

    def remove_entry(self, digest: str) -> None:
        """Remove an entry; whoever has it mapped keeps it."""
        items.remove_item(self.store.folder_of(digest), digest)
        self.forget("entry", digest)

    def remove_pass(self, digest: str) -> bool:
        """Remove a pass; whether that worked."""
        gone = discard_folder(self.store.path / "passes" / digest)
        self.forget("pass", digest)
        return gone

    # --- lists -------------------------------------------------------------------------------------------------------

    def entries(self) -> list[Entry]:
        """All entries and passes, newest first; damaged ones are left out, `verify` names them."""
        root = self.store.path
        found = [self._entry(path) for path in root.glob("entries/*/*.json")]
        found += [self._pass(path) for path in root.glob("passes/[!.]*/pass.json")]
        return sorted((e for e in found if e is not None), key=lambda e: (e.made, e.last_used), reverse=True)

    def entries_named(self, digest: str) -> Iterator[Entry]:
        """Entries and passes whose digest begins like this, without a look at the others."""
        root = self.store.path
        if len(digest) == 32:
            found = [root / "entries" / digest[:2] / f"{digest}.json", root / "passes" / digest / "pass.json"]
        elif digest.isalnum():
            found = [*root.glob(f"entries/{digest[:2]}/{digest}*.json"), *root.glob(f"passes/{digest}*/pass.json")]
        else:
            return
        for path in found:
            entry = self._pass(path) if path.name == "pass.json" else self._entry(path)
            if entry is not None:
                yield entry

    def stats(self) -> dict[str, Any]:
        """Counters and sizes of the tier."""
        with self._lock:
            self._look(_FRESH_S)
            rows = list(self._rows.values())
        return {
            **self.store.counts,
            "bytes": sum(r.bytes for r in rows),
            "budget_bytes": self.store.budget_bytes,
            "entries": sum(r.kind == "entry" for r in rows),
            "passes": sum(r.kind == "pass" for r in rows),
            "files": sum(r.n_files for r in rows),
            "path": str(self.store.path),
            "read_only": self.store.read_only,
        }

    # --- making room -------------------------------------------------------------------------------------------------

    def prune(self, max_bytes: int | None, older_than_days: float | None, *, dry_run: bool) -> list[Entry]:
        """Remove what was not used for long; see `Store.prune`."""
        check_limits(max_bytes, older_than_days)
        if max_bytes is None and older_than_days is None:
            max_bytes = self.store.budget_bytes
        with self._lock:
            self._look(0)
            left = sum(r.bytes for r in self._rows.values())
            limit = float("inf") if max_bytes is None else max_bytes
            before = -float("inf") if older_than_days is None else time.time() - older_than_days * 86_400
            gone = []
            for row in self._by_use(keep=None):
                if not (left > limit or row.used < before):
                    continue
                entry = self._entry_of_row(row)
                if dry_run or self._evict(row):
                    left -= row.bytes
                    gone += [entry] if entry is not None else []
            if not dry_run:
                sweep(self.store.path / "locks")
        self._report("pruned", gone, dry_run)
        return gone

    def clean(self, model: str | None, data: str | None, *, everything: bool, dry_run: bool) -> list[Entry]:
        """Remove all of a model, a data set, or everything; see `Store.clean`."""
        if not everything and not model and not data:
            raise BadValueError("`clean` needs a model, a data set, or `everything=True`.")
        with self._lock:
            self._look(0)
            gone = []
            for row in self._by_use(keep=None):
                entry = self._entry_of_row(row)
                about = {"model": entry.model, "data": entry.data} if entry is not None else None
                if everything or (about is not None and matches(about, model, data)):
                    if dry_run or self._evict(row):
                        gone += [entry] if entry is not None else []
            if not dry_run:
                self._clean_links(everything)
                sweep(self.store.path / "locks")
        self._report("cleaned", gone, dry_run)
        return gone

    # --- verification ------------------------------------------------------------------------------------------------

    def verify(self, progress: Progress | None) -> list[Damage]:
        """Compare everything with its checksums; see `Store.verify`."""
        root = self.store.path
        sidecars = [*sorted(root.glob("entries/*/*.json")), *sorted(root.glob("passes/[!.]*/*.json"))]
        sidecars += sorted(root.glob("links/*.json"))
        damages = []
        if progress is not None:
            progress.start("verify the store", len(sidecars))
        for path in sidecars:
            is_item = path.name != "pass.json" and path.parent.name != "links"
            try:
                if is_item:
                    items.check_item(path.parent, path.stem, again=True)
                else:
                    read_json(path)
            except DamagedEntryError as error:
                digest = path.parent.name if path.parent.parent.name == "passes" else path.stem
                damages.append(Damage(digest, path, error.message))
            if progress is not None:
                progress.step()
        if progress is not None:
            progress.close()
        return damages

    # --- below -------------------------------------------------------------------------------------------------------

    def _look(self, fresh_s: float) -> bool:
        """Look at the folder unless that was done not long ago; whether it was done now."""
        if time.monotonic() - self._looked_at <= fresh_s:
            return False
        self._rows = scan(self.store.path, sweep=not self.store.read_only)
        self._looked_at = time.monotonic()
        return True

    def _make_room(self, keep: tuple[Kind, str]) -> None:
        total = sum(r.bytes for r in self._rows.values())
        if total <= self.store.budget_bytes:
            return
        for row in self._by_use(keep=keep):
            if total <= self.store.budget_bytes:
                return
            if self._evict(row):
                total -= row.bytes
        if total > self.store.budget_bytes:
            logger.warning(
                "the store holds %s, over its budget of %s: the rest is being written",
                size(total),
                size(self.store.budget_bytes),
            )

    def _by_use(self, keep: tuple[Kind, str] | None) -> Iterator[Row]:
        """Rows that may go, least recently used first, damaged ones before all. Uses by other processes count."""
        heap = [(row.kind != "damaged", row.used, row.key) for row in self._rows.values() if row.key != keep]
        heapq.heapify(heap)
        while heap:
            rank, used, key = heapq.heappop(heap)
            row = self._rows.get(key)
            if row is None:
                continue
            latest = max(row.used, _used_on_disk(row))
            if latest > used:
                row.used = latest
                heapq.heappush(heap, (rank, latest, key))
            elif row.kind != "pass" or not is_held(self.store.pass_lock(row.name)):
                yield row

    def _evict(self, row: Row) -> bool:
        if row.kind == "entry":
            self.remove_entry(row.name)
        elif row.kind == "pass" and not self.remove_pass(row.name):
            return False
        elif row.kind == "damaged":
            remove(row.path)
            self._rows.pop(row.key, None)
        if row.kind != "damaged":
            self.store.count("evictions")
            logger.debug("removed %s %s, %s", row.kind, row.name, size(row.bytes))
        return True

    def _clean_links(self, everything: bool) -> None:
        for path in self.store.path.glob("links/*.json"):
            try:
                record = read_json(path)
                is_dead = record is None or not self.store.has_digest(Recipe.from_json(record["to"]).digest)
            except DamagedEntryError:
                is_dead = True
            if everything or is_dead:
                remove(path)

    def _entry_of_row(self, row: Row) -> Entry | None:
        if row.kind == "entry":
            return self._entry(row.path / f"{row.name}.json")
        return self._pass(row.path / "pass.json") if row.kind == "pass" else None

    def _entry(self, path: Path) -> Entry | None:
        try:
            sidecar = read_json(path)
            if sidecar is None:
                return None
            facts = path.stat()
            n_bytes = items.size_of(path.parent, path.stem, sidecar)
            return entry_of(sidecar, n_bytes=n_bytes, last_used=when(facts.st_mtime))
        except (DamagedEntryError, FileNotFoundError):
            return None

    def _pass(self, path: Path) -> Entry | None:
        try:
            record = read_json(path)
            if record is None:
                return None
            shards = self.store.shards_of(record)
            entry = entry_of(record, n_bytes=shards.bytes, last_used=when(path.stat().st_mtime))
        except (DamagedEntryError, FileNotFoundError):
            return None
        there = sum(shards.bounds[i][1] - shards.bounds[i][0] for i in shards.present)
        return replace(entry, n_samples=there, is_pass=True, is_complete=shards.is_complete, coverage=shards.coverage)

    def _report(self, verb: str, gone: Iterable[Entry], dry_run: bool) -> None:
        gone = list(gone)
        if gone and not dry_run:
            logger.info("%s %s, %s", verb, count(len(gone), "result"), size(sum(e.bytes for e in gone)))


def _used_on_disk(row: Row) -> float:
    path = {"entry": row.path / f"{row.name}.json", "pass": row.path / "pass.json"}.get(row.kind)
    try:
        return path.stat().st_mtime if path is not None else 0.0
    except OSError:
        return 0.0
