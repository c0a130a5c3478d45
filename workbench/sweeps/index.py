"""The references of many layers, read from a pass in one go and kept together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor

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
        ``layer|kind|ids``, ``…|values``, ``…|peak``, and for relevances ``…|target``; -1 (-inf) in empty slots. Whole
        numbers take two bytes where they fit.
    """
    wanted = [(layer, kind) for layer in layers for kind in kinds]
    tops = {one: TopReferences(origins, k, per_origin=per_origin) for one in wanted}
    for shard in found.blocks([name for one in wanted for name in _names(*one)]):
        for one, top in tops.items():
            top.add(_block(shard, *one))

    made: dict[str, Tensor] = {}
    ids: dict[tuple[str, str], Tensor] = {}
    small = _dtype(len(origins))
    for one, top in tops.items():
        ids[one], values = top.result(partial(_blocks, found, *one))
        name = "|".join(one)
        made |= {f"{name}|ids": ids[one].to(small), f"{name}|values": values}
    has_target = "relevance" in kinds
    for shard in found.blocks([*(f"{layer}|peak" for layer in layers), *(["target"] if has_target else [])]):
        row_of = torch.full((int(shard["sample"].max()) + 1,), -1, dtype=torch.int64)
        row_of[shard["sample"]] = torch.arange(len(shard["sample"]))
        for one in wanted:
            _look_up(made, *one, ids[one], shard, row_of)
    for name, t in made.items():
        if name.endswith(("|peak", "|target")):
            made[name] = t.to(_dtype(int(t.max()) + 1))
    return made


def _names(layer: str, kind: str) -> list[str]:
    return [f"{layer}|{_COLUMNS[kind]}", *([f"{layer}|mean"] if kind == "activation" else [])]


def _block(shard: dict[str, Tensor], layer: str, kind: str) -> Block:
    column, *second = (shard[name] for name in _names(layer, kind))
    return Block(column, shard["sample"], shard["is_valid"], second[0] if second else None)


def _blocks(found: Pass, layer: str, kind: str) -> Iterator[Block]:
    return (_block(shard, layer, kind) for shard in found.blocks(_names(layer, kind)))


def _look_up(
    made: dict[str, Tensor], layer: str, kind: str, ids: Tensor, shard: dict[str, Tensor], row_of: Tensor
) -> None:
    """Fill in peaks and targets of the references that lie in one shard."""
    inside = (ids >= 0) & (ids < len(row_of))
    row = torch.where(inside, row_of[ids.clamp(0, len(row_of) - 1)], -1)
    component, slot = (row >= 0).nonzero(as_tuple=True)
    at = row[component, slot]
    name = f"{layer}|{kind}"
    columns = {"peak": lambda: shard[f"{layer}|peak"][at, component]}
    if kind == "relevance":
        columns["target"] = lambda: shard["target"][at].to(torch.int32)
    for column, read in columns.items():
        t = made.setdefault(f"{name}|{column}", torch.full(ids.shape, -1, dtype=torch.int32))
        t[component, slot] = read()


def _dtype(n: int) -> torch.dtype:
    return torch.int16 if n < 1 << 15 else torch.int32
