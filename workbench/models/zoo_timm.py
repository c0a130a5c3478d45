"""timm's models: pretrained from the local caches, from a file or folder, or with random weights."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from torch import nn

from workbench.core.errors import ModelError, UnknownNameError, nearest
from workbench.data.transforms import Transform
from workbench.models.card import Card
from workbench.models.weights import (
    RANDOM,
    absent,
    hugging_face_file,
    imagenet_classes,
    load_into,
    need,
    parts,
    read_weights,
    seeded,
    torch_hub_file,
)

__all__ = ["timm_card", "timm_folder", "timm_model", "timm_repository"]


def timm_repository(name: str) -> str:
    """Name the Hugging Face repository that holds the weights of one of timm's models."""
    cfg = _cfg(name)
    if not cfg.hf_hub_id:
        raise ModelError(f"timm states no repository for {name}.", hint="Use a local file: timm:NAME@/path/file.")
    return cfg.hf_hub_id


def _cfg(name: str) -> Any:
    need("timm", f"timm:{name}")
    import timm

    base = name.partition(".")[0]
    if not timm.is_model(base):
        raise UnknownNameError(f'timm has no model "{base}".', hint=nearest(base, timm.list_models()))
    cfg = timm.models.get_pretrained_cfg(name, allow_unregistered=False) if name in _tagged(base) else None
    if cfg is None and "." in name:
        known = [t for t in _tagged(base) if t != base]
        raise UnknownNameError(f'timm has no weights "{name}".', hint=f"There are {', '.join(known) or 'none'}.")
    return cfg if cfg is not None else timm.models.PretrainedCfg()


def _tagged(base: str) -> list[str]:
    import timm

    return [base, *timm.list_pretrained(f"{base}.*")]


def timm_model(spec: str, rest: str) -> tuple[nn.Module, Card]:
    """Build ``timm:NAME``, ``NAME:random`` or ``NAME@file``."""
    name, path, is_random = parts(rest)
    cfg = _cfg(name)
    import timm

    if is_random:
        model, notes, origin = seeded(lambda: timm.create_model(name, pretrained=False)), RANDOM, "timm"
    else:
        file = Path(path) if path else _file(cfg)
        if file is None:
            repo = cfg.hf_hub_id or cfg.url or "no known place"
            raise absent(spec, f"licence {cfg.license or 'not stated'}", f"the Hugging Face cache ({repo})")
        notes, origin = "", f"file {file.name}" if path else f"timm, {cfg.hf_hub_id or file.name}"
        model = _loaded(name, file, cfg, spec)
    shown = f"timm:{name}" + ("@" + Path(path).name if path else "") + (":random" if is_random else "")
    return model, timm_card(model, shown, notes=notes, origin=origin, licence="" if path else cfg.license or "")


def _file(cfg: Any) -> Path | None:
    if cfg.hf_hub_id:
        names = [cfg.hf_hub_filename] if cfg.hf_hub_filename else []
        if (found := hugging_face_file(cfg.hf_hub_id, *names)) is not None:
            return found
    if cfg.url and (file := torch_hub_file(cfg.url)).is_file():
        return file
    return None


def _loaded(name: str, file: Path, cfg: Any, spec: str) -> nn.Module:
    import timm

    if file.suffix == ".npz":  # the first vision transformers; timm reads arrays only
        return timm.create_model(name, pretrained=True, pretrained_cfg_overlay={"file": str(file)})
    state = read_weights(file)
    head = cfg.classifier if isinstance(cfg.classifier, str) else ""
    rows = [v for k, v in state.items() if head and k.endswith(f"{head}.weight")]
    n_classes = len(rows[0]) - (cfg.label_offset or 0) if rows else cfg.num_classes
    model = seeded(lambda: timm.create_model(name, pretrained=False, num_classes=n_classes))
    if set(state) == set(model.state_dict()) or all(k.startswith("module.") for k in state):
        load_into(model, state, what=spec, source=str(file))
        return model
    try:  # older files have other names, which timm knows how to change
        overlay = {"state_dict": state, "num_classes": n_classes}
        return timm.create_model(name, pretrained=True, num_classes=n_classes, pretrained_cfg_overlay=overlay)
    except (RuntimeError, KeyError, AttributeError) as error:
        load_into(model, state, what=spec, source=str(file))
        raise ModelError(f"The weights of {file} do not belong to {spec}.") from error


def timm_card(model: nn.Module, name: str, *, notes: str, origin: str = "", licence: str = "") -> Card:
    """Describe one of timm's models from the configuration that it carries."""
    from timm.data import resolve_data_config

    cfg = model.pretrained_cfg
    data = resolve_data_config({}, model=model)
    return Card(
        name=name,
        transform=_from_timm(data),
        classes=_classes(model, cfg),
        licence=licence or cfg.get("license") or "",
        origin=origin or cfg.get("hf_hub_id") or "",
        notes=notes,
    )


def _from_timm(data: dict[str, Any]) -> Transform:
    """Write timm's data configuration as a transform of ours, where it says the same."""
    channels, height, width = data["input_size"]
    crops = {"center": "center", "squash": "squash"}
    is_whole = data["crop_mode"] == "center" or data["crop_pct"] == 1
    if data["crop_mode"] in crops and is_whole and channels in (1, 3) and height == width:
        return Transform(
            size=(height, width),
            resize_short=math.floor(height / data["crop_pct"]),
            crop=crops[data["crop_mode"]],
            interpolation=data["interpolation"],
            mean=tuple(data["mean"]),
            std=tuple(data["std"]),
            channels=channels,
        )
    from timm.data import create_transform

    return Transform.wrap(create_transform(**data, is_training=False))


def _classes(model: nn.Module, cfg: dict[str, Any]) -> tuple[str, ...]:
    n = getattr(model, "num_classes", 0)
    if cfg.get("label_names") and len(cfg["label_names"]) == n:
        return tuple(cfg["label_names"])
    if n == 1000:
        return imagenet_classes()
    from timm.data import ImageNetInfo, infer_imagenet_subset

    subset = infer_imagenet_subset(model)
    if not subset:
        return ()
    info = ImageNetInfo(subset)
    return tuple(info.index_to_description(i) for i in range(info.num_classes()))


def timm_folder(spec: str, rest: str) -> tuple[nn.Module, Card]:
    """Build ``hf-hub:owner/name`` from the local cache, or ``local-dir:/path``; both hold a config.json of timm's."""
    need("timm", spec)
    import timm

    folder = Path(rest).expanduser()
    if spec.startswith("hf-hub:"):
        config, weights = hugging_face_file(rest, "config.json"), hugging_face_file(rest)
        if config is None or weights is None:
            raise absent(spec, "size and licence as its page states", "the Hugging Face cache")
        folder = config.parent
    if not (folder / "config.json").is_file():
        raise ModelError(
            f'There is no "{folder / "config.json"}".', hint="timm's save_for_hf(model, folder) makes one."
        )
    try:
        model = timm.create_model(f"local-dir:{folder}", pretrained=True)
    except Exception as error:
        raise ModelError(f"{spec} cannot be built: {error}") from error
    return model, timm_card(model, spec, notes="", origin=spec)
