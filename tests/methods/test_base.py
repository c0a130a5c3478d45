"""Methods: what the base gives, how one is registered, and what a method of a few lines needs."""

from __future__ import annotations

import pytest

from workbench.core.errors import BadValueError
from workbench.core.registry import METHODS
from workbench.methods.base import Method, Scores, Source, register_method
from workbench.testing.context import FakeContext


class Peakiness(Method, Scores):
    """Share of a component's total activation held by its strongest sample."""

    def __init__(self, layer, *, power=1.0):
        self.layer, self.power = layer, power

    def fit(self, ctx):
        acts = ctx.activations(self.layer).values.clamp(min=0) ** self.power
        self.score_ = (acts.amax(0) / acts.sum(0).clamp(min=1e-12)).numpy()
        return self


def test_a_method_of_a_few_lines():
    method = Peakiness("l", power=2.0)
    assert method.params() == {"layer": "l", "power": 2.0} and repr(method) == "Peakiness(layer='l', power=2.0)"
    assert not method.is_fitted
    ctx = FakeContext({"l": [[1.0, 2.0], [1.0, 0.0], [2.0, 0.0]]})
    assert method.fit(ctx) is method and method.is_fitted
    assert method.score_.tolist() == pytest.approx([4 / 6, 1.0])


def test_params_follow_what_was_set_later():
    method = Peakiness("l")
    method.power = 3.0
    assert method.params()["power"] == 3.0


def test_what_a_method_does_not_do_says_so():
    bare = type("Bare", (Method,), {"__init__": lambda self: None})()
    for call in (lambda: bare.fit(None), bare.state, lambda: bare.restore(None, {}, {})):
        with pytest.raises(BadValueError, match="Bare"):
            call()


def test_registering_names_source_and_needs(monkeypatch):
    METHODS["concept-atlas"]  # the registry is filled before it is copied
    for private in ("_items", "_facts"):
        monkeypatch.setattr(METHODS, private, dict(getattr(METHODS, private)))
    made = register_method("peaks", source=Source("Doe 2024, eq. 5"), needs=["activations"], stable=False)(Peakiness)
    assert made is Peakiness and METHODS["peaks"] is Peakiness
    assert (made.name, str(made.source), made.needs) == ("peaks", "Doe 2024, eq. 5", ("activations",))
    assert METHODS.facts("peaks") == {"stable": False}
