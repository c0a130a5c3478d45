"""The contract of methods, for each that is registered."""

from __future__ import annotations

from workbench.core.registry import METHODS
from workbench.methods import (
    SVMCAV,
    TCAV,
    ArtifactMasks,
    ConceptAtlas,
    EmbeddingMap,
    FastCAV,
    LassoCAV,
    LogisticCAV,
    MeanDifferenceCAV,
    MedianDifferenceCAV,
    PatternCAV,
    Retrieval,
    RidgeCAV,
    SpRAy,
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


class TestRetrieval(MethodSuite):
    method = Retrieval
    examples = [
        {"layer": "features.4", "seeds": [1, 5, 9]},
        {"layer": "features.4", "seeds": [1, 5, 9], "rounds": [([12], [0, 3])], "by": "relevance", "scope": "all"},
        {"layer": "head", "seeds": [1, 5, 9, 12], "estimator": "ridge", "scope": "all", "n_top": 3},
    ]
    changes = {
        "seeds": [1, 5],
        "rounds": [([12], [0])],
        "by": "relevance",
        "estimator": "ridge",
        "scope": "all",
        "pooling": "mean",
        "n_top": 7,
        "precision": 0.25,
        "concept": "ruler",
        "seed": 1,
    }


class TestArtifactMasks(MethodSuite):
    method = ArtifactMasks
    examples = [
        {"cav": PatternCAV("features.0", positives=[1, 5, 9])},
        {"cav": PatternCAV("features.4", positives=[1, 5, 9]), "samples": [2, 7], "recipe": "otsu"},
    ]
    changes = {"cav": PatternCAV("features.0", positives=[0, 2, 4]), "samples": [1, 2], "recipe": "percentile"}

    def make(self, **more):
        """The layer is that of its direction."""
        if "layer" in more:
            more = {"cav": PatternCAV(more.pop("layer"), positives=[1, 5, 9]), **more}
        return super().make(**more)


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
