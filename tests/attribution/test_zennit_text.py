"""zennit composites are told apart by their numbers, and stay the same from use to use."""

from __future__ import annotations

import functools
import itertools
import subprocess
import sys

import torch
import zennit.composites as zc
from torch import nn
from zennit.rules import Epsilon, Gamma
from zennit.torchvision import ResNetCanonizer, VGGCanonizer

from workbench.attribution.zennit_text import zennit_digest


def test_every_number_counts():
    made = [
        zc.EpsilonPlusFlat(),
        zc.EpsilonPlus(),
        zc.EpsilonPlusFlat(zero_params="bias"),
        zc.EpsilonPlusFlat(epsilon=1e-4),
        zc.EpsilonPlusFlat(canonizers=[ResNetCanonizer()]),
        zc.EpsilonPlusFlat(canonizers=[VGGCanonizer()]),
        zc.EpsilonGammaBox(low=-1.0, high=1.0),
        zc.EpsilonGammaBox(low=-1.0, high=2.0),
        zc.EpsilonGammaBox(low=-1.0, high=1.0, gamma=0.5),
        zc.EpsilonGammaBox(low=torch.tensor(-1.0), high=1.0),
        zc.EpsilonGammaBox(low=torch.tensor(-1.5), high=1.0),
        zc.EpsilonPlus(layer_map=[(nn.Linear, Gamma(0.1))]),
        zc.EpsilonPlus(layer_map=[(nn.Linear, Gamma(0.2))]),
        zc.EpsilonPlus(layer_map=[(nn.Conv2d, Gamma(0.2))]),
        zc.NameMapComposite([(["a"], Epsilon())]),
        zc.NameMapComposite([(["b"], Epsilon())]),
        zc.LayerMapComposite([(nn.Linear, functools.partial(Gamma, 0.3)())]),
    ]
    digests = [zennit_digest(one) for one in made]
    assert all(a != b for a, b in itertools.combinations(digests, 2))
    assert digests[0].startswith("EpsilonPlusFlat:")


def test_the_same_again_also_after_use():
    one, other = zc.EpsilonPlusFlat(zero_params="bias"), zc.EpsilonPlusFlat(zero_params="bias")
    before = zennit_digest(one)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    with one.context(net) as ruled:
        x = torch.randn(1, 3, 4, 4, requires_grad=True)
        ruled(x).sum().backward()
        assert zennit_digest(one) == before
    assert zennit_digest(one) == before == zennit_digest(other)


def test_another_process_says_the_same():
    text = (
        "import zennit.composites as c; from workbench.attribution.zennit_text import zennit_digest as d;"
        "print(d(c.EpsilonGammaBox(low=-1.0, high=1.0, zero_params=['bias', 'weight'])))"
    )
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == zennit_digest(zc.EpsilonGammaBox(low=-1.0, high=1.0, zero_params=["bias", "weight"]))
