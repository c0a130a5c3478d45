"""Tags of samples, kept in the store's folder beside the results: a file per data set, never pruned."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from workbench.core.ids import Fingerprint
from workbench.session.keeper import Keeper, Record

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
        self._keeper = Keeper(store, "tags")

    def read(self, data: Fingerprint) -> Tags:
        """All tags of a data set.

        Raises
        ------
        StoreError
            If their file was damaged.
        """
        return _tags(self._keeper.read(data.digest, what=_what(data)))

    def change(self, data: Fingerprint, change: Callable[[Tags], Tags]) -> Tags:
        """Put what `change` makes of the tags in their place; other threads and processes wait meanwhile.

        Raises
        ------
        ReadOnlyStoreError
            If the store may not be written.
        """

        def changed(record: Record | None) -> Record | None:
            old = _tags(record)
            new = change(dict(old))
            return record if new == old else {"data": str(data), "digest": data.digest, "tags": new}

        return _tags(self._keeper.change(data.digest, changed, what=_what(data)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StoredTags) and other.store is self.store

    __hash__ = None  # type: ignore[assignment]


def _tags(record: Record | None) -> Tags:
    return {} if record is None else {name: tuple(ids) for name, ids in record["tags"].items()}


def _what(data: Fingerprint) -> str:
    return f"the tags of {data}"
