"""What a method is: an estimator with addresses in place of bare arrays, a source, and roles that widgets ask for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from workbench.core.errors import BadValueError
from workbench.core.registry import METHODS

if TYPE_CHECKING:
    import numpy as np

    from workbench.core.context import Context
    from workbench.core.results import Attribution, Edit, Ranking

__all__ = [
    "Corrects",
    "Describes",
    "Directs",
    "Embeds",
    "Explains",
    "Finds",
    "Method",
    "Scores",
    "Source",
    "Synthesises",
    "register_method",
]


@dataclass(frozen=True)
class Source:
    """Where a method comes from: paper, section, equation."""

    text: str

    def __str__(self) -> str:
        return self.text


class Method:
    """Base of all methods.

    The constructor stores its arguments under their names and does nothing else. `fit(ctx)` learns, returns the
    method, and leaves what it learned in attributes that end in an underscore. `state` and `restore` turn these into
    arrays and back, so that a second fit with the same recipe loads instead of computing.
    """

    name: ClassVar[str] = ""
    result_version: ClassVar[int] = 1
    source: ClassVar[Source] = Source("")
    needs: ClassVar[tuple[str, ...]] = ()
    session_: Any

    def params(self) -> dict[str, Any]:
        """The constructor's arguments with their present values."""
        names = [p for p in inspect.signature(type(self).__init__).parameters if p != "self"]
        return {name: getattr(self, name) for name in names}

    def recipe_params(self, ctx: Context) -> dict[str, Any]:
        """What the recipe of what is learned says of the arguments: plain values, with ids for names of sets."""
        return self.params()

    def fit(self, ctx: Context) -> Any:
        """Learn from the context and return the method itself."""
        raise BadValueError(f"{type(self).__name__} has nothing to fit.")

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """What was learned: arrays, and JSON-able facts."""
        raise BadValueError(f"{type(self).__name__} keeps nothing.")

    def restore(self, ctx: Context, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Take up what `state` gave."""
        raise BadValueError(f"{type(self).__name__} keeps nothing.")

    @property
    def is_fitted(self) -> bool:
        """Whether `fit` has run."""
        return any(name.endswith("_") and not name.startswith("_") for name in vars(self))

    def __repr__(self) -> str:
        inside = ", ".join(f"{k}={v!r}" for k, v in self.params().items())
        return f"{type(self).__name__}({inside})"


class Explains:
    """Role: `explain(sample)` gives an attribution."""

    explain: Callable[..., Attribution]


class Finds:
    """Role: `search(query)` gives a ranking of components."""

    search: Callable[..., Ranking]


class Describes:
    """Role: `describe(component)` gives a record of one component."""

    describe: Callable[..., Mapping[str, Any]]


class Directs:
    """Role: `direction_` is a direction in a layer."""

    direction_: np.ndarray


class Corrects:
    """Role: `edits()` gives changes of the model."""

    edits: Callable[[], Sequence[Edit]]


class Scores:
    """Role: `score_` is one number per component."""

    score_: np.ndarray


class Embeds:
    """Role: `embedding_` is one point per component or sample."""

    embedding_: np.ndarray


class Synthesises:
    """Role: `visualise(component)` makes a picture."""

    visualise: Callable[..., np.ndarray]


def register_method(
    name: str, *, source: Source, needs: Sequence[str] = (), stable: bool = True
) -> Callable[[type], type]:
    """Register a method's class under a name.

    Parameters
    ----------
    source : Source
        Paper, section, equation.
    needs : sequence of str
        What it asks of the context: ``activations``, ``relevances``, ``references``.
    stable : bool
        False for what may still change; lists say so.
    """

    def add(cls: Any) -> Any:
        cls.name, cls.source, cls.needs = name, source, tuple(needs)
        return METHODS.register(name, cls, stable=stable)

    return add
