"""The still of a component's card: crops with captions, what was written about it, classes, relations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from workbench.core.ids import ComponentId
from workbench.widgets import wire
from workbench.widgets.stills import Picture, Still

if TYPE_CHECKING:
    from workbench.widgets.card import ComponentCard

__all__ = ["still_of"]

_VIEWS = {"crop": "cropped around the peak", "whole": "whole", "mask": "masked to where it answers"}
_EACH = 8  # of each component where several are compared
_WHERE = {"near": "Near in meaning", "before": "Before", "after": "After"}


def still_of(card: ComponentCard) -> Still:
    """What the card shows now."""
    have, shown = card.references, card.shown
    if shown is None:
        return Still("Component", missing="No component is selected: set `widget.component`.")
    if not have or have["component"] != shown:
        return Still(shown, missing="Its references are being fetched: `widget.wait()` waits for them.")
    cards = card._all_references()
    most = None if len(cards) == 1 else _EACH
    pictures = [picture for one in cards for picture in _pictures(one, most, len(cards) > 1)]
    title = " and ".join(card.named(one["component"]) for one in cards)
    asked = f"The {len(have['samples'])} strongest by {have['by']}, {_VIEWS[have['mode']]}"
    if have["quantile"] < 1:
        asked = (
            f"{len(have['samples'])} around the {have['quantile']:.0%} quantile by {have['by']}, {_VIEWS[have['mode']]}"
        )
    alike = card.contrast if card.contrast.get("component") == shown and len(cards) == 1 else {}
    rows = card.table()[["rank", have["by"], "caption"] if len(cards) == 1 else ["component", "rank", have["by"]]]
    return Still(title, asked, pictures, rows=rows, notes=list(_notes(card, have, shown, alike)))


def _pictures(have: dict[str, Any], most: int | None, is_named: bool) -> list[Picture]:
    found = []
    unit = ComponentId.parse(have["component"])
    columns = (wire.tiles(have["sheet"]), have["captions"], have["names"], have["values"].tolist())
    for rank, (tile, caption, name, value) in enumerate(zip(*columns, strict=True), have["first"]):
        first = f"{unit.basis} {unit.index}" if is_named else name
        alt = f"Reference {rank} of {have['component']}: {caption}"
        found.append(Picture(tile, alt, (first, f"{value:.3g}")))
    return found[:most]


def _notes(card: ComponentCard, have: dict[str, Any], shown: str, alike: dict[str, Any]) -> Any:
    if note := card.notes.get(shown):
        yield f"Note: {note}"
    yield f"From {have['n_samples']} views of {have['n_originals']} originals."
    if have["quantile"] < 1:
        kept = "kept references" if have.get("is_kept") else "originals"
        yield f"Ranks {have['first']} to {have['first'] + len(have['samples']) - 1} of {have['of']} {kept}."
    if have["coverage"] < 1:
        yield f"The sweep has covered {have['coverage']:.0%} of the data so far."
    if (spread := card.spread).get("component") == shown and spread["n"]:
        quantiles = ", ".join(f"{float(q):.0%} below {v:.3g}" for q, v in spread["quantiles"].items() if v is not None)
        yield f"{spread['quantity'].capitalize()}: {spread['n_zero'] / spread['n']:.0%} zero; {quantiles}."
    classes = card.classes
    if classes.get("component") == shown and classes["classes"]:
        listed = ", ".join(
            f"{c['name']} {c['mean']:.3g} ({c['n']})" for c in classes["classes"] if c["mean"] is not None
        )
        yield f"Largest mean {classes['by']} per class (samples): {listed}."
    if card.related.get("component") == shown:
        for group in card.related["groups"]:
            if group["components"]:
                pairs = zip(group["components"], group["correlation"], strict=True)
                listed = ", ".join(f"{_short(card, c)} {r:.2f}" for c, r in pairs)
                yield f"{_WHERE[group['where']]} by correlation of activations, {group['layer']}: {listed}."
    if alike.get("samples"):
        word = "hardly fires" if (alike["threshold"] or 0) > 0 else "does not fire"
        triples = zip(alike["samples"], alike["names"], alike["like"], strict=True)
        listed = ", ".join(f"{sample} ({name}, like {like})" for sample, name, like in triples)
        yield (
            f"Look alike by cosine in {alike['layer']}, but it {word} (activation at most {alike['threshold']:.3g}): "
            f"samples {listed}."
        )


def _short(card: ComponentCard, component: str) -> str:
    address = ComponentId.parse(component)
    label = card.labels.get(component)
    return f"{address.basis} {address.index}" + (f" ({label})" if label else "")
