"""RunBar: what is the session doing, how far is it, and what memory does it use?"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import traitlets

from workbench.core.bars import Bars
from workbench.core.errors import BadValueError, CancelledError
from workbench.core.words import size
from workbench.session.deliver import deliver
from workbench.widgets import wire
from workbench.widgets.bars import bars
from workbench.widgets.base import SessionWidget, on, register_widget
from workbench.widgets.esm import css, esm
from workbench.widgets.handlers import at_most
from workbench.widgets.pacing import Paced
from workbench.widgets.stills import Still

if TYPE_CHECKING:
    import pandas as pd

    from workbench.session.lane import JobFacts

__all__ = ["RunBar"]

_EVERY_S = 0.25
_MEMORY_EVERY_S = 1.0
_WAITING = 20  # shown of a long queue
_ENDED = 6
_COLUMNS = ("title", "state", "share", "seconds", "note")
_TIERS = {"memory": "store in memory", "disk": "store on disk", "host": "this process", "device": "device"}


@register_widget("run_bar")
class RunBar(SessionWidget):
    """One slim bar: the session's jobs with their progress, memory per tier, and the last error.

    It is told when something happens on the session's lane and looks then, at most four times a second; while nothing
    runs it does nothing. Unfolded it lists what runs, what waits and what has ended, each with a button that cancels
    it; what was finished by then is kept.

    Parameters
    ----------
    source : Session
    **view
        `is_open` and the other traits.
    """

    _esm = esm("run_bar")
    _css = css("run_bar")

    is_open = traitlets.Bool(False, help="Whether jobs and memory are listed below the bar.").tag(sync=True, view=True)
    jobs = traitlets.Dict(help="Running and waiting jobs and the last that ended, with their progress.").tag(
        sync=True, **wire.arrays
    )
    tiers = traitlets.Dict(help="Bytes, budget, hits and misses of each tier of memory.").tag(sync=True, **wire.arrays)
    error = traitlets.Dict(help="The last error of a job: number, asked, message, hint, type and trace.").tag(
        sync=True, **wire.arrays
    )

    def bind(self, source: Any) -> None:
        if self.session is None:
            raise BadValueError(
                f"RunBar shows the jobs of a session; got {type(source).__name__}.",
                hint="Give it what open_session returned.",
            )
        self.add_class("wb-whole")  # on a board, a bar takes the whole width
        self._measured = -float("inf")
        self._dismissed = 0
        self._look = Paced(self._ask, _EVERY_S)
        self._undo += [self._look.stop, self.session.on_jobs(self._look)]
        self._look()

    # Looking ----------------------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        if not self._is_closed:
            deliver(self._submit_look, key=(id(self), "look"))

    def _submit_look(self) -> None:
        with contextlib.suppress(CancelledError):  # closed a moment ago
            self.submit(self._look_at_jobs, topic="look", title="A look at the jobs", quiet=True)

    def _look_at_jobs(self) -> None:
        jobs = self.session.jobs()
        is_busy = any(not job.has_ended for job in jobs)
        tiers = None
        # Memory moves slowly and may take a look at the disk: once a second, and when all has ended.
        if not is_busy or time.monotonic() - self._measured >= _MEMORY_EVERY_S:
            tiers = {"tiers": [_tier(name, one) for name, one in self.session.memory().items()]}
            self._measured = time.monotonic()
        deliver(self._take, self._listed(jobs), _last_error(jobs), tiers)

    def _listed(self, jobs: tuple[JobFacts, ...]) -> dict[str, Any]:
        live = [job for job in jobs if not job.has_ended]
        ended = [job for job in jobs if job.has_ended]
        return {
            "live": [_told(job) for job in live[: _WAITING + 1]],
            "ended": [_told(job) for job in ended[:_ENDED]],
            "n_waiting": sum(job.state == "waiting" for job in live),
        }

    def _take(self, jobs: dict[str, Any], error: dict[str, Any], tiers: dict[str, Any] | None) -> None:
        if self._is_closed:
            return
        with self.hold_sync():
            self.jobs = jobs
            if tiers is not None:
                self.tiers = tiers
            if error and error["number"] > self._dismissed:
                self.error = error

    # Acting -----------------------------------------------------------------------------------------------------------

    @on("cancel_job", number=at_most(2**53))
    def _on_cancel_job(self, number: int) -> dict[str, bool]:
        return {"found": self.session.cancel(number)}

    @on("forget_error")
    def _on_forget_error(self) -> None:
        self.forget_error()

    def forget_error(self) -> None:
        """Show the last error no longer."""
        self._dismissed = max(self._dismissed, self.error.get("number", 0))
        self.error = {}

    # What others get --------------------------------------------------------------------------------------------------

    def table(self) -> pd.DataFrame:
        """The jobs on show: what runs, what waits, what has ended, newest first."""
        import pandas as pd

        rows = [*self.jobs.get("live", ()), *self.jobs.get("ended", ())]
        index = pd.Index([row["number"] for row in rows], name="job", dtype="int64")
        return pd.DataFrame([{name: row[name] for name in _COLUMNS} for row in rows], index=index, columns=_COLUMNS)

    def plot(self, **layout: Any) -> Any:
        """Bytes per tier beside what it may take, a plotly figure."""
        tiers = self.tiers.get("tiers", [])
        used = {"used": [tier["bytes"] / 1e9 for tier in tiers]}
        limits = [(tier["budget_bytes"] or 0) / 1e9 for tier in tiers]
        return Bars("Memory per tier", "10^9 bytes", [tier["title"] for tier in tiers], used, limits).plot(**layout)

    # Keeping ----------------------------------------------------------------------------------------------------------

    def still(self) -> Still:
        live, tiers = self.jobs.get("live", []), self.tiers.get("tiers", [])
        running = next((job for job in live if job["state"] == "running"), None)
        asked = "Nothing is running" if running is None else f"{running['title']}: {running['share']:.0%}"
        title = self.title or "Jobs and memory"
        if not self.tiers:
            return Still(title, missing="The jobs are being looked up: `widget.wait()` waits for them.")
        rows = [(t["title"], t["bytes"] / t["budget_bytes"] if t["budget_bytes"] else 0.0, _words(t)) for t in tiers]
        notes = [
            f"{t['title'].capitalize()}: {t['hits']} found of {t['hits'] + t['misses']} asked for."
            for t in tiers
            if t["hits"] is not None
        ]
        if self.error:
            notes.append(f"Last error, {self.error['asked']}: {self.error['message']}")
        pictures = [bars(rows, "Memory used of what may be used.")] if rows else []
        return Still(title, asked, pictures, rows=self.table(), notes=notes)

    def describe(self) -> str:
        live = self.jobs.get("live", [])
        return f"{len(live)} jobs" if live else "nothing runs"


def _told(job: JobFacts) -> dict[str, Any]:
    return {
        "number": job.number,
        "title": job.title,
        "state": job.state,
        "share": job.share,
        "is_counted": job.is_counted,
        "note": job.note or (job.error["message"] if job.error else ""),
        "seconds": round(job.seconds, 1),
    }


def _tier(name: str, facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": name,
        "title": _TIERS.get(name, name),
        "bytes": float(facts["bytes"]),
        "budget_bytes": None if not facts.get("budget_bytes") else float(facts["budget_bytes"]),
        "hits": facts.get("hits"),
        "misses": facts.get("misses"),
        "entries": facts.get("entries"),
    }


def _last_error(jobs: tuple[JobFacts, ...]) -> dict[str, Any]:
    failed = next((job for job in jobs if job.error), None)
    return {} if failed is None else {"number": failed.number, "asked": failed.title, **(failed.error or {})}


def _words(tier: dict[str, Any]) -> str:
    of = f" of {size(tier['budget_bytes'])}" if tier["budget_bytes"] else ""
    return f"{size(tier['bytes'])}{of}"
