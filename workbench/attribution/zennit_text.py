"""What a zennit composite is made of, as a digest: its numbers hide in closures, and results must not be mixed up."""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

__all__ = ["zennit_digest"]

_DEEPEST = 12
_IN_USE = (
    "handles",
    "hook_refs",
    "canonizer_instances",
    "stored_tensors",
)  # what a composite holds only while it is entered


def zennit_digest(rule: Any) -> str:
    """A short text that two composites share only if they have the same classes, functions and numbers.

    Parameters
    ----------
    rule : zennit composite

    Returns
    -------
    str
        ``EpsilonGammaBox:`` and sixteen digits.
    """
    text = "\n".join(_lines(rule, _DEEPEST, []))
    return f"{type(rule).__name__}:{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}"


def _lines(value: Any, depth: int, above: list[int]) -> list[str]:
    """Everything that decides what a value does, line by line; functions by their code and what they close over."""
    if value is None or isinstance(value, (bool, int, float, complex, str, bytes)):
        return [repr(value)]
    if isinstance(value, (torch.Tensor, np.ndarray)):
        array = np.ascontiguousarray(torch.as_tensor(value).detach().cpu().numpy())
        return [f"{array.dtype}{array.shape}{hashlib.blake2b(array.tobytes(), digest_size=8).hexdigest()}"]
    if isinstance(value, (type, types.BuiltinFunctionType)):
        return [f"{value.__module__}.{value.__qualname__}"]
    if depth == 0 or id(value) in above:
        return [type(value).__qualname__]
    deeper = [*above, id(value)]
    found = [type(value).__qualname__]
    for name, part in _parts(value):
        found += [f"{name}:", *(f" {line}" for line in _lines(part, depth - 1, deeper))]
    return found


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, types.FunctionType):
        code = value.__code__
        named = [("name", value.__qualname__), ("code", code.co_code), ("names", repr(code.co_names))]
        inside = [c if not isinstance(c, types.CodeType) else c.co_code for c in code.co_consts]
        cells = [_content(cell) for cell in value.__closure__ or ()]
        return [*named, ("constants", inside), ("closed", cells), ("defaults", value.__defaults__)]
    if isinstance(value, types.MethodType):
        return [("function", value.__func__), ("of", value.__self__)]
    if isinstance(value, functools.partial):
        return [("function", value.func), ("arguments", value.args), ("keywords", value.keywords)]
    if isinstance(value, Mapping):
        return [(str(k), v) for k, v in value.items()]
    if isinstance(value, (set, frozenset)):
        return [(str(i), v) for i, v in enumerate(sorted(value, key=repr))]
    if isinstance(value, Sequence):
        return [(str(i), v) for i, v in enumerate(value)]
    return sorted((k, v) for k, v in getattr(value, "__dict__", {}).items() if k not in _IN_USE)


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None
