"""ComponentCard: what is this component?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from workbench.core.errors import BadValueError, IncompleteError
from workbench.core.ids import ComponentId
from workbench.session.deliver import deliver
from workbench.widgets import wire
from workbench.widgets.base import SessionWidget, register_widget
from workbench.widgets.esm import css, esm
from workbench.widgets.keeping import Offer
from workbench.widgets.recording import Recording
from workbench.widgets.stills import Picture, Still

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ComponentCard"]

_BINS = 40
_SIZE = 96
_WANTED = ("component", "by", "mode", "n")


@register_widget("card")
class ComponentCard(SessionWidget):
    """References and numbers of the selected component.

    Shows the samples on which the component answers most strongly or is most relevant, whole, cropped around the peak
    or masked to where it answers; from how many originals they were chosen; and how its values are spread over the
    data, with the current sample marked. Click a reference to select the sample.

    Parameters
    ----------
    source : Session
    component : str, optional
        Selected at the start.
    **view
        `by`, `mode`, `n`, `pinned` and the other traits.
    """

    _esm = esm("card")
    _css = css("card")
    follows = ("component", "sample")
    stands_for = "component"

    component = traitlets.Any(None, allow_none=True, help="Address of the selected component, or None.").tag(sync=True)
    sample = traitlets.Any(None, allow_none=True, help="Id of the current sample, marked on the card.").tag(sync=True)
    by = traitlets.Enum(["activation", "relevance"], "activation", help="What references are chosen by.").tag(
        sync=True, view=True
    )
    mode = traitlets.Enum(["crop", "whole", "mask"], "crop", help="What is shown of each reference.").tag(
        sync=True, view=True
    )
    n = traitlets.Int(12, min=1, max=64, help="References at most.").tag(sync=True, view=True)
    pinned = traitlets.Unicode("", help="Component to stay on while others are selected; empty to follow.").tag(
        sync=True, view=True
    )
    references = traitlets.Dict(help="Component, by, mode, samples, values, captions and their sheet.").tag(
        sync=True, **wire.arrays
    )
    spread = traitlets.Dict(help="Component and quantity, edges and counts of the histogram, quantiles.").tag(
        sync=True, **wire.arrays
    )
    mark = traitlets.Dict(help="Component, sample and its value: what is marked in the histogram.").tag(
        sync=True, **wire.arrays
    )

    def bind(self, source: Any) -> None:
        if self.session is None:
            raise BadValueError(
                f"ComponentCard shows the components of a session; got {type(source).__name__}.",
                hint="Give it what open_session returned.",
            )
        self.observe(lambda change: self._fetch(), names=["component", "pinned", "by", "mode", "n"])
        self.observe(lambda change: self._fetch_values(), names=["sample"])
        self._fetch()

    @property
    def shown(self) -> str | None:
        """Address of the component on the card: the pinned one, else the selected one."""
        return self.pinned or self.component

    @traitlets.validate("pinned")
    def _is_component(self, proposal: Any) -> str:
        return self.shared.check("component", proposal["value"]) if proposal["value"] else ""

    def _fetch(self) -> None:
        if self.shown is None:
            self._report()
            return
        have, title = self.references, f"References of {self.shown}"
        is_new = bool(have.get("is_preview")) or tuple(have.get(key) for key in _WANTED) != self._wanted()
        # What takes no model goes first: whole pictures, then values, then crops, whose maps may be to compute.
        if is_new and self.mode != "whole":
            self.submit(self._preview, *self._wanted(), topic="preview", title=title)
        self._fetch_values()
        if is_new:
            self.submit(self._references, *self._wanted(), into="references", title=title)

    def _fetch_values(self) -> None:
        component, sample = self.shown, self.sample
        if component is None:
            return
        is_spread = (self.spread.get("component"), self.spread.get("quantity")) == (component, self.by)
        is_marked = sample is None or tuple(self.mark.get(k) for k in ("component", "sample", "quantity")) == (
            component,
            sample,
            self.by,
        )
        if not (is_spread and is_marked):
            title = f"Values of {component}"
            self.submit(self._values, component, self.by, sample, topic="values", title=title, quiet=is_spread)

    def _wanted(self) -> tuple[str | None, str, str, int]:
        return self.shown, self.by, self.mode, self.n

    # The work, on the lane --------------------------------------------------------------------------------------------

    def _references(self, component: str, by: str, mode: str, n: int, progress: Any = None) -> dict[str, Any]:
        views = self.session.reference_views(component, by=by, n=n, mode=mode, size=_SIZE, progress=progress)
        return self._sheet_of(component, by, mode, n, views)

    def _preview(self, component: str, by: str, mode: str, n: int) -> None:
        views = self.session.reference_views(component, by=by, n=n, mode="whole", size=_SIZE)
        record = {**self._sheet_of(component, by, mode, n, views), "is_preview": True}

        def put() -> None:
            if not self._is_closed and self._wanted() == (component, by, mode, n):
                self.references = record

        deliver(put)

    def _sheet_of(self, component: str, by: str, mode: str, n: int, views: Any) -> dict[str, Any]:
        chosen = self.session.references(ComponentId.parse(component).layer, by=by)
        return {
            "component": component,
            "by": by,
            "mode": mode,
            "n": n,
            "is_preview": False,
            "samples": [int(view.sample) for view in views],
            "values": np.array([view.value for view in views], dtype=np.float32),
            "captions": [str(view.caption) for view in views],
            "names": [self._name(int(view.sample)) for view in views],
            "sheet": wire.sheet([_square(view.picture, _SIZE) for view in views]),
            "n_samples": int(chosen.n_samples),
            "n_originals": int(chosen.n_origins),
            "per_origin": int(chosen.per_origin),
            "coverage": float(chosen.coverage),
            "target": str(chosen.target_text),
        }

    def _name(self, sample: int) -> str:
        """What a sample is called: its class, else the last part of its key."""
        data = self.session.data
        label = int(data.labels[sample])
        return str(data.classes[label] if 0 <= label < len(data.classes) else data.keys[sample].rpartition("/")[2])

    def _values(self, component: str, by: str, sample: int | None) -> None:
        deliver(self._take_values, *self._spread_and_mark(component, by, sample))

    def _spread_and_mark(self, component: str, by: str, sample: int | None) -> tuple[dict[str, Any], dict[str, Any]]:
        address = ComponentId.parse(component)
        try:
            read = self.session.activations if by == "activation" else self.session.relevances
            table = read(address.layer)
        except IncompleteError as error:  # a sweep that kept references alone: the card does without
            spread = {
                "component": component,
                "quantity": by,
                "n": 0,
                "counts": np.zeros(0, np.uint32),
                "why": error.hint,
            }
            return spread, {"component": component, "sample": sample, "quantity": by, "value": None, "rank": None}
        column = np.asarray(table.values[:, address.index], dtype=np.float32)
        known = column[np.isfinite(column)]
        counts, edges = np.histogram(known, bins=_BINS) if known.size else (np.zeros(0, int), np.zeros(0))
        spread = {
            "component": component,
            "quantity": by,
            "pooling": str(table.pooling),
            "counts": counts.astype(np.uint32),
            "edges": edges.astype(np.float32),
            "n": int(known.size),
            "n_missing": int(column.size - known.size),
            "n_zero": int((known == 0).sum()),
            "quantiles": {str(q): wire.finite(np.quantile(known, q)) for q in (0.5, 0.9, 0.99)} if known.size else {},
            "low": wire.finite(known.min()) if known.size else None,
            "high": wire.finite(known.max()) if known.size else None,
        }
        value = None if sample is None else wire.finite(column[sample])
        rank = None if value is None else int((known > value).sum()) + 1
        mark = {
            "component": component,
            "sample": sample,
            "quantity": by,
            "value": value,
            "rank": rank,
            "of": known.size,
        }
        return spread, mark

    def _take_values(self, spread: dict[str, Any], mark: dict[str, Any]) -> None:
        if self._is_closed or (self.shown, self.by) != (spread["component"], spread["quantity"]):
            return
        with self.hold_sync():
            self.mark = mark
            if tuple(self.spread.get(k) for k in ("component", "quantity")) != (
                spread["component"],
                spread["quantity"],
            ):
                self.spread = spread

    def stale_reason(self) -> str:
        have = self.references
        if not have or tuple(have[key] for key in _WANTED) == self._wanted():
            return ""
        return f"These are still the references of {have['component']}."

    def table(self) -> pd.DataFrame:
        """The references on the card, strongest first, with the sample as index."""
        import pandas as pd

        have = self.references
        data = {
            "component": have.get("component"),
            "rank": range(1, len(have.get("samples", [])) + 1),
            have.get("by", self.by): np.asarray(have.get("values", []), dtype=np.float32),
            "caption": have.get("captions", []),
        }
        return pd.DataFrame(data, index=pd.Index(have.get("samples", []), name="sample", dtype="int64"))

    def selected(self) -> list[Any]:
        return [] if self.sample is None else [self.sample]

    def select(self, ids: list[Any]) -> None:
        """Select a sample by its id."""
        self.sample = ids[0] if ids else None

    def plot(self, **options: Any) -> Any:
        """The references as a contact sheet, a plotly figure."""
        if self.shown is None:
            raise BadValueError("No component is selected.", hint="Set `widget.component`, or click one in an atlas.")
        address = ComponentId.parse(self.shown)
        references = self.session.references(address.layer, by=self.by)
        return references.plot(
            **{"components": [address], "n": self.n, "pictures": self.session.data.picture, **options}
        )

    # Keeping ----------------------------------------------------------------------------------------------------------

    def still(self) -> Still:
        have = self.references
        if self.shown is None:
            return Still("Component", missing="No component is selected: set `widget.component`.")
        if not have or have["component"] != self.shown:
            return Still(self.shown, missing="Its references are being fetched: `widget.wait()` waits for them.")
        pictures = [
            Picture(tile, f"Reference {rank} of {self.shown}: {caption}", (name, f"{value:.3g}"))
            for rank, (tile, caption, name, value) in enumerate(
                zip(wire.tiles(have["sheet"]), have["captions"], have["names"], have["values"].tolist(), strict=True), 1
            )
        ]
        views = {"crop": "cropped around the peak", "whole": "whole", "mask": "masked to where it answers"}
        asked = f"The {len(pictures)} strongest by {have['by']}, {views[have['mode']]}"
        notes = [f"From {have['n_samples']} views of {have['n_originals']} originals."]
        if have["coverage"] < 1:
            notes.append(f"The sweep has covered {have['coverage']:.0%} of the data so far.")
        if (spread := self.spread).get("component") == self.shown and spread["n"]:
            quantiles = ", ".join(
                f"{float(q):.0%} below {v:.3g}" for q, v in spread["quantiles"].items() if v is not None
            )
            notes.append(f"{spread['quantity'].capitalize()}: {spread['n_zero'] / spread['n']:.0%} zero; {quantiles}.")
        return Still(self.shown, asked, pictures, rows=self.table()[["rank", have["by"], "caption"]], notes=notes)

    def results(self) -> list[str]:
        if self.shown is None or not self.references:
            return []
        layer = ComponentId.parse(self.shown).layer
        return [getattr(self.session.references(layer, by=self.by), "recipe", "")]

    def offers(self) -> Offer:
        return Offer(samples=tuple(self.references.get("samples", ())))

    def recordings(self, wanted: Offer) -> Iterator[Recording]:
        """References and values of the wanted components."""
        for component in wanted.components:

            def references(component: str = component) -> dict[str, Any]:
                return {"references": self._references(component, self.by, self.mode, self.n)}

            def spread(component: str = component) -> dict[str, Any]:
                found, mark = self._spread_and_mark(component, self.by, self.sample)
                return {"spread": found, "mark": mark}

            shown = {"component": component, "by": self.by}
            yield Recording(references, {**shown, "mode": self.mode, "n": self.n}, what="cards")
            yield Recording(spread, shown, what="distributions")

    def describe(self) -> str:
        return self.shown or "nothing selected"


def _square(picture: np.ndarray, size: int) -> np.ndarray:
    """The picture within a square tile, whatever its shape, on white."""
    from PIL import Image

    picture = np.asarray(picture)
    if picture.shape[:2] == (size, size):
        return picture
    image = Image.fromarray(picture)
    image.thumbnail((size, size))
    tile = Image.new("RGB", (size, size), (255, 255, 255))
    tile.paste(image, ((size - image.width) // 2, (size - image.height) // 2))
    return np.asarray(tile)
