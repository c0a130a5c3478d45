"""The part world: generated birds whose every part, artifact and mask is known. Nothing is read from disk."""

from __future__ import annotations

import json
import threading
import zlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from workbench.core import check
from workbench.core.errors import BadValueError, ShapeError
from workbench.data.artifacts import ARTIFACTS, plant
from workbench.data.base import Dataset
from workbench.data.birds import CATALOGUE, PARTS, parts_of_class
from workbench.data.scenery import paint
from workbench.data.transforms import Transform

__all__ = ["CATALOGUE", "PARTS", "PLANTED", "PartWorld", "bird_transform"]

PLANTED: dict[str, Any] = {"timestamp": {0: 0.8}}
"""What is planted where nobody says otherwise: a date on 80 % of the first class."""

# Raised when the pictures change, so that stored results and the trained networks are made anew.
VERSION = 1

_SPLITS = {"train": 1, "val": 2, "test": 3}
_MOST_CLASSES = 36
_KEPT_BYTES = 8_000_000

Shares = float | Mapping[int | str, float] | Iterable[float]


def bird_transform(size: int = 64) -> Transform:
    """Give the transform that the world and the networks trained on it share: values from -2 to 2."""
    return Transform(size=size, resize_short=size, mean=(0.5,), std=(0.25,), interpolation="bilinear")


class PartWorld(Dataset):
    """Generated birds made of six parts, with planted artifacts and a counterpart for every scene.

    A class is a combination of a beak, eye, foot, tail, wing and body that no other class has (`class_parts`); single
    birds differ from it in some parts (`odd`). Pose, size, place, light and scenery are drawn without regard to it.
    Scene `i` depends on `seed`, `split` and `i` alone, so the same scene can be had with and without artifact or part,
    and differs in nothing else: outside the masks the two pictures are equal. A longer set begins with the same scenes.
    After FunnyBirds (Hesse et al., 2023).

    Parameters
    ----------
    n : int
        Number of scenes. Classes take turns: scene `i` is of class ``i % n_classes``.
    seed : int
    split : {"train", "val", "test"}
        Which scenes; artifacts are planted in all of them alike.
    n_classes : int, 2 to 36
        A world with more classes begins with the same ones.
    size : int, 16 to 1024
        Side of the pictures; the scenes are the same at each size.
    artifacts : mapping of artifact to share, or str, or None
        How likely each artifact is in a picture of each class. An artifact is a name from `workbench.data.artifacts`
        ("timestamp", "band_aid", "ruler", "colour_cast", "watermark", …) or a function ``(picture, rng) -> (picture,
        mask)`` of float32 pictures; its share is one number for all classes, a number for each, or a mapping of some
        classes (number or name) to theirs, the others having none. A name alone: in all pictures.
    strength : float, or mapping of artifact to float, 0 to 1
        How strong they are: 1 as usual, 0 not there.
    odd : float, 0 to 1
        Chance of each part to be drawn from all variants alike instead of being that of the class. With 0 all birds of
        a class are alike, a network tells them without fail, and has no use for an artifact.
    lacking : float, 0 to 1
        Chance of each part but the body to be missing.
    things : int, 0 to 40
        At most so many objects lie about in the scenery.
    remove : sequence of str
        Parts that no bird has.
    replace : mapping of part to variant
        Parts that all birds have alike, whatever their class.
    transform : Transform or callable, optional
        Not given: the pictures as they are, values -2 to 2.

    Attributes
    ----------
    class_parts : tuple of dict
        Variant of each part, per class; what a single bird has is told by `parts`.
    artifact_names : tuple of str
    planted : (sample, artifact) bool array
        Which picture carries which artifact.
    has_artifact : (sample,) bool array
        Whether it carries any.
    groups : (sample,) int64 array
        Class and artifacts as one number: ``label * 2**n_artifacts + sum(2**a)`` over the planted artifacts `a`.
    concept_names : tuple of str
        Each variant of each part ("hook beak", …), then the artifacts.
    concepts : (sample, concept) bool array
        What each picture shows; a part counts also where something covers it.

    Raises
    ------
    BadValueError
        If an option is out of its range, or a share names no class.
    UnknownNameError
        If there is no such artifact, part or variant.

    Examples
    --------
    >>> birds = PartWorld(n=20, artifacts={"band_aid": {"wedge-tailed robin": 0.8}, "colour_cast": 0.1})
    >>> birds.classes[0], birds.class_parts[0]["beak"], sorted(birds.clean().masks(0))
    ('wedge-tailed robin', 'duck', ['beak', 'bird', 'body', 'eye', 'foot', 'tail', 'wing'])
    """

    brings_transform = True

    def __init__(
        self,
        n: int = 2000,
        seed: int = 0,
        *,
        split: str = "train",
        n_classes: int = 10,
        size: int = 64,
        artifacts: Mapping[Any, Shares] | str | None = PLANTED,
        strength: float | Mapping[Any, float] = 1.0,
        odd: float = 0.2,
        lacking: float = 0.0,
        things: int = 7,
        remove: Iterable[str] = (),
        replace: Mapping[str, str] | None = None,
        transform: Any = None,
    ):
        n = check.positive("n", n)
        check.one_of("split", split, tuple(_SPLITS))
        self.seed, self.split, self.size = _whole("seed", seed, 0, None), split, _whole("size", size, 16, 1024)
        self.things = _whole("things", things, 0, 40)
        self.odd, self.lacking = check.between("odd", odd, 0, 1), check.between("lacking", lacking, 0, 1)
        self.class_parts = tuple(parts_of_class(_whole("n_classes", n_classes, 2, _MOST_CLASSES)))
        self.removed, self.replaced = _edits(remove, replace or {})
        labels = np.arange(n, dtype=np.int64) % n_classes
        super().__init__(
            "birds",
            keys=[f"{split}-{seed}-{i:06d}" for i in range(n)],
            labels=labels,
            classes=[f"{parts['tail']}-tailed {parts['body']}" for parts in self.class_parts],
            transform=bird_transform(size) if transform is None else transform,
        )
        self.has_own_transform = transform is not None  # the networks trained on it bring the same
        self._options = {
            "n": n, "seed": seed, "split": split, "n_classes": n_classes, "size": size, "artifacts": artifacts,
            "strength": strength, "odd": odd, "lacking": lacking, "things": things, "remove": self.removed,
            "replace": self.replaced, "transform": transform,
        }  # fmt: skip
        self._artifacts = _parsed(artifacts, self.classes)
        self.artifact_names = tuple(self._artifacts)
        self.strength = _strengths(strength, self.artifact_names)
        chances = {name: self._draw(2, name, n) < share[labels] for name, (_, share) in self._artifacts.items()}
        self.planted = np.zeros((n, len(chances)), bool)
        for a, (name, chance) in enumerate(chances.items()):
            self.planted[:, a] = chance & (self.strength[name] > 0)
        self.has_artifact = self.planted.any(1)
        self.groups = labels << len(chances) | (self.planted << np.arange(len(chances))).sum(1, dtype=np.int64)
        self._variants = self._drawn_variants()
        self.concept_names = (*(f"{v} {part}" for part in PARTS for v in CATALOGUE[part]), *self.artifact_names)
        self.concepts = self._table()
        self._kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def parts(self, i: int) -> dict[str, str]:
        """Say which parts the bird of one scene has: part to variant."""
        i = self._index(i)
        own = zip(PARTS, self._variants[i].tolist(), strict=True)
        return {part: CATALOGUE[part][variant] for part, variant in own if variant >= 0}

    def artifacts(self, i: int) -> tuple[str, ...]:
        """Name the artifacts that one scene carries."""
        return tuple(name for name, has in zip(self.artifact_names, self.planted[self._index(i)], strict=True) if has)

    def scene(self, i: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Draw one scene.

        Returns
        -------
        picture : (y, x, 3) uint8
        masks : dict of str to (y, x) bool array
            Each part, "bird", and each artifact that was planted. A part's mask holds every pixel in which any of it
            shows, so neighbours share the pixels of their border, and artifacts in front of it are not cut out: it is
            the same in the clean and in the attacked scene.
        """
        i = self._index(i)
        picture, masks = paint(self._rng(3, i), self.parts(i), size=self.size, things=self.things)
        for name in self.artifacts(i):
            # A generator of its own, so that other artifacts neither move this one nor change its strength.
            rng = self._rng(4, i, zlib.crc32(name.encode()))
            picture, masks[name] = plant(self._artifacts[name][0], picture, rng, strength=self.strength[name])
        # Rounded last, so that nothing leaks out of a mask.
        return np.round(picture).clip(0, 255).astype(np.uint8), masks

    def pictures(self, ids: Iterable[int] | None = None) -> np.ndarray:
        """Draw many scenes, (sample, y, x, 3) uint8; all if no ids are given. Two thousandths of a second each."""
        ids = range(len(self)) if ids is None else [self._index(i) for i in ids]
        found = np.empty((len(ids), self.size, self.size, 3), np.uint8)
        for place, i in enumerate(ids):
            found[place] = self.scene(i)[0]
        return found

    def describe(self) -> dict[str, Any]:
        """Give what makes this world, ready for JSON; shares of the artifacts per class."""
        return {
            "version": VERSION,
            "n": len(self),
            "seed": self.seed,
            "split": self.split,
            "size": self.size,
            "n_classes": len(self.classes),
            "artifacts": {name: share.tolist() for name, (_, share) in self._artifacts.items()},
            "strength": self.strength,
            "odd": self.odd,
            "lacking": self.lacking,
            "things": self.things,
            "remove": sorted(self.removed),
            "replace": self.replaced,
        }

    def varied(self, **options: Any) -> PartWorld:
        """Give the same scenes with other options of the constructor, such as ``strength=0.3`` or ``size=128``.

        With the same `seed` and `split`, sample `i` of both is the same scene.
        """
        if unknown := sorted(set(options) - set(self._options)):
            raise BadValueError(
                f"A part world has no {', '.join(unknown)}.", hint=f"It has {', '.join(self._options)}."
            )
        own = self._options | {"transform": self.transform if self.has_own_transform else None}
        if "artifacts" in options:  # a strength that is told for single artifacts says nothing of others
            own["strength"] = own["strength"] if not isinstance(own["strength"], Mapping) else 1.0
        other = PartWorld(**(own | options))
        other._tag_book = self._tag_book
        return other

    def clean(self) -> PartWorld:
        """Give the same scenes without artifacts."""
        return self.varied(artifacts=None)

    def attacked(self, *names: str, strength: float | None = None) -> PartWorld:
        """Give the same scenes with artifacts in all of them; where one lay already, it lies in the same place.

        Parameters
        ----------
        *names : str
            Which; not given: all that this world plants.
        strength : float, 0 to 1, optional
            Not given: as strong as this world plants them, and 1 for others.

        Raises
        ------
        BadValueError
            If no name is given and nothing is planted here.
        """
        names = names or self.artifact_names
        if not names:
            raise BadValueError("This world plants no artifact.", hint='Name one: birds.attacked("timestamp").')
        own = {name: self._artifacts[name][0] if name in self._artifacts else name for name in names}
        strengths = {name: self.strength.get(name, 1.0) if strength is None else strength for name in own}
        return self.varied(artifacts={key: 1.0 for key in own.values()}, strength=strengths)

    def edited(self, *, remove: Iterable[str] = (), replace: Mapping[str, str] | None = None) -> PartWorld:
        """Give the same scenes with parts taken away or exchanged; labels stay those of the birds as they were.

        Parameters
        ----------
        remove : sequence of str
            Parts, of which what is behind comes to light.
        replace : mapping of part to variant
            ``{"tail": "fan"}``: all birds have this one.
        """
        remove = [remove] if isinstance(remove, str) else list(remove)
        return self.varied(remove=(*self.removed, *remove), replace={**self.replaced, **(replace or {})})

    def _read(self, i: int, least: tuple[int, int] | None) -> Image.Image:
        with self._lock:
            picture = self._kept.get(i)
        if picture is None:
            picture = self.scene(i)[0]
            with self._lock:
                self._kept[i] = picture
                if len(self._kept) * picture.nbytes > _KEPT_BYTES:
                    self._kept.popitem(last=False)
        return Image.fromarray(picture)

    def _masks(self, i: int) -> dict[str, np.ndarray]:
        return self.scene(i)[1]

    def _identity(self) -> Iterable[str]:
        yield json.dumps(self.describe(), sort_keys=True)
        yield self.planted.tobytes().hex()
        yield from self.keys

    def _rng(self, *numbers: int) -> np.random.Generator:
        return np.random.default_rng([VERSION, self.seed, _SPLITS[self.split], *numbers])

    def _draw(self, purpose: int, name: str, n: int) -> np.ndarray:
        """Draw one number per scene in order: a longer set has the same beginning, and a higher share only adds."""
        return self._rng(purpose, zlib.crc32(name.encode())).random(n)

    def _drawn_variants(self) -> np.ndarray:
        """Number of the variant of each part in each scene, (sample, part); -1 where there is none."""
        n = len(self)
        found = np.empty((n, len(PARTS)), np.int64)
        for place, part in enumerate(PARTS):
            variants = CATALOGUE[part]
            own = np.array([variants.index(parts[part]) for parts in self.class_parts])[self.labels]
            is_odd, other = self._draw(5, part, n) < self.odd, self._draw(6, part, n) * len(variants)
            found[:, place] = np.where(is_odd, other.astype(np.int64), own)
            if part != "body":
                found[self._draw(1, part, n) < self.lacking, place] = -1
            if part in self.replaced:
                found[:, place] = variants.index(self.replaced[part])
            if part in self.removed:
                found[:, place] = -1
        return found

    def _table(self) -> np.ndarray:
        parts = [self._variants[:, [n]] == np.arange(len(CATALOGUE[part])) for n, part in enumerate(PARTS)]
        return np.concatenate([*parts, self.planted], 1)


def _whole(name: str, value: Any, low: int, high: int | None) -> int:
    is_whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not is_whole or value < low or (high is not None and value > high):
        limit = f"of at least {low}" if high is None else f"from {low} to {high}"
        raise BadValueError(f"`{name}` must be a whole number {limit}; got {value!r}.")
    return int(value)


def _edits(remove: Iterable[str], replace: Mapping[str, str]) -> tuple[tuple[str, ...], dict[str, str]]:
    removed = tuple(dict.fromkeys([remove] if isinstance(remove, str) else remove))
    for part in (*removed, *replace):
        check.known("part", part, PARTS, hint=f"A bird has {', '.join(PARTS)}.")
    for part, variant in replace.items():
        check.known(part, variant, CATALOGUE[part], hint=f"There are {', '.join(CATALOGUE[part])}.")
    return removed, dict(replace)


def _parsed(artifacts: Any, classes: tuple[str, ...]) -> dict[str, tuple[str | Callable[..., Any], np.ndarray]]:
    """Give for each artifact's name what paints it and its share per class, (class_,)."""
    if artifacts is None:
        return {}
    if isinstance(artifacts, str) or callable(artifacts):
        artifacts = {artifacts: 1.0}
    if not isinstance(artifacts, Mapping):
        raise BadValueError(
            f"`artifacts` maps artifacts to shares; got {artifacts!r}.", hint='For example {"timestamp": {0: 0.7}}.'
        )
    found: dict[str, tuple[str | Callable[..., Any], np.ndarray]] = {}
    for artifact, share in artifacts.items():
        if isinstance(artifact, str):
            check.known("artifact", artifact, ARTIFACTS, hint=f"There are {', '.join(ARTIFACTS)}.")
        elif not callable(artifact):
            raise BadValueError(f"An artifact is a name or a function (picture, rng); got {artifact!r}.")
        name = artifact if isinstance(artifact, str) else getattr(artifact, "__qualname__", repr(artifact))
        if name in found or name in (*PARTS, "bird"):
            raise BadValueError(f'Two things of this world would be called "{name}".', hint="Rename the function.")
        found[name] = (artifact, _per_class(name, share, classes))
    return found


def _per_class(name: str, share: Any, classes: tuple[str, ...]) -> np.ndarray:
    if isinstance(share, Mapping):
        values = np.zeros(len(classes))
        for key, value in share.items():
            if isinstance(key, str):
                key = classes.index(check.known("class", key, classes))
            values[_whole(f"class of {name}", key, 0, len(classes) - 1)] = check.between(
                f"share of {name}", value, 0, 1
            )
        return values
    if isinstance(share, Iterable) and not isinstance(share, str):
        values = np.array([check.between(f"share of {name}", v, 0, 1) for v in map(_plain, share)], np.float64)
        if values.shape != (len(classes),):
            raise ShapeError(f"{name} needs one share for each of the {len(classes)} classes; got {len(values)}.")
        return values
    return np.full(len(classes), check.between(f"share of {name}", _plain(share), 0, 1), np.float64)


def _strengths(strength: Any, names: tuple[str, ...]) -> dict[str, float]:
    if not isinstance(strength, Mapping):
        return {name: check.between("strength", _plain(strength), 0, 1) for name in names}
    own = {key if isinstance(key, str) else getattr(key, "__qualname__", repr(key)): v for key, v in strength.items()}
    for name in own:
        check.known("artifact", name, names, hint="`strength` names those that are planted.")
    return {name: check.between(f"strength of {name}", _plain(own.get(name, 1.0)), 0, 1) for name in names}


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
