"""ComponentCard: the contract, references, values, pinning."""

import io
import time

import numpy as np
import pytest
from PIL import Image

from workbench.core.errors import BadValueError, IncompleteError
from workbench.testing.fake_session import FakeSession
from workbench.testing.widget_suite import WidgetSuite
from workbench.widgets.card import ComponentCard


class TestContract(WidgetSuite):
    fails = "reference_views"
    changes = {"by": "relevance", "mode": "mask", "n": 5}
    n_bytes = 300_000

    def make(self, session, **view):
        return ComponentCard(session, **view)


@pytest.fixture
def session():
    return FakeSession()


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
