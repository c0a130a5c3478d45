"""Labels and notes: written, read, kept with the model's fingerprint, never lost between threads and processes."""

from __future__ import annotations

import multiprocessing
import os
import threading

import pytest

from workbench.core.errors import BadValueError, ReadOnlyStoreError, StoreError, UnknownComponentError
from workbench.core.ids import Fingerprint
from workbench.session.notes import ComponentNotes, Note
from workbench.store import MemoryStore, Store
from workbench.testing.small import small_net

MODEL = Fingerprint("ab" * 16, "small")
TEXTS = ["<img src=x onerror=alert(1)>", 'a "quoted" one', "../../up", "Füße 🦶", "x" * 120]


def book(store):
    return ComponentNotes(store, lambda: MODEL, str)


def test_written_read_and_taken_away(small):
    notes = small.notes
    assert notes.all() == {} and notes.of("relu_b/unit/3") == Note() and not notes.of("relu_b/3")
    notes.put("relu_b/3", label=" stripes ")
    notes.put("relu_b/unit/3", note="Only on\nfur.")
    found = notes.of("relu_b/unit/3")
    assert (found.label, found.note) == ("stripes", "Only on\nfur.") and found.time
    notes.put("relu_a/unit/1", label="edge")
    assert notes.labels() == {"relu_b/unit/3": "stripes", "relu_a/unit/1": "edge"}
    assert notes.labels("relu_a") == {"relu_a/unit/1": "edge"}
    assert (
        list(notes.table().columns) == ["label", "note", "time"]
        and notes.table().loc["relu_a/unit/1", "label"] == "edge"
    )
    notes.put("relu_b/unit/3", label="")
    assert notes.of("relu_b/unit/3").note == "Only on\nfur." and notes.labels() == {"relu_a/unit/1": "edge"}
    notes.put("relu_b/unit/3", note="")
    assert "relu_b/unit/3" not in notes.all()


def test_they_are_found_again_with_these_weights_only(open_small):
    one = open_small()
    for i, text in enumerate(TEXTS):
        one.notes.put(f"relu_b/unit/{i}", label=text, note=text * 3)
    assert open_small().notes.labels() == {f"relu_b/unit/{i}": text for i, text in enumerate(TEXTS)}
    net = small_net()
    net.head.weight.data[0] += 1
    assert open_small(net).notes.all() == {}


def test_neither_prune_nor_clean_takes_them(open_small):
    s = open_small()
    s.sweep(["relu_b"])
    s.notes.put("relu_b/unit/1", label="kept")
    s.store.clean(everything=True)
    assert open_small().notes.labels() == {"relu_b/unit/1": "kept"}


@pytest.mark.parametrize(
    "wrong", [{"label": "x" * 121}, {"label": "two\nlines"}, {"label": 3}, {"note": "x" * 4001}, {"note": "\ud800"}]
)
def test_texts_that_cannot_be(small, wrong):
    with pytest.raises(BadValueError):
        small.notes.put("relu_b/unit/1", **wrong)
    with pytest.raises(UnknownComponentError):
        small.notes.put("relu_b/unit/77", label="a")
    assert small.notes.all() == {}


def test_listeners_hear_of_changes(small):
    heard = []
    undo = small.notes.listen(lambda: heard.append(1))
    small.notes.put("relu_b/unit/1", label="a")
    small.notes.put("relu_b/unit/1", label="a")  # no change
    undo()
    small.notes.put("relu_b/unit/1", label="b")
    assert heard == [1]


def test_in_memory_where_there_is_no_folder():
    for store in (None, MemoryStore()):
        notes = book(store)
        notes.put("a/unit/1", label="x")
        assert notes.labels() == {"a/unit/1": "x"}


def test_a_store_that_may_not_be_written_says_so(tmp_path):
    Store.open(tmp_path / "s")
    notes = book(Store.open(tmp_path / "s", read_only=True))
    with pytest.raises(ReadOnlyStoreError):
        notes.put("a/unit/1", label="x")
    assert notes.all() == {}


def test_a_damaged_file_is_reported_and_not_overwritten(tmp_path):
    notes = book(Store.open(tmp_path / "s"))
    notes.put("a/unit/1", label="x")
    (path,) = (tmp_path / "s" / "notes").iterdir()
    path.write_text(path.read_text().replace("x", "y"))
    for call in (notes.all, lambda: notes.put("a/unit/2", label="z")):
        with pytest.raises(StoreError, match="not as it was written"):
            call()


def test_threads_lose_nothing(tmp_path):
    notes = [book(Store.open(tmp_path / "s")) for _ in range(4)]

    def write(k):
        for i in range(6):
            notes[k].put(f"a/unit/{10 * k + i}", label=f"{k} {i}")

    threads = [threading.Thread(target=write, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(len(one.labels()) == 24 for one in notes)


def _write(path, k):
    notes = book(Store.open(path))
    for i in range(5):
        notes.put(f"a/unit/{10 * k + i}", label=str(os.getpid()))


def test_processes_lose_nothing(tmp_path):
    Store.open(tmp_path / "s")
    here = multiprocessing.get_context("spawn")
    workers = [here.Process(target=_write, args=(tmp_path / "s", k)) for k in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert len(book(Store.open(tmp_path / "s")).labels()) == 10
