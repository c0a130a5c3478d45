"""What a reader may narrow a widget down to, and what is refused."""

from __future__ import annotations

import pytest

from workbench.core.errors import BadValueError, WorkbenchError
from workbench.widgets.narrowing import ChoosesLayer, ChoosesPopulation, checked_population


@pytest.mark.parametrize("given", ["all", "selected", "tag:band-aid", 0, 256])
def test_populations_that_are_meant(given):
    assert checked_population(given) == given
    assert ChoosesPopulation(population=given).population == given


@pytest.mark.parametrize("given", ["", "tag:", "everything", True, None, -1, [1, 2]])
def test_others_are_refused_and_the_former_stays(given):
    with pytest.raises(BadValueError):
        checked_population(given)
    one = ChoosesPopulation(population=12)
    with pytest.raises(Exception, match="population|Population|None"):
        one.population = given
    assert one.population == 12


def test_a_whole_number_may_come_as_a_float():
    # what a browser sends for a number is one or the other
    assert checked_population(64.0) == 64
    assert isinstance(checked_population(64.0), int)


def test_a_layer_is_one_of_those_that_can_be_listed():
    one = ChoosesLayer(layers=["conv1", "layer4"])
    one.layer = "layer4"
    with pytest.raises(WorkbenchError, match="layer4"):
        one.layer = "layer44"
    assert one.layer == "layer4"
    one.layer = ""
    assert one.layer == ""


def test_before_the_layers_are_known_any_is_taken():
    assert ChoosesLayer(layer="layer4").layer == "layer4"
