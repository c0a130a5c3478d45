"""Pictures in a folder or a .zip: class folders or flat, with optional masks."""

from __future__ import annotations

import io
import logging
import os
import re
import threading
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from workbench.core.errors import BadValueError, DataError, nearest
from workbench.data.base import Dataset
from workbench.data.pictures import SUFFIXES, as_colour, open_rgb, read_mask

__all__ = ["FolderData"]

logger = logging.getLogger(__name__)

_SPLITS = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
_MASKS = "_masks"
# A member of a zip file may claim any size; no picture that can be decoded is larger.
_MOST_BYTES = 1 << 30


class FolderData(Dataset):
    """Pictures in a folder or in a .zip file, which is read in place and never unpacked.

    The classes are the names of the first folders that hold pictures at any depth below them; pictures that lie at the
    top have no class, and a folder without folders is unlabelled. A single folder around everything is skipped, and so
    are folders named like splits (train, val, test, …) where there is nothing else: choose with `split`, or get all.
    Names that begin with a dot or an underscore, and ``__MACOSX``, are passed over.

    The order is that of the paths, folder by folder, with numbers in names compared as numbers ("2" before "10") and
    without regard to capitals; it does not depend on the file system.

    Opening looks at names only. A picture that cannot be decoded is noticed when it is read, and costs only itself.

    Parameters
    ----------
    path : path
        A folder or a .zip file.
    transform : Transform or callable, optional
        Not given: short side 256, centre crop 224, ImageNet's normalisation.
    masks : path, optional
        A folder of mask pictures with the same sub-folders and names, ending in .png: ``cat/7.png`` for ``cat/7.jpg``
        is the mask "object", ``cat/7.NAME.png`` the mask NAME. Without it, folders named ``_masks`` beside the pictures
        or at the top, and ``CLASS_masks`` beside ``CLASS``, are used the same way.
    split : str, optional
        Which of the folders train, val, test, … to take.
    background : colour
        What shows through transparent pixels: a name, ``#rrggbb`` or three numbers.
    name : str, optional
        Not given: the name of the folder or file, without ``.zip``.

    Raises
    ------
    DataError
        If there is nothing at `path`, or no picture in it.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        transform: Any = None,
        masks: str | os.PathLike[str] | None = None,
        split: str | None = None,
        background: Any = "white",
        name: str | None = None,
    ):
        self.path = Path(path).expanduser()
        self.background = as_colour(background)
        self._source = _open_source(self.path)
        files = self._source.files
        pictures, self._mask_files, self._mask_source = self._sort_masks(files, masks)
        if not pictures:
            raise _no_pictures(self.path, files)
        pictures, parts = _below_the_top(pictures, split)
        order = sorted(range(len(pictures)), key=lambda k: _natural(pictures[k]))
        pictures, parts = [pictures[k] for k in order], [parts[k] for k in order]
        folders = [p[0] if len(p) > 1 else None for p in parts]
        classes = sorted({f for f in folders if f is not None}, key=_natural)
        number = {c: i for i, c in enumerate(classes)}
        self._files = pictures
        super().__init__(
            name or self.path.resolve().name.removesuffix(".zip"),
            keys=pictures,
            labels=[-1 if f is None else number[f] for f in folders],
            classes=classes,
            transform=transform,
        )
        logger.info("%s: %d pictures, %d classes, %d masks", self.name, len(self), len(classes), len(self._mask_files))

    def _read(self, i: int, least: tuple[int, int] | None) -> Image.Image:
        return open_rgb(self._source.open(self._files[i]), least=least, background=self.background)

    def _masks(self, i: int) -> dict[str, np.ndarray]:
        found = self._mask_files.get(str(PurePosixPath(self._files[i]).with_suffix("")), {})
        if not found:
            return {}
        size = self._open(i, None).size
        masks = {}
        for name, path in sorted(found.items()):
            try:
                masks[name] = read_mask(self._mask_source.open(path), size)
            except Exception as error:
                raise DataError(f'{self.name}: the mask "{path}" of sample {i} cannot be read: {error}') from error
        return masks

    def _identity(self) -> Iterable[str]:
        return self._source.facts(self._files)

    def _sort_masks(
        self, files: list[str], masks: str | os.PathLike[str] | None
    ) -> tuple[list[str], dict[str, dict[str, str]], Any]:
        """Part pictures from masks; give the masks by the picture's path without ending, and where they are read."""
        stems = {str(PurePosixPath(f).with_suffix("")) for f in files}
        table: dict[str, dict[str, str]] = {}
        if masks is not None:
            source = _open_source(Path(masks).expanduser())
            for file in source.files:
                _enter(table, file, file, stems)
            if not table:
                raise DataError(
                    f'None of the {len(source.files)} files in "{masks}" has the name of a picture in "{self.path}".',
                    hint="The mask of cat/7.jpg is called cat/7.png, or cat/7.NAME.png for the mask NAME.",
                )
            below = _inside(Path(masks).expanduser(), self.path)
            return [f for f in files if not below or not f.startswith(below + "/")], table, source
        names = {part for f in files for part in PurePosixPath(f).parts[:-1]}
        suffixed = {n for n in names if n.endswith(_MASKS) and n != _MASKS and n.removesuffix(_MASKS) in names}
        pictures = []
        for file in files:
            folders = PurePosixPath(file).parts[:-1]
            at = next((k for k, part in enumerate(folders) if part == _MASKS or part in suffixed), None)
            if at is None:
                if not any(part.startswith("_") for part in folders):
                    pictures.append(file)
                continue
            own = [folders[at].removesuffix(_MASKS)] if folders[at] != _MASKS else []
            target = "/".join([*folders[:at], *own, *folders[at + 1 :], PurePosixPath(file).name])
            _enter(table, target, file, stems)
        return pictures, table, self._source


class _Folder:
    """The picture files below a folder."""

    def __init__(self, root: Path):
        self.root = root
        try:
            self.files = list(_walk(root, "", set()))
        except OSError as error:
            raise DataError(f'"{root}" cannot be listed: {error}') from error

    def open(self, path: str) -> Path:
        return self.root / path

    def facts(self, paths: list[str]) -> Iterable[str]:
        """Look at the files anew: path, size and time of the last change."""
        for path in paths:
            try:
                now = os.stat(self.root / path)
                yield f"{path} {now.st_size} {now.st_mtime_ns}"
            except OSError:
                yield f"{path} is gone"


class _Zip:
    """The picture files in a zip file. Reading is safe from several threads, and after a fork."""

    def __init__(self, path: Path):
        self.path = path
        self._lock = threading.Lock()
        self._opened: tuple[int, zipfile.ZipFile] | None = None
        self._members = _members(self._zip())
        self._seen = _changed(path)
        self.files = list(self._members)

    def open(self, path: str) -> io.BytesIO:
        with self._lock:
            archive, info = self._zip(), self._members[path]
            if info.file_size > _MOST_BYTES:
                raise ValueError(f"it is said to hold {info.file_size / 1e9:.1f} GB")
            return io.BytesIO(archive.read(info))

    def facts(self, paths: list[str]) -> Iterable[str]:
        """Look at the archive anew: path, size and checksum."""
        members = self._members
        if _changed(self.path) != self._seen:
            with zipfile.ZipFile(self.path) as archive:
                members = _members(archive)
        for path in paths:
            info = members.get(path)
            yield f"{path} is gone" if info is None else f"{path} {info.file_size} {info.CRC}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_lock": None, "_opened": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _lock=threading.Lock())

    def _zip(self) -> zipfile.ZipFile:
        # Two processes must not share one place in one open file.
        if self._opened is None or self._opened[0] != os.getpid():
            try:
                self._opened = os.getpid(), zipfile.ZipFile(self.path)
            except (zipfile.BadZipFile, OSError) as error:
                raise DataError(f'"{self.path}" cannot be opened as a zip file: {error}') from error
        return self._opened[1]


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    found = {}
    for info in archive.infolist():
        name = info.filename.replace("\\", "/")
        if not info.is_dir() and _is_picture(name) and not any(_is_hidden(part) for part in name.split("/")):
            found[name] = info
    return found


def _changed(path: Path) -> tuple[int, int]:
    now = path.stat()
    return now.st_size, now.st_mtime_ns


def _open_source(path: Path) -> _Folder | _Zip:
    if path.is_dir():
        return _Folder(path)
    if not path.exists():
        raise DataError(f'There is no "{path}".', hint=f"It was looked for at {path.absolute()}.")
    if path.suffix.lower() in SUFFIXES:
        raise DataError(f'"{path}" is a single picture.', hint="Name the folder that it lies in.")
    if not zipfile.is_zipfile(path):
        raise DataError(f'"{path}" is neither a folder nor a zip file.', hint="A damaged zip file looks like this too.")
    return _Zip(path)


def _walk(folder: Path, below: str, seen: set[str]) -> Iterable[str]:
    real = os.path.realpath(folder)
    if real in seen:  # a link that leads back up
        return
    seen = seen | {real}
    with os.scandir(folder) as entries:
        for entry in entries:
            if _is_hidden(entry.name):
                continue
            if entry.is_dir():
                yield from _walk(Path(entry.path), f"{below}{entry.name}/", seen)
            elif _is_picture(entry.name) and entry.is_file():
                yield below + entry.name
            elif _is_picture(entry.name) and entry.is_symlink():  # to nothing: noticed when it is read
                yield below + entry.name


def _is_picture(name: str) -> bool:
    return name.lower().endswith(SUFFIXES)


def _is_hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _enter(table: dict[str, dict[str, str]], target: str, path: str, stems: set[str]) -> None:
    """Enter a mask file under the picture that its name belongs to."""
    stem = str(PurePosixPath(target).with_suffix(""))
    if stem in stems:
        table.setdefault(stem, {})["object"] = path
        return
    parent, dot, name = stem.rpartition(".")
    if dot and parent in stems:
        table.setdefault(parent, {})[name] = path


def _inside(folder: Path, root: Path) -> str:
    try:
        return folder.resolve().relative_to(root.resolve()).as_posix()
    except ValueError:
        return ""


def _below_the_top(files: list[str], split: str | None) -> tuple[list[str], list[tuple[str, ...]]]:
    """Take off folders that are no classes; give the files that remain and their path parts below."""
    parts = [PurePosixPath(f).parts for f in files]
    found: set[str] = set()
    while True:
        tops = {p[0] for p in parts} if all(len(p) > 1 for p in parts) else set()
        if tops and {t.lower() for t in tops} <= _SPLITS and not found:
            found = tops
            if split is not None:
                kept = [k for k, p in enumerate(parts) if p[0] == split]
                if not kept:
                    break
                files, parts = [files[k] for k in kept], [parts[k] for k in kept]
        elif not (len(tops) == 1 and all(len(p) > 2 for p in parts)):
            break
        parts = [p[1:] for p in parts]
    if split is not None and split not in found:
        has = f"It has {', '.join(sorted(found))}. {nearest(split, found)}" if found else "It has no such folders."
        raise BadValueError(f'There is no split "{split}".', hint=has)
    return files, parts


def _natural(path: str) -> tuple[Any, ...]:
    """Key that sorts "2" before "10" and ignores capitals, with the exact text as last resort."""
    parts = path.split("/")
    key = tuple(
        tuple((0, int(t), "") if t.isdecimal() else (1, 0, t.casefold()) for t in re.split(r"(\d+)", part) if t)
        for part in parts
    )
    return (key, path)


def _no_pictures(path: Path, files: list[str]) -> DataError:
    if files:
        return DataError(f'"{path}" holds masks and no pictures.')
    others = sum(1 for p in path.rglob("*") if p.is_file()) if path.is_dir() else len(zipfile.ZipFile(path).infolist())
    what = f"none of its {others} files is one" if others else "it is empty"
    return DataError(f'There are no pictures in "{path}": {what}.', hint=f"Looked for {', '.join(SUFFIXES)}.")
