"""On the accelerator, if there is one: an LRP pass and a whole sweep against the bare pass; equality with the CPU.

Process time says little about a device that works on its own, so this benchmark takes wall time, waits for the device
at both ends, and hands the inputs of the bare pass over as the sweep does. Pictures are noise: only time counts. The
bare pass computes in float32 as we do; how fast it is with torch's default for convolutions, TF32, stands beside it.
"""

from __future__ import annotations

import copy
import os
import time
from collections.abc import Callable
from typing import Any

import torch

from tests.benchmarks.common import MODELS, Case, Times, emit, largest_difference, options, ratio
from tests.benchmarks.sweep_index import Swept, sweeping
from workbench.attribution.crp import explain
from workbench.models.device import choose_device, exactly
from workbench.models.handle import ModelHandle
from workbench.models.zoo import build
from workbench.testing.nets import randomised


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__, images=1024, models=("resnet18", "efficientnet_lite0"))
    device = choose_device("auto")
    if device.type != "cpu":  # what feeds the device may use all cores
        torch.set_num_threads(os.cpu_count() or 1)
    results = {name: measure(name, chosen.images, chosen.repeats, device) for name in chosen.models}
    emit("accelerator", results, device=name_of(device))


def measure(name: str, n: int, repeats: int, device: torch.device) -> dict[str, Any]:
    """Ratios of one model."""
    module, card = build(MODELS[name])
    module = randomised(module) if name == "resnet18" else module.eval()
    x = torch.randn((n, *card.input_shape), generator=torch.Generator().manual_seed(1))
    labels = torch.arange(n).numpy() % 10
    one = Case(name, module.requires_grad_(False), ModelHandle(module, card).to(device), x, labels, "noise")
    few = x[:4]
    there = explain(one.handle, few).relevance.cpu()
    here = explain(ModelHandle(copy.deepcopy(module).cpu(), card), few).relevance
    bare = copy.deepcopy(module).to(device)
    batch, memory_format = fastest(bare, x, device)
    bare.to(memory_format=memory_format)
    swept: list[Swept] = []

    def passes() -> None:
        for part in x.split(batch):
            forward_backward(bare, part, device, memory_format)

    def exact_passes() -> None:
        with exactly(device):
            passes()

    contenders: dict[str, Callable[[], Any]] = {
        "bare": exact_passes,
        "tf32": passes,
        "lrp": lambda: [explain(one.handle, part) for part in x.split(batch)],
        "sweep": sweeping(one, swept, relevance=True),
    }
    times = waiting(contenders, repeats, device)
    swept[-1].drop()
    result = {
        "ratio": ratio(times["lrp"], times["bare"])["ratio"],
        "sweep": ratio(times["sweep"], times["bare"])["ratio"],
        "unit": f"forward + backward to the input, {n} images, batch {batch}, wall time",
        "bare_images_per_second": round(n / min(times["bare"].wall)),
        "bare_tf32_images_per_second": round(n / min(times["tf32"].wall)),
        "sweep_images_per_second": round(n / min(times["sweep"].wall)),
        "largest_difference_to_cpu": largest_difference(there, here),
    }
    if device.type == "cuda":
        result["peak_gb"] = round(torch.cuda.max_memory_allocated(device) / 1e9, 2)
    return result


def fastest(module: torch.nn.Module, x: torch.Tensor, device: torch.device) -> tuple[int, torch.memory_format]:
    """Batch and memory format in which the bare pass is fastest."""
    found = {}
    for memory_format in (torch.contiguous_format, torch.channels_last):
        module.to(memory_format=memory_format)
        for batch in (32, 128, 256):
            parts = x[: 2 * batch].split(batch)
            if len(parts[0]) < batch and found:
                continue

            def run(parts: Any = parts, memory_format: Any = memory_format) -> None:
                for part in parts:
                    forward_backward(module, part, device, memory_format)

            found[batch, memory_format] = min(waiting({"": run}, 2, device)[""].wall) / sum(map(len, parts))
    return min(found, key=found.__getitem__)


def forward_backward(
    module: torch.nn.Module, part: torch.Tensor, device: torch.device, memory_format: torch.memory_format
) -> torch.Tensor:
    """The bare pass over one batch that lies on the CPU."""
    part = part.to(device).contiguous(memory_format=memory_format).requires_grad_()
    output = module(part)
    seed = torch.zeros_like(output)
    seed[torch.arange(len(part), device=device), output.argmax(1)] = 1
    return torch.autograd.grad(output, part, seed)[0]


def waiting(contenders: dict[str, Callable[[], Any]], repeats: int, device: torch.device) -> dict[str, Times]:
    """Run all in turns by wall time, the first turn for warming up, and wait for the device at both ends."""
    times = {name: Times() for name in contenders}
    for turn in range(-1, repeats):
        for name, run in contenders.items():
            wait(device)
            started = time.perf_counter()
            run()
            wait(device)
            if turn >= 0:
                seconds = time.perf_counter() - started
                times[name].wall.append(seconds)
                times[name].cpu.append(seconds)
    return times


def wait(device: torch.device) -> None:
    """Until the device has done all it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def name_of(device: torch.device) -> str:
    """What people call it."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


if __name__ == "__main__":
    main()
