"""Every widget in one real JupyterLab: in boxes, linked, with outputs that follow, light and dark.

On a session of generated arrays, so that it is quick. Pictures are kept in build/screenshots, to be looked at.
"""

from __future__ import annotations

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

SETUP = """import ipywidgets as w
import workbench as wb
from workbench.core.results import Edit
from workbench.testing.fake_session import FakeSession
s = FakeSession(components=120)
s.selection.set(component="bn2/unit/17", sample=4)
fixed = s.variant("fixed", [Edit("scale", "bn2", (17, 3), 0.0)])
of = wb.widgets
atlas = of.AtlasBrowser(s.atlas(), session=s, show_list=True)
card, heat, neurons = of.ComponentCard(s), of.HeatmapViewer(s), of.NeuronMap(s, "bn2")
grid, tree, bar, journal = of.SampleGrid(s), of.ModelTree(s), of.RunBar(s), of.Journal(s)
panel, compare = of.SteeringPanel(s, interventions=["bn2/unit/17"], population=24), of.CompareView(s, population=24)
directions = of.DirectionViewer(s, "bn2", concept="mask:<u>block</u>", scope="all", methods=["pattern"])
audit = of.AuditPanel(s, layer="bn2", reviewer="Ada")
every = [atlas, card, heat, neurons, grid, tree, bar, journal, panel, compare, directions, audit]"""

BOXES = """slider = w.FloatSlider(min=0, max=1, step=0.05, description="opacity")
ends = w.jslink((slider, "value"), (heat, "opacity"))
four = w.GridBox([atlas, card, heat, neurons], layout={"grid_template_columns": "1fr 1fr"})
w.VBox([slider, four, grid, tree, bar])"""

MORE = "w.VBox([journal, w.HBox([panel]), w.Accordion([compare], selected_index=0), directions, audit])"

FOLLOWS = """def told(component, opacity):
    print("now", component, round(opacity, 2))

w.interactive_output(told, {"component": card, "opacity": slider})"""

KINDS = {
    "atlas", "card", "heatmap", "map", "samples", "tree", "run", "journal", "steering", "compare", "cav", "audit",
}  # fmt: skip


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("all")
    SHOTS.mkdir(parents=True, exist_ok=True)
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with Lab(folder, env={"PYTHONPATH": path, "WORKBENCH_STRICT": "0", "WORKBENCH_STILL": "none"}) as opened:
        yield opened


@pytest.fixture(scope="module")
def page(lab, chrome):
    """A notebook with all widgets in boxes, tall enough that all of them are drawn."""
    notebook(lab.root / "all.ipynb", SETUP, BOXES, MORE, FOLLOWS, "")
    opened = lab.open(chrome, "all.ipynb", width=1500, height=7000)
    lab.hide_sidebar(opened)
    lab.run_all(opened)
    lab.run_cell(opened, "[one.wait(60) for one in every]")
    opened.wait_for_timeout(1500)
    yield opened
    opened.context.close()


def kinds(page):
    names = page.eval_on_selector_all(".wb", "all => all.map(one => one.className)")
    return {re.search(r"\bwb-(\w+)", one.replace("wb wb", "wb")).group(1) for one in names}


def test_each_is_drawn_without_an_error(lab, page):
    page.screenshot(path=SHOTS / "all-light.png")
    assert kinds(page) == KINDS
    assert page.locator(".wb").count() == len(KINDS), "each once"
    for place in page.locator(".wb").all():
        status, label = place.get_attribute("data-status"), place.get_attribute("aria-label")
        assert status in ("ready", "idle"), f"{label}: {status}"
        assert place.locator(".wb-problem").first.is_hidden(), f"{label}: {place.locator('.wb-problem').inner_text()}"
        assert place.bounding_box()["height"] > 60, label
    assert not [line for line in page.console if line.startswith(("error", "pageerror"))]


def test_a_link_of_the_front_end_moves_without_the_kernel(lab, page):
    lab.run_cell(page, "import time; time.sleep(4)", wait=False)
    page.wait_for_timeout(500)
    page.locator(".jupyter-widgets .noUi-handle").first.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_timeout(300)
    shown = page.locator(".wb-heatmap").get_by_role("slider", name="Opacity").first
    assert page.locator(".jp-InputPrompt:has-text('[*]')").count() == 1, "the kernel is still asleep"
    moved = float(shown.input_value())
    lab.wait_idle(page)
    assert lab.run_cell(page, "slider.value == heat.opacity, round(heat.opacity, 2)").strip() == f"(True, {moved:g})"
    assert moved != 0.75, "it was moved"


def test_outputs_follow_what_is_clicked_inside_of_boxes(lab, page):
    row = page.locator(".wb-atlas .wb-row").nth(5)
    row.click()
    name = row.locator(".wb-row-name").inner_text().replace(" ", "/")
    page.wait_for_selector(f'.jp-OutputArea-output :text("now bn2/{name}")', timeout=10_000)
    assert page.locator(".wb-card .wb-title").inner_text().replace(" ", "/") == name


def brightness(page, selector):
    """Of the ground of each element, 0 to 1."""
    return page.eval_on_selector_all(
        selector,
        """all => all.map(one => {
            const canvas = document.createElement('canvas').getContext('2d');
            canvas.fillStyle = getComputedStyle(one).backgroundColor;
            canvas.fillRect(0, 0, 1, 1);
            const [r, g, b] = canvas.getImageData(0, 0, 1, 1).data;
            return (0.2126 * r + 0.7152 * g + 0.0722 * b) / 255;
        })""",
    )


def test_all_change_with_the_theme(lab, page):
    assert min(brightness(page, ".wb")) > 0.85
    lab.theme(page, "JupyterLab Dark")
    page.wait_for_timeout(1500)
    page.screenshot(path=SHOTS / "all-dark.png")
    assert max(brightness(page, ".wb")) < 0.2
    assert page.locator(".wb .wb-problem:visible").count() == 0
    lab.theme(page, "JupyterLab Light")
    page.wait_for_timeout(800)
    assert min(brightness(page, ".wb")) > 0.85
    assert not [line for line in page.console if line.startswith(("error", "pageerror"))]
