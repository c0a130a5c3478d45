"""Registered means tested and documented: every name in a registry loads, explains itself and has a test file."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import workbench
from workbench.core import comparisons, corrections, effects, results, rounds
from workbench.core.registry import DATA, FIGURES, METHODS, MODELS, WIDGETS

ROOT = Path(__file__).resolve().parents[1]
REGISTRIES = {"method": METHODS, "model": MODELS, "data set": DATA, "widget": WIDGETS, "figure": FIGURES}


@pytest.mark.parametrize("kind", REGISTRIES)
def test_each_registered_thing_loads_and_explains_itself(kind):
    registry = REGISTRIES[kind]
    names = list(registry)
    assert names, f"no {kind} is registered"
    for name in names:
        item = registry[name]
        assert callable(item), f"{kind} {name!r}"
        assert (item.__doc__ or "").strip(), f"{kind} {name!r} has no docstring"


@pytest.mark.parametrize("kind", ["method", "widget"])
def test_each_registered_thing_has_a_test_file(kind):
    for name in REGISTRIES[kind]:
        module = REGISTRIES[kind][name].__module__
        path = Path("tests", *module.split(".")[1:])
        expected = ROOT / path.parent / f"test_{path.name}.py"
        assert expected.exists(), f"{kind} {name!r} of {module} wants {expected.relative_to(ROOT)}"


def _modules():
    names = [m.name for m in pkgutil.walk_packages(workbench.__path__, "workbench.")]
    return [n for n in names if ".widgets.src" not in n]


@pytest.mark.parametrize("name", _modules())
def test_public_means_documented(name):
    module = importlib.import_module(name)
    assert (module.__doc__ or "").strip(), name
    for public in getattr(module, "__all__", []):
        thing = getattr(module, public)
        if getattr(thing, "__module__", None) != name or not (inspect.isclass(thing) or inspect.isfunction(thing)):
            continue
        assert (thing.__doc__ or "").strip(), f"{name}.{public} has no docstring"
        # A method that overrides a described one inherits its description.
        for method, function in vars(thing).items() if inspect.isclass(thing) else []:
            if inspect.isfunction(function) and not method.startswith(("_", "test_")):
                assert inspect.getdoc(getattr(thing, method)), f"{name}.{public}.{method} has no docstring"


def test_each_record_has_a_figure():
    modules = (results, effects, corrections, comparisons, rounds)
    kinds = {name: getattr(module, name) for module in modules for name in vars(module)}
    records = [n for n, k in kinds.items() if isinstance(k, type) and issubclass(k, results.Result) and n != "Result"]
    assert sorted(FIGURES) == sorted([*records, "Bars"])  # bars are no result of a method, and have a figure too


def test_a_wrong_name_is_helped():
    with pytest.raises(KeyError, match=re.compile("Nearest.*Ranking")):
        FIGURES["Rankng"]
