"""ComponentCard in a real browser: the slider, labels, relatives, pinned cards side by side, without a kernel too."""

import time

import numpy as np
import pytest

pytest.importorskip("playwright")

import workbench as wb
from workbench.core.errors import IncompleteError, StoreError
from workbench.testing.browser import WidgetPage, chromium
from workbench.testing.page_suite import ExportedPage, PageSuite, findings
from workbench.testing.widget_suite import HOSTILE
from workbench.widgets import ComponentCard

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="Chromium is not installed"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


class TestComparedPage(PageSuite):
    """Two pinned cards side by side, with labels; one by itself is in ``test_exporting.py``."""

    kind = "card"
    most_stops = 12  # two cards

    def make(self, session, **view):
        session.notes.put("bn2/unit/17", label="<b>corners</b>", note=HOSTILE)
        return ComponentCard(session, pinned=["bn2/unit/17", "bn2/unit/20"], quantile=0.75, **view)

    def choose(self, widget):
        widget.locator(".wb-ref").nth(5).click()

    def reading(self, widget):
        return "".join(widget.locator(".wb-ref.wb-current").all_inner_texts())


SELECTED = {"component": "bn2/unit/17", "sample": 4}


@pytest.fixture
def page(chrome, session):
    card = ComponentCard(session)
    assert card.wait(20)
    with WidgetPage(chrome, card, width=700, height=1400) as opened:
        opened.session, opened.card = session, card
        opened.settle()
        yield opened
        assert opened.errors == []
    card.close()


def samples(page, column=0):
    tiles = page.page.locator(".wb-column").nth(column).locator(".wb-ref[data-sample]")
    return tiles.evaluate_all("all => all.map((one) => Number(one.dataset.sample))")


def test_the_slider_goes_from_the_strongest_to_the_weakest(page):
    slider = page.page.locator(".wb-range")
    assert slider.get_attribute("aria-label") == "References from strongest to weakest"
    assert slider.get_attribute("aria-valuetext") == "strongest"
    column = page.session.activations("bn2").values[:, 17]
    order = sorted(range(24), key=lambda i: (-column[i], i))
    slider.focus()
    page.page.keyboard.press("End")
    page.until(lambda: samples(page) == order[12:])
    page.settle()
    assert page.card.quantile == 0 and slider.get_attribute("aria-valuetext") == "weakest"
    assert "Ranks 13 to 24 of 24 originals" in page.page.locator(".wb-origin").first.inner_text()
    page.until(lambda: page.page.locator(".wb-live").inner_text().startswith("Ranks 13 to 24 of 24"))
    page.page.keyboard.press("Home")
    page.until(lambda: page.card.quantile == 1 and samples(page) == page.card.references["samples"])
    page.page.keyboard.press("ArrowUp")
    page.until(lambda: page.card.quantile == 0.99)
    page.page.keyboard.press("ArrowRight")  # in the tools: to the next control
    assert page.page.evaluate("() => document.activeElement.tagName") == "BUTTON"
    slider.click()
    page.settle()
    taken = float(slider.input_value())
    page.page.keyboard.press("ArrowRight")  # but what the pointer has taken keeps its arrows
    assert float(slider.input_value()) == taken + 1


def test_a_drag_sends_few_and_ends_on_the_last(page):
    sent = []
    page.card.observe(lambda change: sent.append(change["new"]), names="quantile")
    page.page.evaluate(
        """async () => {
            const input = document.querySelector('.wb-range');
            for (let i = 1; i <= 200; i++) {
                input.value = i / 2.5;
                input.dispatchEvent(new Event('input'));
                if (i % 20 === 0) await new Promise((done) => setTimeout(done, 20));
            }
            input.dispatchEvent(new Event('change'));
        }"""
    )
    page.until(lambda: page.card.quantile == 0.2)
    page.settle()
    assert len(sent) <= 12 and page.card.references["quantile"] == 0.2
    page.until(lambda: samples(page) == page.card.references["samples"])


def test_related_components_move_the_focus_by_mouse_and_keyboard(page):
    near = page.page.locator('.wb-relatives[aria-label^="Near in meaning"] [role=option]')
    wanted = near.nth(1).get_attribute("data-id")
    near.nth(0).focus()
    page.page.keyboard.press("ArrowDown")
    page.page.keyboard.press("Enter")
    page.until(lambda: page.session.selection.component == wanted)
    page.settle()
    assert page.page.locator(".wb-title").inner_text() == f"unit {wanted.rpartition('/')[2]}"
    after = page.page.locator('.wb-relatives[aria-label^="After"] [role=option]').first
    wanted = after.get_attribute("data-id")
    after.hover()
    after.click()
    page.until(lambda: page.session.selection.component == wanted)
    page.settle()
    assert page.page.locator(".wb-sub").first.inner_text() == "blocks.4"


def test_look_alikes_select_their_sample(page):
    tile = page.page.locator(".wb-alike").nth(1)
    assert "looks like reference sample" in tile.get_attribute("aria-label")
    tile.focus()
    page.page.keyboard.press("Enter")
    page.until(lambda: str(page.session.selection.sample) == tile.get_attribute("data-sample"))
    assert tile.get_attribute("aria-selected") == "true"


def test_classes_are_a_table_with_headings(page):
    rows = page.page.locator(".wb-classes tbody tr")
    assert rows.count() == 3 and rows.first.locator("th[scope=row]").count() == 1
    names = [rows.nth(i).locator("th").inner_text() for i in range(3)]
    assert names == [" ".join(one["name"].split()) for one in page.card.classes["classes"]]
    assert page.page.locator(".wb-card h3").count() >= 5


def test_a_label_is_written_kept_and_shown_where_the_component_is(page):
    box = page.page.locator("input.wb-written")
    box.fill("<i>corners</i>")
    box.press("Tab")
    page.until(lambda: page.session.notes.labels() == {"bn2/unit/17": "<i>corners</i>"})
    page.until(lambda: page.page.locator(".wb-title").inner_text() == "unit 17 · <i>corners</i>")
    assert "Label saved" in page.page.locator(".wb-writing [role=status]").inner_text()
    page.page.locator("textarea.wb-written").fill("Seen on\ncircles.")
    page.page.locator(".wb-range").focus()
    page.until(lambda: page.session.notes.of("bn2/unit/17").note == "Seen on\ncircles.")
    page.session.selection.component = page.card.related["groups"][0]["components"][0]
    page.settle()
    assert box.input_value() == "" and page.page.locator("textarea.wb-written").input_value() == ""
    page.session.selection.component = "bn2/unit/17"
    page.settle()
    assert box.input_value() == "<i>corners</i>"
    box.fill("")
    box.press("Tab")
    page.until(lambda: page.page.locator(".wb-title").inner_text() == "unit 17")


def test_a_label_that_cannot_be_kept_is_explained(page, monkeypatch):
    monkeypatch.setenv("WORKBENCH_STRICT", "0")

    def put(*args, **kwargs):
        raise StoreError("The store is read only.", hint="Open another.")

    monkeypatch.setattr(page.session.notes, "put", put)
    page.page.locator("input.wb-written").fill("a")
    page.page.locator("input.wb-written").press("Tab")
    page.until(lambda: "read only" in page.page.locator(".wb-problem").inner_text())
    assert page.page.locator(".wb-writing [role=status]").inner_text() == "Not saved."


def test_cards_are_pinned_added_and_taken_away(page):
    page.page.locator('[aria-label="Stay on this component"]').click()
    page.settle()
    assert page.card.pinned == ("bn2/unit/17",) and page.page.locator(".wb-add").is_hidden()
    page.session.selection.component = "bn2/unit/20"
    page.settle()
    assert page.page.locator(".wb-title").inner_text() == "unit 17"
    page.page.locator(".wb-add").click()
    page.until(lambda: page.card.pinned == ("bn2/unit/17", "bn2/unit/20"))
    page.settle()
    titles = page.page.locator(".wb-column-title")
    assert [titles.nth(i).inner_text() for i in range(2)] == ["unit 17", "unit 20"]
    assert "in common" in page.page.locator(".wb-shares").nth(1).inner_text()
    page.until(lambda: samples(page, 1) == page.card.compared["cards"][0]["references"]["samples"])
    boxes = [page.page.locator(".wb-column").nth(i).bounding_box() for i in range(2)]
    assert boxes[0]["y"] == boxes[1]["y"] and boxes[0]["x"] < boxes[1]["x"]
    page.page.set_viewport_size({"width": 420, "height": 1400})
    page.page.wait_for_timeout(200)
    boxes = [page.page.locator(".wb-column").nth(i).bounding_box() for i in range(2)]
    assert boxes[0]["x"] == boxes[1]["x"] and boxes[0]["y"] < boxes[1]["y"]
    page.page.locator('[aria-label="Stop comparing this one"]').first.click()
    page.until(lambda: page.card.pinned == ("bn2/unit/20",))
    page.settle()
    assert page.page.locator(".wb-title").inner_text() == "unit 20" and page.page.locator(".wb-column").count() == 1
    page.page.locator('[aria-label="Follow the selection again"]').click()
    page.until(lambda: page.card.pinned == ())


def test_references_alone_say_what_they_lack(chrome, session, monkeypatch):
    def activations(layer):
        raise IncompleteError("References alone.", hint="Run session.sweep.")

    monkeypatch.setattr(session, "activations", activations)
    card = ComponentCard(session, quantile=0.0)
    assert card.wait(20)
    with WidgetPage(chrome, card, width=700, height=1200) as page:
        page.settle()
        assert "kept these alone, and nothing weaker can be shown" in page.page.locator(".wb-origin").first.inner_text()
        assert page.page.locator('section[aria-label="Related components"]').inner_text().endswith("Run session.sweep.")
        assert page.errors == []
    card.close()


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious_in_the_live_view(chrome, session, dark):
    session.notes.put("bn2/unit/17", label="a")
    card = ComponentCard(session, pinned=["bn2/unit/17", "bn2/unit/3"], quantile=0.4, by="relevance")
    assert card.wait(20)
    with WidgetPage(chrome, card, width=900, height=1400, dark=dark) as page:
        page.settle()
        found = findings(page.page)
        assert found == [], "\n".join(found)
    card.close()


def test_a_page_without_kernel_follows_slides_at_its_stops_and_compares(chrome, session, tmp_path):
    session.notes.put("bn2/unit/17", label="corners", note="a note")
    card, other = ComponentCard(session), ComponentCard(session, by="relevance")
    assert card.wait(20) and other.wait(20)
    report = wb.export([card, other], tmp_path / "page.html")
    stops, related = card.recorded_state()["stops"], card.related
    card.close()
    other.close()
    assert report.n_bytes < 20e6 and not report.left_out
    with ExportedPage(chrome, tmp_path / "page.html", width=1300, height=1400) as opened:
        page = opened.page
        left = page.locator(".wb-card").first
        slider = left.locator(".wb-range")
        assert slider.get_attribute("max") == str(len(stops) - 1)
        slider.focus()
        page.keyboard.press("End")
        page.wait_for_timeout(300)
        column = session.activations("bn2").values[:, 17]
        order = sorted(range(24), key=lambda i: (-column[i], i))
        shown = left.locator(".wb-ref").evaluate_all("all => all.map((one) => Number(one.dataset.sample))")
        assert shown == order[12:] and slider.get_attribute("aria-valuetext") == "weakest"
        page.keyboard.press("Home")
        assert left.locator("input.wb-written").is_disabled()
        assert left.locator("input.wb-written").input_value() == "corners"
        assert left.locator("textarea.wb-written").input_value() == "a note"
        left.locator('[aria-label="Stay on this component"]').click()
        near = related["groups"][0]["components"][0]
        left.locator(f'.wb-relative[data-id="{near}"]').click()
        page.wait_for_timeout(300)
        assert left.locator(".wb-title").inner_text() == "unit 17 · corners"
        right = page.locator(".wb-card").nth(1)
        assert right.locator(".wb-title").inner_text() == f"unit {near.rpartition('/')[2]}"
        left.locator(".wb-add").click()
        page.wait_for_timeout(300)
        assert left.locator(".wb-column").count() == 2
        assert left.locator(".wb-column").nth(1).locator(".wb-ref canvas").count() > 0
        assert left.locator(".wb-column").nth(1).locator(".wb-spread svg").count() == 1
        assert opened.errors == [] and opened.asked_for == []


def test_what_a_page_lacks_it_says(chrome, session, tmp_path):
    card = ComponentCard(session)
    assert card.wait(20)
    wb.export([card], tmp_path / "page.html", components=1)
    card.close()
    with ExportedPage(chrome, tmp_path / "page.html", width=700) as opened:
        for _ in range(8):  # those that are related are recorded, but not those that these lead to
            opened.page.locator(".wb-relative").last.click()
            opened.page.wait_for_timeout(200)
            if opened.page.locator(".wb-relative").count() == 0:
                break
        assert opened.page.locator('.wb-none:has-text("not in this page")').count() == 5
        assert opened.errors == []


def test_a_card_from_the_store_is_there_at_once(page):
    """The goal is 120 ms on an idle machine; here it is measured and kept from growing without notice."""
    times = []
    for i in (21, 22, 23, 24, 25):
        started = time.perf_counter()
        page.session.selection.component = f"bn2/unit/{i}"
        page.until(lambda i=i: page.page.locator(".wb-title").inner_text() == f"unit {i}")
        page.until(lambda: samples(page) == page.card.references["samples"])
        times.append(time.perf_counter() - started)
        page.settle()
    print(f"card from the store: {1000 * np.median(times):.0f} ms")
    assert np.median(times) < 1.5
