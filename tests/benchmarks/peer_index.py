"""The reference package's index against ours over the same inputs, layers and labels: time, bytes, files, exactness.

Both keep references alone, ours with `keep="references"`; bytes are those of the whole folder, all files counted.
`ratio` is the package's time divided by ours. It runs in a second environment (`make peers`), in turns with ours; each
turn is a process of its own that measures its process time itself, without its start and its first pass.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.benchmarks.common import ROOT, Case, case, emit, in_turns, options
from tests.benchmarks.sweep_index import Swept, cells_right, sweeping
from workbench.attribution.crp import explain

PYTHON = Path(os.environ.get("WORKBENCH_PEERS", ROOT / ".venv-peers")) / "bin" / "python"
KEPT = 40


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__, images=128, repeats=3, models=("resnet18", "efficientnet_lite0"))
    if not PYTHON.exists():
        sys.exit(f"There is no second environment at {PYTHON.parent.parent.name}: make it with `make peers`.")
    results = {name: measure(name, chosen.images, chosen.repeats) for name in chosen.models}
    emit("peer_index", results, goal=2.5, goal_efficientnet_lite0=4, goal_share_of_bytes=0.1, larger_is_better=True)


def measure(name: str, n: int, repeats: int) -> dict[str, Any]:
    """Time, size and exactness of both indexes for one model."""
    one, swept = case(name, n), list[Swept]()
    ours = sweeping(one, swept, relevance=True, target="label", keep="references")
    times: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="workbench-peer-") as place:
        folder = Path(place) / "index"
        for _ in range(repeats):
            shutil.rmtree(folder, ignore_errors=True)
            theirs = reference(name, n, folder)["cpu"]
            times.append((theirs, in_turns({"ours": ours}, 1)["ours"].cpu[0]))
        session, tables = swept[-1].session, list[Swept]()
        stored = {"reference": size(folder), "ours": size(swept[-1].folder)}
        n_files = {"reference": count(folder), "ours": count(swept[-1].folder)}
        sweeping(one, tables, relevance=True, target="label")()  # what ours is compared with
        ratios = [a / b for a, b in times]
        result = {
            "ratio": round(statistics.median(ratios), 2),
            "range": [round(min(ratios), 2), round(max(ratios), 2)],
            "unit": f"process time of the index over {n} inputs, {len(one.handle.layers.linear())} layers",
            "files": n_files,
            "bytes": {**stored, "ours_with_tables": size(tables[-1].folder)},
            "top_k_cells_right": {
                "reference": reference_right(one, folder),
                "ours": cells_right(tables[-1].session, relevance=True, target="label", kept=session),
            },
            "images": one.source,
        }
    result["share_of_bytes"] = round(stored["ours"] / stored["reference"], 4)
    result["share_of_files"] = round(n_files["ours"] / n_files["reference"], 4)
    for made in (swept, tables):
        made[-1].drop()
    return result


def reference(name: str, n: int, folder: Path) -> dict[str, float]:
    """Build the package's index in a process of its own."""
    command = [str(PYTHON), "-m", "tests.benchmarks._reference", name, str(n), str(folder)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"The reference package failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def files(folder: Path) -> list[Path]:
    """All files below a folder."""
    return [path for path in folder.rglob("*") if path.is_file()]


def count(folder: Path) -> int:
    """Number of files."""
    return len(files(folder))


def size(folder: Path) -> int:
    """Bytes of all files."""
    return sum(path.stat().st_size for path in files(folder))


def reference_right(one: Case, folder: Path) -> dict[str, float]:
    """Share of the package's cells that hold the sample that sorting its own scores over all inputs puts there.

    Its scores are sums over positions, divided by the sum of absolute values over components, as its defaults have it.
    They are computed anew, by our pass; near-ties that rounding may decide either way count as right.
    """
    layers = one.handle.layers.linear()
    scores: dict[tuple[str, str], list[torch.Tensor]] = {}
    for x, labels in zip(one.x.split(16), np.array_split(one.labels, range(16, len(one.x), 16)), strict=True):
        found = explain(one.handle, x, "label", record=layers, labels=labels)
        for name in layers:
            layer = one.handle.layers[name]
            for kind, tensor in (("RelMax", found.layers[name]), ("ActMax", found.activations[name])):
                pooled = layer.components_first(tensor).sum(2)
                pooled = pooled / (pooled.abs().sum(1, keepdim=True) + 1e-10)
                scores.setdefault((kind, name), []).append(pooled)
    right: dict[str, list[int]] = {"RelMax": [0, 0], "ActMax": [0, 0]}
    for (kind, name), parts in scores.items():
        values = torch.cat(parts).double()
        ids = torch.from_numpy(np.load(folder / f"{kind}_sum_normed" / f"{name}_data.npy")).long()
        n = min(KEPT, len(values), len(ids))
        best = values.sort(dim=0, descending=True).values[:n]
        held = values.gather(0, ids[:n])
        close = (held - best).abs() <= 1e-5 * values.abs().amax(0).clamp(min=1e-30)
        right[kind][0] += int(close.sum())
        right[kind][1] += close.numel()
    return {kind: round(a / b, 4) for kind, (a, b) in right.items()}


if __name__ == "__main__":
    main()
