"""Steering in a session: it acts as the formulas say, on populations too, and leaves nothing behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from workbench.core.effects import Intervention
from workbench.core.errors import BadValueError, NotFiniteError, UnknownComponentError, UnknownLayerError
from workbench.data.torch_data import TorchData
from workbench.testing.small import SMALL, Listed, small_net

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


# Models that take no decision, or by the sign of one output ----------------------------------------------------------


class Pairs(Listed):
    """The small pictures in two classes, or with the numbers given."""

    def __init__(self, labels=None):
        super().__init__()
        self.targets = [i % 2 for i in range(24)] if labels is None else list(labels)


def one_output(open_small, labels=None, classes=("is there",), names=("no", "yes")):
    net = small_net(n_classes=1)
    with torch.no_grad():  # about as many above zero as below
        net.head.weight.mul_(50)
        rows = torch.cat([net(TorchData(Pairs(), classes=names, name="p", transform=SMALL).tensor(i)[None]) for i in
                          range(24)])  # fmt: skip
        net.head.bias.sub_(rows.sort(0).values[11:13].mean())
    data = TorchData(Pairs(labels), classes=names, name="pairs")
    return open_small(net, data, classes=classes)


def outputs_of(session, edits=()):
    other = session.variant("other", list(edits)) if edits else session
    return torch.cat([other.model(session.data.tensor(i)[None]).cpu() for i in range(len(session.data))])


def test_a_classifier_with_one_output_decides_by_its_sign(open_small):
    session, mine = one_output(open_small), [Intervention(f"{LAYER}/unit/2"), Intervention(f"{LAYER}/unit/4")]
    found = session.steer(mine, samples=24)
    before, after = (outputs_of(session, edits)[:, 0].numpy() for edits in ((), session.edits(mine)))
    flips, labels = (before > 0) != (after > 0), np.arange(24) % 2
    assert 3 < flips.sum() < 21 and found.changed_share == flips.mean() and f"{100 * flips.mean():.1f} %" in str(found)
    assert found.decision_before.tolist() == (before > 0).astype(int).tolist()
    frame = found.accuracy()
    assert list(frame.index) == ["no", "yes", "all"]
    assert frame.loc["all", ["before", "after"]].tolist() == pytest.approx(
        [((one > 0) == labels).mean() for one in (before, after)]
    )
    lost = ((before > 0) == labels) & ((after > 0) != labels)
    worse = found.worse(24)
    assert set(worse.index[worse["is_lost"]]) == set(np.flatnonzero(lost))
    sign = 2 * labels - 1
    np.testing.assert_allclose(found.margin_after, sign * after, rtol=1e-4, atol=1e-5)
    row = worse.iloc[0]
    assert {row["before"], row["after"]} == {"no", "yes"}
    compared = session.differences(session.variant("steered", session.edits(mine)), samples=24)
    assert compared.decision_before.tolist() == found.decision_before.tolist()
    assert compared.decision_after.tolist() == found.decision_after.tolist()
    assert compared.accuracy() == pytest.approx(tuple(frame.loc["all", ["before", "after"]]))


@pytest.mark.parametrize("labels", [[i % 4 for i in range(24)], [-1] * 24])
def test_a_regression_takes_no_decisions(open_small, labels):
    """Also where nothing is known: that an output is a class is not taken for granted."""
    session = one_output(open_small, labels, classes=("score",), names=())
    found = session.steer(Intervention(f"{LAYER}/unit/2"), samples=24)
    assert not found.has_decisions and set(found.decision_before) == set(found.decision_after) == {-1}
    assert len(found.accuracy()) == 0 and len(found.worse()) == 0 and np.isnan(found.changed_share)
    assert "no decisions" in found.summary() and set(found.labels) == {-1}
    change = (outputs_of(session, session.edits(Intervention(f"{LAYER}/unit/2"))) - outputs_of(session))[:, 0]
    np.testing.assert_allclose(found.change, change.numpy(), rtol=1e-4, atol=1e-5)


# Labels of the data's own numbers -------------------------------------------------------------------------------------


@pytest.fixture
def lettered(open_small):
    """Outputs a to f under data whose classes are e, b and a; or of other names."""

    def make(names=("e", "b", "a"), outputs=tuple("abcdef")):
        data = TorchData(Pairs([i % 3 for i in range(24)]), classes=names, name="letters")
        return open_small(small_net(n_classes=6), data, classes=outputs)

    return make


def test_labels_are_compared_with_the_outputs_that_they_name(lettered):
    session = lettered()
    found = session.steer(Intervention(f"{LAYER}/unit/2"), samples=24, target="label", controls=2)
    right = np.array([[4, 1, 0][i % 3] for i in range(24)])
    assert found.labels.tolist() == right.tolist() == session.label_outputs().tolist()
    before, after = (outputs_of(session, e).numpy() for e in ((), session.edits(Intervention(f"{LAYER}/unit/2"))))
    rows = np.arange(24)
    np.testing.assert_allclose(found.before, before[rows, right], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found.after, after[rows, right], rtol=1e-5, atol=1e-6)
    frame = found.accuracy()
    assert sorted(frame.index[:-1]) == ["a", "b", "e"]
    for name, index in (("e", 4), ("b", 1), ("a", 0)):
        assert frame.loc[name, "before"] == (before[right == index].argmax(1) == index).mean()
    for name, one in (("before", before), ("after", after)):
        rest = one.copy()
        rest[rows, right] = -np.inf
        np.testing.assert_allclose(getattr(found, f"margin_{name}"), one[rows, right] - rest.max(1), atol=1e-5)
    base = session.leave_one_out(2, LAYER, n=1, target="label")
    assert base.name == "a" and base.score == pytest.approx(before[2, 0], abs=1e-6)


def test_samples_whose_label_names_no_output_are_left_out_of_what_follows_labels(lettered):
    session = lettered(("e", "zzz", "a"))
    found = session.steer(Intervention(f"{LAYER}/unit/2"), samples=24, target="label", controls=0)
    assert found.samples.tolist() == [i for i in range(24) if i % 3 != 1] and found.is_complete
    assert found.n_left_out == 8 and "8 left out, whose label names no output" in found.summary()
    top = session.steer(Intervention(f"{LAYER}/unit/2"), samples=24, controls=0)
    assert len(top.samples) == 24 and top.labels[1] == -1 and top.accuracy().loc["all", "samples"] == 16
    with pytest.raises(BadValueError, match="None of the labels of 2 samples names an output"):
        session.steer(Intervention(f"{LAYER}/unit/2"), samples=[1, 4], target="label")


def test_other_names_of_the_outputs_are_another_result(lettered):
    first = lettered().steer(Intervention(f"{LAYER}/unit/2"), samples=24, target="label", controls=0)
    second = lettered(outputs=tuple("fedcba")).steer(
        Intervention(f"{LAYER}/unit/2"), samples=24, target="label", controls=0
    )
    assert first.recipe != second.recipe and not np.array_equal(first.before, second.before)


# What is known of linear heads ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["input_x_gradient", "EpsilonPlusFlat"])
def test_suppressing_all_active_units_before_a_linear_head_takes_away_the_sum_of_their_relevances(open_small, rule):
    """By LRP where the head has no bias, whose share of the score would else lie on the units as well."""
    net = small_net()
    if rule == "EpsilonPlusFlat":
        torch.nn.init.zeros_(net.head.bias)
    small = open_small(net)
    for sample in (0, 3, 7):
        shown = small.explain(sample, rule=rule, record=["pool"])
        index, relevance = int(shown.target[0]), np.asarray(shown.relevance["pool"][0], np.float64)
        active = np.flatnonzero(np.asarray(shown.activation["pool"][0]) > 0)
        assert 1 < len(active)
        one = Intervention([f"pool/unit/{i}" for i in active])
        found = small.steer(one, samples=[sample], target=f"logit:{index}", controls=0)
        assert found.change[0] == pytest.approx(-relevance[active].sum(), rel=1e-4, abs=1e-5)


def test_the_effect_on_a_linear_head_is_linear_in_the_strength(small):
    strengths = np.linspace(0, 1, 6)
    found = np.array([
        small.steer(Intervention("pool/unit/2", "suppress", float(s)), samples=12, target="logit:1", controls=0).change
        for s in strengths
    ])  # fmt: skip
    assert np.abs(found[-1]).max() > 1e-3
    np.testing.assert_allclose(found, strengths[:, None] * found[-1], atol=1e-6)
    steps = np.diff(found, axis=0)
    assert ((steps >= -1e-7).all(0) | (steps <= 1e-7).all(0)).all(), "monotone for each sample"


def test_controls_of_a_null_effect_are_centred_at_zero(small):
    """A step that no output sees: the controls, as long in random directions, move it to both sides alike."""
    weight = small.model.module.head.weight.detach().double().numpy()
    vector = np.linalg.svd(weight)[2][-1]
    assert np.abs(weight @ vector).max() < 1e-6
    small.model.layers.add_directions("pool", "cav-null", vector[None])
    found = small.steer(Intervention("pool/cav-null/0", "add", 1.0), samples=12, target="logit:1", controls=100)
    np.testing.assert_allclose(found.change, 0, atol=1e-6)
    means = found.control.mean(1)
    assert means.std() > 0.05 and abs(means.mean()) < 3 * means.std() / 10
    assert not found.is_beyond_control and found.empty_share == 0
    assert np.abs(weight[1]).max() * 2 > means.max() > 0 > means.min()


def test_controls_are_of_equal_size_and_the_same_in_every_batch(small):
    """Each control's change, seen as a change of the score by a head that is linear in it."""
    mine = Intervention(f"{LAYER}/unit/2")
    whole = small.steer(mine, samples=24, controls=4)
    assert whole.control.shape == (4, 24) and whole.empty_share == 0
    some = small.steer(mine, samples=[3, 17], controls=4)
    np.testing.assert_allclose(some.control, whole.control[:, [3, 17]], atol=1e-6)
    assert (np.abs(whole.control[:, np.abs(whole.change) > 1e-6]) > 0).all()


def test_where_no_other_unit_is_active_there_is_no_control(open_small):
    session = open_small()
    with torch.no_grad():
        session.model.module.b.bias.copy_(torch.full((7,), -1e6))
        session.model.module.b.bias[2] = 1.0
    found = session.steer(Intervention(f"{LAYER}/unit/2"), samples=6, controls=3)
    assert np.isnan(found.control).all() and found.empty_share == 1 and np.isnan(found.control_band[0])
    assert "100 % of the controls found nothing active to change" in found.summary()


# Where it acts --------------------------------------------------------------------------------------------------------


def test_a_region_of_the_picture(small):
    one = Intervention(f"{LAYER}/unit/2", region={"x": 0, "y": 0.5, "width": 0.5, "height": 0.5})
    found = small.steer(one, samples=24, target="logit:1", controls=2)
    other = small.variant("part", small.edits(one))
    for i in (0, 5):
        x, seen = small.data.tensor(i)[None], []

        def change(module, args, output):
            output = output.clone()
            output[:, 2, 6:, :6] = 0
            return output

        held = small.model.module.relu_b.register_forward_hook(change)
        expected = small.model(x).cpu()[0]
        held.remove()
        assert found.after[i] == pytest.approx(float(expected[1]), abs=1e-6)
        torch.testing.assert_close(other.model(x).cpu()[0], expected)
        rows = small.predict_under(i, one, n=4)
        assert {row.index: row.after for row in rows}[1] == pytest.approx(float(expected[1]), abs=1e-6)
        seen.append(small.explain_under(i, one).heatmap)
        assert not torch.equal(seen[0], small.explain_under(i, Intervention(f"{LAYER}/unit/2")).heatmap)
    whole = small.steer(Intervention(f"{LAYER}/unit/2"), samples=24, target="logit:1", controls=2)
    assert whole.recipe != found.recipe and "in the region x 0 to 0.5" in repr(found)
    assert "in the region" in other.changes()[0]
    with pytest.raises(BadValueError, match="no places in the picture"):
        small.steer(Intervention("head/unit/1", region=(0, 0, 1, 1)))
