"""What every method must do, as tests. A method gets them by naming itself and saying how it is fitted:

class TestMine(MethodSuite):
    method = MyMethod
    examples = [{"layer": "features.4"}]
    changes = {"k": 3}
"""

from __future__ import annotations

import copy
import gc
import inspect
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from workbench.core.errors import UnknownLayerError
from workbench.core.registry import METHODS
from workbench.methods.base import Method
from workbench.session.session import Session
from workbench.store import Store
from workbench.testing.context import SmallData
from workbench.testing.nets import BiasFree, handle_of, randomised

__all__ = ["MethodSuite"]


class MethodSuite:
    """Tests of the contract; subclass and set what is below.

    Attributes
    ----------
    method : type
    examples : sequence of dict
        Constructor arguments, on the layers ``features.0`` to ``features.4``, ``pool`` and ``head`` of `BiasFree`.
    changes : mapping
        A valid other value for each constructor argument.
    """

    method: ClassVar[type[Method]]
    examples: ClassVar[list[dict[str, Any]]] = []
    changes: ClassVar[Mapping[str, Any]] = {}

    def make(self, **more: Any) -> Method:
        """A method of the first example, with some arguments changed."""
        return self.method(**{**self.examples[0], **more})

    def open(self, path: Path) -> Session:
        """Open a session on a small network and forty small pictures."""
        data = SmallData(40)
        return Session(handle_of(randomised(BiasFree()), (3, 10, 8), classes=list("abcdef")), data, Store.open(path))

    @pytest.fixture
    def session(self, tmp_path: Path) -> Any:
        with self.open(tmp_path / "store") as session:
            yield session

    def learned(self, method: Method) -> dict[str, np.ndarray]:
        """The arrays that a fitted method keeps."""
        return {name: np.asarray(value) for name, value in method.state()[0].items()}

    def assert_same(self, one: Method, other: Method) -> None:
        """Check that two methods learned the same."""
        first, second = self.learned(one), self.learned(other)
        assert list(first) == list(second)
        for name, value in first.items():
            np.testing.assert_array_equal(value, second[name], err_msg=name)
        assert one.state()[1] == other.state()[1]

    def test_it_is_registered_with_its_source(self):
        assert METHODS[self.method.name] is self.method
        assert str(self.method.source), "name paper, section, equation"
        assert self.method.needs and inspect.getdoc(self.method)

    def test_the_constructor_only_stores(self):
        for arguments in self.examples:
            made = self.method(**arguments)
            assert set(vars(made)) == set(made.params()), "and under the names of its arguments"
            for name, value in arguments.items():
                assert getattr(made, name) is value
            assert not made.is_fitted
            assert type(made).__name__ in repr(made) and all(name in repr(made) for name in arguments)
        nonsense = {name: object() for name in self.make().params()}
        assert self.method(**nonsense).params() == nonsense, "what they mean is checked by `fit`"

    def test_fit_returns_the_method_itself(self, session):
        for arguments in self.examples:
            made = self.method(**arguments)
            assert session.fit(made) is made and made.is_fitted
            assert made.fit(session) is made

    def test_the_same_seed_gives_the_same(self, session, tmp_path):
        one = session.fit(self.make())
        with self.open(tmp_path / "other") as other:
            self.assert_same(one, other.fit(self.make()))

    def test_a_changed_parameter_changes_the_recipe(self, session):
        assert set(self.changes) | {"layer"} >= set(self.make().params()), "say how each argument may be changed"
        digests = {session._recipe_of(self.make()).digest}
        for name, value in self.changes.items():
            digests.add(session._recipe_of(self.make(**{name: value})).digest)
        assert len(digests) == len(self.changes) + 1
        assert session._recipe_of(self.make()).digest in digests

    def test_a_second_fit_loads(self, session, tmp_path):
        one = session.fit(self.make())
        hook = session.model.module.register_forward_hook(lambda *_: pytest.fail("the model ran"))
        try:
            other = self.make()
            other.fit = lambda ctx: pytest.fail("it was fitted again")  # type: ignore[method-assign]
            assert session.fit(other) is other
            self.assert_same(one, other)
            with self.open(tmp_path / "store") as tomorrow:
                third = self.make()
                third.fit = other.fit  # type: ignore[method-assign]
                self.assert_same(one, tomorrow.fit(third))
        finally:
            hook.remove()

    def test_the_model_is_as_before(self, session):
        module = session.model.module
        before = copy.deepcopy(module.state_dict())
        x = torch.randn(2, 3, 10, 8)
        output = session.model(x)
        session.fit(self.make())
        after = module.state_dict()
        assert list(before) == list(after) and all(torch.equal(before[k], after[k]) for k in before)
        assert torch.equal(session.model(x), output)
        for one in module.modules():
            assert not (one._forward_hooks or one._forward_pre_hooks or one._backward_hooks) and "forward" not in vars(
                one
            )

    def test_unknown_layers_are_explained(self, session):
        with pytest.raises(UnknownLayerError, match='No layer "features.44"') as error:
            session.fit(self.make(layer="features.44"))
        assert '"features.4"' in error.value.hint

    def test_memory_is_freed(self, tmp_path):
        session = self.open(tmp_path / "store")
        made = session.fit(self.make())
        held = [weakref.ref(made), weakref.ref(session.model), weakref.ref(session)]
        session.close()
        del made, session
        gc.collect()
        assert [ref() for ref in held] == [None, None, None]

    def test_nothing_is_said_on_standard_output(self, session, capsys):
        session.fit(self.make())
        assert capsys.readouterr().out == ""
