"""The session that tests of widgets stand on: generated arrays, no model."""

from __future__ import annotations

import pytest

from workbench.testing.fake_session import FakeSession


@pytest.fixture
def session(request):
    """A fresh session; a module's SESSION holds options of its own, and SELECTED what is selected in it."""
    made = FakeSession(**getattr(request.module, "SESSION", {}))
    if selected := getattr(request.module, "SELECTED", {}):
        made.selection.set(**selected)
    yield made
    made.lane.close()
