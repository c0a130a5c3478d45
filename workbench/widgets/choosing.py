"""Whose selection a widget shares, and what people may select with."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

from workbench.core.errors import BadValueError
from workbench.session.selection import Selection

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ids_of", "selection_of", "session_of"]


def selection_of(session: Any, group: str = "") -> Selection:
    """The selection of a group: the session's own for ``""``, else one that the group's widgets share."""
    if session is None:
        return Selection()
    return session.group(group) if group else session.selection


def session_of(source: Any) -> Any:
    """The session that `source` is, or belongs to; None if there is none."""
    owners = [source, *(getattr(source, name, None) for name in ("session", "session_", "context_", "ctx_"))]
    for owner in owners:
        owner = owner() if isinstance(owner, weakref.ref) else owner
        if isinstance(getattr(owner, "selection", None), Selection):
            return owner
    return None


def ids_of(wanted: Any, table: pd.DataFrame) -> list[Any]:
    """Ids from what people select with: ids, a boolean mask, a frame, a column query, or None."""
    import numpy as np
    import pandas as pd

    if wanted is None:
        return []
    if isinstance(frame := getattr(wanted, "selection", None), pd.DataFrame):  # another widget's
        wanted = frame
    if isinstance(wanted, pd.DataFrame):
        return list(wanted.index)
    if isinstance(wanted, str):
        if wanted in table.index:
            return [wanted]
        try:
            return list(table.query(wanted).index)
        except Exception as error:
            raise BadValueError(
                f"{wanted!r} is neither an id nor a query that this table can answer: {error}",
                hint=f"Columns: {', '.join(map(str, table.columns))}.",
            ) from error
    if isinstance(wanted, (int, np.integer)) and not isinstance(wanted, bool):  # also as it stands in a frame
        return [int(wanted)]
    mask = np.asarray(wanted)
    if mask.dtype == bool:
        if mask.shape != (len(table),):
            raise BadValueError(f"The mask has {mask.shape} entries and the table {len(table)} rows.")
        return list(table.index[mask])
    return list(wanted)
