"""How the store speaks: sizes, counts and days as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

__all__ = ["count", "day", "now", "size", "stamp", "when"]

_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


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


def day(moment: datetime) -> str:
    """The day in local time, with the year unless it is this one: ``12 May``."""
    local = moment.astimezone()
    year = "" if local.year == datetime.now().astimezone().year else f" {local.year}"
    return f"{local.day} {_MONTHS[local.month - 1]}{year}"


def now() -> datetime:
    """Return this moment, in UTC."""
    return datetime.now(UTC)


def stamp(moment: datetime) -> str:
    """The moment as it stands in sidecars: ``2026-05-12T09:30:00Z``."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def when(text: str | float) -> datetime:
    """Read a stamp, or seconds since 1970."""
    if isinstance(text, str):
        return datetime.fromisoformat(text)
    return datetime.fromtimestamp(text, UTC)
