"""show: widgets and results side by side."""

import ipywidgets
import numpy as np
import pytest

from workbench.core.errors import BadValueError
from workbench.core.results import Ranking
from workbench.testing.fake_session import FakeSession
from workbench.widgets import AtlasBrowser, ComponentCard, HeatmapViewer, show


@pytest.fixture
def session():
    return FakeSession()


def test_widgets_stand_in_a_gridbox_with_one_selection(session):
    board = show(AtlasBrowser(session.atlas(), session=session), ComponentCard(session), HeatmapViewer(session))
    assert isinstance(board, ipywidgets.GridBox) and len(board.children) == 3
    assert "wb-board-3" in board._dom_classes and "AtlasBrowser, ComponentCard, HeatmapViewer" in repr(board)
    assert len({id(w.shared) for w in board.children}) == 1
    for widget in board.children:
        widget.wait()
    board.close()


def test_an_atlas_is_shown_by_its_browser_and_finds_the_session_of_its_neighbours(session):
    board = show(session.atlas(), ComponentCard(session), group="left")
    assert isinstance(board.children[0], AtlasBrowser) and board.children[0].session is session
    board.close()


def test_a_fitted_method_is_shown_by_what_it_learned(session):
    class Fitted:
        atlas_, session_ = session.atlas(), session

    assert isinstance(show(Fitted()).children[0], AtlasBrowser)


def test_a_result_without_a_widget_is_shown_by_its_plot(session):
    attribution = session.explain(4, record=("bn2",))
    ranking = Ranking(("bn2/unit/1", "bn2/unit/2"), np.array([2.0, 1.0]))
    for child in show(attribution, ranking, ranking.plot()).children:
        assert isinstance(child, ipywidgets.Output)
        assert "application/vnd.plotly.v1+json" in child.outputs[0]["data"] or "text/html" in child.outputs[0]["data"]


def test_nothing_and_nonsense_are_explained():
    with pytest.raises(BadValueError, match="nothing to show"):
        show()
    with pytest.raises(BadValueError, match="int can neither be shown nor plotted"):
        show(3)


def test_a_board_is_displayed_once_per_cell(monkeypatch, session):
    import importlib

    module = importlib.import_module("workbench.widgets.showing")
    shown, cell = [], [1]
    monkeypatch.setattr(module, "_cell", lambda: cell[0])
    monkeypatch.setattr("IPython.display.display", lambda *a, **k: shown.append(cell[0]))
    board = show(ComponentCard(session))
    board._ipython_display_()  # the last line of the same cell
    cell[0] = 2
    board._ipython_display_()
    assert shown == [1, 2]
    board.close()
