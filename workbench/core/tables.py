"""Tables of a layer over a data set: pooled activations and relevances, and the samples that stand out in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.errors import UnknownComponentError
from workbench.core.ids import ComponentId
from workbench.core.record import Result

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor

__all__ = ["ActivationTable", "ReferenceSet"]


@dataclass(frozen=True, eq=False, repr=False)
class ActivationTable(Result):
    """Pooled activations or relevances of one layer over a data set.

    Attributes
    ----------
    layer, basis : str
        Which components.
    quantity : {"activation", "relevance"}
    pooling : {"max", "mean", "sum"}
        How positions were summarised; sums for relevance.
    values : (sample, component) float32 CPU tensor
        NaN in the rows of samples that `is_valid` leaves out.
    is_valid : (sample,) bool tensor
        False where the picture could not be read, or where the sweep has not been yet.
    peak : (sample, component) int32 tensor or None
        Flat position of the largest activation, for `shape`.
    shape : tuple of int
        Size of the layer's map without sample and component axes; ``()`` for dense layers.
    target : (sample,) int64 tensor or None
        Output index that was explained, for relevances.
    target_text, rule : str
        What was explained, and by which rule.
    coverage : float
        Share of the data set that is covered, 0 to 1.
    recipe : str
        Digest of the stored result.
    """

    layer: str
    basis: str
    quantity: str
    pooling: str
    values: Tensor
    is_valid: Tensor
    peak: Tensor | None = None
    shape: tuple[int, ...] = ()
    target: Tensor | None = None
    target_text: str = ""
    rule: str = ""
    coverage: float = 1.0
    recipe: str = ""

    @property
    def n_components(self) -> int:
        """Number of components."""
        return self.values.shape[1]

    def __len__(self) -> int:
        return len(self.values)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(np.asarray(self.values), dtype=dtype, copy=copy)

    def ids(self) -> list[str]:
        """Addresses of the components, in column order."""
        return [str(ComponentId(self.layer, self.basis, i)) for i in range(self.n_components)]

    def to_frame(self) -> pd.DataFrame:
        """The table as a pandas frame, samples as rows and addresses as columns."""
        import pandas as pd

        return pd.DataFrame(np.asarray(self), columns=self.ids()).rename_axis(index="sample")

    def __repr__(self) -> str:
        part = "" if self.coverage >= 1 else f", {self.coverage:.0%} of the data"
        return f"<{self.quantity} table {self.layer}/{self.basis}: {len(self)} samples x {self.n_components}{part}>"


@dataclass(frozen=True, eq=False, repr=False)
class ReferenceSet(Result):
    """The samples that activate each component most, or on which it is most relevant.

    Attributes
    ----------
    ids : (component, ref) int64 tensor
        Sample ids, strongest first; -1 in empty slots. Among equal activations the larger mean over positions comes
        first, then, as among equal relevances, the smaller id.
    values : (component, ref) float32 tensor
        Pooled activation or relevance; -inf in empty slots.
    peak : (component, ref) int32 tensor or None
        Flat position of the largest activation on a map of `shape`.
    target : (component, ref) int64 tensor or None
        Output index that was explained, for `by="relevance"`.
    n_valid : (component,) int64 tensor
        Filled slots of each component.
    n_origins, n_samples : int
        How many original pictures and how many views they were chosen from.
    per_origin : int
        Most views per original picture; 0 means no limit.
    """

    layer: str
    basis: str
    by: str
    ids: Tensor
    values: Tensor
    n_valid: Tensor
    n_samples: int
    n_origins: int
    per_origin: int = 1
    peak: Tensor | None = None
    shape: tuple[int, ...] = ()
    target: Tensor | None = None
    target_text: str = ""
    coverage: float = 1.0
    recipe: str = ""

    @property
    def n_components(self) -> int:
        """Number of components."""
        return self.ids.shape[0]

    @property
    def is_empty(self) -> Tensor:
        """(component,) bool: components without a single reference."""
        return self.n_valid == 0

    def of(self, component: int | str | ComponentId, n: int | None = None) -> list[int]:
        """Sample ids of one component, strongest first, filled slots only.

        Raises
        ------
        UnknownComponentError
            If the component belongs to another layer or does not exist.
        """
        index = self.index(component)
        count = int(self.n_valid[index])
        return [int(i) for i in self.ids[index, : count if n is None else min(n, count)]]

    def index(self, component: int | str | ComponentId) -> int:
        """Row of a component in this set."""
        if isinstance(component, (str, ComponentId)):
            address = ComponentId.parse(component)
            if (address.layer, address.basis) != (self.layer, self.basis):
                raise UnknownComponentError(f"{address} is not a component of {self.layer}/{self.basis}.")
            component = address.index
        if not 0 <= int(component) < self.n_components:
            raise UnknownComponentError(
                f"No component {component} in {self.layer}/{self.basis}.", hint=f"It has {self.n_components}, from 0."
            )
        return int(component)

    def to_frame(self) -> pd.DataFrame:
        """Long frame with a row per filled slot: component, rank, sample, value."""
        import pandas as pd

        filled = np.asarray(self.ids) >= 0
        component, rank = np.nonzero(filled)
        return pd.DataFrame(
            {
                "component": [str(ComponentId(self.layer, self.basis, int(c))) for c in component],
                "rank": rank,
                "sample": np.asarray(self.ids)[filled],
                self.by: np.asarray(self.values)[filled],
            }
        )

    def __repr__(self) -> str:
        return (
            f"<references of {self.layer}/{self.basis} by {self.by}: {self.n_components} components x "
            f"{self.ids.shape[1]}, from {self.n_samples} views of {self.n_origins} originals>"
        )
