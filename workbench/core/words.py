"""Sizes and counts as people write them."""

from __future__ import annotations

__all__ = ["count", "size"]


def size(n_bytes: float) -> str:
    """Bytes in decimal units.

    Examples
    --------
    >>> size(41_300_000), size(900), size(1_500)
    ('41 MB', '900 B', '1.5 kB')
    """
    value, units = float(n_bytes), ["B", "kB", "MB", "GB", "TB"]
    while abs(value) >= 999.5 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{value:.0f} {units[0]}" if units[0] == "B" or value >= 9.95 else f"{value:.1f} {units[0]}"


def count(n: int, noun: str = "") -> str:
    """A number with its thousands apart, and its noun.

    Examples
    --------
    >>> count(2048, "sample"), count(1, "sample")
    ('2 048 samples', '1 sample')
    """
    number = f"{n:,}".replace(",", " ")
    if not noun:
        return number
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{number} {noun if n == 1 else plural}"
