"""Concept-based explanation of neural networks: one session, one store, linked widgets in the notebook.

``import workbench`` is quick and loads no torch: what is public is loaded when first used.

Examples
--------
>>> import workbench as wb
>>> s = wb.open_session("toy-cnn", data="toy")  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from workbench.core.errors import nearest

if TYPE_CHECKING:
    from workbench import data, methods, widgets
    from workbench.attribution.base import Target
    from workbench.core.effects import Intervention
    from workbench.session.session import Session, open_session
    from workbench.widgets import export, show

__all__ = [
    "Intervention",
    "Session",
    "Target",
    "__version__",
    "data",
    "export",
    "methods",
    "open_session",
    "show",
    "widgets",
]

__version__ = "0.1.0.dev0"

logging.getLogger(__name__).addHandler(logging.NullHandler())

# Where each public name lives; a module stands for itself.
_HOMES = {
    "open_session": "workbench.session.session",
    "Session": "workbench.session.session",
    "Intervention": "workbench.core.effects",
    "Target": "workbench.attribution.base",
    "show": "workbench.widgets",
    "export": "workbench.widgets",
    "data": "",
    "methods": "",
    "widgets": "",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}. {nearest(name, __all__)}".strip())
    home = _HOMES[name]
    value = getattr(importlib.import_module(home), name) if home else importlib.import_module(f"{__name__}.{name}")
    globals()[name] = value  # asked for once only
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
