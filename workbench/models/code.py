"""What a module's own code does with its weights: two models of one shape may compute different things."""

from __future__ import annotations

import functools
import hashlib
import types
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

__all__ = ["code_identity"]

# Their classes are told apart by the module's text; their releases shall not make results stale.
_LIBRARIES = {"torch", "torchvision", "timm", "transformers", "open_clip", "numpy"}
_PLAIN = (int, float, complex, str, bytes, bool, type(None))


def code_identity(module: nn.Module) -> Iterator[str]:
    """Say what the forward passes of a module's own classes do, line by line.

    The text of a module shows its parts and not how they are put together, and a state dict leaves out plain
    attributes. So the compiled code of each ``forward`` is told, with what it uses: methods, helper functions,
    attributes and constants. Comments, file names and line numbers do not matter; classes of libraries are passed over.

    Parameters
    ----------
    module : nn.Module

    Yields
    ------
    str
        The same in the next process under the same version of Python.

    Examples
    --------
    >>> list(code_identity(nn.Linear(2, 2)))
    []
    """
    told: set[type] = set()
    for name, part in module.named_modules():
        for key, kept in sorted(part._buffers.items()):
            if key in part._non_persistent_buffers_set and kept is not None:
                yield f"{name}.{key}={_digest(kept)}"
        kind = type(part)
        if isinstance(part, torch.fx.GraphModule):
            yield f"{name}: {part.code}"
        elif not _is_library(kind) and hasattr(kind.forward, "__code__"):
            # What belongs to the class is told once, what belongs to the object each time.
            lines = list(_Walk(part).lines(kind.forward))
            yield from (f"{name}: {line}" for line in lines if kind not in told or line.startswith("self."))
            told.add(kind)


class _Walk:
    """Follows what a function of a module uses. Each function is told once, so recursion ends."""

    def __init__(self, part: nn.Module):
        self.part, self.seen = part, set[int]()

    def lines(self, function: Any) -> Iterator[str]:
        function = _unwrapped(function)
        code = getattr(function, "__code__", None)
        if not isinstance(code, types.CodeType) or id(code) in self.seen or _is_library(function):
            return
        self.seen.add(id(code))
        yield _code_digest(code)
        for value in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
            yield from self._value("default", value)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            if name != "__class__":
                yield from self._value(name, _content(cell))
        for name in _names(code):
            if name in vars(self.part):
                yield from self._value(f"self.{name}", vars(self.part)[name])
            elif (found := _of_class(type(self.part), name)) is not None:
                yield from self._value(name, found)
            elif name in function.__globals__:
                yield from self._value(name, function.__globals__[name])

    def _value(self, name: str, value: Any) -> Iterator[str]:
        if isinstance(value, property):
            value = value.fget
        if isinstance(value, functools.partial):
            for i, given in enumerate((*value.args, *value.keywords.values())):
                yield from self._value(f"{name}({i})", given)
            value = value.func
        if isinstance(value, torch.Tensor):
            yield f"{name}={_digest(value)}"
        elif _is_plain(value):
            yield f"{name}={value!r}"
        elif callable(value) or isinstance(value, (staticmethod, classmethod)):  # others may do anything when asked
            yield from (f"{name}: {line}" for line in self.lines(value))
            if _is_library(value) and hasattr(value, "__qualname__"):
                yield f"{name}: {value.__module__}.{value.__qualname__}"


def _unwrapped(function: Any) -> Any:
    """The function behind static and class methods, bound methods and decorators that say what they wrap."""
    while True:
        inner = getattr(function, "__func__", None) or getattr(function, "__wrapped__", None)
        if inner is None:
            return function
        function = inner


def _of_class(kind: type, name: str) -> Any:
    """What a class that is nobody's library defines under a name."""
    for base in kind.__mro__:
        if name in vars(base):
            return None if _is_library(base) else vars(base)[name]
    return None


def _is_library(thing: Any) -> bool:
    return str(getattr(thing, "__module__", "")).split(".")[0] in _LIBRARIES


def _is_plain(value: Any) -> bool:
    if isinstance(value, (tuple, list)):
        return all(_is_plain(v) for v in value)
    if isinstance(value, dict):
        return all(_is_plain(k) and _is_plain(v) for k, v in value.items())
    return isinstance(value, (*_PLAIN, torch.dtype))


def _content(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not filled yet
        return None


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            yield from _codes(const)


def _names(code: types.CodeType) -> list[str]:
    return sorted({name for part in _codes(code) for name in part.co_names})


def _code_digest(code: types.CodeType) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in _codes(code):
        consts = [
            sorted(map(repr, c)) if isinstance(c, frozenset) else c
            for c in part.co_consts
            if not isinstance(c, types.CodeType)
        ]
        digest.update(part.co_code + repr((part.co_names, consts)).encode())
    return digest.hexdigest()


def _digest(value: torch.Tensor) -> str:
    flat = value.detach().cpu().contiguous().flatten()
    head = f"{tuple(value.shape)}{value.dtype}".encode()
    return hashlib.blake2b(head + flat.view(torch.uint8).numpy().tobytes(), digest_size=8).hexdigest()
