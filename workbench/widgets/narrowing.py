"""What a reader narrows a widget down to: a layer of the model, a population of samples."""

from __future__ import annotations

from typing import Any

import traitlets

from workbench.core import check
from workbench.core.errors import BadValueError

__all__ = ["ChoosesLayer", "ChoosesPopulation", "checked_population"]


class _Something(traitlets.Any):
    """Any value but None: traitlets takes None for `Any` without asking a validator, whatever `allow_none` says."""

    allow_none = False


class ChoosesLayer(traitlets.HasTraits):
    """A part of widgets that list components of one of the model's layers."""

    layer = traitlets.Unicode("", help="Layer of the list; empty follows the selected component.").tag(
        sync=True, view=True
    )
    layers = traitlets.List(traitlets.Unicode(), help="Layers whose components may be listed.").tag(sync=True)

    @traitlets.validate("layer")
    def _is_layer(self, proposal: Any) -> str:
        if proposal["value"] and self.layers:
            check.known("layer", proposal["value"], self.layers, hint="`session.layers()` lists all.")
        return proposal["value"]


class ChoosesPopulation(traitlets.HasTraits):
    """A part of widgets that measure what an edit does to many samples."""

    population = _Something(
        256,
        help='Samples that the effect is measured on: a number, "all", "selected" or "tag:NAME"; 0 for none.',
    ).tag(sync=True, view=True)
    tags = traitlets.List(traitlets.Unicode(), help="Tags of the data set, which name populations.").tag(sync=True)

    @traitlets.validate("population")
    def _is_population(self, proposal: Any) -> Any:
        return checked_population(proposal["value"])


def checked_population(value: Any) -> Any:
    """A population as view state: a number of samples, "all", "selected" or "tag:NAME".

    Raises
    ------
    BadValueError
    """
    if value in ("all", "selected") or (isinstance(value, str) and value.startswith("tag:") and len(value) > 4):
        return value
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return int(check.between("population", value, 0, 10_000_000))
    raise BadValueError(
        f"A population is a number of samples, 'all', 'selected' or 'tag:NAME'; got {value!r}.",
        hint="0 measures on none.",
    )
