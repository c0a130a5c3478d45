"""One forward pass under relevance rules, and the questions that its graph answers.

Two ways lead to the graph. Ours patches leaf modules with the autograd nodes of `kernels.py` for the duration of the
forward pass. A zennit ``Composite`` handed in by the user is entered as it is and stays on until the graph is closed.
Residual sums share relevance in both: additions of two tensors that depend on the input are caught as they happen, so
no list of block classes is needed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench.attribution.functions import SharedSums, WatchedFunctions
from workbench.attribution.kernels import MaxPool, PassThrough, RuledLinear, RuledPool
from workbench.attribution.linear import LinearMap, PadSame, Use, is_nonnegative, mark_nonnegative
from workbench.attribution.rules import Composite, Rule, RuleTable, assign
from workbench.core.errors import BadValueError, ModelError, NotFiniteError, RuleError
from workbench.models.device import exactly
from workbench.models.hooks import patched_forward, record

if TYPE_CHECKING:
    from workbench.models.handle import ModelHandle

__all__ = ["Graph", "rule_table", "ruled_forward", "watched_functions"]

_NONNEGATIVE = (nn.ReLU, nn.ReLU6, nn.Sigmoid, nn.Hardsigmoid, nn.Softplus)
# Rules under which a zero takes nothing, so that zeros around an input change nothing.
_PRODUCTS = ("epsilon", "zplus", "alpha_beta", "gamma")


class Graph:
    """A forward pass that was kept, so that many relevances can be read off it.

    Attributes
    ----------
    x : (sample, ...) tensor
        The input, a leaf that asks for gradients.
    output : (sample, class_) tensor
    tensors : dict of layer to tensor
        Outputs of the recorded layers.
    """

    def __init__(
        self, x: Tensor, output: Tensor, tensors: dict[str, Tensor], versions: dict[str, int], use: Use | None = None
    ):
        self.x, self.output, self.tensors = x, output, tensors
        self._versions, self._use = versions, use or Use()

    def pull(self, source: Tensor, seed: Tensor, to: Sequence[str | None], *, keep: bool = True) -> list[Tensor]:
        """Relevance of the tensors `to` (None means the input), given the relevance `seed` of `source`.

        Parameters
        ----------
        source : tensor
            `output`, or one of `tensors`.
        seed : tensor
            Of the same shape; with one more leading axis, every entry along it is pulled in one batched pass.
        to : sequence of layer names or None
        keep : bool
            Keep the graph for further questions; the last one is faster and needs less memory.

        Raises
        ------
        RuleError
            If no path leads from a tensor to the source.
        """
        ends = [self.x if name is None else self.tensor(name) for name in to]
        unreached: list[str] = []

        def once(one: Tensor) -> tuple[Tensor, ...]:
            parts = torch.autograd.grad(source, ends, one, retain_graph=keep, allow_unused=True)
            unreached.extend(name or "the input" for name, part in zip(to, parts, strict=True) if part is None)
            return tuple(end if part is None else part for end, part in zip(ends, parts, strict=True))

        self._use.is_last = not keep
        try:
            parts = once(seed) if seed.ndim == source.ndim else torch.func.vmap(once)(seed)
        except RuntimeError as error:
            if "modified by an inplace operation" not in str(error):
                raise
            raise ModelError(
                "A module's output is overwritten in place by a function, so relevance cannot pass through it.",
                hint="Write x = f(x) instead of f(x, inplace=True) or x.f_() in the model's forward function.",
            ) from error
        finally:
            self._use.is_last = False
        if unreached:
            raise RuleError(
                f'No relevance reaches "{unreached[0]}": it does not lie on the path.',
                hint="Name layers that feed the target; in one condition, layers of a single path, "
                "none beside another.",
            )
        return list(parts)

    def tensor(self, name: str) -> Tensor:
        """The output of a recorded layer.

        Raises
        ------
        ModelError
            If something overwrote it later in the forward pass.
        """
        tensor = self.tensors[name]
        if tensor._version != self._versions[name]:
            raise ModelError(
                f'The output of "{name}" is overwritten in place later in the forward pass.',
                hint="Write x = f(x) instead of an in-place function after that layer, or choose the next layer.",
            )
        return tensor

    def feeds(self, lower: str, upper: str) -> bool:
        """Whether the output of one recorded layer goes into that of another."""
        goal, waiting, seen = self.tensors[lower].grad_fn, [self.tensors[upper].grad_fn], set()
        while waiting:
            node = waiting.pop()
            if node is goal:
                return True
            if node is not None and node not in seen:
                seen.add(node)
                waiting.extend(before for before, _ in node.next_functions)
        return False


@contextmanager
def ruled_forward(
    handle: ModelHandle, x: Tensor, *, rule: Any, layers: Iterable[str] = (), see: Any = None
) -> Iterator[Graph]:
    """Run the model forward so that backward passes follow `rule`.

    Parameters
    ----------
    handle : ModelHandle
    x : (sample, ...) tensor
        On the model's device.
    rule : Composite, zennit composite, or None
        None means the plain gradient.
    layers : names
        Layers whose outputs are kept in the graph.
    see : callable, optional
        ``see(layer, tensor)``, called instead of keeping the outputs.

    Raises
    ------
    NotFiniteError
        If the model's output is not finite.
    """
    layers = list(dict.fromkeys(layers))
    for name in layers:
        handle.layers.usable(name)
    tensors: dict[str, Tensor] = {}
    versions: dict[str, int] = {}  # as of when the tensor was seen: what changes it later has another one

    def keep(name: str, tensor: Tensor) -> None:
        tensors[name], versions[name] = tensor, tensor._version

    with ExitStack() as until_closed, torch.enable_grad(), exactly(handle.device):
        if rule is not None and not isinstance(rule, Composite):
            until_closed.enter_context(_zennit(handle, rule))
        x = x.detach().requires_grad_()
        with ExitStack() as during_forward:
            use = Use()
            if isinstance(rule, Composite):
                patches, use = _patches(handle, rule)
                during_forward.enter_context(patched_forward(patches))
            # After the rules and the edits, so that what is recorded is what the next module receives.
            during_forward.enter_context(handle.edited(_proportional if rule is not None else None))
            during_forward.enter_context(record(handle.module, layers, see or keep))
            during_forward.enter_context(SharedSums(None if rule is None else _sum_rule(rule)))
            output = handle.logits(handle.module(x))
        _check_output(handle, x, output)
        for name, tensor in tensors.items():
            if not tensor.requires_grad:
                raise RuleError(f'"{name}" does not depend on the input in a way that can be followed back.')
        yield Graph(x, output, tensors, versions, use)


def _check_output(handle: ModelHandle, x: Tensor, output: Tensor) -> None:
    if not output.requires_grad:
        raise ModelError(
            f"The output of {handle.card.name} cannot be followed back to its input.",
            hint="Return the numbers before argmax, detach() or no_grad().",
        )
    if not bool(torch.isfinite(output.detach().sum())):
        bad = (~torch.isfinite(output.detach().flatten(1)).all(1)).nonzero().flatten().tolist()
        if bad:  # a sum of finite numbers may be infinite too
            raise NotFiniteError(
                f"The model's output is not finite for {len(bad)} of {len(x)} inputs (numbers {bad[:5]} of the batch)."
            )


def _proportional(edit: Any) -> Any:
    """An edit of activations that shares relevance like a linear layer: what it adds takes its part."""
    return lambda x: RuledPool.apply(x, edit, 1e-6) if x.requires_grad else edit(x)


def rule_table(handle: ModelHandle, chosen: Composite) -> RuleTable:
    """Which module gets which rule, with the functions that run outside of modules."""
    table = assign(handle.module, chosen, calls=handle.calls)
    return RuleTable(chosen, table.rows, watched_functions(handle))


def watched_functions(handle: ModelHandle) -> dict[str, int]:
    """Element-wise, pooling and product functions that the model calls outside of leaf modules, with their number."""
    watch = WatchedFunctions()
    leaves = [m for m in handle.module.modules() if next(m.children(), None) is None]

    def silenced(forward: Any) -> Any:
        def run(*args: Any, **kwargs: Any) -> Any:
            watch.is_on, before = False, watch.is_on
            try:
                return forward(*args, **kwargs)
            finally:
                watch.is_on = before

        return run

    with torch.enable_grad(), patched_forward([(m, silenced(m.forward)) for m in leaves]), watch:
        handle.module(handle.example().requires_grad_())
    return dict(sorted(watch.seen.items()))


def _patches(handle: ModelHandle, chosen: Composite) -> tuple[list[tuple[nn.Module, Any]], Use]:
    """The patched forward functions of a composite; made once per model and composite."""
    kept = handle.kept.setdefault("patches", {})
    if chosen.digest not in kept:
        use = Use()
        patches = []
        for row in assign(handle.module, chosen, calls=handle.calls):
            module = handle.module.get_submodule(row.module)
            patch = _patch(module, _bounded(row.rule, handle), chosen, use)
            if patch is not None:
                patches.append((module, patch))
        kept[chosen.digest] = patches, use
    return kept[chosen.digest]


def _bounded(rule: Rule, handle: ModelHandle) -> Rule:
    """The rule with the bounds of the model's inputs, if it needs some and names none."""
    if rule.kind != "zbox" or rule.low is not None:
        return rule
    bounds = handle.card.transform.bounds
    if bounds is None:
        raise BadValueError(
            f"The z-box rule needs bounds, and the transform of {handle.card.name} does not tell those of its inputs.",
            hint='Pass rule=composite("EpsilonGammaBox", low=…, high=…), from workbench.attribution.rules; for pixels '
            "0 to 1: low = -mean / std and high = (1 - mean) / std.",
        )
    return replace(rule, low=bounds[0], high=bounds[1])


def _patch(module: nn.Module, rule: Rule, chosen: Composite, use: Use) -> Any:
    forward = module.forward
    if rule.kind == "gradient" and type(module) is nn.MaxPool2d and not module.return_indices:
        return lambda x: MaxPool.apply(x, module) if x.requires_grad and x.ndim == 4 else forward(x)
    if rule.kind == "gradient" or isinstance(module, (nn.Identity, nn.Flatten)):
        return None
    if rule.kind == "pass":
        mark = mark_nonnegative if type(module) in _NONNEGATIVE else _unmarked
        return lambda x: mark(PassThrough.apply(x, forward)) if x.requires_grad else forward(x)
    if rule.kind == "norm":
        return lambda x: RuledPool.apply(x, forward, rule.epsilon) if x.requires_grad else forward(x)
    linear = LinearMap(module, forward, zero_bias=chosen.zero_bias, use=use)
    padded = linear.padded() if linear.pads_same and rule.kind in _PRODUCTS else None

    def run(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if args or kwargs:
            raise ModelError(f"{type(module).__name__} is called with further arguments, for which there is no rule.")
        if not x.requires_grad:
            return forward(x)
        if padded is None:
            return RuledLinear.apply(x, linear, rule, is_nonnegative(x))
        return RuledLinear.apply(PadSame.apply(x, module), padded, rule, is_nonnegative(x))

    return run


def _unmarked(x: Tensor) -> Tensor:
    return x


def _sum_rule(rule: Any) -> float:
    if isinstance(rule, Composite):
        return next((r.epsilon for m, r in rule.layers if m == "sum"), 1e-6)
    return 1e-6


def _zennit(handle: ModelHandle, rule: Any) -> Any:
    """The context of a zennit composite on the folded copy."""
    from zennit.core import Composite as ZennitComposite

    if not isinstance(rule, ZennitComposite):
        raise BadValueError(f"A rule is the name of a composite, a Composite or a zennit composite; got {rule!r}.")
    from zennit.rules import Pass

    twice = [
        name
        for name, count in handle.calls.items()
        if count > 1 and not isinstance(_hook_of(rule, name, handle.module.get_submodule(name)), (Pass, type(None)))
    ]
    if twice:
        raise RuleError(
            f'zennit keeps one set of tensors per module, and "{twice[0]}" runs {handle.calls[twice[0]]} times.',
            hint="Use one of our composites by name, which handle repeated modules.",
        )
    return _restoring(handle.module, rule)


def _hook_of(rule: Any, name: str, module: nn.Module) -> Any:
    """What a zennit composite would put on a module."""
    return rule.module_map({}, name, module) if next(module.children(), None) is None else None


@contextmanager
def _restoring(module: nn.Module, rule: Any) -> Iterator[None]:
    """Enter the composite; afterwards all parameters are as before, whatever its canonizers left behind."""
    before = [(m, dict(m._parameters)) for m in module.modules()]
    try:
        with rule.context(module):
            yield
    finally:
        for child, parameters in before:
            child._parameters.clear()
            child._parameters.update(parameters)
