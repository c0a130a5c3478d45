"""SessionWidget: results into traits, latest wins, answers in parts, progress, threads, ipywidgets."""

import threading
import time

import ipywidgets
import numpy as np
import pytest
import traitlets

from workbench.core.errors import BadValueError
from workbench.core.registry import WIDGETS
from workbench.session.deliver import flush
from workbench.testing.widget_suite import Page, WidgetSuite, lenient
from workbench.widgets import ComponentCard, SessionWidget, on, register_widget, wire


class Bars(SessionWidget):
    """A widget as a third party would write it."""

    _esm = "export default { render() {} }"
    follows = ("component",)
    stands_for = "component"
    component = traitlets.Any(None, allow_none=True, help="Selected.").tag(sync=True)
    bars = traitlets.Dict(help="Scores.").tag(sync=True, **wire.arrays)
    wanted = traitlets.Int(3, min=0, help="How many.").tag(sync=True, view=True)

    def bind(self, source):
        self.submit(self._scores, self.wanted, into="bars", title="Scores")

    def _scores(self, n):
        self.session._begin("scores")
        return {"n": n, "score": np.arange(n, dtype=np.float32)}

    @on("scores", n=int)
    def _on_scores(self, n):
        return self.submit(self._scores, n, topic="scores")

    @on("large", megabytes=int)
    def _on_large(self, megabytes):
        return {"a": np.zeros(megabytes * 1_000_000, np.uint8), "b": b"end"}

    @on("fail")
    def _on_fail(self):
        return {}["no such key"]

    def table(self):
        import pandas as pd

        have = self.bars.get("score", ())
        return pd.DataFrame(
            {"score": have}, index=pd.Index([f"bn2/unit/{i}" for i in range(len(have))], name="component")
        )

    def selected(self):
        return [self.component]

    def plot(self, **options):
        from workbench.core.results import Ranking

        return Ranking(tuple(self.table().index), np.asarray(self.bars["score"])).plot()


class TestContract(WidgetSuite):
    fails = "scores"
    changes = {"wanted": 7}

    def make(self, session, **view):
        widget = Bars(session, **view)
        widget.observe(lambda change: widget.bind(None), names=["component", "wanted"])
        return widget


@pytest.fixture
def bars(session):
    made = Bars(session)
    made.wait()
    yield made
    made.close()


def test_the_newest_question_of_a_topic_is_answered_and_older_ones_are_dropped(bars, session):
    page = Page(bars)
    session.delay = 0.05
    numbers = [page.post("scores", {"n": n}) for n in range(1, 30)]
    assert bars.wait()
    answers = [page.answers(number) for number in numbers]
    assert all(len(a) == 1 for a in answers)
    last = answers[-1][0][0]
    assert last["ok"] and last["result"]["n"] == 29
    assert all(a[0][0]["dropped"] for a in answers[1:-1])


def test_large_answers_come_in_parts(bars):
    page = Page(bars)
    number = page.post("large", {"megabytes": 17})
    bars.wait()
    answers = page.answers(number)
    assert [a["part"] for a, _ in answers] == [0, 1, 2] and all(a["of"] == 3 for a, _ in answers)
    assert all(sum(map(len, buffers)) <= wire.MESSAGE_BYTES for _, buffers in answers)
    whole = [b"", b""]
    for content, buffers in answers:
        for at, buffer in zip(content["pieces"], buffers, strict=True):
            whole[at] += buffer
    assert len(whole[0]) == 17_000_000 and whole[1] == b"end"
    assert "result" in answers[-1][0] and "result" not in answers[0][0]


def test_an_error_in_a_handler_is_answered_logged_and_leaves_the_widget_usable(bars, monkeypatch, caplog):
    page = Page(bars)
    with lenient(monkeypatch):
        answer, _ = page.ask("fail")
    assert answer["error"]["type"] == "KeyError" and "Traceback" in answer["error"]["trace"]
    assert "'fail' failed" in caplog.text
    assert page.ask("scores", {"n": 2})[0]["ok"]
    with pytest.raises(KeyError):
        page.post("fail")


def test_status_and_progress_travel(bars):
    page, go = Page(bars), threading.Event()

    def work(progress):
        progress.start("parts", 4)
        progress.step(note="first")
        go.wait(5)

    bars.submit(work, title="Working hard")
    end = time.monotonic() + 5
    while not (bars.status == "running" and bars.progress == 0.25) and time.monotonic() < end:
        time.sleep(0.005)
    assert bars.message == "Working hard · first"
    go.set()
    bars.wait()
    states = [data["state"] for _, data, _ in page.heard if (data or {}).get("method") == "update"]
    assert any(s.get("status") == "running" for s in states) and states[-1]["status"] == "ready"


def test_the_status_moves_within_a_tenth_of_a_second(bars):
    page, go = Page(bars), threading.Event()
    started = time.monotonic()
    bars.submit(go.wait, 5)
    while not page.heard and time.monotonic() - started < 5:
        time.sleep(0.001)
    waited = time.monotonic() - started
    go.set()
    assert waited < 0.1


def test_quiet_jobs_do_not_touch_the_status(bars):
    page = Page(bars)
    bars.submit(lambda: time.sleep(0.02), quiet=True)
    assert bars.wait() and page.heard == [] and bars.status == "ready"


def test_an_old_answer_never_overwrites_a_newer_one(bars):
    go = threading.Event()

    def slow():
        go.wait(5)
        return {"n": "old"}

    bars.submit(slow, into="bars")
    bars.submit(lambda: {"n": "new"}, into="bars")
    go.set()
    assert bars.wait() and bars.bars["n"] == "new"


def test_deliveries_after_closing_are_harmless(session):
    widget = Bars(session)
    widget.close()
    assert flush() and widget.bars == {}


def test_python_assignments_are_checked(bars):
    with pytest.raises(traitlets.TraitError):
        bars.wanted = -1
    with pytest.raises(traitlets.TraitError):
        bars.theme = "pink"


def test_the_comm_is_freed_after_each_message(bars):
    class Comm(type(bars.comm)):
        def publish_msg(self, *args, **kwargs):
            self._reply_subshell_id = None  # what ipykernel 7.4 notes

    bars.comm.__class__ = Comm
    bars.wanted = 5
    assert "_reply_subshell_id" not in vars(bars.comm)
    bars.send({"kind": "x"})
    assert "_reply_subshell_id" not in vars(bars.comm)


def test_answers_carry_no_id_that_the_kernel_would_keep(bars):
    page = Page(bars)
    answer, _ = page.ask("scores", {"n": 2})
    assert "id" not in answer


def test_the_registry_takes_widgets_of_others():
    register_widget("bars-of-a-test", shows=Bars, stable=False)(Bars)
    assert WIDGETS["bars-of-a-test"] is Bars and WIDGETS.facts("bars-of-a-test")["stable"] is False
    WIDGETS._items.pop("bars-of-a-test")
    WIDGETS._facts.pop("bars-of-a-test")
    assert {"atlas", "card", "heatmap"} <= set(WIDGETS)


def test_a_text_widget_can_be_linked_to_the_selection(session):
    card, text = ComponentCard(session), ipywidgets.Text()
    ipywidgets.dlink((card, "component"), (text, "value"), lambda address: address or "")
    session.selection.component = "bn2/unit/4"
    assert text.value == "bn2/unit/4"
    card.wait()
    card.close()


def test_misuse_is_explained(session):
    with pytest.raises(BadValueError, match="nothing to plot"):
        SessionWidget.plot(Bars(session))
    with pytest.raises(BadValueError, match="can be selected in Bars"):
        Bars(session).selection = None
