"""Tables of one layer are found in the pass that holds them, and say what they hold."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import zennit.composites

from workbench.attribution.base import Target
from workbench.attribution.rules import composite
from workbench.core.errors import BadValueError, IncompleteError
from workbench.store import Store
from workbench.sweeps.plan import plan_sweep
from workbench.sweeps.run import run_sweep
from workbench.sweeps.tables import Pass, activation_table, find_pass, relevance_table
from workbench.testing.context import SmallData
from workbench.testing.nets import BiasFree, handle_of, randomised

FLAT = composite("EpsilonPlusFlat")


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    handle, data = handle_of(randomised(BiasFree()), (3, 10, 8)), SmallData(20)
    return handle, data, Store.open(tmp_path_factory.mktemp("store") / "store")


def sweep(world, layers, **changes):
    handle, data, store = world
    plan = plan_sweep(handle, data, layers, **{"rule": FLAT, "target": Target.top(), **changes})
    return Pass(run_sweep(plan, handle, data, store), len(data))


def find(world, kind, layer, **more):
    handle, data, store = world
    return find_pass(store, kind, handle.fingerprint, data.fingerprint, len(data), layer, **{"rule": FLAT, **more})


def test_each_layer_leads_to_its_pass(world):
    both, head = sweep(world, ["pool", "features.4"]), sweep(world, ["head"], rule=None)
    assert find(world, "activations", "pool").shards.recipe == both.shards.recipe
    assert find(world, "relevances", "features.4").shards.recipe == both.shards.recipe
    assert find(world, "activations", "head").shards.recipe == head.shards.recipe
    assert find(world, "relevances", "head") is None and find(world, "activations", "features.0") is None


def test_a_later_pass_hides_no_layer_of_an_earlier_one(tmp_path):
    handle, data = handle_of(randomised(BiasFree()), (3, 10, 8)), SmallData(20)
    world = handle, data, Store.open(tmp_path / "store")
    expected = {}
    for layers in (["features.0", "pool"], ["head"], ["features.4", "head"], ["pool"], ["features.0", "features.4"]):
        expected |= dict.fromkeys(layers, sweep(world, layers).shards.recipe)
        for layer in expected:
            for kind in ("activations", "relevances"):
                found = find(world, kind, layer)
                assert layer in found.shards.recipe.params["layers"] and found.extent == "all"
    assert find(world, "activations", "features.4").shards.recipe == expected["features.4"], (
        "the last one is asked first"
    )


def test_relevances_belong_to_their_rule_and_target(world):
    sweep(world, ["pool"])
    other = sweep(world, ["pool"], target=Target.logit(2))
    rule = zennit.composites.EpsilonPlus(zero_params="bias")
    third = sweep(world, ["pool"], rule=rule)
    assert find(world, "relevances", "pool", target="logit:2").shards.recipe == other.shards.recipe
    assert find(world, "relevances", "pool", target="logit:3") is None
    assert find(world, "relevances", "pool", rule=composite("EpsilonPlus")) is None
    found = find(world, "relevances", "pool", rule=zennit.composites.EpsilonPlus(zero_params="bias"))
    assert found.shards.recipe == third.shards.recipe
    table = relevance_table(found, world[0].layers["pool"], rule=rule, target="top")
    assert table.rule == "EpsilonPlus (zennit)" and table.target_text == "top" and table.quantity == "relevance"
    assert table.target.tolist() == find(world, "relevances", "pool").whole("output").argmax(1).tolist()


def test_what_a_table_says(world):
    handle, data, _ = world
    found = sweep(world, ["features.4", "pool"])
    table = activation_table(found, handle.layers["features.4"])
    assert (table.quantity, table.pooling, table.shape, table.coverage) == ("activation", "max", (5, 4), 1.0)
    assert table.values.shape == table.peak.shape == (20, 9) and len(table) == 20
    assert table.recipe == found.shards.recipe.digest and table.ids()[3] == "features.4/unit/3"
    mean = activation_table(found, handle.layers["features.4"], "mean")
    assert mean.pooling == "mean" and bool((mean.values <= table.values + 1e-6).all())
    assert np.array(table).tolist() == np.asarray(table).tolist() == table.values.tolist()
    assert np.array(table, copy=False, dtype=np.float32).shape == (20, 9)
    frame = table.to_frame()
    assert frame.shape == (20, 9) and frame.index.name == "sample"
    assert frame["features.4/unit/3"].tolist() == table.values[:, 3].tolist()
    with pytest.raises(BadValueError, match="pooling"):
        activation_table(found, handle.layers["features.4"], "median")


def test_a_pass_without_relevance_has_no_such_table(world):
    found = sweep(world, ["head"], rule=None)
    with pytest.raises(IncompleteError, match='no relevances of "head"') as error:
        relevance_table(found, world[0].layers["head"], rule=FLAT, target="top")
    assert "relevance=True" in error.value.hint


def test_blocks_come_shard_by_shard(world):
    handle, _, store = world
    data = SmallData(300)
    plan = plan_sweep(handle, data, ["pool"], rule=None, target=Target.top())
    found = Pass(run_sweep(plan, handle, data, store), 300)
    blocks = list(found.blocks(["pool|max"]))
    assert [len(b["sample"]) for b in blocks] == [128, 128, 44]
    assert torch.equal(torch.cat([b["pool|max"] for b in blocks]), found.whole("pool|max"))
    assert sorted(blocks[0]) == ["is_valid", "pool|max", "sample"]
