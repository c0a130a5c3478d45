"""What every widget must do on a page of its own, as tests in a real browser. A new widget gets them by subclassing.

class TestMinePage(PageSuite):
    def make(self, session, **view):
        return MyWidget(session, **view)

They export the widget once, cut the network, and open the file afresh for each test: it draws, obeys the keyboard,
links with another widget, asks for nothing, has no finding of axe-core that is serious, and fits a narrow page, in
light and dark.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workbench.testing.browser import browser, chromium
from workbench.testing.fake_session import FakeSession
from workbench.testing.widget_suite import HOSTILE, WidgetTests

__all__ = ["ExportedPage", "Exports", "PageSuite", "chrome", "findings", "needs_browser"]

needs_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="Chromium is not installed"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
"""Marks of tests that drive a browser, for ``pytestmark``."""


@pytest.fixture(scope="session")
def chrome() -> Iterator[Any]:
    """A headless Chromium for all tests of a run; import it into your ``conftest.py``."""
    with browser() as opened:
        yield opened


def findings(page: Any, *, within: str = ".wb") -> list[str]:
    """Findings of axe-core on a page that are serious or critical, one line each."""
    import axe_playwright_python

    script = Path(axe_playwright_python.__file__).with_name("axe.min.js").read_text(encoding="utf-8")
    page.evaluate(f"() => {{ {script} }}")
    found = page.evaluate("within => window.axe.run(within).then(result => result.violations)", within)
    return [
        f"{one['id']} ({one['impact']}): {one['help']}: {node['html'][:160]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]


# Until nothing has changed in the document for a while.
_QUIET = """quiet => new Promise(done => {
    let timer = 0;
    const watch = new MutationObserver(() => again());
    const again = () => {
        clearTimeout(timer);
        timer = setTimeout(() => (watch.disconnect(), requestAnimationFrame(() => requestAnimationFrame(done))), quiet);
    };
    watch.observe(document, {subtree: true, childList: true, attributes: true, characterData: true});
    again();
})"""


_IS_INSIDE = "kind => Boolean(document.activeElement.closest(`.wb-${kind}`))"

# Where it was; or somewhere else, if what had the keyboard is no longer there.
_IS_BACK = "() => here === document.activeElement || !here.checkVisibility() || here.tabIndex < 0"

_AT = """() => {
    const one = document.activeElement, all = [...document.querySelectorAll('*')];
    return `${one.tagName.toLowerCase()} ${one.getAttribute('role') || one.type || ''} ${all.indexOf(one)}`;
}"""


class ExportedPage:
    """An exported file in a browser without network.

    Attributes
    ----------
    page
        Playwright's.
    errors : list of str
        What the page wrote to its console.
    requests : list of str
        Addresses that it asked for, the file itself left out.
    """

    def __init__(self, chrome: Any, path: Path, *, width: int = 1200, height: int = 900, dark: bool = False):
        self.context = chrome.new_context(offline=True)
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.page.on("request", lambda r: self.requests.append(r.url))
        self.load(path, width=width, height=height, dark=dark)

    def load(self, path: Path, *, width: int = 1200, height: int = 900, dark: bool = False) -> None:
        """Open a file afresh: nothing of what was open before is left but the browser's own tab."""
        self.page.goto("about:blank")
        self.errors.clear()
        self.requests.clear()
        self.page.set_viewport_size({"width": width, "height": height})
        self.page.emulate_media(color_scheme="dark" if dark else "light", reduced_motion="no-preference")
        self.page.goto(path.resolve().as_uri())
        self.page.wait_for_selector("html[data-wb-ready]", timeout=20_000)
        self.quiet()

    def quiet(self, ms: int = 150) -> None:
        """Wait until the page has not changed for so long."""
        self.page.evaluate(_QUIET, ms)

    @property
    def asked_for(self) -> list[str]:
        """Requests that left the page."""
        return [url for url in self.requests if not url.startswith(("blob:", "data:", "file:", "about:"))]

    def __enter__(self) -> ExportedPage:
        return self

    def __exit__(self, *exc: object) -> None:
        self.context.close()


class Exports:
    """What a suite exported, once, and one tab in which its tests open it one after the other."""

    def __init__(self, suite: PageSuite, chrome: Any, folder: Path):
        self.suite, self.chrome, self.folder = suite, chrome, folder
        self.paths: dict[int, Path] = {}
        self._tab: ExportedPage | None = None

    def path(self, n: int = 1) -> Path:
        """The file with the widget, `n` times."""
        if n not in self.paths:
            session = self.suite.new_session()
            try:
                self.paths[n] = self.suite.export(session, self.folder / f"page-{n}.html", n=n)
            finally:
                session.lane.close()
        return self.paths[n]

    def opened(self, *, n: int = 1, **how: Any) -> ExportedPage:
        """The file, opened afresh."""
        if self._tab is None:
            self._tab = ExportedPage(self.chrome, self.path(n), **how)
        else:
            self._tab.load(self.path(n), **how)
        return self._tab

    def close(self) -> None:
        """Close the tab."""
        if self._tab is not None:
            self._tab.context.close()


class PageSuite(WidgetTests):
    """Tests that hold for every widget on an exported page.

    Attributes
    ----------
    kind : str
        The widget's word in its class names: ``.wb-atlas``.
    labelled : str
        A component that the widget names, if it names any.
    most_stops : int
        How often Tab may stop in the widget; arrows reach the rest.
    """

    pytestmark = needs_browser
    kind = ""
    labelled = ""
    most_stops = 8

    def choose(self, widget: Any) -> None:
        """Select something else in a widget, given its locator, as a reader would."""
        raise NotImplementedError

    def reading(self, widget: Any) -> str:
        """What a widget says of what is selected, given its locator."""
        raise NotImplementedError

    def export(self, session: FakeSession, path: Path, *, n: int = 1) -> Path:
        """Write a page with the widget, `n` times."""
        from workbench.widgets import export

        widgets = [self.make(session) for _ in range(n)]
        export(widgets, path)
        for widget in widgets:
            widget.close()
        return path

    @contextlib.contextmanager
    def exported(self, chrome: Any, session: FakeSession, path: Path, *, n: int = 1, **how: Any) -> Iterator[Any]:
        """The widget, `n` times, as an opened page of its own: for tests with a session of their own."""
        with ExportedPage(chrome, self.export(session, path, n=n), **how) as opened:
            yield opened

    @pytest.fixture(scope="class")
    @classmethod
    def exports(cls, chrome: Any, tmp_path_factory: Any) -> Iterator[Exports]:
        """The widget on the suite's session, exported once for all tests of a class; each opens it afresh."""
        made = Exports(cls(), chrome, tmp_path_factory.mktemp("pages"))
        yield made
        made.close()

    @pytest.mark.parametrize("dark", [False, True])
    @pytest.mark.parametrize("width", [360, 600, 1200])
    def test_it_draws_without_network_and_fits(self, exports, dark, width):
        opened = exports.opened(width=width, dark=dark)
        page = opened.page
        assert page.locator(f'.wb-{self.kind}[data-theme="{"dark" if dark else "light"}"]').count() == 1
        assert page.locator(f".wb-{self.kind} .wb-word").inner_text().startswith("Saved ")
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
        assert opened.asked_for == [] and opened.errors == []

    @pytest.mark.parametrize("dark", [False, True])
    def test_axe_finds_nothing_serious(self, exports, dark):
        found = findings(exports.opened(dark=dark).page)
        assert found == [], "\n".join(found)

    def test_text_can_be_twice_as_large(self, exports):
        opened = exports.opened(width=900)
        opened.page.add_style_tag(content=".wb { font-size: 26px !important; }")
        opened.quiet()
        lost = opened.page.evaluate(
            """() => [...document.querySelectorAll('.wb :is(button, label, .wb-title, th, td)')]
                .filter(e => e.offsetParent && e.clientWidth > 4 && e.scrollWidth > e.clientWidth + 2
                    && getComputedStyle(e).overflowX === 'hidden'
                    && getComputedStyle(e).textOverflow !== 'ellipsis')
                .map(e => e.outerHTML.slice(0, 100))"""
        )
        assert lost == []
        assert opened.page.evaluate("() => document.documentElement.scrollWidth") <= 900

    def test_the_keyboard_enters_acts_and_leaves(self, exports):
        opened = exports.opened()
        page = opened.page
        page.keyboard.press("?")
        self._enter(page)
        page.keyboard.press("?")
        keys = page.locator(f'.wb-{self.kind} .wb-keys[aria-label="Keys"]')
        assert keys.is_visible() and keys.locator("dt").count() >= 2
        page.keyboard.press("Escape")
        assert keys.is_hidden() and page.evaluate(_IS_INSIDE, self.kind)
        stops = 1
        page.keyboard.press("Tab")
        while page.evaluate(_IS_INSIDE, self.kind):
            stops += 1
            assert stops <= self.most_stops, f"Tab stops more than {self.most_stops} times: {self._at(page)}"
            page.keyboard.press("Tab")
        assert opened.errors == []

    def test_escape_and_tab_leave_from_everywhere_and_tab_comes_back(self, exports):
        opened = exports.opened()
        page = opened.page
        self._enter(page)
        for stop in range(self.most_stops):
            here = self._at(page)
            page.evaluate("() => (window.here = document.activeElement)")
            for _ in range(4):  # some of them take the key to clear something first
                page.keyboard.press("Escape")
                if page.evaluate("() => document.activeElement.matches('.wb')"):
                    break
            page.keyboard.press("Tab")
            assert not page.evaluate(_IS_INSIDE, self.kind), f"Escape and Tab do not leave from {here}"
            page.keyboard.press("Shift+Tab")
            assert page.evaluate(_IS_INSIDE, self.kind), "Tab does not come back"
            if not stop:
                page.keyboard.press("Escape")
                page.keyboard.press("Shift+Tab")
                assert not page.evaluate(_IS_INSIDE, self.kind), "Escape and Shift-Tab do not leave"
                self._enter(page)
            assert page.evaluate(_IS_BACK), f"Tab does not come back to {here}"
            page.keyboard.press("Tab")
            if not page.evaluate(_IS_INSIDE, self.kind):
                break
        assert opened.errors == []

    def test_arrows_go_through_the_tools_which_are_one_stop(self, exports):
        page = exports.opened().page
        tools = page.evaluate(
            """kind => [...document.querySelectorAll(`.wb-${kind} .wb-tools :is(button, input, select)`)]
                .filter(e => e.tabIndex >= 0 && !e.disabled && e.checkVisibility()).length""",
            self.kind,
        )
        if not tools:
            return
        self._enter(page)
        seen = [self._at(page)]
        for _ in range(tools):
            page.keyboard.press("ArrowRight")
            seen.append(self._at(page))
        assert len(set(seen)) == tools and seen[-1] == seen[-2], seen
        page.keyboard.press("Tab")
        assert self._at(page) not in seen
        page.keyboard.press("Shift+Tab")
        assert self._at(page) == seen[-1], "tools remember where the keyboard was"
        for _ in range(tools):
            page.keyboard.press("ArrowLeft")
        assert self._at(page) == seen[0]

    def _enter(self, page: Any) -> None:
        steps = 0
        while not page.evaluate(_IS_INSIDE, self.kind):
            page.keyboard.press("Tab")
            steps += 1
            assert steps < 6, "Tab does not reach the widget"

    def _at(self, page: Any) -> str:
        """The element that has the keyboard, in words."""
        return str(page.evaluate(_AT))

    def test_reduced_motion_is_obeyed(self, exports):
        opened = exports.opened()
        opened.page.emulate_media(reduced_motion="reduce")
        moving = opened.page.evaluate(
            """() => [...document.querySelectorAll('.wb *')].filter(e =>
                parseFloat(getComputedStyle(e).animationDuration) > 0.01
                || parseFloat(getComputedStyle(e).transitionDuration) > 0.01).length"""
        )
        assert moving == 0

    def test_a_linked_pair_follows_without_kernel(self, exports):
        opened = exports.opened(n=2)
        left, right = opened.page.locator(f".wb-{self.kind}").all()
        before = self.reading(left)
        assert before == self.reading(right)
        self.choose(left)
        opened.quiet()
        assert before != self.reading(left) == self.reading(right)
        assert opened.errors == [] and opened.asked_for == []

    def test_hostile_text_is_text(self, chrome, tmp_path):
        session, label = FakeSession(classes=(HOSTILE, "b", "c")), HOSTILE.splitlines()[0]
        session.selection.set(component="bn2/unit/17", sample=3)
        for component in {"bn2/unit/17", self.labelled} - {""}:
            session.notes.put(component, label=label, note=HOSTILE)
        with self.exported(chrome, session, tmp_path / "page.html") as opened:
            assert opened.page.locator("img[src=x]").count() == 0 and opened.errors == []
            if self.labelled:
                assert label in opened.page.locator(f".wb-{self.kind}").inner_text()
        session.lane.close()
