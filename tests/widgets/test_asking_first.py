"""A widget that needs a long sweep opens all the same, says what it costs, and goes on when it is started."""

from __future__ import annotations

import pytest

import workbench as wb
from workbench.core.errors import BadValueError, NotSweptError
from workbench.core.unasked import unasked
from workbench.session.deliver import flush
from workbench.testing.browser import WidgetPage
from workbench.testing.page_suite import needs_browser
from workbench.testing.small import CLASSES, SMALL, small_data, small_net
from workbench.testing.widget_suite import Page
from workbench.widgets import ComponentCard, NeuronMap

UNIT = "relu_b/unit/2"


@pytest.fixture
def small(tmp_path, monkeypatch):
    monkeypatch.setenv("WORKBENCH_ASK_S", "0")  # any sweep is too long
    session = wb.open_session(small_net(), data=small_data(), store=tmp_path, transform=SMALL, classes=CLASSES)
    yield session
    session.close()


def swept(session):
    return {name for name, one in session.stored().items() if one.activations > 0}


def test_a_long_sweep_is_refused_only_where_nobody_asked(small):
    with unasked(0.0), pytest.raises(NotSweptError, match=r"of 24 samples takes long: about .* on disk") as refused:
        small.activations("relu_b")
    assert refused.value.sweep["layers"] == "relu_b" and refused.value.sweep["relevance"] is False
    assert "WORKBENCH_ASK_S" in refused.value.hint and not swept(small)
    with unasked(3600.0):
        assert small.activations("relu_b").values.shape[0] == 24
    assert small.relevances("relu_a").values.shape[0] == 24, "asked for by name: no limit"


@pytest.mark.parametrize("kind", [ComponentCard, NeuronMap])
def test_it_opens_asks_and_goes_on(small, kind):
    small.selection.component = UNIT
    widget = kind(small) if kind is ComponentCard else kind(small, "relu_b")
    assert widget.wait(30) and not swept(small)
    assert widget._problem["start"] == "Sweep relu_b" and "on disk" in widget._problem["cost"]
    assert widget.status == "idle" and "waits to be started" in widget.message
    widget.prepare_still()
    assert "takes long" in widget.snapshot().text()
    while widget._problem:  # relevances may be missing beside activations
        widget.sweep().result(60)
        assert widget.wait(60) and flush(5)
    assert widget.status == "ready" and swept(small) == {"relu_b"}
    with pytest.raises(BadValueError, match="waits for no sweep"):
        widget.sweep()
    widget.close()


def test_what_was_asked_for_meanwhile_counts(small):
    small.sweep("relu_a")
    small.selection.component = UNIT
    card = ComponentCard(small)
    assert card.wait(30) and card._problem
    card.component = "relu_a/unit/0"
    assert card.wait(30)
    Page(card).ask("sweep")
    assert card.wait(60) and flush(5)
    assert card.component == "relu_a/unit/0" and "relu_b" in swept(small)
    card.close()


def test_dismissed_it_is_asked_again_with_the_next_wish(small):
    small.selection.component = UNIT
    card = ComponentCard(small)
    assert card.wait(30) and card._problem
    Page(card).ask("dismiss")
    assert card._problem == {}
    with pytest.raises(BadValueError, match="no sweep"):
        card.sweep()
    card.component = "relu_b/unit/0"
    assert card.wait(30) and card._problem["start"] == "Sweep relu_b"
    card.close()


class TestOnAPage:
    pytestmark = needs_browser

    def test_the_button_starts_it(self, chrome, small):
        small.selection.component = UNIT
        card = ComponentCard(small)
        with WidgetPage(chrome, card) as page:
            page.settle()
            start = page.page.get_by_role("button", name="Sweep relu_b")
            page.until(start.is_visible)
            for _ in range(3):
                if not start.is_visible():
                    break
                start.click()
                assert card.wait(60) and flush(5)
                page.settle()
            assert swept(small) == {"relu_b"} and not start.is_visible() and page.errors == []
