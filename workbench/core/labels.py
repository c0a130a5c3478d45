"""Labels of a data set as numbers of a model's outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["as_outputs", "explainable"]


def as_outputs(labels: Any, classes: Sequence[str], outputs: Sequence[str], n_outputs: int) -> np.ndarray:
    """The output that each label names.

    By its name, where the data and the model have names in common; else by its number.

    Parameters
    ----------
    labels : (sample,) int array
        Numbers in `classes`, -1 where unknown.
    classes, outputs : sequences of str
        Names of the classes of the data, and of the model's outputs; empty where unknown.
    n_outputs : int

    Returns
    -------
    (sample,) int64 array
        -1 where the label names none. Of a single output, which is no class, the labels as they are.
    """
    labels = np.asarray(labels, dtype=np.int64)
    if n_outputs == 1:
        return labels
    place = {name: i for i, name in reversed(list(enumerate(outputs)))}  # of two of one name the first
    if any(name in place for name in classes):
        at = np.array([place.get(name, -1) for name in classes], dtype=np.int64)
        return np.where(labels >= 0, at[np.maximum(labels, 0)], -1)
    return np.where(labels < n_outputs, labels, -1)


def explainable(labels: Any, classes: Sequence[str], outputs: Sequence[str], n_outputs: int) -> np.ndarray:
    """(sample,) number of the output that the target ``label`` explains; -1 where it names none.

    As `as_outputs`; a single output belongs to no label.
    """
    found = as_outputs(labels, classes, outputs, n_outputs)
    return np.full_like(found, -1) if n_outputs == 1 else found
