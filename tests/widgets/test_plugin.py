"""A widget of another package: found through its entry point, shown for its result, held to the contract suites."""

import sys
from pathlib import Path

import pytest

import workbench as wb
from workbench.core.registry import WIDGETS
from workbench.testing.fake_session import FakeSession
from workbench.testing.page_suite import PageSuite
from workbench.testing.widget_suite import WidgetSuite

PLUGIN = Path(__file__).resolve().parents[1] / "plugin"
sys.path.append(str(PLUGIN))

from peak_bars import PeakBars, Peaks  # noqa: E402

from workbench.testing.browser import chromium  # noqa: E402


@pytest.fixture
def announced(monkeypatch):
    """The registry, as if the package had been installed before anything was asked of it."""
    monkeypatch.syspath_prepend(str(PLUGIN / "installed"))
    monkeypatch.setattr(WIDGETS, "_entries", None)
    yield WIDGETS
    WIDGETS._items.pop("peak-bars", None)
    WIDGETS._facts.pop("peak-bars", None)


def test_it_is_found_by_name_and_shown_for_its_result(announced):
    assert "peak-bars" in announced and announced["peak-bars"] is PeakBars
    wb.widgets.register_widget("peak-bars", shows=Peaks)(PeakBars)
    session = FakeSession()
    board = wb.show(Peaks(session, "blocks.4"))
    (widget,) = board.widgets
    assert isinstance(widget, PeakBars) and widget.session is session and widget.layer == "blocks.4"
    assert widget.wait(10) and len(widget.table()) == 10
    board.close()


def test_a_broken_neighbour_is_named_in_a_warning_and_skipped(announced):
    with pytest.warns(UserWarning, match="peak-broken.*peak_bars.broken.*wants a package that is not there"):
        assert announced.where(lambda cls: issubclass(cls, PeakBars)) == {"peak-bars": PeakBars}
    assert "peak-bars" in announced and "peak-broken" not in announced


class TestContract(WidgetSuite):
    fails = "activations"
    changes = {"n": 5, "layer": "blocks.4"}

    def make(self, session, **view):
        widget = PeakBars(session, **view)
        widget.observe(lambda change: widget._fetch(), names="component")  # the suite's failures come with a selection
        return widget


class TestPage(PageSuite):
    pytestmark = [
        pytest.mark.browser,
        pytest.mark.skipif(chromium() is None, reason="Chromium is not installed"),
        pytest.mark.filterwarnings("ignore::ResourceWarning"),
    ]
    kind = "peak-bars"

    def make(self, session, **view):
        return PeakBars(session, **view)

    def choose(self, widget):
        widget.locator(".peak-bar").nth(3).click()

    def reading(self, widget):
        return "".join(widget.locator('.peak-bar[aria-selected="true"]').all_inner_texts())
