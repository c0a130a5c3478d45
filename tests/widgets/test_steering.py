"""SteeringPanel: the contract, interventions, undoing, the population while it streams, presets, kept edits, stills."""

import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import BadValueError, StoreError, UnknownLayerError, WorkbenchError
from workbench.testing.browser import WidgetPage
from workbench.testing.fake_session import FakeSession
from workbench.testing.page_suite import ExportedPage, PageSuite, needs_browser
from workbench.testing.widget_suite import Page, WidgetSuite, lenient
from workbench.widgets import SteeringPanel, show
from workbench.widgets.steer_still import NO_EVIDENCE

TOP = {"address": ["bn2/unit/17"], "operation": "suppress", "strength": 1.0, "on": True}


def act(index, operation="suppress", strength=1.0, on=True, layer="bn2"):
    return {"address": [f"{layer}/unit/{index}"], "operation": operation, "strength": strength, "on": on}


class TestContract(WidgetSuite):
    fails = "predict_under"
    n_bytes = 400_000
    changes = {
        "interventions": [TOP, act(3, "boost", 0.5, on=False)],
        "population": 12,
        "controls": 4,
        "watch": [1],
        "layer": "blocks.4",
        "n_leading": 3,
        "compare": "flip",
        "bypass": True,
        "expected": "<b>circle</b> falls",
        "predict_first": True,
    }

    def make(self, session, **view):
        return SteeringPanel(session, **view)


class TestContractWhileSteering(WidgetSuite):
    fails = "predict_under"
    n_bytes = 400_000

    def make(self, session, **view):
        return SteeringPanel(session, **{"interventions": [TOP, act(5, "set", 2.0)], **view})


class TestPage(PageSuite):
    kind, labelled = "steering", "bn2/unit/17"
    most_stops = 11

    def make(self, session, **view):
        session.selection.components = ("bn2/unit/4", "bn2/unit/5", "blocks.4/unit/1")
        return SteeringPanel(session, **{"interventions": [TOP, act(5, "set", 2.0, on=False)], "watch": [2], **view})

    def choose(self, widget):
        widget.get_by_role("button", name="Next sample").click()

    def reading(self, widget):
        return widget.locator(".wb-title").inner_text() + widget.locator(".wb-outs").inner_text()


SELECTED = {"component": "bn2/unit/17", "sample": 4}


@pytest.fixture
def panel(session):
    made = SteeringPanel(session, interventions=[wb.Intervention("bn2/unit/17")])
    assert made.wait()
    yield made
    made.close()


def test_outputs_before_and_after_are_those_of_the_session(panel, session):
    rows = session.predict_under(4, panel.active)
    assert [one["index"] for one in panel.outputs["rows"]] == [one.index for one in rows]
    assert [one["after"] for one in panel.outputs["rows"]] == pytest.approx([one.after for one in rows])
    assert panel.outputs["index"] == rows[0].index and panel.outputs["acts"] == [
        {k: v for k, v in TOP.items() if k != "on"}
    ]
    table = panel.table()
    assert list(table.columns) == ["name", "before", "after", "change"] and table.index.name == "output"
    assert table["change"].to_numpy() == pytest.approx([one.change for one in rows], abs=1e-5)
    assert panel.selected() == [rows[0].index]


def test_maps_before_and_after_and_their_difference(panel, session):
    maps = panel.maps
    before, after = session.explain_under(4, []), session.explain_under(4, panel.active)
    for key, heat in (("before", before.heatmap[0]), ("after", after.heatmap[0])):
        code = maps[key]
        decoded = np.sign(code["map"]) * (code["map"] / 127.0) ** 2 * code["limit"]
        assert np.allclose(decoded, heat, atol=code["limit"] / 60)
    assert maps["difference"]["total"] == pytest.approx(float((after.heatmap - before.heatmap).sum()), rel=1e-4)
    assert maps["score_after"] - maps["score_before"] == pytest.approx(
        panel.table()["change"].loc[panel.selected()[0]], abs=1e-4
    )


def test_the_population_says_how_sure_it_is(panel, session):
    effect, found = panel.effect, panel.result
    assert effect["is_complete"] and effect["n"] == 24 == len(found.samples)
    assert effect["mean"] == pytest.approx(found.mean) and effect["interval"] == pytest.approx(list(found.interval))
    assert effect["band"] == pytest.approx(list(found.control_band)) and effect["n_controls"] == 8
    assert effect["changed"] == int((found.decision_before != found.decision_after).sum())
    assert [one["name"] for one in effect["accuracy"]] == [*found.accuracy().index]
    assert effect["moved"]["components"] == ["blocks.4/unit/7", "blocks.4/unit/2"]
    worse = found.worse(8)
    assert effect["worse"]["samples"] == list(worse.index) and effect["worse"]["sheet"]["n"] == len(worse)
    assert set(found.to_frame().columns) >= {"before", "after", "change"}


def test_partial_results_stream_and_the_interval_narrows(session):
    session._begin, session.delay = lambda *_: None, 1.6  # four parts, 0.4 seconds apart
    panel, parts = SteeringPanel(session, interventions=[TOP]), []
    panel.observe(lambda change: parts.append(change["new"]), names="effect")
    assert panel.wait(60)
    assert [one["n"] for one in parts][:4] == [6, 12, 18, 24] and parts[-1]["is_complete"]
    assert not parts[0]["is_complete"] and parts[0]["n_planned"] == 24
    width = [one["interval"][1] - one["interval"][0] for one in parts]
    assert width[-1] < width[0]
    panel.close()


def test_partial_results_come_four_times_a_second_at_most(session):
    from workbench.widgets.steer_answers import SteerAnswers

    real, told = session.steer, []

    def many(*args, see=None, **kwargs):
        found = real(*args, **kwargs)
        for _ in range(60):
            see(found)
            time.sleep(0.01)
        return found

    session.steer = many
    answers = SteerAnswers(session)
    answers.effect([wb.Intervention("bn2/unit/17")], "top", 24, [], 2, lambda *_: told.append(time.monotonic()))
    assert 2 <= len(told) <= 4 and min(np.diff(told)) >= 0.24


def test_no_intervention_changes_nothing_and_runs_no_population(session):
    panel = SteeringPanel(session)
    assert panel.wait() and panel.effect == {} and panel.result is None
    assert (panel.table()["change"] == 0).all() and panel.maps["difference"]["limit"] == 0
    assert "steer" not in [name for name, _ in session.asked]
    panel.interventions = [TOP]
    assert panel.wait() and panel.result is not None
    panel.interventions = [{**TOP, "on": False}]
    assert panel.wait() and panel.effect == {} and panel.result is None
    panel.close()


def test_as_many_leading_components_are_listed_as_are_asked_for(session):
    panel = SteeringPanel(session, layer="bn2")
    for n in (6, 2, 0, 4):
        panel.n_leading = n
        assert panel.wait() and len(panel.leading.get("components", ())) == n and panel.status == "ready"
    panel.close()


def test_a_burst_of_slider_events_ends_on_the_last_value(session, monkeypatch):
    monkeypatch.setattr("workbench.widgets.steering._SETTLED_S", 2.0)  # longer than a busy machine pauses in the burst
    session.delay = 0.02
    panel = SteeringPanel(session, interventions=[act(17, "boost", 0.0)])
    assert panel.wait()
    n_before, page = len(session.asked), Page(panel)
    for i in range(1, 201):
        page.put(interventions=[act(17, "boost", i / 100)])
    assert panel.wait(30)
    assert panel.interventions[0]["strength"] == 2.0
    for payload in (panel.outputs, panel.maps, panel.effect):
        assert payload["acts"][0]["strength"] == 2.0
    rows = session.predict_under(4, panel.active)
    assert [one["after"] for one in panel.outputs["rows"]] == pytest.approx([one.after for one in rows])
    asked = [name for name, _ in session.asked[n_before:]]
    assert asked.count("steer") == 1 and asked.count("explain_under") == 2
    assert panel.steps == {"undo": 1, "redo": 0}  # one move of the slider
    page.ask("undo")
    assert panel.interventions[0]["strength"] == 0.0
    panel.close()


def test_the_newest_wins_while_an_older_one_runs(session):
    gate, asked, real = threading.Event(), threading.Event(), session._predict_under

    def slow(sample, interventions, n, also, progress=None):
        if interventions and interventions[0].strength == 0.25:
            asked.set()
            gate.wait(5)
        return real(sample, interventions, n, also)

    session._predict_under = slow
    panel = SteeringPanel(session, interventions=[act(17, "suppress", 0.25)])
    assert asked.wait(5)
    panel.interventions = [act(17, "suppress", 0.75)]
    assert panel.stale_reason() == ""  # nothing is on show yet
    gate.set()
    assert panel.wait() and panel.outputs["acts"][0]["strength"] == 0.75
    panel.close()


def test_a_running_population_gives_way_to_a_slider(session):
    panel = SteeringPanel(session, interventions=[TOP])
    assert panel.wait()
    session.delay = 8.0
    panel.population = 20
    end = time.monotonic() + 5
    while "steer" not in [name for name, _ in session.asked[-1:]] and time.monotonic() < end:
        time.sleep(0.01)
    session.delay, started = 0.0, time.monotonic()
    panel.interventions = [act(17, "suppress", 0.5)]
    while panel.outputs["acts"][0]["strength"] != 0.5 and time.monotonic() < started + 5:
        time.sleep(0.005)
    assert time.monotonic() - started < 2.5  # one part of the population at most
    assert panel.wait() and panel.effect["acts"][0]["strength"] == 0.5 and panel.effect["n"] == 20
    panel.close()


def test_another_sample_does_not_begin_the_population_anew(session):
    session.delay = 0.4
    panel = SteeringPanel(session, interventions=[TOP])
    for sample in (5, 6, 7):
        panel.sample = sample
        time.sleep(0.05)
    assert panel.wait(30) and panel.outputs["sample"] == panel.maps["sample"] == 7
    panel.sample = 9
    assert panel.wait(30)
    assert [name for name, _ in session.asked].count("steer") == 1
    panel.close()


@pytest.mark.parametrize(
    ("given", "kind", "words"),
    [
        ([{"address": "bn2/unit/999"}], WorkbenchError, "No component"),
        ([{"address": "bn9/unit/1"}], UnknownLayerError, "No layer"),
        ([{"address": "bn2/unit/1", "strength": 3}], BadValueError, "strength"),
        ([{"address": "bn2/unit/1", "operation": "remove"}], WorkbenchError, "operation"),
        ([{"address": "bn2/unit/1", "on": 1}], BadValueError, "on .True."),
        ([{"where": "bn2/unit/1"}], BadValueError, "has an address"),
        ([3], BadValueError, "has an address"),
        ([TOP] * 51, BadValueError, "at most 50"),
    ],
)
def test_what_is_no_intervention_is_refused_and_said(panel, given, kind, words):
    before = panel.interventions
    with pytest.raises(kind, match=words):
        panel.interventions = given
    assert panel.interventions == before


def test_short_forms_are_taken(panel):
    panel.interventions = [
        "bn2/unit/3",
        wb.Intervention(["bn2/unit/4", "bn2/unit/5"], "boost", 2),
        {"address": "bn2/6"},
    ]
    assert panel.interventions == [
        act(3),
        {"address": ["bn2/unit/4", "bn2/unit/5"], "operation": "boost", "strength": 2.0, "on": True},
        act(6),
    ]
    assert panel.wait()


def test_a_wrong_wish_of_the_page_is_sent_back(panel, monkeypatch):
    page, before = Page(panel), panel.interventions
    with lenient(monkeypatch):
        page.put(interventions=[{"address": ["bn2/unit/999"], "operation": "suppress", "strength": 1, "on": True}])
    assert panel.interventions == before and "No component" in panel._problem["message"]
    assert any((data or {}).get("state", {}).get("interventions") == before for _, data, _ in page.heard)


def test_undo_and_redo(panel):
    first = panel.interventions
    panel.add("blocks.4/unit/2", "set", 1.5)
    panel.interventions = panel.interventions[1:]
    assert panel.wait() and panel.steps == {"undo": 2, "redo": 0}
    page = Page(panel)
    page.ask("undo")
    page.ask("undo")
    assert panel.interventions == first and panel.steps == {"undo": 0, "redo": 2}
    page.ask("undo")
    page.ask("redo")
    assert len(panel.interventions) == 2 and panel.steps == {"undo": 1, "redo": 1}
    panel.interventions = []
    assert panel.steps == {"undo": 2, "redo": 0} and panel.wait()
    assert panel.effect == {}


def test_presets(panel, session):
    page = Page(panel)
    panel.interventions = []
    top = session.explain(4, record=("bn2",)).top("bn2", 3).components
    answer, _ = page.ask("suppress_top")
    assert answer["result"] == {"component": top[0]} and panel.interventions == [{**TOP, "address": [top[0]]}]
    panel.interventions = [{**TOP, "address": [top[0]], "on": False, "strength": 0.5}]
    assert panel.suppress_top(3) == list(top)
    assert [one["address"][0] for one in panel.interventions] == list(top)
    assert all(one["on"] and one["strength"] == 1 for one in panel.interventions)
    panel.interventions = []
    panel.add(["bn2/unit/1", "blocks.4/unit/2", "bn2/unit/3"])
    assert [one["address"] for one in panel.interventions] == [["bn2/unit/1", "bn2/unit/3"], ["blocks.4/unit/2"]]
    assert panel.wait()


def test_leading_components_are_left_out_one_by_one(panel, session):
    found = session.leave_one_out(4, "bn2", 6)
    assert panel.leading["components"] == list(found.components)
    np.testing.assert_allclose(panel.leading["change"], found.change)
    session.selection.component = "blocks.4/unit/3"
    assert panel.wait() and panel.leading["layer"] == "blocks.4"
    panel.layer = "bn2"
    assert panel.wait() and panel.leading["layer"] == "bn2"


def test_where_no_layer_is_known_a_preset_says_so(monkeypatch):
    session = FakeSession()
    panel = SteeringPanel(session)
    assert panel.wait() and panel.leading == {}
    with lenient(monkeypatch):
        answer, _ = Page(panel).ask("suppress_top")
    assert not answer["ok"] and "Choose a layer" in answer["error"]["hint"]
    panel.close()


def test_an_address_is_added_or_refused(panel, monkeypatch):
    page = Page(panel)
    assert page.ask("add", {"component": " blocks.4/3 "})[0]["result"] == {"count": 2}
    assert panel.interventions[-1]["address"] == ["blocks.4/unit/3"]
    with lenient(monkeypatch):
        assert not page.ask("add", {"component": "nonsense"})[0]["ok"]
    assert len(panel.interventions) == 2


def test_an_output_is_watched_by_name_or_number(panel, monkeypatch):
    page = Page(panel)
    assert page.ask("watch", {"name": "square"})[0]["result"] == {"index": 1} and panel.watch == [1]
    assert page.ask("watch", {"name": "1"})[0]["ok"] and panel.watch == []
    with lenient(monkeypatch):
        assert "Nearest" in page.ask("watch", {"name": "squar"})[0]["error"]["hint"]
        assert "No output 9" in page.ask("watch", {"name": "9"})[0]["error"]["message"]


def test_values_and_steps_know_what_the_data_show(panel):
    panel.interventions = [act(3, "set", 1.0), act(4, "boost", 1.0)]
    assert panel.wait() and panel.ranges == {"bn2/unit/3+0": [0.0, 2.5]}


def test_a_target_is_followed(panel, session):
    other = panel.outputs["rows"][1]["index"]
    panel.select([other])
    assert panel.wait() and session.selection.target == f"logit:{other}"
    assert panel.outputs["index"] == other and panel.effect["target"] == f"logit:{other}"
    assert panel.result.target_text == f"logit:{other}"


def test_populations(panel, session, monkeypatch):
    session.data.tag("odd one", [1, 3, 5])
    for chosen, n in ((7, 7), ("all", 24), ("tag:odd one", 3), (1000, 24)):
        panel.population = chosen
        assert panel.wait() and panel.effect["n"] == n and panel.effect["population"] == chosen
    session.selection.samples = (2, 4)
    panel.population = "selected"
    assert panel.wait() and panel.effect["n"] == 2
    session.selection.samples = (2, 4, 6)
    assert panel.wait() and panel.effect["n"] == 3
    with lenient(monkeypatch):
        session.selection.samples = ()
        panel.wait()
        assert "No sample is chosen" in panel._problem["message"]
        panel.population = 0
        panel.wait()
        assert panel.effect == {} and panel._problem == {}
    for wrong in (-1, "most", "tag:", True):
        with pytest.raises(BadValueError):
            panel.population = wrong
    assert panel.wait() and panel.tags == ["odd one"]


def test_a_population_that_fails_says_why_and_the_rest_stays(panel, session, monkeypatch):
    session.fail = {"steer": StoreError("Disk full.", hint="Make room.")}
    with lenient(monkeypatch):
        panel.interventions = [act(3)]
        panel.wait()
        assert panel.status == "failed" and panel._problem["hint"] == "Make room."
        assert panel.outputs["acts"][0]["address"] == ["bn2/unit/3"]
        session.fail = {}
        Page(panel).ask("measure")
        panel.wait()
    assert panel.status == "ready" and panel._problem == {} and panel.effect["is_complete"]


def test_steering_all_units_of_a_layer_leaves_none_for_controls(panel, session):
    panel.interventions = [{**TOP, "address": [f"blocks.4/unit/{i}" for i in range(40)]}]
    assert panel.wait() and panel.effect["n_controls"] == 0 and panel.effect["band"] is None


def test_what_is_expected_is_kept_with_when_it_was_written(session):
    panel = SteeringPanel(session)
    assert panel.wait()
    page = Page(panel)
    page.put(expected="circle falls")
    assert panel.expected_when == "before"
    panel.interventions = [TOP]
    assert panel.wait()
    page.put(expected="square rises")
    assert panel.expected_when == "after"
    page.put(expected="")
    page.put(predict_first=True)
    page.put(expected="hidden, so honest")
    assert panel.expected_when == "before"
    state = panel.state()
    assert state["expected"] == "hidden, so honest" and state["expected_when"] == "before"
    assert "Expected, written beforehand: hidden, so honest" in panel.snapshot().html()
    other = SteeringPanel(session)
    assert other.wait() and other.restore(state) == [] and other.expected_when == "before"
    assert other.wait()
    assert panel.pin("a hypothesis").state["expected"] == "hidden, so honest"
    other.close()
    panel.close()


def test_an_intervention_keeps_its_scope(panel):
    region = {"x": 0.25, "y": 0.5, "width": 0.5, "height": 0.25}
    sides = [0.25, 0.5, 0.5, 0.25]
    mine = [wb.Intervention("bn2/unit/17", region=region), wb.Intervention("bn2/unit/4", tokens="patches")]
    panel.interventions = mine
    assert panel.wait() and panel.active == mine
    assert panel.interventions[0] == {**TOP, "region": sides} and panel.interventions[1]["tokens"] == "patches"
    assert panel.outputs["acts"] == [
        {**{k: v for k, v in TOP.items() if k != "on"}, "region": sides},
        {"address": ["bn2/unit/4"], "operation": "suppress", "strength": 1.0, "tokens": "patches"},
    ]
    panel.keep("part")
    code = panel.kept[0]["code"].removeprefix("part = s.variant('part', s.edits(").removesuffix("))")
    assert eval(code, {"wb": wb}) == mine
    html = panel.snapshot().html()
    assert "1. suppress bn2/unit/17 (100 %) in the region x 0.25 to 0.75, y 0.5 to 0.75" in html
    assert "2. suppress bn2/unit/4 (100 %) at the patches" in html


def test_one_is_limited_to_the_selected_region_and_back(panel, session, monkeypatch):
    region, page = {"x": 0.25, "y": 0.5, "width": 0.5, "height": 0.25}, Page(panel)
    with pytest.raises(BadValueError, match="No region is selected"):
        panel.only_in_region(0)
    session.selection.region = region
    assert panel.region == region
    assert page.ask("region", {"index": 0})[0]["ok"]
    assert panel.active == [wb.Intervention("bn2/unit/17", region=region)] and panel.wait()
    panel.only_in_region(0)
    assert panel.active == [wb.Intervention("bn2/unit/17")]
    panel.undo()
    assert panel.interventions[0]["region"] == [0.25, 0.5, 0.5, 0.25]
    panel.only_in_region(0, (0, 0, 0.5, 0.5))
    assert panel.active[0].region == (0, 0, 0.5, 0.5)
    panel._suppress(["bn2/unit/17"])
    assert panel.active[1:] == [wb.Intervention("bn2/unit/17")], "the limited one stays as it is"
    panel.interventions = [TOP]

    def refused(interventions):
        raise BadValueError("It has no places in the picture.")

    monkeypatch.setattr(session, "edits", refused)
    with lenient(monkeypatch):
        assert not page.ask("region", {"index": 0})[0]["ok"]
    for index, message in ((0, "no places in the picture"), (7, "No intervention 7")):
        with pytest.raises(BadValueError, match=message):
            panel.only_in_region(index)
    assert panel.interventions == [TOP]


def test_the_accuracy_has_an_interval(panel):
    frame = panel.result.accuracy()
    for row in panel.effect["accuracy"]:
        assert row["interval"] == pytest.approx(list(frame.loc[row["name"], ["low", "high"]]))
    assert panel.effect["decides"] and panel.effect["n_left_out"] == 0 == panel.effect["empty_share"]
    assert " points)" in panel.snapshot().html()


def test_a_model_without_decisions_says_so(panel):
    nowhere = np.full(24, -1)
    found = replace(
        panel.result, decision_before=nowhere, decision_after=nowhere, labels=nowhere, margin_before=None,
        margin_after=None, control=np.full((8, 24), np.nan, np.float32), n_left_out=2,
    )  # fmt: skip
    told = panel._answers.told(found)
    assert not told["decides"] and told["changed"] is None and told["accuracy"] == []
    assert told["worse"]["n_lost"] is None and told["empty_share"] == 1 and told["n_left_out"] == 2
    assert told["is_beyond"] is None and "no decisions" in told["summary"]


def test_an_edit_is_kept_as_a_variant_with_its_code(panel, session):
    page = Page(panel)
    answer, _ = page.ask("keep", {"name": "without 17"})
    assert answer["result"] == {"name": "without 17", "variable": "without_17"}
    assert panel.variants["without 17"].name == "without 17"
    line = "without_17 = s.variant('without 17', s.edits([wb.Intervention('bn2/unit/17', 'suppress', 1.0)]))"
    assert line in panel.to_code().splitlines() and f"# kept: {line}" in panel.plain_code().splitlines()
    assert panel.kept == [{"name": "without 17", "text": "suppress bn2/unit/17 (100 %)", "code": line}]
    names = {"wb": wb, "s": session}
    exec(line, names)
    assert names["without_17"].name == "without 17"
    panel.interventions = []
    with pytest.raises(BadValueError, match="no edit to keep"):
        panel.keep("nothing")
    assert panel.wait()


def test_a_kept_edit_does_not_break_the_pin(panel, session):
    from workbench.widgets.pinning import view_of

    panel.keep("fixed")
    pin = panel.pin("kept")
    panel.close()
    view, reports = view_of(pin, session)
    assert reports == [] and view.interventions == [TOP] and view.wait()
    view.close()


def test_the_still_says_that_one_image_is_no_evidence(session):
    panel = SteeringPanel(session, interventions=[TOP, act(3, on=False)], population=0)
    assert panel.wait()
    html = panel.snapshot().html()
    assert NO_EVIDENCE in html and "1. suppress bn2/unit/17 (100 %)" in html and "(100 %), switched off" in html
    assert html.count("<img") == 2 and "<th" in html
    panel.population = 24
    assert panel.wait()
    html = panel.snapshot().html()
    assert NO_EVIDENCE not in html and "of decisions change; 24 samples" in html and "Accuracy:" in html
    panel.close()


def test_an_effect_is_shown_by_the_panel(session):
    found = session.steer([wb.Intervention("bn2/unit/17")], 10)
    board = show(found, session=session)
    (panel,) = board.widgets
    assert isinstance(panel, SteeringPanel) and panel.population == 10 and panel.interventions == [TOP]
    assert panel.wait() and panel.effect["n"] == 10
    with pytest.raises(BadValueError, match="session=…"):
        SteeringPanel(found)
    board.close()


def test_it_needs_a_session():
    with pytest.raises(BadValueError, match="model of a session"):
        SteeringPanel("toy")


# On a page ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def shown(chrome, panel):
    with WidgetPage(chrome, panel, height=1200) as opened:
        yield opened


def changes(page):
    return page.page.locator(".wb-out-change").all_inner_texts()


class TestShown:
    pytestmark = needs_browser

    def test_a_slider_ends_on_its_last_value_and_is_undone_in_one_step(self, shown, panel):
        slider = shown.page.get_by_role("slider", name="Strength, unit 17 of bn2")
        assert slider.get_attribute("aria-valuetext") == "100\u202f%"
        before = changes(shown)
        slider.evaluate(
            """(node) => { for (let i = 0; i <= 200; i++) {
                node.value = String(1 - Math.round(20 * i / 200) / 20 * 0.6);
                node.dispatchEvent(new Event('input', {bubbles: true}));
            } node.dispatchEvent(new Event('change', {bubbles: true})); }"""
        )
        shown.until(lambda: panel.effect.get("acts", [{}])[0].get("strength") == 0.4 and not panel._pending)
        shown.settle()
        assert panel.interventions[0]["strength"] == pytest.approx(0.4) and panel.steps["undo"] == 1
        assert panel.outputs["acts"][0]["strength"] == 0.4 and changes(shown) != before
        assert slider.get_attribute("aria-valuetext") == "40\u202f%"
        slider.focus()
        shown.page.keyboard.press("Control+z")
        shown.settle()
        assert panel.interventions[0]["strength"] == 1 and changes(shown) == before and shown.errors == []

    def test_what_is_selected_is_offered_switched_off(self, shown, panel, session):
        assert shown.page.locator(".wb-offer").count() == 0  # the selected one is in the list
        session.selection.set(component="blocks.4/unit/9", components=["bn2/unit/1", "bn2/unit/2", "blocks.4/unit/3"])
        shown.settle()
        texts = [one.replace("\n", " ") for one in shown.page.locator(".wb-offer").all_inner_texts()]
        assert texts[0].startswith("unit 9") and texts[1].startswith("set of 2") and texts[2].startswith("unit 3")
        box = shown.page.get_by_role("checkbox", name="Suppress set of 2 of bn2, selected")
        assert not box.is_checked() and len(panel.interventions) == 1
        box.click()  # it moves into the list, and is checked there
        shown.settle()
        assert panel.interventions[1]["address"] == ["bn2/unit/1", "bn2/unit/2"] and panel.interventions[1]["on"]
        shown.page.get_by_role("button", name="Suppress the chosen set (3)").click()
        shown.settle()
        assert [len(one["address"]) for one in panel.interventions] == [1, 2, 1]

    def test_space_held_shows_it_before_and_bypass_keeps_it_so(self, shown, panel):
        steered = changes(shown)
        shown.page.locator(".wb-looks").focus()
        shown.page.keyboard.down(" ")
        assert set(changes(shown)) == {"0"}
        shown.page.keyboard.up(" ")
        assert changes(shown) == steered
        shown.page.get_by_role("slider").first.focus()
        shown.page.keyboard.down(" ")
        assert set(changes(shown)) == {"0"}
        shown.page.keyboard.up(" ")
        shown.page.keyboard.press("b")
        shown.settle()
        assert panel.bypass and set(changes(shown)) == {"0"} and panel.effect["is_complete"]
        shown.page.get_by_role("button", name="Bypass all").click()
        shown.settle()
        assert not panel.bypass and changes(shown) == steered

    def test_one_is_switched_off_removed_and_brought_back(self, shown, panel):
        shown.page.get_by_role("checkbox", name="unit 17 of bn2, on").click()
        shown.settle()
        assert not panel.interventions[0]["on"] and set(changes(shown)) == {"0"}
        assert "One image is not evidence" in shown.page.locator(".wb-evidence").inner_text()
        shown.page.get_by_role("slider").first.focus()
        shown.page.keyboard.press("Delete")
        shown.settle()
        assert panel.interventions == []
        for _ in range(2):
            shown.page.get_by_role("button", name="Undo (Ctrl+Z)").click()
            shown.settle()
        assert panel.interventions == [TOP] and shown.errors == []

    def test_the_followed_output_is_told_once_it_has_settled(self, shown, panel):
        one = next(row for row in panel.outputs["rows"] if row["index"] == panel.outputs["index"])
        shown.page.evaluate(
            """() => { const live = document.querySelector('.wb-steering > .wb-live'); window.told = [];
                new MutationObserver(() => window.told.push(live.textContent)).observe(live, {childList: true}); }"""
        )
        shown.page.get_by_label("What is done to unit 17 of bn2").select_option("boost")
        shown.settle()
        shown.page.wait_for_timeout(2400)
        words = shown.page.evaluate("() => window.told")
        assert any(text.startswith(one["name"]) and (" rose from " in text or " fell from " in text) for text in words)
        assert any(text.startswith("24 samples: mean change ") for text in words)

    def test_an_output_a_component_and_a_sample_are_chosen(self, shown, panel, session):
        shown.page.locator(".wb-out").nth(1).click()
        shown.settle()
        assert session.selection.target == f"logit:{panel.outputs['rows'][1]['index']}"
        shown.page.keyboard.press("ArrowUp")
        shown.settle()
        assert session.selection.target is None
        shown.page.locator(".wb-pop .wb-comp").first.click()
        shown.settle()
        assert session.selection.component == panel.effect["moved"]["components"][0]
        bad = shown.page.locator(".wb-bad").nth(1)
        wanted = int(bad.get_attribute("data-id"))
        bad.click()
        shown.settle()
        assert session.selection.sample == wanted == panel.outputs["sample"]
        shown.page.get_by_role("button", name="Choose all").click()
        shown.settle()
        assert list(session.selection.samples) == panel.effect["worse"]["samples"] and shown.errors == []

    def test_a_leading_component_is_suppressed_by_a_click_and_by_a_key(self, shown, panel):
        first = panel.leading["components"][:2]
        shown.page.locator(".wb-leading .wb-comp").first.click()
        shown.settle()
        assert panel.interventions[-1] == {**TOP, "address": [first[0]]}
        shown.page.keyboard.press("ArrowDown")
        shown.page.keyboard.press("Enter")
        shown.settle()
        assert panel.interventions[-1]["address"] == [first[1]]
        shown.page.get_by_role("button", name="Suppress these 6").click()
        shown.settle()
        steered = [one["address"][0] for one in panel.interventions if one["on"]]
        assert set(panel.leading["components"]) <= set(steered) and len(steered) == len(set(steered))

    def test_predict_then_steer(self, shown, panel):
        shown.page.get_by_label("Hide results until I have written it").check()
        shown.settle()
        assert shown.page.locator(".wb-covered").is_visible() and not shown.page.locator(".wb-outs").is_visible()
        shown.page.get_by_label("What do you expect?").fill("it falls")
        shown.page.keyboard.press("Enter")
        shown.settle()
        assert shown.page.locator(".wb-outs").is_visible() and panel.expected_when == "before"
        assert "before the result" in shown.page.locator(".wb-predict").inner_text()

    def test_an_edit_is_kept_and_a_wrong_address_is_explained_in_place(self, shown, panel, monkeypatch):
        shown.page.get_by_label("Name of the edit").fill("no-17")
        shown.page.keyboard.press("Enter")
        shown.settle()
        assert "no-17" in shown.page.locator(".wb-kept").inner_text() and "no-17" in panel.variants
        box = shown.page.get_by_label("Address of a component")
        with lenient(monkeypatch):
            box.fill("bn2/unit/999")
            shown.page.keyboard.press("Enter")
            shown.settle()
        assert "No component" in shown.page.locator(".wb-problem").inner_text()
        box.fill("blocks.4/unit/3")
        shown.page.keyboard.press("Enter")
        shown.settle()
        assert len(panel.interventions) == 2 and box.input_value() == ""

    def test_one_is_limited_to_the_region_by_a_click(self, shown, panel, session):
        button = shown.page.locator(".wb-act-region").first
        assert not button.is_visible()
        session.selection.region = {"x": 0.25, "y": 0.5, "width": 0.5, "height": 0.25}
        shown.settle()
        shown.page.get_by_role("button", name="Only in the region, unit 17 of bn2", exact=True).click()
        shown.settle()
        assert button.inner_text().replace("\u202f", " ") == "Only in x 25 % to 75 %, y 50 % to 75 %"
        assert button.get_attribute("aria-pressed") == "true"
        assert panel.active[0].region == (0.25, 0.5, 0.5, 0.25) and panel.wait() and panel.effect["is_complete"]
        shown.settle()
        assert shown.page.locator(".wb-pop-result.wb-old").count() == 0, "it is the population of what is on show"
        head = shown.page.locator(".wb-acc thead").inner_text().split()
        assert head == ["class", "n", "before", "after", "change", "95", "%"]
        button.click()
        shown.settle()
        assert panel.active[0].region is None

    def test_a_model_without_decisions_says_so_on_the_page(self, shown, panel):
        told = {**panel.effect, "decides": False, "changed": None, "accuracy": [], "empty_share": 0.25}
        panel.effect = told
        shown.settle()
        text = shown.page.locator(".wb-pop-result").inner_text().replace("\u202f", " ")
        assert "Decisions none the outputs are no choice among classes" in text and "Decisions changed" not in text
        assert "there are no decisions." in text and "25 % found nothing active" in text

    def test_the_population_is_chosen(self, shown, panel, session):
        session.data.tag("<i>odd</i>", [1, 3])
        shown.settle()
        shown.page.get_by_label("On", exact=True).select_option("tag:<i>odd</i>")
        shown.settle()
        assert panel.population == "tag:<i>odd</i>" and panel.effect["n"] == 2
        shown.page.get_by_label("On", exact=True).select_option("0")
        shown.settle()
        assert "One image is not evidence" in shown.page.locator(".wb-evidence").inner_text()

    def test_a_population_grows_in_view(self, chrome, session):
        panel = SteeringPanel(session, interventions=[{**TOP, "on": False}])
        with WidgetPage(chrome, panel, height=1200) as opened:
            session._begin, session.delay = lambda *_: None, 4.0
            opened.page.get_by_role("checkbox", name="unit 17 of bn2, on").click()
            opened.until(lambda: "so far" in opened.page.locator(".wb-count").inner_text())
            assert opened.page.locator(".wb-pop-result").is_visible()
            opened.until(lambda: opened.page.locator(".wb-count").inner_text().startswith("24 samples"))
            assert opened.errors == []
        panel.close()


class TestExported:
    pytestmark = needs_browser

    def test_recorded_settings_are_shown_and_others_say_so(self, chrome, panel, tmp_path):
        panel.add("bn2/unit/5")
        assert panel.wait()
        panel.to_html(tmp_path / "page.html")
        with ExportedPage(chrome, tmp_path / "page.html", height=1200) as opened:
            page = opened.page
            both = page.locator(".wb-out-change").all_inner_texts()
            page.get_by_role("checkbox", name="unit 5 of bn2, on").click()
            page.wait_for_timeout(300)
            one = page.locator(".wb-out-change").all_inner_texts()
            assert one != both and not page.locator(".wb-outs.wb-old").count()
            assert "needs the session" in page.locator(".wb-evidence").inner_text()
            page.get_by_role("checkbox", name="unit 5 of bn2, on").click()
            page.wait_for_timeout(300)
            assert page.locator(".wb-out-change").all_inner_texts() == both
            assert page.get_by_role("slider").first.is_disabled()
            page.locator(".wb-sample").fill("23")
            page.keyboard.press("Enter")
            page.wait_for_timeout(300)
            assert opened.errors == [] and opened.asked_for == []


# On a real network ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy(tmp_path_factory, store_path):
    folder = tmp_path_factory.mktemp("steering") / "store"
    folder.mkdir()
    if (store_path / "models").is_dir():
        (folder / "models").symlink_to(store_path / "models", target_is_directory=True)
    with wb.open_session("toy-cnn", data=wb.data.load("toy", n=96), store=folder) as session:
        yield session


def hooks(session):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in session.model.module.modules())


def test_on_a_real_network_it_steers_and_leaves_nothing_behind(toy):
    layer = "features.11"
    x, held = torch.stack([toy.data.tensor(i) for i in range(4)]), hooks(toy)
    before = toy.model(x)
    top = toy.explain(14, record=[layer]).top(layer, 1).components[0]
    panel = SteeringPanel(toy, sample=14, layer=layer, population=48, controls=4)
    assert panel.wait(120)
    panel.suppress_top()
    assert panel.wait(120)
    assert panel.interventions[0]["address"] == [top]
    plain, steered = toy.outputs_under(14, panel.active)
    for one in panel.outputs["rows"]:
        assert (one["before"], one["after"]) == (plain[one["index"]], steered[one["index"]])
    variant = panel.keep("off")
    assert torch.equal(variant.model(x[:1]), toy.variant("again", panel.edits()).model(x[:1]))
    assert panel.effect["is_complete"] and panel.effect["n"] == 48 and panel.result.control.shape == (4, 48)
    assert panel.leading["components"][0] == top
    index = panel.outputs["index"]
    assert panel.leading["change"][0] == pytest.approx(float(steered[index] - plain[index]), abs=1e-5)
    # Above this layer all is linear, so each change is what relevance says, also by the rule that is used by default.
    np.testing.assert_allclose(panel.leading["change"], -panel.leading["relevance"], rtol=0.05)
    assert panel.maps["difference"]["limit"] > 0
    panel.close()
    assert hooks(toy) == held and torch.equal(toy.model(x), before)


def test_on_a_real_network_a_burst_ends_on_the_last_value(toy):
    panel = SteeringPanel(toy, sample=14, population=32, controls=2, interventions=["features.11/unit/3"])
    assert panel.wait(120)
    page = Page(panel)
    for i in range(200):
        page.put(interventions=[act(3, "suppress", (199 - i) / 200, layer="features.11")])
        time.sleep(0.002)
    assert panel.wait(120)
    assert panel.outputs["acts"][0]["strength"] == panel.effect["acts"][0]["strength"] == 0.0
    assert all(one["before"] == one["after"] for one in panel.outputs["rows"])  # bypassed to the last bit
    assert panel.effect["mean"] == 0
    panel.close()


def test_closing_in_the_middle_leaves_no_hook(toy):
    held = hooks(toy)
    panel = SteeringPanel(toy, sample=3, population=96, interventions=["features.6/unit/1"])
    time.sleep(0.5)
    panel.close()
    end = time.monotonic() + 20
    while any(not job.has_ended for job in toy.jobs()) and time.monotonic() < end:
        time.sleep(0.02)
    assert hooks(toy) == held


def test_a_direction_is_steered_like_a_unit(toy):
    n = toy.layers()["features.11"].n_components
    vector = np.zeros(n, np.float32)
    vector[[2, 5]] = 0.6, 0.8
    toy.model.layers.add_directions("features.11", "mine", vector[None])
    panel = SteeringPanel(toy, sample=14, population=16, controls=2)
    panel.add("features.11/mine/0", "project")
    panel.add("features.11/mine/0", "add", 2.0)
    assert panel.wait(120) and panel._problem == {}
    assert panel.effect["is_complete"] and any(one["before"] != one["after"] for one in panel.outputs["rows"])
    low, high = panel.ranges["features.11/mine/0+0"]
    assert low <= high
    panel.close()
