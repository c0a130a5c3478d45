"""What is known of each component besides its place: columns to colour, sort and filter by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from workbench.core.results import ActivationTable

__all__ = [
    "class_means",
    "cluster_names",
    "component_columns",
    "explained",
    "label_names",
    "named",
    "selectivity",
]


def component_columns(acts: np.ndarray, rel: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """What the tables say of each component.

    Parameters
    ----------
    acts : (sample, component) float array
    rel : (sample, component) float array, optional
        Relevances, of the same or other samples.

    Returns
    -------
    dict of name to (component,) float32 array
        ``relevance`` (mean absolute one, if given), ``activation`` (mean), ``frequency`` (share of the samples with an
        activation above 0), ``selectivity``.
    """
    columns = {
        "activation": acts.mean(0).astype(np.float32),
        "frequency": (acts > 0).mean(0).astype(np.float32),
        "selectivity": selectivity(acts),
    }
    return columns if rel is None else {"relevance": np.abs(rel).mean(0).astype(np.float32), **columns}


def explained(table: ActivationTable) -> tuple[np.ndarray, np.ndarray]:
    """Give the relevances of the samples that were explained, which may be a part of the data, and for which output.

    Returns
    -------
    rel : (explained, component) float32
    target : (explained,) int64
    """
    valid = np.asarray(table.is_valid)
    target: Any = table.target
    return np.asarray(table.values)[valid], np.asarray(target)[valid]


def selectivity(acts: np.ndarray) -> np.ndarray:
    """(component,) 0 to 1: one minus mean over largest activation, negative values counted as zero.

    Near 1 a component answers to few samples strongly, near 0 to all alike; 0 for one that is never positive.
    """
    positive = acts.clip(min=0)
    largest = positive.max(0)
    share = np.divide(positive.mean(0), largest, out=np.ones_like(largest), where=largest > 0)
    return (1 - share).astype(np.float32)


def class_means(rel: np.ndarray, target: np.ndarray, n_classes: int) -> np.ndarray:
    """(class_, component) float32: mean relevance over the samples explained for a class; NaN rows where none was."""
    means = np.full((n_classes, rel.shape[1]), np.nan, np.float32)
    for index in np.unique(target[target >= 0]):
        means[index] = rel[target == index].mean(0)
    return means


def cluster_names(cluster: np.ndarray, class_relevance: np.ndarray, classes: Sequence[str]) -> list[str]:
    """Name each cluster after the two classes for which it is most relevant compared with the average cluster."""
    n = int(cluster.max()) + 1
    seen = np.flatnonzero(~np.isnan(class_relevance).all(1)) if len(class_relevance) else np.zeros(0, int)
    if len(seen) == 0 or not classes:
        return [f"cluster {i + 1}" for i in range(n)]
    share = np.stack([class_relevance[seen][:, cluster == i].sum(1) for i in range(n)])
    share = share / np.maximum(np.abs(share).sum(0), 1e-12)
    names = []
    for i in range(n):
        best = seen[np.argsort(-share[i], kind="stable")[:2]]
        names.append(f"{i + 1}: " + ", ".join(classes[int(b)] if b < len(classes) else f"output {b}" for b in best))
    return names


def named(numbers: np.ndarray, names: Sequence[str], kind: str = "output") -> np.ndarray:
    """Names of outputs or classes as an array of text; ``output 7`` where there is none, empty below 0."""
    known = np.unique(numbers)
    text = ["" if i < 0 else names[i] if i < len(names) else f"{kind} {i}" for i in known.tolist()]
    return np.array(text, dtype=np.str_)[np.searchsorted(known, numbers)]


def label_names(data: Any, samples: np.ndarray) -> np.ndarray | None:
    """Names of the labels of samples as an array of text, empty where unknown; None for data without labels."""
    labels = getattr(data, "labels", None)
    if labels is None or not (np.asarray(labels) >= 0).any():
        return None
    return named(np.asarray(labels)[samples], data.classes, "class")
