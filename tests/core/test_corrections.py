"""The comparison of models: paired intervals, an exact test, artifacts that did not fall."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.core.corrections import Reevaluation, TrainingCurve
from workbench.core.errors import BadValueError, ShapeError
from workbench.core.origins import error_of_mean, mcnemar, middle, places


def compared(n=200, seed=0, **options):
    rng = np.random.default_rng(seed)
    clean = rng.random((2, n)) < [[0.9], [0.88]]
    attacked = rng.random((2, n)) < [[0.5], [0.86]]
    given = {
        "models": ("net", "fixed"), "artifact": "patch", "samples": np.arange(n), "labels": np.arange(n) % 3,
        "clean": clean, "attacked": attacked, "relevance": rng.random((2, 7)), "relevance_area": 0.1,
        "sensitivity": np.array([2.0, 0.0]), "sensitivity_error": np.array([0.1, 0.0]),
        "sensitivity_after": np.array([2.0, 1.9]), "probe_layer": np.array([1.0, 0.99]),
        "probe_logits": np.array([0.9, 0.52]), "others": {"ruler": rng.random((2, n)) < [[0.6], [0.55]]}, "layer": "l",
    }  # fmt: skip
    return Reevaluation(**{**given, **options})


def test_intervals_are_those_of_the_bootstrap_over_samples():
    found = compared()
    rng = np.random.default_rng(5)
    change = found.attacked[1].astype(float) - found.attacked[0]
    slow = [change[rng.integers(0, 200, 200)].mean() for _ in range(4000)]
    value, low, high, _ = found.change(1, "attacked")
    assert value == pytest.approx(change.mean())
    np.testing.assert_allclose([low, high], np.percentile(slow, [2.5, 97.5]), atol=0.012)
    gap = found.clean[0].astype(float) - found.attacked[0]
    assert found.gap(0)[0] == pytest.approx(gap.mean()) and found.gap(0)[1] < gap.mean() < found.gap(0)[2]
    assert found.accuracy(0) == found.accuracy(0)


def test_mcnemar_is_the_exact_binomial_test():
    stats = pytest.importorskip("scipy.stats")
    for gained, lost in ((0, 1), (3, 9), (10, 10), (0, 30), (200, 150)):
        expected = stats.binomtest(gained, gained + lost, 0.5).pvalue
        assert mcnemar(gained, lost) == pytest.approx(min(1.0, expected), rel=1e-9)
    assert mcnemar(0, 0) == 1.0 and compared().change(0)[3] == 1.0
    assert compared().change(1, "attacked")[3] < 1e-6


def test_an_artifact_that_did_not_fall_is_named():
    found = compared()
    assert found.unmoved(1) == ["ruler"] and '"ruler" did not fall: it costs' in found.summary()
    assert compared(others={"ruler": found.clean}).unmoved(1) == []
    with pytest.raises(BadValueError, match='No other artifact "tint"'):
        found.accuracy(0, "tint")


def test_the_table_has_a_row_per_model_and_numbers_in_their_place():
    frame = compared().to_frame()
    assert list(frame.index) == ["net", "fixed"] and frame.loc["fixed", "probe_logits"] == 0.52
    assert (frame["clean_low"] <= frame["clean"]).all() and (frame["clean"] <= frame["clean_high"]).all()
    assert frame.loc["net", "clean_change"] == 0 and {"ruler_accuracy", "ruler_gap"} <= set(frame.columns)
    without = compared(relevance=np.zeros((2, 0)), relevance_area=np.nan, others={}).to_frame()
    assert without["relevance"].isna().all()
    by_class = compared().by_class()
    assert len(by_class) == 6 and by_class.loc[("net", 1), "n"] == 67
    mean = np.average(by_class.loc["net", "attacked"], weights=by_class.loc["net", "n"])
    assert mean == pytest.approx(frame.loc["net", "attacked"])


def test_a_single_pair_has_no_interval():
    assert np.isnan(compared(n=1).accuracy(0)[1:]).all()


def test_a_curve_tells_where_it_came_from_and_went_to():
    nan, line = np.full(3, np.nan), np.linspace(0.5, 1, 3)
    curve = TrainingCurve("x", line, nan, line, line, nan, n_planned=2, best=2)
    assert curve.is_complete and "clean 0.500 to 1.000" in repr(curve) and "attacked" not in repr(curve)
    assert curve.to_frame().shape == (3, 5) and curve.to_frame().index.name == "epoch"
