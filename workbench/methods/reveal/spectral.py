"""Spectral embedding of samples: few eigenvectors of the graph of nearest neighbours, and the groups they hint at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from workbench.methods.neighbours import Neighbours

__all__ = ["Spectrum", "n_groups", "spectrum", "unit_sum"]

_DENSE = 1500  # up to here a dense solver takes a second


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The smallest eigenvalues of a graph's normalised Laplacian.

    Attributes
    ----------
    values : (n,) float64 array
        Rising, 0 to 2. As many are zero as the graph has parts without a connection.
    vectors : (sample, n) float64 array
        Of unit length; the entry of largest size is positive.
    """

    values: np.ndarray
    vectors: np.ndarray


def unit_sum(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows divided by the sum of their absolute values, and which rows have one.

    A signed sum, which relevance conserves, may be near zero and would blow its row up; absolute values cannot.
    """
    rows = np.asarray(rows, dtype=np.float64)
    total = np.abs(rows).sum(1)
    has_sum = total > 0
    return (rows / np.where(has_sum, total, 1)[:, None]).astype(np.float32), has_sum


def spectrum(near: Neighbours, n: int) -> Spectrum:
    """Eigenvectors of the graph in which each sample is joined with its nearest neighbours.

    Parameters
    ----------
    near : Neighbours
        An edge counts half if only one end is among the nearest of the other.
    n : int
        Eigenvectors; at most one fewer than samples.

    Returns
    -------
    Spectrum

    Notes
    -----
    The symmetric normalised Laplacian I - D^(-1/2) A D^(-1/2) of Ng, Jordan and Weiss 2001; rows are not scaled.
    """
    size = len(near.ids)
    n = min(n, size - 1)
    rows, slots = np.nonzero(near.ids >= 0)
    columns = near.ids[rows, slots]
    if size <= _DENSE:
        joined = np.zeros((size, size))
        joined[rows, columns] = 1
        joined = (joined + joined.T) / 2
        scale = 1 / np.sqrt(np.maximum(joined.sum(1), 1e-12))
        values, vectors = np.linalg.eigh(np.eye(size) - joined * scale[:, None] * scale[None, :])
        values, vectors = values[:n], vectors[:, :n]
    else:
        values, vectors = _sparse(rows, columns, size, n)
    at = np.abs(vectors).argmax(0)
    signs = np.sign(vectors[at, np.arange(vectors.shape[1])])
    return Spectrum(np.clip(values, 0, 2), vectors * np.where(signs == 0, 1, signs))


def _sparse(rows: np.ndarray, columns: np.ndarray, size: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    from scipy.sparse import coo_array, diags_array
    from scipy.sparse.linalg import eigsh

    joined = coo_array((np.ones(len(rows)), (rows, columns)), shape=(size, size)).tocsr()
    joined = (joined + joined.T) / 2
    scale = diags_array(1 / np.sqrt(np.maximum(joined.sum(1), 1e-12)))
    # The largest of the normalised graph are the smallest of the Laplacian, and are found much faster.
    start: Any = np.random.default_rng(0).standard_normal(size)
    values, vectors = eigsh(scale @ joined @ scale, k=n, which="LA", v0=start)
    order = np.argsort(1 - values, kind="stable")
    return (1 - values)[order], vectors[:, order]


def n_groups(values: np.ndarray, *, most: int = 12) -> int:
    """The number of groups after which the eigenvalues jump most; at least two.

    Parameters
    ----------
    values : (n,) array
        Eigenvalues, rising.
    most : int
    """
    values = np.asarray(values)[: most + 1]
    if len(values) < 3:
        return min(2, max(1, len(values)))
    return int(np.diff(values)[1:].argmax()) + 2
