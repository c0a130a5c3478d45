from __future__ import annotations

import threading
import warnings

import pytest
import torch

from workbench.core.errors import BadValueError, OutOfBudgetError
from workbench.models.device import choose_device, exactly, is_out_of_memory, wake

CUDA = torch.device("cuda")


def tf32():
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


def test_devices_are_chosen_and_checked():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in ("cpu", "cuda", "mps")
    for wrong in ("cpuu", "cuda:99", "tpu"):
        with pytest.raises(BadValueError, match=f'No device "{wrong}"') as error:
            choose_device(wrong)
        assert '"cpu"' in error.value.hint


def test_out_of_memory_is_recognised():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"))
    assert is_out_of_memory(RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"))
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
    assert not is_out_of_memory(ValueError("out of memory"))
    assert not is_out_of_memory(OutOfBudgetError("no more"))
    with pytest.raises(RuntimeError) as error:
        torch.empty(1 << 60)
    assert is_out_of_memory(error.value)


def test_products_are_exact_until_the_last_context_is_left():
    before = tf32()
    inside, leave = threading.Event(), threading.Event()

    def other():
        with exactly(CUDA):
            inside.set()
            leave.wait(5)

    thread = threading.Thread(target=other)
    with exactly(CUDA):
        assert tf32() == (False, False)
        thread.start()
        inside.wait(5)
    assert tf32() == (False, False)
    leave.set()
    thread.join()
    assert tf32() == before


def test_switches_are_put_back_after_an_error():
    before = tf32()
    with pytest.raises(KeyError), exactly(CUDA), exactly(CUDA):
        raise KeyError
    assert tf32() == before


def test_nothing_is_switched_on_a_cpu():
    before = tf32()
    with exactly(torch.device("cpu")):
        assert tf32() == before
    wake(torch.device("cpu"))


@pytest.mark.gpu
def test_no_warning_where_the_first_backward_step_is_a_product():
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        wake(CUDA)
        x = torch.ones(4, 4, device=CUDA, requires_grad=True)
        (x @ x).sum().backward()
