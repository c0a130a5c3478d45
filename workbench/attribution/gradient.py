"""Gradient methods: the plain gradient, input x gradient and integrated gradients (Sundararajan et al. 2017, eq. 1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workbench.attribution.base import Start, Target, gap
from workbench.attribution.lrp import Graph, ruled_forward
from workbench.core import check

if TYPE_CHECKING:
    from workbench.attribution.crp import Condition, Explanation
    from workbench.models.handle import ModelHandle

__all__ = ["explain_by_gradient"]


def explain_by_gradient(
    handle: ModelHandle,
    x: Tensor,
    target: Target,
    method: str,
    *,
    record: Sequence[str],
    conditions: Mapping[str, Condition],
    labels: Any = None,
    steps: int = 32,
) -> Explanation:
    """Explain a batch by gradients.

    Recorded layers get activation x gradient for ``input_x_gradient``, else the gradient. Integrated gradients start at
    a zero input (a mid-grey picture for most transforms) and keep the target of the real input on the whole path; their
    gap is the error of the integral.
    """
    from workbench.attribution.crp import Explanation, _start_layer, begin, staged

    layers = [*record, *conditions, *_start_layer(target)]
    with ruled_forward(handle, x, rule=None, layers=layers) as graph:
        source, start = begin(handle, graph, target, labels=labels, as_gradient=True)
        gradient, inner = staged(handle, graph, source, start.seed, conditions, record, as_gradient=True)
    if method == "integrated_gradients":
        check.positive("steps", steps)
        gradient, score_at_start = _average_gradient(handle, x, target, start, conditions, steps)
        result = Explanation(gradient * x, inner, graph, start, is_conditional=bool(conditions))
        if not conditions:
            result.gap = gap(start.score - score_at_start, result.relevance.flatten(1).sum(1))
        return result
    if method == "input_x_gradient":
        inner = {name: value * graph.tensors[name].detach() for name, value in inner.items()}
        return Explanation(gradient * x, inner, graph, start, is_conditional=bool(conditions))
    result = Explanation(gradient, inner, graph, start, is_conditional=True)
    return result


def _average_gradient(
    handle: ModelHandle,
    x: Tensor,
    target: Target,
    start: Start,
    conditions: Mapping[str, Condition],
    steps: int,
) -> tuple[Tensor, Tensor]:
    """The mean gradient on the path, of the outputs that `start` names, and their value at its beginning."""
    from workbench.attribution.crp import _start_layer, begin, staged

    layers = [*conditions, *_start_layer(target)]

    def at(point: Tensor) -> tuple[Tensor, Graph, Start]:
        with ruled_forward(handle, point, rule=None, layers=layers) as graph:
            source, here = begin(handle, graph, target, as_gradient=True, at=start)
            return staged(handle, graph, source, here.seed, conditions, [], as_gradient=True)[0], graph, here

    total = torch.zeros_like(x)
    for step in range(steps):
        total += at(x * ((step + 0.5) / steps))[0]
    return total / steps, at(torch.zeros_like(x))[2].score
