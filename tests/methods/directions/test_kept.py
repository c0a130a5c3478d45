"""Directions come back from arrays and facts as they were, undefined numbers included."""

from __future__ import annotations

import json

import numpy as np

from workbench.core.results import DIRECTION_NUMBERS
from workbench.methods import PatternCAV
from workbench.methods.directions.kept import from_arrays, to_arrays
from workbench.testing.context import FakeContext


def test_there_and_back():
    x = np.random.default_rng(0).normal(size=(40, 5))
    positives = {"a": [3], "b": range(10, 20)}
    made = PatternCAV("l", positives=positives, scope="all").fit(FakeContext({"l": x})).directions_
    arrays, facts = to_arrays(made)
    again = from_arrays(arrays, json.loads(json.dumps(facts)))
    assert repr(again) == repr(made) and again.ids() == made.ids() and again[0].warnings == made[0].warnings
    for one, other in zip(made, again, strict=True):
        np.testing.assert_array_equal(
            [getattr(one, n) for n in DIRECTION_NUMBERS], [getattr(other, n) for n in DIRECTION_NUMBERS]
        )
        for name in ("vector", "samples", "is_positive", "class_", "score", "held_out", "reference"):
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert np.isnan(again[0].auc) and not np.isnan(again[1].auc)
