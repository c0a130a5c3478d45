"""The contract of attributors, for every composite by name, for zennit's own and for gradients."""

from __future__ import annotations

import zennit.composites

from workbench.attribution.rules import Composite, Rule, composite
from workbench.testing.attributor_suite import AttributorSuite


class TestEpsilonPlus(AttributorSuite):
    rule = "EpsilonPlus"


class TestEpsilonPlusFlat(AttributorSuite):
    rule = "EpsilonPlusFlat"


class TestEpsilonAlpha2Beta1(AttributorSuite):
    rule = "EpsilonAlpha2Beta1"


class TestEpsilonAlpha2Beta1Flat(AttributorSuite):
    rule = "EpsilonAlpha2Beta1Flat"


class TestEpsilonGammaBox(AttributorSuite):
    rule = composite("EpsilonGammaBox", low=-4.0, high=4.0)


class TestEpsilon(AttributorSuite):
    rule = "Epsilon"


class TestOwn(AttributorSuite):
    rule = Composite("own", (("activation", Rule("pass")), ("linear", Rule("gamma", gamma=1.0))))
    conserves = False  # the pool keeps the plain gradient


class TestZennit(AttributorSuite):
    rule = zennit.composites.EpsilonPlus()


class TestGradient(AttributorSuite):
    rule = "gradient"
    conserves = False


class TestInputTimesGradient(AttributorSuite):
    rule = "input_x_gradient"
    conserves = True  # a network without biases is linear between the kinks of its ReLUs


class TestIntegratedGradients(AttributorSuite):
    rule = "integrated_gradients"
    conserves = False  # up to the error of the integral
