"""Changes of a model, described and not yet applied, and files of those that belong together.

Arrays are kept as safetensors beside a description in JSON, never as pickles.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from workbench.core.errors import BadValueError, DamagedEntryError, StoreError

__all__ = ["Edit", "Edits"]

_OPERATIONS = ("scale", "set", "add", "project", "shift", "mask", "quantise", "replace")
_FORMAT = "workbench-edits"
_VERSION = 1


@dataclass(frozen=True)
class Edit:
    """One change of a model, described and not yet applied.

    Attributes
    ----------
    operation : str
        ``scale``, ``set``, ``add``, ``project``, ``shift`` change activations and ride on hooks; ``mask``,
        ``quantise``, ``replace`` change parameters, on a copy of the model.
    where : str
        A layer (activation edits) or a parameter's name (weight edits).
    components : tuple of int
        Which components; empty means all.
    value : float
        Factor, new value, or step length.
    array : array, optional
        Direction of ``add`` and ``project`` (component,), directions of ``shift`` (direction, component), mask or new
        weights.
    arrays : mapping of name to array
        Of ``shift``: ``codes`` (direction,), what the projections on the directions become, 0 if not given; or
        (artifact + 1, direction), a row for each artifact that acts alone, and the last for several at once;
        ``detector`` (artifact, component) and ``threshold`` (artifact,), where it acts if an artifact is there.
    options : mapping
        JSON-able. Of ``scale``, ``set``, ``add``, ``project``: ``tokens`` (``"class"``, ``"patches"``) and ``region``
        (x, y, width, height in shares of the picture), where they act; see `Intervention`. Of ``shift``: ``at``
        (``"position"``, ``"sample"``), ``pooling`` (``"max"``, ``"mean"``, ``"token"``), ``tokens`` (``"all"``,
        ``"first"``), ``artifact`` (for each direction the number of its artifact), ``classes`` (for each artifact the
        predictions under which it acts, or None), ``softness`` (see `workbench.models.shifts`).
    """

    operation: str
    where: str
    components: tuple[int, ...] = ()
    value: float = 0.0
    array: Any = None
    arrays: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.operation not in _OPERATIONS:
            raise BadValueError(f"No edit {self.operation!r}.", hint=f"There are {', '.join(_OPERATIONS)}.")

    @property
    def is_weight_edit(self) -> bool:
        """Whether the edit changes parameters."""
        return self.operation in ("mask", "quantise", "replace")

    def describe(self) -> dict[str, Any]:
        """A JSON-ready description that two equal edits share."""

        def digest_of(array: Any) -> str:
            return hashlib.blake2b(np.ascontiguousarray(np.asarray(array)).tobytes(), digest_size=16).hexdigest()

        found: dict[str, Any] = {
            "operation": self.operation,
            "where": self.where,
            "components": list(self.components),
            "value": float(self.value),
            "array": None if self.array is None else digest_of(self.array),
        }
        # Only where there are some: the fingerprints of other edits stay as they are.
        if self.arrays:
            found["arrays"] = {name: digest_of(value) for name, value in sorted(self.arrays.items())}
        if self.options:
            found["options"] = {name: self.options[name] for name in sorted(self.options)}
        return found


class Edits(tuple[Edit, ...]):
    """A sequence of edits that knows for which model it was made. `Session.variant` applies it.

    ``first + second`` acts in that order.

    Parameters
    ----------
    edits : iterable of Edit
    model : str
        ``name@digest`` of the model that they were made for; empty if unknown.
    title : str
        What they do, for people.

    Attributes
    ----------
    model, title : str
    """

    model: str
    title: str

    def __new__(cls, edits: Iterable[Edit] = (), *, model: str = "", title: str = "") -> Edits:
        edits = tuple(edits)
        if wrong := [one for one in edits if not isinstance(one, Edit)]:
            raise BadValueError(f"Edits are made of edits; got {type(wrong[0]).__name__}.")
        made = super().__new__(cls, edits)
        made.model, made.title = model, title
        return made

    @classmethod
    def of(cls, given: Any) -> Edits:
        """Edits of whatever stands for some: a sequence of them, or a fitted correction (what has `edits`).

        Raises
        ------
        BadValueError
            If it is neither, or a correction that is not fitted yet.
        """
        if isinstance(given, Edits):
            return given
        if hasattr(given, "is_fitted") and callable(getattr(given, "edits", None)) and not isinstance(given, type):
            given = given.edits()
        is_several = isinstance(given, Iterable) and not isinstance(given, (str, bytes, Mapping))
        several = tuple(given) if is_several else ()
        wrong = [one for one in several if not isinstance(one, Edit)]
        if not is_several or wrong:
            got = f"a list with {type(wrong[0]).__name__}" if wrong else type(given).__name__
            raise BadValueError(
                f"A list of edits or a fitted correction is needed; got {got}.",
                hint="[Edit(...)], s.fit(PClArC(cav)), or s.load_edits(path); workbench.core.results.Edit makes one.",
            )
        return given if isinstance(given, Edits) else cls(several)

    def __add__(self, other: Any) -> Edits:
        more = Edits.of(other)
        return Edits(
            (*self, *more), model=self.model or more.model, title="; ".join(t for t in (self.title, more.title) if t)
        )

    def to_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """All arrays by name, and everything else as JSON-able facts."""
        arrays: dict[str, np.ndarray] = {}
        described = []
        for i, edit in enumerate(self):
            own = {**({} if edit.array is None else {"array": edit.array}), **edit.arrays}
            arrays |= {f"{i}|{name}": np.ascontiguousarray(np.asarray(value)) for name, value in own.items()}
            described.append(
                {
                    "operation": edit.operation, "where": edit.where, "components": list(edit.components),
                    "value": float(edit.value), "options": dict(edit.options),
                    "shapes": {name: list(np.shape(value)) for name, value in own.items()},
                }
            )  # fmt: skip
        return arrays, {"title": self.title, "model": self.model, "edits": described}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], facts: Mapping[str, Any]) -> Edits:
        """Read what `to_arrays` gave."""
        return cls(_read(facts["edits"], arrays), model=str(facts["model"]), title=str(facts["title"]))

    def save(self, path: str | Path) -> Path:
        """Write ``NAME.safetensors`` with the arrays and ``NAME.json`` with everything else.

        Each file is written under another name first, so that it is there completely or not at all.

        Returns
        -------
        Path
            Of the arrays.
        """
        from safetensors.numpy import save

        path = _named(path)
        arrays, facts = self.to_arrays()
        content = save(arrays)
        check = hashlib.blake2b(content, digest_size=16).hexdigest()
        record = {"format": _FORMAT, "version": _VERSION, **facts, "check": check}
        path.parent.mkdir(parents=True, exist_ok=True)
        _write(path, content)
        _write(path.with_suffix(".json"), json.dumps(record, indent=1).encode())
        return path

    @classmethod
    def load(cls, path: str | Path) -> Edits:
        """Read what `save` wrote. `Session.load_edits` compares it with a model as well.

        Raises
        ------
        StoreError
            If there are no such files, or a newer version wrote them.
        DamagedEntryError
            If they do not belong together or are damaged.
        """
        from safetensors import SafetensorError
        from safetensors.numpy import load

        path = _named(path)
        try:
            content = path.read_bytes()
            record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
        except FileNotFoundError as error:
            raise StoreError(
                f"No edits in {path.name}: {Path(str(error.filename)).name} is missing.",
                hint="Two files belong together, NAME.safetensors and NAME.json.",
            ) from error
        except ValueError as error:
            raise DamagedEntryError(f"The description beside {path.name} cannot be read: {error}") from error
        if not isinstance(record, Mapping) or record.get("format") != _FORMAT:
            raise DamagedEntryError(f"The description beside {path.name} is not one of edits.")
        if record.get("version", 0) > _VERSION:
            raise StoreError(f"{path.name} was written by a newer version of the workbench.", hint="Update it.")
        if record.get("check") != hashlib.blake2b(content, digest_size=16).hexdigest():
            raise DamagedEntryError(f"{path.name} and its description do not belong together, or one is damaged.")
        try:
            arrays = load(content)
            return cls.from_arrays(arrays, record)
        except (SafetensorError, KeyError, TypeError) as error:
            raise DamagedEntryError(f"{path.name} lacks what its description names: {error}") from error

    def __repr__(self) -> str:
        return f"<{len(self)} edits{f' of {self.model[:40]}' if self.model else ''}: {self.title or 'untitled'}>"


def _read(described: Iterable[Mapping[str, Any]], arrays: Mapping[str, Any]) -> Iterable[Edit]:
    for i, one in enumerate(described):
        own = {name: np.asarray(arrays[f"{i}|{name}"]) for name in one["shapes"]}
        for name, shape in one["shapes"].items():
            if list(own[name].shape) != shape:
                raise DamagedEntryError(f'An array "{name}" has the shape {own[name].shape}, not {tuple(shape)}.')
        yield Edit(
            one["operation"], one["where"], tuple(one["components"]), one["value"], own.pop("array", None), own,
            dict(one["options"]),
        )  # fmt: skip


def _named(path: str | Path) -> Path:
    path = Path(path)
    return path if path.suffix == ".safetensors" else path.with_name(path.name + ".safetensors")


def _write(path: Path, content: bytes) -> None:
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        partial.write_bytes(content)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
