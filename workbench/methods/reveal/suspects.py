"""Samples that deserve a look, from tables alone: arrays in, findings out; no model and no torch.

Each function reads one kind of table (groups of decisions, neighbours, projections, references) and gives findings with
their reason in words, what speaks for them and what against. Sessions bring the tables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from workbench.core.findings import Evidence, Finding
from workbench.core.words import count

__all__ = [
    "direction_findings",
    "duplicate_findings",
    "group_findings",
    "label_findings",
    "margins",
    "outlier_findings",
    "first_few",
    "votes",
]

SHOWN = 6
"""Samples that go with one piece of evidence."""

_LEAST_OF_GROUP = 3
_MOST_OF_CLASS = 0.6


def first_few(ids: np.ndarray) -> tuple[int, ...]:
    """The samples that go with one piece of evidence, of those that could."""
    return tuple(int(i) for i in ids[:SHOWN])


# Groups of decisions --------------------------------------------------------------------------------------------------


def group_findings(
    found: Any, of_class: str, layer: str, *, relevance: np.ndarray | None = None, recipe: str = ""
) -> list[Finding]:
    """Every group of decisions that holds at most six in ten of the class.

    Parameters
    ----------
    found : PointMap
        Of `Spray`: samples with the columns ``cluster`` and ``outlier``, and their neighbours.
    of_class : str
    layer : str
    relevance : (sample, unit) float array, optional
        Of all samples: the units that set a group apart are named.
    recipe : str

    Notes
    -----
    A group's score is the share of its members' nearest neighbours that lie in it, times the share of the class that
    does not: a small group which keeps to itself comes first.
    """
    cluster, index = np.asarray(found.columns["cluster"]), np.asarray(found.index)
    outlier, names = np.asarray(found.columns["outlier"]), list(found.cluster_names)
    n_groups = len(names) - ("no relevance" in names)
    laid = cluster < n_groups
    made = []
    for group in range(n_groups):
        inside = cluster == group
        n = int(inside.sum())
        if n_groups < 2 or n < _LEAST_OF_GROUP or n > _MOST_OF_CLASS * laid.sum():
            continue
        members = _by(index[inside], outlier[inside])
        rest = cluster == (1 if group == 0 else 0)  # larger groups come first
        usual = _by(index[rest], outlier[rest])
        own = _own_neighbours(np.asarray(found.neighbours), cluster, group)
        share = n / int(laid.sum())
        units, words = _units_apart(relevance, members, index[laid & ~inside], layer)
        evidence = [
            Evidence(f"{own:.0%} of their nearest neighbours in relevance are among themselves.", first_few(members)),
            *([Evidence(words, components=units)] if units else []),
        ]
        way = "commonest" if group else "next commonest"
        counter = (Evidence(f"{count(len(usual))} of the class are decided in the {way} way.", first_few(usual)),)
        made.append(
            Finding(
                "group", int(members[0]), float(own * (1 - share)), f"SpRAy of {of_class} at {layer}, group {group}",
                f"{count(n)} of {count(int(laid.sum()))} samples taken for {of_class} ({share:.0%}) are decided in "
                f"another way than the rest.",
                tuple(evidence), counter, tuple(int(i) for i in members), "", "suspect", recipe,
            )
        )  # fmt: skip
    return sorted(made, key=lambda one: -one.score)


def outlier_findings(
    found: Any, of_class: str, layer: str, *, limit: float = 3.0, n: int = 10, recipe: str = ""
) -> list[Finding]:
    """Samples that lie far from all others of their class in relevance space.

    Parameters
    ----------
    found : PointMap
        Of `Spray`.
    limit : float
        So many deviations (1.48 times the median absolute one) above the median of the class.
    n : int
        At most so many.
    """
    outlier, index = np.asarray(found.columns["outlier"], dtype=np.float64), np.asarray(found.index)
    known = np.isfinite(outlier)
    if known.sum() < 8:
        return []
    middle = float(np.median(outlier[known]))
    spread = 1.4826 * float(np.median(np.abs(outlier[known] - middle)))
    far = np.where(known, (outlier - middle) / max(spread, 1e-9), -np.inf)
    order = [i for i in np.argsort(-far, kind="stable")[:n] if far[i] > limit]
    typical = _by(index[known], outlier[known])
    neighbours = np.asarray(found.neighbours)
    made = []
    for i in order:
        near = [int(index[j]) for j in neighbours[i] if j >= 0][:SHOWN]
        made.append(
            Finding(
                "outlier", int(index[i]), float(far[i]), f"SpRAy of {of_class} at {layer}",
                f"It is taken for {of_class}, and its nearest decisions are {outlier[i] / max(middle, 1e-9):.1f} times "
                "as far as usual for the class.",
                (Evidence("The samples decided most like it.", tuple(near)),),
                (Evidence(f"Typical samples taken for {of_class}.", first_few(typical)),),
                (int(index[i]),), "", "suspect", recipe,
            )
        )  # fmt: skip
    return made


# Labels and copies ----------------------------------------------------------------------------------------------------


def votes(
    neighbours: np.ndarray, labels: np.ndarray, origins: np.ndarray, k: int = 10
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """How the nearest samples of other pictures vote on each sample's label.

    Parameters
    ----------
    neighbours : (sample, neighbour) int
        Rows; -1 for none. Nearest first.
    labels : (sample,) int
        -1 where unknown; these do not vote.
    origins : (sample,) int
        Views of one picture do not vote on one another.
    k : int
        Votes that count.

    Returns
    -------
    own : (sample,) float
        Share of votes for the sample's own label; NaN without a vote.
    other : (sample,) int
        The other label with most votes, the smaller one of equals; -1 without any.
    share : (sample,) float
        Share of votes for it.
    """
    n = len(labels)
    own, share, other = np.full(n, np.nan), np.full(n, np.nan), np.full(n, -1)
    safe = np.maximum(neighbours, 0)
    counts = (neighbours >= 0) & (labels[safe] >= 0) & (origins[safe] != origins[:, None])
    counts &= np.cumsum(counts, axis=1) <= k
    for i in np.flatnonzero((labels >= 0) & counts.any(1)):
        given = labels[neighbours[i][counts[i]]]
        own[i] = (given == labels[i]).mean()
        rest = given[given != labels[i]]
        share[i] = 0.0
        if len(rest):
            tally = np.bincount(rest)
            other[i], share[i] = int(tally.argmax()), tally.max() / len(given)
    return own, other, share


def margins(logits: np.ndarray, outputs: np.ndarray) -> np.ndarray:
    """Probability of each sample's own output minus the largest of the others, -1 to 1; NaN without an output.

    Parameters
    ----------
    logits : (sample, output) float
    outputs : (sample,) int
        -1 where the label names no output.
    """
    z = logits.astype(np.float64) - logits.max(1, keepdims=True)
    p = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    rows = np.arange(len(p))
    own = p[rows, np.maximum(outputs, 0)]
    p[rows, np.maximum(outputs, 0)] = -1
    return np.where(outputs >= 0, own - p.max(1), np.nan)


def label_findings(
    ids: np.ndarray,
    neighbours: np.ndarray,
    labels: np.ndarray,
    origins: np.ndarray,
    names: Sequence[str],
    layer: str,
    *,
    margin_of: Callable[[np.ndarray], np.ndarray] | None = None,
    predicted: Sequence[str] = (),
    k: int = 10,
    least: float = 0.6,
    n: int = 50,
    recipe: str = "",
) -> list[Finding]:
    """Samples whose neighbours have another label, and of whose label the model is not sure.

    Parameters
    ----------
    ids : (row,) int
        Sample ids of the rows.
    neighbours : (row, neighbour) int
        Rows of the nearest samples.
    labels, origins : (row,) int
    names : sequence of str
        Of the labels.
    margin_of : callable, optional
        From rows to the margin of their labels, asked for those alone whose neighbours disagree.
    predicted : sequence of str, optional
        Name of the model's decision for each row; empty where unknown.
    least : float
        Share of the votes that the other label must have.

    Notes
    -----
    The score is the share of votes for the other label times ``(1 - margin) / 2``; one half in place of the latter
    where there is no margin. A sample of whose label the model is sure (margin above 0.9) is left out: it is merely of
    a rare kind, or the model has learnt the wrong label by heart, which nothing here can tell.
    """
    own, other, share = votes(neighbours, labels, origins, k)
    rows = np.flatnonzero(np.nan_to_num(share) >= least)
    rows = rows[np.argsort(-share[rows], kind="stable")][: 4 * n]
    margin = np.full(len(rows), np.nan) if margin_of is None or not len(rows) else margin_of(rows)
    made = []
    for i, sure in zip(rows.tolist(), margin.tolist(), strict=True):
        if sure > 0.9:
            continue
        label, proposed = _name(names, labels[i]), _name(names, other[i])
        near = neighbours[i][neighbours[i] >= 0]
        against = near[(labels[near] == other[i]) & (origins[near] != origins[i])][:SHOWN]
        with_it = near[(labels[near] == labels[i]) & (origins[near] != origins[i])][:SHOWN]
        evidence = [
            Evidence(f"{share[i]:.0%} of its nearest samples at {layer} are {proposed}.", first_few(ids[against]))
        ]
        counter: list[Evidence] = []
        if np.isfinite(sure):
            text = f"The model prefers {label if sure > 0 else 'another class'} by {abs(sure):.2f} in probability."
            (counter if sure > 0.2 else evidence).append(Evidence(text))
        if predicted and predicted[i]:
            agrees = predicted[i] == label
            (counter if agrees else evidence).append(Evidence(f"The model takes it for {predicted[i]}."))
        words = f"{own[i]:.0%} of its nearest samples share its label."
        if not own[i]:
            words = "None of its nearest samples shares its label" + ("; these come next." if len(with_it) else ".")
        counter.append(Evidence(words, first_few(ids[with_it])))
        made.append(
            Finding(
                "label", int(ids[i]), float(share[i] * (0.5 if np.isnan(sure) else (1 - sure) / 2)),
                f"neighbours at {layer}",
                f"It is labelled {label}, and {share[i]:.0%} of its nearest samples are {proposed}.",
                tuple(evidence), tuple(counter), (int(ids[i]),), label, proposed, recipe,
            )
        )  # fmt: skip
    return sorted(made, key=lambda one: -one.score)[:n]


def duplicate_findings(
    ids: np.ndarray,
    neighbours: np.ndarray,
    distance: np.ndarray,
    origins: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    layer: str,
    *,
    pictures_of: Callable[[Sequence[int]], np.ndarray],
    most: float = 12.0,
    n: int = 50,
    recipe: str = "",
) -> list[Finding]:
    """Pairs of samples that are one picture, although nothing says so; those with two labels first.

    Parameters
    ----------
    ids, neighbours, distance, origins, labels, names
        As for `label_findings`; distances of correlation.
    pictures_of : callable
        From sample ids to small pictures, (sample, y, x, 3) uint8: asked for likely pairs alone.
    most : float
        Mean difference of the pictures at most, of 255.
    """
    near, far = neighbours[:, :3], distance[:, :3]
    usable = (near >= 0) & np.isfinite(far)
    first = np.where(usable, far, np.inf).min(1)
    limit = 0.25 * float(np.median(first[np.isfinite(first)])) if np.isfinite(first).any() else 0.0
    pairs: dict[tuple[int, int], float] = {}
    for i, j in zip(*np.nonzero(usable & (far <= max(limit, 1e-6))), strict=True):
        other = int(near[i, j])
        if origins[i] != origins[other]:
            pairs[min(int(i), other), max(int(i), other)] = float(far[i, j])
    chosen = sorted(pairs, key=lambda pair: (pairs[pair], pair))[: 4 * n]
    if not chosen:
        return []
    wanted = sorted({row for pair in chosen for row in pair})
    pictures = dict(zip(wanted, np.asarray(pictures_of([int(ids[r]) for r in wanted]), np.float32), strict=True))
    made = []
    for a, b in chosen:
        apart = float(np.abs(pictures[a] - pictures[b]).mean())
        if apart > most:
            continue
        differ = labels[a] != labels[b]
        words = f" and carry two labels, {_name(names, labels[a])} and {_name(names, labels[b])}" if differ else ""
        evidence = (
            Evidence(f"The pictures differ by {apart:.1f} of 255 on average.", (int(ids[a]),)),
            Evidence(f"Their activations at {layer} correlate by {1 - pairs[a, b]:.4f}."),
        )
        counter = (Evidence("Their original pictures are not known to be the same."),)
        made.append(
            (
                differ,
                Finding(
                    "duplicate", int(ids[b]), 1 - pairs[a, b], f"pairs at {layer}, with sample {int(ids[a])}",
                    f"It and sample {int(ids[a])} are nearly the same{words}.",
                    evidence, counter, (int(ids[b]),), "", "duplicate", recipe,
                ),
            )
        )  # fmt: skip
    return [one for _, one in sorted(made, key=lambda pair: (not pair[0], -pair[1].score))[:n]]


# Directions -----------------------------------------------------------------------------------------------------------


def direction_findings(
    direction: Any, scores: np.ndarray, labels: np.ndarray, tagged: Mapping[str, Sequence[int]], *, n: int = 50
) -> list[Finding]:
    """Samples that a direction takes for its concept, and that nobody has given it to.

    Parameters
    ----------
    direction : Direction
    scores : (sample,) float
        Projections; NaN where unknown.
    labels : (sample,) int
        Within-class directions are asked about their positives' classes alone.
    tagged : mapping of tag to samples
        Those with the concept's tag are known.
    """
    positives = direction.samples[direction.is_positive]
    known = set(positives.tolist()) | set(tagged.get(direction.concept, ()))
    usable = np.isfinite(scores) & (scores > direction.threshold)
    if direction.scope != "all":
        usable &= np.isin(labels, np.unique(labels[positives]))
    length = max(direction.mean_positive - direction.mean_negative, 1e-30)
    relative = (scores - direction.mean_negative) / length
    order = np.argsort(-np.where(usable, scores, -np.inf), kind="stable")
    rows = [int(i) for i in order[: int(usable.sum())] if int(i) not in known][:n]
    own = dict(zip(direction.samples.tolist(), direction.score.tolist(), strict=True))
    made = []
    for i in rows:
        shown = sorted(positives.tolist(), key=lambda p: (abs(own[p] - scores[i]), p))[:SHOWN]
        below = np.flatnonzero(np.isfinite(scores) & (scores < direction.threshold) & (labels == labels[i]))
        below = below[np.argsort(-scores[below], kind="stable")][:SHOWN]
        held = f"held-out area {direction.auc:.2f}" if np.isfinite(direction.auc) else "nothing was held out"
        made.append(
            Finding(
                "direction", i, float(relative[i]), f"direction {direction.layer}/{direction.basis}/{direction.index}",
                f"It lies at {relative[i]:.0%} of the way to the samples of {direction.concept}, without the tag.",
                (Evidence(f"Samples of {direction.concept} that lie as far along.", _integers(shown)),),
                (Evidence(f"Samples of its class that lie just below the border ({held}).", first_few(below)),),
                (i,), "", direction.concept, "",
            )
        )  # fmt: skip
    return made


# Inside ---------------------------------------------------------------------------------------------------------------


def _own_neighbours(neighbours: np.ndarray, cluster: np.ndarray, group: int) -> float:
    rows = neighbours[cluster == group]
    known = rows >= 0
    return float((cluster[np.maximum(rows, 0)] == group)[known].mean()) if known.any() else 0.0


def _units_apart(
    relevance: np.ndarray | None, members: np.ndarray, rest: np.ndarray, layer: str
) -> tuple[tuple[str, ...], str]:
    """The units through which a group's decisions take another share of the relevance."""
    if relevance is None or not len(rest):
        return (), ""
    rows = [relevance[ids] / np.maximum(np.abs(relevance[ids]).sum(1, keepdims=True), 1e-30) for ids in (members, rest)]
    apart = rows[0].mean(0) - rows[1].mean(0)
    best = np.argsort(-apart, kind="stable")[:3]
    best = best[apart[best] > 0]
    words = ", ".join(f"unit {i} by {apart[i]:+.1%}" for i in best)
    return tuple(f"{layer}/unit/{i}" for i in best), f"More of their relevance flows through {words}."


def _by(ids: np.ndarray, key: np.ndarray) -> np.ndarray:
    return ids[np.lexsort((ids, np.nan_to_num(key, nan=np.inf)))]


def _known(row: np.ndarray) -> np.ndarray:
    return row[row >= 0]


def _integers(ids: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(i) for i in ids)


def _name(names: Sequence[str], label: int) -> str:
    return str(names[label]) if 0 <= label < len(names) else f"class {label}" if label >= 0 else "unknown"
