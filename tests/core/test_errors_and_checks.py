"""Errors say what was asked, what was found and what to do; checks raise them."""

import math

import pytest

from workbench.core import check
from workbench.core import errors as e


def test_the_text_of_an_error_is_message_and_hint_also_for_key_errors():
    error = e.UnknownLayerError('No layer "a".', hint="Nearest: b.")
    assert str(error) == 'No layer "a". Nearest: b.'
    assert isinstance(error, KeyError) and isinstance(error, e.WorkbenchError)


@pytest.mark.parametrize(
    ("ours", "builtin"),
    [
        (e.BadValueError, ValueError), (e.ShapeError, ValueError), (e.UnknownComponentError, IndexError),
        (e.StoreError, OSError),
        (e.ReadOnlyStoreError, PermissionError), (e.OutOfBudgetError, MemoryError),
        (e.MissingPackageError, ImportError),
        (e.ModelError, TypeError),
    ],
)  # fmt: skip
def test_each_error_is_also_the_builtin_one_would_catch(ours, builtin):
    with pytest.raises(builtin):
        raise ours("what was found", hint="what to do")


def test_all_errors_are_public():
    ours = {n for n, v in vars(e).items() if isinstance(v, type) and issubclass(v, Exception)}
    assert ours <= set(e.__all__)


def test_nearest_names_what_is_close_and_nothing_else():
    assert e.nearest(
        "layer3.1.conv", ["layer3.1.conv1", "layer3.1.conv2", "fc"]
    ) == 'Nearest: "layer3.1.conv1", "layer3.1.conv2".' or (
        '"layer3.1.conv2"' in e.nearest("layer3.1.conv", ["layer3.1.conv1", "layer3.1.conv2", "fc"])
    )
    assert e.nearest("zzz", ["a", "b"]) == ""


@pytest.mark.parametrize("value", [-0.1, 1.1, math.nan, math.inf, "0.5", True, None])
def test_between_refuses_what_is_no_number_inside(value):
    with pytest.raises(e.BadValueError, match=r"`share` must be at least 0 and at most 1; got"):
        check.between("share", value, 0, 1)


def test_between_minds_open_ends():
    assert check.between("share", 0, 0, 1) == 0
    with pytest.raises(e.BadValueError, match="above 0"):
        check.between("share", 0, 0, 1, left_open=True)
    with pytest.raises(e.BadValueError, match="below 1"):
        check.between("share", 1, 0, 1, right_open=True)


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "3", None])
def test_positive_refuses_what_is_no_count(value):
    with pytest.raises(e.BadValueError, match="whole number of at least 1"):
        check.positive("k", value)


def test_positive_minds_its_upper_end():
    assert check.positive("k", 5, at_most=5) == 5
    with pytest.raises(e.BadValueError, match="at most 4"):
        check.positive("k", 5, at_most=4)


def test_names_are_looked_up_with_help():
    assert check.one_of("by", "relevance", ("activation", "relevance")) == "relevance"
    with pytest.raises(e.BadValueError, match='Nearest: "relevance"'):
        check.one_of("by", "relevence", ("activation", "relevance"))
    with pytest.raises(e.UnknownNameError, match='No class "dgo"'):
        check.known("class", "dgo", ["dog", "cat"])
    with pytest.raises(e.BadValueError, match="more than once"):
        check.unique("layers", ["a", "b", "a"])
