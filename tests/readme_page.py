"""The README as the first page of the documentation: links lead to rendered pages. `make docs` calls it."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import mistune

ROOT = Path(__file__).resolve().parents[1]
# Files of the repository, and the pages that hold what they say.
PAGES = {
    r"notebooks/(\w+)\.ipynb": r"\1.html",
    r"workbench/methods/correction/TABLE\.md": "api/workbench/methods/correction.html",
}


def page() -> str:
    """The whole HTML page."""
    text = (ROOT / "README.md").read_text("utf-8")
    for file, rendered in PAGES.items():
        text = re.sub(rf"\]\({file}\)", rf"]({rendered})", text)
        text = re.sub(rf"`{file}`", lambda found, r=rendered: f"[{found[0]}]({found.expand(r)})", text)
    body = mistune.create_markdown(plugins=["table"])(text)
    style = "body{max-width:56rem;margin:2rem auto;padding:0 1rem;font:1rem/1.5 system-ui}img{max-width:100%}"
    style += "pre{overflow:auto;background:#8881;padding:.7rem}:root{color-scheme:light dark}"
    head = f'<meta charset="utf-8"><title>workbench</title><style>{style}</style>'
    return f'<!doctype html><html lang="en">{head}{body}</html>'


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), "utf-8")
