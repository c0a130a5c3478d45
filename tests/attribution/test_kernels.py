"""Each relevance rule against a slow twin: the layer written out as a matrix, the rule as its formula."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from workbench.attribution.linear import stabilise_, stabilised
from workbench.attribution.lrp import ruled_forward
from workbench.attribution.rules import Composite, Rule, composite
from workbench.testing.nets import handle_of, randomised

EPS = 1e-3  # large enough to be seen

LAYERS = {
    "conv1d": (lambda b: nn.Conv1d(3, 4, 3, stride=2, padding=1, bias=b), (3, 9)),
    "conv2d": (lambda b: nn.Conv2d(3, 4, (3, 2), padding=(1, 0), bias=b), (3, 5, 6)),
    "conv3d": (lambda b: nn.Conv3d(2, 3, (2, 3, 2), padding=1, bias=b), (2, 3, 4, 3)),
    "strided": (lambda b: nn.Conv2d(3, 4, 3, stride=(2, 3), padding=1, bias=b), (3, 6, 7)),
    "dilated": (lambda b: nn.Conv2d(2, 5, 3, dilation=2, padding=2, bias=b), (2, 6, 5)),
    "grouped": (lambda b: nn.Conv2d(4, 6, 3, groups=2, padding=1, bias=b), (4, 4, 5)),
    "depthwise": (lambda b: nn.Conv2d(4, 8, 3, groups=4, padding=1, bias=b), (4, 5, 4)),
    "padding same": (lambda b: nn.Conv2d(3, 4, (3, 4), padding="same", bias=b), (3, 5, 6)),
    "reflected": (lambda b: nn.Conv2d(2, 3, 3, padding=2, padding_mode="reflect", bias=b), (2, 4, 5)),
    "timm's same": (lambda b: _timm_same(b), (3, 7, 6)),
    "transposed 1d": (lambda b: nn.ConvTranspose1d(3, 4, 3, stride=2, bias=b), (3, 5)),
    "transposed 2d": (
        lambda b: nn.ConvTranspose2d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2, bias=b),
        (4, 3, 4),
    ),
    "transposed 3d": (lambda b: nn.ConvTranspose3d(2, 3, 2, stride=2, bias=b), (2, 2, 3, 2)),
    "dense": (lambda b: nn.Linear(7, 5, bias=b), (7,)),
}

RULES = {
    "epsilon": Rule("epsilon", epsilon=EPS),
    "zplus": Rule("zplus", epsilon=EPS),
    "alpha2_beta1": Rule("alpha_beta", epsilon=EPS, alpha=2.0, beta=1.0),
    "alpha1_beta0": Rule("alpha_beta", epsilon=EPS, alpha=1.0, beta=0.0),
    "gamma": Rule("gamma", epsilon=EPS, gamma=0.3),
    "zbox": Rule("zbox", epsilon=EPS, low=-2.5, high=2.0),
    "wsquare": Rule("wsquare", epsilon=EPS),
    "flat": Rule("flat", epsilon=EPS),
}


def _timm_same(bias):
    from timm.layers import Conv2dSame

    return Conv2dSame(3, 4, 3, stride=2, bias=bias)


def matrix(layer, shape, change=lambda w: w):
    """(out, in): the layer without its bias, its weights changed, applied to each unit vector."""
    twin = copy.deepcopy(layer)
    n = torch.Size(shape).numel()
    with torch.no_grad():
        twin.weight.copy_(change(twin.weight))
        if twin.bias is not None:
            twin.bias.zero_()
        return twin(torch.eye(n, dtype=torch.float64).reshape(n, *shape)).flatten(1).T


def bias_of(layer, shape):
    with torch.no_grad():
        return layer(torch.zeros(1, *shape, dtype=torch.float64)).flatten()


def s(z):
    return z + torch.where(z < 0, -1.0, 1.0).double() * EPS


def twin(rule, layer, shape, x, relevance, *, zero_bias):
    """Relevance of one flat input `x`, given that of the flat output."""
    w, up, down = (matrix(layer, shape, f) for f in (lambda w: w, lambda w: w.clamp(min=0), lambda w: w.clamp(max=0)))
    own = bias_of(layer, shape)
    b = torch.zeros_like(own) if zero_bias else own
    pos, neg = x.clamp(min=0), x.clamp(max=0)
    if rule.kind == "epsilon":
        shares, total = w * x, (w * x).sum(1) + b
    elif rule.kind in ("zplus", "alpha_beta"):
        good, bad = up * pos + down * neg, down * pos + up * neg
        result = (relevance / s(good.sum(1) + b.clamp(min=0))) @ good
        if rule.kind == "zplus":
            return result
        return rule.alpha * result - rule.beta * ((relevance / s(bad.sum(1) + b.clamp(max=0))) @ bad)
    elif rule.kind == "gamma":
        out = (w * x).sum(1) + own
        g = rule.gamma
        for_up = (w + g * up) * pos + (w + g * down) * neg
        for_down = (w + g * down) * pos + (w + g * up) * neg
        high = torch.where(out > 0, relevance / s(for_up.sum(1) + b + g * b.clamp(min=0)), 0.0)
        low = torch.where(out < 0, relevance / s(for_down.sum(1) + b + g * b.clamp(max=0)), 0.0)
        return high @ for_up + low @ for_down
    elif rule.kind == "zbox":
        shares = w * x - up * rule.low - down * rule.high
        total = shares.sum(1)  # b - b+ - b- = 0
    elif rule.kind == "wsquare":
        shares = matrix(layer, shape, torch.square)
        total = shares.sum(1) + b.square()
    else:
        shares = matrix(layer, shape, torch.ones_like)
        total = shares.sum(1)
    return (relevance / s(total)) @ shares


def inputs(shape, generator):
    x = torch.randn(3, *shape, generator=generator, dtype=torch.float64)
    x[:, 0] = x[:, 0].clamp(min=0)  # some exact zeros
    return {"both signs": x, "never negative": x.clamp(min=0)}


def in_single_precision(layer, shape, x, relevance, chosen):
    """The same in float32, where convolutions may run with channels last; nothing is kept for a second look."""
    handle = handle_of(nn.Sequential(copy.deepcopy(layer).float(), nn.Flatten()), shape)
    with ruled_forward(handle, handle.put(x), rule=chosen) as graph:
        return graph.pull(graph.output, relevance.float(), [None], keep=False)[0].double()


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("name", LAYERS)
def test_rules_equal_their_formula(name, kind):
    make, shape = LAYERS[name]
    rule, generator = RULES[kind], torch.Generator().manual_seed(1)
    for has_bias in (True, False):
        layer = randomised(make(has_bias)).double()
        handle = handle_of(nn.Sequential(layer, nn.Flatten()), shape)
        for sign, x in inputs(shape, generator).items():
            for zero_bias in (True, False) if has_bias else (False,):
                chosen = Composite("one rule", (("0", rule),), zero_bias=zero_bias)
                with ruled_forward(handle, x, rule=chosen) as graph:
                    relevance = torch.randn(graph.output.shape, generator=generator, dtype=torch.float64)
                    found = graph.pull(graph.output, relevance, [None])[0]
                expected = torch.stack(
                    [
                        twin(rule, layer, shape, one.flatten(), r, zero_bias=zero_bias).reshape(shape)
                        for one, r in zip(x, relevance, strict=True)
                    ]
                )
                case = f"bias {has_bias}, zero_bias {zero_bias}, {sign}"
                torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-11, msg=lambda m, case=case: case + m)
                if sign == "both signs":
                    single = in_single_precision(layer, shape, x, relevance, chosen)
                    assert (single - expected).abs().max() < 2e-4 * expected.abs().max(), case


@pytest.mark.filterwarnings("ignore:Using padding='same':UserWarning")
@pytest.mark.parametrize("kind", RULES)
@pytest.mark.parametrize("name", LAYERS)
def test_many_seeds_in_one_pass_equal_one_at_a_time(name, kind):
    make, shape = LAYERS[name]
    generator = torch.Generator().manual_seed(2)
    layer = randomised(make(True)).double()
    handle = handle_of(nn.Sequential(layer, nn.Flatten()), shape)
    chosen = Composite("one rule", (("0", RULES[kind]),), zero_bias=False)
    for x in inputs(shape, generator).values():
        with ruled_forward(handle, x, rule=chosen) as graph:
            seeds = torch.randn((5, *graph.output.shape), generator=generator, dtype=torch.float64)
            together = graph.pull(graph.output, seeds, [None])[0]
            assert torch.equal(graph.pull(graph.output, seeds, [None])[0], together), "asked again"
            last = graph.pull(graph.output, seeds, [None], keep=False)[0]
        torch.testing.assert_close(last, together, rtol=1e-12, atol=1e-14)
        with ruled_forward(handle, x, rule=chosen) as graph:  # afresh, so that neither fills what the other remembers
            alone = torch.stack([graph.pull(graph.output, seed, [None])[0] for seed in seeds])
        torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-14)


def test_the_stabiliser_of_zero_is_positive():
    z = torch.tensor([0.0, -0.0, 2.0, -2.0])
    assert stabilised(z, 0.5).tolist() == [0.5, 0.5, 2.5, -2.5]
    assert stabilise_(z[[0, 2, 3]], 0.5).tolist() == [0.5, 2.5, -2.5]
    assert stabilise_(z[1:2], 0.5).abs().item() == 0.5


@pytest.mark.parametrize("kind", RULES)
def test_a_layer_of_zeros_gives_finite_relevance(kind):
    layer = nn.Conv2d(2, 3, 3).double()
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    handle = handle_of(nn.Sequential(layer, nn.Flatten()), (2, 4, 5))
    x = torch.randn(2, 2, 4, 5, dtype=torch.float64)
    with ruled_forward(handle, x, rule=Composite("one rule", (("0", RULES[kind]),))) as graph:
        found = graph.pull(graph.output, torch.ones_like(graph.output), [None])[0]
    assert torch.isfinite(found).all()
    assert bool((found != 0).any()) == (kind == "flat")


POOLS = {
    "average 1d": (nn.AvgPool1d(3, stride=2), (2, 9)),
    "average 2d": (nn.AvgPool2d((2, 3), padding=(1, 0)), (3, 5, 6)),
    "average 2d, padding not counted": (nn.AvgPool2d(3, padding=1, count_include_pad=False), (2, 5, 4)),
    "average 3d": (nn.AvgPool3d(2), (2, 4, 3, 5)),
    "adaptive 1d": (nn.AdaptiveAvgPool1d(3), (2, 7)),
    "adaptive 2d": (nn.AdaptiveAvgPool2d((2, 3)), (3, 5, 7)),
    "adaptive 3d": (nn.AdaptiveAvgPool3d(1), (2, 3, 2, 4)),
}


@pytest.mark.parametrize("name", POOLS)
def test_pools_share_in_proportion(name):
    pool, shape = POOLS[name]
    handle = handle_of(nn.Sequential(pool, nn.Flatten()), shape)
    handle.dtype = torch.float64
    generator = torch.Generator().manual_seed(3)
    n = torch.Size(shape).numel()
    w = pool(torch.eye(n, dtype=torch.float64).reshape(n, *shape)).flatten(1).T
    for x in inputs(shape, generator).values():
        with ruled_forward(handle, x, rule=Composite("norm", (("0", Rule("norm", epsilon=EPS)),))) as graph:
            seeds = torch.randn((4, *graph.output.shape), generator=generator, dtype=torch.float64)
            found = graph.pull(graph.output, seeds[0], [None])[0]
            together = graph.pull(graph.output, seeds, [None])[0]
        expected = torch.stack(
            [
                ((r / s(w @ one.flatten())) @ w * one.flatten()).reshape(shape)
                for one, r in zip(x, seeds[0], strict=True)
            ]
        )
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(together[0], found, rtol=1e-12, atol=1e-14)


class _Sum(nn.Module):
    def __init__(self, add):
        super().__init__()
        self.left, self.right, self.flat, self.add = nn.Identity(), nn.Tanh(), nn.Flatten(), add

    def forward(self, x):
        return self.flat(self.add(self.left(x), self.right(x)))


SUMS = {
    "a + b": (lambda a, b: a + b, 1),
    "torch.add": (lambda a, b: torch.add(a, b), 1),
    "torch.add, alpha": (lambda a, b: torch.add(a, b, alpha=-0.5), -0.5),
    "keywords": (lambda a, b: torch.add(input=a, other=b, alpha=2), 2),
    "a.add": (lambda a, b: a.add(b), 1),
    "a += b": (lambda a, b: _iadd(a, b), 1),
    "a.clone().add_(b)": (lambda a, b: a.clone().add_(b), 1),
    "a.clone().add_(b, alpha)": (lambda a, b: a.clone().add_(b, alpha=3), 3),
    "sum([a, b])": (lambda a, b: sum([a, b]), 1),
}


def _iadd(a, b):
    a += b
    return a


@pytest.mark.parametrize("name", SUMS)
def test_sums_share_in_proportion(name):
    add, factor = SUMS[name]
    handle = handle_of(_Sum(add), (2, 3, 4))
    handle.dtype = torch.float64
    x = torch.randn(3, 2, 3, 4, dtype=torch.float64)
    rules = Composite("sum", (("activation", Rule("pass")), ("sum", Rule("norm", epsilon=EPS))))
    with ruled_forward(handle, x, rule=rules, layers=["right"]) as graph:
        r = torch.randn_like(x)
        full, right = graph.pull(graph.output, r.flatten(1), [None, "right"])
        output = graph.output.detach()
    b = factor * x.tanh()
    torch.testing.assert_close(output, (x + b).flatten(1))
    share = r / s(x + b)
    torch.testing.assert_close(right, b * share, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(full, x * share + b * share, rtol=1e-9, atol=1e-12)


def test_a_sum_that_repeats_one_term_shares_in_proportion_too():
    handle = handle_of(_Sum(lambda a, b: a + b.mean((2, 3), keepdim=True)), (2, 3, 4))
    handle.dtype = torch.float64
    x = torch.randn(3, 2, 3, 4, dtype=torch.float64)
    rules = Composite("sum", (("activation", Rule("gradient")), ("sum", Rule("norm", epsilon=EPS))))
    with ruled_forward(handle, x, rule=rules, layers=["left"]) as graph:
        r = torch.randn_like(x)
        left = graph.pull(graph.output, r.flatten(1), ["left"])[0]
    b = x.tanh().mean((2, 3), keepdim=True)
    share = r / s(x + b)
    # `left` hands on the input itself, so it has both: its own part, and through tanh and the mean that of the other.
    through = (b * share).sum((2, 3), keepdim=True) / 12 * (1 - x.tanh() ** 2)
    torch.testing.assert_close(left, x * share + through, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.SiLU(), nn.Sigmoid(), nn.GELU(), nn.PReLU(), nn.ReLU6()])
def test_activations_hand_relevance_on(activation):
    handle = handle_of(nn.Sequential(activation, nn.Flatten()), (2, 3))
    x, r = torch.randn(2, 2, 3), torch.randn(2, 6)
    with ruled_forward(handle, x, rule=composite("EpsilonPlus")) as graph:
        assert torch.equal(graph.pull(graph.output, r, [None])[0], r.reshape(2, 2, 3))
