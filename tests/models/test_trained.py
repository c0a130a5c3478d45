import pytest
import torch

from workbench.models import trained
from workbench.models.trained import kept_path, kept_weights

RECIPE = {"version": 1, "rate": 0.5, "widths": [3, 4]}


class Trainer:
    """Counts how often it is asked, and refuses weights of another size."""

    def __init__(self, value=2.0):
        self.value, self.n = value, 0

    def train(self):
        self.n += 1
        return {"weight": torch.full((3, 4), self.value)}

    def fits(self, weights):
        if weights["weight"].shape != (3, 4):
            raise RuntimeError("size")

    def get(self, recipe=RECIPE):
        return kept_weights("net", recipe, train=self.train, fits=self.fits)


@pytest.fixture(autouse=True)
def own(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "own"))
    monkeypatch.setattr(trained, "_kept", {})
    return tmp_path / "own"


def test_trained_once_per_recipe():
    trainer = Trainer()
    assert torch.equal(trainer.get()["weight"], trainer.get()["weight"]) and trainer.n == 1
    trainer.get({**RECIPE, "rate": 0.25})
    assert trainer.n == 2 and kept_path("net", RECIPE) != kept_path("net", {**RECIPE, "rate": 0.25})
    assert kept_path("net", dict(reversed(RECIPE.items()))) == kept_path("net", RECIPE)


def test_files_of_another_network_or_damaged_are_made_anew(caplog):
    trainer = Trainer()
    trainer.get()
    trainer.fits = lambda weights: (_ for _ in ()).throw(RuntimeError("size")) if trainer.n == 1 else None
    trainer.get()
    assert trainer.n == 2 and "damaged" in caplog.text
    kept_path("net", RECIPE).write_bytes(b"nothing")
    assert torch.equal(trainer.get()["weight"], torch.full((3, 4), 2.0)) and trainer.n == 3


def test_what_training_raises_is_passed_on_and_nothing_is_kept(own):
    trainer = Trainer()
    trainer.train = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        trainer.get()
    assert not list(own.rglob("*.safetensors")) and not trained._kept


def test_a_store_that_cannot_be_written_costs_no_second_training(own, monkeypatch, caplog):
    trainer = Trainer()
    own.mkdir()
    monkeypatch.setattr(trained, "_save", lambda *_: (_ for _ in ()).throw(OSError("No space left on device")))
    trainer.get()
    trainer.get()
    assert trainer.n == 1 and "cannot be kept" in caplog.text and "No space left" in caplog.text
