"""Findings: what deserves a human look, each with its reason, what speaks for it and what against it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

from workbench.core.errors import BadValueError, UnknownNameError

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KINDS", "Evidence", "Finding", "Findings", "Kind"]


@dataclass(frozen=True)
class Kind:
    """A kind of findings: a queue of its own.

    Attributes
    ----------
    title : str
        What the queue is called.
    question : str
        What a reviewer answers with yes or no.
    of : {"samples", "components"}
    proposal : str
        The tag that samples get where nothing else is said; empty for components.
    """

    title: str
    question: str
    of: str
    proposal: str = ""


KINDS: Mapping[str, Kind] = {
    "group": Kind("Small groups", "Does this group share an artifact?", "samples", "suspect"),
    "outlier": Kind("Unusual decisions", "Is this decided for a wrong reason?", "samples", "suspect"),
    "direction": Kind("Near a direction", "Does it show this concept?", "samples", "concept"),
    "label": Kind("Doubtful labels", "Is the label wrong?", "samples", "wrong label"),
    "duplicate": Kind("Near-duplicates", "Are these the same picture?", "samples", "duplicate"),
    "redundant": Kind("Redundant components", "Is this component a copy of another?", "components"),
    "unclear": Kind("Unclear components", "Is there no one thing that it answers to?", "components"),
    "silent": Kind("Silent components", "Is this component of no use?", "components"),
}
"""Kinds of findings by name, in the order of the queue."""


@dataclass(frozen=True)
class Evidence:
    """One thing that speaks for or against a finding.

    Attributes
    ----------
    text : str
        In words.
    samples : tuple of int
        Samples to look at.
    components : tuple of str
        Components to look at.
    values : tuple of float
        A number for each sample, or component.
    """

    text: str
    samples: tuple[int, ...] = ()
    components: tuple[str, ...] = ()
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Finding:
    """A sample, group of samples or component that somebody should look at.

    Attributes
    ----------
    kind : str
        One of `KINDS`.
    subject : int or str
        A sample id, or the address of a component.
    score : float
        Larger is more suspicious; comparable within its kind and method.
    method : str
        What found it, in words that are the same each time it is looked for.
    reason : str
        Why, in words.
    evidence, counter : tuple of Evidence
        What speaks for it and what against it.
    members : tuple of int
        The samples that a verdict is about: the subject itself, or all of a group. Empty for components.
    old : str
        What is there now: the label.
    proposal : str
        What is proposed in its place: a label, or the tag that accepted samples get.
    recipe : str
        Digest of the stored result that it rests on.
    """

    kind: str
    subject: int | str
    score: float
    method: str
    reason: str
    evidence: tuple[Evidence, ...] = ()
    counter: tuple[Evidence, ...] = ()
    members: tuple[int, ...] = ()
    old: str = ""
    proposal: str = ""
    recipe: str = ""

    @property
    def id(self) -> str:
        """Twelve digits that stay when the finding is made again: of its kind, subject and method, not its score."""
        facts = f"{self.kind}\0{self.subject}\0{self.method}".encode("utf-8", "replace")
        return hashlib.blake2b(facts, digest_size=6).hexdigest()

    @property
    def is_of_sample(self) -> bool:
        """Whether it is about samples, not a component."""
        return not isinstance(self.subject, str)

    @property
    def title(self) -> str:
        """The subject in words."""
        if not self.is_of_sample:
            return str(self.subject)
        n = len(self.members)
        return f"{n} samples around sample {self.subject}" if n > 1 else f"sample {self.subject}"

    def as_json(self) -> dict[str, Any]:
        """Everything as plain values; `read` takes them back."""
        return asdict(self)

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> Finding:
        """A finding from what `as_json` gave."""
        own = dict(record)
        for side in ("evidence", "counter"):
            own[side] = tuple(Evidence(**{k: _tupled(v) for k, v in one.items()}) for one in own.get(side, ()))
        return cls(**{**own, "members": tuple(own.get("members", ()))})


@dataclass(frozen=True)
class Findings:
    """Findings in the order in which they should be looked at.

    Attributes
    ----------
    findings : tuple of Finding
        By kind in the order of `KINDS`, each with the most suspicious first.
    layer : str
        Whose activations and relevances were looked at.
    left_out : tuple of str
        What could not be looked for, and why; one line each.
    ctx_ : weak reference to a session, optional
        Where they were made: `show(findings)` finds it.
    """

    findings: tuple[Finding, ...] = ()
    layer: str = ""
    left_out: tuple[str, ...] = ()
    ctx_: Any = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.findings)

    def __iter__(self) -> Iterator[Finding]:
        return iter(self.findings)

    def __getitem__(self, which: int | str) -> Finding:
        """By place, or by id.

        Raises
        ------
        UnknownNameError
            If no finding has the id.
        """
        if isinstance(which, str):
            found = next((one for one in self.findings if one.id == which), None)
            if found is None:
                raise UnknownNameError(f"No finding {which!r}.", hint="`findings.to_frame()` lists all.")
            return found
        return self.findings[which]

    def of(self, *kinds: str) -> Findings:
        """Those of some kinds alone."""
        checked(kinds)
        return replace(self, findings=tuple(one for one in self.findings if one.kind in kinds))

    def counts(self) -> dict[str, int]:
        """How many there are of each kind."""
        found = {kind: sum(one.kind == kind for one in self.findings) for kind in KINDS}
        return {kind: n for kind, n in found.items() if n}

    def to_frame(self) -> pd.DataFrame:
        """All of them as a frame: id as index; kind, subject, score, reason, method, samples, old, proposal."""
        import pandas as pd

        columns = ["kind", "subject", "score", "reason", "method", "samples", "old", "proposal"]
        rows = [
            (f.kind, f.subject, f.score, f.reason, f.method, len(f.members), f.old, f.proposal) for f in self.findings
        ]
        index = pd.Index([one.id for one in self.findings], name="finding", dtype=object)
        return pd.DataFrame(rows, columns=columns, index=index)

    def __repr__(self) -> str:
        counts = ", ".join(f"{n} {kind}" for kind, n in self.counts().items())
        return f"<{len(self)} findings at {self.layer}{': ' if counts else ''}{counts}>"


def checked(kinds: Sequence[str]) -> tuple[str, ...]:
    """The kinds in the order of `KINDS`.

    Raises
    ------
    BadValueError
        If one is none.
    """
    if wrong := [kind for kind in kinds if kind not in KINDS]:
        raise BadValueError(f"No kind of findings {wrong[0]!r}.", hint=f"There are {', '.join(KINDS)}.")
    return tuple(kind for kind in KINDS if kind in kinds)


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
