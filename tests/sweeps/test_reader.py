from __future__ import annotations

import os
import threading
import time

import numpy as np
import pytest
import torch

from workbench.data import TorchData
from workbench.sweeps.reader import Reader, reading_threads
from workbench.testing.context import SmallData
from workbench.testing.nets import BiasFree, handle_of

PARTS = [np.array(ids) for ids in ([0, 1], [2, 3], [4], [5, 6], [7])]


class Slow(SmallData):
    """Batches that are ready in another order than they are asked for."""

    def __init__(self):
        super().__init__()
        self.threads, self.read, self.broken = set(), [], -1

    def batch(self, ids):
        self.threads.add(threading.get_ident())
        time.sleep(0.05 if 0 in ids else 0.01)
        self.read.append(ids[0])
        if self.broken in ids:
            raise OSError("the disk is gone")
        return super().batch(ids)


@pytest.mark.parametrize("n_threads", [1, 3])
def test_batches_come_in_order(n_threads):
    data = Slow()
    with Reader(data, PARTS, n_threads=n_threads) as reader:
        for ids in PARTS:
            x, read, skipped = reader.next()
            assert read == ids.tolist() and skipped == []
            assert torch.equal(x, torch.stack([data.tensor(int(i)) for i in ids]))
    assert len(data.threads) == n_threads and threading.get_ident() not in data.threads


def test_it_does_not_run_far_ahead():
    data = Slow()
    with Reader(data, PARTS, n_threads=2) as reader:
        reader.next()
        time.sleep(0.2)
        assert len(data.read) == 3


def test_an_error_comes_where_its_batch_would():
    data = Slow()
    data.broken = 4
    with Reader(data, PARTS, n_threads=2) as reader:
        assert [reader.next()[1][0] for _ in range(2)] == [0, 2]
        with pytest.raises(OSError, match="the disk is gone"):
            reader.next()


def test_leaving_early_stops_the_threads():
    before = threading.active_count()
    with Reader(Slow(), PARTS, n_threads=2) as reader:
        reader.next()
    assert threading.active_count() == before


def test_how_many_read(monkeypatch):
    handle = handle_of(BiasFree(), (3, 10, 8))
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    assert reading_threads(handle, SmallData()) == 1
    handle.device = torch.device("cuda")
    assert reading_threads(handle, SmallData()) == 8
    assert reading_threads(handle, TorchData([(torch.zeros(3, 12, 12), 0)])) == 1
    monkeypatch.setattr(os, "cpu_count", lambda: 4)
    assert reading_threads(handle, SmallData()) == 3
