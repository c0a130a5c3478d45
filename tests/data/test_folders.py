import os
import pickle
import shutil
import threading
import time
import zipfile

import numpy as np
import pytest
from PIL import Image

from workbench.core.errors import BadValueError, DataError
from workbench.data import FolderData, Transform, load

SMALL = Transform(size=8, mean=(0,), std=(1,))
WIDE = Transform(size=8, crop="squash")


def picture(shade=100, size=(12, 10)):
    pixels = np.full((size[1], size[0], 3), shade, np.uint8)
    pixels[:, size[0] // 2 :] = np.random.default_rng(shade).integers(0, 256, (size[1], size[0] - size[0] // 2, 3))
    return Image.fromarray(pixels)


def put(path, image=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    (image or picture()).save(path, **options)
    return path


@pytest.fixture
def animals(tmp_path):
    root = tmp_path / "animals"
    for number in (10, 2, 1):
        put(root / "cat" / f"{number}.png", picture(number))
    put(root / "Dog" / "a.jpg", picture(40))
    put(root / "Dog" / "puppies" / "young" / "b.JPG", picture(50), format="JPEG")
    put(root / "eel" / "x.webp", picture(60))
    put(root / "stray.png", picture(70))
    (root / "cat" / "notes.txt").write_text("no picture")
    put(root / ".hidden" / "x.png")
    put(root / "__MACOSX" / "x.png")
    (root / "cat" / "._1.png").write_bytes(b"junk")
    return root


def zipped(folder, target):
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*"), reverse=True):
            archive.write(path, path.relative_to(folder).as_posix())
    return target


KEYS = ["cat/1.png", "cat/2.png", "cat/10.png", "Dog/a.jpg", "Dog/puppies/young/b.JPG", "eel/x.webp", "stray.png"]


def test_class_folders_in_natural_order(animals):
    data = load(animals, transform=SMALL)
    assert data.keys == KEYS and data.classes == ("cat", "Dog", "eel") and data.name == "animals"
    assert data.labels.tolist() == [0, 0, 0, 1, 1, 2, -1] and data.origins.tolist() == list(range(7))
    x, read, skipped = data.batch(range(7))
    assert x.shape == (7, 3, 8, 8) and not skipped
    assert data.masks(0) == {}


def test_zip_is_the_same_and_is_not_unpacked(animals, tmp_path):
    folder, archive = load(str(animals)), load(zipped(animals, tmp_path / "animals.zip"))
    assert archive.keys == folder.keys and archive.classes == folder.classes and archive.name == "animals"
    assert all((archive.tensor(i) == folder.tensor(i)).all() for i in range(7))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["animals", "animals.zip"]
    copy = pickle.loads(pickle.dumps(archive))
    assert (copy.tensor(3) == folder.tensor(3)).all()


def test_zip_is_read_from_several_threads(tmp_path):
    for i in range(24):
        put(tmp_path / "many" / f"{i}.png", picture(i))
    data = load(zipped(tmp_path / "many", tmp_path / "many.zip"), transform=SMALL)
    expected, wrong = data.batch(range(24))[0], []

    def work():
        for _ in range(8):
            x, _, skipped = data.batch(range(24))
            wrong.extend(skipped if not skipped and (x == expected).all() else [1])

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_zip_is_read_after_a_fork(animals, tmp_path):
    from torch.utils.data import DataLoader

    data = load(zipped(animals, tmp_path / "animals.zip"), transform=SMALL)

    class Wrapped:
        def __len__(self):
            return 7

        def __getitem__(self, i):
            return data.tensor(i)

    got = list(DataLoader(Wrapped(), batch_size=None, num_workers=2, multiprocessing_context="fork"))
    assert all((x == data.tensor(i)).all() for i, x in enumerate(got))


def test_flat_folder_is_unlabelled_and_one_outer_folder_is_skipped(tmp_path):
    put(tmp_path / "flat" / "b.png")
    put(tmp_path / "flat" / "a.png")
    data = load(tmp_path / "flat")
    assert data.keys == ["a.png", "b.png"] and data.classes == () and data.labels.tolist() == [-1, -1]
    for name in ("cat", "dog"):
        put(tmp_path / "outer" / "inner" / name / "1.png")
    assert load(tmp_path / "outer").classes == ("cat", "dog")


def test_splits_are_no_classes(tmp_path):
    for split, names in {"train": "abc", "test": "ab"}.items():
        for name in names:
            put(tmp_path / "set" / split / name / "1.png")
    both = load(tmp_path / "set")
    assert both.classes == ("a", "b", "c") and len(both) == 5 and both.keys[0] == "test/a/1.png"
    train = load(tmp_path / "set", split="train")
    assert train.keys == ["train/a/1.png", "train/b/1.png", "train/c/1.png"] and train.labels.tolist() == [0, 1, 2]
    with pytest.raises(BadValueError, match="It has test, train"):
        load(tmp_path / "set", split="val")
    with pytest.raises(BadValueError, match="no such folders"):
        load(tmp_path / "set" / "train" / "a", split="train")


def test_markup_in_names_stays_plain_text(tmp_path):
    name, file = "<img src=x onerror=alert(1)>", "a&amp;<b>.png"
    put(tmp_path / "set" / name / file)
    put(tmp_path / "set" / "plain" / "x.png")
    data = load(tmp_path / "set")
    assert data.classes == (name, "plain") and data.item(0).key == f"{name}/{file}"


def test_bad_pictures_cost_only_themselves_and_are_named(animals):
    whole = (animals / "cat" / "2.png").read_bytes()
    (animals / "cat" / "2.png").write_bytes(whole[: len(whole) // 2])
    (animals / "eel" / "x.webp").write_text("<html>404</html>")
    (animals / "eel" / "nothing.png").write_bytes(b"")
    os.symlink(animals / "gone.png", animals / "eel" / "link.png")
    data = load(animals, transform=SMALL)
    x, read, skipped = data.batch(range(len(data)))
    assert [s.key for s in skipped] == ["cat/2.png", "eel/link.png", "eel/nothing.png", "eel/x.webp"]
    assert len(read) == len(x) == 5
    with pytest.raises(DataError, match=r'sample 1 \("cat/2\.png"\) cannot be read.*truncated'):
        data.item(1)
    assert data.fingerprint == load(animals, transform=SMALL).fingerprint


def test_picture_that_is_deleted_later_is_skipped(animals):
    data = load(animals, transform=SMALL)
    (animals / "cat" / "1.png").unlink()
    assert [s.sample for s in data.batch([0, 1])[2]] == [0]


def test_modes_and_one_pixel(tmp_path):
    put(tmp_path / "set" / "grey.png", picture().convert("L"))
    put(tmp_path / "set" / "alpha.png", Image.new("RGBA", (9, 9), (0, 0, 0, 0)))
    put(tmp_path / "set" / "cmyk.jpg", picture().convert("CMYK"))
    put(tmp_path / "set" / "one.png", Image.new("RGB", (1, 1), (255, 0, 0)))
    put(tmp_path / "set" / "deep.png", Image.fromarray(np.full((9, 9), 65535, np.uint16)))
    x, read, skipped = load(tmp_path / "set").batch(range(5))
    assert x.shape == (5, 3, 224, 224) and not skipped
    white, black = (load(tmp_path / "set", background=b).picture(0).mean() for b in ("white", "black"))
    assert (white, black) == (255, 0)


def test_empty_folders_and_files_are_explained(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="it is empty"):
        load(tmp_path / "empty")
    (tmp_path / "empty" / "readme.txt").write_text("x")
    with pytest.raises(DataError, match="none of its 1 files"):
        load(tmp_path / "empty")
    with pytest.raises(DataError, match="none of its 1 files"):
        load(zipped(tmp_path / "empty", tmp_path / "empty.zip"))
    with pytest.raises(DataError, match="neither a folder nor a zip"):
        load(tmp_path / "empty" / "readme.txt")
    (tmp_path / "torn.zip").write_bytes((tmp_path / "empty.zip").read_bytes()[:40])
    with pytest.raises(DataError, match="damaged zip"):
        load(tmp_path / "torn.zip")
    with pytest.raises(DataError, match="single picture"):
        load(put(tmp_path / "one.png"))
    with pytest.raises(DataError, match="There is no .*Give a folder"):
        load(tmp_path / "nowhere")
    with pytest.raises(BadValueError, match="no option colour"):
        load(tmp_path / "empty", colour="white")


def test_damaged_member_of_a_zip_is_skipped(animals, tmp_path):
    archive = zipped(animals, tmp_path / "animals.zip")
    with zipfile.ZipFile(archive) as opened:
        start = opened.getinfo("cat/2.png").header_offset + 60
    content = bytearray(archive.read_bytes())
    content[start : start + 40] = b"\0" * 40
    archive.write_bytes(content)
    assert [s.key for s in load(archive, transform=SMALL).batch(range(7))[2]] == ["cat/2.png"]


def test_fingerprint_notices_files(animals, tmp_path):
    before = load(animals, transform=SMALL).fingerprint
    assert load(animals, transform=SMALL).fingerprint == before
    shutil.copytree(animals, tmp_path / "moved" / "animals")
    assert load(tmp_path / "moved" / "animals", transform=SMALL).fingerprint == before  # times are kept
    assert load(animals).fingerprint != before
    assert load(animals, transform=SMALL, background="black").fingerprint == before
    time.sleep(0.01)
    put(animals / "cat" / "10.png", picture(11))
    assert load(animals, transform=SMALL).fingerprint != before
    archive = load(zipped(animals, tmp_path / "a.zip"), transform=SMALL).fingerprint
    (animals / "cat" / "1.png").rename(animals / "cat" / "3.png")
    assert load(zipped(animals, tmp_path / "a.zip"), transform=SMALL).fingerprint != archive


def masked(root, place):
    """Write a mask of the right half for `cat/1.jpg` under the given pattern."""
    mask = np.zeros((10, 12), np.uint8)
    mask[:, 6:] = 255
    put(root / place, Image.fromarray(mask))


@pytest.mark.parametrize("place", ["_masks/cat/{}.png", "cat/_masks/{}.png", "cat_masks/{}.png"])
def test_masks_beside_the_pictures(tmp_path, place):
    root = tmp_path / "set"
    for name in ("1", "2"):
        put(root / "cat" / f"{name}.jpg")
    put(root / "dog" / "1.jpg")
    masked(root, place.format("1"))
    masked(root, place.format("1.ear"))
    data = FolderData(root, transform=WIDE)
    assert len(data) == 3 and data.classes == ("cat", "dog")
    assert sorted(data.masks(0)) == ["ear", "object"] and data.masks(1) == {} == data.masks(2)
    assert np.array_equal(data.masks(0)["object"], np.arange(8)[None].repeat(8, 0) >= 4)


def test_masks_in_a_folder_of_their_own(tmp_path):
    root = tmp_path / "set"
    put(root / "cat" / "1.jpg")
    masked(tmp_path / "truth", "cat/1.png")
    assert load(root, transform=SMALL, masks=tmp_path / "truth").masks(0)["object"].any()
    masked(root, "truth/cat/1.png")  # also below the pictures, where they are then no class
    data = load(root, transform=WIDE, masks=root / "truth")
    assert data.classes == ("cat",) and len(data) == 1 and data.masks(0)["object"].sum() == 32
    with pytest.raises(DataError, match=r"called cat/7\.png"):
        put(tmp_path / "other" / "x.png")
        load(root, masks=tmp_path / "other")
    put(tmp_path / "truth" / "cat" / "1.png", Image.new("L", (12, 3)))
    with pytest.raises(DataError, match="does not fit"):
        load(root, masks=tmp_path / "truth").masks(0)


def test_link_in_a_circle_ends(animals):
    os.symlink(animals, animals / "cat" / "again")
    assert load(animals).keys == KEYS


def test_transform_of_the_user(animals):
    from torchvision import transforms as T

    data = load(animals, transform=T.Compose([T.Resize((5, 6)), T.ToTensor()]))
    assert data.tensor(0).shape == (3, 5, 6) and data.picture(0).shape == (5, 6, 3)
    with pytest.raises(DataError, match="two different inputs"):
        _ = load(animals, transform=T.Compose([T.RandomResizedCrop(5), T.ToTensor()])).fingerprint


def test_real_photographs(extra_data):
    path = extra_data / "imagenet-sample-800.zip"
    if not path.exists():
        pytest.skip("no imagenet-sample-800.zip in WORKBENCH_DATA")
    data = load(path)
    assert len(data) == 800 == len(data.classes)
    x, read, skipped = data.batch(range(0, 800, 40))
    assert x.shape == (20, 3, 224, 224) and not skipped


def test_real_thumbnails_with_splits(extra_data):
    path = extra_data / "cifar10.zip"
    if not path.exists():
        pytest.skip("no cifar10.zip in WORKBENCH_DATA")
    data = load(path, split="test", transform=Transform(size=32))
    assert len(data) == 5000 and data.classes[0] == "airplane" and len(data.classes) == 10
    assert np.bincount(data.labels).tolist() == [500] * 10 and data.batch(range(0, 5000, 100))[0].shape[0] == 50


def test_change_behind_an_open_set_is_noticed(animals, tmp_path):
    folder, archive = load(animals, transform=SMALL), load(zipped(animals, tmp_path / "a.zip"), transform=SMALL)
    before = folder.fingerprint, archive.fingerprint
    assert before == (folder.using(SMALL).fingerprint, archive.using(SMALL).fingerprint)
    put(animals / "Dog" / "puppies" / "young" / "b.JPG", picture(99), format="JPEG")
    (tmp_path / "a.zip").unlink()
    zipped(animals, tmp_path / "a.zip")
    after = folder.using(SMALL).fingerprint, archive.using(SMALL).fingerprint
    assert before[0] != after[0] and before[1] != after[1]
