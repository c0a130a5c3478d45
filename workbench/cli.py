"""The `workbench` command: the tour, sweeps without a notebook, and looking after the store."""

from __future__ import annotations

import argparse
import json
import logging
import math
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from workbench.core.errors import BadValueError, WorkbenchError

if TYPE_CHECKING:
    from workbench.store.base import Entry
    from workbench.store.tiered import TieredStore

__all__ = ["main", "make_parser"]

_EXAMPLES = """\
examples:
  workbench lab
  workbench sweep efficientnet_lite0 photos --layers blocks.4 bn2
  workbench status
  workbench COMMAND --help      what a command does, with examples

Results live in your cache folder unless --store or WORKBENCH_STORE says otherwise. Errors say what to do and end with
exit status 2; an interrupted command (Ctrl-C) ends with 130, and what it finished is kept.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name. Default: those of this process.

    Returns
    -------
    int
        Exit status: 0, 1 where something was found wrong, 2 for errors, 130 when interrupted.
    """
    parser = make_parser()
    given = parser.parse_args(argv)
    show_traceback = getattr(given, "traceback", False)
    level = logging.INFO if getattr(given, "verbose", False) else logging.WARNING
    _log_to_stderr(level)
    if given.run is None:
        parser.print_help()
        return 2
    try:
        return given.run(given)
    except WorkbenchError as error:
        if show_traceback:
            traceback.print_exc()
        _say(f"error: {error.message}", to_error=True)
        if error.hint:
            _say(f"       {error.hint}", to_error=True)
        return 2
    except KeyboardInterrupt:
        if show_traceback:
            traceback.print_exc()
        _say("Interrupted. What was finished is kept.", to_error=True)
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def make_parser() -> argparse.ArgumentParser:
    """Describe the command, its parts and their options."""
    from workbench import __version__

    parser = argparse.ArgumentParser(
        prog="workbench",
        description="Concept-based explanation of neural networks.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"workbench {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--store", metavar="DIR", help="the store's folder (default: WORKBENCH_STORE, else your cache)")
    common.add_argument("-v", "--verbose", action="store_true", help="say more on the way")
    common.add_argument("--traceback", action="store_true", help="show where in the code an error arose")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    parser.set_defaults(run=None)

    def add(name: str, run: Callable[[argparse.Namespace], int], brief: str, text: str) -> argparse.ArgumentParser:
        one = commands.add_parser(
            name,
            help=brief,
            description=f"{brief[0].upper()}{brief[1:]}.",
            epilog=text,
            parents=[common],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        one.set_defaults(run=run)
        return one

    for describe in (_add_lab, _add_sweep, _add_status, _add_prune, _add_clean, _add_doctor):
        describe(add)
    return parser


# --- lab -------------------------------------------------------------------------------------------------------------


def _add_lab(add: Any) -> None:
    lab = add("lab", _lab, "open JupyterLab on the tour", _LAB)
    lab.add_argument("--dir", metavar="DIR", help="work on copies there; what is there already stays as it is")
    lab.add_argument("--no-browser", action="store_true", help="only print the address")
    lab.add_argument("--port", type=int, metavar="N", help="default: 8888, or a free one if that is taken")


_LAB = """\
JupyterLab listens on this machine only (127.0.0.1), and its address carries a token. Ctrl-C stops it.

examples:
  workbench lab                          the notebooks as they lie in the repository
  workbench lab --dir ~/tour             copies of your own, to change as you like
  workbench lab --no-browser --port 9000
"""


def _lab(given: argparse.Namespace) -> int:
    from workbench.session.lab import Lab

    with Lab(folder=given.dir, port=given.port, opens_browser=not given.no_browser, store=given.store) as lab:
        _say(f"JupyterLab is at {lab.address}", "Ctrl-C stops it.")
        return lab.wait()


# --- sweep -----------------------------------------------------------------------------------------------------------


def _add_sweep(add: Any) -> None:
    sweep = add("sweep", _sweep, "collect activations, relevances and references of layers over a data set", _SWEEP)
    sweep.add_argument(
        "model", help='a name: "toy-cnn", "bird-vgg", "efficientnet_lite0", "torchvision:resnet18", "timm:...", ...'
    )
    sweep.add_argument(
        "data", help='a name ("toy", "birds", "photos", "stamps", "torchvision:..."), a folder, or a zip file'
    )
    sweep.add_argument("--layers", nargs="+", metavar="LAYER", help="dotted names; without them the layers are listed")
    sweep.add_argument("--no-relevance", action="store_true", help="activations alone, which is much quicker")
    sweep.add_argument("--target", metavar="TEXT", help="what relevances explain: top (default), label, logit:3, box:0")
    sweep.add_argument("--rule", metavar="NAME", help="composite of relevance rules (default: EpsilonPlusFlat)")
    sweep.add_argument(
        "--samples", metavar="WHICH", help="how many, spread evenly (500), a range (0:500) or ids (3,14)"
    )
    sweep.add_argument(
        "--keep",
        default="tables",
        choices=("tables", "references"),
        help="tables (default): values of every sample; references: the best samples of each component alone, which "
        "fill few bytes however large the data are",
    )
    sweep.add_argument("--batch", type=int, metavar="N", help="samples per pass; halved by itself when memory runs out")
    sweep.add_argument(
        "--device", default="auto", metavar="NAME", help="cpu, cuda, cuda:1, mps (default: the best here)"
    )


_SWEEP = """\
One pass over the data serves all layers. It is kept in shards: an interrupted sweep goes on where it stopped, and one
that is complete in the store returns at once.

examples:
  workbench sweep toy-cnn toy --layers features.6 features.11
  workbench sweep efficientnet_lite0 photos --layers blocks.4 bn2
  workbench sweep torchvision:resnet18 ~/pictures --layers layer4 --no-relevance --samples 1000
  workbench sweep torchvision:resnet18 ~/large --layers layer4 --keep references
  workbench sweep toy-cnn toy                  lists the layers
"""


def _sweep(given: argparse.Namespace) -> int:
    import workbench
    from workbench.store.words import count

    logging.getLogger("workbench").setLevel(logging.INFO)  # without a terminal the progress is told by log lines
    samples = _samples(given.samples)
    with workbench.open_session(given.model, data=given.data, store=given.store, device=given.device) as session:
        if not given.layers:
            _say(f"Layers of {given.model}, for --layers:")
            for name, layer in session.layers().items():
                _say(f"  {name}  {layer.kind} {'x'.join(map(str, layer.shape))}")
            return 0
        done = session.sweep(
            given.layers,
            relevance=not given.no_relevance,
            target=given.target,
            rule=given.rule,
            samples=samples,
            batch=given.batch,
            keep=given.keep,
        )
        part = f" of {count(done.n_data)}" if done.is_subset else ""
        layers = ", ".join(done.layers)
        _say(f"Complete: {layers} over {count(len(done.samples))}{part} samples, in {session.store.path}")
    return 0


def _samples(text: str | None) -> int | slice | list[int] | None:
    if text is None:
        return None
    try:
        if ":" in text:
            start, _, stop = text.partition(":")
            return slice(int(start) if start else None, int(stop) if stop else None)
        return [int(n) for n in text.split(",")] if "," in text else int(text)
    except ValueError as error:
        raise BadValueError(
            f"--samples {text!r} cannot be read.", hint="Write how many (500), a range (0:500), or ids (3,14,15)."
        ) from error


# --- the store -------------------------------------------------------------------------------------------------------


def _add_status(add: Any) -> None:
    status = add("status", _status, "say what the store holds, and how it came to be", _STATUS)
    status.add_argument("digest", nargs="?", help="explain one result: six digits or more of its digest")
    status.add_argument("--all", action="store_true", help="list all results, not the newest 20")
    status.add_argument(
        "--verify", action="store_true", help="compare all files with their checksums; status 1 if one is bad"
    )
    status.add_argument("--json", action="store_true", help="for programs")


_STATUS = """\
examples:
  workbench status                 where it is, how full, the newest results, unfinished passes
  workbench status 3f9a81c2        one result: recipe, arrays, notes
  workbench status --verify        read everything again; damaged results are made anew when next asked for
"""


def _status(given: argparse.Namespace) -> int:
    from workbench.store import report

    store = _open(given)
    damages = store.verify(progress=_bar()) if given.verify else []
    if given.json:
        told: dict[str, Any] = {"path": str(store.path), "tiers": store.stats()}
        entries = [store.entry(given.digest)] if given.digest else store.entries()
        told["entries"] = [report.as_record(e) for e in entries if e is not None]
        if given.verify:
            told["damaged"] = [{"digest": d.digest, "path": str(d.path), "reason": d.reason} for d in damages]
        _say(json.dumps(told, indent=1))
        return 1 if damages or (given.digest and not told["entries"]) else 0
    if given.digest:
        _say(*report.describe_entry(store, given.digest))
        if store.entry(given.digest) is None:
            _say(f"`workbench status --all` lists what is in {store.path}.")
            return 1
    else:
        _say(*report.describe_store(store, limit=None if given.all else 20))
    if given.verify:
        _say("", f"{len(damages)} damaged:" if damages else "Every file is as it was written.")
        _say(*(f"  {damage.reason}" for damage in damages))
    return 1 if damages else 0


def _add_prune(add: Any) -> None:
    prune = add("prune", _prune, "drop what was not used for longest", _PRUNE)
    prune.add_argument("--max-gb", type=float, metavar="GB", help="until so much is left (default: the store's budget)")
    prune.add_argument("--older-than-days", type=float, metavar="N", help="everything not used for so long")
    prune.add_argument("--dry-run", action="store_true", help="only say what would go")


_PRUNE = """\
Passes that are being written stay. What is dropped is computed again when it is next asked for.

examples:
  workbench prune --max-gb 5
  workbench prune --older-than-days 30 --dry-run
"""


def _prune(given: argparse.Namespace) -> int:
    for option in ("max_gb", "older_than_days"):
        value = getattr(given, option)
        if value is not None and not 0 <= value < math.inf:
            name = f"--{option.replace('_', '-')}"
            raise BadValueError(f"{name} must be a number of at least 0; got {value:g}.", hint="For example 5.")
    max_bytes = None if given.max_gb is None else int(given.max_gb * 1e9)
    gone = _open(given).prune(max_bytes, given.older_than_days, dry_run=given.dry_run)
    _say_gone(gone, given.dry_run)
    return 0


def _add_clean(add: Any) -> None:
    clean = add("clean", _clean, "drop everything of a model, of a data set, or all", _CLEAN)
    clean.add_argument("--model", metavar="NAME", help="results of this model: its name, digest, or name@digest")
    clean.add_argument("--data", metavar="NAME", help="results on this data set; with --model, those of both")
    clean.add_argument("--everything", action="store_true", help="all results")
    clean.add_argument("--yes", action="store_true", help="do not ask")
    clean.add_argument("--dry-run", action="store_true", help="only say what would go")


_CLEAN = """\
Says what would go and asks, unless --yes is given. Passes that are being written stay.

examples:
  workbench clean --model toy-cnn
  workbench clean --model resnet-toy@3f9a --data photos
  workbench clean --everything --dry-run
"""


def _clean(given: argparse.Namespace) -> int:
    if not (given.model or given.data or given.everything):
        raise BadValueError("What shall be dropped?", hint="Give --model, --data, both, or --everything.")
    store = _open(given)
    would_go = store.clean(given.model, given.data, everything=given.everything, dry_run=True)
    _say_gone(would_go, True)
    if not would_go and not given.everything and (known := _known(store, given)):
        _say(f"The store holds results of {', '.join(known)}.")
    if given.dry_run or (not would_go and not given.everything):
        return 0
    if not given.yes and would_go:
        try:
            answer = input("Drop them? [y/N] ")
        except EOFError:
            raise BadValueError("Nobody answers, so nothing is dropped.", hint="Say --yes to go ahead.") from None
        if answer.strip().lower() not in ("y", "yes"):
            _say("Nothing was dropped.")
            return 0
    gone = store.clean(given.model, given.data, everything=given.everything)
    if would_go:
        _say(f"Dropped {len(gone)}.")
    return 0


def _known(store: TieredStore, given: argparse.Namespace) -> list[str]:
    """Names of the models and data sets that could have been meant."""
    from workbench.store.recipe import shorten

    entries = store.entries()
    names = [e.model for e in entries] if given.model else []
    names += [e.data for e in entries] if given.data else []
    return sorted({shorten(name) for name in names if name})


def _open(given: argparse.Namespace) -> TieredStore:
    from workbench.store import Store

    return Store.open(given.store)


def _say_gone(gone: Sequence[Entry], dry_run: bool) -> None:
    from workbench.store.report import listing
    from workbench.store.words import count, size

    if not gone:
        _say("There is nothing to drop.")
        return
    _say(*listing(gone))
    total = f"{count(len(gone), 'result')}, {size(sum(e.bytes for e in gone))}"
    _say(f"Would drop {total}." if dry_run else f"Dropped {total}.")


# --- doctor ----------------------------------------------------------------------------------------------------------


def _add_doctor(add: Any) -> None:
    doctor = add("doctor", _doctor, "say which versions and devices are here, and what is missing", _DOCTOR)
    doctor.add_argument("--json", action="store_true", help="for programs")


_DOCTOR = """\
Put its output into a bug report. Exit status 1 means that something needed is missing.
"""


def _doctor(given: argparse.Namespace) -> int:
    from workbench.core import doctor
    from workbench.store.report import health

    facts = doctor.gather()
    store = health(given.store)
    if store["problem"]:
        how = "Name another folder with --store or WORKBENCH_STORE."
        facts["missing"].append({"what": "the store", "for": store["problem"], "how": how, "is_needed": True})
    if given.json:
        _say(json.dumps({**facts, "store": store}, indent=1))
    else:
        _say(*doctor.lines(facts), f"Store     {store['text']}")
    return 1 if any(m["is_needed"] for m in facts["missing"]) else 0


# --- telling ---------------------------------------------------------------------------------------------------------


def _say(*lines: str, to_error: bool = False) -> None:
    """Print lines. Names come from outside: what could steer a terminal is shown as a question mark."""
    for line in lines:
        text = "".join(c if c.isprintable() or c == "\n" else "?" for c in line)
        stream = sys.stderr if to_error else sys.stdout
        encoding = getattr(stream, "encoding", None) or "utf-8"
        print(text.encode(encoding, "replace").decode(encoding), file=stream, flush=True)


class _Plain(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        return text if record.levelno <= logging.INFO else f"{record.levelname.lower()}: {text}"


def _log_to_stderr(level: int) -> None:
    handler = logging.StreamHandler()
    handler.setFormatter(_Plain())
    logging.basicConfig(level=level, handlers=[handler])


def _bar() -> Any:
    from workbench.core.progress import SilentProgress, TqdmProgress

    return TqdmProgress(leave=False) if sys.stderr.isatty() else SilentProgress()


if __name__ == "__main__":
    sys.exit(main())
