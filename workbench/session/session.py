"""Session: one model, one data set, one store and one lane; what cells, methods and widgets ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.attribution.crp import rule_of
from workbench.attribution.lrp import rule_table
from workbench.attribution.rules import Composite, RuleTable
from workbench.core import check
from workbench.core.config import settings
from workbench.core.edits import Edits
from workbench.core.errors import BadValueError, ModelError
from workbench.core.results import DirectionSet
from workbench.models.device import choose_device
from workbench.models.handle import ModelHandle
from workbench.session.comparing import Comparing
from workbench.session.tables import DEFAULT_RULE
from workbench.store import Store
from workbench.store.recipe import Recipe

if TYPE_CHECKING:
    from workbench.core.progress import Progress
    from workbench.methods.base import Method

__all__ = ["Session", "open_session"]


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
        A name (``"efficientnet_lite0"``, ``"toy-cnn"``, ``"torchvision:resnet18"``, ``"timm:…"``, ``"hub:…"``), a
        module, or a function without arguments that builds one, or one and its `Card`. A module is copied and never
        changed.
    data : str, path or data set, optional
        A name (``"photos"``, ``"stamps"``, ``"toy"``, ``"birds"``, ``"torchvision:…"``), a folder or zip file of
        pictures, a torch ``Dataset``, or one of ours. Without data, pictures can still be handed to `Session.explain`.
    transform : callable, optional
        From a PIL picture to the model's input; default: the one that `data` was made with, if it is one of our data
        sets with a transform of its own, else the one that belongs to the model.
    classes : sequence of str, optional
        Names of the model's outputs, one for each; default: those that belong to the model.
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
    pictures = None if data is None else data_module.load(data)
    given_transform = transform
    if transform is None and pictures is not None and pictures.has_own_transform:
        transform = pictures.transform
    if isinstance(classes, str):
        raise BadValueError("`classes` is one text; a list of names is needed.", hint=f"classes=[{classes!r}, ...]")
    module, card = zoo.build(model, transform=transform, classes=classes)
    if pictures is not None and pictures.brings_transform and zoo.is_guessed(card):
        card = zoo.with_transform(card, pictures.transform)
    pictures = None if pictures is None else pictures.using(card.transform)
    # Ready inputs need not have the size that the transform makes, and the shapes of layers follow from them.
    made_by_transform = card.input_shape
    if pictures is not None and pictures.input_shape:
        card = replace(card, input_shape=pictures.input_shape)
    try:
        handle = ModelHandle(module, card, device=place)
    except ModelError as error:
        if card.input_shape == made_by_transform:
            raise
        assert pictures is not None
        raise ModelError(
            f"{error.message} It is the shape that {pictures.name} gives; the transform gives {made_by_transform}.",
            hint="Ready float inputs don't pass through the transform: let the data set give what the model takes.",
        ) from error
    if classes is not None and len(classes) != handle.n_classes:
        raise BadValueError(
            f"`classes` names {len(classes)}; {card.name} has {handle.n_classes} outputs.",
            hint="Give one name for each output, in their order, or none.",
        )
    opened = store if isinstance(store, Store) else Store.open(
        store if store is not None else chosen.store, disk_gb=chosen.store_gb, memory_gb=chosen.memory_gb
    )  # fmt: skip
    call = _call_of(
        model,
        data=data,
        transform=given_transform,
        classes=classes,
        store=store,
        device=None if device == "auto" else device,
        device_budget_gb=device_budget_gb,
    )
    return Session(handle, pictures, opened, device_budget_gb=device_budget_gb, opened_by=call)


class Session(Comparing):
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
    journal : PinBook
        What was pinned of this model and data; `workbench.widgets.Journal` shows it.
    notes : ComponentNotes
        Labels and notes that people gave to the model's components.
    decisions : DecisionBook
        What reviewers said of `findings`; `workbench.widgets.AuditPanel` asks for it.
    opened_by : str
        The call that opened it, for notebooks made from pins. What has no plain text in it stands by its keyword.
    """

    def rules(self, rule: Any = DEFAULT_RULE) -> RuleTable:
        """Which module gets which rule, before anything runs; also which fall back to the plain gradient."""
        chosen = rule_of(rule)
        if not isinstance(chosen, Composite):
            raise BadValueError(f"There is no table of rules for {rule!r}.", hint="Give the name of a composite.")
        return self.run(rule_table, self.model, chosen)

    def fit(self, method: Method, *, progress: Progress | None = None) -> Any:
        """Fit a method, or load what an equal one learned before; returns the method.

        Raises
        ------
        BadValueError
            If it is no method: the class itself, say, or a name.
        """
        from workbench.methods.base import Method

        if not isinstance(method, Method):
            name = method.__name__ if isinstance(method, type) else ""
            raise BadValueError(
                f"{name or type(method).__name__} is {'a class' if name else 'no method'}; a fit needs a method.",
                hint=f"Make one first, for example session.fit(workbench.methods.{name or 'ConceptAtlas'}(layer)).",
            )
        recipe = self._recipe_of(method)
        learned: list[Mapping[str, Any]] = []

        def make() -> tuple[dict[str, Any], dict[str, Any]]:
            method.fit(self)
            arrays, facts = method.state()
            learned.append(facts)
            return arrays, {"facts": facts}

        def fit(progress: Progress | None = None) -> Any:
            # On the lane, so that two fits of one method never wait for each other's lane and lock crosswise.
            return self.store.get_or_make(recipe, make)

        stored = self.store.get(recipe)
        if stored is None:
            stored = self._run_shown(fit, progress=progress)
        if not learned:
            method.restore(self, stored, (self.store.meta(recipe) or {}).get("facts", {}))
        method.session_ = self
        found = getattr(method, "directions_", None)
        if isinstance(found, DirectionSet):
            self.add_directions(found)
        return method

    def has_fitted(self, method: Method) -> bool:
        """Whether what `fit` of this method gives is in the store already."""
        return self._recipe_of(method) in self.store

    def preview(self, method: Method, *, progress: Progress | None = None) -> Any:
        """A first look at what a method will learn, quick and not kept, where it offers one.

        Raises
        ------
        BadValueError
            If the method has no `preview`.
        """
        look = getattr(method, "preview", None)
        if look is None:
            raise BadValueError(f"{type(method).__name__} offers no preview.", hint="Use `session.fit`.")

        def preview(progress: Progress | None = None) -> Any:
            return look(self)

        return self._run_shown(preview, progress=progress)

    def _recipe_of(self, method: Method) -> Recipe:
        """The recipe of what a method learns here, which names how much of the data its tables cover."""
        params = method.recipe_params(self)
        layer = params.get("layer")
        extent: dict[str, Any] = {}
        if isinstance(layer, str) and self.has_data:
            self.model.layers.usable(layer)
            for kind in ("activations", "relevances"):
                found = self._find(kind, layer) if kind in method.needs else None
                if found is not None and found.extent != "all":
                    extent[kind] = found.extent
        return self._recipe(
            f"method:{method.name}",
            layer=layer if isinstance(layer, str) else "",
            params={k: v for k, v in params.items() if k not in ("layer", "seed")} | {"extent": extent},
            seed=params.get("seed"),
            result_version=method.result_version,
            title=repr(method),
        )

    def variant(self, name: str, edits: Any) -> Session:
        """A session on the model with edits; data and store are shared, this session stays as it is.

        `variants` names it for as long as it is open and someone holds it.

        Parameters
        ----------
        name : str
        edits : sequence of Edit, or fitted correction

        Raises
        ------
        BadValueError
            If these are no edits, or the correction is not fitted.
        """
        handle = self.run(self.model.variant, list(Edits.of(edits)), name=f"{self.model.card.name}-{name}")
        budget = None if self._budget is None else self._budget / 1e9
        call = f"{self.opened_by}.variant({name!r}, edits)" if self.opened_by else ""
        made = Session(handle, self._data, self.store, device_budget_gb=budget, name=name, opened_by=call)
        made._directions = self._directions  # as the variant's model has them: to see what an edit does to them
        made._listed_in = self._variants
        self._variants.add(name, made)
        return made

    def __repr__(self) -> str:
        data = f"{len(self._data)} samples of {self._data.name}" if self._data is not None else "no data"
        return f"<session {self.model.fingerprint} on {self._device}, {data}>"


def _call_of(model: Any, **given: Any) -> str:
    """The call of `open_session` as text; things that are not plain values stand by their names."""
    parts = [repr(model) if isinstance(model, str) else "model"]
    for name, value in given.items():
        if name == "store" and getattr(value, "path", None) is not None:
            value = value.path
        if isinstance(value, Path):
            value = str(value)
        if isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(one, str) for one in value):
            value = list(value)
        if value is not None:
            parts.append(f"{name}={value!r}" if isinstance(value, (str, int, float, list)) else f"{name}={name}")
    return f"wb.open_session({', '.join(parts)})"
