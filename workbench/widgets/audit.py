"""AuditPanel: which labels, components and samples need a human look, and what was decided?"""

from __future__ import annotations

import contextlib
from collections import OrderedDict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.core.bars import Bars
from workbench.core.errors import BadValueError, CancelledError, IncompleteError, UnknownNameError
from workbench.core.findings import KINDS, Finding, Findings, checked
from workbench.core.ids import ComponentId
from workbench.core.words import count
from workbench.session.decisions import VERDICTS, reviewer
from workbench.session.deliver import deliver
from workbench.session.lane import Job
from workbench.widgets import linking, wire
from workbench.widgets.audit_answers import evidence_of
from workbench.widgets.base import SessionWidget, on, register_widget
from workbench.widgets.esm import css, esm
from workbench.widgets.handlers import one_of, optional
from workbench.widgets.keeping import Offer
from workbench.widgets.recording import Recording
from workbench.widgets.stills import Picture, Still

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from workbench.session.decisions import Decision

__all__ = ["FILTERS", "AuditPanel"]

FILTERS = ("open", "second", "disagreed", "decided", "all")
"""Findings that I have not decided and nobody else has either; that others have decided and I have not; on which
reviewers differ; that somebody decided; all."""

_KEPT = 64  # answers
_MOST = 2000  # findings that are sent
_RECORDED = 100
_LAST = 50  # decisions on findings that are not in the queue
_COLUMNS = ["kind", "subject", "score", "reason", "old", "proposal", "verdict", "new", "who"]


@register_widget("audit", shows=Findings)
class AuditPanel(SessionWidget):
    """A queue of suspicious samples and components, one at a time, with what speaks for each and against it.

    A verdict is one key: A accepts a finding, R rejects it, U leaves it to somebody else, Z takes the last one back.
    Accepted samples get a tag, so that they can be the positives of a direction; components get a label if one is
    written. Decisions are kept in the store's folder and are there tomorrow.

    Parameters
    ----------
    source : Session or Findings
        Findings of one's own come with ``session=s``.
    findings : Findings, optional
        What is shown. Default: what ``s.findings(layer)`` gives.
    **view
        `layer`, `queues`, `filter`, `cursor`, `reviewer` and the other traits.

    Examples
    --------
    >>> panel = AuditPanel(s, reviewer="Ada", queues=["group", "label"])  # doctest: +SKIP
    >>> panel.decided()  # doctest: +SKIP
    >>> s.fit(wb.methods.PatternCAV("blocks.6", positives="suspect"))  # doctest: +SKIP
    """

    _esm = esm("audit")
    _css = css("audit")
    follows = ("component", "sample", "samples")
    stands_for = "sample"

    component = traitlets.Any(None, allow_none=True, help="Address of the current component, or None.").tag(sync=True)
    sample = traitlets.Any(None, allow_none=True, help="Id of the current sample, or None.").tag(sync=True)
    samples = traitlets.Any((), help="Ids of the chosen samples.").tag(sync=True, **linking.members)
    layer = traitlets.Unicode("", help="Layer whose tables are looked at; empty for the last stored one.").tag(
        sync=True, view=True
    )
    queues = traitlets.List(traitlets.Unicode(), help="Kinds of findings on show; empty for all.").tag(
        sync=True, view=True
    )
    filter = traitlets.Enum(FILTERS, "open", help="Findings on show: open, second, disagreed, decided or all.").tag(
        sync=True, view=True
    )
    cursor = traitlets.Unicode("", help="Id of the finding on show; empty for the first.").tag(sync=True, view=True)
    reviewer = traitlets.Unicode("", help="Who decides; empty for somebody without a name.").tag(sync=True, view=True)
    queue = traitlets.Dict(help="All findings in order, without their evidence; what could not be looked for.").tag(
        sync=True, **wire.arrays
    )
    decisions = traitlets.Dict(help="Decisions that stand, how far reviewers agree, and names of tags.").tag(
        sync=True, **wire.arrays
    )
    shown = traitlets.Dict(help="Evidence of the finding on show.").tag(sync=True, **wire.arrays)

    def __init__(self, source: Any = None, *, findings: Findings | None = None, **options: Any):
        self._given = source if isinstance(source, Findings) else findings
        self._found: Findings | None = None
        self._by_id: dict[str, Finding] = {}
        self._answers: OrderedDict[str, dict[str, Any]] = OrderedDict()
        super().__init__(source, **options)

    def bind(self, source: Any) -> None:
        if self.session is None:
            raise BadValueError(
                f"AuditPanel shows findings of a session; got {type(source).__name__}.",
                hint="Give it what open_session returned, or findings with session=s.",
            )
        self.observe(self._try_again, names=["sample", "component"])
        self.observe(lambda change: self.refresh(), names="layer")
        self.observe(self._moved, names="cursor")
        self.observe(lambda change: self._show(), names=["queues", "filter", "reviewer"])
        self._undo.append(self.session.decisions.listen(self._heard_of_decisions))
        if hasattr(self.session.data, "on_tags"):
            self._undo.append(self.session.data.on_tags(self._heard_of_tags))
        self.refresh()

    # What is on show --------------------------------------------------------------------------------------------------

    def refresh(self) -> None:
        """Look for findings again."""
        with contextlib.suppress(CancelledError):  # closed a moment ago
            job = self.submit(self._load, self.layer, topic="findings", title="Findings")
            job.add_done_callback(self._loaded)

    def _load(self, layer: str) -> tuple[Findings | None, str]:
        if self._given is not None:
            return self._given, ""
        try:
            return self.session.findings(layer), ""
        except IncompleteError as error:  # nothing is stored yet: the panel says so and offers the layers
            return None, str(error)

    def _loaded(self, job: Job) -> None:
        if job.state == "done":
            deliver(self._take, *job.result(0))

    def _take(self, found: Findings | None, why: str) -> None:
        if self._is_closed:
            return
        self._found = found
        self._by_id = {} if found is None else {one.id: one for one in found}
        self._answers.clear()
        rows = [] if found is None else [_row(one) for one in found][:_MOST]
        names = [] if found is not None else [name for name, one in self.session.layers().items() if one.n_calls == 1]
        with self.hold_sync():
            if self.cursor and self.cursor not in self._by_id:
                self.cursor = ""
            self.queue = {
                "layer": "" if found is None else found.layer,
                "findings": rows,
                "left_out": [] if found is None else list(found.left_out),
                "kinds": {name: {"title": k.title, "question": k.question, "of": k.of} for name, k in KINDS.items()},
                "classes": [str(name) for name in self.session.data.classes],
                "layers": names,
                "why": why,
            }
            self._tell_decisions()
            if self._problem and not self._failed_topics:
                self._problem = {}
        self._show()

    def _try_again(self, change: Any) -> None:
        if self._found is None and not self.queue and not self._pending and not self._is_closed:
            self.refresh()

    def _heard_of_decisions(self) -> None:
        deliver(self._tell_decisions, key=(id(self), "decisions"))

    def _heard_of_tags(self) -> None:
        self._answers.clear()  # which say the tags
        deliver(self._tell_decisions, key=(id(self), "decisions"))

    def _tell_decisions(self) -> None:
        if self._is_closed:
            return
        book = self.session.decisions
        agreed = book.agreement()
        self.decisions = {
            "rows": [_said(one) for one in self._to_send(book.all())],
            "n": len(book.all()),
            "both": agreed.n_both,
            "agreed": agreed.n_agreed,
            "kappa": wire.finite(agreed.kappa),
            "tags": sorted(self.session.data.tagged()),
        }

    def _to_send(self, known: tuple[Decision, ...]) -> list[Decision]:
        """Decisions on findings of the queue, and the last ones on others."""
        return [one for i, one in enumerate(known) if one.finding in self._by_id or i >= len(known) - _LAST]

    def _on_show(self) -> list[Finding]:
        """Findings that fit queues and filter, in their order."""
        if self._found is None:
            return []
        verdicts = self.session.decisions.verdicts()
        kinds = set(self.queues) or set(KINDS)
        return [one for one in self._found if one.kind in kinds and self._fits(verdicts.get(one.id, ()))]

    def _fits(self, given: tuple[Decision, ...]) -> bool:
        mine = any(one.who == self.reviewer.strip() for one in given)
        sure = {one.verdict for one in given if one.verdict != "unsure"}
        return {
            "open": not mine and not sure,
            "second": bool(given) and not mine,
            "disagreed": len(sure) > 1,
            "decided": bool(given),
            "all": True,
        }[self.filter]

    def _current(self) -> Finding | None:
        if self.cursor in self._by_id:
            return self._by_id[self.cursor]
        on_show = self._on_show()
        return on_show[0] if on_show else None

    def _moved(self, change: Any) -> None:
        one = self._by_id.get(self.cursor)
        if one is not None:
            if one.is_of_sample:
                self.sample = one.subject
            else:
                self.component = one.subject
        self._show()

    def _show(self) -> None:
        """Put the evidence of the finding on show into its trait."""
        one = self._current()
        if one is None or self._is_closed:
            return
        with contextlib.suppress(CancelledError):
            self.submit(self._evidence, one.id, into="shown", title="Evidence", quiet=True)

    def _evidence(self, finding: str) -> dict[str, Any]:
        if finding in self._answers:
            self._answers.move_to_end(finding)
            return self._answers[finding]
        made = evidence_of(self.session, self._one(finding))
        self._answers[finding] = made
        while len(self._answers) > _KEPT:
            self._answers.popitem(last=False)
        return made

    def _one(self, finding: str) -> Finding:
        if finding not in self._by_id:
            raise UnknownNameError(f"No finding {finding!r}.", hint="`panel.table()` lists those on show.")
        return self._by_id[finding]

    @traitlets.validate("cursor")
    def _is_finding(self, proposal: Any) -> Any:
        if proposal["value"] and self._by_id:
            self._one(proposal["value"])
        return proposal["value"]

    @traitlets.validate("queues")
    def _are_kinds(self, proposal: Any) -> Any:
        return list(checked(proposal["value"]))

    @traitlets.validate("reviewer")
    def _is_name(self, proposal: Any) -> Any:
        return reviewer(proposal["value"])

    # Deciding ---------------------------------------------------------------------------------------------------------

    def decide(self, verdict: str, *, finding: str = "", new: str | None = None, note: str = "") -> Job:
        """Decide the finding on show, or another by its id; see `Session.decide`."""
        current = self._current()
        if not finding and current is None:
            raise BadValueError("No finding is on show.", hint='Choose another filter: panel.filter = "all".')
        one = self._one(finding) if finding else current
        assert one is not None
        return self.submit(self._decide, one, verdict, new, note, title="Decision")

    def undo(self) -> Job:
        """Take back the last decision of this reviewer."""
        return self.submit(self._undo_last, title="Undo")

    def decided(self) -> pd.DataFrame:
        """All decisions on this model and data that stand, newest first; see `DecisionBook.table`."""
        return self.session.decisions.table()

    def accepted(self, *kinds: str) -> tuple[int, ...]:
        """Samples of accepted findings, of some kinds alone if any are named: what correction methods take."""
        return tuple(self.session.decisions.samples(*kinds))

    def masks(self, cav: Any, **options: Any) -> Any:
        """Masks of what a direction stands for in the accepted samples; see `workbench.methods.ArtifactMasks`."""
        from workbench.methods import ArtifactMasks

        return self.session.fit(ArtifactMasks(cav, **{"samples": self.accepted(), **options}))

    def _decide(self, one: Finding, verdict: str, new: str | None, note: str) -> dict[str, Any]:
        made = self.session.decide(one, verdict, new=new, who=self.reviewer, note=note)
        return {**_said(made), "n_tagged": len(made.tagged)}

    def _undo_last(self) -> dict[str, Any]:
        gone = self.session.undo_decision(self.reviewer)
        return {} if gone is None else _said(gone)

    # Questions from the page ------------------------------------------------------------------------------------------

    @on("evidence", id=str)
    def _on_evidence(self, id: str) -> Job:
        """Evidence of one finding, with its pictures."""
        self._one(id)
        return self.submit(self._evidence, id, title="Evidence", quiet=True)

    @on("decide", id=str, verdict=one_of(*VERDICTS), new=optional(str), note=optional(str, ""))
    def _on_decide(self, id: str, verdict: str, new: str | None, note: str) -> Job:
        """Keep a verdict."""
        return self.submit(self._decide, self._one(id), verdict, new, note, title="Decision", quiet=True)

    @on("undo")
    def _on_undo(self) -> Job:
        """Take back the last decision of the reviewer."""
        return self.submit(self._undo_last, title="Undo", quiet=True)

    @on("again")
    def _on_again(self) -> None:
        """Look for findings again."""
        self.refresh()

    # In Python --------------------------------------------------------------------------------------------------------

    def table(self) -> pd.DataFrame:
        """The findings on show, in their order, with what was decided."""
        import pandas as pd

        verdicts, rows, on_show = self.session.decisions.verdicts(), [], self._on_show()
        for one in on_show:
            given = verdicts.get(one.id, ())
            facts = [one.kind, one.subject, one.score, one.reason, one.old, one.proposal]
            said = [", ".join(getattr(d, name) or "–" for d in given) for name in ("verdict", "new", "who")]
            rows.append((*facts, *said))
        return pd.DataFrame(
            rows, columns=_COLUMNS, index=pd.Index([f.id for f in on_show], name="finding", dtype=object)
        )

    def selected(self) -> list[Any]:
        one = self._current()
        return [] if one is None else [one.id]

    def select(self, ids: list[Any]) -> None:
        """Show a finding by its id."""
        self.cursor = str(ids[0]) if ids else ""

    def plot(self, **layout: Any) -> Any:
        """Bars of the findings of each kind: open, accepted, rejected, unsure."""
        kinds, counts = self._counts()
        return Bars("Findings and decisions", "findings", [KINDS[k].title for k in kinds] or ["none"], counts).plot(
            **layout
        )

    def _counts(self) -> tuple[list[str], dict[str, list[int]]]:
        verdicts = self.session.decisions.verdicts()
        found = self._found or Findings()
        kinds = list(found.counts())
        counts = {name: [0] * max(1, len(kinds)) for name in ("open", *VERDICTS)}
        for one in found:
            given = verdicts.get(one.id, ())
            counts[given[-1].verdict if given else "open"][kinds.index(one.kind)] += 1
        return kinds, counts

    # Keeping ----------------------------------------------------------------------------------------------------------

    def source_code(self) -> str:
        return "s" if self._given is None else "s, findings=findings"

    def results(self) -> list[str]:
        one = self._current()
        return [] if one is None else [one.recipe]

    def prepare_still(self) -> None:
        one = self._current()
        if one is not None:
            self._evidence(one.id)

    def still(self) -> Still:
        title = self.title or "Audit"
        if self._found is None:
            why = self.queue.get("why") or "Findings are being looked for: `widget.wait()` waits for them."
            return Still(title, missing=why)
        one, kinds, counts = self._current(), *self._counts()
        n_open = sum(counts["open"])
        asked = f"{count(n_open)} of {count(len(self._found), 'finding')} open at {self._found.layer}"
        notes = [", ".join(f"{KINDS[k].title} {n} open" for k, n in zip(kinds, counts["open"], strict=False)) + "."]
        pictures: list[Picture] = []
        made = None if one is None else self._answers.get(one.id)
        if one is not None:
            notes = [f"{KINDS[one.kind].title}, {one.title}: {one.reason}", *notes]
        if one is not None and made is not None:
            pictures = _pictures(one, made)
            notes[1:1] = [f"For: {e.text}" for e in one.evidence] + [f"Against: {e.text}" for e in one.counter]
        agreed = self.session.decisions.agreement()
        if agreed.n_both:
            notes.append(f"Reviewers agree on {agreed.n_agreed} of {agreed.n_both} findings that several decided.")
        notes += [f"Not looked for: {line}" for line in self._found.left_out]
        rows = self.decided()[["kind", "subject", "verdict", "old", "new", "who", "when"]]
        return Still(title, asked, pictures, rows=rows if len(rows) else None, notes=notes)

    def offers(self) -> Offer:
        on_show = self._on_show()[:24]
        return Offer(
            components=[str(f.subject) for f in on_show if not f.is_of_sample],
            samples=[int(f.subject) for f in on_show if f.is_of_sample],
        )

    def recorded_state(self) -> dict[str, Any]:
        if not self.queue:
            return {}
        one = self._current()
        made = {} if one is None else {"shown": self._evidence(one.id)}
        return {**made, "queue": {**self.queue, "recorded": [f.id for f in self._recorded()]}}

    def recordings(self, wanted: Offer) -> Iterator[Recording]:
        """Evidence of the findings on show, then of others."""
        for one in self._recorded():
            yield Recording(
                lambda one=one: self._evidence(one.id),  # type: ignore[misc]
                question=("evidence", {"id": one.id}),
                what="findings",
            )

    def _recorded(self) -> list[Finding]:
        first = self._on_show()
        return list(dict.fromkeys([*first, *(self._found or ())]))[:_RECORDED]

    def describe(self) -> str:
        if self._found is None:
            return ""
        return f"{count(len(self._on_show()))} of {count(len(self._found), 'finding')}, {self.filter}"


def _row(one: Finding) -> dict[str, Any]:
    return {
        "id": one.id,
        "kind": one.kind,
        "subject": one.subject,
        "title": one.title,
        "score": wire.finite(one.score),
        "reason": one.reason,
        "method": one.method,
        "old": one.old,
        "proposal": one.proposal if one.is_of_sample else "",
        "n": len(one.members),
    }


def _said(one: Decision) -> dict[str, Any]:
    names = ("id", "finding", "kind", "subject", "verdict", "old", "new", "who", "when", "note", "tag")
    return {name: getattr(one, name) for name in names}


def _pictures(one: Finding, made: dict[str, Any]) -> list[Picture]:
    """The subject, then what speaks for it and against it."""
    large: list[np.ndarray] = wire.tiles(made["large"])
    small: list[np.ndarray] = wire.tiles(made["sheet"])
    found = [Picture(picture, f"{one.title}, {made['words']}", [one.title]) for picture in large]
    for side in made["sides"]:
        names = [f"sample {i}" for i in side["samples"]] + [_short(c) for c in side["components"]]
        for name, picture in zip(names, small[side["at"] :], strict=False):
            word = "for" if side["is_for"] else "against"
            found.append(Picture(picture, f"{word} it: {name}", [name, word]))
    return found


def _short(address: str) -> str:
    component = ComponentId.parse(address)
    return f"{component.basis} {component.index}"
