"""The widgets in a real browser, on a bare page: they draw, follow one another, obey the keyboard and trust no text."""

import pytest

pytest.importorskip("playwright")

from workbench.core.errors import StoreError
from workbench.testing.browser import WidgetPage
from workbench.testing.fake_session import FakeSession
from workbench.testing.page_suite import needs_browser
from workbench.widgets import AtlasBrowser, ComponentCard, HeatmapViewer
from workbench.widgets.esm import esm
from workbench.widgets.stills import stacked

pytestmark = needs_browser


def three(session, **view):
    made = [AtlasBrowser(session.atlas(), session=session), ComponentCard(session), HeatmapViewer(session)]
    for widget in made:
        assert widget.wait(20)
    return made


@pytest.fixture
def page(chrome, session):
    widgets = three(session)
    with WidgetPage(chrome, *widgets, width=1240, height=1200) as opened:
        opened.session = session
        yield opened
        assert opened.errors == []
    for widget in widgets:
        widget.close()


def cell(page, index):
    """Where a component lies on the screen."""
    atlas = next(iter(page.widgets.values()))
    columns, rows = atlas.board["grid"]
    box = page.page.locator(".wb-canvas").bounding_box()
    side = min((box["width"] - 16) / columns, (box["height"] - 16) / rows, 260)
    x, y = atlas.board["cells"][index]
    left = box["x"] + box["width"] / 2 + (int(x) + 0.5 - columns / 2) * side
    return left, box["y"] + box["height"] / 2 + (int(y) + 0.5 - rows / 2) * side


def drawn(page, selector):
    """Share of a canvas that is not empty."""
    return page.page.evaluate(
        """selector => {
            const canvas = document.querySelector(selector), data = canvas.getContext('2d')
                .getImageData(0, 0, canvas.width, canvas.height).data;
            let n = 0;
            for (let i = 3; i < data.length; i += 4) n += data[i] > 0;
            return n / (data.length / 4);
        }""",
        selector,
    )


def test_a_click_on_the_board_is_followed_by_card_and_heatmap(page):
    assert drawn(page, ".wb-canvas") > 0.2
    assert page.page.locator(".wb-card .wb-empty strong").inner_text() == "No component selected"
    page.page.mouse.click(*cell(page, 17))
    page.settle()
    assert page.session.selection.component == "bn2/unit/17"
    assert page.page.locator(".wb-card .wb-title").inner_text() == "unit 17"
    assert page.page.locator(".wb-card .wb-ref").count() == len(next(iter(list(page.widgets.values())[1:2])).table())
    assert "unit 17" in page.page.locator(".wb-heatmap .wb-pane-title").nth(2).inner_text()
    assert page.page.locator(".wb-heatmap .wb-comp").count() == 8

    sample = int(page.page.locator(".wb-ref").nth(2).get_attribute("data-sample"))
    page.page.locator(".wb-ref").nth(2).click()
    page.settle()
    assert page.session.selection.sample == sample
    assert page.page.locator(".wb-heatmap .wb-title").inner_text() == f"Sample {sample}"
    assert page.page.locator(".wb-spread-mark").inner_text().startswith(f"sample {sample}:")

    page.page.locator(".wb-comp").nth(1).click()
    page.settle()
    chosen = page.session.selection.component
    assert chosen == page.page.locator(".wb-comp").nth(1).get_attribute("data-id")
    assert page.page.locator(".wb-comp[aria-selected=true]").count() == 1


def test_python_selects_and_the_page_follows(page):
    page.session.selection.set(component="bn2/unit/40", sample=11)
    page.settle()
    assert page.page.locator(".wb-card .wb-title").inner_text() == "unit 40"
    assert "selected bn2/unit/40" in page.page.locator(".wb-atlas .wb-note").inner_text()
    assert page.page.locator(".wb-sample").input_value() == "11"


def spy(page):
    """Notes what the page sends to Python from now on."""
    page.page.evaluate("() => { const real = fromPage; window.sent = []; fromPage = t => (sent.push(t), real(t)); }")


def test_hovering_links_widgets_of_a_page_without_python(chrome, session):
    left, right = (AtlasBrowser(session.atlas(), session=session, show_list=True) for _ in range(2))
    other = AtlasBrowser(session.atlas(), session=session, group="other")
    for widget in (left, right, other):
        widget.wait()
    with WidgetPage(chrome, left, right, other, width=1240) as page:
        ink = """() => [...document.querySelectorAll('.wb-canvas')].map(c => c.toDataURL())"""
        before = page.page.evaluate(ink)
        spy(page)
        page.page.locator(".wb-row").nth(3).hover()
        page.page.wait_for_timeout(100)
        after = page.page.evaluate(ink)
        assert after[0] != before[0] and after[1] != before[1] and after[2] == before[2]
        assert page.page.evaluate("() => window.sent") == []

        heard = []
        session.selection.observe(lambda change: heard.append(change["new"]), names="hover")
        page.settle()
        page.page.locator(".wb-row").nth(4).hover()
        page.settle()
        assert heard[-1] == left.table().index[4] and page.errors == []


INK = """() => [...document.querySelectorAll('.wb-canvas')].map(c => c.toDataURL())"""


def test_what_a_cell_points_at_is_marked_until_it_points_elsewhere(chrome, session):
    left, right = (AtlasBrowser(session.atlas(), session=session, show_list=True) for _ in range(2))
    left.wait(), right.wait()
    with WidgetPage(chrome, left, right, width=1240) as page:
        bare = page.frame.evaluate(INK)
        page.page.locator(".wb-row").nth(3).hover()  # the page's own hovering, of which Python has not heard
        page.settle()
        mine = page.frame.evaluate(INK)
        session.selection.hover = "bn2/unit/40"
        page.settle()
        marked = page.frame.evaluate(INK)
        assert all(one not in (a, b) for one, a, b in zip(marked, bare, mine, strict=True))
        session.selection.hover = None
        page.settle()
        assert page.frame.evaluate(INK) == bare and page.errors == []
    left.close(), right.close()


def test_hovering_crosses_frames_through_python_and_only_frames(chrome, session):
    here, there, beside = (AtlasBrowser(session.atlas(), session=session, show_list=True) for _ in range(3))
    here.wait(), there.wait(), beside.wait()
    with (
        WidgetPage(chrome, here, beside, width=1240, framed=True) as left,
        WidgetPage(chrome, there, width=1240, framed=True) as right,
    ):
        assert left.page.frames[-1] == left.frame != left.page.main_frame
        before = right.frame.evaluate(INK)
        left.frame.locator(".wb-row").nth(3).hover()
        left.settle(), right.settle()
        assert session.selection.hover == here.table().index[3]
        assert right.frame.evaluate(INK) != before and there._hover["id"] == here.table().index[3]
        assert here._hover == beside._hover == {}  # that page has marked it itself
        left.page.mouse.move(2, 2)
        left.settle(), right.settle()
        assert session.selection.hover is None and right.frame.evaluate(INK) == before
        assert left.errors == right.errors == []
    for widget in (here, there, beside):
        widget.close()


def test_stills_below_one_another_are_no_wider_than_the_page(chrome, session):
    widgets = three(session)
    for widget in widgets:
        widget.prepare_still()
    inside = stacked([widget.snapshot().html() for widget in widgets], "mark")
    context = chrome.new_context(viewport={"width": 480, "height": 900})
    page = context.new_page()
    page.set_content(f"<!doctype html><body style='margin:8px'>{inside}")
    boxes = [one.bounding_box() for one in page.get_by_role("figure").and_(page.locator("div")).all()]
    assert len(boxes) == 3 and all(8 <= box["x"] and box["x"] + box["width"] <= 472 for box in boxes), boxes
    assert page.evaluate("document.documentElement.scrollWidth") <= 480
    context.close()
    for widget in widgets:
        widget.close()


def test_a_burst_of_choices_ends_on_the_last_on_both_sides(page):
    page.page.locator('[aria-label="List"]').click()
    page.settle()
    page.page.evaluate(
        """async () => {
            const rows = [...document.querySelectorAll('.wb-row')];
            for (let i = 0; i < 200; i++) rows[(7 * i) % rows.length].click();
        }"""
    )
    page.settle()
    last = page.page.locator(".wb-row[aria-selected=true] .wb-row-name").inner_text()
    assert page.session.selection.component == f"bn2/{last.replace(' ', '/')}"
    assert page.page.locator(".wb-card .wb-title").inner_text() == last
    page.session.selection.component = "bn2/unit/2"  # and Python's word counts again
    page.settle()
    assert page.page.locator(".wb-card .wb-title").inner_text() == "unit 2"


def test_a_large_set_crosses_both_ways(chrome):
    session = FakeSession(components=600)
    left, right = (AtlasBrowser(session.atlas(), session=session) for _ in range(2))
    left.wait(), right.wait()
    with WidgetPage(chrome, left, right) as page:
        box = page.page.locator(".wb-canvas").first.bounding_box()
        page.page.keyboard.down("Shift")
        page.page.mouse.move(box["x"] + 3, box["y"] + 3)
        page.page.mouse.down()
        page.page.mouse.move(box["x"] + box["width"] - 3, box["y"] + box["height"] - 3, steps=3)
        page.page.mouse.up()
        page.page.keyboard.up("Shift")
        page.settle()
        assert len(session.selection.components) == 600 == len(left.selection)
        for note in page.page.locator(".wb-atlas .wb-note").all():
            assert "600 of 600 in the set" in note.inner_text()
        session.selection.components = [f"bn2/unit/{i}" for i in range(300)]
        page.settle()
        for note in page.page.locator(".wb-atlas .wb-note").all():
            assert "300 of 600 in the set" in note.inner_text()
        assert page.errors == []


def test_text_from_the_data_is_never_markup(page):
    page.session.selection.set(component="bn2/unit/17", sample=2)
    page.settle()
    for tag in ("em", "i:not([style])", "b"):
        for found in page.page.locator(f".wb {tag}").all():
            assert "group" not in found.inner_text() and "scenes" not in found.inner_text()
    text = page.page.locator(".wb-heatmap").inner_text()
    assert '<b>stripes</b> & "dots"' in text and "scenes/<i>0002</i> <img src=x onerror=alert(1)>" in text
    assert page.page.locator('.wb img[src="x"], .wb [onerror]').count() == 0
    assert "<em>group</em> 0" in page.page.evaluate(
        "() => window.models[Object.keys(window.models)[0]].get('board').cluster_names[0]"
    )


def test_the_keyboard_is_enough(page):
    keyboard = page.page.keyboard
    page.page.locator(".wb-canvas").focus()
    keyboard.press("Enter")
    page.settle()
    first = page.session.selection.component
    keyboard.press("ArrowRight")
    keyboard.press("Enter")
    page.settle()
    second = page.session.selection.component
    assert first and second and first != second
    keyboard.press("Space")
    page.settle()
    assert page.session.selection.components == (second,)
    keyboard.press("Escape")
    page.settle()
    assert page.session.selection.components == ()
    for key in ("+", "+", "Shift+ArrowLeft", "-", "0"):
        keyboard.press(key)
    page.page.locator('.wb-card [role="radio"]:text("Relevance")').focus()
    keyboard.press("ArrowLeft")
    page.page.locator(".wb-ref").first.focus()
    keyboard.press("ArrowRight")
    keyboard.press("Enter")
    page.settle()
    card = list(page.widgets.values())[1]
    assert page.session.selection.sample == card.references["samples"][1]
    page.page.locator(".wb-panes").focus()
    before = page.session.selection.sample
    keyboard.press("ArrowRight")
    page.settle()
    assert page.session.selection.sample == (before + 1) % 24
    keyboard.press("?")
    assert page.page.locator(".wb-heatmap .wb-keys").is_visible()


@pytest.mark.parametrize("way", ["keys", "menu"])
def test_escape_closes_what_lies_above_and_leaves_the_set(page, way):
    """The canvas, which has the keyboard, would clear its set; the heatmap its region, then its component."""
    page.session.selection.set(
        components=["bn2/unit/3", "bn2/unit/4"],
        component="bn2/unit/3",
        region={"x": 0.2, "y": 0.2, "width": 0.3, "height": 0.3},
    )
    page.settle()
    for kind, canvas in (("atlas", ".wb-canvas"), ("heatmap", ".wb-panes")):
        widget = page.page.locator(f".wb-{kind}")
        button, sheet = {"keys": ("Keys", ".wb-keys"), "menu": ("Code, results and pin", ".wb-copy")}[way]
        widget.locator(f'.wb-foot button[aria-label="{button}"]').click()
        widget.locator(canvas).focus()
        assert widget.locator(sheet).is_visible()
        page.page.keyboard.press("Escape")
        page.settle()
        assert widget.locator(sheet).is_hidden()
        selection = page.session.selection
        assert selection.components == ("bn2/unit/3", "bn2/unit/4") and selection.component == "bn2/unit/3"
        assert selection.region
    for gone in ("region", "component"):  # with nothing above, each is cleared in turn
        page.page.keyboard.press("Escape")
        page.settle()
        assert getattr(page.session.selection, gone) is None
    page.page.keyboard.press("Escape")  # and with nothing to clear the key steps out
    assert page.page.evaluate("() => document.activeElement.matches('.wb-heatmap')")
    page.page.keyboard.press("Enter")
    assert page.page.evaluate("() => document.activeElement.matches('.wb-panes')")


def test_keys_do_not_reach_the_notebook(page):
    page.page.evaluate(
        "() => { window.seen = []; document.addEventListener('keydown', e => window.seen.push(e.key)); }"
    )
    page.page.locator(".wb-canvas").focus()
    for key in ("ArrowDown", "d", "d", "x", "Enter"):
        page.page.keyboard.press(key)
    assert page.page.evaluate("() => window.seen") == []
    assert page.page.locator(".wb[data-lm-suppress-shortcuts]").count() == 3


def test_zooming_fetches_one_sheet_per_page_and_draws_it(page):
    atlas = next(iter(page.widgets.values()))
    sheets = []
    real = atlas._tiles
    atlas._tiles = lambda components, size: sheets.append(len(components)) or real(components, size)
    for _ in range(4):
        page.page.locator('[aria-label="Zoom in"]').click()
        page.settle()
    assert sheets and max(sheets) <= 256 and len(sheets) <= 12
    seen = len(sheets)
    page.page.locator('[aria-label="Zoom out"]').click()
    page.page.locator('[aria-label="Zoom in"]').click()
    page.settle()
    assert len(sheets) == seen  # kept, and not asked for again
    assert atlas.view_box and atlas.view_box[2] - atlas.view_box[0] < atlas.board["grid"][0]
    page.page.locator('[aria-label="Show all"]').click()
    page.page.wait_for_timeout(700)
    page.settle()
    assert atlas.view_box == []


def test_overlay_filter_search_and_list(page):
    atlas = next(iter(page.widgets.values()))
    page.page.locator(".wb-atlas .wb-select").first.select_option("frequency")
    page.page.locator(".wb-ramp-range").fill("600")
    page.settle()
    assert atlas.overlay == "frequency" and atlas.min_score > 0
    page.page.locator('[aria-label="List"]').click()
    page.settle()
    assert page.page.locator(".wb-count").inner_text() == f"{len(atlas.table())} of 64"
    rows = page.page.locator(".wb-row .wb-row-name").all_inner_texts()
    wanted = [f"unit {address.split('/')[-1]}" for address in atlas.table().index]
    assert sorted(rows) == sorted(wanted[: len(rows)])
    page.page.locator(".wb-search").fill("unit/1")
    page.settle()
    assert atlas.query == "unit/1" and page.page.locator(".wb-count").inner_text() == f"{len(atlas.table())} of 64"
    page.page.locator(".wb-row").first.click()
    page.settle()
    assert page.session.selection.component.split("/")[-1].startswith("1")


def test_the_wheel_zooms_for_a_pointer_that_moves_and_scrolls_the_page_for_one_that_rests(page):
    page.page.set_viewport_size({"width": 1240, "height": 400})
    scrolled = lambda: page.page.evaluate("() => document.documentElement.scrollTop")  # noqa: E731
    atlas = next(iter(page.widgets.values()))
    page.page.mouse.move(300, 300)
    page.page.wait_for_timeout(50)
    page.page.mouse.wheel(0, 60)
    page.settle()
    assert scrolled() > 0 and atlas.view_box == []
    page.page.wait_for_timeout(400)
    page.page.mouse.move(310, 290)
    page.page.mouse.move(312, 292)
    before = scrolled()
    page.page.mouse.wheel(0, -300)
    page.settle(quiet=0.8)
    assert scrolled() == before and len(atlas.view_box) == 4


def test_a_rectangle_selects_a_set(page):
    box = page.page.locator(".wb-canvas").bounding_box()
    page.page.keyboard.down("Shift")
    page.page.mouse.move(box["x"] + 5, box["y"] + 5)
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] - 5, steps=4)
    page.page.mouse.up()
    page.page.keyboard.up("Shift")
    page.settle()
    atlas = next(iter(page.widgets.values()))
    inside = {
        f"bn2/unit/{i}" for i, (x, _) in enumerate(atlas.board["cells"]) if x + 0.5 < atlas.board["grid"][0] / 2 - 0.5
    }
    assert inside and inside <= set(atlas.selection.index) and len(atlas.selection) < 64


def test_the_status_line_moves_within_a_tenth_of_a_second_and_does_not_flicker(chrome, session):
    """On the page's own clock, which goes on by as much as it is told to."""
    card = ComponentCard(session)
    assert card.wait(20)
    with WidgetPage(chrome, card) as page:
        page.settle()
        page.page.evaluate(
            """id => {
                window.seen = [];
                const root = document.querySelector('.wb-card'), note = () => window.seen.push(root.dataset.status);
                new MutationObserver(note).observe(root, {attributes: true, attributeFilter: ['data-status']});
                window.put = (state) => window.models[id].put(state);
            }""",
            card.model_id,
        )
        page.page.clock.install()
        page.page.clock.pause_at(10**12)
        page.page.evaluate("() => put({status: 'running', progress: 0, message: 'Sweeping'})")
        page.page.clock.run_for(50)
        page.page.evaluate("() => put({status: 'ready'})")
        page.page.clock.run_for(1000)
        assert "running" not in page.page.evaluate("() => window.seen")
        page.page.evaluate("() => put({status: 'running', progress: 0})")
        page.page.clock.run_for(60)
        page.page.evaluate("() => put({progress: 0.2})")  # a step of the progress does not put it off
        page.page.clock.run_for(39)
        assert page.page.evaluate("() => window.seen").pop() == "running"
        assert page.page.locator(".wb-card .wb-word").inner_text() == "Sweeping · 20\u202f%"
        assert page.page.locator('.wb-card button:text("Cancel")').is_visible()
    card.close()


def held(page, key, act):
    page.page.keyboard.down(key)
    act()
    page.page.keyboard.up(key)
    page.settle()


def test_gestures_on_the_board_are_those_of_the_map(page):
    atlas, mouse = next(iter(page.widgets.values())), page.page.mouse
    mouse.click(*cell(page, 3))
    held(page, "Shift", lambda: mouse.click(*cell(page, 8)))
    held(page, "Shift", lambda: mouse.click(*cell(page, 9)))
    held(page, "Shift", lambda: mouse.click(*cell(page, 9)))
    assert set(atlas.components) == {"bn2/unit/8", "bn2/unit/9"} and atlas.component == "bn2/unit/3"
    held(page, "Control", lambda: mouse.click(*cell(page, 10)))
    held(page, "Alt", lambda: mouse.click(*cell(page, 9)))
    held(page, "Alt", lambda: mouse.click(*cell(page, 9)))
    assert set(atlas.components) == {"bn2/unit/8", "bn2/unit/10"}

    def drag(i):
        x, y = cell(page, i)
        mouse.move(x - 4, y - 4)
        mouse.down()
        mouse.move(x + 4, y + 4, steps=4)
        mouse.up()

    held(page, "Shift", lambda: drag(20))
    assert set(atlas.components) == {"bn2/unit/8", "bn2/unit/10", "bn2/unit/20"}  # extended, not replaced
    held(page, "Alt", lambda: drag(8))
    assert set(atlas.components) == {"bn2/unit/10", "bn2/unit/20"}


def test_only_linked_shows_the_set_alone(page):
    atlas = next(iter(page.widgets.values()))
    page.session.selection.components = ["bn2/unit/8", "bn2/unit/9", "bn2/unit/10"]
    page.page.locator('[aria-label="List"]').click()
    page.settle()
    assert page.page.locator(".wb-count").inner_text() == "All 64"
    switch = page.page.locator('.wb-atlas button:text("Only linked")')
    switch.click()
    page.settle()
    assert atlas.only_linked and switch.get_attribute("aria-pressed") == "true"
    assert page.page.locator(".wb-count").inner_text() == "3 of 64"
    assert list(atlas.table().index) == [
        f"bn2/{name.replace(' ', '/')}" for name in page.page.locator(".wb-row-name").all_inner_texts()
    ]
    page.session.selection.components = ["bn2/unit/8"]
    page.settle()
    assert page.page.locator(".wb-count").inner_text() == "1 of 64" and len(atlas.table()) == 1
    page.session.selection.components = []  # nothing chosen: nothing to show alone
    page.settle()
    assert page.page.locator(".wb-count").inner_text() == "All 64" and len(atlas.table()) == 64


def test_a_slider_ends_on_its_last_value(page):
    heatmap = list(page.widgets.values())[2]
    seen = []
    heatmap.observe(lambda change: seen.append(change["new"]), names="opacity")
    slider = page.page.locator('.wb-heatmap .wb-tools input[type="range"]')
    slider.focus()
    for _ in range(15):
        page.page.keyboard.press("ArrowDown")
    page.settle()
    assert heatmap.opacity == 0.0 and len(seen) <= 15
    heatmap.opacity = 0.6
    page.settle()
    assert slider.input_value() == "0.6"


def test_a_region_is_drawn_moved_by_keys_and_cleared(page):
    heatmap = list(page.widgets.values())[2]
    page.session.selection.component = "bn2/unit/17"
    page.settle()
    box = page.page.locator(".wb-heatmap .wb-pane canvas").nth(1).bounding_box()
    page.page.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 0.3 * box["height"])
    page.page.mouse.down()
    page.page.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 0.8 * box["height"], steps=5)
    assert heatmap.region is None  # told on release
    page.page.mouse.up()
    page.settle()
    region = page.session.selection.region
    assert region == pytest.approx({"x": 0.2, "y": 0.3, "width": 0.4, "height": 0.5}, abs=0.02)
    shown = page.page.locator(".wb-comp").evaluate_all("rows => rows.map(row => row.dataset.id)")
    assert shown == heatmap.inside["components"] and page.page.locator(".wb-region:visible").count() == 3
    page.page.locator(".wb-panes").focus()
    page.page.keyboard.press("Shift+ArrowRight")
    page.page.keyboard.press("]")
    page.settle()
    moved = page.session.selection.region
    assert moved["x"] == pytest.approx(region["x"] + 0.05) and moved["width"] == pytest.approx(region["width"] + 0.05)
    page.page.keyboard.press("Escape")
    page.settle()
    assert page.session.selection.region is None and page.session.selection.component == "bn2/unit/17"
    page.page.keyboard.press("r")
    page.settle()
    assert page.session.selection.region["width"] == 0.3


def test_what_is_against_is_hatched_and_what_is_for_is_not(page):
    page.page.add_script_tag(content=esm("common"))
    kinds = page.page.evaluate(
        """() => [[217, 72, 1, 255], [33, 113, 181, 255], [33, 113, 181, 0]].map(ink => [true, false].map(hatched => {
            const layer = new OffscreenCanvas(8, 8), image = new ImageData(8, 8);
            for (let i = 0; i < 64; i++) image.data.set(ink, 4 * i);
            layer.getContext('2d').putImageData(image, 0, 0);
            const ctx = workbench.paint(document.createElement('canvas'), null, layer, [8, 8], 480, {hatched});
            const {width, height} = ctx.canvas, {data} = ctx.getImageData(0, 0, width, height);
            return new Set(new Uint32Array(data.buffer)).size;
        }))"""
    )
    assert kinds[0] == [1, 1] and kinds[1][1] == 1 and kinds[2] == [1, 1]
    assert kinds[1][0] > 2
    assert page.page.locator(".wb-heatmap .wb-scale-hatch").count() > 0
    list(page.widgets.values())[2].sign = "positive"
    page.settle()
    assert page.page.locator(".wb-heatmap .wb-scale-hatch").count() == 0


def test_shared_is_one_scale_for_maps_of_one_rule_and_says_so(page):
    heatmap = list(page.widgets.values())[2]
    page.session.selection.set(component="bn2/unit/17", sample=2)
    heatmap.scale = "shared"
    page.page.get_by_role("button", name="More ways to look").click()
    page.settle()
    other = page.page.get_by_label("Also explain", exact=True)
    choices = other.locator("option").evaluate_all("all => all.map(one => one.value)")
    assert len(choices) == 3 and choices[0] == ""  # the explained one is not among them
    other.select_option(choices[1])
    heatmap.methods = ["gradient"]
    page.settle()
    assert heatmap.targets == [choices[1]]
    panes = page.page.locator(".wb-heatmap .wb-pane")
    titles = [" ".join(one.split()) for one in panes.locator(".wb-pane-title").all_inner_texts()]
    assert titles[1] == "All relevance" and titles[2].startswith("Through ") and titles[3].startswith("For ")
    assert titles[4] == "gradient" and len(titles) == 5
    notes, ends = (
        [panes.nth(i).locator(f".wb-scale-{what}").first.inner_text() for i in range(1, 5)] for what in ("note", "ends")
    )
    assert all("on the scale of all relevance" in notes[i] for i in (1, 2)) and "in its own units" in notes[3]
    assert ends[0] == ends[1] == ends[2] != ends[3]
    heatmap.scale = "image"
    page.settle()
    assert panes.nth(3).locator(".wb-scale-note").first.inner_text().startswith("on its own scale")
    panes.nth(3).locator('[aria-label="Close this map"]').click()
    page.settle()
    assert heatmap.targets == []


def test_methods_random_weights_lines_and_threshold(page):
    heatmap = list(page.widgets.values())[2]
    assert page.page.locator(".wb-heat-more").is_hidden()
    page.page.locator('button[aria-label="More ways to look"]').click()
    page.page.get_by_label("Compare with", exact=True).select_option("gradient")
    page.page.locator('.wb-tick:has-text("Random weights") input').check()
    page.settle()
    titles = page.page.locator(".wb-heatmap .wb-pane:visible .wb-pane-title").all_inner_texts()
    assert titles[-2:] == ["gradient", "Random weights"] and heatmap.methods == ["gradient"]
    assert "rank correlation 0.13" in page.page.locator(".wb-heatmap .wb-pane").last.inner_text()
    before = page.page.locator(".wb-pane canvas").nth(1).evaluate("c => c.toDataURL()")
    page.page.locator('.wb-segment:text("Lines")').click()
    page.settle()
    lines = page.page.locator(".wb-pane canvas").nth(1).evaluate("c => c.toDataURL()")
    assert lines != before and heatmap.contour
    page.page.locator('.wb-segment:text("Colours")').click()
    heatmap.threshold = 0.9
    page.settle()
    assert page.page.locator(".wb-pane canvas").nth(1).evaluate("c => c.toDataURL()") not in (before, lines)
    page.page.locator('[aria-label="Close this map"]').first.click()
    page.settle()
    assert heatmap.methods == [] and heatmap.show_random


def test_failures_are_shown_and_can_be_dismissed(chrome, session, monkeypatch):
    monkeypatch.setenv("WORKBENCH_STRICT", "0")
    session.fail = {"reference_views": StoreError("Not <b>swept</b>.", hint='Run s.sweep(["bn2"]).')}
    session.selection.set(component="bn2/unit/17", sample=4)
    card = ComponentCard(session)
    card.wait()
    with WidgetPage(chrome, card, width=600) as page:
        text = page.page.locator(".wb-problem").inner_text()
        assert "Not <b>swept</b>." in text and "s.sweep" in text and page.page.locator(".wb-problem b").count() == 0
        page.page.locator(".wb-problem summary").click()
        assert "StoreError" in page.page.locator(".wb-problem pre").inner_text()
        session.fail = {}
        page.page.locator('[aria-label="Dismiss"]').click()
        page.page.locator('.wb-segment:text("Whole")').click()
        page.settle()
        assert page.page.locator(".wb-problem").is_hidden() and page.page.locator(".wb-ref canvas").count() > 3
        assert page.errors == []


def test_cancel_is_a_button_while_something_runs(chrome, session):
    session.selection.set(component="bn2/unit/17", sample=4)
    card = ComponentCard(session)
    card.wait()
    with WidgetPage(chrome, card, width=600) as page:
        job = card.submit(session._begin_slowly, title="A long one")
        session.delay = 20.0
        page.until(lambda: "A long one" in page.page.locator(".wb-word").inner_text())
        page.page.locator('button:text("Cancel")').click()
        page.until(lambda: job.is_done, seconds=2)
        assert job.state == "cancelled"
        session.delay = 0.0
        page.settle()
        assert page.page.locator(".wb-word").inner_text() == "Ready"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 600, 1240])
def test_nothing_overflows_in_light_and_dark(chrome, session, dark, width):
    session.selection.set(component="bn2/unit/17", sample=4)
    widgets = three(session)
    with WidgetPage(chrome, *widgets, width=width, height=900, dark=dark) as page:
        page.settle()
        assert page.page.evaluate("() => document.documentElement.scrollWidth") <= width
        wide = page.page.evaluate(
            """() => [...document.querySelectorAll('.wb-head, .wb-body, .wb-foot, .wb-tools')]
                .filter(e => e.scrollWidth > e.clientWidth + 1 && getComputedStyle(e).overflowX === 'visible')
                .map(e => e.className)"""
        )
        assert wide == []
        assert page.page.locator(f'.wb[data-theme="{"dark" if dark else "light"}"]').count() == 3
        assert page.errors == []


def contrast(page, selector):
    """Contrast between the text and the ground of an element."""
    return page.page.evaluate(
        """selector => {
            const of = (element, name) => getComputedStyle(element)[name];
            const parts = text => text.match(/[\\d.]+/g).map(Number);
            const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
                .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
                .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
            const worst = [...document.querySelectorAll(selector)].map(element => {
                let ground = element;
                const isClear = e => /(, 0\\)|transparent)/.test(of(e, 'backgroundColor'));
                while (ground && isClear(ground)) ground = ground.parentElement;
                const back = of(ground || document.body, 'backgroundColor');
                const scale = back.startsWith('color(') ? 255 : 1;
                const a = light(parts(of(element, 'color')));
                const b = light(parts(back.replace('color(srgb', '')).map(c => c * scale));
                return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
            });
            return Math.min(...worst);
        }""",
        selector,
    )


@pytest.mark.parametrize("dark", [False, True])
def test_text_can_be_read(chrome, session, dark):
    session.selection.set(component="bn2/unit/17", sample=4)
    with WidgetPage(chrome, *three(session), width=1240, dark=dark) as page:
        page.settle()
        for selector in (
            ".wb-title",
            ".wb-sub",
            ".wb-label",
            ".wb-segment",
            ".wb-origin",
            ".wb-quiet",
            ".wb-output-logit",
            ".wb-note",
        ):
            assert contrast(page, selector) >= 4.5, selector


def test_controls_have_names_and_roles(page):
    page.session.selection.set(component="bn2/unit/17", sample=4)
    page.settle()
    nameless = page.page.evaluate(
        """() => [...document.querySelectorAll('.wb :is(button, input, select, canvas:not([aria-hidden]))')]
            .filter(e => !['aria-label', 'aria-labelledby'].some(name => e.getAttribute(name)))
            .filter(e => !e.textContent.trim() && !e.labels?.length)
            .map(e => e.outerHTML.slice(0, 80))"""
    )
    assert nameless == []
    for role in ("region", "toolbar", "radiogroup", "listbox", "option", "status"):
        assert page.page.locator(f'[role="{role}"]').count(), role
    ids = page.page.evaluate("() => [...document.querySelectorAll('.wb [id]')].map(e => e.id)")
    assert len(ids) == len(set(ids))


def test_twenty_thousand_components_stay_fluent(chrome):
    session = FakeSession(n=8, components=20_000)
    atlas = AtlasBrowser(session.atlas(), session=session)
    atlas.wait()
    with WidgetPage(chrome, atlas, width=1200) as page:
        page.settle()
        slowest = page.page.evaluate(
            """async () => {
                const canvas = document.querySelector('.wb-canvas'), box = canvas.getBoundingClientRect();
                const times = [];
                const fire = (kind, x) => canvas.dispatchEvent(
                    new PointerEvent(kind, {clientX: x, clientY: box.top + 200, button: 0, pointerId: 1}));
                canvas.setPointerCapture = () => {};
                fire('pointerdown', box.left + 200);
                for (let i = 0; i < 20; i++) {
                    fire('pointermove', box.left + 210 + 6 * i);
                    const start = performance.now();
                    await new Promise(done => requestAnimationFrame(() => setTimeout(done)));
                    times.push(performance.now() - start);
                }
                fire('pointerup', box.left + 330);
                return times.sort((a, b) => a - b)[10];
            }"""
        )
        assert slowest < 120  # software rendering on a busy machine; the goal on a screen is one frame
        assert page.errors == []
