"""Argument checks that raise our errors. Called at the door, so that the inside may trust its input."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from workbench.core.errors import BadValueError, UnknownNameError, nearest

__all__ = ["between", "one_of", "positive", "known", "unique"]


def between(
    name: str, value: Any, low: float, high: float, *, left_open: bool = False, right_open: bool = False
) -> float:
    """Return `value` if it is a real number between `low` and `high`.

    Raises
    ------
    BadValueError
        If it is not a number, not finite or outside the interval.

    Examples
    --------
    >>> between("share", 0.5, 0, 1)
    0.5
    """
    ok = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    ok = ok and (value > low if left_open else value >= low) and (value < high if right_open else value <= high)
    if not ok:
        lower = f"above {low:g}" if left_open else f"at least {low:g}"
        upper = f"below {high:g}" if right_open else f"at most {high:g}"
        raise BadValueError(f"`{name}` must be {lower} and {upper}; got {value!r}.")
    return value


def positive(name: str, value: Any, *, at_most: int | None = None) -> int:
    """Return `value` if it is a whole number of at least one."""
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    if not is_whole or value < 1 or (at_most is not None and value > at_most):
        limit = f" and at most {at_most}" if at_most is not None else ""
        raise BadValueError(f"`{name}` must be a whole number of at least 1{limit}; got {value!r}.")
    return int(value)


def one_of(name: str, value: Any, options: Sequence[Any]) -> Any:
    """Return `value` if it is one of `options`."""
    if value not in options:
        listed = ", ".join(repr(o) for o in options)
        raise BadValueError(f"`{name}` must be one of {listed}; got {value!r}.", hint=nearest(value, options))
    return value


def known(kind: str, value: Any, options: Iterable[Any], *, hint: str = "") -> Any:
    """Return `value` if it is among the names that exist, else name the nearest."""
    options = list(options)
    if value not in options:
        raise UnknownNameError(f'No {kind} "{value}".', hint=f"{nearest(value, options)} {hint}")
    return value


def unique(name: str, values: Sequence[Any]) -> list[Any]:
    """Return `values` as a list if none occurs twice."""
    values = list(values)
    doubled = sorted({str(v) for v in values if values.count(v) > 1})
    if doubled:
        raise BadValueError(f"`{name}` names {', '.join(doubled)} more than once.")
    return values
