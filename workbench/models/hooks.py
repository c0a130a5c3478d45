"""The only door for hooks: everything put on a model here comes off last-first, also after an exception halfway."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor, nn

from workbench.core.errors import ModelError
from workbench.core.progress import current_token

__all__ = ["patched_forward", "record", "stoppable", "tensor_of"]


def tensor_of(layer: str, output: Any) -> Tensor:
    """The tensor in a module's output: the output itself, or the first tensor of a tuple.

    Raises
    ------
    ModelError
        If there is none.
    """
    if isinstance(output, Tensor):
        return output
    if isinstance(output, (tuple, list)):
        for part in output:
            if isinstance(part, Tensor):
                return part
    raise ModelError(
        f'The output of "{layer}" is a {type(output).__name__} without a tensor.', hint="Choose a layer inside of it."
    )


@contextmanager
def record(module: nn.Module, layers: Iterable[str], see: Callable[[str, Tensor], Tensor | None]) -> Iterator[None]:
    """Call `see(layer, output)` for each named layer during forward passes.

    A tensor returned by `see` takes the place of the output, provided the output is a single tensor.
    """
    children = dict(module.named_modules())
    with ExitStack() as stack:
        for layer in layers:

            def hook(_: nn.Module, __: Any, output: Any, layer: str = layer) -> Any:
                changed = see(layer, tensor_of(layer, output))
                if changed is None:
                    return None
                if not isinstance(output, Tensor):
                    raise ModelError(f'"{layer}" returns several tensors; edit a layer inside of it.')
                return changed

            stack.callback(children[layer].register_forward_hook(hook).remove)
        yield


@contextmanager
def stoppable(module: nn.Module) -> Iterator[None]:
    """Let a cancelled job end between two modules, in the forward pass and in backward passes through its graph.

    A batch takes seconds in a large model; who presses Cancel waits for a module at most. Outside of jobs nothing is
    hooked.
    """
    token = current_token()
    if token is None:
        yield
        return

    def check(*_: Any) -> None:
        token.raise_if_cancelled()

    def hook(_: nn.Module, __: Any, output: Any) -> None:
        token.raise_if_cancelled()
        if isinstance(output, Tensor) and output.grad_fn is not None:
            output.grad_fn.register_prehook(check)  # holds the token alone, which may be asked from any thread

    with ExitStack() as stack:
        for child in module.modules():
            if next(child.children(), None) is None:
                stack.callback(child.register_forward_hook(hook).remove)
        yield


@contextmanager
def patched_forward(patches: Iterable[tuple[nn.Module, Callable[..., Any]]]) -> Iterator[None]:
    """Give modules another forward function for a while."""
    with ExitStack() as stack:
        for module, forward in patches:
            old = module.__dict__.get("forward")
            stack.callback(_restore, module, old)
            module.__dict__["forward"] = forward
        yield


def _restore(module: nn.Module, old: Any) -> None:
    if old is None:
        module.__dict__.pop("forward", None)
    else:
        module.__dict__["forward"] = old
