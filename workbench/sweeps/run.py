"""Walk the data once: one forward and one relevance pass per batch, pooled at once, written shard by shard."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from workbench.attribution.lrp import ruled_forward
from workbench.core.errors import NotFiniteError, OutOfBudgetError, StaleError
from workbench.core.progress import Progress, SilentProgress
from workbench.models.handle import is_out_of_memory
from workbench.models.hooks import record
from workbench.sweeps.plan import SweepPlan
from workbench.sweeps.pooling import pool_activations, pool_relevance
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

    Complete shards are kept whatever happens; a killed sweep goes on with the first missing shard and gives exactly what
    an uninterrupted one gives. Samples that cannot be read or whose output is not finite are left out with a count.

    Raises
    ------
    StaleError
        If the weights or the data changed since the session was opened.
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
            skipped = _fill(plan, handle, data, shards, missing, progress)
            shards.seal({"seconds": round(time.perf_counter() - started, 1), "skipped": skipped})
        finally:
            progress.close()
    logger.info("swept %d samples in %.0f s", total - done, time.perf_counter() - started)
    return shards


def _fill(
    plan: SweepPlan, handle: ModelHandle, data: Dataset, shards: ShardSet, missing: list[int], progress: Progress
) -> int:
    batch, n_skipped = plan.batch, 0
    wanted = [plan.samples[plan.bounds[i][0] : plan.bounds[i][1]] for i in missing]
    parts = [ids for shard in wanted for ids in _batches(shard, batch)]
    reader = _Reader(data, parts, pin=handle.device.type == "cuda")
    with reader:
        for i, ids in zip(missing, wanted, strict=True):
            rows = _Rows(len(ids))
            for part in _batches(ids, batch):
                x, read, skipped = reader.next()
                for one in skipped:
                    logger.warning("left out of the sweep: %s", one)
                at = np.searchsorted(ids, read)
                _run_split(plan, handle, x, data, read, at, rows)
                progress.step(len(part), note=f"{rows.n_failed + len(skipped)} left out" if skipped else "")
            n_skipped += len(ids) - int(rows.is_valid.sum())
            shards.write(i, rows.arrays(ids), {"skipped": [int(s) for s in ids[~rows.is_valid.numpy()]]})
    return n_skipped


def _run_split(
    plan: SweepPlan, handle: ModelHandle, x: Tensor, data: Dataset, read: list[int], at: np.ndarray, rows: _Rows
) -> None:
    """Run a batch; where memory runs out or an output is not finite, run its halves."""
    if len(x) == 0:
        return
    try:
        _run_batch(plan, handle, x, data, read, at, rows)
        return
    except NotFiniteError as error:
        if len(x) == 1:
            logger.warning('left out of the sweep: sample %d ("%s"): %s', read[0], data.keys[read[0]], error.message)
            rows.n_failed += 1
            return
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(x) == 1:
            raise OutOfBudgetError(
                "A single sample does not fit into memory.", hint="Use smaller inputs, fewer layers or another device."
            ) from error
        logger.warning("out of memory at %d samples: going on with %d", len(x), len(x) // 2)
    if handle.device.type == "cuda":
        torch.cuda.empty_cache()
    half = (len(x) + 1) // 2
    _run_split(plan, handle, x[:half], data, read[:half], at[:half], rows)
    _run_split(plan, handle, x[half:], data, read[half:], at[half:], rows)


def _run_batch(
    plan: SweepPlan, handle: ModelHandle, x: Tensor, data: Dataset, read: list[int], at: np.ndarray, rows: _Rows
) -> None:
    table, found = handle.layers, {}

    def see(name: str, output: Tensor) -> None:
        layer = table[name]
        largest, mean, peak = pool_activations(layer, output)
        found[f"{name}|max"], found[f"{name}|mean"], found[f"{name}|peak"] = largest, mean, peak
        if plan.rule is not None:
            output.register_hook(lambda r: found.__setitem__(f"{name}|relevance", pool_relevance(layer, r)))

    x = handle.put(x)
    if plan.rule is None:
        with torch.no_grad(), record(handle.module, plan.layers, see), handle.edited():
            output = handle.logits(handle.module(x))
        if not bool(torch.isfinite(output).all()):
            raise NotFiniteError("The model's output is not finite.")
    else:
        with ruled_forward(handle, x, rule=plan.rule, layers=plan.layers, see=see) as graph:
            start = plan.target.start(graph.output, labels=data.labels[read])
            (relevance,) = torch.autograd.grad(graph.output, graph.x, start.seed)
        output = graph.output.detach()
        found["target"], found["score"] = start.index, start.score
        found["relevance_sum"] = relevance.flatten(1).sum(1)
        for name in plan.layers:  # a layer beside the path of the target has no relevance
            found.setdefault(f"{name}|relevance", torch.zeros_like(found[f"{name}|max"]))
    if output.ndim == 2:
        found["output"] = output.float()
    rows.put(at, found)


class _Rows:
    """The rows of one shard, filled batch by batch; rows never filled hold NaN."""

    def __init__(self, n: int):
        self.is_valid = torch.zeros(n, dtype=torch.bool)
        self.n_failed = 0
        self._arrays: dict[str, Tensor] = {}

    def put(self, at: np.ndarray, found: dict[str, Tensor]) -> None:
        """Write values computed for the rows `at`."""
        where = torch.from_numpy(np.asarray(at))
        for name, value in found.items():
            if name not in self._arrays:
                fill = float("nan") if value.dtype.is_floating_point else -1
                self._arrays[name] = torch.full((len(self.is_valid), *value.shape[1:]), fill, dtype=value.dtype)
            self._arrays[name][where] = value.detach().cpu()
        self.is_valid[where] = True

    def arrays(self, ids: np.ndarray) -> dict[str, Tensor]:
        """All arrays, with the columns of sample ids and of valid rows."""
        return {**self._arrays, "sample": torch.from_numpy(ids.copy()), "is_valid": self.is_valid}


class _Reader:
    """Reads the next batch in another thread while the model works on this one."""

    def __init__(self, data: Dataset, parts: list[np.ndarray], *, pin: bool = False):
        self.data, self.parts, self.pin = data, parts, pin
        self._ready: queue.Queue[Any] = queue.Queue(maxsize=2)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="workbench-reader", daemon=True)

    def __enter__(self) -> _Reader:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        while self._thread.is_alive():
            try:
                self._ready.get_nowait()
            except queue.Empty:
                self._thread.join(0.02)

    def next(self) -> tuple[Tensor, list[int], list[Any]]:
        """The next batch, as `Dataset.batch` gives it."""
        item = self._ready.get()
        if isinstance(item, BaseException):
            raise item
        return item

    def _work(self) -> None:
        for ids in self.parts:
            if self._stop.is_set():
                return
            try:
                x, read, skipped = self.data.batch(ids.tolist())
                item: Any = (x.pin_memory() if self.pin and len(x) else x), read, skipped
            except BaseException as error:  # handed to the sweep's own thread, which raises it
                item = error
            self._ready.put(item)


def _batches(ids: np.ndarray, size: int) -> Iterator[np.ndarray]:
    for first in range(0, len(ids), size):
        yield ids[first : first + size]


def _check_unchanged(plan: SweepPlan, data: Dataset) -> None:
    if data.fingerprint.digest not in plan.recipe.data:
        raise StaleError("The data set changed after the sweep was planned.", hint="Open the session anew.")
