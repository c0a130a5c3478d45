"""Each benchmark runs and says what it must, on a few images through the toy network; figures are not judged."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    "name", ["lrp_pass", "sweep_index", "sweep_activations", "concept_maps", "memory", "accelerator", "cav", "steering"]
)
def test_it_runs_and_what_it_computes_is_right(name, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [name, "--quick"])
    importlib.import_module(f"tests.benchmarks.{name}").main()
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["name"] == name and line["ratio"] > 0 and line["unit"]
    for key in ("largest_difference_to_zennit", "largest_difference_to_single_maps", "largest_difference_to_cpu"):
        assert line.get(key, 0) <= 1e-5
    assert line.get("top_k_cells_right", 1) == 1


def test_the_birds_run(monkeypatch, capsys):
    monkeypatch.setenv("WORKBENCH_STORE", "")  # the benchmark sets it; undone afterwards
    monkeypatch.setattr(sys, "argv", ["birds", "--quick"])
    importlib.import_module("tests.benchmarks.birds").main()
    small, large, network = map(json.loads, capsys.readouterr().out.splitlines())
    assert small["size"] == 64 and small["clean_per_s"] > 167 and large["with_3_artifacts_per_s"] > 0
    assert network["model"] == "efficientnet" and network["trained_now"] and 0 <= network["clean"] <= 1
    assert set(network["attacked"]) == {"timestamp"}


def test_the_corrections_run_and_go_on_where_they_were(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("WORKBENCH_STORE", "")  # the benchmark sets it; undone afterwards
    page = tmp_path / "TABLE.md"
    page.write_text("old\n## What to learn from it\nThat it runs.\n")
    module = importlib.import_module("tests.benchmarks.correction")
    lines = []
    for methods in (["none", "P-ClArC"], list(module.METHODS)):
        called = [
            "correction",
            "--quick",
            "--store",
            str(tmp_path / "store"),
            "--write",
            str(page),
            "--methods",
            *methods,
        ]
        monkeypatch.setattr(sys, "argv", called)
        module.main()
        lines.append([json.loads(line) for line in capsys.readouterr().out.splitlines()])
    first, second = lines
    assert [one.get("part") for one in first] == ["directions", "cell", "cell", None]
    assert first[-1]["name"] == "correction" and first[-1]["ratio"] > 0 and first[-1]["unit"]
    assert first[-1]["cells_made_now"] == 2 and second[-1]["cells_made_now"] == len(module.METHODS) - 2
    assert second[1] == first[1] | {"kept": True} and -1 <= first[0]["pattern"] <= 1
    assert all(
        "na" in one or {"clean", "attacked", "gap", "probe_layer", "seconds"} <= set(one) for one in second[1:-1]
    )
    text = page.read_text()
    assert text.endswith("## What to learn from it\nThat it runs.\n") and "old" not in text
    assert all(f"\n| {method} | " in text for method in module.METHODS)


def test_the_printed_table_has_all_corrections_and_is_part_of_the_documentation():
    from tests.benchmarks import correction
    from workbench.methods import correction as package

    text = (Path(package.__file__).parent / "TABLE.md").read_text(encoding="utf-8")
    for model in correction.CHOSEN:
        own = text.partition(f"### {correction.NAMES[model]}\n")[2].partition("###")[0]
        assert all(f"\n| {method} | " in own for method in correction.METHODS), model
    assert ".. include:: TABLE.md" in package.__doc__
    assert text.partition(correction.OWN_WORDS)[2].strip()


@pytest.mark.slow
def test_the_map_runs(monkeypatch, capsys):
    pytest.importorskip("umap")
    monkeypatch.setattr(sys, "argv", ["neuron_map", "--quick"])
    importlib.import_module("tests.benchmarks.neuron_map").main()
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["name"] == "neuron_map" and line["ratio"] > 0 and line["unit"] and line["seconds_small"] > 0
    assert line["trustworthiness_difference"] > -0.05


@pytest.mark.slow
@pytest.mark.browser
def test_the_gestures_run(monkeypatch, capsys):
    pytest.importorskip("playwright")
    monkeypatch.setattr(sys, "argv", ["gestures", "--quick"])
    importlib.import_module("tests.benchmarks.gestures").main()
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["name"] == "gestures" and line["ratio"] > 0
    for found in (*line["points"].values(), line["jupyterlab"]):
        assert all(0 < one["median_ms"] < 5000 for one in found.values())


def test_the_peer_says_what_is_missing(monkeypatch, tmp_path):
    from tests.benchmarks import peer_index

    monkeypatch.setattr(sys, "argv", ["peer_index", "--quick"])
    monkeypatch.setattr(peer_index, "PYTHON", tmp_path / "none" / "bin" / "python")
    with pytest.raises(SystemExit, match="make peers"):
        peer_index.main()
