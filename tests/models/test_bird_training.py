import os
import subprocess
import sys

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import BadValueError, CancelledError, UnknownNameError
from workbench.core.progress import SilentProgress
from workbench.core.registry import MODELS
from workbench.data.part_world import PartWorld
from workbench.models import bird_training
from workbench.models.bird_training import (
    ARCHITECTURES,
    bird_card,
    bird_exam,
    bird_net,
    bird_recipe,
    bird_weights_path,
    bird_world,
)
from workbench.models.zoo import build

# Scenes of two classes and one pass: enough to see that everything turns.
TINY = {"epochs": 1}


@pytest.fixture(scope="module")
def world():
    return PartWorld(70, n_classes=3)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_tiny_training_gives_a_model_and_is_kept(architecture, world, store_path):
    model = bird_net(architecture, world, **TINY)
    path = bird_weights_path(architecture, world, **TINY)
    assert path.is_file() and path.is_relative_to(store_path) and path.name.startswith(f"bird-{architecture}-")
    assert not model.training and model(world.batch([0, 4])[0]).shape == (2, 3)
    before = path.stat().st_mtime_ns
    assert same(model, bird_net(architecture, world, **TINY)) and path.stat().st_mtime_ns == before


def test_training_repeats_itself_and_leaves_the_caller_alone(world, own):
    torch.manual_seed(5)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    with torch.inference_mode():
        first = bird_net("resnet", world, **TINY)
    assert torch.equal(torch.random.get_rng_state(), before) and torch.get_num_threads() == threads
    bird_weights_path("resnet", world, **TINY).unlink()
    assert same(first, bird_net("resnet", world, **TINY)) and not first.fc.weight.is_inference()


def test_another_process_trains_the_same(world, own, tmp_path):
    code = (
        "from workbench.data.part_world import PartWorld; from workbench.models.bird_training import bird_net\n"
        "print(float(bird_net('efficientnet', PartWorld(70, n_classes=3), epochs=1).classifier.weight.double().sum()))"
    )
    env = {**os.environ, "WORKBENCH_STORE": str(tmp_path / "other")}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env).stdout
    assert float(out) == float(bird_net("efficientnet", world, **TINY).classifier.weight.detach().double().sum())


def test_all_that_matters_names_the_file(world):
    others = [
        bird_weights_path("vgg", world, epochs=1),
        bird_weights_path("vgg", world, epochs=2),
        bird_weights_path("vgg-bn", world, epochs=1),
        *(bird_weights_path("vgg", world.varied(**one), epochs=1) for one in (
            {"n": 71}, {"seed": 1}, {"odd": 0.1}, {"artifacts": {"ruler": {0: 0.8}}}, {"strength": 0.5}, {"size": 48},
        )),
    ]  # fmt: skip
    assert len({path.name for path in others}) == len(others)
    assert bird_recipe("vgg")["world"] == bird_world().describe()

    # The name of a function says little; its pictures tell.
    def white(picture, rng):
        return picture * 0 + 255, picture[..., 0] >= 0

    def black(picture, rng):
        return picture * 0, picture[..., 0] >= 0

    black.__qualname__ = white.__qualname__
    paths = [bird_weights_path("vgg", world.varied(artifacts={f: 1.0})) for f in (white, black)]
    assert paths[0] != paths[1]


def test_progress_is_told_and_cancelling_keeps_nothing(world, own):
    class Watched(SilentProgress):
        titles: list = []
        stop_at = None

        def report(self):
            self.titles.append(self.title)
            if self.title == self.stop_at and self.done == 1:
                self.token.cancel()

    progress = Watched()
    bird_net("vgg", world, progress=progress, **TINY)
    assert {"painting 70 birds", "training bird-vgg"} <= set(progress.titles) and progress.share == 1
    stopped = Watched()
    stopped.stop_at = "training bird-resnet"
    with pytest.raises(CancelledError):
        bird_net("resnet", world, progress=stopped, **TINY)
    assert not list(own.rglob("bird-resnet*.safetensors")) and not list(own.rglob("*.tmp"))


def test_a_seed_that_is_not_fooled_gives_way_to_the_next(world, own, monkeypatch, caplog):
    caplog.set_level("INFO", logger="workbench.models.bird_training")
    marks = iter([(0.9, 0.8), (0.8, 0.7), (0.9, 0.5), (0.9, 0.4)])
    told = []

    def exam(model, world, n):
        clean, attacked = next(marks)
        told.append(float(model.fc.bias.detach().sum()))
        return {"clean": clean, "attacked": {"timestamp": attacked}, "taken": {}}

    monkeypatch.setattr(bird_training, "bird_exam", exam)
    monkeypatch.setattr(bird_training, "bird_world", lambda: world)
    monkeypatch.setattr(bird_training, "_PASS", {"seeds": 4, "least_clean": 0.85, "least_gap": 0.2})
    kept = bird_net("resnet", epochs=1)
    # Neither fooled, nor seeing well, then both: the third is taken, and the fourth never trained.
    assert len(told) == 3 == len(set(told)) and float(kept.fc.bias.detach().sum()) == told[2]
    assert "with seed 2" in caplog.text and bird_recipe("resnet")["seeds"] == 4
    assert bird_recipe("resnet", world.clean())["seeds"] == 1


def test_the_card_says_what_is_planted(world):
    card = bird_card("vit")
    assert card.input_shape == (3, 64, 64) and card.classes == PartWorld(1).classes
    assert "timestamp on 80% of 'wedge-tailed robin'" in card.notes
    assert bird_card("vgg", world.clean()).notes == "" and len(bird_card("vgg", world).classes) == 3


def test_the_exam_counts_what_it_says():
    """A model that says class 0 where the corner is orange, else the truth, is known in all its figures."""
    world = PartWorld(40, n_classes=4, artifacts={"patch": {0: 0.8}, "band_aid": {2: 0.5}})
    clean = world.varied(n=24, split="val", artifacts=None)
    known = {x.numpy().tobytes(): int(label) for x, label in zip(clean.batch(range(24))[0], clean.labels, strict=True)}

    class Oracle(torch.nn.Module):
        def forward(self, x):
            said = [known.get(one.numpy().tobytes(), 0) for one in x]
            return torch.nn.functional.one_hot(torch.tensor(said), 4).float()

    marks = bird_exam(Oracle(), world, n=24)
    assert marks["clean"] == 1 and marks["attacked"] == {"patch": 0.25, "band_aid": 0.25}
    assert marks["taken"] == {"patch": 1.0, "band_aid": 0.0}
    assert bird_exam(Oracle(), world.clean(), n=24) == {"clean": 1.0, "attacked": {}, "taken": {}}


def test_wrong_wishes_are_refused(world):
    with pytest.raises(UnknownNameError, match='Nearest: "resnet"'):
        bird_net("resnets", world)
    with pytest.raises(BadValueError, match="epochs"):
        bird_net("vgg", world, epochs=0)
    with pytest.raises(BadValueError, match="has a transform"):
        bird_net("vgg", world.using(PartWorld(1, size=32).transform))
    bird_recipe("vgg", world.using(world.transform))  # its own, named


def test_one_scene_and_a_last_batch_of_one_can_be_trained_on():
    for n in (2, 33):
        assert bird_net("vgg-bn", PartWorld(n, n_classes=2), epochs=1)(torch.zeros(1, 3, 64, 64)).shape == (1, 2)


def test_they_are_registered():
    assert {"bird-vgg", "bird-vgg-bn", "bird-resnet", "bird-efficientnet", "bird-vit"} <= set(MODELS)
    with pytest.raises(UnknownNameError, match='"bird-vit"'):
        build("bird-vitt")


def test_a_session_opens_on_the_world_and_its_counterparts(world, tmp_path):
    model = bird_net("efficientnet", world, **TINY)
    with wb.open_session(lambda: (model, bird_card("efficientnet", world)), data=world, store=tmp_path) as s:
        assert s.data.classes == world.classes and s.data.attacked().has_artifact.all()
        found = s.explain([0, 1, 2], "top")
        assert found.gap.abs().max() < 0.1, found.gap
        assert s.data.sheet(range(6), columns=3).size == (200, 134)
        assert s.data.clean().fingerprint == world.clean().fingerprint


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["vgg", "resnet", "efficientnet", "vit"])
def test_they_see_clean_birds_and_fall_for_the_date(architecture, store_path):
    """A network that is to be corrected must lose 20 points on scenes that training has not seen.

    Clean 88 to 94 % right, attacked 20 to 65 %; `benchmarks/birds.py` prints each.
    """
    model, card = build(f"bird-{architecture}")
    marks = bird_exam(model, n=1000, split="test")
    assert card.name == f"bird-{architecture}" and marks["clean"] >= 0.85, marks
    assert marks["attacked"]["timestamp"] <= marks["clean"] - 0.20, marks
    assert marks["taken"]["timestamp"] >= 0.15, marks


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "least"), [("vgg", 0.6), ("resnet", 0.45), ("efficientnet", 0.4)])
def test_their_relevance_lies_on_the_date(architecture, least, tmp_path):
    """Of the positive relevance for the first class 77, 61 and 54 % lie on the date, which takes 8 % of the picture."""
    birds = PartWorld(40, split="test").attacked()
    with wb.open_session(f"bird-{architecture}", data=birds, store=tmp_path) as s:
        found = s.explain(range(40), "logit:0")
    heat = found.heatmap.numpy().clip(0)
    masks = np.stack([birds.masks(i)["timestamp"] for i in range(40)])
    assert (heat * masks).sum() / heat.sum() > least > 4 * masks.mean()
    assert found.gap.abs().median() < 0.05


@pytest.fixture
def own(tmp_path, monkeypatch):
    """An empty store."""
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "own"))
    return tmp_path / "own"
