import pytest

from smi_xds.xds import wire

RANGES = {
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "enum": (-(2**31), 2**31 - 1),
    "sint32": (-(2**31), 2**31 - 1),
    "sint64": (-(2**63), 2**63 - 1),
}


@pytest.mark.parametrize("kind", RANGES)
def test_numbers_are_guarded_at_both_ends(kind: str) -> None:
    """The first and last number of a type are encoded, and those beyond are refused."""
    low, high = RANGES[kind]
    encode = wire.SCALARS[kind]

    assert encode(low)
    assert encode(high)
    for beyond in (low - 1, high + 1):
        with pytest.raises(ValueError, match=f"{beyond} is out of range for "):
            encode(beyond)


@pytest.mark.parametrize(
    "value, encoded",
    [
        (0, "00"),
        (127, "7f"),
        (128, "8001"),
        (16_383, "ff7f"),
        (16_384, "808001"),
        (2**64 - 1, "ffffffffffffffffff01"),
    ],
)
def test_varints(value: int, encoded: str) -> None:
    """Seven bits a byte, lowest first, the top bit set on all but the last."""
    assert wire.varint(value).hex() == encoded


@pytest.mark.parametrize(
    "value, encoded", [(0, 0), (-1, 1), (1, 2), (-2, 3), (2**31 - 1, 2**32 - 2)]
)
def test_zigzag(value: int, encoded: int) -> None:
    """Signed types count 0, -1, 1, -2 ... so that small negative numbers stay short."""
    assert wire.sint32(value) == wire.sint64(value) == wire.varint(encoded)


@pytest.mark.parametrize("kind, value", [("bool", 1), ("bytes", "text"), ("string", 5)])
def test_values_of_another_type_are_refused(kind: str, value: object) -> None:
    """Nothing is converted on the way."""
    with pytest.raises((TypeError, AttributeError)):
        wire.SCALARS[kind](value)
