"""Hooks come off last-first whatever happens, and see or replace outputs in between."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from workbench.core.errors import CancelledError, ModelError
from workbench.core.progress import CancelToken, current_token, stopping_at
from workbench.models.hooks import patched_forward, record, stoppable, tensor_of


@pytest.fixture
def net():
    return nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))


def hooks_of(module):
    return [len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in module.modules()]


def test_outputs_are_seen_in_the_order_in_which_modules_run(net):
    seen, x = [], torch.randn(5, 3)
    with record(net, ["2", "0", ""], lambda name, t: seen.append((name, t.clone()))):
        y = net(x)
    assert [name for name, _ in seen] == ["0", "2", ""]
    assert torch.equal(seen[0][1], net[0](x)) and torch.equal(seen[2][1], y)
    assert hooks_of(net) == [0, 0, 0, 0]


def test_what_is_returned_takes_the_output_s_place(net):
    with record(net, ["1"], lambda name, t: t * 0 if name == "1" else None):
        assert torch.equal(net(torch.randn(5, 3)), net[2].bias.expand(5, 2))


def test_later_ones_see_what_earlier_ones_changed(net):
    seen, x = [], torch.randn(5, 3)
    with record(net, ["0"], lambda _, t: t + 1), record(net, ["0"], lambda _, t: seen.append(t)):
        net(x)
    assert torch.equal(seen[0], net[0](x) + 1)


def test_nothing_stays_after_an_exception(net):
    def fail(name, tensor):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), record(net, ["0", "2"], fail):
        net(torch.randn(5, 3))
    assert hooks_of(net) == [0, 0, 0, 0]


def test_nothing_stays_after_an_exception_halfway_through_entering(net):
    with pytest.raises(KeyError), record(net, ["0", "1", "nowhere"], lambda *_: None):
        pytest.fail("never entered")
    assert hooks_of(net) == [0, 0, 0, 0]


def test_others_hooks_stay(net):
    handle = net[0].register_forward_hook(lambda *_: None)
    with record(net, ["0"], lambda *_: None):
        assert hooks_of(net)[1] == 2
    assert hooks_of(net) == [0, 1, 0, 0]
    handle.remove()


def test_tuples_are_seen_but_not_replaced():
    net = nn.Sequential(nn.LSTM(3, 4, batch_first=True))
    seen = []
    with record(net, ["0"], lambda _, t: seen.append(t.shape)):
        net(torch.randn(2, 5, 3))
    assert seen == [(2, 5, 4)]
    with pytest.raises(ModelError, match='"0" returns several tensors'), record(net, ["0"], lambda _, t: t):
        net(torch.randn(2, 5, 3))


def test_outputs_without_a_tensor():
    assert tensor_of("a", (None, torch.ones(1))).item() == 1
    for output in ({"x": torch.ones(1)}, (1, 2), None):
        with pytest.raises(ModelError, match='output of "a"'):
            tensor_of("a", output)


def test_patched_functions_are_put_back(net):
    own = net[1].forward
    net[0].forward = mine = lambda x: x[:, :1].expand(-1, 4)
    with patched_forward([(net[1], lambda x: x - 1), (net[0], lambda x: torch.ones(len(x), 4)), (net[1], torch.neg)]):
        assert torch.equal(net(torch.zeros(2, 3)), net[2](-torch.ones(2, 4)))
    assert "forward" not in vars(net[1]) and net[1].forward == own
    assert net[0].forward is mine, "what the user had put there is there again"


def test_patches_are_put_back_after_an_exception(net):
    with pytest.raises(ZeroDivisionError), patched_forward([(net[0], lambda x: x / 0), (net[2], lambda x: 1 // 0)]):
        net(torch.zeros(2, 3))
    assert all("forward" not in vars(m) for m in net.modules())


def test_a_cancelled_job_ends_at_the_next_module(net):
    token, ran = CancelToken(), []
    with stopping_at(token), stoppable(net), record(net, ["0", "1", "2"], lambda name, t: ran.append(name)):
        with pytest.raises(CancelledError), record(net, ["0"], lambda name, t: token.cancel()):
            net(torch.randn(5, 3))
        assert ran == ["0"]  # what hung on it before the check has run, the next module has not
    assert hooks_of(net) == [0, 0, 0, 0] and current_token() is None


@pytest.mark.parametrize("is_many", [False, True])
def test_a_cancelled_job_ends_within_the_backward_pass(net, is_many):
    token, came = CancelToken(), []
    x = torch.randn(5, 3, requires_grad=True)
    with stopping_at(token), stoppable(net):
        between = net[0](x)
        between.register_hook(came.append)
        y = net[2](net[1](between))
    seed = torch.ones(4, 5, 2)

    def pull(one):
        return torch.autograd.grad(y, x, one, retain_graph=True)[0]

    whole = torch.func.vmap(pull)(seed)[0] if is_many else pull(seed[0])
    assert torch.allclose(whole, torch.autograd.grad(net(x), x, seed[0])[0]) and len(came) == 1
    token.cancel()  # from anywhere, also when the pass itself is long over
    with pytest.raises(CancelledError):
        torch.func.vmap(pull)(seed) if is_many else pull(seed[0])
    assert len(came) == 1


def test_outside_of_jobs_nothing_is_hooked(net):
    with stoppable(net):
        assert hooks_of(net) == [0, 0, 0, 0]
