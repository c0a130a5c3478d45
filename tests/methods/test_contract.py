"""The contract of methods, for each that is registered."""

from __future__ import annotations

from workbench.core.registry import METHODS
from workbench.methods import ConceptAtlas, EmbeddingMap, SpRAy
from workbench.testing.method_suite import MethodSuite


class TestConceptAtlas(MethodSuite):
    method = ConceptAtlas
    examples = [
        {"layer": "features.4", "layout": "pca"},
        {"layer": "features.0", "layout": "pca", "k": 3, "relevance": False, "n_clusters": 2, "seed": 5},
        {"layer": "head", "layout": "pca", "n_neighbours": 4},
    ]
    changes = {
        "k": 7,
        "layout": "umap",
        "n_neighbours": 5,
        "n_clusters": 3,
        "relevance": False,
        "seed": 1,
    }


class TestEmbeddingMap(MethodSuite):
    method = EmbeddingMap
    examples = [
        {"layer": "features.4", "layout": "pca"},
        {"layer": "features.0", "layout": "pca", "of": "samples", "relevance": False, "n_clusters": 2, "seed": 5},
        {"layer": "head", "layout": "pca", "by": "relevance", "distance": "cosine", "n_neighbours": 4},
    ]
    changes = {
        "of": "samples",
        "by": "relevance",
        "distance": "euclidean",
        "layout": "umap",
        "n_neighbours": 5,
        "n_epochs": 20,
        "n_clusters": 3,
        "relevance": False,
        "seed": 1,
    }


class TestSpRAy(MethodSuite):
    method = SpRAy
    examples = [
        {"of_class": 0, "layer": "features.4", "layout": "pca", "target": "logit:0"},
        {"of_class": 1, "layout": "pca", "target": "logit:1", "grid": 4, "n_clusters": 2},
    ]
    changes = {
        "of_class": 2,
        "target": "label",
        "k": 5,
        "n_vectors": 6,
        "n_clusters": 3,
        "grid": 8,
        "layout": "umap",
        "seed": 1,
    }


def test_every_registered_method_keeps_the_contract():
    assert {suite.method for suite in MethodSuite.__subclasses__()} >= {METHODS[name] for name in METHODS}
