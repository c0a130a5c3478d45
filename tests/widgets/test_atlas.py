"""AtlasBrowser: the contract, its payload, tiles, selection and tables."""

import io

import numpy as np
import pytest
from PIL import Image

from workbench.core.errors import BadValueError, StaleError, UnknownComponentError, UnknownNameError
from workbench.testing.fake_session import FakeSession
from workbench.testing.widget_suite import Page, WidgetSuite, lenient
from workbench.widgets import wire
from workbench.widgets.atlas import AtlasBrowser


class TestContract(WidgetSuite):
    changes = {
        "overlay": "frequency",
        "min_score": 0.25,
        "query": "group",
        "level": "tiles",
        "view_box": [0.0, 0.0, 4.0, 3.0],
    }

    def make(self, session, **view):
        return AtlasBrowser(session.atlas(), session=session, **view)


@pytest.fixture
def session():
    return FakeSession(components=300)


@pytest.fixture
def widget(session):
    made = AtlasBrowser(session.atlas(), session=session)
    made.wait()
    yield made
    made.close()


def test_the_board_gives_each_component_its_own_cell(widget):
    board, cells = widget.board, widget.board["cells"]
    assert cells.dtype == np.uint16 and len({tuple(c) for c in cells}) == board["n"] == 300
    assert (cells < board["grid"]).all()
    assert [c["name"] for c in board["columns"]] == ["activation", "relevance", "frequency", "cluster"]
    assert widget.overlay == "relevance" and board["columns"][1]["is_signed"]
    assert board["cluster_names"][0] == "<em>group</em> 0"


@pytest.mark.parametrize("n", [1_280, 20_000])
def test_payload_of_large_atlases_is_within_the_budget(n):
    session = FakeSession(n=6, components=n)
    widget = AtlasBrowser(session.atlas(), session=session)
    assert wire.weight(widget.get_state(["board", "values"])) < wire.TRAIT_BYTES / 4
    widget.close()


def test_tiles_come_as_one_sheet(widget, session):
    page = Page(widget)
    body = {"digest": widget.board["digest"], "components": list(range(256)), "size": 64}
    answer, buffers = page.ask("tiles", body)
    sheet = answer["result"]["sheet"]
    assert answer["ok"] and answer["result"]["components"] == body["components"] and len(buffers) == 1
    assert (sheet["n"], sheet["columns"], sheet["width"]) == (256, 16, 64)
    assert Image.open(io.BytesIO(buffers[0])).size == (1024, 1024)
    assert len(buffers[0]) < 1_000_000
    assert widget.status == "ready"


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ({"components": [300]}, UnknownComponentError),
        ({"components": list(range(257))}, BadValueError),
        ({"components": [-1]}, BadValueError),
        ({"components": ["<img>"]}, BadValueError),
        ({"size": 4096}, BadValueError),
        ({"digest": "0123"}, StaleError),
    ],
)
def test_tiles_that_do_not_exist_are_refused(widget, monkeypatch, body, error):
    page = Page(widget)
    body = {"digest": widget.board["digest"], "components": [0], "size": 64, **body}
    with lenient(monkeypatch):
        answer, _ = page.ask("tiles", body)
        assert not answer["ok"] and answer["error"]["type"] == error.__name__
    with pytest.raises(error):
        page.post("tiles", body)


def test_a_failing_store_answers_the_question_and_not_the_status_line(widget, session, monkeypatch):
    session.fail = {"peak_crops": StaleError("Other weights.", hint="Sweep again.")}
    page = Page(widget)
    with lenient(monkeypatch):
        answer, _ = page.ask("tiles", {"digest": widget.board["digest"], "components": [0], "size": 64})
    assert answer["error"]["hint"] == "Sweep again." and widget._problem == {} and widget.status == "ready"


def test_selection_takes_ids_masks_frames_and_queries(widget, session):
    widget.selection = "bn2/unit/4"
    assert session.selection.component == "bn2/unit/4" and list(widget.selection.index) == ["bn2/unit/4"]
    widget.selection = ["bn2/unit/9", "bn2/2"]
    assert session.selection.components == ("bn2/unit/9", "bn2/unit/2") and session.selection.component == "bn2/unit/9"
    widget.selection = "frequency > 0.6"
    assert (widget.selection["frequency"] > 0.6).all() and len(widget.selection) > 1
    widget.selection = widget.table()["cluster"].to_numpy() == 2
    assert set(widget.selection["cluster"]) == {2}
    widget.selection = widget.table().head(3)
    assert len(widget.selection) == 3
    widget.selection = None
    assert widget.selection.empty
    assert list(widget.selection.columns) == ["x", "y", *session.atlas().columns, "cluster_name"]


@pytest.mark.parametrize(
    "wrong", ["bn2/unit/300", "nonsense >", ["bn2/unit/1", "blocks.4/unit/1"], [400], np.ones(7, dtype=bool)]
)
def test_a_wrong_selection_is_explained_and_changes_nothing(widget, session, wrong):
    widget.selection = ["bn2/unit/9", "bn2/unit/2"]
    with pytest.raises((BadValueError, UnknownNameError)):
        widget.selection = wrong
    assert session.selection.components == ("bn2/unit/9", "bn2/unit/2")


def test_the_table_is_what_is_on_show(widget):
    assert len(widget.table()) == 300 and widget.table()["relevance"].is_monotonic_decreasing
    widget.min_score = 0.5
    assert (widget.table()["relevance"] >= 0.5).all()
    widget.min_score, widget.query = None, "unit/29"
    assert set(widget.table().index) == {f"bn2/unit/{i}" for i in [29, *range(290, 300)]}
    widget.query, widget.sort = "<EM>", "cluster"
    assert set(widget.table()["cluster"]) == {0}


def test_observers_get_frames_until_they_are_undone(widget, session):
    seen = []
    undo = widget.on_select(seen.append)
    session.selection.component = "bn2/unit/7"
    undo()
    session.selection.component = "bn2/unit/8"
    assert [list(frame.index) for frame in seen] == [["bn2/unit/7"]]


def test_words_become_categories(session):
    atlas = session.atlas()
    columns = {**atlas.columns, "kind": np.array(["edge", "<b>", "dot"] * 100), "hot": np.arange(300) % 2 == 0}
    widget = AtlasBrowser(type(atlas)(**{**vars(atlas), "columns": columns}), session=session, overlay="kind")
    facts = {c["name"]: c for c in widget.board["columns"]}
    assert facts["kind"]["names"] == ["<b>", "dot", "edge"] and widget.values["kind"][:3].tolist() == [2, 0, 1]
    assert facts["hot"]["is_whole"] and widget.values["hot"].dtype == np.int32
    with pytest.raises(UnknownNameError, match='Nearest: "kind"'):
        AtlasBrowser(type(atlas)(**{**vars(atlas), "columns": columns}), session=session, overlay="knd")


def test_it_can_do_without_a_session(session):
    atlas = session.atlas()
    tiles = np.zeros((300, 40, 40, 3), dtype=np.uint8)
    widget = AtlasBrowser(atlas, tiles=tiles)
    widget.component = "bn2/unit/3"
    answer, _ = Page(widget).ask("tiles", {"digest": widget.board["digest"], "components": [5], "size": 96})
    assert answer["result"]["sheet"]["width"] == 96 and list(widget.selection.index) == ["bn2/unit/3"]
    widget.close()
    assert not AtlasBrowser(atlas).board["has_tiles"]
    with pytest.raises(BadValueError, match="5 tiles for 300"):
        AtlasBrowser(atlas, tiles=tiles[:5])


def test_a_fitted_method_brings_its_atlas_and_its_session(session):
    class Fitted:
        atlas_, session_ = session.atlas(), session

    widget = AtlasBrowser(Fitted())
    assert widget.session is session and widget.board["n"] == 300


def test_what_it_cannot_show_is_explained(session):
    with pytest.raises(BadValueError, match="which layer"):
        AtlasBrowser(session)
    with pytest.raises(BadValueError, match="got dict"):
        AtlasBrowser({})


def test_a_session_and_a_layer_fit_the_atlas_in_the_background(session):
    def fit(method):
        method.atlas_ = session.atlas(method.layer)
        return method

    session.fit = fit
    widget = AtlasBrowser(session, layer="blocks.4")
    assert widget.wait(20) and widget.board["n"] == 40 and "blocks.4" in repr(widget)
