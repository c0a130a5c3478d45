"""Batch norm is folded where that is right, stays where it is not, and the output is the same either way."""

from __future__ import annotations

import itertools
import threading

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parametrizations

from workbench.core.errors import ModelError
from workbench.models.canonize import canonical_copy, private_copy
from workbench.testing.nets import Residual, randomised, small_vgg


def timm_model(name):
    import timm

    return timm.create_model(name, pretrained=False, num_classes=7)


def torchvision_model(name, **options):
    import torchvision

    return torchvision.models.get_model(name, weights=None, **options)


def vgg11_features():
    from torchvision.models.vgg import cfgs, make_layers

    return make_layers(cfgs["A"], batch_norm=True)


class Named(nn.Module):
    """Modules from keywords, in that order; `run` says how they are used."""

    def __init__(self, run, **modules):
        super().__init__()
        self.run = run
        for name, module in modules.items():
            setattr(self, name, module)

    def forward(self, x):
        return self.run(self, x)


def checked(net, x, n_folded, n_norms, *, tolerance=1e-5):
    """The copy and its folds; the output is the same, the original untouched."""
    net = randomised(net).to(x.dtype)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    with torch.no_grad():
        expected = net(x)
    assert sum(isinstance(m, _BatchNorm) for m in net.modules()) == n_norms
    twin, folded = canonical_copy(net, x)
    assert len(folded) == n_folded
    assert sum(isinstance(m, _BatchNorm) for m in twin.modules()) == n_norms - n_folded
    with torch.no_grad():
        found = twin(x)
        again = twin(torch.cat([x, x.flip(0) * 2])[:3])[:2]
    for a, b in ((found, expected), (again, expected)):
        assert (a - b).abs().max() <= tolerance * expected.abs().max()
    after = net.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[k], before[k]) for k in before)
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in [*net.modules(), *twin.modules()])
    return twin, folded


NETS = {
    "small vgg": (small_vgg, (3, 17, 13), 2, 2),
    "residual": (Residual, (3, 10, 8), 6, 6),
    "torchvision vgg11_bn": (lambda: vgg11_features(), (3, 32, 32), 8, 8),
    "torchvision resnet18": (lambda: torchvision_model("resnet18"), (3, 48, 40), 20, 20),
    "torchvision mobilenet_v3": (lambda: torchvision_model("mobilenet_v3_small"), (3, 48, 40), 34, 34),
    "torchvision densenet": (lambda: torchvision_model("densenet121"), (3, 32, 32), 59, 121),
    "torchvision googlenet": (
        lambda: torchvision_model("googlenet", init_weights=False, aux_logits=False), (3, 48, 40), 57, 57,
    ),
    "timm efficientnet": (lambda: timm_model("tf_efficientnet_lite0"), (3, 48, 40), 49, 49),
    "timm resnet18": (lambda: timm_model("resnet18"), (3, 48, 40), 20, 20),
    "timm convnext": (lambda: timm_model("convnext_atto"), (3, 32, 32), 0, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_the_output_stays(name):
    build, shape, n_folded, n_norms = NETS[name]
    checked(build(), torch.randn(2, *shape, generator=torch.Generator().manual_seed(0)), n_folded, n_norms)


LAYERS = {
    "conv 1d": (nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), (3, 9)),
    "conv 2d": (nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4), (3, 6, 5)),
    "conv 3d": (nn.Conv3d(2, 3, 2), nn.BatchNorm3d(3), (2, 3, 4, 3)),
    "grouped": (nn.Conv2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), (4, 5, 4)),
    "transposed": (nn.ConvTranspose2d(3, 5, 3, stride=2), nn.BatchNorm2d(5), (3, 4, 3)),
    "transposed, grouped": (nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), nn.BatchNorm2d(6), (4, 4, 3)),
    "transposed 1d": (nn.ConvTranspose1d(3, 5, 3, bias=False), nn.BatchNorm1d(5), (3, 6)),
    "dense": (nn.Linear(5, 4), nn.BatchNorm1d(4), (5,)),
    "dense without bias": (nn.Linear(5, 4, bias=False), nn.BatchNorm1d(4), (5,)),
    "norm without affine": (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=False), (3, 6, 5)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_a_fold_is_the_formula(name):
    layer, norm, shape = LAYERS[name]
    if norm.affine:
        net = nn.Sequential(layer, norm)
    else:
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        net = nn.Sequential(layer, norm)
        net.eval()
    x = torch.randn(2, *shape, dtype=torch.float64)
    net = randomised(net).double() if norm.affine else net.double()
    twin, folded = canonical_copy(net, x)
    assert folded == [("0", "1")] and type(twin[1]) is nn.Identity
    with torch.no_grad():
        torch.testing.assert_close(twin(x), net(x), rtol=1e-12, atol=1e-13)
    scale = (norm.running_var + norm.eps).rsqrt() * (1 if norm.weight is None else norm.weight.detach())
    bias = (0 if layer.bias is None else layer.bias.detach() - norm.running_mean) * scale
    bias = bias + (0 if norm.bias is None else norm.bias.detach())
    bias = bias - (norm.running_mean * scale if layer.bias is None else 0)
    torch.testing.assert_close(twin[0].bias, bias, rtol=1e-12, atol=1e-13)
    for out in range(len(scale)):  # channel by channel, as the layer itself sees them
        if isinstance(layer, nn.ConvTranspose2d):
            per = 6 // layer.groups if layer.groups > 1 else 5
            rows = slice((out // per) * layer.weight.shape[0] // layer.groups, None)
            rows = slice(rows.start, rows.start + layer.weight.shape[0] // layer.groups)
            pair = twin[0].weight[rows, out % per], layer.weight[rows, out % per]
        elif isinstance(layer, nn.ConvTranspose1d):
            pair = twin[0].weight[:, out], layer.weight[:, out]
        else:
            pair = twin[0].weight[out], layer.weight[out]
        torch.testing.assert_close(pair[0], pair[1].detach() * scale[out], rtol=1e-12, atol=1e-13)


def test_the_order_of_registration_does_not_matter():
    parts = {
        "bn_b": nn.BatchNorm2d(5),
        "conv_a": nn.Conv2d(3, 4, 3),
        "conv_b": nn.Conv2d(4, 5, 3),
        "bn_a": nn.BatchNorm2d(4),
    }

    def run(net, x):
        return net.bn_b(net.conv_b(F.relu(net.bn_a(net.conv_a(x))))).mean((2, 3))

    for order in itertools.permutations(parts):
        net = Named(run, **{name: parts[name] for name in order})
        _, folded = checked(net, torch.randn(2, 3, 8, 7), 2, 2)
        assert folded == [("conv_a", "bn_a"), ("conv_b", "bn_b")]


STAYS = {
    "the output is used by another module": lambda n, x: (y := n.conv(x), n.bn(y) + n.other(y))[1],
    "the output is used by a function": lambda n, x: (y := n.conv(x), n.bn(y) + torch.tanh(y))[1],
    "the output is used by an operator": lambda n, x: (y := n.conv(x), n.bn(y) + y)[1],
    "the output is used after the norm": lambda n, x: (y := n.conv(x), z := n.bn(y), F.relu(z) - y)[2],
    "the output is joined to the norm's": lambda n, x: (y := n.conv(x), torch.cat([n.bn(y), y], 1))[1],
    "a tiny part of it is used elsewhere": lambda n, x: (y := n.conv(x), n.bn(y) + 1e-6 * y.mean())[1],
    "the convolution runs twice": lambda n, x: n.bn(n.conv(x)) + n.conv(x * 2),
    "the norm runs twice": lambda n, x: n.bn(n.conv(x)) + n.bn(n.other(x)),
    "something lies between": lambda n, x: n.bn(F.relu(n.conv(x))),
    "the norm comes first": lambda n, x: n.conv(n.bn(x)),
    "the norm sees a view": lambda n, x: n.bn(n.conv(x).flip(2)),
    "the weight is used by itself": lambda n, x: n.bn(n.conv(x)) + F.conv2d(x, n.conv.weight, padding=1),
}


@pytest.mark.parametrize("name", STAYS)
def test_the_norm_stays_where_folding_is_wrong(name):
    net = Named(STAYS[name], conv=nn.Conv2d(4, 4, 3, padding=1), bn=nn.BatchNorm2d(4), other=nn.Conv2d(4, 4, 1))
    checked(net, torch.randn(2, 4, 6, 5), 0, 1, tolerance=1e-6)


def test_one_wrong_fold_does_not_cost_the_right_ones():
    def run(net, x):
        x = F.relu(net.bn_a(net.a(x)))
        x = F.relu(net.bn_b(net.b(x)) + F.conv2d(x, net.b.weight))
        return net.bn_c(net.c(x)).mean((2, 3))

    convs = {name: nn.Conv2d(4, 4, 1) for name in "abc"}
    norms = {f"bn_{name}": nn.BatchNorm2d(4) for name in "abc"}
    twin, folded = checked(Named(run, **convs, **norms), torch.randn(2, 4, 6, 5), 2, 3)
    assert folded == [("a", "bn_a"), ("c", "bn_c")] and isinstance(twin.bn_b, nn.BatchNorm2d)


def test_size_and_shape_are_no_use():
    def run(net, x):
        y = net.conv(x)
        assert y.shape[1] == 4 and y.dim() == 4 and y.size(0) == len(y)
        return net.bn(y)

    checked(Named(run, conv=nn.Conv2d(4, 4, 3), bn=nn.BatchNorm2d(4)), torch.randn(2, 4, 6, 5), 1, 1)


def test_an_identity_between_does_not_matter():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Identity(), nn.BatchNorm2d(4), nn.ReLU())
    checked(net, torch.randn(2, 3, 6, 5), 1, 1)


def test_norms_without_statistics_stay():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)).eval()
    x = torch.randn(2, 3, 6, 5)
    twin, folded = canonical_copy(net, x)
    assert folded == []
    assert torch.equal(twin(x), net(x))


def test_dense_layers_on_tokens_are_no_place_to_fold():
    net = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6))
    checked(net, torch.randn(2, 6, 5), 0, 1)


def test_an_output_that_is_all_zero_does_not_hinder():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4 * 4 * 3, 2, bias=False))
    randomised(net)
    nn.init.zeros_(net[3].weight)
    twin, folded = canonical_copy(net, torch.randn(2, 3, 6, 5))
    assert folded == [("0", "1")] and twin(torch.randn(1, 3, 6, 5)).tolist() == [[0, 0]]


def test_timm_s_norms_become_their_activation():
    net = timm_model("tf_efficientnet_lite0")
    twin, folded = checked(net, torch.randn(2, 3, 48, 40), 49, 49)
    assert isinstance(twin.bn2, nn.ReLU6) and isinstance(twin.get_submodule("blocks.0.0.bn2"), nn.Identity)
    assert ("conv_head", "bn2") in folded


def test_a_copy_runs_nothing_in_place_and_keeps_its_own_mode():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Dropout(inplace=True)).train()
    twin = private_copy(net)
    assert not any(m.training for m in twin.modules()) and all(m.training for m in net.modules())
    assert [getattr(m, "inplace", None) for m in twin] == [None, False, False]
    assert net[1].inplace and net[2].inplace
    assert not any(p.requires_grad for p in twin.parameters()) and all(p.requires_grad for p in net.parameters())


@pytest.mark.parametrize("how", [parametrizations.weight_norm, parametrizations.spectral_norm])
def test_parametrised_weights_become_plain(how):
    net = nn.Sequential(how(nn.Conv2d(3, 4, 3)), nn.BatchNorm2d(4), nn.Flatten(), how(nn.Linear(4 * 4 * 3, 2))).eval()
    x = torch.randn(2, 3, 6, 5)
    keys = list(net.state_dict())
    twin, folded = canonical_copy(net, x)
    assert folded == [("0", "1")] and type(twin[0]) is nn.Conv2d and type(twin[3]) is nn.Linear
    assert isinstance(twin[3].weight, nn.Parameter)
    torch.testing.assert_close(twin(x), net(x), rtol=1e-4, atol=1e-5)
    assert list(net.state_dict()) == keys


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_torchscript_is_refused_with_advice():
    net = nn.Sequential(torch.jit.trace(small_vgg().eval(), torch.randn(1, 3, 17, 13)))
    with pytest.raises(ModelError, match="compiled to TorchScript") as error:
        private_copy(net)
    assert "made from" in error.value.hint


def test_a_model_that_cannot_be_copied_is_refused_with_advice():
    net = nn.Sequential(nn.Linear(3, 2))
    net.lock = threading.Lock()
    with pytest.raises(ModelError, match="Sequential cannot be copied") as error:
        private_copy(net)
    assert "function that builds the model" in error.value.hint
    assert error.value.__cause__ is not None
