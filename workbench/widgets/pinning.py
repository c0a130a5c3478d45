"""Pins made of widgets, boards and results, and views made of pins again.

The code of a pin is read and not run when a view is restored: only the calls that we write ourselves are understood, so
a journal that came from somebody else can do no more than open widgets.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import traitlets

from workbench.core.errors import BadValueError, WorkbenchError
from workbench.core.registry import METHODS, WIDGETS
from workbench.session.deliver import gate
from workbench.session.pins import Pin, PinnedStill, new_pin
from workbench.widgets.choosing import session_of
from workbench.widgets.still_png import png_of
from workbench.widgets.stills import HTML_BYTES, Still, stacked

__all__ = ["journal_of", "pin_of", "view_of"]

_WAIT_S = 30.0


def journal_of(session: Any) -> Any:
    """The keeper of a session's pins.

    Raises
    ------
    BadValueError
        If there is no session.
    """
    book = getattr(session, "journal", None)
    if book is None:
        raise BadValueError(
            "What belongs to no session has no journal to be pinned into.",
            hint="Make it with a session: open_session(model, data).",
        )
    return book


def pin_of(thing: Any, note: str = "", *, title: str = "", code: str = "", session: Any = None) -> Pin:
    """A pin of what a widget, a board or a result shows now. May wait for its pictures; the model does not run.

    Parameters
    ----------
    thing : SessionWidget, Board, or result with ``plot()``
    note, title : str
        Plain text; the title is what the still is called if not given.
    code : str
        The calls that make it, where it cannot tell: for results.
    session : Session, optional
        Where a result belongs, if it does not tell.
    """
    from workbench.widgets.base import SessionWidget
    from workbench.widgets.showing import Board

    if isinstance(thing, SessionWidget):
        return _pin_of_widgets([thing], note, title, code)
    if isinstance(thing, Board):
        ours = [one for one in thing.widgets if isinstance(one, SessionWidget)]
        if not ours:
            raise BadValueError("There is no widget of ours on this board to pin.", hint="Pin the results themselves.")
        return _pin_of_widgets(ours, note, title, code, board=thing)
    widget = _shown_by(thing, session)
    if widget is not None:
        try:
            return _pin_of_widgets([widget], note, title, code)
        finally:
            widget.close()
    if not callable(getattr(thing, "plot", None)):
        raise BadValueError(
            f"{type(thing).__name__} can neither be shown nor plotted, and so not pinned.",
            hint="Pin a widget, a board, or a result with .plot().",
        )
    return _pin_of_result(thing, note, title, code, session)


def _pin_of_widgets(widgets: list[Any], note: str, title: str, code: str, board: Any = None) -> Pin:
    for widget in widgets:
        if widget._is_closed:
            raise BadValueError(f"{type(widget).__name__} is closed and cannot be pinned.")
        if not _is_on_lane(widget):  # a pin made from the page is made there, after what waits before it
            widget.wait(_WAIT_S)
            widget.submit(widget.prepare_still, quiet=True).wait(_WAIT_S)
            widget.wait(_WAIT_S)
        else:
            widget.prepare_still()
    with gate():  # all of one moment
        states = [widget.state() for widget in widgets]
        recipes = [widget.recipe() for widget in widgets]
        codes = [widget.plain_code() for widget in widgets]
        stills = [widget.snapshot() for widget in widgets]
    if board is None:
        state, kind, made = states[0], type(widgets[0]).__name__, codes[0]
    else:
        state, kind, made = {"widget": "Board", "widgets": states}, "Board", _code_of_board(codes)
    return new_pin(
        title=title or " · ".join(dict.fromkeys(still.title for still in stills))[:300],
        note=note,
        widget=kind,
        text="\n".join(still.text() for still in stills),
        state=state,
        code=code or made,
        recipe=_joined(recipes),
        still=_still_of(stills),
    )


def _pin_of_result(result: Any, note: str, title: str, code: str, session: Any) -> Pin:
    from workbench.widgets.drawn import still_of_figure

    owner = session_of(result) or session
    frame = result.to_frame() if callable(getattr(result, "to_frame", None)) else None
    still = still_of_figure(result.plot(), rows=frame)
    digests = dict(owner.digests()) if hasattr(owner, "digests") else {}
    stored = str(getattr(result, "recipe", "") or "")
    still = replace(still, digests={**digests, "results": stored[:12]}, code=code)
    return new_pin(
        title=title or still.title,
        note=note,
        widget=type(result).__name__,
        text=still.text(),
        state={"widget": type(result).__name__},
        code=code or f"# {type(result).__name__}: the calls that made it were not given to pin()",
        recipe={**digests, "results": [stored] if stored else []},
        still=_still_of([still]),
    )


def _still_of(stills: list[Still]) -> PinnedStill:
    limit = HTML_BYTES // len(stills) - 200
    parts = [still.html(limit=limit) for still in stills]
    html = stacked(parts)
    return PinnedStill(html, png_of(stills))


def _joined(recipes: list[dict[str, Any]]) -> dict[str, Any]:
    results = dict.fromkeys(digest for recipe in recipes for digest in recipe.get("results", ()))
    return {**{k: v for recipe in recipes for k, v in recipe.items()}, "results": list(results)}


def _code_of_board(codes: list[str]) -> str:
    lines = [line for code in codes for line in code.splitlines()]
    heads = list(dict.fromkeys(line for line in lines if line.startswith(("#", "from "))))
    calls = [line for line in lines if not line.startswith(("#", "from "))]
    return "\n".join([*heads, f"wb.show({', '.join(calls)})"])


def _is_on_lane(widget: Any) -> bool:
    return bool(widget._lane.is_current)


def _shown_by(result: Any, session: Any) -> Any:
    """A widget of a result, if one is registered for it."""
    from workbench.widgets.showing import shown_by

    found = shown_by(result)
    if found is None:
        return None
    cls, record = found
    learned = (getattr(result, name, None) for name in ("atlas_", "map_"))
    source = result if any(record is one for one in learned) else record  # a fitted method tells how it was made
    return cls(source, session=session_of(result) or session)


# From a pin to a view -------------------------------------------------------------------------------------------------


def view_of(pin: Pin, session: Any) -> tuple[Any, list[str]]:
    """What was pinned, as a view again: the one that is open for it, else a new one; and what does not fit.

    Raises
    ------
    BadValueError
        If its code is not a call that we wrote, or names a widget that is not installed.
    """
    from workbench.widgets.showing import Board

    reports = pin.differences(session.digests() if hasattr(session, "digests") else {})
    view = journal_of(session).views.get(pin.id)
    if view is None or _is_closed(view):
        view = _made(pin, session)
        journal_of(session).views[pin.id] = view
    if isinstance(view, Board):
        states = pin.state.get("widgets", [])
        members = [one for one in view.widgets if hasattr(one, "restore")]
        for widget, state in zip(members, states, strict=False):
            reports += widget.restore(state)
    elif hasattr(view, "restore"):
        reports += view.restore(pin.state)
    return view, list(dict.fromkeys(one for one in reports if not _is_said(one, pin)))


def _is_said(report: str, pin: Pin) -> bool:
    """Whether a report of a widget repeats what is said of the pin as a whole."""
    return any(report.startswith(f"{name}: the state was made with {value};") for name, value in pin.made_with.items())


def _is_closed(view: Any) -> bool:
    from workbench.widgets.showing import Board

    members = [one for one in view.widgets if hasattr(one, "restore")] if isinstance(view, Board) else [view]
    return any(getattr(one, "_is_closed", False) for one in members)


def _made(pin: Pin, session: Any) -> Any:
    lines = [line for line in pin.code.splitlines() if line.strip() and not line.startswith(("#", "from "))]
    try:
        tree = ast.parse("\n".join(lines), mode="eval").body
        make = _reading(tree, session)
    except (SyntaxError, ValueError) as error:
        raise BadValueError(
            f"The view of pin {pin.id} cannot be made from its code: {error}",
            hint="Copy the code into a cell and run it there.",
        ) from error
    with gate():
        return make()


def _reading(node: ast.expr, session: Any) -> Callable[[], Any]:
    """Understand ``wb.widgets.Name(source, option=value)`` and ``wb.show(…)`` of these."""
    if not isinstance(node, ast.Call):
        raise ValueError("it is no call.")
    name = ast.unparse(node.func)
    if name == "wb.show":
        from workbench.widgets.showing import Board

        members = [_reading(one, session) for one in node.args]
        return lambda: Board([make() for make in members])
    cls: Any = _class_of(name.removeprefix("wb.widgets."))
    source = [_source(one, session) for one in node.args[:1]] + [ast.literal_eval(one) for one in node.args[1:]]
    options = {str(one.arg): _value(one.value, session) for one in node.keywords if one.arg}
    if len(options) != len(node.keywords):
        raise ValueError("it is not one of ours.")
    if source and source[0] is not session:
        options["session"] = session

    def make() -> Any:
        try:
            return cls(*source, **options)
        except (WorkbenchError, traitlets.TraitError):  # something that does not fit any more: the state says what
            in_state = {*cls.class_trait_names(view=True), *cls.follows} - {*cls.in_source}
            return cls(*source, **{name: value for name, value in options.items() if name not in in_state})

    return make


def _value(node: ast.expr, session: Any) -> Any:
    return session if isinstance(node, ast.Name) and node.id == "s" else ast.literal_eval(node)


def _source(node: ast.expr, session: Any) -> Any:
    """``s``, or a fit of one of our methods or its record: ``s.fit(wb.methods.Name(option=value)).map_``."""
    if isinstance(node, ast.Name) and node.id == "s":
        return session
    if isinstance(node, ast.Attribute) and node.attr in ("atlas_", "map_", "result_"):
        return getattr(_source(node.value, session), node.attr)
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "s.fit" and len(node.args) == 1 and not node.keywords:
        (method,) = node.args
        if isinstance(method, ast.Call):
            name = ast.unparse(method.func).removeprefix("wb.methods.")
            found = METHODS.where(lambda cls: getattr(cls, "__name__", "") == name)
            if len(found) == 1:
                args = [ast.literal_eval(one) for one in method.args]
                options = {str(one.arg): ast.literal_eval(one.value) for one in method.keywords if one.arg}
                return session.fit(next(iter(found.values()))(*args, **options))
    raise ValueError(f"{ast.unparse(node)[:80]} is not the session, nor a fit of one of its methods.")


def _class_of(name: str) -> type:
    found: Mapping[str, Any] = WIDGETS.where(lambda cls: cls.__name__ == name)
    if len(found) != 1:
        raise ValueError(f"there is no widget {name}.")
    return next(iter(found.values()))
