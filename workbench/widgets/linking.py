"""How a widget shares the selection: with other widgets on its page, with the session, and with cells.

The page has a twin of each selection (``src/common/twin.js``), through which widgets follow one another without the
kernel. What the page changes it says with its name and a running number; what Python sends goes with the number heard
last, so that the page drops what it has left behind already. Sets of more than `FEW` members travel as positions in a
table that both sides know by its digest. Where cells live in separate frames, each is a page of its own; there hovering
goes from one to the others through here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from workbench.core.errors import BadValueError, StaleError
from workbench.session.deliver import gate
from workbench.widgets import wire

if TYPE_CHECKING:
    from workbench.session.selection import Selection

__all__ = ["FEW", "Linking", "members"]

FEW = 200
"""Members that travel as ids; more travel as positions."""


class Linking(traitlets.HasTraits):
    """The part of `SessionWidget` that shares the selection; expects its traits and `shared`."""

    follows: tuple[str, ...] = ()
    """Fields of the selection that are traits of the widget, which the page may set like its view state."""

    stands_for: str = ""
    """The trait that is this widget's `value` where ipywidgets asks for one; empty where a reader chooses nothing."""

    _group = traitlets.Unicode("", help="Key of the selection.").tag(sync=True)
    _follows = traitlets.List(traitlets.Unicode(), help="The fields that are followed.").tag(sync=True)
    _tables = traitlets.Dict(help="Digests of the tables that members are counted in.").tag(sync=True)
    _seen = traitlets.Dict(help="Last number heard of each page.").tag(sync=True)
    _wants_hover = traitlets.Bool(False, help="Whether Python listens to hovering.").tag(sync=True)
    _hover = traitlets.Dict(help="What Python or another page points at: id, and a number that grows.").tag(sync=True)
    _said = traitlets.Dict(help="From the page: its name, its number, and the fields it changed.").tag(sync=True)

    if TYPE_CHECKING:
        shared: Selection
        model_id: str
        hold_sync: Any
        _is_closed: bool
        _undo: list[Callable[[], None]]

    @traitlets.validate("component", "sample", "target", "region", "components", "samples")
    def _is_known(self, proposal: Any) -> Any:
        return self.shared.check(proposal["trait"].name, proposal["value"])

    def _follow(self) -> None:
        fields = list(self.follows)
        self._pages: set[str] = set()  # that have spoken through this widget
        with self.hold_sync():
            self._group, self._follows, self._tables = self.shared.key, fields, dict(self.shared.tables)
            self._seen, self._wants_hover = self.shared.heard, self.shared.wants_hover
            for field in fields:
                # What is chosen already is shown; what the caller asks for is chosen.
                if getattr(self, field) in (None, "", ()):
                    setattr(self, field, getattr(self.shared, field))
                else:
                    self.shared.set(origin=self.model_id, **{field: getattr(self, field)})

        def take(change: Any) -> None:
            if not self._is_closed:
                with gate(), self.hold_sync():
                    self._seen = self.shared.heard
                    setattr(self, change["name"], getattr(self.shared, change["name"]))

        def give(change: Any) -> None:
            self.shared.set(origin=self.model_id, **{change["name"]: change["new"]})

        def tell_hover(change: Any) -> None:
            if not self._is_closed:
                with gate():
                    self._wants_hover = change["new"]

        def point(target: Any, page: str) -> None:
            # What a page points at it shows itself; the others hear of it where this widget is on one of them.
            if not self._is_closed and (not page or self._pages - {page}):
                with gate():
                    self._hover = {"id": target, "number": self._hover.get("number", 0) + 1}

        if self.stands_for:
            traitlets.link((self, self.stands_for), (self, "value"))
        self.shared.observe(tell_hover, names="wants_hover")
        self._undo.append(lambda: self.shared.unobserve(tell_hover, names="wants_hover"))
        self._undo.append(self.shared.on_hover(point))
        if fields:
            self.shared.observe(take, names=fields)
            self.observe(give, names=fields)
            self._undo += [
                lambda: self.shared.unobserve(take, names=fields),
                lambda: self.unobserve(give, names=fields),
            ]

    def _hear(self, said: Any) -> dict[str, Any]:
        """What a page says it changed, as state to be set; what is no news is left out."""
        if not isinstance(said, Mapping) or not isinstance(values := said.get("values"), Mapping):
            raise BadValueError("A page says what it changed with its name, its number and values.")
        page, number = said.get("page"), said.get("number")
        if not isinstance(page, str) or len(page) > 64 or not isinstance(number, int) or isinstance(number, bool):
            raise BadValueError("A page that changes the selection gives its name and a number.")
        allowed = {*self.follows, "hover"}
        news = self.shared.hear(page, number, [field for field in values if field in allowed])
        self._seen = self.shared.heard
        self._pages.add(page)
        if "hover" in news:
            self.shared.set(origin=self.model_id, page=page, hover=values["hover"])
        return {field: values[field] for field in news if field != "hover"}


# Sets on their way ----------------------------------------------------------------------------------------------------


def _to_json(value: Any, widget: Any = None) -> Any:
    """Ids as a list, or as positions in tables whose digests go with them."""
    ids = list(value or ())
    if len(ids) <= FEW or widget is None:
        return ids
    groups: dict[str, list[int]] = {}
    for one in ids:
        head, _, tail = ("sample", "", one) if isinstance(one, int) else str(one).rpartition("/")
        groups.setdefault(head if isinstance(one, int) else f"{head}/", []).append(int(tail))
    tables = widget.shared.tables
    if not groups.keys() <= tables.keys():
        return ids
    return {
        "sets": [
            {"table": table, "digest": tables[table], "positions": wire.pack(np.array(positions, dtype=np.uint32))}
            for table, positions in groups.items()
        ]
    }


def _from_json(value: Any, widget: Any = None) -> Any:
    """Ids from what `_to_json` gave, or the page.

    Raises
    ------
    StaleError
        If positions count in a table that is not, or no longer, the session's.
    """
    if not isinstance(value, Mapping):
        return value
    ids: list[Any] = []
    tables = widget.shared.tables if widget is not None else {}
    for group in value.get("sets", ()):
        table = group.get("table")
        if tables.get(table, "") != group.get("digest") or not group.get("digest"):
            raise StaleError(
                f'Positions in "{table}" count in another table than this session\'s.',
                hint="The page was drawn for another model or other data; run its cell again.",
            )
        positions = wire.unpack(group["positions"]).tolist()
        ids += positions if table == "sample" else [f"{table}{i}" for i in positions]
    return tuple(ids)


members: dict[str, Any] = {"to_json": _to_json, "from_json": _from_json}
"""Metadata of a trait that holds a set: ``Any(()).tag(sync=True, **linking.members)``."""
