"""`open_session` takes names, modules, builders and one's own data, and says clearly what it cannot take."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision import transforms as T

import workbench as wb
from workbench.attribution.rules import composite
from workbench.core.errors import BadValueError, DataError, ModelError, NotFiniteError, UnknownNameError
from workbench.data import Transform
from workbench.data.torch_data import TorchData
from workbench.testing.small import CLASSES, SMALL, Listed, small_data, small_net

TINY = Transform(size=32, resize_short=32)


def test_the_signature_is_the_promised_one():
    text = str(inspect.signature(wb.open_session))
    names = re.findall(r"(\w+): ", text)
    assert names == ["model", "data", "transform", "classes", "store", "device", "device_budget_gb"]
    assert text.startswith("(model: 'Any', data: 'Any' = None, *,")
    defaults = {n: p.default for n, p in inspect.signature(wb.open_session).parameters.items()}
    assert (defaults["device"], defaults["device_budget_gb"], defaults["store"]) == ("auto", None, None)


@pytest.fixture
def folder(tmp_path):
    """Class folders with pictures of three kinds."""
    for i, picture in enumerate(Listed(8).pictures):
        path = tmp_path / "pictures" / ("a & b", "<i>c</i>")[i % 2].replace("/", "_") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).convert(("RGB", "L", "RGBA")[i % 3]).save(path)
    return tmp_path / "pictures"


def works(s, layer, *, n=8):
    """One turn through the house, and a check that all of it is there."""
    s.sweep(layer, samples=min(n, len(s.data)))
    found = s.explain(0)
    assert found.heatmap.shape == (1, *s.model.card.input_shape[1:]) and found.heatmap.isfinite().all()
    assert s.references(layer, "relevance", k=2).ids.shape == (s.layers()[layer].n_components, 2)
    assert len(s.predict(0, 2)) == min(2, s.model.n_classes)
    s.close()


def test_a_module_with_transform_and_class_names(open_small, folder):
    module = small_net()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    module.train()
    s = open_small(module, folder)
    assert s.data.transform == SMALL and s.class_names() == CLASSES and s.data.labels.tolist() == [0] * 4 + [1] * 4
    works(s, "relu_b")
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in module.modules())
    assert all(p.requires_grad for p in module.parameters())


@pytest.mark.parametrize("name", ["torchvision:resnet18:random", "timm:resnet18:random"])
def test_names_with_random_weights(tmp_path, folder, name):
    pytest.importorskip(name.split(":")[0])
    s = wb.open_session(name, data=folder, transform=TINY, store=tmp_path / "store")
    assert s.model.n_classes == 1000 and name.split(":")[1] in repr(s)
    works(s, "layer2.0", n=2)


def test_ready_inputs_of_another_size_set_the_shapes_of_layers(open_small):
    class Positions(nn.Module):
        """Nine maps, each bright where the input is; stored peaks must lead back to there."""

        def __init__(self):
            super().__init__()
            self.relu, self.head = nn.ReLU(), nn.Linear(3, 4)

        def forward(self, x):
            return self.head(self.relu(x).mean((2, 3)))

    x = torch.zeros(6, 3, 20, 30)
    for i in range(6):
        x[i, :, 3 * i, 4 * i] = 1 + i
    s = open_small(Positions(), list(x))
    assert s.model.card.input_shape == (3, 20, 30) and s.layers()["relu"].position_shape == (20, 30)
    found = s.references("relu", k=2)
    assert found.ids[0].tolist() == [5, 4] and found.shape == (20, 30)
    assert [divmod(int(p), 30) for p in found.peak[0]] == [(15, 20), (12, 16)]


def test_inputs_that_the_model_does_not_take_are_refused_at_once(open_small):
    with pytest.raises(ModelError, match=r"\(2, 1, 12, 12\).*the shape that list gives.*Ready float inputs"):
        open_small(small_net(), list(torch.rand(4, 1, 12, 12)))


@pytest.mark.parametrize("classes", [("a",), tuple("abcde")])
def test_a_wrong_number_of_class_names_is_refused(open_small, classes):
    with pytest.raises(BadValueError, match=f"`classes` names {len(classes)}; Small has 4 outputs"):
        open_small(classes=classes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_worked_on_in_full(open_small, dtype):
    module = small_net().to(dtype)
    s = open_small(module)
    assert s.model.dtype == torch.float32 and next(module.parameters()).dtype == dtype
    whole = open_small(small_net().to(dtype).float())
    assert torch.equal(whole.explain(3).heatmap, s.explain(3).heatmap)
    works(s, "relu_b")


def test_the_box_rule_by_name_takes_its_bounds_from_the_transform(open_small):
    def told(s):
        return s.explain(3, rule="EpsilonGammaBox").heatmap

    s = open_small()
    low, high = s.model.card.transform.bounds
    assert (low, high) == ((-2.0,) * 3, (2.0,) * 3)
    named = s.explain(3, rule=composite("EpsilonGammaBox", low=low, high=high)).heatmap
    assert torch.equal(told(s), named) and float(named.abs().max()) > 0
    steps = [T.Resize((12, 12)), T.ToTensor()]
    plain = open_small(transform=T.Compose(steps))
    assert plain.model.card.transform.bounds == ((0.0,), (1.0,)) and told(plain).isfinite().all()
    wrapped = open_small(transform=T.Compose([*steps, T.Normalize((0.5,) * 3, (0.25,) * 3)]))
    assert wrapped.model.card.transform.bounds == (low, high)
    torch.testing.assert_close(told(wrapped), named)
    with pytest.raises(BadValueError, match=r"does not tell.*composite\(\"EpsilonGammaBox\", low="):
        told(open_small(transform=lambda picture: T.Compose(steps)(picture) * 3))


def test_a_compiled_module_is_opened_as_what_it_was_compiled_from(open_small):
    s = open_small(torch.compile(small_net()))
    assert s.model.card.name == "Small"
    works(s, "relu_b")


def test_a_builder(open_small):
    def mine():
        return small_net()

    s = open_small(mine)
    assert s.model.card.name == "mine"
    works(s, "relu_a")


def test_generated_scenes_bring_the_transform_of_a_module_that_has_none(tmp_path):
    from workbench.models.bird_training import bird_card
    from workbench.models.birds import BirdVGG

    birds, store = wb.data.PartWorld(8, n_classes=3), tmp_path / "store"
    with wb.open_session(BirdVGG(3), data=birds, store=store) as s:
        assert s.data.tensor(0).shape == (3, 64, 64) and s.data.transform == birds.transform
        assert "assumed" not in s.model.card.notes
    other = replace(birds.transform, mean=(0.4,))
    card = replace(bird_card("vgg", birds), transform=other)
    for spec, given in ((lambda: (BirdVGG(3), card), None), (BirdVGG(3), other)):
        with wb.open_session(spec, data=birds, transform=given, store=store) as s:
            assert s.data.transform == other


def test_a_torch_data_set_and_its_transform(tmp_path):
    """A transform of the user's own data set is kept; one that is passed wins; else it is the model's."""
    own = Transform(size=12, resize_short=14, mean=(0.4,), std=(0.3,))
    store = tmp_path / "store"
    kept = wb.open_session(small_net(), data=TorchData(Listed(), transform=own), store=store)
    assert kept.data.transform == own and kept.model.card.input_shape == (3, 12, 12)
    given = wb.open_session(small_net(), data=TorchData(Listed(), transform=own), transform=SMALL, store=store)
    assert given.data.transform == SMALL
    plain = wb.open_session(small_net(), data=Listed(), transform=SMALL, store=store)
    assert plain.data.transform == SMALL and len(plain.data) == 24
    assert not torch.equal(kept.data.tensor(0), given.data.tensor(0))
    assert kept.data.fingerprint.digest != given.data.fingerprint.digest
    for s in (kept, given, plain):
        works(s, "relu_b")


def test_the_same_weights_and_data_are_recognised_and_changes_are_noticed(open_small):
    s, same = open_small(), open_small()
    assert (s.model.fingerprint.digest, s.data.fingerprint.digest) == (
        same.model.fingerprint.digest,
        same.data.fingerprint.digest,
    )
    changed = small_net()
    changed.head.bias.data[0] += 1e-3
    assert open_small(changed).model.fingerprint.digest != s.model.fingerprint.digest
    turned = Listed()
    turned.pictures, turned.targets = turned.pictures[::-1].copy(), turned.targets[::-1]
    other = open_small(data=TorchData(turned, classes=CLASSES, name="small"))
    assert other.data.fingerprint.digest != s.data.fingerprint.digest
    assert open_small(transform=Transform(size=12)).data.fingerprint.digest != s.data.fingerprint.digest


WRAPS = {
    "a tuple": lambda y: (y, None),
    "a mapping": lambda y: {"logits": y, "loss": torch.tensor(0.0)},
}


@pytest.mark.parametrize("name", WRAPS)
def test_outputs_in_a_wrapping(open_small, tmp_path, name):
    s = open_small(small_net(wrap=WRAPS[name]))
    plain = open_small(store=tmp_path / "plain")
    assert torch.equal(s.explain(3).heatmap, plain.explain(3).heatmap)
    works(s, "relu_b")


def test_a_changed_forward_does_not_find_the_results_of_the_one_before(open_small):
    """Text and weights of both are the same; their outputs are not."""
    plain, turned = open_small(), open_small(small_net(wrap=lambda y: -y))
    plain.sweep("relu_b")
    assert not torch.equal(plain.relevances("relu_b").values, turned.relevances("relu_b").values)
    assert not torch.equal(plain.explain(3).heatmap, turned.explain(3).heatmap)


def test_an_output_that_cannot_be_explained(open_small):
    with pytest.raises(ModelError, match="tuple with 2 tensors"):
        open_small(small_net(wrap=lambda y: (y, y + 1)))


@pytest.mark.parametrize("wrap", [None, lambda y: y[:, 0]], ids=["with its axis", "without its axis"])
def test_a_single_output(open_small, wrap):
    s = open_small(small_net(n_classes=1, wrap=wrap), classes=["ill"])
    ((index, name, logit, chance),) = s.predict(3, 5)
    assert (index, name) == (0, "ill") and chance == pytest.approx(1 / (1 + np.exp(-logit)), rel=1e-5)
    assert s.explain(3).labels == ("ill",)
    works(s, "relu_b")


def test_several_labels_at_once(open_small, tmp_path):
    """Labels that are no single class count as unknown; each output is explained by itself."""

    class Several(Listed):
        targets = None

        def __init__(self):
            super().__init__()
            self.labels, self.targets = np.eye(4, dtype=int)[np.arange(24) % 4] | np.eye(4, dtype=int)[0], None

        def __getitem__(self, i):
            return Image.fromarray(self.pictures[i]), torch.tensor(self.labels[i])

    s = open_small(data=Several())
    assert (s.data.labels[[1, 2, 3]] == -1).all()
    assert not torch.equal(s.explain(1, "logit:0").heatmap, s.explain(1, "logit:1").heatmap)
    with pytest.raises(BadValueError, match="label"):
        s.explain(1, "label")
    s.sweep("relu_b", target="logit:2")
    assert (s.relevances("relu_b", target="logit:2").target == 2).all()
    works(s, "relu_b")


WRONG = {
    "a model's name": (dict(model="toy-cn"), UnknownNameError, '"toy-cnn"'),
    "a model without scheme": (dict(model="resnet18"), UnknownNameError, '"torchvision:resnet18"'),
    "a torchvision name": (dict(model="torchvision:resnet19:random"), UnknownNameError, "resnet18"),
    "a timm name": (dict(model="timm:resnet181:random"), UnknownNameError, "resnet18"),
    "a number as model": (dict(model=3), ModelError, "int is no model"),
    "a builder of something else": (dict(model=lambda: 3), ModelError, "returned int"),
    "a data set's name": (dict(data="photo"), UnknownNameError, '"photos"'),
    "a folder": (dict(data="./nowhere/at/all"), DataError, "nowhere"),
    "a number as data": (dict(data=3), DataError, "no data set"),
    "a device": (dict(device="gpu"), BadValueError, '"cuda"'),
}


def test_a_builder_with_arguments_names_them(open_small):
    with pytest.raises(ModelError, match="'Small' needs width.*lambda"):
        open_small(type("Small", (nn.Module,), {"__init__": lambda self, width, depth=2: None}))


def test_a_store_of_another_kind(open_small):
    with pytest.raises(BadValueError, match="A store is a folder; got int"):
        open_small(store=3)


@pytest.mark.parametrize("name", WRONG)
def test_what_does_not_exist(tmp_path, name):
    wrong, kind, message = WRONG[name]
    options = {"model": small_net(), "data": small_data(), "transform": SMALL, "store": tmp_path / "store", **wrong}
    with pytest.raises(kind, match=message):
        wb.open_session(options.pop("model"), **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(open_small):
    with pytest.raises(BadValueError, match='No device "cuda"') as error:
        open_small(device="cuda")
    assert '"cpu"' in error.value.hint
    assert open_small(device="auto").model.device.type in ("cpu", "mps")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite(open_small, value):
    module = small_net()
    module.b.weight.data[1, 2, 0, 0] = value
    with pytest.raises(NotFiniteError, match=r'"b\.weight" of Small'):
        open_small(module)


def test_random_augmentation_is_refused(open_small):
    from torchvision.transforms import v2

    random = v2.Compose([v2.Resize((12, 12)), v2.RandomHorizontalFlip(), v2.ToImage(), v2.ToDtype(torch.float32, True)])
    with pytest.raises(DataError, match="(?i)random"):
        open_small(transform=random).sweep("relu_b")


def test_inputs_of_another_size_say_what_is_wrong(open_small):
    with pytest.raises(ModelError) as error:
        open_small(nn.Sequential(nn.Flatten(), nn.Linear(5, 2)), transform=SMALL)
    assert "(3, 12, 12)" in str(error.value) or "12" in str(error.value)


def test_class_names_are_one_for_each_output(open_small):
    """Names that do not fit would not be shown, and nobody would know why."""
    with pytest.raises(BadValueError, match=f"names 1; Small has {len(CLASSES)} outputs"):
        open_small(classes=["only one"])


def test_what_is_fitted_is_a_method(open_small):
    s = open_small()
    with pytest.raises(BadValueError, match=r"ConceptAtlas is a class.*ConceptAtlas\(layer\)"):
        s.fit(wb.methods.ConceptAtlas)
    with pytest.raises(BadValueError, match="str is no method"):
        s.fit("atlas")


def test_a_path_that_is_not_there_says_what_could_be(open_small, tmp_path):
    with pytest.raises(DataError, match=r"There is no .*none\"\. Give a folder, a \.zip, or one of .*photos") as error:
        open_small(data=tmp_path / "none")
    assert str(error.value).count(str(tmp_path)) == 1
    with pytest.raises(DataError, match=r"looked for at /.*some/where"):
        open_small(data="some/where")


@pytest.mark.parametrize("module", [wb, wb.methods, wb.data, wb.widgets], ids=lambda m: m.__name__)
def test_misspelt_public_names_are_answered_with_the_nearest(module):
    name = next(n for n in module.__all__ if n[0] != "_")
    with pytest.raises(AttributeError, match=f'Nearest: .*"{name}"'):
        getattr(module, name + "s")


def test_arguments_of_the_wrong_kind_are_named(open_small, monkeypatch):
    with pytest.raises(BadValueError, match="`classes` is one text"):
        open_small(classes="abcd")
    with pytest.raises(BadValueError, match="A store is a folder; got int"):
        wb.open_session(small_net(), store=5)
    with pytest.raises(BadValueError, match="list of edits or a fitted correction is needed; got a list with int"):
        open_small().variant("other", [5])
    monkeypatch.setenv("WORKBENCH_STORE_GB", "much")
    with pytest.raises(BadValueError, match="'much', which cannot be read. It is a number of gigabytes"):
        wb.open_session(small_net())
