"""What is explained (`Target`), and where its relevance begins (`Start`)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from workbench.core import check
from workbench.core.errors import BadValueError, NoPredictionError, ShapeError, UnknownLabelError
from workbench.core.ids import ComponentId

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.models.handle import ModelHandle

__all__ = ["LEAST_SCORE", "Start", "Target"]

LEAST_SCORE = 0.25
"""A box with a score up to this is no prediction (the threshold of L-CRP)."""


@dataclass(frozen=True)
class Start:
    """Where relevance begins.

    Attributes
    ----------
    seed : tensor
        Of the output's shape.
    score : (sample,) tensor
        The explained number.
    index : (sample,) int64 tensor
        The explained class, or token of the vocabulary; -1 where the target is no single output.
    position : (sample,) int64 tensor or None
        For targets with a place of their own: which box, or which position of the sequence, counted from 0.
    """

    seed: Tensor
    score: Tensor
    index: Tensor
    position: Tensor | None = None


@dataclass(frozen=True)
class Target:
    """A described function of the model's output.

    Make one with `top`, `label`, `logit`, `difference`, `component`, `mask`, `box` or `token`, or read one from text
    with `parse`.

    Examples
    --------
    >>> str(Target.difference(3, 7))
    'difference:3:7'
    >>> Target.parse("logit:3") == Target.logit(3)
    True
    >>> str(Target.token(-1, "yes"))
    'token:-1:"yes"'
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
        """The output that belongs to each sample's label in the data set.

        By the names of classes and outputs where they have some in common, else by number. A sample whose label names
        no output is an `UnknownLabelError`; a sweep leaves it out with a count.
        """
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
    def box(cls, rank: int = 0, class_: int | None = None, *, threshold: float = LEAST_SCORE) -> Target:
        """One box of a detector: the `rank`-th best by its class score, before non-maximum suppression.

        The model's output is (sample, box, class_), scores alone; wrap a detector in a module that returns them.
        Relevance begins at that box and class with the score itself, as for all targets. L-CRP (Dreyer et al. 2023)
        begins with 1: its maps are ours divided by the score of each sample. Neighbouring boxes of one object are boxes
        of their own, so that ranks 0 and 1 often show the same object.

        Parameters
        ----------
        rank : int
            0 is the best.
        class_ : int, optional
            Boxes by their score for this class. Default: by their best score, each for the class that has it.
        threshold : float
            Only boxes with a higher score are predictions. In the units of the output: 0.25 suits scores from 0 to 1.

        Notes
        -----
        A sample without such a box is a `NoPredictionError`; a sweep leaves it out with a count. Equal scores go to the
        smaller number of the box.
        """
        args = (_whole(rank), None if class_ is None else _whole(class_))
        check.between("threshold", threshold, -1e30, 1e30)
        return cls("box", args if threshold == LEAST_SCORE else (*args, float(threshold)))

    @classmethod
    def token(cls, position: int, token: int | str) -> Target:
        """The score of one token at one position of a sequence.

        Parameters
        ----------
        position : int
            Of an output (sample, token, vocabulary), from 0; negative ones count from the end.
        token : int or str
            Number in the vocabulary, or text that the card's tokenizer turns into exactly one token.
        """
        if not _is_whole(position):
            raise BadValueError(f"A position of a sequence is a whole number; got {position!r}.")
        if isinstance(token, str) and not token:
            raise BadValueError("An empty text is no token.")
        return cls("token", (int(position), token if isinstance(token, str) else _whole(token)))

    @classmethod
    def parse(cls, text: str | int | Target) -> Target:
        """Read a target from its text, as `str` gives it, or from a bare number.

        ``top``, ``label``, ``logit:3``, ``difference:3:7``, ``component:layer4/unit/17``; ``box:0``, ``box:0:3`` for a
        class, ``box:0:3:0.5`` and ``box:0:any:0.5`` with a threshold; ``token:-1:42``, ``token:-1:yes``, and
        ``token:-1:"42"`` for the text 42.
        """
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
            if kind == "box":
                return cls._parsed_box(*rest.split(":"))
            if kind == "token":
                place, _, token = rest.partition(":")
                return cls.token(int(place), _parsed_token(token))
        except (ValueError, TypeError) as error:
            if isinstance(error, BadValueError):
                raise
        raise BadValueError(
            f"{text!r} is not a target.",
            hint='Targets read "top", "label", "logit:3", "difference:3:7", "component:layer4/unit/17", "box:0", '
            '"box:0:3" or "token:-1:42".',
        )

    @classmethod
    def _parsed_box(cls, rank: str, class_: str = "any", threshold: str = str(LEAST_SCORE)) -> Target:
        return cls.box(int(rank), None if class_ == "any" else int(class_), threshold=float(threshold))

    def __str__(self) -> str:
        if self.kind == "label":
            return self.kind
        if self.kind == "box" and len(self.args) == 2 and self.args[1] is None:
            return f"box:{self.args[0]}"
        args = ["any" if a is None else a for a in self.args]
        if self.kind == "token" and isinstance(args[1], str):
            args[1] = json.dumps(args[1], ensure_ascii=False)
        text = ":".join([self.kind, *map(str, args)])
        if self.region is None:
            return text
        return f"{text}:{hashlib.blake2b(self.region.numpy().tobytes(), digest_size=6).hexdigest()}"

    @property
    def may_be_absent(self) -> bool:
        """Whether there may be samples in which it names nothing."""
        return self.kind == "box"

    def resolved(self, handle: ModelHandle) -> Target:
        """The target with numbers for names: a token's text becomes its number in the model's vocabulary.

        The address of a direction gets the digest of what it is now, so that results are never those of an older one;
        a label gets that of the outputs' names, by which it is found.

        Raises
        ------
        BadValueError
            If the text is not exactly one token, or the model's card has no tokenizer.
        """
        if self.kind == "component":
            return replace(self, args=(str(handle.layers.pinned(self.args[0])),))
        if self.kind == "label" and handle.classes:
            return replace(self, args=(hashlib.blake2b("|".join(handle.classes).encode(), digest_size=4).hexdigest(),))
        if self.kind != "token" or not isinstance(self.args[1], str):
            return self
        return replace(self, args=(self.args[0], handle.card.token_id(self.args[1])))

    def check(self, shape: Sequence[int]) -> None:
        """Look whether an output has the entry that the target names; raises what `start` would raise.

        Parameters
        ----------
        shape : sequence of int
            Of the output for one sample.
        """
        if self.kind in ("top", "label", "component", "mask"):
            return
        output = torch.full((), float("inf")).expand(1, *shape)
        self._check_axes(output)
        self._entry(output, None)
        if self.kind == "difference":
            self._checked(torch.tensor(self.args[1]), output)

    def start(
        self,
        output: Tensor,
        *,
        labels: Sequence[int] | Tensor | None = None,
        as_gradient: bool = False,
        at: Start | None = None,
    ) -> Start:
        """Where relevance begins.

        Parameters
        ----------
        output : (sample, class_) tensor
            (sample, class_, y, x) for `mask`, (sample, box, class_) for `box`, (sample, token, vocabulary) for `token`.
        labels : (sample,) int, optional
            For `Target.label`: the output that each label names, -1 for none.
        as_gradient : bool
            Begin with 1 (gradient methods) instead of the value itself (relevance).
        at : Start, optional
            An earlier start of this target: the same entries again, also where others are the largest by now.

        Raises
        ------
        ShapeError
            If the output has the wrong number of axes.
        NoPredictionError
            If samples have no box above the threshold; as an `UnknownLabelError`, if their labels name no output.
        BadValueError
            If the output has no such entry or labels are missing.
        """
        output = output.detach()
        n = len(output)
        if self.kind == "component":
            raise BadValueError("A component's own activation is explained from its layer, not from the output.")
        if self.kind == "mask":
            return self._start_of_mask(output, as_gradient=as_gradient)
        self._check_axes(output)
        place, index = self._entry(output, labels) if at is None else (at.position, at.index)
        before = (torch.arange(n, device=output.device),) if place is None else (torch.arange(n).to(place), place)
        signs = [(index, 1.0)]
        if self.kind == "difference":
            signs.append((self._checked(torch.full((n,), self.args[1]), output), -1.0))
        seed, score = torch.zeros_like(output), torch.zeros(n, dtype=output.dtype, device=output.device)
        for one, sign in signs:
            value = sign * output[(*before, one)]
            score += value
            seed[(*before, one)] = sign if as_gradient else value
        return Start(seed, score, index, place)

    def _check_axes(self, output: Tensor) -> None:
        if output.ndim != (3 if self.kind in _AXES else 2):
            raise ShapeError(
                f"The target {self} needs an output of {_AXES.get(self.kind, '(sample, class_)')}; the model's has "
                f"{output.ndim} axes.",
                hint=_HINTS.get(output.ndim, "For dense predictions use Target.mask(region, index)."),
            )

    def _entry(self, output: Tensor, labels: Any) -> tuple[Tensor | None, Tensor]:
        """Place and class of the entry of the output that each sample's relevance begins at."""
        if self.kind == "box":
            return self._best_box(output)
        if self.kind == "token":
            return self._place(output), self._checked(torch.full((len(output),), self._token()), output)
        if self.kind == "top":
            return None, output.argmax(1)
        if self.kind == "label":
            if labels is None:
                raise BadValueError(
                    "Target.label() needs the label of every sample, and none are given.",
                    hint="Use Target.top() instead.",
                )
            named = torch.as_tensor(labels)
            if rows := (named < 0).nonzero().flatten().tolist():
                raise UnknownLabelError(
                    "No output to explain: the label is unknown, or names none of the model's outputs",
                    rows,
                    hint="Leave them out, or use Target.top().",
                )
            return None, self._checked(named, output)
        return None, self._checked(torch.full((len(output),), self.args[0]), output)

    def _best_box(self, output: Tensor) -> tuple[Tensor, Tensor]:
        """The box and its class, for each sample."""
        rank, class_, threshold = (*self.args, LEAST_SCORE)[:3]
        n, n_boxes, _ = output.shape
        if rank >= n_boxes:
            raise BadValueError(f"The target {self} names box {rank} by rank; the model gives {n_boxes}, from 0.")
        if class_ is None:
            scores, classes = output.max(2)
        else:
            fixed = self._checked(torch.full((n,), class_), output)
            scores, classes = output[:, :, class_], fixed.unsqueeze(1).expand(n, n_boxes)
        scores, order = scores.sort(dim=1, descending=True, stable=True)
        found, box = scores[:, rank], order[:, rank]
        rows = (~(found > threshold)).nonzero().flatten().tolist()
        if rows:
            what = "" if class_ is None else f" of class {class_}"
            raise NoPredictionError(
                f"No prediction to explain: the {_ordinal(rank)} box{what} has no score above {threshold:g}",
                rows,
                hint="Leave them out, ask for a lower rank or another class, or lower the threshold of Target.box.",
            )
        return box, classes.gather(1, box.unsqueeze(1)).squeeze(1)

    def _place(self, output: Tensor) -> Tensor:
        place, length = self.args[0], output.shape[1]
        if not -length <= place < length:
            raise BadValueError(
                f"The target {self} names position {place}; the model's sequence has {length}, from 0 or {-length}."
            )
        return torch.full((len(output),), place % length, device=output.device)

    def _token(self) -> int:
        token = self.args[1]
        if isinstance(token, str):
            raise BadValueError(
                f"The target {self} names a token by its text, and here is no tokenizer.",
                hint="Use its number in the vocabulary, or Target.resolved(handle) first.",
            )
        return token

    def _checked(self, index: Tensor, output: Tensor) -> Tensor:
        n_classes = output.shape[2 if self.kind in _AXES else 1]
        if bool((index >= n_classes).any()):
            raise BadValueError(
                f"The target {self} names output {int(index.max())}; the model has {n_classes} outputs, from 0."
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


_AXES = {"box": "(sample, box, class_)", "token": "(sample, token, vocabulary)"}
_HINTS = {
    2: "For classifiers use Target.top() or Target.logit(index).",
    3: "For detectors use Target.box(0), for sequences Target.token(-1, token), for dense predictions "
    "Target.mask(region, index).",
}


def _whole(index: Any) -> int:
    if not _is_whole(index) or index < 0:
        raise BadValueError(f"An output is named by a whole number of at least 0; got {index!r}.")
    return int(index)


def _is_whole(value: Any) -> bool:
    try:
        return not isinstance(value, bool) and int(value) == value
    except (TypeError, ValueError, OverflowError):
        return False


def _parsed_token(text: str) -> int | str:
    """A number, a text in quotes as `str` writes it, or a bare text."""
    if text.isdecimal():
        return int(text)
    return str(json.loads(text)) if len(text) > 1 and text[0] == text[-1] == '"' else text


def _ordinal(rank: int) -> str:
    return ("best", "second best", "third best")[rank] if rank < 3 else f"{rank + 1}th best"
