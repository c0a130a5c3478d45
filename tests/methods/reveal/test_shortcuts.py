"""The piece that a network decides by is found among groups of decisions; a piece of the object itself does less."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import UnknownNameError
from workbench.methods import Shortcuts
from workbench.methods.reveal.shortcuts import Shortcut, joined, taken

N = 360


@pytest.fixture(scope="module")
def toy():
    return wb.data.ToyData(n=N, split="val", artifact_class=0, artifact_share=0.5)


@pytest.fixture(scope="module")
def session(toy, tmp_path_factory):
    with wb.open_session("toy-cnn", data=toy, store=tmp_path_factory.mktemp("shortcuts")) as session:
        yield session


@pytest.fixture(scope="module")
def found(session):
    return session.fit(Shortcuts("features.8"))


def test_the_planted_artifact_has_the_largest_effect(found, toy):
    best = found.shortcuts_[0]
    assert best.class_ == 0 and np.mean(toy.has_artifact[list(best.members)]) > 0.9
    assert best.taken > 0.5 and best.control < 0.1 and best.area < 0.1
    assert best.effect > 0.3 + max(one.effect for one in found.shortcuts_ if one.class_ != 0)
    frame = found.to_frame()
    assert frame.iloc[0]["class"] == 0 and (np.diff(frame["effect"]) <= 0).all()
    assert "share a piece" in found.findings_[0].reason and found.findings_[0].members == best.members


def test_they_are_findings_that_can_be_decided(found, session):
    made = session.decide(found.findings_[0], "accepted", new="patch", who="Ada")
    assert made.tag == "patch" and set(session.data.tag("patch")) == set(found.shortcuts_[0].members)
    session.undo_decision("Ada")


def test_a_second_fit_loads_equal_findings(session, found):
    again = session.fit(Shortcuts("features.8"))
    assert again.shortcuts_ == found.shortcuts_
    assert [one.id for one in again.findings_] == [one.id for one in found.findings_]
    assert session.fit(Shortcuts("features.8", note=", round 2")).findings_[0].id != found.findings_[0].id


def test_no_direction_of_a_test_stays_behind(session, found):
    assert not session.directions()


def test_what_is_taken_is_counted(session, toy):
    ids = np.arange(0, 60, 7)
    x = torch.stack([session.data.tensor(int(i)) for i in ids])
    said = session.model(x).argmax(1).numpy()
    for k in range(6):
        assert taken(session, session.data, ids, k) == pytest.approx((said == k).mean())


def test_groups_with_the_same_artifact_are_joined():
    def one(class_, group, members, effect):
        return Shortcut(class_, group, members, (), effect, 0.0, 0.1, 50)

    found = [one(3, 1, (1, 2), 0.9), one(3, 0, (5, 6, 7), 0.5), one(0, 0, (9,), 0.8), one(3, 2, (8,), 0.2)]
    assert joined(found, found[0]).members == (1, 2, 5, 6, 7)
    assert joined(found, found[2]).members == (9,)


def test_what_cannot_be_looked_at_is_said(session):
    with pytest.raises(UnknownNameError, match="No class"):
        session.fit(Shortcuts("features.8", classes=["striped cow"]))
