"""All corrections on all architectures of the part world: what falls, what it costs, and what is left.

The networks have learned that a date means the first class, since it lies on 80 % of that class's training scenes. The
direction of the date is fitted to training scenes of that class, with and without it; corrections are learned from
training scenes, and judged on test scenes, each of them clean and with the date.

One JSON line per cell, then `ratio`: the process time of the whole table, training of the networks included, divided by
one hour. Finished cells are kept, so that what was cut off goes on; their times are those of when they were made.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import SimpleNamespace
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

import workbench as wb
from workbench.core.config import settings
from workbench.core.errors import WorkbenchError
from workbench.core.progress import SilentProgress
from workbench.data.part_world import PartWorld
from workbench.methods import (
    CDEP,
    RRR,
    SVMCAV,
    AClArC,
    LassoCAV,
    LogisticCAV,
    PatternCAV,
    PClArC,
    RClArC,
    RidgeCAV,
    RRClArC,
)
from workbench.methods.correction.base import Correction, TrainedCorrection, cav_facts
from workbench.methods.correction.training import Objective
from workbench.methods.evaluation.correction import answers
from workbench.models.bird_training import bird_card, bird_net, bird_recipe, bird_weights_path, bird_world
from workbench.store import Recipe, Store

__all__ = ["METHODS", "SPOTS", "Bench", "Setting", "bench"]

ARTIFACT = "timestamp"
VERSION = 2
TOOLS = {"threads": 1, "torch": torch.__version__}

SPOTS = {
    "vgg": ("features.16", "features.14", "mean"),
    "vgg-bn": ("features.23", "features.20", "mean"),
    "resnet": ("layer3", "layer3.0", "mean"),
    "efficientnet": ("act2", "blocks", "mean"),
    "vit": ("blocks", "blocks.4", "token"),
}
"""Where each is corrected: what its head averages, or the class token that its head reads; and a layer before that.

Means and not largest values, since that is what the heads see: of the mean difference that the date makes in the scenes
of all classes, a pattern of largest values finds a cosine of 0.93 in the ResNet, one of means 0.99.
"""

CHOSEN = ("vgg", "resnet", "efficientnet", "vit")


@dataclass(frozen=True)
class Setting:
    """How much is measured.

    Attributes
    ----------
    n_train, n_test : int
        Scenes to correct with, and to judge by.
    n_explained : int
        Of the latter, those that relevance and sensitivity are measured on.
    epochs : int
        Of every method that trains.
    world : PartWorld
        What the networks are trained on; corrections see the first `n_train` of its scenes.
    passes : int or None
        Of the training of the networks; None: as they are registered.
    """

    n_train: int = 2000
    n_test: int = 1000
    n_explained: int = 64
    epochs: int = 10
    world: PartWorld | None = None
    passes: int | None = None


QUICK = Setting(n_train=60, n_test=24, n_explained=4, epochs=1, world=PartWorld(60, n_classes=3), passes=1)


class Painted(PartWorld):
    """A part world that paints each scene once, so that times are those of the methods."""

    def _read(self, i: int, least: Any) -> Any:
        held = self.__dict__.setdefault("_painted", {})
        if i not in held:
            held[i] = super()._read(i, least)
        return held[i]

    def masks(self, i: int) -> Any:
        held = self.__dict__.setdefault("_outlined", {})
        if i not in held:
            held[i] = {name: mask for name, mask in super().masks(i).items() if name == ARTIFACT}
        return held[i]


class Plain(TrainedCorrection):
    """The control: as many epochs over the same samples, and nothing is asked but the task."""

    name = "plain"

    def __init__(
        self, layer: str, *, trains: str = "above", samples: Any = None, attacked: Any = None, epochs: int = 10,
        rate: float | None = None, batch: int = 64, optimiser: str = "auto", loss: str = "auto",
        validation: float = 0.1, patience: int | None = None, seed: int = 0,
    ):  # fmt: skip
        self.layer, self.trains, self.samples, self.attacked, self.epochs = layer, trains, samples, attacked, epochs
        self.rate, self.batch, self.optimiser, self.loss = rate, batch, optimiser, loss
        self.validation, self.patience, self.seed = validation, patience, seed

    def fit(self, ctx: Any) -> Plain:
        """Train."""
        self._train(ctx, self.layer, Objective())
        return self


class TwoRounds(Correction):
    """P-ClArC at the earlier layer; then a direction of what is left, in the corrected model, and RR-ClArC along it."""

    name = "two-rounds"

    def __init__(self, early: Any, layer: str, epochs: int = 10):
        self.early, self.layer, self.epochs = early, layer, epochs

    def fit(self, ctx: Any) -> TwoRounds:
        """Correct, look again, correct what is left."""
        first = PClArC(self.early).fit(ctx).edits()
        with ctx.variant("first round", first) as corrected:
            left = type(self.early)(**(self.early.params() | {"layer": self.layer}))
            second = corrected.fit(RRClArC(corrected.fit(left), epochs=self.epochs)).edits()
        self._finish(ctx, first + second)
        return self

    def recipe_params(self, ctx: Any) -> dict[str, Any]:
        return {"layer": self.layer, "epochs": self.epochs, "early": cav_facts(ctx, self.early, "PClArC")}


METHODS: dict[str, Callable[[Bench], Correction | None]] = {
    "none": lambda at: None,
    "fine-tuning": lambda at: Plain(at.layer, epochs=at.setting.epochs),
    "P-ClArC": lambda at: PClArC(at.cav),
    "P-ClArC, per sample": lambda at: PClArC(at.cav, at="sample"),
    "P-ClArC, earlier": lambda at: PClArC(at.early),
    "R-ClArC": lambda at: RClArC(at.cav),
    "R-ClArC, earlier": lambda at: RClArC(at.early),
    "A-ClArC": lambda at: AClArC(at.cav, epochs=at.setting.epochs),
    "RR-ClArC": lambda at: RRClArC(at.cav, epochs=at.setting.epochs),
    "RR-ClArC, earlier": lambda at: RRClArC(at.early, epochs=at.setting.epochs),
    "P-ClArC, then RR-ClArC": lambda at: TwoRounds(at.early, at.layer, at.setting.epochs),
    "RRR": lambda at: RRR(ARTIFACT, at.layer, epochs=at.setting.epochs),
    "CDEP": lambda at: CDEP(ARTIFACT, at.layer, epochs=at.setting.epochs),
}
"""Each with its defaults, which are what users meet first; "earlier" stands for a layer further below."""

FILTERS = {"svm": SVMCAV, "ridge": RidgeCAV, "lasso": LassoCAV, "logistic": LogisticCAV}


class Bench:
    """One network with its training scenes, its test scenes, and the direction of the artifact.

    Parameters
    ----------
    architecture : str
    setting : Setting
    store : Store
        Where finished cells are kept.
    train, test : Session
    attacked : PartWorld
        The test scenes with the artifact.
    """

    def __init__(self, architecture: str, setting: Setting, store: Any, train: Any, test: Any, attacked: PartWorld):
        self.architecture, self.setting, self.store = architecture, setting, store
        self.train, self.test, self.attacked = train, test, attacked
        self.layer, self.layer_before, self.pooling = SPOTS[architecture]

    @cached_property
    def cav(self) -> Any:
        """The within-class pattern of the training scenes with the artifact, by their ids."""
        return self.train.fit(self._of(PatternCAV, self.layer))

    @cached_property
    def early(self) -> Any:
        """The same at a layer further below."""
        return self.train.fit(self._of(PatternCAV, self.layer_before))

    def cosines(self) -> dict[str, Any]:
        """Cosines of directions with the mean difference that the artifact makes in the test scenes."""

        def work() -> dict[str, Any]:
            ids = np.arange(len(self.attacked))
            values = [
                self.test.run(
                    answers, self.test.model, data, ids, self.layer, self.pooling
                )[2].astype(np.float64)
                for data in (self.test.data, self.attacked)
            ]  # fmt: skip
            difference = values[1] - values[0]
            true = difference.mean(0)
            own = self.cav.direction_.astype(np.float64)
            found = {"pattern": float(own @ true / np.linalg.norm(true)), "n_positives": int(self._positives.sum())}
            sizes = np.linalg.norm(difference, axis=1)
            found["pattern_per_scene"] = float(np.mean((difference @ own)[sizes > 0] / sizes[sizes > 0]))
            for name, kind in FILTERS.items():
                made = self.train.fit(self._of(kind, self.layer))
                found[name] = float(made.direction_.astype(np.float64) @ true / np.linalg.norm(true))
            return {k: round(v, 4) for k, v in found.items()}

        return self._kept("directions", {}, work)

    def cell(self, method: str) -> dict[str, Any]:
        """The numbers of one method; ``na`` holds the reason where there are none, ``na_relevance`` likewise."""
        made = METHODS[method](self)
        facts = {} if made is None else {"version": made.result_version, **made.recipe_params(self.train)}
        if isinstance(made, RClArC):
            facts["counts"] = "touched"
        return self._kept(method, facts, lambda: self._measured(method, made))

    def _measured(self, method: str, made: Correction | None) -> dict[str, Any]:
        started = time.process_time()
        fixed, seconds = None, 0.0
        if made is not None:
            if isinstance(made, TrainedCorrection):
                self.train.checkpoint(made).drop()  # a training that goes on would be too quick
            try:
                # Not from the store: its time is what is asked for.
                self.train.run(made.fit, self.train)
            except WorkbenchError as error:
                return {"na": str(error.message)}
            seconds = time.process_time() - started
            fixed = self.test.variant(method, made.edits())
        try:
            row, reason = self._judged(fixed)
        finally:
            if fixed is not None:
                fixed.close()
        found = {k: round(float(v), 4) for k, v in row.items() if np.isfinite(v)}
        found["seconds"] = round(seconds, 2)
        if isinstance(made, RClArC):
            found |= {f"touched_{kind}": share for kind, share in self._touched(made).items()}
        return found | ({"na_relevance": reason} if reason else {})

    def _judged(self, fixed: Any) -> tuple[Any, str]:
        """The row of a re-evaluation; without relevance, and why, where the network cannot be explained."""
        found = self.test.reevaluate(
            *([] if fixed is None else [fixed]),
            attacked=self.attacked,
            artifact=ARTIFACT,
            cav=self.cav,
            n_explained=self.setting.n_explained,
        )
        said = [
            text.partition(": ")[2] for text in found.warnings if text.startswith(f"{found.models[-1]}: no relevance")
        ]
        return found.to_frame().iloc[-1], " ".join(said)

    def _touched(self, made: RClArC) -> dict[str, float]:
        """Shares of the clean and of the attacked scenes that a condition holds for."""
        places = {
            kind: SimpleNamespace(model=self.test.model, data=data, progress=SilentProgress())
            for kind, data in (("clean", self.test.data), ("attacked", self.attacked))
        }
        return {
            kind: round(float(self.test.run(made.touched, ctx=place).to_numpy().mean()), 4)
            for kind, place in places.items()
        }

    @property
    def _positives(self) -> np.ndarray:
        data = self.train.data
        return data.planted[:, data.artifact_names.index(ARTIFACT)]

    def _of(self, kind: Any, layer: str) -> Any:
        ids = np.flatnonzero(self._positives)
        return kind(layer, positives=ids, pooling=self.pooling, concept=ARTIFACT, resamples=0)

    def _kept(self, what: str, facts: Mapping[str, Any], work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        data = [one.fingerprint.digest for one in (self.train.data, self.attacked)]
        recipe = Recipe(
            f"benchmark:{what}", model=self.train.model.fingerprint, data=self.test.data.fingerprint, layer=self.layer,
            params={"facts": dict(facts), "data": data, "explained": self.setting.n_explained},
            result_version=VERSION,
        )  # fmt: skip
        stored = self.store.meta(recipe)
        if stored is None:
            started = time.process_time()
            made = work()
            made["seconds_all"] = round(time.process_time() - started, 2)
            self.store.put(recipe, {"none": np.zeros(0, np.float32)}, meta={"facts": made})
            return {**made, "kept": False}
        return {**stored["facts"], "kept": True}


@contextmanager
def bench(architecture: str, setting: Setting, store: Any) -> Iterator[Bench]:
    """Open sessions on a network, its training scenes and its test scenes."""
    world = setting.world or bird_world()
    net, card = bird_net(architecture, setting.world, epochs=setting.passes), bird_card(architecture, setting.world)
    own = {"n_classes": len(world.classes), "size": world.size}
    clean, attacked = (
        Painted(setting.n_test, world.seed, split="test", artifacts=artifacts, **own)
        for artifacts in (None, {ARTIFACT: 1.0})
    )
    train = Painted(setting.n_train, world.seed, **own)  # the date on the first class, as the network saw it
    with (
        wb.open_session(lambda: (net, card), data=train, store=store) as first,
        wb.open_session(lambda: (net, card), data=clean, store=store) as second,
    ):
        yield Bench(architecture, setting, first.store, first, second, attacked.using(second.data.transform))


def trained(architecture: str, setting: Setting, store: Any) -> float:
    """Seconds that the network took to train, now or when it was trained for an earlier table; NaN if nobody knows."""
    is_new = not bird_weights_path(architecture, setting.world, epochs=setting.passes).exists()
    params = bird_recipe(architecture, setting.world, epochs=setting.passes)
    recipe = Recipe("benchmark:network", params=params, result_version=VERSION)
    started = time.process_time()
    bird_net(architecture, setting.world, epochs=setting.passes)
    if is_new:
        facts = {"seconds": round(time.process_time() - started, 1)}
        store.put(recipe, {"none": np.zeros(0, np.float32)}, meta={"facts": facts})
    return ((store.meta(recipe) or {}).get("facts") or {}).get("seconds", float("nan"))


def say(**facts: Any) -> None:
    """Print one JSON line."""
    plain = {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in facts.items()}
    print(json.dumps({"name": "correction", **plain, **TOOLS}), flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few scenes and one pass: does it run?")
    parser.add_argument("--models", nargs="+", default=list(CHOSEN), choices=list(SPOTS))
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--store", type=Path, help="keep networks and finished cells here (default: nowhere)")
    parser.add_argument("--kept", action="store_true", help="keep them where the workbench keeps its results")
    parser.add_argument("--write", type=Path, help="write the table as a page; what people wrote below it stays")
    args = parser.parse_args()
    torch.set_num_threads(1)
    setting = QUICK if args.quick else Setting()
    models = ["resnet"] if args.quick else args.models
    wall, cells, directions, seconds = time.perf_counter(), {}, {}, {}
    with tempfile.TemporaryDirectory(prefix="workbench-correction-") as fresh:
        place = settings().store if args.kept else args.store or Path(fresh)
        os.environ["WORKBENCH_STORE"] = str(place)
        store = Store.open(place)
        for model in models:
            seconds[model] = trained(model, setting, store)
            with bench(model, setting, store) as at:
                directions[model] = {"layer": at.layer, "pooling": at.pooling, **at.cosines()}
                say(part="directions", model=model, **directions[model])
                for method in args.methods:
                    cells[model, method] = at.cell(method)
                    say(part="cell", model=model, method=method, **cells[model, method])
    known = [one for one in seconds.values() if not np.isnan(one)]
    spent = [one["seconds_all"] for one in (*cells.values(), *directions.values())]
    if args.write:
        write(args.write, setting, cells, directions, sum(known), sum(spent))
    say(
        ratio=round((sum(spent) + sum(known)) / 3600, 4),
        unit="one hour of one core",
        goal=1.0,
        seconds_networks=round(sum(known), 1),
        networks_of_unknown_time=len(seconds) - len(known),
        seconds_cells=round(sum(spent), 1),
        seconds_wall_now=round(time.perf_counter() - wall, 1),
        cells=len(cells),
        cells_made_now=sum(not one["kept"] for one in cells.values()),
        corrected=[f"{model}: {method}" for (model, method), one in cells.items() if is_corrected(one)],
    )


def is_corrected(cell: Mapping[str, Any]) -> bool:
    """Whether the gap is below 5 points at a cost of 3 points at most."""
    return "na" not in cell and cell["gap"] < 0.05 and cell["clean_change"] >= -0.03


# --- the page ---------------------------------------------------------------------------------------------------------

OWN_WORDS = "## What to learn from it"
"""What stands below this line of the page is written by people, and stays."""

NAMES = {
    "vgg": "VGG",
    "vgg-bn": "VGG with batch norm",
    "resnet": "ResNet",
    "efficientnet": "EfficientNet",
    "vit": "ViT",
}


def write(
    path: Path, setting: Setting, cells: Mapping[Any, Any], directions: Mapping[str, Any], training: float, rest: float
) -> None:
    """Write the page in markdown; the part that people wrote is taken over from the page that is there."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    own = old[old.index(OWN_WORDS) :] if OWN_WORDS in old else f"{OWN_WORDS}\n"
    models = list(directions)
    world = setting.world or bird_world()
    share = round(100 * world.describe()["artifacts"][ARTIFACT][0])
    lines = [
        "## Corrections compared on generated birds",
        "",
        f"Networks of {len(models)} architectures learned from {len(world):,} scenes that a date means the first "
        f"class, since it lay on {share} % of that class's pictures. Its direction is the within-class pattern of the "
        f"first {setting.n_train:,} of these scenes, found by the ids of those with the date. Methods have their "
        f"defaults and learn from the same scenes, in {setting.epochs} epochs where they train; they are judged by "
        f"{setting.n_test:,} test scenes, each of them clean and with the date. There is one network per architecture, "
        "so that differences between architectures may be chance.",
        "",
        "- **clean**, **attacked**: right answers in percent; **gap**: the difference, paired by scene; **cost**: "
        "change of the clean accuracy in points. In brackets the middle 95 % of the bootstrap over scenes.",
        f"- **relevance**: share of the relevance for the true class that lies on the date, in {setting.n_explained} "
        "attacked scenes.",
        "- **probe**: area under the curve of a linear probe that tells attacked from clean scenes, by the activations "
        "of the layer (behind its edits) and by the logits; 0.5 is blind.",
        "- **sensitivity**: mean change of the true class's logit if the date's direction appears everywhere, to first "
        "order, before edits of the layer.",
        "- **seconds**: process time of the fit on one core, the scenes being painted already.",
        "- **earlier**: at a layer further below, along the pattern found there. **P-ClArC, then RR-ClArC**: first the "
        "one there, then the other along the pattern that is found in the corrected network where its head reads.",
    ]
    for model in models:
        lines += _section(model, directions[model], {m: c for (own, m), c in cells.items() if own == model})
    lines += [
        "",
        "### Directions",
        "",
        "Cosines of directions that were fitted within the first class with the mean difference that the date makes in "
        "the test scenes of all classes.",
        "",
        f"| network | pattern | {' | '.join(FILTERS)} |",
        f"|---|{'---|' * (1 + len(FILTERS))}",
    ]
    lines += [
        f"| {NAMES[m]} | {' | '.join(f'{d[k]:.2f}' for k in ('pattern', *FILTERS))} |" for m, d in directions.items()
    ]
    lines += [
        "",
        "### To make it again",
        "",
        "`python -m tests.benchmarks.correction --write workbench/methods/correction/TABLE.md` took "
        f"{rest / 60:.0f} minutes of one core, and {training / 60:.0f} for training the networks. With `--kept` both "
        "are kept, so that a table that was cut off goes on.",
        "",
    ]
    path.write_text("\n".join(lines) + "\n" + own, encoding="utf-8")


def _section(model: str, direction: Mapping[str, Any], cells: Mapping[str, Any]) -> list[str]:
    """The table of one network, and why cells are empty."""
    areas = [c["relevance_area"] for c in cells.values() if "relevance_area" in c]
    area = f" (area {100 * areas[0]:.0f} %)" if areas else ""
    before, reasons = SPOTS[model][1], {}
    lines = [
        "",
        f"### {NAMES[model]}",
        "",
        f"At `{direction['layer']}`, activations being "
        f"{'those of the class token' if direction['pooling'] == 'token' else 'averaged'}; earlier: at `{before}`.",
        "",
        f"| | clean | cost | attacked | gap | relevance{area} | probe: layer | logits | sensitivity | seconds |",
        f"|---|{'---|' * 9}",
    ]
    for method, cell in cells.items():
        if "na" in cell:
            number = reasons.setdefault(cell["na"], len(reasons) + 1)
            lines.append(f"| {method} | n/a ({number}) |{' |' * 8}")
            continue
        relevance = f"{100 * cell['relevance']:.0f} %" if "relevance" in cell else "n/a"
        if "na_relevance" in cell:
            relevance += f" ({reasons.setdefault(cell['na_relevance'], len(reasons) + 1)})"
        change = "" if method == "none" else _points(cell, "clean_change", "+")
        values = [
            f"{100 * cell['clean']:.1f}", change, _points(cell, "attacked"), _points(cell, "gap"), relevance,
            f"{cell['probe_layer']:.2f}", f"{cell['probe_logits']:.2f}", f"{cell['sensitivity']:.2f}",
            f"{cell['seconds']:.1f}" if change else "",
        ]  # fmt: skip
        lines.append(f"| {method} | {' | '.join(values)} |")
    touched = [
        f"{method} touched {100 * cell['touched_clean']:.0f} % of the clean and "
        f"{100 * cell['touched_attacked']:.0f} % of the attacked scenes.  "
        for method, cell in cells.items()
        if "touched_clean" in cell
    ]
    return [*lines, "", *touched, *(f"({number}) {text[0].upper()}{text[1:]}  " for text, number in reasons.items())]


def _points(cell: Mapping[str, Any], key: str, sign: str = "") -> str:
    """A share in percent, with its interval."""
    middle, low, high = (100 * cell[f"{key}{end}"] for end in ("", "_low", "_high"))
    return f"{middle:{sign}.1f} ({low:{sign}.1f} to {high:{sign}.1f})"


if __name__ == "__main__":
    main()
