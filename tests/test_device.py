"""On an accelerator everything comes out as on the CPU, and what is handed out lies on the CPU."""

from __future__ import annotations

import pytest
import torch

import workbench as wb
from workbench.core.results import Edit

pytestmark = pytest.mark.gpu

LAYERS = ("features.5", "features.10")
GIVEN = ["features.10/unit/3"]


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """The same network and data, once on the CPU and once on the accelerator, each with a store of its own."""
    if not torch.cuda.is_available():
        pytest.skip("no GPU")
    torch.backends.cudnn.allow_tf32, before = False, torch.backends.cudnn.allow_tf32
    sessions = [
        wb.open_session("toy-cnn", data="toy", device=device, store=tmp_path_factory.mktemp(device))
        for device in ("cpu", "cuda")
    ]
    for session in sessions:
        session.sweep(LAYERS)
    yield sessions
    for session in sessions:
        session.close()
    torch.backends.cudnn.allow_tf32 = before


def close(a, b, rtol=1e-4):
    assert a.device.type == b.device.type == "cpu"
    torch.testing.assert_close(a, b, rtol=rtol, atol=rtol * float(a.abs().max()))


def test_the_model_is_where_it_was_asked_for(both):
    assert [next(s.model.module.parameters()).device.type for s in both] == ["cpu", "cuda"]
    assert wb.open_session("toy-cnn").model.device.type == "cuda"


@pytest.mark.parametrize("layer", LAYERS)
def test_tables_are_equal(both, layer):
    close(*(s.activations(layer).values for s in both))
    close(*(s.relevances(layer).values for s in both), rtol=1e-3)


@pytest.mark.parametrize("by", ["activation", "relevance"])
def test_references_hold_equal_values(both, by):
    here, there = (s.references("features.10", by=by, k=9) for s in both)
    finite = here.values.isfinite()
    assert torch.equal(finite, there.values.isfinite())
    close(here.values[finite], there.values[finite], rtol=1e-3)
    assert (here.ids == there.ids).float().mean() > 0.98  # near-ties fall either way


@pytest.mark.parametrize("rule", ["EpsilonPlusFlat", "EpsilonAlpha2Beta1Flat", "gradient", "integrated_gradients"])
def test_explanations_are_equal(both, rule):
    here, there = (s.explain(7, rule=rule, record=["features.5"]) for s in both)
    close(here.heatmap, there.heatmap, rtol=1e-3)
    close(here.score, there.score)
    if here.relevance:
        close(here.relevance["features.5"], there.relevance["features.5"], rtol=1e-3)


def test_conditional_maps_are_equal(both):
    close(*(s.explain(7, given=GIVEN).heatmap for s in both), rtol=1e-3)
    several = [f"features.10/unit/{i}" for i in (1, 3, 5)]
    close(*(s.concept_maps(7, several) for s in both), rtol=1e-3)


def test_an_edit_acts_alike(both):
    logits = [s.variant("off", [Edit("set", "features.10", (3,), 0.0)]).predict(7, 6) for s in both]
    assert [row[1] for row in logits[0]] == [row[1] for row in logits[1]]


def test_an_atlas_has_equal_columns(both):
    here, there = (s.fit(wb.methods.ConceptAtlas("features.10")).atlas_.to_frame() for s in both)
    assert list(here.columns) == list(there.columns)
    for name in ("activation", "relevance", "frequency"):
        close(*(torch.tensor(frame[name].to_numpy(float)) for frame in (here, there)), rtol=1e-3)


def test_memory_counts_what_lies_on_the_device(both):
    assert "device" not in both[0].memory() and both[1].memory()["device"]["bytes"] > 0
