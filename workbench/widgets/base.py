"""SessionWidget: what all widgets share. Binding and closing are here; the rest has a room for each part:

`working` jobs and the status line, `answering` messages, `linking` the selection, `keeping` state, code, stills, pages.

A widget shows results and sends wishes. Its work waits on a lane of its own, and what needs the model waits there for
the model's lane; so tiles keep coming while a sweep runs, and closing a widget cancels what only it wanted.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import anywidget
import traitlets

from workbench.core.errors import BadValueError, nearest
from workbench.core.registry import WIDGETS
from workbench.session.deliver import free
from workbench.widgets.answering import Answering
from workbench.widgets.choosing import ids_of, selection_of, session_of
from workbench.widgets.handlers import on
from workbench.widgets.keeping import Keeping
from workbench.widgets.linking import Linking
from workbench.widgets.working import Working

if TYPE_CHECKING:
    import pandas as pd

    from workbench.widgets.beside import Beside

__all__ = ["SessionWidget", "on", "register_widget"]

_numbers = itertools.count(1)


def register_widget(name: str, *, shows: type | tuple[type, ...] = (), stable: bool = True) -> Callable[[type], type]:
    """Put a widget into the registry.

    Parameters
    ----------
    name : str
    shows : type or tuple of types
        Results that `show(result)` shows with it.
    stable : bool
        False if its interface may still change.
    """
    return WIDGETS.register(name, shows=shows if isinstance(shows, tuple) else (shows,), stable=stable)


class SessionWidget(Answering, Working, Linking, Keeping, anywidget.AnyWidget):
    """Base class of all widgets.

    A subclass names its script (`_esm`), tags what the page may change with ``view=True`` and what Python sends with
    ``**wire.arrays``, and fills in `bind`. The rest is here.

    Parameters
    ----------
    source : Session, result or fitted method, optional
        What is shown.
    session : Session, optional
        Where a result belongs, if `source` does not tell.
    group : str
        Widgets of one group share a selection; the empty group shares the session's.
    **view
        Initial view state, by the names of the traits.

    Attributes
    ----------
    session : Session or None
    shared : Selection
        The selection that this widget follows and writes to.
    """

    status = traitlets.Enum(
        ["idle", "waiting", "running", "ready", "stale", "failed", "still"], "idle", help="What the widget is doing."
    ).tag(sync=True)
    progress = traitlets.Float(0.0, min=0.0, max=1.0, help="Finished share of the running job, 0 to 1.").tag(sync=True)
    message = traitlets.Unicode("", help="What is being done, or why what is shown is out of date.").tag(sync=True)
    theme = traitlets.Enum(["auto", "light", "dark"], "auto", help="Colours; auto follows the notebook.").tag(
        sync=True, view=True
    )
    palette = traitlets.Enum(["cividis", "viridis", "greys"], "cividis", help="Colours of one-sided quantities.").tag(
        sync=True, view=True
    )
    height = traitlets.Int(0, min=0, max=4000, help="Height in pixels; 0 is the widget's own choice.").tag(
        sync=True, view=True
    )
    title = traitlets.Unicode("", help="Heading; empty for the widget's own.").tag(sync=True, view=True)
    value = traitlets.Any(None, allow_none=True, help="What `stands_for` names, for `interactive_output` and the like.")
    state_version = traitlets.Int(1, help="Version of the view state's form.").tag(sync=True)
    _problem = traitlets.Dict(help="The error on show: asked, message, hint, type, trace.").tag(sync=True)

    def __init__(self, source: Any = None, *, session: Any = None, group: str = "", **view: Any):
        self._check_names(view)
        self._prepare(f"{type(self).__name__}-{next(_numbers)}")
        self._undo: list[Callable[[], None]] = []
        self._shown: list[Beside] = []
        self.session = session if session is not None else session_of(source)
        self.group = group
        self.shared = selection_of(self.session, group)
        super().__init__(**view)
        try:
            self._follow()
            self.bind(source)
        except BaseException:
            self.close()
            raise

    # What subclasses fill in ------------------------------------------------------------------------------------------

    def bind(self, source: Any) -> None:
        """Begin to show `source`: set payload traits, submit jobs. Called once, at the end of the construction."""

    def table(self) -> pd.DataFrame:
        """Everything on show, in the order on show."""
        import pandas as pd

        return pd.DataFrame()

    def plot(self, **options: Any) -> Any:
        """The same content as a plain plotly ``Figure``."""
        raise BadValueError(f"{type(self).__name__} has nothing to plot yet.")

    def stale_reason(self) -> str:
        """Why what is on screen does not match what is chosen now; empty if it does."""
        return ""

    # The selection ----------------------------------------------------------------------------------------------------

    def on_select(self, callback: Callable[[pd.DataFrame], None]) -> Callable[[], None]:
        """Call `callback(frame)` whenever the selection of this widget changes; returns a function that ends it."""
        names = [name for name in ("component", "components", "sample", "samples") if self.has_trait(name)]

        def tell(change: Any) -> None:
            callback(self.selection)

        self.observe(tell, names=names)
        return lambda: self.unobserve(tell, names=names)

    @property
    def selection(self) -> pd.DataFrame:
        """The selected rows of `table`, ids as index; empty with the same columns if nothing is selected."""
        table = self.table()
        return table.loc[[label for label in self.selected() if label in table.index]]

    @selection.setter
    def selection(self, wanted: Any) -> None:
        self.select(ids_of(wanted, self.table()))

    def selected(self) -> list[Any]:
        """Ids of what is selected."""
        return []

    def select(self, ids: list[Any]) -> None:
        """Select by ids."""
        raise BadValueError(f"Nothing can be selected in {type(self).__name__}.")

    # Coming and going -------------------------------------------------------------------------------------------------

    def _ipython_display_(self) -> None:
        from workbench.widgets.beside import put_out

        put_out(self)

    def show(self) -> None:
        """Display the widget here."""
        self._ipython_display_()

    def open(self) -> None:
        """Tell the browser of the widget; done by the constructor."""
        super().open()
        free(self.comm)

    def _send(self, msg: Any, buffers: Any = None) -> None:
        super()._send(msg, buffers=buffers)
        free(self.comm)

    def close(self) -> None:
        """Leave the page, stop listening, and cancel what only this widget wanted."""
        if not getattr(self, "_is_closed", True):
            self._is_closed = True
            for undo in self._undo:
                with contextlib.suppress(ValueError):
                    undo()
            self._undo.clear()
            self._lane.close()
        super().close()

    def _check_names(self, view: dict[str, Any]) -> None:
        known = [name for name in type(self).class_trait_names() if not name.startswith("_")]
        for name in view:
            if name not in known:
                public = sorted({*type(self).class_trait_names(view=True), *self.follows, "session", "group", "layout"})
                raise BadValueError(
                    f"{type(self).__name__} has no option {name!r}.",
                    hint=f"{nearest(name, public)} {', '.join(public)}.",
                )

    def describe(self) -> str:
        """A few words on what is shown, for the repr."""
        return ""

    def __repr__(self) -> str:
        return f"<{' '.join(filter(None, (type(self).__name__, self.describe())))}: {self.status}>"
