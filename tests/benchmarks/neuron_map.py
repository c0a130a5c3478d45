"""The layout of 10,000 components, neighbours and coordinates, against umap-learn alone on the same table.

`ratio` is our process time divided by that of umap-learn with its defaults; beside it stand the same with umap-learn
told to use our distance, and with the cosine of rows made ready for it, its quickest way to the same neighbours. The
first, compiling runs are not counted. The layout of 2,000 components is timed by itself, in seconds.
"""

from __future__ import annotations

import json
import sys
import time
import warnings
from typing import Any

import numpy as np
import torch

from tests.benchmarks.common import in_turns, options, ratio
from workbench.methods.layout import pca_layout, umap_layout
from workbench.methods.neighbours import Neighbours, Prepared, exact_neighbours, prepared, trustworthiness
from workbench.methods.representation.embedding_map import EmbeddingMap
from workbench.testing.context import FakeContext

SAMPLES = 512
KEPT = 30  # as the method keeps them for the screen; the layout uses the first of them
USED = 15


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__, images=SAMPLES, repeats=2)
    small, large = (150, 300) if chosen.quick else (2_000, 10_000)
    warnings.simplefilter("ignore")  # umap-learn warns of what is meant
    compile_all(chosen.quick)
    line = {"name": "neuron_map", **against(table(large), chosen.repeats), **alone(table(small))}
    line |= {"goal": 0.25, "goal_seconds": 5, "goal_trustworthiness": -0.01}
    print(json.dumps({**line, "threads": torch.get_num_threads(), "torch": torch.__version__}))


def table(n: int) -> np.ndarray:
    """(component, sample) activations above zero: forty families that share eight causes, and noise."""
    rng = np.random.default_rng(0)
    causes = 1.5 * rng.normal(size=(40, 8))[rng.integers(0, 40, n)] + 0.5 * rng.normal(size=(n, 8))
    return np.maximum(causes @ rng.normal(size=(8, SAMPLES)) + 0.7 * rng.normal(size=(n, SAMPLES)), 0).astype("f4")


def against(x: np.ndarray, repeats: int) -> dict[str, Any]:
    """Times of ours and of umap-learn, in turns, and what the planes are worth."""
    import umap

    rows = prepared(x)
    planes: dict[str, np.ndarray] = {}

    def keep(name: str, make: Any) -> Any:
        def run() -> None:
            planes[name] = make()

        return run

    unit = rows.rows.numpy()
    times = in_turns(
        {
            "ours": keep("ours", lambda: ours(x)),
            "umap": keep("umap", lambda: umap.UMAP().fit_transform(x)),
            "correlation": keep("correlation", lambda: umap.UMAP(metric="correlation").fit_transform(x)),
            "cosine": keep("cosine", lambda: umap.UMAP(metric="cosine").fit_transform(unit)),
        },
        repeats,
    )
    worth = {name: trustworthiness(rows, plane, k=USED, most=len(x)) for name, plane in planes.items()}
    others = [worth[name] for name in ("umap", "correlation", "cosine")]
    return {
        **ratio(times["ours"], times["umap"]),
        "ratio_same_distance": ratio(times["ours"], times["correlation"])["ratio"],
        "ratio_quickest": ratio(times["ours"], times["cosine"])["ratio"],
        "unit": f"process time of umap-learn's defaults on {len(x)} x {SAMPLES}",
        "seconds_ours": round(float(np.median(times["ours"].cpu)), 2),
        "trustworthiness": {name: round(value, 4) for name, value in worth.items()},
        "trustworthiness_difference": round(worth["ours"] - max(others), 4),
        "neighbours_kept": {name: round(kept(rows, plane), 3) for name, plane in planes.items()},
    }


def alone(x: np.ndarray) -> dict[str, Any]:
    """Wall seconds of ours on a smaller table: the layout, and all that the method does."""
    started = time.perf_counter()
    ours(x)
    layout = time.perf_counter() - started
    ctx = FakeContext({"layer": x.T})
    started = time.perf_counter()
    EmbeddingMap("layer", relevance=False).preview(ctx)
    preview = time.perf_counter() - started
    started = time.perf_counter()
    EmbeddingMap("layer", relevance=False).fit(ctx)
    whole = time.perf_counter() - started
    rounded = (round(value, 3) for value in (layout, whole, preview))
    return dict(zip(("seconds_small", "seconds_small_method", "seconds_small_preview"), rounded, strict=True))


def ours(x: np.ndarray) -> np.ndarray:
    """From the table to coordinates, with the neighbours that are kept for the screen."""
    rows = prepared(x)
    near = exact_neighbours(rows, KEPT)
    return umap_layout(pca_layout(rows.rows), Neighbours(near.ids[:, :USED], near.distance[:, :USED]), seed=0)


def kept(rows: Prepared, plane: np.ndarray) -> float:
    """Share of the nearest in the full space that are among the nearest on the plane."""
    full = exact_neighbours(rows, USED).ids
    flat = exact_neighbours(plane, USED, distance="euclidean").ids
    return float((full[:, :, None] == flat[:, None]).any(2).mean())


def compile_all(quick: bool) -> None:
    """Let numba compile what any contender uses, also umap-learn's search for neighbours, which it uses above 4,096."""
    import umap

    print("compiling", file=sys.stderr)
    few, many = table(300), table(4_200)[:, :32]
    ours(few)
    for metric in ("euclidean", "correlation", "cosine"):
        umap.UMAP(metric=metric).fit_transform(few)
        if not quick:
            umap.UMAP(metric=metric, n_epochs=2).fit_transform(many)


if __name__ == "__main__":
    main()
