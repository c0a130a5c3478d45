"""Comparing models in a session: which variants are open, one sample under both, and many."""

from __future__ import annotations

import gc
import threading

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import BadValueError, CancelledError, ShapeError, UnknownSampleError
from workbench.core.progress import SilentProgress
from workbench.core.results import Edit
from workbench.methods import PatternCAV, PClArC, RRClArC
from workbench.session.compared import in_words
from workbench.session.lane import Lane
from workbench.testing.small import small_data, small_net

OFF = [Edit("scale", "relu_b", (0, 2, 3), 0.0)]


@pytest.fixture
def fixed(small):
    return small.variant("fixed", OFF)


def test_open_variants_are_named_and_none_is_kept(small):
    heard = []
    undo = small.on_variants(lambda: heard.append(list(small.variants())))
    one = small.variant("one", OFF)
    two = small.variant("two", [Edit("scale", "relu_b", (1,), 0.0)])
    assert list(small.variants()) == ["one", "two"] and small.variants()["one"] is one
    again = small.variant("one", OFF)  # as when a cell runs again
    assert list(small.variants()) == ["two", "one"] and small.variants()["one"] is again
    two.close()
    assert two.is_closed and list(small.variants()) == ["one"]
    with small.corrected(OFF) as inside:
        assert small.variants()["corrected"] is inside
    assert heard[-1] == ["one"] and len(heard) == 6
    undo()
    del again, inside
    gc.collect()
    assert small.variants() == {} and one.variants() == {} and len(heard) == 6


def test_edits_in_words(small):
    assert small.changes() == ()
    assert small.variant("fixed", OFF).changes() == ("scale units 0, 2, 3 of relu_b by 0",)
    cav = PatternCAV("relu_b", positives=[0, 1, 2, 5, 9], scope="all", resamples=0)
    assert "shift along 1 direction at relu_b" in small.variant("p", small.fit(PClArC(cav)).edits()).changes()[0]
    assert in_words([Edit("set", "a", tuple(range(5)), 2.5)]) == ("set units 0, 1, 2 and 2 more of a to 2.5",)
    words = small.variant("rr", small.fit(RRClArC(cav, epochs=1)).edits()).changes()
    assert words and all(word.startswith("replace ") for word in words)


def test_one_sample_equals_what_both_sessions_say(small, fixed):
    found = small.compare(fixed, 5, record=["relu_a", "relu_b"])
    for session, scores, chances in (
        (small, found.before, found.probability_before),
        (fixed, found.after, found.probability_after),
    ):
        for index, _, logit, chance in session.predict(5, n=4):
            assert scores[index] == np.float32(logit) and chances[index] == np.float32(chance)
    base = small.explain(5, record=["relu_a", "relu_b"])
    after = fixed.explain(5, f"logit:{int(base.target[0])}", record=["relu_a", "relu_b"])
    for mine, own in zip(found.attributions, (base, after), strict=True):
        np.testing.assert_array_equal(mine.heatmap, own.heatmap)
    moved = found.moved("relu_a", 5)
    change = np.asarray(after.relevance["relu_a"][0]) - np.asarray(base.relevance["relu_a"][0])
    assert list(moved.index) == [f"relu_a/unit/{i}" for i in np.argsort(-np.abs(change), kind="stable")]
    np.testing.assert_allclose(moved["change"], np.sort(change)[np.argsort(-np.abs(np.sort(change)))], atol=1e-6)
    assert found.label == int(small.data.labels[5]) and found.models == (small.name, "fixed")
    assert small.compare(fixed, 5, maps=False).attributions is None
    assert found.attributions[1].target_text == f"logit:{int(base.target[0])}"


def test_differences_are_those_of_one_sample_after_the_other(small, fixed):
    found = small.differences(fixed, samples=range(0, 24, 2))
    assert list(found.samples) == list(range(0, 24, 2))
    for row, sample in enumerate(found.samples.tolist()):
        one = small.compare(fixed, sample, maps=False)
        assert found.decision_before[row] == one.decisions[0] and found.decision_after[row] == one.decisions[1]
        assert abs(found.change[row]) == pytest.approx(np.abs(one.change).max(), abs=1e-5)
        moved = np.abs(one.probability_after - one.probability_before).sum() / 2
        assert found.shift[row] == pytest.approx(moved, abs=1e-5)
        assert ["lost", "gained", "other", "same"][found.kinds[row]] == one.kind
    x = torch.stack([small.data.tensor(i) for i in found.samples.tolist()])
    np.testing.assert_allclose(found.outputs, (fixed.model(x) - small.model(x)).mean(0), atol=1e-5)
    assert len(small.differences(fixed)) == 24 and small.differences(small).counts["same"] == 24


def test_a_second_time_costs_nothing_and_one_more_model_its_own(small, fixed, counting):
    first = small.differences(fixed)
    base, variant = counting(small), counting(fixed)
    again = small.differences(fixed)
    assert base.calls == variant.calls == 0 and again.recipe == first.recipe
    np.testing.assert_array_equal(again.change, first.change)
    more = small.variant("more", [Edit("scale", "relu_b", (1,), 0.0)])
    own = counting(more)
    small.differences(more)
    assert own.calls > 0 == base.calls


def test_a_cancelled_comparison_goes_on_where_it_stopped(small, fixed, counting, monkeypatch):
    monkeypatch.setattr("workbench.session.comparing._BATCH", 4)

    class Impatient(SilentProgress):
        def step(self, n=1, *, note=""):
            super().step(n, note=note)
            if self.done >= 12:
                self.token.cancel()

    with pytest.raises(CancelledError):
        small.differences(fixed, progress=Impatient())
    base = counting(small)
    found = small.differences(fixed)
    assert base.calls in (2, 3) and len(found) == 24  # of six parts


def test_others_come_in_between(small, fixed, monkeypatch):
    """A reader who clicks on a sample does not wait for the population."""
    monkeypatch.setattr("workbench.session.comparing._BATCH", 2)
    lane, begun, order = Lane("mine"), threading.Event(), []
    real = small._made_outputs

    def made(ids):
        begun.set()
        order.append("part")
        if len(order) == 2:
            clicked.wait(5)
        return real(ids)

    clicked = threading.Event()
    monkeypatch.setattr(small, "_made_outputs", made)
    job = lane.submit(small.differences, fixed)
    assert begun.wait(5)
    click = small.submit(lambda: order.append("click"))
    clicked.set()
    click.wait(5)
    job.result(20)
    assert order.index("click") < 4 and order.count("part") == 12
    lane.close()


def test_what_cannot_be_compared_is_said(small, fixed, open_small):
    with pytest.raises(BadValueError, match="by its session; got Small"):
        small.differences(small_net())
    with pytest.raises(BadValueError, match="other data"):
        small.compare(open_small(data=small_data(30)), 3)
    with pytest.raises(ShapeError, match="say different things"):
        small.differences(open_small(small_net(n_classes=3), classes=("ant", "bee", "cow")))
    with pytest.raises(UnknownSampleError):
        small.compare(fixed, 99)
    fixed.close()
    with pytest.raises(BadValueError, match="fixed is closed"):
        small.compare(fixed, 3)


@pytest.mark.parametrize("kind", ["dense", "single"])
def test_outputs_without_a_decision(open_small, kind):
    if kind == "dense":
        net = small_net(wrap=lambda y: y[:, :, None, None] * torch.linspace(0.5, 1, 4)[None, None, :, None])
        session = open_small(net)
    else:
        session = open_small(small_net(n_classes=1), classes=("score",))
    other = session.variant("off", OFF)
    found, one = session.differences(other), session.compare(other, 3, maps=False)
    assert not found.has_decisions and one.decisions == (-1, -1) and one.kind == "same"
    row = found.samples.tolist().index(3)
    assert abs(found.change[row]) == pytest.approx(np.abs(one.change).max(), abs=1e-5)
    assert found.plot().data and one.plot().data and "hanged most" in one.summary()


def test_nothing_is_left_on_the_models(small, fixed):
    small.differences(fixed)
    small.compare(fixed, 2, record="relu_b")
    for session in (small, fixed):
        assert not any(m._forward_hooks or "forward" in vars(m) for m in session.model.module.modules())


def test_a_reevaluation_knows_its_session(small, fixed):
    report = small.reevaluate(fixed, attacked=[(0, 4), (1, 5), (2, 6)])
    assert report.ctx_() is small and wb.core.corrections.Reevaluation is type(report)
