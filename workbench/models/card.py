"""What is known about a model beside its weights: input, classes, licence, origin."""

from __future__ import annotations

from dataclasses import dataclass, field

from workbench.data.transforms import Transform

__all__ = ["Card"]


@dataclass(frozen=True)
class Card:
    """How to feed a model and how to read its output.

    Attributes
    ----------
    name : str
        What people call it.
    transform : Transform
        How a picture becomes its input.
    classes : tuple of str
        Names of its outputs; empty if unknown.
    input_shape : tuple of int
        (channel, y, x); taken from `transform` if not given.
    licence, origin : str
        Licence of the weights, and where they come from.
    notes : str
        What to know before trusting it: random weights, a guessed transform, a planted artifact.
    """

    name: str
    transform: Transform = field(default_factory=lambda: Transform(resize_short=256))
    classes: tuple[str, ...] = ()
    input_shape: tuple[int, ...] = ()
    licence: str = ""
    origin: str = ""
    notes: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(str(c) for c in self.classes))
        object.__setattr__(self, "input_shape", tuple(self.input_shape) or self.transform.input_shape)

    def class_name(self, index: int) -> str:
        """Name of one output, or its number where names are unknown."""
        return self.classes[index] if 0 <= index < len(self.classes) else f"class {index}"
