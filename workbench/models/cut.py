"""A network cut at one layer: the part below gives the layer's output, and the part above goes on from it alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from workbench.models.hooks import patched_forward, record

__all__ = ["Cut"]


class _Stop(Exception):
    """Ends a forward pass at the layer."""


class Cut:
    """Where a network can be parted.

    It can be where the output is the same to the last bit when everything else that was finished before the layer is
    NaN. Else, as within a residual block, `is_clean` is False and only whole passes are right.

    Parameters
    ----------
    module : nn.Module
    layer : str
    example : (sample, ...) tensor
        At least two inputs.

    Attributes
    ----------
    is_clean : bool
    below : frozenset of nn.Module
        Modules that are finished when the layer is, itself included, and all their parts.
    early : frozenset of nn.Module
        Modules that have run to an end by then, also those that run again later.
    """

    def __init__(self, module: nn.Module, layer: str, example: Tensor):
        self.module, self.layer = module, layer
        self._children = dict(module.named_modules())
        self._at = self._children[layer]
        self._n = len(example)
        self._outputs: dict[nn.Module, Any] = {}
        self.is_clean = False
        with torch.no_grad():
            expected, raw = self._watched(example)
            self._x = example
            self.below = frozenset(part for m in (*self._outputs, self._at) for part in m.modules())
            self._outputs.pop(self._at, None)
            try:
                with patched_forward(self.patches(raw)):
                    found = module(self.input(len(raw)))
                self.is_clean = _equal(expected, found)
            except Exception:  # whatever a model may raise when it is handed NaN: it cannot be parted here
                self.is_clean = False

    def _watched(self, x: Tensor) -> tuple[Any, Tensor]:
        """One pass: the outermost modules that were finished when the layer was, and what they gave."""
        seen: list[Any] = []
        early: set[nn.Module] = set()
        calls: dict[nn.Module, int] = {}

        def see(module: nn.Module, _: Any, output: Any) -> None:
            calls[module] = calls.get(module, 0) + 1
            if seen:
                return
            early.add(module)
            for part in module.modules():
                self._outputs.pop(part, None)
            self._outputs[module] = _detached(output)
            if module is self._at:
                seen.append(output)

        with ExitStack() as stack:
            for name, child in self._children.items():
                if name:
                    stack.callback(child.register_forward_hook(see).remove)
            output = self.module(x)
        self.early = frozenset(early)
        # One that runs again later computes then, and is not below.
        self._outputs = {m: out for m, out in self._outputs.items() if calls[m] == 1}
        return output, seen[0].detach().clone()

    def input(self, n: int) -> Tensor:
        """An input of `n` samples for the part above, which must not look at it."""
        return self._blank(self._x, n)

    def patches(self, activation: Tensor) -> list[tuple[nn.Module, Callable[..., Any]]]:
        """Forward functions with which the network goes on from the layer's output."""
        n = len(activation)
        others = [(m, _returns(self._blank(out, n))) for m, out in self._outputs.items()]
        return [*others, (self._at, _returns(activation))]

    def lower(self, x: Tensor, changes: Mapping[str, Callable[[Tensor], Tensor]] | None = None) -> Tensor:
        """The layer's output, after the changes of activations there and below; nothing above runs."""
        changes = {k: v for k, v in (changes or {}).items() if self._children[k] in self.below}
        found: list[Tensor] = []

        def stop(_: str, output: Tensor) -> None:
            found.append(output)
            raise _Stop

        with record(self.module, changes, lambda name, t: changes[name](t)), record(self.module, [self.layer], stop):
            try:
                self.module(x)
            except _Stop:
                pass
        return found[0]

    @contextmanager
    def _above(
        self, activation: Tensor, changes: Mapping[str, Callable[[Tensor], Tensor]] | None = None
    ) -> Iterator[None]:
        changes = {k: v for k, v in (changes or {}).items() if self._children[k] not in self.below}
        with patched_forward(self.patches(activation)):
            with record(self.module, changes, lambda name, t: changes[name](t)):
                yield

    def upper(self, activation: Tensor, changes: Mapping[str, Callable[[Tensor], Tensor]] | None = None) -> Any:
        """What the network returns if the layer's output is this; only where the cut is clean."""
        with self._above(activation, changes):
            return self.module(self.input(len(activation)))

    def _blank(self, value: Any, n: int) -> Any:
        if isinstance(value, Tensor):
            if not value.is_floating_point():
                return value
            shape = (n, *value.shape[1:]) if value.ndim and value.shape[0] == self._n else tuple(value.shape)
            return value.new_full((1,), float("nan")).expand(shape)
        if isinstance(value, tuple) and hasattr(value, "_fields"):
            return type(value)(*(self._blank(v, n) for v in value))
        if isinstance(value, (list, tuple)):
            return type(value)(self._blank(v, n) for v in value)
        if isinstance(value, Mapping):
            return {key: self._blank(v, n) for key, v in value.items()}
        return value


def _returns(value: Any) -> Callable[..., Any]:
    return lambda *_, **__: value


def _detached(value: Any) -> Any:
    """Shapes and kinds are what is needed: the values would hold the memory of a batch."""
    if isinstance(value, Tensor):
        is_float = value.is_floating_point()
        return value.detach().new_full((1,), float("nan")).expand(value.shape) if is_float else value.detach()
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_detached(v) for v in value))
    if isinstance(value, (list, tuple)):
        return type(value)(_detached(v) for v in value)
    if isinstance(value, Mapping):
        return {key: _detached(v) for key, v in value.items()}
    return value


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(_equal(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, Mapping):
        return all(_equal(v, b[k]) for k, v in a.items())
    return a == b
