"""A widget as another package would bring it: bars of the strongest components, found through its entry point."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import traitlets

from workbench.widgets import SessionWidget, wire
from workbench.widgets.esm import css, esm
from workbench.widgets.keeping import Offer
from workbench.widgets.stills import Still

__all__ = ["PeakBars", "Peaks"]


@dataclass(frozen=True)
class Peaks:
    """Components of one layer and their largest activation."""

    session: Any
    layer: str


class PeakBars(SessionWidget):
    """The strongest components of a layer as bars; a click selects."""

    _esm = esm(Path(__file__).with_name("peak_bars.js"), common=True)
    _css = css("common")
    follows = ("component",)
    stands_for = "component"

    component = traitlets.Any(None, allow_none=True, help="Selected component, or None.").tag(sync=True)
    layer = traitlets.Unicode("bn2", help="Layer on show.").tag(sync=True, view=True)
    n = traitlets.Int(10, min=1, max=50, help="Bars at most.").tag(sync=True, view=True)
    bars = traitlets.Dict(help="Layer, n, components and their values, strongest first.").tag(sync=True, **wire.arrays)

    def bind(self, source: Any) -> None:
        if isinstance(source, Peaks):
            self.layer = source.layer
        self.observe(lambda change: self._fetch(), names=["layer", "n"])
        self._fetch()

    def _fetch(self) -> None:
        self.submit(self._peaks, self.layer, self.n, into="bars", title=f"Peaks of {self.layer}")

    def _peaks(self, layer: str, n: int) -> dict[str, Any]:
        values = np.asarray(self.session.activations(layer).values).max(0)
        order = np.argsort(-values, kind="stable")[:n]
        ids = [f"{layer}/unit/{i}" for i in order]
        return {"layer": layer, "n": n, "components": ids, "values": values[order].astype(np.float32)}

    def table(self) -> pd.DataFrame:
        index = pd.Index(self.bars.get("components", []), name="component", dtype=object)
        return pd.DataFrame({"peak": np.asarray(self.bars.get("values", ()))}, index=index)

    def selected(self) -> list[Any]:
        return [self.component] if self.component else []

    def select(self, ids: list[Any]) -> None:
        self.component = ids[0] if ids else None

    def plot(self, **options: Any) -> Any:
        import plotly.graph_objects as go

        table = self.table()
        return go.Figure(go.Bar(x=list(table.index), y=list(table["peak"])))

    def still(self) -> Still:
        missing = "" if self.bars else "`widget.wait()` waits for it."
        return Still(
            self.title or f"Peaks of {self.layer}", f"The {self.n} largest", rows=self.table(), missing=missing
        )

    def offers(self) -> Offer:
        return Offer(components=tuple(self.table().index))

    def recordings(self, wanted: Offer) -> Iterator[Any]:
        return iter(())
