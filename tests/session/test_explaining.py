"""Explanations of a session: long batches, memory that runs out, and what a store that is read-only still gives."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from workbench.attribution.crp import explain, heat
from workbench.attribution.rules import composite
from workbench.core.errors import BadValueError, DataError, NotFiniteError, OutOfBudgetError, ShapeError
from workbench.methods import ConceptAtlas
from workbench.session.session import Session
from workbench.store import Store
from workbench.testing.context import SmallData
from workbench.testing.nets import BiasFree, handle_of, randomised
from workbench.testing.small import SMALL


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
