"""Bases: what the components of a layer are. Units and directions now; heads, dictionaries, parts take the same place.

A basis says how activations become codes and codes activations, and how much of a layer's relevance flows through some
of its components. Methods and conditional explanations ask a basis and never a channel, so that what is written for
units works on all of them.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workbench.core.errors import BadValueError, NotFiniteError, ShapeError

if TYPE_CHECKING:
    from workbench.models.layers import Layer

__all__ = ["Basis", "DirectionBasis", "UnitBasis"]


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
    def keep(self, relevance: Tensor, components: Sequence[int], activation: Tensor | None = None) -> Tensor:
        """The part of a layer's relevance that flows through some components; a new tensor of the same shape.

        Parameters
        ----------
        relevance : tensor
            Of the layer's output, unit by unit; or a gradient.
        components : sequence of int
        activation : tensor, optional
            The layer's output that the relevance belongs to. Not given: what is shared is a gradient.
        """

    @abstractmethod
    def start(self, activation: Tensor, component: int, *, as_gradient: bool = False) -> Tensor:
        """Where relevance of a component's own activation begins, or its gradient; shaped as the layer's output."""


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

    def keep(self, relevance: Tensor, components: Sequence[int], activation: Tensor | None = None) -> Tensor:
        mask = relevance.new_zeros(self.n_components)
        mask[list(components)] = 1
        shape = [1] * relevance.ndim
        shape[self.layer.axis] = -1
        return relevance * mask.reshape(shape)

    def start(self, activation: Tensor, component: int, *, as_gradient: bool = False) -> Tensor:
        return self.keep(torch.ones_like(activation) if as_gradient else activation, (component,))


class DirectionBasis(Basis):
    """Directions in the space of a layer's units, such as concept activation vectors.

    The code of a direction is the projection on it. Directions need not be orthogonal: `decode` finds the activation
    nearest to a given one that has the codes asked for.

    Parameters
    ----------
    layer : Layer
    name : str
    vectors : (component, unit) float array or tensor
        Of unit length.
    pooling : {"max", "mean", "token"}
        Of the activations that they were found in.

    Attributes
    ----------
    digest : str
        Eight hexadecimal digits that change with the vectors.

    Notes
    -----
    A direction's own activation begins with the positive part of the activation times the signed vector at every
    position (Reveal to Revise, Pahde et al. 2023, section 3.2). Of a target's relevance R, what flows through some
    directions is ``a * P(R / a)``, with the projector P on their span: R / a is the gradient that the rules stand for.
    For axes this is the relevance of the units, and all directions of a complete basis together pass on all.
    """

    def __init__(self, layer: Layer, name: str, vectors: Any, pooling: str = "max"):
        super().__init__(layer)
        self.name, self.pooling = name, pooling
        self.vectors = torch.as_tensor(vectors, dtype=torch.float32).cpu()
        if self.vectors.ndim != 2 or self.vectors.shape[1] != layer.n_components or len(self.vectors) == 0:
            raise ShapeError(
                f'Directions at "{layer.name}" have {layer.n_components} entries each; got the shape '
                f"{tuple(self.vectors.shape)}."
            )
        if not bool(torch.isfinite(self.vectors).all()):
            raise NotFiniteError(f'The directions "{name}" hold NaN or infinity.')
        if bool(((self.vectors.norm(dim=1) - 1).abs() > 1e-3).any()):
            raise BadValueError(f'The directions "{name}" are not of unit length.', hint="Divide each by its norm.")
        self.digest = hashlib.blake2b(self.vectors.numpy().tobytes(), digest_size=4).hexdigest()
        self._inverse = torch.linalg.pinv(self.vectors.double(), rtol=1e-6).float()

    @property
    def n_components(self) -> int:
        return len(self.vectors)

    def encode(self, activation: Tensor) -> Tensor:
        return torch.einsum("kc,ncp->nkp", self.vectors.to(activation), self.layer.components_first(activation))

    def decode(self, codes: Tensor, like: Tensor) -> Tensor:
        change = torch.einsum("ck,nkp->ncp", self._inverse.to(like), codes - self.encode(like))
        if like.ndim == 2:
            return like + change[..., 0]
        first = like.movedim(self.layer.axis, 1)
        return like + change.reshape(first.shape).movedim(1, self.layer.axis)

    def keep(self, relevance: Tensor, components: Sequence[int], activation: Tensor | None = None) -> Tensor:
        chosen = self.vectors[list(components)].double()
        span = torch.linalg.pinv(chosen, rtol=1e-6) @ chosen
        gradient = relevance
        if activation is not None:  # what is not active has no relevance either
            gradient = torch.where(activation == 0, 0.0, relevance / torch.where(activation == 0, 1.0, activation))
        axis = self.layer.axis
        kept = (gradient.movedim(axis, -1) @ span.to(gradient)).movedim(-1, axis)
        return kept if activation is None else activation * kept

    def start(self, activation: Tensor, component: int, *, as_gradient: bool = False) -> Tensor:
        shape = [1] * activation.ndim
        shape[self.layer.axis] = -1
        vector = self.vectors[component].to(activation).reshape(shape)
        return vector.expand_as(activation).clone() if as_gradient else activation.clamp(min=0) * vector
