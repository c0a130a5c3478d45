"""How a result travels back to the notebook: which thread sets traits and sends messages.

The facts, tried with ipykernel 6.31 and 7.4:

- Sending from any thread is safe: messages pass through the kernel's own output thread. It also works while a cell
  keeps the main thread busy, which waiting for the main event loop would not.
- Traits are not safe. `hold_trait_notifications`, which ipywidgets opens around each message from the browser, swaps a
  method of the object for a moment; a second thread inside that moment can lose a change or fail.
- A widget's message is handled on the main thread between cells (ipykernel 6), or on a subshell's thread at any
  time (7). ipykernel 7.4 however answers where it last spoke: once a cell has sent something over a comm, the
  browser's messages for that comm go to the main thread, and wait there until the cell that is running ends.

So everything that jobs have to say goes out on one thread of ours, in the order in which it came; it and the handling
of messages pass one gate; and `free` lets a comm's incoming messages take the browser's way again.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import threading
from collections.abc import Callable, Hashable, Iterator
from typing import Any

from workbench.core.config import settings

__all__ = ["deliver", "flush", "free", "gate", "is_delivering"]

logger = logging.getLogger(__name__)

_GATE_S = 0.2

_lock = threading.RLock()


@contextlib.contextmanager
def gate() -> Iterator[None]:
    """Be alone with the traits of all widgets, briefly.

    The waiting is bounded: an observer of the user's may compute for seconds within the gate, which must not freeze
    every other status line. By then the dangerous moment, microseconds long, is over.
    """
    is_held = _lock.acquire(timeout=_GATE_S)
    try:
        yield
    finally:
        if is_held:
            _lock.release()


class _Post:
    """One thread and its queue of things to tell; a keyed item replaces the one that still waits under its key."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.items: dict[Hashable, Callable[[], Any]] = {}
        self.number = 0
        self.is_busy = False
        self.is_closed = False
        self.thread: threading.Thread | None = None
        self.errors: list[BaseException] = []

    def put(self, call: Callable[[], Any], key: Hashable | None) -> None:
        with self.changed:
            self.number += 1
            name = ("key", key) if key is not None else self.number
            self.items.pop(name, None)  # the newer one goes behind what was handed over before it
            self.items[name] = call
            if self.thread is None or not self.thread.is_alive():
                self.thread = threading.Thread(target=self.work, name="workbench-deliver", daemon=True)
                self.thread.start()
            self.changed.notify_all()

    def work(self) -> None:
        while True:
            with self.changed:
                self.is_busy = False
                self.changed.notify_all()
                while not self.items:
                    if self.is_closed:
                        return
                    self.changed.wait()
                call = self.items.pop(next(iter(self.items)))
                self.is_busy = True
            try:
                with gate():
                    call()
            except BaseException as error:  # the next delivery must not suffer
                logger.exception("A delivery to the notebook failed.")
                if settings().strict:
                    self.errors.append(error)
            del call

    def flush(self, timeout: float) -> bool:
        with self.changed:
            is_empty = self.changed.wait_for(lambda: not self.items and not self.is_busy, timeout)
            errors, self.errors = self.errors, []
        if errors:
            raise errors[0]
        return is_empty

    def close(self) -> None:
        with self.changed:
            self.is_closed = True
            self.items.clear()
            self.changed.notify_all()


_post = _Post()
atexit.register(_post.close)


def deliver(call: Callable[..., Any], *args: Any, key: Hashable | None = None, **kwargs: Any) -> None:
    """Set traits or send messages from wherever you are; returns at once.

    Parameters
    ----------
    call : callable
        Does the setting or sending, on the delivery thread, within the gate. What it raises is logged.
    key : hashable, optional
        Only the newest of what waits under one key is delivered, in its own turn: for progress and status.
    """
    _post.put(lambda: call(*args, **kwargs), key)


def flush(timeout: float = 5.0) -> bool:
    """Wait until everything handed over so far has gone out, and say whether it has.

    In strict mode the first error that a delivery raised since the last call is raised here.
    """
    if is_delivering():
        return True
    return _post.flush(timeout)


def is_delivering() -> bool:
    """Whether the calling thread is the one that delivers."""
    return threading.current_thread() is _post.thread


def free(comm: Any) -> None:
    """Let the browser's next message over `comm` be handled on the subshell it names, if any.

    ipykernel 7.4 notes for each comm the subshell from which the kernel last spoke and sends replies there; what a
    cell says would so chain the widget to the busy main thread. Our handlers may run on any thread.
    """
    with contextlib.suppress(AttributeError):
        del comm._reply_subshell_id
