"""What one asks of a model when steering it, and what came of it: frozen records, computed elsewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import check
from workbench.core.comparisons import yes_or_no
from workbench.core.errors import BadValueError
from workbench.core.ids import ComponentId
from workbench.core.origins import middle
from workbench.core.results import Ranking, Result

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["OPERATIONS", "Effect", "Intervention", "LeaveOneOut", "OutputChange", "TOKENS", "interval", "region_sides"]

OPERATIONS = {
    "suppress": "share that is taken away, 0 to 1",
    "boost": "share that is added, at least 0",
    "set": "new value",
    "add": "length of the step",
    "project": "share of the direction that is projected out, 0 to 1",
}
"""What can be done to components, and what its strength means."""

TOKENS = ("all", "class", "patches")
"""Which tokens of a sequence are changed: all, the first, or those of the picture."""


@dataclass(frozen=True, init=False, repr=False)
class Intervention:
    """One thing that is done to one component, or alike to several of one layer and basis.

    Attributes
    ----------
    addresses : tuple of str
        Units or directions.
    operation : str
        ``suppress`` (the first choice), ``boost``, ``set``, ``add`` or ``project``.
    strength : float
        See `OPERATIONS`. Suppressing a direction takes away the share of what the activation has along it.
    tokens : {"all", "class", "patches"} or None
        Which tokens of a sequence are changed. None: the class token for directions that were fitted on it
        (``pooling="token"``), else all. ``"class"`` is the first token.
    region : (x, y, width, height) or None
        The part of the picture in which maps or patches are changed, in shares of the picture, 0 to 1, from the upper
        left corner: the positions whose middle lies inside, at least one. Each sample is changed in the same place.

    Raises
    ------
    BadValueError
        If there is no such operation, the strength is out of range, components of several layers or bases are mixed, or
        the scope is none.

    Examples
    --------
    >>> str(Intervention("layer4/unit/17", region=(0, 0, 0.5, 0.25)))
    'suppress layer4/unit/17 (100 %) in the region x 0 to 0.5, y 0 to 0.25'
    """

    addresses: tuple[str, ...]
    operation: str = "suppress"
    strength: float = 1.0
    tokens: str | None = None
    region: tuple[float, float, float, float] | None = None

    def __init__(
        self,
        addresses: str | ComponentId | Sequence[str],
        operation: str = "suppress",
        strength: float = 1.0,
        *,
        tokens: str | None = None,
        region: Any = None,
    ):
        given = [addresses] if isinstance(addresses, (str, ComponentId)) else list(addresses)
        parsed = [ComponentId.parse(one) for one in dict.fromkeys(map(str, given))]
        if not parsed:
            raise BadValueError(
                "An intervention needs a component.", hint='For example Intervention("layer4/unit/17").'
            )
        if len({(one.layer, one.basis) for one in parsed}) > 1:
            raise BadValueError(
                f"{len(parsed)} components of several layers or bases cannot share an intervention.",
                hint="Make one for each layer and basis; steering takes a list.",
            )
        check.one_of("operation", operation, tuple(OPERATIONS))
        upper = 1.0 if operation in ("suppress", "project") else math.inf
        lower = -math.inf if operation in ("set", "add") else 0.0
        strength = check.between("strength", strength, lower, upper)
        if tokens is not None:
            check.one_of("tokens", tokens, TOKENS)
        if region is not None and tokens not in (None, "patches"):
            raise BadValueError(f'A region is one of patches; got tokens="{tokens}".', hint='Use tokens="patches".')
        object.__setattr__(self, "tokens", tokens)
        object.__setattr__(self, "region", None if region is None else region_sides(region))
        object.__setattr__(self, "addresses", tuple(map(str, parsed)))
        object.__setattr__(self, "operation", operation)
        object.__setattr__(self, "strength", strength)

    @property
    def layer(self) -> str:
        """Layer of the components."""
        return ComponentId.parse(self.addresses[0]).layer

    @property
    def basis(self) -> str:
        """Basis of the components."""
        return ComponentId.parse(self.addresses[0]).basis

    @property
    def indices(self) -> tuple[int, ...]:
        """Numbers of the components in their basis."""
        return tuple(ComponentId.parse(one).index for one in self.addresses)

    def __str__(self) -> str:
        first, rest = self.addresses[0], len(self.addresses) - 1
        what = first if not rest else f"{first} and {rest} more"
        number = (
            f"{100 * self.strength:.0f} %"
            if self.operation in ("suppress", "boost", "project")
            else f"{self.strength:g}"
        )
        return f"{self.operation} {what} ({number}){self._where()}"

    def _where(self) -> str:
        if self.region is not None:
            x, y, width, height = self.region
            return f" in the region x {x:.3g} to {x + width:.3g}, y {y:.3g} to {y + height:.3g}"
        words = {"class": " at the class token", "patches": " at the patches", "all": " at all tokens"}
        return words.get(self.tokens or "", "")

    def __repr__(self) -> str:
        given = [repr(self.addresses[0] if len(self.addresses) == 1 else list(self.addresses)), repr(self.operation),
                 repr(self.strength)]  # fmt: skip
        given += [f"{name}={value!r}" for name in ("tokens", "region") if (value := getattr(self, name)) is not None]
        return f"Intervention({', '.join(given)})"


@dataclass(frozen=True, eq=False, repr=False)
class Effect(Result):
    """What interventions do to a population.

    Attributes
    ----------
    interventions : tuple of Intervention
    target_text : str
        The score that is followed; which output that is, is decided before the intervention.
    samples : (sample,) int64 array
    origins : (sample,) int64 array
        Original picture of each; views of one picture count once in the intervals.
    before, after : (sample,) float32 array
        The score.
    decision_before, decision_after : (sample,) int64 array
        Number of the largest output; of a single one, 0 or 1 by its sign. -1 where the model takes no decision: its
        outputs have positions, or the single one is a quantity.
    labels : (sample,) int64 array
        Number of the true output, -1 where it is unknown or the label names none.
    outputs : (class_,) float32 array
        Mean change of each output; empty where the model has no single outputs.
    control : (control, sample) float32 array
        Change of the score when random components are changed as much: each control changes as many others of the same
        layer by the same operation, scaled to an equal length of the change for each sample. In each sample they are
        among those that the operation changes there, such as units that are active; NaN where there is none.
    moved : Ranking or None
        Components above that nobody touched, by their mean change in units of their spread, largest first.
    n_planned : int
        Size of the population; more than `samples` while it runs.
    classes : tuple of str
    margin_before, margin_after : (sample,) float32 array or None
        By how much the true output, or where it is unknown the former decision, exceeds the largest other one; of a
        single output, how far it lies on the right side of zero. None where the model takes no decisions.
    n_left_out : int
        Samples of the population without an output to follow, since their label names none.
    """

    interventions: tuple[Intervention, ...]
    target_text: str
    samples: np.ndarray
    origins: np.ndarray
    before: np.ndarray
    after: np.ndarray
    decision_before: np.ndarray
    decision_after: np.ndarray
    labels: np.ndarray
    outputs: np.ndarray
    control: np.ndarray
    moved: Ranking | None
    n_planned: int
    classes: tuple[str, ...] = ()
    recipe: str = ""
    margin_before: np.ndarray | None = None
    margin_after: np.ndarray | None = None
    n_left_out: int = 0

    @property
    def is_complete(self) -> bool:
        """Whether the whole population has been run."""
        return len(self.samples) >= self.n_planned

    @property
    def change(self) -> np.ndarray:
        """(sample,) change of the score."""
        return self.after - self.before

    @property
    def mean(self) -> float:
        """Mean change of the score, each original picture counted once."""
        return float(_per_origin(self.change, self.origins).mean()) if len(self.samples) else math.nan

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean change."""
        return interval(_per_origin(self.change, self.origins))

    @property
    def control_band(self) -> tuple[float, float]:
        """Between which mean changes 95 % of random controls are expected; NaN with fewer than two.

        From the mean and spread of the controls, since few are run. Where a control had nothing to change, the sample
        says nothing about controls and is left out of its mean; see `empty_share`.
        """
        known = ~np.isnan(self.control)
        means = np.array(
            [_per_origin(one[is_in], self.origins[is_in]).mean()
             for one, is_in in zip(self.control, known, strict=True) if is_in.any()]
        )  # fmt: skip
        if len(means) < 2:
            return math.nan, math.nan
        half = _t(len(means) - 1) * means.std(ddof=1) * math.sqrt(1 + 1 / len(means))
        return float(means.mean() - half), float(means.mean() + half)

    @property
    def is_beyond_control(self) -> bool:
        """Whether the mean change lies outside of the band of random controls."""
        low, high = self.control_band
        return bool(self.mean < low or self.mean > high)

    @property
    def empty_share(self) -> float:
        """Share of controls that had nothing to change, over controls and samples; NaN without controls."""
        return float(np.isnan(self.control).mean()) if self.control.size else math.nan

    @property
    def has_decisions(self) -> bool:
        """Whether the model decides among classes."""
        return bool((self.decision_before >= 0).any())

    @property
    def changed_share(self) -> float:
        """Share of samples whose decision changed; NaN where the model takes none."""
        known = self.decision_before >= 0
        return float((self.decision_before != self.decision_after)[known].mean()) if known.any() else math.nan

    def accuracy(self) -> pd.DataFrame:
        """Accuracy per class before and after, over samples with a known class; the last row is over all.

        Returns
        -------
        pandas.DataFrame
            Index ``class``; columns ``samples``, ``before``, ``after``, ``change``, and ``low`` and ``high``: between
            these the change lies in 95 % of bootstrap samples, paired by sample, views of one original drawn together;
            NaN with fewer than two originals. Empty where the model takes no decisions, or no label names an output.
        """
        import pandas as pd

        known = (self.labels >= 0) & (self.decision_before >= 0)
        rows: dict[str, tuple[int | float, ...]] = {}
        for label in np.unique(self.labels[known]):
            of = known & (self.labels == label)
            rows[self._said(int(label))] = self._right(of)
        if known.any():
            rows["all"] = self._right(known)
        frame = pd.DataFrame.from_dict(
            rows, orient="index", columns=["samples", "before", "after", "change", "low", "high"]
        )
        frame.index.name = "class"
        return frame

    def top_outputs(self, n: int = 5) -> list[tuple[str, float]]:
        """The outputs that changed most on average, with their mean change."""
        order = np.argsort(-np.abs(self.outputs), kind="stable")[:n]
        return [(self._name(int(i)), float(self.outputs[i])) for i in order]

    def worse(self, n: int = 8) -> pd.DataFrame:
        """The samples that the interventions made worse, worst first.

        Those that were decided rightly and no longer are come first, then those whose margin fell most.

        Returns
        -------
        pandas.DataFrame
            Index ``sample``; columns ``margin`` (its change), ``before`` and ``after`` (names of the decisions),
            ``label`` and ``is_lost``. Empty where the model takes no decisions.
        """
        import pandas as pd

        columns = ["margin", "before", "after", "label", "is_lost"]
        if self.margin_before is None or self.margin_after is None:
            return pd.DataFrame([], columns=columns, index=pd.Index([], name="sample", dtype=np.int64))
        change = self.margin_after - self.margin_before
        # A margin below zero is another class than the true one; of a decision, that another one took its place.
        lost = (self.margin_before > 0) & (self.margin_after <= 0)
        rows = np.flatnonzero((change < 0) | lost)
        rows = rows[np.lexsort((change[rows], ~lost[rows]))][:n]
        names = (self.decision_before, self.decision_after, self.labels)
        found = [[float(change[i]), *(self._said(int(one[i])) for one in names), bool(lost[i])] for i in rows]
        return pd.DataFrame(found, columns=columns, index=pd.Index(self.samples[rows], name="sample"))

    def to_frame(self) -> pd.DataFrame:
        """One row per sample: score before, after and its change, decisions, true class."""
        import pandas as pd

        names = {"decision_before": self.decision_before, "decision_after": self.decision_after, "label": self.labels}
        columns: dict[str, Any] = {"before": self.before, "after": self.after, "change": self.change}
        columns |= {key: [self._said(int(i)) for i in values] for key, values in names.items()}
        return pd.DataFrame(columns, index=pd.Index(self.samples, name="sample"))

    def summary(self) -> str:
        """The effect in a sentence."""
        low, high = self.interval
        text = f"{self.target_text} changes by {self.mean:+.3g} ({low:+.3g} to {high:+.3g})"
        band = self.control_band
        if not math.isnan(band[0]):
            side = "beyond" if self.is_beyond_control else "within"
            text += f", {side} the band of random controls ({band[0]:+.3g} to {band[1]:+.3g})"
        if not math.isnan(self.changed_share):
            text += f"; {100 * self.changed_share:.1f} % of decisions change"
        elif len(self.samples):
            text += "; no decisions, since the outputs are no choice among classes"
        if self.empty_share > 0:
            text += f"; {100 * self.empty_share:.0f} % of the controls found nothing active to change"
        if self.n_left_out:
            text += f"; {self.n_left_out} left out, whose label names no output"
        count = len(self.samples)
        return f"{text}; {count} sample{'s' * (count != 1)}" + ("." if self.is_complete else f" of {self.n_planned}.")

    def __repr__(self) -> str:
        return f"<effect of {'; '.join(map(str, self.interventions)) or 'nothing'}: {self.summary()}>"

    def _name(self, index: int) -> str:
        if index < 0:
            return ""
        return self.classes[index] if index < len(self.classes) else str(index)

    def _said(self, decision: int) -> str:
        """Name of a decision or a label; of a single output by its sign."""
        return yes_or_no(decision) if len(self.outputs) == 1 else self._name(decision)

    def _right(self, of: np.ndarray) -> tuple[int | float, ...]:
        label = self.labels[of]
        before, after = ((one[of] == label).astype(np.float64) for one in (self.decision_before, self.decision_after))
        change = after - before
        low, high = middle(change, self.origins[of])
        return int(of.sum()), float(before.mean()), float(after.mean()), float(change.mean()), low, high


@dataclass(frozen=True)
class OutputChange:
    """One output of a sample before and after interventions.

    Attributes
    ----------
    index : int
    name : str
    before, after : float
    probability_before, probability_after : float
        NaN where the model's outputs have none.
    """

    index: int
    name: str
    before: float
    after: float
    probability_before: float = math.nan
    probability_after: float = math.nan

    @property
    def change(self) -> float:
        """After minus before."""
        return self.after - self.before


@dataclass(frozen=True, eq=False, repr=False)
class LeaveOneOut(Result):
    """What a sample's score becomes when each of its leading components is suppressed alone.

    Attributes
    ----------
    sample : int
    target_text, name : str
        The score that is followed, and the output's name.
    score : float
        As it is.
    components : tuple of str
        Most relevant first.
    relevance : (component,) float32 array
    change : (component,) float32 array
        Of the score, when the component is suppressed.
    """

    sample: int
    target_text: str
    name: str
    score: float
    components: tuple[str, ...]
    relevance: np.ndarray
    change: np.ndarray

    def to_frame(self) -> pd.DataFrame:
        """One row per component: its relevance, and the change of the score without it."""
        import pandas as pd

        data = {"relevance": self.relevance, "change": self.change}
        return pd.DataFrame(data, index=pd.Index(list(self.components), name="component", dtype=object))

    def __repr__(self) -> str:
        return f"<leave one out of {len(self.components)} for {self.name or self.target_text} of sample {self.sample}>"


def region_sides(region: Any) -> tuple[float, float, float, float]:
    """A region as x, y, width, height; of a mapping with these names, as a selection holds it, or of four numbers.

    Raises
    ------
    BadValueError
        If it is no part of a picture.
    """
    try:
        sides = [region[name] for name in ("x", "y", "width", "height")] if isinstance(region, Mapping) else [*region]
        x, y, width, height = (float(side) for side in sides)
    except (KeyError, TypeError, ValueError):
        raise BadValueError(
            f"A region has x, y, width and height, as shares of the picture; got {region!r}.",
            hint="For example (0, 0, 0.5, 0.5) for the upper left quarter.",
        ) from None
    # Shares that were rounded may end a little outside.
    if not (x >= 0 and y >= 0 and width > 0 and height > 0 and x + width <= 1 + 1e-6 and y + height <= 1 + 1e-6):
        raise BadValueError(
            f"A region is a part of the picture, 0 to 1; got {(x, y, width, height)}.",
            hint="For example (0, 0, 0.5, 0.5) for the upper left quarter.",
        )
    return x, y, width, height


def interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Interval of the mean of independent values, by Student's distribution; infinite for a single one."""
    values = np.asarray(values, dtype=np.float64)
    if len(values) == 0:
        return math.nan, math.nan
    if len(values) == 1:
        return -math.inf, math.inf
    half = _t(len(values) - 1, level) * values.std(ddof=1) / math.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def _per_origin(values: np.ndarray, origins: np.ndarray) -> np.ndarray:
    """The mean of each original picture."""
    _, where = np.unique(origins, return_inverse=True)
    return np.bincount(where, values.astype(np.float64)) / np.bincount(where)


def _t(freedom: int, level: float = 0.95) -> float:
    """Two-sided quantile of Student's distribution.

    Exact for one and two degrees of freedom, else the expansion of Abramowitz and Stegun, 26.7.5: within one in a
    thousand from three on.
    """
    p = (1 + level) / 2
    if freedom == 1:
        return math.tan(math.pi * (p - 0.5))
    if freedom == 2:
        return (2 * p - 1) / math.sqrt(2 * p * (1 - p))
    z, v = NormalDist().inv_cdf(p), freedom
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
        + (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / (92160 * v**4)
    )
