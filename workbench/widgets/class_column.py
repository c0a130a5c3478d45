"""The column ``class_relevance`` of a map, for one class in place of the class where it is largest."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import traitlets

from workbench.core import check
from workbench.core.errors import BadValueError
from workbench.core.results import PointMap
from workbench.widgets import wire
from workbench.widgets.columns import described

__all__ = ["COLUMN", "ChoosesClass", "class_name", "class_payload", "classes_of", "for_class", "number_of"]

COLUMN = "class_relevance"


def classes_of(made: PointMap) -> list[int]:
    """Numbers of the classes for which samples were explained, by name."""
    if COLUMN not in made.columns:
        return []
    seen: Any = np.flatnonzero(np.isfinite(made.class_relevance).any(1)) if len(made.class_relevance) else []
    return sorted((int(i) for i in seen), key=lambda i: (class_name(made, i).lower(), i))


def class_name(made: PointMap, number: int) -> str:
    """What a class is called."""
    return str(made.classes[number]) if number < len(made.classes) else f"output {number}"


def number_of(made: PointMap, wanted: Any) -> int | None:
    """The number of a class, given by its number or its name; None for None and for the empty text.

    Raises
    ------
    UnknownNameError
        If there is no such class.
    BadValueError
        If no sample was explained for it, or the map has no relevance by class.
    """
    if wanted is None or wanted == "":
        return None
    if COLUMN not in made.columns:
        raise BadValueError(
            f"This map has no relevance by class, so none can be chosen; got {wanted!r}.",
            hint="Maps of components have it, made with relevance=True.",
        )
    if isinstance(wanted, str) and (wanted in made.classes or not wanted.isdecimal()):
        check.known("class", wanted, made.classes)
        same = [i for i, name in enumerate(made.classes) if name == wanted]  # names may come twice, as in ImageNet
        number = next((i for i in same if i in set(classes_of(made))), same[0])
    else:
        number = int(wanted)
    made.column(COLUMN, number)
    return number


def for_class(made: PointMap, number: int | None) -> PointMap:
    """The map with the relevance for one class in its column."""
    if number is None:
        return made
    return replace(made, columns={**made.columns, COLUMN: made.column(COLUMN, number)})


def class_payload(made: PointMap, number: int | None) -> dict[str, Any]:
    """The column for one class, as the script takes it; empty for None."""
    if number is None:
        return {}
    (facts,), values = described({COLUMN: made.column(COLUMN, number)})
    return {"number": number, "name": class_name(made, number), "facts": facts, "values": values[COLUMN]}


class ChoosesClass(traitlets.HasTraits):
    """The part of a map that lets a class be chosen; expects `map`, which it replaces by one with that class's column.

    Attributes
    ----------
    _largest : PointMap or None
        The map as it was made, with the largest relevance over all classes.
    """

    _largest: PointMap | None = None
    map: PointMap | None

    relevance_class = traitlets.Any(
        None,
        allow_none=True,
        help="Number of the class (or its name, when set) whose relevance class_relevance is; None: the largest.",
    ).tag(sync=True, view=True)
    of_class = traitlets.Dict(help="The relevance for the chosen class: number, name, facts, one value per point.").tag(
        sync=True, **wire.arrays
    )

    def _choose_class(self) -> None:
        """Put another class's relevance into the column; the rest of the map stays as it is."""
        if self._largest is not None and self.of_class.get("number") != self.relevance_class:
            self.map = for_class(self._largest, self.relevance_class)
            self.of_class = class_payload(self._largest, self.relevance_class)

    @traitlets.validate("relevance_class")
    def _is_class(self, proposal: Any) -> Any:
        wanted = proposal["value"]
        if isinstance(wanted, np.integer):
            wanted = int(wanted)
        if isinstance(wanted, bool) or not isinstance(wanted, (int, str, type(None))):
            raise BadValueError(f"A class is chosen by its name or number; got {wanted!r}.")
        return wanted if self._largest is None else number_of(self._largest, wanted)
