"""The store: a recipe says exactly how an array came to be, the store maps recipes to arrays. Imports no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.store.base import Entry, Store
    from workbench.store.disk import DiskStore
    from workbench.store.memory import MemoryStore
    from workbench.store.recipe import Recipe
    from workbench.store.shardset import ShardSet
    from workbench.store.tiered import TieredStore

__all__ = ["DiskStore", "Entry", "MemoryStore", "Recipe", "ShardSet", "Store", "TieredStore"]

_HOME = {
    "DiskStore": "disk",
    "Entry": "base",
    "MemoryStore": "memory",
    "Recipe": "recipe",
    "ShardSet": "shardset",
    "Store": "base",
    "TieredStore": "tiered",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        from importlib import import_module

        return getattr(import_module(f"workbench.store.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
