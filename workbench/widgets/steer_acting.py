"""What is done in the steering panel: changes and their undoing, presets, what the reader expects, kept edits."""

from __future__ import annotations

import keyword
import re
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from workbench.core import check
from workbench.core.effects import Intervention
from workbench.core.errors import BadValueError
from workbench.core.ids import ComponentId
from workbench.session.deliver import deliver
from workbench.session.lane import Job, current_job
from workbench.widgets.base import on
from workbench.widgets.steer_answers import acts_of, as_records, code_of, made_of

__all__ = ["Acting"]

_TOGETHER_S = 1.0  # changes of strength that follow one another so closely are undone together
_UNDOS = 100


class Acting:
    """The part of `SteeringPanel` that changes its interventions; expects its traits and what it fetches."""

    if TYPE_CHECKING:
        session: Any
        shared: Any
        submit: Any
        sample: Any
        target: Any
        component: Any
        region: Any
        outputs: Any
        interventions: Any
        watch: Any
        steps: Any
        kept: Any
        expected_when: Any
        predict_first: Any
        variants: dict[str, Any]
        _is_closed: bool
        _past: list[list[dict[str, Any]]]
        _future: list[list[dict[str, Any]]]
        _changed_at: float
        _noted_at: float
        _is_stepping: bool
        _fetch: Any
        _fetch_effect: Any
        _fetch_leading: Any
        _fetch_ranges: Any

        @property
        def list_layer(self) -> str: ...
        @property
        def active(self) -> list[Intervention]: ...

    # Changes and their undoing ----------------------------------------------------------------------------------------

    def _note(self, change: Any) -> None:
        """An intervention has changed: note it for undoing, and look what comes of it."""
        now = time.monotonic()
        old, new = change["old"], change["new"]
        if not self._is_stepping and isinstance(old, list):
            is_same_move = now - self._noted_at < _TOGETHER_S and _differ_in_strength(old, new)
            if not (is_same_move and self._past):
                self._past = [*self._past, old][-_UNDOS:]
            self._future, self._noted_at = [], now if _differ_in_strength(old, new) else 0.0
            self._say_steps()
        self._changed_at = now
        self._fetch_ranges()
        self._fetch()
        if not self.component:
            self._fetch_leading()

    def _say_steps(self) -> None:
        self.steps = {"undo": len(self._past), "redo": len(self._future)}

    def undo(self) -> None:
        """Take the last change of the interventions back."""
        self._go(self._past, self._future)

    def redo(self) -> None:
        """Make the change again that was taken back last."""
        self._go(self._future, self._past)

    def _go(self, here: list[Any], there: list[Any]) -> None:
        if not here:
            return
        there.append(self.interventions)
        self._is_stepping = True
        try:
            self.interventions = here.pop()
        finally:
            self._is_stepping = False
        self._noted_at = 0.0
        self._say_steps()

    @on("undo")
    def _on_undo(self) -> None:
        self.undo()

    @on("redo")
    def _on_redo(self) -> None:
        self.redo()

    # Presets and choices ----------------------------------------------------------------------------------------------

    def add(self, components: Any, operation: str = "suppress", strength: float = 1.0, *, is_on: bool = True) -> None:
        """Add an intervention; of components in several layers or bases, one for each.

        Parameters
        ----------
        components : address, or sequence of them
        operation, strength
            See `workbench.Intervention`.
        is_on : bool
        """
        addresses = self.shared.check("components", components)
        groups: dict[tuple[str, str], list[str]] = {}
        for one in addresses:
            parsed = ComponentId.parse(one)
            groups.setdefault((parsed.layer, parsed.basis), []).append(one)
        if not groups:
            raise BadValueError("There is no component to steer.", hint="Select one, or name its address.")
        made = [{"address": group, "operation": operation, "strength": strength, "on": is_on}
                for group in groups.values()]  # fmt: skip
        self.interventions = [*self.interventions, *made]

    def suppress_top(self, n: int = 1) -> list[str]:
        """Suppress the `n` most relevant components of the sample in the layer of the list; returns their addresses."""
        layer = self.list_layer
        if not layer or self.sample is None:
            raise BadValueError("No layer is chosen.", hint="Set `panel.layer`, or select a component.")
        found = self.session.explain(self.sample, self.target or "top", record=(layer,)).top(layer, n)
        self._suppress(list(found.components))
        return list(found.components)

    def _suppress(self, addresses: Sequence[str]) -> None:
        known = {tuple(one["address"]) for one in self.interventions if _suppresses_all(one)}
        made = [a for a in addresses if (a,) not in known]
        records = [{**one, "on": True, "strength": 1.0} if _suppresses_all(one)
                   and len(one["address"]) == 1 and one["address"][0] in addresses else one
                   for one in self.interventions]  # fmt: skip
        self.interventions = [*records, *as_records(made)]

    def only_in_region(self, index: int, region: Any = None) -> None:
        """Limit an intervention to a part of the picture, or let it act everywhere again.

        Parameters
        ----------
        index : int
            Its place in the list.
        region : (x, y, width, height) or mapping of these names, optional
            Shares of the picture. Default: the selected region, or everywhere for one that is limited already.
        """
        if not 0 <= index < len(self.interventions):
            raise BadValueError(f"No intervention {index}.", hint=f"There are {len(self.interventions)}, from 0.")
        record = dict(self.interventions[index])
        if region is None and record.pop("region", None) is None:
            if (region := self.region) is None:
                raise BadValueError("No region is selected.", hint="Draw one on the picture of a HeatmapViewer.")
            record.pop("tokens", None)
        made = as_records([record if region is None else {**record, "region": region}])
        self.session.edits([made_of(made[0])])  # refuses a layer that has no places in the picture
        self.interventions = [*self.interventions[:index], *made, *self.interventions[index + 1 :]]

    @on("region", index=int)
    def _on_region(self, index: int) -> dict[str, Any]:
        self.only_in_region(index)
        return {"index": index}

    @on("add", component=str)
    def _on_add(self, component: str) -> dict[str, Any]:
        """A component that the reader names by its address."""
        self.add(component.strip())
        return {"count": len(self.interventions)}

    @on("suppress_top")
    def _on_suppress_top(self) -> Job:
        return self.submit(self._top, topic="preset", title="The most relevant component")

    def _top(self) -> dict[str, Any]:
        layer, sample, target = self.list_layer, self.sample, self.target or "top"
        if not layer or sample is None:
            raise BadValueError(
                "No layer is chosen, so no component can be the most relevant one.", hint="Choose a layer in the list."
            )
        found = self.session.explain(sample, target, record=(layer,)).top(layer, 1).components[0]

        def put() -> None:
            if not self._is_closed:
                self._suppress([found])

        deliver(put)
        return {"component": found}

    @on("watch", name=str)
    def _on_watch(self, name: str) -> dict[str, Any]:
        """Always show an output, or no longer, by its number or its name."""
        names, name = list(self.session.class_names()), name.strip()
        if name.isdecimal():
            index = int(name)
            if names and index >= len(names):
                raise BadValueError(f"No output {index}: the model has {len(names)}, from 0.")
        else:
            check.known("output", name, names, hint="Or name its number.")
            index = names.index(name)
        self.watch = [one for one in self.watch if one != index] if index in self.watch else [*self.watch, index]
        return {"index": index}

    @on("measure")
    def _on_measure(self) -> None:
        """Measure the population again, also after it was cancelled."""
        self._fetch_effect()

    def _expect(self, change: Any) -> None:
        """Note whether what is expected was written with the result in view."""
        shows = bool(self.active) and self.outputs.get("acts") == acts_of(self.active)
        is_hidden = self.predict_first and not change["old"]
        self.expected_when = "" if not change["new"].strip() else "after" if shows and not is_hidden else "before"

    # Keeping what was tried -------------------------------------------------------------------------------------------

    def keep(self, name: str) -> Any:
        """Make a variant of the model with the interventions that are on; the base stays as it is.

        Parameters
        ----------
        name : str

        Returns
        -------
        Session
            Of the variant; also in `variants`, by its name.
        """
        name = name.strip()
        if not name or len(name) > 60:
            raise BadValueError("An edit is kept under a name of 1 to 60 letters.", hint='For example "without-17".')
        if not (mine := self.active):
            raise BadValueError("No intervention is on, so there is no edit to keep.", hint="Switch one on.")
        made = self.session.variant(name, self.session.edits(mine))
        self.variants[name] = made
        code = f"{_variable(name)} = s.variant({name!r}, s.edits({code_of(mine)}))"
        record = {"name": name, "text": "; ".join(map(str, mine)), "code": code}

        def put() -> None:
            if not self._is_closed:
                self.kept = [*(one for one in self.kept if one["name"] != name), record]

        if current_job() is None:
            put()
        else:
            deliver(put)
        return made

    @on("keep", name=str)
    def _on_keep(self, name: str) -> Job:
        return self.submit(self._kept, name, title="Keeping the edit")

    def _kept(self, name: str) -> dict[str, Any]:
        self.keep(name)
        return {"name": name.strip(), "variable": _variable(name.strip())}


def _suppresses_all(one: dict[str, Any]) -> bool:
    """Whether a record suppresses its components wherever they are."""
    return one["operation"] == "suppress" and not one.get("tokens") and not one.get("region")


def _differ_in_strength(old: list[dict[str, Any]], new: list[dict[str, Any]]) -> bool:
    """Whether two lists do the same to the same, only more or less."""
    plain = [[{k: v for k, v in one.items() if k != "strength"} for one in many] for many in (old, new)]
    return plain[0] == plain[1]


def _variable(name: str) -> str:
    """A name that Python takes for a variable."""
    made = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_").lower() or "variant"
    return f"v_{made}" if made[0].isdigit() or keyword.iskeyword(made) or made in ("s", "wb") else made
