"""Models share a device within a budget: the least recently used moves to host memory, never while it works.

Host memory stands in for the device. What counts is where a handle believes it is and when it is moved, so the handles
here note their moves; the last test, on a real device, looks at the parameters.
"""

from __future__ import annotations

import gc
import threading

import pytest
import torch

from workbench.core.errors import BadValueError, OutOfBudgetError
from workbench.session.residency import Residency
from workbench.testing.nets import handle_of
from workbench.testing.small import small_net

DEVICE = torch.device("meta")  # a name only: these handles do not move any memory


class Moving:
    """A model of one byte per letter of its name, which notes where it goes."""

    def __init__(self, name, log):
        self.card, self.size_bytes, self.device, self.log = self, len(name), torch.device("cpu"), log
        self.name = name

    def to(self, device):
        self.device = torch.device(device)
        self.log.append(f"{self.name} to {self.device.type}")


@pytest.fixture
def log():
    return []


@pytest.fixture
def residency():
    return Residency()


def test_the_least_recently_used_makes_room(residency, log):
    a, bb, c = (Moving(name, log) for name in ("a", "bb", "c"))
    for handle in (a, bb, a, c):
        with residency.using(handle, DEVICE, 3):
            assert handle.device == DEVICE
    assert log == ["a to meta", "bb to meta", "bb to cpu", "c to meta"]
    with residency.using(bb, DEVICE, 3):
        pass
    assert log[4:] == ["a to cpu", "bb to meta"] and c.device == DEVICE


def test_without_a_budget_all_stay(residency, log):
    handles = [Moving(name * 50, log) for name in "abc"]
    for handle in handles:
        with residency.using(handle, DEVICE, None):
            pass
    assert all(h.device == DEVICE for h in handles) and len(log) == 3


def test_a_model_that_works_is_not_moved(residency, log):
    a, b = Moving("a", log), Moving("b", log)
    with residency.using(a, DEVICE, 1):
        with residency.using(b, DEVICE, 1):
            assert a.device == b.device == DEVICE, "over budget for a moment, rather than wrong"
        with residency.using(a, DEVICE, 1), residency.using(a, DEVICE, 1):
            assert b.device.type == "cpu"
    assert log == ["a to meta", "b to meta", "b to cpu"]
    with residency.using(b, DEVICE, 1):
        assert a.device.type == "cpu"


def test_models_on_other_devices_do_not_count(residency, log):
    a, b = Moving("a", log), Moving("b", log)
    with residency.using(a, torch.device("cpu"), 1), residency.using(b, DEVICE, 1):
        pass
    assert log == ["b to meta"]


def test_a_model_beyond_the_budget_is_refused(residency, log):
    big, small = Moving("bbbb", log), Moving("s", log)
    with residency.using(small, DEVICE, 3):
        pass
    with pytest.raises(OutOfBudgetError, match="budget") as error, residency.using(big, DEVICE, 3):
        pass
    assert "device_budget_gb" in error.value.hint and isinstance(error.value, MemoryError)
    assert log == ["s to meta"], "nobody makes room for a model that cannot come"


def test_work_that_fails_frees_its_model(residency, log):
    a, b = Moving("a", log), Moving("b", log)
    with pytest.raises(ZeroDivisionError), residency.using(a, DEVICE, 1):
        1 / 0
    with residency.using(b, DEVICE, 1):
        assert a.device.type == "cpu"


def test_models_that_are_gone_take_no_room(residency, log):
    a, b = Moving("a", log), Moving("b", log)
    with residency.using(a, DEVICE, 1):
        pass
    del a
    gc.collect()
    with residency.using(b, DEVICE, 1):
        pass
    assert log == ["a to meta", "b to meta"]


def test_threads_never_meet_a_model_on_its_way(residency, log):
    handles = [Moving(name, log) for name in "abcd"]
    wrong, errors = [], []

    def work(number):
        try:
            for turn in range(200):
                handle = handles[(number + turn) % 4]
                with residency.using(handle, DEVICE, 2):
                    if handle.device != DEVICE:
                        wrong.append(handle.name)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong and not errors


# --- in sessions -----------------------------------------------------------------------------------------------------


def test_a_session_over_its_budget_says_so(open_small):
    s = open_small(device_budget_gb=1e-9)
    with pytest.raises(OutOfBudgetError, match=r"Small takes \d.* [kM]?B and the device budget is 1 B") as error:
        s.explain(3)
    assert "device_budget_gb" in error.value.hint and "1 B" in error.value.message
    assert open_small(device_budget_gb=1.0).explain(3).heatmap.isfinite().all()


@pytest.mark.parametrize("budget", [0, -1, "much", float("nan")])
def test_a_budget_is_a_positive_number(open_small, budget):
    with pytest.raises((BadValueError, TypeError), match="device_budget_gb"):
        open_small(device_budget_gb=budget)


@pytest.mark.gpu
def test_on_a_real_device():
    """Two models of which one fits: each computes the same wherever the other was meanwhile."""
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    residency, device = Residency(), torch.device("cuda")
    one, other = (handle_of(small_net(), (3, 12, 12)) for _ in range(2))
    x = torch.randn(2, 3, 12, 12)
    expected = one(x)
    for handle in (one, other, one):
        with residency.using(handle, device, one.size_bytes):
            assert next(handle.module.parameters()).device.type == "cuda"
            torch.testing.assert_close(handle(x).cpu(), expected, rtol=1e-4, atol=1e-5)
    assert next(other.module.parameters()).device.type == "cpu"
