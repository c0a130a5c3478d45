"""Whole networks: equal to zennit, conserving, right for repeated modules and for every way to write a sum."""

from __future__ import annotations

import copy

import pytest
import torch
import zennit.composites
import zennit.rules
import zennit.torchvision
from torch import nn
from torch.nn import functional as F

from workbench.attribution.crp import explain
from workbench.attribution.lrp import rule_table, ruled_forward
from workbench.attribution.rules import Composite, Rule, composite
from workbench.core.errors import BadValueError, ModelError, NotFiniteError, RuleError
from workbench.core.results import Edit
from workbench.testing.nets import BiasFree, Residual, Twice, handle_of, randomised, small_vgg

NAMES = ("EpsilonPlus", "EpsilonPlusFlat", "EpsilonAlpha2Beta1", "EpsilonAlpha2Beta1Flat", "EpsilonGammaBox")
BOX = {"low": -3.0, "high": 3.0}
KINDS = {
    zennit.rules.Epsilon: "epsilon",
    zennit.rules.ZPlus: "zplus",
    zennit.rules.AlphaBeta: "alpha_beta",
    zennit.rules.Gamma: "gamma",
    zennit.rules.ZBox: "zbox",
    zennit.rules.Flat: "flat",
    zennit.rules.Norm: "norm",
    zennit.rules.Pass: "pass",
}


def ours(name, *, zero_bias):
    return composite(name, zero_bias=zero_bias, **(BOX if "Box" in name else {}))


def zennits(name, *, zero_bias, canonizers=None):
    box = {k: torch.tensor(v) for k, v in BOX.items()} if "Box" in name else {}
    return getattr(zennit.composites, name)(zero_params="bias" if zero_bias else None, canonizers=canonizers, **box)


def resnet18():
    import torchvision

    return torchvision.models.resnet18(weights=None, num_classes=11)


def efficientnet():
    import timm

    return timm.create_model("tf_efficientnet_lite0", pretrained=False, num_classes=11)


NETS = {
    "vgg": (small_vgg, (3, 17, 13)),
    "residual": (Residual, (3, 10, 8)),
    "resnet18": (resnet18, (3, 64, 48)),
    "efficientnet_lite0": (efficientnet, (3, 48, 64)),
}


@pytest.fixture(scope="module")
def net():
    made = {}

    def get(name):
        if name not in made:
            build, shape = NETS[name]
            module = randomised(build())
            made[name] = module, handle_of(module, shape), torch.randn(2, *shape)
        return made[name]

    return get


def difference(a, b):
    return float((a - b).abs().max() / b.abs().max())


# --- against zennit ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zero_bias", [True, False])
@pytest.mark.parametrize("rule", NAMES)
@pytest.mark.parametrize("name", NETS)
def test_maps_equal_zennits(net, name, rule, zero_bias):
    _, handle, x = net(name)
    layer = handle.layers.linear()[2]
    mine = explain(handle, x, rule=ours(rule, zero_bias=zero_bias), record=[layer])
    theirs = explain(handle, x, rule=zennits(rule, zero_bias=zero_bias), record=[layer])
    assert torch.equal(mine.start.index, theirs.start.index)
    assert difference(mine.relevance, theirs.relevance) < 1e-5
    assert difference(mine.layers[layer], theirs.layers[layer]) < 1e-5


@pytest.mark.parametrize("rule", NAMES)
@pytest.mark.parametrize("name", NETS)
def test_rule_tables_equal_zennits(net, name, rule):
    _, handle, _ = net(name)
    table = rule_table(handle, ours(rule, zero_bias=True))
    theirs, context = zennits(rule, zero_bias=True), {}
    leaves = [(n, m) for n, m in handle.module.named_modules() if next(m.children(), None) is None]
    hooks = {n: theirs.module_map(context, n, m) for n, m in leaves}
    assert [row.module for row in table] == [n for n, _ in leaves if handle.calls.get(n)]
    for row in table:
        expected = "gradient" if hooks[row.module] is None else KINDS[type(hooks[row.module])]
        if row.type in ("Identity", "Flatten", "Dropout"):  # the gradient of a copy is the copy
            assert (row.rule.kind, expected) == ("pass", "gradient")
        else:
            assert row.rule.kind == expected, row.module
    assert sum(row.is_first for row in table) == (0 if rule in ("EpsilonPlus", "EpsilonAlpha2Beta1") else 1)


@pytest.mark.parametrize("rule", NAMES)
def test_zennit_alone_on_the_original_agrees_within_its_own_error(net, rule):
    """zennit 0.5 merges batch norm with a relative error of about 1e-6 that maps of deep networks enlarge."""
    module, handle, x = net("resnet18")
    mine = explain(handle, x, rule=ours(rule, zero_bias=True)).relevance
    given = copy.deepcopy(module)
    own = zennits(rule, zero_bias=True, canonizers=[zennit.torchvision.ResNetCanonizer()])
    with own.context(given) as ruled:
        leaf = x.clone().requires_grad_()
        y = ruled(leaf)
        seed = torch.zeros_like(y)
        seed[torch.arange(2), y.argmax(1)] = y.max(1).values.detach()
        (theirs,) = torch.autograd.grad(y, leaf, seed)
    bound = 2e-2 if "Alpha2" in rule else 5e-3
    assert difference(mine, theirs) < bound


def test_composites_of_zennit_leave_the_copy_as_it_was(net):
    module, handle, x = net("resnet18")
    before = {k: v.clone() for k, v in handle.module.state_dict().items()}
    explain(handle, x, rule=zennits("EpsilonPlus", zero_bias=True, canonizers=[zennit.torchvision.ResNetCanonizer()]))
    after = handle.module.state_dict()
    assert list(before) == list(after) and all(torch.equal(before[k], after[k]) for k in before)
    assert not any(m._forward_hooks or m._forward_pre_hooks or m._backward_hooks for m in handle.module.modules())
    assert list(module.state_dict()) == list(resnet18().state_dict())


class _Shifted(nn.Module):
    def __init__(self, how):
        super().__init__()
        self.first, self.relu, self.how = nn.Conv2d(3, 4, 3), nn.ReLU(), how
        self.second, self.head = nn.LazyConv2d(5, 3), nn.Linear(5, 3)
        self(torch.zeros(1, 3, 8, 7))

    def forward(self, x):
        return self.head(self.second(self.how(self.relu(self.first(x)))).mean((2, 3)))


@pytest.mark.parametrize("how", ["x - 1", "x.neg()", "torch.cat([x, -x], 1)"])
def test_what_was_an_activation_s_output_may_become_negative(how):
    """That a ReLU's output is never negative is used; it must not be believed of what became of it."""
    functions = {
        "x - 1": lambda x: x - 1,
        "x.neg()": lambda x: x.neg(),
        "torch.cat([x, -x], 1)": lambda x: torch.cat([x, -x], 1),
    }
    handle, x = handle_of(randomised(_Shifted(functions[how])), (3, 8, 7)), torch.randn(2, 3, 8, 7)
    mine, theirs = (explain(handle, x, rule=of("EpsilonPlus", zero_bias=True)) for of in (ours, zennits))
    assert difference(mine.relevance, theirs.relevance) < 1e-5


def test_nor_when_it_is_changed_in_place():
    x = torch.randn(2, 3, 8, 7)
    one, other = (
        explain(handle_of(randomised(_Shifted(how)), (3, 8, 7)), x) for how in (lambda x: x - 1, lambda x: x.sub_(1))
    )
    assert difference(other.relevance, one.relevance) < 1e-6


def test_an_edit_behind_an_activation_may_make_it_negative():
    base = handle_of(randomised(small_vgg()), (3, 17, 13))
    handle = base.variant([Edit("add", "2", value=-1.0, array=torch.ones(5).numpy())])
    x = torch.randn(2, 3, 17, 13)
    mine, theirs = (explain(handle, x, rule=of("EpsilonPlus", zero_bias=True)) for of in (ours, zennits))
    assert difference(mine.relevance, theirs.relevance) < 1e-5


def test_something_else_is_no_rule(net):
    _, handle, x = net("vgg")
    with pytest.raises(BadValueError, match="zennit composite"):
        explain(handle, x, rule=3)
    with pytest.raises(BadValueError, match='No composite "EpsilonPlusFlatt"') as error:
        explain(handle, x, rule="EpsilonPlusFlatt")
    assert '"EpsilonPlusFlat"' in error.value.hint


# --- conservation --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", ["EpsilonPlus", "EpsilonPlusFlat", "EpsilonAlpha2Beta1", "Epsilon"])
def test_relevance_is_conserved_without_biases(rule):
    handle = handle_of(randomised(BiasFree()).double(), (3, 9, 7))
    x = torch.randn(4, 3, 9, 7, dtype=torch.float64)
    inside = ["features.0", "features.2", "features", "pool", "head"]
    result = explain(handle, x, rule=rule, record=inside)
    assert result.gap.abs().max() < 2e-4  # what the stabilisers take
    for name in inside:
        total = result.layers[name].flatten(1).sum(1)
        torch.testing.assert_close(total, result.start.score, rtol=2e-4, atol=0)


def test_biases_take_relevance_only_where_they_are_kept(net):
    _, handle, x = net("resnet18")
    zero, kept = (explain(handle, x, rule=ours("EpsilonPlus", zero_bias=z)).gap.abs().min() for z in (True, False))
    assert zero < 1e-4 < 1e-2 < kept


def test_what_the_gap_says_near_a_score_of_zero():
    class Difference(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Linear(2, 2, bias=False)

        def forward(self, x):
            return self.dense(x)

    net = Difference().double()
    with torch.no_grad():
        net.dense.weight.copy_(torch.tensor([[1.0, -1.0], [3.0, 1.0]]))
    handle = handle_of(net, (2,))
    x = torch.tensor([[1.0, 1.0], [2.0, 1.0]], dtype=torch.float64)
    result = explain(handle, x, "logit:0", rule="EpsilonPlus")
    assert result.start.score.tolist() == [0.0, 1.0]
    assert result.gap[0] == (0 - result.relevance[0].sum()).abs() == 0
    torch.testing.assert_close(result.gap[1], 1 - result.relevance[1].sum())


# --- sums ----------------------------------------------------------------------------------------------------------

ADDS = ("a + b", "a += b", "a.add_(b)", "torch.add(input=a, other=b)")


def explained_sums(how, x, rule):
    """Relevance, and the totals before and after both sums."""
    handle = handle_of(randomised(Residual(how, bias=False)).double(), (3, 10, 8))
    is_overwritten = how == "a.add_(b)"  # then what was recorded before is refused
    result = explain(handle, x, rule=rule, record=[] if is_overwritten else ["relu_b", "b2_bn", "side_bn"])
    if not is_overwritten:
        total = {name: r.flatten(1).sum(1) for name, r in result.layers.items()}
        torch.testing.assert_close(total["b2_bn"] + total["side_bn"], total["relu_b"], rtol=1e-4, atol=1e-6)
    assert (result.start.score - result.relevance.flatten(1).sum(1)).abs().max() < 0.2 * result.start.score.abs().min()
    return result.relevance


@pytest.mark.parametrize("rule", ["EpsilonPlusFlat", "zennit"])
def test_a_residual_sum_is_counted_once_however_it_is_written(rule):
    x = torch.randn(2, 3, 10, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    chosen = zennits("EpsilonPlusFlat", zero_bias=True) if rule == "zennit" else rule
    maps = [explained_sums(how, x, chosen) for how in ADDS]
    for one in maps[1:]:
        torch.testing.assert_close(one, maps[0], rtol=1e-10, atol=1e-12)


def test_a_scaled_sum_is_counted_once_too():
    x = torch.randn(2, 3, 10, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    explained_sums("torch.add(a, b, alpha=2)", x, "EpsilonPlusFlat")


@pytest.mark.parametrize("how", [*ADDS, "torch.add(a, b, alpha=2)"])
def test_gradients_do_not_see_how_a_sum_is_written(how):
    handle = handle_of(randomised(Residual(how)).double(), (3, 10, 8))
    x = torch.randn(2, 3, 10, 8, dtype=torch.float64)
    leaf = x.clone().requires_grad_()
    y = randomised(Residual(how)).double().requires_grad_(False)(leaf)
    (expected,) = torch.autograd.grad(y.max(1).values.sum(), leaf)
    asked = {} if how == "a.add_(b)" else {"record": ["a2_bn"]}  # `a += b` leaves what was recorded as it is
    torch.testing.assert_close(explain(handle, x, rule="gradient", **asked).relevance, expected)


def test_sums_do_not_change_the_output(net):
    _, handle, x = net("residual")
    with ruled_forward(handle, x, rule=composite("EpsilonPlus")) as graph:
        assert torch.equal(graph.output.detach(), handle(x))


# --- modules that run twice ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", NAMES)
def test_a_module_that_runs_twice_is_right(rule):
    shared, apart = randomised(Twice()).double(), randomised(Twice(apart=True)).double()
    apart.load_state_dict({**shared.state_dict(), **{f"other.{k}": v for k, v in shared.again.state_dict().items()}})
    x = torch.randn(3, 3, 7, 6, dtype=torch.float64)
    one, two = (
        explain(handle_of(net, (3, 7, 6)), x, rule=ours(rule, zero_bias=False), record=["first"])
        for net in (shared, apart)
    )
    torch.testing.assert_close(one.relevance, two.relevance, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(one.layers["first"], two.layers["first"], rtol=1e-12, atol=1e-14)


def test_zennit_is_refused_a_module_that_runs_twice():
    handle = handle_of(randomised(Twice()), (3, 7, 6))
    with pytest.raises(RuleError, match='"again" runs 2 times') as error:
        explain(handle, torch.randn(1, 3, 7, 6), rule=zennits("EpsilonPlus", zero_bias=True))
    assert "by name" in error.value.hint


def test_zennit_may_have_activations_that_run_twice_but_no_pools():
    class Pooled(nn.Module):
        def __init__(self, pool):
            super().__init__()
            self.conv, self.relu, self.pool = nn.Conv2d(3, 4, 3), nn.ReLU(), pool
            self.head = nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.pool(self.relu(self.pool(self.relu(self.conv(x))))).amax((2, 3)))

    x, rule = torch.randn(1, 3, 14, 14), zennits("EpsilonPlus", zero_bias=True)
    assert explain(handle_of(randomised(Pooled(nn.MaxPool2d(2))), (3, 14, 14)), x, rule=rule).relevance.isfinite().all()
    with pytest.raises(RuleError, match='"pool" runs 2 times'):
        explain(handle_of(randomised(Pooled(nn.AvgPool2d(2))), (3, 14, 14)), x, rule=rule)


def test_a_layer_that_runs_twice_cannot_be_recorded():
    handle = handle_of(randomised(Twice()), (3, 7, 6))
    for asked in ({"record": ["again"]}, {"given": ["again/unit/0"]}):
        with pytest.raises(ModelError, match='"again" runs 2 times'):
            explain(handle, torch.randn(1, 3, 7, 6), **asked)


# --- what is shown before running ------------------------------------------------------------------------------------


def test_the_table_names_what_falls_back_to_the_gradient():
    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm, self.drop = nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.Dropout()
            self.head, self.unused = nn.Linear(4, 3), nn.Linear(2, 2)

        def forward(self, x):
            x = F.relu(self.norm(self.conv(x)))
            x = x + x.tanh()
            return self.head(self.drop(x.mean((2, 3)) * 2))

    table = rule_table(handle_of(randomised(Odd()), (3, 6, 6)), composite("EpsilonPlus"))
    assert {row.module: row.rule.kind for row in table} == {
        "conv": "zplus", "norm": "gradient", "drop": "pass", "head": "epsilon",
    }  # fmt: skip
    assert table.functions == {"mean": 1, "mul": 1, "relu": 1, "residual sum": 1, "tanh": 1}
    assert table.fallbacks == ["norm", "mean() outside modules", "mul() outside modules", "tanh() outside modules"]
    frame = table.to_frame()
    assert frame.loc["residual sum()", "rule"] == "norm" and frame.loc["conv", "rule"].startswith("zplus")
    assert "norm" in repr(table) and "<table" in table._repr_html_()


def test_own_layers_come_first():
    handle = handle_of(randomised(small_vgg()), (3, 17, 13))
    chosen = composite("EpsilonPlusFlat").with_layers(("4", Rule("gamma", gamma=0.5)), (nn.MaxPool2d, Rule("pass")))
    kinds = {row.module: row.rule.kind for row in rule_table(handle, chosen)}
    assert (kinds["0"], kinds["4"], kinds["3"], kinds["9"]) == ("flat", "gamma", "pass", "epsilon")
    assert chosen.digest != composite("EpsilonPlusFlat").digest


def test_a_rule_for_weights_needs_weights():
    handle = handle_of(randomised(small_vgg()), (3, 17, 13))
    with pytest.raises(RuleError, match=r'zplus.*needs weights, and "2" \(ReLU\)'):
        rule_table(handle, Composite("wrong", (("2", Rule("zplus")),)))


def test_modules_inside_of_which_functions_run_get_no_rule_twice():
    """A module with children and an own function: the function is named, the child has its rule."""

    class Outer(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(4, 3)

        def forward(self, x):
            return F.silu(self.inner(x))

    table = rule_table(handle_of(randomised(nn.Sequential(Outer(), nn.Linear(3, 2))), (4,)), composite("EpsilonPlus"))
    assert [row.module for row in table] == ["0.inner", "1"]
    assert table.fallbacks == ["silu() outside modules"]


# --- what goes wrong -------------------------------------------------------------------------------------------------


class _Overwritten(nn.Module):
    def __init__(self, how, kind="conv"):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3) if kind == "conv" else nn.Linear(5, 4, bias=False)
        self.head, self.how = nn.Linear(4, 3), how

    def forward(self, x):
        x = self.how(self.first(x))
        return self.head(x.amax((2, 3)) if x.ndim == 4 else x)


@pytest.mark.parametrize("how", [lambda x: F.relu(x, inplace=True), lambda x: x.relu_(), lambda x: x.mul_(2)])
def test_a_recorded_layer_must_not_be_overwritten(how):
    handle = handle_of(randomised(_Overwritten(how)), (3, 6, 6))
    x = torch.randn(2, 3, 6, 6)
    plain = explain(handle, x)  # harmless, as long as nobody looks at the layer
    assert plain.relevance.isfinite().all()
    for asked in ({"record": ["first"]}, {"given": ["first/unit/0"]}, {"target": "component:first/unit/0"}):
        with pytest.raises(ModelError, match='"first" is overwritten in place'):
            explain(handle, x, **asked)


def test_an_output_that_a_rule_needs_must_not_be_overwritten():
    handle = handle_of(randomised(_Overwritten(lambda x: x.relu_(), "dense")), (5,))
    with pytest.raises(ModelError, match="overwritten in place by a function") as error:
        explain(handle, torch.randn(2, 5), rule="EpsilonPlus")
    assert "x.f_()" in error.value.hint


def test_nor_must_that_of_a_pool():
    class Pooled(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.pool, self.head = nn.Conv2d(3, 4, 3), nn.AvgPool2d(2), nn.Linear(4, 3)

        def forward(self, x):
            return self.head(self.pool(self.conv(x)).sub_(0.5).amax((2, 3)))

    with pytest.raises(ModelError, match="overwritten in place by a function"):
        explain(handle_of(randomised(Pooled()), (3, 8, 8)), torch.randn(2, 3, 8, 8))


def test_outputs_that_cannot_be_followed_back_are_refused():
    class Detached(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense = nn.Linear(3, 2)

        def forward(self, x):
            return self.dense(x).detach()

    with pytest.raises(ModelError, match="cannot be followed back"):
        explain(handle_of(randomised(Detached()), (3,)), torch.randn(2, 3))


def test_a_layer_without_a_path_to_the_input_is_refused():
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.dense, self.aside = nn.Linear(3, 2), nn.Linear(3, 2)

        def forward(self, x):
            return self.dense(x) + self.aside(torch.ones_like(x))

    handle = handle_of(randomised(Aside()), (3,))
    with pytest.raises(RuleError, match='"aside" does not depend on the input'):
        explain(handle, torch.randn(2, 3), record=["aside"])


def test_an_output_that_is_not_finite_names_its_samples():
    handle = handle_of(randomised(nn.Sequential(nn.Linear(3, 2))), (3,))
    x = torch.randn(4, 3)
    x[2, 0] = 1e38
    x[2, 1:] = -1e38
    x[1] = float("inf")
    with pytest.raises(NotFiniteError, match=r"\[1"):
        explain(handle, x * 10)


def test_modules_called_with_more_than_their_input_are_refused():
    class Sized(nn.Module):
        def __init__(self):
            super().__init__()
            self.up, self.flat = nn.ConvTranspose2d(2, 3, 3, stride=2), nn.Flatten()

        def forward(self, x):
            return self.flat(self.up(x, output_size=(8, 8)))

    with pytest.raises(ModelError, match="ConvTranspose2d is called with further arguments"):
        explain(handle_of(randomised(Sized()), (2, 3, 3)), torch.randn(1, 2, 3, 3))


def test_a_failing_forward_pass_leaves_nothing_on_the_copy(net):
    _, handle, _ = net("vgg")
    before = {n: dict(vars(m)) for n, m in handle.module.named_modules()}
    with pytest.raises(RuntimeError):
        explain(handle, torch.randn(2, 3, 4, 5), record=["4"])  # the dense layer does not fit
    for name, module in handle.module.named_modules():
        assert "forward" not in vars(module) and not module._forward_hooks, name
        assert list(vars(module)) == list(before[name])
