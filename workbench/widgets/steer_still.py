"""The still of the steering panel: settings, outputs before and after, two maps, and what the population says."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.core.effects import Intervention
from workbench.widgets import wire
from workbench.widgets.steer_answers import made_of
from workbench.widgets.stills import Picture, Still, heat_legend, painted

__all__ = ["NO_EVIDENCE", "still_of"]

NO_EVIDENCE = "One image is not evidence: no population was run."
_SIDE = 200


def still_of(panel: Any) -> Still:
    """What a still of the panel shows."""
    sample, target, acts = panel._wanted()
    if sample is None:
        return Still("Steering", missing="No sample is selected: set `widget.sample`.")
    outputs, maps, picture = panel.outputs, panel.maps, panel.picture
    now = {"sample": sample, "target": target, "acts": acts}
    title = f"Steering sample {sample}"
    if not outputs or any(outputs.get(key) != value for key, value in now.items()):
        return Still(title, missing="Its outputs are being computed: `widget.wait()` waits for them.")
    pictures, legend = [], None
    if picture.get("sample") == sample and all(maps.get(key) == value for key, value in now.items()):
        seen = _sized(wire.picture(picture["jpeg"]))
        limit = maps["before"]["bulk"] or 1.0
        for key, words in (("before", "before"), ("after", "after the interventions")):
            heat = wire.signed_values(maps[key]["map"], maps[key]["limit"])
            score = maps[f"score_{key}"]
            alt = f"Relevance for {maps['name'] or target} {words}, as a heatmap"
            pictures.append(Picture(painted(seen, heat, limit), alt, (words.capitalize(), f"score {score:.4g}")))
        legend = heat_legend("relevance, both on one scale", limit)
    return Still(
        title, _asked(panel), pictures, legend, panel.table().set_index("name"), [*_settings(panel), *_notes(panel)]
    )


def _asked(panel: Any) -> str:
    words = [_named(panel, one) for one in panel.active]
    rest = f" and {len(words) - 3} more" if len(words) > 3 else ""
    return f"{'; '.join(words[:3])}{rest}" if words else "No intervention is on"


def _settings(panel: Any) -> list[str]:
    made = [(made_of(one), one["on"]) for one in panel.interventions]
    return [
        f"{number}. {_named(panel, one)}{'' if is_on else ', switched off'}"
        for number, (one, is_on) in enumerate(made, 1)
    ]


def _named(panel: Any, one: Intervention) -> str:
    """What is done, with the label of the first component."""
    return str(one).replace(one.addresses[0], panel.named(one.addresses[0]), 1)


def _notes(panel: Any) -> list[str]:
    notes = []
    if panel.expected.strip():
        when = "beforehand" if panel.expected_when == "before" else "after the result was seen"
        notes.append(f"Expected, written {when}: {panel.expected.strip()}")
    effect = panel.effect
    if not effect or any(effect.get(key) != value for key, value in panel._wanted_effect().items()):
        return [*notes, NO_EVIDENCE]
    notes.append(f"Population: {effect['summary']}")
    if effect["accuracy"]:
        rows = [
            f"{one['name']} {one['before']:.1%} to {one['after']:.1%} of {one['n']}{_range(one)}"
            for one in effect["accuracy"]
        ]
        notes.append(f"Accuracy: {'; '.join(rows[-1:] + rows[:-1][:6])}.")
    if effect["moved"] and effect["moved"]["components"]:
        moved = zip(effect["moved"]["components"][:4], effect["moved"]["change"][:4], strict=True)
        told = ", ".join(f"{panel.named(name)} {change:+.2g}" for name, change in moved)
        notes.append(f"Moved untouched, in units of their spread: {told}.")
    if effect["worse"]["samples"]:
        lost = effect["worse"]["n_lost"]
        notes.append(f"Worst: samples {', '.join(map(str, effect['worse']['samples'][:6]))}; {lost} no longer right.")
    return notes


def _range(row: dict[str, Any]) -> str:
    """Between which numbers of points the change of the accuracy lies."""
    low, high = row["interval"]
    return "" if low is None or high is None else f" (change {100 * low:+.1f} to {100 * high:+.1f} points)"


def _sized(pixels: np.ndarray) -> np.ndarray:
    from PIL import Image

    image = Image.fromarray(pixels)
    scale = _SIDE / max(image.size)
    return np.asarray(image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale)))))
