"""One result that grows piece by piece: shards of samples, each complete or absent, and the columns they form."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from workbench.core.errors import BadValueError, IncompleteError, ShapeError, StaleError, UnknownNameError, nearest
from workbench.store.recipe import Recipe
from workbench.store.words import count

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["ShardSet", "checked_bounds"]


class ShardSet(ABC):
    """The shards of one pass over a data set.

    Attributes
    ----------
    recipe : Recipe
    bounds : tuple of (start, stop)
        Samples of each shard, stop exclusive, ascending and without overlap.
    meta : dict
        Notes on the whole, from whoever began it.
    """

    def __init__(self, recipe: Recipe, bounds: Sequence[tuple[int, int]], meta: Mapping[str, Any]):
        self.recipe, self.bounds, self.meta = recipe, checked_bounds(bounds), dict(meta)

    def __len__(self) -> int:
        return len(self.bounds)

    def __repr__(self) -> str:
        state = "complete" if self.is_complete else f"{self.coverage:.0%} of {count(self.n_samples, 'sample')}"
        return f"<{count(len(self), 'shard')} of {self.recipe.short}: {state}>"

    @property
    def n_samples(self) -> int:
        """Samples in all shards together, missing ones included."""
        return sum(stop - start for start, stop in self.bounds)

    @property
    def present(self) -> list[int]:
        """Shards that are there, by a quick look: checksums are compared when they are read."""
        return sorted(self._present())

    @property
    def done(self) -> list[int]:
        """Shards that are there and intact, checksums included."""
        missing = set(self.missing)
        return [i for i in range(len(self)) if i not in missing]

    @property
    @abstractmethod
    def missing(self) -> list[int]:
        """Shards to make. Damaged ones are set aside, so that they are among them."""

    @property
    def coverage(self) -> float:
        """Share of the samples that is there, 0 to 1."""
        there = sum(self.bounds[i][1] - self.bounds[i][0] for i in self._present())
        return there / self.n_samples if self.n_samples else 1.0

    @property
    @abstractmethod
    def sealed(self) -> dict[str, Any] | None:
        """What `seal` was given; None before."""

    @property
    def is_complete(self) -> bool:
        """Whether the set is sealed and all shards are there, by a quick look at their sizes."""
        return self.sealed is not None and len(self._present(sizes=True)) == len(self)

    @property
    def names(self) -> list[str]:
        """Names of the arrays, from the first shard that is there; empty if there is none."""
        present = self.present
        return sorted(self._array_names(present[0])) if present else []

    @property
    @abstractmethod
    def bytes(self) -> int:
        """Bytes that the shards fill."""

    @abstractmethod
    def write(self, i: int, arrays: Mapping[str, Any], meta: Mapping[str, Any] | None = None) -> None:
        """Store one shard, so that it is there completely or not at all.

        Outside of `lock` it takes the lock for itself.

        Raises
        ------
        StoreFullError, ReadOnlyStoreError
            If the disk or the budget does not take it; the other shards are intact.
        StoreError
            If another process or thread is writing the set.
        """

    @abstractmethod
    def read(self, i: int, names: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Return the arrays of one shard, mapped where possible; read-only by agreement.

        Raises
        ------
        IncompleteError
            If the shard is not there.
        DamagedEntryError
            If it is not as it was written. It is set aside, and is missing from then on.
        """

    @abstractmethod
    def shard_meta(self, i: int) -> dict[str, Any] | None:
        """Return the notes of one shard; None if it is not there."""

    def column(self, name: str, *, fill: float | None = None) -> Tensor:
        """Join one array over all shards, in the order of the samples.

        Parameters
        ----------
        name : str
            An array whose first axis is the shard's samples.
        fill : number, optional
            What stands in the rows of shards that are missing. Default: NaN, for whole numbers -1, for booleans False.

        Returns
        -------
        (sample, ...) tensor
            `n_samples` rows. With a single shard it is mapped, else a copy in memory.

        Raises
        ------
        IncompleteError
            If there is no shard yet, so that not even the shape is known.
        ShapeError
            If the array's first axis is not the samples.
        """
        import torch

        present = self.present
        if not present:
            raise IncompleteError(f"No shard of {self.recipe.describe()} is there yet.", hint="Run the sweep.")
        whole: Tensor | None = None
        offsets = [0, *itertools.accumulate(stop - start for start, stop in self.bounds)]
        for i in present:
            part = self.read(i, [name])[name]
            n_rows = offsets[i + 1] - offsets[i]
            if part.ndim == 0 or part.shape[0] != n_rows:
                raise ShapeError(
                    f'"{name}" has the shape {tuple(part.shape)} in shard {i}, which covers {count(n_rows, "sample")}.',
                    hint="Only arrays with one row per sample form a column; `read` gives the others.",
                )
            if len(self) == 1:
                return part
            if whole is None:
                whole = torch.empty((offsets[-1], *part.shape[1:]), dtype=part.dtype, device="cpu")
                if len(present) < len(self):
                    whole.fill_(_filler(part) if fill is None else fill)
            if part.shape[1:] != whole.shape[1:] or part.dtype != whole.dtype:
                raise StaleError(
                    f'"{name}" is {tuple(part.shape[1:])} {part.dtype} in shard {i} and {tuple(whole.shape[1:])} '
                    f"{whole.dtype} in shard {present[0]}.",
                    hint="The shards were not made alike: delete the pass and sweep again.",
                )
            whole[offsets[i] : offsets[i + 1]] = part
        assert whole is not None
        return whole

    @abstractmethod
    def seal(self, meta: Mapping[str, Any] | None = None) -> None:
        """Mark the set as complete, with JSON-able notes on the result.

        Raises
        ------
        IncompleteError
            If shards are missing.
        """

    @abstractmethod
    def lock(self) -> AbstractContextManager[None]:
        """Be the only one who writes, against other processes and threads; a dead process's lock is no obstacle.

        Raises
        ------
        StoreError
            If another live process or thread is writing; it says which and since when.
        """

    @abstractmethod
    def _present(self, *, sizes: bool = False) -> set[int]:
        """Shards that are there; with `sizes`, whose files also have the right size."""

    @abstractmethod
    def _array_names(self, i: int) -> list[str]: ...

    def _check_index(self, i: int) -> None:
        if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i < len(self):
            raise BadValueError(f"There are {count(len(self), 'shard')}, counted from 0; got {i!r}.")

    def _check_names(self, names: Sequence[str] | None, known: Sequence[str]) -> None:
        for name in names or ():
            if name not in known:
                raise UnknownNameError(
                    f'The shards of {self.recipe.describe()} have no array "{name}".',
                    hint=f"{nearest(name, known)} There are {', '.join(sorted(known))}.",
                )

    def _missing_shard(self, i: int) -> IncompleteError:
        start, stop = self.bounds[i]
        return IncompleteError(
            f"Shard {i} of {self.recipe.describe()} (samples {start} to {stop - 1}) is not there.",
            hint="Run the sweep again: only what is missing is made.",
        )

    def _check_complete(self) -> None:
        if missing := self.missing:
            raise IncompleteError(
                f"{count(len(missing), 'shard')} of {len(self)} are missing: {', '.join(map(str, missing[:8]))}"
                f"{' …' if len(missing) > 8 else ''}.",
                hint="Write them before sealing.",
            )


def checked_bounds(bounds: Sequence[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """Return bounds as pairs of whole numbers, refusing gaps backwards, overlaps and empty shards."""
    pairs: list[tuple[int, int]] = []
    for pair in bounds:
        start, stop = (int(v) for v in pair)
        if start < (pairs[-1][1] if pairs else 0) or stop <= start:
            raise BadValueError(
                f"Bounds of shards are (start, stop) pairs, ascending, without overlap and not empty; got {tuple(pair)}"
                f"{f' after {pairs[-1]}' if pairs else ''}."
            )
        pairs.append((start, stop))
    return tuple(pairs)


def _filler(part: Tensor) -> float | int | bool:
    if part.dtype.is_floating_point:
        return float("nan")
    return False if str(part.dtype) == "torch.bool" else -1 if part.dtype.is_signed else 0
