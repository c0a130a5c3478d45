"""What every test relies on: one thread, no network, strict widgets, a store of its own, shapes checked."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "workbench"
IS_WORKER = "PYTEST_XDIST_WORKER" in os.environ

# Before anything imports torch or a hub client. Two processes with two threads each on two cores are slower than one.
os.environ.update(
    OMP_NUM_THREADS="1",
    MKL_NUM_THREADS="1",
    OPENBLAS_NUM_THREADS="1",
    NUMBA_NUM_THREADS="1",
    HF_HUB_OFFLINE="1",
    TRANSFORMERS_OFFLINE="1",
    WORKBENCH_STRICT="1",
    JUPYTER_PLATFORM_DIRS="1",
)
# A run started in the background of a shell ignores Ctrl-C, and so would all its children; some tests press it.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_own_store = None
if not IS_WORKER:
    # WORKBENCH_TEST_STORE keeps the store between runs, with the trained toy model in it. Workers inherit the variable.
    kept = os.environ.get("WORKBENCH_TEST_STORE")
    _own_store = None if kept else Path(tempfile.mkdtemp(prefix="workbench-tests-"))
    os.environ["WORKBENCH_STORE"] = kept or str(_own_store)


def _shaped_modules() -> list[str]:
    """Modules of ours that write shapes in their signatures."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        if "workbench.core.axes import" in path.read_text(encoding="utf-8"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return found


try:
    import beartype  # noqa: F401
    from jaxtyping import install_import_hook
except ImportError:  # the shapes are then not checked; everything else is
    pass
else:
    install_import_hook(_shaped_modules(), "beartype.beartype")


def pytest_unconfigure() -> None:
    if _own_store is not None:
        shutil.rmtree(_own_store, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    import sys

    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)


@pytest.fixture(scope="session")
def chrome():
    """A headless Chromium for all tests of this run."""
    from workbench.testing.browser import browser

    with browser() as opened:
        yield opened


@pytest.fixture(scope="session")
def store_path() -> Path:
    """Folder of the store that all tests of this run share; the toy model is trained into it once."""
    return Path(os.environ["WORKBENCH_STORE"])


@pytest.fixture
def own_store(tmp_path, monkeypatch) -> Path:
    """Folder of a fresh store, for tests that count what is in it. The toy model's weights are lent to it."""
    path = tmp_path / "store"
    path.mkdir()
    lent = Path(os.environ["WORKBENCH_STORE"]) / "models"
    if lent.is_dir():
        (path / "models").symlink_to(lent, target_is_directory=True)
    monkeypatch.setenv("WORKBENCH_STORE", str(path))
    return path


@pytest.fixture(scope="session")
def extra_data() -> Path:
    """Folder of further real images (variable WORKBENCH_DATA); skips where there is none."""
    path = os.environ.get("WORKBENCH_DATA", "")
    if not path or not Path(path).is_dir():
        pytest.skip("WORKBENCH_DATA does not name a folder with further images")
    return Path(path)
