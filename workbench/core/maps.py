"""Components and samples laid out on a plane."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import check
from workbench.core.errors import BadValueError, UnknownComponentError, UnknownSampleError
from workbench.core.ids import ComponentId
from workbench.core.record import Result
from workbench.core.tables import ReferenceSet

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Atlas", "PointMap"]


@dataclass(frozen=True, eq=False, repr=False)
class Atlas(Result):
    """The concepts of one layer, laid out on a plane.

    Attributes
    ----------
    position : (component, 2) float32 array
        Coordinates, 0 to 1, as stored.
    columns : mapping of name to (component,) array
        Quantities to colour, sort and filter by: ``activation``, ``relevance``, ``frequency``, ``cluster`` …
    references : ReferenceSet
    cluster_names : tuple of str
    layout : str
        Method, neighbours, distance and seed of the projection.
    """

    layer: str
    basis: str
    position: np.ndarray
    columns: Mapping[str, np.ndarray]
    references: ReferenceSet
    cluster_names: tuple[str, ...] = ()
    layout: str = ""
    recipe: str = ""

    @property
    def n_components(self) -> int:
        """Number of components."""
        return len(self.position)

    def ids(self) -> list[str]:
        """Addresses of the components."""
        return [str(ComponentId(self.layer, self.basis, i)) for i in range(self.n_components)]

    def to_frame(self) -> pd.DataFrame:
        """One row per component: coordinates and all columns."""
        import pandas as pd

        frame = pd.DataFrame(dict(self.columns), index=pd.Index(self.ids(), name="component"))
        frame.insert(0, "x", self.position[:, 0])
        frame.insert(1, "y", self.position[:, 1])
        return frame

    def __repr__(self) -> str:
        return (
            f"<atlas of {self.layer}/{self.basis}: {self.n_components} components, {len(self.cluster_names)} clusters>"
        )


@dataclass(frozen=True, eq=False, repr=False)
class PointMap(Result):
    """The components of a layer, or samples, as points on a plane, with their neighbours in the full space.

    Attributes
    ----------
    of : {"components", "samples"}
    layer, basis : str
        Whose activations or relevances are compared.
    by : {"activation", "relevance"}
    index : (point,) int64 array
        Number of the component, or sample id; rising.
    position : (point, 2) float32 array
        Coordinates, 0 to 1, as stored. Points apart lie on the line y = 0, below all others.
    neighbours : (point, neighbour) int32 array
        Rows of the nearest points in the full space, nearest first, ties by the smaller number; -1 in empty slots.
    distances : (point, neighbour) float32 array
        Of the neighbours; inf in empty slots.
    is_apart : (point,) bool array
        Points for which the distance says nothing: constant ones under correlation, those that are zero throughout
        under cosine.
    columns : mapping of name to (point,) array
        Quantities to colour, size and filter by; numbers or text.
    class_relevance : (class_, point) float32 array
        Mean relevance over the samples that were explained for a class; NaN rows where there was none. No rows for maps
        of samples and without relevance.
    classes : tuple of str
        Names of the classes.
    cluster_names : tuple of str
        By the number in the column ``cluster``.
    layout : str
        Method, neighbours, distance and seed of the projection, in words.
    distance : {"correlation", "cosine", "euclidean"}
    trustworthiness : float
        How far neighbours on the plane are neighbours in the full space, 0 to 1.
    seed : int
    recipe : str
        Digest of the table that it was made from.
    """

    of: str
    layer: str
    basis: str
    by: str
    index: np.ndarray
    position: np.ndarray
    neighbours: np.ndarray
    distances: np.ndarray
    is_apart: np.ndarray
    columns: Mapping[str, np.ndarray]
    class_relevance: np.ndarray
    classes: tuple[str, ...] = ()
    cluster_names: tuple[str, ...] = ()
    layout: str = ""
    distance: str = ""
    trustworthiness: float = 1.0
    seed: int = 0
    recipe: str = ""

    def __len__(self) -> int:
        return len(self.position)

    def ids(self) -> list[Any]:
        """Addresses of the components, or sample ids, in row order."""
        if self.of == "samples":
            return self.index.tolist()
        return [str(ComponentId(self.layer, self.basis, i)) for i in self.index.tolist()]

    def row(self, point: int | str | ComponentId) -> int:
        """Row of a component (address or number) or of a sample (id).

        Raises
        ------
        UnknownComponentError, UnknownSampleError
            If it is not on the map.
        """
        number: Any = point
        if self.of == "components" and isinstance(point, (str, ComponentId)):
            address = ComponentId.parse(point)
            if (address.layer, address.basis) != (self.layer, self.basis):
                raise UnknownComponentError(f"{address} is not a component of {self.layer}/{self.basis}.")
            number = address.index
        is_number = isinstance(number, (int, np.integer)) and not isinstance(number, bool)
        row = int(np.searchsorted(self.index, number)) if is_number else len(self)
        if row < len(self) and self.index[row] == number:
            return row
        hint = f"It shows {len(self)}, up to {self.index[-1]}."
        if self.of == "samples":
            raise UnknownSampleError(f"No sample {point!r} on this map.", hint=hint)
        raise UnknownComponentError(f"No component {point!r} of {self.layer}/{self.basis} on this map.", hint=hint)

    def nearest(self, point: int | str | ComponentId, k: int = 10) -> tuple[list[Any], np.ndarray]:
        """The points nearest to one in the full space.

        Parameters
        ----------
        point : address, number or sample id
        k : int
            At most as many as are kept; fewer come where there are fewer others, none for a point apart.

        Returns
        -------
        ids : list of str or int
        distance : (k,) float32 array
        """
        row = self.row(point)
        kept = self.neighbours.shape[1]
        if check.positive("k", k) > kept and kept < len(self) - 1:
            raise BadValueError(
                f"This map keeps {kept} neighbours of each point; {k} were asked for.",
                hint="A preview keeps none: fit the method." if kept == 0 else f"Ask for {kept}, or fit with more.",
            )
        near, distance = self.neighbours[row, :k], self.distances[row, :k]
        filled = near >= 0
        numbers = self.index[near[filled]].tolist()
        if self.of == "components":
            numbers = [str(ComponentId(self.layer, self.basis, i)) for i in numbers]
        return numbers, distance[filled]

    def column(self, name: str, target: str | int | None = None) -> np.ndarray:
        """One column; ``class_relevance`` of a certain class with `target`, else of the class where it is largest.

        Parameters
        ----------
        name : str
        target : str or int, optional
            Name or number of a class.

        Returns
        -------
        (point,) array
        """
        check.known("column", name, self.columns)
        if target is None:
            return self.columns[name]
        if name != "class_relevance":
            raise BadValueError(f'"{name}" is the same for all classes.', hint='`target` goes with "class_relevance".')
        if isinstance(target, str) and not target.isdecimal():
            check.known("class", target, self.classes)
        index = self.classes.index(target) if target in self.classes else int(target)
        if not 0 <= index < len(self.class_relevance) or np.isnan(self.class_relevance[index]).all():
            raise BadValueError(
                f'No sample of the data was explained for "{target}".',
                hint="Add pictures of that class, or sweep with Target.logit.",
            )
        return self.class_relevance[index]

    def to_frame(self) -> pd.DataFrame:
        """One row per point: coordinates, whether it is apart, and all columns."""
        import pandas as pd

        places = {"x": self.position[:, 0], "y": self.position[:, 1], "is_apart": self.is_apart}
        ids = pd.Index(self.ids(), name=self.of.removesuffix("s"))
        return pd.DataFrame({**places, **self.columns}, index=ids)

    def __repr__(self) -> str:
        apart = f", {int(self.is_apart.sum())} apart" if self.is_apart.any() else ""
        return f"<map of {len(self)} {self.of} of {self.layer}/{self.basis} by {self.by}{apart}: {self.layout}>"
