"""TCAV through sessions: a planted shortcut, degenerate heads, regression, and what is kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import BadValueError, UnknownNameError
from workbench.core.results import Edit
from workbench.data.torch_data import TorchData
from workbench.methods import TCAV, PatternCAV
from workbench.testing.small import CLASSES, SMALL, Counter, Listed, small_data, small_net


@pytest.fixture
def small(tmp_path):
    with wb.open_session(
        small_net(), data=small_data(), store=tmp_path / "store", transform=SMALL, classes=CLASSES
    ) as opened:
        yield opened


class Repeated(TorchData):
    """The small pictures several times over, as views of one original each."""

    def __init__(self, k):
        listed = Listed(24)
        listed.pictures, listed.targets = np.tile(listed.pictures, (k, 1, 1, 1)), listed.targets * k
        super().__init__(listed, classes=CLASSES, name=f"small-{k}")
        self._origins = np.tile(np.arange(24), k)


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
    for name in ("score", "score_positions", "zeros", "p", "p_holm", "p_slope", "p_slope_holm", "p_sensitivity"):
        values = getattr(r, name)
        assert values.shape == (1, 4) and ((values >= 0) & (values <= 1)).all(), name
    assert (r.score_low <= r.score).all() and (r.score <= r.score_high).all()
    assert (r.sensitivity >= np.abs(r.slope)).all() and (r.p >= 1 / 21 - 1e-12).all()
    for name in ("slope", "sensitivity"):
        low, high = getattr(r, f"null_{name}_low"), getattr(r, f"null_{name}_high")
        outside = (getattr(r, name) < low) | (getattr(r, name) > high)
        assert (low < high).all() and (outside == (getattr(r, f"p_{name}") < 0.1)).all(), "of 20: all of them"
    frame = r.to_frame()
    assert (frame["originals"] == 6).all() and {"p_slope", "null_sensitivity_high", "slope_error"} <= set(frame)
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
    assert np.isnan(found.p_slope).all() and np.isnan(found.p_sensitivity).all(), "there is nothing to test"
    assert (found.sensitivity == 0).all() and set(found.to_frame()["verdict"]) == {"undefined"}
    assert found.plot().layout.title.text.endswith("4 undefined")


def test_where_the_model_is_linear_above_a_warning_says_so(small):
    found = small.fit(made("relu_b", n_random=10)).result_
    assert set(np.unique(found.score)) <= {0.0, 1.0}
    assert "p_slope" in found.warnings[0]
    assert len(found.warnings) == 1 and "linear above" in found.warnings[0] and "earlier layer" in found.warnings[0]
    assert not small.fit(made(n_random=10)).result_.warnings


def at_the_head(session, positives, **options):
    cav = session.fit(PatternCAV("relu_b", positives=positives, pooling="mean", scope="all", resamples=0))
    return cav, session.fit(TCAV(cav, **options)).result_


def test_at_a_linear_head_the_true_direction_is_beyond_the_band(small):
    """The head is planted: the first output reads the concept, the second is blind to it, the third falls with it. The
    scores are 0 and 1 whatever the concept; slopes and sensitivities tell, of 200 random directions.
    """
    cav, _ = at_the_head(small, [0, 1, 2, 5, 9], n_random=0)
    v = cav.direction_.astype(np.float64)
    blind = np.roll(v, 1) - (np.roll(v, 1) @ v) * v
    weight = np.stack([v, blind / np.linalg.norm(blind), -v, v + blind])
    with small.variant("planted", [Edit("replace", "head.weight", array=weight.astype(np.float32))]) as planted:
        found = planted.fit(TCAV(cav, n_random=200)).result_
    assert found.warnings and set(np.unique(found.score)) <= {0.0, 1.0}
    slope, low, high = found.slope[0], found.null_slope_low[0], found.null_slope_high[0]
    assert slope[0] > high[0] > low[0] and slope[2] < low[2] < high[2] and low[1] < slope[1] < high[1]
    np.testing.assert_allclose(found.p_slope[0, [0, 2]], 2 / 201)
    assert found.p_slope[0, 1] > 0.2
    assert (found.sensitivity[0, [0, 2]] > found.null_sensitivity_high[0, [0, 2]]).all()
    np.testing.assert_allclose(found.p_sensitivity[0, [0, 2]], 2 / 201)


def test_at_a_linear_head_random_concepts_are_within_the_band(small):
    """Samples drawn at random 150 times, with four outputs: about one in twenty slopes and sizes is outside."""
    outside, is_low = {"slope": [], "sensitivity": []}, []
    for seed in range(150):
        drawn = np.sort(np.random.default_rng(seed).permutation(24)[:7])
        _, found = at_the_head(small, drawn, n_random=79, resamples=0, n_samples=2, seed=1000 + seed)
        for name, rows in outside.items():
            value, low, high = (getattr(found, key)[0] for key in (name, f"null_{name}_low", f"null_{name}_high"))
            rows.append((value < low) | (value > high))
        is_low.append(found.p_slope[0] <= 0.5)
    for rows in outside.values():
        assert 0.02 < np.mean(rows) < 0.085
    assert 0.4 < np.mean(is_low) < 0.6


def test_views_of_one_original_narrow_no_interval(tmp_path):
    """Each picture three times as views of one original: scores, errors and intervals are those of the pictures."""
    found = {}
    for k in (1, 3):
        data = small_data()
        if k > 1:
            data = Repeated(k)
        with wb.open_session(small_net(), data=data, store=tmp_path, transform=SMALL, classes=CLASSES) as s:
            cav = s.fit(PatternCAV("relu_a", positives=[i + 24 * j for i in (0, 1, 2, 5, 9) for j in range(k)],
                                   scope="all", resamples=0))  # fmt: skip
            found[k] = s.fit(TCAV(cav, n_random=0)).result_, cav.class_slopes(range(24 * k))["error"]
    (one, error), (many, errors) = found.values()
    assert many.n_samples.tolist() == [18] * 4 and many.n_origins.tolist() == one.n_origins.tolist() == [6] * 4
    for name in ("score", "score_low", "score_high", "sensitivity", "sensitivity_error", "slope", "slope_error"):
        np.testing.assert_allclose(getattr(many, name), getattr(one, name), rtol=1e-4, atol=1e-6, err_msg=name)
    np.testing.assert_allclose(errors, error, rtol=1e-4)


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
