"""Pictures that other packages bring: real photographs from wheels, cut-out stamps from Debian."""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from workbench.core import check
from workbench.core.errors import DataError, MissingPackageError
from workbench.data.backgrounds import BACKGROUNDS, background
from workbench.data.base import Dataset
from workbench.data.pictures import open_rgb

__all__ = ["Photos", "Stamps"]

logger = logging.getLogger(__name__)

# What lies in the wheels beside these is drawn, binary, empty or tiny: test patterns, logos, 32-pixel sets.
_PHOTOS = {
    "foolbox": ("data", None),  # 20 ImageNet pictures, imagenet_NN_CLASS.jpg
    "skimage": (
        "data",
        "astronaut.png brick.png camera.png chelsea.png coffee.png coins.png grass.png gravel.png "
        "hubble_deep_field.jpg ihc.png moon.png motorcycle_left.png page.png retina.jpg rocket.jpg text.png",
    ),
    "sklearn": ("datasets/images", "china.jpg flower.jpg"),
}
_INSTALL = {"foolbox": "pip install --no-deps foolbox", "skimage": "pip install scikit-image",
            "sklearn": "pip install scikit-learn"}  # fmt: skip
# Scales of the square crops, relative to the short side, and how many along each axis.
_LEVELS = ((0.75, 2), (0.5, 3), (0.36, 4))
_LEAST_SIDE = 96  # pixels of the original: smaller crops are mush at the size of a model's input
_WHOLE_ENOUGH = 0.5  # share of the picture that a view must show to keep its label


class Photos(Dataset):
    """The real photographs that the wheels of scikit-image, scikit-learn and foolbox carry, in many views.

    Each original is there as a whole and in up to 29 square crops at three scales (0.75, 0.5 and 0.36 of the short
    side, on a slightly shifted grid of 2 x 2, 3 x 3 and 4 x 4). With all three packages: 38 originals, 1,099 views.
    `origins` says which views belong together; references show one per original.

    Labels are ImageNet's, for the 20 pictures of foolbox whose file names state them, in views that show at least half
    of the picture; -1 for all others. The originals stay in memory once decoded, about 40 MB.

    Parameters
    ----------
    n : int, optional
        Most views, spread evenly over the originals, wholes first. Not given: all.
    seed : int
        Shifts the crops and chooses among them.
    transform : Transform or callable, optional
        Not given: short side 256, centre crop 224, ImageNet's normalisation.

    Raises
    ------
    MissingPackageError
        If none of the three packages is installed.
    """

    def __init__(self, *, n: int | None = None, seed: int = 0, transform: Any = None):
        self.seed = seed
        files = _photo_files()
        plans: list[list[tuple[int, int, int, int]]] = []
        for number, (_, path) in enumerate(files):
            with Image.open(path) as image:  # reads the size only
                plans.append(_views(*image.size, np.random.default_rng([seed, number])))
        if n is not None:
            plans = _evenly(plans, check.positive("n", n), seed)
        keys, labels, origins, boxes = [], [], [], []
        for number, ((name, path), plan) in enumerate(zip(files, plans, strict=True)):
            with Image.open(path) as image:
                area = image.width * image.height
            for box in plan:
                left, top, right, bottom = box
                is_labelled = (right - left) * (bottom - top) >= _WHOLE_ENOUGH * area
                keys.append(f"{name}#{left},{top},{right},{bottom}")
                labels.append(_stated_class(path) if is_labelled else -1)
                origins.append(number)
                boxes.append(box)
        self._boxes = boxes
        self._paths = [path for _, path in files]
        self._decoded: dict[int, Image.Image] = {}
        from torchvision.models._meta import _IMAGENET_CATEGORIES

        super().__init__(
            "photos", keys=keys, labels=labels, origins=origins, classes=_IMAGENET_CATEGORIES, transform=transform
        )

    def _read(self, i: int, least: tuple[int, int] | None) -> Image.Image:
        number = int(self.origins[i])
        image = self._decoded.get(number)
        if image is None:  # two threads may decode the same one; they get the same
            image = open_rgb(self._paths[number])
            self._decoded[number] = image
        return image.crop(self._boxes[i])

    def _identity(self) -> Iterable[str]:
        yield from self.keys
        yield from (f"{path.name} {path.stat().st_size}" for path in self._paths)


class Stamps(Dataset):
    """The cut-out pictures of Debian's tuxpaint-stamps-default, each laid on a painted background.

    465 objects in 15 categories (animals, food, plants, …), more than half of them photographs, with a caption and the
    exact mask "object". Place, size and background are drawn anew for each view; the usual centre crop of 7/8 cuts
    nothing off.

    The pictures are read where Debian puts them and are not copied; their licence is the package's (GPL-2).

    Parameters
    ----------
    path : path, optional
        Folder of the stamps. Not given: the variable ``WORKBENCH_STAMPS``, else ``/usr/share/tuxpaint/stamps``.
    views : int
        How many backgrounds each stamp is laid on.
    n : int, optional
        Most views, evenly over the stamps.
    seed : int
    size : int
        Side of the pictures in pixels.
    transform : Transform or callable, optional
        Not given: short side 256, centre crop 224, ImageNet's normalisation.

    Attributes
    ----------
    captions : list of str
        The first line of each stamp's description, in English; plain text.

    Raises
    ------
    MissingPackageError
        If the stamps are not installed.
    """

    def __init__(
        self,
        *,
        path: str | os.PathLike[str] | None = None,
        views: int = 1,
        n: int | None = None,
        seed: int = 0,
        size: int = 256,
        transform: Any = None,
    ):
        self.root = Path(path or os.environ.get("WORKBENCH_STAMPS") or "/usr/share/tuxpaint/stamps").expanduser()
        self.seed, self.size = seed, check.positive("size", size)
        check.positive("views", views)
        if not self.root.is_dir():
            raise MissingPackageError(
                f'The stamps are not installed: there is no "{self.root}".',
                hint="On Debian and Ubuntu: apt-get install tuxpaint-stamps-default. "
                "Elsewhere, name their folder with path= or the variable WORKBENCH_STAMPS.",
            )
        files = [p for p in sorted(self.root.rglob("*.png"), key=lambda p: p.as_posix()) if _is_stamp(p, self.root)]
        if not files:
            raise DataError(
                f'There are no stamps in "{self.root}".', hint="Looked for .png files of 64 pixels and more."
            )
        plan = [(k, view) for k in range(len(files)) for view in range(views)]
        if n is not None:
            n = check.positive("n", n)
            ranked = sorted(plan, key=lambda p: (p[1], np.random.default_rng([seed, 7, p[0]]).random()))
            plan = sorted(ranked[:n])
        names = [p.relative_to(self.root).with_suffix("").as_posix() for p in files]
        classes = sorted({name.split("/")[0] for name in names})
        self._paths, self._plan = files, plan
        texts = [_caption(p) for p in files]
        self.captions = [texts[k] for k, _ in plan]
        self._kept: OrderedDict[int, Image.Image] = OrderedDict()
        self._lock = threading.Lock()
        super().__init__(
            "stamps",
            keys=[f"{names[k]}#{view}" for k, view in plan],
            labels=[classes.index(names[k].split("/")[0]) for k, _ in plan],
            origins=[k for k, _ in plan],
            classes=classes,
            transform=transform,
        )

    def _read(self, i: int, least: tuple[int, int] | None) -> Image.Image:
        return self._composed(i)[0]

    def _masks(self, i: int) -> dict[str, np.ndarray]:
        return {"object": self._composed(i)[1]}

    def _identity(self) -> Iterable[str]:
        yield f"{self.seed} {self.size}"
        yield from (f"{self.keys[j]} {self._paths[k].stat().st_size}" for j, (k, _) in enumerate(self._plan))

    def _composed(self, i: int) -> tuple[Image.Image, np.ndarray]:
        number, view = self._plan[i]
        rng = np.random.default_rng([self.seed, 8, number, view])
        ground = background(int(rng.integers(len(BACKGROUNDS))), rng, height=self.size, width=self.size)
        canvas = Image.fromarray(ground.round().astype(np.uint8)).convert("RGBA")
        stamp = self._stamp(number)
        long = self.size * rng.uniform(0.55, 0.85)
        ratio = long / max(stamp.size)
        wide, high = (max(1, round(s * ratio)) for s in stamp.size)
        stamp = stamp.resize((wide, high), Image.Resampling.LANCZOS)
        left, top = (_place(rng, self.size, length) for length in (wide, high))
        layer = Image.new("RGBA", canvas.size)
        layer.paste(stamp, (left, top))
        mask = np.asarray(layer.getchannel("A")) > 127
        return Image.alpha_composite(canvas, layer).convert("RGB"), mask

    def _stamp(self, number: int) -> Image.Image:
        """Decode one stamp, cut to its visible part, at most twice as large as it is ever shown."""
        with self._lock:
            if number in self._kept:
                return self._kept[number]
        with Image.open(self._paths[number]) as image:
            stamp = image.convert("RGBA")
        stamp = stamp.crop(stamp.getchannel("A").getbbox() or (0, 0, *stamp.size))
        stamp.thumbnail((2 * self.size, 2 * self.size), Image.Resampling.LANCZOS, reducing_gap=None)
        with self._lock:
            self._kept[number] = stamp
            if len(self._kept) > 64:
                self._kept.popitem(last=False)
        return stamp


def _place(rng: np.random.Generator, size: int, length: int) -> int:
    """Choose where an object of `length` begins, a sixteenth away from both edges."""
    low, high = size // 16, size - size // 16 - length
    return int(rng.integers(low, high + 1)) if high >= low else (size - length) // 2


def _photo_files() -> list[tuple[str, Path]]:
    files: list[tuple[str, Path]] = []
    missing = []
    for package, (folder, names) in _PHOTOS.items():
        spec = find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            missing.append(package)
            continue
        root = Path(spec.submodule_search_locations[0]) / folder
        found = sorted(root.glob("imagenet_*.jpg")) if names is None else [root / n for n in names.split()]
        # Another version of a package may lack a picture or hold it elsewhere.
        files += [(f"{package}/{p.stem}", p) for p in found if p.is_file()]
    commands = "; ".join(_INSTALL[p] for p in missing)
    if not files:
        raise MissingPackageError(
            "The photographs come with scikit-image, scikit-learn and foolbox; none of them is installed.",
            hint=f"{commands}.",
        )
    if missing:
        logger.warning("photos: %d originals; more come with: %s", len(files), commands)
    return files


def _stated_class(path: Path) -> int:
    number = path.stem.rpartition("_")[2]
    return int(number) if path.name.startswith("imagenet_") and number.isdecimal() else -1


def _views(width: int, height: int, rng: np.random.Generator) -> list[tuple[int, int, int, int]]:
    """Plan the views of one picture: the whole, then square crops from large to small."""
    views = [(0, 0, width, height)]
    for scale, n in _LEVELS:
        side = round(scale * min(width, height))
        shifts = rng.uniform(-0.12, 0.12, (n, n, 2)) * side
        if side < _LEAST_SIDE:
            continue
        for row in range(n):
            for column in range(n):
                left = round(np.clip((width - side) * column / (n - 1) + shifts[row, column, 0], 0, width - side))
                top = round(np.clip((height - side) * row / (n - 1) + shifts[row, column, 1], 0, height - side))
                views.append((left, top, left + side, top + side))
    return views


def _evenly(plans: list[list[Any]], n: int, seed: int) -> list[list[Any]]:
    """Keep `n` views: the wholes first, then crops turn by turn, of all scales and originals alike."""
    ranked = []
    for number, plan in enumerate(plans):
        rng = np.random.default_rng([seed, 1, number])
        starts = np.cumsum([1, *(k * k for _, k in _LEVELS)])
        groups = [list(rng.permutation(range(a, min(b, len(plan))))) for a, b in zip(starts, starts[1:], strict=False)]
        order = [0]
        while any(groups):
            order += [group.pop() for group in groups if group]
        # Within a turn originals come in a shuffled order, so that a small n is no alphabet.
        ranked += [(turn, rng.random(), number, int(view)) for turn, view in enumerate(order)]
    chosen = sorted(ranked)[:n]
    kept: list[list[Any]] = [[] for _ in plans]
    for number, view in sorted((number, view) for _, _, number, view in chosen):
        kept[number].append(plans[number][view])
    return kept


def _is_stamp(path: Path, root: Path) -> bool:
    if path.relative_to(root).parts[0] == "symbols" or "_mirror" in path.stem:
        return False
    try:
        with Image.open(path) as image:
            return min(image.size) >= 64
    except (OSError, SyntaxError):
        return True  # noticed, and named, when it is read


def _caption(path: Path) -> str:
    try:
        lines = path.with_suffix(".txt").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    return lines[0].strip() if lines else path.stem.replace("-", " ").replace("_", " ")
