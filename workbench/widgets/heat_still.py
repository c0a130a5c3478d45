"""The still of a HeatmapViewer: its panes as they are on the screen, with sign, threshold, lines, masks and region."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.widgets import wire
from workbench.widgets.stills import AGAINST, FOR, Legend, Picture, Still, heat_legend, painted

if TYPE_CHECKING:
    from workbench.widgets.heatmap import HeatmapViewer

__all__ = ["level_lines", "shown_values", "still_of"]

_SIDE = 240
_LEVELS = (0.2, 0.4, 0.6, 0.8)
_SMOOTHING = 0.02  # of the map's longer side, as on the page
_RIM, _INK = (255, 255, 255), (17, 17, 17)
_SIGNS = {"positive": "Only relevance for the output is drawn.", "negative": "Only relevance against it is drawn."}


def still_of(viewer: HeatmapViewer) -> Still:
    """What the viewer shows now; touches no model."""
    sample, target = viewer._wanted()
    picture, heat = viewer.picture, viewer.heat
    if viewer.lacks:
        return Still("Heatmap", missing=viewer.lacks)
    if sample is None:
        return Still("Heatmap", missing="No sample is selected: set `widget.sample`.")
    if picture.get("sample") != sample or not _is_of(heat, viewer):
        return Still(f"Sample {sample}", missing="Its map is being computed: `widget.wait()` waits for it.")
    name = heat["name"] or heat["target_text"]
    rows = viewer.table() if viewer.strip.get("sample") == sample else None
    against = "dashed" if viewer.contour else "hatched"
    asked = f"Which pixels speak for {name} (orange) and against it (blue, {against})"
    if viewer.contour:
        shares = ", ".join(f"{level:.0%}" for level in _LEVELS if level >= viewer.threshold)
        words = [f"for, at {shares} of the largest" if shares else "for", "against, dashed"]
        legend = Legend("Lines of equal relevance, smoothed", [FOR, AGAINST], words, is_ramp=False)
    else:
        legend = heat_legend("relevance", heat["bulk"], sign=viewer.sign, opacity=viewer.opacity)
    return Still(f"Sample {sample}", asked, list(_pictures(viewer, name)), legend, rows, list(_notes(viewer)))


def _pictures(viewer: HeatmapViewer, name: str) -> Iterator[Picture]:
    picture, heat, part = viewer.picture, viewer.heat, viewer.conditional
    seen = _sized(wire.picture(picture["jpeg"]), _SIDE)
    around = _Around(viewer, seen.shape[:2])
    yield Picture(
        around.on(seen),
        f"Sample {viewer.sample} as the model saw it",
        ("Input", picture["label"] or picture["key"]),
    )

    def pane(given: dict[str, Any], alt: str, caption: tuple[str, ...], limit: float | None = None) -> Picture:
        drawn = _drawn(viewer, seen, given, limit or given["bulk"] or 1.0)
        return Picture(around.on(drawn), f"{alt}, as a heatmap", caption)

    yield pane(heat, f"All relevance for {name}", ("All relevance", name))
    if viewer.component and _is_of(part, viewer) and part.get("component") == viewer.component:
        limit = heat["bulk"] if viewer.scale == "shared" else part["bulk"]
        through = f"Through {viewer.named(viewer.component)}"
        yield pane(part, through, (through, f"scale ±{limit:.3g}"), limit)
    for one in _targeted(viewer):
        limit = heat["bulk"] if viewer.scale == "shared" else one["bulk"]
        yield pane(one, f"All relevance for {one['name']}", (f"For {one['name']}", f"scale ±{limit:.3g}"), limit)
    for one in _others(viewer):
        gap = "" if one["gap"] is None else f", gap {abs(one['gap']):.1%}"
        yield pane(one, f"By {one['rule']}", (one["rule"].replace("_", " "), f"scale ±{one['bulk']:.3g}{gap}"))
    if viewer.show_random and _is_of(viewer.random, viewer):
        rho = viewer.random["correlation"]
        said = "one of the maps is constant" if rho is None else f"rank correlation {rho:.2f}"
        yield pane(viewer.random, "With random weights", ("Random weights", said))


def _others(viewer: HeatmapViewer) -> list[dict[str, Any]]:
    """Maps of further methods that are there, in the order in which they were chosen."""
    if not _is_of(viewer.compared, viewer):
        return []
    there = {one["rule"]: one for one in viewer.compared["maps"]}
    return [there[name] for name in viewer.methods if name in there]


def _targeted(viewer: HeatmapViewer) -> list[dict[str, Any]]:
    """Maps for further outputs that are there, in the order in which they were chosen."""
    if viewer.targeted.get("sample") != viewer.sample:
        return []
    there = {one["target"]: one for one in viewer.targeted["maps"]}
    return [there[name] for name in viewer.targets if name in there]


def _notes(viewer: HeatmapViewer) -> Iterator[str]:
    heat = viewer.heat
    gap = f", gap {heat['gap']:.1%}" if heat["gap"] is not None else ""
    yield f"Score {heat['score']:.4g}, relevance summed {heat['total']:.4g}{gap}. Rule {heat['rule']}."
    if viewer.sign in _SIGNS:
        yield _SIGNS[viewer.sign]
    if viewer.threshold > 0 and not viewer.contour:
        yield f"What is below {viewer.threshold:.0%} of the scale is clear."
    if viewer.show_masks:
        for one in heat["in_masks"]:
            if one["share"] is not None:
                yield f"{one['share']:.1%} of the positive relevance lies in the outlined {one['name']}."
    if viewer.region:
        x, y, width, height = (viewer.region[key] for key in ("x", "y", "width", "height"))
        yield f"Framed: the region from {x:.0%} to {x + width:.0%} across and {y:.0%} to {y + height:.0%} down."
    late = [name for name in viewer.methods if name not in {one["rule"] for one in _others(viewer)}]
    late += [f"target {name}" for name in viewer.targets if name not in {one["target"] for one in _targeted(viewer)}]
    late += ["random weights"] if viewer.show_random and not _is_of(viewer.random, viewer) else []
    if late:
        yield f"Not there yet: {', '.join(late)}."


def _is_of(given: dict[str, Any], viewer: HeatmapViewer) -> bool:
    return (given.get("sample"), given.get("target")) == viewer._wanted()


# Drawing --------------------------------------------------------------------------------------------------------------


def shown_values(heat: np.ndarray, limit: float, *, sign: str = "both", threshold: float = 0.0) -> np.ndarray:
    """The part of a map that is drawn: of the chosen sign, and not below a share of the scale; else 0.

    Parameters
    ----------
    heat : (y, x)
        NaN is drawn as zero.
    limit : float
        Absolute value that gets the full colour.
    sign : {"both", "positive", "negative"}
    threshold : float, 0 to 1
    """
    shown = np.nan_to_num(np.asarray(heat, dtype=np.float32))
    if sign != "both":
        shown = np.where((shown > 0) == (sign == "positive"), shown, np.float32(0))
    return np.where(np.abs(shown) < threshold * limit, np.float32(0), shown)


def level_lines(
    heat: np.ndarray, size: tuple[int, int], *, sign: str = "both", threshold: float = 0.0
) -> dict[int, np.ndarray]:
    """Where lines of equal relevance run: at 20, 40, 60 and 80 % of the smoothed map's largest absolute value.

    Parameters
    ----------
    heat : (y, x)
    size : (height, width)
        Of the picture that they are drawn on.
    sign, threshold
        As in `shown_values`; the threshold leaves out the lines below.

    Returns
    -------
    dict
        For 1 (relevance for) and -1 (against): (height, width) bool.
    """
    from PIL import Image

    smooth = _blurred(np.nan_to_num(np.asarray(heat, dtype=np.float32)), max(1.0, _SMOOTHING * max(heat.shape)))
    most = float(np.abs(smooth).max()) or 1.0
    smooth = np.asarray(Image.fromarray(smooth).resize(size[::-1], Image.Resampling.BILINEAR))
    lines = {}
    for way, word in ((1, "positive"), (-1, "negative")):
        found = np.zeros(size, bool)
        for level in _LEVELS if sign in ("both", word) else ():
            if level >= threshold:
                found |= _edge(way * smooth >= level * most)
        lines[way] = found
    return lines


def _drawn(viewer: HeatmapViewer, seen: np.ndarray, given: dict[str, Any], limit: float) -> np.ndarray:
    heat = wire.signed_values(given["map"], given["limit"])
    if not viewer.contour:
        shown = shown_values(heat, limit, sign=viewer.sign, threshold=viewer.threshold)
        return painted(seen, shown, limit, opacity=viewer.opacity)
    ground = painted(seen, np.zeros(heat.shape, np.float32), 1.0)
    across = np.add.outer(np.arange(seen.shape[0]), np.arange(seen.shape[1]))
    for way, line in level_lines(heat, seen.shape[:2], sign=viewer.sign, threshold=viewer.threshold).items():
        dashed = line if way > 0 else line & (across % 8 < 5)  # not by colour alone
        ground[dashed] = FOR if way > 0 else AGAINST
    return ground


class _Around:
    """Outlines of masks and the frame of the region, with a light rim so that they are seen on any ground."""

    def __init__(self, viewer: HeatmapViewer, size: tuple[int, int]):
        from PIL import Image

        lines = np.zeros(size, bool)
        for one in viewer.picture["masks"] if viewer.show_masks else ():
            mask = Image.fromarray(255 * np.asarray(one["mask"], dtype=np.uint8)).resize(size[::-1])
            lines |= _edge(np.asarray(mask) > 127)
        if region := viewer.region:
            height, width = size
            left, top = int(region["x"] * width), int(region["y"] * height)
            right, below = (region["x"] + region["width"]) * width, (region["y"] + region["height"]) * height
            inside = np.zeros(size, bool)
            inside[top : max(top + 3, round(below)), left : max(left + 3, round(right))] = True
            lines |= _edge(inside)
        self.lines, self.rim = lines, _grown(lines) & ~lines

    def on(self, pixels: np.ndarray) -> np.ndarray:
        """The picture with both drawn on it."""
        found = np.array(pixels)
        found[self.rim], found[self.lines] = _RIM, _INK
        return found


def _edge(inside: np.ndarray) -> np.ndarray:
    """Points inside that have a neighbour outside; the border of the picture counts as outside."""
    padded = np.pad(inside, 1)
    held = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    return inside & ~held


def _grown(points: np.ndarray) -> np.ndarray:
    padded = np.pad(points, 1)
    return padded[:-2, 1:-1] | padded[2:, 1:-1] | padded[1:-1, :-2] | padded[1:-1, 2:]


def _blurred(values: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur along both sides; what is beyond the border is as at it."""
    reach = int(np.ceil(3 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        padded = np.pad(values, [(reach, reach) if i == axis else (0, 0) for i in (0, 1)], mode="edge")
        parts = [w * np.take(padded, range(i, i + values.shape[axis]), axis=axis) for i, w in enumerate(kernel)]
        values = np.sum(parts, axis=0)
    return values.astype(np.float32)


def _sized(pixels: np.ndarray, side: int) -> np.ndarray:
    """The picture with its longer side at `side`."""
    from PIL import Image

    image = Image.fromarray(pixels)
    scale = side / max(image.size)
    return np.asarray(image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale)))))
