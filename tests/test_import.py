"""`import workbench` is quick, loads nothing heavy and offers exactly what it promises."""

import json
import subprocess
import sys
import time

import pytest

import workbench as wb

HEAVY = ("torch", "torchvision", "zennit", "umap", "plotly", "pandas", "ipywidgets", "anywidget", "open_clip", "PIL")


def _in_new_process(code: str) -> dict:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize(
    ("statement", "allowed"),
    [
        ("import workbench", ()),
        ("import workbench.core.ids, workbench.core.errors, workbench.core.results", ()),
        ("import workbench.session.selection", ()),
        ("import workbench; dir(workbench)", ()),
        ("import workbench.cli", ()),
        ("import workbench.data, workbench.methods, workbench.models, workbench.attribution, workbench.session", ()),
        ("import workbench.widgets", ("anywidget", "ipywidgets", "pandas", "PIL")),
    ],
)
def test_nothing_heavy_is_loaded(statement, allowed):
    found = _in_new_process(
        f"{statement}\nimport sys, json\nprint(json.dumps([m for m in {HEAVY!r} if m in sys.modules]))"
    )
    assert set(found) <= set(allowed)


def test_import_is_quick():
    # The best of three: the first may read files that no one has read before. The goal is 0.5 s.
    code = "import time, json; t = time.perf_counter(); import workbench; print(json.dumps(time.perf_counter() - t))"
    assert min(_in_new_process(code) for _ in range(3)) < 0.5


def test_importing_makes_no_folders_and_no_sound(tmp_path):
    target = tmp_path / "store"
    code = f"import os; os.environ['WORKBENCH_STORE'] = {str(target)!r}; import workbench; print('null')"
    assert _in_new_process(code) is None
    assert not target.exists()


def test_public_names():
    assert set(wb.__all__) <= set(dir(wb))
    for name in wb.__all__:
        assert getattr(wb, name) is not None
    assert wb.__version__
    with pytest.raises(AttributeError, match="no attribute 'sesion'"):
        wb.sesion


def test_lookups_are_kept():
    wb.__dict__.pop("Target", None)
    start = time.perf_counter()
    first = wb.Target
    assert "Target" in wb.__dict__ and wb.Target is first
    assert time.perf_counter() - start < 60
