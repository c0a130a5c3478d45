"""Tags: written, read, kept with the data's fingerprint, and never lost between threads, processes and crashes."""

from __future__ import annotations

import json

import numpy as np
import pytest

import workbench as wb
from workbench.core.errors import (
    BadValueError,
    DataError,
    ReadOnlyStoreError,
    ShapeError,
    StoreError,
    UnknownNameError,
    UnknownSampleError,
)
from workbench.core.ids import Fingerprint
from workbench.session.tags import StoredTags
from workbench.store import MemoryStore, Store
from workbench.testing.context import SmallData
from workbench.testing.small import CLASSES, SMALL, small_data, small_net

NAMES = ["<img src=x onerror=alert(1)>", 'a "quoted"\nname', "../../up", "Füße 🦶", "x" * 200, " a ", "\x00\t"]


def test_written_read_listed_and_removed(small):
    assert small.data.tags() == {}
    assert small.data.tag("odd", [5, 3, 1]) == (1, 3, 5)
    assert small.data.tag("odd", 7) == small.data.tag("odd", np.int64(7)) == (1, 3, 5, 7)
    assert small.data.tag("odd") == (1, 3, 5, 7)
    mask = np.arange(24) == 9
    assert small.data.tag("odd", mask) == small.data.tag("odd", mask.tolist()) == (1, 3, 5, 7, 9)
    assert small.data.tag("best", (i for i in range(2))) == (0, 1)
    assert small.data.tags() == {"best": 2, "odd": 5} and list(small.data.tags()) == ["best", "odd"]
    assert small.data.untag("odd", [3, 4]) == (1, 5, 7, 9), "4 did not have it"
    assert small.data.untag("odd") == () and small.data.tags() == {"best": 2}
    assert small.data.untag("best", [0, 1]) == () and small.data.tags() == {}, "a tag that nobody has is gone"
    assert small.data.tag("none", []) == () and small.data.tags() == {}
    assert all(type(i) is int for i in small.data.tag("odd", np.array([3])))


def test_any_name_is_plain_text(open_small):
    one = open_small()
    for i, name in enumerate(NAMES):
        one.data.tag(name, [i])
    other = open_small()
    assert other.data.tags() == dict.fromkeys(NAMES, 1)
    assert [other.data.tag(name) for name in NAMES] == [(i,) for i in range(len(NAMES))]


@pytest.mark.parametrize("name", ["", "  ", "x" * 201, 3, None, "\ud800"])
def test_names_that_cannot_be(small, name):
    for call in (lambda: small.data.tag(name, [1]), lambda: small.data.tag(name), lambda: small.data.untag(name)):
        with pytest.raises(BadValueError, match="name"):
            call()


@pytest.mark.parametrize(
    ("samples", "error"),
    [
        ([3, 24], UnknownSampleError),
        (-1, UnknownSampleError),
        ([1, "2"], UnknownSampleError),
        ([1.0], UnknownSampleError),
        (True, UnknownSampleError),
        ("12", BadValueError),
        (2.5, BadValueError),
        ([True, False], ShapeError),
    ],
)
def test_unknown_samples_change_nothing(small, samples, error):
    small.data.tag("a", [1])
    for call in (small.data.tag, small.data.untag):
        with pytest.raises(error):
            call("a", samples)
    assert small.data.tag("a") == (1,)


def test_an_unknown_tag_is_helped(small):
    small.data.tag("watermark", [1])
    for call in (lambda: small.data.tag("watermrak"), lambda: small.data.untag("watermrak", [1])):
        with pytest.raises(UnknownNameError, match='No tag "watermrak"') as error:
            call()
        assert '"watermark"' in error.value.hint


def test_they_survive_and_belong_to_the_data(open_small):
    one = open_small()
    one.data.tag("a", [1, 2])
    assert open_small().data.tags() == {"a": 2}
    assert open_small(small_net(n_classes=5), classes=list("vwxyz")).data.tags() == {"a": 2}, "another model"
    other = open_small(data=small_data(n=23))
    assert other.data.name == one.data.name and other.data.tags() == {}
    assert one.variant("same", []).data is one.data


def test_the_data_that_was_given_stays_as_it_is(open_small):
    data = small_data()
    one = open_small(data=data)
    one.data.tag("a", [1])
    assert data.tags() == {} and data.tagged() == {}
    with pytest.raises(DataError, match="no place to be kept") as error:
        data.tag("a", [1])
    assert "session" in error.value.hint
    assert one.data.tagged_in(StoredTags(one.store)) is one.data


def test_results_do_not_depend_on_tags(small):
    before = small.data.fingerprint
    small.data.tag("a", [1])
    assert small.data.fingerprint == before


def test_a_read_only_store_says_so(tmp_path):
    def open_here(**options):
        store = Store.open(tmp_path / "store", **options)
        return wb.open_session(small_net(), small_data(), store=store, transform=SMALL, classes=CLASSES)

    with open_here() as one:
        one.data.tag("a", [1])
    with open_here(read_only=True) as other:
        assert other.data.tag("a") == (1,)
        for call in (lambda: other.data.tag("a", [2]), lambda: other.data.untag("a")):
            with pytest.raises(ReadOnlyStoreError, match="read-only"):
                call()
        assert other.data.tags() == {"a": 1}


def test_a_store_in_memory_keeps_them_as_long():
    with wb.open_session(small_net(), small_data(), store=MemoryStore(), transform=SMALL, classes=CLASSES) as session:
        session.data.tag("a", [2, 1])
        assert session.data.tag("a") == (1, 2)


def test_they_outlive_clean_and_prune(small):
    small.data.tag("a", [1])
    small.sweep("relu_a", relevance=False)
    small.store.prune(max_bytes=0)
    small.store.clean(everything=True)
    assert small.store.entries() == [] and small.data.tags() == {"a": 1}


def test_a_damaged_file_is_named_and_not_overwritten(small):
    small.data.tag("a", [1])
    (path,) = (small.store.path / "tags").glob("*.json")
    record = json.loads(path.read_text())
    record["tags"]["a"] = [1, 2]
    path.write_text(json.dumps(record))
    for call in (small.data.tags, lambda: small.data.tag("b", [3])):
        with pytest.raises(StoreError, match="cannot be read") as error:
            call()
        assert "remove it" in error.value.hint
    assert json.loads(path.read_text())["tags"] == {"a": [1, 2]}


def test_an_error_on_the_way_leaves_the_old(small, monkeypatch):
    small.data.tag("a", [1])

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreError, match="disk is full"):
        small.data.tag("a", [2])
    monkeypatch.undo()
    assert small.data.tag("a") == (1,) and len(list((small.store.path / "tags").iterdir())) == 1


DATA = Fingerprint("ab" * 16, "shared")


def _tag_many(path: str, name: str, start) -> None:
    book = StoredTags(Store.open(path))
    start.wait()
    for i in range(25):
        book.change(DATA, lambda tags, i=i: {**tags, name: (*tags.get(name, ()), i), "all": (*tags.get("all", ()), i)})


def test_threads_do_not_lose_each_others(tmp_path, at_once):
    at_once(_tag_many, tmp_path, "abcd", are_processes=False)  # for processes, see test_keeper.py
    tags = StoredTags(Store.open(tmp_path)).read(DATA)
    assert all(tags[name] == tuple(range(25)) for name in "abcd") and len(tags["all"]) == 100


def test_views_of_other_inputs_keep_the_book(small):
    assert small.data.using(SMALL).tags() == small.data.tags()
    assert SmallData(3).tagged() == {}
