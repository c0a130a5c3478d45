"""The first quarter of a round of Reveal to Revise: which artifact it will be about, and who decides that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workbench.core.errors import BadValueError
from workbench.core.findings import Finding, Findings
from workbench.core.rounds import Round
from workbench.core.words import count
from workbench.methods.reveal.shortcuts import Shortcut, Shortcuts, joined

__all__ = ["Artifact", "Revealing"]

_SAME = 0.5  # share of a finding's samples above which it is about an artifact that was dealt with


@dataclass(frozen=True, eq=False)
class Artifact:
    """What a round is about: enough to do it again."""

    name: str
    layer: str
    samples: np.ndarray
    reason: str


class Revealing:
    """The groups of one model that share a piece which decides, and the choice among them.

    Parameters
    ----------
    layers : sequence of str
        Where decisions are grouped.
    classes : sequence of int or str, optional
        Outputs that are looked at.
    number : int
        Of the round: what its artifact is called by default.

    Attributes
    ----------
    findings : Findings
        The largest effect first; without what earlier rounds were about.
    """

    def __init__(self, layers: Sequence[str], classes: Any, number: int):
        self.layers, self.classes, self.number = list(layers), classes, number
        self.findings = Findings()
        self._groups: dict[str, tuple[str, Shortcut]] = {}

    def look(self, session: Any, known: Sequence[np.ndarray] = ()) -> Revealing:
        """Test the groups of all layers; `known` are the samples of artifacts that are not to be found again."""
        note = f", round {self.number}" if self.number > 1 else ""
        every: list[Finding] = []
        left: list[str] = []
        for layer in self.layers:
            made = session.fit(Shortcuts(layer, classes=self.classes, note=note))
            self._groups |= {one.id: (layer, group) for one, group in zip(made.findings_, made.shortcuts_, strict=True)}
            every += [replace(one, proposal=f"artifact {self.number}") for one in made.findings_]
            left += list(made.findings_.left_out)
        new = [one for one in every if not any(_share(one.members, samples) > _SAME for samples in known)]
        new.sort(key=lambda one: -one.score)
        self.findings = Findings(tuple(new), ", ".join(self.layers), tuple(left))
        return self

    def by_rule(self, least_effect: float, book: Any) -> Artifact | Round:
        """The finding with the largest effect that nobody rejected, if that is large enough."""
        left = [one for one in self.findings if not _is_rejected(book, one)]
        if left and left[0].score >= least_effect:
            return self._artifact(left[0], book)
        n_rejected, other = len(self.findings) - len(left), " other" if len(left) < len(self.findings) else ""
        told = (
            f"the largest{other} effect of a piece is {left[0].score:.0%}" if left else f"no{other} group has a piece"
        )
        rejected = f"{count(n_rejected, 'finding')} {'was' if n_rejected == 1 else 'were'} rejected, and " * bool(other)
        return self._nothing(f"Of the decisions for {', '.join(self.layers)}, {rejected}{told}.")

    def by_function(self, decide: Any, book: Any) -> Artifact | Round:
        """The finding that a function of the caller returns."""
        chosen = decide(self.findings)
        if chosen is None:
            return self._nothing("The function took none of the findings.")
        if not isinstance(chosen, Finding):
            raise BadValueError(
                f"`decide` returned {type(chosen).__name__}.", hint="It returns one of the findings, or None."
            )
        if chosen.id not in self._groups:
            raise BadValueError(
                f'`decide` returned the finding "{chosen.id}", which is not of this round.',
                hint="It returns one of the findings that it was called with, or None.",
            )
        return self._artifact(chosen, book)

    def by_person(self, book: Any) -> Artifact | Round:
        """The finding that a person accepted; a round that waits where none is yet."""
        for one in self.findings:
            said = [d for d in book.of(one) if d.verdict == "accepted"]
            if said:
                return self._artifact(one, book, said[-1].new)
        n_open = sum(not book.of(one) for one in self.findings)
        if not n_open:
            return self._nothing(f"All {count(len(self.findings), 'finding')} are decided.")
        return Round(
            self.number, "waiting", f"{count(n_open, 'finding')} wait for a decision: "
            "wb.show(wb.widgets.AuditPanel(s, findings=report.findings_)), then report.step().",
        )  # fmt: skip

    def _artifact(self, one: Finding, book: Any, name: str = "") -> Artifact:
        """With the samples of the other groups of its class that do half as much and that nobody rejected."""
        layer, group = self._groups[one.id]
        others = [
            found for of, (at, found) in self._groups.items()
            if at == layer and not _is_rejected(book, of)
        ]  # fmt: skip
        members = np.unique(np.asarray(joined(others, group).members, np.int64))
        return Artifact(name or f"artifact {self.number}", layer, members, one.reason)

    def _nothing(self, why: str) -> Round:
        return Round(self.number, "nothing found", why)


def _is_rejected(book: Any, one: Finding | str) -> bool:
    """Whether somebody's verdict that stands is that it is no artifact."""
    return any(said.verdict == "rejected" for said in book.of(one))


def _share(members: Sequence[int], samples: np.ndarray) -> float:
    """Share of the members that are among the samples."""
    return float(np.isin(np.asarray(members), samples).mean()) if len(members) else 0.0
