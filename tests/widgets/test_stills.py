"""Stills: three forms within their budgets, text that stays text, colours as in the live view."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from workbench.core.errors import BadValueError
from workbench.testing.fake_session import scene
from workbench.testing.widget_suite import HOSTILE, Seen
from workbench.widgets import stills
from workbench.widgets.colours import CATEGORIES, ramp
from workbench.widgets.still_png import png_of
from workbench.widgets.stills import Legend, Picture, Still, heat_legend, painted


def noisy(n, size=96):
    """Pictures that no format makes small."""
    rng = np.random.default_rng(0)
    tiles = rng.integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    return [Picture(tile, f"noise {i}", (f"tile {i}",)) for i, tile in enumerate(tiles)]


def test_what_is_too_much_is_left_out_from_the_end_and_said():
    still = Still("Noise", pictures=noisy(80))
    html, png = still.html(), still.png()
    assert len(html.encode()) <= stills.HTML_BYTES and len(png) <= stills.PNG_BYTES
    shown = len(Seen(html).images)
    assert 1 <= shown < 80 and f"… and {80 - shown} more" in html and 'alt="noise 0"' in html
    assert Image.open(io.BytesIO(png)).width >= 420
    assert len(png_of([still, still])) <= stills.PNG_BYTES


def test_all_text_is_text():
    rows = pd.DataFrame({HOSTILE: [HOSTILE]}, index=pd.Index([HOSTILE], name=HOSTILE))
    legend = Legend(HOSTILE, [(1, 2, 3)], [HOSTILE], is_ramp=False)
    picture = Picture(scene(1), HOSTILE, (HOSTILE,))
    still = Still(
        HOSTILE, HOSTILE, [picture], legend, rows, [HOSTILE], digests={"model": HOSTILE}, code=HOSTILE, missing=HOSTILE
    )
    seen = Seen(still.html())
    assert len(seen.images) == 1 and seen.images[0]["alt"] == HOSTILE and not seen.addresses
    assert "<img src=x" not in still.html()
    assert "\n" in HOSTILE and "\n" not in still.text() and still.text().startswith(" ".join(HOSTILE.split()))
    assert still.png()


def test_rows_are_few_and_numbers_short():
    rows = pd.DataFrame({"x": np.linspace(0, 1, 40), "y": [np.nan] * 40, "z": [("a", "b")] * 40})
    html = Still("T", rows=rows).html()
    assert html.count("<tr>") == 13 and "The first 12 of 40 rows" in html and "–" in html and "a, b" in html


def test_it_is_saved_whole_in_either_form(tmp_path):
    still = Still("T", pictures=[Picture(scene(0), "a scene")])
    with Image.open(still.save(tmp_path / "a.png")) as image:
        assert image.format == "PNG"
    assert still.save(tmp_path / "a.html").read_text().startswith("<!doctype html>")
    with pytest.raises(BadValueError, match=r"\.html or \.png"):
        still.save(tmp_path / "a.pdf")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.html", "a.png"]


def test_a_map_is_painted_as_on_the_page():
    grey = np.full((4, 5, 3), 128, np.uint8)
    heat = np.zeros((4, 5), np.float32)
    heat[0, 0], heat[3, 4] = 1, -1
    found = painted(grey, heat, 1.0, opacity=1.0).astype(int)
    assert (found[1, 2] == found[2, 2]).all() and np.ptp(found[1, 2]) == 0  # clear at zero
    # At the ends the colours of the page's own formula: for and against, darkened by 0.42.
    np.testing.assert_allclose(found[0, 0], np.array([217, 72, 1]) * 0.58, atol=1)
    np.testing.assert_allclose(found[3, 4], np.array([33, 113, 181]) * 0.58, atol=1)
    assert heat_legend("relevance", 0.5).labels == ["-0.5", "0", "+0.5"]


def test_what_is_against_is_hatched_and_what_is_for_is_not():
    grey = np.full((60, 60, 3), 128, np.uint8)
    heat = np.full((60, 60), 0.8, np.float32)
    kinds = lambda pixels: len(np.unique(pixels.reshape(-1, 3), axis=0))  # noqa: E731
    assert kinds(painted(grey, heat, 1.0)) == 1  # for: one colour
    against = painted(grey, -heat, 1.0)
    assert kinds(against) == 3 and kinds(painted(grey, -heat, 1.0, hatched=False)) == 1
    assert kinds(against[np.arange(60), np.arange(60)[::-1]]) == 1  # along the lines nothing changes
    assert kinds(painted(grey, 0 * heat, 1.0)) == 1


def test_ramps_are_those_of_the_scripts():
    assert ramp("two-sided", 3) == [(8, 48, 107), (247, 247, 247), (127, 39, 4)]
    assert ramp("cividis", 2) == [(0, 34, 78), (254, 232, 56)] and len(CATEGORIES) == 8
