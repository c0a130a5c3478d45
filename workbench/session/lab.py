"""Starts JupyterLab on the tour, for this machine only, and stops it again."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from importlib.util import find_spec
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

from workbench.core.errors import BadValueError, DataError, MissingPackageError, WorkbenchError

__all__ = ["TOUR", "Lab"]

TOUR = "00_tour.ipynb"

_START_S = 120.0  # the first start on a slow disk compiles many modules
_STOP_S = 10.0


class Lab:
    """A JupyterLab of our own, as a context.

    Parameters
    ----------
    folder : path, optional
        Work on copies of the notebooks there; what is there already stays. Default: the repository's notebooks.
    port : int, optional
        Default: 8888, or a free one.
    opens_browser : bool
    store : path, optional
        Folder of the store that the notebooks use.

    Raises
    ------
    MissingPackageError
        If JupyterLab is not installed.
    DataError
        If there are no notebooks beside this package and no `folder` is given.
    """

    def __init__(
        self,
        *,
        folder: str | Path | None = None,
        port: int | None = None,
        opens_browser: bool = True,
        store: str | Path | None = None,
    ):
        if find_spec("jupyterlab") is None:
            raise MissingPackageError("JupyterLab is not installed.", hint='pip install "workbench[demo]"')
        self.folder = _prepare(folder)
        self.port = _free_port(port)
        self.opens_browser = opens_browser
        self.store = store
        self._token = secrets.token_urlsafe(24)
        self._process: subprocess.Popen[bytes] | None = None
        self._before: Any = None

    @property
    def address(self) -> str:
        """Where the browser finds it, with the token that lets it in."""
        return f"http://127.0.0.1:{self.port}{self._page}?token={self._token}"

    def __enter__(self) -> Lab:
        # The token goes through the environment: other users of this machine can read arguments.
        environment = {**os.environ, "JUPYTER_TOKEN": self._token}
        if self.store is not None:
            environment["WORKBENCH_STORE"] = str(Path(self.store).expanduser().absolute())
        self._before = _on_terminate(_leave)
        self._process = subprocess.Popen(self._command(), env=environment, stdin=subprocess.DEVNULL)
        try:
            self._await_answer()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def wait(self) -> int:
        """Wait until it ends; return its exit status."""
        assert self._process is not None
        return self._process.wait()

    @property
    def _page(self) -> str:
        return f"/lab/tree/{TOUR}" if (self.folder / TOUR).exists() else "/lab"

    def _command(self) -> list[str]:
        may_be_root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
        return [
            *(sys.executable, "-m", "jupyterlab", "-y", "--log-level=WARN"),
            *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0"),
            *(f"--ServerApp.root_dir={self.folder}", f"--LabApp.default_url={self._page}"),
            *([] if self.opens_browser else ["--no-browser"]),
            *may_be_root,
        ]

    def _await_answer(self) -> None:
        assert self._process is not None
        deadline = time.monotonic() + _START_S
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/api/status", headers={"Authorization": f"token {self._token}"}
        )
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # this machine is not behind the proxy
        while True:
            if (status := self._process.poll()) is not None:
                raise WorkbenchError(
                    f"JupyterLab ended with exit status {status} before it could be used.",
                    hint="What it says stands above; `workbench doctor` shows versions.",
                )
            try:
                with direct.open(request, timeout=2):
                    return
            except (urllib.error.URLError, OSError) as error:
                if time.monotonic() > deadline:
                    raise WorkbenchError(
                        f"JupyterLab did not answer within {_START_S:.0f} s ({error}).",
                        hint="Try again; the first start is the slowest.",
                    ) from error
            time.sleep(0.2)

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        _on_terminate(self._before)


def _prepare(folder: str | Path | None) -> Path:
    """The folder to work in, with copies of the notebooks if one was named."""
    import workbench

    originals = Path(workbench.__file__).resolve().parents[1] / "notebooks"
    if folder is None:
        if not originals.is_dir():
            raise DataError(
                f"There are no notebooks at {originals}.",
                hint="Name a folder of your own with --dir, or run it from a clone of the repository.",
            )
        return originals
    target = Path(folder).expanduser().absolute()
    try:
        target.mkdir(parents=True, exist_ok=True)
        for notebook in sorted(originals.glob("*.ipynb")):
            if not (target / notebook.name).exists():
                shutil.copy(notebook, target)
    except OSError as error:
        raise DataError(f"The notebooks cannot be copied to {target}: {error}.", hint="Name another folder.") from error
    return target


def _free_port(wanted: int | None) -> int:
    if wanted is not None and not 1 <= wanted <= 65535:
        raise BadValueError(f"A port is a number from 1 to 65535; got {wanted}.")
    for port in [wanted] if wanted is not None else [8888, 0]:
        with socket.socket() as probe:
            if os.name != "nt":  # a port that was in use a moment ago is free
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
                return int(probe.getsockname()[1])
            except OSError:
                continue
    raise BadValueError(f"Port {wanted} is in use, or not yours to use.", hint="Without --port a free one is found.")


def _on_terminate(handler: Any) -> Any:
    """Set what SIGTERM does and return what it did; outside of the main thread nothing can be set."""
    try:
        return signal.signal(signal.SIGTERM, signal.SIG_DFL if handler is None else handler)
    except ValueError:
        return None


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # so that the server is stopped on the way out
