"""The README's Python runs: on the toy pair, with the names swapped, block after block in one namespace."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Real names and what stands for them here.
SWAPS = {
    '"efficientnet_lite0"': '"toy-cnn"',
    '"photos"': '"toy"',
    "blocks.4": "features.6",
    "bn2": "features.11",
}


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_the_python_runs(tmp_path, monkeypatch):
    from PIL import Image

    for name in ("cat", "dog"):
        folder = tmp_path / "my_pictures" / name
        folder.mkdir(parents=True)
        for i in range(2):
            noise = np.random.default_rng(i).integers(0, 255, (70, 90, 3), dtype=np.uint8)
            Image.fromarray(noise).save(folder / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    space: dict = {}
    for block in blocks("python"):
        for real, toy in SWAPS.items():
            block = block.replace(real, toy)
        exec(compile(block, "README.md", "exec"), space)
    assert space["explanation"].gap.isfinite().all()
    assert space["s"].selection.component == "features.11/unit/17"


def test_the_commands_exist(capsys):
    from workbench.cli import main

    for line in "\n".join(blocks("sh")).splitlines():
        words = line.split("#")[0].split() or [""]
        if words[0] == "workbench":
            with pytest.raises(SystemExit) as ended:
                main([words[1], "--help"])
            assert ended.value.code == 0
            explained = capsys.readouterr().out
            for flag in (w for w in words if w.startswith("--")):
                assert flag in explained, line
        elif words[0] == "make":
            assert f"\n{words[1]}:" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_its_pictures_exist_and_are_small():
    for place in re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README):
        assert (ROOT / place).stat().st_size < 400_000, place


@pytest.mark.parametrize("word", ["BSD-3-Clause", "LGPL", "patented", "make demo", "make test", "Citing"])
def test_it_says_what_it_must(word):
    assert word in README


def test_links_of_its_rendered_page_lead_to_pages():
    from tests.readme_page import page

    links = re.findall(r'href="(?!https?:)([^"]+)"', page())
    assert {"02_steer_a_neuron.html", "03_reveal_and_revise.html", "api/workbench/methods/correction.html"} <= set(
        links
    )
    assert not [one for one in links if one.endswith((".md", ".ipynb"))]
