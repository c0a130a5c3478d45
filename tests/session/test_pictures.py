"""Pictures for the screen: cached within a budget, cut where the component looked, and never an error."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from PIL import Image

from workbench.core.errors import BadValueError, DataError, UnknownComponentError, UnknownSampleError
from workbench.core.progress import SilentProgress
from workbench.data import FolderData
from workbench.session.pictures import MODES, PictureCache
from workbench.testing.small import CLASSES, SMALL, Listed, small_data

BYTES = 12 * 12 * 3


class Reading:
    """A data set that counts what is read."""

    def __init__(self, broken=()):
        self.data, self.read, self.broken = small_data(transform=SMALL), [], broken
        self.transform = self.data.transform

    def picture(self, i):
        self.read.append(i)
        if i in self.broken:
            raise DataError(f"Sample {i} cannot be read.")
        return self.data.picture(i)


# --- the cache -------------------------------------------------------------------------------------------------------


def test_a_picture_is_read_once():
    data = Reading()
    cache = PictureCache(data)
    first = cache[3]
    assert first is cache[3] and data.read == [3]
    np.testing.assert_array_equal(first, data.data.picture(3))


def test_the_budget_is_kept_and_the_oldest_goes_first():
    data = Reading()
    cache = PictureCache(data, budget_bytes=3 * BYTES)
    for i in (0, 1, 2, 0, 3):  # 0 is used again, so 1 goes
        cache[i]
    assert data.read == [0, 1, 2, 3]
    for i in (0, 2, 3):
        cache[i]
    assert data.read == [0, 1, 2, 3]
    cache[1]
    assert data.read == [0, 1, 2, 3, 1]


def test_one_picture_stays_however_small_the_budget():
    data = Reading()
    cache = PictureCache(data, budget_bytes=1)
    assert cache[2] is cache[2] and data.read == [2]
    cache[3], cache[2]
    assert data.read == [2, 3, 2]


def test_an_unreadable_picture_is_a_grey_cross():
    cache = PictureCache(Reading(broken=[4]))
    picture = cache[4]
    assert picture.shape == (12, 12, 3) and picture.dtype == np.uint8
    assert picture[0, 0].tolist() == picture[0, 11].tolist() == [120] * 3 and picture[0, 5].tolist() == [225] * 3
    assert cache[4] is picture
    assert cache.thumbnails([3, 4], 16).shape == (2, 16, 16, 3)


def test_kept_pictures_cannot_be_changed_by_whoever_shows_them(small):
    views = small.reference_views("relu_b/unit/1", n=2, mode="whole", size=12)
    before = views[0].picture.copy()
    for picture in (views[0].picture, small.explain(views[0].sample).pictures[0], small.pictures[views[0].sample]):
        with pytest.raises(ValueError, match="read-only"):
            picture[:] = 0
    again = small.reference_views("relu_b/unit/1", n=2, mode="whole", size=12)
    np.testing.assert_array_equal(again[0].picture, before)


def test_threads_share_a_cache():
    data = Reading()
    cache, wrong = PictureCache(data, budget_bytes=5 * BYTES), []

    def work(number):
        for turn in range(100):
            i = (number * 7 + turn) % 24
            if not np.array_equal(cache[i], data.data.picture(i)):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong and cache._bytes == len(cache._kept) * BYTES <= 5 * BYTES


# --- what a session shows --------------------------------------------------------------------------------------------


def test_thumbnails(small):
    made = small.thumbnails([5, 0, 5], 12)
    assert made.shape == (3, 12, 12, 3) and made.dtype == np.uint8
    np.testing.assert_array_equal(made[0], small.data.picture(5))
    np.testing.assert_array_equal(made[0], made[2])
    assert small.thumbnails([], 20).shape == (0, 20, 20, 3)
    with pytest.raises(UnknownSampleError):
        small.thumbnails([0, 24])
    for size in (0, -3, 5000):
        with pytest.raises(BadValueError, match="size"):
            small.thumbnails([0], size)


def test_tiles_show_the_best_reference_around_its_peak(small, counting):
    references = small.references("relu_b")
    counter = counting(small)
    tiles = small.peak_crops("relu_b", size=6)
    assert tiles.shape == (7, 6, 6, 3) and counter.calls == 0
    chosen = small.peak_crops("relu_b", ["relu_b/unit/4", 2], size=6)
    np.testing.assert_array_equal(chosen, tiles[[4, 2]])
    for c in range(7):  # 3.2 cells of 12, squared: 3 to 6 pixels around the peak
        picture = small.data.picture(int(references.ids[c, 0])).astype(int)
        y, x = divmod(int(references.peak[c, 0]), 12)
        near = picture[max(0, y - 4) : y + 5, max(0, x - 4) : x + 5].reshape(-1, 3)
        mean = tiles[c].reshape(-1, 3).mean(0)
        assert (near.min(0) - 12 <= mean).all() and (mean <= near.max(0) + 12).all()
    with pytest.raises(UnknownComponentError):
        small.peak_crops("relu_b", [7])


@pytest.mark.parametrize("by", ["activation", "relevance"])
@pytest.mark.parametrize("mode", MODES)
def test_views_of_references(small, counting, mode, by):
    references = small.references("relu_b", by, k=5)
    views = small.reference_views("relu_b/unit/3", by, 5, mode, 20)
    assert [v.sample for v in views] == references.ids[3].tolist()
    assert [v.value for v in views] == pytest.approx(references.values[3].tolist())
    assert all(v.picture.shape == (20, 20, 3) and v.picture.dtype == np.uint8 for v in views)
    for rank, v in enumerate(views):
        assert v.caption == f"{rank + 1}. {CLASSES[v.sample % 4]}, {by} {v.value:.3g}", "plain text, markup and all"
    counter = counting(small)
    again = small.reference_views("relu_b/unit/3", by, 5, mode, 20)
    assert counter.calls == 0 and all(np.array_equal(a.picture, b.picture) for a, b in zip(views, again, strict=True))


def test_whole_views_run_no_model(small, counting):
    small.references("relu_b")
    counter = counting(small)
    views = small.reference_views("relu_b/unit/3", n=3, mode="whole", size=12)
    assert counter.calls == 0
    np.testing.assert_array_equal(views[0].picture, small.data.picture(views[0].sample))


def test_the_maps_of_views_are_the_conditional_ones(small):
    """By activation they start at the component, by relevance at the output that the sweep explained."""
    address = small.layers().component("relu_b/unit/3")
    for by in ("activation", "relevance"):
        references = small.references("relu_b", by, k=40)
        samples = references.of(address, 4)
        maps = small._reference_heats(address, references, samples, SilentProgress())
        for row, i in enumerate(samples):
            if by == "activation":
                expected = small.explain(i, f"component:{address}").heatmap[0]
            else:
                expected = small.explain(i, f"logit:{int(references.target[3, row])}", given=[address]).heatmap[0]
            np.testing.assert_allclose(maps[row], expected, atol=float(expected.abs().max()) / 120 + 1e-7)


@pytest.mark.parametrize("n", [0, -1, 257, 1.5])
def test_the_number_of_views_has_bounds(small, n):
    with pytest.raises(BadValueError, match="n"):
        small.reference_views("relu_b/unit/1", n=n)


def test_more_views_than_there_are_samples(small):
    assert len(small.reference_views("relu_b/unit/1", n=60, mode="crop", size=8)) == 24


def test_pictures_of_every_shape_are_shown_and_unlabelled_ones_by_name(open_small, tmp_path):
    folder = tmp_path / "flat"
    folder.mkdir()
    pictures = Listed(6).pictures
    for i, kind in enumerate(("RGB", "L", "RGBA", "CMYK", "P")):
        Image.fromarray(pictures[i]).convert(kind).save(folder / f"{i}.{'jpg' if kind == 'CMYK' else 'png'}")
    Image.new("RGB", (1, 1), "red").save(folder / "5.png")
    Image.fromarray(pictures[5]).resize((200, 20)).save(folder / "6.png")
    s = open_small(data=FolderData(folder))
    s.sweep("relu_b")
    assert s.activations("relu_b").is_valid.all()
    views = s.reference_views("relu_b/unit/2", n=7, size=10)
    assert len(views) == 7 and {v.caption.split(" ")[1].split(".")[0] for v in views} == set("0123456")
