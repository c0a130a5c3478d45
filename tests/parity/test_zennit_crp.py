"""Our maps are those of zennit-crp 0.6.0, on random networks, wherever both define them; where not, how they differ."""

from __future__ import annotations

import os
import subprocess
from functools import cache

import pytest
import torch

from tests.benchmarks.peer_index import PYTHON, ROOT
from tests.parity.questions import (
    AS_PUBLISHED,
    CONDITIONED,
    FALLING,
    LAST,
    QUESTIONS,
    RISING,
    SHAPE,
    TWICE,
    inputs,
    network,
)
from workbench.attribution.crp import concept_maps, explain, heat
from workbench.attribution.rules import composite
from workbench.core.errors import ModelError
from workbench.testing.nets import handle_of

pytestmark = pytest.mark.slow

SAME = 1e-9  # relative to the largest value of a map; in double precision they agree to about 1e-12


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """What the other package says to all questions."""
    if not PYTHON.exists():
        pytest.skip("There is no second environment: make it with `make peers`.")
    path = tmp_path_factory.mktemp("parity") / "answers.pt"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [str(PYTHON), "-m", "tests.parity._peer", str(path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    answers = torch.load(path)
    return lambda question: answers[repr(question)]


@cache
def handle(model, eps):
    return handle_of(network(model, eps), SHAPE, name=model)


def ours(question):
    return explain(
        handle(question.model, question.eps),
        inputs(),
        f"logit:{question.logit}",
        rule=composite(question.rule, zero_bias=not question.keeps_bias),
        given=[f"{name}/{i}" for name, indices in question.given for i in indices],
        record=question.record,
    )


def difference(a, b):
    """Relative to the largest value of each sample, the largest of which counts."""
    a, b = a.flatten(1), b.flatten(1)
    scale = b.abs().amax(1)
    assert bool((scale > 0).all())
    return float(((a - b).abs().amax(1) / scale).max())


@pytest.mark.parametrize("question", QUESTIONS, ids=str)
def test_maps_and_layers_are_the_same(theirs, question):
    found, expected = ours(question), theirs(question)
    assert difference(heat(found.relevance), expected["heatmap"]) < SAME
    for name in question.record:
        assert difference(found.layers[name], expected["relevances"][name]) < SAME
        assert difference(found.activations[name], expected["activations"][name]) < SAME


@pytest.mark.parametrize("question", [q for q in QUESTIONS if [len(i) for _, i in q.given] == [1]], ids=str)
def test_concept_maps_are_the_same(theirs, question):
    ((layer, (index,)),) = question.given
    for i in range(len(inputs())):
        maps, _, _ = concept_maps(
            handle(question.model, question.eps), inputs()[i : i + 1], [f"{layer}/{index}"], f"logit:{question.logit}"
        )
        assert difference(maps, theirs(question)["heatmap"][i : i + 1]) < SAME


# --- where they differ ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("question", AS_PUBLISHED, ids=str)
def test_their_merged_batch_norms_change_the_model_and_ours_do_not(theirs, question):
    """They divide by sqrt(1 + eps) once more at each batch norm, and so explain a model that is a little different."""
    found, expected = ours(question), theirs(question)
    with torch.no_grad():
        output = network(question.model, question.eps)(inputs())
    assert difference(found.output, output) < SAME
    assert 1e-5 < difference(expected["activations"][LAST[question.model]], output) < 1e-3
    assert 1e-5 < difference(expected["heatmap"], heat(found.relevance)) < 1e-3


def test_their_relevance_of_a_conditioned_layer_is_twice_that_behind_the_mask_and_ours_that_before(theirs):
    """Their maps go through the layer in two steps, at both of which its relevance is added up."""
    ((layer, indices),) = CONDITIONED.given
    found = explain(
        handle("resnet18", 0.0), inputs(), "logit:4", given=[f"{layer}/{i}" for i in indices], record=[layer]
    ).layers[layer]
    masked = torch.zeros_like(found)
    masked[:, list(indices)] = found[:, list(indices)]
    expected = theirs(CONDITIONED)["relevances"]
    assert difference(2 * masked, expected[layer]) < SAME < difference(found, expected[layer])
    above_and_below = ours(CONDITIONED).layers
    assert all(difference(above_and_below[name], expected[name]) < SAME for name in CONDITIONED.record)


def test_they_need_conditions_in_order_and_we_do_not(theirs):
    assert "must be ordered" in theirs(RISING)["error"]
    for question in (RISING, FALLING):
        assert difference(heat(ours(question).relevance), theirs(FALLING)["heatmap"]) < SAME


def test_they_mask_both_runs_of_a_module_and_we_refuse(theirs):
    assert "error" not in theirs(TWICE)
    with pytest.raises(ModelError, match="runs 2 times"):
        ours(TWICE)
