"""Sweeps, and the tables that are read from them: activations, relevances, references, class statistics."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from workbench.core import check
from workbench.core.errors import BadValueError
from workbench.core.results import ActivationTable, ReferenceSet
from workbench.session.reading import DEFAULT_RULE, Reading
from workbench.sweeps.held import StoredLayer, pass_coverage, stored_layers
from workbench.sweeps.index import reference_index
from workbench.sweeps.kept import CandidatePass, KeptIndex, keep_references, kept_recipe, remove_candidates
from workbench.sweeps.plan import SweepPlan, measured, plan_sweep
from workbench.sweeps.references import KEPT_REFERENCES, REFERENCES_VERSION, class_statistics
from workbench.sweeps.run import run_sweep
from workbench.sweeps.tables import Pass, activation_table, relevance_table

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.core.progress import Progress

__all__ = ["DEFAULT_RULE", "KEPT_REFERENCES", "REFERENCES_VERSION", "Tables"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Tables(Reading):
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
