"""Bars: named numbers side by side, for what is no result of a method: coverage of layers, bytes of memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

__all__ = ["Bars"]


@dataclass(frozen=True)
class Bars:
    """Numbers per name, in one or more series.

    Attributes
    ----------
    title : str
    quantity : str
        What the numbers are, with their unit.
    names : sequence of str
    series : mapping of str to sequence of float
        A number for each name, NaN where there is none.
    limits : sequence of float, optional
        What each could be at most; 0 where there is no limit.
    is_share : bool
        Whether the numbers are shares, 0 to 1.
    """

    title: str
    quantity: str
    names: Sequence[str]
    series: Mapping[str, Sequence[float]]
    limits: Sequence[float] = ()
    is_share: bool = False

    def plot(self, **options: Any) -> Any:
        """The bars as a plain plotly ``Figure``; options are those of its layout."""
        from workbench.core.registry import FIGURES

        return FIGURES["Bars"](self, **options)
