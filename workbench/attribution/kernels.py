"""Relevance rules as autograd functions: the forward pass computes the module, the backward pass the rule.

Why not hooks? zennit changes a module's backward pass by recomputing its forward pass once or more per rule. Here each
rule is one node of the autograd graph, so the forward result is computed once and used, products that are zero for
non-negative inputs are never formed, and a module that is called twice has two nodes that do not disturb each other.
Every node's backward pass consists of operations that `torch.vmap` understands, hence many conditional maps of one
image run as one batched backward pass over the graph of a single forward pass.

Denominators are stabilised as ``z + eps * sign(z)`` with ``sign(0) = +1``. Formulas: Bach et al. 2015 (epsilon,
alpha-beta), Montavon et al. 2017 (z-plus, w-square, z-box) and 2019 (gamma), Lapuschkin et al. 2019 (flat); Andéol et
al. 2021 for gamma with inputs of both signs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function

from workbench.attribution.linear import (
    PLAIN_CONV,
    LinearMap,
    blank,
    each_sample,
    is_batched,
    negative,
    positive,
    same,
    stabilise_,
    stabilised,
)

__all__ = ["MaxPool", "NormSum", "PassThrough", "RuledLinear", "RuledPool"]


class RuledLinear(Function):
    """A convolution or dense module whose backward pass is a relevance rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: LinearMap, rule: Any, is_nonnegative: bool = False) -> Tensor:
        """Compute the module and keep what the rule needs; `is_nonnegative` if that is known of `x`."""
        out = linear.forward(x)
        ctx.linear, ctx.rule, ctx.kept = linear, rule, {"has_negative": False} if is_nonnegative else {}
        # Epsilon without its bias needs another denominator than the output, unless there is no bias.
        is_own_output = not linear.zero_bias or linear.module.bias is None
        needs_output = rule.kind == "gamma" or (rule.kind == "epsilon" and is_own_output)
        ctx.save_for_backward(x, out if needs_output else None)
        return out

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> Any:
        """Redistribute the relevance of the output to the input."""
        x, out = ctx.saved_tensors
        return _RULES[ctx.rule.kind](ctx, relevance, x, out, ctx.linear, ctx.rule), None, None, None


class RuledPool(Function):
    """Average pooling with the norm rule: relevance in proportion to each input's share of the mean."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pool: Callable[[Tensor], Tensor], eps: float) -> Tensor:
        """Pool and keep the graph of the pooling alone, whose transpose the rule needs."""
        with torch.enable_grad():
            probe = x.detach().requires_grad_()
            out = pool(probe)
        ctx.probe, ctx.out, ctx.eps, ctx.version = probe, out, eps, out._version
        return out.detach()

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> Any:
        """Redistribute relevance over the pooled window."""
        if ctx.out._version != ctx.version:
            raise RuntimeError("the output of a pool has been modified by an inplace operation")
        s = relevance / stabilised(ctx.out.detach(), ctx.eps)
        return torch.autograd.grad(ctx.out, ctx.probe, s, retain_graph=True)[0] * ctx.probe.detach(), None, None


class MaxPool(Function):
    """Max pooling with its plain gradient: all relevance goes to the largest input of each window.

    A node of our own, because `torch.vmap` copies the input of torch's for each of its entries.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, pool: Any) -> Tensor:
        """Pool, and remember where the largest were."""
        step = pool.stride if pool.stride is not None else pool.kernel_size
        args = [_pair(v) for v in (pool.kernel_size, step, pool.padding, pool.dilation)]
        out, where = torch.ops.aten.max_pool2d_with_indices(x, *args, pool.ceil_mode)
        ctx.args = (*args, pool.ceil_mode, where)
        ctx.save_for_backward(x)
        return out

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> Any:
        """Put relevance back to where the largest input was."""
        (x,) = ctx.saved_tensors
        put_back = torch.ops.aten.max_pool2d_with_indices_backward
        if not is_batched(relevance):
            return put_back(relevance, x, *ctx.args), None

        def each(flat: Tensor) -> Tensor:
            result = blank(x, len(flat))
            for one, to in zip(flat.split(len(x)), result.split(len(x)), strict=True):
                put_back.grad_input(one, x, *ctx.args, grad_input=to)
            return result

        return each_sample(relevance, each), None


class NormSum(Function):
    """``a + b`` that splits relevance in proportion to the two terms."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, eps: float) -> Tensor:
        """Add."""
        ctx.eps = eps
        ctx.save_for_backward(a, b)
        return a + b

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> Any:
        """Split."""
        a, b = ctx.saved_tensors
        s = _over(relevance, stabilise_(a + b, ctx.eps), may_overwrite=True)
        return a * s, _times(s, b), None


class PassThrough(Function):
    """Any element-wise function whose backward pass hands relevance on unchanged."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        """Compute the function, never in place: recorded tensors must keep their values."""
        out = function(x)
        return out.clone() if out is x else out

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> Any:
        """Hand on."""
        return relevance, None


# --- the rules: (ctx, relevance, x, out, linear, rule) -> relevance of x ----------------------------------------------


def _epsilon(ctx: Any, relevance: Tensor, x: Tensor, out: Tensor | None, linear: LinearMap, rule: Any) -> Tensor:
    weight, bias = linear.parameters("same", same, with_bias=True)
    if out is None:
        out = _once(ctx, "z", lambda: linear.apply(x, weight, bias))
    return linear.pull_back(relevance / stabilised(out, rule.epsilon), x, weight) * x


def _zplus(ctx: Any, relevance: Tensor, x: Tensor, out: Tensor | None, linear: LinearMap, rule: Any) -> Tensor:
    return _signed_part(ctx, relevance, x, linear, rule.epsilon, sign=1)


def _alpha_beta(ctx: Any, relevance: Tensor, x: Tensor, out: Tensor | None, linear: LinearMap, rule: Any) -> Tensor:
    result = rule.alpha * _signed_part(ctx, relevance, x, linear, rule.epsilon, sign=1)
    if rule.beta:
        result = result - rule.beta * _signed_part(ctx, relevance, x, linear, rule.epsilon, sign=-1)
    return result


def _signed_part(ctx: Any, relevance: Tensor, x: Tensor, linear: LinearMap, eps: float, *, sign: int) -> Tensor:
    """Relevance by the positive (or negative) products ``a_i w_ij`` alone.

    Positive products come from pairs of equal sign, negative ones from pairs of unequal sign. Where no input is
    negative one of the two halves is zero and is not computed.
    """
    z, pull, parts = _once(ctx, f"z{sign}", lambda: _signed_map(ctx, x, linear, eps, sign))
    result = _times(pull(_over(relevance, z, may_overwrite=linear.use.is_last)), parts)
    if parts is x:
        return result
    positive, negative = result.chunk(2, _input_axis(linear))
    return positive + negative


def _signed_map(
    ctx: Any, x: Tensor, linear: LinearMap, eps: float, sign: int
) -> tuple[Tensor, Callable[[Tensor], Tensor], Tensor]:
    """Denominator, transposed map, and the input that the map was taken at: `x`, or its two parts side by side."""
    near, far = (positive, negative) if sign > 0 else (negative, positive)
    weight, bias = linear.parameters(near.__name__, near, with_bias=True)
    if not _once(ctx, "has_negative", lambda: bool((x < 0).any()) if x.numel() < 4096 else bool(x.amin() < 0)):
        return *linear.denominator(x, weight, bias, eps, sign=sign), x
    if linear.is_dense or (linear.is_plain_conv and linear.module.groups == 1):
        # One product with twice the input passes over the output, often the larger side, half as often as two products.
        parts = torch.cat([x.clamp(min=0), x.clamp(max=0)], _input_axis(linear))
        return *linear.denominator(parts, linear.pair(near, far), bias, eps, sign=sign), parts
    other, _ = linear.parameters(far.__name__, far, with_bias=False)
    (z, pull_near), (rest, pull_far) = linear.run(x.clamp(min=0), weight, bias), linear.run(x.clamp(max=0), other, None)
    return stabilise_(z.add_(rest), eps), lambda s: torch.where(x > 0, pull_near(s), pull_far(s)), x


def _input_axis(linear: LinearMap) -> int:
    return -1 if linear.is_dense else 1


def _gamma(ctx: Any, relevance: Tensor, x: Tensor, out: Tensor, linear: LinearMap, rule: Any) -> Tensor:
    def more(part: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda w: w + rule.gamma * part(w)

    name = f"gamma{rule.gamma}"
    result: Any = 0
    # Where the output is positive, positive products count more; where it is negative, negative products.
    for sign, near, far in ((1, positive, negative), (-1, negative, positive)):
        w_near, bias = linear.parameters(name + near.__name__, more(near), with_bias=True)
        w_far, _ = linear.parameters(name + far.__name__, more(far), with_bias=False)

        def make(w_near: Tensor = w_near, w_far: Tensor = w_far, bias: Tensor | None = bias) -> Tensor:
            z = linear.apply(x.clamp(min=0), w_near, bias) + linear.apply(x.clamp(max=0), w_far, None)
            return stabilised(z, rule.epsilon)

        s = relevance * (out * sign > 0) / _once(ctx, f"g{sign}", make)
        result = result + torch.where(x > 0, linear.pull_back(s, x, w_near), linear.pull_back(s, x, w_far)) * x
    return result


def _zbox(ctx: Any, relevance: Tensor, x: Tensor, out: Tensor | None, linear: LinearMap, rule: Any) -> Tensor:
    low, high = (_bound(b, x) for b in (rule.low, rule.high))
    w, bias = linear.parameters("same", same, with_bias=True)
    w_up, bias_up = linear.parameters("positive", positive, with_bias=True)
    w_down, bias_down = linear.parameters("negative", negative, with_bias=True)

    def make() -> Tensor:
        z = linear.apply(x, w, bias) - linear.apply(low, w_up, bias_up) - linear.apply(high, w_down, bias_down)
        return stabilised(z, rule.epsilon)

    s = relevance / _once(ctx, "z", make)
    pulled = [linear.pull_back(s, x, weight) for weight in (w, w_up, w_down)]
    return x * pulled[0] - low * pulled[1] - high * pulled[2]


def _w_square(ctx: Any, relevance: Tensor, x: Tensor, out: Tensor | None, linear: LinearMap, rule: Any) -> Tensor:
    w, bias = linear.parameters("square", torch.square, with_bias=True)
    z = linear.remember(
        ("shape", "square", *x.shape[1:]),
        lambda: stabilised(linear.apply(torch.ones_like(x[:1]), w, bias), rule.epsilon),
    )
    return linear.pull_back(relevance / z, x, w)


def _flat(ctx: Any, relevance: Tensor, x: Tensor, out: Tensor | None, linear: LinearMap, rule: Any) -> Tensor:
    w, _ = linear.parameters("ones", torch.ones_like, with_bias=False)
    z = linear.remember(
        ("shape", "ones", *x.shape[1:]), lambda: stabilised(linear.apply(torch.ones_like(x[:1]), w, None), rule.epsilon)
    )
    if not linear.remember(("shape", "alike", *x.shape[1:]), lambda: _are_outputs_alike(linear, x, w, z, rule.epsilon)):
        return linear.pull_back(relevance / z, x, w)
    # All weights are one, so that all output channels have one denominator, and all input channels receive the same.
    total = relevance.sum(1, keepdim=True) / z[:, :1]
    if not linear.is_plain_conv:
        return linear.pull_back(total, x, w[:1])
    thin = linear.pull_back(total, x[:, :1], w[:1, :1])
    return thin.expand(-1, x.shape[1], *thin.shape[2:])


def _are_outputs_alike(linear: LinearMap, x: Tensor, w: Tensor, z: Tensor, eps: float) -> bool:
    """Whether a convolution with one output channel and weights of one gives what each of its channels gives."""
    if not isinstance(linear.module, PLAIN_CONV) or linear.module.groups != 1:
        return False
    try:
        one = linear.apply(torch.ones_like(x[:1]), w[:1], None)
    except (RuntimeError, ValueError):  # a convolution of somebody's own, which relies on the shape of its weights
        return False
    return one.shape[1] == 1 and torch.allclose(stabilised(one, eps).expand_as(z), z)


_RULES: dict[str, Callable[..., Tensor]] = {
    "epsilon": _epsilon,
    "zplus": _zplus,
    "alpha_beta": _alpha_beta,
    "gamma": _gamma,
    "zbox": _zbox,
    "wsquare": _w_square,
    "flat": _flat,
}


def _once(ctx: Any, key: str, make: Callable[[], Any]) -> Any:
    """A value of this node that a second backward pass over the same graph uses again."""
    if key in ctx.kept:
        return ctx.kept[key]
    value = make()
    if not ctx.linear.use.is_last or isinstance(value, bool):
        ctx.kept[key] = value
    return value


def _over(relevance: Tensor, z: Tensor, *, may_overwrite: bool) -> Tensor:
    return torch.div(relevance, z, out=z) if may_overwrite and not is_batched(relevance) else relevance / z


def _times(pulled: Tensor, x: Tensor) -> Tensor:
    return pulled.mul_(x)


def _pair(value: Any) -> tuple[int, int]:
    return tuple(value) if isinstance(value, (tuple, list)) else (value, value)


def _bound(bound: Any, x: Tensor) -> Tensor:
    """A bound of the input box: a number, a value per channel, or an array of the input's shape."""
    bound = torch.as_tensor(bound, dtype=x.dtype, device=x.device)
    if bound.ndim == 1 and bound.numel() == x.shape[1]:
        bound = bound.reshape(1, -1, *[1] * (x.ndim - 2))
    return bound.expand_as(x)
