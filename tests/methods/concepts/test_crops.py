"""Cutting references: blur, boxes and masks, against plain loops and at the edges."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.core.errors import BadValueError
from workbench.methods.concepts import crops


def slow_blur(heat, sigma):
    """A Gaussian, position by position, with the map mirrored beyond its edges."""
    reach = int(4 * sigma + 0.5)
    weights = {d: np.exp(-0.5 * (d / sigma) ** 2) for d in range(-reach, reach + 1)}
    total = sum(weights.values())

    def mirrored(i, n):
        i %= 2 * n
        return i if i < n else 2 * n - 1 - i

    height, width = heat.shape
    made = np.zeros_like(heat, dtype=float)
    for y in range(height):
        for x in range(width):
            for dy, wy in weights.items():
                for dx, wx in weights.items():
                    made[y, x] += wy * wx * heat[mirrored(y + dy, height), mirrored(x + dx, width)] / total**2
    return made


@pytest.mark.parametrize(("shape", "kernel"), [((9, 7), 19), ((12, 15), 60), ((4, 5), 300)])
def test_the_blur_equals_a_loop(shape, kernel):
    heat = np.random.default_rng(0).normal(size=shape)
    width = kernel * max(shape) / 224
    sigma = 0.3 * ((width - 1) * 0.5 - 1) + 0.8 if width > 3 else 0.5
    expected = slow_blur(heat, sigma)
    found = crops.smooth(heat, kernel=kernel)
    np.testing.assert_allclose(found, expected / np.abs(expected).max(), atol=1e-5)
    assert np.abs(found).max() == pytest.approx(1)


def test_the_blur_keeps_signs_and_zeros():
    assert (crops.smooth(np.zeros((5, 6))) == 0).all()
    negative = crops.smooth(-np.ones((5, 6)))
    assert (negative < 0).all() and negative.min() == pytest.approx(-1)


def test_a_box_holds_what_exceeds_the_threshold():
    heat = np.zeros((40, 60))
    heat[10:21, 30:36] = 1
    heat[10:21, 30:36][0, 0] = 0.5
    heat[0, 0] = 0.05
    top, left, bottom, right = crops.box_of(heat)
    assert bottom - top == right - left == 12, "square, with five per cent on each side"
    assert top <= 10 and bottom >= 21 and left <= 30 and right >= 36


@pytest.mark.parametrize("corner", [(0, 0), (0, 59), (39, 0), (39, 59)])
def test_boxes_stay_inside_of_the_picture(corner):
    heat = np.zeros((40, 60))
    heat[corner] = 1
    top, left, bottom, right = crops.box_of(heat)
    assert 0 <= top < bottom <= 40 and 0 <= left < right <= 60 and bottom - top == right - left
    assert top <= corner[0] < bottom and left <= corner[1] < right


def test_a_map_without_a_positive_part_gives_the_whole_picture():
    assert crops.box_of(-np.ones((7, 9))) == (0, 0, 7, 9) == crops.box_of(np.zeros((7, 9)))


def test_a_large_part_gives_no_more_than_the_picture():
    assert crops.box_of(np.ones((7, 9))) == (0, 1, 7, 8)


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_thresholds_lie_between_0_and_1(threshold):
    with pytest.raises(BadValueError, match="threshold"):
        crops.box_of(np.ones((3, 3)), threshold=threshold)


def test_the_box_of_a_peak_lies_where_the_cell_is():
    for peak in range(6 * 8):
        top, left, bottom, right = crops.peak_box(peak, (6, 8), (60, 80))
        y, x = divmod(peak, 8)
        centre = (y + 0.5) * 10, (x + 0.5) * 10
        assert 0 <= top < bottom <= 60 and 0 <= left < right <= 80 and bottom - top == right - left == 24
        assert top <= centre[0] <= bottom and left <= centre[1] <= right
    assert crops.peak_box(3, (), (60, 80)) == crops.peak_box(-1, (6, 8), (60, 80)) == (0, 0, 60, 80)
    assert crops.peak_box(0, (1, 1), (60, 80)) == (15, 25, 45, 55), "at most half of the picture"


def test_pictures_are_cut_and_scaled():
    picture = np.arange(10 * 12 * 3, dtype=np.uint8).reshape(10, 12, 3)
    np.testing.assert_array_equal(crops.crop(picture, (2, 3, 7, 8), 5), picture[2:7, 3:8])
    assert crops.crop(picture, (2, 3, 7, 8), 16).shape == (16, 16, 3)
    assert crops.resized(picture, 4).shape == (4, 4, 3) and crops.resized(picture, 4).dtype == np.uint8


def test_what_lies_below_the_threshold_fades():
    picture = np.full((4, 5, 3), 100, np.uint8)
    heat = np.zeros((4, 5))
    heat[1, 2] = 1.0
    found = crops.masked(picture, heat)
    assert (found[1, 2] == 100).all() and (abs(found[0, 0] - (100 * 0.3 + 235 * 0.7)) < 1).all()
    assert (picture == 100).all()
