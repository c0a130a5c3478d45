"""Context: the little that a method may ask of the world. A session is one; `testing.FakeContext` is another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from workbench.core.progress import Progress
    from workbench.core.results import ActivationTable, Attribution, ReferenceSet

__all__ = ["Checkpoint", "Context"]


class Checkpoint(Protocol):
    """How far some work is, kept where the next attempt finds it, also after the process was killed."""

    def load(self) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
        """Arrays and JSON-able facts as they were last saved; None if there are none."""

    def save(self, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Keep these in place of what was kept before."""

    def drop(self) -> None:
        """Forget them: the work is done."""


class Context(Protocol):
    """What a method's `fit` is given."""

    @property
    def model(self) -> Any:
        """The model's handle."""

    @property
    def data(self) -> Any:
        """The data set."""

    @property
    def store(self) -> Any:
        """Where results are kept."""

    @property
    def progress(self) -> Progress:
        """Where long work reports to."""

    def activations(self, layer: str, *, pooling: str = "max") -> ActivationTable:
        """Pooled activations; swept first if they are not in the store."""

    def pooled(self, layer: str, samples: Any = None, *, pooling: str = "max") -> tuple[Any, Any]:
        """Pooled activations of some samples, or of all: ids, and a (sample, component) array; computed if need be."""

    def relevances(self, layer: str, *, target: Any = None, rule: Any = None) -> ActivationTable:
        """Pooled relevances; swept first if they are not in the store."""

    def references(self, layer: str, by: str = "activation", k: int = 20, per_origin: int = 1) -> ReferenceSet:
        """Reference samples of each component."""

    def explain(
        self, sample: Any = None, target: Any = None, *, given: Sequence[str] = (), record: Sequence[str] = ()
    ) -> Attribution:
        """Attribution of one or more samples."""

    def checkpoint(self, method: Any) -> Checkpoint:
        """Where a method that takes long keeps how far it is."""

    def class_names(self) -> tuple[str, ...]:
        """Names of the model's outputs."""
