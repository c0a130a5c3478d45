"""What a sweep holds of one shard while it is filled: every row, or the best candidates of each component so far."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from workbench.sweeps.freed import give_back
from workbench.sweeps.index import as_arrays, block_of, tops_of
from workbench.sweeps.references import KEPT_REFERENCES

if TYPE_CHECKING:
    from workbench.models.handle import ModelHandle
    from workbench.sweeps.plan import SweepPlan

__all__ = ["BestRows", "Columns", "Rows", "columns_of"]

Columns: TypeAlias = "dict[str, tuple[tuple[int, ...], torch.dtype]]"
"""Name to shape of a row and dtype."""


def columns_of(plan: SweepPlan, handle: ModelHandle) -> Columns:
    """What a sweep keeps per sample; known beforehand, so that a shard without one readable sample has it too."""
    columns: Columns = {}
    for name in plan.layers:
        row = (handle.layers[name].n_components,)
        columns |= {f"{name}|max": (row, torch.float32), f"{name}|mean": (row, torch.float32)}
        columns[f"{name}|peak"] = (row, torch.int32)
        if plan.rule is not None:
            columns[f"{name}|relevance"] = (row, torch.float32)
    if plan.rule is not None:
        columns |= {"target": ((), torch.int64), "score": ((), torch.float32), "relevance_sum": ((), torch.float32)}
    if not handle.is_dense and plan.keep == "tables":
        columns["output"] = ((handle.n_classes,), torch.float32)
    return columns


class Rows:
    """The rows of one shard, filled batch by batch; rows never filled hold NaN, or -1 for whole numbers."""

    def __init__(self, n: int, columns: Columns):
        self.is_valid = torch.zeros(n, dtype=torch.bool)
        self._arrays = {
            name: torch.full((n, *row), float("nan") if dtype.is_floating_point else -1, dtype=dtype)
            for name, (row, dtype) in columns.items()
        }

    def __len__(self) -> int:
        return len(self.is_valid)

    def put(self, at: np.ndarray, found: dict[str, Tensor]) -> None:
        """Write values computed for the rows `at`."""
        where = torch.from_numpy(np.asarray(at))
        for name, array in self._arrays.items():
            array[where] = found[name].detach().cpu().to(array.dtype)
        self.is_valid[where] = True

    def arrays(self, ids: np.ndarray) -> dict[str, Tensor]:
        """All arrays, with the columns of sample ids and of valid rows."""
        return {**self._arrays, "sample": torch.from_numpy(ids.copy()), "is_valid": self.is_valid}


class BestRows:
    """The best candidates of one shard, chosen from a bounded number of rows at a time; few numbers per sample.

    Parameters
    ----------
    plan : SweepPlan
    ids : (sample,) int64
        Samples of the shard.
    columns : Columns
    origins : (data,) int64
    device : torch.device or str
        Where they are chosen.
    """

    def __init__(
        self, plan: SweepPlan, ids: np.ndarray, columns: Columns, origins: np.ndarray, device: torch.device | str
    ):
        self._ids, self._device = ids, device
        self._rows = Rows(len(ids), {name: kind for name, kind in columns.items() if "|" not in name})
        of_layers = {name: kind for name, kind in columns.items() if "|" in name}
        self._held = Rows(min(plan.n_held, len(ids)), of_layers)
        self._held_ids: list[int] = []
        self._tops = tops_of(plan.layers, plan.kinds, origins, KEPT_REFERENCES)

    @property
    def is_valid(self) -> Tensor:
        """(sample,) bool: rows that were filled."""
        return self._rows.is_valid

    def put(self, at: np.ndarray, found: dict[str, Tensor]) -> None:
        """Take into account the values computed for the rows `at`."""
        self._rows.put(at, found)
        first = 0
        while first < len(at):
            begin = len(self._held_ids)
            part = slice(first, first + len(self._held) - begin)
            self._held_ids += self._ids[at[part]].tolist()
            self._held.put(np.arange(begin, len(self._held_ids)), {name: t[part] for name, t in found.items()})
            if len(self._held_ids) == len(self._held):
                self._choose()
            first = part.stop

    def arrays(self, ids: np.ndarray) -> dict[str, Tensor]:
        """Candidates of all layers, with the columns of the samples."""
        if self._held_ids or not bool(self.is_valid.any()):
            self._choose()
        made: dict[str, Tensor] = {}
        for (layer, kind), top in self._tops.items():
            best = top.result().each(lambda t, _: t[:, : len(ids)].contiguous())
            made |= as_arrays(best, layer, kind, to_merge=True)
        return {**made, **self._rows.arrays(ids)}

    def _choose(self) -> None:
        n = max(1, len(self._held_ids))  # a row that is not valid where no sample could be read
        self._held_ids += [0] * (n - len(self._held_ids))
        rows = {name: array[:n] for name, array in self._held.arrays(np.array(self._held_ids)).items()}
        for one, top in self._tops.items():
            top.add(block_of(rows, *one).to(self._device))
        self._held.is_valid[:] = False
        self._held_ids = []
        give_back()
