"""Tables of one layer, read from the pass that holds them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor

from workbench.attribution.base import Target
from workbench.attribution.crp import rule_name
from workbench.core import check
from workbench.core.errors import IncompleteError
from workbench.core.results import ActivationTable
from workbench.store.recipe import Recipe
from workbench.sweeps.plan import RESULT_VERSION, SweepPlan, keep_facts, rule_facts, subset_facts

if TYPE_CHECKING:
    from workbench.models.layers import Layer
    from workbench.store.base import Store
    from workbench.store.shardset import ShardSet

__all__ = [
    "Pass",
    "activation_table",
    "find_pass",
    "link_tables",
    "linked_recipes",
    "relevance_table",
    "spread",
    "table_recipe",
    "widest",
]


class _Covers(Protocol):
    @property
    def coverage(self) -> float: ...


C = TypeVar("C", bound=_Covers)


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
    def digest(self) -> str:
        """Of its recipe."""
        return self.shards.recipe.digest

    @property
    def is_complete(self) -> bool:
        """Whether every shard is there."""
        return self.shards.is_complete

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
        rows = self.samples
        return spread(column[rows >= 0], rows[rows >= 0], self.n_data)

    def blocks(self, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
        """The named arrays shard by shard, with `sample` and `is_valid`; no more than one shard is in memory."""
        for i in self.shards.present:
            yield self.shards.read(i, [*names, "sample", "is_valid"])


def table_recipe(kind: str, model: Any, data: Any, layer: str, params: dict[str, Any]) -> Recipe:
    """The recipe under which the table of one layer is looked up; without a layer, those of all layers of a pass."""
    return Recipe(kind=kind, model=model, data=data, layer=layer, params=params, result_version=RESULT_VERSION)


def spread(column: Tensor, samples: Tensor, n: int) -> Tensor:
    """A column for the whole data set from that of some samples: NaN, -1 or False for the others."""
    fill = float("nan") if column.dtype.is_floating_point else False if column.dtype == torch.bool else -1
    whole = torch.full((n, *column.shape[1:]), fill, dtype=column.dtype)
    whole[samples] = column
    return whole


def link_tables(store: Store, plan: SweepPlan, *, to: Recipe | None = None) -> None:
    """Let the tables of a plan's layers point to the pass that holds them; also the last subset, where it is one.

    A pass that is still being filled does not take the place of a complete one. What a sweep that keeps references
    alone leaves goes by links of its own; they lead to the entry `to` once it is there.
    """
    new = plan.recipe if to is None else to
    is_complete = to is not None or store.shards(new, list(plan.bounds)).is_complete
    subset, kept = subset_facts(plan.samples, plan.n_data), keep_facts(plan.keep)
    for chosen in [subset] + ([{"samples": "last subset"}] if plan.is_subset else []):
        for kind in plan.kinds:
            facts = rule_facts(plan.rule, plan.target) if kind == "relevance" else {}
            _link(store, new, f"{kind}s", {**facts, **chosen, **kept}, is_complete)


def _is_complete(store: Store, recipe: Recipe) -> bool:
    return recipe.kind != "pass" or store.shards(recipe).is_complete


def _link(store: Store, new: Recipe, kind: str, facts: dict[str, Any], is_complete: bool) -> None:
    """One link serves all layers of a pass; layers have links of their own where a second pass takes its place."""

    def table(layer: str = "") -> Recipe:
        return table_recipe(kind, new.model, new.data, layer, facts)

    def may_replace(old: Recipe | None) -> bool:
        return old is None or is_complete or not _is_complete(store, old)

    old = store.resolve(table())
    layers, held = new.params["layers"], [] if old is None else old.params["layers"]
    if not may_replace(old):
        for layer in layers:
            if layer not in held and may_replace(store.resolve(table(layer))):
                store.link(table(layer), new)
        return
    if old is not None:
        for layer in held:
            own = None if layer in layers else store.resolve(table(layer))
            if layer not in layers and (own is None or not _is_complete(store, own)):
                store.link(table(layer), old)
    store.link(table(), new)


def find_pass(
    store: Store, kind: str, model: Any, data: Any, n_data: int, layer: str, *, rule: Any = None, target: Any = None,
    samples: np.ndarray | None = None,
) -> Pass | None:  # fmt: skip
    """The pass that holds a layer's table.

    Over the samples asked for; else over all, if it is complete; else the one over all or over the last subset that
    covers more.
    """
    recipes = linked_recipes(store, kind, model, data, n_data, layer, rule=rule, target=target, samples=samples)
    return widest(Pass(store.shards(recipe), n_data) for recipe in recipes)


def linked_recipes(
    store: Store, kind: str, model: Any, data: Any, n_data: int, layer: str, *, rule: Any = None, target: Any = None,
    samples: np.ndarray | None = None, keep: str = "tables",
) -> Iterator[Recipe]:  # fmt: skip
    """Where links of a layer lead to, the whole data set first; see `find_pass`."""
    facts = rule_facts(rule, Target.parse(target or Target.top())) if kind == "relevances" else {}
    facts |= keep_facts(keep)
    choices = (
        [subset_facts(samples, n_data)] if samples is not None else [{"samples": "all"}, {"samples": "last subset"}]
    )
    for chosen in choices:
        for linked in ("", layer):
            recipe = store.resolve(table_recipe(kind, model, data, linked, {**facts, **chosen}))
            if recipe is not None and layer in recipe.params["layers"]:
                yield recipe


def widest(found: Iterable[C]) -> C | None:
    """The first that covers all of the data, else the one that covers most; None if none covers anything."""
    best: C | None = None
    for one in found:
        if one.coverage >= 1:
            return one
        if one.coverage > (0 if best is None else best.coverage):
            best = one
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
