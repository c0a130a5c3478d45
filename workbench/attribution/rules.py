"""Relevance rules and composites by name: which module gets which rule, shown before anything runs.

The names, rules and order of precedence are those of zennit (its composites of the same names), except where a
composite is made without biases or with other numbers. The tests hold each assignment against zennit's own.
"""

from __future__ import annotations

import fnmatch
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import nn

from workbench.core import check
from workbench.core.errors import BadValueError, RuleError, nearest

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["COMPOSITES", "Composite", "Rule", "RuleRow", "RuleTable", "assign", "composite"]

_RULES_WITH_PARAMETERS = ("epsilon", "zplus", "alpha_beta", "gamma", "zbox", "wsquare", "flat")
_RULES = (*_RULES_WITH_PARAMETERS, "norm", "pass", "gradient")


@dataclass(frozen=True)
class Rule:
    """One relevance rule with its numbers.

    Parameters
    ----------
    kind : str
        ``epsilon``, ``zplus``, ``alpha_beta``, ``gamma``, ``zbox``, ``wsquare``, ``flat`` for modules with weights;
        ``norm`` for sums and average pooling; ``pass`` for activations; ``gradient`` for the plain gradient.
    epsilon : float
        Stabiliser of denominators, above 0.
    alpha, beta : float
        Weights of the positive and the negative products, ``alpha - beta = 1``, both at least 0.
    gamma : float
        Factor of the favoured products.
    low, high : float or array
        Bounds of the input for ``zbox``, in the units of the normalised input; a number or one per channel. Default:
        those that pixels have after the model's transform.
    """

    kind: str
    epsilon: float = 1e-6
    alpha: float = 2.0
    beta: float = 1.0
    gamma: float = 0.25
    low: Any = None
    high: Any = None

    def __post_init__(self) -> None:
        check.one_of("kind", self.kind, _RULES)
        check.between("epsilon", self.epsilon, 0, 1e6, left_open=True)
        check.between("gamma", self.gamma, 0, 1e6)
        if self.alpha < 0 or self.beta < 0 or abs(self.alpha - self.beta - 1) > 1e-9:
            raise BadValueError(
                f"The alpha-beta rule needs alpha - beta = 1 and neither below 0; got {self.alpha} and {self.beta}."
            )
        if self.kind == "zbox" and (self.low is None) != (self.high is None):
            raise BadValueError(
                "The z-box rule needs both `low` and `high`, the bounds of the normalised input, or neither.",
                hint="For pixels 0 to 1: low = -mean / std and high = (1 - mean) / std.",
            )

    def describe(self) -> dict[str, Any]:
        """The numbers that matter for this kind, ready for JSON."""
        used = {"alpha_beta": ("alpha", "beta"), "gamma": ("gamma",), "zbox": ("low", "high")}.get(self.kind, ())
        stabilised = () if self.kind in ("pass", "gradient") else ("epsilon",)
        return {"kind": self.kind} | {k: _plain(getattr(self, k)) for k in (*stabilised, *used)}

    def __str__(self) -> str:
        numbers = ", ".join(f"{k}={v}" for k, v in self.describe().items() if k not in ("kind", "low", "high"))
        return f"{self.kind}({numbers})" if numbers else self.kind


@dataclass(frozen=True)
class Composite:
    """A named choice of rules.

    Parameters
    ----------
    name : str
    layers : sequence of (matcher, Rule)
        The first matcher that fits decides. A matcher is a group (``convolution``, ``dense``, ``linear``,
        ``activation``, ``sum``, ``average_pool``, ``batch_norm``), a module class, or a pattern of module names such as
        ``features.*``.
    first : sequence of (matcher, Rule)
        For the first module, in order of registration, that any of these fits.
    zero_bias : bool
        Leave biases out of denominators, so that they take no relevance.
    """

    name: str
    layers: tuple[tuple[Any, Rule], ...]
    first: tuple[tuple[Any, Rule], ...] = ()
    zero_bias: bool = True

    def describe(self) -> dict[str, Any]:
        """JSON-ready description; equal descriptions give equal relevance."""
        return {
            "name": self.name,
            "zero_bias": self.zero_bias,
            "layers": [[_matcher_name(m), r.describe()] for m, r in self.layers],
            "first": [[_matcher_name(m), r.describe()] for m, r in self.first],
        }

    @property
    def digest(self) -> str:
        """Short digest of the description."""
        text = json.dumps(self.describe(), sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def with_layers(self, *layers: tuple[Any, Rule]) -> Composite:
        """A composite in which `layers` take precedence over the present ones."""
        return replace(self, name=f"{self.name}+", layers=(*layers, *self.layers))

    def __str__(self) -> str:
        return self.name if self.zero_bias else f"{self.name} (with biases)"


@dataclass(frozen=True)
class RuleRow:
    """One line of a `RuleTable`."""

    module: str
    type: str
    rule: Rule
    is_first: bool = False
    n_calls: int = 1
    note: str = ""


@dataclass(frozen=True)
class RuleTable(Sequence[RuleRow]):
    """Which module gets which rule, and which fall back to the plain gradient."""

    composite: Composite
    rows: tuple[RuleRow, ...]
    functions: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __iter__(self) -> Iterator[RuleRow]:
        return iter(self.rows)

    @property
    def fallbacks(self) -> list[str]:
        """Modules and functions that keep the plain gradient."""
        modules = [r.module for r in self.rows if r.rule.kind == "gradient"]
        return modules + [f"{name}() outside modules" for name in self.functions if name not in _RULED_FUNCTIONS]

    def to_frame(self) -> pd.DataFrame:
        """The table as a pandas frame, indexed by module."""
        import pandas as pd

        rows = [
            {
                "module": r.module,
                "type": r.type,
                "rule": str(r.rule),
                "first": r.is_first,
                "calls": r.n_calls,
                "note": r.note,
            }
            for r in self.rows
        ]
        rows += [
            {"module": f"{name}()", "type": "function", "rule": _RULED_FUNCTIONS.get(name, "gradient"), "first": False,
             "calls": n, "note": "called outside modules"}
            for name, n in self.functions.items()
        ]  # fmt: skip
        return pd.DataFrame(rows).set_index("module")

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(escape=True)

    def __repr__(self) -> str:
        fallbacks = self.fallbacks
        named = f": {', '.join(fallbacks[:4])}{' …' if len(fallbacks) > 4 else ''}" if fallbacks else ""
        return f"<rules of {self.composite}: {len(self.rows)} modules, {len(fallbacks)} with the plain gradient{named}>"


_RULED_FUNCTIONS = {"residual sum": "norm", "relu": "gradient, equal to pass where relevance is not zero"}


def _groups() -> dict[str, tuple[type, ...]]:
    convolution = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
    return {
        "convolution": convolution,
        "dense": (nn.Linear,),
        "linear": (*convolution, nn.Linear),
        "average_pool": (
            nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d,
        ),
        "batch_norm": (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d),
    }  # fmt: skip


_GROUPS = _groups()


def _matches(matcher: Any, name: str, module: nn.Module) -> bool:
    if isinstance(matcher, type):
        return isinstance(module, matcher)
    if matcher == "activation":
        return _is_activation(module)
    if matcher == "sum":  # sums have no module; `lrp.py` gives them the rule that stands here
        return False
    if matcher in _GROUPS:
        return isinstance(module, _GROUPS[matcher])
    return fnmatch.fnmatchcase(name, matcher)


def _is_activation(module: nn.Module) -> bool:
    """Element-wise functions of torch and timm; attention and gates are none, though torch keeps them in that file."""
    if isinstance(module, (nn.MultiheadAttention, nn.GLU)):
        return False
    home = type(module).__module__
    return home == "torch.nn.modules.activation" or home.startswith("timm.layers.activations")


def _matcher_name(matcher: Any) -> str:
    return f"{matcher.__module__}.{matcher.__qualname__}" if isinstance(matcher, type) else str(matcher)


def assign(module: nn.Module, chosen: Composite, *, calls: Mapping[str, int] | None = None) -> RuleTable:
    """Give each leaf module its rule.

    Parameters
    ----------
    module : nn.Module
        The model, after batch norm was folded.
    chosen : Composite
    calls : mapping of name to int, optional
        How often each module runs in one forward pass; modules that never run are left out.

    Raises
    ------
    RuleError
        If a rule for weights is given to a module that has none.
    """
    rows: list[RuleRow] = []
    has_first = not chosen.first
    for name, child in module.named_modules():
        if next(child.children(), None) is not None or (calls is not None and not calls.get(name)):
            continue
        rule, is_first = None, False
        if not has_first:
            rule = next((r for m, r in chosen.first if _matches(m, name, child)), None)
            has_first = is_first = rule is not None
        if rule is None:
            rule = next((r for m, r in chosen.layers if _matches(m, name, child)), None)
        rule = rule or Rule("pass" if isinstance(child, (nn.Identity, nn.Dropout, nn.Flatten)) else "gradient")
        if rule.kind in _RULES_WITH_PARAMETERS and not isinstance(getattr(child, "weight", None), nn.Parameter):
            raise RuleError(f'The rule {rule} needs weights, and "{name}" ({type(child).__name__}) has none.')
        n_calls = calls[name] if calls is not None else 1
        rows.append(RuleRow(name, type(child).__name__, rule, is_first, n_calls))
    return RuleTable(chosen, tuple(rows))


def _base(stabiliser: float) -> tuple[tuple[Any, Rule], ...]:
    norm = Rule("norm", epsilon=stabiliser)
    return (("activation", Rule("pass")), ("sum", norm), ("average_pool", norm), ("batch_norm", Rule("pass")))


def _named(
    name: str, convolution: Rule, first: tuple[tuple[Any, Rule], ...], epsilon: float, stabiliser: float
) -> Composite:
    dense = Rule("epsilon", epsilon=epsilon)
    return Composite(name, (*_base(stabiliser), ("convolution", convolution), ("dense", dense)), first)


COMPOSITES = (
    "EpsilonPlus", "EpsilonPlusFlat", "EpsilonAlpha2Beta1", "EpsilonAlpha2Beta1Flat", "EpsilonGammaBox", "Epsilon",
)  # fmt: skip
"""Names of composites; all but ``Epsilon`` (the epsilon rule everywhere, as used for prototypes) are zennit's."""


def composite(
    name: str | Composite = "EpsilonPlusFlat",
    *,
    epsilon: float = 1e-6,
    stabiliser: float = 1e-6,
    gamma: float = 0.25,
    low: Any = None,
    high: Any = None,
    zero_bias: bool = True,
) -> Composite:
    """Make a composite by its name.

    Parameters
    ----------
    name : str
        One of `COMPOSITES`; a `Composite` is returned unchanged.
    epsilon : float
        Stabiliser of the epsilon rule.
    stabiliser : float
        Stabiliser of all other rules.
    gamma : float
        For ``EpsilonGammaBox``.
    low, high : float or sequence
        Bounds of the normalised input for ``EpsilonGammaBox``. Default: those of the model's transform.
    zero_bias : bool
        Leave biases out of denominators (our default; zennit's own default keeps them).

    Raises
    ------
    BadValueError
        If no composite has that name.

    Examples
    --------
    >>> composite("EpsilonPlus").layers[-1][1].kind
    'epsilon'
    """
    if isinstance(name, Composite):
        return name
    if name not in COMPOSITES:
        raise BadValueError(
            f'No composite "{name}".', hint=f"{nearest(name, COMPOSITES)} There are {', '.join(COMPOSITES)}."
        )
    flat = (("linear", Rule("flat", epsilon=stabiliser)),)
    zplus = Rule("zplus", epsilon=stabiliser)
    alpha_beta = Rule("alpha_beta", epsilon=stabiliser, alpha=2.0, beta=1.0)
    if name == "EpsilonGammaBox":
        box = (("convolution", Rule("zbox", epsilon=stabiliser, low=low, high=high)),)
        made = _named(name, Rule("gamma", epsilon=stabiliser, gamma=gamma), box, epsilon, stabiliser)
    elif name == "Epsilon":
        made = _named(name, Rule("epsilon", epsilon=epsilon), (), epsilon, stabiliser)
    else:
        rule = alpha_beta if "Alpha2Beta1" in name else zplus
        made = _named(name, rule, flat if name.endswith("Flat") else (), epsilon, stabiliser)
    return replace(made, zero_bias=zero_bias)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else list(value) if isinstance(value, (list, tuple)) else value
