"""AtlasBrowser: which concepts does this layer hold, and which of them matter?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from workbench.core import check
from workbench.core.errors import BadValueError, StaleError, UnknownComponentError
from workbench.core.results import Atlas
from workbench.session.deliver import deliver, gate
from workbench.widgets import linking, wire
from workbench.widgets.base import SessionWidget, on, register_widget
from workbench.widgets.board import arrange, centres
from workbench.widgets.columns import described, first_column, legend_of, reading
from workbench.widgets.esm import css, esm
from workbench.widgets.handlers import at_most, many, one_of
from workbench.widgets.keeping import Offer
from workbench.widgets.labelling import ShowsLabels, labelled, with_labels
from workbench.widgets.narrowing import ShowsLayer
from workbench.widgets.recording import Recording
from workbench.widgets.stills import Picture, Still
from workbench.widgets.target_relevance import TargetRelevance, two_sided_legend

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["AtlasBrowser"]

_MOST = 1_000_000
_PAGE = 16  # cells along a page of crops
_IN_STILL = 48
_LEVELS = ("auto", "dots", "tiles", "cards")
TARGET = "target"
"""The overlay that depends on what is chosen: mean relevance for a target, or the difference of two."""

_RECORDED_TARGETS = 8
_RECORDED_BYTES = 2_000_000


@register_widget("atlas", shows=Atlas)
class AtlasBrowser(ShowsLabels, ShowsLayer, SessionWidget):
    """A zoomable board of the concepts of one layer.

    Far out each component is a coloured cell under the names of the clusters, nearer it shows a reference cropped
    around its peak, close up also its address and score. Click a cell to select the component for all widgets of the
    session. With ``overlay="target"`` the colours are the mean relevance for the selected `target`, minus that for
    `compare_target` if there is one.

    Parameters
    ----------
    source : Atlas, fitted atlas method, or Session
        With a session also name the `layer`.
    session : Session, optional
        Where crops come from and the selection lives, if `source` does not tell.
    layer : str, optional
        Whose atlas to make or load, with a session; assigning another to the widget shows that one's.
    tiles : (component, y, x, 3) uint8, optional
        Pictures to show in place of a session's.
    **view
        `overlay`, `target`, `compare_target`, `min_score`, `query`, `level`, `sort` and the other traits.

    Examples
    --------
    >>> AtlasBrowser(atlas, overlay="relevance")  # doctest: +SKIP
    >>> AtlasBrowser(s, layer="bn2", overlay="target", target="logit:3", compare_target="logit:7")  # doctest: +SKIP
    """

    _esm = esm("atlas")
    _css = css("atlas")
    follows = ("component", "components", "target")
    stands_for = "component"
    record_word = "atlas"

    component = traitlets.Any(None, allow_none=True, help="Address of the selected component, or None.").tag(sync=True)
    components = traitlets.Any((), help="Addresses of the selected set, in the order of selection.").tag(
        sync=True, **linking.members
    )
    target = traitlets.Any(
        None, allow_none=True, help='Output whose relevance the overlay "target" shows: "logit:3"; None for all.'
    ).tag(sync=True)
    overlay = traitlets.Unicode("", help='Column that colours the cells, or "target"; empty for the first.').tag(
        sync=True, view=True
    )
    compare_target = traitlets.Unicode("", help="Output whose relevance is taken from that of `target`.").tag(
        sync=True, view=True
    )
    min_score = traitlets.Float(None, allow_none=True, help="Cells whose overlay is lower are dimmed.").tag(
        sync=True, view=True
    )
    query = traitlets.Unicode("", help="Part of an address or cluster name; other cells are dimmed.").tag(
        sync=True, view=True
    )
    only_linked = traitlets.Bool(False, help="Only the selected set is not dimmed, once there is one.").tag(
        sync=True, view=True
    )
    level = traitlets.Enum(_LEVELS, "auto", help="What cells show; auto depends on the zoom.").tag(sync=True, view=True)
    sort = traitlets.Enum(["overlay", "address", "cluster"], "overlay", help="Order of the list.").tag(
        sync=True, view=True
    )
    show_list = traitlets.Bool(None, allow_none=True, help="Whether the list is open; None: if there is room.").tag(
        sync=True, view=True
    )
    view_box = traitlets.List(
        traitlets.Float(), help="Visible part of the board in cells: left, top, right, bottom; empty for all of it."
    ).tag(sync=True, view=True)
    board = traitlets.Dict(help="Cells, grid, cluster names and places, columns, digest.").tag(sync=True, **wire.arrays)
    values = traitlets.Dict(help="Each column's values, one per component.").tag(sync=True, **wire.arrays)
    targets = traitlets.List(traitlets.Dict(), help="Outputs to choose from, with the samples explained for each.").tag(
        sync=True, payload=True
    )
    target_values = traitlets.Dict(help="Both targets, and the relevance for them, one per component.").tag(
        sync=True, **wire.arrays
    )

    def __init__(
        self,
        source: Any = None,
        *,
        session: Any = None,
        layer: str | None = None,
        tiles: np.ndarray | None = None,
        **view: Any,
    ):
        self.atlas: Atlas | None = None
        self._given_tiles = tiles
        self._still_tiles: dict[int, np.ndarray] = {}
        super().__init__(source, session=session, **({"layer": layer} if layer else {}), **view)

    def bind(self, source: Any) -> None:
        self._made_from = repr(source) if hasattr(source, "atlas_") else ""
        self._relevance = TargetRelevance(self.session, source)
        self.observe(lambda change: self._fetch_target(), names=["overlay", "target", "compare_target"])
        record = source if isinstance(source, Atlas) else getattr(source, "atlas_", None)
        self.observe(lambda change: self._choose_layer(), names="layer")
        if isinstance(record, Atlas):
            self._check_shown(record.layer)
            self._show(record)
        elif source is not None and source is self.session:
            if not self.layer:
                raise BadValueError(
                    "AtlasBrowser needs to know which layer of the session to show.",
                    hint='AtlasBrowser(session, layer="bn2"), or give it a fitted atlas; see session.layers().',
                )
            self._can_refit = self._given_tiles is None
            self._fit()
        else:
            raise BadValueError(
                f"AtlasBrowser shows an atlas or a layer of a session; got {type(source).__name__}.",
                hint="Give it session.fit(ConceptAtlas(layer)), or a session and layer=.",
            )

        self._is_bound = True

    # The layer --------------------------------------------------------------------------------------------------------

    @property
    def shown_layer(self) -> str:
        """Layer of the atlas on show; empty if there is none yet."""
        return self.atlas.layer if self.atlas is not None else ""

    @property
    def basis(self) -> str:
        """Basis of the atlas on show."""
        return self.atlas.basis if self.atlas is not None else "unit"

    def _choose_layer(self) -> None:
        if not self._is_bound:
            return
        if self.layer != self.shown_layer:
            self.view_box = []
            self._fit()
            return
        self.settle("atlas")  # back to what is there, whatever came of the others
        self._failed_topics.discard("atlas")
        if not self._failed_topics:
            self._problem = {}
        self._report()

    def _fit(self) -> None:
        title = f"Atlas of {self.layer}"
        self.submit(_atlas_of, self.session, self.layer, topic="atlas", title=title).add_done_callback(self._fitted)

    def _fitted(self, job: Any) -> None:
        if job.state == "done":
            deliver(self._take, job)

    def _take(self, job: Any) -> None:
        if not self._is_closed and self.is_newest(job):
            self._show(job.result(0))
            if not self._failed_topics:
                self._problem = {}

    def _show(self, atlas: Atlas) -> None:
        if self._given_tiles is not None and len(self._given_tiles) != atlas.n_components:
            raise BadValueError(f"{len(self._given_tiles)} tiles for {atlas.n_components} components.")
        cells, grid = arrange(atlas.position, fill=0.7)
        columns, values = described(atlas.columns, atlas.cluster_names)
        known, is_other = [*(c["name"] for c in columns), TARGET], self.atlas is not None
        if self.overlay and not is_other:
            check.known("column", self.overlay, known)
        names = list(atlas.cluster_names)
        cluster = np.asarray(atlas.columns.get("cluster", np.full(len(cells), -1))).astype(np.int64)
        self.atlas, self._still_tiles = atlas, {}
        with gate(), self.hold_sync():  # choosing an overlay reports at once, from another thread
            self.layer = atlas.layer
            self.targets = self._relevance.options()
            self.target_values = {}
            self.overlay = self.overlay if self.overlay in known else first_column(columns)
            self.values = values
            self.board = {
                "digest": _digest(atlas),
                "layer": atlas.layer,
                "basis": atlas.basis,
                "n": atlas.n_components,
                "grid": list(grid),
                "cells": cells.astype(np.uint16),
                "columns": columns,
                "cluster_names": names,
                "cluster_at": centres(cells, cluster, len(names)),
                "layout": atlas.layout,
                "has_tiles": self._given_tiles is not None or hasattr(self.session, "peak_crops"),
                "n_originals": int(atlas.references.n_origins) if atlas.references is not None else 0,
                "coverage": float(atlas.references.coverage) if atlas.references is not None else 1.0,
            }
        self._has_worked = True
        self._fetch_labels()
        self._fetch_target()
        self._report()

    # A target, or two -------------------------------------------------------------------------------------------------

    @traitlets.validate("compare_target")
    def _is_target(self, proposal: Any) -> str:
        value = proposal["value"]
        names = list(self.session.class_names()) if hasattr(self.session, "class_names") else []
        if value in names:
            return f"logit:{names.index(value)}"
        return str(self.shared.check("target", value)) if value else ""

    def _fetch_target(self) -> None:
        """The values of the overlay "target", where that is what colours the board."""
        if self.atlas is None or self.overlay != TARGET:
            self._report()
            return
        target, other = self.target or "", self.compare_target
        if (self.target_values.get("target"), self.target_values.get("compare_target")) != (target, other):
            title = "Relevance for a target" if not other else "Relevance for two targets"
            self.submit(
                self._compare, self.atlas.layer, self.atlas.n_components, target, other, topic="target", title=title
            )

    def _compare(self, layer: str, n: int, target: str, other: str) -> None:
        found, options = self._relevance.values(layer, n, target, other), self._relevance.options()

        def put() -> None:
            now = (self.shown_layer, self.target or "", self.compare_target)
            if not self._is_closed and now == (layer, target, other):
                with self.hold_sync():
                    self.targets = options
                    self.target_values = found
                self._report()

        deliver(put)

    def stale_reason(self) -> str:
        have = self.target_values
        if (why := self._not_shown()) or self.overlay != TARGET or not have:
            return why
        now = (self.target or "", self.compare_target)
        return (
            "" if (have["target"], have["compare_target"]) == now else f"These are still the values of {have['title']}."
        )

    def _overlay_values(self) -> np.ndarray | None:
        """(component,) of the column that colours the board."""
        if self.overlay == TARGET:
            return np.asarray(self.target_values["values"]) if self.target_values else None
        columns = self._atlas().columns
        return np.asarray(columns[self.overlay]) if self.overlay in columns else None

    # Questions from the page ------------------------------------------------------------------------------------------

    @on("tiles", digest=str, components=many(at_most(_MOST), wire.SHEET_TILES), size=one_of(64, 96, 128))
    def _on_tiles(self, digest: str, components: list[int], size: int) -> Any:
        """Crops of some components on one sheet."""
        self._check_positions(digest, components)
        return self.submit(self._tiles, components, size, title="Crops", quiet=True)

    def _check_positions(self, digest: str, positions: list[int]) -> None:
        atlas = self._atlas()
        if digest != self.board["digest"]:
            raise StaleError("The page asks about another board than the one on show.", hint="It is drawn anew.")
        if wrong := [i for i in positions if i >= atlas.n_components]:
            raise UnknownComponentError(
                f"No component {wrong[0]} in {atlas.layer}/{atlas.basis}.", hint=f"It has {atlas.n_components}, from 0."
            )

    def _tiles(self, components: list[int], size: int) -> dict[str, Any]:
        return {"components": components, "size": size, "sheet": wire.sheet(self._crops(components, size))}

    def _crops(self, components: list[int], size: int) -> Any:
        if self._given_tiles is not None:
            return [_fitted_to(np.asarray(self._given_tiles[i]), size) for i in components]
        if components and hasattr(self.session, "peak_crops"):
            return self.session.peak_crops(self._atlas().layer, components, size=size)
        return []

    # In Python --------------------------------------------------------------------------------------------------------

    def _atlas(self) -> Atlas:
        if self.atlas is None:
            raise StaleError("The atlas is not there yet.", hint="`widget.wait()` waits for it.")
        return self.atlas

    def _frame(self) -> pd.DataFrame:
        frame, names = self._atlas().to_frame(), self._atlas().cluster_names
        if "cluster" in frame and names:
            frame["cluster_name"] = [names[int(c)] if 0 <= int(c) < len(names) else "" for c in frame["cluster"]]
        if self.overlay == TARGET and self.target_values:
            frame[TARGET] = self._overlay_values()
        return with_labels(frame, self.labels)

    def table(self) -> pd.DataFrame:
        """The components that are not dimmed: place, columns and cluster name, in the order of the list."""
        frame = self._frame()
        if self.only_linked and (chosen := set(self.components)) and (inside := frame.index.isin(chosen)).any():
            frame = frame[inside]
        if self.query:
            wanted = self.query.casefold()
            found = frame.index.str.casefold().str.contains(wanted, regex=False)
            if "cluster_name" in frame:
                found = found | frame["cluster_name"].str.casefold().str.contains(wanted, regex=False).to_numpy()
            if "label" in frame:
                found = found | frame["label"].str.casefold().str.contains(wanted, regex=False).to_numpy()
            frame = frame[found]
        if self.overlay in frame:
            if self.min_score is not None and frame[self.overlay].dtype.kind in "fiu":
                frame = frame[frame[self.overlay] >= self.min_score]
            if self.sort == "overlay":
                return frame.sort_values(self.overlay, ascending=False, kind="stable")
        if self.sort == "cluster" and "cluster" in frame:
            return frame.sort_values("cluster", kind="stable")
        return frame

    def selected(self) -> list[Any]:
        return list(dict.fromkeys([*([self.component] if self.component else []), *self.components]))

    @property
    def selection(self) -> pd.DataFrame:
        """The selected components of this layer, dimmed or not; assigning takes ids, masks, frames and queries."""
        frame = self._frame()
        return frame.loc[[label for label in self.selected() if label in frame.index]]

    @selection.setter
    def selection(self, wanted: Any) -> None:
        from workbench.widgets.choosing import ids_of

        self.select(ids_of(wanted, self.table()))

    def select(self, ids: list[Any]) -> None:
        """Select components by address or position; the first becomes the current one."""
        references = self._atlas()
        addresses = references.ids()
        chosen = []
        for one in ids:
            if isinstance(one, (int, np.integer)):
                if not 0 <= one < len(addresses):
                    raise UnknownComponentError(
                        f"No component {one} in {references.layer}.", hint=f"It has {len(addresses)}."
                    )
                one = addresses[one]
            chosen.append(check.known("component", self.shared.check("component", one), addresses))
        self.components = tuple(chosen) if len(chosen) > 1 else ()
        self.component = chosen[0] if chosen else None

    def plot(self, **options: Any) -> Any:
        """The board as a plotly scatter, coloured by the overlay, selection outlined."""
        chosen = [c for c in self.selected() if c in set(self._atlas().ids())]
        atlas, overlay = self._atlas(), self.overlay
        if overlay == TARGET and (values := self._overlay_values()) is not None:
            overlay = self.target_values["title"]
            atlas = replace(atlas, columns={**atlas.columns, overlay: values})
        elif overlay == TARGET:
            overlay = ""
        return atlas.plot(**{"color": overlay or None, "highlight": chosen or None, **options})

    # Keeping ----------------------------------------------------------------------------------------------------------

    def source_code(self) -> str:
        return (
            f"s.fit(wb.methods.{self._made_from})"
            if self._made_from
            else f"s, layer={(self.shown_layer or self.layer)!r}"
        )

    def results(self) -> list[str]:
        return [self.atlas.recipe] if self.atlas is not None else []

    def _leading(self, n: int) -> list[int]:
        """Positions of the selected components, then of the first in the order of the list."""
        prefix = f"{self._atlas().layer}/{self._atlas().basis}/"
        ids = [*self.selected(), *self.table().index[:n]]
        return [int(one.rpartition("/")[2]) for one in dict.fromkeys(ids) if one.startswith(prefix)][:n]

    def prepare_still(self) -> None:
        if self.atlas is not None:
            tiles = self._still_tiles  # of this atlas, should another come meanwhile
            wanted = [i for i in self._leading(_IN_STILL) if i not in tiles]
            tiles.update(zip(wanted, self._crops(wanted, 64), strict=False))

    def still(self) -> Still:
        if self.atlas is None:
            asked = f"of {self.layer}" if self.layer else ""
            return Still("Concepts", asked, missing="The atlas is being made: `widget.wait()` waits for it.")
        atlas, table = self.atlas, self.table()
        shown = [i for i in self._leading(_IN_STILL) if i in self._still_tiles]
        values = self._overlay_values()
        overlay = self.target_values["title"] if self.overlay == TARGET and self.target_values else self.overlay
        pictures, ids = [], atlas.ids()
        for i in shown:
            name = labelled(f"{atlas.basis} {i}", self.labels.get(ids[i], ""))
            value = "" if values is None else reading(values[i], self.overlay, atlas.cluster_names)
            alt = f"Reference of {atlas.layer}/{name}, {overlay} {value}"
            pictures.append(Picture(self._still_tiles[i], alt, (name, value)))
        by = f", by {overlay}" if overlay and self.sort == "overlay" else ""
        notes = [f"{len(pictures)} of {len(table)} components{by}; each shows its strongest reference, cropped."]
        if (references := atlas.references) is not None:
            covered = f", {references.coverage:.0%} of the data" if references.coverage < 1 else ""
            notes.append(f"References from {references.n_origins} originals{covered}. Layout: {atlas.layout}.")
        if not pictures and self.board.get("has_tiles"):
            notes[0] = "Crops had not been fetched yet."
        asked = f"{atlas.n_components} components in {len(atlas.cluster_names)} clusters"
        legend = None if values is None else legend_of(overlay, values, self.palette)
        if self.overlay == TARGET and self.target_values:
            have = self.target_values
            notes.append(have["why"] or have["note"])
            if values is not None and have["compare_target"] and not have["why"]:
                legend = two_sided_legend(overlay, values)
        return Still(f"Concepts of {atlas.layer}", asked, pictures, legend, table, notes)

    def offers(self) -> Offer:
        return Offer(components=tuple(self.table().index)) if self.atlas is not None else Offer()

    def recorded_state(self) -> dict[str, Any]:
        if not self.board:
            return {}
        # What was never asked for may be nowhere: a page offers targets where their relevances are known.
        targets = self.targets if self._relevance.is_known else []
        return {"board": {**self.board, "is_recorded": True}, "targets": targets}

    def recordings(self, wanted: Offer) -> Iterator[Recording]:
        """Sheets of crops for all pages of the board, those with wanted components first; and targets, by twos."""
        yield from self._target_recordings()
        if not self.board.get("has_tiles"):
            return
        pages: dict[tuple[int, int], list[int]] = {}
        for i, (x, y) in enumerate(np.asarray(self.board["cells"]).tolist()):
            pages.setdefault((x // _PAGE, y // _PAGE), []).append(i)
        first = {i: rank for rank, i in enumerate(self._leading(self._atlas().n_components))}
        for components in sorted(pages.values(), key=lambda page: min(first.get(i, _MOST) for i in page)):
            body = {"digest": self.board["digest"], "components": components, "size": 64}
            yield Recording(
                lambda components=components: self._tiles(components, 64),  # type: ignore[misc]
                question=("tiles", body),
                what="sheets of crops",
            )

    def _target_recordings(self) -> Iterator[Recording]:
        if self.atlas is None or not self._relevance.is_known:
            return
        layer, n = self.atlas.layer, self.atlas.n_components
        seen = [one["value"] for one in self.targets if one.get("n")]
        first = [one for one in (self.target, self.compare_target) if one]
        chosen = list(dict.fromkeys([*first, *seen]))[:_RECORDED_TARGETS]
        pairs = [(target, other) for other in ("", *chosen) for target in (None, *chosen) if target != other]
        for target, other in pairs[: max(1, _RECORDED_BYTES // (4 * n))]:
            yield Recording(
                lambda target=target, other=other: {  # type: ignore[misc]
                    "target_values": self._relevance.values(layer, n, target or "", other)
                },
                {"target": target, "compare_target": other},
                what="targets",
            )

    def describe(self) -> str:
        return (
            f"{self.atlas.layer}/{self.atlas.basis}, {self.atlas.n_components} components" if self.atlas else self.layer
        )


def _atlas_of(session: Any, layer: str) -> Atlas:
    from workbench.core.registry import METHODS

    return session.fit(METHODS["concept-atlas"](layer)).atlas_


def _digest(atlas: Atlas) -> str:
    of = hashlib.blake2b(f"{atlas.layer}/{atlas.basis}/{atlas.recipe}".encode(), digest_size=8)
    of.update(np.ascontiguousarray(atlas.position, dtype=np.float32).tobytes())
    return of.hexdigest()


def _fitted_to(tile: np.ndarray, size: int) -> np.ndarray:
    from PIL import Image

    if tile.shape[:2] == (size, size):
        return tile
    return np.asarray(Image.fromarray(tile).resize((size, size), Image.Resampling.BILINEAR))
