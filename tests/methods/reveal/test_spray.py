"""SpRAy finds a planted strategy, in the latent space and in the input, and says what it cannot do."""

from __future__ import annotations

import numpy as np
import pytest

import workbench as wb
from workbench.core.errors import BadValueError, UnknownNameError
from workbench.data.artifacts import patch
from workbench.data.torch_data import TorchData
from workbench.methods import Spray
from workbench.methods.reveal.spray import class_index, on_grid
from workbench.testing.small import SMALL, Listed, small_net

N = 240


@pytest.fixture(scope="module")
def toy():
    return wb.data.ToyData(n=N, split="val", artifact_class=0, artifact_share=0.5)


@pytest.fixture(scope="module")
def session(toy, tmp_path_factory):
    with wb.open_session("toy-cnn", data=toy, store=tmp_path_factory.mktemp("spray")) as session:
        yield session


def purity(found, toy):
    has = np.asarray(toy.has_artifact)[found.map_.index]
    assert 5 < has.sum() < len(has) - 5
    groups = found.map_.columns["cluster"]
    return max((groups == has).mean(), (groups != has).mean())


@pytest.mark.parametrize("layer", ["features.5", "features.8", "features.10"])
def test_the_samples_with_the_artifact_are_a_group(session, toy, layer):
    """Of class 0, half carry the patch that the network has learnt to use, near any corner; the jump counts two."""
    found = session.fit(Spray(0, layer, target="label", layout="pca"))
    assert len(found.map_.cluster_names) == 2 and purity(found, toy) >= 0.95
    assert found.clusters()["samples"].sum() == len(found.map_)


def in_one_corner(picture, rng):
    return patch(picture, np.random.default_rng(1))


def test_in_the_input_an_artifact_in_a_fixed_place_is_a_group(tmp_path):
    toy = wb.data.ToyData(n=N, split="val", artifact=in_one_corner, artifact_class=0, artifact_share=0.5)
    with wb.open_session("toy-cnn", data=toy, store=tmp_path) as s:
        found = s.fit(Spray(0, target="label", layout="pca", grid=8))
        assert purity(found, toy) >= 0.9
        rows = on_grid(np.asarray(s.explain(found.map_.index[:3].tolist(), "label").heatmap), 8)
        near = np.linalg.norm(rows[0] / np.abs(rows[0]).sum() - rows[1] / np.abs(rows[1]).sum())
        at = found.map_.neighbours[0].tolist()
        assert 1 not in at or found.map_.distances[0][at.index(1)] == pytest.approx(near, rel=1e-3)


def test_a_second_fit_loads(session):
    method = Spray("striped disc", "features.8", target="label", layout="pca")
    one, two = session.fit(method), session.fit(Spray("striped disc", "features.8", target="label", layout="pca"))
    np.testing.assert_array_equal(one.map_.position, two.map_.position)
    np.testing.assert_array_equal(one.eigenvalues_, two.eigenvalues_)
    assert one.clusters().equals(two.clusters()) and list(one.map_.columns) == list(two.map_.columns)


def test_samples_of_a_group_are_ids_for_a_tag(session):
    found = session.fit(Spray(0, "features.8", target="label", layout="pca", n_clusters=2))
    of = [set(found.samples(name).tolist()) for name in found.map_.cluster_names]
    assert not of[0] & of[1] and of[0] | of[1] == set(found.map_.index.tolist())
    assert len(of[0]) >= len(of[1]), "larger groups first"
    assert found.samples("strategy 2").tolist() == found.samples(1).tolist()
    for wrong in ("strategy 9", 7, -1):
        with pytest.raises(UnknownNameError):
            found.samples(wrong)


def test_the_farthest_sample_is_the_first_outlier(session):
    found = session.fit(Spray(0, "features.8", target="label", layout="pca"))
    table = session.relevances("features.8", target="label").values.numpy()[found.map_.index].astype(np.float64)
    rows = table / np.abs(table).sum(1, keepdims=True)
    distance = np.linalg.norm(rows[:, None] - rows[None], axis=2)
    k = found.map_.neighbours.shape[1]
    mean = np.sort(distance, 1)[:, 1 : k + 1].mean(1)
    assert found.outliers(1)[0] == found.map_.index[mean.argmax()]
    np.testing.assert_allclose(found.map_.columns["outlier"], mean / np.median(mean), rtol=1e-3)


def test_who_is_of_the_class_is_decided_by_the_model(session):
    found = session.fit(Spray(1, "features.8", layout="pca"))
    predicted = np.asarray(session.relevances("features.8").target)
    np.testing.assert_array_equal(found.map_.index, np.flatnonzero(predicted == 1))


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        (dict(of_class="stripe disc"), UnknownNameError, "striped disc"),
        (dict(of_class=6), UnknownNameError, "There are 6"),
        (dict(of_class=True), UnknownNameError, "True"),
        (dict(of_class=0, k=0), BadValueError, "k"),
        (dict(of_class=0, layout="tsne"), BadValueError, "layout"),
        (dict(of_class=0, n_clusters=0), BadValueError, "n_clusters"),
    ],
)
def test_what_is_refused(session, options, kind, message):
    with pytest.raises(kind, match=message):
        session.fit(Spray(layer="features.8", **options))


def test_too_few_samples(tmp_path):
    few = wb.data.ToyData(n=12, split="val")
    with wb.open_session("toy-cnn", data=few, store=tmp_path) as s, pytest.raises(BadValueError, match="at least 5"):
        s.fit(Spray(0, "features.8", target="label"))


def test_a_grid_conserves_the_sum():
    maps = np.random.default_rng(0).standard_normal((3, 37, 23)).astype(np.float32)
    rows = on_grid(maps, 8)
    assert rows.shape == (3, 64)
    np.testing.assert_allclose(rows.sum(1), maps.sum((1, 2)), rtol=1e-4)
    small = np.arange(4, dtype=np.float32).reshape(1, 2, 2)
    np.testing.assert_array_equal(on_grid(small, 8), [[0, 1, 2, 3]])


def test_classes_by_number_and_name():
    assert class_index("b", ("a", "b"), 2) == 1 and class_index(np.int64(1), ("a", "b"), 2) == 1


# Labels of the data's own numbers -------------------------------------------------------------------------------------


class Letters(Listed):
    """The small pictures in three classes."""

    def __init__(self):
        super().__init__()
        self.targets = [i % 3 for i in range(24)]


@pytest.mark.parametrize("layer", [None, "relu_b"])
def test_samples_of_a_class_are_those_whose_label_names_it(tmp_path, layer):
    data = TorchData(Letters(), classes=("e", "b", "a"), name="letters")
    options = {"store": tmp_path, "transform": SMALL, "classes": tuple("abcdef")}
    with wb.open_session(small_net(n_classes=6), data, **options) as s:
        for name, label in (("a", 2), ("e", 0)):
            found = s.fit(Spray(name, layer, target="label", layout="pca", n_clusters=2, grid=4))
            assert found.map_.index.tolist() == [i for i in range(24) if i % 3 == label]
            assert set(found.map_.columns["label"]) == {name}
        with pytest.raises(BadValueError, match="at least 5 samples; 0 are explained for f"):
            s.fit(Spray("f", layer, target="label", layout="pca"))
