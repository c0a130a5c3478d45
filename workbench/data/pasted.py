"""Any data set with a piece of some of its pictures in each: an artifact that was found, put everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image, ImageFilter
from torch import Tensor

from workbench.core.errors import BadValueError, DataError, ShapeError
from workbench.data.base import Dataset
from workbench.data.transforms import Transform, WrappedTransform

__all__ = ["Pasted"]

_SOFT = 5 / 224  # width of the blurred rim, in sides of the picture


class Pasted(Dataset):
    """The samples of a data set by the same ids, each with a piece of another sample laid over it.

    The pieces are cut out of *donors* by masks, with a soft rim, and keep their place: samples with an artifact and
    its masks give the data set in which every picture has the artifact. They lie on the model's view, after scaling and
    cropping. After the insertion of localised artifacts in Pahde et al. 2025 (Ensuring medical AI safety).

    Parameters
    ----------
    data : Dataset
        Its transform must be one of ours, since pieces are laid between cropping and normalising.
    masks : mapping of sample id to (y, x) array
        Donors and what is cut out of them: truth values, or shares 0 to 1, on the model's view.
    name : str
        What the artifact is called: the name of its masks here.
    donor_data : Dataset, optional
        Where the donors are. Default: `data` itself.
    seed : int
        Decides which donor a sample gets; never a view of the picture that it is itself, if there is another.

    Raises
    ------
    BadValueError
        If there is no donor with a mask that is not empty.
    ShapeError
        If a mask is of another size than the view.

    Examples
    --------
    >>> masks = s.fit(wb.methods.ArtifactMasks(cav))  # doctest: +SKIP
    >>> wb.data.Pasted(s.data, dict(zip(masks.index_, masks.masks_)), name="band-aid")  # doctest: +SKIP
    """

    def __init__(
        self, data: Dataset, masks: Mapping[int, Any], *, name: str = "artifact", donor_data: Dataset | None = None,
        seed: int = 0,
    ):  # fmt: skip
        if isinstance(data.transform, WrappedTransform):
            raise DataError(
                f"Pieces are laid between cropping and normalising, which the transform of {data.name} does in one.",
                hint="Give the data set a workbench.data.Transform(size=…, mean=…, std=…).",
            )
        self.base, self.artifact_name, self.seed = data, str(name), seed
        self._donors = donor_data or data
        self._pieces = {int(i): _shares(mask, int(i)) for i, mask in sorted(masks.items())}
        self._pieces = {i: piece for i, piece in self._pieces.items() if piece.any()}
        if not self._pieces:
            raise BadValueError("No donor has a mask that is not empty.", hint="Look at the masks of the artifact.")
        if wrong := [i for i in self._pieces if not 0 <= i < len(self._donors)]:
            raise BadValueError(f"No sample {wrong[0]} to cut a piece of: {self._donors.name} has {len(self._donors)}.")
        super().__init__(
            f"{data.name}+{self.artifact_name}", keys=[f"{key}+{self.artifact_name}" for key in data.keys],
            labels=data.labels, origins=data.origins, classes=data.classes, transform=data.transform,
        )  # fmt: skip
        self.has_own_transform = data.has_own_transform
        self.brings_transform, self.reads_in_parallel = data.brings_transform, data.reads_in_parallel

    def donor(self, i: int) -> int:
        """The sample that `i` has its piece of."""
        i, ids = self._index(i), list(self._pieces)
        order = np.random.default_rng([self.seed, i]).permutation(len(ids))
        if self._donors is self.base:
            own = self.base.origins[i]
            return next((ids[k] for k in order if self.base.origins[ids[k]] != own), ids[order[0]])
        return ids[order[0]]

    def tensor(self, i: int) -> Tensor:
        kept: Transform = replace(self.transform, crop="squash")  # of its own size: nothing is scaled
        return kept(Image.fromarray(self._made(self._index(i))[0]))

    def masks(self, i: int) -> dict[str, np.ndarray]:
        i = self._index(i)
        found = self.base.using(self.transform).masks(i)
        return {**found, self.artifact_name: self._made(i)[1] > 0.5}

    # --- inside ------------------------------------------------------------------------------------------------------

    def _made(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """The model's view of a sample with its piece, and the piece's share of each pixel."""
        picture, donor = self.base.using(self.transform).picture(i), self.donor(i)
        other, piece = self._donors.using(self.transform).picture(donor), self._pieces[donor]
        if piece.shape != picture.shape[:2] or other.shape != picture.shape:
            raise ShapeError(f"The mask of sample {donor} is {piece.shape}; the view is {picture.shape[:2]}.")
        made = picture + (other.astype(np.float32) - picture) * piece[..., None]
        return np.clip(np.round(made), 0, 255).astype(np.uint8), piece

    def _read(self, i: int, least: tuple[int, int] | None) -> Image.Image:
        return Image.fromarray(self._made(i)[0])

    def _identity(self) -> Iterable[str]:
        digest = hashlib.blake2b(digest_size=8)
        for i, piece in self._pieces.items():
            digest.update(f"{i}".encode() + piece.tobytes())
        yield f"{self.artifact_name} {self.seed} {digest.hexdigest()}"
        yield from self.base._identity()
        if self._donors is not self.base:
            yield from self._donors._identity()

    def _is_fixed(self) -> bool:
        return self.base.using(self.transform)._is_fixed()

    def _random_parts(self) -> list[str]:
        return self.base.using(self.transform)._random_parts()


def _shares(mask: Any, i: int) -> np.ndarray:
    """(y, x) float32, 0 to 1: the mask with a soft rim, so that no edge of the cut stands out."""
    own = np.asarray(mask, np.float32)
    if own.ndim != 2 or not np.isfinite(own).all() or own.min(initial=0) < 0 or own.max(initial=0) > 1:
        raise ShapeError(f"The mask of sample {i} must be (y, x) values from 0 to 1; got the shape {own.shape}.")
    radius = _SOFT * max(own.shape)
    blurred = Image.fromarray(np.round(own * 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))
    return np.maximum(own, np.asarray(blurred, np.float32) / 255)
