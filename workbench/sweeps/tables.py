"""Tables of one layer, read from the pass that holds them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from workbench.attribution.base import Target
from workbench.attribution.crp import rule_name
from workbench.core import check
from workbench.core.errors import IncompleteError
from workbench.core.results import ActivationTable
from workbench.store.recipe import Recipe
from workbench.sweeps.plan import RESULT_VERSION, SweepPlan, rule_facts, subset_facts

if TYPE_CHECKING:
    from workbench.models.layers import Layer
    from workbench.store.base import Store
    from workbench.store.shardset import ShardSet

__all__ = ["Pass", "activation_table", "find_pass", "link_tables", "relevance_table", "table_recipe"]


class Pass:
    """A finished or unfinished pass over the data, as tables are read from it.

    Attributes
    ----------
    shards : ShardSet
    n_data : int
        Length of the data set.
    """

    def __init__(self, shards: ShardSet, n_data: int):
        self.shards, self.n_data = shards, n_data

    @property
    def samples(self) -> Tensor:
        """(row,) int64: the sample in each row; -1 in rows of shards that are missing."""
        return self.shards.column("sample", fill=-1)

    @property
    def coverage(self) -> float:
        """Share of the data set that is covered."""
        return self.shards.coverage * self.shards.n_samples / self.n_data

    @property
    def extent(self) -> Any:
        """What is covered, for recipes of what is made from it: ``"all"``, or which samples and shards."""
        present = self.shards.present
        is_whole = len(present) == len(self.shards)
        if is_whole and self.shards.n_samples == self.n_data:
            return "all"
        return [self.shards.recipe.params["samples"], "all" if is_whole else present]

    def whole(self, name: str) -> Tensor:
        """One column for the whole data set, NaN (or -1, False) where the pass has nothing."""
        column = self.shards.column(name)
        if self.shards.n_samples == self.n_data:
            return column
        fill = float("nan") if column.dtype.is_floating_point else False if column.dtype == torch.bool else -1
        whole = torch.full((self.n_data, *column.shape[1:]), fill, dtype=column.dtype)
        rows = self.samples
        whole[rows[rows >= 0]] = column[rows >= 0]
        return whole

    def blocks(self, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
        """The named arrays shard by shard, with `sample` and `is_valid`; no more than one shard is in memory."""
        for i in self.shards.present:
            yield self.shards.read(i, [*names, "sample", "is_valid"])


def table_recipe(kind: str, model: Any, data: Any, layer: str, params: dict[str, Any]) -> Recipe:
    """The recipe under which the table of one layer is looked up."""
    return Recipe(kind=kind, model=model, data=data, layer=layer, params=params, result_version=RESULT_VERSION)


def link_tables(store: Store, plan: SweepPlan) -> None:
    """Let each layer's tables point to the pass that holds them; also the last subset where there is no full one.

    A pass that is still being filled does not take the place of a complete one.
    """
    r = plan.recipe
    is_complete = store.shards(r, list(plan.bounds)).is_complete
    subset = subset_facts(plan.samples, plan.n_data)
    choices = [subset] + ([{"samples": "last subset"}] if plan.is_subset else [])
    for layer in plan.layers:
        for chosen in choices:
            tables = [table_recipe("activations", r.model, r.data, layer, chosen)]
            if plan.rule is not None:
                facts = {**rule_facts(plan.rule, plan.target), **chosen}
                tables.append(table_recipe("relevances", r.model, r.data, layer, facts))
            for table in tables:
                known = None if is_complete else store.resolve(table)
                if known is None or not store.shards(known).is_complete:
                    store.link(table, r)


def find_pass(
    store: Store, kind: str, model: Any, data: Any, n_data: int, layer: str, *, rule: Any = None, target: Any = None,
    samples: np.ndarray | None = None,
) -> Pass | None:  # fmt: skip
    """The pass that holds a layer's table.

    Over the samples asked for; else over all, if it is complete; else the one over all or over the last subset that
    covers more.
    """
    facts = rule_facts(rule, Target.parse(target or Target.top())) if kind == "relevances" else {}
    choices = (
        [subset_facts(samples, n_data)] if samples is not None else [{"samples": "all"}, {"samples": "last subset"}]
    )
    best: Pass | None = None
    for chosen in choices:
        recipe = store.resolve(table_recipe(kind, model, data, layer, {**facts, **chosen}))
        if recipe is None:
            continue
        found = Pass(store.shards(recipe), n_data)
        if not found.shards.present:
            continue
        if found.coverage >= 1:
            return found
        if best is None or found.coverage > best.coverage:
            best = found
    return best


def activation_table(found: Pass, layer: Layer, pooling: str = "max") -> ActivationTable:
    """Pooled activations of one layer.

    Parameters
    ----------
    pooling : {"max", "mean"}
    """
    check.one_of("pooling", pooling, ("max", "mean"))
    return ActivationTable(
        layer=layer.name,
        basis="unit",
        quantity="activation",
        pooling=pooling,
        values=found.whole(f"{layer.name}|{pooling}"),
        is_valid=found.whole("is_valid"),
        peak=found.whole(f"{layer.name}|peak"),
        shape=layer.position_shape,
        coverage=found.coverage,
        recipe=found.shards.recipe.digest,
    )


def relevance_table(found: Pass, layer: Layer, *, rule: Any, target: Any) -> ActivationTable:
    """Relevances of one layer, summed over positions."""
    names = found.shards.names
    if f"{layer.name}|relevance" not in names:
        raise IncompleteError(f'The pass holds no relevances of "{layer.name}".', hint="Sweep with relevance=True.")
    return ActivationTable(
        layer=layer.name,
        basis="unit",
        quantity="relevance",
        pooling="sum",
        values=found.whole(f"{layer.name}|relevance"),
        is_valid=found.whole("is_valid"),
        peak=found.whole(f"{layer.name}|peak"),
        shape=layer.position_shape,
        target=found.whole("target"),
        target_text=str(target),
        rule=rule_name(rule),
        coverage=found.coverage,
        recipe=found.shards.recipe.digest,
    )
