"""Exact nearest neighbours by matrix product, and how well a plane keeps them.

The product of rows is computed in blocks, each pair of blocks once; per row only the best are kept. So memory stays
within a budget, up to about a million rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.core import check
from workbench.core.errors import NotFiniteError, ShapeError
from workbench.core.progress import Progress, SilentProgress
from workbench.core.sampling import evenly

__all__ = ["DISTANCES", "Neighbours", "Prepared", "exact_neighbours", "prepared", "trustworthiness"]

DISTANCES = ("correlation", "cosine", "euclidean")

# Products of float32 that are closer than this cannot be told apart: they count as ties, which go by number.
_ROUNDING = 1e-6
_BLOCK = 2048
_REFINED_AT_ONCE = 1 << 24


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest other rows of each row.

    Attributes
    ----------
    ids : (row, neighbour) int32
        Nearest first, ties by the smaller number; -1 in empty slots.
    distance : (row, neighbour) float32
        At least 0; inf in empty slots.
    """

    ids: np.ndarray
    distance: np.ndarray


@dataclass(frozen=True, eq=False)
class Prepared:
    """Vectors made ready for one distance.

    Attributes
    ----------
    rows : (row, dim) float32 tensor
        Of unit length for correlation and cosine, so that products are similarities; centred for euclidean.
    has_direction : (row,) bool tensor
        False where the distance is not defined: constant rows under correlation, rows of zeros under cosine. Their
        `rows` are zeros.
    distance : str
    """

    rows: Tensor
    has_direction: Tensor
    distance: str

    def __len__(self) -> int:
        return len(self.rows)

    def only(self, where: Any) -> Prepared:
        """Some of the rows."""
        where = torch.as_tensor(where)
        return Prepared(self.rows[where], self.has_direction[where], self.distance)


def prepared(vectors: Any, distance: str = "correlation", *, device: Any = None) -> Prepared:
    """Check vectors and make them ready for a distance.

    Parameters
    ----------
    vectors : (row, dim) array or tensor
        NaN and infinity are refused.
    distance : {"correlation", "cosine", "euclidean"}
        One minus the correlation, one minus the cosine, or the length of the difference.
    device : torch device, optional
        Default: where the vectors are.

    Raises
    ------
    NotFiniteError
        If a vector holds NaN or infinity.
    """
    check.one_of("distance", distance, DISTANCES)
    x = torch.as_tensor(np.asarray(vectors) if not isinstance(vectors, Tensor) else vectors)
    if x.ndim != 2:
        raise ShapeError(f"Vectors must have the axes (row, dim); got the shape {tuple(x.shape)}.")
    x = x.to(device=device, dtype=torch.float32)
    is_fine = torch.isfinite(x).all(1)
    if not bool(is_fine.all()):
        first = int((~is_fine).nonzero()[0])
        raise NotFiniteError(
            f"Vector {first} holds NaN or infinity, as do {int((~is_fine).sum())} of {len(x)}: they have no distance.",
            hint="Look at the table that they come from.",
        )
    if distance == "euclidean":
        rows = x - x.mean(0) if len(x) else x  # distances stay, rounding is smaller
        return Prepared(rows, torch.ones(len(x), dtype=torch.bool, device=x.device), distance)
    scale = x.abs().amax(1, keepdim=True) if x.shape[1] else x.new_zeros(len(x), 1)
    rows = x / torch.where(scale > 0, scale, 1)  # squares of very large or small numbers would leave float32
    if distance == "correlation":
        rows = rows - rows.mean(1, keepdim=True)
    length = rows.norm(dim=1, keepdim=True)
    # Relative to the row's own size: what is left of a constant row after centring is rounding.
    has_direction = (length > _ROUNDING * max(1, x.shape[1]) ** 0.5).squeeze(1)
    rows = torch.where(has_direction[:, None], rows / length.clamp(min=1e-30), 0.0)
    return Prepared(rows, has_direction, distance)


def exact_neighbours(
    vectors: Any,
    k: int,
    *,
    distance: str = "correlation",
    device: Any = None,
    budget_bytes: int = 256_000_000,
    progress: Progress | None = None,
) -> Neighbours:
    """Find the `k` nearest other rows of each row, exactly.

    Parameters
    ----------
    vectors : (row, dim) array or tensor, or Prepared
        With `Prepared`, `distance` is not asked for again.
    k : int
        Neighbours per row; where there are fewer others, so many.
    distance : {"correlation", "cosine", "euclidean"}
    device : torch device, optional
        Where to compute. Default: where the vectors are.
    budget_bytes : int
        Memory for products, beside vectors and result.
    progress : Progress, optional
        Told of every block of rows; this is also where cancellation is noticed.

    Returns
    -------
    Neighbours
        On the CPU. Rows without a direction have no neighbours and are nobody's neighbours.

    Notes
    -----
    Computed in float32. Distances that differ by less than its rounding count as equal, so that copies of one vector
    come in the order of their numbers on every machine. The cost is that of half the product of all rows.

    Examples
    --------
    >>> exact_neighbours([[0.0], [1.0], [5.0]], 1, distance="euclidean").ids.tolist()
    [[1], [0], [1]]
    """
    check.positive("k", k)
    made = vectors if isinstance(vectors, Prepared) else prepared(vectors, distance, device=device)
    n = len(made)
    whole_ids = np.full((n, max(0, min(k, n - 1))), -1, np.int32)
    whole_distance = np.full(whole_ids.shape, np.inf, np.float32)
    used = made.has_direction.nonzero().squeeze(1)
    k = min(k, len(used) - 1)
    if k < 1:
        return Neighbours(whole_ids, whole_distance)
    products = _Products(made if len(used) == n else made.only(used))
    values, ids = _best(products, min(k + 1, len(used) - 1), max(1, budget_bytes // 4), progress or SilentProgress())
    if values.shape[1] > k:
        is_crowded = values[:, k - 1] - values[:, k] <= products.rounding
        values, ids = values[:, :k], ids[:, :k]
        _settle(products, is_crowded.nonzero().squeeze(1), values, ids, max(1, budget_bytes // 4))
    if made.distance == "euclidean":
        values = -_lengths(products.rows, ids)
    near = _by_number(values, ids, products.rounding if made.distance != "euclidean" else products.scale * _ROUNDING)
    where = used.cpu().numpy()
    found = (-near[0] if made.distance == "euclidean" else 1 - near[0]).clamp(min=0)
    found = torch.where(found < _ROUNDING, 0.0, found) if made.distance != "euclidean" else found
    whole_ids[where, :k] = where[near[1].cpu().numpy()]
    whole_distance[where, :k] = found.cpu().numpy()
    return Neighbours(whole_ids, whole_distance)


def trustworthiness(vectors: Prepared, position: np.ndarray, *, k: int = 15, most: int = 500) -> float:
    """Say how far neighbours on the plane are neighbours in the full space, from 0 to 1.

    Parameters
    ----------
    vectors : Prepared
        All with a direction.
    position : (row, 2) array
    k : int
        Neighbours on the plane that are looked at; fewer where there are not twice as many rows.
    most : int
        Rows that are looked at, spread evenly; ranks always count all rows.

    Notes
    -----
    Venna & Kaski 2001, eq. 1: one minus the ranks by which neighbours on the plane exceed `k` in the full space, scaled
    so that the worst possible layout of a large set reaches 0. With fewer than three rows it is 1.
    """
    n = len(vectors)
    k = min(k, (n - 1) // 2)
    if k < 1:
        return 1.0
    flat = torch.as_tensor(np.ascontiguousarray(position, np.float32)).to(vectors.rows.device)
    products, looked_at = _Products(vectors), evenly(n, most)
    excess = 0
    for rows in torch.from_numpy(looked_at).to(flat.device).split(max(1, 8_000_000 // n)):
        own = torch.arange(len(rows), device=flat.device), rows
        plane = (flat[rows, :1] - flat[:, 0]) ** 2 + (flat[rows, 1:] - flat[:, 1]) ** 2
        plane[own] = torch.inf
        near = plane.topk(k, largest=False).indices
        full = products.of(rows)
        full[own] = -torch.inf
        for value in full.gather(1, near).T:
            rank = torch.count_nonzero(full > value[:, None], dim=1) + 1
            excess += int((rank - k).clamp(min=0).sum())
    return 1 - 2 / (len(looked_at) * k * (2 * n - 3 * k - 1)) * excess


# --- below ------------------------------------------------------------------------------------------------------------


class _Products:
    """Products of rows, larger for nearer ones, and how finely they can be told apart."""

    def __init__(self, vectors: Prepared):
        self.rows = vectors.rows
        self.square = (self.rows**2).sum(1) if vectors.distance == "euclidean" else None
        self.scale = self.rows.new_ones(len(self.rows)) if self.square is None else self.square.sqrt()
        self.rounding = _ROUNDING * self.scale**2

    def block(self, a: slice, b: slice) -> Tensor:
        """(row of a, row of b)."""
        product = self.rows[a] @ self.rows[b].T
        if self.square is None:
            return product
        return product.mul_(2).sub_(self.square[a][:, None]).sub_(self.square[b])  # minus the squared distance

    def of(self, rows: Tensor) -> Tensor:
        """(row, all)."""
        product = self.rows[rows] @ self.rows.T
        return product if self.square is None else product * 2 - self.square[rows][:, None] - self.square


def _best(products: _Products, k: int, budget: int, progress: Progress) -> tuple[Tensor, Tensor]:
    """(row, k) the largest products of each row with others, largest first, and whose they are."""
    n, device = len(products.rows), products.rows.device
    values = torch.full((n, k), -torch.inf, device=device)
    ids = torch.full((n, k), -1, dtype=torch.int64, device=device)

    def merge(where: slice, block: Tensor, first: int) -> None:
        best, at = block.topk(min(k, block.shape[1]), dim=1)
        best, at = torch.cat([values[where], best], 1), torch.cat([ids[where], at + first], 1)
        values[where], order = best.topk(k, dim=1)
        ids[where] = at.gather(1, order)

    progress.start("neighbours", n)
    for a, b in _pairs(n, budget):
        block = products.block(a, b)
        if b.start < a.stop:  # on the diagonal: nobody is its own neighbour
            own = torch.arange(b.start, min(a.stop, b.stop), device=device)
            block[own - a.start, own - b.start] = -torch.inf
        merge(a, block, b.start)
        beyond = max(b.start, a.stop)
        if beyond < b.stop:
            merge(slice(beyond, b.stop), block[:, beyond - b.start :].T.contiguous(), a.start)
        progress.step(a.stop - a.start if b.stop == n else 0)
    return values, ids


def _pairs(n: int, budget: int) -> Iterator[tuple[slice, slice]]:
    """Blocks of rows and columns that cover the upper half of the product, each within the budget."""
    height = min(_BLOCK, max(1, int((budget / 3) ** 0.5)))
    width = max(height, budget // (3 * height))  # the block, its other half turned, and what sorting takes
    for first in range(0, n, height):
        for start in range(first, n, width):
            yield slice(first, min(first + height, n)), slice(start, min(start + width, n))


def _settle(products: _Products, rows: Tensor, values: Tensor, ids: Tensor, budget: int) -> None:
    """Where several are as near as the last that is kept, keep those of the smallest number."""
    n, k = len(products.rows), values.shape[1]
    falling = torch.arange(n, 0, -1, device=rows.device)
    for part in rows.split(max(1, budget // (4 * n))):
        full = products.of(part)
        full[torch.arange(len(part), device=rows.device), part] = -torch.inf
        last, rounding = values[part, k - 1 : k], products.rounding[part, None]
        rank = torch.where(full > last + rounding, falling + n, torch.where(full >= last - rounding, falling, 0))
        chosen = rank.topk(k, dim=1).indices
        found = full.gather(1, chosen)
        values[part], order = found.sort(dim=1, descending=True)
        ids[part] = chosen.gather(1, order)


def _by_number(values: Tensor, ids: Tensor, rounding: Tensor) -> tuple[Tensor, Tensor]:
    """The same neighbours, those that cannot be told apart by their number."""
    order = values.argsort(dim=1, descending=True)
    values, ids = values.gather(1, order), ids.gather(1, order)
    step = values[:, :-1] - values[:, 1:] > rounding[:, None]
    run = torch.nn.functional.pad(step.cumsum(1), (1, 0))
    order = (run * (int(ids.max()) + 1) + ids).argsort(dim=1)
    return values.gather(1, order), ids.gather(1, order)


def _lengths(rows: Tensor, ids: Tensor) -> Tensor:
    """(row, k) lengths of the differences, by subtracting: the product loses the small ones."""
    step = max(1, _REFINED_AT_ONCE // max(1, ids.shape[1] * rows.shape[1]))
    parts = [
        (rows[i : i + step, None] - rows[ids[i : i + step]]).norm(dim=2) for i in range(0, len(rows), step)
    ]  # fmt: skip
    return torch.cat(parts)
