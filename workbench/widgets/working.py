"""How a widget works: jobs on its lane, the status line, results into traits, errors on show."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from workbench.core.config import settings
from workbench.core.errors import BadValueError, NotSweptError, WorkbenchError
from workbench.core.unasked import unasked
from workbench.session.deliver import deliver, flush
from workbench.session.lane import Job, Lane
from workbench.widgets import handlers

__all__ = ["Working"]

logger = logging.getLogger(__name__)


class Working:
    """The part of `SessionWidget` that has jobs; expects its traits."""

    if TYPE_CHECKING:
        session: Any
        status: Any
        progress: Any
        message: Any
        _problem: Any
        hold_sync: Any
        stale_reason: Callable[[], str]

    def _prepare(self, name: str) -> None:
        self._lane = Lane(name)
        self._pending: dict[int, Job] = {}
        self._newest: dict[str, int] = {}
        self._told: set[int] = set()
        self._failed_topics: set[Any] = set()
        self._missing: list[tuple[NotSweptError, Callable[[], None]]] = []
        self._jobs_lock = threading.RLock()
        self._here = threading.local()
        self._is_closed = False
        self._has_worked = False

    def submit(
        self,
        fn: Callable[..., Any],
        *args: Any,
        into: str | None = None,
        topic: str | None = None,
        title: str = "",
        quiet: bool = False,
        lane: Lane | None = None,
        **kwargs: Any,
    ) -> Job:
        """Do some work beside the notebook and the browser.

        Parameters
        ----------
        fn : callable
            Called with the rest of the arguments; gets `progress` if it has a parameter of that name.
        into : str, optional
            Trait that takes the result.
        topic : str, optional
            Only the newest job of a topic counts; an older one is cancelled and its answer dropped. `into`, if given,
            is the default.
        title : str
            What the status line says meanwhile.
        quiet : bool
            Leave the status line alone: for what is fetched by the dozen.
        lane : Lane, optional
            Another one of the widget's, for what takes long; the widget closes it.
        """
        topic = topic or into
        with self._jobs_lock, unasked(settings().ask_s):
            job = (lane or self._lane).submit(fn, *args, topic=topic, title=title, **kwargs)
            self._pending[job.number] = job
            if not quiet:
                self._has_worked = True
                self._told.add(job.number)
            if topic:
                self._newest[topic] = job.number
        job.on_progress(lambda progress: self._report())
        is_answered = getattr(self._here, "is_answering", False)

        def again() -> None:
            if not self._is_closed and not is_answered and self.is_newest(job):
                self.submit(fn, *args, into=into, topic=topic, title=title, quiet=quiet, lane=lane, **kwargs)

        job.add_done_callback(lambda job: self._ended(job, into, is_answered, again))
        self._report()
        return job

    def submit_unless(
        self,
        is_there: Any,
        fn: Callable[..., Any],
        *args: Any,
        into: str | None = None,
        topic: str | None = None,
        **rest: Any,
    ) -> Job | None:
        """Submit some work unless what it would give is on show already; then give up what else was under way to it."""
        if not is_there:
            return self.submit(fn, *args, into=into, topic=topic, **rest)
        self.settle(topic or into or "")
        return None

    def wait(self, timeout: float = 30.0) -> bool:
        """Wait until nothing is pending and everything has been sent; say whether that was reached.

        For scripts and tests. In strict mode errors of jobs and deliveries are raised here.
        """
        end = time.monotonic() + timeout
        while (left := end - time.monotonic()) > 0:
            with self._jobs_lock:
                jobs = list(self._pending.values())
            for job in jobs:
                job.wait(max(0.0, end - time.monotonic()))
            with self._jobs_lock:  # what has ended has handed over what it had to say by then
                is_idle = not self._pending
            if is_idle and flush(left) and not self._pending:
                return True
        return False

    def cancel(self) -> None:
        """Cancel what this widget is waiting for."""
        with self._jobs_lock:
            jobs = list(self._pending.values())
        for job in jobs:
            job.cancel()

    def settle(self, topic: str) -> None:
        """Keep what is on show: what was asked for under `topic` before is cancelled, and its answer is dropped.

        For a wish that has come back to what is there while something else was still on its way.
        """
        with self._jobs_lock:
            self._newest[topic] = -1
            jobs = [job for job in self._pending.values() if job.topic == topic]
        for job in jobs:
            job.cancel()

    def is_newest(self, job: Job) -> bool:
        """Whether no later job of the same topic was asked for."""
        return job.topic is None or self._newest.get(job.topic) == job.number

    def sweep(self) -> Job:
        """Sweep what the widget found missing, where that takes so long that it asks first; then go on.

        Raises
        ------
        BadValueError
            If nothing is missing.
        """
        with self._jobs_lock:
            missing, self._missing = self._missing, []
        if not missing:
            raise BadValueError("This widget waits for no sweep.", hint="`session.sweep(layers)` sweeps any layers.")
        wanted: dict[str, dict[str, Any]] = {str(one.sweep): one.sweep for one, _ in missing}
        names = ", ".join(dict.fromkeys(str(one["layers"]) for one in wanted.values()))
        self._problem = {}
        self._failed_topics.clear()

        def sweep(progress: Any = None) -> None:
            for one in wanted.values():
                self.session.sweep(**one, progress=progress)

        def go_on(job: Job) -> None:
            for error, again in missing:
                if job.state == "done":
                    deliver(again)
                else:  # cancelled: it can be started again, and goes on where it stopped
                    deliver(self._wait_for, error, again, job.title)

        job = self.submit(sweep, topic="sweep what is missing", title=f"Sweep of {names}")
        job.add_done_callback(go_on)
        return job

    @handlers.on("sweep")
    def _on_sweep(self) -> None:
        """The button beside what is missing."""
        self.sweep()

    def _wait_for(self, error: NotSweptError, again: Callable[[], None], asked: str) -> None:
        with self._jobs_lock:
            self._missing.append((error, again))
        if not self._is_closed:
            self._problem = handlers.problem(asked, error)
            self._report()

    def _ended(self, job: Job, into: str | None, is_answered: bool, again: Callable[[], None]) -> None:
        with self._jobs_lock:
            is_newest = self.is_newest(job)
            if is_newest and isinstance(job.error, NotSweptError):
                self._failed_topics.add(job.topic)
                if is_answered:  # the question has the error, and may be asked again
                    self._missing.append((job.error, again))
                else:
                    deliver(self._wait_for, job.error, again, job.title or job.topic or "")
                self._pending.pop(job.number, None)
                self._told.discard(job.number)
                self._report()
                return
            if is_newest and job.state == "done":
                self._failed_topics.discard(job.topic)
                if into:
                    deliver(self._put, into, job.result(0), job)
            elif is_newest and job.state == "failed" and job.error is not None and not is_answered:
                deliver(self._fail, job.title or job.topic or "", job.error, job.topic)
            self._pending.pop(job.number, None)
            self._told.discard(job.number)
            self._report()

    def _put(self, trait: str, value: Any, job: Job) -> None:
        if not self._is_closed and self.is_newest(job):
            setattr(self, trait, value)
            if self._problem and not self._failed_topics:
                self._problem = {}

    def _fail(self, asked: str, error: BaseException, topic: str | None = None) -> None:
        self._failed_topics.add(topic)
        self.show_error(asked, error)
        if settings().strict:
            raise error

    def show_error(self, asked: str, error: BaseException) -> None:
        """Show an error in the widget, one line with its hint; the trace goes to the log too."""
        if isinstance(error, WorkbenchError):
            logger.info("%s: %s failed: %s", type(self).__name__, asked or "a job", error, exc_info=error)
        else:
            logger.error("%s: %s failed.", type(self).__name__, asked or "a job", exc_info=error)
        if not self._is_closed:
            self._problem = handlers.problem(asked, error)
            self.status = "failed"

    def _report(self) -> None:
        deliver(self._set_status, key=(id(self), "status"))

    def _set_status(self) -> None:
        if self._is_closed:
            return
        with self._jobs_lock:
            jobs = [job for number, job in self._pending.items() if number in self._told]
        running = next((job for job in jobs if job.state == "running"), None)
        if jobs:
            job = running or jobs[0]
            note = " · ".join(filter(None, (job.title or job.progress.title, job.progress.note)))
            new = ("running" if running else "waiting", job.progress.share if running else 0.0, note)
        elif self._problem and self._missing:
            new = ("idle", 0.0, "A sweep waits to be started.")
        elif self._problem:
            new = ("failed", 0.0, "")
        elif reason := self.stale_reason():
            new = ("stale", 0.0, reason)
        else:
            new = ("ready" if self._has_worked else "idle", 0.0, "")
        with self.hold_sync():
            self.status, self.progress, self.message = new
