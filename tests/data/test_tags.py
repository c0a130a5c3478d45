"""What a data set makes of tags, with a book in memory. How a session keeps them: tests/session/test_tags.py."""

from __future__ import annotations

import pytest

from workbench.core.errors import DataError
from workbench.data.transforms import Transform
from workbench.testing.context import SmallData


class Book:
    def __init__(self):
        self.kept = {}

    def read(self, data):
        return dict(self.kept.get(data.digest, {}))

    def change(self, data, change):
        self.kept[data.digest] = change(self.read(data))
        return self.kept[data.digest]


def test_without_a_book_there_are_no_tags():
    data = SmallData(5)
    assert data.tags() == {} and data.tagged() == {}
    for call in (lambda: data.tag("a"), lambda: data.tag("a", [1]), lambda: data.untag("a")):
        with pytest.raises(DataError, match="no place to be kept"):
            call()


def test_a_book_serves_a_copy():
    data, book = SmallData(5), Book()
    other = data.tagged_in(book)
    assert other is not data and other.tagged_in(book) is other and data.tagged() == {}
    assert other.tag("b", [4, 2, 2]) == (2, 4) and other.tag("a", 0) == (0,)
    assert other.tagged() == {"a": (0,), "b": (2, 4)} and other.tags() == {"a": 1, "b": 2}
    assert other.fingerprint == data.fingerprint


def test_tags_go_with_the_fingerprint():
    book = Book()
    one = SmallData(5).tagged_in(book)
    one.tag("a", [1])
    assert SmallData(5).tagged_in(book).tags() == {"a": 1}
    for other in (SmallData(5, seed=1), SmallData(6), one.using(Transform(size=(8, 8)))):
        assert other.tagged_in(book).name == one.name and other.tagged_in(book).tags() == {}


def test_who_listens_hears_of_changes_through_every_copy():
    book = Book()
    data, other, elsewhere = SmallData(5).tagged_in(book), SmallData(5).tagged_in(book), SmallData(5).tagged_in(Book())
    heard = []
    undo = data.on_tags(lambda: heard.append(dict(data.tags())))
    other.tag("a", [1])
    elsewhere.tag("a", [2])
    data.untag("a")
    assert heard == [{"a": 1}, {}]
    undo()
    undo()
    other.tag("a", [1])
    assert len(heard) == 2
