"""CompareView: what does a variant say otherwise than its base, and what did the correction buy and cost?"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from workbench.core import check
from workbench.core.comparisons import Comparison, Differences
from workbench.core.corrections import Reevaluation
from workbench.core.errors import BadValueError, CancelledError, WorkbenchError
from workbench.core.ids import ComponentId
from workbench.session.compared import compared
from workbench.session.deliver import deliver
from workbench.session.lane import Job, Lane
from workbench.widgets import linking, wire
from workbench.widgets.base import on, register_widget
from workbench.widgets.compare_against import Against, sessions_of
from workbench.widgets.compare_answers import CompareAnswers, report_of
from workbench.widgets.compare_still import still_of
from workbench.widgets.esm import css, esm
from workbench.widgets.heat_answers import HeatAnswers
from workbench.widgets.keeping import Offer
from workbench.widgets.labelling import ShowsLabels, with_labels
from workbench.widgets.narrowing import ChoosesLayer, ChoosesPopulation
from workbench.widgets.recording import Recording

if TYPE_CHECKING:
    import pandas as pd

    from workbench.widgets.stills import Still

__all__ = ["CompareView"]

_numbers = itertools.count(1)
_RECORDED_VARIANTS = 4


@register_widget("compare", shows=Reevaluation)
class CompareView(ChoosesLayer, ChoosesPopulation, ShowsLabels, Against):
    """A base model beside a variant, differences first: one sample, those that changed among many, a re-evaluation.

    Shows what the variant's edits are in words; for the current sample the leading outputs of both, the largest change
    first, both heatmaps of the same target on one scale with their difference, and the components of a layer whose
    relevance changed most; over a population the samples that are decided otherwise, with accuracy, its paired interval
    and McNemar's test; and, where there is a re-evaluation, what the correction bought and cost.

    Parameters
    ----------
    source : Session, or Reevaluation
    against : Session, or mapping of name to Session, optional
        Compared with beside the variants of the session that are open, which are listed by themselves.
    reevaluation : Reevaluation, optional
        What `Session.reevaluate` gave; may be set later.
    **view
        `variant` (its name; default: the one opened last), `population`, `layer` and the other traits.

    Examples
    --------
    >>> fixed = s.variant("fixed", correction.edits())  # doctest: +SKIP
    >>> view = CompareView(s, reevaluation=s.reevaluate(fixed, attacked=pairs))  # doctest: +SKIP
    >>> view.result.to_frame("lost")  # doctest: +SKIP
    """

    _esm = esm("compare")
    _css = css("compare")
    follows = ("sample", "target", "component", "samples")
    stands_for = "sample"

    sample = traitlets.Any(None, allow_none=True, help="Id of the current sample, or None.").tag(sync=True)
    target = traitlets.Any(
        None, allow_none=True, help='What is explained of both: "top" is what the base says, "logit:3"; None for "top".'
    ).tag(sync=True)
    component = traitlets.Any(None, allow_none=True, help="Selected component, or None.").tag(sync=True)
    samples = traitlets.Any((), help='Chosen samples: the population "selected".').tag(sync=True, **linking.members)
    n_moved = traitlets.Int(8, min=0, max=64, help="Components that are listed; 0 for none.").tag(sync=True, view=True)
    kind = traitlets.Enum(
        ["all", "lost", "gained", "other"], "all", help="Which samples are listed, by what became of the decision."
    ).tag(sync=True, view=True)
    n_samples = traitlets.Int(0, help="Samples of the data set.").tag(sync=True)
    picture = traitlets.Dict(help="Sample, key, label and the JPEG of what the model saw.").tag(
        sync=True, **wire.arrays
    )
    outputs = traitlets.Dict(help="Variant, sample, target, and the leading outputs of both models.").tag(
        sync=True, **wire.arrays
    )
    maps = traitlets.Dict(
        help="Variant, sample, target, layer: the signed maps, their difference, the components that changed most."
    ).tag(sync=True, **wire.arrays)
    differences = traitlets.Dict(help="Variant, population, and what differs over it.").tag(sync=True, **wire.arrays)
    report = traitlets.Dict(help="The re-evaluation: models, measures with intervals, warnings.").tag(
        sync=True, **wire.arrays
    )

    def __init__(self, source: Any = None, *, against: Any = None, reevaluation: Any = None, **options: Any):
        self.result: Differences | None = None
        """What differs over the population, once it is there."""
        self.comparison: Comparison | None = None
        """Both models on the current sample, once it is there."""
        self._reevaluation: Reevaluation | None = None
        self._first_report = source if isinstance(source, Reevaluation) else reevaluation
        self._given = sessions_of(against)
        self._held: Any = None  # the variant on show, so that it lives as long as it is
        self._on_way: dict[str, tuple[dict[str, Any], Job]] = {}
        self._long = Lane(f"CompareView-population-{next(_numbers)}")
        try:
            super().__init__(source, **options)
        except BaseException:
            self._long.close()
            raise

    def bind(self, source: Any) -> None:
        self._undo.append(self._long.close)
        if self._first_report is not None:
            self.reevaluation = self._first_report
        if self.session is None:
            if self._reevaluation is None:
                raise BadValueError(
                    f"CompareView compares the model of a session with its variants; got {type(source).__name__}.",
                    hint="Give it what open_session returned, or what s.reevaluate gave.",
                )
            return
        self._answers, self._seen_answers = CompareAnswers(self.session), HeatAnswers(self.session)
        own = self.session.digests().get("data")
        for name, one in self._given.items():
            if one.digests().get("data") != own:
                raise BadValueError(f'"{name}" has other data than the session.', hint="Open both on the same data.")
        self.base = str(self.session.name)
        self.n_samples = len(self.session.data)
        self._take_tags()
        self._take_variants(fetch=False)
        if self.sample is None and self.n_samples:
            self.sample = 0
        self.observe(lambda change: self._fetch_all(), names=["variant"])
        self.observe(lambda change: self._fetch_sample(), names=["sample"])
        self.observe(lambda change: self._fetch(), names=["target"])
        self.observe(lambda change: self._fetch_maps(), names=["component", "layer", "n_moved"])
        self.observe(lambda change: self._fetch_differences(), names=["population", "samples"])
        self.observe(self._forget, names=["differences"])
        self._undo.append(self.session.data.on_tags(lambda: deliver(self._take_tags, key=(id(self), "tags"))))
        self._undo.append(self.session.on_variants(lambda: deliver(self._take_variants, key=(id(self), "variants"))))
        self._fetch_all()

    # The models -------------------------------------------------------------------------------------------------------

    @property
    def reevaluation(self) -> Reevaluation | None:
        """The re-evaluation on show; may be set to another one, or to None."""
        return self._reevaluation

    @reevaluation.setter
    def reevaluation(self, found: Reevaluation | None) -> None:
        if found is not None and not isinstance(found, Reevaluation):
            raise BadValueError(
                f"A re-evaluation is what s.reevaluate gives; got {type(found).__name__}.",
                hint="view.reevaluation = s.reevaluate(fixed, attacked=pairs)",
            )
        self._reevaluation = found
        self.report = {} if found is None else report_of(found)

    def _take_tags(self) -> None:
        if not self._is_closed:
            self.tags = sorted(map(str, self.session.data.tags()))
            if self._held is not None and str(self.population).startswith("tag:"):
                self._fetch_differences()  # other samples may bear it now

    @property
    def list_layer(self) -> str:
        """Layer of the components: the chosen one, that of the selected component, the first that the edits change."""
        if self.layer:
            return self.layer
        if self.component:
            address = ComponentId.parse(self.component)
            if address.layer in self.layers:
                return address.layer
        changed = self._held.changed_layers() if self._held is not None else ()
        return next((name for name in changed if name in self.layers), self.layers[-1] if self.layers else "")

    # What is wanted ---------------------------------------------------------------------------------------------------

    def wanted(self, what: str) -> dict[str, Any]:
        """What the payload of this name has to belong to."""
        digest = "" if self._held is None else str(self._held.digests().get("model", ""))
        now: dict[str, Any] = {"variant": self.variant, "digest": digest}
        if what == "differences":
            among = ""
            if self.population == "selected":
                ids = np.array(self.samples, dtype=np.int64)
                among = hashlib.blake2b(ids.tobytes(), digest_size=8).hexdigest()
            elif isinstance(self.population, str) and self.population.startswith("tag:"):
                among = self._tagged(self.population.removeprefix("tag:"))
            return {**now, "population": self.population, "among": among}
        now |= {"sample": self.sample, "target": self.target or "top"}
        return {**now, "layer": self.list_layer, "n_moved": self.n_moved} if what == "maps" else now

    def _tagged(self, name: str) -> str:
        if name not in self.tags:
            return ""
        ids = np.array([int(i) for i in self.session.data.tag(name)], dtype=np.int64)
        return hashlib.blake2b(ids.tobytes(), digest_size=8).hexdigest()

    @staticmethod
    def fits(have: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
        """Whether a payload belongs to what is wanted."""
        return bool(have) and all(have.get(key) == value for key, value in wanted.items())

    # Asking for it ----------------------------------------------------------------------------------------------------

    def _fetch_all(self) -> None:
        self._other()  # holds it, with its layers
        self._fetch_sample()
        self._fetch_differences()

    def _fetch_sample(self) -> None:
        if self.sample is None:
            self._drop("picture", "outputs", "maps")
            return
        if self.picture.get("sample") != self.sample:
            wish = {"sample": self.sample}
            self._ask(
                "picture", wish, self._seen_answers.picture, self.sample, title=f"Sample {self.sample}", quiet=True
            )
        else:
            self._settle("picture")
        self._fetch()

    def _fetch(self) -> None:
        other, sample = self._other(), self.sample
        if other is None or sample is None:
            self._drop("outputs", "maps")
            return
        wish = self.wanted("outputs")
        if self.fits(self.outputs, wish):
            self._settle("outputs")
        else:
            title = f"Outputs of sample {sample}"
            self._ask("outputs", wish, self._answers.outputs, other, sample, wish["target"], title=title)
        self._fetch_maps()

    def _fetch_maps(self) -> None:
        other, sample = self._other(), self.sample
        if other is None or sample is None:
            self._drop("maps")
            return
        wish = self.wanted("maps")
        if self.fits(self.maps, wish):
            self._settle("maps")
            return
        answers = self._answers.maps
        title = f"Maps of sample {sample}"
        self._ask("maps", wish, answers, other, sample, wish["target"], wish["layer"], self.n_moved, title=title)

    def _fetch_differences(self) -> None:
        other = self._other()
        if other is None:
            self._drop("differences")
            return
        if not self.population:
            self._drop("differences")
            if self.differences:
                self.differences = {}
            return
        wish = self.wanted("differences")
        if self.fits(self.differences, wish):
            self._settle("differences")
            return
        answers = self._answers.differences
        chosen = list(self.samples) if self.population == "selected" else []
        self._ask("differences", wish, answers, other, self.population, chosen, title="Samples", lane=self._long)

    def _ask(self, trait: str, wish: dict[str, Any], answer: Any, *given: Any, **how: Any) -> None:
        """Ask for a payload, unless just this is on its way."""
        before = self._on_way.get(trait)
        if before is not None and before[0] == wish:
            job = before[1]
            if job.state in ("waiting", "running", "done") and not job.progress.token.is_cancelled:
                return

        def made() -> tuple[dict[str, Any], Any]:
            try:
                found = answer(*given)
            except WorkbenchError as error:
                if getattr(given[0], "is_closed", False):  # closed on the way: nobody waits for it any more
                    raise CancelledError(error.message, hint=error.hint) from error
                raise
            payload, record = found if isinstance(found, tuple) else (found, None)
            return {**payload, **wish}, record

        self._on_way[trait] = (wish, self.submit(made, into=trait, **how))

    def _settle(self, trait: str) -> None:
        self._on_way.pop(trait, None)
        self.settle(trait)

    def _drop(self, *traits: str) -> None:
        """Nothing can be asked for now: what is on show stays."""
        for trait in traits:
            self._settle(trait)
        self._report()

    def _put(self, trait: str, value: Any, job: Any) -> None:
        """Take a payload with the record that it was made of, unless another one is wanted by now."""
        if not isinstance(value, tuple):
            super()._put(trait, value, job)
            return
        payload, record = value
        if self._is_closed or not self.is_newest(job):
            return
        if trait in ("outputs", "maps") and isinstance(record, Comparison):
            is_fuller = trait == "maps" or self.comparison is None or self.comparison.sample != record.sample
            if is_fuller or not self.fits(self.maps, self.wanted("maps")):
                self.comparison = record
        elif trait == "differences":
            self.result = record
        super()._put(trait, payload, job)

    def _forget(self, change: Any) -> None:
        if not change["new"]:
            self.result = None

    @on("measure")
    def _on_measure(self) -> None:
        """Compare the population again, also after it was cancelled."""
        self._fetch_differences()

    def stale_reason(self) -> str:
        if self.session is None or not self.variant:
            return ""
        if self._other() is None:
            return f"{self.variant} is closed: what is shown was computed before."
        if self.outputs and not self.fits(self.outputs, self.wanted("outputs")):
            return f"These are still the outputs of sample {self.outputs['sample']} under {self.outputs['variant']}."
        return ""

    # Tables -----------------------------------------------------------------------------------------------------------

    def table(self, what: str = "") -> pd.DataFrame:
        """What is on show as a frame.

        Parameters
        ----------
        what : str
            ``samples``: those of the population, in the order on show (default, where there is a session);
            ``outputs``: of the current sample; ``components``: whose relevance changed; ``classes``; ``reevaluation``.
        """
        import pandas as pd

        kinds = ("samples", "outputs", "components", "classes", "reevaluation")
        what = check.one_of("what", what or ("samples" if self.session is not None else "reevaluation"), kinds)
        if what == "reevaluation":
            return pd.DataFrame() if self._reevaluation is None else self._reevaluation.to_frame()
        if what == "outputs":
            rows = self.outputs.get("rows", [])
            columns = ["name", "before", "after", "change", "probability_before", "probability_after"]
            columns += ["rank_before", "rank_after"]
            data: dict[str, Any] = {key: [one[key] for one in rows] for key in columns}
            return pd.DataFrame(data, index=pd.Index([one["index"] for one in rows], name="output", dtype="int64"))
        if what == "components":
            moved = self.maps.get("moved") or {"components": [], "before": [], "after": [], "change": []}
            data = {key: np.asarray(moved[key], dtype=np.float32) for key in ("before", "after", "change")}
            index = pd.Index(list(moved["components"]), name="component", dtype="object")
            return with_labels(pd.DataFrame(data, index=index), self.labels)
        found = self.result if self.result is not None else _nothing()
        if what == "classes":
            return found.by_class()
        return found.to_frame(None if self.kind == "all" else self.kind)

    def selected(self) -> list[Any]:
        if self.session is None:
            return []
        chosen = [] if self.sample is None else [self.sample]
        return list(dict.fromkeys([*chosen, *self.samples]))

    def select(self, ids: list[Any]) -> None:
        """Select samples: the first is shown, several are chosen."""
        if self.session is None:
            super().select(ids)
        wanted = self.shared.check("samples", tuple(ids))
        self.sample = wanted[0] if wanted else None
        self.samples = wanted if len(wanted) > 1 else ()

    def plot(self, what: str = "", **options: Any) -> Any:
        """A plotly figure: of the population (``samples``), the current sample (``outputs``), the ``reevaluation``."""
        records = {"samples": self.result, "outputs": self.comparison, "reevaluation": self._reevaluation}
        if what:
            found = records[check.one_of("what", what, tuple(records))]
        else:
            found = next((one for one in records.values() if one is not None), None)
        if found is None:
            raise BadValueError("There is nothing to plot yet.", hint="`view.wait()` waits for it.")
        return found.plot(**options)

    # Keeping the view -------------------------------------------------------------------------------------------------

    def source_code(self) -> str:
        given = ["s"] if self.session is not None else []
        if self.variant in self._given:
            given.append(f"against={_name_in_notebook(self._given[self.variant]) or 'other'}")
        if self._reevaluation is not None:
            name = _name_in_notebook(self._reevaluation) or "report"
            given.append(f"reevaluation={name}" if given else name)
        return ", ".join(given)

    def plain_code(self, *, most: int = linking.FEW) -> str:
        *rest, call = super().plain_code(most=most).splitlines()
        if self._held is not None and self.variant not in self._given:
            rest.append(f"# {self.variant!r} is s.variant({self.variant!r}, edits): {'; '.join(self._held.changes())}")
        if self._reevaluation is not None and _name_in_notebook(self._reevaluation) is None:
            rest.append("# report is what s.reevaluate(...) gave")
        return "\n".join([*rest, call])

    def still(self) -> Still:
        return still_of(self)

    def results(self) -> list[str]:
        return list(dict.fromkeys([*self.maps.get("recipes", ()), self.differences.get("recipe", "")]))

    def recipe(self) -> dict[str, Any]:
        """What the view rests on: both models, data and the stored results by their digests."""
        other = {} if self._held is None else {"variant": str(self._held.digests().get("model", ""))}
        return {**super().recipe(), **other}

    def offers(self) -> Offer:
        rows = self.differences.get("rows") or {}
        moved = self.maps.get("moved") or {}
        near = range(self.sample + 1, self.n_samples) if self.sample is not None else range(self.n_samples)
        samples = list(dict.fromkeys([*rows.get("samples", ()), *near]))
        return Offer(tuple(moved.get("components", ())), tuple(samples)[:24])

    def recordings(self, wanted: Offer) -> Iterator[Recording]:
        """Pictures, outputs and maps of the wanted samples under the variant on show, and of the others the current."""
        if self._other() is None:
            return
        for name in [one["name"] for one in self.variants if one["is_open"]][-_RECORDED_VARIANTS:]:
            if name != self.variant and self.sample is not None:
                yield from self._recorded(name, self.sample)
            yield Recording(
                lambda n=name: {"differences": self._differences_under(n)},  # type: ignore[misc]
                {"variant": name, "population": self.population},
                what="populations",
            )
        for sample in wanted.samples:
            yield Recording(
                lambda s=sample: {"picture": self._seen_answers.picture(s)},  # type: ignore[misc]
                {"sample": sample},
                what="samples",
            )
            yield from self._recorded(self.variant, sample)

    def _recorded(self, name: str, sample: int) -> Iterator[Recording]:
        other, target = self._sessions().get(name), self.target or "top"
        if other is None:
            return
        layer = self.list_layer if self.list_layer in self._answers.layers(other) else ""
        now = {"variant": name, "digest": str(other.digests().get("model", "")), "sample": sample, "target": target}

        def made() -> dict[str, Any]:
            outputs = self._answers.outputs(other, sample, target)[0]
            maps = self._answers.maps(other, sample, target, layer, self.n_moved)[0]
            return {"outputs": {**outputs, **now}, "maps": {**maps, **now, "n_moved": self.n_moved}}

        when = {"variant": name, "sample": sample, "target": self.target, "layer": self.layer}
        yield Recording(made, when, what="outputs and maps")

    def _differences_under(self, name: str) -> dict[str, Any]:
        """What differs under another variant, as it was found here; empty where it cannot be computed any more."""
        wish = self.wanted("differences")
        if name == self.variant and self.fits(self.differences, wish):
            return dict(self.differences)
        other = self._sessions().get(name)
        if other is None or not self.population:
            return {}
        found = self._answers.differences(other, self.population, list(self.samples))[0]
        return {**found, **wish, "variant": name, "digest": str(other.digests().get("model", ""))}

    def describe(self) -> str:
        if self.session is None:
            return f"{len(self.report.get('models', ()))} models re-evaluated"
        return f"{self.variant or 'no variant'} against {self.base}, sample {self.sample}"


def _nothing() -> Differences:
    """Differences over no sample."""
    none = np.zeros(0, np.int64)
    return compared(("", ""), none, np.zeros((0, 2)), np.zeros((0, 2)), labels=none, origins=none, classes=())


def _name_in_notebook(thing: Any) -> str | None:
    """What something is called in the notebook; None if it has no name there."""
    import sys

    if "IPython" not in sys.modules:
        return None
    from IPython import get_ipython

    shell = get_ipython()
    names = [] if shell is None else [k for k, v in shell.user_ns.items() if v is thing and not k.startswith("_")]
    return min(names, key=len, default=None)
