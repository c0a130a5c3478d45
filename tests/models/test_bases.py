"""Bases of units and of directions: codes, their inverse, and the relevance that flows through some components."""

import pytest
import torch

from workbench.core.errors import BadValueError, ShapeError
from workbench.models.bases import DirectionBasis, UnitBasis
from workbench.models.layers import Layer

SHAPES = {
    "map": ((5, 3, 4), 1),
    "vector": ((5,), 1),
    "tokens": ((7, 5), -1),
    "channels last": ((3, 4, 5), -1),
    "signal": ((5, 6), 1),
}


@pytest.mark.parametrize("kind", SHAPES)
def test_codes_and_back(kind):
    shape, axis = SHAPES[kind]
    basis = UnitBasis(Layer("a", "Any", shape, axis, 1, 0, True))
    x = torch.randn(2, *shape)
    codes = basis.encode(x)
    assert basis.n_components == 5 and codes.shape[:2] == (2, 5)
    for component in range(5):
        assert torch.equal(codes[:, component].flatten(), x.select(axis, component).flatten())
    assert torch.equal(basis.decode(codes, x), x)


@pytest.mark.parametrize("kind", SHAPES)
def test_what_is_kept_is_the_chosen_components_and_nothing_else(kind):
    shape, axis = SHAPES[kind]
    basis = UnitBasis(Layer("a", "Any", shape, axis, 1, 0, True))
    relevance = torch.randn(2, *shape)
    before = relevance.clone()
    kept = basis.keep(relevance, (1, 4))
    for component in range(5):
        expected = relevance.select(axis, component) * (component in (1, 4))
        assert torch.equal(kept.select(axis, component), expected)
    assert torch.equal(relevance, before)
    assert not basis.keep(relevance, ()).any()


def directions(kind, vectors):
    shape, axis = SHAPES[kind]
    return DirectionBasis(Layer("a", "Any", shape, axis, 1, 0, True), "cav-x", vectors), torch.randn(2, *shape), axis


def units(n, seed=0):
    return torch.nn.functional.normalize(torch.randn(n, 5, generator=torch.Generator().manual_seed(seed)), dim=1)


@pytest.mark.parametrize("kind", SHAPES)
def test_codes_of_directions_are_projections_and_decoding_moves_as_little_as_it_can(kind):
    vectors = units(2)
    basis, x, axis = directions(kind, vectors)
    codes = basis.encode(x)
    slow = torch.stack([(x.movedim(axis, -1) @ v).reshape(2, -1) for v in vectors], 1)
    torch.testing.assert_close(codes, slow)
    torch.testing.assert_close(basis.decode(codes, x), x)
    wanted = torch.randn_like(codes)
    moved = basis.decode(wanted, x)
    torch.testing.assert_close(basis.encode(moved), wanted, rtol=1e-4, atol=1e-5)
    across = (moved - x).movedim(axis, -1) @ torch.linalg.svd(vectors).Vh[2:].T
    assert float(across.abs().max()) < 1e-5, "what is orthogonal to all directions stays"


@pytest.mark.parametrize("kind", SHAPES)
def test_along_axes_directions_keep_what_units_do(kind):
    basis, x, axis = directions(kind, torch.eye(5)[[1, 3]])
    unit = UnitBasis(basis.layer)
    relevance = torch.where(x > 0, torch.randn_like(x), 0.0)
    x = x.clamp(min=0)
    for chosen, same in (((0,), (1,)), ((1,), (3,)), ((0, 1), (1, 3))):
        torch.testing.assert_close(basis.keep(relevance, chosen, x), unit.keep(relevance, same, x))
        torch.testing.assert_close(basis.keep(relevance, chosen), unit.keep(relevance, same))
    torch.testing.assert_close(basis.start(x, 1), unit.start(x, 3))
    torch.testing.assert_close(basis.start(x, 1, as_gradient=True), unit.start(x, 3, as_gradient=True))


@pytest.mark.parametrize("kind", SHAPES)
def test_all_directions_of_a_complete_basis_pass_on_all_and_orthogonal_ones_share_it(kind):
    square = torch.linalg.qr(units(5)).Q
    basis, x, _ = directions(kind, square)
    relevance = torch.randn_like(x)
    torch.testing.assert_close(basis.keep(relevance, range(5), x), relevance, rtol=1e-4, atol=1e-5)
    parts = sum(basis.keep(relevance, (i,), x) for i in range(5))
    torch.testing.assert_close(parts, relevance, rtol=1e-4, atol=1e-5)


def test_of_a_linear_rest_the_relevance_of_a_direction_is_projection_times_derivative():
    """With R = a * g, what flows through v sums to (a v)(g v): how far along it a sample lies, times what that does."""
    basis, a, _ = directions("vector", units(1))
    g, v = torch.randn_like(a), basis.vectors[0]
    torch.testing.assert_close(basis.keep(a * g, (0,), a).sum(1), (a @ v) * (g @ v))


def test_a_direction_begins_with_the_positive_part_times_the_signed_vector():
    basis, x, _ = directions("map", units(1))
    torch.testing.assert_close(basis.start(x, 0), x.clamp(min=0) * basis.vectors[0][:, None, None])
    assert (basis.start(x, 0) < 0).any()


def test_units_that_are_not_active_have_no_relevance_and_nothing_is_undefined():
    basis, x, _ = directions("map", units(1))
    x[:, 2] = 0
    kept = basis.keep(torch.randn_like(x), (0,), x)
    assert bool(torch.isfinite(kept).all()) and not kept[:, 2].any()


def test_parallel_directions_do_not_count_twice():
    v = units(1)
    basis, x, _ = directions("map", torch.cat([v, v, -v]))
    relevance = torch.randn_like(x)
    torch.testing.assert_close(basis.keep(relevance, (0, 1, 2), x), basis.keep(relevance, (0,), x))
    torch.testing.assert_close(basis.decode(basis.encode(x), x), x)


def test_directions_that_do_not_fit_are_refused():
    for vectors, kind in (
        (torch.ones(1, 4) / 2, ShapeError),
        (torch.ones(5), ShapeError),
        (torch.ones(1, 5), BadValueError),
    ):
        with pytest.raises(kind):
            directions("map", vectors)
    one, other = (directions("map", units(1, seed=s))[0].digest for s in (0, 1))
    assert one != other and len(one) == 8
