"""What corrections and steering cost at a layer near the end of a network: inference, an epoch, and a moved slider.

`ratio` is the time of inference with P-ClArC divided by inference with the plain model; `r_clarc` holds that of R-ClArC
by its condition, and `r_clarc_ratio` the largest of them. Plain is the session's own handle, batch norms folded, so
that nothing but the correction differs. `rr_clarc_epoch` compares one epoch of RR-ClArC with one of fine-tuning the
same weights, the frozen forward pass and the held-out measurements being part of both; `rr_clarc_step` leaves these
out, and `rr_clarc_epoch_below` is one group of layers further down, where convolutions are trained and the penalty
needs a second backward pass. `first_paint_s` is the wall time from a strength that changes to the outputs in the
panel's trait, for one image, the median and the largest; before each move the maps and the population of the last are
underway.
"""

from __future__ import annotations

import statistics
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tests.benchmarks.common import Case, case, emit, in_turns, options, ratio
from workbench.methods import PatternCAV, PClArC, RClArC
from workbench.methods.correction.rr_clarc import AlongDirections
from workbench.methods.correction.trainee import Trainee
from workbench.methods.correction.training import Objective, Options, Rows, fine_tune
from workbench.session.session import Session
from workbench.store import Store
from workbench.widgets import SteeringPanel

LAYERS = {"resnet18": ("layer4", "layer3"), "toy": ("features.11", "features.8")}
GOALS = {"goal": 1.05, "goal_r_clarc": 1.3, "goal_rr_clarc_epoch": 1.2, "goal_first_paint_s": 1.0}
BATCH = 16


def main() -> None:
    """Measure and print."""
    chosen = options(__doc__, images=64)
    results = {}
    for name in chosen.models:
        with tempfile.TemporaryDirectory(prefix="workbench-steering-") as folder:
            results[name] = measure(case(name, chosen.images), Path(folder), chosen.repeats)
    emit("steering", results, **GOALS)


def measure(one: Case, folder: Path, repeats: int) -> dict[str, Any]:
    """All figures of one model."""
    said = torch.cat([one.handle(x) for x in one.x.split(BATCH)]).argmax(1).numpy()
    one.labels = np.arange(len(one.x)) % min(4, one.handle.n_classes)
    layer, below = LAYERS[one.name]
    with Session(one.handle, one.data, Store.open(folder)) as s:
        # Every third sample has the artifact; what direction that gives does not matter for the time.
        cav = s.fit(PatternCAV(layer, positives=np.arange(0, len(one.x), 3), scope="all", resamples=0))
        names, counts = np.unique(said, return_counts=True)
        some = names[np.argsort(-counts)][: max(1, len(names) // 2)].tolist()
        return {
            **inference(one, s, cav, some, repeats),
            **epochs(s, layer, below, repeats),
            **paint(s, layer, 4 * repeats),
            "unit": f"plain inference, {len(one.x)} images, batch {BATCH}",
            "layer": layer,
            "images": one.source,
        }


def inference(one: Case, s: Session, cav: Any, classes: list[int], repeats: int) -> dict[str, Any]:
    """Corrected over plain, in turns."""
    corrections = {"p": PClArC(cav), "p_sample": PClArC(cav, at="sample")}
    for condition in ("artifact", "class", "both"):
        corrections[condition] = RClArC(cav, condition=condition, classes=None if condition == "artifact" else classes)
    handles = {"plain": s.model}
    handles |= {name: s.model.variant(s.fit(method).edits()) for name, method in corrections.items()}
    parts = one.x.split(BATCH)

    def run(handle: Any) -> Callable[[], Any]:
        return lambda: [handle(x) for x in parts]

    times = in_turns({name: run(handle) for name, handle in handles.items()}, repeats)
    found = {name: ratio(times[name], times["plain"]) for name in corrections}
    reactive = {name: found[name]["ratio"] for name in ("artifact", "class", "both")}
    return {
        **found["p"],
        "p_clarc_per_sample": found["p_sample"]["ratio"],
        "r_clarc_ratio": max(reactive.values()),
        "r_clarc": reactive,
    }


def epochs(s: Session, layer: str, below: str, repeats: int) -> dict[str, Any]:
    """An epoch with the penalty over one without it, in turns."""
    how = Options(epochs=1, batch=BATCH)

    def objective(where: str) -> Objective:
        vector = torch.zeros(1, s.model.layers[where].n_components)
        vector[0, :2] = torch.tensor([0.6, 0.8])
        return AlongDirections(s.model.layers[where], vector, torch.ones(1), 1.0)

    def whole(where: str, penalised: bool) -> Callable[[], Any]:
        trainee = Trainee(s.model, where)
        asked = objective(where) if penalised else Objective()
        return lambda: fine_tune(s, trainee, asked, how, title="benchmark")

    def steps(penalised: bool) -> Callable[[], Any]:
        trainee, asked = Trainee(s.model, layer), objective(layer) if penalised else Objective()
        rows = Rows(s, trainee, np.arange(len(s.data)), np.asarray(s.data.labels), asked)
        again = _Held(rows)
        return lambda: again.epoch(trainee, asked, how)

    contenders = {f"{where} {on}": whole(where, on) for where in (layer, below) for on in (False, True)}
    contenders |= {f"step {on}": steps(on) for on in (False, True)}
    times = in_turns(contenders, repeats)
    of = {name: ratio(times[f"{name} True"], times[f"{name} False"]) for name in (layer, below, "step")}
    return {
        "rr_clarc_epoch": of[layer]["ratio"],
        "rr_clarc_epoch_range": of[layer]["range"],
        "rr_clarc_step": of["step"]["ratio"],
        "rr_clarc_epoch_below": of[below]["ratio"],
    }


class _Held:
    """Ten epochs' worth of steps on activations that are there already."""

    def __init__(self, rows: Rows):
        self.rows = rows

    def epoch(self, trainee: Trainee, asked: Objective, how: Options) -> None:
        """Run them."""
        optimiser = torch.optim.SGD(list(trainee.moving.values()), 1e-3, momentum=0.9)
        with torch.enable_grad():
            for k in range(10):
                for first in range(0, len(self.rows), how.batch):
                    batch = self.rows.batch(np.arange(first, min(first + how.batch, len(self.rows))))
                    generator = torch.Generator().manual_seed(k)
                    loss, penalty = asked.losses(trainee, batch, torch.nn.functional.cross_entropy, generator)
                    optimiser.zero_grad()
                    (loss if penalty is None else loss + asked.strength * penalty).backward()
                    optimiser.step()
                    asked.after_step(trainee, 1e-2)


def paint(s: Session, layer: str, moves: int) -> dict[str, Any]:
    """Seconds from a move to its outputs."""
    panel = SteeringPanel(s, interventions=[f"{layer}/unit/3"], sample=0, layer=layer)
    panel.wait(600)
    seen = threading.Event()
    wanted = [0.0]

    def look(change: Any) -> None:
        acts = change["new"].get("acts") or [{}]
        if acts[0].get("strength") == wanted[0]:
            seen.set()

    panel.observe(look, names=["outputs"])
    walls = []
    for k in range(moves):
        wanted[0] = (k + 1) / (moves + 1)
        seen.clear()
        started = time.perf_counter()
        panel.interventions = [{**panel.interventions[0], "strength": wanted[0]}]
        if not seen.wait(60):
            raise RuntimeError("The outputs did not come within a minute.")
        walls.append(time.perf_counter() - started)
        time.sleep(0.5)  # until the slider rests, and the maps are underway
    panel.close()
    return {"first_paint_s": round(statistics.median(walls), 4), "first_paint_largest_s": round(max(walls), 4)}


if __name__ == "__main__":
    main()
