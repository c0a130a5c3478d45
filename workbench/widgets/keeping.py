"""How a view is kept: as state, as code, as a still, and as a page of its own."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.core.errors import BadValueError, WorkbenchError, nearest
from workbench.widgets.linking import FEW
from workbench.widgets.recording import Recording
from workbench.widgets.stills import Still

if TYPE_CHECKING:
    from workbench.core.progress import Progress
    from workbench.session.pins import Pin
    from workbench.widgets.exporting import ExportReport

__all__ = ["Keeping", "Offer"]

_OWN = ("widget", "version", "made_with")
_IN_STILL = 24  # members of a set that the code of a still writes down


@dataclass(frozen=True)
class Offer:
    """What a reader can choose in a view, most wanted first: a page without a kernel records what belongs to it."""

    components: Sequence[str] = ()
    samples: Sequence[int] = ()


class Keeping(traitlets.HasTraits):
    """The part of `SessionWidget` that keeps the view; expects its traits and jobs."""

    in_source: tuple[str, ...] = ()
    """View state that `source_code` names itself."""

    _still_mark = traitlets.Unicode(help="Class of the still that a live view hides.").tag(sync=True)

    if TYPE_CHECKING:
        follows: tuple[str, ...]
        session: Any
        shared: Any
        group: str
        title: Any
        state_version: Any
        _problem: Any
        _is_closed: bool
        _shown: list[Any]
        submit: Any
        wait: Any
        close: Any
        table: Any

    @traitlets.default("_still_mark")
    def _new_mark(self) -> str:
        return f"wb-still-{uuid.uuid4().hex[:12]}"

    # What subclasses fill in ------------------------------------------------------------------------------------------

    def still(self) -> Still:
        """What a still of the view shows. Digests, code and errors are added by `snapshot`."""
        return Still(self.title or type(self).__name__, rows=self.table())

    def prepare_still(self) -> None:
        """Fetch what `still` needs beside the traits; on the widget's lane, and never with the model."""

    def source_code(self) -> str:
        """The expression that this view was made from, with the session as ``s``."""
        return "s"

    def results(self) -> list[str]:
        """Digests of the stored results on show."""
        return []

    def offers(self) -> Offer:
        """What the reader may choose here."""
        return Offer()

    def recordings(self, wanted: Offer) -> Iterator[Recording]:
        """What a page without a kernel can show when something of `wanted` is chosen, most wanted first."""
        return iter(())

    def recorded_state(self) -> dict[str, Any]:
        """Traits that are different in a page without a kernel."""
        return {}

    # State ------------------------------------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """The view as a small JSON dictionary: addresses, no pixels, and with what it was made."""
        names = [*sorted(self.trait_names(view=True)), *self.follows]
        return {
            "widget": type(self).__name__,
            "version": self.state_version,
            "made_with": self.made_with(),
            **{n: _plain(getattr(self, n)) for n in names},
        }

    def made_with(self) -> dict[str, str]:
        """Digests of model and data."""
        return dict(self.session.digests()) if hasattr(self.session, "digests") else {}

    def restore(self, state: dict[str, Any]) -> list[str]:
        """Apply what fits of a state and say what does not, one line each."""
        if not isinstance(state, dict):
            raise BadValueError(f"A state is a dictionary, as `state()` gives it; got {type(state).__name__}.")
        reports = []
        if (name := state.get("widget")) not in (None, type(self).__name__):
            reports.append(f"widget: this is the state of a {name}; what both have in common is applied.")
        known = {*self.trait_names(view=True), *self.follows}
        made, now = state.get("made_with") or {}, self.made_with()
        reports += [
            f"{name}: the state was made with {made[name]}; this view has {now[name]}."
            for name in made
            if name in now and made[name] != now[name] and not (name in known and name in state)
        ]
        for name, value in state.items():
            if name in _OWN:
                continue
            try:
                if name not in known:
                    raise BadValueError(f"{type(self).__name__} has no {name}.", hint=nearest(name, known))
                setattr(self, name, value)
            except (WorkbenchError, traitlets.TraitError) as error:
                reports.append(f"{name}: {error}")
        return reports

    # Code and origin --------------------------------------------------------------------------------------------------

    def to_code(self, *, most: int = FEW) -> str:
        """The calls that rebuild the view, where ``s`` (or the name you gave it) is the session.

        Parameters
        ----------
        most : int
            Members of a set that are written down; of a larger one only their number is.
        """
        return _renamed(self.plain_code(most=most), _name_of(self.session))

    def plain_code(self, *, most: int = FEW) -> str:
        """The calls that rebuild the view, where ``s`` is the session, whatever you called it."""
        given: list[str] = []
        left: list[str] = []
        for name in [*self.follows, *sorted(self.trait_names(view=True))]:
            value, default = _plain(getattr(self, name)), _plain(self.traits()[name].default())
            if isinstance(value, list) and len(value) > most:
                left.append(f"# {len(value)} {name} are selected: too many to write down; `state()` has them.")
            elif value not in (None, "", []) and value != default and name not in self.in_source:
                given.append(f"{name}={value!r}")
        if self.group:
            given.append(f"group={self.group!r}")
        made = ", ".join(filter(None, (self.source_code(), *given)))
        facts = ", ".join(f"{name} {value}" for name, value in self.made_with().items())
        lines = [*([f"# {facts}"] if facts else []), *left]
        home = type(self).__module__
        if home.startswith("workbench.widgets."):
            lines.append(f"wb.widgets.{type(self).__name__}({made})")
        else:
            lines += [f"from {home} import {type(self).__name__}", f"{type(self).__name__}({made})"]
        return "\n".join(lines)

    def recipe(self) -> dict[str, Any]:
        """What the view rests on: model, data and the stored results by their digests."""
        return {**self.made_with(), "results": [digest for digest in self.results() if digest]}

    def pin(self, note: str = "", *, title: str = "") -> Pin:
        """Pin what is on show, with a note, into the journal of the session; `workbench.widgets.Journal` shows it."""
        from workbench.widgets.pinning import journal_of, pin_of

        book = journal_of(self.session)
        return book.add(pin_of(self, note, title=title), view=self)

    # Stills -----------------------------------------------------------------------------------------------------------

    def snapshot(self) -> Still:
        """A still of the view as it is now: displays as HTML or PNG, and can be saved."""
        made = self.still()
        problem = self._problem
        if problem and (not made.missing or problem.get("start")):
            made = replace(made, missing=" ".join(filter(None, (problem.get("message"), problem.get("hint")))))
        facts = {**self.made_with(), "results": ", ".join(d[:12] for d in self.results() if d)}
        made = replace(made, title=self.title or made.title)
        return replace(made, digests={**facts, **made.digests}, code=made.code or self.to_code(most=_IN_STILL))

    def freeze(self) -> None:
        """Replace the live view by its still where it was displayed, for sharing, and close the widget."""
        from workbench.widgets.beside import freeze

        freeze(self)

    def refresh_still(self) -> None:
        """Bring the still beside the live view up to date now; it follows by itself once what it shows rests."""
        for beside in self._shown:
            beside.refresh()

    # A page of its own ------------------------------------------------------------------------------------------------

    def to_html(self, path: str | Path, *, progress: Progress | None = None, **options: Any) -> ExportReport:
        """Write the view as one file that works without kernel and network; see `workbench.export`."""
        from workbench.widgets.exporting import export

        return export([self], path, progress=progress, **options)


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _name_of(session: Any) -> str:
    """What the session is called in the notebook; ``s`` if it has no name there."""
    import sys

    if session is None or "IPython" not in sys.modules:
        return "s"
    from IPython import get_ipython

    shell = get_ipython()
    names = [] if shell is None else [k for k, v in shell.user_ns.items() if v is session and not k.startswith("_")]
    return min(names, key=len, default="s")


def _renamed(code: str, name: str) -> str:
    import re

    return code if name == "s" else re.sub(r"(?<![\w.'\"])s(?=[.,)])", name, code)
