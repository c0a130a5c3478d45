"""Freed memory goes back to the system."""

import subprocess
import sys

import pytest

# In a process of its own: one that has run other tests has holes, into which new blocks go without any growth.
HELD_AND_FREED = """
from pathlib import Path
from workbench.sweeps.freed import give_back

def resident_mb():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6

blocks = [bytes(60_000) for _ in range(2000)]  # below the size for which the allocator asks the system itself
kept = blocks[::20]
full = resident_mb()
del blocks
give_back()
print(full - resident_mb(), len(kept))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_what_was_freed_between_living_blocks_is_given_back():
    done = subprocess.run([sys.executable, "-c", HELD_AND_FREED], capture_output=True, text=True, check=True)
    freed, n_kept = done.stdout.split()
    assert float(freed) > 60, "120 MB were held, a twentieth of them lives on"
    assert int(n_kept) == 100
