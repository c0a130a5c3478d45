"""Tags of samples, kept in the store's folder beside the results: a file per data set, never pruned.

Tags are people's own work and no result, so no recipe makes them anew: the budget of the store does not count them, and
neither `prune` nor `clean` takes them away.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.errors import DamagedEntryError, StoreError
from workbench.core.ids import Fingerprint
from workbench.store.files import read_json, write_json
from workbench.store.locks import exclusive

if TYPE_CHECKING:
    from workbench.data.tags import Tags
    from workbench.store import Store

__all__ = ["StoredTags"]


class StoredTags:
    """Tags in the folder of a store; in memory where the store has none. See `workbench.data.tags.TagBook`.

    Two books of one store are equal.

    Parameters
    ----------
    store : Store
    """

    def __init__(self, store: Store):
        self.store = store
        self._disk: Any = getattr(store, "disk", store)
        self._lock = threading.Lock()
        self._kept: dict[str, Tags] = {}

    def read(self, data: Fingerprint) -> Tags:
        """All tags of a data set.

        Raises
        ------
        StoreError
            If their file was damaged.
        """
        path = self._path(data)
        if path is None:
            return dict(self._kept.get(data.digest, {}))
        try:
            record = read_json(path)
        except DamagedEntryError as error:
            raise StoreError(
                f"The tags of {data} cannot be read: {path} is not as it was written.",
                hint="Put a copy of the file in its place, or remove it to begin anew.",
            ) from error
        return {} if record is None else {name: tuple(ids) for name, ids in record["tags"].items()}

    def change(self, data: Fingerprint, change: Callable[[Tags], Tags]) -> Tags:
        """Put what `change` makes of the tags in their place; other threads and processes wait meanwhile.

        Raises
        ------
        ReadOnlyStoreError
            If the store may not be written.
        """
        path = self._path(data)
        if path is None:
            with self._lock:
                self._kept[data.digest] = change(self.read(data))
                return self._kept[data.digest]
        self._disk.prepare()
        lock = Path(self._disk.path) / "locks" / f"tags-{data.digest}.lock"
        with self._lock, exclusive(lock, what=f"the tags of {data}", wait=True):
            old = self.read(data)
            new = change(old)
            if new != old:
                write_json(path, {"data": str(data), "digest": data.digest, "tags": new})
        return new

    def _path(self, data: Fingerprint) -> Path | None:
        folder = getattr(self._disk, "path", None)
        return None if folder is None else Path(folder) / "tags" / f"{data.digest}.json"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoredTags) and other.store is self.store

    __hash__ = None  # type: ignore[assignment]
