"""Two models side by side: what became of decisions, in which order, and what it bought and cost."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.core.comparisons import KINDS, Comparison, Differences
from workbench.core.corrections import Reevaluation
from workbench.core.errors import BadValueError, UnknownLayerError
from workbench.core.origins import mcnemar
from workbench.session.compared import compared


def made(n=300, k=4, seed=0, views=1, **options):
    rng = np.random.default_rng(seed)
    labels = rng.integers(-1, k, n)
    before = rng.normal(0, 1, (n, k)) + 2 * np.eye(k)[labels]
    after = before + rng.normal(0, 0.8, (n, k))
    given = {"labels": labels, "origins": np.arange(n) // views, "classes": [f"<b>{i}</b>" for i in range(k)]}
    return compared(("net", "fixed"), np.arange(n), before, after, **{**given, **options}), before, after, labels


def slowly(before, after, labels):
    """Each sample by itself, in plain words."""
    found = []
    for x, y, label in zip(before, after, labels, strict=True):
        first, second = int(np.argmax(x)), int(np.argmax(y))
        if label >= 0 and first == label != second:
            found.append("lost")
        elif label >= 0 and second == label != first:
            found.append("gained")
        else:
            found.append("same" if first == second else "other")
    return found


def test_flips_are_those_of_a_slow_twin():
    found, before, after, labels = made()
    slow = slowly(before, after, labels)
    assert [KINDS[k] for k in found.kinds] == slow and len(set(slow)) == 4
    assert found.counts == {kind: slow.count(kind) for kind in KINDS}
    chance = [np.exp(z) / np.exp(z).sum(1, keepdims=True) for z in (before, after)]
    np.testing.assert_allclose(found.shift, np.abs(chance[1] - chance[0]).sum(1) / 2, atol=1e-6)
    rows = np.arange(len(found))
    np.testing.assert_allclose(found.probability_after, chance[1][rows, after.argmax(1)], atol=1e-6)
    np.testing.assert_allclose(found.change, (after - before)[rows, found.output], atol=1e-6)
    assert (np.abs(found.change) >= np.abs(after - before).max(1) - 1e-6).all()
    known = labels >= 0
    assert found.n_labelled == known.sum()
    assert found.accuracy() == pytest.approx(
        [(z.argmax(1) == labels)[known].mean() for z in (before, after)], abs=1e-12
    )


def test_other_decisions_come_first_then_what_changed_most():
    found, *_ = made()
    rows = found.ordered()
    assert sorted(rows.tolist()) == list(range(len(found)))
    is_same = found.kinds[rows] == KINDS.index("same")
    n = int((~is_same).sum())
    assert not is_same[:n].any() and is_same[n:].all()
    for part in (found.shift[rows[:n]], found.shift[rows[n:]]):
        assert (np.diff(part) <= 0).all()
    lost = found.to_frame("lost")
    assert list(lost.index) == [i for i in found.samples[rows] if found.kinds[i] == 0] and set(lost["kind"]) == {"lost"}
    with pytest.raises(BadValueError, match="kind"):
        found.ordered("worse")


def test_accuracy_is_paired_like_that_of_a_reevaluation():
    found, before, after, labels = made(labels=np.random.default_rng(2).integers(0, 4, 300))
    labels = found.labels
    right = np.stack([z.argmax(1) == labels for z in (before, after)])
    nothing = np.full(2, np.nan)
    other = Reevaluation(
        models=("net", "fixed"), artifact="none", samples=found.samples, labels=labels, clean=right, attacked=right,
        relevance=np.zeros((2, 0)), relevance_area=np.nan, sensitivity=nothing, sensitivity_error=nothing,
        sensitivity_after=nothing, probe_layer=nothing, probe_logits=nothing, others={},
    )  # fmt: skip
    assert found.accuracy_change() == pytest.approx(other.change(1))
    counts = found.counts
    assert found.accuracy_change()[3] == mcnemar(counts["gained"], counts["lost"])
    table = found.by_class()
    assert table["samples"].sum() == 300 and table["gained"].sum() == counts["gained"]
    assert table["lost"].sum() == counts["lost"]
    np.testing.assert_allclose((table["after"] - table["before"]) * table["samples"], table["gained"] - table["lost"])


def test_views_of_one_original_count_once():
    labels = np.repeat(np.random.default_rng(3).integers(0, 4, 60), 5)
    rng = np.random.default_rng(4)
    before = np.repeat(rng.normal(0, 1, (60, 4)), 5, axis=0)
    after = np.repeat(rng.normal(0, 1, (60, 4)), 5, axis=0)
    given = {"labels": labels, "classes": "abcd"}
    views = compared(("a", "b"), np.arange(300), before, after, origins=np.arange(300) // 5, **given)
    alone = compared(("a", "b"), np.arange(300), before, after, origins=np.arange(300), **given)
    once = compared(("a", "b"), np.arange(60), before[::5], after[::5], origins=np.arange(60), labels=labels[::5],
                    classes="abcd")  # fmt: skip
    assert views.accuracy_change() == pytest.approx(once.accuracy_change())
    wide, narrow = (found.accuracy_change()[2] - found.accuracy_change()[1] for found in (views, alone))
    assert wide > 1.8 * narrow and views.accuracy_change()[3] > alone.accuracy_change()[3]


def test_without_labels_or_decisions_nothing_is_claimed():
    found, *_ = made(labels=np.full(300, -1))
    assert found.n_labelled == 0 and np.isnan(found.accuracy()).all() and np.isnan(found.accuracy_change()).all()
    assert found.counts["lost"] == found.counts["gained"] == 0 < found.counts["other"]
    assert "Accuracy" not in found.summary() and found.plot().data
    found, *_ = made(has_decision=False)
    assert not found.has_decisions and found.counts["same"] == 300 and np.isnan(found.shift).all()
    assert (np.diff(np.abs(found.change[found.ordered()])) <= 0).all()
    assert "largest change" in found.summary() and found.plot().data
    assert set(found.to_frame()["before"]) == {""}


def test_a_single_output_decides_by_its_sign():
    before, after = np.array([[-1.0], [2.0], [-3.0]]), np.array([[1.0], [-2.0], [-3.0]])
    found = compared(("a", "b"), np.arange(3), before, after, labels=np.array([1, 1, 0]), origins=np.arange(3),
                     classes=("score",))  # fmt: skip
    assert [KINDS[k] for k in found.kinds] == ["gained", "lost", "same"]
    assert found.to_frame().loc[0, ["before", "after"]].tolist() == ["no", "yes"]
    assert found.probability_after[0] == pytest.approx(1 / (1 + np.exp(-1)))
    assert found.probability_before[0] == pytest.approx(1 / (1 + np.exp(-1)))


def one_sample(**options):
    before, after = np.array([3.0, 1.0, 0.5, -2], np.float32), np.array([1.0, 1.5, 0.5, -7], np.float32)
    chance = [np.exp(z) / np.exp(z).sum() for z in (before, after)]
    given = {
        "models": ("net", "fixed"), "sample": 7, "label": 1, "before": before, "after": after,
        "probability_before": chance[0], "probability_after": chance[1], "classes": ("a", "b", "c", "d"),
    }  # fmt: skip
    return Comparison(**{**given, **options})


def test_one_sample_lists_what_changed_most_among_the_leading():
    found = one_sample()
    assert list(found.to_frame().index) == [3, 0, 1, 2] and list(found.to_frame(2).index) == [0, 1]
    assert found.to_frame(2)[["rank_before", "rank_after"]].to_numpy().tolist() == [[1, 2], [2, 1]]
    assert found.decisions == (0, 1) and found.is_flipped and found.kind == "gained"
    assert "from a to b, labelled b, and is now right" in found.summary() and found.plot().data
    assert one_sample(label=0).kind == "lost" and one_sample(label=-1).kind == "other"
    assert "stays a" in one_sample(after=one_sample().before).summary()
    assert one_sample(has_decision=False).decisions == (-1, -1)
    with pytest.raises(UnknownLayerError, match="record"):
        found.moved("layer4")


def test_nothing_differs_from_itself():
    found, before, _, labels = made()
    same = compared(("a", "a"), np.arange(300), before, before, labels=labels, origins=np.arange(300), classes="abcd")
    assert same.counts["same"] == 300 and not same.shift.any() and same.accuracy_change()[::3] == (0, 1)
    assert isinstance(same, Differences) and same.plot().data
