"""A small data set and a context without a session: what tests of sweeps and of methods run on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from workbench.core import check
from workbench.core.errors import UnknownLayerError, nearest
from workbench.core.progress import Progress, SilentProgress
from workbench.core.results import ActivationTable, ReferenceSet
from workbench.data.base import Dataset
from workbench.data.transforms import Transform
from workbench.sweeps.references import Block, top_references

if TYPE_CHECKING:
    from workbench.core.results import Attribution

__all__ = ["FakeContext", "HeldCheckpoint", "SmallData", "sweep_small"]


class SmallData(Dataset):
    """Random pictures of (10, 8) pixels, each a function of the seed and its number.

    Parameters
    ----------
    n : int
    n_views : int
        Views per original picture; they differ.
    n_classes : int
        Labels take turns; the last sample has none.
    bad : iterable of int
        Samples that cannot be read.
    order : sequence of int, optional
        The same pictures in another order.
    transform : Transform or callable, optional
    """

    def __init__(
        self,
        n: int = 37,
        *,
        n_views: int = 1,
        n_classes: int = 3,
        seed: int = 0,
        bad: Iterable[int] = (),
        order: Sequence[int] | None = None,
        transform: Any = None,
    ):
        self._order = list(range(n)) if order is None else list(order)
        self._seed, self._bad = seed, frozenset(bad)
        labels = np.array([i % n_classes if i < n - 1 else -1 for i in self._order])
        super().__init__(
            "small",
            keys=[f"{i:04d}.png" for i in self._order],
            labels=labels,
            origins=np.array(self._order) // n_views,
            classes=[f"class {i}" for i in range(n_classes)],
            transform=Transform(size=(10, 8), mean=(0.5,), std=(0.25,)) if transform is None else transform,
        )

    def _read(self, i: int, least: tuple[int, int] | None) -> Image.Image:
        if i in self._bad:
            raise OSError("image file is truncated")
        rng = np.random.default_rng([self._seed, self._order[i]])
        return Image.fromarray(rng.integers(0, 256, (10, 8, 3), dtype=np.uint8))

    def _identity(self) -> Iterable[str]:
        yield f"{self._seed} {sorted(self._bad)}"
        yield from self.keys


class HeldCheckpoint:
    """A checkpoint in memory; `saves` counts how often it was written."""

    def __init__(self) -> None:
        self._kept: tuple[dict[str, Any], dict[str, Any]] | None = None
        self.saves = 0

    def load(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """What was saved last."""
        return self._kept

    def save(self, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Keep copies."""
        self._kept, self.saves = ({k: np.array(v) for k, v in arrays.items()}, dict(facts)), self.saves + 1

    def drop(self) -> None:
        """Forget them."""
        self._kept = None


class FakeContext:
    """What a method may ask of the world, answered from arrays that the test gives.

    Parameters
    ----------
    activations : mapping of layer to (sample, component) array
    relevances : mapping of layer to (sample, component) array, optional
    target : (sample,) int array, optional
        Output that was explained for each sample; zeros if not given.
    origins : (sample,) int array, optional
    is_valid : (sample,) bool array, optional
        Samples that could be read.
    classes : sequence of str
    labels : (sample,) int array, optional
        Classes of the samples; unknown if not given.
    tags : mapping of name to ids, optional
    """

    def __init__(
        self,
        activations: dict[str, Any],
        relevances: dict[str, Any] | None = None,
        *,
        target: Any = None,
        origins: Any = None,
        is_valid: Any = None,
        classes: Sequence[str] = (),
        labels: Any = None,
        tags: dict[str, Sequence[int]] | None = None,
    ):
        self._activations = {k: torch.as_tensor(np.asarray(v, np.float32)) for k, v in activations.items()}
        self._relevances = {k: torch.as_tensor(np.asarray(v, np.float32)) for k, v in (relevances or {}).items()}
        n = len(next(iter(self._activations.values())))
        self._target = torch.zeros(n, dtype=torch.int64) if target is None else torch.as_tensor(target)
        self._valid = torch.ones(n, dtype=torch.bool) if is_valid is None else torch.as_tensor(is_valid)
        self._classes = tuple(classes)
        held = {name: tuple(ids) for name, ids in (tags or {}).items()}
        self.data = SimpleNamespace(
            origins=np.arange(n) if origins is None else np.asarray(origins),
            name="fake",
            labels=np.full(n, -1) if labels is None else np.asarray(labels),
            classes=self._classes,
            tag=lambda name: held[check.known("tag", name, held)],
            tagged=lambda: held,
        )
        self.model = SimpleNamespace(n_classes=max(len(classes), int(self._target.max()) + 1))
        self.store: Any = None
        self._checkpoint = HeldCheckpoint()
        self.asked: list[str] = []

    @property
    def progress(self) -> Progress:
        """A silent one."""
        return SilentProgress()

    def activations(self, layer: str, *, pooling: str = "max") -> ActivationTable:
        """The activations that were given."""
        self.asked.append("activations")
        return self._table(layer, "activation", pooling, self._activations)

    def pooled(self, layer: str, samples: Any = None, *, pooling: str = "max") -> tuple[np.ndarray, np.ndarray]:
        """The activations that were given, whatever the pooling."""
        values = np.asarray(self.activations(layer, pooling=pooling).values)
        ids = np.arange(len(values)) if samples is None else np.asarray(samples)
        ids = ids[np.asarray(self._valid)[ids]]
        return ids, values[ids]

    def relevances(self, layer: str, *, target: Any = None, rule: Any = None) -> ActivationTable:
        """The relevances that were given."""
        self.asked.append("relevances")
        return self._table(layer, "relevance", "sum", self._relevances)

    def references(self, layer: str, by: str = "activation", k: int = 20, per_origin: int = 1) -> ReferenceSet:
        """References chosen from the tables that were given."""
        self.asked.append("references")
        table = self.activations(layer) if by == "activation" else self.relevances(layer)
        n, origins = len(table), self.data.origins
        ids, values = top_references(
            [Block(table.values, torch.arange(n), self._valid)], origins, min(k, n), per_origin=per_origin
        )
        return ReferenceSet(
            layer, "unit", by, ids, values, (ids >= 0).sum(1), n, len(np.unique(origins)), per_origin, recipe="f" * 32
        )

    def explain(
        self, sample: Any = None, target: Any = None, *, given: Sequence[str] = (), record: Sequence[str] = ()
    ) -> Attribution:
        """Not available here."""
        raise NotImplementedError("a FakeContext has no model to explain")

    def class_names(self) -> tuple[str, ...]:
        """Names of the outputs."""
        return self._classes

    def checkpoint(self, method: Any) -> HeldCheckpoint:
        """Kept in memory, one for all methods."""
        return self._checkpoint

    def _table(self, layer: str, quantity: str, pooling: str, tables: dict[str, torch.Tensor]) -> ActivationTable:
        if layer not in tables:
            raise UnknownLayerError(f'No layer "{layer}" in fake.', hint=nearest(layer, tables))
        values = torch.where(self._valid[:, None], tables[layer], float("nan"))
        return ActivationTable(layer, "unit", quantity, pooling, values, self._valid, target=self._target)


def sweep_small(
    path: str, n: int, *, seconds_per_batch: float = 0.0, started: Any = None, keep: str = "tables"
) -> None:
    """Sweep a small network over `SmallData`, for tests that kill the process which does it.

    Parameters
    ----------
    path : str
        Folder of the store.
    n : int
        Samples.
    seconds_per_batch : float
        Wait so long after each batch.
    started : multiprocessing event, optional
        Set when the sweep begins.
    keep : {"tables", "references"}
    """
    import time

    from workbench.attribution.base import Target
    from workbench.attribution.rules import composite
    from workbench.store import Store
    from workbench.sweeps.kept import keep_references
    from workbench.sweeps.plan import plan_sweep
    from workbench.sweeps.run import run_sweep
    from workbench.testing.nets import BiasFree, handle_of, randomised

    class Slow(SilentProgress):
        def report(self) -> None:
            time.sleep(seconds_per_batch)

    torch.set_num_threads(1)
    handle, data, store = handle_of(randomised(BiasFree()), (3, 10, 8)), SmallData(n, bad=[3, 200]), Store.open(path)
    rule, target = composite("EpsilonPlusFlat"), Target.top()
    plan = plan_sweep(handle, data, ["features.4", "head"], rule=rule, target=target, keep=keep)
    if started is not None:
        started.set()
    run = keep_references if keep == "references" else run_sweep
    run(plan, handle, data, store, progress=Slow())
