"""Where corrections lead to: one mean for all directions, against slow twins and exact truths, and their warnings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from workbench.core.errors import BadValueError
from workbench.core.results import Edit
from workbench.data.torch_data import TorchData
from workbench.methods import PatternCAV
from workbench.methods.correction.references import clean_means, codes_of, mean_with_all, notes_of
from workbench.models.layers import Layer
from workbench.models.shifts import CUTOFF, Shift
from workbench.testing.latent import LatentNet
from workbench.testing.nets import handle_of

N, WIDTH = 90, 6
LABELS = np.arange(N) % 3
A = np.isin(np.arange(N) % 10, (0, 3, 4)) & (LABELS != 2)  # no sample of the third class
B = np.isin(np.arange(N) % 10, (3, 5)) | (np.arange(N) % 11 == 7)
EFFECTS = np.random.default_rng(0).normal(size=(2, WIDTH))
CLASSES = np.random.default_rng(1).normal(size=(3, WIDTH)) * 2


class Points(TorchData):
    """Given vectors as inputs (6, 1, 1)."""

    def __init__(self, values):
        self.data, self.targets = torch.from_numpy(values).float()[:, :, None, None], LABELS.tolist()
        super().__init__(self, classes=("p", "q", "r"), name="points")

    def __len__(self):
        return N

    def __getitem__(self, i):
        return self.data[i], self.targets[i]


def points(a=A, b=B, noise=0.0):
    rng = np.random.default_rng(2)
    return CLASSES[LABELS] + np.outer(a, EFFECTS[0]) + np.outer(b, EFFECTS[1]) + noise * rng.normal(size=(N, WIDTH))


@pytest.fixture
def opened(open_on):
    def make(x):
        return open_on(handle_of(LatentNet(WIDTH, 3), (WIDTH, 1, 1)), Points(x))

    return make


def directions(s, *sets, **options):
    found = []
    for positives, scope in sets:
        given = {"positives": np.flatnonzero(positives), "scope": scope, "pooling": "mean", "resamples": 0, **options}
        found += list(s.fit(PatternCAV("latent", **given)).directions_)
    return found


def slow_clean(x, own, anyone, classes):
    """Mean over classes that have both kinds, as the pattern weighs them, of those that show nothing."""
    total, weight = np.zeros(WIDTH), 0.0
    for k in classes:
        on, off = (own & (LABELS == k)).sum(), (~own & (LABELS == k)).sum()
        clean = ~anyone & (LABELS == k)
        if on and off and clean.any():
            total += on * off / (on + off) * x[clean].mean(0)
            weight += on * off / (on + off)
    return total / weight


def test_the_clean_mean_of_several_is_of_samples_that_show_none_of_them(opened):
    x = points(noise=0.5)
    s = opened(x)
    found = clean_means(s, directions(s, (A, "within-class"), (B, 1)), "mean")
    known = A | (B & (LABELS == 1))  # a direction of one class knows its samples alone
    expected = [slow_clean(x, A, known, range(3)), slow_clean(x, B, known, [1])]
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    alone = clean_means(s, directions(s, (A, "within-class")), "mean")
    np.testing.assert_allclose(alone, [slow_clean(x, A, A, range(3))], rtol=1e-4, atol=1e-5)
    over_all = clean_means(s, directions(s, (A, "all"), (B, "all")), "mean")
    np.testing.assert_allclose(over_all, [x[~A & ~B].mean(0)] * 2, rtol=1e-4, atol=1e-5)


def test_codes_are_those_of_one_vector(opened):
    x = points(noise=0.5)
    s = opened(x)
    found = directions(s, (A, "within-class"), (B, "within-class"))
    vectors = np.stack([d.vector for d in found])
    together = np.mean([slow_clean(x, own, A | B, range(3)) for own in (A, B)], 0)
    alone = [slow_clean(x, own, own, range(3)) for own in (A, B)]
    np.testing.assert_allclose(codes_of(s, found, "position", "all", "clean"), vectors @ together, atol=1e-4)
    apart = codes_of(s, found, "position", "all", "clean", artifacts=[0, 1])
    np.testing.assert_allclose(apart, [vectors @ mean for mean in (*alone, together)], atol=1e-4)
    grouped = codes_of(s, found, "position", "all", "clean", artifacts=[0, 0])
    np.testing.assert_allclose(grouped, vectors @ together, atol=1e-4)
    own = codes_of(s, found, "position", "all", [3, 4, 8], artifacts=[0, 1])
    np.testing.assert_allclose(own, vectors @ x[[3, 4, 8]].mean(0), atol=1e-4)


@pytest.mark.parametrize("overlap", [True, False])
def test_with_all_artifacts_their_effects_add_up(opened, overlap):
    """Without noise the truth is reached, whether or not any sample shows both."""
    b = B if overlap else B & ~A
    assert (A & b).any() == overlap
    x = points(b=b)
    s = opened(x)
    both = directions(s, (A, "within-class"), (b, "within-class"))
    clean = clean_means(s, both, "mean").mean(0)
    np.testing.assert_allclose(mean_with_all(s, both, "mean"), clean + EFFECTS.sum(0), atol=1e-5)
    one = directions(s, (A, "within-class"))
    d = one[0]
    np.testing.assert_allclose(mean_with_all(s, one, "mean") @ d.vector, d.mean_positive, atol=1e-4)


def test_an_artifact_of_two_directions_is_there_once(opened):
    """In one class and in all, the same samples or nearly so: not twice the effect."""
    x = points(b=np.zeros(N, bool))
    s = opened(x)
    for sets in ([(A, "within-class"), (A, 1)], [(A, "within-class"), (A & (np.arange(N) != 3), "within-class")]):
        found = directions(s, *sets)
        moved = mean_with_all(s, found, "mean") - clean_means(s, found, "mean").mean(0)
        np.testing.assert_allclose(moved, EFFECTS[0], atol=1e-5)


def test_where_none_is_clean_it_is_said(opened):
    s = opened(points())
    on, off = np.flatnonzero(A), np.flatnonzero(~A)
    ways = [
        directions(s, (A, "all"), negatives=off[:9], positives=on)[0],
        directions(s, (A, "all"), negatives=on, positives=off[:9])[0],
    ]
    with pytest.raises(BadValueError, match="none is clean"):
        clean_means(s, ways, "mean")


@pytest.mark.parametrize("ratio", [0.5, 0.2, 1.1 * CUTOFF, 0.9 * CUTOFF, 1e-4])
def test_warnings_and_shifts_count_alike(opened, ratio):
    """`ratio` of the singular values of two directions, the tangent of half their angle."""
    s = opened(points())
    one = directions(s, (A, "within-class"))[0]
    angle = 2 * np.arctan(ratio)
    turn = np.linalg.svd(one.vector[None].astype(float))[2][1]
    other = replace(one, concept="twin", vector=np.cos(angle) * one.vector + np.sin(angle) * turn)
    notes = " ".join(notes_of([one, other]))
    assert ("nearly parallel (cosine" in notes) == (np.cos(angle) > 0.95)
    if np.cos(angle) > 0.95:
        assert f'0 ("{one.concept}") and 1 ("twin")' in notes and f"{np.cos(angle):.4f}" in notes
    assert not any("count once" in text for text in notes_of([one, other], projects=False))
    layer = Layer("v", "Linear", (WIDTH,), 1, 1, 0, True)
    shift = Shift(Edit("shift", "v", array=np.stack([one.vector, other.vector]).astype(np.float64)), layer)
    kept = torch.linalg.matrix_rank(torch.eye(WIDTH).double() - shift(torch.eye(WIDTH).double()), rtol=1e-9)
    assert int(kept) == (1 if "span only 1" in notes else 2) == (1 if ratio < CUTOFF else 2)


def test_opposite_directions_are_parallel_too(opened):
    s = opened(points())
    one = directions(s, (A, "within-class"))[0]
    assert "(cosine -1.0000)" in " ".join(notes_of([one, replace(one, vector=-one.vector)]))
