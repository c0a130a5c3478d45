"""Sweeps that keep references alone: shards of candidates, merged at the end into one entry of the store.

The entry is put in place first, the links lead to it from then on, and only then the shards are removed. Killed at any
moment between, there is either a pass that goes on or an entry that is whole.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from workbench.core.errors import DamagedEntryError, StoreError
from workbench.core.progress import Progress
from workbench.store.recipe import Recipe
from workbench.sweeps.index import as_arrays, from_arrays, tops_of
from workbench.sweeps.narrow import narrow, widen
from workbench.sweeps.plan import SweepPlan
from workbench.sweeps.references import KEPT_REFERENCES, REFERENCES_VERSION, Candidates, TopReferences
from workbench.sweeps.run import run_sweep
from workbench.sweeps.tables import Pass, link_tables, linked_recipes, spread, widest

if TYPE_CHECKING:
    from workbench.data.base import Dataset
    from workbench.models.handle import ModelHandle
    from workbench.store.base import Store
    from workbench.store.shardset import ShardSet

__all__ = ["CandidatePass", "KeptIndex", "find_kept", "keep_references", "kept_recipe", "remove_candidates"]

logger = logging.getLogger(__name__)

_NUMBERS = ("sample", "target")
_COLUMNS = ("sample", "is_valid", "target", "score", "relevance_sum")


class KeptIndex:
    """The references of a finished sweep that kept nothing else.

    Attributes
    ----------
    recipe : Recipe
    n_data : int
        Length of the data set.
    """

    def __init__(self, store: Store, recipe: Recipe, n_data: int):
        self.store, self.recipe, self.n_data = store, recipe, n_data

    @cached_property
    def arrays(self) -> dict[str, Tensor]:
        """What is stored.

        Raises
        ------
        DamagedEntryError
            If it is not as it was written, or gone.
        """
        found = self.store.get(self.recipe)
        if found is None:
            raise DamagedEntryError(f"{self.recipe.describe()} is gone.", hint="Sweep again.")
        return found

    @property
    def is_complete(self) -> bool:
        """Whether it is there and intact."""
        with suppress(DamagedEntryError):
            return bool(self.arrays)
        return False

    @property
    def coverage(self) -> float:
        """Share of the data set that is covered."""
        samples = self.recipe.params["samples"]
        return 1.0 if samples == "all" else samples[0] / self.n_data

    @property
    def extent(self) -> Any:
        """What is covered, as `Pass.extent` has it."""
        samples = self.recipe.params["samples"]
        return "all" if samples == "all" else [samples, "all"]

    @property
    def digest(self) -> str:
        """Of the recipe of its references."""
        return self.recipe.digest

    def whole(self, name: str) -> Tensor:
        """One column for the whole data set, -1 (NaN, False) where the sweep has not been."""
        column = self.arrays[name]
        column = widen(column) if name in _NUMBERS else column
        return spread(column, widen(self.arrays["sample"]), self.n_data)

    def references(self, layer: str, kind: str, origins: np.ndarray) -> Candidates:
        """The references of one layer."""
        return from_arrays(self.arrays, layer, kind)


class CandidatePass(Pass):
    """An unfinished sweep that keeps references alone, as they are read from it meanwhile."""

    @property
    def is_complete(self) -> bool:
        """Never: what is complete is merged."""
        return False

    @property
    def recipe(self) -> Recipe:
        """Of the pass."""
        return self.shards.recipe

    @property
    def digest(self) -> str:
        """Of the recipe of its references so far."""
        return self.recipe.but(params={**self.recipe.params, "extent": self.extent}).digest

    def references(self, layer: str, kind: str, origins: np.ndarray) -> Candidates:
        """The references of one layer among the samples that were seen so far."""
        names = [f"{layer}|{kind}|{part}" for part in _parts(kind)]
        top = TopReferences(origins, KEPT_REFERENCES)
        for shard in self.blocks(names):
            top.merge(from_arrays(shard, layer, kind))
        return top.result()


def keep_references(
    plan: SweepPlan, handle: ModelHandle, data: Dataset, store: Store, *, progress: Progress | None = None
) -> KeptIndex:
    """Run a planned sweep that keeps references alone, or what is missing of it.

    Of each sample there remain its target, score and sum of relevance. Its outputs are not kept, nor are class
    statistics: a number per class and component would take more room than all references.

    Raises
    ------
    StaleError
        If the weights or the data changed since the session was opened.
    StoreFullError, ReadOnlyStoreError, CancelledError
    """
    recipe = kept_recipe(plan.recipe)

    def make() -> tuple[dict[str, Tensor], dict[str, Any]]:
        # Inside, so that another process which wants the same waits for it, and a damaged entry is made anew.
        shards = run_sweep(plan, handle, data, store, progress=progress)
        sealed = shards.sealed or {}
        return _merged(shards, plan, data.origins), {"n_samples": len(plan.samples), "plan": str(plan), **sealed}

    store.get_or_make(recipe, make)
    link_tables(store, plan, to=recipe)
    remove_candidates(store, plan)
    return KeptIndex(store, recipe, len(data))


def remove_candidates(store: Store, plan: SweepPlan) -> None:
    """Remove the shards of a sweep whose entry is there, also those that a kill left behind."""
    if plan.recipe not in store or getattr(store, "read_only", False):
        return
    try:
        store.delete(plan.recipe)
    except StoreError as error:  # another process is at it
        logger.info("the shards of %s stay for now: %s", plan.recipe.describe(), error.message)


def kept_recipe(of: Recipe) -> Recipe:
    """The recipe of the entry into which a pass of candidates is merged."""
    return of.but(kind="references", result_version=REFERENCES_VERSION)


def find_kept(
    store: Store, kind: str, model: Any, data: Any, n_data: int, layer: str, *, rule: Any = None, target: Any = None,
    samples: np.ndarray | None = None,
) -> KeptIndex | CandidatePass | None:  # fmt: skip
    """What a sweep that keeps references alone left of a layer; which of several, as `find_pass` has it."""
    recipes = linked_recipes(
        store, kind, model, data, n_data, layer, rule=rule, target=target, samples=samples, keep="references"
    )

    def opened(recipe: Recipe) -> KeptIndex | CandidatePass:
        if recipe.kind == "pass":
            return CandidatePass(store.shards(recipe), n_data)
        return KeptIndex(store, recipe, n_data)

    return widest(opened(recipe) for recipe in recipes)


def _merged(shards: ShardSet, plan: SweepPlan, origins: np.ndarray) -> dict[str, Tensor]:
    """One entry from all shards, each read once; what is in memory does not depend on their number."""
    tops = tops_of(plan.layers, plan.kinds, origins, KEPT_REFERENCES)
    columns: dict[str, list[Tensor]] = {}
    for i in range(len(shards)):
        shard = shards.read(i)
        for one, top in tops.items():
            top.merge(from_arrays(shard, *one))
        for name in _COLUMNS:
            if name in shard:
                columns.setdefault(name, []).append(shard[name].clone())  # a copy, so that the shard can be closed
    made: dict[str, Tensor] = {}
    for one, top in tops.items():
        made |= as_arrays(top.result(), *one)
    for name, parts in columns.items():
        column = torch.cat(parts)
        made[name] = narrow(column) if name in _NUMBERS else column
    return made


def _parts(kind: str) -> Sequence[str]:
    return ("ids", "values", "peak", "second") if kind == "activation" else ("ids", "values", "peak")
