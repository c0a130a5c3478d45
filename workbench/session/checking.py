"""Asking about a map: which components act in a region, and whether the map depends on what the model has learnt."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from workbench.attribution.crp import GRADIENTS
from workbench.attribution.rules import COMPOSITES
from workbench.core import check
from workbench.core.errors import BadValueError
from workbench.core.results import Attribution, Edit, Ranking, SanityCheck
from workbench.models.handle import ModelHandle
from workbench.session.explaining import Explaining
from workbench.session.selection import region_of
from workbench.session.tables import DEFAULT_RULE

__all__ = ["Checking"]


class Checking(Explaining):
    """The part of a session that doubts maps; see `Session`."""

    def explainers(self) -> tuple[str, ...]:
        """Names of the ways to explain that `explain` takes as `rule`, the default first."""
        return tuple(dict.fromkeys((DEFAULT_RULE, *COMPOSITES, *GRADIENTS)))

    _randomised: tuple[int, ModelHandle] | None = None

    def rank_in_region(
        self, sample: int, region: Any, layer: str, *, n: int = 32, target: Any = None, rule: Any = None
    ) -> Ranking:
        """Components of a layer by the relevance that passes through them into a part of the picture.

        Conditional maps are made of the `n` components with the largest absolute relevance for the sample, and summed
        inside the region. Where `n` covers the layer and all relevance passes it, the scores add up to the relevance of
        the full map in the region.

        Parameters
        ----------
        sample : int
        region : mapping
            ``x, y, width, height`` as shares of the picture, 0 to 1; at least one pixel of it is taken.
        layer : str
        n : int, 1 to 256
        target, rule
            As for `explain`.

        Returns
        -------
        Ranking
            Signed relevance inside, largest first.
        """
        region, n = region_of(region), check.positive("n", n, at_most=256)
        found = self.explain(sample, target, rule=rule, record=[layer])
        wanted = found.top(layer, n).components
        maps = self.concept_maps(sample, list(wanted), target=target, rule=rule)
        height, width = maps.shape[1:]
        left, top = int(region["x"] * width), int(region["y"] * height)
        right = max(left + 1, round((region["x"] + region["width"]) * width))
        below = max(top + 1, round((region["y"] + region["height"]) * height))
        left, top = min(left, width - 1), min(top, height - 1)
        inside = np.asarray(maps[:, top:below, left:right].double().sum((1, 2)))
        order = np.argsort(-inside, kind="stable")
        return Ranking(tuple(wanted[i] for i in order), inside[order].astype(np.float32), "relevance_inside")

    def sanity_check(self, sample: int, *, target: Any = None, rule: Any = None, seed: int = 0) -> SanityCheck:
        """Explain a sample in a model with random weights: a map that looks the same does not show what was learnt.

        Each weight with two axes or more is drawn anew from a normal distribution with its own mean and spread; the
        same output is explained. A rank correlation of the absolute maps near 1 is a warning, near 0 is as it should
        be.

        Parameters
        ----------
        sample : int
        target, rule
            As for `explain`.
        seed : int

        Returns
        -------
        SanityCheck

        Notes
        -----
        The model parameter randomisation test of Adebayo et al. 2018 ("Sanity checks for saliency maps", section 3.1),
        all layers at once; there weights are initialised anew.
        """
        base = self.explain(sample, target, rule=rule)
        chosen, goal = self._rule_and_target(rule, target)
        index = int(base.target[0])
        same = f"logit:{index}" if goal.kind in ("top", "label") and index >= 0 else str(goal)
        recipe = self._recipe(
            "sanity_check",
            params={"of": base.recipe, "seed": seed, "target": same},
            seed=seed,
            title=f"sanity check of sample {sample}",
        )
        same_goal = self._rule_and_target(rule, same)[1]

        def make() -> dict[str, Any]:
            batch = self.data.tensor(self._check_sample(sample)).unsqueeze(0)
            handle, labels = self._randomised_model(seed), self._explainable([sample])
            return self._explain(batch, same_goal, chosen, (), (), labels, (sample,), handle=handle)

        made = self.run(self.store.get_or_make, recipe, make)
        other: Attribution = self._attribution(made, (sample,), same_goal, chosen, (), recipe=recipe.digest)
        return SanityCheck(base, other, _rank_correlation(base.heatmap[0], other.heatmap[0]), seed)

    def _randomised_model(self, seed: int) -> ModelHandle:
        """The model with random weights, kept for the next sample."""
        if self._randomised is None or self._randomised[0] != seed:
            generator = torch.Generator().manual_seed(seed)
            edits = []
            for name, parameter in self.model.base.named_parameters():
                p = parameter.detach().cpu().float()
                if p.ndim >= 2 and p.numel() > 1:
                    drawn = p.mean() + p.std() * torch.randn(p.shape, generator=generator)
                    edits.append(Edit("replace", name, array=drawn.numpy()))
            if not edits:
                raise BadValueError(f"{self.model.card.name} has no weights that could be drawn anew.")
            self._randomised = (seed, self.model.variant(edits, name=f"{self.model.card.name}-random"))
        return self._randomised[1]


def _rank_correlation(a: torch.Tensor, b: torch.Tensor) -> float:
    """Spearman's rank correlation of absolute values, ties sharing their mean rank; NaN where one is constant."""
    x, y = _ranks(a), _ranks(b)
    x, y = x - x.mean(), y - y.mean()
    size = float(np.sqrt((x @ x) * (y @ y)))
    return float(x @ y) / size if size > 0 else float("nan")


def _ranks(values: torch.Tensor) -> np.ndarray:
    _, group, counts = np.unique(np.abs(values.double().numpy()).ravel(), return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[group]
