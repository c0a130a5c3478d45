"""Mean relevance of a layer's components for one output, or the difference of two: an overlay of the atlas."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.core.errors import IncompleteError
from workbench.widgets.colours import ramp
from workbench.widgets.columns import described
from workbench.widgets.stills import Legend

__all__ = ["TargetRelevance", "two_sided_legend"]

_MOST = 1000


class TargetRelevance:
    """Class means of relevance, asked of the session when they are first needed, or of a fitted atlas without one.

    Parameters
    ----------
    session : Session or None
    source : object
        What the widget was made with; an atlas method brings `class_relevance_`.
    """

    def __init__(self, session: Any, source: Any):
        self._session = session if hasattr(session, "class_statistics") else None
        self._own = getattr(source, "class_relevance_", None)
        names = session.class_names() if hasattr(session, "class_names") else getattr(source, "_class_names", ())
        self.names: tuple[str, ...] = tuple(map(str, names or ()))
        self._found: dict[str, tuple[np.ndarray, np.ndarray | None]] = {}

    @property
    def is_known(self) -> bool:
        """Whether the means have been asked for."""
        return bool(self._found)

    def options(self) -> list[dict[str, Any]]:
        """Outputs to choose from; with the number of samples that were explained for each, once that is known."""
        if self._session is None and (self._own is None or not len(self._own)):
            return []
        means, counts = next(iter(self._found.values()), (None, None))
        n = max(len(self.names), 0 if means is None else len(means))
        return [
            {"value": f"logit:{i}", "text": self._name(i), "n": None if counts is None else int(counts[i])}
            for i in range(min(n, _MOST))
        ]

    def values(self, layer: str, n: int, target: str, other: str = "") -> dict[str, Any]:
        """The overlay: what the page draws, with its title, scale and what it was averaged over.

        Parameters
        ----------
        n : int
            Components of the layer.
        target, other : str
            ``logit:3``, or empty (and ``top`` too) for all samples whatever was explained on them.
        """
        record: dict[str, Any] = {"target": target, "compare_target": other, "title": "", "note": "", "why": ""}
        try:
            means, counts = self._means(layer)
        except IncompleteError as error:
            nothing = np.full(n, np.nan, np.float32)
            return {**record, "values": nothing, "column": _column(nothing, "relevance", False), "why": error.hint}
        mean, name, note, why = self._one(means, counts, target)
        title, short = (f"relevance for {name}" if name else "relevance"), name or "all"
        if other:
            less, other_name, other_note, other_why = self._one(means, counts, other)
            mean, why = mean - less, why or other_why
            title = f"relevance for {short} − {other_name or 'all'}"
            note = f"{note}, minus that {other_note.removeprefix('mean ')}"
        return {
            **record,
            "title": title,
            "note": f"{note[:1].upper()}{note[1:]}.",
            "why": why,
            "values": mean,
            "column": _column(mean, title, bool(other)),
        }

    def _means(self, layer: str) -> tuple[np.ndarray, np.ndarray | None]:
        if layer not in self._found:
            if self._session is not None:
                mean, count = self._session.class_statistics(layer, "relevance")
                self._found[layer] = np.asarray(mean, dtype=np.float32), np.asarray(count)
            else:
                self._found[layer] = np.asarray(self._own, dtype=np.float32), None
        return self._found[layer]

    def _one(self, means: np.ndarray, counts: np.ndarray | None, target: str) -> tuple[np.ndarray, str, str, str]:
        """Mean, name of the output, what it was averaged over, and why there is none."""
        nothing = np.full(means.shape[1], np.nan, np.float32)
        if target in ("", "top"):
            seen = np.flatnonzero(~np.isnan(means).all(1))
            if not len(seen):
                return nothing, "", "mean over no sample", "No sample was explained."
            weights = np.ones(len(seen)) if counts is None else counts[seen].astype(np.float64)
            mean = np.average(means[seen].astype(np.float64), axis=0, weights=weights).astype(np.float32)
            over = f"the {len(seen)} classes" if counts is None else f"all {int(counts.sum())} explained samples"
            return mean, "", f"mean over {over}", ""
        kind, _, number = target.partition(":")
        if kind != "logit" or not number.isdecimal():
            return nothing, target, "mean", f'Relevances were kept for single outputs: there are none for "{target}".'
        index = int(number)
        name = self._name(index)
        if index >= len(means):
            return nothing, name, "mean", f"There is no output {index}; there are {len(means)}."
        if np.isnan(means[index]).all():
            why = f"No sample was explained for {name}: add pictures of that class, or sweep with that target."
            return nothing, name, "mean over no sample", why
        over = "the samples" if counts is None else f"the {int(counts[index])} samples"
        return means[index], name, f"mean over {over} explained as {name}", ""

    def _name(self, index: int) -> str:
        return self.names[index] if index < len(self.names) else f"output {index}"


def _column(values: np.ndarray, title: str, is_difference: bool) -> dict[str, Any]:
    """Facts of the overlay as of any other column; a difference has zero in the middle, whatever its values are."""
    facts = {**described({"target": values})[0][0], "title": title}
    if is_difference:
        limit = _limit(values)
        facts |= {"is_signed": True, "bulk": [-limit, limit]}
    return facts


def two_sided_legend(title: str, values: np.ndarray) -> Legend:
    """The legend of a difference."""
    limit = _limit(values)
    return Legend(title, ramp("two-sided", 21), [f"{-limit:.3g}", "0", f"{limit:.3g}"])


def _limit(values: np.ndarray) -> float:
    known = np.abs(values[np.isfinite(values)].astype(np.float64))
    return float(np.quantile(known, 0.98)) or float(known.max()) or 1.0 if known.size else 1.0
