"""A trainee says what the model says, moves what lies above a layer, and gives its changes as edits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from workbench.core.errors import BadValueError, ModelError
from workbench.core.results import Edit
from workbench.methods.correction.trainee import Trainee
from workbench.models.hooks import record
from workbench.testing.nets import BiasFree, Residual, handle_of, randomised, small_vgg


def moving(handle, layer, trains="above"):
    return set(Trainee(handle, layer, trains).moving)


def test_what_moves_lies_above():
    vgg = handle_of(randomised(small_vgg()), (3, 17, 13))
    assert moving(vgg, "6") == {"9.weight", "9.bias", "11.weight", "11.bias"}
    assert moving(vgg, "3") == {"4.weight", "5.weight", "5.bias"} | moving(vgg, "6")
    assert moving(vgg, "6", "head") == moving(vgg, None) == {"11.weight", "11.bias"}
    net = handle_of(randomised(Residual()), (3, 12, 10))
    assert moving(net, "pool") == {"head.weight", "head.bias"}
    assert "side.weight" in moving(net, "b1") and "stem.weight" not in moving(net, "b1")
    with pytest.raises(BadValueError, match="No weights lie above"):
        Trainee(vgg, "11")


def test_weights_that_are_used_below_too_stay():
    shared = nn.Linear(4, 4)
    net = nn.Sequential(shared, nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), shared, nn.Linear(4, 2))
    assert moving(handle_of(randomised(net), (4,)), "3") == {"5.weight", "5.bias"}


@pytest.mark.parametrize("layer", ["0", "1", "6", "7"])
def test_it_says_what_the_model_says_also_where_batch_norm_is_folded(layer):
    handle = handle_of(randomised(small_vgg()), (3, 17, 13))
    edited = handle.variant([Edit("scale", "3", (1,), 0.3), Edit("scale", "9", (0, 4), 2.0)])
    trainee, x = Trainee(edited, layer), torch.randn(5, 3, 17, 13)
    with torch.no_grad():
        torch.testing.assert_close(trainee.whole(x), edited(x), rtol=1e-4, atol=1e-4)
        a = trainee.lower(x)
        torch.testing.assert_close(trainee.forward(a), edited(x), rtol=1e-4, atol=1e-4)
    seen = []
    with torch.no_grad(), edited.edited(), record(edited.module, [layer], lambda _, t: seen.append(t)):
        edited.module(x)
    torch.testing.assert_close(a, seen[0], rtol=1e-4, atol=1e-4)


def test_edits_are_what_changed():
    handle = handle_of(randomised(small_vgg()), (3, 17, 13))
    trainee = Trainee(handle, "6")
    assert trainee.edits() == []
    with torch.no_grad():
        trainee.moving["11.bias"] += 1
    (edit,) = trainee.edits()
    assert (edit.operation, edit.where) == ("replace", "11.bias")
    x = torch.randn(2, 3, 17, 13)
    torch.testing.assert_close(handle.variant([edit])(x), handle(x) + 1)


def test_a_linear_head_is_recognised_by_what_it_computes():
    assert Trainee(handle_of(randomised(BiasFree()), (3, 10, 8)), "features.4").linear_head().out_features == 6
    for handle, layer in (
        (handle_of(randomised(BiasFree()), (3, 10, 8)), "features.0"),
        (handle_of(randomised(small_vgg()), (3, 17, 13)), "9"),
        (
            handle_of(
                randomised(nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(4, 2))),
                (3, 8, 8),
            ),
            "0",
        ),
        (handle_of(randomised(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2))), (3, 8, 8)), "0"),
    ):
        assert Trainee(handle, layer).linear_head() is None
    behind_relu = handle_of(randomised(small_vgg()), (3, 17, 13))
    assert Trainee(behind_relu, "10").linear_head() is not None


def test_what_cannot_be_trained_is_refused():
    dense = handle_of(randomised(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 2, 1))), (3, 8, 8))
    with pytest.raises(ModelError, match="more than one number per class"):
        Trainee(dense, "1")
    handle = handle_of(randomised(small_vgg()), (3, 17, 13))
    gate = Edit("shift", "6", array=np.ones((1, 7)), options={"classes": [[1]]})
    with pytest.raises(ModelError, match="Train first"):
        Trainee(handle.variant([gate]), "6")
