"""The selection: what is being looked at, shared by all widgets of a session and by the cells beside them.

Widgets write to it and observe it; they do not know each other. Each change carries who made it (`origin`) and a
running number (`counter`). A page numbers its own changes too: the selection keeps what it has heard of each page, so
that a page can tell an answer from an echo of what it has left behind, and two linked views cannot ring.
"""

from __future__ import annotations

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import traitlets

from workbench.core.errors import BadValueError, UnknownNameError, UnknownSampleError, nearest
from workbench.core.ids import ComponentId

__all__ = ["FIELDS", "Selection", "region_of"]

FIELDS = ("component", "sample", "target", "region", "components", "samples", "hover")
"""What can be selected, in the order in which it is set."""

Check = Callable[[Any], Any]

_PAGES = 64  # whose numbers are kept: tabs come and go


class Selection(traitlets.HasTraits):
    """What is chosen at the moment.

    Assign to a field, or change several at once with `set`; observe it as any object with traits. A value that does
    not exist raises an error that names the nearest one, and nothing is changed.

    Parameters
    ----------
    component, sample, target : callable, optional
        Given by the session: each takes a value, returns it in its normal form, and raises a `WorkbenchError` if there
        is no such thing.
    tables : callable, optional
        Given by the session: returns a digest for each table of things, by what its addresses begin with
        (``"layer4/unit/"``; ``"sample"`` for samples). Large sets travel as positions in a table with this digest.

    Attributes
    ----------
    key : str
        Name that no other selection has, by which a page knows who shares it.

    Examples
    --------
    >>> selection = Selection()
    >>> selection.component = "layer4/17"
    >>> selection.component
    'layer4/unit/17'
    >>> selection.set(sample=3, origin="grid")
    True
    >>> selection.set(sample=3, origin="map")
    False
    """

    component = traitlets.Any(None, allow_none=True, help="Address of the current component, or None.")
    sample = traitlets.Any(None, allow_none=True, help="Id of the current sample, or None.")
    target = traitlets.Any(
        None, allow_none=True, help='What is explained: "top", "logit:3" …, or None for the default.'
    )
    region = traitlets.Any(None, allow_none=True, help="Part of the current sample: x, y, width, height, 0 to 1.")
    components = traitlets.Any(help="Chosen components, as a tuple of addresses.")
    samples = traitlets.Any(help="Chosen samples, as a tuple of ids.")
    hover = traitlets.Any(None, allow_none=True, help="Address or sample id under the pointer, or None.")
    origin = traitlets.Unicode("", help="Who made the last change; empty for code in a cell.")
    counter = traitlets.Int(0, help="Counts the changes.")

    def __init__(
        self,
        *,
        component: Check | None = None,
        sample: Check | None = None,
        target: Check | None = None,
        tables: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        self._checks: dict[str, Check] = {
            "component": component or _component,
            "sample": sample or _sample,
            "target": target or _target,
        }
        self.key = uuid.uuid4().hex[:16]
        self._tables = tables
        self._heard: dict[str, dict[str, int]] = {}
        self._hover_observers: list[Any] = []
        self._count = 0
        self._lock = threading.Lock()
        self._made_by = threading.local()
        super().__init__()

    @property
    def tables(self) -> Mapping[str, str]:
        """Digest of each table that members may be counted in."""
        return {} if self._tables is None else self._tables()

    @traitlets.default("components")
    def _no_components(self) -> tuple[str, ...]:
        return ()

    @traitlets.default("samples")
    def _no_samples(self) -> tuple[int, ...]:
        return ()

    def check(self, field: str, value: Any) -> Any:
        """Return `value` in its normal form for `field`.

        Raises
        ------
        WorkbenchError
            If there is no such field, component, sample or target.
        """
        if field not in FIELDS:
            raise UnknownNameError(f'A selection has no "{field}".', hint=f"{nearest(field, FIELDS)} {_listed()}")
        if field in ("components", "samples"):
            one = self._checks[field[:-1]]
            if value is None or isinstance(value, str):
                value = () if value is None else (value,)
            return tuple(dict.fromkeys(one(item) for item in value))
        if value is None:
            return None
        if field == "region":
            return region_of(value)
        if field == "hover":
            return self._checks["component" if isinstance(value, str) else "sample"](value)
        return self._checks[field](value)

    def set(self, *, origin: str = "", page: str = "", **values: Any) -> bool:
        """Change one or more fields in one go, and say whether anything changed.

        Parameters
        ----------
        origin : str
            Who makes the change.
        page : str
            Name of the page that it comes from, if it comes from one.
        **values
            Fields and their new values. All are checked before the first is set.
        """
        checked = {field: self.check(field, value) for field, value in values.items()}
        before = self._count
        with self._by(origin, page):
            for field in FIELDS:
                if field in checked:
                    setattr(self, field, checked[field])
        return self._count != before

    def hear(self, page: str, number: int, fields: Iterable[str]) -> list[str]:
        """Note that a page has changed some fields, and say for which of them this is news.

        Parameters
        ----------
        page : str
            Name of the page.
        number : int
            The page's own running number.
        """
        with self._lock:
            heard = self._heard.pop(page, {})
            self._heard[page] = heard  # the page heard last comes last
            news = [field for field in fields if number > heard.get(field, 0)]
            heard.update(dict.fromkeys(news, number))
            while len(self._heard) > _PAGES:
                del self._heard[next(iter(self._heard))]
        return news

    @property
    def heard(self) -> dict[str, int]:
        """The last number that was heard of each page."""
        with self._lock:
            return {page: max(numbers.values()) for page, numbers in self._heard.items() if numbers}

    def as_dict(self) -> dict[str, Any]:
        """The fields, ready for JSON."""
        values = {field: getattr(self, field) for field in FIELDS}
        return {field: list(value) if isinstance(value, tuple) else value for field, value in values.items()}

    @traitlets.validate(*FIELDS)
    def _checked(self, proposal: Any) -> Any:
        return self.check(proposal["trait"].name, proposal["value"])

    def notify_change(self, change: Any) -> None:
        """Count the change and name its maker, then tell the observers."""
        if change["name"] in FIELDS:
            with self._lock:
                self._count += 1
                count = self._count
            self.set_trait("counter", count)  # outside the lock: whoever observes it may select something
            self.set_trait("origin", getattr(self._made_by, "name", ""))
        super().notify_change(change)

    # Hovering stays on the page unless someone here listens; pages are told when that changes.

    wants_hover = traitlets.Bool(False, help="Whether someone observes `hover`.")

    def observe(self, handler: Any, names: Any = traitlets.All, type: Any = "change") -> None:
        """Call `handler(change)` when one of the fields changes."""
        if "hover" in _names(names):
            self._hover_observers.append(handler)
            self.wants_hover = True
        super().observe(handler, names=names, type=type)

    def unobserve(self, handler: Any, names: Any = traitlets.All, type: Any = "change") -> None:
        """Call `handler` no longer."""
        super().unobserve(handler, names=names, type=type)
        if "hover" in _names(names) and handler in self._hover_observers:
            self._hover_observers.remove(handler)
            self.wants_hover = bool(self._hover_observers)

    def on_hover(self, call: Callable[[Any, str], None]) -> Callable[[], None]:
        """Call `call(id, page)` when `hover` changes, until what is returned is called.

        `page` is empty for changes made in Python. Unlike `observe` this asks no page to tell of hovering.
        """

        def heard(change: Any) -> None:
            call(change["new"], getattr(self._made_by, "page", ""))

        super().observe(heard, names="hover")
        return lambda: super(Selection, self).unobserve(heard, names="hover")

    @contextlib.contextmanager
    def _by(self, origin: str, page: str) -> Iterator[None]:
        before = getattr(self._made_by, "name", ""), getattr(self._made_by, "page", "")
        self._made_by.name, self._made_by.page = origin, page
        try:
            yield
        finally:
            self._made_by.name, self._made_by.page = before

    def __repr__(self) -> str:
        parts = [f"{field} {getattr(self, field)}" for field in ("component", "sample", "target") if self._has(field)]
        parts += [f"{len(getattr(self, field))} {field}" for field in ("components", "samples") if getattr(self, field)]
        return f"<selection: {', '.join(parts) or 'nothing'}>"

    def _has(self, field: str) -> bool:
        return getattr(self, field) is not None


def _names(names: Any) -> tuple[Any, ...]:
    """The traits that an observer names; all of ours where it names none."""
    if names is traitlets.All:
        return FIELDS
    return (names,) if isinstance(names, str) else tuple(names)


def _listed() -> str:
    return f"There are {', '.join(FIELDS)}."


def _component(value: Any) -> str:
    return str(ComponentId.parse(value))


def _sample(value: Any) -> int:
    if isinstance(value, bool) or not hasattr(value, "__index__") or (number := value.__index__()) < 0:
        raise UnknownSampleError(f"No sample {value!r}.", hint="A sample is its position in the data set, from 0.")
    return int(number)


def _target(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise BadValueError(f"A target is selected by its text; got {value!r}.", hint='For example "top" or "logit:3".')
    return value


def region_of(value: Any) -> dict[str, float]:
    """A part of a picture in its normal form: x, y, width, height as shares, 0 to 1."""
    sides = ("x", "y", "width", "height")
    try:
        region = {side: float(value[side]) for side in sides}
    except (KeyError, TypeError, ValueError):
        raise BadValueError(f"A region has {', '.join(sides)}, as shares of the picture; got {value!r}.") from None
    if not all(0 <= number <= 1 for number in region.values()):
        raise BadValueError(f"A region lies within the picture, 0 to 1; got {region}.")
    return region
