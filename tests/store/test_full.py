"""A full disk: noticed wherever it strikes, with nothing left behind and nothing lost."""

import errno
import json
import os
import subprocess
import sys

import pytest
import torch

from workbench.core.errors import ReadOnlyStoreError, StoreError, StoreFullError
from workbench.store import DiskStore, Store, tiered
from workbench.testing.store_suite import BOUNDS, hundred_kb, recipe


def leftovers(store) -> list[str]:
    return [p.name for p in store.path.rglob(".tmp-*")] + [p.name for p in (store.path / "locks").glob("*")]


class Disk:
    """Lets a number of bytes through `os.write`, then says that the disk is full. Half of the last write arrives."""

    def __init__(self, monkeypatch, room: int, code: int = errno.ENOSPC):
        self.room, self.code, self.write = room, code, os.write
        monkeypatch.setattr(os, "write", self)

    def __call__(self, fd, data):
        if len(data) > self.room:
            if not self.room:
                raise OSError(self.code, os.strerror(self.code))
            data = data[: self.room]
        self.room -= len(data)
        return self.write(fd, data)


@pytest.fixture
def store(tmp_path):
    store = DiskStore(tmp_path / "store")
    store.put(recipe(), hundred_kb(0))
    return store


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
@pytest.mark.parametrize("room", [0, 7, 1_000, 60_000, 100_400], ids="{} bytes".format)
def test_whatever_is_full_the_entry_is_absent_and_the_others_intact(store, monkeypatch, room, code):
    with monkeypatch.context() as patch:
        Disk(patch, room, code)
        with pytest.raises(StoreFullError, match="What was stored before is intact"):
            store.put(recipe(1), hundred_kb(1))
        with pytest.raises(StoreFullError):
            store.put(recipe(), hundred_kb(9))  # in place of an older one
    assert leftovers(store) == [] and store.verify() == []
    assert store.get(recipe(1)) is None and store.get(recipe())["values"][0] == 0
    store.put(recipe(1), hundred_kb(1))
    assert store.get(recipe(1))["values"][0] == 1


@pytest.mark.parametrize("name", ["fsync", "open", "replace", "mkdir"])
def test_every_step_may_be_the_one_that_fails(store, monkeypatch, name):
    """Delayed allocation reports a full disk at the sync; a full folder, when a name is added."""
    n_calls = 0
    while True:
        allowed, original = n_calls, getattr(os, name)
        with monkeypatch.context() as patch:

            def fails(*arguments, original=original, **options):
                nonlocal allowed
                allowed -= 1
                if allowed < 0 and ".owner" not in str(arguments[0]):
                    raise OSError(errno.ENOSPC, "No space left on device")
                return original(*arguments, **options)

            patch.setattr(os, name, fails)
            try:
                store.put(recipe(n_calls + 1, kind=name), hundred_kb(1))
                break
            except StoreFullError:
                pass
        assert leftovers(store) == [] or name == "open" and n_calls == 0
        assert store.verify() == [] and store.get(recipe())["values"][0] == 0
        n_calls += 1
        assert n_calls < 30
    assert n_calls >= 1


def test_a_full_disk_costs_one_shard(store, monkeypatch):
    shards = store.shards(recipe(kind="pass"), BOUNDS)
    shards.write(0, {"v": torch.zeros(3)})
    with monkeypatch.context() as patch, shards.lock():
        Disk(patch, 100)
        with pytest.raises(StoreFullError):
            shards.write(1, {"v": torch.zeros(2)})
    assert shards.missing == [1, 2] and leftovers(store) == []
    for i in (1, 2):
        shards.write(i, {"v": torch.zeros(BOUNDS[i][1] - BOUNDS[i][0])})
    with monkeypatch.context() as patch:
        Disk(patch, 0)
        with pytest.raises(StoreFullError):
            shards.seal()
    assert shards.sealed is None and not shards.is_complete
    shards.seal()
    assert shards.is_complete


def test_what_was_computed_is_not_lost(tmp_path, monkeypatch):
    store, made = Store.open(tmp_path / "store"), []

    def make():
        made.append(1)
        return hundred_kb(5), {"n_samples": 3}

    with monkeypatch.context() as patch:
        Disk(patch, 400)
        with pytest.raises(StoreFullError, match="kept in memory: ask again"):
            store.get_or_make(recipe(), make)
        for _ in range(2):
            assert store.get_or_make(recipe(), make)["values"][0] == 5
        assert store.explain(recipe()).endswith("in memory only") and store.meta(recipe()) == {"n_samples": 3}
    monkeypatch.setattr(tiered, "_TELL_DISK_S", 0)
    store.get_or_make(recipe(), make)
    assert made == [1] and store.explain(recipe()).endswith("on disk")
    assert DiskStore(store.path).get(recipe())["values"][0] == 5


@pytest.mark.parametrize(
    ("code", "kind"),
    [(errno.EROFS, ReadOnlyStoreError), (errno.EACCES, ReadOnlyStoreError), (errno.EIO, StoreError)],
    ids=str,
)
def test_other_errors_of_the_disk_are_told_apart(store, monkeypatch, code, kind):
    with monkeypatch.context() as patch:
        Disk(patch, 0, code)
        with pytest.raises(kind, match=os.strerror(code)) as error:
            store.put(recipe(1), hundred_kb(1))
    assert type(error.value) is kind and error.value.__cause__.errno == code


@pytest.mark.skipif(sys.platform == "win32", reason="needs resource limits")
def test_a_limit_of_the_system_is_noticed(store):
    """Not simulated: the kernel itself refuses the write."""
    code = """
import json, resource, sys
import numpy
from workbench.core.errors import StoreFullError
from workbench.store import DiskStore, Recipe
store, recipe = DiskStore(sys.argv[1]), Recipe.from_json(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
try:
    store.put(recipe.but(seed=1), {"values": numpy.zeros(100_000)})
except StoreFullError as error:
    print(type(error.__cause__).__name__, error.__cause__.errno, error.hint)
store.put(recipe.but(seed=2), {"values": numpy.zeros(1_000)})
"""
    done = subprocess.run(
        [sys.executable, "-c", code, store.path, json.dumps(recipe().to_json())], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"OSError {errno.EFBIG} What was stored before is intact.")
    assert leftovers(store) == [] and store.verify() == []
    assert [store.get(recipe(n)) is not None for n in range(3)] == [True, False, True]
