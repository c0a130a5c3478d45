"""The layers of a model: order, shape, which axis holds the components, and messages that lead on."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from workbench.core.errors import ModelError, UnknownComponentError, UnknownLayerError
from workbench.models.layers import probe
from workbench.testing.nets import Residual, Twice


def table_of(module, *shape):
    return probe(module.eval(), torch.randn(2, *shape), name="net")[0]


def facts(table):
    return {name: (one.kind, one.shape, one.axis, one.n_components, one.position_shape) for name, one in table.items()}


def test_layers_are_listed_in_the_order_in_which_they_end():
    table = table_of(Residual(), 3, 10, 8)
    names = list(table)
    assert names[:3] == ["stem", "stem_bn", "relu_stem"] and names[-1] == "head"
    assert names.index("b2_bn") < names.index("side") < names.index("relu_b")
    assert [table[n].order for n in names] == sorted(table[n].order for n in names)
    net = nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), nn.Linear(4, 2))
    assert list(table_of(net, 3)) == ["0.0", "0.1", "0", "1"]
    assert [one.is_leaf for one in table_of(net, 3).values()] == [True, True, False, True]


def test_maps_vectors_and_volumes():
    net = nn.Sequential(nn.Conv3d(2, 5, 3), nn.Flatten(2), nn.Flatten(), nn.Linear(5 * 8, 7))
    assert facts(table_of(net, 2, 4, 4, 4)) == {
        "0": ("Conv3d", (5, 2, 2, 2), 1, 5, (2, 2, 2)),
        "1": ("Flatten", (5, 8), 1, 5, (8,)),
        "2": ("Flatten", (40,), 1, 40, ()),
        "3": ("Linear", (7,), 1, 7, ()),
    }


def test_series_have_their_channels_first():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.relu = nn.Conv1d(4, 4, 3, padding=1), nn.ReLU()

        def forward(self, x):
            return self.relu(self.conv(x) + x)

    net = nn.Sequential(nn.Conv1d(3, 4, 3), nn.ReLU(), Block(), Block(), nn.AdaptiveMaxPool1d(1), nn.Flatten())
    table = table_of(net, 3, 16)
    assert {one.axis for one in table.values()} == {1}
    assert table["2.relu"].n_components == table["3"].n_components == 4
    assert table["2.relu"].position_shape == (14,)


def test_tokens_have_their_components_last():
    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.patches = nn.Conv2d(3, 6, 4, stride=4)
            self.norm, self.attention = nn.LayerNorm(6), nn.MultiheadAttention(6, 2, batch_first=True)
            self.act, self.drop, self.head = nn.GELU(), nn.Dropout(), nn.Linear(6, 3)

        def forward(self, x):
            x = self.norm(self.patches(x).flatten(2).transpose(1, 2))
            x = x + self.attention(x, x, x, need_weights=False)[0]
            return self.head(self.drop(self.act(x)).mean(1))

    table = table_of(Model(), 3, 8, 12)
    assert facts(table)["patches"] == ("Conv2d", (6, 2, 3), 1, 6, (2, 3))
    for name in ("norm", "act", "drop"):
        assert facts(table)[name][1:] == ((6, 6), -1, 6, (6,))
    assert table["attention"].axis == -1


def test_maps_with_channels_last():
    import torchvision

    table = table_of(torchvision.models.swin_t(weights=None), 3, 64, 64)
    assert table["features.0.0"].axis == 1
    for name in ("features.0.1", "features.1.0", "features.1.0.mlp.1", "features.3", "features.7", "norm"):
        one = table[name]
        assert (one.axis, one.n_components) == (-1, one.shape[-1]), name
    assert table["permute"].axis == 1 and table["permute"].n_components == 768


def test_convnext_changes_its_mind_inside_of_a_block():
    import timm

    table = table_of(timm.create_model("convnext_atto", conv_mlp=False), 3, 64, 64)
    assert (table["stages.1.blocks.0.conv_dw"].axis, table["stages.1.blocks.0.norm"].axis) == (1, -1)
    assert (table["stages.1.blocks.0.mlp.act"].axis, table["stages.1.blocks.0"].axis, table["stages.1"].axis) == (
        -1,
        1,
        1,
    )
    assert table["stages.1"].n_components == 80 and table["stages.1.blocks.0.mlp.act"].n_components == 320


def test_components_first():
    table = table_of(nn.Sequential(nn.Conv2d(3, 5, 3), nn.ReLU()), 3, 5, 6)
    t = torch.randn(2, 5, 3, 4)
    assert torch.equal(table["0"].components_first(t), t.reshape(2, 5, 12))
    tokens = table_of(nn.Sequential(nn.Linear(4, 6)), 5, 4)["0"]
    t = torch.randn(2, 5, 6)
    assert torch.equal(tokens.components_first(t), t.transpose(1, 2))
    vector = table_of(nn.Sequential(nn.Linear(4, 6)), 4)["0"]
    assert vector.components_first(torch.randn(2, 6)).shape == (2, 6, 1)


def test_calls_are_counted():
    layers, calls, output = probe(Twice().eval(), torch.randn(2, 3, 7, 6))
    assert calls == {"first": 1, "again": 2, "head": 1} and output.shape == (2, 5)
    assert layers["again"].n_calls == 2
    with pytest.raises(ModelError, match='"again" runs 2 times in one forward pass') as error:
        layers.usable("again")
    assert "module of its own" in error.value.hint
    assert layers.linear() == ["first", "head"]


def test_messages_name_what_is_near():
    table = table_of(Residual(), 3, 10, 8)
    with pytest.raises(UnknownLayerError, match='No layer "relu_" in net') as error:
        table["relu_"]
    assert '"relu_' in error.value.hint and f"lists all {len(table)}" in error.value.hint
    with pytest.raises(UnknownComponentError, match='No component 6 in "stem"') as error:
        table.component("stem/unit/6")
    assert "It has 6, from 0" in error.value.hint
    assert str(table.component("stem/5")) == "stem/unit/5"
    assert "stem" in table and "steam" not in table and len(table) == len(list(table))


def test_an_input_of_the_wrong_size_is_explained():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 9, 2))
    with pytest.raises(ModelError, match=r"of net fails on an input of shape \(2, 3, 8, 8\).*\. G") as error:
        table_of(net, 3, 8, 8)
    assert "transform=" in error.value.hint and isinstance(error.value.__cause__, RuntimeError)
    assert not any(m._forward_hooks for m in net.modules())


def test_the_table_is_shown_with_markup_escaped():
    net = nn.Sequential()
    net.add_module("<b>", nn.Linear(3, 4))
    table = table_of(net, 3)
    assert "&lt;b&gt;" in table._repr_html_() and "<b>" not in table._repr_html_()
    frame = table.to_frame()
    assert frame.loc["<b>", "components"] == 4 and frame.loc["<b>", "kind"] == "Linear"
    assert "1 layers of net" in repr(table)


def test_a_model_of_two_inputs_is_told_to_be_wrapped():
    class Two(nn.Module):
        def forward(self, x, y):
            return x + y

    with pytest.raises(ModelError, match=r"positional argument: 'y'\. Wrap the model"):
        probe(Two(), torch.zeros(2, 3, 8, 8))
