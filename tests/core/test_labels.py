"""Labels of a data set as numbers of a model's outputs: by name where names are shared, else by number."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.core.labels import as_outputs, explainable


def one_by_one(labels, classes, outputs, n):
    found = []
    for label in labels:
        if n == 1:
            found.append(label)
        elif any(name in outputs for name in classes):
            name = classes[label] if label >= 0 else None
            found.append(outputs.index(name) if name in outputs else -1)
        else:
            found.append(label if 0 <= label < n else -1)
    return found


@pytest.mark.parametrize(
    ("classes", "outputs", "n"),
    [
        (("e", "b", "a"), tuple("abcdef"), 6),
        (("e", "zzz", "a"), tuple("abcdef"), 6),
        (("x", "y", "z"), tuple("abcdef"), 6),
        (("x", "y", "z"), (), 2),
        ((), tuple("ab"), 2),
        (("a", "b", "a"), ("b", "a", "a"), 3),  # the first of equal names
        (("off", "on", "x"), ("on",), 1),
    ],
)
def test_each_label_by_itself(classes, outputs, n):
    labels = [0, 2, -1, 1, 1]
    found = as_outputs(labels, classes, outputs, n)
    assert found.tolist() == one_by_one(labels, list(classes), list(outputs), n) and found.dtype == np.int64


def test_a_single_output_belongs_to_no_label():
    assert explainable([0, 1, -1], ("no", "yes"), ("yes",), 1).tolist() == [-1, -1, -1]
    assert explainable([0, 1, -1], ("no", "yes"), ("yes", "no"), 2).tolist() == [1, 0, -1]
