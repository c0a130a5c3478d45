"""Long work that nobody asked for in so many words: a click on a layer must not start an hour of sweeping."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

__all__ = ["longest_unasked", "unasked"]

_longest: ContextVar[float | None] = ContextVar("longest unasked", default=None)


@contextlib.contextmanager
def unasked(seconds: float) -> Iterator[None]:
    """What is called within, and jobs that are submitted within, sweep for at most so long without being asked to.

    Longer sweeps raise `NotSweptError`, which says what it would cost.
    """
    before = _longest.set(seconds)
    try:
        yield
    finally:
        _longest.reset(before)


def longest_unasked() -> float | None:
    """Seconds that a sweep may take here; None where whatever is called was asked for."""
    return _longest.get()
