"""show: widgets and results side by side, in ipywidgets' own grid; and how what is displayed gets its still.

A notebook keeps what was displayed. A live view alone would be an error text in a notebook that is opened again without
its kernel, so a still is put out beside it, which the live view hides as long as it runs (setting ``still``).
"""

from __future__ import annotations

import base64
import json
from typing import Any

import ipywidgets

from workbench.core.config import settings
from workbench.core.errors import BadValueError
from workbench.core.registry import WIDGETS
from workbench.widgets.base import SessionWidget
from workbench.widgets.choosing import session_of
from workbench.widgets.still_png import png_of

__all__ = ["Board", "freeze", "put_out", "show", "update_still"]

_VIEW = "application/vnd.jupyter.widget-view+json"


class Board(ipywidgets.GridBox):
    """What `show` returns: a grid of widgets that stand beside one another where there is room, else below.

    Its `widgets` are the ones it was made of. It is displayed once in the cell that made it, whether `show` is the last
    line or not; displaying it elsewhere shows it again.
    """

    def __init__(self, widgets: list[Any]):
        self.widgets = tuple(widgets)
        super().__init__(widgets)
        self.add_class("wb-board")
        self.add_class(f"wb-board-{len(widgets)}")
        self._shown_in: Any = None

    def _ipython_display_(self) -> None:
        here = _cell()
        if self._shown_in is None or self._shown_in != here:
            self._shown_in = here
            put_out(self)

    def to_html(self, path: Any, **options: Any) -> Any:
        """Write the board as one file that works without kernel and network; see `workbench.export`."""
        from workbench.widgets.exporting import export

        return export(self, path, **options)

    def freeze(self) -> None:
        """Replace the live views by their stills where the board was displayed, and close the widgets."""
        freeze(self)

    def close(self) -> None:
        """Close the board and the widgets on it."""
        self.children = ()
        for widget in self.widgets:
            widget.close()
        super().close()

    def __repr__(self) -> str:
        return f"<board of {', '.join(type(w).__name__ for w in self.widgets)}>"


def show(*things: Any, session: Any = None, group: str = "") -> Board:
    """Show widgets, results and figures together.

    Parameters
    ----------
    *things : widgets, results, fitted methods or figures
        A result is shown by the widget that is registered for it, an `Atlas` by `AtlasBrowser`; without one, by its
        plot.
    session : Session, optional
        Where results belong, if they do not tell.
    group : str
        Group of selection of the widgets that are made here.

    Returns
    -------
    Board
        A ``GridBox``; its children are the widgets.

    Raises
    ------
    BadValueError
        If something can neither be shown nor plotted.

    Examples
    --------
    >>> show(AtlasBrowser(atlas), ComponentCard(s), HeatmapViewer(s))  # doctest: +SKIP
    """
    if not things:
        raise BadValueError("There is nothing to show.", hint="Give it widgets or results: show(atlas).")
    session = session or next(filter(None, map(_owner, things)), None)
    board = Board([_as_widget(thing, session, group) for thing in things])
    if _cell() is not None:
        board._ipython_display_()
    return board


# Live views and their stills ------------------------------------------------------------------------------------------


def put_out(thing: Any) -> None:
    """Display a widget or board, live and still, as the setting ``still`` says."""
    from IPython.display import display

    mode, ours = settings().still, _ours(thing)
    view = {_VIEW: {"version_major": 2, "version_minor": 0, "model_id": thing.model_id}}
    if mode == "none" or not ours:
        display({**view, "text/plain": repr(thing)}, raw=True)
        return
    _wait_for(ours)
    mark = ours[0]._still_mark
    if mode == "bundle":
        display({**view, **_bundle(ours)}, raw=True, display_id=f"{mark}-live")
    else:
        display(view, raw=True, display_id=f"{mark}-live")
        display(_bundle(ours, mark), raw=True, display_id=mark)
    for widget in ours:
        widget._shown_with = ours
        widget.refresh_still()


def update_still(widget: Any) -> None:
    """Bring the still that was put out with a widget up to date."""
    from IPython.display import update_display

    together = widget._shown_with
    if not together or widget._is_closed or _cell() is None:
        return
    mark = together[0]._still_mark
    if settings().still == "bundle":
        view = {_VIEW: {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}}
        if len(together) == 1:  # a board's live view is not the widget's own
            update_display({**view, **_bundle(together)}, raw=True, display_id=f"{mark}-live")
    else:
        update_display(_bundle(together, mark), raw=True, display_id=mark)


def freeze(thing: Any) -> None:
    """Replace the live view of a widget or board by its still, and close it."""
    from IPython.display import update_display

    ours = _ours(thing)
    _wait_for(ours, 30.0)
    if ours and ours[0]._shown_with and _cell() is not None:
        mark = ours[0]._still_mark
        update_display(_bundle(ours), raw=True, display_id=f"{mark}-live")
        update_display({"text/html": ""}, raw=True, display_id=mark)
    thing.close()


def _ours(thing: Any) -> list[SessionWidget]:
    if isinstance(thing, SessionWidget):
        return [thing]
    return [w for w in getattr(thing, "widgets", ()) if isinstance(w, SessionWidget)]


def _wait_for(widgets: list[SessionWidget], seconds: float | None = None) -> None:
    """Notebooks that are executed for their pages wait for what their stills show; readers do not."""
    seconds = settings().still_wait_s if seconds is None else seconds
    if seconds:
        for widget in widgets:
            widget.wait(seconds)
            widget.submit(widget.prepare_still, quiet=True).wait(seconds)
            widget.wait(seconds)


def _bundle(widgets: list[SessionWidget], mark: str = "") -> dict[str, Any]:
    """The stills of widgets that were put out together."""
    stills = [widget.snapshot() for widget in widgets]
    if len(stills) == 1:
        return stills[0].bundle(mark=mark)
    inside = "".join(still.html() for still in stills)
    return {
        "image/png": base64.b64encode(png_of(stills)).decode("ascii"),
        "text/html": f'<div class="{mark}" style="display:grid;gap:8px">{inside}</div>',
        "text/plain": "\n".join(still.text() for still in stills),
    }


def _owner(thing: Any) -> Any:
    return thing.session if isinstance(thing, SessionWidget) else session_of(thing)


def _as_widget(thing: Any, session: Any, group: str) -> Any:
    if isinstance(thing, ipywidgets.Widget):
        return thing
    learned = (getattr(thing, name, None) for name in ("atlas_", "map_", "result_"))
    for candidate in (thing, *learned):
        for name in WIDGETS:
            if candidate is not None and isinstance(candidate, WIDGETS.facts(name).get("shows", ())):
                return WIDGETS[name](candidate, session=session, group=group)
    figure = thing.plot() if callable(getattr(thing, "plot", None)) else thing
    if not hasattr(figure, "_repr_mimebundle_") and not hasattr(figure, "_repr_html_"):
        raise BadValueError(
            f"{type(thing).__name__} can neither be shown nor plotted.", hint="Print it, or make a frame of it."
        )
    return _framed(figure)


def _framed(figure: Any) -> ipywidgets.Output:
    """A figure as a widget: the notebook draws it as it would at the end of a cell."""
    from IPython.core.formatters import DisplayFormatter

    if hasattr(figure, "to_plotly_json"):  # whatever renderer is chosen for other places
        drawn = json.loads(figure.to_json())
        drawn["layout"].pop("width", None)  # as wide as its place on the board
        drawn["layout"]["autosize"] = True
        data, metadata = {"application/vnd.plotly.v1+json": drawn, "text/plain": repr(figure)[:80]}, {}
    else:
        data, metadata = DisplayFormatter().format(figure)
    output = ipywidgets.Output()
    output.add_class("wb-whole")
    output.outputs = ({"output_type": "display_data", "data": data, "metadata": metadata},)
    return output


def _cell() -> Any:
    """Number of the running cell; None outside a notebook."""
    import sys

    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    shell = get_ipython()
    return None if shell is None or not hasattr(shell, "kernel") else shell.execution_count
