"""The part world and its networks: pictures a second, and per architecture accuracy, shortcut and training time."""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from typing import Any

import torch

from workbench.data.part_world import PartWorld
from workbench.models.bird_training import ARCHITECTURES, bird_exam, bird_net, bird_weights_path, bird_world

CHOSEN = ("vgg", "resnet", "efficientnet", "vit")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few pictures and one pass: does it run?")
    parser.add_argument("--images", type=int, default=2000, help="pictures to paint per size (default 2000)")
    parser.add_argument("--models", nargs="+", default=list(CHOSEN), choices=list(ARCHITECTURES))
    parser.add_argument(
        "--kept",
        action="store_true",
        help="take trained networks from the store; training times then stand for reading",
    )
    args = parser.parse_args()
    if args.quick:
        args.images, args.models = 20, ["efficientnet"]
    for size in (64, 128):
        say(part="painting", size=size, **paint(size, args.images), goal_per_s=167 if size == 64 else None)
    with tempfile.TemporaryDirectory() as fresh:
        if not args.kept:
            os.environ["WORKBENCH_STORE"] = fresh
        for name in args.models:
            say(part="network", model=name, **train(name, quick=args.quick))


def say(**facts: Any) -> None:
    """Print one JSON line."""
    print(
        json.dumps({"name": "birds", **facts, "threads": torch.get_num_threads(), "torch": torch.__version__}),
        flush=True,
    )


def paint(size: int, n: int) -> dict[str, float]:
    """Pictures a second on one core, clean and with three artifacts in each."""
    worlds = {"clean": PartWorld(n, size=size, artifacts=None)}
    worlds["with_3_artifacts"] = worlds["clean"].varied(artifacts={"timestamp": 1, "band_aid": 1, "colour_cast": 1})
    found = {}
    for name, world in worlds.items():
        world.pictures(range(min(20, n)))
        wall, own = time.perf_counter(), time.process_time()
        world.pictures()
        found[f"{name}_per_s"] = round(n / (time.process_time() - own), 1)
        found[f"{name}_per_s_wall"] = round(n / (time.perf_counter() - wall), 1)
    return found


def train(name: str, *, quick: bool) -> dict[str, Any]:
    """Train one network anew and judge it on scenes that it has not seen."""
    world, epochs = (PartWorld(64), 1) if quick else (bird_world(), None)
    torch.set_num_threads(1)
    is_new = not bird_weights_path(name, world, epochs=epochs).exists()
    wall, own = time.perf_counter(), time.process_time()
    model = bird_net(name, world, epochs=epochs)
    wall, own = time.perf_counter() - wall, time.process_time() - own
    marks = bird_exam(model, world, n=40 if quick else 2000, split="test")
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "clean": round(marks["clean"], 4),
        "attacked": {artifact: round(mark, 4) for artifact, mark in marks["attacked"].items()},
        "taken": {artifact: round(mark, 4) for artifact, mark in marks["taken"].items()},
        "trained_now": is_new,
        "seconds": round(own, 1),
        "seconds_wall": round(wall, 1),
    }


if __name__ == "__main__":
    main()
