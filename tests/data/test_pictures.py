import io

import numpy as np
import pytest
from PIL import Image

from workbench.core.errors import BadValueError, DataError
from workbench.data.pictures import as_colour, open_rgb, read_mask, to_rgb


def stored(image, format="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    buffer.seek(0)
    return buffer


def ramp(width=13, height=7):
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 19, y * 36, (x + y) * 13], -1).astype(np.uint8)


def test_rgb_comes_back_as_it_is():
    assert np.array_equal(np.asarray(open_rgb(stored(Image.fromarray(ramp())))), ramp())


def test_grey_is_repeated():
    for mode in ("L", "1"):
        image = open_rgb(stored(Image.fromarray(ramp()).convert(mode)))
        assert image.mode == "RGB" and np.ptp(np.asarray(image), axis=-1).max() == 0


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_shows_the_background(mode):
    image = Image.fromarray(ramp()).convert(mode)
    image.putalpha(0)
    assert np.asarray(open_rgb(stored(image))).min() == 255
    assert (np.asarray(open_rgb(stored(image), background=(10, 20, 30)))[3, 3] == (10, 20, 30)).all()
    image.putalpha(255)
    opaque = open_rgb(stored(image), background=(10, 20, 30))
    assert np.array_equal(np.asarray(opaque), np.asarray(image.convert("RGB")))


def test_palette_with_and_without_a_transparent_colour():
    palette = Image.new("P", (6, 5), 1)
    palette.putpalette([0, 0, 0, 200, 100, 50])
    palette.putpixel((2, 2), 0)
    assert np.asarray(open_rgb(stored(palette)))[0, 0].tolist() == [200, 100, 50]
    seen = np.asarray(open_rgb(stored(palette, transparency=0)))
    assert seen[2, 2].tolist() == [255, 255, 255] and seen[0, 0].tolist() == [200, 100, 50]
    seen = np.asarray(open_rgb(stored(palette, transparency=bytes([0, 255]))))
    assert seen[2, 2].tolist() == [255, 255, 255] and seen[0, 0].tolist() == [200, 100, 50]
    colour = Image.new("RGB", (4, 4), (1, 2, 3))
    assert np.asarray(open_rgb(stored(colour, transparency=(1, 2, 3)))).min() == 255


def test_cmyk_is_converted():
    image = open_rgb(stored(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    red = np.asarray(image)[4, 4]
    assert image.mode == "RGB" and red[0] > 200 and red[1] < 60


def test_sixteen_bits_are_scaled_and_not_clipped():
    deep = (np.arange(35).reshape(5, 7) * 1800).astype(np.uint16)
    for image in (Image.fromarray(deep), Image.fromarray(deep.astype(np.int32))):
        seen = np.asarray(open_rgb(stored(image, "TIFF")))[..., 0]
        assert np.array_equal(seen, np.round(deep / 257).astype(np.uint8))
    floats = Image.fromarray(np.linspace(0, 1, 35, dtype=np.float32).reshape(5, 7))
    assert np.asarray(open_rgb(stored(floats, "TIFF"))).max() == 255
    with pytest.raises(ValueError, match="black and white"):
        to_rgb(Image.fromarray(np.full((2, 2), -3.0, np.float32)))
    with pytest.raises(ValueError, match="NaN"):
        to_rgb(Image.fromarray(np.full((2, 2), np.nan, np.float32)))


def test_orientation_is_followed():
    exif = Image.Exif()
    exif[0x0112] = 6  # lies on its right side
    image = open_rgb(stored(Image.fromarray(ramp()), exif=exif))
    assert image.size == (7, 13) and np.array_equal(np.asarray(image), np.rot90(ramp(), -1))


def test_one_pixel():
    assert open_rgb(stored(Image.new("L", (1, 1), 7))).getpixel((0, 0)) == (7, 7, 7)


def test_large_jpeg_is_decoded_small_and_always_alike():
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (20, 30, 3), dtype=np.uint8)).resize((1200, 800))
    file = stored(coarse, "JPEG", quality=95).getvalue()
    small = open_rgb(io.BytesIO(file), least=(200, 200))
    assert small.size == (300, 200) and open_rgb(io.BytesIO(file)).size == (1200, 800)
    assert open_rgb(io.BytesIO(file), least=(500, 500)).size == (1200, 800)  # a half would be too small
    assert np.array_equal(np.asarray(small), np.asarray(open_rgb(io.BytesIO(file), least=(200, 200))))
    full = np.asarray(open_rgb(io.BytesIO(file)).resize((300, 200), Image.Resampling.BOX)).astype(int)
    assert np.abs(np.asarray(small).astype(int) - full).mean() < 2
    exif = Image.Exif()
    exif[0x0112] = 6
    tall = open_rgb(stored(coarse, "JPEG", exif=exif), least=(100, 300))
    assert tall.size[0] >= 100 and tall.size[1] >= 300 and tall.size[0] < tall.size[1]


@pytest.mark.parametrize("kind", ["torn", "text", "empty"])
def test_what_is_no_picture_raises(kind):
    whole = stored(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))).getvalue()
    content = {"torn": whole[: len(whole) // 2], "text": b"<b>not a picture</b>", "empty": b""}[kind]
    with pytest.raises((OSError, SyntaxError, ValueError)):
        open_rgb(io.BytesIO(content))


def test_masks_of_all_kinds():
    truth = np.zeros((7, 13), bool)
    truth[2:5, 3:9] = True
    size = (13, 7)
    for top in (1, 255):
        assert np.array_equal(read_mask(stored(Image.fromarray((truth * top).astype(np.uint8))), size), truth)
    assert np.array_equal(read_mask(stored(Image.fromarray(truth)), size), truth)
    palette = Image.new("P", size)
    palette.putdata(truth.ravel().astype(int).tolist())
    assert np.array_equal(read_mask(stored(palette), size), truth)
    cut = Image.new("RGBA", size, (9, 9, 9, 0))
    cut.paste((9, 9, 9, 255), (3, 2, 9, 5))
    assert np.array_equal(read_mask(stored(cut), size), truth)
    assert np.array_equal(read_mask(stored(Image.fromarray((truth * 60000).astype(np.uint16))), size), truth)
    assert not read_mask(stored(Image.new("L", size)), size).any()
    double = read_mask(stored(Image.fromarray((truth * 255).astype(np.uint8))), (26, 14))
    assert np.array_equal(double, truth.repeat(2, 0).repeat(2, 1))
    with pytest.raises(DataError, match="does not fit"):
        read_mask(stored(Image.new("L", (13, 13))), size)


def test_colours():
    assert as_colour("white") == (255, 255, 255) and as_colour("#010203") == (1, 2, 3) == as_colour([1, 2, 3])
    for wrong in ("whitish", (1, 2), (1, 2, 300), 5):
        with pytest.raises(BadValueError):
            as_colour(wrong)
