"""The figure of an `ActivationTable`: how the values of some components are spread over the data."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from plotly import graph_objects as go

from workbench.core import check
from workbench.core.errors import UnknownComponentError
from workbench.core.ids import ComponentId
from workbench.core.registry import FIGURES
from workbench.core.results import ActivationTable
from workbench.figures import style

__all__ = ["activation_table_figure"]


@FIGURES.register("ActivationTable")
def activation_table_figure(
    table: ActivationTable, *, components: Sequence[int | str | ComponentId] | None = None, n: int = 8
) -> go.Figure:
    """Draw one box per component with every sample's value; samples that were not read are left out.

    Parameters
    ----------
    table : ActivationTable
    components : sequence of addresses or indices, optional
        Which; the `n` with the largest mean magnitude if not given.
    n : int
        Boxes at most.

    Raises
    ------
    UnknownComponentError
        If a component belongs to another layer or does not exist.
    """
    valid = np.asarray(table.is_valid, dtype=bool)
    values = np.asarray(table.values)[valid]
    if components is None:
        size = np.abs(values).mean(axis=0) if len(values) else np.zeros(table.n_components)
        chosen = [int(i) for i in np.argsort(-size, kind="stable")[: check.positive("n", n)]]
    else:
        chosen = [_index(table, c) for c in components]
    samples = np.flatnonzero(valid)
    part = "" if table.coverage >= 1 else f", {table.coverage:.0%} of the data"
    rule = f" ({table.target_text}, {table.rule})" if table.rule else ""
    means = [f"{ComponentId(table.layer, table.basis, i)} {values[:, i].mean():.3g}" for i in chosen if len(values)]
    fig = style.figure(
        style.text(f"{table.quantity.capitalize()} in {table.layer}, {table.pooling} over positions{rule}{part}"),
        f"Spread of {table.quantity} over {len(values)} samples{part}. Means: " + ", ".join(means) + ".",
        width=max(480, 120 + 110 * len(chosen)),
        height=440,
        showlegend=False,
        yaxis={"title": style.text(table.quantity), "zeroline": True},
    )
    for position, index in enumerate(chosen):
        fig.add_trace(
            go.Box(
                y=values[:, index],
                name=style.text(ComponentId(table.layer, table.basis, index)),
                customdata=samples,
                boxpoints="all" if len(values) <= 500 else "outliers",
                jitter=0.4,
                pointpos=0,
                marker={"size": 3, "color": style.CATEGORIES[position % len(style.CATEGORIES)]},
                hovertemplate="sample %{customdata}: %{y:.4g}<extra></extra>",
            )
        )
    return fig


def _index(table: ActivationTable, component: int | str | ComponentId) -> int:
    if isinstance(component, (str, ComponentId)):
        address = ComponentId.parse(component)
        if (address.layer, address.basis) != (table.layer, table.basis):
            raise UnknownComponentError(f"{address} is not a component of {table.layer}/{table.basis}.")
        component = address.index
    if not 0 <= int(component) < table.n_components:
        raise UnknownComponentError(
            f"No component {component} in {table.layer}/{table.basis}.", hint=f"It has {table.n_components}, from 0."
        )
    return int(component)
