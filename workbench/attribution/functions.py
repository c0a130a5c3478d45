"""What happens outside of modules while a model runs: sums share relevance, other functions are counted."""

from __future__ import annotations

import dis
import sys
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from workbench.attribution.kernels import NormSum, PassThrough

__all__ = ["SharedSums", "WatchedFunctions"]

_SUMS = {"add", "add_", "__add__", "__iadd__", "__radd__"}


class SharedSums(TorchFunctionMode):
    """Lets sums of two tensors that depend on the input share relevance in proportion; none: as autograd does.

    ``a += b`` gives a fresh tensor either way, so that what was recorded of `a` stays as it is.
    """

    def __init__(self, epsilon: float | None):
        super().__init__()
        self.epsilon = epsilon

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called for each torch function that runs inside."""
        name = getattr(func, "__name__", "")
        terms = _terms(args, kwargs) if name in _SUMS else None
        if terms is None:
            return func(*args, **(kwargs or {}))
        a, b = terms
        alpha = (kwargs or {}).get("alpha", 1)
        if alpha != 1:
            b = b * alpha if self.epsilon is None else PassThrough.apply(b, lambda t: t * alpha)
        # `a.add_(b)` changes `a` itself, `a += b` binds the name anew and may get a fresh tensor.
        is_in_place = name == "add_" and not _is_operator(sys._getframe(1))
        total = self._sum(a.clone() if is_in_place else a, b)
        return a.copy_(total) if is_in_place else total

    def _sum(self, a: Tensor, b: Tensor) -> Tensor:
        if self.epsilon is None:
            return a + b
        return NormSum.apply(*torch.broadcast_tensors(a, b), self.epsilon)


class WatchedFunctions(TorchFunctionMode):
    """Counts functions that redistribute relevance and run outside of modules."""

    _QUIET = (
        "__get__", "__set__", "view", "reshape", "flatten", "permute", "transpose", "unsqueeze", "squeeze", "size",
        "dim", "contiguous", "cat", "stack", "chunk", "split", "__getitem__", "expand", "to", "detach", "shape",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, int] = {}
        self.is_on = True

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called for each torch function that runs inside."""
        name = getattr(func, "__name__", "")
        if self.is_on and name not in self._QUIET and any(isinstance(a, Tensor) and a.requires_grad for a in args):
            name = "residual sum" if name in _SUMS and _terms(args, kwargs) is not None else name.strip("_")
            self.seen[name] = self.seen.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


def _terms(args: Any, kwargs: Any) -> tuple[Tensor, Tensor] | None:
    """The two terms of a sum, if both depend on the input."""
    kwargs = kwargs or {}
    terms = [*args[:2], *(kwargs[k] for k in ("input", "other") if k in kwargs)]
    if len(terms) != 2 or "out" in kwargs:
        return None
    if all(isinstance(t, Tensor) and t.requires_grad and t.is_floating_point() for t in terms):
        return terms[0], terms[1]
    return None


def _is_operator(frame: Any) -> bool:
    """Whether the caller wrote an operator (``a += b``) and not a method call."""
    opcode = frame.f_code.co_code[frame.f_lasti]
    return dis.opname[opcode].startswith(("BINARY_OP", "INPLACE_"))
