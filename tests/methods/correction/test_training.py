"""Fine-tuning: the same bits with and without a break, batch norms and lower layers untouched, curves, early stop."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch
from torch import nn

from workbench.core.errors import BadValueError, CancelledError, DataError, NotFiniteError
from workbench.core.progress import SilentProgress
from workbench.methods import AClArC, PatternCAV, RRClArC
from workbench.methods.correction import training
from workbench.methods.correction.training import Options, task_loss
from workbench.testing.context import SmallData
from workbench.testing.kill import fit_slowly
from workbench.testing.nets import BiasFree, Residual, handle_of, randomised

ON = [1, 5, 9, 12, 20, 31]


def method(layer="features.0", **options):
    return RRClArC(PatternCAV(layer, positives=ON, resamples=0), **{"epochs": 3, "batch": 8, **options})


def weights(fitted):
    return {edit.where: edit.array for edit in fitted.edits()}


def same(one, other):
    a, b = weights(one), weights(other)
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


class Stopping(SilentProgress):
    """Cancels the training after so many steps."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def report(self):
        if self.title.startswith("training") and self.done >= self.after:
            self.token.cancel()


@pytest.mark.parametrize("optimiser", ["adam", "sgd"])
@pytest.mark.parametrize("after", [5, 9])  # in the middle of an epoch, and at the end of one
def test_a_cancelled_training_goes_on_to_the_same_bits(open_on, monkeypatch, optimiser, after):
    monkeypatch.setattr(training, "_CHECKPOINT_S", 0.0)
    whole = open_on(store="whole").fit(method(optimiser=optimiser))
    s = open_on()
    with pytest.raises(CancelledError):
        s.fit(method(optimiser=optimiser), progress=Stopping(after))
    assert any(e.kind.startswith("checkpoint") for e in s.store.entries())
    seen = []
    again = method(optimiser=optimiser)
    again.watch = lambda curve: seen.append(len(curve))
    s.fit(again)
    assert same(again, whole) and np.array_equal(again.curve_.loss, whole.curve_.loss, equal_nan=True)
    assert seen and seen[-1] == 4 and len(seen) <= 3, "the epochs before the break are not made again"
    assert not any(e.kind.startswith("checkpoint") for e in s.store.entries()), "done: the checkpoint is gone"


def test_a_killed_training_goes_on_to_the_same_bits(open_on, tmp_path):
    path = tmp_path / "killed"
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=fit_slowly, args=(str(path), 0.1))
    process.start()
    try:
        deadline = time.monotonic() + 120
        while not list(path.rglob("*checkpoint*")) and time.monotonic() < deadline and process.is_alive():
            time.sleep(0.05)
            if any(e.kind.startswith("checkpoint") for e in _entries(path)):
                break
        assert process.is_alive(), "it was to be killed while it trains"
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.join()
    s, whole = open_on(store="killed"), open_on(store="whole")
    seen = []
    again = method(epochs=6)
    again.watch = lambda curve: seen.append(len(curve))
    assert same(s.fit(again), whole.fit(method(epochs=6))) and len(seen) < 6


def _entries(path):
    from workbench.store import Store

    return Store.open(path, read_only=True).entries() if (path / "store.json").exists() or path.is_dir() else []


def test_the_same_seed_gives_the_same_and_another_another(open_on):
    one, two, three = (open_on(store=f"s{i}").fit(method(seed=seed)) for i, seed in enumerate((0, 0, 1)))
    assert same(one, two) and not same(one, three)


def test_what_does_not_fit_into_memory_is_computed_again(open_on, monkeypatch):
    one = open_on(store="held").fit(method())
    monkeypatch.setattr(training, "_HELD_BYTES", 0)
    other = open_on(store="anew").fit(method())
    for name, value in weights(one).items():
        np.testing.assert_allclose(value, weights(other)[name], rtol=1e-4, atol=1e-5)


def test_the_lower_part_runs_once_per_sample(open_on):
    s = open_on()
    s.fit(PatternCAV("features.3", positives=ON, resamples=0))
    trained = method("features.3", epochs=5)
    calls = []
    real = torch.nn.Conv2d.forward

    def counted(self, x):
        if self.in_channels == 3:
            calls.append(len(x))
        return real(self, x)

    torch.nn.Conv2d.forward = counted
    try:
        s.fit(trained)
    finally:
        torch.nn.Conv2d.forward = real
    assert sum(calls) < 2 * 40 + 40, "two passes at most, whatever the number of epochs, and a few examples"


class Normed(nn.Module):
    """Batch norms below and above a layer, and a residual block that no cut may enter."""

    def __init__(self):
        super().__init__()
        self.net, self.extra = Residual(), nn.BatchNorm1d(6)

    def forward(self, x):
        return self.extra(self.net(x))


@pytest.mark.parametrize("layer", ["net.relu_stem", "net.b1", "net.pool"])
def test_batch_norms_keep_their_statistics_and_lower_layers_their_weights(open_on, layer):
    base = randomised(Normed())
    s = open_on(handle_of(base, (3, 10, 8)))
    before = {k: v.clone() for k, v in base.state_dict().items()}
    found = s.fit(RRClArC(PatternCAV(layer, positives=ON, resamples=0), epochs=2, batch=8))
    assert all(torch.equal(before[k], v) for k, v in base.state_dict().items()) and not base.training
    changed = set(weights(found))
    assert not any("running" in name for name in changed) and "net.head.weight" in changed
    assert not any(name.startswith("net.stem") for name in changed)
    assert ("net.b1.weight" in changed) == (layer == "net.relu_stem")
    assert ("net.a1.weight" in changed) == (layer == "net.relu_stem")
    assert ("net.side.weight" in changed) == (layer != "net.pool"), "a branch beside the layer does not change it"
    ids, plain = s.pooled(layer, np.arange(9))
    with s.corrected(found) as fixed:
        np.testing.assert_allclose(fixed.pooled(layer, np.arange(9))[1], plain, rtol=1e-5, atol=1e-6)


def test_the_head_alone(open_on):
    assert set(weights(open_on().fit(method(trains="head")))) == {"head.weight"}


def test_it_stops_early_and_keeps_the_best(open_on):
    s = open_on()
    seen = []
    trained = method(rate=0.5, epochs=30, patience=2, validation=0.3)
    trained.watch = seen.append
    curve = s.fit(trained).curve_
    assert len(curve) - 1 < 30 and not curve.is_complete and len(seen) == len(curve) - 1
    assert curve.best == int(np.nanargmin(curve.validation_loss)) == len(curve) - 3
    if curve.best == 0:
        assert not trained.edits(), "nothing was better than the model as it is"


def test_the_curve_says_what_came_of_it(open_on):
    s = open_on()
    curve = s.fit(method(validation=0.5, attacked=SmallData(40, seed=1))).curve_
    frame = curve.to_frame()
    assert len(frame) == 4 and np.isnan(frame.loc[0, ["loss", "penalty"]]).all()
    assert frame.loc[1:].notna().all(axis=None) and (
        (frame[["clean", "attacked"]] >= 0) & (frame[["clean", "attacked"]] <= 1)
    ).all(axis=None)
    assert "3 of 3 epochs, clean" in repr(curve) and "attacked" in repr(curve)
    loaded = s.fit(method(validation=0.5, attacked=SmallData(40, seed=1))).curve_
    assert loaded.to_frame().equals(frame)


def test_samples_that_cannot_be_read_cost_only_themselves(open_on):
    s = open_on(data=SmallData(40, bad=[2, 7, 30]))
    assert s.fit(method()).edits()
    with pytest.raises(DataError, match="can be read"):
        s.fit(method(samples=[2, 7]))
    with pytest.raises(BadValueError, match="1 samples have a label"):
        s.fit(method(samples=[3]))


def test_a_loss_that_is_no_number_is_told(open_on, monkeypatch):
    monkeypatch.setattr(training.F, "cross_entropy", lambda z, t: z.sum() * float("inf"))
    with pytest.raises(NotFiniteError, match="Lower `rate`"):
        open_on().fit(AClArC(PatternCAV("features.0", positives=ON, resamples=0)))


def test_options_are_checked():
    wrong: list[dict] = [{"epochs": 0}, {"rate": 0.0}, {"batch": 0}, {"optimiser": "lion"}, {"loss": "hinge"}]
    wrong += [{"validation": 0.7}, {"patience": 0}, {"patience": 3, "validation": 0.0}, {"seed": -1}]
    for one in wrong:
        with pytest.raises(BadValueError):
            Options(**one)


def test_losses_of_the_task():
    z = torch.randn(5, 1)
    loss, is_choice = task_loss("auto", 1, np.array([0, 1]))
    t = torch.tensor([0, 1, 1, 0, 1])
    assert is_choice and torch.allclose(
        loss(z, t), -((z[:, 0].sigmoid().log() * t) + (1 - t) * (-z[:, 0]).sigmoid().log()).mean()
    )
    loss, is_choice = task_loss("squared", 1, np.array([3]))
    assert not is_choice and torch.allclose(loss(z, t), ((z[:, 0] - t) ** 2).mean())
    with pytest.raises(BadValueError):
        task_loss("cross-entropy", 1, np.array([0]))
    with pytest.raises(BadValueError):
        task_loss("binary", 3, np.array([0]))


def test_plain_models_have_no_hooks_left(open_on):
    s = open_on(handle_of(randomised(BiasFree()), (3, 10, 8)))
    s.fit(method())
    for module in (*s.model.module.modules(), *s.model.base.modules()):
        assert not module._forward_hooks and "forward" not in vars(module)
