"""NeuronMap: the contract, its payload, both kinds of things, plain arrays, filter, neighbours, stills."""

import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from workbench.core.errors import BadValueError, NotFiniteError, ShapeError, StaleError, UnknownNameError, WorkbenchError
from workbench.testing.fake_session import FakeSession
from workbench.testing.widget_suite import Page, WidgetSuite, lenient
from workbench.widgets import NeuronMap, wire
from workbench.widgets.points import blocks, check_filter, plain_map
from workbench.widgets.scatter import colours_of


class TestContract(WidgetSuite):
    fails = "fit"
    changes = {
        "color_by": "frequency",
        "size_by": "relevance",
        "symbol_by": "class",
        "filter": {"frequency": [0.2, None], "class": ["circle", "square"]},
        "neighbours": 4,
        "thumbnails": False,
        "view_box": [0.1, 0.2, 0.7, 0.9],
        "tool": "lasso",
        "projection": "pca",
    }

    def make(self, session, **view):
        return NeuronMap(session, "bn2", **view)


class TestContractOfSamples(WidgetSuite):
    fails = "fit"
    changes = {"color_by": "activation", "tool": "box", "filter": {"label": ["circle"]}}

    def make(self, session, **view):
        return NeuronMap(session, "bn2", of="samples", **view)
