"""Sessions on small nets, and the latent study with its sessions."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

import workbench as wb
from workbench.session.session import Session
from workbench.store import Store
from workbench.testing.context import SmallData
from workbench.testing.latent import Latent, latent_net
from workbench.testing.nets import BiasFree, handle_of, randomised


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.fixture
def open_on(tmp_path):
    """Open a session on a handle; all of a test share a store."""
    opened = []

    def make(handle=None, data=None, store="store"):
        handle = handle_of(randomised(BiasFree()), (3, 10, 8), classes=list("abcdef")) if handle is None else handle
        opened.append(Session(handle, SmallData(40) if data is None else data, Store.open(tmp_path / store)))
        return opened[-1]

    yield make
    for session in opened:
        session.close()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """The latent study with cosine 0.5: sessions on the poisoned training set and on clean samples, attacked ones."""
    train, clean, attacked = (
        Latent(4000, artifact=kind, seed=seed) for kind, seed in (("planted", 0), ("none", 1), ("all", 1))
    )
    net, store = latent_net(train), tmp_path_factory.mktemp("study")
    with wb.open_session(net, data=train, store=store) as s, wb.open_session(net, data=clean, store=store) as test:
        yield SimpleNamespace(s=s, test=test, train=train, clean=clean, attacked=attacked)
