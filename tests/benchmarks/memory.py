"""Peak memory of a sweep over 4,096 inputs against one over 512, on the toy network: it must not grow with the data.

Each sweep runs in a process of its own, which reports the peak of its resident memory beyond what it held before.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
from typing import Any

from tests.benchmarks.common import ROOT, emit, options

SMALL, LARGE = 512, 4096


def main() -> None:
    """Measure and print."""
    if len(sys.argv) == 3 and sys.argv[1] == "--one":
        print(json.dumps(one(int(sys.argv[2]))))
        return
    chosen = options(__doc__, images=LARGE, repeats=5, models=("toy",))
    small, large = (16, 48) if chosen.quick else (SMALL, chosen.images)
    peaks = [(measure(small), measure(large)) for _ in range(chosen.repeats)]
    ratios = sorted(b["peak"] / a["peak"] for a, b in peaks)
    grown = sorted((b["peak"] - a["peak"]) / 1e6 for a, b in peaks)
    result = {
        "ratio": round(ratios[len(ratios) // 2], 3),
        "range": [round(ratios[0], 3), round(ratios[-1], 3)],
        "unit": f"peak resident memory of a sweep over {large} inputs / over {small}",
        "peak_mb": [round(peaks[0][0]["peak"] / 1e6), round(peaks[0][1]["peak"] / 1e6)],
        "grown_mb": round(grown[len(grown) // 2], 1),
        "before_the_sweep_mb": round(peaks[0][0]["before"] / 1e6),
    }
    emit("memory", {"toy": result}, goal=1.05)


def measure(n: int) -> dict[str, Any]:
    """Peak of one sweep, in a fresh process."""
    command = [sys.executable, "-m", "tests.benchmarks.memory", "--one", str(n)]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def one(n: int) -> dict[str, int]:
    """Sweep `n` inputs here."""
    from workbench import open_session
    from workbench.core.progress import SilentProgress
    from workbench.data import load

    with tempfile.TemporaryDirectory(prefix="workbench-memory-") as folder:
        session = open_session("toy-cnn", load("toy", n=n), store=folder)
        before = _peak()
        session.sweep(session.layers().linear(), progress=SilentProgress())
        session.close()
    return {"peak": _peak(), "before": before}


def _peak() -> int:
    """Largest resident memory of this process so far, in bytes."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest if sys.platform == "darwin" else largest * 1024


if __name__ == "__main__":
    main()
