"""Columns to colour, sort and filter by, as scripts and stills need them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from workbench.widgets.colours import ramp
from workbench.widgets.stills import Legend

__all__ = ["described", "first_column", "legend_of", "reading", "scale_of"]


def described(
    columns: Mapping[str, Any], cluster_names: Sequence[str] = ()
) -> tuple[list[dict[str, Any]], dict[str, np.ndarray]]:
    """What there is to colour by, and the numbers; words become numbers with a list of names."""
    facts_of, values = [], {}
    for name, column in columns.items():
        array = np.asarray(column)
        facts: dict[str, Any] = {"name": str(name), "kind": "number"}
        if name == "cluster":
            facts |= {"kind": "category", "names": list(map(str, cluster_names))}
        elif array.dtype.kind not in "fiub":
            names, array = np.unique(array.astype(str), return_inverse=True)
            facts |= {"kind": "category", "names": names[:1000].tolist()}
        else:
            known = array[np.isfinite(array)] if array.dtype.kind == "f" else array
            low, high = (float(known.min()), float(known.max())) if known.size else (0.0, 0.0)
            facts |= {"low": low, "high": high, "is_signed": low < 0 < high, "is_whole": array.dtype.kind in "iub"}
            facts["bulk"] = _bulk(known, facts["is_signed"])
        facts_of.append(facts)
        values[str(name)] = array.astype(np.float32 if array.dtype.kind == "f" else np.int32)
    return facts_of, values


def first_column(columns: Sequence[Mapping[str, Any]]) -> str:
    """The column to begin with."""
    names = [c["name"] for c in columns]
    return next((n for n in ("relevance", "activation") if n in names), names[0] if names else "")


def reading(value: Any, column: str, cluster_names: Sequence[str] = ()) -> str:
    """A value as people read it."""
    if column == "cluster":
        return str(cluster_names[int(value)]) if 0 <= int(value) < len(cluster_names) else ""
    return f"{float(value):.3g}" if np.asarray(value).dtype.kind in "fiub" else str(value)


def scale_of(values: np.ndarray) -> tuple[float, float, bool]:
    """Where the colours of a column of numbers begin and end, and whether they are two-sided."""
    known = values[np.isfinite(values)]
    is_signed = bool(known.size and known.min() < 0 < known.max())
    low, high = _bulk(known, is_signed)
    return (low, high, is_signed) if high > low else (float(known.min(initial=0)), float(known.max(initial=0)), False)


def legend_of(column: str, values: np.ndarray, palette: str) -> Legend | None:
    """The ramp of a column of numbers, as the scripts have it; None for categories, which are named where they are."""
    if column == "cluster" or values.dtype.kind not in "fiu" or not np.isfinite(values).any():
        return None
    known = values[np.isfinite(values)]
    is_signed = bool(known.min() < 0 < known.max())
    low, high = _bulk(known, is_signed)
    labels = [f"{low:.3g}", "0", f"{high:.3g}"] if is_signed else [f"{low:.3g}", f"{high:.3g}"]
    return Legend(column.replace("_", " "), ramp("two-sided" if is_signed else palette, 21), labels)


def _bulk(known: np.ndarray, is_signed: bool) -> list[float]:
    """Where the colours end: a few large values must not paint all others alike."""
    if not known.size:
        return [0.0, 0.0]
    known = known.astype(np.float64)
    if is_signed:
        limit = float(np.quantile(np.abs(known), 0.98))
        return [-limit, limit]
    return [float(np.quantile(known, 0.02)), float(np.quantile(known, 0.98))]
