"""Shifts: projection at every position and per sample, against slow twins; spans of several directions; gates."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.attribution.crp import explain
from workbench.core.errors import BadValueError, ModelError, ShapeError
from workbench.core.results import Edit
from workbench.models.layers import Layer
from workbench.models.shifts import CUTOFF, Shift
from workbench.testing.nets import BiasFree, handle_of, randomised, small_vgg

MAPS = Layer("l", "Conv2d", (7, 4, 3), 1, 1, 0, True)
TOKENS = Layer("t", "Linear", (5, 7), -1, 1, 0, True)
VECTOR = Layer("v", "Linear", (7,), 1, 1, 0, True)
RNG = np.random.default_rng(0)
V1 = RNG.normal(size=(1, 7))
V1 /= np.linalg.norm(V1)
V3 = RNG.normal(size=(3, 7))
MU = RNG.normal(size=7) + 2 * V1[0]


def shift(vectors=V1, layer=MAPS, reference=MU, arrays=None, **options):
    codes = np.zeros(len(vectors)) if reference is None else vectors @ reference
    return Shift(
        Edit("shift", layer.name, array=vectors, arrays={"codes": codes, **(arrays or {})}, options=options), layer
    )


@pytest.fixture
def x():
    return torch.randn(6, 7, 4, 3, dtype=torch.float64)


def projector(vectors):
    v = torch.as_tensor(vectors).T
    return v @ torch.linalg.pinv(v.T @ v) @ v.T


@pytest.mark.parametrize("vectors", [V1, 3 * V1, V3, np.concatenate([V3, V3[:1] + 1e-9, -2 * V3[1:2]])])
def test_at_every_position_it_is_the_projector_of_the_formula(x, vectors):
    """a' = a - P (a - mu), P = V (V'V)^-1 V', also for parallel and unnormalised directions."""
    p, mu = projector(vectors), torch.as_tensor(MU)
    torch.testing.assert_close(p @ p, p)
    found = shift(vectors)(x)
    for i in range(6):
        for at in np.ndindex(4, 3):
            a = x[(i, slice(None), *at)]
            torch.testing.assert_close(found[(i, slice(None), *at)], a - p @ (a - mu), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("at", ["position", "sample"])
@pytest.mark.parametrize("vectors", [V1, V3])
def test_it_is_idempotent_and_leaves_the_rest_alone(x, at, vectors):
    one = shift(vectors, at=at)
    found, p = one(x), projector(vectors)
    torch.testing.assert_close(one(found), found, rtol=0, atol=1e-12)
    rest = torch.eye(7).double() - p
    torch.testing.assert_close(torch.einsum("dc,nchw->ndhw", rest, found - x), torch.zeros_like(x), rtol=0, atol=1e-12)
    pooled = found.amax((2, 3)) if at == "sample" else found.movedim(1, -1)
    codes = torch.as_tensor(vectors @ MU)
    torch.testing.assert_close(pooled @ torch.as_tensor(vectors).T, codes.expand(*pooled.shape[:-1], len(codes)))


@pytest.mark.parametrize("apart", [1e-7, 1e-5, 1e-4, 1e-3, 0.5])  # 1 - cosine; the third is below the cutoff
def test_of_nearly_parallel_directions_the_common_one_counts(apart):
    """Codes that contradict one another by what an estimate errs, 0.01, must not move an activation far."""
    assert {x for x in (1e-7, 1e-5, 1e-4, 1e-3, 0.5) if np.sqrt(x / (2 - x)) > CUTOFF} == {0.5}
    rest = V3[0] - (V3[0] @ V1[0]) * V1[0]
    other = (1 - apart) * V1[0] + np.sqrt(1 - (1 - apart) ** 2) * rest / np.linalg.norm(rest)
    vectors = np.stack([V1[0], other])
    codes = np.array([1.0, 1.0 + 0.01])
    found = shift(vectors, layer=VECTOR, arrays={"codes": codes})(torch.zeros(1, 7, dtype=torch.float64))[0].numpy()
    middle = vectors.sum(0) / np.linalg.norm(vectors.sum(0))
    if apart == 0.5:
        np.testing.assert_allclose(found, np.linalg.pinv(vectors) @ codes)
    else:
        np.testing.assert_allclose(found, middle * codes.mean() / (middle @ V1[0]), atol=1e-12)


def test_each_artifact_may_lead_elsewhere_alone_than_with_others(x):
    detectors, threshold = np.eye(7)[[0, 0]], np.quantile(x.amax((2, 3)).numpy()[:, 0], [0.3, 0.6])
    references = [MU, MU + 1, MU - 2]  # of the first artifact alone, of the second, of both
    vectors, artifact = V3, [0, 1, 0]
    one = shift(
        vectors, arrays={"codes": np.stack([vectors @ m for m in references]), "detector": detectors,
                         "threshold": threshold}, artifact=artifact,
    )  # fmt: skip
    active = one.active(x)
    assert len(torch.unique(active, dim=0)) == 3, "none, the first, both"
    for i in range(6):
        mine = [j for j, a in enumerate(artifact) if active[i, a]]
        mu = references[2] if active[i].all() else references[int(active[i, 1])]
        expected = shift(vectors[mine], reference=mu)(x[i : i + 1]) if mine else x[i : i + 1]
        torch.testing.assert_close(one(x)[i : i + 1], expected)


@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_per_sample_one_shift_serves_all_positions(x, pooling):
    found = shift(at="sample", pooling=pooling)(x)
    v = torch.as_tensor(V1[0])
    for i in range(6):
        pooled = x[i].flatten(1).amax(1) if pooling == "max" else x[i].flatten(1).mean(1)
        expected = x[i] + ((float(V1[0] @ MU) - pooled @ v) * v)[:, None, None]
        torch.testing.assert_close(found[i], expected)


def test_to_zero_leaves_orthogonal_activations_alone(x):
    flat = x - torch.einsum("dc,nchw->ndhw", projector(V1), x)
    torch.testing.assert_close(shift(reference=None)(flat), flat, rtol=0, atol=1e-14)
    assert (shift()(flat) - flat).abs().max() > 0.1  # false for another reference


def test_on_vectors_both_forms_are_one():
    x = torch.randn(5, 7, dtype=torch.float64)
    torch.testing.assert_close(shift(layer=VECTOR)(x), shift(layer=VECTOR, at="sample")(x))


def test_of_tokens_all_or_the_first_move():
    x = torch.randn(3, 5, 7, dtype=torch.float64)
    first = shift(layer=TOKENS, tokens="first")(x)
    assert torch.equal(first[:, 1:], x[:, 1:])
    torch.testing.assert_close(first[:, 0], shift(layer=TOKENS)(x)[:, 0])
    by_cls = shift(layer=TOKENS, at="sample", pooling="token")(x)
    torch.testing.assert_close(by_cls[:, 0] @ torch.as_tensor(V1[0]), torch.full((3,), float(V1[0] @ MU)).double())
    torch.testing.assert_close(by_cls - x, (by_cls - x)[:, :1].expand(3, 5, 7))


@pytest.mark.parametrize("at", ["position", "sample"])
def test_a_gate_that_is_shut_changes_no_bit_and_an_open_one_is_the_plain_shift(x, at):
    detector = RNG.normal(size=(1, 7))
    margin = (x.amax((2, 3)) @ torch.as_tensor(detector[0])).sort().values

    def gated(threshold):
        return shift(at=at, arrays={"detector": detector, "threshold": np.array([threshold])})

    assert torch.equal(gated(float(margin[-1]) + 1)(x), x)
    assert torch.equal(gated(float(margin[0]) - 1)(x), shift(at=at)(x))
    half = gated(float(margin[2] + margin[3]) / 2)
    active = half.active(x)[:, 0]
    assert active.sum() == 3
    assert torch.equal(half(x)[~active], x[~active]) and torch.equal(half(x)[active], shift(at=at)(x)[active])
    order = torch.randperm(6)
    assert torch.equal(half(x[order]), half(x)[order])
    torch.testing.assert_close(torch.cat([half(part) for part in x.split(1)]), half(x))


def test_of_several_artifacts_those_that_are_there_act_together(x):
    vectors, detectors = V3, np.array([np.eye(7)[0], np.eye(7)[0]])
    options = {"artifact": [0, 0, 1]}
    threshold = np.quantile(x.amax((2, 3)).numpy()[:, 0], [0.3, 0.7])
    one = shift(vectors, arrays={"detector": detectors, "threshold": threshold}, **options)
    active = one.active(x)
    assert len(torch.unique(active, dim=0)) == 3, "none, the first, both"
    for i in range(6):
        mine = [j for j, a in enumerate(options["artifact"]) if active[i, a]]
        expected = shift(vectors[mine])(x[i : i + 1]) if mine else x[i : i + 1]
        torch.testing.assert_close(one(x)[i : i + 1], expected)


def test_a_soft_gate_takes_a_share(x):
    detector, threshold = RNG.normal(size=(1, 7)), np.array([0.5])
    soft = shift(arrays={"detector": detector, "threshold": threshold}, softness=0.7)
    share = ((x.amax((2, 3)) @ torch.as_tensor(detector[0]) - 0.5) / 0.7).sigmoid()
    expected = x + share[:, None, None, None] * (shift()(x) - x)
    torch.testing.assert_close(soft(x), expected)


WRONG = {
    "too short": (ShapeError, {"vectors": np.ones((1, 6))}),
    "no length": (BadValueError, {"vectors": np.zeros((1, 7))}),
    "not finite": (BadValueError, {"vectors": np.full((1, 7), np.nan)}),
    "an option": (BadValueError, {"where": "max"}),
    "a place": (BadValueError, {"at": "image"}),
    "artifacts": (ShapeError, {"artifact": [1]}),
    "half a detector": (BadValueError, {"arrays": {"detector": np.ones((1, 7))}}),
    "classes": (ShapeError, {"classes": [[1], [2]]}),
    "codes": (ShapeError, {"arrays": {"codes": np.ones((3, 1))}}),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_fit_is_refused(name):
    error, given = WRONG[name]
    base = handle_of(randomised(small_vgg()), (3, 17, 13))
    vectors = given.pop("vectors", V1)
    edit = Edit("shift", "6", array=vectors, arrays=given.pop("arrays", {}), options=given)
    with pytest.raises(error):
        base.variant([edit])


def test_a_gate_by_prediction_runs_with_its_model_only(x):
    with pytest.raises(ModelError, match="not alone"):
        shift(classes=[[1]])(x)


@pytest.mark.parametrize("at", ["position", "sample"])
def test_relevance_is_conserved_through_a_shift_to_zero(at):
    """To zero the shift is homogeneous, so all relevance passes; to a reference, the constant takes its share."""
    base = handle_of(randomised(BiasFree()).double(), (3, 10, 8))
    vector = np.random.default_rng(1).normal(size=(1, 9))
    vector /= np.linalg.norm(vector)
    inputs = torch.randn(4, 3, 10, 8, dtype=torch.float64)

    def gap(codes):
        edit = Edit("shift", "features.4", array=vector, arrays={"codes": np.array([codes])}, options={"at": at})
        return explain(base.variant([edit]), inputs, "logit:1", rule="EpsilonPlus").gap

    plain = explain(base, inputs, "logit:1", rule="EpsilonPlus").gap
    torch.testing.assert_close(gap(0.0), plain, rtol=0, atol=1e-3)
    assert gap(2.0).abs().max() > 0.01
