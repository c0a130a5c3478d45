"""SampleGrid: the contract, filter, order and groups, choosing, tags; on a page with mouse and keyboard."""

import pytest

from workbench.testing.browser import chromium
from workbench.testing.page_suite import PageSuite
from workbench.testing.widget_suite import WidgetSuite
from workbench.widgets import SampleGrid

needs_browser = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="Chromium is not installed"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


class TestContract(WidgetSuite):
    fails = "samples"
    n_bytes = 20_000
    changes = {
        "filter": "circle -tag:odd",
        "sort": "name",
        "ascending": False,
        "group_by": "label",
        "overlay": ["prediction"],
        "tile": 64,
    }

    def make(self, session, **view):
        return SampleGrid(session, **view)


class TestPage(PageSuite):
    pytestmark = needs_browser
    kind = "samples"

    def make(self, session, **view):
        session.data.tag("<i>odd</i>", [1, 3, 5])
        made = SampleGrid(session, **view)
        made.wait()
        return made

    def choose(self, widget):
        widget.locator(".wb-sg-cell").nth(5).click()

    def reading(self, widget):
        return widget.locator(".wb-note").inner_text()
