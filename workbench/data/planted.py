"""Any data set twice: as it is, and with an artifact on every picture, pair by pair."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
from PIL import Image
from torch import Tensor

from workbench.core import check
from workbench.core.errors import DataError
from workbench.data.artifacts import ARTIFACTS, Artifact, plant
from workbench.data.base import Dataset
from workbench.data.transforms import Transform, WrappedTransform

__all__ = ["Planted"]


class Planted(Dataset):
    """The samples of a data set, and each again with an artifact: what changes between two is the artifact alone.

    Sample ``i`` is the clean one and sample ``n + i`` its twin. The artifact lies on the model's view, after scaling
    and cropping, so that no crop can cut it off; outside of its mask both inputs are equal. Twins share label and
    origin.

    Parameters
    ----------
    data : Dataset
        Its transform must be one of ours, since the artifact is laid between cropping and normalising.
    artifact : str or callable
        A name from `workbench.data.artifacts`, such as ``"imagenet-w"``, or a function
        ``(picture, rng) -> (picture, mask)``.
    strength : float, 0 to 1
    seed : int
        With the number of the sample it decides place and shade.

    Raises
    ------
    UnknownNameError
        If there is no artifact of this name.

    Examples
    --------
    >>> twins = Planted(wb.data.Photos(n=60), "imagenet-w")  # doctest: +SKIP
    >>> cav = s.fit(wb.methods.PatternCAV("blocks.6", positives=twins.pairs, scope="all"))  # doctest: +SKIP
    """

    def __init__(self, data: Dataset, artifact: str | Artifact, *, strength: float = 1.0, seed: int = 0):
        check.between("strength", strength, 0, 1)
        if isinstance(artifact, str):
            check.known("artifact", artifact, ARTIFACTS)
        self.base, self.artifact, self.strength, self.seed = data, artifact, float(strength), seed
        self.artifact_name = artifact if isinstance(artifact, str) else getattr(artifact, "__name__", "artifact")
        keys = [*data.keys, *(f"{key}+{self.artifact_name}" for key in data.keys)]
        super().__init__(
            f"{data.name}+{self.artifact_name}", keys=keys, labels=np.tile(data.labels, 2),
            origins=np.tile(data.origins, 2), classes=data.classes, transform=data.transform,
        )  # fmt: skip
        self.has_own_transform = data.has_own_transform
        self.brings_transform, self.reads_in_parallel = data.brings_transform, data.reads_in_parallel

    @property
    def has_artifact(self) -> np.ndarray:
        """(sample,) bool."""
        return np.arange(len(self)) >= len(self.base)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """Sample ids of twins: with the artifact, without it."""
        n = len(self.base)
        return [(n + i, i) for i in range(n)]

    def tensor(self, i: int) -> Tensor:
        i = self._index(i)
        n, inner = len(self.base), self.base.using(self.transform)
        if i < n:
            return inner.tensor(i)
        return self._normal(Image.fromarray(self._marked(i - n)[0]))

    def masks(self, i: int) -> dict[str, np.ndarray]:
        i = self._index(i)
        n = len(self.base)
        found = self.base.using(self.transform).masks(i % n)
        return found if i < n else {**found, self.artifact_name: self._marked(i - n)[1]}

    # --- inside ------------------------------------------------------------------------------------------------------

    def _marked(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """The model's view of a sample of the base, with the artifact, and its mask."""
        picture = self.base.using(self.transform).picture(i)
        return plant(self.artifact, picture, np.random.default_rng([self.seed, i]), strength=self.strength)

    def _normal(self, view: Image.Image) -> Tensor:
        """A picture that is scaled and cropped already, as the model's input."""
        if isinstance(self.transform, WrappedTransform):
            raise DataError(
                f"{self.name} lays its artifact between cropping and normalising, which a function does in one.",
                hint="Give the data set a workbench.data.Transform(size=…, mean=…, std=…).",
            )
        kept: Transform = replace(self.transform, crop="squash")  # of its own size: nothing is scaled
        return kept(view)

    def _read(self, i: int, least: tuple[int, int] | None) -> Image.Image:
        n = len(self.base)
        return self.base.item(i).image if i < n else Image.fromarray(self._marked(i - n)[0])

    def _identity(self) -> Iterable[str]:
        yield f"{self.artifact_name} {self.strength} {self.seed}"
        yield from self.base._identity()

    def _is_fixed(self) -> bool:
        return self.base.using(self.transform)._is_fixed()

    def _random_parts(self) -> list[str]:
        return self.base.using(self.transform)._random_parts()
