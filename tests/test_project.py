"""The project's own files agree with one another."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path

import pytest

import workbench

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def _name(requirement: str) -> str:
    return re.split(r"[<>=!~\[ ]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version.split("+")[0])[:3])


def test_make_installs_what_the_project_allows():
    wanted = PROJECT["dependencies"] + [r for extra in PROJECT["optional-dependencies"].values() for r in extra]
    pinned = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(encoding="utf-8"), re.M))
    pinned = {name.lower().replace("_", "-"): version for name, version in pinned.items()}
    for requirement in (r for r in wanted if not r.startswith("workbench")):
        assert _name(requirement) in pinned, f"{requirement} has no version in constraints.txt"
        low = re.search(r">=([\w.]+)", requirement)
        assert low and _numbers(pinned[_name(requirement)]) >= _numbers(low[1]), requirement


def test_no_exact_version_in_the_project_itself():
    for requirement in PROJECT["dependencies"]:
        assert "==" not in requirement, requirement


@pytest.mark.parametrize("target", ["demo", "test", "test-all", "bench", "js", "docs", "peers", "clean"])
def test_make_has_and_explains_its_targets(target):
    assert re.search(rf"^{target}:", MAKEFILE, re.M)
    assert f"make {target} " in MAKEFILE


def test_ci_runs_make_test():
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text(encoding="utf-8").rstrip().endswith("exec make test")


def test_version_and_changes():
    assert re.fullmatch(r"\d+\.\d+\.\d+(\.dev\d+)?", workbench.__version__)
    assert "## Unreleased" in (ROOT / "workbench" / "CHANGELOG.md").read_text(encoding="utf-8")
    assert (ROOT / "workbench" / "py.typed").exists()


def test_the_top_level_stays_as_agreed():
    folders = {p.name for p in ROOT.iterdir() if p.is_dir() and not p.name.startswith((".", "__"))}
    assert folders - {"build", "dist"} <= {"workbench", "notebooks", "tests"}
