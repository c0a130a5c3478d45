"""One forward pass under relevance rules, and the questions that its graph answers.

Two ways lead to the graph. Ours patches leaf modules with the autograd nodes of `kernels.py` for the duration of the forward
pass. A zennit ``Composite`` handed in by the user is entered as it is and stays on until the graph is closed.
Residual sums share relevance in both: additions of two tensors that depend on the input are caught as they happen, so no
list of block classes is needed.
"""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from workbench.attribution.kernels import LinearMap, NormSum, PassThrough, RuledLinear, RuledPool
from workbench.attribution.rules import Composite, Rule, RuleTable, assign
from workbench.core.errors import BadValueError, ModelError, NotFiniteError, RuleError
from workbench.models.hooks import patched_forward, record

if TYPE_CHECKING:
    from workbench.models.handle import ModelHandle

__all__ = ["Graph", "rule_table", "ruled_forward", "watched_functions"]

_SUMS = {"add", "add_", "__add__", "__iadd__", "__radd__"}


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

    def __init__(self, x: Tensor, output: Tensor, tensors: dict[str, Tensor]):
        self.x, self.output, self.tensors = x, output, tensors
        self._versions = {name: t._version for name, t in tensors.items()}

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
            Keep the graph for further questions.

        Raises
        ------
        RuleError
            If no path leads from a tensor to the source.
        """
        ends = [self.x if name is None else self._unchanged(name) for name in to]

        def once(one: Tensor) -> tuple[Tensor | None, ...]:
            return torch.autograd.grad(source, ends, one, retain_graph=keep, allow_unused=True)

        parts = once(seed) if seed.ndim == source.ndim else torch.func.vmap(once)(seed)
        for name, part in zip(to, parts, strict=True):
            if part is None:
                raise RuleError(
                    f'No relevance reaches "{name or "the input"}": it does not lie on the path.',
                    hint="Name layers that feed the target; in one condition, layers of a single path, none beside another.",
                )
        return [p for p in parts if p is not None]

    def _unchanged(self, name: str) -> Tensor:
        tensor = self.tensors[name]
        if tensor._version != self._versions[name]:
            raise ModelError(
                f'The output of "{name}" is overwritten in place later in the forward pass.',
                hint="Write x = f(x) instead of an in-place function after that layer, or choose the next layer.",
            )
        return tensor


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
    with ExitStack() as until_closed, torch.enable_grad():
        if rule is not None and not isinstance(rule, Composite):
            until_closed.enter_context(_zennit(handle, rule))
        x = x.detach().requires_grad_()
        with ExitStack() as during_forward:
            if isinstance(rule, Composite):
                during_forward.enter_context(patched_forward(_patches(handle, rule)))
            # After the rules, so that what is recorded is what the next module receives.
            during_forward.enter_context(record(handle.module, layers, see or tensors.__setitem__))
            during_forward.enter_context(handle.edited())
            if rule is not None:
                during_forward.enter_context(_Sums(_sum_rule(rule)))
            output = handle.logits(handle.module(x))
        if not bool(torch.isfinite(output.detach().sum())):
            bad = (~torch.isfinite(output.detach().flatten(1)).all(1)).nonzero().flatten().tolist()
            raise NotFiniteError(
                f"The model's output is not finite for {len(bad)} of {len(x)} inputs (numbers {bad[:5]} of the batch)."
            )
        yield Graph(x, output, tensors)


def rule_table(handle: ModelHandle, chosen: Composite) -> RuleTable:
    """Which module gets which rule, with the functions that run outside of modules."""
    table = assign(handle.module, chosen, calls=handle.calls)
    return RuleTable(chosen, table.rows, watched_functions(handle))


def watched_functions(handle: ModelHandle) -> dict[str, int]:
    """Element-wise, pooling and product functions that the model calls outside of leaf modules, with their number."""
    watch = _Watch()
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


def _patches(handle: ModelHandle, chosen: Composite) -> list[tuple[nn.Module, Any]]:
    """The patched forward functions of a composite; made once per model and composite."""
    kept = handle.kept.setdefault("patches", {})
    if chosen.digest not in kept:
        kept[chosen.digest] = [
            (module, patch)
            for row in assign(handle.module, chosen, calls=handle.calls)
            if (patch := _patch(module := handle.module.get_submodule(row.module), row.rule, chosen)) is not None
        ]
    return kept[chosen.digest]


def _patch(module: nn.Module, rule: Rule, chosen: Composite) -> Any:
    forward = module.forward
    if rule.kind == "gradient" or isinstance(module, (nn.Identity, nn.Flatten)):
        return None
    if rule.kind == "pass":
        return lambda x: PassThrough.apply(x, forward) if x.requires_grad else forward(x)
    if rule.kind == "norm":
        return lambda x: RuledPool.apply(x, forward, rule.epsilon) if x.requires_grad else forward(x)
    linear = LinearMap(module, forward, zero_bias=chosen.zero_bias)

    def run(x: Tensor, *args: Any) -> Tensor:
        if args:
            raise ModelError(f"{type(module).__name__} is called with further arguments, for which there is no rule.")
        return RuledLinear.apply(x, linear, rule) if x.requires_grad else forward(x)

    return run


def _sum_rule(rule: Any) -> float:
    if isinstance(rule, Composite):
        return next((r.epsilon for m, r in rule.layers if m == "sum"), 1e-6)
    return 1e-6


def _zennit(handle: ModelHandle, rule: Any) -> Any:
    """The context of a zennit composite on the folded copy."""
    from zennit.core import Composite as ZennitComposite

    if not isinstance(rule, ZennitComposite):
        raise BadValueError(f"A rule is the name of a composite, a Composite or a zennit composite; got {rule!r}.")
    twice = [n for n, count in handle.calls.items() if count > 1 and hasattr(handle.module.get_submodule(n), "weight")]
    if twice:
        raise RuleError(
            f'zennit keeps one set of tensors per module, and "{twice[0]}" runs {handle.calls[twice[0]]} times.',
            hint="Use one of our composites by name, which handle repeated modules.",
        )
    return _restoring(handle.module, rule)


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


class _Sums(TorchFunctionMode):
    """Lets sums of two tensors that depend on the input share relevance in proportion."""

    def __init__(self, epsilon: float):
        super().__init__()
        self.epsilon = epsilon

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called for each torch function that runs inside."""
        name = getattr(func, "__name__", "")
        if name in _SUMS and _is_residual(args):
            a, b = args[0], args[1]
            if kwargs and kwargs.get("alpha", 1) != 1:
                b = b * kwargs["alpha"]
            if name == "add_" and not _is_operator(sys._getframe(1)):
                # `a.add_(b)` changes `a` itself, `a += b` binds the name anew and may get a fresh tensor.
                return a.copy_(NormSum.apply(a.clone(), b, self.epsilon))
            return NormSum.apply(a, b, self.epsilon)
        return func(*args, **(kwargs or {}))


class _Watch(TorchFunctionMode):
    """Counts functions that redistribute relevance and run outside of modules."""

    _QUIET = ("__get__", "__set__", "view", "reshape", "flatten", "permute", "transpose", "unsqueeze", "squeeze", "size",
              "dim", "contiguous", "cat", "stack", "chunk", "split", "__getitem__", "expand", "to", "detach", "shape")  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, int] = {}
        self.is_on = True

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Called for each torch function that runs inside."""
        name = getattr(func, "__name__", "")
        if self.is_on and name not in self._QUIET and any(isinstance(a, Tensor) and a.requires_grad for a in args):
            name = "residual sum" if name in _SUMS and _is_residual(args) else name.strip("_")
            self.seen[name] = self.seen.get(name, 0) + 1
        return func(*args, **(kwargs or {}))


def _is_residual(args: Any) -> bool:
    return (
        len(args) > 1
        and all(isinstance(a, Tensor) and a.requires_grad and a.is_floating_point() for a in args[:2])
        and args[0].shape == args[1].shape
    )


def _is_operator(frame: Any) -> bool:
    """Whether the caller wrote an operator (``a += b``) and not a method call."""
    opcode = frame.f_code.co_code[frame.f_lasti]
    return dis.opname[opcode].startswith(("BINARY_OP", "INPLACE_"))
