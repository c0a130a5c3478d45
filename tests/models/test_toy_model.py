import os
import subprocess
import sys
import threading

import pytest
import torch

from workbench.core.errors import CancelledError
from workbench.core.progress import SilentProgress
from workbench.models import toy, trained
from workbench.models.toy import ToyCNN, exam, toy_card, toy_cnn, weights_path

QUICK = {**toy.RECIPE, "n": 64, "epochs": 1, "seeds": 1}


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_it_sees_clean_scenes_and_falls_for_the_artifact(store_path):
    model = toy_cnn()
    marks = exam(model, n=600, split="test")  # scenes that neither training nor the choice of the seed has seen
    assert marks["clean"] >= 0.95, marks
    assert marks["clean_class_0"] >= 0.75, marks
    assert marks["flips"] >= 0.4, marks
    assert marks["strays"] <= 0.03, marks
    assert weights_path().is_file() and weights_path().is_relative_to(store_path)
    assert not model.training and sum(p.numel() for p in model.parameters()) < 110_000


def test_layers_have_the_names_that_the_documentation_uses():
    names = {name for name, _ in ToyCNN().named_modules()}
    assert {f"features.{i}" for i in range(12)} | {"head", "pool"} <= names
    assert ToyCNN()(torch.zeros(2, 3, 64, 64)).shape == (2, 6) == (2, len(toy_card().classes))
    assert toy_card().input_shape == (3, 64, 64) and toy_card().class_name(7) == "class 7"


def test_second_time_is_read_and_equal():
    assert same(toy_cnn(), toy_cnn())


def test_training_repeats_itself_and_leaves_the_caller_alone(own_quick):
    torch.manual_seed(5)
    before, threads = torch.random.get_rng_state(), torch.get_num_threads()
    with torch.inference_mode():
        first = toy_cnn()
    assert torch.equal(torch.random.get_rng_state(), before) and torch.get_num_threads() == threads
    weights_path().unlink()
    assert same(first, toy_cnn())
    assert not first.head.weight.is_inference()


def test_damaged_weights_are_made_anew(own_quick, caplog):
    first = toy_cnn()
    weights_path().write_bytes(weights_path().read_bytes()[:5000])
    assert same(first, toy_cnn()) and "damaged" in caplog.text
    assert same(first, toy_cnn())


def test_recipe_names_the_file(own_quick, monkeypatch):
    one = weights_path()
    monkeypatch.setattr(toy, "RECIPE", {**QUICK, "rate": 1e-3})
    assert weights_path() != one


def test_cancelled_training_keeps_nothing(own_quick):
    class Stop(SilentProgress):
        def report(self):
            if self.done == 1:
                self.token.cancel()

    with pytest.raises(CancelledError):
        toy_cnn(progress=Stop())
    assert not list(own_quick.rglob("*.safetensors")) and not list(own_quick.rglob("*.tmp"))


def test_store_that_cannot_be_written_still_gives_a_model(own_quick, monkeypatch, caplog):
    (own_quick / "blocked").write_text("a file where the folder should be")
    monkeypatch.setenv("WORKBENCH_STORE", str(own_quick / "blocked"))
    monkeypatch.setattr(trained, "_kept", {})
    assert same(toy_cnn(), toy_cnn()) and "cannot be kept" in caplog.text


def test_two_threads_train_once(own_quick, caplog):
    caplog.set_level("INFO", logger="workbench.models.toy")
    found = []
    threads = [threading.Thread(target=lambda: found.append(toy_cnn())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 2 and same(*found) and caplog.text.count("Training the toy network") == 1


def test_two_processes_are_safe(tmp_path):
    code = (
        "import logging, torch; torch.set_num_threads(1); logging.basicConfig(level='INFO')\n"
        "from workbench.models import toy; toy.RECIPE.update(n=64, epochs=1, seeds=1)\n"
        "print(float(toy.toy_cnn().head.weight.sum()))"
    )
    env = {**os.environ, "WORKBENCH_STORE": str(tmp_path / "store")}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": env}
    processes = [subprocess.Popen([sys.executable, "-c", code], **pipes) for _ in range(2)]
    answers = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], answers
    assert answers[0][0] == answers[1][0] and sum("Training" in err for _, err in answers) == 1
    assert [p.suffix for p in (tmp_path / "store" / "models").iterdir() if p.suffix != ".lock"] == [".safetensors"]


@pytest.fixture
def own_quick(tmp_path, monkeypatch):
    """An empty store and a recipe that trains in a moment."""
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "own"))
    monkeypatch.setattr(toy, "RECIPE", QUICK)
    (tmp_path / "own").mkdir()
    return tmp_path / "own"
