"""AuditPanel: the contract, the queue, verdicts and undo, and the same on a page with keys and mouse."""

import threading
import time

import numpy as np
import pytest

import workbench as wb
from workbench.core.errors import BadValueError, IncompleteError, StoreError, UnknownNameError
from workbench.core.findings import KINDS, Evidence, Finding, Findings
from workbench.testing.browser import WidgetPage, chromium
from workbench.testing.page_suite import PageSuite, findings
from workbench.testing.widget_suite import HOSTILE, Page, WidgetSuite, lenient
from workbench.widgets import AuditPanel, wire

needs_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="Chromium is not installed"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


class TestContract(WidgetSuite):
    fails = "findings"
    n_bytes = 120_000
    changes = {"queues": ["label", "group"], "filter": "all", "reviewer": "Ada", "layer": "blocks.4", "height": 500}

    def make(self, session, **view):
        return AuditPanel(session, **view)


class TestPage(PageSuite):
    pytestmark = needs_browser
    kind = "audit"

    def make(self, session, **view):
        if not session.decisions.all():
            found = session.findings()
            session.decide(found[0], "accepted", new="<b>odd</b>", who="Ada", note=HOSTILE)
            session.decide(found[0], "rejected", who="Bo")
        made = AuditPanel(session, **view)
        made.wait()
        return made

    def choose(self, widget):
        widget.locator('[aria-label="Next finding"]').click()

    def reading(self, widget):
        return widget.locator(".wb-note").inner_text()

    def test_deciding_is_off_and_says_so(self, chrome, session, tmp_path):
        with self.exported(chrome, session, tmp_path / "page.html", width=1000) as opened:
            page = opened.page
            assert page.locator("[data-verdict=accepted]").is_disabled() and page.locator(".wb-au-who").is_disabled()
            assert "not in this page" in page.locator(".wb-au-why").inner_text()
            before = page.locator("h3").inner_text()
            page.locator(".wb-audit h3").focus()
            page.keyboard.press("a")
            page.keyboard.press("ArrowRight")
            page.wait_for_timeout(300)
            assert page.locator("h3").inner_text() != before and page.locator(".wb-au-tile").count() > 0
            page.locator("summary:has-text('decision')").click()
            assert page.locator(".wb-au-table tbody tr").count() == 2
            assert opened.errors == [] and opened.asked_for == []

    def test_what_the_page_lacks_it_says(self, chrome, session, tmp_path, monkeypatch):
        monkeypatch.setattr("workbench.widgets.audit._RECORDED", 1)
        with self.exported(chrome, session, tmp_path / "page.html") as opened:
            opened.page.locator('[aria-label="Next finding"]').click()
            opened.page.wait_for_timeout(300)
            assert "not in this page" in opened.page.locator(".wb-au-subject").inner_text()
            assert opened.errors == []


@pytest.fixture
def panel(session):
    made = AuditPanel(session, reviewer="Ada")
    assert made.wait(20)
    yield made
    made.close()


# By traits and messages -----------------------------------------------------------------------------------------------


def test_the_queue_is_that_of_the_session(session, panel):
    found = session.findings()
    assert [row["id"] for row in panel.queue["findings"]] == [one.id for one in found] == list(panel.table().index)
    assert {"group", "outlier", "label", "redundant", "unclear", "silent"} <= set(found.counts())
    assert panel.queue["layer"] == "bn2" and "no direction" in panel.queue["left_out"][0]
    assert panel.shown["id"] == found[0].id and panel.selected() == [found[0].id]


def test_evidence_has_both_sides_and_a_picture_for_each(session, panel):
    page = Page(panel)
    for one in session.findings():
        answer, buffers = page.ask("evidence", {"id": one.id})
        record = answer["result"]
        n = sum(len(side["samples"]) + len(side["components"]) for side in record["sides"])
        assert record["sheet"]["n"] == n and record["large"]["n"] == 1
        assert {side["is_for"] for side in record["sides"]} == {True, False}
        assert sum(map(len, buffers)) < 200_000
    names = {name for name, _ in session.asked}
    assert not names & {"explain", "reference_views", "predict"}, "nothing asks the model"


def test_a_verdict_is_kept_and_the_next_open_finding_follows(session, panel):
    page, found = Page(panel), session.findings()
    answer, _ = page.ask("decide", {"id": found[0].id, "verdict": "accepted", "new": "odd", "note": "seen"})
    assert answer["ok"] and answer["result"]["tag"] == "odd" and answer["result"]["n_tagged"] == len(found[0].members)
    assert set(session.data.tag("odd")) == set(found[0].members) == set(panel.accepted("group"))
    row = panel.decided().iloc[0]
    assert row[["finding", "verdict", "new", "who", "note"]].tolist() == [found[0].id, "accepted", "odd", "Ada", "seen"]
    assert panel.wait() and found[0].id not in panel.table().index
    assert panel.decisions["rows"][0]["finding"] == found[0].id and panel.decisions["tags"] == ["odd"]
    answer, _ = page.ask("undo")
    assert answer["result"]["finding"] == found[0].id and session.data.tags() == {}
    assert page.ask("undo")[0]["result"] == {} and list(panel.table().index)[0] == found[0].id


def test_filters_know_reviewers(session, panel):
    found = session.findings()
    session.decide(found[0], "accepted", who="Bo")
    session.decide(found[1], "unsure", who="Bo")
    session.decide(found[2], "unsure", who="Ada")
    session.decide(found[3], "accepted", who="Ada")
    session.decide(found[3], "rejected", who="Bo")

    def shown(name):
        panel.filter = name
        return [found.findings.index(one) for one in panel._on_show()]

    assert shown("second") == [0, 1] and shown("disagreed") == [3] and shown("decided") == [0, 1, 2, 3]
    assert shown("open") == [1, *range(4, len(found))] and len(shown("all")) == len(found)
    panel.queues = ["silent"]
    assert {one.kind for one in panel._on_show()} == {"silent"}
    panel.reviewer = "Bo"
    panel.queues, panel.filter = [], "second"
    assert [one.id for one in panel._on_show()] == [found[2].id]


def test_moving_selects_the_subject(session, panel):
    found = session.findings()
    of_sample, of_component = found.of("label")[0], found.of("silent")[0]
    panel.cursor = of_sample.id
    assert session.selection.sample == of_sample.subject and panel.wait() and panel.shown["id"] == of_sample.id
    panel.select([of_component.id])
    assert session.selection.component == of_component.subject and panel.wait()
    assert panel.shown["words"] == "without a label" and panel.selection.index.tolist() == [of_component.id]
    with pytest.raises(UnknownNameError, match="No finding"):
        panel.cursor = "nothing"
    with pytest.raises(BadValueError, match="No kind"):
        panel.queues = ["nothing"]


def test_decisions_of_others_are_seen_at_once(session, panel):
    other = AuditPanel(session, reviewer="Bo")
    assert other.wait()
    assert other.decide("accepted", new="").result(5)["tag"] == "" and panel.wait()
    assert [row["who"] for row in panel.decisions["rows"]] == ["Bo"] and session.data.tags() == {}
    assert panel.decide("rejected", finding=other.decided().iloc[0]["finding"]).result(5)["verdict"] == "rejected"
    assert panel.wait() and (panel.decisions["both"], panel.decisions["agreed"]) == (1, 0)
    other.undo().result(5)
    assert panel.wait() and panel.decisions["both"] == 0
    other.close()


def test_findings_of_ones_own(session):
    own = Findings(
        (Finding("label", 3, 1.0, "mine", "By hand.", (Evidence("a", (1,)),), (), (3,), "circle", "square"),)
    )
    panel = wb.show(own, session=session) if False else AuditPanel(own, session=session)
    assert panel.wait() and panel.table()["proposal"].tolist() == ["square"] and "findings=findings" in panel.to_code()
    assert "findings" not in [name for name, _ in session.asked]
    panel.decide("accepted").result(5)
    assert session.data.tag("wrong label") == (3,) and session.decisions.labels() == {3: "square"}
    panel.close()


def test_show_finds_the_session(session):
    board = wb.show(session.findings())
    (shown,) = board.children
    assert isinstance(shown, AuditPanel) and shown.wait() and shown.session is session
    board.close()


def test_where_nothing_is_stored_it_offers_the_layers(session):
    session.fail = {"findings": IncompleteError("No layer is stored.", hint="Name one.")}
    panel = AuditPanel(session)
    assert panel.wait() and panel.status == "ready" and panel.queue["why"] == "No layer is stored. Name one."
    assert panel.queue["layers"] == ["bn2", "blocks.4"] and "Name one" in panel.snapshot().html()
    session.fail = {}
    panel.layer = "blocks.4"
    assert panel.wait() and panel.queue["layer"] == "blocks.4" and len(panel.table())
    panel.close()


def test_a_verdict_that_cannot_be_kept_is_explained(session, panel, monkeypatch):
    session.fail = {"decide": StoreError("The store is read only.", hint="Open another.")}
    with lenient(monkeypatch):
        answer, _ = Page(panel).ask("decide", {"id": panel.selected()[0], "verdict": "accepted"})
        assert not answer["ok"] and answer["error"]["hint"] == "Open another." and session.data.tags() == {}
        answer, _ = Page(panel).ask("decide", {"id": panel.selected()[0], "verdict": "maybe"})
        assert not answer["ok"]


def test_the_still_has_the_decisions_and_what_is_open(session, panel):
    panel.decide("accepted", new="odd").result(5)
    assert panel.wait()
    panel.prepare_still()
    still = panel.snapshot()
    n = len(session.findings())
    assert f"{n - 1} of {n} findings open at bn2" in still.text() and "accepted" in still.html()
    assert any(note.startswith("For: ") for note in still.notes) and len(still.pictures) > 3


def test_recorded_findings_are_those_on_show_first(session, panel):
    panel.queues = ["silent"]
    assert panel.wait()
    recorded = panel.recorded_state()["queue"]["recorded"]
    assert recorded[0] == panel.selected()[0] and len(recorded) == len(session.findings())


# On a page ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(chrome, session):
    panel = AuditPanel(session, reviewer="Ada")
    assert panel.wait(20)
    with WidgetPage(chrome, panel, width=1000, height=900) as opened:
        opened.session, opened.panel, opened.found = session, panel, session.findings()
        opened.settle()
        yield opened
        assert opened.errors == []
    panel.close()


def heading(page):
    return page.page.locator(".wb-audit h3").inner_text()


def title(one):
    return one.title[0].upper() + one.title[1:] if one.is_of_sample else one.title


class TestOnAPage:
    pytestmark = needs_browser

    def test_a_key_decides_and_the_next_one_is_there(self, page):
        first, second = page.found[0], page.found[1]
        assert heading(page) == title(first)
        page.page.locator(".wb-audit h3").focus()
        page.page.keyboard.press("a")
        page.until(lambda: len(page.session.decisions.all()) == 1)
        page.settle()
        assert heading(page) == title(second) and page.session.selection.sample == second.subject
        assert set(page.session.data.tag("suspect")) == set(first.members)
        assert "tagged suspect" in page.page.locator(".wb-au-done").inner_text()
        page.page.keyboard.press("r")
        page.until(lambda: len(page.session.decisions.all()) == 2)
        page.settle()
        page.page.keyboard.press("u")
        page.until(lambda: len(page.session.decisions.all()) == 3)
        page.settle()
        assert [one.verdict for one in page.session.decisions.all()] == ["accepted", "rejected", "unsure"]
        assert heading(page) == title(page.found[3])
        for n in (2, 1, 0):
            page.page.keyboard.press("z")
            page.until(lambda n=n: len(page.session.decisions.all()) == n)
            page.settle()
        assert heading(page) == title(first) and page.session.data.tags() == {}

    def test_the_following_five_are_fetched_ahead(self, page):
        page.until(lambda: len(page.panel._answers) == 6)
        page.settle()
        assert list(page.panel._answers) == [one.id for one in page.found[:6]]
        page.page.locator('[aria-label="Next finding"]').click()
        page.until(lambda: len(page.panel._answers) == 7)
        page.settle()
        assert len(page.panel._answers) == 7

    def test_what_is_put_in_its_place_is_written(self, page):
        one = page.found.of("label")[0]
        page.page.locator(".wb-select").first.select_option("label")
        page.until(lambda: page.panel.queues == ["label"])
        page.settle()
        assert heading(page) == title(one) and page.page.locator("label:has-text('Right label')").is_visible()
        page.page.locator(".wb-audit h3").focus()
        page.page.keyboard.press("c")
        other = next(c for c in page.session.data.classes if c not in (one.old, one.proposal))
        page.page.keyboard.type(other)
        page.page.keyboard.press("Enter")
        page.until(lambda: page.session.decisions.labels() == {one.subject: other})
        page.settle()
        page.page.keyboard.press("n")
        page.page.keyboard.type("hm, a and r are letters here")
        page.page.keyboard.press("Escape")
        page.page.keyboard.press("r")
        page.until(lambda: len(page.session.decisions.all()) == 2)
        assert page.session.decisions.all()[1].note.startswith("hm, a")

    def test_a_wrong_label_leads_back_with_its_reason(self, page, monkeypatch):
        monkeypatch.setenv("WORKBENCH_STRICT", "0")
        one = page.found.of("label")[0]
        page.panel.cursor = one.id
        page.settle()
        page.page.locator(".wb-au-input").nth(1).fill("nonsense")
        page.page.locator("[data-verdict=accepted]").click()
        page.until(lambda: 'No class "nonsense"' in page.page.locator(".wb-problem").inner_text())
        page.settle()
        assert heading(page) == title(one) and page.page.locator(".wb-au-done").inner_text() == "Not saved."
        assert page.session.decisions.all() == ()

    def test_a_component_gets_a_label(self, page):
        one = page.found.of("silent")[0]
        page.panel.cursor = one.id
        page.settle()
        assert page.page.locator("label:has-text('Label') input").input_value() == ""
        page.page.locator("label:has-text('Label') input").fill("nothing")
        page.page.locator("[data-verdict=accepted]").click()
        page.until(lambda: page.session.notes.labels() == {one.subject: "nothing"})
        page.settle()

    def test_tiles_select_and_members_are_chosen(self, page):
        tile = page.page.locator(".wb-au-tile[data-sample]").nth(1)
        sample = int(tile.get_attribute("data-sample"))
        tile.click()
        page.until(lambda: page.session.selection.sample == sample)
        assert "wb-current" in tile.get_attribute("class")
        page.page.locator(".wb-au-tile[data-component]").first.click()
        page.until(lambda: page.session.selection.component is not None)
        page.page.locator("text=Choose these").click()
        page.until(lambda: set(page.session.selection.samples) == set(page.found[0].members))

    def test_a_second_opinion_is_blind(self, page):
        one = page.found[0]
        page.session.decide(one, "rejected", who="Bo", note="fine")
        page.page.locator("button:text-is('Second')").click()
        page.until(lambda: page.panel.filter == "second")
        page.settle()
        text = page.page.locator(".wb-audit").inner_text()
        assert heading(page) == title(one) and "1 reviewer decided" in text and "fine" not in text
        page.page.locator(".wb-audit h3").focus()
        page.page.keyboard.press("a")
        page.until(lambda: len(page.session.decisions.all()) == 2)
        page.settle()
        assert "No second opinion is wanted" in page.page.locator(".wb-audit").inner_text() or heading(page) == title(
            one
        )
        page.page.locator("button:text-is('Disagreed')").click()
        page.settle()
        assert heading(page) == title(one) and "rejected by Bo: fine" in page.page.locator(".wb-au-said").inner_text()
        page.page.locator("summary:has-text('decision')").click()
        assert "agree on 0 of 1" in page.page.locator(".wb-audit details").inner_text()

    def test_the_layer_is_chosen_where_none_is_stored(self, chrome, session):
        session.fail = {"findings": IncompleteError("No layer is stored.", hint="Name one.")}
        panel = AuditPanel(session)
        assert panel.wait(20)
        with WidgetPage(chrome, panel, width=700) as page:
            page.settle()
            session.fail = {}
            page.page.locator(".wb-empty select").select_option("blocks.4")
            page.page.locator("text=Look for findings").click()
            page.until(lambda: panel.queue.get("layer") == "blocks.4")
            page.settle()
            assert page.page.locator(".wb-audit h3").count() == 1 and page.errors == []
        panel.close()

    @pytest.mark.parametrize("dark", [False, True])
    def test_axe_finds_nothing_serious_in_the_live_view(self, chrome, session, dark):
        session.decide(session.findings()[0], "accepted", who="Bo")
        panel = AuditPanel(session, filter="all")
        assert panel.wait(20)
        with WidgetPage(chrome, panel, width=900, dark=dark) as page:
            page.settle()
            page.page.locator("summary:has-text('decision')").click()
            found = findings(page.page)
            assert found == [], "\n".join(found)
        panel.close()

    def test_the_next_finding_is_there_within_its_goal(self, page):
        """The goal is 80 ms; drawn within one frame where it was fetched ahead."""
        page.page.evaluate(
            """() => {
                window.times = [];
                const root = document.querySelector('.wb-audit');
                document.addEventListener('keydown', () => {
                    const at = performance.now(), was = root.querySelector('h3').textContent;
                    setTimeout(() => window.times.push([
                        performance.now() - at, root.querySelector('h3').textContent !== was,
                        root.querySelectorAll('.wb-au-side p').length > 0]));
                }, true);
            }"""
        )
        page.page.locator(".wb-audit h3").focus()
        for key in ("ArrowRight", "ArrowRight", "a", "r", "ArrowRight", "ArrowRight"):
            page.page.keyboard.press(key)
            page.settle()
            page.page.wait_for_timeout(150)
        times = page.page.evaluate("() => window.times")
        print(f"next finding: {[round(t) for t, *_ in times]} ms")
        assert all(changed and has_evidence for _, changed, has_evidence in times), times
        assert np.median([t for t, *_ in times]) < 80


# With a real session --------------------------------------------------------------------------------------------------


def test_a_real_session_is_audited_and_the_tag_makes_a_direction(tmp_path):
    toy = wb.data.ToyData(n=240, split="val", artifact_class=0, artifact_share=0.5)
    with wb.open_session("toy-cnn", data=toy, store=tmp_path) as s:
        panel = AuditPanel(s, reviewer="Ada")
        assert panel.wait(120) and "No layer is stored" in panel.queue["why"]
        panel.layer = "features.8"
        assert panel.wait(240) and panel.queue["findings"], panel._problem
        has = np.asarray(toy.has_artifact)
        groups = [one for one in panel._on_show() if one.kind == "group" and has[list(one.members)].mean() > 0.9]
        panel.decide("accepted", finding=groups[0].id, new="patch").result(60)
        cav = s.fit(wb.methods.PatternCAV("features.8", positives="patch"))
        assert cav.separation_ > 0.9
        masks = panel.masks(cav, recipe="otsu")
        assert set(masks.index_) == set(panel.accepted()) and masks.quality()["iou"].mean() > 0.6
        for one in panel._on_show()[:8]:
            started = time.perf_counter()
            record = panel._evidence(one.id)
            assert time.perf_counter() - started < 5 and wire.weight(record) < 300_000
        panel.prepare_still()
        assert "patch" in panel.snapshot().html()
        panel.close()
    with wb.open_session("toy-cnn", data=toy, store=tmp_path) as tomorrow:
        panel = AuditPanel(tomorrow, filter="decided")
        assert panel.wait(120) and panel.table()["verdict"].tolist() == ["accepted"]
        assert {row["title"] for row in panel.queue["kinds"].values()} == {one.title for one in KINDS.values()}
        panel.close()
    assert threading.active_count() < 40
