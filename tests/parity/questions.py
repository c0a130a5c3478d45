"""What both packages are asked: networks, inputs, and questions. Read by the tests and by the second environment."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
import torchvision
from torch import Tensor, nn

from workbench.testing.nets import randomised

__all__ = [
    "AS_PUBLISHED", "CONDITIONED", "FALLING", "LAST", "QUESTIONS", "RISING", "SHAPE", "TWICE", "Question", "inputs",
    "network",
]  # fmt: skip

SHAPE = (3, 48, 64)
N = 3
_RULES = ("EpsilonPlus", "EpsilonPlusFlat", "EpsilonAlpha2Beta1", "EpsilonAlpha2Beta1Flat")


@dataclass(frozen=True)
class Question:
    """One question for each of the inputs.

    Attributes
    ----------
    model : {"resnet18", "vgg11_bn"}
    rule : str
    logit : int
    given : tuple of (layer, components)
        Conditions, from the output to the input, which is the order in which the other package takes them.
    record : tuple of layer names
    keeps_bias : bool
        Biases in the denominators: the other package's default, and not ours.
    eps : float
        Of the batch norms; see `network`.
    """

    model: str
    rule: str = "EpsilonPlusFlat"
    logit: int = 4
    given: tuple[tuple[str, tuple[int, ...]], ...] = ()
    record: tuple[str, ...] = ()
    keeps_bias: bool = False
    eps: float = 0.0

    def __str__(self) -> str:
        how = ["keeps_bias"] * self.keeps_bias + [f"eps{self.eps:g}"] * (self.eps > 0)
        return "-".join([self.model, self.rule, f"logit{self.logit}", *(name for name, _ in self.given), *how])


@cache
def network(name: str, eps: float) -> nn.Module:
    """Random weights, batch norms that do something, 11 outputs, double precision.

    zennit leaves the `eps` of a batch norm in place after it has merged the rest, so that its model is another one:
    unless `eps` is zero. torchvision's is 1e-5.
    """
    module = randomised(getattr(torchvision.models, name)(weights=None, num_classes=11), seed=5).double()
    for child in module.modules():
        if isinstance(child, nn.BatchNorm2d):
            child.eps = eps
    return module


def inputs() -> Tensor:
    """(sample, channel, y, x)"""
    return torch.randn(N, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(6))


LAST = {"resnet18": "fc", "vgg11_bn": "classifier.6"}
"""The layer whose output is the model's."""

# Before, in and behind a branch, beside one, on a whole block, dense layers, and chains of them.
_GIVEN = {
    "resnet18": (
        (("conv1", (3,)),),
        (("layer1.0", (7, 11)),),
        (("layer1.1.conv1", (0, 5, 63)),),
        (("layer2.0.conv2", (17,)),),
        (("layer2.0.downsample.0", (17,)),),
        (("layer3", (100,)),),
        (("layer4.1.conv2", (1, 2)),),
        (("layer4", (1, 2)), ("layer3.1.conv2", (8,)), ("layer1.0.conv1", (3, 4))),
    ),
    "vgg11_bn": (
        (("features.0", (3,)),),
        (("features.8", (0, 200)),),
        (("features.25", (17,)),),
        (("classifier.0", tuple(range(40))),),
        (("classifier.3", (5, 6)), ("features.22", (2, 3)), ("features.4", (100, 101))),
    ),
}
_RECORD = {
    "resnet18": ("conv1", "layer1.0", "layer2.0.conv1", "layer3.1.conv2", "layer4", "fc"),
    "vgg11_bn": ("features.0", "features.8", "features.25", "classifier.0", "classifier.6"),
}

# Both packages define these alike.
QUESTIONS = tuple(
    [Question(model, rule, record=_RECORD[model]) for model in _GIVEN for rule in _RULES]
    + [Question(model, record=_RECORD[model], keeps_bias=True) for model in _GIVEN]
    + [Question(model, given=given) for model, several in _GIVEN.items() for given in several]
    + [Question(model, "EpsilonAlpha2Beta1", 9, several[-1]) for model, several in _GIVEN.items()]
)

# These they do not: see the tests for how they differ.
AS_PUBLISHED = tuple(Question(model, record=(last,), eps=1e-5) for model, last in LAST.items())
CONDITIONED = Question("resnet18", given=(("layer3", (100, 3)),), record=("layer4", "layer1.0"))
RISING = Question("resnet18", given=(("layer1.0", (7,)), ("layer3", (100, 3))))
FALLING = Question("resnet18", given=(("layer3", (100, 3)), ("layer1.0", (7,))))
TWICE = Question("resnet18", given=(("layer1.0.relu", (7,)),))
