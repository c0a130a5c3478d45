"""What all frozen records share, and the simplest of them. Records compute nothing and import no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Ranking", "Result"]


class Result:
    """Base of all records: each has a plotly figure and a short repr."""

    def plot(self, **options: Any) -> Any:
        """Draw the record as a plain plotly ``Figure``; options are those of the figure's module."""
        from workbench.core.registry import FIGURES

        return FIGURES[type(self).__name__](self, **options)


@dataclass(frozen=True, eq=False, repr=False)
class Ranking(Result):
    """Components in order, best first, with their scores."""

    components: tuple[str, ...]
    scores: np.ndarray
    quantity: str = "score"

    def __len__(self) -> int:
        return len(self.components)

    def to_frame(self) -> pd.DataFrame:
        """Frame with the addresses as index."""
        import pandas as pd

        return pd.DataFrame({self.quantity: np.asarray(self.scores)}, index=pd.Index(self.components, name="component"))

    def __repr__(self) -> str:
        return f"<ranking of {len(self)} components by {self.quantity}, first {', '.join(self.components[:3])}>"
