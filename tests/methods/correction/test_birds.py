"""Corrections of networks that learned shortcuts on the part world: a small one, and slowly the registered ones.

The small network saw 1,200 scenes of 48 pixels and eight classes for ten seconds, with a date on the first class and a
ruler on the second. What is known of the scenes serves to find the directions, and to judge.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import workbench as wb
from workbench.data.part_world import PartWorld
from workbench.methods import SVMCAV, PatternCAV, PClArC, RClArC, RRClArC
from workbench.methods.evaluation.correction import answers
from workbench.models.bird_training import bird_card, bird_net

LAYER = "features.23"  # what the head averages
MARKS = ("timestamp", "ruler")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """Sessions on the training scenes and on clean test scenes, these with each artifact, and their directions."""
    world = PartWorld(1200, n_classes=8, size=48, artifacts={"timestamp": {0: 0.8}, "ruler": {1: 0.8}})
    net, card, store = bird_net("vgg-bn", world, epochs=6), bird_card("vgg-bn", world), tmp_path_factory.mktemp("birds")
    clean = world.varied(n=320, split="test", artifacts=None)
    with (
        wb.open_session(lambda: (net, card), data=world, store=store) as train,
        wb.open_session(lambda: (net, card), data=clean, store=store) as test,
    ):
        cavs = {mark: train.fit(cav(PatternCAV, world, mark)) for mark in MARKS}
        attacked = {mark: clean.attacked(mark) for mark in MARKS}
        yield SimpleNamespace(world=world, train=train, test=test, attacked=attacked, cavs=cavs)


def cav(kind, world, mark, pooling="mean"):
    ids = np.flatnonzero(world.planted[:, world.artifact_names.index(mark)])
    return kind(LAYER, positives=ids, pooling=pooling, concept=mark, resamples=0)


def difference(test, attacked):
    """What an artifact changes in the mean, seen in the same scenes of all classes without and with it."""
    ids = np.arange(len(attacked))
    clean, marked = (test.run(answers, test.model, data, ids, LAYER, "mean")[2] for data in (test.data, attacked))
    found = (marked - clean).mean(0, dtype=np.float64)
    return found / np.linalg.norm(found)


@pytest.mark.parametrize("mark", MARKS)
def test_the_pattern_is_the_mean_paired_difference(small, mark):
    """Cosine 0.94 for the date and 0.97 for the ruler, from 120 scenes of one class with it and 30 without. Of a
    support vector machine, which tells them as well, 0.05 and 0.97.
    """
    true, own = difference(small.test, small.attacked[mark]), small.cavs[mark]
    svm = small.train.fit(cav(SVMCAV, small.world, mark))
    assert own.direction_ @ true > 0.9 and own.direction_ @ true > svm.direction_ @ true - 0.02
    assert min(own.separation_, svm.separation_) > 0.95


@pytest.mark.parametrize("mark", MARKS)
def test_p_r_and_rr_clarc_lower_the_gap(small, mark):
    """Of the date from 33 points to 23, 22 and 13, of the ruler from 65 to 22, 27 and 16."""
    own = small.cavs[mark]
    methods = {"P": PClArC(own), "R": RClArC(own), "RR": RRClArC(own)}
    fixed = {name: small.test.variant(name, small.train.fit(method).edits()) for name, method in methods.items()}
    found = small.test.reevaluate(fixed, attacked=small.attacked[mark], artifact=mark, cav=own, n_explained=8)
    frame = found.to_frame()
    for one in fixed.values():
        one.close()
    before = frame.iloc[0]
    assert before["gap"] > 0.25
    for name in methods:
        assert frame.loc[name, "gap"] < 0.8 * before["gap"]
    assert frame.loc["RR", "gap"] < 0.5 * before["gap"] and frame.loc["RR", "attacked_p"] < 1e-6
    assert frame.loc["RR", "clean"] > before["clean"] - 0.03


@pytest.mark.parametrize(("mark", "other"), [MARKS, MARKS[::-1]])
def test_correcting_one_of_two_says_that_the_other_did_not_fall(small, mark, other):
    """With the date corrected the ruler costs 60 points, 65 before; with the ruler corrected the date 30, 33 before.
    With both corrected together it is 17 and 12.
    """
    own, besides = small.cavs[mark], {other: small.attacked[other]}
    one, both = (small.train.fit(RRClArC(c)).edits() for c in (own, list(small.cavs.values())))
    with small.test.variant("one", one) as first, small.test.variant("both", both) as second:
        found = small.test.reevaluate(
            first, second, attacked=small.attacked[mark], artifact=mark, cav=own, besides=besides, n_explained=8
        )
    assert found.gap(1)[0] < 0.5 * found.gap(0)[0], "the corrected one fell"
    assert found.unmoved(1) == [other] and found.gap(1, other)[0] > 0.8 * found.gap(0, other)[0]
    said = [text for text in found.warnings if text.startswith(f'one: "{other}" did not fall: it costs ')]
    assert len(said) == 1 and f'"{other}" did not fall' in found.summary()
    assert found.gap(2, other)[0] < 0.6 * found.gap(0, other)[0] and found.gap(2)[0] < 0.6 * found.gap(0)[0]
    assert not any("did not fall" in text for text in found.warnings if text.startswith("both"))


def test_a_shortcut_of_many_points_is_all_but_gone_at_hardly_a_price(tmp_path):
    """The project's check: attacked at least 20 points below clean; after the correction less than 5, for at most 3 of
    clean accuracy. A patch on six of ten scenes of one class costs 67 points, and then 3, in scenes that nothing was
    fitted to, for 1 of clean accuracy; the direction is that within the class. The network is the one of the notebook.
    """
    world = PartWorld(2000, n_classes=6, artifacts={"timestamp": {0: 0.6}, "patch": {3: 0.6}})
    net, card = bird_net("vgg", world), bird_card("vgg", world)
    clean = world.varied(n=360, split="test", artifacts=None)
    ids = np.flatnonzero(world.planted[:, world.artifact_names.index("patch")])
    own = PatternCAV("features.15", positives=ids, scope="within-class", concept="patch", resamples=0)
    with (
        wb.open_session(lambda: (net, card), data=world, store=tmp_path) as train,
        wb.open_session(lambda: (net, card), data=clean, store=tmp_path) as test,
    ):
        edits = train.fit(RRClArC(train.fit(own))).edits()
        with test.variant("RR", edits) as fixed:
            found = test.reevaluate(fixed, attacked=clean.attacked("patch"), artifact="patch", n_explained=8)
    assert found.gap(0)[0] >= 0.20
    assert found.gap(1)[0] < 0.05 and found.accuracy(1)[0] >= found.accuracy(0)[0] - 0.03


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["vgg", "resnet", "efficientnet", "vit"])
def test_the_registered_networks_are_corrected(architecture, tmp_path):
    """At 64 pixels and where the head reads: the pattern has a cosine of 0.99, 1.00, 0.99 and 0.95 with the mean paired
    difference, and the three lower the gap; `benchmarks/correction.py` makes the table of all methods.
    """
    from tests.benchmarks.correction import Setting, bench

    with bench(architecture, Setting(n_test=400, n_explained=8), tmp_path) as at:
        assert at.cosines()["pattern"] > 0.9
        before, *after = (at.cell(method) for method in ("none", "P-ClArC", "R-ClArC", "RR-ClArC"))
    assert before["gap"] > 0.15
    for one in after:
        assert one["gap"] < 0.85 * before["gap"] and one["attacked_p"] < 0.01
    p, r, rr = after
    assert rr["gap"] < 0.4 * before["gap"] and rr["clean_change"] > -0.03 and r["clean_change"] > p["clean_change"]
