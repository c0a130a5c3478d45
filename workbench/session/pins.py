"""Pins: what a view showed at one moment, with a note; and how one lies on disk.

A pin is two files, so that a note can be edited without writing the pictures again: ``ID.json`` with all text, and
``ID.still.json`` with the still. The still is written first, so a pin that is there is there with its picture.
"""

from __future__ import annotations

import base64
import datetime
import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from workbench.core.errors import BadValueError, StoreError

__all__ = ["Pin", "PinnedStill", "new_pin"]

_LONGEST = {"title": 300, "note": 20_000, "code": 50_000, "text": 2_000}
_STATE_BYTES = 8_000_000  # a set of 200,000 components takes half of it


@dataclass(frozen=True)
class PinnedStill:
    """The picture of a pin.

    Attributes
    ----------
    html : str
        A piece of HTML with inline styles, without scripts.
    png : bytes
    """

    html: str = ""
    png: bytes = b""

    def as_json(self) -> dict[str, str]:
        """As it is written."""
        return {"html": self.html, "png": base64.b64encode(self.png).decode("ascii")}

    @classmethod
    def read(cls, record: Mapping[str, Any]) -> PinnedStill:
        """From what `as_json` gave."""
        return cls(str(record["html"]), base64.b64decode(record["png"]))


@dataclass(frozen=True)
class Pin:
    """A finding: what was seen, with which settings, in words, as code, and on what it rests.

    Attributes
    ----------
    id : str
    title, note : str
        Plain text.
    time : str
        When it was pinned: ISO 8601, UTC.
    widget : str
        Class of what was pinned.
    text : str
        The still in one line.
    state : dict
        What `state()` gave, with which `restore` brings the view back.
    code : str
        The calls that rebuild the view, with the session as ``s``.
    recipe : dict
        Model, data and the stored results behind it, by their digests.
    is_saved : bool
        False while the store could not be written: the pin then lives as long as the session.
    """

    id: str
    title: str
    note: str
    time: str
    widget: str
    text: str = ""
    state: dict[str, Any] = field(default_factory=dict)
    code: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)
    is_saved: bool = True
    _still: Callable[[], PinnedStill] | PinnedStill = field(default=PinnedStill(), compare=False, repr=False)

    @property
    def still(self) -> PinnedStill:
        """Its picture, read when it is asked for.

        Raises
        ------
        StoreError
            If its file was damaged or is gone.
        """
        return self._still if isinstance(self._still, PinnedStill) else self._still()

    @property
    def html(self) -> str:
        """The still as HTML."""
        return self.still.html

    @property
    def png(self) -> bytes:
        """The still as PNG."""
        return self.still.png

    @property
    def made_with(self) -> dict[str, str]:
        """Digests of model and data, where they are known."""
        return {name: str(self.recipe[name]) for name in ("model", "data") if self.recipe.get(name)}

    def differences(self, now: Mapping[str, str]) -> list[str]:
        """What the pin was made with that is not what there is `now`, one line each."""
        return [
            f"Made with another {name}: {value}, and here it is {now[name]}."
            for name, value in self.made_with.items()
            if name in now and now[name] != value
        ]

    def as_json(self) -> dict[str, Any]:
        """As it is written."""
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name in _WRITTEN}

    @classmethod
    def read(cls, record: Mapping[str, Any], still: Callable[[], PinnedStill]) -> Pin:
        """From what `as_json` gave. What a later version wrote beside it is left alone."""
        return cls(**{name: record[name] for name in _WRITTEN}, _still=still)

    def edited(self, *, title: str | None = None, note: str | None = None) -> Pin:
        """The same with another title or note."""
        return replace(
            self,
            title=self.title if title is None else _text("title", title),
            note=self.note if note is None else _text("note", note),
        )

    def __repr__(self) -> str:
        note = f": {self.note[:60]}{'…' if len(self.note) > 60 else ''}" if self.note else ""
        return f"<pin {self.id} of {self.widget} “{self.title[:60]}”{note}>".replace("\n", " ")


_WRITTEN = ("id", "title", "note", "time", "widget", "text", "state", "code", "recipe")


def new_pin(
    *,
    title: str,
    note: str = "",
    widget: str = "",
    text: str = "",
    state: Mapping[str, Any] | None = None,
    code: str = "",
    recipe: Mapping[str, Any] | None = None,
    still: PinnedStill | None = None,
) -> Pin:
    """A pin of now, under an id of its own.

    Raises
    ------
    BadValueError
        If a text is too long or cannot be written, or the state is no JSON.
    """
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return Pin(
        secrets.token_hex(6),
        _text("title", title) or widget or "Pin",
        _text("note", note),
        time,
        _text("title", widget),
        _text("text", text[: _LONGEST["text"]]),
        _json("state", state or {}),
        _text("code", code),
        _json("recipe", recipe or {}),
        _still=still or PinnedStill(),
    )


def _text(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise BadValueError(f"The {name} of a pin is text; got {type(value).__name__}.")
    if len(value) > _LONGEST[name]:
        raise BadValueError(f"The {name} of a pin may have {_LONGEST[name]} characters; got {len(value)}.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadValueError(f"The {name} of the pin holds half a character, which cannot be kept.") from error
    return value


def _json(name: str, value: Mapping[str, Any]) -> dict[str, Any]:
    """A copy as it will be read again: the pin does not change when the view does."""
    try:
        text = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise BadValueError(f"The {name} of a pin is plain JSON: {error}.") from error
    if len(text) > _STATE_BYTES:
        raise BadValueError(f"The {name} of a pin may take {_STATE_BYTES} bytes; it takes {len(text)}.")
    return dict(json.loads(text))


def lost(pin_id: str, why: BaseException | None = None) -> StoreError:
    """The error for a still that is not there any more."""
    told = f": {why}" if why else ""
    return StoreError(
        f"The picture of pin {pin_id} cannot be read{told}", hint="Its note, code and digests are still there."
    )
