import numpy as np
import pytest
import torch

from workbench.attribution.lrp import rule_table
from workbench.attribution.rules import composite
from workbench.core.errors import BadValueError
from workbench.data.part_world import PartWorld
from workbench.models.birds import BirdEfficientNet, BirdResNet, BirdVGG, BirdViT
from workbench.models.card import Card
from workbench.models.handle import ModelHandle
from workbench.testing.nets import randomised

NETS = {
    "vgg": BirdVGG,
    "vgg-bn": lambda n: BirdVGG(n, batch_norm=True),
    "resnet": BirdResNet,
    "efficientnet": BirdEfficientNet,
    "efficientnet-relu": lambda n: BirdEfficientNet(n, activation="relu"),
    "efficientnet-se": lambda n: BirdEfficientNet(n, squeeze=True),
    "vit": BirdViT,
}
FOLDED = {
    "vgg": 0,
    "vgg-bn": 7,
    "resnet": 13,
    "efficientnet": 17,
    "efficientnet-relu": 17,
    "efficientnet-se": 17,
    "vit": 0,
}


@pytest.mark.parametrize("name", NETS)
def test_small_networks_with_an_output_per_class(name):
    model = NETS[name](7).eval()
    x = torch.randn(3, 3, 64, 64)
    out = model(x)
    assert out.shape == (3, 7) and torch.isfinite(out).all()
    torch.testing.assert_close(model(x[[2, 0]]), out[[2, 0]])
    assert sum(p.numel() for p in model.parameters()) < 1_000_000
    model.train()(x).sum().backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("name", NETS)
def test_canonizers_and_rules_know_them(name):
    """Each batch norm is folded, the output stays the same, and only pools and the transformer keep gradients."""
    source = randomised(NETS[name](5)).eval()
    handle = ModelHandle(source, Card(name, PartWorld(1).transform))
    assert sum(isinstance(m, torch.nn.BatchNorm2d) for m in source.modules()) == FOLDED[name]
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in handle.module.modules())
    x = torch.randn(4, 3, 64, 64)
    expected = source(x)
    torch.testing.assert_close(handle.module(x), expected, rtol=1e-3, atol=1e-3 * float(expected.detach().abs().max()))
    fallbacks = rule_table(handle, composite("EpsilonPlusFlat")).fallbacks
    if name.startswith(("resnet", "efficientnet")):
        assert fallbacks == (["mul() outside modules"] if name == "efficientnet-se" else [])
    if name.startswith("vgg"):
        assert {type(handle.module.get_submodule(f)) for f in fallbacks} == {torch.nn.MaxPool2d}


def test_layers_have_the_names_that_the_documentation_uses():
    names = {net: {name for name, _ in NETS[net](5).named_modules()} for net in NETS}
    convolutions = [n for n, m in BirdVGG().features.named_children() if isinstance(m, torch.nn.Conv2d)]
    assert convolutions == ["0", "3", "5", "8", "10", "13", "15"]
    assert {"layer1.0.conv1", "layer3.1.relu2", "layer2.0.downsample.0", "avgpool", "fc"} <= names["resnet"]
    assert {"blocks.4.conv_pwl", "conv_head", "classifier"} <= names["efficientnet"]
    assert "blocks.0.se.conv_expand" in names["efficientnet-se"] and "blocks.0.se.gate" not in names["efficientnet"]
    assert {"blocks.5.attn.qkv", "blocks.5.mlp.fc2", "norm", "head", "patch_embed.conv2"} <= names["vit"]


def test_attention_is_that_of_torch():
    """A slow twin: torch's own attention with the same weights."""
    model = BirdViT(width=24, depth=1, heads=3)
    own = model.blocks[0].attn
    twin = torch.nn.MultiheadAttention(24, 3, batch_first=True)
    twin.load_state_dict(
        {
            "in_proj_weight": own.qkv.weight,
            "in_proj_bias": own.qkv.bias,
            "out_proj.weight": own.proj.weight,
            "out_proj.bias": own.proj.bias,
        }
    )
    x = torch.randn(2, 11, 24)
    torch.testing.assert_close(own(x), twin(x, x, x, need_weights=False)[0])


def test_options_of_the_transformer():
    assert BirdViT(3, size=32, patch=4)(torch.randn(1, 3, 32, 32)).shape == (1, 3)
    assert BirdViT(size=96, patch=16).pos_embed.shape[1] == 37
    for wrong in ({"patch": 6}, {"patch": 1}, {"patch": 128}, {"size": 60}):
        with pytest.raises(BadValueError, match="patch"):
            BirdViT(**wrong)
    with pytest.raises(BadValueError, match="activation"):
        BirdEfficientNet(activation="swish")


def test_positions_do_not_matter_to_the_convolutions_but_to_the_tokens():
    x = torch.randn(1, 3, 64, 64)
    swapped = x.roll(16, -1)
    vit = randomised(BirdViT()).eval()
    assert not np.allclose(vit(x).detach(), vit(swapped).detach(), atol=1e-4)
