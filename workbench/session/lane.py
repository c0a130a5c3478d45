"""Lanes: one worker thread each, one job at a time, latest wins within a topic.

All work on one model runs on its lane, because hooks live on the module and gradient mode belongs to a thread: two
threads in one model would corrupt each other. A widget has a lane too, on which it waits for the model's. Three rules
keep this free of dead ends:

- work submitted from within a lane to the same lane runs inline;
- a job that waits for another lane lends that lane's job its progress and its cancellation;
- a lane never waits for whoever listens to its jobs (`deliver.py` takes what they have to say elsewhere).
"""

from __future__ import annotations

import atexit
import contextlib
import contextvars
import inspect
import itertools
import logging
import threading
import time
import traceback
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from workbench.core.errors import CancelledError, WorkbenchError
from workbench.core.progress import CancelToken, SilentProgress, stopping_at

__all__ = ["Job", "JobFacts", "Lane", "current_job"]

logger = logging.getLogger(__name__)

_numbers = itertools.count(1)
_here = threading.local()
_STOPPED = ("done", "failed", "cancelled")

_ENDED = 50  # whose facts a lane keeps
_TRACE = 8000  # letters of a trace, from its end, where the error is


class _Reported(SilentProgress):
    """Progress of a job: counts like the silent one and tells whoever listens."""

    def __init__(self, token: CancelToken | None = None):
        super().__init__(token)
        self.listeners: list[Callable[[SilentProgress], None]] = []

    def report(self) -> None:
        for listener in list(self.listeners):
            listener(self)


@dataclass(frozen=True)
class JobFacts:
    """What is told of a job, at one moment: text and numbers, so that an old one keeps nothing alive.

    Attributes
    ----------
    number : int
    title : str
        Whose work it is, in words: of the job that waits for it, if there is one.
    state : {"waiting", "running", "done", "failed", "cancelled"}
    share : float
        Finished share, 0 to 1.
    is_counted : bool
        Whether it says how far it is.
    note : str
        What it is at.
    seconds : float
        How long it has run, or ran; 0 while it waits.
    ended : float
        When it ended, in seconds since 1970; 0 before.
    error : dict of str to str
        Of one that failed: message, hint, type and trace.
    """

    number: int
    title: str
    state: str
    share: float = 0.0
    is_counted: bool = False
    note: str = ""
    seconds: float = 0.0
    ended: float = 0.0
    error: dict[str, str] | None = None

    @property
    def has_ended(self) -> bool:
        """Whether it is over, in whatever way."""
        return self.state in _STOPPED


class Job:
    """A piece of work on a lane.

    Attributes
    ----------
    number : int
        Counts up over all jobs of the process: a higher number was asked for later.
    title, topic : str
        What is being done, and the topic within which only the newest job counts.
    state : {"waiting", "running", "done", "failed", "cancelled"}
    progress : Progress
        Its `share`, `title` and `note` may be read from any thread.
    asked_by : str
        Title of the job that waits for this one; empty if none does.
    """

    def __init__(self, call: Callable[[], Any] | None, *, title: str = "", topic: str | None = None):
        self.number = next(_numbers)
        self.title, self.topic, self.state = title, topic, "waiting"
        self.progress: SilentProgress = _Reported()
        self.asked_by = ""
        self._began = self._ran = self._ended_at = 0.0
        self._call = call
        self._context = contextvars.copy_context()  # what a job prints belongs to the cell that asked for it
        self._result: Any = None
        self._error: BaseException | None = None
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._callbacks: list[Callable[[Job], None]] = []

    @property
    def is_done(self) -> bool:
        """Whether the job has ended, in whatever way."""
        return self._ended.is_set()

    @property
    def error(self) -> BaseException | None:
        """Why it failed or was cancelled; None otherwise and before the end."""
        return self._error

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end, at most `timeout` seconds, and say whether it came."""
        return self._ended.wait(timeout)

    def result(self, timeout: float | None = None) -> Any:
        """Wait for the end and return what the work returned, or raise what it raised.

        Raises
        ------
        CancelledError
            If the job was cancelled.
        TimeoutError
            If it has not ended within `timeout` seconds; it goes on.
        """
        if not self._ended.wait(timeout):
            raise TimeoutError(f"{self.title or 'The job'} is still {self.state} after {timeout:g} s.")
        if self._error is not None:
            raise self._error
        return self._result

    def cancel(self) -> None:
        """End a waiting job at once; ask a running one to stop at its next step. Harmless on one that has ended."""
        self.progress.token.cancel()
        with self._lock:
            if self.state != "waiting":
                return
            self.state = "cancelled"
        self._end(error=CancelledError("The job was cancelled before it began."))

    def add_done_callback(self, callback: Callable[[Job], None]) -> None:
        """Call `callback(job)` at the end, on the lane's thread; at once if it has ended."""
        with self._lock:
            if not self._ended.is_set():
                self._callbacks.append(callback)
                return
        callback(self)

    def on_progress(self, listener: Callable[[SilentProgress], None]) -> None:
        """Call `listener(progress)` after each step, on the lane's thread: it must return at once."""
        if isinstance(self.progress, _Reported):
            self.progress.listeners.append(listener)

    def facts(self) -> JobFacts:
        """What there is to tell of it now."""
        progress, state = self.progress, self.state
        seconds = self._ran or (time.monotonic() - self._began if self._began else 0.0)
        name = self.title.strip("_ ").replace("_", " ")
        parts = [progress.title, progress.note] if state == "running" else []
        error = self._error
        return JobFacts(
            number=self.number,
            title=self.asked_by or name or "work",
            state=state,
            share=1.0 if state == "done" else progress.share,
            is_counted=bool(progress.total),
            note=" · ".join(filter(None, parts)),
            seconds=seconds,
            ended=self._ended_at,
            error=_told(error) if state == "failed" and error is not None else None,
        )

    def _begin(self) -> bool:
        with self._lock:
            if self.state == "waiting":
                self.state, self._began = "running", time.monotonic()
                return True
            return False

    def _run(self) -> None:
        if not self._begin():
            return
        before, _here.job = getattr(_here, "job", None), self
        try:
            self.progress.token.raise_if_cancelled()
            result = self._context.run(self._under_token)
        except CancelledError as error:
            self.state = "cancelled"
            self._end(error=error)
        except BaseException as error:  # the lane survives; whoever asks for the result gets it
            self.state = "failed"
            self._end(error=error)
        else:
            self.state = "done"
            self._end(result=result)
        finally:
            _here.job = before

    def _under_token(self) -> Any:
        assert self._call is not None
        with stopping_at(self.progress.token):  # noticed far below too, between two modules of the model
            return self._call()

    def _end(self, *, result: Any = None, error: BaseException | None = None) -> None:
        with self._lock:
            self._result, self._error = result, error
            self._ran = time.monotonic() - self._began if self._began else 0.0
            self._ended_at = time.time()
            self._call, self._context = None, contextvars.Context()  # a finished job keeps no arguments alive
            callbacks, self._callbacks = self._callbacks, []
            self._ended.set()
        for callback in callbacks:
            try:
                callback(self)
            except Exception:
                logger.exception("A callback of %r failed.", self)

    def __repr__(self) -> str:
        share = f" {self.progress.share:.0%}" if self.state == "running" and self.progress.total else ""
        return f"<job {self.number} {self.title or 'untitled'}: {self.state}{share}>"


def current_job() -> Job | None:
    """The job that the calling thread is running, if any."""
    return getattr(_here, "job", None)


class _Line:
    """The queue of a lane and its thread. The thread knows this and not the lane, so an unused lane can go."""

    def __init__(self, name: str):
        self.name = name
        self.waiting: deque[Job] = deque()
        self.running: Job | None = None
        self.ended: deque[JobFacts] = deque(maxlen=_ENDED)
        self.listeners: list[Callable[[], None]] = []
        self.changed = threading.Condition()
        self.thread: threading.Thread | None = None
        self.is_closed = False

    def put(self, job: Job) -> None:
        superseded: list[Job] = []
        with self.changed:
            if self.is_closed:
                raise CancelledError(
                    f"{self.name} is closed, so nothing more can be computed on it.",
                    hint="Open the session or the widget again.",
                )
            if job.topic is not None:
                superseded = [old for old in (self.running, *self.waiting) if old and old.topic == job.topic]
                self.waiting = deque(old for old in self.waiting if old.topic != job.topic)
            self.waiting.append(job)
            if self.thread is None:
                self.thread = threading.Thread(target=self.work, name=f"workbench-{self.name}", daemon=True)
                self.thread.start()
            self.changed.notify()
        for old in superseded:
            old.cancel()
        job.add_done_callback(lambda job: self.tell())  # one that is cancelled while it waits
        self.tell()

    def tell(self, *_: Any) -> None:
        for listener in list(self.listeners):
            try:
                listener()
            except Exception:  # whoever listens must not end the work
                logger.exception("A listener of the lane %s failed.", self.name)

    def work(self) -> None:
        while True:
            with self.changed:
                while not self.waiting and not self.is_closed:
                    self.changed.wait()
                if not self.waiting:
                    return
                job = self.running = self.waiting.popleft()
            self.run(job)
            with self.changed:
                self.running = None
                self.ended.append(job.facts())
                self.changed.notify_all()
            self.tell()
            del job  # an idle lane holds no result

    def run(self, job: Job) -> None:
        # The progress may be another job's, which outlives this one: it must not keep what listens here.
        heard = getattr(job.progress, "listeners", [])
        heard.append(self.tell)
        self.tell()
        try:
            job._run()
        finally:
            heard.remove(self.tell)

    def close(self, timeout: float = 0.0) -> None:
        with self.changed:
            self.is_closed = True
            left = [job for job in (self.running, *self.waiting) if job]
            self.waiting.clear()
            self.changed.notify_all()
        for job in left:
            job.cancel()
        if timeout and self.thread is not None and self.thread is not threading.current_thread():
            self.thread.join(timeout)


_lines: weakref.WeakSet[_Line] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    # A thread inside native code while the interpreter comes down may crash it: ask, and wait a moment.
    for line in list(_lines):
        line.close(timeout=2.0)


class Lane:
    """One worker thread for work that must not run twice at a time.

    Parameters
    ----------
    name : str
        Shown in thread lists and messages.

    Examples
    --------
    >>> lane = Lane("example")
    >>> lane.run(lambda: 6 * 7)
    42
    >>> lane.submit(sum, [1, 2, 3], topic="sums").result()
    6
    >>> lane.close()
    """

    def __init__(self, name: str = "lane"):
        self._line = _Line(name)
        _lines.add(self._line)
        self._finalizer = weakref.finalize(self, self._line.close)
        self._finalizer.atexit = False

    @property
    def name(self) -> str:
        """The lane's name."""
        return self._line.name

    @property
    def jobs(self) -> tuple[Job, ...]:
        """The running job and those that wait, in order."""
        with self._line.changed:
            return tuple(job for job in (self._line.running, *self._line.waiting) if job)

    def facts(self) -> tuple[JobFacts, ...]:
        """What runs, what waits, in order, and what has ended, newest first, at this moment."""
        with self._line.changed:
            live = [job.facts() for job in (self._line.running, *self._line.waiting) if job]
            ended = list(reversed(self._line.ended))
        return (*(one for one in live if not one.has_ended), *ended)

    def cancel(self, number: int) -> bool:
        """Cancel the running or waiting job of this number; whether there was one."""
        found = next((job for job in self.jobs if job.number == number and not job.is_done), None)
        if found is not None:
            found.cancel()
        return found is not None

    def listen(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener()` when a job is queued, begins, steps or ends; returns a function that ends it.

        It is called on the threads that work, often, and must return at once: `facts` tells what there is.
        """
        self._line.listeners.append(listener)

        def undo() -> None:
            with contextlib.suppress(ValueError):
                self._line.listeners.remove(listener)

        return undo

    @property
    def is_current(self) -> bool:
        """Whether the calling thread is this lane's."""
        return threading.current_thread() is self._line.thread

    def submit(
        self, fn: Callable[..., Any], *args: Any, topic: str | None = None, title: str = "", **kwargs: Any
    ) -> Job:
        """Queue `fn(*args, **kwargs)` and return its job. From within the lane it runs at once.

        Parameters
        ----------
        fn : callable
            If it has a parameter called `progress` and none is given, it gets the job's.
        topic : str, optional
            A waiting job of this topic is replaced, a running one is asked to stop.
        title : str, optional
            What people read; the function's name by default.

        Raises
        ------
        CancelledError
            If the lane is closed.
        """
        job = Job(None, title=title or getattr(fn, "__name__", "work"), topic=topic)
        job._call = _bound(fn, args, kwargs, job)
        if self.is_current:
            job._run()
        else:
            self._line.put(job)
        return job

    def run(self, fn: Callable[..., Any], *args: Any, title: str = "", **kwargs: Any) -> Any:
        """Do the work on the lane and wait for its result. Ctrl-C cancels it.

        Called from a job of another lane, the work reports through that job and stops with it.
        """
        outer = current_job()
        if self.is_current:
            call = _bound(fn, args, kwargs, outer) if outer is not None else lambda: fn(*args, **kwargs)
            return call()
        job = Job(None, title=title or getattr(fn, "__name__", "work"))
        if outer is not None:
            job.progress, job.asked_by = outer.progress, outer.asked_by or outer.title
        job._call = _bound(fn, args, kwargs, job)
        self._line.put(job)
        try:
            while not job.wait(0.05 if outer is not None else None):
                if outer is not None and outer.progress.token.is_cancelled:
                    job.cancel()
                    if job.state == "cancelled":
                        break
        except KeyboardInterrupt:
            job.cancel()
            # What the work undoes on its way out, hooks above all, must be undone before the next cell runs.
            job.wait(10.0)
            raise
        return job.result()

    def close(self, *, timeout: float = 0.0) -> None:
        """Cancel what is left and let the thread end; wait for it at most `timeout` seconds."""
        self._line.close(timeout)

    def __enter__(self) -> Lane:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close(timeout=5.0)

    def __repr__(self) -> str:
        state = "closed" if self._line.is_closed else f"{len(self.jobs)} jobs"
        return f"<lane {self.name}: {state}>"


def _bound(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], job: Job) -> Callable[[], Any]:
    if "progress" not in kwargs and _takes_progress(fn):
        kwargs = {**kwargs, "progress": job.progress}
    return lambda: fn(*args, **kwargs)


def _takes_progress(fn: Callable[..., Any]) -> bool:
    with contextlib.suppress(ValueError, TypeError):  # builtins have no signature
        return "progress" in inspect.signature(fn).parameters
    return False


def _told(error: BaseException) -> dict[str, str]:
    """An error in words: with its trace as text, since the exception would keep all it passed through."""
    if isinstance(error, WorkbenchError):
        message, hint = error.message, error.hint
    else:
        message, hint = f"{type(error).__name__}: {error}", ""
    return {
        "message": message,
        "hint": hint,
        "type": type(error).__name__,
        "trace": "".join(traceback.format_exception(error))[-_TRACE:],
    }
