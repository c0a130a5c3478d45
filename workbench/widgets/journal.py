"""Journal: what has been found so far, and how to get back to it?"""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from workbench.core.bars import Bars
from workbench.core.errors import BadValueError, StoreError
from workbench.session.deliver import deliver
from workbench.session.lane import Job
from workbench.widgets import wire
from workbench.widgets.base import SessionWidget, on, register_widget
from workbench.widgets.esm import css, esm
from workbench.widgets.handlers import at_most, optional
from workbench.widgets.notebooks import notebook_of, write_notebook
from workbench.widgets.pinning import journal_of, pin_of, view_of
from workbench.widgets.recording import Recording
from workbench.widgets.stills import Picture, Still

if TYPE_CHECKING:
    import pandas as pd

    from workbench.session.pins import Pin

__all__ = ["Journal"]

logger = logging.getLogger(__name__)

_COLUMNS = ("title", "note", "widget", "time", "model", "data", "is_saved", "code")
_THUMB = (320, 220)
_MOST_THUMBS = 200  # about 2 MB of the 4 that a widget may hold
_FAR = 1_000_000


@register_widget("journal")
class Journal(SessionWidget):
    """The pins of a session as cards: picture, note, code and digests, in the order you give them.

    Every widget's menu pins into it, as does `pin`. Pins are kept beside the store for this model and this data, and
    are there again another day; `others` lists those that the same store holds of other models and data.

    Parameters
    ----------
    source : Session
    **view
        `current`, `others` and the other traits.

    Examples
    --------
    >>> j = Journal(s)  # doctest: +SKIP
    >>> j.pin(neuron_map, "two clusters of text detectors")  # doctest: +SKIP
    >>> j.to_notebook("findings.ipynb")  # doctest: +SKIP
    """

    _esm = esm("journal")
    _css = css("journal")
    stands_for = "current"

    current = traitlets.Unicode("", help="Id of the pin in focus; empty if none is.").tag(sync=True, view=True)
    others = traitlets.Bool(False, help="Also list pins that were made with other models or data.").tag(
        sync=True, view=True
    )
    cards = traitlets.Dict(help="The pins in order, with small pictures; how many can be brought back.").tag(
        sync=True, **wire.arrays
    )

    def bind(self, source: Any) -> None:
        if self.session is None:
            raise BadValueError(
                f"Journal shows the pins of a session; got {type(source).__name__}.",
                hint="Give it what open_session returned.",
            )
        self.book = journal_of(self.session)
        self.restored: Any = None
        self.reports: list[str] = []
        self._thumbs: dict[str, dict[str, Any]] = {}
        self._undo.append(self.book.listen(lambda: deliver(self.refresh, key=(id(self), "look"))))
        self.observe(lambda change: self.refresh(), names="others")
        self.refresh()

    # Looking ----------------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Look again, for what another notebook has pinned meanwhile."""
        if not self._is_closed:
            self.submit(self._look, topic="look", title="The pins")

    def _look(self) -> None:
        own = self.book.pins()
        pins = [*own, *(self.book.others() if self.others else ())]
        rest = {"n_removed": self.book.removed(), "damaged": [path.name for path in self.book.damaged()]}
        ids, now = {pin.id for pin in own}, dict(self.made_with())
        missing = [pin for pin in pins[:_MOST_THUMBS] if pin.id not in self._thumbs]
        if missing:  # the words first: pictures are read from files
            deliver(self._take, {"pins": [self._card(pin, pin.id in ids, now) for pin in pins], **rest})
            for pin in missing:
                self._thumbs[pin.id] = _thumb(pin)
        deliver(self._take, {"pins": [self._card(pin, pin.id in ids, now) for pin in pins], **rest})

    def _card(self, pin: Pin, is_own: bool, now: dict[str, str]) -> dict[str, Any]:
        return {
            "id": pin.id,
            "title": pin.title,
            "note": pin.note,
            "time": pin.time,
            "widget": pin.widget,
            "text": pin.text,
            "code": pin.code,
            "recipe": {**pin.made_with, "results": [str(one) for one in pin.recipe.get("results", ())][:20]},
            "warnings": pin.differences(now),
            "is_own": is_own,
            "is_saved": pin.is_saved,
            "thumb": self._thumbs.get(pin.id, {}),
        }

    def _take(self, cards: dict[str, Any]) -> None:
        if not self._is_closed and cards != self.cards:
            self.cards = cards

    # Pins from Python -------------------------------------------------------------------------------------------------

    @property
    def pins(self) -> tuple[Pin, ...]:
        """The pins in order, as they are kept now."""
        return (*self.book.pins(), *(self.book.others() if self.others else ()))

    def pin(self, thing: Any, note: str = "", *, title: str = "", code: str = "") -> Pin:  # type: ignore[override]
        """Pin what a widget, a board or a result shows now.

        Parameters
        ----------
        thing : widget, Board, or result with ``plot()``
        note, title : str
            Plain text. Without a title it is called what its still is called.
        code : str
            The calls that make it, with the session as ``s``; widgets tell theirs.

        Returns
        -------
        Pin

        Raises
        ------
        StoreError
            If the store cannot be written; the pin is kept in memory then.
        """
        if thing is self:
            raise BadValueError("A journal is not pinned into itself.", hint="to_html() and to_notebook() keep it.")
        found = pin_of(thing, note, title=title, code=code, session=self.session)
        return self.book.add(found, view=thing if hasattr(thing, "close") else None)

    def edit(self, pin: Pin | str, *, note: str | None = None, title: str | None = None) -> Pin:
        """Change the note or the title of a pin."""
        return self.book.edit(pin, note=note, title=title)

    def move(self, pin: Pin | str, *, by: int = 0, to: int | None = None) -> None:
        """Move a pin `by` places down (up if negative), or `to` a place counted from 0."""
        self.book.move(pin, by=by, to=to)

    def remove(self, pin: Pin | str) -> None:
        """Take a pin away; `undo` brings it back."""
        self.book.remove(pin)

    def undo(self) -> Pin | None:
        """Bring back the pin that was removed last."""
        return self.book.undo()

    def restore(self, pin: Any) -> Any:  # type: ignore[override]
        """Bring back what a pin shows.

        Parameters
        ----------
        pin : Pin, id of one, or dict
            With a dictionary, the state of the journal itself, as in every widget.

        Returns
        -------
        widget or board
            The one that is open for the pin, else a new one. What does not fit is in `reports`, one line each.
        """
        if isinstance(pin, dict):
            return super().restore(pin)
        found = self.book.find(pin)
        self.restored, self.reports = view_of(found, self.session)
        for line in self.reports:
            logger.info("Pin %s: %s", found.id, line)
        return self.restored

    def to_notebook(self, path: str | Path) -> Path:
        """Write all pins into a notebook: how the session was opened, then note, code and still of each."""
        pins = self.pins
        if not pins:
            raise BadValueError("There is no pin to write.", hint="Pin a widget first: j.pin(widget, note).")
        opened = getattr(self.session, "opened_by", "")
        made = notebook_of(pins, title=self.title or "Journal", opened_by=opened, digests=self.session.digests())
        return write_notebook(path, made)

    # What the page asks -----------------------------------------------------------------------------------------------

    @on("still", id=str)
    def _on_still(self, id: str) -> Job:
        return self.submit(self._png_of, id, title="A picture", quiet=True)

    @on("edit", id=str, note=optional(str), title=optional(str))
    def _on_edit(self, id: str, note: str | None, title: str | None) -> Job:
        return self.submit(self._changed, self.book.edit, id, note=note, title=title, quiet=True)

    @on("move", id=str, to=at_most(_FAR))
    def _on_move(self, id: str, to: int) -> Job:
        return self.submit(self._changed, self.book.move, id, to=to, quiet=True)

    @on("remove", id=str)
    def _on_remove(self, id: str) -> Job:
        return self.submit(self._changed, self.book.remove, id, quiet=True)

    @on("undo")
    def _on_undo(self) -> Job:
        return self.submit(self._changed, self.book.undo, quiet=True)

    @on("refresh")
    def _on_refresh(self) -> None:
        self.refresh()

    @on("restore", id=str)
    def _on_restore(self, id: str) -> Job:
        return self.submit(self._restored, id, title="Restore a pin")

    def _pinned(self, note: str) -> dict[str, Any]:
        return {"id": self.pin(self, note).id}  # which says why not

    def _changed(self, change: Any, *args: Any, **kwargs: Any) -> dict[str, str]:
        found = change(*args, **kwargs)
        return {"id": getattr(found, "id", "")}

    def _png_of(self, id: str) -> dict[str, Any]:
        return {"png": self.book.find(id).png}

    def _restored(self, id: str) -> dict[str, Any]:
        known = self.book.views.get(id)
        view = self.restore(id)
        return {"is_new": view is not known, "model": view.model_id, "reports": self.reports}

    # What others get --------------------------------------------------------------------------------------------------

    def table(self) -> pd.DataFrame:
        """The pins on show, in order, with their id as index."""
        import pandas as pd

        pins = self.cards.get("pins", [])
        rows = [{**pin, **{name: pin["recipe"].get(name, "") for name in ("model", "data")}} for pin in pins]
        index = pd.Index([pin["id"] for pin in pins], name="pin", dtype=object)
        return pd.DataFrame([{name: row[name] for name in _COLUMNS} for row in rows], index=index, columns=_COLUMNS)

    def selected(self) -> list[Any]:
        return [self.current] if self.current else []

    def select(self, ids: list[Any]) -> None:
        """Put a pin into focus by its id."""
        self.current = self.book.find(ids[0]).id if ids else ""

    def plot(self, **layout: Any) -> Any:
        """How many pins there are of which kind of view, a plotly figure."""
        kinds = [pin["widget"] for pin in self.cards.get("pins", [])]
        names = list(dict.fromkeys(kinds))
        counts = [float(kinds.count(name)) for name in names]
        return Bars("Pins", "pins", names, {"pins": counts}).plot(**layout)

    # Keeping ----------------------------------------------------------------------------------------------------------

    def still(self) -> Still:
        pins = self.cards.get("pins", [])
        title = self.title or "Journal"
        if not pins:
            missing = "The pins are being read: `widget.wait()` waits for them." if not self.cards else ""
            return Still(title, "No pins yet", missing=missing, notes=() if missing else ("journal.pin(widget, note)",))
        pictures = [
            Picture(wire.picture(pin["thumb"]["jpeg"]), _spoken(pin), (f"{i}. {pin['title']}", pin["note"]))
            for i, pin in enumerate(pins, 1)
            if pin["thumb"].get("jpeg")
        ]
        rows = self.table()[["title", "note", "widget", "time"]]
        notes = [f"{pin['title']}: {line}" for pin in pins for line in pin["warnings"]][:6]
        return Still(title, f"{len(pins)} pins", pictures, rows=rows, notes=notes)

    def results(self) -> list[str]:
        found = [str(one) for pin in self.cards.get("pins", []) for one in pin["recipe"]["results"]]
        return list(dict.fromkeys(found))

    def recordings(self, wanted: Any) -> Iterator[Recording]:
        """The full stills of all pins."""
        for pin in self.cards.get("pins", []):
            yield Recording(
                lambda id=pin["id"]: self._png_of(id),  # type: ignore[misc]
                question=("still", {"id": pin["id"]}),
                what="stills",
            )

    def describe(self) -> str:
        return f"{len(self.cards.get('pins', []))} pins"


def _spoken(pin: dict[str, Any]) -> str:
    return " · ".join(filter(None, (pin["title"], " ".join(pin["text"].split("\n")))))


def _thumb(pin: Pin) -> dict[str, Any]:
    """A small picture of the still, from its top; empty if it cannot be read."""
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(pin.png)).convert("RGB")
    except (StoreError, OSError) as error:
        logger.warning("Pin %s has no picture: %s", pin.id, error)
        return {}
    width, height = _THUMB
    if image.width > width:
        image = image.resize((width, max(1, round(image.height * width / image.width))), Image.Resampling.LANCZOS)
    image = image.crop((0, 0, image.width, min(image.height, height)))
    return {"jpeg": wire.jpeg(np.asarray(image)), "width": image.width, "height": image.height}
