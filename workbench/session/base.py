"""What every part of a session stands on: model, data, store, selections, and the lane that all work runs on."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.attribution.base import Target
from workbench.core.errors import BadValueError, DataError, UnknownSampleError
from workbench.core.labels import as_outputs, explainable
from workbench.core.progress import Progress, SilentProgress
from workbench.session.journal import PinBook
from workbench.session.lane import Job, JobFacts, Lane, current_job
from workbench.session.memory import memory_of
from workbench.session.notes import ComponentNotes
from workbench.session.pictures import PictureCache
from workbench.session.residency import residency
from workbench.session.selection import Selection
from workbench.session.shown import shown
from workbench.session.tags import StoredTags
from workbench.store.recipe import Recipe

if TYPE_CHECKING:
    from types import TracebackType

    from workbench.data.base import Dataset
    from workbench.models.handle import ModelHandle
    from workbench.models.layers import LayerTable
    from workbench.store import Store

__all__ = ["SessionBase"]


class SessionBase:
    """Holds what a session has, checks what it is asked for, and runs the work. See `Session`."""

    def __init__(
        self,
        model: ModelHandle,
        data: Dataset | None,
        store: Store,
        *,
        device_budget_gb: float | None = None,
        name: str = "",
        opened_by: str = "",
    ):
        self.model, self.store = model, store
        self._data = data = None if data is None else data.tagged_in(StoredTags(store))
        self.name = name or model.card.name
        self._device = model.device
        self._budget = None if device_budget_gb is None else int(device_budget_gb * 1e9)
        self.lane = Lane(self.name)
        self.opened_by = opened_by
        self.journal = PinBook(store, self._journal_names, self.digests)
        self.notes = ComponentNotes(store, lambda: self.model.fingerprint, self._check_component)
        self.selection = self._new_selection()
        self._groups: dict[str, Selection] = {"": self.selection}
        self._pictures = PictureCache(data) if data is not None else None

    # --- what there is -----------------------------------------------------------------------------------------------

    @property
    def data(self) -> Dataset:
        """The data set; its tags are kept in the session's store.

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

    def digests(self) -> dict[str, str]:
        """What views and findings made here are traced to: fingerprints of model and data, by name."""
        found = {"model": str(self.model.fingerprint)}
        if self._data is not None:
            found["data"] = str(self._data.fingerprint)
        return found

    def _journal_names(self) -> tuple[str, str]:
        """What the pins of this session lie under."""
        data = "none" if self._data is None else self._data.fingerprint.digest
        return data, self.model.fingerprint.digest

    @property
    def pictures(self) -> PictureCache:
        """Decoded pictures, as the model sees them."""
        self.data  # noqa: B018 - explains what is missing
        assert self._pictures is not None
        return self._pictures

    @property
    def progress(self) -> Progress:
        """Where the work that asks reports to: its job's progress, or a silent one outside of jobs."""
        job = current_job()
        return SilentProgress() if job is None else job.progress

    def layers(self) -> LayerTable:
        """All layers with shape and number of components."""
        return self.model.layers

    def class_names(self) -> tuple[str, ...]:
        """Names of the model's outputs; empty if they are unknown."""
        return self.model.classes

    def label_outputs(self, samples: Any = None) -> np.ndarray:
        """The number of the output that each sample's label names.

        By the names of the data's classes and of the model's outputs, where they have some in common; else by number.

        Parameters
        ----------
        samples : (sample,) int array, optional
            Default: all.

        Returns
        -------
        (sample,) int64 array
            -1 where the label is unknown or names none. Of a single output, which is no class, the labels as they are.
        """
        labels = self.data.labels if samples is None else self.data.labels[np.asarray(samples, dtype=np.int64)]
        return as_outputs(labels, self.data.classes, self.class_names(), self.model.n_classes)

    def group(self, name: str) -> Selection:
        """The selection of a group of widgets; the empty name is the session's own."""
        if name not in self._groups:
            self._groups[name] = self._new_selection()
        return self._groups[name]

    # --- running -----------------------------------------------------------------------------------------------------

    def submit(
        self, fn: Callable[..., Any], *args: Any, topic: str | None = None, title: str = "", **kwargs: Any
    ) -> Job:
        """Queue work on the session's lane; a newer job of the same topic replaces an older one."""
        title = title or getattr(fn, "__name__", "work")
        return self.lane.submit(self._placed(fn), *args, topic=topic, title=title, **kwargs)

    def run(self, fn: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Do work on the lane and wait for it."""
        return self.lane.run(self._placed(fn), *args, title=getattr(fn, "__name__", "work"), **kwargs)

    def jobs(self) -> tuple[JobFacts, ...]:
        """What runs on the session's lane, what waits, and what has ended, newest first."""
        return self.lane.facts()

    def on_jobs(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener()` when a job begins, steps or ends; returns a function that ends it.

        It is called on the threads that work, often, and must return at once; `jobs` tells what there is.
        """
        return self.lane.listen(listener)

    def cancel(self, number: int) -> bool:
        """Cancel a running or waiting job by its number; whether there was one."""
        return self.lane.cancel(number)

    def memory(self) -> dict[str, dict[str, Any]]:
        """What is used of which memory: the store's tiers, the host, and the device, where that is known.

        Returns
        -------
        dict of str to dict
            By tier: ``bytes``, ``budget_bytes`` (None where there is no limit), and of the store's tiers also ``hits``,
            ``misses``, ``evictions`` and ``entries``.
        """
        return {**self.store.stats(), **memory_of(self._device, self._budget)}

    def close(self) -> None:
        """Cancel what is left and free the model's memory. Results stay in the store."""
        self.lane.close(timeout=5.0)
        self.model.kept.clear()

    def __enter__(self) -> Any:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # --- inside ------------------------------------------------------------------------------------------------------

    def _placed(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with the model on its device while it runs."""

        def work(*args: Any, **kwargs: Any) -> Any:
            with residency.using(self.model, self._device, self._budget):
                return fn(*args, **kwargs)

        work.__signature__ = _signature(fn)  # type: ignore[attr-defined]  # the lane looks for a `progress` parameter
        return work

    def _run_shown(self, fn: Callable[..., Any], *args: Any, progress: Progress | None) -> Any:
        """Run on the lane and show how far it is: to `progress`, else in a bar where someone can see it."""
        if self.lane.is_current:
            return self.run(fn, *args, **({} if progress is None else {"progress": progress}))
        outer = current_job()
        if outer is not None and (progress is None or progress is outer.progress):
            return self.run(fn, *args)  # whoever waits shows how far it is, since the lane lends its progress
        given = progress

        def work(progress: Any) -> Any:
            with shown(progress, given):
                return fn(*args, progress=progress)

        return self.lane.run(self._placed(work), title=fn.__name__.strip("_"))

    def _explainable(self, samples: Any) -> np.ndarray:
        """The outputs that the target ``label`` explains; a single output belongs to no label."""
        labels = self.data.labels[np.asarray(samples, dtype=np.int64)]
        return explainable(labels, self.data.classes, self.class_names(), self.model.n_classes)

    def _decides(self) -> bool:
        """Whether the model decides: among several outputs, or by the sign of one whose known labels are 0 and 1."""
        if self.model.is_dense:
            return False
        if self.model.n_classes > 1:
            return True
        known = set(np.unique(self.data.labels).tolist()) - {-1}
        return bool(known) and known <= {0, 1}

    def _recipe(self, kind: str, **facts: Any) -> Recipe:
        """A recipe for this model and this data."""
        model: Any = self.model.fingerprint  # recipes read the whole digest from fingerprints
        data: Any = self.data.fingerprint if self.has_data else ""
        return Recipe(kind=kind, model=model, data=data, **facts)

    def _new_selection(self) -> Selection:
        return Selection(
            component=self._check_component,
            sample=self._check_sample,
            target=self._check_target,
            tables=lambda: self._table_digests,
        )

    @cached_property
    def _table_digests(self) -> dict[str, str]:
        """Digest of each table that sets of components or samples are counted in."""
        found = {}
        for name, layer in self.model.layers.items():
            facts = f"{self.model.fingerprint.digest}/{name}/unit/{layer.n_components}"
            found[f"{name}/unit/"] = hashlib.blake2b(facts.encode(), digest_size=8).hexdigest()
        if self._data is not None:
            found["sample"] = self._data.fingerprint.digest[:16]
        return found

    def _check_component(self, value: Any) -> str:
        return str(self.model.layers.component(value))

    def _check_sample(self, value: Any) -> int:
        if not isinstance(value, (int, float, str, np.generic)):
            if getattr(value, "ndim", None) != 0:
                raise BadValueError(
                    f"A sample is the number of one in the data; got {type(value).__name__}.",
                    hint="A picture or a tensor from outside is handed over as x=....",
                )
            value = value.item()  # as it stands in a tensor of ids
        n = len(self.data)
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or not 0 <= value < n:
            raise UnknownSampleError(f"No sample {value!r} in {self.data.name}.", hint=f"It has {n}, from 0.")
        return int(value)

    def _check_target(self, value: Any) -> str:
        target = Target.parse(value).resolved(self.model)
        if target.kind == "component":
            self._check_component(target.args[0])
        target.check(self.model.output_shape)
        return str(target)


def _signature(fn: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(fn)
    except (TypeError, ValueError):
        return inspect.Signature()
