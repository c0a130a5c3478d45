"""Laying components out on a grid."""

import numpy as np
import pytest

from workbench.core.errors import BadValueError, NotFiniteError, ShapeError
from workbench.widgets.board import arrange, centres


def clustered(n, seed=0):
    rng = np.random.default_rng(seed)
    middle = rng.random((12, 2))
    return middle[rng.integers(0, 12, n)] + rng.normal(0, 0.03, (n, 2))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 1_280])
@pytest.mark.parametrize("fill", [0.3, 0.7, 1.0])
def test_no_two_share_a_cell_and_all_are_on_the_board(n, fill):
    cells, (columns, rows) = arrange(clustered(n), fill=fill)
    assert len({tuple(c) for c in cells}) == n
    assert (cells >= 0).all() and (cells[:, 0] < columns).all() and (cells[:, 1] < rows).all()
    assert columns * rows >= n / fill


@pytest.mark.parametrize(
    "position",
    [np.zeros((50, 2)), np.c_[np.arange(50), np.zeros(50)], np.r_[np.zeros((49, 2)), [[1e6, 1e6]]]],
    ids=["all alike", "on a line", "one far away"],
)
def test_odd_layouts_do_no_harm(position):
    cells, _ = arrange(position)
    assert len({tuple(c) for c in cells}) == 50


def test_neighbours_stay_neighbours():
    position = clustered(1_280)
    cells, _ = arrange(position, fill=0.7)
    far, near = (
        np.linalg.norm(position[:, None] - position[None], axis=2),
        np.linalg.norm(cells[:, None] - cells[None], axis=2),
    )
    np.fill_diagonal(far, np.inf)
    closest = near[np.arange(1_280), far.argmin(1)]
    # The nearest neighbour on the plane is within three cells for most; by chance it would be 20 cells away.
    assert np.median(closest) <= 3 and np.median(near) > 15


def test_up_is_up_and_right_is_right():
    position = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    cells, _ = arrange(position, fill=1.0, aspect=1.0)
    assert cells.tolist() == [[0, 1], [1, 1], [0, 0], [1, 0]]


def test_equal_input_gives_equal_output():
    assert np.array_equal(arrange(clustered(500))[0], arrange(clustered(500))[0])


def test_wrong_input_is_explained():
    with pytest.raises(ShapeError, match="component, 2"):
        arrange(np.zeros((5, 3)))
    with pytest.raises(NotFiniteError):
        arrange(np.full((5, 2), np.nan))
    with pytest.raises(BadValueError, match="fill"):
        arrange(np.zeros((5, 2)), fill=0)
    assert arrange(np.zeros((0, 2)))[1] == (1, 1)


def test_names_stand_in_the_middle_of_their_group():
    cells = np.array([[0, 0], [2, 0], [4, 0], [9, 9]])
    found = centres(cells, np.array([0, 0, 0, 2]), 3)
    assert found[0].tolist() == [2.5, 0.5] and np.isnan(found[1]).all() and found[2].tolist() == [9.5, 9.5]
