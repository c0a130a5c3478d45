"""Steering in a session: it acts as the formulas say, on populations too, and leaves nothing behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.core.effects import Intervention
from workbench.core.errors import BadValueError, NotFiniteError, UnknownComponentError, UnknownLayerError

LAYER = "relu_b"


def top_component(session, sample):
    return session.explain(sample, record=[LAYER]).top(LAYER, 1).components[0]


def hooks(session):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in session.model.module.modules())


def test_the_effect_is_that_of_a_variant(small):
    mine = [Intervention(f"{LAYER}/unit/2", "suppress", 0.5), Intervention(f"{LAYER}/unit/1", "add", 1.0)]
    found = small.steer(mine, samples=24, target="logit:1")
    other = small.variant("steered", small.edits(mine))
    for i, sample in enumerate(found.samples.tolist()):
        x = small.data.tensor(sample).unsqueeze(0)
        before, after = small.model(x).cpu()[0], other.model(x).cpu()[0]
        assert found.before[i] == pytest.approx(float(before[1]), rel=1e-5, abs=1e-6)
        assert found.after[i] == pytest.approx(float(after[1]), rel=1e-5, abs=1e-6)
        assert found.decision_after[i] == int(after.argmax())
    assert found.is_complete and len(found.samples) == 24
    expected = np.mean([(other.model(x).cpu() - small.model(x).cpu())[0].numpy() for x in
                        (small.data.tensor(int(i)).unsqueeze(0) for i in found.samples)], 0)  # fmt: skip
    np.testing.assert_allclose(found.outputs, expected, atol=1e-5)


def test_one_sample_before_and_after(small):
    mine = [Intervention(f"{LAYER}/unit/2")]
    before, after = small.outputs_under(3, mine)
    x = small.data.tensor(3).unsqueeze(0)
    assert torch.equal(torch.from_numpy(before), small.model(x).cpu()[0])
    assert torch.equal(torch.from_numpy(after), small.variant("off", small.edits(mine)).model(x)[0])


def test_bypassing_restores_every_bit_and_no_hook_is_left(small):
    x, held = torch.stack([small.data.tensor(i) for i in range(4)]), hooks(small)
    before = small.model(x).cpu()
    for strength in np.linspace(0, 1, 20):
        small.outputs_under(3, [Intervention(f"{LAYER}/unit/2", "suppress", float(strength))])
    with pytest.raises(NotFiniteError, match="smaller strength"):
        small.steer(Intervention(f"{LAYER}/unit/2", "set", 3e38), samples=4, controls=0)
    assert torch.equal(small.model(x).cpu(), before) and hooks(small) == held
    same = small.outputs_under(3, [Intervention(f"{LAYER}/unit/2", "suppress", 0.0)])
    assert np.array_equal(*same)


def test_a_repeat_runs_nothing(small, counting):
    first = small.steer(Intervention("relu_a/unit/0"), samples=8, watch=LAYER)
    counter = counting(small)
    again = small.steer(Intervention("relu_a/unit/0"), samples=8, watch=LAYER)
    assert counter.calls == 0
    np.testing.assert_array_equal(first.after, again.after)
    assert first.recipe == again.recipe and first.moved.components == again.moved.components


def test_what_is_known_so_far_is_handed_out(open_small):
    session, seen = open_small(), []
    final = session.steer(Intervention(f"{LAYER}/unit/2"), see=seen.append)
    assert [len(one.samples) for one in seen] == [4, 16, 24]
    assert [one.is_complete for one in seen] == [False, False, True]
    np.testing.assert_array_equal(seen[-1].after, final.after)


def test_controls_are_drawn_by_the_seed(small):
    found = [small.steer(Intervention(f"{LAYER}/unit/2"), samples=6, controls=3, seed=seed).control for seed in (0, 1)]
    assert found[0].shape == (3, 6) and not np.array_equal(*found)
    assert small.steer(Intervention(f"{LAYER}/unit/2"), samples=6, controls=0).control.shape[0] == 0


def test_spill_over_is_looked_for_above(small):
    found = small.steer(Intervention("relu_a/unit/0"), samples=12, watch=LAYER)
    table = {}
    for name, edits in (("before", ()), ("after", small.edits([Intervention("relu_a/unit/0")]))):
        session = small.variant(name, list(edits)) if edits else small
        values = session.activations(LAYER).values.numpy()
        table[name] = values[found.samples]
    moved = (table["after"] - table["before"]).mean(0) / table["before"].std(0).clip(1e-12)
    for address, value in zip(found.moved.components, found.moved.scores, strict=True):
        assert value == pytest.approx(moved[int(address.split("/")[-1])], rel=1e-3, abs=1e-5)
    with pytest.raises(BadValueError, match="does not lie above"):
        small.steer(Intervention(f"{LAYER}/unit/0"), watch="relu_a")


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        ("relu_b/unit/2", BadValueError),
        ([], BadValueError),
        (["relu_b/unit/2"], BadValueError),
        (Intervention("relu_b/unit/99"), UnknownComponentError),
        (Intervention("relu_x/unit/9"), UnknownLayerError),
    ],
)
def test_what_cannot_be_steered(small, given, kind):
    with pytest.raises(kind):
        small.steer(given)


def test_suppression_does_what_first_order_relevance_predicts_on_a_linear_head(open_small):
    """Above the last hidden layer the output is linear in it: gradient times activation is the exact drop."""
    session = open_small()
    last = [name for name in session.model.layers.linear()][-1]
    hidden = max((one for one in session.model.layers.values() if one.order < session.model.layers[last].order
                  and one.n_calls == 1 and len(one.shape) >= 1), key=lambda one: one.order).name  # fmt: skip
    for sample in (0, 7, 11):
        found = session.explain(sample, rule="input_x_gradient", record=[hidden])
        ranking = found.top(hidden, 1)
        share = float(ranking.scores[0])
        effect = session.steer(Intervention(ranking.components[0]), samples=[sample], controls=0)
        assert float(effect.change[0]) == pytest.approx(-share, rel=0.05, abs=1e-5)


# One sample ---------------------------------------------------------------------------------------------------------


def test_leading_outputs_before_and_after(small):
    mine = [Intervention(f"{LAYER}/unit/2")]
    before, after = small.outputs_under(3, mine)
    rows = small.predict_under(3, mine, n=1, also=[0])
    wanted = {int(before.argmax()), int(after.argmax()), 0}
    assert {one.index for one in rows} == wanted and [r.before for r in rows] == sorted(before[list(wanted)])[::-1]
    for one in rows:
        assert (one.before, one.after) == (before[one.index], after[one.index])
        assert one.probability_after == pytest.approx(float(torch.from_numpy(after).softmax(0)[one.index]), rel=1e-5)
    same = small.predict_under(3, [], n=2)
    assert [(one.index, one.before) for one in same] == [(i, logit) for i, _, logit, _ in small.predict(3, 2)]
    assert all(one.change == 0 for one in same)
    with pytest.raises(BadValueError, match="No output 99"):
        small.predict_under(3, mine, also=[99])


def test_a_map_under_interventions_is_that_of_a_variant_and_is_kept(small, counting):
    mine = [Intervention(f"{LAYER}/unit/2"), Intervention("relu_a/unit/1", "boost", 0.5)]
    base, held = small.explain(3), hooks(small)
    found = small.explain_under(3, mine)
    other = small.variant("off", small.edits(mine)).explain(3, target=f"logit:{int(base.target[0])}")
    assert torch.equal(found.heatmap, other.heatmap) and torch.equal(found.score, other.score)
    assert int(found.target[0]) == int(base.target[0]) and found.recipe not in ("", base.recipe)
    assert hooks(small) == held and torch.equal(small.explain(3).heatmap, base.heatmap)
    counter = counting(small)
    again = small.explain_under(3, mine)
    assert counter.calls == 0 and torch.equal(again.heatmap, found.heatmap)
    assert small.explain_under(3, []).recipe == base.recipe
    assert small.explain_under(3, [Intervention(f"{LAYER}/unit/2", "suppress", 0.0)]).recipe == base.recipe


def test_each_component_is_left_out_alone(small):
    found = small.leave_one_out(3, LAYER, n=3)
    base = small.explain(3, record=[LAYER])
    assert found.components == tuple(base.top(LAYER, 3).components) and found.score == float(base.score[0])
    index = int(base.target[0])
    for address, change in zip(found.components, found.change.tolist(), strict=True):
        before, after = small.outputs_under(3, [Intervention(address)])
        assert change == pytest.approx(float(after[index] - before[index]), abs=1e-6)
    assert list(found.to_frame().columns) == ["relevance", "change"] and "leave one out of 3" in repr(found)


def test_the_range_of_activations(small):
    low, high = small.activation_range([f"{LAYER}/unit/1", f"{LAYER}/unit/2"])
    _, rows = small.pooled(LAYER)
    assert (low, high) == pytest.approx(tuple(np.quantile(rows[:, [1, 2]], [0.01, 0.99])), abs=1e-5)
    with pytest.raises(UnknownComponentError):
        small.activation_range(f"{LAYER}/unit/99")


def test_samples_that_got_worse_come_worst_first(small):
    found = small.steer(Intervention(f"{LAYER}/unit/2"), samples=24, controls=0)
    other = small.variant("off", small.edits(Intervention(f"{LAYER}/unit/2")))
    margins = []
    for model in (small.model, other.model):
        outputs = torch.cat([model(small.data.tensor(int(i)).unsqueeze(0)) for i in found.samples])
        right = torch.as_tensor(found.labels)
        rest = outputs.clone()
        rest[torch.arange(24), right] = -torch.inf
        margins.append((outputs[torch.arange(24), right] - rest.amax(1)).numpy())
    np.testing.assert_allclose(found.margin_before, margins[0], atol=1e-5)
    np.testing.assert_allclose(found.margin_after, margins[1], atol=1e-5)
    worse = found.worse(50)
    lost = (margins[0] > 0) & (margins[1] <= 0)
    assert worse["is_lost"].sum() == lost.sum() and (np.diff(worse["is_lost"].astype(int)) <= 0).all()
    assert len(worse) == ((margins[1] < margins[0]) | lost).sum()
    assert (np.diff(worse["margin"][~worse["is_lost"]]) >= 0).all()
    assert list(found.worse(2).index) == list(worse.index[:2])


def test_a_population_is_left_between_its_controls(open_small):
    session = open_small()
    job = session.submit(session.steer, Intervention("relu_a/unit/0"), see=lambda effect: job.cancel())
    job.wait(30)
    assert job.state == "cancelled" and hooks(session) == 0
