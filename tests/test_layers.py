"""The import statements obey the architecture: who may know whom, and which libraries stay where."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "workbench"

EVERYTHING = {"data", "store", "models", "attribution", "sweeps", "methods", "figures", "session", "widgets"}
EVERYTHING |= {"testing", "tutorial"}
# What a folder may import of ours, besides itself and core.
MAY_IMPORT = {
    "core": set(),
    "data": set(),
    "store": set(),
    "figures": set(),
    "models": {"data"},
    "attribution": {"data", "models"},
    "sweeps": {"data", "store", "models", "attribution"},
    "methods": {"data", "models", "attribution"},
    "session": {"data", "store", "models", "attribution", "sweeps", "methods"},
    "widgets": {"session", "methods"},
    "tutorial": EVERYTHING,
    "testing": EVERYTHING,
    "cli": {"data", "store", "models", "attribution", "sweeps", "methods", "session"},
    "__main__": {"cli"},
    "__init__": {"data", "attribution", "methods", "session", "widgets"},
}
# Libraries that only some folders may import at all.
ONLY_IN = {
    "ipywidgets": {"widgets", "tutorial"},
    "anywidget": {"widgets", "tutorial"},
    "plotly": {"figures"},
}
# Libraries that nobody imports while a module is loaded.
INSIDE_FUNCTIONS = {"umap", "open_clip", "transformers", "timm", "skimage", "sklearn", "foolbox", "matplotlib", "dask"}
# Modules that must not load torch, not even through one of ours; typing blocks don't count.
NO_TORCH = ["core/ids.py", "core/errors.py", "core/results.py", "core/registry.py", "core/config.py", "core/check.py"]
NO_TORCH += ["core/progress.py", "session/selection.py", "core/record.py", "core/tables.py", "core/attributions.py"]
NO_TORCH += ["core/maps.py", "core/directions.py", "core/edits.py"]


class Import:
    """One imported module: its dotted name, whether it happens at load time, and where it stands."""

    def __init__(self, name: str, is_at_load: bool, place: str):
        self.name, self.is_at_load, self.place = name, is_at_load, place


def imports(path: Path) -> list[Import]:
    """Imports of one file; those under `if TYPE_CHECKING` are left out, since they never run."""
    return list(_walk(ast.parse(path.read_text(encoding="utf-8")).body, path, is_at_load=True))


def _walk(nodes: Iterable[ast.AST], path: Path, *, is_at_load: bool) -> Iterator[Import]:
    for child in nodes:
        place = f"{path.relative_to(PACKAGE.parent)}:{getattr(child, 'lineno', 0)}"
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, is_at_load, place) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"{place}: relative import"
            if child.module == "workbench":  # `from workbench import data` names a folder
                yield from (Import(f"workbench.{alias.name}", is_at_load, place) for alias in child.names)
            else:
                yield Import(child.module or "", is_at_load, place)
                yield from (
                    Import(f"{child.module}.{alias.name}", is_at_load, place)
                    for alias in child.names
                    if (PACKAGE.parent / f"{child.module}.{alias.name}".replace(".", "/")).with_suffix(".py").exists()
                )
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
            yield from _walk(child.orelse, path, is_at_load=is_at_load)
        else:
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from _walk(ast.iter_child_nodes(child), path, is_at_load=is_at_load and not inside)


def folder(path: Path) -> str:
    """The part of the package that a file belongs to; `cli` and `__init__` stand for themselves."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


FILES = sorted(p for p in PACKAGE.rglob("*.py") if "node_modules" not in p.parts)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_follow_the_layers(path):
    here = folder(path)
    assert here in MAY_IMPORT, f"workbench/{here} has no place in the architecture"
    allowed = MAY_IMPORT[here] | {here, "core"}
    for found in imports(path):
        top, *rest = found.name.split(".")
        if top == "workbench" and rest and rest[0] in MAY_IMPORT:
            assert rest[0] in allowed, f"{found.place}: {here} must not import {found.name}"
        if top in ONLY_IN:
            assert here in ONLY_IN[top] | {"testing"}, f"{found.place}: {top} belongs in {sorted(ONLY_IN[top])}"
        if top in INSIDE_FUNCTIONS:
            assert not found.is_at_load, f"{found.place}: import {top} inside the function that needs it"


@pytest.mark.parametrize("name", NO_TORCH)
def test_no_torch_at_load(name):
    path = PACKAGE / name
    seen, queue = set(), [path]
    while queue:
        current = queue.pop()
        for found in imports(current):
            if not found.is_at_load:
                continue
            assert found.name.split(".")[0] not in ("torch", "torchvision"), f"{found.place}: loads torch"
            candidate = (PACKAGE.parent / found.name.replace(".", "/")).with_suffix(".py")
            if found.name.startswith("workbench.") and candidate.exists() and candidate not in seen:
                seen.add(candidate)
                queue.append(candidate)


@pytest.mark.parametrize("path", [p for p in FILES if p.name == "__init__.py"], ids=lambda p: str(p.parent.name))
def test_package_files_are_lazy(path):
    heavy = {"torch", "torchvision", "zennit", "plotly", "umap", "open_clip", "timm"}
    for found in imports(path):
        assert not (found.is_at_load and found.name.split(".")[0] in heavy), f"{found.place}: load {found.name} later"


def test_the_walker_sees_what_it_should(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "PACKAGE", tmp_path / "workbench")
    file = tmp_path / "workbench" / "core" / "x.py"
    file.parent.mkdir(parents=True)
    file.write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch\nelse:\n    import plotly\n"
        "def f():\n    from workbench.data import base\nfrom workbench import store\n"
    )
    found = {(i.name, i.is_at_load) for i in imports(file)}
    assert found == {("typing", True), ("plotly", True), ("workbench.data", False), ("workbench.store", True)}
