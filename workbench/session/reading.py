"""How tables and references are found in the store and read: swept first if need be, and again where damaged."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from workbench.attribution.base import Target
from workbench.attribution.crp import rule_of
from workbench.core.errors import DamagedEntryError, IncompleteError, NotSweptError
from workbench.core.results import ReferenceSet
from workbench.core.unasked import longest_unasked
from workbench.core.words import count
from workbench.session.base import SessionBase
from workbench.sweeps.index import from_arrays, reference_index
from workbench.sweeps.kept import CandidatePass, KeptIndex, find_kept
from workbench.sweeps.plan import SweepPlan, rule_facts
from workbench.sweeps.references import KEPT_REFERENCES, REFERENCES_VERSION, Candidates
from workbench.sweeps.tables import Pass, find_pass

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.core.progress import Progress
    from workbench.store.recipe import Recipe

__all__ = ["DEFAULT_RULE", "Reading"]

logger = logging.getLogger(__name__)

DEFAULT_RULE = "EpsilonPlusFlat"

T = TypeVar("T")


class Reading(SessionBase):
    """The part of a session that reads what sweeps left; expects `sweep`. See `Tables`."""

    if TYPE_CHECKING:

        def sweep(
            self,
            layers: Any,
            *,
            relevance: bool = True,
            target: Any = None,
            rule: Any = None,
            samples: Any = None,
            batch: int | None = None,
            keep: str = "tables",
            progress: Progress | None = None,
        ) -> SweepPlan:
            """Walk the data."""

        def plan(
            self,
            layers: Any,
            *,
            relevance: bool = True,
            target: Any = None,
            rule: Any = None,
            samples: Any = None,
            batch: int | None = None,
            keep: str = "tables",
        ) -> SweepPlan:
            """What a sweep would do and cost."""

    def _rule_and_target(self, rule: Any, target: Any) -> tuple[Any, Target]:
        goal = Target.parse(target or Target.top()).resolved(self.model)
        goal.check(self.model.output_shape)
        return rule_of(rule or DEFAULT_RULE), goal

    def _find(
        self, kind: str, layer: str, rule: Any = None, target: Any = None, samples: np.ndarray | None = None
    ) -> Pass | None:
        return find_pass(
            self.store, kind, self.model.fingerprint, self.data.fingerprint, len(self.data), layer,
            rule=rule_of(rule or DEFAULT_RULE), target=target or Target.top(), samples=samples,
        )  # fmt: skip

    def _find_kept(
        self, kind: str, layer: str, rule: Any = None, target: Any = None, samples: np.ndarray | None = None
    ) -> KeptIndex | CandidatePass | None:
        return find_kept(
            self.store, kind, self.model.fingerprint, self.data.fingerprint, len(self.data), layer,
            rule=rule_of(rule or DEFAULT_RULE), target=target or Target.top(), samples=samples,
        )  # fmt: skip

    def _kept_instead(
        self, kind: str, layer: str, per_origin: int, k: int, rule: Any, target: Target
    ) -> KeptIndex | CandidatePass | None:
        """What a sweep that keeps references alone left, where that answers better than tables do."""
        self.model.layers.usable(layer)
        tables = self._find(kind, layer, rule, target)
        if tables is not None and tables.coverage >= 1:
            return None
        kept = self._find_kept(kind, layer, rule, target)
        if kept is None:
            return None
        origins = self.data.origins
        is_held = k <= KEPT_REFERENCES and (per_origin == 1 or len(np.unique(origins)) == len(origins))
        if tables is not None and (not is_held or tables.coverage >= kept.coverage):
            return None
        if not is_held:
            asked = f"{k} of each component" if k > KEPT_REFERENCES else f"per_origin={per_origin}"
            raise IncompleteError(
                f'The sweep of "{layer}" kept the {KEPT_REFERENCES} best references with one view per original alone, '
                f"and {asked} are asked for.",
                hint=f'Run session.sweep("{layer}") to have tables, which answer this.',
            )
        return kept

    def _found(self, kind: str, layer: str, rule: Any = None, target: Any = None) -> Pass:
        """The pass that holds a table; swept now if there is none."""
        self.model.layers.usable(layer)
        found = self._find(kind, layer, rule, target)
        if found is None and self._find_kept(kind, layer, rule, target) is not None:
            raise IncompleteError(
                f'The sweep of "{layer}" kept references alone, not its {kind}.',
                hint=f'Run session.sweep("{layer}"), which keeps tables.',
            )
        if found is None:
            wanted = {"layers": layer, "relevance": kind == "relevances", "rule": rule, "target": target}
            self._ask_first(kind, wanted)
            logger.info("%s of %s are not in the store: sweeping", kind, layer)
            self.sweep(**wanted)
            found = self._find(kind, layer, rule, target)
        if found is None:
            raise IncompleteError(f'No {kind} of "{layer}" are in the store.', hint=f'Run session.sweep("{layer}").')
        if not found.shards.is_complete:
            logger.info("%s of %s cover %.0f %% of the data; a sweep goes on", kind, layer, 100 * found.coverage)
        return found

    def _ask_first(self, kind: str, wanted: dict[str, Any]) -> None:
        """Refuse to sweep what takes long, where nobody asked for it."""
        longest = longest_unasked()
        if longest is None:
            return
        planned = self.plan(**wanted)
        seconds = (planned.seconds_per_sample or 0.0) * len(planned.samples)
        if seconds > longest:
            layer = wanted["layers"]
            raise NotSweptError(
                f'The {kind} of "{layer}" are not in the store, and a sweep of {count(len(planned.samples), "sample")} '
                f"takes long: {planned.cost}.",
                hint=f'Start it, or run session.sweep(["{layer}"]); set WORKBENCH_ASK_S to be asked later or sooner.',
                sweep=wanted, cost=planned.cost,
            )  # fmt: skip

    def _read(self, kind: str, layer: str, read: Callable[[Pass], T], rule: Any = None, target: Any = None) -> T:
        """Read something from a pass; a damaged shard is swept again first."""
        found = self._found(kind, layer, rule, target)
        try:
            return read(found)
        except DamagedEntryError as error:
            is_read_only = getattr(self.store, "read_only", False)
            if is_read_only or not found.shards.missing:  # what is damaged is set aside by asking
                raise
            self._sweep_again(error, found.shards.recipe, layer, rule, target)
            return read(self._found(kind, layer, rule, target))

    def _read_kept(
        self,
        found: KeptIndex | CandidatePass,
        kind: str,
        layer: str,
        read: Callable[[Pass | KeptIndex], T],
        rule: Any,
        target: Target,
    ) -> T:
        """Read something from a sweep that keeps references alone; what is damaged is swept again first."""
        try:
            try:
                return read(found)
            except IncompleteError:  # it ended meanwhile, and its shards became an entry
                return read(self._find_kept(kind, layer, rule, target) or found)
        except DamagedEntryError as error:
            if getattr(self.store, "read_only", False):
                raise
            self._sweep_again(error, found.recipe, layer, rule, target, keep="references")
            again = self._find_kept(kind, layer, rule, target)
            if again is None:
                raise
            return read(again)

    def _sweep_again(
        self, error: DamagedEntryError, recipe: Recipe, layer: str, rule: Any, target: Any, keep: str = "tables"
    ) -> None:
        """Sweep what a damaged result was made from: all its layers, where it is known what was asked for."""
        logger.warning("%s It is swept again.", error.message)
        facts, own = recipe.params, rule_facts(*self._rule_and_target(rule, target))["relevance"]
        is_known = facts["samples"] == "all" and facts["relevance"] in (None, own)
        layers, relevance = (facts["layers"], facts["relevance"] is not None) if is_known else ([layer], True)
        self.sweep(layers, relevance=relevance, rule=rule, target=target, keep=keep)

    def _references(
        self, found: Pass | KeptIndex, layer: str, by: str, per_origin: int, k: int, rule: Any, target: Target
    ) -> ReferenceSet:
        if isinstance(found, (KeptIndex, CandidatePass)):
            made, digest = found.references(layer, by, self.data.origins), found.digest
        else:
            made, digest = self._kept_references(found, layer, by, per_origin, k)
        ids = made.ids[:, :k]
        valid = found.whole("is_valid")
        return ReferenceSet(
            layer=layer,
            basis="unit",
            by=by,
            ids=ids,
            values=made.values[:, :k],
            n_valid=(ids >= 0).sum(1),
            n_samples=int(valid.sum()),
            n_origins=len(np.unique(self.data.origins[valid.numpy()])),
            per_origin=per_origin,
            peak=None if made.peak is None else made.peak[:, :k],
            shape=self.model.layers.usable(layer).position_shape,
            target=_joined(found.whole("target"), ids) if by == "relevance" else None,
            target_text=str(target) if by == "relevance" else "",
            coverage=found.coverage,
            recipe=digest,
        )

    def _kept_references(self, found: Pass, layer: str, by: str, per_origin: int, k: int) -> tuple[Candidates, str]:
        """References and the digest of their recipe: those that the sweep kept, or made now."""
        own = self._index_recipe(found, layer=layer, by=by, per_origin=per_origin, k=max(k, KEPT_REFERENCES))
        of_sweep = [self._index_recipe(found)] if per_origin == 1 and k <= KEPT_REFERENCES else []
        for recipe in (*of_sweep, own):
            kept = self._index_of(recipe, layer, by)
            if kept is not None:
                return kept, recipe.digest
        made = self.store.get_or_make(
            own,
            lambda: reference_index(
                found, [layer], [by], self.data.origins, max(k, KEPT_REFERENCES), per_origin=per_origin,
                device=self.model.device,
            ),
        )  # fmt: skip
        return from_arrays(made, layer, by), own.digest

    def _index_of(self, recipe: Recipe, layer: str, by: str) -> Candidates | None:
        """What a stored index holds of a layer; one that cannot be read is dropped: tables can make it again."""
        try:
            arrays = self.store.get(recipe)
            if arrays is None or f"{layer}|{by}|ids" not in arrays:
                return None
            return from_arrays(arrays, layer, by)
        except DamagedEntryError as error:
            if getattr(self.store, "read_only", False):
                raise
            logger.warning("%s It is made again from the tables.", error.message)
            self.store.delete(recipe)
            return None

    def _index_recipe(
        self, found: Pass, *, layer: str = "", by: str = "", per_origin: int = 1, k: int = KEPT_REFERENCES
    ) -> Recipe:
        """The recipe of references read from a pass: of one layer and kind, or of all that the pass holds."""
        chosen = {"by": by} if by else {}
        n_layers = len(found.shards.recipe.params["layers"])
        return self._recipe(
            "references",
            layer=layer,
            params={**chosen, "k": k, "per_origin": per_origin, "pass": found.shards.recipe.digest,
                    "extent": found.extent},
            result_version=REFERENCES_VERSION,
            title=f"references of {layer} by {by}" if layer else f"references of {count(n_layers, 'layer')}",
        )  # fmt: skip


def _joined(column: Tensor, ids: Tensor) -> Tensor:
    """What a column with one number per sample says of each reference; -1 in empty slots."""
    return torch.where(ids >= 0, column[ids.clamp(min=0)], -1)
