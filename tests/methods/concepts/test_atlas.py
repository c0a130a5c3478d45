"""The concept atlas on tables with a known answer."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.core.errors import BadValueError, UnknownComponentError, UnknownNameError
from workbench.methods import ConceptAtlas
from workbench.testing.context import FakeContext

CLASSES = ("ant", "bee", "<b>cow</b>")


@pytest.fixture
def ctx():
    """60 samples of 3 classes; components 0-4 answer to class 0, 5-9 to class 1, 10-13 to class 2; 14 never."""
    rng = np.random.default_rng(0)
    target = np.arange(60) % 3
    owner = np.array([0] * 5 + [1] * 5 + [2] * 4)
    acts = (target[:, None] == owner) * rng.uniform(2, 3, (60, 14)) + rng.uniform(-0.2, 0.2, (60, 14))
    acts = np.concatenate([acts, np.full((60, 1), -1.0)], 1)
    rel = np.clip(acts, 0, None) * 0.5 - 0.1
    valid = np.ones(60, bool)
    valid[[0, 7]] = False
    return FakeContext({"l": acts}, {"l": rel}, target=target, is_valid=valid, classes=CLASSES)


@pytest.fixture
def atlas(ctx):
    return ConceptAtlas("l", layout="pca", k=6, n_clusters=3).fit(ctx)


def test_it_asks_for_relevance_first(ctx, atlas):
    """One pass over the data serves both tables, and it is the one with relevance that does."""
    assert ctx.asked[0] == "relevances" and set(ctx.asked) == {"relevances", "activations", "references"}


def test_columns_equal_their_definitions(ctx, atlas):
    valid = ctx._valid.numpy()
    acts, rel = ctx._activations["l"].numpy()[valid], ctx._relevances["l"].numpy()[valid]
    columns = atlas.atlas_.columns
    np.testing.assert_allclose(columns["activation"], acts.mean(0), rtol=1e-5)
    np.testing.assert_allclose(columns["frequency"], [(a > 0).sum() / 58 for a in acts.T], rtol=1e-6)
    np.testing.assert_allclose(columns["relevance"], [np.abs(r).mean() for r in rel.T], rtol=1e-5)
    expected = [1 - a.clip(0).mean() / a.max() if a.max() > 0 else 0 for a in acts.T]
    np.testing.assert_allclose(columns["selectivity"], expected, atol=1e-6)
    np.testing.assert_array_equal(atlas.score_, columns["relevance"])
    assert columns["frequency"][14] == columns["selectivity"][14] == 0
    alike = np.corrcoef(acts[:, :14].T) - 2 * np.eye(14)
    np.testing.assert_allclose(columns["redundancy"][:14], alike.max(1), atol=1e-5)
    assert columns["redundancy"][14] == 0 and columns["redundancy"][:14].min() > 0.9


def test_relevance_per_class(ctx, atlas):
    valid, target = ctx._valid.numpy(), ctx._target.numpy()
    rel = ctx._relevances["l"].numpy()
    for index in range(3):
        np.testing.assert_allclose(atlas.class_relevance_[index], rel[valid & (target == index)].mean(0), rtol=1e-5)
    np.testing.assert_array_equal(atlas.overlay("bee"), atlas.class_relevance_[1])
    np.testing.assert_array_equal(atlas.overlay(2), atlas.overlay("<b>cow</b>"))
    assert set(np.argsort(-atlas.overlay("bee"))[:5]) == {5, 6, 7, 8, 9}
    for wrong in (3, -1, "17"):
        with pytest.raises(BadValueError, match="No sample of the data was explained"):
            atlas.overlay(wrong)
    with pytest.raises(UnknownNameError, match='No class "bea"') as error:
        atlas.overlay("bea")
    assert '"bee"' in error.value.hint


def test_families_lie_together(atlas):
    cluster = atlas.atlas_.columns["cluster"][:14]
    assert len({*cluster[:5]}) == len({*cluster[5:10]}) == len({*cluster[10:]}) == 1 and len({*cluster}) == 3
    named = [atlas.atlas_.cluster_names[c] for c in (cluster[0], cluster[5], cluster[10])]
    assert "ant" in named[0].split(",")[0] and "bee" in named[1].split(",")[0] and "cow" in named[2].split(",")[0]
    for i in range(14):
        near = atlas.neighbours(i, 3)
        family = range(0, 5) if i < 5 else range(5, 10) if i < 10 else range(10, 14)
        assert {int(c.rsplit("/")[-1]) for c in near.components} <= set(family)
        assert near.quantity == "similarity" and (np.diff(near.scores) <= 0).all() and near.scores[0] > 0.9


def test_positions_and_references(atlas):
    made = atlas.atlas_
    assert made.position.shape == (15, 2) and made.position.min() == 0 and made.position.max() == 1
    np.testing.assert_array_equal(atlas.embedding_, made.position)
    assert made.references.ids.shape == (15, 6) and made.references.by == "activation"
    assert "PCA" in made.layout and "seed 0" in made.layout
    assert made.to_frame().shape == (15, 2 + len(made.columns)) and made.ids()[3] == "l/unit/3"


def test_what_is_known_of_one_component(atlas):
    known = atlas.describe("l/unit/6")
    assert known == atlas.describe(6) and known["component"] == "l/unit/6"
    assert known["classes"][0][0] == "bee" and known["classes"][0][1] > 0 > known["classes"][-1][1]
    assert len(known["references"]) == 6 and known["cluster"] in atlas.atlas_.cluster_names
    assert len(known["neighbours"]) == 5 and set(known["neighbours"][:4]) == {f"l/unit/{i}" for i in (5, 7, 8, 9)}
    assert {"activation", "frequency", "relevance", "selectivity"} <= set(known)
    for wrong in ("l/unit/15", "other/unit/1", 15, -1):
        with pytest.raises(UnknownComponentError):
            atlas.describe(wrong)


def test_the_leading_components(atlas):
    first = atlas.top(4)
    assert len(first) == 4 and (np.diff(first.scores) <= 0).all() and first.quantity == "relevance"
    assert atlas.top(2, by="frequency").quantity == "frequency"
    with pytest.raises(BadValueError, match="by"):
        atlas.top(by="beauty")
    for wrong in (0, 11, 2.5):
        with pytest.raises(BadValueError, match="`n`"):
            atlas.neighbours(0, wrong)


def test_without_relevance(ctx):
    made = ConceptAtlas("l", layout="pca", relevance=False).fit(ctx)
    assert "relevances" not in ctx.asked and "relevance" not in made.atlas_.columns
    np.testing.assert_array_equal(made.score_, made.atlas_.columns["activation"])
    assert made.class_relevance_.shape == (0, 15) and made.describe(2)["classes"] == []
    assert made.atlas_.cluster_names[0] == "cluster 1"
    with pytest.raises(BadValueError, match="No sample"):
        made.overlay("ant")


def test_relevances_of_fewer_samples_than_activations(ctx):
    """Another sweep may have explained a part of the data only."""
    part = ctx._valid.clone()
    part[30:] = False
    own = ctx.relevances

    def relevances(layer, **_):
        table = own(layer)
        object.__setattr__(table, "is_valid", part)
        table.values[30:] = float("nan")
        return table

    ctx.relevances = relevances
    made = ConceptAtlas("l", layout="pca").fit(ctx)
    assert np.isfinite(made.score_).all() and np.isfinite(made.class_relevance_).all()
    rel = ctx._relevances["l"].numpy()[part.numpy()]
    np.testing.assert_allclose(made.atlas_.columns["relevance"], np.abs(rel).mean(0), rtol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"k": 0}, "`k`"),
        ({"layout": "tsne"}, "layout"),
        ({"n_neighbours": 0}, "n_neighbours"),
        ({"n_clusters": 16}, "n_clusters"),
        ({"n_clusters": 0}, "n_clusters"),
    ],
)
def test_arguments_are_checked_by_fit(ctx, wrong, message):
    with pytest.raises(BadValueError, match=message):
        ConceptAtlas("l", **{"layout": "pca", **wrong}).fit(ctx)


def test_too_little_to_lay_out():
    few = FakeContext({"l": np.random.default_rng(0).normal(size=(2, 5))})
    with pytest.raises(BadValueError, match="at least three readable samples; there are 2"):
        ConceptAtlas("l", layout="pca", relevance=False).fit(few)
    narrow = FakeContext({"l": np.random.default_rng(0).normal(size=(9, 2))})
    with pytest.raises(BadValueError, match='"l" has 2 components'):
        ConceptAtlas("l", layout="pca", relevance=False).fit(narrow)


def test_few_components_are_laid_out_without_umap():
    few = FakeContext({"l": np.random.default_rng(0).normal(size=(20, 9))})
    made = ConceptAtlas("l", relevance=False).fit(few)
    assert "PCA" in made.atlas_.layout


def test_dead_and_constant_components_do_no_harm():
    acts = np.zeros((20, 12), np.float32)
    acts[:, :3] = np.random.default_rng(0).normal(size=(20, 3))
    made = ConceptAtlas("l", layout="pca", relevance=False).fit(FakeContext({"l": acts}))
    assert np.isfinite(made.embedding_).all()
    assert all(np.isfinite(column).all() for column in made.atlas_.columns.values())


def test_it_can_be_drawn(atlas):
    assert type(atlas.plot()).__name__ == "Figure"


@pytest.mark.slow
def test_the_default_layout(ctx):
    pytest.importorskip("umap")
    made = ConceptAtlas("l", n_neighbours=4).fit(ctx)
    assert "UMAP, 4 neighbours" in made.atlas_.layout and made.embedding_.shape == (15, 2)
    again = ConceptAtlas("l", n_neighbours=4).fit(ctx)
    np.testing.assert_array_equal(made.embedding_, again.embedding_)
