"""Edits that depend on what the uncorrected model says: two passes in one, the second from the edited layer on."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from workbench.core.errors import ModelError
from workbench.models.cut import Cut
from workbench.models.hooks import is_watched, patched_forward, record
from workbench.models.shifts import Shift

__all__ = ["TwoPasses"]

Change = Callable[[Tensor], Tensor]


class TwoPasses:
    """Runs a model once as it is and once with its gates set.

    The first pass runs on a twin that shares all weights and buffers, so that what watches or rules the model sees the
    second pass alone: an explanation is one of the corrected model. Without gradients, and where nothing watches below,
    the second pass begins at the gated layer.

    Parameters
    ----------
    module : nn.Module
    gates : sequence of Shift
        Those that ask for the output.
    layers : sequence of str
        Where they stand.
    plain : mapping of layer to function
        The edits without such conditions, which the first pass has too.
    logits : callable
        From what the model returns to (sample, class_).
    example : (sample, ...) tensor
    """

    def __init__(
        self, module: nn.Module, gates: Sequence[Shift], layers: Sequence[str], plain: Mapping[str, Change],
        logits: Callable[[Any], Tensor], example: Tensor,
    ):  # fmt: skip
        self._module, self._gates, self._plain, self._logits = module, list(gates), dict(plain), logits
        held = [*module.parameters(), *module.buffers()]
        self._twin = copy.deepcopy(module, {id(t): t for t in held})
        layers = list(dict.fromkeys(layers))
        # With gates at several layers, or one that the network cannot be parted at, both passes are whole.
        self._cut = Cut(module, layers[0], example) if len(layers) == 1 else None
        self._layer = layers[0]

    @contextmanager
    def running(self) -> Iterator[None]:
        """Make the model decide its gates at each forward pass, for as long as the context lasts."""
        forward = self._module.forward

        def run(x: Tensor, *args: Any, **kwargs: Any) -> Any:
            if args or kwargs:
                raise ModelError("A model with gated edits is called with its input alone.")
            raw: list[Tensor] = []
            with torch.no_grad(), ExitStack() as stack:
                stack.enter_context(record(self._twin, [self._layer], lambda _, t: raw.append(t)))
                stack.enter_context(record(self._twin, self._plain, lambda name, t: self._plain[name](t)))
                output = self._logits(self._twin(x.detach()))
            for gate in self._gates:
                gate.decide(output)
            try:
                if not self._may_go_on():
                    return forward(x)
                assert self._cut is not None
                with patched_forward(self._cut.patches(raw[0])):
                    return forward(self._cut.input(len(x)))
            finally:
                for gate in self._gates:
                    gate.decide(None)

        with patched_forward([(self._module, run)]):
            yield

    def _may_go_on(self) -> bool:
        """Whether the second pass may begin at the layer: nobody asks for gradients or for what lies below."""
        if self._cut is None or not self._cut.is_clean or torch.is_grad_enabled():
            return False
        at = self._module.get_submodule(self._layer)
        return not any(m is not at and is_watched(m) for m in self._cut.below)
