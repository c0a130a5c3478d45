"""A whole sweep over all convolutions and dense layers, activations only, against the bare forward pass."""

from __future__ import annotations

from tests.benchmarks.common import case, emit, options, unit
from tests.benchmarks.sweep_index import measure


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__, images=128, repeats=7, models=("resnet18", "efficientnet_lite0"))
    results = {}
    for name in chosen.models:
        one = case(name, chosen.images)
        results[name] = measure(one, unit(one, backward=False), chosen.repeats, relevance=False)
    emit("sweep_activations", results, goal=1.10, goal_efficientnet_lite0=1.5)


if __name__ == "__main__":
    main()
