"""Directions as arrays and plain facts, and back: what the store keeps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from workbench.core.results import DIRECTION_NUMBERS, Direction, DirectionSet

__all__ = ["from_arrays", "to_arrays"]

_ARRAYS = ("vector", "samples", "is_positive", "class_", "score", "held_out", "reference")
_WORDS = ("concept", "estimator", "pooling", "scope")


def to_arrays(made: DirectionSet) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arrays and JSON-able facts; numbers are among the arrays, for they may be NaN."""
    arrays: dict[str, Any] = {}
    facts: list[dict[str, Any]] = []
    for one in made:
        arrays |= {f"{one.index}|{name}": getattr(one, name) for name in _ARRAYS}
        arrays[f"{one.index}|numbers"] = np.array([getattr(one, name) for name in DIRECTION_NUMBERS], np.float64)
        words = {name: getattr(one, name) for name in _WORDS}
        facts.append({**words, "settings": dict(one.settings), "warnings": list(one.warnings)})
    return arrays, {"layer": made.layer, "basis": made.basis, "directions": facts}


def from_arrays(arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> DirectionSet:
    """Read what `to_arrays` gave."""
    found = []
    for i, own in enumerate(facts["directions"]):
        numbers = np.asarray(arrays[f"{i}|numbers"]).tolist()
        known: dict[str, Any] = {name: np.asarray(arrays[f"{i}|{name}"]) for name in _ARRAYS}
        known |= dict(zip(DIRECTION_NUMBERS, numbers, strict=True)) | {name: own[name] for name in _WORDS}
        known |= {"settings": dict(own["settings"]), "warnings": tuple(own["warnings"])}
        found.append(Direction(layer=facts["layer"], basis=facts["basis"], index=i, **known))
    return DirectionSet(facts["layer"], facts["basis"], tuple(found))
