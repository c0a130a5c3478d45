"""A direction in closed form against the filter that it replaces, and its seconds on activations of a large data set.

`ratio` is the time of one fit of the pattern, refits for held-out samples and for stability included, divided by one of
the linear support vector machine with a given strength, both on 2,000 samples of 512 units. `seconds_pattern` and
`seconds_resamples` are wall times of a fit, and of one with 200 resamples, on 50,000 samples of 2,048 units that are
read from a store whose file is in the system's cache.
"""

from __future__ import annotations

import tempfile
import time
from typing import Any

import numpy as np
import torch

from tests.benchmarks.common import emit, in_turns, options, ratio
from workbench.methods import SVMCAV, PatternCAV
from workbench.store import Store
from workbench.store.recipe import Recipe
from workbench.testing.context import FakeContext


class Stored(FakeContext):
    """Gives the activations as they are stored, without a copy of its own."""

    def __init__(self, store: Any, recipe: Recipe, labels: np.ndarray):
        super().__init__({"l": np.zeros((len(labels), 1))}, labels=labels, classes=[str(i) for i in range(10)])
        self.store, self.recipe = store, recipe

    def pooled(self, layer: str, samples: Any = None, *, pooling: str = "max") -> tuple[np.ndarray, np.ndarray]:
        """All rows."""
        values = self.store.get(self.recipe)["values"].numpy()
        return np.arange(len(values)), values


def planted(n: int, c: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Activations of noise with a concept on a twentieth of the samples, and classes."""
    rng = np.random.default_rng(0)
    t, x = rng.random(n) < 0.05, rng.standard_normal((n, c), dtype=np.float32)
    x[t, 0] += 2
    return x, t, rng.integers(0, 10, n)


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__, images=50_000, models=("toy",))
    n, c = (200, 16) if chosen.quick else (2000, 512)
    x, t, labels = planted(n, c)
    ctx = FakeContext({"l": x}, labels=labels, classes=[str(i) for i in range(10)])
    fits = {"pattern": PatternCAV("l", positives=t), "svm": SVMCAV("l", positives=t, C=1e-3)}
    times = in_turns({name: lambda cav=cav: cav.fit(ctx) for name, cav in fits.items()}, chosen.repeats)
    result = {
        **ratio(times["pattern"], times["svm"]),
        "unit": f"one linear SVM, {n} samples x {c} units, with its refits",
    }
    emit("cav", {"toy": {**result, **large(chosen.images, 16 if chosen.quick else 2048)}}, goal=0.1)


def large(n: int, c: int) -> dict[str, Any]:
    """Seconds on a large table, the best of three."""
    x, t, labels = planted(n, c)
    with tempfile.TemporaryDirectory(prefix="workbench-cav-") as folder:
        store, recipe = Store.open(folder), Recipe("activations", model="net@00000000", data="data@00000000")
        store.get_or_make(recipe, lambda: {"values": torch.from_numpy(x)})
        ctx, seconds = Stored(store, recipe, labels), {}
        for name, cav in {
            "pattern": PatternCAV("l", positives=t, scope="all"),
            "within_class": PatternCAV("l", positives=t),
            "resamples": PatternCAV("l", positives=t, scope="all", resamples=200),
        }.items():
            walls = []
            for _ in range(3):
                started = time.perf_counter()
                cav.fit(ctx)
                walls.append(time.perf_counter() - started)
            seconds[f"seconds_{name}"] = round(min(walls), 3)
    return {**seconds, "table": f"{n} samples x {c} units"}


if __name__ == "__main__":
    main()
