"""Findings on the toy data hold what was planted, and decisions on them become tags, labels and files."""

from __future__ import annotations

import numpy as np
import pytest

import workbench as wb
from workbench.core.errors import BadValueError, IncompleteError, ReadOnlyStoreError, UnknownNameError
from workbench.core.findings import KINDS
from workbench.methods import PatternCAV

LAYER = "features.8"


class Flawed(wb.data.ToyData):
    """Toy data with an artifact on half of a class, wrong labels, and two pictures that occur twice."""

    wrong = {40: 1, 100: 3, 200: 5}  # of the classes 4, 4 and 2
    twice = {77: 11, 150: 30}

    def __init__(self):
        super().__init__(n=360, split="val", artifact_class=0, artifact_share=0.5)
        self.true = self.labels
        self._labels = self.labels.copy()
        for i, label in self.wrong.items():
            self._labels[i] = label

    def scene(self, i):
        if i in self.twice:
            picture, masks = super().scene(self.twice[i])
            noise = np.random.default_rng(i).normal(0, 3, picture.shape)
            return np.clip(picture + noise, 0, 255).astype(np.uint8), masks
        given, self._labels = self._labels, self.true  # what is drawn is what it truly is
        try:
            return super().scene(i)
        finally:
            self._labels = given


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("audit")


@pytest.fixture(scope="module")
def session(folder):
    with wb.open_session("toy-cnn", data=Flawed(), store=folder) as session:
        yield session


@pytest.fixture(scope="module")
def found(session):
    return session.findings(LAYER)


def test_before_anything_is_stored_it_says_what_to_do(tmp_path):
    toy = wb.data.ToyData(n=24, split="val")
    with (
        wb.open_session("toy-cnn", data=toy, store=tmp_path) as s,
        pytest.raises(IncompleteError, match="No layer") as e,
    ):
        s.findings()
    assert "s.findings(layer)" in e.value.hint


def test_each_finding_has_its_reason_and_both_sides(found):
    assert found.layer == LAYER and not found.left_out
    for one in found:
        assert one.reason.endswith(".") and one.evidence and one.counter and one.method and one.recipe, one
        assert (one.members == ()) == isinstance(one.subject, str) and one.kind in KINDS
    kinds = [one.kind for one in found]
    assert kinds == sorted(kinds, key=list(KINDS).index) and len({one.id for one in found}) == len(found)


def test_the_planted_artifact_is_a_group(session, found):
    has = session.data.has_artifact
    shares = [np.mean(has[list(one.members)]) for one in found.of("group") if "striped disc" in one.method]
    assert max(shares) >= 0.9, shares


def test_wrong_labels_are_found_with_the_right_one(session, found):
    planted = {i: session.data.classes[session.data.true[i]] for i in Flawed.wrong}
    seen = {one.subject: one.proposal for one in found.of("label")}
    assert planted.items() <= seen.items(), seen
    assert set(list(seen)[:3]) == set(planted), "and they come first"


def test_copies_of_pictures_are_found(found):
    pairs = {(one.subject, int(one.method.rpartition(" ")[2])) for one in found.of("duplicate")}
    assert pairs == {(77, 11), (150, 30)}


def test_samples_near_a_direction_are_the_planted_ones(session):
    has = np.flatnonzero(session.data.has_artifact)
    session.fit(PatternCAV(LAYER, positives=has[:10], concept="patch"))
    near = session.findings(LAYER, kinds=["direction"])
    subjects = [one.subject for one in near]
    assert len(subjects) >= 12 and np.mean(np.isin(subjects, has)) == 1.0 and not set(subjects) & set(has[:10])
    first = near[0]
    session.decide(first, "accepted")
    assert session.data.tag("patch") == (first.subject,)
    assert first.subject not in [one.subject for one in session.findings(LAYER, kinds=["direction"])]
    session.undo_decision()
    assert "patch" not in session.data.tags()


def test_the_default_layer_is_a_stored_one_and_nothing_is_swept(session, found):
    again = session.findings(kinds=["silent", "outlier"], n=3)
    assert again.layer == LAYER and max(again.counts().values()) <= 3


def test_accepted_samples_become_a_tag_and_undo_takes_it_back(session, found):
    one = found.of("group")[0]
    session.data.tag("odd", one.members[:1])
    made = session.decide(one, "accepted", new="odd", who="Ada")
    assert set(session.data.tag("odd")) == set(one.members) and made.tagged == one.members[1:]
    session.decide(one, "rejected", who="Bo")
    assert session.decisions.agreement().disagreed == (one.id,)
    assert session.undo_decision("Ada").id == made.id and session.data.tag("odd") == one.members[:1]
    session.undo_decision("Bo")
    session.data.untag("odd")
    assert session.undo_decision("Ada") is None


def test_a_tag_that_two_decisions_gave_stays_with_one(session, found):
    one, other = [f for f in found.of("group")][:2]
    session.decide(one, "accepted", new="both", who="a")
    session.decide(other, "accepted", new="both", who="b")
    session.undo_decision("a")
    assert set(session.data.tag("both")) == set(other.members)
    session.undo_decision("b")
    assert "both" not in session.data.tags()


def test_labels_are_corrected_and_components_named(session, found):
    one = found.of("label")[0]
    session.decide(one, "accepted")
    assert session.decisions.labels() == {one.subject: one.proposal} and session.data.tag("wrong label") == (
        one.subject,
    )
    with pytest.raises(UnknownNameError, match="No class"):
        session.decide(one, "accepted", new="strip disc")
    unclear = found.of("unclear")[0]
    session.decide(unclear, "accepted")
    assert session.notes.labels() == {}, "nothing is written unless it was said"
    session.decide(unclear, "accepted", new="many things")
    assert session.notes.labels() == {unclear.subject: "many things"}
    session.undo_decision()
    assert session.notes.labels() == {}
    for _ in range(2):
        session.undo_decision()
    assert session.decisions.all() == () and session.data.tags() == {}


def test_decisions_outlive_the_session(session, folder, found):
    session.decide(found[0], "unsure", who="Ada", note="look again")
    with wb.open_session("toy-cnn", data=Flawed(), store=folder) as tomorrow:
        (kept,) = tomorrow.decisions.all()
        assert kept.note == "look again" and kept.finding in [one.id for one in tomorrow.findings()]
        tomorrow.undo_decision("Ada")
    assert session.decisions.all() == ()


def test_where_nothing_can_be_kept_nothing_is_changed(session, found, monkeypatch):
    def add(*args, **kwargs):
        raise ReadOnlyStoreError("read only")

    monkeypatch.setattr(session.decisions, "add", add)
    with pytest.raises(ReadOnlyStoreError):
        session.decide(found.of("group")[0], "accepted", new="odd")
    with pytest.raises(ReadOnlyStoreError):
        session.decide(found.of("unclear")[0], "accepted", new="odd")
    assert session.data.tags() == {} and session.notes.labels() == {}


@pytest.mark.parametrize("how", [{"kinds": ["nothing"]}, {"n": 0}])
def test_what_is_refused(session, how):
    with pytest.raises(BadValueError):
        session.findings(LAYER, **how)
