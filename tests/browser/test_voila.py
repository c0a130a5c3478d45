"""Figures and widgets on Voila's page, without an error on its console."""

import pytest

from workbench.testing.browser import Voila, chromium, notebook

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(chromium() is None, reason="Chromium is not installed"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

CELLS = [
    "import workbench as wb\nfrom workbench.core.bars import Bars",
    "Bars('One', 'x', ['a', 'b'], {'before': [1, 2]}).plot()",
    "Bars('Two', 'x', ['a', 'b'], {'before': [2, 1]}).plot()",
    "from workbench.testing.fake_session import FakeSession\ns = FakeSession()",
    "wb.show(Bars('Three', 'x', ['a'], {'before': [3]}), wb.widgets.ComponentCard(s, component='bn2/unit/17'))",
]


def test_figures_are_drawn_and_nothing_is_on_the_console(chrome, tmp_path):
    with Voila(notebook(tmp_path / "figures.ipynb", *CELLS)) as voila:
        page = voila.open(chrome, timeout=120)
        page.locator(".wb-card .wb-ref[data-sample] canvas").first.wait_for(timeout=30_000)
        page.wait_for_function("() => document.querySelectorAll('.js-plotly-plot .main-svg').length >= 3")
        page.wait_for_timeout(1500)  # plotly turns what it has drawn into a picture
        titles = page.locator(".js-plotly-plot .gtitle").all_text_contents()
        assert sorted(titles) == ["One", "Three", "Two"] and page.problems == []
        page.context.close()
