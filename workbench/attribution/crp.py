"""Explanations, plain and conditional on concepts (CRP), read off one forward pass.

Conditional relevance is computed in stages (Achtibat et al. 2023, section on conditional relevance): from the target
to the first conditioned layer, there all other components are set to zero, on to the next, and last to the input.
Relevance that flows beside a conditioned layer is left out. Within one layer a set of components means "or", across
layers "and".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from workbench.attribution.base import Start, Target, gap
from workbench.attribution.lrp import Graph, ruled_forward
from workbench.attribution.rules import Composite, composite
from workbench.core.errors import BadValueError, RuleError, ShapeError
from workbench.core.ids import ComponentId

if TYPE_CHECKING:
    from workbench.models.handle import ModelHandle

__all__ = ["GRADIENTS", "Condition", "Explanation", "concept_maps", "explain", "heat", "rule_name", "rule_of"]

GRADIENTS = ("gradient", "input_x_gradient", "integrated_gradients")


class Explanation:
    """What `explain` gives: tensors on the model's device.

    Attributes
    ----------
    relevance : (sample, channel, ...) tensor
        Relevance of the input.
    layers : dict of layer to tensor
        Relevance of recorded layers, unpooled, shaped as their outputs; of conditioned layers before the mask.
    activations : dict of layer to tensor
    output : (sample, class_) tensor
        Or what else the model gives: (sample, box, class_), (sample, token, vocabulary), (sample, class_, y, x).
    start : Start
    gap : (sample,) tensor
    """

    def __init__(
        self, relevance: Tensor, layers: dict[str, Tensor], graph: Graph, start: Start, *, is_conditional: bool
    ):
        self.relevance, self.layers, self.start = relevance, layers, start
        self.output = graph.output.detach()
        self.activations = {name: t.detach() for name, t in graph.tensors.items()}
        total = relevance.flatten(1).sum(1)
        self.gap = torch.full_like(total, float("nan")) if is_conditional else gap(start.score, total)


def rule_of(name: Any) -> Any:
    """A composite by its name; gradient methods, composites and zennit composites as they are."""
    return name if not isinstance(name, str) or name in GRADIENTS else composite(name)


def rule_name(rule: Any) -> str:
    """How people read which rule was used."""
    return str(rule) if isinstance(rule, (str, Composite)) else f"{type(rule).__name__} (zennit)"


@dataclass(frozen=True)
class Condition:
    """What relevance of one layer goes on: of which components (None: all), and through which mask."""

    components: tuple[int, ...] | None = None
    mask: Tensor | None = None
    basis: str = "unit"

    def keep(self, handle: ModelHandle, name: str, relevance: Tensor, activation: Tensor | None = None) -> Tensor:
        """The part of a layer's relevance that goes on (without `activation`: of a gradient); a new tensor.

        Raises
        ------
        ShapeError
            If the mask does not fit the layer's output.
        """
        if self.components is not None:
            relevance = handle.layers.basis(name, self.basis).keep(relevance, self.components, activation)
        if self.mask is None:
            return relevance
        pairs = zip(reversed(self.mask.shape), reversed(relevance.shape), strict=False)
        if self.mask.ndim > relevance.ndim or any(m not in (1, t) for m, t in pairs):
            raise ShapeError(
                f'The mask of "{name}" has the shape {tuple(self.mask.shape)}; the layer gives '
                f"{tuple(relevance.shape)}."
            )
        return relevance * self.mask.to(relevance)


def explain(
    handle: ModelHandle,
    x: Tensor,
    target: Target | str = "top",
    *,
    rule: Any = "EpsilonPlusFlat",
    record: Iterable[str] = (),
    given: Iterable[str | ComponentId] = (),
    masks: Mapping[str, Tensor] | None = None,
    labels: Any = None,
    steps: int = 32,
) -> Explanation:
    """Explain a batch.

    Parameters
    ----------
    handle : ModelHandle
    x : (sample, channel, ...) tensor
    target : Target
    rule : str, Composite or zennit composite
        A composite, ``gradient``, ``input_x_gradient`` or ``integrated_gradients``.
    record : layer names
        Layers whose relevance is wanted too.
    given : addresses
        The condition: components of one or more layers on one path. Their order does not matter.
    masks : mapping of layer to tensor, optional
        Conditions of any shape: what share of that layer's relevance goes on, 0 to 1, of a shape that broadcasts to
        (sample, component, ...) as the layer gives it. With components of the same layer, both must hold.
    labels : (sample,) int, optional
        For `Target.label`.
    steps : int
        Points on the path of integrated gradients (from an input of zeros, midpoint rule).

    Raises
    ------
    RuleError
        If a layer does not lie on the path of the relevance.
    NoPredictionError
        If the target is a box, and samples have none above its threshold.
    """
    target, rule = Target.parse(target).resolved(handle), rule_of(rule)
    conditions = _by_layer(handle, given)
    for name, mask in (masks or {}).items():
        handle.layers.usable(name)
        conditions[name] = replace(conditions.get(name, Condition()), mask=mask)
    record = [name for name in dict.fromkeys(record) if handle.layers.usable(name)]
    x = handle.put(x)
    if isinstance(rule, str):
        from workbench.attribution.gradient import explain_by_gradient

        return explain_by_gradient(
            handle, x, target, rule, record=record, conditions=conditions, labels=labels, steps=steps
        )
    layers = [*record, *conditions, *_start_layer(target)]
    with ruled_forward(handle, x, rule=rule, layers=layers) as graph:
        source, start = begin(handle, graph, target, labels=labels)
        relevance, inner = staged(handle, graph, source, start.seed, conditions, record)
    return Explanation(relevance, inner, graph, start, is_conditional=bool(conditions))


def begin(
    handle: ModelHandle,
    graph: Graph,
    target: Target,
    *,
    labels: Any = None,
    as_gradient: bool = False,
    at: Start | None = None,
) -> tuple[Tensor, Start]:
    """The tensor where relevance begins and what it begins with; `at` as for `Target.start`."""
    if target.kind != "component":
        return graph.output, target.start(graph.output, labels=labels, as_gradient=as_gradient, at=at)
    address = handle.layers.component(target.args[0])
    layer, tensor = handle.layers[address.layer], graph.tensor(address.layer)
    basis = handle.layers.basis(layer.name, address.basis)
    seed = basis.start(tensor.detach(), address.index, as_gradient=as_gradient)
    score = basis.encode(tensor.detach())[:, address.index].sum(1)
    return tensor, Start(seed, score, torch.full((len(tensor),), -1, device=tensor.device))


def staged(
    handle: ModelHandle,
    graph: Graph,
    source: Tensor,
    seed: Tensor,
    conditions: Mapping[str, Condition],
    record: Sequence[str],
    *,
    as_gradient: bool = False,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Pull relevance from `source` to the input, through the conditioned layers one after the other.

    The graph is used up.

    Raises
    ------
    RuleError
        If a recorded or conditioned layer lies beside a conditioned one.
    """
    order = handle.layers
    path = sorted(conditions, key=lambda name: order[name].order, reverse=True)
    inner: dict[str, Tensor] = {}
    rest = [name for name in record if name not in conditions]

    def note(relevance: Tensor) -> None:
        """The source's relevance is that of all layers that give this very tensor: a container and its last child."""
        nonlocal rest
        inner.update({r: relevance.detach() for r in rest if graph.tensors[r] is source})
        rest = [r for r in rest if r not in inner]

    note(seed)
    for name in path:
        between = [r for r in rest if order[r].order > order[name].order]
        for beside in (r for r in between if not graph.feeds(name, r)):
            raise RuleError(
                f'"{beside}" lies beside "{name}", so it has no relevance under this condition.',
                hint="Record layers on the path of the conditioned ones.",
            )
        here, *above = graph.pull(source, seed, [name, *between])
        inner |= dict(zip(between, (a.detach() for a in above), strict=True))
        inner[name] = here.detach()
        rest = [r for r in rest if r not in between]
        source = graph.tensors[name]
        note(here)  # as of conditioned layers: before the mask
        seed = conditions[name].keep(handle, name, here, None if as_gradient else graph.tensors[name].detach())
    relevance, *others = graph.pull(source, seed, [None, *rest], keep=False)
    inner |= dict(zip(rest, (o.detach() for o in others), strict=True))
    return relevance.detach(), inner


def concept_maps(
    handle: ModelHandle,
    x: Tensor,
    components: Sequence[str | ComponentId],
    target: Target | str = "top",
    *,
    rule: Any = "EpsilonPlusFlat",
    labels: Any = None,
    at_once: int = 32,
    progress: Any = None,
) -> tuple[Tensor, Tensor, Start]:
    """Conditional heatmaps of many components of one layer, for one sample.

    One forward pass and one backward pass down to the layer serve all components; below it, `at_once` maps share each
    batched backward pass.

    Parameters
    ----------
    x : (1, channel, ...) tensor
    components : addresses in one layer

    Returns
    -------
    maps : (component, y, x) tensor
    relevance : (component of the layer,) tensor
        Relevance of all components of the layer, summed over positions.
    start : Start
    """
    addresses = [handle.layers.component(c) for c in components]
    layers = {a.layer for a in addresses}
    if len(layers) != 1:
        raise BadValueError(
            f"Concept maps belong to one layer; got components of {len(layers)}.", hint="Ask layer by layer."
        )
    if len(x) != 1:
        raise BadValueError(f"Concept maps are made for one sample at a time; got {len(x)}.")
    (name,) = layers
    target, chosen = Target.parse(target).resolved(handle), rule_of(rule)
    if isinstance(chosen, str):
        raise BadValueError(
            "Concept maps need relevance rules, not a gradient method.", hint='Use rule="EpsilonPlusFlat".'
        )
    layer = handle.layers.usable(name)
    with ruled_forward(handle, handle.put(x), rule=chosen, layers=[name, *_start_layer(target)]) as graph:
        source, start = begin(handle, graph, target, labels=labels)
        here = start.seed if source is graph.tensors[name] else graph.pull(source, start.seed, [name])[0]
        at = graph.tensors[name]
        maps = []
        for first in range(0, len(addresses), at_once):
            part = addresses[first : first + at_once]
            activation = at.detach()
            bases = [handle.layers.basis(a.layer, a.basis) for a in part]
            kept = [b.keep(here, (a.index,), activation) for a, b in zip(part, bases, strict=True)]
            seeds = torch.stack(kept)
            if isinstance(chosen, Composite):
                pulled = graph.pull(at, seeds, [None])[0]
            else:  # zennit's hooks know one backward pass at a time
                pulled = torch.stack([graph.pull(at, one, [None])[0] for one in seeds])
            maps.append(heat(pulled[:, 0].detach()))
            if progress is not None:
                progress.step(len(part))
        pooled = layer.components_first(here.detach()).sum(2)[0]
    return torch.cat(maps), pooled, start


def heat(relevance: Tensor) -> Tensor:
    """(sample, y, x): input relevance summed over its channels."""
    return relevance.sum(1) if relevance.ndim > 2 else relevance


def _by_layer(handle: ModelHandle, given: Iterable[str | ComponentId]) -> dict[str, Condition]:
    given = [given] if isinstance(given, (str, ComponentId)) else list(given)
    found: dict[str, list[int]] = {}
    bases: dict[str, str] = {}
    for one in given:
        address = handle.layers.component(one)
        if bases.setdefault(address.layer, address.basis) != address.basis:
            raise BadValueError(
                f'The condition mixes the bases {bases[address.layer]} and {address.basis} of "{address.layer}".',
                hint="Within a layer, name components of one basis.",
            )
        found.setdefault(address.layer, []).append(address.index)
    return {name: Condition(tuple(sorted(set(indices))), basis=bases[name]) for name, indices in found.items()}


def _start_layer(target: Target) -> list[str]:
    return [ComponentId.parse(target.args[0]).layer] if target.kind == "component" else []
