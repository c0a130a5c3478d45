"""Every notebook runs from top to bottom on the toy path, says what it must, and is committed without outputs."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from xml.etree import ElementTree

import nbformat
import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
names = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)


def two_rounds_were_kept(notebook):
    """Two rounds were made and kept, each of another artifact; what the world knows says that both gaps fell."""
    frame = frame_of(notebook, "report.to_frame().T").T
    assert list(frame["outcome"]) == ["kept", "kept"], frame
    assert frame["artifact"].nunique() == 2 and (frame["samples"].astype(int) > 20).all()
    assert (frame["attacked_after"].astype(float) > frame["attacked_before"].astype(float) + 0.1).all()
    assert "nothing more was found" not in str(output_of(notebook, "report.attacks_[second.artifact]"))
    before, after = frame_of(notebook, "truth(s, report.corrected)").astype(float).to_numpy()
    for attacked in (1, 2):
        assert after[0] - after[attacked] < (before[0] - before[attacked]) / 2, "the gap fell by half at least"
    assert "(True, 2)" in str(output_of(notebook, "path = report.edits()")), "what was saved is the corrected network"


def output_of(notebook, begins):
    """The last output of the cell that begins so."""
    cells = [c for c in notebook.cells if c.cell_type == "code" and c.source.startswith(begins)]
    assert len(cells) == 1 and cells[0].outputs, begins
    return cells[0].outputs[-1]


def frame_of(notebook, begins):
    """The frame that a cell shows, all entries as text."""
    html = output_of(notebook, begins)["data"]["text/html"]
    table = ElementTree.fromstring(html[html.index("<table") : html.index("</table>") + len("</table>")])
    rows = [["".join(cell.itertext()) for cell in row] for row in table.iter("tr")]
    return pd.DataFrame([row[1:] for row in rows[1:]], index=[row[0] for row in rows[1:]], columns=rows[0][1:])


# What a notebook must have come to, beyond that it ran.
SHOWS = {"03_reveal_and_revise.ipynb": two_rounds_were_kept}


@names
def test_runs_on_the_toy_path(path, tmp_path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("WORKBENCH_TOY", "1")
    monkeypatch.setenv("WORKBENCH_STILL_WAIT_S", "60")  # as for the pages of the documentation
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=300, store_widget_state=False, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    for cell in (c for c in notebook.cells if c.cell_type == "code"):
        printed = "".join(o.get("text", "") for o in cell.outputs if o.output_type == "stream" and o.name == "stderr")
        assert "Warning" not in printed and "still could not" not in printed, f"{cell.source}\n{printed}"
        stills = "".join(o.get("data", {}).get("text/html", "") for o in cell.outputs)
        assert "Not computed yet" not in stills, f"{cell.source}\nits still, at the end of the run, is not there"
    SHOWS.get(path.name, lambda _: None)(notebook)


@names
def test_opens_with_its_question_and_ends_with_doubt(path):
    notebook = nbformat.read(path, as_version=4)
    first, last = notebook.cells[0], notebook.cells[-1]
    assert first.cell_type == last.cell_type == "markdown"
    for word in ("?", "minute", "memory"):
        assert word in first.source, f"the opening does not mention {word!r}"
    assert "doubt" in last.source
    assert len(notebook.cells) <= 40


@names
def test_committed_without_outputs(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    for cell in notebook["cells"]:
        assert not cell.get("outputs") and cell.get("execution_count") is None
    assert "widgets" not in notebook["metadata"]


@names
def test_only_public_names_are_used(path):
    for cell in nbformat.read(path, as_version=4).cells:
        if cell.cell_type == "code":
            assert not re.search(r"\b\w+\._[a-z]", cell.source), cell.source


def test_there_is_a_tour():
    assert [p.name for p in NOTEBOOKS][0] == "00_tour.ipynb"
