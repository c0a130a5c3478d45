"""DirectionViewer in a real browser: beginning, the strip by mouse and keyboard, tails, methods, classes, no kernel."""

import pytest

pytest.importorskip("playwright")

from workbench.testing.browser import WidgetPage, chromium
from workbench.testing.page_suite import ExportedPage, PageSuite, findings
from workbench.widgets import DirectionViewer, SampleGrid

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="Chromium is not installed"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

BLOCK = "<u>block</u>"


class TestPage(PageSuite):
    kind = "cav"

    def make(self, session, **view):
        # Few methods: a page of them all takes the solvers' time, and draws the same.
        view = {"concept": f"mask:{BLOCK}", "scope": "all", "methods": ["pattern", "ridge"], **view}
        made = DirectionViewer(session, "bn2", test_classes=True, **view)
        assert made.wait(20)
        return made

    def choose(self, widget):
        widget.locator(".wb-tail-low .wb-tail-tile").nth(2).click()

    def reading(self, widget):
        return (
            "".join(widget.locator(".wb-tail-tile.wb-current").all_inner_texts())
            + widget.locator(".wb-pane-title").first.inner_text()
        )


SESSION = {"n": 48}


@pytest.fixture
def page(chrome, session):
    viewer = DirectionViewer(session, "bn2", concept=f"mask:{BLOCK}", scope="all", methods=["pattern", "ridge"])
    assert viewer.wait(20)
    with WidgetPage(chrome, viewer, width=1000, height=1400) as opened:
        opened.session, opened.viewer = session, viewer
        opened.settle()
        yield opened
        assert opened.errors == []
    viewer.close()


def samples(page, end):
    return page.page.locator(f".wb-tail-{end} .wb-tail-tile").evaluate_all(
        "all => all.map((one) => Number(one.dataset.sample))"
    )


def test_the_tails_are_the_ends_of_the_strip_and_select(page):
    assert samples(page, "high") == page.viewer.tail("high") and samples(page, "low") == page.viewer.tail("low")
    page.page.locator(".wb-tail-high .wb-tail-tile").nth(3).click()
    page.until(lambda: page.session.selection.sample == page.viewer.tail("high")[3])
    page.page.locator(".wb-tail-low .wb-small").click()
    page.until(lambda: list(page.session.selection.samples) == page.viewer.tail("low"))
    page.settle()
    assert page.page.locator(".wb-tail-low .wb-member").count() == 8
    first = page.page.locator(".wb-tail-high .wb-tail-tile").first
    first.click(modifiers=["Control"])
    page.until(lambda: len(page.session.selection.samples) == 9)
    assert page.viewer.positive_ids == () and page.viewer.concept == f"mask:{BLOCK}"


def test_a_drag_on_the_strip_selects_an_interval(page):
    box = page.page.locator(".wb-strip-plot svg").bounding_box()
    y = box["y"] + 60
    page.page.mouse.move(box["x"] + box["width"] * 0.6, y)
    page.page.mouse.down()
    for k in range(1, 9):
        page.page.mouse.move(box["x"] + box["width"] * (0.6 + 0.05 * k), y)
    assert page.session.selection.samples == (), "told on release"
    page.page.mouse.up()
    page.until(lambda: len(page.session.selection.samples) > 0)
    values = page.viewer.table()["projection"]
    from_ = values.min() + ((0.6 * box["width"] - 4) / (box["width"] - 8)) * (values.max() - values.min())
    assert set(page.session.selection.samples) == set(values[values >= from_].index)
    page.settle()
    assert "selected, projections" in page.page.locator(".wb-cav .wb-live").last.inner_text()


def test_the_strip_is_a_slider_over_ranks(page):
    slider, table = page.page.locator(".wb-rank"), page.viewer.table()
    slider.focus()
    page.page.keyboard.press("End")
    assert slider.get_attribute("aria-valuetext").startswith(f"Rank 1 of 48: sample {table.index[0]}, projection")
    page.page.keyboard.press("ArrowLeft")
    text = slider.get_attribute("aria-valuetext")
    assert text.startswith(f"Rank 2 of 48: sample {table.index[1]}") and "held out" in text and "concept" in text
    page.page.keyboard.press("Enter")
    page.until(lambda: page.session.selection.sample == table.index[1])
    for _ in range(3):
        page.page.keyboard.press("Shift+ArrowLeft")
    page.page.keyboard.press("Enter")
    page.until(lambda: list(page.session.selection.samples) == table.index[1:5].tolist())
    page.page.keyboard.press("Shift+ArrowLeft")
    page.page.keyboard.press("Escape")
    page.page.keyboard.press("Home")
    assert slider.get_attribute("aria-valuetext").startswith("Rank 48 of 48")


def test_methods_are_compared_and_chosen_by_keyboard(page):
    rows = page.page.locator(".wb-methods tbody tr")
    assert rows.count() == 2 and "±" in rows.first.inner_text() and "°" in rows.first.inner_text()
    page.page.locator(".wb-method").first.focus()
    page.page.keyboard.press("ArrowDown")
    page.until(lambda: page.viewer.shown.endswith("-ridge/0"))
    page.settle()
    assert page.viewer.strip["direction"] == page.viewer.shown
    assert page.page.evaluate("() => document.activeElement.getAttribute('aria-checked')") == "true"
    page.page.get_by_role("button", name="Mean difference").click()
    page.until(lambda: page.viewer.methods == ["pattern", "ridge", "mean-difference"])
    page.settle()
    assert rows.count() == 3 and page.viewer.shown.endswith("-ridge/0")
    assert page.page.locator(".wb-angles tbody tr").count() == 4


def test_classes_are_tested_on_demand_and_aim_the_map(page):
    page.page.get_by_role("button", name="Test the classes").click()
    page.until(lambda: page.viewer.test_classes)
    page.settle()
    rows = page.page.locator(".wb-classes-table tbody tr")
    assert rows.count() == 3 and "undefined" in page.page.locator(".wb-classes-table").inner_text()
    cells = rows.nth(1).locator("td")
    assert cells.count() == 6 and page.page.locator(".wb-classes-table .wb-null").count() == 9, "a band for each"
    slope, size = cells.nth(2), cells.nth(4)
    assert "random directions −0.15 to +0.15" in slope.get_attribute("title") and "p 0.03, corrected 0.06" in (
        slope.get_attribute("title")
    )
    assert "random directions 0.05 to 0.25" in size.inner_text() and cells.nth(5).inner_text() == "0.6"
    page.page.locator(".wb-link", has_text="square").click()
    page.until(lambda: page.session.selection.target == "logit:1")
    page.settle()
    assert page.page.locator(".wb-cav .wb-pane").count() == 3
    assert "for square" in page.page.locator(".wb-cav .wb-pane").last.inner_text()


def test_keeping_makes_it_the_component(page):
    page.page.get_by_role("button", name="Keep as component").click()
    page.until(lambda: page.session.selection.component == page.viewer.shown)
    page.settle()
    assert "is selected" in page.page.locator(".wb-kept").inner_text()


def test_from_nothing_to_a_direction(chrome, session):
    session.data.tag("odd", range(0, 48, 5))
    viewer, grid = DirectionViewer(session, "bn2", scope="all", methods=["pattern"]), SampleGrid(session)
    assert viewer.wait() and grid.wait()
    with WidgetPage(chrome, viewer, grid, width=1200, height=1200) as page:
        assert "No direction yet" in page.page.locator(".wb-cav").inner_text()
        assert findings(page.page, within=".wb-cav") == []
        page.page.locator(".wb-ways button", has_text="Tagged odd").click()
        page.until(lambda: viewer.concept == "tag:odd")
        page.settle()
        assert "against 38 samples" in page.page.locator(".wb-cav .wb-origin").first.inner_text()
        session.selection.samples = (0, 3, 6, 9)
        page.settle()
        page.page.get_by_role("button", name="Use the 4 selected samples").click()
        page.until(lambda: viewer.concept == "selected" and viewer.positive_ids == (0, 3, 6, 9))
        page.settle()
        assert viewer.found["n_positive"] == 4 and page.page.locator(".wb-methods tbody tr").count() == 1
        session.selection.samples = (0, 3, 6, 9, 12, 15)
        page.settle()
        assert viewer.found["n_positive"] == 6
        assert "6 samples with selection" in page.page.locator(".wb-cav .wb-origin").first.inner_text()
        page.page.get_by_label("Against", exact=True).select_option("random")
        page.until(lambda: viewer.negatives == "random")
        page.settle()
        assert page.errors == [] and "drawn at random" in viewer.found["against"]
    viewer.close(), grid.close()


def test_an_error_is_said_in_place(chrome, session, monkeypatch):
    monkeypatch.setenv("WORKBENCH_STRICT", "0")
    session.data.tag("stripes", range(2, 48, 3))
    viewer = DirectionViewer(session, "bn2", concept="tag:stripes")
    viewer.wait()
    with WidgetPage(chrome, viewer, width=900, height=700) as page:
        assert "confounded" in page.page.locator(".wb-problem").inner_text()
        page.page.locator(".wb-segment", has_text="All").click()
        page.until(lambda: viewer.scope == "all")
        page.settle()
        assert page.page.locator(".wb-problem").is_hidden()
        assert page.page.locator(".wb-warnings li").count() >= 1 and page.errors == []
    viewer.close()


def test_other_directions_and_samples_are_in_an_exported_page(chrome, session, tmp_path):
    viewer = DirectionViewer(session, "bn2", concept=f"mask:{BLOCK}", scope="all", methods=["pattern", "ridge"])
    assert viewer.wait()
    viewer.to_html(tmp_path / "page.html")
    ridge = viewer.directions().index[1]
    tail = viewer.tail("high")
    with ExportedPage(chrome, tmp_path / "page.html", height=1400) as opened:
        page = opened.page
        assert page.locator(".wb-keep").is_hidden() and page.locator(".wb-test").is_hidden()
        page.locator(".wb-tail-high .wb-tail-tile").nth(2).click()
        page.wait_for_timeout(300)
        assert page.locator(".wb-pane-title").first.inner_text() == f"Sample {tail[2]}"
        page.locator(".wb-method").nth(1).click()
        page.wait_for_timeout(300)
        assert page.locator('.wb-method[aria-checked="true"]').get_attribute("data-direction") == ridge
        assert page.locator(".wb-strip-plot svg").count() == 1
        assert page.locator(".wb-place .wb-none").count() == 1, "of other directions a few samples"
        page.locator(".wb-method").nth(0).click()
        page.wait_for_timeout(300)
        assert page.locator(".wb-pane-title").first.inner_text() == f"Sample {tail[2]}"
        assert opened.errors == [] and opened.asked_for == []
    viewer.close()
