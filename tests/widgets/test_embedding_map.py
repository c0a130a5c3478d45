"""NeuronMap: the contract, its payload, both kinds of things, plain arrays, filter, neighbours, stills."""

import io
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from workbench.core.errors import (
    BadValueError,
    NotFiniteError,
    ShapeError,
    StaleError,
    StoreError,
    UnknownNameError,
    WorkbenchError,
)
from workbench.testing.fake_session import FakeSession
from workbench.testing.widget_suite import Page, WidgetSuite, lenient
from workbench.widgets import NeuronMap, class_column, wire
from workbench.widgets.map_still import _sizes
from workbench.widgets.points import blocks, check_filter, plain_map
from workbench.widgets.scatter import colours_of


class TestContract(WidgetSuite):
    fails = "fit"
    changes = {
        "color_by": "frequency",
        "size_by": "relevance",
        "relevance_class": 2,
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


SESSION = {"components": 300}


@pytest.fixture
def widget(session):
    made = NeuronMap(session, "bn2")
    assert made.wait(20)
    yield made
    made.close()


def frame_of(n):
    rng = np.random.default_rng(1)
    groups = np.array([f"g{i % 11}" for i in range(n)])
    return pd.DataFrame({"score": rng.normal(0, 1, n), "count": rng.integers(0, 9, n), "cluster": groups})


# Coordinates ----------------------------------------------------------------------------------------------------------


def test_pca_is_shown_at_once_and_the_stored_layout_takes_its_place(session):
    seen = []
    widget = NeuronMap(session, "bn2")
    widget.observe(lambda change: seen.append((change["new"]["is_preview"], change["new"]["same"])), names="points")
    assert widget.wait(20) and [one for one, _ in seen] == [True, False] and len({same for _, same in seen}) == 1
    assert [name for name, _ in session.asked] == ["preview", "fit"]
    assert widget.points["layout"] == "fake, seed 0" and not widget.is_preview and widget.status == "ready"
    widget.close()


def test_what_is_in_the_store_already_needs_no_preview(session, monkeypatch):
    monkeypatch.setattr(session, "has_fitted", lambda method: True)
    widget = NeuronMap(session, "bn2")
    assert widget.wait(20) and [name for name, _ in session.asked] == ["fit"]
    widget.close()


def test_another_projection_is_fitted_and_the_options_reach_the_method(session, monkeypatch):
    wanted = []
    fit = session.fit
    monkeypatch.setattr(session, "fit", lambda method, **options: (wanted.append(method.params()), fit(method))[1])
    widget = NeuronMap(session, "bn2", by="relevance", distance="cosine", n_neighbours=9, seed=4, layout="pca")
    assert widget.wait(20) and widget.projection == "pca" and type(widget.layout).__name__ == "Layout"
    widget.projection = "umap"
    assert widget.wait(20) and [one["layout"] for one in wanted] == ["pca", "umap"]
    assert {k: wanted[0][k] for k in ("by", "distance", "n_neighbours", "seed", "of")} == {
        "by": "relevance", "distance": "cosine", "n_neighbours": 9, "seed": 4, "of": "components",
    }  # fmt: skip
    assert "distance='cosine'" in widget.to_code()
    widget.close()


def test_a_fit_that_fails_leaves_the_preview_and_says_so(session, monkeypatch):
    session.fail = {"fit": StaleError("UMAP is missing.", hint="Install umap-learn.")}
    with lenient(monkeypatch):
        widget = NeuronMap(session, "bn2")
        widget.wait(20)
    assert widget.status == "failed" and widget.points["n"] == 300 and widget.is_preview
    widget.close()


def test_a_wrong_column_is_explained_once_the_map_is_there(session, monkeypatch):
    with lenient(monkeypatch):
        widget = NeuronMap(session, "bn2", color_by="frequncy")
        widget.wait(20)
        assert widget.status == "failed" and 'Nearest: "frequency"' in widget._problem["hint"]
    widget.close()


# Payload --------------------------------------------------------------------------------------------------------------


def test_all_that_is_needed_to_draw_is_in_the_traits(widget, session):
    points, made = widget.points, session.point_map("bn2")
    assert points["n"] == 300 and points["position"].dtype == np.float32 and points["apart_count"] == 1
    assert np.allclose(points["position"], made.position) and widget.values["cluster"].dtype == np.uint8
    assert {c["name"] for c in points["columns"]} == set(made.columns) == set(widget.values)
    assert widget.near["ids"].shape == (300, 30) and widget.near["ids"].dtype == np.uint16
    assert widget.near["ids"][3, 0] == 65535  # the component that never answers has no neighbours
    assert np.allclose(widget.near["distances"][5], made.distances[5]) and widget.color_by == "relevance"


@pytest.mark.parametrize("n", [20_000, 200_000])
def test_large_maps_stay_within_the_budget_and_send_columns_as_they_are_used(n):
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({f"column {i}": rng.normal(0, 1, n).astype(np.float32) for i in range(25)})
    xy = rng.random((n, 2))
    widget = NeuronMap(position=xy, columns=frame, color_by="column 3", size_by="column 4")
    assert wire.weight(widget.get_state(["points", "values", "near"])) < wire.TRAIT_BYTES
    assert set(widget.values) == {"column 3", "column 4"}
    first = widget.values["column 3"]
    widget.color_by = "column 7"
    assert set(widget.values) == {"column 7", "column 4"}
    widget.filter = {"column 3": [0, None]}
    assert set(widget.values) == {"column 3", "column 7", "column 4"} and widget.values["column 3"] is first
    position = widget.points["position"]
    if n > 125_000:
        assert position.dtype == np.uint16
        unit = (xy - xy.min(0)) / np.ptp(xy, axis=0).max()
        assert np.abs(position / 65535 - unit).max() < 1e-5
    widget.close()


def test_neighbours_that_are_too_many_are_asked_for(monkeypatch, session):
    monkeypatch.setattr("workbench.widgets.points.NEAR_BYTES", 100)
    widget = NeuronMap(session, "bn2")
    assert widget.wait(20) and widget.near == {}
    page, made = Page(widget), session.point_map("bn2")
    answer, buffers = page.ask("neighbours", {"digest": widget.points["digest"], "row": 9, "k": 5})
    assert answer["ok"] and np.frombuffer(buffers[0], np.int32).tolist() == made.neighbours[9, :5].tolist()
    assert np.allclose(np.frombuffer(buffers[1], np.float32), made.distances[9, :5])
    apart, _ = page.ask("neighbours", {"digest": widget.points["digest"], "row": 3, "k": 5})
    assert apart["result"]["rows"]["shape"] == [0]
    widget.close()


@pytest.mark.parametrize("of", ["components", "samples"])
def test_pictures_come_as_one_sheet(session, of):
    widget = NeuronMap(session, "bn2", of=of)
    assert widget.wait(20) and widget.points["block"].max() == {"components": 7, "samples": 0}[of]
    body = {"digest": widget.points["digest"], "rows": [2, 5, 7], "size": 64}
    answer, buffers = Page(widget).ask("tiles", body)
    assert answer["result"]["sheet"]["n"] == 3 and Image.open(io.BytesIO(buffers[0])).size == (128, 128)
    widget.close()


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("tiles", {"rows": [300]}),
        ("tiles", {"digest": "0123", "rows": [1]}),
        ("tiles", {"rows": list(range(257))}),
        ("neighbours", {"row": 300, "k": 3}),
        ("neighbours", {"row": -1, "k": 3}),
        ("neighbours", {"digest": "0123", "row": 1, "k": 3}),
    ],
)
def test_rows_that_do_not_exist_are_refused(widget, kind, body):
    size = {"size": 64} if kind == "tiles" else {}
    with pytest.raises(WorkbenchError):
        Page(widget).post(kind, {"digest": widget.points["digest"], **size, **body})


def test_blocks_are_small_and_of_neighbours():
    position = np.random.default_rng(0).random((1000, 2))
    found = blocks(position)
    assert np.bincount(found).max() <= 64 and len(np.unique(found)) == 16
    within = np.mean([np.ptp(position[found == b], axis=0).max() for b in np.unique(found)])
    assert within < 0.4 and blocks(np.zeros((200, 2))).max() == 3


# Plain arrays ---------------------------------------------------------------------------------------------------------


def test_plain_arrays_need_no_session():
    frame = frame_of(40)
    xy = np.random.default_rng(2).normal(0, 5, (40, 2))
    vectors = np.random.default_rng(3).normal(0, 1, (40, 6))
    widget = NeuronMap(position=xy, columns=frame, vectors=vectors, color_by="cluster")
    far = np.linalg.norm(vectors - vectors[7], axis=1)
    expected = np.argsort(far)[1:4]
    assert widget.nearest(7, 3).index.tolist() == expected.tolist()
    assert np.allclose(widget.nearest(7, 3)["distance"], far[expected], atol=1e-4)
    widget.selection = "score > 1"
    assert set(widget.samples) == set(np.flatnonzero(frame["score"] > 1)) and (widget.selection["score"] > 1).all()
    assert widget.table()["cluster_name"].iloc[0] in set(frame["cluster"])
    assert "position=position" in widget.to_code() and "40 points" in repr(widget)
    assert widget.snapshot().png() and not widget.points.get("has_tiles")
    widget.close()


def test_ids_of_a_frame_are_kept_and_names_are_labels():
    frame = frame_of(5)
    frame.index = [40, 10, 30, 20, 50]
    xy = np.arange(10.0).reshape(5, 2)
    vectors = np.array([[0.0], [1.0], [0.1], [5.0], [5.5]])
    widget = NeuronMap(position=xy, columns=frame, vectors=vectors)
    assert widget.map.ids() == [10, 20, 30, 40, 50]
    assert widget.table().loc[40, "score"] == pytest.approx(frame.loc[40, "score"])
    assert widget.nearest(40, 2).index.tolist() == [30, 10] and widget.nearest(20, 1).index.tolist() == [50]
    frame.index = list("abcde")
    named = NeuronMap(position=xy, columns=frame)
    assert named.points["labels"] == list("abcde") and set(named.table()["name"]) == set("abcde")
    for one in (widget, named):
        one.close()


@pytest.mark.parametrize(
    ("position", "columns", "vectors", "error"),
    [
        (np.zeros((3, 3)), None, None, ShapeError),
        (np.full((3, 2), np.nan), None, None, NotFiniteError),
        (np.zeros((3, 2)), {"a": [1, 2]}, None, ShapeError),
        (np.zeros((3, 2)), None, np.zeros((4, 2)), ShapeError),
    ],
)
def test_arrays_that_do_not_fit_are_refused(position, columns, vectors, error):
    with pytest.raises(error):
        NeuronMap(position=position, columns=columns, vectors=vectors)


@pytest.mark.parametrize("n", [0, 1, 2])
def test_hardly_any_points(n):
    widget = NeuronMap(position=np.zeros((n, 2)), vectors=np.ones((n, 3)))
    assert widget.points["n"] == n and len(widget.table()) == n and widget.snapshot().png()
    widget.close()
    assert len(plain_map(np.zeros((n, 2)))[0]) == n


# Filter, selection, order ---------------------------------------------------------------------------------------------


def test_the_table_is_what_passes_in_the_order_of_the_colour(widget):
    assert widget.table()["relevance"].is_monotonic_decreasing and len(widget.table()) == 300
    widget.filter = {"frequency": [0.4, 0.6], "class": ["circle"]}
    table = widget.table()
    assert table["frequency"].between(0.4, 0.6).all() and set(table["class"]) == {"circle"} and 0 < len(table) < 300
    widget.filter = {"cluster": ["group 2"]}
    assert set(widget.table()["cluster_name"]) == {"group 2"}
    widget.filter, widget.color_by = {}, "class"
    counts = widget.table()["class"].value_counts()
    assert list(dict.fromkeys(widget.table()["class"])) == list(counts.index)
    widget.select(["bn2/unit/7", "bn2/unit/8"])
    widget.only_linked = True
    assert set(widget.table().index) == {"bn2/unit/7", "bn2/unit/8"}


@pytest.mark.parametrize(
    "wrong",
    [
        {"nonsense": [0, 1]},
        {"frequency": [1, 0]},
        {"frequency": 3},
        {"frequency": ["a"]},
        {"class": [0, 1]},
        {"class": []},
        {"frequency": [None, "a"]},
    ],
)
def test_a_wrong_filter_is_explained_and_changes_nothing(widget, wrong):
    with pytest.raises((BadValueError, UnknownNameError)):
        widget.filter = wrong
    assert widget.filter == {}


def test_filters_have_a_normal_form():
    assert check_filter({"a": (1, None), "b": "x"}) == {"a": [1.0, None], "b": ["x"]}
    with pytest.raises(BadValueError, match="names columns"):
        check_filter([1, 2])


def test_words_size_points_by_how_many_share_them():
    kinds = np.array(["a"] * 6 + ["b"] * 2 + ["c"] * 4)
    widget = NeuronMap(
        position=np.random.default_rng(0).random((12, 2)),
        columns={"kind": kinds, "cluster": np.array([0] * 5 + [1] * 4 + [-1] * 3)},
        size_by="kind",
    )
    share = dict(zip(kinds, _sizes(widget.map, "kind"), strict=True))
    assert share == {"a": 1.0, "b": 0.0, "c": 0.5}
    assert _sizes(widget.map, "cluster").tolist() == [1.0] * 5 + [0.0] * 7  # what is in no group is small
    assert len(set(_sizes(plain_map(np.zeros((3, 2)), {"kind": np.array(["x"] * 3)})[0], "kind"))) == 1
    assert widget.snapshot().pictures
    widget.close()


def test_boxes_have_four_sides_and_neighbours_an_end(widget):
    with pytest.raises(BadValueError, match="left, bottom, right, top"):
        widget.view_box = [0, 0, 1]
    with pytest.raises(Exception, match="30"):
        widget.neighbours = 31


def test_selection_goes_both_ways(widget, session):
    widget.selection = ["bn2/unit/9", "bn2/2"]
    assert session.selection.components == ("bn2/unit/9", "bn2/unit/2") and session.selection.component == "bn2/unit/9"
    widget.selection = "frequency > 0.6"
    assert (widget.selection["frequency"] > 0.6).all() and len(widget.selection) > 1
    with pytest.raises(WorkbenchError):
        widget.selection = ["bn2/unit/300"]
    widget.selection = None
    assert widget.selection.empty and session.selection.component is None


def test_a_map_of_samples_leaves_components_alone(session):
    widget = NeuronMap(session, "bn2", of="samples")
    assert widget.wait(20) and widget.follows == ("sample", "samples")
    widget.select([4, 7])
    assert session.selection.samples == (4, 7) and session.selection.sample == 4 and session.selection.components == ()
    session.selection.component = "bn2/unit/3"
    assert widget.component is None and widget.table().index.name == "sample"
    assert widget.offers().samples and not widget.offers().components
    widget.close()


def test_neighbours_of_the_selected_point_are_a_frame(widget, session):
    session.selection.component = "bn2/unit/12"
    made = session.point_map("bn2")
    assert widget.nearest().index.tolist() == [f"bn2/unit/{i}" for i in made.neighbours[12, :8]]
    assert widget.nearest("bn2/unit/3").empty


def test_it_shows_maps_and_fitted_methods(session):
    made = session.point_map("blocks.4")
    widget = NeuronMap(made)
    assert widget.session is None and widget.points["n"] == 40 and not widget.points.get("has_tiles")
    widget.close()

    class Fitted:
        map_, session_ = made, session

        def __repr__(self):
            return "EmbeddingMap('blocks.4')"

    widget = NeuronMap(Fitted())
    assert widget.session is session and widget.to_code().splitlines()[-1].startswith("wb.widgets.NeuronMap(s.fit(wb.m")
    widget.close()


@pytest.mark.parametrize(
    ("source", "options", "words"),
    [
        (None, {}, "got NoneType"),
        ({}, {}, "got dict"),
        ("session", {}, "which layer"),
        ("session", {"of": "cats"}, "of"),
    ],
)
def test_what_it_cannot_show_is_explained(session, source, options, words):
    with pytest.raises(BadValueError, match=words):
        NeuronMap(session if source == "session" else source, **options)


# Stills ---------------------------------------------------------------------------------------------------------------


def test_the_still_has_picture_legend_groups_and_what_the_projection_is_worth(widget):
    widget.select([f"bn2/unit/{i}" for i in range(20, 40)])
    still = widget.snapshot()
    assert still.pictures[0].pixels.shape == (420, 640, 3) and "coloured by relevance" in still.pictures[0].alt
    assert still.legend.title == "relevance" and list(still.rows.columns) == ["points", "mean relevance"]
    assert int(still.rows["points"].sum()) == 300
    notes = " ".join(still.notes)
    assert (
        "fake, seed 0" in notes
        and "Trustworthiness of the plane 0.900" in notes
        and "20 in the set" in notes
        and "Apart" in notes
    )
    plain = widget.still().pictures[0].pixels
    widget.color_by = "cluster"
    still = widget.snapshot()
    assert not still.legend.is_ramp and len(still.legend.labels) == 9 and still.legend.labels[-1].startswith("other (")
    assert (still.pictures[0].pixels != plain).any()


def test_stills_have_the_colours_of_the_script():
    values = np.array(["b", "a", "a", "c", "c", "c"])
    colours, legend = colours_of("kind", values, (), "cividis")
    assert legend.labels == ["c (3)", "a (2)", "b (1)"] and colours[3].tolist() == [0, 114, 178]
    colours, legend = colours_of("v", np.array([-2.0, 0.0, 2.0, np.nan]), (), "cividis")
    assert (colours[1] > 240).all() and colours[3].tolist() == [138, 138, 138] and legend.is_ramp


def test_show_takes_maps_and_fitted_methods(session):
    import workbench as wb

    class Fitted:
        map_, session_ = session.point_map("bn2"), session

        def __repr__(self):
            return "EmbeddingMap('bn2')"

    board = wb.show(Fitted(), session.point_map("blocks.4"), session=session)
    assert [type(one).__name__ for one in board.widgets] == ["NeuronMap", "NeuronMap"]
    assert all(one.session is session for one in board.widgets)
    board.close()


def test_code_of_a_large_set_is_short(widget):
    widget.selection = widget.table().index
    assert len(widget.to_code()) < 300 and "# 300 components are selected" in widget.to_code()
    assert len(widget.snapshot().html()) < 200_000
    widget.selection = list(widget.table().index[:60])
    assert widget.to_code().count("bn2/unit/") > 60 and "# 60 components are selected" in widget.snapshot().code


def test_larger_maps_are_handed_over_and_ids_stay_in_step(widget, session, monkeypatch):
    import sys
    import types

    import traitlets

    class Drawn(traitlets.HasTraits):  # the little of jupyter-scatter's widget that counts
        selection = traitlets.Any(np.zeros(0, np.int64))

    class Scatter:
        def __init__(self, **given):
            self.given, self.widget = given, Drawn()

    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "jscatter", None)
        with pytest.raises(WorkbenchError, match="jupyter-scatter"):
            widget.to_jscatter()
    monkeypatch.setitem(sys.modules, "jscatter", types.SimpleNamespace(Scatter=Scatter))
    widget.color_by, widget.size_by = "cluster", "class"
    widget.select(["bn2/unit/4", "bn2/unit/9"])
    scatter = widget.to_jscatter(height=300)
    sizes = scatter.given["data"].groupby("class", observed=True)[scatter.given["size_by"]].agg(["size", "min", "max"])
    assert (sizes["size"] == sizes["min"]).all() and (sizes["size"] == sizes["max"]).all()
    assert (scatter.given["x"], scatter.given["color_by"], scatter.given["height"]) == ("x", "cluster_name", 300)
    assert len(scatter.given["data"]) == 300 and scatter.widget.selection.tolist() == [4, 9]
    scatter.widget.selection = np.array([1, 2, 5])
    assert session.selection.components == ("bn2/unit/1", "bn2/unit/2", "bn2/unit/5")
    session.selection.components = ["bn2/unit/7"]
    assert scatter.widget.selection.tolist() == [7]
    widget.close()
    session.selection.components = ["bn2/unit/8"]
    assert scatter.widget.selection.tolist() == [7]


# The relevance for one class ------------------------------------------------------------------------------------------


def test_a_class_is_chosen_by_name_or_number(widget, session):
    made = session.point_map("bn2")
    widget.color_by = "class_relevance"
    largest = widget.table()["class_relevance"]
    assert np.allclose(np.sort(largest), np.sort(made.column("class_relevance"))) and widget.of_class == {}
    assert [name for _, name in widget.points["classes"]] == sorted(session.class_names())
    points = widget.points
    widget.relevance_class = "square"
    assert widget.relevance_class == 1 and widget.of_class["name"] == "square"
    assert np.allclose(widget.of_class["values"], made.class_relevance[1])
    assert widget.points is points  # a column travels, not the map
    table = widget.table()
    assert table["class_relevance"].is_monotonic_decreasing
    assert np.allclose(table.sort_index(key=lambda ids: [int(i.rsplit("/")[-1]) for i in ids])["class_relevance"],
                       made.class_relevance[1])  # fmt: skip
    widget.filter = {"class_relevance": [0.5, None]}
    assert len(widget.table()) == (made.class_relevance[1] >= 0.5).sum()
    assert "relevance_class=1" in widget.to_code()
    widget.filter, widget.relevance_class = {}, None
    assert widget.table()["class_relevance"].equals(largest) and widget.of_class == {}


def test_a_chosen_class_is_named_in_stills_and_figures(session):
    widget = NeuronMap(session, "bn2", color_by="class_relevance", relevance_class="circle")
    assert widget.wait() and widget.relevance_class == 0
    still = widget.snapshot()
    assert "coloured by relevance for circle" in still.pictures[0].alt and still.legend.title == "relevance for circle"
    figure = widget.plot()
    assert "Map of components of bn2, circle" in figure.layout.title.text
    widget.close()


def test_classes_that_are_not_there_are_explained(widget, session):
    with pytest.raises(WorkbenchError, match="cirle.*Nearest.*circle"):
        widget.relevance_class = "cirle"
    with pytest.raises(BadValueError, match="No sample of the data was explained"):
        widget.relevance_class = 17
    with pytest.raises(BadValueError, match="name or number"):
        widget.relevance_class = [1]
    assert widget.relevance_class is None and widget.of_class == {}
    samples = NeuronMap(session, "bn2", of="samples")
    assert samples.wait() and samples.points["classes"] == []
    with pytest.raises(BadValueError, match="no relevance by class"):
        samples.relevance_class = 1
    samples.close()


def test_names_that_come_twice_or_are_numbers():
    made = FakeSession(classes=("crane", "7", "crane")).point_map("bn2")
    relevance = made.class_relevance.copy()
    relevance[0] = np.nan
    made = replace(made, class_relevance=relevance)
    assert class_column.classes_of(made) == [1, 2]
    assert class_column.number_of(made, "crane") == 2 and class_column.number_of(made, "7") == 1
    assert class_column.number_of(made, "2") == 2 and class_column.number_of(made, "") is None


def test_another_layer_is_mapped_and_shown(widget, session):
    digest = widget.points["digest"]
    widget.view_box = [0.1, 0.2, 0.7, 0.9]
    widget.restore({"layer": "blocks.4", "color_by": "relevance"})
    assert widget.wait(20) and widget.status == "ready" and widget.points["digest"] != digest
    assert len(widget.map) == len(widget.table()) == 40 and widget.view_box == [] and widget.color_by == "relevance"
    assert widget.made_with()["layer"] == "blocks.4" and widget.recipe()["results"] == ["recipe-blocks.4"]
    assert "NeuronMap(s, 'blocks.4'" in widget.plain_code() and "layer=" not in widget.plain_code()
    Page(widget).put(layer="bn2")
    assert widget.wait(20) and widget.points["digest"] == digest and not widget.is_preview


def test_a_layer_that_cannot_be_mapped_leaves_what_is_there_and_says_so(widget, session, monkeypatch):
    before = widget.to_code()
    with pytest.raises(UnknownNameError, match="nonsense"):
        widget.layer = "nonsense"
    session.fail = {name: StoreError("blocks.4 has not been swept.") for name in ("fit", "preview")}
    with lenient(monkeypatch):
        widget.layer = "blocks.4"
        widget.wait(20)
    assert widget.status == "failed" and widget.map.layer == "bn2"
    assert widget.stale_reason() == "This is still the map of bn2." and widget.made_with()["layer"] == "bn2"
    assert widget.to_code() == before
    session.fail = {}
    widget.layer = "bn2"
    assert widget.wait(20) and widget.status == "ready" and widget._problem == {}


def test_of_many_layers_in_a_row_the_last_is_mapped(widget, session):
    session.delay = 0.02
    for layer in ["blocks.4", "bn2"] * 20 + ["blocks.4"]:
        widget.layer = layer
    assert widget.wait(20) and widget.map.layer == "blocks.4" and not widget.is_preview and widget.status == "ready"


def test_choices_that_another_layer_does_not_offer_are_left_out(widget, session, monkeypatch):
    widget.color_by, widget.symbol_by, widget.relevance_class = "frequency", "class", 1
    widget.filter = {"frequency": [0.2, None]}
    whole = session.point_map

    def poorer(layer=None, of="components", *, preview=False):
        made = whole(layer, of, preview=preview)
        columns = {name: made.columns[name] for name in ("activation", "cluster")}
        return replace(made, columns=columns, class_relevance=made.class_relevance[:0])

    monkeypatch.setattr(session, "point_map", poorer)
    widget.layer = "blocks.4"
    assert widget.wait(20) and widget.status == "ready" and len(widget.table()) == 40
    assert (widget.symbol_by, widget.filter, widget.relevance_class) == ("", {}, None)
    assert widget.color_by in ("activation", "cluster")


def test_a_map_that_was_given_shows_no_other_layer(session):
    widget = NeuronMap(session.point_map(), session=session)
    with pytest.raises(BadValueError, match="the map of bn2 and no other"):
        widget.layer = "blocks.4"
    with pytest.raises(BadValueError, match="given is of bn2"):
        NeuronMap(session.point_map(), session=session, layer="blocks.4")
    own = NeuronMap(position=np.zeros((5, 2)))
    with pytest.raises(BadValueError, match="the map that was given and no other"):
        own.layer = "bn2"
    assert own.layer == ""
