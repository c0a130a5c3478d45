"""How much memory the process and its device use, as far as the system says."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

__all__ = ["memory_of"]


def memory_of(device: Any, budget_bytes: int | None = None) -> dict[str, dict[str, Any]]:
    """Bytes used and to be had: of the host, and of the device if it has memory of its own.

    Parameters
    ----------
    device : torch.device
    budget_bytes : int, optional
        What models may take on the device; default: all it has.

    Returns
    -------
    dict
        ``host`` is what this process keeps in memory, of all the machine has; ``device`` what torch holds there. What
        the system does not say is left out.
    """
    found: dict[str, dict[str, Any]] = {}
    used = _resident()
    if used is not None:
        found["host"] = {"bytes": used, "budget_bytes": _physical()}
    kind = getattr(device, "type", "cpu")
    torch = sys.modules.get("torch")
    if torch is not None and kind == "cuda":
        total = int(torch.cuda.get_device_properties(device).total_memory)
        found["device"] = {
            "bytes": int(torch.cuda.memory_reserved(device)),
            "budget_bytes": total if budget_bytes is None else min(total, budget_bytes),
        }
    elif torch is not None and kind == "mps":
        most = getattr(torch.mps, "recommended_max_memory", lambda: None)()
        found["device"] = {
            "bytes": int(torch.mps.driver_allocated_memory()),
            "budget_bytes": most if budget_bytes is None else budget_bytes,
        }
    return found


def _resident() -> int | None:
    """Bytes that this process has in memory now; elsewhere than on Linux the most it ever had."""
    with suppress(OSError, ValueError, IndexError):
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    with suppress(ImportError):
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return int(peak) * (1 if sys.platform == "darwin" else 1024)
    return None


def _physical() -> int | None:
    """Bytes of memory that the machine has, or that its container allows."""
    limits = []
    with suppress(OSError, ValueError):
        limits.append(int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    with suppress(AttributeError, ValueError, OSError):
        limits.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(limits, default=None)
