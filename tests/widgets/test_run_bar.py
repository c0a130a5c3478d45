"""RunBar: the contract, jobs and their progress, pacing, cancelling, the last error, memory; on a page too."""

import threading
import time

import pytest

from workbench.core.errors import BadValueError, CancelledError, StoreError
from workbench.session.deliver import flush
from workbench.testing.browser import WidgetPage
from workbench.testing.page_suite import PageSuite, needs_browser
from workbench.testing.widget_suite import HOSTILE, Page, WidgetSuite
from workbench.widgets import RunBar
from workbench.widgets.pacing import Paced


class TestContract(WidgetSuite):
    n_bytes = 10_000
    changes = {"is_open": True, "height": 200}

    def make(self, session, **view):
        return RunBar(session, **view)


class TestPage(PageSuite):
    kind = "run"

    def make(self, session, **view):
        return RunBar(session, **{"is_open": True, **view})

    def test_a_linked_pair_follows_without_kernel(self, exports):
        # A bar shows no component or sample; two of them are open and closed each for itself.
        opened = exports.opened(n=2)
        left, right = opened.page.locator(".wb-run").all()
        left.locator('button:text("Details")').click()
        assert left.locator(".wb-run-details").is_hidden() and right.locator(".wb-run-details").is_visible()
        assert opened.errors == [] and opened.asked_for == []

    def test_jobs_of_the_past_cannot_be_cancelled(self, chrome, session, tmp_path):
        begun, go = threading.Event(), threading.Event()
        session.submit(lambda: (begun.set(), go.wait(10)), title="A long one")
        assert begun.wait(5)
        with self.exported(chrome, session, tmp_path / "page.html") as opened:
            go.set()
            text = opened.page.locator(".wb-run").inner_text()
            assert "A long one" in text and opened.page.locator('.wb-run button:text("Cancel"):visible').count() == 0


@pytest.fixture
def bar(session):
    made = RunBar(session)
    assert made.wait()
    yield made
    made.close()


def until(test, seconds=10.0):
    end = time.monotonic() + seconds
    while not test():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


def steps(n, pause=0.0):
    def work(progress):
        progress.start("Steps", n)
        for i in range(n):
            time.sleep(pause)
            progress.step(note=f"step {i}")

    return work


def test_an_idle_bar_shows_memory_and_does_nothing(bar, session):
    assert bar.jobs == {"live": [], "ended": [], "n_waiting": 0} and bar.table().empty
    assert [tier["name"] for tier in bar.tiers["tiers"]] == ["memory", "disk", "host"]
    assert bar.tiers["tiers"][0]["hits"] == 40 and bar.tiers["tiers"][2]["hits"] is None
    session.asked.clear()
    threads = threading.active_count()
    time.sleep(0.6)
    assert session.asked == [] and threading.active_count() <= threads and not bar._look.is_waiting


def test_jobs_are_seen_with_their_progress_and_in_order(bar, session):
    first = session.submit(steps(200, 0.005), title="first")
    session.submit(steps(1), title="second")
    third = session.submit(steps(1), title="third")
    until(lambda: bar.jobs["live"] and bar.jobs["live"][0]["share"] > 0.2)
    assert [job["title"] for job in bar.jobs["live"]] == ["first", "second", "third"] and bar.jobs["n_waiting"] == 2
    running = bar.table().loc[first.number]
    assert running["state"] == "running" and "Steps · step" in running["note"] and running["seconds"] > 0
    until(lambda: not bar.jobs["live"])
    assert [job["title"] for job in bar.jobs["ended"]] == ["third", "second", "first"]
    assert bar.table().index[0] == third.number and set(bar.table()["state"]) == {"done"}


def test_it_looks_at_most_four_times_a_second_and_sees_the_end(bar, session):
    changes = []
    bar.observe(lambda change: changes.append(time.monotonic()), names="jobs")
    started = time.monotonic()
    session.submit(steps(2000, 0.0004), title="many").result(30)
    took = time.monotonic() - started
    until(lambda: bar.jobs["ended"] and not bar.jobs["live"])
    assert bar.jobs["ended"][0]["state"] == "done"
    assert len(changes) <= 4 * took + 3


def test_memory_is_looked_at_less_often(bar, session):
    session.asked.clear()
    session.submit(steps(100, 0.012), title="busy").result(30)
    until(lambda: not bar.jobs["live"])
    until(lambda: not bar._look.is_waiting)
    assert 1 <= sum(name == "memory" for name, _ in session.asked) <= 4


def test_each_job_can_be_cancelled(bar, session):
    running = session.submit(steps(2000, 0.005), title="running")
    waiting = session.submit(steps(1), title="waiting")
    page = Page(bar)
    assert page.ask("cancel_job", {"number": waiting.number})[0]["result"] == {"found": True}
    assert waiting.state == "cancelled"
    started = time.monotonic()
    page.ask("cancel_job", {"number": running.number})
    with pytest.raises(CancelledError):
        running.result(5)
    assert time.monotonic() - started < 0.5
    assert page.ask("cancel_job", {"number": running.number})[0]["result"] == {"found": False}
    until(lambda: bar.jobs["ended"] and not bar.jobs["live"])
    assert {job["state"] for job in bar.jobs["ended"]} == {"cancelled"}


def test_the_last_error_stays_until_it_is_forgotten(bar, session):
    def fail(message):
        raise StoreError(message, hint="Do this.")

    session.submit(fail, "The first.", title="one")
    session.submit(steps(1), title="fine")
    until(lambda: bar.error)
    assert bar.error["message"] == "The first." and bar.error["hint"] == "Do this." and bar.error["asked"] == "one"
    assert "Traceback" in bar.error["trace"] and bar.error["type"] == "StoreError"
    bar.forget_error()
    session.submit(steps(1), title="later")
    until(lambda: bar.jobs["ended"][0]["title"] == "later")
    assert bar.error == {}
    session.submit(fail, "The second.", title="two")
    until(lambda: bar.error)
    assert bar.error["message"] == "The second."
    assert bar.status == "idle" and bar._problem == {}  # another's error is not the bar's own


def test_work_of_a_widget_carries_the_widgets_title(bar, session):
    def inner(progress):
        session.run(steps(40, 0.01))

    other = RunBar(session)
    job = other.submit(inner, title="Asked by a widget")
    until(lambda: any(one["title"] == "Asked by a widget" for one in bar.jobs["live"]))
    number = bar.jobs["live"][0]["number"]
    session.cancel(number)
    with pytest.raises(CancelledError):
        job.result(5)
    other.close()


def test_a_closed_bar_listens_no_more(session):
    bar = RunBar(session)
    assert bar.wait()
    before = len(session.lane._line.listeners)
    bar.close()
    assert len(session.lane._line.listeners) == before - 1
    session.submit(steps(3)).result(5)


def test_closing_while_it_looks_is_no_error(session):
    for _ in range(30):
        bar = RunBar(session)
        bar._look()
        bar.close()
    assert flush(5)


def test_figures_and_stills_show_memory(bar, session):
    figure = bar.plot()
    assert list(figure.data[1].x) == [0.25, 9.5, 1.8]
    still = bar.snapshot()
    assert "store on disk: 9.5 GB of 20 GB" in still.pictures[0].alt
    assert any("40 found of 50" in note for note in still.notes)
    session.tiers = {"memory": {"bytes": 0, "budget_bytes": 0, "hits": 0, "misses": 0, "entries": 0}}
    session.run(int)
    until(lambda: len(bar.tiers["tiers"]) == 1)
    assert bar.snapshot().html() and bar.plot().data


def test_misuse_is_explained():
    with pytest.raises(BadValueError, match="jobs of a session"):
        RunBar(3)


def test_paced_calls_keep_their_distance_and_none_is_lost():
    times = []
    paced = Paced(lambda: times.append(time.monotonic()), 0.1)
    for _ in range(50):
        paced()
        time.sleep(0.004)
    last = time.monotonic()
    until(lambda: not paced.is_waiting)
    gaps = [b - a for a, b in zip(times, times[1:], strict=False)]
    assert 2 <= len(times) <= 5 and min(gaps) >= 0.095 and times[-1] >= last - 0.1
    paced()
    paced()
    paced.stop()
    time.sleep(0.15)
    assert len(times) <= 6


# On a page ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(chrome, session):
    bar = RunBar(session)
    assert bar.wait()
    with WidgetPage(chrome, bar, width=1100, height=600) as opened:
        opened.session, opened.bar = session, bar
        yield opened
        assert opened.errors == []
    bar.close()


class TestOnAPage:
    pytestmark = needs_browser

    def test_it_is_slim_and_unfolds(self, page):
        root = page.page.locator(".wb-run")
        assert root.bounding_box()["height"] <= 44
        assert "Nothing is running" in root.inner_text() and "250 MB" in root.inner_text()
        page.page.locator('button:text("Details")').click()
        page.settle()
        assert page.bar.is_open and "40 of 50" in page.page.locator(".wb-run-tiers").inner_text()
        assert "Nothing has run yet" in page.page.locator(".wb-run-list").inner_text()

    def test_progress_is_seen_and_cancel_is_a_button_that_keeps_the_focus(self, page):
        job = page.session.submit(steps(1000, 0.01), title=HOSTILE)
        page.until(lambda: page.page.locator('.wb-run-now [role="progressbar"]').count() == 1)
        page.until(lambda: int(page.page.locator('[role="progressbar"]').get_attribute("aria-valuenow") or 0) > 2)
        assert HOSTILE.split("\n")[0] in page.page.locator(".wb-run-now").inner_text()
        button = page.page.locator('.wb-run-now button:text("Cancel")')
        button.focus()
        share = page.bar.jobs["live"][0]["share"]
        page.until(lambda: page.bar.jobs["live"][0]["share"] > share + 0.02)
        page.settle(1.0)
        assert page.page.evaluate("() => document.activeElement.textContent") == "Cancel"
        page.page.keyboard.press("Enter")
        page.until(lambda: job.is_done, seconds=2)
        assert job.state == "cancelled"
        page.until(lambda: "Nothing is running" in page.page.locator(".wb-run-now").inner_text())

    def test_the_last_error_unfolds_and_can_be_forgotten(self, page):
        page.session.submit(lambda: 1 / 0, title="divide")
        page.until(lambda: page.page.locator('button:text("Last error")').is_visible())
        page.page.locator('button:text("Last error")').click()
        words = page.page.locator(".wb-run-error").inner_text()
        assert "divide: ZeroDivisionError" in words
        page.page.locator(".wb-run-error summary").click()
        assert "Traceback" in page.page.locator(".wb-run-error pre").inner_text()
        page.page.locator('button:text("Forget it")').click()
        page.until(lambda: page.bar.error == {})
        page.settle()
        assert page.page.locator(".wb-run-error").is_hidden()

    def test_keys_and_code_open_within_it(self, page):
        page.page.locator('button[aria-label="Code, results and pin"]').click()
        page.settle()
        box, root = page.page.locator(".wb-copy").bounding_box(), page.page.locator(".wb-run").bounding_box()
        assert box["y"] >= root["y"] and box["y"] + box["height"] <= root["y"] + root["height"] + 1
        assert "wb.widgets.RunBar(s)" in page.page.locator(".wb-copy-text").inner_text()
