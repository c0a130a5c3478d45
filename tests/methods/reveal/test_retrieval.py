"""A few seeds lead to all samples with the artifact, and it is known when to stop."""

from __future__ import annotations

import numpy as np
import pytest

import workbench as wb
from workbench.core.errors import BadValueError
from workbench.methods import Retrieval
from workbench.methods.reveal.retrieval import border, kendall_tau, relative, wilson

LAYER = "features.8"


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    toy = wb.data.ToyData(n=480, split="val", artifact_class=None, artifact_share=0.25)
    with wb.open_session("toy-cnn", data=toy, store=tmp_path_factory.mktemp("retrieval")) as session:
        yield session


@pytest.fixture(scope="module")
def truth(session):
    return np.asarray(session.data.has_artifact)


@pytest.fixture(scope="module")
def first(session, truth):
    return session.fit(Retrieval(LAYER, seeds=np.flatnonzero(truth)[:10]))


def test_ten_seeds_rank_the_rest(first, truth):
    """Reached 1.000 by both; tau cannot be more than its ceiling, that of the labels themselves."""
    found = first.quality(truth)
    n, on = found["n"], found["n_positive"]
    ceiling = np.sqrt(2 * on * (n - on) / (n * (n - 1)))
    assert found["auc"] >= 0.98 and found["average_precision"] >= 0.97 and found["kendall_tau"] >= 0.95 * ceiling
    assert n == len(truth) - 10 and on == truth.sum() - 10


def test_the_loop_finds_all_and_stops(session, first, truth):
    found, n_rounds = first, 0
    while not found.is_done_:
        asked = found.ask()
        found = found.judge(asked[truth[asked]], asked[~truth[asked]])
        n_rounds += 1
        assert n_rounds < 12
    rates = found.history()["rate"].tolist()
    assert rates[0] == 1.0 and rates[-1] < 0.5 and all(rate >= 0.5 for rate in rates[:-1])
    assert np.isin(np.flatnonzero(truth), found.samples()).mean() >= 0.98 and truth[found.samples()].all()
    session.data.tag("patch", found.samples())
    assert len(session.fit(wb.methods.PatternCAV(LAYER, positives="patch")).directions_[0].samples)
    session.data.untag("patch")


def test_by_relevance_too(session, truth):
    found = session.fit(Retrieval(LAYER, seeds=np.flatnonzero(truth)[:10], by="relevance"))
    assert found.quality(truth)["auc"] >= 0.75 and not hasattr(found, "directions_")


def test_what_is_asked_is_the_top_and_the_border(first):
    asked = first.ask(6, n_border=4)
    assert asked[:6].tolist() == first.ranking_[:6].tolist()
    rest = first.ranking_[6:]
    nearest = sorted(rest.tolist(), key=lambda i: abs(first.score_[i] - first.threshold_))[:4]
    assert set(asked[6:].tolist()) == set(nearest) and first.threshold_ == 0.5
    frame = first.to_frame()
    assert frame["score"].is_monotonic_decreasing and not set(first.samples()) & set(frame.index)


def test_its_direction_is_a_component(session, first):
    assert first.directions_.ids() == [f"{LAYER}/cav-retrieval/0"] and f"{LAYER}/cav-retrieval" in session.directions()


def test_judgements_move_the_border_and_never_come_back(first, truth):
    top, low = first.ranking_[:4], first.ranking_[60:64]
    found = first.judge(top, low)
    assert not set(found.ranking_) & {*top.tolist(), *low.tolist()} and len(found.samples()) == 14
    on, off = found.score_[found.samples()], found.score_[low]
    right = ((on > found.threshold_).mean() + (off < found.threshold_).mean()) / 2
    assert right == max(((on > c).mean() + (off < c).mean()) / 2 for c in np.linspace(-2, 3, 500))
    assert found.history().loc[1, ["confirmed", "rejected", "top", "top_confirmed"]].tolist() == [4, 4, 4, 4]
    again = found.judge(rejected=top[:1])
    assert top[0] in again.rejected_ and top[0] not in again.samples(), "a change of mind is the last word"


def test_a_second_fit_loads(session, first):
    other = session.fit(Retrieval(LAYER, seeds=first.seeds))
    np.testing.assert_array_equal(other.ranking_, first.ranking_)
    assert other.threshold_ == first.threshold_ and other.is_done_ == first.is_done_


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"seeds": []}, "No seeds"),
        ({"rounds": [([1], [1])]}, "both confirmed and rejected"),
        ({"rounds": [[1]]}, "A round is"),
        ({"rounds": [3]}, "A round is"),
        ({"by": "gradient"}, "by"),
        ({"estimator": "best"}, "estimator"),
        ({"precision": 2}, "precision"),
    ],
)
def test_what_is_refused(session, how, message):
    with pytest.raises(BadValueError, match=message):
        session.fit(Retrieval(LAYER, **{"seeds": [0, 6], **how}))


# Slow twins -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_tau_counts_pairs(seed):
    rng = np.random.default_rng(seed)
    score, t = rng.integers(0, 6, 30).astype(float), rng.random(30) < 0.4
    score[3] = np.nan
    concordant = discordant = same_score = same_label = 0
    rows = [i for i in range(30) if i != 3]
    for a in range(len(rows)):
        for b in range(a):
            x, y = score[rows[a]] - score[rows[b]], int(t[rows[a]]) - int(t[rows[b]])
            concordant, discordant = concordant + (x * y > 0), discordant + (x * y < 0)
            same_score, same_label = same_score + (x == 0), same_label + (y == 0)
    n = len(rows) * (len(rows) - 1) / 2
    slow = (concordant - discordant) / np.sqrt((n - same_score) * (n - same_label))
    assert kendall_tau(score, t) == pytest.approx(slow, abs=1e-12)


def test_tau_without_pairs():
    assert np.isnan(kendall_tau([1, 1, 1], [True, False, True])) and np.isnan(kendall_tau([1, 2], [True, True]))


@pytest.mark.parametrize("seed", range(4))
def test_the_border_is_the_best_of_all_cuts(seed):
    rng = np.random.default_rng(seed)
    on, off = rng.normal(1, 0.5, 9), rng.normal(0.2, 0.5, 7)
    found = border(on, off)
    best = max(((on > c).mean() + (off <= c).mean()) / 2 for c in np.linspace(-3, 4, 3001))
    assert ((on > found).mean() + (off <= found).mean()) / 2 == pytest.approx(best)
    assert border(on, []) == border([], off) == 0.5


def test_places_are_relative_to_the_class():
    score, class_ = np.array([0.0, 1, 2, 9, 10, 11, 14]), np.array([0, 0, 0, 1, 1, 1, 1])
    found = relative(score, class_, np.array([False, False, False, False, False, False, True]))
    # Class 1: median 10, positives at 14, length 4; class 0 has no positive, and takes this length from its median 1.
    np.testing.assert_allclose(found, [-0.25, 0, 0.25, -0.25, 0, 0.25, 1])
    assert relative(score, class_, class_ == 1)[3:].max() > relative(score, class_, class_ == 1)[:3].max()


def test_the_interval_of_a_rate():
    low, high = wilson(8, 10)
    assert (low, high) == pytest.approx((0.4902, 0.9433), abs=1e-4) and wilson(0, 0) == (0.0, 1.0)
