"""What a card says beside references, against slow twins that loop, on data that are hard on purpose."""

from __future__ import annotations

import math

import numpy as np
import pytest

from workbench.session.facts import Pooled, at_quantile, classes_of, contrast_of, correlated, in_order


def values_of(kind, n=60, seed=0):
    rng = np.random.default_rng(seed)
    made = {
        "plain": rng.normal(0, 1, n),
        "relu": np.maximum(0, rng.normal(-0.5, 1, n)),
        "ties": rng.integers(0, 4, n),
        "constant": np.full(n, 0.3),
        "zero": np.zeros(n),
        "one": np.eye(n)[7],
        "missing": np.where(rng.random(n) < 0.3, np.nan, rng.normal(0, 1, n)),
        "nothing": np.full(n, np.nan),
        "large": rng.normal(0, 1, n) * 1e30,
        "negative": -np.abs(rng.normal(0, 1, n)),
    }
    return made[kind].astype(np.float32)


KINDS = ("plain", "relu", "ties", "constant", "zero", "one", "missing", "nothing", "large", "negative")


def slow_order(values, origins, second):
    """Walk through the samples from the strongest; an original that was seen is passed over."""
    known = [i for i in range(len(values)) if math.isfinite(values[i])]
    known.sort(key=lambda i: (-values[i], 0 if second is None else -second[i], i))
    seen, found = set(), []
    for i in known:
        if origins[i] not in seen:
            seen.add(origins[i])
            found.append(i)
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("per", [1, 2, 7, 100])
@pytest.mark.parametrize("has_second", [False, True])
def test_the_order_is_that_of_the_slow_twin(kind, per, has_second):
    values, origins = values_of(kind), np.arange(60)[::-1] // per
    second = values_of("ties", seed=3) if has_second else None
    assert in_order(values, origins, second).tolist() == slow_order(values, origins, second)


@pytest.mark.parametrize("n", [1, 2, 5, 12, 100])
@pytest.mark.parametrize("quantile", [1.0, 0.99, 0.75, 0.5, 0.31, 0.01, 0.0])
@pytest.mark.parametrize("of", [0, 1, 2, 12, 59])
def test_a_slice_lies_around_its_quantile(n, quantile, of):
    order, values = np.arange(of) + 100, np.linspace(3, -1, of)
    found = at_quantile(order, values, quantile, n)
    # Slow twin: of all windows of this size the one whose middle is nearest to the quantile; the later of two.
    size = min(n, of)
    aim = (1 - quantile) * max(0, of - 1)
    starts = range(of - size + 1)
    best = min(starts, key=lambda start: (round(abs(start + (size - 1) / 2 - aim), 9), -start))
    assert (len(found), found.of) == (size, of)
    if of:
        assert found.first == best + 1
        assert found.samples.tolist() == order[best : best + size].tolist()
        assert found.value in values and np.allclose(found.values, values[best : best + size])
    if quantile == 1 and of:
        assert found.first == 1 and found.value == values[0]
    if quantile == 0 and of:
        assert found.samples[-1] == order[-1] and found.value == values[-1]


def test_every_original_can_be_reached():
    values = values_of("relu", 200)
    order = in_order(values, np.arange(200))
    seen = {
        int(i) for q in np.linspace(0, 1, 101) for i in at_quantile(order, values[order], float(q), 12).samples
    }  # fmt: skip
    assert seen == set(range(200))


@pytest.mark.parametrize("kind", KINDS)
def test_classes_are_those_of_the_slow_twin(kind):
    values, groups = values_of(kind), np.random.default_rng(1).integers(-1, 5, 60)
    groups[groups == 3] = 1  # a class without samples
    found = classes_of(values, groups, ["a", "<b>"], by="activation", n=3)
    members = {
        c: [float(values[i]) for i in range(60) if groups[i] == c and math.isfinite(values[i])] for c in range(5)
    }
    means = {c: math.fsum(own) / len(own) for c, own in members.items() if own}
    if not means:
        assert found.why and not len(found.classes)
        return
    order = sorted(means, key=lambda c: (-means[c], c))[:3]
    assert found.classes.tolist() == order or np.allclose(found.means, [means[c] for c in order])
    assert np.allclose(found.means, [means[c] for c in found.classes.tolist()], rtol=1e-6)
    assert found.counts.tolist() == [len(members[c]) for c in found.classes.tolist()]
    assert found.n_classes == len(means) and all(found.names)
    everything = [v for own in members.values() for v in own]
    assert found.mean == pytest.approx(math.fsum(everything) / len(everything), rel=1e-6, abs=1e-12)


def test_without_labels_there_are_no_classes():
    found = classes_of(values_of("plain"), np.full(60, -1), [], by="activation")
    assert found.why == "No sample has a class." and found.mean is None


def table_of(n=60, m=30, seed=2):
    rng = np.random.default_rng(seed)
    table = np.maximum(0, rng.normal(0, 1, (n, m)) + rng.normal(0, 1, (n, 1))).astype(np.float32)
    table[:, 4] = 0
    table[:, 5] = 0.3
    table[:, 9] = table[:, 8] * 2 + 1  # equal to 8 in all that counts
    table[:, 10] = -table[:, 8]
    table[:, 11] *= 1e-20
    table[:, 12] *= 1e20
    return table


def slow_correlation(a, b):
    a, b = [float(v) for v in a], [float(v) for v in b]
    ma, mb = math.fsum(a) / len(a), math.fsum(b) / len(b)
    la, lb = math.sqrt(math.fsum((v - ma) ** 2 for v in a)), math.sqrt(math.fsum((v - mb) ** 2 for v in b))
    if la <= 1e-6 * max(map(abs, a), default=0) * len(a) ** 0.5 or lb <= 1e-6 * max(map(abs, b)) * len(b) ** 0.5:
        return None
    return math.fsum((x / la - ma / la) * (y / lb - mb / lb) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [1, 5, 100])
def test_correlations_are_those_of_the_slow_twin(kind, n):
    table, column = table_of(), values_of(kind, seed=5)
    is_valid = np.arange(60) % 11 != 0
    table[22, 3] = np.nan
    found, correlation, used = correlated(column, Pooled(table, is_valid), n, without=2)
    rows = [i for i in range(60) if is_valid[i] and i != 22 and math.isfinite(column[i])]
    assert used == len(rows)
    twins = {j: slow_correlation(column[rows], table[rows, j]) for j in range(30) if j != 2} if rows else {}
    known = {j: c for j, c in twins.items() if c is not None}
    order = sorted(known, key=lambda j: (-round(known[j], 7), j))[:n]
    assert found.tolist() == order
    assert np.allclose(correlation, [known[j] for j in order], atol=1e-6)


def test_equal_components_come_by_their_number():
    table = table_of()
    found, correlation, _ = correlated(table[:, 8], Pooled(table, np.ones(60, bool)), 3)
    assert found[:2].tolist() == [8, 9] and np.allclose(correlation[:2], 1)
    many = np.repeat(table[:, [8]], 500, axis=1)
    found, _, _ = correlated(table[:, 8], Pooled(many, np.ones(60, bool)), 5, without=0)
    assert found.tolist() == [1, 2, 3, 4, 5]


def slow_contrast(values, looks, origins, without, anchors, low, n):
    """Loops over all pairs of references and silent samples."""
    rows = [i for i in range(len(values)) if math.isfinite(values[i]) and np.isfinite(looks[i]).all()]
    everyone = [i for i in range(len(values)) if np.isfinite(looks[i]).all()]
    if not rows:
        return []
    ranked = sorted(float(values[i]) for i in rows)
    threshold = ranked[int(math.floor(low * (len(ranked) - 1)))]
    strongest = slow_order([values[i] if i in set(rows) else math.nan for i in range(len(values))], origins, None)
    chosen = [i for i in strongest[:anchors] if values[i] > threshold]
    columns = [j for j in range(looks.shape[1]) if j != without]
    mean = [math.fsum(float(looks[i, j]) for i in everyone) / len(everyone) for j in columns]

    def cosine(a, b):
        x = [float(looks[a, j]) - m for j, m in zip(columns, mean, strict=True)]
        y = [float(looks[b, j]) - m for j, m in zip(columns, mean, strict=True)]
        lx, ly = math.sqrt(math.fsum(v * v for v in x)), math.sqrt(math.fsum(v * v for v in y))
        return math.fsum(p * q for p, q in zip(x, y, strict=True)) / (lx * ly) if lx > 1e-6 and ly > 1e-6 else None

    found = []
    for i in rows:
        if values[i] > threshold or origins[i] in {origins[a] for a in chosen}:
            continue
        pairs = [(c, -k, a) for k, a in enumerate(chosen) if (c := cosine(i, a)) is not None]
        if pairs:
            best = max(pairs)
            found.append((-round(best[0], 6), i, best[2], best[0]))
    seen, kept = set(), []
    for _, i, like, alike in sorted(found):
        if origins[i] not in seen:
            seen.add(origins[i])
            kept.append((i, like, alike))
    return kept[:n]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("without", [None, 3])
@pytest.mark.parametrize("low", [0.0, 0.25, 0.6])
def test_contrasts_are_those_of_the_slow_twin(kind, without, low):
    rng = np.random.default_rng(9)
    looks = np.maximum(0, rng.normal(0.2, 1, (60, 12))).astype(np.float32)
    looks[5], looks[31] = looks[6], np.nan
    values, origins = values_of(kind, seed=8), np.arange(60) // 2
    found = contrast_of(values, Pooled(looks, np.ones(60, bool)), origins, without=without, low=low, n=6, layer="x")
    twin = slow_contrast(values, looks, origins, without, 3, low, 6)
    assert found.samples.tolist() == [i for i, _, _ in twin]
    assert np.allclose(found.alike, [c for _, _, c in twin], atol=1e-5)
    assert [int(a) for a in found.like] == [a for _, a, _ in twin]
    assert bool(found.why) == (not twin)
    assert (found.values <= found.threshold).all() if twin else True


def test_a_contrast_looks_like_the_reference_and_does_not_fire():
    """Samples 0 to 9 hold a shape; the component answers to it only on the first five."""
    rng = np.random.default_rng(4)
    looks = rng.normal(0, 0.05, (50, 8)).astype(np.float32)
    looks[:10, 0] += 5
    values = np.zeros(50, np.float32)
    values[:5] = 3
    found = contrast_of(values, Pooled(looks, np.ones(50, bool)), np.arange(50), n=5)
    assert set(found.samples.tolist()) == {5, 6, 7, 8, 9} and (found.alike > 0.99).all() and found.threshold == 0


@pytest.mark.parametrize(("n", "m"), [(1, 1), (1, 5), (2, 1), (0, 4)])
def test_the_smallest_tables(n, m):
    table = Pooled(np.ones((n, m), np.float32), np.ones(n, bool))
    column = np.ones(n, np.float32)
    assert len(correlated(column, table, 5)[0]) == 0
    assert contrast_of(column, table, np.arange(n)).why
    assert len(at_quantile(in_order(column, np.arange(n)), column, 0.5, 5)) == n
