"""The journal: pins kept, ordered, edited, removed and brought back; never lost between processes and crashes."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest

from workbench.core.errors import BadValueError, ReadOnlyStoreError, StoreError, StoreFullError, UnknownNameError
from workbench.session.journal import PinBook
from workbench.session.pins import PinnedStill, new_pin
from workbench.session.session import _call_of
from workbench.store import MemoryStore, Store
from workbench.testing.small import CLASSES, small_net

STILL = PinnedStill("<div>" + "x" * 50_000 + "</div>", bytes(range(256)) * 300)
NAMES = ["<img src=x onerror=alert(1)>", 'a "quoted"\nname', "../../up", "Füße 🦶", "\x00\t", ""]


def pin_of(i=0, **facts):
    return new_pin(**{"title": f"Pin {i}", "note": f"note {i}", "widget": "Thing", "still": STILL, **facts})


def book_at(path, *, model="a" * 32, **options):
    return PinBook(Store.open(path, **options), lambda: ("d" * 32, model), lambda: {"model": model[:8], "data": "d"})


@pytest.fixture
def book(tmp_path):
    return book_at(tmp_path)


def titles(book):
    return [pin.title for pin in book.pins()]


def test_a_pin_is_found_again_another_day_with_all_that_it_holds(book, tmp_path):
    assert book.pins() == () and book.removed() == 0 and book.undo() is None
    state, recipe = {"widget": "Thing", "layer": "bn2", "box": [1.5, None]}, {"model": "aaaaaaaa", "results": ["1f"]}
    pin = book.add(pin_of(state=state, recipe=recipe, code="wb.widgets.Thing(s)", text="A thing"))
    (found,) = book_at(tmp_path).pins()
    assert found == pin and found.still == STILL and found.png == STILL.png and found.html == STILL.html
    assert found.state == state and found.recipe == recipe and found.made_with == {"model": "aaaaaaaa"}
    assert found.time.endswith("Z") and found.is_saved and "Pin 0" in repr(found)
    state["layer"] = "another"
    assert pin.state["layer"] == "bn2"


def test_any_text_is_plain_text(book, tmp_path):
    for name in NAMES:
        book.add(pin_of(title=name, note=name, code=name))
    assert [pin.note for pin in book_at(tmp_path).pins()] == NAMES
    assert titles(book)[:-1] == NAMES[:-1] and titles(book)[-1] == "Thing", "without a title it is called by its kind"


@pytest.mark.parametrize("facts", [{"note": "\ud800"}, {"note": 3}, {"title": "x" * 301}, {"note": "x" * 20_001}])
def test_texts_that_cannot_be_kept(book, facts):
    with pytest.raises(BadValueError, match="of a pin|of the pin"):
        pin_of(**facts)
    pin = book.add(pin_of())
    with pytest.raises(BadValueError):
        book.edit(pin, **facts)
    assert book.pins() == (pin,)


@pytest.mark.parametrize("state", [{"a": object()}, {"a": float("nan")}, {"a": "x" * 8_000_001}])
def test_states_that_cannot_be_kept(state):
    with pytest.raises(BadValueError, match="The state of a pin"):
        pin_of(state=state)


def test_order_notes_removal_and_undo(book, tmp_path):
    pins = [book.add(pin_of(i)) for i in range(4)]
    other = book_at(tmp_path)
    book.move(pins[3], by=-1)
    book.move(pins[0].id, by=1)
    other.move(pins[3], to=0)
    assert titles(book) == titles(other) == ["Pin 3", "Pin 1", "Pin 0", "Pin 2"]
    book.move(pins[3], by=-5)
    book.move(pins[2], by=+5)
    assert titles(book) == ["Pin 3", "Pin 1", "Pin 0", "Pin 2"]
    assert book.edit(pins[1], note="better").note == "better" and other.find(pins[1].id).note == "better"
    assert other.edit(pins[1], title="New").title == "New"
    book.remove(pins[1])
    book.remove(pins[3])
    assert titles(other) == ["Pin 0", "Pin 2"] and other.removed() == 2
    for call in (other.find, other.remove, other.move, other.edit):
        with pytest.raises(UnknownNameError, match="No pin"):
            call(pins[1])
    assert other.undo().id == pins[3].id and book.undo().note == "better" and book.undo() is None
    assert titles(book_at(tmp_path)) == ["Pin 3", "New", "Pin 0", "Pin 2"]
    assert book.find(pins[1]).still == STILL


def test_of_what_was_removed_long_ago_nothing_is_left(book):
    for i in range(23):
        book.remove(book.add(pin_of(i)))
    assert book.removed() == 20
    names = [path.name for path in book._folder().iterdir()]
    assert len(names) == 2 * 20 + 1
    assert [book.undo().title for _ in range(20)] == [f"Pin {i}" for i in range(22, 2, -1)]


def test_who_listens_hears_of_each_change(book):
    heard = []
    undo = book.listen(lambda: heard.append(len(book.pins())))
    pin = book.add(pin_of())
    book.edit(pin, note="n")
    book.move(pin, by=1)
    book.remove(pin)
    book.undo()
    assert heard == [1, 1, 1, 0, 1]
    undo()
    book.remove(pin)
    assert len(heard) == 5


def test_pins_of_other_models_are_seen_and_not_changed(book, tmp_path):
    pin = book.add(pin_of(recipe={"model": "aaaaaaaa", "data": "d"}))
    other = book_at(tmp_path, model="b" * 32)
    assert other.pins() == () and other.others() == (pin,) and other.find(pin.id) == pin
    assert pin.differences(book.made_with()) == []
    (why,) = pin.differences(other.made_with())
    assert "another model: aaaaaaaa, and here it is bbbbbbbb" in why
    for call in (other.remove, other.move, other.edit):
        with pytest.raises(BadValueError, match="another model"):
            call(pin)
    assert book.pins() == (pin,) and book.others() == ()


def test_a_session_has_one_and_finds_its_pins_again(open_small):
    one = open_small()
    pin = one.journal.add(pin_of())
    assert open_small().journal.pins() == (pin,)
    assert open_small(small_net(n_classes=5), classes=list("vwxyz")).journal.pins() == ()
    assert open_small(data=False).journal.others() == (pin,)
    assert one.variant("same", []).journal.pins() == (pin,)
    one.store.prune(max_bytes=0)
    one.store.clean(everything=True)
    assert one.journal.pins() == (pin,) and one.journal.find(pin).still == STILL


def test_the_call_that_opened_a_session_is_told(open_small, tmp_path):
    assert _call_of("toy-cnn", data="toy", store=tmp_path, device=None) == (
        f"wb.open_session('toy-cnn', data='toy', store={str(tmp_path)!r})"
    )
    one = open_small()
    names, path = list(CLASSES), str(one.store.path)
    told = f"wb.open_session(model, data=data, transform=transform, classes={names}, store={path!r})"
    assert one.opened_by == told and one.variant("x", []).opened_by == f"{told}.variant('x', edits)"
    assert _call_of(None, store=MemoryStore(), classes=np.array(["a"])) == (
        "wb.open_session(model, store=store, classes=classes)"
    )


def test_a_read_only_store_says_so_and_the_pin_stays_in_memory(book, tmp_path):
    saved = book.add(pin_of(0))
    locked = book_at(tmp_path, read_only=True)
    for i in (1, 2):
        with pytest.raises(ReadOnlyStoreError, match="kept until this session ends.*read-only") as error:
            locked.add(pin_of(i))
        assert "to_notebook" in error.value.hint
    assert titles(locked) == ["Pin 0", "Pin 1", "Pin 2"]
    _, one, two = locked.pins()
    assert (one.is_saved, saved.is_saved) == (False, True) and one.still == STILL
    locked.move(two, by=-1)
    locked.edit(two, note="mine")
    assert [pin.note for pin in locked.pins()] == ["note 0", "mine", "note 1"]
    locked.remove(two)
    assert titles(locked) == ["Pin 0", "Pin 1"] and locked.undo().note == "mine"
    for call in (lambda: locked.remove(saved), lambda: locked.edit(saved, note="x"), lambda: locked.move(saved, by=1)):
        with pytest.raises(ReadOnlyStoreError):
            call()
    assert titles(book) == ["Pin 0"]


def test_what_could_not_be_written_is_written_with_the_next(book, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreFullError, match="kept until this session ends"):
        book.add(pin_of(0))
    monkeypatch.undo()
    assert titles(book) == ["Pin 0"] and titles(book_at(tmp_path)) == []
    assert not list(book._folder().glob("*"))
    book.add(pin_of(1))
    assert titles(book) == titles(book_at(tmp_path)) == ["Pin 0", "Pin 1"] and all(pin.is_saved for pin in book.pins())
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(StoreFullError):
        book.add(pin_of(2))
    monkeypatch.undo()
    assert book.save() == 1 and book.save() == 0 and titles(book_at(tmp_path)) == ["Pin 0", "Pin 1", "Pin 2"]


def test_a_store_in_memory_keeps_them_as_long():
    book = PinBook(MemoryStore(), lambda: ("d", "m"), dict)
    one, two = book.add(pin_of(1)), book.add(pin_of(2))
    book.move(two, by=-1)
    book.remove(one)
    assert titles(book) == ["Pin 2"] and book.undo() == one and titles(book) == ["Pin 2", "Pin 1"] and book.save() == 0


def test_a_damaged_pin_is_left_out_and_named(book, caplog):
    one, two = book.add(pin_of(1)), book.add(pin_of(2))
    path = book._folder() / f"{one.id}.json"
    good = path.read_text()
    path.write_text(good.replace("note 1", "note X"))
    assert titles(book) == ["Pin 2"] and book.damaged() == (path,) and "left out" in caplog.text
    book.edit(two, note="x")
    assert path.exists()
    path.write_text(json.dumps({**json.loads(good), "id": "../order"}))
    assert titles(book) == ["Pin 2"]
    path.write_text(good)
    assert titles(book) == ["Pin 1", "Pin 2"] and book.damaged() == ()


def test_a_damaged_still_leaves_the_words(book):
    pin = book.add(pin_of())
    path = book._folder() / f"{pin.id}.still.json"
    path.write_text(path.read_text()[:500])
    (found,) = book_at(book._keeper.disk.path).pins()
    assert found.note == "note 0"
    with pytest.raises(StoreError, match="picture of pin .* cannot be read"):
        found.png
    path.unlink()
    with pytest.raises(StoreError, match="picture of pin"):
        found.html


def test_a_lost_order_is_that_of_time(book, caplog):
    pins = []
    for i in range(3):
        pins.append(book.add(pin_of(i)))
        time.sleep(0.002)
    book.move(pins[2], to=0)
    (book._folder() / "order.json").write_text("{")
    assert titles(book) == ["Pin 0", "Pin 1", "Pin 2"] and "order of the journal is lost" in caplog.text
    book.move(pins[2], to=0)
    assert titles(book) == ["Pin 2", "Pin 0", "Pin 1"]


def _pin_many(path, name, start, n=12):
    book = book_at(path)
    start.wait()
    mine = [book.add(pin_of(title=name, note=str(i))) for i in range(n)]
    book.move(mine[-1], to=0)
    book.edit(mine[0], note="edited")
    book.remove(mine[1])


def _check_many(path, names, n=12):
    pins = book_at(path).pins()
    assert len(pins) == len(names) * (n - 1) and all(pin.still == STILL for pin in pins)
    for name in names:
        notes = [pin.note for pin in pins if pin.title == name]
        assert notes == [str(n - 1), "edited", *map(str, range(2, n - 1))]


@pytest.mark.parametrize(("names", "are_processes"), [("ab", True), ("abc", False)])
def test_processes_and_threads_do_not_lose_each_others(tmp_path, at_once, names, are_processes):
    at_once(_pin_many, tmp_path, names, are_processes=are_processes)
    _check_many(tmp_path, names)


def _pin_until_killed(path, told, after):
    """Pin on; at the n-th rename of a file, die as from a power cut."""
    book, count, real = book_at(path), 0, os.replace

    def replace(*args):
        nonlocal count
        count += 1
        if count == after:
            os.kill(os.getpid(), signal.SIGKILL)
        real(*args)

    os.replace = replace
    for i in range(100):
        book.add(pin_of(i))
        told.send(i)


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL")
@pytest.mark.parametrize("after", [5, 6, 7])
def test_a_kill_leaves_whole_pins_and_an_open_lock(tmp_path, after):
    """Three renames a pin after the store's own: whatever is cut, what was told is there, and no pin is half."""
    context = multiprocessing.get_context("spawn")
    told, mine = context.Pipe(duplex=False)
    worker = context.Process(target=_pin_until_killed, args=(str(tmp_path), mine, after))
    worker.start()
    mine.close()
    worker.join(60)
    assert worker.exitcode == -signal.SIGKILL
    n = 0
    while told.poll():
        try:
            n = told.recv() + 1
        except EOFError:
            break
    book = book_at(tmp_path)
    found = titles(book)
    assert found in ([f"Pin {i}" for i in range(n)], [f"Pin {i}" for i in range(n + 1)])
    assert all(pin.still == STILL for pin in book.pins())
    book.add(pin_of("after"))
    assert titles(book) == [*found, "Pin after"]
    stills = {path.name.split(".")[0] for path in book._folder().glob("*.still.json")}
    assert stills == {pin.id for pin in book.pins()}
    book._keeper.disk.clean(everything=True)
    assert not list(book._folder().glob(".tmp-*"))


def test_a_hundred_pins_are_listed_and_edited_quickly(book, tmp_path):
    for i in range(100):
        book.add(pin_of(i))
    other = book_at(tmp_path)
    started = time.perf_counter()
    pins = other.pins()
    listed = time.perf_counter() - started
    started = time.perf_counter()
    other.edit(pins[50], note="new")
    edited = time.perf_counter() - started
    assert listed < 0.5 and edited < 0.5, (listed, edited)
