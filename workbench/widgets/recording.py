"""What a page without a kernel can show: traits for a state, and answers to questions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Recording"]


@dataclass(frozen=True)
class Recording:
    """One thing that a page can show although nobody is there to ask.

    Attributes
    ----------
    make : callable
        Gives the traits to set, or what the question is answered with; arrays and bytes at any depth.
    when : mapping of trait to value
        The state that the traits belong to.
    question : (kind, body)
        The question that is answered, instead of `when`.
    what : str
        What these are, in the plural, for the report: "references".
    """

    make: Callable[[], Mapping[str, Any]]
    when: Mapping[str, Any] = field(default_factory=dict)
    question: tuple[str, Mapping[str, Any]] | None = None
    what: str = "recordings"
