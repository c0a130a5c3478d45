from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from workbench.core.errors import BadValueError, MissingPackageError
from workbench.data import Transform, load, packaged

needs_photos = pytest.mark.skipif(
    not all(find_spec(p) for p in ("skimage", "sklearn", "foolbox")),
    reason="not all packages with photographs are there",
)
needs_stamps = pytest.mark.skipif(
    not Path("/usr/share/tuxpaint/stamps").is_dir(), reason="tuxpaint-stamps-default is not installed"
)


@needs_photos
def test_photos_are_many_views_of_real_photographs():
    photos = load("photos")
    assert len(photos) >= 1000 and photos.n_origins == 38 and len(set(photos.keys)) == len(photos)
    assert len(photos.classes) == 1000 and photos.origins.tolist() == sorted(photos.origins.tolist())
    wholes = [int(np.flatnonzero(photos.origins == k)[0]) for k in range(photos.n_origins)]
    sizes = {photos.item(i).image.size for i in wholes}
    assert (451, 300) in sizes and (640, 427) in sizes
    x, read, skipped = photos.batch(range(0, len(photos), 25))
    assert x.shape[1:] == (3, 224, 224) and not skipped and len(read) == len(x)
    assert all(min(photos.item(i).image.size) >= 96 for i in range(0, len(photos), 7))


@needs_photos
def test_photos_are_labelled_where_the_file_says_so_and_enough_is_seen():
    photos = load("photos")
    labelled = np.flatnonzero(photos.labels >= 0)
    assert all("imagenet" in photos.keys[i] for i in labelled)
    first = photos.keys.index("foolbox/imagenet_00_243#0,0,512,512")
    assert photos.classes[photos.item(first).label] == "bull mastiff"
    assert len(np.unique(photos.origins[labelled])) == 20
    small = [i for i in range(30) if photos.item(i).image.width < 300]
    assert small and (photos.labels[small] == -1).all()


@needs_photos
def test_photos_are_chosen_evenly_and_repeatably():
    some = load("photos", n=100)
    counts = np.bincount(some.origins, minlength=38)
    assert len(some) == 100 and counts.min() >= 2 and counts.max() <= 3
    assert some.keys == load("photos", n=100).keys and some.fingerprint == load("photos", n=100).fingerprint
    assert set(some.keys) <= set(load("photos").keys)
    assert some.fingerprint not in (load("photos", n=99).fingerprint, load("photos", n=100, seed=1).fingerprint)
    wholes = load("photos", n=38)
    assert np.bincount(wholes.origins).tolist() == [1] * 38 and (451, 300) in {
        wholes.item(i).image.size for i in range(38)
    }
    assert len(np.unique(load("photos", n=12).origins)) == 12
    assert len(load("photos", n=10**6)) == len(load("photos"))
    with pytest.raises(BadValueError):
        load("photos", n=0)


def test_photos_without_any_package_say_what_to_install(monkeypatch):
    monkeypatch.setattr(packaged, "_PHOTOS", {"no_such_wheel": ("data", "x.png")})
    monkeypatch.setattr(packaged, "_INSTALL", {"no_such_wheel": "pip install no-such-wheel"})
    with pytest.raises(MissingPackageError, match="pip install no-such-wheel"):
        load("photos")


@needs_stamps
def test_stamps_have_masks_captions_and_categories():
    stamps = load("stamps", transform=Transform(size=224, resize_short=256))
    assert len(stamps) > 400 and "animals" in stamps.classes and "symbols" not in stamps.classes
    assert len(stamps.captions) == len(stamps) and stamps.captions[0] == "A frog."
    for i in range(0, len(stamps), 40):
        item, mask = stamps.item(i), stamps.masks(i)["object"]
        assert item.image.size == (256, 256) and mask.shape == (224, 224) and 0 < mask.mean() < 0.8
        # The usual centre crop cuts nothing off.
        assert not (mask[0].any() or mask[-1].any() or mask[:, 0].any() or mask[:, -1].any())


@needs_stamps
def test_stamps_can_lie_on_several_backgrounds():
    few = load("stamps", n=20, views=3)
    assert len(few) == 20 and few.n_origins == 20  # other stamps before other views
    many = load("stamps", n=900, views=2)
    assert len(many) == 900 and many.n_origins > 400
    twice = load("stamps", views=2)
    assert twice.origins[:4].tolist() == [0, 0, 1, 1]
    assert not np.array_equal(np.asarray(twice.item(0).image), np.asarray(twice.item(1).image))
    assert np.array_equal(np.asarray(twice.item(0).image), np.asarray(load("stamps").item(0).image))


def drawn(root, name, *, caption="", size=80):
    path = root / f"{name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGBA", (size, size), (0, 0, 0, 0))
    image.paste((250, 0, 0, 255), (20, 10, 60, 70))
    image.save(path)
    if caption:
        path.with_suffix(".txt").write_text(f"{caption}\nde.utf8=Ein Ding\n", encoding="utf-8")


def test_stamps_from_a_folder_of_ones_own(tmp_path, monkeypatch):
    drawn(tmp_path, "animals/cat", caption="A <b>cat</b>.")
    drawn(tmp_path, "animals/cat_mirror")
    drawn(tmp_path, "symbols/arrow")
    drawn(tmp_path, "town/red-house")
    drawn(tmp_path, "town/tiny", size=30)
    (tmp_path / "town" / "torn.png").write_bytes(b"\x89PNG torn")
    monkeypatch.setenv("WORKBENCH_STAMPS", str(tmp_path))
    stamps = load("stamps", size=100, transform=Transform(size=100, interpolation="nearest"))
    assert stamps.keys == ["animals/cat#0", "town/red-house#0", "town/torn#0"]
    assert stamps.captions == ["A <b>cat</b>.", "red house", "torn"] and stamps.classes == ("animals", "town")
    mask = stamps.masks(0)["object"]
    seen = stamps.picture(0)
    assert (seen[mask] == (250, 0, 0)).all(-1).mean() > 0.95 and not (seen[~mask] == (250, 0, 0)).all(-1).any()
    assert [s.key for s in stamps.batch(range(3))[2]] == ["town/torn#0"]
    assert stamps.fingerprint == load("stamps", size=100, transform=stamps.transform, path=tmp_path).fingerprint


def test_missing_stamps_say_what_to_install(tmp_path):
    with pytest.raises(MissingPackageError, match="apt-get install tuxpaint-stamps-default"):
        load("stamps", path=tmp_path / "none")
