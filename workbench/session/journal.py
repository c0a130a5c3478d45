"""The journal of a session: pins, kept in the store's folder beside the results, never pruned.

Like tags, pins are people's own work and no result; see `keeper.py`. Each model and data set has a folder of its own::

    journal/DATA-MODEL/order.json          order of the pins, and which were removed last
    journal/DATA-MODEL/3f9a….still.json    the still
    journal/DATA-MODEL/3f9a….json          all the rest

A process killed on the way leaves a pin that is whole or none: one that the order does not name yet comes last, a still
without its pin goes with the next change.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from workbench.core.errors import BadValueError, DamagedEntryError, StoreError, UnknownNameError
from workbench.session.keeper import Keeper
from workbench.session.pins import Pin, PinnedStill, lost
from workbench.store.files import read_json, remove, write_json

if TYPE_CHECKING:
    from workbench.store import Store

__all__ = ["PinBook"]

logger = logging.getLogger(__name__)

_PIN = re.compile(r"[0-9a-f]{12}\.json")
_KEPT_REMOVED = 20  # how many removed pins can be brought back


class PinBook:
    """The pins of one model and data set, in order; see `workbench.widgets.Journal` for how they are looked at.

    In memory where the store has no folder. Where that may not be written, a new pin stays in memory and the error says
    so.

    Parameters
    ----------
    store : Store or None
    named : callable
        Gives the digests that the pins lie under, data first.
    made_with : callable
        Gives what views made here are traced to, as `Session.digests`.
    """

    def __init__(
        self, store: Store | None, named: Callable[[], Sequence[str]], made_with: Callable[[], Mapping[str, str]]
    ):
        self._keeper = Keeper(store, "journal")
        self._named, self.made_with = named, made_with
        self._lock = self._keeper.lock
        self._here: list[Pin] = []  # in memory only: no folder, or one that could not be written
        self._removed_here: list[tuple[int, Pin]] = []
        self._read: dict[Path, tuple[object, Pin]] = {}
        self._warned: set[Path] = set()
        self._listeners: list[Callable[[], None]] = []
        self.views: WeakValueDictionary[str, Any] = WeakValueDictionary()
        """What is open of what was pinned, by the pin's id."""

    # What there is ----------------------------------------------------------------------------------------------------

    def pins(self) -> tuple[Pin, ...]:
        """All pins, in order; those that could not be saved come last."""
        folder = self._folder()
        with self._lock:
            kept = self._in(folder) if folder else []
            ids = {pin.id for pin in kept}
            return (*kept, *(pin for pin in self._here if pin.id not in ids))

    def others(self) -> tuple[Pin, ...]:
        """Pins of the same store that were made with other models or data."""
        folder = self._folder()
        if folder is None:
            return ()
        found: list[Pin] = []
        with self._lock, suppress(FileNotFoundError):
            for other in sorted(folder.parent.iterdir()):
                if other != folder and other.is_dir() and not other.name.startswith("."):
                    found += self._in(other)
        return tuple(found)

    def find(self, wanted: Pin | str) -> Pin:
        """A pin by its id, as it is now.

        Raises
        ------
        UnknownNameError
            If there is none.
        """
        name = wanted.id if isinstance(wanted, Pin) else wanted
        found = next((pin for pin in (*self.pins(), *self.others()) if pin.id == name), None)
        if found is None:
            raise UnknownNameError(f"No pin {name!r} in this journal.", hint="Its table lists all; it may be removed.")
        return found

    def damaged(self) -> tuple[Path, ...]:
        """Files of pins that are not as they were written."""
        folder = self._folder()
        with self._lock:
            return () if folder is None else tuple(self._listed(folder)[1])

    def removed(self) -> int:
        """How many removed pins can be brought back."""
        folder = self._folder()
        return len(self._removed_here) + (len(_order_of(folder)["removed"]) if folder else 0)

    def listen(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call `call()` after each change made here; returns a function that ends it."""
        self._listeners.append(call)
        return lambda: self._listeners.remove(call)

    # Changes ----------------------------------------------------------------------------------------------------------

    def add(self, pin: Pin, *, view: Any = None) -> Pin:
        """Keep a new pin, last of all.

        Parameters
        ----------
        pin : Pin
        view : optional
            What it was made of: `views` finds it as long as it is open.

        Raises
        ------
        StoreError
            If the store cannot be written. The pin is kept in memory then, and written with the next that succeeds.
        """
        if view is not None:
            self.views[pin.id] = view
        try:
            with self._changing() as folder:
                if folder is None:
                    self._here.append(pin)
                else:
                    self._write_waiting(folder)
                    self._write(folder, pin)
        except StoreError as error:
            with self._lock:
                self._here.append(replace(pin, is_saved=False))
            self._tell()
            raise _not_saved(error) from error
        self._tell()
        return pin

    def save(self) -> int:
        """Write what could not be written before; returns how many pins that were."""
        n = len(self._here)
        if not n or self._folder() is None:
            return 0
        with self._changing() as folder:
            assert folder is not None
            self._write_waiting(folder)
        self._tell()
        return n

    def edit(self, wanted: Pin | str, *, title: str | None = None, note: str | None = None) -> Pin:
        """Change title or note of a pin."""
        name = self._own(wanted)
        with self._lock:
            if (at := self._at_here(name)) is not None:
                self._here[at] = found = self._here[at].edited(title=title, note=note)
            else:
                with self._changing() as folder:
                    assert folder is not None
                    path = folder / f"{name}.json"
                    old = next((pin for pin in self._in(folder) if pin.id == name), None)
                    if old is None:
                        raise _gone(name)
                    found = old.edited(title=title, note=note)
                    if found != old:
                        write_json(path, found.as_json())
        self._tell()
        return found

    def move(self, wanted: Pin | str, *, by: int = 0, to: int | None = None) -> None:
        """Put a pin elsewhere: `by` places down (up if negative), or `to` a place counted from 0."""
        name = self._own(wanted)
        with self._lock:
            if (at := self._at_here(name)) is not None:
                self._here.insert(_place(at, by, to, len(self._here)), self._here.pop(at))
            else:
                with self._changing() as folder:
                    assert folder is not None
                    ids = [pin.id for pin in self._in(folder)]
                    if name not in ids:
                        raise _gone(name)
                    at = ids.index(name)
                    ids.insert(_place(at, by, to, len(ids)), ids.pop(at))
                    self._put_order(folder, ids, _order_of(folder)["removed"])
        self._tell()

    def remove(self, wanted: Pin | str) -> None:
        """Take a pin away; `undo` brings it back, also another day."""
        name = self._own(wanted)
        with self._lock:
            if (at := self._at_here(name)) is not None:
                self._removed_here.append((at, self._here.pop(at)))
            else:
                with self._changing() as folder:
                    assert folder is not None
                    ids = [pin.id for pin in self._in(folder)]
                    if name not in ids:
                        raise _gone(name)
                    removed = [*_order_of(folder)["removed"], {"id": name, "at": ids.index(name)}]
                    ids.remove(name)
                    self._put_order(folder, ids, removed[-_KEPT_REMOVED:])
                    for old in removed[:-_KEPT_REMOVED]:
                        remove(folder / f"{old['id']}.json")
                        remove(folder / f"{old['id']}.still.json")
        self._tell()

    def undo(self) -> Pin | None:
        """Bring back the pin that was removed last; None if there is none."""
        with self._lock:
            here = self._removed_here.pop() if self._removed_here else None
            if here is not None:
                self._here.insert(*here)
        if here is not None:
            self._tell()
            return here[1]
        if self._folder() is None or not self.removed():
            return None
        with self._changing() as folder:
            assert folder is not None
            removed = list(_order_of(folder)["removed"])
            if not removed:
                return None
            last = removed.pop()
            ids = [pin.id for pin in self._in(folder)]
            ids.insert(min(int(last["at"]), len(ids)), str(last["id"]))
            self._put_order(folder, ids, removed)
            found = next((pin for pin in self._in(folder) if pin.id == last["id"]), None)
        self._tell()
        return found

    # Inside -----------------------------------------------------------------------------------------------------------

    def _folder(self) -> Path | None:
        folder = self._keeper.folder
        return None if folder is None else folder / "-".join(self._named())

    @contextmanager
    def _changing(self) -> Iterator[Path | None]:
        """The folder, while nobody else changes it."""
        name = "-".join(self._named())
        with self._keeper.changing(name, what="the journal") as folder:
            yield None if folder is None else folder / name

    def _own(self, wanted: Pin | str) -> str:
        """The id of a pin that may be changed here."""
        pin = self.find(wanted)
        if pin.id not in {own.id for own in self.pins()}:
            raise BadValueError(
                f"Pin {pin.id} was made with another model or data and can only be looked at here.",
                hint="Open a session on that model and data to change it.",
            )
        return pin.id

    def _at_here(self, name: str) -> int | None:
        return next((i for i, pin in enumerate(self._here) if pin.id == name), None)

    def _write_waiting(self, folder: Path) -> None:
        while self._here:
            self._write(folder, self._here[0])
            self._here.pop(0)

    def _write(self, folder: Path, pin: Pin) -> None:
        ids = [one.id for one in self._in(folder) if one.id != pin.id]
        self._sweep(folder)
        write_json(folder / f"{pin.id}.still.json", pin.still.as_json())
        write_json(folder / f"{pin.id}.json", pin.as_json())
        self._put_order(folder, [*ids, pin.id], _order_of(folder)["removed"])

    def _sweep(self, folder: Path) -> None:
        """Remove stills whose pin was never finished; we hold the lock, so nobody is about to finish it."""
        with suppress(FileNotFoundError):
            for path in folder.glob("*.still.json"):
                if not path.with_name(path.name.removesuffix(".still.json") + ".json").exists():
                    remove(path)

    def _put_order(self, folder: Path, ids: list[str], removed: list[dict[str, Any]]) -> None:
        write_json(folder / "order.json", {"made_with": dict(self.made_with()), "order": ids, "removed": removed})

    def _in(self, folder: Path) -> list[Pin]:
        """The pins of a folder in order; those that the order does not name come last, by their time."""
        order = _order_of(folder)
        place = {name: i for i, name in enumerate(order["order"])}
        removed = {one["id"] for one in order["removed"]}
        found = [pin for pin in self._listed(folder)[0] if pin.id not in removed]
        return sorted(found, key=lambda pin: (place.get(pin.id, len(place)), pin.time, pin.id))

    def _listed(self, folder: Path) -> tuple[list[Pin], list[Path]]:
        pins: list[Pin] = []
        damaged: list[Path] = []
        try:
            names = sorted(os.listdir(folder))
        except FileNotFoundError:
            return pins, damaged
        for name in names:
            if (
                name.startswith(".")
                or name == "order.json"
                or name.endswith(".still.json")
                or not name.endswith(".json")
            ):
                continue
            path = folder / name
            try:
                facts = path.stat()
                seen = facts.st_mtime_ns, facts.st_size, facts.st_ino
                known = self._read.get(path)
                if known is None or known[0] != seen:
                    record = read_json(path)
                    if record is None:  # removed a moment ago
                        continue
                    if record["id"] != path.stem:
                        raise KeyError("it is the file of another pin")
                    self._read[path] = known = (seen, Pin.read(record, _reader(path)))
                pins.append(known[1])
            except FileNotFoundError:
                continue
            except (DamagedEntryError, KeyError, TypeError) as error:
                if path not in self._warned:
                    self._warned.add(path)
                    logger.warning("A pin cannot be read and is left out: %s: %s", path, error)
                damaged.append(path)
        return pins, damaged

    def _tell(self) -> None:
        for call in list(self._listeners):
            call()


def _reader(path: Path) -> Callable[[], PinnedStill]:
    def read() -> PinnedStill:
        name = path.name.removesuffix(".json")
        try:
            record = read_json(path.with_name(f"{name}.still.json"))
            if record is None:
                raise lost(name)
            return PinnedStill.read(record)
        except (DamagedEntryError, KeyError, ValueError) as error:
            raise lost(name, error) from error

    return read


def _order_of(folder: Path) -> dict[str, Any]:
    """Order and what was removed; where their file is lost, the pins are ordered by time."""
    try:
        record = read_json(folder / "order.json")
    except DamagedEntryError as error:
        logger.warning("The order of the journal is lost, pins are shown by their time: %s", error)
        record = None
    return {"order": (record or {}).get("order", []), "removed": (record or {}).get("removed", [])}


def _place(at: int, by: int, to: int | None, n: int) -> int:
    return max(0, min(n - 1, at + by if to is None else to))


def _gone(name: str) -> UnknownNameError:
    return UnknownNameError(
        f"Pin {name} is no longer in this journal.", hint="It was removed elsewhere; `undo()` helps."
    )


def _not_saved(error: StoreError) -> StoreError:
    """The same error, which also says where the pin is now."""
    told = type(error)(
        f"The pin is kept until this session ends, and not in the store: {error.message}",
        hint=" ".join(filter(None, (error.hint, "to_html() and to_notebook() write it to a file of yours."))),
    )
    return told
