"""Right reasons along a direction: outputs are trained not to change when an activation moves along it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from workbench.core import check
from workbench.core.corrections import CURVES, TrainingCurve
from workbench.core.errors import BadValueError, ModelError
from workbench.methods.base import Source, register_method
from workbench.methods.correction.base import TrainedCorrection, cav_facts, cavs_of, directions_of
from workbench.methods.correction.references import clean_means, notes_of
from workbench.methods.correction.trainee import Trainee
from workbench.methods.correction.training import Batch, Objective

if TYPE_CHECKING:
    from workbench.core.context import Context
    from workbench.models.layers import Layer

__all__ = ["NORMS", "TARGETS", "RRClArC", "closed_form_head", "lambda_of_the_paper", "response"]

TARGETS = ("signs", "label", "predicted", "ones", "log-probability", "jacobian")
"""Of which combination of outputs the derivative is taken."""

NORMS = ("squared", "absolute", "cosine")

_EPS = 1e-12


def response(a_gradient: Tensor, layer: Layer, vectors: Tensor, lengths: Tensor, *, first_only: bool = False) -> Tensor:
    """(sample, direction): how much an output changes, to first order, if the concept appears at every position.

    Parameters
    ----------
    a_gradient : tensor
        Derivative of the output by the layer's activation, in its shape.
    layer : Layer
    vectors : (direction, unit) tensor
        Of length 1.
    lengths : (direction,) tensor
        Distance of the means with and without the concept.
    first_only : bool
        It appears at the first token alone.

    Notes
    -----
    ``r = sum over positions of (dz/da_p . v) (m+ - m-)``: output units, so that a penalty of its square does not depend
    on the size of the map, nor on how activations are scaled.
    """
    maps = _seen(a_gradient, layer, first_only)
    return torch.einsum("ncp,kc->nk", maps, vectors.to(maps)) * lengths.to(maps)


def lambda_of_the_paper(strength: float, n_positions: int, length: float) -> float:
    """The factor of the paper's penalty that means the same as a strength here, for a head on mean activations.

    Notes
    -----
    There the mean over positions of the derivative is squared, without the length of the concept:
    ``lambda = strength * positions^2 * (m+ - m-)^2``.
    """
    return strength * n_positions**2 * length**2


def closed_form_head(weight: Tensor, vectors: Tensor, strength: float, lengths: Tensor) -> Tensor:
    """The head nearest to a given one under the penalty, without regard to the task.

    Parameters
    ----------
    weight : (class_, unit) tensor
    vectors : (direction, unit) tensor
        Of length 1, not necessarily orthogonal.
    strength : float
    lengths : (direction,) tensor

    Returns
    -------
    (class_, unit) tensor
        ``W (I + s V' L^2 V)^-1``, the minimum of ``|W' - W|^2 + s sum_j l_j^2 |W' v_j|^2``; for one direction
        ``W (I - t v v')`` with ``t = s l^2 / (1 + s l^2)``, and for a large strength ``W (I - v v')``.
    """
    # Within the span of the directions alone: there are few of them, and this runs after each step of a training.
    _, sizes, axes = torch.linalg.svd(vectors.double() * lengths.double()[:, None], full_matrices=False)
    shares = strength * sizes**2 / (1 + strength * sizes**2)
    wide = weight.double()
    return (wide - (wide @ axes.T * shares) @ axes).to(weight)


@register_method(
    "rr-clarc",
    source=Source(
        "Dreyer et al. 2024 (From Hope to Safety), section 3.2, eq. 5 to 8; logit units and closed form are ours"
    ),
    needs=("activations",),
)
class RRClArC(TrainedCorrection):
    """Fine-tune so that outputs do not react to motion along a direction. No hook is left at inference.

    **What it answers.** What the model learns if it may not use the direction, and nothing else is forbidden.

    **When not to trust it.** The direction is that of the frozen layers, and a penalty of a gradient is local. Where
    the artifact lies in many directions, others remain: look at the probe in `Session.reevaluate`. A penalty of all
    classes harms those that use the concept rightly: give `classes`.

    **Cost.** A fine-tuning of the layers above, with one more backward pass through them; for a dense layer on mean
    activations the penalty costs next to nothing.

    Parameters
    ----------
    cav : CAV, or list of CAV
    strength : float, at least 0
        Factor of the penalty, the mean squared change of outputs if the concept appears everywhere: about 1 works,
        whatever the network. A sweep over 0.1, 1, 10 shows both accuracies.
    target : {"signs", "label", "predicted", "ones", "log-probability", "jacobian"}
        Of which outputs. Random signs per sample and class: the expectation is the sum over all outputs, for one
        backward pass. Label, predicted: one output per sample. Ones: their sum, which cancels for heads whose rows add
        up to zero. Log-probability: mean of log(p + 1e-5), which saturates. Jacobian: each output by itself, as many
        backward passes as outputs.
    classes : sequence of int or str, optional
        The outputs that are penalised; others may use the concept. Default: all.
    norm : {"squared", "absolute", "cosine"}
        Of the response; cosine: between the derivative at each position and the direction.
    tokens : {"all", "first"}, optional
        At which tokens of a sequence the concept may not matter. Default: the first for a direction of the first token,
        else all.
    solver : {"descent", "closed"}
        Closed: no training; the nearest head to the present one, for a dense layer on mean activations, with its bias
        moved so that samples without the concept keep their outputs. For a large strength it is P-ClArC. It lacks the
        re-fit, which is what keeps the accuracy.
    trains, samples, attacked
        As for `AClArC`.
    epochs, rate, batch, optimiser, loss, validation, patience, seed
        See `workbench.methods.correction.training.Options`.

    Attributes
    ----------
    edits_ : Edits
    curve_ : TrainingCurve

    Notes
    -----
    Where all above the layer amounts to ``W mean(a) + b``, the response is the same for all samples, ``W v (m+ - m-)``.
    Each step of the task is then followed by the exact solution of the penalty (a proximal step), which no strength
    makes diverge; in the other nets gradients are clipped at norm 100.

    Not here: the paper's l2 and l1 of each position by itself, without the mean over positions.
    """

    result_version = 3

    def __init__(
        self, cav: Any, *, strength: float = 1.0, target: str = "signs", classes: Any = None, norm: str = "squared",
        solver: str = "descent", tokens: str | None = None, trains: str = "above", samples: Any = None,
        attacked: Any = None, epochs: int = 10, rate: float | None = None, batch: int = 64, optimiser: str = "auto",
        loss: str = "auto", validation: float = 0.1, patience: int | None = None, seed: int = 0,
    ):  # fmt: skip
        self.cav, self.strength, self.target, self.classes, self.norm = cav, strength, target, classes, norm
        self.tokens = tokens
        self.solver, self.trains, self.samples, self.attacked = solver, trains, samples, attacked
        self.epochs, self.rate, self.batch, self.optimiser = epochs, rate, batch, optimiser
        self.loss, self.validation, self.patience, self.seed = loss, validation, patience, seed

    def fit(self, ctx: Context) -> RRClArC:
        """Train, or solve."""
        self._check()
        directions = directions_of(ctx, self.cav, "RRClArC")
        vectors = torch.as_tensor(np.stack([d.vector for d in directions]))
        lengths = torch.tensor([d.length for d in directions])
        outputs = _outputs(ctx, self.classes)
        notes = notes_of(directions, projects=False)
        layer = ctx.model.layers[directions[0].layer]
        tokens = self.tokens or ("first" if directions[0].pooling == "token" else "all")
        first_only = tokens == "first" and layer.axis == -1 and bool(layer.position_shape)
        if self.solver == "closed":
            mean = torch.as_tensor(clean_means(ctx, directions, "mean").mean(0))
            lengths = lengths / (prod(layer.position_shape) if first_only else 1)
            self._solve(ctx, layer, (vectors, lengths, mean), outputs, notes)
            return self
        objective = AlongDirections(
            layer, vectors, lengths, float(self.strength), target=self.target, norm=self.norm, outputs=outputs,
            first_only=first_only,
        )  # fmt: skip
        self._train(ctx, layer.name, objective, notes)
        self.warnings_ += tuple(objective.notes)
        return self

    def recipe_params(self, ctx: Context) -> dict[str, Any]:
        self._check()
        own = super().recipe_params(ctx)
        own["classes"] = None if self.classes is None else list(self.classes)
        layer = cavs_of(self.cav, "RRClArC")[0].layer
        return own | {"layer": layer, "cav": cav_facts(ctx, self.cav, "RRClArC")}

    def _check(self) -> None:
        cavs_of(self.cav, "RRClArC")
        check.between("strength", self.strength, 0, 1e12)
        check.one_of("target", self.target, TARGETS)
        check.one_of("norm", self.norm, NORMS)
        check.one_of("solver", self.solver, ("descent", "closed"))
        if self.tokens is not None:
            check.one_of("tokens", self.tokens, ("all", "first"))
        if self.classes is not None and (isinstance(self.classes, (str, int)) or len(list(self.classes)) == 0):
            raise BadValueError(f"`classes` must be a list that is not empty; got {self.classes!r}.")
        if self.classes is not None and self.target in ("ones", "log-probability", "predicted", "label"):
            raise BadValueError(
                f'target="{self.target}" chooses outputs by itself; `classes` goes with "signs" and "jacobian".'
            )
        self._options()

    def _solve(
        self, ctx: Context, layer: Layer, found: tuple[Tensor, Tensor, Tensor], outputs: Tensor | None,
        notes: Sequence[str],
    ) -> None:  # fmt: skip
        trainee = Trainee(ctx.model, layer.name, self.trains)
        head = trainee.linear_head()
        if head is None:
            raise ModelError(
                f'What lies above "{layer.name}" is no dense layer on mean activations, so there is no closed form.',
                hint='Use solver="descent", or a direction at the last layer before the head.',
            )
        vectors, lengths, mean = (t.to(head.weight.device) for t in found)
        weight = head.weight.detach().clone()
        rows = slice(None) if outputs is None else outputs.to(weight.device)
        with torch.no_grad():
            head.weight[rows] = closed_form_head(weight, vectors, float(self.strength), lengths)[rows]
            if head.bias is not None:
                head.bias += ((weight - head.weight).double() @ mean).to(weight)
        empty = {name: np.full(1, np.nan) for name in CURVES}
        self.curve_ = TrainingCurve(self._title(), **empty, n_planned=0, best=0)
        self._finish(ctx, trainee.edits(), notes)

    def _title(self) -> str:
        names = ", ".join(str(one.concept or one.layer) for one in cavs_of(self.cav, "RRClArC"))
        return f"RRClArC along {names}, strength {self.strength:g}"


class AlongDirections(Objective):
    """The task, and a penalty of how outputs react to motion along directions.

    Parameters
    ----------
    layer : Layer
    vectors : (direction, unit) tensor
    lengths : (direction,) tensor
    strength : float
    target, norm : str
        See `RRClArC`.
    outputs : (chosen,) int64 tensor, optional
    first_only : bool
        The concept appears at the first token alone.

    Attributes
    ----------
    notes : list of str
        Warnings that came up while it ran.
    """

    def __init__(
        self, layer: Layer, vectors: Tensor, lengths: Tensor, strength: float, *, target: str = "signs",
        norm: str = "squared", outputs: Tensor | None = None, first_only: bool = False,
    ):  # fmt: skip
        self.layer, self.vectors, self.lengths, self.strength = layer, vectors, lengths, strength
        self.target, self.norm, self.outputs, self.first_only = target, norm, outputs, first_only
        self.notes: list[str] = []
        self._head: list[nn.Linear | None] = []
        # Elsewhere the penalty has a curvature of its own, which the task's does not tell.
        self.is_smooth = norm == "squared" and target in ("signs", "jacobian")

    def losses(
        self, trainee: Trainee, batch: Batch, task: Callable[[Tensor, Tensor], Tensor], generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        head = self._linear(trainee)
        if head is not None:
            with torch.no_grad():
                r = self._head_response(head)
            # The penalty is met by the proximal step: here it is only told, and has no gradient.
            loss = task(trainee.forward(batch.value), batch.target)
            return loss, r.square().sum().detach()
        seen: list[Tensor] = []

        def keep(a: Tensor) -> Tensor:
            seen.append(a.detach().requires_grad_())
            return seen[0]

        z = trainee.forward(batch.value, at_layer=keep)
        return task(z, batch.target), self.penalty(z, seen[0], batch.target, generator)

    def penalty(self, z: Tensor, a: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
        """The penalty of logits that depend on an activation, without its factor; it can be differentiated."""
        total: Any = 0.0
        for m in self._seeds(z, target, generator):
            (gradient,) = torch.autograd.grad(m, a, create_graph=True)
            total = total + self._size(gradient)
        return total

    def after_step(self, trainee: Trainee, step_size: float) -> None:
        head = self._linear(trainee)
        if head is None or not self.strength:
            return
        with torch.no_grad():
            weight = head.weight
            # The minimum of strength * |W v l|^2 + |W - W'|^2 / (2 step).
            found = closed_form_head(
                weight, self.vectors.to(weight.device), 2 * step_size * self.strength, self._head_lengths(weight)
            )
            rows = slice(None) if self.outputs is None else self.outputs.to(weight.device)
            weight[rows] = found[rows]

    def _linear(self, trainee: Trainee) -> nn.Linear | None:
        """The dense layer on mean activations, where the expectation of the penalty is known exactly."""
        if not self._head:
            self._head.append(trainee.linear_head() if self.is_smooth else None)
        return self._head[0]

    def _head_response(self, head: nn.Linear) -> Tensor:
        weight = head.weight if self.outputs is None else head.weight[self.outputs.to(head.weight.device)]
        return weight @ self.vectors.to(weight).T * self._head_lengths(weight)

    def _head_lengths(self, like: Tensor) -> Tensor:
        """How far a mean over positions moves with the concept: of one token's change it has a share."""
        return (self.lengths / (prod(self.layer.position_shape) if self.first_only else 1)).to(like)

    def _seeds(self, z: Tensor, target: Tensor, generator: torch.Generator) -> list[Tensor]:
        """The numbers whose derivatives are penalised, each summed over the batch: samples do not mix."""
        chosen = z if self.outputs is None else z[:, self.outputs.to(z.device)]
        if self.target == "signs":
            signs = torch.randint(0, 2, chosen.shape, generator=generator).to(z) * 2 - 1
            return [(chosen * signs).sum()]
        if self.target == "jacobian":
            return [chosen[:, k].sum() for k in range(chosen.shape[1])]
        if self.target == "ones":
            self._warn_of_cancelling(z)
            return [z.sum()]
        if self.target == "log-probability":
            p = z.softmax(1) if z.shape[1] > 1 else torch.cat([z.sigmoid(), 1 - z.sigmoid()], 1)
            return [(p + 1e-5).log().mean(1).sum()]
        index = z.argmax(1) if self.target == "predicted" else target.long()
        if z.shape[1] == 1:
            return [z.sum()]
        return [z.gather(1, index[:, None]).sum()]

    def _warn_of_cancelling(self, z: Tensor) -> None:
        if not self.notes and z.shape[1] > 1:
            self.notes.append(
                'target="ones" penalises the sum of all outputs: where the rows of a head add up to zero, nothing is '
                "penalised."
            )

    def _size(self, gradient: Tensor) -> Tensor:
        if self.norm == "cosine":
            maps = _seen(gradient, self.layer, self.first_only)
            vectors = self.vectors.to(maps)
            cosines = F.cosine_similarity(maps.unsqueeze(1), vectors[None, :, :, None], dim=2, eps=_EPS)
            return cosines.abs().mean((0, 2)).sum()
        r = response(gradient, self.layer, self.vectors, self.lengths, first_only=self.first_only)
        return (r.square() if self.norm == "squared" else r.abs()).mean(0).sum()


def _seen(gradient: Tensor, layer: Layer, first_only: bool) -> Tensor:
    """(sample, unit, position) derivatives, of the first position alone if so wished."""
    maps = layer.components_first(gradient)
    return maps[:, :, :1] if first_only else maps


def _outputs(ctx: Context, classes: Any) -> Tensor | None:
    if classes is None:
        return None
    names, n = list(ctx.class_names()), ctx.model.n_classes
    found = []
    for one in classes:
        if isinstance(one, str) and not one.isdecimal():
            found.append(names.index(check.known("output", one, names)))
        elif isinstance(one, bool) or not 0 <= int(one) < n:
            raise BadValueError(f"No output {one!r}: the model has {n}, from 0.")
        else:
            found.append(int(one))
    return torch.tensor(sorted(set(found)))
