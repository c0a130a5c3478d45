"""Giving freed memory back to the system.

glibc keeps freed blocks for later, and a sweep frees thousands of buffers between blocks that live on: the
process would grow with the number of images although nothing is held. Trimmed once a shard, it does not.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable

__all__ = ["give_back"]


def give_back() -> None:
    """Let the allocator return what it does not need; does nothing where the C library has no such function."""
    trim = _trim()
    if trim is not None:
        trim(0)


@functools.cache
def _trim() -> Callable[[int], int] | None:
    if not sys.platform.startswith("linux"):
        return None
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):  # musl
        return None
