"""Whose selection a widget shares, and what people may select with."""

import numpy as np
import pandas as pd
import pytest

from workbench.core.errors import BadValueError
from workbench.testing.fake_session import FakeSession
from workbench.widgets.choosing import ids_of, selection_of, session_of

TABLE = pd.DataFrame({"score": [1.0, 5.0, 3.0]}, index=pd.Index(["a/unit/0", "a/unit/1", "a/unit/2"], name="component"))


def test_sessions_are_found_where_they_are():
    session = FakeSession()
    fitted = type("Fitted", (), {"session_": session})()
    assert session_of(session) is session_of(fitted) is session
    assert session_of(None) is session_of(3) is session_of(object()) is None


def test_groups_share_a_selection():
    session = FakeSession()
    assert selection_of(session) is session.selection
    assert selection_of(session, "a") is selection_of(session, "a") is not selection_of(session, "b")
    assert selection_of(None) is not selection_of(None)


@pytest.mark.parametrize(
    ("wanted", "ids"),
    [
        (None, []),
        ("a/unit/1", ["a/unit/1"]),
        ("score > 2", ["a/unit/1", "a/unit/2"]),
        (["a/unit/2", "a/unit/0"], ["a/unit/2", "a/unit/0"]),
        (np.array([True, False, True]), ["a/unit/0", "a/unit/2"]),
        (TABLE["score"] < 2, ["a/unit/0"]),
        (TABLE.iloc[[1]], ["a/unit/1"]),
        (2, [2]),
    ],
    ids=str,
)
def test_ids_from_whatever_people_select_with(wanted, ids):
    assert ids_of(wanted, TABLE) == ids


def test_wrong_wishes_are_explained():
    with pytest.raises(BadValueError, match="neither an id nor a query.*Columns: score"):
        ids_of("nonsense(", TABLE)
    with pytest.raises(BadValueError, match="mask"):
        ids_of([True, False], TABLE)
