"""P-, R- and A-ClArC: where they lead to, what they leave alone, and what they do in a study of known numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from workbench.core.errors import BadValueError, ModelError, ShapeError, UnknownNameError
from workbench.methods import AClArC, PatternCAV, PClArC, RClArC, RRClArC
from workbench.models.hooks import record
from workbench.models.shifts import Shift
from workbench.testing.context import SmallData
from workbench.testing.nets import handle_of, randomised

ON, OFF = [1, 5, 9, 12, 20, 31], [0, 2, 4, 13, 22, 33]


def cav(layer="features.4", positives=ON, **options):
    return PatternCAV(layer, positives=positives, resamples=0, **options)


def maps_of(session, layer, ids):
    seen = []
    handle = session.model
    with torch.no_grad(), handle.edited(), record(handle.module, [layer], lambda _, t: seen.append(t)):
        handle.module(handle.put(torch.stack([session.data.tensor(i) for i in ids])))
    return seen[0].double()


def within(t, labels):
    """Weights of negatives: of each class, as the direction counts it."""
    weights = np.zeros(len(t))
    for k in np.unique(labels[labels >= 0]):
        of = labels == k
        on, off = (t & of).sum(), (~t & of).sum()
        if on and off:
            weights[~t & of] = on * off / (on + off) / off
    return weights / weights.sum()


@pytest.mark.parametrize("pooling", ["max", "mean"])
@pytest.mark.parametrize("at", ["position", "sample"])
def test_it_leads_to_the_mean_of_negatives_of_the_same_classes_and_pooling(open_on, at, pooling):
    s = open_on()
    found = s.fit(PClArC(s.fit(cav(pooling=pooling)), at=at)).edits()[0]
    t = np.isin(np.arange(40), ON)
    maps = maps_of(s, "features.4", range(40)).flatten(2)
    pooled = maps.amax(2) if (at, pooling) == ("sample", "max") else maps.mean(2)
    expected = within(t, s.data.labels) @ pooled.numpy() @ found.array[0].astype(float)
    np.testing.assert_allclose(found.arrays["codes"], [expected], rtol=1e-4)


def test_after_it_every_sample_has_the_mean_of_the_negatives(open_on):
    s = open_on()
    c = s.fit(cav())
    v = torch.as_tensor(c.direction_).double()
    with s.corrected(s.fit(PClArC(c))) as fixed:
        codes = torch.einsum("nchw,c->nhw", maps_of(fixed, "features.4", range(9)), v)
        torch.testing.assert_close(
            codes, torch.full_like(codes, float(fixed.model.edits[0].arrays["codes"][0])), atol=1e-4, rtol=0
        )
    with s.variant("sample", s.fit(PClArC(c, at="sample")).edits()) as fixed:
        pooled = maps_of(fixed, "features.4", range(9)).amax((2, 3)) @ v
        torch.testing.assert_close(pooled, torch.full_like(pooled, c.directions_[0].mean_negative), atol=1e-4, rtol=0)
    with s.variant("zero", s.fit(PClArC(c, reference="zero")).edits()) as fixed:
        assert torch.einsum("nchw,c->nhw", maps_of(fixed, "features.4", range(9)), v).abs().max() < 1e-5


def test_a_reference_of_ones_own_is_their_mean(open_on):
    s = open_on()
    found = s.fit(PClArC(cav(), reference=OFF)).edits()[0]
    mean = maps_of(s, "features.4", OFF).mean((0, 2, 3)).numpy()
    np.testing.assert_allclose(found.arrays["codes"], found.array.astype(float) @ mean, rtol=1e-4)
    with pytest.raises(BadValueError, match="names no sample"):
        s.fit(PClArC(cav(), reference=[]))


def test_parallel_directions_count_once_and_say_so(open_on):
    s = open_on()
    c = s.fit(cav())
    one, two = s.fit(PClArC(c)), s.fit(PClArC([c, c]))
    assert any("nearly parallel" in text for text in two.warnings_) and not any("parallel" in t for t in one.warnings_)
    x = torch.stack([s.data.tensor(i) for i in range(5)])
    torch.testing.assert_close(*(s.model.variant(m.edits())(x) for m in (one, two)), rtol=1e-4, atol=1e-5)


def turned(fitted, apart, sets=None):
    """The fitted direction, turned so that 1 - cosine is `apart`, with the samples that it or another was found in."""
    one, other = fitted.directions_[0], (sets or fitted).directions_[0]
    v = one.vector.astype(np.float64)
    aside = np.random.default_rng(3).normal(size=len(v))
    aside -= (aside @ v) * v
    aside /= np.linalg.norm(aside)
    vector = ((1 - apart) * v + np.sqrt(1 - (1 - apart) ** 2) * aside).astype(np.float32)
    made = PatternCAV(**fitted.params())
    made._finish(replace(fitted.directions_, directions=(replace(other, vector=vector, concept="twin"),)))
    return made


def test_several_directions_have_one_reference(open_on):
    """a' = a - P (a - mu): the projector and the mean of the card, for two directions at cosine 0.97 and a third."""
    s = open_on()
    one, third = s.fit(cav()), s.fit(cav(positives=OFF))
    found = s.fit(PClArC([one, turned(one, 0.03), third]))
    v = np.stack([e for e in found.edits()[0].array]).astype(np.float64).T
    projector = torch.as_tensor(v @ np.linalg.inv(v.T @ v) @ v.T)
    plain = maps_of(s, "features.4", range(40))
    t, has = (np.isin(np.arange(40), ids) for ids in (ON, OFF))
    labels, flat = s.data.labels, plain.mean((2, 3)).numpy()

    def clean_mean(own):
        total, weight = 0.0, 0.0
        for k in np.unique(labels):
            on, off = (own & (labels == k)).sum(), (~own & (labels == k)).sum()
            clean = (labels == k) & ~t & ~has
            if on and off and clean.any():
                total, weight = total + on * off / (on + off) * flat[clean].mean(0), weight + on * off / (on + off)
        return total / weight

    mu = torch.as_tensor((2 * clean_mean(t) + clean_mean(has)) / 3)
    expected = plain - torch.einsum("dc,nchw->ndhw", projector, plain - mu[:, None, None])
    with s.corrected(found) as fixed:
        torch.testing.assert_close(maps_of(fixed, "features.4", range(40)), expected, rtol=1e-4, atol=1e-4)
    assert any("(cosine 0.9700)" in text and '"twin"' in text for text in found.warnings_)
    assert not any("count once" in text for text in found.warnings_)


def test_what_makes_no_sense_is_explained(open_on):
    s = open_on()
    with pytest.raises(BadValueError, match="No positives"):
        s.fit(PClArC(cav(positives=[])))
    with pytest.raises(BadValueError, match="PClArC needs a concept activation vector"):
        s.fit(PClArC("features.4"))
    with pytest.raises(BadValueError, match="acts at one layer"):
        s.fit(PClArC([cav(), cav("features.0")]))
    with pytest.raises(BadValueError, match="pooled by max and by mean"):
        s.fit(PClArC([cav(), cav(pooling="mean")]))
    with pytest.raises(BadValueError, match="is not fitted yet"):
        PClArC(cav()).edits()
    other = handle_of(randomised(nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 8 * 6, 6))), (3, 10, 8))
    foreign = open_on(other)
    found = s.fit(cav("features.0"))
    made = found.directions_
    found.directions_ = replace(made, layer="0", directions=tuple(replace(d, layer="0") for d in made))
    with pytest.raises(ModelError, match="8 entries"):
        PClArC(found).fit(foreign)


def test_constant_units_and_half_precision_are_no_trouble(open_on):
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)
    )
    randomised(net)
    with torch.no_grad():
        net[0].weight[2:] = 0  # constant, two of them zero behind the ReLU
        net[0].bias[2:] = torch.tensor([1.0, 2.0, -1.0, -2.0])
    for i, one in enumerate((net, net.half())):
        s = open_on(handle_of(one, (3, 10, 8)), store=f"store {i}")
        c = s.fit(cav("1"))
        assert (c.direction_[2:] == 0).all()
        with s.corrected(s.fit(PClArC(c))) as fixed:
            assert (
                fixed.model.dtype == torch.float32 and np.isfinite(fixed.model(torch.randn(3, 3, 10, 8)).numpy()).all()
            )
        trained = s.fit(AClArC(c, epochs=1))
        assert all(np.isfinite(e.array).all() for e in trained.edits())


class Tokens(nn.Module):
    """Pixels as tokens behind a first one of their own, one mixing layer, and a head on the first."""

    def __init__(self):
        super().__init__()
        self.embed, self.first = nn.Linear(3, 5), nn.Parameter(torch.randn(1, 1, 5))
        self.place = nn.Parameter(torch.randn(1, 81, 5))
        self.block, self.norm, self.head = nn.Linear(5, 5), nn.LayerNorm(5), nn.Linear(5, 3)

    def forward(self, x):
        t = self.embed(x.flatten(2).transpose(1, 2))
        t = torch.cat([self.first.expand(len(t), -1, -1), t], 1) + self.place
        t = self.block(t + t.mean(1, keepdim=True))
        return self.head(self.norm(t)[:, 0])


def test_of_sequences_the_first_token_or_all_move(open_on):
    s = open_on(handle_of(randomised(Tokens()), (3, 10, 8)))
    c = s.fit(cav("block", pooling="token"))
    plain = maps_of(s, "block", range(4))
    with s.corrected(s.fit(PClArC(c))) as fixed:
        moved = maps_of(fixed, "block", range(4))
        assert torch.equal(moved[:, 1:], plain[:, 1:]) and not torch.equal(moved[:, 0], plain[:, 0])
        code = moved[:, 0] @ torch.as_tensor(c.direction_).double()
        torch.testing.assert_close(code, torch.full_like(code, c.directions_[0].mean_negative), atol=1e-4, rtol=0)
    with s.corrected(s.fit(PClArC(c, tokens="all", at="sample"))) as fixed:
        assert (maps_of(fixed, "block", range(4)) != plain).any(2).all()
    trained = s.fit(AClArC(c, epochs=1))
    assert {e.where for e in trained.edits()} <= {"norm.weight", "norm.bias", "head.weight", "head.bias"}


def test_regression_models_are_projected_and_gated_by_detectors_alone(open_on):
    net = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 1))
    s = open_on(handle_of(randomised(net), (3, 10, 8)))
    c = s.fit(cav("1"))
    x = torch.randn(4, 3, 10, 8)
    assert not torch.equal(s.model.variant(s.fit(PClArC(c)).edits())(x), s.model(x))
    s.model.variant(s.fit(RClArC(c, detector=c)).edits())(x)
    with pytest.raises(ModelError, match="does not choose among classes"):
        s.variant("gated", s.fit(RClArC(c, condition="class", classes=[0])).edits())
    with pytest.raises(BadValueError, match='loss="squared"'):
        s.fit(AClArC(c))
    assert np.isnan(s.fit(AClArC(c, loss="squared", epochs=1)).curve_.clean).all()


# --- reactive ---------------------------------------------------------------------------------------------------------


def test_only_what_the_detector_finds_moves(open_on):
    s = open_on()
    c = s.fit(cav())
    r = s.fit(RClArC(c, detector=c))
    x = torch.stack([s.data.tensor(i) for i in range(40)])
    plain, projected, found = s.model(x), s.model.variant(s.fit(PClArC(c)).edits())(x), s.model.variant(r.edits())(x)
    touched = r.touched()
    on = torch.tensor(touched.iloc[:, 0].tolist())
    ids, pooled = s.pooled("features.4", np.arange(40))
    assert on.tolist() == (pooled @ c.direction_ > c.directions_[0].threshold).tolist() and 0 < on.sum() < 40
    assert torch.equal(found[~on], plain[~on]) and torch.equal(found[on], projected[on])


def test_thresholds_follow_the_rate_of_false_alarms(open_on):
    s = open_on()
    c = s.fit(cav())
    d = c.directions_[0]
    for rate in (0.0, 0.1, 0.5):
        threshold = float(s.fit(RClArC(c, detector=c, false_alarms=rate)).edits()[0].arrays["threshold"][0])
        clean = d.held_out[~d.is_positive]
        assert (clean[~np.isnan(clean)] > threshold).mean() <= rate


def test_a_class_condition_reads_the_uncorrected_prediction(open_on):
    s = open_on()
    c = s.fit(cav())
    x = torch.stack([s.data.tensor(i) for i in range(40)])
    plain, projected = s.model(x), s.model.variant(s.fit(PClArC(c)).edits())(x)
    said = plain.argmax(1)
    label = int(said.mode().values)
    r = s.fit(RClArC(c, condition="class", classes=["abcdef"[label]]))
    found = s.model.variant(r.edits())(x)
    on = said == label
    assert 0 < on.sum() and torch.equal(found[on], projected[on]) and torch.equal(found[~on], plain[~on])
    assert r.touched().iloc[:, 0].tolist() == on.tolist()
    both = s.fit(RClArC(c, condition="both", classes=[label], detector=c))
    assert both.touched().equals(r.touched() & s.fit(RClArC(c, detector=c)).touched())


def test_each_artifact_has_a_condition_of_its_own(open_on):
    s = open_on()
    c = s.fit(PatternCAV("features.4", positives={"a": ON, "b": OFF}, resamples=0))
    r = s.fit(RClArC(c, condition="class", classes={"a": [0, 1, 2, 3, 4, 5], "b": []}))
    touched = r.touched()
    assert list(touched.columns) == ["a", "b"] and touched["a"].all() and not touched["b"].any()
    x = torch.stack([s.data.tensor(i) for i in range(6)])
    one = s.fit(PatternCAV("features.4", positives={"a": ON}, resamples=0))
    torch.testing.assert_close(s.model.variant(r.edits())(x), s.model.variant(s.fit(PClArC(one)).edits())(x))


def test_directions_of_one_artifact_share_a_condition(open_on):
    """[[c1, c2], c3] are two artifacts: the first has one detector and is projected out along both its directions."""
    s = open_on()
    c1, c2, c3 = s.fit(cav(concept="a")), s.fit(cav(positives=OFF, concept="b")), s.fit(cav(positives=[3, 6, 7, 21]))
    detectors = [s.fit(cav(positives=[1, 2, 5, 22])), s.fit(cav(positives=[3, 4, 30]))]
    r = s.fit(RClArC([[c1, c2], c3], detector=detectors))
    assert r.edits()[0].options["artifact"] == [0, 0, 1] and r.edits()[0].arrays["detector"].shape == (2, 9)
    touched = r.touched()
    active = touched.to_numpy()
    assert list(touched.columns) == ["a", c3.directions_[0].concept] and len(np.unique(active, axis=0)) == 4
    x = torch.stack([s.data.tensor(i) for i in range(40)])
    found = s.model.variant(r.edits())(x)
    expected = {
        (False, False): s.model(x), (True, False): s.model.variant(s.fit(PClArC([c1, c2])).edits())(x),
        (False, True): s.model.variant(s.fit(PClArC(c3)).edits())(x),
        (True, True): s.model.variant(s.fit(PClArC([c1, c2, c3])).edits())(x),
    }  # fmt: skip
    for i, which in enumerate(map(tuple, active.tolist())):
        torch.testing.assert_close(found[i], expected[which][i], rtol=1e-4, atol=1e-5)
    outputs = s.fit(RClArC([[c1, c2], c3], condition="class", classes={"a": [0, 4], c3.directions_[0].concept: [1]}))
    assert outputs.edits()[0].options["classes"] == [[0, 4], [1]]
    with pytest.raises(UnknownNameError, match='No concept "b"'):
        s.fit(RClArC([[c1, c2], c3], condition="class", classes={"a": [0], "b": [1]}))
    flat = RClArC([c1, c2, c3], detector=[*detectors, c3])
    assert flat.recipe_params(s)["cav"] == r.recipe_params(s)["cav"] and "artifact" not in flat.recipe_params(s)
    assert r.recipe_params(s)["artifact"] == [0, 0, 1]
    assert repr(r).startswith("RClArC(cav=[[PatternCAV(")
    with pytest.raises(BadValueError, match=r"3 artifacts need as many detectors; got 2.*\[\[c1, c2\], c3\]"):
        s.fit(RClArC([c1, c2, c3], detector=detectors))


def test_a_mapping_of_concepts_in_a_list_is_one_artifact(open_on):
    pytest.importorskip("sklearn")
    from workbench.methods import SVMCAV

    s = open_on()
    both = PatternCAV("features.4", positives={"a": ON, "b": OFF}, resamples=0)
    for given in (both, s.fit(both)):
        edit = s.fit(RClArC([[given]])).edits()[0]
        assert edit.options["artifact"] == [0, 0] and edit.arrays["codes"].shape == (2,)
        assert s.fit(RClArC(given)).edits()[0].options["artifact"] == [0, 1]
        directions = s.fit(both).directions_
        on = np.union1d(ON, OFF)
        off = np.setdiff1d(np.concatenate([d.samples for d in directions]), on)
        machine = s.fit(SVMCAV("features.4", positives=on, negatives=off, resamples=0)).directions_[0]
        np.testing.assert_allclose(edit.arrays["detector"], [machine.vector], rtol=1e-5, atol=1e-6)


def test_where_all_act_a_grouping_changes_nothing(open_on):
    s = open_on()
    c1, c2, c3 = (s.fit(cav(positives=p)) for p in (ON, OFF, [3, 6, 7, 21]))
    for method, options in (
        (PClArC, {}), (AClArC, {"epochs": 1}), (RRClArC, {"epochs": 1}), (RRClArC, {"solver": "closed"})
    ):  # fmt: skip
        flat, grouped = method([c1, c2, c3], **options), method([[c1, c2], c3], **options)
        assert flat.recipe_params(s) == grouped.recipe_params(s)
        edits = [method(one, **options).fit(s).edits() for one in ([c1, c2, c3], [[c1, c2], c3])]
        assert [e.describe() for e in edits[0]] == [e.describe() for e in edits[1]]
        assert repr(grouped).startswith(f"{method.__name__}(cav=[[PatternCAV(")
    for wrong in ([[]], [], [[[c1]]], [[c1], "c2"]):
        with pytest.raises(BadValueError, match="PClArC needs a concept activation vector"):
            s.fit(PClArC(wrong))


def test_options_without_effect_are_refused(open_on):
    s = open_on()
    c = s.fit(cav())
    with pytest.raises(BadValueError, match="`classes` would have no effect"):
        s.fit(RClArC(c, classes=[0]))
    for options in ({"softness": 0.5}, {"false_alarms": 0.0}, {"detector": c}):
        name = next(iter(options))
        with pytest.raises(BadValueError, match=f"no detector, so that `{name}` would have no effect"):
            s.fit(RClArC(c, condition="class", classes=[0], **options))
        s.fit(RClArC(c, condition="both", classes=[0], **{"detector": c, **options}))
    recipes = [RClArC(c, condition="both", classes=[k], detector=c).recipe_params(s) for k in (0, 1)]
    assert recipes[0] != recipes[1]


def test_conditions_that_cannot_be_are_refused(open_on):
    s = open_on()
    c = s.fit(cav())
    with pytest.raises(BadValueError, match="needs the predictions"):
        s.fit(RClArC(c, condition="class"))
    with pytest.raises(BadValueError, match="No output 9"):
        s.fit(RClArC(c, condition="class", classes=[9]))
    with pytest.raises(BadValueError, match="must be a list"):
        s.fit(RClArC(c, condition="class", classes=1))
    with pytest.raises(BadValueError, match="same layer and pooling"):
        s.fit(RClArC(c, detector=cav(pooling="mean")))
    with pytest.raises(BadValueError, match="as many detectors"):
        s.fit(RClArC([c, cav(positives=OFF)], detector=c))
    with s.variant("gated", s.fit(RClArC(c, condition="class", classes=[0])).edits()) as gated:
        with pytest.raises(ModelError, match="Train first"):
            gated.fit(AClArC(c))


def test_the_default_detector_is_a_support_vector_machine(open_on):
    pytest.importorskip("sklearn")
    from workbench.methods import SVMCAV

    s = open_on()
    c = s.fit(cav())
    found = s.fit(RClArC(c)).edits()[0]
    svm = s.fit(SVMCAV("features.4", positives=ON, resamples=0)).directions_[0]
    np.testing.assert_allclose(found.arrays["detector"][0], svm.vector, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.arrays["threshold"], [svm.threshold], rtol=1e-5)


# --- augmentive -------------------------------------------------------------------------------------------------------


def test_attacked_data_must_fit(open_on):
    s = open_on()
    with pytest.raises(ShapeError, match="has 30 samples, the data 40"):
        s.fit(AClArC(cav(), attacked=SmallData(30)))
    with pytest.raises(BadValueError, match="`validation` is 0"):
        s.fit(AClArC(cav(), attacked=SmallData(40, seed=1), validation=0.0))


# --- the latent study (N1) --------------------------------------------------------------------------------------------


def share_right(study, model):
    """Per cent of right answers on clean and on attacked samples."""
    said = [model(d.values[:, :, None, None]).argmax(1).numpy() for d in (study.clean, study.attacked)]
    return [100 * float((one == study.clean.labels).mean()) for one in said]


def accuracies(study, method):
    with study.test.corrected(study.s.fit(method)) as fixed:
        return share_right(study, fixed.model)


def in_class(study, **options):
    given = {"positives": study.train.has_artifact, "concept": "mark", "pooling": "mean", "scope": 1, "resamples": 0}
    return study.s.fit(PatternCAV("latent", **{**given, **options}))


def test_in_the_study_the_reference_must_be_of_the_same_class(study):
    """Expected of this study: none 80.6/62.9; P with the in-class reference 80.0/80.9, with that of all classes
    70.0/71.7, with direction and reference of all classes 55.8/50.5. Here 82.5/65.3; 80.2/81.1, 72.8/73.6, 59.3/51.2.
    """
    has, one = study.train.has_artifact, in_class(study)
    plain, attacked = share_right(study, study.s.model)
    assert abs(plain - 80.6) < 2.5 and abs(attacked - 62.9) < 3
    assert accuracies(study, PClArC(one)) == pytest.approx([80.0, 80.9], abs=1)
    everywhere = np.flatnonzero(~has)
    assert accuracies(study, PClArC(one, reference=everywhere)) == pytest.approx([70.0, 71.7], abs=3.5)
    wrong = PatternCAV("latent", positives=has, concept="all", pooling="mean", scope="all", resamples=0)
    assert accuracies(study, PClArC(wrong)) == pytest.approx([55.8, 50.5], abs=4.5)
    reactive = accuracies(study, RClArC(one, detector=one, reference=everywhere))
    assert reactive == pytest.approx([80.1, 69.1], abs=2.5), "conditions spare clean samples alone"


# Correlation of class and artifact; per cent clean and attacked: none, P, R by artifact, R by class, P with the
# reference of all classes. Values of the card where it has some, each within 2.5 points; else what is found here.
ROWS = {
    0.0: {"none": (82.2, 72.3), "P": (81.6, 82.6), "R": (80.1, 82.6), "by class": (81.1, 83.4), "all": (82.9, 83.6)},
    0.8: {"none": (78.7, 55.2), "P": (72.8, 73.7), "R": (79.5, 65.3), "by class": (73.4, 73.8), "all": (56.1, 57.6)},
}


@pytest.mark.parametrize("cosine", ROWS)
def test_the_rows_of_other_correlations(studies, cosine):
    """The card has 54.4/55.9 for the reference of all classes at 0.8; here it is 57.8/59.0: the middle of both."""
    study = studies(cosine)
    one = in_class(study)
    found = {
        "none": share_right(study, study.s.model),
        "P": accuracies(study, PClArC(one)),
        "R": accuracies(study, RClArC(one, detector=one)),
        "by class": accuracies(study, RClArC(one, condition="class", classes=[1])),
        "all": accuracies(study, PClArC(one, reference=np.flatnonzero(~study.train.has_artifact))),
    }
    for name, expected in ROWS[cosine].items():
        assert found[name] == pytest.approx(list(expected), abs=2.5), name


@pytest.mark.parametrize("cosine", [0.5, 0.8])
def test_an_artifact_in_every_sample_is_a_trap(studies, cosine):
    """A-ClArC against a slow twin: descent on a' = a + (m+ - v a) v. Sensitivity falls in part, clean accuracy too.

    The card has |w v| 1.61 to 0.97 and 1.89 to 0.94 with clean accuracy 65.3 and 56.9, attacked 86.1 and 82.2; here
    1.65 to 0.73 and 1.93 to 1.01, with 75.2/84.9 and 65.4/80.9.
    """
    study = studies(cosine)
    one = in_class(study)
    d = one.directions_[0]
    v = torch.as_tensor(d.vector).double()
    x, y = study.train.values.double(), torch.as_tensor(np.asarray(study.train.labels))
    on = torch.as_tensor(study.train.has_artifact) & (y == 1)
    switched = x + (x[on].mean(0) @ v - x @ v)[:, None] * v
    w, b = (p.detach().double().clone().requires_grad_() for p in (study.net.head.weight, study.net.head.bias))
    speed_w, speed_b = torch.zeros_like(w), torch.zeros_like(b)
    for _ in range(40):  # whole batches, momentum 0.9
        loss = nn.functional.cross_entropy(switched @ w.T + b, y)
        grads = torch.autograd.grad(loss, (w, b))
        with torch.no_grad():
            speed_w, speed_b = 0.9 * speed_w + grads[0], 0.9 * speed_b + grads[1]
            w -= 0.1 * speed_w
            b -= 0.1 * speed_b
    options = {"epochs": 40, "rate": 0.1, "optimiser": "sgd", "batch": 4000, "validation": 0.0}
    fitted = study.s.fit(AClArC(one, **options))
    found = dict((e.where, torch.as_tensor(e.array).double()) for e in fitted.edits())
    torch.testing.assert_close(found["head.weight"], w.detach(), rtol=0, atol=2e-5)
    torch.testing.assert_close(found["head.bias"], b.detach(), rtol=0, atol=2e-5)
    before = study.net.head.weight.detach().double()
    sensitivity = [float((rows[1] - rows[0]) @ v) for rows in (before, found["head.weight"])]
    assert sensitivity[0] == pytest.approx({0.5: 1.61, 0.8: 1.89}[cosine], abs=0.06)
    assert 0.4 < sensitivity[1] / sensitivity[0] < 0.6, "only in part"
    (plain, attacked), (clean, under) = share_right(study, study.s.model), accuracies(study, AClArC(one, **options))
    assert clean < plain - 5, "the trap: what is clean is no longer normal"
    assert under > attacked + 15 and under > clean + 8


def test_without_a_re_fit_the_closed_form_is_the_projection(study):
    one = in_class(study)
    v = torch.as_tensor(one.direction_).double()
    solved = accuracies(study, RRClArC(one, solver="closed", strength=1e9))
    assert solved == pytest.approx(accuracies(study, PClArC(one)), abs=0.05)
    refitted = accuracies(study, RRClArC(one, strength=1.0))
    assert refitted == pytest.approx([83.7, 83.6], abs=1) and min(refitted) > max(solved) + 1.5
    half = study.s.fit(RRClArC(one, solver="closed", strength=1 / one.directions_[0].length ** 2)).edits()
    weight = dict((e.where, torch.as_tensor(e.array).double()) for e in half)["head.weight"]
    before = study.net.head.weight.detach().double()
    torch.testing.assert_close(weight @ v, 0.5 * before @ v, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        weight - torch.outer(weight @ v, v), before - torch.outer(before @ v, v), atol=1e-5, rtol=0
    )


def test_an_interior_strength_is_best_where_class_and_artifact_correlate(studies):
    """Cosine 0.8, strengths 0.03, 0.1, 1000. The card, in units of its own: clean 78.3 at best, 76.7/76.0 in the
    middle, 74.5/74.7 at the end; here 78.6/72.6, 76.2/76.8, 72.7/73.3.
    """
    study = studies(0.8)
    one = in_class(study)
    weak, middle, strong = (accuracies(study, RRClArC(one, strength=x)) for x in (0.03, 0.1, 1000.0))
    assert weak[0] == pytest.approx(78.3, abs=1) and weak[1] < weak[0] - 3
    assert middle == pytest.approx([76.7, 76.0], abs=1.5) and strong == pytest.approx([74.5, 74.7], abs=2.5)
    plain = share_right(study, study.s.model)
    assert middle[1] > max(plain[1], weak[1], strong[1]) + 2


@pytest.mark.parametrize("cosine", [0.5, 0.8])
def test_two_directions_of_one_artifact_move_clean_samples_no_farther_than_one(studies, cosine):
    """In one class and within classes, cosine 0.9995: with a mean for each, clean samples moved by 2.8 and 4.4."""
    study = studies(cosine)
    one, other = in_class(study), in_class(study, scope="within-class", concept="again")
    assert 0.999 < one.directions_[0].cosine(other.directions_[0]) < 0.9999
    x = study.clean.values[:, :, None, None].double()

    def moved(given):
        shift = Shift(study.s.fit(PClArC(given)).edits()[0], study.s.model.layers["latent"])
        return float((shift(x) - x).flatten(1).norm(dim=1).mean())

    single = max(moved(one), moved(other))
    assert moved([one, other]) < 1.02 * single
    fitted = study.s.fit(PClArC([one, other]))
    assert any('0 ("mark") and 1 ("again") are nearly parallel (cosine 0.99' in text for text in fitted.warnings_)
    assert accuracies(study, PClArC([one, other])) == pytest.approx(accuracies(study, PClArC(one)), abs=0.8)
    for apart in (1e-7, 1e-5, 1e-3):
        assert moved([one, turned(one, apart, other)]) < 1.02 * single, apart
    # A second axis that counts takes what noise and class have along it as well, and no more.
    assert moved([one, turned(one, 0.01, other)]) < 1.6 * single
