"""The contract of methods, for each that is registered."""

from __future__ import annotations

from workbench.core.registry import METHODS
from workbench.methods import (
    SVMCAV,
    TCAV,
    ConceptAtlas,
    EmbeddingMap,
    FastCAV,
    LassoCAV,
    LogisticCAV,
    MeanDifferenceCAV,
    MedianDifferenceCAV,
    PatternCAV,
    RidgeCAV,
)
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


ON, OFF = [1, 5, 9, 12, 20, 31], [0, 2, 4, 13, 22, 33]
SETS = {
    "positives": [1, 5, 9],
    "negatives": OFF,
    "pairs": [(1, 0), (5, 2)],
    "scope": "all",
    "pooling": "mean",
    "concept": "stripe",
    "resamples": 3,
    "seed": 1,
}


class TestPatternCAV(MethodSuite):
    method = PatternCAV
    examples = [
        {"layer": "features.4", "positives": ON},
        {"layer": "features.0", "positives": ON, "negatives": OFF, "scope": "all", "pooling": "mean", "resamples": 0},
        {"layer": "head", "positives": {"a": ON, "b": OFF}, "scope": "class 1", "concept": "two"},
        {"layer": "head", "positives": [(1, 0), (5, 2)], "scope": "all", "seed": 5},
    ]
    changes = SETS


class TestMeanDifferenceCAV(MethodSuite):
    method = MeanDifferenceCAV
    examples = [{"layer": "features.4", "positives": ON}]
    changes = SETS


class TestFastCAV(MethodSuite):
    method = FastCAV
    examples = [{"layer": "features.4", "positives": ON}]
    changes = SETS


class TestMedianDifferenceCAV(MethodSuite):
    method = MedianDifferenceCAV
    examples = [{"layer": "features.4", "positives": ON}]
    changes = SETS


class TestSVMCAV(MethodSuite):
    method = SVMCAV
    examples = [{"layer": "features.4", "positives": ON, "C": 0.1}]
    changes = {**SETS, "C": 1.0, "scaling": "deviation"}


class TestLogisticCAV(MethodSuite):
    method = LogisticCAV
    examples = [{"layer": "features.4", "positives": ON, "C": 0.1}]
    changes = {**SETS, "C": 1.0, "scaling": "largest"}


class TestRidgeCAV(MethodSuite):
    method = RidgeCAV
    examples = [{"layer": "features.4", "positives": ON, "alpha": 0.1}]
    changes = {**SETS, "alpha": 1.0, "scaling": "deviation"}


class TestLassoCAV(MethodSuite):
    method = LassoCAV
    examples = [{"layer": "features.4", "positives": ON, "alpha": 0.001}]
    changes = {**SETS, "alpha": 0.01, "scaling": "deviation"}


class TestTCAV(MethodSuite):
    method = TCAV
    examples = [{"cav": PatternCAV("features.0", positives=ON), "n_random": 5, "resamples": 20}]
    changes = {
        "cav": PatternCAV("features.0", positives=OFF),
        "targets": [1, 4],
        "samples": [1, 2, 3],
        "n_samples": 7,
        "n_random": 3,
        "resamples": 10,
        "seed": 1,
    }

    def make(self, **more):
        """The layer is that of its direction."""
        if "layer" in more:
            more = {"cav": PatternCAV(more.pop("layer"), positives=ON), **more}
        return super().make(**more)


def test_every_registered_method_keeps_the_contract():
    assert {suite.method for suite in MethodSuite.__subclasses__()} >= {METHODS[name] for name in METHODS}
