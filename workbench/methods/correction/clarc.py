"""Class artifact compensation: an artifact's direction is projected out of activations, always, or where it shows.

P-ClArC acts at inference, R-ClArC only where a condition holds, A-ClArC trains with the artifact switched on for all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from workbench.core import check
from workbench.core.errors import BadValueError
from workbench.core.results import Direction, Edit
from workbench.methods.base import Source, register_method
from workbench.methods.correction.base import (
    Correction,
    TrainedCorrection,
    artifacts_of,
    cav_facts,
    cavs_of,
    directions_of,
)
from workbench.methods.correction.references import codes_of, notes_of
from workbench.methods.correction.training import Batch, Objective
from workbench.methods.directions.sets import digest_of, sample_ids
from workbench.models.shifts import PLACES, Shift

if TYPE_CHECKING:
    import pandas as pd

    from workbench.core.context import Context
    from workbench.methods.correction.trainee import Trainee

__all__ = ["CONDITIONS", "AClArC", "PClArC", "RClArC"]

CONDITIONS = ("artifact", "class", "both")
"""A detector finds the artifact, the uncorrected prediction is one that it biases, or both."""

_ANDERS = "Anders et al. 2022 (Finding and removing Clever Hans)"


class _Projects(Correction):
    """What P-ClArC and R-ClArC share: where to, and at which positions."""

    cav: Any
    at: str
    reference: Any
    tokens: str | None

    def recipe_params(self, ctx: Context) -> dict[str, Any]:
        self._check()
        own = {k: v for k, v in self.params().items() if k != "cav"}
        if not isinstance(self.reference, str):
            own["reference"] = digest_of(sample_ids(ctx.data, self.reference, "reference"))
        layer = cavs_of(self.cav, type(self).__name__)[0].layer
        return own | {"layer": layer, "cav": cav_facts(ctx, self.cav, type(self).__name__)}

    def _check(self) -> None:
        cavs_of(self.cav, type(self).__name__)
        check.one_of("at", self.at, PLACES)
        if isinstance(self.reference, str) and self.reference not in ("clean", "zero"):
            check.one_of("reference", self.reference, ("clean", "zero"))
        if self.tokens is not None:
            check.one_of("tokens", self.tokens, ("all", "first"))

    def _projection(
        self, ctx: Context, directions: Sequence[Direction], artifacts: Sequence[int] | None = None
    ) -> tuple[np.ndarray, dict[str, Any], dict[str, Any]]:
        """Directions, arrays and options of the edit; `artifacts` if they act apart."""
        pooling = directions[0].pooling
        tokens = self.tokens or ("first" if pooling == "token" else "all")
        options = {"at": self.at, "pooling": pooling, "tokens": tokens}
        codes = codes_of(ctx, directions, self.at, tokens, self.reference, artifacts=artifacts)
        return np.stack([d.vector for d in directions]).astype(np.float32), {"codes": codes}, options

    def _title(self) -> str:
        names = ", ".join(str(one.concept or one.layer) for one in cavs_of(self.cav, type(self).__name__))
        return f"{type(self).__name__} along {names}"


@register_method(
    "p-clarc",
    source=Source(
        f"{_ANDERS}, section 4.2 (projective class artifact compensation), eq. 7; k directions by projectors"
    ),
    needs=("activations",),
)
class PClArC(_Projects):
    """Project an artifact's direction out of a layer's activations, for all samples. Nothing is trained.

    **What it answers.** What the model says if everything looks, along the direction, as clean samples do.

    **When not to trust it.** What the class itself shares with the direction goes as well, which costs clean accuracy:
    compare both accuracies. A reference of other classes moves activations along what tells the classes apart: use a
    direction within classes. An artifact may lie in many directions: look at the probe in `Session.reevaluate`. Before
    a ReLU the projection is partly clipped away.

    **Cost.** Mean activations of the direction's samples; at inference one product per position.

    Parameters
    ----------
    cav : CAV, or list of CAV
        Of one layer; their directions span what is projected out. Nearly parallel ones count once (see
        `workbench.models.shifts.CUTOFF`). ``[[c1, c2], c3]`` is the same as ``[c1, c2, c3]``: all act, always.
    at : {"position", "sample"}
        ``"position"``: every position is projected by itself. ``"sample"``: one shift for all positions, by the pooled
        activation, pooled as it was for the direction. For vectors both are one.
    reference : {"clean", "zero"} or samples
        Where to: the mean of the direction's samples without the concept, or of the given ones; or no activation along
        it at all. At positions it is the mean over positions, per sample the mean of pooled activations. Several
        directions have one reference, the mean over them of their samples without any of the artifacts. Where each is
        of another class, give samples, or add the edits of one correction for each.
    tokens : {"all", "first"}, optional
        Which tokens of a sequence move. Default: the first for a direction of the first token, else all.

    Attributes
    ----------
    edits_ : Edits
        A single shift, see `workbench.models.shifts`.

    Notes
    -----
    ``a' = a - P (a - mu)`` with the projector P on the span of the directions and one mu for all of them: a mean for
    each would contradict the others where directions are nearly parallel, and move activations far. Per sample,
    ``a' = a - P (abar - mu)`` with the pooled activation abar. Relevance through it is shared in proportion: with the
    reference zero it is conserved, else the constant takes its part, which shows in the gap.

    Not here: a filter that measures beside a pattern that moves, ``a' = a + ((c - w a) / (w v)) v``; here w = v.
    Not here: full features without pooling, ``q = <a, v>`` over all units and positions.
    """

    result_version = 2

    def __init__(
        self, cav: Any, *, at: str = "position", reference: Any = "clean", tokens: str | None = None
    ):  # fmt: skip
        self.cav, self.at, self.reference, self.tokens = cav, at, reference, tokens

    def fit(self, ctx: Context) -> PClArC:
        """Find where the projection leads to."""
        self._check()
        directions = directions_of(ctx, self.cav, "PClArC")
        vectors, arrays, options = self._projection(ctx, directions)
        edit = Edit("shift", directions[0].layer, array=vectors, arrays=arrays, options=options)
        self._finish(ctx, [edit], notes_of(directions))
        return self


@register_method(
    "r-clarc",
    source=Source("Bareeva et al. 2024 (Reactive model correction), section 3, eq. 4 to 6; soft gates are ours"),
    needs=("activations",),
)
class RClArC(_Projects):
    """Project an artifact's direction out where the artifact shows, or where the prediction is one that it biases.

    **What it answers.** As P-ClArC, while samples that the condition leaves out keep their output to the last bit.

    **When not to trust it.** The condition by class uses the biased prediction: where the artifact speaks against a
    class, name those that benefit. A detector is calibrated on its own samples: found within a class, it may miss the
    artifact in others (`touched` on attacked samples says how often). A wrong reference shows on attacked samples
    alone.

    **Cost.** A condition by artifact costs one product per sample. One by class needs the uncorrected prediction: the
    part of the network above the layer runs twice, the part below once (where the network can be parted at the layer).

    Parameters
    ----------
    cav : CAV, or list of CAV
        Each concept is an artifact with a condition of its own; those that are active are projected out together.
        Several directions of one artifact stand in a list: ``[[c1, c2], c3]`` are two artifacts, the first with two
        directions, one condition and the name of c1.
    condition : {"artifact", "class", "both"}
    classes : sequence of int or str, or mapping of concept to such, optional
        Predictions under which the artifact is suppressed; needed for ``"class"`` and ``"both"``, and for these alone.
    detector : CAV, or list of CAV, optional
        One concept for each artifact. Default: `SVMCAV` of the same samples, which needs scikit-learn; for several
        directions of one artifact of all their samples. `detector`, `softness` and `false_alarms` are not for
        ``"class"``.
    softness : float, at least 0
        Width of a soft gate in units of the detector's projection; 0 switches.
    false_alarms : float, 0 to 1, optional
        Share of the detector's samples without the artifact that may be taken for one with it (held-out where there
        are such scores); moves the threshold. Default: the detector's own boundary.
    at, reference, tokens
        As for `PClArC`. Where one artifact alone is active, the clean reference is what it is without the others.

    Attributes
    ----------
    edits_ : Edits
    """

    result_version = 2

    def __init__(
        self, cav: Any, *, condition: str = "artifact", classes: Any = None, detector: Any = None,
        softness: float = 0.0, false_alarms: float | None = None, at: str = "position", reference: Any = "clean",
        tokens: str | None = None,
    ):  # fmt: skip
        self.cav, self.condition, self.classes, self.detector = cav, condition, classes, detector
        self.softness, self.false_alarms = softness, false_alarms
        self.at, self.reference, self.tokens = at, reference, tokens

    def fit(self, ctx: Context) -> RClArC:
        """Find the reference, and fit the detectors."""
        self._check()
        directions, artifacts = directions_of(ctx, self.cav, "RClArC"), artifacts_of(self.cav, "RClArC")
        vectors, arrays, options = self._projection(ctx, directions, artifacts)
        options["artifact"] = artifacts
        if self.condition != "artifact":
            options["classes"] = self._outputs(ctx, directions, artifacts)
        if self.condition != "class":
            detectors = self._detectors(ctx, directions, artifacts)
            arrays["detector"] = np.stack([d.vector for d in detectors]).astype(np.float32)
            arrays["threshold"] = np.array([self._threshold(d) for d in detectors], np.float32)
            if self.softness:
                options["softness"] = float(self.softness)
        edit = Edit("shift", directions[0].layer, array=vectors, arrays=arrays, options=options)
        self._finish(ctx, [edit], notes_of(directions))
        return self

    def touched(self, samples: Any = None, *, ctx: Context | None = None) -> pd.DataFrame:
        """Which samples are moved, and by which artifact.

        Parameters
        ----------
        samples : ids, mask, tag or frame, optional
            Default: all.
        ctx : Context, optional
            Default: the session that fitted this one.

        Returns
        -------
        pandas.DataFrame
            One row per sample that could be read, one column per concept; shares for soft gates.
        """
        import pandas as pd

        edits, ctx = self.edits(), getattr(self, "session_", None) if ctx is None else ctx
        if ctx is None:
            raise BadValueError("This correction was not fitted by a session.", hint="Pass ctx=..., or fit it first.")
        ids = np.arange(len(ctx.data)) if samples is None else sample_ids(ctx.data, samples, "samples")
        run = getattr(ctx, "run", None)
        rows, read = self._touched(ctx, edits[0], ids) if run is None else run(self._touched, ctx, edits[0], ids)
        names = self._names() or [str(j) for j in range(rows.shape[1])]
        return pd.DataFrame(rows, index=pd.Index(read, name="sample"), columns=names)

    def recipe_params(self, ctx: Context) -> dict[str, Any]:
        own = super().recipe_params(ctx)
        own["detector"] = None if self.detector is None else cav_facts(ctx, self.detector, "RClArC")
        artifacts = artifacts_of(self.cav, "RClArC")
        if len(set(artifacts)) < len(artifacts):
            own["artifact"] = artifacts
        if self.classes is not None:
            given = self.classes
            own["classes"] = {str(k): list(v) for k, v in given.items()} if isinstance(given, Mapping) else list(given)
        return own

    def _check(self) -> None:
        super()._check()
        check.one_of("condition", self.condition, CONDITIONS)
        check.between("softness", self.softness, 0, 1e12)
        if self.false_alarms is not None:
            check.between("false_alarms", self.false_alarms, 0, 1)
        self._check_unused()
        if self.condition != "artifact" and not self.classes:
            raise BadValueError(
                f'condition="{self.condition}" needs the predictions that the artifact biases.', hint="classes=[0]"
            )
        if self.classes is not None and (isinstance(self.classes, (str, int)) or not hasattr(self.classes, "__iter__")):
            raise BadValueError(f"`classes` must be a list or a mapping; got {self.classes!r}.", hint="classes=[0]")
        if self.detector is not None:
            cavs_of(self.detector, "RClArC")

    def _check_unused(self) -> None:
        """What the condition does not ask for must not be given: it would be without effect."""
        given = {
            "detector": self.detector is not None, "softness": bool(self.softness),
            "false_alarms": self.false_alarms is not None,
        }  # fmt: skip
        if self.condition == "artifact" and self.classes is not None:
            raise BadValueError(
                'condition="artifact" does not look at predictions, so that `classes` would have no effect.',
                hint='condition="class", or condition="both" with a detector as well.',
            )
        if self.condition == "class" and any(given.values()):
            names = ", ".join(f"`{name}`" for name, is_given in given.items() if is_given)
            raise BadValueError(
                f'condition="class" has no detector, so that {names} would have no effect.',
                hint='condition="both", or leave it out.',
            )

    def _names(self) -> list[str]:
        """The name of each artifact, that of its first direction; none if a direction is not fitted."""
        cavs = cavs_of(self.cav, "RClArC")
        if not all(one.is_fitted for one in cavs):
            return []
        return _first_names([d for one in cavs for d in one.directions_], artifacts_of(self.cav, "RClArC"))

    def _outputs(self, ctx: Context, directions: Sequence[Direction], artifacts: Sequence[int]) -> list[list[int]]:
        names, n = list(ctx.class_names()), ctx.model.n_classes

        def number(one: Any) -> int:
            if isinstance(one, str) and not one.isdecimal():
                return names.index(check.known("output", one, names))
            if isinstance(one, bool) or not 0 <= int(one) < n:
                raise BadValueError(f"No output {one!r}: the model has {n}, from 0.")
            return int(one)

        if not isinstance(self.classes, Mapping):
            return [sorted({number(one) for one in self.classes})] * len(set(artifacts))
        concepts = _first_names(directions, artifacts)
        for concept in self.classes:
            check.known("concept", concept, concepts)
        lacking = [concept for concept in concepts if concept not in self.classes]
        if lacking:
            raise BadValueError(f'`classes` does not name the predictions that "{lacking[0]}" biases.')
        return [sorted({number(one) for one in self.classes[concept]}) for concept in concepts]

    def _detectors(self, ctx: Context, directions: Sequence[Direction], artifacts: Sequence[int]) -> list[Direction]:
        if self.detector is not None:
            found = directions_of(ctx, self.detector, "RClArC")
        else:
            found = self._machines(ctx, directions, artifacts)
        n = len(set(artifacts))
        if len(found) != n:
            raise BadValueError(
                f"{n} artifacts need as many detectors; got {len(found)}.",
                hint="Directions of one artifact stand in a list of their own: [[c1, c2], c3].",
            )
        if (found[0].layer, found[0].pooling) != (directions[0].layer, directions[0].pooling):
            raise BadValueError(
                f'The detector looks at "{found[0].layer}" pooled by {found[0].pooling}, the direction at '
                f'"{directions[0].layer}" pooled by {directions[0].pooling}.',
                hint="Use the same layer and pooling.",
            )
        return found

    def _machines(self, ctx: Context, directions: Sequence[Direction], artifacts: Sequence[int]) -> list[Direction]:
        """A support vector machine for each artifact."""
        from workbench.methods.directions.filter_cavs import SVMCAV

        found: list[Direction] = []
        for entry in self.cav if isinstance(self.cav, (list, tuple)) else [self.cav]:
            one, *others = cavs_of(entry, "RClArC")
            names = ("positives", "negatives", "scope", "pooling", "concept", "seed")
            own = {name: getattr(one, name) for name in names}
            mine = [d for d, j in zip(directions, artifacts, strict=True) if j == len(found)]
            if len(mine) > 1:  # one machine, of the samples of all
                on = np.unique(np.concatenate([d.samples[d.is_positive] for d in mine]))
                off = np.setdiff1d(np.concatenate([d.samples for d in mine]), on)
                same = all(other.scope == one.scope for other in others)
                own |= {"positives": on, "negatives": off, "concept": mine[0].concept}
                own["scope"] = one.scope if same else "within-class"
            found += list(SVMCAV(one.layer, resamples=0, **own).fit(ctx).directions_)
        return found

    def _threshold(self, detector: Direction) -> float:
        if self.false_alarms is None:
            return detector.threshold
        scores = detector.held_out if not np.isnan(detector.held_out).all() else detector.score
        clean = scores[~detector.is_positive & ~np.isnan(scores)]
        return float(np.quantile(clean, 1 - self.false_alarms, method="higher")) if len(clean) else detector.threshold

    def _touched(self, ctx: Context, edit: Edit, ids: np.ndarray) -> tuple[np.ndarray, list[int]]:
        from workbench.models.hooks import record

        handle, rows, known = ctx.model, [], []
        shift = Shift(edit, handle.layers[edit.where])
        seen: list[Tensor] = []
        for first in range(0, len(ids), 32):
            x, read, _ = ctx.data.batch(ids[first : first + 32].tolist())
            if read:
                with torch.no_grad(), handle.edited(), record(handle.module, [edit.where], lambda _, t: seen.append(t)):
                    output = handle.logits(handle.module(handle.put(x)))
                shift.decide(output)
                rows.append(shift.active(seen.pop()).cpu().numpy())
                known += read
            ctx.progress.step(0)
        if not rows:
            raise BadValueError(f"None of the {len(ids)} samples can be read.")
        return np.concatenate(rows), known


@register_method(
    "a-clarc",
    source=Source(f"{_ANDERS}, section 4.1 (augmentive class artifact compensation), eq. 5"),
    needs=("activations",),
)
class AClArC(TrainedCorrection):
    """Train the layers above with the artifact switched on for every sample, so that it tells nothing.

    **What it answers.** What the model learns where the artifact's direction carries no information.

    **When not to trust it.** It removes the reliance only in part: along a direction that never varies, a head keeps
    what it had as a bias, and with the artifact becomes the normal state. Clean accuracy may fall while attacked
    accuracy rises: look at both.

    **Cost.** A fine-tuning of the layers above; what lies below runs once per sample.

    Parameters
    ----------
    cav : CAV, or list of CAV
        As for `PClArC`.
    at : {"position", "sample"}
        As for `PClArC`; the shift leads to the mean of the samples with the concept. For several, to the mean of clean
        samples plus the effect of each artifact: hardly a sample shows all.
    strength : float, above 0
        Share of the shift.
    trains : {"above", "head"}
        All weights above the layer, or those of the last layer.
    samples : ids, mask, tag or frame, optional
        To train on. Default: all with a label that is an output.
    attacked : Dataset, optional
        The same samples with the artifact: their accuracy is followed in the curve.
    epochs, rate, batch, optimiser, loss, validation, patience, seed
        See `workbench.methods.correction.training.Options`.

    Attributes
    ----------
    edits_ : Edits
        New weights; nothing is left at inference.
    curve_ : TrainingCurve
    """

    result_version = 3

    def __init__(
        self, cav: Any, *, at: str = "position", strength: float = 1.0, trains: str = "above", samples: Any = None,
        attacked: Any = None, epochs: int = 10, rate: float | None = None, batch: int = 64, optimiser: str = "auto",
        loss: str = "auto", validation: float = 0.1, patience: int | None = None, seed: int = 0,
    ):  # fmt: skip
        self.cav, self.at, self.strength, self.trains = cav, at, strength, trains
        self.samples, self.attacked, self.epochs, self.rate, self.batch = samples, attacked, epochs, rate, batch
        self.optimiser, self.loss, self.validation = optimiser, loss, validation
        self.patience, self.seed = patience, seed

    def fit(self, ctx: Context) -> AClArC:
        """Train."""
        self._check()
        directions = directions_of(ctx, self.cav, "AClArC")
        pooling = directions[0].pooling
        tokens = "first" if pooling == "token" else "all"
        codes = codes_of(ctx, directions, self.at, tokens, "artifact")
        vectors = np.stack([d.vector for d in directions])
        options = {"at": self.at, "pooling": pooling, "tokens": tokens}
        layer = ctx.model.layers[directions[0].layer]
        shift = Shift(Edit("shift", layer.name, array=vectors, arrays={"codes": codes}, options=options), layer)
        self._train(ctx, layer.name, _SwitchedOn(shift, float(self.strength)), notes_of(directions))
        return self

    def recipe_params(self, ctx: Context) -> dict[str, Any]:
        self._check()
        layer = cavs_of(self.cav, "AClArC")[0].layer
        return super().recipe_params(ctx) | {"layer": layer, "cav": cav_facts(ctx, self.cav, "AClArC")}

    def _check(self) -> None:
        cavs_of(self.cav, "AClArC")
        check.one_of("at", self.at, PLACES)
        check.between("strength", self.strength, 0, 1e6, left_open=True)
        self._options()


class _SwitchedOn(Objective):
    """The task, with the artifact in every sample."""

    def __init__(self, shift: Shift, share: float):
        self.shift, self.share = shift, share

    def logits(self, trainee: Trainee, batch: Batch) -> Tensor:
        return trainee.forward(batch.value, at_layer=self._on)

    def _on(self, a: Tensor) -> Tensor:
        return a + self.share * (self.shift(a) - a)


def _first_names(directions: Sequence[Direction], artifacts: Sequence[int]) -> list[str]:
    return [directions[artifacts.index(j)].concept for j in sorted(set(artifacts))]
