"""A model on a device, with its layers, fingerprint and edits. The user's own module is read once and never changed."""

from __future__ import annotations

import copy
import hashlib
import logging
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench.core.errors import BadValueError, ModelError, NotFiniteError
from workbench.core.ids import Fingerprint
from workbench.core.results import Edit
from workbench.models.canonize import canonical_copy, private_copy
from workbench.models.code import code_identity
from workbench.models.device import exactly, wake
from workbench.models.edits import activation_edits, apply_weight_edits, check_edits
from workbench.models.hooks import record, stoppable
from workbench.models.layers import LayerTable, probe

if TYPE_CHECKING:
    from workbench.models.card import Card

__all__ = ["ModelHandle"]

logger = logging.getLogger(__name__)

_OUTPUT_KEYS = ("logits", "out", "output", "pred", "scores")


class ModelHandle:
    """A model ready to be explained.

    All work is done on a private copy in eval mode, with batch norm folded and nothing in place; models in half
    precision run in float32.

    Parameters
    ----------
    module : nn.Module
    card : Card
        Name, input size, transform, classes.
    device : torch.device or str
    edits : sequence of Edit
        Changes of this variant.

    Attributes
    ----------
    module : nn.Module
        The folded copy.
    layers : LayerTable
    calls : dict
        Calls of each module in one forward pass.
    fingerprint : Fingerprint
        Covers architecture, code of one's own classes, weights (before folding) and edits.
    folded : list of (layer, batch norm)
    output_shape : tuple of int
        Of the output for one sample.
    class_axis, n_classes : int
        Axis of the classes in the output, and their number. The axis is 1; of three axes it is the last, as in
        (sample, box, class_) and (sample, token, vocabulary).
    is_dense : bool
        Whether the output has positions (or boxes, or tokens) beside classes.
    memory_format : torch.memory_format
        Channels last where convolutions run on a CPU, where they are faster that way; else contiguous. Results are
        reproducible because a rule decides, never a stopwatch.
    """

    def __init__(self, module: nn.Module, card: Card, *, device: Any = "cpu", edits: Sequence[Edit] = ()):
        self.base, self.card, self.edits = module, card, tuple(edits)
        self.device = torch.device(device)
        self.kept: dict[str, Any] = {}
        self.fingerprint = _fingerprint(module, card.name, self.edits)
        self.dtype = next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)
        source = module
        if self.dtype in (torch.float16, torch.bfloat16):
            # Relevances are sums of many parts, for which half precision is too coarse: the copy that runs is wider.
            source, self.dtype = private_copy(module).float(), torch.float32
        if any(e.is_weight_edit for e in self.edits):
            check_edits([e for e in self.edits if e.is_weight_edit], LayerTable(card.name, []), module)
            source = private_copy(source)
            apply_weight_edits(source, self.edits)
        example = self.example(device=_device_of(module))
        probe(private_copy(source), example, name=card.name)  # fails with a clear message before anything is folded
        self.module, self.folded = canonical_copy(source, example)
        if self.dtype in (torch.float16, torch.bfloat16):  # too few digits for the divisions of the rules
            self.module.float()
            self.dtype = torch.float32
        self._runs_channels_last: bool | None = None
        self.to(self.device)
        self.layers, self.calls, output = probe(self.module, self.example(), name=card.name)
        logits = self.logits(output)
        self.output_shape = tuple(logits.shape[1:])
        self.class_axis = 2 if logits.ndim == 3 else 1
        self.n_classes = logits.shape[self.class_axis]
        self.is_dense = logits.ndim > 2
        check_edits(self.edits, self.layers, source)
        self._changes = activation_edits(self.edits, self.layers)

    def to(self, device: Any) -> ModelHandle:
        """Move the copy to a device."""
        self.device = torch.device(device)
        self.module.to(self.device)
        wake(self.device)
        self._set_format(torch.channels_last if self._wants_channels_last() else torch.contiguous_format)
        self.kept.clear()
        return self

    def _wants_channels_last(self) -> bool:
        if self.device.type != "cpu" or self.dtype != torch.float32 or not torch.backends.mkldnn.is_available():
            return False
        if self._runs_channels_last is None:
            self._runs_channels_last = self._try_channels_last()
        return self._runs_channels_last

    def _try_channels_last(self) -> bool:
        """Whether the copy computes the same with its channels last; code that calls ``view`` on maps cannot."""
        x = self.example(device="cpu")
        has_convolution = any(isinstance(m, torch.nn.Conv2d) for m in self.module.modules())
        if x.ndim != 4 or not has_convolution:
            return False
        with torch.no_grad():
            before = self.logits(self.module(x))
            self._set_format(torch.channels_last)
            try:
                after = self.logits(self.module(self.put(x)))
            except Exception as error:  # whatever a model may raise: it is then run as it was written
                logger.debug("%s does not run with channels last: %s", self.card.name, error)
                return False
        return bool((before - after).abs().max() <= 1e-3 * before.abs().max())

    def _set_format(self, memory_format: torch.memory_format) -> None:
        self.memory_format = memory_format
        for p in [*self.module.parameters(), *self.module.buffers()]:
            if p.ndim == 4:
                p.data = p.data.contiguous(memory_format=memory_format)

    @property
    def size_bytes(self) -> int:
        """Memory of parameters and buffers."""
        tensors = [*self.module.parameters(), *self.module.buffers()]
        return sum(t.numel() * t.element_size() for t in tensors)

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the outputs, as far as they are known."""
        return tuple(self.card.classes) if len(self.card.classes) == self.n_classes else ()

    def class_name(self, index: int) -> str:
        """Name of one output: of a class, or the text of a token."""
        if 0 <= index < len(self.classes):
            return self.classes[index]
        return self.card.token_text(index) or f"output {index}"

    def example(self, n: int = 2, *, device: Any = None) -> Tensor:
        """Noise of the model's input size, the same at each call."""
        noise = torch.randn((n, *self.card.input_shape), generator=torch.Generator().manual_seed(0))
        return noise.to(self.device if device is None else device, self.dtype)

    def logits(self, output: Any) -> Tensor:
        """The tensor to explain in what the model returns.

        Raises
        ------
        ModelError
            If there is no such tensor or more than one that could be meant.
        """
        if isinstance(output, (tuple, list)):
            tensors = [t for t in output if isinstance(t, Tensor) and t.ndim >= 2]
            if len(tensors) != 1:
                raise ModelError(
                    f"{self.card.name} returns a {type(output).__name__} with {len(tensors)} tensors of two or more "
                    "axes.",
                    hint="Wrap the model in a module that returns the one to explain.",
                )
            output = tensors[0]
        elif not isinstance(output, Tensor) and hasattr(output, "keys"):
            found = [k for k in _OUTPUT_KEYS if k in output] or [k for k in output if isinstance(output[k], Tensor)][:2]
            if len(found) == 0 or (len(found) > 1 and found[0] not in _OUTPUT_KEYS):
                raise ModelError(
                    f"{self.card.name} returns a mapping with the keys {', '.join(map(str, output))}; none is called "
                    f"{', '.join(_OUTPUT_KEYS[:3])}.",
                    hint="Wrap the model in a module that returns the tensor to explain.",
                )
            output = output[found[0]]
        if not isinstance(output, Tensor):
            raise ModelError(f"{self.card.name} returns a {type(output).__name__}, which cannot be explained.")
        if output.ndim == 1:  # a single output without its own axis
            output = output.unsqueeze(1)
        if output.ndim < 2:
            raise ModelError(f"{self.card.name} returns a single number for a whole batch.")
        if not output.is_floating_point():
            raise ModelError(
                f"{self.card.name} returns whole numbers ({output.dtype}), which cannot be explained.",
                hint="Return the scores from which they were chosen.",
            )
        return output

    def __call__(self, x: Tensor) -> Tensor:
        """Output for a batch, (sample, class_) or with more axes, without gradients and with this variant's edits."""
        with torch.no_grad(), self.edited():
            return self.logits(self.module(self.put(x)))

    def put(self, x: Tensor) -> Tensor:
        """The batch on the model's device, in its precision."""
        x = x.to(self.device, self.dtype, non_blocking=True)
        return x.contiguous(memory_format=self.memory_format) if x.ndim == 4 else x

    @contextmanager
    def edited(self, wrap: Callable[[Any], Any] | None = None, *, besides: Collection[str] = ()) -> Iterator[None]:
        """What holds for every pass: activation edits, exact products, and that a cancelled job ends between modules.

        Parameters
        ----------
        wrap : callable, optional
            Makes another function of each edit, as relevance rules do.
        besides : collection of str
            Layers whose edits are left out, because what they return is edited already.
        """
        with ExitStack() as stack:
            stack.enter_context(exactly(self.device))
            stack.enter_context(stoppable(self.module))
            if self._changes:
                changes = {k: wrap(v) if wrap else v for k, v in self._changes.items() if k not in besides}
                stack.enter_context(record(self.module, changes, lambda layer, t: changes[layer](t)))
            yield

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """Let activations overwrite their input where the model's author wrote them so.

        Saves a pass over memory for each; for passes without gradients in which every output is looked at as soon as
        it is there.
        """
        modules = [m for m in self.module.modules() if getattr(m, "was_in_place", False)]
        try:
            for m in modules:
                m.inplace = True
            yield
        finally:
            for m in modules:
                m.inplace = False

    def variant(self, edits: Sequence[Edit], *, name: str = "") -> ModelHandle:
        """A new handle with further edits; this one stays as it is."""
        from dataclasses import replace

        card = replace(self.card, name=name or f"{self.card.name}-variant")
        made = ModelHandle(self.base, card, device=self.device, edits=(*self.edits, *edits))
        made.layers.share_bases(self.layers)
        return made

    def steered(self, edits: Sequence[Edit]) -> ModelHandle:
        """The model with further edits of activations, at once: network, layers and patches are shared with this one.

        For a moment's question, where `variant` would copy and probe the network. It is not to be kept: who moves the
        model to another device moves both.

        Raises
        ------
        BadValueError
            If an edit changes weights, which are shared.
        """
        if wrong := next((e for e in edits if e.is_weight_edit), None):
            raise BadValueError(f'"{wrong.operation}" changes weights.', hint="Use variant: it copies the model.")
        check_edits(edits, self.layers, self.module)
        made = copy.copy(self)
        made.edits = (*self.edits, *edits)
        made._changes = activation_edits(made.edits, self.layers)
        facts = f"{self.fingerprint.digest}{[e.describe() for e in edits]}".encode()
        made.fingerprint = Fingerprint(hashlib.blake2b(facts, digest_size=16).hexdigest(), self.card.name)
        return made

    def __repr__(self) -> str:
        edits = f", {len(self.edits)} edits" if self.edits else ""
        return (
            f"<model {self.fingerprint} on {self.device}, {len(self.layers)} layers, {self.n_classes} outputs{edits}>"
        )


def _fingerprint(module: nn.Module, name: str, edits: Sequence[Edit]) -> Fingerprint:
    """Digest of the architecture's text, the code of its own classes, all weights and the edits.

    Raises
    ------
    NotFiniteError
        If a weight is NaN or infinite.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(re.sub(r" at 0x[0-9a-fA-F]+", "", repr(module)).encode())  # addresses differ from day to day
    digest.update("\n".join(code_identity(module)).encode())
    for key, value in sorted(module.state_dict().items()):
        if nn.parameter.is_lazy(value):
            raise ModelError(
                f'The weights "{key}" of {name} have no shape yet.', hint="Run the model once on a batch, then open it."
            )
        if not isinstance(value, Tensor):
            digest.update(f"{key}{value!r}".encode())
            continue
        if value.is_floating_point() and not bool(torch.isfinite(value).all()):
            raise NotFiniteError(
                f'The weights "{key}" of {name} contain NaN or infinity.',
                hint="Load another checkpoint; this one is broken.",
            )
        digest.update(f"{key}{tuple(value.shape)}{value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    if edits:
        digest.update(repr([e.describe() for e in edits]).encode())
    return Fingerprint(digest.hexdigest(), name)


def _device_of(module: nn.Module) -> torch.device:
    return next((p.device for p in module.parameters()), torch.device("cpu"))
