"""How a NeuronMap comes by its coordinates: PCA's at once, the map's own when they are ready, stored ones at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workbench.core.errors import WorkbenchError
from workbench.core.results import PointMap
from workbench.session.deliver import deliver
from workbench.widgets.class_column import number_of
from workbench.widgets.points import check_filter

__all__ = ["Fitting"]

_FIT = ("by", "distance", "n_neighbours", "seed")


class Fitting:
    """The part of `NeuronMap` that fits; expects its traits and jobs, and `_show`."""

    _can_refit = False

    if TYPE_CHECKING:
        session: Any
        layer: Any
        projection: Any
        of: str
        map: PointMap | None
        view_box: Any
        settle: Callable[[str], None]
        submit: Callable[..., Any]
        is_newest: Callable[[Any], bool]
        _is_closed: bool
        _is_bound: bool
        filter: Any
        relevance_class: Any
        _problem: Any
        _failed_topics: Any
        _fail: Callable[..., None]
        _report: Callable[[], None]
        _show: Callable[..., None]

        @property
        def shown_layer(self) -> str: ...

    def _method(self) -> Any:
        from workbench.core.registry import METHODS

        options = {name: getattr(self, name) for name in _FIT}
        return METHODS["embedding-map"](self.layer, of=self.of, layout=self.projection, **options)

    def _fit(self) -> None:
        """PCA at once, where the map is not in the store yet; then the map itself."""
        title = f"Map of {self.layer}"
        if self.shown_layer != self.layer:
            self.submit(self._preview, topic="preview", title=title, quiet=True).add_done_callback(self._made)
        else:
            self.settle("preview")
        self.submit(self._fitted, topic="map", title=title).add_done_callback(self._made)

    def _preview(self, progress: Any = None) -> PointMap | None:
        method = self._method()
        try:
            return None if self.session.has_fitted(method) else self.session.preview(method, progress=progress)
        except WorkbenchError:  # what is in the way of a preview is in the way of the map, which tells
            return None

    def _fitted(self, progress: Any = None) -> PointMap:
        return self.session.fit(self._method(), progress=progress).map_

    def _made(self, job: Any) -> None:
        made = job.result(0) if job.state == "done" else None
        if made is not None and self.is_newest(job):
            deliver(self._show_late, made, job)

    def _show_late(self, made: PointMap, job: Any) -> None:
        is_preview = job.topic == "preview"
        if self._is_closed or not self.is_newest(job) or (is_preview and self.shown_layer == made.layer):
            return
        try:
            self._show(made, is_preview=is_preview)
        except WorkbenchError as error:
            self._fail("columns", error, job.topic)
            return
        if not is_preview and self._problem and not self._failed_topics:
            self._problem = {}
        self._report()

    def _refit(self) -> None:
        if self._can_refit:
            self._fit()

    def _choose_layer(self) -> None:
        """Also when it comes back to the one on show, whose own map may not have been made yet."""
        if self._can_refit and self._is_bound:
            if self.layer != self.shown_layer:
                self.view_box = []
            self._fit()

    def _leave_out(self, made: PointMap, facts: list[dict[str, Any]]) -> None:
        """Choices that the map of another layer does not offer."""
        offered = {one["name"] for one in facts}
        for name in ("color_by", "size_by", "symbol_by"):
            if getattr(self, name) not in offered:
                setattr(self, name, "")
        try:
            check_filter(self.filter, {one["name"]: one for one in facts})
        except WorkbenchError:
            self.filter = {}
        try:
            number_of(made, self.relevance_class)
        except WorkbenchError:
            self.relevance_class = None

    def _retry(self) -> None:
        if self._can_refit and "map" in self._failed_topics:
            self._fit()
