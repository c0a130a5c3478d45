"""The references that a sweep keeps together equal those made layer by layer, and those of the tables."""

from __future__ import annotations

import pytest
import torch

from workbench.session.session import Session
from workbench.session.tables import KEPT_REFERENCES
from workbench.store import Store
from workbench.testing.context import SmallData
from workbench.testing.nets import BiasFree, handle_of, randomised


@pytest.fixture
def session(tmp_path):
    handle = handle_of(randomised(BiasFree()), (3, 10, 8), classes=list("abcdef"))
    with Session(handle, SmallData(300), Store.open(tmp_path / "store")) as opened:
        yield opened


def test_kept_together_and_made_alone_are_the_same(session):
    layers = ["features.0", "features.4", "pool"]
    session.sweep(layers)
    assert [e.kind for e in session.store.entries() if e.kind == "references"] == ["references"], "one entry for all"
    for layer in layers:
        for by in ("activation", "relevance"):
            kept = session.references(layer, by, k=KEPT_REFERENCES)
            alone = session.references(layer, by, k=KEPT_REFERENCES + 1)
            assert kept.recipe != alone.recipe
            for name in ("ids", "values", "peak", *(["target"] if by == "relevance" else [])):
                a, b = getattr(kept, name), getattr(alone, name)[:, :KEPT_REFERENCES]
                assert a.dtype == b.dtype and torch.equal(a, b), (layer, by, name)


@pytest.mark.parametrize("by", ["activation", "relevance"])
def test_peaks_and_targets_are_those_of_the_samples(session, by):
    session.sweep("features.4")
    found = session.references("features.4", by)
    table = session.activations("features.4") if by == "activation" else session.relevances("features.4")
    component, slot = (found.ids >= 0).nonzero(as_tuple=True)
    sample = found.ids[component, slot]
    assert len(sample) > 40
    torch.testing.assert_close(found.values[component, slot], table.values[sample, component], rtol=0, atol=0)
    assert torch.equal(found.peak[component, slot], table.peak[sample, component])
    if by == "relevance":
        assert torch.equal(found.target[component, slot], table.target[sample].long())


def test_activations_alone_have_references_by_activation_alone(session):
    session.sweep("pool", relevance=False)
    kept = session.store.get(session._index_recipe(session._find("activations", "pool")))
    assert {name.split("|")[1] for name in kept} == {"activation"}
    assert (session.references("pool").ids >= 0).any()


def test_without_what_was_kept_they_are_read_from_the_pass(session):
    session.sweep(["features.4", "pool"])
    before = session.references("features.4")
    assert session.store.delete(session._index_recipe(session._find("activations", "pool")))
    again = session.references("features.4")
    assert torch.equal(again.ids, before.ids) and torch.equal(again.values, before.values)
