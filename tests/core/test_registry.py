"""The registry finds names, helps with misspelt ones, and survives broken plugins."""

import importlib
import sys
import types
from concurrent.futures import ThreadPoolExecutor

import pytest

from workbench.core.errors import BadValueError, UnknownNameError
from workbench.core.registry import DATA, METHODS, Registry


def test_a_name_stands_for_one_thing():
    registry = Registry("thing")

    @registry.register("one", cost=3)
    class One: ...

    class Other: ...

    assert (
        registry["one"] is One
        and "one" in registry
        and list(registry) == ["one"]
        and registry.facts("one") == {"cost": 3}
    )
    with pytest.raises(BadValueError, match="registered already"):
        registry.register("one", Other)


def test_a_misspelt_name_gets_the_nearest():
    registry = Registry("thing")
    registry.register("prototype", object())
    with pytest.raises(UnknownNameError, match='Nearest: "prototype"'):
        registry["prototyp"]


def test_plugins_are_listed_loaded_on_use_and_skipped_when_broken(tmp_path, monkeypatch):
    (tmp_path / "good_plugin.py").write_text("class Good: ...\n")
    (tmp_path / "bad_plugin.py").write_text("raise RuntimeError('broken at import')\n")
    info = tmp_path / "plugins-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugins\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[test.things]\ngood = good_plugin:Good\nbad = bad_plugin:Bad\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    registry = Registry("thing", group="test.things")
    assert list(registry) == ["bad", "good"]
    assert registry["good"].__name__ == "Good"
    with pytest.warns(UserWarning, match='"bad".*broken at import'):
        found = registry.where(lambda item: True)
    assert list(found) == ["good"]


def test_what_states_a_fact_is_found_before_any_plugin_is_loaded(tmp_path, monkeypatch):
    for name in ("first", "second", "third"):
        body = "import stated as r\nr.THINGS.register(%r, %r, of=%r)\nitem = %r\n" % ((name,) * 4)
        (tmp_path / f"{name}_stated.py").write_text(body if name != "first" else "raise RuntimeError('broken')\n")
    info = tmp_path / "stated-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: stated\nVersion: 1\n")
    lines = [f"{name} = {name}_stated:item" for name in ("first", "second", "third")]
    (info / "entry_points.txt").write_text("\n".join(["[test.stated]", *lines]) + "\n")
    module = types.ModuleType("stated")
    module.THINGS = registry = Registry("thing", group="test.stated")
    monkeypatch.setitem(sys.modules, "stated", module)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    registry.register("own", object(), of="own")
    assert registry.stating(lambda facts: facts.get("of") == "own") == "own" and list(registry._items) == ["own"]
    with pytest.warns(UserWarning, match='"first".*broken'):
        assert registry.stating(lambda facts: facts.get("of") == "second") == "second"
    assert sorted(registry._items) == ["own", "second"]
    assert registry.stating(lambda facts: False) is None and sorted(registry._items) == ["own", "second", "third"]


def test_our_own_registries_are_filled_on_first_use():
    assert "concept-atlas" in METHODS
    assert {"toy", "photos", "stamps"} <= set(DATA)


def test_a_second_thread_waits_until_all_are_there(tmp_path, monkeypatch):
    (tmp_path / "slow_home.py").write_text(
        "import time, registry_of_a_test as r\ntime.sleep(0.3)\nr.THINGS.register('late', 1)\n"
    )
    module = types.ModuleType("registry_of_a_test")
    module.THINGS = Registry("thing", modules=("slow_home",))
    monkeypatch.setitem(sys.modules, "registry_of_a_test", module)
    monkeypatch.syspath_prepend(str(tmp_path))
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: module.THINGS["late"], range(4))) == [1] * 4
