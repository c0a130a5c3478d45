"""The selection: checks, origin and counter, echoes, threads."""

import subprocess
import sys
import threading

import pytest

from workbench.core.errors import BadValueError, UnknownComponentError, UnknownNameError, UnknownSampleError
from workbench.core.ids import ComponentId
from workbench.session.selection import FIELDS, Selection


def component(value):
    address = ComponentId.parse(value)
    if address.layer != "bn2" or address.index >= 5:
        raise UnknownComponentError(f"No component {address}.", hint='Nearest: "bn2/unit/4".')
    return str(address)


def sample(value):
    if value not in range(7):
        raise UnknownSampleError(f"No sample {value}.", hint="There are 7.")
    return int(value)


@pytest.fixture
def selection():
    return Selection(component=component, sample=sample)


def test_fields_are_brought_to_their_normal_form(selection):
    selection.component = "bn2/3"
    selection.sample = 4
    selection.components = ["bn2/1", "bn2/unit/1", "bn2/2"]
    selection.samples = {6}
    selection.region = {"x": 0, "y": 0.5, "width": 0.25, "height": 0.5}
    selection.hover = "bn2/0"
    assert selection.as_dict() == {
        "component": "bn2/unit/3",
        "sample": 4,
        "target": None,
        "region": {"x": 0.0, "y": 0.5, "width": 0.25, "height": 0.5},
        "components": ["bn2/unit/1", "bn2/unit/2"],
        "samples": [6],
        "hover": "bn2/unit/0",
    }
    assert repr(selection) == "<selection: component bn2/unit/3, sample 4, 2 components, 1 samples>"


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("component", "bn2/unit/5", UnknownComponentError),
        ("component", "nonsense", UnknownComponentError),
        ("sample", 7, UnknownSampleError),
        ("samples", [1, 99], UnknownSampleError),
        ("target", 3, BadValueError),
        ("region", {"x": 0}, BadValueError),
        ("region", {"x": 0, "y": 0, "width": 2, "height": 1}, BadValueError),
    ],
)
def test_what_does_not_exist_is_refused_and_nothing_changes(selection, field, value, error):
    selection.set(component="bn2/unit/1", sample=2)
    before, seen = selection.as_dict(), []
    selection.observe(seen.append)
    with pytest.raises(error):
        setattr(selection, field, value)
    with pytest.raises(error):
        selection.set(**{"component": "bn2/unit/2", "hover": 3, field: value})
    assert selection.as_dict() == before and seen == []


def test_an_unknown_field_names_the_nearest(selection):
    with pytest.raises(UnknownNameError, match='Nearest: "sample"'):
        selection.set(sampel=3)


def test_changes_carry_origin_and_counter(selection):
    assert selection.set(origin="atlas", component="bn2/unit/1", sample=3)
    assert (selection.origin, selection.counter) == ("atlas", 2)
    selection.component = "bn2/unit/2"
    assert (selection.origin, selection.counter) == ("", 3)
    assert not selection.set(origin="card", component="bn2/unit/2")
    assert (selection.origin, selection.counter) == ("", 3)


def test_observers_see_the_origin_of_the_change(selection):
    seen = []
    selection.observe(lambda change: seen.append((change["new"], selection.origin)), names="component")
    selection.set(origin="atlas", component="bn2/unit/1")
    selection.component = None
    assert seen == [("bn2/unit/1", "atlas"), (None, "")]


def test_what_a_page_said_before_is_no_news(selection):
    assert selection.hear("left", 2, ["component", "sample"]) == ["component", "sample"]
    assert selection.hear("left", 1, ["component", "target"]) == ["target"]
    assert selection.hear("right", 1, ["component"]) == ["component"]
    assert selection.heard == {"left": 2, "right": 1}
    for i in range(70):
        selection.hear(f"tab-{i}", i + 1, ["sample"])
    assert len(selection.heard) == 64 and selection.heard["tab-69"] == 70


def test_selections_are_told_apart_and_know_their_tables():
    one, other = Selection(), Selection(tables=lambda: {"bn2/unit/": "3f9a"})
    assert one.key != other.key and one.tables == {} and other.tables == {"bn2/unit/": "3f9a"}


def test_hovering_is_wanted_while_someone_observes_it(selection):
    seen = []
    selection.observe(seen.append, names=["component"])
    assert not selection.wants_hover
    selection.observe(seen.append, names="hover")
    selection.observe(print)
    assert selection.wants_hover
    selection.unobserve(seen.append, names="hover")
    assert selection.wants_hover
    selection.unobserve(print)
    assert not selection.wants_hover


def test_hovering_is_heard_of_with_its_page_and_without_being_asked_for(selection):
    seen = []
    undo = selection.on_hover(lambda target, page: seen.append((target, page)))
    assert not selection.wants_hover
    selection.hover = 3
    selection.set(hover="bn2/unit/4", page="left")
    selection.set(hover="bn2/unit/4", page="right")  # no change
    selection.hover = None
    undo()
    selection.hover = 5
    assert seen == [(3, ""), ("bn2/unit/4", "left"), (None, "")]


def test_linked_selections_do_not_ring(selection):
    other, rounds = Selection(), []

    def link(a, b):
        def follow(change):
            rounds.append(1)
            b.set(origin="link", component=change["new"])

        a.observe(follow, names="component")

    link(selection, other)
    link(other, selection)
    selection.component = "bn2/unit/4"
    assert other.component == "bn2/unit/4" and len(rounds) == 2


def test_an_observer_may_select_in_turn(selection):
    selection.observe(lambda change: selection.set(sample=2), names="counter")
    selection.component = "bn2/unit/1"
    assert (selection.component, selection.sample) == ("bn2/unit/1", 2)


def test_threads_do_not_lose_counts(selection):
    def work(i):
        for n in range(50):
            selection.set(origin=f"t{i}", sample=(n + i) % 7)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert selection.sample in range(7) and 50 <= selection._count <= 200


def test_nothing_heavy_is_imported():
    code = "import sys, workbench.session.selection, workbench.session.lane, workbench.session.deliver as d;"
    code += "assert not {'torch', 'ipywidgets', 'pandas', 'IPython'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
    assert "component" in FIELDS
