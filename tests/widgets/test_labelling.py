"""Labels of components, given anywhere, shown by every widget that names a component."""

import pytest

from workbench.core.results import Edit
from workbench.session.deliver import flush
from workbench.testing.browser import WidgetPage
from workbench.testing.page_suite import needs_browser
from workbench.testing.widget_suite import HOSTILE
from workbench.widgets import (
    AtlasBrowser,
    CompareView,
    ComponentCard,
    DirectionViewer,
    HeatmapViewer,
    NeuronMap,
    SteeringPanel,
)
from workbench.widgets.labelling import _MOST

LABEL = HOSTILE.splitlines()[0]
SELECTED = {"component": "bn2/unit/17", "sample": 4}
DIRECTION = "bn2/cav-u-block-u/0"


@pytest.fixture
def shown(session):
    made = []

    def show(kind, *args, **view):
        made.append(kind(session, *args, **view))
        assert made[-1].wait(20)
        return made[-1]

    yield show
    for widget in made:
        widget.close()


def directions(shown):
    return shown(DirectionViewer, "bn2", concept="mask:<u>block</u>", scope="all", methods=["pattern", "ridge"])


def still(widget):
    widget.prepare_still()
    return widget.snapshot()


def test_tables_have_a_column_of_labels_where_there_are_some(shown, session):
    viewer, neurons = shown(HeatmapViewer, n_components=32), shown(NeuronMap, "bn2")
    first = viewer.table().index[0]
    assert "label" not in viewer.table() and "label" not in neurons.table()
    session.notes.put(first, label=LABEL)
    assert flush(5)
    assert viewer.table()["label"].tolist() == [LABEL] + [""] * 31
    assert neurons.table().loc[first, "label"] == LABEL and list(neurons.selection.columns) == list(neurons.table())
    session.notes.put(first, label="")
    assert flush(5) and "label" not in viewer.table() and "label" not in neurons.table()


def test_a_column_of_labels_of_the_map_itself_stays(shown, session):
    session.notes.put("bn2/unit/17", label="of a component")
    samples = shown(NeuronMap, "bn2", of="samples")
    assert samples.labels == {} and set(samples.table()["label"]) == set(session.data.classes)


def test_stills_name_components_with_their_labels(shown, session):
    panel = shown(SteeringPanel, interventions=["bn2/unit/17"], population=12)
    viewer, neurons, found = shown(HeatmapViewer), shown(NeuronMap, "bn2"), directions(shown)
    assert found.shown == DIRECTION
    session.notes.put("bn2/unit/17", label=LABEL)
    session.notes.put(panel.effect["moved"]["components"][0], label="moved along")
    session.notes.put(DIRECTION, label="a <b>block</b>")
    assert flush(5)
    captions = [picture.caption[0] for picture in still(viewer).pictures]
    assert captions[-1] == f"Through bn2/unit/17 · {LABEL}"
    assert f"bn2/unit/17 · {LABEL} selected" in " ".join(still(neurons).notes)
    made = still(panel)
    assert made.asked == f"suppress bn2/unit/17 · {LABEL} (100 %)" and made.notes[0].endswith(made.asked)
    assert " · moved along " in " ".join(made.notes)
    assert still(found).title.endswith(" · a <b>block</b>")
    assert found.directions()["label"].tolist() == ["a <b>block</b>", ""]
    for widget in (viewer, neurons, panel, found):
        html = still(widget).html()
        assert "<img src=x" not in html and "<b>block" not in html


def test_labels_of_the_layer_on_show_go_first_where_they_are_too_many(shown, session, monkeypatch):
    monkeypatch.setattr("workbench.widgets.labelling._MOST", 2)
    assert _MOST > 2
    for component in ("bn2/unit/1", "bn2/unit/2", "blocks.4/unit/7"):
        session.notes.put(component, label="some")
    assert set(shown(NeuronMap, "blocks.4").labels) == {"blocks.4/unit/7", "bn2/unit/1"}


class TestOnAPage:
    pytestmark = needs_browser

    def test_a_label_given_on_the_card_is_on_all_others_at_once(self, chrome, shown, session):
        card, viewer, neurons = shown(ComponentCard), shown(HeatmapViewer), shown(NeuronMap, "bn2", show_list=True)
        atlas = AtlasBrowser(session.atlas(), session=session, show_list=True)
        panel = shown(SteeringPanel, interventions=["bn2/unit/17"], population=0)
        with WidgetPage(chrome, card, viewer, neurons, atlas, panel, width=1240, height=1400) as page:
            page.settle()
            at = page.page.locator
            at("input.wb-written").first.fill(LABEL)
            at("input.wb-written").first.press("Tab")
            page.until(lambda: viewer.labels == panel.labels == {"bn2/unit/17": LABEL})
            called = f"unit 17 · {LABEL}"
            page.until(lambda: called in at(".wb-heatmap .wb-pane-title").all_inner_texts()[2])
            assert f"selected bn2/unit/17 · {LABEL}" in at(".wb-map .wb-note").inner_text()
            assert called in at(".wb-map .wb-aside").inner_text()
            assert called in at(".wb-atlas").inner_text()
            assert at(".wb-steering .wb-act-name").first.inner_text() == called
            first = viewer.table().index[0]
            session.notes.put(first, label="<b>bold</b>")
            page.until(lambda: "<b>bold</b>" in at(".wb-heatmap .wb-comp").first.inner_text())
            leading = at(f'.wb-steering .wb-leading [data-id="{first}"]')
            page.until(lambda: "<b>bold</b>" in leading.inner_text())
            assert "<b>bold</b>" in leading.get_attribute("title")
            assert at("img[src=x]").count() == 0 and page.errors == []
        atlas.close()

    def test_labels_of_directions_are_beside_them(self, chrome, shown, session):
        found = directions(shown)
        with WidgetPage(chrome, found, width=1240) as page:
            page.settle()
            session.notes.put(DIRECTION, label=LABEL)
            page.until(lambda: page.page.locator(".wb-kept").inner_text() == f"{DIRECTION} · {LABEL}")
            assert page.page.locator(".wb-method").first.inner_text().endswith(f" · {LABEL}")
            assert page.page.locator("img[src=x]").count() == 0 and page.errors == []

    def test_components_of_a_comparison_have_theirs(self, chrome, shown, session):
        fixed = session.variant("fixed", [Edit("scale", "bn2", (17, 3), 0.0)])
        view = shown(CompareView, population=0)
        first = view.table("components").index[0]
        assert "label" not in view.table("components")
        with WidgetPage(chrome, view, width=1240) as page:
            page.settle()
            session.notes.put(first, label=LABEL)
            row = page.page.locator(f'[data-id="{first}"]')
            page.until(lambda: f" · {LABEL}" in row.inner_text())
            assert row.get_attribute("title").startswith(f"{first} · {LABEL}: ")
            assert page.page.locator("img[src=x]").count() == 0 and page.errors == []
        assert view.table("components").loc[first, "label"] == LABEL
        fixed.close()
