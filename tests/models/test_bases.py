"""The basis of units: codes, their inverse, and the relevance that flows through some components."""

import pytest
import torch

from workbench.models.bases import UnitBasis
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
