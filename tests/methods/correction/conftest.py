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
def studies(tmp_path_factory):
    """The latent study by cosine: sessions on the poisoned training set and on clean samples, attacked ones."""
    made = {}

    def of(cosine):
        if cosine not in made:
            train, clean, attacked = (
                Latent(4000, cosine=cosine, artifact=kind, seed=seed)
                for kind, seed in (("planted", 0), ("none", 1), ("all", 1))
            )
            net, store = latent_net(train), tmp_path_factory.mktemp("study")
            s, test = (wb.open_session(net, data=data, store=store) for data in (train, clean))
            made[cosine] = SimpleNamespace(s=s, test=test, train=train, clean=clean, attacked=attacked, net=net)
        return made[cosine]

    yield of
    for one in made.values():
        one.s.close()
        one.test.close()


@pytest.fixture(scope="module")
def study(studies):
    """The latent study with cosine 0.5."""
    return studies(0.5)
