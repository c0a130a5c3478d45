"""The spectrum of a graph is that of its Laplacian, dense or sparse, and its jump counts the groups."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.methods.neighbours import Neighbours, exact_neighbours
from workbench.methods.reveal import spectral
from workbench.methods.reveal.spectral import n_groups, spectrum, unit_sum


def blobs(sizes, *, dim=5, spread=0.3, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.standard_normal((len(sizes), dim)) * 4
    return np.concatenate([c + spread * rng.standard_normal((n, dim)) for c, n in zip(centres, sizes, strict=True)])


def slow(near):
    """Written from the formula."""
    n = len(near.ids)
    a = np.zeros((n, n))
    for i in range(n):
        for j in near.ids[i]:
            if j >= 0:
                a[i, j] += 0.5
                a[j, i] += 0.5
    d = a.sum(1)
    return np.eye(n) - a / np.sqrt(d[:, None] * d[None, :])


@pytest.mark.parametrize("most_dense", [1500, 0])
def test_values_and_vectors_are_those_of_the_laplacian(most_dense, monkeypatch):
    if not most_dense:
        pytest.importorskip("scipy")
    monkeypatch.setattr(spectral, "_DENSE", most_dense)
    near = exact_neighbours(blobs([30, 20]), 6, distance="euclidean")
    found, laplacian = spectrum(near, 8), slow(near)
    np.testing.assert_allclose(found.values, np.linalg.eigvalsh(laplacian)[:8], atol=1e-8)
    np.testing.assert_allclose(laplacian @ found.vectors, found.vectors * found.values, atol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=0), 1, atol=1e-9)
    assert (found.vectors[np.abs(found.vectors).argmax(0), np.arange(8)] > 0).all()


def test_parts_without_a_connection_have_a_zero_each():
    found = spectrum(exact_neighbours(blobs([20, 20, 20]), 5, distance="euclidean"), 6)
    assert (np.abs(found.values[:3]) < 1e-9).all() and found.values[3] > 1e-3


def test_empty_slots_join_nobody():
    near = Neighbours(np.array([[1, -1], [0, -1], [1, 0]], np.int32), np.array([[1, np.inf], [1, np.inf], [2, 3]]))
    np.testing.assert_allclose(spectrum(near, 2).values, np.linalg.eigvalsh(slow(near))[:2], atol=1e-9)


@pytest.mark.parametrize("sizes", [[40, 40], [60, 20, 20], [30, 30, 30, 30], [100, 12]])
def test_the_jump_counts_the_groups(sizes):
    found = spectrum(exact_neighbours(blobs(sizes), 8, distance="euclidean"), 32)
    assert n_groups(found.values) == len(sizes)


@pytest.mark.parametrize(("values", "n"), [([0, 0.1, 0.9], 2), ([0, 0, 0, 0.5, 0.6], 3), ([0, 1], 2), ([0], 1)])
def test_groups_from_values(values, n):
    assert n_groups(np.array(values)) == n


def test_rows_are_divided_by_absolute_sums():
    rows, has = unit_sum(np.array([[1.0, -1.0], [3.0, 1.0], [0.0, 0.0]]))
    np.testing.assert_allclose(rows, [[0.5, -0.5], [0.75, 0.25], [0, 0]])
    assert has.tolist() == [True, True, False]
