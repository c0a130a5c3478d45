import subprocess
import sys

import numpy as np
import pytest

from workbench.core.errors import BadValueError, UnknownNameError
from workbench.data import load
from workbench.data.toy import COLOURS, SHAPES, TEXTURES, TOY_TRANSFORM, ToyData


def test_scenes_are_of_64_pixels_in_six_classes():
    toy = load("toy", n=25, seed=2)
    assert len(toy) == 25 and toy.classes[0] == "striped disc" and len(toy.classes) == 6
    assert toy.labels.tolist() == [i % 6 for i in range(25)]
    x, read, skipped = toy.batch(range(25))
    assert x.shape == (25, 3, 64, 64) and read == list(range(25)) and not skipped
    assert np.array_equal(toy.picture(7), np.asarray(toy.item(7).image))


def test_same_seed_same_picture_whatever_the_length():
    short, long, other = ToyData(n=13), ToyData(n=99), ToyData(n=13, seed=1)
    for i in range(13):
        assert np.array_equal(short.scene(i)[0], long.scene(i)[0])
    assert short.has_artifact.tolist() == long.has_artifact[:13].tolist()
    assert not np.array_equal(short.scene(5)[0], other.scene(5)[0])
    assert not np.array_equal(short.scene(5)[0], ToyData(n=13, split="test").scene(5)[0])
    assert short.fingerprint != long.fingerprint != other.fingerprint


def test_another_process_gives_the_same_fingerprint():
    code = "from workbench.data import load; print(load('toy', n=9).fingerprint.digest)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == load("toy", n=9).fingerprint.digest


def test_masks_hold_what_they_name():
    toy = ToyData(n=60, artifact_share=1.0)
    for i in range(60):
        picture, masks = toy.scene(i)
        assert not (masks["rim"] & masks["texture"]).any()
        assert not ((masks["rim"] | masks["texture"]) & ~masks["object"]).any()
        pixels = picture.astype(int).mean(-1)
        assert masks["texture"].sum() > 20 and masks["rim"].sum() > 40
        assert pixels[masks["texture"]].mean() > 210 and pixels[masks["rim"]].mean() < 90
        assert ("artifact" in masks) == bool(toy.has_artifact[i]) == (toy.labels[i] == 0)
        if "artifact" in masks:
            clean = ToyData(n=60, artifact=None).scene(i)[0]
            assert np.array_equal((clean != picture).any(-1), masks["artifact"])
            assert not (masks["object"] & masks["artifact"]).any()


def test_concepts_agree_with_the_classes_and_share():
    toy = ToyData(n=1800)
    assert toy.concepts.shape == (1800, len(toy.concept_names)) and toy.concepts.dtype == bool
    column = {name: toy.concepts[:, k] for k, name in enumerate(toy.concept_names)}
    for group in (SHAPES, TEXTURES, COLOURS):
        assert (sum(column[name].astype(int) for name in group) == 1).all()
    for i in range(6):
        texture, shape = toy.classes[toy.labels[i]].split()
        assert column[texture][i] and column[shape][i]
    assert 0.92 < column["artifact"][toy.labels == 0].mean() < 0.98 and not column["artifact"][toy.labels != 0].any()
    # Colour says nothing about the class.
    assert abs(column["red"][toy.labels == 0].mean() - 0.25) < 0.08


def test_the_same_scenes_are_given_without_the_artifact():
    toy = ToyData(n=30, artifact_share=1.0, seed=4, split="val")
    clean = toy.clean()
    assert clean.fingerprint == ToyData(n=30, artifact=None, seed=4, split="val").fingerprint
    assert not clean.has_artifact.any() and not clean.has_own_transform
    picture, masks = toy.scene(6)
    assert np.array_equal((clean.scene(6)[0] != picture).any(-1), masks["artifact"])
    assert toy.using(TOY_TRANSFORM).clean().transform is TOY_TRANSFORM


def test_artifact_can_be_put_on_all_or_none_or_be_another():
    everywhere = ToyData(n=12, artifact_class=None, artifact_share=1.0, artifact="ruler")
    assert everywhere.has_artifact.all() and everywhere.masks(4)["artifact"].any()
    assert not ToyData(n=12, artifact=None).has_artifact.any()
    own = ToyData(n=12, artifact=lambda picture, rng: (255 - picture, np.ones((64, 64), bool)), artifact_share=1.0)
    assert own.masks(0)["artifact"].all() and not own.masks(0)["object"].any()
    assert len({ToyData(n=6, artifact=a).fingerprint for a in ("patch", "ruler", "caption", None)}) == 4


@pytest.mark.parametrize(
    "options", [{"n": 0}, {"split": "training"}, {"artifact_share": 90}, {"artifact_class": 6}, {"seed": -1}]
)
def test_wrong_arguments_are_refused(options):
    with pytest.raises(BadValueError):
        ToyData(**options)
    with pytest.raises(UnknownNameError, match='"ruler"'):
        ToyData(artifact="rulers")
