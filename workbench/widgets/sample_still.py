"""The still and the bars of a SampleGrid: the first samples with captions, and how many there are of each kind."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.core import check
from workbench.core.bars import Bars
from workbench.core.words import count
from workbench.widgets.stills import Picture, Still

if TYPE_CHECKING:
    import pandas as pd

    from workbench.widgets.samples import SampleGrid

__all__ = ["IN_STILL", "bars_of", "still_of"]

IN_STILL = 24
"""Samples of a still."""

_BARS = 40


def still_of(grid: SampleGrid) -> Still:
    """What the grid shows now, with the thumbnails that were fetched."""
    title = grid.title or "Samples"
    rows = grid._known
    if rows is None:
        return Still(title, missing="The samples are being listed: `widget.wait()` waits for them.")
    table = grid.table()
    shown = [i for i in table.index[:IN_STILL].tolist() if i in grid._still_pictures]
    pictures = [
        Picture(grid._still_pictures[i], _words(rows.frame.loc[i]), _caption(rows.frame.loc[i], grid.overlay))
        for i in shown
    ]
    asked = [
        count(len(table), "sample") if len(table) == len(rows) else f"{count(len(table))} of {count(len(rows))}",
        f"with “{grid.filter}”" if grid.filter else "",
        "only the chosen" if grid.only_selected else "",
        "" if grid.sort == "sample" and grid.ascending
        else f"by {grid.sort}{'' if grid.ascending else ', largest first'}",
    ]  # fmt: skip
    notes = [_counted(grid, grid.group_by or "label"), _counted(grid, "tags") if rows.tags else ""]
    if grid.samples:
        notes.append(f"{count(len(grid.samples), 'sample')} chosen.")
    if len(shown) < min(len(table), IN_STILL):
        notes.append("Thumbnails had not been fetched yet.")
    listed = table.drop(columns=[f"tag:{name}" for name in rows.tags])
    made = ", ".join(part for part in asked if part)
    return Still(title, made, pictures, rows=listed, notes=[note for note in notes if note])


def bars_of(grid: SampleGrid, by: str) -> Bars:
    """How many samples on show there are of each kind, and how many of them are chosen; the most frequent kinds."""
    rows = grid._rows()
    check.known("column", by, rows.names)
    (codes, names), order = rows.groups(by), grid._order()
    totals = np.bincount(codes[order], minlength=len(names))
    chosen = np.intersect1d(np.array(grid.selected(), dtype=np.int64), order)
    leading = sorted(np.argsort(-totals, kind="stable")[:_BARS].tolist())
    leading = [i for i in leading if totals[i]] or [0]
    series = {"on show": totals[leading].tolist()}
    if len(chosen):
        series["chosen"] = np.bincount(codes[chosen], minlength=len(names))[leading].tolist()
    words = [names[i] or f"no {by}" for i in leading]
    title = f"{count(len(order), 'sample')} by {by.replace('_', ' ')}"
    return Bars(title, "samples", words, series)


def _counted(grid: SampleGrid, by: str) -> str:
    """How many on show there are of each, the most first."""
    codes, names = grid._rows().groups(by)
    totals = np.bincount(codes[grid._order()], minlength=len(names))
    leading = [i for i in np.argsort(-totals, kind="stable").tolist() if totals[i]]
    parts = [f"{names[i] or 'none'} {count(int(totals[i]))}" for i in leading[:8]]
    rest = f" and {len(leading) - 8} more" if len(leading) > 8 else ""
    return f"{by.replace('_', ' ').capitalize()}: {', '.join(parts)}{rest}." if parts else ""


def _caption(row: pd.Series, overlay: list[str]) -> list[str]:
    lines = [_reading(row, name) for name in overlay]
    return [f"#{row.name}", *(line for line in lines if line)]


def _words(row: pd.Series) -> str:
    parts = [f"Sample {row.name}", f"label {row['label']}" if row["label"] else ""]
    parts += [f"prediction {row['prediction']}" if row["prediction"] else ""]
    parts += [f"tags {', '.join(row['tags'])}" if row["tags"] else ""]
    return ", ".join(part for part in parts if part)


def _reading(row: pd.Series, name: str) -> str:
    value = row[name] if name != "sample" else row.name
    if isinstance(value, tuple):
        return f"tags {', '.join(value)}" if value else ""
    if name == "prediction" and value:
        return f"predicted {value}"
    if isinstance(value, (bool, np.bool_)):
        return name.removeprefix("tag:") if value else ""
    if isinstance(value, (float, np.floating)):
        return f"{name.replace('_', ' ')} {value:.3g}" if np.isfinite(value) else ""
    return str(value) if isinstance(value, str) else f"{name} {value}"
