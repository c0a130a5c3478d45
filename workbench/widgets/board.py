"""Laying components out on a board: coordinates that may coincide become cells that do not.

Each component gets a cell of its own, neighbours stay neighbours, and empty regions stay empty as far as there is room.
"""

from __future__ import annotations

import math

import numpy as np

from workbench.core import check
from workbench.core.errors import NotFiniteError, ShapeError

__all__ = ["arrange", "centres"]


def arrange(position: np.ndarray, *, aspect: float = 1.3, fill: float = 0.6) -> tuple[np.ndarray, tuple[int, int]]:
    """Assign each point a cell of a regular grid.

    The grid's free cells are placeholders where the plane is emptiest. Points and placeholders together are halved
    along the longer side, again and again, until each has a cell: order along both axes is kept as far as a grid can.

    Parameters
    ----------
    position : (component, 2), finite
        Coordinates; only their order of magnitude matters.
    aspect : float
        Columns per row.
    fill : float, above 0, at most 1
        Share of the cells that is taken. 1 gives a full rectangle.

    Returns
    -------
    (component, 2) int array, (columns, rows)
        Column and row of each component, rows from the top; no two alike. Equal input gives equal output.
    """
    fill = check.between("fill", fill, 0, 1, left_open=True)
    position = np.asarray(position, dtype=np.float64)
    if position.ndim != 2 or position.shape[1] != 2:
        raise ShapeError(f"Positions are (component, 2); got {position.shape}.")
    if not np.isfinite(position).all():
        raise NotFiniteError("A position is not a number.", hint="The layout of the atlas is damaged: fit it again.")
    n = len(position)
    if n == 0:
        return np.zeros((0, 2), dtype=np.int64), (1, 1)
    columns = max(1, math.ceil(math.sqrt(n / fill * aspect)))
    rows = max(1, math.ceil(n / fill / columns))
    span = np.ptp(position, axis=0)
    unit = (position - position.min(axis=0)) / np.where(span > 0, span, 1)
    unit[:, 1] = 1 - unit[:, 1]  # rows count from the top, coordinates from the bottom
    points = np.concatenate([unit, _emptiest(unit, columns, rows)])
    cell = np.empty((len(points), 2), dtype=np.int64)
    stack = [(np.arange(len(points)), 0, 0, columns, rows)]
    while stack:
        members, x, y, width, height = stack.pop()
        along = 0 if width >= height else 1
        if min(width, height) == 1:
            order = members[np.argsort(points[members, along], kind="stable")]
            cell[order, along] = (x, y)[along] + np.arange(len(order))
            cell[order, 1 - along] = (x, y)[1 - along]
            continue
        if along == 0:
            half = width // 2
            first, second = _halve(points[:, 0], members, half * height)
            stack += [(first, x, y, half, height), (second, x + half, y, width - half, height)]
        else:
            half = height // 2
            first, second = _halve(points[:, 1], members, half * width)
            stack += [(first, x, y, width, half), (second, x, y + half, width, height - half)]
    return cell[:n], (columns, rows)


def centres(cells: np.ndarray, groups: np.ndarray, n_groups: int) -> np.ndarray:
    """Where to write the name of each group: its members' median cell; NaN for groups without members."""
    found = np.full((n_groups, 2), np.nan, dtype=np.float32)
    for group in range(n_groups):
        members = cells[groups == group]
        if len(members):
            found[group] = np.median(members, axis=0) + 0.5
    return found


def _halve(values: np.ndarray, members: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    # Stable, so that equal coordinates always fall the same way.
    order = members[np.argsort(values[members], kind="stable")]
    return order[:count], order[count:]


def _emptiest(unit: np.ndarray, columns: int, rows: int) -> np.ndarray:
    """Centres of the cells that lie farthest from any point, as many as are to stay free."""
    free = columns * rows - len(unit)
    x = np.minimum((unit[:, 0] * columns).astype(int), columns - 1)
    y = np.minimum((unit[:, 1] * rows).astype(int), rows - 1)
    near = np.zeros((rows, columns), dtype=bool)
    near[y, x] = True
    distance = np.zeros((rows, columns), dtype=np.int64)
    while not near.all():
        distance[~near] += 1
        grown = near.copy()
        grown[1:] |= near[:-1]
        grown[:-1] |= near[1:]
        grown[:, 1:] |= near[:, :-1]
        grown[:, :-1] |= near[:, 1:]
        near = grown
    chosen = np.argsort(-distance.ravel(), kind="stable")[:free]
    row, column = np.unravel_index(chosen, distance.shape)
    return np.stack([(column + 0.5) / columns, (row + 0.5) / rows], axis=1)
