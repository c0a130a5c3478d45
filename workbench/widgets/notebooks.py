"""Pins as a notebook: how the session was opened, then for each pin its words, its code, and its still as the output.

Written in the form nbformat 4.5. Titles and notes are plain text: nothing in them becomes a heading, a link or markup.
"""

from __future__ import annotations

import ast
import base64
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.core.errors import BadValueError, StoreError
from workbench.session.pins import Pin

__all__ = ["as_markdown", "notebook_of", "write_notebook"]

# What markdown or the mathematics in it reads as more than text, wherever it stands, or at the start of a line.
_ANYWHERE = re.compile(r"[\\`*_{}\[\]<>#|~$&^]|(?<=[a-zA-Z]):(?=//)|(?<=\w)@(?=\w)|(?<=www)\.")
_AT_START = re.compile(r"^(\s*)(?:([-+=])|(\d+)([.)]))", re.MULTILINE)

_INDENT = re.compile(r"^[ \t]+")


def as_markdown(text: str) -> str:
    """Markdown that shows `text` as it is, line by line.

    Examples
    --------
    >>> as_markdown("1. <b>not bold</b>")
    '1&#46; &#60;b&#62;not bold&#60;/b&#62;'
    """
    text = "".join(c if c.isprintable() or c in "\n\t" else " " for c in text.replace("\r\n", "\n").replace("\r", "\n"))
    text = _ANYWHERE.sub(lambda found: f"&#{ord(found[0])};", text)
    text = _AT_START.sub(_first, text)
    lines = [
        re.sub(r"^[ \t]+", lambda found: "&nbsp;" * len(found[0].expandtabs(4)), line) for line in text.split("\n")
    ]
    return "  \n".join(line.rstrip() or "&nbsp;" for line in lines)


def _first(found: re.Match[str]) -> str:
    space, mark, number, after = found.groups()
    return f"{space}&#{ord(mark)};" if mark else f"{space}{number}&#{ord(after)};"


def notebook_of(
    pins: Sequence[Pin], *, title: str, opened_by: str = "", digests: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The notebook as a dictionary, as nbformat has it.

    Parameters
    ----------
    pins : sequence of Pin
    title : str
    opened_by : str
        The call that opens the session.
    digests : mapping of str to str, optional
        What model and data of the session are called.
    """
    cells = [_opening(title, opened_by, dict(digests or {}))]
    for number, pin in enumerate(pins, 1):
        cells.append(_words(number, pin, dict(digests or {})))
        cells.append(_code(pin))
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        },
        "cells": cells,
    }


def write_notebook(path: str | Path, notebook: Mapping[str, Any]) -> Path:
    """Write a notebook; the file is replaced only once the new one is complete.

    Raises
    ------
    BadValueError
        If the name does not end with ``.ipynb``, or its folder is not there.
    """
    path = Path(path)
    if path.suffix.lower() != ".ipynb":
        raise BadValueError(f"A notebook is saved as .ipynb; got {path.name!r}.")
    if not path.parent.is_dir():
        raise BadValueError(f"There is no folder {path.parent} to write {path.name} into.", hint="Make it first.")
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _opening(title: str, opened_by: str, digests: dict[str, str]) -> dict[str, Any]:
    lines = [f"# {' '.join(title.split())}", "import workbench as wb", ""]
    if missing := _names_in(opened_by):
        lines.append(f"# Define first what the session was opened with: {', '.join(missing)}.")
    lines += [f"s = {opened_by or 'wb.open_session(...)  # the model and the data of the pins'}", "s.digests()"]
    said = [{
        "output_type": "execute_result", "execution_count": 1, "metadata": {}, "data": {"text/plain": repr(digests)},
    }]  # fmt: skip
    return _cell("code", "open", "\n".join(lines), execution_count=1, outputs=said if digests else [])


def _names_in(call: str) -> list[str]:
    """Names that the call needs and that nobody has defined."""
    if not call:
        return []
    found = [node.id for node in ast.walk(ast.parse(call)) if isinstance(node, ast.Name) and node.id != "wb"]
    return sorted(set(found))


def _words(number: int, pin: Pin, digests: dict[str, str]) -> dict[str, Any]:
    facts = " · ".join([pin.widget, pin.time[:16].replace("T", " ") + " UTC", *pin.made_with.values()])
    parts = [f"## {number}&#46; {as_markdown(' '.join(pin.title.split()))}"]
    parts += [as_markdown(pin.note)] if pin.note.strip() else []
    parts += [f"**{as_markdown(line)}**" for line in pin.differences(digests)]
    parts.append(f"<small>{as_markdown(facts)}</small>")
    return _cell("markdown", f"note-{pin.id}", "\n\n".join(parts))


def _code(pin: Pin) -> dict[str, Any]:
    try:
        still = pin.still
        data = {"text/html": still.html, "image/png": base64.b64encode(still.png).decode("ascii")}
    except StoreError as error:
        data = {"text/plain": str(error)}
    shown = {"output_type": "display_data", "metadata": {}, "data": {"text/plain": pin.text or pin.title, **data}}
    return _cell("code", f"code-{pin.id}", pin.code, execution_count=None, outputs=[shown])


def _cell(kind: str, name: str, source: str, **rest: Any) -> dict[str, Any]:
    return {"cell_type": kind, "id": name, "metadata": {}, "source": source, **rest}
