"""What a session tells of its jobs, its memory, and what is stored of each layer."""

import time

import pytest
import torch

import workbench as wb
from workbench.core.errors import CancelledError
from workbench.core.progress import SilentProgress
from workbench.session.lane import Lane
from workbench.session.memory import memory_of
from workbench.store import MemoryStore
from workbench.sweeps.tables import table_recipe
from workbench.testing.small import Nap, drowsy_net, small_data


def test_jobs_are_told_and_can_be_cancelled(small):
    heard = []
    undo = small.on_jobs(lambda: heard.append(small.jobs()))
    small.sweep(["a"], relevance=False)
    undo()
    assert any(one.state == "running" and one.title == "sweep" and 0 < one.share < 1 for jobs in heard for one in jobs)
    assert small.jobs()[0].state == "done" and not small.cancel(small.jobs()[0].number)


def test_a_sweep_within_a_job_reports_through_it_alone(small):
    seen = []

    def work(progress):
        progress.listeners.append(lambda one: seen.append((one.done, one.total)))
        small.sweep(["a"], relevance=False, progress=progress)

    with Lane("widget") as lane:
        lane.submit(work, title="Sweep of a").result(60)
    steps = [done for done, _ in seen]
    assert steps == sorted(steps) and seen[-1][0] <= seen[-1][1]  # each step is counted once
    assert small.jobs()[0].title == "Sweep of a"
    told = SilentProgress()
    small.sweep(["a", "b"], relevance=False, progress=told)  # outside of jobs it is mirrored as before
    assert told.done == told.total > 0


def test_memory_names_tiers_with_what_they_may_take(small):
    found = small.memory()
    assert {"memory", "disk", "host"} <= set(found)
    for tier in found.values():
        assert tier["bytes"] >= 0 and (tier["budget_bytes"] is None or tier["budget_bytes"] > 0)
    assert {"hits", "misses"} <= set(found["disk"])
    assert "device" not in memory_of(torch.device("cpu"))


def test_what_is_stored_of_each_layer(small):
    nothing = small.stored()
    assert set(nothing) == {name for name, one in small.layers().items() if one.n_calls == 1}
    assert all(one.coverage == 0 and one.bytes == 0 for one in nothing.values())
    planned = small.plan(["a"], relevance=False)
    assert small.swept(planned) == 0
    small.sweep(["a"], relevance=False)
    found = small.stored()
    assert (found["a"].activations, found["a"].relevances, found["a"].references) == (1, 0, 1)
    assert found["a"].bytes > 0 and not found["a"].is_unfinished and found["b"].coverage == 0
    assert small.swept(planned) == 1
    small.sweep(["b"], samples=6)
    half = small.stored()["b"]
    assert half.activations == half.relevances == 0.25
    small.sweep(["b"], keep="references")
    both = small.stored()["b"]
    assert both.activations == 0.25 and both.references == 1 and both.bytes > half.bytes


def test_what_is_stored_agrees_with_what_tables_say(small):
    small.sweep(["a", "b"], samples=12)
    found = small.stored()
    for layer in ("a", "b"):
        assert small.activations(layer).coverage == found[layer].activations
        assert small.relevances(layer).coverage == found[layer].relevances


def test_a_sweep_that_was_stopped_says_how_far_it_came(open_small):
    class Stops(SilentProgress):
        def step(self, n=1, *, note=""):
            super().step(n, note=note)
            if self.done >= 200:
                self.token.cancel()

    session = open_small(data=small_data(300))
    planned = session.plan(["a"], relevance=False)
    with pytest.raises(CancelledError):
        session.sweep(["a"], relevance=False, progress=Stops())
    share = session.swept(planned)
    assert 0 < share < 1 and session.stored()["a"].activations == share and session.stored()["a"].is_unfinished
    session.sweep(["a"], relevance=False)
    assert session.swept(planned) == 1 and not session.stored()["a"].is_unfinished


def test_work_can_be_given_a_title(small):
    small.submit(int, title="A number").wait(5)
    assert small.jobs()[0].title == "A number"


@pytest.mark.parametrize("where", ["disk", "memory"])
def test_layers_whose_pass_was_displaced_are_still_seen(open_small, where):
    session = open_small(**({} if where == "disk" else {"store": MemoryStore()}))
    session.sweep(["a"], relevance=False)
    session.sweep(["b"], relevance=False)
    found = session.stored()
    assert found["a"].activations == found["b"].activations == 1
    linked = session.store.linked_layers(table_recipe("activations", "m@1", "d@2", "", {}))
    assert linked == (set() if where == "disk" else None)


@pytest.mark.parametrize(
    ("asked", "is_backward"),
    [*((name, way) for name in ("explain", "concept_maps", "sweep") for way in (False, True)), ("predict", False)],
)
def test_a_cancelled_job_ends_within_half_a_second_whatever_a_batch_takes(open_small, monkeypatch, asked, is_backward):
    """40 modules of 0.1 s each way: a batch takes four seconds forward and four backward."""
    session = open_small(model=drowsy_net())
    calls = {
        "explain": lambda: session.explain(3),
        "concept_maps": lambda: session.concept_maps(3, ["1.b/unit/1", "1.b/unit/2"]),
        "sweep": lambda: session.sweep(["1.b"]),
        "predict": lambda: session.predict(3),
    }
    if is_backward:  # asleep from when the seed of the backward pass is asked for
        start = wb.Target.start
        monkeypatch.setattr(
            wb.Target, "start", lambda *a, **k: (monkeypatch.setattr(Nap, "seconds", 0.1), start(*a, **k))[1]
        )
    else:
        monkeypatch.setattr(Nap, "seconds", 0.1)
    with Lane("widget") as lane:  # as widgets ask: a job that waits for the session's
        job = lane.submit(calls[asked])
        end = time.monotonic() + 10
        while not (Nap.seconds and session.jobs() and session.jobs()[0].state == "running"):
            assert time.monotonic() < end and not job.is_done
            time.sleep(0.01)
        time.sleep(0.3)
        started = time.monotonic()
        job.cancel()
        assert job.wait(5) and job.state == "cancelled"
        assert not [one for one in session.jobs() if not one.has_ended]
        assert time.monotonic() - started < 0.5
    monkeypatch.setattr(Nap, "seconds", 0.0)
    assert session.run(lambda: 1) == 1  # the lane is free, and the model has no hook left
    assert not any(m._forward_hooks for m in session.model.module.modules())
