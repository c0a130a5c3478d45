"""Addresses and fingerprints."""

import pytest

from workbench.core.errors import BadValueError, UnknownComponentError
from workbench.core.ids import ComponentId, Fingerprint


def test_an_address_reads_back_as_it_is_written():
    address = ComponentId("layer3.1.conv2", "unit", 17)
    assert str(address) == "layer3.1.conv2/unit/17"
    assert ComponentId.parse(str(address)) == address
    assert ComponentId.parse(address) is address


def test_the_basis_may_be_left_out():
    assert ComponentId.parse("bn2/3") == ComponentId("bn2", "unit", 3)


@pytest.mark.parametrize(
    "text", ["", "bn2", "bn2/unit/", "bn2/unit/x", "/unit/3", "a/b/c/3", "bn2/unit/-1", "bn2/unit/1.5"]
)
def test_what_is_no_address_is_refused_with_an_example(text):
    with pytest.raises(UnknownComponentError, match="layer/basis/index"):
        ComponentId.parse(text)


@pytest.mark.parametrize(
    ("layer", "basis", "index"), [("a/b", "unit", 1), ("a", "u/v", 1), ("a", "unit", -1), ("a", "unit", True)]
)
def test_parts_that_could_not_be_read_back_are_refused(layer, basis, index):
    with pytest.raises(BadValueError):
        ComponentId(layer, basis, index)


def test_addresses_sort_by_number_and_not_by_text():
    ids = [ComponentId("a", "unit", i) for i in (10, 9, 2)]
    assert [i.index for i in sorted(ids)] == [2, 9, 10]


def test_fingerprints_compare_by_digest_alone():
    a, b = Fingerprint("0123456789abcdef", "one"), Fingerprint("0123456789abcdef", "two")
    assert a == b and hash(a) == hash(b) and str(a) == "one@01234567"
    assert a != Fingerprint("1123456789abcdef", "one")
    with pytest.raises(BadValueError):
        Fingerprint("xyz")
