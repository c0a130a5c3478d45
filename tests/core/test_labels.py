"""Labels as outputs: by name where names are shared, by number else, and none where there is none."""

import numpy as np
import pytest

from workbench.core.labels import as_outputs, explainable

LABELS = np.array([0, 1, 2, -1, 1])


@pytest.mark.parametrize(
    ("classes", "outputs", "n", "expected"),
    [
        (["e", "b", "a"], ["a", "b", "c", "d", "e"], 5, [4, 1, 0, -1, 1]),
        (["e", "x", "a"], ["a", "b", "c", "d", "e"], 5, [4, -1, 0, -1, -1]),  # one that is no output
        (["x", "y", "z"], ["a", "b", "c"], 3, [0, 1, 2, -1, 1]),  # nothing in common: by number
        ([], ["a", "b"], 2, [0, 1, -1, -1, 1]),  # more labels than outputs
        (["a", "b", "c"], [], 3, [0, 1, 2, -1, 1]),
        (["b", "a", "c"], ["a", "b", "b", "c"], 4, [1, 0, 3, -1, 0]),  # of two of one name the first
    ],
)
def test_the_output_that_a_label_names(classes, outputs, n, expected):
    assert as_outputs(LABELS, classes, outputs, n).tolist() == expected
    assert explainable(LABELS, classes, outputs, n).tolist() == expected


def test_a_single_output_is_no_class():
    assert as_outputs(LABELS, ["no", "yes"], ["yes"], 1).tolist() == LABELS.tolist()
    assert explainable(LABELS, ["no", "yes"], ["yes"], 1).tolist() == [-1] * 5
