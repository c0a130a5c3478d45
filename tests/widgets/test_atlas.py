"""AtlasBrowser: the contract, its payload, tiles, selection and tables."""

import io
import math

import ipywidgets
import numpy as np
import pytest
from PIL import Image

from workbench.core.errors import (
    BadValueError,
    IncompleteError,
    StaleError,
    StoreError,
    UnknownComponentError,
    UnknownNameError,
)
from workbench.session.deliver import flush
from workbench.testing.fake_session import FakeSession
from workbench.testing.widget_suite import Page, WidgetSuite, lenient
from workbench.widgets import ModelTree, wire
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


SESSION = {"components": 300}


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


# Another layer --------------------------------------------------------------------------------------------------------


@pytest.fixture
def browser(session):
    made = AtlasBrowser(session, layer="bn2", overlay="frequency")
    assert made.wait(20)
    yield made
    made.close()


def test_another_layer_is_fitted_and_shown_from_python_and_from_the_page(browser, session):
    browser.view_box = [0.0, 0.0, 4.0, 3.0]
    digest, page = browser.board["digest"], Page(browser)
    browser.layer = "blocks.4"
    assert browser.wait(20) and browser.status == "ready" and browser.board["digest"] != digest
    assert (browser.board["layer"], browser.board["n"], browser.basis) == ("blocks.4", 40, "unit")
    assert browser.view_box == [] and browser.overlay == "frequency" and len(browser.table()) == 40
    assert browser.made_with()["layer"] == "blocks.4" and browser.recipe()["results"] == ["recipe-blocks.4"]
    assert browser.plain_code().endswith("AtlasBrowser(s, layer='blocks.4', overlay='frequency')")
    browser.prepare_still()
    assert browser.snapshot().title == "Concepts of blocks.4" and len(browser.snapshot().pictures) == 40
    page.put(layer="bn2")
    assert browser.wait(20) and browser.board["digest"] == digest
    assert all(picture.alt.startswith("Reference of bn2/") for picture in browser.snapshot().pictures)


def test_no_layer_leaves_the_one_on_show_and_the_page_hears_of_it(browser):
    page = Page(browser)
    page.put(layer="")
    assert browser.layer == "bn2" and page.heard[-1][1]["state"] == {"layer": "bn2"}


def test_what_is_no_layer_is_refused_and_the_origin_stays_true(browser, session, monkeypatch):
    before = browser.to_code(), browser.recipe()
    with pytest.raises(UnknownNameError, match="nonsense"):
        browser.layer = "nonsense"
    session.n_calls["twice"] = 2
    with pytest.raises(BadValueError, match="runs 2 times"):
        browser.layer = "twice"
    page = Page(browser)
    with lenient(monkeypatch):
        page.put(layer="nonsense")
    assert browser.layer == "bn2" and (browser.to_code(), browser.recipe()) == before
    assert any((data or {}).get("state", {}).get("layer") == "bn2" for _, data, _ in page.heard)
    with pytest.raises(UnknownNameError):
        AtlasBrowser(session, layer="nonsense")


def test_a_layer_that_cannot_be_fitted_leaves_what_is_there_and_says_so(browser, session, monkeypatch):
    session.fail = {"fit": StoreError("blocks.4 has not been swept.")}
    with lenient(monkeypatch):
        browser.layer = "blocks.4"
        browser.wait(20)
    assert browser.status == "failed" and browser.board["layer"] == "bn2"
    assert browser.stale_reason() == "This is still the atlas of bn2."
    assert browser.made_with()["layer"] == "bn2" and "layer='bn2'" in browser.to_code()
    browser.layer = "bn2"
    assert browser.wait(20) and browser.status == "ready" and browser._problem == {}


def test_of_many_layers_in_a_row_the_last_is_shown(browser, session):
    session.delay = 0.02
    for layer in ["blocks.4", "bn2"] * 20 + ["blocks.4"]:
        browser.layer = layer
    assert browser.wait(20) and browser.board["layer"] == browser.layer == "blocks.4"
    for layer in ["bn2", "blocks.4"] * 20:
        browser.layer = layer
    assert browser.wait(20) and browser.board["layer"] == "blocks.4" and browser.status == "ready"


def test_relevance_for_a_target_is_that_of_the_layer_on_show(session):
    session.selection.target = "logit:1"
    browser = AtlasBrowser(session, layer="bn2", overlay="target")
    assert browser.wait(20)
    browser.layer = "blocks.4"
    assert browser.wait(20)
    assert np.allclose(browser.target_values["values"], slow_mean(session, "blocks.4", 1), atol=1e-6)
    browser.close()


def test_an_atlas_that_was_given_shows_no_other_layer(session):
    widget = AtlasBrowser(session.atlas(), session=session)
    with pytest.raises(BadValueError, match=r"the atlas of bn2 and no other.*AtlasBrowser\(session"):
        widget.layer = "blocks.4"
    assert widget.layer == "bn2" and widget.restore({"layer": "bn2"}) == []
    (report,) = widget.restore({"layer": "blocks.4", "made_with": {"layer": "blocks.4"}})
    assert report.startswith("layer:")
    with pytest.raises(BadValueError, match="given is of bn2"):
        AtlasBrowser(session.atlas(), session=session, layer="blocks.4")


def test_a_tree_of_layers_can_be_linked(browser, session):
    tree = ModelTree(session)
    assert tree.wait(20)
    link = ipywidgets.link((tree, "layer"), (browser, "layer"))
    assert browser.layer == "bn2"  # no layer is chosen in the tree yet
    tree.layer = "blocks.4"
    assert browser.wait(20) and browser.board["layer"] == "blocks.4"
    browser.layer = "bn2"
    assert tree.layer == "bn2"
    link.unlink()
    front = ipywidgets.jslink((tree, "layer"), (browser, "layer"))
    assert front.target == (browser, "layer") and "layer" in browser.keys
    tree.close()


# A target, or two -----------------------------------------------------------------------------------------------------


def slow_mean(session, layer, label=None):
    """Mean relevance of each component over the samples of a class, in plain loops."""
    rows = [i for i in range(len(session.data)) if label is None or session.data.labels[i] == label]
    values = session.relevances(layer).values
    return [math.fsum(float(values[i, c]) for i in rows) / len(rows) for c in range(values.shape[1])]


@pytest.fixture
def aimed(session):
    session.selection.target = "logit:1"
    made = AtlasBrowser(session.atlas(), session=session, overlay="target")
    assert made.wait(20)
    yield made
    made.close()


def test_the_overlay_is_the_relevance_for_the_selected_target(aimed, session):
    given = aimed.target_values
    assert (given["target"], given["compare_target"], given["title"]) == ("logit:1", "", "relevance for square")
    assert np.allclose(given["values"], slow_mean(session, "bn2", 1), atol=1e-6)
    assert given["note"] == "Mean over the 8 samples explained as square."
    assert [(one["value"], one["text"], one["n"]) for one in aimed.targets][:2] == [
        ("logit:0", "circle", 8), ("logit:1", "square", 8),
    ]  # fmt: skip
    assert aimed.table()["target"].is_monotonic_decreasing
    session.selection.target = "logit:0"
    assert aimed.wait() and np.allclose(aimed.target_values["values"], slow_mean(session, "bn2", 0), atol=1e-6)
    for everything in (None, "top"):
        session.selection.target = everything
        assert aimed.wait() and np.allclose(aimed.target_values["values"], slow_mean(session, "bn2"), atol=1e-6)
        assert aimed.target_values["note"] == "Mean over all 24 explained samples."


def test_two_targets_are_compared_by_difference(aimed, session):
    aimed.compare_target = "circle"
    assert aimed.wait() and aimed.compare_target == "logit:0"
    given = aimed.target_values
    twin = [a - b for a, b in zip(slow_mean(session, "bn2", 1), slow_mean(session, "bn2", 0), strict=True)]
    assert np.allclose(given["values"], twin, atol=1e-6) and given["title"] == "relevance for square − circle"
    column = given["column"]
    assert column["is_signed"] and column["bulk"][0] == -column["bulk"][1] < 0
    assert "8 samples explained as square, minus that over the 8 samples explained as circle" in given["note"]
    aimed.min_score = 0.05
    assert (aimed.table()["target"] >= 0.05).all() and 0 < len(aimed.table()) < 300
    aimed.prepare_still()
    still = aimed.snapshot()
    assert still.legend.labels[1] == "0" and still.legend.title == given["title"] and given["note"] in still.notes
    assert "relevance for square − circle" in still.html()
    figure = aimed.plot()
    assert type(figure).__name__ == "Figure" and "square − circle" in str(figure)
    state = aimed.state()
    assert (state["target"], state["compare_target"], state["overlay"]) == ("logit:1", "logit:0", "target")


def test_a_target_with_itself_differs_by_nothing(aimed):
    aimed.compare_target = "logit:1"
    assert aimed.wait() and not aimed.target_values["values"].any()
    assert aimed.target_values["column"]["bulk"] == [-1.0, 1.0] and aimed.snapshot().png()


@pytest.mark.parametrize(
    ("target", "why"),
    [
        ("logit:99", "There is no output 99"),
        ("difference:0:1", "kept for single outputs"),
        ("component:bn2/unit/1", "kept for single outputs"),
    ],
)
def test_targets_without_relevances_say_why(aimed, session, target, why):
    session.selection.target = target
    assert aimed.wait() and why in aimed.target_values["why"] and np.isnan(aimed.target_values["values"]).all()
    assert aimed.status == "ready" and len(aimed.table()) == 300 and aimed.snapshot().html() and aimed.plot()


def test_a_class_without_samples_says_so():
    session = FakeSession(labels=np.zeros(24, int))
    atlas = AtlasBrowser(session.atlas(), session=session, overlay="target", target="logit:1", compare_target="logit:0")
    assert atlas.wait() and "No sample was explained for square" in atlas.target_values["why"]
    assert [one["n"] for one in atlas.targets] == [24, 0, 0]


def test_nothing_is_asked_for_until_a_target_is_wanted(widget, session):
    assert "class_statistics" not in {name for name, _ in session.asked} and widget.target_values == {}
    session.selection.target = "logit:2"
    widget.compare_target = "logit:1"
    assert widget.wait() and widget.target_values == {}
    widget.overlay = "target"
    assert widget.wait() and widget.target_values["target"] == "logit:2"
    widget.overlay = "frequency"
    assert widget.wait() and "target" not in widget.table()


def test_a_burst_of_targets_ends_on_the_last(aimed, session):
    page = Page(aimed)
    for i in range(200):
        page.put(compare_target=f"logit:{i % 3}")
        session.selection.target = f"logit:{(i + 1) % 3}"
    assert aimed.wait(30)
    assert (aimed.target_values["target"], aimed.target_values["compare_target"]) == ("logit:2", "logit:1")
    assert aimed.stale_reason() == ""


def test_without_tables_the_overlay_says_what_to_do(session, monkeypatch):
    def class_statistics(layer, quantity="relevance"):
        raise IncompleteError("References alone.", hint="Run session.sweep, which keeps tables.")

    monkeypatch.setattr(session, "class_statistics", class_statistics)
    atlas = AtlasBrowser(session.atlas(), session=session, overlay="target")
    assert atlas.wait() and atlas.target_values["why"] == "Run session.sweep, which keeps tables."
    assert len(atlas.table()) == 300 and atlas.snapshot().html()


def test_a_fitted_method_without_session_brings_its_own_means(session):
    class Fitted:
        atlas_, class_relevance_ = session.atlas(), np.arange(900, dtype=np.float32).reshape(3, 300)
        _class_names = ("a", "b", "c")

    atlas = AtlasBrowser(Fitted(), overlay="target", target="logit:2", compare_target="logit:0")
    assert atlas.wait() and (atlas.target_values["values"] == 600).all()
    assert atlas.target_values["title"] == "relevance for c − a" and atlas.targets[0]["n"] is None


def test_large_layers_stay_within_the_budget_with_a_target():
    session = FakeSession(n=6, components=20_000)
    atlas = AtlasBrowser(session.atlas(), session=session, overlay="target", compare_target="logit:0")
    assert atlas.wait(60)
    assert wire.weight(atlas.get_state(["target_values", "targets"])) < 200_000
    atlas.close()


def test_labels_of_people_are_found_and_shown(widget, session):
    session.notes.put("bn2/unit/7", label="<b>Corners</b>")
    session.notes.put("blocks.4/unit/8", label="elsewhere")
    assert widget.wait() and flush(5) and widget.labels["bn2/unit/7"] == "<b>Corners</b>"
    widget.query = "corners"
    assert list(widget.table().index) == ["bn2/unit/7"] and widget.table()["label"].tolist() == ["<b>Corners</b>"]
    widget.prepare_still()
    assert "&lt;b&gt;Corners" in widget.snapshot().html()
