"""Interventions say what they are; an effect counts originals once and knows how sure it is."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from workbench.core.comparisons import Differences
from workbench.core.effects import Effect, Intervention, interval
from workbench.core.errors import BadValueError


def effect(change=(1.0, 2.0, 3.0), *, origins=None, control=(), labels=None, before=None, after=None, n_planned=None):
    change = np.asarray(change, np.float32)
    n = len(change)
    return Effect(
        interventions=(Intervention("l/unit/1"),),
        target_text="top",
        samples=np.arange(n) * 10,
        origins=np.arange(n) if origins is None else np.asarray(origins),
        before=np.zeros(n, np.float32),
        after=change,
        decision_before=np.asarray(before if before is not None else [0] * n),
        decision_after=np.asarray(after if after is not None else [0] * n),
        labels=np.asarray(labels if labels is not None else [-1] * n),
        outputs=np.array([0.5, -2.0, 0.0], np.float32),
        control=np.asarray(control, np.float32).reshape(-1, n),
        moved=None,
        n_planned=n if n_planned is None else n_planned,
        classes=("cat", "dog", "hen"),
    )


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (Intervention("l/unit/3"), "suppress l/unit/3 (100 %)"),
        (Intervention(["l/unit/3", "l/unit/3", "l/unit/5"], "boost", 0.5), "boost l/unit/3 and 1 more (50 %)"),
        (Intervention("l/cav-x/0", "set", -2.5), "set l/cav-x/0 (-2.5)"),
        (Intervention("l/3", "add", 2), "add l/unit/3 (2)"),
        (Intervention("l/3", tokens="class"), "suppress l/unit/3 (100 %) at the class token"),
        (Intervention("l/3", tokens="patches"), "suppress l/unit/3 (100 %) at the patches"),
        (
            Intervention("l/3", region=(0.25, 0, 0.5, 1)),
            "suppress l/unit/3 (100 %) in the region x 0.25 to 0.75, y 0 to 1",
        ),
    ],
)
def test_an_intervention_reads_well(made, text):
    assert str(made) == text and made.layer == "l" and made == eval(repr(made))


def test_indices_and_basis():
    made = Intervention(["l/cav-x/2", "l/cav-x/0"])
    assert made.basis == "cav-x" and made.indices == (2, 0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (([],), "needs a component"),
        ((["a/unit/1", "b/unit/1"],), "several layers or bases"),
        ((["a/unit/1", "a/cav-x/1"],), "several layers or bases"),
        (("a/unit/1", "remove"), "operation"),
        (("a/unit/1", "suppress", 1.5), "strength"),
        (("a/unit/1", "suppress", -0.1), "strength"),
        (("a/unit/1", "boost", -1), "strength"),
        (("a/unit/1", "set", math.nan), "strength"),
        (("a/unit/1", "add", math.inf), "strength"),
    ],
)
def test_what_is_no_intervention(given, message):
    with pytest.raises(BadValueError, match=message):
        Intervention(*given)


@pytest.mark.parametrize(
    ("scope", "message"),
    [
        ({"tokens": "cls"}, "tokens"),
        ({"tokens": "class", "region": (0, 0, 1, 1)}, "one of patches"),
        ({"region": (0, 0, 1)}, "has x, y, width and height"),
        ({"region": {"x": 0, "y": 0}}, "has x, y, width and height"),
        ({"region": "left"}, "has x, y, width and height"),
        ({"region": (0.5, 0, 0.6, 1)}, "a part of the picture"),
        ({"region": (0, 0, 0, 1)}, "a part of the picture"),
        ({"region": (0, math.nan, 1, 1)}, "a part of the picture"),
    ],
)
def test_what_is_no_scope(scope, message):
    with pytest.raises(BadValueError, match=message):
        Intervention("a/unit/1", **scope)


def test_a_region_as_a_selection_holds_it():
    region = {"x": 0.25, "y": 0.5, "width": 0.5, "height": 0.25}
    assert Intervention("a/1", region=region) == Intervention("a/1", region=(0.25, 0.5, 0.5, 0.25))
    assert Intervention("a/1", region=region) != Intervention("a/1")


def test_views_of_one_picture_count_once():
    one = effect([1.0, 3.0, 6.0], origins=[7, 7, 8])
    assert one.mean == pytest.approx((2 + 6) / 2) and one.interval == interval(np.array([2.0, 6.0]))


@pytest.mark.parametrize("n", [2, 3, 4, 6, 11, 101])
def test_intervals_are_student_s(n):
    scipy = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(n).standard_normal(n)
    low, high = interval(values)
    expected = scipy.t.interval(0.95, n - 1, values.mean(), values.std(ddof=1) / math.sqrt(n))
    assert (low, high) == pytest.approx(expected, rel=2e-3)


def test_intervals_without_spread_or_values():
    assert interval(np.array([2.0])) == (-math.inf, math.inf)
    assert all(map(math.isnan, interval(np.zeros(0)))) and interval(np.ones(5)) == (1, 1)


def test_the_band_of_controls():
    rng = np.random.default_rng(0)
    one = effect([5.0, 5.1, 4.9], control=rng.normal(0, 0.1, (8, 3)))
    low, high = one.control_band
    assert low < 0 < high < 1 and one.is_beyond_control and "beyond" in one.summary()
    assert not effect([0.0, 0.1, -0.1], control=rng.normal(0, 0.1, (8, 3))).is_beyond_control
    assert all(map(math.isnan, effect().control_band)) and not effect().is_beyond_control


def test_ninety_five_of_a_hundred_further_controls_lie_within():
    rng, inside = np.random.default_rng(1), 0
    for _ in range(400):
        drawn = rng.standard_normal((7, 1))
        inside += not effect(drawn[6], control=drawn[:6]).is_beyond_control
    assert 0.92 < inside / 400 < 0.98


def test_accuracy_per_class():
    frame = effect([0.0] * 4, labels=[0, 0, 1, -1], before=[0, 1, 1, 2], after=[0, 0, 2, 2]).accuracy()
    rows = frame[["samples", "before", "after", "change"]]
    assert rows.loc["cat"].tolist() == [2, 0.5, 1.0, 0.5] and rows.loc["dog"].tolist() == [1, 1.0, 0.0, -1.0]
    assert rows.loc["all"].tolist() == pytest.approx([3, 2 / 3, 2 / 3, 0])
    assert frame.loc["dog", ["low", "high"]].isna().all(), "one original says nothing of the spread"


def test_the_change_of_accuracy_has_an_interval_by_originals():
    """As that of a comparison; four views of each picture are one picture, and not four."""
    rng = np.random.default_rng(0)
    labels, before, after = rng.integers(0, 3, (3, 40))
    frame = effect(np.zeros(40), labels=labels, before=before, after=after).accuracy()
    total = (after == labels).astype(float) - (before == labels)
    drawn = [total[rng.integers(0, 40, 40)].mean() for _ in range(4000)]
    assert tuple(frame.loc["all", ["low", "high"]]) == pytest.approx(np.percentile(drawn, [2.5, 97.5]), abs=0.03)
    n = np.zeros(40)
    other = Differences(
        ("a", "b"), np.arange(40), np.arange(40), labels, before, after, n, n, n, n, n, np.arange(40), n, n[:3]
    )
    assert tuple(frame.loc["all", ["change", "low", "high"]]) == pytest.approx(other.accuracy_change()[:3])
    four = np.repeat(np.arange(40), 4)
    views = effect(np.zeros(160), labels=labels[four], before=before[four], after=after[four], origins=four).accuracy()
    assert views["samples"].tolist() == (4 * frame["samples"]).tolist()
    np.testing.assert_allclose(views[["change", "low", "high"]], frame[["change", "low", "high"]])


def test_controls_that_found_nothing_to_change_are_left_out_and_told():
    control = np.array([[1.0, np.nan, 3.0], [2.0, np.nan, np.nan], [0.0, 1.0, 2.0]])
    one = effect([5.0, 5.1, 4.9], control=control)
    assert one.empty_share == pytest.approx(3 / 9) and "33 % of the controls found nothing active" in one.summary()
    whole = effect([5.0, 5.1, 4.9], control=np.array([[2.0] * 3, [2.0] * 3, [1.0] * 3]))
    assert one.control_band == whole.control_band


def test_a_region_is_a_part_of_the_picture():
    one = Intervention("a/unit/1", region={"x": 0.25, "y": 0, "width": 0.5, "height": 1})
    assert one.region == (0.25, 0, 0.5, 1) and eval(repr(one)) == one
    assert Intervention("a/unit/1", tokens="class") != Intervention("a/unit/1")
    for wrong in ((0, 0, 0, 1), (0.5, 0, 0.6, 1), (-0.1, 0, 0.5, 1), (0, 0, 1), "left", {"x": 0}):
        with pytest.raises(BadValueError, match="region"):
            Intervention("a/unit/1", region=wrong)
    with pytest.raises(BadValueError, match="patches"):
        Intervention("a/unit/1", region=(0, 0, 1, 1), tokens="class")
    with pytest.raises(BadValueError, match="tokens"):
        Intervention("a/unit/1", tokens="some")


def test_models_without_decisions():
    one = effect([1.0, 2.0], before=[-1, -1], after=[-1, -1])
    assert math.isnan(one.changed_share) and not one.has_decisions and "; no decisions, since" in one.summary()
    assert len(one.accuracy()) == 0 and len(one.worse()) == 0 and one.to_frame()["decision_after"].tolist() == ["", ""]
    names = {trace.name for trace in one.plot().data}
    assert "samples" in names and not any("decision" in name for name in names)


def test_a_single_output_decides_by_its_sign():
    one = replace(effect([1.0, -2.0], before=[0, 1], after=[1, 1], labels=[1, 0]), outputs=np.zeros(1, np.float32))
    assert one.to_frame()["decision_after"].tolist() == ["yes", "yes"] and one.to_frame()["label"].tolist() == [
        "yes", "no"]  # fmt: skip
    assert list(one.accuracy().index) == ["no", "yes", "all"]


def test_controls_that_had_nothing_to_change_are_left_out_of_the_band():
    rng = np.random.default_rng(0)
    control = rng.normal(1, 0.1, (8, 6)).astype(np.float32)
    holes = control.copy()
    holes[:, :3] = np.nan
    one, known = effect(np.ones(6), control=holes), effect(np.ones(3), control=control[:, 3:])
    assert one.control_band == known.control_band and one.empty_share == 0.5
    assert "50 % of the controls found nothing active to change" in one.summary()
    assert math.isnan(effect().empty_share) and effect(np.ones(6), control=control).empty_share == 0
    nothing = effect(np.ones(6), control=np.full((8, 6), np.nan))
    assert math.isnan(nothing.control_band[0]) and not nothing.is_beyond_control


def test_who_was_left_out_is_counted():
    assert "; 3 left out, whose label names no output" in replace(effect(), n_left_out=3).summary()


def test_the_frame_names_everything():
    frame = effect([1.0, 2.0], before=[0, 1], after=[1, 1], labels=[0, -1]).to_frame()
    assert list(frame.index) == [0, 10] and frame["decision_after"].tolist() == ["dog", "dog"]
    assert frame["label"].tolist() == ["cat", ""] and frame["change"].tolist() == [1, 2]


def test_what_is_unfinished_says_so():
    one = effect([1.0, 2.0], n_planned=50)
    assert (
        not one.is_complete
        and one.summary().endswith("2 samples of 50.")
        and "effect of suppress l/unit/1" in repr(one)
    )
    assert one.top_outputs(2) == [("dog", -2.0), ("cat", 0.5)]
