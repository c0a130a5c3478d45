"""The figure of a `ReferenceSet`: how strongly they answer, or the pictures themselves as a contact sheet."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from plotly import graph_objects as go

from workbench.core import check
from workbench.core.errors import BadValueError
from workbench.core.ids import ComponentId
from workbench.core.registry import FIGURES
from workbench.core.results import ReferenceSet
from workbench.figures import style

__all__ = ["references_figure"]

Pictures = Callable[[int], np.ndarray] | Mapping[int, np.ndarray]


@FIGURES.register("ReferenceSet")
def references_figure(
    references: ReferenceSet,
    *,
    components: Sequence[int | str | ComponentId] | None = None,
    n: int = 8,
    pictures: Pictures | None = None,
    size: int = 96,
    crop: float | None = None,
) -> go.Figure:
    """Draw values by rank, or with `pictures` a row of pictures for each component.

    Parameters
    ----------
    references : ReferenceSet
    components : sequence of addresses or indices, optional
        Rows; the six with the largest mean of what is shown if not given.
    n : int
        References per component.
    pictures : callable or mapping, optional
        From a sample's id to its (y, x, 3) uint8 picture, for example ``session.data.picture``.
    size : int
        Longest side of a picture, in pixels.
    crop : float, optional
        Cut a square around the place where the component is most active: its side as a share of the picture's short
        side, above 0 and at most 1. Whole pictures if not given.

    Raises
    ------
    BadValueError
        If crops are asked for and the places of the peaks are not known.
    """
    n = min(check.positive("n", n), references.ids.shape[1])
    if components is None:
        # All that are shown, not the first alone: where activations are capped, as by ReLU6, many share the first.
        mean = np.nan_to_num(np.asarray(references.values)[:, :n], neginf=0.0).mean(axis=1)
        chosen = [int(i) for i in np.argsort(-mean, kind="stable")[:6]]
    else:
        chosen = [references.index(c) for c in components]
    if pictures is None:
        return _lines(references, chosen, n)
    look_up = pictures if callable(pictures) else pictures.__getitem__
    if crop is None:
        return _sheet(references, chosen, n, lambda index, slot, sample: look_up(sample), size)
    check.between("crop", crop, 0, 1, left_open=True)
    if references.peak is None or len(references.shape) != 2:
        raise BadValueError(
            f"Crops need the place of each peak on a map, and {references.layer} has none.", hint="Leave out `crop`."
        )
    return _sheet(
        references, chosen, n, lambda index, slot, sample: _cut(references, look_up(sample), index, slot, crop), size
    )


def _cut(references: ReferenceSet, picture: np.ndarray, index: int, slot: int, crop: float) -> np.ndarray:
    """The square around one reference's peak, moved inside the picture where it would reach over the edge."""
    assert references.peak is not None
    height, width = picture.shape[:2]
    side = max(1, round(crop * min(height, width)))
    y, x = divmod(int(references.peak[index, slot]), references.shape[1])
    top = round((y + 0.5) / references.shape[0] * height - side / 2)
    left = round((x + 0.5) / references.shape[1] * width - side / 2)
    top, left = min(max(top, 0), height - side), min(max(left, 0), width - side)
    return picture[top : top + side, left : left + side]


def _title(references: ReferenceSet) -> str:
    limit = f"at most {references.per_origin} each" if references.per_origin else "no limit each"
    part = "" if references.coverage >= 1 else f", {references.coverage:.0%} of the data"
    return style.text(
        f"References of {references.layer} by {references.by}, from {references.n_samples} views of "
        f"{references.n_origins} originals ({limit}){part}"
    )


def _address(references: ReferenceSet, index: int) -> str:
    return str(ComponentId(references.layer, references.basis, index))


def _alt(references: ReferenceSet, chosen: list[int], n: int) -> str:
    rows = []
    for index in chosen:
        filled = references.of(index, n)
        values = np.asarray(references.values)[index]
        span = f"{values[0]:.3g} to {values[len(filled) - 1]:.3g}" if filled else "no reference"
        rows.append(f"{_address(references, index)}: {span}")
    return f"References by {references.by}. " + "; ".join(rows) + "."


def _lines(references: ReferenceSet, chosen: list[int], n: int) -> go.Figure:
    fig = style.figure(
        _title(references),
        _alt(references, chosen, n),
        width=760,
        height=420,
        xaxis={"title": "rank", "dtick": max(1, n // 10)},
        yaxis={"title": style.text(references.by)},
    )
    dashes = ["solid", "dash", "dot", "dashdot", "longdash", "longdashdot"]
    for position, index in enumerate(chosen):
        samples = references.of(index, n)
        fig.add_trace(
            go.Scatter(
                x=np.arange(1, len(samples) + 1),
                y=np.asarray(references.values)[index, : len(samples)],
                customdata=samples,
                mode="lines+markers",
                name=style.text(_address(references, index)),
                line={
                    "color": style.CATEGORIES[position % len(style.CATEGORIES)],
                    "dash": dashes[position % len(dashes)],
                },
                hovertemplate="rank %{x}, sample %{customdata}: %{y:.4g}",
            )
        )
    return fig


def _sheet(
    references: ReferenceSet,
    chosen: list[int],
    n: int,
    picture: Callable[[int, int, int], np.ndarray],
    size: int,
) -> go.Figure:
    fig = style.figure(
        _title(references),
        _alt(references, chosen, n),
        width=max(620, 180 + n * (size + 6)),
        height=90 + len(chosen) * (size + 22),
        xaxis={"visible": False, "range": [-0.5, n - 0.5]},
        yaxis={
            "range": [len(chosen) - 0.5, -0.5],
            "tickvals": list(range(len(chosen))),
            "ticktext": [style.text(_address(references, i)) for i in chosen],
            "showgrid": False,
            "zeroline": False,
            "automargin": True,
        },
    )
    images: list[dict[str, Any]] = []
    x, y, words = [], [], []
    for row, index in enumerate(chosen):
        for column, sample in enumerate(references.of(index, n)):
            images.append(
                {
                    "source": style.data_url(picture(index, column, sample), size=size),
                    "x": column,
                    "y": row,
                    "xref": "x",
                    "yref": "y",
                    "sizex": 0.94,
                    "sizey": 0.86,
                    "xanchor": "center",
                    "yanchor": "middle",
                }
            )
            x.append(column)
            y.append(row)
            words.append(f"sample {sample}: {float(references.values[index, column]):.4g}")
    # Invisible points carry what the mouse tells: images themselves have no hover.
    fig.add_trace(
        go.Scatter(
            x=x,
            y=y,
            text=words,
            mode="markers",
            marker={"size": size // 2, "opacity": 0},
            hovertemplate="%{text}<extra></extra>",
            showlegend=False,
        )
    )
    fig.update_layout(images=images)
    return fig
