"""ModelTree: which layers does the model have, what is stored of them, and what would a sweep of more cost?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from workbench.core import check
from workbench.core.bars import Bars
from workbench.core.errors import BadValueError, CancelledError, ModelError
from workbench.core.ids import ComponentId
from workbench.core.words import count, size
from workbench.session.deliver import deliver
from workbench.session.lane import Job
from workbench.widgets import wire
from workbench.widgets.bars import bars
from workbench.widgets.base import SessionWidget, on, register_widget
from workbench.widgets.esm import css, esm
from workbench.widgets.pacing import Paced
from workbench.widgets.stills import Still
from workbench.widgets.tree_rows import matches, tree_rows

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["ModelTree"]

_KINDS = ("activations", "relevances", "references")
_LONG_S = 0.3  # work on the model that took longer may have stored something
_OPTIONS = ("relevance", "n_samples", "keep")
_BARS = 14


@register_widget("model_tree")
class ModelTree(SessionWidget):
    """The layers of the model as a tree, what is stored of each, and sweeps of those that are checked.

    Each layer says its number of components, the shape of its output, and which activations, relevances and references
    the store holds over which share of the data; a layer that cannot be used says why. Check layers, look at what a
    sweep of them would cost, and start it; one that was interrupted goes on where it stopped.

    Parameters
    ----------
    source : Session
    **view
        `layer`, `checked`, `query`, `expanded`, the options of a sweep, and the other traits.

    Attributes
    ----------
    layer : str
        The chosen layer, for other widgets: ``jslink((tree, "layer"), (atlas, "layer"))``.

    Examples
    --------
    >>> tree = ModelTree(s, checked=["bn2"])  # doctest: +SKIP
    >>> tree.start().result()  # doctest: +SKIP
    """

    _esm = esm("model_tree")
    _css = css("model_tree")
    follows = ("component",)
    stands_for = "layer"

    component = traitlets.Any(None, allow_none=True, help="Address of the selected component, or None.").tag(sync=True)
    layer = traitlets.Unicode("", help="Name of the chosen layer; empty for none.").tag(sync=True, view=True)
    checked = traitlets.List(traitlets.Unicode(), help="Names of the checked layers, in the order of the tree.").tag(
        sync=True, view=True
    )
    query = traitlets.Unicode("", help="Words that the names or kinds of the layers on show must contain.").tag(
        sync=True, view=True
    )
    expanded = traitlets.List(
        traitlets.Unicode(),
        None,
        allow_none=True,
        help='Names of the modules that are unfolded, the model itself as ""; None for as many as are easy to survey.',
    ).tag(sync=True, view=True)
    relevance = traitlets.Bool(True, help="Whether a sweep also collects relevances.").tag(sync=True, view=True)
    n_samples = traitlets.Int(0, min=0, help="Samples of a sweep, spread evenly over the data; 0 for all.").tag(
        sync=True, view=True
    )
    keep = traitlets.Enum(["tables", "references"], "tables", help="What a sweep keeps, as in `Session.sweep`.").tag(
        sync=True, view=True
    )
    tree = traitlets.Dict(help="Rows of the tree, parents before their children: names, parents and facts.").tag(
        sync=True, **wire.arrays
    )
    stored = traitlets.Dict(help="Covered shares and bytes of each row; NaN where nothing can be stored.").tag(
        sync=True, **wire.arrays
    )
    planned = traitlets.Dict(help="The planned sweep and its cost; empty before it is asked for.").tag(
        sync=True, **wire.arrays
    )

    def bind(self, source: Any) -> None:
        if self.session is None:
            raise BadValueError(
                f"ModelTree shows the layers of a session; got {type(source).__name__}.",
                hint="Give it what open_session returned.",
            )
        self._look_again = Paced(lambda: deliver(self.refresh, key=(id(self), "stored")), 1.0)
        self._last_ended = max((job.number for job in self.session.jobs()), default=0)
        self._undo += [self._look_again.stop, self.session.on_jobs(self._notice)]
        self.observe(lambda change: self._forget_plan(), names=["checked", *_OPTIONS])
        self.refresh()

    # What is on show --------------------------------------------------------------------------------------------------

    @cached_property
    def rows(self) -> list[dict[str, Any]]:
        """Rows of the tree as records, parents before their children."""
        return tree_rows(self.session.layers())

    @cached_property
    def _usable(self) -> list[str]:
        return [row["name"] for row in self.rows if row["is_usable"]]

    @cached_property
    def _reasons(self) -> dict[str, str]:
        """Why a layer cannot be used, by name; empty for one that can."""
        return {row["name"]: row["reason"] for row in self.rows if row["is_layer"]}

    @traitlets.default("tree")
    def _packed_rows(self) -> dict[str, Any]:
        if self.session is None:
            return {}
        rows = self.rows
        model = getattr(getattr(self.session, "model", None), "card", None)
        return {
            "model": str(getattr(model, "name", "")),
            "n_data": len(self.session.data) if self._has_data else 0,
            "names": [row["name"] for row in rows],
            "labels": [row["label"] for row in rows],
            "parents": np.array([row["parent"] for row in rows], dtype=np.int32),
            "kinds": [row["kind"] for row in rows],
            "shapes": [row["shape"] for row in rows],
            "components": np.array([row["components"] for row in rows], dtype=np.int32),
            "reasons": [row["reason"] for row in rows],
        }

    @property
    def _has_data(self) -> bool:
        return bool(getattr(self.session, "has_data", True))

    @traitlets.validate("layer")
    def _is_layer(self, proposal: Any) -> str:
        if proposal["value"]:
            self._check_usable(proposal["value"])
        return proposal["value"]

    @traitlets.validate("checked")
    def _are_layers(self, proposal: Any) -> list[str]:
        wanted = set(proposal["value"])
        for name in proposal["value"]:
            self._check_usable(name)
        return [name for name in self._usable if name in wanted]

    @traitlets.validate("expanded")
    def _are_modules(self, proposal: Any) -> list[str] | None:
        if proposal["value"] is None:
            return None
        known, wanted = [row["name"] for row in self.rows], set(proposal["value"])
        for name in wanted.difference(known):
            check.known("module", name, known)
        return [name for name in known if name in wanted]

    def _check_usable(self, name: str) -> None:
        if name not in self._reasons:
            check.known("layer", name, list(self._reasons), hint="`session.layers()` lists all.")
        if self._reasons[name]:
            raise ModelError(
                f'"{name}" cannot be used: it {self._reasons[name]}.', hint="Choose the layers before and after it."
            )

    def refresh(self) -> Job | None:
        """Look again at what is stored; done by itself after sweeps."""
        if not self._has_data or self._is_closed:
            return None
        with contextlib.suppress(CancelledError):  # closed a moment ago
            return self.submit(self._stored, into="stored", title="What is stored", quiet=bool(self.stored))
        return None

    def _stored(self) -> dict[str, Any]:
        held = self.session.stored()
        found = [held.get(row["name"]) for row in self.rows]
        columns = {
            kind: np.array([np.nan if one is None else getattr(one, kind) for one in found], dtype=np.float32)
            for kind in _KINDS
        }
        return {
            **columns,
            "bytes": np.array([0 if one is None else one.bytes for one in found], dtype=np.float32),
            "unfinished": np.array([one is not None and one.is_unfinished for one in found]),
        }

    def _notice(self) -> None:
        # On the threads that work, at every step: a look at what has ended since, no more.
        newest = next((job for job in self.session.jobs() if job.has_ended), None)
        if newest is not None and newest.number > self._last_ended:
            self._last_ended = newest.number
            if newest.seconds > _LONG_S:
                self._look_again()

    # Sweeps -----------------------------------------------------------------------------------------------------------

    def plan(self) -> Job:
        """Work out what a sweep of the checked layers would cost; the plan is then shown, and in `planned`."""
        layers = self._wanted_layers()
        return self.submit(self._plan, layers, self._options(), into="planned", title="Plan of a sweep")

    def start(self) -> Job:
        """Sweep the checked layers, or go on where that stopped; `cancel` stops it and keeps what is done.

        Returns
        -------
        Job
            Its result is the plan that was carried out.
        """
        layers = self._wanted_layers()
        title = f"Sweep of {count(len(layers), 'layer')}" if len(layers) > 1 else f"Sweep of {layers[0]}"
        job = self.submit(self._sweep, layers, self._options(), topic="sweep", title=title)
        job.add_done_callback(lambda job: deliver(self._after_sweep, job.state))
        return job

    def _wanted_layers(self) -> list[str]:
        if not self.checked:
            raise BadValueError("No layer is checked.", hint='Check some, or set `widget.checked = ["…"]`.')
        if not self._has_data:
            raise BadValueError(
                "This session has no data to sweep.", hint='Open it with data: open_session(model, data="photos").'
            )
        return list(self.checked)

    def _options(self) -> dict[str, Any]:
        return {"relevance": self.relevance, "samples": self.n_samples or None, "keep": self.keep}

    def _plan(self, layers: list[str], options: dict[str, Any]) -> dict[str, Any]:
        plan = self.session.plan(layers, **options)
        return {
            "layers": list(plan.layers),
            "n_samples": len(plan.samples),
            "n_data": int(plan.n_data),
            "relevance": plan.rule is not None,
            "keep": str(plan.keep),
            "batch": int(plan.batch),
            "seconds": None if plan.seconds_per_sample is None else plan.seconds_per_sample * len(plan.samples),
            "disk_bytes": float(plan.disk_bytes),
            "passing_bytes": float(plan.passing_bytes),
            "memory_bytes": float(plan.memory_bytes),
            "swept": float(self.session.swept(plan)),
        }

    def _sweep(self, layers: list[str], options: dict[str, Any], progress: Any = None) -> Any:
        return self.session.sweep(layers, **options, progress=progress)

    def _after_sweep(self, state: str) -> None:
        if self._is_closed:
            return
        if state == "done":
            self._forget_plan()
        elif self.planned and self.checked:
            with contextlib.suppress(CancelledError):
                self.plan()
        self.refresh()

    def _forget_plan(self) -> None:
        self.settle("planned")  # one that is still being made is no longer wanted
        if self.planned:
            self.planned = {}

    @on("plan")
    def _on_plan(self) -> Job:
        return self.plan()

    @on("start")
    def _on_start(self) -> None:
        self.start()

    @on("refresh")
    def _on_refresh(self) -> None:
        self.refresh()

    # What others get --------------------------------------------------------------------------------------------------

    def on_select(self, callback: Callable[[pd.DataFrame], None]) -> Callable[[], None]:
        """Call `callback(frame)` whenever other layers are checked; returns a function that ends it."""

        def tell(change: Any) -> None:
            callback(self.selection)

        self.observe(tell, names=["checked"])
        return lambda: self.unobserve(tell, names=["checked"])

    def table(self) -> pd.DataFrame:
        """The layers that the query leaves, in the order of the tree, folded ones included."""
        import pandas as pd

        shown = [(i, row) for i, row in enumerate(self.rows) if row["is_layer"] and matches(row, self.query)]
        at = [i for i, _ in shown]
        data: dict[str, Any] = {
            "kind": [row["kind"] for _, row in shown],
            "components": [row["components"] for _, row in shown],
            "shape": [row["shape"] for _, row in shown],
            "usable": [row["is_usable"] for _, row in shown],
        }
        for name in (*_KINDS, "bytes"):
            column = self.stored.get(name)
            data[name] = np.full(len(at), np.nan, np.float32) if column is None else np.asarray(column)[at]
        data["why_not"] = [row["reason"] for _, row in shown]
        return pd.DataFrame(data, index=pd.Index([row["name"] for _, row in shown], name="layer", dtype=object))

    def selected(self) -> list[Any]:
        return list(self.checked)

    def select(self, ids: list[Any]) -> None:
        """Check layers by their names."""
        self.checked = list(dict.fromkeys(map(str, ids)))

    def plot(self, *, by: str = "coverage", **layout: Any) -> Any:
        """Bars of the layers on show, a plotly figure.

        Parameters
        ----------
        by : {"coverage", "components"}
            The share of the data that is stored, of each kind; or the number of components.
        """
        check.one_of("by", by, ("coverage", "components"))
        table = self.table()
        table = table[table["usable"]]
        if by == "coverage":
            title, quantity = "Coverage of the layers", "share of the data"
        else:
            title, quantity = "Components of the layers", "components"
        columns = _KINDS if by == "coverage" else ("components",)
        series = {name: table[name].tolist() for name in columns}
        return Bars(title, quantity, list(table.index), series, is_share=by == "coverage").plot(**layout)

    # Keeping ----------------------------------------------------------------------------------------------------------

    def still(self) -> Still:
        table = self.table()
        name = str(self.tree.get("model", "")) or "the model"
        chosen = f" · {self.layer} is chosen" if self.layer else ""
        asked = f"{count(len(table), 'layer')}{f' with “{self.query}”' if self.query else ''}{chosen}"
        title = self.title or f"Layers of {name}"
        if not self.stored:
            missing = "What is stored is being looked up: `widget.wait()` waits for it." if self._has_data else ""
            return Still(title, asked, rows=table[["kind", "components", "shape"]], missing=missing)
        covered = np.fmax(np.fmax(table["activations"], table["relevances"]), table["references"]).fillna(0)
        leading = covered.sort_values(ascending=False, kind="stable")[:_BARS].index
        rows = [
            (layer, float(covered[layer]), f"{covered[layer]:.0%}, {count(int(table['components'][layer]))} units")
            for layer in table.index
            if layer in set(leading) and table["usable"][layer]
        ]
        n = int((covered > 0).sum())
        notes = [
            f"{count(n, 'layer')} of {len(table)} with stored results, about {size(float(table['bytes'].sum()))}.",
            f"{count(len(self.checked), 'layer')} checked: {', '.join(self.checked[:12])}." if self.checked else "",
            f"{count(int((~table['usable']).sum()), 'layer')} cannot be used." if (~table["usable"]).any() else "",
        ]
        pictures = [bars(rows, "Share of the data that is stored of each layer.")] if rows else []
        columns = ["kind", "components", "shape", *_KINDS]
        return Still(title, asked, pictures, rows=table[columns], notes=[note for note in notes if note])

    def recorded_state(self) -> dict[str, Any]:
        return {"planned": {}}

    def source_code(self) -> str:
        return "s, expanded=[]" if self.expanded == [] else "s"

    def describe(self) -> str:
        return f"{len(self._usable)} usable layers" + (f", {len(self.checked)} checked" if self.checked else "")

    @property
    def first_component(self) -> str:
        """Address of the first component of the chosen layer; empty without one."""
        return str(ComponentId(self.layer, "unit", 0)) if self.layer else ""
