"""Methods: fitted once, then they answer questions. Names are loaded on first use."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from workbench.core.errors import nearest

_HOMES = {
    "AClArC": "workbench.methods.correction.clarc",
    "CDEP": "workbench.methods.correction.right_reasons",
    "ArtifactMasks": "workbench.methods.reveal.masks",
    "ConceptAtlas": "workbench.methods.concepts.atlas",
    "EmbeddingMap": "workbench.methods.representation.embedding_map",
    "FastCAV": "workbench.methods.directions.cav",
    "LassoCAV": "workbench.methods.directions.filter_cavs",
    "LogisticCAV": "workbench.methods.directions.filter_cavs",
    "MeanDifferenceCAV": "workbench.methods.directions.cav",
    "MedianDifferenceCAV": "workbench.methods.directions.cav",
    "PClArC": "workbench.methods.correction.clarc",
    "PatternCAV": "workbench.methods.directions.cav",
    "RClArC": "workbench.methods.correction.clarc",
    "RRClArC": "workbench.methods.correction.rr_clarc",
    "RRR": "workbench.methods.correction.right_reasons",
    "Retrieval": "workbench.methods.reveal.retrieval",
    "RidgeCAV": "workbench.methods.directions.filter_cavs",
    "RevealToRevise": "workbench.methods.correction.life_cycle",
    "Shortcuts": "workbench.methods.reveal.shortcuts",
    "Spray": "workbench.methods.reveal.spray",
    "SVMCAV": "workbench.methods.directions.filter_cavs",
    "TCAV": "workbench.methods.directions.tcav",
}

__all__ = [
    "CDEP",
    "RRR",
    "SVMCAV",
    "TCAV",
    "AClArC",
    "ArtifactMasks",
    "ConceptAtlas",
    "EmbeddingMap",
    "FastCAV",
    "LassoCAV",
    "LogisticCAV",
    "MeanDifferenceCAV",
    "MedianDifferenceCAV",
    "PClArC",
    "PatternCAV",
    "RClArC",
    "RRClArC",
    "Retrieval",
    "RevealToRevise",
    "RidgeCAV",
    "Shortcuts",
    "Spray",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}. {nearest(name, __all__)}".strip())


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
