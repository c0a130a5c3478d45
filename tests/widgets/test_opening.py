"""A double click, or Enter once more, brings the widget that tells more into sight: the card, or the heatmap."""

import pytest

pytest.importorskip("playwright")

from workbench.testing.browser import WidgetPage
from workbench.testing.fake_session import FakeSession
from workbench.testing.page_suite import needs_browser
from workbench.widgets import AtlasBrowser, ComponentCard, HeatmapViewer, ModelTree, NeuronMap, SampleGrid

pytestmark = needs_browser


@pytest.fixture(scope="module")
def page(chrome):
    session = FakeSession()
    widgets = [
        ModelTree(session),
        SampleGrid(session),
        NeuronMap(session, "bn2", show_list=True),
        AtlasBrowser(session.atlas(), session=session, show_list=True),
        ComponentCard(session),
        HeatmapViewer(session),
    ]
    for widget in widgets:
        assert widget.wait(20)
    with WidgetPage(chrome, *widgets, width=700, height=620) as opened:
        opened.page.emulate_media(reduced_motion="reduce")
        opened.session = session
        yield opened
        assert opened.errors == []
    for widget in widgets:
        widget.close()
    session.lane.close()


def opened(page, kind):
    """Whether the widget of a kind lies in the window and is marked."""
    page.settle()
    found = page.page.locator(f".wb-{kind}.wb-opened")
    if found.count() != 1:
        return False
    box, height = found.bounding_box(), page.page.viewport_size["height"]
    return box["y"] < height - 40 and box["y"] + box["height"] > 40


def forgotten(page):
    page.page.wait_for_function("() => !document.querySelector('.wb-opened')")


def test_a_layer_opens_the_card_of_its_first_component(page):
    page.page.locator('[title="blocks.4"]').dblclick()
    assert opened(page, "card") and page.session.selection.component == "blocks.4/unit/0"
    forgotten(page)
    page.session.selection.component = "bn2/unit/7"
    page.settle()
    page.page.locator('[title="bn2"]').focus()
    page.page.keyboard.press("Enter")
    page.settle()
    assert page.page.locator(".wb-opened").count() == 0
    page.page.keyboard.press("Enter")  # the one that is chosen: its card, and the component of this layer stays
    assert opened(page, "card") and page.session.selection.component == "bn2/unit/7"
    forgotten(page)


def test_a_sample_opens_its_heatmap(page):
    page.page.locator('.wb-samples [data-at="2"]').dblclick()  # by its place: rows are made in no certain order
    assert opened(page, "heatmap")
    assert page.session.selection.sample == 2
    forgotten(page)
    page.page.locator(".wb-samples [role=grid]").focus()
    page.page.keyboard.press("ArrowRight")
    page.page.keyboard.press("Enter")
    page.settle()
    assert page.session.selection.sample == 3 and page.page.locator(".wb-opened").count() == 0
    page.page.keyboard.press("Enter")
    assert opened(page, "heatmap")
    forgotten(page)


@pytest.mark.parametrize("kind", ["map", "atlas"])
def test_a_point_or_a_cell_opens_its_card(page, kind):
    atlas = next(one for one in page.widgets.values() if isinstance(one, AtlasBrowser))
    leftmost = min(range(len(atlas.board["cells"])), key=lambda i: int(atlas.board["cells"][i][0]))
    page.session.selection.component = f"bn2/unit/{leftmost}" if kind == "atlas" else None
    page.settle()
    canvas = page.page.locator(f".wb-{kind} canvas[role=application]")
    canvas.focus()
    page.page.keyboard.press("ArrowRight")
    page.page.keyboard.press("Enter")
    page.settle()
    assert page.page.locator(".wb-opened").count() == 0
    chosen = page.session.selection.component
    page.page.keyboard.press("Enter")
    assert opened(page, "card") and page.session.selection.component == chosen
    forgotten(page)

    row = page.page.locator(f".wb-{kind} .wb-row").nth(3)
    row.dblclick()
    assert opened(page, "card")
    forgotten(page)
    page.page.locator(f".wb-{kind} .wb-list-scroll").focus()
    page.page.keyboard.press("ArrowDown")
    page.settle()
    chosen = page.session.selection.component
    assert page.page.locator(".wb-opened").count() == 0
    page.page.keyboard.press("Enter")
    assert opened(page, "card") and page.session.selection.component == chosen
    forgotten(page)


def test_a_double_click_on_the_board_opens_the_card_and_comes_near(page):
    atlas = next(one for one in page.widgets.values() if isinstance(one, AtlasBrowser))
    page.page.locator('.wb-atlas [aria-label="Show all"]').click()
    page.session.selection.component = None
    page.settle()
    canvas = page.page.locator(".wb-atlas canvas[role=application]")
    canvas.scroll_into_view_if_needed()
    box, (columns, rows) = canvas.bounding_box(), atlas.board["grid"]
    x, y = (int(v) for v in atlas.board["cells"][17])
    side = min((box["width"] - 16) / columns, (box["height"] - 16) / rows, 260)
    at = {"x": box["width"] / 2 + (x + 0.5 - columns / 2) * side, "y": box["height"] / 2 + (y + 0.5 - rows / 2) * side}
    canvas.dblclick(position=at)
    assert opened(page, "card") and page.session.selection.component == "bn2/unit/17"
    page.settle(quiet=0.8)
    assert atlas.view_box and atlas.view_box[2] - atlas.view_box[0] < columns
    forgotten(page)
