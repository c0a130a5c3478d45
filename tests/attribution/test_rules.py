"""Rules and composites: what they refuse, what they are made of, and that other numbers make another digest."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from workbench.attribution.rules import COMPOSITES, Composite, Rule, assign, composite
from workbench.core.errors import BadValueError
from workbench.testing.nets import small_vgg

BOX = {"low": -2.0, "high": 2.0}


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "zpluss"},
        {"kind": "epsilon", "epsilon": 0.0},
        {"kind": "epsilon", "epsilon": float("nan")},
        {"kind": "gamma", "gamma": -0.1},
        {"kind": "alpha_beta", "alpha": 2.0, "beta": 0.5},
        {"kind": "alpha_beta", "alpha": 0.5, "beta": -0.5},
        {"kind": "zbox", "low": -1.0},
    ],
)
def test_impossible_rules_are_refused(wrong):
    with pytest.raises(BadValueError):
        Rule(**wrong)


def test_composites_by_name():
    for name in COMPOSITES:
        made = composite(name, **(BOX if "Box" in name else {}))
        assert made.name == str(made) == name and made.zero_bias
        assert bool(made.first) == (name.endswith("Flat") or "Box" in name)
        assert composite(made) is made
    with pytest.raises(BadValueError, match="There are EpsilonPlus") as error:
        composite("epsilon_plus")
    assert "EpsilonPlusFlat" in error.value.hint
    with pytest.raises(BadValueError, match="bounds of the normalised input"):
        composite("EpsilonGammaBox", low=-1.0)


def test_every_number_counts_in_the_digest():
    made = [
        composite("EpsilonPlus"),
        composite("EpsilonPlus", zero_bias=False),
        composite("EpsilonPlus", epsilon=1e-5),
        composite("EpsilonPlus", stabiliser=1e-5),
        composite("EpsilonPlusFlat"),
        composite("EpsilonAlpha2Beta1"),
        composite("EpsilonGammaBox", **BOX),
        composite("EpsilonGammaBox", low=-2.0, high=3.0),
        composite("EpsilonGammaBox", **BOX, gamma=0.3),
        composite("EpsilonGammaBox", low=[-2.0, -2.0, -1.0], high=2.0),
        composite("EpsilonGammaBox", low=torch.tensor([-2.0, -2.0, -1.5]), high=2.0),
        composite("EpsilonPlus").with_layers((nn.MaxPool2d, Rule("pass"))),
        composite("EpsilonPlus").with_layers(("features.*", Rule("pass"))),
    ]
    assert all(a.digest != b.digest for a, b in itertools.combinations(made, 2))
    assert composite("EpsilonPlus").digest == made[0].digest
    assert made[9].describe() == composite("EpsilonGammaBox", low=(-2.0, -2.0, -1.0), high=2.0).describe()


def test_bounds_per_channel_and_per_pixel():
    from workbench.attribution.lrp import ruled_forward
    from workbench.testing.nets import handle_of, randomised

    handle = handle_of(nn.Sequential(randomised(nn.Conv2d(3, 4, 3)).double(), nn.Flatten()), (3, 5, 4))
    x = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    low, maps = torch.tensor([-2.0, -1.0, -3.0]), []
    for bound in (low, low.reshape(1, 3, 1, 1).expand(1, 3, 5, 4), low.tolist()):
        rule = Composite("box", (("0", Rule("zbox", low=bound, high=2.5)),))
        with ruled_forward(handle, x, rule=rule) as graph:
            maps.append(graph.pull(graph.output, torch.ones_like(graph.output), [None])[0])
    assert torch.equal(maps[0], maps[1]) and torch.equal(maps[0], maps[2])


def test_the_first_layer_is_the_first_that_is_registered_and_runs():
    class Unordered(nn.Module):
        def __init__(self):
            super().__init__()
            self.unused, self.late, self.early = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)

    calls = {"unused": 0, "late": 1, "early": 1}
    table = assign(Unordered(), composite("EpsilonPlusFlat"), calls=calls)
    assert {row.module: (row.rule.kind, row.is_first) for row in table} == {
        "late": ("flat", True), "early": ("zplus", False),
    }  # fmt: skip


def test_matchers_by_group_class_and_name():
    chosen = Composite(
        "mixed",
        (("9", Rule("zplus")), (nn.AvgPool2d, Rule("gradient")), ("1?", Rule("epsilon")), ("linear", Rule("gamma"))),
    )
    kinds = {row.module: row.rule.kind for row in assign(small_vgg(batch_norm=False)[:10], chosen)}
    assert kinds["0"] == kinds["4"] == "gamma" and kinds["9"] == "zplus" and kinds["7"] == "gradient"
    assert kinds["2"] == "gradient" and kinds["1"] == "pass"  # an activation nobody matched; an identity


def test_attention_and_gates_are_no_activations():
    net = nn.Sequential(nn.ReLU(), nn.GLU(), nn.Softplus(), nn.Hardswish())
    assert [row.rule.kind for row in assign(net, composite("EpsilonPlus"))] == ["pass", "gradient", "pass", "pass"]


def test_text_of_rules():
    assert str(Rule("pass")) == "pass" and str(Rule("epsilon")) == "epsilon(epsilon=1e-06)"
    assert str(Rule("alpha_beta")) == "alpha_beta(epsilon=1e-06, alpha=2.0, beta=1.0)"
    assert Rule("zbox", low=torch.tensor([1.0]), high=2).describe() == {
        "kind": "zbox", "epsilon": 1e-6, "low": [1.0], "high": 2,
    }  # fmt: skip
