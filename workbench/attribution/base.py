"""What is explained (`Target`), and how much of it an explanation accounts for (`gap`)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from workbench.core.errors import BadValueError, ShapeError
from workbench.core.ids import ComponentId

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Start", "Target", "gap"]


@dataclass(frozen=True)
class Start:
    """Where relevance begins: `seed` (same shape as the output), explained `score` and output `index` per sample."""

    seed: Tensor
    score: Tensor
    index: Tensor


@dataclass(frozen=True)
class Target:
    """A described function of the model's output.

    Make one with `top`, `label`, `logit`, `difference`, `component` or `mask`, or read one from text with `parse`.

    Examples
    --------
    >>> str(Target.difference(3, 7))
    'difference:3:7'
    >>> Target.parse("logit:3") == Target.logit(3)
    True
    """

    kind: str
    args: tuple[Any, ...] = ()
    region: Any = None

    @classmethod
    def top(cls) -> Target:
        """The largest output of each sample."""
        return cls("top")

    @classmethod
    def label(cls) -> Target:
        """The output that belongs to each sample's label in the data set."""
        return cls("label")

    @classmethod
    def logit(cls, index: int) -> Target:
        """Output number `index`."""
        return cls("logit", (_whole(index),))

    @classmethod
    def difference(cls, index: int, other: int) -> Target:
        """Output `index` minus output `other`."""
        if index == other:
            raise BadValueError(f"The difference of output {index} with itself is zero.", hint="Name two outputs.")
        return cls("difference", (_whole(index), _whole(other)))

    @classmethod
    def component(cls, address: str | ComponentId) -> Target:
        """One component's own activation: relevance starts at its layer."""
        return cls("component", (str(ComponentId.parse(address)),))

    @classmethod
    def mask(cls, region: Any, index: int) -> Target:
        """Output `index` of a dense prediction, summed over the positions where `region` is true."""
        return cls("mask", (_whole(index),), region=torch.as_tensor(region).bool())

    @classmethod
    def parse(cls, text: str | int | Target) -> Target:
        """Read ``top``, ``label``, ``logit:3``, ``difference:3:7``, ``component:layer4/unit/17``, or a bare number."""
        if isinstance(text, Target):
            return text
        kind, _, rest = str(text).partition(":")
        try:
            if kind in ("top", "label") and not rest:
                return cls(kind)
            if kind.isdecimal() and not rest:
                return cls.logit(int(kind))
            if kind == "logit":
                return cls.logit(int(rest))
            if kind == "difference":
                a, _, b = rest.partition(":")
                return cls.difference(int(a), int(b))
            if kind == "component":
                return cls.component(rest)
        except ValueError as error:
            if isinstance(error, BadValueError):
                raise
        raise BadValueError(
            f"{text!r} is not a target.",
            hint='Targets read "top", "label", "logit:3", "difference:3:7" or "component:layer4/unit/17".',
        )

    def __str__(self) -> str:
        text = ":".join([self.kind, *map(str, self.args)])
        if self.region is None:
            return text
        import hashlib

        return f"{text}:{hashlib.blake2b(self.region.numpy().tobytes(), digest_size=6).hexdigest()}"

    def start(
        self, output: Tensor, *, labels: Sequence[int] | Tensor | None = None, as_gradient: bool = False
    ) -> Start:
        """Where relevance begins.

        Parameters
        ----------
        output : (sample, class_) tensor, or (sample, class_, y, x) for `mask`
        labels : (sample,) int, optional
            For `Target.label`.
        as_gradient : bool
            Begin with 1 (gradient methods) instead of the value itself (relevance).

        Raises
        ------
        ShapeError
            If the output has the wrong number of axes.
        BadValueError
            If the output has no such entry or labels are missing.
        """
        output = output.detach()
        n = len(output)
        if self.kind == "component":
            raise BadValueError("A component's own activation is explained from its layer, not from the output.")
        if self.kind == "mask":
            return self._start_of_mask(output, as_gradient=as_gradient)
        if output.ndim != 2:
            raise ShapeError(
                f"The target {self} needs an output of (sample, class_); the model's has {output.ndim} axes.",
                hint="For dense predictions use Target.mask(region, index).",
            )
        signs = [(self._index(output, labels), 1.0)]
        if self.kind == "difference":
            signs.append((self._checked(torch.full((n,), self.args[1]), output), -1.0))
        rows = torch.arange(n, device=output.device)
        seed, score = torch.zeros_like(output), torch.zeros(n, dtype=output.dtype, device=output.device)
        for index, sign in signs:
            value = sign * output[rows, index]
            score += value
            seed[rows, index] = sign if as_gradient else value
        return Start(seed, score, signs[0][0])

    def _index(self, output: Tensor, labels: Any) -> Tensor:
        if self.kind == "top":
            return output.argmax(1)
        if self.kind == "label":
            if labels is None or bool((torch.as_tensor(labels) < 0).any()):
                raise BadValueError(
                    "Target.label() needs a label for every sample, and some have none.",
                    hint="Use Target.top() instead.",
                )
            return self._checked(torch.as_tensor(labels), output)
        return self._checked(torch.full((len(output),), self.args[0]), output)

    def _checked(self, index: Tensor, output: Tensor) -> Tensor:
        n_classes = output.shape[1]
        if bool((index >= n_classes).any()):
            raise BadValueError(
                f"The target {self} names output {int(index.max())}; the model has {n_classes}, from 0."
            )
        return index.to(output.device)

    def _start_of_mask(self, output: Tensor, *, as_gradient: bool) -> Start:
        if output.ndim < 3 or tuple(self.region.shape) != tuple(output.shape[2:]):
            raise ShapeError(
                f"The region of the target has shape {tuple(self.region.shape)}; the model's output is "
                f"{tuple(output.shape)}, its positions {tuple(output.shape[2:])}."
            )
        index = self._checked(torch.full((len(output),), self.args[0]), output)
        region = self.region.to(output.device)
        picked = torch.zeros_like(output)
        picked[:, self.args[0]] = region.to(output.dtype)
        score = (output * picked).flatten(1).sum(1)
        return Start(picked if as_gradient else picked * output, score, index)


def gap(score: Tensor, relevance_sum: Tensor) -> Tensor:
    """Share of the score that relevance failed to account for.

    Parameters
    ----------
    score, relevance_sum : (sample,) tensor

    Returns
    -------
    (sample,) tensor
        ``(score - sum) / |score|``; the absolute difference where ``|score|`` is below 1e-6.
    """
    size = score.abs()
    return torch.where(size < 1e-6, (score - relevance_sum).abs(), (score - relevance_sum) / size.clamp(min=1e-6))


def _whole(index: Any) -> int:
    if isinstance(index, bool) or int(index) != index or index < 0:
        raise BadValueError(f"An output is named by a whole number of at least 0; got {index!r}.")
    return int(index)
