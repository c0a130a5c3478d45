"""Batch norm folded into the layer before it, on a private copy, and only where one forward pass proves it right."""

from __future__ import annotations

import copy
import logging
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import fusion

from workbench.core.errors import ModelError

__all__ = ["canonical_copy", "private_copy"]

logger = logging.getLogger(__name__)

_CONVOLUTION = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def private_copy(module: nn.Module) -> nn.Module:
    """A copy in eval mode whose parameters ask for no gradient; the original is left as it is."""
    try:
        twin = copy.deepcopy(module)
    except Exception as error:  # non-leaf tensors, open files, locks: torch and Python raise many kinds
        raise ModelError(
            f"{type(module).__name__} cannot be copied: {error}",
            hint="The workbench works on a copy, so that your model is never changed. Pass a function that builds the model.",
        ) from error
    for child in twin.modules():
        # Recorded outputs must keep their values, so nothing on the copy may overwrite them afterwards.
        if getattr(child, "inplace", False) is True:
            child.inplace = False
    return twin.eval().requires_grad_(False)


def canonical_copy(module: nn.Module, x: Tensor) -> tuple[nn.Module, list[tuple[str, str]]]:
    """Fold each batch norm into the convolution or dense layer that feeds it and nothing else.

    Which layer feeds which batch norm is read off one forward pass, by the identity of tensors, so that names and the
    order of registration do not matter; timm's batch norm with built-in activation becomes the activation alone.
    Names of modules stay as they are.

    Parameters
    ----------
    module : nn.Module
    x : (sample, ...) tensor
        Input for the proof that the output stays the same.

    Returns
    -------
    twin : nn.Module
    folded : list of (layer, batch norm)

    Raises
    ------
    ModelError
        If the folded copy computes something else, which happens when a layer's output is used twice outside modules.
    """
    twin = private_copy(module)
    pairs = _pairs(twin, x)
    if not pairs:
        return twin, []
    with torch.no_grad():
        before = _first_tensor(twin(x))
        for layer, norm in pairs:
            _fold(twin, layer, norm)
        after = _first_tensor(twin(x))
    error = float((before - after).abs().max() / before.abs().max().clamp(min=1e-12))
    if not error < 1e-3:
        raise ModelError(
            f"Folding {len(pairs)} batch norms changes the output by {error:.1e} of its largest value.",
            hint="Open the session with `batch norm` modules replaced by your own folded ones, and report the model.",
        )
    logger.debug("folded %d batch norms, output change %.1e", len(pairs), error)
    return twin, pairs


def _pairs(module: nn.Module, x: Tensor) -> list[tuple[str, str]]:
    """(layer, batch norm) where the norm runs once on the output of a layer that runs once and feeds nothing else."""
    made: dict[int, tuple[str, Tensor]] = {}
    uses: dict[int, int] = {}
    runs: dict[str, int] = {}
    fed: list[tuple[str, str, int]] = []
    handles = []
    for name, child in module.named_modules():
        if next(child.children(), None) is not None and not isinstance(child, nn.modules.batchnorm._BatchNorm):
            continue

        def before(one: nn.Module, args: Any, name: str = name) -> None:
            runs[name] = runs.get(name, 0) + 1
            for arg in args:
                if isinstance(arg, Tensor) and id(arg) in made:
                    uses[id(arg)] = uses.get(id(arg), 0) + 1
                    if isinstance(one, nn.modules.batchnorm._BatchNorm) and one.track_running_stats:
                        fed.append((made[id(arg)][0], name, id(arg)))

        def after(one: nn.Module, _: Any, output: Any, name: str = name) -> None:
            if isinstance(one, (*_CONVOLUTION, nn.Linear)) and isinstance(output, Tensor):
                made[id(output)] = (name, output)  # kept alive, so that no later tensor gets the same identity

        handles += [child.register_forward_pre_hook(before), child.register_forward_hook(after)]
    try:
        with torch.no_grad():
            module(x)
    finally:
        for handle in reversed(handles):
            handle.remove()
    return [(a, b) for a, b, key in fed if runs[a] == 1 and runs[b] == 1 and uses[key] == 1]


def _fold(module: nn.Module, layer_name: str, norm_name: str) -> None:
    layer, norm = module.get_submodule(layer_name), module.get_submodule(norm_name)
    weight = norm.weight if norm.weight is not None else torch.ones_like(norm.running_var)
    bias = norm.bias if norm.bias is not None else torch.zeros_like(norm.running_mean)
    args = (layer.weight, layer.bias, norm.running_mean, norm.running_var, norm.eps, weight, bias)
    if isinstance(layer, nn.Linear):
        layer.weight, layer.bias = fusion.fuse_linear_bn_weights(*args)
    else:
        layer.weight, layer.bias = fusion.fuse_conv_bn_weights(*args, transpose=isinstance(layer, _TRANSPOSED))
    layer.requires_grad_(False)
    parent, _, name = norm_name.rpartition(".")
    # timm's norm layers carry dropout and activation as children.
    rest = [one for one in (getattr(norm, "drop", None), getattr(norm, "act", None)) if _does_something(one)]
    instead = nn.Identity() if not rest else rest[0] if len(rest) == 1 else nn.Sequential(*rest)
    setattr(module.get_submodule(parent), name, instead.eval())


def _does_something(module: Any) -> bool:
    return isinstance(module, nn.Module) and not isinstance(module, nn.Identity)


def _first_tensor(output: Any) -> Tensor:
    if isinstance(output, Tensor):
        return output
    parts = output.values() if hasattr(output, "values") else output
    return next(p for p in parts if isinstance(p, Tensor))
