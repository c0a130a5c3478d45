"""Locks that a process cannot leave behind: the operating system frees them when it dies, however it dies.

They stand on filelock (flock on Linux and macOS, msvcrt on Windows), which torch brings anyway. A lock file is removed
by its holder before release; whoever waited on the removed file notices and waits on the new one.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from workbench.core.errors import StoreError
from workbench.store.files import remove, storing

__all__ = ["KeyedLocks", "exclusive", "holder", "is_held", "sweep"]

logger = logging.getLogger(__name__)

_PATIENCE_S = 0.5  # somebody who only looks whether a lock is held has it for a moment


class _Keyed:
    def __init__(self) -> None:
        self.lock, self.n_users, self.owner = threading.Lock(), 0, 0


class KeyedLocks:
    """One lock per key for the threads of this process; unused ones are forgotten."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._locks: dict[str, _Keyed] = {}

    @contextmanager
    def hold(self, key: str, *, recursion: str) -> Iterator[None]:
        """Hold the lock of `key`. The same thread asking again would wait for itself: `recursion` is the error."""
        me = threading.get_ident()
        with self._guard:
            entry = self._locks.setdefault(key, _Keyed())
            if entry.owner == me:
                raise StoreError(recursion)
            entry.n_users += 1
        try:
            with entry.lock:
                entry.owner = me
                try:
                    yield
                finally:
                    entry.owner = 0
        finally:
            with self._guard:
                entry.n_users -= 1
                if not entry.n_users:
                    self._locks.pop(key, None)


@contextmanager
def exclusive(path: Path, *, what: str, wait: bool) -> Iterator[None]:
    """Hold the lock file `path` against other processes and other threads.

    Parameters
    ----------
    path : Path
        The lock file; beside it, ``PATH.owner`` says who holds it, for people.
    what : str
        What is locked, for messages.
    wait : bool
        Wait for as long as it takes, else raise at once.

    Raises
    ------
    StoreError
        If another live process or thread holds it and `wait` is False; it says which and since when.
    """
    from filelock import FileLock, Timeout

    with storing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, thread_local=False)
        try:
            lock.acquire(timeout=_PATIENCE_S)
        except (Timeout, RuntimeError) as error:  # the latter: this very thread holds it
            if not wait or isinstance(error, RuntimeError):
                raise StoreError(
                    f"{what} is being written by {_describe(holder(path))}.",
                    hint="Wait until it ends, or stop it; what it finished is kept and can be read meanwhile.",
                ) from error
            logger.info("waiting: %s is being made by %s", what, _describe(holder(path)))
            lock.acquire(timeout=-1)
    left_over = holder(path)
    if left_over:
        logger.info("%s: %s ended without finishing; taken over", what, _describe(left_over))
    owner = _owner_file(path)
    with suppress(OSError):  # for people only: a full disk must not stop us here
        owner.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}))
    try:
        yield
    finally:
        remove(owner)
        if os.name != "nt":
            remove(path)
        lock.release()


def is_held(path: Path) -> bool:
    """Whether somebody alive holds the lock file."""
    from filelock import FileLock, Timeout

    if not path.exists():
        return False
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=0)
    except (Timeout, RuntimeError):  # the latter: this very thread holds it
        return True
    except OSError:  # we may not open it, as in a store that is read-only to us
        return holder(path) is not None
    lock.release()
    return False


def sweep(folder: Path) -> None:
    """Remove lock files that nobody holds, left over from processes that died."""
    from filelock import FileLock, Timeout

    for path in folder.glob("*.lock"):
        lock = FileLock(path, thread_local=False)
        with suppress(Timeout, OSError, RuntimeError):
            lock.acquire(timeout=0)
            try:
                remove(_owner_file(path))
                if os.name != "nt":
                    remove(path)
            finally:
                lock.release()


def holder(path: Path) -> dict[str, Any] | None:
    """Who holds the lock file, or held it last without letting go: pid, host, since. None if that is unknown."""
    try:
        record = json.loads(_owner_file(path).read_text(encoding="utf-8"))
        return record if isinstance(record, dict) else None
    except (OSError, ValueError):
        return None


def _owner_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.owner")


def _describe(record: dict[str, Any] | None) -> str:
    if not record:
        return "another process"
    age_s = max(0.0, time.time() - float(record.get("since", time.time())))
    age = f"{age_s:.0f} s" if age_s < 120 else f"{age_s / 60:.0f} min" if age_s < 7200 else f"{age_s / 3600:.0f} h"
    if record.get("pid") == os.getpid():
        return f"another thread of this process, for {age}"
    return f"process {record.get('pid')} on {record.get('host')}, for {age}"
