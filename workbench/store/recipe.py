"""Recipe: exactly how an array came to be, in a canonical form with a digest.

Two recipes with the same digest describe the same numbers. The digest is a hash of the canonical JSON text of all
fields but `title`, so it is the same on every machine and in every process, today and after the next release.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from types import MappingProxyType
from typing import Any

from workbench.core.errors import BadValueError, nearest
from workbench.core.ids import ComponentId, Fingerprint

__all__ = ["Recipe", "as_json", "canonical_text"]

_NAMED = re.compile(r"^.*@([0-9a-f]{8,128})$", re.DOTALL)
_DEEPEST = 32


@dataclass(frozen=True, eq=False)
class Recipe:
    """Everything that decides the numbers of one stored result.

    Parameters
    ----------
    kind : str
        What it is: ``activations``, ``relevances``, ``references``, ``atlas`` …
    model, data : str or Fingerprint
        What it was made from, written ``name@digest``. Only the digest counts; the name is for people. Give the
        `Fingerprint` itself: its full digest is kept, while its `str` is shortened.
    layer, basis : str
        Which components.
    params : mapping
        Everything else that changes the numbers: pooling, canonizers, rule, target. JSON-able values only; tuples
        become lists, numpy scalars become Python's, fingerprints and addresses become text.
    seed : int, optional
        Of whatever was random.
    precision : str
        Type in which the numbers are kept.
    result_version : int
        Raised by the producer when its numbers change.
    title : str
        What people call the result. Not part of the digest.

    Raises
    ------
    BadValueError
        If a value is none that JSON can hold; the message gives its place.

    Examples
    --------
    >>> a = Recipe("activations", model="toy@3f9a81c2", layer="features.6", params={"pooling": ("max",)})
    >>> b = Recipe("activations", model="renamed@3f9a81c2", layer="features.6", params={"pooling": ["max"]}, title="b")
    >>> a == b, a.but(layer="head") == a
    (True, False)
    """

    kind: str
    model: str = ""
    data: str = ""
    layer: str = ""
    basis: str = "unit"
    params: Mapping[str, Any] = field(default_factory=dict)
    seed: int | None = None
    precision: str = "float32"
    result_version: int = 1
    title: str = ""

    def __post_init__(self) -> None:
        for name in ("model", "data"):
            object.__setattr__(self, name, _identity(name, getattr(self, name)))
        for name in ("kind", "layer", "basis", "precision", "title"):
            if not isinstance(getattr(self, name), str):
                raise BadValueError(f"`{name}` of a recipe must be text; got {getattr(self, name)!r}.")
        if not self.kind:
            raise BadValueError("`kind` of a recipe must not be empty.")
        for name in ("seed", "result_version"):
            number = as_json(getattr(self, name), name)
            if (number is None and name != "seed") or isinstance(number, bool) or not isinstance(number, int | None):
                raise BadValueError(f"`{name}` of a recipe must be a whole number; got {number!r}.")
            object.__setattr__(self, name, number)
        if not isinstance(self.params, Mapping):
            raise BadValueError(f"`params` of a recipe must be a mapping; got {type(self.params).__name__}.")
        # Nothing may change a recipe after its birth, hence a copy behind a read-only view.
        object.__setattr__(self, "params", MappingProxyType(as_json(self.params, "params")))
        _ = self.digest

    @cached_property
    def digest(self) -> str:
        """32 hexadecimal digits that change whenever the numbers may."""
        counted = {k: v for k, v in self.to_json().items() if k != "title"}
        for name in ("model", "data"):
            named = _NAMED.match(counted[name])
            counted[name] = named[1] if named else counted[name]
        return hashlib.blake2b(canonical_text(counted).encode(), digest_size=16, person=b"workbench.recipe").hexdigest()

    @property
    def short(self) -> str:
        """The first digits of the digest, for people."""
        return self.digest[:8]

    def to_json(self) -> dict[str, Any]:
        """All fields as a JSON-ready dictionary."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {**values, "params": as_json(self.params, "params")}

    @classmethod
    def from_json(cls, record: Mapping[str, Any] | str) -> Recipe:
        """Read what `to_json` wrote, as a dictionary or as JSON text.

        Raises
        ------
        BadValueError
            If it is no recipe or names an unknown field.
        """
        try:
            record = json.loads(record) if isinstance(record, str) else record
        except ValueError as error:
            raise BadValueError(f"This is not the JSON text of a recipe: {error}.") from error
        if not isinstance(record, Mapping) or "kind" not in record:
            raise BadValueError("A recipe is a mapping that has a `kind`.")
        return cls(**_known_fields(record))

    def but(self, **changes: Any) -> Recipe:
        """Return the recipe with some fields replaced; `params` is replaced as a whole."""
        return Recipe(**{**{f.name: getattr(self, f.name) for f in fields(self)}, **_known_fields(changes)})

    def describe(self) -> str:
        """One short line for people: title, or kind and components, and what it was made from."""
        what = self.title or f"{self.kind}{f' of {self.layer}/{self.basis}' if self.layer else ''}"
        made_from = " and ".join(shorten(v) for v in (self.model, self.data) if v)
        return f"{what}{f' from {made_from}' if made_from else ''}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Recipe) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"<recipe {self.short}: {self.describe()}>"

    def __reduce__(self) -> tuple[Any, ...]:  # a read-only view cannot be pickled
        return Recipe.from_json, (self.to_json(),)


def as_json(value: Any, path: str = "value", *, allow_nan: bool = False) -> Any:
    """Copy `value` into plain JSON types.

    Parameters
    ----------
    value : object
        None, bool, int, float, str, numpy scalar, Fingerprint, ComponentId, or lists, tuples and mappings of them.
    path : str
        What to call it in the message.
    allow_nan : bool
        Let NaN and infinity through; they have no place in a digest, yet may occur in a note.

    Raises
    ------
    BadValueError
        For everything else; the message gives the place: ``params.rule[2]``.
    """
    return _plain(value, path, allow_nan, 0)


def canonical_text(value: Any) -> str:
    """JSON text of plain values that equal values share: sorted keys, no spaces, floats by `repr`."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def shorten(identity: str) -> str:
    """``resnet-toy@3f9a81c2…`` as people read it: ``resnet-toy@3f9a…``."""
    name, _, digest = identity.rpartition("@")
    return f"{name}@{digest[:4]}…" if name and _NAMED.match(identity) else identity


def _plain(value: Any, path: str, allow_nan: bool, depth: int) -> Any:
    if depth > _DEEPEST:
        raise BadValueError(f"`{path}` is nested more than {_DEEPEST} deep, or contains itself.")
    numpy = sys.modules.get("numpy")  # a numpy value cannot exist before numpy is imported
    if numpy is not None and isinstance(value, numpy.generic):
        value = value.item()
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value) and not allow_nan:
            raise BadValueError(
                f"`{path}` is {value!r}, which JSON cannot hold.", hint="Write it as text, or leave it out."
            )
        return float(value) + 0.0  # -0.0 and 0.0 are one number
    if isinstance(value, Fingerprint):
        return f"{value.name}@{value.digest}" if value.name else value.digest
    if isinstance(value, ComponentId):
        return str(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise BadValueError(f"`{path}` has the key {key!r}; keys must be text.")
        return {str.__str__(k): _plain(v, f"{path}.{k}", allow_nan, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, f"{path}[{i}]", allow_nan, depth + 1) for i, v in enumerate(value)]
    raise BadValueError(
        f"`{path}` is a {type(value).__name__}, which JSON cannot hold.",
        hint="None, bool, int, float, str, fingerprints, addresses may stand there, and lists and mappings of them. "
        "Give `.tolist()` of a small array, the sorted list of a set, or the fingerprint of something large.",
    )


def _identity(name: str, value: Any) -> str:
    if isinstance(value, Fingerprint):
        return str(as_json(value, name))
    if not isinstance(value, str):
        raise BadValueError(f"`{name}` of a recipe must be a Fingerprint or text; got {value!r}.")
    return value


def _known_fields(given: Mapping[str, Any]) -> dict[str, Any]:
    names = [f.name for f in fields(Recipe)]
    for name in given:
        if name not in names:
            raise BadValueError(
                f'A recipe has no field "{name}".', hint=f"{nearest(name, names)} Put it into `params`."
            )
    return dict(given)
