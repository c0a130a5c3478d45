"""Small files that are there completely or not at all, and errors of the disk in our words.

Everything is written under a temporary name that tells host and process, synced, and renamed. So a file is old or new,
never half; and a temporary file whose process is gone is known to be left over.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import Any, TypeVar

from workbench.core.errors import DamagedEntryError, ReadOnlyStoreError, StoreError, StoreFullError, WorkbenchError
from workbench.store.words import size

__all__ = [
    "BINARY",
    "damaged",
    "is_abandoned",
    "is_alive",
    "put_in_place",
    "read_json",
    "remove",
    "storing",
    "write_all",
    "write_json",
    "write_temporary",
    "write_temporary_json",
]

logger = logging.getLogger(__name__)

BINARY = getattr(os, "O_BINARY", 0)

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_DENIED = {errno.EROFS, errno.EACCES, errno.EPERM}
_TEMPORARY = re.compile(r"^\.tmp-(?P<host>[0-9a-f]{8})-(?P<pid>\d+)-")
_HOST = hashlib.blake2b(socket.gethostname().encode(), digest_size=4).hexdigest()
_PIECE = 8 << 20
_serial = count()

T = TypeVar("T")


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write a JSON file that carries a checksum of itself, atomically."""
    temporary = write_temporary_json(path, record)
    try:
        put_in_place([(temporary, path)])
    except BaseException:
        remove(temporary)
        raise


def read_json(path: Path) -> dict[str, Any] | None:
    """Read what `write_json` wrote; None if there is no such file.

    Raises
    ------
    DamagedEntryError
        If it cannot be read or does not match its checksum.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        told = record.pop("check")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise damaged(path, "cannot be read as a sidecar") from error
    if told != _check_of(record):
        raise damaged(path, "does not match its own checksum")
    return record


def write_temporary(path: Path, write: Callable[[int], T]) -> tuple[Path, T]:
    """Let `write` fill a new temporary file beside `path`, and sync it. On an error nothing is left.

    Returns
    -------
    temporary : Path
        Give it to `put_in_place`, or `remove` it.
    result
        What `write` returned.
    """
    temporary = path.with_name(f".tmp-{_HOST}-{os.getpid()}-{next(_serial)}-{path.stem}")
    path.parent.mkdir(parents=True, exist_ok=True)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | BINARY, 0o666)
    try:
        try:
            result = write(fd)
            os.fsync(fd)
        finally:
            os.close(fd)
    except BaseException:
        remove(temporary)
        raise
    return temporary, result


def write_temporary_json(path: Path, record: Mapping[str, Any]) -> Path:
    """Write the JSON text with its checksum beside `path`, under a temporary name."""
    text = json.dumps({**record, "check": _check_of(record)}, indent=1, ensure_ascii=False).encode()
    with storing(path, len(text)):
        return write_temporary(path, lambda fd: write_all(fd, text))[0]


def write_all(fd: int, data: bytes | memoryview) -> None:
    """Write all of `data`, in as many pieces as the system wants."""
    view = memoryview(data)
    while view.nbytes:
        view = view[os.write(fd, view[:_PIECE]) :]


def put_in_place(moves: list[tuple[Path, Path]]) -> None:
    """Rename temporary files to their names, in this order, and sync the folder."""
    with storing(moves[0][1]):
        for temporary, path in moves:
            os.replace(temporary, path)
    _sync_folder(moves[0][1].parent)


def is_abandoned(path: Path, *, age_s: float) -> bool:
    """Whether a temporary file has no writer any more: its process is gone, or it is older than a day."""
    match = _TEMPORARY.match(path.name)
    if match is None:
        return False
    return age_s > 86_400 or (match["host"] == _HOST and not is_alive(int(match["pid"])))


def is_alive(pid: int) -> bool:
    """Whether a process of this machine runs. True where that cannot be asked safely."""
    if os.name == "nt":  # asking there would end it
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


@contextmanager
def storing(path: Path, needed: int = 0) -> Iterator[None]:
    """Turn errors of the operating system into ours, with what to do about them."""
    try:
        yield
    except WorkbenchError:
        raise
    except OSError as error:
        if error.errno in _FULL:
            raise StoreFullError(
                f"The disk is full or a limit is reached: writing {size(needed)} to {path} gave '{error.strerror}'.",
                hint="What was stored before is intact. Free some space, or run `workbench prune --max-gb N`.",
            ) from error
        if error.errno in _DENIED:
            raise ReadOnlyStoreError(
                f"The store may not be written: {path} ({error.strerror}).",
                hint="Name a folder of your own with `store=` or WORKBENCH_STORE, or have the rights changed.",
            ) from error
        raise StoreError(f"The store cannot write to {path}: {error}.", hint="Look at the disk.") from error


def remove(path: Path) -> None:
    """Remove a file if it is there."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
    except OSError as error:  # Windows refuses while somebody has it mapped; a later sweep takes it
        logger.debug("cannot remove %s: %s", path, error)


def damaged(path: Path, what: str) -> DamagedEntryError:
    """Make the error for a file that is not as it was written."""
    return DamagedEntryError(
        f"The stored file {path} {what}.",
        hint="Ask for the result again: it is set aside and made anew. `workbench status --verify` checks all.",
    )


def _check_of(record: Mapping[str, Any]) -> str:
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":
        return
    with suppress(OSError):  # some file systems do not sync folders
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
