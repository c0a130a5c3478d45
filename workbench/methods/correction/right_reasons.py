"""Right for the right reasons: explanations in the input are penalised where a mask says that there is an artifact."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.core import check
from workbench.core.errors import BadValueError, ModelError, ShapeError
from workbench.methods.base import Source, register_method
from workbench.methods.correction.base import TrainedCorrection
from workbench.methods.correction.decomposition import decompose
from workbench.methods.correction.training import Batch, Objective
from workbench.methods.directions.sets import sample_ids
from workbench.methods.reveal.masks import ArtifactMasks

if TYPE_CHECKING:
    from workbench.core.context import Context
    from workbench.methods.correction.trainee import Trainee

__all__ = ["CDEP", "RRR", "Contributions", "InputGradient", "Masks", "masks_of"]

SCORES = ("predicted", "label", "log-probability", "loss")

_EPS = 1e-8


class Masks:
    """Soft masks of the samples that have one, on the model's view.

    Parameters
    ----------
    ctx : Context
    given : str, mapping or ArtifactMasks
        The name of a mask of the data; or ids to (y, x) arrays of values at least 0, each divided by its maximum; or
        fitted masks. A list of such is summed: earlier artifacts stay penalised.
    """

    def __init__(self, ctx: Context, given: Any):
        self._ctx, self._given = ctx, _listed(given)
        self._kept: dict[int, Tensor | None] = {}

    def of(self, ids: np.ndarray, like: Tensor) -> Tensor:
        """(sample, y, x); zero for samples without."""
        size = tuple(like.shape[-2:])
        found = torch.zeros(len(ids), *size)
        for row, i in enumerate(ids.tolist()):
            one = self.one(i)
            if one is None:
                continue
            if tuple(one.shape) != size:
                raise ShapeError(f"The mask of sample {i} is {tuple(one.shape)}; the input is {size}.")
            found[row] = one
        return found.to(like)

    def one(self, i: int) -> Tensor | None:
        """The soft mask of a sample, (y, x); None where it has none."""
        if i not in self._kept:
            total: Any = None
            for given in self._given:
                if isinstance(given, str):
                    mask = self._ctx.data.masks(i).get(given)
                else:
                    mask = given.get(i)
                if mask is None:
                    continue
                soft = torch.as_tensor(np.asarray(mask)).float()
                if bool((soft < 0).any()) or not bool(torch.isfinite(soft).all()):
                    raise BadValueError(f"The mask of sample {i} holds negative values or none that are numbers.")
                if float(soft.max()) > 0:
                    total = soft / soft.max() + (0 if total is None else total)
            self._kept[i] = total
        return self._kept[i]


def masks_of(ctx: Context, given: Any, who: str) -> Masks:
    """Masks as a method was given them.

    Raises
    ------
    BadValueError
        If no sample has one, or they are not fitted yet.
    """
    listed = _listed(given)
    if not listed or any(not isinstance(one, (str, Mapping)) for one in listed):
        raise BadValueError(
            f"{who} needs masks: the name of a mask of the data, a mapping of sample ids to arrays, or fitted "
            f"ArtifactMasks; got {type(given).__name__}.",
            hint='For example masks="artifact".',
        )
    made = Masks(ctx, given)
    named = [one for one in listed if isinstance(one, str)]
    ids = {int(i) for one in listed if isinstance(one, Mapping) for i in one}
    sample_ids(ctx.data, np.array(sorted(ids), np.int64), "masks")
    if named:
        ids |= set(range(len(ctx.data)))
    if not any(made.one(i) is not None for i in sorted(ids)):
        raise BadValueError(f"{who}: no sample has a mask that is not empty.", hint="Look at s.data.masks(i).")
    return made


def mask_facts(ctx: Context, given: Any) -> list[Any]:
    """What a recipe says of masks."""
    facts: list[Any] = []
    for one in _listed(given):
        if not isinstance(one, Mapping):
            facts.append(str(one))
            continue
        digest = hashlib.blake2b(digest_size=8)
        for i in sorted(one):
            digest.update(f"{i}".encode() + np.ascontiguousarray(np.asarray(one[i], np.float32)).tobytes())
        facts.append([len(one), digest.hexdigest()])
    return facts


def _listed(given: Any) -> list[Any]:
    """Names and mappings: fitted masks as what they map."""
    listed = given if isinstance(given, (list, tuple)) else [given]
    return [one.to_mapping() if isinstance(one, ArtifactMasks) else one for one in listed]


class _Masked(TrainedCorrection):
    """What RRR and CDEP share."""

    layer: str | None
    masks: Any
    strength: float

    def recipe_params(self, ctx: Context) -> dict[str, Any]:
        self._check()
        return super().recipe_params(ctx) | {"masks": mask_facts(ctx, self.masks)}

    def _check(self) -> None:
        check.between("strength", self.strength, 0, 1e12)
        if self.layer is not None and not isinstance(self.layer, str):
            raise BadValueError(f"`layer` must be the name of a layer, or None; got {self.layer!r}.")
        self._options()

    def _title(self) -> str:
        return f"{type(self).__name__}, strength {self.strength:g}"


@register_method(
    "rrr",
    source=Source("Ross et al. 2017 (Right for the right reasons), eq. 1; Pahde et al. 2023 (Reveal to Revise), eq. 5"),
    needs=("activations",),
)
class RRR(_Masked):
    """Fine-tune so that the gradient by the input does not lie where a mask says that there is an artifact.

    **What it answers.** What the model learns if the masked pixels may not matter, to first order.

    **When not to trust it.** It optimises relevance in the input, which therefore falls first; whether the reliance
    falls shows in attacked accuracy. Artifacts without a place (tints) have no useful mask. Where only the last layer
    moves, it can merely weigh features anew.

    **Cost.** A second backward pass through the whole network: 1.1 to 13 times a plain epoch (Dreyer et al. 2024,
    table of epoch times).

    Parameters
    ----------
    masks : str, mapping, ArtifactMasks, or list of such
        The name of a mask of the data (``"artifact"``), or sample ids to (y, x) arrays on the model's view. Of fitted
        `ArtifactMasks` the masks of their recipe are taken; for the soft maps give ``dict(zip(m.index_, m.soft_))``.
    layer : str, optional
        Weights above it are trained. Default: those of the last layer.
    strength : float, at least 0
    score : {"predicted", "label", "log-probability", "loss"}
        Whose gradient is taken: the largest output, that of the label, the mean of log(p + 1e-5), or the task's loss.
    norm : {"cosine", "squared"}
        Cosine between the absolute gradient, summed over channels, and the soft mask; or the sum of squared gradients
        where the mask is above a tenth of its maximum. The first has no unit.
    trains, samples, attacked
        As for `AClArC`.
    epochs, rate, batch, optimiser, loss, validation, patience, seed
        See `workbench.methods.correction.training.Options`.

    Attributes
    ----------
    edits_ : Edits
    curve_ : TrainingCurve
    """

    def __init__(
        self, masks: Any, layer: str | None = None, *, strength: float = 50.0, score: str = "predicted",
        norm: str = "cosine", trains: str = "above", samples: Any = None, attacked: Any = None, epochs: int = 10,
        rate: float | None = None, batch: int = 64, optimiser: str = "auto", loss: str = "auto",
        validation: float = 0.1, patience: int | None = None, seed: int = 0,
    ):  # fmt: skip
        self.masks, self.layer, self.strength, self.score, self.norm = masks, layer, strength, score, norm
        self.trains, self.samples, self.attacked = trains, samples, attacked
        self.epochs, self.rate, self.batch, self.optimiser = epochs, rate, batch, optimiser
        self.loss, self.validation, self.patience, self.seed = loss, validation, patience, seed

    def fit(self, ctx: Context) -> RRR:
        """Train."""
        self._check()
        masks = masks_of(ctx, self.masks, "RRR")
        self._train(ctx, self.layer, InputGradient(masks, float(self.strength), score=self.score, norm=self.norm))
        return self

    def _check(self) -> None:
        super()._check()
        check.one_of("score", self.score, SCORES)
        check.one_of("norm", self.norm, ("cosine", "squared"))


class InputGradient(Objective):
    """The task, and a penalty of input gradients under a mask."""

    needs_input = True
    is_smooth = False

    def __init__(self, masks: Masks, strength: float, *, score: str, norm: str):
        self.masks, self.strength, self.score, self.norm = masks, strength, score, norm

    def losses(
        self, trainee: Trainee, batch: Batch, task: Callable[[Tensor, Tensor], Tensor], generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        mask = self.masks.of(batch.ids, batch.value)
        if not bool(mask.any()):  # nothing is penalised, and the loss is that of the task to the last bit
            return task(trainee.whole(batch.value), batch.target), torch.zeros((), device=mask.device)
        x = batch.value.detach().requires_grad_()
        z = trainee.whole(x)
        loss = task(z, batch.target)
        score = self._score(z, batch.target) if self.score != "loss" else loss * len(x)
        (gradient,) = torch.autograd.grad(score, x, create_graph=True)
        if self.norm == "squared":
            inside = (mask > 0.1 * mask.amax((1, 2), keepdim=True)).unsqueeze(1)
            return loss, (gradient.square() * inside).sum((1, 2, 3)).mean()
        heat = gradient.sum(1).abs().flatten(1)
        return loss, F.cosine_similarity(heat, mask.flatten(1), dim=1, eps=_EPS).mean()

    def _score(self, z: Tensor, target: Tensor) -> Tensor:
        if self.score == "log-probability":
            p = z.softmax(1) if z.shape[1] > 1 else torch.cat([z.sigmoid(), 1 - z.sigmoid()], 1)
            return (p + 1e-5).log().mean(1).sum()
        if z.shape[1] == 1:
            return z.sum()
        index = z.argmax(1) if self.score == "predicted" else target.long()
        return z.gather(1, index[:, None]).sum()


@register_method(
    "cdep",
    source=Source(
        "Rieger et al. 2020 (CDEP), section 3; Murdoch et al. 2018 and Singh et al. 2019 for the decomposition"
    ),
    needs=("activations",),
)
class CDEP(_Masked):
    """Fine-tune so that masked pixels contribute little to the output, by contextual decomposition.

    **What it answers.** As RRR, with contributions in place of gradients.

    **When not to trust it.** It is defined for convolutions, dense layers, ReLU, batch norms, sums, and mean and max
    pooling; other nets are refused with the reason. As with any mask, artifacts without a place are out of reach. The
    penalty has a sign: contributions that speak against every class satisfy it as small ones do, so that sensitivity
    and relevance may rise while attacked accuracy does.

    **Cost.** Two samples for one in each forward pass. Parts below the layer are computed once.

    Parameters
    ----------
    masks
        As for `RRR`; a pixel counts where the mask is above a tenth of its maximum.
    layer : str, optional
        Weights above it are trained, and what lies below is decomposed once. Default: those of the last layer.
    strength : float, at least 0
    dilation : int, at least 0, optional
        Pixels by which the mask is widened to each side. Default: 10 of 224.
    trains, samples, attacked
        As for `AClArC`.
    epochs, rate, batch, optimiser, loss, validation, patience, seed
        See `workbench.methods.correction.training.Options`.

    Attributes
    ----------
    edits_ : Edits
    curve_ : TrainingCurve
    """

    def __init__(
        self, masks: Any, layer: str | None = None, *, strength: float = 50.0, dilation: int | None = None,
        trains: str = "above", samples: Any = None, attacked: Any = None, epochs: int = 10, rate: float | None = None,
        batch: int = 64, optimiser: str = "auto", loss: str = "auto", validation: float = 0.1,
        patience: int | None = None, seed: int = 0,
    ):  # fmt: skip
        self.masks, self.layer, self.strength, self.dilation = masks, layer, strength, dilation
        self.trains, self.samples, self.attacked = trains, samples, attacked
        self.epochs, self.rate, self.batch, self.optimiser = epochs, rate, batch, optimiser
        self.loss, self.validation, self.patience, self.seed = loss, validation, patience, seed

    def fit(self, ctx: Context) -> CDEP:
        """Train."""
        self._check()
        masks = masks_of(ctx, self.masks, "CDEP")
        self._train(ctx, self.layer, Contributions(ctx, masks, float(self.strength), self.dilation))
        return self

    def _check(self) -> None:
        super()._check()
        is_whole = isinstance(self.dilation, int) and not isinstance(self.dilation, bool)
        if self.dilation is not None and not (is_whole and self.dilation >= 0):
            raise BadValueError(f"`dilation` must be a whole number of at least 0; got {self.dilation!r}.")


class Contributions(Objective):
    """The task, and a penalty of what masked pixels contribute to the outputs."""

    is_smooth = False

    def __init__(self, ctx: Context, masks: Masks, strength: float, dilation: int | None):
        self.masks, self.strength, self.dilation, self._ctx = masks, strength, dilation, ctx
        self._pairs: dict[int, Tensor] = {}
        self._is_known = False

    def losses(
        self, trainee: Trainee, batch: Batch, task: Callable[[Tensor, Tensor], Tensor], generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        loss = task(trainee.forward(batch.value), batch.target)
        rows = [i for i in batch.ids.tolist() if self.masks.one(i) is not None]
        if not rows:
            return loss, torch.zeros((), device=loss.device)
        beta, gamma = self._outputs(trainee, rows)
        return loss, torch.stack([beta, gamma]).softmax(0)[0].mean(1).mean()

    def _outputs(self, trainee: Trainee, rows: list[int]) -> tuple[Tensor, Tensor]:
        """Parts of the logits of some samples, masked pixels and the rest; below the layer they are kept."""
        lacking = [i for i in rows if i not in self._pairs]
        if lacking:
            x = torch.stack([self._ctx.data.tensor(i) for i in lacking]).to(trainee.handle.device, trainee.handle.dtype)
            mask = self.masks.of(np.array(lacking), x)
            inside = (mask > 0.1 * mask.amax((1, 2), keepdim=True)).unsqueeze(1).to(x)
            wide = round(min(x.shape[-2:]) * 10 / 224) if self.dilation is None else self.dilation
            if wide:
                inside = F.max_pool2d(inside, 2 * wide + 1, 1, wide)
            pair = torch.stack([x * inside, x * (1 - inside)], 1)  # (sample, part, channel, y, x)
            if not self._is_known:
                self._check(trainee, x)
            if trainee.is_cut:
                with torch.no_grad(), decompose(trainee.module):
                    below = trainee.lower(torch.cat([pair[:, 0], pair[:, 1]]))
                pair = torch.stack(below.chunk(2), 1)
            self._pairs |= {i: one.cpu() for i, one in zip(lacking, pair, strict=True)}
        pair = torch.stack([self._pairs[i] for i in rows]).to(trainee.handle.device)
        with decompose(trainee.module):
            z = trainee.forward(torch.cat([pair[:, 0], pair[:, 1]]))
        beta, gamma = z.chunk(2)
        return beta, gamma

    def _check(self, trainee: Trainee, x: Tensor) -> None:
        """Both parts add up to what the network says, or this network cannot be decomposed so."""
        noise = torch.rand((len(x), 1, *x.shape[2:]), generator=torch.Generator().manual_seed(0))
        inside = (noise > 0.5).to(x)  # any mask would do, and one that is mixed everywhere hides nothing
        with torch.no_grad():
            expected = trainee.whole(x)
            with decompose(trainee.module):
                beta, gamma = trainee.whole(torch.cat([x * inside, x * (1 - inside)])).chunk(2)
        error = float((beta + gamma - expected).abs().max())
        if not error <= 1e-3 * float(expected.abs().max() + 1e-6):
            raise ModelError(
                f"The parts of {trainee.handle.card.name} do not add up to its output: it uses functions between "
                "modules for which contextual decomposition is not defined.",
                hint="Write them as modules (nn.ReLU), or use RRR or RRClArC.",
            )
        self._is_known = True
