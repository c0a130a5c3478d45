"""A process killed at any moment leaves complete results only, and no lock that lives on."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

from workbench.core.errors import StoreError
from workbench.store import DiskStore, Recipe

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")

# Writes entries, replaces them, and fills passes, for ever. What belongs into an array follows from its recipe and
# meta, so that the reader knows. numpy only: a process that imports torch takes seconds to start.
WRITER = """
import itertools, sys
import numpy as np
from workbench.store import DiskStore, Recipe

store = DiskStore(sys.argv[1], budget_bytes=30_000_000)
run = int(sys.argv[2])
print("ready", flush=True)
for n in itertools.count():
    k = n % 7
    array = np.full(40_000 + 10_000 * k, run * 1000 + n % 1000, dtype=np.int32)
    store.put(Recipe("entry", seed=k), {"a": array, "b": array[:3]}, meta={"value": run * 1000 + n % 1000})
    shards = store.shards(Recipe("pass", seed=n // 10 % 3), [(i * 9, i * 9 + 9) for i in range(10)])
    with shards.lock():
        for i in shards.missing[:2]:
            shards.write(i, {"v": np.full((9, 5000), i, dtype=np.float32)}, {"shard": i})
        if not shards.missing and shards.sealed is None:
            shards.seal({"n": 90})
    if n % 40 == 39:
        store.delete(Recipe("pass", seed=(n // 40) % 3))
"""

# Does one operation again and again in forked children; child k dies before its k-th system call that changes the disk.
STEPS = """
import os, signal, sys, json
import numpy as np
from workbench.store import DiskStore, Recipe
import filelock, concurrent.futures, safetensors

root, what = sys.argv[1:]
recipe = Recipe("x")

def operate(store, value):
    array = np.full(300_000 if what == "large" else 100, value, dtype=np.int32)
    if what == "shard":
        shards = store.shards(recipe, [(0, 100), (100, 200)])
        shards.write(1, {"a": array}, {"value": value})
    elif what == "seal":
        store.shards(recipe, [(0, 100), (100, 200)]).seal({"value": value})
    elif what == "delete":
        store.delete(recipe)
    else:
        store.put(recipe, {"a": array}, meta={"value": value})

def dying(k):
    left = [k]
    def wrap(name):
        original = getattr(os, name)
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                if name == "write":
                    original(arguments[0], arguments[1][: len(arguments[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments, **options)
        setattr(os, name, call)
    for name in ("open", "write", "fsync", "replace", "unlink", "mkdir", "close"):
        wrap(name)

k, states = 0, []
while True:
    path = f"{root}/{k}"
    if what != "fresh":
        store = DiskStore(path)
        store.put(recipe.but(seed=1), {"a": np.zeros(3)})
        if what in ("replace", "delete", "large"):
            store.put(recipe, {"a": np.full(100, 1, dtype=np.int32)}, meta={"value": 1})
        if what in ("shard", "seal"):
            shards = store.shards(recipe, [(0, 100), (100, 200)])
            for i in range(1 + (what == "seal")):
                shards.write(i, {"a": np.full(100, 1, dtype=np.int32)}, {"value": 1})
    child = os.fork()
    if not child:
        dying(k)
        operate(DiskStore(path), 2)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    states.append(path)
    if status == 0:
        break
    assert os.WTERMSIG(status) == signal.SIGKILL, status
    k += 1
print(json.dumps(states))
"""


@pytest.mark.parametrize("what", ["fresh", "put", "replace", "large", "shard", "seal", "delete"])
def test_it_may_die_before_every_single_step(tmp_path, what):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", STEPS, tmp_path, what], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    paths = json.loads(done.stdout)
    assert len(paths) > (8 if what != "delete" else 3), "each of the steps was the last one once"
    seen = []
    for path in paths:
        store, recipe = DiskStore(path), Recipe("x")
        assert store.verify() == [], path
        if what in ("shard", "seal"):
            shards = store.shards(recipe)
            seen.append((tuple(shards.missing), shards.sealed is not None))
            for i in shards.done:
                value = shards.shard_meta(i)["value"]
                assert shards.read(i)["a"].tolist() == [value] * 100
            for i in shards.missing:  # and on it goes
                shards.write(i, shards.read(0))
            shards.seal()
        else:
            found = store.get(recipe)
            value = store.meta(recipe)["value"] if found is not None else None
            seen.append(value)
            assert found is None or set(found["a"].tolist()) == {value}
            assert store.get_or_make(recipe, lambda: {"a": torch.zeros(1)}), "and on it goes"
        if what != "fresh":
            assert store.get(recipe.but(seed=1)) is not None
        store.prune()
        left = [p.name for p in store.path.rglob(".tmp-*")]
        assert left == [], f"left over after the next look: {left}"
    before, after = {
        "fresh": (None, 2),
        "put": (None, 2),
        "replace": (1, 2),
        "large": (1, 2),
        "shard": (((1,), False), ((), False)),
        "seal": (((), False), ((), True)),
        "delete": (1, None),
    }[what]
    assert seen[0] == before and seen[-1] == after
    assert [s for s, t in zip(seen, seen[1:], strict=False) if s != t] == [before], "there is one moment, and one only"


def test_killed_at_random_it_leaves_complete_results_only(tmp_path):
    """At least twenty kills on one store. Nothing is damaged, and every array is what its recipe and meta say."""
    rng, survivors = random.Random(7), []
    path = tmp_path / "store"
    for run in range(24):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, path, str(run)], stdout=subprocess.PIPE, text=True)
        assert writer.stdout.readline() == "ready\n"
        time.sleep(rng.uniform(0, 0.12))
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
        store = DiskStore(path)
        assert store.verify() == []
        n_found = 0
        for k in range(7):
            recipe = Recipe("entry", seed=k)
            if (found := store.get(recipe)) is not None:
                value = store.meta(recipe)["value"]
                assert set(found["a"].tolist()) == {value} and len(found["a"]) == 40_000 + 10_000 * k
                assert found["b"].tolist() == [value] * 3
                n_found += 1
        for k in range(3):
            if Recipe("pass", seed=k) in store:
                shards = store.shards(Recipe("pass", seed=k))
                column = shards.column("v") if shards.present else None
                for i in shards.done:
                    assert (column[i * 9 : i * 9 + 9] == i).all() and shards.shard_meta(i) == {"shard": i}
                assert shards.sealed is None or shards.is_complete
                with shards.lock():
                    n_found += len(shards.done)
        survivors.append(n_found)
    assert survivors[-1] > 0 and store.stats()["disk"]["damaged"] == 0
    store.prune()
    assert not list(path.rglob(".tmp-*")) and not list((path / "locks").iterdir())


HOLDER = """
import sys, time
import numpy as np
from workbench.store import DiskStore, Recipe
store = DiskStore(sys.argv[1])
shards = store.shards(Recipe("pass"), [(0, 3), (3, 5)])
with shards.lock():
    shards.write(0, {"v": np.zeros(3)})
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_living_writer_is_respected_and_a_dead_one_succeeded(tmp_path, caplog):
    store = DiskStore(tmp_path / "store")
    writer = subprocess.Popen([sys.executable, "-c", HOLDER, store.path], stdout=subprocess.PIPE, text=True)
    try:
        assert writer.stdout.readline() == "held\n"
        shards = store.shards(Recipe("pass"))
        assert shards.present == [0], "readers see what is complete"
        for write in (
            lambda: shards.write(1, {"v": torch.zeros(2)}),
            lambda: shards.lock().__enter__(),
            lambda: store.delete(Recipe("pass")),
        ):
            with pytest.raises(StoreError, match=rf"being written by process {writer.pid} on .*, for \d+ s"):
                write()
        store.prune(max_bytes=0)
        store.clean(everything=True)
        assert shards.present == [0], "an unfinished pass whose writer lives is never dropped"
    finally:
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        writer.stdout.close()
    with caplog.at_level("INFO"), shards.lock():
        shards.write(1, {"v": torch.zeros(2)})
    assert f"process {writer.pid}" in caplog.text and "taken over" in caplog.text
    assert shards.missing == []
    assert len(store.prune(max_bytes=0)) == 1


MAKER = """
import os, sys, time
import numpy as np
from workbench.store import DiskStore, Recipe
store, note = DiskStore(sys.argv[1]), sys.argv[2]

def make():
    with open(note, "a") as file:
        file.write("made\\n")
    time.sleep(float(sys.argv[3]))
    return {"a": np.arange(3)}

print("ready", flush=True)
sys.stdin.readline()
store.get_or_make(Recipe("shared"), make)
"""


def start_maker(path, note, seconds):
    maker = subprocess.Popen(
        [sys.executable, "-c", MAKER, path, note, str(seconds)],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        text=True,
    )
    assert maker.stdout.readline() == "ready\n"
    return maker


def end(process):
    process.stdin.close()
    process.stdout.close()
    return process.wait(timeout=60)


def test_processes_make_it_once(tmp_path):
    note = tmp_path / "note"
    makers = [start_maker(tmp_path / "store", note, 0.3) for _ in range(3)]
    for maker in makers:
        maker.stdin.write("\n")
        maker.stdin.flush()
    assert [end(maker) for maker in makers] == [0, 0, 0]
    assert note.read_text() == "made\n"
    assert DiskStore(tmp_path / "store").get(Recipe("shared"))["a"].tolist() == [0, 1, 2]


def test_when_the_maker_dies_the_next_one_makes_it(tmp_path):
    note = tmp_path / "note"
    first, second = (start_maker(tmp_path / "store", note, s) for s in (60, 0))
    first.stdin.write("\n")
    first.stdin.flush()
    deadline = time.monotonic() + 30
    while not note.exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    second.stdin.write("\n")
    second.stdin.flush()
    time.sleep(0.2)
    assert second.poll() is None, "it waits while the first one lives"
    os.kill(first.pid, signal.SIGKILL)
    assert end(second) == 0 and end(first) == -signal.SIGKILL
    assert note.read_text() == "made\nmade\n"
    assert DiskStore(tmp_path / "store").get(Recipe("shared")) is not None
