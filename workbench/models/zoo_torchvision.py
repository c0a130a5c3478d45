"""torchvision's models: pretrained from the local cache, from a file, or with random weights."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workbench.core.errors import UnknownNameError, nearest
from workbench.data.transforms import Transform
from workbench.models.card import Card
from workbench.models.weights import RANDOM, absent, load_into, parts, read_weights, seeded, torch_hub_file

__all__ = ["torchvision_facts", "torchvision_model", "torchvision_weights"]


def torchvision_weights(name: str) -> Any:
    """Give the weights record of ``resnet18`` (the default ones) or ``resnet50.IMAGENET1K_V1``."""
    from torchvision.models import get_model_weights, list_models

    name, _, tag = name.partition(".")
    if name not in list_models():
        raise UnknownNameError(f'torchvision has no model "{name}".', hint=nearest(name, list_models()))
    options = get_model_weights(name)
    if tag and tag not in options.__members__:
        raise UnknownNameError(
            f'torchvision has no weights "{tag}" for {name}.', hint=f"There are {', '.join(options.__members__)}."
        )
    return options[tag or "DEFAULT"]


def torchvision_facts(weights: Any) -> str:
    """Size and licence of a weights record, in words."""
    size = weights.meta.get("_file_size")
    licence = weights.meta.get("license", "BSD-3-Clause (torchvision); the training data have terms of their own")
    return f"{f'{size:.1f} MB' if size else 'size not stated'}, licence {licence}"


def torchvision_model(spec: str, rest: str) -> tuple[nn.Module, Card]:
    """Build ``torchvision:NAME``, ``NAME:random`` or ``NAME@file``."""
    from torchvision.models import get_model, get_model_builder

    name, path, is_random = parts(rest)
    weights = torchvision_weights(name)
    base = name.partition(".")[0]
    options: dict[str, Any] = {"init_weights": True} if base in ("googlenet", "inception_v3") else {}
    if "weights_backbone" in inspect.signature(get_model_builder(base)).parameters:
        options["weights_backbone"] = None  # else a backbone is downloaded unasked
    classes, notes, source = tuple(weights.meta.get("categories", ())), "", "torchvision"
    if is_random:
        model, notes = seeded(lambda: get_model(base, weights=None, **options)), RANDOM
    else:
        file = Path(path) if path else torch_hub_file(weights.url)
        if not path and not file.is_file():
            raise absent(spec, torchvision_facts(weights), str(file))
        state, source = read_weights(file), f"file {file.name}"
        n_classes = _head_size(lambda: get_model(base, weights=None, **options), state)
        if n_classes is not None:
            options, classes = {**options, "num_classes": n_classes}, ()
        model = seeded(lambda: get_model(base, weights=None, **options))
        load_into(model, state, what=spec, source=str(file))
    card = Card(
        name=f"torchvision:{name}" + ("@" + Path(path).name if path else "") + (":random" if is_random else ""),
        transform=_from_preset(weights.transforms()),
        classes=classes,
        licence="" if path else torchvision_facts(weights).partition("licence ")[2],
        origin=source,
        notes=notes,
    )
    return model, card


def _head_size(make: Callable[[], nn.Module], state: dict[str, Tensor]) -> int | None:
    """Read the number of classes from a file's last layer, where it is not the usual one."""
    with torch.device("meta"):
        usual = list(make().state_dict().items())
    key, value = usual[-1]
    found = [v for k, v in state.items() if k == key or k.endswith("." + key)]
    return len(found[0]) if found and found[0].ndim == value.ndim and found[0].shape != value.shape else None


def _from_preset(preset: Any) -> Transform:
    """Write torchvision's preset as a transform of ours; others are wrapped."""
    if type(preset).__name__ != "ImageClassification":
        return Transform.wrap(preset)
    return Transform(
        size=preset.crop_size[0] if isinstance(preset.crop_size, list) else preset.crop_size,
        resize_short=preset.resize_size[0] if isinstance(preset.resize_size, list) else preset.resize_size,
        interpolation=preset.interpolation.value,
        mean=tuple(preset.mean),
        std=tuple(preset.std),
    )
