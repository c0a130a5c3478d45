"""Walk the data once: one forward and one relevance pass per batch, pooled at once, written shard by shard."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from workbench.attribution.lrp import ruled_forward
from workbench.core.errors import NoPredictionError, NotFiniteError, OutOfBudgetError, StaleError
from workbench.core.labels import explainable
from workbench.core.progress import Progress, SilentProgress
from workbench.models.device import is_out_of_memory
from workbench.models.hooks import record
from workbench.sweeps.freed import give_back
from workbench.sweeps.plan import SweepPlan
from workbench.sweeps.pooling import pool_activations, pool_relevance
from workbench.sweeps.reader import Reader, reading_threads
from workbench.sweeps.rows import BestRows, Rows, columns_of
from workbench.sweeps.tables import link_tables

if TYPE_CHECKING:
    from workbench.data.base import Dataset
    from workbench.models.handle import ModelHandle
    from workbench.store.base import Store
    from workbench.store.shardset import ShardSet

__all__ = ["run_sweep"]

logger = logging.getLogger(__name__)


def run_sweep(
    plan: SweepPlan, handle: ModelHandle, data: Dataset, store: Store, *, progress: Progress | None = None
) -> ShardSet:
    """Run a planned sweep, or what is missing of it.

    Complete shards are kept whatever happens; a killed sweep goes on with the first missing shard and gives exactly
    what an uninterrupted one gives. Samples that cannot be read, for which the model predicts nothing to explain, or
    for which its output, an activation or a relevance is not finite, are left out with a count.

    Raises
    ------
    StaleError
        If the data changed since the session was opened. (Weights cannot: a session works on its own copy.)
    StoreFullError, ReadOnlyStoreError, CancelledError
    """
    progress = progress or SilentProgress()
    shards = store.shards(plan.recipe, list(plan.bounds), {"plan": str(plan), "samples": len(plan.samples)})
    if shards.is_complete:
        return shards
    _check_unchanged(plan, data)
    logger.info("sweep: %s", plan)
    started = time.perf_counter()
    link_tables(store, plan)  # first, so that a half-filled pass can be read, and says that it is one
    with shards.lock():
        missing = shards.missing
        total = sum(b - a for a, b in plan.bounds)
        progress.start(f"sweep {handle.card.name} ({plan.cost})", total)
        done = total - sum(plan.bounds[i][1] - plan.bounds[i][0] for i in missing)
        if done:
            progress.step(done, note=f"{done} samples found in the store")
        try:
            _fill(plan, handle, data, shards, missing, progress)
            left_out = sum(len((shards.shard_meta(i) or {}).get("skipped", ())) for i in range(len(shards)))
            if left_out == len(plan.samples):  # not sealed: who asks again is told again
                raise NotFiniteError(
                    f"None of the {left_out} samples gave a finite result for the target {plan.target}.",
                    hint="session.explain(0) says what is wrong with one; another rule or target may do.",
                )
            shards.seal({"seconds": round(time.perf_counter() - started, 1), "skipped": left_out})
            link_tables(store, plan)
        finally:
            progress.close()
    logger.info(
        "swept %d samples in %.0f s%s",
        total - done,
        time.perf_counter() - started,
        f", {left_out} left out" if left_out else "",
    )
    return shards


def _fill(
    plan: SweepPlan, handle: ModelHandle, data: Dataset, shards: ShardSet, missing: list[int], progress: Progress
) -> None:
    wanted = [plan.samples[plan.bounds[i][0] : plan.bounds[i][1]] for i in missing]
    parts = [ids for shard in wanted for ids in _batches(shard, plan.batch)]
    runner = _Runner(plan, handle, data)
    n_threads = reading_threads(handle, data)
    with Reader(data, parts, n_threads=n_threads, pin=handle.device.type == "cuda") as reader:
        for i, ids in zip(missing, wanted, strict=True):
            rows: Rows | BestRows = (
                BestRows(plan, ids, runner.columns, data.origins, handle.device)
                if plan.keep == "references"
                else Rows(len(ids), runner.columns)
            )
            for part in _batches(ids, plan.batch):
                is_last = part[-1] == ids[-1]
                x, read, skipped = reader.next()
                for one in skipped:
                    logger.warning("left out of the sweep: %s", one)
                runner.n_left_out += len(skipped)
                runner.run(x, read, np.searchsorted(ids, read), rows)
                if is_last:  # before the step, at which the sweep may be cancelled: what is finished is kept
                    shards.write(i, rows.arrays(ids), {"skipped": [int(s) for s in ids[~rows.is_valid.numpy()]]})
                    give_back()
                progress.step(len(part), note=f"{runner.n_left_out} left out" if runner.n_left_out else "")


class _Runner:
    """Runs batches, remembers how many samples fit into memory, and leaves out those without a finite result.

    Attributes
    ----------
    columns : dict of name to (shape of a row, dtype)
        What a row holds.
    at_once : int
        Samples per pass; halved when memory runs out.
    n_left_out : int
    """

    def __init__(self, plan: SweepPlan, handle: ModelHandle, data: Dataset):
        self.plan, self.handle, self.data = plan, handle, data
        self.at_once, self.n_left_out = plan.batch, 0
        self.columns = columns_of(plan, handle)
        self.labels = (
            explainable(data.labels, data.classes, handle.classes, handle.n_classes)
            if plan.target.kind == "label"
            else np.asarray(data.labels)
        )

    def run(self, x: Tensor, read: list[int], at: np.ndarray, rows: Rows | BestRows) -> None:
        """Fill the rows `at` with the samples `read`, whose input is `x`."""
        first = 0
        while first < len(x):
            part = slice(first, first + self.at_once)
            if self._fits(x[part], read[part], at[part], rows):
                first = part.stop

    def _fits(self, x: Tensor, read: list[int], at: np.ndarray, rows: Rows | BestRows) -> bool:
        """Run a batch; if memory runs out, make batches smaller and say no."""
        try:
            self._run_finite(x, read, at, rows)
            return True
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if len(x) == 1:
                raise OutOfBudgetError(
                    "A single sample does not fit into memory.",
                    hint="Use smaller inputs, fewer layers or another device.",
                ) from error
            self.at_once = len(x) // 2
            logger.warning("out of memory at %d samples: going on with %d", len(x), self.at_once)
        if self.handle.device.type == "cuda":
            torch.cuda.empty_cache()
        return False

    def _run_finite(self, x: Tensor, read: list[int], at: np.ndarray, rows: Rows | BestRows) -> None:
        """Run a batch; where a number in it is not finite, run its halves."""
        try:
            rows.put(at, self._run(x, self.labels[read]))
            return
        except NoPredictionError as error:  # it names the samples, so the rest needs no halving
            for row in error.rows:
                self._leave_out(read[row], error.what)
            rest = np.setdiff1d(np.arange(len(x)), error.rows)
            if len(rest):
                self._run_finite(x[rest], [read[i] for i in rest], at[rest], rows)
            return
        except NotFiniteError as error:
            if len(x) == 1:
                self._leave_out(read[0], error.message)
                return
        half = (len(x) + 1) // 2
        self._run_finite(x[:half], read[:half], at[:half], rows)
        self._run_finite(x[half:], read[half:], at[half:], rows)

    def _leave_out(self, sample: int, why: str) -> None:
        logger.warning('left out of the sweep: sample %d ("%s"): %s', sample, self.data.keys[sample], why)
        self.n_left_out += 1

    def _run(self, x: Tensor, labels: np.ndarray) -> dict[str, Tensor]:
        plan, handle, table = self.plan, self.handle, self.handle.layers
        found: dict[str, Tensor] = {}

        def see(name: str, output: Tensor) -> None:
            layer = table[name]
            largest, mean, peak = pool_activations(layer, output)
            found[f"{name}|max"], found[f"{name}|mean"], found[f"{name}|peak"] = largest, mean, peak
            if output.requires_grad:
                output.register_hook(lambda r: found.__setitem__(f"{name}|relevance", pool_relevance(layer, r)))

        x = handle.put(x)
        if plan.rule is None:
            with torch.no_grad(), handle.in_place(), handle.edited(), record(handle.module, plan.layers, see):
                output = handle.logits(handle.module(x.clone()))  # a model may begin with an activation in place
        else:
            with ruled_forward(handle, x, rule=plan.rule, layers=plan.layers, see=see) as graph:
                start = plan.target.start(graph.output, labels=labels)
                (relevance,) = graph.pull(graph.output, start.seed, [None], keep=False)
            output = graph.output.detach()
            found["target"], found["score"] = start.index, start.score
            found["relevance_sum"] = relevance.flatten(1).sum(1)
            for name in plan.layers:  # a layer beside the path of the target has no relevance
                found.setdefault(f"{name}|relevance", torch.zeros_like(found[f"{name}|max"]))
        if output.ndim == 2:
            found["output"] = output
        _check_finite({"output": output, **found})
        return _at_home(found)


def _check_finite(found: dict[str, Tensor]) -> None:
    numbers = {name: value for name, value in found.items() if value.dtype.is_floating_point}
    answers = torch.stack([torch.isfinite(value).all() for value in numbers.values()])  # the device is waited for once
    for name, is_finite in zip(numbers, answers.tolist(), strict=True):
        if not is_finite:
            raise NotFiniteError(f'"{name}" is not finite.')


def _at_home(found: dict[str, Tensor]) -> dict[str, Tensor]:
    """Everything on the CPU, by one transfer for each type: a network has hundreds of small columns."""
    device = next(iter(found.values())).device
    if device.type == "cpu":
        return found
    home: dict[str, Tensor] = {}
    for dtype in {value.dtype for value in found.values()}:
        some = {name: value.detach().flatten(1) if value.ndim > 1 else value[:, None] for name, value in found.items()
                if value.dtype == dtype}  # fmt: skip
        columns = torch.cat(list(some.values()), 1).cpu().split([value.shape[1] for value in some.values()], 1)
        home |= {name: part.reshape(found[name].shape) for name, part in zip(some, columns, strict=True)}
    return home


def _batches(ids: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for first in range(0, len(ids), size):
        yield ids[first : first + size]


def _check_unchanged(plan: SweepPlan, data: Dataset) -> None:
    if data.using(data.transform).fingerprint.digest not in plan.recipe.data:  # looked at anew, not remembered
        raise StaleError("The data set changed after the sweep was planned.", hint="Open the session anew.")
