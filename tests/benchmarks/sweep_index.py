"""A whole sweep over all convolutions and dense layers, with relevance and references, against the plain pass."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks.common import Case, Unit, case, emit, in_turns, options, ratio, unit
from workbench.core.progress import SilentProgress
from workbench.session.session import Session
from workbench.store import Store


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__, images=128, models=("resnet18", "efficientnet_lite0"))
    results = {}
    for name in chosen.models:
        one = case(name, chosen.images)
        results[name] = measure(one, unit(one), chosen.repeats, relevance=True)
    emit("sweep_index", results, goal=1.7, goal_efficientnet_lite0=1.8)


@dataclass
class Swept:
    """A session after its sweep, and where its store lies."""

    session: Session
    folder: Path

    def drop(self) -> None:
        """Stop the session without emptying what its model keeps, and remove the store."""
        self.session.lane.close()
        shutil.rmtree(self.folder, ignore_errors=True)


def measure(one: Case, plain: Unit, repeats: int, *, relevance: bool) -> dict[str, Any]:
    """Ratio of one model, each turn with a fresh store; what is in it is compared with brute force."""
    swept: list[Swept] = []
    times = in_turns({"unit": plain.run, "ours": sweeping(one, swept, relevance=relevance)}, repeats)
    result = {
        **ratio(times["ours"], times["unit"]),
        "unit": plain.text,
        "layers": len(one.handle.layers.linear()),
        "top_k_cells_right": cells_right(swept[-1].session, relevance=relevance),
        "images": one.source,
    }
    swept[-1].drop()
    return result


def sweeping(
    one: Case, swept: list[Swept], *, relevance: bool, target: str = "top", keep: str = "tables"
) -> Callable[[], None]:
    """A function that sweeps into a fresh store; what the last call made is left in `swept`."""
    data, layers = one.data, one.handle.layers.linear()
    data.fingerprint  # looks at all inputs; in a session that happens once, when it is opened

    def run() -> None:
        for old in swept:
            old.drop()
        folder = Path(tempfile.mkdtemp(prefix="workbench-benchmark-"))
        session = Session(one.handle, data, Store.open(folder, memory_gb=0.2))
        session.sweep(layers, relevance=relevance, target=target, keep=keep, progress=SilentProgress())
        swept[:] = [Swept(session, folder)]

    return run


def cells_right(
    session: Session, *, relevance: bool, target: str = "top", k: int = 40, kept: Session | None = None
) -> float:
    """Share of the cells of all references that hold the sample that sorting the whole table puts there.

    The references are those of `session`, or of another that `kept` them alone and so has no tables to sort. Each input
    is an original of its own, so that no view is passed over.
    """
    right = total = 0
    for layer in session.model.layers.linear():
        for by in ("activation", "relevance") if relevance else ("activation",):
            table = session.activations(layer) if by == "activation" else session.relevances(layer, target=target)
            values = table.values.double()
            second = session.activations(layer, pooling="mean").values.double() if by == "activation" else values * 0
            n = min(k, len(values))
            order = by_brute_force(values, second)[:n].T
            ids = (kept or session).references(layer, by=by, k=k, target=target).ids[:, :n]
            right += int((ids == order).sum())
            total += ids.numel()
    return right / total


def by_brute_force(values: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(rank, component) samples: larger value first, then larger second value, then smaller id."""
    order = second.argsort(dim=0, descending=True, stable=True)
    inner = values.gather(0, order).argsort(dim=0, descending=True, stable=True)
    return order.gather(0, inner)


if __name__ == "__main__":
    main()
