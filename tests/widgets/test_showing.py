"""show: widgets and results side by side."""

import ipywidgets
import numpy as np
import pytest

from workbench.core.config import settings
from workbench.core.errors import BadValueError
from workbench.core.results import Ranking
from workbench.widgets import AtlasBrowser, ComponentCard, HeatmapViewer, show

VIEW = "application/vnd.jupyter.widget-view+json"


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
    monkeypatch.setattr("IPython.display.display", lambda data, **k: shown.append((cell[0], VIEW in data)))
    board = show(ComponentCard(session))
    board._ipython_display_()  # the last line of the same cell
    cell[0] = 2
    board._ipython_display_()
    assert shown == [(1, True), (1, False), (2, True), (2, False)]  # the live view, and its still
    board.close()


@pytest.fixture
def displayed(monkeypatch):
    """What is displayed and updated, by its display id, as if in a notebook."""
    import importlib

    module = importlib.import_module("workbench.widgets.showing")
    found = {}
    monkeypatch.setattr(module, "_cell", lambda: 1)
    monkeypatch.setattr("IPython.display.display", lambda data, **k: found.__setitem__(k.get("display_id"), data))
    monkeypatch.setattr("IPython.display.update_display", lambda data, **k: found.__setitem__(k["display_id"], data))
    return found


def test_a_live_view_has_its_still_beside_it_which_follows_once_it_can(session, displayed):
    session.delay = 0.3
    session.selection.component = "bn2/unit/17"
    card = ComponentCard(session)
    card.show()
    mark = card._still_mark
    assert set(displayed) == {mark, f"{mark}-live"} and set(displayed[f"{mark}-live"]) == {VIEW}
    assert "Not computed yet" in displayed[mark]["text/html"] and f'class="{mark}"' in displayed[mark]["text/html"]
    assert card.wait(10)
    assert displayed[mark]["text/html"].count("<img") == 12 and displayed[mark]["image/png"]
    session.delay = 0
    card.freeze()
    assert VIEW not in displayed[f"{mark}-live"] and displayed[f"{mark}-live"]["text/html"].count("<img") == 12
    assert displayed[mark]["text/html"] == "" and card._is_closed


@pytest.mark.parametrize(("mode", "ids"), [("bundle", 1), ("none", 1), ("separate", 2)])
def test_the_setting_chooses_how_stills_go_along(session, displayed, monkeypatch, mode, ids):
    monkeypatch.setenv("WORKBENCH_STILL", mode)
    board = show(ComponentCard(session), HeatmapViewer(session))
    for widget in board.widgets:
        assert widget.wait(10)
    assert len(displayed) == ids
    (live,) = (data for data in displayed.values() if VIEW in data)
    assert ("text/html" in live) == (mode == "bundle")
    if mode == "separate":
        (still,) = (data for data in displayed.values() if VIEW not in data)
        assert "Sample 0" in still["text/html"] and "No component is selected" in still["text/html"]
        assert "Sample 0" in still["text/plain"] and still["image/png"]
    board.close()


def test_notebooks_that_are_executed_wait_for_their_stills(session, displayed, monkeypatch):
    monkeypatch.setenv("WORKBENCH_STILL_WAIT_S", "20")
    session.delay = 0.2
    atlas = AtlasBrowser(session.atlas(), session=session)
    atlas.show()
    assert displayed[atlas._still_mark]["text/html"].count("<img") == 48
    atlas.close()


def test_a_wrong_setting_is_explained(monkeypatch):
    monkeypatch.setenv("WORKBENCH_STILL", "sometimes")
    with pytest.raises(BadValueError, match="WORKBENCH_STILL is 'sometimes'"):
        settings()
