"""Contextual decomposition: parts add up to the activation at every module, and each rule is its formula."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from workbench.core.errors import ModelError
from workbench.methods.correction.decomposition import decompose
from workbench.models.hooks import record
from workbench.testing.nets import BiasFree, Residual, randomised, small_vgg

NETS = {"vgg": (small_vgg, (3, 17, 13)), "residual": (Residual, (3, 12, 10)), "bias free": (BiasFree, (3, 10, 8))}


@pytest.mark.parametrize("name", NETS)
def test_the_parts_add_up_to_the_activation_at_every_module(name):
    """Acceptance: beta + gamma is the activation."""
    make, shape = NETS[name]
    net, x = randomised(make()), torch.randn(4, *shape)
    inside = (torch.rand(4, 1, *shape[1:]) > 0.5).float()
    layers = [n for n, m in net.named_modules() if n and next(m.children(), None) is None]
    plain, parts = {}, {}
    with torch.no_grad():
        with record(net, layers, lambda n, t: plain.update({n: t})):
            net(x)
        with decompose(net), record(net, layers, lambda n, t: parts.update({n: t})):
            net(torch.cat([x * inside, x * (1 - inside)]))
    for layer in layers:
        beta, gamma = parts[layer].chunk(2)
        torch.testing.assert_close(beta + gamma, plain[layer], rtol=1e-4, atol=1e-4)
    assert not any("forward" in vars(m) for m in net.modules())


def test_each_rule_is_its_formula():
    linear, beta, gamma = nn.Linear(3, 4).double(), *torch.randn(2, 5, 3, dtype=torch.float64)
    gamma[0] = beta[0] = 0
    with torch.no_grad(), decompose(nn.Sequential(linear)):
        b, g = linear(torch.cat([beta, gamma])).chunk(2)
    w, bias = linear.weight.detach(), linear.bias.detach()
    for i in range(5):
        for k in range(4):
            p, q = float(w[k] @ beta[i]), float(w[k] @ gamma[i])
            share = abs(p) / (abs(p) + abs(q)) if p or q else 0.5
            assert abs(float(b[i, k]) - (p + share * float(bias[k]))) < 1e-12
            assert abs(float(g[i, k]) - (q + (1 - share) * float(bias[k]))) < 1e-12
    relu, pool = nn.ReLU(), nn.MaxPool2d(2)
    a, c = torch.randn(2, 2, 3, 4, 4)
    with decompose(nn.Sequential(relu, pool)):
        b, g = relu(torch.cat([a, c])).chunk(2)
        torch.testing.assert_close(b, a.clamp(min=0))
        torch.testing.assert_close(g, (a + c).clamp(min=0) - a.clamp(min=0))
        b, g = pool(torch.cat([a, c])).chunk(2)
    at = (a + c)[0, 1, :2, 2:].flatten().argmax()
    assert b[0, 1, 0, 1] == a[0, 1, :2, 2:].flatten()[at] and g[0, 1, 0, 1] == c[0, 1, :2, 2:].flatten()[at]


def test_unknown_modules_are_named():
    with pytest.raises(ModelError, match=r'not defined for SiLU \("1"\)'):
        with decompose(nn.Sequential(nn.Linear(2, 2), nn.SiLU())):
            pass
