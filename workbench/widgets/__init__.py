"""Widgets: an atlas of concepts, a map of neurons, a card, a viewer for heatmaps, and `show`, which unites them.

Each stands on anywidget and is an ordinary ipywidgets widget. They share the session's selection: what is clicked in
one, the others follow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from workbench.core.errors import nearest

if TYPE_CHECKING:
    from workbench.widgets.atlas import AtlasBrowser
    from workbench.widgets.audit import AuditPanel
    from workbench.widgets.base import SessionWidget, on, register_widget
    from workbench.widgets.card import ComponentCard
    from workbench.widgets.cav import DirectionViewer
    from workbench.widgets.compare import CompareView
    from workbench.widgets.embedding_map import NeuronMap
    from workbench.widgets.exporting import export
    from workbench.widgets.heatmap import HeatmapViewer
    from workbench.widgets.journal import Journal
    from workbench.widgets.model_tree import ModelTree
    from workbench.widgets.run_bar import RunBar
    from workbench.widgets.samples import SampleGrid
    from workbench.widgets.showing import show
    from workbench.widgets.steering import SteeringPanel

__all__ = [
    "AtlasBrowser",
    "AuditPanel",
    "CompareView",
    "ComponentCard",
    "DirectionViewer",
    "HeatmapViewer",
    "Journal",
    "ModelTree",
    "NeuronMap",
    "RunBar",
    "SampleGrid",
    "SessionWidget",
    "SteeringPanel",
    "export",
    "on",
    "register_widget",
    "show",
]

_HOMES = {
    "AtlasBrowser": "atlas",
    "AuditPanel": "audit",
    "CompareView": "compare",
    "ComponentCard": "card",
    "DirectionViewer": "cav",
    "HeatmapViewer": "heatmap",
    "Journal": "journal",
    "ModelTree": "model_tree",
    "NeuronMap": "embedding_map",
    "RunBar": "run_bar",
    "SampleGrid": "samples",
    "SessionWidget": "base",
    "SteeringPanel": "steering",
    "export": "exporting",
    "on": "base",
    "register_widget": "base",
    "show": "showing",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}. {nearest(name, __all__)}".strip())
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
