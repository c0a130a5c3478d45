"""CompareView: the contract, variants that come and go, one sample, many, a re-evaluation, stills and pages."""

import gc
import json
import threading
import time

import numpy as np
import pytest

import workbench as wb
from workbench.core.comparisons import KINDS
from workbench.core.corrections import Reevaluation
from workbench.core.errors import BadValueError, StoreError, UnknownNameError
from workbench.core.results import Edit
from workbench.methods import PatternCAV, PClArC
from workbench.testing.browser import WidgetPage, chromium
from workbench.testing.fake_session import FakeSession
from workbench.testing.page_suite import ExportedPage, PageSuite, findings
from workbench.testing.small import CLASSES, SMALL, small_data, small_net
from workbench.testing.widget_suite import HOSTILE, Page, WidgetSuite, lenient
from workbench.widgets import CompareView, SteeringPanel, show
from workbench.widgets.compare_answers import report_of

needs_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="Chromium is not installed"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

OFF = [Edit("scale", "bn2", (17, 3, 8), 0.0)]
OTHER = [Edit("scale", "blocks.4", (5, 6), 0.0)]


def with_variants(session, *, held=("fixed",)):
    """A session with open variants, which it keeps."""
    kept = getattr(session, "kept", {})
    for name, edits in (("other", OTHER), ("fixed", OFF)):
        if name in held and name not in session.variants():
            kept[name] = session.variant(name, edits)
    session.kept = kept
    session.asked.clear()
    return session


def evaluated(n=120, seed=0, models=("fake", "fixed"), **options):
    rng = np.random.default_rng(seed)
    k = len(models)
    clean = rng.random((k, n)) < [[0.9], *[[0.87]] * (k - 1)]
    attacked = rng.random((k, n)) < [[0.5], *[[0.84]] * (k - 1)]
    given = {
        "models": models, "artifact": "<b>stamp</b>", "samples": np.arange(n), "labels": np.arange(n) % 3,
        "clean": clean, "attacked": attacked, "relevance": rng.random((k, 12)) * [[0.6], *[[0.2]] * (k - 1)],
        "relevance_area": 0.06, "sensitivity": np.linspace(2, 0.4, k), "sensitivity_error": np.full(k, 0.1),
        "sensitivity_after": np.linspace(2, 1.8, k), "probe_layer": np.linspace(0.99, 0.97, k),
        "probe_logits": np.linspace(0.93, 0.55, k),
        "others": {"<i>ruler</i>": np.stack([rng.random(n) < 0.55] * k)}, "layer": "bn2",
        "warnings": ('fixed: "<i>ruler</i>" did not fall.',),
    }  # fmt: skip
    return Reevaluation(**{**given, **options})


class TestContract(WidgetSuite):
    fails = "compare"
    n_bytes = 500_000
    changes = {
        "variant": "other",
        "population": 12,
        "layer": "blocks.4",
        "n_moved": 3,
        "kind": "lost",
        "title": "A <b>title</b>",
    }

    def make(self, session, **view):
        return CompareView(with_variants(session, held=("other", "fixed")), **view)


class TestContractOfAReevaluation(WidgetSuite):
    """Beside a session; the code that rebuilds it names the record."""

    n_bytes = 500_000

    def make(self, session, **view):
        return CompareView(with_variants(session), reevaluation=evaluated(), **view)

    def test_the_code_rebuilds_the_view(self, session, widget):
        code = widget.to_code()
        assert "# report is what s.reevaluate(...) gave" in code
        names = {"wb": wb, "s": session, "report": widget.reevaluation}
        again = eval(code.splitlines()[-1], names)
        assert again.wait(20) and again.state() == widget.state() and again.report == widget.report
        again.close()


class TestContractWithoutVariants(WidgetSuite):
    n_bytes = 100_000

    def make(self, session, **view):
        return CompareView(session, **view)

    def test_table_selection_and_plot(self, widget):
        assert len(widget.table()) == 0 and "kind" in widget.table().columns and widget.selection.empty
        with pytest.raises(BadValueError, match="nothing to plot"):
            widget.plot()


class TestPage(PageSuite):
    pytestmark = needs_browser
    kind = "compare"
    most_stops = 9

    def make(self, session, **view):
        session.coverage = {"bn2": 1.0, "blocks.4": 1.0}
        with_variants(session, held=("other", "fixed"))
        return CompareView(session, **{"reevaluation": evaluated(models=("fake", "fixed", "other")), **view})

    def choose(self, widget):
        widget.get_by_role("button", name="Next sample").click()

    def reading(self, widget):
        return widget.locator(".wb-sub").inner_text() + widget.locator(".wb-outs").inner_text()


class TestPageOfAReevaluation(PageSuite):
    pytestmark = needs_browser
    kind = "compare"

    def make(self, session, **view):
        return CompareView(evaluated(), **view)

    def test_a_linked_pair_follows_without_kernel(self, exports):
        pytest.skip("nothing is selected in it")


@pytest.fixture
def session():
    made = with_variants(FakeSession(n=24))
    made.selection.set(sample=4)
    yield made
    made.lane.close()


@pytest.fixture
def view(session):
    made = CompareView(session)
    assert made.wait()
    yield made
    made.close()


def asked(session, name):
    return [one for one, _ in session.asked].count(name)


# Models ---------------------------------------------------------------------------------------------------------------


def test_it_opens_on_the_variant_opened_last_and_says_what_was_changed(view, session):
    assert view.variant == "fixed" and view.base == "fake"
    (one,) = view.variants
    assert one["changes"] == ["scale units 17, 3, 8 of bn2 by 0"] and one["is_open"] and one["warnings"] == []
    assert view.list_layer == "bn2" and view.layers == ["bn2", "blocks.4"]
    assert "fixed against fake" in repr(view)


def test_a_variant_kept_meanwhile_appears(view, session):
    panel = SteeringPanel(session, interventions=["bn2/unit/9"])
    assert panel.wait()
    panel.keep("without <b>9</b>")
    assert panel.wait() and view.wait()
    assert [one["name"] for one in view.variants] == ["fixed", "without <b>9</b>"] and view.variant == "fixed"
    before = view.outputs
    Page(view).put(variant="without <b>9</b>")
    assert view.wait() and view.outputs["variant"] == "without <b>9</b>" and view.outputs["rows"] != before["rows"]
    assert view.maps["variant"] == view.differences["variant"] == "without <b>9</b>"
    panel.close()


def test_a_first_variant_is_taken_at_once():
    session = FakeSession()
    view = CompareView(session)
    assert view.wait() and view.variant == "" and view.outputs == {} and asked(session, "compare") == 0
    fixed = session.variant("fixed", OFF)
    assert view.wait() and view.variant == "fixed" and view.outputs["digest"] == fixed.digests()["model"]
    view.close()
    session.lane.close()


def test_a_closed_variant_is_asked_nothing_more_and_what_is_there_stays(view, session):
    before, rows = asked(session, "compare"), view.outputs["rows"]
    session.kept["fixed"].close()
    assert view.wait() and view.status == "stale" and "closed" in view.message
    assert view.outputs["rows"] == rows and view.variants[0]["warnings"] == [
        "It is closed: what is shown was computed before."
    ]
    view.sample, view.population, view.target = 7, 12, "logit:1"
    Page(view).ask("measure")
    assert view.wait() and asked(session, "compare") == before and view._problem == {}
    assert view.outputs["sample"] == 4 and view.variants[0]["is_open"] is False
    again = session.variant("fixed", OTHER)
    assert view.wait() and view.status == "ready" and view.outputs["sample"] == 7
    assert view.outputs["digest"] == again.digests()["model"]


def test_closing_a_variant_in_the_middle_is_quiet(session):
    session.delay = 1.0
    view = CompareView(session)
    time.sleep(0.2)
    session.kept["fixed"].close()
    session.delay = 0.0
    assert view.wait(20) and view._problem == {} and view.outputs == {}
    view.close()


def test_the_variant_on_show_is_kept_alive_and_let_go(view, session):
    session.kept.clear()
    gc.collect()
    view.sample = 5
    assert view.wait() and view.outputs["sample"] == 5 and "fixed" in session.variants()
    view.close()
    view._held = None
    gc.collect()
    assert session.variants() == {}


def test_a_variant_that_nobody_holds_leaves_the_list_when_it_is_chosen(view, session, monkeypatch):
    session.kept["other"] = session.variant("other", OTHER)
    assert view.wait() and [one["name"] for one in view.variants] == ["fixed", "other"]
    del session.kept["other"]
    gc.collect()
    with lenient(monkeypatch):
        Page(view).put(variant="other")
    assert view.wait() and view.variant == "fixed" and [one["name"] for one in view.variants] == ["fixed"]
    assert "No open variant" in view._problem["message"]


def test_a_variant_made_again_under_its_name_takes_the_place(view, session):
    first = view.outputs
    session.kept["fixed"] = session.variant("fixed", OTHER)
    assert view.wait() and view.outputs["digest"] != first["digest"] and view.outputs["rows"] != first["rows"]
    assert view.maps["digest"] == view.differences["digest"] == view.outputs["digest"]
    assert view.list_layer == "blocks.4"


def test_unknown_variants_and_sources_are_refused(view, session):
    with pytest.raises(BadValueError, match='No open variant "fixd".*fixed'):
        view.variant = "fixd"
    with pytest.raises(BadValueError, match="compares the model of a session"):
        CompareView(None)
    with pytest.raises(BadValueError, match="by their sessions; got list|by their sessions; got int"):
        CompareView(session, against=3)
    with pytest.raises(BadValueError, match="other data"):
        CompareView(session, against=FakeSession(n=30))
    with pytest.raises(BadValueError, match="what s.reevaluate gives"):
        view.reevaluation = {"clean": 1}
    with pytest.raises(UnknownNameError, match='No layer "bn3"'):
        view.layer = "bn3"
    (report,) = view.restore({"variant": "gone"})
    assert "No open variant" in report and view.variant == "fixed"


def test_sessions_may_be_given(session):
    given = session.variant("second", OTHER)
    made = session.variant("third", OFF)
    view = CompareView(session, against={"a": given, "b": made}, variant="a")
    assert view.wait() and {one["name"] for one in view.variants} == {"fixed", "second", "third", "a", "b"}
    assert view.outputs["variant"] == "a" and "against=" in view.to_code()
    view.close()
    same = CompareView(session, against=session)
    assert same.wait() and "nothing can differ" in next(v for v in same.variants if v["name"] == "fake")["warnings"][0]
    assert same.variant == "fake" and same.result.counts["same"] == 24
    same.close()


# One sample -----------------------------------------------------------------------------------------------------------


def test_outputs_are_those_of_both_sessions_the_largest_change_first(view, session):
    fixed = session.kept["fixed"]
    values = {
        name: {c: (logit, p) for c, _, logit, p in one.predict(4)} for name, one in (("a", session), ("b", fixed))
    }
    rows = view.outputs["rows"]
    assert len(rows) == 3
    for row in rows:
        assert row["before"] == pytest.approx(values["a"][row["index"]][0], rel=1e-6)
        assert row["after"] == pytest.approx(values["b"][row["index"]][0], rel=1e-6)
        assert row["probability_after"] == pytest.approx(values["b"][row["index"]][1], rel=1e-5)
        ranked = sorted(values["b"], key=lambda c: -values["b"][c][0])
        assert row["rank_after"] == ranked.index(row["index"]) + 1
    change = [abs(row["change"]) for row in rows]
    assert change == sorted(change, reverse=True)
    assert view.outputs["index"] == session.predict(4)[0][0]
    table = view.table("outputs")
    assert list(table.index) == [row["index"] for row in rows] and table.index.name == "output"
    assert view.comparison.sample == 4 and view.outputs["summary"] == view.comparison.summary()


def test_maps_are_on_one_scale_and_of_what_the_base_says(view, session):
    base, after = session.compare(session.kept["fixed"], 4, record=("bn2",)).attributions
    for key, one in (("before", base), ("after", after)):
        code = view.maps[key]
        decoded = np.sign(code["map"]) * (code["map"] / 127.0) ** 2 * code["limit"]
        assert np.allclose(decoded, one.heatmap[0], atol=code["limit"] / 60)
    assert view.maps["scale"] == max(view.maps[key]["bulk"] for key in ("before", "after"))
    change = (after.heatmap - base.heatmap)[0]
    assert view.maps["difference"]["total"] == pytest.approx(float(change.sum()), abs=1e-4)
    assert after.target_text == f"logit:{int(base.target[0])}" and view.maps["name"] == base.labels[0]
    moved = view.maps["moved"]
    change = (after.relevance["bn2"] - base.relevance["bn2"])[0]
    order = np.argsort(-np.abs(change), kind="stable")[:8]
    assert moved["components"] == [f"bn2/unit/{i}" for i in order]
    np.testing.assert_allclose(moved["change"], change[order], rtol=1e-6)
    assert list(view.table("components").index) == moved["components"]


def test_pictures_of_components_are_no_reason_to_sweep(view, session):
    assert view.maps["moved"]["sheet"]["n"] == 0 and asked(session, "peak_crops") == 0
    session.coverage = {"bn2": 1.0}
    view.n_moved = 5
    assert view.wait() and view.maps["moved"]["sheet"]["n"] == 5
    session.coverage = {"bn2": 0.5}  # begun and not ended: reading them would go on with it
    view.n_moved = 4
    assert view.wait() and view.maps["moved"]["sheet"]["n"] == 0


def test_it_follows_sample_target_and_component(view, session):
    session.selection.sample = 9
    assert view.wait() and view.outputs["sample"] == view.maps["sample"] == view.picture["sample"] == 9
    session.selection.target = "logit:1"
    assert view.wait() and view.outputs["index"] == 1 and view.maps["target"] == "logit:1"
    session.selection.component = "blocks.4/unit/3"
    assert view.wait() and view.maps["layer"] == "blocks.4"
    view.layer = "bn2"
    assert view.wait() and view.maps["layer"] == "bn2"
    view.select([3])
    assert session.selection.sample == 3 and view.wait()
    view.select([3, 5])
    assert session.selection.samples == (3, 5) and view.wait()


def test_nothing_is_asked_twice(session):
    session.delay = 0.3
    view = CompareView(session, group="own")
    assert view.sample == 0
    view.sample = 4
    for _ in range(3):
        view._fetch_all()
        view._take_variants()
    assert view.wait(30)
    assert asked(session, "compare") <= 4 and asked(session, "differences") == 1
    n = asked(session, "compare")
    view._fetch_all()
    view._take_variants()
    view._take_tags()
    assert view.wait() and asked(session, "compare") == n and asked(session, "differences") == 1
    view.close()


def test_without_a_sample_it_begins_with_the_first():
    session = with_variants(FakeSession())
    view = CompareView(session)
    assert view.wait() and view.sample == session.selection.sample == 0 == view.outputs["sample"]
    assert asked(session, "compare") == 2 and asked(session, "differences") == 1
    assert all(one["digest"] == view.variants[0]["digest"] for one in (view.outputs, view.maps, view.differences))
    view.close()


def test_a_wish_that_comes_back_drops_what_was_on_its_way(view, session):
    session.delay = 0.6
    before = view.outputs
    view.sample = 9
    time.sleep(0.1)
    view.sample = 4
    assert view.wait(20) and view.outputs is before and view.maps["sample"] == 4 and view.status == "ready"


def test_a_sample_does_not_wait_for_the_population(session):
    """They lie on lanes of their own: as long as the session's is free, the sample comes first."""
    gate, begun, real = threading.Event(), threading.Event(), session.differences

    def slow(*args, **kwargs):
        begun.set()
        gate.wait(10)
        return real(*args, **kwargs)

    session.differences = slow
    view = CompareView(session)
    assert begun.wait(5)
    view.sample = 9
    end = time.monotonic() + 5
    while view.maps.get("sample") != 9 and time.monotonic() < end:
        time.sleep(0.01)
    assert view.maps["sample"] == 9 and view.differences == {} and view.status == "running"
    gate.set()
    assert view.wait() and view.differences["n"] == 24
    view.close()


# Many samples ---------------------------------------------------------------------------------------------------------


def test_flips_are_those_of_a_slow_twin(view, session):
    fixed, slow = session.kept["fixed"], {}
    for i in range(24):
        label = int(session.data.labels[i])
        first, second = session.predict(i)[0][0], fixed.predict(i)[0][0]
        lost, gained = first == label != second, second == label != first
        slow[i] = "lost" if lost else "gained" if gained else "same" if first == second else "other"
    rows = view.differences["rows"]
    assert dict(zip(rows["samples"], rows["kind"], strict=True)) == slow and "lost" in slow.values()
    assert view.differences["counts"] == {kind: list(slow.values()).count(kind) for kind in KINDS}
    is_same = [kind == "same" for kind in rows["kind"]]
    assert is_same == sorted(is_same)
    assert rows["sheet"]["n"] == 24 and len(rows["sheet"]["jpeg"]) > 1000
    assert view.differences["accuracy"] == pytest.approx(view.result.accuracy())
    assert view.differences["change"] == pytest.approx(view.result.accuracy_change())
    assert sum(one["lost"] for one in view.differences["classes"]) == view.differences["counts"]["lost"]
    assert list(view.table().index) == rows["samples"] and view.table().equals(view.result.to_frame())
    view.kind = "lost"
    assert list(view.table()["kind"].unique()) == ["lost"] and list(view.table("classes").columns)[0] == "samples"
    view.selection = view.table().index[0]
    assert session.selection.sample == view.table().index[0] and view.wait()
    assert view.plot("samples").data and view.plot("outputs").data
    with pytest.raises(BadValueError):
        view.plot("all")


def test_a_long_list_names_the_first_of_each_kind_and_says_so():
    session = with_variants(FakeSession(n=400), held=("other", "fixed"))
    view = CompareView(session, variant="fixed", population="all")
    assert view.wait(60)
    rows, counts = view.differences["rows"], view.differences["counts"]
    assert rows["kind"].count("same") == 24 < counts["same"] and rows["sheet"]["n"] == len(rows["samples"]) <= 168
    assert rows["kind"].count("lost") == min(48, counts["lost"]) and len(view.table()) == 400
    view.close()
    session.lane.close()


def test_populations(view, session, monkeypatch):
    session.data.tag("odd one", [1, 3, 5])
    for chosen, n in ((7, 7), ("all", 24), ("tag:odd one", 3), (1000, 24)):
        view.population = chosen
        assert view.wait() and view.differences["n"] == n and view.differences["population"] == chosen
    view.population = "tag:odd one"
    assert view.wait()
    session.data.tag("odd one", [7])
    assert view.wait() and view.differences["n"] == 4
    session.selection.samples = (2, 4)
    view.population = "selected"
    assert view.wait() and view.differences["n"] == 2
    session.selection.samples = (2, 4, 6)
    assert view.wait() and view.differences["n"] == 3
    with lenient(monkeypatch):
        session.selection.samples = ()
        view.wait()
        assert "No sample is chosen" in view._problem["message"]
        view.population = 0
        view.wait()
        assert view.differences == {} and view.result is None
    for wrong in (-1, "most", "tag:", True):
        with pytest.raises(BadValueError):
            view.population = wrong


def test_cancelling_the_population_and_going_on(view, session):
    session.delay = 5.0
    view.population = 20
    time.sleep(0.2)
    view.cancel()
    started = time.monotonic()
    assert view.wait(10) and time.monotonic() - started < 2 and view._problem == {}
    assert view.differences["population"] == 256
    session.delay = 0.0
    assert Page(view).ask("measure")[0]["ok"]
    assert view.wait() and view.differences["population"] == 20


def test_a_population_that_fails_says_why_and_the_rest_stays(view, session, monkeypatch):
    session.fail = {"differences": StoreError("Disk full.", hint="Make room.")}
    with lenient(monkeypatch):
        view.population = 12
        view.wait()
        assert view.status == "failed" and view._problem["hint"] == "Make room."
        session.fail = {}
        Page(view).ask("measure")
        view.wait()
    assert view.status == "ready" and view._problem == {} and view.differences["n"] == 12


# Re-evaluation --------------------------------------------------------------------------------------------------------


def test_the_report_says_what_it_bought_and_cost():
    found = evaluated()
    report = report_of(found)
    by_name = {one["name"]: one for one in report["measures"]}
    for i in range(2):
        assert by_name["Accuracy, clean"]["rows"][i] == pytest.approx(found.accuracy(i))
        assert by_name["Accuracy, with <b>stamp</b>"]["rows"][i] == pytest.approx(found.accuracy(i, "attacked"))
        assert by_name["Gap through <b>stamp</b>"]["rows"][i] == pytest.approx(found.gap(i))
        assert by_name["Relevance on the artifact"]["rows"][i][0] == pytest.approx(found.relevance[i].mean())
        assert by_name["Sensitivity at bn2, behind the edits"]["rows"][i][0] == found.sensitivity_after[i]
        assert by_name["Probe of the logits"]["rows"][i][0] == found.probe_logits[i]
    assert by_name["Relevance on the artifact"]["baseline"] == 0.06 and by_name["Probe at bn2"]["baseline"] == 0.5
    assert by_name["Gap through <i>ruler</i>"]["note"] == "Still costs accuracy in fixed."
    assert report["changes"][0]["clean"] == pytest.approx(found.change(1)) and report["changes"][0]["unmoved"] == [
        "<i>ruler</i>"
    ]
    assert report["summary"] == found.summary() and len(report["table"]) == 2
    json.dumps(report)


def test_measures_that_were_not_taken_are_left_out():
    nothing = np.full(2, np.nan)
    bare = evaluated(
        relevance=np.zeros((2, 0)), relevance_area=np.nan, sensitivity=nothing, sensitivity_error=nothing,
        sensitivity_after=nothing, probe_layer=nothing, others={}, layer="", warnings=(),
    )  # fmt: skip
    names = [one["name"] for one in report_of(bare)["measures"]]
    assert names == [
        "Accuracy, clean",
        "Accuracy, with <b>stamp</b>",
        "Gap through <b>stamp</b>",
        "Probe of the logits",
    ]
    view = CompareView(bare)
    assert view.still().html() and view.table().shape[0] == 2
    view.close()


def test_a_reevaluation_by_itself_and_set_later(view):
    alone = CompareView(evaluated())
    assert alone.wait() and alone.session is None and alone.table().equals(alone.reevaluation.to_frame())
    assert alone.plot().data and alone.selection.empty and "re-evaluated" in repr(alone)
    (one,) = show(evaluated()).widgets
    assert isinstance(one, CompareView) and one.report["models"] == ["fake", "fixed"]
    alone.close()
    assert view.report == {} and view.table("reevaluation").empty
    view.reevaluation = evaluated()
    assert view.report["n"] == 120 and list(view.table("reevaluation").index) == ["fake", "fixed"]
    view.reevaluation = None
    assert view.report == {}


def test_stills_say_what_is_there(view):
    view.reevaluation = evaluated()
    html = view.snapshot().html()
    assert (
        "scale units 17, 3, 8 of bn2 by 0" in html
        and "Accuracy" in html
        and "&lt;i&gt;ruler" in html
        and "did not fall: it costs" in html
    )
    assert len(view.still().pictures) == 4 and view.still().legend is not None
    assert "No decision" not in view.snapshot().text()
    empty = CompareView(FakeSession())
    assert "There is no variant" in empty.snapshot().html()
    empty.close()


def test_a_real_reevaluation_brings_its_session_and_its_variant(tmp_path):
    options = {"data": small_data(), "store": tmp_path, "transform": SMALL, "classes": CLASSES}
    with wb.open_session(small_net(), **options) as s:
        fixed = s.variant("fixed", [Edit("scale", "relu_b", (0, 2, 3), 0.0)])
        last = s.variant("last", [Edit("scale", "relu_b", (1,), 0.0)])
        pairs = [(i, i + 4) for i in range(4)]
        cav = PatternCAV("relu_b", positives=[0, 1, 2, 5, 9], scope="all", resamples=0)
        report = s.reevaluate(fixed, attacked=pairs, artifact="stamp", cav=cav)
        view = CompareView(report)
        assert view.wait(60) and view.session is s and view.variant == "fixed" and last.name in str(view.variants)
        assert view.report["models"] == [s.name, "fixed"] and view.report["summary"] == report.summary()
        assert view.differences["n"] == 24 and view.result.recipe == s.differences(fixed).recipe
        view.close()
    assert fixed.name == "fixed"


# On a page ------------------------------------------------------------------------------------------------------------


class TestOnAPage:
    pytestmark = needs_browser

    @pytest.fixture
    def shown(self, chrome, session, view):
        view.reevaluation = evaluated()
        with WidgetPage(chrome, view, height=1400) as opened:
            yield opened
            assert opened.errors == []

    def test_outputs_are_paired_and_choose_the_target(self, shown, view, session):
        rows = shown.page.get_by_role("radiogroup", name="Leading outputs").get_by_role("radio")
        assert rows.count() == 3 and "wb-is-" in shown.page.locator(".wb-verdict").get_attribute("class")
        label = rows.nth(0).get_attribute("aria-label")
        assert "under fake" in label and "under fixed" in label and "rank" in label
        rows.nth(2).click()
        shown.settle()
        assert session.selection.target == f"logit:{view.outputs['rows'][2]['index']}"
        shown.page.get_by_role("button", name="What the base says").click()
        shown.settle()
        assert session.selection.target is None

    def test_a_click_selects_the_sample_and_the_filter_lists_flips(self, shown, view, session):
        options = shown.page.locator(".wb-flips [role=option]")
        assert options.count() == len(view.differences["rows"]["samples"])
        options.nth(1).click()
        shown.settle()
        assert session.selection.sample == view.differences["rows"]["samples"][1] == view.outputs["sample"]
        assert options.nth(1).get_attribute("aria-selected") == "true"
        shown.page.get_by_role("radio", name="Lost").click()
        shown.settle()
        lost = [
            s for s, k in zip(*[view.differences["rows"][n] for n in ("samples", "kind")], strict=True) if k == "lost"
        ]
        assert view.kind == "lost" and options.count() == len(lost)
        shown.page.get_by_role("button", name="Choose these").click()
        shown.settle()
        assert list(session.selection.samples) == lost

    def test_the_keyboard_walks_the_list(self, shown, session, view):
        shown.page.locator('.wb-flips [role=option][tabindex="0"]').focus()
        shown.page.keyboard.press("Home")
        shown.page.keyboard.press("ArrowDown")
        shown.page.keyboard.press("Enter")
        shown.settle()
        assert session.selection.sample == view.differences["rows"]["samples"][1]
        shown.page.locator(".wb-looks").focus()
        before = session.selection.sample
        shown.page.keyboard.press("ArrowRight")
        shown.settle()
        assert session.selection.sample == (before + 1) % 24

    def test_variants_are_chosen_and_come_in_view(self, shown, view, session):
        session.kept["<b>x</b>"] = session.variant("<b>x</b>", OTHER)
        shown.settle()
        shown.page.get_by_label("Variant", exact=True).select_option("<b>x</b>")
        shown.settle()
        assert view.variant == "<b>x</b>" and "<b>x</b> against fake" in shown.page.locator(".wb-title").inner_text()
        assert "units 5, 6 of blocks.4" in shown.page.locator(".wb-edits").inner_text()
        session.kept["<b>x</b>"].close()
        shown.settle()
        assert "closed" in shown.page.locator(".wb-models .wb-warnings").inner_text()
        view.sample = 11
        shown.settle()
        assert "the variant is closed" in shown.page.locator(".wb-pane-gone").first.inner_text()

    def test_the_whole_report_is_there_in_words(self, shown):
        text = shown.page.locator(".wb-report").inner_text()
        assert "still costs accuracy: <i>ruler</i>" in text and "Still costs accuracy in fixed" in text
        assert shown.page.locator(".wb-measure").count() == 9
        shown.page.get_by_text("All numbers").click()
        assert "probe logits" in shown.page.locator(".wb-report-table").inner_text()

    def test_hostile_names_stay_text(self, chrome):
        session = FakeSession(classes=(HOSTILE, "b", "c"))
        fixed = session.variant(HOSTILE, OFF)
        view = CompareView(session, reevaluation=evaluated(models=("fake", HOSTILE), artifact=HOSTILE))
        assert view.wait()
        with WidgetPage(chrome, view, height=1400, dark=True) as opened:
            assert opened.page.locator("img[src=x]").count() == 0 and opened.errors == []
            assert findings(opened.page) == []
        assert fixed.name == HOSTILE
        view.close()
        session.lane.close()

    def test_an_empty_view_tells_how_a_variant_is_made(self, chrome):
        session = FakeSession()
        view = CompareView(session)
        with WidgetPage(chrome, view) as opened:
            assert "s.variant(name, edits)" in opened.page.locator(".wb-empty").inner_text()
            held = session.variant("fixed", OFF)
            opened.settle()
            assert opened.page.locator(".wb-verdict").inner_text() and held.name == "fixed"
            assert opened.errors == []
        view.close()


class TestExported:
    pytestmark = needs_browser

    def test_variants_and_samples_were_recorded(self, chrome, tmp_path):
        session = with_variants(FakeSession(n=24), held=("other", "fixed"))
        view = CompareView(session)
        assert view.wait()
        view.to_html(tmp_path / "page.html")
        with ExportedPage(chrome, tmp_path / "page.html", height=1400) as opened:
            page = opened.page
            first = page.locator(".wb-outs").inner_text(), page.locator(".wb-figures").inner_text()
            page.get_by_label("Variant", exact=True).select_option("other")
            page.wait_for_timeout(300)
            second = page.locator(".wb-outs").inner_text(), page.locator(".wb-figures").inner_text()
            assert first[0] != second[0] and first[1] != second[1] and not page.locator(".wb-outs.wb-old").count()
            assert "blocks.4" in page.locator(".wb-edits").inner_text()
            page.locator(".wb-flips [role=option]").nth(3).click()
            page.wait_for_timeout(300)
            assert "Not in this page" in page.locator(".wb-pane-gone").first.inner_text()
            page.get_by_label("Variant", exact=True).select_option("fixed")
            page.wait_for_timeout(300)
            assert page.locator(".wb-verdict").inner_text().startswith("Decision")
            assert opened.errors == [] and opened.asked_for == []
        view.close()
        session.lane.close()


# On a real network ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def toy(tmp_path_factory, store_path):
    folder = tmp_path_factory.mktemp("comparing") / "store"
    folder.mkdir()
    if (store_path / "models").is_dir():
        (folder / "models").symlink_to(store_path / "models", target_is_directory=True)
    with wb.open_session("toy-cnn", data=wb.data.load("toy", n=96), store=folder) as session:
        yield session


def hooks(session):
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in session.model.module.modules())


def test_variants_that_come_and_go_while_it_works_leave_nothing_behind(tmp_path):
    rng, held = np.random.default_rng(4), {}
    with wb.open_session(small_net(), data=small_data(200), store=tmp_path, transform=SMALL, classes=CLASSES) as s:
        views = [CompareView(s), CompareView(s, group="b")]
        for _ in range(80):
            view, what, name = views[rng.integers(2)], rng.random(), "abc"[rng.integers(3)]
            if what < 0.3:
                held[name] = s.variant(name, [Edit("scale", "relu_b", (int(rng.integers(7)),), float(rng.random()))])
            elif what < 0.45 and name in held:
                held.pop(name).close()
            elif what < 0.6 and name in s.variants():
                view.variant = name
            elif what < 0.8:
                view.sample = int(rng.integers(200))
            else:
                view.population = [16, 100, "all"][rng.integers(3)]
            time.sleep(float(rng.random()) * 0.04)
        last = s.variant("last", [Edit("scale", "relu_b", (1,), 0.0)])
        for view in views:
            view.variant = "last"
            assert view.wait(60) and view.status == "ready" and view._problem == {}
            for what in ("outputs", "maps", "differences"):
                assert view.fits(getattr(view, what), view.wanted(what)), what
            one = s.compare(last, view.sample, maps=False)
            assert [row["after"] for row in view.outputs["rows"]] == pytest.approx(list(one.to_frame(4)["after"]))
            n = 200 if view.population == "all" else view.population
            assert view.differences["counts"] == s.differences(last, n).counts
            view.close()
        assert [hooks(one) for one in (s, last, *held.values())] == [0] * (2 + len(held))
    end = time.monotonic() + 10
    while any(view._long._line.thread.is_alive() for view in views) and time.monotonic() < end:
        time.sleep(0.02)
    assert not any(view._long._line.thread.is_alive() for view in views)


def test_on_a_real_network_a_kept_edit_and_a_correction_are_compared(toy):
    held = hooks(toy)
    panel = SteeringPanel(toy, sample=14, population=16, controls=2, layer="features.11")
    assert panel.wait(120)
    panel.suppress_top(3)
    assert panel.wait(120)
    view = CompareView(toy, sample=14, population=48)
    off = panel.keep("off")
    assert view.wait(120) and view.variant == "off" and view.layers
    for row in view.outputs["rows"]:
        plain, edited = (next(r for r in one.predict(14, n=99) if r[0] == row["index"]) for one in (toy, off))
        assert (row["before"], row["after"]) == (pytest.approx(plain[2]), pytest.approx(edited[2]))
    assert view.list_layer == "features.11"
    steered = toy.explain_under(14, panel.active)
    np.testing.assert_allclose(view.comparison.attributions[1].heatmap, steered.heatmap, atol=1e-6)
    ids = [int(i) for i in view.result.samples]
    assert len(ids) == 48
    for sample in ids[::7]:
        row = ids.index(sample)
        assert view.result.decision_before[row] == toy.predict(sample)[0][0]
        assert view.result.decision_after[row] == off.predict(sample)[0][0]
    cav = PatternCAV("features.11", positives=[i for i in range(96) if i % 3 == 0], scope="all", resamples=0)
    fixed = toy.variant("fixed", toy.fit(PClArC(cav)).edits())
    view.variant = "fixed"
    assert view.wait(120) and view.outputs["digest"] == fixed.digests()["model"] and view.differences["n"] == 48
    assert "shift along 1 direction" in view.variants[-1]["changes"][0]
    panel.close()
    view.close()
    assert hooks(toy) == held == 0 == hooks(off) == hooks(fixed)


def test_pairs_that_are_views_of_originals_are_said_to_be(session):
    view = CompareView(evaluated(origins=np.arange(120) // 3))
    assert view.report["n"] == 120 and view.report["n_origins"] == 40
    assert "120 pairs of 40 originals" in view.snapshot().html()
    usual = CompareView(evaluated())
    assert usual.report["n_origins"] == 120 and "120 pairs of" not in usual.snapshot().html()
    wide, narrow = (one.report["measures"][0]["rows"][0] for one in (view, usual))
    assert wide[0] == narrow[0] and wide[1:] != narrow[1:]
    view.close()
    usual.close()
