"""SampleGrid: the contract, filter, order and groups, choosing, tags; on a page with mouse and keyboard."""

import time

import numpy as np
import pytest

from workbench.core.errors import BadValueError, StoreError, UnknownNameError, UnknownSampleError, WorkbenchError
from workbench.testing.browser import WidgetPage, chromium
from workbench.testing.fake_session import FakeSession, scene
from workbench.testing.page_suite import ExportedPage, PageSuite, needs_browser
from workbench.testing.widget_suite import Page, WidgetSuite, lenient
from workbench.widgets import SampleGrid, wire


class TestContract(WidgetSuite):
    fails = "samples"
    n_bytes = 20_000
    changes = {
        "filter": "circle -tag:odd",
        "sort": "name",
        "ascending": False,
        "group_by": "label",
        "overlay": ["prediction"],
        "tile": 64,
        "show_masks": True,
    }

    def make(self, session, **view):
        return SampleGrid(session, **view)


class TestPage(PageSuite):
    kind = "samples"

    def make(self, session, **view):
        session.data.tag("<i>odd</i>", [1, 3, 5])
        made = SampleGrid(session, **view)
        made.wait()
        return made

    def choose(self, widget):
        widget.locator(".wb-sg-cell").nth(5).click()

    def reading(self, widget):
        return widget.locator(".wb-note").inner_text()

    def test_tagging_is_off_and_says_so(self, chrome, session, tmp_path):
        with self.exported(chrome, session, tmp_path / "page.html") as opened:
            page = opened.page
            assert page.locator('.wb-sg-tagging button:text-is("Tag")').is_disabled()
            assert page.locator(".wb-sg-name").is_disabled()
            assert "not in this page" in page.locator(".wb-sg-why").inner_text()
            page.locator(".wb-sg-chip").click()
            page.wait_for_timeout(300)
            assert "3 of 24" in page.locator(".wb-sub").inner_text() and opened.errors == []

    def test_recorded_thumbnails_are_there_and_others_are_said_to_lack(self, chrome, tmp_path, monkeypatch):
        monkeypatch.setattr("workbench.widgets.samples._RECORDED", 130)
        session = FakeSession(n=3000)
        grid = SampleGrid(session, samples=(1500, 1502))
        assert grid.wait()
        report = grid.to_html(tmp_path / "page.html", samples=3)
        assert report.recorded["sheets of thumbnails"] == (3, 3)
        grid.close()
        session.lane.close()
        with ExportedPage(chrome, tmp_path / "page.html") as opened:
            page = opened.page
            states = page.locator(".wb-sg-cell:visible").evaluate_all("all => all.map(one => one.dataset.picture)")
            assert set(states) == {"there"} and "thumbnails of 130" in page.locator(".wb-sub").inner_text()
            for key, state in (("Control+End", "missing"), ("Control+Home", "there")):
                page.locator(".wb-sg-scroll").focus()
                page.keyboard.press(key)
                page.wait_for_timeout(400)
                assert page.locator(".wb-sg-cell.wb-focus").get_attribute("data-picture") == state
            page.locator('button:text("Only chosen")').click()
            page.wait_for_timeout(300)
            states = page.locator(".wb-sg-cell:visible").evaluate_all("all => all.map(one => one.dataset.picture)")
            assert states == ["there", "there"] and opened.errors == [] and opened.asked_for == []


@pytest.fixture
def session(session):
    session.data.tag("odd", [1, 3, 5])
    session.data.tag("Red bird", [3, 8])
    return session


@pytest.fixture
def grid(session):
    made = SampleGrid(session, columns={"score": np.linspace(-1, 1, 24), "set": ["train", "test"] * 12})
    assert made.wait()
    yield made
    made.close()


def shown(grid):
    return list(grid.table().index)


QUERIES = {
    "": list(range(24)),
    "circle": [0, 3, 6, 9, 12, 15, 18, 21],
    "CIRCLE tag:odd": [3],
    "-circle -square tag:odd": [5],
    'tag:"red bird"': [3, 8],
    "red": [3, 8],
    "tag:nothing": [],
    "is:tagged": [1, 3, 5, 8],
    "is:untagged sample<4": [0, 2],
    "label=square origin<=2": [1, 4],
    "label=squ": [],
    'label:"<b>stripes</b> &"': [2, 5, 8, 11, 14, 17, 20, 23],
    "prediction=": [1, 4, 7, 10, 13, 16, 19, 22],
    "score>0.92": [23],
    "score>=nonsense": [],
    "set:test sample>20": [21, 23],
    "tags=odd": [1, 5],
    "is:wrong": [],
    "name:<i>0012": [12],
    "0012": [12],
    "nonsense:12": [],
    '"': list(range(24)),
    "-": [],  # no word to turn round
}

ORDERS = [
    ({"sort": "label"}, [2, 5, 8, 11]),
    ({"sort": "label", "ascending": False}, [1, 4, 7, 10]),
    ({"sort": "prediction", "ascending": False}, [0, 3, 6, 9]),
    ({"sort": "score", "ascending": False}, [23, 22, 21, 20]),
    ({"sort": "name", "ascending": False}, [23, 22, 21, 20]),
    ({"sort": "tag:odd"}, [1, 3, 5, 0]),
    ({"sort": "tags"}, [8, 3, 1, 5]),
    ({"sort": "sample", "ascending": False, "group_by": "tag:odd"}, [5, 3, 1, 23]),
    ({"sort": "score", "ascending": False, "group_by": "set"}, [23, 21, 19, 17]),
    ({"group_by": "score", "sort": "set"}, [1, 0, 2, 3]),
    ({"group_by": "tags", "sort": "label"}, [8, 3, 5, 1]),
    ({"group_by": "origin", "ascending": False}, [1, 0, 3, 2]),
    ({"group_by": "name", "sort": "origin", "ascending": False}, [0, 1, 2, 3]),
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_filter_leaves_what_fits_all_its_words(grid, query):
    grid.filter = query
    assert shown(grid) == QUERIES[query]


def test_wrong_predictions_can_be_asked_for(session):
    real = session.samples

    def samples(ids=None):
        frame = real(ids)
        frame.loc[[4, 6, 9], "prediction"] = ["circle", "square", "circle"]
        return frame

    session.samples = samples
    grid = SampleGrid(session, filter="is:wrong")
    assert grid.wait() and shown(grid) == [4, 6]  # and 9 is right
    grid.close()


@pytest.mark.parametrize(("view", "first"), ORDERS, ids=str)
def test_order_and_groups(grid, view, first):
    for name, value in view.items():
        setattr(grid, name, value)
    assert shown(grid)[:4] == first and sorted(shown(grid)) == list(range(24))


def test_unknown_columns_are_explained_and_change_nothing(session, grid):
    with pytest.raises(UnknownNameError, match='Nearest: "label"'):
        grid.sort = "lable"
    with pytest.raises(UnknownNameError, match="tag:even"):
        grid.group_by = "tag:even"
    with pytest.raises(UnknownNameError, match="size"):
        grid.overlay = ["label", "size"]
    assert (grid.sort, grid.group_by, grid.overlay) == ("sample", "", ["label", "tags"])
    other = SampleGrid(session, sort="lable")
    with pytest.raises(UnknownNameError, match="lable"):
        other.wait()
    assert other.sort == "sample"
    other.close()


@pytest.mark.parametrize(
    "columns", [{"label": [0] * 24}, {"tag:x": [0] * 24}, {"a:b": [0] * 24}, {"score": [1, 2]}], ids=list
)
def test_columns_of_ones_own_fit_the_samples(session, columns):
    grid = SampleGrid(session, columns=columns)
    with pytest.raises(BadValueError):
        grid.wait()
    grid.close()


def test_a_frame_of_columns_goes_by_its_index(session):
    import pandas as pd

    more = pd.DataFrame({"score": [0.5, 0.25], "odd": [True, False]}, index=[7, 2])
    grid = SampleGrid(session, columns=more, sort="score")
    assert grid.wait() and shown(grid)[:3] == [2, 7, 0]
    assert np.isnan(grid.table().loc[0, "score"])
    grid.close()


def test_selection_takes_ids_masks_frames_and_queries(grid, session):
    grid.filter = "circle"
    grid.selection = "score > 0.2"
    assert session.selection.samples == (15, 18, 21) and session.selection.sample == 15
    grid.selection = [2, 4]
    assert list(grid.selection.index) == [2, 4]  # chosen, although the filter hides them
    assert list(grid.selection.columns) == list(grid.table().columns)
    with pytest.raises(UnknownSampleError):
        grid.selection = [2, 99]
    assert session.selection.samples == (2, 4)
    grid.only_selected = True
    assert shown(grid) == []
    grid.filter = ""
    assert shown(grid) == [2, 4]
    grid.selection = None
    assert grid.selection.empty and session.selection.sample is None


def test_what_is_chosen_is_tagged_and_untagged(grid, session):
    grid.selection = [7, 8, 9]
    grid.tag("new")
    assert grid.wait() and session.data.tag("new") == (7, 8, 9)
    assert grid.marks["names"] == ["Red bird", "new", "odd"] and grid.marks["counts"] == [2, 3, 3]
    assert grid.table().loc[8, "tags"] == ("Red bird", "new")
    grid.untag("new", [7, 9])
    assert grid.wait() and grid.marks["counts"] == [2, 1, 3]
    grid.selection = None
    with pytest.raises(BadValueError, match="No sample is chosen"):
        grid.tag("new")


def test_tags_of_a_cell_are_seen_and_views_of_those_that_go_are_left(grid, session):
    session.data.tag("even", [2, 4])
    assert grid.wait() and "even" in grid.marks["names"]
    grid.sort, grid.group_by, grid.overlay = "tag:even", "tag:even", ["tag:even", "label"]
    assert shown(grid)[:2] == [2, 4]
    session.data.untag("even")
    assert grid.wait()
    assert (grid.sort, grid.group_by, grid.overlay) == ("sample", "", ["label"])
    assert grid.wait() and "tag:even" not in grid.table().columns
    grid.close()
    session.data.tag("even", [2])  # nobody listens any more


def test_predictions_of_a_sweep_are_seen_after_it(session, grid):
    real = session.samples

    def samples(ids=None):
        return real(ids).assign(prediction="square")

    session.samples, session.delay = samples, 0.5
    session.sweep(["bn2"])
    session.delay = 0.0
    end = time.monotonic() + 10
    while len(grid.table().query("prediction == 'square'")) < 24 and time.monotonic() < end:
        time.sleep(0.02)
    grid.filter = "is:wrong -stripes"
    assert shown(grid) == [0, 3, 6, 9, 12, 15, 18, 21]


def test_tags_that_cannot_be_kept_are_answered_with_why(grid, session, monkeypatch):
    def refuse(name, samples):
        raise StoreError("The store may not be written.", hint="Open it with another folder.")

    monkeypatch.setattr(session.data, "tag", refuse)
    body = {"digest": grid.rows["digest"], "name": "new", "samples": [2], "is_on": True}
    with lenient(monkeypatch):
        answer, _ = Page(grid).ask("tag", body)
    assert answer["error"]["hint"] == "Open it with another folder." and grid.status == "ready"
    with pytest.raises(UnknownSampleError, match="No sample 24"):
        Page(grid).post("tag", {**body, "samples": [24]})


def test_a_state_with_a_tag_that_is_gone_is_reported(grid, session):
    grid.group_by = "tag:odd"
    state = grid.state()
    grid.group_by = ""
    session.data.untag("odd")
    assert grid.wait()
    (report,) = grid.restore(state)
    assert report.startswith("group_by: ") and "tag:odd" in report


def test_thumbnails_come_as_one_sheet(grid):
    page = Page(grid)
    body = {"digest": grid.rows["digest"], "samples": [5, 2, 9], "size": 96, "masks": False}
    answer, buffers = page.ask("thumbnails", body)
    sheet = answer["result"]["sheet"]
    assert (sheet["n"], sheet["width"], len(buffers)) == (3, 96, 1)
    plain, marked = (
        wire.picture(page.ask("thumbnails", {**body, "masks": m})[1][0]).astype(int) for m in (False, True)
    )
    changed = np.abs(plain - marked).max(2) > 60  # sample 9 alone has a mask
    assert changed[96:, :96].any() and not changed[:90].any()
    grid.prepare_still()
    before = grid.snapshot().pictures[0].pixels
    grid.show_masks = True
    grid.prepare_still()
    assert (grid.snapshot().pictures[0].pixels != before).any()


@pytest.mark.parametrize(
    "wrong",
    [{"samples": [24]}, {"samples": [0] * 257}, {"size": 80}, {"digest": "other"}],
    ids=["id", "n", "size", "old"],
)
def test_thumbnails_that_do_not_exist_are_refused(grid, wrong):
    page = Page(grid)
    with pytest.raises(WorkbenchError, match=r"No sample 24|at most 256|one of 64, 96|other data"):
        page.post("thumbnails", {"digest": grid.rows["digest"], "samples": [0], "size": 64, "masks": False, **wrong})


def test_a_hundred_thousand_samples_are_within_the_budget():
    session = FakeSession(n=100_000, components=4)
    session.data.tag("many", range(0, 100_000, 3))
    grid = SampleGrid(session, sort="label", group_by="origin", filter="circle")
    assert grid.wait()
    assert wire.weight(grid.get_state(["rows", "values", "marks"])) < wire.TRAIT_BYTES / 4
    assert len(grid.table()) == 33_334
    grid.close()
    session.lane.close()


def test_names_that_are_too_heavy_are_left_out(session, monkeypatch):
    monkeypatch.setattr("workbench.widgets.sample_rows._TEXT_BYTES", 10)
    grid = SampleGrid(session)
    assert grid.wait() and "name" not in grid.values and "name" not in [c["name"] for c in grid.rows["columns"]]
    with pytest.raises(UnknownNameError, match='"name"'):
        grid.sort = "name"
    grid.filter = "0012"
    assert shown(grid) == []
    grid.filter = "circle"
    assert grid.table()["name"].str.startswith("scenes").all()
    grid.close()


def test_counts_by_what_they_are_grouped_by(grid):
    grid.selection = [0, 1, 3]
    figure = grid.plot()
    assert [(bar.name, list(bar.x)) for bar in figure.data] == [("on show", [8, 8, 8]), ("chosen", [0, 2, 1])]
    grid.filter, grid.group_by = "tag:odd", "set"
    assert list(grid.plot().data[0].x) == [3]
    with pytest.raises(UnknownNameError, match="column"):
        grid.plot(by="size")


def test_the_still_shows_the_first_with_captions_and_counts(grid):
    grid.filter = "is:tagged"
    grid.prepare_still()
    still = grid.snapshot()
    assert [picture.caption[0] for picture in still.pictures] == ["#1", "#3", "#5", "#8"]
    assert still.pictures[1].alt == "Sample 3, label circle, prediction circle, tags Red bird, odd"
    assert still.notes[0].startswith("Label: ") and "Red bird, odd 1" in still.notes[1]


def test_misuse_is_explained():
    with pytest.raises(BadValueError, match="samples of a session"):
        SampleGrid({})


# On a page ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def page(chrome, session, grid):
    with WidgetPage(chrome, grid, width=900, height=800) as opened:
        opened.session, opened.grid = session, grid
        yield opened
        assert opened.errors == []


def order_on(page):
    """The samples on show, read along the grid."""
    found = page.page.locator(".wb-sg-cell:visible").evaluate_all(
        "all => all.map(one => [Number(one.dataset.at), Number(one.getAttribute('aria-label').match(/\\d+/)[0])])"
    )
    return [sample for _, sample in sorted(found)]


def cell(page, sample):
    return page.page.locator(f'.wb-sg-cell[aria-label^="Sample {sample},"]:visible')


@pytest.mark.browser
class TestOnAPage:
    pytestmark = needs_browser

    def test_filters_and_orders_are_those_of_python(self, page):
        page.page.locator(".wb-sg-stage").evaluate("one => one.style.flexBasis = '3000px'")
        page.settle()
        for query, wanted in QUERIES.items():
            page.grid.filter = query
            page.settle(quiet=0.05)
            assert order_on(page) == wanted, query
        page.grid.filter = ""
        for view, _ in ORDERS:
            page.grid.sort, page.grid.ascending, page.grid.group_by = "sample", True, ""
            for name, value in view.items():
                setattr(page.grid, name, value)
            page.settle(quiet=0.05)
            assert order_on(page) == shown(page.grid), view

    def test_clicks_choose(self, page):
        cell(page, 3).click()
        page.settle()
        assert page.session.selection.sample == 3 and page.session.selection.samples == ()
        cell(page, 5).click(modifiers=["Control"])
        cell(page, 7).click(modifiers=["Control"])
        page.settle()
        assert page.session.selection.samples == (5, 7) and page.session.selection.sample == 3
        cell(page, 5).click(modifiers=["Control"])
        cell(page, 10).click(modifiers=["Shift"])
        page.settle()
        assert page.session.selection.samples == (5, 6, 7, 8, 9, 10)
        assert cell(page, 6).get_attribute("aria-selected") == "true"
        assert "6 chosen" in page.page.locator(".wb-sg-count").inner_text()
        page.page.locator(".wb-sg-scroll").focus()
        page.page.keyboard.press("Escape")
        page.settle()
        assert page.session.selection.samples == ()

    def test_a_box_replaces_adds_and_takes_away(self, page):
        def drag(first, last, *keys):
            a, b = (cell(page, i).bounding_box() for i in (first, last))
            for key in keys:
                page.page.keyboard.down(key)
            page.page.mouse.move(a["x"] + 20, a["y"] + 20)
            page.page.mouse.down()
            page.page.mouse.move(b["x"] + 60, b["y"] + 60, steps=4)
            page.page.mouse.up()
            for key in keys:
                page.page.keyboard.up(key)
            page.settle()
            return page.session.selection.samples

        across = int(page.page.locator(".wb-sg-scroll").get_attribute("aria-colcount"))
        assert drag(1, 2 + across) == (1, 2, 1 + across, 2 + across)
        assert drag(2, 2, "Alt") == (1, 1 + across, 2 + across)
        assert drag(4, 5, "Control") == (1, 1 + across, 2 + across, 4, 5)
        assert drag(0, 1) == (0, 1) and page.session.selection.sample is None

    def test_the_keyboard_goes_about_and_chooses(self, page):
        keys = page.page.keyboard
        across = int(page.page.locator(".wb-sg-scroll").get_attribute("aria-colcount"))
        page.page.locator(".wb-sg-scroll").focus()
        keys.press("ArrowDown")
        keys.press("ArrowRight")
        keys.press("Enter")
        page.settle()
        assert page.session.selection.sample == across + 1
        keys.press("Home")
        keys.press(" ")
        keys.press("Shift+ArrowRight")
        page.settle()
        assert page.session.selection.samples == (across, across + 1)
        keys.press("Control+End")
        keys.press("Enter")
        page.settle()
        assert page.session.selection.sample == 23
        assert page.page.locator(".wb-focus").get_attribute("id") == page.page.locator(".wb-sg-scroll").get_attribute(
            "aria-activedescendant"
        )
        keys.press("Control+a")
        page.settle()
        assert len(page.session.selection.samples) == 24

    def test_tags_are_given_shown_and_filtered_by(self, page):
        cell(page, 6).click(modifiers=["Control"])
        cell(page, 7).click(modifiers=["Control"])
        page.page.locator(".wb-sg-name").fill("<b>new</b> one")
        page.page.locator('.wb-sg-tagging button:text-is("Tag")').click()
        page.settle()
        assert page.session.data.tag("<b>new</b> one") == (6, 7)
        assert "# <b>new</b> one" in cell(page, 6).inner_text()
        page.page.locator('.wb-sg-chip:has-text("new")').click()
        page.settle()
        assert page.grid.filter == 'tag:"<b>new</b> one"' and order_on(page) == [6, 7] == shown(page.grid)
        page.page.locator('.wb-sg-chip:has-text("new")').click()
        page.settle()
        page.page.locator('.wb-sg-tagging button:text-is("Untag")').click()
        page.settle()
        assert "<b>new</b> one" not in page.session.data.tags() and page.grid.filter == ""

    def test_masks_are_outlined_on_demand(self, page):
        pixels = "one => one.toDataURL()"
        before = page.page.locator(".wb-sg-pictures").first.evaluate(pixels)
        page.page.locator('button:text("Masks")').click()
        page.settle()
        assert page.grid.show_masks and page.page.locator(".wb-sg-pictures").first.evaluate(pixels) != before

    def test_sets_of_others_are_seen(self, page):
        page.grid.height = 380
        page.settle()
        page.session.selection.set(samples=(22, 23), origin="elsewhere")
        page.settle()
        assert cell(page, 22).get_attribute("aria-selected") == "true"
        page.page.locator('button:text("Only chosen")').click()
        page.settle()
        assert order_on(page) == [22, 23] and page.grid.only_selected
        page.session.selection.set(samples=())
        page.settle()
        assert "Nothing is chosen" in page.page.locator(".wb-sg-none").inner_text()


@pytest.mark.browser
@pytest.mark.skipif(chromium() is None, reason="Chromium is not installed")
def test_a_hundred_thousand_samples_scroll(chrome):
    scenes = [scene(i, 48) for i in range(50)]

    class Pictures:
        def __getitem__(self, i):
            return scenes[i % 50]

    session = FakeSession(n=100_000, components=4, pictures=Pictures())
    grid = SampleGrid(session, overlay=["label", "prediction", "tags"])
    assert grid.wait()
    with WidgetPage(chrome, grid, width=1200) as page:
        times, work, n = page.page.evaluate(
            """async () => {
                const node = document.querySelector('.wb-sg-scroll'), raf = requestAnimationFrame.bind(window);
                const frames = [], work = [];
                let busy = 0, last = await new Promise(raf);
                window.requestAnimationFrame = (call) => raf((now) => {
                    const start = performance.now();
                    call(now);
                    busy += performance.now() - start;
                });
                for (let i = 0; i < 150; i++) {
                    node.scrollTop += 160;
                    const now = await new Promise(raf);
                    frames.push(now - last);
                    work.push(busy);
                    [last, busy] = [now, 0];
                }
                window.requestAnimationFrame = raf;
                const sorted = (all) => all.sort((a, b) => a - b);
                return [sorted(frames), sorted(work), document.querySelectorAll('.wb-sg-cell').length];
            }"""
        )
        print(
            f"a frame: {times[75]:.1f} ms, 95 %: {times[142]:.1f} ms; of the script: {work[75]:.1f} ms, {work[142]:.1f}"
        )
        assert n < 300 and times[75] < 40 and work[75] < 10
        page.page.locator(".wb-sg-scroll").focus()
        page.page.keyboard.press("Control+End")
        page.settle()
        assert page.page.locator(".wb-sg-cell.wb-focus").get_attribute("data-picture") == "there"
        page.page.locator('button:text("Choose all shown")').click()
        page.settle()
        assert len(session.selection.samples) == 100_000 and page.errors == []
    grid.close()
    session.lane.close()
