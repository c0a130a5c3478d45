"""Buffers, sheets and maps, and their budgets."""

import io
import json

import numpy as np
import pytest
from PIL import Image

from workbench.core.errors import BadValueError, ShapeError
from workbench.widgets import wire


@pytest.mark.parametrize(
    ("given", "sent"),
    [("float64", "float32"), ("float16", "float32"), ("int64", "int32"), ("bool", "uint8"), ("uint16", "uint16")],
)
def test_arrays_are_packed_in_what_javascript_knows(given, sent):
    array = np.arange(6).reshape(2, 3).astype(given)
    packed = wire.pack(array)
    assert packed["dtype"] == sent and packed["shape"] == [2, 3]
    assert np.array_equal(wire.unpack(packed), array)


def test_order_in_memory_and_endianness_do_not_matter():
    array = np.asfortranarray(np.arange(12, dtype=">f4").reshape(3, 4))
    assert wire.pack(array)["data"] == np.arange(12, dtype="<f4").tobytes()
    assert wire.pack(array[::2, ::-1])["data"] == np.arange(12, dtype="<f4").reshape(3, 4)[::2, ::-1].tobytes()


def test_what_cannot_be_sent_is_refused():
    with pytest.raises(BadValueError, match="cannot be sent"):
        wire.pack(np.array(["a"]))
    with pytest.raises(BadValueError, match="do not fit"):
        wire.pack(np.array([2**40]))
    assert wire.pack(np.zeros((0, 3)))["shape"] == [0, 3]


def test_a_trait_goes_there_and_back():
    to_json, from_json = wire.arrays["to_json"], wire.arrays["from_json"]
    value = {
        "a": np.arange(3, dtype=np.float32),
        "b": [{"c": np.ones((1, 2), dtype=np.int8)}],
        "d": "text",
        "e": float("nan"),
    }
    sent = to_json(value, None)
    assert sent["e"] is None and isinstance(sent["a"]["data"], bytes)
    back = from_json(sent, None)
    assert np.array_equal(back["a"], value["a"]) and back["b"][0]["c"].shape == (1, 2) and back["d"] == "text"


def test_an_answer_is_json_and_buffers():
    content, buffers = wire.extract(
        {"x": np.arange(4, dtype=np.uint8), "jpeg": b"abc", "n": np.int64(3), "s": (1.5, float("inf"))}
    )
    assert json.loads(json.dumps(content)) == {
        "x": {"dtype": "uint8", "shape": [4], "buffer": 0},
        "jpeg": {"buffer": 1},
        "n": 3,
        "s": [1.5, None],
    }
    assert buffers == [b"\x00\x01\x02\x03", b"abc"]


@pytest.mark.parametrize("sizes", [[], [0], [3], [10], [4, 0, 9, 1], [8, 8], [25]])
def test_large_answers_are_split_and_can_be_joined(sizes):
    buffers = [bytes([i]) * n for i, n in enumerate(sizes)]
    divided = wire.parts(buffers, limit=8)
    joined = [b""] * len(sizes)
    for part in divided:
        assert sum(len(piece) for _, piece in part) <= 8
        for number, piece in part:
            joined[number] += piece
    assert joined == buffers and divided


def test_a_sheet_holds_tiles_in_rows():
    tiles = np.stack([np.full((64, 96, 3), 20 * i, dtype=np.uint8) for i in range(7)])
    sheet = wire.sheet(tiles)
    assert (sheet["n"], sheet["columns"], sheet["width"], sheet["height"]) == (7, 3, 96, 64)
    image = np.asarray(Image.open(io.BytesIO(sheet["jpeg"])))
    assert image.shape == (192, 288, 3)
    for i in range(7):
        y, x = divmod(i, 3)
        assert abs(int(image[y * 64 + 32, x * 96 + 48, 0]) - 20 * i) <= 3


@pytest.mark.parametrize("size", [64, 50])
def test_tiles_do_not_bleed_into_one_another(size):
    tiles = [np.full((size, size, 3), colour, dtype=np.uint8) for colour in ([255, 0, 0], [0, 0, 255])]
    image = np.asarray(Image.open(io.BytesIO(wire.sheet(tiles)["jpeg"]))).astype(int)
    assert (
        abs(image[size // 2, size - 2] - [255, 0, 0]).max() < 30
        and abs(image[size // 2, size + 1] - [0, 0, 255]).max() < 30
    )


def test_sheets_are_bounded_and_checked():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (256, 64, 64, 3)).astype(np.uint8)
    assert len(wire.sheet(noise)["jpeg"]) < wire.MESSAGE_BYTES / 4
    assert wire.sheet([])["n"] == 0
    for wrong in (
        [*noise, noise[0]],
        [noise[0], noise[0][:32]],
        [np.zeros((8, 8), np.uint8)],
        [noise[0].astype(float)],
    ):
        with pytest.raises(ShapeError):
            wire.sheet(wrong)


def test_a_signed_map_keeps_zero_and_its_limit():
    heat = np.array([[0.0, 1e-3, -0.5], [2.0, np.nan, -2.0]])
    coded = wire.signed_map(heat)
    assert coded["map"].tolist() == [[0, 3, -64], [127, -128, -127]] and coded["limit"] == coded["bulk"] == 2.0
    assert (coded["low"], coded["high"]) == (-2.0, 2.0) and coded["total"] == pytest.approx(-0.499)
    assert wire.signed_map(np.zeros((2, 5)))["map"].tolist() == [[0] * 5] * 2
    with pytest.raises(ShapeError):
        wire.signed_map(np.zeros((1, 2, 3)))


def test_a_few_large_values_do_not_swallow_the_rest():
    heat = np.random.default_rng(0).normal(0, 1e-3, (100, 90))
    heat[3, 4] = 0.5
    coded = wire.signed_map(heat)
    assert coded["limit"] == 0.5 and 2e-3 < coded["bulk"] < 4e-3
    decoded = np.sign(coded["map"]) * (coded["map"] / 127.0) ** 2 * coded["limit"]
    assert np.abs(decoded - heat)[np.abs(heat) < 4e-3].max() < 3e-4


def test_weight_counts_what_travels():
    assert wire.weight({"ab": np.zeros(10, np.float32), "c": [b"xyz", "hello"]}) == 2 + 40 + 1 + 3 + 5
    assert wire.finite(np.float32("nan")) is None and wire.finite(2) == 2.0
