"""Records of directions: tables, cosines, and what is found by which name."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.core.errors import ShapeError, UnknownComponentError
from workbench.core.results import DIRECTION_NUMBERS, SENSITIVITY_NUMBERS, ConceptSensitivity, Direction, DirectionSet


def direction(index=0, vector=(0.6, -0.8, 0.0)) -> Direction:
    return Direction(
        layer="l", basis="cav-x", index=index, concept=f"c{index}", estimator="pattern", pooling="max", scope="all",
        vector=np.array(vector, np.float32), samples=np.array([3, 5, 9]), is_positive=np.array([True, False, True]),
        class_=np.array([0, 1, -1]), score=np.array([1.0, -2.0, 4.0], np.float32),
        held_out=np.full(3, np.nan, np.float32), reference=np.zeros(3, np.float32),
        **{name: float(i) for i, name in enumerate(DIRECTION_NUMBERS)}, warnings=("beware",),
    )  # fmt: skip


def test_a_direction_has_tables_and_cosines():
    one = direction()
    assert one.id == "l/cav-x/0" and (one.n_positive, one.n_negative) == (2, 1)
    frame = one.to_frame()
    assert frame.index.tolist() == [9, 3, 5] and frame["is_positive"].tolist() == [True, True, False]
    assert one.top(2).components == ("l/unit/1", "l/unit/0") and one.top(2).scores.tolist() == pytest.approx(
        [-0.8, 0.6]
    )
    assert one.cosine(-5 * one.vector) == pytest.approx(-1) and one.cosine(direction(1, (0, 0, 1))) == 0
    with pytest.raises(ShapeError):
        one.cosine(np.ones(4))
    assert repr(one) == "<direction l/cav-x/0: pattern, 2 against 1, held-out AUC 4.000, 1 warnings>"


def test_a_set_is_found_by_index_concept_and_address():
    both = DirectionSet("l", "cav-x", (direction(0), direction(1, (0, 0, 1))))
    assert both[1] is both["c1"] is both["l/cav-x/1"] and [d.index for d in both] == [0, 1] and len(both) == 2
    np.testing.assert_allclose(both.cosines(), np.eye(2), atol=1e-7)
    assert both.vectors.shape == (2, 3) and both.to_frame().loc["l/cav-x/1", "warnings"] == 1
    with pytest.raises(UnknownComponentError, match="c0, c1"):
        both["c2"]


def test_scores_say_their_verdict():
    arrays = {name: np.full((1, 4), 0.01) for name in SENSITIVITY_NUMBERS}
    arrays["score"] = np.array([[0.9, 0.1, 0.9, np.nan]])
    arrays["p_holm"] = np.array([[0.01, 0.01, 0.5, np.nan]])
    made = ConceptSensitivity("l", "cav-x", ("c",), tuple("abcd"), (0, 1, 2, 3), np.full(4, 7), n_random=50, **arrays)
    assert made.to_frame()["verdict"].tolist() == ["rises", "falls", "as random", "undefined"]
    assert made.is_undefined.tolist() == [[False, False, False, True]]
