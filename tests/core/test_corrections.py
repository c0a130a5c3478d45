"""The comparison of models: paired intervals, an exact test, artifacts that did not fall."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from workbench.core.corrections import Reevaluation, TrainingCurve
from workbench.core.errors import BadValueError, ShapeError


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


@pytest.mark.parametrize("k", [2, 4])
def test_views_of_one_original_narrow_no_interval(k):
    """Every sample k times as views of one original: nothing is wider or narrower for it."""
    one = compared(n=90)
    names = ("clean", "attacked", "relevance")
    many = compared(
        n=90, samples=np.arange(90 * k), labels=np.repeat(one.labels, k), origins=np.repeat(np.arange(90), k),
        others={"ruler": np.repeat(one.others["ruler"], k, axis=1)}, relevance_origins=np.repeat(np.arange(7), k),
        **{name: np.repeat(getattr(one, name), k, axis=1) for name in names},
    )  # fmt: skip
    assert many.n_origins == one.n_origins == 90
    pd.testing.assert_frame_equal(many.to_frame(), one.to_frame())
    assert many.unmoved(1) == one.unmoved(1) and f"on {90 * k} pairs of 90 originals" in repr(many)
    blind = replace(many, origins=None, relevance_origins=None)
    for which in (blind.accuracy, blind.gap):
        assert which(0)[2] - which(0)[1] < 0.85 * (which.__func__(many, 0)[2] - which.__func__(many, 0)[1])
    assert blind.change(1, "attacked")[3] < many.change(1, "attacked")[3]


def test_originals_are_one_for_each_sample():
    with pytest.raises(ShapeError, match="200 samples need an original each"):
        compared(origins=np.arange(7))
    with pytest.raises(ShapeError, match="7 samples"):
        compared(relevance_origins=np.arange(200))
    assert compared(origins=np.arange(200)[::-1]).to_frame().equals(compared().to_frame())
    assert compared().change(0)[3] == 1.0 and compared().change(1, "attacked")[3] < 1e-6


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
