"""Labels of a data set as numbers of a model's outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from workbench.core.context import Context

__all__ = ["labels_as_outputs"]


def labels_as_outputs(ctx: Context) -> np.ndarray:
    """(sample,) number of the output that each label names; -1 where it names none. Of a single output, the labels."""
    labels, classes, outputs = np.asarray(ctx.data.labels), ctx.data.classes, ctx.class_names()
    if ctx.model.n_classes == 1:
        return labels
    if classes and outputs and set(classes) & set(outputs):
        place = np.array([outputs.index(c) if c in outputs else -1 for c in classes])
        return np.where(labels >= 0, place[np.maximum(labels, 0)], -1)
    return np.where(labels < ctx.model.n_classes, labels, -1)
