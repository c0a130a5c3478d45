"""The still of a direction: strip, tails, angles as a numbered table, scores with intervals, and its negatives."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.widgets import wire
from workbench.widgets.cav_answers import METHODS
from workbench.widgets.labelling import labelled
from workbench.widgets.stills import Legend, Picture, Still, painted

if TYPE_CHECKING:
    import pandas as pd

    from workbench.widgets.cav import DirectionViewer

__all__ = ["drawn_strip", "still_of"]

_WITH, _WITHOUT, _REST = (217, 72, 1), (33, 113, 181), (150, 158, 166)
_TAIL = 6  # pictures of each tail
_CLASSES = 6
_SHORT = {"with the concept": "with", "without": "without", "took no part": "no part"}


def still_of(widget: DirectionViewer) -> Still:
    """What the viewer shows now; touches no model."""
    found, shown = widget.found, widget.shown
    where = f"Directions in {widget.layer}"
    if not widget.concept or (widget.concept == "selected" and not widget.positive_ids):
        return Still(widget.title or where, missing='No concept is chosen: set `widget.concept`, to "tag:NAME", say.')
    if not shown:
        return Still(widget.title or where, missing="The directions are being fitted: `widget.wait()` waits for them.")
    row = next(one for one in found["rows"] if one.get("direction") == shown)
    title = widget.title or labelled(f"{row['concept']} at {found['layer']}", widget.labels.get(shown, ""))
    asked = f"Is there a direction for {row['concept']}? {_method(row)}: {row['n_positive']} samples with it against "
    asked += found["against"]
    pictures, legend = [], None
    strip = widget.strip
    if strip.get("direction") == shown and len(strip["samples"]):
        alt = f"Samples by their projection on the direction, with the concept above, without it below; {_split(strip)}"
        pictures.append(Picture(drawn_strip(strip, widget.bins), alt, (f"Projections of {strip['n']} samples",)))
        legend = Legend("", [_WITH, _WITHOUT, _REST], ["above: with", "below: without", "took no part"], is_ramp=False)
        if widget.tails.get("direction") == shown:
            pictures += list(_tails(widget))
    place = widget.place
    if place.get("direction") == shown:
        seen = wire.picture(place["picture"]["jpeg"])
        for one in place["maps"]:
            heat = wire.signed_values(one["map"], one["limit"])
            alt = f"{one['title']}, in sample {place['sample']}, as a heatmap"
            pictures.append(
                Picture(painted(seen, heat, one["bulk"] or 1.0), alt, (one["title"], f"sample {place['sample']}"))
            )
    return Still(title, asked, pictures, legend, _rows(found), list(_notes(widget, found, row)))


def drawn_strip(strip: dict[str, Any], bins: int, *, width: int = 560, height: int = 132) -> np.ndarray:
    """Histograms of both kinds, one above and one below a line, each in shares of its own samples."""
    from PIL import Image, ImageDraw, ImageFont

    values, kind = np.asarray(strip["values"], np.float64), np.asarray(strip["kind"]) % 4
    low, high = float(values.min()), float(values.max())
    edges = np.linspace(low, high if high > low else low + 1, bins + 1)
    canvas = Image.new("RGB", (width, height), (255, 255, 255))
    draw = ImageDraw.Draw(canvas)
    middle, most = (height - 18) // 2, (height - 18) // 2 - 4
    step = width / bins
    for which, colour, sign in ((0, _REST, 1), (2, _WITHOUT, 1), (1, _WITH, -1)):
        counts, _ = np.histogram(values[kind == which], edges)
        for i, count in enumerate(counts.tolist()):
            if count:
                size = max(1, round(most * count / max(counts)))
                ends = sorted((middle, middle + sign * size))
                draw.rectangle((i * step + 0.5, ends[0], (i + 1) * step - 1, ends[1]), fill=colour)
    draw.line((0, middle, width, middle), fill=(90, 98, 108))
    font = ImageFont.load_default(11)
    threshold = strip["threshold"]
    if threshold is not None and low <= threshold <= high:
        x = (threshold - low) / (edges[-1] - low) * width
        for y in range(0, height - 18, 6):
            draw.line((x, y, x, y + 3), fill=(20, 25, 32))
    for text, x, anchor in ((f"{low:.3g}", 0, "ls"), (f"{high:.3g}", width, "rs")):
        draw.text((x, height - 4), text, fill=(60, 66, 74), font=font, anchor=anchor)
    return np.asarray(canvas)


def _split(strip: dict[str, Any]) -> str:
    kind = np.asarray(strip["kind"]) % 4
    return f"{int((kind == 1).sum())} with, {int((kind == 2).sum())} without, {strip['n_held_out']} of them held out"


def _tails(widget: DirectionViewer) -> Iterator[Picture]:
    strip = widget.strip
    order = {int(sample): i for i, sample in enumerate(strip["samples"])}
    names = widget.session.data.classes
    for end, word in (("high", "Highest"), ("low", "Lowest")):
        have = widget.tails[end]
        for rank, (sample, tile) in enumerate(zip(have["samples"], wire.tiles(have["sheet"]), strict=True), 1):
            if rank > _TAIL:
                break
            at = order[sample]
            what = {1: "with the concept", 2: "without"}.get(int(strip["kind"][at]) % 4, "took no part")
            label = int(strip["class_"][at])
            name = names[label] if 0 <= label < len(names) else ""
            value = f"{float(strip['values'][at]):.3g}"
            alt = f"{word} projection, rank {rank}: sample {sample}, {name}, {value}, {what}"
            yield Picture(tile, alt, (f"{value}", _SHORT[what]))


def _rows(found: dict[str, Any]) -> pd.DataFrame:
    """Directions with their scores, and the cosines between them under numbers."""
    import pandas as pd

    names, cosines = found["angles"]["names"], np.asarray(found["angles"]["cosines"])
    by_address = {one["direction"]: one for one in found["rows"] if "direction" in one}
    rows = []
    for i, one in enumerate(names):
        row = by_address.get(one["direction"], {})
        rows.append(
            {
                "": one["text"],
                "AUC held out": _interval(row.get("auc"), row.get("auc_error")),
                "stability": row.get("stability"),
                **{str(j): round(float(cosines[i, j - 1]), 2) for j in range(1, len(names) + 1)},
            }
        )
    return pd.DataFrame(rows, index=pd.Index(range(1, len(names) + 1), name="cosines"))


def _notes(widget: DirectionViewer, found: dict[str, Any], row: dict[str, Any]) -> Iterator[str]:
    yield (
        f"Held-out area under the curve {_interval(row['auc'], row['auc_error'])}, average precision "
        f"{_number(row['average_precision'])}; cosine of refits on bootstrap samples {_number(row['stability'])}, "
        f"of pattern and filter {_number(row['agreement'])}."
    )
    for name, value in row.get("planted", {}).items():
        yield f"Cosine with the planted direction of {name}: {value:.3f}."
    for failed in found["rows"]:
        if "error" in failed:
            yield f"{METHODS[failed['method']][1]}: {failed['error']}"
    tested = widget.tested
    if tested.get("direction") == row["direction"]:
        ranked = sorted(tested["rows"], key=lambda one: -(one["slope"] or 0))
        for one in ranked[:_CLASSES]:
            if one["score"] is None:
                yield f"{one['class']}: the output never changes along the direction."
                continue
            null = f"random directions {_number(one['null_low'])} to {_number(one['null_high'])}"
            yield (
                f"{one['class']}: rises in {_number(one['score'])} of the samples "
                f"[{_number(one['score_low'])}, {_number(one['score_high'])}], {null}; {_against(one, 'slope')}; "
                f"{_against(one, 'sensitivity')}."
            )
        yield from (f"Warning: {text}" for text in tested["warnings"])
    yield from (f"Warning: {text}" for text in row["warnings"])


def _against(one: dict[str, Any], name: str) -> str:
    """A slope or a size beside those of random directions."""
    told, low, p = f"{name} {one[name] or 0:.3g}", one[f"null_{name}_low"], one[f"p_{name}_holm"]
    if low is None:
        return told
    chance = "" if p is None else f", p = {p:.2g}"
    return f"{told} (random {low:.3g} to {one[f'null_{name}_high']:.3g}{chance})"


def _method(row: dict[str, Any]) -> str:
    return METHODS[row["method"]][1] if row["method"] in METHODS else str(row["method"])


def _interval(value: float | None, error: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:.3f}" if error is None else f"{value:.3f} ± {error:.3f}"


def _number(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
