"""Keeping the weights of networks that are trained here: once per recipe, whoever asks, and only whole files."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from workbench.core.config import settings

__all__ = ["kept_path", "kept_weights"]

logger = logging.getLogger(__name__)

# Weights of this process, for the case that the store cannot be written.
_kept: dict[str, dict[str, Tensor]] = {}
_lock = threading.Lock()


def kept_path(name: str, recipe: Mapping[str, Any]) -> Path:
    """Say where the weights of a recipe are kept: a file of the store, named by the digest of the recipe."""
    digest = hashlib.blake2b(json.dumps(recipe, sort_keys=True).encode(), digest_size=8).hexdigest()
    return settings().store / "models" / f"{name}-{digest}.safetensors"


def kept_weights(
    name: str,
    recipe: Mapping[str, Any],
    *,
    train: Callable[[], dict[str, Tensor]],
    fits: Callable[[dict[str, Tensor]], Any],
) -> dict[str, Tensor]:
    """Give the weights of a recipe: from the store, or trained now and kept there.

    Two threads or processes that ask at the same time train once. Where the store cannot be written, the weights last
    as long as the process.

    Parameters
    ----------
    name : str
        What the file and the messages call the network.
    recipe : mapping
        Everything that the weights depend on; plain enough for JSON.
    train : callable
        Makes the weights. What it raises, a cancellation for example, is passed on, and nothing is kept.
    fits : callable
        Raises RuntimeError if the weights are not those of this network; a damaged file is then made anew.
    """
    from filelock import FileLock

    path = kept_path(name, recipe)
    with _lock:
        if (found := _load(path, name, fits)) is not None:
            return found
        if path.name in _kept:
            return _kept[path.name]
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(path.with_suffix(".lock")):  # a second process waits here and then finds the file
                if (found := _load(path, name, fits)) is not None:
                    return found
                weights = train()
                _kept[path.name] = weights  # a full disk must not cost the training
                _save(path, weights, recipe)
        except OSError as error:
            logger.warning("The weights of %s cannot be kept in %s: %s", name, path.parent, error)
            if path.name not in _kept:
                _kept[path.name] = train()
            return _kept[path.name]
        return _kept.pop(path.name)


def _load(path: Path, name: str, fits: Callable[[dict[str, Tensor]], Any]) -> dict[str, Tensor] | None:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not path.is_file():
        return None
    try:
        weights = load_file(path)
        fits(weights)
    except (OSError, SafetensorError, RuntimeError) as error:
        logger.warning("The weights of %s in %s are damaged and are made anew: %s", name, path.name, error)
        return None
    return weights


def _save(path: Path, weights: dict[str, Tensor], recipe: Mapping[str, Any]) -> None:
    from safetensors.torch import save

    content = save(weights, metadata={"recipe": json.dumps(recipe, sort_keys=True)})
    partial = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
