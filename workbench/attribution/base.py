"""How much of a score an explanation accounts for (`gap`); and, from `targets.py`, what is explained."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from workbench.attribution.targets import Start, Target

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Start", "Target", "gap"]


def gap(score: Tensor, relevance_sum: Tensor) -> Tensor:
    """Share of the score that relevance failed to account for.

    Parameters
    ----------
    score, relevance_sum : (sample,) tensor

    Returns
    -------
    (sample,) tensor
        ``(score - sum) / |score|``; the absolute difference where ``|score|`` is below 1e-6.
    """
    size = score.abs()
    return torch.where(size < 1e-6, (score - relevance_sum).abs(), (score - relevance_sum) / size.clamp(min=1e-6))
