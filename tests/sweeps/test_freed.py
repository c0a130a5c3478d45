"""Freed memory goes back to the system."""

import sys
from pathlib import Path

import pytest

from workbench.sweeps.freed import give_back


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_was_freed_between_living_blocks_is_given_back():
    blocks = [bytes(60_000) for _ in range(2000)]  # below the size for which the allocator asks the system itself
    kept = blocks[::20]
    full = resident_mb()
    del blocks
    give_back()
    assert full - resident_mb() > 60, "120 MB were held, a twentieth of them lives on"
    assert len(kept) == 100
