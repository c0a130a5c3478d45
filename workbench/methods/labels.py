"""Labels of a data set as numbers of a model's outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from workbench.core.labels import as_outputs

if TYPE_CHECKING:
    from workbench.core.context import Context

__all__ = ["labels_as_outputs"]


def labels_as_outputs(ctx: Context) -> np.ndarray:
    """(sample,) number of the output that each label names; -1 where it names none. Of a single output, the labels."""
    return as_outputs(ctx.data.labels, ctx.data.classes, ctx.class_names(), ctx.model.n_classes)
