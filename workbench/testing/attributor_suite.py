"""What every attributor must do, as tests. A rule, a composite or a method gets them by naming itself:

class TestMine(AttributorSuite):
    rule = "EpsilonPlus"
"""

from __future__ import annotations

import copy
import gc
import weakref
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from workbench.attribution.crp import Explanation, explain
from workbench.core.errors import UnknownComponentError, UnknownLayerError
from workbench.models.handle import ModelHandle
from workbench.testing.nets import BiasFree, handle_of, randomised

__all__ = ["AttributorSuite"]

SHAPE = (3, 9, 7)
LAYERS = ("features.2", "features.4", "head")


class AttributorSuite:
    """Tests of the contract; subclass and set `rule`, or override `attribute`.

    Attributes
    ----------
    rule : str, Composite or zennit composite
    conserves : bool
        Whether relevance sums to the score where there is no bias.
    """

    rule: ClassVar[Any] = "EpsilonPlusFlat"
    conserves: ClassVar[bool] = True

    def attribute(self, handle: ModelHandle, x: Tensor, target: Any = "top", **options: Any) -> Explanation:
        """Explain a batch."""
        return explain(handle, x, target, rule=self.rule, **options)

    @pytest.fixture
    def handle(self) -> ModelHandle:
        return handle_of(randomised(BiasFree()).double(), SHAPE)

    @pytest.fixture
    def x(self) -> Tensor:
        return torch.randn(5, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def test_shapes_are_those_of_input_and_layers(self, handle, x):
        found = self.attribute(handle, x, record=LAYERS)
        assert found.relevance.shape == x.shape and found.output.shape == (5, 6)
        for name in LAYERS:
            assert found.layers[name].shape == found.activations[name].shape == (5, *handle.layers[name].shape)
        assert torch.isfinite(found.relevance).all()
        assert not found.relevance.requires_grad and found.relevance.device.type == "cpu"

    def test_the_output_is_the_model_s(self, handle, x):
        found = self.attribute(handle, x)
        torch.testing.assert_close(found.output, handle(x))
        assert torch.equal(found.start.index, handle(x).argmax(1))
        torch.testing.assert_close(found.start.score, handle(x).max(1).values)

    def test_the_same_again(self, handle, x):
        one, other = (self.attribute(handle, x, record=LAYERS) for _ in range(2))
        assert torch.equal(one.relevance, other.relevance)
        assert all(torch.equal(one.layers[name], other.layers[name]) for name in LAYERS)

    def test_neither_company_nor_place_in_the_batch_matters(self, handle, x):
        whole = self.attribute(handle, x, record=LAYERS)
        for part in ([0], [4, 1], [2, 3, 0]):
            found = self.attribute(handle, x[part], record=LAYERS)
            torch.testing.assert_close(found.relevance, whole.relevance[part])
            for name in LAYERS:
                torch.testing.assert_close(found.layers[name], whole.layers[name][part])

    def test_targets_differ(self, handle, x):
        maps = [self.attribute(handle, x, target).relevance for target in ("logit:0", "logit:3", "difference:0:3")]
        assert not torch.equal(maps[0], maps[1])
        torch.testing.assert_close(maps[2], maps[0] - maps[1])

    def test_relevance_is_conserved(self, handle, x):
        found = self.attribute(handle, x)
        if self.conserves:
            assert found.gap.abs().max() < 1e-3
        else:
            expected = (found.start.score - found.relevance.flatten(1).sum(1)) / found.start.score.abs()
            assert torch.isnan(found.gap).all() or torch.allclose(found.gap, expected)

    def test_all_components_are_no_condition(self, handle, x):
        for name in LAYERS:
            every = [f"{name}/{c}" for c in range(handle.layers[name].n_components)]
            assert torch.equal(self.attribute(handle, x, given=every).relevance, self.attribute(handle, x).relevance)

    def test_the_parts_make_the_whole(self, handle, x):
        whole = self.attribute(handle, x).relevance
        parts = [self.attribute(handle, x, given=[f"features.4/{c}"]).relevance for c in range(9)]
        torch.testing.assert_close(torch.stack(parts).sum(0), whole)

    def test_neither_hooks_nor_changes_remain(self, handle, x):
        before = copy.deepcopy(handle.module.state_dict())
        self.attribute(handle, x, record=LAYERS, given=["features.4/0"])
        for module in handle.module.modules():
            assert not (module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)
            assert "forward" not in vars(module)
        after = handle.module.state_dict()
        assert list(before) == list(after) and all(torch.equal(before[k], after[k]) for k in before)
        assert not any(p.requires_grad or p.grad is not None for p in handle.module.parameters())

    def test_an_exception_in_mid_pass_leaves_nothing(self, handle, x):
        def fail(module: nn.Module, args: Any) -> None:
            raise ZeroDivisionError

        expected = self.attribute(handle, x).relevance
        hook = handle.module.pool.register_forward_pre_hook(fail)
        with pytest.raises(ZeroDivisionError):
            self.attribute(handle, x, record=LAYERS)
        hook.remove()
        self.test_neither_hooks_nor_changes_remain(handle, x)
        assert torch.equal(self.attribute(handle, x).relevance, expected)

    def test_memory_is_freed(self, handle, x):
        found = self.attribute(handle, x, record=LAYERS)
        held = [weakref.ref(found), weakref.ref(found.relevance), weakref.ref(found.activations["features.2"])]
        del found
        gc.collect()
        assert [ref() for ref in held] == [None, None, None]

    def test_unknown_names_are_explained(self, handle, x):
        with pytest.raises(UnknownLayerError, match='No layer "features.44"') as error:
            self.attribute(handle, x, record=["features.44"])
        assert '"features.4"' in error.value.hint
        with pytest.raises(UnknownComponentError, match="No component 9"):
            self.attribute(handle, x, given=["features.4/unit/9"])
