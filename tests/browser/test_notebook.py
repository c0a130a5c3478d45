"""Widgets in notebooks: real JupyterLab, on a session of generated arrays, so that it is quick.

What only a real front end shows: large sets both ways, a busy kernel, failures, cancelling, restarts, and the stills of
a notebook that is opened again.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from workbench.testing.browser import Lab, chromium, notebook

ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / "build" / "screenshots"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="Chromium is not installed"),
]

SETUP = """import time
import workbench as wb
from workbench.testing.fake_session import FakeSession
s = FakeSession(components=600)
s.selection.set(component="bn2/unit/17", sample=4)
atlas = wb.widgets.AtlasBrowser(s.atlas(), session=s, show_list=True)
card, heat = wb.widgets.ComponentCard(s), wb.widgets.HeatmapViewer(s)
heard = []
card.observe(lambda change: heard.append(change["new"]), names="component")
board = wb.show(atlas, card, heat)"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("notebooks")
    SHOTS.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with Lab(folder, env={"PYTHONPATH": path, "WORKBENCH_STRICT": "0"}) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(lab, chrome):
    """A notebook with the three widgets on show."""
    notebook(lab.root / "widgets.ipynb", SETUP, "")
    opened = lab.open(chrome, "widgets.ipynb", width=1500, height=1400)
    lab.hide_sidebar(opened)
    lab.run_all(opened)
    opened.wait_for_selector(".wb-card .wb-ref canvas")
    yield opened
    opened.context.close()


def note(page):
    return page.locator(".wb-atlas .wb-note").first.inner_text()


def test_the_live_view_hides_its_still(page):
    page.wait_for_timeout(800)
    assert page.locator(".wb").count() == 3
    assert page.locator("[class^=wb-still-]").count() == 1 and page.locator("[class^=wb-still-]").is_hidden()
    assert not [line for line in page.console if line.startswith(("error", "pageerror"))]


def test_large_sets_cross_both_ways(lab, page):
    box = page.locator(".wb-canvas").first.bounding_box()
    page.keyboard.down("Shift")
    page.mouse.move(box["x"] + 3, box["y"] + 3)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 3, box["y"] + box["height"] - 3, steps=3)
    page.mouse.up()
    page.keyboard.up("Shift")
    page.wait_for_timeout(500)
    assert "(600, 600)" in lab.run_cell(page, "len(s.selection.components), len(atlas.selection)")
    lab.run_cell(page, 's.selection.components = [f"bn2/unit/{i}" for i in range(300)]')
    page.wait_for_timeout(300)
    assert "300 of 600 in the set" in note(page)
    lab.run_cell(page, 'atlas.selection = "frequency > 0.6"')
    page.wait_for_timeout(300)
    n = int(lab.run_cell(page, "len(atlas.selection)").strip().splitlines()[-1])
    assert f"{n} of 600 in the set" in note(page) and n > 1


def test_a_busy_kernel_does_not_freeze_the_page(lab, page):
    lab.run_cell(page, "s.selection.components = (); time.sleep(8); print('slept')", wait=False)
    page.wait_for_timeout(700)
    for i in (3, 5, 2):
        page.locator(".wb-atlas .wb-row").nth(i).click()
        name = page.locator(".wb-atlas .wb-row").nth(i).locator(".wb-row-name").inner_text()
        page.wait_for_timeout(60)
        assert page.locator(".wb-card .wb-title").inner_text() == name  # the kernel is still asleep
    # A box drawn with shift, what lies under the pointer, and the rest of the list.
    box = page.locator(".wb-canvas").first.bounding_box()
    middle = (box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.keyboard.down("Shift")
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 90, middle[1] + 90, steps=3)
    page.mouse.up()
    page.keyboard.up("Shift")
    page.wait_for_timeout(200)
    assert re.search(r"[1-9]\d* of 600 in the set", note(page))
    page.mouse.move(middle[0] + 20, middle[1] + 20, steps=4)
    page.wait_for_selector(".wb-atlas .wb-tip:visible", timeout=1500)
    first = page.locator(".wb-atlas .wb-row-name").first.inner_text()
    page.locator(".wb-atlas .wb-list-scroll").evaluate("list => list.scrollTo(0, 9000)")
    page.wait_for_timeout(200)
    assert page.locator(".wb-atlas .wb-row-name").first.inner_text() != first
    assert page.locator(".jp-InputPrompt:has-text('[*]')").count() == 1
    lab.wait_idle(page)
    page.wait_for_timeout(500)
    assert name.replace(" ", "/") in lab.run_cell(page, "s.selection.component, card.component")


def test_answers_go_on_while_a_cell_runs_where_the_kernel_has_subshells(lab, page):
    version = lab.run_cell(page, "import ipykernel; s.selection.components = (); ipykernel.version_info[0]")
    if int(version.strip().splitlines()[-1]) < 7:
        pytest.skip("this kernel has no subshells")
    shown = """() => [...document.querySelectorAll('.wb-card .wb-ref')].map(one => one.dataset.sample).join()"""
    lab.run_cell(page, "time.sleep(6); print('slept')", wait=False)
    page.wait_for_selector(".jp-InputPrompt:has-text('[*]')")
    for i in (1, 4, 6):  # each from the kernel: its references, its heatmap
        before, row = page.evaluate(shown), page.locator(".wb-atlas .wb-row").nth(i)
        row.click()
        page.wait_for_function(f"before => ({shown})() && ({shown})() !== before", arg=before, timeout=3000)
    name = row.locator(".wb-row-name").inner_text()
    assert page.locator(".jp-InputPrompt:has-text('[*]')").count() == 1, "the cell ended before the answers came"
    lab.wait_idle(page)
    assert name.replace(" ", "/") in lab.run_cell(page, "card.references['component']")


def test_a_burst_ends_on_the_last_value(lab, page):
    page.evaluate(
        """async () => {
            const rows = [...document.querySelectorAll('.wb-atlas .wb-row')];
            for (let i = 0; i < 200; i++) rows[(7 * i) % rows.length].click();
            const slider = document.querySelector('.wb-heatmap input[type=range]');
            for (let i = 0; i < 200; i++) { slider.value = i % 20 / 20; slider.dispatchEvent(new Event('input')); }
            slider.value = 0.35; slider.dispatchEvent(new Event('input')); slider.dispatchEvent(new Event('change'));
        }"""
    )
    page.wait_for_timeout(1500)
    last = note(page).split("selected ")[-1]
    said = lab.run_cell(page, "card.wait(), s.selection.component, card.references['component'], heat.opacity")
    assert said.count(f"'{last}'") == 2 and "0.35" in said


def test_a_failing_handler_shows_its_line_and_the_widget_goes_on(lab, page):
    lab.run_cell(
        page,
        "from workbench.core.errors import StoreError\n"
        "s.fail = {'reference_views': StoreError('The layer bn2 <b>has not</b> been swept.', hint='Run s.sweep.')}\n"
        "s.selection.component = 'bn2/unit/33'",
    )
    page.wait_for_selector(".wb-card .wb-problem:visible")
    text = page.locator(".wb-card .wb-problem").inner_text()
    assert "The layer bn2 <b>has not</b> been swept." in text and "Run s.sweep." in text
    lab.run_cell(page, "s.fail = {}; s.selection.component = 'bn2/unit/34'")
    page.wait_for_selector(".wb-card .wb-problem", state="hidden")
    assert page.locator(".wb-card .wb-title").inner_text() == "unit 34"


# A real session on a network of 40 modules that take a tenth of a second each, forward and backward.
DROWSY = """import tempfile
from workbench.testing.small import CLASSES, SMALL, Nap, drowsy_net, small_data
where = tempfile.mkdtemp()
real = wb.open_session(drowsy_net(), data=small_data(), store=where, transform=SMALL, classes=CLASSES)
Nap.seconds = 0.1"""

TIMED = """s.delay, times, _cancel = 30, [], card.cancel
card.cancel = lambda: (times.append(time.monotonic()), _cancel())
job = card.submit({work}, title='A long one')
job.add_done_callback(lambda job: times.append(time.monotonic()))"""

WATCHED = """() => {
    const card = document.querySelector('.wb-card');
    const times = window.cancelTimes = {};
    card.addEventListener('click', () => { times.clicked = performance.now(); }, {capture: true, once: true});
    const look = () => {
        if (times.clicked && card.querySelector('.wb-word').textContent === 'Ready') times.ready ??= performance.now();
    };
    new MutationObserver(look).observe(card, {subtree: true, childList: true, characterData: true, attributes: true});
}"""


@pytest.mark.parametrize("work", ["s._begin_slowly", "real.explain, 3", "real.sweep, ['1.b']"])
def test_a_cancelled_job_stops_within_half_a_second(lab, page, work):
    """From the click to the status line in the page; and, in the kernel, from the click's arrival to the job's end."""
    if work.startswith("real"):
        lab.run_cell(page, DROWSY)
    lab.run_cell(page, TIMED.format(work=work))
    page.wait_for_selector(".wb-card button:text('Cancel'):visible")
    page.wait_for_timeout(300)
    page.evaluate(WATCHED)
    page.click(".wb-card button:text('Cancel')")
    page.wait_for_function("() => window.cancelTimes.ready", timeout=5000)
    seen = page.evaluate("() => window.cancelTimes.ready - window.cancelTimes.clicked")
    said = lab.run_cell(page, "s.delay = 0; del card.cancel; print(job.state, 1000 * (times[1] - times[0]))")
    state, took = said.split()
    print(f"{work}: cancelled {float(took):.0f} ms after the message, {seen:.0f} ms after the click")
    assert state == "cancelled" and float(took) < 500 and seen < 500
    if work.startswith("real"):
        assert "[]" in lab.run_cell(page, "Nap.seconds = 0; print([one for one in real.jobs() if not one.has_ended])")
        lab.run_cell(page, "real.close()")


def test_a_kernel_restart_and_a_state_bring_the_view_back(lab, page):
    lab.run_cell(
        page, "import json; heat.opacity = 0.25; json.dump([w.state() for w in board.widgets], open('state.json', 'w'))"
    )
    page.keyboard.press("Escape")
    page.click('#jp-MainMenu .lm-MenuBar-item:has-text("Kernel")')
    page.click('.lm-Menu-item[data-command="kernelmenu:restart"]')
    page.click(".jp-Dialog button:has-text('Restart')")
    page.wait_for_timeout(1000)
    page.wait_for_selector('#jp-main-statusbar :text("| Idle")', timeout=60_000)
    lab.run_cell(
        page,
        SETUP + "\nimport json\nfor w, x in zip(board.widgets, json.load(open('state.json'))): print(w.restore(x))",
    )
    page.wait_for_timeout(1500)
    assert page.locator(".wb-card .wb-title").last.inner_text() == "unit 34"
    assert lab.run_cell(page, "heat.opacity, card.component").strip().endswith("(0.25, 'bn2/unit/34')")


def test_a_notebook_opened_again_shows_the_stills(lab, page, chrome):
    page.keyboard.press("Control+s")
    page.wait_for_timeout(1500)
    saved = json.loads((lab.root / "widgets.ipynb").read_text(encoding="utf-8"))
    assert "widgets" not in saved["metadata"]  # the state of widgets is not stored
    (lab.root / "again.ipynb").write_text(json.dumps(saved), encoding="utf-8")
    context = chrome.new_context(viewport={"width": 1500, "height": 1400})
    again = context.new_page()
    again.goto(f"{lab.url}/lab/workspaces/again/tree/again.ipynb?token={lab.token}&reset")
    again.wait_for_selector("[class^=wb-still-] img", timeout=60_000)
    assert again.locator("[class^=wb-still-]").first.is_visible() and again.locator(".wb").count() == 0
    text = again.locator("[class^=wb-still-]").first.inner_text()
    assert "Concepts of bn2" in text and "wb.widgets.ComponentCard(s" in text
    again.screenshot(path=SHOTS / "reopened.png")
    context.close()


MAP = """import workbench as wb
from workbench.testing.fake_session import FakeSession
s = FakeSession(n=60, components=400)
s.selection.set(component="bn2/unit/17", sample=4)
left = wb.widgets.NeuronMap(s, "bn2", color_by="class_relevance", show_list=True)
grid, card, heat = wb.widgets.SampleGrid(s), wb.widgets.ComponentCard(s), wb.widgets.HeatmapViewer(s)
wb.show(left, card, grid, heat)"""


def test_a_lasso_on_the_map_is_followed_by_card_grid_and_heatmap(lab, chrome):
    notebook(lab.root / "map.ipynb", MAP, "")
    page = lab.open(chrome, "map.ipynb", width=1500, height=1900)
    lab.hide_sidebar(page)
    lab.run_all(page)
    page.wait_for_selector(".wb-map .wb-row")
    page.wait_for_selector(".wb-card .wb-ref canvas")
    page.wait_for_timeout(1500)
    page.click(".wb-map .wb-segment:text-is('Lasso')")
    box = page.locator(".wb-map canvas[role=application]").bounding_box()
    places = [(0.15, 0.15), (0.85, 0.15), (0.85, 0.85), (0.15, 0.85), (0.15, 0.15)]
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in places]
    page.mouse.move(*places[0])
    page.mouse.down()
    for place in places[1:]:
        page.mouse.move(*place, steps=8)
    page.mouse.up()
    page.wait_for_timeout(1500)
    n = int(lab.run_cell(page, "len(s.selection.components)").strip().splitlines()[-1])
    assert 20 < n < 400 and f"{n}" in page.locator(".wb-map .wb-note").inner_text()
    first = page.locator(".wb-card .wb-title").inner_text()  # the first of the set is opened
    said = lab.run_cell(page, "s.selection.component, s.selection.component in s.selection.components, card.shown")
    assert first.replace(" ", "/") in said and "True" in said and len(set(re.findall(r"bn2/unit/\d+", said))) == 1
    assert first in page.locator(".wb-heatmap .wb-panes").inner_text()

    page.locator(".wb-card .wb-ref").nth(2).click()
    page.wait_for_timeout(1000)
    sample = page.locator(".wb-card .wb-ref").nth(2).get_attribute("data-sample")
    assert page.locator(".wb-heatmap .wb-title").inner_text() == f"Sample {sample}"
    assert f"sample {sample}" in page.locator(".wb-samples .wb-note").inner_text().lower()

    lab.run_cell(page, 'left.selection = "frequency > 0.6"')
    page.wait_for_timeout(800)
    n = int(lab.run_cell(page, "len(left.selection)").strip().splitlines()[-1])
    assert n > 1 and str(n) in page.locator(".wb-map .wb-note").inner_text()
    assert not [line for line in page.console if line.startswith(("error", "pageerror"))]
    page.screenshot(path=SHOTS / "map.png")
    page.context.close()
