"""What a sweep will do, before it starts: layers, samples, shards, and what it costs."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.attribution.base import Target
from workbench.attribution.crp import rule_name
from workbench.attribution.rules import Composite
from workbench.attribution.zennit_text import zennit_digest
from workbench.core import check
from workbench.core.errors import BadValueError, DataError, UnknownSampleError
from workbench.core.labels import explainable
from workbench.core.sampling import evenly
from workbench.core.words import count
from workbench.store.recipe import Recipe
from workbench.sweeps.reader import reading_threads
from workbench.sweeps.references import KEPT_REFERENCES, REFERENCES_VERSION

if TYPE_CHECKING:
    from workbench.data.base import Dataset
    from workbench.models.handle import ModelHandle

__all__ = [
    "KEEPS",
    "RESULT_VERSION",
    "SweepPlan",
    "chosen_samples",
    "keep_facts",
    "label_facts",
    "measured",
    "plan_sweep",
    "rule_facts",
    "subset_facts",
]

RESULT_VERSION = 1
"""Raised whenever a sweep's numbers change."""

KEEPS = ("tables", "references")
"""What a sweep may keep: pooled values of every sample, or the references that are chosen from them alone."""

_SHARD_BYTES = 64_000_000
_SHARD_SAMPLES = 128
_CANDIDATE_SHARDS = 64


@dataclass(frozen=True, eq=False, repr=False)
class SweepPlan:
    """A sweep, fully described and not yet run.

    Attributes
    ----------
    layers : tuple of str
        In the order in which they run.
    samples : (sample,) int64 array
        Sample ids, ascending.
    n_data : int
        Length of the data set.
    rule : Composite, zennit composite or None
        None: activations alone.
    target : Target
    batch : int
        Samples per pass; halved when memory runs out.
    bounds : tuple of (start, stop)
        Shards, as positions in `samples`.
    recipe : Recipe
        Of the whole pass.
    row_bytes : int
        Stored bytes per sample.
    keep : {"tables", "references"}
    n_held : int
        Samples whose pooled values are in memory at once.
    fixed_bytes : int
        Stored bytes beside those of the samples.
    passing_bytes : int
        Bytes that are stored on the way and removed at the end.
    memory_bytes : int
        Expected memory for the model, its activations and one shard.
    n_unnamed : int
        Samples that are left out because their label, which is the target, names no output.
    seconds_per_sample : float or None
        Estimated from a forward pass by `measured`; None before.
    """

    layers: tuple[str, ...]
    samples: np.ndarray
    n_data: int
    rule: Any
    target: Target
    batch: int
    bounds: tuple[tuple[int, int], ...]
    recipe: Recipe
    row_bytes: int
    memory_bytes: int
    keep: str = "tables"
    n_held: int = 0
    fixed_bytes: int = 0
    passing_bytes: int = 0
    n_unnamed: int = 0
    seconds_per_sample: float | None = None

    @property
    def is_subset(self) -> bool:
        """Whether the sweep leaves out a part of the data."""
        return len(self.samples) < self.n_data

    @property
    def kinds(self) -> tuple[str, ...]:
        """The quantities that it answers for: activation, relevance.

        Where the target may name nothing in a sample, activations are of those samples alone that have it, and must not
        pass for those of the data.
        """
        if self.rule is None:
            return ("activation",)
        return ("relevance",) if self.target.may_be_absent or self.n_unnamed else ("activation", "relevance")

    @property
    def disk_bytes(self) -> int:
        """Expected bytes on disk, in the end."""
        return self.row_bytes * len(self.samples) + self.fixed_bytes

    @property
    def cost(self) -> str:
        """Expected time, disk and memory, in words."""
        seconds = self.seconds_per_sample
        time_text = "" if seconds is None else f"about {_duration(seconds * len(self.samples))}, "
        passing = f" (and {_megabytes(self.passing_bytes)} until it ends)" if self.passing_bytes else ""
        return (
            f"{time_text}{_megabytes(self.disk_bytes)} on disk{passing}, "
            f"{_megabytes(self.memory_bytes)} of memory at batch {self.batch}"
        )

    def __repr__(self) -> str:
        return f"<sweep: {self}>"

    def __str__(self) -> str:
        what = " and ".join(f"{kind}s" for kind in self.kinds)
        what = what if self.rule is None else f"{what} ({rule_name(self.rule)}, {self.target})"
        what = f"references by {what}" if self.keep == "references" else what
        what += f", without {count(self.n_unnamed, 'sample')} whose label names no output" if self.n_unnamed else ""
        part = f" of {self.n_data}" if self.is_subset else ""
        return f"{what} of {count(len(self.layers), 'layer')} over {len(self.samples)}{part} samples: {self.cost}"


def plan_sweep(
    handle: ModelHandle,
    data: Dataset,
    layers: Iterable[str],
    *,
    rule: Any,
    target: Target,
    samples: Any = None,
    batch: int | None = None,
    keep: str = "tables",
) -> SweepPlan:
    """Plan a sweep, without running the model.

    Parameters
    ----------
    layers : names
    rule : Composite, zennit composite or None
    target : Target
        What relevances explain.
    samples : None, int, slice, or sequence of int
        None is all; a number is that many, spread evenly over the data set.
    batch : int, optional
        Samples per pass. Default: 16 on a CPU, 64 on a GPU.
    keep : {"tables", "references"}

    Raises
    ------
    UnknownLayerError, UnknownSampleError, BadValueError
    """
    wanted = list(layers) if isinstance(layers, Iterable) and not isinstance(layers, str) else [layers]
    if not wanted:
        raise BadValueError("A sweep needs at least one layer.", hint="`session.layers()` lists them.")
    table = handle.layers
    names = tuple(sorted({table.usable(name).name for name in wanted}, key=lambda name: table[name].order))
    ids = chosen_samples(samples, len(data))
    target = target.resolved(handle)
    n_unnamed = 0
    if rule is not None and target.kind == "label":
        n_unnamed = int((explainable(data.labels[ids], data.classes, handle.classes, handle.n_classes) < 0).sum())
        if n_unnamed == len(ids):
            raise BadValueError(
                f"None of the {len(ids)} labels of {data.name} names an output of {handle.card.name}, so there is "
                "nothing to explain for the target label.",
                hint='Use target="top".',
            )
    batch = check.positive("batch", batch) if batch is not None else (16 if handle.device.type == "cpu" else 64)
    batch = min(batch, len(ids))
    n_components = sum(table[name].n_components for name in names)
    n_values = n_components * (4 if rule is not None else 3)
    full_bytes = 4 * n_values + 4 * handle.n_classes + 32
    n_held = max(1, _SHARD_BYTES // full_bytes)
    params = {
        "layers": list(names),
        "pooling": ["max", "mean", "peak"],
        "canonizers": ["fold_batch_norm"],
        **rule_facts(rule, target),
        **subset_facts(ids, len(data)),
        **keep_facts(check.one_of("keep", keep, KEEPS)),
    }
    n_slots = n_components * KEPT_REFERENCES
    slot_bytes = 4 + 2 + (1 if len(ids) < 255 else 2 if len(ids) < 1 << 15 else 4)
    index_bytes = slot_bytes * n_slots * (1 if rule is None else 2)
    what, row_bytes, passing_bytes = "sweep", full_bytes, 0
    if keep == "references":
        bounds = _cut(len(ids), max(_SHARD_SAMPLES, -(-len(ids) // _CANDIDATE_SHARDS)))
        what, row_bytes = "references", 21
        passing_bytes = len(bounds) * (index_bytes + 4 * n_slots)
    else:
        bounds = _shards(len(ids), full_bytes)
    n_outputs = sum(int(np.prod(one.shape)) for one in table.values() if one.is_leaf)
    activation_bytes = n_outputs * handle.dtype.itemsize
    sources: dict[str, Any] = {"model": handle.fingerprint, "data": data.fingerprint}
    return SweepPlan(
        layers=names,
        samples=ids,
        n_data=len(data),
        rule=rule,
        target=target,
        batch=batch,
        bounds=bounds,
        recipe=Recipe(
            kind="pass",
            **sources,
            params=params,
            precision=str(handle.dtype).removeprefix("torch."),
            result_version=RESULT_VERSION,
            title=f"{what} of {count(len(names), 'layer')} of {handle.card.name} over {data.name}",
        ),
        row_bytes=row_bytes,
        memory_bytes=handle.size_bytes * (3 if rule is not None else 1)
        + activation_bytes * batch * (3 if rule is not None else 1)
        + min(_SHARD_BYTES, full_bytes * len(ids))
        + 6 * index_bytes,
        keep=keep,
        n_held=min(n_held, len(ids)),
        fixed_bytes=index_bytes,
        passing_bytes=passing_bytes,
        n_unnamed=n_unnamed,
    )


def measured(plan: SweepPlan, handle: ModelHandle, data: Dataset | None = None) -> SweepPlan:
    """The plan with its expected time, from a forward pass and a few pictures that are timed once per handle."""
    if "measured" not in handle.kept:
        x = handle.example(4)
        handle(x).cpu()
        started = time.perf_counter()
        handle(x).cpu()  # what a device was given is done when its result is there
        handle.kept["measured"] = (time.perf_counter() - started) / len(x)
    seconds = handle.kept["measured"] * (3.5 if plan.rule is not None else 1.1)
    if data is not None:
        key = f"reading {data.fingerprint.digest}"
        if key not in handle.kept:
            handle.kept[key] = _reading_time(data, plan.samples)
        seconds += handle.kept[key] / reading_threads(handle, data)
    return replace(plan, seconds_per_sample=seconds)


def _reading_time(data: Dataset, samples: np.ndarray) -> float:
    """Seconds that one input takes to be read; those that cannot be read are none of our business here."""
    chosen = samples[evenly(len(samples), 4)]
    started = time.perf_counter()
    for sample in chosen.tolist():
        with suppress(DataError):
            data.tensor(sample)
    return (time.perf_counter() - started) / len(chosen)


def rule_facts(rule: Any, target: Target) -> dict[str, Any]:
    """What a recipe says of rule and target; empty for activations alone."""
    if rule is None:
        return {"relevance": None}
    described = rule.describe() if isinstance(rule, Composite) else {"zennit": zennit_digest(rule)}
    return {"relevance": {"rule": described, "target": str(target), "sums": "norm", "pooling": "sum",
                          **label_facts(target)}}  # fmt: skip


def label_facts(target: Target) -> dict[str, Any]:
    """What a recipe says of how labels name outputs; empty for other targets.

    The names of the data's classes are part of its fingerprint; those of the outputs are not part of the model's.
    """
    return {"outputs": list(target.args)} if target.kind == "label" else {}


def keep_facts(keep: str) -> dict[str, Any]:
    """What a recipe says of what is kept; empty for tables."""
    if keep == "tables":
        return {}
    return {"keep": {"references": KEPT_REFERENCES, "per_origin": 1, "version": REFERENCES_VERSION}}


def subset_facts(ids: np.ndarray, n_data: int) -> dict[str, Any]:
    """What a recipe says of the samples: their number, and for subsets a digest of the ids."""
    if len(ids) == n_data:
        return {"samples": "all"}
    return {"samples": [len(ids), hashlib.blake2b(ids.astype("<i8").tobytes(), digest_size=8).hexdigest()]}


def chosen_samples(samples: Any, n: int) -> np.ndarray:
    """Sample ids from None, a number, a slice or ids; ascending and without repetition."""
    if samples is None:
        return np.arange(n, dtype=np.int64)
    if isinstance(samples, slice):
        ids = np.arange(n, dtype=np.int64)[samples]
    elif isinstance(samples, (int, np.integer)) and not isinstance(samples, bool):
        ids = evenly(n, check.positive("samples", int(samples)))
    else:
        ids = _ids(samples, n)
    if len(ids) == 0:
        raise BadValueError("A sweep needs at least one sample.")
    if ids[0] < 0 or ids[-1] >= n:
        bad = int(ids[0] if ids[0] < 0 else ids[-1])
        raise UnknownSampleError(f"No sample {bad}: the data set has {n}, from 0.")
    return ids


def _ids(samples: Any, n: int) -> np.ndarray:
    """Ids from a sequence of ids, or from one truth value per sample."""
    try:
        ids = np.asarray(samples if hasattr(samples, "__array__") else list(samples))
    except (TypeError, ValueError):
        ids = np.zeros(1)  # no whole number either
    if ids.dtype == bool and ids.shape == (n,):
        ids = np.flatnonzero(ids)
    if ids.ndim != 1 or not (np.issubdtype(ids.dtype, np.integer) or len(ids) == 0):
        raise BadValueError(
            f"`samples` must be a number, a slice, ids, or a truth value for each of the {n} samples; got {samples!r}."
        )
    return np.unique(ids.astype(np.int64))


def _shards(n: int, row_bytes: int) -> tuple[tuple[int, int], ...]:
    """Shards that hold bounded memory: more for larger data, never larger than a fixed number of bytes."""
    most = max(1, _SHARD_BYTES // row_bytes)
    return _cut(n, min(most, max(_SHARD_SAMPLES, min(1024, -(-n // 256)))))


def _cut(n: int, size: int) -> tuple[tuple[int, int], ...]:
    """Shards of about `size` samples: a multiple of sixteen, where there are as many."""
    size = max(16, size // 16 * 16) if size >= 16 else size
    return tuple((a, min(a + size, n)) for a in range(0, n, size))


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _megabytes(n_bytes: int) -> str:
    return f"{n_bytes / 1e6:.0f} MB" if n_bytes >= 1e6 else f"{n_bytes / 1e6:.1g} MB"
