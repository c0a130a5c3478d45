"""show: widgets and results side by side, in ipywidgets' own grid."""

from __future__ import annotations

import json
from typing import Any

import ipywidgets

from workbench.core.errors import BadValueError
from workbench.core.registry import WIDGETS
from workbench.widgets.base import SessionWidget
from workbench.widgets.choosing import session_of

__all__ = ["Board", "show"]


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
        from IPython.display import display

        here = _cell()
        if self._shown_in is None or self._shown_in != here:
            self._shown_in = here
            display(self._repr_mimebundle_(), raw=True)

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


def _owner(thing: Any) -> Any:
    return thing.session if isinstance(thing, SessionWidget) else session_of(thing)


def _as_widget(thing: Any, session: Any, group: str) -> Any:
    if isinstance(thing, ipywidgets.Widget):
        return thing
    for candidate in (thing, getattr(thing, "atlas_", None), getattr(thing, "result_", None)):
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
