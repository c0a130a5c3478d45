"""Trying interventions on one sample: its outputs and its map under them, and which component alone matters most."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from workbench.core import check
from workbench.core.effects import Intervention, LeaveOneOut, OutputChange
from workbench.core.errors import BadValueError
from workbench.core.ids import ComponentId
from workbench.core.progress import Progress
from workbench.core.results import Attribution
from workbench.models.bases import DirectionBasis
from workbench.models.edits import activation_edits
from workbench.models.interventions import edits_of
from workbench.session.steering import Steering, listed
from workbench.sweeps.plan import chosen_samples

__all__ = ["Trying"]

_RANGE_SAMPLES = 64


class Trying(Steering):
    """The part of a session that tries interventions on one sample. See `Session`."""

    def predict_under(
        self, sample: int, interventions: Any, n: int = 5, *, also: Sequence[int] = ()
    ) -> list[OutputChange]:
        """The leading outputs of a sample before and after interventions.

        Parameters
        ----------
        sample : int
        interventions : Intervention, or sequence of them
            None changes nothing.
        n : int
            The `n` largest before and the `n` largest after are among them.
        also : sequence of int
            Outputs that are given whether they lead or not.

        Returns
        -------
        list of OutputChange
            Largest before first. Of dense predictions, boxes and sequences each class has its largest score over all
            positions, without a probability.
        """
        n = check.positive("n", n)
        before, after = (torch.from_numpy(one) for one in self.outputs_under(sample, interventions))
        if self.model.is_dense:
            before, after = (one.movedim(self.model.class_axis - 1, 0).flatten(1).amax(1) for one in (before, after))
        if wrong := [i for i in also if not 0 <= i < len(before)]:
            raise BadValueError(f"No output {wrong[0]}: the model has {len(before)}, from 0.")
        chance = [_chance(one) if not self.model.is_dense else torch.full_like(one, float("nan"))
                  for one in (before, after)]  # fmt: skip
        leading = [one.topk(min(n, len(one))).indices.tolist() for one in (before, after)]
        wanted = {*leading[0], *leading[1], *also}
        return [
            OutputChange(
                i, self.model.class_name(i), float(before[i]), float(after[i]), float(chance[0][i]), float(chance[1][i])
            )
            for i in sorted(wanted, key=lambda i: (-float(before[i]), i))
        ]

    def explain_under(self, sample: int, interventions: Any, *, target: Any = None, rule: Any = None) -> Attribution:
        """Explain a sample with interventions in place: relevance flows through the network as it is steered.

        What is explained is the output that the target names before the interventions, so that both maps speak of
        the same. The model stays as it is, and the map is kept in the store.

        Parameters
        ----------
        sample : int
        interventions : Intervention, or sequence of them
            None gives the map of the plain model.
        target, rule
            As for `explain`.
        """
        sample = self._check_sample(sample)
        base = self.explain(sample, target, rule=rule)
        mine = [] if _is_empty(interventions) else listed(interventions)
        edits = edits_of(mine, self.model.layers)
        if not edits:
            return base
        chosen, goal = self._rule_and_target(rule, target)
        index = int(base.target[0])
        same = f"logit:{index}" if goal.kind in ("top", "label") and index >= 0 else str(goal)
        same_goal = self._rule_and_target(rule, same)[1]
        recipe = self._recipe(
            "steered_attribution",
            params={"of": base.recipe, "target": same, "edits": [edit.describe() for edit in edits]},
            title=f"attribution of sample {sample}, steered",
        )

        def make() -> dict[str, Any]:
            batch, labels = self.data.tensor(sample).unsqueeze(0), self._explainable([sample])
            return self._explain(batch, same_goal, chosen, (), (), labels, (sample,), handle=self.model.steered(edits))

        made = self.run(self.store.get_or_make, recipe, make)
        return self._attribution(made, (sample,), same_goal, chosen, (), recipe=recipe.digest)

    def leave_one_out(
        self, sample: int, layer: str, n: int = 8, *, target: Any = None, progress: Progress | None = None
    ) -> LeaveOneOut:
        """Suppress each of a sample's leading components alone, and see what the score becomes.

        Parameters
        ----------
        sample : int
        layer : str
            Whose units.
        n : int, 1 to 256
            The most relevant ones.
        target
            As for `explain`; which output that is, is decided before.
        """
        n = check.positive("n", n, at_most=256)
        base = self.explain(sample, target, record=[layer])
        goal = self._rule_and_target(None, target)[1]
        ranking = base.top(layer, n)

        def leave_one_out(progress: Progress | None = None) -> list[float]:
            shown = progress or self.progress
            tail = self._tail((sample,), (layer,), lambda: self.data.tensor(sample).unsqueeze(0))
            labels = self._explainable([sample])
            start = goal.start(tail.output, labels=labels)
            shown.start(f"without each of {len(ranking)} components", len(ranking))
            found = []
            for address in ranking.components:
                edits = edits_of([Intervention(address)], self.model.layers)
                after = tail.run(activation_edits(edits, self.model.layers))
                found.append(float(goal.start(after, labels=labels, at=start).score - start.score))
                shown.step()
            return found

        change = self._run_shown(leave_one_out, progress=progress)
        return LeaveOneOut(
            sample=int(sample),
            target_text=str(goal),
            name=base.labels[0] if base.labels else "",
            score=float(base.score[0]),
            components=tuple(ranking.components),
            relevance=np.asarray(ranking.scores, dtype=np.float32),
            change=np.asarray(change, dtype=np.float32),
        )

    def activation_range(self, addresses: str | ComponentId | Sequence[str]) -> tuple[float, float]:
        """Between which values 98 % of the pooled activations of some components of one layer and basis lie.

        Of 64 samples, spread evenly over the data; what no sweep has covered is computed and stored. Setting or adding
        much more than that leads to where the network has never been.
        """
        mine = Intervention(addresses)
        for address in mine.addresses:
            self.model.layers.component(address)
        _, rows = self.pooled(mine.layer, chosen_samples(_RANGE_SAMPLES, len(self.data)))
        basis = self.model.layers.basis(mine.layer, mine.basis)
        chosen = list(mine.indices)
        if isinstance(basis, DirectionBasis):
            values = rows @ basis.vectors[chosen].cpu().float().numpy().T
        else:
            values = rows[:, chosen]
        low, high = np.quantile(values, [0.01, 0.99])
        return float(low), float(high)


def _chance(output: Tensor) -> Tensor:
    """Probabilities: a softmax over all outputs, a sigmoid where there is a single one."""
    return output.softmax(0) if len(output) > 1 else output.sigmoid()


def _is_empty(interventions: Any) -> bool:
    return isinstance(interventions, (list, tuple)) and not interventions
