"""Each benchmark runs and says what it must, on a few images through the toy network; figures are not judged."""

from __future__ import annotations

import importlib
import json
import sys

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
