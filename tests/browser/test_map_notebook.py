"""NeuronMap in real JupyterLab: a lasso there is a frame in a cell, and what a cell sets is drawn."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from workbench.testing.browser import Lab, chromium, notebook

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="Chromium is not installed"),
]

SETUP = """import workbench as wb
from workbench.testing.fake_session import FakeSession
s = FakeSession(components=600)
m = wb.widgets.NeuronMap(s, "bn2", color_by="class_relevance", tool="lasso", show_list=True)
card = wb.widgets.ComponentCard(s)
board = wb.show(m, card)"""


def test_a_lasso_is_a_frame_in_a_cell_and_cells_choose_what_is_drawn(chrome, tmp_path):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with Lab(tmp_path, env={"PYTHONPATH": path, "WORKBENCH_STRICT": "0"}) as lab:
        notebook(lab.root / "map.ipynb", SETUP, "")
        page = lab.open(chrome, "map.ipynb", width=1500, height=1300)
        lab.hide_sidebar(page)
        lab.run_all(page)
        page.wait_for_selector(".wb-map .wb-row")
        box = page.locator(".wb-map canvas[role=application]").first.bounding_box()
        left, top, wide, high = box["x"] + 4, box["y"] + 4, box["width"] - 8, box["height"] - 8
        page.mouse.move(left, top)
        page.mouse.down()
        for x, y in [(left + wide, top), (left + wide, top + high), (left, top + high)]:
            page.mouse.move(x, y, steps=4)
        page.mouse.up()
        page.wait_for_timeout(600)
        said = lab.run_cell(
            page, "len(m.selection), len(s.selection.components), s.selection.component == card.component"
        )
        assert "(600, 600, True)" in said
        assert page.locator(".wb-map .wb-note").first.inner_text().startswith("600 of 600 in the set")
        # The first of the set is opened: the list is in the order of the colour, and so is "first".
        assert "True" in lab.run_cell(page, "s.selection.component == m.table().index[0]")
        lab.run_cell(page, 's.selection.components = []; m.color_by = "class"; m.filter = {"class": ["circle"]}')
        page.wait_for_timeout(400)
        n = int(lab.run_cell(page, "len(m.table())").strip().splitlines()[-1])
        assert page.locator(".wb-map .wb-count").first.inner_text() == f"{n} of 600"
        assert not [line for line in page.console if line.startswith("pageerror")]
        page.screenshot(path=str(tmp_path / "lab.png"))
        page.context.close()
