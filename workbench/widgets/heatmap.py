"""HeatmapViewer: where in the input, and what there?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from workbench.core import check
from workbench.core.errors import BadValueError, DataError
from workbench.core.ids import ComponentId
from workbench.core.results import Attribution
from workbench.widgets import wire
from workbench.widgets.base import SessionWidget, on, register_widget
from workbench.widgets.esm import css, esm
from workbench.widgets.heat_answers import HeatAnswers
from workbench.widgets.heat_still import still_of
from workbench.widgets.keeping import Offer
from workbench.widgets.labelling import ShowsLabels, with_labels
from workbench.widgets.narrowing import ChoosesLayer
from workbench.widgets.recording import Recording
from workbench.widgets.stills import Still

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["HeatmapViewer"]

_RECORDED = 6  # samples and components whose conditional maps a page records


@register_widget("heatmap")
class HeatmapViewer(ChoosesLayer, ShowsLabels, SessionWidget):
    """One picture, what the model says of it, where that comes from, and through which components.

    The heatmap is signed, orange for and blue, hatched, against the explained output, with zero neutral; its legend has
    numbers, and the gap says which share of the score relevance failed to account for. Choosing a component, here or
    elsewhere, shows its conditional map beside the full one. A region drawn on a picture ranks the components inside
    it; maps for other targets, other methods and the model with random weights can be shown beside.

    Parameters
    ----------
    source : Session
    layer : str, optional
        Layer whose components are listed; that of the selected component if not given.
    sample : int, optional
        Selected at the start; sample 0 if none is selected yet.
    **view
        `opacity`, `sign`, `scale`, `threshold`, `methods`, `targets`, `n_components` and the other traits.
    """

    _esm = esm("heatmap")
    _css = css("heatmap")
    follows = ("sample", "target", "component", "region")
    stands_for = "sample"

    sample = traitlets.Any(None, allow_none=True, help="Id of the current sample, or None.").tag(sync=True)
    target = traitlets.Any(None, allow_none=True, help='What is explained: "top", "logit:3"; None for "top".').tag(
        sync=True
    )
    component = traitlets.Any(None, allow_none=True, help="Component with a conditional map, or None.").tag(sync=True)
    region = traitlets.Any(None, allow_none=True, help="Part of the picture: x, y, width, height, 0 to 1.").tag(
        sync=True
    )
    opacity = traitlets.Float(0.75, min=0.0, max=1.0, help="Of the heatmap over the picture, 0 to 1.").tag(
        sync=True, view=True
    )
    sign = traitlets.Enum(["both", "positive", "negative"], "both", help="Which relevance is coloured.").tag(
        sync=True, view=True
    )
    scale = traitlets.Enum(
        ["image", "shared"],
        "image",
        help="Each map on its own scale, or those of one rule, through a component or for other targets, on that of "
        "all relevance; other methods have units of their own.",
    ).tag(sync=True, view=True)
    threshold = traitlets.Float(0.0, min=0.0, max=1.0, help="Share of the strongest value below which is clear.").tag(
        sync=True, view=True
    )
    contour = traitlets.Bool(False, help="Lines of equal relevance, smoothed, in place of colours.").tag(
        sync=True, view=True
    )
    show_masks = traitlets.Bool(True, help="Outlines of the data set's masks.").tag(sync=True, view=True)
    show_random = traitlets.Bool(False, help="Also the map of the model with random weights.").tag(sync=True, view=True)
    methods = traitlets.List(traitlets.Unicode(), help="Further ways to explain, shown beside the map.").tag(
        sync=True, view=True
    )
    targets = traitlets.List(
        traitlets.Unicode(), help='Further outputs, such as "logit:3", whose maps are shown beside.'
    ).tag(sync=True, view=True)
    n_components = traitlets.Int(8, min=0, max=32, help="Components in the list.").tag(sync=True, view=True)
    n_samples = traitlets.Int(0, help="Samples of the data set.").tag(sync=True)
    explainers = traitlets.List(traitlets.Unicode(), help="Ways to explain that may be shown.").tag(sync=True)
    picture = traitlets.Dict(help="Sample, key, label, the JPEG of what the model saw, and its masks.").tag(
        sync=True, **wire.arrays
    )
    outputs = traitlets.Dict(help="Sample and its leading outputs: class_, name, logit, probability.").tag(
        sync=True, **wire.arrays
    )
    heat = traitlets.Dict(help="Sample, target and the signed map of all relevance; score, gap, rule.").tag(
        sync=True, **wire.arrays
    )
    strip = traitlets.Dict(help="Sample, target, layer: leading components, relevances, shares, crops.").tag(
        sync=True, **wire.arrays
    )
    conditional = traitlets.Dict(help="Sample, target, component and the signed map of what passes through it.").tag(
        sync=True, **wire.arrays
    )

    compared = traitlets.Dict(help="Sample, target and the signed map of each further method.").tag(
        sync=True, **wire.arrays
    )
    targeted = traitlets.Dict(help="Sample and the signed map of all relevance for each further target.").tag(
        sync=True, **wire.arrays
    )
    random = traitlets.Dict(help="Sample, target, the map with random weights and its rank correlation.").tag(
        sync=True, **wire.arrays
    )
    inside = traitlets.Dict(help="Sample, target, layer, region: components by their relevance inside.").tag(
        sync=True, **wire.arrays
    )

    def __init__(self, source: Any = None, **options: Any):
        self.attribution: Attribution | None = None
        self.lacks = ""  # why nothing can be shown at all
        super().__init__(source, **options)

    def bind(self, source: Any) -> None:
        if self.session is None:
            raise BadValueError(
                f"HeatmapViewer explains the samples of a session; got {type(source).__name__}.",
                hint="Give it what open_session returned.",
            )
        self.layers = [str(name) for name, layer in self.session.layers().items() if layer.n_calls == 1]
        self._answers = HeatAnswers(self.session)
        self.explainers = list(self.session.explainers())
        try:
            self.n_samples = len(self.session.data)
        except DataError as error:  # it opens all the same, and says what to do
            self.lacks = f"{error.message} {error.hint}".strip()
            self.show_error("Samples", error)
            return
        self.observe(lambda change: self._fetch_sample(), names=["sample"])
        self.observe(lambda change: self._fetch_heat(), names=["target", "layer", "n_components"])
        self.observe(lambda change: self._fetch_component(), names=["component"])
        self.observe(lambda change: self._fetch_beside(), names=["methods", "targets", "show_random", "region"])
        if self.sample is None and self.n_samples:
            self.sample = 0  # observed: fetches
        else:
            self._fetch_sample()

    @traitlets.validate("methods")
    def _are_methods(self, proposal: Any) -> list[str]:
        for name in proposal["value"] if self.explainers else ():
            check.known("method", name, self.explainers)
        return list(dict.fromkeys(proposal["value"]))

    @traitlets.validate("targets")
    def _are_targets(self, proposal: Any) -> list[str]:
        names = list(self.session.class_names()) if hasattr(self.session, "class_names") else []
        wanted = (f"logit:{names.index(one)}" if one in names else one for one in proposal["value"])
        return list(dict.fromkeys(str(self.shared.check("target", one)) for one in wanted))

    # What is wanted, and asking for it --------------------------------------------------------------------------------

    @property
    def list_layer(self) -> str:
        """Layer whose components are listed."""
        return self.layer or (ComponentId.parse(self.component).layer if self.component else "")

    def _wanted(self) -> tuple[int | None, str]:
        return self.sample, self.target or "top"

    def _fetch_sample(self) -> None:
        sample = self.sample
        if sample is None:
            self._report()
            return
        answers, title = self._answers, f"Sample {sample}"
        is_there = self.picture.get("sample") == sample
        self.submit_unless(is_there, answers.picture, sample, into="picture", title=title, quiet=True)
        is_there, title = self.outputs.get("sample") == sample, f"Outputs for sample {sample}"
        self.submit_unless(is_there, answers.outputs, sample, into="outputs", title=title)
        self._fetch_heat()

    def _fetch_heat(self) -> None:
        if self.sample is None:
            return
        sample, target = self._wanted()
        layer, n = self.list_layer, self.n_components
        has_map = (self.heat.get("sample"), self.heat.get("target")) == (sample, target)
        has_list = not layer or not n or _fits(self.strip, {"layer": layer, "n_asked": n})
        if not n:
            self.strip, self.inside = {}, {}
        is_there, title = has_map and has_list, f"Explaining sample {sample}"
        self.submit_unless(is_there, self._explain, sample, target, layer, n, topic="heat", title=title)
        self._fetch_conditional()
        self._fetch_beside()

    def _fetch_component(self) -> None:
        layer = ComponentId.parse(self.component).layer if self.component else ""
        if layer and not self.layer and self.strip.get("layer") != layer:
            self._fetch_heat()
        else:
            self._fetch_conditional()

    def _fetch_conditional(self) -> None:
        component = self.component
        if component is None or self.sample is None:
            self._report()
            return
        sample, target = self._wanted()
        is_there = _fits(self.conditional, {"sample": sample, "target": target, "component": component})
        conditional, title = self._answers.conditional, f"Map of {component}"
        self.submit_unless(is_there, conditional, sample, target, component, into="conditional", title=title)

    def _fetch_beside(self) -> None:
        """Further methods, the random model and the region, each only where it is asked for and not there yet."""
        if self.sample is None:
            return
        sample, target = self._wanted()
        now, answers = {"sample": sample, "target": target}, self._answers
        methods, targets, n = list(self.methods), list(self.targets), self.n_components
        is_there = not methods or _fits(self.compared, {**now, "methods": methods})
        title = "Other methods"
        self.submit_unless(is_there, answers.compared, sample, target, methods, into="compared", title=title)
        is_there = not targets or _fits(self.targeted, {"sample": sample, "targets": targets})
        self.submit_unless(is_there, answers.targeted, sample, targets, into="targeted", title="Other targets")
        is_there, title = not self.show_random or _fits(self.random, now), "The model with random weights"
        self.submit_unless(is_there, answers.at_random, sample, target, into="random", title=title)
        layer, region = self.list_layer, dict(self.region or {})
        wanted = {**now, "layer": layer, "region": region, "n_asked": n}
        is_there = not (region and layer and n) or _fits(self.inside, wanted)
        title = f"Components of {layer} in the region"
        self.submit_unless(is_there, answers.inside, sample, target, layer, region, n, into="inside", title=title)
        self._report()

    # The work, on the lane --------------------------------------------------------------------------------------------

    def _explain(self, sample: int, target: str, layer: str, n: int) -> None:
        found = self._answers.explained(sample, target, layer, n)
        self._tell(sample, target, "heat", self._answers.heat(found, sample, target), found)
        if layer and n:
            # The map is on screen by now; the crops of the list may take their time.
            self._tell(sample, target, "strip", self._answers.strip(found, sample, target, layer, n))

    def _tell(self, sample: int, target: str, trait: str, value: dict[str, Any], found: Any = None) -> None:
        from workbench.session.deliver import deliver

        def put() -> None:
            is_wanted = self._wanted() == (sample, target) and value.get("layer", self.list_layer) == self.list_layer
            is_wanted = is_wanted and value.get("n_asked", self.n_components) == self.n_components
            if is_wanted and not self._is_closed:
                if found is not None:
                    self.attribution = found
                setattr(self, trait, value)
                self._problem = {}

        deliver(put)

    # From the page and from Python ------------------------------------------------------------------------------------

    @on("step", by=int)
    def _on_step(self, by: int) -> dict[str, Any]:
        """The next or a former sample; the ends meet."""
        if self.n_samples:
            self.sample = ((self.sample or 0) + by) % self.n_samples
        return {"sample": self.sample}

    def stale_reason(self) -> str:
        sample, target = self._wanted()
        if self.heat and (self.heat["sample"], self.heat["target"]) != (sample, target):
            return f"This is still the map of sample {self.heat['sample']}, target {self.heat['target']}."
        return ""

    def table(self) -> pd.DataFrame:
        """The listed components, most relevant first: relevance, and share of the layer's or the region's."""
        import pandas as pd

        have = self.inside if self.region and _fits(self.inside, {"region": self.region}) else self.strip
        data = {"relevance": np.asarray(have.get("relevance", ())), "share": np.asarray(have.get("share", ()))}
        frame = pd.DataFrame(data, index=pd.Index(have.get("components", []), name="component", dtype=object))
        return with_labels(frame, self.labels)

    def selected(self) -> list[Any]:
        return [self.component] if self.component else []

    def select(self, ids: list[Any]) -> None:
        """Select a component by address."""
        self.component = ids[0] if ids else None

    def plot(self, **options: Any) -> Any:
        """The attribution on show as a plotly figure."""
        if self.attribution is None:
            raise BadValueError("Nothing has been explained yet.", hint="`widget.wait()` waits for the map.")
        return self.attribution.plot(**options)

    # Keeping ----------------------------------------------------------------------------------------------------------

    def still(self) -> Still:
        return still_of(self)

    def results(self) -> list[str]:
        return [self.attribution.recipe] if self.attribution is not None else []

    def offers(self) -> Offer:
        near = range(self.sample + 1, self.n_samples) if self.sample is not None else range(self.n_samples)
        return Offer(components=tuple(self.strip.get("components", ())), samples=tuple(near)[:24])

    def recordings(self, wanted: Offer) -> Iterator[Recording]:
        """Pictures, outputs and maps of the wanted samples, and maps through the wanted components."""
        target, layer, n = self.target or "top", self.list_layer, self.n_components
        for sample in wanted.samples:

            def shown(sample: int = sample) -> dict[str, Any]:
                return {"picture": self._answers.picture(sample), "outputs": self._answers.outputs(sample)}

            def maps(sample: int = sample) -> dict[str, Any]:
                found = self._answers.explained(sample, target, layer, n)
                made = {"heat": self._answers.heat(found, sample, target)}
                if self.targets:
                    made["targeted"] = self._answers.targeted(sample, list(self.targets))
                return made | ({"strip": self._answers.strip(found, sample, target, layer, n)} if layer and n else {})

            yield Recording(shown, {"sample": sample}, what="samples")
            yield Recording(maps, {"sample": sample, "target": self.target}, what="heatmaps")
        for sample in wanted.samples[:_RECORDED]:
            for component in wanted.components[:_RECORDED]:

                def part(sample: int = sample, component: str = component) -> dict[str, Any]:
                    return {"conditional": self._answers.conditional(sample, target, component)}

                when = {"sample": sample, "target": self.target, "component": component}
                yield Recording(part, when, what="maps through components")

    def describe(self) -> str:
        return f"sample {self.sample}, {self.target or 'top'}" if self.sample is not None else "no sample"


def _fits(have: dict[str, Any], wanted: dict[str, Any]) -> bool:
    return all(have.get(key) == value for key, value in wanted.items())
