"""Which renderer plotly takes under Voila."""

import plotly.io as pio
import pytest

from workbench.core.bars import Bars
from workbench.figures.voila import NAME

BARS = Bars("Title", "x", ["a", "b"], {"before": [1, 2]})


@pytest.fixture
def default():
    before = pio.renderers.default
    pio.renderers.default = "plotly_mimetype"
    yield
    pio.renderers.default = before


def test_elsewhere_the_renderer_stays_as_it_is(default, monkeypatch):
    monkeypatch.setenv("SERVER_SOFTWARE", "")
    BARS.plot()
    assert pio.renderers.default == "plotly_mimetype"


def test_under_voila_figures_are_html_and_the_first_brings_the_script(default, monkeypatch):
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5.13")
    first, second = (BARS.plot()._repr_mimebundle_() for _ in range(2))
    assert pio.renderers.default == NAME and set(first) == set(second) == {"text/html"}
    assert len(first["text/html"]) > 1_000_000 > 100_000 > len(second["text/html"])
    assert "MathJax.js" not in first["text/html"][-5000:] and "https://cdn" not in second["text/html"]


def test_a_renderer_that_somebody_chose_stays(default, monkeypatch):
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5.13")
    pio.renderers.default = "png"
    BARS.plot()
    assert pio.renderers.default == "png"
