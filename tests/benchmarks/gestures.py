"""How soon gestures show: on an exported page without kernel, and the card in JupyterLab, against an empty round trip.

Each gesture is made many times by events within the page; the time runs from the event to the frame that shows its
effect. Medians and 95 % quantiles in milliseconds, each with its budget; `ratio` is the card from the store, in
JupyterLab, divided by a message that is answered at once. Chromium draws in software here.

    python -m tests.benchmarks.gestures [--quick]
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from workbench.testing.browser import Lab, browser, chromium, notebook
from workbench.testing.fake_session import FakeSession
from workbench.testing.page_suite import ExportedPage

ROOT = Path(__file__).resolve().parents[2]
BUDGETS = {"hover": 16, "pan": 16, "lasso": 100, "linked_highlight": 50, "twin_step": 16, "card": 120}

# Runs `act` many times, each from a still page, and gives the times until the frame after which `seen` holds.
_MEASURE = """
window.measure = async (n, act, seen = () => true, limit = 5000) => {
  const frame = () => new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const times = [];
  for (let i = 0; i < n; i++) {
    await frame();
    const start = performance.now();
    act(i);
    do await frame(); while (!seen(i) && performance.now() - start < limit);
    times.push(performance.now() - start);
  }
  return times;
};
window.pointer = (node, kind, x, y, more = {}) => {
  const box = node.getBoundingClientRect();
  node.setPointerCapture = () => {};
  node.dispatchEvent(new PointerEvent(kind, {
    clientX: box.left + x * box.width, clientY: box.top + y * box.height, button: 0, pointerId: 1, bubbles: true,
    isPrimary: true, buttons: kind === "pointerup" ? 0 : 1, ...more,
  }));
};
"""

_ON_PAGE = {
    # An idle frame: what measuring itself costs.
    "empty": "() => measure(N, () => {})",
    "hover": """() => {
        const canvas = document.querySelector('.wb-map canvas[role=application]');
        return measure(N, (i) => pointer(canvas, 'pointermove', 0.3 + 0.4 * ((i * 7) % N) / N, 0.5, {buttons: 0}));
    }""",
    "pan": """async () => {
        const canvas = document.querySelector('.wb-map canvas[role=application]');
        pointer(canvas, 'pointerdown', 0.5, 0.5);
        const times = await measure(N, (i) => pointer(canvas, 'pointermove', 0.5 + 0.002 * (i + 3), 0.5));
        pointer(canvas, 'pointerup', 0.5, 0.5);
        return times;
    }""",
    "linked_highlight": """() => {
        const rows = () => document.querySelectorAll('.wb-atlas .wb-row');
        const note = document.querySelector('.wb-map .wb-note');
        let wanted = '';
        return measure(N, (i) => {
            const row = rows()[(5 * i + 1) % rows().length];
            wanted = row.querySelector('.wb-row-name').textContent.replace(' ', '/');
            row.click();
        }, () => note.textContent.includes(wanted));
    }""",
    "twin_step": """() => {
        const list = document.querySelector('.wb-map [role=listbox]');
        list.focus();
        return measure(N, () => list.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowDown', bubbles: true})));
    }""",
}

_SETUP = """import workbench as wb
from workbench.testing.small import small_data, small_net, SMALL, CLASSES
from workbench.widgets import SessionWidget, on

class Echo(SessionWidget):
    _esm = '''export default { render({ model, el }) {
      let count = 0; const waiting = new Map();
      model.on("msg:custom", (m) => { waiting.get(m.to)?.(); });
      window.echo = () => new Promise((done) => {
        const id = `e${++count}`;
        waiting.set(id, done);
        model.send({ kind: "echo", id, body: {} });
      });
      el.append("echo");
    } }'''
    @on("echo")
    def _on_echo(self):
        return {}

s = wb.open_session(small_net(), data=small_data(), transform=SMALL, classes=CLASSES, store="store")
s.sweep(["relu_b"])
for i in range(7):
    s.reference_views(f"relu_b/unit/{i}")
s.selection.component = "relu_b/unit/0"
echo, card, atlas = Echo(s), wb.widgets.ComponentCard(s), wb.widgets.AtlasBrowser(s, layer="relu_b", show_list=True)
wb.show(atlas, card, echo)"""


# Times from the release of the pointer to the frame in which the note under the map has changed.
_AFTER_RELEASE = """() => {
    const note = document.querySelector('.wb-map .wb-note');
    const canvas = document.querySelector('.wb-map canvas[role=application]');
    window.released = [];
    canvas.addEventListener('pointerup', () => {
        const start = performance.now(), before = note.textContent;
        const look = () => {
            if (note.textContent !== before) return window.released.push(performance.now() - start);
            if (performance.now() - start < 5000) requestAnimationFrame(() => setTimeout(look));
        };
        requestAnimationFrame(() => setTimeout(look));
    }, {capture: true});
}"""


def lasso_times(page: Any, n: int) -> list[float]:
    """Draw lassos of growing size with the real pointer."""
    page.click('.wb-map [aria-label="Show all"]')
    page.click(".wb-map .wb-segment:text-is('Lasso')")
    page.wait_for_timeout(800)
    page.evaluate(_AFTER_RELEASE)
    box = page.locator(".wb-map canvas[role=application]").bounding_box()
    for i in range(n):
        side = 0.1 + 0.3 * i / n
        corners = [(-side, -side), (side, -side), (side, side), (-side, side), (-side, -side)]
        places = [(box["x"] + (0.5 + x) * box["width"], box["y"] + (0.5 + y) * box["height"]) for x, y in corners]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=6)
        page.mouse.up()
        page.wait_for_function("i => window.released.length > i", arg=i, timeout=10_000)
        page.wait_for_timeout(50)
    page.click(".wb-map .wb-segment:text-is('Move')")
    return list(page.evaluate("() => window.released"))


def page_times(n_points: int, n: int) -> dict[str, list[float]]:
    """Times of all gestures on an exported page of a map and an atlas."""
    from workbench.widgets import AtlasBrowser, NeuronMap, export

    session = FakeSession(n=8, components=n_points)
    widgets = [
        NeuronMap(session.point_map("bn2"), session=session, show_list=True, neighbours=8, projection="pca")
        if n_points <= 20_000
        else _plain_map(session, n_points),
        AtlasBrowser(session.atlas(), session=session, show_list=True),
    ]
    with tempfile.TemporaryDirectory() as folder, browser() as chrome:
        path = Path(folder) / "page.html"
        export(widgets, path, components=1, samples=1, max_mb=60)
        with ExportedPage(chrome, path, width=1400, height=1000) as opened:
            opened.page.evaluate(f"() => {{ {_MEASURE} }}")
            opened.page.wait_for_timeout(1500)
            times = {name: opened.page.evaluate(code.replace("N", str(n))) for name, code in _ON_PAGE.items()}
            times["lasso"] = lasso_times(opened.page, min(n, 20))
            if opened.errors:
                raise SystemExit(f"the page complained: {opened.errors[:3]}")
    for widget in widgets:
        widget.close()
    return times


def _plain_map(session: FakeSession, n_points: int) -> Any:
    """A map of given coordinates: neighbours of so many points are not what is measured."""
    import numpy as np

    from workbench.widgets import NeuronMap

    rng = np.random.default_rng(0)
    return NeuronMap(session=session, position=rng.normal(0, 1, (n_points, 2)).astype(np.float32), show_list=True)


def lab_times(n: int) -> dict[str, list[float]]:
    """Times of an empty round trip and of the card, both in JupyterLab."""
    with tempfile.TemporaryDirectory() as folder:
        notebook(Path(folder) / "card.ipynb", _SETUP)
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
        with Lab(folder, env={"PYTHONPATH": path}) as lab, browser() as chrome:
            page = lab.open(chrome, "card.ipynb", width=1400, height=1200)
            lab.run_all(page)
            page.wait_for_selector(".wb-card .wb-ref canvas", timeout=30_000)
            page.wait_for_selector(".wb-atlas .wb-row", timeout=30_000)
            page.wait_for_timeout(1500)
            page.evaluate(f"() => {{ {_MEASURE} }}")
            echo = page.evaluate(
                f"""async () => {{
                    const times = [];
                    for (let i = 0; i < {n}; i++) {{
                        const start = performance.now(); await window.echo(); times.push(performance.now() - start);
                    }}
                    return times;
                }}"""
            )
            card = page.evaluate(
                f"""() => {{
                    const rows = () => [...document.querySelectorAll('.wb-atlas .wb-row')];
                    let before = '', wanted = '';
                    return measure({n}, (i) => {{
                        const row = rows()[(3 * i + 1) % rows().length];
                        before = document.querySelector('.wb-card .wb-ref[aria-label]');
                        wanted = row.querySelector('.wb-row-name').textContent;
                        row.click();
                    }}, () => document.querySelector('.wb-card .wb-title').textContent === wanted
                        && (document.querySelector('.wb-card .wb-ref[aria-label]') || before) !== before);
                }}"""
            )
    return {"round_trip": echo, "card": card}


def sheet_times(n: int) -> dict[str, float]:
    """How long 64 thumbnails of photographs take as one sheet, and as single PNGs; medians of `n` turns."""
    import io
    import time

    from PIL import Image

    from workbench import data
    from workbench.widgets import wire

    pictures = data.load("photos", n=64)
    tiles = [np.asarray(Image.fromarray(pictures.picture(i)).resize((96, 96))) for i in range(64)]

    def pngs() -> None:
        for tile in tiles:
            Image.fromarray(tile).save(io.BytesIO(), "PNG")

    found: dict[str, list[float]] = {"sheet": [], "pngs": []}
    for _ in range(n):
        for name, run in (("sheet", lambda: wire.sheet(tiles)), ("pngs", pngs)):
            started = time.process_time()
            run()
            found[name].append(1000 * (time.process_time() - started))
    sheet, single = statistics.median(found["sheet"]), statistics.median(found["pngs"])
    return {"sheet_ms": round(sheet, 1), "single_pngs_ms": round(single, 1), "times_less": round(single / sheet, 1)}


def summary(times: list[float]) -> dict[str, float]:
    """Median and 95 % quantile, in milliseconds."""
    ordered = sorted(times)
    return {
        "median_ms": round(statistics.median(ordered), 1),
        "q95_ms": round(ordered[min(len(ordered) - 1, int(0.95 * len(ordered)))], 1),
    }


def main() -> None:
    """Print one JSON line."""
    is_quick = "--quick" in sys.argv
    if chromium() is None:
        raise SystemExit("Chromium is needed: apt install chromium")
    n, sizes = (6, [500]) if is_quick else (40, [20_000, 200_000])
    line: dict[str, Any] = {"name": "gestures", "unit": "card from the store / empty round trip", "points": {}}
    for size in sizes:
        found = page_times(size, n)
        empty = statistics.median(found["empty"])
        line["points"][size] = {
            name: {
                **summary(times),
                "budget_ms": BUDGETS.get(name),
                "to_idle_frame": round(statistics.median(times) / empty, 2),
            }
            for name, times in found.items()
        }
    line["thumbnails_64"] = sheet_times(n)
    found = lab_times(n)
    trip = statistics.median(found["round_trip"])
    line["jupyterlab"] = {
        name: {
            **summary(times),
            "budget_ms": BUDGETS.get(name),
            "to_round_trip": round(statistics.median(times) / trip, 2),
        }
        for name, times in found.items()
    }
    line["ratio"] = line["jupyterlab"]["card"]["to_round_trip"]
    print(json.dumps(line))


if __name__ == "__main__":
    main()
