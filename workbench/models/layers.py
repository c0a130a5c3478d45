"""The layers of a model as one forward pass shows them: order, shape, component axis, number of calls."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from workbench.core.errors import BadValueError, ModelError, UnknownComponentError, UnknownLayerError, nearest
from workbench.core.ids import ComponentId
from workbench.models.bases import Basis, DirectionBasis, UnitBasis

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Layer", "LayerTable", "probe"]

_PINNED = re.compile(r"\.[0-9a-f]{8}$")


@dataclass(frozen=True)
class Layer:
    """One module that returns a tensor.

    Attributes
    ----------
    name : str
        Dotted name.
    kind : str
        Class of the module.
    shape : tuple of int
        Size of the output for one sample.
    axis : int
        Component axis of the output, batch axis included: 1 for maps and vectors, -1 for sequences of tokens and for
        maps with channels last.
    n_calls : int
        How often the module runs in one forward pass.
    order : int
        Position in the order in which modules end.
    is_leaf : bool
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    axis: int
    n_calls: int
    order: int
    is_leaf: bool

    @property
    def n_components(self) -> int:
        """Number of components."""
        return self.shape[self.axis - 1] if self.axis > 0 else self.shape[-1]

    @property
    def position_shape(self) -> tuple[int, ...]:
        """Shape without the component axis; ``()`` for vectors."""
        return self.shape[1:] if self.axis == 1 else self.shape[:-1]

    def components_first(self, tensor: Tensor) -> Tensor:
        """(sample, component, position): the component axis at place 1, positions flattened; a view if possible."""
        return tensor.movedim(self.axis, 1).flatten(2) if tensor.ndim > 2 else tensor.unsqueeze(-1)


class LayerTable(Mapping[str, Layer]):
    """All layers of a model, in the order in which they end."""

    def __init__(self, model: str, layers: Sequence[Layer]):
        self.model = model
        self._layers = {layer.name: layer for layer in sorted(layers, key=lambda one: one.order)}
        self._bases: dict[tuple[str, str], DirectionBasis] = {}

    def __getitem__(self, name: str) -> Layer:
        try:
            return self._layers[name]
        except KeyError:
            raise UnknownLayerError(
                f'No layer "{name}" in {self.model}.',
                hint=f"{nearest(name, self._layers)} `session.layers()` lists all {len(self)}.",
            ) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._layers)

    def __len__(self) -> int:
        return len(self._layers)

    def __contains__(self, name: object) -> bool:
        return name in self._layers

    def usable(self, name: str) -> Layer:
        """The layer, if its activations can be recorded.

        Raises
        ------
        UnknownLayerError
            If there is no such layer.
        ModelError
            If it runs more than once per forward pass, so that "its" activation is not one thing.
        """
        layer = self[name]
        if layer.n_calls != 1:
            raise ModelError(
                f'"{name}" runs {layer.n_calls} times in one forward pass, so its activation is not one thing.',
                hint="Choose the layers before and after it, or give each call a module of its own.",
            )
        return layer

    def component(self, address: str | ComponentId) -> ComponentId:
        """Read an address and check that the component exists."""
        component = ComponentId.parse(address)
        layer = self.usable(component.layer)
        basis = self.basis(component.layer, component.basis)
        if component.index >= basis.n_components:
            where = f'"{layer.name}"' if component.basis == UnitBasis.name else f'"{layer.name}/{component.basis}"'
            raise UnknownComponentError(
                f"No component {component.index} in {where}.", hint=f"It has {basis.n_components}, from 0."
            )
        return component

    def basis(self, layer: str, name: str = "unit") -> Basis:
        """The basis called `name` at a layer: ``unit``, or directions that were added.

        Raises
        ------
        UnknownComponentError
            If there is none.
        """
        if name == UnitBasis.name:
            return UnitBasis(self.usable(layer))
        if (self.usable(layer).name, name) in self._bases:
            return self._bases[layer, name]
        known = [UnitBasis.name, *self.bases(layer)]
        raise UnknownComponentError(
            f'No basis "{name}" at "{layer}".', hint=f"{nearest(name, known)} There is: {', '.join(known)}."
        )

    def bases(self, layer: str) -> list[str]:
        """Names of the directions that were added at a layer."""
        return [name for at, name in self._bases if at == layer and not _PINNED.search(name)]

    def add_directions(self, layer: str, name: str, vectors: Any, *, pooling: str = "max") -> DirectionBasis:
        """Add directions as a basis of a layer; those of the same name make way.

        What made way stays known by its name with its digest, ``cav-ruler.3f9a81c2``, so that an address can mean one
        version for good: see `pinned`. Of directions that were found in the class token (``pooling="token"``) it is
        that token which is steered.
        """
        if name == UnitBasis.name or _PINNED.search(name):
            raise BadValueError(f'Directions cannot be called "{name}".', hint='For example "cav-ruler".')
        ComponentId(layer, name, 0)  # explains which names there may be
        basis = DirectionBasis(self.usable(layer), name, vectors, pooling)
        pinned = f"{name}.{basis.digest}"
        self._bases = {**self._bases, (layer, name): basis, (layer, pinned): basis}  # others may be reading the old one
        return basis

    @contextmanager
    def lent_directions(self, layer: str, name: str, vectors: Any) -> Iterator[DirectionBasis]:
        """Directions as a basis of a layer for as long as the context lasts; afterwards all is as before."""
        before = self._bases
        basis = self.add_directions(layer, name, vectors)
        try:
            yield basis
        finally:
            bases = dict(self._bases)
            for key in ((layer, name), (layer, f"{name}.{basis.digest}")):
                bases.pop(key, None)
                if key in before:
                    bases[key] = before[key]
            self._bases = bases

    def share_bases(self, other: LayerTable) -> None:
        """Take over the directions of another table that has the same layers, as variants of a model do."""
        for (layer, name), basis in other._bases.items():
            if layer in self._layers and self._layers[layer].n_components == basis.vectors.shape[1]:
                self._bases = {**self._bases, (layer, name): basis}

    def pinned(self, address: str | ComponentId) -> ComponentId:
        """The address of what a component is now: a direction's basis with its digest, a unit as it is."""
        component = self.component(address)
        basis = self.basis(component.layer, component.basis)
        if not isinstance(basis, DirectionBasis):
            return component
        return ComponentId(component.layer, f"{basis.name}.{basis.digest}", component.index)

    def linear(self) -> list[str]:
        """Names of convolution and dense layers that run once."""
        kinds = ("Conv", "Linear")
        return [
            n
            for n, one in self._layers.items()
            if one.is_leaf and one.n_calls == 1 and any(k in one.kind for k in kinds)
        ]

    def to_frame(self) -> pd.DataFrame:
        """The table as a pandas frame."""
        import pandas as pd

        rows = [
            {
                "layer": one.name,
                "kind": one.kind,
                "shape": one.shape,
                "components": one.n_components,
                "calls": one.n_calls,
            }
            for one in self._layers.values()
        ]
        return pd.DataFrame(rows).set_index("layer")

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(escape=True)

    def __repr__(self) -> str:
        return f"<{len(self)} layers of {self.model}: {', '.join(list(self)[:4])} …>"


def probe(module: nn.Module, x: Tensor, *, name: str = "the model") -> tuple[LayerTable, dict[str, int], Any]:
    """Run once without gradients and see every module.

    Parameters
    ----------
    module : nn.Module
        In eval mode.
    x : (sample, ...) tensor
        A batch of at least two, so that the batch axis can be told from others.

    Returns
    -------
    layers : LayerTable
    calls : dict of name to int
        Number of calls of every module, those without a tensor output included.
    output
        What the model returned.

    Raises
    ------
    ModelError
        If the forward pass fails.
    """
    calls: dict[str, int] = {}
    seen: dict[str, tuple[Any, ...]] = {}
    axes = _Axes()
    handles = []
    for child_name, child in module.named_modules():
        if not child_name:
            continue

        def hook(one: nn.Module, args: Any, output: Any, child_name: str = child_name) -> None:
            calls[child_name] = calls.get(child_name, 0) + 1
            part = output[0] if isinstance(output, (tuple, list)) and output else output
            if isinstance(part, Tensor) and part.ndim >= 2 and part.shape[0] == len(x) and part.is_floating_point():
                seen[child_name] = (
                    type(one).__name__,
                    tuple(part.shape[1:]),
                    axes.of(one, args, part),
                    len(seen),
                    next(one.children(), None) is None,
                )

        handles.append(child.register_forward_hook(hook))
    try:
        with torch.no_grad():
            output = module(x)
    except Exception as error:  # whatever a model may raise, the reader needs to know what was tried
        reason = f"{error}".rstrip(". ") or type(error).__name__
        hint = "Give the transform that the model was trained with: open_session(model, data, transform=...)."
        if isinstance(error, TypeError) and "argument" in reason:
            hint = "Wrap the model in a module whose forward takes the batch of pictures alone."
        raise ModelError(
            f"The forward pass of {name} fails on an input of shape {tuple(x.shape)}: {reason}.", hint=hint
        ) from error
    finally:
        for handle in reversed(handles):
            handle.remove()
    layers = [
        Layer(n, kind, shape, axis, calls[n], order, is_leaf) for n, (kind, shape, axis, order, is_leaf) in seen.items()
    ]
    return LayerTable(name, layers), calls, output


_LAST = (nn.Linear, nn.LayerNorm, nn.MultiheadAttention, nn.Embedding)


class _Axes:
    """Finds the component axis of outputs: by the kind of module, else by what the module was given."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[int, Tensor]] = {}  # with the tensor, so that no other gets its identity
        self._last: dict[int, int] = {}

    def of(self, module: nn.Module, args: Any, output: Tensor) -> int:
        """Component axis of a module's output: 1 or -1."""
        if output.ndim == 2:
            return 1
        axis = self._axis(module, args, output)
        self._known[id(output)] = (axis, output)
        self._last[output.ndim] = axis
        return axis

    def _axis(self, module: nn.Module, args: Any, output: Tensor) -> int:
        if id(output) in self._known:  # a container hands on what its last child made
            return self._known[id(output)][0]
        kind = type(module).__name__
        if kind.endswith(("1d", "2d", "3d")):
            return 1
        if isinstance(module, _LAST):
            return -1
        before = [(self._known[id(t)][0], t) for t in args if isinstance(t, Tensor) and id(t) in self._known]
        if kind == "Permute" and before:
            place = tuple(getattr(module, "dims", ())).index(before[0][0] % before[0][1].ndim)
            return 1 if place == 1 else -1
        if isinstance(module, nn.Flatten) and before and before[0][0] == 1 and module.start_dim >= 2:
            return 1
        for axis, tensor in before:
            if tensor.ndim == output.ndim:
                return axis
        return self._last.get(output.ndim, -1 if output.ndim == 3 else 1)
