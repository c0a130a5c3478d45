"""What a store holds, as lines of text: for `workbench status`, and for whoever wants to read a sidecar."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.store.files import read_json
from workbench.store.locks import holder, is_held
from workbench.store.recipe import shorten
from workbench.store.words import count, day, size, stamp

if TYPE_CHECKING:
    from workbench.store.base import Entry
    from workbench.store.tiered import TieredStore

__all__ = ["as_record", "describe_entry", "describe_store", "health", "listing", "table"]


def describe_store(store: TieredStore, *, limit: int | None = 20) -> Iterator[str]:
    """Lines on the whole store: where, how full, what, and what is unfinished.

    Parameters
    ----------
    store : TieredStore
    limit : int, optional
        Results to list; None lists all.
    """
    tiers, entries = store.stats(), store.entries()
    disk = tiers["disk"]
    access = ", read-only" if store.read_only else ""
    yield f"Store     {store.path}{access}" + ("" if store.path.exists() else " (made when something is stored)")
    yield (
        f"Disk      {size(disk['bytes'])} of {size(disk['budget_bytes'])} used by "
        f"{count(disk['entries'] + disk['passes'], 'result')} in {count(disk['files'], 'file')}; "
        f"{size(free_bytes(store.path))} free on the disk"
    )
    yield f"Memory    up to {size(tiers['memory']['budget_bytes'])} in each session"
    for name, n_bytes in _others(store.path):
        yield f"Beside    {size(n_bytes)} in {name}, which `prune` and `clean` leave alone"
    if aside := list(store.path.glob("*/*/*.damaged")):
        yield f"Damaged   {count(len(aside), 'file')} set aside; the next `prune` removes what they fill first"
    if not entries:
        yield "It is empty."
        return
    complete = [e for e in entries if e.is_complete]
    yield from ("", "Results, newest first")
    yield from listing(complete[:limit])
    if limit is not None and len(complete) > limit:
        yield f"  … and {count(len(complete) - limit)} more; --all lists them"
    if unfinished := [e for e in entries if not e.is_complete]:
        yield from ("", "Unfinished passes")
        for entry in unfinished:
            yield f"  {entry.digest[:8]}  {entry.name}: {entry.explain()}"
            yield f"            {_writer(store, entry)}"


def listing(entries: Sequence[Entry]) -> Iterator[str]:
    """A table of results."""
    head = ("digest", "what", "model", "data", "samples", "size", "made", "last used")
    rows = [
        (
            e.digest[:8],
            e.name,
            shorten(e.model) or "-",
            shorten(e.data) or "-",
            "-" if e.n_samples is None else count(e.n_samples),
            size(e.bytes),
            day(e.made),
            day(e.last_used),
        )
        for e in entries
    ]
    return table(head, rows, right={4, 5})


def describe_entry(store: TieredStore, digest: str) -> Iterator[str]:
    """Lines on one result: a sentence, its recipe, its notes, its arrays.

    Raises
    ------
    BadValueError
        If the digits are too few, or begin several digests.
    """
    yield store.explain(digest)
    entry = store.entry(digest)
    if entry is None:
        return
    folder = store.path / "passes" / entry.digest
    path = folder / "pass.json" if entry.is_pass else store.disk.folder_of(entry.digest) / f"{entry.digest}.json"
    record = read_json(path) or {}
    yield f"Digest    {entry.digest}"
    yield f"File      {path}"
    yield f"By        {record.get('by')}, {record.get('made')}"
    if entry.is_pass:
        left_out = (record.get("sealed") or {}).get("skipped")
        told = f", {count(left_out, 'sample')} left out" if left_out else ""
        yield f"Shards    {count(len(record.get('bounds', ())))}, {_writer(store, entry)}{told}"
    for name, facts in sorted(record.get("arrays", {}).items()):
        yield f"Array     {name}: {facts['dtype']} {tuple(facts['shape'])}"
    for title, key in (("Recipe", "recipe"), ("Notes", "meta")):
        yield title
        yield from (f"  {line}" for line in json.dumps(record.get(key), indent=1, ensure_ascii=False).splitlines())


def as_record(entry: Entry) -> dict[str, Any]:
    """An entry as JSON-ready values."""
    return {**asdict(entry), "made": stamp(entry.made), "last_used": stamp(entry.last_used)}


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, right: set[int] | None = None) -> Iterator[str]:
    """Align columns of text; those in `right` to the right."""
    widths = [max(len(str(row[i])) for row in [head, *rows]) for i in range(len(head))]
    for row in [head, *rows]:
        cells = (
            str(c).rjust(w) if i in (right or ()) else str(c).ljust(w)
            for i, (c, w) in enumerate(zip(row, widths, strict=True))
        )
        yield f"  {'  '.join(cells)}".rstrip()


def free_bytes(path: Path) -> int:
    """Free bytes of the disk on which a path lies, or will lie."""
    return shutil.disk_usage(existing(path)).free


def existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    return path


def _writer(store: TieredStore, entry: Entry) -> str:
    lock = store.disk.pass_lock(entry.digest)
    if not is_held(lock):
        return "complete" if entry.is_complete else "nobody is writing it: the same sweep goes on from there"
    who = holder(lock)
    return f"being written by process {who['pid']} on {who['host']}" if who else "being written"


def _others(root: Path) -> Iterator[tuple[str, int]]:
    """Folders in the store that are not its own, such as weights of small models trained here."""
    ours = {"entries", "passes", "links", "locks"}
    for folder in sorted(root.iterdir()) if root.is_dir() else ():
        if folder.is_dir() and folder.name not in ours:
            yield f"{folder.name}/", sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


def health(path: str | Path | None = None) -> dict[str, Any]:
    """Whether the store can be used, as JSON-ready facts; ``problem`` is empty if it can, ``text`` is for people."""
    import tempfile

    from workbench.core.config import settings
    from workbench.core.errors import WorkbenchError
    from workbench.store.disk import FORMAT, DiskStore

    facts: dict[str, Any] = {"path": str(path or ""), "problem": ""}
    try:
        facts["path"] = str(settings(store=path).store)
        store = DiskStore(path)
        facts |= {**store.stats()["disk"], "format": FORMAT, "free_bytes": free_bytes(store.path)}
        if store.read_only:
            facts["problem"] = "it is read-only: results are kept in memory only"
        else:
            with tempfile.TemporaryFile(dir=existing(store.path)) as file:
                file.write(b"x" * 4096)
    except (WorkbenchError, OSError) as error:
        facts["problem"] = str(error)
    state = facts["problem"]
    if not state:
        used = f"{size(facts['bytes'])} of {size(facts['budget_bytes'])} used"
        state = f"can be written, {used}, {size(facts['free_bytes'])} free on the disk"
    return {**facts, "text": f"{facts['path']}: {state}"}
