"""One frozen record of settings: from arguments, else from `WORKBENCH_*` variables, else the defaults."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from workbench.core.errors import BadValueError

__all__ = ["Settings", "settings"]


@dataclass(frozen=True)
class Settings:
    """What the user may decide for the whole process.

    Attributes
    ----------
    store : Path
        Folder of the store. Variable ``WORKBENCH_STORE``.
    store_gb, memory_gb : float
        Budgets of the disk and of the memory tier, in 10^9 bytes.
    device : str
        ``auto``, ``cpu``, ``cuda``, ``cuda:1``, ``mps``.
    strict : bool
        Re-raise errors of widget handlers in the caller; tests always do.
    still : str
        ``separate``, ``bundle`` or ``none``: how stills accompany live widgets.
    still_wait_s : float
        How long displaying waits for what a still shows; 0 for readers, more for notebooks executed for their pages.
    ask_s : float
        Seconds that a sweep may take which a widget needs and nobody asked for; before a longer one the widget asks.
    data : Path or None
        Folder with further images for tests and benchmarks.
    """

    store: Path
    store_gb: float = 20.0
    memory_gb: float = 1.0
    device: str = "auto"
    strict: bool = False
    still: str = "separate"
    still_wait_s: float = 0.0
    ask_s: float = 60.0
    data: Path | None = None


def settings(**given: Any) -> Settings:
    """Make the settings: `given` first, then the environment, then the defaults.

    Raises
    ------
    BadValueError
        If a variable cannot be read as what it should be, or an unknown setting is given.
    """
    import platformdirs

    names = {f.name for f in fields(Settings)}
    if unknown := sorted(set(given) - names):
        raise BadValueError(f"No setting {', '.join(unknown)}.", hint=f"There are {', '.join(sorted(names))}.")
    values: dict[str, Any] = {"store": platformdirs.user_cache_path("workbench")}
    for name in names:
        text = os.environ.get(f"WORKBENCH_{name.upper()}")
        if text:
            values[name] = _read(name, text)
    values.update({k: v for k, v in given.items() if v is not None})
    if not isinstance(values["store"], (str, os.PathLike)):
        raise BadValueError(
            f"A store is a folder; got {type(values['store']).__name__}.", hint="Name a path, or an open Store."
        )
    values["store"] = Path(values["store"]).expanduser()
    return Settings(**values)


_GIGABYTES = "It is a number of gigabytes, such as 20."
_HINTS = {
    "store_gb": _GIGABYTES,
    "memory_gb": _GIGABYTES,
    "still_wait_s": "It is a number of seconds, such as 60; 0 does not wait.",
    "ask_s": "It is a number of seconds, such as 60.",
    "still": "It is separate, bundle or none.",
    "strict": "It is true or false.",
}
"""What those settings are that not every text can be read as."""


def _read(name: str, text: str) -> Any:
    try:
        if name in ("store_gb", "memory_gb", "still_wait_s", "ask_s"):
            number = float(text)
            if not 0 <= number < float("inf"):
                raise ValueError(text)
            return number
        if name == "still" and text not in ("separate", "bundle", "none"):
            raise ValueError(text)
        if name == "strict":
            return {"1": True, "true": True, "0": False, "false": False}[text.lower()]
        return Path(text) if name in ("store", "data") else text
    except (ValueError, KeyError) as error:
        raise BadValueError(
            f"WORKBENCH_{name.upper()} is {text!r}, which cannot be read.", hint=_HINTS[name]
        ) from error
