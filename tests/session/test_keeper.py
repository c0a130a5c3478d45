"""Small files beside the results: one record per key, changed by one at a time, never half and never lost."""

from __future__ import annotations

import pytest

from workbench.core.errors import ReadOnlyStoreError, StoreError
from workbench.session.keeper import Keeper
from workbench.store import MemoryStore, Store


def add(keeper, key="k", **more):
    return keeper.change(key, lambda old: {**(old or {}), **more}, what="the notes")


@pytest.mark.parametrize("where", ["disk", "memory", "nowhere"])
def test_records_are_kept_by_their_key(tmp_path, where):
    store = {"disk": lambda: Store.open(tmp_path), "memory": MemoryStore, "nowhere": lambda: None}[where]()
    keeper = Keeper(store, "notes")
    assert keeper.read("k", what="the notes") is None and (keeper.folder is None) == (where != "disk")
    assert add(keeper, a=1) == {"a": 1} and add(keeper, b="ü") == {"a": 1, "b": "ü"}
    add(keeper, key="other", c=None)
    assert keeper.read("k", what="the notes") == {"a": 1, "b": "ü"}
    assert keeper.read("other", what="the notes") == {"c": None}
    if where == "disk":
        assert Keeper(Store.open(tmp_path), "notes").read("k", what="the notes") == {"a": 1, "b": "ü"}
        assert Keeper(store, "tags").read("k", what="the tags") is None
        assert sorted(path.name for path in keeper.folder.iterdir()) == ["k.json", "other.json"]


def test_what_is_equal_is_not_written(tmp_path):
    keeper = Keeper(Store.open(tmp_path), "notes")
    add(keeper, a=1)
    path = keeper.folder / "k.json"
    before = path.stat()
    assert add(keeper, a=1) == {"a": 1} and keeper.change("none", lambda old: None, what="the notes") is None
    assert path.stat().st_ino == before.st_ino and not (keeper.folder / "none.json").exists()


def test_changes_of_others_are_seen(tmp_path):
    one, two = (Keeper(Store.open(tmp_path), "notes") for _ in range(2))
    for i in range(5):
        add((one, two)[i % 2], n=i)
        assert one.read("k", what="the notes") == two.read("k", what="the notes") == {"n": i}


def test_an_error_within_a_change_leaves_the_old_and_frees_the_lock(tmp_path):
    keeper = Keeper(Store.open(tmp_path), "notes")
    add(keeper, a=1)
    with pytest.raises(ZeroDivisionError):
        keeper.change("k", lambda old: 1 // 0, what="the notes")
    assert add(Keeper(Store.open(tmp_path), "notes"), b=2) == {"a": 1, "b": 2}


def test_damage_is_named(tmp_path):
    keeper = Keeper(Store.open(tmp_path), "notes")
    add(keeper, a=1)
    (keeper.folder / "k.json").write_text("{")
    for call in (lambda: keeper.read("k", what="the notes"), lambda: add(keeper, b=2)):
        with pytest.raises(StoreError, match="^The notes cannot be read: .*k.json") as error:
            call()
        assert "remove it" in error.value.hint
    (keeper.folder / "k.json").unlink()
    assert add(keeper, b=2) == {"b": 2}


def test_a_read_only_store_refuses(tmp_path):
    add(Keeper(Store.open(tmp_path), "notes"), a=1)
    locked = Keeper(Store.open(tmp_path, read_only=True), "notes")
    assert locked.read("k", what="the notes") == {"a": 1}
    with pytest.raises(ReadOnlyStoreError):
        add(locked, b=1)


def _count(path, name, start):
    keeper = Keeper(Store.open(path), "notes")
    start.wait()
    for _ in range(25):
        keeper.change("k", lambda old: {"n": (old or {"n": 0})["n"] + 1}, what="the notes")


@pytest.mark.parametrize(("names", "are_processes"), [("ab", True), ("abcd", False)])
def test_processes_and_threads_do_not_lose_each_others(tmp_path, at_once, names, are_processes):
    at_once(_count, tmp_path, names, are_processes=are_processes)
    assert Keeper(Store.open(tmp_path), "notes").read("k", what="the notes") == {"n": 25 * len(names)}
