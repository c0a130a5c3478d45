"""The evidence of a finding, asked of the session and made ready for the page; run on the panel's lane."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.core.findings import Finding
from workbench.core.ids import ComponentId
from workbench.widgets import wire

__all__ = ["LARGE", "SIZE", "evidence_of"]

SIZE, LARGE = 96, 224
"""Sides of the pictures that go with evidence, and of the subject's own."""

_MEMBERS = 4000


def evidence_of(session: Any, one: Finding) -> dict[str, Any]:
    """What the page shows of a finding: the subject, and what speaks for and against it, with pictures on one sheet.

    Nothing in it asks the model: thumbnails, and the stored peaks of components.
    """
    sides: list[dict[str, Any]] = []
    samples: list[int] = []
    tiles: list[np.ndarray | None] = []
    components: list[tuple[int, str]] = []
    for is_for, side in ((True, one.evidence), (False, one.counter)):
        for each in side:
            at = len(tiles)
            tiles += [None] * (len(each.samples) + len(each.components))
            components += [(at + len(each.samples) + k, c) for k, c in enumerate(each.components)]
            samples += each.samples
            sides.append(
                {
                    "is_for": is_for,
                    "text": each.text,
                    "samples": list(each.samples),
                    "components": list(each.components),
                    "values": [wire.finite(v) for v in each.values],
                    "at": at,
                }
            )
    pictures = iter(session.thumbnails(samples, SIZE) if samples else ())
    crops = dict(components)
    for place in range(len(tiles)):
        tiles[place] = _peak(session, crops[place], SIZE) if place in crops else next(pictures)
    words, large = _subject(session, one)
    names = _names(session, samples)
    return {
        "id": one.id,
        "words": words,
        "names": {str(i): name for i, name in names.items()},
        "members": list(one.members[:_MEMBERS]),
        "sides": sides,
        "large": wire.sheet([large]),
        "sheet": wire.sheet([tile for tile in tiles if tile is not None]),
    }


def _subject(session: Any, one: Finding) -> tuple[str, np.ndarray]:
    """The subject in words, and a picture of it."""
    if not one.is_of_sample:
        label = session.notes.of(one.subject).label
        return (f"called {label}" if label else "without a label"), _peak(session, str(one.subject), LARGE)
    row = session.samples([one.subject]).iloc[0]
    parts = [
        f"label {row['label']}" if row["label"] else "no label",
        f"taken for {row['prediction']}" if row["prediction"] else "",
        f"tags {', '.join(row['tags'])}" if row["tags"] else "",
    ]
    return ", ".join(part for part in parts if part), session.thumbnails([one.subject], LARGE)[0]


def _names(session: Any, samples: list[int]) -> dict[int, str]:
    """Label of each sample that goes with the evidence."""
    wanted = sorted(set(samples))
    return dict(zip(wanted, session.samples(wanted)["label"].tolist(), strict=True)) if wanted else {}


def _peak(session: Any, component: str, size: int) -> np.ndarray:
    """A component's best reference, cut around its peak; of a direction the whole picture."""
    address = ComponentId.parse(component)
    if address.basis == "unit":
        return session.peak_crops(address.layer, [address.index], size=size)[0]
    best = session.references(address.layer, basis=address.basis).of(address, 1)
    return session.thumbnails(best, size)[0] if best else np.full((size, size, 3), 128, np.uint8)
