"""Reveal to Revise on the toy network: what is planted is found, corrected for, measured again, and found tomorrow."""

from __future__ import annotations

import numpy as np
import pytest

import workbench as wb
from workbench.core.errors import BadValueError
from workbench.methods import ArtifactMasks, PatternCAV, PClArC, RevealToRevise, RRClArC

N = 360


@pytest.fixture(scope="module")
def toy():
    return wb.data.ToyData(n=N, split="val", artifact_class=0, artifact_share=0.5)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("cycle")


@pytest.fixture
def session(toy, store):
    with wb.open_session("toy-cnn", data=toy, store=store) as session:
        yield session


def cycle(**options):
    given = {"layers": ["features.8", "features.10"], "revise": PClArC(None), "most_cost": 0.3}
    return RevealToRevise(**{**given, **options})


def test_a_rule_finds_the_artifact_corrects_and_measures(session, toy):
    state = {k: v.clone() for k, v in session.model.base.state_dict().items()}
    made = session.fit(cycle())
    assert len(made.rounds_) == 0 and made.corrected is session and len(made.edits()) == 0
    one = made.step()
    assert one.outcome == "kept" and np.mean(toy.has_artifact[list(one.samples)]) > 0.9
    assert one.report.models == (session.name, "round 1") and not set(one.report.samples) - set(made.held_out_)
    before, after = one.report.gap(0)[0], one.report.gap(1)[0]
    assert before > 0.4 and after < before / 2, "the gap falls"
    # The world knows the truth: the patch itself in every picture, which nobody told the method.
    attacked = wb.data.ToyData(n=N, split="val", artifact_class=None, artifact_share=1.0)
    held = made.held_out_.tolist()
    right = [
        float((s.model(attacked.batch(held)[0]).argmax(1).numpy() == toy.labels[held]).mean())
        for s in (session, made.corrected)
    ]
    assert right[1] > right[0] + 0.2
    assert "kept" in repr(one) and made.to_frame().loc[1, "attacked_after"] > made.to_frame().loc[1, "attacked_before"]
    two = made.step()
    assert two.outcome in ("nothing found", "taken back", "kept")
    assert all(np.array_equal(v, session.model.base.state_dict()[k]) for k, v in state.items())
    made.close()


def test_the_slow_way_gives_the_same(session):
    """A round by hand: the direction, masks, pieces, correction and comparison of the parts it is made of."""
    made = session.fit(cycle(seed=7))
    one = made.step()
    ids, held = np.array(one.samples), made.held_out_
    seen = np.setdiff1d(np.arange(N), held)
    sets = {"positives": np.intersect1d(seen, ids), "negatives": np.setdiff1d(seen, ids)}
    cav, masks_of = (
        session.fit(PatternCAV(layer, **sets, concept=one.artifact, resamples=0))
        for layer in ("features.10", one.layer)
    )
    donors = np.intersect1d(ids, held)
    assert len(donors) >= 5
    masks = session.fit(ArtifactMasks(masks_of, samples=donors[:24]))
    pieces = dict(zip(masks.index_.tolist(), masks.masks_, strict=True))
    attacked = wb.data.Pasted(session.data, pieces, name="a", seed=7)
    with session.corrected(session.fit(PClArC(cav))) as fixed:
        report = session.reevaluate(fixed, attacked=attacked, samples=np.setdiff1d(held, ids), artifact="a", cav=cav)
    for name in ("clean", "attacked", "relevance"):
        np.testing.assert_array_equal(getattr(report, name), getattr(one.report, name))
    assert one.area == pytest.approx(masks.masks_.mean())
    made.close()


def test_tomorrow_it_goes_on_where_it_was(toy, store, monkeypatch):
    with wb.open_session("toy-cnn", data=toy, store=store) as first:
        made = first.fit(cycle(seed=3))
        one = made.step()
        made.close()
    with wb.open_session("toy-cnn", data=toy, store=store) as second:
        again = second.fit(cycle(seed=3))
        monkeypatch.setattr(type(second.model), "__call__", lambda *_, **__: pytest.fail("the model ran"))
        told = again.rounds_
        assert len(told) == 1 and told[0].samples == one.samples and told[0].why == one.why
        np.testing.assert_array_equal(told[0].report.attacked, one.report.attacked)
        monkeypatch.undo()
        assert [e.describe() for e in again.edits()] == [e.describe() for e in made.edits()]
        assert again.undo().samples == one.samples and len(again.rounds_) == 0 and again.corrected is second
        third = second.fit(cycle(seed=3))
        assert len(third.rounds_) == 0, "what was taken back is not there tomorrow"
        found = third.step()
        assert not set(found.samples) & set(one.samples), "and is not proposed again"
        third.close()


def test_a_person_decides(session, toy):
    made = session.fit(cycle(decide="person", seed=4))
    first = made.step()
    assert first.outcome == "waiting" and "AuditPanel" in first.why and len(made.rounds_) == 0
    best = made.findings_[0]
    session.decide(best, "accepted", new="magenta patch")
    one = made.step()
    assert one.outcome == "kept" and one.artifact == "magenta patch" and set(one.samples) >= set(best.members)
    assert list(made.attacks_) == ["magenta patch"] and len(made.attacks_["magenta patch"]) == N
    second = made.step()
    assert second.outcome in ("waiting", "nothing found")
    for finding in made.findings_:
        session.decide(finding, "rejected")
    assert made.step().outcome == "nothing found" and len(made.rounds_) == 1
    panel = wb.widgets.AuditPanel(session, findings=made.findings_)
    assert panel.wait(20)
    panel.close()
    made.close()


def test_samples_may_be_named_and_each_correction_is_part_of_the_next(session, toy):
    patched = np.flatnonzero(toy.has_artifact)
    striped = np.flatnonzero(toy.concepts[:, list(toy.concept_names).index("red")] & (toy.labels == 2))
    attacks = {"patch": wb.data.ToyData(n=N, split="val", artifact_class=None, artifact_share=1.0)}
    made = session.fit(
        cycle(attacks=attacks, most_cost=1.0, at="features.8", revise=RRClArC(None, epochs=4, rate=0.01))
    )
    one = made.step(patched, name="patch")
    assert one.artifact == "patch" and np.isnan(one.area) and one.report.gap(1)[0] < one.report.gap(0)[0] / 2
    two = made.step(striped, name="red")
    assert two.report.models == (session.name, "round 1", "round 2") and list(two.report.others) == ["patch"]
    assert len(made.rounds_) == 2
    if two.outcome == "taken back":
        assert [e.describe() for e in made.edits()] == [e.describe() for e in made._steps[0].edits]
    with session.variant("all", made.edits()) as all_of_it:
        x = session.data.batch([0, 1, 2])[0]
        assert (all_of_it.model(x) == made.corrected.model(x)).all()
    made.close()


def test_a_function_may_decide_and_a_rule_takes_back(session):
    seen = []

    def choose(findings):
        seen.append(len(findings))
        return findings[0] if len(findings) else None

    made = session.fit(cycle(decide=choose, most_cost=0.0, least_effect=0.9, seed=5))
    one = made.step()
    assert seen and one.outcome in ("kept", "taken back")
    if one.outcome == "taken back":
        assert made.corrected is session and "costs more" in one.why or "did not shrink" in one.why
    with pytest.raises(BadValueError, match="returned str"):
        session.fit(cycle(decide=lambda findings: "this one", seed=5)).step()
    none = session.fit(cycle(decide=lambda findings: None, seed=6)).step()
    assert none.outcome == "nothing found" and none.report is None
    made.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"layers": []}, "at least one layer"),
        ({"decide": "maybe"}, "decide"),
        ({"revise": PatternCAV("features.8", positives=[1])}, "correction without a direction"),
        ({"cav": PClArC(None)}, "how directions are fitted"),
        ({"attacks": {"patch": wb.data.ToyData(n=3)}}, "the same 360 samples"),
        ({"held_out": 0.0}, "held_out"),
    ],
)
def test_what_makes_no_sense_is_refused(session, options, said):
    with pytest.raises(BadValueError, match=said):
        session.fit(cycle(**options))


def test_without_labels_nothing_can_be_judged(tmp_path):
    from workbench.session.session import Session
    from workbench.store import Store
    from workbench.testing.context import SmallData
    from workbench.testing.nets import BiasFree, handle_of, randomised

    data = SmallData(12)
    data._labels = np.full(12, -1)
    handle = handle_of(randomised(BiasFree()), (3, 10, 8), classes=list("abcdef"))
    with Session(handle, data, Store.open(tmp_path)) as s, pytest.raises(BadValueError, match="No sample has a label"):
        s.fit(RevealToRevise("features.4"))
    with pytest.raises(BadValueError, match="not fitted by a session"):
        RevealToRevise("features.4").step()
