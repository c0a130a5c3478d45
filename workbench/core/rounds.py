"""What a life cycle of correction did, round by round. Frozen, computed elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from workbench.core.corrections import Reevaluation
from workbench.core.results import Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["OUTCOMES", "LifeCycle", "Round"]

OUTCOMES = ("kept", "taken back", "waiting", "nothing found")
"""The correction stays; it was undone; somebody has to decide on findings first; there was nothing to correct."""


@dataclass(frozen=True, eq=False)
class Round:
    """One round: an artifact that was revealed, localised, corrected for, and measured again.

    Attributes
    ----------
    number : int
        From 1.
    outcome : str
        One of `OUTCOMES`.
    why : str
        In words.
    artifact : str
        What it is called; empty where there is none.
    layer : str
        Where its direction lies.
    reason : str
        Why it was taken for an artifact.
    samples : tuple of int
        Those that show it.
    separation : float
        Held-out area under the curve of the direction, 0 to 1.
    area : float
        Share of the picture that its masks take, on average.
    correction : str
    report : Reevaluation or None
        The uncorrected model, the one before this round (from the second on), and the one after it.
    """

    number: int
    outcome: str
    why: str
    artifact: str = ""
    layer: str = ""
    reason: str = ""
    samples: tuple[int, ...] = ()
    separation: float = math.nan
    area: float = math.nan
    correction: str = ""
    report: Reevaluation | None = None

    def __repr__(self) -> str:
        found = f" {self.artifact} at {self.layer}, {len(self.samples)} samples" if self.artifact else ""
        told = f"; {self.report.summary()}" if self.report is not None else ""
        return f"<round {self.number}{found}: {self.outcome}. {self.why}{told}>"


@dataclass(frozen=True, eq=False, repr=False)
class LifeCycle(Result):
    """All rounds of a life cycle.

    Attributes
    ----------
    model : str
        The uncorrected one.
    rounds : tuple of Round
    """

    model: str
    rounds: tuple[Round, ...] = ()

    def __len__(self) -> int:
        return len(self.rounds)

    def __iter__(self) -> Iterator[Round]:
        return iter(self.rounds)

    def __getitem__(self, which: int) -> Round:
        return self.rounds[which]

    @property
    def kept(self) -> tuple[Round, ...]:
        """Rounds whose correction stays."""
        return tuple(one for one in self.rounds if one.outcome == "kept")

    def to_frame(self) -> pd.DataFrame:
        """One row per round: what was found, and accuracy and relevance before and after it."""
        import pandas as pd

        rows = [self._row(one) for one in self.rounds]
        return pd.DataFrame(rows, columns=_COLUMNS, index=pd.Index([r.number for r in self.rounds], name="round"))

    def _row(self, one: Round) -> dict[str, Any]:
        row: dict[str, Any] = {
            "artifact": one.artifact, "layer": one.layer, "samples": len(one.samples), "area": one.area,
            "separation": one.separation, "outcome": one.outcome, "why": one.why, "correction": one.correction,
        }  # fmt: skip
        if one.report is not None:
            after = len(one.report.models) - 1
            before = max(after - 1, 0)
            for name, i in (("before", before), ("after", after)):
                for kind in ("clean", "attacked"):
                    row[f"{kind}_{name}"] = one.report.accuracy(i, kind)[0]
                share = one.report.relevance[i]
                row[f"relevance_{name}"] = float(share.mean()) if len(share) else math.nan
            row["did_not_fall"] = ", ".join(one.report.unmoved(after))
        return row

    def __repr__(self) -> str:
        told = ", ".join(f"{one.artifact or 'round ' + str(one.number)} {one.outcome}" for one in self.rounds)
        return f"<life cycle of {self.model}: {told or 'no round yet'}>"


_COLUMNS = [
    "artifact", "layer", "samples", "area", "separation", "clean_before", "clean_after", "attacked_before",
    "attacked_after", "relevance_before", "relevance_after", "did_not_fall", "outcome", "why", "correction",
]  # fmt: skip
