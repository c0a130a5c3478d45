"""Recipes: canonical form, digest, what they refuse."""

import copy
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

from workbench.core.errors import BadValueError
from workbench.core.ids import ComponentId, Fingerprint
from workbench.store import Recipe

FULL = Recipe(
    "relevances",
    model=Fingerprint("3f9a81c2" * 4, name="resnet-toy"),
    data="toy@0123456789abcdef",
    layer="layer4",
    params={"rule": "EpsilonPlusFlat", "share": 0.1, "k": 20, "on": True, "none": None, "list": [1, [2.5, "ä"]]},
    seed=3,
    title="of the paper",
)


def test_the_digest_does_not_change_between_releases():
    """Yesterday's store must be found tomorrow: raise `format` of the store when this number has to change."""
    assert FULL.digest == "fedcdb87408b88a9bd65059f99297f42"


def test_the_digest_is_the_same_in_another_process():
    code = f"from workbench.store import Recipe; print(Recipe.from_json({json.dumps(FULL.to_json())!r}).digest)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == FULL.digest


@pytest.mark.parametrize(
    "change",
    [
        {"kind": "activations"},
        {"model": "resnet-toy@00000000"},
        {"data": "toy@00000000"},
        {"layer": "layer3"},
        {"basis": "head"},
        {"params": {}},
        {"params": {**FULL.params, "k": 21}},
        {"params": {**FULL.params, "k": 20.0}},
        {"params": {**FULL.params, "on": 1}},
        {"seed": None},
        {"seed": 4},
        {"precision": "float16"},
        {"result_version": 2},
    ],
    ids=str,
)
def test_each_field_changes_the_digest(change):
    assert FULL.but(**change).digest != FULL.digest
    assert FULL.but(**change) != FULL


def test_names_and_titles_do_not_change_the_digest():
    assert FULL.but(title="another") == FULL
    assert FULL.but(model=Fingerprint("3f9a81c2" * 4, name="renamed")) == FULL
    assert FULL.but(model="no digest here") != FULL.but(model="no digest there")
    assert hash(FULL.but(title="another")) == hash(FULL)


def test_order_tuples_and_numpy_scalars_do_not_matter():
    a = Recipe("x", params={"b": (1, 2.5), "a": np.float64(0.1), "n": np.int32(3), "t": np.bool_(True), "z": -0.0})
    b = Recipe("x", params={"z": 0.0, "t": True, "n": 3, "a": 0.1, "b": [1, 2.5]})
    assert a == b
    assert a.params["b"] == [1, 2.5] and type(a.params["n"]) is int
    assert Recipe("x", seed=np.int64(5)).seed == 5


def test_fingerprints_and_addresses_become_text():
    recipe = Recipe("x", params={"given": [ComponentId("bn2", "unit", 17)], "encoder": Fingerprint("ab" * 16, "clip")})
    assert recipe.params == {"given": ["bn2/unit/17"], "encoder": "clip@" + "ab" * 16}
    assert FULL.model == "resnet-toy@" + "3f9a81c2" * 4, "the whole digest is kept, not the eight digits people see"


def test_round_trips():
    for other in (
        Recipe.from_json(FULL.to_json()),
        Recipe.from_json(json.dumps(FULL.to_json())),
        pickle.loads(pickle.dumps(FULL)),
        copy.deepcopy(FULL),
    ):
        assert other == FULL and other.title == FULL.title and other.params == FULL.params


def test_nothing_changes_a_recipe_afterwards():
    params = {"list": [1, 2]}
    recipe = Recipe("x", params=params)
    params["list"].append(3)
    assert recipe.params["list"] == [1, 2]
    with pytest.raises(TypeError):
        recipe.params["list"] = []
    recipe.to_json()["params"]["list"].append(4)
    assert recipe.params["list"] == [1, 2]


LOOP: dict = {}
LOOP["me"] = LOOP


@pytest.mark.parametrize(
    ("params", "place"),
    [
        ({"a": {"b": [1, float("nan")]}}, "params.a.b[1]"),
        ({"a": float("inf")}, "params.a"),
        ({"a": np.zeros(2)}, "params.a"),
        ({"a": {1, 2}}, "params.a"),
        ({"a": b"bytes"}, "params.a"),
        ({"a": {3: 4}}, "params.a"),
        ({"a": [object()]}, "params.a[0]"),
        (LOOP, "params.me"),
    ],
    ids=lambda v: v if isinstance(v, str) else "",
)
def test_what_json_cannot_hold_is_refused_by_its_place(params, place):
    with pytest.raises(BadValueError, match=place.replace("[", r"\[")):
        Recipe("x", params=params)


@pytest.mark.parametrize(
    "given", [{"kind": ""}, {"kind": 3}, {"model": 3}, {"seed": 1.5}, {"seed": True}, {"result_version": None}], ids=str
)
def test_wrong_fields_are_refused(given):
    with pytest.raises(BadValueError):
        Recipe(**{"kind": "x", **given})


def test_misspelt_fields_name_the_nearest():
    with pytest.raises(BadValueError, match='"layer"'):
        FULL.but(layr="x")
    with pytest.raises(BadValueError, match='"basis"'):
        Recipe.from_json({"kind": "x", "bassis": "unit"})
    with pytest.raises(BadValueError):
        Recipe.from_json("{")
    with pytest.raises(BadValueError):
        Recipe.from_json([1])


def test_people_can_read_it():
    assert FULL.describe() == "of the paper from resnet-toy@3f9a… and toy@0123…"
    assert FULL.but(title="").describe() == "relevances of layer4/unit from resnet-toy@3f9a… and toy@0123…"
    assert FULL.short in repr(FULL)


def test_importing_the_store_does_not_import_torch_or_numpy():
    code = (
        "import sys, workbench.store, workbench.store.recipe\n"
        "from workbench.store import Store, DiskStore, MemoryStore, TieredStore, ShardSet, Entry\n"
        "print(sorted({'torch', 'numpy', 'safetensors'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
