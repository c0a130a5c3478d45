"""What the benchmarks share: models, images, the unit, and a clock that takes turns.

The unit is one plain forward and backward pass, gradients to the input only, of the model as its author wrote it, at
the batch size and in the memory format in which that is fastest here. Everything is measured in one process, in turns,
so that whatever else the machine does hits both sides; ratios are taken turn by turn, and their median is reported.
Time is the process's own (all its threads), which other programs disturb less; wall time stands beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from torch import Tensor, nn

from workbench.data.base import Dataset
from workbench.data.torch_data import TorchData
from workbench.models.handle import ModelHandle
from workbench.models.zoo import build
from workbench.testing.nets import randomised

torch.set_num_threads(1)

ROOT = Path(__file__).resolve().parents[2]
MODELS = {
    "resnet18": "torchvision:resnet18:random",  # weights do not matter for the time, and these are always there
    "efficientnet_lite0": "efficientnet_lite0",
    "toy": "toy-cnn",
}
FORMATS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


@dataclass
class Options:
    """What the command line says."""

    quick: bool
    repeats: int
    images: int
    models: list[str]


def options(doc: str | None, *, images: int, repeats: int = 5, models: tuple[str, ...] = ("resnet18",)) -> Options:
    """Read the command line of one benchmark."""
    parser = argparse.ArgumentParser(description=(doc or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few images through the toy network: does it run?")
    parser.add_argument("--images", type=int, default=images, help=f"images per turn (default {images})")
    parser.add_argument("--repeats", type=int, default=repeats, help=f"turns (default {repeats})")
    parser.add_argument("--models", nargs="+", default=list(models), choices=list(MODELS))
    args = parser.parse_args()
    if args.quick:
        return Options(True, 2, 12, ["toy"])
    return Options(False, args.repeats, args.images, args.models)


@dataclass
class Case:
    """A model as its author wrote it, our handle on it, and inputs."""

    name: str
    module: nn.Module
    handle: ModelHandle
    x: Tensor
    labels: np.ndarray
    source: str

    @property
    def data(self) -> Dataset:
        """The inputs as a data set, already in memory: decoding pictures is no part of any comparison."""
        pairs = [(x, int(label)) for x, label in zip(self.x, self.labels, strict=True)]
        return TorchData(_Ready(pairs), name=f"{self.name}-{len(pairs)}").using(self.handle.card.transform)


class _Ready(torch.utils.data.Dataset):
    def __init__(self, pairs: list[tuple[Tensor, int]]):
        self.pairs = pairs
        self.targets = [label for _, label in pairs]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.pairs[i]


def case(name: str, n: int) -> Case:
    """A model with `n` inputs."""
    module, card = build(MODELS[name])
    module = randomised(module) if name == "resnet18" else module.eval()
    module.requires_grad_(False)
    data, source = _images(card, "toy" if name == "toy" else "", n)
    x = torch.stack([data.tensor(i) for i in range(n)]) if data is not None else _noise(card, n)
    labels = data.labels[:n] if data is not None else np.zeros(n, np.int64)
    return Case(name, module, ModelHandle(module, card), x, np.maximum(labels, 0), source)


def _images(card: Any, spec: str, n: int) -> tuple[Dataset | None, str]:
    """The ImageNet sample where WORKBENCH_DATA has it, else the packaged photographs, else nothing."""
    from workbench.core.errors import WorkbenchError
    from workbench.data import load

    sample = Path(os.environ.get("WORKBENCH_DATA", "/nowhere")) / "imagenet-sample-800.zip"
    for where in (spec,) if spec else (str(sample), "photos"):
        try:
            data = load(where).using(card.transform)
        except WorkbenchError:
            continue
        if len(data) >= n:
            return data, data.name
    return None, "noise"


def _noise(card: Any, n: int) -> Tensor:
    return torch.randn((n, *card.input_shape), generator=torch.Generator().manual_seed(1))


# --- time -------------------------------------------------------------------------------------------------------------


@dataclass
class Times:
    """Seconds of one contender, turn by turn."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)


def in_turns(contenders: dict[str, Callable[[], Any]], repeats: int) -> dict[str, Times]:
    """Run all contenders `repeats` times, taking turns; the first turn warms up and does not count."""
    times = {name: Times() for name in contenders}
    for turn in range(-1, repeats):
        for name, run in contenders.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
            if turn >= 0:
                times[name].cpu.append(cpu)
                times[name].wall.append(wall)
        print(f"turn {turn + 1} of {repeats}", file=sys.stderr)
    return times


def ratio(ours: Times, baseline: Times, *, digits: int = 3) -> dict[str, Any]:
    """Median of the ratios of all turns, by process time; the range, and the median by wall time."""
    cpu = [a / b for a, b in zip(ours.cpu, baseline.cpu, strict=True)]
    wall = [a / b for a, b in zip(ours.wall, baseline.wall, strict=True)]
    return {
        "ratio": round(statistics.median(cpu), digits),
        "range": [round(min(cpu), digits), round(max(cpu), digits)],
        "ratio_wall": round(statistics.median(wall), digits),
    }


# --- the unit ---------------------------------------------------------------------------------------------------------


@dataclass
class Unit:
    """The plain pass in its fastest form."""

    run: Callable[[], Any]
    text: str
    batch: int


def unit(one: Case, *, backward: bool = True, batches: tuple[int, ...] = (8, 16, 32), limit: int = 32) -> Unit:
    """The fastest plain pass over the case's inputs, tried on the first `limit` of them.

    Parameters
    ----------
    backward : bool
        Forward and backward, with gradients to the input; else the bare forward pass.
    """
    found: dict[tuple[str, int], list[float]] = {}
    turns = [(name, batch) for name in FORMATS for batch in batches if batch <= max(batches[0], len(one.x))]
    for _ in range(3):
        for name, batch in turns:
            run = _plain(one.module, one.x[:limit], batch, FORMATS[name], backward)
            started = time.process_time()
            run()
            found.setdefault((name, batch), []).append(time.process_time() - started)
    name, batch = min(found, key=lambda key: min(found[key][1:]))
    what = "forward + backward to the input" if backward else "forward"
    text = f"plain {what}, {len(one.x)} images, batch {batch}, {name}"
    return Unit(_plain(one.module, one.x, batch, FORMATS[name], backward), text, batch)


def _plain(
    module: nn.Module, x: Tensor, batch: int, memory_format: torch.memory_format, backward: bool
) -> Callable[[], None]:
    def run() -> None:
        module.to(memory_format=memory_format)  # nothing to do from the second turn on, unless another case did
        for part in x.split(batch):
            part = part.contiguous(memory_format=memory_format)
            if not backward:
                with torch.no_grad():
                    module(part)
                continue
            part = part.detach().requires_grad_()
            output = module(part)
            seed = torch.zeros_like(output)
            seed[torch.arange(len(part)), output.argmax(1)] = 1
            torch.autograd.grad(output, part, seed)

    return run


# --- what comes out ---------------------------------------------------------------------------------------------------


def emit(name: str, results: dict[str, dict[str, Any]], **facts: Any) -> None:
    """Print one JSON line: the first model's numbers at the top, others under their names."""
    first, *others = results
    line = {"name": name, **results[first], "model": first, **{k: results[k] for k in others}, **facts}
    line["threads"] = torch.get_num_threads()
    line["torch"] = torch.__version__
    print(json.dumps(line, default=str))


def largest_difference(a: Tensor, b: Tensor) -> float:
    """Largest absolute difference, relative to the largest absolute value of `b`."""
    return float((a - b).abs().max() / b.abs().max())
