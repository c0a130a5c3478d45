"""A small network of random weights with small noisy pictures: sessions on them open in milliseconds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from workbench.data.torch_data import TorchData
from workbench.data.transforms import Transform

__all__ = ["CLASSES", "SMALL", "Counter", "Listed", "Nap", "Small", "drowsy_net", "small_data", "small_net"]

CLASSES = ("ant", "bee", "<b>cow</b>", "dog")
SMALL = Transform(size=12, resize_short=12, mean=(0.5,), std=(0.25,), interpolation="bilinear")


class Small(nn.Module):
    """Two convolutions and a head, for pictures of (3, 12, 12): ``relu_a``, ``relu_b``, ``head``."""

    def __init__(self, n_classes: int = 4, wrap: Callable[[Tensor], Any] | None = None):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 5, 3, padding=1), nn.Conv2d(5, 7, 3, padding=1)
        self.relu_a, self.relu_b, self.pool = nn.ReLU(), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
        self.head, self.wrap = nn.Linear(7, n_classes), wrap

    def forward(self, x: Tensor) -> Any:
        """Give logits (sample, class_), or what `wrap` makes of them."""
        x = self.relu_b(self.b(self.relu_a(self.a(x))))
        y = self.head(self.pool(x).flatten(1))
        return y if self.wrap is None else self.wrap(y)


def small_net(**options: Any) -> Small:
    """Give the same network at each call; options are those of `Small`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        return Small(**options).eval()


class _Slept(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        time.sleep(Nap.seconds)
        return x.clone()

    @staticmethod
    def backward(ctx: Any, seed: Tensor) -> Tensor:
        time.sleep(Nap.seconds)
        return seed


class Nap(nn.Module):
    """Hands on what it gets, after ``Nap.seconds``, forward and backward: a module of a large network."""

    seconds = 0.0

    def forward(self, x: Tensor) -> Tensor:
        """Give the same numbers."""
        return _Slept.apply(x)


def drowsy_net(n: int = 40) -> nn.Module:
    """Give the small network with `n` naps before it, which take no time until ``Nap.seconds`` is set."""
    return nn.Sequential(nn.Sequential(*[Nap() for _ in range(n)]), small_net()).eval()


class Listed:
    """Pictures and labels as torch data sets give them: noise, with a bright block at another place in each."""

    def __init__(self, n: int = 24, size: int = 12):
        rng = np.random.default_rng(0)
        self.pictures, self.targets = rng.integers(0, 160, (n, size, size, 3), dtype=np.uint8), list(np.arange(n) % 4)
        for i in range(n):
            y, x = rng.integers(0, size - 4, 2)
            self.pictures[i, y : y + 4, x : x + 4, i % 3] = 255

    def __len__(self) -> int:
        return len(self.pictures)

    def __getitem__(self, i: int) -> tuple[Image.Image, int]:
        return Image.fromarray(self.pictures[i]), int(self.targets[i])


def small_data(n: int = 24, **options: Any) -> TorchData:
    """Give the pictures as a data set."""
    return TorchData(Listed(n), classes=CLASSES, name="small", **options)


class Counter:
    """Counts forward passes of a handle's model, and the samples in them."""

    def __init__(self, module: nn.Module):
        self.calls = self.samples = 0
        self.handle = module.register_forward_pre_hook(self)

    def __call__(self, module: nn.Module, args: tuple[Tensor, ...]) -> None:
        self.calls += 1
        self.samples += len(args[0])
