"""Messages from the browser: which method answers which kind, and what a message must look like.

A question is ``{"kind": "tiles", "id": "k3f-17", "body": {…}}``. It is answered exactly once, with
``{"kind": "answer", "to": "k3f-17", "ok": true, "result": …}``, or ``"ok": false`` and an ``"error"`` (message, hint,
type, trace), or ``"dropped": true`` where a newer question took its place. Large answers come in several messages.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from workbench.core.errors import BadValueError, NotSweptError, UnknownNameError, WorkbenchError, nearest

__all__ = ["at_most", "handlers_of", "many", "on", "one_of", "optional", "problem", "read_body"]

Check = Callable[[Any], Any]


def on(kind: str, **schema: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a method answer the messages of one kind.

    The method gets the checked body as keywords, and returns what is to be answered, arrays and bytes included, or a
    job whose result will be. Anything it raises is answered as an error.

    Parameters
    ----------
    kind : str
        Name of the message.
    **schema
        For each entry of the body: a type, or a function that returns the checked value. Entries that the schema does
        not name are refused.
    """

    def mark(method: Callable[..., Any]) -> Callable[..., Any]:
        method._answers = (kind, schema)  # type: ignore[attr-defined]
        return method

    return mark


def handlers_of(cls: type) -> dict[str, tuple[str, dict[str, Any]]]:
    """All kinds that a class answers: the method's name and the schema."""
    found = {}
    for base in reversed(cls.__mro__):  # by their dictionaries: merely asking ipywidgets for some attributes warns
        for name, method in vars(base).items():
            answers = getattr(method, "_answers", None) if callable(method) else None
            if answers is not None:
                found[answers[0]] = (name, answers[1])
    return found


class optional:  # in lower case, since it reads as a word of the schema
    """An entry that may be missing, and what it then is."""

    def __init__(self, check: Any, default: Any = None):
        self.check, self.default = check, default


def one_of(*options: Any) -> Check:
    """An entry with one of these values."""

    def check(value: Any) -> Any:
        if value not in options:
            raise BadValueError(f"must be one of {', '.join(map(repr, options))}")
        return value

    return check


def at_most(limit: int) -> Check:
    """A whole number from 0 to `limit`."""

    def check(value: Any) -> int:
        number = _typed(int, value)
        if not 0 <= number <= limit:
            raise BadValueError(f"must be a whole number from 0 to {limit}")
        return number

    return check


def many(check: Any, limit: int) -> Check:
    """A list of at most `limit` entries that each pass."""

    def check_all(value: Any) -> list[Any]:
        if not isinstance(value, (list, tuple)) or len(value) > limit:
            raise BadValueError(f"must be a list of at most {limit}")
        return [_checked(check, item) for item in value]

    return check_all


def read_body(kind: str, schema: Mapping[str, Any], body: Any) -> dict[str, Any]:
    """Check the body of a message.

    Raises
    ------
    BadValueError
        If an entry is missing, unknown or wrong.
    """
    body = {} if body is None else body
    if not isinstance(body, Mapping):
        raise BadValueError(f'The message "{kind}" has a body of named entries; got {type(body).__name__}.')
    if unknown := sorted(set(body) - set(schema)):
        raise BadValueError(f'The message "{kind}" has no {", ".join(unknown)}.', hint=nearest(unknown[0], schema))
    read = {}
    for name, check in schema.items():
        if name not in body:
            if not isinstance(check, optional):
                raise BadValueError(f'The message "{kind}" lacks {name}.')
            read[name] = check.default
            continue
        try:
            read[name] = _checked(check.check if isinstance(check, optional) else check, body[name])
        except WorkbenchError as error:
            if isinstance(error, BadValueError):
                raise BadValueError(f'{name} of "{kind}" {error.message}; got {_short(body[name])}.') from None
            raise
    return read


def unknown_kind(kind: Any, known: Iterable[str]) -> WorkbenchError:
    """The error for a message that nobody answers."""
    known = sorted(known)
    return UnknownNameError(f'No message "{kind}".', hint=f"{nearest(kind, known)} There are {', '.join(known)}.")


def problem(asked: str, error: BaseException) -> dict[str, Any]:
    """An error as the browser shows it: one line, what to do, and the trace to unfold."""
    if isinstance(error, WorkbenchError):
        message, hint = error.message, error.hint
    else:
        message, hint = f"{type(error).__name__}: {error}", ""
    trace = "".join(traceback.format_exception(error))
    told = {"asked": asked, "message": message, "hint": hint, "type": type(error).__name__, "trace": trace[-8000:]}
    if isinstance(error, NotSweptError):  # nothing went wrong: it can be started
        told |= {"start": f"Sweep {error.sweep.get('layers', '')}", "cost": error.cost, "trace": ""}
    return told


def _checked(check: Any, value: Any) -> Any:
    return _typed(check, value) if isinstance(check, type) else check(value)


def _typed(kind: type, value: Any) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise BadValueError(f"must be of type {kind.__name__}")
    return value


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
