"""Notes and labels that people give to components, kept in the store's folder beside the results, never pruned.

Like tags and pins they are people's own work and no result: a file per model, ``notes/MODEL.json``. A label belongs to
the weights it was given for: other weights are another file.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from workbench.core.errors import BadValueError, StoreError
from workbench.core.ids import ComponentId, Fingerprint
from workbench.session.keeper import Keeper, Record

if TYPE_CHECKING:
    import pandas as pd

    from workbench.store import Store

__all__ = ["LABEL_MOST", "NOTE_MOST", "ComponentNotes", "Note"]

LABEL_MOST, NOTE_MOST = 120, 4000
"""Characters of a label and of a note at most."""


@dataclass(frozen=True)
class Note:
    """What somebody wrote about a component.

    Attributes
    ----------
    label : str
        One line; empty for none.
    note : str
    time : str
        When it was changed last, in UTC.
    """

    label: str = ""
    note: str = ""
    time: str = ""

    def __bool__(self) -> bool:
        return bool(self.label or self.note)


class ComponentNotes:
    """Labels and notes of one model's components; in memory where the store has no folder.

    Parameters
    ----------
    store : Store or None
    model : callable
        Gives the fingerprint that they belong to.
    check : callable
        From what somebody calls a component to its address; raises if there is none.

    Examples
    --------
    >>> s.notes.put("bn2/unit/17", label="stripes")  # doctest: +SKIP
    >>> s.notes.labels()  # doctest: +SKIP
    {'bn2/unit/17': 'stripes'}
    """

    def __init__(self, store: Store | None, model: Callable[[], Fingerprint], check: Callable[[Any], str]):
        self._keeper = Keeper(store, "notes")
        self._model, self._check = model, check
        self._listeners: list[Callable[[], None]] = []

    def all(self) -> dict[str, Note]:
        """What was written about which component, by address.

        Raises
        ------
        StoreError
            If their file was damaged.
        """
        return self._notes(self._keeper.read(self._model().digest, what=self._what))

    def of(self, component: Any) -> Note:
        """What was written about a component; an empty note if nothing was."""
        return self.all().get(self._check(component), Note())

    def labels(self, layer: str = "") -> dict[str, str]:
        """Labels by address, of all components or of those of one layer."""
        return {
            address: note.label
            for address, note in self.all().items()
            if note.label and (not layer or ComponentId.parse(address).layer == layer)
        }

    def put(self, component: Any, *, label: str | None = None, note: str | None = None) -> Note:
        """Change label or note of a component; an empty text takes it away, None leaves it.

        Raises
        ------
        BadValueError
            If the text is too long, or a label has several lines.
        ReadOnlyStoreError
            If the store may not be written.
        """
        address = self._check(component)
        label, note = _label(label), _text("note", note, NOTE_MOST)

        def change(record: Record | None) -> Record | None:
            old = self._notes(record)
            was = old.get(address, Note())
            now = Note(was.label if label is None else label, was.note if note is None else note, was.time)
            if now == was:
                return record
            changed.append(address)
            rest = {k: v for k, v in old.items() if k != address}
            if now:
                stamp = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
                rest[address] = Note(now.label, now.note, stamp)
            notes = {one: asdict(rest[one]) for one in _in_order(rest)}
            return {"model": str(self._model()), "digest": self._model().digest, "notes": notes}

        changed: list[str] = []
        new = self._notes(self._keeper.change(self._model().digest, change, what=self._what))
        if changed:
            for call in list(self._listeners):
                call()
        return new.get(address, Note())

    def table(self) -> pd.DataFrame:
        """All of them as a frame: component as index, label, note, time; those changed last come first."""
        import pandas as pd

        found = sorted(self.all().items(), key=lambda pair: pair[1].time, reverse=True)
        index = pd.Index([address for address, _ in found], name="component", dtype=object)
        return pd.DataFrame([asdict(note) for _, note in found], index=index, columns=["label", "note", "time"])

    def listen(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call `call()` after each change made in this session; returns a function that ends it."""
        self._listeners.append(call)
        return lambda: self._listeners.remove(call)

    # Inside -----------------------------------------------------------------------------------------------------------

    @property
    def _what(self) -> str:
        return f"the notes on {self._model()}"

    def _notes(self, record: Record | None) -> dict[str, Note]:
        try:
            return {} if record is None else {k: Note(**v) for k, v in record["notes"].items()}
        except (KeyError, TypeError, AttributeError) as error:
            raise StoreError(
                f"The notes on {self._model()} cannot be read: their file is not as it was written.",
                hint="Put a copy of the file in its place, or remove it to begin anew.",
            ) from error


def _in_order(addresses: Iterable[str]) -> list[str]:
    return sorted(addresses, key=lambda one: (ComponentId.parse(one).layer, ComponentId.parse(one).index))


def _label(text: Any) -> str | None:
    label = _text("label", text, LABEL_MOST)
    if label is not None and len(label.splitlines()) > 1:
        raise BadValueError("A label is one line.", hint="What needs more goes into the note.")
    return label


def _text(what: str, text: Any, most: int) -> str | None:
    if text is None:
        return None
    if not isinstance(text, str):
        raise BadValueError(f"A {what} is text; got {type(text).__name__}.")
    text = text.strip()
    if len(text) > most:
        raise BadValueError(f"A {what} has at most {most} characters; this one has {len(text)}.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadValueError(f"This {what} cannot be written: it holds half a character.") from error
    return text
