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
from torch import Tensor, nn
from torch.autograd import Function

__all__ = ["LinearMap", "NormSum", "PassThrough", "RuledLinear", "RuledPool", "stabilised"]

_PLAIN_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def stabilised(z: Tensor, eps: float) -> Tensor:
    """Denominator that keeps its sign and stays away from zero: ``z + eps * sign(z)``, ``sign(0) = +1``."""
    return torch.add(z, torch.where(z >= 0, 1.0, -1.0), alpha=eps)  # a number inside `where` would lose digits


class LinearMap:
    """A convolution or dense module as a function of its input and of freely chosen parameters.

    Modified parameters are made once and kept as long as the map lives.

    Parameters
    ----------
    module : nn.Module
        Any module whose only parameters are ``weight`` and ``bias`` and that is linear in its input.
    forward : callable
        The module's own forward function, before any patch.
    zero_bias : bool
        Treat the bias as zero in denominators.
    """

    def __init__(self, module: nn.Module, forward: Callable[..., Tensor], *, zero_bias: bool):
        self.module, self.forward = module, forward
        self.zero_bias = zero_bias
        self.is_plain_conv = type(module) in _PLAIN_CONV and _has_plain_padding(module)
        self.is_dense = type(module) is nn.Linear
        self._made: dict[Any, Any] = {}

    def parameters(
        self, kind: str, change: Callable[[Tensor], Tensor], *, with_bias: bool
    ) -> tuple[Tensor, Tensor | None]:
        """The changed weight and bias called `kind`; the bias is None where it is absent or left out."""
        weight, bias = self.module.weight, getattr(self.module, "bias", None)
        key = (kind, with_bias)
        stamp = (weight.data_ptr(), weight._version, weight.dtype, weight.device)
        if key not in self._made or self._made[key][0] != stamp:
            with torch.no_grad():
                use_bias = with_bias and bias is not None and not self.zero_bias
                self._made[key] = (stamp, change(weight.detach()), change(bias.detach()) if use_bias else None)
        return self._made[key][1:]

    def remember(self, key: Any, make: Callable[[], Tensor]) -> Tensor:
        """A tensor that depends on shapes alone, made once; at most eight are kept."""
        if key not in self._made:
            kept = [k for k in self._made if isinstance(k, tuple) and k and k[0] == "shape"]
            if len(kept) >= 8:
                self._made.pop(kept[0])
            self._made[key] = make()
        return self._made[key]

    def apply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The module's map with these parameters."""
        if self.is_dense:
            return nn.functional.linear(x, weight, bias)
        if self.is_plain_conv:
            m = self.module
            return (
                torch.conv2d(x, weight, bias, m.stride, m.padding, m.dilation, m.groups)
                if weight.ndim == 4
                else (
                    torch.convolution(
                        x, weight, bias, m.stride, m.padding, m.dilation, False, (0,) * (weight.ndim - 2), m.groups
                    )
                )
            )
        return self._called_with(x, weight, bias)

    def pull_back(self, s: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """Transpose of the map: gradient of ``(s * map(x)).sum()`` with respect to `x`."""
        if self.is_dense:
            return s @ weight
        if self.is_plain_conv:
            m = self.module
            # The input matters by its shape only, hence an empty one that costs nothing.
            blank = s.new_empty(1).expand(x.shape) if not _is_batched(s) else x
            return torch.ops.aten.convolution_backward(
                s, blank, weight, None, m.stride, m.padding, m.dilation, False, (0,) * (weight.ndim - 2), m.groups,
                (True, False, False),
            )[0]  # fmt: skip
        # Unlike autograd.grad, this may be called inside of `torch.vmap`.
        _, transpose = torch.func.vjp(lambda t: self._called_with(t, weight, None), x.detach())
        return transpose(s)[0]

    def _called_with(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Run the module's own forward function with other parameters, whatever it does around them."""
        module = self.module
        has_bias = getattr(module, "bias", None) is not None
        if has_bias and bias is None:
            bias = torch.zeros_like(module.bias)
        kept = {k: module._parameters[k] for k in ("weight", "bias") if k in module._parameters}
        try:
            module._parameters["weight"] = weight
            if has_bias:
                module._parameters["bias"] = bias
            return self.forward(x)
        finally:
            module._parameters.update(kept)


class RuledLinear(Function):
    """A convolution or dense module whose backward pass is a relevance rule."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, linear: LinearMap, rule: Any) -> Tensor:
        """Compute the module and keep what the rule needs."""
        out = linear.forward(x)
        ctx.linear, ctx.rule, ctx.kept = linear, rule, {}
        # Epsilon without its bias needs another denominator than the output, unless there is no bias.
        is_own_output = not linear.zero_bias or linear.module.bias is None
        needs_output = rule.kind == "gamma" or (rule.kind == "epsilon" and is_own_output)
        ctx.save_for_backward(x, out if needs_output else None)
        return out

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> Any:
        """Redistribute the relevance of the output to the input."""
        x, out = ctx.saved_tensors
        return _RULES[ctx.rule.kind](ctx, relevance, x, out, ctx.linear, ctx.rule), None, None


class RuledPool(Function):
    """Average pooling with the norm rule: relevance in proportion to each input's share of the mean."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, pool: Callable[[Tensor], Tensor], eps: float) -> Tensor:
        """Pool and keep the graph of the pooling alone, whose transpose the rule needs."""
        with torch.enable_grad():
            probe = x.detach().requires_grad_()
            out = pool(probe)
        ctx.probe, ctx.out, ctx.eps = probe, out, eps
        return out.detach()

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> Any:
        """Redistribute relevance over the pooled window."""
        s = relevance / stabilised(ctx.out.detach(), ctx.eps)
        return torch.autograd.grad(ctx.out, ctx.probe, s, retain_graph=True)[0] * ctx.probe.detach(), None, None


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
        s = relevance / stabilised(a + b, ctx.eps)
        return a * s, b * s, None


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


def _positive(w: Tensor) -> Tensor:
    return w.clamp(min=0)


def _negative(w: Tensor) -> Tensor:
    return w.clamp(max=0)


def _same(w: Tensor) -> Tensor:
    return w


def _epsilon(ctx: Any, relevance: Tensor, x: Tensor, out: Tensor | None, linear: LinearMap, rule: Any) -> Tensor:
    weight, bias = linear.parameters("same", _same, with_bias=True)
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
    near, far = (_positive, _negative) if sign > 0 else (_negative, _positive)
    w_near, bias = linear.parameters(near.__name__, near, with_bias=True)
    has_negative = _once(ctx, "has_negative", lambda: bool((x < 0).any()) if x.numel() < 4096 else bool(x.amin() < 0))
    if not has_negative:
        denominator = _once(ctx, f"z{sign}", lambda: _stabilise_(linear.apply(x, w_near, bias), eps, sign, bias))
        return _times(linear.pull_back(relevance / denominator, x, w_near), x)
    w_far, _ = linear.parameters(far.__name__, far, with_bias=False)

    def make() -> Tensor:
        z = linear.apply(x.clamp(min=0), w_near, bias) + linear.apply(x.clamp(max=0), w_far, None)
        return _stabilise_(z, eps, sign, bias)

    s = relevance / _once(ctx, f"z{sign}", make)
    return _times(torch.where(x > 0, linear.pull_back(s, x, w_near), linear.pull_back(s, x, w_far)), x)


def _gamma(ctx: Any, relevance: Tensor, x: Tensor, out: Tensor, linear: LinearMap, rule: Any) -> Tensor:
    def more(part: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        return lambda w: w + rule.gamma * part(w)

    name = f"gamma{rule.gamma}"
    result: Any = 0
    # Where the output is positive, positive products count more; where it is negative, negative products.
    for sign, near, far in ((1, _positive, _negative), (-1, _negative, _positive)):
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
    w, bias = linear.parameters("same", _same, with_bias=True)
    w_up, bias_up = linear.parameters("_positive", _positive, with_bias=True)
    w_down, bias_down = linear.parameters("_negative", _negative, with_bias=True)

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
    s = relevance / z
    if not linear.is_plain_conv or linear.module.groups != 1:
        return linear.pull_back(s, x, w)
    # All weights are one, so every input channel receives the same: transpose one channel and repeat it.
    m = linear.module
    total, one = s.sum(1, keepdim=True), w[:1, :1]
    blank = x[:, :1]
    thin = torch.ops.aten.convolution_backward(
        total, blank, one, None, m.stride, m.padding, m.dilation, False, (0,) * (w.ndim - 2), 1, (True, False, False)
    )[0]
    return thin.expand(-1, x.shape[1], *thin.shape[2:])


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
    if key not in ctx.kept:
        ctx.kept[key] = make()
    return ctx.kept[key]


def _stabilise_(z: Tensor, eps: float, sign: int, bias: Tensor | None) -> Tensor:
    """Stabilise a fresh denominator in place; without the bias' other sign it has one sign, up to zero."""
    if sign > 0:
        return z.add_(eps)
    return z.add_(torch.where(z >= 0, 1.0, -1.0), alpha=eps)


def _times(pulled: Tensor, x: Tensor) -> Tensor:
    return pulled * x if _is_batched(pulled) else pulled.mul_(x)


def _is_batched(t: Tensor) -> bool:
    return torch._C._functorch.is_batchedtensor(t)


def _bound(bound: Any, x: Tensor) -> Tensor:
    """A bound of the input box: a number, a value per channel, or an array of the input's shape."""
    bound = torch.as_tensor(bound, dtype=x.dtype, device=x.device)
    if bound.ndim == 1 and bound.numel() == x.shape[1]:
        bound = bound.reshape(1, -1, *[1] * (x.ndim - 2))
    return bound.expand_as(x)


def _has_plain_padding(conv: nn.Module) -> bool:
    return getattr(conv, "padding_mode", "zeros") == "zeros" and not isinstance(conv.padding, str)
