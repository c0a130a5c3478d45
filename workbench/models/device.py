"""Devices: which one to use, how exactly it computes, and how it says that its memory is full."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from workbench.core.errors import BadValueError, OutOfBudgetError

__all__ = ["choose_device", "exactly", "is_out_of_memory", "wake"]


def choose_device(device: str = "auto") -> torch.device:
    """The device for ``auto`` (GPU where there is one), or the one named.

    Raises
    ------
    BadValueError
        If the device is not there.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise BadValueError(f'No device "{device}": {error}', hint='Use "auto", "cpu" or "cuda".') from error
    return chosen


def wake(device: torch.device) -> None:
    """Have the device ready in torch's own backward thread.

    If the first thing that this thread does there is a matrix product, cuBLAS warns that there is no context yet.
    """
    if device.type == "cuda":
        with torch.inference_mode(False), torch.enable_grad():
            torch.ones(2, device=device, requires_grad=True).sum().backward()


_lock = threading.Lock()
_depth = 0
_before = (True, False)


@contextmanager
def exactly(device: torch.device) -> Iterator[None]:
    """Products in full float32 for as long as the context lasts.

    By torch's default, convolutions on CUDA round their inputs to TF32, with ten bits behind the point. In a deep
    network this moves LRP maps by up to three per cent of their maximum (EfficientNet-Lite0), so that the same recipe
    would mean other numbers on another device. The switches belong to the process; contexts may overlap in several
    threads, and the last one puts back what the first one found.
    """
    global _depth, _before
    if device.type != "cuda":
        yield
        return
    with _lock:
        if _depth == 0:
            _before = (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = _before


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception means that memory ran out, on any device."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) and not isinstance(error, OutOfBudgetError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
