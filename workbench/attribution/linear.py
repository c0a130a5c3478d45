"""Convolutions and dense modules as linear maps with freely chosen parameters: the map, and its transpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

__all__ = [
    "PLAIN_CONV",
    "LinearMap",
    "PadSame",
    "Use",
    "is_nonnegative",
    "mark_nonnegative",
    "stabilise_",
    "stabilised",
]

PLAIN_CONV = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def stabilised(z: Tensor, eps: float) -> Tensor:
    """Denominator that keeps its sign and stays away from zero: ``z + eps * sign(z)``, ``sign(0) = +1``."""
    return torch.add(z, torch.where(z >= 0, 1.0, -1.0), alpha=eps)  # a number inside `where` would lose digits


def stabilise_(z: Tensor, eps: float) -> Tensor:
    """Stabilise a fresh denominator in place. (A zero with a minus sign keeps it: all products it sums are zero.)"""
    return z.add_(torch.copysign(torch.tensor(eps, dtype=z.dtype, device=z.device), z))


class Use:
    """What becomes of the graph of the present forward pass; all modules of a model share one.

    Attributes
    ----------
    is_last : bool
        The backward pass that runs now is the last one, so nodes keep nothing and may reuse their own tensors.
    """

    def __init__(self) -> None:
        self.is_last = False


def mark_nonnegative(x: Tensor) -> Tensor:
    """Note on a tensor that it holds no negative number, until it is changed in place."""
    x.nonnegative_since = x._version  # type: ignore[attr-defined]
    return x


def is_nonnegative(x: Tensor) -> bool:
    """Whether the tensor is known to hold no negative number; False where nobody looked."""
    return getattr(x, "nonnegative_since", None) == x._version


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
    use : Use, optional
    is_padded : bool
        The input comes with its padding around it.
    """

    def __init__(
        self,
        module: nn.Module,
        forward: Callable[..., Tensor],
        *,
        zero_bias: bool,
        use: Use | None = None,
        is_padded: bool = False,
    ):
        self.module, self.forward = module, forward
        self.zero_bias, self.use = zero_bias, use or Use()
        self.is_plain_conv = is_padded or (type(module) in PLAIN_CONV and _has_plain_padding(module))
        self.is_dense = type(module) is nn.Linear
        self.padding = (0,) * len(module.kernel_size) if is_padded else getattr(module, "padding", None)
        self._made: dict[Any, Any] = {}

    @property
    def pads_same(self) -> bool:
        """Whether the module first puts as many zeros around its input as give ``ceil(size / stride)`` outputs."""
        m = self.module
        if type(m) in PLAIN_CONV:
            return m.padding == "same" and m.padding_mode == "zeros"
        return type(m).__name__ == "Conv2dSame" and type(m).__module__.startswith("timm.")

    def padded(self) -> LinearMap:
        """The map for inputs that `pad_same` was applied to: a plain convolution, and the zeros are written once."""
        m = self.module
        inner = LinearMap(m, self.forward, zero_bias=self.zero_bias, use=self.use, is_padded=True)
        inner.forward = lambda x: inner.apply(x, m.weight, m.bias)
        return inner

    def parameters(
        self, kind: str, change: Callable[[Tensor], Tensor], *, with_bias: bool
    ) -> tuple[Tensor, Tensor | None]:
        """The changed weight and bias called `kind`; the bias is None where it is absent or left out."""
        weight: Tensor = self.module.weight
        bias = getattr(self.module, "bias", None)

        def make() -> tuple[Tensor, Tensor | None]:
            changed = None if bias is None or self.zero_bias or not with_bias else change(bias.detach())
            return change(weight.detach()), changed

        return self._for_these_weights((kind, with_bias), make)

    def pair(self, near: Callable[[Tensor], Tensor], far: Callable[[Tensor], Tensor]) -> Tensor:
        """Two changed weights side by side on the input axis, for an input whose two parts lie side by side."""

        def make() -> Tensor:
            return torch.cat([self.parameters(p.__name__, p, with_bias=False)[0] for p in (near, far)], 1)

        return self._for_these_weights(("pair", near.__name__), make)

    def denominator(
        self, x: Tensor, weight: Tensor, bias: Tensor | None, eps: float, *, sign: int
    ) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The map's value at `x`, which has one sign, stabilised in place; and the transposed map."""
        if sign > 0 and (self.is_dense or self.is_plain_conv):
            # The stabiliser is a part of the bias, so that it costs no pass over the output.
            raised = self._for_these_weights(
                ("raised", eps), lambda: weight.new_full((len(weight),), eps) if bias is None else bias + eps
            )
            return self.run(x, weight, raised)
        z, pull = self.run(x, weight, bias)
        return (z.add_(eps) if sign > 0 else stabilise_(z, eps)), pull

    def _for_these_weights(self, key: Any, make: Callable[[], Any]) -> Any:
        weight = self.module.weight
        stamp = (weight.data_ptr(), weight._version, weight.dtype, weight.device)
        if key not in self._made or self._made[key][0] != stamp:
            with torch.no_grad():
                self._made[key] = (stamp, make())
        return self._made[key][1]

    def remember(self, key: Any, make: Callable[[], Any]) -> Any:
        """A value that depends on shapes alone, made once; at most eight are kept."""
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
            m, none = self.module, (0,) * (weight.ndim - 2)
            if weight.ndim == 4:
                return torch.conv2d(x, weight, bias, m.stride, self.padding, m.dilation, m.groups)
            return torch.convolution(x, weight, bias, m.stride, self.padding, m.dilation, False, none, m.groups)
        return self._called_with(x, weight, bias)

    def pull_back(self, s: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        """Transpose of the map: gradient of ``(s * map(x)).sum()`` with respect to `x`."""
        if self.is_dense:
            return s @ weight
        if self.is_plain_conv:
            return (
                each_sample(s, lambda flat: self._transposed(flat, blank(x, len(flat)), weight))
                if is_batched(s)
                else (self._transposed(s, x, weight))
            )
        return self.run(x, weight, None)[1](s)

    def _transposed(self, s: Tensor, x: Tensor, weight: Tensor) -> Tensor:
        m, none = self.module, (0,) * (weight.ndim - 2)
        return torch.ops.aten.convolution_backward(  # of the input only shape and memory format matter
            s, x, weight, None, m.stride, self.padding, m.dilation, False, none, m.groups, (True, False, False)
        )[0]

    def run(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """The map's value at `x`, a fresh tensor, and its transpose."""
        if self.is_dense or self.is_plain_conv:
            return self.apply(x, weight, bias), lambda s: self.pull_back(s, x, weight)
        # Unlike autograd.grad, this may be called inside of `torch.vmap`.
        z, transpose = torch.func.vjp(lambda t: self._called_with(t, weight, bias), x.detach())
        return z, lambda s: transpose(s)[0]

    def _called_with(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Run the module's own forward function with other parameters, whatever it does around them."""
        module = self.module
        has_bias = getattr(module, "bias", None) is not None
        if has_bias and bias is None:
            bias = weight.new_zeros(len(weight)) if isinstance(module, PLAIN_CONV) else torch.zeros_like(module.bias)
        kept = {k: module._parameters[k] for k in ("weight", "bias") if k in module._parameters}
        try:
            module._parameters["weight"] = weight
            if has_bias:
                module._parameters["bias"] = bias
            return self.forward(x)
        finally:
            module._parameters.update(kept)


class PadSame(Function):
    """Zeros around an input, as TensorFlow's "same" padding puts them; relevance of the zeros, always none, is cut."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, conv: nn.Module) -> Tensor:
        """Pad, one more at the end where the number is odd."""
        pads: list[int] = []
        axes = zip(x.shape[2:], conv.kernel_size, conv.stride, conv.dilation, strict=True)
        for size, kernel, stride, dilation in axes:
            n = max((-(-size // stride) - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
            pads = [n // 2, n - n // 2, *pads]
        ctx.inside = tuple(slice(first, first + size) for first, size in zip(pads[-2::-2], x.shape[2:], strict=True))
        return nn.functional.pad(x, pads)

    @staticmethod
    def backward(ctx: Any, relevance: Tensor) -> Any:
        """Cut."""
        return relevance[(..., *ctx.inside)], None


def positive(w: Tensor) -> Tensor:
    """The positive part."""
    return w.clamp(min=0)


def negative(w: Tensor) -> Tensor:
    """The negative part."""
    return w.clamp(max=0)


def same(w: Tensor) -> Tensor:
    """Unchanged."""
    return w


def is_batched(t: Tensor) -> bool:
    """Whether a `torch.vmap` runs over the tensor, so that nothing may be written into its partners."""
    return torch._C._functorch.is_batchedtensor(t)


def each_sample(batched: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    """Apply a function of (sample, ...) to all entries of a `torch.vmap` at once, as if they were further samples.

    For convolutions vmap does the same, but makes up an input for them that is written to memory and forgets the memory
    format.
    """
    functorch = torch._C._functorch
    level, axis = functorch.maybe_get_level(batched), functorch.maybe_get_bdim(batched)
    inner = functorch.get_unwrapped(batched).movedim(axis, 0)
    result = function(inner.flatten(0, 1)).unflatten(0, inner.shape[:2])
    return functorch._add_batch_dim(result, 0, level)


def blank(x: Tensor, n: int) -> Tensor:
    """`n` samples like those of `x`, in memory that nobody touches."""
    is_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    memory_format = torch.channels_last if is_last else torch.contiguous_format
    return torch.empty((n, *x.shape[1:]), dtype=x.dtype, device=x.device, memory_format=memory_format)


def _has_plain_padding(conv: nn.Module) -> bool:
    return getattr(conv, "padding_mode", "zeros") == "zeros" and not isinstance(conv.padding, str)
