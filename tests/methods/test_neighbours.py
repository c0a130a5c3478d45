"""Exact neighbours against sorting all distances in double precision, and trustworthiness against its formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.core.errors import BadValueError, CancelledError, NotFiniteError, ShapeError
from workbench.core.progress import SilentProgress
from workbench.methods import neighbours
from workbench.methods.neighbours import DISTANCES, exact_neighbours, prepared, trustworthiness


def distances(x, distance):
    """(row, row) in double precision, as the formulas have it; NaN where they have none."""
    x = np.asarray(x, np.float64)
    if distance == "euclidean":
        return np.sqrt(((x[:, None] - x[None]) ** 2).sum(2))
    x = x - x.mean(1, keepdims=True) if distance == "correlation" else x
    length = np.sqrt((x**2).sum(1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - (x @ x.T) / (length[:, None] * length)


def slow(x, k, distance):
    """Neighbours by sorting: nearest first, ties by the smaller number."""
    full = distances(x, distance)
    return [sorted((j for j in range(len(x)) if j != i), key=lambda j: (full[i, j], j))[:k] for i in range(len(x))]


@pytest.fixture
def vectors():
    """53 vectors of 7 numbers, some of them near to one another."""
    rng = np.random.default_rng(0)
    return (rng.normal(size=(53, 7)) + np.repeat(rng.normal(size=(9, 7)), 6, axis=0)[:53] * 2 + 1).astype(np.float32)


@pytest.mark.parametrize("budget_bytes", [256_000_000, 3_000, 1])
@pytest.mark.parametrize("block", [2048, 10])
@pytest.mark.parametrize("distance", DISTANCES)
def test_they_equal_sorting_whatever_the_blocks(vectors, distance, block, budget_bytes, monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    found = exact_neighbours(vectors, 6, distance=distance, budget_bytes=budget_bytes)
    assert found.ids.dtype == np.int32 and found.distance.dtype == np.float32
    assert found.ids.tolist() == slow(vectors, 6, distance)
    expected = np.take_along_axis(distances(vectors, distance), found.ids, 1)
    np.testing.assert_allclose(found.distance, expected, atol=2e-6)


@pytest.mark.parametrize("distance", DISTANCES)
def test_small_differences_far_from_zero(distance):
    """What a plain product in float32 would lose."""
    rng = np.random.default_rng(1)
    x = (100 + rng.normal(size=(40, 7))).astype(np.float32) if distance == "euclidean" else rng.normal(size=(40, 7)) + 5
    found = exact_neighbours(x, 3, distance=distance)
    full = distances(np.asarray(x, np.float32), distance)
    np.testing.assert_allclose(found.distance, np.sort(full + np.eye(40) * 99)[:, :3], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("block", [2048, 4])
def test_copies_are_nearest_and_ties_go_by_number(distance, block, monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK", block)
    rng = np.random.default_rng(2)
    x = rng.normal(size=(5, 300))[np.arange(30) % 5].astype(np.float32)  # each vector six times
    found = exact_neighbours(x, 4, distance=distance)
    for i in range(30):
        assert found.ids[i].tolist() == [j for j in range(30) if j % 5 == i % 5 and j != i][:4]
    assert (found.distance == 0).all()
    whole = exact_neighbours(x, 29, distance=distance)
    for i in range(30):
        assert whole.ids[i, :5].tolist() == [j for j in range(30) if j % 5 == i % 5 and j != i]
        groups = whole.ids[i, 5:].reshape(4, 6)
        assert (np.diff(groups, axis=1) == 5).all(), "each of the others six times, by number"


def test_all_equal_goes_by_number():
    found = exact_neighbours(np.ones((12, 3)), 3, distance="cosine")
    assert found.ids[0].tolist() == [1, 2, 3] and found.ids[11].tolist() == [0, 1, 2] and (found.distance == 0).all()
    found = exact_neighbours(np.ones((12, 3)), 3, distance="euclidean")
    assert found.ids[5].tolist() == [0, 1, 2] and (found.distance == 0).all()


def test_rows_without_a_direction_stand_apart(vectors):
    vectors[3], vectors[9] = 4.0, 0.0
    made = prepared(vectors, "correlation")
    assert (~made.has_direction).nonzero().flatten().tolist() == [3, 9]
    found = exact_neighbours(vectors, 60, distance="correlation")
    assert found.ids.shape == (53, 52) and (found.ids[[3, 9]] == -1).all() and np.isinf(found.distance[[3, 9]]).all()
    rest = [i for i in range(53) if i not in (3, 9)]
    assert (
        not np.isin([3, 9], found.ids).any() and (found.ids[rest, :50] >= 0).all() and (found.ids[:, 50:] == -1).all()
    )
    assert (~prepared(vectors, "cosine").has_direction).nonzero().flatten().tolist() == [9]
    assert prepared(vectors, "euclidean").has_direction.all()


def test_constant_rows_are_known_despite_rounding():
    x = np.full((4, 100_003), 0.1, np.float32)
    x[1, 17] = 0.2  # one sample in a hundred thousand
    assert prepared(x, "correlation").has_direction.tolist() == [False, True, False, False]
    x = np.zeros((2, 9), np.float32)
    x[0, 3] = 1e-30
    assert prepared(x, "cosine").has_direction.tolist() == [True, False]


@pytest.mark.parametrize("distance", DISTANCES)
@pytest.mark.parametrize("n", [0, 1, 2, 3])
def test_few_rows(distance, n):
    x = np.random.default_rng(0).normal(size=(n, 5))
    found = exact_neighbours(x, 7, distance=distance)
    assert found.ids.shape == found.distance.shape == (n, max(0, n - 1))
    assert found.ids.tolist() == slow(x, 7, distance)


def test_what_cannot_be_compared_is_refused(vectors):
    vectors[5, 2] = np.nan
    with pytest.raises(NotFiniteError, match="Vector 5 holds NaN or infinity, as do 1 of 53"):
        exact_neighbours(vectors, 3)
    with pytest.raises(ShapeError, match="row, dim"):
        exact_neighbours(vectors[0], 3)
    with pytest.raises(BadValueError, match="distance"):
        exact_neighbours(vectors, 3, distance="cosin")
    with pytest.raises(BadValueError, match="`k`"):
        exact_neighbours(vectors, 0)


def test_it_reports_and_can_be_cancelled(vectors, monkeypatch):
    monkeypatch.setattr(neighbours, "_BLOCK", 10)
    progress = SilentProgress()
    exact_neighbours(vectors, 3, progress=progress)
    assert progress.share == 1.0
    progress.token.cancel()
    with pytest.raises(CancelledError):
        exact_neighbours(vectors, 3, progress=progress)


@pytest.mark.parametrize("distance", DISTANCES)
def test_trustworthiness_equals_its_formula(vectors, distance):
    flat = vectors[:, :2].copy()
    full, plane = distances(vectors, distance), distances(flat, "euclidean")
    n, k, excess = 53, 5, 0
    for i in range(n):
        order = sorted((j for j in range(n) if j != i), key=lambda j: full[i, j])
        near = sorted((j for j in range(n) if j != i), key=lambda j: plane[i, j])[:k]
        excess += sum(max(0, order.index(j) + 1 - k) for j in near)
    expected = 1 - 2 / (n * k * (2 * n - 3 * k - 1)) * excess
    assert trustworthiness(prepared(vectors, distance), flat, k=k) == pytest.approx(expected, abs=1e-9)
    assert trustworthiness(prepared(vectors, distance), flat, k=k, most=20) == pytest.approx(expected, abs=0.1)


def test_trustworthiness_of_few_points_and_of_a_true_plane():
    plane = np.random.default_rng(0).normal(size=(30, 2)).astype(np.float32)
    assert trustworthiness(prepared(plane, "euclidean"), plane) == 1.0
    for n in (1, 2, 3, 4):
        value = trustworthiness(prepared(plane[:n], "euclidean"), plane[:n][::-1])
        assert 0 <= value <= 1


@pytest.mark.gpu
def test_on_a_gpu_it_is_the_same(vectors):
    here, there = exact_neighbours(vectors, 6), exact_neighbours(vectors, 6, device="cuda")
    np.testing.assert_array_equal(here.ids, there.ids)
    np.testing.assert_allclose(here.distance, there.distance, atol=1e-6)
    torch.cuda.synchronize()
