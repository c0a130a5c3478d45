"""Sharing the selection: sets as positions, digests, nonsense from the page."""

import numpy as np
import pytest

from workbench.core.errors import BadValueError, StaleError
from workbench.testing.widget_suite import Page, lenient
from workbench.widgets import AtlasBrowser, linking, wire

SESSION = {"components": 500}


@pytest.fixture
def atlas(session):
    made = AtlasBrowser(session.atlas(), session=session)
    made.wait()
    yield made
    made.close()


def packed(positions, table="bn2/unit/", digest="fake-500"):
    return {"sets": [{"table": table, "digest": digest, "positions": wire.pack(np.asarray(positions, np.uint32))}]}


def test_few_members_travel_as_ids_and_many_as_positions_with_a_digest(atlas, session):
    page = Page(atlas)
    session.selection.components = [f"bn2/unit/{i}" for i in range(200)]
    assert page.heard[-1][1]["state"]["components"] == list(session.selection.components)
    session.selection.components = [f"bn2/unit/{i}" for i in range(499, 200, -1)]
    state, buffers = page.heard[-1][1]["state"]["components"], page.heard[-1][2]
    (one,) = state["sets"]
    assert (one["table"], one["digest"], one["positions"]["dtype"]) == ("bn2/unit/", "fake-500", "uint32")
    assert np.frombuffer(buffers[0], "<u4").tolist() == list(range(499, 200, -1))


def test_members_of_several_tables_keep_to_their_tables(atlas, session):
    mixed = [*(f"bn2/unit/{i}" for i in range(250)), *(f"blocks.4/unit/{i}" for i in range(40))]
    session.selection.components = mixed
    there_and_back = linking._from_json(linking._to_json(session.selection.components, atlas), atlas)
    assert set(there_and_back) == set(mixed)
    assert linking._from_json(linking._to_json(range(300), atlas), atlas) == tuple(range(300))


def test_positions_from_the_page_become_members(atlas, session):
    page = Page(atlas)
    page.say(components=packed(range(10, 260)))
    assert session.selection.components[:2] == ("bn2/unit/10", "bn2/unit/11") and len(atlas.selection) == 250
    # It was the page's own word: it is not sent back, only that it was heard.
    assert not any(
        "components" in (data or {}).get("state", {}) for _, data, _ in page.heard if data["method"] == "update"
    )


@pytest.mark.parametrize("wrong", [{"digest": "ffff"}, {"digest": ""}, {"table": "elsewhere/unit/"}])
def test_an_unknown_digest_is_refused_and_never_guessed(atlas, session, monkeypatch, wrong):
    session.selection.components = ["bn2/unit/1"]
    page = Page(atlas)
    with lenient(monkeypatch):
        page.say(components=packed(range(300), **wrong))
    assert session.selection.components == ("bn2/unit/1",)
    assert "another table" in atlas._problem["message"] and "run its cell again" in atlas._problem["hint"]
    back = [data["state"] for _, data, _ in page.heard if "components" in (data or {}).get("state", {})]
    assert back[-1]["components"] == ["bn2/unit/1"] and back[-1]["_seen"] == {"page": 1}
    with pytest.raises(StaleError):
        page.say(components=packed(range(300), **wrong))


@pytest.mark.parametrize(
    "said",
    [
        7,
        {"values": 3},
        {"page": 5, "number": 1, "values": {}},
        {"page": "a" * 100, "number": 1, "values": {}},
        {"page": "tab", "number": True, "values": {}},
        {"page": "tab", "number": "1", "values": {}},
    ],
)
def test_nonsense_from_the_page_is_refused(atlas, session, said):
    before = session.selection.as_dict()
    with pytest.raises(BadValueError):
        Page(atlas).put(_said=said)
    assert session.selection.as_dict() == before


def test_fields_that_a_widget_does_not_follow_are_not_set_through_it(atlas, session):
    Page(atlas).say(component="bn2/unit/3", sample=5)
    assert session.selection.component == "bn2/unit/3" and session.selection.sample is None
