"""DirectionViewer: is there a direction for this concept, can it be relied on, and does the output depend on it?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from workbench.core import check
from workbench.core.errors import BadValueError
from workbench.core.results import ConceptSensitivity, DirectionSet
from workbench.methods.base import Directs
from workbench.session.deliver import deliver
from workbench.session.lane import Job
from workbench.widgets import linking, wire
from workbench.widgets.base import on, register_widget
from workbench.widgets.cav_answers import METHODS, DirectionAnswers, Wish
from workbench.widgets.cav_asking import WISHED, Asking
from workbench.widgets.cav_still import still_of
from workbench.widgets.esm import css, esm
from workbench.widgets.keeping import Offer
from workbench.widgets.labelling import ShowsLabels, with_labels
from workbench.widgets.recording import Recording
from workbench.widgets.stills import Still

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["DirectionViewer"]

_KINDS = ("given", "selected", "tag:NAME", "mask:NAME")
_AGAINST = ("others", "random", "selected", "tag:NAME", "mask:NAME")
_RECORDED = 4  # samples in which a page shows directions that were not on show
_WRITTEN = 200  # samples that are written into code
_WHAT = {0: "", 1: "with", 2: "without"}


@register_widget("direction_viewer", shows=Directs)
class DirectionViewer(ShowsLabels, Asking):
    """A direction for a concept, how far it can be trusted, and whether the outputs depend on it.

    Make a concept from the selected samples, a tag or one of the data set's masks, and choose what it is compared with.
    Several methods stand side by side, with the area under the curve of held-out samples, the spread over resamples,
    the angles between them and with a planted direction where that is known, and the warnings of each. The strip shows
    all samples by their projection, held out where possible, with both tails as pictures; beside it the dependence of
    each class on the direction, against random ones, and the place of the direction in the chosen sample.

    Parameters
    ----------
    source : fitted CAV, or Session
        A direction that was fitted, by a session; or a session, with nothing fitted yet.
    layer : str, optional
        Where to look for directions; that of the fitted one.
    planted : mapping of str to (unit,) array, or (unit,) array, optional
        True directions that you know, to compare with. Those of artifacts that a data set planted are known by itself.
    **view
        `concept`, `negatives`, `methods`, `direction`, `bins`, `tail_size` and the other traits.

    Attributes
    ----------
    cav : CAV or None
        The fitted method of the direction on show, for editing, testing and correcting.

    Examples
    --------
    >>> DirectionViewer(s.fit(PatternCAV("bn2", positives="patch")))  # doctest: +SKIP
    >>> DirectionViewer(s, "bn2", concept="tag:patch", methods=["pattern", "svm"])  # doctest: +SKIP
    """

    _esm = esm("cav")
    _css = css("cav")
    follows = ("sample", "samples", "target", "component")
    stands_for = "component"

    sample = traitlets.Any(None, allow_none=True, help="Id of the current sample, or None.").tag(sync=True)
    samples = traitlets.Any((), help="Ids of the chosen samples.").tag(sync=True, **linking.members)
    target = traitlets.Any(None, allow_none=True, help='Output that is asked for, "logit:3"; None for none.').tag(
        sync=True
    )
    component = traitlets.Any(None, allow_none=True, help="Address of the selected component, or None.").tag(sync=True)
    layer = traitlets.Unicode("", help="Layer in which directions are looked for.").tag(sync=True, view=True)
    concept = traitlets.Unicode(
        "", help='Samples with the concept: "given", "selected", "tag:NAME", "mask:NAME"; empty for none.'
    ).tag(sync=True, view=True)
    positive_ids = traitlets.Any(
        (), help='Samples that the concept "selected" stands for; it follows what others select.'
    ).tag(sync=True, view=True, **linking.members)
    negatives = traitlets.Unicode(
        "",
        help='Samples without it: "others", "random", "selected", "tag:NAME", "mask:NAME"; empty as given, or others.',
    ).tag(sync=True, view=True)
    negative_ids = traitlets.Any((), help='Samples that the negatives "selected" stand for.').tag(
        sync=True, view=True, **linking.members
    )
    methods = traitlets.List(
        traitlets.Unicode(),
        ["pattern", "svm", "ridge", "mean-difference"],
        minlen=1,
        help="Ways to find the direction, side by side; closed forms come at once, filters after a moment.",
    ).tag(sync=True, view=True)
    scope = traitlets.Unicode(
        "within-class", help='Samples are compared "within-class", "all" with all, or in the class of this name.'
    ).tag(sync=True, view=True)
    pooling = traitlets.Enum(["max", "mean", "token"], "max", help="One vector per sample: over positions.").tag(
        sync=True, view=True
    )
    direction = traitlets.Unicode("", help="Address of the direction on show; empty for the first.").tag(
        sync=True, view=True
    )
    bins = traitlets.Int(40, min=5, max=200, help="Bins of the strip.").tag(sync=True, view=True)
    tail_size = traitlets.Int(8, min=1, max=48, help="Samples in each tail.").tag(sync=True, view=True)
    test_classes = traitlets.Bool(False, help="Whether the dependence of each class on the direction is computed.").tag(
        sync=True, view=True
    )
    n_tested = traitlets.Int(50, min=2, max=2000, help="Samples of each class that are looked at for that.").tag(
        sync=True, view=True
    )
    n_random = traitlets.Int(50, min=0, max=500, help="Random directions to compare that with.").tag(
        sync=True, view=True
    )
    options = traitlets.Dict(help="Layers, tags, masks, methods and classes to choose from.").tag(
        sync=True, **wire.arrays
    )
    found = traitlets.Dict(help="Layer, concept, counts, a row per direction, and the angles between them.").tag(
        sync=True, **wire.arrays
    )
    strip = traitlets.Dict(help="Direction, samples from the largest projection, values, kinds and labels.").tag(
        sync=True, **wire.arrays
    )
    tails = traitlets.Dict(help="Direction, and pictures of the samples at both ends.").tag(sync=True, **wire.arrays)
    tested = traitlets.Dict(help="Direction, and for each class score, interval, random interval and slope.").tag(
        sync=True, **wire.arrays
    )
    place = traitlets.Dict(help="Direction, sample, target, the picture and maps of the direction in it.").tag(
        sync=True, **wire.arrays
    )

    def __init__(self, source: Any = None, layer: str = "", *, planted: Any = None, **options: Any):
        self._given = _fitted_in(source)
        self._planted_here = (
            planted if isinstance(planted, Mapping) else {} if planted is None else {"planted": planted}
        )
        self._asked_for = set(options)
        self._made_for: Wish | None = None
        self._looked_on: Wish | None = None  # whose further methods were asked for
        self._method_on_show = ""
        if isinstance(result := getattr(source, "result_", None), ConceptSensitivity):  # a test of a direction
            asked = {"test_classes": True, "n_tested": source.n_samples, "n_random": result.n_random}
            options = {**asked, **options}
        if layer:
            options["layer"] = layer
        super().__init__(source, **options)

    def bind(self, source: Any) -> None:
        if self.session is None:
            hint = "Give it what open_session returned, or a direction that `session.fit` fitted."
            if getattr(source, "is_fitted", True) is False:
                hint = "Fit it first: s.fit(cav)."
            raise BadValueError(
                f"DirectionViewer shows directions of a session; got {type(source).__name__}.", hint=hint
            )
        self._answers = DirectionAnswers(self.session, self._given, self._planted_here)
        if self._given is not None:
            self._take_over(self._given)
        if not self.layer:
            raise BadValueError("DirectionViewer needs a layer.", hint='DirectionViewer(s, "blocks.6")')
        names = [str(name) for name, layer in self.session.layers().items() if layer.n_calls == 1]
        check.known("layer", self.layer, names, hint="`session.layers()` lists all.")
        self.options = {"layers": names, "n_samples": len(self.session.data)}
        self.observe(lambda change: self._fetch(), names=list(WISHED))
        self.observe(lambda change: self._fetch_shown(), names=["direction", "tail_size", "test_classes", "n_tested"])
        self.observe(lambda change: self._fetch_shown(), names=["n_random"])
        self.observe(lambda change: self._fetch_again(), names=["sample", "target"])
        self.observe(self._selected_elsewhere, names=["samples"])
        if hasattr(self.session.data, "on_tags"):
            self._undo.append(self.session.data.on_tags(lambda: deliver(self._tags_changed, key=(id(self), "tags"))))
        self.submit(self._answers.options, masks=False, into="options", topic="names", title="Names", quiet=True)
        self._fetch()
        self._fetch_options()

    def _take_over(self, given: Any) -> None:
        """Show the direction that was given as it was made, unless something else is asked for."""
        wanted = {"layer": given.layer, "concept": "given", "scope": str(given.scope), "pooling": given.pooling}
        if given.estimator in METHODS and "methods" not in self._asked_for:
            default = [one for one in self.methods if one != given.estimator]
            wanted["methods"] = [given.estimator, *default]
        for name, value in wanted.items():
            if name not in self._asked_for and not (name == "layer" and self.layer):
                setattr(self, name, value)

    # Checks -----------------------------------------------------------------------------------------------------------

    @traitlets.validate("layer")
    def _is_layer(self, proposal: Any) -> str:
        value: str = proposal["value"]
        if self.options.get("layers"):
            check.known("layer", value, self.options["layers"], hint="`session.layers()` lists all.")
        return value

    @traitlets.validate("concept", "negatives")
    def _is_kind(self, proposal: Any) -> str:
        value, name = proposal["value"], proposal["trait"].name
        options = _KINDS if name == "concept" else _AGAINST
        kind, colon, rest = value.partition(":")
        plain = {one for one in options if ":" not in one}
        if value and not (kind in ("tag", "mask") and rest if colon else value in plain):
            raise BadValueError(f"`{name}` is one of {', '.join(options)}; got {value!r}.")
        if value == "given" and self._given is None:
            raise BadValueError(
                "This viewer was not made with a fitted direction.", hint='Choose "selected", a tag or a mask.'
            )
        return str(value)

    @traitlets.validate("positive_ids", "negative_ids")
    def _are_samples(self, proposal: Any) -> tuple[int, ...]:
        return tuple(sorted(self.shared.check("samples", proposal["value"])))

    @traitlets.validate("methods")
    def _are_methods(self, proposal: Any) -> list[str]:
        for name in proposal["value"]:
            check.known("method", name, METHODS)
        return list(dict.fromkeys(proposal["value"]))

    @traitlets.validate("scope")
    def _is_scope(self, proposal: Any) -> str:
        value: str = proposal["value"]
        if not value.isdecimal() and self.session is not None:
            check.known("scope", value, ("within-class", "all", *map(str, self.session.data.classes)))
        return value

    # Keeping a direction ----------------------------------------------------------------------------------------------

    def keep(self) -> str:
        """Store the direction on show, select it as a component, and return its address.

        Afterwards it can be steered, explained and corrected by: ``viewer.cav`` is the fitted method.
        """
        address = self.shown
        if not address:
            raise BadValueError("There is no direction to keep.", hint="Choose a concept first.")
        self._kept(address)
        self.component = address
        return address

    def _kept(self, address: str) -> None:
        fitted = self._answers.restored(address)
        if fitted is not None:
            self.session.fit(fitted)

    @on("keep", direction=str)
    def _on_keep(self, direction: str) -> Job:
        """Store a direction that is on show, and select it."""
        if direction not in [row.get("direction") for row in self.found.get("rows", ())]:
            raise BadValueError(f"No direction {direction} is on show.")

        def keep() -> dict[str, str]:
            self._kept(direction)
            deliver(self._select_kept, direction)
            return {"direction": direction}

        return self.submit(keep, title=f"Keep {direction}")

    @on("again")
    def _on_again(self) -> None:
        """Go on with methods whose fit was cancelled."""
        self._fetch()

    def _select_kept(self, direction: str) -> None:
        if not self._is_closed:
            self.component = direction

    # In Python --------------------------------------------------------------------------------------------------------

    def stale_reason(self) -> str:
        if self.found and self._wish() != self._made_for:
            return "These are still the directions of other settings."
        if self.strip and self.shown and not self._fits(self.strip, self.shown):
            return f"This is still the strip of {self.strip['direction']}."
        return ""

    def table(self) -> pd.DataFrame:
        """The samples of the strip, largest projection first: projection, held out or not, concept, and label."""
        import pandas as pd

        have, names = self.strip, self.session.data.classes
        kind = np.asarray(have.get("kind", ()), dtype=np.uint8)
        labels = [names[i] if 0 <= i < len(names) else "" for i in have.get("class_", ())]
        data = {
            "projection": np.asarray(have.get("values", ()), dtype=np.float32),
            "is_held_out": kind >= 4,
            "concept": [_WHAT[int(k) % 4] for k in kind],
            "label": labels,
        }
        return pd.DataFrame(data, index=pd.Index(have.get("samples", []), name="sample", dtype="int64"))

    def directions(self) -> pd.DataFrame:
        """All directions on show by their address, with their numbers; a method that failed has its reason."""
        import pandas as pd

        rows = self.found.get("rows", [])
        left = ("settings", "planted", "seconds", "hint", "direction", "warnings")
        frame = pd.DataFrame(
            [
                {k: v for k, v in row.items() if k not in left}
                | {f"cosine with {name}": value for name, value in row.get("planted", {}).items()}
                | {"warnings": len(row.get("warnings", ()))}
                for row in rows
            ],
            index=pd.Index([row.get("direction", "") for row in rows], name="component", dtype=object),
        )
        return with_labels(frame, self.labels)

    def sensitivities(self) -> pd.DataFrame:
        """Dependence of each class on the direction on show; empty until it was asked for."""
        import pandas as pd

        rows = self.tested.get("rows", []) if self._fits(self.tested, self.shown) else []
        frame = pd.DataFrame(rows)
        return frame.set_index("class") if len(frame) else pd.DataFrame(index=pd.Index([], name="class"))

    def angles(self) -> pd.DataFrame:
        """Cosines between the directions on show, others of the layer, and planted ones."""
        import pandas as pd

        have = self.found.get("angles", {"names": [], "cosines": np.zeros((0, 0))})
        names = [one["text"] for one in have["names"]]
        return pd.DataFrame(np.asarray(have["cosines"]), index=names, columns=names)

    def tail(self, end: str = "high", n: int | None = None) -> list[int]:
        """Samples at an end of the strip, outermost first.

        Parameters
        ----------
        end : {"high", "low"}
        n : int, optional
            Default: `tail_size`.
        """
        check.one_of("end", end, ("high", "low"))
        ids = np.asarray(self.strip.get("samples", ()), dtype=np.int64)
        return [int(i) for i in (ids if end == "high" else ids[::-1])[: self.tail_size if n is None else n]]

    @property
    def selection(self) -> pd.DataFrame:
        """The selected samples, with their projections; assigning takes ids, masks, frames and queries."""
        table = self.table()
        return table[table.index.isin(self.selected())]

    @selection.setter
    def selection(self, wanted: Any) -> None:
        from workbench.widgets.choosing import ids_of

        self.select(ids_of(wanted, self.table()))

    def selected(self) -> list[Any]:
        return list(dict.fromkeys([*([self.sample] if self.sample is not None else []), *self.samples]))

    def select(self, ids: list[Any]) -> None:
        """Choose samples by their ids; the first becomes the current one. They do not become the positives."""
        chosen = [self.shared.check("sample", one) for one in ids]
        self.samples = tuple(chosen) if len(chosen) > 1 else ()
        self.sample = chosen[0] if chosen else None

    def plot(self, **options: Any) -> Any:
        """The direction on show as a plotly figure: both sets of samples, and the largest entries."""
        if not self.shown:
            raise BadValueError("There is no direction to plot.", hint="Choose a concept, and `widget.wait()`.")
        return self._answers.record(self.shown).plot(**options)

    # Keeping the view -------------------------------------------------------------------------------------------------

    def still(self) -> Still:
        return still_of(self)

    def source_code(self) -> str:
        given = self._given
        if given is None:
            return "s"
        own = given.params()
        parts = [repr(given.layer)]
        for name in ("positives", "negatives", "pairs"):
            if own[name] is not None:
                parts.append(f"{name}={_written(own[name])}")
        defaults = {"scope": "within-class", "pooling": "max", "concept": None, "seed": 0}
        parts += [f"{name}={own[name]!r}" for name, default in defaults.items() if own[name] != default]
        return f"s.fit(wb.methods.{type(given).__name__}({', '.join(parts)}))"

    def results(self) -> list[str]:
        recipe_of = getattr(self.session, "_recipe_of", None)
        fitted = [self._answers.fitted(row["direction"]) for row in self.found.get("rows", ()) if "direction" in row]
        if recipe_of is None:
            return []
        there = [one for one in dict.fromkeys(fitted) if one is not None]
        return [recipe_of(one).digest for one in there if self.session.has_fitted(one)]  # a refit is not stored

    def offers(self) -> Offer:
        high, low = (self.tails.get(end, {}).get("samples", ()) for end in ("high", "low"))
        return Offer(samples=tuple(i for pair in zip(high, low, strict=True) for i in pair))

    def recordings(self, wanted: Offer) -> Iterator[Recording]:
        """Strip and tails of the other directions, and the place of the one on show in the wanted samples."""
        answers, shown, number = self._answers, self.shown, self._number()
        if not shown:
            return
        target, there = self.target or "", [row["direction"] for row in self.found["rows"] if "direction" in row]
        first = self._sample_shown()
        samples = tuple(dict.fromkeys([*([] if first is None else [first]), *wanted.samples]))
        for address in dict.fromkeys([shown, *there]):

            def others(address: str = address) -> dict[str, Any]:
                strip = {**answers.strip(address), "made": number}
                return {"strip": strip, "tails": self._tails(strip, self.tail_size)}

            yield Recording(others, {"direction": address}, what="directions")
            for sample in samples if address == shown else samples[:_RECORDED]:

                def place(address: str = address, sample: int = sample) -> dict[str, Any]:
                    return {"place": {**answers.place(address, sample, target), "made": number}}

                # Without a selected sample the page shows the one with the largest projection.
                chosen = None if self.sample is None and sample == first else sample
                yield Recording(place, {"direction": address, "sample": chosen}, what="places of the direction")
                if chosen is None:
                    yield Recording(place, {"direction": address, "sample": sample}, what="places of the direction")

    def recorded_state(self) -> dict[str, Any]:
        return {"direction": self.shown}

    def describe(self) -> str:
        return self.shown or self.layer


def _fitted_in(source: Any) -> Any:
    """The fitted CAV that was given: itself, or that of a fitted test of it."""
    for one in (source, getattr(source, "cav", None)):
        if isinstance(getattr(one, "directions_", None), DirectionSet) and hasattr(one, "positives"):
            return one
    return None


def _written(samples: Any) -> str:
    """Samples as code."""
    if isinstance(samples, str):
        return repr(samples)
    if isinstance(samples, Mapping):
        return "{" + ", ".join(f"{name!r}: {_written(value)}" for name, value in samples.items()) + "}"
    if hasattr(samples, "index") and hasattr(samples, "iloc"):
        samples = samples.index[samples.to_numpy()] if samples.dtype.kind == "b" else samples.index
    ids = np.asarray(samples if hasattr(samples, "__array__") else list(samples))
    ids = np.flatnonzero(ids) if ids.dtype == bool else ids
    if len(ids) > _WRITTEN:
        return f"...  # {len(ids)} samples: too many to write down"
    return repr(ids.tolist())
