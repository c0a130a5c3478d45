import struct

import numpy as np
import pytest
from PIL import Image

from workbench.core.errors import BadValueError, DataError, UnknownNameError
from workbench.data import Transform, load


def test_imagenette_is_read_where_it_lies(tmp_path):
    from torchvision.datasets import Imagenette

    for split in ("train", "val"):
        for number, wnid in enumerate(Imagenette._WNID_TO_CLASS):
            folder = tmp_path / "imagenette2-160" / split / wnid
            folder.mkdir(parents=True)
            Image.new("RGB", (20, 16), (number * 20, 0, 0)).save(folder / f"{split}_{number}.JPEG")
    data = load("torchvision:Imagenette", root=tmp_path, size="160px", split="val", transform=Transform(size=8))
    assert len(data) == 10 and data.classes[0] == "tench" and sorted(data.labels.tolist()) == list(range(10))
    assert data.keys[0].endswith(".JPEG") and data.name == "torchvision:Imagenette:val:160px"
    assert data.batch(range(10))[0].shape == (10, 3, 8, 8)


def test_nothing_is_downloaded_unasked_and_size_and_licence_are_said(tmp_path):
    with pytest.raises(DataError, match=r"1\.6 GB.*Apache-2\.0.*wb\.data\.load.*download=True") as caught:
        load("torchvision:Imagenette", root=tmp_path / "none")
    assert str(tmp_path / "none") in str(caught.value) and not (tmp_path / "none").exists()


def idx(array):
    """Write an array in the format of MNIST's files."""
    return struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes()


def test_sets_with_a_train_switch_and_grey_pictures(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 28, 28), dtype=np.uint8)
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    for name in ("train", "t10k"):
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(pixels))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx(np.array([3, 1, 0, 2], np.uint8)))
    data = load("torchvision:MNIST", root=tmp_path, split="test", transform=Transform(size=28))
    assert data.labels.tolist() == [3, 1, 0, 2] and data.classes[2] == "2 - two" and len(data) == 4
    assert np.array_equal(data.picture(1), pixels[1][..., None].repeat(3, -1))
    assert (
        data.fingerprint == load("torchvision:MNIST", root=tmp_path, split="test", transform=data.transform).fingerprint
    )


def test_wrong_names_and_options_are_helped(tmp_path):
    with pytest.raises(UnknownNameError, match='"Imagenette"'):
        load("torchvision:Imagenet1")
    with pytest.raises(BadValueError, match="one size"):
        load("torchvision:CIFAR10", root=tmp_path, size="160px")
    with pytest.raises(BadValueError, match="no split"):
        load("torchvision:CIFAR10", root=tmp_path, split="unlabeled")
    with pytest.raises(BadValueError, match="no option sizes"):
        load("torchvision:CIFAR10", sizes=3)
