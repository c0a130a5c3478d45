"""SteeringPanel in real JupyterLab on a real network: a dragged slider, the population, a kept edit, no hook left."""

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

SETUP = """import torch, workbench as wb
s = wb.open_session("toy-cnn", data=wb.data.load("toy", n=96))
x = torch.stack([s.data.tensor(i) for i in range(4)])
plain = s.model(x)
panel = wb.widgets.SteeringPanel(s, interventions=["features.11/unit/3"], sample=14, population=64, controls=4)
panel"""

COUNT = "sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in s.model.module.modules())"

# 200 events in two seconds, as a hand that cannot make up its mind.
DRAG = """async node => {
  for (let i = 0; i < 200; i++) {
    node.value = String(Math.round(20 * (0.5 + 0.5 * Math.cos(i / 9))) / 20);
    node.dispatchEvent(new Event('input', {bubbles: true}));
    await new Promise(done => setTimeout(done, 10));
  }
  node.value = '0.35';
  node.dispatchEvent(new Event('input', {bubbles: true}));
  node.dispatchEvent(new Event('change', {bubbles: true}));
}"""


def test_a_slider_is_dragged_and_an_edit_is_kept(chrome, tmp_path):
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with Lab(tmp_path, env={"PYTHONPATH": path, "WORKBENCH_STRICT": "0"}) as lab:
        notebook(lab.root / "steer.ipynb", SETUP, "")
        page = lab.open(chrome, "steer.ipynb", width=1500, height=1600)
        lab.hide_sidebar(page)
        lab.run_all(page)
        page.wait_for_selector(".wb-pop-result .wb-mean-track")
        before = page.locator(".wb-out-change").all_inner_texts()
        slider = page.get_by_role("slider", name="Strength, unit 3 of features.11")
        slider.evaluate(DRAG)
        said = lab.run_cell(
            page, "panel.wait(60), panel.interventions[0]['strength'], panel.outputs['acts'][0]['strength']"
        )
        assert "(True, 0.35, 0.35)" in said
        assert "0.35 True 64" in lab.run_cell(
            page, "print(panel.effect['acts'][0]['strength'], panel.effect['is_complete'], panel.effect['n'])"
        )
        page.wait_for_timeout(500)
        assert slider.get_attribute("aria-valuetext") == "35\u202f%"
        assert page.locator(".wb-out-change").all_inner_texts() != before
        assert not page.locator(".wb-outs.wb-old").count()
        assert page.locator(".wb-steering .wb-count").inner_text().startswith("64 samples")
        # How long it takes from one move to its outputs on screen.
        took = slider.evaluate(
            """node => new Promise(done => {
                const list = document.querySelector('.wb-outs'), begun = performance.now();
                const shown = list.querySelector('.wb-out-values').textContent;
                const watch = new MutationObserver(() => {
                    if (list.querySelector('.wb-out-values')?.textContent === shown) return;
                    if (list.classList.contains('wb-old')) return;
                    watch.disconnect();
                    done(performance.now() - begun);
                });
                watch.observe(list, {childList: true, subtree: true, attributes: true});
                node.value = '1';
                node.dispatchEvent(new Event('input', {bubbles: true}));
                node.dispatchEvent(new Event('change', {bubbles: true}));
            })"""
        )
        print(f"from a move to its outputs: {took:.0f} ms")
        assert took < 1000
        page.get_by_label("Name of the edit").fill("without 3")
        page.keyboard.press("Enter")
        page.wait_for_selector(".wb-kept:has-text('without 3')")
        assert "True" in lab.run_cell(page, "panel.variants['without 3'].model(x).allclose(plain) is False")
        assert "without_3 = s.variant('without 3'" in lab.run_cell(page, "print(panel.to_code())")
        lab.run_cell(page, "panel.close()")
        assert "True 0" in lab.run_cell(page, f"print(torch.equal(s.model(x), plain), {COUNT})")
        assert not [line for line in page.console if line.startswith("pageerror")]
        page.context.close()
