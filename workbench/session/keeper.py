"""Small files of people's own work, kept in the store's folder beside the results: tags, pins, notes.

No recipe makes them anew, so the budget of the store does not count them, and neither `prune` nor `clean` takes them
away. Each kind has a folder of its own; what lies under one key there changes under one lock, and each file is written
under a temporary name and renamed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from workbench.core.errors import DamagedEntryError, StoreError
from workbench.store.files import read_json, write_json
from workbench.store.locks import exclusive

if TYPE_CHECKING:
    from workbench.store import Store

__all__ = ["Keeper", "Record"]

Record: TypeAlias = dict[str, Any]


class Keeper:
    """Keeps one kind of small files; in memory where the store has no folder.

    `read` and `change` serve kinds with one file per key, such as ``tags/DATA.json``; kinds with more to a key use
    `changing` and write their files themselves.

    Parameters
    ----------
    store : Store or None
    kind : str
        Name of the folder, and of the locks.

    Attributes
    ----------
    lock : RLock
        Held by the thread that changes something.

    Examples
    --------
    >>> keeper = Keeper(None, "notes")
    >>> keeper.change("key", lambda old: {"n": (old or {}).get("n", 0) + 1}, what="the notes")
    {'n': 1}
    """

    def __init__(self, store: Store | None, kind: str):
        self.disk: Any = None if store is None else getattr(store, "disk", store)
        self.kind, self.lock = kind, threading.RLock()
        self._here: dict[str, Record] = {}
        self._read: dict[Path, tuple[object, Record]] = {}

    @property
    def folder(self) -> Path | None:
        """Where the files lie; None in memory."""
        root = getattr(self.disk, "path", None)
        return None if root is None else Path(root) / self.kind

    @contextmanager
    def changing(self, key: str, *, what: str) -> Iterator[Path | None]:
        """Hold what lies under `key` against other threads and processes; gives `folder`.

        Raises
        ------
        ReadOnlyStoreError
            If the store may not be written.
        """
        folder = self.folder
        if folder is None:
            with self.lock:
                yield None
            return
        self.disk.prepare()
        path = folder.parent / "locks" / f"{self.kind}-{key}.lock"
        with self.lock, exclusive(path, what=what, wait=True):
            yield folder

    def read(self, key: str, *, what: str) -> Record | None:
        """What was written under `key`, not to be changed in place; None if nothing was.

        Raises
        ------
        StoreError
            If the file was damaged.
        """
        folder = self.folder
        if folder is None:
            return self._here.get(key)
        path = folder / f"{key}.json"
        try:
            facts = path.stat()
            seen = facts.st_mtime_ns, facts.st_size, facts.st_ino
            known = self._read.get(path)
            if known is not None and known[0] == seen:
                return known[1]
            record = read_json(path)
        except FileNotFoundError:
            return None
        except DamagedEntryError as error:
            raise StoreError(
                f"{what[:1].upper()}{what[1:]} cannot be read: {path} is not as it was written.",
                hint="Put a copy of the file in its place, or remove it to begin anew.",
            ) from error
        if record is not None:
            self._read[path] = seen, record
        return record

    def change(self, key: str, change: Callable[[Record | None], Record | None], *, what: str) -> Record | None:
        """Put what `change` makes of the old in its place; other threads and processes wait meanwhile.

        Parameters
        ----------
        key : str
        change : callable
            From the record that was read to the one to be written. Where both are equal nothing is written.
        what : str
            What is changed, for messages: "the tags of …".

        Returns
        -------
        dict or None
            What lies there now.

        Raises
        ------
        StoreError
            If the file was damaged, the disk is full, or the store may not be written.
        """
        with self.changing(key, what=what) as folder:
            old = self.read(key, what=what)
            new = change(old)
            if new is not None and new != old:
                if folder is None:
                    self._here[key] = new
                else:
                    write_json(folder / f"{key}.json", new)
        return new
