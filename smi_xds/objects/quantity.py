"""Kubernetes quantities: `500m`, `1Ki`, `0.5`, `12e3`, read exactly as the API server reads them.

The grammar is that of apimachinery's resource.Quantity; only weights of split.smi-spec.io/v1alpha1
are written so.
"""

import re
from collections.abc import Sequence
from decimal import ROUND_UP, Context, Decimal

_GRAMMAR = re.compile(
    r"(?P<number>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+))"
    r"(?:(?P<binary>[KMGTPE]i)|[eE](?P<exponent>[+-]?[0-9]{1,9})|(?P<decimal>[numkMGTPE]))?"
)
_DECIMAL = {"n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}

# "No quantity may represent a number greater than 2^63-1 in magnitude": what is larger is capped,
# what is finer than a nano-unit is rounded away from zero, so that something stays something.
_MOST = Decimal(2**63 - 1)
_FINEST = Decimal("1e-9")
# Longer texts than any sensible quantity only cost time.
_LONGEST = 100
# Digits before and behind the point of the longest text, times 2^60: nothing is rounded too early.
_EXACT = Context(prec=_LONGEST + 40)


def parse_quantity(text: str) -> Decimal | None:
    """The exact value of a quantity, or None where it is none."""
    if len(text) > _LONGEST or not (match := _GRAMMAR.fullmatch(text)):
        return None
    if binary := match["binary"]:
        factor = Decimal(1 << _BINARY[binary])
        return _bounded(_EXACT.multiply(Decimal(match["number"]), factor))
    exponent = match["exponent"] or _DECIMAL.get(match["decimal"] or "", 0)
    return _bounded(Decimal(f"{match['number']}e{exponent}"))


def _bounded(value: Decimal) -> Decimal:
    if not value:
        return Decimal(0)
    # Judged by the order of magnitude first: 1e999999999 must never be written out.
    if value.adjusted() > _MOST.adjusted() or abs(value) > _MOST:
        return _MOST.copy_sign(value)
    if value.adjusted() < _FINEST.adjusted():
        return _FINEST.copy_sign(value)
    rounded = value.quantize(_FINEST, rounding=ROUND_UP, context=_EXACT)
    return value if rounded == value else rounded


def format_quantity(value: Decimal) -> str:
    """A value as text: plain where it is whole, else in the largest unit in which it is."""
    value = _bounded(value)
    for suffix, digits in (("", 0), ("m", 3), ("u", 6)):
        scaled = value.scaleb(digits, _EXACT)
        if scaled == scaled.to_integral_value():
            return f"{int(scaled)}{suffix}"
    return f"{int(value.scaleb(9, _EXACT))}n"


def whole_numbers(values: Sequence[Decimal]) -> tuple[int, ...]:
    """The values where all are whole, else in the largest unit (milli, micro, …) in which they are.

    What would not fit 64 bits then is made smaller in proportion; nothing but 0 becomes 0.
    """
    digits = max((-int(_reduced(value).as_tuple().exponent) for value in values), default=0)
    scale = max(0, -(-digits // 3) * 3)
    scaled = [value.scaleb(scale, _EXACT) for value in values]
    digits = max((value.adjusted() for value in scaled if value), default=0)
    if digits > _MOST.adjusted() or any(abs(value) > _MOST for value in scaled):
        scaled = [value.scaleb(_MOST.adjusted() - 1 - digits, _EXACT) for value in scaled]
    return tuple(int(value.to_integral_value(ROUND_UP)) for value in scaled)


def _reduced(value: Decimal) -> Decimal:
    return value.normalize(_EXACT) if value else Decimal(0)
