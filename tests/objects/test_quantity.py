"""Quantities are read as apimachinery reads them."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from smi_xds.objects.quantity import format_quantity, parse_quantity, whole_numbers

MOST = 2**63 - 1


@pytest.mark.parametrize(
    "text, value",
    [
        ("0", "0"),
        ("1", "1"),
        ("+1", "1"),
        ("-1.5", "-1.5"),
        ("500m", "0.5"),
        ("0.5", "0.5"),
        (".5", "0.5"),
        ("5.", "5"),
        ("5.k", "5000"),
        ("007", "7"),
        ("10u", "0.00001"),
        ("3n", "3e-9"),
        ("1k", "1000"),
        ("2M", "2e6"),
        ("2G", "2e9"),
        ("2T", "2e12"),
        ("2P", "2e15"),
        ("2E", "2e18"),
        ("1Ki", "1024"),
        ("1.5Ki", "1536"),
        ("1Mi", str(2**20)),
        ("1Gi", str(2**30)),
        ("1Ti", str(2**40)),
        ("1Pi", str(2**50)),
        ("1Ei", str(2**60)),
        ("12e3", "12000"),
        ("12E3", "12000"),
        ("12E+3", "12000"),
        ("12e-3", "0.012"),
    ],
)
def test_every_form_of_the_grammar(text: str, value: str) -> None:
    """Signs, fractions, decimal and binary units and exponents mean what they mean to kubectl."""
    assert parse_quantity(text) == Decimal(value)


NONE = [
    "",
    "m",
    "1K",
    "1ki",
    "1 k",
    " 1",
    "1e",
    "1e+",
    "e3",
    "Ki",
    "1.2.3",
    "--1",
    "0x10",
    "1kk",
    "1,5",
    "1e9999999999",
    "NaN",
    "Infinity",
    "\u0661",
    "1_0",
]


@pytest.mark.parametrize("text", [*NONE, "1" * 101])
def test_what_is_none(text: str) -> None:
    """What apimachinery refuses is no quantity, nor is what only Python takes for a number."""
    assert parse_quantity(text) is None


@pytest.mark.parametrize(
    "text, value",
    [
        ("1e19", MOST),
        ("-1e19", -MOST),
        ("8Ei", MOST),
        ("9223372036854775807", MOST),
        ("9223372036854775808", MOST),
        ("1e999999999", MOST),
        ("0.1n", "1e-9"),
        ("-0.1n", "-1e-9"),
        ("1.5n", "2e-9"),
        ("1e-999999999", "1e-9"),
        ("0e999999999", 0),
    ],
)
def test_bounds(text: str, value: str | int) -> None:
    """Too large is capped, too fine is rounded away from zero, and neither costs memory."""
    assert parse_quantity(text) == Decimal(value)


@given(st.integers(-(10**12), 10**12), st.sampled_from("numkMGT"))
def test_units_are_powers_of_ten(number: int, unit: str) -> None:
    """A unit is the same as its exponent."""
    power = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12}[unit]

    assert parse_quantity(f"{number}{unit}") == parse_quantity(f"{number}e{power}")


@given(st.text(max_size=12))
def test_any_text(text: str) -> None:
    """Any text is a finite value or none."""
    value = parse_quantity(text)

    assert value is None or value.is_finite()


@pytest.mark.parametrize(
    "value, text",
    [
        ("0", "0"),
        ("100", "100"),
        ("1e3", "1000"),
        ("-5", "-5"),
        ("0.5", "500m"),
        ("1.5", "1500m"),
        ("0.00001", "10u"),
        ("3e-9", "3n"),
        ("1e-12", "1n"),
        ("1e30", str(MOST)),
    ],
)
def test_values_as_text(value: str, text: str) -> None:
    """Whole values are written without a unit, others in the largest one that suffices."""
    assert format_quantity(Decimal(value)) == text


@given(st.decimals(-(10**9), 10**9, places=9))
def test_what_is_written_is_read(value: Decimal) -> None:
    """Text made of a value is that value."""
    assert parse_quantity(format_quantity(value)) == value


@pytest.mark.parametrize(
    "values, numbers",
    [
        ([], ()),
        (["0"], (0,)),
        (["0", "100"], (0, 100)),
        (["1e3", "1e0"], (1000, 1)),
        (["0.5", "1"], (500, 1000)),
        (["0.05", "0.05"], (50, 50)),
        (["1e-9", "-1"], (1, -(10**9))),
        (["1e30", "1"], (10**17, 1)),
        (["9e18", "1e-9", "0"], (9 * 10**17, 1, 0)),
        ([str(MOST), "1"], (MOST, 1)),
        ([str(MOST + 1), "1"], (MOST // 10 + 1, 1)),
    ],
)
def test_whole_numbers(values: list[str], numbers: tuple[int, ...]) -> None:
    """Proportions stay, and no share that is something becomes nothing."""
    assert whole_numbers([Decimal(value) for value in values]) == numbers
