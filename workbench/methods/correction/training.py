"""Fine-tuning of a private copy: batches, curves, early stop, checkpoints. What is asked of the model is an objective.

Every random choice depends on the seed, the epoch and the step alone, so that a training that was cut off goes on from
its checkpoint as if nothing had happened.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from workbench.core import check
from workbench.core.corrections import CURVES, TrainingCurve
from workbench.core.errors import BadValueError, DataError, NotFiniteError, ShapeError
from workbench.core.sampling import evenly
from workbench.methods.labels import labels_as_outputs

if TYPE_CHECKING:
    from workbench.core.context import Checkpoint, Context
    from workbench.methods.correction.trainee import Trainee

__all__ = ["LOSSES", "OPTIMISERS", "Batch", "Objective", "Options", "Rows", "fine_tune", "task_loss"]

logger = logging.getLogger(__name__)

LOSSES = ("auto", "cross-entropy", "binary", "squared")
OPTIMISERS = ("auto", "adam", "sgd")

_HELD_BYTES = 1_500_000_000
_CHECKPOINT_S = 60.0
_CLIP = 100.0


@dataclass(frozen=True)
class Options:
    """How to train.

    Attributes
    ----------
    epochs : int
    rate : float or None
        Learning rate. None: 0.001 for Adam; for descent half the inverse of the task's curvature, where one dense layer
        on mean activations is trained, else 0.001.
    batch : int
    optimiser : {"auto", "adam", "sgd"}
        Stochastic gradient descent has momentum 0.9, as the authors of most methods use it; Adam needs no rate of its
        own for each network. Auto: descent for a dense layer on mean activations, whose curvature is known, else Adam.
    loss : {"auto", "cross-entropy", "binary", "squared"}
        Of the task. Auto: cross-entropy for two outputs or more, binary for one output with labels 0 and 1.
    validation : float, 0 to 0.5
        Share of the samples that is held out.
    patience : int or None
        Stop when the held-out loss has not fallen for so many epochs, and keep the best weights; None: all epochs, and
        the last weights.
    seed : int
    """

    epochs: int = 10
    rate: float | None = None
    batch: int = 64
    optimiser: str = "auto"
    loss: str = "auto"
    validation: float = 0.1
    patience: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        check.positive("epochs", self.epochs)
        if self.rate is not None:
            check.between("rate", self.rate, 0, 1e3, left_open=True)
        check.positive("batch", self.batch)
        check.one_of("optimiser", self.optimiser, OPTIMISERS)
        check.one_of("loss", self.loss, LOSSES)
        check.between("validation", self.validation, 0, 0.5)
        if self.patience is not None:
            check.positive("patience", self.patience)
            if not self.validation:
                raise BadValueError("`patience` watches held-out samples, and `validation` is 0.")
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or self.seed < 0:
            raise BadValueError(f"`seed` must be a whole number of at least 0; got {self.seed!r}.")


@dataclass(frozen=True, eq=False)
class Batch:
    """Samples on the model's device.

    Attributes
    ----------
    ids : (sample,) int64 array
    value : tensor
        Outputs of the layer where the trainee is cut and the objective does not ask for inputs; else inputs.
    target : (sample,) tensor
    """

    ids: np.ndarray
    value: Tensor
    target: Tensor


class Objective:
    """What is asked of a model besides its task. This one asks nothing: plain fine-tuning.

    Attributes
    ----------
    strength : float
        Factor of the penalty.
    needs_input : bool
        Whether it looks at inputs, so that every layer runs.
    is_smooth : bool
        Whether its gradient is hardly steeper than that of the task, so that the task's curvature tells the rate.
    """

    strength: float = 0.0
    needs_input: bool = False
    is_smooth: bool = True

    def logits(self, trainee: Trainee, batch: Batch) -> Tensor:
        """The logits that the task is learned with."""
        return self.forward(trainee, batch.value)

    def forward(self, trainee: Trainee, value: Tensor) -> Tensor:
        """The logits of the model as it will be used."""
        return trainee.whole(value) if self.needs_input else trainee.forward(value)

    def losses(
        self, trainee: Trainee, batch: Batch, task: Callable[[Tensor, Tensor], Tensor], generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """The loss of the task, and the penalty without its factor; None for no penalty."""
        return task(self.logits(trainee, batch), batch.target), None

    def after_step(self, trainee: Trainee, step_size: float) -> None:
        """Called after each step of the optimiser."""


class Rows:
    """The samples of a training with their targets, and what of them is held in memory.

    Parameters
    ----------
    ctx : Context
    trainee : Trainee
    ids : (sample,) int array
    targets : (sample,) array
    objective : Objective
    data : Dataset, optional
        Where inputs come from; default: the context's.
    """

    def __init__(
        self, ctx: Context, trainee: Trainee, ids: np.ndarray, targets: np.ndarray, objective: Objective,
        data: Any = None,
    ):  # fmt: skip
        self._ctx, self._trainee, self._data = ctx, trainee, ctx.data if data is None else data
        self.is_input = objective.needs_input or not trainee.is_cut
        self._held: Tensor | None = None
        self.ids, self._targets = ids, torch.as_tensor(targets)
        self._fill()

    def __len__(self) -> int:
        return len(self.ids)

    def batch(self, rows: np.ndarray) -> Batch:
        """Some of them, on the model's device."""
        value = self._computed(self.ids[rows])[0] if self._held is None else self._held[torch.from_numpy(rows)]
        device = self._trainee.handle.device
        return Batch(self.ids[rows], value.to(device), self._targets[torch.from_numpy(rows)].to(device))

    def _fill(self) -> None:
        """Read all samples once: those that cannot be read drop out, and the rest stays in memory if there is room."""
        parts: list[Tensor] = []
        read: list[int] = []
        does_fit = True
        self._ctx.progress.start("reading samples", len(self.ids))
        for first in range(0, len(self.ids), 64):
            ids = self.ids[first : first + 64]
            value, own = self._computed(ids)
            read += own
            does_fit = does_fit and value[:1].numel() * value.element_size() * len(self.ids) <= _HELD_BYTES
            if does_fit:
                parts.append(value.cpu())
            self._ctx.progress.step(len(ids))
        if not read:
            raise DataError(f"None of the {len(self.ids)} samples can be read.")
        kept = np.isin(self.ids, read)
        self._targets, self.ids = self._targets[torch.from_numpy(kept)], self.ids[kept]
        self._held = torch.cat([p for p in parts if len(p)]) if does_fit else None

    def _computed(self, ids: np.ndarray) -> tuple[Tensor, list[int]]:
        x, read, _ = self._data.batch(ids.tolist())
        if self.is_input or not read:
            return x, read
        return self._trainee.lower(x), read


def task_loss(kind: str, n_outputs: int, targets: np.ndarray) -> tuple[Callable[[Tensor, Tensor], Tensor], bool]:
    """The loss of the task, (logits, target) to a number, and whether right and wrong can be told.

    Raises
    ------
    BadValueError
        If the outputs or targets do not go with it; a regression model must say so.
    """
    if kind == "auto":
        if n_outputs == 1 and not set(np.unique(targets)) <= {0, 1}:
            raise BadValueError(
                "The model has one output and the labels are not 0 and 1: it seems to be a regression.",
                hint='Say loss="squared", which takes labels as numbers; or use PClArC, which trains nothing.',
            )
        kind = "cross-entropy" if n_outputs > 1 else "binary"
    if kind == "cross-entropy":
        if n_outputs < 2:
            raise BadValueError("Cross-entropy needs two outputs or more.", hint='Use loss="binary" or "squared".')
        return F.cross_entropy, True
    if n_outputs != 1:
        raise BadValueError(f'loss="{kind}" needs a single output; the model has {n_outputs}.')
    if kind == "binary":
        if not set(np.unique(targets)) <= {0, 1}:
            raise BadValueError('loss="binary" needs labels 0 and 1.')
        return lambda z, t: F.binary_cross_entropy_with_logits(z[:, 0], t.to(z.dtype)), True
    return lambda z, t: F.mse_loss(z[:, 0], t.to(z.dtype)), False


def chosen_ids(ctx: Context, samples: np.ndarray | None, loss: str) -> tuple[np.ndarray, np.ndarray]:
    """Ids of labelled samples, and their targets.

    Raises
    ------
    BadValueError
        If fewer than two have a label that is an output.
    """
    labels = np.asarray(ctx.data.labels) if loss == "squared" else labels_as_outputs(ctx)
    ids = np.flatnonzero(labels >= 0) if samples is None else samples[labels[samples] >= 0]
    if len(ids) < 2:
        raise BadValueError(
            f"{len(ids)} samples have a label that is an output of the model; training needs two at least.",
            hint="Give the data classes that the model has.",
        )
    return ids, labels[ids]


def fine_tune(
    ctx: Context, trainee: Trainee, objective: Objective, options: Options, *, title: str,
    samples: np.ndarray | None = None, attacked: Any = None, checkpoint: Checkpoint | None = None,
    see: Callable[[TrainingCurve], None] | None = None,
) -> TrainingCurve:  # fmt: skip
    """Train a copy's upper part; its weights are then the result.

    Parameters
    ----------
    ctx : Context
    trainee : Trainee
    objective : Objective
    options : Options
    title : str
    samples : (sample,) int array, optional
        Default: all with a label that is an output.
    attacked : Dataset, optional
        The same samples with the artifact, whose accuracy is followed.
    checkpoint : Checkpoint, optional
        Written after each epoch, and every minute.
    see : callable, optional
        Called with the curve so far after each epoch.

    Returns
    -------
    TrainingCurve

    Raises
    ------
    NotFiniteError
        If the loss leaves the numbers.
    CancelledError
        If it was cancelled; a later call goes on from the checkpoint.
    """
    ids, targets = chosen_ids(ctx, samples, options.loss)
    task, is_choice = task_loss(options.loss, trainee.handle.n_classes, targets)
    rows = Rows(ctx, trainee, ids, targets, objective)
    train, held = _parted(len(rows), options)
    watched = None
    if attacked is not None:
        if len(attacked) != len(ctx.data):
            raise ShapeError(f"The attacked data has {len(attacked)} samples, the data {len(ctx.data)}.")
        if not len(held):
            raise BadValueError("Attacked accuracy is followed on held-out samples, and `validation` is 0.")
        part = rows.ids[held]
        watched = Rows(ctx, trainee, part, targets[np.searchsorted(ids, part)], objective, data=attacked)
    run = _Run(trainee, objective, options, task, is_choice, rows, train, held, watched, title)
    with torch.enable_grad():
        run.resume(checkpoint)
        n_steps = -(-len(train) // options.batch)
        ctx.progress.start(f"training {title}", options.epochs * n_steps)
        if run.n_done(n_steps):
            ctx.progress.step(run.n_done(n_steps))
        while not run.is_finished:
            run.epoch(ctx.progress, checkpoint)
            if see is not None:
                see(run.curve())
    if checkpoint is not None:
        checkpoint.drop()
    run.keep_best()
    return run.curve()


class _Run:
    """One training: weights, optimiser, curves, and where it stands."""

    def __init__(
        self, trainee: Trainee, objective: Objective, options: Options, task: Any, is_choice: bool, rows: Rows,
        train: np.ndarray, held: np.ndarray, watched: Rows | None, title: str,
    ):  # fmt: skip
        self.trainee, self.objective, self.options, self.task = trainee, objective, options, task
        self.is_choice, self.rows, self.train, self.held, self.watched = is_choice, rows, train, held, watched
        self.title = title
        parameters = list(trainee.moving.values())
        head = trainee.linear_head() if objective.is_smooth and not rows.is_input else None
        kind = options.optimiser if options.optimiser != "auto" else "adam" if head is None else "sgd"
        rate = options.rate
        if rate is None:
            rate = 1e-3 if kind == "adam" or head is None else 0.5 / self._curvature()
        if kind == "adam":
            self.optimiser: torch.optim.Optimizer = torch.optim.Adam(parameters, rate)
        else:
            self.optimiser = torch.optim.SGD(parameters, rate, momentum=0.9)
        # How far the weights move per unit of a gradient that stays the same.
        self.step_size = rate if kind == "adam" else rate / 0.1
        self.done, self.step, self.sums = 0, 0, [0.0, 0.0]
        self.best_row, self.best_loss = 0, float("inf")
        self.best_weights: dict[str, Tensor] | None = None
        self.columns: dict[str, list[float]] = {name: [] for name in CURVES}
        self._saved = time.monotonic()

    def _curvature(self) -> float:
        """A bound of the second derivative of the task's loss by the weights of a head on mean activations."""
        batch = self.rows.batch(self.train[evenly(len(self.train), 512)])
        layer = self.trainee.handle.layers[self.trainee.layer or ""]
        pooled = layer.components_first(batch.value).mean(2)
        pooled = torch.cat([pooled, torch.ones_like(pooled[:, :1])], 1)
        largest = float(torch.linalg.matrix_norm(pooled, 2)) ** 2 / len(pooled)
        # Of cross-entropy a half at most, of two classes a quarter, of squared errors two.
        return largest * (0.5 if self.is_choice else 2.0)

    @property
    def is_finished(self) -> bool:
        if self.done >= self.options.epochs:
            return True
        patience = self.options.patience
        return patience is not None and self.done - self.best_row >= patience

    def n_done(self, n_steps: int) -> int:
        return self.done * n_steps + self.step

    def epoch(self, progress: Any, checkpoint: Checkpoint | None) -> None:
        options, trainee = self.options, self.trainee
        order = np.random.default_rng([options.seed, 1, self.done]).permutation(self.train)
        parts = [order[i : i + options.batch] for i in range(0, len(order), options.batch)]
        for rows in parts[self.step :]:
            batch = self.rows.batch(rows)
            generator = torch.Generator().manual_seed(options.seed * 1_000_003 + self.done * 10_007 + self.step)
            loss, penalty = self.objective.losses(trainee, batch, self.task, generator)
            total = loss if penalty is None else loss + self.objective.strength * penalty
            if not bool(torch.isfinite(total)):
                raise NotFiniteError(
                    f"The loss is no longer a number in epoch {self.done + 1}.",
                    hint="Lower `rate`, or the strength of the penalty.",
                )
            self.optimiser.zero_grad()
            total.backward()
            torch.nn.utils.clip_grad_norm_(list(trainee.moving.values()), _CLIP)
            self.optimiser.step()
            self.objective.after_step(trainee, self.step_size)
            self.sums[0] += float(loss.detach()) * len(rows)
            self.sums[1] += float("nan") if penalty is None else float(penalty.detach()) * len(rows)
            self.step += 1
            if checkpoint is not None and time.monotonic() - self._saved > _CHECKPOINT_S:
                self._save(checkpoint)
            progress.step(1, note=f"epoch {self.done + 1}, loss {self.sums[0] / (self.step * options.batch):.3g}")
        self._row(self.sums[0] / len(self.train), self.sums[1] / len(self.train))
        self.done, self.step, self.sums = self.done + 1, 0, [0.0, 0.0]
        self._note_best()
        if checkpoint is not None:
            self._save(checkpoint)

    def curve(self) -> TrainingCurve:
        columns = {name: np.array(values) for name, values in self.columns.items()}
        best = self.best_row if self.options.patience is not None else len(self.columns["loss"]) - 1
        return TrainingCurve(self.title, **columns, n_planned=self.options.epochs, best=best)

    def keep_best(self) -> None:
        if self.options.patience is not None and self.best_weights is not None:
            with torch.no_grad():
                for name, value in self.best_weights.items():
                    self.trainee.moving[name].copy_(value)

    def resume(self, checkpoint: Checkpoint | None) -> None:
        found = None if checkpoint is None else checkpoint.load()
        if found is not None and self._take_up(*found):
            logger.info("Training %s goes on at epoch %d of %d", self.title, self.done + 1, self.options.epochs)
            return
        self._row(float("nan"), float("nan"))
        self._note_best()

    def _row(self, loss: float, penalty: float) -> None:
        held_loss, clean = self._measured(self.rows, self.held)
        attacked = (
            float("nan") if self.watched is None else self._measured(self.watched, np.arange(len(self.watched)))[1]
        )
        for name, value in zip(CURVES, (loss, penalty, held_loss, clean, attacked), strict=True):
            self.columns[name].append(value)

    def _measured(self, rows: Rows, which: np.ndarray) -> tuple[float, float]:
        """Loss and accuracy of the model as it will be used."""
        if len(which) == 0:
            return float("nan"), float("nan")
        loss, right = 0.0, 0
        with torch.no_grad():
            for first in range(0, len(which), self.options.batch):
                batch = rows.batch(which[first : first + self.options.batch])
                z = self.objective.forward(self.trainee, batch.value)
                loss += float(self.task(z, batch.target)) * len(batch.ids)
                said = z.argmax(1) if z.shape[1] > 1 else (z[:, 0] > 0).to(batch.target.dtype)
                right += int((said == batch.target).sum())
        return loss / len(which), right / len(which) if self.is_choice else float("nan")

    def _note_best(self) -> None:
        loss = self.columns["validation_loss"][-1]
        if self.options.patience is not None and loss < self.best_loss - 1e-9:
            self.best_row, self.best_loss = len(self.columns["loss"]) - 1, loss
            self.best_weights = {name: p.detach().clone() for name, p in self.trainee.moving.items()}

    def _save(self, checkpoint: Checkpoint) -> None:
        arrays: dict[str, Any] = {f"weight|{n}": p.detach().cpu().clone() for n, p in self.trainee.moving.items()}
        for i, state in self.optimiser.state_dict()["state"].items():
            arrays |= {f"optimiser|{i}|{k}": torch.as_tensor(v).cpu().clone() for k, v in state.items()}
        for name, value in (self.best_weights or {}).items():
            arrays[f"best|{name}"] = value.cpu()
        arrays |= {f"curve|{name}": np.array(values, np.float64) for name, values in self.columns.items()}
        arrays["sums"] = np.array([*self.sums, self.best_loss], np.float64)
        facts = {"done": self.done, "step": self.step, "best_row": self.best_row, "n": len(self.rows)}
        checkpoint.save(arrays, facts)
        self._saved = time.monotonic()

    def _take_up(self, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> bool:
        """Go on from a checkpoint, if it belongs to the same weights and samples."""
        moving = self.trainee.moving
        if facts.get("n") != len(self.rows) or any(f"weight|{name}" not in arrays for name in moving):
            return False
        with torch.no_grad():
            for name, p in moving.items():
                p.copy_(torch.as_tensor(arrays[f"weight|{name}"]).to(p))
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in arrays.items():
            if key.startswith("optimiser|"):
                _, i, name = key.split("|")
                state.setdefault(int(i), {})[name] = torch.as_tensor(value).clone()
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state})
        best = {k.partition("|")[2]: torch.as_tensor(v).clone() for k, v in arrays.items() if k.startswith("best|")}
        self.best_weights = best or None
        self.columns = {name: np.asarray(arrays[f"curve|{name}"]).tolist() for name in CURVES}
        *sums, self.best_loss = np.asarray(arrays["sums"]).tolist()
        self.sums = sums
        self.done, self.step, self.best_row = int(facts["done"]), int(facts["step"]), int(facts["best_row"])
        return True


def _parted(n: int, options: Options) -> tuple[np.ndarray, np.ndarray]:
    """Rows to train on, and rows that are held out; both rising."""
    n_held = round(n * options.validation)
    if options.validation:
        n_held = min(max(1, n_held), n - 1)
    order = np.random.default_rng([options.seed, 0]).permutation(n)
    return np.sort(order[n_held:]), np.sort(order[:n_held])
