import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode
from torchvision.transforms._presets import ImageClassification

from workbench.core.errors import BadValueError, DataError, ShapeError
from workbench.data.transforms import Transform, as_transform


def noise(width, height, seed=0):
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [(500, 375), (301, 333), (1, 1), (223, 230), (900, 31)])
@pytest.mark.parametrize("mode", ["bicubic", "bilinear"])
def test_equals_torchvision_bit_for_bit(size, mode):
    image = noise(*size)
    preset = ImageClassification(crop_size=96, resize_size=112, interpolation=InterpolationMode(mode))
    ours = Transform(size=96, resize_short=112, interpolation=mode)
    assert torch.equal(ours(image), preset(image))


def test_crop_larger_than_the_scaled_picture_is_padded_with_black():
    image = noise(40, 30)
    preset = T.Compose([T.Resize(20), T.CenterCrop((24, 32)), T.ToTensor()])
    ours = Transform(size=(24, 32), resize_short=20, interpolation="bilinear", mean=(0,), std=(1,))
    assert torch.equal(ours(image), preset(image))


def test_efficientnet_lite_normalisation_is_exact():
    x = Transform(size=7, mean=(127,), std=(128,), scale=1.0)(Image.new("RGB", (9, 8), (255, 127, 0)))
    assert x[:, 3, 3].tolist() == [1.0, 0.0, -127 / 128]


@pytest.mark.parametrize("crop", ["center", "squash", "pad"])
def test_display_undoes_the_normalisation_and_masks_follow_the_picture(crop):
    pixels = np.zeros((61, 97, 3), np.uint8)
    pixels[10:40, 30:70] = 255
    transform = Transform(size=(32, 48), crop=crop, interpolation="nearest")
    seen = transform.display(transform(Image.fromarray(pixels)))
    assert seen.shape == (32, 48, 3) and seen.dtype == np.uint8
    assert np.array_equal(transform.geometry(pixels[..., 0] > 0), seen[..., 0] == 255)


def test_very_long_picture_needs_little_memory():
    x = Transform(size=224, resize_short=256)(Image.new("RGB", (1, 60_000), (255, 0, 0)))
    assert x.shape == (3, 224, 224) and x.std(dim=(1, 2)).max() < 1e-5


def test_grey_transform_gives_one_channel_and_three_for_display():
    transform = Transform(size=10, channels=1, mean=(0.5,), std=(0.5,))
    x = transform(Image.new("RGB", (12, 11), (255, 255, 255)))
    assert x.shape == (1, 10, 10) and transform.display(x).shape == (10, 10, 3)


@pytest.mark.parametrize(
    "options",
    [{"size": 0}, {"size": (1, 2, 3)}, {"crop": "middle"}, {"interpolation": "cubic"}, {"std": (0, 1, 1)},
     {"mean": (1, 2)}, {"scale": 0}, {"channels": 4}, {"resize_short": 2.5}],
)  # fmt: skip
def test_wrong_arguments_are_refused(options):
    with pytest.raises(BadValueError):
        Transform(**options)


def test_wrapped_torchvision_transform_displays_and_moves_masks():
    image = noise(80, 60)
    own = T.Compose([T.Resize(40), T.CenterCrop(32), T.ToTensor(), T.Normalize((0.4, 0.5, 0.6), (0.2, 0.3, 0.1))])
    wrapped = Transform.wrap(own)
    ours = Transform(size=32, resize_short=40, interpolation="bilinear", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.1))
    assert torch.equal(wrapped(image), ours(image))
    assert np.array_equal(wrapped.display(wrapped(image)), ours.display(ours(image)))
    mask = np.asarray(image)[..., 0] > 99
    assert np.array_equal(wrapped.geometry(mask), ours.geometry(mask))
    assert wrapped.input_shape == (3, 32, 32) and wrapped.least is None


def test_plain_function_is_described_alike_in_every_process():
    def halves(image):
        return torch.from_numpy(np.array(image.resize((8, 8)))).permute(2, 0, 1) / 255

    text = str(as_transform(halves).describe())
    assert "halves" in text and "0x" not in text
    assert as_transform(halves).display(as_transform(halves)(noise(9, 9))).shape == (8, 8, 3)
    with pytest.raises(DataError, match="geometry="):
        as_transform(halves).geometry(np.ones((9, 9), bool))
    doubled = Transform.wrap(halves, geometry=lambda mask: mask[:8, :8])
    assert doubled.geometry(np.ones((9, 9), bool)).shape == (8, 8)


@pytest.mark.parametrize(
    ("function", "error"),
    [(lambda image: image, DataError), (lambda image: torch.zeros(3, 4, 4, dtype=torch.uint8), DataError),
     (lambda image: torch.zeros(2, 3, 4, 4), ShapeError)],
)  # fmt: skip
def test_transform_that_gives_no_input_is_explained(function, error):
    with pytest.raises(error):
        as_transform(function)(noise(4, 4))


def test_something_else_is_no_transform():
    with pytest.raises(BadValueError, match="function of a picture"):
        as_transform("resize")
