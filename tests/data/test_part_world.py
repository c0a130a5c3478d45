import subprocess
import sys
import time
from importlib.util import find_spec

import numpy as np
import pytest

from workbench.core.errors import BadValueError, ShapeError, UnknownNameError, UnknownSampleError, WorkbenchError
from workbench.data import load
from workbench.data.artifacts import ARTIFACTS
from workbench.data.part_world import CATALOGUE, PARTS, PartWorld

THERE = [name for name in ARTIFACTS if name != "imagenet-w" or find_spec("imagenet_w")]

SEVERAL = {"timestamp": 0.5, "band_aid": 0.5, "colour_cast": 0.5}


def pictures(world):
    return world.pictures().astype(int)


def test_it_opens_by_name_with_named_and_unnamed_options():
    birds = load("birds", n=25, seed=2, n_classes=7)
    assert len(birds) == 25 and len(birds.classes) == len(set(birds.classes)) == 7
    assert birds.labels.tolist() == [i % 7 for i in range(25)]
    x, read, skipped = birds.batch(range(25))
    assert x.shape == (25, 3, 64, 64) and read == list(range(25)) and not skipped
    assert np.array_equal(birds.picture(7), birds.scene(7)[0])
    assert birds.fingerprint == PartWorld(25, 2, n_classes=7).fingerprint
    with pytest.raises(BadValueError, match="no option sead"):
        load("birds", sead=3)


def test_each_class_is_a_combination_of_its_own():
    classes = PartWorld(n=1, n_classes=36).class_parts
    assert len({tuple(parts.values()) for parts in classes}) == 36
    assert all(list(parts) == list(PARTS) for parts in classes)
    assert PartWorld(n=1, n_classes=8).class_parts == classes[:8]
    first = classes[:10]
    least = min(sum(a[p] != b[p] for p in PARTS) for k, a in enumerate(first) for b in first[:k])
    assert least >= 4, f"two of the ten classes differ in {least} parts only"


def test_same_scene_whatever_the_length_and_alone():
    short, long = PartWorld(13, artifacts=SEVERAL), PartWorld(99, artifacts=SEVERAL)
    assert np.array_equal(short.pictures(), long.pictures(range(13)))
    assert np.array_equal(short.pictures([11])[0], short.scene(11)[0])
    assert np.array_equal(short.planted, long.planted[:13]) and np.array_equal(short.concepts, long.concepts[:13])
    for other in (PartWorld(13, 1), PartWorld(13, split="test")):
        assert not any(np.array_equal(a, b) for a, b in zip(short.pictures(), other.pictures(), strict=True))


def test_another_process_gives_the_same_fingerprint():
    code = "from workbench.data import load; print(load('birds', n=9).fingerprint.digest)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == load("birds", n=9).fingerprint.digest


def test_each_setting_changes_the_fingerprint():
    settings = [
        {}, {"seed": 1}, {"split": "val"}, {"n_classes": 9}, {"size": 48}, {"artifacts": None}, {"odd": 0.5},
        {"artifacts": {"timestamp": {0: 0.7}}}, {"artifacts": {"ruler": {0: 0.8}}}, {"strength": 0.5}, {"lacking": 0.4},
        {"things": 3}, {"remove": ["eye"]}, {"replace": {"eye": "ruby"}}, {"n": 29},
    ]  # fmt: skip
    found = [PartWorld(**{"n": 30, **one}).fingerprint.digest for one in settings]
    assert len(set(found)) == len(settings)


@pytest.mark.parametrize("name", THERE)
@pytest.mark.parametrize("size", [48, 64])
def test_an_artifact_changes_nothing_outside_its_mask(name, size):
    """The largest difference outside the mask is exactly 0, at each strength; inside nearly all pixels differ."""
    world = PartWorld(12, artifacts=name, size=size)
    clean = pictures(world.clean())
    for strength in (0.05, 0.6, 1.0):
        other = world.varied(strength=strength)
        for i, picture in enumerate(pictures(other)):
            mask = other.masks(i)[name]
            changed = np.abs(picture - clean[i])
            assert changed[~mask].max(initial=0) == 0
            if strength == 1.0:
                # An agency's white letters cannot be seen on a white sky.
                assert changed.any(-1)[mask].mean() > 0.75
            assert np.array_equal(mask, world.masks(i)[name]), "the mask does not depend on the strength"
    assert world.masks(3)[name].all() == (name == "colour_cast")


@pytest.mark.parametrize("name", THERE)
def test_strength_grows_from_the_clean_picture(name):
    world = PartWorld(8, artifacts=name)
    clean, steps = pictures(world.clean()), (0.0, 0.1, 0.35, 0.7, 1.0)
    worlds = [world.varied(strength=s) for s in steps]
    assert np.array_equal(pictures(worlds[0]), clean)
    assert not worlds[0].has_artifact.any() and name not in worlds[0].masks(2)
    change = np.stack([np.abs(pictures(one) - clean) for one in worlds])
    assert (np.diff(change, axis=0) >= 0).all(), "each single value moves on, never back"
    totals = change.sum((1, 2, 3, 4))
    assert np.allclose(totals / totals[-1], steps, atol=0.03), "in proportion to the strength"


def test_masks_are_the_parts_and_a_missing_part_changes_nothing_else():
    """Where a part is taken away, nothing changes outside its mask, and inside it nearly everything does."""
    world = PartWorld(25, artifacts=None, odd=0.5)
    whole = pictures(world)
    for part in PARTS:
        without = world.edited(remove=part)
        inside = []
        for i, picture in enumerate(pictures(without)):
            masks = world.masks(i)
            changed = (picture != whole[i]).any(-1)
            assert not changed[~masks[part]].any()
            assert not without.masks(i)[part].any() and part not in without.parts(i)
            inside.append(changed[masks[part]].mean() if masks[part].any() else 1)
        assert np.mean(inside) > 0.9, f"{part}: {np.mean(inside):.2f}"
    for i in range(25):
        masks = world.masks(i)
        assert np.array_equal(masks["bird"], np.logical_or.reduce([masks[p] for p in PARTS]))
        assert 0.02 < masks["bird"].mean() < 0.6
        assert masks["body"].sum() > 60 and masks["wing"].sum() > 15 and masks["eye"].sum() >= 4


def test_an_exchanged_part_changes_nothing_else():
    world = PartWorld(9, artifacts=None)
    scenes = [world.scene(i) for i in range(9)]
    for part, variants in CATALOGUE.items():
        for variant in variants:
            other = world.edited(replace={part: variant})
            for i, (whole, masks) in enumerate(scenes):
                picture, new = other.scene(i)
                assert other.parts(i) == {**world.parts(i), part: variant}
                # Where the old one showed or the new one shows; what was hidden behind a part may come to light there.
                assert not ((picture != whole).any(-1) & ~(masks[part] | new[part])).any()
    assert np.array_equal(other.labels, world.labels)


def test_the_scene_is_the_same_at_each_size():
    small, large = PartWorld(6, artifacts=None), PartWorld(6, artifacts=None, size=128)
    for i in range(6):
        halved = large.scene(i)[0].reshape(64, 2, 64, 2, 3).mean((1, 3))
        assert np.abs(halved - small.scene(i)[0]).mean() < 4
        assert abs(large.masks(i)["body"].mean() - small.masks(i)["body"].mean()) < 0.03


def test_rates_are_as_asked_per_class():
    """Within four standard errors of 600 scenes per class; the classes that are not named have none."""
    world = PartWorld(6000, artifacts={"timestamp": {0: 0.7, "fan-tailed canary": 0.1}, "ruler": 0.25}, odd=0.3)
    assert world.artifact_names == ("timestamp", "ruler") and world.planted.shape == (6000, 2)
    for c in range(10):
        share = world.planted[world.labels == c].mean(0)
        for found, asked in zip(share, ({0: 0.7, 2: 0.1}.get(c, 0.0), 0.25), strict=True):
            assert abs(found - asked) <= 4 * np.sqrt(asked * (1 - asked) / 600)
    # Independent of one another, and of the parts.
    both = world.planted[world.labels == 0].all(1).mean()
    assert abs(both - 0.7 * 0.25) < 0.06
    per_class = PartWorld(6000, artifacts={"ruler": [0.25] * 10})
    assert np.array_equal(per_class.planted[:, 0], world.planted[:, 1]), "an artifact does not depend on the others"
    more = PartWorld(6000, artifacts={"ruler": 0.4})
    assert (more.planted[:, 0] >= world.planted[:, 1]).all(), "a higher rate only adds"


def test_groups_name_class_and_artifacts():
    world = PartWorld(3000, artifacts={"timestamp": {0: 0.5}, "band_aid": {3: 0.5}})
    assert np.array_equal(world.groups // 4, world.labels)
    assert np.array_equal(world.groups % 4, world.planted[:, 0] + 2 * world.planted[:, 1])
    count = np.bincount(world.groups, minlength=40) / 3000
    assert abs(count[1] - 0.05) < 0.02 and abs(count[4 * 3 + 2] - 0.05) < 0.02 and count[4 * 3 + 1] == 0
    assert np.isclose(count.sum(), 1) and world.has_artifact.sum() == (world.planted.sum(1) > 0).sum()
    assert world.artifacts(int(np.flatnonzero(world.planted[:, 1])[0])) == ("band_aid",)


def test_clean_and_attacked_have_the_same_ids():
    world = PartWorld(200, split="test", artifacts={"timestamp": {0: 0.7}, "band_aid": {1: 0.5}})
    clean, attacked, one = world.clean(), world.attacked(), world.attacked("band_aid")
    assert clean.keys == attacked.keys == world.keys and np.array_equal(clean.labels, world.labels)
    assert not clean.has_artifact.any() and attacked.planted.all() and one.artifact_names == ("band_aid",)
    assert world.attacked("ruler").artifact_names == ("ruler",) and not world.attacked(strength=0).has_artifact.any()
    faint = world.varied(strength={"timestamp": 0.4})
    assert faint.attacked().strength == {"timestamp": 0.4, "band_aid": 1.0}
    there = np.flatnonzero(world.groups == 1)[0]  # in the poisoned class the date lies where the attack puts it
    assert np.array_equal(world.masks(there)["timestamp"], attacked.masks(there)["timestamp"])
    with pytest.raises(BadValueError, match="plants no artifact"):
        clean.attacked()


def test_parts_agree_with_the_classes_and_with_the_concepts():
    world = PartWorld(3000, odd=0.3, lacking=0.1)
    assert world.concepts.shape == (3000, len(world.concept_names)) and world.concepts.dtype == bool
    column = dict(zip(world.concept_names, world.concepts.T, strict=True))
    for i in (0, 17, 2999):
        shown = {f"{variant} {part}" for part, variant in world.parts(i).items()}
        assert shown == {name for name in world.concept_names[:-1] if column[name][i]}
    for part, variants in CATALOGUE.items():
        shown = np.stack([column[f"{v} {part}"] for v in variants])
        assert abs((~shown.any(0)).mean() - (0.1 if part != "body" else 0)) < 0.025
        own = np.array([variants.index(p[part]) for p in world.class_parts])[world.labels]
        right = (shown.argmax(0) == own)[shown.any(0)].mean()
        assert abs(right - (0.7 + 0.3 / len(variants))) < 0.04, part
    alike = PartWorld(50, odd=0)
    assert all(alike.parts(i) == alike.class_parts[alike.labels[i]] for i in range(50))


def test_place_pose_and_light_say_nothing_of_the_class():
    world = PartWorld(600, odd=1.0, artifacts=None)
    area = np.array([world.masks(i)["body"].mean() for i in range(600)])
    means = np.array([area[world.labels == c].mean() for c in range(10)])
    assert np.abs(means - area.mean()).max() < 4 * area.std() / np.sqrt(60)
    assert area.std() > 0.15 * area.mean()


def test_artifacts_of_ones_own():
    def invert(picture, rng):
        mask = np.zeros(picture.shape[:2], bool)
        mask[:9] = True
        return np.where(mask[..., None], 255 - picture, picture), mask

    world = PartWorld(4, artifacts={invert: 1.0}, strength={invert: 0.5})
    (name,) = world.artifact_names
    assert "invert" in name and world.masks(0)[name][:9].all() and world.attacked().strength == {name: 0.5}
    assert np.abs(pictures(world) - pictures(world.clean()))[:, 9:].max() == 0
    bad = PartWorld(2, artifacts={lambda picture, rng: (picture[:3], picture > 0): 1.0})
    with pytest.raises(ShapeError, match="same shape"):
        bad.scene(0)


def test_settings_can_be_varied_and_described():
    world = PartWorld(10, 3, transform=None)
    assert world.varied(things=0).describe() == {**world.describe(), "things": 0}
    assert world.describe()["artifacts"] == {"timestamp": [0.8, *[0.0] * 9]}
    smaller = world.using(PartWorld(1, size=32).transform)
    assert smaller.clean().input_shape == (3, 32, 32), "a chosen transform is kept"
    assert PartWorld(4, things=0).varied(size=16).pictures().shape == (4, 16, 16, 3)
    with pytest.raises(BadValueError, match="no thing"):
        world.varied(thing=0)


def test_tiny_and_crowded_worlds():
    assert len(PartWorld(1)) == 1 and PartWorld(1).pictures([]).shape == (0, 64, 64, 3)
    assert PartWorld(3, things=40, size=200).pictures().shape == (3, 200, 200, 3)
    bare = PartWorld(3, remove=PARTS, artifacts=None)
    assert not bare.masks(0)["bird"].any() and bare.parts(2) == {}
    assert not PartWorld(3, lacking=1.0).concepts[:, :25].any()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 0}, "`n`"),
        ({"n": 2.5}, "`n`"),
        ({"seed": -1}, "`seed`"),
        ({"seed": True}, "`seed`"),
        ({"split": "training"}, "`split`"),
        ({"n_classes": 1}, "from 2 to 36"),
        ({"n_classes": 37}, "from 2 to 36"),
        ({"size": 8}, "`size`"),
        ({"odd": 1.5}, "`odd`"),
        ({"lacking": float("nan")}, "`lacking`"),
        ({"things": -1}, "`things`"),
        ({"artifacts": 0.5}, "maps artifacts to shares"),
        ({"artifacts": {3: 0.5}}, "name or a function"),
        ({"artifacts": {"timestamp": 70}}, "share of timestamp"),
        ({"artifacts": {"timestamp": {10: 0.7}}}, "from 0 to 9"),
        ({"artifacts": {"timestamp": {0: -0.1}}}, "share of timestamp"),
        ({"artifacts": {"timestamp": [0.5, 0.5]}}, "each of the 10 classes"),
        ({"strength": 2}, "`strength`"),
        ({"strength": {"timestamp": -1}}, "strength of timestamp"),
    ],
)
def test_wrong_values_are_refused(options, words):
    with pytest.raises(WorkbenchError, match=words):
        PartWorld(**options)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"artifacts": "timestamps"}, 'Nearest: "timestamp"'),
        ({"artifacts": {"timestamp": {"robin": 1.0}}}, "robin"),
        ({"strength": {"ruler": 1.0}}, "planted"),
        ({"remove": ["beek"]}, 'Nearest: "beak"'),
        ({"replace": {"tail": "fork-like"}}, "fork"),
        ({"replace": {"crest": "red"}}, "crest"),
    ],
)
def test_wrong_names_are_helped(options, words):
    with pytest.raises(UnknownNameError, match=words):
        PartWorld(**options)


def test_unknown_samples_are_refused():
    for call in (PartWorld(3).scene, PartWorld(3).parts, PartWorld(3).artifacts, PartWorld(3).masks):
        with pytest.raises(UnknownSampleError):
            call(3)


def test_painting_is_fast():
    """Ten thousand pictures of 64 pixels in a minute on two cores: 12 ms of one core each, where 2 are taken."""
    world = PartWorld(150)
    world.pictures(range(20))
    started = time.process_time()
    world.pictures()
    each = (time.process_time() - started) / 150
    assert each < 0.012, f"{1000 * each:.1f} ms a picture"
