"""RRR and CDEP: the penalties against slow twins, empty masks, training on a small net, and refusals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from workbench.core.errors import BadValueError, ModelError, ShapeError
from workbench.methods import CDEP, RRR, ArtifactMasks, PatternCAV
from workbench.methods.correction.right_reasons import Contributions, InputGradient, Masks, mask_facts
from workbench.methods.correction.trainee import Trainee
from workbench.methods.correction.training import Batch
from workbench.testing.nets import Twice, handle_of, randomised, small_vgg

MASK = np.pad(np.full((4, 5), 0.5), ((2, 4), (1, 2)))
SOFT = np.linspace(0, 3, 80).reshape(10, 8)
MASKS = {1: MASK, 5: SOFT, 9: np.zeros((10, 8))}


def batch_of(s, ids):
    return Batch(np.array(ids), torch.stack([s.data.tensor(i) for i in ids]), torch.tensor(s.data.labels[ids]))


@pytest.mark.parametrize("score", ["predicted", "label", "log-probability", "loss"])
@pytest.mark.parametrize("norm", ["cosine", "squared"])
def test_the_penalty_is_the_formula(open_on, score, norm):
    s = open_on()
    trainee, batch = Trainee(s.model, None), batch_of(s, [1, 3, 5, 9])
    objective = InputGradient(Masks(s, MASKS), 1.0, score=score, norm=norm)
    loss, penalty = objective.losses(trainee, batch, F.cross_entropy, torch.Generator())
    total = []
    for i, x in enumerate(batch.value):
        one = x[None].clone().requires_grad_()
        z = trainee.whole(one)[0]
        m = {
            "predicted": z.max(),
            "label": z[batch.target[i]],
            "log-probability": (z.softmax(0) + 1e-5).log().mean(),
            "loss": F.cross_entropy(z[None], batch.target[i : i + 1]),
        }[score]
        (g,) = torch.autograd.grad(m, one)
        mask = torch.as_tensor(MASKS.get(int(batch.ids[i]), np.zeros((10, 8)))).float()
        if norm == "squared":
            total.append((g[0] ** 2 * (mask > 0.1 * mask.max())).sum() if mask.max() > 0 else torch.tensor(0.0))
        else:
            heat = g[0].sum(0).abs()
            total.append((heat * mask).sum() / (heat.norm() * mask.norm()).clamp(min=1e-12))
    torch.testing.assert_close(penalty, torch.stack(total).mean(), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(loss, F.cross_entropy(s.model(batch.value), batch.target))


@pytest.mark.parametrize("kind", ["RRR", "CDEP"])
def test_with_an_empty_mask_the_loss_is_that_of_the_task(open_on, kind):
    """Acceptance: exactly."""
    s = open_on()
    trainee, batch = Trainee(s.model, None), batch_of(s, [3, 9])
    masks = Masks(s, MASKS)
    objective = (
        InputGradient(masks, 50.0, score="predicted", norm="cosine")
        if kind == "RRR"
        else Contributions(s, masks, 50.0, 1)
    )
    loss, penalty = objective.losses(trainee, batch, F.cross_entropy, torch.Generator())
    plain = F.cross_entropy(trainee.whole(batch.value), batch.target)
    assert torch.equal(loss, plain) and float(penalty) == 0
    assert torch.equal(loss + objective.strength * penalty, plain)


def test_contributions_are_those_of_the_decomposition(open_on):
    """The part above a layer is decomposed from what was kept of the part below."""
    s = open_on(handle_of(randomised(small_vgg()), (3, 17, 13)), data=None)
    x = torch.randn(3, 3, 17, 13)
    mask = torch.zeros(17, 13)
    mask[3:9, 2:7] = 1

    class Data:
        labels, classes = np.zeros(3, int), ()

        def tensor(self, i):
            return x[i]

    s.__dict__["_data"] = None
    ctx = type("C", (), {"data": Data(), "progress": s.progress})()
    found = []
    for layer in (None, "6"):
        trainee = Trainee(s.model, layer)
        objective = Contributions(ctx, Masks(ctx, {0: mask, 2: mask}), 1.0, 0)
        value = trainee.lower(x) if trainee.is_cut else x
        loss, penalty = objective.losses(
            trainee, Batch(np.arange(3), value, torch.zeros(3).long()), F.cross_entropy, torch.Generator()
        )
        found.append(penalty)
        assert 0 < float(penalty.detach()) < 1
    torch.testing.assert_close(*found)


def test_training_takes_the_gradient_off_the_mask(open_on):
    s = open_on()
    masks = {i: MASK for i in range(40)}
    found = s.fit(RRR(masks, "features.0", epochs=15, rate=0.02, strength=20.0, batch=20))
    assert found.curve_.penalty[-1] < 0.8 * found.curve_.penalty[1]
    found = s.fit(CDEP(masks, "features.0", epochs=15, rate=0.02, strength=20.0, batch=20, dilation=0))
    assert found.curve_.penalty[-1] < found.curve_.penalty[1]
    assert {e.where for e in found.edits()} == {"features.3.weight", "head.weight"}


def test_masks_of_earlier_artifacts_are_added(open_on):
    s = open_on()
    found = Masks(s, [MASKS, {1: SOFT}]).of(np.array([1, 5, 9]), torch.zeros(3, 3, 10, 8))
    torch.testing.assert_close(found[0], torch.as_tensor(MASK / MASK.max() + SOFT / SOFT.max()).float())
    torch.testing.assert_close(found[1], torch.as_tensor(SOFT / SOFT.max()).float())
    assert not found[2].any()


def test_what_cannot_be_is_refused(open_on):
    s = open_on()
    with pytest.raises(BadValueError, match="no sample has a mask"):
        s.fit(RRR({9: np.zeros((10, 8))}))
    with pytest.raises(BadValueError, match="no sample has a mask"):
        s.fit(CDEP("artifact"))
    with pytest.raises(BadValueError, match="needs masks"):
        s.fit(RRR(MASK))
    with pytest.raises(BadValueError, match="negative"):
        s.fit(RRR({1: -MASK}))
    with pytest.raises(ShapeError, match="mask of sample 1"):
        s.fit(RRR({1: MASK[:5]}, epochs=1))
    silu = open_on(
        handle_of(
            randomised(
                nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 3))
            ),
            (3, 10, 8),
        )
    )
    with pytest.raises(ModelError, match="not defined for SiLU"):
        silu.fit(CDEP(MASKS, epochs=1))
    assert silu.fit(RRR(MASKS, epochs=1)).edits(), "RRR takes any net"
    functional = open_on(handle_of(randomised(Twice()), (3, 10, 8)))
    with pytest.raises(ModelError, match="do not add up"):
        functional.fit(CDEP(MASKS, epochs=1))


def test_masks_of_a_direction_are_taken_as_they_are_fitted(open_on):
    """From a direction to RRR and CDEP: the masks of its recipe, and the result that the same arrays give."""
    s = open_on()
    c = s.fit(PatternCAV("features.4", positives=[1, 5, 9, 12, 20, 31], resamples=0))
    made = s.fit(ArtifactMasks(c, samples=[1, 5, 9]))
    assert made.masks_.any((1, 2)).all() and not made.masks_.all()
    mapping = {1: made.masks_[0], 5: made.masks_[1], 9: made.masks_[2]}
    for method in (RRR, CDEP):
        fitted, same = (s.fit(method(masks, epochs=1, dilation=0) if method is CDEP else method(masks, epochs=1))
                        for masks in (made, mapping))  # fmt: skip
        assert [e.describe() for e in fitted.edits()] == [e.describe() for e in same.edits()]
        assert method(made).recipe_params(s) == method(mapping).recipe_params(s)
        other = s.fit(ArtifactMasks(c, samples=[1, 5, 9], recipe="percentile"))
        assert method(other).recipe_params(s) != method(made).recipe_params(s)
        with pytest.raises(BadValueError, match=r"not fitted yet. Fit them first: s.fit"):
            s.fit(method(ArtifactMasks(c)))
        assert "ArtifactMasks(" in repr(method(made))
    both = Masks(s, [made, MASKS]).one(5)
    torch.testing.assert_close(both, torch.as_tensor(made.masks_[1] + SOFT / SOFT.max()).float())
    assert mask_facts(s, [made]) == mask_facts(s, [mapping]) == mask_facts(s, made)
    with pytest.raises(BadValueError, match="or fitted ArtifactMasks; got int"):
        s.fit(RRR(3))
