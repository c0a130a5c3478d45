"""Top-k references are exact: ties, invalid rows, views of one original, and any cut into blocks."""

import itertools
import random

import numpy as np
import pytest
import torch

from workbench.core.errors import NotFiniteError
from workbench.sweeps.references import Block, TopReferences, class_statistics, pack, top_references, unpack


def slow(values, second, is_valid, origins, k, per_origin):
    """The definition, row by row: larger value, then larger second value, then smaller id."""
    n_components = values.shape[1]
    ids, found = -np.ones((n_components, k), int), np.full((n_components, k), -np.inf, np.float32)
    for c in range(n_components):
        rows = [r for r in range(len(values)) if is_valid[r]]
        rows.sort(key=lambda r: (-values[r, c], -second[r, c], r))
        used, kept = {}, []
        for r in rows:
            if per_origin and used.get(origins[r], 0) >= per_origin:
                continue
            used[origins[r]] = used.get(origins[r], 0) + 1
            kept.append(r)
        for slot, r in enumerate(kept[:k]):
            ids[c, slot], found[c, slot] = r, values[r, c]
    return ids, found


def blocks_of(values, second, is_valid, starts, size):
    ids = torch.arange(len(values))
    spoilt = values.clone()
    spoilt[~is_valid] = float("nan")  # whatever stands in rows that are left out must not matter

    def blocks():
        for a in starts:
            part = slice(a, a + size)
            yield Block(spoilt[part], ids[part], is_valid[part], None if second is None else second[part])

    return blocks


@pytest.mark.parametrize("per_origin", [0, 1, 2, 3])
@pytest.mark.parametrize("kind", ["saturated", "few values", "all different"])
def test_equal_to_the_definition(kind, per_origin):
    g = torch.Generator().manual_seed(per_origin)
    for trial in range(25):
        n, k, size = (int(torch.randint(a, b, (1,), generator=g)) for a, b in ((3, 60), (1, 25), (2, 40)))
        values = torch.randn(n, 5, generator=g)
        if kind == "saturated":
            values = values.clamp(-1, 0.5)
        elif kind == "few values":
            values = values.round()
        values[:, 0] = 0
        second = torch.randint(0, 3, (n, 5), generator=g).float()
        is_valid = torch.rand(n, generator=g) > 0.1
        is_valid[0] = True
        origins = torch.randint(0, max(1, n // 3), (n,), generator=g).numpy()
        starts = list(range(0, n, size))
        blocks = blocks_of(values, second, is_valid, starts[:: -1 if trial % 2 else 1], size)
        ids, found = top_references(blocks(), origins, k, per_origin=per_origin)
        expected = slow(values.numpy(), second.numpy(), is_valid.numpy(), origins, k, per_origin)
        assert np.array_equal(ids.numpy(), expected[0]), (kind, trial)
        assert np.array_equal(found.numpy(), expected[1]), (kind, trial)


def test_without_a_second_value_ties_go_to_the_smaller_id():
    values = torch.tensor([[0.0, 3.0], [2.0, 3.0], [2.0, -1.0], [5.0, 3.0]])
    blocks = blocks_of(values, None, torch.ones(4, dtype=torch.bool), [0, 2], 2)
    ids, found = top_references(blocks(), np.arange(4), 3)
    assert ids.tolist() == [[3, 1, 2], [0, 1, 3]]
    assert found.tolist() == [[5, 2, 2], [3, 3, 3]]


def test_slots_without_a_sample_say_so():
    blocks = blocks_of(torch.tensor([[-2.0], [1.0], [0.5]]), None, torch.tensor([True, False, True]), [0], 3)
    ids, found = top_references(blocks(), np.array([0, 1, 1]), 4)
    assert ids.tolist() == [[2, 0, -1, -1]]
    assert found.tolist() == [[0.5, -2.0, -np.inf, -np.inf]]


def test_negative_zero_ties_with_zero():
    blocks = blocks_of(torch.tensor([[0.0], [-0.0], [0.0]]), None, torch.ones(3, dtype=torch.bool), [0], 3)
    assert top_references(blocks(), np.arange(3), 3)[0].tolist() == [[0, 1, 2]]


def test_keys_are_in_the_order_of_values_and_read_back():
    values = torch.tensor([[-3.5], [-0.25], [0.0], [1e-30], [2.0], [3e38]])
    keys = pack(values, torch.arange(6), torch.ones(6, dtype=torch.bool))
    assert bool((keys[1:] > keys[:-1]).all())
    assert torch.equal(unpack(keys)[0], values) and unpack(keys)[1].flatten().tolist() == list(range(6))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_what_is_not_finite_in_a_valid_row_is_refused(bad):
    blocks = blocks_of(torch.tensor([[1.0], [bad]]), None, torch.ones(2, dtype=torch.bool), [0], 2)
    with pytest.raises(NotFiniteError, match="valid samples"):
        top_references(blocks(), np.arange(2), 1)


def test_no_block_is_an_error():
    with pytest.raises(NotFiniteError, match="no sample"):
        top_references([], np.arange(0), 1)


def test_class_statistics_equal_plain_means_and_name_empty_classes():
    values = torch.randn(11, 4)
    classes = torch.tensor([0, 2, 2, -1, 0, 2, 0, 0, 2, -1, 2])
    values[4, 1] = float("nan")
    mean, count = class_statistics([(values[:5], classes[:5]), (values[5:], classes[5:])], 4)
    used = {c: [i for i in range(11) if int(classes[i]) == c and i != 4] for c in range(4)}
    assert count.tolist() == [len(used[c]) for c in range(4)]
    for c in (0, 2):
        assert torch.allclose(mean[c], values[used[c]].mean(0), atol=1e-6)
    assert bool(mean[1].isnan().all()) and bool(mean[3].isnan().all())


def test_the_extremes_of_single_precision_are_in_order():
    tiny = torch.finfo(torch.float32).smallest_normal / 4
    row = torch.tensor([3.4e38, 1.0, tiny, 0.0, -tiny, -1.0, -3.4e38])
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    blocks = blocks_of(row[order][:, None], None, torch.ones(7, dtype=torch.bool), [0, 3, 6], 3)
    ids, values = top_references(blocks(), np.arange(7), 7)
    assert torch.equal(values[0], row) and torch.equal(order[ids[0]], torch.arange(7))


@pytest.mark.parametrize("per_origin", [0, 1, 2])
def test_every_order_of_blocks_gives_the_same(per_origin):
    values = torch.randint(0, 4, (30, 3), generator=torch.Generator().manual_seed(1)).float()
    second, valid = values.flip(0), torch.ones(30, dtype=torch.bool)
    every = [
        top_references(blocks_of(values, second, valid, starts, 6)(), np.arange(30) // 3, 7, per_origin=per_origin)
        for starts in itertools.permutations(range(0, 30, 6))
    ]
    assert all(torch.equal(ids, every[0][0]) and torch.equal(found, every[0][1]) for ids, found in every)


@pytest.mark.parametrize("per_origin", [0, 1, 2])
def test_what_is_chosen_from_parts_merges_to_what_is_chosen_from_all(per_origin):
    g = torch.Generator().manual_seed(per_origin)
    for trial in range(20):
        n, k = 60, int(torch.randint(2, 15, (1,), generator=g))
        values = torch.randint(-2, 2 if trial % 2 else 40, (n, 4), generator=g).float() * -0.5
        second = torch.randint(0, 3, (n, 4), generator=g).float()
        peak = torch.randint(0, 99, (n, 4), generator=g, dtype=torch.int32)
        is_valid, origins = torch.rand(n, generator=g) > 0.1, torch.randint(0, 25, (n,), generator=g).numpy()
        order = torch.randperm(n, generator=g)
        whole = TopReferences(origins, k, per_origin=per_origin)
        for part in order.split(23):  # samples in no order at all
            top = TopReferences(origins, k, per_origin=per_origin)
            for rows in part.split(9):
                top.add(Block(values[rows], rows, is_valid[rows], second[rows], peak[rows]))
            whole.merge(top.result())
        found = whole.result()
        expected = slow(values.numpy(), second.numpy(), is_valid.numpy(), origins, k, per_origin)
        assert np.array_equal(found.ids.numpy(), expected[0]) and np.array_equal(found.values.numpy(), expected[1])
        component, slot = (found.ids >= 0).nonzero(as_tuple=True)
        sample = found.ids[component, slot]
        assert torch.equal(found.peak[component, slot], peak[sample, component])
        assert torch.equal(found.second[component, slot], second[sample, component])
        assert bool((found.peak[found.is_empty] == -1).all())


def test_ids_may_lie_far_apart():
    block = Block(torch.tensor([[1.0], [1.0], [2.0]]), torch.tensor([4_000_000, 0, 70_000]), torch.ones(3) > 0)
    found, _ = top_references([block], np.zeros(4_000_001), 3, per_origin=0)
    assert found.tolist() == [[70_000, 0, 4_000_000]]


def test_keys_of_any_id_lead_back_to_it():
    values, ids = torch.randn(20, 3), torch.tensor(random.Random(0).sample(range(2**32 - 2), 20))
    valid = torch.rand(20) > 0.3
    found, back = unpack(pack(values, ids, valid))
    assert torch.equal(found[valid], values[valid]) and torch.equal(back[valid], ids[valid, None].expand(-1, 3))
    assert bool((found[~valid] == -np.inf).all()) and bool((back[~valid] == -1).all())


def test_no_valid_sample_at_all_leaves_every_slot_empty():
    blocks = blocks_of(torch.ones(3, 2), None, torch.zeros(3, dtype=torch.bool), [0], 3)
    ids, values = top_references(blocks(), np.arange(3), 2)
    assert ids.tolist() == [[-1, -1]] * 2 and values.tolist() == [[-np.inf, -np.inf]] * 2


@pytest.mark.parametrize("k", [1, 3, 8, 20])
@pytest.mark.parametrize("n_values", [1, 3, 10, 10_000])
def test_ties_are_found_without_sorting_all(n_values, k):
    from workbench.sweeps.references import _ends_in_ties, _has_ties, pack

    generator = torch.Generator().manual_seed(k)
    values = torch.randint(n_values, (20, 200), generator=generator).float()
    is_valid = torch.rand(20, generator=generator) < 0.8
    keys = pack(values, torch.arange(20), is_valid)
    best = keys.topk(k, dim=0).values
    assert torch.equal(_ends_in_ties(keys, best), _has_ties(keys, best[-1]))
