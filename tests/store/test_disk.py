"""The store on disk: what is mapped, what is noticed, what is swept, who may write."""

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import safetensors.torch
import torch

from workbench.core.errors import DamagedEntryError, ReadOnlyStoreError, StoreError
from workbench.store import DiskStore, Recipe, Store, items, usage
from workbench.testing.store_suite import BOUNDS, hundred_kb, recipe

KIND = {"truncated": "bytes instead of", "flipped": "checksum", "lost": "is missing", "header": "header"}


def python(code: str, *arguments: object, **options) -> str:
    """Run code in another process and return what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, timeout=60, **options
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def data_file(store: DiskStore, of: Recipe) -> Path:
    return items.data_file_of(store.folder_of(of.digest), of.digest)


def spoil(path: Path, how: str) -> None:
    if how == "lost":
        path.unlink()
    elif how == "truncated":
        os.truncate(path, path.stat().st_size // 2)
    else:
        with path.open("r+b") as file:
            file.seek(20 if how == "header" else -5, os.SEEK_SET if how == "header" else os.SEEK_END)
            old = file.read(1)
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([old[0] ^ 1]))


@pytest.fixture
def store(tmp_path) -> DiskStore:
    return DiskStore(tmp_path / "store")


# --- what it is ------------------------------------------------------------------------------------------------------


def test_tomorrow_finds_everything(store):
    store.put(recipe(), {"a": torch.arange(3)}, meta={"n_samples": 3}, used_by="atlas-07")
    shards = store.shards(recipe(kind="pass"), BOUNDS)
    for i, (a, b) in enumerate(BOUNDS):
        shards.write(i, {"v": torch.arange(a, b)})
    shards.seal({"n": 9})
    store.link(recipe(1), recipe(kind="pass"))
    code = """
import sys; from workbench.store import Store, Recipe
store = Store.open(sys.argv[1])
first, second, third = (Recipe.from_json(t) for t in sys.argv[2:])
print(store.get(first)["a"].tolist(), store.meta(first), store.explain(first).split("; ")[1])
print(store.shards(second).column("v").tolist(), store.shards(second).sealed, store.resolve(third) == second)
"""
    told = python(code, store.path, *(json.dumps(r.to_json()) for r in (recipe(), recipe(kind="pass"), recipe(1))))
    assert told.splitlines() == [
        "[0, 1, 2] {'n_samples': 3} used by atlas-07",
        "[0, 1, 2, 3, 4, 5, 6, 7, 8] {'n': 9} True",
    ]


def test_the_files_are_what_other_tools_read(store):
    store.put(recipe(), {"a": torch.arange(6.0).reshape(2, 3), "b": torch.ones(3, dtype=torch.bfloat16)})
    path = data_file(store, recipe())
    found = safetensors.torch.load_file(path)
    assert found["a"].tolist() == [[0, 1, 2], [3, 4, 5]] and found["b"].dtype == torch.bfloat16
    with safetensors.safe_open(path, "pt") as file:
        assert file.metadata() == {"digest": recipe().digest}
    sidecar = json.loads(path.with_name(f"{recipe().digest}.json").read_text())
    assert Recipe.from_json(sidecar["recipe"]) == recipe()
    assert sidecar["size"] == path.stat().st_size and sidecar["arrays"]["a"] == {"dtype": "F32", "shape": [2, 3]}
    assert sidecar["made"].endswith("Z") and sidecar["by"].startswith("workbench ")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="looks into /proc")
def test_arrays_are_mapped_not_read(store):
    store.put(recipe(), {"a": torch.zeros(1_000_000)})
    found = store.get(recipe())["a"]
    assert data_file(store, recipe()).name in Path("/proc/self/maps").read_text()
    store.delete(recipe())
    assert found.sum() == 0, "a reader keeps what it has mapped"


def test_opening_and_reading_look_at_nothing_else(store, monkeypatch):
    store.put(recipe(), {"a": torch.zeros(2)})
    monkeypatch.setattr("workbench.store.housekeeping.scan", lambda *a, **k: pytest.fail("looked at the whole folder"))
    monkeypatch.setattr(os, "scandir", lambda *a: pytest.fail("listed a folder"))
    again = Store.open(store.path)
    assert again.get(recipe()) is not None and again.get(recipe(1)) is None
    assert recipe() in again and again.explain(recipe()).startswith("made")


def test_opening_makes_no_folder(tmp_path):
    store = Store.open(tmp_path / "not yet")
    assert store.get(recipe()) is None and store.entries() == [] and store.prune(dry_run=True) == []
    assert store.stats()["disk"]["bytes"] == 0 and not (tmp_path / "not yet").exists()


def test_lists_and_checks_need_no_torch(store):
    store.put(recipe(), hundred_kb(0))
    store.shards(recipe(kind="pass"), BOUNDS).write(0, {"v": torch.zeros(3)})
    code = """
import sys; from workbench.store import Store
store = Store.open(sys.argv[1])
print(len(store.entries()), store.verify(), store.stats()["disk"]["files"], {"torch", "numpy"} & set(sys.modules))
"""
    assert python(code, store.path) == "2 [] 5 set()"


def test_a_second_user_is_noted(store):
    store.put(recipe(), hundred_kb(0), used_by="atlas-07")
    for name in ("card", "card", "atlas-07"):
        store.get_or_make(recipe(), pytest.fail, used_by=name)
    assert store.explain(recipe()).endswith("; used by atlas-07, card")
    assert store.verify() == []


# --- format ----------------------------------------------------------------------------------------------------------


def test_a_newer_format_is_refused(store):
    from workbench.store.files import write_json

    store.put(recipe(), hundred_kb(0))
    write_json(store.path / "store.json", {"format": 2, "by": "workbench 9.1"})
    with pytest.raises(StoreError, match=r"workbench 9\.1 in format 2.*up to format 1\. Upgrade"):
        Store.open(store.path)


def test_a_folder_that_cannot_be_a_store_is_refused(store, tmp_path):
    store.put(recipe(), hundred_kb(0))
    (store.path / "store.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be read"):
        Store.open(store.path)
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is a file"):
        Store.open(tmp_path / "file")


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", KIND)
def test_a_damaged_entry_is_named_then_set_aside_and_made_anew(store, how, caplog):
    store.put(recipe(), hundred_kb(0))
    store.put(recipe(1), hundred_kb(1))
    path = data_file(store, recipe())
    spoil(path, how)
    with pytest.raises(DamagedEntryError, match=KIND[how]) as error:
        store.get(recipe())
    assert path.name in str(error.value) and path.exists() is (how != "lost"), "looking does not change anything"
    (damage,) = store.verify()
    assert damage.digest == recipe().digest and KIND[how] in damage.reason
    with caplog.at_level(logging.WARNING):
        assert store.get_or_make(recipe(), lambda: hundred_kb(7))["values"][0] == 7
    assert "set aside" in caplog.text and store.stats()["disk"]["damaged"] == 1
    assert path.with_name(f"{recipe().digest}.json.damaged").exists()
    assert store.get(recipe())["values"][0] == 7 and store.verify() == []
    assert store.get(recipe(1))["values"][0] == 1


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"check": "0"}'])
def test_a_damaged_sidecar_is_noticed(store, text):
    store.put(recipe(), hundred_kb(0))
    (store.folder_of(recipe().digest) / f"{recipe().digest}.json").write_text(text)
    with pytest.raises(DamagedEntryError, match="sidecar|checksum"):
        store.get(recipe())
    assert store.entries() == [] and len(store.verify()) == 1
    assert store.get_or_make(recipe(), lambda: hundred_kb(7))["values"][0] == 7


def test_an_edited_number_in_a_sidecar_is_noticed(store):
    store.put(recipe(), hundred_kb(0), meta={"n_samples": 2048})
    path = store.folder_of(recipe().digest) / f"{recipe().digest}.json"
    path.write_text(path.read_text().replace("2048", "4096"))
    with pytest.raises(DamagedEntryError, match="its own checksum"):
        store.meta(recipe())


def test_a_sidecar_cannot_lead_out_of_the_folder(store, tmp_path):
    from workbench.store.files import read_json, write_json

    (tmp_path / "secret.safetensors").write_bytes(safetensors.torch.save({"a": torch.zeros(1)}))
    store.put(recipe(), hundred_kb(0))
    path = store.folder_of(recipe().digest) / f"{recipe().digest}.json"
    write_json(path, {**read_json(path), "file": "../../../secret.safetensors"})
    with pytest.raises(DamagedEntryError, match="is missing"):
        store.get(recipe())
    store.delete(recipe())
    assert (tmp_path / "secret.safetensors").exists()


@pytest.mark.parametrize("is_read", [True, False], ids=["read", "resumed"])
@pytest.mark.parametrize("how", KIND)
def test_a_damaged_shard_is_named_then_missing_then_made_anew(store, how, is_read):
    shards = store.shards(recipe(), BOUNDS)
    for i, (a, b) in enumerate(BOUNDS):
        shards.write(i, {"v": torch.arange(a, b)})
    shards.seal({"n": 9})
    spoil(shards.path(1), how)
    again = DiskStore(store.path).shards(recipe())
    assert again.is_complete is (how in ("flipped", "header")), "sizes are looked at, checksums only when read"
    assert [d.digest for d in store.verify()] == [recipe().digest]
    if is_read:
        with pytest.raises(DamagedEntryError, match=rf"{KIND[how]}.*Run the sweep again"):
            again.column("v")
        assert again.present == [0, 2]
    assert again.missing == [1] and again.done == [0, 2]
    assert again.sealed is None and not again.is_complete and again.store.stats()["disk"]["damaged"] == 1
    again.write(1, {"v": torch.arange(3, 5)})
    again.seal({"n": 9})
    assert again.column("v").tolist() == list(range(9)) and store.verify() == []


def test_arrays_that_are_not_read_are_not_checked(store):
    """A column of a large pass must not cost a look at all others."""
    shards = store.shards(recipe(), [(0, 2)])
    shards.write(0, {"a": torch.zeros(2), "b": torch.zeros(2)})
    spoil(shards.path(0), "flipped")  # the last bytes are those of b
    assert DiskStore(store.path).shards(recipe()).column("a").tolist() == [0, 0]
    with pytest.raises(DamagedEntryError, match='array "b"'):
        shards.read(0, ["b"])
    assert shards.missing == [0]


def test_a_pass_whose_description_is_damaged_is_begun_anew(store):
    store.shards(recipe(), BOUNDS).write(0, {"v": torch.zeros(3)})
    (store.path / "passes" / recipe().digest / "pass.json").write_text("{")
    with pytest.raises(DamagedEntryError):
        store.shards(recipe())
    assert store.shards(recipe(), BOUNDS).missing == [0, 1, 2]


def test_a_replaced_entry_is_not_mistaken_for_a_damaged_one(store, monkeypatch):
    """A reader holds yesterday's sidecar while another process replaces both files."""
    store.put(recipe(), hundred_kb(1))
    original, calls = items._check_file, []

    def replace_first(path, *arguments, **options):
        if not calls:
            calls.append(1)
            DiskStore(store.path).put(recipe(), hundred_kb(2))
        return original(path, *arguments, **options)

    monkeypatch.setattr(items, "_check_file", replace_first)
    assert store.get(recipe())["values"][0] == 2


def test_checksums_are_compared_once_per_process(store, monkeypatch):
    store.put(recipe(), hundred_kb(0))
    sums, original = [], items.sum_of_range
    monkeypatch.setattr(items, "sum_of_range", lambda *a: sums.append(1) or original(*a))
    monkeypatch.setattr(items, "_checked", {})
    for again in (store, store, DiskStore(store.path)):
        again.get(recipe())
    assert sums == [1]
    store.verify()
    assert sums == [1, 1]


# --- read-only -------------------------------------------------------------------------------------------------------


def test_a_read_only_store_reads_and_computes_in_memory(store, tmp_path):
    store.put(recipe(), hundred_kb(0))
    store.shards(recipe(kind="pass"), BOUNDS).write(0, {"v": torch.zeros(3)})
    before = {p: p.stat().st_mtime_ns for p in store.path.rglob("*")}
    tiered = Store.open(store.path, read_only=True)
    assert tiered.get(recipe())["values"][0] == 0 and tiered.shards(recipe(kind="pass")).missing == [1, 2]
    made = []
    for _ in range(2):
        assert tiered.get_or_make(recipe(1), lambda: made.append(1) or hundred_kb(1))["values"][0] == 1
    assert made == [1] and "in memory only" in tiered.explain(recipe(1))
    for write in (
        lambda: tiered.put(recipe(2), hundred_kb(2)),
        lambda: tiered.shards(recipe(kind="pass")).write(1, {"v": torch.zeros(2)}),
        lambda: tiered.link(recipe(3), recipe()),
        lambda: tiered.delete(recipe()),
        lambda: tiered.prune(max_bytes=0),
        lambda: tiered.clean(everything=True, data=None) and tiered.clean(everything=True),
    ):
        with pytest.raises(ReadOnlyStoreError, match="WORKBENCH_STORE"):
            write()
    assert {p: p.stat().st_mtime_ns for p in store.path.rglob("*")} == before


def test_damage_in_a_read_only_store_is_made_anew_in_memory(store):
    store.put(recipe(), hundred_kb(0))
    spoil(data_file(store, recipe()), "flipped")
    shut = Store.open(store.path, read_only=True)
    assert shut.get_or_make(recipe(), lambda: hundred_kb(7))["values"][0] == 7
    assert data_file(store, recipe()).exists()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to become somebody else")
def test_a_folder_without_write_access_is_read_only_by_itself():
    import shutil
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="workbench-shared-"))
    try:
        store = DiskStore(folder / "store")
        store.put(recipe(), hundred_kb(0))
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        code = """
import os, sys
from workbench.store import DiskStore, Recipe
from workbench.core.errors import ReadOnlyStoreError
import numpy
DiskStore(sys.argv[2]).put(Recipe("x"), {"a": numpy.zeros(3)})  # imports what somebody else might not be able to read
os.setuid(65534)
store = DiskStore(sys.argv[1])
forced = DiskStore(sys.argv[1], read_only=False)
print(store.read_only, len(store.entries()), store.verify(), end=" ")
for each in (store, forced):
    try:
        each.put(Recipe("x"), {"a": numpy.zeros(3)})
    except ReadOnlyStoreError as error:
        print("may not" if each is forced and "may not be written" in str(error) else "read-only", end=" ")
"""
        assert python(code, store.path, folder / "other") == "True 1 [] read-only may not"
    finally:
        shutil.rmtree(folder)


# --- sweeping up and making room -------------------------------------------------------------------------------------


def test_leftovers_of_dead_processes_are_swept(store):
    from workbench.store.files import _HOST

    store.put(recipe(), hundred_kb(0))
    folder = store.folder_of(recipe().digest)
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    dead = folder / f".tmp-{_HOST}-{gone.pid}-0-x"
    mine = folder / f".tmp-{_HOST}-{os.getpid()}-99-x"
    foreign = folder / f".tmp-00000000-{gone.pid}-0-x"
    ancient = folder / f".tmp-00000000-{gone.pid}-1-x"
    orphan = folder / f"{recipe().digest[:2]}{'0' * 30}.12345678.safetensors"
    fresh = folder / f"{recipe().digest[:2]}{'1' * 30}.12345678.safetensors"
    second = folder / f"{recipe().digest}.00000000.safetensors"
    trash = store.path / "passes" / ".trash-1-1"
    trash.mkdir(parents=True)
    for path in (dead, mine, foreign, ancient, orphan, fresh, second, trash / "shard-00000.json"):
        path.write_text("x")
    for path in (ancient, orphan, second):
        os.utime(path, (time.time() - 90_000,) * 2)
    DiskStore(store.path).put(recipe(1), hundred_kb(1))
    assert [p.exists() for p in (dead, mine, foreign, ancient)] == [False, True, True, False]
    assert [p.exists() for p in (orphan, fresh, second, trash)] == [False, True, False, False]
    assert store.get(recipe()) is not None and store.verify() == []


def test_uses_by_other_processes_count(tmp_path):
    store = DiskStore(tmp_path / "store", budget_bytes=350_000)
    for n in range(3):
        store.put(recipe(n), hundred_kb(n))
        time.sleep(0.005)
    DiskStore(store.path).get(recipe(0))
    store.put(recipe(3), hundred_kb(3))
    assert [store.get(recipe(n)) is not None for n in range(4)] == [True, False, True, True]


def test_damaged_files_go_first_when_room_is_needed(tmp_path):
    store = DiskStore(tmp_path / "store", budget_bytes=350_000)
    store.put(recipe(0), hundred_kb(0))
    time.sleep(0.005)
    store.put(recipe(1), hundred_kb(1))
    spoil(data_file(store, recipe(1)), "flipped")
    store.get_or_make(recipe(1), lambda: hundred_kb(1))
    store = DiskStore(store.path, budget_bytes=350_000)
    store.put(recipe(2), hundred_kb(2))
    assert [store.get(recipe(n)) is not None for n in range(3)] == [True, True, True]
    assert not list(store.path.rglob("*.safetensors.damaged"))


def test_sizes_are_those_of_the_files(store):
    for n in range(3):
        store.put(recipe(n), hundred_kb(n))
    store.put(recipe(0), {"values": torch.zeros(3)})
    shards = store.shards(recipe(kind="pass"), BOUNDS)
    for i in range(2):
        shards.write(i, {"v": torch.zeros(BOUNDS[i][1] - BOUNDS[i][0])})
    files = [p for p in store.path.rglob("*") if p.is_file() and p.parent != store.path and p.parent.name != "locks"]
    head = (store.path / "passes" / recipe(kind="pass").digest / "pass.json").stat().st_size
    total = sum(p.stat().st_size for p in files)
    assert store.stats()["disk"]["bytes"] in (total, total - head), "a pass's description is counted at the next look"
    assert DiskStore(store.path).stats()["disk"]["bytes"] == total
    assert DiskStore(store.path).stats()["disk"]["files"] == len(files)
    assert sum(e.bytes for e in store.entries()) == total


def test_clean_forgets_links_and_leftovers(store):
    store.put(recipe(), hundred_kb(0))
    store.link(recipe(1), recipe())
    spoil(data_file(store, recipe()), "flipped")
    store.get_or_make(recipe(), lambda: hundred_kb(0))
    store.clean("resnet-toy")
    assert not list((store.path / "links").iterdir())
    store.clean(everything=True)
    assert [p.name for p in store.path.rglob("*") if p.is_file()] == ["store.json"]


def test_the_scan_is_quick(store):
    """Ten thousand entries: the one look at the folder, when a budget first asks, and never on opening."""
    store.put(recipe(), {"a": torch.zeros(2)})
    sidecar = store.folder_of(recipe().digest) / f"{recipe().digest}.json"
    text, data = sidecar.read_text(), data_file(store, recipe()).read_bytes()
    for n in range(10_000):
        digest = f"{n * 7919 % 65536:04x}{n:028x}"
        folder = store.folder_of(digest)
        folder.mkdir(exist_ok=True)
        (folder / f"{digest}.json").write_text(text)
        (folder / f"{digest}.00000000.safetensors").write_bytes(data)
    start = time.perf_counter()
    again = Store.open(store.path)
    assert again.get(recipe()) is not None
    opened = time.perf_counter()
    rows = usage.scan(store.path, sweep=False)
    scanned = time.perf_counter()
    assert len(rows) == 10_001
    assert opened - start < 0.25 and scanned - opened < 3, (opened - start, scanned - opened)


def test_layers_with_links_of_their_own_are_listed_by_kind_model_and_data(tmp_path):
    store = DiskStore(tmp_path / "store")

    def table(kind="activations", layer="", model="net@11111111"):
        return Recipe(kind=kind, model=model, data="set@22222222", layer=layer)

    target = table(kind="pass")
    store.put(target, {"a": torch.zeros(2)})
    for one in (table(), table(layer="a"), table(layer="b", model="renamed@11111111"), table("relevances", "c")):
        store.link(one, target)
    assert store.linked_layers(table()) == {"a", "b"}
    assert store.linked_layers(table("relevances")) == {"c"}
    assert store.linked_layers(table(model="net@33333333")) == set()
    assert DiskStore(tmp_path / "nowhere").linked_layers(table()) == set()


def test_what_a_kill_left_of_a_removed_pass_is_neither_listed_nor_damaged(store):
    store.shards(recipe(kind="pass"), BOUNDS).write(0, {"v": torch.zeros(3)})
    (folder,) = (store.path / "passes").iterdir()
    trash = folder.with_name(".trash-123-456")
    folder.rename(trash)  # as a removal begins; killed before it has removed all files
    next(trash.glob("shard-*.safetensors")).unlink()
    fresh = DiskStore(store.path)
    assert fresh.entries() == [] and fresh.verify() == []
