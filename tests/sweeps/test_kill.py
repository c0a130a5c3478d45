"""A sweep that is killed at any moment goes on to exactly the result of one that was not."""

from __future__ import annotations

import multiprocessing
import random
import time

import pytest
import torch

from workbench.attribution.base import Target
from workbench.attribution.rules import composite
from workbench.core.errors import StoreError
from workbench.store import Store
from workbench.sweeps.plan import plan_sweep
from workbench.sweeps.references import Block, top_references
from workbench.sweeps.tables import find_pass
from workbench.testing.context import SmallData, sweep_small
from workbench.testing.nets import BiasFree, handle_of, randomised

N = 1100
KILLS = 24


@pytest.fixture(scope="module")
def processes():
    """A server that has imported everything once and forks from there."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["workbench.testing.context", "workbench.sweeps.run", "workbench.testing.nets"])
    return context


@pytest.fixture(scope="module")
def facts():
    handle, data = handle_of(randomised(BiasFree()), (3, 10, 8)), SmallData(N, bad=[3, 200])
    plan = plan_sweep(handle, data, ["features.4", "head"], rule=composite("EpsilonPlusFlat"), target=Target.top())
    return handle, data, plan


def content(path, facts):
    """Everything that can be read of a finished sweep, as bytes."""
    handle, data, plan = facts
    store = Store.open(path)
    shards = store.shards(plan.recipe)
    assert shards.is_complete and shards.done == list(range(len(plan.bounds))) and store.verify() == []
    assert shards.sealed["skipped"] == 2
    found = {name: shards.column(name).numpy().tobytes() for name in shards.names}
    for kind in ("activations", "relevances"):
        linked = find_pass(store, kind, handle.fingerprint, data.fingerprint, N, "head", rule=plan.rule, target="top")
        assert linked.extent == "all"
        column = "head|max" if kind == "activations" else "head|relevance"

        def blocks(linked=linked, column=column):
            for b in linked.blocks([column]):
                yield Block(b[column], b["sample"], b["is_valid"])

        ids, values = top_references(blocks(), data.origins, 40)
        found[kind] = ids.numpy().tobytes() + values.numpy().tobytes()
    return found


def test_killed_at_random_points_it_resumes_to_the_same_bytes(processes, facts, tmp_path):
    _, _, plan = facts

    def start(path):
        started = processes.Event()
        # A wait after each of the 69 batches, so that kills find all stages of the sweep, on fast machines too.
        options = {"started": started, "seconds_per_batch": 0.006}
        child = processes.Process(target=sweep_small, args=(str(path), N), kwargs=options)
        child.start()
        assert started.wait(60)
        return child

    child, began = start(tmp_path / "whole"), time.monotonic()
    child.join(60)
    whole, seconds = content(tmp_path / "whole", facts), time.monotonic() - began
    chance, n_kills, points = random.Random(7), 0, set()
    for number in range(KILLS):
        path, exitcode = tmp_path / f"killed-{number}", None
        while exitcode != 0:
            child = start(path)
            child.join(chance.uniform(0, 0.6) * seconds)
            child.kill()
            child.join(30)
            exitcode = child.exitcode
            if exitcode == 0:  # it had ended before
                break
            n_kills += 1
            shards = Store.open(path).shards(plan.recipe, plan.bounds)
            points.add(len(shards.present))
            for i in shards.present:  # readers see complete shards only
                part = shards.read(i)
                assert part["sample"].tolist() == list(range(*plan.bounds[i]))
                assert torch.isfinite(part["head|max"][part["is_valid"]]).all()
        again = content(path, facts)
        assert list(again) == list(whole)
        for name in whole:
            assert again[name] == whole[name], f"{name} differs after {n_kills} kills"
        assert [p for p in path.rglob("*") if "tmp" in p.name and not p.name.startswith(".")] == []
        if n_kills >= KILLS and len(points) >= 4:
            break
    assert n_kills >= KILLS and len(points) >= 4, f"{n_kills} kills, with {sorted(points)} shards present"


def test_two_processes_at_once_give_one_right_result(processes, facts, tmp_path):
    path = str(tmp_path / "store")
    sweep_small(str(tmp_path / "whole"), N)
    events = [processes.Event(), processes.Event()]
    children = [
        processes.Process(target=sweep_small, args=(path, N), kwargs={"started": e, "seconds_per_batch": 0.005})
        for e in events
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert sorted(c.exitcode for c in children) in ([0, 0], [0, 1]), "the second waits or is told"
    if 1 in [c.exitcode for c in children]:
        sweep_small(path, N)  # nothing left to do
    assert content(path, facts) == content(tmp_path / "whole", facts)


def test_a_dead_process_s_lock_is_no_obstacle_and_a_living_one_s_is_named(processes, facts, tmp_path):
    path, plan = str(tmp_path / "store"), facts[2]
    started = processes.Event()
    child = processes.Process(
        target=sweep_small, args=(path, N), kwargs={"started": started, "seconds_per_batch": 0.05}
    )
    child.start()
    try:
        assert started.wait(60)
        store, pid = Store.open(path), child.pid
        for _ in range(200):
            if (tmp_path / "store" / "passes" / plan.recipe.digest).exists():
                break
            time.sleep(0.02)
        with pytest.raises(StoreError, match=str(pid)):
            sweep_small(path, N)
    finally:
        child.kill()
        child.join(30)
    sweep_small(path, N)
    assert store.shards(plan.recipe).is_complete
