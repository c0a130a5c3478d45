"""ModelTree: the contract, the tree and what is stored, checks, plans and sweeps; on a page with the keyboard."""

import time

import numpy as np
import pytest

from workbench.core.errors import BadValueError, ModelError, StoreError, WorkbenchError
from workbench.testing.browser import WidgetPage, chromium
from workbench.testing.fake_session import FakeSession
from workbench.testing.page_suite import PageSuite, needs_browser
from workbench.testing.widget_suite import WidgetSuite, lenient
from workbench.widgets import ModelTree
from workbench.widgets.tree_rows import tree_rows


class TestContract(WidgetSuite):
    fails = "stored"
    n_bytes = 20_000
    changes = {
        "layer": "bn2",
        "checked": ["bn2"],
        "query": "b",
        "expanded": [],
        "relevance": False,
        "n_samples": 5,
        "keep": "references",
    }

    def make(self, session, **view):
        return ModelTree(session, **view)

    def test_a_failing_job_says_why_and_what_to_do(self, session, monkeypatch):
        # What is stored is looked up by itself and after sweeps, not when something else is selected.
        session.fail = {"stored": StoreError("The folder is gone.", hint="Mount it.")}
        with lenient(monkeypatch):
            widget = self.make(session)
            widget.wait(20)
            assert widget.status == "failed" and widget._problem["hint"] == "Mount it."
            session.fail = {}
            widget.refresh()
            widget.wait(20)
            assert widget.status == "ready" and widget._problem == {}
            widget.close()


class TestPage(PageSuite):
    kind = "tree"

    def make(self, session, **view):
        return ModelTree(session, **{"layer": "blocks.4", **view})

    def choose(self, widget):
        widget.locator('button:text("First component")').click()

    def reading(self, widget):
        return widget.locator(".wb-note").inner_text()

    def test_what_needs_the_session_is_off(self, chrome, session, tmp_path):
        with self.exported(chrome, session, tmp_path / "page.html") as opened:
            page = opened.page
            page.locator('[role="treeitem"]').first.focus()
            page.keyboard.press("Space")
            assert "2 layers checked" in page.locator(".wb-sweep").inner_text()
            assert page.locator('button:text("Plan a sweep")').is_disabled()
            assert "not in this page" in page.locator(".wb-sweep").inner_text()
            page.locator(".wb-search").fill("blocks")
            assert page.locator('[role="treeitem"]').count() == 3 and opened.errors == []


@pytest.fixture
def tree(session):
    session.n_calls = {"act": 3}
    session.coverage = {"bn2": 0.5}
    made = ModelTree(session)
    assert made.wait()
    yield made
    made.close()


def test_dotted_names_become_a_tree_in_the_order_of_running():
    layers = {name: FakeSession().layers()["bn2"] for name in ("b.1.conv", "b.1", "a", "b.0", "b")}
    rows = tree_rows(layers)
    assert [row["name"] for row in rows] == ["", "b", "b.1", "b.1.conv", "b.0", "a"]
    assert [row["parent"] for row in rows] == [-1, 0, 1, 2, 1, 0]
    assert [row["is_layer"] for row in rows] == [False, True, True, True, True, True]


def test_rows_say_what_they_are_and_what_is_stored(tree, session):
    assert tree.tree["names"] == ["", "bn2", "blocks", "blocks.4", "act"]
    assert tree.tree["components"].tolist() == [0, 64, 0, 40, 16]
    assert "runs 3 times" in tree.tree["reasons"][4]
    share = tree.stored["activations"]
    assert np.isnan(share[[0, 2, 4]]).all() and share[[1, 3]].tolist() == [0.5, 0.0]
    assert tree.stored["relevances"][1] == 0.25 and tree.stored["unfinished"].tolist() == [False, True, *[False] * 3]
    table = tree.table()
    assert table.loc["bn2", "activations"] == 0.5 and not table.loc["act", "usable"]
    tree.query = "conv blocks"
    assert list(tree.table().index) == ["blocks.4"]


def test_wrong_layers_change_nothing_and_are_explained(tree):
    tree.checked = ["blocks.4", "bn2"]
    assert tree.checked == ["bn2", "blocks.4"]  # in the order of the tree
    with pytest.raises(WorkbenchError, match="bn3.*Nearest"):
        tree.checked = ["bn3"]
    with pytest.raises(ModelError, match="runs 3 times"):
        tree.checked = ["act"]
    with pytest.raises(ModelError, match="runs 3 times"):
        tree.layer = "act"
    with pytest.raises(WorkbenchError, match="blockz"):
        tree.expanded = ["blockz"]
    assert tree.checked == ["bn2", "blocks.4"] and tree.layer == "" and tree.expanded is None


def test_choosing_a_layer_is_its_value_and_disturbs_nothing(tree, session):
    before = session.selection.as_dict()
    tree.layer = "bn2"
    assert tree.value == "bn2" and session.selection.as_dict() == before
    assert tree.first_component == "bn2/unit/0"


def test_checked_layers_are_the_selection_of_cells(tree):
    seen = []
    undo = tree.on_select(lambda frame: seen.append(list(frame.index)))
    tree.selection = "components > 50"
    assert tree.checked == ["bn2"] and list(tree.selection.index) == ["bn2"] and seen == [["bn2"]]
    undo()
    tree.selection = []
    assert tree.checked == [] and len(seen) == 1 and tree.selection.empty


def test_a_plan_is_shown_before_and_goes_with_what_it_was_made_for(tree, session):
    with pytest.raises(BadValueError, match="No layer is checked"):
        tree.plan()
    tree.checked = ["bn2"]
    tree.plan()
    assert tree.wait()
    assert tree.planned["layers"] == ["bn2"] and tree.planned["n_samples"] == 24 and tree.planned["swept"] == 0.5
    assert tree.planned["seconds"] == pytest.approx(24 * 0.03) and tree.planned["disk_bytes"] == 16 * 64 * 24
    assert not any(name == "sweep" for name, _ in session.asked)
    tree.n_samples = 6
    assert tree.planned == {}
    tree.plan()
    tree.relevance = False  # while it is being made
    assert tree.wait() and tree.planned == {}


def test_a_sweep_reports_and_what_is_stored_is_seen_after_it(tree, session):
    session.delay = 0.3
    tree.checked = ["bn2", "blocks.4"]
    shares, titles = [], set()
    tree.observe(lambda change: shares.append(change["new"]), names="progress")
    undo = session.on_jobs(lambda: titles.update(job.title for job in session.jobs()))
    job = tree.start()
    assert job.result(20).layers == ("bn2", "blocks.4")
    assert tree.wait(20) and max(shares) > 0.5
    assert "Sweep of 2 layers" in titles  # the session's lane knows whose work it does
    assert tree.stored["activations"][[1, 3]].tolist() == [1.0, 1.0] and tree.planned == {}
    undo()


def test_a_cancelled_sweep_keeps_what_is_done_and_can_be_resumed(tree, session):
    session.delay, session.coverage = 3.0, {}
    tree.checked = ["blocks.4"]
    tree.plan()
    assert tree.wait(20) and tree.planned["swept"] == 0
    job = tree.start()
    while not session.coverage:
        time.sleep(0.01)
    started = time.monotonic()
    tree.cancel()
    assert job.wait(5) and job.state == "cancelled" and time.monotonic() - started < 0.5
    session.delay = 0.0
    assert tree.wait(20)
    assert 0 < tree.stored["activations"][3] < 1 and 0 < tree.planned["swept"] < 1  # planned anew: what is left


def test_sweeps_of_others_are_noticed(tree, session):
    session.delay = 0.5
    session.sweep(["blocks.4"])
    session.delay = 0.0
    end = time.monotonic() + 10
    while tree.stored["activations"][3] < 1 and time.monotonic() < end:
        time.sleep(0.02)
    assert tree.stored["activations"][3] == 1


def test_a_session_without_data_shows_its_layers(session):
    session.has_data = False
    tree = ModelTree(session, checked=["bn2"])
    assert tree.wait() and tree.stored == {} and len(tree.table()) == 2
    with pytest.raises(BadValueError, match="no data to sweep"):
        tree.start()
    assert tree.snapshot().html()
    tree.close()


def test_figures_and_stills_show_coverage_and_components(tree):
    figure = tree.plot()
    assert [bar.name for bar in figure.data] == ["activations", "relevances", "references"]
    assert list(tree.plot(by="components").data[0].x) == [64, 40]
    with pytest.raises(BadValueError, match="by"):
        tree.plot(by="size")
    still = tree.snapshot()
    assert "bn2: 50%, 64 units" in still.pictures[0].alt and "1 layer of 3 with stored results" in still.html()


def test_misuse_is_explained():
    with pytest.raises(BadValueError, match="layers of a session"):
        ModelTree({})


# On a page ------------------------------------------------------------------------------------------------------------


class Large(FakeSession):
    """Blocks of layers, as deep networks have them."""

    def __init__(self, blocks=3, per_block=4):
        super().__init__()
        names = [f"layer{b}.{i}.conv" for b in range(blocks) for i in range(per_block)]
        self.n_components = {**dict.fromkeys(names, 32), "bn2": 64, "fc": 10}
        self.n_calls = {"layer0.0.relu": 2}


@pytest.fixture
def page(chrome):
    session = Large()
    session.coverage = {"layer0.0.conv": 1.0, "layer0.1.conv": 0.4}
    tree = ModelTree(session)
    assert tree.wait()
    with WidgetPage(chrome, tree, width=900, height=1000) as opened:
        opened.session, opened.tree = session, tree
        yield opened
        assert opened.errors == []
    tree.close()
    session.lane.close()


def focused(page):
    return page.page.evaluate("() => document.activeElement.title")


@pytest.mark.browser
class TestOnAPage:
    pytestmark = needs_browser

    def test_the_keyboard_walks_folds_and_finds(self, page):
        keys = page.page.keyboard
        page.page.locator('[role="treeitem"]').first.focus()
        keys.press("ArrowDown")
        assert focused(page) == "layer0"
        keys.press("ArrowLeft")
        page.settle()
        assert "layer0" not in page.tree.expanded and "" in page.tree.expanded
        keys.press("ArrowDown")
        assert focused(page) == "layer1"
        keys.press("ArrowUp")
        keys.press("ArrowRight")
        keys.press("ArrowRight")
        assert focused(page) == "layer0.0"
        keys.press("End")
        assert focused(page) == "fc"
        keys.press("Home")
        keys.type("la")
        assert focused(page) == "layer0"
        page.page.wait_for_timeout(750)
        keys.type("f")
        assert focused(page) == "fc"
        keys.press("Enter")
        page.settle()
        assert page.tree.layer == "fc" and page.session.selection.component is None

    def test_a_parent_checks_its_children_and_one_can_be_checked_alone(self, page):
        page.page.locator('[title="layer0"]').focus()
        page.page.keyboard.press("Space")
        page.settle()
        assert page.tree.checked == [f"layer0.{i}.conv" for i in range(4)]
        assert page.page.locator('[title="layer0"]').get_attribute("aria-checked") == "true"
        assert page.page.locator('[role="treeitem"]').first.get_attribute("aria-checked") == "mixed"
        page.page.locator('[title="layer0.1.conv"] .wb-box').click()
        page.settle()
        assert len(page.tree.checked) == 3
        assert page.page.locator('[title="layer0"]').get_attribute("aria-checked") == "mixed"
        page.page.locator('[title="layer0"]').focus()
        page.page.keyboard.press("Space")
        page.page.keyboard.press("Space")
        page.settle()
        assert page.tree.checked == []
        assert "runs 2 times" in page.page.locator('[title="layer0.0.relu"]').get_attribute("aria-label")

    def test_a_query_leaves_what_fits_and_parents_check_that_alone(self, page):
        page.page.locator(".wb-search").fill("0.conv")
        page.settle()
        assert page.tree.query == "0.conv" and list(page.tree.table().index) == [f"layer{b}.0.conv" for b in range(3)]
        page.page.locator('[role="treeitem"]').first.focus()
        page.page.keyboard.press("Space")
        page.settle()
        assert page.tree.checked == [f"layer{b}.0.conv" for b in range(3)]
        page.page.locator(".wb-search").fill("nothing like it")
        page.settle()
        assert "No layer with" in page.page.locator(".wb-tree-none").inner_text()

    def test_plan_then_start_then_coverage(self, page):
        page.page.locator('[title="layer1"]').focus()
        page.page.keyboard.press("Space")
        page.page.locator('button:text("Plan a sweep")').click()
        page.settle()
        words = page.page.locator(".wb-plan").inner_text()
        assert "4 layers over 24 samples" in words and "49 kB" in words and "120 MB" in words
        page.session.delay = 0.6
        page.page.locator('.wb-plan button:text("Start")').click()
        page.until(lambda: "Sweep of 4 layers" in page.page.locator(".wb-word").inner_text())
        page.until(lambda: not page.tree._pending)
        page.session.delay = 0.0
        page.settle()
        assert page.page.locator(".wb-plan").is_hidden()
        assert "100" in page.page.locator('[title="layer1.2.conv"] .wb-t4').inner_text()
        assert "4 of 4 layers" in page.page.locator('[title="layer1"] .wb-t4').inner_text()

    def test_cancel_stops_a_sweep_and_resume_is_offered(self, page):
        page.tree.checked = ["layer2.0.conv"]
        page.settle()
        page.page.locator('button:text("Plan a sweep")').click()
        page.settle()
        page.session.delay = 5.0
        page.page.locator('.wb-plan button:text("Start")').click()
        page.until(lambda: page.session.coverage.get("layer2.0.conv", 0) > 0)
        page.page.locator('.wb-foot button:text("Cancel")').click()
        page.session.delay = 0.0
        page.until(lambda: not page.tree._pending)
        page.settle()
        assert page.page.locator('.wb-plan button:text("Resume")').is_enabled()

    def test_the_first_component_is_selected_and_its_layer_marked(self, page):
        page.page.locator('[title="bn2"]').click()
        page.page.locator('button:text("First component")').click()
        page.settle()
        assert page.session.selection.component == "bn2/unit/0" and page.tree.layer == "bn2"
        assert page.page.locator(".wb-marked").get_attribute("title") == "bn2"
        page.session.selection.component = "fc/unit/3"
        page.settle()
        assert page.page.locator(".wb-marked").get_attribute("title") == "fc" and page.tree.layer == "bn2"


@pytest.mark.browser
@pytest.mark.skipif(chromium() is None, reason="Chromium is not installed")
def test_a_thousand_layers_stay_quick(chrome):
    session = Large(blocks=10, per_block=100)
    tree = ModelTree(session)
    assert tree.wait()
    with WidgetPage(chrome, tree, width=900) as page:
        measured = page.page.evaluate(
            """async () => {
                const button = [...document.querySelectorAll('.wb-tree .wb-tools button')]
                    .find(one => one.textContent.startsWith('Unfold'));
                const frame = () => new Promise(done => requestAnimationFrame(() => setTimeout(done)));
                const start = performance.now();
                button.click();
                await frame();
                const unfolded = performance.now() - start, times = [];
                const node = document.querySelector('[role="treeitem"]');
                node.focus();
                for (let i = 0; i < 20; i++) {
                    const start = performance.now();
                    document.activeElement.dispatchEvent(
                        new KeyboardEvent('keydown', {key: 'ArrowDown', bubbles: true}));
                    await frame();
                    times.push(performance.now() - start);
                }
                times.sort((a, b) => a - b);
                return [unfolded, times[10], document.querySelectorAll('[role="treeitem"]').length];
            }"""
        )
        unfolded, step, n = measured
        print(f"unfolding {n} rows: {unfolded:.0f} ms; a step: {step:.1f} ms")
        assert n > 2000 and unfolded < 1500 and step < 60
        assert page.errors == []
    tree.close()
    session.lane.close()
