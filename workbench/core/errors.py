"""Every exception of ours. Each says what was asked, what was found and, in its hint, what to do next."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

__all__ = [
    "BadValueError",
    "CancelledError",
    "DamagedEntryError",
    "DataError",
    "IncompleteError",
    "NotSweptError",
    "MissingPackageError",
    "ModelError",
    "NoPredictionError",
    "NotFiniteError",
    "OutOfBudgetError",
    "ReadOnlyStoreError",
    "RuleError",
    "ShapeError",
    "StaleError",
    "StoreError",
    "StoreFullError",
    "UnknownComponentError",
    "UnknownLabelError",
    "UnknownLayerError",
    "UnknownNameError",
    "UnknownSampleError",
    "WorkbenchError",
    "nearest",
]


class WorkbenchError(Exception):
    """Base class of all errors raised on purpose.

    Parameters
    ----------
    message : str
        What was asked and what was found, as full sentences.
    hint : str, optional
        What the reader can do about it.
    """

    def __init__(self, message: str, *, hint: str = ""):
        self.message = message.strip()
        self.hint = hint.strip()
        super().__init__(self.message)

    def __str__(self) -> str:  # KeyError would otherwise show the repr of the text
        return f"{self.message} {self.hint}".strip()


class BadValueError(WorkbenchError, ValueError):
    """An argument lies outside what is allowed."""


class ShapeError(WorkbenchError, ValueError):
    """An array has the wrong number of axes or the wrong size."""


class NotFiniteError(WorkbenchError, ValueError):
    """NaN or infinity where a number is needed."""


class NoPredictionError(NotFiniteError):
    """A model predicts nothing for a sample, so there is no number to explain. Sweeps leave such samples out.

    Parameters
    ----------
    message : str
        What is missing, without a full stop; where is added.
    rows : sequence of int
        Places in the batch.
    names : sequence, optional
        What the samples are called; default: their places.

    Attributes
    ----------
    what : str
        The message without the samples.
    rows : tuple of int
    """

    def __init__(self, message: str, rows: Sequence[int], *, names: Sequence[object] = (), hint: str = ""):
        self.what, self.rows = message, tuple(rows)
        more = f" and {len(rows) - 8} more" if len(rows) > 8 else ""
        listed = ", ".join(str(name) for name in (names or rows)[:8]) + more
        super().__init__(f"{message}: {'samples' if names else 'inputs of the batch'} {listed}.", hint=hint)

    def named(self, ids: Sequence[int]) -> NoPredictionError:
        """The same error with the ids of the samples, `ids` being those of the whole batch."""
        return type(self)(self.what, self.rows, names=[ids[row] for row in self.rows], hint=self.hint)


class UnknownLabelError(NoPredictionError, BadValueError):
    """The label of a sample names no output of the model. Sweeps leave such samples out."""


class UnknownNameError(WorkbenchError, KeyError):
    """A name that no registry, data set or package knows."""


class UnknownLayerError(UnknownNameError):
    """A layer that the model does not have."""


class UnknownComponentError(UnknownNameError, IndexError):
    """A component that the layer does not have, or an address that cannot be read."""


class UnknownSampleError(UnknownNameError, IndexError):
    """A sample that the data set does not have."""


class DataError(WorkbenchError, ValueError):
    """A data set or one of its items cannot be read."""


class ModelError(WorkbenchError, TypeError):
    """A model does something that cannot be explained faithfully."""


class RuleError(WorkbenchError, ValueError):
    """A relevance rule cannot be applied where it was asked for."""


class StoreError(WorkbenchError, OSError):
    """The store cannot do what was asked."""


class StoreFullError(StoreError):
    """The disk or the budget of the store is full."""


class ReadOnlyStoreError(StoreError, PermissionError):
    """The store may be read but not written."""


class DamagedEntryError(StoreError):
    """A stored file is truncated or does not match its checksum."""


class StaleError(StoreError):
    """A stored result belongs to other weights, data or settings."""


class IncompleteError(StoreError):
    """A stored result covers only a part of the data."""


class NotSweptError(IncompleteError):
    """Something is not in the store, and to sweep it takes longer than what nobody asked for may take.

    Attributes
    ----------
    sweep : dict
        Arguments of `Session.sweep` that would make it, with ``layers``.
    cost : str
        What that costs, in words.
    """

    def __init__(self, message: str, *, hint: str = "", sweep: dict[str, Any] | None = None, cost: str = ""):
        super().__init__(message, hint=hint)
        self.sweep, self.cost = dict(sweep or {}), cost


class OutOfBudgetError(WorkbenchError, MemoryError):
    """More memory is needed than there is."""


class MissingPackageError(WorkbenchError, ImportError):
    """An optional package is needed and not installed."""


class CancelledError(WorkbenchError):
    """The job was cancelled before it ended."""


def nearest(name: object, known: Iterable[object], *, n: int = 2) -> str:
    """Say which known names come closest to a misspelt one.

    Parameters
    ----------
    name : object
        What was asked for.
    known : iterable
        The names that exist.
    n : int
        How many names at most.

    Returns
    -------
    str
        ``'Nearest: "a", "b".'``, or an empty string if nothing is close.

    Examples
    --------
    >>> nearest("layer3.1.conv", ["layer3.1.conv1", "fc"])
    'Nearest: "layer3.1.conv1".'
    """
    close = difflib.get_close_matches(str(name), [str(k) for k in known], n=n, cutoff=0.5)
    return "Nearest: " + ", ".join(f'"{c}"' for c in close) + "." if close else ""
