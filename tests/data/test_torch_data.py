import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data import IterableDataset, Subset, TensorDataset
from torchvision import transforms as T
from torchvision.datasets import FakeData, ImageFolder

from workbench.core.errors import DataError
from workbench.data import TorchData, Transform, load

SMALL = Transform(size=6, mean=(0,), std=(1,), interpolation="nearest")
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 6, 6, 3), dtype=np.uint8)
INPUTS = torch.from_numpy(PIXELS).permute(0, 3, 1, 2) / 255


class Items(TorchDataset):
    """Gives `make(i)` for five samples."""

    def __init__(self, make):
        self.make = make

    def __len__(self):
        return 5

    def __getitem__(self, i):
        return self.make(i)


MAKERS = {
    "picture and label": lambda i: (Image.fromarray(PIXELS[i]), i % 2),
    "array and label": lambda i: (PIXELS[i], torch.tensor(i % 2)),
    "byte tensor and more": lambda i: (torch.from_numpy(PIXELS[i]).permute(2, 0, 1), np.int64(i % 2), "extra"),
    "mapping": lambda i: {"pixel_values": PIXELS[i], "labels": i % 2, "id": f"<b>{i}</b>"},
    "one-hot": lambda i: [PIXELS[i], torch.eye(2)[i % 2]],
    "ready inputs": lambda i: (INPUTS[i], i % 2),
    "ready arrays": lambda i: (PIXELS[i].astype(np.float32) / 255, i % 2),
}


@pytest.mark.parametrize("kind", MAKERS)
def test_items_of_all_kinds_give_the_same_inputs(kind):
    data = load(Items(MAKERS[kind]), transform=SMALL, classes=["even", "odd"])
    assert isinstance(data, TorchData) and data.name == "Items" and len(data) == 5
    x, read, skipped = data.batch(range(5))
    assert torch.allclose(x, INPUTS) and read == [0, 1, 2, 3, 4] and not skipped
    assert data.labels.tolist() == [0, 1, 0, 1, 0] and data.item(3).label == 1
    assert np.array_equal(data.picture(4), PIXELS[4]) and np.array_equal(np.asarray(data.item(4).image), PIXELS[4])
    assert data.fingerprint == load(Items(MAKERS[kind]), transform=SMALL, classes=["even", "odd"]).fingerprint


def test_pictures_alone_have_no_labels():
    data = load(Items(lambda i: Image.fromarray(PIXELS[i])), transform=SMALL)
    assert data.labels.tolist() == [-1] * 5 and data.classes == ()
    assert load([Image.fromarray(p) for p in PIXELS], transform=SMALL).tensor(2).shape == (3, 6, 6)
    assert load(PIXELS, transform=SMALL).tensor(2).shape == (3, 6, 6)


@pytest.mark.parametrize("label", [torch.tensor([1, 1, 0]), [0.2, 0.8], "cat", None, -7])
def test_labels_that_name_no_single_class_are_unknown(label):
    assert load(Items(lambda i: (PIXELS[i], label)), transform=SMALL).labels.tolist() == [-1] * 5


def test_ready_inputs_pass_as_they_are_and_are_displayed_by_the_models_normalisation(caplog):
    normalise = T.Normalize((0.5, 0.4, 0.3), (0.2, 0.25, 0.3))
    own = load(Items(lambda i: normalise(INPUTS[i])))
    model = Transform(size=99, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))
    data = own.using(model)
    assert torch.equal(data.tensor(1), normalise(INPUTS[1])) and np.array_equal(data.picture(1), PIXELS[1])
    assert not caplog.text
    load(Items(lambda i: INPUTS[i])).using(model)
    assert "not normalised again" in caplog.text
    stretched = load(Items(lambda i: INPUTS[i] * 40 - 3), transform=model).picture(0)
    assert (stretched.min(), stretched.max()) == (0, 255)


HELD = {
    "tensors": lambda x: list(x),
    "tensors with labels": lambda x: [(one, 0) for one in x],
    "half-precision tensors": lambda x: list(x.to(torch.bfloat16)),
    "one tensor": lambda x: x,
    "one array": lambda x: x.numpy(),
    "Pillow pictures": lambda x: [Image.fromarray((one[0] * 255).to(torch.uint8).numpy()) for one in x],
}


@pytest.mark.parametrize("kind", HELD)
def test_another_order_of_pictures_in_memory_is_noticed(kind):
    x = torch.rand(200, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    swapped = x.clone()
    swapped[[101, 102]] = x[[102, 101]]
    one, same, other = (load(HELD[kind](v), transform=SMALL) for v in (x, x.clone(), swapped))
    assert one.fingerprint == same.fingerprint != other.fingerprint


def test_another_label_in_a_list_is_noticed():
    pictures = [(PIXELS[0], 0)] * 200
    changed = [*pictures[:101], (PIXELS[0], 1), *pictures[102:]]
    assert load(pictures, transform=SMALL).fingerprint != load(changed, transform=SMALL).fingerprint


def test_another_order_of_samples_without_names_is_noticed():
    class Shuffled(Items):
        def __len__(self):
            return 300

    x = torch.rand(300, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    moved = x[[*range(140), *range(160, 180), *range(140, 160), *range(180, 300)]]  # twenty in the middle change places
    prints = {load(Shuffled(lambda i, v=v: (v[i], 0))).fingerprint.digest for v in (x, moved)}
    assert len(prints) == 2


@pytest.mark.parametrize("place", [0, 9])
def test_the_odd_shape_is_left_out_wherever_it_lies(place):
    odd = [torch.rand(3, 6, 6) for _ in range(9)]
    odd.insert(place, torch.rand(1, 6, 6))
    data = load(odd)
    assert data.input_shape == (3, 6, 6)
    for ids in (range(10), [place, 4], [place]):
        x, read, skipped = data.batch(ids)
        assert read == [i for i in ids if i != place] and [s.sample for s in skipped] == [place]
        assert len(x) == len(read) and "(1, 6, 6), the others (3, 6, 6)" in skipped[0].reason
    assert load([torch.rand(3, 6, 6)], transform=SMALL).using(SMALL).input_shape == (3, 6, 6)


def test_masks_of_mappings():
    def make(i):
        return {"image": PIXELS[i], "label": 0, "mask": torch.from_numpy(PIXELS[i, ..., :1] > 99)}

    assert np.array_equal(load(Items(make), transform=SMALL).masks(2)["object"], PIXELS[2, ..., 0] > 99)
    both = load(Items(lambda i: {"image": INPUTS[i], "masks": {"ear": PIXELS[i, ..., 0], "eye": PIXELS[i, ..., 1]}}))
    assert sorted(both.masks(0)) == ["ear", "eye"] and both.masks(0)["ear"].dtype == bool
    assert load(Items(lambda i: PIXELS[i])).masks(0) == {}


def test_failing_items_cost_only_themselves():
    def make(i):
        if i == 2:
            raise RuntimeError("disk gone")
        return ("text" if i == 3 else PIXELS[i]), 1

    data = load(Items(make), transform=SMALL)
    x, read, skipped = data.batch(range(5))
    assert read == [0, 1, 4] and [s.sample for s in skipped] == [2, 3]
    assert "disk gone" in skipped[0].reason and "str is no picture" in skipped[1].reason
    assert data.labels.tolist() == [1, 1, -1, 1, 1]
    with pytest.raises(DataError, match="looked for under image"):
        load(Items(lambda i: {"foo": 1})).tensor(0)


def test_streams_are_refused():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(PIXELS)

    with pytest.raises(DataError, match="map-style"):
        load(Stream())


def test_random_augmentation_is_refused():
    augment = T.Compose([T.RandomHorizontalFlip(), T.ToTensor()])
    data = load(Items(lambda i: augment(Image.fromarray(PIXELS[i]))))
    with pytest.raises(DataError, match="two different inputs"):
        _ = data.fingerprint
    rare = FakeData(5, (3, 6, 6), 2, transform=T.Compose([T.ToTensor(), T.RandomErasing(0.001)]))
    with pytest.raises(DataError, match="RandomErasing"):
        _ = load(Subset(rare, [0, 1])).fingerprint


def test_tensors_subsets_and_reordering():
    labels = torch.tensor([3, 1, 2, 0, 1])
    data = load(TensorDataset(INPUTS, labels))
    assert data.labels.tolist() == labels.tolist() and torch.equal(data.tensor(2), INPUTS[2])
    part = load(Subset(TensorDataset(INPUTS, labels), [4, 0]))
    assert part.labels.tolist() == [1, 3] and torch.equal(part.tensor(0), INPUTS[4])
    # Forty alike labels, two swapped between the probes: the array itself is part of the fingerprint.
    many = torch.rand(40, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    swapped = many.clone()
    swapped[[2, 3]] = many[[3, 2]]
    assert load(TensorDataset(many)).fingerprint != load(TensorDataset(swapped)).fingerprint
    assert load(TensorDataset(many)).fingerprint == load(TensorDataset(many.clone())).fingerprint


@pytest.mark.parametrize("kind", [list, tuple, np.array, "paths", "records"])
def test_two_samples_that_change_places_are_noticed_whatever_the_set_calls_its_list(kind, tmp_path):
    """A set of one's own keeps what it reads under a name of its own; its probes are alike here."""

    class Mine(Items):
        def __init__(self, order):
            numbers = [f"{tmp_path}/{i}.png" for i in order] if kind == "paths" else list(order)
            if kind == "records":
                numbers = [{"n": i} for i in numbers]
            self.todo = kind(numbers) if callable(kind) else numbers

        def __len__(self):
            return len(self.todo)

        def __getitem__(self, i):
            return PIXELS[0]

    swapped = [0, 1, 3, 2, *range(4, 40)]
    digest = load(Mine(range(40)), transform=SMALL).fingerprint
    assert digest == load(Mine(range(40)), transform=SMALL).fingerprint
    assert digest != load(Mine(swapped), transform=SMALL).fingerprint
    assert load(Subset(Mine(range(40)), [5, 6, 7, 8, 9, 10, 11, 12, 13, 14])).fingerprint.digest not in {
        load(Subset(Mine(range(40)), [5, 6, 7, 8, 10, 9, 11, 12, 13, 14])).fingerprint.digest,
        load(Subset(Mine(swapped), [5, 6, 7, 8, 9, 10, 11, 12, 13, 14])).fingerprint.digest,
    }


def test_where_the_files_of_a_set_lie_does_not_make_it_another(tmp_path):
    class Mine(Items):
        def __init__(self, folder):
            self.files = [folder / f"{i}.png" for i in range(5)]

        def __getitem__(self, i):
            return PIXELS[i]

    assert load(Mine(tmp_path / "a")).fingerprint == load(Mine(tmp_path / "b")).fingerprint


def test_image_folder_keeps_its_classes_labels_and_names(tmp_path):
    for name in ("cat", "<b>dog"):
        (tmp_path / name).mkdir()
        Image.fromarray(PIXELS[0]).save(tmp_path / name / "1.png")
    data = load(ImageFolder(tmp_path), transform=SMALL)
    assert data.classes == ("<b>dog", "cat") and data.labels.tolist() == [0, 1]
    assert data.keys == ["<b>dog/1.png", "cat/1.png"]


def test_sets_without_a_list_of_labels_are_not_read_through_for_nothing():
    asked = []

    class Slow(Items):
        def __getitem__(self, i):
            asked.append(i)
            return PIXELS[i % 5], i % 2

        def __len__(self):
            return 1000

    data = load(Slow(None), transform=SMALL)
    assert data.item(999).label == 1 and data.fingerprint
    assert len(asked) < 60
    assert load(FakeData(3, (3, 6, 6), 2), transform=SMALL).labels.shape == (3,)
