"""Maps that are doubted: components of a region, and the model with random weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from workbench.core.errors import BadValueError, UnknownLayerError
from workbench.session.checking import _rank_correlation

WHOLE = {"x": 0, "y": 0, "width": 1, "height": 1}


def test_components_of_a_region_are_ranked_by_what_passes_through_them_into_it(small):
    region = {"x": 0.25, "y": 0.5, "width": 0.5, "height": 0.25}
    found = small.rank_in_region(3, region, "relu_b", n=7)
    twin = {}
    for i in range(7):  # one condition at a time, through the whole explanation
        heat = small.explain(3, given=[f"relu_b/unit/{i}"]).heatmap[0]
        twin[f"relu_b/unit/{i}"] = float(heat[6:9, 3:9].sum())
    assert set(found.components) == set(twin) and found.quantity == "relevance_inside"
    np.testing.assert_allclose(found.scores, [twin[c] for c in found.components], rtol=1e-4, atol=1e-6)
    assert list(found.scores) == sorted(found.scores, reverse=True)


def test_the_whole_picture_and_its_parts_add_up_to_the_whole_map(small):
    full = small.explain(5).heatmap[0]
    halves = [
        small.rank_in_region(5, {"x": 0, "y": y, "width": 1, "height": 0.5}, "relu_b", n=7).scores.sum()
        for y in (0, 0.5)
    ]
    assert small.rank_in_region(5, WHOLE, "relu_b", n=7).scores.sum() == pytest.approx(float(full.sum()), rel=1e-4)
    assert halves[0] == pytest.approx(float(full[:6].sum()), rel=1e-3, abs=1e-6)
    assert halves[1] == pytest.approx(float(full[6:].sum()), rel=1e-3, abs=1e-6)


def test_a_region_smaller_than_a_pixel_is_that_pixel(small):
    corner = small.rank_in_region(2, {"x": 1.0, "y": 1.0, "width": 0.0, "height": 0.0}, "relu_b", n=7)
    full = small.explain(2).heatmap[0]
    assert corner.scores.sum() == pytest.approx(float(full[11, 11]), rel=1e-3, abs=1e-6)


def test_few_components_are_those_with_the_most_relevance(small):
    leading = small.explain(3, record=["relu_b"]).top("relu_b", 2).components
    assert set(small.rank_in_region(3, WHOLE, "relu_b", n=2).components) == set(leading)


def test_wrong_questions_are_refused(small):
    with pytest.raises(BadValueError, match="within the picture"):
        small.rank_in_region(3, {**WHOLE, "x": 2}, "relu_b")
    with pytest.raises(UnknownLayerError):
        small.rank_in_region(3, WHOLE, "relu_c")
    with pytest.raises(BadValueError, match="`n`"):
        small.rank_in_region(3, WHOLE, "relu_b", n=0)


def test_the_sanity_check_explains_the_same_output_with_random_weights(small, counting):
    before = {name: p.clone() for name, p in small.model.base.named_parameters()}
    checked = small.sanity_check(4)
    assert checked.base.target.tolist() == checked.randomised.target.tolist()
    assert checked.base.score != checked.randomised.score
    twin = spearmanr(checked.base.heatmap[0].abs().flatten(), checked.randomised.heatmap[0].abs().flatten())[0]
    assert checked.correlation == pytest.approx(float(twin), abs=1e-6) and abs(checked.correlation) < 0.9
    assert all(torch.equal(p, before[name]) for name, p in small.model.base.named_parameters())
    assert f"{checked.correlation:.2f}" in repr(checked)
    counter = counting(small)
    again = small.sanity_check(4)
    assert again.correlation == checked.correlation and counter.calls == 0
    assert small.sanity_check(4, seed=1).correlation != checked.correlation
    assert len(checked.plot().data) >= 4


def test_weights_are_drawn_with_their_own_mean_and_spread(small):
    handle = small._randomised_model(0)
    for (name, p), (_, q) in zip(small.model.base.named_parameters(), handle.base.named_parameters(), strict=True):
        drawn = dict(handle.module.named_parameters())[name]
        assert torch.equal(p, q) and torch.equal(p, drawn) == (p.ndim < 2)
        if p.numel() > 100:
            assert abs(float((drawn.std() / p.std()).detach()) - 1) < 0.2


def test_a_method_that_ignores_the_weights_is_found_out(open_small):
    class Edges(nn.Module):
        """The input alone decides the map of gradient times input: the weights only scale it."""

        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.tensor([[2.0]]).repeat(1, 2) + torch.tensor([[0.1, -0.1]]))

        def forward(self, x):
            return x.flatten(1).mean(1, keepdim=True) * self.scale

    session = open_small(model=Edges(), classes=["a", "b"])
    assert session.sanity_check(1, rule="input_x_gradient").correlation == pytest.approx(1.0, abs=1e-3)


def test_ranks_with_ties_and_constants():
    rng = np.random.default_rng(0)
    a, b = (torch.as_tensor(rng.integers(-3, 4, 50).astype(np.float32)) for _ in range(2))
    assert _rank_correlation(a, b) == pytest.approx(spearmanr(a.abs(), b.abs())[0])
    assert np.isnan(_rank_correlation(a, torch.ones(50)))


def test_a_model_without_weights_is_refused(open_small):
    class Plain(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    with pytest.raises(BadValueError, match="no weights that could be drawn"):
        open_small(model=Plain(), classes=["a", "b", "c"]).sanity_check(0, rule="input_x_gradient")
