"""What every `Store` must do, as tests. A new store gets them by subclassing `StoreSuite` and saying how to open one.

class TestMine(StoreSuite):
    def open(self, path, budget_bytes=None):
        return MyStore(path, budget_bytes=budget_bytes)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from workbench.core.errors import (
    BadValueError,
    IncompleteError,
    ShapeError,
    StaleError,
    StoreError,
    StoreFullError,
    UnknownNameError,
)
from workbench.store import Recipe, Store

__all__ = ["StoreSuite", "recipe"]

BOUNDS = [(0, 3), (3, 5), (5, 9)]


def recipe(n: int = 0, **changes: Any) -> Recipe:
    """Make the n-th of a family of recipes."""
    made = Recipe("activations", model="resnet-toy@3f9a81c2d4", data="toy@0123456789", layer="layer4", seed=n)
    return made.but(**changes)


def hundred_kb(n: int) -> dict[str, torch.Tensor]:
    """Arrays of 100 kB."""
    return {"values": torch.full((25_000,), float(n))}


def _of_type(dtype: torch.dtype) -> torch.Tensor:
    return torch.arange(15).remainder(2).reshape(3, 5).to(dtype)


ARRAYS: dict[str, Callable[[], Any]] = {
    **{
        f"torch {dtype}": partial(_of_type, dtype)
        for dtype in (
            torch.bool,
            torch.uint8,
            torch.int8,
            torch.int16,
            torch.int32,
            torch.int64,
            torch.float16,
            torch.bfloat16,
            torch.float32,
            torch.float64,
        )
    },
    "infinite and NaN": lambda: torch.tensor([float("inf"), -float("inf"), float("nan"), -0.0]),
    "a number": lambda: torch.tensor(2.5),
    "no rows": lambda: torch.zeros(0, 7),
    "transposed": lambda: torch.arange(6.0).reshape(2, 3).T,
    "expanded": lambda: torch.arange(3.0).expand(4, 3),
    "with gradient": lambda: torch.ones(3, requires_grad=True),
    "numpy": lambda: np.arange(6, dtype=np.float32).reshape(2, 3),
    "numpy booleans": lambda: np.array([True, False]),
    "numpy big-endian": lambda: np.arange(4, dtype=">f4"),
    "numpy reversed": lambda: np.arange(6)[::-2],
    "numpy Fortran": lambda: np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "numpy read-only": lambda: np.frombuffer(b"\x01\x02\x03", dtype=np.uint8),
    "two megabytes": lambda: torch.arange(500_003, dtype=torch.float32),
}

REFUSED: dict[str, dict[Any, Any]] = {
    "a list": {"values": [1.0, 2.0]},
    "objects": {"values": np.array([object()])},
    "text": {"values": np.array(["a"])},
    "complex": {"values": torch.zeros(2, dtype=torch.complex64)},
    "sparse": {"values": torch.eye(3).to_sparse()},
    "no name": {"": torch.zeros(2)},
    "a reserved name": {"__metadata__": torch.zeros(2)},
    "a number as name": {3: torch.zeros(2)},
}


class StoreSuite:
    """Tests of the contract; subclass and implement `open`."""

    def open(self, path: Path, budget_bytes: int | None = None) -> Store:
        """Open a store whose budget for results is `budget_bytes`."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, tmp_path: Path) -> Store:
        return self.open(tmp_path / "store")

    # --- arrays ------------------------------------------------------------------------------------------------------

    def test_what_was_never_stored_is_none(self, store):
        assert store.get(recipe()) is None
        assert store.meta(recipe()) is None
        assert recipe() not in store
        assert store.entries() == [] and store.verify() == []
        assert not store.delete(recipe())
        assert store.explain(recipe()).startswith("not stored: activations of layer4")
        assert store.explain("abcdef") == "not stored: abcdef"

    @pytest.mark.parametrize("name", ARRAYS)
    def test_arrays_come_back_as_they_were(self, store, name):
        array = ARRAYS[name]()
        store.put(recipe(), {"first": array, "second": torch.arange(3)})
        found = store.get(recipe())
        wanted = array.detach() if isinstance(array, torch.Tensor) else torch.from_numpy(np.array(array.tolist()))
        assert list(found) == ["first", "second"] or set(found) == {"first", "second"}
        assert found["first"].shape == wanted.shape
        if isinstance(array, torch.Tensor):
            assert found["first"].dtype == array.dtype
        else:
            assert str(found["first"].dtype) == f"torch.{array.dtype.name}"
        torch.testing.assert_close(found["first"], wanted.to(found["first"].dtype), rtol=0, atol=0, equal_nan=True)
        assert not found["first"].requires_grad and found["first"].device.type == "cpu"

    def test_no_arrays_are_an_answer_too(self, store):
        store.put(recipe(), {}, meta={"why": "nothing fires"})
        assert store.get(recipe()) == {}
        assert store.get_or_make(recipe(), pytest.fail) == {}

    @pytest.mark.parametrize("name", REFUSED)
    def test_what_is_no_array_is_refused_by_name(self, store, name):
        with pytest.raises(BadValueError, match="array"):
            store.put(recipe(), REFUSED[name])
        assert store.get(recipe()) is None

    def test_a_second_put_replaces_the_first(self, store):
        store.put(recipe(), {"a": torch.zeros(3)}, meta={"n": 1})
        held = store.get(recipe())["a"]
        store.put(recipe(), {"b": torch.ones(2)}, meta={"n": 2})
        assert set(store.get(recipe())) == {"b"} and store.meta(recipe()) == {"n": 2}
        assert held.tolist() == [0, 0, 0], "whoever holds the old arrays keeps them"
        assert len(store.entries()) == 1

    def test_what_the_caller_does_to_its_arrays_later_changes_nothing(self, store):
        given, other = torch.zeros(3), np.zeros(3)
        store.put(recipe(), {"a": given, "b": other})
        given.add_(1)
        other += 1
        assert store.get(recipe())["a"].tolist() == [0, 0, 0]
        assert store.get(recipe())["b"].tolist() == [0, 0, 0]

    def test_an_array_changed_in_place_is_not_handed_out_again(self, store):
        made = []

        def make():
            made.append(1)
            return {"a": torch.zeros(3)}

        store.get_or_make(recipe(), make)["a"].add_(1)
        assert store.get_or_make(recipe(), make)["a"].tolist() == [0, 0, 0]

    def test_tensors_of_inference_mode_can_be_used_outside_of_it(self, store):
        with torch.inference_mode():
            store.put(recipe(), {"a": torch.ones(3)})
            found = store.get(recipe())["a"]
            again = store.get(recipe())["a"]
        for array in (found, again, store.get(recipe())["a"]):
            assert not array.is_inference()
            (array * torch.ones(3, requires_grad=True)).sum().backward()

    def test_notes_are_kept(self, store):
        notes = {"n_samples": 2048, "list": [1, (2, 3)], "text": "ä", "nan": float("nan"), "np": np.int64(3)}
        store.put(recipe(), {"a": torch.zeros(1)}, meta=notes)
        found = store.meta(recipe())
        assert found["list"] == [1, [2, 3]] and found["text"] == "ä" and found["np"] == 3
        assert found["nan"] != found["nan"]
        with pytest.raises(BadValueError, match=r"meta.x"):
            store.put(recipe(1), {"a": torch.zeros(1)}, meta={"x": object()})
        assert store.get(recipe(1)) is None

    # --- making ------------------------------------------------------------------------------------------------------

    def test_it_is_made_once(self, store):
        made = []

        def make():
            made.append(1)
            return {"a": torch.arange(3)}, {"n_samples": 3}

        for _ in range(3):
            assert store.get_or_make(recipe(), make, used_by="atlas-07")["a"].tolist() == [0, 1, 2]
        assert made == [1] and store.meta(recipe()) == {"n_samples": 3}
        assert recipe() in store

    def test_a_failing_make_leaves_nothing_and_may_be_repeated(self, store):
        with pytest.raises(ZeroDivisionError):
            store.get_or_make(recipe(), lambda: 1 / 0)
        with pytest.raises(BadValueError, match="make"):
            store.get_or_make(recipe(), lambda: torch.zeros(3))
        assert store.get(recipe()) is None and store.entries() == []
        assert set(store.get_or_make(recipe(), lambda: {"a": torch.zeros(1)})) == {"a"}

    def test_making_may_ask_for_something_else_but_not_for_itself(self, store):
        def outer():
            inner = store.get_or_make(recipe(1), lambda: {"a": torch.ones(2)})
            return {"b": inner["a"] + 1}

        assert store.get_or_make(recipe(), outer)["b"].tolist() == [2, 2]
        with pytest.raises(StoreError, match="its own result"):
            store.get_or_make(recipe(2), lambda: store.get_or_make(recipe(2), pytest.fail))

    def test_threads_make_it_once(self, store):
        made, found, start = [], [], threading.Barrier(8)

        def make():
            made.append(1)
            time.sleep(0.05)
            return {"a": torch.arange(3)}

        def work():
            start.wait()
            found.append(store.get_or_make(recipe(), make)["a"].tolist())

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert made == [1] and found == [[0, 1, 2]] * 8

    def test_threads_read_and_write_side_by_side(self, tmp_path):
        store, errors = self.open(tmp_path / "store", budget_bytes=1_500_000), []

        def work(k: int):
            try:
                for step in range(20):
                    n = (k * 7 + step) % 15  # more than the budget holds
                    found = store.get_or_make(recipe(n), lambda n=n: hundred_kb(n))
                    assert found["values"][0] == n
                    store.stats()
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert errors == []

    # --- shards ------------------------------------------------------------------------------------------------------

    def test_shards_grow_piece_by_piece(self, store):
        shards = store.shards(recipe(), BOUNDS, {"batch": 2})
        assert len(shards) == 3 and shards.n_samples == 9
        assert shards.missing == [0, 1, 2] and shards.done == [] and shards.coverage == 0 and shards.names == []
        assert store.entries() == [] and recipe() not in store, "nothing is written before there is something"
        with shards.lock():
            shards.write(1, {"v": torch.ones(2, 4), "n": np.arange(2)}, {"seconds": 1.5})
        assert shards.missing == [0, 2] and shards.done == shards.present == [1]
        assert shards.coverage == pytest.approx(2 / 9) and shards.names == ["n", "v"]
        assert shards.shard_meta(1) == {"seconds": 1.5} and shards.shard_meta(0) is None
        shards.write(0, {"v": torch.zeros(3, 4), "n": np.arange(3)})
        shards.write(2, {"v": torch.full((4, 4), 2.0), "n": np.arange(4)})
        assert not shards.is_complete and shards.sealed is None
        shards.seal({"n_valid": 9})
        again = store.shards(recipe())
        assert again.is_complete and again.sealed == {"n_valid": 9} and again.meta == {"batch": 2}
        assert again.bounds == tuple(BOUNDS) and again.coverage == 1
        assert again.column("v")[:, 0].tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 2]
        assert again.column("n").tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 3]
        assert set(again.read(2)) == {"v", "n"} and set(again.read(2, ["n"])) == {"n"}
        (entry,) = store.entries()
        assert entry.is_pass and entry.is_complete and entry.n_samples == 9 and entry.bytes > 0
        assert recipe() in store and "9 samples" in store.explain(recipe())

    @pytest.mark.parametrize(
        ("dtype", "expected"),
        [
            (torch.float32, "nan"),
            (torch.float16, "nan"),
            (torch.int64, "-1"),
            (torch.uint8, "0"),
            (torch.bool, "False"),
        ],
        ids=str,
    )
    def test_columns_fill_the_rows_of_missing_shards(self, store, dtype, expected):
        shards = store.shards(recipe(), BOUNDS)
        with pytest.raises(IncompleteError, match="No shard"):
            shards.column("v")
        shards.write(1, {"v": torch.ones(2, dtype=dtype)})
        column = shards.column("v")
        assert column.dtype == dtype and [str(v) for v in column.tolist()[:3]] == [expected] * 3
        assert column[3:5].tolist() == [1, 1] and len(column) == 9
        assert shards.column("v", fill=0)[0] == 0

    def test_columns_refuse_what_is_no_column(self, store):
        shards = store.shards(recipe(), BOUNDS)
        shards.write(0, {"top": torch.zeros(7), "v": torch.zeros(3, 2), "count": torch.tensor(3)})
        shards.write(1, {"top": torch.zeros(7), "v": torch.zeros(2, 5), "count": torch.tensor(2)})
        for name in ("top", "count"):
            with pytest.raises(ShapeError, match="one row per sample"):
                shards.column(name)
        with pytest.raises(StaleError, match="not made alike"):
            shards.column("v")
        with pytest.raises(UnknownNameError, match='Nearest: "count"'):
            shards.column("counts")
        assert shards.read(0)["top"].shape == (7,)

    def test_one_shard_may_be_all(self, store):
        shards = store.shards(recipe(), [(0, 5)])
        shards.write(0, {"v": torch.arange(5)})
        assert shards.column("v").tolist() == [0, 1, 2, 3, 4]
        shards.seal()
        assert shards.sealed == {} and shards.is_complete

    def test_a_subset_of_the_samples_keeps_its_numbers(self, store):
        shards = store.shards(recipe(), [(2, 4), (10, 11)])
        shards.write(1, {"v": torch.ones(1)})
        assert shards.n_samples == 3 and len(shards.column("v")) == 3

    def test_what_is_not_there_cannot_be_read_or_sealed(self, store):
        shards = store.shards(recipe(), BOUNDS)
        with pytest.raises(IncompleteError, match=r"Shard 1 .*samples 3 to 4"):
            shards.read(1)
        shards.write(1, {"v": torch.zeros(2)})
        with pytest.raises(IncompleteError, match="2 shards of 3 are missing: 0, 2"):
            shards.seal()
        for i in (-1, 3, True, "0"):
            with pytest.raises(BadValueError, match="counted from 0"):
                shards.write(i, {"v": torch.zeros(2)})
        with pytest.raises(StoreError, match="No pass"):
            store.shards(recipe(5))

    def test_other_bounds_are_another_pass(self, store):
        store.shards(recipe(), BOUNDS).write(0, {"v": torch.zeros(3)})
        with pytest.raises(StaleError, match="bounds"):
            store.shards(recipe(), [(0, 9)])
        assert store.delete(recipe())
        assert len(store.shards(recipe(), [(0, 9)])) == 1

    @pytest.mark.parametrize("bounds", [[(3, 3)], [(0, 3), (2, 5)], [(3, 5), (0, 3)], [(-1, 2)]], ids=str)
    def test_bounds_ascend_without_overlap(self, store, bounds):
        with pytest.raises(BadValueError, match="ascending"):
            store.shards(recipe(), bounds)

    def test_only_one_writes_a_pass(self, store):
        shards, other = store.shards(recipe(), BOUNDS), []
        shards.write(0, {"v": torch.zeros(3)})

        def intrude():
            with pytest.raises(StoreError, match="being written"):
                store.shards(recipe()).write(1, {"v": torch.zeros(2)})
            other.append(store.shards(recipe()).present)

        with shards.lock():
            thread = threading.Thread(target=intrude)
            thread.start()
            thread.join()
        assert other == [[0]], "readers go on"
        store.shards(recipe()).write(1, {"v": torch.zeros(2)})

    # --- links, lists, budgets ---------------------------------------------------------------------------------------

    def test_links_lead_to_what_holds_the_result(self, store):
        table, sweep = recipe(), recipe(kind="pass")
        assert store.resolve(table) is None
        store.link(table, sweep)
        assert store.resolve(table) is None, "the pass is not there yet"
        store.shards(sweep, [(0, 2)]).write(0, {"v": torch.zeros(2)})
        assert store.resolve(table) == sweep and table in store
        assert store.explain(table).startswith(f"part of pass of layer4 ({sweep.short}), made ")
        store.put(table, {"v": torch.zeros(2)})
        assert store.resolve(table) == table, "its own entry comes first"
        store.delete(table)
        store.link(table, sweep)
        store.delete(sweep)
        assert store.resolve(table) is None
        with pytest.raises(BadValueError):
            store.link(table, table)

    def test_it_says_what_it_holds(self, store):
        store.put(recipe(), hundred_kb(1), meta={"n_samples": 2048}, used_by="atlas-07")
        store.put(recipe(1, title="the other"), hundred_kb(1))
        text = store.explain(recipe())
        assert text.startswith("made ") and "2 048 samples" in text and text.endswith("used by atlas-07")
        assert "from resnet-toy@3f9a… and toy@0123…" in text and "100 kB" in text.replace("101", "100")
        assert store.explain(recipe().digest[:8]) == text
        assert {e.name for e in store.entries()} == {"activations of layer4", "the other"}
        with pytest.raises(BadValueError, match="six digits"):
            store.explain("abc")

    def test_a_full_budget_drops_what_was_not_used_for_longest(self, tmp_path):
        store = self.open(tmp_path / "store", budget_bytes=350_000)
        for n in range(3):
            store.put(recipe(n), hundred_kb(n))
            time.sleep(0.005)
        held = store.get(recipe(0))
        store.put(recipe(3), hundred_kb(3))
        assert [store.get(recipe(n)) is not None for n in range(4)] == [True, False, True, True]
        assert held["values"][0] == 0
        (tier,) = [t for t in store.stats().values() if t["evictions"]][:1]
        assert tier["evictions"] == 1 and tier["bytes"] <= 350_000 == tier["budget_bytes"]

    def test_what_is_larger_than_the_budget_is_refused_and_costs_nobody(self, tmp_path):
        store = self.open(tmp_path / "store", budget_bytes=150_000)
        store.put(recipe(), hundred_kb(0))
        with pytest.raises(StoreFullError, match="budget"):
            store.put(recipe(1), {"values": torch.zeros(50_000)})
        with pytest.raises(StoreFullError):
            store.shards(recipe(2), [(0, 50_000)]).write(0, {"values": torch.zeros(50_000)})
        assert store.get(recipe())["values"][0] == 0 and store.get(recipe(1)) is None

    def test_a_pass_that_is_being_written_is_never_dropped(self, tmp_path):
        store = self.open(tmp_path / "store", budget_bytes=250_000)
        shards = store.shards(recipe(kind="pass"), [(0, 25_000), (25_000, 50_000)])
        with shards.lock():
            shards.write(0, hundred_kb(1))
            for n in range(4):
                store.put(recipe(n), hundred_kb(n))
                time.sleep(0.005)
            assert shards.missing == [1]
            assert store.prune(max_bytes=0) and shards.missing == [1]
            assert store.clean(everything=True, dry_run=True) is not None and shards.missing == [1]

    def test_counters_count(self, store):
        store.get(recipe())
        store.put(recipe(), hundred_kb(0))
        store.get(recipe())
        store.get_or_make(recipe(), pytest.fail)
        tiers = store.stats()
        assert sum(t["hits"] for t in tiers.values()) == 2
        assert tiers[list(tiers)[-1]]["misses"] == 1
        for tier in tiers.values():
            assert {"hits", "misses", "evictions", "bytes", "budget_bytes", "entries"} <= set(tier)
            assert tier["entries"] == 1 and tier["bytes"] >= 100_000

    def test_prune_removes_what_was_not_used_for_longest(self, store):
        for n in range(4):
            store.put(recipe(n), hundred_kb(n))
            time.sleep(0.005)
        store.get(recipe(0))
        would = store.prune(max_bytes=250_000, dry_run=True)
        assert len(store.entries()) == 4
        gone = store.prune(max_bytes=250_000)
        assert [e.digest for e in gone] == [e.digest for e in would] == [recipe(1).digest, recipe(2).digest]
        assert store.prune(older_than_days=1) == [] and store.prune() == []
        assert len(store.prune(older_than_days=0)) == 2 and store.entries() == []
        with pytest.raises(BadValueError):
            store.prune(max_bytes=-1)

    @pytest.mark.parametrize(
        "model", ["resnet-toy", "3f9a81c2d4", "3f9a81", "resnet-toy@3f9a", "resnet-toy@3f9a81c2d4"]
    )
    def test_clean_removes_what_belongs_to_a_model(self, store, model):
        store.put(recipe(), hundred_kb(0))
        store.put(recipe(model="other@3f9a91c2d4"), hundred_kb(0))
        store.shards(recipe(kind="pass"), [(0, 2)]).write(0, {"v": torch.zeros(2)})
        assert len(store.clean(model, dry_run=True)) == 2 and len(store.entries()) == 3
        assert len(store.clean(model)) == 2
        (left,) = store.entries()
        assert left.model == "other@3f9a91c2d4"

    def test_clean_by_data_by_both_and_all(self, store):
        for n, data in enumerate(["a@00000001", "b@00000002"]):
            for model in ("m@00000003", "n@00000004"):
                store.put(recipe(n, data=data, model=model), hundred_kb(n))
        assert len(store.clean("m", "a")) == 1
        assert len(store.clean(data="a")) == 1
        assert store.clean("nothing") == [] and store.clean(data="00000") == []
        with pytest.raises(BadValueError, match="everything=True"):
            store.clean()
        assert len(store.clean(everything=True)) == 2 and store.entries() == []
        assert all(t["bytes"] == 0 for t in store.stats().values())

    def test_shrink_frees_a_tier(self, store):
        store.put(recipe(), hundred_kb(0))
        store.get(recipe())
        for tier, facts in list(store.stats().items()):
            assert store.shrink(tier) >= 100_000
            assert store.stats()[tier]["entries"] == 0 and facts["entries"] == 1
        with pytest.raises(BadValueError):
            store.shrink("tape")
