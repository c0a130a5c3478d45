"""What corrections share: the directions that they act along, edits as their result, and fine-tuning."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.corrections import CURVES, TrainingCurve
from workbench.core.edits import Edits
from workbench.core.errors import BadValueError, ModelError
from workbench.core.results import Direction
from workbench.methods.base import Corrects, Method
from workbench.methods.correction.trainee import Trainee
from workbench.methods.correction.training import Objective, Options, fine_tune
from workbench.methods.directions.cav import CAV
from workbench.methods.directions.sets import digest_of, sample_ids

if TYPE_CHECKING:
    from workbench.core.context import Context
    from workbench.core.results import Edit

__all__ = ["Correction", "TrainedCorrection", "artifacts_of", "cav_facts", "cavs_of", "directions_of"]


class Correction(Method, Corrects):
    """Base of all corrections: what is learned are edits, and the model they were learned on stays as it is.

    Attributes
    ----------
    edits_ : Edits
    warnings_ : tuple of str
        What speaks against it, in words.
    """

    edits_: Edits
    warnings_: tuple[str, ...]

    def edits(self) -> Edits:
        """The changes of the model, for `Session.variant`; they can be added to others and saved.

        Raises
        ------
        BadValueError
            If it is not fitted.
        """
        if not self.is_fitted:
            raise BadValueError(f"{type(self).__name__} is not fitted yet.", hint="session.fit(...) first.")
        return self.edits_

    def save(self, path: str | Path) -> Path:
        """Write the edits as safetensors with a description in JSON; see `Edits.save`."""
        return self.edits().save(path)

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Arrays of the edits, and their description."""
        arrays, facts = self.edits_.to_arrays()
        if not arrays:
            arrays["none"] = np.zeros(0, np.float32)
        return arrays, {**facts, "warnings": list(self.warnings_)}

    def restore(self, ctx: Context, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Take up stored edits."""
        self.edits_ = Edits.from_arrays(arrays, facts)
        self.warnings_ = tuple(facts["warnings"])

    def _finish(self, ctx: Context, edits: Sequence[Edit], warnings: Sequence[str] = ()) -> None:
        made_for = ctx.model.fingerprint
        self.edits_ = Edits(edits, model=f"{made_for.name}@{made_for.digest}", title=self._title())
        self.warnings_ = tuple(warnings)

    def _title(self) -> str:
        return type(self).__name__

    def __repr__(self) -> str:
        shown = []
        for name, value in self.params().items():
            if value is None:
                continue
            is_plain = isinstance(value, (str, int, float, bool)) or _is_methods(value)
            is_short = isinstance(value, (list, tuple, dict)) and len(repr(value)) < 60
            shown.append(f"{name}={value!r}" if is_plain or is_short else f"{name}=...")
        return f"{type(self).__name__}({', '.join(shown)})"


class TrainedCorrection(Correction):
    """Base of corrections that train the upper part of a private copy.

    While it trains, progress is shown and can be cancelled, and a checkpoint is kept: fitted again, also after the
    process was killed, it goes on where it was. Fitting takes place on the session's lane.

    Attributes
    ----------
    curve_ : TrainingCurve
        Losses and accuracies by epoch.
    watch : callable or None
        Set it before fitting to see the curve so far after each epoch, from the thread of the work.
    """

    result_version = 2

    curve_: TrainingCurve
    watch: Callable[[TrainingCurve], None] | None = None
    trains: str
    samples: Any
    attacked: Any
    epochs: int
    rate: float | None
    batch: int
    optimiser: str
    loss: str
    validation: float
    patience: int | None
    seed: int

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Edits, and the curve."""
        arrays, facts = super().state()
        arrays |= {f"curve|{name}": np.asarray(getattr(self.curve_, name), np.float64) for name in CURVES}
        return arrays, {**facts, "n_planned": self.curve_.n_planned, "best": self.curve_.best}

    def restore(self, ctx: Context, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Take up stored edits and the curve."""
        super().restore(ctx, arrays, facts)
        columns = {name: np.asarray(arrays[f"curve|{name}"]) for name in CURVES}
        self.curve_ = TrainingCurve(self._title(), **columns, n_planned=facts["n_planned"], best=facts["best"])

    def recipe_params(self, ctx: Context) -> dict[str, Any]:
        own = {k: v for k, v in self.params().items() if k not in ("samples", "attacked")}
        own["samples"] = None if self.samples is None else digest_of(sample_ids(ctx.data, self.samples, "samples"))
        own["attacked"] = None if self.attacked is None else self.attacked.fingerprint
        return own

    def _options(self) -> Options:
        names = ("epochs", "rate", "batch", "optimiser", "loss", "validation", "patience", "seed")
        return Options(**{name: getattr(self, name) for name in names})

    def _train(self, ctx: Context, layer: str | None, objective: Objective, warnings: Sequence[str] = ()) -> None:
        """Train a copy and keep what changed."""
        options = self._options()
        trainee = Trainee(ctx.model, layer, self.trains)
        samples = None if self.samples is None else sample_ids(ctx.data, self.samples, "samples")
        self.curve_ = fine_tune(
            ctx, trainee, objective, options, title=self._title(), samples=samples, attacked=self.attacked,
            checkpoint=ctx.checkpoint(self), see=self.watch,
        )  # fmt: skip
        self._finish(ctx, trainee.edits(), warnings)


def cavs_of(value: Any, who: str) -> list[CAV]:
    """One or several concept activation vectors, as a flat list; see `artifacts_of` for lists in a list.

    Raises
    ------
    BadValueError
        If something else was given, or they belong to several layers.
    """
    given = [one for entry in _listed(value) for one in (entry if isinstance(entry, (list, tuple)) else [entry])]
    empty = not given or any(isinstance(entry, (list, tuple)) and not entry for entry in _listed(value))
    if empty or any(not isinstance(one, CAV) for one in given):
        wrong = next((type(one).__name__ for one in given if not isinstance(one, CAV)), "nothing")
        raise BadValueError(
            f"{who} needs a concept activation vector, or several; got {wrong}.",
            hint=f"For example {who}(PatternCAV(layer, positives=...)), or [[c1, c2], c3] for two artifacts.",
        )
    layers = sorted({str(one.layer) for one in given})
    if len(layers) > 1:
        raise BadValueError(
            f"{who} acts at one layer; its directions belong to {', '.join(layers)}.",
            hint="Make one correction for each layer and add their edits.",
        )
    return given


def artifacts_of(value: Any, who: str) -> list[int]:
    """The number of the artifact of each direction, from 0: an inner list is one artifact with several directions.

    Each concept of a vector that stands by itself is an artifact of its own.
    """
    numbers: list[int] = []
    for entry in _listed(value):
        first, n = (numbers[-1] + 1 if numbers else 0), sum(_n_directions(one) for one in cavs_of(entry, who))
        numbers += [first] * n if isinstance(entry, (list, tuple)) else range(first, first + n)
    return numbers


def directions_of(ctx: Context, value: Any, who: str) -> list[Direction]:
    """All directions, fitted now where they are not yet; a fitted one keeps its vector, also on a variant of the model.

    Raises
    ------
    BadValueError
        If they were pooled in different ways.
    ModelError
        If the layer has another number of components.
    """
    found: list[Direction] = []
    for one in cavs_of(value, who):
        fitted = one if one.is_fitted else type(one)(**one.params()).fit(ctx)
        found += list(fitted.directions_)
    layer = ctx.model.layers.usable(found[0].layer)
    if len(found[0].vector) != layer.n_components:
        raise ModelError(
            f'The directions have {len(found[0].vector)} entries, "{layer.name}" {layer.n_components} units.'
        )
    poolings = sorted({one.pooling for one in found})
    if len(poolings) > 1:
        raise BadValueError(
            f"The directions are of activations that were pooled by {' and by '.join(poolings)}.",
            hint="Fit them with the same pooling.",
        )
    return found


def cav_facts(ctx: Context, value: Any, who: str) -> list[Any]:
    """What a recipe says of directions: of fitted ones the vectors and samples, of others how they will be found."""
    facts: list[Any] = []
    for one in cavs_of(value, who):
        if not one.is_fitted:
            facts.append({"method": one.name, "version": one.result_version, "params": one.recipe_params(ctx)})
            continue
        for direction in one.directions_:
            vector = np.ascontiguousarray(direction.vector, np.float32)
            facts.append(
                {
                    "vector": digest_of(vector.view(np.int32)), "samples": digest_of(direction.samples),
                    "positive": digest_of(direction.is_positive), "scope": direction.scope,
                    "pooling": direction.pooling, "threshold": direction.threshold,
                }
            )  # fmt: skip
    return facts


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _n_directions(one: CAV) -> int:
    if one.is_fitted:
        return len(one.directions_)
    return len(one.positives) if isinstance(one.positives, Mapping) else 1


def _is_methods(value: Any) -> bool:
    """Whether it is a method, or a list of such or of lists of such."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(_is_methods(one) for one in value)
    return isinstance(value, Method)
