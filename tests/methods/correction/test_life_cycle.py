"""Reveal to Revise on the toy network: what is planted is found, corrected for, measured again, and found tomorrow."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

import workbench as wb
from workbench.core.errors import BadValueError
from workbench.methods import ArtifactMasks, PatternCAV, PClArC, RevealToRevise, RRClArC
from workbench.models.bird_training import bird_card, bird_net

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
    assert two.outcome == "nothing found" and two.report is None and len(made.rounds_) == 1
    assert two.why.startswith("Of the decisions for features.8, features.10, the largest effect of a piece is ")
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
    undo_all(session)  # the others share the store
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


def test_a_function_may_decide(session):
    seen = []

    def choose(findings):
        seen.append(len(findings))
        return findings[0] if len(findings) else None

    made = session.fit(cycle(decide=choose, least_effect=0.99, seed=5))
    one = made.step()
    assert seen and one.outcome == "kept" and made.findings_[0].score < 0.99, "the least effect is the rule's"
    with pytest.raises(BadValueError, match="returned str"):
        session.fit(cycle(decide=lambda findings: "this one", seed=5)).step()
    none = session.fit(cycle(decide=lambda findings: None, seed=6)).step()
    assert none.outcome == "nothing found" and none.report is None
    made.close()


def test_the_rule_asks_for_an_effect(session):
    made = session.fit(cycle(least_effect=0.95, seed=6))
    one = made.step()
    best = made.findings_[0].score
    assert one.outcome == "nothing found" and one.report is None and 0.5 < best < 0.95
    assert one.why == f"Of the decisions for features.8, features.10, the largest effect of a piece is {best:.0%}."
    assert made.corrected is session and len(made.rounds_) == len(made.edits()) == 0
    made.close()


def undo_all(session):
    while standing := session.decisions.all():  # behind a verdict may be an earlier one
        session.undo_decision(decision=standing[0].id)


def logits(session, n=24):
    return session.model(session.data.batch(range(n))[0])


def test_a_correction_that_buys_nothing_is_taken_back(session):
    """The attack leaves the pictures as they are: no gap, which cannot shrink."""
    same = wb.data.ToyData(n=N, split="val", artifact_class=0, artifact_share=0.5)
    made, before = session.fit(cycle(attacks={"nothing": same}, seed=8)), logits(session)
    one = made.step(np.flatnonzero(same.has_artifact), name="nothing")
    assert one.outcome == "taken back" and one.why.endswith("The gap did not shrink.")
    assert one.report.gap(0)[0] == one.report.gap(1)[0] == 0
    assert (logits(one.report.ctx_()) == before).all() and made.corrected is session
    assert len(made.edits()) == 0 and len(made.rounds_) == 1 and not made.rounds_.kept
    made.close()


def test_a_correction_that_costs_too_much_is_taken_back_and_the_one_before_stays(session):
    """The second piece is no artifact: to be rid of it costs 31 points, of which 10 are allowed."""
    made = session.fit(cycle(least_effect=0.3, most_cost=0.1, seed=3))
    one = made.step()
    first, edits = logits(made.corrected), [e.describe() for e in made.edits()]
    assert one.outcome == "kept" and len(edits) and not (first == logits(session)).all()
    two = made.step()
    assert two.outcome == "taken back" and two.why.endswith("That costs more than 10 points.")
    report = two.report
    assert report.gap(2)[0] < report.gap(1)[0], "the gap did shrink"
    assert report.accuracy(1)[0] - report.accuracy(2)[0] > 0.15
    assert (logits(made.corrected) == first).all() and [e.describe() for e in made.edits()] == edits
    assert [r.outcome for r in made.rounds_] == ["kept", "taken back"] and made.rounds_.kept[0] is made.rounds_[0]
    made.close()


def test_the_rule_leaves_what_a_reviewer_rejected(toy, store, tmp_path):
    """The largest finding is skipped for the next; with all that are large enough rejected, their number is told."""
    with wb.open_session("toy-cnn", data=toy, store=tmp_path) as session:
        made = session.fit(cycle(decide=lambda findings: None, least_effect=0.5))
        made.step()
        large = [one for one in made.findings_ if one.score >= 0.5]
        assert len(large) == 2 and len(made.findings_) > 3
        session.decide(large[0], "rejected")
        rule = session.fit(cycle())
        one = rule.step()
        assert one.artifact and one.reason == large[1].reason and set(one.samples) >= set(large[1].members)
        rule.close()
        session.decide(large[1], "rejected", who="another reviewer")
        none = session.fit(cycle(seed=1)).step()
        third = made.findings_[2].score
        assert none.outcome == "nothing found"
        assert f"2 findings were rejected, and the largest other effect of a piece is {third:.0%}." in none.why
        for one in made.findings_:
            session.decide(one, "rejected")
        none = session.fit(cycle(seed=2)).step()
        assert f"{len(made.findings_)} findings were rejected, and no other group has a piece." in none.why
        undo_all(session)
        assert session.fit(cycle(seed=3)).step().reason == large[0].reason, "undone, it is taken again"


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


# Two artifacts in one network -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def birds(tmp_path_factory):
    """A network with two shortcuts, that of the notebook, and test scenes of its world that no method ever sees.

    It says the class of 81 % of clean scenes, of 30 % with a date and of 17 % with a patch.
    """
    world = wb.data.PartWorld(2000, n_classes=6, artifacts={"timestamp": {0: 0.6}, "patch": {3: 0.6}})
    net, card = bird_net("vgg", world), bird_card("vgg", world)
    clean = world.varied(n=240, split="test", artifacts=None)
    scenes = {"clean": clean, **{name: clean.attacked(name) for name in world.artifact_names}}

    def truth(session):
        """Accuracy on clean scenes, and how much of it each artifact costs."""
        right = {}
        for name, data in scenes.items():
            said = [session.model(data.batch(range(i, i + 60))[0]).argmax(1).numpy() for i in range(0, 240, 60)]
            right[name] = float((np.concatenate(said) == clean.labels).mean())
        return right["clean"], {name: right["clean"] - right[name] for name in world.artifact_names}

    def open_birds():
        return wb.open_session(lambda: (net, card), data=world, store=store)

    store = tmp_path_factory.mktemp("birds")
    return SimpleNamespace(world=world, truth=truth, open=open_birds)


def two_rounds(**options):
    return RevealToRevise("features.15", **{"most_cost": 0.1, **options})


def check_both_fell(birds, session, made):
    """What the report says, and what is known of the world: the date from 51 points to 16, the patch from 65 to 10."""
    one, two = made.rounds_
    assert [one.outcome, two.outcome] == ["kept", "kept"] and len(made.rounds_.kept) == 2
    shown = [birds.world.planted[list(r.samples)].mean(0) for r in (one, two)]
    assert {int(found.argmax()) for found in shown} == {0, 1} and min(found.max() for found in shown) > 0.5
    assert one.report.gap(1)[0] < one.report.gap(0)[0] / 2
    # The second round measures the first artifact again, in all three models: it has not come back.
    assert two.report.models == (session.name, "round 1", "round 2") and list(two.report.others) == [one.artifact]
    before, first, second = (two.report.gap(i, one.artifact)[0] for i in range(3))
    assert first < before / 2 and second < before / 2
    assert two.report.gap(2)[0] < two.report.gap(1)[0]
    (clean, gaps), (fixed, left) = birds.truth(session), birds.truth(made.corrected)
    assert min(gaps.values()) > 0.4, "the network has both shortcuts"
    for name in gaps:
        assert left[name] < gaps[name] / 2, f"{name}: {gaps[name]:.2f} to {left[name]:.2f}"
    assert fixed > clean - 0.05


def test_two_artifacts_fall_one_after_the_other_by_the_rule(birds):
    with birds.open() as session:
        made = session.fit(two_rounds())
        made.step()
        (clean, gaps), (fixed, left) = birds.truth(session), birds.truth(made.corrected)
        assert gaps["patch"] > 0.4 and left["patch"] < 0.05 and fixed > clean - 0.03, "hardly a price: 2 of 100"
        made.step()
        check_both_fell(birds, session, made)
        made.close()


def test_two_artifacts_fall_with_a_person_deciding_in_between(birds):
    with birds.open() as session:
        made = session.fit(two_rounds(decide="person"))
        for number in (1, 2):
            assert made.step().outcome == "waiting" and len(made.rounds_) == number - 1
            session.decide(made.findings_[0], "accepted", new=f"artifact {number}")
            assert made.step().artifact == f"artifact {number}"
        check_both_fell(birds, session, made)
        assert {"artifact 1", "artifact 2"} <= set(session.data.tags())
        made.close()


def test_a_projection_that_ruins_the_network_is_taken_back(birds):
    """Without what the layer has along the patch, the network says one class in three rightly, where it was 94 %."""
    with birds.open() as session:
        state = {k: v.clone() for k, v in session.model.base.state_dict().items()}
        made, before = session.fit(two_rounds(revise=PClArC(None))), logits(session)
        one = made.step()
        assert one.outcome == "taken back" and one.why.endswith("That costs more than 10 points.")
        assert one.report.accuracy(0)[0] - one.report.accuracy(1)[0] > 0.3
        assert made.corrected is session and len(made.edits()) == 0 and (logits(session) == before).all()
        assert all((v == session.model.base.state_dict()[k]).all() for k, v in state.items())
        made.close()
