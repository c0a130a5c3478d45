"""ComponentCard: the contract, references, values, pinning."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from workbench.core.errors import BadValueError, IncompleteError, StoreError
from workbench.testing.widget_suite import HOSTILE, Page, WidgetSuite, lenient
from workbench.widgets import wire
from workbench.widgets.card import ComponentCard


class TestContract(WidgetSuite):
    fails = "reference_views"
    changes = {"by": "relevance", "mode": "mask", "n": 5, "quantile": 0.25, "pinned": ("bn2/unit/17", "bn2/unit/20")}
    n_bytes = 300_000

    def make(self, session, **view):
        return ComponentCard(session, **view)


@pytest.fixture
def card(session):
    made = ComponentCard(session, component="bn2/17", sample=4)
    assert made.wait()
    yield made
    made.close()


def test_references_come_as_one_sheet_with_their_numbers(card, session):
    given = card.references
    best = session.references("bn2")
    assert given["component"] == "bn2/unit/17" and given["samples"] == best.ids[17][:12].tolist()
    assert np.allclose(given["values"], best.values[17][:12])
    assert Image.open(io.BytesIO(given["sheet"]["jpeg"])).size == (4 * 96, 3 * 96)
    assert (given["n_samples"], given["n_originals"], given["per_origin"], given["coverage"]) == (24, 12, 1, 1.0)
    assert given["names"][0] in session.data.classes


def test_it_follows_the_component_and_its_own_settings(card, session):
    session.selection.component = "blocks.4/unit/8"
    assert card.wait() and card.references["component"] == "blocks.4/unit/8"
    card.by = "relevance"
    assert card.wait() and card.references["by"] == card.spread["quantity"] == "relevance"
    assert card.references["target"] == "top"
    session.asked.clear()
    card.mode = "whole"
    assert card.wait() and card.references["mode"] == "whole" and len(session.asked) == 1


def test_whole_pictures_stand_in_while_crops_are_computed(card, session):
    seen = []
    card.observe(
        lambda change: seen.append((change["new"]["component"], change["new"]["is_preview"])), names="references"
    )
    session.selection.component = "bn2/unit/20"
    assert card.wait() and seen == [("bn2/unit/20", True), ("bn2/unit/20", False)]


def test_values_do_not_wait_for_crops(card, session):
    session.delay = 0.4
    session.selection.component = "bn2/unit/21"
    end = time.monotonic() + 5
    while card.spread["component"] != "bn2/unit/21" and time.monotonic() < end:
        time.sleep(0.002)
    assert card.references["is_preview"] and card.mark["component"] == "bn2/unit/21"
    session.delay = 0.0
    assert card.wait()


def test_values_are_counted_and_the_sample_is_marked(card, session):
    column = session.activations("bn2").values[:, 17]
    spread, mark = card.spread, card.mark
    assert spread["counts"].sum() == 24 and spread["n_zero"] == (column == 0).sum() and spread["pooling"] == "max"
    assert mark["value"] == pytest.approx(column[4]) and mark["rank"] == (column > column[4]).sum() + 1
    session.selection.sample = 9
    assert card.wait() and card.mark["sample"] == 9


def test_a_silent_component_has_an_empty_card(card):
    card.component = "bn2/unit/3"
    assert card.wait() and card.references["samples"] == [] and card.references["sheet"]["jpeg"] == b""
    assert card.spread["n_zero"] == 24 and card.status == "ready" and card.table().empty


def test_missing_values_are_counted_and_not_drawn(session):
    session.values["bn2"][:5, 8] = np.nan
    session.values["bn2"][:, 9] = np.nan
    card = ComponentCard(session, component="bn2/unit/8", sample=2)
    assert card.wait() and (card.spread["n"], card.spread["n_missing"]) == (19, 5) and card.mark["value"] is None
    card.component = "bn2/unit/9"
    assert card.wait() and card.spread["n"] == 0 and card.spread["quantiles"] == {}


def test_a_pinned_card_stays(card, session):
    card.pinned = "bn2/unit/17"
    session.selection.component = "bn2/unit/18"
    assert card.wait() and card.references["component"] == "bn2/unit/17" and card.component == "bn2/unit/18"
    card.pinned = ""
    assert card.wait() and card.references["component"] == "bn2/unit/18"
    with pytest.raises(Exception, match="No component"):
        card.pinned = "bn2/unit/999"


def test_choosing_a_reference_selects_the_sample(card, session):
    card.selection = [card.references["samples"][2]]
    assert session.selection.sample == card.references["samples"][2]
    assert card.selection.iloc[0]["rank"] == 3


def test_pictures_of_any_shape_fit_the_sheet(session):
    session.data._pictures = [np.full((40 + 7 * i, 90, 3), 9 * i, dtype=np.uint8) for i in range(24)]
    session._resized = lambda picture, size, mode, seed: picture
    card = ComponentCard(session, component="bn2/unit/1", mode="whole")
    assert card.wait() and card.references["sheet"]["width"] == 96


def test_it_needs_a_session():
    with pytest.raises(BadValueError, match="components of a session"):
        ComponentCard(np.zeros(3))


def test_without_a_component_it_waits_quietly(session):
    card = ComponentCard(session)
    assert card.wait() and card.status == "idle" and card.references == {}
    with pytest.raises(BadValueError, match="No component is selected"):
        card.plot()


def test_after_a_sweep_that_kept_references_alone_the_card_does_without_values(session, monkeypatch):
    def activations(layer):
        raise IncompleteError(
            f'The sweep of "{layer}" kept references alone.', hint="Run session.sweep, which keeps tables."
        )

    monkeypatch.setattr(session, "activations", activations)
    session.selection.component = "bn2/unit/17"
    card = ComponentCard(session)
    assert card.wait() and card.status == "ready" and len(card.table()) == 12
    assert card.spread["n"] == 0 and card.spread["why"] == "Run session.sweep, which keeps tables."
    assert "zero" not in " ".join(card.snapshot().notes)
    card.close()


# A quantile -----------------------------------------------------------------------------------------------------------


def test_references_at_a_quantile_are_exact(card, session):
    card.quantile = 0.5
    assert card.wait()
    given, column = card.references, session.activations("bn2").values[:, 17]
    order = sorted(range(24), key=lambda i: (-column[i], i))
    assert given["samples"] == order[6:18] and (given["first"], given["of"]) == (7, 24)
    assert np.allclose(given["values"], column[order[6:18]]) and given["captions"][0].startswith("7. ")
    assert list(card.table()["rank"]) == list(range(7, 19))
    card.quantile = 0.0
    assert card.wait() and card.references["samples"] == order[12:]
    assert "around the 0% quantile" in card.snapshot().asked and "Ranks 13 to 24 of 24" in " ".join(
        card.snapshot().notes
    )


def test_a_burst_of_the_slider_ends_on_the_last_and_computes_few_crops(card, session, monkeypatch):
    monkeypatch.setattr("workbench.widgets.card._REST_S", 1.5)  # longer than a busy machine pauses in the burst
    asked = []
    own = session.reference_views
    session.reference_views = lambda *a, **k: asked.append(k["mode"]) or own(*a, **k)
    page = Page(card)
    for i in range(200):
        page.put(quantile=1 - (i + 1) / 250)
    assert card.wait() and card.references["quantile"] == 1 - 200 / 250 and not card.references["is_preview"]
    assert asked.count("crop") <= 3


@pytest.mark.parametrize("wrong", [1.5, -0.1, float("nan"), "half"])
def test_quantiles_that_cannot_be_are_refused(card, monkeypatch, wrong):
    with lenient(monkeypatch):
        Page(card).put(quantile=wrong)
    assert card.quantile == 1.0


def test_where_only_references_are_kept_these_are_what_there_is(session, monkeypatch):
    def activations(layer):
        raise IncompleteError("References alone.", hint="Run session.sweep, which keeps tables.")

    monkeypatch.setattr(session, "activations", activations)
    session.selection.component = "bn2/unit/17"
    card = ComponentCard(session, quantile=0.0, n=4)
    assert card.wait() and card.status == "ready"
    assert card.references["is_kept"] and card.references["of"] == 20
    assert card.references["samples"] == session.references("bn2").ids[17][16:20].tolist()
    for given in (card.classes, card.related, card.contrast):
        assert given["why"] == "Run session.sweep, which keeps tables."
    assert "kept references" in " ".join(card.snapshot().notes)
    card.close()


# Classes, relatives, look-alikes --------------------------------------------------------------------------------------


def test_classes_come_with_value_and_count(card, session):
    column, labels = session.activations("bn2").values[:, 17], session.data.labels
    means = {session.data.classes[c]: column[labels == c].mean() for c in range(3)}
    given = card.classes["classes"]
    assert [one["name"] for one in given] == sorted(means, key=lambda name: -means[name])
    assert all(one["mean"] == pytest.approx(means[one["name"]], rel=1e-5) and one["n"] == 8 for one in given)
    card.by = "relevance"
    assert card.wait() and card.classes["by"] == "relevance"


def test_relatives_are_of_this_layer_and_the_stored_ones_beside(card, session):
    groups = {group["where"]: group for group in card.related["groups"]}
    assert list(groups) == ["near", "before", "after"]
    assert (groups["before"]["layer"], groups["after"]["layer"]) == ("", "blocks.4")
    near = session.point_map("bn2").nearest("bn2/unit/17", 5)[0]
    assert groups["near"]["components"] == near
    n = sum(len(group["components"]) for group in groups.values())
    assert card.related["sheet"]["n"] == n == 10
    session.selection.component = groups["after"]["components"][0]
    assert card.wait() and card.related["component"] == groups["after"]["components"][0]
    assert {g["where"]: g["layer"] for g in card.related["groups"]} == {
        "near": "blocks.4",
        "before": "bn2",
        "after": "",
    }


def test_look_alikes_do_not_fire(card, session):
    given, column = card.contrast, session.activations("bn2").values[:, 17]
    assert len(given["samples"]) == given["sheet"]["n"] > 0 and given["layer"] == "blocks.4"
    assert all(column[i] <= given["threshold"] for i in given["samples"])
    origins = session.data.origins
    assert not {origins[i] for i in given["samples"]} & {origins[i] for i in given["like"]}


def test_a_silent_component_says_why_there_is_nothing(card):
    card.component = "bn2/unit/3"
    assert card.wait() and card.related["why"] == card.contrast["why"] == "It answers to all samples alike."
    assert card.snapshot().html()


def test_going_back_before_the_other_has_arrived_shows_what_is_chosen(card, session):
    session.delay = 0.2
    session.selection.component = "bn2/unit/30"
    session.selection.component = "bn2/unit/17"
    assert card.wait(30)
    session.delay = 0.0
    for given in (card.references, card.classes, card.related, card.contrast, card.spread):
        assert given["component"] == "bn2/unit/17"


# Several --------------------------------------------------------------------------------------------------------------


def test_several_are_compared_and_stay(card, session):
    card.pinned = ["bn2/unit/17", "bn2/20", "blocks.4/unit/8", "bn2/unit/20"]
    session.selection.component = "bn2/unit/5"
    assert card.wait() and card.pinned == ("bn2/unit/17", "bn2/unit/20", "blocks.4/unit/8")
    given = card.compared
    assert card.references["component"] == given["first"] == "bn2/unit/17"
    assert [c["references"]["component"] for c in given["cards"]] == ["bn2/unit/20", "blocks.4/unit/8"]
    for one in given["cards"]:
        for kind in ("spread", "classes", "related", "contrast"):
            assert one[kind]["component"] == one["references"]["component"], kind
    values = session.activations("bn2").values
    assert given["cards"][0]["correlation"] == pytest.approx(np.corrcoef(values[:, 17], values[:, 20])[0, 1], abs=1e-6)
    best = session.references("bn2").ids
    assert given["cards"][0]["n_shared"] == len(set(best[17][:12]) & set(best[20][:12]))
    assert [m["component"] for m in card.marks] == ["bn2/unit/20", "blocks.4/unit/8"] and card.marks[0]["sample"] == 4
    session.selection.sample = 11
    assert card.wait() and {m["sample"] for m in card.marks} == {11}
    assert set(card.table()["component"]) == set(card.pinned) and "bn2/unit/20" in card.snapshot().title
    card.quantile = 0.3
    assert card.wait() and {c["references"]["quantile"] for c in card.compared["cards"]} == {0.3}
    card.pinned = ()
    assert card.wait() and card.compared == {} and card.references["component"] == "bn2/unit/5"


def test_what_is_compared_already_is_not_made_again(card, session):
    card.pinned = ["bn2/unit/17", "bn2/unit/20"]
    assert card.wait()
    session.asked.clear()
    card.pinned = ["bn2/unit/17", "bn2/unit/20", "bn2/unit/21"]
    assert card.wait()
    assert [name for name, _ in session.asked].count("reference_views") == 1


@pytest.mark.parametrize("wrong", [3, ["bn2/unit/999"], [f"bn2/unit/{i}" for i in range(7)], {"a": 1}])
def test_what_cannot_be_pinned_is_refused(card, monkeypatch, wrong):
    with pytest.raises(Exception, match=r"pinned by their addresses|No component|At most 6|address"):
        card.pinned = wrong
    with lenient(monkeypatch):
        Page(card).put(pinned=wrong)
    assert card.pinned == ()


def test_a_silent_and_a_strong_one_have_no_correlation(card):
    card.pinned = ["bn2/unit/17", "bn2/unit/3"]
    assert card.wait() and card.compared["cards"][0]["correlation"] is None
    assert card.compared["cards"][0]["n_shared"] == 0 and card.snapshot().png()


def test_six_cards_are_within_the_budget(session):
    card = ComponentCard(session, pinned=[f"bn2/unit/{i}" for i in range(10, 16)], n=64)
    assert card.wait(60)
    assert wire.weight(card.get_state()) < wire.TRAIT_BYTES
    card.close()


# Labels and notes -----------------------------------------------------------------------------------------------------


def test_labels_and_notes_are_written_and_shown(card, session):
    page, other = Page(card), ComponentCard(session)
    answer, _ = page.ask("note", {"component": "bn2/unit/17", "label": f" {HOSTILE.splitlines()[0]} "})
    assert answer["ok"] and answer["result"]["label"] == HOSTILE.splitlines()[0]
    page.ask("note", {"component": "bn2/unit/17", "note": HOSTILE})
    assert other.wait() and other.labels == card.labels == {"bn2/unit/17": HOSTILE.splitlines()[0]}
    assert card.notes == {"bn2/unit/17": HOSTILE.strip()}
    html = card.snapshot().html()
    assert "<img src=x" not in html and "Note: " in html
    assert card.decisions().loc["bn2/unit/17", "label"] == HOSTILE.splitlines()[0]
    card.write("", "")
    assert card.wait() and card.labels == {} and card.notes == {} and card.decisions().empty
    other.close()


def test_labels_that_cannot_be_are_answered_with_an_error(card, monkeypatch):
    page = Page(card)
    with lenient(monkeypatch):
        for body in ({"label": "two\nlines"}, {"label": "x" * 500}, {"component": "bn2/unit/999", "label": "a"}):
            answer, _ = page.ask("note", {"component": "bn2/unit/17", **body})
            assert not answer["ok"] and answer["error"]["message"]
    assert card.labels == {} and card.status == "ready"


def test_a_card_without_a_component_has_nothing_to_label(session):
    with pytest.raises(BadValueError, match="No component is selected"):
        ComponentCard(session).write("a")


def test_a_damaged_file_of_labels_costs_the_labels_alone(session, monkeypatch, tmp_path):
    def damaged():
        raise StoreError("The notes cannot be read.", hint="Remove the file.")

    monkeypatch.setattr(session.notes, "all", damaged)
    session.selection.component = "bn2/unit/17"
    card = ComponentCard(session)
    assert card.wait() and card.references["samples"] and card._problem["message"] == "The notes cannot be read."
    assert card.to_html(tmp_path / "page.html").n_bytes > 0
    card.close()
