"""Columns of components, against their definitions. What the atlas makes of them is tested there."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from workbench.methods.columns import class_means, cluster_names, component_columns, label_names, named, selectivity


def test_columns_of_components():
    acts = np.array([[0, 1, -2.0], [3, 1, -1.0]])
    columns = component_columns(acts, np.array([[-2.0, 0, 1], [1, 0, 1], [0, 0, 1]]))
    assert {name: c.tolist() for name, c in columns.items()} == {
        "relevance": [1.0, 0.0, 1.0],
        "activation": [1.5, 1.0, -1.5],
        "frequency": [0.5, 1.0, 0.0],
        "selectivity": [0.5, 0.0, 0.0],
    }
    assert list(component_columns(acts)) == ["activation", "frequency", "selectivity"]
    assert selectivity(acts).dtype == np.float32


def test_means_per_class():
    means = class_means(np.array([[1.0, 2], [3, 4], [7, 7]]), np.array([2, 2, -1]), 4)
    assert means[2].tolist() == [2, 3] and np.isnan(means[[0, 1, 3]]).all()


def test_names():
    assert named(np.array([2, -1, 0, 2]), ("a", "b")).tolist() == ["output 2", "", "a", "output 2"]
    data = SimpleNamespace(labels=np.array([0, 1, -1, 0]), classes=("<b>ant</b>",))
    assert label_names(data, np.array([1, 2, 3])).tolist() == ["class 1", "", "<b>ant</b>"]
    assert label_names(SimpleNamespace(), np.arange(2)) is None
    assert label_names(SimpleNamespace(labels=np.array([-1, -1]), classes=()), np.arange(2)) is None


def test_clusters_without_classes_have_numbers():
    assert cluster_names(np.array([0, 1, 0]), np.zeros((0, 3)), ()) == ["cluster 1", "cluster 2"]
    means = np.array([[9.0, 0.1, 8], [0, 5, 0], [np.nan] * 3])
    names = cluster_names(np.array([0, 1, 0]), means, ("ant", "bee"))
    assert names[0].startswith("1: ant") and names[1].startswith("2: bee")
    assert cluster_names(np.array([0]), np.array([[0.0], [1.0]]), ("ant",)) == ["1: output 1, ant"]
