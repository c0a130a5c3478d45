"""AtlasBrowser in a real browser: two targets compared, labels; with and without a kernel."""

import pytest

pytest.importorskip("playwright")

import workbench as wb
from workbench.testing.browser import WidgetPage, chromium
from workbench.testing.page_suite import ExportedPage, PageSuite, findings
from workbench.widgets import AtlasBrowser, ComponentCard, HeatmapViewer

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="Chromium is not installed"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


class TestComparedPage(PageSuite):
    """Two targets compared; columns of the atlas are in ``test_exporting.py``."""

    kind = "atlas"

    def make(self, session, **view):
        session.selection.target = "logit:1"
        return AtlasBrowser(
            session.atlas(), session=session, overlay="target", compare_target="logit:0", show_list=True, **view
        )

    def choose(self, widget):
        widget.locator(".wb-row").nth(5).click()

    def reading(self, widget):
        return widget.locator(".wb-note").inner_text()


def select(page, label, text, at=0):
    page.locator(".wb-atlas").nth(at).get_by_label(label, exact=True).select_option(label=text)


def names(page):
    return page.locator(".wb-row-name").all_inner_texts()


def test_two_targets_are_chosen_compared_and_announced(chrome, session):
    atlas, heat = AtlasBrowser(session.atlas(), session=session, show_list=True), HeatmapViewer(session)
    assert atlas.wait(20) and heat.wait(20)
    with WidgetPage(chrome, atlas, heat, width=1240, height=900) as page:
        page.settle()
        assert page.page.locator(".wb-targets").is_hidden()
        select(page.page, "Colour", "relevance for a target")
        page.settle()
        assert atlas.overlay == "target" and page.page.locator(".wb-targets").is_visible()
        select(page.page, "For", "square (8)")
        page.settle()
        assert session.selection.target == heat.target == "logit:1"
        select(page.page, "minus", "circle (8)")
        page.until(lambda: atlas.target_values["compare_target"] == "logit:0")
        page.settle()
        assert page.page.locator(".wb-legend .wb-label").inner_text() == "relevance for square − circle"
        assert page.page.locator(".wb-legend-below").inner_text().startswith(("−", "≤ −"))
        assert "minus that over the 8 samples explained as circle" in page.page.locator(".wb-basis").inner_text()
        page.until(lambda: "square − circle: most for unit" in page.page.locator(".wb-live").first.inner_text())
        best = atlas.table().index[:3]
        assert names(page.page)[:3] == [f"unit {one.rpartition('/')[2]}" for one in best]
        session.selection.target = "logit:2"
        page.until(lambda: atlas.target_values["target"] == "logit:2")
        page.settle()
        assert "> − circle" in page.page.locator(".wb-legend .wb-label").inner_text()
        assert page.errors == []
    atlas.close()
    heat.close()


def test_why_there_is_nothing_is_said_in_place(chrome, session):
    session.selection.target = "logit:77"
    atlas = AtlasBrowser(session.atlas(), session=session, overlay="target")
    assert atlas.wait(20)
    with WidgetPage(chrome, atlas, width=900) as page:
        page.settle()
        assert page.page.locator(".wb-basis").inner_text() == "There is no output 77; there are 3."
        assert page.page.get_by_label("For", exact=True).input_value() == "logit:77"
        assert page.errors == []
    atlas.close()


def test_labels_given_on_a_card_are_on_the_board(chrome, session):
    session.selection.component = "bn2/unit/17"
    atlas, card = AtlasBrowser(session.atlas(), session=session, show_list=True), ComponentCard(session)
    assert atlas.wait(20) and card.wait(20)
    with WidgetPage(chrome, atlas, card, width=1240, height=1400) as page:
        page.settle()
        page.page.locator("input.wb-written").fill("<u>corners</u>")
        page.page.locator("input.wb-written").press("Tab")
        page.until(lambda: atlas.labels == {"bn2/unit/17": "<u>corners</u>"})
        page.page.locator(".wb-atlas .wb-search").fill("corners")
        page.until(lambda: names(page.page) == ["unit 17 · <u>corners</u>"])
        assert page.errors == []
    atlas.close()
    card.close()


@pytest.mark.parametrize("dark", [False, True])
def test_axe_finds_nothing_serious_while_comparing(chrome, session, dark):
    atlas = AtlasBrowser(session.atlas(), session=session, overlay="target", target="logit:1", compare_target="logit:0")
    assert atlas.wait(20)
    with WidgetPage(chrome, atlas, width=1000, dark=dark) as page:
        page.settle()
        found = findings(page.page)
        assert found == [], "\n".join(found)
    atlas.close()


def test_a_page_without_kernel_compares_the_targets_it_has(chrome, session, tmp_path):
    atlas = AtlasBrowser(session.atlas(), session=session, overlay="target", target="logit:1", show_list=True)
    assert atlas.wait(20)
    report = wb.export([atlas], tmp_path / "page.html")
    assert report.recorded["targets"] == (13, 13), report
    wanted = atlas._relevance.values("bn2", 64, "logit:2", "logit:0")["values"]
    atlas.close()
    with ExportedPage(chrome, tmp_path / "page.html") as opened:
        select(opened.page, "For", '<b>stripes</b> & "dots" <img src=x onerror=alert(1)> (8)')
        select(opened.page, "minus", "circle (8)")
        opened.page.wait_for_timeout(300)
        assert "> − circle" in opened.page.locator(".wb-legend .wb-label").inner_text()
        best = (-wanted).argsort(kind="stable")[:3]
        assert names(opened.page)[:3] == [f"unit {i}" for i in best]
        assert opened.errors == [] and opened.asked_for == []


def test_a_page_offers_no_targets_where_none_were_asked_for(chrome, session, tmp_path):
    atlas = AtlasBrowser(session.atlas(), session=session)
    assert atlas.wait(20)
    wb.export([atlas], tmp_path / "page.html")
    atlas.close()
    with ExportedPage(chrome, tmp_path / "page.html") as opened:
        options = opened.page.get_by_label("Colour", exact=True).locator("option").all_inner_texts()
        assert "relevance for a target" not in options and opened.errors == []
