"""Labels of a data set as numbers of a model's outputs."""

from types import SimpleNamespace

import numpy as np
import pytest

from workbench.methods.labels import labels_as_outputs


def context(labels, classes, outputs, n):
    data = SimpleNamespace(labels=np.array(labels), classes=classes)
    return SimpleNamespace(data=data, model=SimpleNamespace(n_classes=n), class_names=lambda: outputs)


@pytest.mark.parametrize(
    ("labels", "classes", "outputs", "n", "expected"),
    [
        ([0, 1, 2, -1], ("cat", "dog", "cow"), ("dog", "horse", "cat"), 3, [2, 0, -1, -1]),  # by their names
        ([0, 1, 2, 3], ("a", "b", "c", "d"), ("x", "y", "z"), 3, [0, 1, 2, -1]),  # by their numbers
        ([0, 4, -1], (), (), 3, [0, -1, -1]),  # nothing has a name
        ([0, 1, 5], ("off", "on"), ("on",), 1, [0, 1, 5]),  # a single output is no class
    ],
)
def test_labels_name_outputs(labels, classes, outputs, n, expected):
    assert labels_as_outputs(context(labels, classes, outputs, n)).tolist() == expected
