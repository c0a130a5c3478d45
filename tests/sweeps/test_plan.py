"""What a plan says before anything runs, and that every fact that changes numbers changes the recipe."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
import zennit.composites

from workbench.attribution.base import Target
from workbench.attribution.rules import composite
from workbench.core.errors import BadValueError, ModelError, UnknownLayerError, UnknownSampleError
from workbench.data.transforms import Transform
from workbench.sweeps.plan import chosen_samples, measured, plan_sweep
from workbench.testing.context import SmallData
from workbench.testing.nets import BiasFree, Residual, Twice, handle_of, randomised

SHAPE = (3, 10, 8)


@pytest.fixture(scope="module")
def handle():
    return handle_of(randomised(BiasFree()), SHAPE)


def plan(handle, data=None, layers=("features.2", "features.4"), **changes):
    options = {"rule": composite("EpsilonPlusFlat"), "target": Target.top(), **changes}
    return plan_sweep(handle, data or SmallData(), layers, **options)


def test_memory_is_stated_for_the_samples_that_there_are(handle):
    n = len(SmallData())
    large, all_at_once = plan(handle, batch=100_000), plan(handle, batch=n)
    assert large.batch == n and large.memory_bytes == all_at_once.memory_bytes


def test_a_plan_runs_nothing(handle):
    calls = []
    hook = handle.module.register_forward_hook(lambda *_: calls.append(1))
    try:
        made = plan(handle)
        assert calls == [] and made.seconds_per_sample is None
        assert str(made).startswith("activations and relevances (EpsilonPlusFlat, top) of 2 layers over 37 samples: ")
        assert "s," not in made.cost and "MB on disk" in made.cost and "MB of memory at batch 16" in made.cost
        timed = measured(made, handle)
        assert len(calls) == 2 and timed.seconds_per_sample > 0 and timed.cost.startswith("about ")
        measured(made, handle)
        assert len(calls) == 2, "timed once"
    finally:
        hook.remove()


def test_layers_stand_in_the_order_in_which_they_run(handle):
    assert plan(handle, layers=["head", "features.2", "features.0", "head"]).layers == (
        "features.0",
        "features.2",
        "head",
    )
    assert plan(handle, layers="pool").layers == ("pool",)
    assert plan(handle, layers=["head", "pool"]).recipe == plan(handle, layers=("pool", "head")).recipe


def test_what_cannot_be_swept(handle):
    for wrong in (3, None):
        with pytest.raises(UnknownLayerError, match=f'No layer "{wrong}"'):
            plan(handle, layers=wrong)
    with pytest.raises(UnknownLayerError, match='No layer "feature"'):
        plan(handle, layers=["feature"])
    with pytest.raises(BadValueError, match="at least one layer"):
        plan(handle, layers=[])
    for batch in (0, -1, 2.5, True):
        with pytest.raises(BadValueError, match="batch"):
            plan(handle, batch=batch)
    with pytest.raises(ModelError, match="runs 2 times"):
        plan(handle_of(randomised(Twice()), (3, 7, 6)), layers=["again"])


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (None, list(range(9))),
        (3, [1, 3, 8]),  # one of each third
        (np.int64(2), [2, 5]),
        (1, [5]),
        (100, list(range(9))),
        (slice(2, 8, 3), [2, 5]),
        ([7, 1, 7, 3], [1, 3, 7]),
        (range(4, 6), [4, 5]),
        (np.array([5, 2]), [2, 5]),
        (torch.tensor([5, 2]), [2, 5]),
        (np.arange(9) % 4 == 1, [1, 5]),
        ((i for i in (8, 0)), [0, 8]),
    ],
)
def test_samples_may_be_named_in_many_ways(samples, expected):
    ids = chosen_samples(samples, 9)
    assert ids.tolist() == expected and ids.dtype == np.int64


@pytest.mark.parametrize(
    "samples", [0, -2, True, [], slice(5, 5), [1.5], 2.5, "all", [[1, 2]], [True, False], np.zeros(9, bool)]
)
def test_samples_that_mean_nothing(samples):
    with pytest.raises(BadValueError):
        chosen_samples(samples, 9)


@pytest.mark.parametrize("samples", [[9], [-1, 3], np.array([0, 1 << 40])])
def test_samples_that_do_not_exist(samples):
    with pytest.raises(UnknownSampleError, match="the data set has 9, from 0"):
        chosen_samples(samples, 9)


def test_everything_that_changes_numbers_changes_the_recipe(handle):
    rules = zennit.composites.EpsilonPlusFlat(zero_params="bias"), zennit.composites.EpsilonPlusFlat()
    other = handle_of(randomised(BiasFree(), seed=1), SHAPE)
    made = [
        plan(handle),
        plan(handle, layers=["features.4"]),
        plan(handle, rule=None),
        plan(handle, rule=composite("EpsilonPlus")),
        plan(handle, rule=composite("EpsilonPlusFlat", zero_bias=False)),
        plan(handle, rule=composite("EpsilonPlusFlat", epsilon=1e-5)),
        *(plan(handle, rule=rule) for rule in rules),
        plan(handle, target=Target.logit(2)),
        plan(handle, target=Target.label()),
        plan(handle, samples=12),
        plan(handle, samples=[0, 1, 2]),
        plan(handle, keep="references"),
        plan(handle, keep="references", rule=None),
        plan(handle, SmallData(36)),
        plan(handle, SmallData(seed=1)),
        plan(handle, SmallData(n_views=2)),
        plan(handle, SmallData(order=[1, 0, *range(2, 37)])),
        plan(handle, SmallData(transform=Transform(size=(10, 8), mean=(0.5,), std=(0.2,)))),
        plan(other),
        plan(handle_of(randomised(BiasFree()).double(), SHAPE)),
        plan(handle_of(randomised(Residual()), SHAPE), layers=["relu_a"]),
    ]
    for a, b in itertools.combinations(made, 2):
        assert a.recipe.digest != b.recipe.digest, (str(a), str(b))
    assert plan(handle).recipe == made[0].recipe
    assert plan(handle, batch=5).recipe == made[0].recipe, "the batch is no fact of the result"
    assert plan(handle, rule=zennit.composites.EpsilonPlusFlat()).recipe == made[7].recipe


def test_shards_cover_all_samples_once_and_bound_memory(handle):
    for n in (1, 15, 16, 127, 128, 129, 1000):
        bounds = plan(handle, SmallData(n)).bounds
        assert bounds[0][0] == 0 and bounds[-1][1] == n
        assert all(a[1] == b[0] for a, b in itertools.pairwise(bounds)) and all(a < b for a, b in bounds)
        assert all((b - a) % 16 == 0 for a, b in bounds[:-1]), "whole batches, so that a resumed sweep has the same"


def test_very_wide_layers_get_small_shards(handle):
    from workbench.sweeps import plan as module

    for row_bytes in (1, 4_000, 1_000_000, 40_000_000, 10**9):
        bounds = module._shards(5000, row_bytes)
        assert bounds[-1][1] == 5000 and max(b - a for a, b in bounds) * row_bytes <= max(64_000_000, row_bytes)


def test_a_part_of_the_data_says_so(handle):
    part = plan(handle, samples=12)
    assert part.is_subset and "over 12 of 37 samples" in str(part)
    assert not plan(handle, samples=37).is_subset and plan(handle, samples=37).recipe == plan(handle).recipe
    assert part.disk_bytes == 12 * part.row_bytes + part.fixed_bytes
