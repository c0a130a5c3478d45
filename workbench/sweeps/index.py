"""The references of many layers, read from a pass in one go and kept together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from workbench.sweeps.narrow import narrow, widen
from workbench.sweeps.references import Block, Candidates, TopReferences
from workbench.sweeps.squeeze import expand, squeeze
from workbench.sweeps.tables import Pass

__all__ = ["as_arrays", "block_of", "from_arrays", "reference_index", "tops_of", "wanted_arrays"]

_COLUMNS = {"activation": ("max", "mean"), "relevance": ("relevance",)}


def reference_index(
    found: Pass, layers: Sequence[str], kinds: Sequence[str], origins: np.ndarray, k: int, *, per_origin: int = 1,
    device: torch.device | str = "cpu",
) -> dict[str, Tensor]:  # fmt: skip
    """The `k` strongest samples of each component of all layers; every shard of the pass is read once.

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
    device : torch.device or str
        Where they are chosen.

    Returns
    -------
    dict of tensors (component, k)
        ``layer|kind|ids``, ``…|values``, ``…|peak``, each squeezed; whole numbers as `narrow` stores them, -inf in
        empty slots.
    """
    tops = tops_of(layers, kinds, origins, k, per_origin=per_origin)
    names = sorted({name for one in tops for name in wanted_arrays(*one)})
    for shard in found.blocks(names):
        for one, top in tops.items():
            top.add(block_of(shard, *one).to(device))
    made: dict[str, Tensor] = {}
    for one, top in tops.items():
        made |= as_arrays(top.result(), *one)
    return made


def tops_of(
    layers: Sequence[str], kinds: Sequence[str], origins: np.ndarray, k: int, *, per_origin: int = 1
) -> dict[tuple[str, str], TopReferences]:
    """Nothing chosen yet, for each layer and kind."""
    if len(np.unique(origins)) == len(origins):  # every sample is an original: none has a view too many
        per_origin = 0
    return {(layer, kind): TopReferences(origins, k, per_origin=per_origin) for layer in layers for kind in kinds}


def wanted_arrays(layer: str, kind: str) -> list[str]:
    """Columns of a sweep that references of one kind are chosen from: value, second value, peak."""
    return [f"{layer}|{name}" for name in (*_COLUMNS[kind], "peak")]


def block_of(rows: Mapping[str, Tensor], layer: str, kind: str) -> Block:
    """Rows of a sweep, as references of one kind see them."""
    values, *second, peak = (rows[name] for name in wanted_arrays(layer, kind))
    return Block(values, rows["sample"], rows["is_valid"], second[0] if second else None, peak)


def as_arrays(found: Candidates, layer: str, kind: str, *, to_merge: bool = False) -> dict[str, Tensor]:
    """References as they are stored: squeezed, or plain and with the second value where they are to be merged."""
    name = f"{layer}|{kind}"
    arrays = {f"{name}|ids": narrow(found.ids), f"{name}|values": found.values}
    if found.peak is not None:
        arrays[f"{name}|peak"] = narrow(found.peak)
    if not to_merge:
        return {name: squeeze(array) for name, array in arrays.items()}
    if found.second is not None:
        arrays[f"{name}|second"] = found.second
    return arrays


def from_arrays(arrays: Mapping[str, Tensor], layer: str, kind: str) -> Candidates:
    """References as `as_arrays` stored them."""
    name = f"{layer}|{kind}"
    return Candidates(
        widen(expand(arrays[f"{name}|ids"])),
        expand(arrays[f"{name}|values"]),
        arrays.get(f"{name}|second"),
        widen(expand(arrays[f"{name}|peak"]), torch.int32),
    )
