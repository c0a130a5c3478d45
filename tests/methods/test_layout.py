"""Layouts and clusters: against slow twins and on points with a known answer."""

from __future__ import annotations

import builtins

import numpy as np
import pytest

from workbench.core.errors import MissingPackageError
from workbench.methods import layout
from workbench.methods.layout import k_means, n_clusters_for, pca_layout, umap_layout, unit_square
from workbench.methods.neighbours import exact_neighbours, prepared


@pytest.fixture
def acts():
    """53 samples, 11 components in three families, one of them constant."""
    rng = np.random.default_rng(0)
    causes = rng.normal(size=(53, 3))
    made = causes[:, [0] * 4 + [1] * 4 + [2] * 3] + 0.1 * rng.normal(size=(53, 11))
    made[:, 7] = 4.0
    return made.astype(np.float32)


def profiles(acts):
    """(component, sample) of unit length, so that products are correlations."""
    return prepared(acts.T, "correlation").rows.numpy()


def test_products_of_profiles_are_correlations(acts):
    rows = profiles(acts)
    assert rows.shape == (11, 53) and (rows[7] == 0).all()
    keep = [i for i in range(11) if i != 7]
    np.testing.assert_allclose((rows @ rows.T)[np.ix_(keep, keep)], np.corrcoef(acts[:, keep].T), atol=1e-5)


def test_the_plane_of_principal_components(acts):
    rows = profiles(acts)
    flat = pca_layout(rows)
    assert flat.shape == (11, 2) and flat.dtype == np.float32 and flat.min() == 0 and flat.max() == 1
    centred = rows - rows.mean(0)
    values, vectors = np.linalg.eigh(centred.T @ centred)
    for axis, vector in enumerate(vectors[:, [-1, -2]].T):
        expected = centred @ vector
        expected = expected * np.sign(expected[np.abs(expected).argmax()])
        np.testing.assert_allclose(flat[:, axis], unit_square(expected[:, None])[:, 0], atol=1e-3)


def test_the_plane_does_not_depend_on_how_rows_lie_in_memory(acts):
    rows = profiles(acts)
    np.testing.assert_allclose(pca_layout(rows), pca_layout(np.ascontiguousarray(rows)), atol=1e-5)
    assert np.isfinite(pca_layout(np.zeros((5, 7), np.float32))).all()


@pytest.mark.parametrize("shape", [(90, 40), (40, 90)])
def test_many_dimensions_are_searched_for_two(shape, monkeypatch):
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(shape[0], 3)) * [9, 5, 1]) @ rng.normal(size=(3, shape[1])) + rng.normal(size=shape)
    whole = pca_layout(rows)
    monkeypatch.setattr(layout, "_MOST_IN_FULL", 10)
    np.testing.assert_allclose(pca_layout(rows), whole, atol=1e-3)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_rows_have_a_place(n):
    flat = pca_layout(np.random.default_rng(0).normal(size=(n, 7)))
    assert flat.shape == (n, 2) and np.isfinite(flat).all()
    assert n < 2 or np.ptp(flat[:, 0]) == 1
    assert n > 2 or (flat[:, 1] == 0).all(), "two points lie on a line"
    assert pca_layout(np.arange(float(n))[:, None]).shape == (n, 2)


def test_the_usual_number_of_clusters():
    assert [n_clusters_for(n) for n in (1, 2, 3, 10, 72, 10_000)] == [1, 2, 2, 2, 6, 12]


def test_the_unit_square():
    flat = unit_square(np.array([[1.0, 5.0], [3.0, 5.0], [2.0, 5.0]]))
    assert flat.tolist() == [[0, 0], [1, 0], [0.5, 0]]


@pytest.mark.parametrize("seed", range(5))
def test_groups_that_lie_apart_are_found(seed):
    rng = np.random.default_rng(seed)
    centres, sizes = np.array([[0, 0], [10, 0], [0, 10], [7, 7]]), (9, 4, 6, 3)
    true = np.repeat(np.arange(4), sizes)
    order = rng.permutation(len(true))
    points = (centres[true] + rng.normal(0, 0.3, (len(true), 2)))[order]
    found = k_means(points, 4, seed=seed)
    assert found.dtype == np.int32 and np.bincount(found).tolist() == [9, 6, 4, 3], "the largest first"
    for group in range(4):
        assert len(set(true[order][found == group])) == 1
    assert np.array_equal(found, k_means(points, 4, seed=seed))


def test_of_many_points_some_say_where_the_groups_lie(monkeypatch):
    monkeypatch.setattr(layout, "_MOST_IN_CLUSTERING", 40)
    rng = np.random.default_rng(0)
    true = rng.permutation(np.repeat(np.arange(3), (90, 60, 30)))
    points = np.array([[0, 0], [10, 0], [0, 10]])[true] + rng.normal(0, 0.3, (180, 2))
    assert np.array_equal(k_means(points, 3, seed=0), true)


def test_no_single_point_is_better_off_elsewhere():
    points = np.random.default_rng(3).normal(size=(40, 2))
    found = k_means(points, 5, seed=0)
    centres = np.stack([points[found == i].mean(0) for i in range(5)])
    nearest_centre = ((points[:, None] - centres) ** 2).sum(2).argmin(1)
    assert np.array_equal(nearest_centre, found)


def test_points_that_coincide_and_extremes():
    assert set(k_means(np.zeros((6, 2)), 3, seed=0)) == {0}
    assert len(set(k_means(np.array([[0.0, 0], [0, 0], [1, 1]]), 3, seed=0))) == 2
    assert k_means(np.arange(8.0).reshape(4, 2), 1, seed=0).tolist() == [0] * 4
    assert sorted(k_means(np.arange(8.0).reshape(4, 2), 4, seed=0)) == [0, 1, 2, 3]


def test_without_umap_the_message_leads_on(acts, monkeypatch):
    own = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "umap":
            raise ImportError("No module named 'umap'")
        return own(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingPackageError, match="umap-learn, which is not installed") as error:
        umap_layout(pca_layout(acts.T), exact_neighbours(acts.T, 5), seed=0)
    assert "pip install umap-learn" in error.value.hint and 'layout="pca"' in error.value.hint


@pytest.mark.slow
def test_umap_keeps_families_together_and_repeats_itself():
    pytest.importorskip("umap")
    import torch

    rng = np.random.default_rng(0)
    causes = rng.normal(size=(80, 3))
    family = np.arange(36) % 3
    rows = prepared((causes[:, family] + 0.2 * rng.normal(size=(80, 36))).T)
    start, near = pca_layout(rows.rows), exact_neighbours(rows, 8)
    threads = torch.get_num_threads()
    flat = umap_layout(start, near, seed=0)
    assert flat.shape == (36, 2) and flat.min() == 0 and flat.max() == 1
    assert np.array_equal(flat, umap_layout(start, near, seed=0))
    assert torch.get_num_threads() == threads
    distance = ((flat[:, None] - flat[None]) ** 2).sum(2) + np.eye(36) * 9
    assert (family[distance.argmin(1)] == family).all()


@pytest.mark.slow
def test_umap_starts_from_points_in_one_place():
    pytest.importorskip("umap")
    near = exact_neighbours(np.ones((20, 3)), 5, distance="cosine")
    flat = umap_layout(np.zeros((20, 2), np.float32), near, seed=0, n_epochs=30)
    assert flat.shape == (20, 2) and np.isfinite(flat).all()
