"""Lanes and jobs: order, topics, cancelling, progress, threads."""

import gc
import subprocess
import sys
import threading
import time
import weakref

import pytest

from workbench.core.errors import CancelledError
from workbench.session.lane import Lane, current_job


@pytest.fixture
def lane():
    with Lane("test") as lane:
        yield lane


def held(lane):
    """Keep the lane busy until the event is set."""
    begun, go = threading.Event(), threading.Event()

    def hold():
        begun.set()
        go.wait(5)
        return "held"

    job = lane.submit(hold)
    assert begun.wait(5)
    return job, go


def test_jobs_run_one_at_a_time_in_order_on_one_thread(lane):
    seen, threads, inside = [], set(), []

    def work(i):
        inside.append(i)
        assert len(inside) == 1
        time.sleep(0.002)
        threads.add(threading.current_thread())
        seen.append(i)
        inside.pop()
        return i * i

    jobs = [lane.submit(work, i) for i in range(7)]
    assert [job.result(5) for job in jobs] == [i * i for i in range(7)]
    assert seen == list(range(7)) and len(threads) == 1
    assert threading.current_thread() not in threads


def test_a_failing_job_hands_on_its_error_and_the_lane_lives(lane):
    job = lane.submit(lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        job.result(5)
    assert job.state == "failed" and isinstance(job.error, ZeroDivisionError)
    assert lane.run(lambda: 5) == 5


def test_a_newer_job_of_a_topic_replaces_the_waiting_and_cancels_the_running(lane):
    begun, ended = threading.Event(), []

    def slow(progress):
        progress.start("slow", 1000)
        begun.set()
        for _ in range(1000):
            time.sleep(0.005)
            progress.step()

    running = lane.submit(slow, topic="detail")
    assert begun.wait(5)
    newer = lane.submit(ended.append, "newer", topic="detail")
    newer.result(5)
    assert running.state == "cancelled"

    blocker, go = held(lane)
    other = lane.submit(lambda: "other")
    waiting = [lane.submit(ended.append, i, topic="detail") for i in range(200)]
    go.set()
    waiting[-1].result(5)
    assert other.result(5) == "other" and ended == ["newer", 199]
    assert [job.state for job in waiting[:-1]] == ["cancelled"] * 199
    with pytest.raises(CancelledError):
        waiting[0].result(5)


def test_topics_do_not_disturb_one_another(lane):
    blocker, go = held(lane)
    a = lane.submit(lambda: "a", topic="a")
    b = lane.submit(lambda: "b", topic="b")
    assert [job.state for job in lane.jobs] == ["running", "waiting", "waiting"]
    go.set()
    assert (blocker.result(5), a.result(5), b.result(5)) == ("held", "a", "b")


def test_progress_is_handed_in_and_reported(lane):
    shares = []

    def work(n, *, progress):
        progress.start("parts", n)
        for _ in range(n):
            progress.step()
        return current_job()

    blocker, go = held(lane)
    job = lane.submit(work, 4)
    job.on_progress(lambda progress: shares.append(progress.share))
    go.set()
    assert job.result(5) is job
    assert shares == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert job.progress.title == "parts" and current_job() is None


def test_work_from_within_runs_inline(lane):
    def outer():
        inner = lane.submit(lambda: threading.current_thread().name)
        assert inner.is_done
        return inner.result(0), lane.run(lambda: threading.current_thread().name), threading.current_thread().name

    assert len(set(lane.run(outer))) == 1


def test_a_job_that_waits_for_another_lane_lends_its_progress_and_stops_with_it(lane):
    begun = threading.Event()

    def deep(progress):
        progress.start("deep", 1000)
        begun.set()
        for _ in range(1000):
            time.sleep(0.005)
            progress.step()

    with Lane("widget") as mine:
        job = mine.submit(lambda: lane.run(deep))
        assert begun.wait(5)
        assert job.progress.title == "deep"
        started = time.monotonic()
        job.cancel()
        assert job.wait(5) and job.state == "cancelled"
        assert time.monotonic() - started < 0.5

        blocker, go = held(lane)  # the same while the other lane has not even begun
        job = mine.submit(lambda: lane.run(deep))
        while job.state == "waiting":
            time.sleep(0.005)
        job.cancel()
        assert job.wait(5) and job.state == "cancelled"
        go.set()


def test_callbacks_come_at_the_end_and_their_errors_do_no_harm(lane):
    seen = []
    job = lane.submit(lambda: 3)
    job.result(5)
    job.add_done_callback(lambda job: seen.append(job.state))
    blocker, go = held(lane)
    late = lane.submit(lambda: 4)
    late.add_done_callback(lambda job: 1 / 0)
    late.add_done_callback(lambda job: seen.append(job.result(0)))
    go.set()
    lane.run(lambda: None)
    assert seen == ["done", 4]


def test_ctrl_c_cancels_the_job_that_is_waited_for(lane, monkeypatch):
    begun, stopped = threading.Event(), threading.Event()

    def slow(progress):
        begun.set()
        try:
            progress.start("slow", 1000)
            while True:
                time.sleep(0.005)
                progress.step()
        finally:
            stopped.set()

    from workbench.session import lane as module

    real, calls = module.Job.wait, []

    def interrupted(self, timeout=None):
        calls.append(timeout)
        if len(calls) == 1:
            begun.wait(5)
            raise KeyboardInterrupt
        return real(self, timeout)

    monkeypatch.setattr(module.Job, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        lane.run(slow)
    assert stopped.is_set()


def test_closing_cancels_what_is_left_and_refuses_more():
    lane = Lane("short")
    blocker, go = held(lane)
    waiting = lane.submit(lambda: 1)
    lane.close()
    go.set()
    with pytest.raises(CancelledError):
        waiting.result(5)
    with pytest.raises(CancelledError, match="closed"):
        lane.submit(lambda: 1)
    assert "closed" in repr(lane) and "cancelled" in repr(waiting)


def test_an_unused_lane_ends_its_thread_and_results_are_not_kept(lane):
    class Large:
        pass

    large = Large()
    trace = weakref.ref(large)
    lane.run(lambda thing: None, large)
    lane.run(lambda: None)
    del large
    gc.collect()
    assert trace() is None

    lost = Lane("lost")
    thread = lost.run(threading.current_thread)
    del lost
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()


def test_an_idle_lane_does_not_keep_the_process():
    code = "from workbench.session.lane import Lane; lane = Lane(); assert lane.run(int) == 0; lane.submit(int)"
    started = time.monotonic()
    subprocess.run([sys.executable, "-c", code], check=True, timeout=20)
    assert time.monotonic() - started < 15


def test_results_wait_no_longer_than_asked(lane):
    blocker, go = held(lane)
    with pytest.raises(TimeoutError, match="still running"):
        blocker.result(0.01)
    go.set()
    assert "done" in repr(blocker) or blocker.wait(5)


# What is told of jobs -------------------------------------------------------------------------------------------------


def test_facts_tell_what_runs_waits_and_has_ended(lane):
    lane.submit(lambda: 1 / 0, title="fails").wait(5)
    job, go = held(lane)
    waiting = lane.submit(int, title="later")
    running, queued, failed = lane.facts()
    assert (running.number, running.state, running.title) == (job.number, "running", "hold") and running.seconds > 0
    assert (queued.number, queued.state, queued.seconds) == (waiting.number, "waiting", 0)
    assert failed.has_ended and failed.error["message"].startswith("ZeroDivisionError") and failed.ended > 0
    assert "Traceback" in failed.error["trace"]
    assert lane.cancel(waiting.number) and waiting.state == "cancelled" and not lane.cancel(12345)
    go.set()
    assert job.result(5) == "held" and waiting.wait(5)
    lane.run(int)
    assert [one.state for one in lane.facts()] == ["done", "cancelled", "done", "failed"]
    assert not lane.cancel(job.number)


def test_facts_of_many_jobs_are_bounded_and_keep_nothing_alive(lane):
    class Large:
        pass

    large = Large()
    trace = weakref.ref(large)

    def fail(thing):
        raise ValueError("no")

    lane.submit(fail, large, title="_some_work").wait(5)
    del large
    for _ in range(70):
        lane.run(int)
    gc.collect()
    assert trace() is None and len(lane.facts()) == 50
    assert {one.title for one in lane.facts()} == {"int"}


def test_listeners_hear_of_each_change_and_do_no_harm(lane, caplog):
    heard = []
    undo = lane.listen(lambda: heard.append([one.state for one in lane.facts()][:1]))
    lane.listen(lambda: 1 / 0)

    def work(progress):
        progress.start("work", 2)
        progress.step()
        progress.step()

    lane.submit(work).wait(5)
    lane.run(int)
    states = [states[0] for states in heard if states]
    assert states[0] in ("waiting", "running") and states[-1] == "done" and states.count("running") >= 3
    assert "A listener" in caplog.text
    undo()
    undo()
    n = len(heard)
    lane.run(int)
    assert len(heard) == n


def test_work_that_another_job_waits_for_is_told_under_its_title(lane):
    titles = set()
    lane.listen(lambda: titles.update(one.title for one in lane.facts()))
    with Lane("outer") as outer:

        def wait(progress):
            for _ in range(3):
                lane.run(int)
            return len(progress.listeners)

        job = outer.submit(wait, title="Sweep of 3 layers")
        assert job.result(5) == 1  # the lane that lent it has stopped listening; its own goes on
    assert "Sweep of 3 layers" in titles


def test_a_progress_that_is_handed_on_is_not_mirrored_to_itself(lane):
    from workbench.session.shown import shown

    def work(progress=None):
        with shown(progress, progress):
            progress.start("layers", 3)
            progress.step(2)
        return progress.done

    assert lane.submit(work).result(5) == 2
