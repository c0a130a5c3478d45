"""export: widgets as one file that works without kernel and network.

The file runs the same scripts in a small page host (``src/host``). What a reader may choose is recorded beforehand: the
widgets say what they offer and what they show for it, and recordings go in, the most wanted first, until the file has
its size. Nothing in it leads outside, and text from the data is never markup.
"""

from __future__ import annotations

import base64
import datetime
import hashlib
import html
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ipywidgets

from workbench.core import check
from workbench.core.errors import BadValueError, OutOfBudgetError, WorkbenchError
from workbench.core.progress import Progress, SilentProgress
from workbench.widgets import wire
from workbench.widgets.base import SessionWidget
from workbench.widgets.esm import css, esm
from workbench.widgets.keeping import Offer
from workbench.widgets.recording import Recording

__all__ = ["ExportReport", "export"]

_POLICY = "default-src 'none'; script-src 'unsafe-inline' blob:; style-src 'unsafe-inline'; img-src blob: data:"
_KEPT_OUT = ("_esm", "_css", "layout", "tabbable", "tooltip", "_dom_classes", "_still_mark")


@dataclass(frozen=True)
class ExportReport:
    """What was written.

    Attributes
    ----------
    path : Path
    n_bytes : int
    recorded : dict of str to (int, int)
        By what it is: how many were recorded, of how many that were wanted.
    """

    path: Path
    n_bytes: int
    recorded: dict[str, tuple[int, int]]

    @property
    def left_out(self) -> dict[str, int]:
        """What did not fit, by what it is."""
        return {what: of - n for what, (n, of) in self.recorded.items() if n < of}

    def __repr__(self) -> str:
        parts = [f"{n} {what}" if n == of else f"{n} of {of} {what}" for what, (n, of) in self.recorded.items()]
        return f"<page {self.path.name}, {self.n_bytes / 1e6:.1f} MB: {', '.join(parts) or 'as it is'}>"


def export(
    widgets: Any,
    path: str | Path,
    *,
    title: str = "",
    max_mb: float = 20.0,
    components: int = 48,
    samples: int = 24,
    progress: Progress | None = None,
) -> ExportReport:
    """Write widgets into one HTML file that draws, hovers, brushes, pages and links without kernel and network.

    What the reader may choose there is recorded now, which may need the model: the selected components and samples, and
    those that the widgets list first. What was not recorded says so on the page.

    Parameters
    ----------
    widgets : widget, board or sequence of them
        Those of one group stay linked.
    path : path
        The file, replaced only once the new one is complete.
    title : str
        Heading of the page.
    max_mb : float
        Size of the file at most, in 10^6 bytes; recordings that do not fit are left out, and the report says which.
    components, samples : int
        How many to record at most.

    Returns
    -------
    ExportReport

    Raises
    ------
    OutOfBudgetError
        If the widgets alone, without recordings, are larger than `max_mb`.

    Examples
    --------
    >>> wb.export([neuron_map, grid], "report.html")  # doctest: +SKIP
    """
    chosen = _flat(widgets)
    check.between("max_mb", max_mb, 0, 1000, left_open=True)
    path = Path(path)
    if not path.parent.is_dir():
        raise BadValueError(f"There is no folder {path.parent} to write {path.name} into.", hint="Make it first.")
    page = _Page(chosen, title or " · ".join(dict.fromkeys(w.title or w.snapshot().title for w in chosen)))
    limit = int(max_mb * 1e6)
    if (bare := page.n_bytes) > limit:
        raise OutOfBudgetError(
            f"The page takes {bare / 1e6:.1f} MB without recordings; {max_mb:g} MB are allowed.",
            hint="Raise max_mb, or export fewer widgets.",
        )
    recorded = page.record(_wanted(chosen, components, samples), limit, progress or SilentProgress())
    content = page.html().encode()
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_bytes(content)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return ExportReport(path, len(content), recorded)


def _flat(widgets: Any) -> list[SessionWidget]:
    """The widgets, also those within boxes, each once."""
    things = widgets if isinstance(widgets, (list, tuple)) else [widgets]
    found: list[SessionWidget] = []
    for thing in things:
        if isinstance(thing, SessionWidget):
            found.append(thing)
        elif isinstance(thing, ipywidgets.Box):
            found += _flat(list(thing.children)) if thing.children else []
        elif not isinstance(thing, ipywidgets.Widget):
            raise BadValueError(
                f"Widgets are exported; got {type(thing).__name__}.", hint="Give it widgets, or what show() returned."
            )
    if not found:
        raise BadValueError("There is no widget of ours to export.", hint="wb.export([widget, …], path)")
    if closed := next((w for w in found if w._is_closed), None):
        raise BadValueError(f"{type(closed).__name__} is closed and cannot be exported.")
    for widget in found:
        widget.wait(120)
    return list(dict.fromkeys(found))


def _wanted(widgets: Sequence[SessionWidget], n_components: int, n_samples: int) -> Offer:
    """What is selected, then what the widgets offer, in turn."""
    components: list[Any] = []
    samples: list[Any] = []
    for widget in widgets:
        components += [widget.shared.component, *widget.shared.components[:n_components]]
        samples += [widget.shared.sample, *widget.shared.samples[:n_samples]]
    offers = [widget.offers() for widget in widgets]
    components += _in_turn([offer.components for offer in offers])
    samples += _in_turn([offer.samples for offer in offers])
    return Offer(
        tuple(dict.fromkeys(c for c in components if c is not None))[:n_components],
        tuple(dict.fromkeys(s for s in samples if s is not None))[:n_samples],
    )


def _in_turn(lists: Sequence[Iterable[Any]]) -> Iterator[Any]:
    waiting = [iter(one) for one in lists]
    while waiting:
        for one in list(waiting):
            try:
                yield next(one)
            except StopIteration:
                waiting.remove(one)


class _Page:
    """The file while it is made: widgets, what they share, and recordings."""

    def __init__(self, widgets: Sequence[SessionWidget], title: str):
        self.widgets, self.title = widgets, title
        self.buffers: list[str] = []
        self.known: dict[bytes, int] = {}
        self.kinds: dict[str, dict[str, str]] = {}
        self.n_bytes = 0
        self.made = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
        self.stills = {w.model_id: w.snapshot().html() for w in widgets}
        self.records = [self._record_of(w) for w in widgets]
        self.n_bytes = len(self.html().encode())

    def _record_of(self, widget: SessionWidget) -> dict[str, Any]:
        script, style = widget._esm, getattr(widget, "_css", "")
        kind = hashlib.blake2b(f"{script}\0{style}".encode(), digest_size=8).hexdigest()
        self.kinds[kind] = {"esm": str(script), "css": str(style)}
        names = [n for n in widget.keys if n not in _KEPT_OUT and (type(widget)._is_ours(n) or n == "_view_name")]
        state = {**widget.get_state(names), **_traits(widget, widget.recorded_state())}
        for name in ("_problem", "progress"):
            state.pop(name, None)
        state |= {"_problem": {}, "progress": 0.0}
        return {
            "id": widget.model_id,
            "kind": kind,
            "saved": f"Saved {self.made}",
            **self._apart(state),
            "recordings": [],
            "answers": [
                {"question": [kind, {}], "result": {"text": text}, "at": []}
                for kind, text in (("code", widget.to_code()), ("recipe", json.dumps(widget.recipe(), indent=2)))
            ],
        }

    def _apart(self, state: Any) -> dict[str, Any]:
        """State as JSON, with the places of its buffers and their numbers on this page."""
        paths: list[list[Any]] = []
        at: list[int] = []

        def walk(value: Any, path: list[Any]) -> Any:
            if isinstance(value, (bytes, bytearray, memoryview)):
                paths.append(path)
                at.append(self._buffer(bytes(value)))
                return None
            if isinstance(value, dict):
                return {k: walk(v, [*path, k]) for k, v in value.items()}
            if isinstance(value, (list, tuple)):
                return [walk(v, [*path, i]) for i, v in enumerate(value)]
            return value

        return {"state": walk(state, []), "paths": paths, "at": at}

    def _buffer(self, content: bytes) -> int:
        key = hashlib.blake2b(content, digest_size=16).digest()
        if key not in self.known:
            self.known[key] = len(self.buffers)
            self.buffers.append(base64.b64encode(content).decode("ascii"))
            self.n_bytes += len(self.buffers[-1]) + 3
        return self.known[key]

    def record(self, wanted: Offer, limit: int, progress: Progress) -> dict[str, tuple[int, int]]:
        """Take in recordings until the page has its size; returns how many of each kind, of how many."""
        mine = [[(record, widget, one) for one in widget.recordings(wanted)] for record, widget in
                zip(self.records, self.widgets, strict=True)]  # fmt: skip
        counts: dict[str, list[int]] = {}
        is_full = False
        everything = list(_in_turn(mine))
        progress.start("Recording what the page can show", len(everything))
        for record, widget, one in everything:
            count = counts.setdefault(one.what, [0, 0])
            count[1] += 1
            if not is_full:
                before = self.n_bytes, len(self.buffers), dict(self.known)
                try:
                    self._take(record, widget, one)
                except WorkbenchError as error:
                    progress.step(note=f"left out: {error.message}")
                    continue
                if self.n_bytes > limit:
                    is_full = True
                    self._undo(record, one, before)
                else:
                    count[0] += 1
            progress.step()
        progress.close()
        return {what: (n, of) for what, (n, of) in counts.items()}

    def _take(self, record: dict[str, Any], widget: SessionWidget, one: Recording) -> None:
        made = one.make()
        if one.question is not None:
            content, buffers = wire.extract(made)
            entry = {"question": list(one.question), "result": content, "at": [self._buffer(b) for b in buffers]}
            record["answers"].append(entry)
        else:
            entry = {"when": dict(one.when), **self._apart(_traits(widget, made))}
            record["recordings"].append(entry)
        self.n_bytes += len(_json(entry))

    def _undo(self, record: dict[str, Any], one: Recording, before: tuple[int, int, dict[bytes, int]]) -> None:
        record["answers" if one.question is not None else "recordings"].pop()
        self.n_bytes, n_buffers, self.known = before
        del self.buffers[n_buffers:]

    def html(self) -> str:
        """The whole file."""
        record = {"widgets": self.records, "kinds": self.kinds, "buffers": self.buffers}
        slots = "".join(
            f'<div data-wb="{html.escape(w.model_id)}">{self.stills[w.model_id]}</div>' for w in self.widgets
        )
        facts = dict.fromkeys(f"{name} {value}" for w in self.widgets for name, value in w.made_with().items())
        code = "\n".join(w.to_code() for w in self.widgets)
        return (
            "<!doctype html>\n"
            '<html lang="en"><head><meta charset="utf-8">'
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{html.escape(self.title)}</title><style>{css('common')}{css('host')}</style></head><body>"
            f'<main class="wb-page"><header class="wb-page-head"><h1>{html.escape(self.title)}</h1>'
            f"<p>{html.escape(' · '.join(facts))}</p></header>"
            f'<div class="wb-board wb-board-{len(self.widgets)}">{slots}</div>'
            f'<footer class="wb-page-foot">Saved {self.made}. Without a kernel this page shows what was recorded in it.'
            f"<details><summary>Code</summary><code>{html.escape(code)}</code></details></footer></main>"
            f'<script type="application/json" id="wb-record">{_json(record)}</script>'
            f"<script>{_script()}\nworkbenchHost.start();</script></body></html>\n"
        )


def _script() -> str:
    """The page host; the end of a script cannot appear within one."""
    return esm("host").replace("</script", "<\\/script")


def _json(value: Any) -> str:
    """JSON that can stand within a page: nothing in it opens or ends a tag."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _traits(widget: SessionWidget, values: Any) -> dict[str, Any]:
    """Values of traits as the browser gets them."""
    sent = {}
    for name, value in values.items():
        to_json = widget.trait_metadata(name, "to_json", lambda value, widget: value)
        sent[name] = to_json(value, widget)
    return sent
