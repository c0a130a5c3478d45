"""Inputs are read ahead, in the order in which a sweep asks for them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from workbench.core.progress import current_token

if TYPE_CHECKING:
    from workbench.data.base import Dataset
    from workbench.models.handle import ModelHandle

__all__ = ["Reader", "reading_threads"]

_MOST_READERS = 8


def reading_threads(handle: ModelHandle, data: Dataset) -> int:
    """How many threads read at once: beside a model on a device most cores are free, beside one on the CPU none is."""
    if handle.device.type == "cpu" or not data.reads_in_parallel:
        return 1
    return min(_MOST_READERS, max(1, (os.cpu_count() or 2) - 1))


class Reader:
    """Reads the next batches in other threads while the model works on this one.

    Parameters
    ----------
    data : Dataset
    parts : sequence of (sample,) int64
        The batches, in the order in which they are asked for.
    n_threads : int
    pin : bool
        Whether to put them where a device can fetch them without waiting.
    """

    def __init__(self, data: Dataset, parts: Sequence[np.ndarray], *, n_threads: int = 1, pin: bool = False):
        self.data, self.pin = data, pin
        self._left, self._ahead = iter(parts), n_threads + 1
        self._coming: deque[Future[tuple[Tensor, list[int], list[Any]]]] = deque()
        self._threads = ThreadPoolExecutor(n_threads, thread_name_prefix="workbench-reader")

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        self._threads.shutdown(wait=True, cancel_futures=True)

    def next(self) -> tuple[Tensor, list[int], list[Any]]:
        """The next batch, as `Dataset.batch` gives it."""
        for ids in islice(self._left, self._ahead - len(self._coming)):
            self._coming.append(self._threads.submit(self._read, ids))
        coming, token = self._coming.popleft(), current_token()
        while (
            token is not None and not wait([coming], timeout=0.1).done
        ):  # a cancelled sweep does not wait for the disk
            token.raise_if_cancelled()
        return coming.result()

    def _read(self, ids: np.ndarray) -> tuple[Tensor, list[int], list[Any]]:
        x, read, skipped = self.data.batch(ids.tolist())
        return (x.pin_memory() if self.pin and len(x) else x), read, skipped
