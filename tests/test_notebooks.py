"""Every notebook runs from top to bottom on the toy path, says what it must, and is committed without outputs."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
names = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.name)


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
