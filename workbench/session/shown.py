"""A progress bar where someone can see it: in notebooks and terminals; log lines elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from workbench.core.progress import LoggingProgress, SilentProgress, TqdmProgress

__all__ = ["shown"]


@contextmanager
def shown(progress: Any) -> Iterator[None]:
    """Mirror a job's progress for as long as the context lasts."""
    listeners = getattr(progress, "listeners", None)
    if listeners is None:
        yield
        return
    mirror: SilentProgress = TqdmProgress(leave=True) if _someone_looks() else LoggingProgress()

    def listen(one: SilentProgress) -> None:
        if one.title != mirror.title:
            mirror.start(one.title, one.total)
        if (one.done, one.note) != (mirror.done, mirror.note):
            mirror.done, mirror.note = one.done, one.note
            mirror.report()

    listeners.append(listen)
    try:
        yield
    finally:
        listeners.remove(listen)
        if mirror.title:
            mirror.close()


def _someone_looks() -> bool:
    if "ipykernel" in sys.modules:
        return True
    return bool(getattr(sys.stderr, "isatty", lambda: False)())
