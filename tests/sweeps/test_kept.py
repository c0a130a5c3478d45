"""A sweep that keeps references alone gives exactly those of a sweep that keeps tables, whatever happens to it."""

from __future__ import annotations

import multiprocessing
import random
import time

import numpy as np
import pytest
import torch
from torch import nn

from workbench.attribution.base import Target
from workbench.attribution.rules import composite
from workbench.core.errors import BadValueError, CancelledError, DamagedEntryError, IncompleteError, StaleError
from workbench.core.progress import SilentProgress
from workbench.methods import ConceptAtlas
from workbench.session.session import Session
from workbench.session.tables import KEPT_REFERENCES
from workbench.store import Store
from workbench.sweeps import kept as kept_module
from workbench.sweeps import plan as plan_module
from workbench.sweeps.kept import find_kept, kept_recipe
from workbench.sweeps.plan import plan_sweep
from workbench.sweeps.rows import Rows
from workbench.testing.context import SmallData, sweep_small
from workbench.testing.nets import BiasFree, handle_of, randomised

LAYERS = ["features.0", "features.4", "pool"]
KINDS = ("activation", "relevance")


class Saturating(nn.Module):
    """Its activations are cut off, so that many samples tie at the maximum of a unit; one unit is never positive."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 5, 3), nn.Hardtanh(0, 0.02), nn.Conv2d(5, 7, 3), nn.Hardtanh(0, 0.5))
        self.head = nn.Linear(7, 4)

    def forward(self, x):
        return self.head(self.features(x).mean((2, 3)))


@pytest.fixture
def opened(tmp_path):
    """Open a session on a store by name; `net` and `data` as given."""
    sessions = []

    def make(store="store", data=None, net=None, **options):
        net = randomised(BiasFree()) if net is None else net
        handle = handle_of(net, (3, 10, 8))
        sessions.append(Session(handle, data or SmallData(300), Store.open(tmp_path / store, **options)))
        return sessions[-1]

    yield make
    for session in sessions:
        session.close()


class Counting:
    """Samples that the model of a session saw."""

    def __init__(self, session):
        self.n = 0
        session.model.module.register_forward_pre_hook(self)

    def __call__(self, module, args):
        self.n += len(args[0])


class Stopping(SilentProgress):
    """Cancels after so many samples."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def report(self):
        if self.done >= self.after:
            self.token.cancel()


def facts(found):
    names = ("ids", "values", "peak", "target", "n_valid")
    arrays = {name: getattr(found, name) for name in names if getattr(found, name) is not None}
    return arrays, (found.n_samples, found.n_origins, found.per_origin, found.shape, found.coverage)


def assert_same(one, other):
    (a, said_a), (b, said_b) = facts(one), facts(other)
    assert said_a == said_b and list(a) == list(b)
    for name, t in a.items():
        assert t.dtype == b[name].dtype and torch.equal(t, b[name]), name


def slow(values, second, is_valid, origins, k):
    """One view per original: larger value, then larger second value, then smaller id."""
    ids = np.full((values.shape[1], k), -1)
    for c in range(values.shape[1]):
        rows = sorted(np.flatnonzero(is_valid), key=lambda r: (-values[r, c], -second[r, c], r))
        seen, chosen = set(), []
        for r in rows:
            if origins[r] not in seen:
                seen.add(origins[r])
                chosen.append(r)
        ids[c, : len(chosen[:k])] = chosen[:k]
    return torch.from_numpy(ids)


def passes(session):
    return [entry for entry in session.store.entries() if entry.is_pass]


@pytest.mark.parametrize("n_held", [None, 7, 50])
@pytest.mark.parametrize("n_views", [1, 3])
@pytest.mark.parametrize("kind", ["plain", "saturating"])
def test_equal_to_tables_and_to_the_definition(opened, monkeypatch, kind, n_views, n_held):
    net = randomised(BiasFree()) if kind == "plain" else randomised(Saturating())
    layers = LAYERS if kind == "plain" else ["features.1", "features.3", "head"]
    data = SmallData(300, n_views=n_views, bad=[5, *range(128, 256)])  # one shard has no readable sample
    tables = opened("tables", data, net)
    tables.sweep(layers)
    if n_held is not None:  # chosen from in several turns within a shard, in batches that do not fit
        row = sum(tables.layers()[name].n_components for name in layers) * 16 + 4 * tables.model.n_classes + 32
        monkeypatch.setattr(plan_module, "_SHARD_BYTES", n_held * row)
        assert tables.plan(layers, keep="references").n_held == n_held
    kept = opened("kept", data, net)
    kept.sweep(layers, keep="references")
    n_ties = 0
    for layer in layers:
        for by in KINDS:
            found = kept.references(layer, by, k=KEPT_REFERENCES)
            assert_same(found, tables.references(layer, by, k=KEPT_REFERENCES))
            assert_same(kept.references(layer, by, k=3), tables.references(layer, by, k=3))
            table = tables.activations(layer) if by == "activation" else tables.relevances(layer)
            second = tables.activations(layer, pooling="mean").values if by == "activation" else table.values * 0
            twin = slow(table.values.numpy(), second.numpy(), table.is_valid.numpy(), data.origins, KEPT_REFERENCES)
            assert torch.equal(found.ids, twin), (layer, by)
            n_ties += int((found.values[:, 1:] == found.values[:, :-1]).sum()) if by == "activation" else 0
            if by == "relevance":
                component, slot = (found.ids >= 0).nonzero(as_tuple=True)
                sample = found.ids[component, slot]
                assert torch.equal(found.target[component, slot], table.target[sample])
    assert kind == "plain" or n_ties > 100


def test_in_the_end_there_is_one_entry_and_nothing_is_computed_again(opened):
    first = opened()
    done = first.sweep(LAYERS, keep="references")
    assert [entry.kind for entry in first.store.entries()] == ["references"] and passes(first) == []
    assert done.disk_bytes < 300 * sum(first.layers()[name].n_components for name in LAYERS) * 16
    before = first.references("pool")
    again = opened()
    counter = Counting(again)
    again.sweep(LAYERS, keep="references")
    again.sweep("pool", keep="references")
    assert_same(again.references("pool"), before)
    assert counter.n == 0


def test_activations_alone(opened):
    session = opened()
    session.sweep("pool", relevance=False, keep="references")
    (entry,) = session.store.entries()
    recipe = kept_recipe(session.plan("pool", relevance=False, keep="references").recipe)
    assert set(session.store.get(recipe)) == {
        *(f"pool|activation|{name}" for name in ("ids", "values", "peak")), "sample", "is_valid"
    }  # fmt: skip
    assert entry.n_samples == 300 and (session.references("pool").ids >= 0).any()


def test_what_was_not_kept_is_an_error_with_a_hint(opened):
    session = opened(data=SmallData(300, n_views=2))
    session.sweep(LAYERS, keep="references")
    counter = Counting(session)
    asked = {
        "activations": lambda: session.activations("pool"),
        "relevances": lambda: session.relevances("pool"),
        "kept references alone, not its activations": lambda: session.fit(ConceptAtlas("pool", relevance=False)),
        "not its relevances": lambda: session.class_statistics("pool"),
        "not its activations": lambda: session.class_statistics("pool", "activation"),
        "41 of each": lambda: session.references("pool", k=41),
        "per_origin=2": lambda: session.references("pool", per_origin=2),
        "per_origin=0": lambda: session.references("pool", "relevance", per_origin=0),
    }
    for text, ask in asked.items():
        with pytest.raises(IncompleteError, match=text) as caught:
            ask()
        assert 'session.sweep("pool")' in caught.value.hint
    assert counter.n == 0
    session.sweep("pool")
    for ask in asked.values():
        ask()


def test_where_every_sample_is_an_original_views_are_no_question(opened):
    kept, tables = opened("kept"), opened("tables")
    kept.sweep("pool", keep="references")
    tables.sweep("pool")
    for per_origin in (0, 2):
        assert_same(kept.references("pool", per_origin=per_origin), tables.references("pool", per_origin=per_origin))


def test_tables_that_are_there_serve(opened):
    session = opened()
    session.sweep(LAYERS)
    counter = Counting(session)
    session.sweep(["pool", "features.0"], keep="references")
    assert counter.n == 0 and [entry.kind for entry in session.store.entries()] == ["references", "pass"]


def test_half_filled_it_says_how_far_it_is(opened):
    data = SmallData(300, n_views=2)
    session, tables = opened("kept", data), opened("tables", data)
    tables.sweep(LAYERS, samples=range(128))
    with pytest.raises(CancelledError):
        session.sweep(LAYERS, keep="references", progress=Stopping(130))
    for by in KINDS:
        found = session.references("features.4", by)
        assert found.coverage == pytest.approx(128 / 300) and found.n_samples == 128
        assert_same(found, tables.references("features.4", by))
    half = session.references("pool")
    with pytest.raises(IncompleteError, match="kept references alone"):
        session.activations("pool")
    counter = Counting(session)
    session.sweep(LAYERS, keep="references")
    assert 300 - 128 <= counter.n <= 300 - 128 + 8, "what was swept before is not swept again"
    whole = session.references("pool")
    assert whole.coverage == 1 and whole.recipe != half.recipe and passes(session) == []


def test_a_part_of_the_data(opened):
    session, tables = opened("kept"), opened("tables")
    for one, keep in ((session, "references"), (tables, "tables")):
        one.sweep(LAYERS, samples=50, keep=keep)
    for by in KINDS:
        assert_same(session.references("pool", by), tables.references("pool", by))
        assert session.references("pool", by).coverage == pytest.approx(50 / 300)
    session.sweep("pool", keep="references")
    assert session.references("pool").coverage == 1 and session.references("features.0").coverage < 1


def test_a_later_sweep_hides_no_layer_of_an_earlier_one(opened):
    session = opened()
    session.sweep(["features.0", "pool"], keep="references")
    session.sweep(["pool", "features.4"], keep="references")
    counter = Counting(session)
    assert all(session.references(layer).coverage == 1 for layer in LAYERS) and counter.n == 0


@pytest.mark.parametrize("at", ["before the links", "before the shards are removed"])
def test_what_a_kill_at_the_very_end_leaves_is_whole_and_is_removed(opened, monkeypatch, at):
    class Killed(BaseException):
        pass

    def killed(*args, **options):
        if at == "before the shards are removed" or "to" in options:
            raise Killed
        return link(*args, **options)

    link, name = kept_module.link_tables, "link_tables" if at == "before the links" else "remove_candidates"
    session, expected = opened(), opened("whole")
    expected.sweep(LAYERS, keep="references")
    with monkeypatch.context() as patch:
        patch.setattr(kept_module, name, killed)
        with pytest.raises(Killed):
            session.sweep(LAYERS, keep="references")
    assert len(passes(session)) == 1, "the shards are still there"
    again = opened()
    counter = Counting(again)
    assert_same(again.references("pool"), expected.references("pool"))
    again.sweep(LAYERS, keep="references")
    assert passes(again) == [] and counter.n <= 8
    assert_same(again.references("pool", "relevance"), expected.references("pool", "relevance"))


def test_a_changed_weight_and_reordered_data_are_noticed(opened):
    opened().sweep("pool", keep="references")
    heavier = randomised(BiasFree())
    with torch.no_grad():
        heavier.features[0].weight[0, 0, 0, 0] += 0.01
    for options in ({"net": heavier}, {"data": SmallData(300, order=[*range(1, 300), 0])}):
        other = opened(**options)
        assert other._find_kept("activations", "pool") is None
        counter = Counting(other)
        other.sweep("pool", keep="references")
        assert counter.n >= 300
    assert len(opened().store.entries()) == 3


def test_data_that_change_meanwhile_are_noticed(opened):
    class Growing(SmallData):
        version = 0

        def _identity(self):
            yield str(self.version)
            yield from super()._identity()

    data = Growing(30)
    session = opened(data=data)
    session.data.fingerprint
    type(data).version = 1
    with pytest.raises(StaleError):
        session.sweep("pool", keep="references")


def flip(path):
    content = bytearray(path.read_bytes())
    for at in range(len(content) // 3, len(content), 97):
        content[at] ^= 0x55
    path.write_bytes(content)


def test_a_damaged_entry_is_made_anew(opened, monkeypatch, tmp_path):
    first, whole = opened(), opened("whole")  # what a session hands out is mapped from the file
    for session in (first, whole):
        session.sweep(LAYERS, keep="references")
    expected = whole.references("pool")
    (path,) = (tmp_path / "store" / "entries").rglob("*.safetensors")
    flip(path)
    monkeypatch.setattr("workbench.store.items._checked", {})
    with pytest.raises(DamagedEntryError):
        opened(read_only=True).references("pool")
    again = opened()
    assert_same(again.references("pool"), expected)
    monkeypatch.setattr("workbench.store.items._checked", {})
    (path,) = (tmp_path / "store" / "entries").rglob("*.safetensors")
    flip(path)
    third = opened()
    third.sweep(LAYERS, keep="references")
    assert_same(third.references("pool"), expected)


def test_a_damaged_shard_is_made_anew(opened, monkeypatch, tmp_path):
    first, whole = opened(), opened("whole")
    whole.sweep(LAYERS, keep="references")
    with pytest.raises(CancelledError):
        first.sweep(LAYERS, keep="references", progress=Stopping(130))
    (path,) = (tmp_path / "store" / "passes").rglob("shard-*.safetensors")
    flip(path)
    monkeypatch.setattr("workbench.store.items._checked", {})
    assert_same(opened().references("pool"), whole.references("pool"))


def test_what_is_held_does_not_grow_with_the_data(opened, monkeypatch):
    monkeypatch.setattr(plan_module, "_SHARD_BYTES", 40_000)
    held = {}
    for n in (300, 1500):
        rows = []

        def noting(self, n, columns, rows=rows, of=Rows.__init__):
            of(self, n, columns)
            rows.append(sum(a.nbytes for a in self._arrays.values()))

        with monkeypatch.context() as patch:
            patch.setattr(Rows, "__init__", noting)
            session = opened(f"store-{n}", SmallData(n))
            done = session.sweep(LAYERS, keep="references")
        assert len(done.bounds) <= 72
        held[n] = max(rows)
        held[n, "stored"] = session.store.entries()[0].bytes - 21 * n
    assert held[300] == held[1500] <= 40_000
    assert held[1500, "stored"] < held[300, "stored"] * 1.3, "ids take more bytes, and that is all"


def test_few_large_shards_for_large_data(opened):
    session = opened(data=SmallData(20_000))
    plan = session.plan(LAYERS, keep="references")
    assert 60 <= len(plan.bounds) <= 70 and plan.bounds[-1][1] == 20_000
    assert "until it ends" in plan.cost and "references by activations and relevances" in str(plan)
    assert plan.disk_bytes < session.plan(LAYERS).disk_bytes / 10


def test_there_are_two_things_to_keep(opened):
    with pytest.raises(BadValueError, match="keep"):
        opened().sweep("pool", keep="table")


# --- killed ----------------------------------------------------------------------------------------------------------

N = 1100


@pytest.fixture(scope="module")
def processes():
    """A server that has imported everything once and forks from there."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["workbench.testing.context", "workbench.sweeps.kept", "workbench.testing.nets"])
    return context


def test_killed_at_random_points_it_goes_on_to_the_same_bytes(processes, tmp_path):
    handle, data = handle_of(randomised(BiasFree()), (3, 10, 8)), SmallData(N, bad=[3, 200])
    rule = composite("EpsilonPlusFlat")
    plan = plan_sweep(handle, data, ["features.4", "head"], rule=rule, target=Target.top(), keep="references")
    options = {"seconds_per_batch": 0.02, "keep": "references"}

    def content(path):
        store = Store.open(path)
        assert store.verify() == [] and [entry.kind for entry in store.entries()] == ["references"]
        for kind in ("activations", "relevances"):
            found = find_kept(store, kind, handle.fingerprint, data.fingerprint, N, "head", rule=rule, target="top")
            assert found.is_complete and found.extent == "all"
        return {name: t.numpy().tobytes() for name, t in store.get(kept_recipe(plan.recipe)).items()}

    def start(path):
        started = processes.Event()
        child = processes.Process(target=sweep_small, args=(str(path), N), kwargs={**options, "started": started})
        child.start()
        assert started.wait(60)
        return child

    child = start(tmp_path / "whole")
    child.join(60)
    whole = content(tmp_path / "whole")
    # Killed by how far it is and not by the clock, which says little on a busy machine; then a moment later.
    chance, path, points, n_shards = random.Random(3), tmp_path / "killed", [], len(plan.bounds)
    for wanted in (0, 1, n_shards // 3, n_shards // 2, n_shards - 2, n_shards - 1):
        child = start(path)
        while child.is_alive() and len(list(path.glob("passes/*/shard-*.json"))) < wanted:
            time.sleep(0.001)
        child.join(chance.uniform(0, 0.02))
        child.kill()
        child.join(30)
        if child.exitcode == 0:
            break
        points.append(len(Store.open(path).shards(plan.recipe, plan.bounds).present))
    child = start(path)
    child.join(60)
    assert child.exitcode == 0 and content(path) == whole, f"after kills at {points}"
    assert len(set(points)) >= 3, points


def test_of_two_processes_at_once_the_second_waits_and_reads(processes, tmp_path):
    path, options = str(tmp_path / "store"), {"seconds_per_batch": 0.01, "keep": "references"}
    events = [processes.Event(), processes.Event()]
    children = [
        processes.Process(target=sweep_small, args=(path, 300), kwargs={**options, "started": e}) for e in events
    ]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0]
    assert [entry.kind for entry in Store.open(path).entries()] == ["references"]
