"""32 conditional heatmaps of one image, from a cold and from a warm image, against a plain pass of a batch of 32."""

from __future__ import annotations

from typing import Any

import torch

from tests.benchmarks.common import Case, case, emit, in_turns, largest_difference, options, ratio, unit
from workbench.attribution.base import Target
from workbench.attribution.crp import begin, concept_maps, explain, heat
from workbench.attribution.lrp import ruled_forward
from workbench.attribution.rules import composite

LAYERS = {"resnet18": "layer3.0.conv1", "efficientnet_lite0": "blocks.4.0.conv_pw", "toy": "features.8"}
N_MAPS = 32


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__, images=N_MAPS, repeats=9, models=("resnet18", "efficientnet_lite0"))
    results = {name: measure(case(name, chosen.images), chosen.repeats) for name in chosen.models}
    emit("concept_maps", results, goal=0.45, goal_warm=0.35)


def measure(one: Case, repeats: int) -> dict[str, Any]:
    """Cold and warm ratios of one model, and the largest difference to one explanation per component."""
    plain = unit(one)
    layer, x = LAYERS[one.name], one.x[:1]
    components = [f"{layer}/{i}" for i in strongest(one, layer)]
    kept: dict[str, Any] = {}

    def cold() -> None:
        kept["maps"] = concept_maps(one.handle, x, components)[0]

    with ruled_forward(one.handle, one.handle.put(x), rule=composite(), layers=[layer]) as graph:
        # Warm: the forward pass and the relevance down to the layer are there, as for the second page of maps.
        source, start = begin(one.handle, graph, Target.top())
        here = graph.pull(source, start.seed, [layer])[0]
        basis = one.handle.layers.basis(layer)
        seeds = torch.stack([basis.keep(here, [int(c.rsplit("/", 1)[1])]) for c in components])

        def warm() -> None:
            graph.pull(graph.tensor(layer), seeds, [None])

        times = in_turns({"unit": plain.run, "cold": cold, "warm": warm}, repeats)
    single = torch.cat([heat(explain(one.handle, x, given=[c]).relevance) for c in components[:4]])
    return {
        **ratio(times["cold"], times["unit"]),
        "warm": ratio(times["warm"], times["unit"]),
        "unit": plain.text,
        "layer": layer,
        "maps": len(components),
        "largest_difference_to_single_maps": largest_difference(kept["maps"][:4], single),
        "images": one.source,
    }


def strongest(one: Case, layer: str) -> list[int]:
    """The components that carry most relevance."""
    found = explain(one.handle, one.x[:1], record=[layer])
    total = one.handle.layers[layer].components_first(found.layers[layer]).sum(2)[0].abs()
    return total.topk(min(N_MAPS, len(total))).indices.tolist()


if __name__ == "__main__":
    main()
