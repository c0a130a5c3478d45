"""Journal: the contract; pins of widgets, boards and results; order, notes, undo; restoring; notebook and page."""

import json
import os
import time
import warnings
from pathlib import Path

import nbformat
import numpy as np
import pytest

import workbench as wb
from workbench.core.errors import BadValueError, ReadOnlyStoreError, UnknownNameError
from workbench.session.pins import PinnedStill, new_pin
from workbench.testing.browser import WidgetPage, chromium
from workbench.testing.page_suite import ExportedPage, PageSuite
from workbench.testing.widget_suite import HOSTILE, Page, Seen, WidgetSuite, lenient
from workbench.widgets import ComponentCard, HeatmapViewer, Journal, RunBar, show
from workbench.widgets.drawn import still_of_figure
from workbench.widgets.notebooks import as_markdown

ROOT = Path(wb.__file__).resolve().parents[1]


def filled(session, n=3):
    """Pin a card `n` times, if nothing is pinned yet."""
    if not session.journal.pins():
        card = ComponentCard(session)
        assert card.wait(20)
        for i in range(n):
            card.pin(f"note {i}\n{HOSTILE}" if i == 1 else f"note {i}", title=f"Finding {i}")
        card.close()
    return session.journal.pins()


class TestContract(WidgetSuite):
    changes = {"height": 444, "theme": "dark", "title": "A <b>title</b>", "others": True, "current": "ab12"}

    def make(self, session, **view):
        filled(session)
        session.asked.clear()
        return Journal(session, **view)


class TestPage(PageSuite):
    kind = "journal"

    def make(self, session, **view):
        filled(session)
        return Journal(session, **view)

    def test_a_linked_pair_follows_without_kernel(self, exports):
        # A journal shows no component or sample; two of them are in focus each for itself.
        opened = exports.opened(n=2)
        left, right = opened.page.locator(".wb-journal").all()
        left.locator(".wb-pin").nth(1).click()
        assert left.locator(".wb-pin.wb-current").count() == 1 and right.locator(".wb-pin.wb-current").count() == 0
        assert opened.errors == [] and opened.asked_for == []

    def test_all_pins_are_there_in_full_and_in_order(self, chrome, session, tmp_path):
        pins = filled(session)
        session.journal.move(pins[2], to=0)
        with self.exported(chrome, session, tmp_path / "page.html") as opened:
            journal = opened.page.locator(".wb-journal")
            titles = journal.locator(".wb-pin-title").all_inner_texts()
            assert titles == ["1. Finding 2", "2. Finding 0", "3. Finding 1"]
            for image in journal.locator(".wb-pin-image").all():
                assert image.evaluate("e => e.naturalWidth") > 320, "the still, not the small picture"
            assert HOSTILE.split("\n")[0] in journal.locator(".wb-pin").nth(2).inner_text()
            assert journal.locator('button:text("Restore"):visible, button:text("Remove"):visible').count() == 0
            journal.locator('summary:text("Code")').first.click()
            assert "ComponentCard(s" in journal.locator(".wb-pin-code").first.inner_text()


SELECTED = {"component": "bn2/unit/17", "sample": 4}


@pytest.fixture
def card(session):
    made = ComponentCard(session, by="relevance")
    assert made.wait(20)
    yield made
    made.close()


@pytest.fixture
def journal(session):
    made = Journal(session)
    assert made.wait(20)
    yield made
    made.close()


def titles(journal):
    assert journal.wait(20)
    return journal.table()["title"].tolist()


def test_a_pin_holds_all_of_a_view(session, card, journal):
    pin = journal.pin(card, "answers to <b>stripes</b>")
    assert (pin.title, pin.note, pin.widget) == ("bn2/unit/17", "answers to <b>stripes</b>", "ComponentCard")
    assert pin.state == json.loads(json.dumps(card.state())) and pin.code == card.plain_code()
    assert pin.recipe == card.recipe() and pin.made_with == session.digests()
    assert pin.png[:8] == b"\x89PNG\r\n\x1a\n" and pin.html == card.snapshot().html() and not Seen(pin.html).addresses
    assert titles(journal) == ["bn2/unit/17"] and journal.selection.empty
    journal.select([pin.id])
    assert journal.selection.index.tolist() == [pin.id] == [journal.current]
    assert "1 pins" in repr(journal)


def test_a_fitted_map_is_pinned_by_its_widget(session, journal):
    class EmbeddingMap:
        map_, session_ = session.point_map(), session

        def __repr__(self):
            return "EmbeddingMap('bn2')"

    pin = journal.pin(EmbeddingMap())
    assert pin.widget == "NeuronMap" and "wb.widgets.NeuronMap(s.fit(wb.methods.EmbeddingMap('bn2'))" in pin.code
    assert journal.pin(session.point_map()).widget == "NeuronMap"


def test_each_widget_pins_from_its_menu_without_a_journal_on_show(session, card):
    answer, _ = Page(card).ask("pin", {"note": HOSTILE})
    (pin,) = session.journal.pins()
    assert answer["ok"] and answer["result"] == {"id": pin.id, "title": "bn2/unit/17"} and pin.note == HOSTILE
    assert session.journal.views[pin.id] is card
    found = Journal(session)
    assert titles(found) == ["bn2/unit/17"]
    found.close()


def test_a_pin_made_from_the_page_waits_for_the_picture(session):
    session.delay = 0.4
    card = ComponentCard(session)
    Page(card).ask("pin", {"note": "early"})
    (pin,) = session.journal.pins()
    assert "being fetched" not in pin.text and "12 pictures" in pin.text or "pictures" in pin.text
    card.close()


def test_a_journal_is_not_pinned_into_itself(journal, monkeypatch):
    with pytest.raises(BadValueError, match="not pinned into itself"):
        journal.pin(journal)
    with lenient(monkeypatch):
        answer, _ = Page(journal).ask("pin", {"note": ""})
    assert not answer["ok"] and "itself" in answer["error"]["message"]


def test_what_cannot_be_pinned_says_so(session, journal, card):
    card.close()
    with pytest.raises(BadValueError, match="closed"):
        journal.pin(card)
    with pytest.raises(BadValueError, match="neither be shown nor plotted"):
        journal.pin(3)
    with pytest.raises(BadValueError, match="session"):
        Journal(None)
    assert journal.pins == ()


def test_boards_are_pinned_and_come_back(session, card, journal):
    board = show(card, HeatmapViewer(session))
    pin = journal.pin(board, "both", title="Both")
    assert pin.widget == "Board" and pin.code.splitlines()[-1].startswith("wb.show(wb.widgets.ComponentCard(s, ")
    assert len(pin.state["widgets"]) == 2 and pin.html.count('role="figure"') == 2 and len(pin.png) < 150_000
    card.by = "activation"
    assert journal.restore(pin) is board and card.by == "relevance" and journal.reports == []
    board.close()
    again = journal.restore(pin)
    assert again is not board and [type(w).__name__ for w in again.widgets] == ["ComponentCard", "HeatmapViewer"]
    assert again.widgets[0].by == "relevance" and again.widgets[0].wait(20)
    again.close()


def test_results_are_pinned_with_what_their_figure_shows(session, journal):
    ranking = session.rank_in_region(4, {"x": 0.1, "y": 0.1, "width": 0.5, "height": 0.5}, "bn2")
    pin = journal.pin(ranking, "inside", code="s.rank_in_region(4, box, 'bn2')")
    assert pin.widget == "Ranking" and pin.code == "s.rank_in_region(4, box, 'bn2')" and "bn2/unit/" in pin.html
    assert len(pin.png) > 3000 and pin.made_with == session.digests()
    pin = journal.pin(session.explain(4))
    assert pin.png and pin.code.startswith("# Attribution") and "<img" in pin.html
    for result in (session.references("bn2"), session.sanity_check(4)):
        assert journal.pin(result).png
    with pytest.raises(BadValueError, match="cannot be made from its code") as error:
        journal.restore(pin)
    assert "cell" in error.value.hint


def test_an_atlas_is_pinned_by_its_widget_and_restored_from_its_layer(session, journal):
    record = session.atlas("bn2")
    pin = journal.pin(record)
    assert pin.widget == "AtlasBrowser" and pin.made_with == session.digests()
    assert "wb.widgets.AtlasBrowser(s, layer='bn2'" in pin.code
    again = journal.restore(pin)
    assert type(again).__name__ == "AtlasBrowser" and again.layer == "bn2"
    again.wait(20)
    assert journal.restore(pin) is again and journal.reports == []
    again.close()


def test_maps_grids_and_large_sets_come_back(session, journal):
    from workbench.widgets import NeuronMap, SampleGrid

    method = wb.methods.EmbeddingMap("bn2")
    views = [NeuronMap(session, "bn2", by="relevance"), NeuronMap(session.fit(method)), SampleGrid(session)]
    views.append(NeuronMap(method.map_, session=session))
    for view in views:
        assert view.wait(20)
    session.selection.components = [f"blocks.4/unit/{i}" for i in range(40)]
    pins = [journal.pin(view) for view in views]
    for view, pin in zip(views, pins, strict=True):
        view.close()
        again = journal.restore(pin)
        assert type(again).__name__ == type(view).__name__ and journal.reports == []
        assert again.wait(20) and again.state() == pin.state
        again.close()


def test_figures_are_drawn_without_a_browser():
    import plotly.graph_objects as go

    figure = go.Figure([
        go.Scatter(x=[1, 2, 3], y=[3, None, 1], mode="lines+markers"), go.Bar(x=["a", "<b>b</b>"], y=[1, -2]),
        go.Heatmap(z=[[1, -1], [0, 2]]), go.Image(z=np.zeros((8, 9, 3), np.uint8)),
    ])  # fmt: skip
    figure.update_layout(title={"text": "A <b>title</b> &lt;i&gt;"}, meta={"alt": "what it shows"})
    still = still_of_figure(figure)
    assert still.title == "A title <i>" and len(still.pictures) == 3 and still.legend.title == "Relevance"
    assert {p.alt.removeprefix("Map: ") for p in still.pictures} == {"what it shows"}
    assert still_of_figure(go.Figure()).title == "Figure" and still_of_figure(go.Figure()).png()


def test_order_notes_removal_and_undo(session, journal):
    one, two, three = filled(session)
    journal.move(three, by=-2)
    journal.edit(two, note="better", title="Better")
    journal.remove(one.id)
    assert titles(journal) == ["Finding 2", "Better"] and journal.cards["n_removed"] == 1
    assert journal.undo().id == one.id and titles(journal) == ["Finding 2", "Finding 0", "Better"]
    assert [pin.note for pin in journal.pins][2] == "better"
    page = Page(journal)
    page.ask("move", {"id": two.id, "to": 0})
    page.ask("edit", {"id": one.id, "note": HOSTILE})
    page.ask("remove", {"id": three.id})
    assert titles(journal) == ["Better", "Finding 0"] and journal.table()["note"].tolist() == ["better", HOSTILE]
    assert page.ask("undo")[0]["result"] == {"id": three.id}
    assert len(titles(journal)) == 3 and page.ask("still", {"id": one.id})[1] == [one.png]


def test_what_is_gone_is_said(session, journal, monkeypatch):
    with pytest.raises(UnknownNameError, match="No pin 'nothing'"):
        journal.remove("nothing")
    with lenient(monkeypatch):
        for kind, body in (("move", {"to": 1}), ("remove", {}), ("restore", {}), ("still", {}), ("edit", {"note": ""})):
            answer, _ = Page(journal).ask(kind, {"id": "nothing", **body})
            assert not answer["ok"] and "No pin 'nothing'" in answer["error"]["message"], kind


def test_the_open_view_is_restored_else_a_new_one_is_made(session, card, journal):
    pin = journal.pin(card)
    card.by, card.n = "activation", 5
    session.selection.component = "bn2/unit/3"
    assert journal.restore(pin) is card and (card.by, card.n, card.component) == ("relevance", 12, "bn2/unit/17")
    card.close()
    started = time.perf_counter()
    again = journal.restore(pin.id)
    took = time.perf_counter() - started
    assert again is not card and again.state() == pin.state and journal.reports == [] and journal.restored is again
    assert took < 0.5 and journal.restore(pin) is again
    again.close()
    answer, _ = Page(journal).ask("restore", {"id": pin.id})
    assert answer["result"]["is_new"] and answer["result"]["model"] == journal.restored.model_id
    assert Page(journal).ask("restore", {"id": pin.id})[0]["result"]["is_new"] is False
    journal.restored.wait(20)
    journal.restored.close()


def test_what_does_not_fit_is_reported(session, journal):
    state = {"widget": "ComponentCard", "by": "relevance", "component": "gone/unit/1", "n": 99}
    recipe = {"model": "other@12345678", "data": session.digests()["data"]}
    code = "# facts\nwb.widgets.ComponentCard(s, component='gone/unit/1', by='relevance')"
    pin = session.journal.add(new_pin(title="Old", widget="ComponentCard", state=state, recipe=recipe, code=code))
    view = journal.restore(pin)
    assert view.by == "relevance" and len(journal.reports) == 3
    assert journal.reports[0].startswith("Made with another model: other@12345678")
    assert any("gone" in line for line in journal.reports) and any(line.startswith("n: ") for line in journal.reports)
    assert journal.wait(20) and journal.cards["pins"][0]["warnings"] == [journal.reports[0]]
    assert "other@12345678" in journal.snapshot().html()
    view.close()


@pytest.mark.parametrize(
    "code",
    [
        "__import__('os').system('true')",
        "wb.widgets.ComponentCard(s, component=__import__('os').name)",
        "wb.widgets.ComponentCard(s.fit(evil(1)))",
        "wb.widgets.ComponentCard(*s)",
        "wb.widgets.Nothing(s)",
        "(lambda: 1)()",
        "x = 1",
        "",
    ],
)
def test_code_of_others_is_never_run(session, journal, code):
    pin = session.journal.add(new_pin(title="Evil", widget="ComponentCard", code=code))
    with pytest.raises(BadValueError, match="cannot be made from its code"):
        journal.restore(pin)


def test_a_store_that_is_read_only_says_so_in_the_menu(small_card, monkeypatch):
    card, session = small_card
    with lenient(monkeypatch):
        answer, _ = Page(card).ask("pin", {"note": "kept here"})
    assert not answer["ok"] and "kept until this session ends" in answer["error"]["message"]
    journal = Journal(session)
    assert (
        journal.wait(20)
        and journal.cards["pins"][0]["is_saved"] is False
        and journal.table()["note"].tolist() == ["kept here"]
    )
    with pytest.raises(ReadOnlyStoreError):
        journal.pin(card)
    journal.close()


@pytest.fixture
def small_card(tmp_path):
    from workbench.store import Store
    from workbench.testing.small import CLASSES, SMALL, small_data, small_net

    Store.open(tmp_path / "store").disk.prepare()
    store = Store.open(tmp_path / "store", read_only=True)
    with wb.open_session(small_net(), small_data(), store=store, transform=SMALL, classes=CLASSES) as session:
        bar = RunBar(session)
        assert bar.wait(20)
        yield bar, session
        bar.close()


def test_others_of_the_store_are_listed_with_a_warning(tmp_path):
    from workbench.testing.small import CLASSES, SMALL, small_data, small_net

    def open_one(n=None):
        names = CLASSES if n is None else list("vwxyz")
        net = small_net() if n is None else small_net(n_classes=n)
        return wb.open_session(net, small_data(), store=tmp_path, transform=SMALL, classes=names)

    with open_one() as one, open_one(5) as two:
        with RunBarPinned(one) as pin:
            pass
        journal = Journal(two)
        assert titles(journal) == []
        journal.others = True
        assert titles(journal) == [pin.title] and "another model" in journal.cards["pins"][0]["warnings"][0]
        assert journal.cards["pins"][0]["is_own"] is False
        journal.close()


class RunBarPinned:
    def __init__(self, session):
        self.bar = RunBar(session)

    def __enter__(self):
        assert self.bar.wait(20)
        return self.bar.pin("here")

    def __exit__(self, *exc):
        self.bar.close()


# Notebook -------------------------------------------------------------------------------------------------------------


def test_a_notebook_has_words_code_and_stills(session, journal, card, tmp_path):
    session.opened_by = "wb.open_session('toy-cnn', data=data)"
    journal.pin(card, f"1. first\n# no heading\n    no code\n{HOSTILE}\n$x^2$ [a](http://b) _u_", title=HOSTILE)
    session.journal.add(new_pin(title="Other", recipe={"model": "other@12345678"}, code="1 + 1", still=PinnedStill()))
    path = journal.to_notebook(tmp_path / "found.ipynb")
    book = nbformat.read(path, as_version=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nbformat.validate(book)
    assert (book.nbformat, book.nbformat_minor) == (4, 5) and len(book.cells) == 5
    assert "s = wb.open_session('toy-cnn', data=data)" in book.cells[0].source
    assert "Define first what the session was opened with: data." in book.cells[0].source
    assert session.digests()["model"] in book.cells[0].outputs[0].data["text/plain"]
    words, code = book.cells[1], book.cells[2]
    assert "<img" not in words.source and "](" not in words.source and "$" not in words.source
    assert "\n# " not in words.source and "\n1." not in words.source
    assert code.source == card.plain_code() and code.outputs[0].data["text/html"] == card.snapshot().html()
    assert "another model" in book.cells[3].source
    assert not list(tmp_path.glob(".*"))


def test_where_a_notebook_cannot_go(journal, session, tmp_path):
    with pytest.raises(BadValueError, match="no pin"):
        journal.to_notebook(tmp_path / "a.ipynb")
    filled(session)
    with pytest.raises(BadValueError, match="saved as .ipynb"):
        journal.to_notebook(tmp_path / "a.html")
    with pytest.raises(BadValueError, match="no folder"):
        journal.to_notebook(tmp_path / "none" / "a.ipynb")


@pytest.mark.parametrize(
    "text", [HOSTILE, "a\n\n    b", "- x\n+ y\n= z\n=====", "3) x", "> q", "~~s~~ `c` | t", "a@b www.c.de"]
)
def test_markdown_shows_the_text_as_it_is(text):
    mistune = pytest.importorskip("mistune", reason="mistune comes with nbconvert")
    html = mistune.create_markdown(escape=False, plugins=["strikethrough", "table", "url", "math"])(as_markdown(text))
    seen = Seen(html)
    assert seen.tags <= {"p", "br"}
    shown = "".join(part for part in _texts(html)).replace("\xa0", " ")
    assert shown.split() == "".join(c if c.isprintable() or c == "\n" else " " for c in text).split()


def _texts(html):
    from html.parser import HTMLParser

    class Texts(HTMLParser):
        found: list = []

        def handle_data(self, data):
            self.found.append(data)

    parser = Texts()
    parser.found = []
    parser.feed(html)
    return parser.found


@pytest.mark.slow
def test_the_notebook_of_the_toy_session_runs_from_top_to_bottom(tmp_path, monkeypatch):
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    layer = "features.11"
    with wb.open_session("toy-cnn", data="toy", store=tmp_path / "store") as session:
        session.sweep([layer])
        session.selection.set(component=f"{layer}/unit/3", sample=5)
        atlas = wb.widgets.AtlasBrowser(session.fit(wb.methods.ConceptAtlas(layer, seed=1)))
        card, heat = wb.widgets.ComponentCard(session), wb.widgets.HeatmapViewer(session)
        journal = wb.widgets.Journal(session)
        for thing in (atlas, card, heat, show(card, heat)):
            journal.pin(thing, "seen")
        journal.pin(session.explain(5), code="s.explain(5)")
        atlas.close()
        again = journal.restore(journal.pins[0])
        assert again.atlas.recipe == session.fit(wb.methods.ConceptAtlas(layer, seed=1)).atlas_.recipe
        journal.to_notebook(tmp_path / "found.ipynb")
        for widget in (again, card, heat, journal):
            widget.close()
    book = nbformat.read(tmp_path / "found.ipynb", as_version=4)
    NotebookClient(book, timeout=300, store_widget_state=False).execute()
    assert all(cell.outputs for cell in book.cells if cell.cell_type == "code")


def test_what_belongs_to_no_session_has_no_journal(session):
    atlas = wb.widgets.AtlasBrowser(session.atlas("bn2"))
    with pytest.raises(BadValueError, match="belongs to no session") as error:
        atlas.pin("note")
    assert "open_session" in error.value.hint
    atlas.close()


# On a page ------------------------------------------------------------------------------------------------------------


@pytest.mark.browser
@pytest.mark.skipif(chromium() is None, reason="Chromium is not installed")
class TestOnAPage:
    def test_pin_from_a_menu_then_edit_move_remove_undo_restore(self, chrome, session, card, journal):
        with WidgetPage(chrome, card, journal) as page:
            menu, book = page.page.locator(".wb-card"), page.page.locator(".wb-journal")
            assert "No pins yet" in book.inner_text()
            for note in ("first", "<b>second</b>", "third"):
                if not menu.locator(".wb-copy").is_visible():
                    menu.locator('button[aria-label="Code, results and pin"]').click()
                menu.locator(".wb-pin-note").fill(note)
                menu.locator(".wb-pin-note").press("Enter")
                page.until(lambda: menu.locator(".wb-pin-said").inner_text() == "Pinned")
                page.settle()
            assert book.locator(".wb-pin-words").all_inner_texts() == ["first", "<b>second</b>", "third"]
            page.settle()
            assert book.locator(".wb-pin-image").first.evaluate("e => e.naturalWidth") > 320
            book.locator(".wb-pin").first.focus()
            page.page.keyboard.press("Alt+ArrowDown")
            page.settle()
            notes = lambda: book.locator(".wb-pin-words").all_inner_texts()  # noqa: E731
            assert notes() == ["<b>second</b>", "first", "third"]
            focused = "() => document.activeElement.dataset.pin"
            assert page.page.evaluate(focused) == session.journal.pins()[1].id, "the focus stays on what was moved"
            page.page.keyboard.press("e")
            page.page.keyboard.type(" and more")
            page.page.keyboard.press("Control+Enter")
            page.settle()
            assert session.journal.pins()[1].note == "first and more" and notes()[1] == "first and more"
            page.page.keyboard.press("Delete")
            page.settle()
            assert notes() == ["<b>second</b>", "third"]
            assert page.page.evaluate(focused) == session.journal.pins()[1].id
            page.page.keyboard.press("Control+z")
            page.settle()
            assert notes() == ["<b>second</b>", "first and more", "third"]
            card.by = "activation"
            page.page.keyboard.press("Enter")
            page.settle()
            assert card.by == "relevance" and "view that is open" in book.locator(".wb-pin-restored").last.inner_text()
            assert page.errors == []

    def test_tab_passes_the_cards_that_are_not_in_focus(self, chrome, session, journal):
        filled(session, 6)
        assert journal.wait(20)
        with WidgetPage(chrome, journal) as page:
            book = page.page.locator(".wb-journal")
            assert book.locator('.wb-pin[tabindex="0"]').count() == 1
            book.locator(".wb-pin").first.focus()
            for _ in range(3):
                page.page.keyboard.press("ArrowDown")
            page.settle()
            assert journal.current == session.journal.pins()[3].id
            assert page.page.evaluate("() => document.activeElement.dataset.pin") == journal.current
            page.page.keyboard.press("End")
            steps = 0
            while page.page.evaluate("() => Boolean(document.activeElement.closest('.wb-pin'))"):
                page.page.keyboard.press("Tab")
                steps += 1
                assert steps < 10, "only the controls of one card are in the way"
            assert page.errors == []

    def test_a_read_only_store_is_said_in_the_menu(self, chrome, small_card, monkeypatch):
        card, session = small_card
        with lenient(monkeypatch), WidgetPage(chrome, card) as page:
            page.page.locator('button[aria-label="Code, results and pin"]').click()
            page.page.locator('.wb-pin-row button:text("Pin")').click()
            page.until(lambda: "kept until this session ends" in page.page.locator(".wb-pin-said").inner_text())

    def test_a_page_without_a_kernel_has_no_pin(self, chrome, session, card, tmp_path):
        card.to_html(tmp_path / "page.html")
        with ExportedPage(chrome, tmp_path / "page.html") as opened:
            opened.page.locator('button[aria-label="Code, results and pin"]').click()
            assert opened.page.locator(".wb-copy").is_visible() and opened.page.locator(".wb-pin-row").is_hidden()
