"""Measures of a correction: relevance on masks, probes, sensitivities before and behind an edit."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import workbench as wb
from workbench.core.errors import ShapeError
from workbench.core.results import Edit
from workbench.data.part_world import PartWorld
from workbench.methods.directions.separation import auc
from workbench.methods.evaluation.correction import artifact_relevance, is_right, probe_auc, sensitivities
from workbench.models.bird_training import bird_card
from workbench.models.birds import BirdVGG, BirdViT
from workbench.testing.nets import BiasFree, handle_of, randomised, small_vgg


def test_relevance_on_the_artifact_is_a_share():
    """Acceptance: 1 for a mask that covers all, 0 for an empty one, the share of the area for constant relevance."""
    rng = np.random.default_rng(0)
    r, mask = rng.normal(size=(4, 9, 7)), np.zeros((4, 9, 7), bool)
    np.testing.assert_allclose(artifact_relevance(r, np.ones_like(mask)), 1)
    assert (artifact_relevance(r, mask) == 0).all()
    mask[:, 2:5, 1:4] = True
    np.testing.assert_allclose(artifact_relevance(np.full(r.shape, -3.0), mask), mask[0].mean())
    slow = [sum(abs(r[i][p]) for p in zip(*np.nonzero(mask[i]), strict=True)) / np.abs(r[i]).sum() for i in range(4)]
    np.testing.assert_allclose(artifact_relevance(r, mask), slow)
    assert (artifact_relevance(np.zeros_like(r), mask) == 0).all(), "no relevance is no NaN"
    with pytest.raises(ShapeError):
        artifact_relevance(r, mask[:, 1:])


def test_right_is_the_largest_output_or_the_sign_of_a_single_one():
    assert is_right(np.array([[1.0, 2], [3, 0]]), np.array([1, 1])).tolist() == [True, False]
    assert is_right(np.array([[1.0], [-2], [3]]), np.array([1, 0, 0])).tolist() == [True, True, False]


def test_a_probe_reads_what_is_there_and_nothing_else():
    rng = np.random.default_rng(0)
    clean = rng.normal(size=(300, 12))
    h = rng.normal(size=12)
    h /= np.linalg.norm(h)
    assert probe_auc(clean, clean) == 0.5
    assert probe_auc(clean, clean + 8 * h) > 0.999
    # The best that can be is the error function of the distance; a probe that had seen its samples would do better.
    assert 0.70 < probe_auc(clean, rng.normal(size=(300, 12)) + h) < 0.80
    assert abs(probe_auc(clean, rng.normal(size=(300, 12))) - 0.5) < 0.06
    wide = rng.normal(size=(30, 500))
    assert abs(probe_auc(wide, rng.normal(size=(30, 500))) - 0.5) < 0.2, "more units than samples"
    constant = np.concatenate([clean, np.full((300, 1), 7.0)], 1)
    assert probe_auc(constant, constant + 8 * np.append(h, 0)) > 0.999
    assert np.isnan(probe_auc(clean[:3], clean[:3]))
    assert auc([0.0, 1.0], [False, True]) == 1.0


def test_a_probe_has_not_seen_another_view_of_what_is_held_out():
    """Noise, each sample four times: what was learned of one view would tell the others, 0.7 and more."""
    rng = np.random.default_rng(1)
    clean, attacked = (np.repeat(rng.normal(size=(60, 40)), 4, axis=0) for _ in range(2))
    assert probe_auc(clean, attacked) > 0.7
    assert abs(probe_auc(clean, attacked, origins=np.repeat(np.arange(60), 4)) - 0.5) < 0.12
    single = clean[::4], attacked[::4]
    assert probe_auc(*single, origins=np.arange(60)[::-1]) == pytest.approx(probe_auc(*single), abs=0.12)
    assert np.isnan(probe_auc(clean[:12], attacked[:12], origins=np.repeat(np.arange(3), 4)))


@pytest.mark.parametrize("at", ["position", "sample"])
def test_sensitivity_vanishes_before_a_projection_and_stays_behind_it(at):
    base = handle_of(randomised(small_vgg()).double(), (3, 17, 13))
    rng = np.random.default_rng(0)
    v = rng.normal(size=(2, 7))
    v /= np.linalg.norm(v, axis=1, keepdims=True)
    x, labels, lengths = torch.randn(5, 3, 17, 13, dtype=torch.float64), np.arange(5), np.array([2.0, 0.5])
    before, after = sensitivities(base, x, "6", v, lengths, labels)
    np.testing.assert_allclose(before, after)
    for i in range(5):  # the slow twin: move every position a little along the direction
        for j in range(2):
            step = 1e-5
            moved = [
                base.variant([Edit("add", "6", value=s * step, array=v[j])])(x[i : i + 1])[0, labels[i]]
                for s in (1, -1)
            ]
            slow = float(moved[0] - moved[1]) / (2 * step) * lengths[j]
            assert before[i, j] == pytest.approx(slow, rel=1e-3, abs=1e-4)
    shift = Edit("shift", "6", array=v, arrays={"codes": np.zeros(2)}, options={"at": at, "pooling": "mean"})
    before, after = sensitivities(base.variant([shift]), x, "6", v, lengths, labels)
    assert np.abs(before).max() < 1e-10 < 1e-3 < np.abs(after).max()


def test_a_layer_beside_the_path_has_none():
    base = handle_of(randomised(BiasFree()), (3, 10, 8))
    v = np.eye(6)[:1]
    before, _ = sensitivities(base, torch.randn(3, 3, 10, 8), "head", v, np.ones(1), np.array([0, 1, 2]))
    np.testing.assert_allclose(before[:, 0], [1, 0, 0])


def test_relevance_is_not_told_where_there_are_no_rules_for_the_network(tmp_path):
    """Attention: relevance that explodes would give a share all the same. Max pooling is no such case."""
    world = PartWorld(9, n_classes=3, size=32)
    card = bird_card("vit", world)
    nets = {"vit": BirdViT(3, size=32, width=16, depth=1, heads=2), "vgg": BirdVGG(3, widths=(4, 6, 8))}
    found = {}
    for name, net in nets.items():
        with wb.open_session(lambda net=net: (net.eval(), card), data=world.clean(), store=tmp_path) as s:
            found[name] = s.reevaluate(attacked=world.attacked(), artifact="timestamp", n_explained=4)
    vit, vgg = found.values()
    assert np.isnan(vit.relevance).all() and np.isnan(vit.to_frame()["relevance"].iloc[0])
    assert any("no relevance, since there is no rule for LayerNorm, and" in text for text in vit.warnings)
    assert vgg.relevance.shape == (1, 4) and ((vgg.relevance >= 0) & (vgg.relevance <= 1)).all()
    assert not any("no relevance" in text for text in vgg.warnings)
    assert vit.relevance_area == vgg.relevance_area > 0
