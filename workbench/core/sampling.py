"""A few of many, from everywhere among them."""

from __future__ import annotations

import numpy as np

__all__ = ["evenly"]

_STEP = (np.sqrt(5) - 1) / 2  # the golden section: its multiples fall evenly between 0 and 1, in no period


def evenly(n: int, wanted: int) -> np.ndarray:
    """Choose places among `n`: one of each of `wanted` equal stretches.

    Where in its stretch changes from one to the next, so that an order of the data that repeats itself, such as two
    classes in turn, is not met in step: every second of them would be all of one class.

    Parameters
    ----------
    n, wanted : int
        At least 0; all where there are no more than wanted.

    Returns
    -------
    (min(n, wanted),) int64 array
        Ascending, without repetition; the same every time.

    Examples
    --------
    >>> evenly(5, 9).tolist()
    [0, 1, 2, 3, 4]
    >>> (evenly(1000, 500) % 2).mean().round(1)
    0.5
    """
    wanted = min(wanted, n)
    if wanted <= 0:
        return np.zeros(0, np.int64)
    edges = np.arange(wanted + 1, dtype=np.int64) * n // wanted
    place = np.modf(np.arange(1, wanted + 1) * _STEP)[0]
    return edges[:-1] + (place * np.diff(edges)).astype(np.int64)
