"""A latent space with a class, an artifact and noise in it, whose true directions are known, and a linear head on it.

64 numbers ``1 + 0.7 N(0, I) + 0.8 (2 y - 1) u + 3 h artifact`` with unit vectors u and h of a given cosine; the
artifact is in 80 % of class 1 and in 2 % of class 0.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from workbench.data.torch_data import TorchData

__all__ = ["Latent", "LatentNet", "artifact_direction", "latent_net"]

WIDTH = 64


def artifact_direction(cosine: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors u of the class and h of the artifact with that cosine, (64,) each."""
    a, b = np.eye(WIDTH)[0], np.eye(WIDTH)[1]
    return a, cosine * a + np.sqrt(1 - cosine**2) * b


class Latent(TorchData):
    """Points of the latent space as ready inputs (64, 1, 1).

    Parameters
    ----------
    n : int
    cosine : float
        Of the directions of class and artifact.
    artifact : str
        ``"planted"`` as in training, ``"none"`` or ``"all"``.
    seed : int
        The same points come with and without their artifact.

    Attributes
    ----------
    has_artifact : (sample,) bool array
    """

    def __init__(self, n: int, *, cosine: float = 0.5, artifact: str = "planted", seed: int = 0):
        rng = np.random.default_rng([seed, 7])
        u, h = artifact_direction(cosine)
        y = np.arange(n) % 2
        chance = rng.random(n)
        planted = np.where(y == 1, chance < 0.8, chance < 0.02)
        self.has_artifact = {"planted": planted, "none": np.zeros(n, bool), "all": np.ones(n, bool)}[artifact]
        z = (
            1
            + 0.7 * rng.standard_normal((n, WIDTH))
            + 0.8 * np.outer(2 * y - 1, u)
            + 3 * np.outer(self.has_artifact, h)
        )
        self.values = torch.from_numpy(z).float()
        super().__init__(_Points(self.values, y), classes=("zero", "one"), name=f"latent-{artifact}-{cosine}")

    def batch(self, ids: Iterable[int]) -> tuple[Tensor, list[int], list[Any]]:
        """All at once: they are in memory."""
        read = [int(i) for i in ids]
        return self.values[read][:, :, None, None], read, []


class _Points:
    def __init__(self, values: Tensor, labels: np.ndarray):
        self.data, self.targets = values[:, :, None, None], labels.tolist()

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.data[i], self.targets[i]


class LatentNet(nn.Module):
    """A convolution that changes nothing (``latent``), a mean over positions, and a dense ``head`` of two classes."""

    def __init__(self, width: int = WIDTH, n_classes: int = 2):
        super().__init__()
        self.latent = nn.Conv2d(width, width, 1, bias=False)
        self.pool, self.flatten = nn.AdaptiveAvgPool2d(1), nn.Flatten()
        self.head = nn.Linear(width, n_classes)
        with torch.no_grad():
            self.latent.weight.copy_(torch.eye(width)[:, :, None, None])

    def forward(self, x: Tensor) -> Tensor:
        """Give logits (sample, class_)."""
        return self.head(self.flatten(self.pool(self.latent(x))))


def latent_net(data: Latent, *, steps: int = 800, rate: float = 0.1, decay: float = 1e-3) -> LatentNet:
    """A net whose head learned the classes of the data by gradient descent, artifact and all."""
    net = LatentNet()
    x, y = data.values, torch.as_tensor(np.asarray(data.labels))
    head, loss = net.head, nn.CrossEntropyLoss()
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    optimiser = torch.optim.SGD(head.parameters(), rate, weight_decay=decay)
    step: Callable[[], Any] = optimiser.step
    with torch.enable_grad():
        for _ in range(steps):
            optimiser.zero_grad()
            loss(head(x), y).backward()
            step()
    return net.eval()
