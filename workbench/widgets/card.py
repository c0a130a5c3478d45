"""ComponentCard: what is this component?"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from workbench.core import check
from workbench.core.errors import BadValueError, CancelledError, StoreError, WorkbenchError
from workbench.core.ids import ComponentId
from workbench.session.deliver import deliver
from workbench.widgets import wire
from workbench.widgets.base import SessionWidget, on, register_widget
from workbench.widgets.card_answers import CardAnswers
from workbench.widgets.card_still import still_of
from workbench.widgets.esm import css, esm
from workbench.widgets.handlers import optional
from workbench.widgets.keeping import Offer
from workbench.widgets.labelling import ShowsLabels
from workbench.widgets.recording import Recording
from workbench.widgets.stills import Still

if TYPE_CHECKING:
    import pandas as pd

    from workbench.session.lane import Job
    from workbench.session.notes import Note

__all__ = ["ComponentCard"]

logger = logging.getLogger(__name__)

_WANTED = ("component", "by", "mode", "n", "quantile")
_PINNED = 6
_STOPS = (1.0, 0.75, 0.5, 0.25, 0.0)
_STOPPED = 3  # components of a page that have references at all stops
_REST_S = 0.15
_AHEAD = 3
_NOTE_BYTES = 200_000


@register_widget("card")
class ComponentCard(ShowsLabels, SessionWidget):
    """What is known of the selected component, or of some that stay and are compared.

    Shows the samples on which the component answers most strongly or is most relevant, whole, cropped around the peak
    or masked to where it answers, and those at any other quantile of its values; samples that look alike and on which
    it does not fire; how its values are spread over the data, with the current sample marked; the classes it serves;
    components that go together with it; and a label and a note that you give it. Click a reference to select the
    sample, a related component to go there.

    Parameters
    ----------
    source : Session
    component : str, optional
        Selected at the start.
    **view
        `by`, `mode`, `quantile`, `n`, `pinned` and the other traits. Several components that are pinned are shown side
        by side.

    Examples
    --------
    >>> ComponentCard(s, quantile=0.5)  # doctest: +SKIP
    >>> ComponentCard(s, pinned=["bn2/unit/17", "bn2/unit/40"])  # doctest: +SKIP
    """

    _esm = esm("card")
    _css = css("card")
    follows = ("component", "sample")
    stands_for = "component"

    component = traitlets.Any(None, allow_none=True, help="Address of the selected component, or None.").tag(sync=True)
    sample = traitlets.Any(None, allow_none=True, help="Id of the current sample, marked on the card.").tag(sync=True)
    by = traitlets.Enum(
        ["activation", "relevance"], "activation", help="What references are chosen by, as in `Session.references`."
    ).tag(sync=True, view=True)
    mode = traitlets.Enum(
        ["crop", "whole", "mask"], "crop", help="What is shown of each reference, as in `Session.reference_views`."
    ).tag(sync=True, view=True)
    quantile = traitlets.Float(
        1.0, min=0.0, max=1.0, help="Of the values: 1 shows the strongest references, 0 the weakest."
    ).tag(sync=True, view=True)
    n = traitlets.Int(12, min=1, max=64, help="References at most.").tag(sync=True, view=True)
    pinned = traitlets.Any(
        (), help="Components to stay on while others are selected, side by side; none to follow."
    ).tag(sync=True, view=True, to_json=lambda value, widget: list(value))
    references = traitlets.Dict(help="Component, by, mode, quantile, samples, values, captions and their sheet.").tag(
        sync=True, **wire.arrays
    )
    spread = traitlets.Dict(help="Component and quantity, edges and counts of the histogram, quantiles.").tag(
        sync=True, **wire.arrays
    )
    mark = traitlets.Dict(help="Component, sample and its value: what is marked in the histogram.").tag(
        sync=True, **wire.arrays
    )
    classes = traitlets.Dict(help="Component, by, and the classes with the largest mean.").tag(sync=True, **wire.arrays)
    related = traitlets.Dict(help="Component, and those that go together with it, in three layers.").tag(
        sync=True, **wire.arrays
    )
    contrast = traitlets.Dict(help="Component, and samples that look like its references and do not fire.").tag(
        sync=True, **wire.arrays
    )
    compared = traitlets.Dict(help="The same records of the other pinned components.").tag(sync=True, **wire.arrays)
    marks = traitlets.List(
        traitlets.Dict(), help="Where the sample lies among the values of the other pinned components."
    ).tag(sync=True, payload=True)
    notes = traitlets.Dict(help="Notes on the components on show, by address.").tag(sync=True, payload=True)
    stops = traitlets.List(traitlets.Float(), help="Quantiles that a page without kernel has; none: all.").tag(
        sync=True, payload=True
    )

    def bind(self, source: Any) -> None:
        if self.session is None:
            raise BadValueError(
                f"ComponentCard shows the components of a session; got {type(source).__name__}.",
                hint="Give it what open_session returned.",
            )
        self._answers = CardAnswers(self.session)
        self._others: dict[str, dict[str, Any]] = {}
        self._ahead: Job | None = None
        self.observe(lambda change: self._fetch(), names=["component", "pinned", "by", "mode", "n", "quantile"])
        self.observe(lambda change: self._fetch_values(), names=["sample"])
        self._fetch()

    @property
    def shown(self) -> str | None:
        """Address of the component on the card: the first pinned one, else the selected one."""
        return self.pinned[0] if self.pinned else self.component

    @traitlets.validate("quantile")
    def _is_share(self, proposal: Any) -> float:
        return check.between("quantile", proposal["value"], 0, 1)

    @traitlets.validate("pinned")
    def _are_components(self, proposal: Any) -> tuple[str, ...]:
        value = proposal["value"]
        if value is None or value == "":
            return ()
        given = [value] if isinstance(value, (str, ComponentId)) else value
        if not isinstance(given, (list, tuple)):
            raise BadValueError(f"Components are pinned by their addresses; got {type(value).__name__}.")
        found = tuple(dict.fromkeys(self.shared.check("component", one) for one in given))
        if len(found) > _PINNED:
            raise BadValueError(f"At most {_PINNED} components can be compared; got {len(found)}.")
        return found

    def _fetch(self) -> None:
        if self._ahead is not None:
            self._ahead.cancel()  # what is asked for now goes before what may be asked for
        self._fetch_labels()
        if self.shown is None:
            self._report()
            return
        have, title = self.references, f"References of {self.shown}"
        wanted = self._wanted()
        is_there = not have.get("is_preview") and tuple(have.get(key) for key in _WANTED) == wanted
        # What takes no model goes first: whole pictures, then values, then crops, whose maps may be to compute.
        self.submit_unless(is_there or self.mode == "whole", self._preview, *wanted, topic="preview", title=title)
        self._fetch_values()
        self._fetch_facts()
        self.submit_unless(is_there, self._references, *wanted, into="references", title=title)
        self._fetch_others()

    def _fetch_values(self) -> None:
        component, sample = self.shown, self.sample
        if component is None:
            return
        by, others = self.by, self.pinned[1:]
        is_spread = (self.spread.get("component"), self.spread.get("quantity")) == (component, by)
        is_marked = sample is None or _is_mark_of(self.mark, component, sample, by)
        title = f"Values of {component}"
        self.submit_unless(
            is_spread and is_marked, self._values, component, by, sample, topic="values", title=title, quiet=is_spread
        )
        are_marked = len(self.marks) == len(others) and all(
            _is_mark_of(mark, one, sample, by) for mark, one in zip(self.marks, others, strict=True)
        )
        if not others:
            self.marks = []
        self.submit_unless(are_marked, self._marks, others, by, sample, into="marks", title="Values", quiet=True)

    def _fetch_facts(self) -> None:
        component, by, answers = self.shown, self.by, self._answers
        title = f"Classes of {component}"
        is_there = (self.classes.get("component"), self.classes.get("by")) == (component, by)
        self.submit_unless(is_there, answers.classes, component, by, into="classes", title=title, quiet=True)
        title, is_there = f"What goes together with {component}", self.related.get("component") == component
        self.submit_unless(is_there, answers.related, component, into="related", title=title, quiet=True)
        title, is_there = f"What looks like {component}", self.contrast.get("component") == component
        self.submit_unless(is_there, answers.contrast, component, into="contrast", title=title, quiet=True)

    def _fetch_others(self) -> None:
        if len(self.pinned) < 2:
            self.settle("compared")
            self.compared = {}
            return
        title = "Cards to compare"
        self.submit(self._compare, self.pinned, *self._wanted()[1:], into="compared", title=title)

    def _take_notes(self, found: Mapping[str, Note]) -> None:
        """Labels of all and notes of what is on show."""
        super()._take_notes(found)
        on_show = [*self.pinned, self.component]
        self.notes = {one: found[one].note for one in on_show if one in found and found[one].note}

    def _wanted(self) -> tuple[str | None, str, str, int, float]:
        return self.shown, self.by, self.mode, self.n, self.quantile

    def _put(self, trait: str, value: Any, job: Any) -> None:
        """Take a result, unless the card has left its component meanwhile and come back to what it has."""
        if trait in ("references", "classes", "related", "contrast") and value["component"] != self.shown:
            return
        super()._put(trait, value, job)
        if trait == "related" and not self._is_closed:
            self._look_ahead()

    def _look_ahead(self) -> None:
        """Have the store filled with what the next click will most likely ask for: the nearest components."""
        near = next((group["components"] for group in self.related.get("groups", ()) if group["where"] == "near"), ())
        if chosen := tuple(near[:_AHEAD]):
            # Not by `submit`: nobody waits for it, and it has nothing to show.
            self._ahead = self._lane.submit(
                self._fill, chosen, self.by, self.mode, self.n, topic="ahead", title="Cards nearby"
            )

    # The work, on the lane --------------------------------------------------------------------------------------------

    def _references(
        self, component: str, by: str, mode: str, n: int, quantile: float, progress: Any = None
    ) -> dict[str, Any]:
        if quantile < 1 and mode != "whole":
            _rest(progress)
        return self._answers.references(component, by, mode, n, quantile, progress=progress)

    def _preview(self, component: str, by: str, mode: str, n: int, quantile: float) -> None:
        record = {**self._answers.references(component, by, "whole", n, quantile), "mode": mode, "is_preview": True}

        def put() -> None:
            if not self._is_closed and self._wanted() == (component, by, mode, n, quantile):
                self.references = record

        deliver(put)

    def _fill(self, components: tuple[str, ...], by: str, mode: str, n: int, progress: Any = None) -> None:
        for component in components:
            try:
                self._answers.references(component, by, mode, n, 1.0, progress=progress)
            except CancelledError:
                raise
            except WorkbenchError as error:  # nobody has asked for it yet; who does is told then
                logger.debug("%s ahead: %s", component, error)

    def _values(self, component: str, by: str, sample: int | None) -> None:
        deliver(self._take_values, *self._answers.values(component, by, sample))

    def _take_values(self, spread: dict[str, Any], mark: dict[str, Any]) -> None:
        if self._is_closed or (self.shown, self.by) != (spread["component"], spread["quantity"]):
            return
        with self.hold_sync():
            if self.sample in (mark["sample"], None):
                self.mark = mark
            if tuple(self.spread.get(k) for k in ("component", "quantity")) != (
                spread["component"],
                spread["quantity"],
            ):
                self.spread = spread

    def _marks(self, components: tuple[str, ...], by: str, sample: int | None) -> list[dict[str, Any]]:
        return [self._answers.values(one, by, sample)[1] for one in components]

    def _compare(
        self, pinned: tuple[str, ...], by: str, mode: str, n: int, quantile: float, progress: Any = None
    ) -> dict[str, Any]:
        """The records of all pinned components but the first, and what they share with it."""
        answers = self._answers
        if quantile < 1 and mode != "whole":
            _rest(progress)
        cards = []
        first = answers.samples(pinned[0], by, n, quantile)
        for one in pinned[1:]:
            wanted = (one, by, mode, n, quantile)
            old = self._others.get(one, {})
            if (have := old.get("references")) is None or tuple(have[k] for k in _WANTED) != wanted:
                have = answers.references(*wanted, progress=progress)
            card = {
                "references": have,
                "spread": answers.values(one, by, None)[0],
                "classes": answers.classes(one, by),
                "related": old.get("related") or answers.related(one),
                "contrast": old.get("contrast") or answers.contrast(one),
                "correlation": answers.shared(pinned[0], one, by),
                "n_shared": len(first & set(have["samples"])),
            }
            cards.append(card)
            if progress is not None:
                progress.token.raise_if_cancelled()
        self._others = {card["references"]["component"]: card for card in cards}  # type: ignore[index]
        return {"first": pinned[0], "by": by, "mode": mode, "n": n, "quantile": quantile, "cards": cards}

    # Labels and notes -------------------------------------------------------------------------------------------------

    def write(self, label: str | None = None, note: str | None = None, *, component: str | None = None) -> Note:
        """Give the component on show, or another, a label or a note; they are kept with the model's fingerprint.

        An empty text takes it away, None leaves it as it is. All labels are in ``session.notes``.
        """
        chosen = component or self.shown
        if chosen is None:
            raise BadValueError("No component is selected.", hint="Name one: card.write('…', component='bn2/unit/17').")
        found: Note = self.session.notes.put(self.shared.check("component", chosen), label=label, note=note)
        return found

    def decisions(self) -> pd.DataFrame:
        """All labels and notes that were given to components of this model, those changed last first."""
        found: pd.DataFrame = self.session.notes.table()
        return found

    @on("note", component=str, label=optional(str), note=optional(str))
    def _on_note(self, component: str, label: str | None, note: str | None) -> Any:
        address = self.shared.check("component", component)

        def put() -> dict[str, Any]:
            found = self.session.notes.put(address, label=label, note=note)
            return {"component": address, "label": found.label, "note": found.note}

        return self.submit(put, title=f"Label of {address}", quiet=True)

    # In Python --------------------------------------------------------------------------------------------------------

    def stale_reason(self) -> str:
        have = self.references
        if not have or tuple(have[key] for key in _WANTED) == self._wanted():
            return ""
        if have["component"] == self.shown:
            return "These are still the references of other settings."
        return f"These are still the references of {have['component']}."

    def table(self) -> pd.DataFrame:
        """The references on the card, strongest first, with the sample as index; of all components that are compared.

        The rank counts originals from the strongest.
        """
        import pandas as pd

        parts = []
        for have in self._all_references():
            first, n = have.get("first", 1), len(have.get("samples", []))
            data = {
                "component": have.get("component"),
                "rank": range(first, first + n),
                have.get("by", self.by): np.asarray(have.get("values", []), dtype=np.float32),
                "caption": have.get("captions", []),
            }
            parts.append(pd.DataFrame(data, index=pd.Index(have.get("samples", []), name="sample", dtype="int64")))
        return parts[0] if len(parts) == 1 else pd.concat(parts)

    def _all_references(self) -> list[dict[str, Any]]:
        """What is on show: of the first component, and of those that are compared with it."""
        others = [card["references"] for card in self.compared.get("cards", ())] if len(self.pinned) > 1 else []
        return [self.references, *others]

    @property
    def selection(self) -> pd.DataFrame:
        """The references that are the selected sample; assigning takes ids, masks, frames and queries."""
        table = self.table()
        return table[table.index.isin(self.selected())]

    @selection.setter
    def selection(self, wanted: Any) -> None:
        from workbench.widgets.choosing import ids_of

        self.select(ids_of(wanted, self.table()))

    def selected(self) -> list[Any]:
        return [] if self.sample is None else [self.sample]

    def select(self, ids: list[Any]) -> None:
        """Select a sample by its id."""
        self.sample = ids[0] if ids else None

    def plot(self, **options: Any) -> Any:
        """The references as a contact sheet, a plotly figure."""
        if self.shown is None:
            raise BadValueError("No component is selected.", hint="Set `widget.component`, or click one in an atlas.")
        address = ComponentId.parse(self.shown)
        references = self.session.references(address.layer, by=self.by)
        return references.plot(
            **{"components": [address], "n": self.n, "pictures": self.session.data.picture, **options}
        )

    # Keeping ----------------------------------------------------------------------------------------------------------

    def still(self) -> Still:
        return still_of(self)

    def results(self) -> list[str]:
        if self.shown is None or not self.references:
            return []
        layers = dict.fromkeys(ComponentId.parse(one).layer for one in (self.pinned or (self.shown,)))
        return [getattr(self.session.references(layer, by=self.by), "recipe", "") for layer in layers]

    def offers(self) -> Offer:
        return Offer(components=self.pinned, samples=tuple(self.references.get("samples", ())))

    def recorded_state(self) -> dict[str, Any]:
        try:
            found = self.session.notes.all()
        except StoreError:  # which the card says already
            found = {}
        notes, left = {}, _NOTE_BYTES
        for address, note in found.items():
            if note.note and (left := left - len(note.note.encode())) > 0:
                notes[address] = note.note
        return {"stops": sorted({*_STOPS, self.quantile}, reverse=True), "notes": notes}

    def recordings(self, wanted: Offer) -> Iterator[Recording]:
        """The wanted components at the chosen quantile, then those that are related, then other quantiles of some."""
        answers = self._answers
        related = [c for group in self.related.get("groups", ()) for c in group["components"]]
        for component in dict.fromkeys([*wanted.components, *related]):

            def references(component: str = component) -> dict[str, Any]:
                return {"references": answers.references(component, self.by, self.mode, self.n, self.quantile)}

            def spread(component: str = component) -> dict[str, Any]:
                found, mark = answers.values(component, self.by, self.sample)
                return {"spread": found, "mark": mark, "classes": answers.classes(component, self.by)}

            def facts(component: str = component) -> dict[str, Any]:
                return {"related": answers.related(component), "contrast": answers.contrast(component)}

            shown = {"component": component, "by": self.by}
            settings = {**shown, "mode": self.mode, "n": self.n, "quantile": self.quantile}
            kind = "" if component in wanted.components else "related "
            yield Recording(references, settings, what=f"{kind}cards")
            yield Recording(spread, shown, what=f"{kind}distributions")
            yield Recording(facts, {"component": component}, what=f"{kind}relations")
        for component in list(dict.fromkeys([*([self.shown] if self.shown else []), *wanted.components]))[:_STOPPED]:
            for quantile in _STOPS:
                if quantile == self.quantile:
                    continue

                def at(component: str = component, quantile: float = quantile) -> dict[str, Any]:
                    return {"references": answers.references(component, self.by, self.mode, self.n, quantile)}

                settings = {"component": component, "by": self.by, "mode": self.mode, "n": self.n, "quantile": quantile}
                yield Recording(at, settings, what="quantiles")

    def describe(self) -> str:
        return ", ".join(self.pinned) if self.pinned else self.shown or "nothing selected"


def _is_mark_of(mark: Mapping[str, Any], component: str, sample: int | None, quantity: str) -> bool:
    return (mark.get("component"), mark.get("sample"), mark.get("quantity")) == (component, sample, quantity)


def _rest(progress: Any) -> None:
    """Wait until a slider rests: whoever goes on moving it cancels what waits here, and no model runs in vain."""
    end = time.monotonic() + _REST_S
    while time.monotonic() < end:
        if progress is not None:
            progress.token.raise_if_cancelled()
        time.sleep(0.01)
