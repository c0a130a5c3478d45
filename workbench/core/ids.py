"""Addresses: how layers, components, samples and fingerprints are written, read and compared."""

from __future__ import annotations

import re
from dataclasses import dataclass

from workbench.core.errors import BadValueError, UnknownComponentError

__all__ = ["ComponentId", "Fingerprint", "LayerRef", "SampleId"]

LayerRef = str
"""A layer's dotted module name, such as ``layer3.1.conv2``."""

SampleId = int
"""A sample's position in its data set."""

_BASIS = re.compile(r"^[A-Za-z0-9_.\-]+$")


@dataclass(frozen=True, order=True)
class ComponentId:
    """One component: ``layer/basis/index``, for example ``layer3.1.conv2/unit/17``.

    Parameters
    ----------
    layer : str
        Dotted module name.
    basis : str
        ``unit`` for channels and units, ``head``, or the name of a dictionary or of a set of directions.
    index : int
        Position on the basis, from 0.

    Examples
    --------
    >>> ComponentId.parse("layer4/unit/3").index
    3
    >>> str(ComponentId("bn2", "unit", 17))
    'bn2/unit/17'
    """

    layer: str
    basis: str
    index: int

    def __post_init__(self) -> None:
        if not self.layer or "/" in self.layer:
            raise BadValueError(f"A layer name must not be empty or contain a slash; got {self.layer!r}.")
        if not _BASIS.match(self.basis):
            raise BadValueError(f"A basis is named with letters, digits, '.', '_' and '-'; got {self.basis!r}.")
        if isinstance(self.index, bool) or not isinstance(self.index, int) or self.index < 0:
            raise BadValueError(f"A component's index must be a whole number of at least 0; got {self.index!r}.")

    @classmethod
    def parse(cls, text: str | ComponentId) -> ComponentId:
        """Read an address. ``layer/17`` is short for ``layer/unit/17``.

        Raises
        ------
        UnknownComponentError
            If the text is no address.
        """
        if isinstance(text, ComponentId):
            return text
        parts = str(text).split("/")
        if len(parts) == 2:
            parts.insert(1, "unit")
        if len(parts) != 3 or not parts[0] or not parts[2].isdecimal():
            raise UnknownComponentError(
                f'"{text}" is not the address of a component.', hint="Addresses read layer/basis/index: layer4/unit/17."
            )
        return cls(parts[0], parts[1], int(parts[2]))

    def __str__(self) -> str:
        return f"{self.layer}/{self.basis}/{self.index}"


@dataclass(frozen=True, order=True)
class Fingerprint:
    """A digest that changes whenever what it stands for changes.

    Parameters
    ----------
    digest : str
        Lower-case hexadecimal digits.
    name : str
        What people call it; not compared.
    """

    digest: str
    name: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{8,128}", self.digest):
            raise BadValueError(f"A fingerprint is 8 to 128 hexadecimal digits; got {self.digest!r}.")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Fingerprint) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __str__(self) -> str:
        return f"{self.name}@{self.digest[:8]}" if self.name else self.digest[:12]
