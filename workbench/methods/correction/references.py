"""Where a correction leads to: one reference for all directions that act together, and what is said of these."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench.core.errors import BadValueError
from workbench.core.results import Direction
from workbench.methods.directions.estimators import combine, pattern_weights
from workbench.methods.directions.sets import sample_ids
from workbench.models.shifts import span_of

if TYPE_CHECKING:
    from workbench.core.context import Context

__all__ = ["clean_means", "codes_of", "mean_with_all", "notes_of"]

_ALIKE = 0.95  # cosine from which on two directions are named in a warning


def clean_means(ctx: Context, directions: Sequence[Direction], pooling: str) -> np.ndarray:
    """(direction, unit) mean of the samples without any of the artifacts, as each direction compares them.

    Of a direction's samples without its concept those are left out that show the concept of another, as far as that
    direction was found with them. Within classes,
    the mean is of the classes that the direction was found in, with their weights: one of other classes would move
    activations along what tells the classes apart.

    Raises
    ------
    BadValueError
        If no such sample is left for a direction.
    """
    rows = _Rows(ctx, directions, pooling)
    return combine(rows.x, rows.clean())


def mean_with_all(ctx: Context, directions: Sequence[Direction], pooling: str) -> np.ndarray:
    """(unit,) what activations are on average where all artifacts are there at once.

    Few samples show all of them, if any: it is the mean of `clean_means` plus the effects of all artifacts, which add
    up in ``a = mean of the class + sum_j t_j h_j`` by least squares. The artifact of several directions that
    were found with the same samples counts once.
    """
    rows = _Rows(ctx, directions, pooling)
    weights = rows.clean().mean(0) + rows.effects()
    return combine(rows.x, weights[None])[0]


def codes_of(
    ctx: Context, directions: Sequence[Direction], at: str, tokens: str, reference: Any,
    *, artifacts: Sequence[int] | None = None,
) -> np.ndarray:  # fmt: skip
    """(direction,) the projections that activations are moved to, those of one vector mu.

    A mean of pooled activations and one over positions are different things: each form gets its own.

    Parameters
    ----------
    reference : {"clean", "zero", "artifact"} or samples
        mu: the mean over directions of `clean_means`; zero; `mean_with_all`; or the mean of the given samples.
    artifacts : (direction,) int, optional
        The artifact of each direction, where now one acts and now another. Of the clean reference (artifact + 1,
        direction) is given then: with one artifact alone mu is what it would be without the others, and in the last row
        it is that of all together.
    """
    if isinstance(reference, str) and reference == "zero":
        return np.zeros(len(directions), np.float32)
    own = directions[0].pooling
    layer = ctx.model.layers[directions[0].layer]
    is_vector = not layer.position_shape
    pooling = own if at == "sample" or is_vector or (tokens == "first" and own == "token") else "mean"
    if not isinstance(reference, str):
        ids = sample_ids(ctx.data, reference, "reference")
        if len(ids) == 0:
            raise BadValueError("The reference names no sample.", hint='Use reference="clean" or "zero".')
        mean = ctx.pooled(layer.name, ids, pooling=pooling)[1].mean(0, dtype=np.float64)
    elif reference == "artifact":
        mean = mean_with_all(ctx, directions, pooling)
    else:
        mean = clean_means(ctx, directions, pooling).mean(0)
        if artifacts is not None and len(set(artifacts)) > 1:
            groups = [
                [d for d, j in zip(directions, artifacts, strict=True) if j == own] for own in sorted(set(artifacts))
            ]
            mean = np.stack([*(clean_means(ctx, group, pooling).mean(0) for group in groups), mean])
    vectors = np.stack([d.vector for d in directions]).astype(np.float64)
    return (mean @ vectors.T).astype(np.float32)


def notes_of(directions: Sequence[Direction], *, projects: bool = True) -> list[str]:
    """Warnings of the directions, and which of them are nearly the same.

    Parameters
    ----------
    projects : bool
        Whether they span what is projected out, where the same direction twice counts once.
    """
    notes = [f"{d.concept}: {text}" for d in directions for text in d.warnings]
    unit = np.stack([d.vector for d in directions]).astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    for j, one in enumerate(directions):
        for i, other in enumerate(directions[:j]):
            cosine = float(unit[i] @ unit[j])
            if abs(cosine) > _ALIKE:
                notes.append(
                    f'Directions {i} ("{other.concept}") and {j} ("{one.concept}") are nearly parallel (cosine '
                    f"{cosine:.4f}): what tells them apart may be the error of their estimates. One of them may do."
                )
    rank = len(span_of(torch.as_tensor(unit))[1])
    if projects and rank < len(unit):
        notes.append(f"{len(unit)} directions span only {rank}: some are nearly parallel and count once.")
    return notes


class _Rows:
    """Pooled activations of all samples that some directions were found in, and which show what."""

    def __init__(self, ctx: Context, directions: Sequence[Direction], pooling: str):
        self._directions = directions
        wanted = np.unique(np.concatenate([d.samples for d in directions]))
        self.ids, self.x = ctx.pooled(directions[0].layer, wanted, pooling=pooling)
        self.shows = np.stack([np.isin(self.ids, d.samples[d.is_positive]) for d in directions])
        self.class_ = np.full(len(self.ids), -1, np.int64)
        for d in directions:
            _, here, there = np.intersect1d(self.ids, d.samples, return_indices=True)
            self.class_[here] = d.class_[there]

    def clean(self) -> np.ndarray:
        """(direction, sample) weights of means without any artifact; each row sums to 1."""
        found = np.zeros(self.shows.shape)
        for i, d in enumerate(self._directions):
            at = np.flatnonzero(np.isin(self.ids, d.samples))
            strata = self.class_[at] if d.scope == "within-class" else np.zeros(len(at), np.int64)
            weights = np.maximum(-pattern_weights(self.shows[i, at], strata), 0)
            if len(self._directions) > 1:
                weights = self._without(weights, strata, np.asarray(self.shows[:, at].any(0)))
            if not weights.any():
                raise BadValueError(
                    f'All samples without "{d.concept}" show another of the artifacts, so that none is clean.',
                    hint="Name clean samples: reference=[...]; or add the edits of one correction for each.",
                )
            found[i, at] = weights / weights.sum()
        return found

    def effects(self) -> np.ndarray:
        """(sample,) weights that give the sum of the effects of all artifacts, within classes if any direction is."""
        within = any(d.scope != "all" for d in self._directions)
        _, group = np.unique(self.class_ if within else np.zeros_like(self.class_), return_inverse=True)
        t = self.shows.astype(np.float64)
        means = np.stack([np.bincount(group, row) / np.bincount(group) for row in t])
        return np.linalg.pinv((t - means[:, group]).T, rcond=1e-9).sum(0)

    @staticmethod
    def _without(weights: np.ndarray, strata: np.ndarray, shows: np.ndarray) -> np.ndarray:
        """The weights of each stratum on its samples that show nothing; strata without such drop out."""
        out = np.zeros_like(weights)
        for k in np.unique(strata):
            of = strata == k
            left = of & (weights > 0) & ~shows
            if left.any():
                out[left] = weights[of].sum() / left.sum()
        return out
