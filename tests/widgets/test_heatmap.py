"""HeatmapViewer: the contract, maps, outputs, list of components, stale answers."""

import threading

import numpy as np
import pytest

from workbench.core.errors import BadValueError, DataError, StoreError, UnknownNameError
from workbench.testing.fake_session import FakeSession
from workbench.testing.widget_suite import Page, WidgetSuite
from workbench.widgets import wire
from workbench.widgets.heat_still import level_lines, shown_values
from workbench.widgets.heatmap import HeatmapViewer
from workbench.widgets.stills import AGAINST, FOR


class TestContract(WidgetSuite):
    fails = "explain"
    changes = {
        "opacity": 0.5,
        "sign": "positive",
        "scale": "shared",
        "n_components": 4,
        "threshold": 0.25,
        "contour": True,
        "methods": ["gradient"],
        "targets": ["logit:2"],
        "show_random": True,
    }
    n_bytes = 300_000

    def make(self, session, **view):
        return HeatmapViewer(session, **view)


def test_as_many_components_are_listed_as_are_asked_for(viewer, session):
    region = {"x": 0.2, "y": 0.2, "width": 0.5, "height": 0.5}
    for wanted, chosen in ((8, None), (3, None), (3, region), (5, region), (0, None), (0, region), (6, None)):
        viewer.n_components, viewer.region = wanted, chosen
        assert viewer.wait() and len(viewer.table()) == wanted and viewer.status == "ready"
        again = HeatmapViewer(session, n_components=wanted, sample=4, component="bn2/unit/17")
        assert again.wait() and again.strip.get("components") == viewer.strip.get("components")
        again.close()


def test_a_layer_with_fewer_components_than_asked_for_is_explained_once():
    small = FakeSession(components=20)
    viewer = HeatmapViewer(small, n_components=32, sample=4, component="bn2/unit/17")
    assert viewer.wait() and len(viewer.table()) == 20
    asked = len(small.asked)
    viewer.n_components = 31
    viewer.n_components = 32
    assert viewer.wait() and len(viewer.table()) == 20 and viewer.status == "ready"
    n_again = len(small.asked) - asked
    viewer._fetch_heat()
    assert viewer.wait() and len(small.asked) == asked + n_again
    viewer.close()
    small.lane.close()


@pytest.fixture
def viewer(session):
    made = HeatmapViewer(session, sample=4, component="bn2/unit/17")
    assert made.wait()
    yield made
    made.close()


def test_the_map_is_int8_with_its_scale(viewer, session):
    heat, true = viewer.heat, session.heat(4, viewer.heat["class_"])
    assert heat["map"].dtype == np.int8 and heat["map"].shape == (64, 64)
    decoded = np.sign(heat["map"]) * (heat["map"] / 127.0) ** 2 * heat["limit"]
    assert np.allclose(decoded, true, atol=heat["limit"] / 126)
    assert heat["total"] == pytest.approx(true.sum(), rel=1e-4) and heat["gap"] == pytest.approx(0.021)
    assert (heat["sample"], heat["target"], heat["rule"]) == (4, "top", "EpsilonPlusFlat")
    assert heat["name"] == viewer.outputs["top"][0]["name"]


def test_the_list_gives_relevance_and_share(viewer):
    strip = viewer.strip
    assert strip["layer"] == "bn2" and len(strip["components"]) == 8 and strip["sheet"]["n"] == 8
    assert (np.abs(np.diff(np.abs(strip["relevance"]))) >= 0).all() and np.abs(strip["share"]).sum() < 1
    table = viewer.table()
    assert list(table.index) == strip["components"] and list(table.columns) == ["relevance", "share"]


def test_the_component_has_a_map_of_its_own(viewer, session):
    assert viewer.conditional["component"] == "bn2/unit/17"
    session.selection.component = viewer.strip["components"][0]
    assert viewer.wait() and viewer.conditional["component"] == viewer.strip["components"][0]
    assert viewer.selected() == [viewer.strip["components"][0]]


def test_a_target_is_explained(viewer, session):
    other = viewer.outputs["top"][1]["class_"]
    session.selection.target = f"logit:{other}"
    assert viewer.wait() and viewer.heat["class_"] == other and viewer.strip["target"] == f"logit:{other}"
    assert viewer.conditional["target"] == f"logit:{other}"


def test_a_component_of_another_layer_changes_the_list(viewer, session):
    session.selection.component = "blocks.4/unit/3"
    assert viewer.wait() and viewer.strip["layer"] == "blocks.4"
    viewer.layer = "bn2"
    assert viewer.wait() and viewer.strip["layer"] == "bn2"
    session.selection.component = "blocks.4/unit/5"
    assert viewer.wait() and viewer.strip["layer"] == "bn2" and viewer.conditional["component"] == "blocks.4/unit/5"
    with pytest.raises(UnknownNameError, match='Nearest: "blocks.4"'):
        viewer.layer = "blocks.5"


def test_steps_go_round(viewer, session):
    page = Page(viewer)
    page.ask("step", {"by": -5})
    assert session.selection.sample == 23
    answer, _ = page.ask("step", {"by": 1})
    assert answer["result"] == {"sample": 0} == {"sample": session.selection.sample}


def test_a_stale_answer_is_dropped(session):
    gate, asked = threading.Event(), threading.Event()
    real = session._explain

    def slow(sample, target, record, rule=None, progress=None):
        if sample == 1:
            asked.set()
            gate.wait(5)
        return real(sample, target, record, rule)

    session._explain = slow
    viewer = HeatmapViewer(session, sample=1)
    assert asked.wait(5)
    viewer.sample = 2
    gate.set()
    assert viewer.wait() and viewer.heat["sample"] == 2 and viewer.attribution.samples == (2,)


def test_going_and_coming_back_ends_on_what_is_selected(viewer, session):
    began, go_on = threading.Event(), threading.Event()
    picture = viewer._answers.picture

    def slow(sample, *rest):
        if sample == 5:
            began.set()
            assert go_on.wait(5)
        return picture(sample, *rest)

    viewer._answers.picture = slow
    session.selection.sample = 5
    assert began.wait(5)
    session.selection.sample = 4
    go_on.set()
    assert viewer.wait()
    for name in ("picture", "outputs", "heat", "conditional"):
        assert getattr(viewer, name)["sample"] == 4, name


def test_outputs_are_asked_for_though_the_picture_is_there(viewer, session):
    viewer.outputs = {**viewer.outputs, "sample": 9}  # as after a burst: the picture came in time, the outputs did not
    viewer._fetch_sample()
    assert viewer.wait() and viewer.outputs["sample"] == 4


def test_what_is_on_show_is_called_stale_while_it_is(viewer, session, monkeypatch):
    monkeypatch.setenv("WORKBENCH_STRICT", "0")
    session.fail = {"explain": StoreError("Disk full.")}
    viewer.sample = 6
    viewer.wait()
    assert viewer.status == "failed" and viewer.heat["sample"] == 4 and "sample 4" in viewer.stale_reason()
    Page(viewer).ask("dismiss")
    viewer.wait()
    assert viewer.status == "stale" and "sample 4" in viewer.message


def test_a_list_without_crops_is_still_a_list(session):
    session.fail = {"peak_crops": StoreError("No references of bn2.")}
    viewer = HeatmapViewer(session, component="bn2/unit/2")
    assert viewer.wait() and viewer.strip["sheet"]["n"] == 0 and len(viewer.strip["components"]) == 8


def test_the_first_sample_is_shown_if_none_is_selected(session):
    viewer = HeatmapViewer(session)
    assert viewer.wait() and viewer.sample == session.selection.sample == 0 and viewer.strip == {}


def test_nan_is_no_relevance(session):
    session.heat = lambda sample, seed=0, size=(64, 64): np.full(size, np.nan, dtype=np.float32)
    viewer = HeatmapViewer(session)
    assert viewer.wait() and viewer.heat["limit"] == 0 and (viewer.heat["map"] == -128).all()


def test_it_needs_a_session():
    with pytest.raises(BadValueError, match="samples of a session"):
        HeatmapViewer("toy")


def test_other_targets_stand_beside_and_follow(viewer, session):
    name = session.class_names()[2]
    viewer.targets = ["logit:0", name, "logit:0"]
    assert viewer.wait() and viewer.targets == ["logit:0", "logit:2"]
    for one, class_ in zip(viewer.targeted["maps"], (0, 2), strict=True):
        true = session.heat(4, class_)
        decoded = np.sign(one["map"]) * (one["map"] / 127.0) ** 2 * one["limit"]
        assert np.allclose(decoded, true, atol=one["limit"] / 126) and one["target"] == f"logit:{class_}"
    session.selection.sample = 7
    assert viewer.wait() and viewer.targeted["sample"] == 7
    assert len(viewer.still().pictures) == 5  # input, all, through a component, two targets


def test_other_methods_and_the_random_model_stand_beside_and_follow(viewer, session):
    viewer.methods = ["gradient", "EpsilonPlus", "gradient"]
    viewer.show_random = True
    assert viewer.wait() and viewer.methods == ["gradient", "EpsilonPlus"]
    assert [one["rule"] for one in viewer.compared["maps"]] == ["gradient", "EpsilonPlus"]
    assert viewer.compared["maps"][0]["map"].tolist() != viewer.heat["map"].tolist()
    assert viewer.random["correlation"] == 0.125 and viewer.random["sample"] == viewer.sample
    session.selection.sample = 7
    assert viewer.wait() and viewer.compared["sample"] == viewer.random["sample"] == 7
    with pytest.raises(UnknownNameError, match='Nearest: "gradient"'):
        viewer.methods = ["gradeint"]


def test_a_region_ranks_the_components_inside(viewer, session):
    session.selection.component = "bn2/unit/5"
    region = {"x": 0.25, "y": 0.5, "width": 0.5, "height": 0.25}
    session.selection.region = region
    assert viewer.wait() and viewer.region == region
    twin = session.rank_in_region(viewer.sample, region, "bn2", n=32)
    assert viewer.inside["components"] == list(twin.components[:8]) and viewer.inside["n_ranked"] == 32
    np.testing.assert_allclose(viewer.inside["relevance"], twin.scores[:8])
    np.testing.assert_allclose(viewer.inside["share"], twin.scores[:8] / np.abs(twin.scores).sum(), rtol=1e-5)
    assert list(viewer.table().index) == list(twin.components[:8])  # what is on show
    session.selection.region = None
    assert viewer.wait() and list(viewer.table().index) == viewer.strip["components"]


def test_masks_of_the_data_are_outlined_with_the_share_of_relevance_inside(viewer, session):
    session.selection.sample = 6
    assert viewer.wait()
    (mask,) = viewer.picture["masks"]
    positive = np.maximum(session.explain(6).heatmap[0], 0)
    assert mask["name"] == "<u>block</u>" and mask["mask"].sum() == 400
    (inside,) = viewer.heat["in_masks"]
    assert inside["share"] == pytest.approx(float(positive[20:40, 27:47].sum() / positive.sum()), rel=1e-5)
    session.selection.sample = 7
    assert viewer.wait() and viewer.picture["masks"] == [] and viewer.heat["in_masks"] == []


# Stills ---------------------------------------------------------------------------------------------------------------


def slow_shown(heat, limit, sign, threshold):
    """`shown_values`, value by value."""
    found = []
    for row in heat.tolist():
        found.append([])
        for v in row:
            is_wanted = v == v and {"both": True, "positive": v > 0, "negative": v < 0}[sign]
            found[-1].append(v if is_wanted and abs(v) >= threshold * limit else 0.0)
    return found


@pytest.mark.parametrize("sign", ["both", "positive", "negative"])
@pytest.mark.parametrize("threshold", [0.0, 0.3, 1.0])
def test_what_is_drawn_is_of_the_sign_and_above_the_threshold(sign, threshold):
    heat = np.random.default_rng(0).normal(0, 1, (5, 7)).astype(np.float32)
    heat[2, 3] = np.nan
    found = shown_values(heat, 1.5, sign=sign, threshold=threshold)
    assert found.tolist() == slow_shown(heat, 1.5, sign, threshold)


def test_lines_run_around_what_is_strong():
    y, x = np.mgrid[:40, :60]
    heat = np.exp(-((x - 15) ** 2 + (y - 20) ** 2) / 60) - 0.7 * np.exp(-((x - 45) ** 2 + (y - 20) ** 2) / 60)
    lines = level_lines(heat, (80, 120))
    for way, middle in ((1, 30), (-1, 90)):
        rows, columns = np.nonzero(lines[way])
        assert abs(columns.mean() - middle) < 1.5 and abs(rows.mean() - 40) < 1.5
        assert not lines[way][40, middle]  # a line, and no disc
    # The blob's variance is 30 and the blur's 1.44: so wide is the line at 20 % of the peak, drawn at twice the size.
    radius = 2 * np.sqrt(2 * (30 + 1.44) * np.log(1 / 0.2))
    rows, columns = np.nonzero(lines[1])
    assert np.hypot(rows - 40, columns - 30).max() == pytest.approx(radius, abs=1.5)
    assert not level_lines(heat, (80, 120), sign="negative")[1].any()
    assert level_lines(heat, (80, 120), threshold=0.7)[1].sum() < lines[1].sum()
    assert not level_lines(heat, (80, 120), threshold=0.7)[-1].any()
    assert not level_lines(np.zeros((4, 5)), (8, 10))[1].any()


def pixels(viewer, at=1):
    return viewer.snapshot().pictures[at].pixels.astype(int)


@pytest.mark.parametrize(
    "view",
    [{"sign": "negative"}, {"threshold": 0.4}, {"contour": True}, {"opacity": 0.2}, {"show_masks": False}],
    ids=str,
)
def test_the_still_is_drawn_as_the_screen_is(session, view):
    viewer, plain = (HeatmapViewer(session, sample=3, **options) for options in (view, {}))  # which has a mask
    assert viewer.wait() and plain.wait()
    assert (pixels(viewer) != pixels(plain)).any()
    for one in (viewer, plain):
        one.close()


def test_the_still_of_one_sign_has_nothing_of_the_other(session):
    viewer = HeatmapViewer(session, sample=4, sign="positive", show_masks=False)
    assert viewer.wait()
    heat = np.asarray(wire.signed_values(viewer.heat["map"], viewer.heat["limit"]))
    assert (heat < 0).any()
    red, _, blue = np.moveaxis(pixels(viewer), -1, 0)
    assert (blue <= red).all()  # the ground is grey
    viewer.sign = "negative"
    red, _, blue = np.moveaxis(pixels(viewer), -1, 0)
    assert (blue >= red).all() and (blue > red).any()
    still = viewer.snapshot()
    assert "Only relevance against it is drawn." in still.notes and len(set(still.legend.colours[11:])) == 1
    viewer.close()


def test_the_still_has_lines_region_and_further_maps(session):
    region = {"x": 0.25, "y": 0.5, "width": 0.5, "height": 0.25}
    viewer = HeatmapViewer(session, sample=3, contour=True, methods=["gradient"], show_random=True, show_masks=False)
    assert viewer.wait()
    bare = pixels(viewer)
    assert (bare == FOR).all(-1).any() and (bare == AGAINST).all(-1).any()
    viewer.region = region
    assert viewer.wait()
    still, framed = viewer.snapshot(), pixels(viewer)
    changed = np.argwhere((framed != bare).any(-1))
    assert np.allclose(changed.min(0), (120, 60), atol=2) and np.allclose(changed.max(0), (179, 179), atol=2)
    assert (framed[140, 100] == bare[140, 100]).all()
    captions = [picture.caption[0] for picture in still.pictures]
    assert captions == ["Input", "All relevance", "gradient", "Random weights"]
    assert still.pictures[3].caption[1] == "rank correlation 0.12"
    assert "Framed: the region from 25% to 75% across and 50% to 75% down." in still.notes
    assert still.legend.labels[0] == "for, at 20%, 40%, 60%, 80% of the largest"
    viewer.close()


def test_what_is_on_its_way_is_named_in_the_still(viewer, session):
    session.delay = 1.0
    viewer.methods = ["gradient"]
    assert "Not there yet: gradient." in viewer.snapshot().notes
    viewer.methods = []
    session.delay = 0


class WithoutData(FakeSession):
    """As a session that was opened with a model alone."""

    is_open = False

    @property
    def data(self):
        if self.is_open:
            raise DataError("This session has no data.", hint="Open it with data.")
        return self._data

    @data.setter
    def data(self, value):
        self._data = value

    def digests(self):
        return {"model": "fake@00000068", "data": ""}


def test_a_session_without_data_opens_and_says_what_is_missing():
    session = WithoutData()
    session.is_open = True
    viewer = HeatmapViewer(session)
    assert viewer.wait() and viewer.status == "failed" and viewer.n_samples == 0
    assert viewer._problem["message"] == "This session has no data." and viewer._problem["hint"] == "Open it with data."
    still = viewer.snapshot()
    assert still.missing == "This session has no data. Open it with data." and "HeatmapViewer(s)" in still.code
    assert Page(viewer).ask("step", {"by": 1})[0]["result"] == {"sample": None} and viewer.table().empty
    viewer.close()
    session.lane.close()
