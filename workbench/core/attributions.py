"""What explaining samples gives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from workbench.core.errors import BadValueError
from workbench.core.ids import ComponentId
from workbench.core.record import Ranking, Result

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Attribution", "SanityCheck"]


@dataclass(frozen=True, eq=False, repr=False)
class Attribution(Result):
    """What explaining a batch gave.

    Attributes
    ----------
    samples : tuple of int
        Sample ids, or positions in the batch if the pictures came from outside.
    heatmap : (sample, y, x) float32 tensor
        Signed relevance of the input, summed over its channels.
    target : (sample,) int64 tensor
        Output index that was explained (-1 where the target is no single output).
    position : (sample,) int64 tensor or None
        For detectors and sequences: the box or the position in the sequence that was explained.
    score : (sample,) float32 tensor
        The explained number: the logit, or the difference of two.
    gap : (sample,) float32 tensor
        ``(score - sum of relevance) / |score|``; the absolute difference where the score is near zero. NaN for
        conditional maps, whose sum has no target to reach.
    output : (sample, class_) float32 tensor
        The model's output; with more axes for detectors, sequences and dense predictions.
    relevance : mapping of layer to (sample, component) tensor
        Relevance of each recorded component, summed over positions.
    activation : mapping of layer to (sample, component) tensor
        Largest activation of each recorded component.
    given : tuple of str
        Addresses that the explanation is conditional on; empty for a plain one.
    rule, target_text : str
    pictures : sequence of (y, x, 3) uint8 arrays
        The input as the model saw it, for display.
    labels : tuple of str
        Names of the explained outputs.
    """

    samples: tuple[int, ...]
    heatmap: Tensor
    target: Tensor
    score: Tensor
    gap: Tensor
    output: Tensor
    relevance: Mapping[str, Tensor] = field(default_factory=dict)
    activation: Mapping[str, Tensor] = field(default_factory=dict)
    given: tuple[str, ...] = ()
    rule: str = ""
    target_text: str = ""
    pictures: Sequence[np.ndarray] = ()
    labels: tuple[str, ...] = ()
    recipe: str = ""
    position: Tensor | None = None

    def __len__(self) -> int:
        return len(self.heatmap)

    def top(self, layer: str, n: int = 10, *, row: int = 0) -> Ranking:
        """Components of a recorded layer, by absolute relevance for sample number `row`."""
        if layer not in self.relevance:
            recorded = ", ".join(self.relevance) or "none"
            raise BadValueError(f'"{layer}" was not recorded.', hint=f"Recorded: {recorded}. Pass record=[...].")
        values = np.asarray(self.relevance[layer][row])
        order = np.argsort(-np.abs(values), kind="stable")[:n]
        return Ranking(
            tuple(str(ComponentId(layer, "unit", int(i))) for i in order), values[order], quantity="relevance"
        )

    def __repr__(self) -> str:
        given = f", given {len(self.given)} components" if self.given else ""
        return f"<attribution of {len(self)} samples, {self.target_text}, {self.rule}{given}>"


@dataclass(frozen=True, eq=False, repr=False)
class SanityCheck(Result):
    """One sample explained by the model and by the same model with random weights.

    Attributes
    ----------
    base, randomised : Attribution
        Of the same output.
    correlation : float
        Spearman's rank correlation of the absolute maps, -1 to 1; NaN where a map is constant. Near 1 the map does not
        show what the model has learnt.
    seed : int
        Of the random weights.
    """

    base: Attribution
    randomised: Attribution
    correlation: float
    seed: int

    def __repr__(self) -> str:
        return f"<sanity check of sample {self.base.samples[0]}: rank correlation {self.correlation:.2f}>"
