"""Correcting a model in a session: edits from files, corrected models for a while, checkpoints, and the comparison."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.attribution.crp import rule_name
from workbench.core import check
from workbench.core.corrections import Reevaluation
from workbench.core.edits import Edits
from workbench.core.errors import BadValueError, DamagedEntryError, ShapeError, StaleError
from workbench.core.origins import error_of_mean, places
from workbench.core.results import Edit
from workbench.core.sampling import evenly
from workbench.data.base import Dataset
from workbench.methods.correction.base import directions_of
from workbench.methods.correction.right_reasons import mask_facts
from workbench.methods.directions.sets import digest_of, sample_ids, the_pairs
from workbench.methods.evaluation.correction import (
    answers,
    is_right,
    masks_of,
    probe_auc,
    relevance_on_masks,
    sensitivities,
    without_rule,
)
from workbench.methods.labels import labels_as_outputs
from workbench.models.edits import check_edits
from workbench.session.trying import Trying

if TYPE_CHECKING:
    from workbench.core.progress import Progress
    from workbench.models.handle import ModelHandle
    from workbench.store import Store
    from workbench.store.recipe import Recipe

__all__ = ["Revising", "StoredCheckpoint"]

_VERSION = 4


class StoredCheckpoint:
    """How far a method is, in the store under the method's recipe."""

    def __init__(self, store: Store, recipe: Recipe):
        self._store, self._recipe = store, recipe

    def load(self) -> tuple[Mapping[str, Any], Mapping[str, Any]] | None:
        """What was saved last; a damaged checkpoint counts as none."""
        try:
            arrays = self._store.get(self._recipe)
        except DamagedEntryError:
            return None
        if arrays is None:
            return None
        return arrays, (self._store.meta(self._recipe) or {}).get("facts", {})

    def save(self, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Keep it."""
        self._store.put(self._recipe, arrays, meta={"facts": dict(facts)})

    def drop(self) -> None:
        """Remove it."""
        self._store.delete(self._recipe)


class Revising(Trying):
    """The part of a session that corrects its model. See `Session`."""

    def checkpoint(self, method: Any) -> StoredCheckpoint:
        """Where a method that takes long keeps how far it is; it is removed when the method is done."""
        recipe = self._recipe_of(method)
        return StoredCheckpoint(self.store, recipe.but(kind=f"checkpoint:{recipe.kind}"))

    def load_edits(self, path: str | Path, *, any_model: bool = False) -> Edits:
        """Read edits that `Edits.save` wrote, for this session's model.

        Parameters
        ----------
        path : path
        any_model : bool
            Take also those that were made for another model, if their layers and shapes fit.

        Raises
        ------
        StaleError
            If they were made for other weights.
        ShapeError, UnknownLayerError, UnknownNameError
            If they do not fit the model.
        """
        found, own = Edits.load(path), self.model.fingerprint
        if not any_model and found.model.rpartition("@")[2] != own.digest:
            name, _, digest = found.model.rpartition("@")
            raise StaleError(
                f"These edits were made for {name}@{digest[:8]}; the session's model is {own}.",
                hint="Open the session on that model, or say any_model=True if you know that they fit.",
            )
        check_edits(found, self.model.layers, self.model.base)
        return found

    @contextmanager
    def corrected(self, edits: Sequence[Edit], name: str = "corrected") -> Iterator[Any]:
        """A session on the corrected model, closed when the context ends; this one stays as it is.

        Parameters
        ----------
        edits : sequence of Edit, or fitted correction
        name : str
        """
        made = self.variant(name, getattr(edits, "edits_", edits))  # type: ignore[attr-defined]
        try:
            yield made
        finally:
            made.close()

    def reevaluate(
        self,
        *others: Any,
        attacked: Any,
        samples: Any = None,
        artifact: str = "artifact",
        cav: Any = None,
        masks: Any = None,
        besides: Mapping[str, Any] | None = None,
        n_explained: int = 64,
        rule: Any = None,
        progress: Progress | None = None,
    ) -> Reevaluation:
        """Compare this session's model with corrected ones, on clean samples and on the same with an artifact.

        Each model's numbers are kept in the store, so that one more model costs its own alone.

        Parameters
        ----------
        *others : Session, or mapping of name to Session
            Variants of this one.
        attacked : Dataset, or pairs of ids
            The same samples with the artifact, by the same ids; or pairs ``[(with, without), ...]`` of the data.
        samples : ids, mask, tag or frame, optional
            Default: all with a label that is an output. Not together with pairs.
        artifact : str
            What it is called; also the name of its masks.
        cav : CAV, optional
            The artifact's direction, fitted on the uncorrected model: for sensitivities, and the layer of the probe.
        masks : str, mapping or fitted ArtifactMasks, optional
            Name of the masks in the attacked data, or masks by the ids of the attacked samples: of (y, x) arrays at the
            size of the input. Default: `artifact`, where there are such. Samples without one have no relevance; a
            warning says how many.
        besides : mapping of str to Dataset, optional
            The same samples with other artifacts: whether one has taken the place of the corrected one.
        n_explained : int
            Samples that relevance and sensitivity are measured on, at most, spread evenly.
        rule
            Of the relevance, as for `explain`.

        Returns
        -------
        Reevaluation

        Raises
        ------
        BadValueError, ShapeError
            If clean and attacked samples do not belong together, or no sample that is explained has such a mask.
        UnknownNameError
            If there are no masks of that name.

        Notes
        -----
        Views of one original (``data.origins``) are no new evidence: intervals and tests of the result go by originals.
        """
        named: dict[str, Any] = {self.name: self}
        for one in others:
            for name, other in one.items() if isinstance(one, Mapping) else [(getattr(one, "name", "?"), one)]:
                if not isinstance(other, Revising):
                    raise BadValueError(
                        f"A model is compared by its session; got {type(other).__name__}.",
                        hint="s.reevaluate(s.variant('fixed', correction.edits()), attacked=...)",
                    )
                named[name if name not in named else f"{name} ({len(named)})"] = other
        ask = _Question(self, attacked, samples, artifact, cav, masks, dict(besides or {}), n_explained, rule)
        found = [other._reevaluated(ask, progress) for other in named.values()]
        rule_used = self._rule_and_target(rule, None)[0]
        return replace(ask.answer(tuple(named), found, self.model, rule_used), ctx_=weakref.ref(self))

    # --- inside ------------------------------------------------------------------------------------------------------

    def _reevaluated(self, ask: _Question, progress: Progress | None) -> Mapping[str, Any]:
        chosen = self._rule_and_target(ask.rule, None)[0]
        recipe = self._recipe(
            "reevaluation",
            layer=ask.layer,
            params={**ask.facts, "rule": [str(rule_name(chosen)), getattr(chosen, "digest", "")]},
            result_version=_VERSION,
            title=f"with and without {ask.artifact}",
        )

        def work(progress: Progress | None = None) -> Any:
            return self.store.get_or_make(recipe, lambda: ask.measured(self.model, chosen, progress or self.progress))

        made = self.store.get(recipe)
        return self._run_shown(work, progress=progress) if made is None else made

    def _recipe_of(self, method: Any) -> Recipe:
        raise NotImplementedError  # a session knows how methods are stored


class _Question:
    """What is asked of each model: which pairs, which layer, which directions."""

    def __init__(
        self, session: Any, attacked: Any, samples: Any, artifact: str, cav: Any, masks: Any, besides: dict[str, Any],
        n_explained: int, rule: Any,
    ):  # fmt: skip
        self.artifact, self.rule, self.besides = str(artifact), rule, besides
        self.data = self.attacked = session.data
        labels = labels_as_outputs(session)
        if isinstance(attacked, Dataset):
            self.attacked = attacked
            ids = np.flatnonzero(labels >= 0) if samples is None else sample_ids(session.data, samples, "samples")
            self.clean_ids = self.attacked_ids = ids[labels[ids] >= 0]
        else:
            if samples is not None:
                raise BadValueError("`samples` are chosen by the pairs; give one of the two.")
            pairs = the_pairs(session.data, attacked, "attacked")
            pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
            if len(np.unique(pairs[:, 0])) < len(pairs) or len(np.unique(pairs[:, 1])) < len(pairs):
                raise BadValueError("`attacked` names a sample in two pairs.", hint="Each pair is one picture, twice.")
            pairs = pairs[(labels[pairs[:, 1]] >= 0) & (labels[pairs[:, 0]] == labels[pairs[:, 1]])]
            self.attacked_ids, self.clean_ids = pairs[:, 0], pairs[:, 1]
        if len(self.clean_ids) == 0:
            raise BadValueError("No sample has a label that is an output of the model, clean and attacked.")
        for name, one in {"attacked": self.attacked, **besides}.items():
            self._check(session.data, name, one)
        self.labels = labels[self.clean_ids]
        if session.model.n_classes == 1 and not set(np.unique(self.labels)) <= {0, 1}:
            raise BadValueError(
                "The model has a single output and the labels are not 0 and 1, so that nothing is right or wrong.",
                hint="Compare regressions by s.steer or s.fit(TCAV(...)).",
            )
        self.directions = [] if cav is None else directions_of(session, cav, "reevaluate")
        self.layer = self.directions[0].layer if self.directions else ""
        self.pooling = self.directions[0].pooling if self.directions else "max"
        self.explained = evenly(len(self.clean_ids), check.positive("n_explained", n_explained))
        self.origins = np.asarray(session.data.origins)[self.clean_ids]
        self.masks: Any = self.artifact
        self.is_masked = masks is not None
        if masks is not None:
            self.masks = masks_of(self.attacked, self.attacked_ids[self.explained], masks)
        vectors = [digest_of(np.ascontiguousarray(d.vector, np.float32).view(np.int32)) for d in self.directions]
        self.facts = {
            "clean": digest_of(self.clean_ids), "attacked": [self.attacked.fingerprint, digest_of(self.attacked_ids)],
            "labels": digest_of(self.labels), "vectors": vectors, "lengths": [d.length for d in self.directions],
            "pooling": self.pooling, "explained": len(self.explained), "masks": mask_facts(session, self.masks),
            "besides": {name: one.fingerprint for name, one in sorted(besides.items())},
            "origins": digest_of(places(self.origins, len(self.origins))),
        }  # fmt: skip

    def measured(self, handle: ModelHandle, rule: Any, progress: Progress) -> dict[str, Any]:
        """The numbers of one model."""
        ids, n = self.clean_ids, len(self.clean_ids)
        progress.start("with and without", n * (2 + len(self.besides)) + 2 * len(self.explained))
        arrays: dict[str, Any] = {"sample": ids, "label": self.labels}
        logits, values, read = {}, {}, {}
        for kind, data, own in (("clean", self.data, ids), ("attacked", self.attacked, self.attacked_ids)):
            read[kind], logits[kind], values[kind] = answers(handle, data, own, self.layer, self.pooling, progress)
        both = np.intersect1d(read["clean"], read["attacked"])
        at = {kind: np.searchsorted(read[kind], both) for kind in read}
        arrays["kept"] = both
        for kind in read:
            arrays[kind] = is_right(logits[kind][at[kind]], self.labels[both])
        parts = [[v[k][at[k]] for k in ("clean", "attacked")] for v in (values, logits)]
        probes = [probe_auc(*part, origins=self.origins[both]) if part[0].shape[1] else float("nan") for part in parts]
        for name, data in self.besides.items():
            place, z, _ = answers(handle, data, ids, "", self.pooling, progress)
            if not np.isin(both, place).all():
                raise BadValueError(f'Some samples with "{name}" cannot be read.')
            arrays[f"other|{name}"] = is_right(z[np.searchsorted(place, both)], self.labels[both])
        rows = self.explained
        shares, areas, masked = relevance_on_masks(
            handle, self.attacked, self.attacked_ids[rows], self.labels[rows], self.masks, rule, progress
        )
        arrays["relevance"], arrays["area"], arrays["relevance_rows"] = shares, areas, rows[masked]
        arrays["probe"] = np.array(probes, np.float64)
        arrays["sensitivity"], arrays["sensitivity_rows"] = self._sensitivity(handle, progress)
        return arrays

    def answer(
        self, names: tuple[str, ...], found: Sequence[Mapping[str, Any]], handle: ModelHandle, rule: Any
    ) -> Reevaluation:
        """All models side by side."""
        every = [{k: np.asarray(v) for k, v in one.items()} for one in found]
        kept = every[0]["kept"]
        if any(not np.array_equal(one["kept"], kept) for one in every):
            raise BadValueError("The models could not read the same samples.")
        s = np.stack([one["sensitivity"] for one in every])  # (model, before or behind, sample)
        size = np.abs(s).mean(2)
        error = error_of_mean(np.abs(s).transpose(2, 0, 1), self.origins[every[0]["sensitivity_rows"]])
        probes = np.stack([one["probe"] for one in every])
        area = every[0]["area"]
        notes = []
        if len(kept) < len(self.clean_ids):
            notes.append(f"{len(self.clean_ids) - len(kept)} of {len(self.clean_ids)} pairs could not be read.")
        n_masked = len(every[0]["relevance_rows"])
        if n_masked < len(self.explained) and (n_masked or self.is_masked):
            what = f' "{self.masks}"' if isinstance(self.masks, str) else ""
            notes.append(
                f"{len(self.explained) - n_masked} of the {len(self.explained)} samples that are explained have no mask"
                f"{what}: relevance is that of the other {n_masked}."
            )
        if not self.directions:
            notes.append("Without a direction (cav=...) there is no sensitivity and no probe of a layer.")
        for i, name in enumerate(names[1:], 1):
            if probes[i, 0] > 0.9:
                notes.append(
                    f'{name}: a linear probe still reads {self.artifact} at "{self.layer}" (area {probes[i, 0]:.2f}).'
                )
        for name, one in zip(names, every, strict=True):
            if np.isnan(one["relevance"]).any():
                unknown = " and ".join(without_rule(handle, rule))
                notes.append(
                    f"{name}: no relevance, since there is no rule for {unknown}, and most of the score is not "
                    "accounted for."
                )
        others = {name: np.stack([one[f"other|{name}"] for one in every]) for name in self.besides}
        made = Reevaluation(
            models=names, artifact=self.artifact, samples=self.clean_ids[kept], labels=self.labels[kept],
            clean=np.stack([one["clean"] for one in every]), attacked=np.stack([one["attacked"] for one in every]),
            relevance=np.stack([one["relevance"] for one in every]),
            relevance_area=float(area.mean()) if len(area) else float("nan"), sensitivity=size[:, 0],
            sensitivity_error=error[:, 0], sensitivity_after=size[:, 1], probe_layer=probes[:, 0],
            probe_logits=probes[:, 1], others=others, layer=self.layer, warnings=tuple(notes),
            origins=self.origins[kept], relevance_origins=self.origins[every[0]["relevance_rows"]],
        )  # fmt: skip
        unmoved = [f"{names[i]}: {text}." for i in range(1, len(names)) for text in made.still(i)]
        return replace(made, warnings=(*notes, *unmoved))

    def _sensitivity(self, handle: ModelHandle, progress: Progress) -> tuple[np.ndarray, np.ndarray]:
        """(before or behind the layer's edits, sample): root of the squared responses, over directions; which rows."""
        unknown = np.full((2, 1), np.nan), self.explained[:1]
        if not self.directions:
            return unknown
        vectors = np.stack([d.vector for d in self.directions])
        lengths = np.array([d.length for d in self.directions])
        parts, at = [], []
        for first in range(0, len(self.explained), 8):
            rows = self.explained[first : first + 8]
            x, read, _ = self.data.batch(self.clean_ids[rows].tolist())
            if read:
                at.append(rows[np.isin(self.clean_ids[rows], read)])
                before, behind = sensitivities(handle, x, self.layer, vectors, lengths, self.labels[at[-1]])
                parts.append(np.stack([np.sqrt((r**2).sum(1)) for r in (before, behind)]))
            progress.step(len(rows))
        return (np.concatenate(parts, 1), np.concatenate(at)) if parts else unknown

    @staticmethod
    def _check(data: Any, name: str, other: Any) -> None:
        if other is data:
            return
        if not isinstance(other, Dataset):
            raise BadValueError(
                f'"{name}" must be a data set with the same samples; got {type(other).__name__}.',
                hint="Or pairs of ids, [(with, without), ...].",
            )
        if len(other) != len(data) or not np.array_equal(np.asarray(other.labels), np.asarray(data.labels)):
            raise ShapeError(
                f"{other.name} ({name}) has {len(other)} samples, {data.name} {len(data)}, or their labels differ.",
                hint="Clean and attacked samples go by the same ids.",
            )
