"""Contextual decomposition: a network runs on two parts of its input, and each module keeps them apart.

The parts travel as the two halves of one batch, so that functions which are linear (sums, means, reshapes) need no
attention. Their sum is the ordinary activation at every module; a network where it is not has a function that is not
linear outside of modules, and is refused by whoever asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from workbench.core.errors import ModelError
from workbench.models.hooks import patched_forward

__all__ = ["decompose"]

_AFFINE = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d, _BatchNorm)
_LINEAR = (
    nn.Identity, nn.Flatten, nn.Dropout, nn.Dropout2d, nn.AvgPool1d, nn.AvgPool2d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d, nn.Unflatten,
)  # fmt: skip


@contextmanager
def decompose(module: nn.Module) -> Iterator[None]:
    """Have the leaf modules keep the two halves of a batch apart, for as long as the context lasts.

    The first half is the relevant part beta, the second the rest gamma.

    Raises
    ------
    ModelError
        If the rule of a module is not known.

    Notes
    -----
    Rieger et al. 2020 (CDEP), section 3 and Singh et al. 2019: of ``W (beta + gamma) + b`` beta gets ``W beta`` and
    the share ``|W beta| / (|W beta| + |W gamma|)`` of b, a half where both are zero; of a ReLU ``relu(beta)``, and
    gamma the rest; of a maximum both take what stands where the sum is largest.
    """
    patches = []
    for name, child in module.named_modules():
        if next(child.children(), None) is None and not isinstance(child, _LINEAR):
            patches.append((child, _rule(name, child)))
    with patched_forward(patches):
        yield


def _rule(name: str, module: nn.Module) -> Callable[[Tensor], Tensor]:
    forward = module.forward
    if isinstance(module, _AFFINE):
        return lambda x: _affine(forward, x, module)
    if isinstance(module, (nn.ReLU, nn.ReLU6)):
        return lambda x: _split(x, forward)
    if type(module) is nn.MaxPool2d:
        return lambda x: _largest(x, module)
    raise ModelError(
        f'Contextual decomposition is not defined for {type(module).__name__} ("{name}").',
        hint="Use RRR or RRClArC with this network.",
    )


def _affine(forward: Callable[[Tensor], Tensor], x: Tensor, module: Any) -> Tensor:
    beta, gamma = x.chunk(2)
    rest = forward(torch.zeros_like(beta[:1]))  # what comes of nothing: the bias
    first, second = forward(beta) - rest, forward(gamma) - rest
    a, b = first.abs(), second.abs()
    share = torch.where(a + b > 0, a / (a + b).clamp(min=1e-30), 0.5)
    return torch.cat([first + share * rest, second + (1 - share) * rest])


def _split(x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
    beta, gamma = x.chunk(2)
    own = function(beta)
    return torch.cat([own, function(beta + gamma) - own])


def _largest(x: Tensor, pool: nn.MaxPool2d) -> Tensor:
    beta, gamma = x.chunk(2)
    total = beta + gamma
    _, where = nn.functional.max_pool2d(
        total, pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode, return_indices=True
    )
    flat = where.flatten(2)
    parts = [part.flatten(2).gather(2, flat).reshape(where.shape) for part in (beta, gamma)]
    return torch.cat(parts)
