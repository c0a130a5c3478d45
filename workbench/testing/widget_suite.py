"""What every widget must do, as tests, without a browser. A new widget gets them by subclassing `WidgetSuite`.

class TestMine(WidgetSuite):
    fails = "reference_views"

    def make(self, session, **view):
        return MyWidget(session, **view)
"""

from __future__ import annotations

import contextlib
import html.parser as html_parser
import json
import re
import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

import ipywidgets
import numpy as np
import pytest
from ipywidgets.widgets.widget import _remove_buffers

from workbench.core.errors import BadValueError, CancelledError, StoreError, WorkbenchError
from workbench.session.deliver import flush
from workbench.testing.fake_session import FakeSession
from workbench.widgets import stills, wire
from workbench.widgets.labelling import ShowsLabels

__all__ = ["HOSTILE", "Page", "WidgetSuite", "WidgetTests"]

HOSTILE = "<img src=x onerror=alert(1)> \"quoted\" 'and'\nbroken"
"""Text as a data set may hold it, which must be shown as text in every form."""


class Page:
    """The page's half of a widget: hears what Python sends, and sends as the browser would."""

    def __init__(self, widget: Any):
        self.widget, self._count = widget, 0
        self.heard: list[tuple[str, Any, list[bytes]]] = []
        widget.comm.publish_msg = self._hear

    def _hear(self, kind: str, data: Any = None, metadata: Any = None, buffers: Any = None, **rest: Any) -> None:
        self.heard.append((kind, data, [bytes(b) for b in buffers or []]))

    def put(self, **state: Any) -> None:
        """Set view state."""
        plain, paths, buffers = _remove_buffers(state)
        data = {"method": "update", "state": plain, "buffer_paths": paths}
        self.widget._handle_msg({"content": {"data": data}, "buffers": [memoryview(b) for b in buffers]})

    def say(self, page: str = "page", number: int | None = None, **values: Any) -> int:
        """Change the selection, as scripts do; returns the page's number."""
        self._count += 1
        number = self._count if number is None else number
        self.put(**values, _said={"page": page, "number": number, "values": values})
        return number

    def post(self, kind: Any, body: Any = None, buffers: Any = (), **extra: Any) -> str:
        """Ask without waiting; returns the number of the question."""
        self._count += 1
        content = {"kind": kind, "id": f"page-{self._count}", "body": body or {}, **extra}
        data = {"method": "custom", "content": content}
        self.widget._handle_msg({"content": {"data": data}, "buffers": list(buffers)})
        return content["id"]

    def answers(self, number: str) -> list[tuple[dict[str, Any], list[bytes]]]:
        """Messages that answer a question."""
        sent = [(data["content"], buffers) for _, data, buffers in self.heard if (data or {}).get("method") == "custom"]
        return [(content, buffers) for content, buffers in sent if content.get("to") == number]

    def ask(self, kind: Any, body: Any = None, buffers: Any = ()) -> tuple[dict[str, Any], list[bytes]]:
        """Ask, wait, and return the one answer."""
        number, end = self.post(kind, body, buffers), time.monotonic() + 10
        self.widget.wait(10)
        while not (found := self.answers(number)) and time.monotonic() < end:
            time.sleep(0.002)  # a job leaves the widget's list a moment before its answer is handed over
            flush(1)
        assert len(found) == 1, f"{kind} was answered {len(found)} times"
        json.dumps(found[0][0])
        return found[0]


@contextlib.contextmanager
def lenient(monkeypatch: Any) -> Iterator[None]:
    """Errors are shown and not raised, as for users."""
    with monkeypatch.context() as patch:
        patch.setenv("WORKBENCH_STRICT", "0")
        yield


class WidgetTests:
    """What both suites stand on: how the widget is made, and the session it is made on."""

    def make(self, session: FakeSession, **view: Any) -> Any:
        """Construct the widget."""
        raise NotImplementedError

    @staticmethod
    def new_session() -> FakeSession:
        """A session with something selected."""
        made = FakeSession()
        made.selection.set(component="bn2/unit/17", sample=4)
        return made

    @pytest.fixture
    def session(self) -> Iterator[FakeSession]:
        made = self.new_session()
        yield made
        made.lane.close()


class WidgetSuite(WidgetTests):
    """Tests that hold for every widget.

    Attributes
    ----------
    fails : str
        A method of the session without which the widget cannot show what it is for.
    changes : dict
        Some view state that differs from the default.
    n_bytes : int
        What all payload may weigh on the suite's session.
    """

    fails = ""
    changes: dict[str, Any] = {"height": 444, "theme": "dark", "title": "A <b>title</b>"}
    n_bytes = wire.TRAIT_BYTES

    @pytest.fixture
    def widget(self, session: FakeSession) -> Iterator[Any]:
        made = self.make(session)
        assert made.wait(20)
        yield made
        made.close()

    def test_becomes_ready_and_says_so_shortly(self, widget):
        assert widget.status in ("ready", "idle")
        assert type(widget).__name__ in repr(widget) and len(repr(widget)) < 200

    def test_each_public_trait_is_described(self, widget):
        for name, trait in type(widget).class_traits(sync=True).items():
            if not name.startswith("_") and type(widget)._is_ours(name):
                assert trait.help, f"{name} has no help text"

    def test_view_state_is_small_json_and_restores(self, session, widget):
        for name, value in self.changes.items():
            setattr(widget, name, value)
        state = widget.state()
        assert len(json.dumps(state)) < 20_000
        other = self.make(session)
        assert other.restore(json.loads(json.dumps(state))) == []
        assert other.state() == state
        other.close()

    def test_a_state_that_does_not_fit_is_reported(self, widget):
        before = widget.state()
        reports = widget.restore({"widget": "Other", "nonsense": 1, "height": "tall", "version": 9})
        assert len(reports) == 3 and widget.state() == before

    def test_unknown_options_are_explained(self, session):
        with pytest.raises(BadValueError, match="has no option 'heigt'.*Nearest"):
            self.make(session, heigt=3)

    def test_payload_is_within_its_budget(self, widget):
        payload = {n: getattr(widget, n) for n in widget.trait_names(sync=True) if not n.startswith("_")}
        assert 0 < wire.weight(widget.get_state(list(payload))) <= self.n_bytes

    def test_the_page_may_write_view_state_only(self, widget, monkeypatch):
        page = Page(widget)
        payloads = list(widget.trait_names(payload=True))
        before = {name: getattr(widget, name) for name in payloads}
        with lenient(monkeypatch):
            page.put(height=555, status="failed", **{name: {} for name in payloads})
        assert widget.height == 555
        assert all(getattr(widget, name) is before[name] for name in payloads)
        assert "written by Python" in widget._problem["message"]

    def test_wrong_view_state_from_the_page_is_refused_and_sent_back(self, widget, monkeypatch):
        page = Page(widget)
        with lenient(monkeypatch):
            page.put(theme="purple", height=321)
        assert (widget.theme, widget.height) == ("auto", 321)
        assert any((data or {}).get("state", {}).get("theme") == "auto" for _, data, _ in page.heard)
        with pytest.raises(Exception, match="purple"):
            page.put(theme="purple")

    def test_unknown_ids_change_nothing(self, session, widget, monkeypatch):
        page = Page(widget)
        before = session.selection.as_dict()
        for field, value in {"component": "bn2/unit/99999", "sample": 99999}.items():
            if field not in widget.follows:
                continue
            with lenient(monkeypatch):
                page.put(**{field: value})
            assert widget._problem["hint"], field
            with pytest.raises(WorkbenchError):
                setattr(widget, field, value)
        assert session.selection.as_dict() == before

    def test_follows_the_selection_and_writes_to_it(self, session, widget):
        page = Page(widget)
        for field, values in {"component": ("bn2/unit/5", "bn2/unit/6"), "sample": (7, 8)}.items():
            if field in widget.follows:
                session.selection.set(**{field: values[0]})
                assert getattr(widget, field) == values[0]
                page.put(**{field: values[1]})
                assert getattr(session.selection, field) == values[1] and session.selection.origin == widget.model_id
        assert widget.wait(20)

    def test_what_the_page_says_is_heard_once_and_answered_with_its_number(self, session, widget, monkeypatch):
        page, other = Page(widget), self.make(session)
        assert other.wait(20)
        values = {"component": ("bn2/unit/11", "bn2/unit/12", "bn2/unit/99999"), "sample": (9, 10, 99999)}
        for field in values.keys() & set(widget.follows):
            first, second, wrong = values[field]
            number = page.say(f"tab-{field}", **{field: first})
            assert getattr(session.selection, field) == getattr(other, field) == first
            assert other._seen[f"tab-{field}"] == widget._seen[f"tab-{field}"] == number
            page.say(f"tab-{field}", number - 1, **{field: second})  # late, and no news
            assert getattr(session.selection, field) == first
            with lenient(monkeypatch):
                page.say(f"tab-{field}", number + 5, **{field: wrong})
            back = [data["state"] for _, data, _ in page.heard if field in (data or {}).get("state", {})]
            assert back[-1][field] == first and back[-1]["_seen"][f"tab-{field}"] == number + 5
        other.close()
        widget.wait(20)

    def test_hovering_reaches_python_only_where_someone_listens(self, session, widget):
        assert widget._wants_hover is False
        seen: list[Any] = []
        session.selection.observe(lambda change: seen.append(change["new"]), names="hover")
        assert widget._wants_hover is True
        Page(widget).say(hover="bn2/unit/3")
        assert seen == ["bn2/unit/3"]

    def test_labels_of_components_are_those_that_people_give_now(self, session, widget):
        if not (isinstance(widget, ShowsLabels) and "component" in widget.follows):
            pytest.skip("this widget names no components")
        label = HOSTILE.splitlines()[0]
        session.notes.put("bn2/unit/17", label=label)
        session.notes.put("bn2/unit/18", note="no label")
        assert flush(5) and widget.labels == {"bn2/unit/17": label} and label in widget.named("bn2/unit/17")
        again = self.make(session)
        assert again.wait(20) and again.labels == widget.labels
        again.prepare_still()
        html = again.snapshot().html()
        assert "<img src=x" not in html and Seen(html).tags
        again.close()
        session.notes.put("bn2/unit/17", label="")
        assert flush(5) and widget.labels == {} and again.labels != {}

    def test_a_group_has_a_selection_of_its_own(self, session):
        left, again = self.make(session, group="left"), self.make(session, group="left")
        assert left.shared is again.shared and left.shared is not session.selection
        for one in (left, again):
            one.wait(20)
            one.close()

    def test_questions_that_make_no_sense_are_answered_with_an_error(self, widget, monkeypatch):
        page = Page(widget)
        with lenient(monkeypatch):
            answer, _ = page.ask("nonsense")
            assert not answer["ok"] and 'No message "nonsense"' in answer["error"]["message"]
            for kind, (_, schema) in widget._handlers.items():
                answer, _ = page.ask(kind, {"unheard_of": 1})
                assert not answer["ok"] and "unheard_of" in answer["error"]["message"], kind
                if schema:
                    answer, _ = page.ask(kind, {})
                    assert not answer["ok"], kind
        with pytest.raises(WorkbenchError):
            page.post("nonsense")

    def test_a_failing_job_says_why_and_what_to_do(self, session, monkeypatch):
        if not self.fails:
            pytest.skip("nothing of this widget can fail")
        session.fail = {self.fails: StoreError("The layer bn2 has not been swept.", hint='Run s.sweep(["bn2"]).')}
        with lenient(monkeypatch):
            widget = self.make(session)
            widget.wait(20)
            assert widget.status == "failed"
            problem = widget._problem
            assert problem["message"] == "The layer bn2 has not been swept." and "sweep" in problem["hint"]
            assert problem["type"] == "StoreError" and "Traceback" in problem["trace"]
            session.fail = {}
            session.selection.set(component="bn2/unit/9", sample=6)
            widget.wait(20)
            assert widget.status == "ready" and widget._problem == {}
            widget.close()

    def test_strict_mode_raises_what_a_job_raised(self, session):
        if not self.fails:
            pytest.skip("nothing of this widget can fail")
        session.fail = {self.fails: StoreError("Gone.")}
        widget = self.make(session)
        with pytest.raises(StoreError, match="Gone"):
            widget.wait(20)
        widget.close()
        with contextlib.suppress(StoreError):
            flush()

    def test_a_burst_ends_on_the_last_value(self, session, widget):
        for i in range(200):
            session.selection.set(component=f"bn2/unit/{i % 60 + 1}", sample=i % 24)
        assert widget.wait(30)
        assert widget.status == "ready" or not self.fails
        for name in widget.trait_names(payload=True):
            value = getattr(widget, name)
            if isinstance(value, dict):
                assert value.get("component", "bn2/unit/20") == "bn2/unit/20", name
                assert value.get("sample", 7) == 7, name

    @pytest.mark.parametrize("pause", [0.0, 0.06])
    def test_a_wish_that_is_taken_back_leaves_what_was_there(self, session, widget, pause):
        session.delay = 0.05
        others = {"component": "bn2/unit/9", "sample": 9, "target": "logit:1"}
        wishes = {**self.changes, **{field: value for field, value in others.items() if field in widget.follows}}
        found = {}
        for name, value in wishes.items():
            before, was = _payload(widget), getattr(widget, name)
            setattr(widget, name, value)
            time.sleep(pause)
            setattr(widget, name, was)
            assert widget.wait(20)
            after = _payload(widget)
            differing = [one for one in before if not _is_same(before[one], after[one])]
            if differing or widget.stale_reason() or widget.status not in ("ready", "idle"):
                found[name] = (differing, widget.status, widget.stale_reason())
        assert not found, found

    def test_cancelling_is_quick_and_leaves_the_widget_usable(self, session, monkeypatch):
        session.delay = 5.0
        widget = self.make(session)
        job = widget.submit(session._begin_slowly, title="slow")
        started = time.monotonic()
        widget.cancel()
        with pytest.raises(CancelledError):
            job.result(5)
        assert time.monotonic() - started < 0.5
        session.delay = 0.0
        assert widget.wait(20) and widget._problem == {}
        widget.close()

    def test_closing_cancels_and_stops_listening(self, session):
        session.delay = 2.0
        widget = self.make(session)
        job = widget.submit(session._begin_slowly, title="slow")
        started = time.monotonic()
        widget.close()
        assert job.wait(5) and job.state == "cancelled" and time.monotonic() - started < 1.0
        before = widget.state()
        session.selection.set(component="bn2/unit/2", sample=2)
        assert widget.state() == before
        widget.close()
        with pytest.raises(CancelledError):
            widget.submit(int)

    def test_work_stays_off_the_calling_thread(self, session, widget):
        names = {thread for _, thread in session.asked}
        assert threading.current_thread().name not in names

    def test_table_selection_and_plot(self, widget):
        table, selection = widget.table(), widget.selection
        assert list(table.columns) == list(selection.columns) and table.index.name == selection.index.name
        assert set(selection.index) <= set(widget.selected())
        figure = widget.plot()
        assert type(figure).__name__ == "Figure" and len(figure.data)

    def test_it_is_an_ordinary_ipywidget(self, session, widget):
        box = ipywidgets.VBox([widget, ipywidgets.IntSlider()])
        grid = ipywidgets.GridBox([widget], layout=ipywidgets.Layout(grid_template_columns="1fr 1fr"))
        assert box.children[0] is widget is grid.children[0]
        slider = ipywidgets.IntSlider(max=1000)
        link = ipywidgets.link((widget, "height"), (slider, "value"))
        slider.value = 500
        assert widget.height == 500
        widget.height = 600
        assert slider.value == 600
        link.unlink()
        front = ipywidgets.jslink((widget, "height"), (slider, "value"))
        assert front.source == (widget, "height") and "height" in widget.keys
        data, _ = widget._repr_mimebundle_()
        assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == widget.model_id
        assert widget.layout is not None and len(data["text/plain"]) < 200
        for one in (box, grid, front):
            one.close()

    def test_interactive_output_hears_of_what_it_stands_for(self, session, widget):
        seen: list[Any] = []
        out = ipywidgets.interactive_output(lambda chosen: seen.append(chosen), {"chosen": widget})
        assert isinstance(out, ipywidgets.Output) and seen == [widget.value]
        if not widget.stands_for:  # a reader chooses nothing in it, so nothing is said
            assert widget.value is None and not widget.follows
            return
        others = {"component": "bn2/unit/9", "sample": 9, "layer": "blocks.4"}
        setattr(widget, widget.stands_for, others.get(widget.stands_for, "another"))
        assert seen[-1] == widget.value == getattr(widget, widget.stands_for) and len(seen) == 2
        assert widget.wait(20)

    # Kept views ---------------------------------------------------------------------------------------------------

    def test_the_still_has_three_forms_within_their_budgets(self, session, widget):
        widget.prepare_still()
        started = time.perf_counter()
        still = widget.snapshot()
        html, png = still.html(), still.png()
        assert time.perf_counter() - started < 0.5  # 0.1 s on an idle machine
        assert len(html.encode()) <= stills.HTML_BYTES and len(png) <= stills.PNG_BYTES
        assert png[:8] == b"\x89PNG\r\n\x1a\n" and "\n" not in still.text() and len(still.text()) < 300
        seen = Seen(html)
        assert all(image.get("alt") for image in seen.images)
        assert not seen.addresses and not {"script", "style", "link", "iframe"} & seen.tags
        assert widget.snapshot().html() == html

    def test_a_still_has_the_title_for_its_heading(self, session, widget):
        widget.prepare_still()
        own = widget.snapshot().title
        widget.title = "A title of one's own"
        assert own != widget.title == widget.snapshot().title
        widget.title = ""
        assert widget.snapshot().title == own
        session.delay = 1.0
        early = self.make(session, title="Nothing is there yet")
        assert early.snapshot().title == early.title
        early.close()

    def test_a_still_before_anything_is_there_says_how_to_get_it(self, session):
        session.delay = 1.0
        widget = self.make(session)
        still = widget.snapshot()
        assert Seen(still.html()).tags and still.png() and still.text()
        widget.close()

    def test_text_from_the_data_stays_text_in_stills(self, session, widget):
        widget.title = HOSTILE
        widget.prepare_still()
        still = widget.snapshot()
        seen = Seen(still.html())  # which finds handlers; alternative texts may speak of one
        assert not seen.addresses and "<img src=x" not in still.html() and "\n" not in still.text()

    def test_the_code_rebuilds_the_view(self, session, widget):
        import workbench as wb

        for name, value in self.changes.items():
            setattr(widget, name, value)
        names: dict[str, Any] = {"wb": wb, "s": session}
        *imports, call = [line for line in widget.to_code().splitlines() if not line.startswith("#")]
        exec("\n".join(imports), names)
        again = eval(call, names)
        assert again.wait(20) and again.state() == widget.state() and widget.wait(20)
        # What is on show follows from the settings, whatever led to them.
        mine, other = _payload(widget), _payload(again)
        assert [name for name in mine if not _is_same(mine[name], other[name])] == []
        again.close()

    def test_what_the_view_rests_on_is_named(self, widget):
        page = Page(widget)
        assert json.loads(page.ask("recipe")[0]["result"]["text"]) == widget.recipe()
        assert page.ask("code")[0]["result"]["text"] == widget.to_code()
        assert widget.recipe()["model"] == widget.session.digests()["model"]

    def test_a_state_made_elsewhere_says_so(self, session, widget):
        state = widget.state()
        state["made_with"] = {**state["made_with"], "model": "other@12345678"}
        (report,) = widget.restore(state)
        assert "made with other@12345678" in report

    def test_it_becomes_a_page_within_the_size_allowed(self, widget, tmp_path):
        report = widget.to_html(tmp_path / "page.html")
        assert report.n_bytes == (tmp_path / "page.html").stat().st_size <= 20e6
        assert not report.left_out and not list(tmp_path.glob(".*"))
        record = json.loads(re.search(r'id="wb-record">(.*?)</script>', (tmp_path / "page.html").read_text())[1])
        assert [one["id"] for one in record["widgets"]] == [widget.model_id]


def _payload(widget: Any) -> dict[str, Any]:
    return {name: getattr(widget, name) for name in widget.trait_names(payload=True)}


def _is_same(a: Any, b: Any) -> bool:
    """Whether two payloads are equal, but for what counts how often they were made."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return a.keys() == b.keys() and all(_is_same(a[key], b[key]) for key in a.keys() - {"made", "seconds"})
    if isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)):
        return len(a) == len(b) and all(map(_is_same, a, b))
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return bool(np.array_equal(a, b, equal_nan=np.asarray(a).dtype.kind == "f"))
    return bool(a == b)


class Seen(html_parser.HTMLParser):
    """What a reader of a piece of HTML would meet: its tags, its images, and addresses outside it."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: set[str] = set()
        self.images: list[dict[str, str | None]] = []
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        for name, value in attrs:
            if name in ("src", "href", "action", "srcset", "data") and not (value or "").startswith("data:image/"):
                self.addresses.append(str(value))
            assert not name.startswith("on"), f"a handler in {tag}: {name}"
