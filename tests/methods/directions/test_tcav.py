"""TCAV through sessions: a planted shortcut, degenerate heads, regression, and what is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import BadValueError, UnknownNameError
from workbench.core.results import Edit
from workbench.methods import TCAV, PatternCAV
from workbench.testing.small import CLASSES, SMALL, Counter, small_data, small_net


@pytest.fixture
def small(tmp_path):
    with wb.open_session(
        small_net(), data=small_data(), store=tmp_path / "store", transform=SMALL, classes=CLASSES
    ) as opened:
        yield opened


def made(layer="relu_a", **options):
    return TCAV(PatternCAV(layer, positives=[0, 1, 2, 5, 9], scope="all"), **options)


def test_a_class_that_learned_a_shortcut_rises_along_it(tmp_path):
    """The toy network learned that a patch means class 0. Along the patch's direction at an earlier layer the output of
    class 0 rises for 39 of 40 samples of the other classes, more than any other output.
    """
    toy = wb.data.ToyData(n=180, split="val", artifact_class=None, artifact_share=0.5)
    with wb.open_session("toy-cnn", data=toy, store=tmp_path) as s:
        cav = s.fit(PatternCAV("features.8", positives=toy.has_artifact, concept="patch"))
        found = s.fit(TCAV(cav, targets=range(6), samples=np.flatnonzero(toy.labels != 0), n_samples=40)).result_
    slope = found.slope[0]
    assert slope.argmax() == 0 and slope[0] > 0
    assert found.score[0, 0] > 0.9 and found.score_low[0, 0] > 0.8


def test_numbers_are_in_their_place(small):
    tcav = small.fit(made(n_random=20, resamples=200))
    r = tcav.result_
    assert r.classes == CLASSES and r.concepts == r.concepts and r.n_samples.tolist() == [6] * 4
    for name in ("score", "score_positions", "zeros", "p", "p_holm"):
        values = getattr(r, name)
        assert values.shape == (1, 4) and ((values >= 0) & (values <= 1)).all(), name
    assert (r.score_low <= r.score).all() and (r.score <= r.score_high).all()
    assert (r.sensitivity >= np.abs(r.slope)).all() and (r.p >= 1 / 21 - 1e-12).all()
    frame = r.to_frame()
    assert frame.shape[0] == 4 and set(frame["verdict"]) <= {"rises", "falls", "as random"}
    assert "sensitivity of 4 outputs" in repr(r)


def test_flipping_scaling_and_a_head_of_zeros(small):
    """Acceptance: a turned direction gives one minus the score; a head of zeros gives "undefined", not one half."""
    there = small.fit(made(n_random=0)).result_
    others = [i for i in range(24) if i not in (0, 1, 2, 5, 9)]
    back = small.fit(TCAV(PatternCAV("relu_a", positives=others, scope="all"), n_random=0)).result_
    np.testing.assert_allclose(back.score, 1 - there.score)
    np.testing.assert_allclose(back.sensitivity, there.sensitivity, rtol=1e-4)
    with small.variant("zero", [Edit("mask", "head.weight", array=np.zeros((4, 7)))]) as zero:
        found = zero.fit(made(n_random=5)).result_
    assert found.is_undefined.all() and np.isnan(found.p).all() and (found.zeros == 1).all()
    assert (found.sensitivity == 0).all() and set(found.to_frame()["verdict"]) == {"undefined"}
    assert found.plot().layout.title.text.endswith("4 undefined")


def test_where_the_model_is_linear_above_a_warning_says_so(small):
    found = small.fit(made("relu_b", n_random=10)).result_
    assert set(np.unique(found.score)) <= {0.0, 1.0}
    assert len(found.warnings) == 1 and "linear above" in found.warnings[0] and "earlier layer" in found.warnings[0]
    assert not small.fit(made(n_random=10)).result_.warnings


def test_several_concepts_are_corrected_for(small):
    cav = PatternCAV("relu_a", positives={"a": [0, 1, 2], "b": [5, 9, 11]}, scope="all")
    r = small.fit(TCAV(cav, n_random=19)).result_
    assert r.score.shape == (2, 4) and (r.p_holm >= r.p).all() and r.to_frame().index.names == ["concept", "class"]
    assert len(r.plot().data) and len(r.plot(quantity="sensitivity").data)


def test_a_fitted_direction_stays_on_a_variant(small):
    cav = small.fit(PatternCAV("relu_a", positives=[0, 1, 2, 5, 9], scope="all"))
    one = small.fit(TCAV(cav, n_random=5)).result_
    with small.variant("out", [Edit("project", "relu_a", array=cav.direction_)]) as other:
        found = other.fit(TCAV(cav, n_random=5)).result_
        # What is recorded is what the next module receives: behind the projection the derivative is as it was.
        assert found.slope.shape == one.slope.shape
        again = other.fit(TCAV(PatternCAV("a", positives=[0, 1, 2, 5, 9], scope="all"), n_random=5)).result_
        assert np.isfinite(again.slope).all()


def test_a_second_fit_loads(small):
    one = small.fit(made(n_random=8))
    counter = Counter(small.model.module)
    again = small.fit(made(n_random=8))
    counter.handle.remove()
    assert counter.calls == 0
    for name, value in one.state()[0].items():
        np.testing.assert_array_equal(value, again.state()[0][name], err_msg=name)
    assert not made().cav.is_fitted, "what was given is left as it is"


def test_which_outputs_and_samples(small):
    some = small.fit(made(targets=["bee", 3], n_random=0, n_samples=4)).result_
    assert some.classes == ("bee", "dog") and some.n_samples.tolist() == [4, 4] and some.class_index == (1, 3)
    given = small.fit(made(samples=[0, 1, 5], n_random=0)).result_
    assert given.classes == ("ant", "bee") and given.n_samples.tolist() == [3, 3]


REFUSED = {
    "no direction": (lambda: TCAV("relu_a"), BadValueError, "needs a concept activation vector"),
    "an unknown output": (lambda: made(targets=["be"]), UnknownNameError, 'No output "be"'),
    "an output too far": (lambda: made(targets=[4]), BadValueError, "has 4"),
    "no sample": (lambda: made(samples=[99]), KeyError, "No sample 99"),
    "negative": (lambda: made(n_random=-1), BadValueError, "`n_random`"),
    "none": (lambda: made(n_samples=0), BadValueError, "`n_samples`"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_is_explained(small, what):
    make, kind, message = REFUSED[what]
    with pytest.raises(kind, match=message):
        small.fit(make())


def test_regression_models_have_one_output(tmp_path):
    with wb.open_session(small_net(n_classes=1), data=small_data(), store=tmp_path, transform=SMALL) as s:
        r = s.fit(made(n_random=5)).result_
        assert r.classes == ("output 0",) and r.n_samples.tolist() == [24]


def test_dense_outputs_are_refused_with_a_reason(tmp_path):
    net = small_net(wrap=lambda y: y[:, :, None, None].expand(-1, -1, 3, 3))
    with wb.open_session(net, data=small_data(), store=tmp_path, transform=SMALL) as s:
        with pytest.raises(ValueError, match="needs an output of"):
            s.fit(made(targets=[0], n_random=0))
    assert torch.is_grad_enabled()
