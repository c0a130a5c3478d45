"""What is known about a model beside its weights: input, classes, licence, origin."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from workbench.core.errors import BadValueError
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
    tokenizer : callable or object with ``encode``, optional
        Turns a text into a list of token numbers, for models of sequences; ``decode``, if there is one, turns a list
        of numbers into a text.
    """

    name: str
    transform: Transform = field(default_factory=lambda: Transform(resize_short=256))
    classes: tuple[str, ...] = ()
    input_shape: tuple[int, ...] = ()
    licence: str = ""
    origin: str = ""
    notes: str = ""
    tokenizer: Any = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(str(c) for c in self.classes))
        object.__setattr__(self, "input_shape", tuple(self.input_shape) or self.transform.input_shape)

    def class_name(self, index: int) -> str:
        """Name of one output, or its number where names are unknown."""
        return self.classes[index] if 0 <= index < len(self.classes) else f"class {index}"

    def token_id(self, text: str) -> int:
        """Number of a token in the vocabulary.

        Raises
        ------
        BadValueError
            If there is no tokenizer, or the text is not exactly one token.
        """
        if self.tokenizer is None:
            raise BadValueError(
                f"{self.name} has no tokenizer, so the token {text!r} has no number.",
                hint="Name the token by its number, or give the card a tokenizer.",
            )
        encode = getattr(self.tokenizer, "encode", self.tokenizer)
        try:
            ids = encode(text, add_special_tokens=False)  # else some put marks at both ends
        except TypeError:
            ids = encode(text)
        ids = list(getattr(ids, "ids", ids))
        if len(ids) != 1:
            raise BadValueError(
                f"{text!r} is {len(ids)} tokens for {self.name}: {ids[:8]}.",
                hint='A target is one token; many vocabularies tell " yes" from "yes".',
            )
        return int(ids[0])

    def token_text(self, index: int) -> str:
        """Text of a token, if the tokenizer can tell; else nothing."""
        decode = getattr(self.tokenizer, "decode", None)
        return "" if decode is None or index < 0 else str(decode([index]))
