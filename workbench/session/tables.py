"""Sweeps, and the tables that are read from them: activations, relevances, references, class statistics."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch

from workbench.attribution.base import Target
from workbench.attribution.crp import rule_of
from workbench.core import check
from workbench.core.errors import BadValueError, DamagedEntryError, IncompleteError
from workbench.core.results import ActivationTable, ReferenceSet
from workbench.core.words import count
from workbench.session.base import SessionBase
from workbench.sweeps.held import StoredLayer, pass_coverage, stored_layers
from workbench.sweeps.index import from_arrays, reference_index
from workbench.sweeps.kept import CandidatePass, KeptIndex, find_kept, keep_references, kept_recipe, remove_candidates
from workbench.sweeps.plan import SweepPlan, measured, plan_sweep, rule_facts
from workbench.sweeps.references import KEPT_REFERENCES, REFERENCES_VERSION, Candidates, class_statistics
from workbench.sweeps.run import run_sweep
from workbench.sweeps.tables import Pass, activation_table, find_pass, relevance_table

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.core.progress import Progress
    from workbench.store.recipe import Recipe

__all__ = ["DEFAULT_RULE", "KEPT_REFERENCES", "REFERENCES_VERSION", "Tables"]

logger = logging.getLogger(__name__)

DEFAULT_RULE = "EpsilonPlusFlat"

T = TypeVar("T")


class Tables(SessionBase):
    """The part of a session that sweeps the data and reads tables. See `Session`."""

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
        """What a sweep would do and cost; see `sweep`."""
        planned = self._planned(layers, relevance, target, rule, samples, batch, keep)
        return self.run(measured, planned, self.model, self.data)

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
        """Walk the data once and keep activations, relevances and references of the layers.

        What is in the store is not computed again; an interrupted sweep goes on where it stopped.

        Parameters
        ----------
        layers : str or sequence of str
        relevance : bool
            Also collect relevances.
        target : Target or str
            What relevances explain. Default: each sample's largest output. Samples without a box to explain are left
            out, with a count; activations, which are asked of all samples, are then swept by themselves.
        rule : str, Composite or zennit composite
            Default: ``EpsilonPlusFlat``.
        samples : int, slice or sequence of int, optional
            A part of the data: a number of samples spread evenly, or ids. Tables say how much they cover.
        batch : int, optional
            Samples per pass; halved when memory runs out.
        keep : {"tables", "references"}
            Tables hold pooled values of every sample, and all can be asked of them. References alone, the 40 best
            samples of each component with one view per original picture, fill a fixed number of bytes however large
            the data are: for big data on small disks. Then there are no `activations`, `relevances` nor
            `class_statistics` of these layers. Tables of them that are in the store already serve as well.
        progress : Progress, optional
            Default: a bar in notebooks and terminals, log lines elsewhere.

        Returns
        -------
        SweepPlan
            What was done.
        """
        planned = self._planned(layers, relevance, target, rule, samples, batch, keep)
        if self._has_all(planned):
            self._tidy(planned)
            return planned
        return self._run_shown(self._sweep, planned, progress=progress)

    def activations(self, layer: str, *, pooling: str = "max") -> ActivationTable:
        """Pooled activations of a layer, (sample, component); swept first if need be."""
        one = self.model.layers.usable(layer)
        return self._read("activations", layer, lambda found: activation_table(found, one, pooling))

    def relevances(self, layer: str, *, target: Any = None, rule: Any = None) -> ActivationTable:
        """Relevances of a layer summed over positions, (sample, component); swept first if need be."""
        chosen, goal = self._rule_and_target(rule, target)
        one = self.model.layers.usable(layer)
        return self._read(
            "relevances", layer, lambda found: relevance_table(found, one, rule=chosen, target=goal), chosen, goal
        )

    def references(
        self,
        layer: str,
        by: str = "activation",
        k: int = 20,
        per_origin: int = 1,
        *,
        target: Any = None,
        rule: Any = None,
    ) -> ReferenceSet:
        """The samples that activate each component most, or on which it is most relevant.

        Parameters
        ----------
        by : {"activation", "relevance"}
        k : int
            References per component; slots beyond the data are empty (sample -1, value -inf).
        per_origin : int
            Most views per original picture; 0 for no limit.

        Raises
        ------
        IncompleteError
            If the sweep kept references alone, and other or more ones than these are asked for.
        """
        check.one_of("by", by, ("activation", "relevance"))
        check.positive("k", k)
        if isinstance(per_origin, bool) or not isinstance(per_origin, int) or per_origin < 0:
            raise BadValueError(f"`per_origin` must be a whole number of at least 0; got {per_origin!r}.")
        chosen, goal = self._rule_and_target(rule, target)
        kind = "activations" if by == "activation" else "relevances"

        def read(found: Pass | KeptIndex) -> ReferenceSet:
            return self._references(found, layer, by, per_origin, k, chosen, goal)

        kept = self._kept_instead(kind, layer, per_origin, k, chosen, goal)
        if kept is None:
            return self._read(kind, layer, read, chosen, goal)
        return self._read_kept(kept, kind, layer, read, chosen, goal)

    def class_statistics(self, layer: str, quantity: str = "relevance") -> tuple[Tensor, Tensor]:
        """Mean of a pooled quantity per class, and the number of samples of each.

        Relevances are grouped by the output that was explained, activations by the label of the data set. They are read
        from tables: a sweep that keeps references alone has none.

        Returns
        -------
        mean : (class_, component) tensor, NaN for classes without samples
        count : (class_,) tensor
        """
        check.one_of("quantity", quantity, ("activation", "relevance"))
        is_relevance = quantity == "relevance"
        kind, name = ("relevances", f"{layer}|relevance") if is_relevance else ("activations", f"{layer}|max")
        n = self.model.n_classes if is_relevance else int(self.data.labels.max()) + 1
        if n <= 0:
            raise BadValueError(
                f"{self.data.name} has no labels.", hint='Use quantity="relevance", grouped by prediction.'
            )
        labels = torch.from_numpy(self.data.labels)

        def read(found: Pass) -> tuple[Tensor, Tensor]:
            def classes(block: Mapping[str, Tensor]) -> Tensor:
                known = block["target"] if is_relevance else labels[block["sample"]]
                return torch.where(block["is_valid"], known, -1)

            blocks = found.blocks([name, *(["target"] if is_relevance else [])])
            return class_statistics(((block[name], classes(block)) for block in blocks), n)

        return self._read(kind, layer, read)

    def stored(self, *, target: Any = None, rule: Any = None) -> dict[str, StoredLayer]:
        """What is in the store of each usable layer, and over which share of the data; no array is read.

        Parameters
        ----------
        target, rule : optional
            Of relevances; default as in `sweep`.
        """
        chosen, goal = self._rule_and_target(rule, target)
        return stored_layers(
            self.store, self.model.fingerprint, self.data.fingerprint, len(self.data), self.model.layers,
            rule=chosen, target=goal,
        )  # fmt: skip

    def swept(self, planned: SweepPlan) -> float:
        """Share of a planned sweep that is in the store already, 0 to 1: the sweep goes on from there."""
        return 1.0 if self._has_all(planned) else pass_coverage(self.store, planned.recipe, planned.bounds)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _rule_and_target(self, rule: Any, target: Any) -> tuple[Any, Target]:
        goal = Target.parse(target or Target.top()).resolved(self.model)
        goal.check(self.model.output_shape)
        return rule_of(rule or DEFAULT_RULE), goal

    def _planned(
        self, layers: Any, relevance: bool, target: Any, rule: Any, samples: Any, batch: int | None, keep: str
    ) -> SweepPlan:
        chosen, goal = self._rule_and_target(rule, target)
        if relevance and isinstance(chosen, str):
            raise BadValueError(
                f"A sweep needs relevance rules; {chosen!r} is a gradient method.",
                hint='For example rule="EpsilonPlusFlat".',
            )
        return plan_sweep(
            self.model,
            self.data,
            layers,
            rule=chosen if relevance else None,
            target=goal,
            samples=samples,
            batch=batch,
            keep=keep,
        )

    def _sweep(self, planned: SweepPlan, progress: Progress | None = None) -> SweepPlan:
        planned = measured(planned, self.model, self.data)
        if planned.keep == "references":
            keep_references(planned, self.model, self.data, self.store, progress=progress)
            return planned
        found = Pass(run_sweep(planned, self.model, self.data, self.store, progress=progress), len(self.data))
        self.store.get_or_make(
            self._index_recipe(found),
            lambda: reference_index(
                found, planned.layers, planned.kinds, self.data.origins, KEPT_REFERENCES, device=self.model.device
            ),
        )
        return planned

    def _has_all(self, planned: SweepPlan) -> bool:
        """Whether the store holds what is asked for of every layer, over the same samples; tables serve for all."""
        is_intact: dict[str, bool] = {}

        def has(found: Pass | KeptIndex | CandidatePass | None) -> bool:
            if found is None:
                return False
            if found.digest not in is_intact:
                is_intact[found.digest] = found.is_complete
            return is_intact[found.digest]

        wanted = (planned.rule, planned.target, planned.samples)
        return all(
            has(self._find(f"{kind}s", layer, *wanted))
            or (planned.keep == "references" and has(self._find_kept(f"{kind}s", layer, *wanted)))
            for layer in planned.layers
            for kind in planned.kinds
        )

    def _tidy(self, planned: SweepPlan) -> None:
        """Remove what a sweep left behind that was killed at its very end."""
        if planned.keep == "references" and kept_recipe(planned.recipe) in self.store:
            remove_candidates(self.store, planned)

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
            logger.info("%s of %s are not in the store: sweeping", kind, layer)
            self.sweep(layer, relevance=kind == "relevances", rule=rule, target=target)
            found = self._find(kind, layer, rule, target)
        if found is None:
            raise IncompleteError(f'No {kind} of "{layer}" are in the store.', hint=f'Run session.sweep("{layer}").')
        if not found.shards.is_complete:
            logger.info("%s of %s cover %.0f %% of the data; a sweep goes on", kind, layer, 100 * found.coverage)
        return found

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
        if per_origin == 1 and k <= KEPT_REFERENCES:
            recipe = self._index_recipe(found)
            kept = self.store.get(recipe)
            if kept is not None and f"{layer}|{by}|ids" in kept:
                return from_arrays(kept, layer, by), recipe.digest
        recipe = self._index_recipe(found, layer=layer, by=by, per_origin=per_origin, k=max(k, KEPT_REFERENCES))
        made = self.store.get_or_make(
            recipe,
            lambda: reference_index(
                found,
                [layer],
                [by],
                self.data.origins,
                max(k, KEPT_REFERENCES),
                per_origin=per_origin,
                device=self.model.device,
            ),  # fmt: skip
        )
        return from_arrays(made, layer, by), recipe.digest

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
