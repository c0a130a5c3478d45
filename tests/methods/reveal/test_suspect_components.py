"""Components that deserve a look: by hand-made tables whose answer is known."""

from __future__ import annotations

import numpy as np
import pytest

from workbench.methods.reveal import suspect_components


def test_clarity_is_the_mean_over_pairs():
    looks = suspect_components.unit_rows(np.random.default_rng(0).standard_normal((12, 5)), np.arange(12) != 3)
    assert not looks[3].any()
    references = np.array([[0, 1, 2, -1], [4, 5, 6, 7], [8, -1, -1, -1]])
    found = suspect_components.clarity(looks, references)
    pairs = [looks[a] @ looks[b] for a in (0, 1, 2) for b in (0, 1, 2) if a != b]
    assert found[0] == pytest.approx(np.mean(pairs)) and np.isnan(found[2])


def test_clear_and_unclear_components():
    rng = np.random.default_rng(0)
    centres = 4 * rng.standard_normal((4, 8))
    values = np.repeat(centres, 30, axis=0) + rng.standard_normal((120, 8))
    references = np.array([[0, 1, 2, 3, 4, 5], [1, 31, 61, 91, 33, 65], [90, 91, 92, 93, 94, 95]])
    looks = suspect_components.unit_rows(values, np.ones(120, bool))
    (found,) = suspect_components.unclear_findings("a", looks, references, "b")
    assert found.subject == "a/unit/1" and found.score > 0.8 and "drawn at random" in found.reason
    assert suspect_components.unclear_findings("a", looks[:3], references[:1, :2], "b") == [], "too few to compare with"


def test_silent_and_redundant_components():
    values = np.random.default_rng(0).random((2000, 4))
    values[:, 1], values[:, 2] = 0.25, 0
    values[7, 2] = 1
    found = suspect_components.silent_findings("a", values)
    assert [one.subject for one in found] == ["a/unit/1", "a/unit/2"] and "2 000 samples" in found[0].reason
    near, far = np.array([[1], [0], [3], [2]]), np.array([[0.01], [0.01], [0.5], [0.5]])
    references = np.array([[0, 1, 2], [1, 2, 3], [4, 5, -1], [6, 7, 8]])
    (one,) = suspect_components.redundant_findings("a", near, far, references)
    assert one.subject == "a/unit/1" and one.evidence[1].components == ("a/unit/0",)
    assert "2 of 3 references" in one.evidence[0].text and one.counter[0].samples == (0, 3)
