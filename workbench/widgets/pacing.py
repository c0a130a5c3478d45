"""Calls at a bearable rate: at most one per interval and always one after the last wish, or one once wishes rest."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["Paced", "Rested"]


class Paced:
    """A call that is made at most every `seconds`, however often it is asked for, from any thread.

    Nothing runs while nobody asks: what came too early waits on a timer of its own, and one at most.

    Parameters
    ----------
    call : callable
        Must return at once.
    seconds : float
    """

    def __init__(self, call: Callable[[], None], seconds: float):
        self.call, self.seconds = call, seconds
        self._lock = threading.Lock()
        self._last = -float("inf")
        self._timer: threading.Timer | None = None
        self._is_stopped = False

    def __call__(self) -> None:
        with self._lock:
            left = self._last + self.seconds - time.monotonic()
            if self._is_stopped or self._timer is not None:
                return
            if left > 0:
                self._timer = threading.Timer(left, self._fire)
                self._timer.daemon = True
                self._timer.start()
                return
            self._last = time.monotonic()
        self.call()

    def _fire(self) -> None:
        with self._lock:
            self._timer = None
            if self._is_stopped:
                return
            self._last = time.monotonic()
        self.call()

    @property
    def is_waiting(self) -> bool:
        """Whether a call is still to come."""
        return self._timer is not None

    def stop(self) -> None:
        """Call no more."""
        with self._lock:
            self._is_stopped = True
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


class Rested:
    """A call that is made once nobody has asked for it for `seconds`, however often it was asked for, from any thread.

    Parameters
    ----------
    call : callable
        Must return at once; made on a thread of its own.
    seconds : float
    """

    def __init__(self, call: Callable[[], None], seconds: float):
        self.call, self.seconds = call, seconds
        self._lock = threading.Lock()
        self._due = 0.0
        self._timer: threading.Timer | None = None
        self._is_stopped = False

    def __call__(self) -> None:
        with self._lock:
            self._due = time.monotonic() + self.seconds
            if self._timer is None and not self._is_stopped:
                self._begin(self.seconds)

    def _begin(self, seconds: float) -> None:
        self._timer = threading.Timer(seconds, self._fire)
        self._timer.daemon = True
        self._timer.start()

    def _fire(self) -> None:
        with self._lock:
            self._timer = None
            if self._is_stopped:
                return
            if (left := self._due - time.monotonic()) > 0:  # asked for again meanwhile
                self._begin(left)
                return
        self.call()

    def stop(self) -> None:
        """Call no more."""
        with self._lock:
            self._is_stopped = True
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
