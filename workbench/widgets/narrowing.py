"""What a reader narrows a widget down to: a layer of the model, a population of samples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import traitlets

from workbench.core import check
from workbench.core.errors import BadValueError

__all__ = ["ChoosesLayer", "ChoosesPopulation", "ShowsLayer", "checked_population"]


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


class ShowsLayer(traitlets.HasTraits):
    """A part of widgets that show a record of one layer, and with a session that of any other.

    What they say of their origin is that of the record on show; `layer` is what is wanted, and the status line says
    where both differ.
    """

    layer = traitlets.Unicode("", help="Layer on show; with a session any other may be chosen.").tag(
        sync=True, view=True
    )

    in_source: tuple[str, ...] = ("layer",)
    record_word = "record"
    """What is made of a layer, in words."""

    _can_refit = False
    _is_bound = False
    _last_layer = ""

    if TYPE_CHECKING:
        session: Any

    @property
    def shown_layer(self) -> str:
        """Layer of the record on show; empty if there is none yet."""
        return ""

    @traitlets.validate("layer")
    def _is_layer(self, proposal: Any) -> str:
        # No layer, from a link to a list without a choice, leaves the one that is wanted. That is kept apart: traitlets
        # sets values from the page before it has them checked.
        wanted = str(proposal["value"]) or self._last_layer
        if wanted and wanted != self.shown_layer:
            self._check_layer(wanted)
        self._last_layer = wanted
        return wanted

    def _check_layer(self, wanted: str) -> None:
        if self._is_bound and not self._can_refit:
            of = f"of {self.shown_layer}" if self.shown_layer else "that was given"
            raise BadValueError(
                f"This view shows the {self.record_word} {of} and no other layer's; got {wanted!r}.",
                hint=f"Made with a session it shows any: {type(self).__name__}(session, layer={wanted!r}).",
            )
        if hasattr(self.session, "layers"):
            layers = self.session.layers()
            check.known("layer", wanted, list(layers), hint="`session.layers()` lists all.")
            if (n := layers[wanted].n_calls) != 1:
                raise BadValueError(
                    f'"{wanted}" cannot be shown: it runs {n} times in one forward pass.',
                    hint="Choose the layers before and after it.",
                )

    def _check_shown(self, layer: str) -> None:
        """Refuse a record that is given together with the name of another layer."""
        if self.layer and self.layer != layer:
            raise BadValueError(
                f"The {self.record_word} given is of {layer or 'no layer'}; got layer={self.layer!r}.",
                hint="Leave the layer out, or give the session in place of the record.",
            )

    def _not_shown(self) -> str:
        """Why what is on show is not what is wanted; empty if it is."""
        shown = self.shown_layer
        return f"This is still the {self.record_word} of {shown}." if shown and shown != self.layer else ""

    def made_with(self) -> dict[str, str]:
        """Digests of model and data, and the layer on show."""
        found: dict[str, str] = super().made_with()  # type: ignore[misc]
        layer = self.shown_layer or self.layer
        return {**found, "layer": layer} if layer else found


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
