"""What comparing two models stands on, without a model: which variants are open, and what differs in their outputs."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.comparisons import Differences, decided

if TYPE_CHECKING:
    from workbench.core.results import Edit

__all__ = ["OpenVariants", "chances", "compared", "in_words"]

_WORDS = {
    "scale": "scale", "set": "set", "add": "add along a direction at", "project": "project a direction out of",
    "shift": "shift along directions at", "mask": "mask", "quantise": "quantise", "replace": "replace",
}  # fmt: skip
_EFFECTS = {"scale": " by {:g}", "set": " to {:g}", "add": " by {:g}"}


class OpenVariants:
    """The variants of a session that are open, by name, oldest first. It keeps none of them alive.

    A newer one of the same name takes the place of an older one, as when a cell runs again.
    """

    def __init__(self) -> None:
        self._refs: dict[str, weakref.ref[Any]] = {}
        self._listeners: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def add(self, name: str, session: Any) -> None:
        """Take one up."""
        with self._lock:
            self._refs.pop(name, None)
            self._refs[name] = weakref.ref(session)
        self._tell()

    def drop(self, session: Any) -> None:
        """Forget one that was closed."""
        with self._lock:
            gone = [name for name, ref in self._refs.items() if ref() is session]
            for name in gone:
                del self._refs[name]
        if gone:
            self._tell()

    def now(self) -> dict[str, Any]:
        """Those that are open."""
        with self._lock:
            found = {name: ref() for name, ref in self._refs.items()}
        return {name: one for name, one in found.items() if one is not None and not one.is_closed}

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener()` when one is opened or closed; returns a function that ends it."""
        with self._lock:
            self._listeners.append(listener)

        def undo() -> None:
            with self._lock:
                if listener in self._listeners:
                    self._listeners.remove(listener)

        return undo

    def _tell(self) -> None:
        with self._lock:
            listeners = list(self._listeners)
        for listener in listeners:
            listener()


def in_words(edits: Sequence[Edit]) -> tuple[str, ...]:
    """Edits as people read them, one text each."""
    found = []
    for edit in edits:
        n = len(edit.components)
        shown = ", ".join(map(str, edit.components[:3])) + (f" and {n - 3} more" if n > 3 else "")
        what = f"unit{'s' * (n != 1)} {shown} of {edit.where}" if n else edit.where
        text = f"{_WORDS.get(edit.operation, edit.operation)} {what}"
        text += _EFFECTS.get(edit.operation, "").format(edit.value)
        if edit.operation != "shift" and edit.options:
            text += _scope_words(edit.options)
        if edit.operation == "shift":
            n_directions = len(np.atleast_2d(np.asarray(edit.array))) if edit.array is not None else 0
            text = f"shift along {n_directions} direction{'s' * (n_directions != 1)} at {edit.where}"
            text += ", where the artifact is found" if "detector" in edit.arrays else ""
            text += ", under some predictions" if any(edit.options.get("classes") or ()) else ""
        found.append(text)
    return tuple(found)


def _scope_words(options: Mapping[str, Any]) -> str:
    if (region := options.get("region")) is not None:
        x, y, width, height = region
        return f" in the region x {x:.3g} to {x + width:.3g}, y {y:.3g} to {y + height:.3g}"
    return {"class": " at the class token", "patches": " at the patches"}.get(options.get("tokens", ""), "")


def chances(outputs: np.ndarray) -> np.ndarray:
    """(sample, class_) float64 probabilities: a softmax over all outputs, a sigmoid where there is a single one."""
    outputs = np.asarray(outputs, np.float64)
    if outputs.shape[1] == 1:
        return np.exp(-np.logaddexp(0.0, -outputs))
    power = np.exp(outputs - outputs.max(1, keepdims=True))
    return power / power.sum(1, keepdims=True)


def compared(
    models: tuple[str, str],
    samples: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    *,
    labels: np.ndarray,
    origins: np.ndarray,
    classes: Sequence[str],
    has_decision: bool = True,
    n_planned: int = 0,
    recipe: str = "",
) -> Differences:
    """What differs in the outputs of two models.

    Parameters
    ----------
    before, after : (sample, class_) float arrays
    labels, origins : (sample,) int arrays
    has_decision : bool
        False where outputs have positions, or the single one is a quantity.
    """
    n, rows = len(samples), np.arange(len(samples))
    before, after = np.asarray(before, np.float32), np.asarray(after, np.float32)
    change = after - before
    output = np.abs(change).argmax(1)
    nowhere, nothing = np.full(n, -1, np.int64), np.full(n, np.nan, np.float32)
    found: dict[str, np.ndarray] = {
        "decision_before": nowhere, "decision_after": nowhere, "probability_before": nothing,
        "probability_after": nothing, "margin_before": nothing, "margin_after": nothing, "shift": nothing,
    }  # fmt: skip
    if has_decision:
        chance = [chances(one) for one in (before, after)]
        said = [decided(one) for one in (before, after)]
        found["decision_before"], found["decision_after"] = said
        moved = np.abs(chance[1] - chance[0]).sum(1)
        found["shift"] = (moved / (2 if before.shape[1] > 1 else 1)).astype(np.float32)
        for name, one, decision in zip(("before", "after"), chance, said, strict=True):
            if before.shape[1] > 1:
                own = one[rows, decision]
            else:
                own = np.where(decision > 0, one[:, 0], 1 - one[:, 0])
            found[f"probability_{name}"] = own.astype(np.float32)
        if before.shape[1] > 1:
            right = np.where((labels >= 0) & (labels < before.shape[1]), labels, said[0])
            for name, scores in (("before", before), ("after", after)):
                others = scores.copy()
                others[rows, right] = -np.inf
                found[f"margin_{name}"] = scores[rows, right] - others.max(1)
    return Differences(
        models=models,
        samples=np.asarray(samples, np.int64),
        origins=np.asarray(origins, np.int64),
        labels=np.asarray(labels, np.int64) if has_decision else nowhere,
        change=change[rows, output],
        output=output.astype(np.int64),
        outputs=change.mean(0) if n else np.zeros(before.shape[1], np.float32),
        classes=tuple(classes),
        n_planned=n_planned or n,
        recipe=recipe,
        **found,
    )
