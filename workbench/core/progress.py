"""How long work reports itself, and how it is told to stop."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, Protocol, runtime_checkable

from workbench.core.errors import CancelledError

__all__ = [
    "CancelToken",
    "LoggingProgress",
    "Progress",
    "SilentProgress",
    "TqdmProgress",
    "current_token",
    "stopping_at",
    "visible_progress",
]

logger = logging.getLogger(__name__)


class CancelToken:
    """A flag that one thread sets and another notices."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def cancel(self) -> None:
        """Ask the work to stop at its next step."""
        self._event.set()

    @property
    def is_cancelled(self) -> bool:
        """Whether the work was asked to stop."""
        return self._event.is_set()

    def raise_if_cancelled(self) -> None:
        """Stop here if the work was asked to."""
        if self._event.is_set():
            raise CancelledError(
                "The job was cancelled.", hint="What was finished so far is kept; start it again to go on."
            )


_token: ContextVar[CancelToken | None] = ContextVar("workbench-cancel-token", default=None)


def current_token() -> CancelToken | None:
    """The token of the job that runs here, if any: for code too deep down to be handed a `Progress`."""
    return _token.get()


@contextlib.contextmanager
def stopping_at(token: CancelToken) -> Iterator[None]:
    """Let `current_token` give this one, for as long as the context lasts."""
    before = _token.set(token)
    try:
        yield
    finally:
        _token.reset(before)


@runtime_checkable
class Progress(Protocol):
    """What long work calls: `step` after each part, which is also where a cancellation is noticed."""

    token: CancelToken

    def start(self, title: str, total: int) -> None:
        """Begin `total` parts called `title`."""

    def step(self, n: int = 1, *, note: str = "") -> None:
        """Count `n` finished parts; raises `CancelledError` if the work was cancelled."""

    def close(self) -> None:
        """End the report."""


class SilentProgress:
    """Counts, notices cancellation, and says nothing. The other kinds build on it."""

    def __init__(self, token: CancelToken | None = None):
        self.token = token or CancelToken()
        self.title, self.total, self.done, self.note = "", 0, 0, ""

    @property
    def share(self) -> float:
        """Finished share, 0 to 1."""
        return min(1.0, self.done / self.total) if self.total else 0.0

    def start(self, title: str, total: int) -> None:
        """Begin `total` parts called `title`."""
        self.title, self.total, self.done, self.note = title, int(total), 0, ""
        self.report()
        self.token.raise_if_cancelled()

    def step(self, n: int = 1, *, note: str = "") -> None:
        """Count `n` finished parts; raises `CancelledError` if the work was cancelled."""
        self.done += n
        self.note = note or self.note
        self.report()
        self.token.raise_if_cancelled()

    def close(self) -> None:
        """End the report."""
        self.report()

    def report(self) -> None:
        """Called after each change; subclasses show it."""


class LoggingProgress(SilentProgress):
    """One log line at the start, at the end, and at most every `every_s` seconds between."""

    def __init__(self, token: CancelToken | None = None, *, every_s: float = 10.0):
        super().__init__(token)
        self.every_s, self._last = every_s, -float("inf")

    def close(self) -> None:
        """Nothing more to say: the last step was logged."""

    def report(self) -> None:
        now = time.monotonic()
        if self.done in (0, self.total) or now - self._last >= self.every_s:
            self._last = now
            note = f", {self.note}" if self.note else ""
            logger.info("%s: %d of %d%s", self.title, self.done, self.total, note)


class TqdmProgress(SilentProgress):
    """A tqdm bar, in a terminal or as plain text in a notebook."""

    def __init__(self, token: CancelToken | None = None, **options: Any):
        super().__init__(token)
        self.options, self._bar = options, None

    def start(self, title: str, total: int) -> None:
        from tqdm import tqdm

        self.close()
        self._bar = tqdm(total=total, desc=title, **self.options)
        super().start(title, total)

    def report(self) -> None:
        if self._bar is not None:
            self._bar.n = self.done
            if self.note:
                self._bar.set_postfix_str(self.note, refresh=False)
            self._bar.update(0)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.refresh()
            self._bar.close()
            self._bar = None


def visible_progress() -> Progress:
    """Give a bar where someone looks, in a notebook or a terminal, and log lines elsewhere."""
    is_seen = "ipykernel" in sys.modules or bool(getattr(sys.stderr, "isatty", lambda: False)())
    return TqdmProgress(leave=True) if is_seen else LoggingProgress()
