"""torchvision's data sets by name. Nothing is downloaded unless it is asked for; size and licence are said first."""

from __future__ import annotations

import inspect
import logging
import os
from pathlib import Path
from typing import Any

from workbench.core.config import settings
from workbench.core.errors import BadValueError, DataError, UnknownNameError, nearest
from workbench.data.torch_data import TorchData

__all__ = ["torchvision_set"]

logger = logging.getLogger(__name__)

# Download size and terms, as the sets' own pages state them.
_FACTS = {
    "CIFAR10": "170 MB, for research (Krizhevsky 2009)",
    "CIFAR100": "169 MB, for research (Krizhevsky 2009)",
    "Caltech101": "137 MB, CC BY 4.0",
    "Country211": "11 GB, Creative Commons licences of the single pictures",
    "DTD": "600 MB, for research",
    "EuroSAT": "90 MB, MIT",
    "FashionMNIST": "31 MB, MIT",
    "Flowers102": "345 MB, terms of the University of Oxford",
    "Food101": "5 GB, pictures from Foodspotting, for research",
    "Imagenette": "1.6 GB at full size, 99 MB with size='160px', Apache-2.0; pictures under ImageNet's terms",
    "KMNIST": "21 MB, CC BY-SA 4.0",
    "MNIST": "12 MB, CC BY-SA 3.0",
    "OxfordIIITPet": "790 MB, CC BY-SA 4.0",
    "STL10": "2.6 GB, ImageNet's terms",
    "SVHN": "180 MB for train, non-commercial",
}


def torchvision_set(
    name: str,
    *,
    root: str | os.PathLike[str] | None = None,
    split: str | None = None,
    size: str | None = None,
    download: bool = False,
    transform: Any = None,
) -> TorchData:
    """Open one of torchvision's data sets of pictures.

    Parameters
    ----------
    name : str
        "Imagenette", "CIFAR10", …, with torchvision's spelling.
    root : path, optional
        Where it lies, or is to be put. Not given: the folder ``downloads`` of the store.
    split : str, optional
        "train", "val", "test", as the set calls them. Not given: the set's own default.
    size : str, optional
        For sets that come in several, such as "160px" of Imagenette.
    download : bool
        Fetch it if it is not at `root`; size and licence are logged before.
    transform : Transform or callable, optional
        Not given: short side 256, centre crop 224, ImageNet's normalisation.

    Raises
    ------
    UnknownNameError
        If torchvision has no such set.
    DataError
        If it is not at `root` and was not to be downloaded, or cannot be.
    """
    import torchvision.datasets as sets

    if name not in sets.__all__ or not inspect.isclass(getattr(sets, name, None)):
        raise UnknownNameError(f'torchvision has no data set "{name}".', hint=nearest(name, sets.__all__))
    builder = getattr(sets, name)
    accepted = inspect.signature(builder).parameters
    options = _split_options(name, accepted, split)
    if size is not None:
        if "size" not in accepted:
            raise BadValueError(f"torchvision's {name} comes in one size.")
        options["size"] = size
    place = Path(root).expanduser() if root is not None else settings().store / "downloads"
    try:
        return _opened(builder, place, options, transform, name)
    except (RuntimeError, OSError, ValueError, TypeError) as error:
        if not download:
            can, facts = "download" in accepted, _FACTS.get(name, "size and licence as its page states")
            raise DataError(
                f'torchvision\'s {name} ({facts}) is not in "{place}".',
                hint=(f'wb.data.load("torchvision:{name}", download=True) fetches it. ' if can else "")
                + f"torchvision says: {error}",
            ) from error
    _fetch(builder, accepted, place, options, name)
    return _opened(builder, place, options, transform, name)


def _opened(builder: Any, place: Path, options: dict[str, Any], transform: Any, name: str) -> TorchData:
    data = builder(root=str(place), **options)
    label = f"torchvision:{name}" + "".join(f":{v}" for v in options.values() if not isinstance(v, bool))
    return TorchData(data, transform=transform, name=label)


def _split_options(name: str, accepted: Any, split: str | None) -> dict[str, Any]:
    if split is None:
        return {}
    if "split" in accepted:
        return {"split": split}
    if "train" in accepted and split in ("train", "test", "val"):
        return {"train": split == "train"}
    raise BadValueError(f'torchvision\'s {name} has no split "{split}".')


def _fetch(builder: Any, accepted: Any, place: Path, options: dict[str, Any], name: str) -> None:
    """Download a set; the only place in the package that downloads pictures."""
    if "download" not in accepted:
        raise DataError(f"torchvision cannot download {name}.", hint=f'Put it into "{place}" as its page describes.')
    logger.info("Downloading %s: %s", name, _FACTS.get(name, "size and licence as its page states"))
    place.mkdir(parents=True, exist_ok=True)
    try:
        builder(root=str(place), download=True, **options)
    except (RuntimeError, OSError, ValueError) as error:
        raise DataError(
            f"torchvision's {name} cannot be downloaded: {error}", hint=f'Without network, put it into "{place}".'
        ) from error
