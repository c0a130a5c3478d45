"""A session answers, remembers what it answered, and refuses clearly."""

from __future__ import annotations

import errno
import os
import threading

import numpy as np
import pytest
import torch
from PIL import Image

import workbench as wb
from workbench.core.errors import (
    BadValueError,
    CancelledError,
    DataError,
    ShapeError,
    StoreFullError,
    UnknownComponentError,
    UnknownLayerError,
    UnknownSampleError,
)
from workbench.core.progress import SilentProgress
from workbench.methods.base import Method
from workbench.store import Store
from workbench.sweeps import plan as plan_module
from workbench.testing.small import CLASSES, small_data

LAYERS = ["relu_a", "relu_b"]


def answers(s):
    """Everything that a session tells of its data, as arrays."""
    found = {"predict": np.array([[i, *rest] for i, _, *rest in s.predict(5, 3)])}
    for layer in LAYERS:
        found[f"{layer} activations"] = s.activations(layer).values
        found[f"{layer} relevances"] = s.relevances(layer).values
        for by in ("activation", "relevance"):
            references = s.references(layer, by, k=4)
            found[f"{layer} {by} ids"], found[f"{layer} {by} values"] = references.ids, references.values
    one = s.explain(3, record=["relu_b"])
    found |= {"heatmap": one.heatmap, "recorded": one.relevance["relu_b"], "gap": one.gap}
    found["given"] = s.explain([1, 2], "logit:1", given=["relu_b/unit/2"]).heatmap
    found["maps"] = s.concept_maps(4, ["relu_b/unit/0", "relu_b/unit/6"])
    found["classes"] = s.class_statistics("relu_b")[0]
    for mode in ("crop", "whole", "mask"):
        views = s.reference_views("relu_b/unit/1", n=3, mode=mode, size=16)
        found[f"views {mode}"] = np.stack([v.picture for v in views])
    found["tiles"], found["thumbnails"] = s.peak_crops("relu_b", size=16), s.thumbnails([0, 7], 16)
    return {name: np.asarray(value) for name, value in found.items()}


def assert_same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


# --- what is remembered ----------------------------------------------------------------------------------------------


def test_the_second_time_the_model_does_not_run(small, counting):
    assert small.sweep(LAYERS).recipe == small.sweep(LAYERS).recipe
    before = answers(small)
    counter = counting(small)
    small.sweep(LAYERS)
    small.sweep(LAYERS, relevance=False)
    small.sweep("relu_b")
    assert_same(before, answers(small))
    assert counter.calls == 0


@pytest.mark.parametrize("loses", ["nothing", "its memory tier"])
def test_yesterdays_session_finds_everything(open_small, counting, loses):
    yesterday = open_small()
    yesterday.sweep(LAYERS)
    before = answers(yesterday)
    today = open_small(store=yesterday.store if loses == "nothing" else yesterday.store.path)
    if loses != "nothing":
        assert today.store is not yesterday.store and today.store.stats()["memory"]["entries"] == 0
    assert today.model.module is not yesterday.model.module
    counter = counting(today)
    today.sweep(LAYERS)
    assert_same(before, answers(today))
    assert counter.calls == 0
    assert not today.store.verify()


def test_memory_may_be_dropped_at_any_time(small, counting):
    small.sweep(LAYERS)
    before, counter = answers(small), counting(small)
    small.store.shrink("memory")
    assert_same(before, answers(small))
    assert counter.calls == 0


def test_another_model_or_data_set_shares_nothing(open_small, counting):
    one = open_small()
    one.sweep(LAYERS)
    changed = open_small(data=small_data(20))
    counter = counting(changed)
    assert changed.activations("relu_a").values.shape == (20, 5) and counter.samples >= 20


def test_what_is_asked_for_unswept_is_swept(small, counting):
    counter = counting(small)
    assert small.activations("relu_b").values.shape == (24, 7)
    assert counter.calls > 0
    assert small.relevances("relu_b", target="label").target.tolist() == small.data.labels.tolist()


class Mean(Method):
    """Learns the mean activation of a layer."""

    name = "mean"
    needs = frozenset({"activations"})
    n_fits = 0

    def __init__(self, layer):
        self.layer = layer

    def fit(self, ctx):
        Mean.n_fits += 1
        self.mean_ = ctx.activations(self.layer).values.mean(0)
        return self

    def state(self):
        return {"mean": self.mean_}, {"n": len(self.mean_)}

    def restore(self, ctx, arrays, facts):
        self.mean_ = arrays["mean"]
        assert facts == {"n": len(self.mean_)}


def test_fitting_twice_loads(open_small):
    Mean.n_fits = 0
    s = open_small()
    first = s.fit(Mean("relu_b"))
    second, third = s.fit(Mean("relu_b")), open_small().fit(Mean("relu_b"))
    assert Mean.n_fits == 1 and first.session_ is s
    assert torch.equal(first.mean_, second.mean_) and torch.equal(first.mean_, third.mean_)
    s.fit(Mean("relu_a"))
    assert Mean.n_fits == 2


# --- tables and references -------------------------------------------------------------------------------------------


class Views(type(small_data())):
    """The small pictures, three in a row from one original."""

    @property
    def origins(self):
        return np.arange(len(self)) // 3


@pytest.mark.parametrize("per_origin", [0, 1, 2])
@pytest.mark.parametrize("by", ["activation", "relevance"])
def test_references_equal_a_search_of_the_table(open_small, by, per_origin):
    data = small_data()
    data.__class__ = Views
    s = open_small(data=data)
    table = s.activations("relu_b") if by == "activation" else s.relevances("relu_b")
    values = np.asarray(table.values)
    means = np.asarray(s.activations("relu_b", pooling="mean").values)
    k = 6
    found = s.references("relu_b", by, k, per_origin)
    for c in range(7):
        second = -means[:, c] if by == "activation" else np.zeros(24)
        order, taken = [], {}
        for i in sorted(range(24), key=lambda i, c=c, second=second: (-values[i, c], second[i], i)):
            taken[i // 3] = taken.get(i // 3, 0) + 1
            if not per_origin or taken[i // 3] <= per_origin:
                order.append(i)
        assert found.ids[c].tolist() == order[:k]
        np.testing.assert_array_equal(found.values[c], values[order[:k], c])
        peaks = np.asarray(s.activations("relu_b").peak)[order[:k], c]
        np.testing.assert_array_equal(found.peak[c], peaks)
    assert (found.n_samples, found.n_origins, found.per_origin) == (24, 8, per_origin)


@pytest.mark.parametrize("k", [24, 25, 60])
def test_slots_beyond_the_data_are_empty(small, k):
    found = small.references("relu_b", k=k)
    assert found.ids.shape == found.values.shape == (7, k)
    assert (found.ids[:, 24:] == -1).all() and (found.values[:, 24:] == -torch.inf).all()
    assert (found.ids[:, :24].sort(1).values == torch.arange(24)).all() and (found.n_valid == 24).all()


def test_a_part_of_the_data_says_its_coverage(small, counting):
    planned = small.sweep("relu_b", samples=8)
    assert planned.is_subset and "8 of 24 samples" in str(planned)
    table = small.activations("relu_b")
    assert table.coverage == pytest.approx(8 / 24) and "33%" in repr(table)
    assert int(table.is_valid.sum()) == 8 and np.isnan(np.asarray(table.values)[~table.is_valid.numpy()]).all()
    found = small.references("relu_b", k=10)
    assert found.coverage == pytest.approx(8 / 24) and found.n_samples == 8 and (found.n_valid == 8).all()
    counter = counting(small)
    small.sweep("relu_b", samples=8)
    small.sweep("relu_b", samples=planned.samples.tolist())
    assert counter.calls == 0
    small.sweep("relu_b")
    assert counter.samples >= 24
    assert small.activations("relu_b").coverage == 1 and small.references("relu_b", k=10).n_samples == 24


@pytest.mark.parametrize("batch", [1, 5, 23, 24, 1000])
def test_a_batch_may_be_larger_than_the_data(open_small, tmp_path, batch):
    s = open_small(store=tmp_path / "own")
    s.sweep("relu_b", batch=batch)
    expected = open_small()
    expected.sweep("relu_b")
    for table, other in ((s.activations, expected.activations), (s.relevances, expected.relevances)):
        torch.testing.assert_close(table("relu_b").values, other("relu_b").values, rtol=1e-5, atol=1e-6)


def test_statistics_by_class(small):
    mean, count = small.class_statistics("relu_b", "activation")
    values = small.activations("relu_b").values
    assert count.tolist() == [6, 6, 6, 6]
    torch.testing.assert_close(mean, torch.stack([values[i::4].mean(0) for i in range(4)]))
    mean, count = small.class_statistics("relu_b")
    table = small.relevances("relu_b")
    for c in range(4):
        chosen = table.target == c
        assert count[c] == chosen.sum()
        if chosen.any():
            torch.testing.assert_close(mean[c], table.values[chosen].mean(0))
        else:
            assert mean[c].isnan().all()


# --- explaining ------------------------------------------------------------------------------------------------------


def test_samples_tensors_and_pictures_are_explained_alike(small):
    ids = [2, 9, 21]
    many = small.explain(ids, record="relu_b")
    assert many.samples == (2, 9, 21) and len(many) == 3 and len(many.pictures) == 3
    assert many.heatmap.shape == (3, 12, 12) and many.relevance["relu_b"].shape == (3, 7)
    x = torch.stack([small.data.tensor(i) for i in ids])
    assert torch.equal(small.explain(x=x).heatmap, many.heatmap)
    for row, i in enumerate(ids):
        alone = small.explain(np.int64(i))
        torch.testing.assert_close(alone.heatmap[0], many.heatmap[row])
        for outside in (x[row], Image.fromarray(small.data.dataset.pictures[i])):
            torch.testing.assert_close(small.explain(x=outside).heatmap[0], many.heatmap[row])
    assert many.labels == tuple(CLASSES[t] for t in many.target)
    table = small.relevances("relu_b").values[ids]
    torch.testing.assert_close(many.relevance["relu_b"], table, rtol=1e-4, atol=1e-5)


def test_conditions_are_addresses_in_any_order(small):
    one = small.explain(3, given="relu_b/unit/2")
    assert torch.equal(one.heatmap, small.explain(3, given=["relu_b/2"]).heatmap)
    two = small.explain(3, given=["relu_b/unit/5", "relu_b/unit/2"])
    assert torch.equal(two.heatmap, small.explain(3, given=["relu_b/unit/2", "relu_b/unit/5"]).heatmap)
    assert one.given == ("relu_b/unit/2",) and one.gap.isnan().all()
    maps = small.concept_maps(3, ["relu_b/unit/5", "relu_b/unit/2", "relu_b/unit/5"])
    torch.testing.assert_close(maps[1], one.heatmap[0], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(maps[0] + maps[1], two.heatmap[0], rtol=1e-4, atol=1e-6)
    assert torch.equal(maps[0], maps[2])


REFUSED = {
    "no sample": (lambda s: s.explain(), BadValueError, "a sample id"),
    "no samples": (lambda s: s.explain([]), BadValueError, "a sample id"),
    "beyond the data": (lambda s: s.explain(24), UnknownSampleError, "It has 24"),
    "below zero": (lambda s: s.predict(-1), UnknownSampleError, "It has 24"),
    "half a sample": (lambda s: s.explain(1.5), UnknownSampleError, "No sample 1.5"),
    "a truth value": (lambda s: s.explain(True), UnknownSampleError, "No sample True"),
    "a condition's layer": (lambda s: s.explain(1, given="relub/unit/2"), UnknownLayerError, '"relu_b"'),
    "a condition": (lambda s: s.explain(1, given=["relu_b/unit/7"]), UnknownComponentError, "7"),
    "a number as a condition": (lambda s: s.explain(1, given=5), UnknownComponentError, "layer/basis/index"),
    "a recorded layer": (lambda s: s.explain(1, record="relu_c"), UnknownLayerError, "Nearest"),
    "an output": (lambda s: s.explain(1, "logit:4"), BadValueError, "4"),
    "a target": (lambda s: s.explain(1, "best"), BadValueError, '"top"'),
    "a rule": (lambda s: s.explain(1, rule="EpsilonPlu"), Exception, "EpsilonPlus"),
    "an input's shape": (lambda s: s.explain(x=torch.zeros(1, 1, 12, 12)), ShapeError, r"\(3, 12, 12\)"),
    "an input's numbers": (lambda s: s.explain(x=torch.full((3, 12, 12), torch.nan)), BadValueError, "NaN"),
    "no components": (lambda s: s.concept_maps(1, []), BadValueError, "at least one"),
    "a layer": (lambda s: s.sweep("relu_x"), UnknownLayerError, "Nearest"),
    "no layer": (lambda s: s.sweep([]), BadValueError, "at least one layer"),
    "a swept sample": (lambda s: s.sweep("relu_b", samples=[3, 24]), UnknownSampleError, "24"),
    "a gradient sweep": (lambda s: s.sweep("relu_b", rule="gradient"), BadValueError, "EpsilonPlusFlat"),
    "k": (lambda s: s.references("relu_b", k=0), BadValueError, "k"),
    "by": (lambda s: s.references("relu_b", "relevence"), BadValueError, "relevance"),
    "per_origin": (lambda s: s.references("relu_b", per_origin=-1), BadValueError, "per_origin"),
    "a mode": (lambda s: s.reference_views("relu_b/unit/1", mode="cropped"), BadValueError, "crop"),
    "a table's layer": (lambda s: s.activations("relu_x"), UnknownLayerError, "Nearest"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_exist_is_refused(small, counting, name):
    call, kind, message = REFUSED[name]
    counter = counting(small)
    with pytest.raises(kind, match=message):
        call(small)
    assert counter.calls <= 2 and not small.store.entries(), "nothing is computed or kept"
    assert small.explain(1).heatmap.isfinite().all()


def test_an_unreadable_sample_costs_the_explanation_and_not_the_sweep(open_small, tmp_path):
    folder = tmp_path / "pictures"
    for i, picture in enumerate(small_data().dataset.pictures[:6]):
        (folder / CLASSES[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / CLASSES[i % 2] / f"{i}.png")
    broken = folder / "bee" / "3.png"
    broken.write_bytes(broken.read_bytes()[:60])
    s = open_small(data=folder)
    bad = s.data.keys.index("bee/3.png")
    with pytest.raises(DataError, match=r"3\.png"):
        s.explain([0, bad])
    with pytest.raises(DataError, match=r"3\.png"):
        s.predict(bad)
    s.sweep("relu_b")
    assert s.activations("relu_b").is_valid.tolist() == [i != bad for i in range(6)]
    assert s.references("relu_b", k=6).n_samples == 5
    assert s.thumbnails([bad], 16).shape == (1, 16, 16, 3)


# --- selection -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "wrong", "kind", "message"),
    [
        ("component", "relub/unit/2", UnknownLayerError, '"relu_b"'),
        ("component", "relu_b/unit/7", UnknownComponentError, "7"),
        ("sample", 24, UnknownSampleError, "It has 24"),
        ("target", "logit:4", BadValueError, "4 outputs"),
        ("target", "difference:1:9", BadValueError, "4 outputs"),
        ("target", "component:relu_b/unit/9", UnknownComponentError, "9"),
    ],
)
def test_a_wrong_selection_changes_nothing(small, field, wrong, kind, message):
    small.selection.set(component="relu_b/2", sample=np.int64(3), target="logit:1")
    before, heard = small.selection.as_dict(), []
    small.selection.observe(heard.append)
    with pytest.raises(kind, match=message):
        setattr(small.selection, field, wrong)
    with pytest.raises(kind, match=message):
        small.selection.set(**{"sample": 5, "component": "relu_a/1", "target": "top", field: wrong})
    assert small.selection.as_dict() == before and not heard
    assert before["component"] == "relu_b/unit/2" and before["sample"] == 3


def test_groups_have_selections_of_their_own(small):
    small.group("left").sample = 4
    assert small.group("left").sample == 4 and small.selection.sample is None
    assert small.group("") is small.selection and small.group("left") is small.group("left")


# --- threads, jobs and cancelling ------------------------------------------------------------------------------------


def test_it_works_from_many_threads(small, open_small, tmp_path):
    expected = open_small(store=tmp_path / "alone")
    results, errors = {}, []

    def work(number):
        try:
            results[number] = answers(small)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not errors and len(results) == 4
    alone = answers(expected)
    for found in results.values():
        for name in found:
            np.testing.assert_allclose(found[name], alone[name], rtol=1e-4, atol=1e-5, err_msg=name)


def test_it_works_from_within_its_own_jobs(small):
    job = small.submit(lambda: (answers(small), threading.current_thread().name))
    found, thread = job.result(30)
    assert thread != threading.current_thread().name and job.state == "done"
    assert_same(found, answers(small))


def test_two_sessions_may_ask_each_other(open_small):
    one, other = open_small(), open_small()
    found = one.submit(lambda: other.run(lambda: other.explain(3).heatmap)).result(30)
    assert torch.equal(found, one.explain(3).heatmap)


class CancelsAt(SilentProgress):
    """Stops the work after a number of samples."""

    def __init__(self, n):
        super().__init__()
        self.n = n

    def report(self):
        if self.done >= self.n:
            self.token.cancel()


def test_a_cancelled_sweep_keeps_what_is_finished(open_small, tmp_path, counting, monkeypatch):
    monkeypatch.setattr(plan_module, "_SHARD_SAMPLES", 4)
    s = open_small()
    with pytest.raises(CancelledError, match="cancelled"):
        s.sweep(LAYERS, batch=4, progress=CancelsAt(12))
    counter = counting(s)
    part = s.activations("relu_b")
    assert 0 < part.coverage < 1 and counter.calls == 0, "what is there can be read, and says how much it is"
    s.sweep(LAYERS, batch=4)
    assert counter.samples <= 24 - 24 * part.coverage + 4, "what was finished is not done again"
    whole = open_small(store=tmp_path / "whole")
    whole.sweep(LAYERS, batch=4)
    assert_same(answers(s), answers(whole))


def test_closing_cancels_and_results_stay(open_small, counting):
    s = open_small()
    s.sweep("relu_b")
    gate = threading.Event()
    first, waiting = s.submit(gate.wait, 20), s.submit(lambda: None)
    threading.Timer(0.1, gate.set).start()
    s.close()
    assert first.wait(10) and waiting.wait(10) and waiting.state == "cancelled"
    again = open_small()
    counter = counting(again)
    again.references("relu_b")
    assert counter.calls == 0


# --- stores that refuse ----------------------------------------------------------------------------------------------


def test_a_store_that_may_only_be_read(open_small, tmp_path):
    prepared = open_small()
    prepared.sweep("relu_b")
    prepared.explain(3)
    store = Store.open(prepared.store.path, read_only=True)
    files = {p: p.stat().st_size for p in sorted(store.path.rglob("*")) if p.is_file()}
    s = open_small(store=store)
    assert torch.equal(s.explain(3).heatmap, prepared.explain(3).heatmap)
    assert s.explain(4, given=["relu_b/unit/1"]).heatmap.isfinite().all()
    assert s.predict(4)[0][0] in range(4) and s.concept_maps(2, ["relu_b/unit/0"]).shape == (1, 12, 12)
    assert s.references("relu_b", k=3).ids.shape == (7, 3)
    assert len(s.reference_views("relu_b/unit/1", n=3, size=16)) == 3
    assert {p: p.stat().st_size for p in sorted(store.path.rglob("*")) if p.is_file()} == files


class FullDisk:
    """Lets a number of bytes through `os.write`, then says that the disk is full."""

    def __init__(self, monkeypatch, room):
        self.room, self.write = room, os.write
        monkeypatch.setattr(os, "write", self)

    def __call__(self, fd, data):
        if len(data) > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(data)
        return self.write(fd, data)


def test_a_full_disk_stops_the_sweep_and_costs_nothing_else(open_small, tmp_path, monkeypatch):
    monkeypatch.setattr(plan_module, "_SHARD_SAMPLES", 4)
    s = open_small()
    s.explain(3)
    with monkeypatch.context() as patch:
        FullDisk(patch, 9_000)
        with pytest.raises(StoreFullError):
            s.sweep(LAYERS, batch=4)
    assert not s.store.verify() and not list(s.store.path.rglob(".tmp-*"))
    s.sweep(LAYERS, batch=4)
    whole = open_small(store=tmp_path / "whole")
    whole.sweep(LAYERS, batch=4)
    assert_same(answers(s), answers(whole))


# --- the rest --------------------------------------------------------------------------------------------------------


def test_without_data(open_small):
    s = open_small(data=False)
    assert not s.has_data and s.explain(x=torch.zeros(2, 3, 12, 12)).heatmap.shape == (2, 12, 12)
    for call in (lambda: s.explain(1), lambda: s.sweep("relu_b"), lambda: s.data, lambda: s.thumbnails([0])):
        with pytest.raises(DataError, match="has no data"):
            call()
    s.selection.component = "relu_b/unit/2"
    assert s.rules() is not None and "no data" in repr(s)


def test_labels_with_markup_stay_plain_text(small):
    assert small.class_names()[2] == "<b>cow</b>" and small.data.classes[2] == "<b>cow</b>"
    assert "<b>cow</b>" in {name for i in range(4) for _, name, *_ in small.predict(i, 4)}
    found = small.explain(0, "logit:2")
    assert found.labels == ("<b>cow</b>",)
    html = found._repr_html_() if hasattr(found, "_repr_html_") else ""
    assert "<b>cow</b>" not in html


def test_a_variant_shares_data_and_store_and_leaves_the_session_alone(small):
    from workbench.core.results import Edit

    before = small.explain(3).heatmap
    other = small.variant("without", [Edit("set", "relu_b", (2,), 0.0)])
    assert other.store is small.store and other.data is small.data and other.name == "without"
    assert (other.activations("relu_b").values[:, 2] == 0).all()
    assert (small.activations("relu_b").values[:, 2] != 0).any()
    assert torch.equal(small.explain(3).heatmap, before)
    other.close()


def test_the_names_that_the_outside_relies_on(small):
    assert small.references("relu_b", by="relevance", k=20, per_origin=1).ids.shape == (7, 20)
    assert small.layers()["relu_b"].n_components == 7
    assert {"memory", "disk"} <= small.store.stats().keys()
    assert isinstance(wb.__version__, str) and wb.__version__
    recipe = small.activations("relu_b").recipe
    assert "24 samples" in small.store.explain(recipe) and "Small" in small.store.explain(recipe)


def test_a_sweep_that_begins_does_not_hide_one_that_is_complete(small, monkeypatch):
    monkeypatch.setattr(plan_module, "_SHARD_SAMPLES", 4)
    small.sweep("relu_b", relevance=False, batch=4)
    before = small.activations("relu_b").values
    with pytest.raises(CancelledError):
        small.sweep("relu_b", batch=4, progress=CancelsAt(4))
    assert small.activations("relu_b").coverage == 1
    small.sweep("relu_b", batch=4)
    assert small.activations("relu_b").recipe == small.relevances("relu_b").recipe
    torch.testing.assert_close(small.activations("relu_b").values, before)
