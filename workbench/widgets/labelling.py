"""The labels that people gave to components, wherever a widget names one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.core.errors import StoreError
from workbench.core.ids import ComponentId
from workbench.session.deliver import deliver, gate

if TYPE_CHECKING:
    import pandas as pd

    from workbench.session.notes import Note

__all__ = ["ShowsLabels", "labelled", "with_labels"]

_MOST = 5000


class ShowsLabels(traitlets.HasTraits):
    """A part of widgets that name components: their labels, always those that the session has now.

    A class that has it follows the component, and names it before `SessionWidget`. Its script says
    ``nameOf(component, state.get("labels"))`` and draws anew on ``state.on("labels", …)``; in Python there are `named`
    and `labelled`.
    """

    labels = traitlets.Dict(help="Labels that people gave to components, by address.").tag(sync=True, payload=True)

    if TYPE_CHECKING:
        session: Any
        follows: tuple[str, ...]
        _is_closed: bool
        _failed_topics: set[Any]
        _undo: list[Callable[[], None]]
        hold_sync: Any
        show_error: Any

    def named(self, component: str) -> str:
        """The address, with its label if it has one."""
        return labelled(component, self.labels.get(component, ""))

    def _follow(self) -> None:
        super()._follow()  # type: ignore[misc]
        notes = getattr(self.session, "notes", None)
        if notes is not None and "component" in self.follows:
            self._undo.append(notes.listen(lambda: deliver(self._fetch_labels, key=(id(self), "labels"))))
            self.observe(lambda change: self._retry_labels(), names=["component"])
            self._fetch_labels()

    def _retry_labels(self) -> None:
        if "labels" in self._failed_topics:
            self._fetch_labels()

    def _fetch_labels(self) -> None:
        """Read them; the file is small and read at most once per change."""
        notes = getattr(self.session, "notes", None)
        if notes is None or self._is_closed:
            return
        try:
            found = notes.all()
        except StoreError as error:
            self._failed_topics.add("labels")
            self.show_error("Labels", error)
            return
        self._failed_topics.discard("labels")
        with gate(), self.hold_sync():
            self._take_notes(found)

    def _take_notes(self, found: Mapping[str, Note]) -> None:
        """Show what was written: labels of the layer on show first, where they are too many for all."""
        layer = getattr(self, "layer", "")
        labels = {address: note.label for address, note in found.items() if note.label}
        if len(labels) > _MOST:
            first = sorted(labels, key=lambda one: ComponentId.parse(one).layer != layer)[:_MOST]
            labels = {address: labels[address] for address in first}
        self.labels = labels


def labelled(name: str, label: str) -> str:
    """A component's name with its label as all widgets write it.

    Examples
    --------
    >>> labelled("unit 17", "stripes"), labelled("unit 17", "")
    ('unit 17 · stripes', 'unit 17')
    """
    return f"{name} · {label}" if label else name


def with_labels(frame: pd.DataFrame, labels: Mapping[str, str]) -> pd.DataFrame:
    """A frame whose index holds addresses, with a column ``label`` if one of them has a label."""
    names: Iterable[str] = [labels.get(one, "") for one in frame.index]
    return frame.assign(label=names) if any(names) and "label" not in frame else frame
