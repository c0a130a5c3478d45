"""Sessions on the small network, and a count of what their models do."""

from __future__ import annotations

import multiprocessing
import threading

import pytest

import workbench as wb
from workbench.testing.small import CLASSES, SMALL, Counter, small_data, small_net


@pytest.fixture
def open_small(tmp_path):
    """Open a session on a fresh copy of the small network; all of a test share a store. `data=False` is none."""
    opened = []

    def make(model=None, data=None, **options):
        options = {"store": tmp_path / "store", "transform": SMALL, "classes": CLASSES, **options}
        data = small_data() if data is None else None if data is False else data
        opened.append(wb.open_session(small_net() if model is None else model, data=data, **options))
        return opened[-1]

    yield make
    for session in opened:
        session.close()


@pytest.fixture
def small(open_small):
    """A session on 24 small pictures, nothing swept."""
    return open_small()


@pytest.fixture
def counting():
    """Count the forward passes of a session from now on."""
    counters = []

    def count(session):
        counters.append(Counter(session.model.module))
        return counters[-1]

    yield count
    for counter in counters:
        counter.handle.remove()


@pytest.fixture
def at_once():
    """Let `work(path, name, start)` run for several names at once, in processes or in threads."""

    def run(work, path, names, *, are_processes):
        context = multiprocessing.get_context("spawn") if are_processes else threading
        make = context.Process if are_processes else threading.Thread
        start = context.Barrier(len(names))
        workers = [make(target=work, args=(str(path), name, start)) for name in names]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join(120)
        assert all(getattr(worker, "exitcode", 0) == 0 for worker in workers)
        assert not any(worker.is_alive() for worker in workers)

    return run
