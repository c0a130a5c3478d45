"""One component on a session: references at a quantile, classes, relations and contrasts, from the store alone."""

from __future__ import annotations

import time

import numpy as np
import pytest

from workbench.core.errors import BadValueError, IncompleteError, UnknownComponentError
from workbench.data.torch_data import TorchData
from workbench.methods import EmbeddingMap, PatternCAV
from workbench.testing.context import SmallData
from workbench.testing.small import CLASSES, Listed


@pytest.fixture
def swept(small):
    small.sweep(["relu_a", "relu_b"])
    return small


def test_the_strongest_at_a_quantile_are_the_references(swept):
    for by in ("activation", "relevance"):
        for i in range(7):
            found = swept.references_at(f"relu_b/unit/{i}", 1.0, by, 6)
            assert found.samples.tolist() == swept.references("relu_b", by).of(i, 6)
            assert (found.first, found.of, found.is_kept) == (1, 24, False)


class Views(TorchData):
    """Three views of each original."""

    @property
    def origins(self):
        return np.arange(24) // 3


def test_views_of_one_original_count_once(open_small):
    data = Views(Listed(24), classes=CLASSES, name="views")
    s = open_small(data=data)
    s.sweep(["relu_b"])
    for by in ("activation", "relevance"):
        whole = s.references_at("relu_b/unit/2", 0.5, by, 100)
        assert whole.of == len(whole) == 8 and len(np.unique(data.origins[whole.samples])) == 8
        assert whole.samples.tolist() == s.references("relu_b", by, k=40).of(2)
        assert (np.diff(whole.values) <= 0).all()


def test_pictures_at_a_quantile_come_in_all_modes_and_for_both_quantities(swept):
    for by in ("activation", "relevance"):
        for mode in ("whole", "crop", "mask"):
            for quantile in (1.0, 0.5, 0.0):
                views = swept.reference_views("relu_b/unit/1", by, 4, mode, 32, quantile=quantile)
                found = swept.references_at("relu_b/unit/1", quantile, by, 4)
                assert [view.sample for view in views] == found.samples.tolist()
                assert np.allclose([view.value for view in views], found.values)
                assert views[0].picture.shape == (32, 32, 3)
                assert views[0].caption.startswith(f"{found.first}. ")


def test_after_a_sweep_that_kept_references_alone_these_are_what_is_ordered(small):
    small.sweep(["relu_b"], keep="references")
    kept = small.references("relu_b", k=40).of(3)
    found = small.references_at("relu_b/unit/3", 0.0, n=5)
    assert found.is_kept and found.samples.tolist() == kept[-5:] and found.of == len(kept)
    assert small.references_at("relu_b/unit/3", 1.0, n=5).samples.tolist() == kept[:5]
    views = small.reference_views("relu_b/unit/3", "relevance", 3, "crop", 24, quantile=0.2)
    assert len(views) == 3
    for ask in (small.component_classes, small.related, small.contrasts):
        with pytest.raises(IncompleteError, match="kept references alone"):
            ask("relu_b/unit/3")


def test_classes_agree_with_the_statistics_of_the_layer(swept):
    for by in ("activation", "relevance"):
        means, counts = (np.asarray(t) for t in swept.class_statistics("relu_b", by))
        for i in range(7):
            found = swept.component_classes(f"relu_b/unit/{i}", by, n=10)
            seen = np.flatnonzero(counts)
            order = seen[np.argsort(-means[seen, i], kind="stable")]
            assert found.n_classes == len(seen) and found.classes.tolist() == order.tolist()
            assert (
                np.allclose(found.means, means[order, i], atol=1e-6) and found.counts.tolist() == counts[order].tolist()
            )
            assert all(name in ("ant", "bee", "<b>cow</b>", "dog") for name in found.names)


def test_near_are_the_neighbours_of_the_map(swept):
    made = swept.fit(EmbeddingMap("relu_b", layout="pca"))
    for i in range(7):
        near = swept.related(f"relu_b/unit/{i}", n=4).near
        ids, distance = made.neighbours(i, 4)
        wanted = [(one, d) for one, d in zip(ids, distance, strict=True) if np.isfinite(d)]
        assert list(near.components) == [one for one, _ in wanted]
        assert np.allclose(1 - near.correlation, [d for _, d in wanted], atol=2e-6)


def test_before_and_after_are_stored_layers_alone(small, counting):
    small.sweep(["relu_b"])
    count = counting(small)
    found = small.related("relu_b/unit/0")
    assert (found.before.layer, found.after.layer, found.near.layer) == ("", "", "relu_b")
    small.sweep(["relu_a", "head"], relevance=False)
    n = count.calls
    found = small.related("relu_b/unit/0", n=3)
    assert (found.before.layer, found.after.layer) == ("relu_a", "head") and found.before.n == 24
    assert len(found.before.components) == len(found.after.components) == 3
    assert small.contrasts("relu_b/unit/0").layer == "head" and count.calls == n


def test_contrasts_are_quiet_and_of_other_originals(swept):
    for i in range(7):
        found = swept.contrasts(f"relu_b/unit/{i}", n=5)
        values = np.asarray(swept.activations("relu_b").values)[:, i]
        if not found.why:
            assert (values[found.samples] <= np.quantile(values, 0.25)).all()
            assert set(found.like.tolist()) <= set(swept.references("relu_b").of(i, 3))
            assert not set(found.samples.tolist()) & set(found.like.tolist())


def test_a_partial_sweep_is_asked_for_what_it_has(open_small):
    s = open_small()
    s.sweep(["relu_b"], samples=9)
    assert s.references_at("relu_b/unit/0", 0.5).of == 9
    assert s.related("relu_b/unit/0").near.n == 9
    assert s.component_classes("relu_b/unit/0").counts.sum() == 9


def test_what_makes_no_sense_is_refused(swept):
    with pytest.raises(BadValueError, match="quantile"):
        swept.references_at("relu_b/unit/0", 1.5)
    with pytest.raises(BadValueError, match="quantile"):
        swept.reference_views("relu_b/unit/0", quantile=float("nan"))
    with pytest.raises(BadValueError, match="by"):
        swept.component_classes("relu_b/unit/0", by="size")
    with pytest.raises(UnknownComponentError):
        swept.related("relu_b/unit/99")


def test_nothing_runs_once_it_is_stored(swept, counting):
    swept.references_at("relu_b/unit/1", 0.3)
    count = counting(swept)
    for i in range(7):
        swept.references_at(f"relu_b/unit/{i}", 0.3)
        swept.component_classes(f"relu_b/unit/{i}", "relevance")
        swept.related(f"relu_b/unit/{i}")
        swept.contrasts(f"relu_b/unit/{i}")
        swept.reference_views(f"relu_b/unit/{i}", mode="whole", quantile=0.3)
    assert count.calls == 0


def test_tables_are_read_once(swept, monkeypatch):
    swept.related("relu_b/unit/1")
    reads = []
    own = type(swept).activations
    monkeypatch.setattr(type(swept), "activations", lambda self, *a, **k: reads.append(a) or own(self, *a, **k))
    started = time.perf_counter()
    for i in range(7):
        swept.related(f"relu_b/unit/{i}")
        swept.contrasts(f"relu_b/unit/{i}")
    assert reads == [] and time.perf_counter() - started < 2


def test_data_without_labels_has_no_classes_by_activation(tmp_path):
    from workbench.session.session import Session
    from workbench.store import Store
    from workbench.testing.nets import BiasFree, handle_of, randomised

    class Unlabelled(SmallData):
        labels = np.full(12, -1)

    with Session(handle_of(randomised(BiasFree()), (3, 10, 8)), Unlabelled(12), Store.open(tmp_path / "s")) as s:
        s.sweep(["features.4"])
        assert s.component_classes("features.4/unit/0").why == "No sample has a class."
        assert s.component_classes("features.4/unit/0", "relevance").n_classes


def test_a_direction_is_described_by_its_projections_and_never_by_the_unit_of_its_number(swept):
    fitted = swept.fit(PatternCAV("relu_b", positives=[0, 4, 8], scope="all", concept="ant"))
    (address,) = fitted.components()
    column = swept.project(fitted).values[:, 0].numpy()
    order = np.argsort(-column, kind="stable")
    found = swept.references_at(address, 1.0, "activation", 5)
    assert found.samples.tolist() == order[:5].tolist()
    np.testing.assert_allclose(found.values, column[order[:5]])
    assert swept.references_at(address, 0.0, "activation", 1).samples.tolist() == order[-1:].tolist()
    labels = np.asarray(swept.data.labels)
    shares = swept.component_classes(address, n=1)
    means = {int(c): column[labels == c].mean() for c in np.unique(labels[labels >= 0])}
    assert shares.means[0] == pytest.approx(max(means.values()), rel=1e-5)
    units = swept.activations("relu_b").values.numpy()
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = np.array([np.corrcoef(column, units[:, i])[0, 1] for i in range(units.shape[1])])
    near = swept.related(address, 1).near
    assert near.components[0] == f"relu_b/unit/{np.nanargmax(correlation)}"
    assert len(swept.contrasts(address, 3).samples) <= 3
    assert len(swept.reference_views(address, mode="crop", n=3, quantile=0.5)) == 3
    with pytest.raises(BadValueError, match="not of directions"):
        swept.references_at(address, 0.5, "relevance")
