import zlib

import numpy as np
import pytest
import torch

from workbench.core.errors import BadValueError, DamagedEntryError
from workbench.sweeps.squeeze import expand, is_squeezed, squeeze

TYPES = [torch.uint8, torch.int16, torch.int32, torch.int64, torch.float32]


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(3, 4), (1, 1), (0, 5), (5, 0), (2, 3, 4)])
def test_back_to_the_same_bits(dtype, shape):
    array = (torch.randn(shape, generator=torch.Generator().manual_seed(1)) * 50).to(dtype)
    back = expand(squeeze(array))
    assert back.dtype == dtype and back.shape == array.shape
    assert back.numpy().tobytes() == array.numpy().tobytes()


def test_special_values_keep_their_bits():
    bits = np.array([[0, 1 << 31, 0x7F800000, 0xFF800000, 0x7FC00001, 1]], dtype=np.uint32)
    array = torch.from_numpy(bits.view(np.float32))
    assert (expand(squeeze(array)).numpy().view(np.uint32) == bits).all()


def test_any_strides():
    array = torch.arange(12).reshape(3, 4).T
    assert torch.equal(expand(squeeze(array)), array)


def test_planes_as_written_down():
    array = torch.tensor([[0x01020304, 0x05060708]], dtype=torch.int32)
    raw = bytes(squeeze(array).tolist())
    assert raw[:2] == bytes([2, 2]) and np.frombuffer(raw[2:18], "<i8").tolist() == [1, 2]
    assert zlib.decompress(raw[18:]) == bytes([4, 8, 3, 7, 2, 6, 1, 5])


def test_low_bytes_of_values_stay_as_they_are():
    array = torch.tensor([[0x01020304, 0x05060708]], dtype=torch.int32).view(torch.float32)
    raw = bytes(squeeze(array).tolist())
    assert raw[:2] == bytes([4, 2]) and raw[18:22] == bytes([4, 8, 3, 7])
    assert zlib.decompress(raw[22:]) == bytes([2, 6, 1, 5])


def test_falling_values_take_a_quarter_less():
    values = torch.randn(500, 800, generator=torch.Generator().manual_seed(2)).sort(1, descending=True).values[:, :40]
    assert squeeze(values).nbytes < 0.75 * 4 * values.numel()


def test_what_is_not_squeezed_stays():
    column = torch.arange(5)
    assert not is_squeezed(column) and expand(column) is column


@pytest.mark.parametrize("array", [torch.zeros(3), torch.zeros(2, 2, dtype=torch.float64), torch.zeros(2, 2) > 0])
def test_others_are_refused(array):
    with pytest.raises(BadValueError, match="Only tables"):
        squeeze(array)


@pytest.mark.parametrize("harm", ["short", "type", "axes", "more", "less", "empty"])
def test_damage_is_told(harm):
    good = bytes(squeeze(torch.ones(4, 4)).tolist())
    head, body = good[:18] + bytes(32), good[50:]
    raw = {
        "short": good[:-6],
        "type": bytes([9]) + good[1:],
        "axes": good[:1] + bytes([200]) + good[2:],
        "more": head + zlib.compress(bytes(4000)),
        "less": head + zlib.compress(bytes(3)),
        "empty": good[:1],
    }[harm]
    with pytest.raises(DamagedEntryError, match="cannot be read"):
        expand(torch.frombuffer(bytearray(raw), dtype=torch.uint8))
    assert len(body)
