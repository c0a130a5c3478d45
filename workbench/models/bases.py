"""Bases: what the components of a layer are. Units now; heads, dictionaries, directions, parts take the same place.

A basis says how activations become codes and codes activations, and how much of a layer's relevance flows through some
of its components. Methods and conditional explanations ask a basis and never a channel, so that what is written for
units works on all of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from workbench.models.layers import Layer

__all__ = ["Basis", "UnitBasis"]


class Basis(ABC):
    """The components of one layer.

    Attributes
    ----------
    name : str
        The middle part of addresses, ``layer/basis/index``.
    layer : Layer
    """

    name: str

    def __init__(self, layer: Layer):
        self.layer = layer

    @property
    @abstractmethod
    def n_components(self) -> int:
        """Number of components."""

    @abstractmethod
    def encode(self, activation: Tensor) -> Tensor:
        """(sample, component, position): the codes of a layer's output."""

    @abstractmethod
    def decode(self, codes: Tensor, like: Tensor) -> Tensor:
        """The output with the shape of `like` that has these codes."""

    @abstractmethod
    def keep(self, relevance: Tensor, components: Sequence[int]) -> Tensor:
        """The part of a layer's relevance that flows through some components; a new tensor of the same shape."""


class UnitBasis(Basis):
    """Channels of maps, entries of vectors and tokens: each unit is a component."""

    name = "unit"

    @property
    def n_components(self) -> int:
        return self.layer.n_components

    def encode(self, activation: Tensor) -> Tensor:
        return self.layer.components_first(activation)

    def decode(self, codes: Tensor, like: Tensor) -> Tensor:
        if like.ndim == 2:
            return codes[..., 0]
        first = like.movedim(self.layer.axis, 1)
        return codes.reshape(first.shape).movedim(1, self.layer.axis)

    def keep(self, relevance: Tensor, components: Sequence[int]) -> Tensor:
        mask = relevance.new_zeros(self.n_components)
        mask[list(components)] = 1
        shape = [1] * relevance.ndim
        shape[self.layer.axis] = -1
        return relevance * mask.reshape(shape)
