"""Exported pages: each widget's page contract, a linked page of several, what it lacks, and what is refused."""

import json
import re

import ipywidgets
import pytest

pytest.importorskip("playwright")

import workbench as wb
from workbench.core.errors import BadValueError, OutOfBudgetError, StoreError
from workbench.core.progress import SilentProgress
from workbench.testing.page_suite import ExportedPage, PageSuite, needs_browser
from workbench.widgets import AtlasBrowser, ComponentCard, HeatmapViewer


class TestAtlasPage(PageSuite):
    kind, labelled = "atlas", "bn2/unit/17"

    def make(self, session, **view):
        return AtlasBrowser(session.atlas(), session=session, show_list=True, **view)

    def choose(self, widget):
        widget.locator(".wb-row").nth(5).click()

    def reading(self, widget):
        return widget.locator(".wb-note").inner_text()


class TestCardPage(PageSuite):
    kind, labelled = "card", "bn2/unit/17"

    def make(self, session, **view):
        return ComponentCard(session, **view)

    def choose(self, widget):
        widget.locator(".wb-ref").nth(5).click()

    def reading(self, widget):
        return "".join(widget.locator(".wb-ref.wb-current").all_inner_texts())


class TestHeatmapPage(PageSuite):
    kind, labelled = "heatmap", "bn2/unit/17"

    def make(self, session, **view):
        return HeatmapViewer(session, **view)

    def choose(self, widget):
        widget.locator('[aria-label="Next sample"]').click()

    def reading(self, widget):
        return widget.locator(".wb-title").inner_text()


class TestHeatmapOfTargetsPage(PageSuite):
    """Maps for other outputs beside; with one more pane of each kind."""

    kind = "heatmap"
    most_stops = 10

    def make(self, session, **view):
        session.selection.set(component="bn2/unit/17", sample=2)
        return HeatmapViewer(session, targets=["logit:0", "logit:2"], scale="shared", **view)

    def choose(self, widget):
        widget.locator('[aria-label="Next sample"]').click()

    def reading(self, widget):
        return widget.locator(".wb-title").inner_text() + widget.locator(".wb-panes").inner_text()

    def test_what_needs_the_session_is_switched_off_and_what_was_recorded_is_not(self, chrome, session, tmp_path):
        widget = self.make(session)
        assert widget.wait(20)
        widget.to_html(tmp_path / "page.html", samples=3)
        widget.close()
        with ExportedPage(chrome, tmp_path / "page.html") as opened:
            viewer, page = opened.page.locator(".wb-heatmap"), opened.page
            for name in ("Compare with", "Also explain", "Layer"):
                select = viewer.get_by_label(name, exact=True)
                assert select.is_disabled() and "needs the session" in select.get_attribute("title")
            assert viewer.get_by_label("Random weights").is_disabled()
            assert viewer.get_by_label("Opacity").is_enabled() and viewer.get_by_label("Hide below").is_enabled()
            outputs = viewer.locator(".wb-output")
            assert outputs.count() == 3 and viewer.locator(".wb-output:enabled").count() == 1
            assert "needs the session" in outputs.last.get_attribute("title")
            recorded = set()
            for _ in range(6):  # steps stay among what there is
                viewer.locator('[aria-label="Next sample"]').click()
                opened.quiet()
                recorded.add(viewer.locator(".wb-title").inner_text())
                assert not viewer.locator(".wb-pane").first.locator(".wb-pane-gone").is_visible()
            assert 2 <= len(recorded) <= 4
            box = viewer.locator(".wb-sample")
            box.fill("23")
            box.press("Enter")
            assert box.input_value() != "23"
            page.wait_for_function(
                "() => document.querySelector('.wb-live').textContent.endsWith('is not in this page.')"
            )
            assert opened.errors == []

    def test_one_sample_alone_has_no_steps(self, chrome, session, tmp_path):
        widget = HeatmapViewer(session)
        assert widget.wait(20)
        widget.to_html(tmp_path / "page.html", samples=0)
        widget.close()
        with ExportedPage(chrome, tmp_path / "page.html") as opened:
            for name in ("Next sample", "Former sample", "Sample"):
                control = opened.page.get_by_label(name, exact=True)
                assert control.is_disabled() and "no other sample" in control.get_attribute("title")


SELECTED = {"component": "bn2/unit/17", "sample": 4}


@pytest.fixture
def board(session):
    made = wb.show(AtlasBrowser(session.atlas(), session=session), ComponentCard(session), HeatmapViewer(session))
    yield made
    made.close()


class TestTogether:
    pytestmark = needs_browser

    def test_card_and_heatmap_follow_the_atlas_and_say_what_is_not_there(self, chrome, board, tmp_path):
        report = board.to_html(tmp_path / "page.html", components=10, samples=5)
        assert report.recorded["cards"] == (10, 10) and report.recorded["heatmaps"] == (5, 5)
        recorded = [*dict.fromkeys(["bn2/unit/17", *board.widgets[0].table().index])][:10]
        with ExportedPage(chrome, tmp_path / "page.html", width=1240) as opened:
            page = opened.page
            page.locator('.wb-atlas [aria-label="List"]').click()
            name = recorded[4].removeprefix("bn2/").replace("/", " ")
            page.locator(f'.wb-row-name:text-is("{name}")').click()
            page.wait_for_timeout(300)
            assert page.locator(".wb-card .wb-title").inner_text() == name
            assert page.locator(".wb-card .wb-ref").count() > 3
            assert "unit" in page.locator(".wb-heatmap .wb-pane-title").nth(2).inner_text()
            page.locator(".wb-card .wb-ref").first.click()
            page.wait_for_timeout(300)
            sample = page.locator(".wb-card .wb-ref").first.get_attribute("data-sample")
            assert page.locator(".wb-heatmap .wb-title").inner_text() == f"Sample {sample}"

            page.keyboard.press("Tab")
            last = page.locator(".wb-row").last  # far down the list: not recorded
            last.scroll_into_view_if_needed()
            last.click()
            page.wait_for_timeout(300)
            words = page.locator(".wb-card .wb-word").inner_text()
            assert words.startswith("Not in this page: ") and "needs the session" in words
            assert "are not in this page" in page.locator(".wb-card .wb-none").first.inner_text()
            page.locator('.wb-card button[aria-label="Code, results and pin"]').click()
            assert "wb.widgets.ComponentCard(s" in page.locator(".wb-card .wb-copy-text").inner_text()
            assert opened.errors == [] and opened.asked_for == []

    def test_a_reader_without_scripts_sees_the_stills(self, chrome, board, tmp_path):
        board.to_html(tmp_path / "page.html", components=1, samples=1)
        context = chrome.new_context(java_script_enabled=False, offline=True)
        page = context.new_page()
        page.goto((tmp_path / "page.html").as_uri())
        assert page.locator("img").count() > 10 and "Concepts of bn2" in page.locator("main").inner_text()
        context.close()


def record_of(path):
    return json.loads(re.search(r'id="wb-record">(.*?)</script>', path.read_text(encoding="utf-8"))[1])


def test_nothing_in_the_file_leads_outside_or_ends_a_script_early(board, tmp_path):
    board.widgets[0].title = "</script><img src=x onerror=alert(1)>"
    board.to_html(tmp_path / "page.html", components=2, samples=1)
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("<script") == text.count("</script>") == 2 and "<img src=x" not in text
    outside = {u for u in re.findall(r"https?://[^\s\"'`)<]+", text) if "www.w3.org" not in u}
    assert not outside and "default-src 'none'" in text
    assert record_of(tmp_path / "page.html")["widgets"][0]["state"]["title"].startswith("</script>")


def test_scripts_of_one_kind_and_equal_buffers_are_in_the_file_once(session, tmp_path):
    cards = [ComponentCard(session) for _ in range(3)]
    wb.export(cards, tmp_path / "page.html", components=2)
    record = record_of(tmp_path / "page.html")
    assert len(record["kinds"]) == 1 and len(record["widgets"]) == 3
    assert len(record["buffers"]) == len(set(record["buffers"]))
    for card in cards:
        card.close()


def test_what_does_not_fit_is_left_out_and_reported(board, tmp_path):
    whole = board.to_html(tmp_path / "page.html", components=20, samples=6)
    part = board.to_html(tmp_path / "small.html", components=20, samples=6, max_mb=0.65 * whole.n_bytes / 1e6)
    assert whole.left_out == {} and part.n_bytes <= 0.65 * whole.n_bytes
    assert part.left_out["cards"] > 0 and "of 20 cards" in repr(part)
    assert (tmp_path / "small.html").stat().st_size == part.n_bytes
    with pytest.raises(OutOfBudgetError, match="without recordings"):
        board.to_html(tmp_path / "tiny.html", max_mb=0.01)
    assert not (tmp_path / "tiny.html").exists()


def test_progress_is_told_and_a_failing_recording_costs_itself_alone(board, session, tmp_path, monkeypatch):
    steps = []

    class Told(SilentProgress):
        def step(self, n=1, *, note=""):
            steps.append(note)
            super().step(n, note=note)

    real = session.concept_maps

    def fails_once(sample, components, **options):
        if components == [wanted]:
            raise StoreError("Gone.")
        return real(sample, components, **options)

    wanted = board.widgets[0].table().index[1]
    monkeypatch.setattr(session, "concept_maps", fails_once)
    report = board.to_html(tmp_path / "page.html", components=4, samples=2, progress=Told())
    assert report.recorded["maps through components"] == (6, 8)
    assert [note for note in steps if note] == ["left out: Gone."] * 2


def test_a_page_replaces_an_older_one_only_when_it_is_whole(board, tmp_path, monkeypatch):
    path = tmp_path / "page.html"
    path.write_text("the old one")
    monkeypatch.setattr("workbench.widgets.exporting._json", lambda value: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        board.to_html(path)
    assert path.read_text() == "the old one" and [p.name for p in tmp_path.iterdir()] == ["page.html"]


def test_misuse_is_explained(session, tmp_path):
    with pytest.raises(BadValueError, match="no widget of ours"):
        wb.export([ipywidgets.IntSlider()], tmp_path / "page.html")
    with pytest.raises(BadValueError, match="Widgets are exported; got dict"):
        wb.export({}, tmp_path / "page.html")
    card = ComponentCard(session)
    with pytest.raises(BadValueError, match="no folder"):
        card.to_html(tmp_path / "nowhere" / "page.html")
    box = ipywidgets.VBox([ipywidgets.HBox([card]), ipywidgets.IntSlider()])
    assert wb.export(box, tmp_path / "page.html", components=1).n_bytes > 1000
    card.close()
    with pytest.raises(BadValueError, match="is closed"):
        card.to_html(tmp_path / "page.html")
