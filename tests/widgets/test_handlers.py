"""Messages and their schemas."""

import pytest

from workbench.core.errors import BadValueError, StoreError
from workbench.widgets.handlers import at_most, handlers_of, many, on, one_of, optional, problem, read_body

SCHEMA = {
    "n": int,
    "share": float,
    "name": str,
    "kind": one_of("a", "b"),
    "ids": many(at_most(9), 3),
    "more": optional(bool, True),
}
GOOD = {"n": 2, "share": 1, "name": "<b>", "kind": "a", "ids": [0, 9]}


def test_a_good_body_is_read_with_its_defaults():
    assert read_body("tiles", SCHEMA, GOOD) == {**GOOD, "share": 1.0, "more": True}
    assert read_body("ping", {}, None) == {}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"n": "2"}, "n of .* must be of type int"),
        ({"n": True}, "must be of type int"),
        ({"share": None}, "must be of type float"),
        ({"kind": "c"}, "must be one of 'a', 'b'"),
        ({"ids": [10]}, "whole number from 0 to 9"),
        ({"ids": [-1]}, "whole number"),
        ({"ids": [1] * 4}, "list of at most 3"),
        ({"ids": "123"}, "list of at most 3"),
        ({"more": 1}, "must be of type bool"),
        ({"nmae": 1}, 'has no nmae. Nearest: "name"'),
    ],
)
def test_a_bad_body_is_explained(change, words):
    with pytest.raises(BadValueError, match=words):
        read_body("tiles", SCHEMA, {**GOOD, **change})


def test_a_missing_entry_and_a_strange_body_are_explained():
    with pytest.raises(BadValueError, match="lacks name"):
        read_body("tiles", SCHEMA, {k: v for k, v in GOOD.items() if k != "name"})
    with pytest.raises(BadValueError, match="named entries; got list"):
        read_body("tiles", SCHEMA, [1])


def test_handlers_are_inherited_and_may_be_replaced():
    class A:
        @on("x", n=int)
        def first(self, n): ...

    class B(A):
        @on("x")
        def second(self): ...

        @on("y")
        def third(self): ...

    assert handlers_of(A)["x"][0] == "first" and {k: v[0] for k, v in handlers_of(B).items()} == {
        "x": "second",
        "y": "third",
    }


def test_a_problem_has_one_line_a_hint_and_a_trace():
    try:
        raise StoreError("The disk is full.", hint="Prune the store.")
    except StoreError as error:
        found = problem("Crops", error)
    assert (found["asked"], found["message"], found["hint"], found["type"]) == (
        "Crops",
        "The disk is full.",
        "Prune the store.",
        "StoreError",
    )
    assert "Traceback" in found["trace"]
    assert problem("x", ZeroDivisionError("by zero"))["message"] == "ZeroDivisionError: by zero"
