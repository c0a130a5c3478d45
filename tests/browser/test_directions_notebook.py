"""From a lasso to a compared variant in real JupyterLab: samples on a map, their direction, a slider, a kept edit.

The toy network takes a patch for a sign of one class; on the map of samples those with the patch lie together.
Pictures of what was on screen are kept in build/screenshots, to be looked at.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from workbench.testing.browser import Lab, chromium, notebook

ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / "build" / "screenshots"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="Chromium is not installed"),
]

SETUP = """import numpy as np, torch, workbench as wb
data = wb.data.ToyData(n=96, split="val", artifact_class=None, artifact_share=0.5)
s = wb.open_session("toy-cnn", data=data)
layer = "features.11"
print(s.sweep([layer], target="logit:0"))
x = torch.stack([s.data.tensor(i) for i in range(4)])
plain = s.model(x)
samples = wb.widgets.NeuronMap(s, layer, of="samples", tool="lasso", color_by="label", layout="pca", show_list=False)
viewer = wb.widgets.DirectionViewer(s, layer, methods=["pattern"])
board = wb.show(samples, viewer)"""

PANEL = """panel = wb.widgets.SteeringPanel(s, target="logit:0", population=64, controls=4)
panel"""

COMPARED = """view = wb.widgets.CompareView(s, population="all")
view"""

COUNT = "sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in s.model.module.modules())"

# A hand that cannot make up its mind, then rests.
DRAG = """async node => {
  for (let i = 0; i < 100; i++) {
    node.value = String(Math.round(20 * (0.5 + 0.5 * Math.cos(i / 9))) / 20);
    node.dispatchEvent(new Event('input', {bubbles: true}));
    await new Promise(done => setTimeout(done, 10));
  }
  node.value = '0.8';
  node.dispatchEvent(new Event('input', {bubbles: true}));
  node.dispatchEvent(new Event('change', {bubbles: true}));
}"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    """A laboratory with the story's notebook."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    folder = tmp_path_factory.mktemp("directions")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    with Lab(folder, env={"PYTHONPATH": path, "WORKBENCH_STRICT": "0"}) as lab:
        notebook(folder / "story.ipynb", SETUP, PANEL, COMPARED, "")
        yield lab


def asked(lab, page, code):
    """The list of numbers that a cell prints last."""
    return np.array(json.loads(lab.run_cell(page, code).strip().splitlines()[-1]))


def on_screen(position, box):
    """Where points of a map that shows all of them lie on the page; `position` is (point, 2)."""
    left, bottom = position.min(0)
    right, top = position.max(0)
    scale = min((box["width"] - 44) / (right - left), (box["height"] - 68) / (top - bottom))
    middle = np.array([(left + right) / 2, (bottom + top) / 2 - 12 / scale])
    away = (position - middle) * scale * [1, -1]
    return away + [box["x"] + box["width"] / 2, box["y"] + box["height"] / 2]


def around(points):
    """A convex outline (corner, 2) of points, in the order of a hand that goes round."""
    from scipy.spatial import ConvexHull

    hull = points[ConvexHull(points).vertices]
    return hull + 5 * (hull - hull.mean(0)) / np.linalg.norm(hull - hull.mean(0), axis=1, keepdims=True)


def shot(page, name, target=None):
    if target is not None:
        target.scroll_into_view_if_needed()
    page.wait_for_timeout(500)
    page.screenshot(path=SHOTS / f"directions-{name}.png")


def test_a_lasso_becomes_a_direction_that_is_steered_kept_and_compared(lab, chrome):
    page = lab.open(chrome, "story.ipynb", width=1500, height=1500)
    lab.hide_sidebar(page)
    lab.run_all(page)

    # A lasso around the samples that lie on one side of the map.
    position = asked(lab, page, "samples.wait(60); print(samples.map.position.round(4).tolist())")
    has_patch = asked(lab, page, "print(s.data.has_artifact.astype(int).tolist())") > 0
    canvas = page.locator(".wb-map canvas[role=application]").first
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(400)
    path = around(on_screen(position, canvas.bounding_box())[has_patch])
    shot(page, "map", canvas)
    page.mouse.move(*path[0])
    page.mouse.down()
    for corner in [*path[1:], path[0]]:
        page.mouse.move(*corner, steps=5)
    shot(page, "lasso")
    page.mouse.up()
    page.wait_for_timeout(600)
    chosen = asked(lab, page, "print(list(s.selection.samples))")
    assert has_patch[chosen].sum() == has_patch.sum(), "all within the outline are chosen"

    # They become the concept, and it the direction.
    viewer = page.locator(".wb-cav").first
    viewer.get_by_role("button", name=f"The {len(chosen)} selected samples", exact=True).click()
    viewer.locator(".wb-methods tbody tr").first.wait_for(timeout=60_000)
    shot(page, "viewer", viewer)
    viewer.get_by_role("button", name="Keep as component").click()
    viewer.locator('.wb-kept:has-text("is selected")').wait_for(timeout=30_000)
    assert viewer.locator(".wb-problem").is_hidden(), viewer.locator(".wb-problem").inner_text()
    address = lab.run_cell(page, "print(s.selection.component)").strip()
    assert address.startswith("features.11/cav-")
    assert asked(lab, page, "print([viewer.cav.separation_])") > 0.9
    assert sorted(chosen) == asked(lab, page, "print(list(viewer.positive_ids))").tolist()

    # The panel offers what is selected; its slider moves outputs and population.
    panel = page.locator(".wb-steering").first
    panel.scroll_into_view_if_needed()
    panel.locator(".wb-offer input").first.click()
    slider = panel.get_by_role("slider").first
    slider.wait_for(timeout=30_000)
    lab.run_cell(page, "panel.wait(60)")
    panel.locator(".wb-pop-result .wb-mean-track").wait_for(timeout=60_000)
    shown = panel.locator(".wb-out-change").all_inner_texts(), panel.locator(".wb-pop-result").inner_text()
    slider.evaluate(DRAG)
    said = lab.run_cell(
        page,
        "panel.wait(60); one = panel.interventions[0]\n"
        "print(one['address'][0], one['strength'], panel.outputs['acts'][0]['strength'],"
        " panel.effect['acts'][0]['strength'], panel.effect['is_complete'], panel.effect['n'])\n"
        "print(panel.effect['mean'] < 0, panel.effect['mean'] == panel.result.mean)",
    )
    assert said.split() == [address, "0.8", "0.8", "0.8", "True", "64", "True", "True"]
    page.wait_for_timeout(500)
    assert slider.get_attribute("aria-valuetext") == "80\u202f%"
    now = panel.locator(".wb-out-change").all_inner_texts(), panel.locator(".wb-pop-result").inner_text()
    assert now[0] != shown[0] and now[1] != shown[1]
    assert not panel.locator(".wb-outs.wb-old").count()
    shot(page, "steered", panel)

    # What stood the test is kept, and compared with the base.
    panel.get_by_label("Name of the edit").fill("without the patch")
    page.keyboard.press("Enter")
    panel.locator(".wb-kept:has-text('without the patch')").wait_for(timeout=30_000)
    view = page.locator(".wb-compare").first
    view.locator('.wb-title:has-text("without the patch against")').wait_for(timeout=60_000)
    view.locator(".wb-changed-result .wb-figure").first.wait_for(timeout=60_000)
    lost, gained, others, flips = asked(
        lab, page,
        "view.wait(60); found = s.differences(s.variants()['without the patch'], len(s.data))\n"
        "assert s.variants()['without the patch'] is panel.variants['without the patch']\n"
        "assert view.differences['counts'] == found.counts and len(found) == 96, view.differences['counts']\n"
        "print([found.counts[kind] for kind in ('lost', 'gained', 'other')] + [96 - found.counts['same']])",
    )  # fmt: skip
    assert lost + gained + others == flips > 0 and gained > lost, (lost, gained, others)
    said = view.locator(".wb-changed-result .wb-figures").inner_text()
    assert f"Decided otherwise {flips} of 96" in said and f"Gained {gained}" in said and f"Lost {lost}" in said
    view.get_by_role("radio").filter(has_text=f"Gained {gained}").click()
    flip = view.locator(".wb-flip").first
    sample = int(flip.get_attribute("data-id"))
    flip.click()
    view.locator(".wb-verdict.wb-is-gained:has-text('Decision changed')").wait_for(timeout=60_000)
    lab.run_cell(page, "view.wait(60)")
    shot(page, "compared", view)
    assert asked(lab, page, "print([s.selection.sample])") == sample and has_patch[sample]
    assert view.locator(".wb-problem").is_hidden(), view.locator(".wb-problem").inner_text()
    lab.run_cell(page, "panel.close()")
    assert "True 0" in lab.run_cell(page, f"print(torch.equal(s.model(x), plain), {COUNT})")
    assert not [line for line in page.console if line.startswith("pageerror")]
    page.context.close()
