"""Edits in files: what comes back is what was saved, and what is damaged or foreign is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from workbench.core.edits import Edits
from workbench.core.errors import BadValueError, DamagedEntryError, StoreError
from workbench.core.results import Edit


def made():
    rng = np.random.default_rng(0)
    return Edits(
        [
            Edit("scale", "a.b", (1, 4), 0.5),
            Edit("shift", "a", array=rng.normal(size=(2, 5)).astype(np.float32),
                 arrays={"codes": rng.normal(size=2), "threshold": np.zeros(1), "detector": np.ones((1, 5))},
                 options={"at": "sample", "artifact": [0, 0], "classes": [[1, 2]]}),
            Edit("replace", "head.weight", array=rng.normal(size=(3, 5)).astype(np.float32)),
        ],
        model="net@" + "ab" * 16,
        title="a correction",
    )  # fmt: skip


def test_what_comes_back_is_what_was_saved(tmp_path):
    edits = made()
    path = edits.save(tmp_path / "deep" / "fixed")
    assert sorted(p.name for p in path.parent.iterdir()) == ["fixed.json", "fixed.safetensors"]
    for name in ("fixed", "fixed.safetensors"):
        found = Edits.load(path.parent / name)
        assert (found.model, found.title, len(found)) == (edits.model, edits.title, 3)
        assert [e.describe() for e in found] == [e.describe() for e in edits]
        assert all(a.array is None or a.array.dtype == b.array.dtype for a, b in zip(edits, found, strict=True))
    record = json.loads((path.parent / "fixed.json").read_text())
    assert record["edits"][1]["shapes"] == {"array": [2, 5], "codes": [2], "threshold": [1], "detector": [1, 5]}


def test_they_are_added_in_their_order():
    both = made() + [Edit("set", "a", (0,), 0.0)] + made()
    assert isinstance(both, Edits) and len(both) == 7 and both[3].operation == "set"
    assert both.title == "a correction; a correction" and both.model == made().model
    assert "7 edits" in repr(both)
    with pytest.raises(BadValueError, match="made of edits; got str"):
        Edits(["scale"])


def test_equal_edits_have_one_description_and_others_another():
    one, two = made(), made()
    assert [e.describe() for e in one] == [e.describe() for e in two]
    shift = one[1]
    others = [
        Edit("shift", "a", array=shift.array, arrays={**shift.arrays, "codes": np.zeros(2)}, options=shift.options),
        Edit("shift", "a", array=shift.array, arrays=shift.arrays, options={**shift.options, "at": "position"}),
        Edit("shift", "a", array=shift.array, arrays=shift.arrays),
    ]
    assert len({json.dumps(e.describe()) for e in (shift, *others)}) == 4
    assert set(one[0].describe()) == {"operation", "where", "components", "value", "array"}, "as it always was"


def test_what_is_damaged_is_refused(tmp_path):
    path = made().save(tmp_path / "fixed")
    with pytest.raises(StoreError, match=r"other\.safetensors is missing"):
        Edits.load(tmp_path / "other")
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(DamagedEntryError, match="do not belong together"):
        Edits.load(path)
    path.write_bytes(content)
    side = tmp_path / "fixed.json"
    record = json.loads(side.read_text())
    for change, error in (
        ({"format": "other"}, "not one of edits"),
        ({"version": 9}, "newer version"),
        ({"edits": [{**record["edits"][0], "shapes": {"array": [1]}}]}, "lacks what its description names"),
        ({"edits": [{**record["edits"][2], "shapes": {"array": [1]}}] * 3}, "lacks|shape"),
    ):
        side.write_text(json.dumps({**record, **change}))
        with pytest.raises(StoreError, match=error):
            Edits.load(path)
    side.write_text("{")
    with pytest.raises(DamagedEntryError, match="cannot be read"):
        Edits.load(path)
    side.unlink()
    with pytest.raises(StoreError, match=r"fixed\.json is missing"):
        Edits.load(path)
