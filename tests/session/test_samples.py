"""The table of samples: names, labels, tags, and predictions where a sweep stored them; the model never runs."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.core.errors import UnknownSampleError
from workbench.testing.fake_session import FakeSession
from workbench.testing.small import CLASSES, small_data


def test_what_is_known_before_anything_has_run(small, counting):
    counter = counting(small)
    frame = small.samples()
    assert counter.calls == 0
    assert frame.index.tolist() == list(range(24)) and frame.index.name == "sample"
    assert list(frame.columns) == ["name", "label", "prediction", "origin", "tags"]
    assert frame["name"].tolist() == list(small.data.keys)
    names = small.data.classes or [f"class {i}" for i in range(4)]
    assert frame["label"].tolist() == [names[i] for i in small.data.labels]
    assert set(frame["prediction"]) == {""} and set(frame["tags"]) == {()}


def test_predictions_come_from_the_store(small, counting):
    small.sweep("relu_b")
    counter = counting(small)
    frame = small.samples()
    assert counter.calls == 0
    assert frame["prediction"].tolist() == [small.predict(i, 1)[0][1] for i in range(24)]
    assert set(frame["prediction"]) <= set(CLASSES)


def test_predictions_of_a_part_of_the_data(small):
    small.sweep("relu_b", samples=[3, 8])
    known = small.samples()["prediction"]
    assert np.flatnonzero(known != "").tolist() == [3, 8]


def test_a_sweep_without_relevance_stores_none(small):
    small.sweep("relu_b", relevance=False)
    assert set(small.samples()["prediction"]) == {""}


def test_tags_are_columns(small):
    small.data.tag("odd ones", [3, 1])
    small.data.tag("<b>best</b>", [3])
    frame = small.samples()
    assert list(frame.columns)[-3:] == ["tags", "tag:<b>best</b>", "tag:odd ones"]
    assert frame.loc[3, "tags"] == ("<b>best</b>", "odd ones") and frame.loc[1, "tags"] == ("odd ones",)
    assert frame.index[frame["tag:odd ones"]].tolist() == [1, 3] and frame["tag:odd ones"].dtype == bool


def test_some_in_an_order_of_ones_own(small):
    small.data.tag("a", [5])
    frame = small.samples([7, 5, 5])
    assert frame.index.tolist() == [7, 5, 5] and frame["tag:a"].tolist() == [False, True, True]
    assert frame["origin"].tolist() == small.data.origins[[7, 5, 5]].tolist()
    assert len(small.samples([])) == 0
    for wrong in (24, -1, True):
        with pytest.raises(UnknownSampleError):
            small.samples([wrong])


def test_without_labels(open_small):
    data = small_data()
    data._known = np.full(24, -1)
    assert set(open_small(data=data).samples()["label"]) == {""}


def test_the_fake_session_answers_alike(small):
    fake = FakeSession()
    for session in (small, fake):
        session.data.tag("a", [3, 1])
        assert session.data.tag("a") == (1, 3) and session.data.tags() == {"a": 2}
        with pytest.raises(UnknownSampleError):
            session.data.tag("a", [99])
    assert list(fake.samples().columns) == list(small.samples().columns)
    assert fake.samples([3, 0])["tag:a"].tolist() == [True, False]
