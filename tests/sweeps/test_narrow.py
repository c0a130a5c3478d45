"""Whole numbers come back as they were, from the smallest type that holds them."""

from __future__ import annotations

import pytest
import torch

from workbench.core.errors import BadValueError
from workbench.sweeps.narrow import narrow, widen


@pytest.mark.parametrize(
    ("most", "dtype"),
    [
        (-1, torch.uint8),
        (254, torch.uint8),
        (255, torch.int16),
        (2**15 - 2, torch.int16),
        (2**15 - 1, torch.int32),
        (2**31 - 2, torch.int32),
    ],
)
@pytest.mark.parametrize("given", [torch.int64, torch.int32])
def test_numbers_and_empty_slots_come_back_from_the_smallest_type(most, dtype, given):
    numbers = torch.tensor([[-1, 0, most], [most, -1, most // 2]]).clamp(min=-1).to(given)
    stored = narrow(numbers)
    assert stored.dtype == dtype
    assert torch.equal(widen(stored, given), numbers) and widen(stored).dtype == torch.int64
    assert bool((stored[numbers == -1] == 0).all()), "an empty slot is a zero in every type"


def test_every_number_of_a_byte_comes_back():
    numbers = torch.arange(-1, 255)
    assert narrow(numbers).dtype == torch.uint8 and torch.equal(widen(narrow(numbers)), numbers)


def test_no_numbers_are_no_bytes():
    assert narrow(torch.zeros(3, 0, dtype=torch.int64)).shape == (3, 0)


@pytest.mark.parametrize("bad", [-2, 2**31 - 1])
def test_what_does_not_fit_is_refused(bad):
    with pytest.raises(BadValueError, match=str(bad)):
        narrow(torch.tensor([0, bad]))
