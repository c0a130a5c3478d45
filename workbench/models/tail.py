"""The part of a network above a layer, run again and again from what lies below it, which is computed once.

Steering asks what the output becomes when one layer is changed. Everything that is finished before that layer stays as
it is, so it is remembered, and modules that are done by then return what they returned before. Most of it is never
looked at again: what a later step would have to read is found out by trying, with NaN in place of all the rest, so
that nothing that matters can be missed. Without a change the output is the same to the last bit, or the network is run
whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench.core.errors import BadValueError
from workbench.models.device import exactly
from workbench.models.hooks import patched_forward, record

if TYPE_CHECKING:
    from workbench.models.handle import ModelHandle

__all__ = ["Tail"]

Change = Callable[[Tensor], Tensor]


class Tail:
    """The upper part of a model over one batch.

    Parameters
    ----------
    handle : ModelHandle
    layers : sequence of str
        Layers that will be changed. The part begins at the one that is finished first.
    x : (sample, ...) tensor
        Inputs of the model.

    Attributes
    ----------
    begins : str
        The layer from which the network is run.
    output : (sample, class_) tensor
        What the model says of the batch, on its device; with more axes where it says more.
    is_whole : bool
        Whether the network must be run from its input: it does something that cannot be taken up in the middle.
    n_bytes : int
        What is remembered.

    Raises
    ------
    BadValueError
        If no layer is named.
    """

    def __init__(self, handle: ModelHandle, layers: Sequence[str], x: Tensor):
        if not layers:
            raise BadValueError("A tail begins at a layer; name at least one.")
        for name in layers:
            handle.layers.usable(name)
        self.handle, self._x = handle, handle.put(x)
        with torch.no_grad(), handle.edited(), _Finished(handle, layers) as seen:
            self.output = handle.logits(handle.module(self._x.clone()))
        self.begins, self._is_done = seen.first, seen.names
        # What an edit makes of the uncorrected output is decided below, so that there is no going on from above.
        self._kept = None if handle.reads_output else self._needed(seen.outputs)
        self.is_whole = self._kept is None
        if self._kept is not None:
            real, self._x = self._x, _poison(self._x)
            if not self._is_right(self._kept):
                self._x = real

    @property
    def n_bytes(self) -> int:
        """Bytes that are remembered."""
        kept = [] if self._kept is None else [value for value, is_real in self._kept.values() if is_real]
        return sum(_size(value) for value in (self._x, *kept))

    def run(
        self, changes: Mapping[str, Change] | None = None, *, see: Callable[[str, Tensor], None] | None = None,
        watch: Sequence[str] = (),
    ) -> Tensor:  # fmt: skip
        """The model's output with some layers changed.

        Parameters
        ----------
        changes : mapping of layer to function of its output
            Layers that the tail was made for, or later ones.
        see : callable, optional
            ``see(layer, tensor)`` is called for the layers to `watch`, after their changes.

        Returns
        -------
        (sample, class_) tensor
            On the model's device.

        Raises
        ------
        BadValueError
            If a layer lies below the one at which the tail begins.
        """
        changes = dict(changes or {})
        if below := [name for name in (*changes, *watch) if name in self._is_done and name != self.begins]:
            raise BadValueError(
                f'"{below[0]}" is finished before "{self.begins}", at which this tail begins.',
                hint="Name all layers that will be changed when it is made.",
            )
        with torch.no_grad():
            return self._run(self._kept, changes, see, watch)

    def _needed(self, outputs: dict[nn.Module, Any]) -> dict[nn.Module, tuple[Any, bool]] | None:
        """The outputs that must be remembered, and NaN for the others; None if it cannot be done."""
        modules = list(outputs)
        n_real = 1
        while True:
            real = set(modules[-n_real:])
            kept = {m: (out, True) if m in real else (_poison(out), False) for m, out in outputs.items()}
            if self._is_right(kept):
                return kept
            if n_real >= len(modules):
                return None
            n_real = min(2 * n_real, len(modules))

    def _is_right(self, kept: dict[nn.Module, tuple[Any, bool]]) -> bool:
        """Whether the output is the same to the last bit."""
        try:
            with torch.no_grad():
                return torch.equal(self._run(kept, {}, None, ()), self.output)
        except Exception:  # whatever a model may raise when it is handed NaN: then it needs the real thing
            return False

    def _run(
        self, kept: dict[nn.Module, tuple[Any, bool]] | None, changes: Mapping[str, Change], see: Any,
        watch: Sequence[str],
    ) -> Tensor:  # fmt: skip
        handle = self.handle
        with ExitStack() as stack:
            stack.enter_context(exactly(handle.device))
            if kept is None:
                stack.enter_context(handle.edited())
            else:
                stack.enter_context(patched_forward((m, _returns(*one)) for m, one in kept.items()))
                stack.enter_context(handle.edited(besides=self._is_done))
            stack.enter_context(record(handle.module, changes, lambda name, t: changes[name](t)))
            if see is not None:
                stack.enter_context(record(handle.module, watch, see))
            return handle.logits(handle.module(_copy(self._x)))


class _Finished:
    """Which modules are finished when the first of some layers is, and what they returned.

    Of a module that is finished, its parts need not be remembered.
    """

    def __init__(self, handle: ModelHandle, layers: Sequence[str]):
        self._handle, self._layers = handle, set(layers)
        self._name_of = {module: name for name, module in handle.module.named_modules()}
        self.first = ""
        self.names: set[str] = set()
        self.outputs: dict[nn.Module, Any] = {}

    def __enter__(self) -> _Finished:
        self._stack = ExitStack()
        for module, name in self._name_of.items():
            if name:
                self._stack.callback(module.register_forward_hook(self._see).remove)
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()
        # A module that is called again later must compute then; its parts likewise.
        self.outputs = {m: out for m, out in self.outputs.items() if self._handle.calls.get(self._name_of[m], 0) == 1}

    def _see(self, module: nn.Module, _: Any, output: Any) -> None:
        if self.first:
            return
        name = self._name_of[module]
        self.names.add(name)
        for part in module.modules():
            self.outputs.pop(part, None)
        self.outputs[module] = _copy(output)
        if name in self._layers:
            self.first = name


def _returns(value: Any, is_real: bool) -> Callable[..., Any]:
    """A forward function that ignores its input. Real values are copied: what follows may write into them."""
    return lambda *_, **__: _copy(value) if is_real else value


def _copy(value: Any) -> Any:
    return _each(value, lambda t: t.detach() if t.stride() == (0,) * t.ndim else t.detach().clone())


def _poison(value: Any) -> Any:
    """NaN in the shape of a value, which takes no memory; whole numbers stay."""
    return _each(value, lambda t: t.new_full((1,), float("nan")).expand(t.shape) if t.is_floating_point() else t)


def _each(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_each(v, change) for v in value))
    if isinstance(value, (list, tuple)):
        return type(value)(_each(v, change) for v in value)
    if isinstance(value, Mapping):
        return {key: _each(v, change) for key, v in value.items()}
    return value


def _size(value: Any) -> int:
    sizes: list[int] = []

    def note(t: Tensor) -> Tensor:
        sizes.append(t.untyped_storage().nbytes())  # an expanded tensor has a shape and no room
        return t

    _each(value, note)
    return sum(sizes)
