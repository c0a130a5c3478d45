"""One registry class, and the registries of methods, models, data sets, widgets and figures."""

from __future__ import annotations

import importlib
import pkgutil
import threading
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from workbench.core.errors import BadValueError, UnknownNameError, nearest

__all__ = ["DATA", "FIGURES", "METHODS", "MODELS", "WIDGETS", "Registry"]

T = TypeVar("T")


class Registry(Generic[T]):
    """Names and what they stand for, with near-miss help and entry points of other packages.

    Parameters
    ----------
    kind : str
        What is registered, in the singular: ``method``, ``widget``.
    group : str, optional
        Entry-point group in which other packages announce theirs. They are listed by name and loaded when first used;
        one that fails to load is named in a warning and skipped.
    modules : tuple of str
        Modules of ours that register something, imported when the registry is first read; ``package.*`` means all
        modules inside a package, so that a new file is found by itself.
    """

    def __init__(self, kind: str, *, group: str = "", modules: tuple[str, ...] = ()):
        self.kind, self.group, self.modules = kind, group, modules
        self._items: dict[str, T] = {}
        self._facts: dict[str, dict[str, Any]] = {}
        self._entries: dict[str, EntryPoint] | None = None
        self._is_filled, self._is_filling = not modules, False
        self._lock = threading.RLock()

    def register(self, name: str, item: T | None = None, **facts: Any) -> Any:
        """Register `item`, or decorate a class or function with the name.

        Raises
        ------
        BadValueError
            If the name already stands for something else.
        """

        def add(thing: T) -> T:
            old = self._items.get(name)
            # A reloaded module registers the same class anew: that replaces it and is no clash.
            if old is not None and _home(old) != _home(thing):
                raise BadValueError(f'The {self.kind} "{name}" is registered already, by {_home(old)}.')
            self._items[name] = thing
            self._facts[name] = facts
            return thing

        return add if item is None else add(item)

    def __getitem__(self, name: str) -> T:
        self._fill()
        if name in self._items:
            return self._items[name]
        if name in self._announced():
            return self._load(name)
        raise UnknownNameError(
            f'No {self.kind} "{name}".', hint=f"{nearest(name, self)} There are {len(list(self))}: {', '.join(self)}."
        )

    def __contains__(self, name: object) -> bool:
        self._fill()
        return name in self._items or name in self._announced()

    def __iter__(self) -> Iterator[str]:
        self._fill()
        return iter(sorted({*self._items, *self._announced()}))

    def facts(self, name: str) -> dict[str, Any]:
        """What was stated at registration: source, roles, costs."""
        self[name]
        return dict(self._facts.get(name, {}))

    def stating(self, test: Callable[[dict[str, Any]], bool]) -> str | None:
        """The first name whose facts pass `test`: among what is there, then among the plugins, one by one.

        Plugins state their facts when they are loaded. None is loaded where something that is there passes, and none
        behind the first that does; broken ones are skipped with a warning, which each gives once.
        """
        self._fill()
        for name in sorted(self._items):
            if test(self._facts.get(name, {})):
                return name
        for name in sorted({*self._announced()} - {*self._items}):
            try:
                facts = self.facts(name)
            except UnknownNameError:
                continue
            if test(facts):
                return name
        return None

    def where(self, test: Callable[[T], bool]) -> dict[str, T]:
        """Everything registered that passes `test`, by name; broken plugins are skipped with a warning."""
        found = {}
        for name in self:
            try:
                item = self[name]
            except UnknownNameError:
                continue
            if test(item):
                found[name] = item
        return found

    def _fill(self) -> None:
        if self._is_filled:
            return
        with self._lock:  # whoever asks meanwhile, from another thread, waits until all are there
            if self._is_filled or self._is_filling:
                return
            self._is_filling = True
            try:
                for module in self.modules:
                    package = importlib.import_module(module.removesuffix(".*"))
                    if module.endswith(".*"):
                        for found in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
                            importlib.import_module(found.name)
            finally:
                self._is_filling = False
            self._is_filled = True

    def _announced(self) -> dict[str, EntryPoint]:
        if self._entries is None:
            self._entries = {e.name: e for e in entry_points(group=self.group)} if self.group else {}
        return self._entries

    def _load(self, name: str) -> T:
        entry = self._announced()[name]
        try:
            item = entry.load()
        except Exception as error:  # a plugin may fail in any way; the house must stand
            self._announced().pop(name, None)
            warnings.warn(
                f'The {self.kind} "{name}" of {entry.value} cannot be loaded and is skipped: {error}', stacklevel=3
            )
            raise UnknownNameError(f'The {self.kind} "{name}" cannot be loaded: {error}') from error
        self._items.setdefault(name, item)
        return self._items[name]


def _home(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '?')}.{getattr(thing, '__qualname__', thing)}"


METHODS: Registry[Any] = Registry("method", group="workbench.methods", modules=("workbench.methods.*",))
MODELS: Registry[Any] = Registry("model", group="workbench.models", modules=("workbench.models.zoo",))
DATA: Registry[Any] = Registry("data set", group="workbench.data", modules=("workbench.data",))
WIDGETS: Registry[Any] = Registry("widget", group="workbench.widgets", modules=("workbench.widgets.*",))
FIGURES: Registry[Any] = Registry("figure", group="workbench.figures", modules=("workbench.figures",))
