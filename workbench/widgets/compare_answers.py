"""What the comparison of models shows, asked of the session and made ready for the page; run on the widget's lanes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from workbench.core.comparisons import KINDS, Comparison, Differences
from workbench.core.corrections import Reevaluation
from workbench.core.errors import BadValueError, WorkbenchError
from workbench.core.ids import ComponentId
from workbench.widgets import wire

__all__ = ["CompareAnswers", "facts_of", "report_of"]

TOP = 5
_LISTED = {"lost": 48, "gained": 48, "other": 48, "same": 24}
_CLASSES = 50
_THUMB = 64


def facts_of(name: str, other: Any, base: Any, *, is_open: bool = True) -> dict[str, Any]:
    """A variant as the page names it: what its edits are in words, and what to be warned of."""
    changes = list(other.changes())
    digest = str(other.digests().get("model", ""))
    warnings = []
    if not is_open:
        warnings.append("It is closed: what is shown was computed before.")
    if digest.rpartition("@")[2] == str(base.digests().get("model", "")).rpartition("@")[2]:
        warnings.append("It has the weights and the edits of the base, so nothing can differ.")
    return {"name": name, "changes": changes, "digest": digest, "warnings": warnings, "is_open": is_open}


class CompareAnswers:
    """Payloads of the comparison, each with what it belongs to."""

    def __init__(self, session: Any):
        self.session = session

    def layers(self, other: Any) -> list[str]:
        """Layers whose components both models have."""
        theirs = other.layers()
        return [
            str(name)
            for name, layer in self.session.layers().items()
            if layer.n_calls == 1 and layer.n_components > 1
            and name in theirs and theirs[name].n_components == layer.n_components
        ]  # fmt: skip

    def outputs(self, other: Any, sample: int, target: str) -> tuple[dict[str, Any], Comparison]:
        """The leading outputs under both, that which changed most first."""
        found = self.session.compare(other, sample, maps=False)
        table = found.to_frame(min(TOP, len(found.before)))
        first, second = found.decisions
        named = self._followed(found, target)
        if named is not None and named not in table.index:
            table = found.to_frame().loc[[*table.index, named]]
        rows = [
            {
                "index": int(index),
                "name": str(row["name"]),
                **{key: wire.finite(row[key]) for key in ("before", "after", "change")},
                **{key: wire.finite(row[key]) for key in ("probability_before", "probability_after")},
                "rank_before": int(row["rank_before"]),
                "rank_after": int(row["rank_after"]),
            }
            for index, row in table.iterrows()
        ]
        made = {
            "sample": sample,
            "target": target,
            "index": -1 if named is None else named,
            "n": len(found.before),
            "kind": found.kind if found.has_decision else "",
            "decisions": [found.said(first), found.said(second)] if found.has_decision else [],
            "label": found.said(found.label) if found.has_decision else "",
            "summary": found.summary(),
            "rows": rows,
        }
        return made, found

    def _followed(self, found: Comparison, target: str) -> int | None:
        """The output that a target names, as the base has it."""
        kind, _, number = target.partition(":")
        if kind == "logit" and number.isdecimal() and int(number) < len(found.before):
            return int(number)
        if kind == "label":
            return found.label if found.label >= 0 else None
        return int(found.before.argmax()) if kind == "top" else None

    def maps(self, other: Any, sample: int, target: str, layer: str, n: int) -> tuple[dict[str, Any], Comparison]:
        """Both maps, their difference, and the components of a layer whose relevance changed most."""
        found = self.session.compare(other, sample, target=target, record=(layer,) if layer and n else ())
        assert found.attributions is not None
        before, after = found.attributions
        heats = [np.asarray(one.heatmap[0], dtype=np.float32) for one in (before, after)]
        signed = [wire.signed_map(heat) for heat in heats]
        made = {
            "sample": sample,
            "target": target,
            "layer": layer,
            "name": before.labels[0] if before.labels else "",
            "target_text": before.target_text,
            "rule": before.rule,
            "score_before": wire.finite(before.score[0]),
            "score_after": wire.finite(after.score[0]),
            "gaps": [wire.finite(one.gap[0]) for one in (before, after)],
            "scale": max(one["bulk"] or one["limit"] for one in signed),
            "before": signed[0],
            "after": signed[1],
            "difference": wire.signed_map(heats[1] - heats[0]),
            "recipes": [before.recipe, after.recipe],
            "moved": self._moved(found, layer, n) if layer and n else None,
        }
        return made, found

    def _moved(self, found: Comparison, layer: str, n: int) -> dict[str, Any]:
        table = found.moved(layer, n)
        names = [str(one) for one in table.index]
        return {
            "components": names,
            **{key: np.asarray(table[key], dtype=np.float32) for key in ("before", "after", "change")},
            "sheet": self._crops(layer, names),
        }

    def _crops(self, layer: str, names: Sequence[str]) -> dict[str, Any]:
        try:
            kept = self.session.stored().get(layer)
            if kept is None or not kept.references or kept.is_unfinished:
                return wire.sheet([])  # pictures alone are no reason to sweep the data
            return wire.sheet(self.session.peak_crops(layer, [ComponentId.parse(one).index for one in names], size=64))
        except WorkbenchError:  # something of them is missing: the list does without pictures
            return wire.sheet([])

    def population(self, chosen: Any, samples: Sequence[int]) -> Any:
        """What `Session.differences` takes for a population of the view.

        Raises
        ------
        BadValueError
            If there is no sample in it.
        """
        if chosen == "selected":
            ids = [int(i) for i in samples]
        elif isinstance(chosen, str) and chosen.startswith("tag:"):
            ids = [int(i) for i in self.session.data.tag(chosen.removeprefix("tag:"))]
        else:
            n = len(self.session.data)
            return n if chosen == "all" else min(int(chosen), n)
        if not ids:
            raise BadValueError(
                "No sample is chosen, so there is nothing to compare the models on.",
                hint="Choose some in a grid or a map, or take a number of samples spread over the data.",
            )
        return ids

    def differences(self, other: Any, chosen: Any, samples: Sequence[int]) -> tuple[dict[str, Any], Differences]:
        """What differs over a population."""
        found = self.session.differences(other, self.population(chosen, samples))
        return self.told(found), found

    def told(self, found: Differences) -> dict[str, Any]:
        """Differences as the page takes them: figures, and the samples that changed most, of each kind the first."""
        numbers = found.kinds
        left = {**_LISTED}
        rows = []
        for row in found.ordered().tolist():
            kind = KINDS[numbers[row]]
            if left[kind]:
                left[kind] -= 1
                rows.append(row)
        samples = found.samples[rows].tolist()
        mean = np.argsort(-np.abs(found.outputs), kind="stable")[:TOP]
        by_class = found.by_class()
        by_class = by_class.iloc[np.argsort(-(by_class["gained"] + by_class["lost"]).to_numpy(), kind="stable")]
        return {
            "n": len(found),
            "n_planned": found.n_planned,
            "n_originals": len(np.unique(found.origins)),
            "has_decisions": found.has_decisions,
            "n_labelled": found.n_labelled,
            "counts": found.counts,
            "accuracy": [wire.finite(one) for one in found.accuracy()],
            "change": [wire.finite(one) for one in found.accuracy_change()],
            "classes": [
                {
                    "name": str(name), "n": int(row["samples"]), "before": wire.finite(row["before"]),
                    "after": wire.finite(row["after"]), "gained": int(row["gained"]), "lost": int(row["lost"]),
                }
                for name, row in by_class.head(_CLASSES).iterrows()
            ],
            "n_classes": len(by_class),
            "outputs": [
                {"name": str(found.classes[i]) if i < len(found.classes) else f"output {i}",
                 "change": wire.finite(found.outputs[i])}
                for i in mean.tolist()
            ],
            "rows": {
                "samples": samples,
                "kind": [KINDS[numbers[row]] for row in rows],
                "label": [found.name_of(int(found.labels[row])) for row in rows],
                "before": [found.name_of(int(found.decision_before[row])) for row in rows],
                "after": [found.name_of(int(found.decision_after[row])) for row in rows],
                "probability_before": [wire.finite(found.probability_before[row]) for row in rows],
                "probability_after": [wire.finite(found.probability_after[row]) for row in rows],
                "shift": [wire.finite(found.shift[row]) for row in rows],
                "change": [wire.finite(found.change[row]) for row in rows],
                "output": [
                    str(found.classes[i]) if i < len(found.classes) else f"output {i}"
                    for i in found.output[rows].tolist()
                ],
                "sheet": self._thumbs(samples),
            },
            "summary": found.summary(),
            "recipe": found.recipe,
        }  # fmt: skip

    def _thumbs(self, samples: list[int]) -> dict[str, Any]:
        try:
            return wire.sheet(self.session.thumbnails(samples, size=_THUMB) if samples else [])
        except WorkbenchError:  # a picture that cannot be read: the list does without
            return wire.sheet([])


def report_of(found: Reevaluation) -> dict[str, Any]:
    """A re-evaluation as the page takes it: each measure with a value and an interval for every model."""
    k = range(len(found.models))
    table = found.to_frame()
    measures: list[dict[str, Any]] = []

    def measure(name: str, values: Sequence[Any], *, better: str = "", unit: str = "share", note: str = "",
                baseline: float | None = None, group: str = "") -> None:  # fmt: skip
        rows = [[wire.finite(one) for one in row] for row in values]
        if any(row[0] is not None for row in rows):
            measures.append({
                "name": name, "group": group, "better": better, "unit": unit, "note": note,
                "baseline": None if baseline is None else wire.finite(baseline), "rows": rows,
            })  # fmt: skip

    attacked = f"with {found.artifact}"
    measure("Accuracy, clean", [found.accuracy(i, "clean") for i in k], better="high", group="accuracy",
            note="What the correction cost.")  # fmt: skip
    measure(f"Accuracy, {attacked}", [found.accuracy(i, "attacked") for i in k], better="high", group="accuracy",
            note="What it bought.")  # fmt: skip
    measure(f"Gap through {found.artifact}", [found.gap(i) for i in k], better="low", group="gap")
    for other in found.others:
        unmoved = [found.models[i] for i in k if i and other in found.unmoved(i)]
        note = f"Still costs accuracy in {', '.join(unmoved)}." if unmoved else ""
        measure(f"Gap through {other}", [found.gap(i, other) for i in k], better="low", group="gap", note=note)
    spread = [1.96 * error if math.isfinite(error) else math.nan for error in table["relevance_error"]]
    measure("Relevance on the artifact",
            [(v, max(0.0, v - e), v + e) for v, e in zip(table["relevance"], spread, strict=True)], better="low",
            group="relevance", baseline=found.relevance_area,
            note="The line is the share of the picture that the artifact takes.")  # fmt: skip
    at = f"at {found.layer}" if found.layer else ""
    own = zip(np.asarray(found.sensitivity), 1.96 * np.asarray(found.sensitivity_error), strict=True)
    measure(f"Sensitivity {at}, before the edits", [(v, max(0.0, v - e), v + e) for v, e in own],
            better="low", unit="number", group="sensitivity")  # fmt: skip
    measure(f"Sensitivity {at}, behind the edits", [(v, math.nan, math.nan) for v in found.sensitivity_after],
            unit="number", group="sensitivity")  # fmt: skip
    chance = "0.5: a linear probe finds nothing of it."
    measure(f"Probe {at}", [(v, math.nan, math.nan) for v in found.probe_layer], baseline=0.5, unit="number",
            group="probe", note=chance)  # fmt: skip
    measure("Probe of the logits", [(v, math.nan, math.nan) for v in found.probe_logits], baseline=0.5, unit="number",
            better="low", group="probe", note=chance)  # fmt: skip
    changes = [
        {"model": found.models[i], **{kind: [wire.finite(one) for one in found.change(i, kind)]
                                      for kind in ("clean", "attacked")}, "unmoved": found.unmoved(i)}
        for i in k if i
    ]  # fmt: skip
    return {
        "models": list(map(str, found.models)),
        "artifact": str(found.artifact),
        "layer": found.layer,
        "n": len(found.samples),
        "n_origins": found.n_origins,
        "population": found.population,
        "measures": measures,
        "changes": changes,
        "others": list(map(str, found.others)),
        "warnings": list(map(str, found.warnings)),
        "summary": found.summary(),
        "columns": [str(one) for one in table.columns if not table[one].isna().all()],
        "table": [[wire.finite(row[one]) for one in table.columns if not table[one].isna().all()]
                  for _, row in table.iterrows()],
    }  # fmt: skip
