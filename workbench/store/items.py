"""Stored items: arrays and a sidecar that says what they are, there completely or not at all.

An item is two files: the arrays (``STEM.1a2b3c4d.safetensors``) and the sidecar (``STEM.json``), which names the
first, its size and its checksums. Both are written under temporary names and synced; then the arrays are renamed, then
the sidecar. The sidecar's rename is the moment at which the item exists. Since the arrays' name contains their
checksum, replacing an item never touches the file that readers of the old one have mapped.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from workbench.core.errors import DamagedEntryError, UnknownNameError, nearest
from workbench.store.files import (
    BINARY,
    damaged,
    put_in_place,
    read_json,
    remove,
    storing,
    write_temporary,
    write_temporary_json,
)
from workbench.store.parts import HEADER, Part, read_header, sum_of_range, write_parts
from workbench.store.recipe import as_json

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["check_item", "data_file_of", "read_item", "remove_item", "set_aside", "size_of", "write_item"]

logger = logging.getLogger(__name__)

T = TypeVar("T")

# What this process has checked already: (path, inode, size, time of change) -> names of the checked arrays.
_checked: dict[tuple[Any, ...], set[str]] = {}
_checked_lock = threading.Lock()


def write_item(folder: Path, stem: str, parts: list[Part], record: Mapping[str, Any]) -> dict[str, Any]:
    """Write arrays and sidecar so that after a crash at any moment the item is old, new or absent.

    Returns
    -------
    dict
        The sidecar as written: `record`, and ``file``, ``size``, ``blake2b``, ``sums``, ``arrays``.

    Raises
    ------
    StoreFullError, ReadOnlyStoreError
        If the disk does not take it. What was there before is intact, and no temporary file is left.
    """
    record = as_json(record, "record", allow_nan=True)
    sidecar = folder / f"{stem}.json"
    note = {"digest": str(record.get("digest", ""))}
    with storing(folder, sum(p.data.nbytes for p in parts)):
        data, (n_bytes, sums) = write_temporary(sidecar, lambda fd: write_parts(fd, parts, note))
    temporary = [data]
    try:
        whole = hashlib.blake2b("".join(sums.values()).encode(), digest_size=16).hexdigest()
        full = {
            **record,
            "file": f"{stem}.{whole[:8]}.safetensors",
            "size": n_bytes,
            "blake2b": whole,
            "sums": sums,
            "arrays": {p.name: {"dtype": p.dtype, "shape": list(p.shape)} for p in parts},
        }
        temporary.append(write_temporary_json(sidecar, full))
        old = data_file_of(folder, stem)
        put_in_place([(temporary[0], folder / full["file"]), (temporary[1], sidecar)])
    except BaseException:
        for path in temporary:
            remove(path)
        raise
    if old is not None and old.name != full["file"]:
        remove(old)
    _remember(folder / full["file"], set(sums))
    return full


def read_item(
    folder: Path, stem: str, names: Sequence[str] | None = None
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Map an item's arrays into memory; None if there is no such item.

    Size and, once per process, checksums are compared before anything is handed out.

    Raises
    ------
    DamagedEntryError
        If the file is missing, cut off or altered; it names the file.
    """
    import safetensors
    import torch

    def read(sidecar: dict[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
        path = _data_file(folder, sidecar)
        wanted = list(sidecar["arrays"]) if names is None else list(names)
        for name in wanted:
            if name not in sidecar["arrays"]:
                raise UnknownNameError(f'There is no array "{name}" in {path}.', hint=nearest(name, sidecar["arrays"]))
        _check_file(path, sidecar, wanted)
        try:
            # Tensors born in inference mode could not be used where gradients are taken.
            with torch.inference_mode(False), safetensors.safe_open(path, framework="pt", device="cpu") as file:
                return {name: file.get_tensor(name) for name in wanted}, sidecar
        except FileNotFoundError as error:
            raise damaged(path, "is missing") from error
        except (safetensors.SafetensorError, RuntimeError) as error:
            raise damaged(path, f"cannot be opened ({error})") from error

    return _with_current_sidecar(folder, stem, read)


def check_item(folder: Path, stem: str, *, fully: bool = True, again: bool = False) -> dict[str, Any] | None:
    """Check an item without mapping it, and return its sidecar; None if there is no such item.

    Parameters
    ----------
    folder, stem : Path, str
        Which item.
    fully : bool
        Compare checksums, not the size alone.
    again : bool
        Also when this process has compared them before.

    Raises
    ------
    DamagedEntryError
        If something is wrong with it.
    """

    def check(sidecar: dict[str, Any]) -> dict[str, Any]:
        names = list(sidecar["arrays"]) if fully else []
        _check_file(_data_file(folder, sidecar), sidecar, names, header=fully, again=again)
        return sidecar

    return _with_current_sidecar(folder, stem, check)


def size_of(folder: Path, stem: str, sidecar: Mapping[str, Any]) -> int:
    """Bytes of an item's two files."""
    try:
        return int(sidecar["size"]) + (folder / f"{stem}.json").stat().st_size
    except FileNotFoundError:
        return 0


def set_aside(folder: Path, stem: str) -> list[Path]:
    """Rename an item's files to ``*.damaged``, sidecar first; from then on the item is missing."""
    moved = []
    named = data_file_of(folder, stem)
    for path in [folder / f"{stem}.json", *([named] if named else folder.glob(f"{stem}.*.safetensors"))]:
        with suppress(FileNotFoundError):
            os.replace(path, path.with_name(f"{path.name}.damaged"))
            moved.append(path)
    return moved


def remove_item(folder: Path, stem: str) -> None:
    """Remove an item's files, sidecar first. What readers have mapped stays readable for them."""
    named = data_file_of(folder, stem)
    remove(folder / f"{stem}.json")
    for path in [named] if named else folder.glob(f"{stem}.*.safetensors"):
        remove(path)


def data_file_of(folder: Path, stem: str) -> Path | None:
    """The file that holds an item's arrays, by its sidecar; None if there is no readable sidecar."""
    try:
        sidecar = read_json(folder / f"{stem}.json")
    except DamagedEntryError:
        return None
    return _data_file(folder, sidecar) if sidecar else None


def _data_file(folder: Path, sidecar: Mapping[str, Any]) -> Path:
    return folder / os.path.basename(sidecar["file"])  # a sidecar from elsewhere must not lead out of the folder


def _with_current_sidecar(folder: Path, stem: str, use: Callable[[dict[str, Any]], T]) -> T | None:
    """Call `use` with the sidecar; when another process replaces the item meanwhile, again with the new one."""
    sidecar = read_json(folder / f"{stem}.json")
    while sidecar is not None:
        try:
            return use(sidecar)
        except DamagedEntryError:
            newer = read_json(folder / f"{stem}.json")
            if newer == sidecar:
                raise
            sidecar = newer
    return None


def _check_file(
    path: Path, sidecar: Mapping[str, Any], names: Sequence[str], *, header: bool = True, again: bool = False
) -> None:
    try:
        fd = os.open(path, os.O_RDONLY | BINARY)
    except FileNotFoundError as error:
        raise damaged(path, "is missing") from error
    try:
        facts = os.fstat(fd)
        if facts.st_size != sidecar["size"]:
            raise damaged(path, f"has {facts.st_size} bytes instead of {sidecar['size']}")
        key = (str(path), facts.st_ino, facts.st_size, facts.st_mtime_ns)
        wanted = {HEADER, *names} if header else set(names)
        todo = wanted if again else wanted - _checked.get(key, set())
        if not todo:
            return
        try:
            start, layout, header_sum = read_header(fd)
        except ValueError as error:
            raise damaged(path, f"is altered: {error}") from error
        if header_sum != sidecar["sums"][HEADER]:
            raise damaged(path, "does not match its checksum (header)")
        for name in sorted(todo - {HEADER}):
            begin, end = layout[name]["data_offsets"]
            if sum_of_range(fd, start + begin, start + end) != sidecar["sums"][name]:
                raise damaged(path, f'does not match its checksum (array "{name}")')
        _remember_key(key, wanted)
    finally:
        os.close(fd)


def _remember(path: Path, names: set[str]) -> None:
    with suppress(OSError):
        facts = path.stat()
        _remember_key((str(path), facts.st_ino, facts.st_size, facts.st_mtime_ns), names)


def _remember_key(key: tuple[Any, ...], names: set[str]) -> None:
    with _checked_lock:
        if len(_checked) > 100_000:
            _checked.clear()
        _checked.setdefault(key, set()).update(names)
