"""Conditional relevance: against a slow twin with one pass per stage, and by what must hold."""

from __future__ import annotations

import copy
import itertools

import pytest
import torch
import zennit.composites
from torch import nn

from workbench.attribution.crp import concept_maps, explain, heat, rule_name
from workbench.attribution.rules import Composite, composite
from workbench.core.errors import BadValueError, ModelError, RuleError, ShapeError, UnknownComponentError
from workbench.testing.nets import BiasFree, Residual, handle_of, randomised, small_vgg

SHAPE = (3, 17, 13)


def batch(n, shape=SHAPE, seed=0):
    return torch.randn(n, *shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def vgg():
    return handle_of(randomised(small_vgg()).double(), SHAPE)


@pytest.fixture(scope="module")
def residual():
    return handle_of(randomised(Residual()).double(), (3, 10, 8))


def everything(handle, layer):
    return [f"{layer}/{c}" for c in range(handle.layers[layer].n_components)]


# --- the slow twin -------------------------------------------------------------------------------------------------


def zennit_twin(handle, x, logit, conditions, masks=()):
    """One sample at a time, zennit's hooks, a fresh forward pass for every stage, masks written out entry by entry.

    `conditions` are pairs of a layer and its components, from the output to the input.
    """
    module = copy.deepcopy(handle.module)
    rule = zennit.composites.EpsilonPlusFlat(zero_params="bias")
    maps = []
    for number, one in enumerate(x):
        relevance, stages = None, [*[name for name, _ in conditions], None]
        for above, below in zip([None, *stages], stages, strict=False):
            with rule.context(module):
                seen = {}
                hooks = [
                    module.get_submodule(name).register_forward_hook(
                        lambda _, __, out, n=name, seen=seen: seen.__setitem__(n, out)
                    )
                    for name in stages[:-1]
                ]
                leaf = one.unsqueeze(0).clone().requires_grad_()
                output = module(leaf)
                for hook in hooks:
                    hook.remove()
                if above is None:
                    start, seed = output, torch.zeros_like(output)
                    seed[0, logit[number]] = output[0, logit[number]].detach()
                else:
                    start, seed = seen[above], torch.zeros_like(relevance)
                    for component in dict(conditions)[above]:
                        for position in itertools.product(*(range(n) for n in relevance.shape[2:])):
                            place = (0, component, *position)
                            factor = 1.0 if above not in dict(masks) else dict(masks)[above][place[1:]]
                            seed[place] = relevance[place] * factor
                (relevance,) = torch.autograd.grad(start, leaf if below is None else seen[below], seed)
        maps.append(relevance[0])
    return torch.stack(maps)


CONDITIONS = {
    "one component": [("6", (2,))],
    "or": [("6", (5, 0, 3))],
    "and": [("10", (1, 4, 7, 9)), ("6", (2, 6))],
    "and, three layers": [("10", (0, 1, 2, 3, 4, 5)), ("6", (1, 2, 3)), ("2", (4, 0))],
    "convolution itself": [("4", (2, 3)), ("0", (1,))],
    "the head": [("11", (0, 1, 2, 3, 4, 5)), ("9", (3, 5, 8))],
    "nothing": [("6", ())],
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_staged_maps_equal_the_slow_twin(vgg, name):
    conditions, x = CONDITIONS[name], batch(3)
    if name == "nothing":
        found = explain(vgg, x, masks={"6": torch.zeros(())})
    else:
        found = explain(vgg, x, given=[f"{layer}/unit/{c}" for layer, cs in conditions for c in cs])
    expected = zennit_twin(vgg, x, found.start.index, conditions)
    torch.testing.assert_close(found.relevance, expected, rtol=1e-9, atol=1e-12)
    assert bool((found.relevance != 0).any()) == (name != "nothing")
    assert torch.isnan(found.gap).all(), "a part of the relevance has no score to reach"


def test_masks_of_positions_equal_the_slow_twin(vgg):
    x, generator = batch(2), torch.Generator().manual_seed(4)
    mask = (torch.rand(vgg.layers["6"].shape, generator=generator) > 0.5).double()
    half = torch.rand(vgg.layers["2"].shape, generator=generator, dtype=torch.float64)
    found = explain(vgg, x, masks={"6": mask, "2": half}, given=["2/unit/0", "2/unit/3"])
    conditions = [("6", range(7)), ("2", (0, 3))]
    expected = zennit_twin(vgg, x, found.start.index, conditions, masks=[("6", mask), ("2", half)])
    torch.testing.assert_close(found.relevance, expected, rtol=1e-9, atol=1e-12)


def test_a_mask_must_fit(vgg):
    with pytest.raises(ShapeError, match=r'mask of "6" has the shape \(7, 3, 3\); the layer gives \(1, 7, 8, 6\)'):
        explain(vgg, batch(1), masks={"6": torch.ones(7, 3, 3)})
    one_per_sample = torch.tensor([1.0, 0.0]).reshape(2, 1, 1, 1)
    found = explain(vgg, batch(2), masks={"6": one_per_sample})
    assert found.relevance[0].abs().sum() > 0 and found.relevance[1].abs().sum() == 0


# --- what must hold (card, 2.8) ------------------------------------------------------------------------------------


@pytest.mark.parametrize("layer", ["0", "1", "2", "3", "4", "6", "7", "9", "10", "11"])
@pytest.mark.parametrize("rule", ["EpsilonPlusFlat", "EpsilonAlpha2Beta1", "input_x_gradient"])
def test_all_components_give_the_plain_map_exactly(vgg, layer, rule):
    x = batch(3)
    plain = explain(vgg, x, rule=rule, record=[layer])
    found = explain(vgg, x, rule=rule, given=everything(vgg, layer))
    assert torch.equal(found.relevance, plain.relevance)
    assert torch.equal(found.layers[layer], plain.layers[layer]), "recorded before the mask"


@pytest.mark.parametrize("layer", ["stem", "relu_stem", "relu_a", "relu_b", "pool", "head"])
def test_maps_sum_to_the_plain_one_where_every_path_goes_through(residual, layer):
    x = batch(1, (3, 10, 8))
    plain = explain(residual, x)
    assert torch.equal(explain(residual, x, given=everything(residual, layer)).relevance, plain.relevance)
    maps, _, start = concept_maps(residual, x, everything(residual, layer))
    whole = heat(plain.relevance)[0]
    assert (maps.sum(0) - whole).abs().max() < 1e-12 * whole.abs().max()
    torch.testing.assert_close(start.score, plain.start.score)


def test_maps_in_single_precision_sum_as_well():
    handle = handle_of(randomised(small_vgg()), SHAPE)
    x = batch(1).float()
    whole = heat(explain(handle, x).relevance)[0]
    maps, _, _ = concept_maps(handle, x, everything(handle, "6"))
    assert (maps.sum(0) - whole).abs().max() < 1e-6 * whole.abs().max()


def test_a_map_sums_to_the_component_s_relevance_without_biases():
    handle = handle_of(randomised(BiasFree()).double(), (3, 9, 7))
    x = batch(1, (3, 9, 7))
    maps, pooled, _ = concept_maps(handle, x, everything(handle, "features.4"))
    torch.testing.assert_close(maps.flatten(1).sum(1), pooled, rtol=1e-3, atol=1e-5 * float(pooled.abs().max()))


def test_inside_a_branch_only_what_passes_it_counts(residual):
    x = batch(1, (3, 10, 8))
    whole = explain(residual, x, record=["relu_a", "b2_bn", "side_bn"])
    branch = explain(residual, x, given=everything(residual, "b2_bn"))
    beside = explain(residual, x, given=everything(residual, "side_bn"))
    torch.testing.assert_close(branch.relevance + beside.relevance, whole.relevance, rtol=1e-9, atol=1e-12)
    assert (branch.relevance - whole.relevance).abs().max() > 0.1 * whole.relevance.abs().max()
    through = whole.layers["b2_bn"].sum() + whole.layers["side_bn"].sum()
    torch.testing.assert_close(
        through, explain(residual, x, record=["relu_b"]).layers["relu_b"].sum(), rtol=1e-4, atol=0
    )


def test_parallel_layers_are_no_condition(residual):
    x = batch(1, (3, 10, 8))
    with pytest.raises(RuleError, match="does not lie on the path") as error:
        explain(residual, x, given=["b2/unit/0", "side/unit/1"])
    assert "none beside another" in error.value.hint
    for recorded, given in (("side", "b2/0"), ("b2", "side/0")):
        with pytest.raises(RuleError, match=f'"{recorded}" (lies beside|: it does not)|reaches "{recorded}"'):
            explain(residual, x, given=[given], record=[recorded])


def test_the_hand_example():
    """Two dense layers side by side on x = (-1, 1), their outputs joined and weighed with (1, 4, 5, 0)."""

    class Beside(nn.Module):
        def __init__(self):
            super().__init__()
            self.w1, self.w2, self.w3 = (nn.Linear(n, m, bias=False) for n, m in ((2, 2), (2, 2), (4, 1)))
            with torch.no_grad():
                self.w1.weight.copy_(torch.tensor([[1.0, 2.0], [0.0, 1.0]]))
                self.w2.weight.copy_(torch.tensor([[2.0, 3.0], [0.0, 0.0]]))
                self.w3.weight.copy_(torch.tensor([[1.0, 4.0, 5.0, 0.0]]))

        def forward(self, x):
            return self.w3(torch.cat([self.w1(x), self.w2(x)], 1))

    handle = handle_of(Beside().double(), (2,))
    x = torch.tensor([[-1.0, 1.0]], dtype=torch.float64)
    full = explain(handle, x, rule="EpsilonPlus", record=["w1", "w2"])
    close = {"rtol": 0, "atol": 5e-5}
    assert full.output.tolist() == [[10.0]]
    torch.testing.assert_close(full.relevance, torch.tensor([[-11.0, 21.0]]).double(), **close)
    torch.testing.assert_close(full.layers["w1"], torch.tensor([[1.0, 4.0]]).double(), **close)
    torch.testing.assert_close(full.layers["w2"], torch.tensor([[5.0, 0.0]]).double(), **close)
    given = explain(handle, x, rule="EpsilonPlus", given=["w1/unit/0"])
    torch.testing.assert_close(given.relevance, torch.tensor([[-1.0, 2.0]]).double(), **close)


def test_relevance_is_linear_in_the_target(vgg):
    x = batch(3)
    a, b, both = (explain(vgg, x, target).relevance for target in ("logit:1", "logit:4", "difference:1:4"))
    torch.testing.assert_close(both, a - b, rtol=1e-9, atol=1e-12)


def test_the_order_of_conditions_does_not_matter(vgg):
    x, given = batch(2), ["10/unit/1", "6/2", "2/unit/4", "6/unit/0", "10/7"]
    one = explain(vgg, x, given=given, record=["2", "10"])
    for other in ([*reversed(given)], [given[i] for i in (2, 0, 4, 1, 3)], [*given, given[0]]):
        again = explain(vgg, x, given=other, record=["10", "2"])
        assert torch.equal(one.relevance, again.relevance)
        assert all(torch.equal(one.layers[k], again.layers[k]) for k in one.layers)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 7])
def test_neither_batch_size_nor_place_matters(vgg, n):
    x, given = batch(7), ["6/unit/1", "6/unit/2", "2/unit/0"]
    whole = explain(vgg, x, given=given, record=["2", "0"])
    order = torch.randperm(7, generator=torch.Generator().manual_seed(n))
    for part in order.split(n):  # 7 in fives leaves a batch of two, in threes a batch of one
        found = explain(vgg, x[part], given=given, record=["2", "0"])
        torch.testing.assert_close(found.relevance, whole.relevance[part], rtol=1e-10, atol=1e-13)
        for name in ("2", "0"):
            torch.testing.assert_close(found.layers[name], whole.layers[name][part], rtol=1e-10, atol=1e-13)


def test_recorded_relevance_is_that_before_the_mask_and_below_that_behind_it(vgg):
    x, given = batch(2), ["6/unit/1"]
    plain = explain(vgg, x, record=["9", "6", "4", "2"])
    found = explain(vgg, x, record=["2", "9", "4", "6"], given=given)
    assert list(plain.layers) and torch.equal(found.layers["9"], plain.layers["9"])
    assert torch.equal(found.layers["6"], plain.layers["6"])
    assert found.layers["4"][:, 1].abs().sum() > 0  # an activation hands relevance on channel by channel
    assert found.layers["4"][:, [0, 2, 3, 4, 5, 6]].abs().sum() == 0
    torch.testing.assert_close(found.activations["6"], plain.activations["6"])


def test_containers_and_their_last_child_are_one_place():
    handle = handle_of(randomised(BiasFree()).double(), (3, 9, 7))
    x = batch(2, (3, 9, 7))
    result = explain(handle, x, record=["features", "features.4"], given=["features/unit/2", "features.4/unit/2"])
    one = explain(handle, x, given=["features.4/unit/2"], record=["features", "head"])
    assert torch.equal(result.relevance, one.relevance)
    other = explain(handle, x, given=["features/unit/2"], record=["features.4", "head"])
    plain = explain(handle, x, record=["features", "head"])
    for found in (one, other):
        assert torch.equal(found.layers["head"], plain.layers["head"])
    # Before the mask, by whichever name.
    assert torch.equal(one.layers["features"], plain.layers["features"])
    assert torch.equal(other.layers["features.4"], plain.layers["features"])
    assert explain(handle, x, given=["features/2", "features.4/3"]).relevance.abs().max() == 0, "and, across layers"


# --- many maps of one sample -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["top", "logit:2", "difference:0:3", "component:10/unit/3", "label"])
@pytest.mark.parametrize("layer", ["10", "6", "4", "2", "0"])
def test_concept_maps_equal_one_by_one(vgg, layer, target):
    x, components = batch(1, seed=3), everything(vgg, layer)[::-1]
    labels = [4] if target == "label" else None
    if target.startswith("component") and layer == "10":
        components = components[::2]
    maps, pooled, start = concept_maps(vgg, x, components, target, labels=labels, at_once=3)
    assert maps.shape == (len(components), *SHAPE[1:])
    for component, one in zip(components, maps, strict=True):
        alone = explain(vgg, x, target, given=[component], labels=labels)
        torch.testing.assert_close(one, heat(alone.relevance)[0], rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(start.score, alone.start.score)
        value = vgg.layers[layer].components_first(alone.layers[layer]).sum(2)[0]
        torch.testing.assert_close(pooled, value, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rule", ["EpsilonPlus", "EpsilonAlpha2Beta1Flat", "EpsilonGammaBox", "zennit"])
def test_concept_maps_follow_the_rule(residual, rule):
    chosen = {
        "EpsilonGammaBox": lambda: composite(rule, low=-4.0, high=4.0),
        "zennit": lambda: zennit.composites.EpsilonPlusFlat(zero_params="bias"),
    }.get(rule, lambda: rule)()
    x, components = batch(1, (3, 10, 8)), ["a2/unit/5", "a2/unit/0", "a2/unit/3"]
    maps, _, _ = concept_maps(residual, x, components, rule=chosen, at_once=2)
    for component, one in zip(components, maps, strict=True):
        alone = heat(explain(residual, x, rule=chosen, given=[component]).relevance)[0]
        assert (one - alone).abs().max() <= 1e-9 * alone.abs().max()


def test_concept_maps_of_tokens_and_of_series():
    class Tokens(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.act, self.head = nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 3)

        def forward(self, x):
            return self.head(self.act(self.embed(x.flatten(2).transpose(1, 2)))).mean(1)

    series = nn.Sequential(nn.Conv1d(4, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(5, 3))
    for net, layer, shape in ((Tokens(), "act", (4, 3, 2)), (series, "1", (4, 9))):
        handle = handle_of(randomised(net).double(), shape)
        assert handle.layers[layer].n_components == 5
        x = batch(1, shape)
        maps, pooled, _ = concept_maps(handle, x, everything(handle, layer))
        whole = explain(handle, x, record=[layer])
        torch.testing.assert_close(maps.sum(0), heat(whole.relevance)[0], rtol=1e-9, atol=1e-12)
        assert pooled.shape == (5,)
        for index, one in enumerate(maps):
            alone = explain(handle, x, given=[f"{layer}/{index}"])
            torch.testing.assert_close(one, heat(alone.relevance)[0], rtol=1e-9, atol=1e-12)


def test_concept_maps_are_asked_for_one_layer_and_one_sample(vgg):
    with pytest.raises(BadValueError, match="one layer; got components of 2"):
        concept_maps(vgg, batch(1), ["6/0", "2/0"])
    with pytest.raises(BadValueError, match="one sample at a time; got 2"):
        concept_maps(vgg, batch(2), ["6/0"])
    with pytest.raises(BadValueError, match="not a gradient method"):
        concept_maps(vgg, batch(1), ["6/0"], rule="gradient")


def test_what_does_not_exist_is_refused(vgg):
    for given, message in (
        ("6/unit/7", 'No component 7 in "6"'),
        ("6/head/0", 'No basis "head"'),
        ("44/unit/0", 'No layer "44"'),
        ("6", "not the address of a component"),
    ):
        with pytest.raises(UnknownComponentError if "layer" not in message else KeyError, match=message):
            explain(vgg, batch(1), given=given)


# --- targets -------------------------------------------------------------------------------------------------------


def test_a_component_s_own_activation_can_be_explained(vgg):
    x = batch(2)
    found = explain(vgg, x, "component:6/unit/3", record=["2", "6"])
    torch.testing.assert_close(found.start.score, found.activations["6"][:, 3].sum((1, 2)))
    assert found.layers["6"][:, [0, 1, 2, 4, 5, 6]].abs().max() == 0
    torch.testing.assert_close(found.layers["6"][:, 3], found.activations["6"][:, 3])
    assert found.start.index.tolist() == [-1, -1]
    with pytest.raises(RuleError, match='reaches "10"'):
        explain(vgg, x, "component:6/unit/3", record=["10"])


def test_a_region_of_a_dense_prediction_can_be_explained():
    net = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.Conv2d(5, 4, 1, bias=False))
    handle = handle_of(randomised(net).double(), (3, 6, 5))
    x, region = batch(2, (3, 6, 5)), torch.zeros(6, 5)
    region[1:3, 2:4] = 1
    from workbench.attribution.base import Target

    found = explain(handle, x, Target.mask(region, 2), record=["1"])
    out = handle(x)
    torch.testing.assert_close(found.start.score, out[:, 2, 1:3, 2:4].sum((1, 2)))
    parts = torch.zeros_like(found.relevance)
    for y, z in ((1, 2), (1, 3), (2, 2), (2, 3)):
        one = torch.zeros(6, 5)
        one[y, z] = 1
        parts += explain(handle, x, Target.mask(one, 2)).relevance
    torch.testing.assert_close(found.relevance, parts, rtol=1e-9, atol=1e-12)
    assert found.layers["1"][:, :, 4:].abs().max() == 0


def test_the_name_of_a_rule_is_readable():
    assert rule_name("gradient") == "gradient" and rule_name(composite("Epsilon")) == "Epsilon"
    assert rule_name(zennit.composites.EpsilonPlus()) == "EpsilonPlus (zennit)"
    assert "with biases" in rule_name(composite("Epsilon", zero_bias=False))
    assert isinstance(composite("Epsilon"), Composite)


# --- the user's model is left alone ----------------------------------------------------------------------------------


def state_of(module):
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "_state_dict_hooks")
    return {
        "keys": list(module.state_dict()),
        "values": {k: v.clone() for k, v in module.state_dict().items()},
        "gradient": [(n, p.requires_grad, p.grad is None) for n, p in module.named_parameters()],
        "mode": [m.training for m in module.modules()],
        "hooks": [[len(getattr(m, h)) for h in hooks] for m in module.modules()],
        "vars": [sorted(vars(m)) for m in module.modules()],
        "inplace": [getattr(m, "inplace", None) for m in module.modules()],
    }


def assert_same(before, after):
    for key, value in before.items():
        if key == "values":
            assert all(torch.equal(value[k], after[key][k]) for k in value)
        else:
            assert value == after[key], key


class _Fragile(nn.Module):
    """Raises in the middle of a forward or of a backward pass when told to."""

    def __init__(self):
        super().__init__()
        self.first, self.bn = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)
        self.relu = nn.ReLU(inplace=True)
        self.second, self.head = nn.Conv2d(5, 6, 3), nn.Linear(6, 4)
        self.fails = None

    def forward(self, x):
        x = self.second(self.relu(self.bn(self.first(x))))
        if self.fails == "forward":
            raise ZeroDivisionError("in the middle of a forward pass")
        if self.fails == "backward" and x.requires_grad:
            x.register_hook(self._raise)
        return self.head(x.mean((2, 3)))

    def _raise(self, gradient):
        raise ZeroDivisionError("in the middle of a backward pass")


@pytest.mark.parametrize("rule", ["EpsilonPlusFlat", "zennit", "gradient"])
@pytest.mark.parametrize("fails", [None, "forward", "backward"])
def test_the_model_is_as_before_whatever_happens(rule, fails):
    module = randomised(_Fragile()).train()
    module.first.weight.requires_grad_(False)
    chosen = zennit.composites.EpsilonPlus() if rule == "zennit" else rule
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = copy.deepcopy(module).eval()(x)
    before = state_of(module)
    handle = handle_of(module, (3, 8, 8))
    own = state_of(handle.module)
    handle.module.fails = fails
    for _ in range(2):
        if fails is None:
            explain(handle, x, rule=chosen, record=["relu"], given=["second/0"])
        else:
            with pytest.raises(ZeroDivisionError):
                explain(handle, x, rule=chosen, record=["relu"], given=["second/0"])
            if rule == "EpsilonPlusFlat":
                with pytest.raises(ZeroDivisionError):
                    concept_maps(handle, x[:1], ["relu/0", "relu/1"], rule=chosen)
    assert_same(before, state_of(module))
    handle.module.fails = None
    assert_same(own, state_of(handle.module))
    with torch.no_grad():
        torch.testing.assert_close(handle(x), expected, rtol=1e-4, atol=1e-5)
        assert torch.equal(copy.deepcopy(module).eval()(x), expected)
    explain(handle, x, rule=chosen, record=["relu"])


def test_an_overwritten_layer_is_refused_as_a_start():
    class Overwriting(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.conv(x).relu_().mean((2, 3)))

    handle = handle_of(randomised(Overwriting()), (3, 5, 5))
    with pytest.raises(ModelError, match="overwritten in place"):
        concept_maps(handle, torch.randn(1, 3, 5, 5), ["conv/0"], "component:conv/unit/0")
