"""Concept activation vectors by linear filters: they decide whether a concept is there. Solved by scikit-learn."""

from __future__ import annotations

from typing import Any

import numpy as np

from workbench.core import check
from workbench.methods.base import Source, register_method
from workbench.methods.directions import filters
from workbench.methods.directions.cav import CAV
from workbench.methods.directions.fitting import Estimate

__all__ = ["FilterCAV", "LassoCAV", "LogisticCAV", "RidgeCAV", "SVMCAV"]

_SOURCE = "Pahde et al. 2022 (Navigating Neural Space), section 3.1"


class FilterCAV(CAV):
    """Base of the filters: the weights of a linear model that tells samples with a concept from those without.

    **When not to trust it.** As a direction: it turns away from noise that is correlated with the concept, so moving
    along it changes other things; compare `agreement` and `alignment`. With more units than samples it separates
    anything: look at the held-out area.

    Parameters
    ----------
    layer, positives, negatives, pairs, scope, pooling, concept, resamples, seed
        As for `PatternCAV`. Within classes, each class is centred on the midpoint of its two means.
    C : float, optional
        Of SVM and logistic regression: factor of the loss beside half the squared norm.
    alpha : float, optional
        Of ridge and lasso: factor of the squared norm, or of the sum of absolute entries, beside the squared errors.
        Default of both: the best of 10^-5 to 10^4 by the held-out area under the curve in five folds; of equal ones the
        one that penalises most.
    scaling : {"none", "deviation", "largest"}
        What units are divided by while fitting; the direction is one of unscaled activations.

    Notes
    -----
    Samples are weighted so that both kinds count the same. At least two positives are needed, and scikit-learn.
    """

    is_linear = False
    least_positives = 2
    scaling: str

    def estimate(self, x: np.ndarray, t: np.ndarray, strata: np.ndarray, *, given: Estimate | None = None) -> Estimate:
        strength = self._strength() if given is None else given.settings["strength"]
        made = filters.fit_filter(
            self.estimator, x, t, strata, strength=strength, scaling=self.scaling, seed=self.seed, notice=self._notice
        )
        notes = [] if made.is_converged else ["The solver stopped before it converged: a stronger penalty helps."]
        if made.is_at_end:
            notes.append("The strength that penalises most of those tried was the best: a stronger one may be better.")
        offset = float(made.vector @ made.middle) - made.intercept
        return Estimate(made.vector, offset, {"strength": made.strength, "scaling": self.scaling}, tuple(notes))

    def _strength(self) -> float | None:
        return getattr(self, self._strength_name())

    def _strength_name(self) -> str:
        return "C" if self.estimator in ("svm", "logistic") else "alpha"

    def _check(self) -> None:
        super()._check()
        check.one_of("scaling", self.scaling, filters.SCALINGS)
        if self._strength() is not None:
            check.between(self._strength_name(), self._strength(), 0, 1e12, left_open=True)
        filters.needs_sklearn()


class _ByC(FilterCAV):
    """Filters whose strength is C."""

    def __init__(
        self,
        layer: str,
        *,
        positives: Any,
        negatives: Any = None,
        pairs: Any = None,
        scope: str | int = "within-class",
        pooling: str = "max",
        concept: str | None = None,
        C: float | None = None,
        scaling: str = "none",
        resamples: int = 5,
        seed: int = 0,
    ):
        self.layer, self.positives, self.negatives, self.pairs = layer, positives, negatives, pairs
        self.scope, self.pooling, self.concept, self.resamples, self.seed = scope, pooling, concept, resamples, seed
        self.C, self.scaling = C, scaling


class _ByAlpha(FilterCAV):
    """Filters whose strength is alpha."""

    def __init__(
        self,
        layer: str,
        *,
        positives: Any,
        negatives: Any = None,
        pairs: Any = None,
        scope: str | int = "within-class",
        pooling: str = "max",
        concept: str | None = None,
        alpha: float | None = None,
        scaling: str = "none",
        resamples: int = 5,
        seed: int = 0,
    ):
        self.layer, self.positives, self.negatives, self.pairs = layer, positives, negatives, pairs
        self.scope, self.pooling, self.concept, self.resamples, self.seed = scope, pooling, concept, resamples, seed
        self.alpha, self.scaling = alpha, scaling


@register_method(
    "svm-cav",
    source=Source(f"Kim et al. 2018 (TCAV), section 3.2; {_SOURCE} (squared hinge)"),
    needs=("activations",),
)
class SVMCAV(_ByC):
    """The normal of the plane that parts samples with a concept from those without by the widest margin.

    **What it answers.** Whether a concept is there: the usual filter, and a detector.

    **When not to trust it**, parameters: see `FilterCAV`; its strength is C.

    **Cost.** Half a second for 2,000 samples of 512 units with a given C, refits included; to find C 1 to 10 s more.
    """

    estimator = "svm"


@register_method(
    "logistic-cav",
    source=Source(f"Kim et al. 2018 (TCAV), section 3.2; {_SOURCE} (logistic)"),
    needs=("activations",),
)
class LogisticCAV(_ByC):
    """The direction along which the odds of a concept rise fastest, by logistic regression.

    **What it answers.** Whether a concept is there, with odds.

    **When not to trust it**, parameters: see `FilterCAV`; its strength is C.

    **Cost.** 0.3 s for 2,000 samples of 512 units with a given C, refits included; twice that to find C.
    """

    estimator = "logistic"


@register_method("ridge-cav", source=Source(f"{_SOURCE} (ridge)"), needs=("activations",))
class RidgeCAV(_ByAlpha):
    """The linear map that predicts a concept with least squared error, by ridge regression.

    **What it answers.** Whether a concept is there. Strongly penalised it comes near the pattern.

    **When not to trust it**, parameters: see `FilterCAV`; its strength is alpha.

    **Cost.** Half a second for 2,000 samples of 512 units with a given alpha, refits included; to find alpha 2 s.
    """

    estimator = "ridge"


@register_method("lasso-cav", source=Source(f"{_SOURCE} (lasso)"), needs=("activations",))
class LassoCAV(_ByAlpha):
    """A sparse direction: the linear map that predicts a concept from few units.

    **What it answers.** Which few units tell whether a concept is there. Where the strength is so large that none is
    left, it is lowered until one is.

    **When not to trust it**, parameters: see `FilterCAV`; its strength is alpha.

    **Cost.** Half a second for 2,000 samples of 512 units with a given alpha, refits included; to find alpha 1 s.
    """

    estimator = "lasso"
