"""Where a job's progress is seen: a bar in notebooks and terminals, log lines elsewhere, or what the user handed in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from workbench.core.progress import Progress, SilentProgress, visible_progress

__all__ = ["shown"]


@contextmanager
def shown(progress: Any, given: Progress | None = None) -> Iterator[None]:
    """Mirror a job's progress for as long as the context lasts.

    Parameters
    ----------
    progress : Progress
        The job's.
    given : Progress, optional
        Where to; cancelling it stops the job. Default: a bar, or log lines. The job's own, as within the job of
        another lane, is seen where that one's is.
    """
    listeners = getattr(progress, "listeners", None)
    if listeners is None or given is progress:
        yield
        return
    mirror: Progress = given or visible_progress()
    seen: dict[str, Any] = {"title": "", "done": 0, "note": ""}

    def listen(one: SilentProgress) -> None:
        if one.title != seen["title"] or one.done < seen["done"]:
            seen.update(title=one.title, done=0, note="")
            mirror.start(one.title, one.total)
        if (one.done, one.note) != (seen["done"], seen["note"]):
            n = one.done - seen["done"]
            seen.update(done=one.done, note=one.note)
            mirror.step(n, note=one.note)

    listeners.append(listen)
    try:
        yield
    finally:
        listeners.remove(listen)
        if seen["title"]:
            mirror.close()
