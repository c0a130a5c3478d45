"""Components that deserve a look, from tables alone: copies, silent ones, ones whose references are no group.

Arrays in, findings out, as in `suspects`, which is about samples.
"""

from __future__ import annotations

import numpy as np

from workbench.core.findings import Evidence, Finding
from workbench.core.words import count
from workbench.methods.reveal.suspects import first_few

__all__ = ["clarity", "redundant_findings", "silent_findings", "unclear_findings", "unit_rows"]

COPY = 0.98
"""Components with this correlation are copies of one another."""


def redundant_findings(
    layer: str, neighbours: np.ndarray, distance: np.ndarray, references: np.ndarray, *, n: int = 50, recipe: str = ""
) -> list[Finding]:
    """Components that correlate with an earlier one by `COPY` or more.

    Parameters
    ----------
    neighbours, distance : (component, neighbour)
        The nearest others by correlation, and one minus that.
    references : (component, reference) int
        Samples; -1 for none.
    """
    made = []
    for i in range(len(neighbours)):
        near = [(int(j), 1 - float(d)) for j, d in zip(neighbours[i], distance[i], strict=True) if 0 <= j < i]
        copies = [(j, r) for j, r in near if r >= COPY]
        if not copies:
            continue
        j, r = copies[0]
        shared = np.intersect1d(_known(references[i]), _known(references[j]))
        union = np.union1d(_known(references[i]), _known(references[j]))
        overlap = f"{len(shared)} of {len(_known(references[i]))} references are the same."
        only = np.setdiff1d(union, shared)
        made.append(
            Finding(
                "redundant", f"{layer}/unit/{i}", r, f"correlations at {layer}",
                f"It correlates with unit {j} by {r:.3f} over the samples.",
                (
                    Evidence(overlap, first_few(shared)),
                    Evidence("The components that it copies.", components=tuple(f"{layer}/unit/{k}" for k, _ in copies),
                             values=tuple(round(v, 4) for _, v in copies)),
                ),
                (Evidence("References of one of the two alone." if len(only) else "All references are shared.",
                          first_few(only)),),
                (), "", f"copy of unit {j}", recipe,
            )
        )  # fmt: skip
    return sorted(made, key=lambda one: -one.score)[:n]


def silent_findings(layer: str, values: np.ndarray, *, n: int = 50, recipe: str = "") -> list[Finding]:
    """Components that answer to all samples alike, or to fewer than one in a thousand.

    Parameters
    ----------
    values : (sample, component) float
    """
    low, high = values.min(0), values.max(0)
    constant = high - low <= 1e-6 * np.maximum(np.abs(high), 1e-12)
    active = (values > 0).mean(0)
    made = []
    for i in np.flatnonzero(constant | ((active > 0) & (active < 1e-3))):
        words = (
            f"It is {high[i]:.3g} for all {count(len(values), 'sample')}." if constant[i]
            else f"It is above zero for {active[i]:.2%} of {count(len(values), 'sample')}."
        )  # fmt: skip
        made.append(
            Finding(
                "silent", f"{layer}/unit/{i}", float(1 - active[i] * ~constant[i]), f"activations at {layer}", words,
                (Evidence(words),), (Evidence("Other data may drive it."),), (), "", "silent", recipe,
            )
        )  # fmt: skip
    return made[:n]


def clarity(looks: np.ndarray, references: np.ndarray) -> np.ndarray:
    """(component,) mean cosine of all pairs of a component's references; NaN for fewer than two.

    Parameters
    ----------
    looks : (sample, dim) float
        What says which samples look alike: rows of unit length, or zeros.
    references : (component, reference) int
        Samples; -1 for none.
    """
    found = np.full(len(references), np.nan)
    for i, row in enumerate(references):
        ids = _known(row)
        if len(ids) > 1:
            rows = looks[ids]
            total = rows.sum(0)
            found[i] = (total @ total - (rows * rows).sum()) / (len(ids) * (len(ids) - 1))
    return found


def unclear_findings(
    layer: str,
    looks: np.ndarray,
    references: np.ndarray,
    looks_at: str,
    *,
    n: int = 50,
    seed: int = 0,
    recipe: str = "",
) -> list[Finding]:
    """Components whose references look no more alike than samples drawn at random.

    Parameters
    ----------
    looks, references : see `clarity`
    looks_at : str
        The layer that `looks` was taken from.

    Notes
    -----
    The limit is the mean of 200 random sets of the same size plus two of their standard deviations.
    """
    found = clarity(looks, references)
    rng = np.random.default_rng(seed)
    k = max((len(_known(row)) for row in references), default=0)
    if k < 2 or len(looks) < 2 * k:
        return []
    drawn = np.stack([rng.choice(len(looks), k, replace=False) for _ in range(200)])
    random = clarity(looks, drawn)
    mean, limit = float(random.mean()), float(random.mean() + 2 * random.std())
    made = []
    for i in np.argsort(np.where(np.isnan(found), np.inf, found), kind="stable"):
        if not found[i] < limit:
            break
        ids = _known(references[i])
        made.append(
            Finding(
                "unclear", f"{layer}/unit/{i}", float(1 - max(0.0, (found[i] - mean) / max(1 - mean, 1e-9))),
                f"references at {layer}",
                f"Its strongest samples look alike by {found[i]:.2f}; samples drawn at random by {mean:.2f}.",
                (Evidence("Its strongest samples.", first_few(ids)),),
                (Evidence(f"What looks alike was judged by activations at {looks_at}, which may miss what it sees."),),
                (), "", "unclear", recipe,
            )
        )  # fmt: skip
    return made[:n]


def unit_rows(values: np.ndarray, is_valid: np.ndarray) -> np.ndarray:
    """(sample, dim) rows of unit length without the mean of all; zeros where a sample is not valid or has none."""
    rows = np.where(is_valid[:, None], values, 0).astype(np.float64)
    rows -= rows[is_valid].mean(0) if is_valid.any() else 0
    length = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.where(is_valid[:, None] & (length > 0), rows / np.where(length > 0, length, 1), 0)


def _known(row: np.ndarray) -> np.ndarray:
    return row[row >= 0]
