"""The command: what it says, what it does to the store, how it ends."""

from __future__ import annotations

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request

import numpy as np
import pytest

from workbench import __version__, cli
from workbench.core import doctor
from workbench.core.errors import BadValueError, DataError, MissingPackageError, WorkbenchError
from workbench.session import lab as lab_module
from workbench.store import DiskStore, Recipe, items, report

COMMANDS = ["lab", "sweep", "status", "prune", "clean", "doctor"]


@pytest.fixture(autouse=True)
def _loggers():
    """A sweep from the command line lets the package's log lines through; not so in the tests after it."""
    yield
    logging.getLogger("workbench").setLevel(logging.NOTSET)


@pytest.fixture
def store(tmp_path, monkeypatch) -> DiskStore:
    monkeypatch.setenv("WORKBENCH_STORE", str(tmp_path / "store"))
    return DiskStore(tmp_path / "store")


def recipe(n: int = 0, **changes) -> Recipe:
    made = Recipe("activations", model="resnet-toy@3f9a81c2d4", data="toy@0123456789", layer="layer4", seed=n)
    return made.but(**changes)


def fill(store: DiskStore, n: int = 3) -> None:
    for i in range(n):
        store.put(recipe(i), {"values": np.zeros(25_000, np.float32)}, meta={"n_samples": 2048}, used_by="atlas-07")


def run(capsys, *words: str) -> tuple[int, str, str]:
    status = cli.main(list(words))
    told = capsys.readouterr()
    return status, told.out, told.err


# --- what it says ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as ended:
        cli.main([command, "--help"])
    told = capsys.readouterr().out
    assert ended.value.code == 0
    assert "--store" in told and "--traceback" in told
    assert command == "doctor" or f"examples:\n  workbench {command}" in told
    assert max(map(len, told.splitlines())) <= 120


def test_the_examples_in_the_help_can_be_read(capsys):
    parser = cli.make_parser()
    for text in (cli._EXAMPLES, cli._LAB, cli._SWEEP, cli._STATUS, cli._PRUNE, cli._CLEAN):
        for line in re.findall(r"^  workbench (.*)$", text, flags=re.MULTILINE):
            words = re.split(r"\s{3,}", line)[0].split()
            if words[0] in COMMANDS:
                assert parser.parse_args(words).run is not None


def test_nothing_asked_shows_the_help(capsys):
    status, out, _ = run(capsys)
    assert status == 2 and "commands:" in out and all(f"    {command}" in out for command in COMMANDS)


def test_the_module_is_the_command(store):
    done = subprocess.run(
        [sys.executable, "-m", "workbench", "status", "--verify"], capture_output=True, text=True, check=True
    )
    assert str(store.path) in done.stdout and "It is empty." in done.stdout and done.stderr == ""
    assert not store.path.exists(), "looking makes no folder"
    done = subprocess.run([sys.executable, "-m", "workbench", "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"workbench {__version__}\n"


def test_the_store_commands_load_nothing_heavy(store):
    fill(store)
    code = (
        "import sys; from workbench.cli import main\n"
        "for words in (['status', '--verify'], ['prune'], ['clean', '--everything', '--yes']):\n"
        "    assert main(words) == 0\n"
        "print(sorted({'torch', 'numpy', 'pandas', 'safetensors'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


# --- errors ----------------------------------------------------------------------------------------------------------


def test_our_errors_are_a_message_and_a_hint(capsys, store):
    status, out, err = run(capsys, "prune", "--max-gb", "-1")
    assert status == 2 and out == ""
    assert err == "error: --max-gb must be a number of at least 0; got -1.\n       For example 5.\n"
    status, out, err = run(capsys, "clean")
    assert status == 2 and err.splitlines() == [
        "error: What shall be dropped?",
        "       Give --model, --data, both, or --everything.",
    ]
    status, _, err = run(capsys, "clean", "--traceback")
    assert status == 2 and "Traceback" in err and "BadValueError" in err


def test_a_store_that_cannot_be_opened_is_an_error(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    for command in ("status", "prune"):
        status, _, err = run(capsys, command, "--store", str(tmp_path / "file"))
        assert status == 2 and "is a file" in err


def test_other_errors_are_not_hidden(monkeypatch, store):
    monkeypatch.setattr(cli, "_open", lambda given: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["status"])


def test_an_interruption_ends_with_130(capsys, monkeypatch, store):
    def interrupt(given):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_open", interrupt)
    status, out, err = run(capsys, "status")
    assert status == 130 and out == "" and err == "Interrupted. What was finished is kept.\n"


@pytest.mark.skipif(sys.platform == "win32", reason="needs a shell")
def test_a_reader_may_stop_reading(store):
    fill(store, 30)
    command = f"{sys.executable} -m workbench status --all | head -n 1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stderr == "" and done.stdout.startswith("Store")


# --- status ----------------------------------------------------------------------------------------------------------


def test_status_lists_what_there_is(capsys, store):
    fill(store, 23)
    (store.path / "models").mkdir()
    (store.path / "models" / "toy.safetensors").write_bytes(b"x" * 5000)
    status, out, _ = run(capsys, "status")
    assert status == 0
    assert "2.3 MB of 20 GB used by 23 results in 46 files" in out
    assert "5.0 kB in models/, which `prune` and `clean` leave alone" in out
    assert len(re.findall(r"activations of layer4  resnet-toy@3f9a…  toy@0123…\s+2 048  101 kB", out)) == 20
    assert "… and 3 more; --all lists them" in out
    assert len(re.findall("resnet-toy", run(capsys, "status", "--all")[1])) == 23


def test_status_tells_unfinished_passes(capsys, store):
    shards = store.shards(recipe(kind="pass", title="sweep of toy"), [(0, 3), (3, 5)])
    with shards.lock():
        shards.write(0, {"v": np.zeros(3)})
        _, out, _ = run(capsys, "status")
        assert "Unfinished passes" in out and f"being written by process {os.getpid()}" in out
    _, out, _ = run(capsys, "status")
    assert "sweep of toy: made" in out and "unfinished, 60% of the samples, 3 samples" in out
    assert "nobody is writing it: the same sweep goes on from there" in out
    _, out, _ = run(capsys, "status", recipe(kind="pass").digest[:7])
    assert "Shards    2, nobody is writing it" in out
    with shards.lock():
        shards.write(1, {"v": np.zeros(2)})
        shards.seal({"skipped": 3})
    _, out, _ = run(capsys, "status", recipe(kind="pass").digest[:7])
    assert "Shards    2, complete, 3 samples left out\n" in out


def test_status_explains_one_result(capsys, store):
    fill(store)
    status, out, _ = run(capsys, "status", recipe(1).digest[:8])
    assert status == 0 and out.startswith("made ") and "used by atlas-07" in out
    assert "Array     values: F32 (25000,)" in out and '"layer": "layer4"' in out and '"n_samples": 2048' in out
    status, out, _ = run(capsys, "status", "123456")
    assert status == 1 and out.startswith("not stored: 123456\n`workbench status --all` lists")
    assert run(capsys, "status", "123456", "--json")[0] == 1
    status, _, err = run(capsys, "status", "12")
    assert status == 2 and "six digits" in err


def test_status_for_programs(capsys, store):
    fill(store)
    status, out, _ = run(capsys, "status", "--json", "--verify")
    told = json.loads(out)
    assert status == 0 and len(told["entries"]) == 3 and told["damaged"] == []
    assert told["entries"][0]["n_samples"] == 2048 and told["tiers"]["disk"]["entries"] == 3
    told = json.loads(run(capsys, "status", "--json", recipe().digest)[1])
    assert [e["digest"] for e in told["entries"]] == [recipe().digest]


def test_status_verifies(capsys, store):
    fill(store)
    assert "Every file is as it was written." in run(capsys, "status", "--verify")[1]
    path = items.data_file_of(store.folder_of(recipe(1).digest), recipe(1).digest)
    os.truncate(path, 100)
    status, out, _ = run(capsys, "status", "--verify")
    assert status == 1 and "1 damaged:" in out and path.name in out
    assert run(capsys, "status")[0] == 0


def test_names_cannot_steer_the_terminal(capsys, store):
    store.put(recipe(title="\x1b[2J\x07evil\r"), {"a": np.zeros(1)})
    out = run(capsys, "status")[1] + run(capsys, "status", recipe(title="").digest)[1]
    assert "?[2J?evil?" in out and not any(c in out for c in "\x1b\x07\r")


# --- prune and clean -------------------------------------------------------------------------------------------------


def test_prune_says_what_goes(capsys, store):
    fill(store)
    assert "nothing to drop" in run(capsys, "prune")[1]
    status, out, _ = run(capsys, "prune", "--max-gb", "0.00022", "--dry-run")
    assert status == 0 and out.endswith("Would drop 1 result, 101 kB.\n") and len(store.entries()) == 3
    assert run(capsys, "prune", "--max-gb", "0.00022")[1].endswith("Dropped 1 result, 101 kB.\n")
    assert "nothing" in run(capsys, "prune", "--older-than-days", "1")[1] and len(store.entries()) == 2
    run(capsys, "prune", "--older-than-days", "0")
    assert store.entries() == []


def test_clean_asks(capsys, store, monkeypatch):
    fill(store)
    store.put(recipe(model="other@99999999"), {"a": np.zeros(1)})
    for answer, n_left in (("", 4), ("n", 4), ("Y", 1)):
        monkeypatch.setattr("builtins.input", lambda question, answer=answer: answer)
        status, out, _ = run(capsys, "clean", "--model", "resnet-toy")
        assert status == 0 and "Would drop 3 results" in out and len(store.entries()) == n_left
    assert out.endswith("Dropped 3.\n")
    assert "nothing to drop" in run(capsys, "clean", "--model", "resnet-toy")[1]


def test_clean_without_anybody_to_ask(capsys, store, monkeypatch):
    fill(store)

    def nobody(question):
        raise EOFError

    monkeypatch.setattr("builtins.input", nobody)
    status, _, err = run(capsys, "clean", "--data", "toy")
    assert status == 2 and "--yes" in err and len(store.entries()) == 3
    assert run(capsys, "clean", "--everything", "--dry-run")[0] == 0 and len(store.entries()) == 3
    assert run(capsys, "clean", "--everything", "--yes")[0] == 0 and store.entries() == []


@pytest.mark.parametrize("words", [["--max-gb", "-1"], ["--older-than-days", "nan"], ["--max-gb", "inf"]])
def test_limits_that_make_no_sense_are_named_as_they_were_given(capsys, store, words):
    status, _, err = run(capsys, "prune", *words)
    assert status == 2 and f"{words[0]} must be a number of at least 0; got {words[1]}" in err


def test_clean_names_what_could_have_been_meant(capsys, store):
    fill(store)
    _, out, _ = run(capsys, "clean", "--model", "resnet-tyo")
    assert out == "There is nothing to drop.\nThe store holds results of resnet-toy@3f9a….\n"
    _, out, _ = run(capsys, "clean", "--data", "tyo")
    assert out.endswith("The store holds results of toy@0123….\n")


# --- doctor ----------------------------------------------------------------------------------------------------------


def test_doctor_says_what_is_here(capsys, store):
    fill(store)
    status, out, _ = run(capsys, "doctor")
    assert status == 0 and out.startswith(f"workbench {__version__} on Python ")
    for word in (
        "Torch     2.",
        "Devices   cpu",
        "safetensors ",
        f"Setting   WORKBENCH_STORE={store.path}",
        "can be written",
    ):
        assert word in out
    told = json.loads(run(capsys, "doctor", "--json")[1])
    assert told["store"]["problem"] == "" and told["store"]["entries"] == 3 and told["packages"]["torch"]


def test_doctor_names_what_is_missing_and_how_to_get_it(capsys, store, monkeypatch):
    def version(name):
        if name in ("zennit", "timm", "open_clip_torch"):
            raise doctor.metadata.PackageNotFoundError(name)
        return "2.1" if name == "torch" else "99"

    wanted = ["torch>=2.6", "zennit>=0.5.1", 'timm>=1.0.11; extra == "demo"', "open_clip_torch; extra == 'clip'"]
    monkeypatch.setattr(doctor.metadata, "requires", lambda name: [*wanted, 'workbench[photos]; extra == "demo"'])
    monkeypatch.setattr(doctor.metadata, "version", version)
    monkeypatch.setattr(doctor.shutil, "which", lambda name: None)
    status, out, _ = run(capsys, "doctor")
    assert status == 1 and "MISSING, and needed" in out and "All that is needed" not in out
    assert '  zennit: needed. pip install "zennit>=0.5.1"' in out
    assert '  torch 2.1 is older than 2.6: needed. pip install "torch>=2.6"' in out
    assert '  timm: the tour: real weights, maps of concepts, JupyterLab. pip install "workbench[demo]"' in out
    assert '  open_clip_torch: search by text with CLIP. pip install "workbench[clip]"' in out
    assert "  chromium: browser tests. Install Chromium." in out and "Browser   none found" in out


def test_doctor_tells_a_store_that_cannot_be_used(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    status, out, _ = run(capsys, "doctor", "--store", str(tmp_path / "file"))
    assert status == 1 and "is a file" in out
    assert report.health(tmp_path / "new")["problem"] == "" and not (tmp_path / "new").exists()
    # A folder that cannot be made, where a store does not exist yet.
    nowhere = next((p for p in ("/proc/none", "/sys/none") if os.path.isdir(os.path.dirname(p))), None)
    assert nowhere is None or "can be written" not in report.health(nowhere)["text"]


# --- sweep -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "value"),
    [(None, None), ("500", 500), ("0:500", slice(0, 500)), (":7", slice(None, 7)), ("3,14,15", [3, 14, 15])],
)
def test_samples_are_read(text, value):
    assert cli._samples(text) == value


@pytest.mark.parametrize("text", ["", "many", "1,x", "a:b", "1.5"])
def test_samples_that_cannot_be_read_are_explained(text):
    with pytest.raises(BadValueError, match="a range"):
        cli._samples(text)


@pytest.fixture
def toy_store(store_path, request):
    """A fresh store that finds the toy network trained: that takes most of a minute, once for all tests."""
    from workbench.models import zoo

    zoo.build("toy-cnn")
    return request.getfixturevalue("own_store")


@pytest.mark.xdist_group("toy")
def test_sweep_fills_the_store(capsys, toy_store):
    words = ["sweep", "toy-cnn", "toy", "--samples", "40", "--layers", "features.11", "features.6", "--device", "cpu"]
    status, out, _ = run(capsys, *words)
    assert status == 0 and out == f"Complete: features.6, features.11 over 40 of 1 200 samples, in {toy_store}\n"
    before = {e.digest: e.made for e in DiskStore().entries()}
    assert any(e.is_pass and e.is_complete for e in DiskStore().entries())
    assert run(capsys, *words)[0] == 0
    assert {e.digest: e.made for e in DiskStore().entries()} == before, "again: nothing is made"


@pytest.mark.xdist_group("toy")
def test_sweep_may_keep_references_alone(capsys, toy_store):
    words = ["sweep", "toy-cnn", "toy", "--samples", "40", "--layers", "features.11", "--device", "cpu"]
    status, out, _ = run(capsys, *words, "--keep", "references")
    assert status == 0 and out == f"Complete: features.11 over 40 of 1 200 samples, in {toy_store}\n"
    assert [(e.kind, e.n_samples) for e in DiskStore().entries()] == [("references", 40)]
    status, out, _ = run(capsys, "status")
    assert status == 0 and "references of 1 layer of" in out


@pytest.mark.xdist_group("toy")
def test_sweep_lists_layers_and_names_the_nearest(capsys, toy_store):
    status, out, _ = run(capsys, "sweep", "toy-cnn", "toy")
    assert status == 0 and "  features.6  ReLU 48x16x16\n" in out
    status, _, err = run(capsys, "sweep", "toy-cnn", "toy", "--layers", "feature.6")
    assert status == 2 and 'Nearest: "features.6"' in err


@pytest.mark.xdist_group("toy")
@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_an_interrupted_sweep_goes_on(toy_store):
    words = [sys.executable, "-m", "workbench", "sweep", "toy-cnn", "toy", "--layers", "features.6", "--samples", "400"]
    words += ["--batch", "4"]
    first = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for line in first.stderr:
        if re.search(r"\d+ of 400", line):
            break
    while not list(toy_store.glob("passes/*/shard-*.json")) and first.poll() is None:
        time.sleep(0.02)
    first.send_signal(signal.SIGINT)
    out, err = first.communicate(timeout=60)
    assert first.returncode == 130, err
    assert "What was finished is kept." in err and "Traceback" not in err
    (entry,) = [e for e in DiskStore().entries() if e.is_pass]
    assert not entry.is_complete and 0 < entry.coverage < 1
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert f"{entry.n_samples} samples found in the store" in done.stderr
    (entry,) = [e for e in DiskStore().entries() if e.is_pass]
    assert entry.is_complete


# --- lab -------------------------------------------------------------------------------------------------------------

SERVER = """
import http.server, os, sys
port, mode = int(sys.argv[1]), sys.argv[2]
if mode == "dies":
    sys.exit(3)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        ok = self.headers["Authorization"] == "token " + os.environ["JUPYTER_TOKEN"] and self.path == "/api/status"
        self.send_response(200 if ok else 403)
        self.end_headers()
        self.wfile.write(os.environ.get("WORKBENCH_STORE", "").encode())
    def log_message(self, *arguments):
        pass
http.server.HTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture
def fake_lab(monkeypatch):
    """A small server in place of JupyterLab."""
    mode = ["serves"]

    def command(self):
        return [sys.executable, "-c", SERVER, str(self.port), mode[0]]

    monkeypatch.setattr(lab_module.Lab, "_command", command)
    return mode


def test_lab_tells_the_address_and_stops_what_it_started(fake_lab, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "00_tour.ipynb").write_text("mine")
    with lab_module.Lab(folder=tmp_path / "work", store=tmp_path / "store") as lab:
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/lab/tree/00_tour\.ipynb\?token=[\w-]{20,}", lab.address)
        token = lab.address.partition("token=")[2]
        request = urllib.request.Request(
            f"http://127.0.0.1:{lab.port}/api/status", headers={"Authorization": f"token {token}"}
        )
        with urllib.request.urlopen(request, timeout=5) as answer:
            assert answer.read().decode() == str(tmp_path / "store")
        process = lab._process
    assert process.poll() is not None
    assert (tmp_path / "work" / "00_tour.ipynb").read_text() == "mine"


def test_lab_says_when_the_server_does_not_start(fake_lab, tmp_path):
    fake_lab[0] = "dies"
    with pytest.raises(WorkbenchError, match="exit status 3"), lab_module.Lab(folder=tmp_path):
        pass


def test_lab_keeps_the_token_out_of_the_arguments(tmp_path):
    lab = lab_module.Lab(folder=tmp_path, opens_browser=False)
    words = lab._command()
    assert lab._token not in " ".join(words) and "--no-browser" in words and "--ServerApp.ip=127.0.0.1" in words
    assert "--no-browser" not in lab_module.Lab(folder=tmp_path)._command()


def test_lab_copies_what_is_not_there_yet(tmp_path, monkeypatch):
    package = tmp_path / "clone" / "workbench"
    (tmp_path / "clone" / "notebooks").mkdir(parents=True)
    for name in ("00_tour.ipynb", "01_other.ipynb"):
        (tmp_path / "clone" / "notebooks" / name).write_text("new")
    monkeypatch.setattr("workbench.__file__", str(package / "__init__.py"))
    assert lab_module.Lab().folder == tmp_path / "clone" / "notebooks"
    target = tmp_path / "tour"
    target.mkdir()
    (target / "00_tour.ipynb").write_text("mine")
    assert lab_module.Lab(folder=target).folder == target
    assert [(target / n).read_text() for n in ("00_tour.ipynb", "01_other.ipynb")] == ["mine", "new"]
    monkeypatch.setattr("workbench.__file__", str(tmp_path / "site-packages" / "workbench" / "__init__.py"))
    with pytest.raises(DataError, match="--dir"):
        lab_module.Lab()
    assert lab_module.Lab(folder=tmp_path / "empty")._page == "/lab"


def test_lab_ports(capsys, tmp_path, fake_lab):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, _, err = run(capsys, "lab", "--dir", str(tmp_path), "--port", str(port))
        assert status == 2 and f"Port {port} is in use" in err
    assert run(capsys, "lab", "--dir", str(tmp_path), "--port", "70000")[0] == 2


def test_lab_needs_jupyterlab(monkeypatch, tmp_path):
    monkeypatch.setattr(lab_module, "find_spec", lambda name: None)
    with pytest.raises(MissingPackageError, match=r"workbench\[demo\]"):
        lab_module.Lab(folder=tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="needs SIGINT")
def test_real_jupyterlab_starts_and_ctrl_c_stops_it(tmp_path):
    pytest.importorskip("jupyterlab")
    places = ("JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR")
    places += ("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")
    environment = {**os.environ, **{name: str(tmp_path / name.lower()) for name in places}}
    work = tmp_path / "work"
    work.mkdir()
    (work / "00_tour.ipynb").write_text('{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}')
    words = [sys.executable, "-m", "workbench", "lab", "--dir", str(work), "--no-browser"]
    lab = subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    noise: list[str] = []
    reader = threading.Thread(target=lambda: noise.extend(lab.stderr), daemon=True)
    reader.start()
    try:
        told = lab.stdout.readline()
        address = told.partition("is at ")[2].strip()
        assert address.startswith("http://127.0.0.1:") and "/lab/tree/00_tour.ipynb?token=" in address, (told, noise)
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(address, timeout=20) as page:
            assert page.status == 200 and b"jupyter-config-data" in page.read()
        with direct.open(address.replace("/lab/tree/", "/api/contents/"), timeout=20) as page:
            assert json.load(page)["type"] == "notebook"
        port = int(address.split(":")[2].split("/")[0])
        lab.send_signal(signal.SIGINT)
        assert lab.wait(timeout=30) == 130
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0, "the server is gone too"
    finally:
        if lab.poll() is None:
            lab.terminate()
            lab.wait(timeout=30)
        reader.join(timeout=5)
        lab.stdout.close()
        lab.stderr.close()
