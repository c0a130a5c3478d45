"""What lies in a store's folder, how much, since when unused; and what is left over from processes that died."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from workbench.store.files import is_abandoned, remove
from workbench.store.items import data_file_of

__all__ = ["Kind", "Row", "discard_folder", "scan"]

logger = logging.getLogger(__name__)

Kind: TypeAlias = Literal["entry", "pass", "damaged"]

_ORPHAN_S = 3600.0  # a writer renames the arrays a moment before the sidecar; nobody takes an hour over it


@dataclass
class Row:
    """Size and last use of one result, from the folder alone: no sidecar is opened.

    `name` is a digest, for damaged files the path.
    """

    kind: Kind
    name: str
    bytes: int
    n_files: int
    used: float
    path: Path

    @property
    def key(self) -> tuple[Kind, str]:
        """What it is called among all rows."""
        return self.kind, self.name


def scan(root: Path, *, sweep: bool) -> dict[tuple[Kind, str], Row]:
    """List what is stored under `root`. With `sweep`, remove what dead processes left on the way."""
    for folder in (root, root / "links", root / "tags", root / "notes", *_folders(root / "journal")):
        for path, facts in _files(folder):
            _sweep_temporary(path, facts, sweep)
    rows = [
        *(row for folder in _folders(root / "entries") for row in _scan_entries(folder, sweep)),
        *(row for folder in _folders(root / "passes") for row in _scan_pass(folder, sweep)),
    ]
    return {row.key: row for row in rows}


def discard_folder(folder: Path) -> bool:
    """Remove a folder so that it disappears at once; whether that worked."""
    trash = folder.with_name(f".trash-{os.getpid()}-{time.monotonic_ns()}")
    try:
        os.replace(folder, trash)
    except FileNotFoundError:
        return False
    except OSError as error:  # Windows, while somebody has a file in it open
        logger.info("cannot remove %s now: %s", folder, error)
        return False
    shutil.rmtree(trash, ignore_errors=True)
    return True


def _scan_entries(folder: Path, sweep: bool) -> Iterator[Row]:
    sidecars: dict[str, os.stat_result] = {}
    files: dict[str, list[tuple[Path, os.stat_result]]] = {}
    for path, facts in _files(folder):
        if path.name.startswith(".tmp-"):
            _sweep_temporary(path, facts, sweep)
        elif path.suffix == ".damaged":
            yield Row("damaged", str(path), facts.st_size, 1, facts.st_mtime, path)
        elif path.suffix == ".json":
            sidecars[path.stem] = facts
        else:
            files.setdefault(path.name.partition(".")[0], []).append((path, facts))
    for digest, found in files.items():
        if sweep and (digest not in sidecars or len(found) > 1):
            named = data_file_of(folder, digest)
            for path, facts in found:
                if path != named and time.time() - facts.st_mtime > _ORPHAN_S:
                    remove(path)
    for digest, facts in sidecars.items():
        found = files.get(digest, [])
        n_bytes = facts.st_size + sum(f.st_size for _, f in found)
        yield Row("entry", digest, n_bytes, 1 + len(found), facts.st_mtime, folder)


def _scan_pass(folder: Path, sweep: bool) -> Iterator[Row]:
    if folder.name.startswith(".trash-"):
        if sweep:
            shutil.rmtree(folder, ignore_errors=True)
        return
    n_bytes = n_files = 0
    used, newest, has_begun = 0.0, 0.0, False
    for path, facts in _files(folder):
        if path.name.startswith(".tmp-"):
            _sweep_temporary(path, facts, sweep)
        elif path.suffix == ".damaged":
            yield Row("damaged", str(path), facts.st_size, 1, facts.st_mtime, path)
        else:
            n_bytes, n_files, newest = n_bytes + facts.st_size, n_files + 1, max(newest, facts.st_mtime)
            if path.name == "pass.json":
                has_begun, used = True, facts.st_mtime
    if has_begun:
        yield Row("pass", folder.name, n_bytes, n_files, used, folder)
    elif sweep and time.time() - newest > _ORPHAN_S and n_files:
        discard_folder(folder)


def _sweep_temporary(path: Path, facts: os.stat_result, sweep: bool) -> None:
    if sweep and is_abandoned(path, age_s=time.time() - facts.st_mtime):
        logger.info("removed %s, left over from a process that died", path)
        remove(path)


def _folders(path: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(path) as found:
        yield from (Path(entry.path) for entry in found if entry.is_dir(follow_symlinks=False))


def _files(folder: Path) -> Iterator[tuple[Path, os.stat_result]]:
    with suppress(FileNotFoundError), os.scandir(folder) as found:
        for entry in found:
            with suppress(FileNotFoundError):  # removed meanwhile by somebody else
                if entry.is_file(follow_symlinks=False):
                    yield Path(entry.path), entry.stat(follow_symlinks=False)
