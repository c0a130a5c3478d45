"""Facts about this machine for `workbench doctor`: versions, devices, what is missing and what to install."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["gather", "lines"]

# Groups of optional packages in pyproject.toml, and what they are for.
_EXTRAS = {
    "": "needed",
    "demo": "the tour: real weights, maps of concepts, JupyterLab",
    "photos": 'data="photos"',
    "clip": "search by text with CLIP",
    "text": "language models",
    "browser-test": "browser tests",
}
_IF_NOT_INSTALLED = ["torch", "torchvision", "zennit", "numpy", "safetensors", "filelock", "platformdirs", "tqdm"]
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_STAMPS = Path("/usr/share/tuxpaint/stamps")


def gather() -> dict[str, Any]:
    """Look around, and return JSON-ready facts. ``missing`` lists what is not there; ``is_needed`` tells how bad it is.

    Imports torch, which takes some seconds.
    """
    import workbench

    missing: list[dict[str, Any]] = []
    packages = _packages(missing)
    facts: dict[str, Any] = {
        "workbench": workbench.__version__,
        "place": str(Path(workbench.__file__).parent),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": {"usable": _usable_cores(), "all": os.cpu_count()},
        "memory_bytes": _memory_bytes(),
        "packages": packages,
        "torch": _torch(missing),
        "browser": _browser(missing),
        "settings": {k: v for k, v in sorted(os.environ.items()) if k.startswith("WORKBENCH_")},
        "plugins": sorted(
            f"{e.name} ({e.group.removeprefix('workbench.')}, {e.value})"
            for group in metadata.entry_points().groups
            if group.startswith("workbench.")
            for e in metadata.entry_points(group=group)
        ),
    }
    if not _STAMPS.is_dir():
        how = "apt install tuxpaint-stamps-default" if shutil.which("apt") else "Debian's tuxpaint-stamps-default"
        missing.append({"what": str(_STAMPS), "for": 'data="stamps"', "how": how, "is_needed": False})
    return {**facts, "missing": missing}


def lines(facts: Mapping[str, Any]) -> Iterator[str]:
    """The facts as text for people, and for a bug report."""
    torch, cores = facts["torch"], facts["cores"]
    yield f"workbench {facts['workbench']} on Python {facts['python']}, {facts['platform']}"
    yield f"Place     {facts['place']}"
    memory = f", {facts['memory_bytes'] / 1e9:.0f} GB of memory" if facts["memory_bytes"] else ""
    yield f"Machine   {cores['usable']} of {cores['all']} cores usable{memory}"
    if torch:
        yield f"Torch     {torch['version']}, {torch['threads']} threads, imported in {torch['seconds']:.1f} s"
        yield f"Devices   {', '.join(torch['devices'])}"
    yield f"Browser   {facts['browser'] or 'none found'}"
    yield from (f"Setting   {name}={value}" for name, value in facts["settings"].items())
    yield from (f"Plugin    {plugin}" for plugin in facts["plugins"])
    yield "Packages  " + ", ".join(f"{name} {version}" for name, version in facts["packages"].items())
    for is_needed, title in ((True, "MISSING, and needed"), (False, "Not here, and only needed for what is named")):
        if found := [m for m in facts["missing"] if m["is_needed"] is is_needed]:
            yield title
            for one in found:
                yield f"  {one['what']}: {one['for']}. {one['how']}"
    if not any(m["is_needed"] for m in facts["missing"]):
        yield "All that is needed is here."


def _packages(missing: list[dict[str, Any]]) -> dict[str, str]:
    """Versions of the packages that ours names; those absent or too old go to `missing`."""
    try:
        required = [r for r in metadata.requires("workbench") or () if not r.startswith("workbench")]
    except metadata.PackageNotFoundError:  # run from its folder
        required = list(_IF_NOT_INSTALLED)
    versions: dict[str, str] = {}
    for text in required:
        name = re.match(r"[\w.\-]+", text)[0]  # type: ignore[index]
        extra = re.search(r"extra\s*==\s*['\"]([\w\-]+)", text)
        group = extra[1] if extra else ""
        if group not in _EXTRAS:
            continue
        how = f'pip install "workbench[{group}]"' if group else f'pip install "{text.partition(";")[0].strip()}"'
        fact = {"what": name, "for": _EXTRAS[group], "how": how, "is_needed": not group}
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(fact)
            continue
        lowest = re.search(r">=\s*([\w.]+)", text)
        if lowest and _number(versions[name]) < _number(lowest[1]):
            missing.append({**fact, "what": f"{name} {versions[name]} is older than {lowest[1]}"})
    return dict(sorted(versions.items()))


def _torch(missing: list[dict[str, Any]]) -> dict[str, Any] | None:
    if find_spec("torch") is None:
        return None  # named among the packages
    start = time.perf_counter()
    try:
        import torch
        import torchvision  # noqa: F401 - a torchvision that does not fit fails here
    except Exception as error:  # broken binaries raise all sorts of things
        how = "Install torch and torchvision of one release: pip install --force-reinstall torch torchvision"
        missing.append({"what": f"torch ({error})", "for": "needed", "how": how, "is_needed": True})
        return None
    seconds = time.perf_counter() - start
    devices = ["cpu"]
    if torch.cuda.is_available():
        for i in range(torch.cuda.device_count()):
            facts = torch.cuda.get_device_properties(i)
            devices.append(f"cuda:{i} {facts.name}, {facts.total_memory / 1e9:.0f} GB")
    elif torch.version.cuda:
        devices.append(f"no CUDA device for this build (CUDA {torch.version.cuda})")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return {
        "version": torch.__version__,
        "threads": torch.get_num_threads(),
        "devices": devices,
        "seconds": round(seconds, 2),
    }


def _browser(missing: list[dict[str, Any]]) -> str | None:
    path = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        how = "apt install chromium" if shutil.which("apt") else "Install Chromium."
        missing.append({"what": "chromium", "for": "browser tests", "how": how, "is_needed": False})
        return None
    try:
        told = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=20, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as error:
        told = f"does not answer: {error}"
    return f"{told.strip()} ({path})"


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_bytes() -> int | None:
    if sys.platform == "win32":
        return None
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (ValueError, OSError):
        return None


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(n) for n in re.findall(r"\d+", version)[:3])
