"""show: widgets and results side by side, in ipywidgets' own grid.

A notebook keeps what was displayed. A live view alone would be an error text in a notebook that is opened again without
its kernel, so a still is put out beside it, which the live view hides as long as it runs (setting ``still``).
"""

from __future__ import annotations

import json
from typing import Any

import ipywidgets

from workbench.core.errors import BadValueError
from workbench.core.registry import WIDGETS
from workbench.widgets import beside
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
        here = beside.cell()
        if self._shown_in is None or self._shown_in != here:
            self._shown_in = here
            beside.put_out(self)

    def to_html(self, path: Any, **options: Any) -> Any:
        """Write the board as one file that works without kernel and network; see `workbench.export`."""
        from workbench.widgets.exporting import export

        return export(self, path, **options)

    def freeze(self) -> None:
        """Replace the live views by their stills where the board was displayed, and close the widgets."""
        beside.freeze(self)

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
    if beside.cell() is not None:
        board._ipython_display_()
    return board


def _owner(thing: Any) -> Any:
    return thing.session if isinstance(thing, SessionWidget) else session_of(thing)


def _as_widget(thing: Any, session: Any, group: str) -> Any:
    if isinstance(thing, ipywidgets.Widget):
        return thing
    found = shown_by(thing)
    if found is not None:
        cls, record = found
        return cls(record, session=session, group=group)
    figure = thing.plot() if callable(getattr(thing, "plot", None)) else thing
    if not hasattr(figure, "_repr_mimebundle_") and not hasattr(figure, "_repr_html_"):
        raise BadValueError(
            f"{type(thing).__name__} can neither be shown nor plotted.", hint="Print it, or make a frame of it."
        )
    return _framed(figure)


def shown_by(thing: Any) -> tuple[type, Any] | None:
    """The widget that shows a result, or what a fitted method has learned, and which of these it shows."""
    learned = (getattr(thing, name, None) for name in ("atlas_", "map_", "result_"))
    candidates = [one for one in (thing, *learned) if one is not None]

    def shows(facts: dict[str, Any]) -> bool:
        return any(isinstance(one, facts.get("shows", ())) for one in candidates)

    name = WIDGETS.stating(shows)
    if name is None:
        return None
    kinds = WIDGETS.facts(name)["shows"]
    return WIDGETS[name], next(one for one in candidates if isinstance(one, kinds))


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
