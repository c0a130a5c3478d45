"""The embedding map on tables with a known answer, and on hardly any table at all."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.core.errors import (
    BadValueError,
    NotFiniteError,
    UnknownComponentError,
    UnknownNameError,
    UnknownSampleError,
)
from workbench.methods import ConceptAtlas, EmbeddingMap
from workbench.testing.context import FakeContext

CLASSES = ("ant", "bee", "<b>cow</b>")
OWNER = np.array([0] * 5 + [1] * 5 + [2] * 4)


@pytest.fixture
def ctx():
    """60 samples of 3 classes; components 0-4 answer to class 0, 5-9 to class 1, 10-13 to class 2; 14 is constant, 15
    never active, 16 a copy of 5."""
    rng = np.random.default_rng(0)
    target = np.arange(60) % 3
    acts = (target[:, None] == OWNER) * rng.uniform(2, 3, (60, 14)) + rng.uniform(0, 0.2, (60, 14))
    acts = np.concatenate([acts, np.full((60, 1), 4.0), np.zeros((60, 1)), acts[:, 5:6]], 1)
    valid = np.ones(60, bool)
    valid[[0, 7]] = False
    made = FakeContext({"l": acts}, {"l": acts * 0.5 - 0.1}, target=target, is_valid=valid, classes=CLASSES)
    made.data.labels, made.data.classes = target.copy(), CLASSES
    return made


def same_group(point, others):
    return [i for i in range(14) if OWNER[i] == OWNER[point]] == sorted({*others} | {point})


@pytest.mark.parametrize("by", ["activation", "relevance"])
@pytest.mark.parametrize("distance", ["correlation", "cosine", "euclidean"])
def test_planted_groups_are_recovered(ctx, by, distance):
    made = EmbeddingMap("l", by=by, distance=distance, layout="pca", n_clusters=3 + 2 * (distance == "euclidean"))
    shown = made.fit(ctx).map_
    cluster = shown.columns["cluster"]
    assert len({*cluster[:5]}) == len({*cluster[5:10]}) == len({*cluster[10:14]}) == 1
    assert len({cluster[0], cluster[5], cluster[10]}) == 3
    right = 0
    for i in range(14):
        near = [int(n.rpartition("/")[2]) for n in made.neighbours(i, 3)[0]]
        right += sum(OWNER[n if n != 16 else 5] == OWNER[i] for n in near if n < 14 or n == 16)
    assert right == 14 * 3, "all of the three nearest are of the own group"
    least = 0.9 if distance == "correlation" else 0.5  # else the constant one takes an axis to itself
    assert shown.trustworthiness > least and f"trustworthiness {shown.trustworthiness:.3f}" in shown.layout


def test_copies_are_each_others_nearest(ctx):
    for distance in ("correlation", "cosine", "euclidean"):
        made = EmbeddingMap("l", distance=distance, layout="pca").fit(ctx)
        for one, other in ((5, 16), (16, 5)):
            ids, far = made.neighbours(f"l/unit/{one}", 1)
            assert ids == [f"l/unit/{other}"] and far.tolist() == [0.0]


def test_neighbours_are_those_of_the_full_space(ctx):
    made = EmbeddingMap("l", layout="pca").fit(ctx)
    acts = ctx._activations["l"].numpy()[ctx._valid.numpy()]
    with np.errstate(invalid="ignore", divide="ignore"):
        far = 1 - np.corrcoef(acts.T.astype(np.float64))
    for i in (0, 7, 13):
        ids, distance = made.neighbours(i, 14)
        others = [j for j in range(17) if j not in (i, 14, 15)]
        expected = sorted(others, key=lambda j: (round(far[i, j], 6), j))
        assert ids == [f"l/unit/{j}" for j in expected]
        np.testing.assert_allclose(distance, far[i, expected], atol=1e-5)
    assert len(made.neighbours(0)[0]) == 10 and len(made.neighbours(0, 99)[0]) == 14, "there are no more"


def test_what_has_no_direction_lies_below(ctx):
    shown = EmbeddingMap("l", layout="pca").fit(ctx).map_
    assert np.flatnonzero(shown.is_apart).tolist() == [14, 15]
    assert (shown.position[[14, 15], 1] == 0).all() and shown.position[[14, 15], 0].tolist() == [0, 1]
    assert shown.position[~shown.is_apart, 1].min() > 0.05 and shown.position.max() == 1
    assert shown.cluster_names[-1] == "no direction"
    assert {shown.cluster_names[c] for c in shown.columns["cluster"][[14, 15]]} == {"no direction"}
    assert shown.nearest(14)[0] == [] and not np.isin([14, 15], shown.neighbours).any()
    cosine = EmbeddingMap("l", distance="cosine", layout="pca").fit(ctx).map_
    assert np.flatnonzero(cosine.is_apart).tolist() == [15]
    euclidean = EmbeddingMap("l", distance="euclidean", layout="pca").fit(ctx).map_
    assert not euclidean.is_apart.any() and "no direction" not in euclidean.cluster_names


def test_columns(ctx):
    shown = EmbeddingMap("l", layout="pca").fit(ctx).map_
    atlas = ConceptAtlas("l", layout="pca").fit(ctx)
    for name in ("relevance", "activation", "frequency", "selectivity"):
        np.testing.assert_array_equal(shown.columns[name], atlas.atlas_.columns[name])
    np.testing.assert_array_equal(shown.class_relevance, atlas.class_relevance_)
    np.testing.assert_array_equal(shown.column("class_relevance", "bee"), atlas.overlay("bee"))
    np.testing.assert_array_equal(shown.column("class_relevance", 2), atlas.overlay("<b>cow</b>"))
    np.testing.assert_array_equal(shown.column("class_relevance"), atlas.class_relevance_.max(0))
    assert shown.column("class")[:14].tolist() == [CLASSES[i] for i in OWNER]
    frame = shown.to_frame()
    assert frame.index.name == "component" and frame.index[3] == "l/unit/3"
    assert list(frame.columns) == ["x", "y", "is_apart", *shown.columns] and not frame.isna().any().any()
    for wrong, error in (
        (("beauty", None), UnknownNameError),
        (("class_relevance", "bea"), UnknownNameError),
        (("class_relevance", 7), BadValueError),
        (("frequency", "bee"), BadValueError),
    ):
        with pytest.raises(error):
            shown.column(*wrong)


def test_without_relevance(ctx):
    made = EmbeddingMap("l", relevance=False, layout="pca").fit(ctx)
    assert ctx.asked == ["activations"]
    assert list(made.map_.columns) == ["activation", "frequency", "selectivity", "cluster"]
    assert made.map_.cluster_names[0] == "cluster 1" and made.map_.class_relevance.shape == (0, 17)


def test_it_asks_for_relevance_first(ctx):
    EmbeddingMap("l", layout="pca").fit(ctx)
    assert ctx.asked == ["relevances", "activations"], "one pass over the data serves both"


@pytest.mark.parametrize("by", ["activation", "relevance"])
def test_samples_lie_with_their_class(ctx, by):
    made = EmbeddingMap("l", of="samples", by=by, layout="pca", n_clusters=3).fit(ctx)
    shown = made.map_
    samples = [i for i in range(60) if i not in (0, 7)]
    assert shown.ids() == samples and len(shown) == 58 and shown.row(8) == 6
    for group in range(3):
        assert len({*shown.columns["cluster"][shown.index % 3 == group]}) == 1
    ids, distance = made.neighbours(9, 19)
    assert len(ids) == 19 and {i % 3 for i in ids[:18]} == {0}, "18 others of the class come first"
    assert (np.diff(distance) >= -1e-6).all()
    assert shown.columns["label"].tolist() == shown.columns["prediction"].tolist() == [CLASSES[i % 3] for i in samples]
    acts = ctx._activations["l"].numpy()[samples]
    np.testing.assert_allclose(shown.columns["activation"], acts.mean(1), rtol=1e-5)
    np.testing.assert_allclose(shown.columns["frequency"], (acts > 0).mean(1))
    assert sorted(n.partition(": ")[2] for n in shown.cluster_names) == sorted(CLASSES)
    assert shown.to_frame().index.name == "sample"
    for wrong in (0, 60, -1, True, "9"):
        with pytest.raises(UnknownSampleError):
            shown.row(wrong)


def test_points_are_found_by_address(ctx):
    shown = EmbeddingMap("l", layout="pca").fit(ctx).map_
    assert shown.row("l/unit/3") == shown.row("l/3") == shown.row(3) == shown.row(np.int64(3)) == 3
    for wrong in ("m/unit/3", "l/unit/17", 17, -1, 2.5):
        with pytest.raises(UnknownComponentError):
            shown.row(wrong)


def test_a_preview_is_pca_at_once(ctx):
    method = EmbeddingMap("l")
    first = method.preview(ctx)
    assert not method.is_fitted and "PCA" in first.layout and "preview" in first.layout
    fitted = EmbeddingMap("l", layout="pca").fit(ctx).map_
    np.testing.assert_array_equal(first.position, fitted.position)
    assert list(first.columns) == list(fitted.columns) and first.neighbours.shape == (17, 0)
    with pytest.raises(BadValueError, match="keeps 0 neighbours") as error:
        first.nearest(3)
    assert "fit" in error.value.hint


@pytest.mark.parametrize("distance", ["correlation", "cosine", "euclidean"])
@pytest.mark.parametrize("n", [1, 2, 3])
def test_hardly_any_components(n, distance):
    acts = np.random.default_rng(0).uniform(size=(20, n))
    made = EmbeddingMap("l", distance=distance, relevance=False, n_neighbours=40).fit(FakeContext({"l": acts}))
    shown = made.map_
    assert shown.position.shape == (n, 2) and np.isfinite(shown.position).all() and "PCA" in shown.layout
    assert shown.neighbours.shape == (n, n - 1) and len(shown.nearest(0, 5)[0]) == n - 1
    assert 0 <= shown.trustworthiness <= 1 and len(shown.cluster_names) >= 1


@pytest.mark.parametrize("of", ["components", "samples"])
@pytest.mark.parametrize("distance", ["correlation", "cosine", "euclidean"])
@pytest.mark.parametrize("value", [0.0, 3.0])
def test_all_constant(value, distance, of):
    ctx = FakeContext({"l": np.full((20, 12), value)})
    shown = EmbeddingMap("l", of=of, distance=distance, relevance=False, layout="pca").fit(ctx).map_
    assert np.isfinite(shown.position).all() and not shown.to_frame().isna().any().any()
    is_apart = distance == "correlation" or (distance == "cosine" and value == 0)
    assert shown.is_apart.all() == shown.is_apart.any() == is_apart
    assert ("no point has a direction" in shown.layout) == is_apart
    if not is_apart:
        assert shown.nearest(0, 3)[1].tolist() == [0, 0, 0]


def test_all_components_equal():
    acts = np.repeat(np.random.default_rng(0).normal(size=(20, 1)), 12, axis=1)
    shown = EmbeddingMap("l", relevance=False, layout="pca").fit(FakeContext({"l": acts})).map_
    assert np.isfinite(shown.position).all() and not shown.is_apart.any()
    assert shown.nearest(5, 3)[0] == ["l/unit/0", "l/unit/1", "l/unit/2"]


def test_nan_is_refused_and_unreadable_samples_are_not():
    acts = np.random.default_rng(0).normal(size=(20, 12))
    acts[3, 5] = np.nan
    with pytest.raises(NotFiniteError, match="Vector 5 holds NaN"):
        EmbeddingMap("l", relevance=False, layout="pca").fit(FakeContext({"l": acts}))
    valid = np.arange(20) != 3
    assert EmbeddingMap("l", relevance=False, layout="pca").fit(FakeContext({"l": acts}, is_valid=valid)).is_fitted
    with pytest.raises(BadValueError, match="at least two readable samples; there are 1"):
        EmbeddingMap("l", relevance=False).fit(FakeContext({"l": acts}, is_valid=np.arange(20) == 1))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"of": "neurons"}, "of"),
        ({"by": "beauty"}, "by"),
        ({"distance": "cosin"}, "distance"),
        ({"layout": "tsne"}, "layout"),
        ({"n_neighbours": 0}, "n_neighbours"),
        ({"n_epochs": 0}, "n_epochs"),
        ({"n_clusters": 0}, "n_clusters"),
    ],
)
def test_arguments_are_checked_by_fit_and_preview(ctx, wrong, message):
    for call in (EmbeddingMap("l", **{"layout": "pca", **wrong}).fit, EmbeddingMap("l", **wrong).preview):
        with pytest.raises(BadValueError, match=message):
            call(ctx)


def test_what_is_stored_comes_back(ctx):
    one = EmbeddingMap("l", layout="pca").fit(ctx)
    other = EmbeddingMap("l", layout="pca")
    ctx.asked.clear()
    other.restore(ctx, *one.state())
    assert ctx.asked == [], "no table is read for it"
    for name in ("position", "neighbours", "distances", "is_apart", "index", "class_relevance"):
        np.testing.assert_array_equal(getattr(one.map_, name), getattr(other.map_, name))
    assert one.map_.to_frame().equals(other.map_.to_frame()) and repr(one.map_) == repr(other.map_)
    assert "17 components of l/unit by activation, 2 apart" in repr(other.map_)


@pytest.mark.slow
def test_umap_keeps_groups_and_repeats_itself(ctx):
    pytest.importorskip("umap")
    made = EmbeddingMap("l", n_neighbours=4).fit(ctx)
    assert "UMAP, 4 neighbours, correlation" in made.map_.layout and made.map_.trustworthiness > 0.85
    flat = made.map_.position[:14]
    far = ((flat[:, None] - flat[None]) ** 2).sum(2) + np.eye(14) * 9
    assert (OWNER[far.argmin(1)] == OWNER).all()
    np.testing.assert_array_equal(made.embedding_, EmbeddingMap("l", n_neighbours=4).fit(ctx).embedding_)
