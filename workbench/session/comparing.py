"""Comparing two models in a session: which variants are open, one sample under both, and what differs over many."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from workbench.core.comparisons import Comparison, Differences
from workbench.core.errors import BadValueError, DataError, ShapeError
from workbench.core.progress import Progress
from workbench.session.auditing import Auditing
from workbench.session.compared import OpenVariants, compared, in_words
from workbench.session.lane import current_job
from workbench.session.steering import POPULATION
from workbench.sweeps.plan import chosen_samples

if TYPE_CHECKING:
    from torch import Tensor

    from workbench.store.recipe import Recipe

__all__ = ["Comparing"]

_BATCH = 32  # samples that are kept together: a cancelled comparison goes on there, and others come in between
_MOST_PARTS = 400
_VERSION = 1


class Comparing(Auditing):
    """The part of a session that compares its model with another. See `Session`."""

    is_closed = False
    """Whether `close` was called: nothing more can be computed."""

    def __init__(self, *args: Any, **options: Any):
        super().__init__(*args, **options)
        self._variants = OpenVariants()
        self._listed_in: OpenVariants | None = None

    # --- variants ----------------------------------------------------------------------------------------------------

    def variants(self) -> dict[str, Any]:
        """The variants of this session that are open, by name, oldest first; of one name the newest.

        It keeps none of them: a variant that nobody holds any more is gone.
        """
        return self._variants.now()

    def on_variants(self, listener: Callable[[], None]) -> Callable[[], None]:
        """Call `listener()` when a variant is opened or closed; returns a function that ends it."""
        return self._variants.listen(listener)

    def changes(self) -> tuple[str, ...]:
        """What the edits of this session's model are, in words; empty for one without."""
        return in_words(self.model.edits)

    def changed_layers(self) -> tuple[str, ...]:
        """The layers that the edits of this session's model change, in their order."""
        found = {edit.where if edit.where in self.model.layers else edit.where.rpartition(".")[0]
                 for edit in self.model.edits}  # fmt: skip
        return tuple(name for name in self.model.layers if name in found)

    def close(self) -> None:
        """Cancel what is left and free the model's memory. Results stay in the store."""
        self.is_closed = True
        super().close()
        if self._listed_in is not None:
            self._listed_in.drop(self)

    # --- comparing ---------------------------------------------------------------------------------------------------

    def compare(
        self, other: Any, sample: int, *, target: Any = None, record: Any = (), rule: Any = None, maps: bool = True
    ) -> Comparison:
        """One sample under this session's model and another's.

        Parameters
        ----------
        other : Session
            A variant, or another session with as many outputs on the same data.
        sample : int
        target, record, rule
            As for `explain`. What is explained of both is the output that the target names under this session's model,
            so that both maps speak of the same.
        maps : bool
            False leaves out the explanations.
        """
        self._check_other(other)
        sample = self._check_sample(sample)
        pair = [one._every_output(sample) for one in (self, other)]
        found = None
        if maps:
            base = self.explain(sample, target, record=record, rule=rule)
            goal = self._rule_and_target(rule, target)[1]
            index = int(base.target[0])
            same = f"logit:{index}" if goal.kind in ("top", "label") and index >= 0 else str(goal)
            found = (base, other.explain(sample, same, record=record, rule=rule))
        return Comparison(
            models=self._named(other),
            sample=sample,
            label=int(self.label_outputs([sample])[0]),
            before=pair[0][0],
            after=pair[1][0],
            probability_before=pair[0][1],
            probability_after=pair[1][1],
            classes=tuple(self.model.class_name(i) for i in range(self.model.n_classes)),
            has_decision=self._decides(),
            attributions=found,
        )

    def differences(self, other: Any, samples: Any = None, *, progress: Progress | None = None) -> Differences:
        """What another model says otherwise than this session's, over many samples.

        The outputs of each model are kept in the store, part by part: one more model costs its own alone, and what was
        cancelled goes on where it stopped. Other work on the two models comes in between the parts.

        Parameters
        ----------
        other : Session
            A variant, or another session with as many outputs on the same data.
        samples : number, slice or ids, optional
            Default: 256 samples, spread evenly over the data.

        Returns
        -------
        Differences

        Examples
        --------
        >>> s.differences(s.variant("fixed", edits)).to_frame("lost")  # doctest: +SKIP
        """
        self._check_other(other)
        ids = chosen_samples(POPULATION if samples is None else samples, len(self.data))
        digests, read, outputs = [], [], []
        for one in (self, other):
            made = one._kept_outputs(ids, progress)
            digests.append(made[0])
            read.append(made[1])
            outputs.append(made[2])
        both = np.intersect1d(read[0], read[1])
        if not len(both):
            raise DataError(f"None of the {len(ids)} samples can be read.")
        before, after = (of[np.searchsorted(own, both)] for own, of in zip(read, outputs, strict=True))
        return compared(
            self._named(other),
            both,
            before,
            after,
            labels=self.label_outputs(both),
            origins=np.asarray(self.data.origins)[both],
            classes=self.model.classes,
            has_decision=self._decides(),
            n_planned=len(ids),
            recipe=hashlib.blake2b("|".join(digests).encode(), digest_size=16).hexdigest(),
        )

    # --- inside ------------------------------------------------------------------------------------------------------

    def _check_other(self, other: Any) -> None:
        if not isinstance(other, Comparing):
            raise BadValueError(
                f"A model is compared with another by its session; got {type(other).__name__}.",
                hint="s.differences(s.variant('fixed', correction.edits()))",
            )
        if other.is_closed:
            raise BadValueError(f"{other.name} is closed.", hint="Make the variant again: what was computed is stored.")
        if other.data.fingerprint.digest != self.data.fingerprint.digest:
            raise BadValueError(f"{other.name} has other data than {self.name}.", hint="Open both on the same data.")
        if other.model.output_shape != self.model.output_shape:
            raise ShapeError(
                f"{other.name} has outputs of the shape {other.model.output_shape}, {self.name} of "
                f"{self.model.output_shape}: they say different things."
            )

    def _named(self, other: Any) -> tuple[str, str]:
        return self.name, other.name if other.name != self.name else f"{other.name} (2)"

    def _every_output(self, sample: int) -> tuple[np.ndarray, np.ndarray]:
        """(class_,) scores and probabilities of all outputs of a sample."""
        rows = sorted(self.predict(sample, n=self.model.n_classes))
        values = np.array([row[2:] for row in rows], dtype=np.float32)
        return values[:, 0], values[:, 1]

    def _kept_outputs(self, ids: np.ndarray, progress: Progress | None) -> tuple[str, np.ndarray, np.ndarray]:
        """Digest, ids that could be read and their outputs, (sample, class_), from the store or the model."""
        size = max(_BATCH, -(-len(ids) // _MOST_PARTS))
        parts = [ids[first : first + size] for first in range(0, len(ids), size)]
        recipes = [self._outputs_recipe(part) for part in parts]

        def every(progress: Progress | None = None) -> list[Any]:
            shown: Progress = progress or self.progress
            shown.start(f"Outputs of {self.name}", len(ids))
            found = []
            for part, recipe in zip(parts, recipes, strict=True):
                made = self.store.get(recipe)
                # Each part waits for the lane by itself, so that a reader who clicks on a sample comes in between.
                found.append(made if made is not None else self.run(self._kept_part, recipe, part))
                shown.step(len(part))
            shown.close()
            return found

        is_kept = all(recipe in self.store for recipe in recipes)
        if is_kept or self.lane.is_current or current_job() is not None:
            found = every(progress)
        else:
            found = self._run_shown(every, progress=progress)
        digest = hashlib.blake2b("|".join(one.digest for one in recipes).encode(), digest_size=16).hexdigest()
        sample = np.concatenate([np.asarray(one["sample"]) for one in found])
        return digest, sample, np.concatenate([np.asarray(one["output"]) for one in found])

    def _outputs_recipe(self, ids: np.ndarray) -> Recipe:
        which = hashlib.blake2b(ids.astype("<i8").tobytes(), digest_size=8).hexdigest()
        return self._recipe(
            "outputs", params={"samples": [len(ids), which]}, result_version=_VERSION, title=f"outputs of {len(ids)}"
        )

    def _kept_part(self, recipe: Recipe, ids: np.ndarray) -> Any:
        return self.store.get_or_make(recipe, lambda: self._made_outputs(ids))

    def _made_outputs(self, ids: Sequence[int] | np.ndarray) -> dict[str, Tensor]:
        import torch

        outputs: list[Tensor] = []
        samples: list[int] = []
        size = 16 if self.model.device.type == "cpu" else 64
        for first in range(0, len(ids), size):
            x, read, _ = self.data.batch([int(i) for i in ids[first : first + size]])
            self.progress.token.raise_if_cancelled()
            if not read:
                continue
            made = self.model(x)
            if self.model.is_dense:
                made = made.movedim(self.model.class_axis, 1).flatten(2).amax(2)
            outputs.append(made.float().cpu())
            samples += read
        empty = torch.zeros(0, self.model.n_classes)
        return {"sample": torch.tensor(samples, dtype=torch.int64), "output": torch.cat(outputs) if outputs else empty}
