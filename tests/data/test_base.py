import threading

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms as T

from workbench.core.errors import BadValueError, DataError, UnknownNameError, UnknownSampleError
from workbench.data import Dataset, Transform, load


class Shades(Dataset):
    """Grey pictures whose shade is the sample's number; number 3 cannot be read."""

    def __init__(self, n=11, broken=(3,), keys=None, **options):
        super().__init__("shades", keys=keys or [f"shade-{i}" for i in range(n)], **options)
        self.broken = set(broken)

    def _read(self, i, least):
        if i in self.broken:
            raise OSError("image file is truncated")
        pixels = np.full((6, 9, 3), i * 10, np.uint8)
        pixels[:, 6:] = 200  # the mirrored picture differs
        return Image.fromarray(pixels)

    def _masks(self, i):
        return {"object": np.arange(9)[None].repeat(6, 0) < 3}


SMALL = Transform(size=4, mean=(0,), std=(1,), interpolation="nearest")


def test_items_labels_and_origins_have_defaults():
    data = Shades(transform=SMALL)
    assert len(data) == 11 and data.labels.tolist() == [-1] * 11 and data.origins.tolist() == list(range(11))
    item = data.item(np.int64(2))
    assert (item.label, item.origin, item.key, item.image.size) == (-1, 2, "shade-2", (9, 6))
    assert data.tensor(2).shape == (3, 4, 4) and data.picture(2).dtype == np.uint8
    assert data.masks(2)["object"].shape == (4, 4) and "11 samples" in repr(data)


def test_a_sheet_shows_many_at_once():
    data = Shades(transform=SMALL)
    sheet = np.asarray(data.sheet(range(7), columns=3, gap=1))
    assert sheet.shape == (3 * 5 + 1, 3 * 5 + 1, 3) and (sheet[0] == 255).all()
    for place in range(7):
        row, column = divmod(place, 3)
        tile = sheet[1 + 5 * row : 5 + 5 * row, 1 + 5 * column : 5 + 5 * column]
        assert np.array_equal(tile, data.picture(place) if place != 3 else np.full((4, 4, 3), 255))
    assert data.sheet().size == (8 * 6 + 2, 2 * 6 + 2) and data.sheet([4], columns=8).size == (8, 8)
    assert data.sheet([3]).size == (5, 5) and data.sheet([]).size == (5, 5), "nothing to show is a white picture"
    with pytest.raises(UnknownSampleError):
        data.sheet([11])
    with pytest.raises(BadValueError, match="columns"):
        data.sheet(columns=0)


@pytest.mark.parametrize("wrong", [11, -1, 2.0, True, "2", None])
def test_wrong_sample_is_explained(wrong):
    with pytest.raises(UnknownSampleError, match="It has 11"):
        Shades(transform=SMALL).item(wrong)


def test_unreadable_picture_costs_only_itself():
    data = Shades(transform=SMALL, broken=(3, 5))
    x, read, skipped = data.batch([5, 4, 3, 0])
    assert x.shape == (2, 3, 4, 4) and read == [4, 0] and x[1].max() == x.new_tensor(200 / 255)
    assert [s.sample for s in skipped] == [5, 3] and "truncated" in skipped[0].reason and "shade-5" in str(skipped[0])
    assert str(skipped[0]).count("shade-5") == 1, "the file is named once"
    with pytest.raises(DataError, match="shade-3.*truncated"):
        data.tensor(3)
    assert data.batch([3])[1:] == ([], data.batch([3])[2])
    with pytest.raises(UnknownSampleError):
        data.batch([0, 99])


def test_failing_transform_nan_and_odd_shape_are_skipped_with_their_reason():
    def odd(image):
        shade = np.asarray(image)[0, 0, 0] // 10
        if shade == 1:
            raise RuntimeError("no ones")
        return torch.full((3, 4, 5 if shade == 2 else 4), float("nan") if shade == 4 else 1.0)

    x, read, skipped = Shades(transform=odd).batch(range(6))
    assert read == [0, 5] and len(x) == 2
    assert [s.sample for s in skipped] == [1, 2, 3, 4]
    assert [word in s.reason for word, s in zip(["no ones", "shape", "read", "NaN"], skipped, strict=True)] == [
        True
    ] * 4


def test_batch_works_on_other_threads():
    data = Shades(n=12, broken=(), transform=SMALL)
    expected, results = data.batch(range(12))[0], {}

    def work(name):
        results[name] = [data.batch(range(12))[0] for _ in range(5)]

    threads = [threading.Thread(target=work, args=(k,)) for k in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(x, expected) for found in results.values() for x in found) and len(results) == 3


def test_fingerprint_notices_what_matters():
    base = Shades(transform=SMALL, classes=["a", "b"], labels=[0, 1] * 5 + [0])
    again = Shades(transform=SMALL, classes=["a", "b"], labels=[0, 1] * 5 + [0])
    assert base.fingerprint == again.fingerprint and base.fingerprint is base.fingerprint
    keys = list(base.keys)
    others = {
        "transform": base.using(Transform(size=4, mean=(0,), std=(1,), interpolation="bilinear")),
        "order": Shades(transform=SMALL, classes=["a", "b"], labels=[0, 1] * 5 + [0], keys=keys[::-1]),
        "labels": Shades(transform=SMALL, classes=["a", "b"], labels=[1, 0] * 5 + [0]),
        "names of classes": Shades(transform=SMALL, classes=["a", "c"], labels=[0, 1] * 5 + [0]),
        "origins": Shades(transform=SMALL, classes=["a", "b"], labels=[0, 1] * 5 + [0], origins=[0] * 11),
        "fewer": Shades(n=10, transform=SMALL, classes=["a", "b"], labels=[0, 1] * 5),
        "a damaged picture": Shades(transform=SMALL, classes=["a", "b"], labels=[0, 1] * 5 + [0], broken=(0, 3)),
    }
    prints = {name: data.fingerprint for name, data in others.items()}
    assert base.fingerprint not in prints.values() and len(set(prints.values())) == len(prints)


def test_transform_that_changes_behind_one_name_is_noticed_by_the_probes():
    class Own:
        def __init__(self, factor):
            self.factor = factor

        def __call__(self, image):
            return torch.from_numpy(np.array(image)).permute(2, 0, 1) * self.factor

    assert Shades(transform=Own(0.5)).fingerprint == Shades(transform=Own(0.5)).fingerprint
    assert Shades(transform=Own(0.5)).fingerprint != Shades(transform=Own(0.25)).fingerprint


@pytest.mark.parametrize(
    "random",
    [T.RandomHorizontalFlip(0.5), T.RandomHorizontalFlip(0.01), T.ColorJitter(0.4),
     T.Lambda(lambda image: image if np.random.default_rng().random() < 0.5 else image.rotate(180))],
)  # fmt: skip
def test_random_transform_is_refused(random):
    with pytest.raises(DataError, match="two different inputs"):
        _ = Shades(transform=T.Compose([random, T.ToTensor()]), broken=()).fingerprint


def test_using_leaves_the_first_alone():
    data = Shades(transform=SMALL)
    other = data.using(Transform(size=5))
    assert data.tensor(0).shape[-1] == 4 and other.tensor(0).shape[-1] == 5 and other.fingerprint != data.fingerprint


def test_construction_is_checked():
    with pytest.raises(DataError, match="empty"):
        Shades(n=0, keys=[])
    with pytest.raises(BadValueError, match="one number for each of the 11"):
        Shades(labels=[1, 2])
    with pytest.raises(DataError, match="names only 1"):
        Shades(labels=[1] * 11, classes=["a"])


def test_load_explains_wrong_names_paths_and_options(tmp_path):
    with pytest.raises(UnknownNameError, match='Nearest: "toy"'):
        load("toys")
    with pytest.raises(DataError, match="There is no .*Give a folder"):
        load(tmp_path / "nothing")
    with pytest.raises(DataError, match="There is no"):
        load("./no/such/folder")
    with pytest.raises(BadValueError, match="no option splitt"):
        load("toy", splitt="test")
    with pytest.raises(DataError, match="int is no data set"):
        load(3)
    data = Shades(transform=SMALL)
    assert load(data) is data and load(data, transform=Transform(size=5)).tensor(0).shape[-1] == 5
    with pytest.raises(BadValueError, match="takes no n"):
        load(data, n=3)


def test_a_set_of_which_nothing_can_be_read_is_an_error(tmp_path):
    for i in range(12):
        (tmp_path / f"{i}.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"None of the 12 samples of .* The first: .*sample 0 .*cannot be read"):
        _ = load(tmp_path).fingerprint
    # One readable picture is enough, wherever it lies; the sweep counts the others.
    Image.new("RGB", (8, 8)).save(tmp_path / "3.png")
    assert load(tmp_path).fingerprint


def test_a_loader_is_told_to_pass_its_data_set():
    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.zeros(4, 3, 8, 8)))
    with pytest.raises(DataError, match=r"DataLoader is no data set\. Pass its \.dataset: TensorDataset"):
        load(loader)
