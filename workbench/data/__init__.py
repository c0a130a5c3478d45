"""Data sets: toy scenes, generated birds, photographs, folders, zip files and torch data sets. Imported lazily."""

from __future__ import annotations

import importlib
import inspect
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core.errors import BadValueError, DataError, UnknownNameError, nearest
from workbench.core.registry import DATA

if TYPE_CHECKING:
    from workbench.data.base import Dataset, Item, Skipped
    from workbench.data.folders import FolderData
    from workbench.data.packaged import Photos, Stamps
    from workbench.data.part_world import PartWorld
    from workbench.data.pasted import Pasted
    from workbench.data.planted import Planted
    from workbench.data.torch_data import TorchData
    from workbench.data.toy import ToyData
    from workbench.data.transforms import Transform

__all__ = [
    "Dataset",
    "FolderData",
    "Item",
    "PartWorld",
    "Pasted",
    "Photos",
    "Planted",
    "Skipped",
    "Stamps",
    "TorchData",
    "ToyData",
    "Transform",
    "load",
]

_HOMES = {
    "Dataset": "base",
    "Item": "base",
    "PartWorld": "part_world",
    "Pasted": "pasted",
    "Skipped": "base",
    "Transform": "transforms",
    "FolderData": "folders",
    "Photos": "packaged",
    "Planted": "planted",
    "Stamps": "packaged",
    "TorchData": "torch_data",
    "ToyData": "toy",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"workbench.data.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}. {nearest(name, __all__)}".strip())


def __dir__() -> list[str]:
    return sorted(__all__)


def load(spec: Any, **options: Any) -> Dataset:
    """Open a data set.

    Parameters
    ----------
    spec : str, Path, Dataset, or anything with a length and items
        A registered name ("toy", "birds", "photos", "stamps"), ``torchvision:NAME``, a folder of pictures or of class
        folders, a .zip of such, a torch ``Dataset``, or a data set of ours. A name wins over a folder of the same name;
        write ``./toy`` for the folder.
    **options
        Passed on: ``transform`` everywhere, ``n``, ``seed``, ``masks``, … where they apply.

    Returns
    -------
    Dataset

    Raises
    ------
    UnknownNameError, DataError
        If there is no such name or path, or nothing in it can be used.
    BadValueError
        If an option is not one of this data set's.

    Examples
    --------
    >>> load("toy", n=12)
    <data set toy: 12 samples, 6 classes>
    """
    if hasattr(spec, "using") and hasattr(spec, "fingerprint"):  # a Dataset, without importing torch to ask
        if set(options) - {"transform"}:
            raise BadValueError(f"An open data set takes no {', '.join(sorted(set(options) - {'transform'}))}.")
        return spec.using(options["transform"]) if options.get("transform") is not None else spec
    if isinstance(spec, str) and spec.startswith("torchvision:"):
        from workbench.data.torchvision_sets import torchvision_set

        return _call(torchvision_set, spec, spec.partition(":")[2], **options)
    if isinstance(spec, str) and spec in DATA:
        return _call(DATA[spec], spec, **options)
    if isinstance(spec, (str, os.PathLike)):
        return _path(spec, options)
    if hasattr(spec, "__getitem__"):
        from workbench.data.torch_data import TorchData

        return _call(TorchData, type(spec).__name__, spec, **options)
    raise DataError(
        f"{type(spec).__name__} is no data set.",
        hint=f"Pass its .dataset: {type(spec.dataset).__name__}."
        if hasattr(spec, "dataset")
        else "Pass a name, a folder, a .zip, or something with a length and numbered items.",
    )


def _path(spec: str | os.PathLike[str], options: dict[str, Any]) -> Dataset:
    path = Path(spec).expanduser()
    if not path.exists():
        text = str(spec)
        if isinstance(spec, str) and not any(mark in text for mark in ("/", "\\", ".", "~")):
            try:
                DATA[text]
            except UnknownNameError as error:
                raise UnknownNameError(f'No data set "{text}", and no folder.', hint=error.hint) from None
        where = "" if path.is_absolute() and text == str(path) else f"It was looked for at {path.absolute()}. "
        raise DataError(f'There is no "{text}".', hint=f"{where}Give a folder, a .zip, or one of {', '.join(DATA)}.")
    from workbench.data.folders import FolderData

    return _call(FolderData, path.name, path, **options)


def _call(builder: Any, name: str, *args: Any, **options: Any) -> Dataset:
    accepted = inspect.signature(builder).parameters
    if any(p.kind is p.VAR_KEYWORD for p in accepted.values()):
        return builder(*args, **options)
    # What `args` fill is given already; what may stand there unnamed as well is an option too.
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = [p.name for p in list(accepted.values())[len(args) :] if p.kind in kinds]
    if unknown := sorted(set(options) - set(names)):
        raise BadValueError(
            f'The data set "{name}" has no option {", ".join(unknown)}.', hint=f"There are {', '.join(names)}."
        )
    return builder(*args, **options)


class _Lazy:
    """A builder that imports its module when it is called, and shows the signature of what it stands for."""

    def __init__(self, name: str):
        self.name = name
        self.__module__, self.__qualname__ = __name__, name

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(__getattr__(self.name))

    def __call__(self, **options: Any) -> Dataset:
        return __getattr__(self.name)(**options)


DATA.register("toy", _Lazy("ToyData"), about="generated scenes with known concepts and a planted artifact")
DATA.register(
    "birds", _Lazy("PartWorld"), about="generated birds of known parts, with planted artifacts and counterparts"
)
DATA.register("photos", _Lazy("Photos"), about="photographs from the scikit-image, scikit-learn and foolbox wheels")
DATA.register("stamps", _Lazy("Stamps"), about="cut-out pictures of Debian's tuxpaint-stamps-default, with captions")
