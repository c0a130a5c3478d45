"""Auditing: what deserves a human look, and what was decided about it."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import check
from workbench.core.errors import BadValueError, IncompleteError, MissingPackageError, NotFiniteError
from workbench.core.findings import KINDS, Finding, Findings, checked
from workbench.core.progress import Progress
from workbench.methods.columns import named
from workbench.methods.neighbours import exact_neighbours
from workbench.methods.reveal import suspect_components, suspects
from workbench.session.decisions import Decision, DecisionBook, decide, undo
from workbench.session.samples import Samples

if TYPE_CHECKING:
    from workbench.methods.neighbours import Neighbours

__all__ = ["Auditing"]

_LEAST_OF_CLASS = 20
_NEIGHBOURS = 30
_REFERENCES = 12


class Auditing(Samples):
    """The part of a session that makes findings and keeps decisions. See `Session`."""

    if TYPE_CHECKING:
        fit: Any
        _recipe_of: Any

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self.decisions = DecisionBook(self.store, self._journal_names)

    def findings(
        self,
        layer: str = "",
        *,
        kinds: Iterable[str] = (),
        classes: Iterable[int | str] | None = None,
        n: int = 50,
        progress: Progress | None = None,
    ) -> Findings:
        """Look for samples and components that deserve a human look, and say why.

        Parameters
        ----------
        layer : str, optional
            Whose activations and relevances are looked at; swept first if need be. Default: the last layer below the
            output that is stored, and then nothing is swept: what its tables do not allow is left out and said.
        kinds : iterable of str, optional
            Some of ``group``, ``outlier``, ``direction``, ``label``, ``duplicate``, ``redundant``, ``unclear`` and
            ``silent``. Default: all.
        classes : iterable of int or str, optional
            Outputs whose decisions are grouped. Default: all that are taken for at least 20 samples.
        n : int
            At most so many findings of each kind.

        Returns
        -------
        Findings
            By kind, the most suspicious first.

        Raises
        ------
        IncompleteError
            If nothing is stored and no layer is named.
        """
        wanted = checked(tuple(kinds)) or tuple(KINDS)
        check.positive("n", n)
        is_named = bool(layer)
        layer = self.model.layers.usable(layer).name if layer else self._audited_layer()
        chosen = None if classes is None else list(classes)

        def look(progress: Progress | None = None) -> Findings:
            return self._look(layer, wanted, chosen, n, is_named, progress or self.progress)

        return self._run_shown(look, progress=progress)

    def decide(
        self,
        finding: Finding,
        verdict: str,
        *,
        new: str | None = None,
        who: str = "",
        note: str = "",
    ) -> Decision:
        """Keep a verdict on a finding. Samples of accepted ones get a tag, components a label.

        Parameters
        ----------
        finding : Finding
        verdict : {"accepted", "rejected", "unsure"}
        new : str, optional
            What is put in place: of a doubtful label the right one, of other samples the tag that they get, of a
            component its label. Default: what the finding proposes for samples, nothing for components; an empty text
            changes nothing. Labels of samples stay as the data set has them: `decisions.labels()` has the corrections,
            and the samples get the tag ``wrong label``.
        who : str
            The reviewer.
        note : str

        Raises
        ------
        ReadOnlyStoreError
            If the store may not be written; then nothing is changed.
        """
        return decide(self, finding, verdict, new=new, who=who, note=note)

    def undo_decision(self, who: str = "", *, decision: str | None = None) -> Decision | None:
        """Take back the last decision of a reviewer, or one by its id, with the tags that it gave; None if none."""
        return undo(self, who, decision=decision)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _audited_layer(self) -> str:
        stored, n = self.stored(), self.model.n_classes
        fit = [
            name for name in self.model.layers
            if name in stored and stored[name].activations > 0 and 1 < self.model.layers[name].n_components != n
        ]  # fmt: skip
        if not fit:
            raise IncompleteError(
                "No layer is stored that findings could be made from.",
                hint="Name one, which is swept then: s.findings(layer). `s.layers()` lists all.",
            )
        return fit[-1]

    def _look(
        self, layer: str, kinds: Sequence[str], classes: list[int | str] | None, n: int, sweeps: bool,
        progress: Progress,
    ) -> Findings:  # fmt: skip
        found: list[Finding] = []
        left: list[str] = []
        steps: list[tuple[tuple[str, ...], Any]] = [
            (("group", "outlier"), lambda own: self._of_decisions(layer, own, classes, n, sweeps, left, progress)),
            (("direction",), lambda own: self._of_directions(n)),
            (("label", "duplicate"), lambda own: self._of_samples(layer, own, n, left)),
            (("redundant", "unclear", "silent"), lambda own: self._of_components(layer, own, n, left)),
        ]
        for names, make in steps:
            if own := [kind for kind in names if kind in kinds]:
                progress.start(f"findings at {layer}: {', '.join(own)}", 1)  # until a part of it counts for itself
                try:
                    found += make(own)
                except (IncompleteError, MissingPackageError, NotFiniteError) as error:
                    left.append(f"{', '.join(own)}: {error}")
        order = list(KINDS)
        kept = [one for kind in order for one in [f for f in found if f.kind == kind][:n]]
        return Findings(tuple(kept), layer, tuple(left), weakref.ref(self))

    def _of_decisions(
        self, layer: str, kinds: Sequence[str], classes: list[int | str] | None, n: int, sweeps: bool,
        left: list[str], progress: Progress,
    ) -> list[Finding]:  # fmt: skip
        from workbench.methods.reveal.spray import Spray, class_index

        if not sweeps and self._find("relevances", layer) is None:
            left.append(f"{', '.join(kinds)}: no relevances of {layer} are stored. Run s.sweep([{layer!r}]).")
            return []
        table = self.relevances(layer)
        target: Any = table.target
        sizes = np.bincount(np.asarray(target)[np.asarray(table.is_valid)], minlength=self.model.n_classes)
        if classes is None:
            asked = np.flatnonzero(sizes >= _LEAST_OF_CLASS).tolist()
            few = int(((sizes > 0) & (sizes < _LEAST_OF_CLASS)).sum())
            if few:
                left.append(f"{', '.join(kinds)}: {few} classes are taken for fewer than {_LEAST_OF_CLASS} samples.")
        else:
            asked = [class_index(one, self.class_names(), self.model.n_classes) for one in classes]
        found: list[Finding] = []
        values = np.asarray(table.values)
        for index in asked:
            progress.step(0)  # where a cancellation is noticed
            method = Spray(index, layer, layout="pca")
            try:
                method = self.fit(method)
            except BadValueError as error:
                left.append(f"{', '.join(kinds)}: {error}")
                continue
            name, recipe = self.model.class_name(index), self._recipe_of(method).digest
            if "group" in kinds:
                found += suspects.group_findings(method.map_, name, layer, relevance=values, recipe=recipe)
            if "outlier" in kinds:
                found += suspects.outlier_findings(method.map_, name, layer, recipe=recipe)
        return sorted(found, key=lambda one: -one.score)

    def _of_directions(self, n: int) -> list[Finding]:
        found: list[Finding] = []
        labels, tagged = np.asarray(self.data.labels), self.data.tagged()
        for address, made in self.directions().items():
            table = self.project(address)
            for i, one in enumerate(made):
                found += suspects.direction_findings(one, np.asarray(table.values)[:, i], labels, tagged, n=n)
        return sorted(found, key=lambda one: -one.score)

    def _of_samples(self, layer: str, kinds: Sequence[str], n: int, left: list[str]) -> list[Finding]:
        table = self.activations(layer)
        ids = np.flatnonzero(np.asarray(table.is_valid))
        values = np.asarray(table.values)[ids]
        if len(ids) < 3:
            return []
        near = exact_neighbours(values, min(_NEIGHBOURS, len(ids) - 1), progress=self.progress)
        labels, origins = np.asarray(self.data.labels)[ids], np.asarray(self.data.origins)[ids]
        names, recipe, found = self.data.classes, table.recipe, []
        if "label" in kinds and (labels >= 0).any():
            outputs, head = self.label_outputs(ids), self._head()
            predicted = named(self._predictions()[ids], self.class_names()).tolist()

            def margin_of(rows: np.ndarray) -> np.ndarray:
                got, logits = self.pooled(head, ids[rows])
                place = {int(i): k for k, i in enumerate(got)}
                at = np.array([place.get(int(i), -1) for i in ids[rows]])
                return np.where(at >= 0, suspects.margins(logits[np.maximum(at, 0)], outputs[rows]), np.nan)

            found += suspects.label_findings(
                ids, near.ids, labels, origins, names, layer, margin_of=margin_of if head else None,
                predicted=predicted, n=n, recipe=recipe,
            )  # fmt: skip
        elif "label" in kinds:
            left.append("label: the data has no labels.")
        if "duplicate" in kinds:
            found += suspects.duplicate_findings(
                ids, near.ids, near.distance, origins, labels, names, layer,
                pictures_of=lambda wanted: self.thumbnails(wanted, 32), n=n, recipe=recipe,
            )  # fmt: skip
        return found

    def _of_components(self, layer: str, kinds: Sequence[str], n: int, left: list[str]) -> list[Finding]:
        table = self.activations(layer)
        values = np.asarray(table.values)[np.asarray(table.is_valid)]
        recipe = table.recipe
        references = np.asarray(self.references(layer, k=_REFERENCES).ids)
        found: list[Finding] = []
        if "redundant" in kinds and values.shape[1] > 1:
            near: Neighbours = exact_neighbours(values.T, min(8, values.shape[1] - 1), progress=self.progress)
            found += suspect_components.redundant_findings(
                layer, near.ids, near.distance, references, n=n, recipe=recipe
            )
        silent = suspect_components.silent_findings(layer, values, n=values.shape[1], recipe=recipe)
        if "unclear" in kinds:
            looks_at = self._last_layer(layer)
            last = self.activations(looks_at)
            looks = suspect_components.unit_rows(np.asarray(last.values), np.asarray(last.is_valid))
            skip = {one.subject for one in silent}
            usable = np.array([f"{layer}/unit/{i}" not in skip for i in range(len(references))])
            shown = np.where(usable[:, None], references, -1)
            found += suspect_components.unclear_findings(layer, looks, shown, looks_at, n=n, recipe=recipe)
        return found + (silent[:n] if "silent" in kinds else [])

    def _head(self) -> str:
        """The layer whose units are the outputs, among which one can be wrong; empty if there is none."""
        n = self.model.n_classes
        fit = [name for name, one in self.model.layers.items() if one.n_components == n]
        return fit[-1] if fit and n > 1 and not self.model.is_dense else ""
