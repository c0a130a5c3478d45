"""The contract of methods, for each that is registered."""

from __future__ import annotations

import numpy as np

from workbench.core.registry import METHODS
from workbench.methods import (
    CDEP,
    RRR,
    SVMCAV,
    TCAV,
    AClArC,
    ArtifactMasks,
    ConceptAtlas,
    EmbeddingMap,
    FastCAV,
    LassoCAV,
    LogisticCAV,
    MeanDifferenceCAV,
    MedianDifferenceCAV,
    PatternCAV,
    PClArC,
    RClArC,
    Retrieval,
    RevealToRevise,
    RidgeCAV,
    RRClArC,
    Shortcuts,
    Spray,
)
from workbench.testing.context import SmallData
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


class TestSpray(MethodSuite):
    method = Spray
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


class TestShortcuts(MethodSuite):
    method = Shortcuts
    examples = [{"layer": "features.4", "n_others": 9}, {"layer": "features.0", "classes": [0, 1], "note": ", again"}]
    changes = {"classes": [2], "pooling": "max", "n_others": 5, "note": ", round 2"}


class TestRevealToRevise(MethodSuite):
    method = RevealToRevise
    examples = [
        {"layers": ["features.4"]},
        {"layers": "features.0", "revise": PClArC(None), "decide": "person", "held_out": [1, 2, 3]},
    ]
    changes = {
        "layers": ["features.0", "features.4"],
        "at": "features.0",
        "revise": PClArC(None),
        "cav": PatternCAV("", positives=None, pooling="mean"),
        "decide": "person",
        "attacks": {"patch": SmallData(40, seed=1)},
        "classes": [0],
        "held_out": 0.5,
        "least_effect": 0.25,
        "most_cost": 0.5,
        "seed": 1,
    }

    def make(self, **more):
        """Its layers are several."""
        if "layer" in more:
            more["layers"] = [more.pop("layer")]
        return super().make(**more)


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


FITTED = {
    "trains": "head",
    "samples": [1, 2, 3, 6],
    "attacked": SmallData(40, seed=1),
    "epochs": 2,
    "rate": 0.01,
    "batch": 7,
    "optimiser": "sgd",
    "loss": "cross-entropy",
    "validation": 0.2,
    "patience": 1,
    "seed": 1,
}


class Along:
    """Corrections along a direction, at the layer of which they act."""

    def make(self, **more):
        if "layer" in more:
            more = {"cav": PatternCAV(more.pop("layer"), positives=ON), **more}
        return super().make(**more)


class TestPClArC(Along, MethodSuite):
    method = PClArC
    examples = [
        {"cav": PatternCAV("features.0", positives=ON)},
        {"cav": PatternCAV("head", positives=ON), "at": "sample", "reference": "zero"},
        {"cav": [PatternCAV("features.0", positives=ON), PatternCAV("features.0", positives=OFF)], "reference": OFF},
    ]
    changes = {"cav": PatternCAV("features.0", positives=OFF), "at": "sample", "reference": "zero", "tokens": "first"}


class TestRClArC(Along, MethodSuite):
    method = RClArC
    examples = [
        {"cav": PatternCAV("features.4", positives=ON), "detector": PatternCAV("features.4", positives=ON)},
        {"cav": PatternCAV("features.0", positives=ON), "condition": "class", "classes": [0, "b"]},
    ]
    changes = {
        "cav": PatternCAV("features.4", positives=OFF),
        "condition": "both",
        "classes": [1],
        "detector": PatternCAV("features.4", positives=OFF),
        "softness": 0.1,
        "false_alarms": 0.1,
        "at": "sample",
        "reference": "zero",
        "tokens": "first",
    }

    def make(self, **more):
        """Of the layer asked for there is a detector too, and of a condition by class there are classes."""
        if "layer" in more:
            more["detector"] = PatternCAV(more["layer"], positives=ON)
        if more.get("condition") == "both":
            more["classes"] = [0]
        elif "classes" in more:
            more["condition"] = "both"
        return super().make(**more)


class TestAClArC(Along, MethodSuite):
    method = AClArC
    examples = [{"cav": PatternCAV("features.4", positives=ON), "epochs": 1}]
    changes = {**FITTED, "cav": PatternCAV("features.4", positives=OFF), "at": "sample", "strength": 0.5}


class TestRRClArC(Along, MethodSuite):
    method = RRClArC
    examples = [
        {"cav": PatternCAV("features.4", positives=ON), "epochs": 1},
        {"cav": PatternCAV("features.0", positives=ON), "epochs": 1, "target": "label"},
        {"cav": PatternCAV("features.4", positives=ON), "solver": "closed"},
    ]
    changes = {
        **FITTED,
        "cav": PatternCAV("features.4", positives=OFF),
        "strength": 0.5,
        "target": "jacobian",
        "classes": [1],
        "norm": "absolute",
        "solver": "closed",
        "tokens": "first",
    }


MASKS = {i: np.pad(np.ones((3, 4)), ((2, 5), (1, 3))) for i in ON}


class TestRRR(MethodSuite):
    method = RRR
    examples = [{"masks": MASKS, "epochs": 1}, {"masks": [MASKS, MASKS], "layer": "features.0", "epochs": 1}]
    changes = {**FITTED, "masks": {1: MASKS[1]}, "strength": 5.0, "score": "label", "norm": "squared"}


class TestCDEP(MethodSuite):
    method = CDEP
    examples = [{"masks": MASKS, "layer": "features.2", "epochs": 1}, {"masks": MASKS, "epochs": 1}]
    changes = {**FITTED, "masks": {1: MASKS[1]}, "strength": 5.0, "dilation": 1}


def test_every_registered_method_keeps_the_contract():
    assert {suite.method for suite in MethodSuite.__subclasses__()} >= {METHODS[name] for name in METHODS}
