"""The references of many layers, read from a pass in one go and kept together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

from workbench.sweeps.narrow import narrow
from workbench.sweeps.references import Block, TopReferences
from workbench.sweeps.tables import Pass

__all__ = ["reference_index"]

_COLUMNS = {"activation": "max", "relevance": "relevance"}


def reference_index(
    found: Pass, layers: Sequence[str], kinds: Sequence[str], origins: np.ndarray, k: int, *, per_origin: int = 1
) -> dict[str, Tensor]:
    """The `k` strongest samples of each component of all layers; every shard of the pass is opened twice in all.

    Parameters
    ----------
    found : Pass
    layers : names
    kinds : sequence of {"activation", "relevance"}
        What samples are ordered by. Activations that saturate tie at their maximum; then the mean over positions
        decides.
    origins : (data,) int64
        Original picture of each sample id.
    k, per_origin : int

    Returns
    -------
    dict of tensors (component, k)
        ``layer|kind|ids``, ``…|values``, ``…|peak``; whole numbers as `narrow` stores them, -inf in empty slots.
    """
    wanted = [(layer, kind) for layer in layers for kind in kinds]
    tops = {one: TopReferences(origins, k, per_origin=per_origin) for one in wanted}
    for shard in found.blocks([name for one in wanted for name in _names(*one)]):
        for one, top in tops.items():
            top.add(_block(shard, *one))

    made: dict[str, Tensor] = {}
    ids: dict[tuple[str, str], Tensor] = {}
    peaks: dict[tuple[str, str], Tensor] = {}
    for one, top in tops.items():
        ids[one], made[f"{'|'.join(one)}|values"] = top.result(partial(_blocks, found, *one))
        peaks[one] = torch.full(ids[one].shape, -1, dtype=torch.int32)
    for shard in found.blocks([f"{layer}|peak" for layer in layers]):
        row_of = torch.full((int(shard["sample"].max()) + 1,), -1, dtype=torch.int64)
        row_of[shard["sample"]] = torch.arange(len(shard["sample"]))
        for one in wanted:
            _look_up(peaks[one], ids[one], shard[f"{one[0]}|peak"], row_of)
    for one in wanted:
        made |= {f"{'|'.join(one)}|ids": narrow(ids[one]), f"{'|'.join(one)}|peak": narrow(peaks[one])}
    return made


def _names(layer: str, kind: str) -> list[str]:
    return [f"{layer}|{_COLUMNS[kind]}", *([f"{layer}|mean"] if kind == "activation" else [])]


def _block(shard: dict[str, Tensor], layer: str, kind: str) -> Block:
    column, *second = (shard[name] for name in _names(layer, kind))
    return Block(column, shard["sample"], shard["is_valid"], second[0] if second else None)


def _blocks(found: Pass, layer: str, kind: str) -> Iterator[Block]:
    return (_block(shard, layer, kind) for shard in found.blocks(_names(layer, kind)))


def _look_up(found: Tensor, ids: Tensor, column: Tensor, row_of: Tensor) -> None:
    """Fill in what a column of one shard says of the references that lie in it."""
    inside = (ids >= 0) & (ids < len(row_of))
    row = torch.where(inside, row_of[ids.clamp(0, len(row_of) - 1)], -1)
    component, slot = (row >= 0).nonzero(as_tuple=True)
    found[component, slot] = column[row[component, slot], component]
