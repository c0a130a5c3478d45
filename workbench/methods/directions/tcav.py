"""TCAV: does an output rise when a layer's activation moves along a concept, and by how much?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import check
from workbench.core.errors import BadValueError
from workbench.core.origins import error_of_mean, number_of
from workbench.core.results import SENSITIVITY_NUMBERS, ConceptSensitivity, Direction
from workbench.core.sampling import evenly
from workbench.methods.base import Method, Source, register_method
from workbench.methods.directions.cav import CAV
from workbench.methods.directions.estimators import combine, pattern_weights
from workbench.methods.directions.sensitivity import (
    Slopes,
    band,
    bootstrap_scores,
    holm,
    is_constant,
    p_two_sided,
    p_values,
    slopes,
    tcav_score,
)
from workbench.methods.directions.sets import digest_of, sample_ids
from workbench.methods.labels import labels_as_outputs

if TYPE_CHECKING:
    from workbench.core.context import Context

__all__ = ["TCAV"]

_AT_ONCE = 16


@register_method(
    "tcav",
    source=Source("Kim et al. 2018 (TCAV), eq. 2 and section 3.3; Holm 1979; intervals over images"),
    needs=("activations",),
)
class TCAV(Method):
    """Ask how outputs react to motion along the direction of a concept.

    **What it answers.** For which share of a class's samples the class's output rises along the concept (the score),
    by how much it changes (the slope with its sign, and the sensitivity, in units of the output), and whether random
    directions do the same: each of the three has a band of these and a p.

    **When not to trust it.** The score counts signs: where the output hardly changes, they are noise, so look at the
    sensitivity beside it. Where the model is linear above the layer (pooling and one dense layer), all samples of a
    class share one sign and the score is 0 or 1 whatever the concept; a warning says so, and the slope can be tested
    still. Derivatives are local. Not here: masked TCAV, which looks at derivatives within a mask alone.

    **Cost.** A forward and a backward pass per sample looked at.

    Parameters
    ----------
    cav : CAV
        A fitted one keeps its direction, also on a variant of the model; one that is not is fitted first.
    targets : sequence of int or str, optional
        Outputs. Default: all that samples have as their label.
    samples : ids, mask, tag or frame, optional
        Looked at for every target. Default: for each, the samples with its label.
    n_samples : int
        At most so many per class, spread evenly.
    n_random : int
        Random directions: patterns of the concept's own samples with shuffled labels, within the scope. Of 19 and more
        the score can reach a p of 0.05, of 39 and more slope and sensitivity.
    resamples : int
        Bootstrap samples of originals for the interval: their views are drawn together.
    seed : int

    Attributes
    ----------
    result_ : ConceptSensitivity
    """

    result_version = 3

    def __init__(
        self,
        cav: Any,
        *,
        targets: Sequence[int | str] | None = None,
        samples: Any = None,
        n_samples: int = 100,
        n_random: int = 50,
        resamples: int = 1000,
        seed: int = 0,
    ):
        self.cav, self.targets, self.samples, self.n_samples = cav, targets, samples, n_samples
        self.n_random, self.resamples, self.seed = n_random, resamples, seed

    def fit(self, ctx: Context) -> TCAV:
        """Compute derivatives for each target's samples along the concepts and along random directions."""
        self._check()
        found = self.cav if self.cav.is_fitted else type(self.cav)(**self.cav.params()).fit(ctx)
        record = found.directions_
        null = [self._random(ctx, one) for one in record]
        vectors = np.concatenate([record.vectors, *null])
        outputs = self._outputs(ctx)
        columns: dict[str, list[np.ndarray]] = {name: [] for name in SENSITIVITY_NUMBERS}
        linear: list[str] = []
        n_origins: list[int] = []
        names = [ctx.model.class_name(k) for k, _ in outputs]
        ctx.progress.start("derivatives along directions", sum(len(ids) for _, ids in outputs))
        for name, (output, ids) in zip(names, outputs, strict=True):
            made, read = self._slopes(ctx, found.layer, vectors, output, ids)
            origins = np.asarray(ctx.data.origins)[read]
            n_origins.append(number_of(origins, len(read)))
            for key, values in self._numbers(made, len(record), origins).items():
                columns[key].append(values)
            if is_constant(made.mean):
                linear.append(f'"{name}"')
        warnings: tuple[str, ...] = ()
        if linear:
            more = f" and {len(linear) - 3} more" if len(linear) > 3 else ""
            warnings = (
                f'The model is linear above "{found.layer}" for {", ".join(linear[:3])}{more}: the derivative is the '
                "same for all samples, so that a score can only be 0 or 1 and says nothing. Look at slope and "
                "sensitivity and whether they lie beyond those of random directions (p_slope, p_sensitivity), or "
                "choose an earlier layer.",
            )
        arrays = {key: np.stack(values, 1) for key, values in columns.items()}
        self.result_ = ConceptSensitivity(
            layer=record.layer, basis=record.basis, concepts=record.concepts, classes=tuple(names),
            class_index=tuple(k for k, _ in outputs), n_samples=np.array([len(ids) for _, ids in outputs]),
            n_random=self.n_random, warnings=warnings, n_origins=np.array(n_origins), **arrays,
        )  # fmt: skip
        return self

    def plot(self, **options: Any) -> Any:
        """Scores with their intervals as a plotly figure."""
        return self.result_.plot(**options)

    def recipe_params(self, ctx: Context) -> dict[str, Any]:
        self._check()
        own = {k: v for k, v in self.params().items() if k not in ("cav", "samples", "targets")}
        if self.cav.is_fitted:
            vectors = np.ascontiguousarray(self.cav.directions_.vectors)
            sets = [[digest_of(one.samples), digest_of(one.is_positive)] for one in self.cav.directions_]
            about: Any = {"vectors": digest_of(vectors.view(np.int32)), "sets": sets}
        else:
            about = {"method": self.cav.name, "version": self.cav.result_version, "params": self.cav.recipe_params(ctx)}
        samples = None if self.samples is None else digest_of(sample_ids(ctx.data, self.samples, "samples"))
        targets = None if self.targets is None else [self._output(ctx, one) for one in _listed(self.targets)]
        return own | {"layer": self.cav.layer, "cav": about, "samples": samples, "targets": targets}

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The numbers of `result_`, and its words."""
        r = self.result_
        arrays = {name: getattr(r, name) for name in (*SENSITIVITY_NUMBERS, "n_samples", "n_origins")}
        words = {name: list(getattr(r, name)) for name in ("concepts", "classes", "class_index", "warnings")}
        return arrays, {**words, "layer": r.layer, "basis": r.basis, "n_random": r.n_random}

    def restore(self, ctx: Context, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Take up stored numbers."""
        known: dict[str, Any] = {
            name: np.asarray(arrays[name]) for name in (*SENSITIVITY_NUMBERS, "n_samples", "n_origins")
        }
        known |= {name: tuple(facts[name]) for name in ("concepts", "classes", "class_index", "warnings")}
        known |= {name: facts[name] for name in ("layer", "basis", "n_random")}
        self.result_ = ConceptSensitivity(**known)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        if not isinstance(self.cav, CAV):
            raise BadValueError(
                f"TCAV needs a concept activation vector; got {type(self.cav).__name__}.",
                hint="For example TCAV(PatternCAV(layer, positives=...)).",
            )
        check.positive("n_samples", self.n_samples)
        for name in ("n_random", "resamples"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise BadValueError(f"`{name}` must be a whole number of at least 0; got {value!r}.")

    def _random(self, ctx: Context, one: Direction) -> np.ndarray:
        """(random, unit) directions of the same samples with shuffled labels: the weights of a pattern, shuffled."""
        if self.n_random == 0:
            return np.zeros((0, len(one.vector)))
        ids, x = ctx.pooled(one.layer, one.samples, pooling=one.pooling)
        at = np.isin(one.samples, ids)
        strata = one.class_[at] if one.scope == "within-class" else np.zeros(int(at.sum()), np.int64)
        weights, rng = pattern_weights(one.is_positive[at], strata), np.random.default_rng(self.seed)
        drawn = np.empty((self.n_random, len(weights)))
        for group in np.unique(strata):
            rows = np.flatnonzero(strata == group)
            drawn[:, rows] = rng.permuted(np.tile(weights[rows], (self.n_random, 1)), axis=1)
        found = combine(x, drawn)
        return found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-30)

    def _output(self, ctx: Context, target: Any) -> int:
        names, n = ctx.class_names(), ctx.model.n_classes
        if isinstance(target, str) and not target.isdecimal():
            return names.index(check.known("output", target, names))
        if isinstance(target, bool) or not 0 <= int(target) < n:
            raise BadValueError(f"No output {target!r}: the model has {n}, from 0.")
        return int(target)

    def _outputs(self, ctx: Context) -> list[tuple[int, np.ndarray]]:
        """Which outputs are asked for, each with the samples that are looked at."""
        given = None if self.samples is None else sample_ids(ctx.data, self.samples, "samples")
        labels = labels_as_outputs(ctx)
        n = ctx.model.n_classes
        if self.targets is not None:
            wanted = [self._output(ctx, one) for one in _listed(self.targets)]
        elif n == 1:
            wanted = [0]
        elif given is not None:
            wanted = sorted({int(k) for k in labels[given] if k >= 0})
        else:
            wanted = sorted({int(k) for k in labels if k >= 0})
        if not wanted:
            raise BadValueError(
                "No sample has a label that is an output of the model.", hint="Say targets=[...] and samples=[...]."
            )
        if n == 1 and given is None:
            given = np.arange(len(labels))
        found = []
        for output in wanted:
            ids = np.flatnonzero(labels == output) if given is None else given
            if len(ids) == 0:
                raise BadValueError(
                    f'No sample has the label "{ctx.model.class_name(output)}".', hint="Say samples=[...]."
                )
            found.append((output, ids[evenly(len(ids), self.n_samples)]))
        return found

    def _slopes(
        self, ctx: Context, layer: str, vectors: np.ndarray, output: int, ids: np.ndarray
    ) -> tuple[Slopes, list[int]]:
        parts: list[Slopes] = []
        known: list[int] = []
        for first in range(0, len(ids), _AT_ONCE):
            part = ids[first : first + _AT_ONCE].tolist()
            x, read, _ = ctx.data.batch(part)
            if read:
                parts.append(slopes(ctx.model, x, layer, vectors, output))
                known += read
            ctx.progress.step(len(part))
        if not parts:
            raise BadValueError(f"None of the {len(ids)} samples can be read.")
        return Slopes.joined(parts), known

    def _numbers(self, made: Slopes, k: int, origins: np.ndarray) -> dict[str, np.ndarray]:
        """Each number, (concept,), for one output."""
        own, size = made.mean[:, :k], made.absolute[:, :k]
        score, all_scores = tcav_score(own), tcav_score(made.mean)
        low, high = bootstrap_scores(own, self.resamples, seed=self.seed, origins=origins)
        up, down = made.positive[:, :k].sum(0), made.negative[:, :k].sum(0)
        # Where nothing changes along the concept, there is nothing to test.
        moves = (size > 0).any(0)
        values = {"": score, "sensitivity": size.mean(0), "slope": own.mean(0)}
        every = {"": all_scores, "sensitivity": made.absolute.mean(0), "slope": made.mean.mean(0)}
        numbers: dict[str, np.ndarray] = {}
        for name, value in values.items():
            null, ending = every[name][k:].reshape(k, self.n_random), f"_{name}" if name else ""
            numbers[f"null{ending}_low"], numbers[f"null{ending}_high"] = band(null)
            p = p_two_sided(np.where(moves, value, np.nan), null) if name else p_values(score, null)
            numbers[f"p{ending}"], numbers[f"p{ending}_holm"] = p, holm(p)
        random = every["sensitivity"][k:].reshape(k, self.n_random)
        return numbers | {
            "score": score,
            "score_low": low,
            "score_high": high,
            "score_positions": np.divide(up, up + down, out=np.full(k, np.nan), where=up + down > 0),
            "sensitivity": values["sensitivity"],
            "sensitivity_error": error_of_mean(size, origins),
            "slope": values["slope"],
            "slope_error": error_of_mean(own, origins),
            "zeros": (own == 0).mean(0),
            "null_sensitivity": random.mean(1) if self.n_random else np.full(k, np.nan),
        }

    def __repr__(self) -> str:
        given = [f"{k}={v!r}" for k, v in self.params().items() if k not in ("cav", "samples") and v is not None]
        some = [] if self.samples is None else ["samples=..."]
        return f"{type(self).__name__}({', '.join([f'cav={self.cav!r}', *some, *given])})"


def _listed(targets: Any) -> list[Any]:
    return [targets] if isinstance(targets, (str, int, np.integer)) else list(targets)
