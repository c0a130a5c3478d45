"""Work for tests that kill the process which does it."""

from __future__ import annotations

import time

__all__ = ["fit_slowly"]


def fit_slowly(path: str, seconds_per_step: float) -> None:
    """Train a small network along a direction, resting after each step.

    Parameters
    ----------
    path : str
        Folder of the store.
    seconds_per_step : float
    """
    import torch

    from workbench.core.progress import SilentProgress
    from workbench.methods import PatternCAV, RRClArC
    from workbench.session.session import Session
    from workbench.store import Store
    from workbench.testing.context import SmallData
    from workbench.testing.nets import BiasFree, handle_of, randomised

    class Slow(SilentProgress):
        def report(self) -> None:
            if self.title.startswith("training"):
                time.sleep(seconds_per_step)

    torch.set_num_threads(1)
    handle = handle_of(randomised(BiasFree()), (3, 10, 8), classes=list("abcdef"))
    with Session(handle, SmallData(40), Store.open(path)) as session:
        cav = PatternCAV("features.0", positives=[1, 5, 9, 12, 20, 31], resamples=0)
        session.fit(RRClArC(cav, epochs=6, batch=8), progress=Slow())
