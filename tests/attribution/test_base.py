"""Targets are described, read back, and begin relevance where they say; what the gap is."""

from __future__ import annotations

import pytest
import torch

from workbench.attribution.base import Target, gap
from workbench.core.errors import BadValueError, ShapeError, UnknownComponentError

OUTPUT = torch.tensor([[1.0, -2.0, 0.5, 3.0], [4.0, 0.25, -1.0, 4.0], [-3.0, -1.0, -2.0, -5.0]])


@pytest.mark.parametrize(
    "target",
    [Target.top(), Target.label(), Target.logit(3), Target.difference(3, 1), Target.component("layer4/unit/17")],
)
def test_text_leads_back_to_the_target(target):
    assert Target.parse(str(target)) == target
    assert Target.parse(target) is target
    assert hash(Target.parse(str(target))) == hash(target)


def test_short_forms():
    assert Target.parse(3) == Target.parse("3") == Target.logit(3)
    assert Target.component("a.b/4") == Target.component("a.b/unit/4")


@pytest.mark.parametrize(
    "text", ["", "best", "logit", "logit:x", "logit:-1", "difference:3", "difference:2:2", "top:1", "mask:1", "1.5"]
)
def test_what_is_no_target_is_refused(text):
    with pytest.raises(BadValueError):
        Target.parse(text)
    with pytest.raises(UnknownComponentError):
        Target.parse("component:layer4")


@pytest.mark.parametrize("index", [-1, 1.5, True])
def test_outputs_are_whole_numbers(index):
    with pytest.raises(BadValueError):
        Target.logit(index)


def seeds(target, **more):
    start = target.start(OUTPUT, **more)
    return start.seed.tolist(), start.score.tolist(), start.index.tolist()


def test_relevance_begins_with_the_value():
    assert seeds(Target.top()) == ([[0, 0, 0, 3], [4, 0, 0, 0], [0, -1, 0, 0]], [3, 4, -1], [3, 0, 1])
    assert seeds(Target.logit(2)) == ([[0, 0, 0.5, 0], [0, 0, -1, 0], [0, 0, -2, 0]], [0.5, -1, -2], [2, 2, 2])
    assert seeds(Target.label(), labels=[1, 3, 0]) == (
        [[0, -2, 0, 0], [0, 0, 0, 4], [-3, 0, 0, 0]],
        [-2, 4, -3],
        [1, 3, 0],
    )
    assert seeds(Target.difference(3, 1)) == (
        [[0, 2, 0, 3], [0, -0.25, 0, 4], [0, 1, 0, -5]], [5, 3.75, -4], [3, 3, 3],
    )  # fmt: skip


def test_gradients_begin_with_one():
    assert seeds(Target.top(), as_gradient=True)[0] == [[0, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, 0]]
    seed, score, _ = seeds(Target.difference(0, 2), as_gradient=True)
    assert seed == [[1, 0, -1, 0]] * 3 and score == [0.5, 5, -1]


def test_a_region_of_a_dense_output():
    output = torch.arange(2 * 3 * 2 * 4, dtype=torch.float32).reshape(2, 3, 2, 4)
    region = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 0]])
    start = Target.mask(region, 1).start(output)
    assert start.score.tolist() == [8 + 13 + 14, 32 + 37 + 38]
    assert start.seed[0, 1].tolist() == [[8, 0, 0, 0], [0, 13, 14, 0]] and start.seed[:, [0, 2]].abs().sum() == 0
    assert Target.mask(region, 1).start(output, as_gradient=True).seed[1, 1].tolist() == region.tolist()
    assert str(Target.mask(region, 1)) != str(Target.mask(1 - region, 1))
    with pytest.raises(ShapeError, match=r"region of the target has shape \(2, 3\).*positions \(2, 4\)"):
        Target.mask(torch.ones(2, 3), 1).start(output)
    with pytest.raises(ShapeError, match="region"):
        Target.mask(region, 1).start(OUTPUT)
    with pytest.raises(ShapeError, match=r"Target.mask") as error:
        Target.top().start(output)
    assert "4 axes" in str(error.value)


def test_what_the_output_does_not_have_is_refused():
    with pytest.raises(BadValueError, match="names output 4; the model has 4, from 0"):
        Target.logit(4).start(OUTPUT)
    with pytest.raises(BadValueError, match="names output 7"):
        Target.difference(0, 7).start(OUTPUT)
    with pytest.raises(BadValueError, match="label for every sample"):
        Target.label().start(OUTPUT, labels=[0, -1, 2])
    with pytest.raises(BadValueError, match="label for every sample"):
        Target.label().start(OUTPUT)
    with pytest.raises(BadValueError, match="names output 9"):
        Target.label().start(OUTPUT, labels=[0, 9, 2])
    with pytest.raises(BadValueError, match="from its layer"):
        Target.component("a/0").start(OUTPUT)


def test_seeds_hold_no_graph():
    output = OUTPUT.clone().requires_grad_() * 1
    start = Target.top().start(output)
    assert not start.seed.requires_grad and not start.score.requires_grad


def test_the_gap():
    score = torch.tensor([2.0, -4.0, 0.0, 1e-7, -1e-9])
    total = torch.tensor([1.5, -5.0, 0.25, 0.0, 0.5])
    assert gap(score, total).tolist() == pytest.approx([0.25, 0.25, 0.25, 1e-7, 0.5])
