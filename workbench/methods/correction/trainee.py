"""A private copy of a model whose upper part is trained: which weights move, and how a batch runs through it.

Batch norms stay as they are in evaluation, lower layers are frozen, and the base model is never touched. Where the
network can be parted at the layer, what lies below runs once per sample for a whole training.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from workbench.core import check
from workbench.core.errors import BadValueError, ModelError
from workbench.core.results import Edit
from workbench.models.canonize import private_copy
from workbench.models.cut import Cut
from workbench.models.edits import activation_edits, apply_weight_edits
from workbench.models.hooks import record

if TYPE_CHECKING:
    from workbench.models.handle import ModelHandle

__all__ = ["TRAINS", "Trainee"]

TRAINS = ("above", "head")
"""Which weights move: all of the layers above, or those of the last layer alone."""

Change = Callable[[Tensor], Tensor]


class Trainee:
    """A copy of a handle's model, to be trained above a layer.

    Parameters
    ----------
    handle : ModelHandle
        Its edits are part of the copy: what is corrected is the model as it stands.
    layer : str or None
        The layer whose activations stay; None trains the last layer, whatever lies below.
    trains : {"above", "head"}

    Attributes
    ----------
    module : nn.Module
        Batch norms are not folded, so that its weights are those of the user's model.
    moving : dict of str to Parameter
        What is trained.
    cut : Cut or None
        Where the copy is parted; None without a layer.

    Raises
    ------
    ModelError
        If the model's output or its edits cannot be trained with, or the activation at the layer cannot be found in
        the unfolded model.
    BadValueError
        If no weights lie above the layer.
    """

    def __init__(self, handle: ModelHandle, layer: str | None, trains: str = "above"):
        check.one_of("trains", trains, TRAINS)
        if handle.is_dense:
            raise ModelError(
                f"{handle.card.name} says more than one number per class; such models are not trained here."
            )
        if handle.reads_output:
            raise ModelError(
                "An edit of this model depends on its prediction, which would change while it is trained.",
                hint="Train first, then add the reactive edit to the result.",
            )
        self.handle, self.layer = handle, layer
        module = private_copy(handle.base)
        if next((p.dtype for p in module.parameters() if p.is_floating_point()), None) in (
            torch.float16,
            torch.bfloat16,
        ):
            module = module.float()
        apply_weight_edits(module, handle.edits)
        self.module = module.to(handle.device)
        folded = dict(handle.folded)
        self._changes: dict[str, Change] = {
            folded.get(name, name): change for name, change in activation_edits(handle.edits, handle.layers).items()
        }
        example = handle.example().contiguous()
        if layer is None:
            self.where, self.cut = "", None
        else:
            handle.layers.usable(layer)
            self.where = folded.get(layer, layer)
            self.cut = Cut(self.module, self.where, example)
        self._check(example)
        self.moving = self._found(example, trains if layer is not None else "head")
        for p in self.module.parameters():
            p.requires_grad_(False)
        for p in self.moving.values():
            p.requires_grad_(True)
        self._before = {name: p.detach().clone() for name, p in self.moving.items()}

    @property
    def is_cut(self) -> bool:
        """Whether the lower part need not run again."""
        return self.cut is not None and self.cut.is_clean

    def lower(self, x: Tensor) -> Tensor:
        """The layer's output for a batch, without gradients."""
        assert self.cut is not None
        with torch.no_grad():
            return self.cut.lower(self._put(x), self._changes)

    def forward(self, value: Tensor, *, at_layer: Change | None = None) -> Tensor:
        """The logits.

        Parameters
        ----------
        value : tensor
            Outputs of the layer where the copy `is_cut`, else inputs.
        at_layer : callable, optional
            Gives what takes the place of the layer's output.
        """
        if self.is_cut:
            assert self.cut is not None
            return self.handle.logits(self.cut.upper(value if at_layer is None else at_layer(value), self._changes))
        return self.whole(value, at_layer=at_layer)

    def whole(self, x: Tensor, *, at_layer: Change | None = None) -> Tensor:
        """The logits of inputs, every layer being run."""
        spots = {} if at_layer is None else {self.where: at_layer}
        with record(self.module, self._changes, lambda name, t: self._changes[name](t)):
            with record(self.module, spots, lambda name, t: spots[name](t)):
                return self.handle.logits(self.module(self._put(x)))

    def edits(self) -> list[Edit]:
        """What training changed, as weight edits of the base model."""
        return [
            Edit("replace", name, array=np.array(p.detach().cpu().numpy()))
            for name, p in self.moving.items()
            if not torch.equal(p.detach(), self._before[name])
        ]

    def linear_head(self) -> nn.Linear | None:
        """The dense layer that all above the layer amounts to, if that is ``W mean(a) + b``; else None.

        It is tried: a mean over positions that goes through this dense layer alone gives the model's logits.
        """
        weights = [(name, p) for name, p in self.moving.items() if p.ndim == 2]
        if len(weights) != 1 or not self.is_cut or self.cut is None:
            return None
        parent, _, own = weights[0][0].rpartition(".")
        head = self.module.get_submodule(parent)
        if not isinstance(head, nn.Linear) or own != "weight" or any(p.ndim > 2 for p in self.moving.values()):
            return None
        layer = self.handle.layers[self.layer or ""]
        a = self.lower(self.handle.example(3))
        with torch.no_grad():
            for one in (a, a + torch.randn(a.shape, generator=torch.Generator().manual_seed(1)).to(a)):
                pooled = layer.components_first(one).mean(2)
                if pooled.shape[1] != head.in_features:
                    return None
                expected = self.forward(one)
                if not torch.allclose(
                    head(pooled), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max() + 1e-6)
                ):
                    return None
        return head

    # --- inside ------------------------------------------------------------------------------------------------------

    def _put(self, x: Tensor) -> Tensor:
        return x.to(self.handle.device, self.handle.dtype)

    def _check(self, example: Tensor) -> None:
        """The copy must say what the handle says, and have at the layer what directions were found in."""
        with torch.no_grad():
            said, seen = self.whole(example), []
            expected = self.handle(example)
            if self.cut is not None:
                seen.append(self.lower(example))
                with self.handle.edited(), record(self.handle.module, [self.layer or ""], lambda _, t: seen.append(t)):
                    self.handle.module(self.handle.put(example))
        for name, a, b in (("output", said, expected), *((("layer", *seen),) if seen else ())):
            if a.shape != b.shape or not float((a - b).abs().max()) <= 1e-3 * float(b.abs().max() + 1e-6):
                if name == "output":
                    raise ModelError(f"A copy of {self.handle.card.name} says something else than the model itself.")
                raise ModelError(
                    f'"{self.layer}" gives something else before its batch norm is folded into it.',
                    hint="Choose the batch norm itself, or the layer after it.",
                )

    def _found(self, example: Tensor, trains: str) -> dict[str, nn.Parameter]:
        """The weights that reach the output without passing the layer, nor anything that was finished before it."""
        named = dict(self.handle.base.named_parameters())
        own = {n: p for n, p in self.module.named_parameters() if n in named and p.is_floating_point()}
        if self.cut is not None:
            below = {id(p) for m in self.cut.below for p in m.parameters()}
            early = {id(p) for m in self.cut.early for p in m.parameters(recurse=False)}
            own = {n: p for n, p in own.items() if id(p) not in below | early}
        for p in own.values():
            p.requires_grad_(True)
        spots = [] if self.cut is None else [n for n, m in self.module.named_modules() if m in self.cut.below]
        with torch.enable_grad(), record(self.module, spots, lambda _, t: t.detach()):
            output = self.handle.logits(self.module(self._put(example)))
            parts = [] if not own else torch.autograd.grad(output.sum(), list(own.values()), allow_unused=True)
        found = {n: p for (n, p), part in zip(own.items(), parts, strict=True) if part is not None}
        if trains == "head" and found:
            linear = [n for n in self.handle.layers.linear() if any(m.rpartition(".")[0] == n for m in found)]
            last = linear[-1] if linear else list(found)[-1].rpartition(".")[0]
            found = {n: p for n, p in found.items() if n.rpartition(".")[0] == last}
        if not found:
            raise BadValueError(
                f'No weights lie above "{self.layer}", so that nothing can be trained.', hint="Choose an earlier layer."
            )
        return found
