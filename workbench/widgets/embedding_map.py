"""NeuronMap: how do components, or samples, lie to one another, and what stands out?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from workbench.core import check
from workbench.core.errors import BadValueError, StaleError, UnknownComponentError, UnknownSampleError
from workbench.core.results import PointMap
from workbench.widgets import class_column, linking, wire
from workbench.widgets.base import SessionWidget, on, register_widget
from workbench.widgets.class_column import ChoosesClass
from workbench.widgets.columns import first_column
from workbench.widgets.esm import css, esm
from workbench.widgets.handlers import at_most, many, one_of
from workbench.widgets.keeping import Offer
from workbench.widgets.labelling import ShowsLabels, with_labels
from workbench.widgets.map_fitting import Fitting
from workbench.widgets.map_recorded import recorded_state, recordings
from workbench.widgets.narrowing import ShowsLayer
from workbench.widgets.points import (
    blocks,
    check_filter,
    column_facts,
    near_payload,
    passing,
    payload,
    plain_map,
)
from workbench.widgets.recording import Recording
from workbench.widgets.stills import Still

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["NeuronMap"]

_MOST = 2_000_000
_VALUES_BYTES = 1_500_000


@register_widget("map", shows=PointMap)
class NeuronMap(ShowsLabels, ChoosesClass, Fitting, ShowsLayer, SessionWidget):
    """A scatter of a layer's components, or of samples: those that are alike lie together.

    Coordinates by PCA are drawn at once; UMAP's take their place when they are ready, and are kept in the store. The
    neighbours of the selected point in the full space are drawn as lines, so that one sees where the plane tears apart
    what belongs together. Drag with lasso, box or brush to select a set; several maps of the same things side by side
    show the same selection.

    Parameters
    ----------
    source : Session, PointMap or fitted EmbeddingMap, optional
        With a session also name the `layer`.
    layer : str, optional
        With a session; assigning another to the widget shows that one's map.
    of : {"components", "samples"}
    by : {"activation", "relevance"}
        Table that is compared.
    distance : {"correlation", "cosine", "euclidean"}
    n_neighbours, seed : int
        Of the projection; see `workbench.methods.EmbeddingMap`.
    position : (point, 2) array, optional
        Points of your own in place of `source`, with `columns` (a frame or a mapping) and, for neighbours, the
        `vectors` (point, dim) that they stand for.
    layout : {"umap", "pca"}, optional
        The same as `projection`. (``widget.layout`` is the place on the page, as of every widget.)
    **view
        `color_by`, `size_by`, `symbol_by`, `filter`, `neighbours`, `projection`, `tool` and the other traits.

    Examples
    --------
    >>> NeuronMap(s, "bn2", color_by="class_relevance")  # doctest: +SKIP
    >>> NeuronMap(s, "bn2", color_by="class_relevance", relevance_class="tiger cat")  # doctest: +SKIP
    >>> NeuronMap(position=xy, columns=frame, color_by="label")  # doctest: +SKIP
    """

    _esm = esm("neuron_map")
    _css = css("neuron_map")
    follows = ("component", "components")
    stands_for = "component"
    record_word = "map"

    component = traitlets.Any(None, allow_none=True, help="Address of the selected component, or None.").tag(sync=True)
    components = traitlets.Any((), help="Addresses of the selected set.").tag(sync=True, **linking.members)
    sample = traitlets.Any(None, allow_none=True, help="Id of the selected sample, on maps of samples.").tag(sync=True)
    samples = traitlets.Any((), help="Ids of the selected set, on maps of samples.").tag(sync=True, **linking.members)
    color_by = traitlets.Unicode("", help="Column that colours the points; empty for the first.").tag(
        sync=True, view=True
    )
    size_by = traitlets.Unicode("", help="Column that sizes points, words by how many share them; or empty.").tag(
        sync=True, view=True
    )
    symbol_by = traitlets.Unicode("", help="Column that gives symbols; empty: groups if they colour, or circles.").tag(
        sync=True, view=True
    )
    filter = traitlets.Dict(
        help="What passes, by column: [low, high], None for no limit, or a list of names; others are small and grey."
    ).tag(sync=True, view=True)
    only_linked = traitlets.Bool(False, help="Show the selected set alone, once there is one.").tag(
        sync=True, view=True
    )
    neighbours = traitlets.Int(
        8, min=0, max=30, help="Neighbours of the selected point, in the full space, that are drawn as lines."
    ).tag(sync=True, view=True)
    thumbnails = traitlets.Bool(True, help="Pictures take the place of points when near.").tag(sync=True, view=True)
    projection = traitlets.Enum(["umap", "pca"], "umap", help="How points come onto the plane.").tag(
        sync=True, view=True
    )
    view_box = traitlets.List(
        traitlets.Float(), help="Visible part in coordinates: left, bottom, right, top; empty for all of it."
    ).tag(sync=True, view=True)
    tool = traitlets.Enum(["move", "lasso", "box", "brush"], "move", help="What dragging does.").tag(
        sync=True, view=True
    )
    show_list = traitlets.Bool(None, allow_none=True, help="Whether the list is open; None: if there is room.").tag(
        sync=True, view=True
    )
    points = traitlets.Dict(help="Coordinates, columns on offer, names of groups, layout in words, digest.").tag(
        sync=True, **wire.arrays
    )
    values = traitlets.Dict(help="Columns by name, one number per point; those in use if all are too many.").tag(
        sync=True, **wire.arrays
    )
    near = traitlets.Dict(help="Neighbours of all points with their distances, unless they are too many.").tag(
        sync=True, **wire.arrays
    )
    _renderer = traitlets.Enum(["", "canvas", "webgl"], "", help="What draws; empty for the better of the two.").tag(
        sync=True
    )

    def __init__(
        self,
        source: Any = None,
        layer: str | None = None,
        *,
        session: Any = None,
        of: str = "components",
        by: str = "activation",
        distance: str | None = None,
        n_neighbours: int = 15,
        seed: int = 0,
        position: Any = None,
        columns: Any = None,
        vectors: Any = None,
        **view: Any,
    ):
        self.map: PointMap | None = None
        self._names: list[str] | None = None  # of points that were given
        self._facts: dict[str, dict[str, Any]] = {}
        self._all: dict[str, np.ndarray] = {}
        self._is_given = position is not None
        self._plain = (position, columns, vectors)
        self._still_tiles: dict[int, np.ndarray] = {}
        self.of = check.one_of("of", getattr(_record_of(source), "of", "samples" if self._is_given else of), _OF)
        self.by, self.n_neighbours, self.seed = by, n_neighbours, seed
        self.distance = distance or ("euclidean" if self._is_given else "correlation")
        if isinstance(view.get("layout"), str):
            view["projection"] = view.pop("layout")
        if self.of == "samples":
            self.follows, self.stands_for = ("sample", "samples"), "sample"
        super().__init__(source, session=session, **({"layer": layer} if layer else {}), **view)

    def bind(self, source: Any) -> None:
        self._made_from = repr(source) if hasattr(source, "map_") else ""
        self.observe(lambda change: self._refit(), names=["projection"])
        self.observe(lambda change: self._choose_layer(), names=["layer"])
        self.observe(lambda change: self._retry(), names=["component", "sample"])
        self.observe(lambda change: self._choose_class(), names=["relevance_class"])
        self.observe(lambda change: self._send_values(), names=["color_by", "size_by", "symbol_by", "filter"])
        record = _record_of(source)
        if self._is_given:
            self._check_shown("")
            made, self._names = plain_map(*self._plain, distance=self.distance)
            self._plain = (None, None, None)
            self._show(made)
        elif record is not None:
            self._check_shown(record.layer)
            self._show(record)
        elif source is not None and source is self.session:
            if not self.layer:
                raise BadValueError(
                    "NeuronMap needs to know which layer of the session to show.",
                    hint='NeuronMap(session, "bn2"), or give it a fitted EmbeddingMap; see session.layers().',
                )
            self._can_refit = True
            self._fit()
        else:
            raise BadValueError(
                f"NeuronMap shows a map or a layer of a session; got {type(source).__name__}.",
                hint="Give it session.fit(EmbeddingMap(layer)), a session and a layer, or position= and columns=.",
            )
        self._is_bound = True

    # Coordinates and columns ------------------------------------------------------------------------------------------

    @property
    def shown_layer(self) -> str:
        """Layer of the map on show; empty if there is none yet, or if it is of no layer."""
        return self.map.layer if self.map is not None else ""

    @property
    def is_preview(self) -> bool:
        """Whether what is shown will still be replaced."""
        return bool(self.points.get("is_preview"))

    def _show(self, made: PointMap, *, is_preview: bool = False) -> None:
        facts, values = column_facts(made)
        names = {one["name"]: one for one in facts}
        if self.map is not None and self.map.layer != made.layer:
            self._leave_out(made, facts)
        for chosen in filter(None, (self.color_by, self.size_by, self.symbol_by)):
            check.known("column", chosen, names)
        check_filter(self.filter, names)
        number = class_column.number_of(made, self.relevance_class)
        self.map = class_column.for_class(made, number)
        self._largest, self._facts, self._all, self._still_tiles = made, names, values, {}
        found = payload(made, facts, labels=self._names)
        found["classes"] = [[i, class_column.class_name(made, i)] for i in class_column.classes_of(made)]
        if found["layer"] and (has_tiles := self._has_tiles(made)):
            found |= {"has_tiles": has_tiles, "block": blocks(made.position)}
        with self.hold_sync():
            self.layer = made.layer  # which it is already, or was not given
            self.color_by = self.color_by or first_column(facts)
            self._send_values()
            self.relevance_class = number
            self.of_class = class_column.class_payload(made, number)
            self.near = near_payload(made, found["digest"])
            self.points = {**found, "is_preview": is_preview, "can_refit": self._can_refit}
        self._has_worked = True
        self._report()

    def _has_tiles(self, made: PointMap) -> bool:
        return hasattr(self.session, "peak_crops" if made.of == "components" else "thumbnails")

    def _send_values(self) -> None:
        """All columns while they are small; else those in use, and the groups."""
        if not self._all:
            self.values = {}
            return
        whole = sum(array.nbytes for array in self._all.values())
        used = {self.color_by, self.size_by, self.symbol_by, "cluster", *self.filter}
        wanted = {name: array for name, array in self._all.items() if whole <= _VALUES_BYTES or name in used}
        if wanted.keys() != self.values.keys() or any(self.values[name] is not wanted[name] for name in wanted):
            self.values = wanted

    @traitlets.validate("color_by", "size_by", "symbol_by")
    def _is_column(self, proposal: Any) -> str:
        name = proposal["value"]
        if name and self._facts:
            check.known("column", name, self._facts)
        return name

    @traitlets.validate("filter")
    def _is_filter(self, proposal: Any) -> dict[str, Any]:
        return check_filter(proposal["value"], self._facts or None)

    @traitlets.validate("view_box")
    def _is_box(self, proposal: Any) -> list[float]:
        box = [float(v) for v in proposal["value"]]
        if box and (len(box) != 4 or not np.isfinite(box).all() or box[2] <= box[0] or box[3] <= box[1]):
            raise BadValueError(f"A view box is left, bottom, right, top, or empty; got {box}.")
        return box

    def stale_reason(self) -> str:
        if why := self._not_shown():
            return why
        if self.is_preview:
            return f"This is PCA's layout; {self.projection.upper()}'s is not there."
        return ""

    # Questions from the page ------------------------------------------------------------------------------------------

    @on("tiles", digest=str, rows=many(at_most(_MOST), wire.SHEET_TILES), size=one_of(64, 96, 128))
    def _on_tiles(self, digest: str, rows: list[int], size: int) -> Any:
        """Pictures of some points on one sheet: crops of components, or thumbnails of samples."""
        self._check_rows(digest, rows)
        return self.submit(self._tiles, rows, size, title="Pictures", quiet=True)

    @on("neighbours", digest=str, row=at_most(_MOST), k=at_most(1000))
    def _on_neighbours(self, digest: str, row: int, k: int) -> dict[str, Any]:
        """The nearest points of one, where all of them were too many to be sent."""
        self._check_rows(digest, [row])
        made = self._map()
        filled = np.flatnonzero(made.neighbours[row, :k] >= 0)
        return {"rows": made.neighbours[row][filled], "distances": made.distances[row][filled]}

    def _check_rows(self, digest: str, rows: Sequence[int]) -> None:
        made = self._map()
        if digest != self.points["digest"]:
            raise StaleError("The page asks about another map than the one on show.", hint="It is drawn anew.")
        if wrong := [i for i in rows if i >= len(made)]:
            kind = UnknownSampleError if made.of == "samples" else UnknownComponentError
            raise kind(f"No point {wrong[0]} on this map.", hint=f"It has {len(made)}, from 0.")

    def _tiles(self, rows: Sequence[int], size: int) -> dict[str, Any]:
        return {"rows": list(rows), "size": size, "sheet": wire.sheet(self._crops(rows, size))}

    def _crops(self, rows: Sequence[int], size: int) -> Any:
        made = self._map()
        numbers = made.index[list(rows)].tolist()
        if not numbers or not self.points.get("has_tiles"):
            return []
        if made.of == "components":
            return self.session.peak_crops(made.layer, numbers, size=size)
        return self.session.thumbnails(numbers, size=size)

    # In Python --------------------------------------------------------------------------------------------------------

    def _map(self) -> PointMap:
        if self.map is None:
            raise StaleError("The map is not there yet.", hint="`widget.wait()` waits for it.")
        return self.map

    def _frame(self) -> pd.DataFrame:
        made = self._map()
        frame = made.to_frame()
        if "cluster" in frame and made.cluster_names:
            names = np.array([*made.cluster_names, ""])  # what is beyond the names has none
            codes = np.asarray(made.columns["cluster"])
            frame["cluster_name"] = names[np.where((codes < 0) | (codes >= len(names)), len(names) - 1, codes)]
        if self._names is not None:
            frame["name"] = self._names
        return with_labels(frame, self.labels)

    def table(self) -> pd.DataFrame:
        """The points that pass the filter: place, columns and group, in the order of the colour column."""
        frame = self._frame()
        shown = passing(self.filter, self._map())
        if self.only_linked and (chosen := set(self._members())):
            shown &= np.array([one in chosen for one in frame.index])
        frame = frame[shown]
        if (name := self.color_by) not in frame:
            return frame
        if self._facts[name]["kind"] == "number":
            return frame.sort_values(name, ascending=False, kind="stable")
        sizes = self._frame()[name].value_counts()
        return frame.sort_values(name, key=lambda column: -column.map(sizes).astype(float), kind="stable")

    def _one(self) -> Any:
        return getattr(self, self.follows[0])

    def _members(self) -> tuple[Any, ...]:
        return tuple(getattr(self, self.follows[1]))

    def selected(self) -> list[Any]:
        one = self._one()
        return list(dict.fromkeys([*([] if one is None else [one]), *self._members()]))

    @property
    def selection(self) -> pd.DataFrame:
        """The selected points of this map, filtered or not; assigning takes ids, masks, frames and queries."""
        frame = self._frame()
        known = set(frame.index)
        return frame.loc[[label for label in self.selected() if label in known]]

    @selection.setter
    def selection(self, wanted: Any) -> None:
        from workbench.widgets.choosing import ids_of

        self.select(ids_of(wanted, self.table()))

    def select(self, ids: list[Any]) -> None:
        """Select points by address, sample id or number; the first becomes the current one."""
        made = self._map()
        names = made.ids()
        chosen = [names[made.row(one)] for one in ids]
        one, many_ = self.follows
        with self.hold_sync():
            setattr(self, many_, tuple(chosen) if len(chosen) > 1 else ())
            setattr(self, one, chosen[0] if chosen else None)

    def nearest(self, point: Any = None, k: int | None = None) -> pd.DataFrame:
        """The points nearest to one (the selected, by default) in the full space, with their distances."""
        import pandas as pd

        point = self._one() if point is None else point
        if point is None:
            raise BadValueError("No point is selected.", hint="Name one: widget.nearest(point).")
        ids, distances = self._map().nearest(point, k or max(1, self.neighbours))
        return pd.DataFrame({"distance": distances}, index=pd.Index(ids, name=self._frame().index.name))

    def plot(self, **options: Any) -> Any:
        """The map as a plotly figure, coloured by the same column, selection outlined."""
        known = set(self._map().ids())
        chosen = [one for one in self.selected() if one in known]
        target = self.relevance_class if self.color_by == class_column.COLUMN else None
        given = {"color": self.color_by or None, "highlight": chosen, "target": target}
        return self._map().plot(**{**given, **options})

    def to_jscatter(self, **options: Any) -> Any:
        """The same points as a ``jscatter.Scatter``, which draws millions; the selected set stays in step.

        Needs the package jupyter-scatter.
        """
        from workbench.widgets.handing import handed_over

        return handed_over(self, **options)

    # Keeping ----------------------------------------------------------------------------------------------------------

    def source_code(self) -> str:
        if self._made_from:
            return f"s.fit(wb.methods.{self._made_from})"
        if self._is_given:
            return "position=position, columns=columns"
        if not self._can_refit:
            return f"s.fit(wb.methods.EmbeddingMap({self.shown_layer!r}, of={self.of!r})).map_, session=s"
        defaults = {"of": "components", "by": "activation", "distance": "correlation", "n_neighbours": 15, "seed": 0}
        changed = [f"{k}={getattr(self, k)!r}" for k, default in defaults.items() if getattr(self, k) != default]
        return ", ".join(["s", repr(self.shown_layer or self.layer), *changed])

    def results(self) -> list[str]:
        return [self.map.recipe] if self.map is not None else []

    def still(self) -> Still:
        from workbench.widgets.map_still import still_of

        return still_of(self)

    def offers(self) -> Offer:
        if self.map is None or not self.map.layer:
            return Offer()
        ids = tuple(self.table().index)
        return Offer(components=ids) if self.of == "components" else Offer(samples=ids)

    def recorded_state(self) -> dict[str, Any]:
        """In a page without a kernel all columns and neighbours are there."""
        return recorded_state(self)

    def recordings(self, wanted: Offer) -> Iterator[Recording]:
        """Relevance by class; then sheets of pictures, those of wanted points first."""
        return recordings(self, wanted)

    def describe(self) -> str:
        if self.map is None:
            return self.layer
        where = f"{self.map.layer}/{self.map.basis}, " if self.map.layer else ""
        return f"{where}{len(self.map)} {self.map.of if self.map.layer else 'points'}"


_OF = ("components", "samples")


def _record_of(source: Any) -> PointMap | None:
    """The map that `source` is, or has learned."""
    record = source if isinstance(source, PointMap) else getattr(source, "map_", None)
    return record if isinstance(record, PointMap) else None
