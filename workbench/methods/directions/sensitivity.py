"""Derivatives of outputs along directions of a layer, and what is concluded from their signs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from workbench.attribution.lrp import ruled_forward
from workbench.attribution.targets import Target
from workbench.core.origins import number_of, places

if TYPE_CHECKING:
    from workbench.models.handle import ModelHandle

__all__ = [
    "Slopes",
    "all_slopes",
    "band",
    "bootstrap_scores",
    "holm",
    "is_constant",
    "p_two_sided",
    "p_values",
    "slopes",
    "tcav_score",
]


@dataclass(frozen=True, eq=False)
class Slopes:
    """Derivatives of one output along directions, s(position) = sum over units of dz/da times the vector.

    Attributes
    ----------
    mean, absolute : (sample, direction) float64 array
        Mean and mean absolute value over positions.
    positive, negative : (sample, direction) int64 array
        Positions above and below zero.
    """

    mean: np.ndarray
    absolute: np.ndarray
    positive: np.ndarray
    negative: np.ndarray

    @classmethod
    def joined(cls, parts: list[Slopes]) -> Slopes:
        """Those of several batches as one."""
        return cls(*(np.concatenate([getattr(p, name) for p in parts]) for name in cls.__dataclass_fields__))


def slopes(handle: ModelHandle, x: Tensor, layer: str, vectors: Any, output: int) -> Slopes:
    """Derivatives of one output along directions, by one backward pass.

    Parameters
    ----------
    handle : ModelHandle
    x : (sample, ...) tensor
    layer : str
    vectors : (direction, unit) float array
    output : int
        Number of the output.
    """
    one = handle.layers.usable(layer)
    with ruled_forward(handle, handle.put(x), rule=None, layers=[layer]) as graph:
        start = Target.logit(output).start(graph.output, as_gradient=True)
        gradient = graph.pull(graph.output, start.seed, [layer], keep=False)[0].detach()
    # Sums of many small products: in double precision exact zeros stay zeros and signs are those of the sum.
    maps = one.components_first(gradient).double().cpu()
    s = torch.einsum("kc,ncp->nkp", torch.as_tensor(np.asarray(vectors), dtype=torch.float64), maps)
    return Slopes(s.mean(2).numpy(), s.abs().mean(2).numpy(), (s > 0).sum(2).numpy(), (s < 0).sum(2).numpy())


def all_slopes(handle: ModelHandle, x: Tensor, layer: str, vectors: Any) -> np.ndarray:
    """(sample, class_, direction) float64: mean derivative over positions of every output, by two backward passes.

    The gradient is linear in what it begins with, so its own derivative by that gives all outputs at once.
    """
    one = handle.layers.usable(layer)
    found = []
    with ruled_forward(handle, handle.put(x), rule=None, layers=[layer]) as graph:
        seed = torch.zeros_like(graph.output, requires_grad=True)
        (gradient,) = torch.autograd.grad(graph.output, graph.tensor(layer), seed, create_graph=True)
        maps = one.components_first(gradient)
        for vector in torch.as_tensor(np.asarray(vectors)).to(maps):
            total = torch.einsum("c,ncp->", vector, maps) / maps.shape[2]
            (part,) = torch.autograd.grad(total, seed, retain_graph=True)
            found.append(part.detach().double().cpu())
    return torch.stack(found, 2).numpy()


def tcav_score(mean: np.ndarray) -> np.ndarray:
    """(direction,) share of the samples whose output rises, among those where it changes; NaN where it never does.

    Parameters
    ----------
    mean : (sample, direction) float array
        Derivatives, mean over positions.

    Notes
    -----
    Kim et al. 2018 (TCAV), eq. 2, with exact zeros counted apart: so a turned direction has one minus the score, and a
    head of zeros has none.
    """
    up, down = (mean > 0).sum(0), (mean < 0).sum(0)
    return np.divide(up, up + down, out=np.full(mean.shape[1], np.nan), where=up + down > 0)


def bootstrap_scores(
    mean: np.ndarray, n: int, *, seed: int, origins: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(direction,) lower and upper end of the middle 95 % of scores of bootstrap samples of images; NaN if undefined.

    Images are drawn, not positions, for the positions of an image depend on one another; and all views of one original
    together, where `origins`, (sample,), says which these are.
    """
    k = mean.shape[1]
    place = places(origins, len(mean))
    n_origins = number_of(origins, len(mean))
    if n < 1 or n_origins < 2:
        return np.full(k, np.nan), np.full(k, np.nan)
    counts = np.random.default_rng(seed).multinomial(n_origins, np.full(n_origins, 1 / n_origins), size=n)
    signs = np.zeros((2, n_origins, k), np.int64)
    for sign, is_so in zip(signs, (mean > 0, mean < 0), strict=True):
        np.add.at(sign, place, is_so)
    up, down = counts @ signs[0], counts @ signs[1]
    scores = np.divide(up, up + down, out=np.full((n, k), np.nan), where=up + down > 0)
    low, high = np.full(k, np.nan), np.full(k, np.nan)
    for i in range(k):
        known = scores[~np.isnan(scores[:, i]), i]
        if len(known):
            low[i], high[i] = np.percentile(known, [2.5, 97.5])
    return low, high


def band(null: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(concept,) ends of the middle 95 % of what random directions give; NaN without any.

    Parameters
    ----------
    null : (concept, random) float array
        NaN leaves a random direction out.

    Notes
    -----
    Quantiles at ranks of ``n + 1`` (Weibull's), so that one more random direction lies outside with a chance of 5 % on
    average. Of fewer than 39 they are the smallest and the largest: then more lie outside.
    """
    ends = np.full((2, len(null)), np.nan)
    for i, row in enumerate(null):
        known = row[~np.isnan(row)]
        if len(known):
            ends[:, i] = np.percentile(known, [2.5, 97.5], method="weibull")
    return ends[0], ends[1]


def p_two_sided(value: np.ndarray, null: np.ndarray) -> np.ndarray:
    """(concept,) twice the share of random directions beyond a value, on the side with fewer, the tested one counted.

    Parameters
    ----------
    value : (concept,) float array
        NaN is undefined and stays so.
    null : (concept, random) float array
        Of the same quantity; NaN leaves a random direction out. Fewer than 39 cannot reach 0.05.

    Notes
    -----
    Nothing is presumed about the middle or the symmetry of the null: sizes are above zero, and of few samples with the
    concept against many the random slopes are skewed.
    """
    known = ~np.isnan(null)
    rounding = 1e-9 * np.maximum(np.nanmax(np.abs(null), axis=1, initial=0.0), np.abs(value))[:, None]
    above = (known & (np.nan_to_num(null) >= value[:, None] - rounding)).sum(1)
    below = (known & (np.nan_to_num(null) <= value[:, None] + rounding)).sum(1)
    p = np.minimum(1, 2 * (1 + np.minimum(above, below)) / (1 + known.sum(1)))
    return np.where(np.isnan(value) | (known.sum(1) == 0), np.nan, p)


def p_values(score: np.ndarray, null: np.ndarray) -> np.ndarray:
    """(concept,) share of random directions whose score is at least as far from one half, the tested one counted.

    Parameters
    ----------
    score : (concept,) float array
        NaN is undefined and stays so.
    null : (concept, random) float array
        NaN leaves a random direction out.
    """
    known = ~np.isnan(null)
    far = known & (np.abs(np.nan_to_num(null, nan=0.5) - 0.5) >= np.abs(score - 0.5)[:, None] - 1e-12)
    p = (1 + far.sum(1)) / (1 + known.sum(1))
    return np.where(np.isnan(score) | (known.sum(1) == 0), np.nan, p)


def holm(p: np.ndarray) -> np.ndarray:
    """Holm's correction for several tests: the chance of a single false one stays below the level. NaN is no test.

    Notes
    -----
    Holm 1979: the i-th smallest of m is multiplied by ``m - i + 1``, and none is smaller than those before it.
    """
    p = np.asarray(p, dtype=np.float64)
    found = np.full(p.shape, np.nan)
    tests = np.flatnonzero(~np.isnan(p))
    order = tests[np.argsort(p[tests], kind="stable")]
    scaled = p[order] * np.arange(len(order), 0, -1)
    found[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return found


def is_constant(mean: np.ndarray) -> bool:
    """Whether derivatives along some direction are the same for all samples: the model is linear from there on."""
    if len(mean) < 3:
        return False
    size = np.abs(mean).max(0)
    moves = size > 0
    return bool(moves.any() and (np.ptp(mean[:, moves], axis=0) <= 1e-5 * size[moves]).all())
