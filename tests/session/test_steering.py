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
        before, after = small.model(x)[0], other.model(x)[0]
        assert found.before[i] == pytest.approx(float(before[1]), rel=1e-5, abs=1e-6)
        assert found.after[i] == pytest.approx(float(after[1]), rel=1e-5, abs=1e-6)
        assert found.decision_after[i] == int(after.argmax())
    assert found.is_complete and len(found.samples) == 24
    expected = np.mean([(other.model(x) - small.model(x))[0].numpy() for x in
                        (small.data.tensor(int(i)).unsqueeze(0) for i in found.samples)], 0)  # fmt: skip
    np.testing.assert_allclose(found.outputs, expected, atol=1e-5)


def test_one_sample_before_and_after(small):
    mine = [Intervention(f"{LAYER}/unit/2")]
    before, after = small.outputs_under(3, mine)
    x = small.data.tensor(3).unsqueeze(0)
    assert torch.equal(torch.from_numpy(before), small.model(x)[0])
    assert torch.equal(torch.from_numpy(after), small.variant("off", small.edits(mine)).model(x)[0])


def test_bypassing_restores_every_bit_and_no_hook_is_left(small):
    x, held = torch.stack([small.data.tensor(i) for i in range(4)]), hooks(small)
    before = small.model(x)
    for strength in np.linspace(0, 1, 20):
        small.outputs_under(3, [Intervention(f"{LAYER}/unit/2", "suppress", float(strength))])
    with pytest.raises(NotFiniteError, match="smaller strength"):
        small.steer(Intervention(f"{LAYER}/unit/2", "set", 3e38), samples=4, controls=0)
    assert torch.equal(small.model(x), before) and hooks(small) == held
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
    assert [len(one.samples) for one in seen] == [16, 24] and [one.is_complete for one in seen] == [False, True]
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
