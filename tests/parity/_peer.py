"""Answers the questions with zennit-crp; `test_zennit_crp` runs this in the second environment (`make peers`).

Writes a file with, for each question, the heatmaps, and the relevances and activations of layers: of those recorded and
of those in its condition.
"""

from __future__ import annotations

import sys
from typing import Any

import torch
import zennit.composites
from crp.attribution import CondAttribution
from zennit.torchvision import ResNetCanonizer, VGGCanonizer

from tests.parity.questions import (
    AS_PUBLISHED,
    CONDITIONED,
    FALLING,
    QUESTIONS,
    RISING,
    TWICE,
    Question,
    inputs,
    network,
)

_CANONIZERS = {"resnet18": ResNetCanonizer, "vgg11_bn": VGGCanonizer}


def answer(question: Question) -> dict[str, Any]:
    """Heatmaps (sample, y, x), and (sample, component, ...) relevances and activations of layers; or what is said."""
    make = getattr(zennit.composites, question.rule)
    zero_params = None if question.keeps_bias else "bias"
    composite = make(zero_params=zero_params, canonizers=[_CANONIZERS[question.model]()])
    condition = {"y": [question.logit], **{name: list(indices) for name, indices in question.given}}
    attribution = CondAttribution(network(question.model, question.eps))
    try:
        found = attribution(inputs().requires_grad_(), [condition], composite, record_layer=list(question.record))
    except RuntimeError as error:
        return {"error": str(error)}
    return {
        "heatmap": found.heatmap.detach(),
        "relevances": {k: v.detach() for k, v in found.relevances.items()},
        "activations": {k: v.detach() for k, v in found.activations.items()},
    }


def main(path: str) -> None:
    """Answer all."""
    asked = (*QUESTIONS, *AS_PUBLISHED, CONDITIONED, RISING, FALLING, TWICE)
    torch.save({repr(question): answer(question) for question in asked}, path)


if __name__ == "__main__":
    main(sys.argv[1])
