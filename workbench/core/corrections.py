"""What came of correcting a model: curves of a training, and the comparison of models. Frozen, computed elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.errors import BadValueError
from workbench.core.origins import error_of_mean, middle, number_of, paired
from workbench.core.results import Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Reevaluation", "TrainingCurve"]


@dataclass(frozen=True, eq=False, repr=False)
class TrainingCurve(Result):
    """How a fine-tuning went, epoch by epoch; the first row is before it.

    Attributes
    ----------
    title : str
    loss, penalty : (epoch,) float array
        Mean over the training samples while the weights moved: the task's loss, and the penalty without its weight.
        NaN in the first row; penalties also where there is none.
    validation_loss : (epoch,) float array
        The task's loss of held-out samples; NaN without such.
    clean, attacked : (epoch,) float array
        Accuracy on the held-out samples, and on the same ones with the artifact, 0 to 1; NaN where it is not measured.
    n_planned : int
        Epochs that were asked for.
    best : int
        Row of the weights that were kept.
    """

    title: str
    loss: np.ndarray
    penalty: np.ndarray
    validation_loss: np.ndarray
    clean: np.ndarray
    attacked: np.ndarray
    n_planned: int
    best: int

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def is_complete(self) -> bool:
        """Whether all epochs were made; else it stopped early, or goes on."""
        return len(self) > self.n_planned

    def to_frame(self) -> pd.DataFrame:
        """One row per epoch."""
        import pandas as pd

        columns = {name: getattr(self, name) for name in CURVES}
        return pd.DataFrame(columns).rename_axis(index="epoch")

    def __repr__(self) -> str:
        clean = "" if np.isnan(self.clean).all() else f", clean {self.clean[0]:.3f} to {self.clean[self.best]:.3f}"
        attacked = self.attacked
        told = "" if np.isnan(attacked).all() else f", attacked {attacked[0]:.3f} to {attacked[self.best]:.3f}"
        return f"<training {self.title}: {len(self) - 1} of {self.n_planned} epochs{clean}{told}>"


CURVES = ("loss", "penalty", "validation_loss", "clean", "attacked")


@dataclass(frozen=True, eq=False, repr=False)
class Reevaluation(Result):
    """Models compared on the same samples, clean and with the artifact: does a correction hold, and what did it cost?

    Attributes
    ----------
    models : tuple of str
        The uncorrected one first.
    artifact : str
    samples : (sample,) int64 array
        Ids; each is one clean and one attacked picture.
    labels : (sample,) int64 array
        Numbers of the right outputs.
    clean, attacked : (model, sample) bool array
        Whether the model is right.
    relevance : (model, explained) float array
        Share of the absolute relevance that lies on the artifact's mask; no columns where there are no masks, NaN where
        the rule has no answer for parts of the network.
    relevance_area : float
        What constant relevance would give: the share of the picture that masks take. NaN without masks.
    sensitivity, sensitivity_error : (model,) float array
        Mean absolute derivative of the true class's output along the uncorrected model's direction, times the length of
        the concept: output units. Below the edits of the layer, with its standard error over originals; NaN without a
        direction.
    sensitivity_after : (model,) float array
        The same behind the edits of the layer.
    probe_layer, probe_logits : (model,) float array
        Held-out area under the curve of a linear probe that tells attacked from clean pictures, by the activations of
        the layer and by the logits. 0.5: the artifact is not there to be read.
    others : mapping of str to (model, sample) bool array
        Whether the model is right on the samples with another artifact.
    layer : str
    warnings : tuple of str
    origins : (sample,) int64 array, optional
        Original picture of each sample: views of one are no new evidence, so that all intervals and tests go by
        originals. Default: each sample is its own.
    relevance_origins : (explained,) int64 array, optional
        Original picture of each column of `relevance`.
    ctx_ : weak reference to a session, optional
        Where it was made.
    """

    models: tuple[str, ...]
    artifact: str
    samples: np.ndarray
    labels: np.ndarray
    clean: np.ndarray
    attacked: np.ndarray
    relevance: np.ndarray
    relevance_area: float
    sensitivity: np.ndarray
    sensitivity_error: np.ndarray
    sensitivity_after: np.ndarray
    probe_layer: np.ndarray
    probe_logits: np.ndarray
    others: Mapping[str, np.ndarray]
    layer: str = ""
    warnings: tuple[str, ...] = ()
    origins: np.ndarray | None = None
    relevance_origins: np.ndarray | None = None
    ctx_: Any = None

    def __post_init__(self) -> None:
        for given, n in ((self.origins, len(self.samples)), (self.relevance_origins, self.relevance.shape[1])):
            number_of(given, n)  # says what is wrong with them

    @property
    def n_origins(self) -> int:
        """Original pictures that the samples are of."""
        return number_of(self.origins, len(self.samples))

    def accuracy(self, model: int = 0, kind: str = "clean") -> tuple[float, float, float]:
        """Accuracy with its middle 95 % by the bootstrap over originals; `kind` may name another artifact."""
        right = self._right(kind)[model]
        return (float(right.mean()), *middle(right, self.origins))

    def gap(self, model: int = 0, kind: str = "attacked") -> tuple[float, float, float]:
        """Clean minus attacked accuracy of one model, paired by sample, with its middle 95 %."""
        change = self.clean[model].astype(np.float64) - self._right(kind)[model]
        return (float(change.mean()), *middle(change, self.origins))

    def change(self, model: int, kind: str = "clean") -> tuple[float, float, float, float]:
        """How much more often a model is right than the first, paired by sample.

        Returns
        -------
        change, low, high : float
            Difference of the accuracies with its middle 95 % by the bootstrap over originals: their views are drawn
            together.
        p : float
            McNemar's exact test: the chance of so uneven a split of the originals on which one of the two is right more
            often.
        """
        right = self._right(kind)
        return paired(right[0], right[model], self.origins)

    def by_class(self) -> pd.DataFrame:
        """Clean and attacked accuracy per model and class."""
        import pandas as pd

        rows = []
        for i, model in enumerate(self.models):
            for label in np.unique(self.labels):
                of = self.labels == label
                values = {"clean": self.clean[i, of].mean(), "attacked": self.attacked[i, of].mean()}
                rows.append({"model": model, "class": int(label), "n": int(of.sum()), **values})
        return pd.DataFrame(rows).set_index(["model", "class"])

    def unmoved(self, model: int, *, least: float = 0.05) -> list[str]:
        """Other artifacts that still cost at least that much accuracy: one was corrected, another did not fall."""
        return [name for name in self.others if self.gap(model, name)[1] > 0 and self.gap(model, name)[0] >= least]

    def still(self, model: int) -> list[str]:
        """What `unmoved` names, in words: whether it fell at all, by a third at least, and what it costs."""
        told = []
        for name in self.unmoved(model):
            before, now = (self.gap(i, name)[0] for i in (0, model))
            how = "fell and is still there" if 3 * now <= 2 * before else "did not fall"
            told.append(f'"{name}" {how}: it costs {100 * now:.0f} points of accuracy, {100 * before:.0f} before')
        return told

    def to_frame(self) -> pd.DataFrame:
        """One row per model; accuracies with the ends of their intervals."""
        import pandas as pd

        rows = []
        for i in range(len(self.models)):
            row: dict[str, Any] = {}
            for kind in ("clean", "attacked"):
                row[kind], row[f"{kind}_low"], row[f"{kind}_high"] = self.accuracy(i, kind)
            row["gap"], row["gap_low"], row["gap_high"] = self.gap(i)
            for kind in ("clean", "attacked"):
                row[f"{kind}_change"], row[f"{kind}_change_low"], row[f"{kind}_change_high"], row[f"{kind}_p"] = (
                    self.change(i, kind)
                )
            share = self.relevance[i]
            row["relevance"] = float(share.mean()) if len(share) else math.nan
            row["relevance_error"] = float(error_of_mean(share, self.relevance_origins))
            row["relevance_area"] = self.relevance_area
            for name in _NUMBERS:
                row[name] = float(getattr(self, name)[i])
            for name in self.others:
                row[f"{name}_accuracy"], row[f"{name}_gap"] = self.accuracy(i, name)[0], self.gap(i, name)[0]
            rows.append(row)
        return pd.DataFrame(rows, index=pd.Index(self.models, name="model"))

    def summary(self) -> str:
        """The comparison in a few sentences."""
        parts = []
        for i, name in enumerate(self.models):
            clean, attacked = self.accuracy(i, "clean")[0], self.accuracy(i, "attacked")[0]
            text = f"{name}: clean {100 * clean:.1f} %, with {self.artifact} {100 * attacked:.1f} %"
            if i:
                text += "".join(f"; {still}" for still in self.still(i))
            parts.append(text)
        return ". ".join(parts) + "."

    def __repr__(self) -> str:
        return f"<re-evaluation on {self.population}: {self.summary()}>"

    @property
    def population(self) -> str:
        """How many pairs, in words, and of how many originals where these are fewer."""
        views = f" of {self.n_origins} originals" if self.n_origins < len(self.samples) else ""
        return f"{len(self.samples)} pairs{views}"

    def _right(self, kind: str) -> np.ndarray:
        if kind in ("clean", "attacked"):
            return getattr(self, kind)
        if kind not in self.others:
            raise BadValueError(f'No other artifact "{kind}".', hint=f"There are: {', '.join(self.others) or 'none'}.")
        return self.others[kind]


_NUMBERS = ("sensitivity", "sensitivity_error", "sensitivity_after", "probe_layer", "probe_logits")
