"""SteeringPanel: what happens if this component counts for less, or more?"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from workbench.core.bars import Bars
from workbench.core.effects import Effect, Intervention
from workbench.core.errors import BadValueError
from workbench.core.ids import ComponentId
from workbench.session.deliver import deliver
from workbench.session.lane import Job, current_job
from workbench.widgets import linking, wire
from workbench.widgets.base import SessionWidget, register_widget
from workbench.widgets.esm import css, esm
from workbench.widgets.heat_answers import HeatAnswers
from workbench.widgets.keeping import Offer
from workbench.widgets.labelling import ShowsLabels
from workbench.widgets.narrowing import ChoosesLayer, ChoosesPopulation
from workbench.widgets.recording import Recording
from workbench.widgets.steer_acting import Acting
from workbench.widgets.steer_answers import (
    SteerAnswers,
    active,
    acts_of,
    as_records,
)
from workbench.widgets.steer_still import still_of

if TYPE_CHECKING:
    import pandas as pd

    from workbench.core.results import Edit
    from workbench.widgets.stills import Still

__all__ = ["SteeringPanel"]

_SETTLED_S = 0.3  # what takes longer than the outputs waits until the slider rests
_RECORDED_TOGGLES = 4


@register_widget("steering", shows=Effect)
class SteeringPanel(ChoosesLayer, ChoosesPopulation, ShowsLabels, Acting, SessionWidget):
    """Suppress, boost, set, add along or project out components, and see what becomes of one sample and of many.

    The list holds interventions on components, sets and directions, each with its strength, on or off. What is
    selected elsewhere is offered, switched off. For the current sample the panel shows the leading outputs and the
    heatmap before and after; for a population, whose effect streams in, the share of changed decisions, the accuracy
    per class, the mean change with its interval beside the band of random controls, the components above that moved
    although nobody touched them, and the samples that got worse. The model stays as it is; `keep` makes a variant.

    Parameters
    ----------
    source : Session, or Effect with `session`
    interventions : list of Intervention, or of dictionaries with address, operation, strength and on, perhaps tokens
        and region
    **view
        `population`, `layer`, `watch`, `expected` and the other traits.

    Examples
    --------
    >>> panel = SteeringPanel(s, interventions=[wb.Intervention("layer4/unit/17")])  # doctest: +SKIP
    >>> panel.result.to_frame()  # doctest: +SKIP
    >>> fixed = panel.keep("without-17")  # doctest: +SKIP
    """

    _esm = esm("steering")
    _css = css("steering")
    follows = ("sample", "target", "component", "components", "samples", "region")
    stands_for = "sample"

    sample = traitlets.Any(None, allow_none=True, help="Id of the current sample, or None.").tag(sync=True)
    target = traitlets.Any(None, allow_none=True, help='What is followed: "top", "logit:3"; None for "top".').tag(
        sync=True
    )
    component = traitlets.Any(None, allow_none=True, help="Selected component, which is offered; or None.").tag(
        sync=True
    )
    components = traitlets.Any((), help="Chosen components, which are offered as a set.").tag(
        sync=True, **linking.members
    )
    region = traitlets.Any(None, allow_none=True, help="Selected part of the picture, for an intervention.").tag(
        sync=True
    )
    samples = traitlets.Any((), help='Chosen samples: the population "selected".').tag(sync=True, **linking.members)
    interventions: Any = traitlets.List(
        traitlets.Any(),
        help="What is done: address (a list), operation, strength, on, perhaps tokens, region; in order.",
    ).tag(sync=True, view=True)
    controls = traitlets.Int(8, min=0, max=100, help="Random controls that change as much.").tag(sync=True, view=True)
    watch = traitlets.List(traitlets.Int(min=0), help="Outputs that are always shown, by number.").tag(
        sync=True, view=True
    )
    n_leading = traitlets.Int(6, min=0, max=32, help="Leading components, each left out alone; 0 for none.").tag(
        sync=True, view=True
    )
    compare = traitlets.Enum(["beside", "flip"], "beside", help="Maps beside one another, or one that flips.").tag(
        sync=True, view=True
    )
    bypass = traitlets.Bool(False, help="Show all as it is without interventions.").tag(sync=True, view=True)
    expected = traitlets.Unicode("", help="What the reader expects of the interventions.").tag(sync=True, view=True)
    expected_when = traitlets.Enum(
        ["", "before", "after"], "", help="Whether that was written before the result was shown, or after."
    ).tag(sync=True, view=True)
    predict_first = traitlets.Bool(False, help="Hide results until something is expected.").tag(sync=True, view=True)
    n_samples = traitlets.Int(0, help="Samples of the data set.").tag(sync=True)
    steps = traitlets.Dict(help="How many changes can be undone and redone.").tag(sync=True)
    kept = traitlets.List(traitlets.Dict(), help="Named edits that were kept: name, text, code.").tag(sync=True)
    picture = traitlets.Dict(help="Sample, key, label and the JPEG of what the model saw.").tag(
        sync=True, **wire.arrays
    )
    outputs = traitlets.Dict(help="Sample, target, acts, and the leading outputs before and after.").tag(
        sync=True, **wire.arrays
    )
    maps = traitlets.Dict(help="Sample, target, acts, and the signed maps before, after, and their difference.").tag(
        sync=True, **wire.arrays
    )
    leading = traitlets.Dict(help="Sample, target, layer, and its components, each left out alone.").tag(
        sync=True, **wire.arrays
    )
    effect = traitlets.Dict(help="Target, acts, population, and the effect on it so far.").tag(sync=True, **wire.arrays)
    ranges = traitlets.Dict(help="What values the data show, by the first address and the number of a set.").tag(
        sync=True, **wire.arrays
    )

    def __init__(self, source: Any = None, **options: Any):
        self.result: Effect | None = None
        self.variants: dict[str, Any] = {}
        self._past: list[list[dict[str, Any]]] = []
        self._future: list[list[dict[str, Any]]] = []
        self._changed_at = self._noted_at = 0.0
        self._is_stepping = False
        self._measuring: tuple[Job, dict[str, Any]] | None = None
        if isinstance(source, Effect) and "interventions" not in options:
            options = {"interventions": list(source.interventions), "population": source.n_planned, **options}
        super().__init__(source, **options)

    def bind(self, source: Any) -> None:
        if self.session is None:
            raise BadValueError(
                f"SteeringPanel steers the model of a session; got {type(source).__name__}.",
                hint="Give it what open_session returned; an effect comes with session=….",
            )
        self._answers, self._seen_answers = SteerAnswers(self.session), HeatAnswers(self.session)
        self.n_samples = len(self.session.data)
        self.layers = [
            str(name) for name, layer in self.session.layers().items() if layer.n_calls == 1 and layer.n_components > 1
        ]
        self._take_tags()
        self.observe(self._note, names=["interventions"])
        self.observe(lambda change: self._fetch_sample(), names=["sample"])
        self.observe(lambda change: self._fetch(), names=["target", "watch"])
        self.observe(lambda change: self._fetch_leading(), names=["component", "layer", "n_leading"])
        self.observe(lambda change: self._fetch_effect(), names=["population", "controls", "samples"])
        self.observe(self._expect, names=["expected"])
        self.observe(self._forget, names=["effect"])
        if self.expected.strip() and not self.expected_when:
            self.expected_when = "before"  # nothing has been shown yet
        self._undo.append(self.session.data.on_tags(lambda: deliver(self._take_tags, key=(id(self), "tags"))))
        self._say_steps()
        if self.sample is None and self.n_samples:
            self.sample = 0  # observed: fetches
        else:
            self._fetch_sample()
        self._fetch_ranges()

    @traitlets.validate("interventions")
    def _are_interventions(self, proposal: Any) -> list[dict[str, Any]]:
        records = as_records(proposal["value"])
        for address in {address for one in records for address in one["address"]}:
            self.shared.check("component", address)
        return records

    def _take_tags(self) -> None:
        if not self._is_closed:
            self.tags = sorted(map(str, self.session.data.tags()))

    # What is wanted ---------------------------------------------------------------------------------------------------

    @property
    def active(self) -> list[Intervention]:
        """The interventions that are on."""
        return active(self.interventions)

    def edits(self) -> list[Edit]:
        """Those that are on as edits, for `Session.variant` and whatever else takes edits."""
        return self.session.edits(self.active) if self.active else []

    @property
    def list_layer(self) -> str:
        """Layer of the leading components: the chosen one, else that of the selected or of the steered component."""
        if self.layer:
            return self.layer
        steered = [one["address"][0] for one in self.interventions]
        address = self.component or (steered[0] if steered else "")
        return ComponentId.parse(address).layer if address else ""

    def _wanted(self) -> tuple[int | None, str, list[dict[str, Any]]]:
        return self.sample, self.target or "top", acts_of(self.active)

    def _wanted_effect(self) -> dict[str, Any]:
        among = ""
        if self.population == "selected":
            among = hashlib.blake2b(np.array(self.samples, dtype=np.int64).tobytes(), digest_size=8).hexdigest()
        now = {"acts": acts_of(self.active), "target": self.target or "top", "population": self.population}
        return {**now, "among": among, "controls": self.controls}

    # Asking for it ----------------------------------------------------------------------------------------------------

    def _fetch_sample(self) -> None:
        sample = self.sample
        if sample is None:
            self._report()
            return
        is_there, title = self.picture.get("sample") == sample, f"Sample {sample}"
        self.submit_unless(is_there, self._seen_answers.picture, sample, into="picture", title=title, quiet=True)
        self._fetch()
        self._fetch_leading()

    def _fetch(self) -> None:
        """What the sample's outputs become, at once; then, when the slider rests, its maps and the population."""
        if self.sample is None:
            self._report()
            return
        sample, target, acts = self._wanted()
        mine, watch = self.active, list(self.watch)
        now = {"sample": sample, "target": target, "acts": acts}
        shown = {row["index"] for row in self.outputs.get("rows", ())}
        is_there, title = _fits(self.outputs, now) and set(watch) <= shown, f"Outputs for sample {sample}"
        outputs = self._answers.outputs
        self.submit_unless(is_there, outputs, sample, target, mine, watch, into="outputs", title=title)
        title = f"Maps of sample {sample}"
        self.submit_unless(_fits(self.maps, now), self._maps, sample, target, mine, into="maps", title=title)
        self._fetch_effect()

    def _fetch_effect(self) -> None:
        mine, now = self.active, self._wanted_effect()
        if not mine or not self.population:
            self._measuring = None
            self.submit(dict, into="effect", quiet=True)  # also ends one that is running
            return
        if _fits(self.effect, now) and self.effect["is_complete"]:
            self.settle("effect")
            return
        if self._measuring is not None and self._measuring[1] == now and not self._measuring[0].is_done:
            return
        job = self.submit(self._effect, mine, now, list(self.samples), into="effect", title="Population")
        self._measuring = (job, now)

    def _fetch_leading(self) -> None:
        sample, target, layer, n = self.sample, self.target or "top", self.list_layer, self.n_leading
        if not n:
            self.leading = {}
        is_there = sample is None or not (layer and n)
        wanted = {"sample": sample, "target": target, "layer": layer, "n_asked": n}
        is_there, title = is_there or _fits(self.leading, wanted), f"Leading components of {layer}"
        self.submit_unless(is_there, self._leading, sample, target, layer, n, into="leading", title=title)
        self._report()

    def _fetch_ranges(self) -> None:
        """What values the data show, where a value or a step is to be chosen."""
        for one in self.interventions:
            name = _name_of(one["address"])
            if one["operation"] in ("set", "add") and name not in self.ranges:
                self.submit(self._range, name, list(one["address"]), topic=f"range {name}", quiet=True)

    # The work, on the lane --------------------------------------------------------------------------------------------

    def _rest(self) -> None:
        """Wait until nothing has changed for a moment; a newer wish ends the waiting."""
        job = current_job()
        while (left := self._changed_at + _SETTLED_S - time.monotonic()) > 0:
            if job is not None:
                job.progress.token.raise_if_cancelled()
            time.sleep(min(0.02, left))

    def _maps(self, sample: int, target: str, mine: Sequence[Intervention]) -> dict[str, Any]:
        self._rest()
        return self._answers.maps(sample, target, mine)

    def _leading(self, sample: int, target: str, layer: str, n: int) -> dict[str, Any]:
        self._rest()
        return self._answers.leading(sample, target, layer, n)

    def _effect(self, mine: Sequence[Intervention], now: dict[str, Any], samples: list[int]) -> dict[str, Any]:
        self._rest()

        def tell(payload: dict[str, Any], found: Effect) -> None:
            def put() -> None:
                if not self._is_closed and self._wanted_effect() == now:
                    self.result, self.effect = found, {**payload, **now}

            deliver(put, key=(id(self), "effect"))

        payload, found = self._answers.effect(mine, now["target"], now["population"], samples, now["controls"], tell)
        deliver(self._take_result, found, now)
        return {**payload, **now}

    def _put(self, trait: str, value: Any, job: Any) -> None:
        """Take a result, unless the panel has left its sample meanwhile and come back to what it has."""
        if trait in ("picture", "outputs", "maps", "leading") and value["sample"] != self.sample:
            return
        super()._put(trait, value, job)

    def _take_result(self, found: Effect, now: dict[str, Any]) -> None:
        if not self._is_closed and self._wanted_effect() == now:
            self.result = found

    def _forget(self, change: Any) -> None:
        if not change["new"]:
            self.result = None

    def _range(self, name: str, addresses: list[str]) -> None:
        found = self._answers.range_of(addresses)

        def put() -> None:
            if not self._is_closed:
                self.ranges = {**self.ranges, name: found}

        deliver(put)

    def stale_reason(self) -> str:
        sample, target, acts = self._wanted()
        have = self.outputs
        if have and not _fits(have, {"sample": sample, "target": target, "acts": acts}):
            return f"These are still the outputs of sample {have['sample']} under the former interventions."
        return ""

    def table(self) -> pd.DataFrame:
        """The outputs on show: name, before, after, change; the output's number as index."""
        import pandas as pd

        rows = self.outputs.get("rows", [])
        data: dict[str, Any] = {
            "name": [one["name"] for one in rows],
            "before": np.array([_number(one["before"]) for one in rows], dtype=np.float32),
            "after": np.array([_number(one["after"]) for one in rows], dtype=np.float32),
        }
        data["change"] = data["after"] - data["before"]
        return pd.DataFrame(data, index=pd.Index([one["index"] for one in rows], name="output", dtype="int64"))

    def selected(self) -> list[Any]:
        index = self.outputs.get("index", -1)
        return [index] if index >= 0 else []

    def select(self, ids: list[Any]) -> None:
        """Follow an output, by its number."""
        self.target = f"logit:{int(ids[0])}" if ids else None

    def plot(self, **options: Any) -> Any:
        """The effect on the population as a plotly figure; before it is measured, the outputs before and after."""
        if self.result is not None:
            return self.result.plot(**options)
        table = self.table()
        series = {name: table[name].tolist() for name in ("before", "after")}
        return Bars(f"Outputs of sample {self.sample}", "output", table["name"].tolist(), series).plot(**options)

    # Keeping the view -------------------------------------------------------------------------------------------------

    def to_code(self, *, most: int = linking.FEW) -> str:
        """The calls that rebuild the view and the variants that were kept, with the session under its own name."""
        return "\n".join(line.removeprefix("# kept: ") for line in super().to_code(most=most).splitlines())

    def plain_code(self, *, most: int = linking.FEW) -> str:
        """The calls that rebuild the view, where ``s`` is the session; kept variants as comments."""
        *rest, call = super().plain_code(most=most).splitlines()
        return "\n".join([*rest, *(f"# kept: {one['code']}" for one in self.kept), call])

    def still(self) -> Still:
        return still_of(self)

    def results(self) -> list[str]:
        found = [*self.maps.get("recipes", ()), self.effect.get("recipe", "")]
        return list(dict.fromkeys(found))

    def offers(self) -> Offer:
        components = [address for one in self.interventions for address in one["address"][:8]]
        moved = (self.effect.get("moved") or {}).get("components", [])
        samples = self.effect.get("worse", {}).get("samples", [])
        near = range(self.sample + 1, self.n_samples) if self.sample is not None else range(self.n_samples)
        return Offer(
            tuple(dict.fromkeys([*components, *self.leading.get("components", []), *moved])),
            tuple(dict.fromkeys([*samples, *near]))[:24],
        )

    def recordings(self, wanted: Offer) -> Iterator[Recording]:
        """Pictures, outputs and maps of the wanted samples; and the current one with interventions switched off."""
        target, watch, current = self.target or "top", list(self.watch), list(self.interventions)

        def under(sample: int, records: list[dict[str, Any]]) -> dict[str, Any]:
            mine = active(records)
            return {
                "outputs": self._answers.outputs(sample, target, mine, watch),
                "maps": self._answers.maps(sample, target, mine),
            }

        for records in self._toggled():
            when = {"sample": self.sample, "target": self.target, "interventions": records}
            yield Recording(lambda r=records: under(self.sample, r), when, what="settings")  # type: ignore[misc]
        for sample in wanted.samples:
            when = {"sample": sample, "target": self.target, "interventions": current}
            yield Recording(
                lambda s=sample: {"picture": self._seen_answers.picture(s)},  # type: ignore[misc]
                {"sample": sample},
                what="samples",
            )
            yield Recording(lambda s=sample: under(s, current), when, what="outputs and maps")  # type: ignore[misc]

    def _toggled(self) -> Iterator[list[dict[str, Any]]]:
        """The interventions with each combination of a few switched on or off."""
        if self.sample is None:
            return
        few = self.interventions[:_RECORDED_TOGGLES]
        for states in itertools.product([True, False], repeat=len(few)):
            head = [{**one, "on": is_on} for one, is_on in zip(few, states, strict=True)]
            yield [*head, *self.interventions[len(few) :]]

    def describe(self) -> str:
        n = len(self.active)
        return f"{n} intervention{'s' * (n != 1)} on, sample {self.sample}"


def _fits(have: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(have.get(key) == value for key, value in wanted.items())


def _name_of(addresses: Sequence[str]) -> str:
    """By what the range of a set is looked up."""
    return f"{addresses[0]}+{len(addresses) - 1}"


def _number(value: float | None) -> float:
    return float("nan") if value is None else value
