"""What the store holds of each layer, by a quick look: no array is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.core.errors import StoreError
from workbench.store.recipe import Recipe
from workbench.sweeps.kept import kept_recipe
from workbench.sweeps.plan import keep_facts, rule_facts
from workbench.sweeps.tables import table_recipe

if TYPE_CHECKING:
    from workbench.attribution.base import Target
    from workbench.models.layers import LayerTable
    from workbench.store.base import Store

__all__ = ["StoredLayer", "pass_coverage", "stored_layers"]


@dataclass(frozen=True)
class StoredLayer:
    """What is stored of one layer, and over which share of the data, 0 to 1.

    Attributes
    ----------
    activations, relevances : float
        Tables of pooled values.
    references : float
        Best samples of each component: those that go with a table, or those that a sweep kept alone.
    bytes : int
        On disk, about: what its passes fill, in proportion to its components.
    is_unfinished : bool
        Whether a sweep of it was begun and has not ended.
    """

    activations: float = 0.0
    relevances: float = 0.0
    references: float = 0.0
    bytes: int = 0
    is_unfinished: bool = False

    @property
    def coverage(self) -> float:
        """Share of the data that something is stored of."""
        return max(self.activations, self.relevances, self.references)


@dataclass(frozen=True)
class _Found:
    """What one pass or entry covers, looked at once for all its layers."""

    digest: str
    coverage: float
    is_complete: bool
    bytes: int


class _Look:
    """A look at a store that asks each thing once: many layers share links and passes."""

    def __init__(self, store: Store, layers: LayerTable, n_data: int):
        self.store, self.layers, self.n_data = store, layers, n_data
        self._links: dict[str, Recipe | None] = {}
        self._found: dict[str, _Found | None] = {}
        self._members: dict[str, frozenset[str]] = {}
        self._sizes: dict[str, int] = {}

    def resolve(self, recipe: Recipe) -> Recipe | None:
        if recipe.digest not in self._links:
            self._links[recipe.digest] = self.store.resolve(recipe)
        return self._links[recipe.digest]

    def holds(self, recipe: Recipe, layer: str) -> bool:
        if recipe.digest not in self._members:
            self._members[recipe.digest] = frozenset(recipe.params["layers"])
        return layer in self._members[recipe.digest]

    def found(self, recipe: Recipe) -> _Found | None:
        if recipe.digest not in self._found:
            try:
                self._found[recipe.digest] = self._seen(recipe)
            except StoreError:  # damaged, or removed by another process meanwhile
                self._found[recipe.digest] = None
        return self._found[recipe.digest]

    def _seen(self, recipe: Recipe) -> _Found | None:
        if recipe.kind != "pass":
            entry = self.store.entry(recipe)
            samples = recipe.params["samples"]
            coverage = 1.0 if samples == "all" else samples[0] / self.n_data
            return None if entry is None else _Found(recipe.digest, coverage, True, entry.bytes)
        shards = self.store.shards(recipe)
        coverage = shards.coverage * shards.n_samples / self.n_data
        return _Found(recipe.digest, coverage, shards.is_complete, shards.bytes)

    def part(self, recipe: Recipe, layer: str, n_bytes: int) -> int:
        """Bytes of a pass that are a layer's."""
        if recipe.digest not in self._sizes:
            known = [self.layers[name].n_components for name in recipe.params["layers"] if name in self.layers]
            self._sizes[recipe.digest] = max(1, sum(known))
        return round(n_bytes * self.layers[layer].n_components / self._sizes[recipe.digest])


def stored_layers(
    store: Store, model: Any, data: Any, n_data: int, layers: LayerTable, *, rule: Any, target: Target
) -> dict[str, StoredLayer]:
    """What is stored of each usable layer, as tables and references would be read; see `find_pass`, `find_kept`.

    Parameters
    ----------
    model, data : fingerprints
    n_data : int
        Length of the data set.
    rule, target
        Of relevances.
    """
    look = _Look(store, layers, n_data)
    kinds = {"activations": {}, "relevances": rule_facts(rule, target)}
    facts = {
        (kind, keep, subset): {**kinds[kind], **keep_facts(keep), "samples": subset}
        for kind in kinds
        for keep in ("tables", "references")
        for subset in ("all", "last subset")
    }
    recipes = {key: table_recipe(key[0], model, data, "", one) for key, one in facts.items()}
    shared = {key: look.resolve(recipe) for key, recipe in recipes.items()}
    names = [name for name, layer in layers.items() if layer.n_calls == 1]
    # Layers have links of their own only where a second pass took the place of the first: few, if any.
    own_links = {kind: store.linked_layers(recipes[kind, "tables", "all"]) for kind in kinds}

    def best(kind: str, keep: str, layer: str) -> tuple[Recipe, _Found] | None:
        chosen: tuple[Recipe, _Found] | None = None
        for subset in ("all", "last subset"):
            linked = own_links[kind]
            has_own = linked is None or layer in linked
            own = look.resolve(table_recipe(kind, model, data, layer, facts[kind, keep, subset])) if has_own else None
            for recipe in (shared[kind, keep, subset], own):
                found = look.found(recipe) if recipe is not None and look.holds(recipe, layer) else None
                if found is not None and (chosen is None or found.coverage > chosen[1].coverage):
                    chosen = recipe, found  # type: ignore[assignment]
        return chosen

    made = {}
    for name in names:
        tables = {kind: best(kind, "tables", name) for kind in kinds}
        kept = {kind: best(kind, "references", name) for kind in kinds}
        all_found = {one[1].digest: one for one in [*tables.values(), *kept.values()] if one is not None}
        share = {kind: 0.0 if one is None else one[1].coverage for kind, one in tables.items()}
        made[name] = StoredLayer(
            activations=share["activations"],
            relevances=share["relevances"],
            references=max([*share.values(), *(one[1].coverage for one in kept.values() if one is not None)]),
            bytes=sum(look.part(recipe, name, found.bytes) for recipe, found in all_found.values()),
            is_unfinished=any(not found.is_complete for _, found in all_found.values()),
        )
    return made


def pass_coverage(store: Store, recipe: Recipe, bounds: Sequence[tuple[int, int]]) -> float:
    """Share of a planned pass that is in the store, 0 to 1; also where it was begun otherwise, 0."""
    if kept_recipe(recipe) in store:
        return 1.0
    if recipe not in store:
        return 0.0
    try:
        return store.shards(recipe, list(bounds)).coverage
    except StoreError:
        return 0.0
