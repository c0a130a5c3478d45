"""Which models of the process are on the device: the least recently used moves to host memory when space is short."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from workbench.core.errors import OutOfBudgetError
from workbench.store.words import size

if TYPE_CHECKING:
    from workbench.models.handle import ModelHandle

__all__ = ["Residency", "residency"]

logger = logging.getLogger(__name__)


class Residency:
    """Keeps models within a budget of device memory.

    A model is moved only while nothing runs on it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._handles: list[weakref.ref[ModelHandle]] = []  # least recently used first
        self._busy: dict[int, int] = {}

    @contextmanager
    def using(self, handle: ModelHandle, device: Any, budget_bytes: int | None) -> Iterator[None]:
        """Have the model on its device for as long as the context lasts.

        Raises
        ------
        OutOfBudgetError
            If the model alone is larger than the budget.
        """
        with self._lock:
            if budget_bytes is not None and handle.size_bytes > budget_bytes:
                raise OutOfBudgetError(
                    f"{handle.card.name} takes {size(handle.size_bytes)} and the device budget is "
                    f"{size(budget_bytes)}.",
                    hint="Open the session with a larger device_budget_gb.",
                )
            self._forget(handle)
            if budget_bytes is not None:
                self._make_room(handle, device, budget_bytes)
            if handle.device != device:
                handle.to(device)
            self._handles.append(weakref.ref(handle))
            self._busy[id(handle)] = self._busy.get(id(handle), 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._busy[id(handle)] -= 1

    def _make_room(self, handle: ModelHandle, device: Any, budget_bytes: int) -> None:
        others = [h for r in self._handles if (h := r()) is not None and h.device == device]
        used = handle.size_bytes + sum(h.size_bytes for h in others)
        for other in others:
            if used <= budget_bytes:
                return
            if not self._busy.get(id(other)):
                logger.info("%s moves to host memory", other.card.name)
                other.to("cpu")
                used -= other.size_bytes

    def _forget(self, handle: ModelHandle) -> None:
        self._handles = [r for r in self._handles if (h := r()) is not None and h is not handle]


residency = Residency()
"""The one of this process."""
