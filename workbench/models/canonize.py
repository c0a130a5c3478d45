"""Batch norm folded into the layer before it, on a private copy, and only where one forward pass proves it right."""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrize
from torch.overrides import TorchFunctionMode

from workbench.core.errors import ModelError

__all__ = ["canonical_copy", "private_copy"]

logger = logging.getLogger(__name__)

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_LINEAR = (nn.Conv1d, nn.Conv2d, nn.Conv3d, *_TRANSPOSED, nn.Linear)
_TOLERANCE = 1e-4

Pair = tuple[str, str]


def private_copy(module: nn.Module) -> nn.Module:
    """A copy in eval mode whose parameters ask for no gradient; the original is left as it is.

    On the copy nothing runs in place, and parametrised weights (weight norm, spectral norm) are plain ones.
    """
    if any(isinstance(m, torch.jit.ScriptModule) for m in module.modules()):
        raise ModelError(
            f"{type(module).__name__} is compiled to TorchScript, which hides its layers.",
            hint="Open the session with the module that it was made from.",
        )
    try:
        twin = copy.deepcopy(module)
    except Exception as error:  # non-leaf tensors, open files, locks: torch and Python raise many kinds
        raise ModelError(
            f"{type(module).__name__} cannot be copied: {error}",
            hint="The workbench works on a copy, so that your model is never changed. "
            "Pass a function that builds the model.",
        ) from error
    twin.eval()
    for child in list(twin.modules()):
        # Recorded outputs must keep their values, so nothing on the copy may overwrite them afterwards.
        if getattr(child, "inplace", False) is True:
            child.inplace = False
            child.was_in_place = True
        if parametrize.is_parametrized(child):
            _make_plain(child)
    return twin.requires_grad_(False)


def _make_plain(module: nn.Module) -> None:
    """Replace parametrised tensors by their values. torch's own function would break the original's class too."""
    names = list(module.parametrizations)  # type: ignore[arg-type]
    values = {name: getattr(module, name).detach().clone() for name in names}
    del module._modules["parametrizations"]
    module.__class__ = type(module).__bases__[0]
    for name, value in values.items():
        module.register_parameter(name, nn.Parameter(value))


def canonical_copy(module: nn.Module, x: Tensor) -> tuple[nn.Module, list[Pair]]:
    """Fold each batch norm into the convolution or dense layer that feeds it and nothing else.

    Which layer feeds which batch norm is read off one forward pass, by the identity of tensors, so that names and the
    order of registration do not matter; timm's batch norm with built-in activation becomes the activation alone. Names
    of modules stay as they are. A fold that changes the output after all is undone.

    Parameters
    ----------
    module : nn.Module
    x : (sample, ...) tensor
        Input for the proof that the output stays the same.

    Returns
    -------
    twin : nn.Module
    folded : list of (layer, batch norm)
    """
    twin = private_copy(module)
    pairs = _pairs(twin, x)
    if not pairs:
        return twin, []
    before = _outputs(twin, x)
    undo = {pair: _fold(twin, *pair) for pair in pairs}
    error = _change(before, _outputs(twin, x))
    if not error < _TOLERANCE:
        for pair in reversed(pairs):
            undo[pair]()
        pairs = [pair for pair in pairs if _fold_or_leave(twin, pair, x, before)]
    logger.debug("folded %d batch norms, output change %.1e", len(pairs), error)
    return twin, pairs


def _fold_or_leave(twin: nn.Module, pair: Pair, x: Tensor, before: list[Tensor]) -> bool:
    undo = _fold(twin, *pair)
    error = _change(before, _outputs(twin, x))
    if not error < _TOLERANCE:
        undo()
        logger.info("batch norm %s stays: folded into %s it would change the output by %.1e", *reversed(pair), error)
        return False
    return True


class _Uses(TorchFunctionMode):
    """Counts where the outputs of linear layers go: into modules, into functions outside of these, into the output."""

    _QUIET = (
        "__get__", "__len__", "size", "dim", "numel", "stride", "ndimension", "is_floating_point", "is_contiguous",
    )  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[int, tuple[str, Tensor]] = {}
        self.uses: dict[int, int] = {}
        self.inside = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called for each torch function that runs inside."""
        if not self.inside and getattr(func, "__name__", "") not in self._QUIET:
            self.use((args, kwargs))
        return func(*args, **(kwargs or {}))

    def use(self, something: Any) -> None:
        """Note that the tensors in a nest of sequences and mappings are used."""
        for tensor in _tensors(something):
            if id(tensor) in self.made:
                self.uses[id(tensor)] = self.uses.get(id(tensor), 0) + 1


def _pairs(module: nn.Module, x: Tensor) -> list[Pair]:
    """(layer, batch norm) where the norm runs once on the output of a layer that runs once and feeds nothing else."""
    watch = _Uses()
    runs: dict[str, int] = {}
    fed: list[tuple[str, str, int]] = []
    handles = []
    for name, child in module.named_modules():
        is_norm = isinstance(child, _BatchNorm)
        if isinstance(child, nn.Identity) or (next(child.children(), None) is not None and not is_norm):
            continue  # what lies inside of a container is seen by itself

        def before(one: nn.Module, args: Any, kwargs: Any, name: str = name) -> None:
            runs[name] = runs.get(name, 0) + 1
            watch.use((args, kwargs))
            if isinstance(one, _BatchNorm) and one.running_mean is not None:
                fed.extend((watch.made[id(t)][0], name, id(t)) for t in _tensors(args) if id(t) in watch.made)
            watch.inside += 1

        def after(one: nn.Module, _: Any, output: Any, name: str = name) -> None:
            watch.inside -= 1
            if isinstance(one, _LINEAR) and isinstance(output, Tensor):
                if not isinstance(one, nn.Linear) or output.ndim == 2:  # else its components are not on axis 1
                    watch.made[id(output)] = (name, output)  # with the tensor, so that no other gets its identity

        handles += [child.register_forward_pre_hook(before, with_kwargs=True), child.register_forward_hook(after)]
    try:
        with torch.no_grad(), watch:
            watch.use(module(x))
    finally:
        for handle in reversed(handles):
            handle.remove()
    return [(a, b) for a, b, key in fed if runs[a] == 1 and runs[b] == 1 and watch.uses[key] == 1]


def _fold(module: nn.Module, layer_name: str, norm_name: str) -> Callable[[], None]:
    """Fold one batch norm and return what undoes it. Numbers are combined in double precision."""
    layer: Any = module.get_submodule(layer_name)
    norm: Any = module.get_submodule(norm_name)
    parent_name, _, name = norm_name.rpartition(".")
    parent = module.get_submodule(parent_name)
    weight, bias = layer.weight, layer.bias

    def double(tensor: Tensor | None, otherwise: float) -> Tensor:
        like = norm.running_var if tensor is None else tensor
        exact = like.detach().to("cpu", torch.float64)
        return torch.full_like(exact, otherwise) if tensor is None else exact

    scale = double(norm.weight, 1.0) / (double(norm.running_var, 1.0) + norm.eps).sqrt()
    shift = double(norm.bias, 0.0) - double(norm.running_mean, 0.0) * scale
    exact = double(weight, 0.0)
    rest = [1] * (exact.ndim - 2)
    if isinstance(layer, _TRANSPOSED):
        by_group = exact.reshape(layer.groups, -1, *exact.shape[1:])  # (group, in, out, ...)
        exact = (by_group * scale.reshape(layer.groups, 1, -1, *rest)).reshape(exact.shape)
    else:
        exact = exact * scale.reshape(-1, 1, *rest)
    layer.weight = nn.Parameter(exact.to(weight), requires_grad=False)
    layer.bias = nn.Parameter((double(bias, 0.0) * scale + shift).to(weight), requires_grad=False)
    # timm's norm layers carry dropout and activation as children.
    left = [one for one in (getattr(norm, "drop", None), getattr(norm, "act", None)) if _does_something(one)]
    instead: nn.Module = nn.Identity() if not left else left[0] if len(left) == 1 else nn.Sequential(*left)
    setattr(parent, name, instead.eval())

    def undo() -> None:
        setattr(parent, name, norm)
        layer.weight, layer.bias = weight, bias

    return undo


def _outputs(module: nn.Module, x: Tensor) -> list[Tensor]:
    with torch.no_grad():
        return [t for t in _tensors(module(x)) if t.is_floating_point()]


def _change(before: list[Tensor], after: list[Tensor]) -> float:
    """The largest change of any output tensor, as a share of its largest value."""
    return max(
        (float((a - b).abs().max() / a.abs().max().clamp(min=1e-12)) for a, b in zip(before, after, strict=True)),
        default=0.0,
    )


def _tensors(something: Any) -> Iterator[Tensor]:
    if isinstance(something, Tensor):
        yield something
    elif isinstance(something, (tuple, list)):
        for part in something:
            yield from _tensors(part)
    elif hasattr(something, "values") and hasattr(something, "keys"):
        for part in something.values():
            yield from _tensors(part)


def _does_something(module: Any) -> bool:
    return isinstance(module, nn.Module) and not isinstance(module, nn.Identity)
