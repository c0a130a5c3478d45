"""What the comparison compares with: variants that come and go, and sessions that were given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.core.errors import BadValueError
from workbench.session.deliver import deliver
from workbench.widgets.base import SessionWidget
from workbench.widgets.compare_answers import CompareAnswers, facts_of

__all__ = ["Against", "sessions_of"]


class Against(SessionWidget):
    """The part of `CompareView` that knows which variants there are; holds the one on show, so that it lives as long.

    Expects what it fetches (`_fetch_all`), the list of layers and the report of a re-evaluation.
    """

    variant = traitlets.Unicode("", help="Name of the variant on show; empty where there is none.").tag(
        sync=True, view=True
    )
    base = traitlets.Unicode("", help="Name of the base.").tag(sync=True)
    variants = traitlets.List(
        traitlets.Dict(), help="Open variants: name, changes in words, digest, warnings, is_open."
    ).tag(sync=True)

    if TYPE_CHECKING:
        layer: Any
        layers: Any
        report: Any
        _answers: CompareAnswers
        _given: dict[str, Any]
        _held: Any
        _fetch_all: Any

    @traitlets.validate("variant")
    def _is_variant(self, proposal: Any) -> str:
        name = proposal["value"]
        known = {*self._sessions(), self.variant}
        if name and name not in known:
            if any(one["name"] == name for one in self.variants):  # listed still, but nobody held it any more
                deliver(self._take_variants, key=(id(self), "variants"))
            raise BadValueError(
                f'No open variant "{name}".',
                hint=f"There are {', '.join(sorted(known - {''})) or 'none'}: s.variant(name, edits) makes one.",
            )
        return name

    def _sessions(self) -> dict[str, Any]:
        """What can be compared with now, by name."""
        if self.session is None:
            return {}
        given = {name: one for name, one in self._given.items() if not one.is_closed}
        return {**self.session.variants(), **given}

    def _other(self) -> Any:
        """The variant on show, held from now on; None where there is none that is open."""
        found = self._sessions().get(self.variant) if self.variant else None
        if found is not None and found is not self._held:
            self._held = found
            self.layers = self._answers.layers(found)
            if self.layer and self.layer not in self.layers:
                self.layer = ""
        return found

    def _take_variants(self, *, fetch: bool = True) -> None:
        """List what is open. The one on show stays chosen, also when it is closed."""
        if self._is_closed:
            return
        now = self._sessions()
        facts = [facts_of(name, one, self.session) for name, one in now.items()]
        if self.variant and self.variant not in now and self._held is not None:
            facts.append(facts_of(self.variant, self._held, self.session, is_open=False))
        self.variants = facts
        if not self.variant and now:
            told = [name for name in self.report.get("models", ())[1:] if name in now]
            self.variant = told[-1] if told else next(reversed(now))  # observed: fetches
        elif fetch:
            self._fetch_all()


def sessions_of(against: Any) -> dict[str, Any]:
    """Sessions that were given, by their names."""
    if against is None:
        return {}
    if isinstance(against, Mapping):
        named = [(str(name), one) for name, one in against.items()]
    else:
        many: Sequence[Any] = against if isinstance(against, (list, tuple)) else [against]
        named = [(str(getattr(one, "name", "")), one) for one in many]
    found: dict[str, Any] = {}
    for name, one in named:
        if not hasattr(one, "compare") or not hasattr(one, "digests"):
            raise BadValueError(
                f"Models are compared by their sessions; got {type(one).__name__}.",
                hint="CompareView(s, against=s.variant('fixed', correction.edits()))",
            )
        found[name if name not in found else f"{name} ({len(found) + 1})"] = one
    return found
