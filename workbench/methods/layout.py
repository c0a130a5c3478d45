"""Where components or samples lie on the plane, and which lie together."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.core.errors import MissingPackageError
from workbench.methods.neighbours import Neighbours

__all__ = ["LEAST_FOR_UMAP", "k_means", "n_clusters_for", "pca_layout", "umap_layout", "unit_square"]

LEAST_FOR_UMAP = 10
"""Fewer points than this are laid out by PCA."""

# Of more points, evenly spread ones say where the groups lie.
_MOST_IN_CLUSTERING = 10_000
# From about this size of the smaller side on, all principal components cost more than the two that are wanted.
_MOST_IN_FULL = 1500


def pca_layout(rows: Any) -> np.ndarray:
    """Give the two leading principal components, scaled to the unit square.

    Parameters
    ----------
    rows : (row, dim) float array or tensor

    Returns
    -------
    (row, 2) float32
        An axis without extent is 0. Signs are such that the row farthest from the middle lies on the positive side.
    """
    x = torch.as_tensor(rows, dtype=torch.float32)
    centred = x - x.mean(0)
    flat = centred @ _two_axes(centred)
    farthest = flat.gather(0, flat.abs().argmax(0, keepdim=True))  # an axis may point either way
    flat = flat * torch.where(farthest < 0, -1.0, 1.0)
    return unit_square(flat.cpu().numpy())


def _two_axes(centred: Tensor) -> Tensor:
    """(dim, 2) directions of the largest variance, of unit length; zeros where there are fewer."""
    n, dim = centred.shape
    if min(n, dim) <= _MOST_IN_FULL:
        long = centred.T if dim > n else centred
        square = sum(part.double().T @ part.double() for part in long.split(4096))
        variance, axes = torch.linalg.eigh(square)
        axes, least = axes.to(centred.dtype), 1e-12
        axes = centred.T @ axes[:, -2:] if dim > n else axes[:, -2:]
    else:  # Halko, Martinsson & Tropp 2011: a random start, sharpened by powers
        axes = torch.randn(dim, 12, generator=torch.Generator().manual_seed(0)).to(centred.device)
        for _ in range(8):
            axes = torch.linalg.qr(centred.T @ (centred @ axes)).Q
        seen = centred @ axes
        variance, rotation = torch.linalg.eigh(seen.T @ seen)
        axes, least = axes @ rotation[:, -2:], 1e-6
    is_real = variance[-2:] > least * variance[-1].clamp(min=1e-30)
    axes = torch.where(is_real, axes / axes.norm(dim=0).clamp(min=1e-30), 0.0).flip(1)
    return torch.nn.functional.pad(axes, (0, 2 - axes.shape[1]))


def umap_layout(start: np.ndarray, near: Neighbours, *, seed: int, n_epochs: int | None = None) -> np.ndarray:
    """Give a UMAP of neighbours that are known already, scaled to the unit square.

    Parameters
    ----------
    start : (row, 2) float array
        Where the layout begins, usually PCA: then it is there at once, keeps its large-scale order, and costs less than
        umap-learn's own spectral start.
    near : Neighbours
        Of all rows, without empty slots.
    seed : int
        The same seed gives the same on the same machine; across machines the last digits differ, and grow.

    n_epochs : int, optional
        Passes over the neighbours. Default: 500 up to 1,000 rows, then fewer, down to 50 from 10,000 rows on.

    Notes
    -----
    umap-learn makes 500 epochs up to 10,000 rows and 200 beyond, which takes ten times as long. On 10,000 rows, 50
    instead of 500 cost 0.0015 of trustworthiness, and a quarter of the nearest neighbours that stay nearest.

    Raises
    ------
    MissingPackageError
        If umap-learn is not installed.
    """
    try:
        import umap
    except ImportError as error:
        raise MissingPackageError(
            "The UMAP layout needs the package umap-learn, which is not installed.",
            hint='pip install umap-learn, or use layout="pca".',
        ) from error
    n = len(start)
    own = np.arange(n, dtype=np.int32)[:, None]  # umap-learn counts a point as its own first neighbour
    ids = np.concatenate([own, near.ids], 1)
    distance = np.concatenate([np.zeros((n, 1), np.float32), near.distance], 1)
    # Some noise, so that rows in one place can part, and an axis without extent gets one.
    start = 10 * start + np.random.default_rng(seed).normal(scale=1e-4, size=start.shape)
    with warnings.catch_warnings(), _same_threads():
        warnings.simplefilter("ignore")  # umap-learn warns of the seed's single thread and of its own deprecations
        reducer = umap.UMAP(
            n_neighbors=ids.shape[1],
            n_epochs=int(np.clip(500_000 // n, 50, 500)) if n_epochs is None else n_epochs,
            random_state=seed,
            n_jobs=1,
            init=start.astype(np.float32),
            precomputed_knn=(ids, distance, None),
        )
        return unit_square(reducer.fit_transform(start))  # with neighbours given, only the number of rows counts


def n_clusters_for(n: int) -> int:
    """How many clusters a map of `n` points gets by default: the square root of half of them, 2 to 12."""
    return min(n, int(np.clip(np.sqrt(n / 2), 2, 12)))


def k_means(points: np.ndarray, n: int, *, seed: int, n_starts: int = 4) -> np.ndarray:
    """Group points by Lloyd's algorithm from k-means++ starts; the best of several.

    Parameters
    ----------
    points : (point, dim) float array
    n : int
        Groups, at most as many as points.

    Returns
    -------
    (point,) int32
        Group of each point; group 0 is the largest. Fewer than `n` groups come out where points coincide.
    """
    points = points.astype(np.float64)
    rng = np.random.default_rng(seed)
    some = points[:: -(-len(points) // _MOST_IN_CLUSTERING)]
    best, best_error = np.zeros(len(some), np.int64), np.inf
    for _ in range(n_starts):
        labels, error = _lloyd(some, _spread(some, n, rng))
        if error < best_error - 1e-12:
            best, best_error = labels, error
    if len(some) < len(points):
        centres = np.stack([some[best == i].mean(0) for i in np.unique(best)])
        best = _nearest_centre(points, centres)
    _, best = np.unique(best, return_inverse=True)
    by_size = np.argsort(-np.bincount(best), kind="stable")
    return np.argsort(by_size)[best].astype(np.int32)


def unit_square(flat: np.ndarray) -> np.ndarray:
    """Coordinates scaled to 0 to 1, each axis by itself; an axis without extent becomes 0."""
    low, high = flat.min(0), flat.max(0)
    return ((flat - low) / np.maximum(high - low, 1e-12)).astype(np.float32)


def _spread(points: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Starting centres, each drawn with a chance that grows with its squared distance to those before."""
    centres = [points[rng.integers(len(points))]]
    for _ in range(n - 1):
        distance = np.min([((points - c) ** 2).sum(1) for c in centres], axis=0)
        total = distance.sum()
        chance = distance / total if total > 0 else np.full(len(points), 1 / len(points))
        centres.append(points[rng.choice(len(points), p=chance)])
    return np.array(centres)


def _lloyd(points: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, float]:
    labels = np.full(len(points), -1)
    for _ in range(100):
        nearest_centre = _nearest_centre(points, centres)
        if np.array_equal(nearest_centre, labels):
            break
        labels = nearest_centre
        for i in np.unique(labels):
            centres[i] = points[labels == i].mean(0)
    return labels, float(((points - centres[labels]) ** 2).sum())


def _nearest_centre(points: np.ndarray, centres: np.ndarray) -> np.ndarray:
    return ((points[:, None] - centres[None]) ** 2).sum(2).argmin(1)


@contextmanager
def _same_threads() -> Iterator[None]:
    """Undo what numba does to the number of threads, which it shares with torch through OpenMP."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
