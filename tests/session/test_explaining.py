"""Explanations of a session: long batches, memory that runs out, and what a store that is read-only still gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import workbench as wb
from workbench.attribution.crp import explain, heat
from workbench.attribution.rules import composite
from workbench.core.effects import Intervention
from workbench.core.errors import (
    BadValueError,
    DataError,
    NotFiniteError,
    OutOfBudgetError,
    ShapeError,
    UnknownLabelError,
)
from workbench.data.torch_data import TorchData
from workbench.methods import ConceptAtlas
from workbench.session.session import Session
from workbench.store import Store
from workbench.testing.context import SmallData
from workbench.testing.nets import BiasFree, handle_of, randomised
from workbench.testing.small import SMALL, Listed, small_net


@pytest.fixture
def session(tmp_path):
    handle = handle_of(randomised(BiasFree()), (3, 10, 8), classes=list("abcdef"))
    with Session(handle, SmallData(45), Store.open(tmp_path / "store")) as session:
        yield session


def test_many_samples_are_explained_in_pieces(session):
    sizes = []
    hook = session.model.module.register_forward_pre_hook(lambda m, a: sizes.append(len(a[0])))
    ids = list(range(40))[::-1]
    found = session.explain(ids, "label", record=["features.4"], given=["pool/1", "pool/2"])
    hook.remove()
    assert sizes == [16, 16, 8] and found.samples == tuple(ids) and len(found) == 40
    x = torch.stack([session.data.tensor(i) for i in ids])
    whole = explain(
        session.model, x, "label", record=["features.4"], given=["pool/1", "pool/2"], labels=session.data.labels[ids]
    )
    torch.testing.assert_close(found.heatmap, heat(whole.relevance), rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(
        found.relevance["features.4"], whole.layers["features.4"].sum((2, 3)), rtol=1e-3, atol=1e-5
    )
    assert found.target.tolist() == session.data.labels[ids].tolist()


def test_what_does_not_fit_is_halved(session):
    sizes = []

    def too_large(module, args):
        sizes.append(len(args[0]))
        if len(args[0]) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")

    expected = session.explain(list(range(10)), "logit:1")
    session.store.clean(everything=True)
    hook = session.model.module.pool.register_forward_pre_hook(too_large)
    try:
        found = session.explain(list(range(10)), "logit:1")
    finally:
        hook.remove()
    assert sizes == [10, 5, 3, 2, 5, 3, 2]
    torch.testing.assert_close(found.heatmap, expected.heatmap, rtol=1e-3, atol=1e-5)


def test_one_that_does_not_fit_at_all(session):
    def never(module, args):
        raise RuntimeError("can't allocate memory")

    hook = session.model.module.pool.register_forward_pre_hook(never)
    try:
        with pytest.raises(OutOfBudgetError, match="single sample") as error:
            session.explain(3)
    finally:
        hook.remove()
    assert "another device" in error.value.hint
    assert session.explain(3).heatmap.shape == (1, 10, 8)


@pytest.mark.parametrize("samples", [np.array([3, 1]), torch.tensor([3, 1]).numpy(), range(3, 0, -2), (3, 1)])
def test_samples_come_in_many_forms(session, samples):
    assert session.explain(samples).samples == (3, 1)


def test_inputs_from_outside(session):
    x = torch.stack([session.data.tensor(i) for i in (4, 7)])
    inside, outside = session.explain([4, 7]), session.explain(x=x)
    torch.testing.assert_close(inside.heatmap, outside.heatmap)
    assert outside.samples == (0, 1) and outside.recipe == "" and outside.pictures == ()
    one = session.explain(x=x[0])
    torch.testing.assert_close(one.heatmap, outside.heatmap[:1], rtol=1e-4, atol=1e-5)
    for wrong in (torch.zeros(2, 1, 10, 8), torch.zeros(10, 8), torch.zeros(0, 3, 10, 8), torch.zeros(1, 1, 3, 10, 8)):
        with pytest.raises(ShapeError, match=r"net takes \(3, 10, 8\)"):
            session.explain(x=wrong)
    with pytest.raises(BadValueError, match="NaN"):
        session.explain(x=torch.full((1, 3, 10, 8), float("nan")))
    with pytest.raises(BadValueError, match="label"):
        session.explain(x=x, target="label")


def test_concept_maps_are_kept_one_by_one(session):
    first = session.concept_maps(2, ["features.4/unit/1", "features.4/unit/5"])
    seen = []
    hook = session.model.module.register_forward_pre_hook(lambda m, a: seen.append(1))
    again = session.concept_maps(2, ["features.4/5", "features.4/unit/1", "features.4/5"])
    assert seen == [] and torch.equal(again, first[[1, 0, 1]])
    mixed = session.concept_maps(2, ["features.4/unit/3", "features.4/unit/1"])
    hook.remove()
    assert len(seen) == 1 and torch.equal(mixed[1], first[0])
    with pytest.raises(BadValueError, match="at least one component"):
        session.concept_maps(2, [])


def test_a_read_only_store_still_lets_one_look(tmp_path, session):
    session.sweep("features.4")
    path = session.store.path
    handle = handle_of(randomised(BiasFree()), (3, 10, 8))
    with Session(handle, SmallData(45), Store.open(path, read_only=True)) as reader:
        assert reader.activations("features.4").values.shape == (45, 9)
        assert reader.explain(3).heatmap.shape == (1, 10, 8)
        assert reader.concept_maps(3, ["features.4/0"]).shape == (1, 10, 8)
        assert len(reader.reference_views("features.4/0", n=2)) == 2
        assert len(reader.predict(3, 2)) == 2


def test_a_single_output_has_a_probability(tmp_path):
    with Session(
        handle_of(randomised(BiasFree(1)), (3, 10, 8)), SmallData(5), Store.open(tmp_path / "store")
    ) as session:
        ((index, name, logit, chance),) = session.predict(2)
        assert (index, name) == (0, "output 0") and chance == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)


def test_pictures_from_outside_of_all_kinds(small):
    picture = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    whole = small.explain(x=Image.fromarray(picture)).heatmap
    assert torch.equal(whole, small.explain(x=picture).heatmap)
    for mode in ("L", "RGBA", "CMYK", "1"):
        assert small.explain(x=Image.fromarray(picture).convert(mode)).heatmap.shape == (1, 12, 12)
    for wrong in (3, [1, 2]):
        with pytest.raises(DataError, match="no picture, tensor or array"):
            small.explain(x=wrong)


@pytest.mark.parametrize("wrong", ["atlas", None, ConceptAtlas])
def test_what_cannot_be_fitted(small, wrong):
    with pytest.raises(BadValueError, match=r"a class|no method.*Make one first"):
        small.fit(wrong)


def test_what_is_no_sample_is_told_where_to_go(open_small):
    s = open_small()
    picture = Image.new("RGB", (12, 12))
    for outside in (picture, torch.zeros(1, 3, 12, 12)):
        with pytest.raises(BadValueError, match=r"handed over as x="):
            s.explain(outside)
    with pytest.raises(BadValueError, match=r"PIL\.Image\.open"):
        s.explain(x="a.png")
    with pytest.raises(BadValueError, match=r"handed over as x="):
        s.selection.sample = picture
    ids = torch.tensor([3, 4])  # as references give them
    assert s.explain(ids[0]).samples == (3,) and s.explain(ids).samples == (3, 4)
    s.selection.sample = ids[1]
    assert s.selection.sample == 4


class Overflowing(nn.Module):
    """Its output is finite and its relevance is not."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 3)

    def forward(self, x):
        maps = self.conv(x)
        if maps.requires_grad:
            maps.register_hook(lambda g: g * float("inf"))
        return self.head(maps.mean((2, 3)))


def test_relevance_beyond_all_numbers_is_an_error_and_is_not_kept(open_small):
    s = open_small(Overflowing(), classes=None)
    for _ in range(2):
        with pytest.raises(NotFiniteError, match=r"relevance by EpsilonPlusFlat is not finite.*larger epsilon"):
            s.explain(3)
        with pytest.raises(NotFiniteError, match="relevance by"):
            s.concept_maps(3, ["conv/unit/1"])
        with pytest.raises(NotFiniteError, match="None of the 24 samples gave a finite result"):
            s.sweep("conv")


def test_the_box_rule_by_name_takes_its_bounds_from_the_transform(open_small):
    s = open_small()
    mean, std = SMALL.mean[0], SMALL.std[0]
    boxed = composite("EpsilonGammaBox", low=-mean / std, high=(1 - mean) / std)
    by_name, by_hand = s.explain(3, rule="EpsilonGammaBox").heatmap, s.explain(3, rule=boxed).heatmap
    torch.testing.assert_close(by_name, by_hand)


# Labels of the data's own numbers -------------------------------------------------------------------------------------


class Letters(Listed):
    """The small pictures in three classes."""

    def __init__(self):
        super().__init__()
        self.targets = [i % 3 for i in range(24)]


@pytest.fixture
def lettered(tmp_path):
    """Sessions of one store whose data name classes e, b and a, and whose outputs are called a to f, or otherwise."""
    opened = []

    def make(names=("e", "b", "a"), outputs=tuple("abcdef"), n=6):
        data = TorchData(Letters(), classes=names, name="letters")
        options = {"store": tmp_path / "letters", "transform": SMALL, "classes": outputs}
        opened.append(wb.open_session(small_net(n_classes=n), data, **options))
        return opened[-1]

    yield make
    for one in opened:
        one.close()


@pytest.mark.parametrize("rule", [None, "gradient"])
def test_the_output_that_a_label_names_is_explained(lettered, rule):
    session = lettered()
    found = session.explain([0, 1, 2], "label", rule=rule)
    assert found.target.tolist() == [4, 1, 0] and found.labels == ("e", "b", "a")
    assert found.target_text == "label"
    for i, index in enumerate([4, 1, 0]):
        torch.testing.assert_close(found.heatmap[i], session.explain(i, f"logit:{index}", rule=rule).heatmap[0])
    part = [session.concept_maps(0, ["relu_b/unit/2"], target=t) for t in ("label", "logit:4", "logit:0")]
    assert torch.equal(part[0], part[1]) and not torch.equal(part[0], part[2])
    assert int(session.sanity_check(0, target="label").base.target[0]) == 4
    assert int(session.explain_under(0, Intervention("relu_b/unit/2"), target="label").target[0]) == 4
    other = lettered(outputs=tuple("fedcba")).explain([0, 1, 2], "label", rule=rule)
    assert other.target.tolist() == [1, 4, 5], "not those that are stored for other names"


def test_relevances_by_label_are_of_the_outputs_that_labels_name(lettered):
    session = lettered()
    table = session.relevances("relu_b", target="label")
    assert table.target.tolist() == [[4, 1, 0][i % 3] for i in range(24)] and bool(table.is_valid.all())
    one = session.explain(3, "logit:4", record=["relu_b"]).relevance["relu_b"][0]
    np.testing.assert_allclose(table.values[3], one, rtol=1e-4, atol=1e-6)
    assert lettered(outputs=tuple("fedcba")).relevances("relu_b", target="label").target.tolist()[:3] == [1, 4, 5]


def test_samples_whose_label_names_no_output_are_no_part_of_a_sweep_by_label(lettered):
    session = lettered(("e", "zzz", "a"))
    plan = session.plan(["relu_b"], target="label")
    assert plan.n_unnamed == 8 and plan.kinds == ("relevance",) and "without 8 samples whose label" in str(plan)
    table = session.relevances("relu_b", target="label")
    assert table.is_valid.tolist() == [i % 3 != 1 for i in range(24)] and table.target[[0, 2]].tolist() == [4, 0]
    assert bool(session.activations("relu_b").is_valid.all()), "they are activated all the same"
    with pytest.raises(UnknownLabelError, match=r"names none of the model's outputs: samples 1, 4\."):
        session.explain([0, 1, 4], "label")
    with pytest.raises(BadValueError, match="None of the 8 labels"):
        session.sweep(["relu_b"], relevance=True, target="label", samples=[i for i in range(24) if i % 3 == 1])


def test_a_single_output_belongs_to_no_label(lettered):
    session = lettered(outputs=("a",), n=1)
    with pytest.raises(UnknownLabelError, match="Target.top"):
        session.explain(2, "label")
    with pytest.raises(BadValueError, match="None of the 24 labels"):
        session.relevances("relu_b", target="label")
