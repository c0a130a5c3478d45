"""Sweeps over a small data set: right numbers, whatever is unreadable, not finite, too large, cancelled or changed."""

from __future__ import annotations

import logging
import threading

import numpy as np
import pytest
import torch
from torch import nn

from workbench.attribution.base import Target
from workbench.attribution.crp import explain
from workbench.attribution.rules import composite
from workbench.core.errors import (
    CancelledError,
    DataError,
    OutOfBudgetError,
    ReadOnlyStoreError,
    ShapeError,
    StaleError,
    StoreError,
)
from workbench.core.progress import SilentProgress
from workbench.core.results import Edit
from workbench.store import Store
from workbench.sweeps.plan import plan_sweep
from workbench.sweeps.run import run_sweep
from workbench.sweeps.tables import Pass, activation_table, find_pass, relevance_table
from workbench.testing.context import SmallData
from workbench.testing.nets import BiasFree, Residual, handle_of, randomised

SHAPE = (3, 10, 8)
LAYERS = ("features.0", "features.4", "pool", "head")


@pytest.fixture(scope="module")
def handle():
    return handle_of(randomised(BiasFree()), SHAPE)


@pytest.fixture
def store(tmp_path):
    return Store.open(tmp_path / "store")


def plan(handle, data, layers=LAYERS, **changes):
    options = {"rule": composite("EpsilonPlusFlat"), "target": Target.top(), **changes}
    return plan_sweep(handle, data, layers, **options)


def swept(handle, data, store, layers=LAYERS, progress=None, **changes):
    return run_sweep(plan(handle, data, layers, **changes), handle, data, store, progress=progress)


def columns(shards):
    return {name: shards.column(name) for name in shards.names}


def assert_equal(one, other):
    assert list(one) == list(other)
    for name in one:
        assert torch.equal(torch.nan_to_num(one[name]), torch.nan_to_num(other[name])), name
        if one[name].dtype.is_floating_point:
            assert torch.equal(torch.isnan(one[name]), torch.isnan(other[name])), name


# --- the numbers ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["top", "label", "logit:3", "difference:0:4"])
def test_every_number_equals_a_slow_loop(handle, store, target):
    data = SmallData(21)
    goal = Target.parse(target)
    samples = range(20) if target == "label" else None  # the last one has no label
    found = Pass(swept(handle, data, store, target=goal, samples=samples), len(data))
    for i in samples or range(21):
        one = explain(handle, data.tensor(i)[None], goal, record=LAYERS, labels=[int(data.labels[i])])
        assert found.whole("target")[i] == one.start.index[0]
        torch.testing.assert_close(found.whole("score")[i], one.start.score[0])
        torch.testing.assert_close(found.whole("output")[i], one.output[0], rtol=1e-4, atol=1e-5)
        total = one.relevance.flatten(1).sum(1)[0]
        torch.testing.assert_close(found.whole("relevance_sum")[i], total, rtol=1e-3, atol=1e-4)
        for name in LAYERS:
            maps = one.activations[name][0].reshape(handle.layers[name].n_components, -1)
            relevance = one.layers[name][0].reshape(len(maps), -1)
            torch.testing.assert_close(found.whole(f"{name}|max")[i], maps.amax(1), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found.whole(f"{name}|mean")[i], maps.mean(1), rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(found.whole(f"{name}|relevance")[i], relevance.sum(1), rtol=1e-3, atol=1e-4)
            at = found.whole(f"{name}|peak")[i].long()
            torch.testing.assert_close(maps.gather(1, at[:, None])[:, 0], maps.amax(1), rtol=1e-4, atol=1e-5)


def test_activations_alone(handle, store):
    data = SmallData(21)
    alone, both = swept(handle, data, store, rule=None), swept(handle, data, store)
    assert not any("relevance" in name for name in alone.names) and "target" not in alone.names
    for name in LAYERS:
        torch.testing.assert_close(alone.column(f"{name}|max"), both.column(f"{name}|max"), rtol=1e-4, atol=1e-5)


def test_the_batch_size_hardly_matters(handle, tmp_path):
    data = SmallData(21)
    first = None
    for batch in (1, 4, 5, 21, 64):
        found = columns(swept(handle, data, Store.open(tmp_path / str(batch)), batch=batch))
        first = first or found
        for name, value in found.items():
            torch.testing.assert_close(value, first[name], rtol=1e-3, atol=1e-4)


def test_the_same_again_bit_for_bit(handle, tmp_path):
    data = SmallData(150)
    one, other = (columns(swept(handle, data, Store.open(tmp_path / n))) for n in "ab")
    assert_equal(one, other)


def test_a_layer_beside_the_path_has_no_relevance(store):
    class Aside(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b, self.head = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 5, 3), nn.Linear(4, 3)

        def forward(self, x):
            self.seen = self.b(x).mean()
            return self.head(self.a(x).mean((2, 3)))

    handle = handle_of(randomised(Aside()), SHAPE)
    found = swept(handle, SmallData(5), store, layers=("a", "b"))
    assert found.column("b|relevance").abs().max() == 0 and found.column("a|relevance").abs().max() > 0
    assert found.column("b|max").abs().max() > 0


def test_a_dense_model_needs_a_region(store):
    handle = handle_of(randomised(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())), SHAPE)
    with pytest.raises(ShapeError, match=r"Target.mask"):
        swept(handle, SmallData(5), store, layers=("0",))
    region = torch.zeros(10, 8)
    region[2:4] = 1
    found = swept(handle, SmallData(5), store, layers=("0",), target=Target.mask(region, 1))
    assert found.column("0|relevance")[:, [0, 2, 3]].abs().max() == 0 and "output" not in found.names
    assert swept(handle, SmallData(5), store, layers=("0",), rule=None).is_complete


def test_an_edited_model_is_swept_as_it_is(handle, store):
    variant = handle.variant([Edit("scale", "features.4", (2,), value=0.0)])
    for rule in (None, composite("EpsilonPlusFlat")):
        found = swept(variant, SmallData(5), store, rule=rule)
        assert found.column("features.4|max")[:, 2].abs().max() == 0
        assert found.column("features.4|max")[:, 1].abs().max() > 0


def test_double_precision_is_kept_as_single(store):
    double = handle_of(randomised(BiasFree()).double(), SHAPE)
    found = columns(swept(double, SmallData(5), store))
    assert {v.dtype for k, v in found.items() if v.dtype.is_floating_point} == {torch.float32}


def test_modules_of_residual_networks(store):
    handle = handle_of(randomised(Residual("a += b")), SHAPE)
    layers = ("a2_bn", "relu_a", "side", "b2")
    found = swept(handle, SmallData(5), store, layers=layers)
    one = explain(handle, SmallData(5).batch(range(5))[0], record=layers)
    for name in layers:
        expected = handle.layers[name].components_first(one.layers[name]).sum(2)
        torch.testing.assert_close(found.column(f"{name}|relevance"), expected, rtol=1e-3, atol=1e-4)
        maps = handle.layers[name].components_first(one.activations[name]).amax(2)
        torch.testing.assert_close(found.column(f"{name}|max"), maps, rtol=1e-4, atol=1e-5)


# --- what cannot be read or computed -------------------------------------------------------------------------------


def test_bad_pictures_cost_only_themselves(handle, tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    clean = columns(swept(handle, SmallData(40), Store.open(tmp_path / "clean")))
    data = SmallData(40, bad=[0, 7, 8, 39])
    progress = _Notes()
    shards = swept(handle, data, Store.open(tmp_path / "bad"), progress=progress)
    found = columns(shards)
    assert (~found["is_valid"]).nonzero().flatten().tolist() == [0, 7, 8, 39]
    assert shards.sealed["skipped"] == 4 and shards.shard_meta(0)["skipped"] == [0, 7, 8, 39]
    rest = found["is_valid"]
    for name, value in found.items():
        if name not in ("sample", "is_valid"):
            torch.testing.assert_close(value[rest], clean[name][rest], rtol=1e-3, atol=1e-4)
            gone = value[~rest]
            assert bool(torch.isnan(gone).all() if gone.dtype.is_floating_point else (gone == -1).all()), name
    assert found["sample"].tolist() == list(range(40))
    assert progress.notes[-1] == "4 left out"
    assert sum("left out of the sweep" in r.message and "truncated" in r.message for r in caplog.records) == 4


class _Notes(SilentProgress):
    def __init__(self):
        super().__init__()
        self.notes = []

    def report(self):
        self.notes.append(self.note)


def test_a_shard_without_one_readable_picture(handle, store):
    data = SmallData(300, bad=range(128))
    shards = swept(handle, data, store)
    found = Pass(shards, 300)
    table = activation_table(found, handle.layers["features.4"])
    assert table.is_valid.sum() == 172 and torch.isnan(table.values[:128]).all()
    assert torch.isfinite(table.values[128:]).all()
    assert (found.whole("target")[:128] == -1).all()


def test_all_pictures_unreadable(handle, store):
    """A shard without one is fine; a whole sweep of nothing would only look like a result."""
    shards = swept(handle, SmallData(20, bad=[*range(10), *range(11, 20)]), store)
    assert shards.is_complete and shards.sealed["skipped"] == 19 and shards.column("is_valid").sum() == 1
    with pytest.raises(DataError, match="None of the 20 samples of small can be read"):
        swept(handle, SmallData(20, bad=range(20)), store)


class _Exploding(nn.Module):
    """Gives infinity for pictures whose first pixel is bright, in the output, in an activation, or in relevance."""

    def __init__(self, where):
        super().__init__()
        self.conv, self.act, self.head, self.where = nn.Conv2d(3, 4, 3), nn.Identity(), nn.Linear(4, 3), where

    def forward(self, x):
        is_bad = (x[:, 0, 0, 0] > 1).to(x.dtype).reshape(-1, 1, 1, 1)
        maps = self.conv(x)
        if self.where == "activation":
            maps = self.act(maps + is_bad * float("inf")).clamp(-5, 5) if is_bad.any() else self.act(maps)
        y = self.head(maps.mean((2, 3)))
        if self.where == "output" and is_bad.any():
            y = torch.where(is_bad[:, :, 0, 0] > 0, float("nan"), y)
        if self.where == "relevance" and y.requires_grad:
            y.register_hook(lambda g: torch.where(is_bad[:, :, 0, 0] > 0, float("inf"), g))
            return y * 1
        return y


@pytest.mark.parametrize("where", ["output", "activation", "relevance"])
def test_samples_without_finite_numbers_are_left_out(store, where, caplog):
    caplog.set_level(logging.WARNING)
    data = SmallData(40)
    bright = [i for i in range(40) if data.tensor(i)[0, 0, 0] > 1]
    assert 3 < len(bright) < 20
    handle = handle_of(randomised(_Exploding(where)), SHAPE)
    shards = swept(handle, data, store, layers=("conv", "act") if where == "activation" else ("conv",))
    valid = shards.column("is_valid")
    assert (~valid).nonzero().flatten().tolist() == bright
    assert shards.sealed["skipped"] == len(bright)
    for name in shards.names:
        column = shards.column(name)
        if column.dtype.is_floating_point:
            assert torch.isfinite(column[valid]).all() and torch.isnan(column[~valid]).all(), name
    assert sum("is not finite" in r.message or "not finite" in r.message for r in caplog.records) == len(bright)


# --- memory --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", [None, composite("EpsilonPlusFlat")])
def test_out_of_memory_makes_batches_smaller_and_goes_on(handle, tmp_path, rule, caplog):
    caplog.set_level(logging.WARNING)
    data = SmallData(75)
    expected = columns(swept(handle, data, Store.open(tmp_path / "whole"), rule=rule, batch=4))
    sizes = []

    def too_large(module, args):
        sizes.append(len(args[0]))
        if len(args[0]) > 4:
            raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {len(args[0])} GiB")

    hook = handle.module.features[2].register_forward_pre_hook(too_large)
    try:
        found = columns(swept(handle, data, Store.open(tmp_path / "small"), rule=rule, batch=16))
    finally:
        hook.remove()
    assert [n for n in sizes if n > 4] == [16, 8], "what did not fit once is not tried again"
    assert sum("out of memory" in r.message for r in caplog.records) == 2
    assert_equal(found, expected)
    assert found["is_valid"].all()


def test_a_single_sample_that_does_not_fit(handle, store):
    def never(module, args):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    hook = handle.module.pool.register_forward_pre_hook(never)
    try:
        with pytest.raises(OutOfBudgetError, match="single sample does not fit") as error:
            swept(handle, SmallData(9), store)
    finally:
        hook.remove()
    assert isinstance(error.value, MemoryError) and "smaller inputs" in error.value.hint
    assert swept(handle, SmallData(9), store).is_complete, "afterwards it goes on"


def test_other_errors_are_not_swallowed(handle, store):
    hook = handle.module.pool.register_forward_pre_hook(lambda *_: 1 // 0)
    try:
        with pytest.raises(ZeroDivisionError):
            swept(handle, SmallData(9), store)
    finally:
        hook.remove()
    assert not any(t.name == "workbench-reader" and t.is_alive() for t in threading.enumerate())


# --- stopping and going on -----------------------------------------------------------------------------------------


class _Stopping(SilentProgress):
    def __init__(self, after):
        super().__init__()
        self.after = after

    def report(self):
        if self.done >= self.after:
            self.token.cancel()


@pytest.mark.parametrize("rule", [None, composite("EpsilonPlusFlat")])
def test_a_cancelled_sweep_goes_on_to_the_same_result(handle, tmp_path, rule):
    data = SmallData(421, bad=[5, 200])
    whole = columns(swept(handle, data, Store.open(tmp_path / "whole"), rule=rule))
    store, calls = Store.open(tmp_path / "parts"), []
    hook = handle.module.register_forward_hook(lambda m, a, o: calls.append(len(a[0])))
    try:
        made = plan(handle, data, rule=rule)
        for after, n_done in ((0, 0), (17, 0), (128, 1), (150, 1), (300, 2), (400, 3)):
            with pytest.raises(CancelledError):
                swept(handle, data, store, rule=rule, progress=_Stopping(after))
            shards = store.shards(made.recipe, made.bounds)
            assert shards.done == list(range(n_done)) and not shards.is_complete
        n_before = sum(calls)
        progress = _Notes()
        shards = swept(handle, data, store, rule=rule, progress=progress)
        assert sum(calls) - n_before == 421 - 384, "only the last shard was missing"
        assert "384 samples found in the store" in progress.notes and progress.done == 421
    finally:
        hook.remove()
    assert_equal(columns(shards), whole)
    assert shards.sealed["skipped"] == 2, "also those of shards that were made before"


def test_a_sweep_cancelled_at_its_very_end_needs_only_its_seal(handle, store):
    data = SmallData(140)
    with pytest.raises(CancelledError):
        swept(handle, data, store, progress=_Stopping(140))
    hook = handle.module.register_forward_hook(lambda *_: pytest.fail("the model ran"))
    try:
        assert swept(handle, data, store).is_complete
    finally:
        hook.remove()


def test_a_complete_sweep_runs_nothing(handle, store):
    data = SmallData(30)
    swept(handle, data, store)
    hook = handle.module.register_forward_hook(lambda *_: pytest.fail("the model ran"))
    try:
        assert swept(handle, data, store).is_complete
    finally:
        hook.remove()


def test_while_it_is_unfinished_its_tables_say_so(handle, store):
    data = SmallData(300)
    with pytest.raises(CancelledError):
        swept(handle, data, store, progress=_Stopping(150))
    found = find_pass(store, "activations", handle.fingerprint, data.fingerprint, 300, "pool")
    assert found.coverage == pytest.approx(128 / 300)
    table = activation_table(found, handle.layers["pool"])
    assert table.coverage == found.coverage and int(table.is_valid.sum()) == 128 and len(table) == 300
    assert torch.isnan(table.values[128:]).all() and "43% of the data" in repr(table)
    assert found.extent == ["all", [0]]
    swept(handle, data, store)
    assert find_pass(store, "activations", handle.fingerprint, data.fingerprint, 300, "pool").extent == "all"


# --- parts of the data ---------------------------------------------------------------------------------------------


def test_a_part_of_the_data(handle, store):
    data = SmallData(60)
    whole = swept(handle, data, store)
    ids = [3, 17, 18, 59]
    shards = swept(handle, data, store, samples=ids, batch=3)
    found = Pass(shards, 60)
    assert found.coverage == pytest.approx(4 / 60) and shards.n_samples == 4
    table = activation_table(found, handle.layers["features.4"])
    assert table.is_valid.nonzero().flatten().tolist() == ids and table.coverage < 0.1
    torch.testing.assert_close(table.values[ids], whole.column("features.4|max")[ids], rtol=1e-4, atol=1e-5)
    assert torch.isnan(table.values[0]).all()
    relevances = relevance_table(found, handle.layers["features.4"], rule="EpsilonPlusFlat", target="top")
    torch.testing.assert_close(relevances.values[ids], whole.column("features.4|relevance")[ids], rtol=1e-3, atol=1e-4)
    assert relevances.target[0] == -1


def test_the_whole_is_preferred_to_a_part_and_more_to_less(handle, store):
    data = SmallData(300)

    def coverage():
        found = find_pass(store, "activations", handle.fingerprint, data.fingerprint, 300, "pool")
        return None if found is None else round(found.coverage * 300)

    assert coverage() is None
    swept(handle, data, store, samples=50)
    assert coverage() == 50
    with pytest.raises(CancelledError):
        swept(handle, data, store, progress=_Stopping(128))
    assert coverage() == 128, "more than the part"
    swept(handle, data, store, samples=200)
    assert coverage() == 200
    swept(handle, data, store)
    assert coverage() == 300


# --- what changed ----------------------------------------------------------------------------------------------------


class _Growing(SmallData):
    """Its pictures change when told to, as files on disk may."""

    version = 0

    def _read(self, i, least):
        return super()._read((i + self.version) % len(self), least)

    def _identity(self):
        yield str(self.version)
        yield from super()._identity()


def test_data_that_changed_after_planning_are_noticed(handle, store):
    data = _Growing(30)
    made = plan(handle, data)
    data.version = 1
    with pytest.raises(StaleError, match="changed after the sweep was planned"):
        run_sweep(made, handle, data, store)


def test_nothing_is_reused_after_a_change(handle, store):
    first = swept(handle, SmallData(20), store)
    heavier = randomised(BiasFree())
    with torch.no_grad():
        heavier.features[0].weight[0, 0, 0, 0] += 0.01
    for other, data in (
        (handle_of(heavier, SHAPE), SmallData(20)),
        (handle, SmallData(20, order=[*range(1, 20), 0])),
        (handle, SmallData(20, transform=lambda image: torch.ones(3, 10, 8) * sum(image.getpixel((0, 0))) / 765)),
    ):
        found = find_pass(store, "activations", other.fingerprint, data.fingerprint, 20, "pool")
        assert found is None
        shards = swept(other, data, store)
        assert not torch.equal(shards.column("features.0|max"), first.column("features.0|max"))
    assert len([e for e in store.entries() if e.is_pass]) == 4


# --- stores ----------------------------------------------------------------------------------------------------------


def test_a_read_only_store(handle, tmp_path):
    data = SmallData(20)
    swept(handle, data, Store.open(tmp_path / "store"))
    store = Store.open(tmp_path / "store", read_only=True)
    assert swept(handle, data, store).is_complete
    with pytest.raises(ReadOnlyStoreError):
        swept(handle, data, store, layers=("pool",))


def test_a_second_writer_is_told(handle, store):
    data = SmallData(40)
    made = plan(handle, data)
    inside, go = threading.Event(), threading.Event()

    class Waiting(SilentProgress):
        def report(self):
            if self.done:
                inside.set()
                assert go.wait(20)

    thread = threading.Thread(target=run_sweep, args=(made, handle, data, store), kwargs={"progress": Waiting()})
    thread.start()
    try:
        assert inside.wait(20)
        with pytest.raises(StoreError, match="writing|process|being made"):
            run_sweep(made, handle, data, store)
    finally:
        go.set()
        thread.join(20)
    assert store.shards(made.recipe).is_complete


def test_a_damaged_shard_is_made_anew(handle, tmp_path):
    data = SmallData(300)
    store = Store.open(tmp_path / "store")
    shards = swept(handle, data, store)
    whole = columns(shards)
    path = shards.path(1)
    content = bytearray(path.read_bytes())
    path.write_bytes(content[: len(content) // 2])  # truncated
    again = Store.open(tmp_path / "store")
    assert not again.shards(plan(handle, data).recipe).is_complete
    calls = []
    hook = handle.module.register_forward_hook(lambda m, a, o: calls.append(len(a[0])))
    try:
        found = swept(handle, data, again)
    finally:
        hook.remove()
    assert sum(calls) == 128
    assert_equal(columns(found), whole)


def test_what_is_not_a_whole_number_of_batches(handle, store):
    for n in (1, 16, 17, 33):
        shards = swept(handle, SmallData(n), store, batch=16)
        assert shards.column("sample").tolist() == list(range(n)) and bool(shards.column("is_valid").all())
        assert np.isfinite(shards.column("pool|relevance").numpy()).all()
