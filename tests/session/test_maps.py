"""Embedding maps in a session: a first look, then what is stored; the fake session answers in the same form."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest

from workbench.core.errors import BadValueError
from workbench.methods import ConceptAtlas, EmbeddingMap
from workbench.testing.fake_session import FakeSession


@pytest.mark.parametrize("of", ["components", "samples"])
def test_a_first_look_then_the_map(small, of, counting):
    small.sweep("relu_b")
    counter = counting(small)
    method = EmbeddingMap("relu_b", of=of, layout="pca")
    first = small.preview(method)
    assert not method.is_fitted and first.neighbours.shape[1] == 0
    made = small.fit(method).map_
    assert counter.calls == 0, "tables are in the store"
    np.testing.assert_array_equal(first.position, made.position)
    assert len(made) == (7 if of == "components" else 24) and made.recipe
    if of == "samples":
        assert made.columns["label"].tolist() == small.samples()["label"].tolist()
        assert made.columns["prediction"].tolist() == small.samples()["prediction"].tolist()


def test_a_method_without_a_first_look_says_so(small):
    with pytest.raises(BadValueError, match="ConceptAtlas offers no preview"):
        small.preview(ConceptAtlas("relu_b"))


@pytest.mark.parametrize("of", ["components", "samples"])
def test_the_fake_session_answers_alike(small, of):
    fake, method = FakeSession(), EmbeddingMap("relu_b", of=of, layout="pca")
    small.fit(method)
    theirs = fake.fit(EmbeddingMap("bn2", of=of))
    for real, made in ((method.map_, theirs.map_), (small.preview(method), fake.preview(theirs))):
        for field in fields(real):
            one, other = getattr(real, field.name), getattr(made, field.name)
            assert type(one) is type(other), field.name
            if isinstance(one, np.ndarray):
                assert (one.dtype.kind, one.ndim) == (other.dtype.kind, other.ndim), field.name
    ids, distance = theirs.neighbours(5, 4)
    assert len(ids) == 4 and (np.diff(distance) >= 0).all()
