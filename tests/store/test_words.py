"""Sizes, counts and days as people write them; examples in docstrings."""

import doctest
import importlib
from datetime import UTC, datetime, timedelta

import pytest

from workbench.store import words


@pytest.mark.parametrize("name", ["recipe", "words", "parts", "base"])
def test_examples_in_docstrings(name):
    assert doctest.testmod(importlib.import_module(f"workbench.store.{name}")).failed == 0


@pytest.mark.parametrize(
    ("n_bytes", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (9_949, "9.9 kB"),
        (9_960, "10 kB"),
        (999_600, "1.0 MB"),
        (41_300_000, "41 MB"),
        (20e9, "20 GB"),
        (5e15, "5000 TB"),
    ],
)
def test_sizes(n_bytes, text):
    assert words.size(n_bytes) == text


def test_counts():
    assert words.count(0, "entry") == "0 entries" and words.count(1, "entry") == "1 entry"
    assert words.count(1_234_567) == "1 234 567"


def test_days_say_the_year_unless_it_is_this_one():
    this = datetime.now().astimezone().replace(month=5, day=12)
    assert words.day(this) == "12 May"
    assert words.day(this.replace(year=this.year - 2)) == f"12 May {this.year - 2}"


def test_stamps_round_trip():
    moment = datetime(2026, 5, 12, 9, 30, 1, tzinfo=UTC)
    assert words.stamp(moment) == "2026-05-12T09:30:01Z" and words.when(words.stamp(moment)) == moment
    assert words.when(moment.timestamp()) == moment
    assert abs(words.now() - datetime.now(UTC)) < timedelta(seconds=5)
