"""How the store speaks: sizes, counts and days as people write them."""

from __future__ import annotations

from datetime import UTC, datetime

from workbench.core.words import count, size

__all__ = ["count", "day", "now", "size", "stamp", "when"]

_MONTHS = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()


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
