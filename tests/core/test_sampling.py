"""A few of many: how many, from where, and not in step with an order that repeats itself."""

import numpy as np
import pytest

from workbench.core.sampling import evenly


@pytest.mark.parametrize(("n", "wanted"), [(0, 5), (5, 0), (1, 1), (7, 3), (10, 9), (500, 256), (100_003, 64)])
def test_one_of_each_stretch(n, wanted):
    found = evenly(n, wanted)
    assert found.dtype == np.int64 and len(found) == min(n, wanted)
    for k, i in enumerate(found):
        # the k-th of `wanted` equal stretches, written out
        assert k * n // wanted <= i < (k + 1) * n // wanted


def test_all_where_there_are_no_more_than_wanted():
    assert evenly(5, 5).tolist() == evenly(5, 99).tolist() == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("period", [2, 3, 5, 10])
@pytest.mark.parametrize("step", [2, 3, 4, 5, 10])
def test_classes_in_turn_are_all_met(period, step):
    n = 100 * period * step
    counts = np.bincount(evenly(n, n // step) % period, minlength=period)
    share = counts / counts.sum() * period
    assert share.min() > 0.8 and share.max() < 1.2
    # what evenly spaced places give: of two classes in turn one alone
    spaced = np.bincount(np.arange(0, n, step) % period, minlength=period)
    assert np.count_nonzero(spaced) == period // np.gcd(period, step)


def test_sorted_classes_keep_their_shares():
    labels = np.repeat([0, 1, 2], [700, 200, 100])
    assert np.bincount(labels[evenly(1000, 100)]).tolist() == [70, 20, 10]
