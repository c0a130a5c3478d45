"""Samples that deserve a look, from tables with planted faults; votes and margins against their slow twins."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from workbench.methods.reveal import suspects


def test_votes_are_those_of_other_pictures():
    rng = np.random.default_rng(0)
    n, k = 23, 4
    labels, origins = rng.integers(-1, 3, n), rng.integers(0, 12, n)
    near = np.stack([rng.permutation([j for j in range(n) if j != i])[:9] for i in range(n)])
    near[4, 2:] = -1
    own, other, share = suspects.votes(near, labels, origins, k)
    for i in range(n):
        given = [labels[j] for j in near[i] if j >= 0 and labels[j] >= 0 and origins[j] != origins[i]][:k]
        if labels[i] < 0 or not given:
            assert np.isnan(own[i]) and other[i] == -1
            continue
        assert own[i] == pytest.approx(given.count(labels[i]) / len(given))
        rest = [x for x in given if x != labels[i]]
        best = max(sorted(set(rest)), key=rest.count) if rest else -1
        assert other[i] == best and share[i] == pytest.approx(rest.count(best) / len(given) if rest else 0)


def test_margins_are_of_probabilities():
    logits = np.array([[2.0, 0.0, 1.0], [900.0, 0.0, 899.0], [0.0, 0.0, 0.0]], np.float32)
    p = np.exp(logits[0]) / np.exp(logits[0]).sum()
    found = suspects.margins(logits, np.array([2, 0, -1]))
    assert found[0] == pytest.approx(p[2] - p[0]) and 0 < found[1] < 1 and np.isnan(found[2])


def groups(sizes, seed=0):
    """A map as Spray gives it, its groups apart; the last sample is far from all."""
    cluster = np.repeat(np.arange(len(sizes)), sizes)
    n = len(cluster)
    near = np.stack([[j for j in range(n) if j != i and cluster[j] == cluster[i]][:5] for i in range(n)])
    outlier = 1 + 0.05 * np.random.default_rng(seed).random(n)
    outlier[-1] = 4
    return SimpleNamespace(
        columns={"cluster": cluster, "outlier": outlier}, index=100 + np.arange(n), neighbours=near,
        cluster_names=tuple(f"strategy {i + 1}" for i in range(len(sizes))),
    )  # fmt: skip


def test_groups_that_are_not_the_class():
    relevance = np.zeros((200, 3))
    relevance[100:, 0], relevance[140:160, 2] = 1, 3
    found = suspects.group_findings(groups([40, 20]), "dog", "a", relevance=relevance)
    (one,) = found
    assert one.members[0] == one.subject and set(one.members) == set(range(140, 160))
    assert len(one.counter[0].samples) == 6
    assert one.evidence[1].components == ("a/unit/2",) and "20 of 60" in one.reason.replace(" samples", "", 1)
    assert len(suspects.group_findings(groups([30, 30]), "dog", "a")) == 2, "either may be the odd one"
    assert suspects.group_findings(groups([60]), "dog", "a") == []


def test_outliers_stand_far_above_the_rest():
    (one,) = suspects.outlier_findings(groups([40, 20]), "dog", "a")
    assert one.subject == 159 and one.score > 3 and "times as far" in one.reason and len(one.evidence[0].samples) == 5


def test_a_label_of_which_the_model_is_sure_is_left_alone():
    labels = np.array([0] * 10 + [1] * 10)
    labels[3] = 1
    near = np.stack([[j for j in range(20) if j != i and (j < 10) == (i < 10)] for i in range(20)])
    make = dict(
        ids=np.arange(20) * 2, neighbours=near, labels=labels, origins=np.arange(20), names=("cat", "dog"), layer="a"
    )
    (one,) = suspects.label_findings(**make)
    assert (one.subject, one.old, one.proposal, one.score) == (6, "dog", "cat", 0.5)
    asked = []

    def sure(rows):
        asked.append(rows.tolist())
        return np.full(len(rows), 0.95)

    assert suspects.label_findings(**make, margin_of=sure) == [] and asked == [[3]]
    (one,) = suspects.label_findings(**make, margin_of=lambda rows: np.full(len(rows), -1.0), predicted=["cat"] * 20)
    assert one.score == 1.0 and [e.text for e in one.evidence][2] == "The model takes it for cat."


def test_pairs_of_one_picture():
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (8, 4, 4, 3)).astype(np.uint8)
    pictures[5] = pictures[2]
    near = np.array([[1], [0], [5], [4], [3], [2], [7], [6]])
    far = np.array([0.2, 0.2, 0.0, 0.001, 0.001, 0.0, 0.3, 0.3])[:, None]
    make = dict(
        ids=np.arange(8), neighbours=near, distance=far, labels=np.arange(8) % 2, names=("cat", "dog"), layer="a",
        pictures_of=lambda ids: pictures[ids],
    )  # fmt: skip
    (one,) = suspects.duplicate_findings(origins=np.arange(8), **make)
    assert one.subject == 5 and "two labels, cat and dog" in one.reason
    assert suspects.duplicate_findings(origins=np.array([0, 1, 2, 3, 4, 2, 6, 7]), **make) == [], "views of one picture"
