"""Two models side by side: on one sample, and on many. Frozen records, computed elsewhere."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import check
from workbench.core.errors import BadValueError, UnknownLayerError
from workbench.core.ids import ComponentId
from workbench.core.origins import paired
from workbench.core.results import Attribution, Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["KINDS", "Comparison", "Differences"]

KINDS = ("lost", "gained", "other", "same")
"""What became of a decision: right and now wrong, wrong and now right, another one without either, the same."""


@dataclass(frozen=True, eq=False, repr=False)
class Comparison(Result):
    """One sample under two models of the same outputs.

    Attributes
    ----------
    models : (str, str)
        Names, the base first.
    sample : int
    label : int
        Number of the true output, -1 where unknown.
    before, after : (class_,) float32 arrays
        Scores of the base, and of the other; the largest over all positions where there are several.
    probability_before, probability_after : (class_,) float32 arrays
        NaN where the outputs have none.
    classes : tuple of str
        Names of the outputs.
    has_decision : bool
        Whether the largest output is what the model says.
    attributions : (Attribution, Attribution) or None
        Of the same target, which the base names.
    """

    models: tuple[str, str]
    sample: int
    label: int
    before: np.ndarray
    after: np.ndarray
    probability_before: np.ndarray
    probability_after: np.ndarray
    classes: tuple[str, ...]
    has_decision: bool = True
    attributions: tuple[Attribution, Attribution] | None = None

    @property
    def change(self) -> np.ndarray:
        """(class_,) change of each score."""
        return self.after - self.before

    @property
    def decisions(self) -> tuple[int, int]:
        """What both say; -1 where the model takes no decision. A single output decides by its sign."""
        if not self.has_decision:
            return -1, -1
        return decided(self.before[None])[0], decided(self.after[None])[0]

    @property
    def is_flipped(self) -> bool:
        """Whether the decision is another one."""
        return self.decisions[0] != self.decisions[1]

    def ranks(self) -> tuple[np.ndarray, np.ndarray]:
        """(class_,) place of each output among all, 1 for the largest, before and after."""
        return _ranks(self.before), _ranks(self.after)

    def to_frame(self, n: int | None = None) -> pd.DataFrame:
        """One row per output, that which changed most first.

        Parameters
        ----------
        n : int, optional
            Only the `n` largest of either model.

        Returns
        -------
        pandas.DataFrame
            Index ``output``; columns ``name``, ``before``, ``after``, ``change``, ``probability_before``,
            ``probability_after``, ``rank_before``, ``rank_after``.
        """
        import pandas as pd

        ranks = self.ranks()
        rows = np.arange(len(self.before))
        if n is not None:
            check.positive("n", n)
            rows = rows[(ranks[0] <= n) | (ranks[1] <= n)]
        rows = rows[np.argsort(-np.abs(self.change[rows]), kind="stable")]
        columns = {
            "name": [self.name_of(int(i)) for i in rows],
            "before": self.before[rows],
            "after": self.after[rows],
            "change": self.change[rows],
            "probability_before": self.probability_before[rows],
            "probability_after": self.probability_after[rows],
            "rank_before": ranks[0][rows],
            "rank_after": ranks[1][rows],
        }
        return pd.DataFrame(columns, index=pd.Index(rows, name="output"))

    def moved(self, layer: str, n: int = 8) -> pd.DataFrame:
        """The components of a layer whose relevance changed most, with it before and after.

        Raises
        ------
        UnknownLayerError
            If the layer was not recorded.
        """
        import pandas as pd

        check.positive("n", n)
        pair = self.attributions
        if pair is None or any(layer not in one.relevance for one in pair):
            raise UnknownLayerError(f'No relevance of "{layer}" is there.', hint="s.compare(other, sample, record=…)")
        before, after = (np.asarray(one.relevance[layer][0], dtype=np.float32) for one in pair)
        order = np.argsort(-np.abs(after - before), kind="stable")[:n]
        names = [str(ComponentId(layer, "unit", int(i))) for i in order]
        columns = {"before": before[order], "after": after[order], "change": (after - before)[order]}
        return pd.DataFrame(columns, index=pd.Index(names, name="component"))

    def name_of(self, index: int) -> str:
        """Name of an output; its number where it has none, empty for -1."""
        return _named(self.classes, index)

    def said(self, decision: int) -> str:
        """Name of a decision; of a single output by its sign."""
        return yes_or_no(decision) if len(self.before) == 1 else self.name_of(decision)

    def summary(self) -> str:
        """What became of the decision, and which output changed most, in a sentence."""
        row = self.to_frame().iloc[0]
        most = f"{row['name']} {row['before']:.3g} to {row['after']:.3g}"
        if not self.has_decision:
            return f"Changed most: {most}."
        first, second = self.decisions
        label = f", labelled {self.said(self.label)}" if self.label >= 0 else ""
        if first == second:
            return f"The decision stays {self.said(first)}{label}; changed most: {most}."
        kind = {"lost": ", and is no longer right", "gained": ", and is now right"}.get(self.kind, "")
        return f"The decision changes from {self.said(first)} to {self.said(second)}{label}{kind}; {most}."

    @property
    def kind(self) -> str:
        """What became of the decision, one of `KINDS`."""
        first, second = (np.array([one]) for one in self.decisions)
        return KINDS[int(kinds_of(np.array([self.label]), first, second)[0])]

    def __repr__(self) -> str:
        return f"<sample {self.sample}, {self.models[0]} and {self.models[1]}: {self.summary()}>"


@dataclass(frozen=True, eq=False, repr=False)
class Differences(Result):
    """Two models on the same samples: what the second says otherwise, and what that bought and cost.

    Attributes
    ----------
    models : (str, str)
        Names, the base first.
    samples, origins, labels : (sample,) int64 arrays
        Ids, original picture of each, number of the true output or -1.
    decision_before, decision_after : (sample,) int64 arrays
        Number of the largest output; of a single one, 0 or 1 by its sign. -1 where the model takes no decision.
    probability_before, probability_after : (sample,) float32 arrays
        Of each one's own decision; NaN where there is none.
    margin_before, margin_after : (sample,) float32 arrays
        By how much the true output, or where it is unknown the base's decision, exceeds the largest other; NaN without.
    change : (sample,) float32 array
        Of the output that changed most, with its sign.
    output : (sample,) int64 array
        Which one that is.
    shift : (sample,) float32 array
        Share of the probability that moved to other outputs, 0 to 1 (total variation); NaN where there is none.
    outputs : (class_,) float32 array
        Mean change of each output.
    classes : tuple of str
    n_planned : int
        Samples that were asked for; some may not be readable.
    recipe : str
        Of the outputs behind it.
    """

    models: tuple[str, str]
    samples: np.ndarray
    origins: np.ndarray
    labels: np.ndarray
    decision_before: np.ndarray
    decision_after: np.ndarray
    probability_before: np.ndarray
    probability_after: np.ndarray
    margin_before: np.ndarray
    margin_after: np.ndarray
    change: np.ndarray
    output: np.ndarray
    shift: np.ndarray
    outputs: np.ndarray
    classes: tuple[str, ...] = ()
    n_planned: int = 0
    recipe: str = ""

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def kinds(self) -> np.ndarray:
        """(sample,) number in `KINDS` of what became of each decision."""
        return kinds_of(self.labels, self.decision_before, self.decision_after)

    @property
    def counts(self) -> dict[str, int]:
        """How many samples of each kind."""
        found = np.bincount(self.kinds, minlength=len(KINDS))
        return {kind: int(n) for kind, n in zip(KINDS, found, strict=True)}

    @property
    def has_decisions(self) -> bool:
        """Whether the models decide among classes."""
        return bool((self.decision_before >= 0).any())

    @property
    def n_labelled(self) -> int:
        """Samples on which the models are right or wrong."""
        return int(self._known.sum())

    def ordered(self, kind: str | None = None) -> np.ndarray:
        """Rows by how much they changed, other decisions first.

        Parameters
        ----------
        kind : str, optional
            Only those of one of `KINDS`.
        """
        kinds = self.kinds
        rows = np.arange(len(self.samples))
        if kind is not None:
            rows = rows[kinds[rows] == KINDS.index(check.one_of("kind", kind, KINDS))]
        shift = np.where(np.isnan(self.shift), 0, self.shift)
        is_same = kinds == KINDS.index("same")
        return rows[np.lexsort((self.samples[rows], -np.abs(self.change[rows]), -shift[rows], is_same[rows]))]

    def accuracy(self) -> tuple[float, float]:
        """Accuracy of both over the labelled samples; NaN without labels."""
        before, after = self._right()
        return (float(before.mean()), float(after.mean())) if len(before) else (math.nan, math.nan)

    def accuracy_change(self) -> tuple[float, float, float, float]:
        """How much more often the second is right, paired by sample.

        Returns
        -------
        change, low, high : float
            With its middle 95 % by the bootstrap; views of one original are drawn together.
        p : float
            McNemar's exact test. Views of one original count once, by whether more were gained or lost.
        """
        return paired(*self._right(), self.origins[self._known])

    def by_class(self) -> pd.DataFrame:
        """Number of samples, accuracy before and after, and what was gained and lost, for each true class."""
        import pandas as pd

        rows, kinds, known = [], self.kinds, self._known
        for label in np.unique(self.labels[known]):
            of = known & (self.labels == label)
            counts = np.bincount(kinds[of], minlength=len(KINDS))
            right = [float((one[of] == label).mean()) for one in (self.decision_before, self.decision_after)]
            rows.append([self.name_of(int(label)), int(of.sum()), *right, int(counts[1]), int(counts[0])])
        columns = ["class", "samples", "before", "after", "gained", "lost"]
        return pd.DataFrame(rows, columns=columns).set_index("class")

    def to_frame(self, kind: str | None = None) -> pd.DataFrame:
        """One row per sample, other decisions first, then by how much changed; `kind` as in `ordered`."""
        import pandas as pd

        rows = self.ordered(kind)
        kinds = self.kinds[rows]
        columns: dict[str, Any] = {
            "kind": [KINDS[k] for k in kinds],
            "label": [self.name_of(int(i)) for i in self.labels[rows]],
            "before": [self.name_of(int(i)) for i in self.decision_before[rows]],
            "after": [self.name_of(int(i)) for i in self.decision_after[rows]],
            "probability_before": self.probability_before[rows],
            "probability_after": self.probability_after[rows],
            "margin_change": (self.margin_after - self.margin_before)[rows],
            "shift": self.shift[rows],
            "change": self.change[rows],
            "output": [self._output(int(i)) for i in self.output[rows]],
        }
        return pd.DataFrame(columns, index=pd.Index(self.samples[rows], name="sample"))

    def name_of(self, decision: int) -> str:
        """Name of a decision; of a single output by its sign, its number where it has none, empty for -1."""
        return yes_or_no(decision) if len(self.outputs) == 1 else _named(self.classes, decision)

    def summary(self) -> str:
        """What was gained and lost in a sentence or two."""
        n, counts = len(self.samples), self.counts
        count = f"{n} sample{'s' * (n != 1)}"
        if not self.has_decisions:
            return f"{count}; largest change of an output {np.abs(self.change).max(initial=0.0):.3g}."
        flips = n - counts["same"]
        text = f"{flips} of {count} decided otherwise"
        if not self.n_labelled:
            return f"{text}."
        text += f": {counts['gained']} gained, {counts['lost']} lost, {counts['other']} neither"
        before, after = self.accuracy()
        change, low, high, p = self.accuracy_change()
        span = "" if math.isnan(low) else f" ({100 * low:+.1f} to {100 * high:+.1f})"
        return f"{text}. Accuracy {before:.1%} to {after:.1%}, change {100 * change:+.1f}{span} points, p = {p:.2g}."

    def __repr__(self) -> str:
        return f"<{self.models[1]} against {self.models[0]}: {self.summary()}>"

    @property
    def _known(self) -> np.ndarray:
        return (self.labels >= 0) & (self.decision_before >= 0)

    def _right(self) -> tuple[np.ndarray, np.ndarray]:
        known = self._known
        labels = self.labels[known]
        return self.decision_before[known] == labels, self.decision_after[known] == labels

    def _output(self, index: int) -> str:
        return _named(self.classes, index)


def decided(outputs: np.ndarray) -> np.ndarray:
    """(sample,) number of the largest output; of a single one, whether it is above zero."""
    return (outputs.argmax(1) if outputs.shape[1] > 1 else outputs[:, 0] > 0).astype(np.int64)


def kinds_of(labels: np.ndarray, before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """(sample,) number in `KINDS` of what became of each decision."""
    if not labels.shape == before.shape == after.shape:
        raise BadValueError("Labels and decisions are of other samples.")
    was, now = (labels >= 0) & (before == labels), (labels >= 0) & (after == labels)
    return np.select([was & ~now, now & ~was, before != after], [0, 1, 2], 3).astype(np.int64)


def _ranks(scores: np.ndarray) -> np.ndarray:
    order = np.argsort(-scores, kind="stable")
    found = np.empty(len(scores), dtype=np.int64)
    found[order] = np.arange(1, len(scores) + 1)
    return found


def yes_or_no(decision: int) -> str:
    """Name of a decision by a single output: by its sign; empty for -1."""
    return "" if decision < 0 else "yes" if decision else "no"


def _named(classes: tuple[str, ...], index: int) -> str:
    if index < 0:
        return ""
    return str(classes[index]) if index < len(classes) else f"output {index}"
