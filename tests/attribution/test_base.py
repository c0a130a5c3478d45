"""What the gap is."""

from __future__ import annotations

import pytest
import torch

from workbench.attribution.base import gap


def test_the_gap():
    score = torch.tensor([2.0, -4.0, 0.0, 1e-7, -1e-9])
    total = torch.tensor([1.5, -5.0, 0.25, 0.0, 0.5])
    assert gap(score, total).tolist() == pytest.approx([0.25, 0.25, 0.25, 1e-7, 0.5])
