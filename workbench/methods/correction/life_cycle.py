"""Reveal to Revise: find an artifact, localise it, correct for it, measure again; and again on the corrected model."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core import check
from workbench.core.corrections import Reevaluation
from workbench.core.edits import Edits
from workbench.core.errors import BadValueError
from workbench.core.findings import Findings
from workbench.core.rounds import LifeCycle, Round
from workbench.data.base import Dataset
from workbench.data.pasted import Pasted
from workbench.methods.base import Corrects, Method, Source, register_method
from workbench.methods.correction.base import Correction, TrainedCorrection
from workbench.methods.correction.revealing import Artifact, Revealing
from workbench.methods.correction.rr_clarc import RRClArC
from workbench.methods.directions.cav import CAV, PatternCAV
from workbench.methods.directions.sets import digest_of, sample_ids
from workbench.methods.labels import labels_as_outputs
from workbench.methods.reveal.masks import ArtifactMasks

if TYPE_CHECKING:
    import pandas as pd

    from workbench.core.context import Context

__all__ = ["RevealToRevise"]

_DONORS = 24
_MASKED = 256
_LEAST_POSITIVES = 5
_LEAST_JUDGED = 20


@dataclass(frozen=True, eq=False)
class _Step:
    """A round with the model that it left behind."""

    told: Round
    artifact: Artifact
    edits: Edits


@register_method(
    "reveal-to-revise",
    source=Source(
        "Pahde et al. 2023 (Reveal to Revise), sections 3.1 to 3.4; pieces pasted for the attack: Pahde et al. 2025 "
        "(Ensuring medical AI safety); the rule that decides is ours"
    ),
    needs=("relevances", "activations"),
)
class RevealToRevise(Method, Corrects):
    """The life cycle of correction: reveal, localise, revise, re-evaluate; each `step` is one round.

    **What it answers.** Which shortcuts does the model take, and what is it without them? A round finds a group of
    samples that share a piece which decides (`Shortcuts`), fits the direction of it, cuts it out, corrects the model,
    and compares the models on held-out samples as they are and with the piece in each. The next round looks at the
    corrected model. Artifacts of former rounds stay part of each correction, and are measured again.

    **When not to trust it.** Whether a piece is an artifact or the right reason, only a person knows:
    ``decide="person"`` asks. The attack is made of the model's own localisation, so that what is not localised is not
    attacked: give `attacks` where the artifact can be made. A round that is kept says what it cost.

    **Cost.** Per round a sweep of each layer of the model as it is, the tests of `Shortcuts`, one correction, and the
    held-out samples twice through each model. All of it is stored: a session of tomorrow goes on where this one ends.

    Parameters
    ----------
    layers : str or list of str
        Where decisions are grouped and artifacts are localised; lower ones show more exactly where.
    at : str, optional
        The layer that is corrected, or whose upper part is trained. Default: the last of `layers`.
    revise : Correction, optional
        What corrects, with its options and without a direction: ``PClArC(None)``, ``RRClArC(None, strength=3)``,
        ``RRR(None)``. Default: `RRClArC`. Those that train get the samples that are not held out.
    cav : CAV, optional
        How directions are fitted, for example ``PatternCAV("", positives=None, pooling="mean")``. Default: patterns of
        the largest activations within classes.
    decide : {"rule", "person"} or callable
        A rule takes the group with the largest effect that nobody rejected, if it is at least `least_effect`. A person
        accepts a finding: `step` returns a round that waits, its findings are `findings_`, and the next `step` goes on
        with what was accepted in `AuditPanel` or by ``s.decide``. A function is called with the findings and returns
        the one to take, or None. Groups of the same class that do half as much and were not rejected come along: one
        artifact in two places makes two groups.
    attacks : mapping of str to Dataset, optional
        The session's samples, by the same ids, with an artifact in each: used for the artifact of this name, and for
        the others to see whether the model has moved on to them. Default: pieces pasted by their masks.
    classes : sequence of int or str, optional
        Outputs that are looked at.
    held_out : float or samples
        Share of the originals, or ids, that models are compared on and that no correction is trained on.
    least_effect : float, 0 to 1
    most_cost : float, 0 to 1
        A rule takes a round back if the gap between clean and attacked accuracy did not shrink, or if more clean
        accuracy than this was lost.
    seed : int

    Attributes
    ----------
    held_out_ : (sample,) int64 array
    findings_ : Findings
        Of the present model, the largest effect first; without what earlier rounds were about.
    attacks_ : dict of str to Dataset
        The samples with the artifact of a round in each: what models are attacked with. ``.sheet(range(8))`` shows it.

    Examples
    --------
    >>> report = s.fit(wb.methods.RevealToRevise(layers=["blocks.4", "blocks.6"]))  # doctest: +SKIP
    >>> report.step()  # doctest: +SKIP
    >>> report.step(positives="band-aid")  # doctest: +SKIP
    >>> report.rounds_.to_frame()  # doctest: +SKIP
    """

    held_out_: np.ndarray
    findings_: Findings
    _steps: list[_Step]
    _to_replay: list[tuple[Artifact, str]]
    _rejected: list[np.ndarray]
    attacks_: dict[str, Dataset]
    _open: Any

    def __init__(
        self, layers: Any, *, at: str | None = None, revise: Any = None, cav: Any = None, decide: Any = "rule",
        attacks: Any = None, classes: Any = None, held_out: Any = 0.2, least_effect: float = 0.5,
        most_cost: float = 0.05, seed: int = 0,
    ):  # fmt: skip
        self.layers, self.at, self.revise, self.cav, self.decide = layers, at, revise, cav, decide
        self.attacks, self.classes, self.held_out = attacks, classes, held_out
        self.least_effect, self.most_cost, self.seed = least_effect, most_cost, seed

    def fit(self, ctx: Context) -> RevealToRevise:
        """Choose the samples that models will be compared on; nothing is corrected yet."""
        self._check(ctx)
        labels = labels_as_outputs(ctx)
        if not (labels >= 0).any():
            raise BadValueError(
                "No sample has a label that is an output of the model, so that no accuracy tells what is better.",
                hint="Label the data, or correct by hand: s.fit(RRClArC(cav)).",
            )
        if isinstance(self.held_out, float):
            origins = np.unique(np.asarray(ctx.data.origins))
            n = max(1, round(self.held_out * len(origins)))
            chosen = np.random.default_rng(self.seed).permutation(origins)[:n]
            ids = np.flatnonzero(np.isin(ctx.data.origins, chosen))
        else:
            ids = sample_ids(ctx.data, self.held_out, "held_out")
        self.held_out_ = ids[labels[ids] >= 0]
        if not len(self.held_out_):
            raise BadValueError("None of the held-out samples has a label.", hint="Name others: held_out=[...].")
        self._begin()
        return self

    # Going on ---------------------------------------------------------------------------------------------------------

    def step(self, positives: Any = None, *, name: str = "") -> Round:
        """Make one round: reveal, localise, revise, re-evaluate.

        Parameters
        ----------
        positives : ids, mask, tag or frame, optional
            Samples that show an artifact, where somebody knows them; nothing is looked for then.
        name : str, optional
            What the artifact is called. Default: the tag, or what a person or the rule called it.

        Returns
        -------
        Round
            Its `outcome` says whether the correction stays; ``waiting`` where a person has to decide first, and
            ``nothing found`` are no rounds of `rounds_`.
        """
        session = self._session()
        self._replay()
        if positives is None:
            found = self._revealed()
            if isinstance(found, Round):
                return found
            artifact = replace(found, name=name) if name else found
        else:
            ids = sample_ids(session.data, positives, "positives")
            called = name or (positives if isinstance(positives, str) else f"artifact {len(self._steps) + 1}")
            artifact = Artifact(called, self._best_layer(ids, called), ids, "It was named.")
        self._take(artifact, None)
        self._note()
        return self._steps[-1].told

    def undo(self) -> Round | None:
        """Take the last round back, whatever its outcome; returns it, None if there is none."""
        self._session()
        self._replay()
        if not self._steps:
            return None
        gone = self._steps.pop()
        self._close()
        self._rejected.append(gone.artifact.samples)
        self._note()
        return gone.told

    # What there is ----------------------------------------------------------------------------------------------------

    @property
    def rounds_(self) -> LifeCycle:
        """All rounds so far."""
        self._replay()
        return LifeCycle(self._session().name, tuple(step.told for step in self._steps))

    @property
    def corrected(self) -> Any:
        """The session on the model as the rounds left it; the uncorrected one before the first.

        It stays open until the next round, `undo` or `close`.
        """
        self._replay()
        return self._after(len(self._steps))

    def edits(self) -> Edits:
        """All corrections that were kept, for `Session.variant`; none before the first round."""
        self._replay()
        return self._steps[-1].edits if self._steps else self._none()

    def to_frame(self) -> pd.DataFrame:
        """One row per round; see `LifeCycle.to_frame`."""
        return self.rounds_.to_frame()

    def plot(self, **options: Any) -> Any:
        """Accuracy by round, clean and with each artifact, as a plotly figure."""
        return self.rounds_.plot(**options)

    def close(self) -> None:
        """Close the sessions on corrected models."""
        self._close()

    # What a method says -----------------------------------------------------------------------------------------------

    def recipe_params(self, ctx: Context) -> dict[str, Any]:
        self._check(ctx)
        own = {k: v for k, v in self.params().items() if k not in ("layers", "attacks", "held_out", "revise", "cav")}
        if not isinstance(self.held_out, float):
            own["held_out"] = digest_of(sample_ids(ctx.data, self.held_out, "held_out"))
        else:
            own["held_out"] = self.held_out
        if callable(self.decide):
            own["decide"] = getattr(self.decide, "__qualname__", "function")
        own["attacks"] = {name: one.fingerprint for name, one in sorted((self.attacks or {}).items())}
        own["classes"] = None if self.classes is None else [str(one) for one in self.classes]
        return own | {"layers": self._layers(), "revise": repr(self._template()), "cav": repr(self._cav())}

    def state(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The held-out samples; rounds are kept beside, as they are made."""
        return {"held_out": self.held_out_}, {}

    def restore(self, ctx: Context, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Take up the held-out samples, and the rounds that were made."""
        self.held_out_ = np.asarray(arrays["held_out"])
        self._begin()
        kept = ctx.checkpoint(self).load()
        if kept is None:
            return
        lists, notes = kept
        self._to_replay = [
            (Artifact(one["name"], one["layer"], np.asarray(lists[f"round {i}"]), one["reason"]), one["outcome"])
            for i, one in enumerate(notes["rounds"])
        ]
        self._rejected = [np.asarray(lists[f"rejected {i}"]) for i in range(notes["rejected"])]

    def __repr__(self) -> str:
        shown = [f"{name}={value!r}" for name, value in self.params().items() if value is not None]
        return f"RevealToRevise({', '.join(shown)})"

    # --- reveal ------------------------------------------------------------------------------------------------------

    def _revealed(self) -> Artifact | Round:
        """The artifact of this round, or why there is none yet."""
        session, number = self._after(len(self._steps)), len(self._steps) + 1
        known = [step.artifact.samples for step in self._steps] + self._rejected
        found = Revealing(self._layers(), self.classes, number).look(session, known)
        self.findings_ = found.findings
        book = self._session().decisions
        if self.decide == "person":
            return found.by_person(book)
        if callable(self.decide):
            return found.by_function(self.decide, book)
        return found.by_rule(self.least_effect, book)

    def _best_layer(self, ids: np.ndarray, name: str) -> str:
        """Where a direction tells the samples apart best; of equal ones the lowest, which sees more exactly where."""
        layers = self._layers()
        if len(layers) == 1:
            return layers[0]
        areas = [self._direction(self._after(len(self._steps)), layer, ids, name).separation_ for layer in layers]
        return layers[int(np.argmax(np.round(np.nan_to_num(areas), 3)))]

    # --- localise, revise, re-evaluate -------------------------------------------------------------------------------

    def _take(self, artifact: Artifact, outcome: str | None) -> None:
        """Correct for an artifact and those before, and say what came of it; a known outcome is not judged again."""
        base, before = self._session(), self._after(len(self._steps))
        known = [step.artifact for step in self._steps if step.told.outcome == "kept"]
        cav = self._direction(before, artifact.layer, artifact.samples, artifact.name)
        attack, area = self._attack(before, artifact, cav)
        edits, correction = self._revised(before, [*known, artifact])
        number = len(self._steps) + 1
        variant = base.variant(f"round {number}", edits)
        others = {one.name: self.attacks_[one.name] for one in known if one.name != artifact.name}
        others |= {k: v for k, v in (self.attacks or {}).items() if k != artifact.name and k not in others}
        models = [variant] if before is base else [before, variant]
        report = base.reevaluate(
            *models, attacked=attack, samples=self._judged_on([*known, artifact]), artifact=artifact.name,
            cav=self._direction(base, self._place(), artifact.samples, artifact.name), besides=others,
        )  # fmt: skip
        judged, why = self._judged(report)
        is_kept = (outcome or judged) == "kept"
        told = Round(
            number, "kept" if is_kept else "taken back", why, artifact.name, artifact.layer, artifact.reason,
            tuple(artifact.samples.tolist()), float(cav.separation_), area, correction, report,
        )  # fmt: skip
        self.attacks_[artifact.name] = attack
        self._steps.append(_Step(told, artifact, edits if is_kept else self.edits()))
        self._close()
        if is_kept:
            self._open = variant
        else:
            variant.close()

    def _judged_on(self, artifacts: Sequence[Artifact]) -> np.ndarray:
        """Held-out samples that show no artifact: where one helps the model, correcting for it costs nothing."""
        clean = np.setdiff1d(self.held_out_, np.concatenate([a.samples for a in artifacts]))
        return clean if len(clean) >= _LEAST_JUDGED else self.held_out_

    def _judged(self, report: Reevaluation) -> tuple[str, str]:
        after = len(report.models) - 1
        before = max(after - 1, 0)
        gaps = [report.gap(i)[0] for i in (before, after)]
        cost = report.accuracy(before)[0] - report.accuracy(after)[0]
        told = f"Gap {100 * gaps[0]:.1f} to {100 * gaps[1]:.1f} points, clean accuracy {-100 * cost:+.1f} points."
        if self.decide == "person":
            return "kept", told
        if gaps[1] >= gaps[0]:
            return "taken back", f"{told} The gap did not shrink."
        if cost > self.most_cost:
            return "taken back", f"{told} That costs more than {100 * self.most_cost:.0f} points."
        return "kept", told

    def _direction(self, session: Any, layer: str, ids: np.ndarray, name: str) -> CAV:
        """The artifact's direction, of samples that are not held out where there are enough."""
        every = np.arange(len(session.data))
        seen = np.setdiff1d(every, self.held_out_)
        if len(np.intersect1d(ids, seen)) < _LEAST_POSITIVES:
            seen = every
        # Named, since by default all others are negatives: those that are held out and show the artifact, too.
        given = {"positives": np.intersect1d(ids, seen), "negatives": np.setdiff1d(seen, ids), "pairs": None}
        template = self._cav()
        found: CAV = session.fit(type(template)(**{**template.params(), **given, "layer": layer, "concept": name}))
        return found

    def _attack(self, session: Any, artifact: Artifact, cav: CAV) -> tuple[Dataset, float]:
        """The samples with the artifact in each, and the share of the picture that it takes."""
        if artifact.name in (self.attacks or {}):
            return self.attacks[artifact.name], math.nan
        unseen = np.intersect1d(artifact.samples, self.held_out_)
        donors = unseen if len(unseen) >= _LEAST_POSITIVES else artifact.samples
        masks = session.fit(ArtifactMasks(cav, samples=donors[:_DONORS]))
        pieces = dict(zip(masks.index_.tolist(), masks.masks_, strict=True))
        return Pasted(session.data, pieces, name=artifact.name, seed=self.seed), float(masks.masks_.mean())

    def _revised(self, before: Any, artifacts: Sequence[Artifact]) -> tuple[Edits, str]:
        """The edits of the corrected model, on the uncorrected one."""
        template = self._template()
        if isinstance(template, TrainedCorrection):
            return self._trained(before, artifacts, template)
        session = self._session()
        cavs = [self._direction(session, self._place(), a.samples, a.name) for a in artifacts]
        fitted = session.fit(self._filled(template, cav=cavs))
        return fitted.edits(), repr(fitted)

    def _trained(self, before: Any, artifacts: Sequence[Artifact], template: TrainedCorrection) -> tuple[Edits, str]:
        """From where the last round ended, with the artifacts of all rounds: what was unlearned must not come back."""
        own: dict[str, Any] = {}
        if getattr(template, "samples", None) is None:
            own["samples"] = np.setdiff1d(np.arange(len(before.data)), self.held_out_)
        if "masks" in template.params():
            own["masks"] = [self._masks(before, a) for a in artifacts]
        else:
            own["cav"] = [self._direction(before, self._place(), a.samples, a.name) for a in artifacts]
        fitted = before.fit(self._filled(template, **own))
        return self.edits() + fitted.edits(), repr(fitted)

    def _masks(self, session: Any, artifact: Artifact) -> dict[int, np.ndarray]:
        cav = self._direction(session, artifact.layer, artifact.samples, artifact.name)
        ids = np.setdiff1d(artifact.samples, self.held_out_)
        masks = session.fit(ArtifactMasks(cav, samples=(ids if len(ids) else artifact.samples)[:_MASKED]))
        return {int(i): one.astype(np.float32) for i, one in zip(masks.index_, masks.masks_, strict=True)}

    # --- inside ------------------------------------------------------------------------------------------------------

    def _check(self, ctx: Context) -> None:
        if not self._layers():
            raise BadValueError("RevealToRevise needs at least one layer.", hint='layers=["blocks.4", "blocks.6"]')
        for layer in (*self._layers(), self._place()):
            ctx.model.layers.usable(layer)
        if not callable(self.decide):
            check.one_of("decide", self.decide, ("rule", "person"))
        check.between("least_effect", self.least_effect, -1, 1)
        check.between("most_cost", self.most_cost, 0, 1)
        if isinstance(self.held_out, float):
            check.between("held_out", self.held_out, 0, 1, left_open=True)
        template = self._template()
        if not isinstance(template, Correction):
            raise BadValueError(
                f"`revise` must be a correction without a direction; got {type(template).__name__}.",
                hint="For example revise=wb.methods.PClArC(None).",
            )
        if not isinstance(self._cav(), CAV):
            raise BadValueError(
                f"`cav` says how directions are fitted; got {type(self.cav).__name__}.",
                hint='For example cav=wb.methods.PatternCAV("", positives=None, pooling="max").',
            )
        for name, one in (self.attacks or {}).items():
            if not isinstance(one, Dataset) or len(one) != len(ctx.data):
                raise BadValueError(
                    f'The attack "{name}" must be a data set with the same {len(ctx.data)} samples.',
                    hint='For example attacks={"timestamp": world.attacked("timestamp")}.',
                )

    def _layers(self) -> list[str]:
        return [self.layers] if isinstance(self.layers, str) else list(self.layers)

    def _place(self) -> str:
        return self._layers()[-1] if self.at is None else self.at

    def _template(self) -> Any:
        return RRClArC(None) if self.revise is None else self.revise

    def _cav(self) -> Any:
        if self.cav is not None:
            return self.cav
        return PatternCAV("", positives=None, scope="within-class", resamples=0)

    def _filled(self, template: Correction, **own: Any) -> Correction:
        return type(template)(**{**template.params(), **own})

    def _none(self) -> Edits:
        made_for = self._session().model.fingerprint
        return Edits((), model=f"{made_for.name}@{made_for.digest}")

    def _begin(self) -> None:
        self.findings_ = Findings()
        self._steps, self._to_replay, self._rejected = [], [], []
        self.attacks_ = {}
        self._open = None

    def _session(self) -> Any:
        session = getattr(self, "session_", None)
        if session is None:
            raise BadValueError("This was not fitted by a session.", hint="report = s.fit(RevealToRevise(...)) first.")
        return session

    def _after(self, n: int) -> Any:
        """The session on the model after all rounds so far."""
        if not n or not len(self._steps[n - 1].edits):
            return self._session()
        if self._open is None:
            self._open = self._session().variant(f"round {n}", self._steps[n - 1].edits)
        return self._open

    def _close(self) -> None:
        if self._open is not None:
            self._open.close()
        self._open = None

    def _replay(self) -> None:
        """Rounds of an earlier session: everything comes from the store, or is made again where it was pruned."""
        waiting, self._to_replay = self._to_replay, []
        for artifact, outcome in waiting:
            self._take(artifact, outcome)

    def _note(self) -> None:
        """Keep which rounds were made: their results are in the store by themselves."""
        arrays = {f"round {i}": step.artifact.samples for i, step in enumerate(self._steps)}
        arrays |= {f"rejected {i}": ids for i, ids in enumerate(self._rejected)}
        rounds = [
            {"name": step.told.artifact, "layer": step.told.layer, "reason": step.told.reason,
             "outcome": step.told.outcome}
            for step in self._steps
        ]  # fmt: skip
        self._session().checkpoint(self).save(
            arrays or {"none": np.zeros(0, np.int64)}, {"rounds": rounds, "rejected": len(self._rejected)}
        )
