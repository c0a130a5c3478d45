"""Small networks of the usual kinds, with random weights and random batch norms: what tests of the engine run on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from workbench.models.card import Card
from workbench.models.handle import ModelHandle

__all__ = ["BiasFree", "Residual", "Twice", "handle_of", "randomised", "small_vgg"]


def handle_of(
    module: nn.Module, shape: Sequence[int], *, name: str = "net", classes: Sequence[str] = ()
) -> ModelHandle:
    """A handle on a module whose input for one sample has this shape."""
    return ModelHandle(module, Card(name, classes=tuple(classes), input_shape=tuple(shape)))


def randomised(module: nn.Module, *, seed: int = 0) -> nn.Module:
    """The module in eval mode, with weights, biases and batch norms that hide no mistake: none is zero or one."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for child in module.modules():
            if isinstance(child, _BatchNorm):
                child.running_mean.normal_(0, 0.1, generator=generator)
                child.running_var.uniform_(0.5, 1.5, generator=generator)
                child.weight.uniform_(0.5, 1.5, generator=generator)
                child.bias.normal_(0, 0.1, generator=generator)
            elif isinstance(getattr(child, "weight", None), nn.Parameter):
                child.weight.normal_(0, (2 / child.weight[0].numel()) ** 0.5, generator=generator)
                if getattr(child, "bias", None) is not None:
                    child.bias.normal_(0, 0.1, generator=generator)
    return module.eval()


def small_vgg(*, batch_norm: bool = True) -> nn.Sequential:
    """Convolutions, batch norms, both kinds of pooling, two dense layers; for pictures of (3, 17, 13)."""
    return nn.Sequential(
        nn.Conv2d(3, 5, 3, padding=1),
        nn.BatchNorm2d(5) if batch_norm else nn.Identity(),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(5, 7, 3, padding=1, bias=False),
        nn.BatchNorm2d(7) if batch_norm else nn.Identity(),
        nn.ReLU(),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(7 * 4 * 3, 11),
        nn.ReLU(),
        nn.Linear(11, 6),
    )


class BiasFree(nn.Module):
    """Without a bias anywhere, so that relevance is conserved: ``features`` and ``head``, for pictures of (3, y, x)."""

    def __init__(self, n_classes: int = 6):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 9, 3, padding=1, bias=False),
            nn.ReLU(),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(9, n_classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Give logits (sample, class_)."""
        return self.head(self.pool(self.features(x)).flatten(1))


class Residual(nn.Module):
    """Two residual blocks that add in the given way: ``a + b``, ``a += b``, ``a.add_(b)`` or ``torch.add(...)``.

    The first block shortens nothing, the second has a projection beside it. ``stem``, ``a1``, ``a2``, ``relu_a``,
    ``b1``, ``b2``, ``side``, ``relu_b``, ``head``.
    """

    def __init__(self, how: str = "a + b", *, bias: bool = True, n_classes: int = 6):
        super().__init__()
        self.how = how
        self.stem, self.stem_bn = nn.Conv2d(3, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.a1, self.a1_bn = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.a2, self.a2_bn = nn.Conv2d(6, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.b1, self.b1_bn = nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(8)
        self.b2, self.b2_bn = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.side, self.side_bn = nn.Conv2d(6, 8, 1, stride=2, bias=False), nn.BatchNorm2d(8)
        self.relu_stem, self.relu_1, self.relu_a = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.relu_2, self.relu_b = nn.ReLU(), nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(8, n_classes, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Give logits (sample, class_)."""
        x = self.relu_stem(self.stem_bn(self.stem(x)))
        y = self.a2_bn(self.a2(self.relu_1(self.a1_bn(self.a1(x)))))
        x = self.relu_a(self._add(y, x))
        y = self.b2_bn(self.b2(self.relu_2(self.b1_bn(self.b1(x)))))
        x = self.relu_b(self._add(y, self.side_bn(self.side(x))))
        return self.head(self.pool(x).flatten(1))

    def _add(self, a: Tensor, b: Tensor) -> Tensor:
        if self.how == "a += b":
            a += b
            return a
        if self.how == "a.add_(b)":
            return a.add_(b)
        if self.how == "torch.add(a, b, alpha=2)":
            return torch.add(a, b, alpha=2)
        if self.how == "torch.add(input=a, other=b)":
            return torch.add(input=a, other=b)
        return a + b


class Twice(nn.Module):
    """One convolution that runs twice; with `apart`, two convolutions with the same weights."""

    def __init__(self, *, apart: bool = False):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.again = nn.Conv2d(4, 4, 3, padding=1)
        self.other = nn.Conv2d(4, 4, 3, padding=1) if apart else None
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Give logits (sample, class_)."""
        x = F.relu(self.again(F.relu(self.first(x))))
        x = F.relu((self.again if self.other is None else self.other)(x))
        return self.head(x.mean((2, 3)))
