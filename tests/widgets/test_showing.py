"""show: widgets and results side by side."""

import os
import time
from pathlib import Path

import ipywidgets
import numpy as np
import pytest

from workbench.core.config import settings
from workbench.core.errors import BadValueError
from workbench.core.results import Ranking
from workbench.session.deliver import flush
from workbench.widgets import AtlasBrowser, ComponentCard, HeatmapViewer, show

ROOT = Path(__file__).resolve().parents[2]
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

    module = importlib.import_module("workbench.widgets.beside")
    shown, cell = [], [1]
    monkeypatch.setattr(module, "cell", lambda: cell[0])
    monkeypatch.setattr("IPython.display.display", lambda data, **k: shown.append((cell[0], VIEW in data)))
    board = show(ComponentCard(session))
    board._ipython_display_()  # the last line of the same cell
    cell[0] = 2
    board._ipython_display_()
    assert shown == [(1, True), (1, False), (2, True), (2, False)]  # the live view, and its still
    board.close()


class Displayed(dict):
    """Outputs as they are now by their display ids, and the ids in the order in which they came."""

    def __init__(self):
        super().__init__()
        self.history = []

    def take(self, name, data):
        self.history.append(name)
        self[name] = data


@pytest.fixture
def displayed(monkeypatch):
    """What is displayed and updated, by its display id, as if in a notebook."""
    import importlib

    module = importlib.import_module("workbench.widgets.beside")
    found = Displayed()
    monkeypatch.setattr(module, "cell", lambda: 1)
    monkeypatch.setattr("IPython.display.display", lambda data, **k: found.take(k.get("display_id"), data))
    monkeypatch.setattr("IPython.display.update_display", lambda data, **k: found.take(k["display_id"], data))
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


def until(test, seconds=20):
    end = time.monotonic() + seconds
    while not test() and time.monotonic() < end:
        time.sleep(0.01)
    assert test()


def test_the_still_follows_what_is_selected_afterwards(session, displayed):
    board = show(AtlasBrowser(session.atlas(), session=session), ComponentCard(session), HeatmapViewer(session))
    mark = board.widgets[0]._still_mark
    assert "No component is selected" in displayed[mark]["text/html"]
    session.selection.component = "bn2/unit/17"
    until(lambda: "1. circle" in displayed[mark]["text/html"] or "Through bn2/unit/17" in displayed[mark]["text/html"])
    until(lambda: "No component is selected" not in displayed[mark]["text/html"])
    board.widgets[1].title = "A title of one's own"  # view state
    until(lambda: "A title of one&#x27;s own" in displayed[mark]["text/html"])
    board.close()


def test_a_burst_gives_few_stills_and_the_last_is_of_the_last_value(session, displayed):
    card = ComponentCard(session)
    card.show()
    assert card.wait(10)
    displayed.history.clear()
    for i in range(200):
        session.selection.component = f"bn2/unit/{i % 50 + 4}"
    until(lambda: "component=&#x27;bn2/unit/53&#x27;" in displayed[card._still_mark]["text/html"])
    assert card.wait(10)
    until(lambda: "Not computed yet" not in displayed[card._still_mark]["text/html"])
    assert 1 <= len(displayed.history) <= 4
    card.close()


def test_a_still_that_would_be_the_same_is_not_sent_again(session, displayed):
    session.selection.component = "bn2/unit/17"
    card = ComponentCard(session)
    card.show()
    assert card.wait(10)
    card.refresh_still()
    assert card.wait(10)
    displayed.history.clear()
    (beside,) = card._shown
    card.refresh_still()
    assert card.wait(10) and not displayed.history and beside.widgets == [card]
    card.close()
    card.refresh_still()
    beside._look()
    assert flush() and not displayed.history and beside._rest._timer is None


def test_a_closed_widget_and_one_without_a_still_follow_nothing(session, displayed, monkeypatch):
    card = ComponentCard(session)
    card.show()
    card.wait(10)
    (beside,) = card._shown
    session.selection.component = "bn2/unit/17"
    card.close()
    assert beside._is_over and beside._rest._timer is None
    monkeypatch.setenv("WORKBENCH_STILL", "none")
    other = ComponentCard(session)
    other.show()
    assert other._shown == []
    other.close()


def test_each_company_has_a_still_of_its_own(session, displayed):
    card, heat = ComponentCard(session), HeatmapViewer(session)
    card.show()
    board = show(card, heat)
    assert {one.name for one in card._shown} == {card._still_mark, f"{card._still_mark}-1"}
    assert "Sample 0" not in displayed[card._still_mark]["text/html"]
    board._ipython_display_()
    assert len(card._shown) == 2
    board.close()


NOTEBOOK = [
    "import workbench as wb\n"
    "from workbench.testing.fake_session import FakeSession\n"
    "s = FakeSession()\n"
    "card, heat = wb.widgets.ComponentCard(s), wb.widgets.HeatmapViewer(s)\n"
    "card",
    "board = wb.show(heat, wb.widgets.RunBar(s))",
    "s.selection.component = 'bn2/unit/17'",
    "s.selection.set(component='bn2/unit/18', sample=7)",
]


def test_an_executed_notebook_holds_what_was_on_show_at_its_end(monkeypatch, tmp_path):
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("WORKBENCH_STILL_WAIT_S", "60")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in NOTEBOOK])
    resources = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(notebook, timeout=120, store_widget_state=False, resources=resources).execute()
    said = [
        [one.data["text/html"] for one in found.outputs if "text/html" in one.get("data", {})]
        for found in notebook.cells
    ]
    assert [len(one) for one in said] == [1, 1, 0, 0]
    assert "bn2/unit/18" in said[0][0] and "Not computed yet" not in said[0][0] and said[0][0].count("<img") == 12
    assert "Sample 7" in said[1][0] and "Through bn2/unit/18" in said[1][0]
    assert not any(one.output_type == "stream" for found in notebook.cells for one in found.outputs)


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
