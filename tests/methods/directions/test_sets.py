"""Which samples are meant: every way to name them, and what is said of those that cannot be."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from workbench.core.errors import BadValueError, ShapeError, UnknownNameError, UnknownSampleError
from workbench.methods.directions.sets import concepts_of, digest_of, sample_ids, slug
from workbench.testing.context import FakeContext

N = 9
DATA = FakeContext({"l": np.zeros((N, 2))}, tags={"ruler": [2, 5], "<odd> name": [1]}).data
MASK = np.isin(np.arange(N), [2, 5])
FRAME = pd.DataFrame({"label": list("abcabcabc")}, index=pd.Index(range(N), name="sample"))

WAYS = {
    "ids": [5, 2, 5],
    "tuple": (2, 5),
    "array": np.array([5, 2]),
    "generator": (i for i in (2, 5)),
    "mask": MASK,
    "list of truths": MASK.tolist(),
    "tag": "ruler",
    "frame": FRAME.loc[[2, 5]],
    "series of truths": pd.Series(MASK, index=FRAME.index),
    "series": FRAME["label"].loc[[5, 2]],
    "index": FRAME.index[[2, 5]],
    "set": {2, 5},
}


@pytest.mark.parametrize("way", WAYS)
def test_all_ways_to_name_samples_mean_the_same(way):
    assert sample_ids(DATA, WAYS[way], "positives").tolist() == [2, 5]


def test_a_single_id_is_a_set():
    assert sample_ids(DATA, 3, "positives").tolist() == [3] == sample_ids(DATA, np.int64(3), "positives").tolist()


REFUSED = {
    "unknown": ([2, 9], UnknownSampleError, "No sample 9 of `positives` in fake"),
    "several unknown": ([20, 21, -1], UnknownSampleError, "No sample -1 and 2 more"),
    "short mask": (MASK[:4], ShapeError, "must hold 9 values"),
    "fractions": ([1.5], BadValueError, "whole numbers"),
    "words": (["ruler"], BadValueError, "whole numbers"),
    "nothing of the kind": (object(), BadValueError, "got object"),
    "unknown tag": ("rulr", UnknownNameError, 'No tag "rulr"'),
    "none": ([], BadValueError, "No positives"),
    "an empty mask": (np.zeros(N, bool), BadValueError, "No positives"),
    "all": (range(N), BadValueError, "All 9 samples are positives"),
    "ragged": ([[1, 2], [3]], BadValueError, "pairs"),
    "a pair with itself": ([(1, 2), (3, 3)], BadValueError, "with itself"),
    "no concept": ({}, BadValueError, "names no concept"),
    "empty concept": ({"a": [1], "b": []}, BadValueError, "shows the concept b"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_meant_is_explained(what):
    value, kind, message = REFUSED[what]
    with pytest.raises(kind, match=message) as error:
        concepts_of(DATA, value)
    assert error.value.hint or kind in (ShapeError, BadValueError)


def test_the_nearest_tag_is_named():
    with pytest.raises(UnknownNameError) as error:
        sample_ids(DATA, "rulr", "positives")
    assert '"ruler"' in error.value.hint


def test_pairs_give_both_sets():
    (one,) = concepts_of(DATA, [(4, 0), (7, 1)])
    assert (
        one.positives.tolist() == [4, 7] and one.negatives.tolist() == [0, 1] and one.pairs.tolist() == [[4, 0], [7, 1]]
    )
    (two,) = concepts_of(DATA, np.array([[4, 0], [7, 1]]), negatives=[0, 2])
    assert two.negatives.tolist() == [0, 2]
    (three,) = concepts_of(DATA, [4], pairs=[(4, 0)])
    assert three.negatives is None and three.pairs.tolist() == [[4, 0]]


def test_several_concepts_have_sets_of_their_own():
    made = concepts_of(DATA, {"a": [1], "b": "ruler"}, negatives={"b": [3, 4]}, pairs={"a": [(1, 2)]})
    assert [c.name for c in made] == ["a", "b"]
    assert made[0].negatives is None and made[1].negatives.tolist() == [3, 4]
    assert len(made[0].pairs) == 1 and len(made[1].pairs) == 0
    shared = concepts_of(DATA, {"a": [1], "b": [2]}, negatives=[3])
    assert [c.negatives.tolist() for c in shared] == [[3], [3]]
    with pytest.raises(BadValueError, match='names "c"'):
        concepts_of(DATA, {"a": [1]}, negatives={"c": [2]})
    with pytest.raises(BadValueError, match="by concept"):
        concepts_of(DATA, [1], negatives={"a": [2]})


def test_both_sets_must_be_apart():
    with pytest.raises(BadValueError, match="2 samples are positives and negatives of ruler: 2, 5"):
        concepts_of(DATA, "ruler", negatives=[1, 2, 5])
    with pytest.raises(BadValueError, match="No negatives"):
        concepts_of(DATA, "ruler", negatives=[])


def test_the_name_of_a_tag_is_found_by_its_samples():
    assert [concepts_of(DATA, value)[0].name for value in ((2, 5), "ruler", [1], [1, 2])] == [
        "ruler", "ruler", "<odd> name", "",
    ]  # fmt: skip
    assert slug("<odd> name") == "odd-name" and slug("...") == "concept" and slug("band-aid_2") == "band-aid_2"


def test_digests_tell_sets_apart():
    one, other = (concepts_of(DATA, ids)[0].facts() for ids in ([1, 2], [1, 3]))
    assert one["positives"][0] == other["positives"][0] == 2 and one != other
    assert digest_of(np.array([1, 2])) == digest_of(np.array([1, 2], np.int32))


def test_a_table_of_decisions_is_no_set_of_samples():
    frame = pd.DataFrame({"verdict": ["accepted"]}, index=pd.Index(["group|a|3"], name="id"))
    with pytest.raises(BadValueError, match=r"panel.accepted\(\)"):
        sample_ids(DATA, frame, "positives")
