"""Scripts and styles of the widgets: built ones by name, others by path."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from workbench.core.errors import UnknownNameError

__all__ = ["STATIC", "css", "esm"]

STATIC = Path(__file__).parent / "static"


def esm(script: str | Path, *, common: bool = False) -> str:
    """The text of a widget's script.

    Parameters
    ----------
    script : str or Path
        Name of a built script (``"atlas"``), or the path of a plain module of your own.
    common : bool
        Put the common part before it, as the constant ``workbench``: frame, status line, questions, colours. Built
        scripts hold what they need of it already.
    """
    text = _read(script, ".js")
    return f"{_read('common', '.js')}\n{text}" if common else text


def css(style: str | Path) -> str:
    """The text of a widget's style, by name or by path."""
    return _read(style, ".css")


@lru_cache(maxsize=64)
def _read(name: str | Path, ending: str) -> str:
    path = Path(name)
    if path.suffix != ending:
        path = STATIC / f"{name}{ending}"
    if not path.is_file():
        raise UnknownNameError(f"No script {path.name}.", hint="`make js` builds the scripts of the workbench.")
    return path.read_text(encoding="utf-8")
