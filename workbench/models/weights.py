"""Weights from files and caches, read without running anything, and the one function that downloads."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from workbench.core.errors import MissingPackageError, ModelError

__all__ = [
    "RANDOM",
    "absent",
    "download",
    "hub_folder",
    "hugging_face_file",
    "imagenet_classes",
    "load_into",
    "need",
    "parts",
    "read_weights",
    "seeded",
    "torch_hub_file",
]

logger = logging.getLogger(__name__)

RANDOM = "Random weights: good for tests and for speed, not for meaning."
"""What the card of a model with random weights says."""

# How training scripts wrap a state dict, and what wrappers put before each name.
_WRAPPERS = ("state_dict", "model_state_dict", "model", "state_dict_ema", "module")
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.")
_HUGGING_FACE_FILES = ("model.safetensors", "pytorch_model.bin", "open_clip_model.safetensors")


def need(package: str, what: str, *, install: str = "") -> None:
    """Raise `MissingPackageError` unless `package` is installed; `what` says who needs it."""
    if find_spec(package) is None:
        command = install or f"pip install {package}"
        raise MissingPackageError(f"{what} needs the package {package}, which is not installed.", hint=f"{command}.")


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Read a state dict from a .safetensors file or a torch file, the latter with ``weights_only=True``.

    A dict such as ``{"state_dict": …}`` is unwrapped, and prefixes such as ``module.`` are taken off.

    Raises
    ------
    ModelError
        If there is no such file, or it holds something else than tensors by name.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise ModelError(f'There is no file "{path}".', hint="Give the path of a .safetensors, .pt or .pth file.")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # damaged archives and refused pickles raise a dozen different things
        raise ModelError(
            f'The weights in "{path}" cannot be read: {_reason(error)}',
            hint="Only plain state dicts are read, since a pickled model could run anything: save one with "
            "torch.save(model.state_dict(), path), or with safetensors.",
        ) from error
    return _unwrapped(content, path)


def _reason(error: Exception) -> str:
    """The first line of an error. What torch says of pickles ends in the advice to run them, which is left out."""
    text = str(error).splitlines()[0] if str(error) else repr(error)
    return "it is damaged, or holds pickled objects." if text.startswith("Weights only load failed") else text


def _unwrapped(content: Any, path: Path) -> dict[str, Tensor]:
    for name in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    state = {k: v for k, v in content.items() if isinstance(v, Tensor)} if isinstance(content, Mapping) else {}
    if not state:
        raise ModelError(f'"{path}" holds no tensors by name.', hint="Save the model's state_dict().")
    return state


def load_into(module: nn.Module, state: Mapping[str, Tensor], *, what: str, source: str) -> None:
    """Put weights into a module, all of them or none.

    Raises
    ------
    ModelError
        If names or shapes differ; a few of them are named.
    """
    own = module.state_dict()
    for prefix in _PREFIXES:
        if state and all(k.startswith(prefix) for k in state) and not all(k.startswith(prefix) for k in own):
            state = {k.removeprefix(prefix): v for k, v in state.items()}
    missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
    unexpected = [k for k in state if k not in own]
    misfits = [
        f"{k} {tuple(state[k].shape)}, not {tuple(own[k].shape)}"
        for k in own
        if k in state and state[k].shape != own[k].shape
    ]
    problems = [
        f"{len(names)} {text} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for names, text in ((missing, "missing"), (unexpected, "unexpected"), (misfits, "of another shape"))
        if names
    ]
    if problems:
        raise ModelError(
            f"The weights of {source} do not belong to {what}: {'; '.join(problems)}.",
            hint="Check the architecture's name, or build the module yourself and pass it.",
        )
    module.load_state_dict(state, strict=False)


def imagenet_classes() -> tuple[str, ...]:
    """Names of the 1000 ImageNet classes, in the usual order."""
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    return tuple(_IMAGENET_CATEGORIES)


def torch_hub_file(url: str) -> Path:
    """Where torch keeps the file of this address, whether or not it is there."""
    return Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name


def hugging_face_file(repo: str, *names: str) -> Path | None:
    """Find a file of a Hugging Face repository (``owner/name`` or ``owner/name@revision``) in the local cache."""
    need("huggingface_hub", f"hf-hub:{repo}")
    from huggingface_hub import try_to_load_from_cache

    repo, _, revision = repo.partition("@")
    for name in names or _HUGGING_FACE_FILES:
        found = try_to_load_from_cache(repo, name, revision=revision or None)
        if isinstance(found, str):
            return Path(found)
    return None


def parts(rest: str) -> tuple[str, str, bool]:
    """Read ``name[:random][@file]``: the name, the file or an empty text, and whether weights are random."""
    name, _, path = rest.partition("@")
    is_random = name.endswith(":random")
    name = name.removesuffix(":random")
    if is_random and path:
        raise ModelError(f'"{rest}" asks for random weights and for a file.', hint="Leave one of them out.")
    return name, path, is_random


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    """Build with weights that depend on nothing but the architecture, and leave the caller's generator alone."""
    with torch.inference_mode(False), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return make()


def absent(spec: str, facts: str, place: str) -> ModelError:
    """Say that weights are not on this machine, what they would cost, and what else can be done."""
    what = "repository" if spec.startswith("hub:") else "weights"
    return ModelError(
        f"The {what} of {spec} ({facts}) {'is' if what == 'repository' else 'are'} not on this machine; "
        f"looked in {place}.",
        hint=f'To fetch: from workbench.models.zoo import download; download("{spec}"). '
        f'Offline: {_offline(spec)}, or the model "efficientnet_lite0", which a package brings.',
    )


def _offline(spec: str) -> str:
    """What to write instead of a name when there is no network."""
    if spec.startswith("hub:"):
        return f'"hub:/path:{spec.rpartition(":")[2]}" for a clone of the repository'
    if spec.startswith("hf-hub:"):
        return '"local-dir:/path" for a folder with its config.json and weights'
    return f'"{spec}@/path/file" for a local file, "{spec}:random" for random weights'


def hub_folder(repo: str) -> Path | None:
    """Find the folder with the hubconf.py of a path or of ``owner/repo[:branch]`` in torch's cache; None if absent.

    Raises
    ------
    ModelError
        If `repo` can only be a folder, and there is no hubconf.py in it.
    """
    local = Path(repo).expanduser()
    if (local / "hubconf.py").is_file():
        return local
    name, _, branch = repo.partition(":")
    for tried in [branch] if branch else ["main", "master"]:
        cached = Path(torch.hub.get_dir()) / "_".join([*name.split("/"), tried.replace("/", "_")])
        if (cached / "hubconf.py").is_file():
            return cached
    if repo.count("/") != 1 or repo.startswith((".", "/", "~")):
        raise ModelError(f'There is no hubconf.py in "{repo}".', hint="Give the folder of a repository that has one.")
    return None


def download(spec: str) -> Path:
    """Download the weights of a named model into the cache of its library; size and licence are logged first.

    Nothing else in the package downloads weights. Building a model whose weights are absent names this function.

    Parameters
    ----------
    spec : str
        ``torchvision:resnet18``, ``timm:resnet18``, ``hf-hub:owner/name``, or ``hub:owner/repo:entry``. The last one
        fetches the repository's code, which runs when the model is built: do it for repositories you trust.

    Returns
    -------
    Path
        The file, or for ``hub:`` the folder.

    Raises
    ------
    ModelError
        If the name has nothing to download, or the network cannot be reached.
    """
    from workbench.models import zoo_timm, zoo_torchvision

    scheme, _, rest = spec.partition(":")
    try:
        if scheme == "torchvision":
            weights = zoo_torchvision.torchvision_weights(rest)
            logger.info("Downloading %s: %s", spec, zoo_torchvision.torchvision_facts(weights))
            state_file = torch_hub_file(weights.url)
            state_file.parent.mkdir(parents=True, exist_ok=True)
            digest = state_file.stem.rpartition("-")[2]
            torch.hub.download_url_to_file(weights.url, str(state_file), hash_prefix=digest, progress=False)
            return state_file
        if scheme in ("timm", "hf-hub"):
            return _from_hugging_face(spec, zoo_timm.timm_repository(rest) if scheme == "timm" else rest)
        if scheme == "hub" and rest.count("/") == 1 and not rest.startswith(("/", ".", "~")):
            repo = rest.rpartition(":")[0]
            logger.info("Downloading the repository %s: it has its own licence, and its code runs when built.", repo)
            torch.hub.list(repo, trust_repo=True, skip_validation=True, verbose=False)
            return hub_folder(repo) or Path(torch.hub.get_dir())
    except (OSError, RuntimeError) as error:
        raise ModelError(
            f"{spec} cannot be downloaded: {error}",
            hint=f"Without network: {_offline(spec)}.",
        ) from error
    raise ModelError(
        f'There is nothing to download for "{spec}".', hint="torchvision:, timm:, hf-hub: and hub:owner/repo: can be."
    )


def _from_hugging_face(spec: str, repo: str) -> Path:
    need("huggingface_hub", spec)
    from huggingface_hub import HfApi, hf_hub_download

    repo, _, revision = repo.partition("@")
    facts = HfApi().model_info(repo, revision=revision or None, files_metadata=True)
    sizes = {f.rfilename: f.size or 0 for f in facts.siblings or ()}
    name = next((n for n in _HUGGING_FACE_FILES if n in sizes), None)
    if name is None:
        raise ModelError(f"{repo} has none of {', '.join(_HUGGING_FACE_FILES)}.")
    licence = getattr(facts.card_data, "license", None) or "not stated"
    logger.info("Downloading %s: %.1f MB, licence %s", spec, sizes[name] / 1e6, licence)
    if "config.json" in sizes:
        hf_hub_download(repo, "config.json", revision=revision or None)
    return Path(hf_hub_download(repo, name, revision=revision or None))
