"""Where components lie on the plane, which lie together, and which are nearest in the full space."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from workbench.core.errors import MissingPackageError

__all__ = ["k_means", "nearest", "pca_layout", "profiles", "umap_layout", "unit_square"]


def profiles(acts: np.ndarray) -> np.ndarray:
    """(component, sample): standardised activations of unit length, so that products are correlations.

    Components that are the same on all samples get a profile of zeros.
    """
    centred = (acts - acts.mean(0)).T.astype(np.float32)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return np.divide(centred, length, out=np.zeros_like(centred), where=length > 1e-12)


def nearest(rows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The `k` most similar other rows of each row of unit length, by their product.

    Returns
    -------
    ids : (row, k) int32
        Most similar first, ties by smaller number.
    similarity : (row, k) float32
    """
    similarity = rows @ rows.T
    np.fill_diagonal(similarity, -np.inf)
    ids = np.argsort(-similarity, axis=1, kind="stable")[:, : min(k, len(rows) - 1)]
    return ids.astype(np.int32), np.take_along_axis(similarity, ids, 1).astype(np.float32)


def pca_layout(rows: np.ndarray) -> np.ndarray:
    """(row, 2) the two leading principal components, scaled to the unit square."""
    centred = rows - rows.mean(0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    flat = u[:, :2] * s[:2]
    signs = np.sign(flat[np.abs(flat).argmax(0), np.arange(flat.shape[1])])  # an SVD leaves them open
    return unit_square(flat * np.where(signs == 0, 1, signs))


def umap_layout(rows: np.ndarray, *, n_neighbours: int, seed: int) -> np.ndarray:
    """(row, 2) a UMAP of rows of unit length with exact neighbours, scaled to the unit square.

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
    ids, similarity = nearest(rows, n_neighbours)
    own = np.arange(len(rows), dtype=np.int32)[:, None]  # umap-learn counts a point as its own first neighbour
    order = np.concatenate([own, ids], 1)
    distance = np.concatenate([np.zeros_like(own, np.float32), np.clip(1 - similarity, 0, None)], 1)
    with warnings.catch_warnings(), _same_threads():
        warnings.simplefilter("ignore")  # umap-learn warns of the seed's single thread and of its own deprecations
        reducer = umap.UMAP(
            n_neighbors=order.shape[1],
            random_state=seed,
            n_jobs=1,
            init="pca",
            precomputed_knn=(order, distance.astype(np.float32), None),
        )
        return unit_square(reducer.fit_transform(rows))


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
    best, best_error = np.zeros(len(points), np.int64), np.inf
    for _ in range(n_starts):
        labels, error = _lloyd(points, _spread(points, n, rng))
        if error < best_error - 1e-12:
            best, best_error = labels, error
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
        distance = ((points[:, None] - centres[None]) ** 2).sum(2)
        nearest_centre = distance.argmin(1)
        if np.array_equal(nearest_centre, labels):
            break
        labels = nearest_centre
        for i in np.unique(labels):
            centres[i] = points[labels == i].mean(0)
    return labels, float(((points - centres[labels]) ** 2).sum())


@contextmanager
def _same_threads() -> Iterator[None]:
    """Undo what numba does to the number of threads, which it shares with torch through OpenMP."""
    import torch

    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)
