"""Targets are described, read back, and begin relevance where they say, in the output and in the picture."""

from __future__ import annotations

import logging

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import workbench as wb
from workbench.attribution.crp import concept_maps, explain, heat
from workbench.attribution.targets import Target
from workbench.core.errors import (
    BadValueError,
    IncompleteError,
    NoPredictionError,
    NotFiniteError,
    ShapeError,
    UnknownComponentError,
)
from workbench.data.torch_data import TorchData
from workbench.models.card import Card
from workbench.models.handle import ModelHandle
from workbench.testing.nets import handle_of
from workbench.testing.small import SMALL

OUTPUT = torch.tensor([[1.0, -2.0, 0.5, 3.0], [4.0, 0.25, -1.0, 4.0], [-3.0, -1.0, -2.0, -5.0]])


@pytest.mark.parametrize(
    "target",
    [
        Target.top(),
        Target.label(),
        Target.logit(3),
        Target.difference(3, 1),
        Target.component("layer4/unit/17"),
        Target.box(),
        Target.box(2, 3),
        Target.box(1, threshold=-0.5),
        Target.box(0, 0, threshold=1 / 3),
        Target.token(-1, 42),
        Target.token(0, "yes"),
        Target.token(3, "42"),
        Target.token(3, ' a:"b"\n'),
        Target.token(3, '"'),
    ],
)
def test_text_leads_back_to_the_target(target):
    assert Target.parse(str(target)) == target
    assert Target.parse(target) is target
    assert hash(Target.parse(str(target))) == hash(target)


def test_short_forms():
    assert Target.parse(3) == Target.parse("3") == Target.logit(3)
    assert Target.component("a.b/4") == Target.component("a.b/unit/4")
    assert Target.parse("box:1:any:0.25") == Target.box(1) and str(Target.box(1)) == "box:1"
    assert Target.parse("box:0:2:0.25") == Target.box(0, 2) and str(Target.box(0, 2)) == "box:0:2"
    assert str(Target.box(0, threshold=0.5)) == "box:0:any:0.5"
    assert Target.parse("token:-1: yes") == Target.token(-1, " yes")
    assert Target.parse("token:2:7") == Target.token(2, 7) != Target.parse('token:2:"7"') == Target.token(2, "7")


@pytest.mark.parametrize(
    "text",
    [
        "", "best", "logit", "logit:x", "logit:-1", "difference:3", "difference:2:2", "top:1", "mask:1", "1.5",
        "box", "box:x", "box:-1", "box:0:1.5", "box:0:1:x", "box:0:any:nan", "box:0:1:0.5:2",
        "token", "token:1", "token:1:", "token:x:4", "token:1.5:4", 'token:1:""', 'token:1:"a"b"',
    ],
)  # fmt: skip
def test_what_is_no_target_is_refused(text):
    with pytest.raises(BadValueError):
        Target.parse(text)
    with pytest.raises(UnknownComponentError):
        Target.parse("component:layer4")


@pytest.mark.parametrize("index", [-1, 1.5, True, None, float("inf"), [0, 1]])
def test_outputs_are_whole_numbers(index):
    with pytest.raises(BadValueError):
        Target.logit(index)
    with pytest.raises(BadValueError):
        Target.box(index)
    if index is not None:
        with pytest.raises(BadValueError):
            Target.box(0, index)
    with pytest.raises(BadValueError):
        Target.token(0, index)
    if index != -1:
        with pytest.raises(BadValueError, match="position of a sequence"):
            Target.token(index, 0)


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
    with pytest.raises(BadValueError, match="names output 4; the model has 4 outputs, from 0"):
        Target.logit(4).start(OUTPUT)
    with pytest.raises(BadValueError, match="names output 7"):
        Target.difference(0, 7).start(OUTPUT)
    with pytest.raises(BadValueError, match="names none of the model's outputs: inputs of the batch 1"):
        Target.label().start(OUTPUT, labels=[0, -1, 2])
    with pytest.raises(BadValueError, match="needs the label of every sample, and none are given"):
        Target.label().start(OUTPUT)
    with pytest.raises(BadValueError, match="names output 9"):
        Target.label().start(OUTPUT, labels=[0, 9, 2])
    with pytest.raises(BadValueError, match="from its layer"):
        Target.component("a/0").start(OUTPUT)


def test_seeds_hold_no_graph():
    output = OUTPUT.clone().requires_grad_() * 1
    start = Target.top().start(output)
    assert not start.seed.requires_grad and not start.score.requires_grad


# --- boxes and tokens of an output ----------------------------------------------------------------------------------

BOXES = torch.randn(4, 6, 3, generator=torch.Generator().manual_seed(2))  # (sample, box, class_)


def slow_box(output, rank, class_):
    """Seed, score, class and box of each sample, box by box."""
    seed, found = torch.zeros_like(output), []
    for n, boxes in enumerate(output.tolist()):
        entries = []
        for box, scores in enumerate(boxes):
            best = scores.index(max(scores)) if class_ is None else class_
            entries.append((-scores[best], box, best))
        score, box, best = sorted(entries)[rank]
        seed[n, box, best] = -score
        found.append((-score, best, box))
    return seed, [list(column) for column in zip(*found, strict=True)]


@pytest.mark.parametrize("class_", [None, 0, 2])
@pytest.mark.parametrize("rank", [0, 1, 5])
def test_a_box_is_the_one_that_sorting_finds(rank, class_):
    for output in (BOXES, BOXES.round()):  # rounded, most scores are ties
        start = Target.box(rank, class_, threshold=-9).start(output)
        seed, (score, index, box) = slow_box(output, rank, class_)
        torch.testing.assert_close(start.seed, seed)
        assert start.score.tolist() == pytest.approx(score)
        assert start.index.tolist() == index and start.position.tolist() == box
        ones = Target.box(rank, class_, threshold=-9).start(output, as_gradient=True).seed
        assert ones.sum() == len(output) and bool((ones[torch.arange(4), box, index] == 1).all())


def test_a_token_is_one_entry():
    for position in (-6, -1, 0, 4):
        start = Target.token(position, 2).start(BOXES)
        expected = torch.zeros_like(BOXES)
        expected[:, position, 2] = BOXES[:, position, 2]
        torch.testing.assert_close(start.seed, expected)
        torch.testing.assert_close(start.score, BOXES[:, position, 2])
        assert start.position.tolist() == [position % 6] * 4 and start.index.tolist() == [2] * 4


def test_an_earlier_start_names_the_same_entries_again():
    first = Target.box(threshold=-9).start(BOXES)
    again = Target.box(threshold=-9).start(-BOXES, at=first)
    torch.testing.assert_close(again.seed, -first.seed)
    assert torch.equal(again.position, first.position)


def test_without_a_box_there_is_nothing_to_explain():
    output = torch.tensor([[[0.1, 0.2], [0.3, 0.1]], [[0.2, 0.25], [0.2, 0.0]], [[0.5, 0.2], [0.6, 0.3]]])
    assert Target.box(threshold=0.2).start(output).position.tolist() == [1, 0, 1]
    with pytest.raises(
        NoPredictionError, match=r"the best box has no score above 0.25: inputs of the batch 1\."
    ) as one:
        Target.box().start(output)
    assert one.value.rows == (1,) and "threshold" in one.value.hint and isinstance(one.value, NotFiniteError)
    assert "samples 31." in one.value.named([30, 31, 32]).message
    with pytest.raises(NoPredictionError, match="second best box of class 1 .* 0, 1, 2"):
        Target.box(1, 1).start(output)
    with pytest.raises(NoPredictionError, match="0, 1, 2, 3, 4, 5, 6, 7 and 2 more"):
        Target.box().start(torch.zeros(10, 2, 2))


@pytest.mark.parametrize(
    ("target", "output", "kind", "message"),
    [
        (Target.box(6), BOXES, BadValueError, "box 6 by rank; the model gives 6"),
        (Target.box(0, 3), BOXES, BadValueError, "output 3; the model has 3"),
        (Target.box(), OUTPUT, ShapeError, r"\(sample, box, class_\); the model's has 2 axes.*Target.top"),
        (Target.token(6, 0), BOXES, BadValueError, "position 6; the model's sequence has 6"),
        (Target.token(-7, 0), BOXES, BadValueError, "position -7"),
        (Target.token(0, 3), BOXES, BadValueError, "output 3; the model has 3"),
        (Target.token(0, 3), BOXES[..., None], ShapeError, r"vocabulary\); the model's has 4 axes.*Target.mask"),
        (Target.token(0, "yes"), BOXES, BadValueError, "here is no tokenizer"),
        (Target.logit(3), BOXES, ShapeError, r"Target.box\(0\), for sequences Target.token"),
        (Target.difference(0, 4), OUTPUT, BadValueError, "output 4; the model has 4"),
    ],
)
def test_an_entry_that_does_not_exist_is_refused_before_and_after_the_pass(target, output, kind, message):
    with pytest.raises(kind, match=f"(?s){message}"):
        target.start(output)
    with pytest.raises(kind, match=f"(?s){message}"):
        target.check(output.shape[1:])


def test_the_entry_itself_is_not_needed_for_the_check():
    Target.box(5, 2).check((6, 3))
    Target.token(-6, 2).check((6, 3))
    Target.difference(0, 3).check((4,))
    Target.top().check((6, 3))  # the default, which a detector's session has too


# --- planted: where in the picture ------------------------------------------------------------------------------------


class Cells(nn.Module):
    """A detector: each cell of 4 x 4 pixels is a box, scored by the mean brightness of its three colours."""

    def __init__(self):
        super().__init__()
        self.colours, self.relu, self.pool = nn.Conv2d(3, 5, 1, bias=False), nn.ReLU(), nn.AvgPool2d(4)
        self.head = nn.Conv2d(5, 3, 1, bias=False)
        with torch.no_grad():
            self.colours.weight.zero_()[:3, :, 0, 0] = torch.eye(3)
            self.head.weight.zero_()[:, :3, 0, 0] = torch.eye(3)

    def forward(self, x):
        return self.head(self.pool(self.relu(self.colours(x)))).flatten(2).transpose(1, 2)


class Columns(nn.Module):
    """A sequence: each pair of columns of a picture of 12 x 12 is a token, scored for a vocabulary of 7."""

    def __init__(self):
        super().__init__()
        self.embed, self.relu = nn.Conv2d(3, 5, (12, 2), stride=(12, 2)), nn.ReLU()
        self.head = nn.Conv2d(5, 7, 1)
        with torch.no_grad():
            for p in self.parameters():
                p.copy_(torch.rand(p.shape, generator=torch.Generator().manual_seed(p.numel())) / 9)

    def forward(self, x):
        return self.head(self.relu(self.embed(x))).flatten(2).transpose(1, 2)


class Words:
    """A tokenizer that marks the beginning, unless it is told not to."""

    words = ("<s>", "no", "yes", "may", "be", "<b>", " yes")

    def encode(self, text, add_special_tokens=True):
        found = [self.words.index(text)] if text in self.words else [self.words.index(w) for w in text.split("|")]
        return [0, *found] if add_special_tokens else found

    def decode(self, ids):
        return "".join(self.words[i] for i in ids)


def squares(*placed, height=8, width=12):
    """A dark picture with bright cells: (row, column, colour, brightness)."""
    x = torch.full((3, height, width), -2.0)
    for row, column, colour, brightness in placed:
        x[colour, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = brightness
    return x


PICTURES = torch.stack([
    squares((1, 2, 0, 2.0), (0, 1, 1, 1.0)),
    squares((0, 0, 2, 1.5), (1, 1, 2, 1.0), (0, 2, 1, 0.5)),
    squares((1, 0, 1, 2.0), (0, 2, 0, 1.0), (0, 0, 2, 1.5)),
])  # fmt: skip
# Row, column, class and score of the box, for each picture.
PLANTED = {
    "box:0": [(1, 2, 0, 2.0), (0, 0, 2, 1.5), (1, 0, 1, 2.0)],
    "box:1": [(0, 1, 1, 1.0), (1, 1, 2, 1.0), (0, 0, 2, 1.5)],
    "box:0:1": [(0, 1, 1, 1.0), (0, 2, 1, 0.5), (1, 0, 1, 2.0)],
}


@pytest.mark.parametrize("rule", ["Epsilon", "EpsilonPlus", "gradient", "input_x_gradient", "integrated_gradients"])
@pytest.mark.parametrize("target", PLANTED)
def test_the_relevance_of_a_box_lies_in_its_cell(target, rule):
    found = explain(handle_of(Cells(), (3, 8, 12)), PICTURES, target, rule=rule, record=["head"])
    assert found.output.shape == (3, 6, 3)
    for i, (row, column, class_, score) in enumerate(PLANTED[target]):
        assert found.start.position[i] == 3 * row + column and found.start.index[i] == class_
        assert found.start.score[i] == score
        inside = torch.zeros(8, 12, dtype=torch.bool)
        inside[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = True
        one = heat(found.relevance)[i]
        assert one[inside].abs().sum() > 0 and one[~inside].abs().sum() == 0
        if "gradient" not in rule:
            assert float(one.sum()) == pytest.approx(score, rel=1e-4) and abs(found.gap[i]) < 1e-4
    assert found.layers["head"].flatten(1).count_nonzero(1).tolist() == [1, 1, 1]


@pytest.mark.parametrize("target", PLANTED)
def test_the_concept_maps_of_a_box(target):
    handle = handle_of(Cells(), (3, 8, 12))
    for i, (row, column, class_, score) in enumerate(PLANTED[target]):
        maps, pooled, start = concept_maps(handle, PICTURES[i : i + 1], ["relu/0", "relu/1", "relu/2"], target)
        assert pooled.tolist() == pytest.approx([score if c == class_ else 0 for c in range(5)], rel=1e-4)
        assert start.position.tolist() == [3 * row + column]
        strongest = int(maps[class_].argmax())
        assert (strongest // 12 // 4, strongest % 12 // 4) == (row, column)
        assert maps.abs().sum((1, 2)).nonzero().flatten().tolist() == [class_]


def with_words(tokenizer=None):
    return ModelHandle(Columns(), Card("columns", input_shape=(3, 12, 12), tokenizer=tokenizer or Words()))


@pytest.mark.parametrize("rule", ["EpsilonPlus", "gradient", "integrated_gradients"])
@pytest.mark.parametrize("position", [0, 3, -1])
def test_the_relevance_of_a_token_lies_in_its_columns(position, rule):
    handle, x = with_words(), torch.rand(2, 3, 12, 12) + 0.1
    found = explain(handle, x, Target.token(position, "yes"), rule=rule)
    torch.testing.assert_close(found.start.score, handle(x)[:, position, 2])
    inside = torch.zeros(12, dtype=torch.bool)
    inside[2 * (position % 6) : 2 * (position % 6) + 2] = True
    columns = heat(found.relevance).abs().sum(1)
    assert bool((columns[:, inside] > 0).all()) and columns[:, ~inside].abs().sum() == 0
    if rule == "EpsilonPlus":
        maps, _, start = concept_maps(handle, x[:1], ["relu/0", "relu/4"], f"token:{position}:2")
        assert start.position.tolist() == [position % 6]
        assert maps[:, :, ~inside].abs().sum() == 0 and bool((maps[:, :, inside].abs().sum((1, 2)) > 0).all())


def test_text_becomes_one_token():
    handle = with_words()
    assert Target.token(-1, "yes").resolved(handle) == Target.token(-1, 2)
    assert Target.token(-1, " yes").resolved(handle) == Target.token(-1, 6)
    assert Target.token(-1, "<b>").resolved(with_words(lambda text: [5])) == Target.token(-1, 5)
    assert Target.box().resolved(handle) == Target.box() and handle.class_name(2) == "yes"
    with pytest.raises(BadValueError, match=r"'may\|be' is 2 tokens for columns: \[3, 4\]"):
        explain(handle, torch.rand(1, 3, 12, 12), Target.token(0, "may|be"))
    with pytest.raises(BadValueError, match="net has no tokenizer, so the token 'yes' has no number"):
        explain(handle_of(Columns(), (3, 12, 12)), torch.rand(1, 3, 12, 12), "token:0:yes")


# --- in a session -----------------------------------------------------------------------------------------------------

EMPTY = [2, 3, 7, 10]


class Placed:
    """Pictures of 12 x 12: a bright cell at another place and in another colour in each, and `EMPTY` dark ones."""

    def __init__(self):
        self.targets = [i % 3 for i in range(11)]

    def __len__(self):
        return 11

    def cell(self, i):
        return i % 9 // 3, i % 3

    def __getitem__(self, i):
        picture = np.zeros((12, 12, 3), np.uint8)
        row, column = self.cell(i)
        if i not in EMPTY:
            picture[4 * row : 4 * row + 4, 4 * column : 4 * column + 4, self.targets[i]] = 255
        return Image.fromarray(picture), self.targets[i]


@pytest.fixture
def open_placed(tmp_path):
    opened = []

    def make(model):
        opened.append(wb.open_session(model, TorchData(Placed(), name="placed"), transform=SMALL, store=tmp_path))
        return opened[-1]

    yield make
    for session in opened:
        session.close()


def test_a_session_explains_boxes(open_placed):
    session = open_placed(Cells())
    found = session.explain([1, 5], Target.box())
    assert found.position.tolist() == [1, 5] and found.target.tolist() == [1, 2]
    assert found.score.tolist() == pytest.approx([2, 2]) and found.target_text == "box:0"
    strongest = found.heatmap.flatten(1).argmax(1)
    assert (strongest // 12 // 4 * 3 + strongest % 12 // 4).tolist() == [1, 5]
    assert torch.equal(session.explain([1, 5], "box:0").position, found.position)  # from the store
    titles = [a.text for a in found.plot().layout.annotations]
    assert any("sample 5" in t for t in titles) and any("score 2" in t for t in titles)
    assert session.concept_maps(5, ["relu/2"], target="box:0").flatten().argmax() == strongest[1]
    best = session.predict(5)
    assert best[0][:3] == (2, "output 2", pytest.approx(2)) and len(best) == 3 and np.isnan([b[3] for b in best]).all()
    with pytest.raises(NoPredictionError, match=r"samples 2, 7\."):
        session.explain([2, 5, 7], "box:0")
    session.selection.target = "box:0:2"
    for target, kind in (("box:9", BadValueError), ("box:0:3", BadValueError), ("logit:0", ShapeError)):
        with pytest.raises(kind):
            session.explain(0, target)
        with pytest.raises(kind):
            session.concept_maps(0, ["relu/0"], target=target)
        with pytest.raises(kind):
            session.selection.target = target
        with pytest.raises(kind):
            session.plan("relu", target=target)
    assert session.selection.target == "box:0:2"


def test_a_sweep_leaves_out_samples_without_a_box_and_counts_them(open_placed, caplog):
    session, passes = open_placed(Cells()), []
    hook = session.model.module.register_forward_pre_hook(lambda m, a: passes.append(len(a[0])))
    with caplog.at_level(logging.INFO, logger="workbench.sweeps"):
        session.sweep(["relu", "head"], target="box:0", batch=8)
    hook.remove()
    assert passes[-4:] == [8, 5, 3, 2]
    assert "4 left out" in caplog.text and 'sample 7 ("' in caplog.text and "no score above 0.25" in caplog.text
    table = session.relevances("relu", target="box:0")
    full = [i for i in range(11) if i not in EMPTY]
    assert (~table.is_valid).nonzero().flatten().tolist() == EMPTY
    assert bool(table.values[EMPTY].isnan().all())
    for i in full:
        expected = [2.0 if c == i % 3 else 0.0 for c in range(5)]
        assert table.values[i].tolist() == pytest.approx(expected, rel=1e-4) and table.target[i] == i % 3
    references = session.references("relu", by="relevance", k=4, target="box:0")
    assert references.n_samples == 7 and set(references.ids[0].tolist()) <= set(full)


@pytest.mark.parametrize("keep", ["tables", "references"])
def test_a_sweep_of_boxes_does_not_answer_for_the_activations_of_the_data(open_placed, keep):
    session = open_placed(Cells())
    before = session.activations("relu")
    plan = session.sweep(["relu", "head"], target="box:0", keep=keep)
    assert plan.kinds == ("relevance",) and "activations" not in str(plan)
    assert session.references("relu", by="relevance", k=4, target="box:0").n_samples == 7
    for layer in ("relu", "head"):  # one swept before, one not
        assert session.activations(layer).is_valid.all()
        assert session.references(layer, k=11).n_samples == 11
    torch.testing.assert_close(session.activations("relu").values, before.values, rtol=0, atol=0)
    passes = []
    hook = session.model.module.register_forward_pre_hook(lambda m, a: passes.append(len(a[0])))
    session.sweep(["relu", "head"], target="box:0", keep=keep)
    hook.remove()
    assert not passes  # it is all there


def test_kept_references_by_relevance_of_boxes_are_those_of_the_tables(open_placed):
    session = open_placed(Cells())
    session.sweep("relu", target="box:0", keep="references")
    kept = session.references("relu", by="relevance", k=4, target="box:0")
    with pytest.raises(IncompleteError, match="kept references alone"):
        session.relevances("relu", target="box:0")
    session.sweep("relu", target="box:0")
    tables = session.references("relu", by="relevance", k=4, target="box:0")
    assert kept.recipe != tables.recipe and torch.equal(kept.ids, tables.ids)
    assert torch.equal(kept.values, tables.values) and torch.equal(kept.target, tables.target)


@pytest.mark.parametrize("keep", ["tables", "references"])
def test_a_sweep_in_which_no_sample_has_a_box(open_placed, keep):
    session = open_placed(Cells())
    for _ in range(2):  # and who asks again is told again
        with pytest.raises(NotFiniteError, match="None of the 11 samples .* for the target box:0:any:5"):
            session.sweep("relu", target="box:0:any:5", keep=keep)


def test_a_session_explains_tokens(open_placed):
    session = open_placed(lambda: (Columns(), Card("columns", tokenizer=Words())))
    found = session.explain([0, 1, 4], Target.token(-1, "yes"))
    assert found.position.tolist() == [5, 5, 5] and found.target.tolist() == [2, 2, 2]
    assert found.target_text == "token:-1:2" and found.labels == ("yes",) * 3 and found.output.shape == (3, 6, 7)
    assert any("yes" in a.text for a in found.plot().layout.annotations)
    assert bool((found.heatmap[:, :, :10] == 0).all())
    assert {name for _, name, *_ in session.predict(0, n=7)} == set(Words.words)
    session.selection.target = "token:0:yes"
    assert session.selection.target == "token:0:2"
    table = session.relevances("relu", target="token:0:yes")
    direct = session.explain(list(range(11)), "token:0:2", record=["relu"])
    torch.testing.assert_close(table.values, direct.relevance["relu"], rtol=1e-4, atol=1e-6)
    with pytest.raises(BadValueError, match="2 tokens"):
        session.sweep("relu", target="token:0:may|be")
    with pytest.raises(BadValueError, match="position 6"):
        session.sweep("relu", target="token:6:yes")
