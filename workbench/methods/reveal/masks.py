"""Where an artifact lies: masks from conditional maps of its direction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import check
from workbench.core.errors import BadValueError, ShapeError, UnknownSampleError
from workbench.core.results import DirectionSet
from workbench.methods.base import Method, Source, register_method
from workbench.methods.directions.cav import CAV
from workbench.methods.directions.sets import digest_of, sample_ids

if TYPE_CHECKING:
    import pandas as pd

    from workbench.core.context import Context

__all__ = ["ArtifactMasks", "RECIPES", "binary", "blurred", "iou", "otsu"]

RECIPES = ("threshold", "otsu", "percentile")
"""``threshold``: above a tenth of the largest value, blurred, above three tenths. The others: blurred, then above
Otsu's threshold, or among the eight per cent of the largest values."""

_AT_ONCE = 16
_SIDE = 224  # what the sizes of the recipes are given for
_FIRST, _SECOND, _PERCENTILE = 0.1, 0.3, 92.0
_KERNELS = {"threshold": 41, "otsu": 7, "percentile": 7}
_SIGMA = 8.0


@register_method(
    "artifact-masks",
    source=Source("Pahde et al. 2023 (Reveal to Revise), section 3.2; Pahde et al. 2025, appendix (Otsu)"),
    needs=("activations",),
)
class ArtifactMasks(Method):
    """Masks of an artifact in the input, from the maps of its direction.

    **What it answers.** Where in each picture is what the direction stands for? The masks are what RRR and CDEP
    penalise relevance in, and what the relevance of an artifact is measured in: ``RRR(masks)`` takes it once fitted.

    **When not to trust it.** Deep layers see wide fields: masks spread around a small artifact. A sample without it
    gets a mask all the same. Look at `control` first: with shuffled entries of the direction the overlap should fall
    towards what chance gives, or the maps show what stands out in the picture whatever the direction.

    **Cost.** One backward pass per sample, in parts of 16; the masks are stored, one bit per pixel, maps in a byte.

    Parameters
    ----------
    cav : CAV
        Of one concept; fitted or not.
    samples : ids, mask, tag or frame, optional
        Default: the positives of the direction.
    recipe : {"threshold", "otsu", "percentile"}
        See `RECIPES`. Kernels are scaled with the larger side of the input; they are meant for 224 pixels.

    Attributes
    ----------
    index_ : (sample,) int64 array
    soft_ : (sample, y, x) uint8 array
        Positive relevance, the largest of each sample 255.
    masks_ : (sample, y, x) bool array

    Notes
    -----
    Relevance begins at the layer with the positive part of the activation times the signed vector, is handed back by
    the session's rule, and what is negative in the input is cut off.
    """

    result_version = 1

    def __init__(self, cav: Any, *, samples: Any = None, recipe: str = "threshold"):
        self.cav, self.samples, self.recipe = cav, samples, recipe

    def fit(self, ctx: Context) -> ArtifactMasks:
        """Make the maps and the masks."""
        self._check()
        found = self._fitted(ctx)
        if len(found.directions_) != 1:
            raise BadValueError(
                f"{len(found.directions_)} directions are given; masks are of one.",
                hint='Fit one direction, or name it: cav.with_positives(s.data.tag("...")).',
            )
        ids = self._ids(ctx, found)
        heats = self._heats(ctx, found.directions_, ids)
        self._finish(ids, soft(heats))
        return self

    # What there is ----------------------------------------------------------------------------------------------------

    def of(self, sample: int) -> np.ndarray:
        """(y, x) bool mask of a sample.

        Raises
        ------
        UnknownSampleError
            If none was made of it.
        """
        at = np.flatnonzero(self.index_ == sample)
        if not len(at):
            raise UnknownSampleError(f"No mask of sample {sample!r}.", hint=f"There are {len(self.index_)}: `index_`.")
        return self.masks_[at[0]]

    def to_mapping(self) -> dict[int, np.ndarray]:
        """Sample ids to (y, x) bool masks: what takes such masks takes this object as well.

        Raises
        ------
        BadValueError
            If it is not fitted.
        """
        if not self.is_fitted:
            raise BadValueError("These ArtifactMasks are not fitted yet.", hint="Fit them first: s.fit(masks).")
        return dict(zip(self.index_.tolist(), self.masks_, strict=True))

    def quality(self, truth: Any = "artifact", *, ctx: Context | None = None) -> pd.DataFrame:
        """How well the masks fit what is known.

        Parameters
        ----------
        truth : str or (sample, y, x) bool array
            Masks of the same samples, or the name under which the data set has them. Samples without are left out.

        Returns
        -------
        pandas.DataFrame
            Per sample ``iou``; ``chance``, the overlap that a mask of this size has at a random place on average;
            ``inside``, the share of the map's relevance in the true mask; ``area``, the share of the picture that it
            takes.
        """
        import pandas as pd

        known = self._truth(truth, ctx)
        rows = {}
        for i, soft_, mask, true in zip(self.index_.tolist(), self.soft_, self.masks_, known, strict=True):
            if true.any():
                rows[i] = measured(soft_, mask, true)
        index = pd.Index(list(rows), name="sample", dtype=np.int64)
        return pd.DataFrame(list(rows.values()), index=index, columns=["iou", "chance", "inside", "area"])

    def control(
        self, truth: Any = "artifact", *, seed: int = 0, n: int = 1, ctx: Context | None = None
    ) -> pd.DataFrame:
        """The same as `quality` with the entries of the direction shuffled: overlaps should fall towards `chance`.

        The entries of a pattern have a mean, so that a shuffled one still points a part of the way (cosines of 0.2 to
        0.4 on the toy network); that part is taken out.

        Parameters
        ----------
        n : int
            Shuffles; the figures of each sample are their means.
        ctx : Context, optional
            Default: the session that fitted this one.
        """
        ctx = getattr(self, "session_", None) if ctx is None else ctx
        if ctx is None:
            raise BadValueError("This was not fitted by a session.", hint="Pass ctx=..., or fit it first.")
        one, rng = self.directions_[0], np.random.default_rng(seed)
        found = []
        for _ in range(check.positive("n", n)):
            vector = rng.permutation(one.vector).astype(np.float64)
            vector -= (vector @ one.vector) * one.vector
            vector = (vector / max(float(np.linalg.norm(vector)), 1e-30)).astype(np.float32)
            made = DirectionSet(one.layer, one.basis, (replace(one, index=0, vector=vector),))
            other = type(self)(self.cav, samples=self.samples, recipe=self.recipe)
            other._finish(self.index_, soft(self._heats(ctx, made, self.index_)))
            found.append(other.quality(self._truth(truth, ctx)))
        return sum(found[1:], found[0]) / len(found)

    # What a method says -----------------------------------------------------------------------------------------------

    def recipe_params(self, ctx: Context) -> dict[str, Any]:
        self._check()
        if self.cav.is_fitted:
            vectors = np.ascontiguousarray(self.cav.directions_.vectors)
            about: Any = {"vectors": digest_of(vectors.view(np.int32))}
        else:
            about = {"method": self.cav.name, "version": self.cav.result_version, "params": self.cav.recipe_params(ctx)}
        samples = None if self.samples is None else digest_of(sample_ids(ctx.data, self.samples, "samples"))
        if samples is None and self.cav.is_fitted:
            one = self.cav.directions_[0]
            samples = digest_of(one.samples[one.is_positive])
        return {"layer": self.cav.layer, "cav": about, "samples": samples, "recipe": self.recipe}

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Maps, and masks in bits."""
        from workbench.methods.directions.kept import to_arrays

        arrays, facts = to_arrays(self.directions_)
        own = {"index": self.index_, "soft": self.soft_, "masks": np.packbits(self.masks_, axis=2)}
        return {**own, **{f"cav|{k}": v for k, v in arrays.items()}}, {"cav": facts}

    def restore(self, ctx: Context, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Take up stored masks."""
        from workbench.methods.directions.kept import from_arrays

        own = {k.removeprefix("cav|"): v for k, v in arrays.items() if k.startswith("cav|")}
        self.directions_ = from_arrays(own, facts["cav"])
        self.index_, self.soft_ = np.asarray(arrays["index"]), np.asarray(arrays["soft"])
        width = self.soft_.shape[2]
        self.masks_ = np.unpackbits(np.asarray(arrays["masks"]), axis=2, count=width).astype(bool)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        check.one_of("recipe", self.recipe, RECIPES)
        if not isinstance(self.cav, CAV):
            raise BadValueError(
                f"Masks need a concept activation vector; got {type(self.cav).__name__}.",
                hint="For example ArtifactMasks(PatternCAV(layer, positives=...)).",
            )

    def _fitted(self, ctx: Context) -> CAV:
        if self.cav.is_fitted:
            return self.cav
        return type(self.cav)(**self.cav.params()).fit(ctx)

    def _ids(self, ctx: Context, found: CAV) -> np.ndarray:
        self.directions_ = found.directions_
        if self.samples is not None:
            return sample_ids(ctx.data, self.samples, "samples")
        one = found.directions_[0]
        return one.samples[one.is_positive]

    def _heats(self, ctx: Any, directions: DirectionSet, ids: np.ndarray) -> np.ndarray:
        if not len(ids):
            raise BadValueError("No samples to make masks of.", hint="Say samples=[...].")
        parts = []
        ctx.progress.start(f"masks at {directions.layer}", len(ids))
        # A component for as long as this takes, whatever has its name: it may be shuffled, or fitted anew meanwhile.
        with ctx.model.layers.lent_directions(directions.layer, "mask-source", directions.vectors):
            for first in range(0, len(ids), _AT_ONCE):
                part = ids[first : first + _AT_ONCE].tolist()
                found = ctx.explain(part, given=f"{directions.layer}/mask-source/0")
                parts.append(np.asarray(found.heatmap, np.float32))
                ctx.progress.step(len(part))
        return np.concatenate(parts)

    def _finish(self, ids: np.ndarray, soft_: np.ndarray) -> None:
        self.index_, self.soft_ = ids.astype(np.int64), soft_
        self.masks_ = np.stack([binary(one, self.recipe) for one in soft_])

    def _truth(self, truth: Any, ctx: Any) -> np.ndarray:
        if not isinstance(truth, str):
            known = np.asarray(truth, bool)
            if known.shape != self.masks_.shape:
                raise ShapeError(f"True masks must be {self.masks_.shape}; got {known.shape}.")
            return known
        ctx = getattr(self, "session_", None) if ctx is None else ctx
        if ctx is None:
            raise BadValueError("This was not fitted by a session.", hint="Pass ctx=..., or the masks themselves.")
        return np.stack([sized(ctx.data.masks(i).get(truth), self.masks_.shape[1:]) for i in self.index_.tolist()])


# Pure functions of one map --------------------------------------------------------------------------------------------


def soft(heats: np.ndarray) -> np.ndarray:
    """(sample, y, x) uint8: what is positive of each map, the largest value 255; zeros where nothing is."""
    positive = np.maximum(heats, 0)
    largest = positive.max((1, 2), keepdims=True)
    return np.rint(255 * positive / np.where(largest > 0, largest, 1)).astype(np.uint8)


def binary(soft_: np.ndarray, recipe: str = "threshold") -> np.ndarray:
    """(y, x) bool mask from a map of 0 to 255, by a recipe; empty for an empty map."""
    x = soft_.astype(np.float64) / 255
    if not x.any():
        return np.zeros(x.shape, bool)
    scale = max(x.shape) / _SIDE
    radius, sigma = max(1, round((_KERNELS[recipe] // 2) * scale)), _SIGMA * scale
    if recipe == "threshold":
        x = blurred(np.where(x > _FIRST, x, 0), radius, sigma)
        return x > _SECOND * x.max()
    x = blurred(x, radius, sigma)
    limit = otsu(x) if recipe == "otsu" else float(np.percentile(x, _PERCENTILE))
    return x > limit


def blurred(x: np.ndarray, radius: int, sigma: float) -> np.ndarray:
    """Blur with a Gaussian kernel of ``2 radius + 1`` pixels; the edge is mirrored."""
    at = np.arange(-radius, radius + 1)
    kernel = np.exp(-0.5 * (at / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        size = x.shape[axis]
        padded = np.take(x, mirrored(np.arange(-radius, size + radius), size), axis=axis)
        x = sum(w * np.take(padded, np.arange(k, k + size), axis=axis) for k, w in enumerate(kernel))  # type: ignore[assignment]
    return x


def mirrored(at: np.ndarray, size: int) -> np.ndarray:
    """Places outside 0 to `size` - 1, reflected about the first and last one."""
    if size == 1:
        return np.zeros_like(at)
    period = 2 * (size - 1)
    at = np.abs(at) % period
    return np.where(at >= size, period - at, at)


def otsu(x: np.ndarray, bins: int = 256) -> float:
    """The threshold between two groups of values that lie farthest apart, by Otsu 1979.

    The upper edge of the bin after which the variance between the groups is largest.
    """
    counts, edges = np.histogram(x, bins=bins)
    middle = (edges[1:] + edges[:-1]) / 2
    below, total = np.cumsum(counts), counts.sum()
    sums = np.cumsum(counts * middle)
    with np.errstate(invalid="ignore", divide="ignore"):
        between = (sums[-1] * below - sums * total) ** 2 / (below * (total - below))
    return float(edges[1:][int(np.nanargmax(np.where(np.isfinite(between), between, -1)))])


def iou(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union; 0 where both are empty."""
    union = int((one | other).sum())
    return float((one & other).sum()) / union if union else 0.0


def measured(soft_: np.ndarray, mask: np.ndarray, true: np.ndarray) -> tuple[float, float, float, float]:
    """Overlap, overlap by chance, share of relevance inside, share of the picture that the true mask takes."""
    area, own = float(true.mean()), float(mask.mean())
    both = area * own
    chance = both / (area + own - both) if area + own > 0 else 0.0
    total = float(soft_.sum(dtype=np.float64))
    inside = float(soft_[true].sum(dtype=np.float64)) / total if total else float("nan")
    return iou(mask, true), chance, inside, area


def sized(mask: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray:
    """A mask at the size of the maps; empty for none."""
    if mask is None:
        return np.zeros(shape, bool)
    if mask.shape == shape:
        return np.asarray(mask, bool)
    rows = (np.arange(shape[0]) + 0.5) * mask.shape[0] / shape[0]
    columns = (np.arange(shape[1]) + 0.5) * mask.shape[1] / shape[1]
    return np.asarray(mask, bool)[np.ix_(rows.astype(int), columns.astype(int))]
