"""Builds the reference package's index; `peer_index` runs this in the second environment, which `make peers` makes.

Prints one JSON line: process time and wall time of the index alone, and of plain passes in the same process.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import sys
import time
import warnings
from typing import Any

import torch
from torch import Tensor

from tests.benchmarks.common import Case, case


def main() -> None:
    """Read the command line, build the index and say how long it took."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("images", type=int)
    parser.add_argument("folder", help="where the index goes")
    parser.add_argument("--batch", type=int, default=16)
    args = parser.parse_args()
    one = case(args.model, args.images)
    # Outside of the clock: the first pass of a process allocates and compiles.
    build(Case(one.name, one.module, one.handle, one.x[:2], one.labels[:2], one.source), f"{args.folder}-warm", 2)
    wall, cpu = time.perf_counter(), time.process_time()
    build(one, args.folder, args.batch)
    print(json.dumps({"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}))


def build(one: Case, folder: str, batch: int) -> None:
    """The index of all convolutions and dense layers, by the package's defaults."""
    from crp.attribution import CondAttribution
    from crp.concepts import ChannelConcept
    from crp.visualization import FeatureVisualization
    from zennit.composites import EpsilonPlusFlat
    from zennit.torchvision import ResNetCanonizer

    # The package knows no canonizer for timm's blocks, so it gets the module with its batch norm folded.
    is_resnet = one.name == "resnet18"
    module = one.module if is_resnet else one.handle.module
    composite = EpsilonPlusFlat(canonizers=[ResNetCanonizer()] if is_resnet else [])
    layers = {name: ChannelConcept() for name in one.handle.layers.linear()}
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        index = FeatureVisualization(CondAttribution(module), _Pairs(one), layers, path=folder)
        index.run(composite, 0, len(one.x), batch)


class _Pairs(torch.utils.data.Dataset[Any]):
    def __init__(self, one: Case):
        self.one = one

    def __len__(self) -> int:
        return len(self.one.x)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.one.x[i].clone(), int(self.one.labels[i])


if __name__ == "__main__":
    sys.exit(main())
