"""A widget of another package: found through its entry point, shown for its result, held to the contract suites."""

import sys
from pathlib import Path

import ipywidgets
import numpy as np
import pytest

import workbench as wb
from workbench.core.registry import WIDGETS
from workbench.core.results import Ranking
from workbench.testing.fake_session import FakeSession
from workbench.testing.page_suite import PageSuite
from workbench.testing.widget_suite import WidgetSuite
from workbench.widgets.pinning import pin_of

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


@pytest.fixture
def ranking():
    return Ranking(("bn2/unit/1", "bn2/unit/2"), np.array([2.0, 1.0], np.float32))


def test_a_result_that_nobody_claims_is_plotted_and_the_broken_one_named_once(announced, ranking):
    with pytest.warns(UserWarning, match="peak-broken.*wants a package that is not there"):
        board = wb.show(ranking)
    assert isinstance(board.children[0], ipywidgets.Output)
    board.close()
    session = FakeSession()
    wb.show(ranking).close()  # a second warning would be an error
    pin = session.journal.add(pin_of(ranking, session=session))
    assert pin.widget == "Ranking"


def test_a_result_that_is_pinned_first_meets_the_broken_one_too(announced, ranking):
    with pytest.warns(UserWarning, match="peak-broken"):
        assert pin_of(ranking, session=FakeSession()).widget == "Ranking"


def test_plugins_are_not_loaded_for_what_ours_show(announced):
    session = FakeSession()
    wb.show(session.atlas(), session=session).close()
    pin_of(session.atlas(), session=session)
    assert "peak-bars" not in announced._items and "peak-broken" in announced._announced()


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
