"""The still beside a live view: put out with it, and brought up to date when what it shows has changed and rests.

Readers get the new still some moments after the last change, from the widget's own lane. Notebooks that are executed
for their pages (setting ``still_wait_s``) get it at the end of each cell, from within it: whoever executes a notebook
listens to the running cell only, and to nothing once the last one has ended.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import threading
import weakref
from typing import Any

from workbench.core.config import settings
from workbench.core.errors import CancelledError
from workbench.session.deliver import deliver
from workbench.widgets.pacing import Rested
from workbench.widgets.still_png import png_of
from workbench.widgets.stills import Still, stacked

__all__ = ["Beside", "cell", "freeze", "put_out"]

logger = logging.getLogger(__name__)

VIEW = "application/vnd.jupyter.widget-view+json"
_REST_S = 0.5
_POSTPONED = 10  # times that running jobs may put a still off: what they find comes into it


def put_out(thing: Any) -> None:
    """Display a widget or board, live and still, as the setting ``still`` says."""
    from IPython.display import display

    now, ours = settings(), _ours(thing)
    if now.still == "none" or not ours:
        display({**_live(thing.model_id), "text/plain": repr(thing)}, raw=True)
        return
    wait_for(ours, now.still_wait_s)
    _beside(thing, ours).put_out(now.still, is_executed=now.still_wait_s > 0)


def freeze(thing: Any) -> None:
    """Replace the live view of a widget or board by its still, and close it."""
    ours = _ours(thing)
    wait_for(ours, 30.0)
    for beside in [one for one in ours[0]._shown if one.widgets == ours] if ours else ():
        beside.freeze()
    thing.close()


def wait_for(widgets: list[Any], seconds: float) -> None:
    """Notebooks that are executed for their pages wait for what their stills show; readers do not."""
    if seconds:
        for widget in widgets:
            widget.wait(seconds)
            widget.submit(widget.prepare_still, quiet=True).wait(seconds)
            widget.wait(seconds)


def cell() -> Any:
    """Number of the running cell; None outside a notebook."""
    import sys

    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    shell = get_ipython()
    return None if shell is None or not hasattr(shell, "kernel") else shell.execution_count


class Beside:
    """A live view of some widgets and the still of all of them, wherever both are displayed.

    Parameters
    ----------
    model_id : str
        Of the widget or board that is displayed.
    widgets : list of SessionWidget
    name : str
        By which notebooks know the still; the live view has ``-live`` behind it.
    """

    def __init__(self, model_id: str, widgets: list[Any], name: str):
        self.model_id, self.widgets, self.name = model_id, widgets, name
        self.mark = widgets[0]._still_mark
        self.mode, self.is_executed = "separate", False
        self._wishes = self._done = self._round = self._postponed = 0
        self._last = ""
        self._is_over = False
        self._lock = threading.Lock()
        self._rest = Rested(self._look, _REST_S)
        for widget in widgets:
            self._follow(widget)
        _all.add(self)

    def put_out(self, mode: str, *, is_executed: bool) -> None:
        """Display both here."""
        from IPython.display import display

        self.mode, self.is_executed = mode, is_executed
        wishes = self._wishes
        found = self._bundle(self._stills())
        if mode == "bundle":
            display({**_live(self.model_id), **found}, raw=True, display_id=f"{self.name}-live")
        else:
            display(_live(self.model_id), raw=True, display_id=f"{self.name}-live")
            display(found, raw=True, display_id=self.name)
        self._last = found["text/html"]
        if is_executed:
            self._done = wishes
            _at_the_end_of_cells()
        else:
            self.refresh()

    def freeze(self) -> None:
        """Put the still in the place of the live view."""
        from IPython.display import update_display

        if cell() is None or self._is_over:
            return
        self.stop()
        update_display(_forms(self._stills()), raw=True, display_id=f"{self.name}-live")
        update_display({"text/html": ""}, raw=True, display_id=self.name)

    def stop(self) -> None:
        """Leave the still as it is."""
        self._is_over = True
        self._rest.stop()
        _all.discard(self)

    # For readers: when it rests ---------------------------------------------------------------------------------------

    def _follow(self, widget: Any) -> None:
        shown = [*widget.follows, *widget.trait_names(view=True), *widget.trait_names(payload=True), "_problem"]
        names = list(dict.fromkeys(shown))
        widget.observe(self._wish, names=names)
        widget._shown.append(self)
        widget._undo += [self.stop, lambda: widget.unobserve(self._wish, names=names)]

    def _wish(self, change: Any) -> None:
        self._wishes += 1
        # To display a view anew makes it anew, which must not happen under the reader's hands.
        if not self.is_executed and self.mode != "bundle":
            self._rest()

    def _look(self) -> None:
        if any(widget._told for widget in self.widgets) and self._postponed < _POSTPONED:
            self._postponed += 1
            self._rest()
            return
        self._postponed = 0
        self.refresh()

    def refresh(self) -> None:
        """Make the still anew on the widgets' lanes, once what it needs is there, and show it if it is another."""
        with self._lock:
            self._round += 1
            number, left = self._round, [len(self.widgets)]
        for widget in self.widgets:
            with contextlib.suppress(CancelledError):  # it was closed meanwhile
                widget.submit(self._prepare, widget, number, left, topic=f"still {self.name}", quiet=True)

    def _prepare(self, widget: Any, number: int, left: list[int]) -> None:
        try:
            widget.prepare_still()
        finally:
            with self._lock:
                left[0] -= 1
                is_last = left[0] == 0
            if is_last:
                self._make(number)

    def _make(self, number: int) -> None:
        wishes = self._wishes
        try:
            found = self._bundle(self._stills(), unless=self._last)
        except Exception:
            if wishes != self._wishes:  # it changed under our hands: the next round shows what it is then
                return
            raise
        if found:
            deliver(self._tell, found, number, key=(id(self), "still"))

    def _tell(self, found: dict[str, Any], number: int = 0) -> None:
        from IPython.display import update_display

        if self._is_over or cell() is None or (number and number != self._round):
            return
        self._last = found["text/html"]
        if self.mode == "bundle":
            update_display({**_live(self.model_id), **found}, raw=True, display_id=f"{self.name}-live")
        else:
            update_display(found, raw=True, display_id=self.name)

    # For notebooks that are executed: at the end of each cell ---------------------------------------------------------

    def catch_up(self) -> None:
        """Wait for what the still shows, and put it out from the running cell if it is another."""
        if not self.is_executed or self._is_over or self._wishes == self._done:
            return
        wait_for(self.widgets, settings().still_wait_s)
        self._done = self._wishes
        if found := self._bundle(self._stills(), unless=self._last):
            self._tell(found)

    # The forms --------------------------------------------------------------------------------------------------------

    def _stills(self) -> list[Still]:
        return [widget.snapshot() for widget in self.widgets]

    def _bundle(self, stills: list[Still], unless: str = "") -> dict[str, Any]:
        return _forms(stills, "" if self.mode == "bundle" else self.mark, unless)


_all: weakref.WeakSet[Beside] = weakref.WeakSet()


def _catch_up(*_: Any) -> None:
    for beside in list(_all):
        try:
            beside.catch_up()
        except Exception:  # the cell has ended well; what failed is told by the widget itself
            logger.exception("A still could not be brought up to date.")


def _at_the_end_of_cells() -> None:
    from IPython import get_ipython

    if (shell := get_ipython()) is not None:
        shell.events.register("post_run_cell", _catch_up)  # once, however often it is asked for


def _beside(thing: Any, ours: list[Any]) -> Beside:
    """The one of these widgets if they have been shown together before; each other company has a still of its own."""
    for one in ours[0]._shown:
        if one.widgets == ours and one.model_id == thing.model_id and not one._is_over:
            return one  # type: ignore[no-any-return]
    number = len(ours[0]._shown)
    return Beside(thing.model_id, ours, f"{ours[0]._still_mark}-{number}" if number else ours[0]._still_mark)


def _ours(thing: Any) -> list[Any]:
    from workbench.widgets.base import SessionWidget

    if isinstance(thing, SessionWidget):
        return [thing]
    return [one for one in getattr(thing, "widgets", ()) if isinstance(one, SessionWidget)]


def _live(model_id: str) -> dict[str, Any]:
    return {VIEW: {"version_major": 2, "version_minor": 0, "model_id": model_id}}


def _forms(stills: list[Still], mark: str = "", unless: str = "") -> dict[str, Any]:
    """The stills of widgets that were put out together, in all forms; nothing if they are those that are there."""
    html = stacked([still.html() for still in stills], mark)
    if html == unless:
        return {}
    return {
        "image/png": base64.b64encode(png_of(stills)).decode("ascii"),
        "text/html": html,
        "text/plain": "\n".join(still.text() for still in stills),
    }
