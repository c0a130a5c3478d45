"""Patterns as methods: on arrays with known answers, and a planted artifact recovered through a real session."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import BadValueError, CancelledError, ModelError, UnknownComponentError, UnknownLayerError
from workbench.core.results import Direction, DirectionSet
from workbench.data import ToyData
from workbench.methods import FastCAV, MeanDifferenceCAV, MedianDifferenceCAV, PatternCAV
from workbench.methods.directions.estimators import mean_difference, median_difference, pattern, unit
from workbench.methods.directions.separation import auc
from workbench.models.hooks import record
from workbench.testing.context import FakeContext
from workbench.testing.small import CLASSES, SMALL, Counter, small_data, small_net

LAYER = "features.11"


def study(n=4000, c=0.5, seed=0, share=0.8):
    """Study N1: an artifact on most of class 1, whose direction lies at a cosine `c` with that of the class."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.normal(size=(64, 2)))[0].T
    h, u = basis[0], c * basis[0] + np.sqrt(1 - c**2) * basis[1]
    y = np.arange(n) % 2
    t = rng.random(n) < np.where(y == 1, share, 0.02)
    x = 1 + 0.7 * rng.normal(size=(n, 64)) + np.where(y == 1, 0.8, -0.8)[:, None] * u + 3 * t[:, None] * h
    return x, t, y, h, u


def context(x, y=None, **options):
    return FakeContext({"l": x}, labels=y, classes=("ant", "bee"), **options)


def one(cav, ctx) -> Direction:
    (found,) = cav.fit(ctx).directions_
    return found


# --- on arrays -------------------------------------------------------------------------------------------------------


def test_the_scope_decides_and_pooling_all_classes_is_warned_of():
    """Cosines with the artifact: stratified and in class 1 0.995, all 0.958; the latter has 0.73 with the class."""
    x, t, y, h, u = study()
    ctx = context(x, y)
    scopes = ("within-class", "bee", "all")
    stratified, within, pooled = (one(PatternCAV("l", positives=t, scope=s), ctx) for s in scopes)
    assert stratified.cosine(h) > 0.99 and within.cosine(h) > 0.99
    assert pooled.cosine(h) == pytest.approx(0.956, abs=0.01)
    assert pooled.class_cosine == pytest.approx(pooled.cosine(u), abs=0.03) and pooled.class_cosine > 0.65
    assert pooled.class_auc == pytest.approx(0.9, abs=0.02)
    assert "confounded" in pooled.warnings[0] and "within-class" in pooled.warnings[0]
    assert not stratified.warnings and not within.warnings
    assert within.samples.tolist() == np.flatnonzero(y == 1).tolist() and (within.class_ == 1).all()
    assert one(PatternCAV("l", positives=t, scope=1), ctx).cosine(within) == pytest.approx(1)


def test_where_the_concept_is_spread_evenly_nobody_is_warned():
    x, _, y, h, _ = study()
    t = np.random.default_rng(5).random(len(y)) < 0.3
    x = x + 3 * t[:, None] * h
    found = one(PatternCAV("l", positives=t, scope="all"), context(x, y))
    assert found.warnings == () and found.class_auc < 0.55


def test_means_reference_and_threshold_go_with_the_weights():
    x, t, y, _, _ = study(n=600)
    x = x.astype(np.float32).astype(np.float64)
    found = one(PatternCAV("l", positives=t), context(x, y))
    v, mean = unit(pattern(x, t, y)), {True: 0.0, False: 0.0}
    size, reference = 0.0, 0.0
    for k in (0, 1):
        on, off = x[(y == k) & t], x[(y == k) & ~t]
        weight = len(on) * len(off) / (len(on) + len(off))
        mean[True], mean[False] = mean[True] + weight * (on @ v).mean(), mean[False] + weight * (off @ v).mean()
        reference, size = reference + weight * off.mean(0), size + weight
    np.testing.assert_allclose(found.vector, v, atol=1e-6)
    assert found.mean_positive == pytest.approx(mean[True] / size, rel=1e-5)
    assert found.mean_negative == pytest.approx(mean[False] / size, rel=1e-5)
    assert found.length == pytest.approx(np.linalg.norm(pattern(x, t, y)), rel=1e-5)
    assert found.threshold == pytest.approx((found.mean_positive + found.mean_negative) / 2)
    np.testing.assert_allclose(found.reference, reference / size, atol=1e-5)
    np.testing.assert_allclose(found.score, x @ v, atol=1e-4)
    assert found.mean_positive > found.mean_negative


def test_held_out_scores_are_those_of_refits_that_had_not_seen_the_sample():
    """With more units than samples any direction separates what it was fitted on; held out, noise is told by chance."""
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(60, 400)), np.arange(60) % 2 == 0
    found = one(PatternCAV("l", positives=t, scope="all"), context(x))
    assert auc(found.score, t) > 0.99 and abs(found.auc - 0.5) < 0.25
    assert found.auc_error == pytest.approx(0.075, abs=0.02) and 0.3 < found.average_precision < 0.75
    assert not np.isnan(found.held_out).any()
    assert found.expected_cosine < 0.5 and "let one expect" in found.warnings[0]
    assert found.stability < 0.75, (
        "refits on bootstrap samples share most of their samples, and agree little all the same"
    )


def test_other_views_of_a_picture_are_held_out_with_it():
    """Twenty pictures in ten views each, labelled at random: with their views seen refits tell them, else by chance."""
    rng = np.random.default_rng(3)
    origins = np.repeat(np.arange(20), 10)
    x, t = rng.normal(size=(20, 100))[origins] + 0.1 * rng.normal(size=(200, 100)), origins % 2 == 0
    seen = one(PatternCAV("l", positives=t, scope="all"), context(x))
    apart = one(PatternCAV("l", positives=t, scope="all"), context(x, origins=origins))
    assert seen.auc > 0.95 and apart.auc < 0.8
    few = one(PatternCAV("l", positives=range(10), scope="all"), context(x, origins=origins))
    assert np.isnan(few.auc) and "views of one picture" in few.warnings[-1]


def test_a_strong_concept_is_told_and_stable():
    x, t, y, _, _ = study(n=1000)
    found = one(PatternCAV("l", positives=t), context(x, y))
    assert found.auc > 0.97 and found.average_precision > 0.95 and found.stability > 0.95
    assert found.expected_cosine > 0.95
    assert 0.5 < found.agreement <= 1


def test_the_expected_cosine_is_reached_on_average():
    expected, reached = [], []
    for seed in range(12):
        x, t, y, h, _ = study(n=300, seed=seed)
        found = one(PatternCAV("l", positives=t), context(x, y))
        expected.append(found.expected_cosine)
        reached.append(found.cosine(h))
    assert np.mean(expected) == pytest.approx(np.mean(reached), abs=0.03)


def test_three_names_for_one_direction_and_the_median():
    x, t, y, _, _ = study(n=600)
    ctx = context(x, y)
    a, b, c = (one(kind("l", positives=t, scope="all"), ctx) for kind in (PatternCAV, MeanDifferenceCAV, FastCAV))
    np.testing.assert_array_equal(a.vector, b.vector)
    np.testing.assert_array_equal(a.vector, c.vector)
    np.testing.assert_allclose(a.vector, unit(mean_difference(x, t)), atol=1e-6)
    assert c.threshold == pytest.approx((x @ unit(pattern(x, t))).mean(), rel=1e-4) and c.threshold != a.threshold
    d = one(MedianDifferenceCAV("l", positives=t), ctx)
    np.testing.assert_allclose(d.vector, unit(median_difference(x.astype(np.float32), t, y)), atol=1e-6)
    assert d.auc > 0.95 and np.isnan(d.expected_cosine) and d.agreement > 0.9
    assert [k.basis.rsplit("-", 1)[-1] for k in (b, c, d)] == ["difference", "fast", "difference"]


def test_pairs_say_how_well_the_planted_direction_is_met():
    rng = np.random.default_rng(0)
    h = 3 * unit(rng.normal(size=20))
    clean = rng.normal(size=(50, 20))
    size = rng.uniform(0.2, 2, 50)[:, None]
    x = np.concatenate([clean, clean + size * h + 0.3 * rng.normal(size=(50, 20))])
    pairs = [(50 + i, i) for i in range(50)]
    found = one(PatternCAV("l", positives=pairs, scope="all"), context(x))
    assert found.n_positive == found.n_negative == 50
    difference = (x[50:] - x[:50]).astype(np.float32)
    assert found.alignment == pytest.approx(np.mean([found.cosine(d) for d in difference]), abs=1e-5)
    assert found.alignment_overall == pytest.approx(found.cosine(difference.mean(0)), abs=1e-5) == pytest.approx(1)
    assert found.alignment < found.alignment_overall
    later = one(PatternCAV("l", positives=range(50, 100), scope="all", pairs=pairs), context(x))
    assert later.alignment == pytest.approx(found.alignment, abs=1e-5)


def test_several_concepts_share_a_basis():
    x, t, y, h, _ = study(n=600)
    other = np.random.default_rng(1).random(600) < 0.3
    x = x + 4 * other[:, None] * np.eye(64)[9]
    cav = PatternCAV("l", positives={"dot": t, "line": other}).fit(context(x, y))
    assert cav.directions_.basis == "cav-dot-line" and cav.components() == ["l/cav-dot-line/0", "l/cav-dot-line/1"]
    assert cav.direction_.shape == (2, 64) and cav.separation_.shape == (2,)
    assert cav.directions_["dot"].cosine(h) > 0.95 and cav.directions_[1].cosine(np.eye(64)[9]) > 0.95
    frame = cav.directions_.to_frame()
    assert frame.index.tolist() == cav.components() and frame["concept"].tolist() == ["dot", "line"]
    assert frame.loc["l/cav-dot-line/0", "n_positive"] == t.sum()
    assert cav.directions_.cosines().shape == (2, 2)
    with pytest.raises(UnknownComponentError, match='"dash"'):
        cav.directions_["dash"]


def test_parallel_directions_are_named():
    x, t, y, _, _ = study(n=600)
    with pytest.raises(BadValueError, match='"dot" and "again" are parallel'):
        PatternCAV("l", positives={"dot": t, "x": ~t & (y == 0), "again": t.copy()}, resamples=0).fit(context(x, y))


def test_one_positive_is_a_direction_with_a_warning():
    x, t, y, _, _ = study(n=600)
    first = int(np.flatnonzero(t & (y == 1))[0])
    found = one(PatternCAV("l", positives=[first]), context(x, y))
    off = x[(y == 1) & (np.arange(600) != first)]
    np.testing.assert_allclose(found.vector, unit(x[first] - off.mean(0)), atol=1e-5)
    assert np.isnan([found.auc, found.auc_error, found.average_precision, found.stability]).all()
    assert np.isnan(found.held_out).all() and "A single positive" in found.warnings[-1]
    assert 0 <= found.expected_cosine < 0.8 and any("let one expect" in w for w in found.warnings)
    assert "nan" not in repr(found)


def test_constant_units_have_the_entry_zero_and_all_constant_is_refused():
    x, t, y, _, _ = study(n=400)
    x[:, 5] = 7.7
    found = one(PatternCAV("l", positives=t), context(x, y))
    assert found.vector[5] == 0 and np.isfinite(found.vector).all() and not np.isnan(found.agreement)
    with pytest.raises(BadValueError, match="do not differ at this layer"):
        PatternCAV("l", positives=t).fit(context(np.full((400, 3), 2.5), y))


def test_classes_that_hold_one_kind_drop_out_and_it_is_said():
    x, t, y, _, _ = study(n=400)
    t = t | (y == 0)
    found = one(PatternCAV("l", positives=t), context(x, y))
    assert (found.class_ == 1).all() and f"200 of {int(t.sum())} positives take no part" in found.warnings[0]
    with pytest.raises(BadValueError, match="confounded") as error:
        PatternCAV("l", positives=y == 0).fit(context(x, y))
    assert 'scope="all"' in error.value.hint


REFUSED = {
    "no classes": ({"scope": "within-class"}, None, "has no classes", 'scope="all"'),
    "a class of one kind": ({"scope": "ant", "positives": [1, 3]}, "y", '"ant" holds 0 positives', "another class"),
    "an unknown class": ({"scope": "be"}, "y", 'No class "be"', '"bee"'),
    "a scope of another kind": ({"scope": 0.5}, "y", "`scope`", ""),
    "an unknown pooling": ({"pooling": "median"}, "y", "`pooling`", ""),
    "negative resamples": ({"resamples": -1}, "y", "`resamples`", ""),
    "a blank name": ({"concept": " "}, "y", "`concept`", ""),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_fitted_is_explained(what):
    options, labels, message, hint = REFUSED[what]
    x, t, y, _, _ = study(n=100)
    with pytest.raises(BadValueError if "unknown class" not in what else KeyError, match=message) as error:
        PatternCAV("l", **{"positives": t, **options}).fit(context(x, y if labels else None))
    assert hint in error.value.hint


def test_unreadable_samples_are_left_out_and_counted():
    x, t, y, _, _ = study(n=400)
    valid = np.ones(400, bool)
    on = np.flatnonzero(t)
    valid[on[:3]] = False
    found = one(PatternCAV("l", positives=t), context(x, y, is_valid=valid))
    assert found.n_positive == t.sum() - 3 and "3 of" in found.warnings[0] and "could not be read" in found.warnings[0]
    valid[on] = False
    with pytest.raises(BadValueError, match="None of the"):
        PatternCAV("l", positives=t).fit(context(x, y, is_valid=valid))


def test_named_negatives_are_all_that_is_asked_for():
    x, t, y, _, _ = study(n=400)
    on, off = np.flatnonzero(t)[:20], np.flatnonzero(~t)[:30]
    found = one(PatternCAV("l", positives=on, negatives=off, scope="all"), context(x, y))
    assert found.samples.tolist() == sorted([*on, *off])
    np.testing.assert_allclose(found.vector, unit(x[on].mean(0) - x[off].mean(0)), atol=1e-6)


def test_a_refit_uses_the_activations_at_hand_and_keeps_the_address():
    x, t, y, _, _ = study(n=400)
    ctx = context(x, y, tags={"dot": np.flatnonzero(t)})
    cav = PatternCAV("l", positives="dot").fit(ctx)
    ctx.asked.clear()
    again = cav.refit(np.flatnonzero(t)[:40], ctx=ctx)
    assert ctx.asked == [] and again.components() == cav.components() == ["l/cav-dot/0"]
    assert again.directions_[0].n_positive == 40 and cav.directions_[0].n_positive == t.sum()
    assert again.directions_[0].concept == "dot"
    np.testing.assert_array_equal(
        again.direction_, PatternCAV("l", positives=np.flatnonzero(t)[:40]).fit(context(x, y)).direction_
    )
    with pytest.raises(BadValueError, match="not fitted by a session"):
        cav.refit([1, 2])


def test_the_name_says_the_concept():
    x, t, y, _, _ = study(n=100)
    ctx = context(x, y, tags={"band-aid 2.0": np.flatnonzero(t)})

    def basis(**options):
        return PatternCAV("l", **{"positives": np.flatnonzero(t), **options}).fit(ctx).directions_.basis

    assert basis() == "cav-band-aid-2-0" and basis(concept="big/dot") == "cav-big-dot"
    assert basis(positives=np.flatnonzero(t)[:9]).startswith("cav-") and len(basis(positives=[1, 2, 3])) == 10
    assert "positives=<" in repr(PatternCAV("l", positives=np.flatnonzero(t)))


# --- through a session -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy():
    return ToyData(n=240, split="val", artifact_class=None, artifact_share=0.5)


@pytest.fixture(scope="module")
def session(toy, tmp_path_factory):
    with wb.open_session("toy-cnn", data=toy, store=tmp_path_factory.mktemp("directions")) as opened:
        opened.data.tag("patch", toy.has_artifact)
        yield opened


@pytest.fixture(scope="module")
def cav(session):
    return session.fit(PatternCAV(LAYER, positives=session.data.tag("patch")))


@pytest.fixture(scope="module")
def planted(session, toy):
    """(pair, unit) differences of activations of the same scenes with the artifact and without."""
    clean = ToyData(n=240, split="val", artifact=None).using(session.model.card.transform)
    both = []
    for data in (toy.using(session.model.card.transform), clean):
        found = []

        def see(_, maps, found=found):
            found.append(maps.flatten(2).amax(2).clone())

        ids = np.flatnonzero(toy.has_artifact).tolist()
        for first in range(0, len(ids), 40):
            x, _, _ = data.batch(ids[first : first + 40])
            with record(session.model.module, [LAYER], see):
                session.model(x)
        both.append(torch.cat(found).numpy())
    return both[0] - both[1]


def test_a_planted_direction_is_recovered(cav, planted):
    """The cosine of the pattern with the mean paired difference is 0.99, above the 0.9 asked for."""
    (found,) = cav.directions_
    assert cav.components() == [f"{LAYER}/cav-patch/0"] and found.concept == "patch"
    assert found.cosine(planted.mean(0)) > 0.95, f"cosine {found.cosine(planted.mean(0)):.3f}"
    assert cav.separation_ > 0.99 and found.stability > 0.98 and found.expected_cosine > 0.98
    assert found.warnings == ()


def test_the_session_knows_the_planted_direction(session, planted):
    (name,) = found = session.planted_directions(LAYER, n=100)
    true = unit(planted.mean(0))
    assert name == "artifact" and float(found[name] @ true) > 0.999 and np.linalg.norm(found[name]) == pytest.approx(1)
    assert float(session.planted_directions(LAYER, n=12)[name] @ true) > 0.98
    counter = Counter(session.model.module)
    session.planted_directions(LAYER, n=12)
    counter.handle.remove()
    assert counter.calls == 0, "kept"
    with pytest.raises(UnknownLayerError):
        session.planted_directions("features.99")


def test_it_is_a_component_of_its_own_basis(session, cav):
    (address,) = cav.components()
    session.selection.component = address
    assert session.selection.component == address
    assert session.layers().bases(LAYER) == ["cav-patch"] and f"{LAYER}/cav-patch" in session.directions()
    session.selection.component = f"{LAYER}/unit/0"
    with pytest.raises(UnknownComponentError, match="No component 1"):
        session.explain(3, given=[f"{LAYER}/cav-patch/1"])
    with pytest.raises(UnknownComponentError, match='No basis "cav-pach"') as error:
        session.explain(3, given=[f"{LAYER}/cav-pach/0"])
    assert '"cav-patch"' in error.value.hint


def inside(maps, toy, samples, pad=2):
    """Share of the positive relevance within the masks and two pixels around, and the share of pixels they take."""
    heat = maps.numpy().clip(0)
    masks = torch.from_numpy(np.stack([toy.masks(i)["artifact"] for i in samples])).float()[:, None]
    wide = torch.nn.functional.max_pool2d(masks, 2 * pad + 1, 1, pad)[:, 0].numpy() > 0
    return float((heat * wide).sum() / heat.sum()), float(wide.mean())


def test_it_is_localised_where_the_artifact_lies(session, toy, cav):
    """71 % of the direction's own relevance lies on the mask, on 6 % of the picture; of the class it was planted on,
    what flows through the direction 83 %. With shuffled entries the direction's own share falls to half: the patch is
    bright, and most units see it.
    """
    samples = np.flatnonzero(toy.has_artifact)[:40].tolist()
    own = session.explain(samples, given=cav.components())
    assert own.given == (f"{LAYER}/cav-patch/0",) and own.target_text.startswith("component:")
    assert float(own.gap.abs().max()) < 1e-4, "its relevance is the projection, summed over positions"
    share, area = inside(own.heatmap, toy, samples)
    assert share > 0.6 and share > 8 * area, f"{share:.1%} on {area:.1%}"
    flowing, _ = inside(session.explain(samples, "logit:0", given=cav.components()).heatmap, toy, samples)
    assert flowing > 0.7, f"{flowing:.1%}"
    vector = np.random.default_rng(0).permutation(cav.direction_)
    session.model.layers.add_directions(LAYER, "cav-shuffled", vector[None])
    shuffled, _ = inside(session.explain(samples, given=f"{LAYER}/cav-shuffled/0").heatmap, toy, samples)
    assert shuffled < 0.8 * share, f"shuffled {shuffled:.1%}, its own {share:.1%}"


def test_samples_are_ranked_by_projection(session, toy, cav):
    (found,) = cav.directions_
    table = session.project(cav)
    np.testing.assert_allclose(np.asarray(table.values)[found.samples, 0], found.score, rtol=1e-4, atol=1e-3)
    assert table.ids() == cav.components()
    same = session.activations(LAYER, basis="cav-patch")
    np.testing.assert_array_equal(np.asarray(same.values), np.asarray(table.values))
    references = session.references(LAYER, k=10, basis="cav-patch")
    best = np.argsort(-np.asarray(table.values)[:, 0])[:10]
    assert references.of(cav.components()[0]) == best.tolist() and toy.has_artifact[best].all()
    shown = session.reference_views(cav.components()[0], n=3)
    assert [v.sample for v in shown] == best[:3].tolist()
    with pytest.raises(BadValueError, match="not of directions"):
        session.references(LAYER, by="relevance", basis="cav-patch")
    some = session.project(cav.directions_[0], [3, 5])
    assert np.flatnonzero(np.asarray(some.is_valid)).tolist() == [3, 5]


def test_a_second_fit_loads_and_the_model_does_not_run(session, cav, toy, tmp_path):
    counter = Counter(session.model.module)
    again = session.fit(PatternCAV(LAYER, positives="patch"))
    other = session.fit(PatternCAV(LAYER, positives=toy.has_artifact))  # another way to say the same
    session.fit(PatternCAV(LAYER, positives=np.flatnonzero(toy.has_artifact)[:30]))  # other samples, the same table
    counter.handle.remove()
    assert counter.calls == 0
    np.testing.assert_array_equal(again.direction_, cav.direction_)
    np.testing.assert_array_equal(other.direction_, cav.direction_)
    assert again.directions_.to_frame().equals(cav.directions_.to_frame())


def test_refits_are_live_and_results_are_never_those_of_an_older_one(session, toy, cav):
    (address,) = cav.components()
    before = session.explain(3, given=address)
    on = np.flatnonzero(toy.has_artifact)[:12]
    new = cav.refit(on)
    try:
        assert new.components() == [address]
        assert not torch.equal(session.explain(3, given=address).heatmap, before.heatmap)
        np.testing.assert_array_equal(session.directions()[f"{LAYER}/cav-patch"].vectors[0], new.direction_)
        old = session.explain(3, before.target_text)
        assert torch.equal(old.heatmap, before.heatmap), "its pinned address means the older one for good"
        maps = session.concept_maps(3, [address])
    finally:
        session.fit(cav)
    assert torch.equal(session.explain(3, given=address).heatmap, before.heatmap)
    assert not torch.equal(session.concept_maps(3, [address]), maps)


def test_a_variant_knows_the_directions(session, cav):
    from workbench.core.results import Edit

    with session.variant("without", [Edit("project", LAYER, array=cav.direction_)]) as other:
        table = other.project(cav)
        assert np.asarray(other.explain(3, given=cav.components()).heatmap).shape == (1, 64, 64)
        spread = np.ptp(np.asarray(session.project(cav).values))
        # Projected out at every position; the largest values of each unit need not lie at one.
        assert np.ptp(np.asarray(table.values)) < 0.6 * spread


def test_slopes_of_all_outputs(session, toy, cav):
    """The class that the artifact was planted on rises most along it."""
    frame = cav.class_slopes(np.flatnonzero(toy.labels != 0)[:16])
    assert frame.index[0] == ("patch", toy.classes[0]) and frame["slope"].iloc[0] > 0 > frame["slope"].iloc[-1]


# --- where activations come from -------------------------------------------------------------------------------------


@pytest.fixture
def small(tmp_path):
    with wb.open_session(
        small_net(), data=small_data(), store=tmp_path / "store", transform=SMALL, classes=CLASSES
    ) as opened:
        yield opened


def test_only_what_is_missing_is_computed(small):
    counter = Counter(small.model.module)
    named = PatternCAV("relu_b", positives=[0, 4], negatives=[8, 12], scope="all")
    small.fit(named)
    assert counter.samples == 4, "the samples that were named, and no others"
    small.fit(PatternCAV("relu_b", positives=[0, 8], negatives=[4, 12], scope="all"))
    assert counter.samples == 4, "the same samples again are in the store"
    small.sweep("relu_b", relevance=False, samples=[1, 2, 3, 5, 6, 9, 10])
    counter.samples = 0
    partial = small.fit(PatternCAV("relu_b", positives=[1, 5, 20], scope="all"))
    assert counter.samples == 1, "one positive lies beside the swept part"
    assert partial.directions_[0].samples.tolist() == [1, 2, 3, 5, 6, 9, 10, 20]
    counter.samples = 0
    whole = small.fit(PatternCAV("relu_a", positives=[1, 5, 20], scope="all"))
    assert whole.directions_[0].n_negative == 21 and counter.samples >= 24
    counter.samples = 0
    small.fit(PatternCAV("relu_a", positives=[1, 5], pooling="mean", scope="all"))
    counter.handle.remove()
    assert counter.samples == 0, "a sweep keeps both poolings"


def test_computed_rows_are_those_of_a_sweep(small):
    ids, rows = small.pooled("relu_b", [3, 1, 7], pooling="max")
    assert ids.tolist() == [1, 3, 7]
    mean = small.pooled("relu_b", [3, 1, 7], pooling="mean")[1]
    small.sweep("relu_b", relevance=False)
    np.testing.assert_allclose(np.asarray(small.activations("relu_b").values)[ids], rows, rtol=1e-5)
    np.testing.assert_allclose(np.asarray(small.activations("relu_b", pooling="mean").values)[ids], mean, rtol=1e-5)
    np.testing.assert_allclose(small.pooled("relu_b", [3, 1, 7])[1], rows, rtol=1e-5)


def test_computing_can_be_cancelled(small):
    job = small.submit(lambda progress: (progress.token.cancel(), small.pooled("relu_b", [1, 2]))[1])
    with pytest.raises(CancelledError):
        job.result()
    assert len(small.pooled("relu_b", [1, 2])[0]) == 2


def test_unknown_layers_and_tokens_where_there_are_none(small):
    with pytest.raises(UnknownLayerError):
        small.fit(PatternCAV("relu_c", positives=[1]))
    with pytest.raises(BadValueError, match="no sequence of tokens") as error:
        small.fit(PatternCAV("relu_b", positives=[1], pooling="token"))
    assert "mean" in error.value.hint


def test_half_precision_models_run_in_single_and_give_the_same(small, tmp_path):
    with wb.open_session(
        small_net().half(), data=small_data(), store=tmp_path / "half", transform=SMALL, classes=CLASSES
    ) as half:
        a, b = (s.fit(PatternCAV("relu_b", positives=[0, 1, 2, 3, 4], scope="all")) for s in (small, half))
    assert b.direction_.dtype == np.float32
    assert a.directions_[0].cosine(b.directions_[0]) > 0.999


def test_layers_of_tokens(toy, tmp_path):
    """A direction of a transformer's tokens: three poolings, localised in the picture, and projected out."""
    from torchvision.models import VisionTransformer

    torch.manual_seed(0)
    net = VisionTransformer(64, 16, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32, num_classes=6).eval()
    torch.nn.init.normal_(net.heads.head.weight, std=0.3)  # zeros else
    with wb.open_session(net, data=toy, store=tmp_path, transform=toy.transform) as s:
        layer = "encoder.layers.encoder_layer_0"
        found = {}
        for pooling in ("max", "mean", "token"):
            made = s.fit(
                PatternCAV(
                    layer,
                    positives=range(0, 20),
                    negatives=range(20, 40),
                    pooling=pooling,
                    scope="all",
                    concept=pooling,
                )
            )
            found[pooling] = made.direction_
            assert np.isfinite(made.direction_).all() and made.direction_.shape == (s.layers()[layer].n_components,)
            heat = s.explain(3, given=made.components()).heatmap
            assert heat.shape[1:] == (64, 64) and bool(torch.isfinite(heat).all())
        assert abs(found["token"] @ found["mean"]) < 0.999
        first = s.pooled(layer, [5], pooling="token")[1][0]
        seen = []
        with record(s.model.module, [layer], lambda _, t: seen.append(t.detach().clone())):
            s.model(s.data.tensor(5).unsqueeze(0))
        np.testing.assert_allclose(first, seen[0][0, 0].numpy(), rtol=1e-5, atol=1e-6)


def test_a_model_without_classes_is_told_so(tmp_path):
    """Regression: one output and data without labels. All against all works, classes are refused with the way out."""
    from workbench.data.torch_data import TorchData

    class Pictures:
        def __init__(self):
            self.pictures = np.random.default_rng(0).integers(0, 255, (20, 12, 12, 3), dtype=np.uint8)

        def __len__(self):
            return 20

        def __getitem__(self, i):
            from PIL import Image

            return Image.fromarray(self.pictures[i])

    with wb.open_session(
        small_net(n_classes=1), data=TorchData(Pictures(), name="bare"), store=tmp_path, transform=SMALL
    ) as s:
        with pytest.raises(BadValueError, match="no classes") as error:
            s.fit(PatternCAV("relu_b", positives=[1, 2, 3]))
        assert 'scope="all"' in error.value.hint
        cav = s.fit(PatternCAV("relu_b", positives=[1, 2, 3], scope="all"))
        assert np.isnan([cav.directions_[0].class_auc, cav.directions_[0].class_cosine]).all()


def test_layers_that_run_twice_are_refused(tmp_path):
    from workbench.testing.nets import Twice, randomised

    net = randomised(Twice())
    with wb.open_session(net, data=small_data(), store=tmp_path, transform=SMALL) as s:
        with pytest.raises(ModelError, match="runs 2 times"):
            s.fit(PatternCAV("again", positives=[1, 2], scope="all"))


def test_a_set_of_directions_from_elsewhere_can_be_added(small):
    rng = np.random.default_rng(0)
    cav = small.fit(PatternCAV("relu_b", positives=[0, 4, 8], scope="all", concept="a"))
    (one_of,) = cav.directions_
    made = small.add_directions(DirectionSet("relu_b", "mine", (one_of,)))
    assert made == [one_of.id] and small.layers().bases("relu_b") == ["cav-a", "mine"]
    for bad, message in (
        (rng.normal(size=(1, 7)), "unit length"),
        (np.eye(5)[:1], "7 entries"),
        (np.full((1, 7), np.nan), "NaN"),
    ):
        with pytest.raises(ValueError, match=message):
            small.layers().add_directions("relu_b", "bad", bad)
    with pytest.raises(BadValueError, match='cannot be called "unit"'):
        small.layers().add_directions("relu_b", "unit", np.eye(7)[:1])
