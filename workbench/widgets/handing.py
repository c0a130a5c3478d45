"""Handing a map over to jupyter-scatter, which draws millions of points, with the selected set in step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.errors import MissingPackageError

if TYPE_CHECKING:
    from workbench.widgets.embedding_map import NeuronMap

__all__ = ["handed_over"]


def handed_over(widget: NeuronMap, **options: Any) -> Any:
    """A ``jscatter.Scatter`` of the same points; what is selected in one is selected in the other.

    Parameters
    ----------
    widget : NeuronMap
    **options
        Of ``jscatter.Scatter``, in place of what follows from the widget.
    """
    try:
        import jscatter
    except ImportError as error:
        raise MissingPackageError(
            "Handing a map over needs the package jupyter-scatter, which is not installed.",
            hint="pip install jupyter-scatter.",
        ) from error
    frame = widget._frame()
    ids, many = list(frame.index), widget.follows[1]
    rows = {one: row for row, one in enumerate(ids)}
    color = "cluster_name" if widget.color_by == "cluster" and "cluster_name" in frame else widget.color_by
    size = widget.size_by
    if size and (size == "cluster" or frame[size].dtype.kind not in "fiub"):  # words: by their number
        size = f"points that share {size}"
        frame[size] = frame.groupby(widget.size_by, observed=True)[widget.size_by].transform("size")
    encoding = {"color_by": color or None, "size_by": size or None}
    shown = {name: column for name, column in encoding.items() if column}
    scatter = jscatter.Scatter(data=frame.reset_index(drop=True), **{"x": "x", "y": "y", **shown, **options})

    def tell(change: Any = None) -> None:
        chosen = np.array([rows[one] for one in getattr(widget, many) if one in rows], dtype=np.int64)
        if not np.array_equal(chosen, np.asarray(scatter.widget.selection, dtype=np.int64)):
            scatter.widget.selection = chosen

    def hear(change: Any) -> None:
        setattr(widget, many, tuple(ids[int(row)] for row in np.asarray(change["new"])))

    tell()
    widget.observe(tell, names=[many])
    scatter.widget.observe(hear, names="selection")
    widget._undo += [
        lambda: widget.unobserve(tell, names=[many]),
        lambda: scatter.widget.unobserve(hear, names="selection"),
    ]
    return scatter
