"""Decisions on findings, kept in the store's folder beside the results, never pruned and never changed.

Like tags and pins they are people's own work. Each model and data set has a file, ``decisions/DATA-MODEL.jsonl``, to
which lines are added under one lock: a decision, or that one was undone. So nobody's verdict is lost, whoever comes
later; a process killed while it writes leaves half a line, which is left out.
"""

from __future__ import annotations

import datetime
import json
import logging
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.core import check
from workbench.core.errors import BadValueError, StoreError, UnknownNameError, WorkbenchError
from workbench.core.findings import KINDS
from workbench.session.keeper import Keeper
from workbench.store.files import BINARY, storing, write_all

if TYPE_CHECKING:
    import pandas as pd

    from workbench.core.findings import Finding
    from workbench.store import Store

__all__ = ["VERDICTS", "Agreement", "Decision", "DecisionBook", "decide", "undo"]

logger = logging.getLogger(__name__)

VERDICTS = ("accepted", "rejected", "unsure")
"""The finding is right; it is not; somebody else should look."""

_NAME_MOST, _NOTE_MOST = 80, 2000


@dataclass(frozen=True)
class Decision:
    """What a reviewer said of a finding.

    Attributes
    ----------
    id : str
        Twelve digits.
    finding : str
        The finding's id.
    kind, subject, reason : str, int or str, str
        Of the finding, so that decisions can be read without making it again.
    verdict : str
        One of `VERDICTS`.
    old, new : str
        What was there and what was put in its place: a label, or the tag that the samples got.
    who : str
        Empty for somebody who gave no name.
    when : str
        In UTC.
    recipe : str
        Digest of the stored result that the finding rested on.
    note : str
    members : tuple of int
        Samples that the verdict is about.
    tag : str
        The tag that they got; empty for none.
    tagged : tuple of int
        Those of them that had not had the tag before: undoing takes it from these alone.
    """

    id: str
    finding: str
    kind: str
    subject: int | str
    verdict: str
    old: str = ""
    new: str = ""
    who: str = ""
    when: str = ""
    recipe: str = ""
    note: str = ""
    reason: str = ""
    members: tuple[int, ...] = ()
    tag: str = ""
    tagged: tuple[int, ...] = ()


@dataclass(frozen=True)
class Agreement:
    """How far reviewers agree on findings that several of them decided.

    Attributes
    ----------
    n_both : int
        Findings that at least two reviewers decided, one way or the other.
    n_agreed : int
        Those of them on which all say the same.
    kappa : float
        Cohen's, of the first two reviewers of each finding: 0 is chance, 1 is full agreement; NaN where it says
        nothing.
    disagreed : tuple of str
        Findings on which they differ.
    """

    n_both: int
    n_agreed: int
    kappa: float
    disagreed: tuple[str, ...]


class DecisionBook:
    """Decisions on the findings of one model and data set; in memory where the store has no folder.

    Parameters
    ----------
    store : Store or None
    named : callable
        Gives the digests that they belong to, data first.

    Examples
    --------
    >>> s.decide(finding, "accepted", who="Ada")  # doctest: +SKIP
    >>> s.decisions.table()  # doctest: +SKIP
    """

    def __init__(self, store: Store | None, named: Callable[[], Sequence[str]]):
        self._keeper = Keeper(store, "decisions")
        self._named = named
        self._here: list[dict[str, Any]] = []
        self._read: tuple[Any, list[dict[str, Any]], int] | None = None
        self._listeners: list[Callable[[], None]] = []

    # What there is ----------------------------------------------------------------------------------------------------

    def all(self) -> tuple[Decision, ...]:
        """Decisions that stand, oldest first: the last of each reviewer on each finding, without those undone."""
        latest: dict[tuple[str, str], Decision] = {}
        for one in self.history():
            latest.pop((one.finding, one.who), None)  # so that the newest comes last
            latest[one.finding, one.who] = one
        return tuple(latest.values())

    def history(self) -> tuple[Decision, ...]:
        """All decisions that were not undone, oldest first."""
        events = self._events()
        gone = {event["undo"] for event in events if "undo" in event}
        return tuple(_decision(event) for event in events if "undo" not in event and event["id"] not in gone)

    def of(self, finding: Finding | str) -> tuple[Decision, ...]:
        """What reviewers say of a finding, oldest first."""
        wanted = finding if isinstance(finding, str) else finding.id
        return tuple(one for one in self.all() if one.finding == wanted)

    def verdicts(self) -> dict[str, tuple[Decision, ...]]:
        """Decisions that stand, by finding."""
        found: dict[str, tuple[Decision, ...]] = {}
        for one in self.all():
            found[one.finding] = (*found.get(one.finding, ()), one)
        return found

    def agreement(self) -> Agreement:
        """How far reviewers agree; who is unsure does not count."""
        pairs, agreed, disagreed = [], 0, []
        for finding, given in self.verdicts().items():
            sure = [one.verdict for one in given if one.verdict != "unsure"]
            if len(sure) < 2:
                continue
            pairs.append((sure[0], sure[1]))
            if len(set(sure)) == 1:
                agreed += 1
            else:
                disagreed.append(finding)
        return Agreement(len(pairs), agreed, _kappa(pairs), tuple(disagreed))

    def labels(self) -> dict[int, str]:
        """Corrected labels by sample, the newest of each; samples on which reviewers differ are left out."""
        split, found = set(self.agreement().disagreed), {}
        for one in self.all():
            if one.kind == "label" and one.verdict == "accepted" and one.new and one.finding not in split:
                found[int(one.subject)] = one.new
        return found

    def samples(self, *kinds: str) -> tuple[int, ...]:
        """Samples of accepted findings, rising; of some kinds alone if any are named."""
        chosen = (one for one in self.all() if one.verdict == "accepted" and (not kinds or one.kind in kinds))
        return tuple(sorted({i for one in chosen for i in one.members}))

    def table(self) -> pd.DataFrame:
        """Decisions that stand as a frame, newest first: id as index; finding, kind, subject, verdict, old, new, …"""
        import pandas as pd

        columns = ["finding", "kind", "subject", "verdict", "old", "new", "who", "when", "recipe", "note", "reason"]
        found = self.all()[::-1]
        rows = [{name: getattr(one, name) for name in columns} for one in found]
        index = pd.Index([one.id for one in found], name="id", dtype=object)
        return pd.DataFrame(rows, index=index, columns=columns)

    def damaged(self) -> int:
        """Lines of the file that cannot be read, and are left out."""
        self._events()
        return 0 if self._read is None else self._read[2]

    def listen(self, call: Callable[[], None]) -> Callable[[], None]:
        """Call `call()` after each change made in this session; returns a function that ends it."""
        self._listeners.append(call)
        return lambda: self._listeners.remove(call)

    # Changes ----------------------------------------------------------------------------------------------------------

    def add(
        self,
        finding: Finding,
        verdict: str,
        *,
        new: str = "",
        who: str = "",
        note: str = "",
        old: str | None = None,
        tag: str = "",
        tagged: Sequence[int] = (),
    ) -> Decision:
        """Keep a verdict; it takes the place of what the same reviewer said of the finding before.

        Raises
        ------
        BadValueError
            If the verdict is none, or a text is too long.
        ReadOnlyStoreError
            If the store may not be written.
        """
        check.one_of("verdict", verdict, VERDICTS)
        made = Decision(
            id=secrets.token_hex(6),
            finding=finding.id,
            kind=finding.kind,
            subject=finding.subject,
            verdict=verdict,
            old=finding.old if old is None else old,
            new=_text("new", new, _NAME_MOST * 3),
            who=reviewer(who),
            when=_now(),
            recipe=finding.recipe,
            note=_text("note", note, _NOTE_MOST),
            reason=finding.reason,
            members=tuple(int(i) for i in finding.members),
            tag=tag,
            tagged=tuple(int(i) for i in tagged),
        )
        self._append({**asdict(made), "members": list(made.members), "tagged": list(made.tagged)})
        return made

    def undo(self, who: str = "", *, decision: str | None = None) -> Decision | None:
        """Take back the last decision of a reviewer, or one by its id; returns it, None if there is none.

        The line stays in the file, with another that says who took it back and when.

        Raises
        ------
        UnknownNameError
            If no decision that stands has the id.
        """
        who = reviewer(who)
        with self._keeper.lock:
            if decision is None:
                own = [one for one in self.history() if one.who == who]
                found = own[-1] if own else None
            else:
                found = next((one for one in self.history() if one.id == decision), None)
                if found is None:
                    raise UnknownNameError(
                        f"No decision {decision!r}.", hint="`s.decisions.table()` lists all; it may be undone."
                    )
            if found is not None:
                self._append({"undo": found.id, "who": who, "when": _now()})
        return found

    # Inside -----------------------------------------------------------------------------------------------------------

    def _path(self) -> Path | None:
        folder = self._keeper.folder
        return None if folder is None else folder / f"{'-'.join(self._named())}.jsonl"

    def _append(self, event: dict[str, Any]) -> None:
        key = "-".join(self._named())
        with self._keeper.changing(key, what="the decisions") as folder:
            if folder is None:
                self._here.append(event)
            else:
                _add_line(folder / f"{key}.jsonl", json.dumps(event, ensure_ascii=True).encode())
        for call in list(self._listeners):
            call()

    def _events(self) -> list[dict[str, Any]]:
        path = self._path()
        if path is None:
            with self._keeper.lock:
                return list(self._here)
        with self._keeper.lock:
            try:
                facts = path.stat()
                seen = facts.st_mtime_ns, facts.st_size, facts.st_ino
                if self._read is None or self._read[0] != seen:
                    self._read = (seen, *_parsed(path))
                return list(self._read[1])
            except FileNotFoundError:
                return []
            except OSError as error:
                raise StoreError(f"The decisions cannot be read: {path}: {error}.") from error


def decide(
    session: Any, finding: Finding, verdict: str, *, new: str | None = None, who: str = "", note: str = ""
) -> Decision:
    """See `Session.decide`; for whatever has `data`, `notes` and `decisions` as a session has."""
    check.one_of("verdict", verdict, VERDICTS)
    who = reviewer(who)
    is_accepted, given = verdict == "accepted", None if new is None else new.strip()
    if not finding.is_of_sample:
        old = session.notes.of(finding.subject).label
        put = given or "" if is_accepted else ""
        if put:
            session.notes.put(finding.subject, label=put)
        try:
            return session.decisions.add(finding, verdict, new=put, who=who, note=note, old=old if put else None)
        except WorkbenchError:
            if put:
                session.notes.put(finding.subject, label=old)
            raise
    put = (finding.proposal if given is None else given) if is_accepted else ""
    if finding.kind == "label" and put and session.data.classes:
        check.known("class", put, session.data.classes, hint="A corrected label is one that the data has.")
    tag = KINDS["label"].proposal if finding.kind == "label" and put else put
    fresh: list[int] = []
    if tag:
        had = set(session.data.tagged().get(tag, ()))
        fresh = [i for i in finding.members if i not in had]
        if fresh:
            session.data.tag(tag, fresh)
    try:
        return session.decisions.add(finding, verdict, new=put, who=who, note=note, tag=tag, tagged=fresh)
    except WorkbenchError:
        if fresh:
            session.data.untag(tag, fresh)
        raise


def undo(session: Any, who: str = "", *, decision: str | None = None) -> Decision | None:
    """See `Session.undo_decision`."""
    found = session.decisions.undo(who, decision=decision)
    if found is None:
        return None
    if isinstance(found.subject, str):
        if found.new and session.notes.of(found.subject).label == found.new:
            session.notes.put(found.subject, label=found.old)
    elif found.tagged:
        # A sample keeps the tag if another decision that stands gave it, too.
        others = {i for one in session.decisions.all() if one.tag == found.tag for i in one.members}
        has = session.data.tagged().get(found.tag, ())
        if gone := [i for i in found.tagged if i not in others and i in has]:
            session.data.untag(found.tag, gone)
    return found


def reviewer(who: Any) -> str:
    """A reviewer's name, checked."""
    name = _text("who", who, _NAME_MOST)
    if len(name.splitlines()) > 1:
        raise BadValueError("A reviewer's name is one line.")
    return name


def _add_line(path: Path, line: bytes) -> None:
    """Add a line to a file; what a killed process left of another becomes a line of its own."""
    with storing(path, len(line)):
        path.parent.mkdir(parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | BINARY, 0o666)
        try:
            if (end := os.lseek(fd, 0, os.SEEK_END)) > 0:
                os.lseek(fd, end - 1, os.SEEK_SET)
                if os.read(fd, 1) != b"\n":
                    line = b"\n" + line
            write_all(fd, line + b"\n")
            os.fsync(fd)
        finally:
            os.close(fd)


def _parsed(path: Path) -> tuple[list[dict[str, Any]], int]:
    """Events of a file, and how many lines are none."""
    events, bad = [], 0
    for line in path.read_bytes().split(b"\n"):
        if not line.strip():
            continue
        try:
            event = json.loads(line)
            if "undo" not in event:
                _decision(event)
            events.append(event)
        except (ValueError, TypeError, KeyError):
            bad += 1
    if bad:
        logger.warning("%d of %d lines of %s cannot be read and are left out.", bad, bad + len(events), path)
    return events, bad


def _decision(event: dict[str, Any]) -> Decision:
    known = {one.name for one in fields(Decision)}
    own: dict[str, Any] = {}
    for name, value in event.items():
        if name in known:
            own[name] = tuple(value) if isinstance(value, list) else value
    return Decision(**own)


def _kappa(pairs: Sequence[tuple[str, str]]) -> float:
    """Cohen's kappa of pairs of verdicts."""
    if not pairs:
        return float("nan")
    n = len(pairs)
    seen = sum(a == b for a, b in pairs) / n
    names = {name for pair in pairs for name in pair}
    chance = sum((sum(a == k for a, _ in pairs) / n) * (sum(b == k for _, b in pairs) / n) for k in names)
    return (seen - chance) / (1 - chance) if chance < 1 else float("nan")


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")


def _text(what: str, text: Any, most: int) -> str:
    if not isinstance(text, str):
        raise BadValueError(f"`{what}` is text; got {type(text).__name__}.")
    text = text.strip()
    if len(text) > most:
        raise BadValueError(f"`{what}` has at most {most} characters; this one has {len(text)}.")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadValueError(f"`{what}` cannot be written: it holds half a character.") from error
    return text
