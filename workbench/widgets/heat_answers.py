"""What the heatmap viewer shows, asked of the session and made ready for the page; run on the viewer's lane."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from workbench.core.errors import WorkbenchError
from workbench.core.ids import ComponentId
from workbench.core.results import Attribution
from workbench.widgets import wire

__all__ = ["HeatAnswers", "share_inside"]

_TOP = 5
_RANKED = 32  # components whose maps are looked at for a region
_MASKS = 8


class HeatAnswers:
    """Payloads of the viewer, each with the sample and target that it belongs to."""

    def __init__(self, session: Any):
        self.session = session

    def picture(self, sample: int) -> dict[str, Any]:
        """The JPEG of what the model saw, its key, label and masks."""
        data = self.session.data
        pixels = np.asarray(data.picture(sample))
        label, names = int(data.labels[sample]), data.classes
        return {
            "sample": sample,
            "key": str(data.keys[sample]),
            "label": names[label] if 0 <= label < len(names) else "",
            "width": pixels.shape[1],
            "height": pixels.shape[0],
            "jpeg": wire.jpeg(pixels, quality=90),
            "masks": [{"name": str(name), "mask": mask.astype(np.uint8)} for name, mask in self._masks(sample).items()],
        }

    def _masks(self, sample: int) -> dict[str, np.ndarray]:
        """The data set's masks of a sample, a few, as small as the map needs."""
        masks = self.session.data.masks(sample)
        return {name: np.asarray(mask, dtype=bool) for name, mask in list(masks.items())[:_MASKS]}

    def outputs(self, sample: int) -> dict[str, Any]:
        """The leading outputs of a sample."""
        found = self.session.predict(sample, n=_TOP)
        return {
            "sample": sample,
            "top": [
                {"class_": int(c), "name": str(name), "logit": wire.finite(logit), "probability": wire.finite(p)}
                for c, name, logit, p in found
            ],
        }

    def explained(self, sample: int, target: str, layer: str, n: int) -> Attribution:
        """The attribution behind map and list."""
        return self.session.explain(sample=sample, target=target, record=(layer,) if layer and n else ())

    def heat(self, found: Attribution, sample: int, target: str) -> dict[str, Any]:
        """The map of all relevance, with score, gap and the share inside each mask."""
        return {
            **wire.signed_map(found.heatmap[0]),
            "sample": sample,
            "target": target,
            "class_": int(found.target[0]),
            "name": found.labels[0] if found.labels else "",
            "target_text": found.target_text,
            "score": wire.finite(found.score[0]),
            "gap": wire.finite(found.gap[0]),
            "rule": found.rule,
            "in_masks": [
                {"name": str(name), "share": share_inside(np.asarray(found.heatmap[0]), mask)}
                for name, mask in self._masks(sample).items()
            ],
        }

    def strip(self, found: Attribution, sample: int, target: str, layer: str, n: int) -> dict[str, Any]:
        """The leading components of a layer."""
        ranking = found.top(layer, n)
        relevance = np.asarray(found.relevance[layer][0], dtype=np.float32)
        made = self._listed(layer, ranking, float(np.abs(relevance).sum()))
        return {"sample": sample, "target": target, **made, "n_asked": n, "n_components": int(relevance.size)}

    def _listed(self, layer: str, ranking: Any, total: float) -> dict[str, Any]:
        """Components of a list: relevances, shares of `total`, and a crop of each."""
        index = [ComponentId.parse(c).index for c in ranking.components]
        try:
            crops = wire.sheet(self.session.peak_crops(layer, index, size=64))
        except WorkbenchError:  # no references stored yet: the list does without pictures
            crops = wire.sheet([])
        scores = np.asarray(ranking.scores, dtype=np.float32)
        return {
            "layer": layer,
            "components": list(ranking.components),
            "relevance": scores,
            "share": scores / np.float32(total or 1.0),
            "sheet": crops,
        }

    def inside(self, sample: int, target: str, layer: str, region: dict[str, float], n: int) -> dict[str, Any]:
        """Components by what passes through them into a region."""
        found = self.session.rank_in_region(sample, region, layer, n=_RANKED, target=target)
        scores = np.asarray(found.scores, dtype=np.float32)
        leading = replace(found, components=found.components[:n], scores=scores[:n])
        made = self._listed(layer, leading, float(np.abs(scores).sum()))
        return {"sample": sample, "target": target, "region": region, "n_asked": n, "n_ranked": len(found), **made}

    def compared(self, sample: int, target: str, methods: list[str]) -> dict[str, Any]:
        """The map of each further method."""
        maps = []
        for method in methods:
            found = self.session.explain(sample=sample, target=target, rule=method)
            maps.append({**wire.signed_map(found.heatmap[0]), "rule": method, "gap": wire.finite(found.gap[0])})
        return {"sample": sample, "target": target, "methods": methods, "maps": maps}

    def targeted(self, sample: int, targets: list[str]) -> dict[str, Any]:
        """The map of all relevance for each of further targets, by the rule of the first."""
        maps = []
        for target in targets:
            found = self.session.explain(sample=sample, target=target)
            name = (found.labels[0] if found.labels else "") or found.target_text
            made = {"target": target, "name": name, "gap": wire.finite(found.gap[0])}
            maps.append({**wire.signed_map(found.heatmap[0]), **made})
        return {"sample": sample, "targets": targets, "maps": maps}

    def at_random(self, sample: int, target: str) -> dict[str, Any]:
        """The map of the model with random weights."""
        found = self.session.sanity_check(sample, target=target)
        made = wire.signed_map(found.randomised.heatmap[0])
        return {**made, "sample": sample, "target": target, "correlation": wire.finite(found.correlation)}

    def conditional(self, sample: int, target: str, component: str) -> dict[str, Any]:
        """The map of what passes through one component."""
        heat = self.session.concept_maps(sample, [component], target=target)[0]
        return {**wire.signed_map(heat), "sample": sample, "target": target, "component": component}


def share_inside(heat: np.ndarray, mask: np.ndarray) -> float | None:
    """Share of the positive relevance that lies inside a mask (relevance mass accuracy, Arras et al. 2022)."""
    positive = np.maximum(np.nan_to_num(heat), 0.0, dtype=np.float64)
    total = float(positive.sum())
    return float(positive[mask].sum()) / total if total > 0 and mask.shape == heat.shape else None
