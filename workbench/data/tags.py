"""Tags: sets of samples under a name of one's own. Where they are kept is for others to say."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol, TypeAlias

import numpy as np

from workbench.core import check
from workbench.core.errors import BadValueError, DataError, ShapeError
from workbench.core.ids import Fingerprint

__all__ = ["TagBook", "Tagged", "Tags"]

Tags: TypeAlias = dict[str, tuple[int, ...]]
"""Sample ids by the tag's name, rising."""

_LONGEST_NAME = 200


class TagBook(Protocol):
    """Keeps the tags of data sets, by their fingerprints."""

    def read(self, data: Fingerprint) -> Tags:
        """All tags of a data set."""

    def change(self, data: Fingerprint, change: Callable[[Tags], Tags]) -> Tags:
        """Put what `change` makes of the tags in their place; nobody else changes them meanwhile."""


_listeners: list[tuple[TagBook | None, Fingerprint, Callable[[], None]]] = []


class Tagged:
    """The part of a data set that tags samples. See `Dataset`."""

    _tag_book: TagBook | None = None

    def tag(self, name: str, samples: Any = None) -> tuple[int, ...]:
        """Give samples a tag, or say which have it.

        Parameters
        ----------
        name : str
            Plain text of at most 200 characters.
        samples : int, sequence of int, or (sample,) bool array, optional
            Added to those that have the tag. Not given: nothing is changed.

        Returns
        -------
        tuple of int
            The samples that have the tag now, in rising order.

        Raises
        ------
        UnknownNameError
            If `samples` is not given and there is no such tag.
        UnknownSampleError
            If there is no such sample; then nothing is changed.
        ReadOnlyStoreError
            If tags cannot be kept.
        """
        name, book, data = _checked_name(name), self._book(), self._named_by()
        if samples is None:
            tags = book.read(data)
            check.known("tag", name, tags, hint="`data.tags()` lists all.")
            return tags[name]
        new = self._ids(samples)

        def add(tags: Tags) -> Tags:
            return {**tags, name: tuple(sorted({*tags.get(name, ()), *new}))} if new else tags

        tags = book.change(data, add)
        self._tell()
        return tags.get(name, ())

    def untag(self, name: str, samples: Any = None) -> tuple[int, ...]:
        """Take a tag away from samples, or altogether.

        Parameters
        ----------
        name : str
        samples : int, sequence of int, or (sample,) bool array, optional
            Not given: all. A tag that nobody has left is gone.

        Returns
        -------
        tuple of int
            The samples that still have it.
        """
        name, gone = _checked_name(name), None if samples is None else set(self._ids(samples))

        def take(tags: Tags) -> Tags:
            check.known("tag", name, tags, hint="`data.tags()` lists all.")
            left = () if gone is None else tuple(i for i in tags[name] if i not in gone)
            return {**tags, name: left} if left else {n: ids for n, ids in tags.items() if n != name}

        tags = self._book().change(self._named_by(), take)
        self._tell()
        return tags.get(name, ())

    def tags(self) -> dict[str, int]:
        """How many samples have each tag, by name."""
        return {name: len(ids) for name, ids in sorted(self.tagged().items())}

    def tagged(self) -> Tags:
        """All tags with their samples, by name; empty where tags are kept nowhere."""
        return {} if self._tag_book is None else self._tag_book.read(self._named_by())

    def on_tags(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener()` whenever this process changes the tags, also through a copy of the data set.

        Returns
        -------
        callable
            Ends it.
        """
        entry = (self._tag_book, self._named_by(), listener)
        _listeners.append(entry)

        def undo() -> None:
            _listeners[:] = [one for one in _listeners if one is not entry]

        return undo

    def _tell(self) -> None:
        for book, data, listener in list(_listeners):
            if book == self._tag_book and data == self._named_by():
                listener()

    def _book(self) -> TagBook:
        if self._tag_book is None:
            raise DataError(
                "The tags of this data set have no place to be kept.",
                hint="Tag through a session, whose store keeps them: open_session(model, data).data.tag(...)",
            )
        return self._tag_book

    def _named_by(self) -> Fingerprint:
        data: Any = self
        return data.fingerprint

    def _ids(self, samples: Any) -> list[int]:
        data: Any = self
        if isinstance(samples, (int, np.integer)):
            return [data._index(samples)]
        if not isinstance(samples, Iterable) or isinstance(samples, (str, bytes)):
            raise BadValueError(f"`samples` must be sample ids; got {samples!r}.", hint="For example [3, 14, 15].")
        samples = list(samples)
        if samples and all(isinstance(s, (bool, np.bool_)) for s in samples):
            if len(samples) != len(data):
                raise ShapeError(f"A mask of samples must hold {len(data)} values; got {len(samples)}.")
            return np.flatnonzero(samples).tolist()
        return [data._index(s) for s in samples]


def _checked_name(name: Any) -> str:
    if not isinstance(name, str) or not name.strip():
        raise BadValueError(f"A tag's name must be text that is not blank; got {name!r}.")
    if len(name) > _LONGEST_NAME:
        raise BadValueError(f"A tag's name may have {_LONGEST_NAME} characters; got {len(name)}: {name[:40]!r}…")
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise BadValueError(f"The tag's name {name!r} holds half a character, which cannot be kept.") from error
    return name
