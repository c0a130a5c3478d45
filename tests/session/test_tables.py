"""Tables of a session under adverse conditions: damaged shards, parts of the data, Ctrl-C, progress of one's own."""

from __future__ import annotations

import logging
import signal
import threading

import numpy as np
import pytest
import torch
import zennit.composites

from workbench.core.errors import BadValueError, CancelledError, DamagedEntryError
from workbench.core.progress import SilentProgress
from workbench.methods import ConceptAtlas
from workbench.session.session import Session
from workbench.session.tables import REFERENCES_VERSION
from workbench.store import Store
from workbench.testing.context import SmallData
from workbench.testing.nets import BiasFree, handle_of, randomised

LAYER = "features.4"


@pytest.fixture
def open_here(tmp_path):
    opened = []

    def make(n=300, **options):
        handle = handle_of(randomised(BiasFree()), (3, 10, 8), classes=list("abcdef"))
        opened.append(Session(handle, SmallData(n), Store.open(tmp_path / "store", **options)))
        return opened[-1]

    yield make
    for session in opened:
        session.close()


class Counting:
    """Samples that the model saw."""

    def __init__(self, session):
        self.n = 0
        self.hook = session.model.module.register_forward_pre_hook(self)

    def __call__(self, module, args):
        self.n += len(args[0])


def shard_of(session, i):
    return session._find("relevances", LAYER).shards.path(i)


def flip(path):
    """Change bytes here and there, in every array: size and name stay."""
    content = bytearray(path.read_bytes())
    for at in range(len(content) // 3, len(content), 97):
        content[at] ^= 0x01
    path.write_bytes(content)


@pytest.mark.parametrize("ask", ["activations", "relevances", "references", "class_statistics"])
def test_flipped_bits_are_noticed_and_mended(open_here, ask, caplog, monkeypatch):
    caplog.set_level(logging.WARNING)
    first = open_here()
    first.sweep([LAYER, "pool"])
    expected = getattr(first, ask)(LAYER)
    flip(shard_of(first, 1))
    if ask == "references":  # those of the sweep are stored by themselves
        assert first.store.delete(_recipe(first))
    monkeypatch.setattr("workbench.store.items._checked", {})  # as in a new process, which trusts nothing yet
    again = open_here()
    counter = Counting(again)
    found = getattr(again, ask)(LAYER)
    assert counter.n in (128, 128 + 8), "one shard, and the estimate of the time"
    assert any("swept again" in r.message for r in caplog.records)
    pairs = zip(found, expected, strict=True) if ask == "class_statistics" else [(found.values, expected.values)]
    for a, b in pairs:
        assert torch.equal(torch.nan_to_num(a), torch.nan_to_num(b))


def test_an_index_that_cannot_be_read_is_made_again_from_the_tables(open_here, caplog):
    s = open_here()
    s.sweep(LAYER)
    expected, recipe = s.references(LAYER), _recipe(s)
    arrays = dict(s.store.get(recipe))
    name = f"{LAYER}|activation|values"
    arrays[name] = arrays[name].clone()
    arrays[name][-40:] ^= 1  # whole as a file, and yet no index
    s.store.delete(recipe)
    s.store.put(recipe, arrays)
    counter = Counting(s)
    found = s.references(LAYER)
    assert torch.equal(found.ids, expected.ids) and torch.equal(found.values, expected.values)
    assert counter.n == 0 and "made again from the tables" in caplog.text and s.store.get(recipe) is None
    caplog.clear()
    assert torch.equal(s.references(LAYER).values, expected.values) and not caplog.records


def _recipe(session):
    """The recipe of the references that the sweep kept."""
    found = session._find("activations", LAYER)
    return session._recipe(
        "references", result_version=REFERENCES_VERSION,
        params={"k": 40, "per_origin": 1, "pass": found.shards.recipe.digest, "extent": "all"},
    )  # fmt: skip


def test_flipped_bits_in_a_read_only_store_are_an_error(open_here, monkeypatch):
    open_here().sweep(LAYER)
    flip(shard_of(open_here(), 1))
    monkeypatch.setattr("workbench.store.items._checked", {})
    with pytest.raises(DamagedEntryError):
        open_here(read_only=True).activations(LAYER)


def test_what_is_learned_from_a_part_is_kept_apart(open_here):
    s = open_here()
    s.sweep(LAYER, samples=50)
    part = s.fit(ConceptAtlas(LAYER, layout="pca"))
    assert s.references(LAYER).n_samples == 50
    with pytest.raises(CancelledError):
        s.sweep(LAYER, progress=_Stopping(130))
    half = s.fit(ConceptAtlas(LAYER, layout="pca"))
    assert s.references(LAYER).n_samples == 128
    s.sweep(LAYER)
    whole = s.fit(ConceptAtlas(LAYER, layout="pca"))
    scores = [m.score_ for m in (part, half, whole)]
    assert not np.array_equal(scores[0], scores[1]) and not np.array_equal(scores[1], scores[2])
    again = open_here().fit(ConceptAtlas(LAYER, layout="pca"))
    np.testing.assert_array_equal(again.score_, scores[2])


class _Stopping(SilentProgress):
    def __init__(self, after):
        super().__init__()
        self.after, self.titles = after, []

    def start(self, title, total):
        self.titles.append(title)
        super().start(title, total)

    def report(self):
        if self.done >= self.after:
            self.token.cancel()


def test_progress_of_one_s_own_is_told_and_may_cancel(open_here):
    s = open_here()
    mine = _Stopping(10**9)
    s.sweep(LAYER, progress=mine)
    assert mine.done == mine.total == 300 and mine.titles[0].startswith("sweep net (about ")
    other = _Stopping(100)
    with pytest.raises(CancelledError):
        s.fit(ConceptAtlas("pool", layout="pca"), progress=other)
    assert 100 <= other.done < 300, "also of what a method asks for"
    assert s.fit(ConceptAtlas("pool", layout="pca")).is_fitted


def test_ctrl_c_stops_a_sweep_and_leaves_no_hook(open_here):
    s = open_here(600)

    class Interrupting(SilentProgress):
        def report(self):
            if self.done >= 140 and not sent.is_set():
                sent.set()
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    sent = threading.Event()
    with pytest.raises(KeyboardInterrupt):
        s.sweep(LAYER, progress=Interrupting())
    assert sent.is_set()
    assert not any(m._forward_hooks or "forward" in vars(m) for m in s.model.module.modules())
    assert s.lane.jobs == ()
    counter = Counting(s)
    s.sweep(LAYER)
    assert counter.n < 600, "what was finished is kept"


def test_a_sweep_needs_rules(open_here):
    s = open_here(20)
    with pytest.raises(BadValueError, match="gradient method"):
        s.sweep(LAYER, rule="gradient")
    assert s.sweep(LAYER, rule="gradient", relevance=False).rule is None


def test_tables_of_another_rule_or_target_are_other_tables(open_here):
    s = open_here(40)
    plain = s.relevances("features.0")
    for options in (
        {"rule": "EpsilonAlpha2Beta1"},
        {"target": "logit:2"},
        {"rule": zennit.composites.EpsilonGammaBox(low=-3.0, high=3.0)},
    ):
        other = s.relevances("features.0", **options)
        assert not torch.equal(other.values, plain.values)
        references = s.references("features.0", "relevance", **options)
        assert (
            references.target_text == other.target_text
            and references.recipe != s.references("features.0", "relevance").recipe
        )
    assert torch.equal(s.relevances("features.0").values, plain.values)


def test_the_plan_states_its_cost(open_here):
    s = open_here(40)
    planned = s.plan([LAYER, "pool"])
    assert planned.seconds_per_sample > 0 and "about" in str(planned) and planned.layers == (LAYER, "pool")
    assert s.store.entries() == []


@pytest.mark.parametrize("keep", ["tables", "references"])
def test_the_disk_that_a_plan_states_is_what_a_sweep_takes(open_small, keep):
    session = open_small()
    planned = session.plan(["relu_a", "relu_b"], keep=keep)
    before = session.store.stats()["disk"]["bytes"]
    session.sweep(["relu_a", "relu_b"], keep=keep)
    taken = session.store.stats()["disk"]["bytes"] - before
    # Of so small a sweep, headers and sidecars are a good part.
    assert planned.disk_bytes <= taken <= planned.disk_bytes + 25_000
    assert planned.seconds_per_sample > session.model.kept["measured"]
