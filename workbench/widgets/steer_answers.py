"""What the steering panel shows, asked of the session and made ready for the page; run on the panel's lane."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from workbench.core.effects import Effect, Intervention
from workbench.core.errors import BadValueError, WorkbenchError
from workbench.core.ids import ComponentId
from workbench.widgets import wire

__all__ = ["SteerAnswers", "active", "acts_of", "as_record", "as_records", "code_of", "made_of"]

_TOP = 5
_WORSE = 8
_MOVED = 8
_PARTIAL_S = 0.25  # partial results at most so often
_THUMB = 64
_MOST = 50
_FACTS = ("address", "operation", "strength", "tokens", "region")


def as_record(one: Any) -> dict[str, Any]:
    """An intervention as view state: address (a list), operation, strength, on; tokens and region where it has such.

    Raises
    ------
    BadValueError
        If it is none.
    """
    if isinstance(one, Intervention):
        return {**_act(one), "on": True}
    if isinstance(one, str):
        return as_record(Intervention(one))
    if not isinstance(one, dict) or "address" not in one or set(one) - {*_FACTS, "on"}:
        raise BadValueError(
            f"An intervention has an address, an operation, a strength, and is on or not; got {str(one)[:60]!r}.",
            hint='For example wb.Intervention("layer4/unit/17", "suppress", 1.0).',
        )
    is_on = one.get("on", True)
    if not isinstance(is_on, bool):
        raise BadValueError(f"An intervention is on (True) or off (False); got {is_on!r}.")
    return {**as_record(made_of(one)), "on": is_on}


def made_of(record: Mapping[str, Any]) -> Intervention:
    """The intervention of a record."""
    scope = {name: record[name] for name in ("tokens", "region") if name in record}
    return Intervention(record["address"], record.get("operation", "suppress"), record.get("strength", 1.0), **scope)


def _act(one: Intervention) -> dict[str, Any]:
    found = {"address": list(one.addresses), "operation": one.operation, "strength": one.strength}
    if one.tokens is not None:
        found["tokens"] = one.tokens
    return found if one.region is None else {**found, "region": list(one.region)}


def as_records(given: Any) -> list[dict[str, Any]]:
    """Several interventions as view state."""
    if isinstance(given, (str, dict, Intervention)):
        given = [given]
    if not isinstance(given, Sequence) or len(given) > _MOST:
        raise BadValueError(f"A panel takes a list of at most {_MOST} interventions.")
    return [as_record(one) for one in given]


def active(records: Sequence[dict[str, Any]]) -> list[Intervention]:
    """Those that are on."""
    return [made_of(one) for one in records if one["on"]]


def acts_of(interventions: Sequence[Intervention]) -> list[dict[str, Any]]:
    """What a payload was made under, as the page compares it with what is chosen now."""
    return [_act(one) for one in interventions]


def code_of(interventions: Sequence[Intervention]) -> str:
    """The list as code."""
    return f"[{', '.join(f'wb.{one!r}' for one in interventions)}]"


class SteerAnswers:
    """Payloads of the panel, each with what it belongs to."""

    def __init__(self, session: Any):
        self.session = session

    def outputs(self, sample: int, target: str, mine: Sequence[Intervention], watch: Sequence[int]) -> dict[str, Any]:
        """The leading outputs before and after."""
        named = self._named(sample, target)
        rows = self.session.predict_under(
            sample, list(mine), n=_TOP, also=[*watch, *([] if named is None else [named])]
        )
        leading = max(rows, key=lambda one: one.before) if rows else None
        index = leading.index if named is None and target == "top" and leading is not None else named
        return {
            "sample": sample,
            "target": target,
            "acts": acts_of(mine),
            "index": -1 if index is None else index,
            "rows": [
                {
                    "index": one.index,
                    "name": str(one.name),
                    "before": wire.finite(one.before),
                    "after": wire.finite(one.after),
                    "probability_before": wire.finite(one.probability_before),
                    "probability_after": wire.finite(one.probability_after),
                }
                for one in rows
            ],
        }

    def _named(self, sample: int, target: str) -> int | None:
        """The output that a target names by its number or the sample's label."""
        kind, _, number = target.partition(":")
        if kind == "logit" and number.isdecimal():
            return int(number)
        label = int(self.session.label_outputs([sample])[0]) if kind == "label" else -1
        return label if label >= 0 else None

    def maps(self, sample: int, target: str, mine: Sequence[Intervention]) -> dict[str, Any]:
        """The map before, the one with the interventions in place, and their difference."""
        before = self.session.explain_under(sample, [], target=target)
        after = self.session.explain_under(sample, list(mine), target=target) if mine else before
        heats = [np.asarray(one.heatmap[0], dtype=np.float32) for one in (before, after)]
        return {
            "sample": sample,
            "target": target,
            "acts": acts_of(mine),
            "name": before.labels[0] if before.labels else "",
            "target_text": before.target_text,
            "rule": before.rule,
            "score_before": wire.finite(before.score[0]),
            "score_after": wire.finite(after.score[0]),
            "gaps": [wire.finite(one.gap[0]) for one in (before, after)],
            "before": wire.signed_map(heats[0]),
            "after": wire.signed_map(heats[1]),
            "difference": wire.signed_map(heats[1] - heats[0]),
            "recipes": [before.recipe, after.recipe],
        }

    def leading(self, sample: int, target: str, layer: str, n: int) -> dict[str, Any]:
        """The leading components of a layer, and what the score becomes without each."""
        found = self.session.leave_one_out(sample, layer, n, target=target)
        return {
            "sample": sample,
            "target": target,
            "layer": layer,
            "name": found.name,
            "n_asked": n,
            "components": list(found.components),
            "relevance": np.asarray(found.relevance, dtype=np.float32),
            "change": np.asarray(found.change, dtype=np.float32),
            "sheet": self._crops(found.components),
        }

    def range_of(self, addresses: Sequence[str]) -> list[float]:
        """What values the data show."""
        low, high = self.session.activation_range(list(addresses))
        return [float(low), float(high)]

    def population(self, chosen: Any, samples: Sequence[int]) -> Any:
        """What `Session.steer` takes for a population of the panel."""
        if chosen == "selected":
            return list(samples)
        if isinstance(chosen, str) and chosen.startswith("tag:"):
            return [int(i) for i in self.session.data.tag(chosen.removeprefix("tag:"))]
        n = len(self.session.data)
        return n if chosen == "all" else min(int(chosen), n)

    def effect(
        self, mine: Sequence[Intervention], target: str, chosen: Any, samples: Sequence[int], controls: int,
        tell: Callable[[dict[str, Any], Effect], None],
    ) -> tuple[dict[str, Any], Effect]:  # fmt: skip
        """The effect on a population; what is known so far goes to `tell`, four times a second at most."""
        population = self.population(chosen, samples)
        if not isinstance(population, int) and not population:
            raise BadValueError(
                "No sample is chosen, so there is no population to measure on.",
                hint="Choose some in a grid or a map, or take a number of samples spread over the data.",
            )
        last = -math.inf

        def see(found: Effect) -> None:
            nonlocal last
            if time.monotonic() - last >= _PARTIAL_S:
                last = time.monotonic()
                tell(self.told(found), found)

        controls = controls if self._leaves_some(mine) else 0
        found = self.session.steer(list(mine), population, target=target, controls=controls, see=see)
        return self.told(found, with_pictures=True), found

    def _leaves_some(self, mine: Sequence[Intervention]) -> bool:
        """Whether there are untouched units for random controls in each layer."""
        touched: dict[str, set[int]] = {}
        for one in mine:
            if one.basis == "unit":
                touched.setdefault(one.layer, set()).update(one.indices)
        layers = self.session.layers()
        return all(len(units) < layers[name].n_components for name, units in touched.items())

    def told(self, found: Effect, *, with_pictures: bool = False) -> dict[str, Any]:
        """An effect as the page takes it."""
        low, high = found.interval
        band = found.control_band
        share = found.changed_share
        known = (found.decision_before >= 0) if len(found.samples) else np.zeros(0, bool)
        accuracy, worse = found.accuracy(), found.worse(_WORSE)
        return {
            "target_text": found.target_text,
            "n": len(found.samples),
            "n_planned": found.n_planned,
            "n_originals": len(np.unique(found.origins)),
            "is_complete": found.is_complete,
            "mean": wire.finite(found.mean),
            "interval": [wire.finite(low), wire.finite(high)],
            "band": None if math.isnan(band[0]) else [wire.finite(band[0]), wire.finite(band[1])],
            "n_controls": len(found.control),
            "is_beyond": found.is_beyond_control if not math.isnan(band[0]) else None,
            "decides": found.has_decisions,
            "empty_share": wire.finite(found.empty_share),
            "n_left_out": found.n_left_out,
            "changed": None if math.isnan(share) else round(share * int(known.sum())),
            "changed_share": wire.finite(share),
            "accuracy": [
                {
                    "name": str(name),
                    "n": int(n),
                    "before": wire.finite(before),
                    "after": wire.finite(after),
                    "interval": [wire.finite(low), wire.finite(high)],
                }
                for name, n, before, after, _, low, high in accuracy.itertuples()
            ],
            "outputs": [{"name": str(name), "change": wire.finite(c)} for name, c in found.top_outputs(_TOP)],
            "moved": None if found.moved is None else self._moved(found, with_pictures),
            "worse": {
                "samples": [int(i) for i in worse.index],
                "margin": [wire.finite(v) for v in worse["margin"]],
                "lost": [bool(v) for v in worse["is_lost"]],
                "before": [str(v) for v in worse["before"]],
                "after": [str(v) for v in worse["after"]],
                "label": [str(v) for v in worse["label"]],
                "n_lost": _n_lost(found),
                "sheet": self._thumbs([int(i) for i in worse.index]) if with_pictures else wire.sheet([]),
            },
            "summary": found.summary(),
            "recipe": found.recipe,
        }

    def _moved(self, found: Effect, with_pictures: bool) -> dict[str, Any]:
        assert found.moved is not None
        touched = {address for one in found.interventions for address in one.addresses}
        scores = np.asarray(found.moved.scores)
        rows = [i for i, name in enumerate(found.moved.components) if name not in touched and scores[i] != 0][:_MOVED]
        names = [found.moved.components[i] for i in rows]
        return {
            "components": names,
            "change": [wire.finite(scores[i]) for i in rows],
            "sheet": self._crops(names if with_pictures else ()),
        }

    def _thumbs(self, samples: list[int]) -> dict[str, Any]:
        try:
            return wire.sheet(self.session.thumbnails(samples, size=_THUMB) if samples else [])
        except WorkbenchError:  # a picture that cannot be read: the list does without
            return wire.sheet([])

    def _crops(self, components: Sequence[str]) -> dict[str, Any]:
        addresses = [ComponentId.parse(one) for one in components]
        if not addresses or any(one.basis != "unit" for one in addresses):
            return wire.sheet([])
        try:
            crops = self.session.peak_crops(addresses[0].layer, [one.index for one in addresses], size=_THUMB)
        except WorkbenchError:  # no references stored yet: the list does without pictures
            return wire.sheet([])
        return wire.sheet(crops)


def _n_lost(found: Effect) -> int | None:
    if found.margin_before is None or found.margin_after is None:
        return None
    return int(((found.margin_before > 0) & (found.margin_after <= 0)).sum())
