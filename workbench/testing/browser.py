"""Helpers for tests in a real browser: JupyterLab on a free port, notebooks in it, and widgets on a bare page.

They need Chromium and the Python package playwright (`browser-test`). Each server and browser is stopped by its own
handle. `Lab` drives a notebook as its reader would; `WidgetPage` shows widgets without a kernel, in two seconds instead
of twenty.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from workbench.widgets.esm import esm

__all__ = ["ARGS", "Lab", "Voila", "WidgetPage", "browser", "chromium", "free_port", "notebook"]

ARGS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def chromium() -> str | None:
    """Where Chromium is, if it is installed."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    return None


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def browser(**options: Any) -> Iterator[Any]:
    """A headless Chromium, closed at the end."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium(), headless=True, args=ARGS, **options)
        try:
            yield opened
        finally:
            opened.close()


def notebook(path: str | Path, *cells: str) -> Path:
    """Write a notebook with these code cells."""
    content = {
        "cells": [
            {
                "cell_type": "code",
                "id": f"cell-{i}",
                "execution_count": None,
                "metadata": {},
                "outputs": [],
                "source": cell,
            }
            for i, cell in enumerate(cells)
        ],
        "metadata": {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    path = Path(path)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


class Lab:
    """A JupyterLab of its own: free port, own settings, own kernels; nothing of the user's is read or written.

    Parameters
    ----------
    root : path
        Folder with the notebooks.
    env : mapping of str to str, optional
        Further variables for server and kernels.

    Examples
    --------
    >>> with Lab("notebooks") as lab, browser() as chrome:  # doctest: +SKIP
    ...     page = lab.open(chrome, "00_tour.ipynb")
    ...     lab.run_all(page)
    ...     page.screenshot(path="tour.png")
    """

    def __init__(self, root: str | Path, *, env: dict[str, str] | None = None, timeout: float = 90.0):
        self.root, self.extra, self.timeout = Path(root).resolve(), env or {}, timeout
        self.port, self.token = free_port(), os.urandom(12).hex()
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self.log = Path()

    def __enter__(self) -> Lab:
        self._folder = tempfile.TemporaryDirectory(prefix="workbench-lab-")
        home = Path(self._folder.name)
        env = {**os.environ, **self.extra}
        for name in (
            "JUPYTER_CONFIG_DIR",
            "JUPYTER_RUNTIME_DIR",
            "IPYTHONDIR",
            "JUPYTERLAB_SETTINGS_DIR",
            "JUPYTERLAB_WORKSPACES_DIR",
        ):
            env[name] = str(home / name.lower())
        env["JUPYTER_DATA_DIR"] = str(home / "data")
        settings = home / "jupyterlab_settings_dir" / "@jupyterlab" / "apputils-extension"
        settings.mkdir(parents=True)
        (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
        self.log = home / "server.log"
        command = [
            sys.executable,
            "-m",
            "jupyterlab",
            "--no-browser",
            "--ip=127.0.0.1",
            f"--port={self.port}",
            "--ServerApp.port_retries=0",
            f"--IdentityProvider.token={self.token}",
            f"--ServerApp.root_dir={self.root}",
        ]
        if hasattr(os, "geteuid") and os.geteuid() == 0:
            command.append("--allow-root")
        with self.log.open("wb") as log:
            self._server = subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT, cwd=self.root)
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _wait(self) -> None:
        end = time.monotonic() + self.timeout
        while time.monotonic() < end:
            assert self._server is not None
            if self._server.poll() is not None:
                break
            with contextlib.suppress(urllib.error.URLError, OSError):
                with urllib.request.urlopen(f"{self.url}/api/status?token={self.token}", timeout=5) as reply:
                    if reply.status == 200:
                        return
            time.sleep(0.3)
        raise TimeoutError(f"JupyterLab did not start:\n{self.log.read_text(errors='replace')[-3000:]}")

    def __exit__(self, *exc: object) -> None:
        if self._server is not None and self._server.poll() is None:
            self._server.terminate()  # the server shuts its kernels down
            try:
                self._server.wait(20)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait(10)
        if self._folder is not None:
            self._folder.cleanup()

    @property
    def url(self) -> str:
        """Address of the server, without the token."""
        return f"http://127.0.0.1:{self.port}"

    def open(
        self, chrome: Any, name: str, *, width: int = 1400, height: int = 1000, dark: bool = False, scale: float = 1
    ) -> Any:
        """Open a notebook in a fresh workspace and wait until its kernel is idle; returns the page."""
        context = chrome.new_context(viewport={"width": width, "height": height}, device_scale_factor=scale)
        page = context.new_page()
        page.console = []
        page.on("console", lambda m: page.console.append(f"{m.type}: {m.text}"))
        page.on("pageerror", lambda e: page.console.append(f"pageerror: {e}"))
        workspace = os.urandom(4).hex()
        page.goto(f"{self.url}/lab/workspaces/{workspace}/tree/{name}?token={self.token}&reset", timeout=60_000)
        page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
        page.wait_for_selector('#jp-main-statusbar :text("| Idle")', timeout=90_000)
        if dark:
            self.theme(page, "JupyterLab Dark")
        return page

    def theme(self, page: Any, name: str) -> None:
        """Change the theme, as the settings menu does."""
        page.evaluate("name => window.jupyterapp?.commands.execute('apputils:change-theme', {theme: name})", name)
        if page.evaluate("() => !window.jupyterapp"):
            page.click('#jp-MainMenu .lm-MenuBar-item:has-text("Settings")')
            page.hover('.lm-Menu-itemLabel:text-is("Theme")')
            page.click(f'.lm-Menu-itemLabel:text-is("{name}")')
        page.wait_for_selector(f'body[data-jp-theme-name="{name}"]', state="attached", timeout=20_000)

    def hide_sidebar(self, page: Any) -> None:
        """Close the file browser, for the room."""
        if page.locator("#jp-left-stack:visible").count():
            page.keyboard.press("Control+b")

    def run_all(self, page: Any, *, timeout: float = 300.0) -> None:
        """Run all cells and wait for the last; an error in a cell raises with its traceback."""
        for _ in range(4):
            page.click('#jp-MainMenu .lm-MenuBar-item:has-text("Run")')
            page.click('.lm-Menu-item[data-command="runmenu:run-all"]')
            with contextlib.suppress(Exception):
                page.wait_for_function(_STARTED, timeout=4_000)
                break
        self.wait_idle(page, timeout=timeout)
        errors = page.locator(_FAILED)
        if errors.count():
            raise AssertionError("A cell failed:\n" + errors.first.inner_text())

    def wait_idle(self, page: Any, *, timeout: float = 120.0) -> None:
        """Wait until no cell is running or waiting."""
        page.wait_for_function(
            "() => ![...document.querySelectorAll('.jp-InputPrompt')].some(p => p.textContent.includes('*'))",
            timeout=timeout * 1000,
        )
        page.wait_for_selector('#jp-main-statusbar :text("| Idle")', timeout=timeout * 1000)

    def run_cell(self, page: Any, code: str, *, timeout: float = 120.0, wait: bool = True) -> str:
        """Write code into the last cell, run it, and return its output as text."""
        cell = page.locator(".jp-CodeCell").last
        cell.locator(".cm-content").click()
        page.keyboard.press("Control+a")
        page.keyboard.insert_text(code)
        before = page.locator(".jp-CodeCell").count()
        page.keyboard.press("Shift+Enter")
        page.wait_for_function(f"() => document.querySelectorAll('.jp-CodeCell').length > {before} || true")
        if not wait:
            return ""
        self.wait_idle(page, timeout=timeout)
        ran = page.locator(".jp-CodeCell").nth(before - 1)
        return "\n".join(ran.locator(".jp-OutputArea-output").all_inner_texts())


class Voila:
    """A Voila of its own that serves one notebook as a page, with a kernel behind it.

    Parameters
    ----------
    path : path
        The notebook.
    env : mapping of str to str, optional
        Further variables for server and kernels.
    """

    def __init__(self, path: str | Path, *, env: dict[str, str] | None = None, timeout: float = 60.0):
        self.path, self.extra, self.timeout = Path(path).resolve(), env or {}, timeout
        self.port = free_port()

    def __enter__(self) -> Voila:
        command = [sys.executable, "-m", "voila", str(self.path), "--no-browser", f"--port={self.port}"]
        self.log = self.path.with_suffix(".log")
        with self.log.open("wb") as log:
            self._server = subprocess.Popen(
                [*command, "--Voila.ip=127.0.0.1"],
                env={**os.environ, **self.extra},
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.path.parent,
            )
        end = time.monotonic() + self.timeout
        while time.monotonic() < end and self._server.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return self
            time.sleep(0.2)
        self.__exit__()
        raise TimeoutError(f"Voila did not start:\n{self.log.read_text(errors='replace')[-3000:]}")

    def __exit__(self, *exc: object) -> None:
        if self._server.poll() is None:
            self._server.terminate()
            try:
                self._server.wait(20)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait(10)

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://127.0.0.1:{self.port}/"

    def open(self, chrome: Any, *, width: int = 1300, height: int = 1300, timeout: float = 600.0) -> Any:
        """Open the page, which comes when all cells have run; its `problems` are errors on the console, as they come.

        Files that could not be fetched are left out: Voila asks the network for symbols of its own.
        """
        page = chrome.new_context(viewport={"width": width, "height": height}).new_page()
        page.problems = []

        def hear(message: Any) -> None:
            if message.type == "error" and not message.text.startswith("Failed to load resource"):
                page.problems.append(message.text)

        page.on("console", hear)
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.goto(self.url, timeout=1000 * timeout)
        return page


_FAILED = '.jp-OutputArea-output:has-text("Traceback (most recent call last)")'
_STARTED = "() => [...document.querySelectorAll('.jp-InputPrompt')].some(p => /\\[(\\*|\\d+)\\]/.test(p.textContent))"


# Scripts that wait for a gesture to end hold a short timer meanwhile; who waits for the page must know.
_TIMERS = """
window.waiting = new Set();
const [later, never] = [window.setTimeout.bind(window), window.clearTimeout.bind(window)];
window.setTimeout = (call, delay = 0, ...args) => {
  const timer = later((...given) => { window.waiting.delete(timer); call(...given); }, delay, ...args);
  if (delay < 1000) window.waiting.add(timer);
  return timer;
};
window.clearTimeout = (timer) => { window.waiting.delete(timer); never(timer); };
"""

# The page host, with Python at the other end.
_LINK = """
window.models = {};
const {show, receive, decoded, encoded, join, split} = workbenchHost;
const link = {
  save: (model, changed) => {
    const {state, paths, buffers} = split(changed);
    const data = {method: 'update', state, buffer_paths: paths};
    window.fromPage(JSON.stringify({id: model.id, data, buffers: buffers.map(encoded)}));
  },
  send: (model, content, buffers) =>
    window.fromPage(JSON.stringify({id: model.id, data: {method: 'custom', content}, buffers: buffers.map(encoded)})),
};
window.showWidget = async (id, {state, paths, buffers, esm, css}) => {
  const el = document.createElement('div');
  el.dataset.id = id;
  document.querySelector('#board').append(el);
  window.models[id] = await show(el, {id, state: join(state, paths, buffers.map(decoded)), esm, css}, link);
};
window.fromPython = (id, message) => receive(window.models[id], message);
"""


class WidgetPage:
    """Widgets on a bare page, talking to their Python half as in a notebook, without a kernel.

    Parameters
    ----------
    chrome : browser
        What `browser()` gave.
    *widgets : SessionWidget
    width, height : int
    dark : bool
    scale : float
        Device pixels per pixel.
    framed : bool
        Put them into a frame within the page, as some front ends do with each cell's output.

    Attributes
    ----------
    page : playwright Page
    frame : playwright Frame
        Where the widgets are.
    """

    def __init__(
        self,
        chrome: Any,
        *widgets: Any,
        width: int = 1200,
        height: int = 900,
        dark: bool = False,
        scale: float = 1,
        framed: bool = False,
    ):
        self.context = chrome.new_context(
            viewport={"width": width, "height": height},
            device_scale_factor=scale,
            color_scheme="dark" if dark else "light",
        )
        self.page = self.context.new_page()
        self.errors: list[str] = []
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type in ("error", "warning") else None)
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))
        self.widgets = {w.model_id: w for w in widgets}
        self._out: queue.Queue[tuple[str, Any, list[bytes]]] = queue.Queue()
        self.page.expose_function("fromPage", self._from_page)
        ground, ink = ("#111418", "#ddd") if dark else ("#ffffff", "#222")
        style = f"margin:16px;background:{ground};color:{ink};font:13px system-ui"
        if framed:
            self.page.set_content("<!doctype html><iframe style='border:0;width:100%;height:95vh'></iframe>")
        self.frame = self.page.frames[-1]
        self.frame.set_content(
            f"<!doctype html><meta charset=utf-8><body style='{style}'>"
            f"<div id=board class='wb-board wb-board-{len(widgets)}'></div>"
        )
        for script in (_TIMERS, esm("host"), _LINK):
            self.frame.add_script_tag(content=script)
        for widget in widgets:
            self._show(widget)
        self.settle()

    def _show(self, widget: Any) -> None:
        state, paths, buffers = _without_buffers(widget.get_state())
        script, style = state.pop("_esm"), state.pop("_css", "")
        keep = {
            k: v
            for k, v in state.items()
            if isinstance(v, (str, int, float, bool, list, dict, type(None))) and k != "layout"
        }
        widget.comm.publish_msg = lambda kind, data=None, metadata=None, buffers=None, **rest: self._out.put(
            (widget.model_id, data, [bytes(b) for b in buffers or []])
        )
        payload = {
            "state": json.loads(json.dumps(keep)),
            "paths": paths,
            "buffers": [_coded(b) for b in buffers],
            "esm": script,
            "css": style,
        }
        self.frame.evaluate("([id, all]) => window.showWidget(id, all)", [widget.model_id, payload])

    def _from_page(self, text: str) -> None:
        message = json.loads(text)
        widget = self.widgets[message["id"]]
        buffers = [base64.b64decode(b) for b in message.get("buffers", [])]
        widget._handle_msg({"content": {"data": message["data"]}, "buffers": buffers})

    def pump(self) -> int:
        """Hand the page what Python has sent; returns how many messages."""
        count = 0
        while not self._out.empty():
            id_, data, buffers = self._out.get()
            if data is None or data.get("method") == "echo_update":
                continue
            sent = {"data": json.loads(json.dumps(data)), "buffers": [_coded(b) for b in buffers]}
            self.frame.evaluate("([id, message]) => window.fromPython(id, message)", [id_, sent])
            count += 1
        return count

    def settle(self, seconds: float = 10.0, *, quiet: float = 0.3) -> None:
        """Go on until neither side has anything to say for a while, nor waits for a gesture to end."""
        end, last = time.monotonic() + seconds, time.monotonic()
        while time.monotonic() < end:
            is_busy = self.pump() or any(w._pending for w in self.widgets.values())
            if is_busy or self.frame.evaluate("() => window.waiting.size"):
                last = time.monotonic()
            if time.monotonic() - last > quiet:
                return
            self.page.wait_for_timeout(20)

    def until(self, test: Any, *, seconds: float = 10.0) -> None:
        """Go on until `test()` holds; raises if it does not in time."""
        end = time.monotonic() + seconds
        while not test():
            if time.monotonic() > end:
                raise TimeoutError("The page did not come to that.")
            self.pump()
            self.page.wait_for_timeout(20)

    def screenshot(self, path: str | Path) -> None:
        """Save the whole page as a picture."""
        self.page.screenshot(path=str(path), full_page=True)

    def close(self) -> None:
        """Close the page."""
        self.context.close()

    def __enter__(self) -> WidgetPage:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _without_buffers(state: dict[str, Any]) -> tuple[dict[str, Any], list[list[Any]], list[bytes]]:
    """The state as JSON, and its buffers with their places."""
    paths: list[list[Any]] = []
    buffers: list[bytes] = []

    def walk(value: Any, path: list[Any]) -> Any:
        if isinstance(value, (bytes, bytearray, memoryview)):
            paths.append(path)
            buffers.append(bytes(value))
            return None
        if isinstance(value, dict):
            return {k: walk(v, [*path, k]) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [walk(v, [*path, i]) for i, v in enumerate(value)]
        return value

    return {k: walk(v, [k]) for k, v in state.items()}, paths, buffers


def _coded(buffer: Any) -> str:
    return base64.b64encode(bytes(buffer)).decode("ascii")
