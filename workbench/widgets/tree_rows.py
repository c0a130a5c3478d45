"""Dotted names of layers as the rows of a tree."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["matches", "tree_rows"]


def tree_rows(layers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows of the tree, parents before their children, siblings in the order in which they run.

    Parameters
    ----------
    layers : mapping of str to layer
        By dotted names. Modules between them that are no layers become rows too.

    Returns
    -------
    list of dict
        ``name``, ``label`` (last part of the name), ``parent`` (a row, -1 for the model itself, which is the first row
        with the name ``""``), ``is_layer``, ``is_usable``, ``reason`` (why not), ``kind``, ``shape``, ``components``.
    """
    children: dict[str, list[str]] = {"": []}
    for name in layers:  # in the order in which they end, so that what runs first comes first
        parts = name.split(".")
        for i in range(1, len(parts) + 1):
            path, above = ".".join(parts[:i]), ".".join(parts[: i - 1])
            if path not in children:
                children[path] = []
                children[above].append(path)
    rows: list[dict[str, Any]] = []

    def add(path: str, parent: int) -> None:
        rows.append(_row(path, parent, layers[path] if path in layers else None))
        at = len(rows) - 1
        for child in children[path]:
            add(child, at)

    add("", -1)
    return rows


def matches(row: Mapping[str, Any], query: str) -> bool:
    """Whether name and kind of a row contain all words of a query."""
    text = f"{row['name']} {row['kind']}".lower()
    return all(word in text for word in query.lower().split())


def _row(path: str, parent: int, layer: Any) -> dict[str, Any]:
    made = {"name": path, "label": path.rpartition(".")[2], "parent": parent}
    if layer is None:
        facts = {"kind": "", "shape": "", "components": 0, "reason": ""}
        return {**made, **facts, "is_layer": False, "is_usable": False}
    shape = tuple(getattr(layer, "shape", ()))
    reason = "" if layer.n_calls == 1 else f"runs {layer.n_calls} times in one forward pass, so it is not one thing"
    facts = {
        "kind": str(getattr(layer, "kind", "")),
        "shape": " × ".join(map(str, shape)),
        "components": int(layer.n_components),
        "reason": reason,
    }
    return {**made, **facts, "is_layer": True, "is_usable": not reason}
