"""Whole numbers in few bytes: sample ids and positions are small, and an index holds millions of them."""

from __future__ import annotations

import torch
from torch import Tensor

from workbench.core.errors import BadValueError

__all__ = ["narrow", "widen"]

_TYPES = (torch.uint8, torch.int16, torch.int32)


def narrow(numbers: Tensor) -> Tensor:
    """Store whole numbers in the smallest of uint8, int16 and int32 that holds them.

    Each is stored plus one, so that an empty slot, which reads -1, is a zero in every type.

    Parameters
    ----------
    numbers : tensor of whole numbers, at least -1 and below 2^31 - 1

    Raises
    ------
    BadValueError
        If a number is out of range.
    """
    least, most = (int(numbers.min()), int(numbers.max())) if numbers.numel() else (0, 0)
    for dtype in _TYPES:
        if least >= -1 and most < torch.iinfo(dtype).max:
            return (numbers.to(torch.int64) + 1).to(dtype)
    raise BadValueError(f"Whole numbers from -1 to 2147483646 are kept; got {least} to {most}.")


def widen(stored: Tensor, dtype: torch.dtype = torch.int64) -> Tensor:
    """The numbers that `narrow` stored; -1 in empty slots."""
    return stored.to(dtype) - 1
