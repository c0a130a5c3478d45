"""The still of a comparison: both maps and their difference, the samples that changed most, and what it bought."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.widgets import wire
from workbench.widgets.bars import bars
from workbench.widgets.stills import Picture, Still, heat_legend, painted

__all__ = ["still_of"]

_SIDE = 190


def still_of(view: Any) -> Still:
    """What a still of the comparison shows."""
    report = view.report
    if view.session is None or not view.variant:
        title = view.title or "Comparison"
        if not report:
            return Still(
                title, missing="There is no variant to compare with: s.variant(name, edits) makes one, or keep an edit."
            )
        return Still(
            view.title or f"Models with and without {report['artifact']}", report["population"], _bars(report),
            rows=view.table("reevaluation"), notes=[report["summary"], *report["warnings"]],
        )  # fmt: skip
    title = view.title or f"{view.variant} against {view.base}"
    facts: dict[str, Any] = next((one for one in view.variants if one["name"] == view.variant), {})
    asked = "; ".join(facts.get("changes", ())) or "another model"
    pictures, legend = _maps(view)
    notes = [*facts.get("warnings", ())]
    outputs, found = view.outputs, view.differences
    has_outputs = view.fits(outputs, view.wanted("outputs"))
    has_found = view.fits(found, view.wanted("differences"))
    if has_outputs:
        notes.append(f"Sample {outputs['sample']}: {outputs['summary']}")
    if has_found:
        notes.append(f"Samples: {found['summary']}")
    if report:
        pictures = [*pictures, *_bars(report)]
        notes += [f"Re-evaluation: {report['summary']}", *report["warnings"]]
    missing = "" if has_outputs or has_found or report else "It is being computed: `widget.wait()` waits for it."
    rows = view.table("samples") if has_found else view.table("outputs") if has_outputs else None
    return Still(title, asked, pictures, legend, rows, notes, missing)


def _maps(view: Any) -> tuple[list[Picture], Any]:
    maps, picture = view.maps, view.picture
    if not view.fits(maps, view.wanted("maps")) or picture.get("sample") != view.sample:
        return [], None
    seen, limit = _sized(wire.picture(picture["jpeg"])), maps["scale"] or 1.0
    pictures = []
    for key, name in (("before", view.base), ("after", view.variant)):
        heat = wire.signed_values(maps[key]["map"], maps[key]["limit"])
        score = maps[f"score_{key}"]
        alt = f"Relevance for {maps['name'] or maps['target']} under {name}, as a heatmap"
        pictures.append(Picture(painted(seen, heat, limit), alt, (name, "" if score is None else f"score {score:.4g}")))
    own = maps["difference"]
    heat = wire.signed_values(own["map"], own["limit"])
    caption = ("difference", f"full colour at {own['bulk'] or own['limit']:.3g}")
    pictures.append(
        Picture(painted(seen, heat, own["bulk"] or own["limit"] or 1.0), "Difference of both maps", caption)
    )
    return pictures, heat_legend("relevance, both models on one scale", limit)


def _bars(report: dict[str, Any]) -> list[Picture]:
    """The shares among the measures, a bar for each model."""
    rows = [
        (f"{one['name']}, {model}", max(0.0, value[0]), f"{value[0]:.1%}")
        for one in report["measures"]
        if one["unit"] == "share"
        for model, value in zip(report["models"], one["rows"], strict=True)
        if value[0] is not None
    ]
    return [bars(rows[:16], "Measures of each model.")] if rows else []


def _sized(pixels: np.ndarray) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(pixels)
    scale = _SIDE / max(image.size)
    return np.asarray(image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale)))))
