"""What a model does with and without an artifact: answers, relevance on it, sensitivity to it, probes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from workbench.attribution.base import Target
from workbench.attribution.crp import explain, heat
from workbench.attribution.rules import Composite, assign
from workbench.core import check
from workbench.core.errors import BadValueError, ModelError, ShapeError
from workbench.core.origins import number_of, places
from workbench.methods.correction.rr_clarc import response
from workbench.methods.directions.filters import quick_ridge
from workbench.methods.directions.separation import auc, folds
from workbench.models.hooks import record
from workbench.models.shifts import pooled_by

if TYPE_CHECKING:
    from workbench.core.progress import Progress
    from workbench.models.handle import ModelHandle

__all__ = [
    "answers",
    "artifact_relevance",
    "is_right",
    "masks_of",
    "probe_auc",
    "relevance_on_masks",
    "sensitivities",
    "without_rule",
]

_AT_ONCE = 32
_MOST_GAP = 0.5


def artifact_relevance(relevance: ArrayLike, mask: ArrayLike) -> np.ndarray:
    """Share of the absolute relevance that lies on the artifact.

    Parameters
    ----------
    relevance, mask : (sample, y, x) arrays
        The mask as truth values or numbers 0 to 1.

    Returns
    -------
    (sample,) float64 array
        0 to 1; for constant relevance the share of the picture that the mask takes.

    Notes
    -----
    Pahde et al. 2023 (Reveal to Revise), section 4.2: ``sum |R M| / (sum |R| + 1e-10)``.
    """
    r, m = np.abs(np.asarray(relevance, np.float64)), np.asarray(mask, np.float64)
    if r.shape != m.shape or r.ndim != 3:
        raise ShapeError(f"Relevance of the shape {r.shape} and masks of the shape {m.shape} must be (sample, y, x).")
    return (r * m).sum((1, 2)) / (r.sum((1, 2)) + 1e-10)


def is_right(logits: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """(sample,) bool: whether the largest output, or the sign of a single one, is that of the label."""
    said = logits.argmax(1) if logits.shape[1] > 1 else (logits[:, 0] > 0).astype(labels.dtype)
    return said == labels


def probe_auc(clean: np.ndarray, attacked: np.ndarray, *, seed: int = 0, origins: np.ndarray | None = None) -> float:
    """How well a linear probe tells attacked from clean samples, by held-out area under the curve.

    Parameters
    ----------
    clean, attacked : (sample, unit) float arrays
        Of the same samples, which are held out in pairs, in five parts.
    seed : int
    origins : (sample,) array, optional
        Original picture of each: views of one are held out together.

    Returns
    -------
    float
        0 to 1; 0.5 where nothing tells them apart. NaN for fewer than four originals.

    Notes
    -----
    A ridge regression on units divided by their standard deviation, as strong as one sample. It finds what can be read
    linearly and no more: 0.5 is no proof that nothing is there.
    """
    n, n_origins = len(clean), number_of(origins, len(clean))
    if n_origins < 4:
        return float("nan")
    x = np.concatenate([clean, attacked]).astype(np.float64)
    spread = x.std(0)
    size = np.abs(x).max(0)
    x = (x - x.mean(0)) / np.where(spread > 1e-7 * np.maximum(size, 1e-30), spread, np.inf)
    if not x.any():
        return 0.5
    t, none = np.repeat([False, True], n), np.zeros(2 * n, np.int64)
    own = folds(np.zeros(n, bool), np.zeros(n, np.int64), min(5, n_origins), seed=seed, origins=places(origins, n))
    part = np.tile(own, 2)
    score = np.full(2 * n, np.nan)
    for k in range(int(part.max()) + 1):
        train = part != k
        score[~train] = x[~train] @ quick_ridge(x[train], t[train], none[train], most=4000, seed=seed)
    # Differences that are rounding errors are none.
    score = np.round(score / max(float(np.abs(score).max()), 1e-30), 9)
    return auc(score, t, part)


def answers(
    handle: ModelHandle, data: Any, ids: np.ndarray, layer: str, pooling: str, progress: Progress
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits and pooled activations behind the edits of a layer; without a layer there are no activations.

    Returns
    -------
    read : (read,) int64 array
        Places in `ids`.
    logits : (read, class_) float32 array
    values : (read, unit) float32 array
    """
    read: list[int] = []
    logits: list[np.ndarray] = []
    values: list[np.ndarray] = []
    one = handle.layers.usable(layer) if layer else None

    def see(_: str, output: Tensor) -> None:
        assert one is not None
        values.append(pooled_by(pooling, one.components_first(output)).float().cpu().numpy())

    place = {int(i): k for k, i in enumerate(ids.tolist())}
    for first in range(0, len(ids), _AT_ONCE):
        part = ids[first : first + _AT_ONCE].tolist()
        x, known, _ = data.batch(part)
        if known:
            with torch.no_grad(), handle.edited(), record(handle.module, [layer] if layer else [], see):
                logits.append(handle.logits(handle.module(handle.put(x))).float().cpu().numpy())
            read += [place[i] for i in known]
        progress.step(len(part))
    if not read:
        raise BadValueError(f"None of the {len(ids)} samples can be read.")
    if logits[0].ndim != 2:
        raise ModelError("The model says more than one number per class, so there is no accuracy to compare.")
    return np.array(read), np.concatenate(logits), np.concatenate(values) if values else np.zeros((len(read), 0))


def sensitivities(
    handle: ModelHandle, x: Tensor, layer: str, vectors: np.ndarray, lengths: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """How the output of the label changes, to first order, if a concept appears everywhere at a layer.

    Parameters
    ----------
    handle : ModelHandle
    x : (sample, ...) tensor
    layer : str
    vectors : (direction, unit) array
    lengths : (direction,) array
    labels : (sample,) int array

    Returns
    -------
    before, after : (sample, direction) float64 arrays
        Before the layer's edits, where a projection leaves nothing, and behind them; signed, in output units.
    """
    one, seen = handle.layers.usable(layer), []
    change: Callable[[Tensor], Tensor] = handle.change_at(layer)

    def put(_: str, output: Tensor) -> Tensor:
        first = output.detach().requires_grad_()
        second = change(first)
        seen.extend([first, second])
        return second

    index = torch.as_tensor(np.asarray(labels))
    with torch.enable_grad(), handle.edited(besides=[layer]), record(handle.module, [layer], put):
        z = handle.logits(handle.module(handle.put(x)))
        score = (z.gather(1, index.to(z.device)[:, None]) if z.shape[1] > 1 else z).sum()
        gradients = torch.autograd.grad(score, seen, allow_unused=True)
    v, size = torch.as_tensor(np.asarray(vectors)).double(), torch.as_tensor(np.asarray(lengths)).double()
    found = [
        response((torch.zeros_like(t) if g is None else g).detach().double().cpu(), one, v, size).numpy()
        for g, t in zip(gradients, seen, strict=True)
    ]
    return found[0], found[1]


def relevance_on_masks(
    handle: ModelHandle, data: Any, ids: np.ndarray, labels: np.ndarray, masks: Any, rule: Any, progress: Progress
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Shares of relevance on masks and of the picture that these take, for samples that have one.

    Relevance begins at the output of the label. Where the rule does not know parts of the network (see `without_rule`)
    and half of the score or more is not accounted for, relevance may lie anywhere: all shares are NaN.

    Parameters
    ----------
    masks : str or mapping
        The name of a mask of the data, or ids to (y, x) arrays. See `masks_of`.

    Returns
    -------
    shares, areas : (explained,) float64 arrays
    rows : (explained,) int64 array
        Places in `ids`: samples without a mask, with an empty one, or that cannot be read are left out.
    """
    shares: list[np.ndarray] = []
    areas: list[np.ndarray] = []
    gaps: list[np.ndarray] = []
    rows: list[int] = []
    lacks_rules = bool(without_rule(handle, rule))
    for first in range(0, len(ids), 8):
        part = ids[first : first + 8].tolist()
        known = {i: m for i in part if (m := _mask(data, i, masks)) is not None and np.any(m)}
        x, read, _ = data.batch(list(known))
        if read:
            at = [int(np.searchsorted(ids, i)) for i in read]
            target = Target.label() if handle.n_classes > 1 else Target.logit(0)
            made = explain(handle, x, target, rule=rule, labels=torch.as_tensor(labels[at]))
            stacked = np.stack([np.asarray(known[i], np.float64) for i in read])
            shares.append(artifact_relevance(heat(made.relevance).detach().cpu().numpy(), stacked))
            areas.append(stacked.mean((1, 2)))
            gaps.append(made.gap.detach().abs().cpu().numpy())
            rows += at
        progress.step(len(part))
    if not shares:
        return np.zeros(0), np.zeros(0), np.zeros(0, np.int64)
    found = np.concatenate(shares)
    # Written so that a gap which is no number counts as a large one.
    if lacks_rules and not np.median(np.concatenate(gaps)) <= _MOST_GAP:
        found = np.full_like(found, np.nan)
    return found, np.concatenate(areas), np.array(rows, np.int64)


def masks_of(data: Any, ids: np.ndarray, given: Any) -> str | Mapping[int, Any]:
    """What masks were asked for, as `relevance_on_masks` takes it.

    Parameters
    ----------
    data : Dataset
        Whose masks a name means.
    ids : (sample,) int array
        Those that are explained.
    given : str, mapping or fitted ArtifactMasks
        A name of masks of the data; ids to (y, x) arrays, at the size of the input.

    Raises
    ------
    BadValueError
        If it is none of these, or none of the samples has a mask.
    UnknownNameError
        If none of the samples has masks of this name; names those that there are.
    ShapeError
        If a mask is not two-dimensional.
    """
    if isinstance(given, str):
        if not any(given in data.masks(i) for i in ids.tolist()):
            names = sorted({name for i in ids.tolist() for name in data.masks(i)})
            listed = f": {', '.join(names)}." if names else " none."
            check.known("mask", given, names, hint=f"The {len(ids)} samples that are explained have{listed}")
        return given
    index, stack = (getattr(given, name, None) for name in ("index_", "masks_"))
    found: Any = given
    if index is not None and stack is not None:
        found = dict(zip(np.asarray(index).tolist(), stack, strict=True))
    if not isinstance(found, Mapping):
        is_method = hasattr(given, "params")
        raise BadValueError(
            f"`masks` must be a name, ids to (y, x) arrays, or fitted ArtifactMasks; got {type(given).__name__}"
            + (", which is not fitted." if is_method else "."),
            hint="masks=s.fit(wb.methods.ArtifactMasks(cav, samples=...))" if is_method else 'masks="timestamp"',
        )
    for i, mask in found.items():
        if np.ndim(mask) != 2:
            raise ShapeError(f"The mask of sample {i} has the shape {np.shape(mask)}; it must be (y, x).")
    if not any(i in found for i in ids.tolist()):
        raise BadValueError(
            f"None of the {len(ids)} samples that are explained is among the {len(found)} masks.",
            hint="Masks go by the ids of the attacked samples: ArtifactMasks(cav, samples=ids).",
        )
    return {int(i): mask for i, mask in found.items()}


def without_rule(handle: ModelHandle, rule: Any) -> tuple[str, ...]:
    """Kinds of modules that a composite has no rule for; of the largest value in a window the gradient is the rule."""
    if not isinstance(rule, Composite):
        return ()
    rows = assign(handle.module, rule, calls=handle.calls).rows
    return tuple(sorted({row.type for row in rows if row.rule.kind == "gradient" and "MaxPool" not in row.type}))


def _mask(data: Any, i: int, masks: Any) -> Any:
    return masks.get(i) if isinstance(masks, Mapping) else data.masks(i).get(masks)
