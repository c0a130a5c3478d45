"""Shifts: an activation moves within the span of some directions until its projections on them are given numbers.

With directions V (direction, unit) and numbers c, the change is ``a' = a - V+ (V a - c)`` with the pseudo-inverse V+:
the rest of the activation stays as it is. For c = V mu it is ``a - P (a - mu)``, P being the projector on the span. It
may happen for some samples only: those that a linear detector finds, or whose uncorrected prediction is in a set.

Directions that are nearly the same count once: with each of length 1, singular values of V below `CUTOFF` times the
largest are left out, for what tells such directions apart is the error of their estimates. Two count once below 3.4
degrees (cosine above 0.998); what is left of either is then at most 3 % of what an activation has across both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.core import check
from workbench.core.errors import BadValueError, ModelError, ShapeError
from workbench.core.results import Edit
from workbench.models.layers import Layer

__all__ = ["CUTOFF", "PLACES", "Shift", "check_shift", "pooled_by", "span_of"]

PLACES = ("position", "sample")
"""Every position by itself, or all positions of a sample alike, by what its pooled activation needs."""

CUTOFF = 0.03
"""Singular values below this share of the largest are left out, for shifts and for what is said of their directions."""

_OPTIONS = {"at", "pooling", "tokens", "artifact", "classes", "softness"}


def pooled_by(pooling: str, maps: Tensor) -> Tensor:
    """(sample, unit): largest value over positions, their mean, or the first; `maps` is (sample, unit, position)."""
    return maps.amax(2) if pooling == "max" else maps.mean(2) if pooling == "mean" else maps[:, :, 0]


def span_of(vectors: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The span of directions, without what is too small to count.

    Parameters
    ----------
    vectors : (direction, unit) tensor
        Of length 1.

    Returns
    -------
    left : (direction, axis) tensor
    sizes : (axis,) tensor
        Singular values, falling.
    axes : (axis, unit) tensor
        Orthonormal; ``left * sizes @ axes`` gives the directions, but for what was left out.
    """
    left, sizes, axes = torch.linalg.svd(vectors, full_matrices=False)
    kept = sizes > CUTOFF * sizes[0]
    return left[:, kept], sizes[kept], axes[kept]


def check_shift(edit: Edit, layer: Layer) -> None:
    """Refuse a shift whose arrays or options do not fit the layer.

    Raises
    ------
    ShapeError, BadValueError
    """
    shape = () if edit.array is None else tuple(np.shape(edit.array))
    if len(shape) != 2 or shape[1] != layer.n_components or shape[0] == 0:
        raise ShapeError(f'"shift" at "{edit.where}" needs directions of {layer.n_components}; got {shape}.')
    options = edit.options
    if unknown := sorted(set(options) - _OPTIONS):
        raise BadValueError(f'"shift" has no option "{unknown[0]}".', hint=f"There are {', '.join(sorted(_OPTIONS))}.")
    check.one_of("at", options.get("at", "position"), PLACES)
    check.one_of("pooling", options.get("pooling", "max"), ("max", "mean", "token"))
    check.one_of("tokens", options.get("tokens", "all"), ("all", "first"))
    check.between("softness", options.get("softness", 0.0), 0, 1e12)
    artifact = list(options.get("artifact", [0] * shape[0]))
    n = len(set(artifact))
    if len(artifact) != shape[0] or set(artifact) != set(range(n)):
        raise ShapeError(
            f"`artifact` must number the artifact of each of {shape[0]} directions from 0; got {artifact}."
        )
    k = shape[0]
    for name, wanted in (("codes", (k,)), ("detector", (n, layer.n_components)), ("threshold", (n,))):
        allowed = [wanted, (n + 1, k)] if name == "codes" else [wanted]
        if name in edit.arrays and tuple(np.shape(edit.arrays[name])) not in allowed:
            raise ShapeError(
                f'"{name}" of a shift must have the shape {" or ".join(map(str, allowed))}; got '
                f"{np.shape(edit.arrays[name])}."
            )
    if ("detector" in edit.arrays) != ("threshold" in edit.arrays):
        raise BadValueError("A detector needs a threshold, and a threshold a detector.")
    classes = options.get("classes")
    if classes is not None and len(classes) != n:
        raise ShapeError(f"`classes` must hold a list or None for each of {n} artifacts; got {len(classes)}.")
    for array in (edit.array, *edit.arrays.values()):
        if not np.isfinite(np.asarray(array)).all():
            raise BadValueError(f'An array of the shift at "{edit.where}" holds NaN or infinity.')
    if not (np.linalg.norm(np.asarray(edit.array, np.float64), axis=1) > 0).all():
        raise BadValueError(f'A direction of the shift at "{edit.where}" has length zero.')


class Shift:
    """A shift, as a function of a layer's output.

    Gates are decided on detached activations and never by gradients: explanations see the activation as it was moved.
    With a softness above 0 the share of the change is ``sigmoid((w a - threshold) / softness)``, and several artifacts
    act one after the other; else those that are active act together.

    Attributes
    ----------
    reads_output : bool
        Whether it must be told the uncorrected prediction, by `decide`, before each pass.
    n_artifacts : int
    """

    def __init__(self, edit: Edit, layer: Layer):
        self._layer, options = layer, edit.options
        self._vectors = torch.as_tensor(np.asarray(edit.array)).double()
        k = len(self._vectors)
        self._codes = torch.as_tensor(np.asarray(edit.arrays.get("codes", np.zeros(k)))).double()
        self._artifact = torch.as_tensor(list(options.get("artifact", [0] * k)))
        self.n_artifacts = int(self._artifact.max()) + 1
        self._at, self._pooling = options.get("at", "position"), options.get("pooling", "max")
        self._first_only = options.get("tokens", "all") == "first" and layer.axis == -1
        self._softness = float(options.get("softness", 0.0))
        self._detector = None
        if "detector" in edit.arrays:
            self._detector = [torch.as_tensor(np.asarray(edit.arrays[n])).double() for n in ("detector", "threshold")]
        self._classes: Sequence[Sequence[int] | None] = options.get("classes") or [None] * self.n_artifacts
        self.reads_output = any(one is not None for one in self._classes)
        self._allowed: Tensor | None = None
        self._spans: dict[Any, tuple[Tensor, Tensor]] = {}

    def decide(self, output: Tensor | None) -> None:
        """Tell the uncorrected output, (sample, class_), of the batch that comes next; None forgets it."""
        if output is None or not self.reads_output:
            self._allowed = None
            return
        said = output.argmax(1)
        columns = [
            torch.ones_like(said, dtype=torch.bool) if own is None else torch.isin(said, said.new_tensor(list(own)))
            for own in self._classes
        ]
        self._allowed = torch.stack(columns, 1)

    def active(self, x: Tensor) -> Tensor:
        """(sample, artifact): where it acts, as truth values, or as shares if gates are soft."""
        maps = self._layer.components_first(x.detach())
        found = torch.ones(len(x), self.n_artifacts, dtype=torch.bool, device=x.device)
        if self.reads_output:
            if self._allowed is None or len(self._allowed) != len(x):
                raise ModelError("A shift that depends on the prediction runs with its model, not alone.")
            found = self._allowed.to(x.device)
        if self._detector is not None:
            weights, threshold = (t.to(x) for t in self._detector)
            margin = pooled_by(self._pooling, maps) @ weights.T - threshold
            if self._softness:
                return found.to(x.dtype) * (margin / self._softness).sigmoid()
            found = found & (margin > 0)
        return found

    def __call__(self, x: Tensor) -> Tensor:
        """The output, moved."""
        if not self.reads_output and self._detector is None:
            return x - self._excess(x, tuple(range(self.n_artifacts)))
        active = self.active(x)
        shape = (-1, *[1] * (x.ndim - 1))
        if active.dtype != torch.bool:
            for j in range(self.n_artifacts):
                x = x - active[:, j].reshape(shape) * self._excess(x, (j,))
            return x
        patterns, which = torch.unique(active, dim=0, return_inverse=True)
        out = x
        for i, pattern in enumerate(patterns.tolist()):
            if any(pattern):
                mine = tuple(j for j, is_on in enumerate(pattern) if is_on)
                # Rows that are left alone keep every bit, and the others are those of a shift without a condition.
                out = torch.where((which == i).reshape(shape), x - self._excess(x, mine), out)
        return out

    def _excess(self, x: Tensor, artifacts: tuple[int, ...]) -> Tensor:
        """What is taken away, shaped as the output. It is subtracted, for sums share relevance as residual sums do."""
        axes, codes = self._span(artifacts, x)
        maps = self._layer.components_first(x)
        if self._at == "sample":
            # Products row by row, so that a sample's bits do not depend on who is in the batch with it.
            over = (pooled_by(self._pooling, maps).unsqueeze(1) * axes).sum(2) - codes
            excess = (over.unsqueeze(2) * axes).sum(1).unsqueeze(2).expand_as(maps)
        else:
            over = torch.einsum("rc,ncp->nrp", axes, maps) - codes[:, None]
            excess = torch.einsum("rc,nrp->ncp", axes, over)
        if self._first_only:
            excess = excess * (torch.arange(maps.shape[2], device=x.device) == 0)
        if x.ndim == 2:
            return excess[..., 0]
        return excess.reshape(x.movedim(self._layer.axis, 1).shape).movedim(1, self._layer.axis)

    def _span(self, artifacts: tuple[int, ...], like: Tensor) -> tuple[Tensor, Tensor]:
        """An orthonormal basis (axis, unit) of the directions of some artifacts, and the codes along it.

        Nearly parallel directions count once, see `CUTOFF`.
        """
        key = (artifacts, like.device, like.dtype)
        if key not in self._spans:
            mine = torch.isin(self._artifact, torch.tensor(artifacts))
            lengths = self._vectors[mine].norm(dim=1)
            row = artifacts[0] if len(artifacts) == 1 else self.n_artifacts
            codes = (self._codes if self._codes.ndim == 1 else self._codes[row])[mine]
            axes, along = self._vectors[mine] / lengths[:, None], codes / lengths
            if len(axes) > 1:  # a single one stays exactly as it is, with its sign
                left, sizes, axes = span_of(axes)
                along = (left.T @ along) / sizes
            self._spans[key] = (axes.to(like), along.to(like))
        return self._spans[key]
