"""Explanations of single samples, and the pictures that go with components."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench.attribution.base import Target
from workbench.attribution.crp import concept_maps, explain, heat, rule_name
from workbench.core import check
from workbench.core.errors import BadValueError, NoPredictionError, NotFiniteError, OutOfBudgetError, ShapeError
from workbench.core.ids import ComponentId
from workbench.core.progress import Progress, SilentProgress
from workbench.core.results import Attribution, ReferenceSet
from workbench.data.torch_data import as_image
from workbench.models.device import is_out_of_memory
from workbench.models.handle import ModelHandle
from workbench.session.describing import Describing
from workbench.session.pictures import MODES, View, peak_tiles, views
from workbench.session.tables import KEPT_REFERENCES
from workbench.store.recipe import Recipe
from workbench.sweeps.plan import label_facts, rule_facts

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["Explaining"]

logger = logging.getLogger(__name__)

_AT_ONCE = 16


class Explaining(Describing):
    """The part of a session that explains samples and cuts pictures. See `Session`."""

    def explain(
        self,
        sample: Any = None,
        target: Any = None,
        *,
        given: Sequence[str] | str = (),
        record: Sequence[str] | str = (),
        rule: Any = None,
        x: Any = None,
    ) -> Attribution:
        """Explain one or more samples, or pictures from outside.

        Parameters
        ----------
        sample : int or sequence of int
            Sample ids; one unreadable sample is an error here.
        target : Target or str
            Default: the largest output of each sample. For detectors ``"box:0"``, for sequences ``"token:-1:yes"``; see
            `Target.parse`.
        given : addresses
            Only relevance that flows through these components: "or" within a layer, "and" across layers. A direction
            without a target is localised by itself, whatever the output: relevance begins at its layer with the
            positive part of the activation times the vector.
        record : layer names
            Layers whose relevances and activations are returned too.
        rule : str, Composite or zennit composite
            A composite, ``gradient``, ``input_x_gradient`` or ``integrated_gradients``.
        x : (sample, channel, y, x) tensor, PIL picture or (y, x, channel) byte array, optional
            Input from outside, instead of `sample`. Tensors are taken as they are, pictures pass through the transform.
        """
        addresses = [given] if isinstance(given, str) or not isinstance(given, Iterable) else given
        shown = given = [str(self.model.layers.component(c)) for c in addresses]
        if target is None and (own := self._own_target(given)):
            target, given = f"component:{own}", [c for c in given if c != own]
        chosen, goal = self._rule_and_target(rule, target)
        record = [record] if isinstance(record, str) else list(record)
        if x is not None:
            batch = self._outside(x)
            made = self.run(self._explain, batch, goal, chosen, given, record, None, ())
            return self._attribution(made, tuple(range(len(batch))), goal, chosen, shown)
        ids = tuple(self._check_sample(i) for i in _as_ids(sample))
        if not ids:
            raise BadValueError("Say what to explain: a sample id, several, or x=….", hint="session.explain(14)")
        method = chosen if isinstance(chosen, str) else ""
        recipe = self._recipe(
            "attribution",
            params={"samples": ids, "given": sorted(self._pinned(given)), "record": sorted(record), "method": method,
                    **rule_facts(None if method else chosen, goal), "target": str(goal),
                    **(label_facts(goal) if method else {})},
            title=f"attribution of sample {ids[0]}" if len(ids) == 1 else f"attribution of {len(ids)} samples",
        )  # fmt: skip

        def make() -> dict[str, Any]:
            batch = torch.stack([self.data.tensor(i) for i in ids])
            return self._explain(batch, goal, chosen, given, record, self._explainable(ids), ids)

        made = self.run(self.store.get_or_make, recipe, make)
        return self._attribution(made, ids, goal, chosen, shown, recipe=recipe.digest)

    def concept_maps(self, sample: int, components: Sequence[str], *, target: Any = None, rule: Any = None) -> Tensor:
        """Conditional heatmaps of several components of one layer, (component, y, x), for one sample."""
        chosen, goal = self._rule_and_target(rule, target)
        sample = self._check_sample(sample)
        wanted = [str(self.model.layers.component(c)) for c in components]
        if not wanted:
            raise BadValueError("Name at least one component.", hint='For example ["layer4/unit/17"].')

        def recipe(component: str) -> Recipe:
            return self._recipe(
                "concept_map",
                layer=component.split("/")[0],
                params={"sample": sample, "component": self._pinned([component])[0], **rule_facts(chosen, goal)},
                title=f"map of {component}",
            )

        def fill(progress: Progress | None = None) -> Tensor:
            found = {c: self.store.get(recipe(c)) for c in wanted}
            lacking = [c for c in dict.fromkeys(wanted) if found[c] is None]
            if lacking:
                x = self.data.tensor(sample).unsqueeze(0)
                maps, _, _ = concept_maps(
                    self.model, x, lacking, goal, rule=chosen, labels=self._explainable([sample]), progress=progress
                )
                for component, one in zip(lacking, _finite(maps.cpu().float(), chosen), strict=True):
                    found[component] = self.store.get_or_make(recipe(component), _given({"map": one}))
            return torch.stack([found[c]["map"] for c in wanted])  # type: ignore[index]

        return self.run(fill)

    def predict(self, sample: int, n: int = 5) -> list[tuple[int, str, float, float]]:
        """The `n` largest outputs of a sample: index, name, logit, probability.

        Probabilities are a softmax over all outputs, or a sigmoid where there is a single one. Of dense predictions,
        boxes and sequences each class has its largest score over all positions, which has no probability: NaN.
        """
        sample, n = self._check_sample(sample), check.positive("n", n)
        recipe = self._recipe(
            "output",
            params={"sample": sample},
            title="output",
        )

        def make() -> dict[str, Any]:
            return {"output": self.model(self.data.tensor(sample).unsqueeze(0)).cpu().float()}

        output = self.run(self.store.get_or_make, recipe, make)["output"][0]
        logits = output.movedim(self.model.class_axis - 1, 0).flatten(1).amax(1) if self.model.is_dense else output
        chance = logits.softmax(0) if len(logits) > 1 else logits.sigmoid()
        if self.model.is_dense:
            chance = torch.full_like(logits, float("nan"))
        best = logits.topk(min(n, len(logits))).indices.tolist()
        return [(i, self.model.class_name(i), float(logits[i]), float(chance[i])) for i in best]

    # --- pictures ----------------------------------------------------------------------------------------------------

    def thumbnails(self, samples: Sequence[int], size: int = 96) -> np.ndarray:
        """(sample, size, size, 3) uint8 pictures as the model sees them."""
        return self.pictures.thumbnails([self._check_sample(s) for s in samples], size)

    def peak_crops(self, layer: str, components: Sequence[Any] | None = None, size: int = 64) -> np.ndarray:
        """(component, size, size, 3) uint8: each component's best reference, cut around its peak. No model run."""
        references = self.references(layer)
        chosen = range(references.n_components) if components is None else [references.index(c) for c in components]
        return peak_tiles(self.pictures, references, list(chosen), size)

    def reference_views(
        self,
        component: str,
        by: str = "activation",
        n: int = 12,
        mode: str = "crop",
        size: int = 96,
        *,
        quantile: float = 1.0,
        progress: Progress | None = None,
    ) -> list[View]:
        """References of a component, whole, cropped or masked by their conditional heatmaps (kept in the store).

        With a quantile below 1 these are the references around it; see `references_at`. Maps of references by
        activation start at the component itself; those by relevance at the output that was explained, conditional on
        the component.
        """
        check.one_of("mode", mode, MODES)
        check.positive("n", n, at_most=256)
        address = self.model.layers.component(component)
        check.between("quantile", quantile, 0, 1)
        first, values, targets = 1, None, None
        if quantile < 1:
            found, references, explained = self._at(address, quantile, by, n)
            samples, first, values = [int(i) for i in found.samples], found.first, found.values
            targets = torch.tensor(explained) if by == "relevance" else None
        else:
            references = self.references(address.layer, by=by, k=max(n, KEPT_REFERENCES), basis=address.basis)
            samples = references.of(address, n)
        heats = None
        if mode != "whole" and samples:
            heats = self._reference_heats(address, references, samples, progress or SilentProgress(), targets)
        return views(
            self.pictures, references, address, samples, heats, mode=mode, size=size, values=values, first=first
        )

    # --- inside ------------------------------------------------------------------------------------------------------

    def _pinned(self, components: Sequence[str]) -> list[str]:
        """Addresses that mean the directions of now for good, for recipes; units are as they are."""
        return [str(self.model.layers.pinned(c)) for c in components]

    def _own_target(self, given: Sequence[str]) -> str:
        """The direction to localise where components are given and no target: the last, if it is the only one there."""
        addresses = [ComponentId.parse(c) for c in given]
        if not addresses or all(a.basis == "unit" for a in addresses):
            return ""
        last = max(addresses, key=lambda a: self.model.layers[a.layer].order)
        beside = [a for a in addresses if a.layer == last.layer]
        if any(a.basis == "unit" for a in beside):
            return ""
        if len(beside) > 1:
            raise BadValueError(
                f'{len(beside)} directions of "{last.layer}" are given without a target, and each is localised by '
                "itself.",
                hint='Explain them one by one, or say target="top" for what flows through all of them.',
            )
        return str(last)

    def _explain(
        self,
        x: Tensor,
        goal: Target,
        chosen: Any,
        given: Sequence[str],
        record: Sequence[str],
        labels: Any,
        ids: Sequence[int],
        *,
        handle: ModelHandle | None = None,
    ) -> dict[str, Any]:
        model = handle or self.model

        def one(rows: range) -> dict[str, Tensor]:
            part, own = x[rows.start : rows.stop], None if labels is None else labels[rows.start : rows.stop]
            try:
                result = explain(model, part, goal, rule=chosen, record=record, given=given, labels=own)
            except NoPredictionError as error:
                raise error.named(ids[rows.start : rows.stop] if ids else rows) from error
            arrays: dict[str, Tensor] = {
                "heatmap": _finite(heat(result.relevance), chosen),
                "target": result.start.index,
                "score": result.start.score,
                "gap": result.gap,
                "output": result.output,
            }
            if result.start.position is not None:
                arrays["position"] = result.start.position
            for name in record:
                layer = self.model.layers[name]
                arrays[f"relevance|{name}"] = layer.components_first(result.layers[name]).sum(2)
                arrays[f"activation|{name}"] = layer.components_first(result.activations[name]).amax(2)
            return {k: v.detach().cpu().float() if v.dtype.is_floating_point else v.cpu() for k, v in arrays.items()}

        # A long batch in pieces: results do not depend on who is explained together.
        parts = [_halved(one, range(a, min(a + _AT_ONCE, len(x)))) for a in range(0, len(x), _AT_ONCE)]
        return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}

    def _attribution(
        self,
        made: Mapping[str, Any],
        ids: tuple[int, ...],
        goal: Target,
        chosen: Any,
        given: Sequence[str],
        *,
        recipe: str = "",
    ) -> Attribution:
        parts = {k.partition("|")[2]: v for k, v in made.items() if k.startswith("relevance|")}
        peaks = {k.partition("|")[2]: v for k, v in made.items() if k.startswith("activation|")}
        return Attribution(
            samples=ids,
            heatmap=made["heatmap"],
            target=made["target"],
            score=made["score"],
            gap=made["gap"],
            output=made["output"],
            relevance=parts,
            activation=peaks,
            given=tuple(given),
            rule=rule_name(chosen),
            target_text=str(goal),
            pictures=tuple(self._pictures[i] for i in ids) if recipe and self._pictures is not None else (),
            labels=tuple(self.model.class_name(int(t)) if t >= 0 else str(goal) for t in made["target"]),
            recipe=recipe,
            position=made.get("position"),
        )

    def _reference_heats(
        self,
        address: ComponentId,
        references: ReferenceSet,
        samples: list[int],
        progress: Progress,
        targets: Tensor | None = None,
    ) -> np.ndarray:
        """(ref, y, x) conditional maps of a component's references, as 8-bit numbers with a scale each."""
        if targets is None and references.target is not None:  # the strongest
            targets = references.target[references.index(address), : len(samples)]
        recipe = self._recipe(
            "reference_heats",
            layer=address.layer,
            params={
                "component": address.index,
                **({} if address.basis == "unit" else {"basis": self.model.layers.pinned(address).basis}),
                "by": references.by,
                "references": references.recipe,
                "samples": samples,
            },
            title=f"maps of the references of {address}",
        )

        def make() -> dict[str, Any]:
            progress.start(f"maps of {address}", len(samples))
            parts = []
            for first in range(0, len(samples), 8):
                ids = samples[first : first + 8]
                x = torch.stack([self.data.tensor(i) for i in ids])
                if targets is None:
                    result = explain(self.model, x, Target.component(address))
                else:
                    result = explain(self.model, x, Target.label(), given=[address], labels=targets[first : first + 8])
                parts.append(heat(result.relevance).cpu().float())
                progress.step(len(ids))
            maps = torch.cat(parts)
            scale = maps.abs().amax((1, 2)).clamp(min=1e-30) / 127
            return {"maps": (maps / scale[:, None, None]).round().to(torch.int8), "scale": scale}

        made = self.run(self.store.get_or_make, recipe, make)
        return (made["maps"].float() * made["scale"][:, None, None]).numpy()

    def _outside(self, x: Any) -> Tensor:
        if isinstance(x, (str, os.PathLike)):
            raise BadValueError("x is a picture or a tensor; got a path.", hint="Open it with PIL.Image.open(path).")
        if not isinstance(x, torch.Tensor):
            x = self.model.card.transform(as_image(x))
        shape = tuple(self.model.card.input_shape)
        x = x.unsqueeze(0) if x.ndim == len(shape) else x
        if x.ndim != len(shape) + 1 or x.shape[1] != shape[0] or len(x) == 0:
            raise ShapeError(
                f"The input has the shape {tuple(x.shape)}; {self.model.card.name} takes {shape}, or a batch of such."
            )
        if not bool(torch.isfinite(x).all()):
            raise BadValueError("The input holds NaN or infinity.")
        return x


def _finite(maps: Tensor, rule: Any) -> Tensor:
    """The maps, if they are numbers: rules with a small stabiliser let relevance grow beyond them in deep networks."""
    if not bool(torch.isfinite(maps).all()):
        raise NotFiniteError(
            f"The relevance by {rule_name(rule)} is not finite: it grows beyond all numbers on its way down.",
            hint='Use a rule that damps it, such as "EpsilonPlusFlat", or a larger epsilon.',
        )
    return maps


def _given(arrays: dict[str, Tensor]) -> Callable[[], dict[str, Tensor]]:
    return lambda: arrays


def _as_ids(sample: Any) -> Sequence[Any]:
    if sample is None:
        return ()
    is_many = isinstance(sample, (list, tuple, range)) or getattr(sample, "ndim", 0) > 0
    return list(sample) if is_many else [sample]


def _halved(one: Callable[[range], dict[str, Tensor]], rows: range) -> dict[str, Tensor]:
    """Explain a batch; where memory runs out, its halves."""
    try:
        return one(rows)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(rows) == 1:
            raise OutOfBudgetError(
                "A single sample does not fit into memory.", hint="Record fewer layers, or use another device."
            ) from error
        logger.warning("out of memory at %d samples: going on with %d", len(rows), (len(rows) + 1) // 2)
    at = (len(rows) + 1) // 2
    halves = [_halved(one, rows[:at]), _halved(one, rows[at:])]
    return {name: torch.cat([half[name] for half in halves]) for name in halves[0]}
