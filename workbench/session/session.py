"""Session: one model, one data set, one store and one lane; what cells, methods and widgets ask."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench.attribution.base import Target
from workbench.attribution.crp import GRADIENTS, concept_maps, explain, heat, rule_of
from workbench.attribution.lrp import rule_table
from workbench.attribution.rules import Composite, RuleTable
from workbench.core import check
from workbench.core.config import settings
from workbench.core.errors import BadValueError, DataError, IncompleteError, UnknownSampleError
from workbench.core.ids import ComponentId
from workbench.core.progress import Progress
from workbench.core.results import ActivationTable, Attribution, Edit, ReferenceSet
from workbench.data.base import Dataset
from workbench.models.handle import ModelHandle, choose_device
from workbench.models.layers import LayerTable
from workbench.session.lane import Job, Lane
from workbench.session.pictures import MODES, PictureCache, View, peak_tiles, views
from workbench.session.residency import residency
from workbench.session.selection import Selection
from workbench.session.shown import shown
from workbench.store import Store
from workbench.store.recipe import Recipe
from workbench.sweeps.plan import SweepPlan, chosen_samples, plan_sweep, rule_facts
from workbench.sweeps.references import class_statistics, top_references
from workbench.sweeps.run import run_sweep
from workbench.sweeps.tables import Pass, activation_table, find_pass, relevance_table

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.methods.base import Method

__all__ = ["Session", "open_session"]

logger = logging.getLogger(__name__)

_KEPT_REFERENCES = 40
_DEFAULT_RULE = "EpsilonPlusFlat"


def open_session(
    model: Any,
    data: Any = None,
    *,
    transform: Any = None,
    classes: Sequence[str] | None = None,
    store: Any = None,
    device: str = "auto",
    device_budget_gb: float | None = None,
) -> Session:
    """Open a session on a model and a data set.

    Parameters
    ----------
    model : str, nn.Module or callable
        A name (``"efficientnet_lite0"``, ``"toy-cnn"``, ``"torchvision:resnet18"``, ``"timm:…"``, ``"hub:…"``), a module, or a
        function without arguments that builds one. A module is copied and never changed.
    data : str, path or data set, optional
        A name (``"photos"``, ``"stamps"``, ``"toy"``, ``"torchvision:…"``), a folder or zip file of pictures, a torch ``Dataset``, or
        one of ours. Without data, pictures can still be handed to `Session.explain`.
    transform : callable, optional
        From a PIL picture to the model's input; default: the one that belongs to the model.
    classes : sequence of str, optional
        Names of the model's outputs; default: those that belong to the model.
    store : path or Store, optional
        Where results are kept; default: the user's cache folder, or ``WORKBENCH_STORE``.
    device : str
        ``auto`` is the GPU where there is one.
    device_budget_gb : float, optional
        Device memory for models, in 10^9 bytes; beyond it the least recently used model moves to host memory.

    Returns
    -------
    Session

    Examples
    --------
    >>> s = open_session("toy-cnn", data="toy")  # doctest: +SKIP
    """
    from workbench import data as data_module
    from workbench.models import zoo

    if device_budget_gb is not None:
        check.between("device_budget_gb", device_budget_gb, 0, 1e6, left_open=True)
    chosen = settings(device=device if device != "auto" else None)
    place = choose_device(chosen.device)
    module, card = zoo.build(model, transform=transform, classes=classes)
    handle = ModelHandle(module, card, device=place)
    pictures = None
    if data is not None:
        pictures = data_module.load(data)
        pictures = pictures.using(card.transform)
    opened = store if isinstance(store, Store) else Store.open(
        store if store is not None else chosen.store, disk_gb=chosen.store_gb, memory_gb=chosen.memory_gb
    )  # fmt: skip
    return Session(handle, pictures, opened, device_budget_gb=device_budget_gb)


class Session:
    """One model with one data set; everything shown is computed and kept here.

    Made by `open_session`. All work on the model runs on the session's lane, one job at a time.

    Attributes
    ----------
    model : ModelHandle
    data : Dataset or None
    store : Store
    selection : Selection
        The current component, sample, target and region, which widgets share.
    lane : Lane
    """

    def __init__(
        self,
        model: ModelHandle,
        data: Dataset | None,
        store: Store,
        *,
        device_budget_gb: float | None = None,
        name: str = "",
    ):
        self.model, self._data, self.store = model, data, store
        self.name = name or model.card.name
        self._device = model.device
        self._budget = None if device_budget_gb is None else int(device_budget_gb * 1e9)
        self.lane = Lane(self.name)
        self.selection = Selection(
            component=self._check_component, sample=self._check_sample, target=self._check_target
        )
        self._groups: dict[str, Selection] = {"": self.selection}
        self._pictures = PictureCache(data) if data is not None else None

    # --- what there is -------------------------------------------------------------------------------------------------

    @property
    def data(self) -> Dataset:
        """The data set.

        Raises
        ------
        DataError
            If the session was opened without one.
        """
        if self._data is None:
            raise DataError(
                "This session has no data.", hint='Open it with data, for example open_session(model, data="photos").'
            )
        return self._data

    @property
    def has_data(self) -> bool:
        """Whether the session was opened with a data set."""
        return self._data is not None

    @property
    def pictures(self) -> PictureCache:
        """Decoded pictures, as the model sees them."""
        self.data  # noqa: B018 - explains what is missing
        assert self._pictures is not None
        return self._pictures

    def layers(self) -> LayerTable:
        """All layers with shape and number of components."""
        return self.model.layers

    def class_names(self) -> tuple[str, ...]:
        """Names of the model's outputs; empty if they are unknown."""
        return self.model.classes

    def group(self, name: str) -> Selection:
        """The selection of a group of widgets; the empty name is the session's own."""
        if name not in self._groups:
            self._groups[name] = Selection(
                component=self._check_component, sample=self._check_sample, target=self._check_target
            )
        return self._groups[name]

    def rules(self, rule: Any = _DEFAULT_RULE) -> RuleTable:
        """Which module gets which rule, before anything runs; also which fall back to the plain gradient."""
        chosen = rule_of(rule)
        if not isinstance(chosen, Composite):
            raise BadValueError(f"There is no table of rules for {rule!r}.", hint="Give the name of a composite.")
        return self.run(rule_table, self.model, chosen)

    def __repr__(self) -> str:
        data = f"{len(self._data)} samples of {self._data.name}" if self._data is not None else "no data"
        return f"<session {self.model.fingerprint} on {self._device}, {data}>"

    # --- running -------------------------------------------------------------------------------------------------------

    def submit(self, fn: Callable[..., Any], *args: Any, topic: str | None = None, **kwargs: Any) -> Job:
        """Queue work on the session's lane; a newer job of the same topic replaces an older one."""
        return self.lane.submit(self._placed(fn), *args, topic=topic, title=getattr(fn, "__name__", "work"), **kwargs)

    def run(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do work on the lane and wait for it."""
        return self.lane.run(self._placed(fn), *args, title=getattr(fn, "__name__", "work"), **kwargs)

    def close(self) -> None:
        """Cancel what is left and free the model's memory. Results stay in the store."""
        self.lane.close(timeout=5.0)
        self.model.kept.clear()

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # --- sweeps and tables ---------------------------------------------------------------------------------------------

    def plan(
        self,
        layers: Any,
        *,
        relevance: bool = True,
        target: Any = None,
        rule: Any = None,
        samples: Any = None,
        batch: int | None = None,
    ) -> SweepPlan:
        """What a sweep would do and cost; see `sweep`."""
        chosen = rule_of(rule or _DEFAULT_RULE) if relevance else None
        if isinstance(chosen, str):
            raise BadValueError(
                f"A sweep needs relevance rules; {chosen!r} is a gradient method.",
                hint='For example rule="EpsilonPlusFlat".',
            )
        goal = Target.parse(target or Target.top())
        return self.run(
            plan_sweep, self.model, self.data, layers, rule=chosen, target=goal, samples=samples, batch=batch
        )

    def sweep(
        self,
        layers: Any,
        *,
        relevance: bool = True,
        target: Any = None,
        rule: Any = None,
        samples: Any = None,
        batch: int | None = None,
        progress: Progress | None = None,
    ) -> SweepPlan:
        """Walk the data once and keep activations, relevances and references of the layers.

        What is in the store is not computed again; an interrupted sweep goes on where it stopped.

        Parameters
        ----------
        layers : str or sequence of str
        relevance : bool
            Also collect relevances.
        target : Target or str
            What relevances explain. Default: each sample's largest output.
        rule : str, Composite or zennit composite
            Default: ``EpsilonPlusFlat``.
        samples : int, slice or sequence of int, optional
            A part of the data: a number of samples spread evenly, or ids. Tables say how much they cover.
        batch : int, optional
            Samples per pass; halved when memory runs out.
        progress : Progress, optional
            Default: a bar in notebooks and terminals, log lines elsewhere.

        Returns
        -------
        SweepPlan
            What was done.
        """
        planned = self.plan(layers, relevance=relevance, target=target, rule=rule, samples=samples, batch=batch)
        if not self._has_all(planned):
            self._run_shown(self._sweep, planned, progress=progress)
        return planned

    def _sweep(self, planned: SweepPlan, progress: Progress | None = None) -> None:
        shards = run_sweep(planned, self.model, self.data, self.store, progress=progress)
        found = Pass(shards, len(self.data))
        for layer in planned.layers:
            for by in ("activation", "relevance") if planned.rule is not None else ("activation",):
                self._references(found, layer, by, 1, _KEPT_REFERENCES, planned.rule, planned.target)

    def _has_all(self, planned: SweepPlan) -> bool:
        """Whether passes in the store hold every layer that is asked for, over the same samples."""
        samples = planned.samples if planned.is_subset else None
        kinds = ("activations",) if planned.rule is None else ("activations", "relevances")
        return all(
            (found := self._find(kind, layer, planned.rule, planned.target, samples)) is not None
            and found.shards.is_complete
            and (samples is not None or found.shards.n_samples == len(self.data))
            for layer in planned.layers
            for kind in kinds
        )

    def _find(
        self, kind: str, layer: str, rule: Any = None, target: Any = None, samples: np.ndarray | None = None
    ) -> Pass | None:
        return find_pass(
            self.store, kind, self.model.fingerprint, self.data.fingerprint, len(self.data), layer,
            rule=rule_of(rule or _DEFAULT_RULE), target=target or Target.top(), samples=samples,
        )  # fmt: skip

    def _found(self, kind: str, layer: str, rule: Any = None, target: Any = None) -> Pass:
        """The pass that holds a table; swept now if there is none."""
        self.model.layers.usable(layer)
        found = self._find(kind, layer, rule, target)
        if found is None:
            logger.info("%s of %s are not in the store: sweeping", kind, layer)
            self.sweep(layer, relevance=kind == "relevances", rule=rule, target=target)
            found = self._find(kind, layer, rule, target)
        if found is None:
            raise IncompleteError(f'No {kind} of "{layer}" are in the store.', hint=f'Run session.sweep("{layer}").')
        return found

    def activations(self, layer: str, *, pooling: str = "max") -> ActivationTable:
        """Pooled activations of a layer, (sample, component); swept first if need be."""
        return activation_table(self._found("activations", layer), self.model.layers.usable(layer), pooling)

    def relevances(self, layer: str, *, target: Any = None, rule: Any = None) -> ActivationTable:
        """Relevances of a layer summed over positions, (sample, component); swept first if need be."""
        chosen, goal = rule_of(rule or _DEFAULT_RULE), Target.parse(target or Target.top())
        found = self._found("relevances", layer, chosen, goal)
        return relevance_table(found, self.model.layers.usable(layer), rule=chosen, target=goal)

    def references(
        self,
        layer: str,
        by: str = "activation",
        k: int = 20,
        per_origin: int = 1,
        *,
        target: Any = None,
        rule: Any = None,
    ) -> ReferenceSet:
        """The samples that activate each component most, or on which it is most relevant.

        Parameters
        ----------
        by : {"activation", "relevance"}
        k : int
            References per component; slots beyond the data are empty (sample -1, value -inf).
        per_origin : int
            Most views per original picture; 0 for no limit.
        """
        check.one_of("by", by, ("activation", "relevance"))
        check.positive("k", k)
        if isinstance(per_origin, bool) or not isinstance(per_origin, int) or per_origin < 0:
            raise BadValueError(f"`per_origin` must be a whole number of at least 0; got {per_origin!r}.")
        chosen, goal = rule_of(rule or _DEFAULT_RULE), Target.parse(target or Target.top())
        found = self._found("activations" if by == "activation" else "relevances", layer, chosen, goal)
        return self._references(found, layer, by, per_origin, k, chosen, goal)

    def _references(
        self, found: Pass, layer: str, by: str, per_origin: int, k: int, rule: Any, target: Target
    ) -> ReferenceSet:
        kept = max(k, _KEPT_REFERENCES)
        one = self.model.layers.usable(layer)
        facts = rule_facts(rule, target) if by == "relevance" else {}
        recipe = Recipe(
            kind="references",
            model=self.model.fingerprint,
            data=self.data.fingerprint,
            layer=layer,
            params={"by": by, "k": kept, "per_origin": per_origin, "pass": found.shards.recipe.digest,
                    "coverage": round(found.coverage, 6), **facts},
            title=f"references of {layer} by {by}",
        )  # fmt: skip
        column = f"{layer}|max" if by == "activation" else f"{layer}|relevance"

        def make() -> dict[str, Any]:
            names = [column]
            blocks = ((b[column], b["sample"], b["is_valid"]) for b in found.blocks(names))
            ids, values = top_references(blocks, self.data.origins, kept, per_origin=per_origin)
            made = {"ids": ids.to(torch.int32), "values": values, "peak": torch.full(ids.shape, -1, dtype=torch.int32)}
            if by == "relevance":
                made["target"] = torch.full(ids.shape, -1, dtype=torch.int32)
            for block in found.blocks([f"{layer}|peak", *(["target"] if by == "relevance" else [])]):
                _fill_from(made, ids, block, layer)
            return made

        made = self.store.get_or_make(recipe, make)
        ids = made["ids"][:, :k].to(torch.int64)
        valid = found.whole("is_valid")
        return ReferenceSet(
            layer=layer,
            basis="unit",
            by=by,
            ids=ids,
            values=made["values"][:, :k],
            n_valid=(ids >= 0).sum(1),
            n_samples=int(valid.sum()),
            n_origins=len(np.unique(self.data.origins[valid.numpy()])),
            per_origin=per_origin,
            peak=made["peak"][:, :k],
            shape=one.position_shape,
            target=made["target"][:, :k].to(torch.int64) if "target" in made else None,
            target_text=str(target) if by == "relevance" else "",
            coverage=found.coverage,
            recipe=recipe.digest,
        )

    def class_statistics(self, layer: str, quantity: str = "relevance") -> tuple[Tensor, Tensor]:
        """Mean of a pooled quantity per class, and the number of samples of each.

        Relevances are grouped by the output that was explained, activations by the label of the data set.

        Returns
        -------
        mean : (class_, component) tensor, NaN for classes without samples
        count : (class_,) tensor
        """
        check.one_of("quantity", quantity, ("activation", "relevance"))
        is_relevance = quantity == "relevance"
        found = self._found("relevances" if is_relevance else "activations", layer)
        name = f"{layer}|{'relevance' if is_relevance else 'max'}"
        n = self.model.n_classes if is_relevance else int(self.data.labels.max()) + 1
        if n <= 0:
            raise BadValueError(
                f"{self.data.name} has no labels.", hint='Use quantity="relevance", grouped by prediction.'
            )
        labels = torch.from_numpy(self.data.labels)
        blocks = (
            (b[name], torch.where(b["is_valid"], b["target"] if is_relevance else labels[b["sample"]], -1))
            for b in found.blocks([name, *(["target"] if is_relevance else [])])
        )
        return class_statistics(blocks, n)

    # --- explaining ----------------------------------------------------------------------------------------------------

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
            Default: the largest output of each sample.
        given : addresses
            Only relevance that flows through these components: "or" within a layer, "and" across layers.
        record : layer names
            Layers whose relevances and activations are returned too.
        rule : str, Composite or zennit composite
            A composite, ``gradient``, ``input_x_gradient`` or ``integrated_gradients``.
        x : (sample, channel, y, x) tensor or PIL picture, optional
            Input from outside, instead of `sample`. Tensors are taken as they are, pictures pass through the transform.
        """
        goal, chosen = Target.parse(target or Target.top()), rule_of(rule or _DEFAULT_RULE)
        given = [
            str(self.model.layers.component(c)) for c in ([given] if isinstance(given, (str, ComponentId)) else given)
        ]
        record = [record] if isinstance(record, str) else list(record)
        if x is not None:
            batch, ids = self._outside(x), tuple(range(len(self._outside(x))))
            return self._attribution(
                self.run(self._explain, batch, goal, chosen, given, record, None), ids, goal, chosen, given
            )
        ids = tuple(
            self._check_sample(i) for i in ([sample] if isinstance(sample, (int, np.integer)) else sample or ())
        )
        if not ids:
            raise BadValueError("Say what to explain: a sample id, several, or x=….", hint="session.explain(14)")
        recipe = Recipe(
            kind="attribution",
            model=self.model.fingerprint,
            data=self.data.fingerprint,
            params={"samples": ids, "given": sorted(given), "record": sorted(record), "method": chosen if isinstance(chosen, str) else "",
                    **rule_facts(None if isinstance(chosen, str) else chosen, goal), "target": str(goal)},
            title=f"attribution of sample {ids[0]}" if len(ids) == 1 else f"attribution of {len(ids)} samples",
        )  # fmt: skip

        def make() -> dict[str, Any]:
            batch = torch.stack([self.data.tensor(i) for i in ids])
            return self._explain(batch, goal, chosen, given, record, self.data.labels[list(ids)])

        made = self.run(self.store.get_or_make, recipe, make)
        return self._attribution(made, ids, goal, chosen, given, recipe=recipe.digest)

    def _explain(
        self, x: Tensor, goal: Target, chosen: Any, given: Sequence[str], record: Sequence[str], labels: Any
    ) -> dict[str, Any]:
        result = explain(self.model, x, goal, rule=chosen, record=record, given=given, labels=labels)
        arrays: dict[str, Any] = {
            "heatmap": heat(result.relevance),
            "target": result.start.index,
            "score": result.start.score,
            "gap": result.gap,
            "output": result.output,
        }
        for name in record:
            layer = self.model.layers[name]
            arrays[f"relevance|{name}"] = layer.components_first(result.layers[name]).sum(2)
            arrays[f"activation|{name}"] = layer.components_first(result.activations[name]).amax(2)
        return {k: v.detach().cpu().float() if v.dtype.is_floating_point else v.cpu() for k, v in arrays.items()}

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
            rule=str(chosen),
            target_text=str(goal),
            pictures=tuple(self._pictures[i] for i in ids) if recipe and self._pictures is not None else (),
            labels=tuple(self.model.class_name(int(t)) if t >= 0 else str(goal) for t in made["target"]),
            recipe=recipe,
        )

    def concept_maps(self, sample: int, components: Sequence[str], *, target: Any = None, rule: Any = None) -> Tensor:
        """Conditional heatmaps of several components of one layer, (component, y, x), for one sample."""
        goal, chosen = Target.parse(target or Target.top()), rule_of(rule or _DEFAULT_RULE)
        sample = self._check_sample(sample)
        wanted = [str(self.model.layers.component(c)) for c in components]
        if not wanted:
            raise BadValueError("Name at least one component.", hint='For example ["layer4/unit/17"].')

        def recipe(component: str) -> Recipe:
            return Recipe(
                kind="concept_map", model=self.model.fingerprint, data=self.data.fingerprint, layer=component.split("/")[0],
                params={"sample": sample, "component": component, **rule_facts(chosen, goal)}, title=f"map of {component}",
            )  # fmt: skip

        def fill(progress: Progress | None = None) -> Tensor:
            found = {c: self.store.get(recipe(c)) for c in wanted}
            lacking = [c for c in dict.fromkeys(wanted) if found[c] is None]
            if lacking:
                x = self.data.tensor(sample).unsqueeze(0)
                maps, _, _ = concept_maps(
                    self.model, x, lacking, goal, rule=chosen, labels=self.data.labels[[sample]], progress=progress
                )
                for component, one in zip(lacking, maps.cpu().float(), strict=True):
                    found[component] = {"map": one}
                    self.store.put(recipe(component), {"map": one})
            return torch.stack([found[c]["map"] for c in wanted])  # type: ignore[index]

        return self.run(fill)

    def predict(self, sample: int, n: int = 5) -> list[tuple[int, str, float, float]]:
        """The `n` largest outputs of a sample: index, name, logit, probability (softmax over all outputs)."""
        sample = self._check_sample(sample)
        recipe = Recipe(
            kind="output",
            model=self.model.fingerprint,
            data=self.data.fingerprint,
            params={"sample": sample},
            title="output",
        )
        made = self.run(
            self.store.get_or_make,
            recipe,
            lambda: {"output": self.model(self.data.tensor(sample).unsqueeze(0)).cpu().float()},
        )
        logits = made["output"][0].flatten(1).amax(1) if made["output"].ndim > 2 else made["output"][0]
        chance = logits.softmax(0)
        best = logits.topk(min(n, len(logits))).indices.tolist()
        return [(i, self.model.class_name(i), float(logits[i]), float(chance[i])) for i in best]

    # --- methods and variants ------------------------------------------------------------------------------------------

    def fit(self, method: Method, *, progress: Progress | None = None) -> Any:
        """Fit a method, or load what an equal one learned before; returns the method."""
        params = method.params()
        recipe = Recipe(
            kind=f"method:{method.name}",
            model=self.model.fingerprint,
            data=self.data.fingerprint if self.has_data else "",
            layer=params.get("layer", "") if isinstance(params.get("layer"), str) else "",
            params={k: v for k, v in params.items() if k not in ("layer", "seed")},
            seed=params.get("seed"),
            result_version=method.result_version,
            title=repr(method),
        )
        stored = self.store.get(recipe)
        if stored is not None:
            method.restore(self, stored, self.store.meta(recipe).get("facts", {}))
        else:
            self._run_shown(self._fit, method, progress=progress)
            arrays, facts = method.state()
            self.store.put(recipe, arrays, meta={"facts": facts})
        method.session_ = self
        return method

    def _fit(self, method: Method, progress: Progress | None = None) -> None:
        method.fit(self)

    def variant(self, name: str, edits: Sequence[Edit]) -> Session:
        """A session on the model with edits; data and store are shared, this session stays as it is."""
        handle = self.run(self.model.variant, list(edits), name=f"{self.model.card.name}-{name}")
        budget = None if self._budget is None else self._budget / 1e9
        return Session(handle, self._data, self.store, device_budget_gb=budget, name=name)

    # --- pictures ------------------------------------------------------------------------------------------------------

    def thumbnails(self, samples: Sequence[int], size: int = 96) -> np.ndarray:
        """(sample, size, size, 3) uint8 pictures as the model sees them."""
        return self.pictures.thumbnails([self._check_sample(s) for s in samples], size)

    def peak_crops(self, layer: str, components: Sequence[int] | None = None, size: int = 64) -> np.ndarray:
        """(component, size, size, 3) uint8: each component's best reference, cut around its peak. No model run."""
        references = self.references(layer)
        chosen = (
            range(references.n_components) if components is None else [references.index(int(c)) for c in components]
        )
        return peak_tiles(self.pictures, references, list(chosen), size)

    def reference_views(
        self,
        component: str,
        by: str = "activation",
        n: int = 12,
        mode: str = "crop",
        size: int = 96,
        *,
        progress: Progress | None = None,
    ) -> list[View]:
        """References of a component, whole, cropped or masked by their conditional heatmaps (kept in the store).

        Maps of references by activation start at the component itself; those by relevance at the output that was
        explained, conditional on the component.
        """
        check.one_of("mode", mode, MODES)
        check.positive("n", n, at_most=256)
        address = self.model.layers.component(component)
        references = self.references(address.layer, by=by, k=max(n, _KEPT_REFERENCES if n <= _KEPT_REFERENCES else n))
        samples = references.of(address, n)
        heats = None if mode == "whole" or not samples else self._reference_heats(address, references, samples)
        return views(self.pictures, references, address, samples, heats, mode=mode, size=size)

    def _reference_heats(self, address: ComponentId, references: ReferenceSet, samples: list[int]) -> np.ndarray:
        """(ref, y, x) conditional maps of a component's references, as 8-bit numbers with a scale each."""
        row = references.index(address)
        targets = None if references.target is None else references.target[row, : len(samples)]
        recipe = Recipe(
            kind="reference_heats",
            model=self.model.fingerprint,
            data=self.data.fingerprint,
            layer=address.layer,
            params={
                "component": address.index,
                "by": references.by,
                "references": references.recipe,
                "samples": samples,
            },
            title=f"maps of the references of {address}",
        )

        def make() -> dict[str, Any]:
            parts = []
            for first in range(0, len(samples), 8):
                ids = samples[first : first + 8]
                x = torch.stack([self.data.tensor(i) for i in ids])
                if targets is None:
                    result = explain(self.model, x, Target.component(address))
                else:
                    result = explain(self.model, x, Target.label(), given=[address], labels=targets[first : first + 8])
                parts.append(heat(result.relevance).cpu().float())
            maps = torch.cat(parts)
            scale = maps.abs().amax((1, 2)).clamp(min=1e-30) / 127
            return {"maps": (maps / scale[:, None, None]).round().to(torch.int8), "scale": scale}

        made = self.run(self.store.get_or_make, recipe, make)
        return (made["maps"].float() * made["scale"][:, None, None]).numpy()

    # --- inside --------------------------------------------------------------------------------------------------------

    def _placed(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with the model on its device while it runs."""

        def work(*args: Any, **kwargs: Any) -> Any:
            with residency.using(self.model, self._device, self._budget):
                return fn(*args, **kwargs)

        work.__signature__ = _signature(fn)  # type: ignore[attr-defined]  # the lane looks for a `progress` parameter
        return work

    def _run_shown(self, fn: Callable[..., Any], *args: Any, progress: Progress | None) -> Any:
        """Run on the lane, with a progress bar where someone can see it."""
        if self.lane.is_current or progress is not None:
            return self.run(fn, *args, **({} if progress is None else {"progress": progress}))

        def work(progress: Any) -> Any:
            with shown(progress):
                return fn(*args, progress=progress)

        return self.lane.run(self._placed(work), title=fn.__name__.strip("_"))

    def _outside(self, x: Any) -> Tensor:
        if not isinstance(x, torch.Tensor):
            x = self.model.card.transform(x)
        x = x.unsqueeze(0) if x.ndim == len(self.model.card.input_shape) else x
        if not bool(torch.isfinite(x).all()):
            raise BadValueError("The input holds NaN or infinity.")
        return x

    def _check_component(self, value: Any) -> str:
        return str(self.model.layers.component(value))

    def _check_sample(self, value: Any) -> int:
        n = len(self.data)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value < n:
            raise UnknownSampleError(f"No sample {value!r} in {self.data.name}.", hint=f"It has {n}, from 0.")
        return int(value)

    def _check_target(self, value: Any) -> str:
        target = Target.parse(value)
        if target.kind in ("logit", "difference") and max(target.args) >= self.model.n_classes:
            raise BadValueError(
                f"The target {target} does not exist: the model has {self.model.n_classes} outputs, from 0."
            )
        return str(target)


def _signature(fn: Callable[..., Any]) -> Any:
    import inspect

    try:
        return inspect.signature(fn)
    except (TypeError, ValueError):
        return inspect.Signature()


def _fill_from(made: dict[str, Any], ids: Tensor, block: Mapping[str, Tensor], layer: str) -> None:
    """Look up peaks and targets of references among the samples of one block."""
    rows = torch.full((int(block["sample"].max()) + 1,), -1, dtype=torch.int64)
    rows[block["sample"]] = torch.arange(len(block["sample"]))
    inside = (ids >= 0) & (ids < len(rows))
    row = torch.where(inside, rows[ids.clamp(0, len(rows) - 1)], -1)
    component, slot = (row >= 0).nonzero(as_tuple=True)
    at = row[component, slot]
    made["peak"][component, slot] = block[f"{layer}|peak"][at, component]
    if "target" in made:
        made["target"][component, slot] = block["target"][at].to(torch.int32)
