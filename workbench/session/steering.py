"""Steering: what the output becomes when components count for less or more, for one sample and for many."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from workbench.core import check
from workbench.core.comparisons import decided
from workbench.core.effects import Effect, Intervention
from workbench.core.errors import BadValueError, DataError, NotFiniteError
from workbench.core.ids import ComponentId
from workbench.core.progress import Progress
from workbench.core.results import Edit, Ranking
from workbench.models.edits import activation_edits
from workbench.models.interventions import control_change, edits_of
from workbench.models.tail import Tail
from workbench.session.checking import Checking
from workbench.sweeps.plan import chosen_samples, label_facts, subset_facts

if TYPE_CHECKING:
    from workbench.attribution.targets import Start, Target

__all__ = ["POPULATION", "Steering", "listed"]

POPULATION = 256
"""Samples that an effect is measured on where nothing else is said, spread evenly over the data."""

_TAIL_BYTES = 512_000_000
_MOST_MOVED = 20
_STEERING_VERSION = 3


class Steering(Checking):
    """The part of a session that steers. See `Session`."""

    _tails: OrderedDict[tuple[Any, ...], Tail] | None = None

    def edits(self, interventions: Any) -> list[Edit]:
        """Interventions as edits, for `variant`: what was tried out becomes a model of its own.

        Parameters
        ----------
        interventions : Intervention, or sequence of them
        """
        return edits_of(listed(interventions), self.model.layers)

    def steer(
        self,
        interventions: Any,
        samples: Any = None,
        *,
        target: Any = None,
        watch: str | None = None,
        controls: int = 8,
        seed: int = 0,
        see: Callable[[Effect], None] | None = None,
        progress: Progress | None = None,
    ) -> Effect:
        """What interventions do to a population.

        Only the part of the network above the lowest layer that is changed is run; what lies below is computed once
        for a population and kept in memory, up to half a gigabyte.

        Parameters
        ----------
        interventions : Intervention, or sequence of them
            They act in their order.
        samples : number, slice or ids, optional
            Default: 256 samples, spread evenly over the data.
        target : Target or str, optional
            Of the score that is followed; default: each sample's largest output, as it was before.
        watch : str, optional
            The layer in which spill-over to untouched components is looked for; default: the last one above with
            components that is not the output.
        controls : int
            Random controls, see `Effect.control`; 0 for none.
        seed : int
            Of the controls.
        see : callable, optional
            Called with the effect so far after each batch, from the thread of the work.

        Returns
        -------
        Effect

        Raises
        ------
        BadValueError, UnknownLayerError, UnknownComponentError
        NotFiniteError
            If an intervention drives the output out of what numbers can say.
        """
        mine = listed(interventions)
        edits = edits_of(mine, self.model.layers)
        goal = self._rule_and_target(None, target)[1]
        controls = 0 if controls == 0 else check.positive("controls", controls, at_most=100)
        ids, n_left_out = self._followed(
            chosen_samples(POPULATION if samples is None else samples, len(self.data)), goal
        )
        layers = sorted({one.layer for one in mine}, key=lambda name: self.model.layers[name].order)
        watch = self._watched(layers, watch)
        recipe = self._recipe(
            "effect",
            layer=layers[0],
            params={
                "edits": [edit.describe() for edit in edits],
                "interventions": [_facts(one) for one in mine],
                "target": str(goal),
                # What is right is part of the result, and names of outputs are not part of the model's fingerprint.
                "right": _digest_of(self.label_outputs(ids)) if self._decides() else None,
                "watch": watch,
                "controls": controls,
                **label_facts(goal),
                **subset_facts(ids, len(self.data)),
            },
            seed=seed,
            result_version=_STEERING_VERSION,
            title=f"effect of {'; '.join(map(str, mine))}",
        )

        def made(arrays: dict[str, Any], n_planned: int) -> Effect:
            return self._effect(mine, str(goal), watch, arrays, n_planned, recipe.digest, n_left_out)

        def work(progress: Progress | None = None) -> Any:
            return self.store.get_or_make(
                recipe,
                lambda: self._steered(
                    mine, edits, ids, goal, layers, watch, controls, seed, progress or self.progress,
                    None if see is None else lambda arrays: see(made(arrays, len(ids))),
                ),
            )  # fmt: skip

        found = self.store.get(recipe)
        if found is None:
            found = self._run_shown(work, progress=progress)
        n_read = len(found["sample"])
        return made(dict(found), n_read)

    def outputs_under(self, sample: int, interventions: Any) -> tuple[np.ndarray, np.ndarray]:
        """The output for one sample before and after interventions; none at all change nothing.

        Returns
        -------
        before, after : (class_,) float32 arrays
            With more axes where the model says more than one number per class.
        """
        sample = self._check_sample(sample)
        mine = [] if isinstance(interventions, (list, tuple)) and not interventions else listed(interventions)
        edits = edits_of(mine, self.model.layers)

        def work() -> tuple[np.ndarray, np.ndarray]:
            if not mine:
                output = self.model(self.data.tensor(sample).unsqueeze(0))[0].float().cpu().numpy()
                return output, output.copy()
            layers = tuple(sorted({one.layer for one in mine}))
            tail = self._tail((sample,), layers, lambda: self.data.tensor(sample).unsqueeze(0))
            after = tail.run(activation_edits(edits, self.model.layers))
            return tail.output[0].cpu().numpy(), after[0].cpu().numpy()

        return self.run(work)

    # --- inside ------------------------------------------------------------------------------------------------------

    def _followed(self, ids: np.ndarray, goal: Target) -> tuple[np.ndarray, int]:
        """The samples that have an output to follow, and how many have none, since their label names none."""
        if goal.kind != "label":
            return ids, 0
        named = self._explainable(ids) >= 0
        if not named.any():
            raise BadValueError(
                f"None of the labels of {len(ids)} samples names an output of {self.model.card.name}, so there is "
                "nothing to follow.",
                hint='Use target="top".',
            )
        return ids[named], int((~named).sum())

    def _watched(self, layers: Sequence[str], watch: str | None) -> str:
        """The layer to look for spill-over in; empty where there is none above."""
        table = self.model.layers
        last = max(table[name].order for name in layers)
        if watch is not None:
            if table.usable(watch).order <= last:
                raise BadValueError(
                    f'"{watch}" does not lie above what is steered, so nothing can spill over into it.',
                    hint=f'Choose a layer after "{layers[-1]}".',
                )
            return watch
        # Up to the next layer with weights, what is seen is what was steered, under another name.
        mixed = min((order for name in table.linear() if (order := table[name].order) > last), default=None)
        outputs = max(one.order for one in table.values())
        found = [
            one
            for one in table.values()
            if mixed is not None and mixed <= one.order < outputs and one.n_calls == 1 and one.n_components > 1
        ]
        found = [one for one in found if one.n_components != self.model.n_classes]
        return max(found, key=lambda one: one.order).name if found else ""

    def _tail(self, ids: tuple[int, ...], layers: Sequence[str], inputs: Callable[[], Tensor]) -> Tail:
        """The tail over some samples, kept while there is room; the least recently used makes way."""
        if self._tails is None or self._tails_of is not self.model.module:
            self._tails, self._tails_of = OrderedDict(), self.model.module
        key = (ids, *layers, str(self.model.device))
        if key not in self._tails:
            self._tails[key] = Tail(self.model, layers, inputs())
            while len(self._tails) > 1 and sum(tail.n_bytes for tail in self._tails.values()) > _TAIL_BYTES:
                self._tails.popitem(last=False)
        self._tails.move_to_end(key)
        return self._tails[key]

    _tails_of: Any = None

    def _steered(
        self, mine: Sequence[Intervention], edits: Sequence[Edit], ids: np.ndarray, goal: Target, layers: Sequence[str],
        watch: str, controls: int, seed: int, progress: Progress, see: Any,
    ) -> dict[str, Tensor]:  # fmt: skip
        handle = self.model
        change = activation_edits(edits, handle.layers)
        others = [
            {layer: control_change(mine, layer, handle.layers, seed * 1000 + k) for layer in layers}
            for k in range(controls)
        ]
        rows: list[dict[str, Tensor]] = []
        # Data often lie class by class; what is known so far should speak for all of them.
        ids = np.random.default_rng(0).permutation(ids)
        progress.start("steering", len(ids))
        for part in _batches(ids, 16 if handle.device.type == "cpu" else 64):
            x, read, _ = self.data.batch(part)
            if read:
                tail = self._tail(tuple(read), layers, partial(_same, x))
                rows.append(self._steered_batch(tail, read, change, others, goal, watch, progress))
                if see is not None:
                    see(_joined(rows))
            progress.step(len(part))
        if not rows:
            raise DataError(f"None of the {len(ids)} samples can be read.")
        return _joined(rows)

    def _steered_batch(
        self, tail: Tail, read: list[int], change: Any, others: Sequence[Any], goal: Target, watch: str,
        progress: Progress,
    ) -> dict[str, Tensor]:  # fmt: skip
        labels = self._explainable(read)
        start = goal.start(tail.output, labels=labels)
        pooled: list[Tensor] = []

        def see(name: str, output: Tensor) -> None:
            pooled.append(self.model.layers[name].components_first(output).amax(2).float())

        watched = [watch] if watch else []
        tail.run(see=see, watch=watched)
        after = tail.run(change, see=see, watch=watched)
        if not bool(torch.isfinite(after).all()):
            raise NotFiniteError(
                "The interventions drive the output out of what numbers can say.", hint="Choose a smaller strength."
            )
        score = _score(goal, after, labels, start)
        controls = []
        for one in others:
            progress.token.raise_if_cancelled()  # a slider waits for no more than one of these
            moved = _score(goal, tail.run(one), labels, start) - start.score
            empty = torch.stack([change.is_empty.to(moved.device) for change in one.values()]).any(0)
            controls.append(torch.where(empty, torch.nan, moved))
        found = {
            "sample": torch.tensor(read),
            "before": start.score.float(),
            "after": score,
            "control": torch.stack(controls, 1) if controls else torch.zeros(len(read), 0),
        }
        if after.ndim == 2:
            found["outputs"] = after - tail.output
        if self._decides():
            outputs = {"before": tail.output, "after": after}
            for name, one in outputs.items():
                found[f"decision_{name}"] = torch.from_numpy(decided(one.float().cpu().numpy())).to(after.device)
            known = torch.as_tensor(self.label_outputs(read), device=after.device)
            right = torch.where(known >= 0, known, found["decision_before"])
            found |= {f"margin_{name}": _margin(one, right) for name, one in outputs.items()}
        if pooled:
            found["watched"], found["watched_after"] = pooled
        return {name: value.detach().cpu() for name, value in found.items()}

    def _effect(
        self, mine: Sequence[Intervention], target: str, watch: str, arrays: dict[str, Any], n_planned: int,
        recipe: str, n_left_out: int,
    ) -> Effect:  # fmt: skip
        order = np.argsort(np.asarray(arrays["sample"]), kind="stable")
        arrays = {name: np.asarray(values)[order] for name, values in arrays.items()}
        ids = arrays["sample"]
        nowhere = np.full(len(ids), -1)
        outputs = np.asarray(arrays["outputs"]).mean(0) if "outputs" in arrays else np.zeros(0, np.float32)
        return Effect(
            interventions=tuple(mine),
            target_text=target,
            samples=ids,
            origins=self.data.origins[ids],
            before=np.asarray(arrays["before"]),
            after=np.asarray(arrays["after"]),
            decision_before=np.asarray(arrays.get("decision_before", nowhere)),
            decision_after=np.asarray(arrays.get("decision_after", nowhere)),
            labels=self.label_outputs(ids) if self._decides() else nowhere,
            outputs=outputs,
            control=np.asarray(arrays["control"]).T,
            moved=self._moved(watch, arrays) if watch else None,
            n_planned=n_planned,
            classes=self.model.classes,
            recipe=recipe,
            margin_before=np.asarray(arrays["margin_before"]) if "margin_before" in arrays else None,
            margin_after=np.asarray(arrays["margin_after"]) if "margin_after" in arrays else None,
            n_left_out=n_left_out,
        )

    def _moved(self, watch: str, arrays: dict[str, Any]) -> Ranking:
        """Components above by the mean change of their pooled activation, in units of their spread before."""
        before, after = np.asarray(arrays["watched"], np.float64), np.asarray(arrays["watched_after"], np.float64)
        spread = before.std(0)
        moved = np.divide((after - before).mean(0), spread, out=np.zeros(len(spread)), where=spread > 0)
        order = np.argsort(-np.abs(moved), kind="stable")[:_MOST_MOVED]
        names = tuple(str(ComponentId(watch, "unit", int(i))) for i in order)
        return Ranking(names, moved[order].astype(np.float32), "change in units of spread")


def _score(goal: Target, output: Tensor, labels: Any, at: Start) -> Tensor:
    """The followed score, of the outputs that were chosen before."""
    return goal.start(output, labels=labels, at=at).score.float()


def _batches(ids: np.ndarray, size: int) -> list[list[int]]:
    """Batches of at most `size`; the first is a quarter of it, so that something is known soon."""
    cuts = [size // 4, *range(size, len(ids), size)]
    return [part.tolist() for part in np.split(ids, cuts) if len(part)]


def _margin(output: Tensor, right: Tensor) -> Tensor:
    """(sample,) by how much the right output exceeds the largest other one; of a single one, how far on which side."""
    if output.shape[1] == 1:
        return (output[:, 0] * (2 * right - 1)).float()
    own = output.gather(1, right[:, None])
    return (own - output.scatter(1, right[:, None], float("-inf")).amax(1, keepdim=True))[:, 0].float()


def _same(x: Tensor) -> Tensor:
    return x


def _joined(rows: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}


def listed(interventions: Any) -> list[Intervention]:
    """Interventions as a list.

    Raises
    ------
    BadValueError
        If there is none, or something else is among them.
    """
    listed = [interventions] if isinstance(interventions, Intervention) else interventions
    if isinstance(listed, str) or not isinstance(listed, Sequence):
        raise BadValueError(
            f"Steering takes interventions; got {type(interventions).__name__}.",
            hint='For example Intervention("layer4/unit/17", "suppress").',
        )
    if wrong := [one for one in listed if not isinstance(one, Intervention)]:
        raise BadValueError(
            f"Steering takes interventions; got {type(wrong[0]).__name__}.",
            hint='For example Intervention("layer4/unit/17", "suppress").',
        )
    if not listed:
        raise BadValueError("Steering needs at least one intervention.")
    return list(listed)


def _digest_of(numbers: np.ndarray) -> str:
    return hashlib.blake2b(np.asarray(numbers, dtype="<i8").tobytes(), digest_size=8).hexdigest()


def _facts(one: Intervention) -> list[Any]:
    return [list(one.addresses), one.operation, float(one.strength), one.tokens, one.region]
