"""Decisions are kept, never changed, taken back by another line, and counted where reviewers agree."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace

import pytest

from workbench.core.errors import BadValueError, UnknownNameError
from workbench.core.findings import Evidence, Finding, Findings
from workbench.session.decisions import DecisionBook, _kappa
from workbench.store import Store


def finding(subject=7, kind="group", method="m", **more):
    members = (subject,) if isinstance(subject, int) else ()
    return Finding(kind, subject, 0.5, method, "a reason", members=members, proposal="suspect", **more)


@pytest.fixture
def book(tmp_path):
    return DecisionBook(Store.open(tmp_path / "store"), lambda: ("data", "model"))


def again(book):
    return DecisionBook(book._keeper.disk, book._named)


def test_they_are_there_after_a_restart(book):
    made = book.add(finding(old="disc", recipe="abc"), "accepted", new="suspect", who="Ada", note="seen", tagged=[7])
    (found,) = again(book).all()
    assert found == made and found.when and found.reason == "a reason" and found.tagged == (7,)
    row = again(book).table().loc[made.id]
    assert row[["finding", "verdict", "old", "new", "who", "recipe"]].tolist() == [
        finding().id, "accepted", "disc", "suspect", "Ada", "abc",
    ]  # fmt: skip


def test_another_model_has_its_own(book):
    book.add(finding(), "rejected")
    assert DecisionBook(book._keeper.disk, lambda: ("data", "other")).all() == ()


def test_the_last_word_of_each_reviewer_counts(book):
    one = finding()
    book.add(one, "accepted", who="Ada")
    book.add(one, "unsure", who="Ada")
    book.add(one, "rejected", who="Bo")
    assert [(d.who, d.verdict) for d in book.of(one)] == [("Ada", "unsure"), ("Bo", "rejected")]
    assert len(book.history()) == 3
    undone = book.undo("Ada")
    assert undone.verdict == "unsure" and [d.verdict for d in book.of(one.id)] == ["accepted", "rejected"]
    book.undo("Ada")
    assert [d.who for d in again(book).all()] == ["Bo"] and book.undo("Ada") is None


def test_nothing_is_ever_taken_from_the_file(book):
    made = book.add(finding(), "accepted")
    path = book._path()
    before = path.read_bytes()
    book.undo(decision=made.id)
    after = path.read_bytes()
    assert after.startswith(before) and json.loads(after.splitlines()[-1])["undo"] == made.id
    with pytest.raises(UnknownNameError, match="No decision"):
        book.undo(decision=made.id)


def test_half_a_line_is_left_out_and_the_next_is_whole(book):
    book.add(finding(1), "accepted")
    path = book._path()
    path.write_bytes(path.read_bytes() + b'{"id": "12", "find')
    fresh = again(book)
    assert len(fresh.all()) == 1 and fresh.damaged() == 1
    fresh.add(finding(2), "rejected")
    assert [d.subject for d in again(book).all()] == [1, 2] and fresh.damaged() == 1


def test_two_books_of_one_store_see_each_other(book):
    other, heard = again(book), []
    book.listen(lambda: heard.append(1))
    threads = [
        threading.Thread(target=one.add, args=(finding(i), "accepted")) for i, one in enumerate([book, other] * 5)
    ]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert {d.subject for d in book.all()} == {d.subject for d in other.all()} == set(range(10)) and len(heard) == 5


def test_agreement_counts_those_who_are_sure():
    book = DecisionBook(None, lambda: ("d", "m"))
    verdicts = [("accepted", "accepted"), ("accepted", "rejected"), ("rejected", "rejected"), ("unsure", "rejected")]
    for i, pair in enumerate(verdicts):
        for who, verdict in zip("ab", pair, strict=True):
            book.add(finding(i), verdict, who=who)
    found = book.agreement()
    assert (found.n_both, found.n_agreed, found.disagreed) == (3, 2, (finding(1).id,))
    # By hand: two of three agree; chance is 2/3 * 1/3 + 1/3 * 2/3 = 4/9.
    assert found.kappa == pytest.approx((2 / 3 - 4 / 9) / (1 - 4 / 9))
    assert str(_kappa([])) == "nan" and str(_kappa([("a", "a")])) == "nan"


def test_samples_and_corrected_labels():
    book = DecisionBook(None, lambda: ("d", "m"))
    book.add(finding(3, "label"), "accepted", new="dog", who="a")
    book.add(finding(4, "label"), "accepted", new="cat", who="a")
    book.add(finding(4, "label"), "rejected", who="b")
    book.add(finding(9, "group"), "accepted", new="suspect")
    assert book.labels() == {3: "dog"} and book.samples("group") == (9,) and book.samples() == (3, 4, 9)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"verdict": "maybe"}, "verdict"),
        ({"who": "a\nb"}, "one line"),
        ({"who": "a" * 99}, "at most 80"),
        ({"note": 3}, "text"),
    ],
)
def test_what_is_refused(book, how, message):
    with pytest.raises(BadValueError, match=message):
        book.add(finding(), **{"verdict": "accepted", **how})
    assert book.all() == ()


def test_a_finding_keeps_its_id_and_comes_back_from_json():
    one = finding(evidence=(Evidence("text", (1, 2), ("a/unit/1",), (0.5,)),), counter=(Evidence("other"),))
    read = Finding.read(json.loads(json.dumps(one.as_json())))
    assert read == one and read.id == one.id and one.title == "sample 7"
    assert Finding("group", 7, 0.9, "m", "other words").id == one.id != finding(method="n").id
    both = Findings((one, finding("a/unit/3", "silent")), "a")
    assert both[one.id] is one and both.counts() == {"group": 1, "silent": 1} and len(both.of("silent")) == 1
    assert list(both.to_frame().index) == [f.id for f in both] and "1 silent" in repr(both)
    with pytest.raises(UnknownNameError):
        both["nothing"]
    with pytest.raises(BadValueError, match="No kind"):
        both.of("nothing")


def test_a_store_without_a_folder_keeps_them_in_memory():
    book = DecisionBook(SimpleNamespace(), lambda: ("d", "m"))
    book.add(finding(), "accepted")
    assert len(book.all()) == 1 and book.damaged() == 0
