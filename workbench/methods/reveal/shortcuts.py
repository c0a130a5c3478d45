"""Does a class have a shortcut? What a group of its samples shares is cut out and laid over other pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from workbench.core import check
from workbench.core.errors import BadValueError, WorkbenchError
from workbench.core.findings import Evidence, Finding, Findings
from workbench.core.progress import Progress, SilentProgress
from workbench.core.sampling import evenly
from workbench.core.words import count
from workbench.data.pasted import Pasted
from workbench.methods.base import Method, Source, register_method
from workbench.methods.directions.cav import PatternCAV
from workbench.methods.reveal.masks import ArtifactMasks
from workbench.methods.reveal.spray import Spray, class_index
from workbench.methods.reveal.suspects import SHOWN

if TYPE_CHECKING:
    import pandas as pd

    from workbench.core.context import Context

__all__ = ["Shortcut", "Shortcuts", "joined", "taken"]

_DONORS = 16
_LEAST = 5
_LEAST_OF_CLASS = 20
_AT_ONCE = 32


@dataclass(frozen=True)
class Shortcut:
    """A group of decisions, and what the piece that its samples share does in other pictures.

    Attributes
    ----------
    class_ : int
        The output.
    group : int
        Of the class, the largest 0.
    members : tuple of int
        Samples, the most typical first.
    usual : tuple of int
        Some samples of the class that are decided otherwise.
    taken, control : float
        Share of pictures of other classes that are taken for the class with the piece of a member, and with the same
        place of a picture of the class that is none; 0 to 1.
    area : float
        Share of the picture that the piece takes.
    n_class : int
        Samples taken for the class.
    """

    class_: int
    group: int
    members: tuple[int, ...]
    usual: tuple[int, ...]
    taken: float
    control: float
    area: float
    n_class: int

    @property
    def effect(self) -> float:
        """Taken minus control: what the piece does beyond what any piece of the class does."""
        return self.taken - self.control


@register_method(
    "shortcuts",
    source=Source(
        "ours: groups of Lapuschkin et al. 2019 (Unmasking Clever Hans predictors), pieces inserted as by Pahde et al. "
        "2025 (Ensuring medical AI safety), with a control by position"
    ),
    needs=("relevances", "activations"),
)
class Shortcuts(Method):
    """Groups of a class's samples whose shared piece alone makes the model say the class.

    **What it answers.** The decisions for a class fall into groups; what do they turn on? The direction that sets a
    group apart is localised in its samples, the piece is cut out and laid over pictures of other classes. If they are
    then taken for the class, and are not with the same place of the class's other pictures, the piece decides.

    **When not to trust it.** A piece that decides may be the right reason: a beak makes a duck. No number tells; look.
    What all samples of a class share makes no group, and an artifact that fills the picture makes no piece.

    **Cost.** A sweep of the layer, then per group 16 maps and twice `n_others` forward passes.

    Parameters
    ----------
    layer : str
    classes : sequence of int or str, optional
        Default: all that are taken for at least 20 samples.
    pooling : {"mean", "max", "token"}
        How activations are pooled for the direction of a group.
    n_others : int
        Pictures of other classes, spread evenly.
    note : str
        Added to what findings say found them: those of a corrected model are others than those of the first.

    Attributes
    ----------
    shortcuts_ : tuple of Shortcut
        The largest effect first.
    findings_ : Findings
        The same as findings of the kind ``group``, for `AuditPanel`.
    """

    result_version = 2

    def __init__(
        self, layer: str, *, classes: Any = None, pooling: str = "mean", n_others: int = 96, note: str = ""
    ):  # fmt: skip
        self.layer, self.classes, self.pooling, self.n_others, self.note = layer, classes, pooling, n_others, note

    def fit(self, ctx: Context) -> Shortcuts:
        """Group the decisions, and test each group by pasting."""
        check.positive("n_others", self.n_others)
        table: Any = ctx.relevances(self.layer)
        said = np.where(np.asarray(table.is_valid), np.asarray(table.target), -1)
        found: list[Shortcut] = []
        left: list[str] = []
        classes, shown = self._classes(ctx, said), ctx.progress
        shown.start(f"pieces at {self.layer}", len(classes))
        ctx = _Quietly(ctx, SilentProgress(shown.token))
        for index in classes:
            shown.step()
            others = np.flatnonzero((said >= 0) & (said != index))
            try:
                groups = Spray(index, self.layer, layout="pca").fit(ctx).map_
            except BadValueError as error:
                left.append(str(error))
                continue
            if not len(others):
                left.append(f"All samples are taken for {ctx.model.class_name(index)}.")
                continue
            found += self._of_class(ctx, index, groups, others[evenly(len(others), self.n_others)])
        self._finish(ctx, sorted(found, key=lambda one: (-one.effect, one.class_, one.group)), left)
        return self

    def to_frame(self) -> pd.DataFrame:
        """One row per group: class, group, samples, effect, taken, control, area."""
        import pandas as pd

        names = [one.reason for one in self.findings_]
        rows = [
            {"class": one.class_, "group": one.group, "samples": len(one.members), "effect": one.effect,
             "taken": one.taken, "control": one.control, "area": one.area, "reason": text}
            for one, text in zip(self.shortcuts_, names, strict=True)
        ]  # fmt: skip
        columns = ["class", "group", "samples", "effect", "taken", "control", "area", "reason"]
        return pd.DataFrame(rows, columns=columns)

    def recipe_params(self, ctx: Context) -> dict[str, Any]:
        own = self.params()
        return own | {"classes": None if self.classes is None else [str(one) for one in self.classes]}

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Groups as plain values; their effects as an array."""
        effects = np.array([[one.taken, one.control, one.area] for one in self.shortcuts_], np.float64)
        return {"effects": effects.reshape(-1, 3)}, {
            "shortcuts": [asdict(one) for one in self.shortcuts_],
            "left_out": list(self.findings_.left_out),
        }

    def restore(self, ctx: Context, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Take up stored groups."""
        found = [Shortcut(**{k: _tupled(v) for k, v in one.items()}) for one in facts["shortcuts"]]
        self._finish(ctx, found, facts["left_out"])

    # --- inside ------------------------------------------------------------------------------------------------------

    def _classes(self, ctx: Context, said: np.ndarray) -> list[int]:
        if self.classes is None:
            sizes = np.bincount(said[said >= 0], minlength=ctx.model.n_classes)
            return np.flatnonzero(sizes >= _LEAST_OF_CLASS).tolist()
        return [class_index(one, ctx.class_names(), ctx.model.n_classes) for one in self.classes]

    def _of_class(self, ctx: Context, index: int, groups: Any, others: np.ndarray) -> list[Shortcut]:
        ids, cluster = np.asarray(groups.index), np.asarray(groups.columns["cluster"])
        outlier = np.asarray(groups.columns["outlier"])
        n_groups = len(groups.cluster_names) - ("no relevance" in groups.cluster_names)
        made = []
        for group in range(n_groups):
            inside = cluster == group
            outside = ~inside & (cluster < n_groups)
            if min(inside.sum(), outside.sum()) < _LEAST:
                continue
            members, rest = (ids[part][np.argsort(outlier[part], kind="stable")] for part in (inside, outside))
            try:
                shares, area = self._effect(ctx, index, members, rest, others)
            except WorkbenchError:
                continue  # the two are not told apart at this layer, or nothing shows where
            own, usual = (tuple(int(i) for i in part) for part in (members, rest[:SHOWN]))
            made.append(Shortcut(index, group, own, usual, *shares, area, int((cluster < n_groups).sum())))
        return made

    def _effect(
        self, ctx: Context, index: int, members: np.ndarray, rest: np.ndarray, others: np.ndarray
    ) -> tuple[tuple[float, float], float]:
        """Shares taken for the class with pieces of members and of the rest; mean area of the pieces."""
        cav = PatternCAV(
            self.layer, positives=np.sort(members), negatives=np.sort(rest), scope="all", pooling=self.pooling,
            resamples=0,
        ).fit(ctx)  # fmt: skip
        masks = ArtifactMasks(cav, samples=np.sort(members[:_DONORS])).fit(ctx)
        pieces = dict(zip(masks.index_.tolist(), masks.masks_, strict=True))
        # The same places in pictures that are decided otherwise: what any piece of the class does.
        plain = dict(zip(rest[: len(pieces)].tolist(), pieces.values(), strict=False))
        shares = [taken(ctx, Pasted(ctx.data, one), others, index) for one in (pieces, plain)]
        return (shares[0], shares[1]), float(masks.masks_.mean())

    def _finish(self, ctx: Context, found: Sequence[Shortcut], left: Sequence[str]) -> None:
        self.shortcuts_ = tuple(found)
        self.findings_ = Findings(tuple(self._finding(ctx, one) for one in found), self.layer, tuple(left))

    def _finding(self, ctx: Context, one: Shortcut) -> Finding:
        name = ctx.model.class_name(one.class_)
        return Finding(
            "group", one.members[0], one.effect, f"pieces of {name} at {self.layer}, group {one.group}{self.note}",
            f"{count(len(one.members))} of {count(one.n_class)} samples taken for {name} share a piece, {one.area:.0%} "
            f"of the picture, that turns {one.taken:.0%} of other pictures into {name}.",
            (Evidence("They are decided alike.", one.members[:SHOWN]),),
            (
                Evidence(f"The same place of these pictures of the class turns {one.control:.0%}.", one.usual),
                Evidence("A piece that decides may be the right reason: does it belong to the class?"),
            ),
            one.members, "", "artifact", "",
        )  # fmt: skip


class _Quietly:
    """A context whose parts report nothing: the whole has a bar of its own."""

    def __init__(self, ctx: Any, progress: Progress):
        self._ctx, self.progress = ctx, progress

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)


def taken(ctx: Context, data: Any, ids: np.ndarray, index: int) -> float:
    """Share of samples that the model takes for a class; NaN if none can be read."""
    said: list[np.ndarray] = []
    for first in range(0, len(ids), _AT_ONCE):
        x, read, _ = data.batch(ids[first : first + _AT_ONCE].tolist())
        if not read:
            continue
        with torch.no_grad():
            z = ctx.model(x)
        one = z.argmax(1) == index if z.shape[1] > 1 else (z[:, 0] > 0) == bool(index)
        said.append(one.cpu().numpy())
        ctx.progress.step(0)
    return float(np.concatenate(said).mean()) if said else float("nan")


def joined(found: Sequence[Shortcut], best: Shortcut) -> Shortcut:
    """A group together with the others of its class that do at least half as much.

    One artifact in two places makes two groups, and a direction of one would have the other among its negatives.
    """
    same = [one for one in found if one.class_ == best.class_ and one.effect >= best.effect / 2]
    members = dict.fromkeys(i for one in (best, *same) for i in one.members)
    return replace(best, members=tuple(members))


def _tupled(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
